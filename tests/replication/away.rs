//! One of both is away for a while: stopped, killed, or only silent.

use crate::pair::{await_equal, await_link, await_that, hold, info, replica_of, server, sets};
use rustix::process::Signal;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[test]
fn a_replica_that_was_stopped_catches_up_from_the_journal() {
    let primary = server(&[]);
    let mut replica = replica_of(&primary, &[]);
    await_link(&replica);
    let mut client = primary.connect();
    client.pipeline(sets(0, 2000, 100));
    assert!(replica.terminate().success());
    client.pipeline(sets(1000, 20_000, 100));
    client.check(&[("SAVE", "OK")]);
    replica.start_again();
    await_link(&replica);
    await_equal(&primary, &replica);
    assert!(!replica.log().contains("receiving a snapshot"), "{}", replica.log());
}

#[test]
fn kills_of_either_lose_nothing_that_was_acknowledged() {
    let mut primary = server(&[]);
    let mut replica = replica_of(&primary, &[]);
    await_link(&replica);
    for round in 0..4 {
        let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
        let mut client = primary.connect();
        let last = std::thread::scope(|scope| {
            let writing = scope.spawn(|| {
                let mut last = 0;
                for number in 1_u64.. {
                    let words = ["SET".to_owned(), format!("round:{round}"), number.to_string()];
                    if stop.load(Ordering::Relaxed) || client.try_ask(&words).is_err() {
                        break;
                    }
                    last = number;
                    written.store(number, Ordering::Relaxed);
                }
                last
            });
            await_that("some is written", || written.load(Ordering::Relaxed) > 500);
            if round % 2 == 0 {
                primary.kill()
            } else {
                replica.kill()
            }
            await_that("the writer is done or goes on", || {
                round % 2 == 0 || written.load(Ordering::Relaxed) > 1000
            });
            stop.store(true, Ordering::Relaxed);
            writing.join().expect("the writer ends")
        });
        if round % 2 == 0 {
            primary.start_again()
        } else {
            replica.start_again()
        }
        await_link(&replica);
        let found = primary.connect().ask(&["GET", &format!("round:{round}")]).text();
        assert!(found.parse::<u64>().expect("a number") >= last, "acknowledged: {last}, found: {found}");
        await_equal(&primary, &replica);
    }
    assert!(!replica.log().contains("history is not the primary's"), "{}", replica.log());
}

#[test]
fn a_replica_that_stands_still_is_not_cut_off_and_costs_no_memory() {
    let primary = server(&[]);
    let replica = replica_of(&primary, &[]);
    await_link(&replica);
    let mut client = primary.connect();
    client.pipeline(sets(0, 1000, 100));
    let before = resident_kb(primary.process_id());
    hold(&replica);
    // Over and over the same keys: the data does not grow, only what the replica lacks does.
    for _ in 0..60 {
        client.pipeline(sets(0, 1000, 1000));
    }
    let after = resident_kb(primary.process_id());
    replica.signal(Signal::CONT);
    await_equal(&primary, &replica);
    assert_eq!(info(&mut client, "connected_slaves").as_deref(), Some("1"));
    assert_eq!(replica.log().matches("following").count(), 1, "{}", replica.log());
    assert!(after < before + (48 << 10), "{before} KB grew to {after} KB while 60 MB were not taken");
}

#[test]
fn a_stop_of_the_primary_leaves_the_replica_with_everything() {
    let mut primary = server(&[]);
    let replica = replica_of(&primary, &[]);
    await_link(&replica);
    primary.connect().pipeline(sets(0, 20_000, 100));
    assert!(primary.terminate().success());
    assert_eq!(replica.connect().line("DBSIZE"), ":20000");
}

fn resident_kb(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
