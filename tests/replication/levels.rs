//! Acknowledgement levels between two processes.

use crate::pair::{await_link, await_that, hold, replica_of, server};
use rustix::process::Signal;

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
