//! Lists: elements in the order in which they were put at either end.
//!
//! A *small* list is the payload of its key row, packed as in [`packed`]. It is a few elements of about a kilobyte in all, within
//! what `list-max-listpack-size` allows: every change writes it anew. A *large* one has rows: see [`large`].
//!
//! Invariants:
//! - a list has at least one element; the key goes with the last one;
//! - a large list stays large, until it is copied or restored.

pub mod large;
pub mod packed;
#[cfg(test)]
mod tests;

use super::error::Error;
use crate::base::blob::Slice;
use crate::store::{Entry, Interrupt, Key, Kind, NewValue, Transaction, View};
use large::Large;
use packed::{Elements, Ranges, packed_len};
use std::ops::{ControlFlow, Range};

/// Bytes of a packed row: more make a list large.
const ROW_BYTES_MAX: usize = 1024;
/// Elements of a small list.
const SMALL_ELEMENTS_MAX: usize = 128;

const SMALL: u8 = 0;

/// For what makes a small list smaller.
const NO_LARGER: Limits = Limits { elements: usize::MAX, bytes: usize::MAX };

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The beginning.
    Left,
    /// The end.
    Right,
}

/// How large a small list may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Elements.
    pub elements: usize,
    /// Bytes of all, packed.
    pub bytes: usize,
}

impl Limits {
    /// What `list-max-listpack-size` says: a number of elements, or a class of sizes if it is negative. A row of ours is shorter than
    /// most of these.
    pub fn of_setting(setting: i32) -> Limits {
        match usize::try_from(setting) {
            Ok(elements) => Limits { elements: elements.clamp(1, SMALL_ELEMENTS_MAX), bytes: ROW_BYTES_MAX },
            Err(_) => Limits { elements: SMALL_ELEMENTS_MAX, bytes: ROW_BYTES_MAX },
        }
    }
}

impl Limits {
    fn fit(self, elements: &[&[u8]]) -> bool {
        let bytes: usize = elements.iter().map(|element| packed_len(element)).sum();
        elements.len() <= self.elements && bytes <= self.bytes
    }
}

/// What OBJECT ENCODING says of a list.
pub fn encoding_name(_: &Entry) -> &'static str {
    "quicklist"
}

/// The list at `key`, if there is one.
#[inline]
pub fn find(view: &mut View, key: &Key) -> Result<Option<Entry>, Error> {
    match view.get(key)? {
        Some(entry) if entry.kind() != Kind::List => Err(Error::WrongType),
        entry => Ok(entry),
    }
}

/// Number of elements.
pub fn len(entry: &Entry) -> Result<u64, Interrupt> {
    let large = Large::of(entry)?;
    Ok(large.map_or_else(|| packed::count(entry.payload()) as u64, |list| list.len()))
}

/// The place that an index means, which counts from the end if it is negative.
pub fn place(len: u64, index: i64) -> Option<u64> {
    let place = if index < 0 { len.checked_sub(index.unsigned_abs())? } else { index as u64 };
    (place < len).then_some(place)
}

/// The places from `start` to `stop`, both included, as LRANGE and LTRIM mean them.
pub fn span(len: u64, start: i64, stop: i64) -> Range<u64> {
    let from_end = |index: i64| len.saturating_sub(index.unsigned_abs());
    let start = if start < 0 { from_end(start) } else { start as u64 };
    let end = match stop {
        stop if stop >= 0 => (stop as u64).saturating_add(1).min(len),
        stop if stop.unsigned_abs() > len => 0,
        stop => from_end(stop) + 1,
    };
    if start < end { start..end } else { 0..0 }
}

/// Puts a list of these elements, small or large; none if there are none.
fn put(
    transaction: &mut Transaction,
    key: &Key,
    elements: &[&[u8]],
    expire_at: Option<i64>,
    limits: Limits,
) -> Result<(), Interrupt> {
    if !limits.fit(elements) {
        let mut list = Large::new(transaction, key, expire_at);
        list.push(transaction, key, Side::Right, elements.iter().copied())?;
        return list.put(transaction, key);
    }
    if elements.is_empty() {
        return transaction.remove(key);
    }
    let meta = NewValue { kind: Kind::List, encoding: SMALL, expire_at, due_at: None, items: None };
    transaction.put(key, meta, &[&packed::pack(elements)])
}

/// Gives the elements at the places in `span`, in order.
pub fn visit(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    span: Range<u64>,
    visit: &mut dyn FnMut(Slice),
) -> Result<(), Interrupt> {
    if let Some(mut list) = Large::of(entry)? {
        return list.visit(view, key, span, visit);
    }
    let len = (span.end - span.start) as usize;
    let ranges = Ranges::new(entry.payload()).skip(span.start as usize).take(len);
    ranges.for_each(|range| visit(entry.slice(range.start, range.end)));
    Ok(())
}

/// The element at `index`, which counts from the end if it is negative.
pub fn get(view: &mut View, key: &Key, entry: &Entry, index: i64) -> Result<Option<Slice>, Interrupt> {
    let Some(place) = place(len(entry)?, index) else { return Ok(None) };
    let mut found = None;
    visit(view, key, entry, place..place + 1, &mut |element| found = Some(element))?;
    Ok(found)
}

/// Visits elements from an end on until told to stop. `visit` gets the place of each, counted from the beginning.
pub fn walk(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    from: Side,
    visit: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
) -> Result<(), Interrupt> {
    if let Some(mut list) = Large::of(entry)? {
        return list.walk(view, key, from, visit);
    }
    let elements: Elements = packed::elements(entry.payload()).collect();
    let _ = match from {
        Side::Left => elements.iter().enumerate().try_for_each(|(at, element)| visit(at as u64, element)),
        Side::Right => {
            elements.iter().enumerate().rev().try_for_each(|(at, element)| visit(at as u64, element))
        }
    };
    Ok(())
}

/// Puts elements at an end one after the other, the key if need be: `entry` is what it holds. Returns how many there are then.
pub fn push<'a>(
    transaction: &mut Transaction,
    key: &Key,
    entry: Option<&Entry>,
    side: Side,
    new: impl Iterator<Item = &'a [u8]>,
    limits: Limits,
) -> Result<u64, Interrupt> {
    if let Some(mut list) = entry.map(Large::of).transpose()?.flatten() {
        list.push(transaction, key, side, new)?;
        let len = list.len();
        list.put(transaction, key)?;
        return Ok(len);
    }
    let old = entry.map_or(&[][..], Entry::payload);
    let mut elements: Elements = packed::elements(old).collect();
    if side == Side::Left {
        elements.reverse();
    }
    for element in new {
        elements.push(element);
    }
    if side == Side::Left {
        elements.reverse();
    }
    put(transaction, key, &elements, entry.and_then(Entry::expire_at), limits)?;
    Ok(elements.len() as u64)
}

/// Takes up to `count` elements from an end, the key with the last one. They come in the order in which they are taken.
pub fn pop(
    transaction: &mut Transaction,
    key: &Key,
    entry: &Entry,
    side: Side,
    count: u64,
) -> Result<Vec<Slice>, Interrupt> {
    if let Some(mut list) = Large::of(entry)? {
        let taken = list.pop(transaction, key, side, count, true)?;
        if count > 0 {
            list.put(transaction, key)?;
        }
        return Ok(taken);
    }
    let ranges: Vec<Range<usize>> = Ranges::new(entry.payload()).collect();
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(ranges.len());
    let (taken, left) = match side {
        Side::Left => ranges.split_at(count),
        Side::Right => {
            let (left, taken) = ranges.split_at(ranges.len() - count);
            (taken, left)
        }
    };
    let left: Elements = left.iter().map(|range| &entry.payload()[range.clone()]).collect();
    if count > 0 {
        put(transaction, key, &left, entry.expire_at(), NO_LARGER)?;
    }
    let slice = |range: &Range<usize>| entry.slice(range.start, range.end);
    Ok(match side {
        Side::Left => taken.iter().map(slice).collect(),
        Side::Right => taken.iter().rev().map(slice).collect(),
    })
}

/// Puts `element` in the place of the one at `index`. False if there is none.
pub fn set(
    transaction: &mut Transaction,
    key: &Key,
    entry: &Entry,
    index: i64,
    element: &[u8],
    limits: Limits,
) -> Result<bool, Interrupt> {
    let Some(place) = place(len(entry)?, index) else { return Ok(false) };
    if let Some(mut list) = Large::of(entry)? {
        list.set(transaction, key, place, element)?;
        list.put(transaction, key)?;
        return Ok(true);
    }
    let mut elements: Elements = packed::elements(entry.payload()).collect();
    let Some(old) = elements.get_mut(place as usize) else { return Ok(false) };
    *old = element;
    put(transaction, key, &elements, entry.expire_at(), limits)?;
    Ok(true)
}

/// Puts `element` before (or after) the first one that is equal to `pivot`. Returns how many there are then; nothing if there is no pivot.
pub fn insert(
    transaction: &mut Transaction,
    key: &Key,
    entry: &Entry,
    (is_after, pivot): (bool, &[u8]),
    element: &[u8],
    limits: Limits,
) -> Result<Option<u64>, Interrupt> {
    if let Some(mut list) = Large::of(entry)? {
        let mut found = None;
        list.walk(transaction, key, Side::Left, &mut |place, other| {
            found = (other == pivot).then_some(place);
            if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        let Some(place) = found else { return Ok(None) };
        list.insert(transaction, key, place + u64::from(is_after), element)?;
        let len = list.len();
        list.put(transaction, key)?;
        return Ok(Some(len));
    }
    let mut elements: Elements = packed::elements(entry.payload()).collect();
    let Some(at) = elements.iter().position(|other| *other == pivot) else { return Ok(None) };
    elements.insert(at + usize::from(is_after), element);
    put(transaction, key, &elements, entry.expire_at(), limits)?;
    Ok(Some(elements.len() as u64))
}

/// Removes elements that are equal to `element`, up to `max`, looked for from an end. Returns how many.
pub fn remove(
    transaction: &mut Transaction,
    key: &Key,
    entry: &Entry,
    (from, max): (Side, u64),
    element: &[u8],
) -> Result<u64, Interrupt> {
    if let Some(mut list) = Large::of(entry)? {
        let removed = list.remove(transaction, key, (from, max), element)?;
        if removed > 0 {
            list.put(transaction, key)?;
        }
        return Ok(removed);
    }
    let mut elements: Elements = packed::elements(entry.payload()).collect();
    let removed = remove_equal(&mut elements, (from, max), element);
    if removed > 0 {
        put(transaction, key, &elements, entry.expire_at(), NO_LARGER)?;
    }
    Ok(removed)
}

/// Removes up to `max` of the elements that are equal to `element`, looked for from an end.
fn remove_equal(elements: &mut Elements, (from, max): (Side, u64), element: &[u8]) -> u64 {
    let all = elements.iter().filter(|other| **other == element).count() as u64;
    let removed = all.min(max);
    // Those nearest to the end that the search does not begin at stay.
    let mut skipped = if from == Side::Right { all - removed } else { 0 };
    let mut left = removed;
    elements.retain(|other| {
        if *other != element || left == 0 {
            return true;
        }
        if skipped > 0 {
            skipped -= 1;
            return true;
        }
        left -= 1;
        false
    });
    removed
}

/// Leaves only the elements at the places in `span`; the key goes if there is none.
pub fn trim(
    transaction: &mut Transaction,
    key: &Key,
    entry: &Entry,
    span: Range<u64>,
) -> Result<(), Interrupt> {
    if let Some(mut list) = Large::of(entry)? {
        if span.is_empty() {
            return transaction.remove(key);
        }
        let behind = list.len().saturating_sub(span.end);
        list.pop(transaction, key, Side::Left, span.start, false)?;
        list.pop(transaction, key, Side::Right, behind, false)?;
        return list.put(transaction, key);
    }
    let elements: Elements = packed::elements(entry.payload()).collect();
    let kept = elements.get(span.start as usize..span.end as usize).unwrap_or_default();
    put(transaction, key, kept, entry.expire_at(), NO_LARGER)
}

/// Makes `key` a list of these elements, whatever it held before. Without elements the key is removed.
pub fn store_all<'a>(
    transaction: &mut Transaction,
    key: &Key,
    elements: impl Iterator<Item = &'a [u8]>,
    expire_at: Option<i64>,
    limits: Limits,
) -> Result<(), Interrupt> {
    let elements: Elements = elements.collect();
    put(transaction, key, &elements, expire_at, limits)
}
