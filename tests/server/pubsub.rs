//! Publish and subscribe: the same bytes as redis-server, in both protocols; the order of messages; what closes who does not read.

use crate::support::{Client, Server, Value, request, words};
use std::time::Duration;

/// Sends the lines in one go and reads everything up to the reply to a last PING.
fn told(server: &Server, lines: &[&str]) -> Vec<String> {
    let mut client = server.connect();
    let lines = lines.iter().chain(&["PING the-end"]);
    client
        .send(&lines.flat_map(|line| request(&words(line))).collect::<Vec<u8>>())
        .expect("the server reads");
    let mut found = Vec::new();
    loop {
        let value = client.read().expect("the server answers").to_string();
        if value.contains("the-end") {
            return found;
        }
        // Connections have other numbers, and we tell another version.
        found.push(if value.contains("\"proto\"") { "hello".to_owned() } else { value });
    }
}

#[test]
fn replies_are_those_of_redis_server_in_both_protocols() {
    let (server, reference) = (Server::start(&[]), Server::start_reference(&[]));
    let scripts: &[&[&str]] = &[
        &[
            "SUBSCRIBE a b a",
            "PSUBSCRIBE p* q?",
            "SSUBSCRIBE s s",
            "UNSUBSCRIBE a zz",
            "UNSUBSCRIBE",
            "UNSUBSCRIBE",
        ],
        &[
            "PSUBSCRIBE p*",
            "PUNSUBSCRIBE p* x",
            "PUNSUBSCRIBE",
            "SSUBSCRIBE s",
            "SUNSUBSCRIBE",
            "SUNSUBSCRIBE",
            "PING",
        ],
        &[
            "SUBSCRIBE a",
            "PING",
            "PING x",
            "PING x y",
            "GET k",
            "CONFIG GET x",
            "MULTI",
            "HELLO 3",
            "nosuch x",
            "GET",
            "DISCARD",
        ],
        &["PSUBSCRIBE a", "PUBLISH x y", "ECHO x", "RESET", "PING", "GET k", "UNSUBSCRIBE"],
        &["SSUBSCRIBE a", "SPUBLISH x y", "SUNSUBSCRIBE a", "SPUBLISH a y"],
        &["HELLO 3", "SUBSCRIBE a", "HELLO 2", "GET x", "PING"],
        &["MULTI", "SUBSCRIBE a b", "PSUBSCRIBE a*", "UNSUBSCRIBE b a", "EXEC", "PING"],
        &["MULTI", "PUBLISH nobody x", "SET key value", "SPUBLISH nobody x", "PUBSUB NUMPAT", "EXEC"],
        &["CLIENT REPLY OFF", "SUBSCRIBE a", "PING", "UNSUBSCRIBE a", "PING", "CLIENT REPLY ON"],
        &["CLIENT REPLY SKIP", "SUBSCRIBE a b", "PING", "UNSUBSCRIBE b a"],
        &[
            "SUBSCRIBE",
            "PUBLISH a",
            "PUBSUB",
            "PUBSUB foo",
            "PUBSUB CHANNELS a b",
            "PUBSUB NUMPAT x",
            "PUBSUB SHARDCHANNELS a b",
        ],
        &[
            "PUBSUB CHANNELS",
            "PUBSUB NUMSUB",
            "PUBSUB NUMSUB a b a",
            "PUBSUB SHARDNUMSUB a",
            "PUBSUB SHARDCHANNELS x*",
        ],
        &["COMMAND GETKEYS SSUBSCRIBE a b", "COMMAND GETKEYS SPUBLISH a b", "ACL CAT pubsub"],
    ];
    for script in scripts {
        for first in ["PING first", "HELLO 3"] {
            let lines: Vec<&str> = [first].iter().chain(*script).copied().collect();
            let sorted = |server: &Server| {
                let mut found = told(server, &lines);
                // What ACL CAT lists, in no order.
                found.iter_mut().filter(|value| value.contains("spublish")).for_each(|value| {
                    let mut names: Vec<&str> = value.trim_matches(['[', ']']).split(' ').collect();
                    names.sort_unstable();
                    *value = names.join(" ");
                });
                found
            };
            assert_eq!(sorted(&server), sorted(&reference), "{lines:?}");
        }
    }
}

#[test]
fn messages_are_those_of_redis_server_in_both_protocols() {
    for hello in ["PING", "HELLO 3"] {
        let told = [Server::start(&[]), Server::start_reference(&[])].map(|server| {
            let mut listener = server.connect();
            listener.line(hello);
            for line in ["SUBSCRIBE news", "PSUBSCRIBE n[e]ws", "SSUBSCRIBE news"] {
                listener.line(line);
            }
            let mut publisher = server.connect();
            let counts = ["PUBLISH news hi", "SPUBLISH news yo", "PUBLISH nobody x", "PUBLISH news \"\""];
            let mut found: Vec<String> = counts.iter().map(|line| publisher.line(line)).collect();
            found.extend((0..5).map(|_| listener.read().expect("a message").to_string()));
            for line in ["PUBSUB CHANNELS", "PUBSUB CHANNELS x*", "PUBSUB NUMSUB news x", "PUBSUB NUMPAT"] {
                found.push(publisher.line(line));
            }
            found.extend(
                ["PUBSUB SHARDCHANNELS n*", "PUBSUB SHARDNUMSUB news"].map(|line| publisher.line(line)),
            );
            let of = |line: &str, names: &[&str]| -> Vec<String> {
                line.split_whitespace()
                    .filter(|field| names.iter().any(|name| field.starts_with(name)))
                    .map(|field| field.trim_end_matches("\\n\"").to_owned())
                    .collect()
            };
            let fields = ["flags=", "sub=", "psub=", "ssub=", "resp="];
            found.extend(of(&publisher.line("CLIENT LIST TYPE pubsub"), &fields));
            let figures = ["pubsub_channels", "pubsub_patterns", "pubsubshard_channels"];
            found.extend(of(&publisher.ask(&["INFO", "stats"]).text(), &figures));
            found.push(publisher.line("CLIENT KILL TYPE pubsub"));
            assert!(listener.read().is_err(), "it is closed");
            found
        });
        assert_eq!(told[0], told[1], "after {hello}");
    }
}

/// What 7.0 gives before the reply, and in the middle of EXEC's, where it is no part of it, comes behind it from 7.2 on.
#[test]
fn what_a_client_publishes_to_itself_comes_behind_the_reply() {
    let server = Server::start(&[]);
    let script = [
        "HELLO 3",
        "SUBSCRIBE a",
        "PUBLISH a 1",
        "GET k",
        "MULTI",
        "PUBLISH a 2",
        "GET k",
        "EXEC",
        "UNSUBSCRIBE",
    ];
    let expect = [
        "hello",
        ">[\"subscribe\" \"a\" :1]",
        ":1",
        ">[\"message\" \"a\" \"1\"]",
        "nil",
        "OK",
        "QUEUED",
        "QUEUED",
        "[:1 nil]",
        ">[\"message\" \"a\" \"2\"]",
        ">[\"unsubscribe\" \"a\" :0]",
    ];
    assert_eq!(told(&server, &script), expect);
    let in_2 = ["MULTI", "SUBSCRIBE a", "PUBLISH a 1", "EXEC"];
    let expect = ["OK", "QUEUED", "QUEUED", "[[\"subscribe\" \"a\" :1] :1]", "[\"message\" \"a\" \"1\"]"];
    assert_eq!(told(&server, &in_2), expect);
}

/// The payload of a message, or of one by pattern.
fn payload(value: &Value) -> String {
    value.items().last().expect("messages have words").text()
}

#[test]
fn every_subscriber_sees_all_messages_in_one_order() {
    const EACH: usize = 2000;
    let server = Server::start(&["--runtime-threads", "3"]);
    let listeners: Vec<Client> = ["SUBSCRIBE c", "PSUBSCRIBE ?", "SUBSCRIBE c", "PSUBSCRIBE c*"]
        .into_iter()
        .map(|line| {
            let mut listener = server.connect();
            listener.line(line);
            listener
        })
        .collect();
    let orders: Vec<Vec<String>> = std::thread::scope(|scope| {
        let reading: Vec<_> = listeners
            .into_iter()
            .map(|mut listener| {
                let read = move || payload(&listener.read().expect("a message"));
                scope.spawn(move || std::iter::repeat_with(read).take(3 * EACH).collect())
            })
            .collect();
        for publisher in 0..3 {
            let mut client = server.connect();
            scope.spawn(move || {
                let message = |number| ["PUBLISH".into(), "c".into(), format!("{publisher}:{number}")];
                client.pipeline((0..EACH).map(|number| message(number).map(String::into_bytes).to_vec()));
            });
        }
        reading.into_iter().map(|listener| listener.join().expect("it has read")).collect()
    });
    assert!(orders.iter().all(|order| *order == orders[0]), "all see the same");
    for publisher in 0..3 {
        let own: Vec<&String> =
            orders[0].iter().filter(|payload| payload.starts_with(&format!("{publisher}:"))).collect();
        let expect: Vec<String> = (0..EACH).map(|number| format!("{publisher}:{number}")).collect();
        assert!(own.into_iter().eq(&expect), "in the order in which they were published");
    }
}

#[test]
fn nothing_comes_before_the_reply_to_subscribe_nor_behind_that_to_unsubscribe() {
    let server = Server::start(&["--runtime-threads", "3"]);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut publisher = server.connect();
        let stop = &stop;
        scope.spawn(move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                publisher.ask(&["PUBLISH", "c", "x"]);
            }
        });
        let mut listener = server.connect();
        for _ in 0..300 {
            listener.send(&request(&["SUBSCRIBE", "c"])).expect("the server reads");
            assert_eq!(listener.read().expect("a reply").to_string(), "[\"subscribe\" \"c\" :1]");
            listener.send(&request(&["UNSUBSCRIBE", "c"])).expect("the server reads");
            while listener.read().expect("a message").items()[0].text() != "unsubscribe" {}
            assert_eq!(listener.line("PING"), "PONG");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn who_does_not_read_is_closed_and_nobody_else() {
    let server = Server::start(&["--client-output-buffer-limit", "pubsub 200kb 0 0"]);
    let (mut reads, mut sleeps) = (server.connect(), server.connect());
    reads.line("SUBSCRIBE c");
    sleeps.line("SUBSCRIBE c");
    let mut publisher = server.connect();
    let message = "x".repeat(10_000);
    let mut sent = 0;
    while publisher.ask(&["PUBLISH", "c", &message]).integer() == 2 {
        reads.read().expect("a message");
        sent += 1;
        assert!(sent < 100_000, "the buffers of the system end somewhere");
    }
    reads.read().expect("a message");
    assert_eq!(publisher.line("PUBSUB NUMSUB c"), "[\"c\" :1]");
    assert_eq!(publisher.ask(&["PUBLISH", "c", &message]).integer(), 1);
    assert_eq!(payload(&reads.read().expect("a message")), message);
    let (rest, is_closed) = sleeps.read_rest(Duration::from_secs(30));
    assert!(is_closed, "closed after {} bytes", rest.len());
}

#[test]
fn messages_reach_clients_that_wait_and_those_who_pause() {
    let server = Server::start(&[]);
    let (mut waits, mut publisher) = (server.connect(), server.connect());
    waits.line("HELLO 3");
    waits.line("SUBSCRIBE c");
    waits.send(&request(&["WAIT", "1", "0"])).expect("the server reads");
    publisher.expect(&["PUBLISH", "c", "1"], ":1");
    assert_eq!(waits.read().expect("a message").to_string(), ">[\"message\" \"c\" \"1\"]");
    // What may change others holds PUBLISH too, as it reaches replicas in Redis.
    publisher.expect(&["CLIENT", "PAUSE", "100000", "WRITE"], "OK");
    let mut paused = server.connect();
    paused.send(&request(&["PUBLISH", "c", "2"])).expect("the server reads");
    crate::support::wait_until("PUBLISH waits", Duration::from_secs(30), || {
        server.connect().ask(&["INFO", "clients"]).text().contains("blocked_clients:2")
    });
    publisher.expect(&["CLIENT", "UNPAUSE"], "OK");
    assert_eq!(paused.read().expect("a reply").to_string(), ":1");
    assert_eq!(waits.read().expect("a message").to_string(), ">[\"message\" \"c\" \"2\"]");
}
