//! A client cannot tell whether a node runs its commands or forwards them: the same lines, made up from the command table, get the
//! same bytes from both, in both versions of the protocol.

use super::connection_tests::{Connected, SOON};
use super::forward_tests::Mesh;
use crate::commands::Handler;
use crate::commands::table::{self, Entry};
use crate::protocol::spec::{Argument, ArgumentKind};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tokio::io::AsyncReadExt;

/// Lines of each command.
const LINES: u32 = 24;
/// What depends on the moment, but for what the table says of itself.
const OF_THE_MOMENT: [&str; 6] = ["ttl", "pttl", "expiretime", "pexpiretime", "idletime", "freq"];

/// Every command on data, subcommands included, with the words that name it.
fn commands() -> Vec<(Vec<&'static str>, &'static Entry)> {
    fn visit(
        entry: &'static Entry,
        before: &[&'static str],
        found: &mut Vec<(Vec<&'static str>, &'static Entry)>,
    ) {
        let mut words = before.to_vec();
        words.push(entry.command.spec.name);
        entry.subcommands.iter().for_each(|entry| visit(entry, &words, found));
        let spec = &entry.command.spec;
        let is_data = matches!(entry.command.handler, Handler::Read(_) | Handler::Write(_));
        let is_of_the_moment = spec.tips.contains(&"nondeterministic_output")
            || OF_THE_MOMENT.iter().any(|name| spec.name.trim_start_matches('h') == *name);
        if is_data && !is_of_the_moment {
            found.push((words, entry));
        }
    }
    let mut found = Vec::new();
    table::entries().iter().for_each(|entry| visit(entry, &[], &mut found));
    found
}

fn pick<'a>(random: &mut StdRng, from: &[&'a str]) -> &'a str {
    from.choose(random).copied().unwrap_or_default()
}

/// Words that fit an argument, or nearly.
fn word(argument: &Argument, random: &mut StdRng) -> String {
    let is_time = argument.name.contains("seconds");
    pick(
        random,
        match argument.kind {
            _ if is_time => &["100000", "0", "-5", "x"],
            ArgumentKind::Key => &["k1", "k2", "k3", "k4", "k5", "k6", "{k}7"],
            ArgumentKind::Integer => &["0", "1", "2", "3", "-1", "10", "x"],
            ArgumentKind::Double => &["1.5", "-2", "x"],
            ArgumentKind::Pattern => &["*", "k*", "k[1-3]"],
            ArgumentKind::UnixTime => &["99999999999", "1", "x"],
            ArgumentKind::PureToken => &[""],
            ArgumentKind::String | ArgumentKind::OneOf | ArgumentKind::Block => {
                &["a", "1", "f1", "f2", "3.5", "u8", "''"]
            }
        },
    )
    .to_owned()
}

fn words(arguments: &[Argument], random: &mut StdRng, out: &mut Vec<String>) {
    for argument in arguments {
        if argument.optional && random.random_bool(0.6) {
            continue;
        }
        let times = if argument.multiple { random.random_range(1..=2) } else { 1 };
        for time in 0..times {
            if !argument.token.is_empty() && (time == 0 || argument.multiple_token) {
                out.push(argument.token.to_owned());
            }
            match argument.kind {
                ArgumentKind::PureToken => {}
                ArgumentKind::Block => words(argument.children, random, out),
                ArgumentKind::OneOf => {
                    if let Some(child) = argument.children.choose(random) {
                        words(std::slice::from_ref(child), random, out);
                    }
                }
                _ => out.push(word(argument, random)),
            }
        }
    }
}

/// Everything that is sent, line by line.
fn lines() -> Vec<String> {
    let mut random = StdRng::seed_from_u64(7);
    let mut lines: Vec<String> = Vec::new();
    for (name, entry) in commands() {
        lines.push(
            "SET k1 10|SET k2 hello|DEL k3|HSET k3 f1 1 f2 x|SET k4 3.5|DEL k5|SETBIT k6 7 1".to_owned(),
        );
        lines.push(name.join(" "));
        for _ in 0..LINES {
            let mut line: Vec<String> = name.iter().map(|&word| word.to_owned()).collect();
            words(entry.command.spec.arguments, &mut random, &mut line);
            let line = line.join(" ");
            lines.push(match random.random_range(0..8) {
                0 => format!("MULTI|{line}|INCR k1|{line}|EXEC"),
                1 => format!("SELECT {}|{line}", random.random_range(0..3)),
                2 => format!("{line}|{line}|GET k2"),
                _ => line,
            });
        }
    }
    lines
}

/// The bytes that come before the reply to `ECHO` of this mark.
async fn replies(client: &mut Connected, lines: &str, mark: &str) -> Vec<u8> {
    client.send(&format!("{lines}|ECHO {mark}|")).await;
    let end = format!("${}\r\n{mark}\r\n", mark.len()).into_bytes();
    let mut found = Vec::new();
    while !found.ends_with(&end) {
        let mut bytes = [0; 4096];
        let len = tokio::time::timeout(SOON, client.0.read(&mut bytes)).await.expect("soon").expect("open");
        assert!(len > 0, "{lines}: the connection was closed");
        found.extend_from_slice(&bytes[..len]);
    }
    found
}

#[tokio::test(start_paused = true)]
async fn forwarded_commands_get_the_replies_that_they_get_where_their_data_is() {
    for version in [2, 3] {
        let (here, there) = (Mesh::new(1, &[]), Mesh::new(2, &[]));
        let (mut near, mut far) = (here.client(0), there.client(1));
        for client in [&mut near, &mut far] {
            replies(client, &format!("HELLO {version}"), "greeted").await;
        }
        let lines = lines();
        assert!(lines.len() > 1000, "every command has its lines");
        for (number, line) in lines.iter().enumerate() {
            let mark = format!("mark-{number}-{}", number ^ 0x5555);
            let (expected, found) =
                (replies(&mut near, line, &mark).await, replies(&mut far, line, &mark).await);
            assert_eq!(
                String::from_utf8_lossy(&found),
                String::from_utf8_lossy(&expected),
                "RESP{version}, line {number}: {line}"
            );
        }
    }
}
