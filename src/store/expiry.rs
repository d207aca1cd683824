//! Active expiry: deadlines in time order, their keys, and parts of keys, removed by ordinary transactions.
//!
//! Reads mask what has expired and delete nothing; this is what deletes. Decided by the primary and journaled as deletions.

use super::deadlines::{DeadlineKey, deadline_key, deadline_ms};
use super::partition::Partition;
use super::row::{self, NewValue};
use super::transaction::{Key, PartitionSet, Transaction};
use super::tree::TreeName;
use super::{Interrupt, Store};
use crate::base::ids::PartitionId;
use std::ops::ControlFlow;

/// Removes the parts of what a key holds whose deadline is before the transaction's time, up to so many. Returns how many.
/// Which those are, the data type knows.
pub type ClearParts = fn(&mut Transaction, &Key, usize) -> Result<usize, Interrupt>;

/// What a run of active expiry did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Keys removed.
    pub keys: u64,
    /// Parts removed of keys that stay, or that went with their last part.
    pub parts: u64,
    /// There are more whose time has come.
    pub more: bool,
    /// Journal position to be flushed.
    pub position: u64,
}

impl Store {
    /// Removes up to `budget` keys and parts of keys of a partition whose deadline is before `now` (milliseconds since 1970).
    /// None, if this node is not its primary.
    pub fn expire(
        &self,
        id: PartitionId,
        now: i64,
        budget: usize,
        clear_parts: ClearParts,
    ) -> Result<Expired, Interrupt> {
        self.until_fetched(|| self.try_expire(id, now, budget, clear_parts))
    }

    fn try_expire(
        &self,
        id: PartitionId,
        now: i64,
        budget: usize,
        clear_parts: ClearParts,
    ) -> Result<Expired, Interrupt> {
        let mut transaction = self.transaction(&PartitionSet::One(id), now);
        if !transaction.only_partition().is_primary {
            return Ok(Expired::default());
        }
        let due = due(transaction.only_partition(), now, budget)?;
        let mut expired = Expired { more: due.len() == budget, ..Expired::default() };
        let mut stale = Vec::new(); // of keys that are gone already, with their database
        let mut left = budget;
        for deadline in due {
            if left == 0 {
                break;
            }
            let Some((database, name, meta)) = expired_key(transaction.only_partition(), &deadline)? else {
                stale.push(deadline);
                continue;
            };
            let key = Key::new(database, &name);
            if meta.expire_at.is_some_and(|at| at < now) {
                transaction.remove(&key)?;
                left -= 1;
                continue;
            }
            let cleared = clear_parts(&mut transaction, &key, left)?;
            left -= cleared;
            expired.parts += cleared as u64;
            if cleared == 0 {
                stale.push(deadline); // nobody knows of such a part
            }
        }
        expired.more |= left == 0;
        expired.keys = u64::from(transaction.expired());
        transaction.admit(false)?;
        expired.position = transaction.commit();
        let mut partition = self.partitions[id.0 as usize].lock();
        stale.into_iter().for_each(|deadline| partition.deadlines.remove(deadline));
        if !expired.more && deadline_ms(&partition.deadlines.done_to) < now {
            partition.deadlines.done_to = deadline_key(now, &[]);
        }
        Ok(expired)
    }
}

/// Up to `budget` deadlines before `now`, earliest first.
fn due(partition: &Partition, now: i64, budget: usize) -> Result<Vec<DeadlineKey>, Interrupt> {
    let limit = deadline_key(now, &[]);
    let mut found: Vec<DeadlineKey> = Vec::new();
    let mut from = partition.deadlines.done_to.clone();
    while found.len() < budget
        && from < limit
        && let Some(key) = partition.deadlines.first(&from, &limit)
    {
        found.push(key.into());
        from = [key, &[0]].concat().into_boxed_slice();
    }
    let mut of_tree = 0;
    if !partition.tree.is_empty() {
        partition.tree.walk(TreeName::Deadlines, &partition.deadlines.done_to, &mut |key, _| {
            if *key >= *limit || of_tree == budget {
                return ControlFlow::Break(());
            }
            if partition.deadlines.change(key).is_none() {
                found.push(key.into());
                of_tree += 1;
            }
            ControlFlow::Continue(())
        })?;
    }
    found.sort_unstable();
    found.truncate(budget);
    Ok(found)
}

/// Database, name and head of the key whose deadline this is, if it still has it.
fn expired_key(
    partition: &mut Partition,
    deadline: &[u8],
) -> Result<Option<(u16, Vec<u8>, NewValue)>, Interrupt> {
    let row_key = &deadline[8..];
    if row_key.len() < row::KEY_PREFIX {
        return Ok(None);
    }
    let (id, slot, position) = row::position_of(row_key);
    let Some(number) = partition.databases.iter().position(|database| database.id == id) else {
        return Ok(None);
    };
    let name = &row_key[row::KEY_PREFIX..];
    let prefix = |id| row::key_prefix(id, slot, position);
    let found = partition.key_row(number, row::table_hash(name), name, prefix, |_| ())?;
    let meta = found.and_then(|row| Some(row::decode_value(row.value())?.0));
    let meta = meta.filter(|meta| meta.next_deadline() == Some(deadline_ms(deadline)));
    Ok(meta.map(|meta| (number as u16, name.to_vec(), meta)))
}
