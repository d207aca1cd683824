//! Sorted sets: members in the order of their scores, and among equals of their bytes.
//!
//! A *small* one, within the limits of Redis's listpack, is the payload of its key row:
//!
//! ```text
//! number of members (varint) · for each, in order: score (8) · length (varint) · member
//! ```
//!
//! A *big* one has a row for each member, and a counted tree ([`super::counted`]) whose leaves pack some dozens of members in order;
//! the key row's payload is the tree's head.
//!
//! ```text
//! member: tag 4 (1) · hash32(member) (4, big-endian) · member → score (8, bits of the double, big-endian)
//! leaf:   score (8) · length (varint) · member, and so on
//! ```
//!
//! All kinds of ranges become ranges of ranks first, in O(log n), and one walk shows them; so counting costs no more than finding,
//! and LIMIT skips for nothing.
//!
//! Invariants:
//! - a sorted set has at least one member; the key goes with the last one;
//! - a big one stays big, as in Redis;
//! - members' rows and leaves say the same; `Items::bytes` is exact.

mod big;
mod combine;
mod edit;
mod entries;
mod random;

pub use big::scored_of_row;
pub use combine::{Aggregate, Source, difference, intersection, intersection_count, union};
pub use edit::{Edit, store_all};
pub use entries::Scored;
pub use random::{random_distinct, random_repeated};

use super::error::Error;
use crate::store::{Entry, Interrupt, Key, Kind, Transaction, View};
use big::Big;
use entries::{Entries, SortKey, compare_to_key, get_varint, sort_key};
use std::cmp::Ordering;
use std::ops::{ControlFlow, Range};

const LISTPACK: u8 = 0;
const SKIPLIST: u8 = 1;

/// How large a small sorted set may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Members.
    pub entries: usize,
    /// Bytes of a member.
    pub value: usize,
}

/// What OBJECT ENCODING says of a sorted set.
pub fn encoding_name(entry: &Entry) -> &'static str {
    if entry.encoding() == LISTPACK { "listpack" } else { "skiplist" }
}

/// The sorted set at `key`, if there is one.
#[inline]
pub fn find(view: &mut View, key: &Key) -> Result<Option<Entry>, Error> {
    match view.get(key)? {
        Some(entry) if entry.kind() != Kind::SortedSet => Err(Error::WrongType),
        entry => Ok(entry),
    }
}

fn small_entries(payload: &[u8]) -> Entries<'_> {
    let mut at = 0;
    let _count = get_varint(payload, &mut at);
    Entries::new(payload.get(at..).unwrap_or_default())
}

/// Number of members.
pub fn len(entry: &Entry) -> u64 {
    match Big::open(entry) {
        Ok(Some(big)) => big.tree.len(),
        Ok(None) => get_varint(entry.payload(), &mut 0).unwrap_or(0) as u64,
        Err(_) => 0,
    }
}

/// The score of `member`.
pub fn score(view: &mut View, key: &Key, entry: &Entry, member: &[u8]) -> Result<Option<f64>, Interrupt> {
    match entry.items() {
        Some(items) => big::score(view, key, items, member),
        None => {
            Ok(small_entries(entry.payload()).find(|(_, other)| *other == member).map(|(score, _)| score))
        }
    }
}

/// How many members stand before `member`, and its score.
pub fn rank(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    member: &[u8],
) -> Result<Option<(u64, f64)>, Interrupt> {
    let Some(mut big) = Big::open(entry)? else {
        let mut entries = small_entries(entry.payload()).enumerate();
        let found = entries.find(|(_, (_, other))| *other == member);
        return Ok(found.map(|(rank, (score, _))| (rank as u64, score)));
    };
    let Some(score) = big::score(view, key, big.tree.items(), member)? else { return Ok(None) };
    Ok(Some((big.rank(view, key, &sort_key((score, member)))?, score)))
}

/// Scores from and to.
#[derive(Clone, Copy, Debug)]
pub struct ScoreRange {
    /// The least score, or what is just below it.
    pub min: f64,
    /// The greatest score, or what is just above it.
    pub max: f64,
    /// Without `min` itself.
    pub min_exclusive: bool,
    /// Without `max` itself.
    pub max_exclusive: bool,
}

/// An end of a range of members by their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LexBound<'a> {
    /// Before all.
    Lowest,
    /// Behind all.
    Highest,
    /// With this one.
    Inclusive(&'a [u8]),
    /// Without this one.
    Exclusive(&'a [u8]),
}

/// Members by their bytes, from and to: of use only where all have one score.
#[derive(Clone, Copy, Debug)]
pub struct LexRange<'a> {
    /// Where it begins.
    pub min: LexBound<'a>,
    /// Where it ends.
    pub max: LexBound<'a>,
}

/// A bound before all members of this score, or `behind` them; `None` if no bound can be.
fn score_bound(score: f64, behind: bool) -> Option<SortKey> {
    let number = entries::orderable(score).checked_add(u64::from(behind))?;
    Some(SortKey::from_slice(&number.to_be_bytes()))
}

/// The ranks of the members with these scores.
pub fn ranks_of_scores(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    range: ScoreRange,
) -> Result<Range<u64>, Interrupt> {
    let is_empty = match range.min.partial_cmp(&range.max) {
        Some(Ordering::Less) => false,
        Some(Ordering::Equal) => range.min_exclusive || range.max_exclusive,
        Some(Ordering::Greater) | None => true,
    };
    if is_empty {
        return Ok(0..0);
    }
    let bounds = (score_bound(range.min, range.min_exclusive), score_bound(range.max, !range.max_exclusive));
    let (Some(start), Some(end)) = bounds else { return Ok(0..0) };
    let (start, end) = match Big::open(entry)? {
        Some(mut big) => (big.rank(view, key, &start)?, big.rank(view, key, &end)?),
        None => (small_rank(entry, &start), small_rank(entry, &end)),
    };
    Ok(start..end.max(start))
}

fn small_rank(entry: &Entry, bound: &[u8]) -> u64 {
    let before = |&scored: &Scored| compare_to_key(scored, bound) == Ordering::Less;
    small_entries(entry.payload()).take_while(before).count() as u64
}

impl LexBound<'_> {
    /// Whether `member` is behind this lower end.
    fn lets_begin(self, member: &[u8]) -> bool {
        match self {
            LexBound::Lowest => true,
            LexBound::Highest => false,
            LexBound::Inclusive(min) => member >= min,
            LexBound::Exclusive(min) => member > min,
        }
    }

    /// Whether `member` is before this upper end.
    fn lets_end(self, member: &[u8]) -> bool {
        match self {
            LexBound::Lowest => false,
            LexBound::Highest => true,
            LexBound::Inclusive(max) => member <= max,
            LexBound::Exclusive(max) => member < max,
        }
    }
}

impl LexRange<'_> {
    /// Whether nothing can be in it.
    fn is_empty(self) -> bool {
        let word = |bound| match bound {
            LexBound::Inclusive(word) | LexBound::Exclusive(word) => Some(word),
            _ => None,
        };
        match (word(self.min), word(self.max)) {
            (Some(min), Some(max)) => {
                let is_open =
                    [self.min, self.max].iter().any(|bound| matches!(bound, LexBound::Exclusive(_)));
                min > max || (min == max && is_open)
            }
            _ => self.min == LexBound::Highest || self.max == LexBound::Lowest,
        }
    }
}

/// The ranks of the members in this range; where scores differ, of those among the members of one score. A small set is searched from
/// its end if `backward`, as in Redis: that tells only where scores differ, and the range is not one of the order.
pub fn ranks_of_lex(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    range: LexRange,
    backward: bool,
) -> Result<Range<u64>, Interrupt> {
    if range.is_empty() {
        return Ok(0..0);
    }
    let Some(mut big) = Big::open(entry)? else { return Ok(small_ranks_of_lex(entry, range, backward)) };
    let len = big.tree.len();
    let mut rank = |bound: LexBound, includes: bool| match bound {
        LexBound::Lowest => Ok(0),
        LexBound::Highest => Ok(len),
        LexBound::Inclusive(word) | LexBound::Exclusive(word) => {
            let mut key_bytes = big.bound_in_first_score(view, key, word)?;
            if matches!(bound, LexBound::Inclusive(_)) != includes {
                // The next word in the order of bytes: what is before it is not behind this one.
                key_bytes.push(0);
            }
            big.rank(view, key, &key_bytes)
        }
    };
    let (start, end) = (rank(range.min, true)?, rank(range.max, false)?);
    Ok(start..end.max(start))
}

fn small_ranks_of_lex(entry: &Entry, range: LexRange, backward: bool) -> Range<u64> {
    let all: Vec<&[u8]> = small_entries(entry.payload()).map(|(_, member)| member).collect();
    let reaches = all.last().is_some_and(|last| range.min.lets_begin(last))
        && all.first().is_some_and(|first| range.max.lets_end(first));
    if !reaches {
        return 0..0;
    }
    let (start, end) = if backward {
        let end = all.iter().rposition(|member| range.max.lets_end(member)).map_or(0, |last| last + 1);
        let start = all[..end].iter().rposition(|member| !range.min.lets_begin(member));
        (start.map_or(0, |before| before + 1), end)
    } else {
        let start = all.iter().position(|member| range.min.lets_begin(member)).unwrap_or(all.len());
        let count = all[start..].iter().take_while(|member| range.max.lets_end(member)).count();
        (start, start + count)
    };
    start as u64..end as u64
}

/// Visits the members of these ranks, the last one first if `backward`.
pub fn visit_ranks(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    ranks: Range<u64>,
    backward: bool,
    visit: &mut dyn FnMut(Scored) -> ControlFlow<()>,
) -> Result<(), Interrupt> {
    if let Some(mut big) = Big::open(entry)? {
        return big.visit(view, key, ranks, backward, visit);
    }
    let count = ranks.end.saturating_sub(ranks.start) as usize;
    let mut entries = small_entries(entry.payload()).skip(ranks.start as usize).take(count);
    if backward {
        let entries: Vec<Scored> = entries.collect();
        let _ = entries.into_iter().rev().try_for_each(visit);
    } else {
        let _ = entries.try_for_each(visit);
    }
    Ok(())
}

/// Visits all members in order.
pub fn visit(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    visit: &mut dyn FnMut(Scored),
) -> Result<(), Interrupt> {
    visit_ranks(view, key, entry, 0..u64::MAX, false, &mut |scored| {
        visit(scored);
        ControlFlow::Continue(())
    })
}

/// Visits about `count` members from `cursor` on (0: from the beginning) and returns the cursor to go on with, 0 at the end.
///
/// The cursor is the hash position that comes next, as for hashes. A small set is visited as a whole.
pub fn scan(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    cursor: u64,
    count: usize,
    visit: &mut dyn FnMut(Scored),
) -> Result<u64, Interrupt> {
    let Some(items) = entry.items() else {
        self::visit(view, key, entry, visit)?;
        return Ok(0);
    };
    let Ok(from) = u32::try_from(cursor) else { return Ok(0) };
    let from = [&[big::MEMBER][..], &from.to_be_bytes()].concat();
    let (mut seen, mut last, mut next) = (0, [0; 4], 0);
    view.visit_items(key, items.uid, &from, &mut |suffix, row| {
        let Some(scored) = scored_of_row(suffix, row) else { return ControlFlow::Continue(()) };
        let position = [suffix[1], suffix[2], suffix[3], suffix[4]];
        if seen >= count && position != last {
            next = u64::from(u32::from_be_bytes(position));
            return ControlFlow::Break(());
        }
        visit(scored);
        seen += 1;
        last = position;
        ControlFlow::Continue(())
    })?;
    Ok(next)
}

/// Which end members are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Those with the least scores.
    Min,
    /// Those with the greatest.
    Max,
}

/// Takes up to `count` members from an end, the outermost first, and the key with the last one. Nothing if there is no such key.
pub fn pop(
    transaction: &mut Transaction,
    key: &Key,
    end: End,
    count: u64,
    limits: Limits,
) -> Result<Vec<(Vec<u8>, f64)>, Error> {
    let Some(entry) = find(transaction, key)? else { return Ok(Vec::new()) };
    let mut edit = Edit::open(*key, Some(&entry), limits)?;
    let len = edit.len();
    let ranks = match end {
        End::Min => 0..count.min(len),
        End::Max => len - count.min(len)..len,
    };
    let mut popped = Vec::new();
    let mut take = |(score, member): Scored| popped.push((member.to_vec(), score));
    edit.remove_ranks(transaction, ranks, &mut take)?;
    edit.save(transaction)?;
    if end == End::Max {
        popped.reverse();
    }
    Ok(popped)
}

/// Removes the members of these ranks, and the key with the last one. Returns how many there were.
pub fn remove_ranks(
    transaction: &mut Transaction,
    key: &Key,
    entry: &Entry,
    ranks: Range<u64>,
    limits: Limits,
) -> Result<u64, Interrupt> {
    let len = len(entry);
    if len > 0 && ranks.start == 0 && ranks.end >= len {
        transaction.remove(key)?;
        return Ok(len);
    }
    let mut edit = Edit::open(*key, Some(entry), limits)?;
    let removed = edit.remove_ranks(transaction, ranks, &mut |_| ())?;
    edit.save(transaction)?;
    Ok(removed)
}

#[cfg(test)]
mod tests;
