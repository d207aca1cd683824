//! Deterministic simulation of the whole cluster: the real consensus, leases, promotions, handovers and links over a simulated
//! network, with simulated time, clocks, disks and crashes, and clients that use what is answered for. As for replication, all
//! that happens follows from a seed, and each file of an invariant says what must hold.
//!
//! Variables as for replication; `LARDER_SEEDS` is for all.

mod client;
mod clocks;
mod epochs;
mod gossip;
mod host;
#[path = "../../support/linearizable/mod.rs"]
mod linearizable;
mod network;
mod node;
mod one_primary;
mod planted;
mod scenario;
mod shelf;
mod world;

use crate::{note_panics, number, run_apart};
use scenario::Plant;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use world::Outcome;

/// Seeds that are run without a word.
const SEEDS: u64 = 50;
/// A planted bug is found within so many seeds.
const PLANTED_SEEDS: u64 = 150;
/// Seeds run at a time.
const THREADS: u64 = 2;

#[test]
fn no_seed_breaks_the_cluster() {
    note_panics();
    let _planted = fail::FailScenario::setup(); // by `FAILPOINTS`
    let only = std::env::var("LARDER_ONLY").ok().map(|name| &*name.leak());
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
            let outcome = world::run(seed, Plant::None, only);
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
    let quiet_ms = outcomes.iter().map(|(_, outcome)| outcome.quiet_ms).max().unwrap_or_default();
    eprintln!(
        "{} seeds, {virtual_s} virtual seconds in {:.1} s; all well {quiet_ms} ms after the faults at most",
        outcomes.len(),
        begun.elapsed().as_secs_f64()
    );
    counts.iter().for_each(|(kind, count)| eprintln!("{count:>9} {kind}"));
    for (seed, outcome) in outcomes.iter().filter(|_| count <= 10) {
        eprintln!("trace of seed {seed}: {:016x}", outcome.trace);
    }
    for (seed, outcome) in &outcomes {
        let story = outcome.violation.as_ref().map_or("", |violation| &violation.story);
        assert!(outcome.violation.is_none(), "seed {seed}:\n{story}");
    }
}

/// Runs seeds with a planted bug until the invariant that is to see it does; it alone is looked at.
fn sees(invariant: &'static str, plant: Plant) {
    note_panics();
    let first = number("LARDER_SEED", 1);
    let found = (first..first + PLANTED_SEEDS).find_map(|seed| {
        let violation = world::run(seed, plant, Some(invariant)).violation?;
        Some((seed, violation))
    });
    let (seed, violation) =
        found.unwrap_or_else(|| panic!("{PLANTED_SEEDS} seeds, and {invariant} has not seen {plant:?}"));
    assert_eq!(violation.invariant, invariant, "seed {seed}, {plant:?}:\n{}", violation.story);
    let last = violation.story.lines().last().unwrap_or_default();
    eprintln!("{plant:?}: seed {seed}: {last}");
}

/// The same for a bug that is planted in the cluster itself, in a process of its own.
fn sees_point(invariant: &str, point: &str) {
    let seeds = PLANTED_SEEDS.to_string();
    let points = format!("{point}=return");
    let environment = [("FAILPOINTS", &*points), ("LARDER_SEEDS", &seeds), ("LARDER_ONLY", invariant)];
    let (is_well, said) = run_apart("cluster::no_seed_breaks_the_cluster", &environment);
    let told = said.lines().find(|line| line.starts_with(&format!("{invariant}: ")));
    assert!(!is_well && told.is_some(), "{point}: {said}");
    eprintln!("{point}: {}", told.unwrap_or_default());
}

#[test]
fn one_primary_sees_a_leader_that_does_not_ask_whether_it_leads() {
    sees("one_primary", Plant::GrantsUnconfirmed);
}

#[test]
fn one_primary_sees_a_primary_that_ignores_its_lease() {
    sees("one_primary", Plant::IgnoresTheLease);
}

#[test]
fn one_primary_sees_a_leader_that_does_not_wait_for_old_leases() {
    sees_point("one_primary", "leader-forgets-old-leases");
}

#[test]
fn majority_sees_a_promotion_with_too_few_answers() {
    sees_point("majority", "promotion-asks-one");
}

#[test]
fn linearizable_sees_replies_that_leave_too_late() {
    sees("linearizable", Plant::RepliesLate);
}

#[test]
fn quiet_sees_a_node_that_stays_cut_off() {
    sees("quiet", Plant::StaysCut);
}

/// In processes of their own: see the simulation of replication.
#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in ["1", "2", "7"] {
        let [one, other] = [(); 2].map(|()| {
            let environment = [("LARDER_SEED", seed), ("LARDER_SEEDS", "1"), ("LARDER_EVENTS", "1000000")];
            let (is_well, said) = run_apart("cluster::no_seed_breaks_the_cluster", &environment);
            assert!(is_well, "{said}");
            said.lines().find(|line| line.starts_with("trace of seed")).map(str::to_owned)
        });
        assert!(one.is_some() && one == other, "{one:?} and {other:?}");
    }
}
