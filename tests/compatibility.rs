//! `docs/compatibility.md` is made from the command table: this test makes it again and compares.
//!
//! `LARDER_REWRITE=1 cargo test --test compatibility` writes the page instead of comparing.

use larder::commands::{Command, table};
use larder::protocol::spec::Group;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/compatibility.md");

/// The commands of Redis 7.0 (`COMMAND LIST` of redis-server 7.0.15), by group as COMMAND DOCS tells it.
const REFERENCE: &str = include_str!("redis-7.0-commands.txt");

const HEAD: &str = "# Compatibility

Made from the command table by `tests/compatibility.rs`; do not edit.

What is here answers as redis-server 7.0 does: replies, their types in RESP2 and RESP3, error texts.
A name in the second list gives `unknown command`.
";

fn groups() -> Vec<Group> {
    use Group::*;
    vec![
        Connection,
        Server,
        Generic,
        String,
        Bitmap,
        Hash,
        Transactions,
        List,
        Set,
        SortedSet,
        Hyperloglog,
        Geo,
        Stream,
        Pubsub,
        Scripting,
        Cluster,
    ]
}

/// Name, or `container subcommand`, with what the page says of it.
fn lines(command: &Command) -> Vec<String> {
    let line = |container: &str, command: &Command| {
        let spec = &command.spec;
        format!(
            "| `{container}{}` | {} | {} |",
            spec.name.to_uppercase(),
            spec.since,
            spec.summary.replace('|', "\\|")
        )
    };
    let mut lines = vec![line("", command)];
    let container = format!("{} ", command.spec.name.to_uppercase());
    let mut below: Vec<&Command> = command.subcommands.iter().collect();
    below.sort_by_key(|command| command.spec.name);
    lines.extend(below.into_iter().map(|command| line(&container, command)));
    lines
}

fn page() -> String {
    let mut text = HEAD.to_string();
    let present: BTreeMap<&str, &Command> =
        table::all().map(|command| (command.spec.name, command)).collect();
    write!(text, "\n## Present\n").expect("a String takes everything");
    for group in groups() {
        let commands: Vec<_> = present.values().filter(|command| command.spec.group == group).collect();
        if commands.is_empty() {
            continue;
        }
        let _ = write!(
            text,
            "\n### {}\n\n| command | since Redis | what it does |\n|---|---|---|\n",
            group.name()
        );
        for line in commands.into_iter().flat_map(|command| lines(command)) {
            text.push_str(&line);
            text.push('\n');
        }
    }
    text.push_str("\n## Absent\n\nCommands and subcommands of Redis 7.0 that are not here yet.\n\n");
    for line in REFERENCE.lines() {
        let (group, names) = line.split_once(": ").expect("`group: names`");
        let absent: Vec<String> = names
            .split(' ')
            .filter(|name| !has(&present, name))
            .map(|name| format!("`{}`", name.to_uppercase().replace('|', " ")))
            .collect();
        if !absent.is_empty() {
            let _ = write!(text, "- {group}: {}\n", absent.join(", "));
        }
    }
    text
}

fn has(present: &BTreeMap<&str, &Command>, name: &str) -> bool {
    let (container, subcommand) = name.split_once('|').unwrap_or((name, ""));
    present.get(container).is_some_and(|command| {
        subcommand.is_empty() || command.subcommands.iter().any(|found| found.spec.name == subcommand)
    })
}

#[test]
fn the_compatibility_page_is_what_the_table_says() {
    let page = page();
    if std::env::var_os("LARDER_REWRITE").is_some() {
        std::fs::write(PAGE, &page).expect("docs/ can be written");
        return;
    }
    let written = std::fs::read_to_string(Path::new(PAGE)).unwrap_or_default();
    assert!(
        written == page,
        "docs/compatibility.md is not what the command table says.\n\
         Make it again: LARDER_REWRITE=1 cargo test --test compatibility"
    );
}

#[test]
fn every_command_is_documented() {
    let mut wrong = Vec::new();
    for command in table::all() {
        for one in std::iter::once(command).chain(command.subcommands) {
            if one.spec.summary.is_empty() || one.spec.arity == 0 {
                wrong.push(format!("{} {}", command.spec.name, one.spec.name));
            }
        }
    }
    assert!(wrong.is_empty(), "without summary or arity: {wrong:?}");
}

#[test]
fn names_are_unique() {
    let mut seen = std::collections::BTreeSet::new();
    for command in table::all() {
        assert!(seen.insert(command.spec.name), "{} is declared twice", command.spec.name);
    }
}
