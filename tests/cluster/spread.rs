//! Primaries spread over the nodes, as in Redis Cluster: one of them is killed, cut off, paused, with plain clients at the nodes and such as
//! follow CLUSTER SLOTS and MOVED.

use crate::finder::Way;
use crate::fleet::Fleet;
use crate::rounds;
use crate::support::Chance;
use crate::workload::{Kind, Record, check, read_all, returned, run_with};
use larder::base::crc16;
use rustix::process::Signal;
use std::time::Duration;

const FLAGS: &[&str] = &["--write-concern", "majority", "--cluster-enabled", "yes"];
const ROUNDS: u64 = 2;

/// First and last slots that a node is primary of.
fn slots_of(fleet: &Fleet, number: usize) -> Vec<(u16, u16)> {
    let client = fleet.connect(number, Duration::from_secs(5));
    let slots = client.and_then(|mut client| client.try_ask(&["CLUSTER", "SLOTS"])).expect("it runs");
    let host = fleet.socket_address(number).ip().to_string();
    let ranges = slots.items().iter().map(|range| range.items());
    let own = ranges.filter(|range| range[2].items()[0].text() == host);
    own.map(|range| (range[0].integer() as u16, range[1].integer() as u16)).collect()
}

fn is_in(slots: &[(u16, u16)], key: &str) -> bool {
    let slot = crc16::slot(key.as_bytes()).0;
    slots.iter().any(|(first, last)| (*first..=*last).contains(&slot))
}

/// Does something to one of the primaries while clients work at all nodes (or at those that stay), until its keys are written again by
/// clients of the others, and some time more; then it is undone.
fn disturb(
    what: &str,
    has_own_clients: bool,
    strike: impl Fn(&mut Fleet, usize),
    undo: impl Fn(&mut Fleet, usize),
) {
    let mut chance = Chance::seeded(what);
    let mut fleet = Fleet::start(3, FLAGS);
    for _ in 0..rounds(ROUNDS) {
        fleet.await_spread();
        let victim = 1 + chance.below(3) as usize;
        let (slots, others) = (slots_of(&fleet, victim), fleet.others(&[victim]));
        let places = if has_own_clients { fleet.everybody() } else { others.clone() };
        let clients: Vec<usize> = places.iter().copied().cycle().take(6).collect();
        let (aware, own) = ([Way::Cluster; 3], chance.branch());
        let (record, moments) = run_with(&mut fleet, Kind::Shared, &clients, &aware, own, |fleet, record| {
            places.iter().for_each(|node| _ = record.await_write(record.now(), &[*node]));
            std::thread::sleep(Duration::from_millis(chance.below(400)));
            strike(fleet, victim);
            let struck = record.now();
            let successor = record.await_write_of(struck, &others, |key| is_in(&slots, key));
            eprintln!("{what}: {} ms to a write of its keys", (successor - struck) / 1_000_000);
            // Clients of the one that was struck try on.
            std::thread::sleep(Duration::from_millis(500 + chance.below(1500)));
            let undone = record.now();
            undo(fleet, victim);
            fleet.await_spread();
            places.iter().for_each(|node| _ = record.await_write(record.now(), &[*node]));
            (successor, undone)
        });
        check_fenced(&record, victim, &slots, moments, what);
        read_all(&fleet, &record, others[0]);
        check(&record, what);
    }
}

/// Fails if the one that was struck acknowledged a write of what it was primary of, sent after its successor's first.
fn check_fenced(
    record: &Record,
    victim: usize,
    slots: &[(u16, u16)],
    (successor, undone): (u64, u64),
    what: &str,
) {
    let late = record
        .acknowledged_since(successor, &[victim])
        .into_iter()
        .find(|note| is_in(slots, &note.key) && returned(&note.call).is_some_and(|at| at < undone));
    assert!(late.is_none(), "{what}: acknowledged while its successor did: {late:?}");
}

#[test]
fn a_primary_of_several_is_killed() {
    disturb("spread, kill", false, Fleet::kill, Fleet::start_node);
}

#[test]
fn a_primary_of_several_is_cut_off_from_the_other_nodes() {
    let cut = |fleet: &mut Fleet, victim: usize| {
        fleet.others(&[victim]).into_iter().for_each(|other| fleet.lab.cut(victim, other));
    };
    disturb("spread, cut", true, cut, |fleet, _| fleet.lab.heal());
}

#[test]
fn a_primary_of_several_is_paused() {
    let hold = |fleet: &mut Fleet, victim: usize| {
        fleet.signal(victim, Signal::STOP);
        fleet.await_stopped(victim);
    };
    disturb("spread, pause", true, hold, |fleet, victim| fleet.signal(victim, Signal::CONT));
}
