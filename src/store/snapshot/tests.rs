//! Two stores in temporary folders: what one has taken the other installs.

use super::*;
use crate::base::ids::Lsn;
use crate::store::Store;
use crate::store::model_tests::{self, DATABASES, Databases, Model};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

const PARTITIONS: u16 = 4;
const CHUNK: usize = 3000;

/// A store in a folder of its own.
struct Place {
    store: Option<Store>,
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Place { store: Some(model_tests::open(folder.path())), folder }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("it is open")
    }

    /// Closed without a checkpoint, and opened again.
    fn reopen(&mut self) {
        self.store = None;
        self.store = Some(model_tests::open(self.folder.path()));
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }
}

fn ids() -> impl Iterator<Item = PartitionId> {
    (0..PARTITIONS).map(PartitionId)
}

fn digests(store: &Store) -> Vec<(Point, u64)> {
    ids().map(|id| (store.point(id), store.digest(id).expect("reads"))).collect()
}

fn set(store: &Store, name: &[u8], value: &[u8]) {
    model_tests::put(store, 0, name, &Model { payload: value.to_vec(), ..Model::default() });
}

/// Takes a snapshot here and carries it there. Returns it and what came of it.
fn send(from: &Store, to: &Store, id: PartitionId) -> (Snapshot, IncomingSnapshot) {
    let snapshot = from.take_snapshot(id).expect("is taken");
    let mut incoming = to.receive_snapshot(snapshot.offer()).expect("is received");
    carry(&snapshot, &mut incoming, u64::MAX);
    (snapshot, incoming)
}

/// Carries what is missing, up to `most` bytes of the snapshot.
fn carry(snapshot: &Snapshot, incoming: &mut IncomingSnapshot, most: u64) {
    while incoming.offset() < snapshot.bytes.min(most) {
        let part = snapshot.read(incoming.offset(), CHUNK).expect("reads");
        incoming.write(incoming.offset(), &part).expect("is the next part");
    }
}

/// Gives the replica what the primary's journal has from `position` on.
fn follow(primary: &Store, replica: &Store, position: u64) {
    let mut payloads = Vec::new();
    let mut cursor = primary.cursor(position).expect("it has a journal");
    while cursor
        .read(primary.written_position(), 1 << 16, &mut |_, payload| payloads.push(payload.to_vec()))
        .expect("reads")
    {}
    for payload in payloads {
        replica.flush(replica.apply(&payload).expect("continues")).expect("writes");
    }
}

#[test]
fn a_replica_made_of_snapshots_and_the_tail_is_equal_to_its_primary() {
    for seed in 0..3 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut model: Databases = vec![BTreeMap::new(); usize::from(DATABASES)];
        let (mut primary, mut replica) = (Place::new(), Place::new());
        for round in 0..4 {
            let steps = |store: &Store, model: &mut Databases, random: &mut StdRng| {
                (0..random.random_range(0..120)).for_each(|_| model_tests::step(store, model, random));
            };
            steps(primary.store(), &mut model, &mut random);
            // What the replica holds is of another history, as far as it holds anything.
            if random.random_bool(0.5) {
                let mut other = vec![BTreeMap::new(); usize::from(DATABASES)];
                (0..50).for_each(|_| model_tests::step(replica.store(), &mut other, &mut random));
            }
            let mut from = u64::MAX;
            for id in ids() {
                let (snapshot, incoming) = send(primary.store(), replica.store(), id);
                steps(primary.store(), &mut model, &mut random);
                let point = replica.store().install_snapshot(incoming, None).expect("is installed");
                assert_eq!((point, replica.store().point(id)), (snapshot.point, snapshot.point));
                from = from.min(snapshot.position);
            }
            if random.random_bool(0.3) {
                replica.reopen();
            }
            follow(primary.store(), replica.store(), from);
            if random.random_bool(0.3) {
                replica.reopen();
            }
            assert_eq!(digests(replica.store()), digests(primary.store()), "seed {seed}, round {round}");
            model_tests::check(replica.store(), &model);
            replica.store().checkpoint_now().expect("checkpoints");
            for id in ids() {
                while replica.store().collect_garbage(id, 1000).expect("collects") {}
            }
            model_tests::check(replica.store(), &model);
            primary.reopen();
        }
        replica.reopen();
        replica.store().check_trees(&AtomicBool::new(false)).expect("are whole");
        assert_eq!(digests(replica.store()), digests(primary.store()));
        for folder in ["snapshots", "incoming/0000", "incoming/0003"] {
            assert_eq!(std::fs::read_dir(replica.path(folder)).map_or(0, Iterator::count), 0, "{folder}");
        }
        assert_eq!(std::fs::read_dir(primary.path("snapshots")).expect("is there").count(), 0);
        assert_eq!(std::fs::read_dir(replica.path("partitions")).expect("is there").count(), 4);
    }
}

#[test]
fn a_second_request_shares_the_snapshot_and_the_last_one_removes_it() {
    let place = Place::new();
    set(place.store(), b"key", b"value");
    let id = ids().find(|id| place.store().point(*id).lsn > Lsn(0)).expect("one was written to");
    let first = place.store().take_snapshot(id).expect("is taken");
    set(place.store(), b"key", b"other");
    let second = place.store().take_snapshot(id).expect("is taken");
    assert_eq!((second.id, second.point), (first.id, first.point));
    assert_eq!(std::fs::read_dir(place.path("snapshots")).expect("is there").count(), 1);
    drop(first);
    assert!(place.store().snapshot(id, second.id).is_some());
    assert_eq!(second.read(second.bytes - 10, 100).expect("reads").len(), 10);
    let number = second.id;
    drop(second);
    assert!(place.store().snapshot(id, number).is_none());
    assert_eq!(std::fs::read_dir(place.path("snapshots")).expect("is there").count(), 0);
    let third = place.store().take_snapshot(id).expect("is taken");
    assert!(third.id != number && third.point != Point::default());
}
