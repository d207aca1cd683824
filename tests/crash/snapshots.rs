//! The process dies at every point of a snapshot's way from one store into another: each partition then holds what it held, or
//! what the snapshot holds, and a second attempt succeeds.

use crate::times;
use larder::base::crash_point;
use larder::base::ids::PartitionId;
use larder::store::{Key, Kind, NewValue, Options, PartitionSet, Store};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

const PARTITIONS: u16 = 4;
const KEYS: u32 = 400;
const NOW: i64 = 1_700_000_000_000;
/// Where the process that is to die finds its stores.
const FOLDER: &str = "LARDER_CRASH_SNAPSHOTS";
/// Points that are not the snapshot's own, but that its tree passes before it is in its place.
const OTHERS: [&str; 3] = ["checkpoint-before-commit", "checkpoint-after-commit", "checkpoint-recorded"];

#[test]
fn a_snapshot_is_there_whole_or_not_at_all_wherever_the_process_dies() {
    if let Ok(folder) = std::env::var(FOLDER) {
        crash_point::arm();
        return carry_all(Path::new(&folder));
    }
    for round in 0..times() {
        for (index, point) in crash_point::SNAPSHOTS.into_iter().chain(OTHERS).enumerate() {
            die(point, (round + index) % usize::from(PARTITIONS));
        }
    }
}

fn open(folder: &Path, name: &str) -> Store {
    Store::open(&folder.join(name), PARTITIONS, 2, Options::default()).expect("opens")
}

fn ids() -> impl Iterator<Item = PartitionId> {
    (0..PARTITIONS).map(PartitionId)
}

fn set(store: &Store, name: &str, value: &[u8]) {
    let key = Key::new(0, name.as_bytes());
    let mut transaction = store.transaction(&PartitionSet::One(store.partition_of(key.slot)), NOW);
    let meta =
        NewValue { kind: Kind::String, encoding: 0, expire_at: Some(NOW + 1000), due_at: None, items: None };
    transaction.put(&key, meta, &[value]).expect("puts");
    transaction.commit();
}

fn fill(store: &Store, byte: u8) {
    (0..KEYS).for_each(|number| set(store, &number.to_string(), &[byte; 500]));
    store.checkpoint_now().expect("checkpoints");
}

/// Carries a snapshot of each partition from one store into the other. Dies in between, if it is to.
fn carry_all(folder: &Path) {
    let (primary, replica) = (open(folder, "primary"), open(folder, "replica"));
    set(&replica, "not yet synced", b"other");
    for id in ids() {
        let snapshot = primary.take_snapshot(id).expect("is taken");
        let mut incoming = replica.receive_snapshot(snapshot.offer()).expect("is received");
        let part = snapshot.read(incoming.offset(), 10_000).expect("reads");
        incoming.write(incoming.offset(), &part).expect("is the next part");
        drop(incoming);
        let mut incoming = replica.receive_snapshot(snapshot.offer()).expect("goes on");
        assert!(incoming.offset() >= 10_000);
        let rest = snapshot.read(incoming.offset(), usize::MAX).expect("reads");
        incoming.write(incoming.offset(), &rest).expect("is the rest");
        let kept = replica_folder(folder).join(format!("lost/1/{id}"));
        replica.set_primary(id, false);
        replica.install_snapshot(incoming, (id.0 % 2 == 0).then_some(&*kept)).expect("is installed");
    }
}

fn replica_folder(folder: &Path) -> std::path::PathBuf {
    folder.join("replica")
}

fn run(folder: &Path, failpoints: &str) -> ExitStatus {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args(["--exact", "snapshots::a_snapshot_is_there_whole_or_not_at_all_wherever_the_process_dies"]);
    command.env(FOLDER, folder).env("FAILPOINTS", failpoints).stdout(std::process::Stdio::null());
    command.status().expect("this program runs")
}

fn die(point: &str, passed: usize) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    fill(&open(folder, "primary"), b'n');
    fill(&open(folder, "replica"), b'o');
    let status = run(folder, &format!("{point}={passed}*off->return"));
    assert_eq!(status.signal(), Some(6), "{point} was not reached: {status}");
    let new = check(folder, point);
    eprintln!("{point} after {passed} passes: {new} of {PARTITIONS} partitions are new");
    assert!(run(folder, "").success(), "{point}: the second attempt fails");
    assert_eq!(check(folder, point), PARTITIONS, "{point}");
    let kept = std::fs::read_dir(replica_folder(folder).join("lost/1")).expect("old trees were kept");
    assert!(kept.count() >= 2, "{point}: every other old tree is kept");
}

/// Fails unless each partition of the replica is old or new, whole. Returns how many are new.
fn check(folder: &Path, point: &str) -> u16 {
    let (primary, replica) = (open(folder, "primary"), open(folder, "replica"));
    let mut new = 0;
    for id in ids() {
        let mut view = replica.view(&PartitionSet::One(id), NOW);
        let names = (0..KEYS).map(|number| number.to_string());
        let values: Vec<Vec<u8>> = names
            .map(|name| name.into_bytes())
            .filter(|name| replica.partition_of(Key::new(0, name).slot) == id)
            .map(|name| {
                let entry = view.get(&Key::new(0, &name)).expect("reads");
                entry.unwrap_or_else(|| panic!("{point}: a key is missing")).payload().to_vec()
            })
            .collect();
        drop(view);
        let first = values[0][0];
        assert!(values.iter().all(|value| *value == [first; 500]), "{point}: a mixture");
        if first == b'n' {
            assert_eq!(replica.digest(id).ok(), primary.digest(id).ok(), "{point}");
            assert_eq!(replica.point(id), primary.point(id), "{point}");
            new += 1;
        }
    }
    for data in ["primary/snapshots", "replica/snapshots"] {
        let left = std::fs::read_dir(folder.join(data)).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{point}: a start empties {data}");
    }
    new
}
