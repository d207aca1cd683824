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

use crate::seeds;
use scenario::Plant;

/// Seeds that are run without a word.
const SEEDS: u64 = 50;
/// A planted bug is found within so many seeds.
const PLANTED_SEEDS: u64 = 150;
/// The test that runs seeds.
const TEST: &str = "cluster::no_seed_breaks_the_cluster";

#[test]
fn no_seed_breaks_the_cluster() {
    let only = seeds::only();
    seeds::run_all(SEEDS, "from the end of the faults until all was well", |seed| {
        world::run(seed, Plant::None, only)
    });
}

/// The invariant, which alone is looked at, sees a planted bug.
fn sees(invariant: &'static str, plant: Plant) {
    let run = |seed| world::run(seed, plant, Some(invariant));
    seeds::sees(invariant, &format!("{plant:?}"), PLANTED_SEEDS, run);
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
    seeds::sees_point(TEST, "one_primary", "leader-forgets-old-leases", PLANTED_SEEDS);
}

#[test]
fn majority_sees_a_promotion_with_too_few_answers() {
    seeds::sees_point(TEST, "majority", "promotion-asks-one", PLANTED_SEEDS);
}

#[test]
fn linearizable_sees_reads_of_what_is_not_acknowledged() {
    sees("linearizable", Plant::ReadsEarly);
}

#[test]
fn quiet_sees_a_node_that_stays_cut_off() {
    sees("quiet", Plant::StaysCut);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    seeds::are_the_same_again(TEST, ["1", "2", "7"]);
}
