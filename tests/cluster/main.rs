//! Clusters of real processes on a network that is cut and healed, killed, paused, out of room, moved: what was acknowledged stays, and nobody
//! acknowledges who has a successor.
//!
//! Each node, and the clients, have a network namespace of their own (`lab.rs`), so these tests take root, `ip` and `nft`; without them they
//! fail. They run one at a time. Clients write down what they saw (`workload.rs`); with `write-concern majority` their histories must be
//! linearizable (`tests/support/linearizable`), with `local` what is missing must stand in `lost/`.
//!
//! `LARDER_ROUNDS=N` has many more rounds, `LARDER_SEED=N` repeats the choices, which the operating system's timing is no part of.

#[path = "../support/linearizable/mod.rs"]
mod linearizable;
#[path = "../support/mod.rs"]
mod support;

mod finder;
mod fleet;
mod lab;
mod workload;

mod cuts;
mod disks;
mod five;
mod kills;
mod leaving;
mod libraries;
mod pauses;
mod pubsub;
mod redis_rs;
mod restarts;
mod spread;

/// Rounds of a test: a few, or `LARDER_ROUNDS`.
fn rounds(by_default: u64) -> u64 {
    std::env::var("LARDER_ROUNDS").map_or(by_default, |text| text.parse().expect("LARDER_ROUNDS is a number"))
}
