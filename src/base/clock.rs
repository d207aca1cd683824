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

/// Time since the machine started, its sleep included: the clock of leases.
pub fn since_boot() -> std::time::Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    std::time::Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}

/// Year, month and day (both from 1) of a number of days since 1970-01-01: Howard Hinnant's `civil_from_days`.
pub fn calendar_date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468; // days since 0000-03-01
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12 + 1;
    (era * 400 + year_of_era + u64::from(month < 3), month, day)
}

/// `02:13:16.123`, UTC.
pub fn time_of_day(unix_ms: u64) -> String {
    let ms = unix_ms % 86_400_000;
    format!("{:02}:{:02}:{:02}.{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000)
}

/// `2026-11-21T02:13:16.123Z`: ISO 8601, UTC. What is before 1970 counts as its first moment.
pub fn iso_8601(unix_ms: i64) -> String {
    let unix_ms = u64::try_from(unix_ms).unwrap_or(0);
    let (year, month, day) = calendar_date(unix_ms / 86_400_000);
    format!("{year:04}-{month:02}-{day:02}T{}Z", time_of_day(unix_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        for (unix_ms, text) in [
            (-1, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_735_689_599_999, "2024-12-31T23:59:59.999Z"),
            (1_795_227_196_123, "2026-11-21T02:13:16.123Z"),
        ] {
            assert_eq!(iso_8601(unix_ms), text);
        }
    }
}
