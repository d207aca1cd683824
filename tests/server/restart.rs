//! What a stop and a start keep, and in which order a stop ends things.

use crate::support::{Server, wait_until};
use std::time::Duration;

#[test]
fn everything_is_there_after_an_ordered_stop() {
    let mut server = Server::start(&[]);
    let mut client = server.connect();
    client.check(&[
        ("SET text hello", "OK"),
        ("SET bytes \"\\x00\\xff\\r\\n\"", "OK"),
        ("HSET hash a 1 b 2", ":2"),
        ("SET deadline x PXAT 99999999999999", "OK"),
        ("SELECT 7", "OK"),
        ("SET elsewhere 1", "OK"),
    ]);
    client.pipeline(
        (0..2000)
            .map(|n| ["HSET", "large", &format!("field:{n}"), "v"].map(|w| w.as_bytes().to_vec()).to_vec()),
    );
    client.ask(&["SETRANGE", "long", "3000000", "end"]);
    for _ in 0..2 {
        assert!(server.terminate().success());
        server.start_again();
        let mut client = server.connect();
        client.check(&[
            ("GET text", "\"hello\""),
            ("GET bytes", "\"\\x00\\xff\\r\\n\""),
            ("HGETALL hash", "[\"a\" \"1\" \"b\" \"2\"]"),
            ("PEXPIRETIME deadline", ":99999999999999"),
            ("DBSIZE", ":4"),
            ("SELECT 7", "OK"),
            ("HLEN large", ":2000"),
            ("HGET large field:1999", "\"v\""),
            ("STRLEN long", ":3000003"),
            ("GETRANGE long 2999998 -1", "\"\\x00\\x00end\""),
            ("DBSIZE", ":3"),
        ]);
    }
}

#[test]
fn shutdown_ends_the_process_well() {
    for words in [["SHUTDOWN"].as_slice(), &["SHUTDOWN", "NOSAVE"], &["SHUTDOWN", "SAVE"]] {
        let mut server = Server::start(&[]);
        let mut client = server.connect();
        client.check(&[("SET key value", "OK")]);
        assert!(client.try_ask(words).is_err(), "the connection ends without a reply");
        assert!(server.wait_end().success());
        server.start_again();
        server.connect().check(&[("GET key", "\"value\"")]);
    }
}

#[test]
fn flushing_and_swapping_databases_survives_kill() {
    for checkpoint in [false, true] {
        let mut server = Server::start(&[]);
        let mut client = server.connect();
        for database in 0..3 {
            client.ask(&["SELECT", &database.to_string()]);
            client.pipeline(
                (0..1000).map(|n| {
                    ["SET", &format!("{database}:{n}"), "v"].map(|w| w.as_bytes().to_vec()).to_vec()
                }),
            );
        }
        if checkpoint {
            client.expect(&["SAVE"], "OK");
        }
        client.check(&[
            ("SELECT 0", "OK"),
            ("SWAPDB 0 1", "OK"),
            ("EXISTS 1:5", ":1"),
            ("SELECT 2", "OK"),
            ("FLUSHDB", "OK"),
            ("SET new 1", "OK"),
        ]);
        if checkpoint {
            client.expect(&["SAVE"], "OK");
        }
        server.kill();
        server.start_again();
        let mut client = server.connect();
        client.check(&[
            ("EXISTS 1:5 0:5", ":1"),
            ("DBSIZE", ":1000"),
            ("SELECT 1", "OK"),
            ("EXISTS 0:5 1:5", ":1"),
            ("SELECT 2", "OK"),
            ("KEYS *", "[\"new\"]"),
            ("FLUSHALL", "OK"),
        ]);
        server.kill();
        server.start_again();
        let mut client = server.connect();
        for database in 0..3 {
            client.ask(&["SELECT", &database.to_string()]);
            client.check(&[("DBSIZE", ":0"), ("RANDOMKEY", "nil")]);
        }
    }
}

#[test]
fn deleted_keys_stay_deleted_after_checkpoints() {
    let mut server = Server::start(&[]);
    let mut client = server.connect();
    client.pipeline(
        (0..3000).map(|n| ["SET", &format!("key:{n}"), "v"].map(|w| w.as_bytes().to_vec()).to_vec()),
    );
    client.expect(&["SAVE"], "OK");
    client.pipeline(
        (0..3000).step_by(2).map(|n| ["DEL", &format!("key:{n}")].map(|w| w.as_bytes().to_vec()).to_vec()),
    );
    server.kill();
    server.start_again();
    let mut client = server.connect();
    client.check(&[("DBSIZE", ":1500"), ("EXISTS key:0 key:1 key:2998 key:2999", ":2")]);
    client.expect(&["SAVE"], "OK");
    server.kill();
    server.start_again();
    server.connect().check(&[("DBSIZE", ":1500"), ("EXISTS key:0 key:1 key:2998 key:2999", ":2")]);
}

#[test]
fn what_expires_while_the_server_is_down_is_gone() {
    let mut server = Server::start(&[]);
    let mut client = server.connect();
    client.check(&[
        ("SET short x PX 400", "OK"),
        ("HSET hash a 1", ":1"),
        ("PEXPIRE hash 400", ":1"),
        ("SET long x PX 600000", "OK"),
    ]);
    server.kill();
    std::thread::sleep(Duration::from_millis(450));
    server.start_again();
    let mut client = server.connect();
    client.check(&[("GET short", "nil"), ("HGETALL hash", "[]"), ("EXISTS long", ":1")]);
    wait_until("expired keys are removed", Duration::from_secs(10), || client.line("DBSIZE") == ":1");
}

#[test]
fn a_torn_journal_is_cut_and_reported() {
    let mut server = Server::start(&[]);
    let mut client = server.connect();
    client.check(&[("SET a 1", "OK"), ("SET b 2", "OK")]);
    server.kill();
    let segment = newest_segment(&server);
    let length = std::fs::metadata(&segment).expect("it is there").len();
    let bytes = std::fs::read(&segment).expect("it can be read");
    let used = bytes.iter().rposition(|&byte| byte != 0).expect("something was written") + 1;
    let torn = [&bytes[..used - 1], &vec![0; length as usize - used + 1]].concat();
    std::fs::write(&segment, torn).expect("it can be written");
    server.start_again();
    server.connect().check(&[("GET a", "\"1\""), ("GET b", "nil"), ("SET c 3", "OK")]);
    server.kill();
    server.start_again();
    server.connect().check(&[("GET a", "\"1\""), ("GET b", "nil"), ("GET c", "\"3\"")]);
}

fn newest_segment(server: &Server) -> std::path::PathBuf {
    let folder = server.folder().join("data/journal");
    let mut segments: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("it can be listed").path())
        .collect();
    segments.sort();
    segments.pop().expect("there is one")
}

#[test]
fn two_servers_do_not_share_a_folder() {
    let server = Server::start(&[]);
    let data = server.folder().join("data");
    let second = Server::run_to_end(&["--port", "0", "--dir", &data.to_string_lossy()]);
    assert_eq!(second.status.code(), Some(1), "{}{}", second.output, second.errors);
    server.connect().check(&[("SET still 1", "OK")]);
}

#[test]
fn lastsave_and_info_tell_of_checkpoints() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.check(&[("SET a 1", "OK")]);
    let before = client.ask(&["LASTSAVE"]).integer();
    wait_until("the next second", Duration::from_secs(5), || crate::support::now_ms() / 1000 > before);
    assert_eq!(client.line("BGSAVE"), "Background saving started");
    let mut info = String::new();
    wait_until("the checkpoint is done", Duration::from_secs(20), || {
        info = client.ask(&["INFO", "persistence"]).text();
        info.contains("rdb_bgsave_in_progress:0")
    });
    assert!(info.contains("rdb_changes_since_last_save:0"), "{info}");
    assert!(client.ask(&["LASTSAVE"]).integer() > before);
}
