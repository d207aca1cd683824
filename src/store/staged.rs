//! Operations that wait for their transaction to commit, found by row: a transaction reads its own writes.
//!
//! Most transactions stage a few operations, which are looked through backwards. One that stages many (MSET, a script, HSET
//! of thousands of fields) gets an index, or its cost would grow with the square of their number.

use super::partition::Prior;
use super::record::Operation;
use crate::base::blob::Blob;
use hashbrown::HashTable;
use std::ops::Deref;

/// Up to so many operations are looked through.
const UNINDEXED_MAX: usize = 32;

/// An operation waiting for its transaction to commit, with what it replaces.
pub struct Staged {
    /// The change.
    pub operation: Operation,
    /// Table hash of the row it concerns.
    pub hash: u64,
    /// What the key row replaces: bytes stored and deadline.
    pub prior: Option<Prior>,
}

/// The operations of the transaction that holds the lock, in order.
#[derive(Default)]
pub struct StagedList {
    operations: Vec<Staged>,
    /// Hash of a row and its newest operation, for those before `indexed`.
    newest: HashTable<(u64, u32)>,
    indexed: usize,
    /// Bytes of their record, a little more than there will be.
    bytes: u64,
}

impl Deref for StagedList {
    type Target = [Staged];
    #[inline]
    fn deref(&self) -> &[Staged] {
        &self.operations
    }
}

impl StagedList {
    /// Stages one more.
    #[inline]
    pub fn push(&mut self, staged: Staged) {
        self.bytes += staged.operation.record_bytes();
        self.operations.push(staged);
        if self.operations.len() > UNINDEXED_MAX {
            self.index_rest();
        }
    }

    #[cold]
    fn index_rest(&mut self) {
        for (at, staged) in self.operations.iter().enumerate().skip(self.indexed) {
            let newest = (staged.hash, at as u32);
            let entry = self.newest.entry(staged.hash, |(hash, _)| *hash == staged.hash, |(hash, _)| *hash);
            entry.and_modify(|known| *known = newest).or_insert(newest);
        }
        self.indexed = self.operations.len();
    }

    /// Bytes of their record, a little more than there will be.
    #[inline]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The newest operation on a row with this hash that `pick` takes.
    #[inline]
    pub fn newest(&self, hash: u64, pick: impl Fn(&Operation) -> Option<&Blob>) -> Option<&Blob> {
        if self.indexed > 0 {
            let (_, at) = self.newest.find(hash, |(known, _)| *known == hash)?;
            if let Some(row) = pick(&self.operations[*at as usize].operation) {
                return Some(row);
            }
            // Another row with the same hash is newer.
        }
        self.operations
            .iter()
            .rev()
            .find_map(|staged| if staged.hash == hash { pick(&staged.operation) } else { None })
    }

    /// Takes back all but the first `len`.
    pub fn truncate(&mut self, len: usize) {
        if len == self.operations.len() {
            return;
        }
        self.operations.truncate(len);
        self.bytes = self.operations.iter().map(|staged| staged.operation.record_bytes()).sum();
        self.newest.clear();
        self.indexed = 0;
        if len > UNINDEXED_MAX {
            self.index_rest();
        }
    }

    /// Takes all of them out.
    #[inline]
    pub fn drain(&mut self) -> std::vec::Drain<'_, Staged> {
        if self.indexed > 0 {
            self.newest.clear();
            self.indexed = 0;
        }
        self.bytes = 0;
        self.operations.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::blob::Head;

    fn item(name: u8, value: u8, hash: u64) -> Staged {
        let row = Blob::new(Head { hash, key_len: 1, mark: 0 }, &[name, value]);
        Staged { operation: Operation::Item(row), hash, prior: None }
    }

    #[test]
    fn the_newest_version_is_found_however_many_are_staged() {
        let mut list = StagedList::default();
        let value = |list: &StagedList, name: u8| {
            // Two names share each hash.
            let found = list.newest(u64::from(name / 2), |operation| match operation {
                Operation::Item(row) if row.key() == [name] => Some(row),
                _ => None,
            });
            found.map(|row| row.value()[0])
        };
        for round in 0..3 {
            for name in 0..50 {
                list.push(item(name, round, u64::from(name / 2)));
                assert_eq!(value(&list, name), Some(round));
                assert_eq!(
                    value(&list, 49 - name),
                    if name >= 49 - name { Some(round) } else { round.checked_sub(1) }
                );
            }
        }
        assert_eq!(value(&list, 200), None);
        list.truncate(60);
        assert_eq!((value(&list, 5), value(&list, 30)), (Some(1), Some(0)));
        list.truncate(10);
        assert_eq!((value(&list, 5), value(&list, 30)), (Some(0), None));
        assert_eq!(list.drain().count(), 10);
        assert!(list.is_empty() && value(&list, 5).is_none());
    }
}
