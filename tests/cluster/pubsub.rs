//! Messages between nodes, and what Sentinels would publish.

use crate::fleet::{Fleet, WITHIN};
use crate::support::{Client, Value, wait_until};
use std::collections::BTreeSet;

fn listener(fleet: &Fleet, number: usize, lines: &[&str]) -> Client {
    let mut client = fleet.connect(number, WITHIN).expect("the node answers");
    lines.iter().for_each(|line| _ = client.line(line));
    client
}

/// The words of the next message.
fn message(listener: &mut Client) -> Vec<String> {
    listener.read().expect("a message comes").items().iter().map(Value::text).collect()
}

#[test]
fn what_is_published_on_any_node_reaches_who_listens_on_all_in_order() {
    const EACH: usize = 500;
    let fleet = Fleet::start(3, &[]);
    fleet.await_whole();
    let mut by_name: Vec<Client> = Vec::new();
    let mut by_shard: Vec<Client> = Vec::new();
    for number in fleet.everybody() {
        by_name.push(listener(&fleet, number, &["SUBSCRIBE c"]));
        by_shard.push(listener(&fleet, number, &["SSUBSCRIBE c"]));
    }
    for number in fleet.everybody() {
        let mut publisher = fleet.connect(number, WITHIN).expect("the node answers");
        publisher.expect(&["PUBLISH", "nobody", "x"], ":0");
        let words = |count| ["PUBLISH".to_owned(), "c".to_owned(), format!("{number}:{count}")];
        publisher.pipeline((0..EACH).map(|count| words(count).map(String::into_bytes).to_vec()));
        // The count is that of this node's own clients, as in a Redis Cluster.
        publisher.expect(&["SPUBLISH", "c", &number.to_string()], ":1");
    }
    for listener in &mut by_name {
        let found: Vec<String> = (0..3 * EACH).map(|_| message(listener).remove(2)).collect();
        for number in fleet.everybody() {
            let prefix = format!("{number}:");
            let own: Vec<&String> = found.iter().filter(|payload| payload.starts_with(&prefix)).collect();
            let expect: Vec<String> = (0..EACH).map(|count| format!("{number}:{count}")).collect();
            assert!(
                own.into_iter().eq(&expect),
                "messages of node {number}, in the order they were published"
            );
        }
    }
    for listener in &mut by_shard {
        let found: BTreeSet<Vec<String>> = (0..3).map(|_| message(listener)).collect();
        let expect = ["1", "2", "3"].map(|number| ["smessage", "c", number].map(str::to_owned).to_vec());
        assert_eq!(found, BTreeSet::from(expect));
    }
    for number in fleet.everybody() {
        assert_eq!(fleet.info(number, "stats", "larder_pubsub_dropped").as_deref(), Some("0"));
        let passed_on = (2 * (EACH + 2)).to_string();
        wait_until("both others have taken all", WITHIN, || {
            fleet.info(number, "stats", "larder_pubsub_passed_on").as_ref() == Some(&passed_on)
        });
    }
}

#[test]
fn who_listens_for_a_switch_of_the_primary_is_told_on_every_node_that_stays() {
    let mut fleet = Fleet::start(3, &[]);
    let first = fleet.await_whole();
    let others = fleet.others(&[first]);
    let place = |fleet: &Fleet, number: usize| {
        let address = fleet.socket_address(number);
        format!("{} {}", address.ip(), address.port())
    };
    let mut listeners: Vec<Client> = others
        .iter()
        .map(|number| listener(&fleet, *number, &["SUBSCRIBE +switch-master +sdown -sdown"]))
        .collect();
    for listener in &mut listeners {
        (0..2).for_each(|_| _ = listener.read().expect("the other two replies"));
    }
    fleet.kill(first);
    let old = place(&fleet, first);
    let mut switched = Vec::new();
    for listener in &mut listeners {
        let mut told = BTreeSet::new();
        // Which of the two is seen first depends on who is quicker, gossip or the vote.
        while told.len() < 2 {
            let words = message(listener);
            if words[1] == "+switch-master" {
                switched.push(words[2].clone());
            } else {
                assert!(words[1] == "+sdown" && words[2].contains(&old), "{words:?}");
            }
            told.insert(words[1].clone());
        }
    }
    let second = fleet.await_primary(&others);
    let expect = format!("mymaster {old} {}", place(&fleet, second));
    assert_eq!(switched, [expect.clone(), expect]);
    fleet.start_node(first);
    for listener in &mut listeners {
        let words = message(listener);
        assert!(
            words[1] == "-sdown" && words[2].starts_with("slave ") && words[2].contains(&old),
            "{words:?}"
        );
    }
}
