//! `LatencyMonitor`: what took longer than `latency-monitor-threshold`, by event (LATENCY).
//!
//! Each event keeps its last 160 samples, at most one a second: of several within a second the largest counts.

use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};

const SAMPLES_MAX: usize = 160;

/// One spike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When, seconds since 1970.
    pub unix_s: i64,
    /// How long, milliseconds.
    pub latency_ms: u64,
}

/// The spikes of one event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// Oldest first.
    pub samples: VecDeque<Sample>,
    /// The largest ever, milliseconds.
    pub max_ms: u64,
}

impl Series {
    fn add(&mut self, sample: Sample) {
        self.max_ms = self.max_ms.max(sample.latency_ms);
        if let Some(last) = self.samples.back_mut()
            && last.unix_s == sample.unix_s
        {
            last.latency_ms = last.latency_ms.max(sample.latency_ms);
            return;
        }
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }
}

/// What took too long, by event.
#[derive(Default)]
pub struct LatencyMonitor {
    events: Mutex<BTreeMap<&'static str, Series>>,
}

impl LatencyMonitor {
    /// Notes that `event` took `latency_ms` at `unix_s`, if that is at least `threshold_ms` and the monitor is not off (0).
    #[inline]
    pub fn note(&self, threshold_ms: u64, event: &'static str, unix_s: i64, latency_ms: u64) {
        if threshold_ms > 0 && latency_ms >= threshold_ms {
            self.events.lock().entry(event).or_default().add(Sample { unix_s, latency_ms });
        }
    }

    /// All events, in order of their names.
    pub fn events(&self) -> Vec<(&'static str, Series)> {
        self.events.lock().iter().map(|(event, series)| (*event, series.clone())).collect()
    }

    /// The spikes of `event`, if there were any.
    pub fn series(&self, event: &str) -> Option<Series> {
        self.events.lock().get(event).cloned()
    }

    /// Forgets `event`, or everything. Returns how many events were forgotten.
    pub fn reset(&self, event: Option<&str>) -> usize {
        let mut events = self.events.lock();
        match event {
            Some(event) => usize::from(events.remove(event).is_some()),
            None => std::mem::take(&mut *events).len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sample_a_second_the_largest() {
        let monitor = LatencyMonitor::default();
        for (unix_s, latency_ms) in [(1, 300), (1, 500), (1, 400), (2, 200), (3, 5)] {
            monitor.note(10, "command", unix_s, latency_ms);
        }
        monitor.note(0, "off", 1, 1000);
        let series = monitor.series("command").expect("noted");
        let samples: Vec<_> =
            series.samples.iter().map(|sample| (sample.unix_s, sample.latency_ms)).collect();
        assert_eq!((samples, series.max_ms), (vec![(1, 500), (2, 200)], 500));
        assert!(monitor.series("off").is_none());
        assert_eq!((monitor.reset(Some("nothing")), monitor.reset(None)), (0, 1));
    }

    #[test]
    fn old_samples_make_room() {
        let mut series = Series::default();
        for unix_s in 0..200 {
            series.add(Sample { unix_s, latency_ms: 1 });
        }
        assert_eq!((series.samples.len(), series.samples[0].unix_s), (SAMPLES_MAX, 40));
    }
}
