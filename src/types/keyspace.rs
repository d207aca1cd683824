//! Keys as such, whatever they hold: removing, copying and moving them.
//!
//! Within a partition a value moves in constant time, because only its key row names the collection's rows. To another
//! partition, and for a copy, those rows are written again one by one: O(n) in rows, all staged in one transaction.

use super::{hash, list, set, string, zset};
use crate::store::{Entry, Interrupt, Items, Key, Kind, NewValue, Transaction};
use std::ops::ControlFlow;

/// Removes `key`, also if it has expired but is still counted. Whether it was there.
pub fn remove(transaction: &mut Transaction, key: &Key) -> Result<bool, Interrupt> {
    let exists = transaction.peek(key)?.is_some();
    transaction.remove(key)?;
    Ok(exists)
}

/// What OBJECT ENCODING says of a value.
pub fn encoding_name(entry: &Entry) -> &'static str {
    match entry.kind() {
        Kind::String => string::encoding_name(entry),
        Kind::Hash => hash::encoding_name(entry),
        Kind::SortedSet => zset::encoding_name(entry),
        Kind::Set => set::encoding_name(entry),
        Kind::List => list::encoding_name(entry),
        Kind::Stream => "unknown", // none of them exist yet
    }
}

/// Moves `entry`, which is what `key` holds, to the key `to` with its deadline; what `to` held is gone.
pub fn rename(transaction: &mut Transaction, key: &Key, entry: &Entry, to: &Key) -> Result<(), Interrupt> {
    if transaction.in_one_partition(key, to) {
        return transaction.rename_within_partition(key, to);
    }
    copy(transaction, key, entry, to)?;
    transaction.remove(key)
}

/// Writes a copy of `entry`, which is what `key` holds, to the key `to` with its deadline; what `to` held is gone.
pub fn copy(transaction: &mut Transaction, key: &Key, entry: &Entry, to: &Key) -> Result<(), Interrupt> {
    let items = match entry.items() {
        Some(items) => Some(copy_items(transaction, key, items, to)?),
        None => None,
    };
    transaction.put(to, NewValue { items, ..entry.meta() }, &[entry.payload()])
}

/// A row of a collection: suffix and value.
type ItemRow = (Box<[u8]>, Box<[u8]>);

fn copy_items(transaction: &mut Transaction, key: &Key, items: Items, to: &Key) -> Result<Items, Interrupt> {
    let mut rows: Vec<ItemRow> = Vec::new();
    transaction.visit_items(key, items.uid, &[], &mut |suffix, value| {
        rows.push((suffix.into(), value.into()));
        ControlFlow::Continue(())
    })?;
    let uid = transaction.new_uid(to);
    let mut bytes = 0;
    for (suffix, value) in rows {
        bytes += transaction.put_new_item(to, uid, &suffix, &[&value]) as u64;
    }
    Ok(Items { uid, bytes })
}

/// Sets or removes the deadline of `key`, which holds `entry`.
pub fn set_deadline(
    transaction: &mut Transaction,
    key: &Key,
    entry: &Entry,
    expire_at: Option<i64>,
) -> Result<(), Interrupt> {
    transaction.put_meta(key, entry, NewValue { expire_at, ..entry.meta() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Kind, PartitionSet, Store};

    const NOW: i64 = 1000;

    fn put_collection(transaction: &mut Transaction, key: &Key) {
        let uid = transaction.new_uid(key);
        let mut bytes = 0;
        for i in 0..10u8 {
            bytes += transaction.put_new_item(key, uid, &[i], &[&[i, i]]) as u64;
        }
        let items = Some(Items { uid, bytes });
        let meta = NewValue { kind: Kind::Hash, encoding: 1, expire_at: Some(5000), due_at: None, items };
        transaction.put(key, meta, &[b"head"]).expect("in memory");
    }

    fn items_of(transaction: &mut Transaction, key: &Key) -> Vec<Vec<u8>> {
        let entry = transaction.get(key).expect("in memory").expect("exists");
        assert_eq!((entry.payload(), entry.expire_at()), (&b"head"[..], Some(5000)));
        let mut found = Vec::new();
        transaction
            .visit_items(key, entry.items().expect("has items").uid, &[], &mut |suffix, value| {
                found.push([suffix, value].concat());
                ControlFlow::Continue(())
            })
            .expect("in memory");
        found
    }

    #[test]
    fn a_collection_moves_within_and_across_partitions_and_databases() {
        for (from, to) in [("{a}1", "{a}2"), ("a", "b"), ("a", "a")] {
            for copies in [false, true] {
                let store = Store::in_memory(16, 2);
                let (from, to) = (Key::new(0, from.as_bytes()), Key::new(1, to.as_bytes()));
                let mut transaction = store.transaction(&PartitionSet::All, NOW);
                put_collection(&mut transaction, &from);
                let before = items_of(&mut transaction, &from);
                transaction.commit();
                let mut transaction = store.transaction(&PartitionSet::All, NOW);
                let entry = transaction.get(&from).expect("in memory").expect("exists");
                let moves = if copies { copy } else { rename };
                moves(&mut transaction, &from, &entry, &to).expect("in memory");
                transaction.commit();
                let mut transaction = store.transaction(&PartitionSet::All, NOW);
                assert_eq!(items_of(&mut transaction, &to), before);
                assert_eq!(transaction.get(&from).expect("in memory").is_some(), copies);
                assert_eq!(transaction.count(1), 1);
            }
        }
    }
}
