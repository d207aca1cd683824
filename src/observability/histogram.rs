//! Latencies of a command: buckets written by one thread without a lock, and the distribution that readers make of them.
//!
//! The buckets are those of an HDR histogram with two significant digits: one for each value below 256 ns, then 128 for each
//! power of two, up to [`LARGEST_NS`]. An addition is one store; percentiles are left to the `hdrhistogram` crate, which gets
//! the merged buckets when somebody asks.

use hdrhistogram::Histogram;
use std::sync::atomic::{AtomicU64, Ordering};

/// Values above a second count as this, as in Redis.
pub const LARGEST_NS: u64 = 1_000_000_000;
const LINEAR: usize = 256;
const PER_OCTAVE: usize = 128;
/// Number of buckets: the linear ones, then those of the powers from 2^8 to 2^29.
pub const BUCKETS: usize = LINEAR + 22 * PER_OCTAVE;

const _: () = assert!(LARGEST_NS < 1 << 30);

/// The bucket that counts `value`.
#[inline]
fn bucket_of(value: u64) -> usize {
    let value = value.min(LARGEST_NS);
    if value < LINEAR as u64 {
        return value as usize;
    }
    let power = value.ilog2(); // 8 to 29
    let within = (value >> (power - 7)) as usize - PER_OCTAVE; // 0 to 127
    LINEAR + (power as usize - 8) * PER_OCTAVE + within
}

/// The smallest value that `bucket` counts.
fn smallest_of(bucket: usize) -> u64 {
    if bucket < LINEAR {
        return bucket as u64;
    }
    let power = 8 + (bucket - LINEAR) / PER_OCTAVE;
    let within = (bucket - LINEAR) % PER_OCTAVE;
    ((PER_OCTAVE + within) as u64) << (power - 7)
}

/// Counts of latencies, written by one thread.
pub struct Buckets(Box<[AtomicU64]>);

impl Default for Buckets {
    fn default() -> Buckets {
        Buckets((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Buckets {
    /// Number and counter of the bucket for `nanoseconds`.
    #[inline]
    pub fn at(&self, nanoseconds: u64) -> (usize, &AtomicU64) {
        let bucket = bucket_of(nanoseconds);
        (bucket, &self.0[bucket])
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.0.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    }
}

/// Latencies of a command over all threads.
pub struct Distribution(Histogram<u64>);

impl Distribution {
    /// The sum of `parts`.
    pub fn of<'a>(parts: impl Iterator<Item = &'a Buckets>) -> Distribution {
        let mut sum = Histogram::new_with_bounds(1, LARGEST_NS, 2).expect("bounds and digits are in range");
        for part in parts {
            for (bucket, count) in part.0.iter().enumerate() {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    sum.saturating_record_n(smallest_of(bucket), count);
                }
            }
        }
        Distribution(sum)
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Nanoseconds that `percent` of the values do not exceed.
    pub fn percentile_ns(&self, percent: f64) -> u64 {
        self.0.value_at_percentile(percent)
    }

    /// How many values do not exceed each of `bounds_ns`, which must grow. Exact to a hundredth of the bound.
    pub fn up_to_ns<'a>(&'a self, bounds_ns: &'a [u64]) -> impl Iterator<Item = u64> + 'a {
        let (mut total, mut recorded) = (0, self.0.iter_recorded().peekable());
        bounds_ns.iter().map(move |bound| {
            let bound = self.0.highest_equivalent(*bound);
            while let Some(value) = recorded.next_if(|value| value.value_iterated_to() <= bound) {
                total += value.count_at_value();
            }
            total
        })
    }

    /// Upper bounds in microseconds, each twice the one before, with the number of values up to it; only those at which the
    /// number grows. A bound is 1024 ns times a power of two and, like every value of the histogram, stands for the largest
    /// value that its bucket counts: that is why Redis shows 33, 66, 132 where 32, 65, 131 would be expected.
    pub fn doubling_us(&self) -> Vec<(u64, u64)> {
        let mut steps: Vec<(u64, u64)> = Vec::new();
        let (mut bound, mut total) = (1024_u64, 0);
        for value in self.0.iter_recorded() {
            while value.value_iterated_to() > self.0.highest_equivalent(bound) {
                bound *= 2;
            }
            total += value.count_at_value();
            let shown = self.0.highest_equivalent(bound) / 1000;
            match steps.last_mut() {
                Some((last, sum)) if *last == shown => *sum = total,
                _ => steps.push((shown, total)),
            }
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_exact_to_a_hundredth() {
        for value in (0..100_000).chain([123_456_789, LARGEST_NS, u64::MAX]) {
            let bucket = bucket_of(value);
            assert!(bucket < BUCKETS);
            let (smallest, value) = (smallest_of(bucket), value.min(LARGEST_NS));
            assert!(smallest <= value && (value - smallest) as f64 <= value as f64 / 100.0, "{value}");
            assert_eq!(bucket_of(smallest), bucket);
        }
    }

    #[test]
    fn percentiles_come_from_merged_buckets() {
        let (a, b) = (Buckets::default(), Buckets::default());
        for _ in 0..99 {
            a.at(1500).1.fetch_add(1, Ordering::Relaxed);
        }
        b.at(900_000).1.fetch_add(1, Ordering::Relaxed);
        let sum = Distribution::of([&a, &b].into_iter());
        assert_eq!(sum.count(), 100);
        assert_eq!(sum.percentile_ns(50.0) / 1000, 1);
        assert!((890_000..910_000).contains(&sum.percentile_ns(100.0)));
        assert_eq!(sum.doubling_us(), [(2, 99), (1056, 100)]);
        let up_to = sum.up_to_ns(&[1000, 2000, 100_000, LARGEST_NS]).collect::<Vec<_>>();
        assert_eq!(up_to, [0, 99, 99, 100]);
    }
}
