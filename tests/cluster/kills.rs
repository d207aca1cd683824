//! The primary gets `kill -9` again and again while clients work at the nodes that stay, or look for it; then it comes back and follows.

use crate::finder::Way;
use crate::fleet::Fleet;
use crate::rounds;
use crate::support::Chance;
use crate::workload::{Kind, check, check_lost, read_all, run_with};

const ROUNDS: u64 = 4;

/// Kills the primary and brings it back, so many times. Milliseconds without an acknowledged write, for each.
fn kill_primaries(fleet: &mut Fleet, chance: &mut Chance, kind: Kind, what: &str) {
    for round in 1..=rounds(ROUNDS) {
        let victim = fleet.await_whole();
        let others = fleet.others(&[victim]);
        let clients: Vec<usize> = others.iter().copied().cycle().take(6).collect();
        let aware = [Way::Sentinel; 2];
        let (record, ()) = run_with(fleet, kind, &clients, &aware, chance.branch(), |fleet, record| {
            record.await_write(record.now(), &others);
            std::thread::sleep(std::time::Duration::from_millis(chance.below(400)));
            let killed = record.now();
            fleet.kill(victim);
            for node in &others {
                record.await_write(record.now(), &[*node]);
            }
            let pause_ms = record.longest_pause_ms(killed, record.now());
            eprintln!("{what}, round {round}: {pause_ms} ms without a write");
            fleet.start_node(victim);
            fleet.await_whole();
            record.await_write(record.now(), &others);
        });
        let broken: Vec<_> = record.errors().into_keys().filter(|text| text.starts_with("conn")).collect();
        assert!(broken.is_empty(), "clients of nodes that stayed lost their connection: {broken:?}");
        if kind == Kind::Shared {
            read_all(fleet, &record, others[0]);
            check(&record, what);
        } else {
            check_lost(fleet, &record, others[0], what);
        }
    }
}

#[test]
fn under_majority_nothing_acknowledged_is_lost_when_primaries_are_killed() {
    let mut chance = Chance::seeded("kills, majority");
    let mut fleet = Fleet::start(3, &["--write-concern", "majority"]);
    kill_primaries(&mut fleet, &mut chance, Kind::Shared, "kills, majority");
}

#[test]
fn under_local_what_is_lost_when_primaries_are_killed_is_told() {
    let mut chance = Chance::seeded("kills, local");
    let mut fleet = Fleet::start(3, &["--write-concern", "local"]);
    kill_primaries(&mut fleet, &mut chance, Kind::Once, "kills, local");
}
