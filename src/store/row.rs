//! Rows: what a partition stores, in memory, in the journal and in the tree in the same bytes.
//!
//! A row is a [`Blob`]: its key part is the row's key in its tree, its value part the row's value. A deletion is a row
//! with an empty value and [`DELETED`] in its mark. Numbers in keys are big-endian, so that byte order is key order.
//!
//! ```text
//! keys   key:   database id (4) · slot (2) · hash32(name) (4) · name
//!        value: kind | encoding << 4 (1) · flags (1) · [expire at, ms (8)] · [due at, ms (8)] · [uid (12) · bytes in items (8)]
//!               · payload
//! items  key:   uid (12) · suffix the data type chooses (a hash: hash32(field) · field; a string: chunk number)
//!        value: as the data type writes it
//! ```
//!
//! Flags: bit 0 an expire time follows, bit 1 a uid follows, bit 2 a due time follows, bits 4-7 the format version (1).

use crate::base::blob::{Blob, Head, Slice};
use crate::base::ids::{Slot, Uid};
use std::hash::BuildHasher;
use std::sync::LazyLock;
use xxhash_rust::xxh3::xxh3_64;

/// Mark of a row that says "this key is gone".
pub const DELETED: u32 = 1;
/// Bytes in front of the name in the key of a key row.
pub const KEY_PREFIX: usize = 10;

const HAS_EXPIRE: u8 = 1;
const HAS_ITEMS: u8 = 2;
const HAS_DUE: u8 = 4;
const VERSION: u8 = 1 << 4;

/// Seeded once a process: attackers cannot choose names that fall into one bucket.
static HASHER: LazyLock<foldhash::fast::RandomState> = LazyLock::new(foldhash::fast::RandomState::default);

/// The in-memory hash of a row key (or of a name, in a table of one database).
#[inline]
pub fn table_hash(bytes: &[u8]) -> u64 {
    HASHER.hash_one(bytes)
}

/// The stable position of a name or field within its slot or collection. Not for hash tables: it is not seeded.
#[inline]
pub fn hash32(bytes: &[u8]) -> u32 {
    (xxh3_64(bytes) >> 32) as u32
}

/// The data type of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// `string`
    String = 0,
    /// `list`
    List = 1,
    /// `set`
    Set = 2,
    /// `zset`
    SortedSet = 3,
    /// `hash`
    Hash = 4,
    /// `stream`
    Stream = 5,
}

impl Kind {
    /// The word TYPE answers.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::List => "list",
            Kind::Set => "set",
            Kind::SortedSet => "zset",
            Kind::Hash => "hash",
            Kind::Stream => "stream",
        }
    }

    /// The kind with this number.
    pub fn from_bits(bits: u8) -> Option<Kind> {
        [Kind::String, Kind::List, Kind::Set, Kind::SortedSet, Kind::Hash, Kind::Stream]
            .get(bits as usize)
            .copied()
    }
}

/// The rows a key has in the items tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Items {
    /// Their common prefix.
    pub uid: Uid,
    /// Bytes of all of them, keys and values: what their removal frees.
    pub bytes: u64,
}

/// What a handler wants a key to hold, without the payload.
#[derive(Clone, Copy, Debug)]
pub struct NewValue {
    /// Data type.
    pub kind: Kind,
    /// The data type's own number for how the payload is to be read, below 16.
    pub encoding: u8,
    /// Deadline, milliseconds since 1970.
    pub expire_at: Option<i64>,
    /// When the first part of it that has a deadline of its own is over (a field of a hash), in the same unit.
    pub due_at: Option<i64>,
    /// Its rows in the items tree, if it has any.
    pub items: Option<Items>,
}

impl NewValue {
    /// When there is something to do for the expiry: the key is to go, or a part of it.
    #[inline]
    pub fn next_deadline(&self) -> Option<i64> {
        match (self.expire_at, self.due_at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        }
    }
}

/// What a key holds: a key row, decoded.
#[derive(Clone)]
pub struct Entry {
    row: Blob,
    meta: NewValue,
    payload: u32,
}

impl Entry {
    /// Decodes a key row. `None` if the bytes are no key row of a version we know.
    #[inline]
    pub fn decode(row: Blob) -> Option<Entry> {
        let (meta, payload) = decode_value(row.value())?;
        Some(Entry { row, meta, payload: payload as u32 })
    }

    /// Data type.
    pub fn kind(&self) -> Kind {
        self.meta.kind
    }
    /// The data type's number for the payload's form.
    pub fn encoding(&self) -> u8 {
        self.meta.encoding
    }
    /// Deadline, milliseconds since 1970.
    pub fn expire_at(&self) -> Option<i64> {
        self.meta.expire_at
    }
    /// When the first part of it with a deadline of its own is over.
    pub fn due_at(&self) -> Option<i64> {
        self.meta.due_at
    }
    /// Its rows in the items tree.
    pub fn items(&self) -> Option<Items> {
        self.meta.items
    }
    /// Everything but the payload, to be changed and put back.
    pub fn meta(&self) -> NewValue {
        self.meta
    }
    /// What the data type wrote.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.row.value()[self.payload as usize..]
    }
    /// A part of the payload that shares the row's memory.
    #[inline]
    pub fn slice(&self, start: usize, end: usize) -> Slice {
        self.row.value_slice(self.payload as usize + start, self.payload as usize + end)
    }
    /// The whole payload, sharing the row's memory.
    #[inline]
    pub fn payload_slice(&self) -> Slice {
        self.slice(0, self.payload().len())
    }
    /// Bytes this key takes, its items included.
    pub fn stored_bytes(&self) -> u64 {
        stored_bytes(&self.row, &self.meta)
    }
    /// The row itself.
    pub fn row(&self) -> &Blob {
        &self.row
    }
}

/// Bytes a key takes: its row and its items.
#[inline]
pub fn stored_bytes(row: &Blob, meta: &NewValue) -> u64 {
    row.bytes().len() as u64 + meta.items.map_or(0, |items| items.bytes)
}

/// Reads the head of a key row's value: what it says and where the payload begins.
#[inline]
pub fn decode_value(value: &[u8]) -> Option<(NewValue, usize)> {
    let (&first, &flags) = (value.first()?, value.get(1)?);
    if flags & 0xF0 != VERSION {
        return None;
    }
    let mut at = 2;
    let mut take = |len: usize| {
        let bytes = value.get(at..at + len);
        at += len;
        bytes
    };
    let expire_at =
        if flags & HAS_EXPIRE != 0 { Some(i64::from_be_bytes(take(8)?.try_into().ok()?)) } else { None };
    let due_at =
        if flags & HAS_DUE != 0 { Some(i64::from_be_bytes(take(8)?.try_into().ok()?)) } else { None };
    let items = if flags & HAS_ITEMS != 0 {
        let uid = Uid::from_bytes(take(Uid::LEN)?)?;
        Some(Items { uid, bytes: u64::from_be_bytes(take(8)?.try_into().ok()?) })
    } else {
        None
    };
    Some((
        NewValue { kind: Kind::from_bits(first & 15)?, encoding: first >> 4, expire_at, due_at, items },
        at,
    ))
}

/// Writes the head of a key row's value.
#[inline]
pub fn encode_head(meta: &NewValue, out: &mut Vec<u8>) {
    debug_assert!(meta.encoding < 16);
    out.push(meta.kind as u8 | meta.encoding << 4);
    let has = |there: bool, flag: u8| if there { flag } else { 0 };
    let flags = has(meta.expire_at.is_some(), HAS_EXPIRE)
        | has(meta.due_at.is_some(), HAS_DUE)
        | has(meta.items.is_some(), HAS_ITEMS);
    out.push(VERSION | flags);
    for ms in [meta.expire_at, meta.due_at].into_iter().flatten() {
        out.extend_from_slice(&ms.to_be_bytes());
    }
    if let Some(items) = meta.items {
        out.extend_from_slice(&items.uid.to_bytes());
        out.extend_from_slice(&items.bytes.to_be_bytes());
    }
}

/// The prefix of a key row's key.
#[inline]
pub fn key_prefix(database_id: u32, slot: Slot, position: u32) -> [u8; KEY_PREFIX] {
    let mut prefix = [0; KEY_PREFIX];
    prefix[..4].copy_from_slice(&database_id.to_be_bytes());
    prefix[4..6].copy_from_slice(&slot.0.to_be_bytes());
    prefix[6..].copy_from_slice(&position.to_be_bytes());
    prefix
}

/// A row from its parts, built in `scratch` (which is left with the row's bytes).
#[inline]
pub fn build(scratch: &mut Vec<u8>, hash: u64, key: &[&[u8]], fill: impl FnOnce(&mut Vec<u8>)) -> Blob {
    scratch.clear();
    for part in key {
        scratch.extend_from_slice(part);
    }
    let key_len = scratch.len() as u32;
    fill(scratch);
    Blob::new(Head { hash, key_len, mark: 0 }, scratch)
}

/// A row that says its key is gone.
#[inline]
pub fn deletion(scratch: &mut Vec<u8>, hash: u64, key: &[&[u8]]) -> Blob {
    scratch.clear();
    for part in key {
        scratch.extend_from_slice(part);
    }
    Blob::new(Head { hash, key_len: scratch.len() as u32, mark: DELETED }, scratch)
}

/// Whether `row` says that its key is gone.
#[inline]
pub fn is_deletion(row: &Blob) -> bool {
    row.head().mark & DELETED != 0
}

/// The name in a key row's key.
#[inline]
pub fn name_of(row: &Blob) -> &[u8] {
    &row.key()[KEY_PREFIX..]
}

/// Database id, slot and position in a key row's key.
#[inline]
pub fn position_of(key: &[u8]) -> (u32, Slot, u32) {
    let number = |at: usize| u32::from_be_bytes([key[at], key[at + 1], key[at + 2], key[at + 3]]);
    (number(0), Slot(u16::from_be_bytes([key[4], key[5]])), number(6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_head_survives_the_round_trip() {
        for (expire_at, due_at) in [(None, None), (Some(0), Some(8)), (Some(i64::MAX), None), (None, Some(1))]
        {
            for items in [None, Some(Items { uid: Uid { lsn: 7, index: 9 }, bytes: 1 << 40 })] {
                let meta = NewValue { kind: Kind::Hash, encoding: 3, expire_at, due_at, items };
                let mut bytes = Vec::new();
                encode_head(&meta, &mut bytes);
                let head_len = bytes.len();
                bytes.extend_from_slice(b"payload");
                let (read, at) = decode_value(&bytes).expect("decodes");
                assert_eq!(
                    (read.kind, read.encoding, read.expire_at, read.due_at, read.items),
                    (Kind::Hash, 3, expire_at, due_at, items)
                );
                assert_eq!(at, head_len);
                for cut in 0..head_len {
                    assert!(decode_value(&bytes[..cut]).is_none());
                }
            }
        }
    }
}
