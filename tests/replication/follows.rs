//! What is written at the primary is soon at the replica.

use crate::pair::{await_equal, await_link, await_that, hold, info, replica_of, server, sets};
use crate::support::words;
use rustix::process::Signal;

#[test]
fn everything_that_can_be_written_arrives() {
    let primary = server(&[]);
    let replica = replica_of(&primary, &[]);
    await_link(&replica);
    let mut client = primary.connect();
    for line in [
        "SET text hello",
        "APPEND text \" world\"",
        "SETBIT bits 100000 1",
        "INCRBYFLOAT number 1.5",
        "HSET small field value",
        "SET other x EX 1000",
        "MSET {a}1 x b y c z",
        "SELECT 5",
        "SET elsewhere x",
        "FLUSHDB",
        "SET again x",
        "SWAPDB 0 5",
        "MULTI",
        "SET one 1",
        "SET two 2",
        "DEL text",
        "EXEC",
        "RENAME one three",
        "EXPIRE three 1000",
    ] {
        assert!(!client.line(line).starts_with('-'), "{line}");
    }
    let fields = (0..2000).flat_map(|number| [format!("field:{number}"), "x".repeat(50)]);
    let large: Vec<String> = ["HSET", "large"].map(str::to_owned).into_iter().chain(fields).collect();
    client.ask(&large);
    client.pipeline(sets(0, 5000, 100));
    await_equal(&primary, &replica);
    client.check(&[("FLUSHALL", "OK"), ("SET last x", "OK")]);
    await_equal(&primary, &replica);
    assert_eq!(replica.connect().line("DBSIZE"), ":0");
}

#[test]
fn a_value_larger_than_any_window_arrives() {
    let primary = server(&[]);
    let replica = replica_of(&primary, &[]);
    await_link(&replica);
    let value: Vec<u8> = (0..48_u32 << 20).map(|at| (at % 251) as u8).collect();
    primary.connect().expect(&[b"SET", b"large".as_slice(), &value], "OK");
    let mut client = replica.connect();
    await_that("the value is there", || client.line("STRLEN large") == format!(":{}", value.len()));
    await_equal(&primary, &replica);
}

#[test]
fn expired_keys_are_masked_at_once_and_removed_by_the_primary() {
    let primary = server(&[]);
    let replica = replica_of(&primary, &[]);
    await_link(&replica);
    let (mut first, mut second) = (primary.connect(), replica.connect());
    first.check(&[("DEBUG SET-ACTIVE-EXPIRE 0", "OK"), ("SET short x PX 300", "OK"), ("SET long x", "OK")]);
    await_equal(&primary, &replica);
    await_that("the time of the key is over", || second.line("GET short") == "nil");
    assert_eq!(second.line("DBSIZE"), ":2", "a replica removes nothing by itself");
    assert_eq!(second.line("TTL short"), ":-2");
    first.check(&[("DEBUG SET-ACTIVE-EXPIRE 1", "OK")]);
    await_that("the primary's removal arrives", || second.line("DBSIZE") == ":1");
}

#[test]
fn a_replica_takes_no_writes_and_says_whom_it_follows() {
    let primary = server(&[]);
    let replica = replica_of(&primary, &[]);
    await_link(&replica);
    let mut client = replica.connect();
    assert_eq!(client.line("SET key x"), "-READONLY You can't write against a read only replica.");
    assert_eq!(info(&mut client, "master_port"), Some(primary.port.to_string()));
    assert_eq!(info(&mut primary.connect(), "connected_slaves").as_deref(), Some("1"));
    client.check(&[("REPLICAOF NO ONE", "OK"), ("SET key x", "OK")]);
    await_that("the primary notices", || {
        info(&mut primary.connect(), "connected_slaves").as_deref() == Some("0")
    });
}

#[test]
fn a_password_is_needed_and_enough() {
    let primary = server(&["--requirepass", "secret"]);
    let replica = replica_of(&primary, &["--masterauth", "wrong"]);
    await_that("the refusal is logged", || replica.log().contains("WRONGPASS"));
    replica.connect().check(&[("CONFIG SET masterauth secret", "OK")]);
    await_link(&replica);
    primary.connect().check(&[("SET key x", "OK")]);
    await_that("the key is there", || replica.connect().line("GET key") == "\"x\"");
}

#[test]
fn who_cannot_be_followed_is_told_why() {
    let primary = server(&["--partitions", "4"]);
    let replica = replica_of(&primary, &["--partitions", "8"]);
    await_that("the refusal is logged", || replica.log().contains("there are 4 partitions here, not 8"));
    let itself = server(&[]);
    let port = itself.port.to_string();
    itself.connect().expect(&["REPLICAOF", "127.0.0.1", &port], "OK");
    await_that("the refusal is logged", || itself.log().contains("cannot follow itself"));
    let nobody = server(&["--replicaof", "127.0.0.1", "1"]);
    await_that("the failure is logged", || nobody.log().to_lowercase().contains("refused"));
    assert_eq!(words("a b").len(), 2);
}

#[test]
fn wait_counts_replicas_that_have_the_write() {
    let primary = server(&[]);
    let replicas = [replica_of(&primary, &[]), replica_of(&primary, &[])];
    replicas.iter().for_each(await_link);
    let mut client = primary.connect();
    client.check(&[("SET key x", "OK"), ("WAIT 2 60000", ":2")]);
    replicas.iter().for_each(|replica| assert_eq!(replica.connect().line("GET key"), "\"x\""));
    client.check(&[("SET key y", "OK"), ("WAITAOF 1 2 60000", "[:1 :2]"), ("WAIT 3 1", ":2")]);
}

#[test]
fn a_replica_refuses_reads_of_data_that_may_be_too_old() {
    let primary = server(&[]);
    let replica = replica_of(&primary, &["--replica-reads", "max-lag=5000"]);
    await_link(&replica);
    let mut reader = replica.connect();
    primary.connect().check(&[("SET key 1", "OK"), ("WAIT 1 0", ":1")]);
    await_that("its age is known", || reader.line("GET key") == "\"1\"");
    reader.check(&[("CONFIG SET replica-reads max-lag=300", "OK")]);
    hold(&primary);
    await_that("it may be too old", || {
        reader.line("GET key")
            == "-MASTERDOWN This replica may lack changes that are older than replica-reads allows."
    });
    primary.signal(Signal::CONT);
    await_that("its age is known again", || reader.line("GET key") == "\"1\"");
    reader.check(&[("CONFIG SET replica-reads primary", "OK")]);
    assert!(reader.line("GET key").starts_with("-MASTERDOWN This replica answers no reads"));
}
