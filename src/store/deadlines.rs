//! Deadlines of keys in time order: what expires next.
//!
//! Derived from key rows by [`super::partition::Partition::apply`]; never journaled. A deadline is its time (8 bytes,
//! big-endian) and the whole row key of its key. Those of the last checkpoint are in the tree; what came or went since is here,
//! in one map per dirty generation, the newer one hiding the older, both hiding the tree.

use std::collections::BTreeMap;

/// A deadline as bytes, in time order.
pub type DeadlineKey = Box<[u8]>;

/// Deadlines that came (`true`) or went (`false`) since the last checkpoint.
#[derive(Default)]
pub struct Deadlines {
    active: BTreeMap<DeadlineKey, bool>,
    frozen: BTreeMap<DeadlineKey, bool>,
}

/// The bytes of a deadline.
pub fn deadline_key(ms: i64, row_key: &[u8]) -> DeadlineKey {
    let mut bytes = Vec::with_capacity(8 + row_key.len());
    bytes.extend_from_slice(&(ms.max(0) as u64).to_be_bytes());
    bytes.extend_from_slice(row_key);
    bytes.into_boxed_slice()
}

/// The time in a deadline's bytes.
pub fn deadline_ms(key: &[u8]) -> i64 {
    key.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes) as i64)
}

impl Deadlines {
    /// The deadline of `row_key` was `old` and is `new`.
    pub fn replace(&mut self, row_key: &[u8], old: Option<i64>, new: Option<i64>) {
        if let Some(ms) = old {
            self.active.insert(deadline_key(ms, row_key), false);
        }
        if let Some(ms) = new {
            self.active.insert(deadline_key(ms, row_key), true);
        }
    }

    /// Whether this deadline is known here: it came (`Some(true)`), or it went.
    pub fn state(&self, key: &[u8]) -> Option<bool> {
        self.active.get(key).or_else(|| self.frozen.get(key)).copied()
    }

    /// The first deadline kept in memory that is at or after `from` and still stands.
    pub fn first(&self, from: &[u8]) -> Option<&[u8]> {
        let a = self.active.range::<[u8], _>((std::ops::Bound::Included(from), std::ops::Bound::Unbounded));
        let b = self.frozen.range::<[u8], _>((std::ops::Bound::Included(from), std::ops::Bound::Unbounded));
        let first_active = a.filter(|(_, stands)| **stands).map(|(key, _)| &**key).next();
        let first_frozen = b.map(|(key, _)| &**key).find(|key| self.state(key) == Some(true));
        match (first_active, first_frozen) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        }
    }

    /// Freezes what came and went; the caller writes [`Deadlines::frozen`] into the tree.
    pub fn freeze(&mut self) {
        debug_assert!(self.frozen.is_empty());
        self.frozen = std::mem::take(&mut self.active);
    }

    /// What the checkpoint writes.
    pub fn frozen(&self) -> impl Iterator<Item = (&[u8], bool)> {
        self.frozen.iter().map(|(key, stands)| (&**key, *stands))
    }

    /// The checkpoint is in the tree.
    pub fn forget_frozen(&mut self) {
        self.frozen = BTreeMap::new();
    }
}
