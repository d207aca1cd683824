//! Time as the rest of the house sees it: wall clock in milliseconds since 1970 for deadlines, monotonic for durations.

use std::time::{SystemTime, UNIX_EPOCH};

/// Wall clock, milliseconds since 1970-01-01 UTC. Deadlines of keys are of this kind, as in Redis.
pub fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as i64)
}

/// Wall clock, microseconds since 1970-01-01 UTC.
pub fn unix_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_micros() as i64)
}
