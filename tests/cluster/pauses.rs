//! A process that stands still does not know it. When it goes on, its lease is over, and it has to notice that before it answers anybody.

use crate::fleet::Fleet;
use crate::rounds;
use crate::support::Chance;
use crate::workload::{Kind, Record, check, check_lost, missing, read_all, returned, run};
use rustix::process::Signal;
use std::time::Duration;

const ROUNDS: u64 = 3;

/// Holds the primary until others write, and some time more; returns when its successor first acknowledged a write.
fn pause(fleet: &mut Fleet, record: &Record, primary: usize, more_ms: u64) -> u64 {
    record.await_write(record.now(), &[primary]);
    fleet.signal(primary, Signal::STOP);
    let held = record.now();
    let others = fleet.others(&[primary]);
    let successor = record.await_write(held, &others);
    eprintln!("paused: {} ms to a write", (successor - held) / 1_000_000);
    std::thread::sleep(Duration::from_millis(more_ms));
    fleet.signal(primary, Signal::CONT);
    fleet.await_whole();
    for node in fleet.everybody() {
        record.await_write(record.now(), &[node]);
    }
    successor
}

/// Up to so long; 30 s once in `LARDER_ROUNDS`.
fn length_ms(chance: &mut Chance, round: u64) -> u64 {
    if round == ROUNDS { 30_000 } else { chance.below(3000) }
}

#[test]
fn under_majority_a_primary_that_was_paused_acknowledges_nothing_that_is_not_so() {
    let mut chance = Chance::seeded("pauses, majority");
    let mut fleet = Fleet::start(3, &["--write-concern", "majority"]);
    for round in 0..rounds(ROUNDS) {
        let primary = fleet.await_whole();
        let clients: Vec<usize> = fleet.everybody().into_iter().cycle().take(6).collect();
        let more_ms = length_ms(&mut chance, round);
        let (record, _) = run(&mut fleet, Kind::Shared, &clients, chance.branch(), |fleet, record| {
            pause(fleet, record, primary, more_ms)
        });
        read_all(&fleet, &record, primary);
        check(&record, "pauses, majority");
    }
}

#[test]
fn under_local_a_primary_that_was_paused_loses_only_what_it_tells() {
    let mut chance = Chance::seeded("pauses, local");
    let mut fleet = Fleet::start(3, &["--write-concern", "local"]);
    for round in 0..rounds(ROUNDS) {
        let primary = fleet.await_whole();
        let clients: Vec<usize> = fleet.everybody().into_iter().cycle().take(6).collect();
        let more_ms = length_ms(&mut chance, round);
        let (record, successor) = run(&mut fleet, Kind::Once, &clients, chance.branch(), |fleet, record| {
            pause(fleet, record, primary, more_ms)
        });
        check_lost(&fleet, &record, primary, "pauses, local");
        let late =
            missing(&fleet, &record, primary).into_iter().find(|note| returned(&note.call) > Some(successor));
        assert!(late.is_none(), "acknowledged after the successor had begun, and lost: {late:?}");
    }
}
