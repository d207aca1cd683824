//! The process is killed, at random moments and at every named point, and started again: what was acknowledged is there, and
//! nothing else is. A kill loses nothing of what the kernel has, so this holds for every `appendfsync`.
//!
//! `LARDER_KILLS` is how many kills there are in all (about 100 by default), `LARDER_SEED` makes other random choices.

#[path = "../support/mod.rs"]
mod support;

mod points;
mod random;
mod snapshots;
mod writers;

/// How many times as many kills as by default.
fn times() -> usize {
    let by_default = random::KILLS + points::KILLS;
    std::env::var("LARDER_KILLS").map_or(1, |text| {
        let wanted: usize = text.parse().expect("LARDER_KILLS is a number");
        wanted.div_ceil(by_default).max(1)
    })
}
