//! Who follows whom, and how far behind; what failovers lost.

use super::{Facts, Metric, gauge, gauges, of_bool};
use crate::observability::metrics::Samples;
use crate::replication::LinkState;
use crate::replication::assignment::Part;
use crate::replication::progress::Follower;

pub const METRICS: &[Metric] = &[
    gauges(
        "larder_partitions",
        &["role"],
        "Partitions by the part this node plays for them: primary, replica, or neither.",
        |facts, samples| {
            let count =
                |is: fn(&Part) -> bool| facts.assignment.parts.iter().filter(|part| is(part)).count() as f64;
            samples.add(&["primary"], count(Part::is_primary));
            samples.add(&["replica"], count(|part| matches!(part, Part::Replica { .. })));
            samples.add(&["neither"], count(|part| matches!(part, Part::Elsewhere)));
        },
    ),
    gauge("larder_replicas_wanted", "How many replicas the data is to have.", |facts| {
        f64::from(facts.assignment.copies.saturating_sub(1))
    }),
    gauge("larder_connected_replicas", "Replicas that follow this node.", |facts| {
        facts.followers.len() as f64
    }),
    gauges(
        "larder_replica_lag_bytes",
        &["replica"],
        "Journal bytes that a replica of this node has not confirmed.",
        |facts, samples| {
            of_followers(facts, samples, |follower| {
                facts.store.journal_position.saturating_sub(follower.journaled) as f64
            });
        },
    ),
    gauges(
        "larder_replica_silent_seconds",
        &["replica"],
        "For how long nothing was heard of a replica of this node.",
        |facts, samples| {
            let now_ms = facts.service.replication.now_ms();
            of_followers(facts, samples, |follower| now_ms.saturating_sub(follower.heard_ms) as f64 / 1e3);
        },
    ),
    gauges(
        "larder_replica_partitions_in_step",
        &["replica"],
        "Partitions that a replica of this node has all records of, so that it counts for them.",
        |facts, samples| {
            of_followers(facts, samples, |follower| follower.in_step.len() as f64);
        },
    ),
    gauges(
        "larder_replication_link_up",
        &[],
        "On a replica: whether changes of the primary arrive as they are made.",
        |facts, samples| {
            of_replica(facts, samples, |facts| of_bool(facts.upstream.state == LinkState::Up));
        },
    ),
    gauges(
        "larder_replication_lag_seconds",
        &[],
        "On a replica: for how long, at most, changes of the primary may be missing here.",
        |facts, samples| {
            of_replica(facts, samples, |facts| {
                facts.upstream.stale_ms(facts.service.replication.now_ms()) as f64 / 1e3
            });
        },
    ),
    gauges(
        "larder_replication_lag_bytes",
        &[],
        "On a replica: journal bytes of the primary that are missing here, as far as it has told.",
        |facts, samples| {
            of_replica(facts, samples, |facts| {
                facts.upstream.primary_position.saturating_sub(facts.upstream.position) as f64
            });
        },
    ),
    gauges(
        "larder_replication_snapshot_bytes",
        &[],
        "On a replica: the size of the snapshots that it receives now; 0 if it receives none.",
        |facts, samples| {
            of_replica(facts, samples, |facts| facts.upstream.snapshot_bytes.1 as f64);
        },
    ),
    gauges(
        "larder_replication_snapshot_received_bytes",
        &[],
        "On a replica: how much of these is here.",
        |facts, samples| {
            of_replica(facts, samples, |facts| facts.upstream.snapshot_bytes.0 as f64);
        },
    ),
    gauge(
        "larder_lost_transactions",
        "Transactions that failovers took from this node and that lie in files of its data folder.",
        |facts| facts.service.replication.lost().transactions() as f64,
    ),
    gauge("larder_lost_files", "How many of these files there are.", |facts| {
        facts.service.replication.lost().files() as f64
    }),
];

/// Of every replica of this node. One that comes back may have two links for a moment: the newer counts.
fn of_followers(facts: &Facts, samples: &mut Samples, read: impl Fn(&Follower) -> f64) {
    for (number, (_, follower)) in facts.followers.iter().enumerate() {
        let is_newest =
            facts.followers[number + 1..].iter().all(|(_, other)| other.address != follower.address);
        if is_newest {
            let (host, port) = &follower.address;
            samples.add(&[&format!("{host}:{port}")], read(follower));
        }
    }
}

/// Only if this node follows another one.
fn of_replica(facts: &Facts, samples: &mut Samples, read: fn(&Facts) -> f64) {
    if facts.assignment.followed().is_some() {
        samples.add(&[], read(facts));
    }
}
