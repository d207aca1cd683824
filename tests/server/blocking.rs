//! Clients that wait for a key: the same scenes are played on Larder and on redis-server, and every reply must be the same.
//!
//! A line of a scene is one of these, `a` being a client:
//! ```text
//! a BLPOP list 0      sends a command
//! a: RPUSH list x     sends one and reads its reply
//! a; HELLO 3          the same, and the replies need not be the same
//! a?                  reads a reply
//! a!                  ends the connection
//! =2                  waits until so many clients are blocked
//! ```

use crate::support::{Client, Server, request, wait_until, words};
use std::collections::BTreeMap;
use std::time::Duration;

const WITHIN: Duration = Duration::from_secs(30);

fn blocked(client: &mut Client) -> String {
    let info = client.line("INFO clients");
    let line = info.split("blocked_clients:").nth(1).unwrap_or_default();
    line.chars().take_while(char::is_ascii_digit).collect()
}

/// Plays a scene; the replies, each with the line that it was read at.
fn play(server: &Server, scene: &str) -> Vec<String> {
    let mut control = server.connect();
    control.line("FLUSHALL");
    let (mut clients, mut replies) = (BTreeMap::new(), Vec::new());
    for line in scene.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(count) = line.strip_prefix('=') {
            wait_until(line, WITHIN, || blocked(&mut control) == count);
            continue;
        }
        let (name, rest) = line.split_at(1);
        if rest == "!" {
            clients.remove(name);
            continue;
        }
        let client = clients.entry(name.to_owned()).or_insert_with(|| server.connect());
        let is_read = rest.starts_with(['?', ':', ';']);
        let command = rest.trim_start_matches(['?', ':', ';']).trim();
        if !command.is_empty() {
            client.send(&request(&words(command))).expect("the server reads");
        }
        if is_read {
            let reply = client
                .read()
                .map_or_else(|error| format!("no reply: {:?}", error.kind()), |value| value.to_string());
            if !rest.starts_with(';') {
                replies.push(format!("{line} → {reply}"));
            }
        }
    }
    drop(clients);
    wait_until("nobody waits", WITHIN, || blocked(&mut control) == "0");
    replies
}

fn check_scenes(scenes: &[&str]) {
    let (server, reference) = (Server::start(&[]), Server::start_reference(&[]));
    for scene in scenes {
        let (ours, theirs) = (play(&server, scene), play(&reference, scene));
        assert_eq!(ours, theirs, "{scene}");
        assert!(!ours.is_empty(), "{scene}");
    }
}

#[test]
fn who_waits_longest_is_served_first() {
    check_scenes(&[
        "a BLPOP l 0\n=1\nb BRPOP l 0\n=2\nc BLMPOP 0 2 m l LEFT COUNT 2\n=3\np: RPUSH l 1 2 3 4 5\na?\nb?\nc?\np: LRANGE l 0 -1",
        "a BLPOP l m 0\n=1\nb BLPOP m l 0\n=2\np: RPUSH m x\np: RPUSH l y\na?\nb?",
        "a BLPOP l 0\n=1\nb BLPOP l 0\n=2\na!\n=1\np: RPUSH l x y\nb?\np: LRANGE l 0 -1",
        "a BLPOP l l l 0\n=1\np: RPUSH l 1 2\na?\np: LRANGE l 0 -1\n=0",
        "a BLPOP l 0\n=1\nb BLPOP l 0\n=2\np: RPUSH l x\na?\na BLPOP l 0\n=2\np: RPUSH l y z\nb?\na?",
        "a; HELLO 3\na BLPOP l 0\n=1\np: LPUSH l x\na?\na: BLPOP l 0.01\na: BLMOVE l m LEFT LEFT 0.01\na: BLMPOP 0.01 1 l LEFT",
    ]);
}

#[test]
fn moves_serve_each_other() {
    check_scenes(&[
        "a BLMOVE l m LEFT RIGHT 0\n=1\nb BLPOP m 0\n=2\np: RPUSH l x\na?\nb?\np: EXISTS l m",
        "a BRPOPLPUSH l m 0\n=1\nb BRPOPLPUSH m l 0\n=2\np: RPUSH l x\na?\nb?\np: LRANGE l 0 -1\np: LRANGE m 0 -1",
        "a BLMOVE l l LEFT RIGHT 0\n=1\np: RPUSH l x y\na?\np: LRANGE l 0 -1",
        "p: SET m text\na BLMOVE l m LEFT RIGHT 0\n=1\nb BLPOP l 0\n=2\np: RPUSH l x\na?\nb?\np: EXISTS l",
        "a BLMOVE {1} {2} LEFT RIGHT 0\n=1\nb BLMOVE {2} {3} LEFT RIGHT 0\n=2\nc BLMOVE {3} {4} LEFT LEFT 0\n=3\nd BLPOP {4} {5} 0\n=4\n\
         p: LPUSH {1} x y\na?\nb?\nc?\nd?\np: LRANGE {1} 0 -1",
    ]);
}

#[test]
fn whatever_makes_a_list_serves() {
    check_scenes(&[
        "p: RPUSH other x y\na BLPOP l 0\n=1\np: RENAME other l\na?\np: LRANGE l 0 -1",
        "p: RPUSH other x y\na BLPOP l 0\n=1\np: COPY other l\na?\np: LRANGE l 0 -1",
        "p: RPUSH other 2 1\na BLPOP l 0\n=1\np: SORT other STORE l\na?\np: LRANGE l 0 -1",
        "p: RPUSH other x\na BLPOP l 0\n=1\np: LMOVE other l LEFT LEFT\na?\np: EXISTS l other",
        "p: SELECT 1\np: RPUSH l x\na BLPOP l 0\n=1\np: MOVE l 0\na?\np: EXISTS l",
        "p: SELECT 1\np: RPUSH l x\na BLPOP l 0\n=1\np: SWAPDB 0 1\na?\np: EXISTS l",
        "a BLPOP l 0\n=1\np: RESTORE l 0 \"\\x12\\x01\\x02\\x0a\\x0a\\x00\\x00\\x00\\x01\\x00\\x81x\\x02\\xff\\x0a\\x00\"\np: LPUSH l x\na?",
    ]);
}

#[test]
fn what_is_no_list_serves_nobody() {
    check_scenes(&[
        "a BLPOP l 0\n=1\np: SET l text\np: DEL l\np: RPUSH l x\na?",
        "a BLPOP l 0\n=1\np: SET l text\np: FLUSHALL\np: RPUSH l x\na?",
        "a BLPOP l 0\n=1\np: HSET l f v\np: DEL l\np: LPUSH l x\na?",
        "p: SET l text\na: BLPOP l 0\na: BLPOP m l 0\na: BLMOVE l m LEFT LEFT 0\na: BLMPOP 0 1 l LEFT",
    ]);
}

#[test]
fn a_transaction_serves_when_it_is_over_and_waits_for_nothing() {
    check_scenes(&[
        "a BLPOP l 0\n=1\np: MULTI\np: RPUSH l x\np: DEL l\np: SET l text\np: EXEC\np: DEL l\np: RPUSH l y\na?",
        "a BLPOP l 0\n=1\np: MULTI\np: RPUSH l x\np: RPUSH l y\np: LPUSH l z\np: EXEC\na?\np: LRANGE l 0 -1",
        "a BLPOP l m 0\n=1\np: MULTI\np: RPUSH m x\np: RPUSH l y\np: EXEC\na?\np: EXISTS m\np: EXISTS l",
        "a BLPOP l m 0\n=1\np: MULTI\np: RPUSH l x\np: RPUSH m y\np: EXEC\na?\np: EXISTS m\np: EXISTS l",
        "p: MULTI\np: BLPOP l 0\np: BLMOVE l m LEFT LEFT 0\np: BRPOPLPUSH l m 0\np: BLMPOP 0 1 l LEFT\np: EXEC",
        "p: MULTI\np: RPUSH l x y z\np: BLPOP l 0\np: BLMOVE l m RIGHT LEFT 0\np: BLMPOP 0 1 m LEFT\np: EXEC",
        "p: RPUSH l x\np: WATCH m\na BLMOVE nothing m LEFT LEFT 0\n=1\nq: RPUSH nothing x\na?\np: MULTI\np: PING\np: EXEC",
    ]);
}

#[test]
fn who_waits_for_members_is_served_in_the_same_way() {
    check_scenes(&[
        "a BZPOPMIN z 0\n=1\nb BZPOPMAX z 0\n=2\nc BZMPOP 0 2 y z MIN COUNT 2\n=3\n\
         p: ZADD z 1 one 2 two 3 three 4 four 5 five\na?\nb?\nc?\np: ZRANGE z 0 -1 WITHSCORES",
        "a BZPOPMIN z y 0\n=1\nb BZPOPMIN y z 0\n=2\np: ZADD y 1 x\np: ZADD z 2 x\na?\nb?\np: EXISTS y z",
        "a; HELLO 3\na BZPOPMIN z 0\n=1\np: ZADD z 1.5 x\na?\na: BZPOPMIN z 0.01\na: BZMPOP 0.01 1 z MAX\n\
         p: ZADD z 2 y 3 z\na: BZPOPMAX z 0\na: BZMPOP 0 1 z MIN COUNT 2\na: BZMPOP 0.01 1 z MIN COUNT 2",
        "a BZMPOP 0 1 z MAX COUNT 10\n=1\np: ZADD z 1 a 2 b\na?\np: EXISTS z",
        "a BZPOPMAX z z 0\n=1\np: ZADD z 1 a 2 b\na?\np: ZRANGE z 0 -1",
        // Whoever waits for a list is not served from a sorted set, and the other way round.
        "a BLPOP k 0\n=1\nb BZPOPMIN k 0\n=2\np: ZADD k 1 x\nb?\np: RPUSH k y\na?\np: EXISTS k",
        "a BZPOPMIN k 0\n=1\nb BLPOP k 0\n=2\np: RPUSH k x y\nb?\np: DEL k\np: ZADD k 1 x\na?\np: EXISTS k",
        "p: SET z text\na: BZPOPMIN z 0\na: BZPOPMAX y z 0\na: BZMPOP 0 2 y z MIN",
        "a: ZADD z 1 a 2 b 3 c\na: BZPOPMIN z 0\na: BZPOPMAX y z 0\na: BZMPOP 0 2 y z MIN\na: EXISTS z",
    ]);
}

#[test]
fn whatever_makes_a_sorted_set_serves() {
    check_scenes(&[
        "p: ZADD o 1 a 2 b\na BZPOPMIN z 0\n=1\np: RENAME o z\na?\np: ZRANGE z 0 -1",
        "p: ZADD o 1 a 2 b\na BZPOPMIN z 0\n=1\np: COPY o z\na?\np: ZRANGE z 0 -1",
        "p: ZADD o 1 a 2 b\na BZPOPMAX z 0\n=1\np: ZUNIONSTORE z 1 o\na?\np: ZRANGE z 0 -1",
        "p: ZADD o 1 a 2 b\na BZPOPMAX z 0\n=1\np: ZRANGESTORE z o 0 -1\na?\np: ZRANGE z 0 -1",
        "a BZPOPMIN z 0\n=1\np: ZINCRBY z 2.5 a\na?\np: EXISTS z",
        "a BZPOPMIN z 0\n=1\np: GEOADD z 13.361389 38.115556 Palermo\na?\np: EXISTS z",
        "p: SELECT 1\np: ZADD z 1 a\na BZPOPMIN z 0\n=1\np: MOVE z 0\na?\np: EXISTS z",
        "a BZPOPMIN z 0\n=1\np: ZADD z XX 1 a\np: ZADD z NX 2 b\na?\np: EXISTS z",
        "a BZPOPMIN z 0\n=1\np: MULTI\np: ZADD z 1 a\np: DEL z\np: EXEC\np: MULTI\np: ZADD z 3 b\np: ZADD z 2 c\np: EXEC\na?\n\
         p: ZRANGE z 0 -1",
        "p: MULTI\np: BZPOPMIN z 0\np: BZPOPMAX z 0\np: BZMPOP 0 1 z MIN\np: ZADD z 1 a 2 b 3 c\np: BZPOPMIN z 0\np: BZMPOP 0 1 z MAX\n\
         p: EXEC",
    ]);
}

#[test]
fn words_are_checked_as_in_redis() {
    check_scenes(&["a: BLPOP l x
        a: BLPOP l -1
        a: BLPOP l inf
        a: BLPOP l nan
        a: BLPOP l 1e300
        a: BLPOP l
        a: BLPOP l 0.001
        a: BRPOP l m 0.001
        a: BLMOVE l m UP LEFT 0
        a: BLMOVE l m LEFT LEFT x
        a: BRPOPLPUSH l m x
        a: BLMPOP x 0 l LEFT
        a: BLMPOP 0 0 l LEFT
        a: BLMPOP x 1 l LEFT
        a: BLMPOP 0.001 1 l UP
        a: BLMPOP 0.001 2 l LEFT
        a: BLMPOP 0.001 1 l LEFT COUNT 0
        a: BLMPOP 0.001 1 l LEFT COUNT 1 COUNT 1
        a: BLMPOP 0.001 1 l LEFT COUNT
        a: LMPOP 1 l LEFT COUNT 3
        a: COMMAND GETKEYS BLMPOP 0 2 a b LEFT
        a: COMMAND GETKEYS BLPOP a b 0
        a: BZPOPMIN z x
        a: BZPOPMAX z -1
        a: BZPOPMIN z
        a: BZPOPMIN z 0.001
        a: BZPOPMAX z y 0.001
        a: BZMPOP x 0 z MIN
        a: BZMPOP 0 0 z MIN
        a: BZMPOP x 1 z MIN
        a: BZMPOP 0.001 1 z UP
        a: BZMPOP 0.001 2 z MIN
        a: BZMPOP 0.001 1 z MIN COUNT 0
        a: BZMPOP 0.001 1 z MAX COUNT 1 COUNT 1
        a: BZMPOP 0.001 1 z MAX COUNT 2
        a: COMMAND GETKEYS BZMPOP 0 2 a b MIN
        a: COMMAND GETKEYS BZPOPMIN a b 0
        a: BLPOP l 0.01
        a: PING"]);
}

/// Number of the client, by CLIENT ID.
fn id(client: &mut Client) -> String {
    client.ask(&["CLIENT", "ID"]).integer().to_string()
}

#[test]
fn waits_are_ended_from_outside() {
    for server in [Server::start(&[]), Server::start_reference(&[])] {
        let (mut client, mut other) = (server.connect(), server.connect());
        let number = id(&mut client);
        other.expect(&["CLIENT", "UNBLOCK", &number], ":0");
        for (how, reply) in [
            (vec![], "(nil)"),
            (vec!["TIMEOUT"], "(nil)"),
            (vec!["ERROR"], "UNBLOCKED client unblocked via CLIENT UNBLOCK"),
        ] {
            client.send(&request(&words("BLPOP l 0"))).expect("the server reads");
            wait_until("it waits", WITHIN, || blocked(&mut other) == "1");
            let list = other.line("CLIENT LIST");
            assert!(list.contains(" flags=b ") && list.contains(" cmd=blpop "), "{list}");
            let unblock = [&["CLIENT", "UNBLOCK", &number][..], &how].concat();
            other.expect(&unblock, ":1");
            let found = client.read().expect("it is served").to_string();
            assert!(
                found.contains(reply) || reply == "(nil)" && !found.contains("UNBLOCKED"),
                "{how:?}: {found}"
            );
            other.check(&[("RPUSH l x", ":1"), ("DEL l", ":1")]);
        }
        let counted = other.line("INFO errorstats");
        assert!(counted.contains("errorstat_UNBLOCKED:count=1"), "{counted}");
        client.send(&request(&words("BLPOP l 0"))).expect("the server reads");
        wait_until("it waits", WITHIN, || blocked(&mut other) == "1");
        other.expect(&["CLIENT", "KILL", "ID", &number], ":1");
        assert!(client.read().is_err());
        wait_until("it waits no more", WITHIN, || blocked(&mut other) == "0");
        other.check(&[("RPUSH l x", ":1"), ("LLEN l", ":1")]);
    }
}

#[test]
fn who_waits_when_the_server_begins_to_follow_is_told() {
    for server in [Server::start(&[]), Server::start_reference(&[])] {
        let (mut client, mut other) = (server.connect(), server.connect());
        client.send(&request(&words("BLPOP l 0"))).expect("the server reads");
        wait_until("it waits", WITHIN, || blocked(&mut other) == "1");
        other.expect(&["REPLICAOF", "127.0.0.1", "1"], "OK");
        let reply = client.read().expect("it is told").to_string();
        assert!(
            reply.contains(
                "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"
            ),
            "{reply}"
        );
    }
}

/// Producers and consumers on all threads of the server, some of which are killed while they wait: nothing comes twice, and nothing is
/// lost but what was on its way to one that was killed.
#[test]
fn many_wait_and_some_are_killed() {
    const CONSUMERS: usize = 16;
    const PER_PRODUCER: usize = 500;
    let server = Server::start(&[]);
    let port = server.port;
    let consumers: Vec<_> = (0..CONSUMERS)
        .map(|_| {
            let mut client = server.connect();
            std::thread::spawn(move || {
                let mut found = Vec::new();
                loop {
                    let Ok(reply) = client.try_ask(&["BLPOP", "queue", "other", "0"]) else { return found };
                    let element = reply.items()[1].text();
                    if element == "end" {
                        return found;
                    }
                    found.push(element);
                }
            })
        })
        .collect();
    let producers: Vec<_> = (0..4)
        .map(|producer| {
            std::thread::spawn(move || {
                let mut client = Client::try_connect(port).expect("it listens");
                for number in 0..PER_PRODUCER {
                    let key = if number % 3 == 0 { "other" } else { "queue" };
                    client.ask(&["RPUSH", key, &format!("{producer}:{number}")]);
                    if number % 50 == 0 {
                        // One that waits and is gone at once: whatever is pushed meanwhile is for the others.
                        let mut passing = Client::try_connect(port).expect("it listens");
                        passing.send(&request(&["BLPOP", "nothing", "0"])).expect("the server reads");
                    }
                }
            })
        })
        .collect();
    producers.into_iter().for_each(|producer| producer.join().expect("a producer"));
    let mut control = server.connect();
    wait_until("all is taken", WITHIN, || control.line("EXISTS queue other") == ":0");
    for _ in 0..CONSUMERS {
        control.ask(&["RPUSH", "queue", "end"]);
    }
    let mut found: Vec<String> =
        consumers.into_iter().flat_map(|consumer| consumer.join().expect("a consumer")).collect();
    found.sort();
    let all = found.len();
    found.dedup();
    assert_eq!((all, found.len()), (4 * PER_PRODUCER, 4 * PER_PRODUCER));
}
