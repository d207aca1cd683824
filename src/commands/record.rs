//! What is recorded of a command once it ran: its count and time, its error, and if it was slow or watched, its words.
//!
//! The clock is read once for each command: where one ends, the next begins. Everything but the counters is off the usual path.

use super::Request;
use super::table::Entry;
use crate::base::clock;
use crate::config::table::is_sensitive;
use crate::protocol::args::Args;
use crate::protocol::reply::Reply;
use crate::protocol::spec::flag;
use crate::session::session::Session;

/// Records a command that began when the clock said `started`.
#[inline]
pub fn record(entry: &Entry, request: &Request, session: &mut Session, reply: &Reply, started: u64) {
    let service = request.service;
    let ended = service.clock.raw();
    session.clock = ended;
    let nanoseconds = service.clock.delta_as_nanos(started, ended);
    service.statistics.command(entry.number, nanoseconds, request.settings.latency_tracking);
    if let Reply::Error(error) = reply {
        service.statistics.failed(entry.number);
        service.statistics.error(error.code());
    }
    let microseconds = nanoseconds / 1000;
    let is_slow = request.settings.slowlog_log_slower_than >= 0
        && microseconds as i64 >= request.settings.slowlog_log_slower_than;
    let is_spike = request.settings.latency_monitor_threshold > 0
        && microseconds / 1000 >= request.settings.latency_monitor_threshold;
    if is_slow || is_spike {
        record_slow(entry, request, session, microseconds, is_slow);
    }
    if !service.monitors.is_empty() {
        show_to_monitors(entry, request, session);
    }
}

#[cold]
fn record_slow(entry: &Entry, request: &Request, session: &Session, microseconds: u64, is_slow: bool) {
    let (service, settings, flags) = (request.service, request.settings, entry.command.spec.flags);
    let unix_s = clock::unix_ms() / 1000;
    let event = if flags.has(flag::FAST) { "fast-command" } else { "command" };
    service.latency.note(settings.latency_monitor_threshold, event, unix_s, microseconds / 1000);
    if is_slow && !flags.has(flag::SKIP_SLOWLOG) {
        let (bytes, ranges) = without_secrets(request.args);
        let words = Args::new(&bytes, &ranges);
        let address = &session.client.peer.address;
        let max = settings.slowlog_max_len;
        service.slowlog.record(max, unix_s, microseconds, words.from(0), address, &session.name);
    }
}

/// Feeds a command that ran to those who watch all of them. Secrets are left out, administration is not shown.
#[cold]
fn show_to_monitors(entry: &Entry, request: &Request, session: &Session) {
    let flags = entry.command.spec.flags;
    if flags.has(flag::SKIP_MONITOR) || flags.has(flag::ADMIN) {
        return;
    }
    let address = if session.client.peer.is_local_socket {
        format!("unix:{}", session.client.peer.address.trim_end_matches(":0"))
    } else {
        session.client.peer.address.clone()
    };
    let (bytes, ranges) = without_secrets(request.args);
    let args = Args::new(&bytes, &ranges);
    request.service.monitors.feed(clock::unix_us(), request.database, &address, args);
}

/// A copy of the words in which passwords are not to be read.
pub fn without_secrets(args: Args) -> (Vec<u8>, Vec<(u32, u32)>) {
    let is =
        |index: usize, word: &str| args.get(index).is_some_and(|w| w.eq_ignore_ascii_case(word.as_bytes()));
    let auth_at = (1..args.len()).find(|&at| is(0, "hello") && is(at, "auth"));
    let is_secret = |at: usize| {
        (is(0, "auth") && at >= 1)
            || auth_at.is_some_and(|auth| at == auth + 1 || at == auth + 2)
            || (is(0, "config") && at >= 3 && at % 2 == 1 && args.get(at - 1).is_some_and(is_sensitive))
            || (is(0, "acl") && is(1, "setuser") && at >= 2)
    };
    let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
    for (at, word) in args.from(0).enumerate() {
        let start = bytes.len() as u32;
        bytes.extend_from_slice(if is_secret(at) { b"(redacted)" } else { word });
        ranges.push((start, bytes.len() as u32));
    }
    (bytes, ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> (Vec<u8>, Vec<(u32, u32)>) {
        let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
        crate::protocol::parser::split_words(line.as_bytes(), &mut bytes, &mut ranges).expect("quotes match");
        (bytes, ranges)
    }

    #[test]
    fn passwords_are_not_shown() {
        for (line, shown) in [
            ("AUTH user pw", "AUTH (redacted) (redacted)"),
            ("HELLO 3 AUTH u p SETNAME n", "HELLO 3 AUTH (redacted) (redacted) SETNAME n"),
            ("CONFIG SET maxmemory 1 requirepass pw", "CONFIG SET maxmemory 1 requirepass (redacted)"),
            ("SET auth b", "SET auth b"),
        ] {
            let (bytes, ranges) = words(line);
            let (bytes, ranges) = without_secrets(Args::new(&bytes, &ranges));
            let found: Vec<_> = Args::new(&bytes, &ranges).from(0).map(String::from_utf8_lossy).collect();
            assert_eq!(found.join(" "), shown);
        }
    }
}
