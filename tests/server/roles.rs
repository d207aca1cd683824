//! What a server says of its part in replication, beside redis-server: both follow a port where nobody listens.

use crate::support::{Client, Server};

/// Names of the fields of INFO replication, in order, but for those of our own.
fn fields(client: &mut Client) -> Vec<String> {
    let text = client.ask(&["INFO", "replication"]).text();
    let names = text.lines().filter_map(|line| Some(line.split_once(':')?.0.to_owned()));
    names.filter(|name| !name.starts_with("lost_")).collect()
}

#[test]
fn a_server_changes_its_part_as_redis_server_does() {
    let (server, reference) = (Server::start(&[]), Server::start_reference(&[]));
    let (mut ours, mut theirs) = (server.connect(), reference.connect());
    let mut both = |line: &str| {
        let (our_reply, their_reply) = (ours.line(line), theirs.line(line));
        if line == "ROLE" {
            // How far the attempt to connect has come differs from moment to moment.
            let stable = |reply: &str| reply.split(' ').take(3).map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(stable(&our_reply), stable(&their_reply));
        } else {
            assert_eq!(our_reply, their_reply, "{line}");
        }
        assert_eq!(fields(&mut ours), fields(&mut theirs), "after {line}");
    };
    for line in [
        "SET key 1",
        "WAIT 0 0",
        "WAIT x y",
        "WAIT 1 -1",
        "WAIT 1 x",
        "WAIT -1 0",
        "REPLICAOF NO ONE",
        "REPLICAOF 127.0.0.1 70000",
        "REPLICAOF 127.0.0.1 x",
        "SLAVEOF 127.0.0.1",
        "CONFIG SET min-replicas-to-write 1",
        "SET key 2",
        "MULTI",
        "SET key 2",
        "GET key",
        "EXEC",
        "FAILOVER",
        "FAILOVER TO a 1 FORCE",
        "FAILOVER ABORT",
        "REPLICAOF 127.0.0.1 1",
        "CONFIG GET replicaof",
        "ROLE",
        "SET key 3",
        "GET key",
        "WAIT x y",
        "MULTI",
        "SET key 3",
        "EXEC",
        "REPLICAOF 127.0.0.1 1",
        "SLAVEOF 127.0.0.1 1",
        "FAILOVER",
        "CONFIG SET replica-serve-stale-data no",
        "GET key",
        "SET key 3",
        "PING",
        "WAIT 0 0",
        "SELECT 1",
        "SELECT 0",
        "CONFIG GET port*x",
        "MULTI",
        "GET key",
        "DISCARD",
        "EXISTS",
        "LOLWUT",
        "DBSIZE",
        "REPLICAOF NO ONE",
        "CONFIG GET replicaof",
        "CONFIG SET min-replicas-to-write 0",
        "SET key 4",
        "GET key",
    ] {
        both(line);
    }
}

#[test]
fn who_is_followed_survives_a_rewrite_of_the_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("larder.conf");
    let data = folder.path().join("data");
    std::fs::write(&file, format!("dir {}\n", data.display())).expect("written");
    let server = Server::start_with_file(&file);
    let mut client = server.connect();
    client.check(&[("REPLICAOF example.invalid 7000", "OK"), ("CONFIG REWRITE", "OK")]);
    let text = std::fs::read_to_string(&file).expect("readable");
    assert!(text.contains("replicaof example.invalid 7000\n"), "{text}");
    client.check(&[("REPLICAOF NO ONE", "OK"), ("CONFIG REWRITE", "OK")]);
    let text = std::fs::read_to_string(&file).expect("readable");
    assert!(!text.contains("example.invalid"), "{text}");
}
