//! A primary and a replica, and how to wait for one another.

use crate::support::{Client, Launch, Server};
use rustix::process::Signal;
use std::time::{Duration, Instant};

const WITHIN: Duration = Duration::from_secs(60);
const LOOK_GAP: Duration = Duration::from_millis(10);

/// Flags of all servers here.
const FLAGS: &[&str] = &["--enable-debug-command", "local"];

/// A server with these flags besides.
pub fn server(flags: &[&str]) -> Server {
    Server::launch(Launch::with(&[FLAGS, flags].concat()))
}

/// A server that follows `primary`.
pub fn replica_of(primary: &Server, flags: &[&str]) -> Server {
    let port = primary.port.to_string();
    server(&[&["--replicaof", "127.0.0.1", &port], flags].concat())
}

/// Waits until `is_so`; fails with `what` if that takes too long.
pub fn await_that(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + WITHIN;
    while !is_so() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(LOOK_GAP);
    }
}

/// A field of INFO replication.
pub fn info(client: &mut Client, name: &str) -> Option<String> {
    let text = client.ask(&["INFO", "replication"]).text();
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned()))
}

/// Waits until the server's link to its primary is up.
pub fn await_link(replica: &Server) {
    let mut client = replica.connect();
    await_that("the link is up", || info(&mut client, "master_link_status").as_deref() == Some("up"));
}

/// Holds a server until SIGCONT: every thread of it, when this returns.
pub fn hold(server: &Server) {
    server.signal(Signal::STOP);
    let threads = format!("/proc/{}/task", server.process_id());
    let is_held = |thread: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    };
    await_that("every thread is held", || {
        std::fs::read_dir(&threads).expect("it runs").flatten().all(is_held)
    });
}

/// Digest of all data, as DEBUG DIGEST has it.
pub fn digest(server: &Server) -> String {
    server.connect().line("DEBUG DIGEST")
}

/// Waits until both have the same data. Nobody may write meanwhile.
pub fn await_equal(primary: &Server, replica: &Server) {
    let wanted = digest(primary);
    await_that("both have the same data", || digest(replica) == wanted);
}

/// SET commands for `count` keys from `first` on, with values of `len` bytes.
pub fn sets(first: u64, count: u64, len: usize) -> impl Iterator<Item = Vec<Vec<u8>>> {
    (first..first + count).map(move |number| {
        let value: Vec<u8> = (0..len as u64).map(|at| (number * 31 + at * 7) as u8).collect();
        vec![b"SET".to_vec(), format!("key:{number}").into_bytes(), value]
    })
}
