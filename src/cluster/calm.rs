//! When primaries may be moved for balance alone: only where nothing has gone wrong for a while.
//!
//! Such a move costs a pause, an epoch and new links. On a machine that is too busy leases end although nobody is gone; primaries that are
//! moved back at once make it busier still, and a handover whose leader goes meanwhile ends a lease by itself. So disturbances that
//! follow one another make the rest after them longer, and longer.

use std::time::Duration;

/// The rest after a disturbance that comes alone.
const REST_MIN: Duration = Duration::from_secs(5);
/// The longest rest.
const REST_MAX: Duration = Duration::from_mins(5);
/// Disturbances so close to one another are one.
const TOGETHER: Duration = Duration::from_secs(1);

/// What a node remembers of disturbances. Times are of a clock that only grows.
#[derive(Debug, Default)]
pub struct Calm {
    /// When the last one was, and how long the rest after it is.
    last: Option<(Duration, Duration)>,
}

impl Calm {
    /// Something went wrong at `now`. Within twice the last rest it is taken for the same trouble again.
    pub fn disturb(&mut self, now: Duration) {
        let rest = match self.last {
            Some((at, rest)) if now.saturating_sub(at) < TOGETHER => rest,
            Some((at, rest)) if now.saturating_sub(at) < rest * 2 => (rest * 2).min(REST_MAX),
            _ => REST_MIN,
        };
        self.last = Some((now, rest));
    }

    /// Whether enough time has gone by since.
    pub fn is_calm(&self, now: Duration) -> bool {
        self.last.is_none_or(|(at, rest)| now.saturating_sub(at) >= rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calm_after(disturbances: &[u64]) -> u64 {
        let mut calm = Calm::default();
        disturbances.iter().for_each(|at| calm.disturb(Duration::from_secs(*at)));
        let is_calm = |second: &u64| calm.is_calm(Duration::from_secs(*second));
        let last = disturbances.last().copied().unwrap_or_default();
        (last..last + 1000).find(is_calm).expect("no rest is for ever") - last
    }

    #[test]
    fn rests_grow_with_trouble_that_comes_again() {
        assert_eq!(calm_after(&[]), 0);
        assert_eq!(calm_after(&[100]), 5);
        assert_eq!(calm_after(&[100, 100]), 5, "one trouble, noticed twice");
        assert_eq!(calm_after(&[100, 104]), 10);
        assert_eq!(calm_after(&[100, 104, 120]), 20);
        assert_eq!(calm_after(&[100, 104, 200]), 5, "forgotten");
        let again_and_again: Vec<u64> = (0..100).map(|second| second * 2).collect();
        assert_eq!(calm_after(&again_and_again), 300, "not longer than that");
    }
}
