//! The HTTP port: what Prometheus gets, health through start and stop, and clients that do not behave.

use crate::support::exposition::Exposition;
use crate::support::http::{answer, exchange, get, try_get};
use crate::support::{Launch, Server, finish, free_port, wait_until};
use rustix::process::Signal;
use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

const WITHIN: Duration = Duration::from_mins(1);
/// How many connections the port has at a time.
const CONNECTIONS: usize = 32;

/// A server with an HTTP port and these flags, and the port.
fn start(flags: &[&str]) -> (Server, u16) {
    let port = free_port();
    let text = port.to_string();
    (Server::start(&[&["--http-port", &text], flags].concat()), port)
}

fn scrape(port: u16) -> Exposition {
    let (status, text) = get(port, "/metrics");
    assert_eq!(status, 200, "{text}");
    Exposition::read(&text)
}

/// Waits until /readyz has this status and these words.
fn await_readyz(port: u16, status: u16, words: &str) {
    wait_until(&format!("/readyz has {status} {words}"), WITHIN, || {
        try_get(port, "/readyz").is_ok_and(|(found, body)| found == status && body.contains(words))
    });
}

#[test]
fn metrics_are_prometheus_text_and_move_with_commands() {
    let (server, port) = start(&["--maxmemory", "100mb"]);
    let mut client = server.connect();
    client.check(&[("SET a 1", "OK"), ("SET b 2 EX 100", "OK"), ("GET a", "\"1\""), ("GET none", "nil")]);
    let before = scrape(port);
    client.check(&[("GET a", "\"1\""), ("GET none", "nil")]);
    assert!(client.line("GET").starts_with("-ERR"));
    assert!(client.line("LPUSH a 1").starts_with("-WRONGTYPE"));
    client.check(&[("SELECT 3", "OK"), ("SET c 3", "OK")]);
    let after = scrape(port);
    let moved = |name: &str| after.value(name) - before.samples.get(name).copied().unwrap_or(0.0);
    for (name, by) in [
        ("larder_command_calls_total{command=\"get\"}", 2.0),
        ("larder_command_duration_seconds_count{command=\"get\"}", 2.0),
        ("larder_command_duration_seconds_bucket{command=\"get\",le=\"1\"}", 2.0),
        ("larder_command_rejections_total{command=\"get\"}", 1.0),
        ("larder_command_failures_total{command=\"lpush\"}", 1.0),
        ("larder_errors_total{kind=\"WRONGTYPE\"}", 1.0),
        ("larder_errors_total{kind=\"ERR\"}", 1.0),
        ("larder_error_replies_total", 2.0),
        ("larder_keyspace_hits_total", 1.0),
        ("larder_keyspace_misses_total", 1.0),
        ("larder_keys{database=\"3\"}", 1.0),
        ("larder_keys{database=\"0\"}", 0.0),
        ("larder_transactions_total", 1.0),
    ] {
        assert!((moved(name) - by).abs() < 0.5, "{name} moved by {} instead of {by}", moved(name));
    }
    for (name, value) in [
        ("larder_ready", 1.0),
        ("larder_keys{database=\"0\"}", 2.0),
        ("larder_expiring_keys{database=\"0\"}", 1.0),
        ("larder_connected_clients", 1.0),
        ("larder_maxmemory_bytes", 104_857_600.0),
        ("larder_partitions{role=\"primary\"}", 16.0),
        ("larder_writes_refused{reason=\"disk-full\"}", 0.0),
    ] {
        assert!(
            (after.value(name) - value).abs() < 0.5,
            "{name} is {} instead of {value}",
            after.value(name)
        );
    }
    for name in [
        "larder_net_input_bytes_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "larder_journal_disk_bytes",
        "larder_journal_sync_duration_seconds_count",
        "larder_tree_bytes",
        "larder_disk_free_bytes",
    ] {
        assert!(after.value(name) > 0.0, "{name} is 0");
    }
    assert!(after.samples.keys().all(|name| !name.starts_with("larder_cluster") && !name.contains("lag")));
}

#[test]
fn a_reset_of_statistics_resets_no_counter_of_commands() {
    let (server, port) = start(&[]);
    let mut client = server.connect();
    client.check(&[("GET a", "nil"), ("CONFIG RESETSTAT", "OK"), ("GET a", "nil")]);
    assert!((scrape(port).value("larder_command_calls_total{command=\"get\"}") - 2.0).abs() < 0.5);
}

#[test]
fn health_is_told_from_the_start_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let dump = folder.path().join("dump.rdb");
    // A dump that nobody has written yet holds up the import.
    let made = finish(Command::new("mkfifo").arg(&dump), b"", WITHIN);
    assert!(made.status.success(), "{made:?}");
    let port = free_port();
    let launch = Launch::with(&["--http-port", &port.to_string()]).data(folder.path());
    std::thread::scope(|scope| {
        let launched = scope.spawn(|| Server::try_launch(launch.clone()));
        await_readyz(port, 503, "imported");
        assert_eq!(get(port, "/healthz"), (200, "ok\n".to_owned()));
        assert_eq!(get(port, "/metrics").0, 503);
        // It opens for both at once; what is read is not a dump.
        drop(std::fs::File::options().write(true).open(&dump).expect("somebody reads it"));
        let refused = launched.join().expect("no panic").err().expect("it does not start");
        assert!(refused.contains("dump.rdb"), "{refused}");
    });
    assert!(try_get(port, "/healthz").is_err());
    std::fs::remove_file(&dump).expect("it is there");
    let mut server = Server::launch(launch);
    await_readyz(port, 200, "ready");
    assert!(server.terminate().success());
}

#[test]
fn who_stops_is_not_ready_but_healthy() {
    let (mut primary, port) = start(&[]);
    let replica = Server::start(&["--replicaof", "127.0.0.1", &primary.port.to_string()]);
    let in_step = "larder_replica_partitions_in_step{";
    wait_until("the replica is in step", WITHIN, || {
        scrape(port).samples.iter().any(|(name, value)| name.starts_with(in_step) && *value > 15.0)
    });
    assert_eq!(get(port, "/readyz"), (200, "ready\n".to_owned()));
    // A replica that lacks something holds up a stop.
    replica.signal(Signal::STOP);
    primary.connect().check(&[("SET a 1", "OK")]);
    primary.signal(Signal::TERM);
    await_readyz(port, 503, "stopping");
    assert_eq!(get(port, "/healthz").0, 200);
    replica.signal(Signal::CONT);
    assert!(primary.wait_end().success());
    assert!(try_get(port, "/healthz").is_err());
}

#[test]
fn a_replica_is_ready_once_it_has_the_data() {
    let nobody = free_port().to_string();
    let (server, port) = start(&["--replicaof", "127.0.0.1", &nobody]);
    await_readyz(port, 503, "no link to the primary 127.0.0.1");
    assert!(scrape(port).value("larder_replication_link_up").abs() < 0.5);
    let mut primary = Server::start(&[]);
    let mut client = server.connect();
    client.check(&[(&format!("REPLICAOF 127.0.0.1 {}", primary.port), "OK")]);
    await_readyz(port, 200, "ready");
    let found = scrape(port);
    assert!((found.value("larder_replication_link_up") - 1.0).abs() < 0.5);
    assert!((found.value("larder_partitions{role=\"replica\"}") - 16.0).abs() < 0.5);
    assert!(found.value("larder_replication_lag_seconds") < 60.0);
    // Without the primary it is ready as long as old answers are better than none.
    client.check(&[("CONFIG SET replica-serve-stale-data no", "OK")]);
    primary.kill();
    await_readyz(port, 503, "no link to the primary 127.0.0.1");
    client.check(&[("CONFIG SET replica-serve-stale-data yes", "OK")]);
    await_readyz(port, 200, "ready");
}

#[test]
fn a_node_without_a_cluster_is_not_ready() {
    let port = free_port();
    let flags = ["--http-port", &port.to_string(), "--cluster-secret", "shh", "--bootstrap-expect", "3"];
    let server = Server::start(&flags);
    await_readyz(port, 503, "in no cluster yet");
    assert!(scrape(port).value("larder_cluster_leader_known").abs() < 0.5);
    drop(server);
}

#[test]
fn a_node_of_a_cluster_is_ready_once_it_has_a_lease() {
    let (server, port) = start(&["--cluster-secret", "shh", "--bootstrap-expect", "1"]);
    await_readyz(port, 200, "ready");
    let found = scrape(port);
    for (name, value) in [
        ("larder_cluster_leader_known", 1.0),
        ("larder_cluster_leads", 1.0),
        ("larder_cluster_nodes{state=\"live\"}", 1.0),
        ("larder_cluster_nodes{state=\"missing\"}", 0.0),
        ("larder_cluster_voters", 1.0),
        ("larder_cluster_partitions_without_primary", 0.0),
        ("larder_partitions{role=\"primary\"}", 16.0),
    ] {
        assert!(
            (found.value(name) - value).abs() < 0.5,
            "{name} is {} instead of {value}",
            found.value(name)
        );
    }
    assert!(found.value("larder_cluster_last_failover_timestamp_seconds{reason=\"founding\"}") > 0.0);
    server.connect().check(&[("SET a 1", "OK")]);
}

#[test]
fn what_makes_no_sense_is_refused_and_ends_nothing() {
    let (server, port) = start(&[]);
    for (request, status) in [
        (&b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n"[..], 404),
        (b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 405),
        (b"HEAD /metrics HTTP/1.0\r\n\r\n", 200),
        (b"PING\r\n\r\n", 400),
        (b"*1\r\n$4\r\nPING\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"\0\0\0\0\r\n\r\n", 400),
    ] {
        let found = exchange(port, request).expect("it accepts").0;
        assert_eq!(found, status, "{}", String::from_utf8_lossy(request));
    }
    let long = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &vec![b'a'; 1 << 20], b"\r\n\r\n"].concat();
    assert!([0, 431].contains(&exchange(port, &long).expect("it accepts").0));
    let many = [b"GET / HTTP/1.1\r\n".as_slice(), &b"A: b\r\n".repeat(1000), b"\r\n"].concat();
    assert!([0, 431].contains(&exchange(port, &many).expect("it accepts").0));
    assert_eq!(get(port, "/healthz").0, 200);
    server.connect().check(&[("PING", "PONG")]);
}

#[test]
fn slow_clients_hold_nobody_up_for_long() {
    let (server, port) = start(&[]);
    let connect = || TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let mut slow: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect()).collect();
    for stream in &mut slow {
        stream.set_read_timeout(Some(WITHIN)).expect("a socket");
        stream.write_all(b"GET /metrics HT").expect("it was accepted");
    }
    wait_until("one more is closed at once", WITHIN, || {
        try_get(port, "/healthz").is_ok_and(|(status, _)| status == 0)
    });
    server.connect().check(&[("SET a 1", "OK")]);
    // The server gives up on each of them.
    assert!(slow.iter_mut().all(|stream| [0, 408].contains(&answer(stream).0)));
    wait_until("there is room again", WITHIN, || {
        try_get(port, "/healthz").is_ok_and(|(status, _)| status == 200)
    });
}

#[test]
fn it_listens_on_the_machine_itself_alone_unless_told_otherwise() {
    let (server, port) = start(&[]);
    // Another address of the loopback network is not the one that is bound.
    assert!(TcpStream::connect(("127.0.0.2", port)).is_err());
    server.connect().check(&[(
        "CONFIG SET http-port 0",
        "-ERR CONFIG SET failed (possibly related to argument 'http-port') - can't set immutable config",
    )]);
    let (_elsewhere, port) = start(&["--http-bind", "*"]);
    TcpStream::connect(("127.0.0.2", port)).expect("it listens everywhere");
    let taken = Server::run_to_end(&[
        "--port",
        &free_port().to_string(),
        "--http-port",
        &port.to_string(),
        "--dir",
        "/nonexistent",
    ]);
    assert!(!taken.status.success() && taken.errors.contains("http-port"), "{taken:?}");
}

#[test]
fn logs_can_be_json() {
    let server = Server::start(&["--log-format", "json"]);
    let log = server.log();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let says = |line: &serde_json::Value| {
        line["message"].as_str().is_some_and(|text| text.starts_with("Ready to accept"))
    };
    let ready = lines.iter().find(|line| says(line)).unwrap_or_else(|| panic!("{log}"));
    assert_eq!(ready["level"], "INFO");
    assert!(ready["timestamp"].is_string() && ready["target"].is_string(), "{ready}");
}
