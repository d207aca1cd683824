//! Deterministic simulation of replication: the real links and the real store, over a simulated network, with simulated time,
//! disks and crashes. All that happens follows from a seed, and each file of an invariant says what must hold whatever happens.
//!
//! `LARDER_SEED` is the first seed (1 by default), `LARDER_SEEDS` how many there are. A seed that fails prints its number and what
//! happened last (`LARDER_EVENTS` events); with that number alone it is run again. `LARDER_ONLY` names the one invariant to look at.

#[path = "../support/chance.rs"]
mod chance;
#[path = "../support/commands.rs"]
mod commands;
#[path = "../support/types.rs"]
mod types;

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
mod seeds;
mod witness;
mod world;

use plant::Plant;
use std::cell::RefCell;
use std::sync::Once;

/// Seeds that are run without a word.
const SEEDS: u64 = 300;
/// A planted bug is found within so many seeds.
const PLANTED_SEEDS: u64 = 60;

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
    let only = seeds::only();
    seeds::run_all(SEEDS, "", |seed| world::run(seed, Plant::None, only));
}

/// The invariant, which alone is looked at, sees a planted bug.
fn sees(invariant: &'static str, plant: Plant) {
    let run = |seed| world::run(seed, plant, Some(invariant));
    seeds::sees(invariant, &format!("{plant:?}"), PLANTED_SEEDS, run);
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

#[test]
fn the_same_seed_gives_the_same_run() {
    seeds::are_the_same_again("no_seed_breaks_an_invariant", ["1", "2", "10"]);
}

#[test]
fn majority_sees_a_follower_that_counts_before_it_is_in_step() {
    seeds::sees_point("no_seed_breaks_an_invariant", "majority", "link-counts-too-early", PLANTED_SEEDS);
}
