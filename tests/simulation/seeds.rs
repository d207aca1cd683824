//! Worlds by their seeds: many of them in a row, and what came of them. The three simulations run alike and differ in their worlds.

use crate::{note_panics, number, run_apart};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Seeds run at a time.
const THREADS: u64 = 2;

/// What was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// By the name of its file.
    pub invariant: &'static str,
    /// What was seen, after what happened last.
    pub story: String,
}

/// How a run went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Stands for everything that happened.
    pub trace: u64,
    /// What was broken, if anything was.
    pub violation: Option<Violation>,
    /// How often each kind of thing happened.
    pub counts: BTreeMap<String, u64>,
    /// Virtual milliseconds.
    pub virtual_ms: u64,
    /// Milliseconds that something took each time it happened; what it is, the simulation says.
    pub spans_ms: Vec<u64>,
}

/// Runs the seeds that the environment asks for, and fails with the story of the first that broke something. Without a word in the
/// environment there are `by_default` of them. `span` says what the spans of the outcomes are.
pub fn run_all(by_default: u64, span: &str, run: impl Fn(u64) -> Outcome + Sync) {
    note_panics();
    let _planted = fail::FailScenario::setup(); // by `FAILPOINTS`
    let (first, count) = (number("LARDER_SEED", 1), number("LARDER_SEEDS", by_default));
    let next = AtomicU64::new(first);
    let begun = Instant::now();
    let work = || {
        let mut outcomes = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return outcomes;
            }
            let outcome = run(seed);
            let is_broken = outcome.violation.is_some();
            outcomes.push((seed, outcome));
            if is_broken {
                next.store(first + count, Ordering::Relaxed);
            }
        }
    };
    let outcomes: Vec<(u64, Outcome)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("it does not panic")).collect()
    });
    let virtual_s: u64 = outcomes.iter().map(|(_, outcome)| outcome.virtual_ms).sum::<u64>() / 1000;
    eprintln!(
        "{} seeds, {virtual_s} virtual seconds in {:.1} s",
        outcomes.len(),
        begun.elapsed().as_secs_f64()
    );
    tell_counts(&outcomes);
    tell_spans(&outcomes, span);
    for (seed, outcome) in outcomes.iter().filter(|_| count <= 10) {
        eprintln!("trace of seed {seed}: {:016x}", outcome.trace);
    }
    for (seed, outcome) in &outcomes {
        let story = outcome.violation.as_ref().map_or("", |violation| &violation.story);
        assert!(outcome.violation.is_none(), "seed {seed}:\n{story}");
    }
}

fn tell_counts(outcomes: &[(u64, Outcome)]) {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (kind, count) in outcomes.iter().flat_map(|(_, outcome)| &outcome.counts) {
        *counts.entry(kind).or_default() += count;
    }
    counts.iter().for_each(|(kind, count)| eprintln!("{count:>9} {kind}"));
}

fn tell_spans(outcomes: &[(u64, Outcome)], what: &str) {
    let mut spans: Vec<u64> =
        outcomes.iter().flat_map(|(_, outcome)| outcome.spans_ms.iter().copied()).collect();
    spans.sort_unstable();
    let Some(longest) = spans.last() else { return };
    let count = spans.len();
    let at = |share: usize| spans[(count * share / 100).min(count - 1)];
    eprintln!("{what}, {count} times: p50 {} ms, p99 {} ms, longest {longest} ms", at(50), at(99));
}

/// The invariant to look at, if the environment names one.
pub fn only() -> Option<&'static str> {
    std::env::var("LARDER_ONLY").ok().map(|name| &*name.leak())
}

/// Runs seeds with a planted bug until the invariant that is to see it does.
pub fn sees(invariant: &str, bug: &str, seeds: u64, run: impl Fn(u64) -> Outcome) {
    note_panics();
    let first = number("LARDER_SEED", 1);
    let mut others = Vec::new();
    for seed in first..first + seeds {
        let Some(violation) = run(seed).violation else { continue };
        let last = violation.story.lines().last().unwrap_or_default().to_owned();
        eprintln!("{bug}: seed {seed}: {last}");
        if violation.invariant == invariant {
            return;
        }
        others.push(last);
    }
    panic!("{seeds} seeds, and {invariant} has not seen {bug}; others: {others:?}");
}

/// The same for a bug that is planted in the program itself, in a process of its own. `test` is the one that runs seeds.
pub fn sees_point(test: &str, invariant: &str, point: &str, seeds: u64) {
    let (seeds, points) = (seeds.to_string(), format!("{point}=return"));
    let environment = [("FAILPOINTS", &*points), ("LARDER_SEEDS", &seeds), ("LARDER_ONLY", invariant)];
    let (is_well, said) = run_apart(test, &environment);
    let told = said.lines().find(|line| line.starts_with(&format!("{invariant}: ")));
    assert!(!is_well && told.is_some(), "{point}: {said}");
    eprintln!("{point}: {}", told.unwrap_or_default());
}

/// The same seed gives the same run, in processes of their own: when a host crashes, tokio drops its tasks in an order that comes
/// from their numbers, and these count on from run to run of a process. So what a seed does to a link that moment can depend on
/// what ran before it.
pub fn are_the_same_again(test: &str, seeds: [&str; 3]) {
    for seed in seeds {
        let [one, other] = [(); 2].map(|()| {
            let environment = [("LARDER_SEED", seed), ("LARDER_SEEDS", "1"), ("LARDER_EVENTS", "1000000")];
            let (is_well, said) = run_apart(test, &environment);
            assert!(is_well, "{said}");
            said.lines().find(|line| line.starts_with("trace of seed")).map(str::to_owned)
        });
        assert!(one.is_some() && one == other, "{one:?} and {other:?}");
    }
}
