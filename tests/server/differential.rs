//! The same commands to Larder and to redis-server, in RESP2 and RESP3: the replies must be the same bytes.
//!
//! `differential.txt` has the commands in sections; each section starts on empty data. A line that opens with `~` has a
//! reply whose order means nothing; with `?`, one of which only the kind is compared (times, sizes, numbers of clients).
//! A line that opens with `@2` or `@3` goes over a second or third connection.

use crate::support::{Client, Server, Value, words};

const CASES: &str = include_str!("differential.txt");

#[test]
fn answers_are_those_of_redis_server_in_resp2() {
    compare("2");
}

#[test]
fn answers_are_those_of_redis_server_in_resp3() {
    compare("3");
}

fn compare(protocol: &str) {
    let (server, reference) = (Server::start(&[]), Server::start_reference(&[]));
    let mut connections: Vec<_> = (0..3).map(|_| (server.connect(), reference.connect())).collect();
    let (mut section, mut wrong, mut count) = ("", Vec::new(), 0);
    for line in CASES.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(name) = line.strip_prefix("# ") {
            section = name;
            for client in connections.iter_mut().flat_map(|(ours, theirs)| [ours, theirs]) {
                client.ask(&["RESET"]);
                client.ask(&["FLUSHALL"]);
                client.ask(&["HELLO", protocol]);
            }
            continue;
        }
        count += 1;
        let (connection, command) = match line.split_once(' ') {
            Some(("@2", command)) => (1, command),
            Some(("@3", command)) => (2, command),
            _ => (0, line),
        };
        let (how, command) = match command.split_at(1) {
            (how @ ("~" | "?"), command) => (how, command.trim()),
            _ => ("", command),
        };
        let (ours, theirs) = &mut connections[connection];
        let (ours, theirs) = (reply(ours, command, how), reply(theirs, command, how));
        if ours != theirs {
            wrong.push(format!("[{section}] {line}\n    ours:   {ours:.300}\n    theirs: {theirs:.300}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {count} answers differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 300, "the list has been read");
}

fn reply(client: &mut Client, command: &str, how: &str) -> String {
    let value = client.ask(&words(command));
    match how {
        "~" => format!("{}", value.sorted()),
        "?" => kind(&value),
        _ => client.bytes.escape_ascii().to_string(),
    }
}

fn kind(value: &Value) -> String {
    match value {
        Value::Error(text) => format!("-{}", text.split(' ').next().unwrap_or_default()),
        Value::Array(items) => format!("[{}]", items.iter().map(kind).collect::<Vec<_>>().join(" ")),
        Value::Integer(number) => format!(":{}", number.signum()),
        other => format!("{:?}", std::mem::discriminant(other)),
    }
}
