//! Installing a snapshot: the file that was received takes the place of the partition's tree.
//!
//! 1. The file goes into a folder of its own beside the trees, `partitions/NNNN.<random>`, gets the checksums of its pages, and is
//!    opened; all pages are checked. (The name is new each time: LMDB's environments are known by the name they were opened by.)
//! 2. Under the partition's lock: from here on it takes no record. The journal's end is where the new history begins.
//! 3. The journal is synced up to there, and the tree notes that position: a start must not skip what is journaled later.
//! 4. The two folders exchange their names, in one step, and that is made durable before anything of the new history is journaled.
//! 5. Under the lock: the partition is what its new tree says, and nothing of it is in memory. Whoever watches a key learns
//!    that it changed.
//!
//! A crash before step 4 leaves the old tree, with all that the journal has; after it the new one, to which nothing that the journal
//! has before the position belongs. If the old tree is to be kept, it carries a file `keep` that says where: so a start that
//! finds it aside can do what was not done.

use super::leftovers::Keep;
use super::{IncomingSnapshot, SnapshotError, failed, sync_folder};
use crate::base::ids::{PartitionId, Point};
use crate::base::{crash_point, gentle};
use crate::store::partition::Partition;
use crate::store::tree::{Batch, Environment, map_bytes};
use crate::store::{Store, recovery};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A folder that is removed unless it is put in place.
struct Fresh<'a> {
    path: PathBuf,
    is_placed: bool,
    store: &'a Store,
}

impl Drop for Fresh<'_> {
    fn drop(&mut self) {
        if !self.is_placed {
            self.store.snapshots.removals.remove(self.path.clone());
        }
    }
}

impl Store {
    /// Makes a snapshot that was received the partition's tree. Of what the partition held nothing stays, but for the old tree,
    /// which is moved to `keep_old` if that is given. Only for partitions that this node does not write to, and not while
    /// records are applied to this one. Returns where its history stands then.
    ///
    /// # Errors
    /// The snapshot is not whole, or the disk fails. Then the partition is what it was.
    pub fn install_snapshot(
        &self,
        incoming: IncomingSnapshot,
        keep_old: Option<&Path>,
    ) -> Result<Point, SnapshotError> {
        let offer = *incoming.offer();
        let id = offer.partition;
        let mut fresh = self.make_folder(id)?;
        incoming.move_to(&fresh.path)?;
        let environment = Environment::open(&fresh.path, map_bytes(self.partition_count()))?;
        gentle::run(|| environment.check_all(&AtomicBool::new(false)))?;
        let state = environment.state()?;
        if state.is_none_or(|state| state.point != offer.point) {
            return Err(SnapshotError::Refused(format!(
                "the snapshot of partition {id} has another history"
            )));
        }
        crash_point::pass("install-opened");
        let index = usize::from(id.0);
        let no_checkpoint_meanwhile = self.writing[index].lock();
        {
            let mut partition = self.partitions[index].lock();
            if partition.is_primary {
                return Err(SnapshotError::Busy(format!("this node takes the changes of partition {id}")));
            }
            partition.is_being_replaced = true;
        }
        let placed = self.place(id, &environment, &mut fresh, keep_old);
        if let Err(error) = placed {
            self.partitions[index].lock().is_being_replaced = false;
            return Err(error);
        }
        drop(no_checkpoint_meanwhile);
        self.choose_how_to_read();
        crash_point::pass("install-done");
        Ok(offer.point)
    }

    /// An empty folder beside the trees.
    fn make_folder(&self, id: PartitionId) -> Result<Fresh<'_>, SnapshotError> {
        let path = self.snapshots.tree_folder(id)?.with_extension(format!("{:016x}", rand::random::<u64>()));
        std::fs::create_dir(&path).map_err(|error| failed("create", &path, &error))?;
        Ok(Fresh { path, is_placed: false, store: self })
    }

    /// Steps 2 to 5.
    fn place(
        &self,
        id: PartitionId,
        environment: &Arc<Environment>,
        fresh: &mut Fresh,
        keep_old: Option<&Path>,
    ) -> Result<(), SnapshotError> {
        let index = usize::from(id.0);
        let journal = self.journal.as_ref().expect("a store with a data folder has a journal");
        let (position, before, databases) = {
            let partition = self.partitions[index].lock();
            (journal.appended(), partition.point(), partition.databases.len())
        };
        let position = journal.sync_to(position).map_err(|error| SnapshotError::Storage(error.0))?;
        let mut state = environment.state()?.expect("it was looked at before");
        (state.position, state.history_start) = (position, position);
        environment.write(&Batch {
            keys: &[],
            items: &[],
            deadlines: Vec::new(),
            dropped: &[],
            emptied: Vec::new(),
            state: &state,
        })?;
        let partition = recovery::open_partition(id, environment, databases as u16)?;
        crash_point::pass("install-state-written");
        let place = self.snapshots.tree_folder(id)?;
        let keep = Keep::note(self.snapshots.folder()?, &place, keep_old)?;
        if self.point(id) != before {
            return Err(SnapshotError::Busy(format!("partition {id} was written to meanwhile")));
        }
        crash_point::pass("install-before-exchange");
        exchange(&fresh.path, &place)?;
        crash_point::pass("install-exchanged");
        fresh.is_placed = true;
        environment.moved(&place);
        let old = self.replace(index, partition, environment, before);
        old.moved(&fresh.path);
        drop(old);
        match keep {
            Some(keep) => keep.done(&fresh.path),
            None => self.snapshots.removals.remove(fresh.path.clone()),
        }
        Ok(())
    }

    /// Step 5. Returns the old tree.
    fn replace(
        &self,
        index: usize,
        new: Partition,
        environment: &Arc<Environment>,
        before: Point,
    ) -> Arc<Environment> {
        let mut partition = self.partitions[index].lock();
        assert_eq!(partition.point(), before, "a partition that is replaced takes no changes");
        let old_environment = self.environments[index].swap(Arc::clone(environment));
        let old = partition.become_like(new);
        self.note_bytes(&partition);
        drop(partition);
        drop(old); // it may be large
        old_environment
    }
}

/// The folders exchange their names; that is durable then.
fn exchange(fresh: &Path, place: &Path) -> Result<(), SnapshotError> {
    let exchange = || Ok(renameat_with(CWD, fresh, CWD, place, RenameFlags::EXCHANGE)?);
    let both = fresh.parent().expect("it is in a folder");
    exchange().map_err(|error| failed("put in its place", fresh, &error))?;
    crash_point::pass("install-not-synced");
    if let Err(error) = sync_folder(both) {
        // Which one a start would find is not known; either is whole. This process goes on with the old one, if it can.
        exchange().map_err(|error| failed("put back", fresh, &error))?;
        return Err(failed("sync", both, &error));
    }
    Ok(())
}
