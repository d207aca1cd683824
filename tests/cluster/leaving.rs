//! What an operator orders: a node is to leave; there are to be more copies or fewer; another is to be primary. Under load.

use crate::fleet::{Fleet, WITHIN};
use crate::support::{Chance, Client, wait_until};
use crate::workload::{Kind, Record, check, read_all, run};
use std::time::Duration;

fn order(client: &mut Client, words: &[&str]) {
    assert_eq!(client.ask(words).to_string(), "OK", "{words:?}");
}

fn connect(fleet: &Fleet, number: usize) -> Client {
    fleet.connect(number, Duration::from_secs(15)).expect("the node runs")
}

fn cluster(fleet: &Fleet, number: usize, field: &str) -> Option<String> {
    fleet.info(number, "cluster", field)
}

/// Copies of partitions that all nodes have together.
fn copies(fleet: &Fleet, number: usize) -> u32 {
    let lines = (0..3).filter_map(|other| cluster(fleet, number, &format!("larder_cluster_node{other}")));
    let count = |line: String| line.rsplit('=').next().and_then(|count| count.parse::<u32>().ok());
    lines.filter_map(count).sum()
}

/// A replica that is to follow less than before makes its link anew. Where it is the only one of something, writes of that are refused
/// meanwhile, and not done; nothing else goes wrong.
fn assert_no_error(record: &Record) {
    let errors = record.errors();
    assert!(errors.keys().all(|error| error.starts_with("NOREPLICAS")), "{errors:?}");
}

#[test]
fn a_primary_leaves_and_another_comes_without_an_error() {
    let mut chance = Chance::seeded("leaving");
    // Three nodes have two copies of everything between them.
    let mut fleet = Fleet::prepare(3, &["--write-concern", "majority", "--replicas", "1"]);
    fleet.everybody().into_iter().for_each(|number| fleet.start_node(number));
    let primary = fleet.await_primary(&[1, 2, 3]);
    wait_until("everything has two copies", WITHIN, || {
        fleet.info(primary, "replication", "connected_slaves").is_some_and(|count| count != "0")
            && cluster(&fleet, primary, "larder_cluster_learners").as_deref() == Some("0")
    });
    let others = fleet.others(&[primary]);
    let mut asking = connect(&fleet, others[0]);
    let leaving = cluster(&fleet, primary, "larder_cluster_node_id").expect("the node runs");
    let (record, ()) = run(&mut fleet, Kind::Shared, &others, chance.branch(), |fleet, record| {
        record.await_write(record.now(), &others);
        order(&mut asking, &["CLUSTER", "FORGET", &leaving]);
        let mut next = 0;
        wait_until("who leaves has nothing, another is primary, and the third follows it", WITHIN, || {
            let [primary] = fleet.primaries(&others)[..] else { return false };
            next = primary;
            let lines =
                (0..3).filter_map(|number| cluster(fleet, next, &format!("larder_cluster_node{number}")));
            let mut lines = lines.filter(|line| line.starts_with(&format!("id={leaving},")));
            let has_left = lines.any(|line| line.ends_with("state=leaving,primary_of=0,copies_of=0"));
            has_left
                && fleet.info(next, "replication", "connected_slaves").as_deref() == Some("1")
                && cluster(fleet, next, "larder_cluster_learners").as_deref() == Some("0")
                && fleet.info(next, "replication", "slave0").is_some_and(|line| line.contains("state=online"))
        });
        record.await_write(record.now(), &others);
        // Nothing hangs on it any more, not even for a moment.
        fleet.kill(primary);
        record.await_write(record.now(), &others);
        wait_until("it is forgotten", WITHIN * 3, || {
            cluster(fleet, next, "larder_cluster_nodes").as_deref() == Some("2")
        });
        record.await_write(record.now(), &others);
    });
    assert_no_error(&record);
    read_all(&fleet, &record, others[0]);
    check(&record, "a primary that leaves");
    // Started again, it is a new member, and may be needed.
    fleet.start_node(primary);
    wait_until("it is let in again", WITHIN, || {
        cluster(&fleet, others[0], "larder_cluster_nodes").as_deref() == Some("3")
    });
    fleet.await_writes(primary);
}

#[test]
fn replicas_and_primaries_are_changed_by_order() {
    let mut chance = Chance::seeded("orders");
    let mut fleet = Fleet::start(3, &["--write-concern", "majority"]);
    let primary = fleet.await_whole();
    let others = fleet.others(&[primary]);
    let (record, ()) = run(&mut fleet, Kind::Shared, &others, chance.branch(), |fleet, record| {
        record.await_write(record.now(), &others);
        for replicas in ["1", "2"] {
            order(&mut connect(fleet, others[0]), &["CONFIG", "SET", "replicas", replicas]);
            wait_until("there are so many replicas", WITHIN, || {
                cluster(fleet, primary, "larder_cluster_replicas").as_deref() == Some(replicas)
                    && cluster(fleet, primary, "larder_cluster_learners").as_deref() == Some("0")
                    && copies(fleet, primary) == 16 * (replicas.parse::<u32>().expect("it is a number") + 1)
            });
            record.await_write(record.now(), &others);
        }
        fleet.await_whole();
        let target = fleet.socket_address(others[1]);
        let (host, port) = (target.ip().to_string(), target.port().to_string());
        order(&mut connect(fleet, primary), &["FAILOVER", "TO", &host, &port]);
        wait_until("the one that was named is primary", WITHIN, || {
            fleet.primaries(&[1, 2, 3]) == [others[1]]
        });
        order(&mut connect(fleet, others[1]), &["FAILOVER"]);
        wait_until("another one is primary", WITHIN, || {
            let found = fleet.primaries(&[1, 2, 3]);
            found.len() == 1 && found != [others[1]]
        });
        record.await_write(record.now(), &others);
    });
    assert_no_error(&record);
    read_all(&fleet, &record, others[0]);
    check(&record, "orders");
}
