//! The command table beside redis-server's: what COMMAND tells of a command both have must be the same.

use crate::support::{Server, Value};
use std::collections::BTreeMap;

/// Wanted differences: command, field of COMMAND INFO, why.
const DIFFERENCES: &[(&str, &str, &str)] = &[];

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
        let Some(expected) = theirs.get(name) else { continue };
        for (field, value) in fields {
            let wanted = DIFFERENCES.iter().any(|(command, of, _)| command == name && of == field);
            if *value != expected[field] && !wanted {
                wrong.push(format!("{name}, {field}: ours {value}, theirs {}", expected[field]));
            }
        }
    }
    assert!(ours.len() > 100, "only {} commands", ours.len());
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn command_docs_has_the_syntax_redis_server_tells() {
    let (server, reference) = (Server::start(&[]), Server::start_reference(&[]));
    let docs = |server: &Server| -> BTreeMap<String, Value> {
        let all = server.connect().ask(&["COMMAND", "DOCS"]);
        all.items().chunks(2).map(|pair| (pair[0].text(), pair[1].clone())).collect()
    };
    let (ours, theirs) = (docs(&server), docs(&reference));
    let mut wrong = Vec::new();
    for (name, doc) in &ours {
        let Some(expected) = theirs.get(name) else { continue };
        for field in ["since", "group", "arguments"] {
            let value = |doc: &Value| field_of(doc, field).map(|value| syntax(&value));
            if value(doc) != value(expected) {
                let text = |doc: &Value| value(doc).unwrap_or_else(|| "nothing".to_string());
                wrong.push(format!("{name}, {field}:\n  ours   {}\n  theirs {}", text(doc), text(expected)));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

fn field_of(doc: &Value, field: &str) -> Option<Value> {
    doc.items().chunks(2).find(|pair| pair[0].text() == field).map(|pair| pair[1].clone())
}

/// What matters for completion: kinds, tokens, flags and nesting. Names and display texts are each server's own words.
fn syntax(value: &Value) -> String {
    let Value::Array(items) = value else { return value.to_string() };
    let arguments: Vec<String> = items
        .iter()
        .map(|argument| {
            let text = |field: &str| field_of(argument, field).map(|value| shown(&value)).unwrap_or_default();
            let children = field_of(argument, "arguments").map(|value| syntax(&value)).unwrap_or_default();
            format!("{} {} {}{children}", text("type"), text("token"), text("flags"))
        })
        .collect();
    format!("({})", arguments.join(", "))
}
