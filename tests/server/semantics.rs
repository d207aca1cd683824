//! Corners of Redis' semantics that its own test suite knows: keys whose time is up, pauses, replicas asked for, what
//! RESTORE keeps, draws at random.

use crate::support::{Server, Value, request, words};
use std::collections::BTreeMap;
use std::time::Duration;

const DEBUGGING: &[&str] = &["--enable-debug-command", "yes"];

#[test]
fn a_transaction_sees_what_it_has_changed_of_its_connection() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.check(&[("MULTI", "OK"), ("CLIENT SETNAME me", "QUEUED"), ("CLIENT INFO", "QUEUED")]);
    let replies = client.line("EXEC");
    assert!(replies.contains(" name=me ") && replies.contains(" multi=2 "), "{replies}");
}

#[test]
fn hello_in_a_transaction_counts_for_what_follows() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let script = ["MULTI", "GET nothing", "HELLO 3", "GET nothing", "HGETALL nothing"];
    script.iter().for_each(|line| _ = client.line(line));
    let Value::Array(replies) = client.ask(&["EXEC"]) else { panic!("a list of replies") };
    assert_eq!(
        [&replies[0], &replies[2], &replies[3]],
        [&Value::Null(b'$'), &Value::Null(b'_'), &Value::Map(vec![])]
    );
}

#[test]
fn whoever_watches_a_key_learns_that_its_database_was_exchanged() {
    for script in ["SWAPDB 0 1", "SWAPDB 1 0"] {
        let server = Server::start(&[]);
        let mut client = server.connect();
        client.check(&[("SET a 1", "OK"), ("WATCH a", "OK"), (script, "OK")]);
        let told = client.line("CLIENT INFO");
        assert!(told.contains(" flags=d "), "after {script}: {told}");
    }
}

#[test]
fn a_setting_counts_for_the_next_command_of_the_same_pipeline() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let lines = ["CONFIG SET hash-max-listpack-value 2", "HSET h field abc", "OBJECT ENCODING h"];
    let bytes: Vec<u8> = lines.iter().flat_map(|line| request(&words(line))).collect();
    client.send(&bytes).expect("the server reads");
    let replies = lines.map(|_| client.read().expect("the server answers").to_string());
    assert_eq!(replies, ["OK", ":1", "\"hashtable\""]);
}

#[test]
fn a_watched_key_that_had_expired_does_not_change_by_being_cleared_away() {
    let server = Server::start(DEBUGGING);
    let mut client = server.connect();
    client.check(&[("DEBUG SET-ACTIVE-EXPIRE 0", "OK"), ("SET stale v PX 1", "OK")]);
    std::thread::sleep(Duration::from_millis(10));
    for clearance in ["FLUSHDB", "FLUSHALL", "SWAPDB 0 1"] {
        client.check(&[
            ("WATCH stale", "OK"),
            (clearance, "OK"),
            ("MULTI", "OK"),
            ("PING", "QUEUED"),
            ("EXEC", "[PONG]"),
            ("SET stale v PX 1", "OK"),
        ]);
        std::thread::sleep(Duration::from_millis(10));
    }
    client.check(&[("WATCH stale", "OK"), ("DEBUG SET-ACTIVE-EXPIRE 1", "OK")]);
    std::thread::sleep(Duration::from_millis(200));
    client.check(&[("MULTI", "OK"), ("PING", "QUEUED"), ("EXEC", "[PONG]")]);
    client.check(&[("WATCH stale", "OK"), ("SET stale new", "OK"), ("MULTI", "OK"), ("EXEC", "nil list")]);
}

#[test]
fn nothing_expires_for_good_during_a_pause() {
    let server = Server::start(&[]);
    let (mut client, mut pauser) = (server.connect(), server.connect());
    client.check(&[("SET short v PX 30", "OK")]);
    pauser.check(&[("CLIENT PAUSE 60000 WRITE", "OK")]);
    std::thread::sleep(Duration::from_millis(150));
    client.check(&[("GET short", "nil"), ("DBSIZE", ":1")]);
    pauser.check(&[("CLIENT UNPAUSE", "OK")]);
    std::thread::sleep(Duration::from_millis(200));
    client.check(&[("DBSIZE", ":0")]);
}

#[test]
fn an_expired_key_that_is_deleted_is_counted_no_more() {
    let server = Server::start(DEBUGGING);
    let mut client = server.connect();
    client.check(&[("DEBUG SET-ACTIVE-EXPIRE 0", "OK"), ("MSET a v b v", "OK")]);
    client.check(&[("PEXPIRE a 1", ":1"), ("PEXPIRE b 1", ":1")]);
    while client.line("EXISTS a b") != ":0" {}
    client.check(&[("DBSIZE", ":2"), ("DEL a missing", ":0"), ("DBSIZE", ":1")]);
    client.check(&[("MULTI", "OK"), ("UNLINK b", "QUEUED"), ("EXEC", "[:0]"), ("DBSIZE", ":0")]);
    let info = client.line("INFO stats");
    assert!(info.contains("expired_keys:2"), "{info}");
}

#[test]
fn a_rewrite_does_not_keep_from_saving() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for round in 0..50 {
        let load: String = (0..20).map(|key| format!(" k{key} {round}")).collect();
        client.check(&[(&format!("MSET{load}"), "OK")]);
        let reply = client.line("BGREWRITEAOF");
        let runs = "-ERR Background append only file rewriting already in progress";
        assert!(reply == "Background append only file rewriting started" || reply == runs, "{reply}");
        client.check(&[("SAVE", "OK")]);
    }
    while !client.line("INFO persistence").contains("aof_rewrite_in_progress:0") {}
    client.check(&[("BGSAVE", "Background saving started")]);
    while !client.line("INFO persistence").contains("rdb_bgsave_in_progress:0") {}
    client.check(&[("MULTI", "OK"), ("BGSAVE", "QUEUED"), ("BGREWRITEAOF", "QUEUED")]);
    let scheduled = "[Background saving scheduled Background append only file rewriting scheduled]";
    client.check(&[("EXEC", scheduled)]);
}

#[test]
fn writes_are_refused_while_replicas_are_asked_for() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    const REFUSED: &str = "-NOREPLICAS Not enough good replicas to write.";
    client.check(&[("SET k 1", "OK"), ("WATCH k", "OK"), ("MULTI", "OK"), ("INCR k", "QUEUED")]);
    let mut other = server.connect();
    other.check(&[("CONFIG SET min-replicas-to-write 2", "OK"), ("SET k 2", REFUSED), ("GET k", "\"1\"")]);
    client.check(&[
        (
            "EXEC",
            "-EXECABORT Transaction discarded because of: NOREPLICAS Not enough good replicas to write.",
        ),
        ("GET k", "\"1\""),
        ("CONFIG SET min-replicas-to-write 0", "OK"),
        ("SET k 2", "OK"),
        ("MULTI", "OK"),
        ("EXEC", "[]"),
    ]);
}

#[test]
fn restore_keeps_how_a_key_was_used() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.check(&[("CONFIG SET maxmemory-policy allkeys-lfu", "OK"), ("SET k v", "OK")]);
    let Value::Bulk(payload) = client.ask(&["DUMP", "k"]) else { panic!("no payload") };
    let words: Vec<Vec<u8>> = vec![
        b"RESTORE".to_vec(),
        b"used".to_vec(),
        b"0".to_vec(),
        payload,
        b"FREQ".to_vec(),
        b"100".to_vec(),
    ];
    client.expect(&words, "OK");
    client.check(&[("OBJECT FREQ used", ":100"), ("OBJECT FREQ k", ":5")]);
    // A write is a use like others: what was counted before stays.
    client.check(&[("SET used w", "OK"), ("APPEND used w", ":2")]);
    let counted = client.ask(&["OBJECT", "FREQ", "used"]).integer();
    assert!((99..=102).contains(&counted), "{counted}");
    // Longer than the server has run.
    client.check(&[("CONFIG SET maxmemory-policy allkeys-lru", "OK"), ("DEL used", ":1")]);
    let idle: Vec<Vec<u8>> = [&words[..4], &[b"IDLETIME".to_vec(), b"100000".to_vec()]].concat();
    client.expect(&idle, "OK");
    let idle = client.ask(&["OBJECT", "IDLETIME", "used"]).integer();
    assert!((100_000..100_060).contains(&idle), "{idle}");
}

#[test]
fn each_field_of_a_small_hash_is_drawn_as_often() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let long = "x".repeat(100); // makes it a hash of rows
    client.ask(&["HSET", "h", &long, "0", "a", "1", "b", "2", "c", "3", "d", "4"]);
    let Value::Array(drawn) = client.ask(&["HRANDFIELD", "h", "-5000"]) else { panic!("no array") };
    let mut counts = BTreeMap::new();
    for field in drawn {
        *counts.entry(format!("{field:?}")).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 5);
    assert!(counts.values().all(|count| (800..1200).contains(count)), "{counts:?}");
}

#[test]
fn changes_are_counted_until_they_are_saved() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let figure = |client: &mut crate::support::Client, name: &str| {
        let text = client.ask(&["INFO", "persistence"]).text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|count| count.parse::<u64>().ok()).expect("the line is there")
    };
    let changes = |client: &mut crate::support::Client| figure(client, "rdb_changes_since_last_save");
    client.check(&[("SAVE", "OK")]);
    assert_eq!(changes(&mut client), 0);
    client.check(&[("SETBIT a 0 0", ":0"), ("SETBIT a 0 0", ":0"), ("SETBIT a 0 1", ":0")]);
    assert_eq!(changes(&mut client), 2);
    client.check(&[("BITFIELD b SET i5 0 0", "[:0]"), ("BITFIELD b SET i5 0 0", "[:0]")]);
    assert_eq!(changes(&mut client), 3);
    client.check(&[("BITFIELD b INCRBY i5 0 0", "[:0]"), ("BITFIELD b SET i5 90 0", "[:0]")]);
    assert_eq!(changes(&mut client), 5);
    client.check(&[("SAVE", "OK")]);
    assert_eq!(changes(&mut client), 0);
    // The checkpoint that follows a flush is no save.
    let saves = figure(&mut client, "rdb_saves");
    client.check(&[("FLUSHALL", "OK")]);
    while figure(&mut client, "rdb_saves") == saves {}
    assert!(changes(&mut client) > 0);
    client.check(&[("SAVE", "OK")]);
    assert_eq!(changes(&mut client), 0);
}

#[test]
fn a_client_sees_its_own_command_in_its_buffer() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for _ in 0..2 {
        let line = client.ask(&["CLIENT", "INFO"]).text();
        assert!(line.contains(" qbuf=26 ") && line.contains(" obl=0 "), "{line}");
    }
}

#[test]
fn parameters_can_be_set_to_what_they_are() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for name in ["bind", "port", "partitions", "runtime-threads", "maxmemory", "save"] {
        let found = client.ask(&["CONFIG", "GET", name]);
        let value = found.items()[1].text();
        client.expect(&["CONFIG", "SET", name, &value], "OK");
    }
    let refused =
        "-ERR CONFIG SET failed (possibly related to argument 'partitions') - can't set immutable config";
    client.check(&[("CONFIG SET partitions 1", refused)]);
}
