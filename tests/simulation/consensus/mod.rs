//! Deterministic simulation of the consensus: the real voters over a simulated network, with simulated time, disks and crashes. As
//! for replication, all that happens follows from a seed, and each file of an invariant says what must hold.
//!
//! Variables as for replication; `LARDER_SEEDS` is for both.

mod disk;
mod leaders;
mod maps;
mod network;
mod node;
mod scenario;
mod witness;
mod world;

use crate::{note_panics, number, run_apart};
use scenario::Plant;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use world::Outcome;

/// Seeds that are run without a word.
const SEEDS: u64 = 200;
/// A planted bug is found within so many seeds.
const PLANTED_SEEDS: u64 = 60;
/// Seeds run at a time.
const THREADS: u64 = 2;

#[test]
fn no_seed_breaks_the_consensus() {
    note_panics();
    let (first, count) = (number("LARDER_SEED", 1), number("LARDER_SEEDS", SEEDS));
    let next = AtomicU64::new(first);
    let begun = Instant::now();
    let work = || {
        let mut outcomes = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return outcomes;
            }
            let outcome = world::run(seed, Plant::None);
            let is_broken = outcome.violation.is_some();
            outcomes.push((seed, outcome));
            if is_broken {
                next.store(first + count, Ordering::Relaxed);
            }
        }
    };
    let outcomes: Vec<(u64, Outcome)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("it does not panic")).collect()
    });
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (kind, count) in outcomes.iter().flat_map(|(_, outcome)| &outcome.counts) {
        *counts.entry(kind).or_default() += count;
    }
    let virtual_s: u64 = outcomes.iter().map(|(_, outcome)| outcome.virtual_ms).sum::<u64>() / 1000;
    let real_s = begun.elapsed().as_secs_f64();
    eprintln!("{} seeds, {virtual_s} virtual seconds in {real_s:.1} s", outcomes.len());
    counts.iter().for_each(|(kind, count)| eprintln!("{count:>9} {kind}"));
    let mut gaps: Vec<u64> =
        outcomes.iter().flat_map(|(_, outcome)| outcome.gaps_ms.iter().copied()).collect();
    gaps.sort_unstable();
    if let Some(longest) = gaps.last() {
        let at = |share: usize| gaps[(gaps.len() * share / 100).min(gaps.len() - 1)];
        let count = gaps.len();
        eprintln!(
            "from the death of a leader to the next decision, {count} times: p50 {} ms, p99 {} ms, longest {longest} ms",
            at(50),
            at(99)
        );
    }
    for (seed, outcome) in outcomes.iter().filter(|_| count <= 10) {
        eprintln!("trace of seed {seed}: {:016x}", outcome.trace);
    }
    for (seed, outcome) in &outcomes {
        if let Some(violation) = &outcome.violation {
            panic!("seed {seed}:\n{}", violation.story);
        }
    }
}

/// Runs seeds with a planted bug until the invariant that is to see it does.
fn sees(invariant: &str, plant: Plant) {
    note_panics();
    let first = number("LARDER_SEED", 1);
    let mut seen = Vec::new();
    for seed in first..first + PLANTED_SEEDS {
        let Some(violation) = world::run(seed, plant).violation else { continue };
        let last = violation.story.lines().last().unwrap_or_default().to_owned();
        eprintln!("{plant:?}: seed {seed}: {last}");
        if violation.invariant == invariant {
            return;
        }
        seen.push(last);
    }
    panic!("{PLANTED_SEEDS} seeds, and {invariant} has not seen {plant:?}; others: {seen:?}");
}

/// The library itself sees an election that could not have been, before anything is lost; without its assertions `maps` does.
#[test]
fn votes_that_are_forgotten_are_seen() {
    sees(if cfg!(debug_assertions) { "run" } else { "maps" }, Plant::ForgetsVotes);
}

#[test]
fn leaders_sees_confirmation_without_a_quorum() {
    sees("leaders", Plant::ConfirmsAlone);
}

#[test]
fn maps_sees_a_disk_that_writes_late() {
    sees("maps", Plant::WritesLate);
}

#[test]
fn leaders_sees_terms_that_are_not_one_leaders() {
    sees("leaders", Plant::CountsForItself);
}

#[test]
fn quiet_sees_who_is_never_told() {
    sees("quiet", Plant::StaysDeaf);
}

/// In processes of their own, for the reason given with the test of replication.
#[test]
fn the_same_seed_gives_the_same_consensus() {
    for seed in ["1", "2", "7"] {
        let [one, other] = [(); 2].map(|()| {
            let environment = [("LARDER_SEED", seed), ("LARDER_SEEDS", "1"), ("LARDER_EVENTS", "1000000")];
            let (is_well, said) = run_apart("consensus::no_seed_breaks_the_consensus", &environment);
            assert!(is_well, "{said}");
            said.lines().find(|line| line.starts_with("trace of seed")).map(str::to_owned)
        });
        assert!(one.is_some() && one == other, "{one:?} and {other:?}");
    }
}
