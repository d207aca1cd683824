//! What commands do and how long they take. A command that never came has no samples.

use super::Facts;
use super::{Metric, counter, counters, gauge, histogram};
use crate::observability::metrics::Samples;
use crate::observability::statistics::{CommandCounts, Counter};

/// Bounds of the histogram of a command, in nanoseconds: one more makes a series more of each command.
const BOUNDS_NS: [u64; 14] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    10_000_000,
    100_000_000,
    500_000_000,
    1_000_000_000,
];
const NANOSECONDS: f64 = 1e9;

pub const METRICS: &[Metric] = &[
    counter("larder_commands_processed_total", "Commands that ran.", |facts| {
        facts.counted(Counter::Commands)
    }),
    counters("larder_command_calls_total", &["command"], "How often each command ran.", |facts, samples| {
        of_each(facts, samples, |counts| counts.calls);
    }),
    counters(
        "larder_command_rejections_total",
        &["command"],
        "How often each command was refused before it ran.",
        |facts, samples| {
            of_each(facts, samples, |counts| counts.rejected);
        },
    ),
    counters(
        "larder_command_failures_total",
        &["command"],
        "How often each command ran and answered with an error.",
        |facts, samples| {
            of_each(facts, samples, |counts| counts.failed);
        },
    ),
    histogram(
        "larder_command_duration_seconds",
        &["command"],
        "How long each command ran, without waiting for sockets; longer than a second counts as a second. Only with latency-tracking.",
        durations,
    ),
    counter("larder_error_replies_total", "Error replies.", |facts| facts.counted(Counter::Errors)),
    counters(
        "larder_errors_total",
        &["kind"],
        "Error replies by their first word, as ERR, WRONGTYPE, MOVED.",
        |facts, samples| {
            for (kind, count) in facts.service.statistics.errors() {
                samples.add(&[&kind], count as f64);
            }
        },
    ),
    gauge("larder_slowlog_entries", "Commands in the slow log.", |facts| facts.service.slowlog.len() as f64),
];

fn of_each(facts: &Facts, samples: &mut Samples, read: fn(CommandCounts) -> u64) {
    let statistics = &facts.service.statistics;
    for (number, name) in statistics.names().iter().enumerate() {
        let counts = statistics.counts_since_start(number);
        if counts.calls + counts.rejected + counts.failed > 0 {
            samples.add(&[name], read(counts) as f64);
        }
    }
}

fn durations(facts: &Facts, samples: &mut Samples) {
    let statistics = &facts.service.statistics;
    for (number, name) in statistics.names().iter().enumerate() {
        let Some(latency) = statistics.latency(number) else { continue };
        let bounds = BOUNDS_NS.map(|bound| bound as f64 / NANOSECONDS);
        let up_to = bounds.into_iter().zip(latency.up_to_ns(&BOUNDS_NS));
        let sum = statistics.counts(number).nanoseconds as f64 / NANOSECONDS;
        samples.add_histogram(&[name], up_to, latency.count(), sum);
    }
}
