//! Prometheus's text format, read strictly: what a scraper would forgive fails here.

use std::collections::{BTreeMap, BTreeSet};

/// A scrape.
#[derive(Debug, Default)]
pub struct Exposition {
    /// Kind of each metric.
    pub kinds: BTreeMap<String, String>,
    /// Values by name and labels, as they are written.
    pub samples: BTreeMap<String, f64>,
}

impl Exposition {
    /// Reads the text of a scrape; what is wrong with it fails the test.
    pub fn read(text: &str) -> Exposition {
        let mut found = Exposition::default();
        let mut helped = BTreeSet::new();
        let mut current = String::new();
        assert!(text.ends_with('\n'), "the last line is whole");
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("name and help");
                assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
                name.clone_into(&mut current);
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("name and kind");
                assert!(name == current && ["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(found.kinds.insert(name.to_owned(), kind.to_owned()), None, "{name} comes twice");
            } else {
                let (name, value) = line.rsplit_once(' ').expect("name and value");
                found.sample(&current, name, value.parse().expect("a number"));
            }
        }
        found.check_histograms();
        found
    }

    fn sample(&mut self, family: &str, name: &str, value: f64) {
        let (base, labels) = name.split_once('{').unwrap_or((name, ""));
        let kind = &self.kinds[family];
        let end = base.strip_prefix(family).unwrap_or_else(|| panic!("{name} under {family}"));
        let fits = match kind.as_str() {
            "histogram" => ["_bucket", "_sum", "_count"].contains(&end),
            _ => end.is_empty(),
        };
        assert!(fits, "{name} is no sample of the {kind} {family}");
        assert!(labels.is_empty() || is_labels(labels.strip_suffix('}').expect("closed")), "{name}");
        assert!(kind == "gauge" || value >= 0.0, "{name} {value}");
        assert_eq!(self.samples.insert(name.to_owned(), value), None, "{name} comes twice");
    }

    /// The buckets of each histogram grow, and the last one counts all.
    fn check_histograms(&self) {
        let histograms = self.kinds.iter().filter(|(_, kind)| *kind == "histogram");
        for (name, _) in histograms {
            let mut last: BTreeMap<String, (f64, f64)> = BTreeMap::new();
            let prefix = format!("{name}_bucket{{");
            let mut buckets: Vec<(String, f64, f64)> = Vec::new();
            for (sample, value) in &self.samples {
                let Some(labels) = sample.strip_prefix(&prefix) else { continue };
                let (others, bound) = labels.rsplit_once("le=\"").expect("a bound");
                let bound = bound.trim_end_matches("\"}").parse().expect("a number");
                buckets.push((others.trim_end_matches(',').to_owned(), bound, *value));
            }
            buckets.sort_by(|a, b| (&a.0, a.1).partial_cmp(&(&b.0, b.1)).expect("numbers"));
            for (others, bound, value) in buckets {
                let before = last.insert(others.clone(), (bound, value));
                assert!(
                    before.is_none_or(|(_, before)| before <= value),
                    "{name}{{{others}}} falls at {bound}"
                );
            }
            for (others, (bound, value)) in last {
                let labels = if others.is_empty() { String::new() } else { format!("{{{others}}}") };
                assert!(
                    bound.is_infinite() && (value - self.value(&format!("{name}_count{labels}"))).abs() < 0.5,
                    "{name}{labels}"
                );
            }
        }
    }

    /// The value of this sample.
    pub fn value(&self, name: &str) -> f64 {
        *self.samples.get(name).unwrap_or_else(|| panic!("no {name} in {:#?}", self.samples))
    }
}

/// Whether these are `name="value"` with commas between, and nothing in a value that had to be escaped.
fn is_labels(mut text: &str) -> bool {
    loop {
        let Some((name, rest)) = text.split_once("=\"") else { return false };
        let mut end = None;
        let mut escaped = false;
        for (at, c) in rest.char_indices() {
            match c {
                _ if escaped => {
                    if !['\\', '"', 'n'].contains(&c) {
                        return false;
                    }
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => {
                    end = Some(at);
                    break;
                }
                _ => {}
            }
        }
        let Some(end) = end else { return false };
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            return false;
        }
        match rest[end + 1..].strip_prefix(',') {
            Some(more) => text = more,
            None => return rest[end + 1..].is_empty(),
        }
    }
}
