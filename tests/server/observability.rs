//! What the server tells about itself: INFO, SLOWLOG, LATENCY, MONITOR, DEBUG.

use crate::support::{Client, Server};

/// The value of a field of INFO.
fn info(client: &mut Client, section: &str, field: &str) -> String {
    let text = client.line(&format!("INFO {section}"));
    let line = text.split("\\r\\n").find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field} in {text}")).to_owned()
}

#[test]
fn info_counts_commands_keys_and_errors() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.check(&[("SET a 1", "OK"), ("GET a", "\"1\""), ("GET none", "nil"), ("CONFIG RESETSTAT", "OK")]);
    client.line("GET a");
    client.line("GET none");
    client.line("GET");
    client.line("LPOP a");
    client.line("NOPE");
    let counts = info(&mut client, "commandstats", "cmdstat_get");
    assert!(
        counts.starts_with("calls=2,usec=") && counts.ends_with("rejected_calls=1,failed_calls=0"),
        "{counts}"
    );
    assert_eq!(info(&mut client, "stats", "keyspace_hits"), "1");
    assert_eq!(info(&mut client, "stats", "keyspace_misses"), "1");
    assert!(info(&mut client, "errorstats", "errorstat_ERR").starts_with("count="));
    assert_eq!(info(&mut client, "keyspace", "db0"), "keys=1,expires=0,avg_ttl=0");
    assert!(info(&mut client, "latencystats", "latency_percentiles_usec_get").starts_with("p50="));
    assert_eq!(info(&mut client, "server", "redis_version"), "7.2.4");
    assert_ne!(info(&mut client, "memory", "used_memory"), "0");
}

#[test]
fn hits_and_misses_are_those_of_redis_server() {
    let (server, reference) = (Server::start(&[]), Server::start_reference(&[]));
    let (mut ours, mut theirs) = (server.connect(), reference.connect());
    let script = [
        "SET a 1",
        "SET a 2 GET",
        "SET none1 1 GET",
        "GETSET a 3",
        "GETSET none2 1",
        "GETDEL a",
        "GETDEL a",
        "GETEX none2 EX 100",
        "GETEX a",
        "COPY none2 b",
        "COPY nothing b",
        "BITOP AND c none1 nothing",
        "INCR n",
        "APPEND n 1",
        "BITFIELD n GET u8 0",
        "BITFIELD nothing GET u8 0",
        "BITFIELD n SET u8 0 1",
        "MEMORY USAGE n",
        "MEMORY USAGE nothing",
        "OBJECT ENCODING n",
        "TTL nothing",
        "EXISTS n nothing",
        "RENAME n m",
        "HSET h f v",
        "LCS h nothing",
        "BITOP AND c nothing h",
        "SORT nothing",
        "EXPIRE nothing 1",
        "DUMP h",
        "DUMP nothing",
    ];
    for line in script {
        let both = [&mut ours, &mut theirs].map(|client| {
            client.line(line);
            (info(client, "stats", "keyspace_hits"), info(client, "stats", "keyspace_misses"))
        });
        assert_eq!(both[0], both[1], "hits and misses after {line}");
    }
}

#[test]
fn an_aborted_transaction_is_counted_by_its_own_error() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.check(&[("MULTI", "OK")]);
    assert!(client.line("EXEC 0").starts_with("-EXECABORT"));
    assert_eq!(info(&mut client, "errorstats", "errorstat_EXECABORT"), "count=1");
}

#[test]
fn sections_are_those_asked_for() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let sections = |text: String| text.matches("# ").count();
    assert_eq!(sections(client.line("INFO")), 12);
    assert_eq!(sections(client.line("INFO everything")), 14);
    assert_eq!(sections(client.line("INFO cpu commandstats CPU")), 2);
    client.check(&[("INFO nothing", "\"\"")]);
}

#[test]
fn slow_commands_are_kept_and_cut() {
    let server = Server::start(&["--slowlog-log-slower-than", "0", "--slowlog-max-len", "2"]);
    let mut client = server.connect();
    client.check(&[("CLIENT SETNAME me", "OK"), ("SLOWLOG RESET", "OK")]);
    client.line(&format!("SET key {}", "x".repeat(200)));
    let entries = client.line("SLOWLOG GET 1");
    assert!(entries.contains("x... (72 more bytes)") && entries.contains("\"me\""), "{entries}");
    client.check(&[("SLOWLOG LEN", ":2")]);
}

#[test]
fn spikes_are_noted() {
    let server = Server::start(&["--latency-monitor-threshold", "10", "--enable-debug-command", "yes"]);
    let mut client = server.connect();
    client.check(&[("DEBUG SLEEP 0.02", "OK")]);
    assert!(client.line("LATENCY LATEST").contains("\"command\""));
    assert!(client.line("LATENCY GRAPH command").contains("command - high"));
    client.check(&[("LATENCY RESET command", ":1"), ("LATENCY LATEST", "[]")]);
    assert!(client.line("LATENCY HISTOGRAM debug").contains("\"histogram_usec\""));
}

#[test]
fn a_monitor_sees_every_command() {
    let server = Server::start(&[]);
    let (mut monitor, mut client) = (server.connect(), server.connect());
    monitor.check(&[("MONITOR", "OK")]);
    client.check(&[("SET a \"b c\"", "OK")]);
    let line = monitor.read().expect("a line").to_string();
    assert!(line.contains(" [0 127.0.0.1:") && line.ends_with("\"SET\" \"a\" \"b c\""), "{line}");
}

#[test]
fn equal_data_has_an_equal_digest_after_a_restart() {
    let mut server = Server::start(&["--enable-debug-command", "yes"]);
    let mut client = server.connect();
    client.check(&[("DEBUG POPULATE 1000 p 50", "OK"), ("HSET h a 1 b 2", ":2"), ("DBSIZE", ":1001")]);
    let digest = client.line("DEBUG DIGEST");
    client.check(&[("DEBUG RELOAD", "OK")]);
    assert_eq!(client.line("DEBUG DIGEST"), digest);
    server.kill();
    server.start_again();
    let mut client = server.connect();
    assert_eq!(client.line("DEBUG DIGEST"), digest);
    client.check(&[("DEL h", ":1")]);
    assert_ne!(client.line("DEBUG DIGEST"), digest);
}
