//! Rates that INFO calls instantaneous: the mean of sixteen samples, a tenth of a second apart.

/// Milliseconds between two samples.
pub const INTERVAL_MS: u64 = 100;
const SAMPLES: usize = 16;
const SERIES: usize = 3;

/// Sixteen samples of three growing totals.
#[derive(Default)]
pub struct Rates {
    samples: [[u64; SAMPLES]; SERIES],
    next: usize,
    last: Option<(u64, [u64; SERIES])>,
}

impl Rates {
    /// Notes the totals at a monotonic time.
    pub fn sample(&mut self, now_ms: u64, totals: [u64; SERIES]) {
        let Some((then_ms, before)) = self.last.replace((now_ms, totals)) else { return };
        let elapsed_ms = now_ms.saturating_sub(then_ms);
        for ((samples, now), before) in self.samples.iter_mut().zip(totals).zip(before) {
            let grown = u128::from(now.saturating_sub(before)) * 1000;
            samples[self.next] = grown.checked_div(u128::from(elapsed_ms)).unwrap_or(0) as u64;
        }
        self.next = (self.next + 1) % SAMPLES;
    }

    /// Growth of each total per second.
    pub fn per_second(&self) -> [u64; SERIES] {
        self.samples.map(|samples| samples.iter().sum::<u64>() / SAMPLES as u64)
    }

    /// Forgets all samples.
    pub fn clear(&mut self) {
        self.samples = Default::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_reached_after_sixteen_samples() {
        let mut rates = Rates::default();
        for tick in 0..=16 {
            rates.sample(tick * 100, [tick * 50, 0, tick * 1024]);
        }
        assert_eq!(rates.per_second(), [500, 0, 10_240]);
    }
}
