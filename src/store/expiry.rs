//! Active expiry: deadlines in time order, their keys removed by ordinary transactions.
//!
//! Reads mask what has expired and delete nothing; this is what deletes. Decided by the primary and journaled as deletions.

use super::deadlines::{DeadlineKey, deadline_key, deadline_ms};
use super::partition::Partition;
use super::row;
use super::transaction::{Key, PartitionSet};
use super::tree::TreeName;
use super::{Interrupt, Store};
use crate::base::ids::PartitionId;
use std::ops::ControlFlow;

/// What a run of active expiry did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Keys removed.
    pub keys: u64,
    /// There are more whose time has come.
    pub more: bool,
    /// Journal position to be flushed.
    pub position: u64,
}

impl Store {
    /// Removes up to `budget` keys of a partition whose deadline is before `now` (milliseconds since 1970). None, if this node is
    /// not its primary.
    pub fn expire(&self, id: PartitionId, now: i64, budget: usize) -> Result<Expired, Interrupt> {
        self.until_fetched(|| self.try_expire(id, now, budget))
    }

    fn try_expire(&self, id: PartitionId, now: i64, budget: usize) -> Result<Expired, Interrupt> {
        let mut transaction = self.transaction(&PartitionSet::One(id), now);
        if !transaction.only_partition().is_primary {
            return Ok(Expired::default());
        }
        let due = due(transaction.only_partition(), now, budget)?;
        let mut expired = Expired { more: due.len() == budget, ..Expired::default() };
        let mut stale = Vec::new(); // of keys that are gone already, with their database
        for deadline in due {
            match expired_key(transaction.only_partition(), &deadline)? {
                Some((database, name)) => transaction.remove(&Key::new(database, &name))?,
                None => stale.push(deadline),
            }
        }
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

/// Database and name of the key whose deadline this is, if it still has it.
fn expired_key(partition: &mut Partition, deadline: &[u8]) -> Result<Option<(u16, Vec<u8>)>, Interrupt> {
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
    let has_it =
        found.and_then(|row| row::decode_value(row.value())?.0.expire_at) == Some(deadline_ms(deadline));
    Ok(has_it.then(|| (number as u16, name.to_vec())))
}
