//! Clocks of nodes: each begins anywhere and runs at a pace of its own.

use std::time::Duration;

/// What is added to or taken from a million at most: less than the margin of leases.
pub const DRIFT_MAX: i64 = 20_000;

/// A clock that only grows.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// What it showed when the world began.
    pub begin: Duration,
    /// How many millionths it is too fast.
    pub drift: i64,
}

impl Clock {
    /// What it shows when this much time has gone by since the world began.
    pub fn at(self, elapsed: Duration) -> Duration {
        let elapsed_us = elapsed.as_micros() as i64;
        self.begin + Duration::from_micros((elapsed_us + elapsed_us / 1000 * self.drift / 1000) as u64)
    }

    /// What it shows now, inside a node.
    pub fn now(self) -> Duration {
        self.at(turmoil::sim_elapsed().expect("inside the world"))
    }
}
