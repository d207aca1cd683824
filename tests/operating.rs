//! What operators read is derived from the tables: these tests make the pages again and compare.
//!
//! `LARDER_REWRITE=1 cargo test --test operating` writes the pages instead of comparing.

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
