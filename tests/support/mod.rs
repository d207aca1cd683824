//! What the tests stand on: servers that end with their test, a small client, chance that can be repeated.

#![allow(dead_code, unused_imports, reason = "several test programs share this, and none needs all of it")]

mod chance;
mod client;
pub mod exposition;
pub mod http;
mod process;
pub mod types;

pub use chance::Chance;
pub use client::{Client, Value, request, words};
pub use process::{Finished, Launch, Server, finish, free_port};

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Wall clock, milliseconds since 1970.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970").as_millis() as i64
}

/// Asks until `condition` holds; fails with `what` after `within`.
pub fn wait_until(what: &str, within: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + within;
    while !condition() {
        assert!(Instant::now() < end, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
