//! Two stores in temporary folders: what one has taken the other installs.

use super::*;
use crate::base::ids::Lsn;
use crate::store::model_tests::{self, DATABASES, Databases, Model, NOW};
use crate::store::tree::scan;
use crate::store::{Key, Options, PartitionSet, Store};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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

fn get(store: &Store, name: &[u8]) -> Option<Vec<u8>> {
    let key = Key::new(0, name);
    let mut view = store.view(&PartitionSet::One(store.partition_of(key.slot)), NOW);
    view.get(&key).expect("reads").map(|entry| entry.payload().to_vec())
}

/// Takes a snapshot here and carries it there. Returns it and what came of it.
fn send(from: &Store, to: &Store, id: PartitionId) -> (Snapshot, IncomingSnapshot) {
    let snapshot = from.take_snapshot(id).expect("is taken");
    let mut incoming = to.receive_snapshot(snapshot.offer()).expect("is received");
    carry(&snapshot, &mut incoming, u64::MAX);
    (snapshot, incoming)
}

/// Installs it as a replica does. Afterwards the store takes changes again.
fn install(
    store: &Store,
    incoming: IncomingSnapshot,
    keep_old: Option<&Path>,
) -> Result<Point, SnapshotError> {
    let id = incoming.offer().partition;
    store.set_primary(id, false);
    let installed = store.install_snapshot(incoming, keep_old);
    assert!(!store.partitions[usize::from(id.0)].lock().is_primary, "that changes nothing of its part");
    store.set_primary(id, true);
    installed
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
                let point = install(replica.store(), incoming, None).expect("is installed");
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
fn a_snapshot_that_nobody_has_any_more_is_removed() {
    let place = Place::new();
    set(place.store(), b"key", b"value");
    let id = ids().find(|id| place.store().point(*id).lsn > Lsn(0)).expect("one was written to");
    let first = place.store().take_snapshot(id).expect("is taken");
    let second = first.clone();
    drop(first);
    assert_eq!(std::fs::read_dir(place.path("snapshots")).expect("is there").count(), 1);
    assert_eq!(second.read(second.bytes - 10, 100).expect("reads").len(), 10);
    let number = second.id;
    drop(second);
    assert_eq!(std::fs::read_dir(place.path("snapshots")).expect("is there").count(), 0);
    let third = place.store().take_snapshot(id).expect("is taken");
    assert!(third.id != number && third.point != Point::default());
}

/// Keys of one partition, in order.
fn names_in(id: PartitionId, count: usize) -> Vec<Vec<u8>> {
    let names = (0_u32..).map(|number| number.to_be_bytes().to_vec());
    let is_there = |name: &Vec<u8>| PartitionId::of(Key::new(0, name).slot, PARTITIONS) == id;
    names.filter(is_there).take(count).collect()
}

/// A primary whose first partition has some pages of rows, long values among them.
fn primary_with_pages() -> (Place, PartitionId) {
    let (place, id) = (Place::new(), PartitionId(0));
    for (number, name) in names_in(id, 60).iter().enumerate() {
        set(place.store(), name, &vec![number as u8; if number % 5 == 0 { 9000 } else { 300 }]);
    }
    (place, id)
}

#[test]
fn a_transfer_goes_on_where_it_was_after_a_restart_and_begins_anew_for_another_snapshot() {
    let ((primary, id), mut replica) = (primary_with_pages(), Place::new());
    let snapshot = primary.store().take_snapshot(id).expect("is taken");
    let mut incoming = replica.store().receive_snapshot(snapshot.offer()).expect("is received");
    carry(&snapshot, &mut incoming, snapshot.bytes / 2);
    let offset = incoming.offset();
    assert!(matches!(replica.store().receive_snapshot(snapshot.offer()), Err(SnapshotError::Busy(_))));
    assert!(matches!(incoming.write(offset + 1, b"later"), Err(SnapshotError::Refused(_))));
    let too_much = vec![0; (snapshot.bytes - offset) as usize + 1];
    assert!(matches!(incoming.write(offset, &too_much), Err(SnapshotError::Refused(_))));
    assert!(matches!(incoming.finish(), Err(SnapshotError::Refused(_))), "not all came");
    drop(incoming);
    replica.reopen();
    assert_eq!(replica.store().interrupted_snapshot(id), Some((snapshot.offer(), offset)));
    let mut incoming = replica.store().receive_snapshot(snapshot.offer()).expect("goes on");
    assert_eq!(incoming.offset(), offset);
    carry(&snapshot, &mut incoming, u64::MAX);
    drop(incoming);
    // Of another one nothing is there.
    let other = SnapshotOffer { id: snapshot.id ^ 1, ..snapshot.offer() };
    assert_eq!(replica.store().receive_snapshot(other).expect("begins").offset(), 0);
}

#[test]
fn a_byte_that_changed_on_the_way_or_on_the_disk_is_refused() {
    let ((primary, id), replica) = (primary_with_pages(), Place::new());
    let snapshot = primary.store().take_snapshot(id).expect("is taken");
    let whole = snapshot.read(0, usize::MAX).expect("reads");
    let path = replica.path("flipped");
    let scan = |bytes: &[u8], expected| {
        std::fs::write(&path, bytes).expect("room for a file");
        scan(&path, expected)
    };
    assert!(scan(&whole, snapshot.offer().copied()).is_ok());
    let mut random = StdRng::seed_from_u64(1);
    for _ in 0..300 {
        let mut bytes = whole.clone();
        let at = random.random_range(0..bytes.len());
        bytes[at] ^= 1 << random.random_range(0..8);
        assert!(scan(&bytes, snapshot.offer().copied()).is_err(), "byte {at}");
        // With a checksum that fits, what leads nowhere is still refused; nothing panics.
        let checksum = crc32c::crc32c(&bytes);
        let _ = scan(&bytes, Copied { checksum, ..snapshot.offer().copied() });
    }
    for len in [0, 1, 4096, 8192, whole.len() - 4096, whole.len() - 1] {
        let cut = Copied { bytes: len as u64, checksum: crc32c::crc32c(&whole[..len]) };
        assert!(scan(&whole[..len], cut).is_err(), "cut to {len} bytes");
    }
    // After that the next attempt begins anew, and succeeds.
    let mut incoming = replica.store().receive_snapshot(snapshot.offer()).expect("is received");
    carry(&snapshot, &mut incoming, snapshot.bytes - CHUNK as u64);
    let last = whole[incoming.offset() as usize..].iter().map(|byte| !byte).collect::<Vec<_>>();
    incoming.write(incoming.offset(), &last).expect("is the next part");
    assert!(matches!(incoming.finish(), Err(SnapshotError::Refused(_))));
    drop(incoming);
    let mut incoming = replica.store().receive_snapshot(snapshot.offer()).expect("begins anew");
    assert_eq!(incoming.offset(), 0);
    carry(&snapshot, &mut incoming, u64::MAX);
    install(replica.store(), incoming, None).expect("is installed");
    assert_eq!(replica.store().digest(id).ok(), primary.store().digest(id).ok());
}

#[test]
fn a_damaged_page_is_not_sent() {
    let (primary, id) = primary_with_pages();
    drop(primary.store().take_snapshot(id).expect("is whole"));
    let path = primary.path("partitions/0000/data.mdb");
    let whole = std::fs::read(&path).expect("reads");
    let file = std::fs::File::options().write(true).open(&path).expect("is ours");
    let mut refused = 0;
    for page in 2..whole.len() / 4096 {
        let at = page * 4096 + 3000;
        file.write_all_at(&[whole[at] ^ 1], at as u64).expect("is ours");
        if let Err(error) = primary.store().take_snapshot(id) {
            assert!(error.to_string().contains("is not what was written"), "{error}");
            refused += 1;
        }
        file.write_all_at(&whole[at..=at], at as u64).expect("is ours");
    }
    assert!(refused > 20, "{refused} pages are in use");
    assert_eq!(std::fs::read_dir(primary.path("snapshots")).expect("is there").count(), 0);
    primary.store().take_snapshot(id).expect("is whole again");
}

#[test]
fn what_the_disk_has_no_room_for_is_refused_in_words() {
    let place = Place::new();
    let point = Point::default();
    let offer = SnapshotOffer { id: 1, partition: PartitionId(0), point, bytes: 1 << 60, checksum: 0 };
    match place.store().receive_snapshot(offer).err() {
        Some(SnapshotError::NoRoom(reason)) => assert!(reason.contains("no space left"), "{reason}"),
        other => panic!("{other:?}"),
    }
    let offer = SnapshotOffer { partition: PartitionId(PARTITIONS), bytes: 8192, ..offer };
    assert!(matches!(place.store().receive_snapshot(offer), Err(SnapshotError::Refused(_))));
}

#[test]
fn watchers_learn_of_it_and_the_old_tree_is_kept() {
    let ((primary, id), replica) = (primary_with_pages(), Place::new());
    let name = &names_in(id, 1)[0];
    set(replica.store(), name, b"old");
    replica.store().checkpoint_now().expect("checkpoints");
    let (_, incoming) = send(primary.store(), replica.store(), id);
    let refused = replica.store().install_snapshot(incoming, None);
    assert!(matches!(refused, Err(SnapshotError::Busy(_))), "not where this node is primary");
    let flag = crate::store::WatchFlag::default();
    replica.store().view(&PartitionSet::One(id), NOW).watch(&Key::new(0, name), &flag);
    let (_, incoming) = send(primary.store(), replica.store(), id);
    let kept = replica.path("lost/1/0000");
    install(replica.store(), incoming, Some(&kept)).expect("is installed");
    assert!(flag.load(std::sync::atomic::Ordering::Relaxed));
    assert!(kept.join("data.mdb").exists() && !kept.join("keep").exists());
    assert_eq!(get(replica.store(), name), get(primary.store(), name));
    // The same name again: the second is kept beside the first.
    let (_, incoming) = send(primary.store(), replica.store(), id);
    install(replica.store(), incoming, Some(&kept)).expect("is installed");
    assert_eq!(std::fs::read_dir(replica.path("lost/1")).expect("is there").count(), 2);
}

#[test]
fn whoever_reads_meanwhile_sees_the_old_rows_or_the_new_ones() {
    const COUNT: usize = 200;
    for fetch_beyond_bytes in [0, u64::MAX] {
        let (primary, id) = (Place::new(), PartitionId(1));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let options = Options { fetch_beyond_bytes, ..Options::default() };
        let replica = Store::open(folder.path(), PARTITIONS, DATABASES, options).expect("opens");
        let names = names_in(id, COUNT);
        names.iter().for_each(|name| set(&replica, name, b"0"));
        replica.checkpoint_now().expect("checkpoints");
        let (done, seen) = (AtomicBool::new(false), AtomicUsize::new(usize::MAX));
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    replica.partitions[1].lock().sweep(10_000, |_| true);
                    let mut read = || {
                        let mut view = replica.view(&PartitionSet::One(id), NOW);
                        let read = |name: &Vec<u8>| {
                            Ok(view.get(&Key::new(0, name))?.map(|entry| entry.payload().to_vec()))
                        };
                        names.iter().map(read).collect::<Result<Vec<_>, crate::store::Interrupt>>()
                    };
                    let values = replica.until_fetched(&mut read).expect("reads");
                    assert!(values.iter().all(|value| *value == values[0]), "a mixture");
                    let value = values[0].as_deref().and_then(|value| std::str::from_utf8(value).ok());
                    seen.store(value.map_or(0, |value| value.parse().expect("a number")), Ordering::Release);
                }
            });
            let await_read = |round: usize| {
                while seen.load(Ordering::Acquire) != round {
                    assert!(!reader.is_finished(), "the reader has ended");
                    std::thread::yield_now();
                }
            };
            await_read(0);
            for round in 1..6 {
                names.iter().for_each(|name| set(primary.store(), name, round.to_string().as_bytes()));
                let (_, incoming) = send(primary.store(), &replica, id);
                install(&replica, incoming, None).expect("is installed");
                await_read(round);
            }
            done.store(true, Ordering::Release);
        });
    }
}

#[test]
fn a_copy_has_as_many_pages_as_the_one_that_lmdb_makes() {
    let (primary, id) = primary_with_pages();
    for round in 0..5_u8 {
        names_in(id, 40).iter().for_each(|name| set(primary.store(), name, &[round; 700]));
        let snapshot = primary.store().take_snapshot(id).expect("is taken");
        let path = primary.path("copy.mdb");
        primary.store().tree(0).copy_by_lmdb(&path);
        assert_eq!(std::fs::metadata(path).expect("is there").len(), snapshot.bytes);
    }
}

#[test]
fn a_replica_stays_one_when_a_snapshot_takes_its_partition_s_place() {
    let (primary, replica) = (Place::new(), Place::new());
    ids().for_each(|id| replica.store().set_primary(id, false));
    for number in 0..40_u8 {
        let expire_at = Some(NOW + 10);
        let model = Model { payload: vec![number], expire_at, ..Model::default() };
        model_tests::put(primary.store(), 0, &[number], &model);
    }
    for id in ids() {
        let (_, incoming) = send(primary.store(), replica.store(), id);
        replica.store().install_snapshot(incoming, None).expect("is installed");
    }
    let late = NOW + 1000;
    let change = |store: &Store, name: &[u8]| {
        let key = Key::new(0, name);
        let mut transaction = store.transaction(&PartitionSet::One(store.partition_of(key.slot)), late);
        transaction.remove(&key).expect("reads");
        transaction.admit(false).map(|()| transaction.commit())
    };
    let expired = |store: &Store| -> u64 {
        ids().map(|id| store.expire(id, late, 100, |_, _, _| Ok(0)).expect("reads").keys).sum()
    };
    assert!(matches!(change(replica.store(), &[1]), Err(crate::store::Interrupt::NotPrimary)));
    let evicted = replica.store().evict(0, crate::store::Policy::AllKeysRandom, 5, (10, 0), late);
    assert_eq!((evicted.expect("reads").keys, expired(replica.store())), (0, 0));
    assert_eq!(digests(replica.store()), digests(primary.store()));

    ids().for_each(|id| replica.store().set_primary(id, true));
    assert!(change(replica.store(), &[1]).expect("it is primary now") > 0);
    assert_eq!(expired(replica.store()), 39);
}

#[test]
fn changes_with_a_concern_mark_their_partitions_until_these_are_given_up() {
    use crate::base::concern::WriteConcern;
    let place = Place::new();
    let store = place.store();
    let (one, other) = (Key::new(0, b"a"), Key::new(0, b"b"));
    let (at, elsewhere) = (store.partition_of(one.slot), store.partition_of(other.slot));
    assert_ne!(at, elsewhere, "of two partitions only one is changed");
    let both = PartitionSet::of([at, elsewhere].into_iter().collect());
    let mut transaction = store.transaction(&both, NOW);
    let meta = crate::store::NewValue {
        kind: crate::store::Kind::String,
        encoding: 0,
        expire_at: None,
        due_at: None,
        items: None,
    };
    transaction.put(&one, meta, &[b"x"]).expect("in memory");
    let mut changed = Vec::new();
    let position =
        transaction.commit_guarded(WriteConcern::Majority, |id, position| changed.push((id, position)));
    drop(transaction); // its locks are held on after a commit
    assert_eq!(changed, [(at, position)]);
    let guarded = || store.view(&both, NOW).guarded().collect::<Vec<_>>();
    assert_eq!(guarded(), [(at, [0, position, 0])]);
    set(store, b"a", b"y");
    assert_eq!(guarded(), [(at, [0, position, 0])], "a change without a concern moves no mark");
    store.set_primary(at, false);
    assert_eq!(guarded(), []);
}
