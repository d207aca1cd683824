//! Unions, intersections and differences of sorted sets.
//!
//! Scores are put together in the order of the sets' sizes, as in Redis: with floating point the order shows in the sum.

use super::entries::{Scored, compare};
use super::{len, score, visit};
use crate::store::{Entry, Interrupt, Key, Kind, View};
use crate::types::error::Error;
use crate::types::set;
use std::collections::HashMap;

/// How the scores of one member in several sets become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aggregate {
    /// Their sum.
    #[default]
    Sum,
    /// The least.
    Min,
    /// The greatest.
    Max,
}

impl Aggregate {
    fn of(self, old: f64, new: f64) -> f64 {
        match self {
            Aggregate::Sum => not_nan(old + new),
            Aggregate::Min if new < old => new,
            Aggregate::Max if new > old => new,
            _ => old,
        }
    }
}

/// What is no number counts as 0: infinities of both signs, and 0 times one of them.
fn not_nan(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// One of the sets that are put together: a sorted set, a set, whose members have the score 1, or nothing.
pub struct Source<'a> {
    key: Key<'a>,
    entry: Option<Entry>,
    weight: f64,
}

/// A member and what its scores have become.
pub type Combined = (f64, Vec<u8>);

impl<'a> Source<'a> {
    /// What `key` holds.
    pub fn open(view: &mut View, key: Key<'a>) -> Result<Source<'a>, Error> {
        let entry = view.get(&key)?;
        if entry.as_ref().is_some_and(|entry| !matches!(entry.kind(), Kind::SortedSet | Kind::Set)) {
            return Err(Error::WrongType);
        }
        Ok(Source { key, entry, weight: 1.0 })
    }

    /// Scores from here are multiplied by `weight`.
    pub fn weigh(&mut self, weight: f64) {
        self.weight = weight;
    }

    fn len(&self) -> u64 {
        self.entry.as_ref().map_or(0, |entry| match entry.kind() {
            Kind::Set => set::len(entry),
            _ => len(entry),
        })
    }

    fn score(&self, view: &mut View, member: &[u8]) -> Result<Option<f64>, Interrupt> {
        self.entry.as_ref().map_or(Ok(None), |entry| match entry.kind() {
            Kind::Set => Ok(set::has(view, &self.key, entry, member)?.then_some(1.0)),
            _ => score(view, &self.key, entry, member),
        })
    }

    fn visit(&self, view: &mut View, take: &mut dyn FnMut(Scored)) -> Result<(), Interrupt> {
        self.entry.as_ref().map_or(Ok(()), |entry| match entry.kind() {
            Kind::Set => set::visit(view, &self.key, entry, &mut |member| take((1.0, member))),
            _ => visit(view, &self.key, entry, take),
        })
    }

    fn members(&self, view: &mut View) -> Result<Vec<Combined>, Interrupt> {
        let mut members = Vec::new();
        self.visit(view, &mut |(score, member)| members.push((score, member.to_vec())))?;
        Ok(members)
    }
}

fn in_order(mut members: Vec<Combined>) -> Vec<Combined> {
    members.sort_unstable_by(|a, b| compare((a.0, &a.1), (b.0, &b.1)));
    members
}

/// Members of any of the sets, in order.
pub fn union(
    view: &mut View,
    mut sources: Vec<Source>,
    aggregate: Aggregate,
) -> Result<Vec<Combined>, Interrupt> {
    sources.sort_by_key(Source::len);
    let mut scores: HashMap<Vec<u8>, f64, foldhash::fast::RandomState> = HashMap::default();
    for source in &sources {
        source.visit(view, &mut |(score, member)| {
            let score = not_nan(source.weight * score);
            match scores.get_mut(member) {
                Some(old) => *old = aggregate.of(*old, score),
                None => {
                    scores.insert(member.to_vec(), score);
                }
            }
        })?;
    }
    Ok(in_order(scores.into_iter().map(|(member, score)| (score, member)).collect()))
}

/// Members of all of the sets, in order.
pub fn intersection(
    view: &mut View,
    mut sources: Vec<Source>,
    aggregate: Aggregate,
) -> Result<Vec<Combined>, Interrupt> {
    sources.sort_by_key(Source::len);
    let Some((least, others)) = sources.split_first() else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    'members: for (score, member) in least.members(view)? {
        let mut score = not_nan(least.weight * score);
        for other in others {
            let Some(more) = other.score(view, &member)? else { continue 'members };
            score = aggregate.of(score, other.weight * more);
        }
        found.push((score, member));
    }
    Ok(in_order(found))
}

/// How many members all of the sets have, as far as `limit` (0: no limit).
pub fn intersection_count(view: &mut View, mut sources: Vec<Source>, limit: u64) -> Result<u64, Interrupt> {
    sources.sort_by_key(Source::len);
    let Some((least, others)) = sources.split_first() else { return Ok(0) };
    let mut count = 0;
    'members: for (_, member) in least.members(view)? {
        for other in others {
            if other.score(view, &member)?.is_none() {
                continue 'members;
            }
        }
        count += 1;
        if count == limit {
            break;
        }
    }
    Ok(count)
}

/// Members of the first set that no other has, in order.
pub fn difference(view: &mut View, sources: &[Source]) -> Result<Vec<Combined>, Interrupt> {
    let Some((first, others)) = sources.split_first() else { return Ok(Vec::new()) };
    let mut left = Vec::new();
    'members: for (score, member) in first.members(view)? {
        for other in others {
            if other.score(view, &member)?.is_some() {
                continue 'members;
            }
        }
        left.push((score, member));
    }
    Ok(in_order(left))
}
