//! What operators read is derived from the tables: these tests make the pages again and compare.
//!
//! `LARDER_REWRITE=1 cargo test --test operating` writes the pages instead of comparing.

use larder::config::kind::Kind;
use larder::config::table::{Effect, PARAMETERS, Parameter};
use larder::server::metrics::GROUPS;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating").join(name)
}

/// Compares a page with what it should be, or writes it.
fn check(name: &str, page: &str) {
    let path = file(name);
    if std::env::var_os("LARDER_REWRITE").is_some() {
        std::fs::write(&path, page).expect("docs/ can be written");
        return;
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/operating/{name} is not what the table says.\n\
         Make it again: LARDER_REWRITE=1 cargo test --test operating"
    );
}

/// A text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

const METRICS_HEAD: &str = "# Metrics

Made from the tables in `src/server/metrics` by `tests/operating.rs`; do not edit.

What `/metrics` answers on the [HTTP port](observing.md). Counters count since the start of the process and only grow; errors by kind
and the histograms of commands begin anew with CONFIG RESETSTAT, which Prometheus takes for a restart. A metric that has no meaning on a
server, such as those of a cluster where there is none, has no sample there. Histograms have `_bucket`, `_sum` and `_count`.
";

#[test]
fn the_page_of_metrics_is_what_the_tables_say() {
    let mut page = METRICS_HEAD.to_owned();
    for group in GROUPS {
        let _ = write!(
            page,
            "\n## {}\n\n| metric | kind | unit | labels | what it is |\n|---|---|---|---|---|\n",
            group.title
        );
        for family in group.metrics.iter().map(|metric| metric.family) {
            let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | {} | {} |",
                family.name,
                family.kind.name(),
                family.unit(),
                labels.join(", "),
                cell(family.help)
            );
        }
    }
    check("metrics.md", &page);
}

const PARAMETERS_HEAD: &str = "# Parameters

Made from the table in `src/config/table.rs` by `tests/operating.rs`; do not edit.

Every directive of `redis.conf` that Redis 7.0 knows, and ours. Each may stand in a file, as a flag (`--maxmemory 1gb`) and as a variable
(`LARDER_MAXMEMORY=1gb`); the flag wins over the variable, the variable over the file. What can be changed while the server runs is, with
CONFIG SET; the rest counts at the start. More about ours: [configuration](../config.md).
";

/// What a value may be.
fn kind_of(kind: Kind) -> String {
    let words = |words: &[&str]| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    let limit = |max: i128| if max >= i128::from(u32::MAX) { "more".to_owned() } else { max.to_string() };
    match kind {
        Kind::Bool => "`yes`, `no`".into(),
        Kind::Int { min, max } | Kind::Clamped { min, max } => {
            let min = if min <= i64::from(i32::MIN) { "less".to_owned() } else { min.to_string() };
            let max = if max >= i64::from(i32::MAX) { "more".to_owned() } else { limit(max.into()) };
            match (min.as_str(), max.as_str()) {
                ("less", "more") => "number".into(),
                (_, "more") => format!("number from {min}"),
                _ => format!("number, {min} to {max}"),
            }
        }
        Kind::Octal => "permissions, octal".into(),
        Kind::Memory { .. } => "bytes, as `100mb`".into(),
        Kind::MemoryOrPercent => "bytes, or a part of maxmemory as `10%`".into(),
        Kind::Word(known) => words(known),
        Kind::Words(known) => format!("some of {}", words(known)),
        Kind::Text => "text".into(),
        Kind::FileName(_) => "name of a file".into(),
        Kind::Host => "host name".into(),
        Kind::Folder => "folder".into(),
        Kind::List(max) => format!("up to {max} words"),
        Kind::SavePoints => "pairs of seconds and changes".into(),
        Kind::BufferLimits => "class, hard limit, soft limit, seconds".into(),
        Kind::EventClasses => "letters".into(),
        Kind::Percentiles => "percentiles".into(),
        Kind::OomScores => "three numbers".into(),
        Kind::Primary => "host and port, or `no one`".into(),
        Kind::DatabaseConcerns => "pairs of database and concern".into(),
        Kind::ReplicaReads => "`auto`, `primary`, `any`, `max-lag=`milliseconds".into(),
        Kind::Unsupported(_) => "`no`".into(),
    }
}

fn row(parameter: &Parameter, text: &str) -> String {
    let alias = if parameter.alias.is_empty() { String::new() } else { format!(", `{}`", parameter.alias) };
    let default =
        if parameter.default.is_empty() { String::new() } else { format!("`{}`", parameter.default) };
    let changes = if parameter.immutable { "no" } else { "yes" };
    let (name, kind) = (parameter.name, kind_of(parameter.kind));
    format!("| `{name}`{alias} | {kind} | {default} | {changes} | {} |\n", cell(text))
}

#[test]
fn the_page_of_parameters_is_what_the_table_says() {
    let mut page = PARAMETERS_HEAD.to_owned();
    type Text = fn(Effect) -> Option<&'static str>;
    let parts: [(&str, &str, &str, Text); 5] = [
        ("Ours", "Redis does not know these.", "what it means", |effect| match effect {
            Effect::Ours(text) => Some(text),
            _ => None,
        }),
        (
            "As in Redis",
            "They mean what they mean in Redis, but for what is said here.",
            "what differs",
            |effect| match effect {
                Effect::AsInRedis => Some(""),
                Effect::Differs(text) => Some(text),
                _ => None,
            },
        ),
        (
            "Refused",
            "Somebody relies on these for protection. Another value than the default ends the start with a hint.",
            "hint",
            |effect| match effect {
                Effect::Refused(text) => Some(text),
                _ => None,
            },
        ),
        (
            "Not yet",
            "Accepted, and stored, and without effect: something is missing yet. The log says so at the start.",
            "what is missing",
            |effect| match effect {
                Effect::NotYet(text) => Some(text),
                _ => None,
            },
        ),
        (
            "Without meaning",
            "Accepted, so that an existing file works, and without effect: there is no need for them here. The log says so at the start.",
            "why",
            |effect| match effect {
                Effect::Nothing(text) => Some(text),
                _ => None,
            },
        ),
    ];
    for (title, about, column, text_of) in parts {
        let _ = write!(
            page,
            "\n## {title}\n\n{about}\n\n| parameter | value | default | changes at run time | {column} |\n|---|---|---|---|---|\n"
        );
        for parameter in PARAMETERS.iter().filter(|parameter| !parameter.hidden) {
            if let Some(text) = text_of(parameter.effect) {
                page.push_str(&row(parameter, text));
            }
        }
    }
    page.push_str("\nBeside the table: `include` reads another file, `rename-command` renames or removes a command, `loadmodule` is accepted and the log says \
                   that there are no modules, `user` is refused as long as there are no users but the default one.\n");
    check("parameters.md", &page);
}
