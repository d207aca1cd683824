//! Replies that wait for replicas: what was acknowledged under `majority` outlives the primary.

use crate::pair::{await_equal, await_link, await_that, hold, replica_of, server};
use crate::support::Value;
use rustix::process::Signal;
use std::sync::atomic::{AtomicU64, Ordering};

#[test]
fn what_a_majority_acknowledged_is_there_when_the_primary_dies() {
    let mut primary = server(&["--replicas", "2", "--write-concern", "majority"]);
    let replicas = [replica_of(&primary, &[]), replica_of(&primary, &[])];
    replicas.iter().for_each(await_link);
    let acknowledged = AtomicU64::new(0);
    let mut client = primary.connect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1_u64.. {
                match client.try_ask(&["SET", "counter", &number.to_string()]) {
                    Ok(Value::Simple(_)) => acknowledged.store(number, Ordering::Release),
                    _ => break,
                }
            }
        });
        await_that("some are acknowledged", || acknowledged.load(Ordering::Acquire) > 1000);
        primary.kill();
    });
    let acknowledged = acknowledged.load(Ordering::Acquire);
    let found = replicas
        .each_ref()
        .map(|replica| replica.connect().ask(&["GET", "counter"]).text().parse::<u64>().expect("a number"));
    // One of both is enough for a majority of three; the one that is further is the one to promote.
    assert!(found.iter().max() >= Some(&acknowledged), "{acknowledged} acknowledged, {found:?} found");
}

#[test]
fn without_enough_replicas_a_write_is_uncertain_and_so_is_who_reads_it() {
    let primary = server(&["--replicas", "2", "--write-concern-timeout", "300"]);
    let replicas = [replica_of(&primary, &[]), replica_of(&primary, &[])];
    replicas.iter().for_each(await_link);
    let (mut first, mut second) = (primary.connect(), primary.connect());
    first.check(&[("CLIENT WRITE-CONCERN majority", "OK"), ("SET key 1", "OK")]);
    hold(&replicas[0]);
    first.check(&[("SET key 2", "OK")]);
    hold(&replicas[1]);
    let reply = first.line("SET key 3");
    assert!(reply.starts_with("-UNCONFIRMED"), "{reply}");
    let reply = second.line("GET key");
    assert!(reply.starts_with("-UNCONFIRMED"), "a reader would learn what may be lost: {reply}");
    second.check(&[("SET foo x", "OK"), ("PING", "PONG")]);
    replicas.iter().for_each(|replica| replica.signal(Signal::CONT));
    await_that("it is confirmed", || second.line("GET key") == "\"3\"");
    replicas.iter().for_each(|replica| await_equal(&primary, replica));
}

#[test]
fn a_write_without_replicas_is_refused_before_it_is_made() {
    let primary = server(&["--write-concern", "majority"]);
    let mut client = primary.connect();
    let reply = client.line("SET key x");
    assert_eq!(reply, "-NOREPLICAS Not enough good replicas to write.");
    client.check(&[("GET key", "nil"), ("CLIENT WRITE-CONCERN local", "OK"), ("SET key x", "OK")]);
}

#[test]
fn a_write_waits_for_the_replica_and_so_does_whoever_sees_it() {
    let primary = server(&["--write-concern", "majority", "--write-concern-timeout", "400"]);
    let mut client = primary.connect();
    assert_eq!(client.line("SET key 0"), "-NOREPLICAS Not enough good replicas to write.");
    let replica = replica_of(&primary, &[]);
    await_link(&replica);
    await_that("the replica is in step", || client.line("SET key 1") == "OK");
    assert_eq!(replica.connect().line("GET key"), "\"1\"", "what is acknowledged is there");
    client.check(&[("WAIT 1 0", ":1"), ("WAITAOF 0 1 0", "[:1 :1]")]);

    hold(&replica);
    let mut reader = primary.connect();
    assert!(client.line("SET key 2").starts_with("-UNCONFIRMED The change is stored here"));
    assert!(reader.line("GET key").starts_with("-UNCONFIRMED The data was changed"));
    reader.check(&[("CLIENT WRITE-CONCERN", "\"majority\""), ("CLIENT WRITE-CONCERN local", "OK")]);
    assert_eq!(client.line("WAIT 1 100"), ":0");
    replica.signal(Signal::CONT);
    await_that("the replica has it", || reader.line("GET key") == "\"2\"");
    await_that("the replica shows it", || replica.connect().line("GET key") == "\"2\"");
}
