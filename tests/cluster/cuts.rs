//! The primary is cut off from the other nodes, in every way, while clients still reach it: it must stop to acknowledge before another begins.

use crate::finder::Way;
use crate::fleet::Fleet;
use crate::lab::CLIENTS;
use crate::rounds;
use crate::support::Chance;
use crate::workload::{Kind, Record, check, check_lost, missing, read_all, returned, run, run_with};
use std::time::Duration;

const ROUNDS: u64 = 4;

/// How the primary is cut off.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// No node reaches it, and it reaches none; clients do.
    Nodes,
    /// It reaches nobody, but hears all.
    Mute,
    /// It hears nobody, but reaches all.
    Deaf,
    /// Nobody reaches it, no client either.
    Everything,
}

const CUTS: [Cut; 4] = [Cut::Nodes, Cut::Mute, Cut::Deaf, Cut::Everything];

fn cut_off(fleet: &Fleet, primary: usize, cut: Cut) {
    for other in fleet.others(&[primary]) {
        match cut {
            Cut::Nodes | Cut::Everything => fleet.lab.cut(primary, other),
            Cut::Mute => fleet.lab.cut_one_way(primary, other),
            Cut::Deaf => fleet.lab.cut_one_way(other, primary),
        }
    }
    if matches!(cut, Cut::Everything) {
        fleet.lab.cut(primary, CLIENTS);
    }
}

/// Cuts the primary off until the others write, and some time more; returns when its successor first acknowledged a write, and the heal.
fn cut_and_heal(
    fleet: &mut Fleet,
    record: &Record,
    primary: usize,
    cut: Cut,
    chance: &mut Chance,
) -> (u64, u64) {
    let others = fleet.others(&[primary]);
    record.await_write(record.now(), &[primary]);
    std::thread::sleep(Duration::from_millis(chance.below(400)));
    cut_off(fleet, primary, cut);
    let cut_at = record.now();
    let successor = record.await_write(cut_at, &others);
    eprintln!("{cut:?}: {} ms from the cut to a write", (successor - cut_at) / 1_000_000);
    // Clients of the one that is cut off try on.
    std::thread::sleep(Duration::from_millis(500 + chance.below(1500)));
    let healed = record.now();
    fleet.lab.heal();
    fleet.await_whole();
    for node in fleet.everybody() {
        record.await_write(record.now(), &[node]);
    }
    (successor, healed)
}

/// Fails if the one that was cut off acknowledged a write that was sent after its successor's first.
fn check_fenced(record: &Record, primary: usize, (successor, healed): (u64, u64), cut: Cut) {
    let late: Vec<_> = record
        .acknowledged_since(successor, &[primary])
        .into_iter()
        .filter(|note| returned(&note.call).is_some_and(|at| at < healed))
        .collect();
    assert!(
        late.is_empty(),
        "{cut:?}: acknowledged while its successor did: {:?}",
        &late[..late.len().min(5)]
    );
}

#[test]
fn under_majority_a_primary_that_is_cut_off_acknowledges_nothing_beside_its_successor() {
    let mut chance = Chance::seeded("cuts, majority");
    let mut fleet = Fleet::start(3, &["--write-concern", "majority"]);
    for round in 0..rounds(ROUNDS) {
        let cut = CUTS[(round % 4) as usize];
        let primary = fleet.await_whole();
        let clients: Vec<usize> = fleet.everybody().into_iter().cycle().take(6).collect();
        let (aware, own) = ([Way::Sentinel; 2], chance.branch());
        let (record, moments) = run_with(&mut fleet, Kind::Shared, &clients, &aware, own, |fleet, record| {
            cut_and_heal(fleet, record, primary, cut, &mut chance)
        });
        check_fenced(&record, primary, moments, cut);
        read_all(&fleet, &record, primary);
        check(&record, &format!("{cut:?}, majority"));
    }
}

#[test]
fn under_local_what_a_primary_acknowledged_while_it_was_cut_off_is_told() {
    let mut chance = Chance::seeded("cuts, local");
    let mut fleet = Fleet::start(3, &["--write-concern", "local"]);
    for round in 0..rounds(ROUNDS) {
        let cut = CUTS[(round % 4) as usize];
        let primary = fleet.await_whole();
        let clients: Vec<usize> = fleet.everybody().into_iter().cycle().take(6).collect();
        let (record, moments) = run(&mut fleet, Kind::Once, &clients, chance.branch(), |fleet, record| {
            cut_and_heal(fleet, record, primary, cut, &mut chance)
        });
        check_fenced(&record, primary, moments, cut);
        let what = format!("{cut:?}, local");
        check_lost(&fleet, &record, primary, &what);
        if matches!(cut, Cut::Everything) {
            continue; // What was acknowledged before the cut reaches its client after the heal.
        }
        let late =
            missing(&fleet, &record, primary).into_iter().find(|note| returned(&note.call) > Some(moments.0));
        assert!(late.is_none(), "{what}: acknowledged after the successor had begun, and lost: {late:?}");
    }
}

#[test]
fn a_replica_that_is_cut_off_disturbs_nobody() {
    let mut chance = Chance::seeded("cut replicas");
    let mut fleet = Fleet::start(3, &["--write-concern", "majority"]);
    let primary = fleet.await_whole();
    let others = fleet.others(&[primary]);
    for round in 0..rounds(2) {
        let (away, stays) = (others[(round % 2) as usize], others[1 - (round % 2) as usize]);
        let clients = [primary, stays, primary, stays];
        let (record, ()) = run(&mut fleet, Kind::Shared, &clients, chance.branch(), |fleet, record| {
            record.await_write(record.now(), &clients);
            fleet.lab.cut(away, primary);
            fleet.lab.cut(away, stays);
            std::thread::sleep(Duration::from_millis(3000 + chance.below(2000)));
            record.await_write(record.now(), &[primary]);
            record.await_write(record.now(), &[stays]);
            fleet.lab.heal();
            assert_eq!(fleet.await_whole(), primary, "nobody else became primary");
        });
        assert!(record.errors().is_empty(), "{:?}", record.errors());
        read_all(&fleet, &record, away);
        check(&record, "a replica was cut off");
    }
}
