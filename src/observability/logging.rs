//! Logs: where they go and how a line looks. The one place that sets up `tracing`.
//!
//! Text lines have redis-server's form (`pid:role date * message`), so that what reads its logs reads ours; times are UTC. The
//! level can be changed while running.

use crate::base::clock;
use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::sync::{Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt as text};

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// As redis-server's.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

static LEVEL: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Starts logging to `file` (standard output, if it is empty, as redis-server does) from `level` (a word of `loglevel`) on.
/// Of several calls only the first has an effect.
///
/// # Errors
/// If the file cannot be opened for appending.
pub fn start(level: &str, file: &Path, format: Format) -> io::Result<()> {
    let (filter, handle) = reload::Layer::new(filter_of(level));
    let writer = writer_to(file)?;
    let lines = match format {
        Format::Text => text::layer().event_format(RedisLine).with_writer(writer).boxed(),
        Format::Json => text::layer().json().flatten_event(true).with_writer(writer).boxed(),
    };
    if tracing_subscriber::registry().with(filter.and_then(lines)).try_init().is_ok() {
        let _ = LEVEL.set(handle);
    }
    Ok(())
}

/// Logs from `level` (a word of `loglevel`) on.
pub fn set_level(level: &str) {
    if let Some(handle) = LEVEL.get() {
        let _ = handle.reload(filter_of(level)); // fails only while the process ends
    }
}

/// Lines of ours from `level` on, those of libraries only if they are warnings. The library of the consensus warns of every
/// heartbeat that a dead node does not answer; what matters of it, the control plane says itself. That of the gossip warns of every
/// datagram that is none of its own, which anybody may send.
fn filter_of(level: &str) -> Targets {
    let ours = match level {
        "debug" | "verbose" => LevelFilter::DEBUG,
        "warning" => LevelFilter::WARN,
        "nothing" => LevelFilter::OFF,
        _ => LevelFilter::INFO,
    };
    let quiet = [("openraft", LevelFilter::OFF), ("chitchat", ours.min(LevelFilter::ERROR))];
    Targets::new().with_target("larder", ours).with_targets(quiet).with_default(ours.min(LevelFilter::WARN))
}

fn writer_to(file: &Path) -> io::Result<BoxMakeWriter> {
    if file.as_os_str().is_empty() {
        return Ok(BoxMakeWriter::new(io::stdout));
    }
    let file = OpenOptions::new().create(true).append(true).open(file)?;
    Ok(BoxMakeWriter::new(Mutex::new(file)))
}

/// A line as redis-server writes it.
struct RedisLine;

impl<S, N> FormatEvent<S, N> for RedisLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut to: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mark = mark_of(*event.metadata().level());
        write!(to, "{}:M {} {mark} ", std::process::id(), date(since.as_millis() as u64))?;
        for span in context.event_scope().into_iter().flatten() {
            if let Some(fields) =
                span.extensions().get::<FormattedFields<N>>().filter(|fields| !fields.is_empty())
            {
                write!(to, "[{} {fields}] ", span.name())?;
            }
        }
        context.format_fields(to.by_ref(), event)?;
        writeln!(to)
    }
}

/// redis-server's mark of a level.
fn mark_of(level: Level) -> char {
    match level {
        Level::ERROR | Level::WARN => '#',
        Level::INFO => '*',
        Level::DEBUG => '-',
        Level::TRACE => '.',
    }
}

/// `21 Nov 2026 02:13:16.123`, UTC.
fn date(unix_ms: u64) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (year, month, day) = clock::calendar_date(unix_ms / 86_400_000);
    format!("{day:02} {} {year} {}", MONTHS[month as usize - 1], clock::time_of_day(unix_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (unix_ms, text) in [
            (0, "01 Jan 1970 00:00:00.000"),
            (951_782_400_000, "29 Feb 2000 00:00:00.000"),
            (1_709_251_199_999, "29 Feb 2024 23:59:59.999"),
            (1_795_227_196_123, "21 Nov 2026 02:13:16.123"),
        ] {
            assert_eq!(date(unix_ms), text);
        }
    }

    #[test]
    fn libraries_are_quiet() {
        let filter = filter_of("notice");
        assert!(filter.would_enable("larder::store", &Level::INFO));
        assert!(!filter.would_enable("larder::store", &Level::DEBUG));
        assert!(!filter.would_enable("mio", &Level::INFO));
    }
}
