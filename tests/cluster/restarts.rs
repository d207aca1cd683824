//! Nodes that stop and start: one after the other, all at once, elsewhere, empty.

use crate::fleet::{Fleet, WITHIN};
use crate::rounds;
use crate::support::{Chance, wait_until};
use crate::workload::{Kind, check, missing, read_all, run};

#[test]
fn a_rolling_restart_costs_no_client_an_error() {
    let mut chance = Chance::seeded("rolling restarts");
    let mut fleet = Fleet::start(3, &["--write-concern", "majority"]);
    for _ in 0..rounds(1) {
        // Each node in turn; the clients are at the others.
        for number in fleet.everybody() {
            let others = fleet.others(&[number]);
            let clients: Vec<usize> = others.iter().copied().cycle().take(4).collect();
            let (record, ()) = run(&mut fleet, Kind::Shared, &clients, chance.branch(), |fleet, record| {
                record.await_write(record.now(), &others);
                let from = record.now();
                fleet.terminate(number);
                for node in &others {
                    record.await_write(record.now(), &[*node]);
                }
                eprintln!(
                    "stopped {number}: {} ms without a write",
                    record.longest_pause_ms(from, record.now())
                );
                fleet.start_node(number);
                fleet.await_whole();
                record.await_write(record.now(), &others);
            });
            assert!(record.errors().is_empty(), "{:?}", record.errors());
            read_all(&fleet, &record, number);
            check(&record, "rolling restart");
        }
    }
}

#[test]
fn all_nodes_start_again_elsewhere_and_form_the_cluster_by_themselves() {
    let mut chance = Chance::seeded("new addresses");
    let mut fleet = Fleet::start(3, &["--write-concern", "majority"]);
    for round in 1..=rounds(1) {
        let (record, ()) = run(&mut fleet, Kind::Once, &[1, 2, 3], chance.branch(), |_, record| {
            [1, 2, 3].into_iter().for_each(|node| _ = record.await_write(record.now(), &[node]));
        });
        for number in fleet.everybody() {
            if chance.below(2) == 0 {
                fleet.kill(number);
            } else {
                fleet.terminate(number);
            }
        }
        for number in fleet.everybody() {
            fleet.move_node(number, 10 + (round as usize % 8) * 10 + number);
        }
        fleet.everybody().into_iter().for_each(|number| fleet.start_node(number));
        fleet.await_whole();
        for number in fleet.everybody() {
            fleet.await_writes(number);
        }
        let missing = missing(&fleet, &record, 1);
        assert!(missing.is_empty(), "{missing:?}");
    }
}

#[test]
fn an_emptied_node_never_becomes_primary_and_empties_nobody() {
    let mut chance = Chance::seeded("emptied nodes");
    let mut fleet = Fleet::start(3, &["--write-concern", "majority"]);
    for _ in 0..rounds(1) {
        let (record, ()) = run(&mut fleet, Kind::Once, &[1, 2, 3], chance.branch(), |_, record| {
            [1, 2, 3].into_iter().for_each(|node| _ = record.await_write(record.now(), &[node]));
        });
        // The primary dies, loses all, and comes back before anybody can have taken its place.
        let victim = fleet.await_whole();
        fleet.kill(victim);
        fleet.empty(victim);
        fleet.start_node(victim);
        let others = fleet.others(&[victim]);
        let successor = fleet.await_primary(&others);
        fleet.await_writes(successor);
        let found = missing(&fleet, &record, successor);
        assert!(found.is_empty(), "{} are missing: {:?}", found.len(), found.first());
        assert!(fleet.primaries(&[victim]).is_empty(), "the emptied node is primary");
        // It gets everything, as a node that is new: once the one that it was counts as lost, a minute later.
        wait_until("the emptied node has everything", WITHIN * 3, || {
            fleet.info(victim, "replication", "master_link_status").as_deref() == Some("up")
                && size_at(&fleet, victim) == size_at(&fleet, successor)
                // As a copy that counts: without that, one more that is lost is too much.
                && fleet.info(successor, "cluster", "larder_cluster_learners").as_deref() == Some("0")
        });
    }
}

fn size_at(fleet: &Fleet, number: usize) -> String {
    let client = fleet.connect(number, std::time::Duration::from_secs(5));
    client
        .and_then(|mut client| client.try_ask(&["DBSIZE"]))
        .map_or_else(|error| error.to_string(), |size| size.to_string())
}
