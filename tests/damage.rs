//! Damaged bytes: one byte anywhere in a data folder is changed, or a file cut or lost. What the store serves then is what was
//! written, or an error that says what to do; never anything else.
//!
//! `LARDER_DAMAGES=N` tries N damages of each kind of file instead of the few of the default; `LARDER_SEED=N` makes other choices.

use larder::base::ids::Slot;
use larder::store::repair;
use larder::store::{
    Interrupt, Items, Key, Kind, NewValue, Options, PartitionSet, Store, SyncMode, items_after,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

const PARTITIONS: u16 = 2;
const DATABASES: u16 = 2;
const NOW: i64 = 1_000_000;
/// The seed, if `LARDER_SEED` names no other.
const FIRST_SEED: u64 = 1_000_000;

/// Name → payload and items.
type Contents = BTreeMap<Vec<u8>, (Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>)>;

fn open(folder: &Path) -> Result<Store, String> {
    let options = Options { sync: SyncMode::Never, ..Options::default() };
    Store::open(folder, PARTITIONS, DATABASES, options).map_err(|error| error.to_string())
}

fn put(store: &Store, name: &[u8], payload: &[u8], items: u8) {
    let key = Key::new(0, name);
    let mut transaction = store.transaction(&PartitionSet::One(store.partition_of(key.slot)), NOW);
    transaction.wait_for_disk();
    let mut meta = NewValue { kind: Kind::Hash, encoding: 1, expire_at: None, due_at: None, items: None };
    if items > 0 {
        let uid = transaction.new_uid(&key);
        let empty = Items { uid, bytes: 0 };
        let grown = (0..items).map(|i| transaction.put_new_item(&key, uid, &[i; 20], &[&[i; 300]])).sum();
        meta.items = Some(items_after(empty, grown));
    }
    transaction.put(&key, meta, &[payload]).expect("puts");
    let position = transaction.commit();
    store.flush(position).expect("flushes");
}

/// A folder with several checkpoints behind it, and more in the journal. Returns what it holds.
fn fill(folder: &Path, random: &mut StdRng) -> Contents {
    let store = open(folder).expect("opens");
    for round in 0..4_u8 {
        for number in 0..120_u32 {
            let name = format!(
                "key:{}:{}",
                random.random_range(0..u32::from(round) * 40 + 40),
                "x".repeat(number as usize)
            );
            let payload = vec![random.random(); if number % 40 == 0 { 6_000 } else { 60 }];
            put(&store, name.as_bytes(), &payload, if number % 10 == 0 { 30 } else { 0 });
        }
        if round < 3 {
            store.checkpoint_now().expect("checkpoints");
        }
    }
    store.sync().expect("syncs");
    read(&store).expect("reads")
}

/// Everything there is, read by walking and again key by key.
fn read(store: &Store) -> Result<Contents, Interrupt> {
    let mut view = store.view(&PartitionSet::All, NOW);
    view.wait_for_disk();
    let mut names = Vec::new();
    view.visit_keys(0, (Slot(0), 0), &mut |_, name, _| {
        names.push(name.to_vec());
        ControlFlow::Continue(())
    })?;
    let mut contents = Contents::new();
    for name in names {
        let key = Key::new(0, &name);
        let entry = view.get(&key)?.expect("what the walk found is there");
        let mut items = BTreeMap::new();
        if let Some(found) = entry.items() {
            view.visit_items(&key, found.uid, &[], &mut |suffix, value| {
                items.insert(suffix.to_vec(), value.to_vec());
                ControlFlow::Continue(())
            })?;
        }
        contents.insert(name.clone(), (entry.payload().to_vec(), items));
    }
    Ok(contents)
}

/// Point reads alone, in an order of their own: no walk has checked the pages before.
fn read_points(store: &Store, expected: &Contents, random: &mut StdRng) {
    let mut names: Vec<&Vec<u8>> = expected.keys().collect();
    for _ in 0..40 {
        let name = names.swap_remove(random.random_range(0..names.len()));
        let key = Key::new(0, name);
        let mut view = store.view(&PartitionSet::One(store.partition_of(key.slot)), NOW);
        view.wait_for_disk();
        match view.get(&key) {
            Ok(entry) => {
                let entry = entry.unwrap_or_else(|| panic!("{} is missing", name.escape_ascii()));
                assert_eq!(entry.payload(), expected[name].0, "{}", name.escape_ascii());
            }
            Err(error) => assert_says_what_to_do(&format!("{error:?}")),
        }
    }
}

fn assert_says_what_to_do(text: &str) {
    assert!(text.contains("Restore") || text.contains("restore"), "no word about what to do: {text}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("makes a folder");
    for entry in std::fs::read_dir(from).expect("lists").map(|entry| entry.expect("lists").path()) {
        let target = to.join(entry.file_name().expect("has a name"));
        if entry.is_dir() {
            copy(&entry, &target);
        } else {
            std::fs::copy(&entry, &target).expect("copies");
        }
    }
}

/// What came of a damage.
#[derive(Default, Debug)]
struct Outcomes {
    /// The store does not open.
    refused: u32,
    /// It opens, and says what is damaged when asked for it.
    found: u32,
    /// Everything is there: the byte was in no use, or was repaired.
    whole: u32,
    /// A repair could do nothing, and said so.
    beyond_repair: u32,
    /// Of the keys written, those that were the same after the repairs.
    kept: u64,
    written: u64,
}

/// Damages a copy of `folder` by `damage` and looks what comes of it.
fn try_damage(
    folder: &Path,
    expected: &Contents,
    seed: u64,
    outcomes: &mut Outcomes,
    damage: impl FnOnce(&Path),
) {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let damaged = scratch.path().join("data");
    copy(folder, &damaged);
    damage(&damaged);
    let store = match open(&damaged) {
        Ok(store) => store,
        Err(text) => {
            assert_says_what_to_do(&text);
            outcomes.refused += 1;
            repair_and_check(&damaged, expected, outcomes);
            return;
        }
    };
    read_points(&store, expected, &mut StdRng::seed_from_u64(seed));
    let by_walking = read(&store);
    let checked = store.check_trees(&AtomicBool::new(false));
    if checked.is_err() {
        drop(store);
        assert!(
            by_walking.as_ref().map_or(true, |contents| contents == expected),
            "something else was served"
        );
        by_walking.err().into_iter().for_each(|error| assert_says_what_to_do(&format!("{error:?}")));
        assert!(open(&damaged).expect("opens still").check_trees(&AtomicBool::new(false)).is_err());
        outcomes.found += 1;
        return repair_and_check(&damaged, expected, outcomes);
    }
    assert!(by_walking.expect("all is whole") == *expected, "something else was served");
    outcomes.whole += 1;
    goes_on(store, &damaged, expected);
}

/// It works, and nothing is lost at the next start.
fn goes_on(store: Store, folder: &Path, expected: &Contents) {
    put(&store, b"another", b"value", 3);
    drop(store);
    // From the journal first, then from the tree.
    for _ in 0..2 {
        let store = open(folder).expect("opens again");
        let mut contents = read(&store).expect("reads");
        assert!(contents.remove(&b"another"[..]).is_some() && contents == *expected);
        store.checkpoint_now().expect("checkpoints");
    }
}

/// After a repair the store opens and is whole; every key it has is as it was written at some time.
fn repair_and_check(folder: &Path, expected: &Contents, outcomes: &mut Outcomes) {
    let mut lines = Vec::new();
    if let Err(error) = repair::repair(folder, &mut |line| lines.push(line.to_owned())) {
        assert!(error.to_string().contains("copy"), "{error}: {lines:?}");
        outcomes.beyond_repair += 1;
        return;
    }
    let store = open(folder).unwrap_or_else(|error| panic!("{error} after {lines:?}"));
    store.check_trees(&AtomicBool::new(false)).expect("is whole");
    let contents = read(&store).expect("reads");
    assert_eq!(store.counters(0).keys, contents.len() as u64, "{lines:?}");
    assert!(contents.keys().all(|name| expected.contains_key(name)), "nothing is invented");
    outcomes.kept += contents.iter().filter(|(name, value)| expected[*name] == **value).count() as u64;
    outcomes.written += expected.len() as u64;
    goes_on(store, folder, &contents);
    repair::check(folder, &mut |_| ()).expect("is whole");
}

fn damages() -> u32 {
    std::env::var("LARDER_DAMAGES").map_or(60, |text| text.parse().expect("a number"))
}

fn seed() -> u64 {
    let seed = std::env::var("LARDER_SEED").map_or(FIRST_SEED, |text| text.parse().expect("a number"));
    eprintln!("LARDER_SEED={seed}");
    seed
}

/// Changes one byte of `file` in many copies of a filled folder, one after the other.
fn flip_bytes_of(file: impl Fn(&Path) -> PathBuf) -> Outcomes {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let folder = scratch.path().join("data");
    let expected = fill(&folder, &mut random);
    let len = std::fs::metadata(file(&folder)).expect("is there").len();
    let mut outcomes = Outcomes::default();
    for _ in 0..damages() {
        let (at, change) = (random.random_range(0..len) as usize, random.random_range(1..=255_u8));
        eprintln!("byte {at} of {len}, xor {change}");
        try_damage(&folder, &expected, seed, &mut outcomes, |damaged| {
            let path = file(damaged);
            let mut bytes = std::fs::read(&path).expect("reads");
            bytes[at] ^= change;
            std::fs::write(&path, bytes).expect("writes");
        });
    }
    eprintln!("{outcomes:?}");
    outcomes
}

#[test]
fn a_damaged_byte_in_a_tree_is_never_served() {
    let outcomes = flip_bytes_of(|folder| folder.join("partitions/0000/data.mdb"));
    assert!(outcomes.found > 0, "{outcomes:?}");
}

#[test]
fn a_damaged_byte_in_the_checksums_is_noticed() {
    flip_bytes_of(|folder| folder.join("partitions/0000/checksums"));
}

#[test]
fn a_damaged_byte_in_the_journal_is_no_torn_tail() {
    let outcomes = flip_bytes_of(|folder| {
        let mut files = std::fs::read_dir(folder.join("journal")).expect("lists");
        files.next().expect("a segment").expect("lists").path()
    });
    assert!(outcomes.refused > 0 && outcomes.found == 0, "{outcomes:?}");
}

#[test]
fn a_damaged_byte_in_the_manifest_stops_the_start() {
    let outcomes = flip_bytes_of(|folder| folder.join("node.toml"));
    assert_eq!(outcomes.refused, damages());
}

#[test]
fn a_lost_file_stops_the_start() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let folder = scratch.path().join("data");
    let expected = fill(&folder, &mut StdRng::seed_from_u64(1));
    let lost =
        ["node.toml", "journal", "partitions/0000", "partitions/0001/data.mdb", "partitions/0001/checksums"];
    for file in lost {
        let mut outcomes = Outcomes::default();
        try_damage(&folder, &expected, 1, &mut outcomes, |damaged| {
            let path = damaged.join(file);
            let removed =
                if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.expect("removes");
        });
        assert_eq!(outcomes.refused, 1, "{file}: {outcomes:?}");
    }
}

#[test]
fn a_tree_that_was_cut_is_noticed() {
    let mut random = StdRng::seed_from_u64(seed());
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let folder = scratch.path().join("data");
    let expected = fill(&folder, &mut random);
    let mut outcomes = Outcomes::default();
    for _ in 0..damages() / 10 {
        try_damage(&folder, &expected, random.random(), &mut outcomes, |damaged| {
            let file = std::fs::File::options()
                .write(true)
                .open(damaged.join("partitions/0000/data.mdb"))
                .expect("opens");
            let len = file.metadata().expect("has a length").len();
            file.set_len(random.random_range(0..len)).expect("cuts");
        });
    }
    eprintln!("{outcomes:?}");
}

/// The file of the last segment of the journal.
fn last_segment(folder: &Path) -> PathBuf {
    let entries = std::fs::read_dir(folder.join("journal")).expect("lists");
    entries.map(|entry| entry.expect("lists").path()).max().expect("there is one")
}

/// The mark behind what was synced is not synced itself. A tree must not say that it has what stood before the end of the mark:
/// without the mark, that is where the next record stands.
#[test]
fn a_mark_that_is_lost_takes_nothing_along() {
    const MARK_BYTES: u64 = 8 + 23; // a record's head and what a mark says
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let folder = scratch.path().join("data");
    let store = open(&folder).expect("opens");
    put(&store, b"before", b"value", 3);
    store.sync().expect("syncs");
    store.checkpoint_now().expect("checkpoints");
    let expected = read(&store).expect("reads");
    drop(store);
    let path = last_segment(&folder);
    let bytes = std::fs::read(&path).expect("reads");
    let kept = bytes.len() as u64 - MARK_BYTES;
    assert!(bytes[kept as usize..].windows(6).any(|part| part == b"synced"), "a mark is the last record");
    let cut = |len| {
        let file = std::fs::File::options().write(true).open(&path).expect("opens");
        file.set_len(len).expect("cuts");
    };
    cut(kept);
    goes_on(open(&folder).expect("opens"), &folder, &expected);

    // Less than what was synced is damage, and is not gone on behind.
    cut(kept - 1);
    let refused = open(&folder).err().expect("is refused");
    assert!(refused.contains("ends at position"), "{refused}");
    assert_says_what_to_do(&refused);
    repair::repair(&folder, &mut |_| ()).expect("repairs");
    goes_on(open(&folder).expect("opens"), &folder, &expected);
}

#[test]
fn a_checkpoint_that_was_not_recorded_is_taken_back() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let folder = scratch.path().join("data");
    let mut random = StdRng::seed_from_u64(seed());
    fill(&folder, &mut random);
    let store = open(&folder).expect("opens");
    let mut refused = 0;
    let files = [0, 1].map(|id| folder.join(format!("partitions/{id:04}/checksums")));
    for round in 0..9_u8 {
        let before = files.clone().map(|file| std::fs::read(file).expect("reads"));
        for number in 0..if round < 6 { 12 } else { 90_u32 } {
            let name = format!("key:{}:{}", random.random_range(0..60), "x".repeat(number as usize));
            put(&store, name.as_bytes(), &[round; 30], if number % 4 == 0 { 30 } else { 0 });
        }
        store.checkpoint_now().expect("checkpoints");
        store.sync().expect("syncs");
        let expected = read(&store).expect("reads");
        // As if the process had ended between LMDB's commit and the record of it.
        let copied = tempfile::tempdir().expect("a temporary folder");
        let copied_folder = copied.path().join("data");
        copy(&folder, &copied_folder);
        for (id, bytes) in before.iter().enumerate() {
            std::fs::write(copied_folder.join(format!("partitions/{id:04}/checksums")), bytes)
                .expect("writes");
        }
        let again = match open(&copied_folder) {
            Ok(again) => again,
            Err(text) => {
                // The journal has dropped what the checkpoint had written: refused, and again at the next start.
                assert!(round >= 6, "{text}");
                assert_says_what_to_do(&text);
                assert_says_what_to_do(&open(&copied_folder).err().expect("the same again"));
                refused += 1;
                continue;
            }
        };
        let found = read(&again).expect("reads");
        for (name, (payload, items)) in &expected {
            let there = found.get(name);
            let same = there.is_some_and(|(p, i)| p == payload && i == items);
            assert!(
                same,
                "round {round}: {} has {:?}, not {:?}",
                name.escape_ascii(),
                there.map(|t| (t.0.len(), t.1.len())),
                (payload.len(), items.len())
            );
        }
        assert_eq!(found.len(), expected.len());
        put(&again, b"another", b"value", 3);
        again.checkpoint_now().expect("checkpoints");
        again.check_trees(&AtomicBool::new(false)).expect("is whole");
        drop(again);
        let mut contents = read(&open(&copied_folder).expect("opens again")).expect("reads");
        assert!(
            contents.remove(&b"another"[..]).is_some() && contents == expected,
            "round {round}, after a checkpoint"
        );
    }
    assert!(refused > 0, "no round dropped a segment");
}

#[test]
fn an_interrupted_repair_can_be_repeated() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let folder = scratch.path().join("data");
    let expected = fill(&folder, &mut StdRng::seed_from_u64(2));
    // The new one was made, the old one moved aside, and then the machine went off.
    for name in ["journal", "partitions/0001"] {
        std::fs::rename(folder.join(name), folder.join(format!("{name}.repaired"))).expect("renames");
        open(&folder).err().expect("something is missing");
        repair::repair(&folder, &mut |_| ()).expect("repairs");
        assert!(read(&open(&folder).expect("opens")).expect("reads") == expected, "{name}");
    }
}
