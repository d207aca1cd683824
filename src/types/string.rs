//! Strings: bytes at a key, as text; how Redis would hold them is remembered in the row's encoding number.
//!
//! Up to [`INLINE_MAX`] bytes stand in the key row. Longer ones are *chunked*: the key row's payload is the total length
//! (u64) and the bytes are rows of [`CHUNK`] bytes in the items tree, numbered from 0 (u32 big-endian), so that an operation
//! costs what it touches. Missing chunks, and what a short chunk lacks, read as zeros.
//!
//! Invariants:
//! - no chunk reaches beyond the total length;
//! - `Items::bytes` is the exact sum of the chunk rows;
//! - a chunked string stays chunked until it is overwritten as a whole.

use super::error::Error;
use crate::base::blob::Slice;
use crate::base::long_double::LongDouble;
use crate::base::number;
use crate::store::{
    Entry, Interrupt, ItemChange, Items, Key, Kind, NewValue, Transaction, View, items_after,
};
use std::ops::{ControlFlow, Deref, Range};

/// Bytes of a chunk: with key and headers one overflow page of LMDB.
pub const CHUNK: usize = 4080;
/// Longer strings are chunked.
pub const INLINE_MAX: usize = 16 * 1024;
/// Redis's own limit of an `embstr`.
const EMBSTR_MAX: usize = 44;

static ZEROS: [u8; INLINE_MAX] = [0; INLINE_MAX];

/// How Redis would hold a string; the number stands in the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Encoding {
    /// A 64-bit integer.
    Int = 0,
    /// Short bytes that were never changed in place.
    Embstr = 1,
    /// Bytes.
    Raw = 2,
    /// Bytes in chunks, in the items tree.
    Chunked = 3,
}

impl Encoding {
    /// What a value that is stored as a whole becomes.
    #[inline]
    pub fn of(bytes: &[u8]) -> Encoding {
        if bytes.len() <= 20 && number::parse_i64(bytes).is_some() {
            return Encoding::Int;
        }
        Encoding::of_text(bytes)
    }

    /// The same without looking for integers.
    #[inline]
    pub fn of_text(bytes: &[u8]) -> Encoding {
        if bytes.len() <= EMBSTR_MAX { Encoding::Embstr } else { Encoding::Raw }
    }
}

/// What OBJECT ENCODING says of a string.
pub fn encoding_name(entry: &Entry) -> &'static str {
    match entry.encoding() {
        0 => "int",
        1 => "embstr",
        _ => "raw",
    }
}

/// Bytes read from a string: shared with the stored row, or put together from chunks.
#[derive(Debug)]
pub enum Text {
    /// Shares the row's memory.
    Shared(Slice),
    /// Its own.
    Owned(Vec<u8>),
}

impl Deref for Text {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Text::Shared(slice) => slice,
            Text::Owned(bytes) => bytes,
        }
    }
}

/// A run of a string's bytes.
#[derive(Clone, Copy, Debug)]
pub enum Piece<'a> {
    /// These.
    Bytes(&'a [u8]),
    /// So many zeros.
    Zeros(usize),
}

/// The string at `key`, if there is one.
#[inline]
pub fn find(view: &mut View, key: &Key) -> Result<Option<Entry>, Error> {
    check(view.get(key)?)
}

/// `entry`, if it is a string.
#[inline]
pub fn check(entry: Option<Entry>) -> Result<Option<Entry>, Error> {
    match &entry {
        Some(found) if found.kind() != Kind::String => Err(Error::WrongType),
        Some(found) if is_chunked(found) && chunked_len(found).is_none() => Err(damaged().into()),
        _ => Ok(entry),
    }
}

#[inline]
fn is_chunked(entry: &Entry) -> bool {
    entry.items().is_some()
}

/// Its length in bytes.
#[inline]
pub fn len(entry: &Entry) -> usize {
    if is_chunked(entry) { chunked_len(entry).unwrap_or(0) } else { entry.payload().len() }
}

/// The length of a chunked string; `None` if no string can be so long: chunks are numbered with 32 bits.
fn chunked_len(entry: &Entry) -> Option<usize> {
    let len = u64::from_be_bytes(entry.payload().try_into().ok()?);
    usize::try_from(len).ok().filter(|&len| len <= CHUNK << 32)
}

fn damaged() -> Interrupt {
    Interrupt::Storage("the row of a string is damaged".to_owned())
}

/// All bytes of the string.
#[inline]
pub fn read_whole(view: &mut View, key: &Key, entry: &Entry) -> Result<Text, Interrupt> {
    if is_chunked(entry) {
        return read_range(view, key, entry, 0..chunked_len(entry).ok_or_else(damaged)?);
    }
    Ok(Text::Shared(entry.payload_slice()))
}

/// Some bytes of the string; `range` lies within it.
pub fn read_range(view: &mut View, key: &Key, entry: &Entry, range: Range<usize>) -> Result<Text, Interrupt> {
    if !is_chunked(entry) {
        return Ok(Text::Shared(entry.slice(range.start, range.end)));
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(range.len()).map_err(|error| Interrupt::Storage(error.to_string()))?;
    visit(view, key, entry, range, &mut |piece| {
        match piece {
            Piece::Bytes(found) => bytes.extend_from_slice(found),
            Piece::Zeros(len) => bytes.resize(bytes.len() + len, 0),
        }
        ControlFlow::Continue(())
    })?;
    Ok(Text::Owned(bytes))
}

/// Visits the bytes of `range`, which lies within the string, run by run.
pub fn visit(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    range: Range<usize>,
    visit: &mut dyn FnMut(Piece) -> ControlFlow<()>,
) -> Result<(), Interrupt> {
    if range.is_empty() {
        return Ok(());
    }
    let Some(items) = entry.items() else {
        let _ = visit(Piece::Bytes(&entry.payload()[range]));
        return Ok(());
    };
    let mut at = range.start;
    let mut stopped = false;
    view.visit_items(key, items.uid, &suffix(range.start / CHUNK), &mut |number, bytes| {
        let Some(first) = offset_of_chunk(number) else { return ControlFlow::Continue(()) };
        if first >= range.end {
            return ControlFlow::Break(());
        }
        let (from, to) = (at.max(first), range.end.min(first + bytes.len()));
        if from >= to {
            return ControlFlow::Continue(());
        }
        let mut flow = ControlFlow::Continue(());
        if from > at {
            flow = visit(Piece::Zeros(from - at));
        }
        if flow.is_continue() {
            flow = visit(Piece::Bytes(&bytes[from - first..to - first]));
        }
        at = to;
        stopped = flow.is_break();
        flow
    })?;
    if !stopped && at < range.end {
        let _ = visit(Piece::Zeros(range.end - at));
    }
    Ok(())
}

/// Where in the string the chunk with this suffix begins.
pub fn offset_of_chunk(suffix: &[u8]) -> Option<usize> {
    Some(u32::from_be_bytes(suffix.try_into().ok()?) as usize * CHUNK)
}

fn suffix(chunk: usize) -> [u8; 4] {
    (chunk as u32).to_be_bytes()
}

/// Stores `bytes` as the whole value, held as Redis would hold what a client sends.
#[inline]
pub fn store(
    transaction: &mut Transaction,
    key: &Key,
    bytes: &[u8],
    expire_at: Option<i64>,
) -> Result<(), Interrupt> {
    store_as(transaction, key, bytes, expire_at, Encoding::of(bytes))
}

/// Stores `bytes` as the whole value, held as `encoding` (or chunked, if they are many).
#[inline]
pub fn store_as(
    transaction: &mut Transaction,
    key: &Key,
    bytes: &[u8],
    expire_at: Option<i64>,
    encoding: Encoding,
) -> Result<(), Interrupt> {
    if bytes.len() > INLINE_MAX {
        return store_chunks(transaction, key, bytes, expire_at);
    }
    transaction.put(key, inline(encoding, expire_at), &[bytes])
}

#[inline]
fn inline(encoding: Encoding, expire_at: Option<i64>) -> NewValue {
    NewValue { kind: Kind::String, encoding: encoding as u8, expire_at, due_at: None, items: None }
}

fn store_chunks(
    transaction: &mut Transaction,
    key: &Key,
    bytes: &[u8],
    expire_at: Option<i64>,
) -> Result<(), Interrupt> {
    let items = new_chunks(transaction, key, bytes);
    put_head(transaction, key, items, bytes.len(), expire_at)
}

fn new_chunks(transaction: &mut Transaction, key: &Key, bytes: &[u8]) -> Items {
    let uid = transaction.new_uid(key);
    let mut grown = 0;
    for (number, chunk) in bytes.chunks(CHUNK).enumerate() {
        grown += transaction.put_new_item(key, uid, &suffix(number), &[chunk]);
    }
    Items { uid, bytes: grown as u64 }
}

fn put_head(
    transaction: &mut Transaction,
    key: &Key,
    items: Items,
    len: usize,
    expire_at: Option<i64>,
) -> Result<(), Interrupt> {
    let encoding = Encoding::Chunked as u8;
    let meta = NewValue { kind: Kind::String, encoding, expire_at, due_at: None, items: Some(items) };
    transaction.put(key, meta, &[&(len as u64).to_be_bytes()])
}

/// Writes `bytes` at `offset` of the string `before` at `key`, which is made or grows with zeros as needed. Returns the new
/// length.
pub fn write_at(
    transaction: &mut Transaction,
    key: &Key,
    before: Option<&Entry>,
    offset: usize,
    bytes: &[u8],
) -> Result<usize, Interrupt> {
    let old_len = before.map_or(0, len);
    let end = offset + bytes.len();
    let new_len = old_len.max(end);
    if let Some((entry, items)) = before.and_then(|entry| Some((entry, entry.items()?))) {
        let grown = patch(transaction, key, items, old_len, offset, bytes)?;
        if grown == 0 && new_len == old_len {
            transaction.touch(key);
        } else {
            put_head(transaction, key, items_after(items, grown), new_len, entry.expire_at())?;
        }
        return Ok(new_len);
    }
    let old = before.map_or(&[][..], Entry::payload);
    let expire_at = before.and_then(Entry::expire_at);
    if new_len > INLINE_MAX {
        let items = new_chunks(transaction, key, old);
        let grown = patch(transaction, key, items, old_len, offset, bytes)?;
        put_head(transaction, key, items_after(items, grown), new_len, expire_at)?;
    } else {
        let parts = overlaid(old, offset, bytes);
        transaction.put(key, inline(Encoding::Raw, expire_at), &parts)?;
    }
    Ok(new_len)
}

/// `old` with `new` written over it at `offset`, in parts.
fn overlaid<'a>(old: &'a [u8], offset: usize, new: &'a [u8]) -> [&'a [u8]; 4] {
    let end = offset + new.len();
    let head = &old[..offset.min(old.len())];
    [head, &ZEROS[..offset - head.len()], new, old.get(end..).unwrap_or_default()]
}

/// Writes over the chunks that `bytes` at `offset` touches. Returns by how much they grew.
fn patch(
    transaction: &mut Transaction,
    key: &Key,
    items: Items,
    old_len: usize,
    offset: usize,
    bytes: &[u8],
) -> Result<i64, Interrupt> {
    let end = offset + bytes.len();
    let mut grown = 0;
    let mut at = offset;
    while at < end {
        let (number, within) = (at / CHUNK, at % CHUNK);
        let len = (CHUNK - within).min(end - at);
        let part = &bytes[at - offset..at - offset + len];
        let may_exist = number * CHUNK < old_len && len < CHUNK;
        let old = if may_exist { transaction.item(key, items.uid, &suffix(number))? } else { None };
        let parts = overlaid(old.as_deref().unwrap_or_default(), within, part);
        let ItemChange { grown: more, .. } = transaction.put_item(key, items.uid, &suffix(number), &parts)?;
        grown += more;
        at += len;
    }
    Ok(grown)
}

/// Makes sure that the string has at least `len` bytes, with zeros, and is held as raw bytes. Returns it.
pub fn grow(
    transaction: &mut Transaction,
    key: &Key,
    before: Option<Entry>,
    len_min: usize,
) -> Result<Option<Entry>, Interrupt> {
    let old_len = before.as_ref().map_or(0, len);
    match &before {
        Some(entry) if is_chunked(entry) => {
            let Some(items) = entry.items().filter(|_| len_min > old_len) else { return Ok(before) };
            put_head(transaction, key, items, len_min, entry.expire_at())?;
        }
        Some(entry) if old_len >= len_min && entry.encoding() == Encoding::Raw as u8 => return Ok(before),
        _ => {
            write_at(transaction, key, before.as_ref(), old_len.max(len_min), &[])?;
        }
    }
    transaction.get(key)
}

/// An error if a string of `len` and `more` bytes would be longer than `limit`.
pub fn check_len(len: usize, more: usize, limit: usize) -> Result<(), Error> {
    match len.checked_add(more) {
        Some(total) if total <= limit => Ok(()),
        _ => Err(Error::TooLong),
    }
}

/// Puts `bytes` behind the string. Returns the new length.
pub fn append(transaction: &mut Transaction, key: &Key, bytes: &[u8], limit: usize) -> Result<usize, Error> {
    let before = find(transaction, key)?;
    let Some(entry) = &before else {
        store(transaction, key, bytes, None)?;
        return Ok(bytes.len());
    };
    let old_len = len(entry);
    check_len(old_len, bytes.len(), limit)?;
    Ok(write_at(transaction, key, before.as_ref(), old_len, bytes)?)
}

/// Writes `bytes` at `offset`. Returns the new length.
pub fn set_range(
    transaction: &mut Transaction,
    key: &Key,
    offset: usize,
    bytes: &[u8],
    limit: usize,
) -> Result<usize, Error> {
    let before = find(transaction, key)?;
    if bytes.is_empty() {
        return Ok(before.as_ref().map_or(0, len));
    }
    check_len(offset, bytes.len(), limit)?;
    Ok(write_at(transaction, key, before.as_ref(), offset, bytes)?)
}

/// Adds `delta` to the integer at `key`. Returns the sum.
#[inline]
pub fn add(transaction: &mut Transaction, key: &Key, delta: i64) -> Result<i64, Error> {
    let before = find(transaction, key)?;
    let (old, expire_at) = match &before {
        Some(entry) if is_chunked(entry) => return Err(Error::NotAnInteger),
        Some(entry) => (number::parse_i64(entry.payload()).ok_or(Error::NotAnInteger)?, entry.expire_at()),
        None => (0, None),
    };
    let sum = old.checked_add(delta).ok_or(Error::Overflow)?;
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(sum).as_bytes();
    transaction.put(key, inline(Encoding::Int, expire_at), &[text])?;
    Ok(sum)
}

/// Adds `delta` to the number at `key`. Returns the sum's text.
///
/// The stored number is looked at before `delta`, as in Redis.
pub fn add_decimal(transaction: &mut Transaction, key: &Key, delta: &[u8]) -> Result<String, Error> {
    let before = find(transaction, key)?;
    let old = match &before {
        Some(entry) if is_chunked(entry) => return Err(Error::NotAFloat),
        Some(entry) => entry.payload(),
        None => b"0",
    };
    let old = LongDouble::parse(old).ok_or(Error::NotAFloat)?;
    let delta = LongDouble::parse(delta).ok_or(Error::NotAFloat)?;
    let sum = old.add(delta).filter(|sum| !sum.is_infinite()).ok_or(Error::NanOrInfinity)?;
    let text = sum.format();
    let encoding = Encoding::of_text(text.as_bytes());
    store_as(transaction, key, text.as_bytes(), before.and_then(|entry| entry.expire_at()), encoding)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{PartitionSet, Store};
    use rand::prelude::*;

    const LIMIT: usize = 512 << 20;

    fn key() -> Key<'static> {
        Key::new(0, b"key")
    }

    fn whole(transaction: &mut Transaction) -> Vec<u8> {
        let entry = transaction.get(&key()).expect("in memory").expect("exists");
        let text = read_whole(transaction, &key(), &entry).expect("in memory");
        assert_eq!(text.len(), len(&entry));
        text.to_vec()
    }

    /// The sum of the chunk rows is what the key row says.
    fn check_bytes(transaction: &mut Transaction) {
        let entry = transaction.get(&key()).expect("in memory").expect("exists");
        let Some(items) = entry.items() else { return };
        let mut bytes = 0;
        transaction
            .visit_items(&key(), items.uid, &[], &mut |suffix, value| {
                assert!(value.len() <= CHUNK);
                bytes += (12 + suffix.len() + value.len()) as u64;
                ControlFlow::Continue(())
            })
            .expect("in memory");
        assert_eq!(items.bytes, bytes);
    }

    #[test]
    fn a_head_that_no_string_can_have_is_told_and_not_believed() {
        let store = Store::in_memory(4, 16);
        for payload in [&u64::MAX.to_be_bytes()[..], &[0, 0, 16, 0, 0, 0, 0, 0], b"short"] {
            let mut transaction = store.transaction(&PartitionSet::All, 0);
            let items = Items { uid: transaction.new_uid(&key()), bytes: 0 };
            let head = NewValue {
                kind: Kind::String,
                encoding: 3,
                expire_at: None,
                due_at: None,
                items: Some(items),
            };
            transaction.put(&key(), head, &[payload]).expect("in memory");
            let entry = transaction.get(&key()).expect("in memory").expect("exists");
            assert!(matches!(find(&mut transaction, &key()), Err(Error::Interrupt(Interrupt::Storage(_)))));
            assert!(matches!(read_whole(&mut transaction, &key(), &entry), Err(Interrupt::Storage(_))));
            assert_eq!(len(&entry), 0);
        }
    }

    #[test]
    fn ranges_written_and_read_are_those_of_a_plain_vector() {
        let mut random = StdRng::seed_from_u64(7);
        let store = Store::in_memory(4, 16);
        let mut model: Vec<u8> = Vec::new();
        for round in 0..300 {
            let mut transaction = store.transaction(&PartitionSet::All, 0);
            let bytes: Vec<u8> = (0..random.random_range(1..9000)).map(|_| random.random()).collect();
            let offset = random.random_range(0..60_000);
            if round % 50 == 49 {
                store_as(&mut transaction, &key(), &bytes, None, Encoding::Raw).expect("in memory");
                model.clone_from(&bytes);
            } else if round % 3 == 0 {
                append(&mut transaction, &key(), &bytes, LIMIT).expect("within the limit");
                model.extend_from_slice(&bytes);
            } else {
                set_range(&mut transaction, &key(), offset, &bytes, LIMIT).expect("within the limit");
                model.resize(model.len().max(offset + bytes.len()), 0);
                model[offset..offset + bytes.len()].copy_from_slice(&bytes);
            }
            assert_eq!(whole(&mut transaction), model);
            check_bytes(&mut transaction);
            transaction.commit();
            let mut view = store.view(&PartitionSet::All, 0);
            let entry = find(&mut view, &key()).expect("a string").expect("exists");
            let start = random.random_range(0..model.len());
            let end = random.random_range(start..=model.len());
            let part = read_range(&mut view, &key(), &entry, start..end).expect("in memory");
            assert_eq!(&*part, &model[start..end]);
        }
    }

    #[test]
    fn a_byte_far_out_costs_one_chunk() {
        let store = Store::in_memory(4, 16);
        let mut transaction = store.transaction(&PartitionSet::All, 0);
        set_range(&mut transaction, &key(), 100 << 20, b"x", LIMIT).expect("within the limit");
        let entry = find(&mut transaction, &key()).expect("a string").expect("exists");
        assert_eq!(len(&entry), (100 << 20) + 1);
        assert!(entry.items().is_some_and(|items| items.bytes <= CHUNK as u64 + 16));
        assert_eq!(encoding_name(&entry), "raw");
        assert!(matches!(append(&mut transaction, &key(), b"xx", (100 << 20) + 2), Err(Error::TooLong)));
    }

    #[test]
    fn encodings_are_those_of_redis() {
        let store = Store::in_memory(4, 16);
        let mut transaction = store.transaction(&PartitionSet::All, 0);
        let name = |transaction: &mut Transaction| {
            encoding_name(&transaction.get(&key()).expect("in memory").expect("exists"))
        };
        for (value, encoding) in
            [("12", "int"), ("012", "embstr"), (&"x".repeat(44), "embstr"), (&"x".repeat(45), "raw")]
        {
            super::store(&mut transaction, &key(), value.as_bytes(), None).expect("in memory");
            assert_eq!(name(&mut transaction), encoding, "{value}");
        }
        super::store(&mut transaction, &key(), b"12", Some(77)).expect("in memory");
        append(&mut transaction, &key(), b"3", LIMIT).expect("within the limit");
        assert_eq!(name(&mut transaction), "raw");
        assert_eq!(add(&mut transaction, &key(), 1).expect("an integer"), 124);
        assert_eq!(name(&mut transaction), "int");
        assert_eq!(add_decimal(&mut transaction, &key(), b"-0.5").expect("a number"), "123.5");
        assert_eq!(name(&mut transaction), "embstr");
        let entry = find(&mut transaction, &key()).expect("a string").expect("exists");
        assert_eq!(entry.expire_at(), Some(77), "changes in place keep the deadline");
    }
}
