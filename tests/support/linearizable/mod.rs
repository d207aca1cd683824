//! Linearizability of what clients saw of single keys: is there an order of all operations, each at a moment between its call and its
//! return, in which every answer is the right one?
//!
//! The property: Herlihy & Wing, *Linearizability: a correctness condition for concurrent objects* (1990). A history is linearizable if each
//! key's is, so keys are looked at one by one. Registers and counters go through [`sweep`], which follows Lowe, *Testing for linearizability*
//! (2016): operations take effect as late as they can. Sets that only grow need no search at all: [`grow_only`].
//!
//! Outcomes:
//! - an answer: the operation took effect between call and return;
//! - [`Outcome::Failed`]: it certainly was not done, and is left out;
//! - [`Outcome::Unknown`]: it takes effect at any moment after its call, or never.
//!
//! Not here: operations on several keys, and values that are set twice (a write is known by its value, so give each its own: two equal ones
//! make the check weaker, never wrong).

#![allow(dead_code, reason = "several test programs share this, and none needs all of it")]

mod grow_only;
mod sweep;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// GET: answered with [`Answer::Nothing`] or [`Answer::Number`].
    Get,
    /// SET: [`Answer::Done`].
    Set(i64),
    /// DEL: [`Answer::Number`], 1 if the key was there.
    Delete,
    /// INCR: [`Answer::Number`].
    Increment,
    /// A value into the set, once in the whole history: [`Answer::Done`]. Keys of sets have this and [`Operation::Members`] only.
    Add(i64),
    /// All values of the set: [`Answer::Members`].
    Members,
}

/// What it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// OK.
    Done,
    /// There is no such key.
    Nothing,
    /// A number.
    Number(i64),
    /// The values of a set.
    Members(BTreeSet<i64>),
}

/// What became of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered at this moment.
    Answered(Answer, u64),
    /// Certainly not done.
    Failed,
    /// Nobody knows: it may take effect later, too.
    Unknown,
}

/// One operation as its client saw it. Moments are nanoseconds of one clock for all clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who; for people only.
    pub client: u32,
    /// When it was sent, or a moment before.
    pub called: u64,
    /// What.
    pub operation: Operation,
    /// How it ended.
    pub outcome: Outcome,
}

impl Call {
    /// When its answer came; none if there was none.
    fn returned(&self) -> Option<u64> {
        match self.outcome {
            Outcome::Answered(_, at) => Some(at),
            _ => None,
        }
    }

    fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Answered(answer, _) => Some(answer),
            _ => None,
        }
    }
}

/// All that clients saw, by key, in any order.
#[derive(Clone, Debug, Default)]
pub struct History {
    calls: BTreeMap<String, Vec<Call>>,
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Keys.
    pub keys: usize,
    /// Operations with an answer.
    pub answered: usize,
    /// Those whose outcome nobody knows.
    pub unknown: usize,
    /// Those that were not done.
    pub failed: usize,
}

/// A key whose history no order explains, or whose order was not found in time.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The key.
    pub key: String,
    /// What is wrong, and the least of the history that shows it.
    pub story: String,
    /// The search was given up, so nothing is known.
    pub is_undecided: bool,
}

impl History {
    /// One more operation.
    pub fn record(&mut self, key: &str, call: Call) {
        self.calls.entry(key.to_owned()).or_default().push(call);
    }

    /// What other clients saw.
    pub fn merge(&mut self, other: History) {
        for (key, calls) in other.calls {
            self.calls.entry(key).or_default().extend(calls);
        }
    }

    /// All calls, by key.
    pub fn calls(&self) -> impl Iterator<Item = (&str, &Call)> {
        self.calls.iter().flat_map(|(key, calls)| calls.iter().map(move |call| (key.as_str(), call)))
    }

    /// Looks for an order that explains everything.
    ///
    /// # Errors
    /// The first key, by name, without one; or the first on which [`sweep::CONFIGURATIONS_MAX`] were not enough.
    pub fn check(&self) -> Result<Checked, Violation> {
        let mut checked = Checked { keys: self.calls.len(), ..Checked::default() };
        for (key, calls) in &self.calls {
            for call in calls {
                match call.outcome {
                    Outcome::Answered(..) => checked.answered += 1,
                    Outcome::Unknown => checked.unknown += 1,
                    Outcome::Failed => checked.failed += 1,
                }
            }
            let mut calls: Vec<&Call> = calls.iter().filter(|call| call.outcome != Outcome::Failed).collect();
            calls.sort_by_key(|call| call.called);
            let is_set = |call: &&Call| matches!(call.operation, Operation::Add(_) | Operation::Members);
            let found = match calls.iter().filter(|call| is_set(call)).count() {
                0 => sweep::check(&calls),
                sets => {
                    assert_eq!(sets, calls.len(), "{key} is a set, and only a set");
                    grow_only::check(&calls).map_err(|story| (story, false))
                }
            };
            found.map_err(|(story, is_undecided)| Violation { key: key.clone(), story, is_undecided })?;
        }
        Ok(checked)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let what = if self.is_undecided { "was not decided" } else { "is not linearizable" };
        write!(out, "the history of {} {what}: {}", self.key, self.story)
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let Checked { keys, answered, unknown, failed } = self;
        write!(out, "{keys} keys, {answered} operations answered, {unknown} unknown, {failed} not done")
    }
}

/// In microseconds of the history's clock, as `client 3 [1200.5, 1300.0] GET = 7`.
impl fmt::Display for Call {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let us = |at: u64| at as f64 / 1000.0;
        write!(out, "client {} [{:.1}, ", self.client, us(self.called))?;
        match &self.outcome {
            Outcome::Answered(answer, at) => write!(out, "{:.1}] {} = {answer}", us(*at), self.operation),
            Outcome::Unknown => write!(out, "…) {} = unknown", self.operation),
            Outcome::Failed => write!(out, "…) {} was not done", self.operation),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Operation::Get => write!(out, "GET"),
            Operation::Set(value) => write!(out, "SET {value}"),
            Operation::Delete => write!(out, "DEL"),
            Operation::Increment => write!(out, "INCR"),
            Operation::Add(value) => write!(out, "ADD {value}"),
            Operation::Members => write!(out, "MEMBERS"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Answer::Done => write!(out, "OK"),
            Answer::Nothing => write!(out, "nil"),
            Answer::Number(number) => write!(out, "{number}"),
            Answer::Members(members) => write!(out, "{} values", members.len()),
        }
    }
}
