//! The command table beside redis-server's: what COMMAND tells of a command both have must be the same.

use crate::support::{Server, Value};
use std::collections::BTreeMap;

/// Commands that redis-server 7.0 does not know, and why we have them.
const OURS_ALONE: &[(&str, &str)] = &[
    ("client|no-touch", "of 7.2, the version that we tell"),
    ("client|setinfo", "of 7.2: most clients send it when they connect"),
    (
        "client|write-concern",
        "ours: WAIT after each write costs a round trip more, and shows the write to others before",
    ),
    ("cluster|myshardid", "of 7.2, the version that we tell"),
    ("hexpire", "of 7.4: deadlines of fields"),
    ("hexpireat", "of 7.4: deadlines of fields"),
    ("hexpiretime", "of 7.4: deadlines of fields"),
    ("hgetdel", "of 8.0: deadlines of fields"),
    ("hgetex", "of 8.0: deadlines of fields"),
    ("hpersist", "of 7.4: deadlines of fields"),
    ("hpexpire", "of 7.4: deadlines of fields"),
    ("hpexpireat", "of 7.4: deadlines of fields"),
    ("hpexpiretime", "of 7.4: deadlines of fields"),
    ("hpttl", "of 7.4: deadlines of fields"),
    ("hsetex", "of 8.0: deadlines of fields"),
    ("httl", "of 7.4: deadlines of fields"),
    ("sentinel", "a sentinel's: here every node of a cluster answers for one"),
    ("waitaof", "of 7.2, the version that we tell"),
];

/// Wanted differences: command, field of COMMAND INFO, why.
const DIFFERENCES: &[(&str, &str, &str)] =
    &[("zrank", "arity", "WITHSCORE of 7.2"), ("zrevrank", "arity", "WITHSCORE of 7.2")];

const FIELDS: [&str; 10] = [
    "name",
    "arity",
    "flags",
    "first key",
    "last key",
    "step",
    "categories",
    "tips",
    "key specifications",
    "subcommands",
];

/// Command → field → value as text. Sets are sorted; subcommands become commands of their own.
fn table(server: &Server) -> BTreeMap<String, BTreeMap<&'static str, String>> {
    let mut found = BTreeMap::new();
    let mut waiting = server.connect().ask(&["COMMAND"]).items().to_vec();
    while let Some(command) = waiting.pop() {
        let fields = command.items();
        waiting.extend_from_slice(fields[9].items());
        let told = FIELDS.iter().zip(fields).take(9).map(|(field, value)| (*field, shown(value))).collect();
        found.insert(fields[0].text(), told);
    }
    found
}

/// Arrays of words are sets here; key specifications keep their order, not that of their flags.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            // Notes are each server's own words.
            let notes = items.first().is_some_and(|first| first.to_string() == "\"notes\"");
            let mut items: Vec<String> = items.iter().skip(if notes { 2 } else { 0 }).map(shown).collect();
            if value.items().iter().all(|item| matches!(item, Value::Simple(_))) {
                items.sort();
            }
            format!("[{}]", items.join(" "))
        }
        other => other.to_string(),
    }
}

#[test]
fn commands_are_declared_as_redis_server_declares_them() {
    let (server, reference) = (Server::start(&[]), Server::start_reference(&[]));
    let (ours, theirs) = (table(&server), table(&reference));
    let mut wrong = Vec::new();
    for (name, fields) in &ours {
        // Or a subcommand of it.
        let is_of = |command: &str| {
            name.strip_prefix(command).is_some_and(|rest| rest.is_empty() || rest.starts_with('|'))
        };
        let is_alone = OURS_ALONE.iter().any(|(command, _)| is_of(command));
        assert_eq!(
            theirs.contains_key(name),
            !is_alone,
            "{name} is in one of the two, or in both, for a reason"
        );
        let Some(expected) = theirs.get(name) else { continue };
        for (field, value) in fields {
            let wanted = DIFFERENCES.iter().any(|(command, of, _)| command == name && of == field);
            if (*value == expected[field]) == wanted {
                wrong.push(format!("{name}, {field}: ours {value}, theirs {}", expected[field]));
            }
        }
    }
    assert!(ours.len() > 100, "only {} commands", ours.len());
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

/// Wanted differences of COMMAND DOCS: command, field, why.
const DOCUMENTED_DIFFERENTLY: &[(&str, &str, &str)] = &[
    ("zrank", "history", "WITHSCORE of 7.2"),
    ("zrank", "arguments", "WITHSCORE of 7.2"),
    ("zrevrank", "history", "WITHSCORE of 7.2"),
    ("zrevrank", "arguments", "WITHSCORE of 7.2"),
    ("client|kill", "arguments", "what SKIPME takes is spelled out, as Redis does from 7.2 on"),
    ("client|kill", "history", "one line for what 2.8.12 brought"),
    ("client|list", "history", "7.2.0 brought fields that are shown here"),
    ("quit", "doc_flags", "Redis deprecates it from 7.2 on, the version that we tell"),
    ("quit", "deprecated_since", "Redis deprecates it from 7.2 on, the version that we tell"),
    ("quit", "replaced_by", "Redis deprecates it from 7.2 on, the version that we tell"),
];

/// Fields of COMMAND DOCS that must be the same. `summary`, `complexity` and the remarks of `history` are our own words.
const DOCUMENTED: [&str; 7] =
    ["since", "group", "doc_flags", "deprecated_since", "replaced_by", "history", "arguments"];

/// Command → what COMMAND DOCS says of it, subcommands included.
fn documentation(server: &Server) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![server.connect().ask(&["COMMAND", "DOCS"])];
    while let Some(docs) = waiting.pop() {
        for pair in docs.items().chunks(2) {
            waiting.extend(field_of(&pair[1], "subcommands"));
            found.insert(pair[0].text(), pair[1].clone());
        }
    }
    found
}

#[test]
fn command_docs_tells_what_redis_server_tells() {
    let (server, reference) = (Server::start(&[]), Server::start_reference(&[]));
    let (ours, theirs) = (documentation(&server), documentation(&reference));
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for (name, doc) in &ours {
        assert!(field_of(doc, "summary").is_some(), "{name}");
        let Some(expected) = theirs.get(name) else { continue };
        compared += 1;
        for field in DOCUMENTED {
            let value =
                |doc: &Value| field_of(doc, field).map(|value| told(field, &value)).unwrap_or_default();
            let wanted =
                DOCUMENTED_DIFFERENTLY.iter().any(|(command, of, _)| command == name && *of == field);
            if (value(doc) == value(expected)) == wanted {
                wrong.push(format!(
                    "{name}, {field}:\n  ours   {}\n  theirs {}",
                    value(doc),
                    value(expected)
                ));
            }
        }
    }
    assert!(compared > 200, "only {compared} commands");
    assert!(
        wrong.is_empty(),
        "{} are other than the list of differences says:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn field_of(doc: &Value, field: &str) -> Option<Value> {
    doc.items().chunks(2).find(|pair| pair[0].text() == field).map(|pair| pair[1].clone())
}

/// A field as text: the versions of the history, whole syntax trees, sets without their order.
fn told(field: &str, value: &Value) -> String {
    match field {
        "history" => {
            value.items().iter().map(|change| change.items()[0].text()).collect::<Vec<_>>().join(" ")
        }
        "arguments" => syntax(value),
        _ => shown(value),
    }
}

/// Every argument with all that is told of it, children last.
fn syntax(value: &Value) -> String {
    let arguments = value.items().iter().map(|argument| {
        let told = argument.items().chunks(2).filter(|pair| pair[0].text() != "arguments");
        let told: Vec<String> = told.map(|pair| format!("{}={}", pair[0].text(), shown(&pair[1]))).collect();
        let children = field_of(argument, "arguments").map(|value| syntax(&value)).unwrap_or_default();
        format!("{}{children}", told.join(" "))
    });
    format!("({})", arguments.collect::<Vec<_>>().join(", "))
}
