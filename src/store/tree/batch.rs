//! What a checkpoint writes, in one LMDB transaction, and the removal of rows that are nobody's.

use super::{Environment, META, Rows, TreeError};
use crate::base::blob::Blob;
use crate::base::crash_point;
use crate::base::ids::{Epoch, Lsn, Point, Uid};
use crate::store::order::{self, LONGEST_PLAIN, SHORTENED};
use crate::store::partition::Counters;
use crate::store::row::{self, Kind};
use heed::{RoTxn, RwTxn};
use std::ops::Bound;
use std::sync::atomic::Ordering;

pub const STATE_KEY: &[u8] = b"state";
const STATE_VERSION: u8 = 2;

/// What a tree knows of itself.
///
/// ```text
/// version (1) · epoch (8) · LSN (8) · chain (4) · journal position (8) · history start (8) · next database id (4)
/// number of databases (2)
/// then for each database: id (4) · keys (8) · expires (8) · bytes (8)
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The last transaction in the tree.
    pub point: Point,
    /// What the journal of this node has of the partition before this position is in the tree, or is of another history.
    pub position: u64,
    /// What it has before this one is of another history.
    pub history_start: u64,
    /// The physical id the next emptied database gets.
    pub next_database_id: u32,
    /// Physical id and counts of each database, by number.
    pub databases: Vec<(u32, Counters)>,
}

impl State {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![STATE_VERSION];
        bytes.extend_from_slice(&self.point.epoch.0.to_be_bytes());
        bytes.extend_from_slice(&self.point.lsn.0.to_be_bytes());
        bytes.extend_from_slice(&self.point.chain.to_be_bytes());
        bytes.extend_from_slice(&self.position.to_be_bytes());
        bytes.extend_from_slice(&self.history_start.to_be_bytes());
        bytes.extend_from_slice(&self.next_database_id.to_be_bytes());
        bytes.extend_from_slice(&(self.databases.len() as u16).to_be_bytes());
        for (id, counters) in &self.databases {
            bytes.extend_from_slice(&id.to_be_bytes());
            for count in [counters.keys, counters.expires, counters.bytes] {
                bytes.extend_from_slice(&count.to_be_bytes());
            }
        }
        bytes
    }

    /// The state that [`State::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Option<State> {
        let mut rest = bytes;
        let mut take = |len: usize| -> Option<u64> {
            let (head, tail) = rest.split_at_checked(len)?;
            rest = tail;
            Some(head.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
        };
        if take(1)? != u64::from(STATE_VERSION) {
            return None;
        }
        let point = Point { epoch: Epoch(take(8)?), lsn: Lsn(take(8)?), chain: take(4)? as u32 };
        let (position, history_start) = (take(8)?, take(8)?);
        let next_database_id = take(4)? as u32;
        let databases = (0..take(2)?)
            .map(|_| {
                let id = take(4)? as u32;
                Some((id, Counters { keys: take(8)?, expires: take(8)?, bytes: take(8)? }))
            })
            .collect::<Option<Vec<_>>>()?;
        Some(State { point, position, history_start, next_database_id, databases })
    }
}

/// What a checkpoint writes.
pub struct Batch<'a> {
    /// The newest frozen key rows, in order.
    pub keys: &'a [Blob],
    /// The newest frozen item rows, in order.
    pub items: &'a [Blob],
    /// Deadlines that came or went.
    pub deadlines: Vec<(&'a [u8], bool)>,
    /// Collections that are nobody's any more.
    pub dropped: &'a [(Uid, Kind)],
    /// Databases that were emptied.
    pub emptied: Vec<u32>,
    /// What the tree is then.
    pub state: &'a State,
}

impl Environment {
    /// What the tree knows of itself; `None` if it is new.
    pub fn state(&self) -> Result<Option<State>, TreeError> {
        self.check_way(META, STATE_KEY)?;
        let snapshot = self.env.read_txn()?;
        let Some(bytes) = self.meta.get(&snapshot, STATE_KEY)? else { return Ok(None) };
        State::decode(bytes)
            .map(Some)
            .ok_or_else(|| TreeError("the tree's state has an unknown format".into()))
    }

    /// Writes a batch and syncs it to disk. On error nothing is changed.
    pub fn write(&self, batch: &Batch) -> Result<(), TreeError> {
        let mut transaction = self.begin()?;
        write_rows(&self.keys, &mut transaction, batch.keys)?;
        write_rows(&self.items, &mut transaction, batch.items)?;
        for (key, stands) in &batch.deadlines {
            if *stands {
                put(&self.deadlines, &mut transaction, key, &[])?;
            } else {
                self.deadlines.delete(&mut transaction, &order::tree_key(key))?;
            }
        }
        for (uid, kind) in batch.dropped {
            self.garbage.put(&mut transaction, &uid.to_bytes(), &[*kind as u8])?;
        }
        for id in &batch.emptied {
            self.garbage.put(&mut transaction, &id.to_be_bytes(), &[])?;
        }
        self.meta.put(&mut transaction, STATE_KEY, &batch.state.encode())?;
        crash_point::pass("checkpoint-before-commit");
        transaction.commit()?;
        crash_point::pass("checkpoint-after-commit");
        self.record_commit()?;
        crash_point::pass("checkpoint-recorded");
        Ok(())
    }

    /// Removes up to `budget` rows that are nobody's. Returns whether there may be more.
    pub fn collect_garbage(&self, budget: usize) -> Result<bool, TreeError> {
        if !self.all_checked.load(Ordering::Acquire) {
            return Ok(false); // once all pages were checked there is time enough
        }
        let snapshot = self.env.read_txn()?;
        let Some((first, _)) = self.garbage.first(&snapshot)? else { return Ok(false) };
        let prefix = first.to_vec();
        drop(snapshot);
        let mut transaction = self.begin()?;
        let mut left = budget;
        let done = if let Ok(id) = <[u8; 4]>::try_from(&prefix[..]) {
            self.remove_database(&mut transaction, id, &mut left)?
        } else {
            remove_prefix(&self.items, &mut transaction, &prefix, &mut left)?
        };
        if done {
            self.garbage.delete(&mut transaction, &prefix)?;
        }
        crash_point::pass("garbage-before-commit");
        transaction.commit()?;
        crash_point::pass("garbage-after-commit");
        self.record_commit()?;
        Ok(true)
    }

    /// Removes the key rows of an emptied database and their items. Returns whether none is left.
    fn remove_database(
        &self,
        transaction: &mut RwTxn,
        id: [u8; 4],
        left: &mut usize,
    ) -> Result<bool, TreeError> {
        loop {
            let found = self.keys.get_greater_than_or_equal_to(transaction, &id)?;
            let Some((key, value)) = found.filter(|(key, _)| key.starts_with(&id)) else { return Ok(true) };
            let whole = if key.len() == SHORTENED { super::lengthen(value)?.1 } else { value };
            let meta = row::decode_value(whole).map(|(meta, _)| meta);
            let key = key.to_vec();
            if let Some(items) = meta.and_then(|meta| meta.items)
                && !remove_prefix(&self.items, transaction, &items.uid.to_bytes(), left)?
            {
                return Ok(false);
            }
            if *left == 0 {
                return Ok(false);
            }
            self.keys.delete(transaction, &key)?;
            *left -= 1;
        }
    }
}

fn write_rows(rows: &Rows, transaction: &mut RwTxn, new: &[Blob]) -> Result<(), TreeError> {
    for blob in new {
        if row::is_deletion(blob) {
            rows.delete(transaction, &order::tree_key(blob.key()))?;
        } else if blob.key().len() <= LONGEST_PLAIN {
            rows.put(transaction, blob.key(), blob.value())?;
        } else {
            put(rows, transaction, blob.key(), blob.value())?;
        }
    }
    Ok(())
}

/// Puts a row whose key may be too long for the tree.
fn put(rows: &Rows, transaction: &mut RwTxn, key: &[u8], value: &[u8]) -> Result<(), TreeError> {
    if key.len() <= LONGEST_PLAIN {
        return Ok(rows.put(transaction, key, value)?);
    }
    let stored = [&(key.len() as u32).to_be_bytes()[..], key, value].concat();
    Ok(rows.put(transaction, &order::tree_key(key), &stored)?)
}

/// Removes up to `left` rows that begin with `prefix`. Returns whether none is left.
fn remove_prefix(
    rows: &Rows,
    transaction: &mut RwTxn,
    prefix: &[u8],
    left: &mut usize,
) -> Result<bool, TreeError> {
    let Some(last) = nth_key(rows, transaction, prefix, *left)? else { return Ok(true) };
    let range: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Included(prefix), Bound::Included(&last));
    let removed = rows.delete_range(transaction, &range)?;
    *left = left.saturating_sub(removed);
    let rest = rows.get_greater_than_or_equal_to(transaction, prefix)?;
    Ok(!rest.is_some_and(|(key, _)| key.starts_with(prefix)))
}

/// The key of the last of the first `count` rows that begin with `prefix`.
fn nth_key(
    rows: &Rows,
    transaction: &RoTxn,
    prefix: &[u8],
    count: usize,
) -> Result<Option<Vec<u8>>, TreeError> {
    let mut last = None;
    for row in rows.prefix_iter(transaction, prefix)?.take(count) {
        last = Some(row?.0.to_vec());
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_survives_the_round_trip() {
        let counters = Counters { keys: 1, expires: 2, bytes: 1 << 40 };
        let state = State {
            point: Point { epoch: Epoch(3), lsn: Lsn(u64::MAX), chain: 0xDEAD_BEEF },
            position: 1 << 50,
            history_start: 1 << 49,
            next_database_id: 17,
            databases: vec![(0, counters), (16, Counters::default())],
        };
        assert_eq!(State::decode(&state.encode()), Some(state.clone()));
        for cut in 0..state.encode().len() {
            assert_eq!(State::decode(&state.encode()[..cut]), None);
        }
    }
}
