//! A digest of a partition's rows: equal on all nodes that hold the same, whatever of it is in memory or in the tree.

use crate::base::ids::PartitionId;
use crate::store::row;
use crate::store::{Interrupt, Slot, Store, walk};
use std::ops::ControlFlow;
use xxhash_rust::xxh3::Xxh3;

impl Store {
    /// A hash over all keys of a partition with their items, database by database. Holds the lock all the while and may read
    /// the whole tree: for tests, and for operators who compare two nodes at rest.
    pub fn digest(&self, id: PartitionId) -> Result<u64, Interrupt> {
        let mut partition = self.partitions[usize::from(id.0)].lock();
        let mut hash = Xxh3::new();
        for number in 0..partition.databases.len() as u16 {
            let mut rows: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            walk::keys(&mut partition, number, (Slot(0), 0), &mut |key, value| {
                // Physical ids are the same everywhere too, but they are not what is meant.
                rows.push((key[4..].to_vec(), value.to_vec()));
                ControlFlow::Continue(())
            })?;
            put(&mut hash, &number.to_be_bytes(), &(rows.len() as u64).to_be_bytes());
            for (key, value) in rows {
                put(&mut hash, &key, &value);
                let items = row::decode_value(&value).and_then(|(meta, _)| meta.items);
                if let Some(items) = items {
                    walk::items(&mut partition, items.uid, &[], &mut |suffix, value| {
                        put(&mut hash, suffix, value);
                        ControlFlow::Continue(())
                    })?;
                }
            }
        }
        Ok(hash.digest())
    }
}

fn put(hash: &mut Xxh3, key: &[u8], value: &[u8]) {
    for part in [key, value] {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
}
