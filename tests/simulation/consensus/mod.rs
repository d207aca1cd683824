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
mod seats;
mod witness;
mod world;

use crate::seeds;
use scenario::Plant;

/// Seeds that are run without a word.
const SEEDS: u64 = 200;
/// A planted bug is found within so many seeds.
const PLANTED_SEEDS: u64 = 60;
/// The test that runs seeds.
const TEST: &str = "consensus::no_seed_breaks_the_consensus";

#[test]
fn no_seed_breaks_the_consensus() {
    let span = "from the death of a leader to the next decision";
    seeds::run_all(SEEDS, span, |seed| world::run(seed, Plant::None));
}

/// The invariant sees a planted bug.
fn sees(invariant: &str, plant: Plant) {
    seeds::sees(invariant, &format!("{plant:?}"), PLANTED_SEEDS, |seed| world::run(seed, plant));
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
fn seats_sees_who_stands_for_election_unasked() {
    sees("seats", Plant::StandsUnasked);
}

#[test]
fn quiet_sees_who_is_never_told() {
    sees("quiet", Plant::StaysDeaf);
}

#[test]
fn the_same_seed_gives_the_same_consensus() {
    seeds::are_the_same_again(TEST, ["1", "2", "7"]);
}
