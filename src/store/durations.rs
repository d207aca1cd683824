//! `Durations`: how long something took that happens some times a second at most, counted by fixed bounds.

use crate::base::clock::unix_ms;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// The bounds, in microseconds: from what a disk with a cache needs to what a disk needs that is about to fail.
pub const BOUNDS_US: [u64; 11] =
    [100, 500, 1_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000, 30_000_000];

/// Counts, written by any thread.
#[derive(Debug, Default)]
pub(super) struct Durations {
    /// For each bound what is longer than the bound before and not longer than this one.
    within: [AtomicU64; BOUNDS_US.len()],
    longer: AtomicU64,
    total_us: AtomicU64,
    last_s: AtomicI64,
}

impl Durations {
    /// Counts one that has just ended.
    pub(super) fn note(&self, took: Duration) {
        let took_us = took.as_micros() as u64;
        let bound = BOUNDS_US.iter().position(|bound| took_us <= *bound);
        let count = bound.map_or(&self.longer, |bound| &self.within[bound]);
        count.fetch_add(1, Ordering::Relaxed);
        self.total_us.fetch_add(took_us, Ordering::Relaxed);
        self.last_s.store(unix_ms() / 1000, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub(super) fn counted(&self) -> CountedDurations {
        let mut count = 0;
        let up_to = BOUNDS_US.iter().zip(&self.within).map(|(bound, within)| {
            count += within.load(Ordering::Relaxed);
            (*bound, count)
        });
        let up_to = up_to.collect();
        count += self.longer.load(Ordering::Relaxed);
        CountedDurations {
            up_to,
            count,
            total_us: self.total_us.load(Ordering::Relaxed),
            last_s: self.last_s.load(Ordering::Relaxed),
        }
    }
}

/// How often something happened since the start, and how long it took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountedDurations {
    /// Bounds in microseconds, with how many did not take longer.
    pub up_to: Vec<(u64, u64)>,
    /// How many there were in all.
    pub count: u64,
    /// What they took together, microseconds.
    pub total_us: u64,
    /// When the last one ended, seconds since 1970; 0 if there was none.
    pub last_s: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_up_to_its_bound_and_beyond() {
        let durations = Durations::default();
        for us in [0, 100, 101, 7_000, 60_000_000] {
            durations.note(Duration::from_micros(us));
        }
        let counted = durations.counted();
        assert_eq!(counted.up_to[..5], [(100, 2), (500, 3), (1_000, 3), (5_000, 3), (10_000, 4)]);
        assert_eq!(counted.up_to.last(), Some(&(30_000_000, 4)));
        assert_eq!((counted.count, counted.total_us), (5, 60_007_201));
        assert!(counted.last_s > 0);
    }
}
