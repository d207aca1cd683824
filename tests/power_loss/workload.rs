//! Changes on a real store, the way the layers above make them, and what the store then holds.

use crate::commands;
use crate::history::{Change, Committed, DATABASES, Data, PARTITIONS, Place, Value};
use crate::types;
use larder::base::ids::{PartitionId, Slot};
use larder::store::{Key, Options, PartitionSet, Store, SyncMode, Transaction, View};
use larder::types::{hash, keyspace, string};
use std::ops::ControlFlow;
use std::path::Path;

/// Before all deadlines, so that nothing is hidden.
const BEFORE_ALL: i64 = i64::MIN;
/// Journal segments are so short that every run goes through some of them.
const SEGMENT_BYTES: u64 = 48 << 10;

/// Opens the store.
pub fn open(folder: &Path, sync: SyncMode) -> Result<Store, String> {
    let options = Options {
        sync,
        journal_segment_bytes: SEGMENT_BYTES,
        checkpoint_journal_bytes: 4 * SEGMENT_BYTES,
        checkpoint_overlay_bytes: 2 * SEGMENT_BYTES,
        secret: 1,
        ..Options::default()
    };
    Store::open(folder, PARTITIONS, DATABASES, options).map_err(|error| error.to_string())
}

/// Commits one transaction; nothing if it changes nothing.
pub fn commit(store: &Store, changes: Vec<Change>, now: i64) -> Option<Committed> {
    let mut transaction = store.transaction(&partitions(&changes), now);
    for change in &changes {
        make(&mut transaction, change);
    }
    let position = transaction.commit();
    (position > 0).then_some(Committed { position, changes, now })
}

/// Removes what is over in a partition.
pub fn expire(store: &Store, partition: u16, now: i64) -> Option<Committed> {
    let expired = store.expire(PartitionId(partition), now, usize::MAX, hash::clear_over).expect("reads");
    let changes = vec![Change::Expire(partition, now)];
    (expired.keys > 0).then_some(Committed { position: expired.position, changes, now })
}

fn partitions(changes: &[Change]) -> PartitionSet {
    let of = |change: &Change| {
        let places = change.places();
        if places.is_empty() {
            return PartitionSet::All;
        }
        let of = |place: &Place| PartitionId::of(key(place).slot, PARTITIONS);
        PartitionSet::of(places.iter().map(of).collect())
    };
    changes.iter().map(of).reduce(PartitionSet::union).expect("a transaction changes something")
}

fn key(place: &Place) -> Key<'_> {
    Key::new(place.0, &place.1)
}

fn make(transaction: &mut Transaction, change: &Change) {
    match change {
        Change::Set(place, text, deadline) => {
            string::store(transaction, &key(place), text, *deadline).expect("stores");
        }
        Change::Do(database, words) => commands::write(transaction, *database, words),
        Change::Delete(place) => {
            keyspace::remove(transaction, &key(place)).expect("removes");
        }
        Change::Deadline(place, deadline) => {
            if let Some(entry) = transaction.peek(&key(place)).expect("reads") {
                keyspace::set_deadline(transaction, &key(place), &entry, *deadline).expect("sets");
            }
        }
        Change::Rename(from, to) => {
            if let Some(entry) = transaction.peek(&key(from)).expect("reads").filter(|_| from != to) {
                keyspace::rename(transaction, &key(from), &entry, &key(to)).expect("renames");
            }
        }
        Change::Flush(database) => drop(transaction.flush_database(*database)),
        Change::Swap(a, b) => transaction.swap_databases(*a, *b),
        Change::Expire(..) => panic!("the store's own work, see `expire`"),
    }
}

/// Everything the store holds, read as commands read it. Fails if its counts are not exact.
pub fn read_back(store: &Store) -> Result<Data, String> {
    let mut data = Data::new();
    let mut bytes_of_all = 0;
    for database in 0..DATABASES {
        let mut view = store.view(&PartitionSet::All, BEFORE_ALL);
        let (mut names, mut last) = (Vec::new(), None);
        let walked = view.visit_keys(database, (Slot(0), 0), &mut |position, name, _| {
            if last > Some(position) {
                return ControlFlow::Break(());
            }
            last = Some(position);
            names.push(name.to_vec());
            ControlFlow::Continue(())
        });
        walked.map_err(|error| format!("{error:?}"))?;
        let (mut keys, mut expires, mut bytes) = (0, 0, 0);
        for name in names {
            let place = (database, name);
            let (value, stored) = read(&mut view, &place)?;
            keys += 1;
            expires += u64::from(value.deadline.is_some());
            bytes += stored;
            if data.insert(place, value).is_some() {
                return Err("a key is walked over twice".into());
            }
        }
        drop(view);
        let counted = store.counters(database);
        if (counted.keys, counted.expires, counted.bytes) != (keys, expires, bytes) {
            return Err(format!(
                "database {database} has {keys} keys, {expires} deadlines, {bytes} bytes, but counts {counted:?}"
            ));
        }
        bytes_of_all += bytes;
    }
    if store.data_bytes() != bytes_of_all {
        return Err(format!("{bytes_of_all} bytes are stored, {} are counted", store.data_bytes()));
    }
    Ok(data)
}

/// What a key holds, and the bytes it takes.
fn read(view: &mut View, place: &Place) -> Result<(Value, u64), String> {
    let key = key(place);
    let storage = |error: &dyn std::fmt::Debug| format!("{error:?}");
    let entry = view.peek(&key).map_err(|error| storage(&error))?;
    let entry = entry.ok_or_else(|| format!("{:.40?} is walked over and not found", name(place)))?;
    let of = types::of(&place.1);
    let content = of.content(commands::read(view, place.0, &of.read(&place.1))?);
    if let Some(counter) = of.count {
        let counted = commands::read(view, place.0, &[counter.as_bytes().to_vec(), place.1.clone()])?;
        if counted != [content.len().to_string().into_bytes()] {
            return Err(format!("{:.40?} counts {counted:?} elements, has {}", name(place), content.len()));
        }
    }
    if let Some(items) = entry.items() {
        let mut bytes = 0;
        view.visit_items(&key, items.uid, &[], &mut |suffix, value| {
            bytes += (12 + suffix.len() + value.len()) as u64;
            ControlFlow::Continue(())
        })
        .map_err(|error| storage(&error))?;
        if bytes != items.bytes {
            return Err(format!("{:.40?} counts {} bytes, has {bytes}", name(place), items.bytes));
        }
    }
    Ok((Value { content, deadline: entry.expire_at() }, entry.stored_bytes()))
}

/// A key's name for messages.
pub fn name(place: &Place) -> String {
    String::from_utf8_lossy(&place.1).into_owned()
}
