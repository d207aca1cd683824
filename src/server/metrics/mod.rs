//! Every metric, declared once: name, kind, labels, what it is, and how it is read. What Prometheus gets and
//! `docs/operating/metrics.md` derive from these tables.
//!
//! Adding one is a row. Reading order: `process`, `clients`, `commands`, `keyspace`, `disk`, `replication`, `cluster`.
//!
//! Invariants:
//! - counters are those since the start of the process, whatever CONFIG RESETSTAT does, but for errors by kind and histograms of
//!   commands, which it empties;
//! - a metric that has no meaning where it is read (of a cluster, on a server that is in none) has no sample there.

mod clients;
mod cluster;
mod commands;
mod disk;
mod keyspace;
mod process;
mod replication;

use crate::cluster::consensus::Leading;
use crate::cluster::map::ClusterMap;
use crate::cluster::membership::View;
use crate::cluster::node::Node;
use crate::config::Settings;
use crate::observability::metrics::{self, Family, Kind, Samples};
use crate::observability::statistics::Counter;
use crate::replication::Upstream;
use crate::replication::assignment::Assignment;
use crate::replication::progress::{Follower, LinkId};
use crate::session::service::Service;
use crate::store::{CountedDurations, Refusal, StoreStatus};
use std::sync::Arc;

/// What a scrape reads, gathered once.
pub struct Facts {
    service: Arc<Service>,
    settings: Arc<Settings>,
    store: StoreStatus,
    refusal: Option<Refusal>,
    assignment: Assignment,
    upstream: Upstream,
    followers: Vec<(LinkId, Follower)>,
    cluster: Option<ClusterFacts>,
    is_ready: bool,
}

/// The same of a cluster.
struct ClusterFacts {
    node: Arc<Node>,
    map: Arc<ClusterMap>,
    view: Arc<View>,
    leading: Leading,
}

impl Facts {
    /// As of now. Whether clients are served has been found out elsewhere.
    pub fn of(service: &Arc<Service>, is_ready: bool) -> Facts {
        let replication = &service.replication;
        let cluster = service.cluster.get().map(|node| ClusterFacts {
            node: Arc::clone(node),
            map: node.map(),
            view: node.view(),
            leading: *node.control().leading().borrow(),
        });
        Facts {
            settings: service.parameters.snapshot(),
            store: service.store.status(),
            refusal: service.store.refusal(),
            assignment: replication.assignment(),
            upstream: replication.upstream(),
            followers: replication.followers(),
            cluster,
            is_ready,
            service: Arc::clone(service),
        }
    }

    fn counted(&self, counter: Counter) -> f64 {
        self.service.statistics.since_start(counter) as f64
    }
}

/// How a metric's samples are read.
#[derive(Clone, Copy)]
enum Read {
    /// There is one.
    One(fn(&Facts) -> f64),
    /// There are as many as there are.
    Many(fn(&Facts, &mut Samples)),
}

/// A row of the tables.
#[derive(Clone, Copy)]
pub struct Metric {
    /// What others may know of it.
    pub family: Family,
    read: Read,
}

const fn metric(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
    read: Read,
) -> Metric {
    Metric { family: Family { name, kind, labels, help }, read }
}

const fn gauge(name: &'static str, help: &'static str, read: fn(&Facts) -> f64) -> Metric {
    metric(name, Kind::Gauge, &[], help, Read::One(read))
}

const fn counter(name: &'static str, help: &'static str, read: fn(&Facts) -> f64) -> Metric {
    metric(name, Kind::Counter, &[], help, Read::One(read))
}

/// Of which there is a sample for each of several things, or none at all.
const fn gauges(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&Facts, &mut Samples),
) -> Metric {
    metric(name, Kind::Gauge, labels, help, Read::Many(read))
}

const fn counters(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&Facts, &mut Samples),
) -> Metric {
    metric(name, Kind::Counter, labels, help, Read::Many(read))
}

const fn histogram(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&Facts, &mut Samples),
) -> Metric {
    metric(name, Kind::Histogram, labels, help, Read::Many(read))
}

/// Metrics that belong together.
pub struct Group {
    /// What they are about.
    pub title: &'static str,
    /// All of them.
    pub metrics: &'static [Metric],
}

/// All of them.
pub const GROUPS: &[Group] = &[
    Group { title: "Process", metrics: process::METRICS },
    Group { title: "Clients", metrics: clients::METRICS },
    Group { title: "Commands", metrics: commands::METRICS },
    Group { title: "Keyspace and memory", metrics: keyspace::METRICS },
    Group { title: "Journal, checkpoints, disk", metrics: disk::METRICS },
    Group { title: "Replication", metrics: replication::METRICS },
    Group { title: "Cluster", metrics: cluster::METRICS },
];

/// What Prometheus gets.
pub fn page(facts: &Facts) -> String {
    let all = GROUPS.iter().flat_map(|group| group.metrics);
    metrics::text(all.map(|metric| {
        let mut samples = Samples::of(metric.family);
        match metric.read {
            Read::One(read) => samples.add(&[], read(facts)),
            Read::Many(read) => read(facts, &mut samples),
        }
        samples
    }))
}

/// Adds what the store has counted.
fn add_durations(samples: &mut Samples, durations: &CountedDurations) {
    const US: f64 = 1e6;
    let up_to = durations.up_to.iter().map(|(bound_us, count)| (*bound_us as f64 / US, *count));
    samples.add_histogram(&[], up_to, durations.count, durations.total_us as f64 / US);
}

fn of_bool(is: bool) -> f64 {
    f64::from(u8::from(is))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_follow_the_rules_and_are_unique() {
        let mut seen = HashSet::new();
        for Metric { family, .. } in GROUPS.iter().flat_map(|group| group.metrics) {
            let name = family.name;
            assert!(seen.insert(name), "{name} stands twice");
            assert!(name.starts_with("larder_") || name.starts_with("process_"), "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), family.kind == Kind::Counter, "{name}");
            for end in ["_milliseconds", "_ms", "_kilobytes", "_count", "_sum", "_bucket"] {
                assert!(!name.ends_with(end), "{name} ends with {end}");
            }
            assert!(
                family.help.ends_with('.') && !family.help.contains(['|', '\n']),
                "{name}: {}",
                family.help
            );
            assert!(!family.labels.contains(&"le"), "{name}");
        }
    }
}
