//! The cluster as this node sees it. A server that is in none has no samples.

use super::{ClusterFacts, Facts, Metric, counters, gauge, gauges, of_bool};
use crate::base::clock;
use crate::cluster::map::Reason;
use crate::observability::metrics::Samples;
use crate::observability::statistics::Counter;

pub const METRICS: &[Metric] = &[
    gauges(
        "larder_cluster_nodes",
        &["state"],
        "Nodes of the cluster: heard lately, or not.",
        |facts, samples| {
            let Some(cluster) = &facts.cluster else { return };
            let live = cluster.map.nodes.keys().filter(|node| cluster.view.live.contains_key(node)).count();
            samples.add(&["live"], live as f64);
            samples.add(&["missing"], (cluster.map.nodes.len() - live) as f64);
        },
    ),
    gauges(
        "larder_cluster_leader_known",
        &[],
        "Whether this node knows who leads the control plane.",
        |facts, samples| {
            of_cluster(facts, samples, |cluster| of_bool(cluster.leading.leader.is_some()));
        },
    ),
    gauges("larder_cluster_leads", &[], "Whether this node leads the control plane.", |facts, samples| {
        of_cluster(facts, samples, |cluster| of_bool(cluster.leading.is_me));
    }),
    gauges(
        "larder_cluster_lease_seconds",
        &[],
        "For how long this node may answer without asking again; 0 is not now.",
        |facts, samples| {
            of_cluster(facts, samples, |cluster| {
                let until = cluster.node.lease().until().unwrap_or_default();
                until.saturating_sub(clock::since_boot()).as_secs_f64()
            });
        },
    ),
    gauges("larder_cluster_voters", &[], "Nodes that decide who is primary.", |facts, samples| {
        of_cluster(facts, samples, |cluster| cluster.node.control().voters().0.len() as f64);
    }),
    gauges(
        "larder_cluster_partitions_without_primary",
        &[],
        "Partitions that have no primary, as this node knows.",
        |facts, samples| {
            of_cluster(facts, samples, |cluster| {
                cluster.map.partitions.iter().filter(|place| place.primary.is_none()).count() as f64
            });
        },
    ),
    gauges(
        "larder_cluster_learners",
        &[],
        "Copies of partitions that do not count yet.",
        |facts, samples| {
            of_cluster(facts, samples, |cluster| {
                cluster.map.partitions.iter().map(|place| place.learners.len()).sum::<usize>() as f64
            });
        },
    ),
    counters(
        "larder_cluster_map_changes_total",
        &[],
        "Decisions of the cluster about who has what: the version of its map.",
        |facts, samples| {
            of_cluster(facts, samples, |cluster| cluster.map.version as f64);
        },
    ),
    counters(
        "larder_cluster_epochs_total",
        &[],
        "The sum of the epochs of all partitions: one more for each partition whose primary changed.",
        |facts, samples| {
            of_cluster(facts, samples, |cluster| {
                cluster.map.partitions.iter().map(|place| place.epoch.0).sum::<u64>() as f64
            });
        },
    ),
    gauges(
        "larder_cluster_last_failover_timestamp_seconds",
        &["reason"],
        "When a primary changed last for this reason, since 1970.",
        |facts, samples| {
            let Some(cluster) = &facts.cluster else { return };
            for reason in [Reason::Founding, Reason::LeaseEnded, Reason::Handover, Reason::Newcomer] {
                let last = cluster.map.failovers.iter().rev().find(|failover| failover.reason == reason);
                last.into_iter().for_each(|last| samples.add(&[reason.name()], last.at_ms as f64 / 1e3));
            }
        },
    ),
    gauge("larder_parked_commands", "Commands that wait for a primary.", |facts| {
        facts.service.forwarding.parked.commands() as f64
    }),
    counters(
        "larder_pubsub_passed_on_total",
        &[],
        "Messages published here that other nodes have taken, counted for each of them.",
        |facts, samples| {
            samples.add(&[], facts.counted(Counter::PubsubPassedOn));
        },
    ),
    counters(
        "larder_pubsub_dropped_total",
        &[],
        "The same of those that could not be told.",
        |facts, samples| {
            samples.add(&[], facts.counted(Counter::PubsubDropped));
        },
    ),
];

fn of_cluster(facts: &Facts, samples: &mut Samples, read: fn(&ClusterFacts) -> f64) {
    if let Some(cluster) = &facts.cluster {
        samples.add(&[], read(cluster));
    }
}
