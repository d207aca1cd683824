//! Commands that wait for data at the primary, for clients of other nodes: their order, their end, and what becomes of them when another
//! node becomes primary.

use super::forward_tests::{Fate, Mesh};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn who_waits_at_another_node_is_served_in_order() {
    let mesh = Mesh::new(3, &[]);
    let (mut first, mut second, mut third) = (mesh.client(1), mesh.client(0), mesh.client(2));
    let mut pusher = mesh.client(2);
    for client in [&mut first, &mut second, &mut third] {
        client.send("BLPOP l 0|").await;
        client.expect_nothing().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // Those at other nodes have been asked again whether they still wait.
    tokio::time::sleep(Duration::from_secs(64)).await;
    pusher.send("RPUSH l 1 2 3 4|").await;
    pusher.expect(":4|").await;
    first.expect("*2|$1|l|$1|1|").await;
    second.expect("*2|$1|l|$1|2|").await;
    third.expect("*2|$1|l|$1|3|").await;
    pusher.send("LRANGE l 0 -1|").await;
    pusher.expect("*1|$1|4|").await;
    assert!(mesh.service(0).waiting.is_empty());
}

#[tokio::test(start_paused = true)]
async fn members_are_waited_for_as_elements_are() {
    let mesh = Mesh::new(2, &[]);
    let (mut far, mut near) = (mesh.client(1), mesh.client(0));
    far.send("BZPOPMIN y z 0|").await;
    near.send("BZMPOP 0 1 z MAX COUNT 5|").await;
    far.expect_nothing().await;
    near.expect_nothing().await;
    let mut other = mesh.client(1);
    other.send("ZADD y 1.5 m|").await;
    other.expect(":1|").await;
    far.expect("*3|$1|y|$1|m|$3|1.5|").await;
    other.send("ZADD z 2 n 3 o|").await;
    other.expect(":2|").await;
    near.expect("*2|$1|z|*2|*2|$1|o|$1|3|*2|$1|n|$1|2|").await;
    assert!(mesh.service(0).waiting.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_waits_goes_on_at_the_next_primary_and_keeps_the_place() {
    let mesh = Mesh::new(3, &[]);
    let (mut near, mut far, mut own) = (mesh.client(0), mesh.client(2), mesh.client(1));
    for client in [&mut near, &mut far, &mut own] {
        client.send("BLMOVE l m LEFT RIGHT 0|").await;
        client.expect_nothing().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    mesh.replicate(0);
    mesh.promote(None);
    tokio::time::sleep(Duration::from_secs(1)).await;
    near.expect_nothing().await;
    mesh.promote(Some(1));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut pusher = mesh.client(0);
    pusher.send("RPUSH l 1 2 3|").await;
    pusher.expect(":3|").await;
    near.expect("$1|1|").await;
    far.expect("$1|2|").await;
    own.expect("$1|3|").await;
    pusher.send("LRANGE m 0 -1|").await;
    pusher.expect("*3|$1|1|$1|2|$1|3|").await;
    near.send("PING|").await;
    near.expect("+PONG|").await;
}

#[tokio::test(start_paused = true)]
async fn the_time_that_is_left_goes_along() {
    let mesh = Mesh::new(2, &[]);
    let begun = tokio::time::Instant::now();
    let (mut far, mut near) = (mesh.client(1), mesh.client(0));
    far.send("BLPOP l 70|").await;
    near.send("BLPOP l 0|").await;
    near.expect_nothing().await;
    tokio::time::sleep(Duration::from_secs(69)).await;
    far.expect_nothing().await;
    far.expect("*-1|").await;
    assert!(begun.elapsed() < Duration::from_secs(72));
    near.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_client_that_left_has_waited_for_stays() {
    let mesh = Mesh::new(2, &[]);
    let (mut far, mut near) = (mesh.client(1), mesh.client(0));
    far.send("BLPOP l 0|").await;
    far.expect_nothing().await;
    assert!(!mesh.service(0).waiting.is_empty());
    drop(far);
    while !mesh.service(0).waiting.is_empty() {
        tokio::task::yield_now().await;
    }
    near.send("RPUSH l x|LLEN l|").await;
    near.expect(":1|:1|").await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_at_another_node_is_unblocked_where_the_client_is() {
    let mesh = Mesh::new(2, &[]);
    let (mut far, mut other) = (mesh.client(1), mesh.client(1));
    for (how, reply) in
        [("", "*-1|"), (" ERROR", "-UNBLOCKED client unblocked via CLIENT UNBLOCK|"), (" TIMEOUT", "*-1|")]
    {
        far.send("BRPOP l 0|").await;
        far.expect_nothing().await;
        let id = mesh.service(1).clients.list()[0].id;
        other.send(&format!("CLIENT UNBLOCK {id}{how}|")).await;
        other.expect(":1|").await;
        far.expect(reply).await;
    }
    assert!(mesh.service(0).waiting.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_element_is_taken_once_whatever_is_lost_on_the_way() {
    for fate in [Fate::RequestLost, Fate::AnswerLost] {
        let mesh = Mesh::new(2, &[]);
        let (mut far, mut near) = (mesh.client(1), mesh.client(0));
        mesh.lose(&[fate]);
        far.send("BLPOP l 0|").await;
        far.expect_nothing().await;
        near.send("RPUSH l 1 2|").await;
        near.expect(":2|").await;
        far.expect("*2|$1|l|$1|1|").await;
        near.send("LRANGE l 0 -1|").await;
        near.expect("*1|$1|2|").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_dies_after_it_has_served_has_served_once() {
    let mesh = Mesh::new(2, &[]);
    let (mut far, mut near) = (mesh.client(1), mesh.client(0));
    mesh.lose(&[Fate::DiesAfter]);
    far.send("BLPOP l 0|").await;
    far.expect_nothing().await;
    near.send("RPUSH l 1 2|").await;
    near.expect(":2|").await;
    mesh.replicate(0);
    far.expect_nothing().await;
    mesh.promote(Some(1));
    far.expect("*2|$1|l|$1|1|").await;
    far.send("LRANGE l 0 -1|").await;
    far.expect("*1|$1|2|").await;
}
