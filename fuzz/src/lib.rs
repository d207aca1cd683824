//! What is asserted of every parser of outside bytes, for any bytes at all. Each module is one target: a function of the bytes
//! that panics if something is not as it should be.
//!
//! Used twice: by the binaries of `fuzz_targets/`, which feed it what libFuzzer makes up, and by `tests/fuzz.rs`, which feeds
//! it the stored corpora with every `cargo test`. So nothing here may need the fuzzer.

pub mod append_only;
pub mod arguments;
pub mod bus;
pub mod commands;
pub mod configuration;
pub mod consensus;
pub mod dump;
pub mod forwarded;
pub mod frame;
pub mod glob;
pub mod gossip;
pub mod input;
pub mod journal;
pub mod links;
pub mod lost;
pub mod memory;
pub mod node;
pub mod numbers;
pub mod packed;
pub mod published;
pub mod rdb;
pub mod replies;
pub mod requests;
pub mod rows;

use std::time::{Duration, Instant};

/// A target: its name, and what it asserts.
pub type Target = (&'static str, fn(&[u8]));

/// All of them. Each has a binary and a corpus of its name.
pub const TARGETS: [Target; 20] = [
    ("requests", requests::check),
    ("replies", replies::check),
    ("dump", dump::check),
    ("packed", packed::check),
    ("journal", journal::check),
    ("rows", rows::check),
    ("configuration", configuration::check),
    ("arguments", arguments::check),
    ("glob", glob::check),
    ("numbers", numbers::check),
    ("commands", commands::check),
    ("links", links::check),
    ("lost", lost::check),
    ("bus", bus::check),
    ("gossip", gossip::check),
    ("consensus", consensus::check),
    ("forwarded", forwarded::check),
    ("published", published::check),
    ("rdb", rdb::check),
    ("append_only", append_only::check),
];

/// No input may take longer, however slow the build.
const TIME_MAX: Duration = Duration::from_secs(1);

/// Runs `check` and asserts that it does not take long.
///
/// # Panics
/// If it does, or if `check` does.
pub fn in_time(check: fn(&[u8]), data: &[u8]) {
    let started = Instant::now();
    check(data);
    if started.elapsed() <= TIME_MAX {
        return;
    }
    // The machine may have had other work: once more, by the processor's time.
    let before = processor_time();
    check(data);
    let taken = processor_time().saturating_sub(before);
    assert!(taken <= TIME_MAX, "{} bytes took {taken:?}", data.len());
}

/// How long this thread has run.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|nanoseconds| nanoseconds.parse().ok()).unwrap_or(0))
}
