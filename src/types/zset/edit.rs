//! A command's work on one sorted set: members set and removed one after the other, then written once.

use super::big::{self, Big, damaged};
use super::entries::{Scored, compare, put, put_varint};
use super::{LISTPACK, Limits, SKIPLIST, small_entries};
use crate::store::{Entry, Interrupt, Key, Kind, NewValue, Transaction};
use smallvec::SmallVec;
use std::ops::Range;

/// Above this a sorted set is big, whatever the limits say: a row is rewritten as a whole.
const INLINE_MAX: usize = 128 * 1024;

/// A sorted set while a command works on it. Nothing is written to its key row before [`Edit::save`].
pub struct Edit<'a> {
    key: Key<'a>,
    limits: Limits,
    expire_at: Option<i64>,
    form: Form<'a>,
    changed: bool,
}

#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time: a box would be an allocation a command"
)]
enum Form<'a> {
    /// In order, with the bytes of all.
    Small(SmallVec<[Scored<'a>; 32]>, usize),
    Big(Box<Big>),
}

impl<'a> Edit<'a> {
    /// Of the set that `key` holds, or of none yet.
    pub fn open(key: Key<'a>, before: Option<&'a Entry>, limits: Limits) -> Result<Edit<'a>, Interrupt> {
        let form = match before {
            Some(entry) => match Big::open(entry)? {
                Some(big) => Form::Big(Box::new(big)),
                None => Form::Small(small_entries(entry.payload()).collect(), entry.payload().len()),
            },
            None => Form::Small(SmallVec::new(), 0),
        };
        let expire_at = before.and_then(Entry::expire_at);
        Ok(Edit { key, limits, expire_at, form, changed: false })
    }

    /// Number of members.
    pub fn len(&self) -> u64 {
        match &self.form {
            Form::Small(members, _) => members.len() as u64,
            Form::Big(big) => big.tree.len(),
        }
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The score of a member.
    pub fn score(&self, transaction: &mut Transaction, member: &[u8]) -> Result<Option<f64>, Interrupt> {
        match &self.form {
            Form::Small(members, _) => {
                Ok(members.iter().find(|(_, other)| *other == member).map(|(score, _)| *score))
            }
            Form::Big(big) => big::score(transaction, &self.key, big.tree.items(), member),
        }
    }

    /// Gives `score` to a member that has the score `old`, or is not there.
    pub fn set(
        &mut self,
        transaction: &mut Transaction,
        (score, member): Scored<'a>,
        old: Option<f64>,
    ) -> Result<(), Interrupt> {
        self.changed = true;
        if let Form::Small(members, bytes) = &mut self.form {
            if let Some(old) = old {
                members.retain(|(_, other)| *other != member);
                *bytes = bytes.saturating_sub(scored_len((old, member)));
            }
            let len = scored_len((score, member));
            let is_within = members.len() < self.limits.entries && member.len() <= self.limits.value;
            let place = members.partition_point(|&other| compare(other, (score, member)).is_lt());
            if old.is_some() || (is_within && *bytes + len <= INLINE_MAX) {
                members.insert(place, (one_zero(score), member));
                *bytes += len;
                return Ok(());
            }
            self.form = Form::Big(Box::new(Big::of_sorted(transaction, &self.key, members)?));
        }
        let Form::Big(big) = &mut self.form else { return Err(damaged()) };
        match old {
            Some(old) => big.update(transaction, &self.key, (old, member), score),
            None => big.insert(transaction, &self.key, (score, member)),
        }
    }

    /// Removes a member. Whether it was there.
    pub fn remove(&mut self, transaction: &mut Transaction, member: &[u8]) -> Result<bool, Interrupt> {
        let Some(score) = self.score(transaction, member)? else { return Ok(false) };
        self.changed = true;
        match &mut self.form {
            Form::Small(members, _) => members.retain(|(_, other)| *other != member),
            Form::Big(big) => big.remove(transaction, &self.key, (score, member))?,
        }
        Ok(true)
    }

    /// Removes the members of these ranks and shows them. Returns how many they were.
    pub fn remove_ranks(
        &mut self,
        transaction: &mut Transaction,
        ranks: Range<u64>,
        removed: &mut dyn FnMut(Scored),
    ) -> Result<u64, Interrupt> {
        let before = self.len();
        let ranks = ranks.start.min(before)..ranks.end.min(before);
        if ranks.is_empty() {
            return Ok(0);
        }
        self.changed = true;
        match &mut self.form {
            Form::Small(members, _) => {
                members.drain(ranks.start as usize..ranks.end as usize).for_each(removed);
            }
            Form::Big(big) => big.remove_ranks(transaction, &self.key, ranks, removed)?,
        }
        Ok(before.saturating_sub(self.len()))
    }

    /// Writes the set, if it changed; without members the key goes.
    pub fn save(mut self, transaction: &mut Transaction) -> Result<(), Interrupt> {
        if !self.changed {
            return Ok(());
        }
        if self.is_empty() {
            return transaction.remove(&self.key);
        }
        let (kind, expire_at) = (Kind::SortedSet, self.expire_at);
        match &mut self.form {
            Form::Small(members, bytes) => {
                let mut payload = Vec::with_capacity(*bytes + 8);
                put_varint(&mut payload, members.len());
                members.iter().for_each(|&scored| put(&mut payload, scored));
                let meta = NewValue { kind, encoding: LISTPACK, expire_at, due_at: None, items: None };
                transaction.put(&self.key, meta, &[&payload])
            }
            Form::Big(big) => {
                big.tree.flush(transaction, &self.key)?;
                let mut head = SmallVec::new();
                big.tree.encode_head(&mut head);
                let meta = NewValue {
                    kind,
                    encoding: SKIPLIST,
                    expire_at,
                    due_at: None,
                    items: Some(big.tree.items()),
                };
                transaction.put(&self.key, meta, &[&head])
            }
        }
    }
}

/// A listpack keeps integers as such, and they have one zero.
fn one_zero(score: f64) -> f64 {
    if score == 0.0 { 0.0 } else { score }
}

/// About the bytes of a member in a row.
fn scored_len((_, member): Scored) -> usize {
    9 + member.len()
}

/// Makes `key` a sorted set of these members, whatever it held before; each is there once. Without members the key is
/// removed. Returns how many they are.
pub fn store_all(
    transaction: &mut Transaction,
    key: &Key,
    members: &mut [Scored],
    expire_at: Option<i64>,
    limits: Limits,
) -> Result<u64, Interrupt> {
    members.sort_by(|&a, &b| compare(a, b));
    let bytes: usize = members.iter().map(|&scored| scored_len(scored)).sum();
    let longest = members.iter().map(|(_, member)| member.len()).max().unwrap_or(0);
    let is_small = members.len() <= limits.entries && longest <= limits.value && bytes <= INLINE_MAX;
    let form = if is_small {
        Form::Small(members.iter().map(|&(score, member)| (one_zero(score), member)).collect(), bytes)
    } else {
        Form::Big(Box::new(Big::of_sorted(transaction, key, members)?))
    };
    let edit = Edit { key: *key, limits, expire_at, form, changed: true };
    edit.save(transaction)?;
    Ok(members.len() as u64)
}
