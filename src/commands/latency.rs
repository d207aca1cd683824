//! LATENCY: what took longer than `latency-monitor-threshold`, and how long each command takes.

use super::table::{self, Entry};
use super::{Command, Outcome, Request, container, help_from_table, session};
use crate::base::clock;
use crate::observability::latency::Series;
use crate::observability::statistics::Statistics;
use crate::protocol::error::ErrorReply;
use crate::protocol::reply::Reply;
use crate::protocol::spec::Group;
use crate::protocol::spec::flag::{ADMIN, LOADING, NOSCRIPT, STALE};
use crate::protocol::spec::syntax::string;
use crate::session::session::Session;
use std::fmt::Write;

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[container(
    "latency",
    &[
        session("doctor", doctor)
            .arity(2)
            .flags(ADMIN.and(NOSCRIPT).and(LOADING).and(STALE))
            .group(Group::Server)
            .since("2.8.13")
            .complexity("O(1)")
            .summary("Says in words what was slow and what may help.")
            .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"]),
        session("graph", graph)
            .arity(3)
            .flags(ADMIN.and(NOSCRIPT).and(LOADING).and(STALE))
            .group(Group::Server)
            .since("2.8.13")
            .complexity("O(1)")
            .summary("Draws the spikes of an event.")
            .arguments(&[string("event")])
            .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"]),
        session("help", help_from_table)
            .arity(2)
            .flags(LOADING.and(STALE))
            .group(Group::Server)
            .since("2.8.13")
            .complexity("O(1)")
            .summary("Explains the subcommands."),
        session("histogram", histogram)
            .arity(-2)
            .flags(ADMIN.and(NOSCRIPT).and(LOADING).and(STALE))
            .group(Group::Server)
            .since("7.0.0")
            .complexity("O(N) where N is the number of commands asked for")
            .summary("Lists how the latencies of commands are distributed.")
            .arguments(&[string("command").optional().multiple()])
            .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"]),
        session("history", history)
            .arity(3)
            .flags(ADMIN.and(NOSCRIPT).and(LOADING).and(STALE))
            .group(Group::Server)
            .since("2.8.13")
            .complexity("O(1)")
            .summary("Lists the spikes of an event.")
            .arguments(&[string("event")])
            .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"]),
        session("latest", latest)
            .arity(2)
            .flags(ADMIN.and(NOSCRIPT).and(LOADING).and(STALE))
            .group(Group::Server)
            .since("2.8.13")
            .complexity("O(1)")
            .summary("Lists the last and the largest spike of each event.")
            .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"]),
        session("reset", reset)
            .arity(-2)
            .flags(ADMIN.and(NOSCRIPT).and(LOADING).and(STALE))
            .group(Group::Server)
            .since("2.8.13")
            .complexity("O(1)")
            .summary("Forgets the spikes of some events, or of all.")
            .arguments(&[string("event").optional().multiple()])
            .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
    ],
)
.arity(-2)
.group(Group::Server)
.since("2.8.13")
.complexity("Depends on the subcommand")
.summary("Commands on latency events and histograms.")];

fn event_of<'a>(request: &Request<'a>) -> std::borrow::Cow<'a, str> {
    String::from_utf8_lossy(request.args.at(2))
}

fn latest(request: &Request, _: &mut Session) -> Outcome {
    let events = request.service.latency.events().into_iter().map(|(event, series)| {
        let last = series.samples.back().map_or((0, 0), |sample| (sample.unix_s, sample.latency_ms as i64));
        let figures = [last.0, last.1, series.max_ms as i64].map(Reply::Int);
        Reply::Array([Reply::Text(event)].into_iter().chain(figures).collect())
    });
    Ok(Reply::Array(events.collect()))
}

fn history(request: &Request, _: &mut Session) -> Outcome {
    let series = request.service.latency.series(&event_of(request)).unwrap_or_default();
    let pair = |at: i64, ms: u64| Reply::Array(vec![Reply::Int(at), Reply::Int(ms as i64)]);
    Ok(Reply::Array(series.samples.iter().map(|sample| pair(sample.unix_s, sample.latency_ms)).collect()))
}

fn reset(request: &Request, _: &mut Session) -> Outcome {
    let latency = &request.service.latency;
    if request.args.len() == 2 {
        return Ok(Reply::Int(latency.reset(None) as i64));
    }
    let forgotten = request.args.from(2).map(|event| latency.reset(Some(&String::from_utf8_lossy(event))));
    Ok(Reply::Int(forgotten.sum::<usize>() as i64))
}

fn histogram(request: &Request, _: &mut Session) -> Outcome {
    let statistics = &request.service.statistics;
    let mut pairs = Vec::new();
    if request.args.len() == 2 {
        table::entries().iter().for_each(|entry| add_distributions(entry, statistics, &mut pairs));
    }
    for entry in request.args.from(2).filter_map(table::entry_of_full_name) {
        add_distributions(entry, statistics, &mut pairs);
    }
    Ok(Reply::Map(pairs))
}

/// The distribution of a command and those of its subcommands, where there are any.
fn add_distributions(entry: &Entry, statistics: &Statistics, pairs: &mut Vec<Reply>) {
    if let Some(latency) = statistics.latency(entry.number) {
        let steps = latency.doubling_us().into_iter().flat_map(|(bound, count)| [bound, count]);
        let steps = steps.map(|figure| Reply::Int(figure as i64)).collect();
        pairs.push(Reply::bulk(&entry.full_name));
        pairs.push(Reply::Map(vec![
            Reply::Text("calls"),
            Reply::Int(latency.count() as i64),
            Reply::Text("histogram_usec"),
            Reply::Map(steps),
        ]));
    }
    entry.subcommands.iter().for_each(|entry| add_distributions(entry, statistics, pairs));
}

fn graph(request: &Request, _: &mut Session) -> Outcome {
    let event = event_of(request);
    let Some(series) = request.service.latency.series(&event) else {
        return Err(
            ErrorReply::quoting("ERR No samples available for event '", request.args.at(2), "'").into()
        );
    };
    Ok(Reply::Verbatim("txt", drawing(&event, &series, clock::unix_ms() / 1000)))
}

/// A column for each of the last samples, as high as it took long; below it, read from top to bottom, how long ago it was.
fn drawing(event: &str, series: &Series, now_s: i64) -> String {
    const COLUMNS: usize = 80;
    const ROWS: u64 = 4;
    let skip = series.samples.len().saturating_sub(COLUMNS);
    let shown: Vec<_> = series.samples.iter().skip(skip).copied().collect();
    let (low, high) = shown
        .iter()
        .fold((u64::MAX, 0), |(low, high), sample| (low.min(sample.latency_ms), high.max(sample.latency_ms)));
    let mut text = format!("{event} - high {high} ms, low {low} ms (all time high {} ms)\n", series.max_ms);
    text.push_str(&"-".repeat(COLUMNS));
    let height = |ms: u64| 1 + (ms - low) * (ROWS - 1) / (high - low).max(1);
    for row in (1..=ROWS).rev() {
        let column = |ms| match height(ms).cmp(&row) {
            std::cmp::Ordering::Equal => '#',
            std::cmp::Ordering::Greater => '|',
            std::cmp::Ordering::Less => ' ',
        };
        text.push('\n');
        text.extend(shown.iter().map(|sample| column(sample.latency_ms)));
    }
    let ages: Vec<Vec<char>> =
        shown.iter().map(|sample| age(now_s - sample.unix_s).chars().collect()).collect();
    text.push('\n');
    for row in 0..ages.iter().map(Vec::len).max().unwrap_or(0) {
        text.push('\n');
        text.extend(ages.iter().map(|age| age.get(row).copied().unwrap_or(' ')));
    }
    text + "\n"
}

fn age(seconds: i64) -> String {
    match seconds {
        86_400.. => format!("{}d", seconds / 86_400),
        3_600.. => format!("{}h", seconds / 3_600),
        60.. => format!("{}m", seconds / 60),
        _ => format!("{}s", seconds.max(0)),
    }
}

fn doctor(request: &Request, _: &mut Session) -> Outcome {
    let events = request.service.latency.events();
    Ok(Reply::Verbatim("txt", report(&events, request.settings.latency_monitor_threshold)))
}

fn report(events: &[(&'static str, Series)], threshold_ms: u64) -> String {
    if threshold_ms == 0 {
        return "Latency is not watched. CONFIG SET latency-monitor-threshold <milliseconds> notes whatever takes \
            longer than that; 100 is a fair start.\n"
            .to_owned();
    }
    if events.is_empty() {
        return format!(
            "Nothing took {threshold_ms} ms or more since the watch began (or since LATENCY RESET).\n"
        );
    }
    let mut text = format!("What took {threshold_ms} ms or more:\n\n");
    for (number, (event, series)) in (1..).zip(events) {
        let count = series.samples.len() as u64;
        let mean = series.samples.iter().map(|sample| sample.latency_ms).sum::<u64>() / count.max(1);
        let span_s = series.samples.back().map_or(0, |last| last.unix_s - series.samples[0].unix_s);
        let period = span_s as f64 / (count.max(2) - 1) as f64;
        let _ = writeln!(
            text,
            "{number}. {event}: {count} spikes, {mean} ms on average, {} ms at worst, one each {period:.1} s. {}",
            series.max_ms,
            advice(event)
        );
    }
    text
}

fn advice(event: &str) -> &'static str {
    match event {
        "command" => {
            "SLOWLOG GET names slow commands; ask for less at a time, SCAN instead of KEYS, or use smaller collections."
        }
        "fast-command" => {
            "These commands take constant time: the machine is short of processor time, or rows come from a slow disk."
        }
        "aof-fsync-always" | "aof-write" | "journal-write" | "journal-sync" => {
            "The disk is slow to write or to sync; appendfsync everysec does not make commands wait for it."
        }
        _ => "LATENCY HISTORY shows when it happened.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observability::latency::LatencyMonitor;

    fn two_spikes() -> LatencyMonitor {
        let monitor = LatencyMonitor::default();
        monitor.note(100, "command", 1000, 300);
        monitor.note(100, "command", 1010, 500);
        monitor
    }

    #[test]
    fn a_drawing_has_a_column_for_each_spike() {
        let series = two_spikes().series("command").expect("noted");
        let text = drawing("command", &series, 1070);
        assert!(text.starts_with("command - high 500 ms, low 300 ms (all time high 500 ms)\n---"));
        assert!(text.contains("\n #\n |\n |\n#|\n\n11\nmm\n"), "{text}");
    }

    #[test]
    fn a_report_names_events_and_figures() {
        let text = report(&two_spikes().events(), 100);
        assert!(
            text.contains("1. command: 2 spikes, 400 ms on average, 500 ms at worst, one each 10.0 s."),
            "{text}"
        );
        assert!(report(&[], 100).starts_with("Nothing took 100 ms"));
        assert!(report(&[], 0).contains("latency-monitor-threshold"));
    }
}
