//! What operators read is derived from the tables: these tests make the pages again and compare.
//!
//! `LARDER_REWRITE=1 cargo test --test operating` writes the pages instead of comparing.

use larder::config::kind::Kind;
use larder::config::table::{Effect, PARAMETERS, Parameter};
use larder::server::metrics::GROUPS;
use std::collections::BTreeSet;
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

/// The text of an effect, if it is of one kind.
type TextOf = fn(Effect) -> Option<&'static str>;

#[test]
fn the_page_of_parameters_is_what_the_table_says() {
    let mut page = PARAMETERS_HEAD.to_owned();
    let parts: [(&str, &str, &str, TextOf); 5] = [
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

/// The expressions of the dashboard and of the alert rules.
fn expressions() -> Vec<String> {
    let dashboard = std::fs::read_to_string(file("grafana.json")).expect("it is there");
    let mut found = Vec::new();
    let mut open = vec![serde_json::from_str::<serde_json::Value>(&dashboard).expect("it is JSON")];
    while let Some(value) = open.pop() {
        match value {
            serde_json::Value::Array(values) => open.extend(values),
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    match value {
                        serde_json::Value::String(text) if ["expr", "query"].contains(&name.as_str()) => {
                            found.push(text);
                        }
                        other => open.push(other),
                    }
                }
            }
            _ => {}
        }
    }
    let rules = std::fs::read_to_string(file("alerts.yml")).expect("it is there");
    let of_rules = rules.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    found.extend(of_rules.map(str::to_owned));
    assert_eq!(rules.matches("alert:").count(), rules.matches(" expr: ").count());
    found
}

/// Metrics in an expression, each with the labels that it is asked for.
fn metrics_in(expression: &str) -> Vec<(String, Vec<String>)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(begin) = rest.find(|c: char| c.is_ascii_lowercase()) {
        let end = rest[begin..].find(|c| !is_word(c)).map_or(rest.len(), |length| begin + length);
        let (word, behind) = (&rest[begin..end], &rest[end..]);
        let is_variable = rest[..begin].ends_with('$');
        let selector = behind.strip_prefix('{').and_then(|behind| behind.split_once('}'));
        let is_range = behind.starts_with('[');
        if !is_variable
            && (selector.is_some() || is_range || word.contains("larder_") || word.starts_with("process_"))
        {
            let matchers = selector.map_or("", |(matchers, _)| matchers);
            let labels =
                matchers.split(',').filter_map(|matcher| Some(matcher.split_once('=')?.0.to_owned()));
            found.push((word.to_owned(), labels.collect()));
        }
        rest = selector.map_or(behind, |(_, behind)| behind);
        // Names of labels stand behind `by` and `on`, units of time in brackets.
        if ["by", "on"].contains(&word) {
            rest = rest.split_once(')').map_or("", |(_, behind)| behind);
        } else if let Some(behind) = rest.strip_prefix('[') {
            rest = behind.split_once(']').map_or("", |(_, behind)| behind);
        }
    }
    found
}

#[test]
fn dashboard_and_alerts_use_metrics_that_there_are() {
    let families: Vec<_> =
        GROUPS.iter().flat_map(|group| group.metrics).map(|metric| metric.family).collect();
    let (mut wrong, mut used) = (Vec::new(), BTreeSet::new());
    for expression in expressions() {
        for (name, labels) in metrics_in(&expression) {
            if name == "up" || name == "label_values" {
                continue;
            }
            let Some(family) = families.iter().find(|family| family.sample_names().contains(&name)) else {
                wrong.push(format!("{name} in {expression}"));
                continue;
            };
            used.insert(family.name);
            let given = |label: &String| {
                ["job", "instance", "le"].contains(&label.as_str()) || family.labels.contains(&label.as_str())
            };
            wrong.extend(
                labels
                    .iter()
                    .filter(|label| !given(label))
                    .map(|label| format!("label {label} of {name} in {expression}")),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(used.len() > 40, "{used:?}");
}

#[test]
fn metrics_are_found_in_expressions() {
    let found = metrics_in(
        "sum by (le, a_b) (rate(larder_x_bucket{job=\"$job\",c=~\"$c\"}[5m])) / on (d) other[1h] > 0 and larder_y",
    );
    let found: Vec<(&str, Vec<&str>)> = found
        .iter()
        .map(|(name, labels)| (name.as_str(), labels.iter().map(String::as_str).collect()))
        .collect();
    assert_eq!(found, [("larder_x_bucket", vec!["job", "c"]), ("other", vec![]), ("larder_y", vec![])]);
}
