//! A process that stands still does not know it. When it goes on, its lease is over, and it has to notice that before it answers anybody.

use crate::finder::Way;
use crate::fleet::Fleet;
use crate::rounds;
use crate::support::Chance;
use crate::workload::{Kind, Record, check, check_lost, missing, read_all, returned, run, run_with};
use rustix::process::Signal;
use std::time::Duration;

const ROUNDS: u64 = 3;

/// Holds the primary until others write, and some time more; returns when its successor first acknowledged a write.
fn pause(fleet: &mut Fleet, record: &Record, primary: usize, more_ms: u64) -> u64 {
    record.await_write(record.now(), &[primary]);
    fleet.signal(primary, Signal::STOP);
    fleet.await_stopped(primary);
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

/// Longer than all waits of servers and clients.
const LONG_MS: u64 = 30_000;

#[test]
fn under_majority_a_primary_that_was_paused_acknowledges_nothing_that_is_not_so() {
    let mut chance = Chance::seeded("pauses, majority");
    let mut fleet = Fleet::start(3, &["--write-concern", "majority"]);
    // The last one is long.
    let lengths = (0..rounds(ROUNDS)).map(|_| chance.below(3000)).chain([LONG_MS]).collect::<Vec<_>>();
    for more_ms in lengths {
        let primary = fleet.await_whole();
        let clients: Vec<usize> = fleet.everybody().into_iter().cycle().take(6).collect();
        let (aware, own) = ([Way::Sentinel; 2], chance.branch());
        let (record, _) = run_with(&mut fleet, Kind::Shared, &clients, &aware, own, |fleet, record| {
            pause(fleet, record, primary, more_ms)
        });
        read_all(&fleet, &record, primary);
        check(&record, &format!("paused for {more_ms} ms more, majority"));
    }
}

#[test]
fn under_local_a_primary_that_was_paused_loses_only_what_it_tells() {
    let mut chance = Chance::seeded("pauses, local");
    let mut fleet = Fleet::start(3, &["--write-concern", "local"]);
    for _ in 0..rounds(ROUNDS) {
        let primary = fleet.await_whole();
        let clients: Vec<usize> = fleet.everybody().into_iter().cycle().take(6).collect();
        let more_ms = chance.below(3000);
        let (record, successor) = run(&mut fleet, Kind::Once, &clients, chance.branch(), |fleet, record| {
            pause(fleet, record, primary, more_ms)
        });
        check_lost(&fleet, &record, primary, "pauses, local");
        let late =
            missing(&fleet, &record, primary).into_iter().find(|note| returned(&note.call) > Some(successor));
        assert!(late.is_none(), "acknowledged after the successor had begun, and lost: {late:?}");
    }
}
