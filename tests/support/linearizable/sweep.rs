//! Registers and counters: follows the history in time with every state that the key may be in.
//!
//! A *configuration* is a value the key may hold, with which of the open operations (called, not returned) have already taken effect to make it
//! that. When an operation returns, each configuration in which it has not taken effect tries the orders of open operations that end with it.
//! If no configuration is left, no order explains the history, and this return is where that shows.
//!
//! What keeps the number of configurations small, each without losing an order:
//! - operations take effect as late as they can: at their return, or because another's answer needs them;
//! - an operation whose answer is right already and that changes nothing takes effect at once;
//! - a SET that nobody saw may have been overwritten at once by a SET that took effect while it was open (`overwritten`);
//! - of two configurations with the same value, the one that has used fewer operations of unknown outcome will do;
//! - operations of unknown outcome that are alike are used in the order of their calls;
//! - values that nobody will read any more are one value.

use super::{Answer, Call, Operation, Outcome};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Configurations looked at for one key, after which the search is given up.
pub const CONFIGURATIONS_MAX: usize = 5_000_000;
/// Operations shown with a violation.
const SHOWN_MAX: usize = 60;
/// A violation in more operations than these is shown as it is.
const SHRUNK_MAX: usize = 20_000;

/// What the key holds.
type Value = Option<i64>;
/// Stands for every value that nobody reads any more.
const UNREAD: i64 = i64::MIN;

/// Checks the calls of one key, ordered by when they were called.
///
/// # Errors
/// What is wrong, with the operations that show it; true if the search was given up.
pub fn check(calls: &[&Call]) -> Result<(), (String, bool)> {
    match sweep(calls) {
        Ok(()) => Ok(()),
        Err(Failure::Impossible(dead_end)) => Err((story(&shrink(calls, dead_end)), false)),
        Err(Failure::GivenUp) => {
            Err((format!("{CONFIGURATIONS_MAX} configurations of {} operations", calls.len()), true))
        }
    }
}

/// What an operation makes of a value, and its answer.
fn step(value: Value, operation: &Operation) -> (Value, Answer) {
    match operation {
        Operation::Get => (value, value.map_or(Answer::Nothing, Answer::Number)),
        Operation::Set(new) => (Some(*new), Answer::Done),
        Operation::Delete => (None, Answer::Number(i64::from(value.is_some()))),
        Operation::Increment => {
            let next = value.unwrap_or(0) + 1;
            (Some(next), Answer::Number(next))
        }
        Operation::Add(_) | Operation::Members => unreachable!("sets are checked elsewhere"),
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Configuration {
    value: Value,
    /// The event at which something last took effect that leaves nothing of the value before; 0 if nothing has.
    overwritten: usize,
    /// Open operations that will return and have taken effect, ascending.
    done: Vec<usize>,
    /// Operations of unknown outcome that have taken effect, ascending.
    used: Vec<usize>,
}

impl Configuration {
    /// Whether whatever the other one can explain, this one can.
    fn covers(&self, other: &Configuration) -> bool {
        self.overwritten >= other.overwritten && self.used.iter().all(|used| other.used.contains(used))
    }
}

/// Configurations of which none covers another.
#[derive(Default)]
struct Frontier {
    by_value: HashMap<(Value, Vec<usize>), Vec<Configuration>>,
}

impl Frontier {
    /// Adds it, unless it is covered; returns whether it was added.
    fn insert(&mut self, new: Configuration) -> bool {
        let alike = self.by_value.entry((new.value, new.done.clone())).or_default();
        if alike.iter().any(|known| known.covers(&new)) {
            return false;
        }
        alike.retain(|known| !new.covers(known));
        alike.push(new);
        true
    }

    fn into_vec(self) -> Vec<Configuration> {
        self.by_value.into_values().flatten().collect()
    }
}

/// Where no order was left.
struct DeadEnd {
    /// The operation whose return has no explanation.
    call: usize,
    /// What the key may have held just before, by all that was answered until then.
    values: BTreeSet<Value>,
    /// Since when: before this moment nothing is needed but the values that the key may have held.
    quiet_at: u64,
    /// Those values.
    quiet_values: BTreeSet<Value>,
}

enum Failure {
    Impossible(DeadEnd),
    GivenUp,
}

struct Sweep<'a> {
    calls: &'a [&'a Call],
    /// Operations that were called, have an answer, and have not returned.
    open: Vec<usize>,
    /// Operations of unknown outcome that were called.
    unknown: Vec<usize>,
    /// The event at which each was called.
    called: Vec<usize>,
    /// INCRs meet SETs or DELs on this key, so one of those may be needed by an INCR that is needed by an answer.
    is_mixed: bool,
    /// There are INCRs, so every value matters.
    is_counter: bool,
    /// The event at which the last GET of a value returns.
    read_until: HashMap<i64, usize>,
    configurations: Vec<Configuration>,
    looked_at: usize,
}

fn sweep(calls: &[&Call]) -> Result<(), Failure> {
    // A call and a return at the same moment overlap: calls first.
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (index, call) in calls.iter().enumerate() {
        events.push((call.called, false, index));
        events.extend(call.returned().map(|at| (at.max(call.called), true, index)));
    }
    events.sort_unstable();
    let has = |wanted: fn(&Operation) -> bool| calls.iter().any(|call| wanted(&call.operation));
    let start = Configuration { value: None, overwritten: 0, done: Vec::new(), used: Vec::new() };
    let mut sweep = Sweep {
        calls,
        open: Vec::new(),
        unknown: Vec::new(),
        called: vec![0; calls.len()],
        is_mixed: has(|it| matches!(it, Operation::Set(_) | Operation::Delete))
            && has(|it| matches!(it, Operation::Increment)),
        is_counter: has(|it| matches!(it, Operation::Increment)),
        read_until: HashMap::new(),
        configurations: vec![start],
        looked_at: 0,
    };
    for (event, (_, _, index)) in events.iter().enumerate() {
        if let (Operation::Get, Some(Answer::Number(value))) =
            (&calls[*index].operation, calls[*index].answer())
        {
            sweep.read_until.insert(*value, event + 1);
        }
    }
    let (mut quiet_at, mut quiet_values) = (0, BTreeSet::from([None]));
    for (event, (at, is_return, index)) in events.into_iter().enumerate() {
        if !is_return {
            sweep.call(index, event + 1);
            continue;
        }
        let values = sweep.values();
        sweep.take_return(index, event + 1)?;
        if sweep.configurations.is_empty() {
            return Err(Failure::Impossible(DeadEnd { call: index, values, quiet_at, quiet_values }));
        }
        if sweep.open.is_empty() {
            (quiet_at, quiet_values) = (at, sweep.values());
        }
    }
    Ok(())
}

impl Sweep<'_> {
    fn values(&self) -> BTreeSet<Value> {
        self.configurations.iter().map(|it| it.value).collect()
    }

    /// The value, or [`UNREAD`].
    fn read_after(&self, value: i64, event: usize) -> i64 {
        let is_read = self.is_counter || self.read_until.get(&value).is_some_and(|until| *until >= event);
        if is_read { value } else { UNREAD }
    }

    fn call(&mut self, index: usize, event: usize) {
        let call = self.calls[index];
        self.called[index] = event;
        if call.outcome == Outcome::Unknown {
            if call.operation != Operation::Get {
                self.unknown.push(index);
            }
            return;
        }
        self.open.push(index);
        for configuration in &mut self.configurations {
            if is_free(call, configuration.value) {
                configuration.done.push(index); // ascending: calls are ordered
            }
        }
    }

    /// Keeps what explains that this operation has returned.
    fn take_return(&mut self, index: usize, event: usize) -> Result<(), Failure> {
        let mut explained = Frontier::default();
        let mut seen = Frontier::default();
        let mut waiting = Vec::new();
        for mut configuration in std::mem::take(&mut self.configurations) {
            configuration.value = configuration.value.map(|value| self.read_after(value, event));
            if configuration.done.contains(&index) {
                explained.insert(without(configuration, index));
                continue;
            }
            let was_hidden = matches!(self.calls[index].operation, Operation::Set(_))
                && configuration.overwritten >= self.called[index];
            if was_hidden {
                explained.insert(configuration.clone());
            }
            if seen.insert(configuration.clone()) {
                waiting.push(configuration);
            }
        }
        while let Some(configuration) = waiting.pop() {
            self.looked_at += 1;
            if self.looked_at > CONFIGURATIONS_MAX {
                return Err(Failure::GivenUp);
            }
            for next in self.moves(&configuration, index, event) {
                let Some(after) = self.take_effect(&configuration, next, event) else { continue };
                if after.done.contains(&index) {
                    explained.insert(without(after, index));
                } else if seen.insert(after.clone()) {
                    waiting.push(after);
                }
            }
        }
        self.open.retain(|open| *open != index);
        self.configurations = explained.into_vec();
        Ok(())
    }

    /// Operations that may be the next to take effect, so that the one with this index can return.
    fn moves(&self, configuration: &Configuration, index: usize, event: usize) -> Vec<usize> {
        let is_waiting = |open: &&usize| !configuration.done.contains(open);
        let waiting: Vec<usize> = self.open.iter().filter(is_waiting).copied().collect();
        let may_help = |candidate: usize| {
            candidate == index
                || self.is_mixed
                || waiting
                    .iter()
                    .any(|open| *open != candidate && self.helps(candidate, *open, configuration.value))
                || matches!(self.calls[candidate].operation, Operation::Delete | Operation::Increment)
                    && self.calls[candidate].answer().is_some()
        };
        let mut alike: HashSet<Operation> = HashSet::new();
        let is_unused = |unknown: &&usize| {
            let operation = match &self.calls[**unknown].operation {
                Operation::Set(value) => Operation::Set(self.read_after(*value, event)),
                other => other.clone(),
            };
            !configuration.used.contains(unknown) && alike.insert(operation)
        };
        let unknown: Vec<usize> = self.unknown.iter().filter(is_unused).copied().collect();
        waiting.iter().copied().chain(unknown).filter(|candidate| may_help(*candidate)).collect()
    }

    /// Whether the answer of `open` may be right because `candidate` took effect before it.
    fn helps(&self, candidate: usize, open: usize, value: Value) -> bool {
        let answer = self.calls[open].answer();
        match (&self.calls[candidate].operation, &self.calls[open].operation) {
            (Operation::Set(new), Operation::Get) => answer == Some(&Answer::Number(*new)),
            (Operation::Set(_), Operation::Delete) => answer == Some(&Answer::Number(1)),
            (Operation::Delete, Operation::Get) => answer == Some(&Answer::Nothing),
            (Operation::Delete, Operation::Delete) => answer == Some(&Answer::Number(0)),
            (Operation::Delete, Operation::Increment) => answer == Some(&Answer::Number(1)),
            (Operation::Increment, Operation::Get | Operation::Increment) => {
                matches!(answer, Some(Answer::Number(number)) if *number > value.unwrap_or(0))
            }
            (Operation::Increment, Operation::Delete) => answer == Some(&Answer::Number(1)),
            _ => false,
        }
    }

    /// The configuration after this operation took effect; none if its answer would be another.
    fn take_effect(&self, before: &Configuration, index: usize, event: usize) -> Option<Configuration> {
        let call = self.calls[index];
        let (value, answer) = step(before.value, &call.operation);
        if call.answer().is_some_and(|seen| *seen != answer) {
            return None;
        }
        let value = value.map(|value| self.read_after(value, event));
        let mut after = Configuration { value, ..before.clone() };
        if matches!(call.operation, Operation::Set(_))
            || call.operation == Operation::Delete && call.answer().is_none()
        {
            after.overwritten = event;
        }
        insert(if call.answer().is_some() { &mut after.done } else { &mut after.used }, index);
        for open in &self.open {
            if !after.done.contains(open) && is_free(self.calls[*open], value) {
                insert(&mut after.done, *open);
            }
        }
        Some(after)
    }
}

/// Whether it may take effect on this value and leaves all as it is.
fn is_free(call: &Call, value: Value) -> bool {
    let is_reading = matches!(call.operation, Operation::Get | Operation::Delete);
    is_reading && {
        let (after, answer) = step(value, &call.operation);
        after == value && call.answer() == Some(&answer)
    }
}

fn insert(ascending: &mut Vec<usize>, index: usize) {
    if let Err(at) = ascending.binary_search(&index) {
        ascending.insert(at, index);
    }
}

fn without(mut configuration: Configuration, index: usize) -> Configuration {
    configuration.done.retain(|done| *done != index);
    configuration
}

/// The least of a history that still has no order.
struct Least<'a> {
    quiet_values: BTreeSet<Value>,
    values: BTreeSet<Value>,
    calls: Vec<&'a Call>,
    impossible: &'a Call,
}

/// Cuts the history off behind the return that has no explanation, leaves out what came before the last quiet moment, and every read that is
/// not needed. To leave out a read never makes a history impossible; to leave out a write may, so those stay.
fn shrink<'a>(calls: &[&'a Call], dead_end: DeadEnd) -> Least<'a> {
    let DeadEnd { call, values, quiet_at, quiet_values } = dead_end;
    let impossible = calls[call];
    let end = impossible.returned().expect("it has returned");
    let mut kept: Vec<&Call> = calls.iter().copied().filter(|call| call.called <= end).collect();
    let is_late = |call: &&Call| call.returned().is_none_or(|at| at > quiet_at);
    if kept.len() <= SHRUNK_MAX {
        let late: Vec<&Call> = kept.iter().copied().filter(is_late).collect();
        for read in late.into_iter().rev().filter(|call| call.operation == Operation::Get) {
            let tried: Vec<&Call> = kept.iter().copied().filter(|call| !std::ptr::eq(*call, read)).collect();
            if !std::ptr::eq(read, impossible) && matches!(sweep(&tried), Err(Failure::Impossible(_))) {
                kept = tried;
            }
        }
    }
    kept.retain(is_late);
    Least { quiet_values, values, calls: kept, impossible }
}

fn story(least: &Least) -> String {
    let values = |values: &BTreeSet<Value>| {
        let word = |value: &Value| match value {
            None => "nothing".to_owned(),
            Some(UNREAD) => "something that nobody read later".to_owned(),
            Some(number) => number.to_string(),
        };
        let words = values.iter().map(word);
        words.collect::<Vec<_>>().join(" or ")
    };
    let mut lines = vec![
        format!("no order of these operations gives the answer of {}", least.impossible),
        format!("    the key held {}, then:", values(&least.quiet_values)),
    ];
    let hidden = least.calls.len().saturating_sub(SHOWN_MAX);
    if hidden > 0 {
        lines.push(format!("    … {hidden} earlier operations …"));
    }
    lines.extend(least.calls[hidden..].iter().map(|call| format!("    {call}")));
    lines.push(format!("    before that last return it may have held {}", values(&least.values)));
    lines.join("\n")
}
