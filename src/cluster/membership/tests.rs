//! Gossips in one process, over loopback.

use super::gossip::{Gossip, Settings};
use super::sealed::Seal;
use super::*;
use crate::base::clock::unix_ms;
use crate::cluster::trust::Trust;
use std::net::UdpSocket;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::timeout;

/// No test waits longer for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

fn node(number: u8) -> NodeId {
    NodeId([number; 20])
}

fn profile(number: u8) -> Profile {
    let address = Address { host: String::new(), port: 6000 + u16::from(number), bus_port: 16_000 };
    Profile { node: node(number), address, can_serve: true, ..Profile::default() }
}

fn secret(text: &str) -> Trust {
    Trust::sealed([text.as_bytes()])
}

fn start(number: u8, seeds: &[&Gossip], trust: Trust) -> Gossip {
    let seeds = seeds.iter().map(|seed| seed.address().to_string()).collect();
    let listen = "127.0.0.1:0".parse().expect("an address");
    let settings = Settings { listen, announce: None, seeds, trust };
    Gossip::start(settings, profile(number)).expect("a free port")
}

/// Waits until `is_so` of what this node sees.
async fn until(gossip: &Gossip, what: &str, is_so: impl Fn(&View) -> bool) {
    let mut view = gossip.view();
    let waiting = timeout(PATIENCE, view.wait_for(|view| is_so(view))).await;
    assert!(waiting.is_ok(), "{what}: {:?}", gossip.view().borrow());
}

fn live(view: &View) -> Vec<u8> {
    view.live.keys().map(|node| node.0[0]).collect()
}

#[tokio::test]
async fn nodes_find_one_another_from_one_seed_and_notice_who_is_gone() {
    for trust in [secret("s"), Trust::nearby()] {
        let first = start(1, &[], trust.clone());
        let second = start(2, &[&first], trust.clone());
        let third = start(3, &[&first], trust);
        for gossip in [&first, &second, &third] {
            until(gossip, "all", |view| live(view) == [1, 2, 3]).await;
        }
        let told = second.view().borrow().live[&node(3)].clone();
        let expect =
            Profile { address: Address { host: "127.0.0.1".into(), ..profile(3).address }, ..profile(3) };
        assert_eq!(told, expect, "an empty host is where its messages come from");
        let changed =
            Profile { partitions: 16, can_serve: false, position: (Epoch(2), Lsn(9)), ..profile(3) };
        third.tell(changed.clone());
        until(&second, "what changed", |view| view.live[&node(3)].position == changed.position).await;
        until(&second, "what changed", |view| !view.live[&node(3)].can_serve).await;
        drop(third);
        for gossip in [&first, &second] {
            until(gossip, "a death", |view| live(view) == [1, 2] && view.dead.contains_key(&node(3))).await;
        }
    }
}

#[tokio::test]
async fn a_node_that_comes_back_elsewhere_is_the_same_node() {
    let first = start(1, &[], secret("s"));
    let second = start(2, &[&first], secret("s"));
    until(&first, "the other", |view| live(view) == [1, 2]).await;
    drop(second);
    let again = start(2, &[&first], secret("s"));
    let elsewhere = Profile { address: Address { port: 7, ..profile(2).address }, ..profile(2) };
    again.tell(elsewhere);
    until(&first, "the new address", |view| {
        view.live.get(&node(2)).is_some_and(|profile| profile.address.port == 7)
    })
    .await;
    // Whatever becomes of what it was before, it is there.
    until(&again, "the other", |view| live(view) == [1, 2]).await;
    assert!(first.view().borrow().dead.is_empty());
}

#[tokio::test]
async fn who_has_another_secret_sees_nobody_and_is_seen_by_nobody() {
    let first = start(1, &[], secret("s"));
    let strangers = [start(8, &[&first], secret("t")), start(9, &[&first], Trust::nearby())];
    assert!(strangers.iter().all(|stranger| stranger.meet(first.address().to_string())));
    assert!(first.meet(strangers[0].address().to_string()));
    // Those who know it meet, by the same ways and later.
    let second = start(2, &[&first], secret("s"));
    let third = start(3, &[&second], secret("s"));
    for gossip in [&first, &second, &third] {
        until(gossip, "all", |view| live(view) == [1, 2, 3]).await;
        assert!(gossip.view().borrow().dead.is_empty());
    }
    for stranger in &strangers {
        assert_eq!(stranger.view().borrow().live.len(), 1);
    }
}

#[tokio::test]
async fn garbage_does_no_harm() {
    for trust in [secret("s"), Trust::nearby()] {
        let first = start(1, &[], trust.clone());
        let garbage = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let seal = Seal::new(&trust);
        let send = || {
            for length in [0, 1, 4, 60, 1400, 60_000] {
                let mut bytes = vec![0; length];
                rand::fill(&mut bytes[..]);
                garbage.send_to(&bytes, first.address()).expect("sent");
                // What begins like a datagram of the gossip.
                bytes.iter_mut().zip([0x53, 0xb0, 1, 0]).for_each(|(byte, value)| *byte = value);
                garbage.send_to(&bytes, first.address()).expect("sent");
                if let Some(seal) = &seal {
                    garbage.send_to(&seal.seal(&bytes, unix_ms()), first.address()).expect("sent");
                }
            }
        };
        send();
        let second = start(2, &[&first], trust);
        until(&second, "the other", |view| live(view) == [1, 2]).await;
        send();
        second.tell(Profile { partitions: 3, ..profile(2) });
        let has_changed = |view: &View| view.live.get(&node(2)).is_some_and(|other| other.partitions == 3);
        until(&first, "what changed", has_changed).await;
    }
}

#[tokio::test]
async fn lost_datagrams_are_no_deaths() {
    let first = start(1, &[], secret("s"));
    let second = start(2, &[&first], secret("s"));
    let third = start(3, &[&first], secret("s"));
    let all = [&first, &second, &third];
    for gossip in all {
        until(gossip, "all", |view| live(view) == [1, 2, 3]).await;
        gossip.loss.store(30, Ordering::Relaxed);
    }
    for round in 1..=20 {
        second.tell(Profile { partitions: round, ..profile(2) });
        for gossip in all {
            let mut view = gossip.view();
            loop {
                assert_eq!(live(&view.borrow_and_update()), [1, 2, 3], "round {round}");
                if view.borrow().live[&node(2)].partitions == round {
                    break;
                }
                timeout(PATIENCE, view.changed()).await.expect("it comes in the end").expect("it goes on");
            }
        }
    }
}

#[tokio::test]
async fn a_name_that_nobody_answers_for_delays_nothing() {
    let first = start(1, &[], secret("s"));
    let names = ["no-such-name.invalid:1", "no host at all", ""];
    let seeds = names.iter().map(|&name| name.to_owned()).chain([first.address().to_string()]).collect();
    let listen = "0.0.0.0:0".parse().expect("an address");
    let settings = Settings { listen, announce: None, seeds, trust: secret("s") };
    let second = Gossip::start(settings, profile(2)).expect("a free port");
    until(&second, "the other", |view| live(view) == [1, 2]).await;
    until(&first, "the other", |view| live(view) == [1, 2]).await;
}
