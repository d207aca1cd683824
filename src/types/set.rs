//! Sets: members at a key.
//!
//! A set of integers only, within the limit of Redis's intset, is the payload of its key row, sorted ([`integers`]). Another
//! small one is so too, members in the order they came ([`packed`]). A *big* one has its members in buckets, rows of the items
//! tree ([`buckets`]).
//!
//! Invariants:
//! - a set has at least one member, each once; the key goes with the last one;
//! - as in Redis, what is no set of integers any more does not become one again by removals, nor a big set a small one.

pub mod algebra;
pub mod buckets;
pub mod integers;
pub mod packed;
mod random;
mod walk;

pub use random::{pop, pop_some, random_distinct, random_repeated};
pub use walk::{Member, Walk, members, scan, visit};

use super::error::Error;
use crate::base::blob::Slice;
use crate::base::number;
use crate::store::{Entry, Interrupt, Key, Kind, NewValue, Transaction, View};
use buckets::Big;
use integers::{Integers, Packed};
use smallvec::SmallVec;
use std::collections::HashSet;

/// Bytes of members beyond which a set is big, whatever the limits say: a row is rewritten as a whole.
const SMALL_MAX: usize = 2048;
/// The same for integers.
const INTEGERS_MAX: usize = 128 * 1024;

const INTEGERS: u8 = 0;
const SMALL: u8 = 1;
const BIG: u8 = 2;

/// How large a set may be that is one row.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Integers, if it has nothing else.
    pub integers: usize,
    /// Members.
    pub entries: usize,
    /// Bytes of a member.
    pub value: usize,
}

/// What OBJECT ENCODING says of a set.
pub fn encoding_name(entry: &Entry) -> &'static str {
    if entry.encoding() == INTEGERS { "intset" } else { "hashtable" }
}

/// A set's key row, decoded.
enum Form<'a> {
    Integers(Integers<'a>),
    Small(&'a [u8]),
    Big(Big),
}

impl<'a> Form<'a> {
    fn of(entry: &'a Entry) -> Result<Form<'a>, Interrupt> {
        match entry.encoding() {
            INTEGERS => Ok(Form::Integers(Integers::of(entry.payload()))),
            SMALL => Ok(Form::Small(entry.payload())),
            _ => match Big::of(entry) {
                Some(big) => Ok(Form::Big(big)),
                None => Err(Interrupt::Storage("the row of a set is damaged".to_owned())),
            },
        }
    }
}

/// The set at `key`, if there is one.
#[inline]
pub fn find(view: &mut View, key: &Key) -> Result<Option<Entry>, Error> {
    check(view.get(key)?)
}

/// `entry`, if it is a set.
#[inline]
pub fn check(entry: Option<Entry>) -> Result<Option<Entry>, Error> {
    match entry {
        Some(entry) if entry.kind() != Kind::Set => Err(Error::WrongType),
        entry => Ok(entry),
    }
}

/// Number of members.
pub fn len(entry: &Entry) -> u64 {
    match Form::of(entry) {
        Ok(Form::Integers(integers)) => integers.len() as u64,
        Ok(Form::Small(row)) => packed::Places::of(row).count() as u64,
        Ok(Form::Big(big)) => big.count,
        Err(_) => 0,
    }
}

/// The integers of a set that has nothing else and is held so.
pub fn integers(entry: &Entry) -> Option<Integers<'_>> {
    (entry.encoding() == INTEGERS).then(|| Integers::of(entry.payload()))
}

/// Whether `member` is in the set.
pub fn has(view: &mut View, key: &Key, entry: &Entry, member: &[u8]) -> Result<bool, Interrupt> {
    Ok(match Form::of(entry)? {
        Form::Integers(integers) => {
            number::parse_i64(member).is_some_and(|value| integers.find(value).is_ok())
        }
        Form::Small(row) => packed::find(row, member).is_some(),
        Form::Big(big) => big.has(view, key, member)?,
    })
}

/// Puts a row of integers, in parts.
fn put_integers(
    transaction: &mut Transaction,
    key: &Key,
    row: &[&[u8]],
    expire_at: Option<i64>,
) -> Result<(), Interrupt> {
    let meta = NewValue { kind: Kind::Set, encoding: INTEGERS, expire_at, due_at: None, items: None };
    transaction.put(key, meta, row)
}

/// Puts integers without the one at `at`, or removes the key if that is the only one.
fn put_without(
    transaction: &mut Transaction,
    key: &Key,
    old: Integers,
    at: usize,
    expire_at: Option<i64>,
) -> Result<(), Interrupt> {
    if old.len() == 1 {
        return transaction.remove(key);
    }
    let (before, behind) = old.around(at, 1);
    put_integers(transaction, key, &[&[old.width() as u8], before, behind], expire_at)
}

/// Puts a small set's row, in parts; without bytes the key goes.
fn put_small(
    transaction: &mut Transaction,
    key: &Key,
    row: &[&[u8]],
    expire_at: Option<i64>,
) -> Result<(), Interrupt> {
    if row.iter().all(|part| part.is_empty()) {
        return transaction.remove(key);
    }
    let meta = NewValue { kind: Kind::Set, encoding: SMALL, expire_at, due_at: None, items: None };
    transaction.put(key, meta, row)
}

/// Members that a command names.
pub trait Named<'a>: ExactSizeIterator<Item = &'a [u8]> + Clone {}
impl<'a, I: ExactSizeIterator<Item = &'a [u8]> + Clone> Named<'a> for I {}

/// Adds members, the key if need be. Returns how many are new.
pub fn add<'a>(
    transaction: &mut Transaction,
    key: &Key,
    new: impl Named<'a>,
    limits: Limits,
) -> Result<usize, Error> {
    let before = find(transaction, key)?;
    let expire_at = before.as_ref().and_then(Entry::expire_at);
    let form = before.as_ref().map(Form::of).transpose()?;
    let added = match form.unwrap_or(Form::Integers(Integers::of(&[]))) {
        Form::Integers(old) => add_to_integers(transaction, key, old, new, expire_at, limits),
        Form::Small(old) => add_to_small(transaction, key, old, new, expire_at, limits),
        Form::Big(big) => add_to_big(transaction, key, big, new, before.as_ref()),
    };
    Ok(added?)
}

fn add_to_integers<'a>(
    transaction: &mut Transaction,
    key: &Key,
    old: Integers,
    new: impl Named<'a>,
    expire_at: Option<i64>,
    limits: Limits,
) -> Result<usize, Interrupt> {
    let values: Option<SmallVec<[i64; 16]>> = new.clone().map(number::parse_i64).collect();
    if let Some(values) = values {
        if let [value] = values[..]
            && integers::width_of(value) <= old.width()
            && old.len() < limits.integers
            && old.bytes().len() < INTEGERS_MAX
        {
            let Err(at) = old.find(value) else { return Ok(0) };
            let (before, behind) = old.around(at, 0);
            let value = &value.to_le_bytes()[..old.width()];
            put_integers(transaction, key, &[&[old.width() as u8], before, value, behind], expire_at)?;
            return Ok(1);
        }
        let (row, added) = old.with(&values);
        let fits = old.len() + added <= limits.integers && row.len() <= INTEGERS_MAX;
        if added == 0 || fits {
            if added > 0 {
                put_integers(transaction, key, &[&row], expire_at)?;
            }
            return Ok(added);
        }
    }
    let old: Vec<String> = old.iter().map(|value| value.to_string()).collect();
    let all = distinct(old.iter().map(String::as_bytes).chain(shortened(new)));
    put_texts(transaction, key, &all, expire_at, NewForm::within(limits))?;
    Ok(all.len() - old.len())
}

fn add_to_small<'a>(
    transaction: &mut Transaction,
    key: &Key,
    old: &[u8],
    mut new: impl Named<'a>,
    expire_at: Option<i64>,
    limits: Limits,
) -> Result<usize, Interrupt> {
    let mut members = packed::Places::of(old).count();
    let fits = |members: usize, bytes: usize, member: &[u8]| {
        members < limits.entries && member.len() <= limits.value && bytes + member.len() < SMALL_MAX
    };
    if let (1, Some(member)) = (new.len(), new.clone().next()) {
        if packed::find(old, member).is_some() {
            return Ok(0);
        }
        if fits(members, old.len(), member) {
            put_small(transaction, key, &[old, &packed::length(member.len()), member], expire_at)?;
            return Ok(1);
        }
    }
    let before = members;
    let all_new = new.clone();
    let mut row = old.to_vec();
    let too_large = new.any(|member| {
        if packed::find(&row, member).is_some() {
            return false;
        }
        let fits = fits(members, row.len(), member);
        packed::push(&mut row, member);
        members += 1;
        !fits
    });
    if too_large {
        let all = distinct(packed::members(old).chain(shortened(all_new)));
        Big::build(transaction, key, &all, expire_at, None)?;
        return Ok(all.len().saturating_sub(before));
    }
    if members > before {
        put_small(transaction, key, &[&row], expire_at)?;
    }
    Ok(members - before)
}

/// Whether so many changes of a big set of `count` members are quicker made by writing it anew.
fn is_rebuilt(changes: usize, count: u64) -> bool {
    changes >= 64 && changes as u64 > count / 4
}

fn add_to_big<'a>(
    transaction: &mut Transaction,
    key: &Key,
    mut big: Big,
    new: impl Named<'a>,
    before: Option<&Entry>,
) -> Result<usize, Interrupt> {
    if let Some(entry) = before.filter(|_| is_rebuilt(new.len(), big.count)) {
        let rows = walk::rows(transaction, key, entry)?;
        let all = distinct(rows.iter().flat_map(|row| packed::members(row)).chain(shortened(new)));
        let added = all.len().saturating_sub(big.count as usize);
        if added > 0 {
            Big::build(transaction, key, &all, entry.expire_at(), Some(big.seed))?;
        }
        return Ok(added);
    }
    let mut added = 0;
    for member in new {
        added += usize::from(big.add(transaction, key, member)?);
    }
    if added > 0 {
        big.put(transaction, key)?;
    }
    Ok(added)
}

/// The same members, as long as others are there.
fn shortened<'s, 'a: 's>(members: impl Named<'a>) -> impl Iterator<Item = &'s [u8]> {
    members.map(|member| -> &'s [u8] { member })
}

/// Each once, in the order of their first appearance.
fn distinct<'a>(members: impl Iterator<Item = &'a [u8]>) -> Vec<&'a [u8]> {
    let mut seen = HashSet::with_capacity(members.size_hint().0);
    members.filter(|member| seen.insert(*member)).collect()
}

/// Makes `key` a set of these members, each there once, that is not held as integers.
fn put_texts(
    transaction: &mut Transaction,
    key: &Key,
    members: &[&[u8]],
    expire_at: Option<i64>,
    form: NewForm,
) -> Result<(), Interrupt> {
    let limits = form.limits;
    let bytes: usize = members.iter().map(|member| member.len() + packed::length(member.len()).len()).sum();
    let fits = members.len() <= limits.entries && members.iter().all(|member| member.len() <= limits.value);
    if bytes > SMALL_MAX || !fits {
        return Big::build(transaction, key, members, expire_at, form.seed);
    }
    let mut row = Vec::with_capacity(bytes);
    members.iter().for_each(|member| packed::push(&mut row, member));
    put_small(transaction, key, &[&row], expire_at)
}

/// How a set that is written as a whole is held.
#[derive(Clone, Copy, Debug)]
pub struct NewForm {
    /// How large it may be in one row.
    pub limits: Limits,
    /// Not as integers, whatever the members are.
    pub as_texts: bool,
    /// What the positions of its members depend on, if it is made of a set that had some.
    pub seed: Option<u64>,
}

impl NewForm {
    /// As the members allow.
    pub fn within(limits: Limits) -> NewForm {
        NewForm { limits, as_texts: false, seed: None }
    }
}

/// Makes `key` a set of these members, each there once, whatever it held before. Without members the key is removed.
pub fn store_all(
    transaction: &mut Transaction,
    key: &Key,
    members: &[&[u8]],
    expire_at: Option<i64>,
    form: NewForm,
) -> Result<(), Interrupt> {
    if members.is_empty() {
        return transaction.remove(key);
    }
    if let Some(row) = integers_of(members, form.limits).filter(|_| !form.as_texts) {
        return put_integers(transaction, key, &[&row], expire_at);
    }
    put_texts(transaction, key, members, expire_at, form)
}

/// The row of members that are all integers and not too many for one.
fn integers_of(members: &[&[u8]], limits: Limits) -> Option<Packed> {
    if members.len() > limits.integers {
        return None;
    }
    let mut values = members.iter().map(|member| number::parse_i64(member)).collect::<Option<Vec<i64>>>()?;
    values.sort_unstable();
    Some(integers::pack(&values, 2)).filter(|row| row.len() <= INTEGERS_MAX)
}

/// Removes members, and the key with the last one. Returns how many there were.
pub fn remove<'a>(transaction: &mut Transaction, key: &Key, gone: impl Named<'a>) -> Result<usize, Error> {
    let Some(entry) = find(transaction, key)? else { return Ok(0) };
    Ok(remove_from(transaction, key, &entry, gone)?)
}

fn remove_from<'a>(
    transaction: &mut Transaction,
    key: &Key,
    entry: &Entry,
    gone: impl Named<'a>,
) -> Result<usize, Interrupt> {
    match Form::of(entry)? {
        Form::Integers(old) => {
            let values: SmallVec<[i64; 16]> = gone.filter_map(number::parse_i64).collect();
            if let [value] = values[..] {
                let Ok(at) = old.find(value) else { return Ok(0) };
                put_without(transaction, key, old, at, entry.expire_at())?;
                return Ok(1);
            }
            let (row, removed) = old.without(&values);
            if removed == old.len() && removed > 0 {
                transaction.remove(key)?;
            } else if removed > 0 {
                put_integers(transaction, key, &[&row], entry.expire_at())?;
            }
            Ok(removed)
        }
        Form::Small(old) => remove_from_small(transaction, key, entry, old, gone),
        Form::Big(big) => remove_from_big(transaction, key, entry, big, gone),
    }
}

fn remove_from_small<'a>(
    transaction: &mut Transaction,
    key: &Key,
    entry: &Entry,
    old: &[u8],
    gone: impl Named<'a>,
) -> Result<usize, Interrupt> {
    let (mut row, mut removed) = (Vec::new(), 0);
    for member in gone {
        let now = if removed == 0 { old } else { &row[..] };
        let Some(place) = packed::find(now, member) else { continue };
        row = [&now[..place.from], &now[place.bytes.end..]].concat();
        removed += 1;
    }
    if removed > 0 {
        put_small(transaction, key, &[&row], entry.expire_at())?;
    }
    Ok(removed)
}

fn remove_from_big<'a>(
    transaction: &mut Transaction,
    key: &Key,
    entry: &Entry,
    mut big: Big,
    gone: impl Named<'a>,
) -> Result<usize, Interrupt> {
    if is_rebuilt(gone.len(), big.count) {
        let rows = walk::rows(transaction, key, entry)?;
        let gone: HashSet<&[u8]> = gone.collect();
        let all = rows.iter().flat_map(|row| packed::members(row));
        let left: Vec<&[u8]> = all.filter(|member| !gone.contains(member)).collect();
        let removed = (big.count as usize).saturating_sub(left.len());
        if left.is_empty() {
            transaction.remove(key)?;
        } else if removed > 0 {
            Big::build(transaction, key, &left, entry.expire_at(), Some(big.seed))?;
        }
        return Ok(removed);
    }
    let mut removed = 0;
    for member in gone {
        removed += usize::from(big.remove(transaction, key, member)?);
        if big.count == 0 {
            break;
        }
    }
    if removed > 0 {
        big.put(transaction, key)?;
    }
    Ok(removed)
}

/// The whole row of a set that is one.
fn payload(entry: &Entry) -> Slice {
    entry.payload_slice()
}

#[cfg(test)]
mod tests;
