//! A cluster of slots on this machine, as redis-cli and clients that know slots see it: three nodes, each primary of some.

use crate::support::{Client, Finished, Server, finish, free_port, wait_until};
use std::process::Command;
use std::time::Duration;

const WITHIN: Duration = Duration::from_mins(1);
/// Keys that are written, of all nodes' slots.
const KEYS: usize = 40;

/// Three nodes, each of which is primary of something.
fn three() -> Vec<Server> {
    let ports = [(); 3].map(|()| free_port().to_string());
    let seeds = ports.clone().map(|port| format!("127.0.0.1:{port}"));
    let start = |port: &String| {
        let flags = [
            "--cluster-enabled",
            "yes",
            "--replicas",
            "2",
            "--bootstrap-expect",
            "3",
            "--cluster-port",
            port.as_str(),
        ];
        let seeds = seeds.iter().map(String::as_str);
        let flags: Vec<&str> = flags.into_iter().chain(["--cluster-seeds"]).chain(seeds).collect();
        Server::start(&flags)
    };
    let servers: Vec<Server> = ports.iter().map(start).collect();
    wait_until("each node is primary of something, as all see it", WITHIN, || servers.iter().all(sees_three));
    servers
}

fn sees_three(server: &Server) -> bool {
    let mut client = server.connect();
    let nodes = client.ask(&["CLUSTER", "NODES"]).text();
    let masters = nodes.lines().filter(|line| line.contains("master") && line.split(' ').count() > 8).count();
    masters == 3 && client.ask(&["INFO", "cluster"]).text().contains("larder_cluster_learners:0")
}

fn redis_cli(arguments: &[&str], input: &str) -> Finished {
    finish(Command::new("redis-cli").args(arguments), input.as_bytes(), WITHIN)
}

/// Writes with a client that knows slots and goes where it is sent. How often it was.
fn write_where_slots_are(from: &Server) -> usize {
    let mut client = from.connect();
    client.ask(&["CLUSTER", "SLOTS"]);
    let mut redirects = 0;
    for number in 0..KEYS {
        let words = ["SET", &format!("key{number}"), "1"];
        let mut reply = client.ask(&words).to_string();
        while let Some(there) = reply.strip_prefix("-MOVED ") {
            redirects += 1;
            assert!(redirects < KEYS * 10, "sent from node to node: {reply}");
            let (_, address) = there.split_once(' ').expect("a slot and an address");
            let port = address.strip_prefix("127.0.0.1:").expect("nodes are on this machine");
            let mut other = Client::try_connect(port.parse().expect("a port")).expect("somebody is there");
            other.ask(&["CLUSTER", "SLOTS"]);
            reply = other.ask(&words).to_string();
        }
        assert_eq!(reply, "OK");
    }
    redirects
}

#[test]
fn redis_cli_and_clients_that_know_slots_find_their_way() {
    let servers = three();
    let address = format!("127.0.0.1:{}", servers[0].port);
    assert!(write_where_slots_are(&servers[0]) > 0, "other nodes have slots too");
    servers[2].connect().expect(&["DBSIZE"], &format!(":{KEYS}"));

    // Primaries may move while redis-cli goes from node to node; so it is asked until it has seen all at one time.
    wait_until("redis-cli finds nothing wrong", WITHIN, || {
        let check = redis_cli(&["--cluster", "check", &address], "");
        check.status.success()
            && ["[OK] All nodes agree about slots configuration.", "[OK] All 16384 slots covered."]
                .iter()
                .all(|line| check.output.contains(line))
    });
    wait_until("redis-cli counts each key once", WITHIN, || {
        let info = redis_cli(&["--cluster", "info", &address], "");
        info.status.success() && info.output.contains(&format!("[OK] {KEYS} keys in 3 masters."))
    });
    let calls = redis_cli(&["--cluster", "call", &address, "ECHO", "heard"], "");
    assert_eq!(
        calls.output.matches("heard").count() - calls.output.matches("ECHO heard").count(),
        3,
        "{}",
        calls.output
    );

    let port = servers[1].port.to_string();
    let script: String = (0..KEYS).map(|number| format!("INCR key{number}\n")).collect();
    // Forwarded without a word; and sent there once it has asked for slots, where `-c` makes it go.
    let run = |mode: &[&str], before: &str| {
        let told =
            redis_cli(&[["-p", port.as_str()].as_slice(), mode].concat(), &format!("{before}{script}"));
        assert!(told.status.success() && !told.output.contains("ERR"), "{}{}", told.output, told.errors);
        told.output.contains("MOVED")
    };
    assert!(!run(&["-c"], "") && !run(&["-c"], "CLUSTER SLOTS\n"));
    servers[0].connect().expect(&["GET", "key0"], "\"3\"");
    assert!(!run(&[], "") && run(&[], "CLUSTER SLOTS\n"));
}
