//! `kill -9` at random moments under load.

use crate::support::{Chance, Server};
use crate::times;
use crate::writers::{Writer, verify_all};
use std::time::Duration;

const ROUNDS: usize = 2;
const WRITERS: u64 = 6;
const TINY_CHECKPOINTS: [&str; 4] = ["--checkpoint-journal-size", "1mb", "--checkpoint-age", "1"];

/// Kills of all tests here.
pub const KILLS: usize = 6 * ROUNDS;

#[test]
fn nothing_acknowledged_is_lost_with_appendfsync_always() {
    kill_under_load("always", &["--appendfsync", "always"]);
}

#[test]
fn nothing_acknowledged_is_lost_with_appendfsync_everysec() {
    kill_under_load("everysec", &["--appendfsync", "everysec"]);
}

#[test]
fn nothing_acknowledged_is_lost_with_appendfsync_no() {
    kill_under_load("no", &["--appendfsync", "no"]);
}

#[test]
fn nothing_acknowledged_is_lost_while_checkpoints_run() {
    kill_under_load("checkpoints", &[&["--appendfsync", "everysec"], TINY_CHECKPOINTS.as_slice()].concat());
}

#[test]
fn nothing_acknowledged_is_lost_while_checkpoints_run_with_appendfsync_always() {
    kill_under_load(
        "checkpoints, always",
        &[&["--appendfsync", "always"], TINY_CHECKPOINTS.as_slice()].concat(),
    );
}

#[test]
fn nothing_acknowledged_is_lost_with_one_partition_and_one_thread() {
    let flags = ["--partitions", "1", "--runtime-threads", "1"];
    kill_under_load("one partition", &[flags.as_slice(), TINY_CHECKPOINTS.as_slice()].concat());
}

fn kill_under_load(name: &str, flags: &[&str]) {
    let mut chance = Chance::seeded(name);
    let mut server = Server::start(flags);
    let mut writers = Writer::several(WRITERS, &mut chance);
    for round in 0..ROUNDS * times() {
        let port = server.port;
        let pause = Duration::from_millis(50 + chance.below(600));
        std::thread::scope(|scope| {
            for writer in &mut writers {
                scope.spawn(move || writer.run(port));
            }
            std::thread::sleep(pause);
            server.kill();
        });
        let open: usize = writers.iter().map(Writer::open).sum();
        let done: u64 = writers.iter().map(|writer| writer.changes).sum();
        eprintln!(
            "{name}, round {round}: killed after {pause:?}; {done} changes acknowledged so far, {open} were not"
        );
        assert!(done > 0 || round == 0, "no load, no test");
        server.start_again();
        verify_all(&server, &mut writers);
    }
    assert!(server.terminate().success(), "an ordered stop ends well");
    server.start_again();
    verify_all(&server, &mut writers);
}
