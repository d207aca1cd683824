//! Snapshots where the disk has no room: refused in words, and nothing is changed; what was begun has its room.

use crate::places::Place;
use crate::support::wait_until;
use larder::base::ids::PartitionId;
use larder::store::{Key, Kind, NewValue, Options, PartitionSet, Snapshot, SnapshotError, Store};
use std::path::Path;
use std::time::Duration;

const ID: PartitionId = PartitionId(0);
const SOON: Duration = Duration::from_secs(30);
const NOW: i64 = 1_700_000_000_000;

fn open(folder: &Path) -> Store {
    Store::open(folder, 1, 1, Options::default()).expect("opens")
}

fn set(store: &Store, name: &str, value: &[u8]) {
    let mut transaction = store.transaction(&PartitionSet::One(ID), NOW);
    let meta = NewValue { kind: Kind::String, encoding: 0, expire_at: None, due_at: None, items: None };
    transaction.put(&Key::new(0, name.as_bytes()), meta, &[value]).expect("puts");
    store.flush(transaction.commit()).expect("flushes");
}

/// A store elsewhere, with 12 MB in it.
fn primary() -> (Store, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("the system has room for a folder");
    let store = open(&folder.path().join("data"));
    (0..400_u32).for_each(|number| set(&store, &number.to_string(), &vec![number as u8; 30_000]));
    (store, folder)
}

fn places() -> [Place; 2] {
    [Place::tmpfs("192m", 1000), Place::ext4("192M")]
}

fn assert_no_room<T>(result: Result<T, SnapshotError>) {
    match result.err() {
        Some(SnapshotError::NoRoom(reason)) => {
            assert!(reason.to_lowercase().contains("no space left"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

fn files_in(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

#[test]
fn a_replica_without_room_refuses_a_snapshot_and_one_that_was_begun_has_its_room() {
    let (primary, _folder) = primary();
    let snapshot = primary.take_snapshot(ID).expect("is taken");
    for place in places() {
        let data = place.data().join("larder");
        let replica = open(&data);
        set(&replica, "own", b"value");
        replica.set_primary(ID, false);
        let before = (replica.point(ID), replica.digest(ID).expect("reads"));
        place.fill();
        assert_no_room(replica.receive_snapshot(snapshot.offer()));
        assert_eq!(files_in(&data.join("incoming/0000")), 0, "nothing is left of it");
        place.clear();
        let mut incoming = received(&replica, &snapshot);
        carry(&snapshot, &mut incoming, snapshot.bytes / 3);
        place.fill();
        carry(&snapshot, &mut incoming, snapshot.bytes);
        incoming.finish().expect("is whole");
        match replica.install_snapshot(incoming, None) {
            Ok(point) => assert_eq!(point, snapshot.point),
            // The checksums of its pages need some room, too.
            Err(error) => {
                assert!(error.to_string().to_lowercase().contains("no space left"), "{error}");
                assert_eq!((replica.point(ID), replica.digest(ID).expect("reads")), before);
            }
        }
        place.clear();
        let mut incoming = received(&replica, &snapshot);
        carry(&snapshot, &mut incoming, snapshot.bytes);
        replica.install_snapshot(incoming, None).expect("is installed");
        assert_eq!(replica.digest(ID).ok(), primary.digest(ID).ok());
        drop(replica);
        assert_eq!(open(&data).digest(ID).ok(), primary.digest(ID).ok(), "after a restart");
    }
}

/// A file system may take a moment to give room back.
fn received(replica: &Store, snapshot: &Snapshot) -> larder::store::IncomingSnapshot {
    let mut found = None;
    wait_until("there is room", SOON, || match replica.receive_snapshot(snapshot.offer()) {
        Ok(incoming) => found.replace(incoming).is_none(),
        Err(SnapshotError::NoRoom(_)) => false,
        Err(error) => panic!("{error:?}"),
    });
    found.expect("that was waited for")
}

fn carry(snapshot: &Snapshot, incoming: &mut larder::store::IncomingSnapshot, most: u64) {
    while incoming.offset() < most {
        let part = snapshot.read(incoming.offset(), 100_000).expect("reads");
        incoming.write(incoming.offset(), &part).expect("its room is reserved");
    }
}

#[test]
fn a_primary_without_room_takes_no_snapshot_and_leaves_nothing_behind() {
    for place in places() {
        let data = place.data().join("larder");
        let store = open(&data);
        (0..400_u32).for_each(|number| set(&store, &number.to_string(), &vec![number as u8; 30_000]));
        store.checkpoint_now().expect("there is room");
        place.fill();
        assert_no_room(store.take_snapshot(ID));
        assert_eq!(files_in(&data.join("snapshots")), 0);
        place.clear();
        let mut taken = None;
        wait_until("there is room", SOON, || {
            taken = store.take_snapshot(ID).ok();
            taken.is_some()
        });
        let snapshot = taken;
        assert_eq!(files_in(&data.join("snapshots")), 1);
        drop(snapshot);
        assert_eq!(files_in(&data.join("snapshots")), 0);
    }
}
