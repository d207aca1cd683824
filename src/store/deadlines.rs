//! Deadlines of keys in time order: what expires next.
//!
//! Derived from key rows by [`super::partition::Partition::apply`]; never journaled. A deadline is its time (8 bytes,
//! big-endian) and the whole row key of its key. Those of the last checkpoint are in the tree; what came or went since is
//! here, in one map per dirty generation, the newer one hiding the older, both hiding the tree.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// A deadline as bytes, in time order.
pub type DeadlineKey = Box<[u8]>;

/// What happened to a deadline in a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It came; neither the tree nor an older generation has it.
    Came,
    /// It went and came again.
    Returned,
    /// It went.
    Went,
}

impl Change {
    /// Whether the deadline stands.
    pub fn stands(self) -> bool {
        self != Change::Went
    }
}

/// Deadlines by time.
pub type DeadlineMap = BTreeMap<DeadlineKey, Change>;

/// Deadlines that came or went since the last checkpoint.
#[derive(Default)]
pub struct Deadlines {
    active: DeadlineMap,
    frozen: Arc<DeadlineMap>,
    /// Every deadline before this one is dealt with: walks begin here.
    pub done_to: DeadlineKey,
}

/// The bytes of a deadline.
pub fn deadline_key(ms: i64, row_key: &[u8]) -> DeadlineKey {
    let mut bytes = Vec::with_capacity(8 + row_key.len());
    bytes.extend_from_slice(&(ms.max(0) as u64).to_be_bytes());
    bytes.extend_from_slice(row_key);
    bytes.into_boxed_slice()
}

/// The time in a deadline's bytes, milliseconds since 1970.
pub fn deadline_ms(key: &[u8]) -> i64 {
    key.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes) as i64)
}

impl Deadlines {
    /// The deadline of `row_key` was `old` and is `new`.
    pub fn replace(&mut self, row_key: &[u8], old: Option<i64>, new: Option<i64>) {
        if let Some(ms) = old {
            self.remove(deadline_key(ms, row_key));
        }
        if let Some(ms) = new {
            let key = deadline_key(ms, row_key);
            if key < self.done_to {
                self.done_to.clone_from(&key);
            }
            let change = if self.active.contains_key(&key) { Change::Returned } else { Change::Came };
            self.active.insert(key, change);
        }
    }

    /// This deadline does not stand any more.
    pub fn remove(&mut self, key: DeadlineKey) {
        if self.active.get(&key) == Some(&Change::Came) {
            self.active.remove(&key);
        } else {
            self.active.insert(key, Change::Went);
        }
    }

    /// What happened to this deadline since the last checkpoint, if anything.
    pub fn change(&self, key: &[u8]) -> Option<Change> {
        self.active.get(key).or_else(|| self.frozen.get(key)).copied()
    }

    /// The first deadline that came since the last checkpoint, is not before `from` and is before `limit`, which is not before
    /// `from`. What went is passed over one by one: without the limit that would be all that was evicted.
    pub fn first(&self, from: &[u8], limit: &[u8]) -> Option<&[u8]> {
        let range = (Bound::Included(from), Bound::Excluded(limit));
        let active =
            self.active.range::<[u8], _>(range).find(|(_, change)| change.stands()).map(|(key, _)| &**key);
        let frozen = self.frozen.range::<[u8], _>(range).map(|(key, _)| &**key);
        let frozen = frozen.into_iter().find(|key| self.change(key).is_some_and(Change::stands));
        match (active, frozen) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        }
    }

    /// Freezes what came and went; the checkpoint writes it into the tree.
    pub fn freeze(&mut self) -> Arc<DeadlineMap> {
        debug_assert!(self.frozen.is_empty());
        self.frozen = Arc::new(std::mem::take(&mut self.active));
        Arc::clone(&self.frozen)
    }

    /// The checkpoint failed: what it was to write is to be written with what came since. Quick if nobody else has the map.
    pub fn thaw(&mut self) {
        let mut merged = Arc::unwrap_or_clone(std::mem::take(&mut self.frozen));
        for (key, newer) in std::mem::take(&mut self.active) {
            let is_known = merged.contains_key(&key);
            // The tree may have it after all, if an older generation knows of it.
            let change = if is_known && newer == Change::Came { Change::Returned } else { newer };
            merged.insert(key, change);
        }
        self.active = merged;
    }

    /// The checkpoint is in the tree.
    pub fn forget_frozen(&mut self) -> Arc<DeadlineMap> {
        std::mem::take(&mut self.frozen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_deadline_is_the_earliest_that_stands() {
        let mut deadlines = Deadlines::default();
        deadlines.replace(b"a", None, Some(30));
        deadlines.replace(b"b", None, Some(20));
        deadlines.freeze();
        deadlines.replace(b"b", Some(20), Some(40));
        deadlines.replace(b"c", None, Some(35));
        assert_eq!(deadlines.first(&[], &deadline_key(50, &[])), Some(&*deadline_key(30, b"a")));
        deadlines.replace(b"a", Some(30), None);
        assert_eq!(deadlines.first(&[], &deadline_key(50, &[])), Some(&*deadline_key(35, b"c")));
        deadlines.replace(b"c", Some(35), None);
        assert_eq!(deadlines.change(&deadline_key(35, b"c")), None, "what came and went leaves nothing");
        assert_eq!(deadlines.first(&[], &deadline_key(50, &[])), Some(&*deadline_key(40, b"b")));
        assert_eq!(deadlines.first(&[], &deadline_key(40, &[])), None, "the limit itself is not before it");
    }

    #[test]
    fn what_a_failed_checkpoint_was_to_write_is_kept_with_what_came_since() {
        let mut deadlines = Deadlines::default();
        deadlines.replace(b"in the tree", Some(10), None);
        deadlines.replace(b"new", None, Some(20));
        deadlines.replace(b"short", None, Some(30));
        deadlines.freeze();
        deadlines.replace(b"in the tree", None, Some(10));
        deadlines.replace(b"short", Some(30), None);
        deadlines.thaw();
        assert_eq!(deadlines.first(&[], &deadline_key(50, &[])), Some(&*deadline_key(10, b"in the tree")));
        assert_eq!(deadlines.change(&deadline_key(20, b"new")), Some(Change::Came));
        assert_eq!(deadlines.change(&deadline_key(30, b"short")), Some(Change::Went));
        deadlines.replace(b"in the tree", Some(10), None);
        assert_eq!(
            deadlines.change(&deadline_key(10, b"in the tree")),
            Some(Change::Went),
            "the tree has it"
        );
    }

    #[test]
    fn a_deadline_that_went_and_came_again_is_kept_until_the_tree_knows() {
        let mut deadlines = Deadlines::default();
        deadlines.replace(b"a", Some(10), None);
        deadlines.replace(b"a", None, Some(10));
        deadlines.replace(b"a", Some(10), None);
        assert_eq!(deadlines.change(&deadline_key(10, b"a")), Some(Change::Went));
    }
}
