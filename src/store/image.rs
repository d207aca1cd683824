//! A partition's rows as bytes, for stores that live in memory only: what a snapshot's file is for those with a data folder.
//!
//! An image is the journal record that leads from an empty partition to this one. So it has no format of its own, and partitions
//! with the same history have the same image.

use super::journal::{SectionHead, decode_payload, encode_section, put_number};
use super::partition::Partition;
use super::record::Operation;
use super::row;
use super::tree::Tree;
use super::{ApplyError, Interrupt, Store, recovery, walk};
use crate::base::blob::Blob;
use crate::base::ids::{PartitionId, Point, Slot};
use std::ops::ControlFlow;

impl Store {
    /// All rows of a partition and where its history stands with them. Holds the lock all the while.
    pub fn image(&self, id: PartitionId) -> Result<(Point, Vec<u8>), Interrupt> {
        let mut partition = self.partitions[usize::from(id.0)].lock();
        let operations = operations(&mut partition)?;
        let point = partition.point();
        drop(partition);
        let head = SectionHead { partition: id, epoch: point.epoch, lsn: point.lsn, previous: 0, time_ms: 0 };
        let mut image = Vec::new();
        put_number(&mut image, 1);
        encode_section(&mut image, &head, operations.iter());
        Ok((point, image))
    }

    /// Puts an image in the place of what the partition holds; its history stands at `point` then. Whoever watches a key learns
    /// that it changed.
    pub fn put_image(&self, id: PartitionId, point: Point, image: &[u8]) -> Result<(), ApplyError> {
        assert!(self.environments.is_empty(), "a store with a data folder installs snapshots");
        let section = decode_payload(image).and_then(|mut sections| sections.pop());
        let section = section.filter(|section| (section.head.partition, section.head.lsn) == (id, point.lsn));
        let section = section.ok_or(ApplyError::Malformed)?;
        let mut partition = self.partitions[usize::from(id.0)].lock();
        let mut new = recovery::empty_partition(id, partition.databases.len() as u16, Tree::none());
        (new.epoch, new.lsn, new.chain) = (point.epoch, point.lsn, point.chain);
        for operation in section.operations {
            new.apply(operation, None, self.access_clock().fresh());
        }
        new.emptied.clear();
        new.replacements = partition.replacements + 1;
        std::mem::swap(&mut partition.watches, &mut new.watches);
        for number in 0..new.databases.len() as u16 {
            new.watches.names(number).iter().for_each(|name| new.watches.changed(number, name));
        }
        *partition = new;
        self.note_bytes(&partition);
        Ok(())
    }
}

/// What makes these rows of an empty partition: the databases, then the keys of each with their items.
fn operations(partition: &mut Partition) -> Result<Vec<Operation>, Interrupt> {
    let databases = (0_u16..).zip(&partition.databases);
    let mut operations: Vec<Operation> = databases
        .map(|(number, database)| Operation::Database { number, id: database.id, before: database.id })
        .collect();
    for number in 0..partition.databases.len() as u16 {
        let mut collections = Vec::new();
        walk::keys(partition, number, (Slot(0), 0), &mut |key, value| {
            let items = row::decode_value(value).and_then(|(meta, _)| meta.items);
            collections.extend(items.map(|items| items.uid));
            operations.push(Operation::Key(row_of(&[key], &key[row::KEY_PREFIX..], value)));
            ControlFlow::Continue(())
        })?;
        for uid in collections {
            walk::items(partition, uid, &[], &mut |suffix, value| {
                let key = [&uid.to_bytes(), suffix].concat();
                operations.push(Operation::Item(row_of(&[&key], &key, value)));
                ControlFlow::Continue(())
            })?;
        }
    }
    Ok(operations)
}

fn row_of(key: &[&[u8]], found_by: &[u8], value: &[u8]) -> Blob {
    row::build(&mut Vec::new(), row::table_hash(found_by), key, |out| out.extend_from_slice(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Items, Key, Kind, NewValue, PartitionSet};

    const P: PartitionId = PartitionId(0);

    fn fill(store: &Store, number: u8) {
        let mut transaction = store.transaction(&PartitionSet::One(P), 1);
        let (string, hash) = ([b's', number % 7], [b'h', number % 3]);
        let (string, hash) = (Key::new(u16::from(number % 2), &string), Key::new(0, &hash));
        let meta =
            NewValue { kind: Kind::String, encoding: 0, expire_at: Some(9), due_at: None, items: None };
        transaction.put(&string, meta, &[&[number]]).expect("in memory");
        let uid = transaction.new_uid(&hash);
        let bytes = transaction.put_new_item(&hash, uid, b"field", &[&[number]]) as u64;
        let meta = NewValue { kind: Kind::Hash, expire_at: None, items: Some(Items { uid, bytes }), ..meta };
        transaction.put(&hash, meta, &[b""]).expect("in memory");
        match number {
            20 => _ = transaction.flush_database(1),
            30 => transaction.swap_databases(0, 1),
            _ => {}
        }
        transaction.commit();
    }

    #[test]
    fn a_partition_made_of_an_image_is_the_same_and_goes_on_the_same() {
        let (store, copy) = (Store::in_memory(1, 3), Store::in_memory(1, 3));
        for number in 0..60 {
            fill(&store, number);
            let (point, image) = store.image(P).expect("in memory");
            fill(&copy, number); // to be replaced
            copy.put_image(P, point, &image).expect("is one");
            assert_eq!(copy.image(P).expect("in memory"), (point, image), "after {number}");
            assert_eq!((copy.counters(0), copy.counters(1)), (store.counters(0), store.counters(1)));
            assert_eq!(copy.data_bytes(), store.data_bytes());
        }
    }
}
