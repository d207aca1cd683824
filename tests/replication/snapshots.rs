//! When the journal does not reach back far enough.

use crate::pair::{await_equal, await_link, await_that, replica_of, server, sets};
use crate::support::Server;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// A primary whose journal holds nothing of what it has.
fn with_data_beyond_its_journal(keys: u64, len: usize, flags: &[&str]) -> Server {
    let primary = server(&[&["--repl-backlog-size", "1"], flags].concat());
    let mut client = primary.connect();
    client.pipeline(sets(0, keys, len));
    client.check(&[("SAVE", "OK"), ("SET behind x", "OK"), ("SAVE", "OK")]);
    assert!(!primary.folder().join("data/journal/00000000000000000000.log").exists(), "it was dropped");
    primary
}

/// The lengths of the files in the folders of this one.
fn files_in(folder: &Path) -> Vec<u64> {
    let folders = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.path()).into_iter().flatten().flatten());
    files.filter_map(|file| Some(file.metadata().ok()?.len())).collect()
}

#[test]
fn a_new_replica_gets_snapshots_while_the_primary_is_written_to() {
    let primary = with_data_beyond_its_journal(20_000, 200, &[]);
    let stop = AtomicBool::new(false);
    let replica = std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut client = primary.connect();
            let mut first = 0;
            while !stop.load(Ordering::Relaxed) {
                client.pipeline(sets(first % 30_000, 500, 150));
                first += 500;
            }
        });
        let replica = replica_of(&primary, &[]);
        await_link(&replica);
        stop.store(true, Ordering::Relaxed);
        writing.join().expect("the writer ends");
        replica
    });
    await_equal(&primary, &replica);
    assert!(replica.log().contains("receiving a snapshot"), "{}", replica.log());
    assert_eq!(files_in(&replica.folder().join("data/incoming")).len(), 0, "nothing of the transfer stays");
}

#[test]
fn an_interrupted_snapshot_goes_on_where_it_was() {
    let primary = with_data_beyond_its_journal(60_000, 2000, &["--partitions", "1"]);
    let mut replica = replica_of(&primary, &["--partitions", "1"]);
    let incoming = replica.folder().join("data/incoming");
    let arrived = || files_in(&incoming).iter().sum::<u64>();
    await_that("a part has arrived", || arrived() > 40 << 20);
    replica.kill();
    replica.start_again();
    await_link(&replica);
    await_equal(&primary, &replica);
    let log = replica.log();
    let begun: Vec<&str> = log.lines().filter(|line| line.contains("receiving a snapshot")).collect();
    assert!(begun.len() == 2 && !begun[1].contains("from byte 0 on"), "{log}");
}
