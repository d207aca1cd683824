//! Deterministic simulation of replication: the real links and the real store, over a simulated network, with simulated time,
//! disks and crashes. All that happens follows from a seed, and each file of an invariant says what must hold whatever happens.
//!
//! `LARDER_SEED` is the first seed (1 by default), `LARDER_SEEDS` how many there are. A seed that fails prints its number and what
//! happened last (`LARDER_EVENTS` events); with that number alone it is run again. `LARDER_ONLY` names the one invariant to look at.

mod client;
mod cluster;
mod consensus;
mod control;
mod data;
mod disk;
mod history;
mod lost;
mod majority;
mod memory;
mod network;
mod never_back;
mod node;
mod plant;
mod prefix;
mod quiet;
mod replaced;
mod scenario;
mod witness;
mod world;

use plant::Plant;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use world::Outcome;

/// Seeds that are run without a word.
const SEEDS: u64 = 300;
/// A planted bug is found within so many seeds.
const PLANTED_SEEDS: u64 = 60;
/// Seeds run at a time.
const THREADS: u64 = 2;

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The last panic of this thread's tasks, if there was one: the runtime keeps them to itself.
pub fn take_panic() -> Option<String> {
    PANIC.with_borrow_mut(Option::take)
}

fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANIC.with_borrow_mut(|last| _ = last.get_or_insert_with(|| panic.to_string()));
            before(panic);
        }));
    });
}

/// A number from the environment.
pub fn number(name: &str, by_default: u64) -> u64 {
    std::env::var(name).map_or(by_default, |text| text.parse().expect("a number"))
}

#[test]
fn no_seed_breaks_an_invariant() {
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
    eprintln!(
        "{} seeds, {virtual_s} virtual seconds in {:.1} s",
        outcomes.len(),
        begun.elapsed().as_secs_f64()
    );
    counts.iter().for_each(|(kind, count)| eprintln!("{count:>9} {kind}"));
    for (seed, outcome) in outcomes.iter().filter(|_| count <= 10) {
        eprintln!("trace of seed {seed}: {:016x}", outcome.trace);
    }
    for (seed, outcome) in &outcomes {
        assert!(outcome.violation.is_none(), "seed {seed}:\n{}", story(outcome));
    }
}

fn story(outcome: &Outcome) -> &str {
    outcome.violation.as_ref().map_or("", |violation| &violation.story)
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

#[test]
fn prefix_sees_a_replica_that_expires_by_itself() {
    sees("prefix", Plant::ExpiresByItself);
}

#[test]
fn never_back_sees_a_start_that_forgets() {
    sees("never_back", Plant::ForgetsAtStart);
}

#[test]
fn majority_sees_an_acknowledgement_before_the_journal() {
    sees("majority", Plant::AcknowledgesBeforeJournaling);
}

#[test]
fn majority_sees_a_primary_that_is_not_the_most_advanced() {
    sees("majority", Plant::PromotesAnybody);
}

#[test]
fn lost_sees_a_tail_that_was_dropped_in_silence() {
    sees("lost", Plant::ForgetsToReport);
}

#[test]
fn quiet_sees_a_row_that_went_missing() {
    sees("quiet", Plant::LosesRows);
}

#[test]
fn memory_sees_a_primary_that_ignores_the_window() {
    sees("memory", Plant::IgnoresTheWindow);
}

/// Runs this program once more, with one test and other words in its environment. Returns whether it went well, and what it said.
fn run_apart(test: &str, environment: &[(&str, &str)]) -> (bool, String) {
    let program = std::env::current_exe().expect("it runs");
    let mut command = std::process::Command::new(program);
    command.args(["--exact", test, "--nocapture", "--test-threads", "1"]).env("RUST_BACKTRACE", "0");
    let output = command.envs(environment.iter().copied()).output().expect("it runs once more");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// In processes of their own: when a host crashes, tokio drops its tasks in an order that comes from their numbers, and these count
/// on from run to run of a process. So what a seed does to a link that moment can depend on what ran before it.
#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in ["1", "2", "10"] {
        let [one, other] = [(); 2].map(|()| {
            let environment = [("LARDER_SEED", seed), ("LARDER_SEEDS", "1"), ("LARDER_EVENTS", "1000000")];
            let (is_well, said) = run_apart("no_seed_breaks_an_invariant", &environment);
            assert!(is_well, "{said}");
            said.lines().find(|line| line.starts_with("trace of seed")).map(str::to_owned)
        });
        assert!(one.is_some() && one == other, "{one:?} and {other:?}");
    }
}

#[test]
fn majority_sees_a_follower_that_counts_before_it_is_in_step() {
    let seeds = PLANTED_SEEDS.to_string();
    let environment = [
        ("FAILPOINTS", "link-counts-too-early=return"),
        ("LARDER_SEEDS", &seeds),
        ("LARDER_ONLY", "majority"),
    ];
    let (is_well, said) = run_apart("no_seed_breaks_an_invariant", &environment);
    assert!(!is_well && said.lines().any(|line| line.starts_with("majority: ")), "{said}");
}
