//! Sets into which each value is put once and from which nothing is removed: linearizable exactly if five rules hold.
//!
//! 1. A read has no value that nobody added before the read returned.
//! 2. A read has every value whose addition had returned before the read was called.
//! 3. Of two reads, one has everything that the other has.
//! 4. A read that was called after another had returned has everything that other one had.
//! 5. A read that has a value has every value whose addition had returned before that value's was called.
//!
//! That they are needed is plain. They suffice: take the reads by size, and before each one the additions of what it has and the one before
//! had not, by the time of their call; at the end, what nobody read. Any two that stand in the wrong order of time break a rule: two reads
//! break 4, a read and a later addition 1, an addition and a later read 2, two additions 5.

use super::{Answer, Call, Operation, Outcome};
use std::collections::{BTreeMap, BTreeSet};

/// A read: when it was called, when it returned, and what it had.
type Read<'a> = (&'a Call, u64, &'a BTreeSet<i64>);

/// Checks the calls of one key, ordered by when they were called.
///
/// # Errors
/// Which rule is broken, by which calls.
pub fn check(calls: &[&Call]) -> Result<(), String> {
    let mut additions: BTreeMap<i64, &Call> = BTreeMap::new();
    let mut reads: Vec<Read> = Vec::new();
    for call in calls {
        match (&call.operation, &call.outcome) {
            (Operation::Add(value), _) => {
                assert!(additions.insert(*value, call).is_none(), "{value} is added twice");
            }
            (_, Outcome::Answered(Answer::Members(members), at)) => reads.push((call, *at, members)),
            _ => {}
        }
    }
    for read in &reads {
        has_nothing_else(*read, &additions)?;
    }
    reads.sort_by_key(|(call, _, members)| (members.len(), call.called));
    for pair in reads.windows(2) {
        is_a_chain(pair[0], pair[1])?;
    }
    in_order_of_time(&reads)?;
    has_what_was_there(&reads, &additions)
}

/// Rule 1.
fn has_nothing_else((call, returned, members): Read, additions: &BTreeMap<i64, &Call>) -> Result<(), String> {
    for member in members {
        match additions.get(member) {
            None => return Err(format!("{call} has {member}, which nobody added")),
            Some(addition) if addition.called > returned => {
                return Err(format!("{call} has {member}, which was added later: {addition}"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Rule 3, of neighbours by size.
fn is_a_chain(small: Read, large: Read) -> Result<(), String> {
    match small.2.difference(large.2).next() {
        None => Ok(()),
        Some(value) => {
            Err(format!("{} has {value}, and {} lacks it, which has as many or more", small.0, large.0))
        }
    }
}

/// Rule 4, of reads ordered by size: none is called after a larger one has returned.
fn in_order_of_time(reads: &[Read]) -> Result<(), String> {
    let mut first_of_larger: Option<Read> = None;
    for same in reads.chunk_by(|a, b| a.2.len() == b.2.len()).rev() {
        for (call, ..) in same {
            if let Some((larger, ..)) = first_of_larger.filter(|(_, returned, _)| *returned < call.called) {
                return Err(format!("{call} comes after {larger} and has less"));
            }
        }
        let candidates = same.iter().chain(first_of_larger.iter());
        first_of_larger = candidates.min_by_key(|(_, returned, _)| *returned).copied();
    }
    Ok(())
}

/// Rules 2 and 5: a read has what was added before it was called, and before anything it has was called.
fn has_what_was_there(reads: &[Read], additions: &BTreeMap<i64, &Call>) -> Result<(), String> {
    let mut returned: Vec<(u64, i64)> =
        additions.iter().filter_map(|(value, call)| Some((call.returned()?, *value))).collect();
    returned.sort_unstable();
    for (call, _, members) in reads {
        let youngest = members.iter().filter_map(|member| additions.get(member)).max_by_key(|it| it.called);
        let since = youngest.map_or(0, |youngest| youngest.called).max(call.called);
        let early = returned.iter().take_while(|(returned, _)| *returned < since);
        if let Some((_, value)) = early.into_iter().find(|(_, value)| !members.contains(value)) {
            let missing = additions[value];
            return Err(match youngest.filter(|youngest| call.called < youngest.called) {
                Some(youngest) => {
                    format!("{call} has {youngest} and lacks {missing}, which was there before")
                }
                None => format!("{call} lacks {value}: {missing}"),
            });
        }
    }
    Ok(())
}
