//! Hashes: fields and their values at a key. A field may have a deadline of its own.
//!
//! A *small* hash, within the limits of Redis's listpack, is the payload of its key row, fields in the order they came:
//!
//! ```text
//! number of fields (varint) · for each: length (varint) · field · length (varint) · value
//!                             · if the hash ever had a deadline: deadline, ms (varint, 0: none)
//! ```
//!
//! A *big* one has a row in the items tree for each field, and the key row's payload is their number (u64). Deadlines have rows of
//! their own behind them, in the order of time:
//!
//! ```text
//! suffix: hash32(field), 0xFFFFFFFE at most (4, big-endian) · field
//! value:  flags (1; bit 0: a deadline follows) · [deadline, ms (8)] · value
//! suffix: 0xFFFFFFFF (4) · deadline, ms (8, big-endian) · field
//! value:  0 (1)
//! ```
//!
//! A field whose deadline is before now is *over*: nobody sees it, and what writes treats it as absent. It is still there, and
//! counted, until a write or the expiry removes it.
//!
//! Invariants:
//! - a hash has at least one field; the key goes with the last one;
//! - a big hash stays big, as in Redis;
//! - the count and `Items::bytes` of a big hash are exact;
//! - `due_at` of the key row is the first deadline of its fields.

mod big;
mod draw;
mod fields;
#[cfg(test)]
mod tests;

use super::error::Error;
use crate::base::blob::Slice;
use crate::base::long_double::LongDouble;
use crate::base::number;
use crate::store::{Entry, Interrupt, Key, Kind, Transaction, View};
use big::{Big, Edit};
use std::collections::HashMap;
use std::ops::ControlFlow;

pub use big::field_of_row;
pub use draw::{random_distinct, random_repeated};
pub use fields::{Field, Fields, List};

/// Above this a hash is big, whatever the limits say: a row is rewritten as a whole.
const INLINE_MAX: usize = 128 * 1024;

const LISTPACK: u8 = 0;
const HASHTABLE: u8 = 1;
const TIMED: u8 = 2;

/// The last deadline that a field can have, milliseconds since 1970: Redis's.
pub const DEADLINE_MAX: i64 = 0x3FFF_FFFF_FFFF;

/// How large a small hash may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Fields.
    pub entries: usize,
    /// Bytes of a field or a value.
    pub value: usize,
}

/// What OBJECT ENCODING says of a hash.
pub fn encoding_name(entry: &Entry) -> &'static str {
    match entry.encoding() {
        LISTPACK => "listpack",
        TIMED => "listpackex",
        _ => "hashtable",
    }
}

/// A field and its value.
pub type Pair<'a> = (&'a [u8], &'a [u8]);

/// What becomes of the deadline of a field that is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewDeadline {
    /// It has none any more.
    None,
    /// The one it had.
    Kept,
    /// This one, milliseconds since 1970.
    At(i64),
}

/// The hash at `key`, if there is one.
#[inline]
pub fn find(view: &mut View, key: &Key) -> Result<Option<Entry>, Error> {
    match view.get(key)? {
        Some(entry) if entry.kind() != Kind::Hash => Err(Error::WrongType),
        entry => Ok(entry),
    }
}

/// Number of fields, with those that are over and not yet removed.
pub fn len(entry: &Entry) -> u64 {
    Big::of(entry).map_or_else(|| fields::count(entry.payload()) as u64, |big| big.count)
}

/// The value of `field`.
pub fn get(view: &mut View, key: &Key, entry: &Entry, field: &[u8]) -> Result<Option<Slice>, Interrupt> {
    Ok(get_timed(view, key, entry, field)?.map(|(value, _)| value))
}

/// The value of `field`, and its deadline.
pub fn get_timed(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    field: &[u8],
) -> Result<Option<(Slice, Option<i64>)>, Interrupt> {
    let now = view.now();
    if let Some(items) = entry.items() {
        let found = big::find(view, key, items, field)?;
        return Ok(found.filter(|(_, expire_at)| !fields::is_over(*expire_at, now)));
    }
    let mut fields = Fields::of(entry);
    while let Some((found, (start, end))) = fields.next_placed() {
        if found.name == field {
            return Ok((!found.is_over(now)).then(|| (entry.slice(start, end), found.expire_at)));
        }
    }
    Ok(None)
}

/// Visits all fields that are not over: in the order they came if the hash is small.
pub fn visit(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    visit: &mut dyn FnMut(Field),
) -> Result<(), Interrupt> {
    let now = view.now();
    scan(view, key, entry, 0, usize::MAX, &mut |field| {
        if !field.is_over(now) {
            visit(field);
        }
    })
    .map(drop)
}

/// Visits about `count` fields from `cursor` on (0: from the beginning), those that are over as well, and returns the cursor to go
/// on with, 0 at the end.
///
/// The cursor is the hash position that comes next. Fields of one position are visited in the same call, so that every field
/// that exists all the time is visited once. A small hash is visited as a whole.
pub fn scan(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    cursor: u64,
    count: usize,
    visit: &mut dyn FnMut(Field),
) -> Result<u64, Interrupt> {
    let Some(items) = entry.items() else {
        Fields::of(entry).for_each(visit);
        return Ok(0);
    };
    let Ok(from) = u32::try_from(cursor) else { return Ok(0) };
    let (mut seen, mut last, mut next) = (0, [0; 4], 0);
    let begin = from.to_be_bytes();
    let begin = if from == 0 { &[][..] } else { &begin };
    big::visit(view, key, items, begin, &mut |position, field| {
        if seen >= count && position != last {
            next = u64::from(u32::from_be_bytes(position));
            return ControlFlow::Break(());
        }
        visit(field);
        seen += 1;
        last = position;
        ControlFlow::Continue(())
    })?;
    Ok(next)
}

/// Sets fields, the key if need be. Returns how many are new.
pub fn set<'a>(
    transaction: &mut Transaction,
    key: &Key,
    new: impl Iterator<Item = Pair<'a>> + Clone,
    deadline: NewDeadline,
    limits: Limits,
) -> Result<usize, Error> {
    let before = find(transaction, key)?;
    if let Some(big) = before.as_ref().and_then(Big::of) {
        let (mut edit, mut fresh) = (Edit::of(transaction, key, big), 0);
        for pair in new {
            fresh += usize::from(edit.set(pair, deadline)?);
        }
        edit.finish()?;
        return Ok(fresh);
    }
    let expire_at = before.as_ref().and_then(Entry::expire_at);
    let old = before.as_ref().map_or(&[][..], Entry::payload);
    let is_timed = before.as_ref().is_some_and(|entry| entry.encoding() == TIMED);
    let now = transaction.now();
    let mut list: List = Fields::new(old, is_timed).filter(|field| !field.is_over(now)).collect();
    let old_count = list.len();
    if merge(&mut list, new.clone(), deadline, limits) {
        fields::put(transaction, key, &list, expire_at, is_timed)?;
        return Ok(list.len() - old_count);
    }
    list.truncate(old_count); // what was changed in there is set again
    merge_many(&mut list, new, deadline);
    big::make(transaction, key, &list, expire_at)?;
    Ok(list.len() - old_count)
}

fn put_in<'a>(
    old: Option<&mut Field<'a>>,
    (name, value): Pair<'a>,
    deadline: NewDeadline,
) -> Option<Field<'a>> {
    let before = old.as_ref().and_then(|old| old.expire_at);
    let expire_at = match deadline {
        NewDeadline::None => None,
        NewDeadline::Kept => before,
        NewDeadline::At(at) => Some(at),
    };
    let new = Field { name, value, expire_at };
    match old {
        Some(old) => {
            *old = new;
            None
        }
        None => Some(new),
    }
}

/// Sets fields in a list of them; `false` if the result is too large for a small hash.
fn merge<'b, 'a: 'b>(
    list: &mut List<'b>,
    new: impl Iterator<Item = Pair<'a>>,
    deadline: NewDeadline,
    limits: Limits,
) -> bool {
    let mut bytes: usize = list.iter().map(|field| field.name.len() + field.value.len()).sum();
    for (name, value) in new {
        if name.len() > limits.value || value.len() > limits.value {
            return false;
        }
        let old = list.iter_mut().find(|field| field.name == name);
        let added = put_in(old, (name, value), deadline);
        list.extend(added);
        bytes += name.len() + value.len();
        if list.len() > limits.entries || bytes > INLINE_MAX {
            return false;
        }
    }
    true
}

/// Sets any number of fields in a list of them, in the order in which they came: the same commands journal the same bytes.
fn merge_many<'b, 'a: 'b>(list: &mut List<'b>, new: impl Iterator<Item = Pair<'a>>, deadline: NewDeadline) {
    let mut places: HashMap<&[u8], usize> = list.iter().map(|field| field.name).zip(0..).collect();
    for (name, value) in new {
        let place = *places.entry(name).or_insert(list.len());
        let added = put_in(list.get_mut(place), (name, value), deadline);
        list.extend(added);
    }
}

/// Makes `key` a hash of these fields, of which the last of each name counts, whatever it held before. Those that are over are left
/// out; without fields the key is removed.
pub fn store_all<'a>(
    transaction: &mut Transaction,
    key: &Key,
    fields: impl Iterator<Item = Field<'a>>,
    expire_at: Option<i64>,
    limits: Limits,
) -> Result<(), Interrupt> {
    let now = transaction.now();
    let (mut list, mut places) = (List::new(), HashMap::new());
    for field in fields.filter(|field| !field.is_over(now)) {
        let place = *places.entry(field.name).or_insert(list.len());
        match list.get_mut(place) {
            Some(known) => *known = field,
            None => list.push(field),
        }
    }
    if list.is_empty() {
        return transaction.remove(key);
    }
    let bytes: usize = list.iter().map(|field| field.name.len() + field.value.len()).sum();
    let longest = list.iter().map(|field| field.name.len().max(field.value.len())).max().unwrap_or(0);
    let is_small = list.len() <= limits.entries && longest <= limits.value && bytes <= INLINE_MAX;
    if is_small {
        fields::put(transaction, key, &list, expire_at, false)
    } else {
        big::make(transaction, key, &list, expire_at)
    }
}

/// Removes fields, and the key with the last one. Returns how many there were.
pub fn delete<'a>(
    transaction: &mut Transaction,
    key: &Key,
    names: impl Iterator<Item = &'a [u8]>,
) -> Result<usize, Error> {
    let Some(entry) = find(transaction, key)? else { return Ok(0) };
    if let Some(big) = Big::of(&entry) {
        let (mut edit, mut removed) = (Edit::of(transaction, key, big), 0);
        for name in names {
            removed += usize::from(edit.remove(name)?);
        }
        if edit.is_changed() {
            edit.finish()?;
        }
        return Ok(removed);
    }
    let now = transaction.now();
    let mut list: List = Fields::of(&entry).filter(|field| !field.is_over(now)).collect();
    let count = list.len();
    for name in names {
        list.retain(|field| field.name != name);
    }
    let removed = count - list.len();
    if removed > 0 {
        put_rest(transaction, key, &entry, &list)?;
    }
    Ok(removed)
}

/// Puts what is left of a small hash.
fn put_rest(
    transaction: &mut Transaction,
    key: &Key,
    entry: &Entry,
    list: &[Field],
) -> Result<(), Interrupt> {
    if list.is_empty() {
        return transaction.remove(key);
    }
    fields::put(transaction, key, list, entry.expire_at(), entry.encoding() == TIMED)
}

/// Gives fields the deadline that `choose` makes of the one that each has; none leaves it. Returns for each the deadline it had; none
/// for a field that does not exist.
pub fn set_deadlines<'a>(
    transaction: &mut Transaction,
    key: &Key,
    names: impl Iterator<Item = &'a [u8]>,
    mut choose: impl FnMut(Option<i64>) -> Option<Option<i64>>,
) -> Result<Vec<Option<Option<i64>>>, Error> {
    let Some(entry) = find(transaction, key)? else { return Ok(names.map(|_| None).collect()) };
    let mut found = Vec::new();
    if let Some(big) = Big::of(&entry) {
        let (mut edit, mut is_changed) = (Edit::of(transaction, key, big), false);
        for name in names {
            let old = edit.set_deadline(name, |old| choose(old).inspect(|_| is_changed = true))?;
            found.push(old);
        }
        if is_changed {
            edit.finish()?;
        }
        return Ok(found);
    }
    let now = transaction.now();
    let mut list: List = Fields::of(&entry).filter(|field| !field.is_over(now)).collect();
    let mut is_changed = false;
    for name in names {
        let field = list.iter_mut().find(|field| field.name == name);
        found.push(field.map(|field| {
            let old = field.expire_at;
            if let Some(new) = choose(old) {
                field.expire_at = new;
                is_changed = true;
            }
            old
        }));
    }
    if is_changed {
        put_rest(transaction, key, &entry, &list)?;
    }
    Ok(found)
}

/// Removes up to `budget` fields whose time is up, and the key with the last one. Returns how many.
pub fn clear_over(transaction: &mut Transaction, key: &Key, budget: usize) -> Result<usize, Interrupt> {
    let Some(entry) = transaction.glimpse(key)?.filter(|entry| entry.kind() == Kind::Hash) else {
        return Ok(0);
    };
    if let Some(big) = Big::of(&entry) {
        let mut edit = Edit::of(transaction, key, big);
        let cleared = edit.clear(budget)?;
        if edit.is_changed() {
            edit.finish()?;
        }
        return Ok(cleared);
    }
    let now = transaction.now();
    let list: List = Fields::of(&entry).filter(|field| !field.is_over(now)).collect();
    let cleared = Fields::of(&entry).count() - list.len();
    if cleared > 0 {
        put_rest(transaction, key, &entry, &list)?;
    }
    // A small hash is cleared as a whole, but no more is said than was asked for.
    Ok(cleared.min(budget))
}

/// Adds `delta` to the integer in `field`. Returns the sum.
pub fn add(
    transaction: &mut Transaction,
    key: &Key,
    field: &[u8],
    delta: i64,
    limits: Limits,
) -> Result<i64, Error> {
    let old = match find(transaction, key)? {
        Some(entry) => get(transaction, key, &entry, field)?,
        None => None,
    };
    let old = old.map_or(Some(0), |text| number::parse_i64(&text)).ok_or(Error::NotAnInteger)?;
    let sum = old.checked_add(delta).ok_or(Error::Overflow)?;
    let mut buffer = itoa::Buffer::new();
    let pair = (field, buffer.format(sum).as_bytes());
    set(transaction, key, std::iter::once(pair), NewDeadline::Kept, limits)?;
    Ok(sum)
}

/// Adds `delta` to the number in `field`. Returns the sum's text.
pub fn add_decimal(
    transaction: &mut Transaction,
    key: &Key,
    field: &[u8],
    delta: LongDouble,
    limits: Limits,
) -> Result<String, Error> {
    let old = match find(transaction, key)? {
        Some(entry) => get(transaction, key, &entry, field)?,
        None => None,
    };
    let old = LongDouble::parse(old.as_deref().unwrap_or(b"0")).ok_or(Error::NotAFloat)?;
    let sum = old.add(delta).filter(|sum| !sum.is_infinite()).ok_or(Error::NanOrInfinity)?;
    let text = sum.format();
    set(transaction, key, std::iter::once((field, text.as_bytes())), NewDeadline::Kept, limits)?;
    Ok(text)
}
