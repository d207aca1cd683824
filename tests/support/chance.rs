//! Pseudo-random numbers (splitmix64): small, and the same for the same seed on every machine.

#![allow(dead_code, reason = "several test programs share this, and none needs all of it")]

/// The seed of tests that are not told another.
pub const FIRST_SEED: u64 = 1_000_000;

/// A sequence of them.
#[derive(Clone)]
pub struct Chance(u64);

impl Chance {
    /// From the seed that `LARDER_SEED` names, or else always the same: a change must not be refused for what it did not do.
    pub fn seeded(test: &str) -> Chance {
        let seed = std::env::var("LARDER_SEED")
            .map_or(FIRST_SEED, |seed| seed.parse().expect("LARDER_SEED is a number"));
        eprintln!("{test}: LARDER_SEED={seed}");
        Chance(seed)
    }

    /// From a seed that somebody else tells.
    pub fn from(seed: u64) -> Chance {
        Chance(seed)
    }

    /// An independent sequence.
    pub fn branch(&mut self) -> Chance {
        Chance(self.next())
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Letters, `length` of them.
    pub fn letters(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| b'a' + self.below(26) as u8).collect()
    }
}
