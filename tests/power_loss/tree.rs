//! The trees themselves, when everything is in them and no garbage is left: nothing is missing and nothing is there in vain.

use crate::history::{DATABASES, PARTITIONS};
use crate::workload;
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, RoTxn, WithoutTls};
use larder::base::ids::{PartitionId, Slot};
use larder::store::{Key, PartitionSet, Store};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// Rounds of garbage collection after which there must be an end.
const ROUNDS_MAX: usize = 10_000;

/// What the trees must hold.
#[derive(Default)]
struct Live {
    keys: usize,
    uids: BTreeSet<[u8; 12]>,
    deadlines: usize,
}

/// Brings everything into the trees, closes the store, and reads what it wrote past it.
pub fn check(store: Store, folder: &Path) -> Result<(), String> {
    let data = workload::read_back(&store)?;
    let checked = store.check_trees(&AtomicBool::new(false));
    checked.map_err(|error| format!("a tree is damaged: {error}"))?;
    store.checkpoint_now().map_err(|error| format!("does not checkpoint: {error}"))?;
    for id in 0..PARTITIONS {
        let mut rounds = 0;
        while store
            .collect_garbage(PartitionId(id), 1000)
            .map_err(|error| format!("does not collect: {error}"))?
        {
            rounds += 1;
            assert!(rounds < ROUNDS_MAX, "the garbage of partition {id} has no end");
        }
    }
    if workload::read_back(&store).map_err(|error| format!("without garbage: {error}"))? != data {
        return Err("checkpoints and the collection of garbage have changed the data".into());
    }
    let live = live(&store);
    drop(store);
    let mut found = Live::default();
    for id in 0..PARTITIONS {
        read_tree(&folder.join("partitions").join(format!("{id:04}")), &mut found)
            .map_err(|error| format!("tree of partition {id}: {error}"))?;
    }
    if found.keys != live.keys {
        return Err(format!("the trees have {} keys, {} are alive", found.keys, live.keys));
    }
    if found.uids != live.uids {
        let (vain, missing) = (found.uids.difference(&live.uids), live.uids.difference(&found.uids));
        let (vain, missing): (Vec<_>, Vec<_>) = (vain.collect(), missing.collect());
        return Err(format!("the trees have items of {vain:?} in vain and none of {missing:?}"));
    }
    // Deadlines of databases that were emptied go when their time comes.
    if found.deadlines < live.deadlines {
        return Err(format!("the trees have {} deadlines of {}", found.deadlines, live.deadlines));
    }
    Ok(())
}

fn live(store: &Store) -> Live {
    let mut live = Live::default();
    for database in 0..DATABASES {
        let mut view = store.view(&PartitionSet::All, i64::MIN);
        let mut names = Vec::new();
        view.visit_keys(database, (Slot(0), 0), &mut |_, name, _| {
            names.push(name.to_vec());
            ControlFlow::Continue(())
        })
        .expect("walks");
        for name in names {
            let entry = view.peek(&Key::new(database, &name)).expect("reads").expect("is there");
            live.keys += 1;
            live.deadlines += usize::from(entry.expire_at().is_some());
            live.uids.extend(entry.items().map(|items| items.uid.to_bytes()));
        }
    }
    live
}

#[expect(unsafe_code, reason = "LMDB maps a file; nobody else has it open")]
fn read_tree(path: &Path, found: &mut Live) -> Result<(), heed::Error> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.max_dbs(8);
    // SAFETY: the store is closed.
    let env: Env<WithoutTls> = unsafe { options.open(path)? };
    let transaction = env.write_txn()?;
    let trees = env.create_databases_and_commit(transaction, |opener, transaction| {
        let mut open = |name| opener.create_database::<Bytes, Bytes>(transaction, Some(name));
        let trees = (open("keys")?, open("items")?, open("deadlines")?, open("garbage")?);
        Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(trees))
    })?;
    let (keys, items, deadlines, garbage) = trees.unwrap_commit();
    let snapshot = env.read_txn()?;
    found.keys += rows(keys, &snapshot)?.len();
    found.uids.extend(rows(items, &snapshot)?.iter().filter_map(|key| key.first_chunk::<12>()));
    found.deadlines += rows(deadlines, &snapshot)?.len();
    assert_eq!(rows(garbage, &snapshot)?, Vec::<Vec<u8>>::new(), "garbage is left");
    Ok(())
}

fn rows(tree: Database<Bytes, Bytes>, snapshot: &RoTxn<WithoutTls>) -> Result<Vec<Vec<u8>>, heed::Error> {
    tree.iter(snapshot)?.map(|row| Ok(row?.0.to_vec())).collect()
}
