//! What servers newer than the installed one write: their rdb files and logs, with what only they have.
//!
//! ```sh
//! REFERENCE_SERVER=/path/to/valkey-server cargo test --test server newer_servers
//! ```
//!
//! runs these tests with that server as the reference; `docs/interop.md` has where to get some, and how it went. With the installed one, which knows
//! none of the newer commands, they are about the rest.

use crate::append_only::{change, copy, logging, rewrite, start};
use crate::rdb::{all_of, fill, larder, save};
use crate::support::{Client, Server};

/// What the installed server does not have. Which of it the reference knows, is asked.
const NEWER: [&str; 11] = [
    "HSET timed a 1 b 2 c 3 d 4",
    "HPEXPIREAT timed 4102444800000 FIELDS 2 a b",
    "HPEXPIRE timed 100000000 FIELDS 1 c",
    "HSETEX setex EX 1000000 FIELDS 2 x 1 y 2",
    "HGETEX setex PERSIST FIELDS 1 y",
    "HSET fields a 1 b 2",
    "HGETDEL fields FIELDS 1 a",
    "SET conditional one",
    "SET deleted one",
    "DELIFEQ deleted one",
    "SADD strings a b c",
];

/// Returns how many of the newer commands are known.
fn fill_newer(client: &mut Client) -> usize {
    client.expect(&["SELECT", "0"], "OK");
    let known = NEWER.iter().filter(|line| !client.line(line).starts_with('-')).count();
    // A large one, too: some fields with a deadline, and those behind them without.
    for number in 0..700 {
        let field = format!("field{number}");
        client.ask(&["HSET", "bigtimed", &field, "value"]);
        if number % 3 == 0 {
            client.ask(&["HPEXPIREAT", "bigtimed", "4102444800123", "FIELDS", "1", &field]);
        }
    }
    known
}

#[test]
fn rdb_files_and_logs_of_the_reference_are_imported_with_equal_content() {
    for preamble in ["yes", "no"] {
        let old = tempfile::tempdir().expect("a temporary folder");
        let reference = logging(old.path(), &["--aof-use-rdb-preamble", preamble]);
        let mut client = reference.connect();
        fill(&mut client);
        let known = fill_newer(&mut client);
        let expected = all_of(&mut client);
        let has_deadlines = client.line("HPEXPIRETIME timed FIELDS 1 a") == "[:4102444800000]";
        assert_eq!(
            expected.iter().any(|key| key.contains("a@:4102444800000")),
            has_deadlines,
            "{expected:?}"
        );
        let dump = save(&mut client);
        let place = tempfile::tempdir().expect("a temporary folder");
        let data = place.path().join("data");
        let done = larder(&["import", dump.to_str().expect("text")], &data);
        assert!(done.status.success(), "{done:?}");
        eprintln!("{known} of {} newer commands; {}", NEWER.len(), done.output);
        assert_eq!(all_of(&mut start(&data).connect()), expected);

        rewrite(&mut client);
        change(&mut client);
        client.ask(&["DEL", "timed", "setex", "fields", "bigtimed"]);
        fill_newer(&mut client);
        let expected = all_of(&mut client);
        let volume = tempfile::tempdir().expect("a temporary folder");
        copy(&old.path().join("appendonlydir"), &volume.path().join("appendonlydir"));
        let server = start(volume.path());
        assert_eq!(all_of(&mut server.connect()), expected, "{}", server.log());
    }
}

#[test]
fn what_only_the_reference_has_types_for_is_named_and_left_out_on_request() {
    let reference = Server::start_reference(&[]);
    let mut client = reference.connect();
    client.check(&[("SET a 1", "OK"), ("XADD s 1-1 f v", "\"1-1\""), ("XGROUP CREATE s g 0", "OK")]);
    client.line("XREADGROUP GROUP g c COUNT 1 STREAMS s >");
    let vectors = u64::from(!client.line("VADD vectors VALUES 2 0.5 0.5 point").starts_with('-'));
    client.expect(&["SET", "b", "2"], "OK");
    let dump = save(&mut client);
    let place = tempfile::tempdir().expect("a temporary folder");
    let data = place.path().join("data");
    let refused = larder(&["import", dump.to_str().expect("text")], &data);
    assert!(!refused.status.success() && refused.errors.contains("1 stream"), "{refused:?}");
    assert_eq!(refused.errors.contains("1 module"), vectors == 1, "{refused:?}");
    let done = larder(&["import", dump.to_str().expect("text"), "--skip-unknown"], &data);
    assert!(done.status.success() && done.output.contains("2 keys imported"), "{done:?}");
    start(&data).connect().check(&[("GET a", "\"1\""), ("GET b", "\"2\""), ("DBSIZE", ":2")]);
}
