//! Keeps requests harmless: what would take gigabytes or for ever, and what would depend on how long the tester takes.
//!
//! Works on the finished words, mutations included, by where the declaration says that deadlines, time limits, counts and
//! offsets stand.

use crate::rules;
use crate::support::Chance;
use crate::values::one_in;
use larder::protocol::spec::flag::DENYOOM;
use larder::protocol::spec::{Argument, ArgumentKind, Spec};
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

/// Where a word stands.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// At this index; subcommands count from their container's name on.
    At(usize),
    /// So many words before the end; 1 is the last.
    FromEnd(usize),
    /// After this literal word.
    After(&'static str),
}

/// What must be bounded.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Meaning {
    /// A deadline so many seconds from now.
    Seconds,
    /// A deadline so many milliseconds from now.
    Milliseconds,
    /// A Unix time in seconds.
    UnixSeconds,
    /// A Unix time in milliseconds.
    UnixMilliseconds,
    /// How long the command may wait, in milliseconds.
    Timeout,
    /// The same in seconds and parts of one.
    TimeoutSeconds,
}

fn meaning(argument: &Argument) -> Option<Meaning> {
    match (argument.kind, argument.name) {
        _ if argument.token == "BLOCK" => Some(Meaning::Timeout),
        (ArgumentKind::Double, "timeout") => Some(Meaning::TimeoutSeconds),
        (ArgumentKind::Integer, "seconds") => Some(Meaning::Seconds),
        (ArgumentKind::Integer, "milliseconds" | "ttl") => Some(Meaning::Milliseconds),
        (ArgumentKind::UnixTime, "unix-time-seconds") => Some(Meaning::UnixSeconds),
        (ArgumentKind::UnixTime, _) => Some(Meaning::UnixMilliseconds),
        (_, "timeout") => Some(Meaning::Timeout),
        _ => None,
    }
}

/// Where the declaration has words with a meaning.
fn places(spec: &'static Spec, is_subcommand: bool) -> Vec<(Place, Meaning)> {
    let mut found = Vec::new();
    let is_variable =
        |argument: &Argument| argument.optional || argument.multiple || !argument.children.is_empty();
    for (index, argument) in spec.arguments.iter().enumerate() {
        // A deadline that has passed and is all a command is about (EXPIREAT) removes the key at once: no harm in that.
        let is_bounded = argument.token.is_empty() && argument.kind != ArgumentKind::UnixTime;
        if let Some(meaning) = meaning(argument).filter(|_| is_bounded) {
            let place = if spec.arguments[..index].iter().any(is_variable) {
                Place::FromEnd(spec.arguments.len() - index)
            } else {
                Place::At(index + 1 + usize::from(is_subcommand))
            };
            found.push((place, meaning));
        }
    }
    let mut waiting: Vec<&'static Argument> = spec.arguments.iter().collect();
    while let Some(argument) = waiting.pop() {
        waiting.extend(argument.children);
        if let Some(meaning) = meaning(argument).filter(|_| !argument.token.is_empty()) {
            found.push((Place::After(argument.token), meaning));
        }
    }
    found
}

/// By the address of the declaration: names of subcommands are not unique.
static PLACES: LazyLock<Mutex<HashMap<usize, Vec<(Place, Meaning)>>>> = LazyLock::new(Mutex::default);

/// No test runs as late as that: the year 2033.
const FUTURE_S: i64 = 2_000_000_000;

/// Bounds the words of a request. Returns whether it gives a deadline of some milliseconds, after which there must be a
/// pause; only if `may_expire_soon`.
pub fn apply(chance: &mut Chance, spec: &'static Spec, words: &mut [Vec<u8>], may_expire_soon: bool) -> bool {
    let mut pause = false;
    for (index, meaning) in bounded_words(spec, words) {
        pause |= bound(chance, meaning, &mut words[index], may_expire_soon);
    }
    bound_offsets(chance, spec, words);
    bound_counts(spec, words);
    pause
}

/// Whether this request waits no longer than it may, and no deadline in it depends on how long the tester takes.
pub fn is_harmless(words: &[Vec<u8>]) -> bool {
    let Some(entry) = rules::entry_of(words) else { return true };
    bounded_words(&entry.command.spec, words).into_iter().all(|(index, meaning)| {
        let word = &words[index];
        !waits_too_long(meaning, word)
            && number(word).is_none_or(|value| value <= 0 || value >= nearest(meaning))
    })
}

/// The words that must be bounded, and why.
fn bounded_words(spec: &'static Spec, words: &[Vec<u8>]) -> Vec<(usize, Meaning)> {
    let is_subcommand = !words[0].eq_ignore_ascii_case(spec.name.as_bytes());
    let mut known = PLACES.lock().expect("nothing fails under the lock");
    let places =
        known.entry(std::ptr::from_ref(spec) as usize).or_insert_with(|| places(spec, is_subcommand));
    let found = places
        .iter()
        .flat_map(|(place, meaning)| indices(*place, words).into_iter().map(|index| (index, *meaning)));
    found.collect()
}

/// The nearest deadline that is given without a pause behind it.
fn nearest(meaning: Meaning) -> i64 {
    match meaning {
        Meaning::Seconds => 1000,
        Meaning::Milliseconds => 1_000_000,
        Meaning::UnixSeconds => FUTURE_S,
        Meaning::UnixMilliseconds => FUTURE_S * 1000,
        Meaning::Timeout | Meaning::TimeoutSeconds => 0,
    }
}

fn indices(place: Place, words: &[Vec<u8>]) -> Vec<usize> {
    match place {
        Place::At(index) => (index..words.len()).take(1).collect(),
        Place::FromEnd(back) => words.len().checked_sub(back).filter(|at| *at > 0).into_iter().collect(),
        Place::After(token) => (1..words.len())
            .filter(|&index| words[index - 1].eq_ignore_ascii_case(token.as_bytes()))
            .collect(),
    }
}

/// Redis's and our reader of integers take no other form than this one.
fn number(word: &[u8]) -> Option<i64> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// Whether this is a time limit of none at all, or of more than some milliseconds.
fn waits_too_long(meaning: Meaning, word: &[u8]) -> bool {
    let limit = std::str::from_utf8(word).ok().and_then(|text| text.trim().parse::<f64>().ok());
    let is_too_long = |limit: f64, longest: f64| limit.abs() < longest / 1000.0 || limit > longest;
    match meaning {
        Meaning::Timeout => limit.is_some_and(|limit| is_too_long(limit, 10.0)),
        Meaning::TimeoutSeconds => limit.is_some_and(|limit| is_too_long(limit, 0.01)),
        _ => false,
    }
}

fn bound(chance: &mut Chance, meaning: Meaning, word: &mut Vec<u8>, may_expire_soon: bool) -> bool {
    if waits_too_long(meaning, word) {
        *word = if meaning == Meaning::Timeout { b"5".to_vec() } else { b"0.005".to_vec() };
        return false;
    }
    let Some(value) = number(word) else { return false };
    let near = nearest(meaning);
    let (spread, far) = match meaning {
        Meaning::Timeout | Meaning::TimeoutSeconds => return false,
        Meaning::Seconds => (1_000_000, 1_000_000_000_000),
        Meaning::UnixSeconds => (1, FUTURE_S),
        Meaning::UnixMilliseconds => (1, FUTURE_S * 1000),
        Meaning::Milliseconds => (1_000_000_000, 1_000_000_000_000_000),
    };
    if value <= 0 {
        return false;
    }
    if meaning == Meaning::Milliseconds && may_expire_soon && one_in(chance, 50) {
        *word = (1 + chance.below(2)).to_string().into_bytes();
        return true;
    }
    let is_past = matches!(meaning, Meaning::UnixSeconds | Meaning::UnixMilliseconds) && value < near;
    if is_past && may_expire_soon && one_in(chance, 10) {
        return true;
    }
    if value < far {
        // Far enough that the clock does not matter, and no two alike, since GT and LT would compare clocks.
        let value = if value < near { value + near } else { value } + chance.below(spread) as i64;
        *word = value.to_string().into_bytes();
    }
    false
}

/// Offsets at which a string would grow to hundreds of megabytes become smaller ones, and seldom stay large.
fn bound_offsets(chance: &mut Chance, spec: &Spec, words: &mut [Vec<u8>]) {
    if !spec.flags.has(DENYOOM) || !has(spec.arguments, &["offset"]) {
        return;
    }
    for word in words.iter_mut().skip(2) {
        let digits = word.strip_prefix(b"#").unwrap_or(word);
        let Some(value) = number(digits).filter(|value| (100_000..1 << 32).contains(value)) else { continue };
        let limit = if one_in(chance, 500) { 64 << 20 } else { 100_000 };
        let bounded = (value % limit).to_string().into_bytes();
        *word = if digits.len() < word.len() { [b"#", bounded.as_slice()].concat() } else { bounded };
    }
}

/// A negative count may ask for the same elements as often as it says.
fn bound_counts(spec: &Spec, words: &mut [Vec<u8>]) {
    if !spec.tips.contains(&"nondeterministic_output") || !has(spec.arguments, &["count"]) {
        return;
    }
    for word in words.iter_mut().skip(1) {
        if let Some(value) = number(word).filter(|value| *value < -1000 && *value > i64::MIN) {
            *word = (value % 1000).to_string().into_bytes();
        }
    }
}

fn has(arguments: &[Argument], names: &[&str]) -> bool {
    arguments.iter().any(|argument| names.contains(&argument.name) || has(argument.children, names))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::entry_of;

    fn places_of(line: &str) -> Vec<(Place, Meaning)> {
        let words = crate::support::words(line);
        let entry = entry_of(&words).expect("declared");
        places(&entry.command.spec, words.len() > 1)
    }

    #[test]
    fn deadlines_are_found_where_the_declaration_has_them() {
        assert_eq!(places_of("expire"), [(Place::At(2), Meaning::Seconds)]);
        assert_eq!(places_of("psetex"), [(Place::At(2), Meaning::Milliseconds)]);
        assert_eq!(places_of("client pause"), [(Place::At(2), Meaning::Timeout)]);
        let mut of_set = places_of("set");
        of_set.sort_by_key(|place| format!("{place:?}"));
        let after = |token, meaning| (Place::After(token), meaning);
        assert_eq!(
            of_set,
            [
                after("EX", Meaning::Seconds),
                after("EXAT", Meaning::UnixSeconds),
                after("PX", Meaning::Milliseconds),
                after("PXAT", Meaning::UnixMilliseconds),
            ]
        );
    }

    #[test]
    fn what_would_harm_is_bounded() {
        let mut chance = Chance::from(1);
        let mut bounded = |line: &str| {
            let mut words = crate::support::words(line);
            let entry = entry_of(&words).expect("declared");
            apply(&mut chance, &entry.command.spec, &mut words, false);
            number(words.last().expect("a word")).expect("a number")
        };
        assert!(bounded("HRANDFIELD h -4611686018427387904") >= -1000);
        assert_eq!(bounded("HRANDFIELD h -9223372036854775808"), i64::MIN, "an error, and stays one");
        assert!(bounded("SETBIT b 4294967295") < 64 << 20);
        assert!(bounded("EXPIRE k 1") > 1000);
        assert_eq!(bounded("WAIT 1 0"), 5);
    }
}
