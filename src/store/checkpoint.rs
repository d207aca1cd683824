//! Checkpoints: a partition's dirty rows written into its tree, together with the LSN they bring it to.
//!
//! 1. Freeze, under the lock: count the generation up. No row moves.
//! 2. Collect the frozen rows in slices, each under the lock for some microseconds; writers go on meanwhile.
//! 3. Sort and write one LMDB transaction, after the journal is synced up to the freeze: the tree never knows what a
//!    power loss could take from the journal, so transactions over several partitions stay whole.
//! 4. Under the lock: renew the read snapshot, call the frozen generation clean.
//!
//! If the write fails (the disk is full) the frozen rows are thawed: they count as written now, and the next try collects them
//! together with what came since. Nothing is lost, and the journal keeps its segments. To try the same batch again would be
//! simpler, but a batch that does not fit never will, and the removals that came since would wait behind it for ever.

use super::Store;
use super::background::SWEEP_BUCKETS;
use super::deadlines::DeadlineMap;
use super::journal::JournalError;
use super::order::compare_keys;
use super::partition::{Database, Partition};
use super::row::{self, Kind};
use super::table::{Cell, Dirty, Generation};
use super::tree::{Batch, State, Tree, TreeError};
use crate::base::blob::Blob;
use crate::base::crash_point;
use crate::base::ids::{Lsn, PartitionId, Uid};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rows collected under one hold of the lock: some 50 microseconds.
const SLICE_ROWS: usize = 1024;
/// A frozen partition, collected and ready to be written.
pub struct Collected {
    keys: Vec<Blob>,
    items: Vec<Blob>,
    deadlines: Arc<DeadlineMap>,
    dropped: Vec<(Uid, Kind)>,
    emptied: Vec<Database>,
    state: State,
    generation: Generation,
    /// What the partition knew of its dirty rows before.
    before: Before,
}

/// What a freeze takes from a partition, to be given back if the checkpoint fails.
struct Before {
    dirty_since: (u64, u32),
    dirty_bytes: usize,
    saved_lsn: Lsn,
}

/// The frozen rows of a database by its physical id, or of the items.
type FrozenRows = (Option<u32>, Arc<Dirty>);

/// What a checkpoint did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checkpointed {
    /// Rows written.
    pub rows: usize,
    /// How long it took.
    pub elapsed: Duration,
}

impl Store {
    /// Checkpoints one partition. Does nothing if the tree lacks nothing.
    pub fn checkpoint(&self, id: PartitionId) -> Result<Checkpointed, TreeError> {
        let begun = Instant::now();
        let index = id.0 as usize;
        let Some(journal) = self.journal.as_ref().filter(|_| !self.environments.is_empty()) else {
            return Ok(Checkpointed::default()); // in memory only
        };
        let _one_at_a_time = self.writing[index].lock();
        let environment = &self.tree(index);
        let Some(mut collected) = self.collect(index) else { return Ok(Checkpointed::default()) };
        crash_point::pass("checkpoint-collected");
        let write = journal
            .sync_to(collected.state.position)
            .map(|durable| collected.state.position = durable)
            .map_err(|JournalError(text)| TreeError(text))
            .and_then(|()| self.check_room(id, environment, &collected.batch()))
            .and_then(|()| environment.write(&collected.batch()))
            .and_then(|()| Tree::open(environment));
        let tree = match write {
            Ok(tree) => tree,
            Err(error) => {
                self.thaw(index, collected);
                return Err(error);
            }
        };
        self.finish(index, tree, collected.generation, collected.state.position);
        self.forget_dropped(index, &collected.dropped);
        self.forget_deletions(index, &collected);
        crash_point::pass("checkpoint-done");
        Ok(Checkpointed { rows: collected.keys.len() + collected.items.len(), elapsed: begun.elapsed() })
    }

    fn collect(&self, index: usize) -> Option<Collected> {
        let (mut collected, frozen) = self.freeze(index)?;
        crash_point::pass("checkpoint-frozen");
        for (database, rows) in &frozen {
            for from in (0..rows.len()).step_by(SLICE_ROWS) {
                collect_slice(&self.partitions[index].lock(), &mut collected, *database, rows, from);
            }
        }
        let clean = {
            let mut partition = self.partitions[index].lock();
            partition.frozen = None; // from here on nothing need be put aside
            take_aside(&mut partition, &mut collected);
            partition.clean
        };
        let mut scratch = Vec::new();
        for database in &collected.emptied {
            // What the tree has at the keys written since is not what they held in the end: its items may have moved to another
            // database, where they are alive.
            let written = database.rows.newer_than(clean);
            collected
                .keys
                .extend(written.map(|row| row::deletion(&mut scratch, row.head().hash, &[row.key()])));
            let metas = database.rows.cells().filter_map(|cell| row::decode_value(cell.row.value()));
            collected.dropped.extend(metas.filter_map(|(meta, _)| Some((meta.items?.uid, meta.kind))));
        }
        let dead: HashSet<[u8; Uid::LEN]> = collected.dropped.iter().map(|(uid, _)| uid.to_bytes()).collect();
        collected.items.retain(|row| row.key().first_chunk().is_none_or(|uid| !dead.contains(uid)));
        for rows in [&mut collected.keys, &mut collected.items] {
            rows.sort_unstable_by(|a, b| compare_keys(a.key(), b.key()));
            rows.dedup_by(|a, b| a.key() == b.key()); // collected and then put aside: the same version twice
        }
        Some(collected)
    }

    /// Step 1: what to collect, and the frozen rows of each database (by physical id) and of the items. `None` if the tree lacks
    /// nothing.
    fn freeze(&self, index: usize) -> Option<(Collected, Vec<FrozenRows>)> {
        let mut guard = self.partitions[index].lock();
        let partition = &mut *guard;
        let before = Before {
            dirty_since: partition.dirty_since?,
            dirty_bytes: partition.dirty_bytes,
            saved_lsn: partition.saved_lsn,
        };
        // With the lock held, all that the partition has committed is before this, and all that it will commit is not.
        let position = self.journal_end();
        let generation = partition.generation;
        partition.generation += 1;
        partition.frozen = Some(generation);
        partition.dirty_since = None;
        partition.dirty_bytes = 0;
        let of_keys =
            partition.databases.iter_mut().map(|database| (Some(database.id), database.rows.freeze()));
        let mut frozen: Vec<FrozenRows> = of_keys.collect();
        frozen.push((None, partition.items.freeze()));
        let databases = partition.databases.iter().map(|database| (database.id, database.counters)).collect();
        let collected = Collected {
            keys: Vec::new(),
            items: Vec::new(),
            deadlines: partition.deadlines.freeze(),
            dropped: std::mem::take(&mut partition.dropped),
            emptied: std::mem::take(&mut partition.emptied),
            state: State {
                point: partition.point(),
                position,
                history_start: partition.history_start,
                next_database_id: partition.next_database_id,
                databases,
            },
            generation,
            before,
        };
        Some((collected, frozen))
    }

    /// Step 4.
    fn finish(&self, index: usize, tree: Tree, generation: Generation, position: u64) {
        let mut partition = self.partitions[index].lock();
        let old_tree = std::mem::replace(&mut partition.tree, tree);
        partition.clean = generation;
        partition.journal_start = position;
        let mut old: Vec<_> = partition.databases.iter_mut().map(|d| d.rows.forget_frozen()).collect();
        old.extend(partition.emptied.iter_mut().map(|d| d.rows.forget_frozen()));
        old.push(partition.items.forget_frozen());
        let old_deadlines = partition.deadlines.forget_frozen();
        drop(partition); // what follows may take a while and needs no lock
        drop((old_tree, old, old_deadlines));
    }

    /// Step 4 if the write failed: everything is as if there had been no freeze.
    fn thaw(&self, index: usize, collected: Collected) {
        let Collected { keys, items, deadlines, mut dropped, mut emptied, generation, before, .. } =
            collected;
        drop(deadlines); // so that the partition has its map to itself
        let mut partition = self.partitions[index].lock();
        let active = partition.generation;
        let mut old = Vec::new();
        let of_databases = keys.chunk_by(|a, b| row::position_of(a.key()).0 == row::position_of(b.key()).0);
        for rows in of_databases.clone() {
            let (id, _, _) = row::position_of(rows[0].key());
            // What a database held that was emptied since is nobody's.
            if let Some(database) = partition.databases.iter_mut().find(|database| database.id == id) {
                old.push(database.rows.thaw(rows.to_vec()));
            }
        }
        old.extend(partition.databases.iter_mut().map(|database| database.rows.forget_frozen()));
        old.extend(partition.emptied.iter_mut().map(|database| database.rows.forget_frozen()));
        old.push(partition.items.thaw(items.clone()));
        partition.deadlines.thaw();
        dropped.append(&mut partition.dropped);
        partition.dropped = dropped;
        emptied.append(&mut partition.emptied);
        partition.emptied = emptied;
        partition.dirty_since = Some(before.dirty_since);
        partition.dirty_bytes += before.dirty_bytes;
        partition.saved_lsn = before.saved_lsn;
        drop(partition);
        drop(old);
        for slice in of_databases.flat_map(|rows| rows.chunks(SLICE_ROWS)) {
            let (id, _, _) = row::position_of(slice[0].key());
            let mut partition = self.partitions[index].lock();
            if let Some(database) = partition.databases.iter_mut().find(|database| database.id == id) {
                database.rows.restamp(slice, generation, active);
            }
        }
        for slice in items.chunks(SLICE_ROWS) {
            self.partitions[index].lock().items.restamp(slice, generation, active);
        }
    }

    /// Frees the memory of what says that a key or an item is gone: so does the tree now.
    fn forget_deletions(&self, index: usize, collected: &Collected) {
        let of_databases =
            collected.keys.chunk_by(|a, b| row::position_of(a.key()).0 == row::position_of(b.key()).0);
        for slice in of_databases.flat_map(|rows| rows.chunks(SLICE_ROWS)) {
            let (id, _, _) = row::position_of(slice[0].key());
            let mut partition = self.partitions[index].lock();
            let clean = partition.clean;
            if let Some(database) = partition.databases.iter_mut().find(|database| database.id == id) {
                database.rows.forget_deletions(slice, clean);
            }
        }
        for slice in collected.items.chunks(SLICE_ROWS) {
            let mut partition = self.partitions[index].lock();
            let clean = partition.clean;
            partition.items.forget_deletions(slice, clean);
        }
    }

    /// Frees the memory of collections that are nobody's: their rows are clean now, or are not in the tree at all.
    fn forget_dropped(&self, index: usize, dropped: &[(Uid, Kind)]) {
        if dropped.is_empty() {
            return;
        }
        let dead: HashSet<[u8; Uid::LEN]> = dropped.iter().map(|(uid, _)| uid.to_bytes()).collect();
        let is_dead = |cell: &Cell| cell.row.key().first_chunk().is_some_and(|uid| dead.contains(uid));
        let buckets = self.partitions[index].lock().items.buckets();
        for _ in 0..=buckets / SWEEP_BUCKETS {
            let mut partition = self.partitions[index].lock();
            let clean = partition.clean;
            partition.items.sweep(clean, SWEEP_BUCKETS, is_dead);
        }
    }

    /// Removes up to `rows` rows that are nobody's from a partition's tree. Returns whether there may be more.
    pub fn collect_garbage(&self, id: PartitionId, rows: usize) -> Result<bool, TreeError> {
        let index = id.0 as usize;
        if self.environments.is_empty() {
            return Ok(false);
        }
        let _no_checkpoint_meanwhile = self.writing[index].lock();
        let environment = &self.tree(index);
        let more = environment.collect_garbage(rows)?;
        if more {
            let tree = Tree::open(environment)?;
            let old = std::mem::replace(&mut self.partitions[index].lock().tree, tree);
            drop(old);
        }
        Ok(more)
    }
}

impl Collected {
    fn batch(&self) -> Batch<'_> {
        Batch {
            keys: &self.keys,
            items: &self.items,
            deadlines: self.deadlines.iter().map(|(key, change)| (&**key, change.stands())).collect(),
            dropped: &self.dropped,
            emptied: self.emptied.iter().map(|database| database.id).collect(),
            state: &self.state,
        }
    }
}

/// Step 2, one slice of one table.
fn collect_slice(
    partition: &Partition,
    collected: &mut Collected,
    database: Option<u32>,
    rows: &Dirty,
    from: usize,
) {
    let to = from + SLICE_ROWS;
    let Some(id) = database else {
        return partition.items.collect_frozen(rows, from, to, collected.generation, &mut collected.items);
    };
    // A database emptied since the freeze is alive in this checkpoint: the record that emptied it is not in it.
    let mut all = partition.databases.iter().chain(&partition.emptied);
    let database =
        all.find(|database| database.id == id).expect("only the checkpoint takes emptied databases away");
    database.rows.collect_frozen(rows, from, to, collected.generation, &mut collected.keys);
}

fn take_aside(partition: &mut Partition, collected: &mut Collected) {
    for database in partition.databases.iter_mut().chain(&mut partition.emptied) {
        collected.keys.append(&mut database.rows.take_aside());
    }
    collected.items.append(&mut partition.items.take_aside());
}
