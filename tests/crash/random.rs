//! `kill -9` at random moments under load.

use crate::support::{Chance, Server};
use crate::times;
use crate::writers::{Writer, verify_all};
use std::fs::File;
use std::path::Path;
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

/// What the writers know, told as what a test that looks at it would say.
fn complaint(server: &Server, writers: &mut [Writer]) -> String {
    let verify = std::panic::AssertUnwindSafe(|| verify_all(server, writers));
    let panic = std::panic::catch_unwind(verify).expect_err("the writers must complain");
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn what_is_lost_or_invented_is_noticed() {
    let mut chance = Chance::seeded("noticed");
    for loses in [true, false] {
        let mut server = Server::start(&[]);
        let mut writers = Writer::several(WRITERS, &mut chance);
        let port = server.port;
        std::thread::scope(|scope| {
            for writer in &mut writers {
                scope.spawn(move || writer.run(port));
            }
            std::thread::sleep(Duration::from_millis(300));
            server.kill();
        });
        if loses {
            cut_journal(&server.folder().join("data/journal"));
        }
        server.start_again();
        if loses {
            let text = complaint(&server, &mut writers);
            assert!(text.contains("but was acknowledged as"), "{text}");
        } else {
            verify_all(&server, &mut writers);
            server.connect().check(&[("SET nobody's value", "OK")]);
            let text = complaint(&server, &mut writers);
            assert!(text.contains("nobody wrote"), "{text}");
        }
    }
}

/// Takes the second half of the journal away, as if it had not reached the kernel.
fn cut_journal(folder: &Path) {
    let segments =
        std::fs::read_dir(folder).expect("a journal").map(|entry| entry.expect("a segment").path());
    let last =
        File::options().write(true).open(segments.max().expect("a segment")).expect("the file is ours");
    let len = last.metadata().expect("it has a length").len();
    last.set_len(len / 2).expect("the file is ours");
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
