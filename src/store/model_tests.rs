//! The store against a model: random transactions, checkpoints, sweeps, garbage runs and restarts, by seed.

use super::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

/// What a key should hold: payload, deadline, items by suffix.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Model {
    pub payload: Vec<u8>,
    pub expire_at: Option<i64>,
    pub items: BTreeMap<Vec<u8>, Vec<u8>>,
}

pub type Databases = Vec<BTreeMap<Vec<u8>, Model>>;

pub const DATABASES: u16 = 3;
pub const NOW: i64 = 1_000_000;

pub fn open(folder: &Path) -> Store {
    Store::open(folder, 4, DATABASES, Options::default()).expect("opens")
}

fn name(random: &mut StdRng) -> Vec<u8> {
    let number = random.random_range(0..40_u32);
    // Now and then a name too long for the tree.
    if number < 4 {
        [vec![b'x'; 600], vec![number as u8]].concat()
    } else {
        format!("key:{number}").into_bytes()
    }
}

pub fn put(store: &Store, database: u16, name: &[u8], model: &Model) {
    let key = Key::new(database, name);
    let mut transaction = store.transaction(&PartitionSet::One(store.partition_of(key.slot)), NOW);
    let mut meta =
        NewValue { kind: Kind::Hash, encoding: 1, expire_at: model.expire_at, due_at: None, items: None };
    if !model.items.is_empty() {
        let uid = transaction.new_uid(&key);
        let bytes: i64 = model.items.iter().map(|(s, v)| transaction.put_new_item(&key, uid, s, &[v])).sum();
        meta.items = Some(Items { uid, bytes: bytes as u64 });
    }
    transaction.put(&key, meta, &[&model.payload]).expect("puts");
    let position = transaction.commit();
    store.flush(position).expect("flushes");
}

fn change_item(store: &Store, database: u16, name: &[u8], suffix: &[u8], value: Option<&[u8]>) {
    let key = Key::new(database, name);
    let mut transaction = store.transaction(&PartitionSet::One(store.partition_of(key.slot)), NOW);
    let Some(entry) = transaction.get(&key).expect("reads") else { return };
    let Some(items) = entry.items() else { return };
    let change = match value {
        Some(value) => transaction.put_item(&key, items.uid, suffix, &[value]),
        None => transaction.remove_item(&key, items.uid, suffix),
    };
    let meta = NewValue { items: Some(items_after(items, change.expect("changes").grown)), ..entry.meta() };
    transaction.put_meta(&key, &entry, meta).expect("puts");
    let position = transaction.commit();
    store.flush(position).expect("flushes");
}

pub fn check(store: &Store, model: &Databases) {
    for database in 0..DATABASES {
        let mut view = store.view(&PartitionSet::All, NOW);
        let expected = &model[database as usize];
        assert_eq!(view.count(database), expected.len() as u64);
        let mut seen = BTreeSet::new();
        let mut last = None;
        view.visit_keys(database, (Slot(0), 0), &mut |position, name, _| {
            assert!(last <= Some(position), "in order");
            last = Some(position);
            assert!(seen.insert(name.to_vec()), "each once");
            ControlFlow::Continue(())
        })
        .expect("walks");
        assert_eq!(seen, expected.keys().cloned().collect());
        let mut bytes = 0;
        for (name, model) in expected {
            let key = Key::new(database, name);
            let entry = view.get(&key).expect("reads").expect("is there");
            assert_eq!((entry.payload(), entry.expire_at()), (&model.payload[..], model.expire_at));
            bytes += entry.stored_bytes();
            let Some(items) = entry.items() else { continue };
            let mut found = BTreeMap::new();
            view.visit_items(&key, items.uid, &[], &mut |suffix, value| {
                found.insert(suffix.to_vec(), value.to_vec());
                ControlFlow::Continue(())
            })
            .expect("walks");
            assert_eq!(found, model.items);
            let sum: usize = found.iter().map(|(s, v)| 12 + s.len() + v.len()).sum();
            assert_eq!(items.bytes, sum as u64, "items count their bytes");
            for (suffix, value) in &model.items {
                let item = view.item(&key, items.uid, suffix).expect("reads").expect("is there");
                assert_eq!(&*item, &value[..]);
            }
        }
        drop(view);
        let counters = store.counters(database);
        assert_eq!(counters.bytes, bytes, "stored bytes are exact");
        assert_eq!(
            counters.expires,
            expected.values().filter(|model| model.expire_at.is_some()).count() as u64
        );
    }
}

fn random_model(random: &mut StdRng) -> Model {
    let mut model = Model { payload: vec![random.random(); random.random_range(0..50)], ..Model::default() };
    if random.random_bool(0.3) {
        model.expire_at = Some(NOW + random.random_range(1..1000));
    }
    if random.random_bool(0.4) {
        let count = random.random_range(1..20);
        model.items = (0..count).map(|i: u8| (vec![i; 1 + i as usize], vec![random.random(); 3])).collect();
    }
    model
}

pub fn step(store: &Store, model: &mut Databases, random: &mut StdRng) {
    let database = random.random_range(0..DATABASES);
    let name = name(random);
    match random.random_range(0..100_u32) {
        0..45 => {
            let made = random_model(random);
            put(store, database, &name, &made);
            model[database as usize].insert(name, made);
        }
        45..65 => {
            let (suffix, value) = (vec![random.random_range(0..20); 2], vec![random.random(); 4]);
            let put = random.random_bool(0.6);
            change_item(store, database, &name, &suffix, put.then_some(&value[..]));
            if let Some(model) =
                model[database as usize].get_mut(&name).filter(|model| !model.items.is_empty())
            {
                if put {
                    model.items.insert(suffix, value)
                } else {
                    model.items.remove(&suffix)
                };
                if model.items.is_empty() {
                    model.items.insert(vec![1, 1], vec![1]);
                    change_item(store, database, &name, &[1, 1], Some(&[1]));
                }
            }
        }
        65..80 => {
            let key = Key::new(database, &name);
            let mut transaction = store.transaction(&PartitionSet::One(store.partition_of(key.slot)), NOW);
            transaction.remove(&key).expect("removes");
            let position = transaction.commit();
            store.flush(position).expect("flushes");
            model[database as usize].remove(&name);
        }
        80..82 => {
            let mut transaction = store.transaction(&PartitionSet::All, NOW);
            transaction.flush_database(database);
            let position = transaction.commit();
            store.flush(position).expect("flushes");
            model[database as usize].clear();
        }
        82..84 => {
            let other = random.random_range(0..DATABASES);
            let mut transaction = store.transaction(&PartitionSet::All, NOW);
            transaction.swap_databases(database, other);
            let position = transaction.commit();
            store.flush(position).expect("flushes");
            model.swap(database as usize, other as usize);
        }
        84..92 => {
            let id = PartitionId(random.random_range(0..4));
            store.checkpoint_and_note(id, true).expect("checkpoints");
        }
        92..96 => {
            let id = PartitionId(random.random_range(0..4));
            store.collect_garbage(id, 20_000).expect("collects");
        }
        _ => {
            let id = random.random_range(0..4_usize);
            store.partitions[id].lock().sweep(1000, |_| true);
        }
    }
}

fn run(seed: u64, steps: usize) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut random = StdRng::seed_from_u64(seed);
    let mut model: Databases = vec![BTreeMap::new(); DATABASES as usize];
    let mut store = open(folder.path());
    for index in 0..steps {
        step(&store, &mut model, &mut random);
        if index % 50 == 0 {
            check(&store, &model);
        }
        if random.random_bool(0.01) {
            drop(store); // like a kill: nothing is written at the end
            store = open(folder.path());
            check(&store, &model);
        }
    }
    store.checkpoint_now().expect("checkpoints");
    check(&store, &model);
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.status().recovered_records, 0, "a checkpointed store has nothing to replay");
    check(&store, &model);
}

#[test]
fn random_histories_survive_checkpoints_sweeps_garbage_runs_and_restarts() {
    for seed in 0..8 {
        run(seed, 600);
    }
}

#[test]
fn expired_keys_are_masked_at_once_and_removed_in_time_order() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    for number in 0..100_u8 {
        let expire_at = Some(NOW + 1 + i64::from(number));
        put(&store, 0, &[b'k', number], &Model { expire_at, ..Model::default() });
        if number == 50 {
            store.checkpoint_now().expect("checkpoints");
        }
    }
    let later = NOW + 60; // deadlines NOW+1 ..= NOW+59 are over
    let mut view = store.view(&PartitionSet::All, later);
    assert!(view.get(&Key::new(0, &[b'k', 58])).expect("reads").is_none());
    assert!(view.get(&Key::new(0, &[b'k', 59])).expect("reads").is_some());
    drop(view);
    let expired: u64 = (0..4)
        .map(|id| store.expire(PartitionId(id), later, 1000, |_, _, _| Ok(0)).expect("expires").keys)
        .sum();
    assert_eq!((expired, store.counters(0).keys), (59, 41));
    let again: u64 = (0..4)
        .map(|id| store.expire(PartitionId(id), later, 1000, |_, _, _| Ok(0)).expect("expires").keys)
        .sum();
    assert_eq!(again, 0);
}

#[test]
fn a_transaction_sees_its_own_changes_and_leaves_nothing_if_dropped() {
    let store = Store::in_memory(4, 2);
    let key = Key::new(0, b"key");
    put(&store, 0, b"key", &Model { payload: b"old".to_vec(), ..Model::default() });
    let meta = NewValue { kind: Kind::String, encoding: 0, expire_at: None, due_at: None, items: None };
    let mut transaction = store.transaction(&PartitionSet::All, NOW);
    transaction.put(&key, meta, &[b"new"]).expect("puts");
    let point = transaction.savepoint();
    transaction.flush_database(0);
    assert!(transaction.get(&key).expect("reads").is_none());
    assert_eq!(transaction.count(0), 0);
    transaction.put(&key, meta, &[b"after"]).expect("puts");
    assert_eq!(transaction.get(&key).expect("reads").expect("is there").payload(), b"after");
    transaction.rollback_to(&point);
    assert_eq!(transaction.get(&key).expect("reads").expect("is there").payload(), b"new");
    drop(transaction);
    let mut view = store.view(&PartitionSet::All, NOW);
    assert_eq!(view.get(&key).expect("reads").expect("is there").payload(), b"old");
}

#[test]
fn eviction_brings_the_data_within_the_limit() {
    for policy in [Policy::AllKeysLru, Policy::AllKeysLfu, Policy::AllKeysRandom, Policy::VolatileTtl] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = open(folder.path());
        for number in 0..500_u32 {
            let expire_at = (number % 2 == 0).then_some(NOW + 1000);
            put(
                &store,
                0,
                &number.to_be_bytes(),
                &Model { payload: vec![1; 100], expire_at, ..Model::default() },
            );
        }
        store.checkpoint_now().expect("checkpoints");
        for partition in &store.partitions {
            partition.lock().sweep(200, |_| true);
        }
        let limit = store.empty_bytes() + store.data_bytes() * 7 / 10;
        let evicted = store.evict(limit, policy, 5, (10_000, 0), NOW).expect("evicts");
        assert!(evicted.within_limit && store.used_bytes() <= limit, "{policy:?}");
        let left = store.counters(0);
        assert_eq!(left.keys + evicted.keys, 500);
        if policy.is_volatile() {
            assert_eq!(left.keys - left.expires, 250, "keys without a deadline stay");
        }
    }
}

#[test]
fn concurrent_writers_and_checkpoints_lose_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    let written = |thread: u8, round: u32| [&[thread][..], &round.to_be_bytes()].concat();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3_u8)
            .map(|thread| {
                let store = &store;
                scope.spawn(move || {
                    for round in 0..3_000_u32 {
                        let payload = written(thread, round);
                        let name = [thread, (round % 50) as u8];
                        put(store, 0, &name, &Model { payload, ..Model::default() });
                    }
                })
            })
            .collect();
        while !writers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            store.checkpoint_now().expect("checkpoints");
        }
    });
    drop(store); // like a kill
    let store = open(folder.path());
    let mut view = store.view(&PartitionSet::All, NOW);
    for thread in 0..3_u8 {
        for slot in 0..50_u8 {
            let entry = view.get(&Key::new(0, &[thread, slot])).expect("reads").expect("is there");
            assert_eq!(entry.payload(), written(thread, 2_950 + u32::from(slot)));
        }
    }
}

#[test]
fn rows_beyond_memory_are_fetched_without_the_lock() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = Options { fetch_beyond_bytes: 0, ..Options::default() };
    let store = Store::open(folder.path(), 4, DATABASES, options).expect("opens");
    for number in 0..100_u8 {
        let key = Key::new(0, std::slice::from_ref(&number));
        let put = store.until_fetched(|| {
            let mut transaction = store.transaction(&PartitionSet::One(store.partition_of(key.slot)), NOW);
            let meta =
                NewValue { kind: Kind::String, encoding: 0, expire_at: None, due_at: None, items: None };
            transaction.put(&key, meta, &[&[number; 30]])?;
            transaction.commit();
            Ok(())
        });
        put.expect("puts");
    }
    store.checkpoint_now().expect("checkpoints");
    for partition in &store.partitions {
        partition.lock().sweep(1000, |_| true);
    }
    assert_eq!(store.status().memory_rows, 0);
    for number in 0..=100_u8 {
        let key = Key::new(0, std::slice::from_ref(&number));
        let mut runs = 0;
        let found = store.until_fetched(|| {
            runs += 1;
            store.view(&PartitionSet::All, NOW).get(&key)
        });
        let found = found.expect("reads");
        assert_eq!(found.map(|entry| entry.payload().to_vec()), (number < 100).then(|| vec![number; 30]));
        // The last key is nowhere, which is known without a fetch: all others are in memory by then.
        assert_eq!(runs, if number < 100 { 2 } else { 1 }, "fetched once, then found");
    }
}

#[test]
fn memory_of_a_dropped_collection_is_freed_by_the_checkpoint() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    let items = (0..200_u8).map(|i| (vec![i; 5], vec![i; 50])).collect();
    put(&store, 0, b"big", &Model { items, ..Model::default() });
    store.checkpoint_now().expect("checkpoints");
    assert_eq!(store.status().memory_rows, 201);
    let mut transaction = store.transaction(&PartitionSet::All, NOW);
    transaction.remove(&Key::new(0, b"big")).expect("removes");
    transaction.commit();
    store.checkpoint_now().expect("checkpoints");
    assert_eq!(store.status().memory_rows, 0, "nor is the deletion itself remembered, which the tree knows");
}

#[test]
fn a_collection_that_moved_to_another_database_outlives_the_one_it_came_from() {
    for another_came in [false, true] {
        move_and_flush(another_came);
    }
}

fn move_and_flush(another_came: bool) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    let model = Model { items: (0..20_u8).map(|i| (vec![i; 5], vec![i; 50])).collect(), ..Model::default() };
    put(&store, 0, b"big", &model);
    store.checkpoint_now().expect("checkpoints");
    let mut transaction = store.transaction(&PartitionSet::All, NOW);
    transaction.rename_within_partition(&Key::new(0, b"big"), &Key::new(1, b"big")).expect("moves");
    transaction.commit();
    if another_came {
        put(&store, 0, b"big", &Model::default());
    }
    let mut transaction = store.transaction(&PartitionSet::All, NOW);
    transaction.flush_database(0);
    transaction.commit();
    store.checkpoint_now().expect("checkpoints");
    for id in 0..4 {
        while store.collect_garbage(PartitionId(id), 20_000).expect("collects") {}
    }
    for partition in &store.partitions {
        partition.lock().sweep(1000, |_| true);
    }
    let expected = [BTreeMap::new(), BTreeMap::from([(b"big".to_vec(), model)]), BTreeMap::new()];
    check(&store, &expected.to_vec());
}

#[test]
fn walks_while_a_checkpoint_collects_take_nothing_from_it() {
    const ROWS: u32 = 12_000; // several slices in one partition
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(folder.path(), 1, DATABASES, Options::default()).expect("opens");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let walker = scope.spawn(|| {
            let mut walks = 0;
            while !done.load(Ordering::Acquire) {
                let mut view = store.view(&PartitionSet::All, NOW);
                let mut left = 3; // what sorts is the start of a walk, not its length
                view.visit_keys(0, (Slot(0), 0), &mut |_, _, _| {
                    left -= 1;
                    if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                })
                .expect("walks");
                walks += 1;
                // The lock is not fair: without a pause the writer waits half a millisecond for each of its rows.
                std::thread::sleep(std::time::Duration::from_micros(100));
            }
            walks
        });
        for round in 0..6_u32 {
            for number in 0..ROWS {
                let payload = round.to_be_bytes().to_vec();
                put(&store, 0, &number.to_be_bytes(), &Model { payload, ..Model::default() });
            }
            store.checkpoint_now().expect("checkpoints");
        }
        done.store(true, Ordering::Release);
        assert!(walker.join().expect("walks") > 10);
    });
    let tree = &store.tree(0);
    let of_tree = tree::Tree::open(tree).expect("opens");
    let mut rows = 0;
    of_tree
        .walk(tree::TreeName::Keys, &[], &mut |_, value| {
            let (_, at) = row::decode_value(value).expect("decodes");
            assert_eq!(value[at..], 5_u32.to_be_bytes(), "the tree has the last version of every row");
            rows += 1;
            ControlFlow::Continue(())
        })
        .expect("walks");
    assert_eq!(rows, ROWS);
}
