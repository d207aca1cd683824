//! What a seed stands for: how many nodes, how they are set up, which faults come and how often.

use crate::cluster::clocks::{Clock, DRIFT_MAX};
use crate::data::DataSettings;
use crate::plant;
use larder::base::concern::WriteConcern;
use larder::cluster::map::Shape;
use larder::replication::{Sizes, Timing};
use rand::prelude::*;
use std::time::Duration;

/// What is wrong on purpose, to show that an invariant would see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plant {
    /// Nothing.
    #[default]
    None,
    /// A leader gives leases without asking whether it leads.
    GrantsUnconfirmed,
    /// A primary does not look at its lease.
    IgnoresTheLease,
    /// A read does not wait for what it saw to be acknowledged.
    ReadsEarly,
    /// A node is cut off for ever.
    StaysCut,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it was drawn from.
    pub seed: u64,
    /// Number of nodes. Each has a copy of everything.
    pub nodes: usize,
    /// How primaries are spread.
    pub shape: Shape,
    /// Of the data.
    pub data: DataSettings,
    /// Times of links.
    pub timing: Timing,
    /// Sizes of what is sent.
    pub sizes: Sizes,
    /// How long snapshots are kept, and shared.
    pub snapshots: (Duration, Duration),
    /// How often the journal is synced.
    pub sync_gap: Duration,
    /// By node.
    pub clocks: Vec<Clock>,
    /// The longest time of a write of the control plane, in milliseconds.
    pub shelf_ms: u64,
    /// The longest time until a map is in force, in milliseconds.
    pub force_ms: u64,
    /// Of all writes.
    pub concern: WriteConcern,
    /// Clients of each node.
    pub clients: u64,
    /// The longest pause of a client, in milliseconds.
    pub client_ms: u64,
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
    /// What is planted.
    pub plant: Plant,
}

impl Scenario {
    /// The one of a seed.
    pub fn of(seed: u64, plant: Plant) -> Scenario {
        let random = &mut StdRng::seed_from_u64(seed);
        let nodes = *[3, 3, 3, 5].choose(random).expect("there are some");
        let concern = if random.random_bool(0.75) { WriteConcern::Majority } else { WriteConcern::Local };
        let syncs_at_once = random.random_bool(0.4);
        let timeout_ms = random.random_range(400..1500);
        let clock = |_| Clock {
            begin: Duration::from_millis(random.random_range(1_000..10_000_000)),
            drift: random.random_range(-DRIFT_MAX..=DRIFT_MAX),
        };
        let drawn = Scenario {
            seed,
            nodes,
            clocks: (0..nodes).map(clock).collect(),
            shape: *[Shape::Together, Shape::Spread].choose(random).expect("there are two"),
            data: DataSettings {
                partitions: random.random_range(1..5),
                syncs_at_once,
                kept_bytes: *[3_000, 100_000, 10_000_000].choose(random).expect("there are some"),
                work_ms: *[0, 5, 50].choose(random).expect("there are some"),
                plant: plant::Plant::None,
            },
            timing: Timing {
                heartbeat: Duration::from_millis(timeout_ms / 12),
                timeout: Duration::from_millis(timeout_ms),
                retry: Duration::from_millis(random.random_range(5..60)),
            },
            sizes: Sizes {
                window: *[20_000, 200_000].choose(random).expect("there are some"),
                batch: *[500, 64_000].choose(random).expect("there are some"),
                chunk: *[300, 20_000].choose(random).expect("there are some"),
            },
            snapshots: (
                Duration::from_millis(random.random_range(400..6000)),
                Duration::from_millis(random.random_range(0..1000)),
            ),
            sync_gap: Duration::from_millis(random.random_range(5..400)),
            shelf_ms: *[1, 4, 10].choose(random).expect("there are some"),
            force_ms: *[1, 20, 100].choose(random).expect("there are some"),
            concern,
            clients: random.random_range(1..4),
            client_ms: *[10, 40].choose(random).expect("there are some"),
            has_power_losses: if concern == WriteConcern::Local {
                random.random_bool(0.7)
            } else {
                syncs_at_once
            },
            faults_ms: random.random_range(3_000..10_000),
            fault_gap_ms: *[500, 1500, 3000].choose(random).expect("there are some"),
            latency_ms: *[2, 2, 8, 20].choose(random).expect("there are some"),
            loss: *[0.0, 0.0, 0.0005].choose(random).expect("there are some"),
            plant,
        };
        match plant {
            // What is seen is a write that was read and is not there any more: there must be many of both in flight when a primary is cut off.
            Plant::ReadsEarly => Scenario {
                concern: WriteConcern::Majority,
                clients: 16,
                client_ms: 3,
                faults_ms: 10_000,
                fault_gap_ms: 500,
                ..drawn
            },
            _ => drawn,
        }
    }
}
