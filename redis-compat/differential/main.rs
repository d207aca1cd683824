//! Random commands to Larder and to redis-server: the replies must be the same, and so must the data they leave.
//!
//! Requests are made from the command table (`grammar`), some of them broken (`mutation`), all of them harmless (`bounds`);
//! what cannot be compared stands in one table with its reasons (`rules`). The first difference stops the run; the episode
//! is shortened (`shrink`) and printed as lines for `tests/server/differential.txt`.
//!
//! An episode is some hundred requests over three connections, in both protocols, on servers that were emptied before. Its
//! seed repeats it: `LARDER_SEED=… LARDER_SECONDS=1 cargo test --test differential`. `LARDER_SECONDS` says how long
//! episodes are played, a minute if nothing is said. The first seed is always the same unless `LARDER_SEED` says another, so that a
//! change is not refused for what it did not do; `LARDER_SEED=$RANDOM` looks for what nobody has seen yet.

mod bounds;
mod compare;
mod data;
mod grammar;
mod mutation;
mod pair;
mod rules;
mod shrink;
#[path = "../../tests/support/mod.rs"]
mod support;
mod transcript;
mod values;

use grammar::Generator;
use pair::{Difference, Pair};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};
use support::Chance;
use transcript::Step;

/// Batches of an episode, and requests of a batch; the data is compared after each.
const BATCHES: u64 = 8;
const BATCH_STEPS: usize = 200;

/// The first seed of random episodes, if no other is asked for.
const FIRST_SEED: u64 = 1_000_000;

/// How often a long run says how far it is.
const TOLD_EVERY: Duration = Duration::from_mins(1);

/// Plays one episode. What differed, as text, if anything did.
fn episode(pair: &mut Pair, seed: u64) -> Option<String> {
    let mut generator = Generator::new(Chance::from(seed));
    let mut steps: Vec<Step> = Vec::new();
    pair.clean();
    for batch in 1..=BATCHES {
        let from = steps.len();
        steps.extend((0..BATCH_STEPS).map(|_| generator.step()));
        if let Some(difference) = pair.play(&steps, from, batch.is_multiple_of(4)) {
            return Some(shortened(pair, seed, &steps[..=difference.step], &difference));
        }
        if batch.is_multiple_of(2) {
            data::payloads(pair).into_iter().for_each(|payload| generator.learn_payload(payload));
        }
    }
    None
}

/// The shortest episode found that differs.
fn shortened(pair: &mut Pair, seed: u64, steps: &[Step], first: &Difference) -> String {
    let Some((steps, difference)) = shrink::shrink(pair, steps) else {
        return format!("LARDER_SEED={seed}: a difference that did not show again\n{first}");
    };
    format!(
        "LARDER_SEED={seed}: a difference at {difference}\nfor tests/server/differential.txt, where `@2` stands before \
         what goes over the connection that speaks RESP3:\n{}",
        transcript::lines(&steps)
    )
}

/// Plays episodes while there are seeds. Stops at the first difference, unless `LARDER_KEEP_GOING` is set.
fn play(seeds: impl Iterator<Item = u64>) -> Pair {
    let (started, mut told) = (Instant::now(), Instant::now());
    let mut pair = Pair::start();
    let (mut differences, mut first, mut last) = (0, None, 0);
    for seed in seeds {
        (first, last) = (first.or(Some(seed)), seed);
        if let Some(difference) = episode(&mut pair, seed) {
            assert!(std::env::var_os("LARDER_KEEP_GOING").is_some(), "{difference}");
            eprintln!("{difference}");
            differences += 1;
        }
        if told.elapsed() > TOLD_EVERY {
            eprintln!("{}", summary(&pair, first.unwrap_or(seed)..=last, started.elapsed()));
            told = Instant::now();
        }
    }
    eprintln!("{}", summary(&pair, first.unwrap_or(0)..=last, started.elapsed()));
    assert_eq!(differences, 0, "episodes that differ");
    pair
}

/// What was sent, and how fast.
fn summary(pair: &Pair, seeds: RangeInclusive<u64>, took: Duration) -> String {
    let known: u64 = pair.answered.iter().map(|(sent, _)| sent).sum();
    let fine: u64 = pair.answered.iter().map(|(_, fine)| fine).sum();
    let called = pair.answered.iter().filter(|(sent, _)| *sent > 0).count();
    format!(
        "seeds {seeds:?}: {} requests in {:.1} s, {:.0} a second; {called} of {} commands called, {:.0} % answered without an error",
        pair.sent,
        took.as_secs_f64(),
        pair.sent as f64 / took.as_secs_f64(),
        pair.answered.len(),
        100.0 * fine as f64 / known as f64,
    )
}

#[test]
fn random_commands_are_answered_alike() {
    let number =
        |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("the variable is a number"));
    let seed: u64 = number("LARDER_SEED").unwrap_or(FIRST_SEED);
    let seconds = number("LARDER_SECONDS").unwrap_or(60);
    eprintln!("LARDER_SEED={seed} LARDER_SECONDS={seconds}");
    let end = Instant::now() + Duration::from_secs(seconds);
    play((seed..).take_while(|&next| next == seed || Instant::now() < end));
}

/// Episodes with which every command that may be sent is called, and answered at least once without an error.
const SEEDS: std::ops::Range<u64> = 1..60;

/// Commands that have nothing but errors to answer, as far as they are sent at all; `x*`: all that begin with x.
const ONLY_ERRORS: &[(&str, &str)] = &[
    ("acl|load", "there is no ACL file"),
    ("acl|save", "there is no ACL file"),
    ("asking", "cluster mode is off"),
    ("client|caching", "there is no tracking"),
    ("cluster*", "cluster mode is off"),
    ("function|delete", "there are no libraries"),
    ("function|kill", "no function runs"),
    ("latency|graph", "no event was slow"),
    ("module|unload", "there are no modules"),
    ("readonly", "cluster mode is off"),
    ("readwrite", "cluster mode is off"),
    ("script|kill", "no script runs"),
];

fn has_only_errors(name: &str) -> bool {
    ONLY_ERRORS
        .iter()
        .any(|(of, _)| of.strip_suffix('*').map_or(name == *of, |start| name.starts_with(start)))
}

#[test]
fn the_same_random_commands_are_answered_alike_and_reach_every_command() {
    let pair = play(SEEDS);
    let mut unreached = Vec::new();
    for (name, (sent, fine)) in larder::commands::table::full_names().iter().zip(&pair.answered) {
        let entry =
            larder::commands::table::entry_of_full_name(name.as_bytes()).expect("it is named by the table");
        let may_fail = has_only_errors(name) || !entry.subcommands.is_empty();
        if !rules::is_never_sent(entry) && (*sent == 0 || (*fine == 0 && !may_fail)) {
            unreached.push(format!("{name}: sent {sent} times, {fine} without an error"));
        }
    }
    assert!(unreached.is_empty(), "not reached:\n{}", unreached.join("\n"));
}

#[test]
fn every_rule_is_about_a_command_that_exists_and_says_why() {
    for (name, rule, reason) in rules::RULES {
        assert!(larder::commands::table::entry_of_full_name(name.as_bytes()).is_some(), "{name}: {rule:?}");
        assert!(reason.len() > 5, "{name}: {rule:?}");
    }
}
