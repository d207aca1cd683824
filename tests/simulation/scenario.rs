//! What a seed stands for: how many nodes, how they are set up, which faults come and how often.

use crate::client::ClientSettings;
use crate::data::DataSettings;
use crate::node::NodeSettings;
use crate::plant::Plant;
use larder::base::concern::WriteConcern;
use larder::replication::{Sizes, Timing};
use rand::prelude::*;
use std::time::Duration;

/// The most values that a command has.
const PAIRS: usize = 20;
/// What is around them in a record.
const RECORD_OVERHEAD_BYTES: usize = 4096;

/// See the module.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it was drawn from.
    pub seed: u64,
    /// Number of nodes.
    pub nodes: usize,
    /// How each is set up.
    pub node: NodeSettings,
    /// Promotions are such that what a majority has acknowledged survives; else any replica may be promoted.
    pub is_safe: bool,
    /// Partitions have their primaries on different nodes.
    pub is_spread: bool,
    /// Replicas follow replicas.
    pub has_chains: bool,
    /// The power may go, and take what was not synced.
    pub has_power_losses: bool,
    /// How long faults come, in milliseconds.
    pub faults_ms: u64,
    /// The longest pause between two faults.
    pub fault_gap_ms: u64,
    /// The longest way of a message.
    pub latency_ms: u64,
    /// How likely a message breaks the link between two nodes.
    pub loss: f64,
    /// Segments that fit into a connection.
    pub tcp_capacity: usize,
    /// What is planted.
    pub plant: Plant,
}

impl Scenario {
    /// The one of a seed.
    pub fn of(seed: u64, plant: Plant) -> Scenario {
        let random = &mut StdRng::seed_from_u64(seed);
        let is_safe = plant_needs_safety(plant).unwrap_or_else(|| random.random_bool(0.5));
        let syncs_at_once = random.random_bool(0.4);
        let timeout_ms = random.random_range(600..2000);
        let sizes = Sizes {
            window: *[2_000, 20_000, 200_000].choose(random).expect("there are some"),
            batch: *[500, 4_000, 64_000].choose(random).expect("there are some"),
            chunk: *[300, 2_000, 20_000].choose(random).expect("there are some"),
        };
        let concerns = match (is_safe, random.random_range(0..3)) {
            (true, 0) => [WriteConcern::Majority; 4],
            (true, _) => {
                [WriteConcern::Majority, WriteConcern::Majority, WriteConcern::All, WriteConcern::One]
            }
            (false, 0) => [WriteConcern::Local; 4],
            (false, _) => {
                [WriteConcern::Local, WriteConcern::Local, WriteConcern::One, WriteConcern::Majority]
            }
        };
        let node = NodeSettings {
            data: DataSettings {
                partitions: random.random_range(1..5),
                syncs_at_once,
                kept_bytes: *[1_500, 10_000, 100_000, 10_000_000].choose(random).expect("there are some"),
                work_ms: *[0, 5, 100].choose(random).expect("there are some"),
                plant,
            },
            timing: Timing {
                heartbeat: Duration::from_millis(timeout_ms / 12),
                timeout: Duration::from_millis(timeout_ms),
                retry: Duration::from_millis(random.random_range(5..60)),
            },
            sizes,
            snapshots: (
                Duration::from_millis(random.random_range(400..6000)),
                Duration::from_millis(random.random_range(0..1000)),
            ),
            sync_gap: Duration::from_millis(random.random_range(5..400)),
            clients: ClientSettings {
                count: random.random_range(1..4),
                pause_ms: *[5, 40].choose(random).expect("there are some"),
                value_bytes: *[20, 100, 1000].choose(random).expect("there are some"),
                concerns,
            },
        };
        Scenario {
            seed,
            nodes: *[2, 3, 3, 3, 4, 5].choose(random).expect("there are some"),
            node,
            is_safe,
            is_spread: random.random_bool(0.3),
            has_chains: random.random_bool(0.25),
            has_power_losses: if is_safe { syncs_at_once } else { random.random_bool(0.7) },
            faults_ms: random.random_range(2_000..9_000),
            fault_gap_ms: *[300, 1000, 3000].choose(random).expect("there are some"),
            latency_ms: *[2, 20, 150].choose(random).expect("there are some"),
            loss: *[0.0, 0.0, 0.0005].choose(random).expect("there are some"),
            tcp_capacity: *[64, 1024].choose(random).expect("there are some"),
            plant,
        }
    }

    /// The longest record of its clients.
    pub fn record_bytes(&self) -> usize {
        3 * (PAIRS * self.node.clients.value_bytes + RECORD_OVERHEAD_BYTES)
    }
}

/// Some bugs show with one kind of promotion only.
fn plant_needs_safety(plant: Plant) -> Option<bool> {
    match plant {
        Plant::PromotesAnybody | Plant::AcknowledgesBeforeJournaling => Some(true),
        Plant::ForgetsToReport => Some(false),
        _ => None,
    }
}
