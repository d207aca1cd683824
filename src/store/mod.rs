//! The store: partitions of rows, committed through one journal, checkpointed into LMDB trees.
//!
//! Reading order: `row` (what is stored), `table` (rows in memory), `partition`, `transaction` (how the layers above read and
//! write), then what keeps it on disk: `journal`, `checkpoint`, `tree`, `recovery`. Knows nothing of RESP, sockets or commands.
//!
//! Invariants:
//! - any thread may run any transaction; partitions are locked in number order, for microseconds, never across a disk write;
//! - a commit is one journal record, appended before the locks are released;
//! - trees are written by one thread at a time and never by a command.

mod answers;
mod apply;
mod background;
mod checkpoint;
mod deadlines;
mod durations;
pub mod eviction;
mod expiry;
mod image;
pub mod journal;
#[cfg(test)]
mod model_tests;
mod options;
mod order;
mod partition;
pub mod record;
mod recovery;
pub mod repair;
mod room;
pub mod row;
mod snapshot;
mod staged;
mod table;
mod transaction;
mod tree;
mod walk;
mod watch;

pub use answers::Answered;
pub use apply::ApplyError;
pub use background::Background;
pub use checkpoint::Checkpointed;
pub use durations::CountedDurations;
pub use eviction::{Evicted, Policy};
pub use expiry::{ClearParts, Expired};
pub use journal::SyncMode;
pub use options::{Options, StoreStatus};
pub use partition::Counters;
pub use recovery::OpenError;
pub use row::{Entry, Items, Kind, NewValue, hash32};
pub use snapshot::{IncomingSnapshot, Snapshot, SnapshotError, SnapshotOffer};
pub use transaction::{
    AccessClock, ItemChange, Key, PartitionSet, Savepoint, ScanPosition, Transaction, View, items_after,
};
pub use tree::{ControlChange, ControlFile, TreeError};
pub use watch::WatchFlag;

use crate::base::clock::unix_ms;
use crate::base::ids::{PartitionId, Slot};
use arc_swap::ArcSwap;
use durations::Durations;
use journal::{Journal, SectionHead};
use parking_lot::{Mutex, MutexGuard};
use partition::Partition;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tree::Environment;

/// What a partition takes without data, in its tree and in memory: a round figure near what is measured.
const EMPTY_PARTITION_BYTES: u64 = 64 * 1024;

/// A partition that is not written to is checkpointed all the same when so much of the journal concerns others.
const IDLE_BYTES: u64 = 128 << 20;

/// Why a command must stop before its end: nothing was changed, the transaction is to be dropped.
#[derive(Clone, Debug)]
pub enum Interrupt {
    /// A row must be fetched from disk, outside of the locks; then the command runs again.
    Fetch(Box<FetchRequest>),
    /// Disk space must be reserved, outside of the locks; then the command runs again.
    Room(Room),
    /// Its changes do not fit into a record.
    TooLarge,
    /// It would change a partition that another node is primary of.
    NotPrimary,
    /// The storage failed or is damaged; in words.
    Storage(String),
}

/// How much disk space must be reserved.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    bytes: u64,
    /// For what makes data grow.
    grows: bool,
}

/// Which row must be fetched.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// Where it belongs.
    partition: PartitionId,
    /// In which tree it is, if it exists.
    tree: tree::TreeName,
    /// Its whole key.
    row_key: Box<[u8]>,
    /// Its table hash.
    hash: u64,
}

/// Why writes are refused just now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The disk has no room: what makes data grow is refused, the rest goes on.
    DiskFull,
    /// The journal cannot be written for the moment: every write is refused until it can.
    Stuck(String),
    /// The journal could not be synced: every write is refused until the server is started again.
    Failed(String),
    /// A tree is damaged, so that nothing can be written to it: every write is refused.
    Damaged(String),
}

/// When a reply to a flushed write may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Now.
    Acknowledge,
    /// Once the journal is synced up to the position.
    AwaitSync,
    /// It was not flushed: to be tried again after the next sync, or in a moment. The disk cannot keep up.
    Late,
}

/// Takes each record that is committed or applied, under the locks of its partitions, and says where the next one begins.
pub type Recorder = Box<dyn Fn(&[u8]) -> u64 + Send + Sync>;

/// Partitions, their journal and their trees.
pub struct Store {
    partitions: Vec<Mutex<Partition>>,
    /// Stored bytes of each partition, readable without its lock.
    bytes: Vec<AtomicU64>,
    /// One a partition; none for a store in memory only.
    environments: Vec<ArcSwap<Environment>>,
    /// One a partition, held from the freeze of a checkpoint to its end, and while another tree takes the place of this.
    writing: Vec<Mutex<()>>,
    snapshots: snapshot::Snapshots,
    journal: Option<Journal>,
    /// Takes the records of a store in memory.
    recorder: Option<Recorder>,
    /// See [`Options::secret`]. What the store was opened with counts.
    secret: u64,
    manifest: Option<recovery::Manifest>,
    options: ArcSwap<Options>,
    started: Instant,
    clock_s: AtomicU32,
    access_now: AtomicU32,
    lfu: AtomicBool,
    sweep_age: AtomicU32,
    /// Rows that are not in memory are fetched without the lock: the trees do not fit into the page cache.
    fetches: AtomicBool,
    /// The trees were read once since the start, or were empty then.
    warmed: AtomicBool,
    /// Far more rows wait for a checkpoint than should: writers are held up.
    overloaded: AtomicBool,
    notes: Notes,
    /// What is damaged, once something was found to be.
    damage: OnceLock<String>,
}

/// Totals for [`StoreStatus`].
#[derive(Default)]
struct Notes {
    checkpoints: AtomicU64,
    checkpointed_rows: AtomicU64,
    last_checkpoint_ms: AtomicU64,
    checkpoint_durations: Durations,
    last_save_s: AtomicI64,
    /// Partitions whose dirty rows the disk has no room for.
    without_room: Mutex<BTreeSet<PartitionId>>,
    /// Whether there are any.
    is_without_room: AtomicBool,
    /// Of partitions whose last checkpoint failed: why.
    checkpoint_errors: Mutex<BTreeMap<PartitionId, String>>,
    recovered_records: u64,
    recovered_position: u64,
    recovered_cut_bytes: u64,
}

impl Store {
    /// Opens the data folder, or makes it with `partitions` partitions; recovers what its journal has beyond the trees.
    pub fn open(
        folder: &Path,
        partitions: u16,
        databases: u16,
        options: Options,
    ) -> Result<Store, OpenError> {
        let opened = recovery::open(folder, partitions, databases)?;
        let journal = Journal::open(
            &folder.join("journal"),
            &opened.recovered,
            options.sync,
            options.journal_segment_bytes,
        )?;
        let notes = Notes {
            recovered_records: opened.replayed,
            recovered_position: opened.recovered.end,
            recovered_cut_bytes: opened.recovered.cut,
            last_save_s: AtomicI64::new(unix_ms() / 1000),
            ..Notes::default()
        };
        if opened.recovered.cut > 0 {
            tracing::warn!("cut {} bytes of a torn record at the end of the journal", opened.recovered.cut);
        }
        let store = Store::with(opened.partitions, options);
        let writing = opened.environments.iter().map(|_| Mutex::default()).collect();
        let snapshots = snapshot::Snapshots::new(folder);
        let store = Store {
            environments: opened.environments.into_iter().map(ArcSwap::from).collect(),
            writing,
            snapshots,
            journal: Some(journal),
            manifest: Some(opened.manifest),
            notes,
            ..store
        };
        let is_new = store.partitions.iter().all(|partition| partition.lock().tree.is_empty());
        let never_fetches = store.options.load().fetch_beyond_bytes == u64::MAX;
        store.warmed.store(is_new || never_fetches, Ordering::Relaxed);
        store.choose_how_to_read();
        Ok(store)
    }

    /// Checks every page of every tree against its checksum. Ends early when `stop` is set.
    ///
    /// # Errors
    /// What is damaged. From then on writes are refused; rows on pages that are whole are still served.
    pub fn check_trees(&self, stop: &AtomicBool) -> Result<(), TreeError> {
        (0..self.environments.len()).try_for_each(|index| self.check_tree(index, stop))
    }

    fn check_tree(&self, index: usize, stop: &AtomicBool) -> Result<(), TreeError> {
        let environment = self.tree(index);
        let checked = environment.check_all(stop);
        if !Arc::ptr_eq(&environment, &self.tree(index)) {
            return Ok(()); // another took its place, which was checked before
        }
        if let Err(error) = &checked {
            tracing::error!("{error}; rows on whole pages can be read, changes are refused");
            let _ = self.damage.set(error.0.clone());
        }
        checked
    }

    /// The tree of a partition. What takes its place is not written to before [`Store::writing`] is free.
    fn tree(&self, index: usize) -> Arc<Environment> {
        self.environments[index].load_full()
    }

    /// Bytes of the trees' files.
    fn tree_bytes(&self) -> u64 {
        self.environments.iter().map(|environment| environment.load().disk_bytes()).sum()
    }

    /// Reads the trees' files once, so that their pages are in the page cache, if they fit there. Ends early when `stop` is set.
    fn warm(&self, stop: &AtomicBool) {
        let trees = self.tree_bytes();
        if self.warmed.load(Ordering::Relaxed) || trees > self.options.load().fetch_beyond_bytes {
            return;
        }
        for environment in &self.environments {
            if let Err(error) = environment.load().read_through(stop) {
                tracing::warn!("a tree's file could not be read ahead: {error}");
            }
        }
        self.warmed.store(true, Ordering::Relaxed);
        self.choose_how_to_read();
    }

    /// Decides whether rows that are not in memory are read at once, under the lock, or fetched without it. At once costs a
    /// microsecond, if the page is in the page cache: where it is once the trees were warmed, as long as they fit.
    fn choose_how_to_read(&self) {
        let trees = self.tree_bytes();
        let fetches = trees > self.options.load().fetch_beyond_bytes || !self.warmed.load(Ordering::Relaxed);
        if self.fetches.swap(fetches, Ordering::Relaxed) != fetches {
            self.partitions.iter().for_each(|partition| partition.lock().fetches = fetches);
        }
    }

    /// A store that lives in memory only, for tests.
    pub fn in_memory(partitions: u16, databases: u16) -> Store {
        let make = |id| recovery::empty_partition(PartitionId(id), databases, tree::Tree::none());
        let options = Options { secret: 0, ..Options::default() };
        Store::with((0..partitions).map(make).map(Mutex::new).collect(), options)
    }

    /// The same with a journal that somebody else keeps.
    pub fn recorded(partitions: u16, databases: u16, recorder: Recorder) -> Store {
        Store { recorder: Some(recorder), ..Store::in_memory(partitions, databases) }
    }

    fn with(partitions: Vec<Mutex<Partition>>, options: Options) -> Store {
        let store = Store {
            bytes: partitions.iter().map(|partition| partition.lock().bytes.into()).collect(),
            partitions,
            environments: Vec::new(),
            writing: Vec::new(),
            snapshots: snapshot::Snapshots::default(),
            journal: None,
            recorder: None,
            secret: options.secret,
            manifest: None,
            lfu: AtomicBool::new(options.policy.is_lfu()),
            options: ArcSwap::from_pointee(options),
            started: Instant::now(),
            clock_s: AtomicU32::new(0),
            access_now: AtomicU32::new(0),
            sweep_age: AtomicU32::new(u32::MAX),
            fetches: AtomicBool::new(false),
            warmed: AtomicBool::new(true),
            overloaded: AtomicBool::new(false),
            notes: Notes::default(),
            damage: OnceLock::new(),
        };
        store.tick_clock();
        store
    }

    /// Whether rows that are not in memory are fetched without the locks.
    fn fetches(&self) -> bool {
        self.fetches.load(Ordering::Relaxed)
    }

    /// Changes the options.
    pub fn set_options(&self, options: Options) {
        if let Some(journal) = &self.journal {
            journal.set_mode(options.sync);
        }
        self.lfu.store(options.policy.is_lfu(), Ordering::Relaxed);
        self.options.store(Arc::new(options));
        self.tick_clock();
        self.choose_how_to_read();
    }

    /// Number of partitions.
    #[inline]
    pub fn partition_count(&self) -> u16 {
        self.partitions.len() as u16
    }

    /// This node's identity, as its data folder has it.
    pub fn node(&self) -> &str {
        self.manifest.as_ref().map_or("", |manifest| &manifest.node)
    }

    /// The partition that holds `slot`.
    #[inline]
    pub fn partition_of(&self, slot: Slot) -> PartitionId {
        PartitionId::of(slot, self.partition_count())
    }

    /// Says whether this node takes changes of a partition. One that it does not take them of expires and evicts nothing either.
    pub fn set_primary(&self, id: PartitionId, is_primary: bool) {
        let mut partition = self.lock_settled(id);
        partition.is_primary = is_primary;
    }

    /// Locks a partition that is about to take changes of this node: not while a snapshot takes its place. That is waited for.
    fn lock_settled(&self, id: PartitionId) -> MutexGuard<'_, Partition> {
        let index = usize::from(id.0);
        loop {
            let partition = self.partitions[index].lock();
            if !partition.is_being_replaced {
                return partition;
            }
            drop(partition);
            drop(self.writing[index].lock()); // held until it is in its place
        }
    }

    /// Locks `partitions` for reading at wall clock `now` (milliseconds since 1970).
    #[inline]
    pub fn view(&self, partitions: &PartitionSet, now: i64) -> View<'_> {
        View::new(self, self.lock(partitions), now)
    }

    /// Locks `partitions` for reading and writing at wall clock `now` (milliseconds since 1970).
    #[inline]
    pub fn transaction(&self, partitions: &PartitionSet, now: i64) -> Transaction<'_> {
        Transaction::new(self.view(partitions, now))
    }

    #[inline]
    fn lock(&self, partitions: &PartitionSet) -> SmallVec<[MutexGuard<'_, Partition>; 1]> {
        let lock = |id: &PartitionId| self.partitions[id.0 as usize].lock();
        match partitions {
            PartitionSet::One(id) => {
                let mut guards = SmallVec::new();
                guards.push(lock(id));
                guards
            }
            PartitionSet::Some(ids) => ids.iter().map(lock).collect(),
            PartitionSet::All => self.partitions.iter().map(Mutex::lock).collect(),
        }
    }

    /// Writes the journal up to `position` (as [`Transaction::commit`] gave it), so that a killed process loses none of it.
    /// On error the outcome of the write is unknown and must be answered so.
    #[inline]
    pub fn flush(&self, position: u64) -> Result<Flushed, Interrupt> {
        let Some(journal) = &self.journal else { return Ok(Flushed::Acknowledge) };
        if journal.is_late(position) {
            return Ok(Flushed::Late);
        }
        journal.write(position).map_err(|error| Interrupt::Storage(error.0))?;
        let durable = journal.mode() != SyncMode::Always || journal.synced() >= position;
        Ok(if durable { Flushed::Acknowledge } else { Flushed::AwaitSync })
    }

    /// Whether far more waits for a checkpoint than should: whoever writes should wait a moment before.
    #[inline]
    pub fn is_overloaded(&self) -> bool {
        self.overloaded.load(Ordering::Relaxed)
    }

    /// The journal position up to which a power loss loses nothing.
    pub fn durable_position(&self) -> u64 {
        self.journal.as_ref().map_or(u64::MAX, Journal::synced)
    }

    /// `tell` is called with the durable position after each sync of the journal.
    pub fn after_sync(&self, tell: Box<dyn Fn(u64) + Send>) {
        if let Some(journal) = &self.journal {
            journal.after_sync(tell);
        }
    }

    /// Writes and syncs the whole journal: what a stop needs.
    pub fn sync(&self) -> Result<(), Interrupt> {
        let Some(journal) = &self.journal else { return Ok(()) };
        journal.sync_to(journal.appended()).map(drop).map_err(|error| Interrupt::Storage(error.0))
    }

    /// Why writes are refused just now, if they are.
    #[inline]
    pub fn refusal(&self) -> Option<Refusal> {
        let journal = self.journal.as_ref()?;
        if let Some(failure) = journal.failure() {
            return Some(Refusal::Failed(failure.0));
        }
        if let Some(damage) = self.damage.get() {
            return Some(Refusal::Damaged(damage.clone()));
        }
        if let Some(error) = journal.stuck() {
            return Some(Refusal::Stuck(error.0));
        }
        let is_full = journal.is_full() || self.notes.is_without_room.load(Ordering::Relaxed);
        is_full.then_some(Refusal::DiskFull)
    }

    /// An interrupt unless a transaction of `bytes` bytes may be committed.
    #[inline]
    fn admit(&self, bytes: u64, grows: bool) -> Result<(), Interrupt> {
        let Some(journal) = &self.journal else { return Ok(()) };
        if journal.admits(bytes, grows) && bytes < journal::RECORD_MAX {
            return Ok(());
        }
        if bytes >= journal::RECORD_MAX {
            return Err(Interrupt::TooLarge);
        }
        Err(Interrupt::Room(Room { bytes, grows }))
    }

    /// Reserves the disk space that a command was interrupted for, or says why that cannot be.
    #[cold]
    pub fn make_room(&self, room: Room) -> Result<(), Refusal> {
        let Some(journal) = &self.journal else { return Ok(()) };
        journal.make_room(room.bytes, room.grows).map_err(|error| match self.refusal() {
            Some(refusal @ (Refusal::Failed(_) | Refusal::Stuck(_))) => refusal,
            _ if room.grows => Refusal::DiskFull,
            _ => Refusal::Stuck(error.0),
        })
    }

    /// Fetches what a command was interrupted for, without holding locks while the disk works.
    pub fn fetch(&self, request: &FetchRequest) -> Result<(), Interrupt> {
        let index = request.partition.0 as usize;
        loop {
            let clean = self.partitions[index].lock().clean;
            let found = self.tree(index).get(request.tree, &request.row_key, request.hash)?;
            let mut partition = self.partitions[index].lock();
            // A checkpoint in between may have written a newer version than the one we read.
            if partition.clean == clean {
                partition.keep_fetched(request, found, self.access_clock().fresh());
                return Ok(());
            }
        }
    }

    /// Runs `work` again and again until all that it needs has been fetched.
    pub fn until_fetched<T>(&self, mut work: impl FnMut() -> Result<T, Interrupt>) -> Result<T, Interrupt> {
        loop {
            match work() {
                Err(Interrupt::Fetch(request)) => self.fetch(&request)?,
                Err(Interrupt::Room(room)) => self
                    .make_room(room)
                    .map_err(|refusal| Interrupt::Storage(format!("no room on the disk: {refusal:?}")))?,
                done => return done,
            }
        }
    }

    /// Checkpoints every partition: nothing need be replayed at the next start.
    pub fn checkpoint_now(&self) -> Result<(), TreeError> {
        (0..self.partition_count())
            .try_for_each(|id| self.checkpoint_and_note(PartitionId(id), true).map(|_| ()))
    }

    /// Checkpoints partitions until all are done or `deadline` is over. What is left is replayed from the journal at the next start.
    pub fn checkpoint_before(&self, deadline: Instant) -> Result<(), TreeError> {
        if self.damage.get().is_some() {
            return Ok(()); // the journal has it all; whoever repairs the trees begins there
        }
        // To check a tree before it is written to may take longer than a stop should.
        let is_checked = |id: &PartitionId| {
            self.environments.get(id.0 as usize).is_none_or(|tree| tree.load().is_checked())
        };
        let ids = (0..self.partition_count())
            .map(PartitionId)
            .take_while(|_| Instant::now() < deadline)
            .filter(is_checked);
        ids.map(|id| self.checkpoint_and_note(id, true)).try_for_each(|done| done.map(|_| ()))
    }

    /// Checkpoints a partition, notes how it went, and drops journal segments that no tree needs any more. The changes count as
    /// saved if it `saves`.
    fn checkpoint_and_note(&self, id: PartitionId, saves: bool) -> Result<Checkpointed, TreeError> {
        let lsn = self.partitions[id.0 as usize].lock().lsn;
        let result = self.checkpoint(id);
        match &result {
            Ok(done) => {
                if saves {
                    let saved = &mut self.partitions[id.0 as usize].lock().saved_lsn;
                    *saved = lsn.max(*saved);
                }
                self.notes.checkpoints.fetch_add(1, Ordering::Relaxed);
                self.notes.checkpointed_rows.fetch_add(done.rows as u64, Ordering::Relaxed);
                self.notes.last_checkpoint_ms.store(done.elapsed.as_millis() as u64, Ordering::Relaxed);
                self.notes.checkpoint_durations.note(done.elapsed);
                self.notes.last_save_s.store(unix_ms() / 1000, Ordering::Relaxed);
                self.notes.checkpoint_errors.lock().remove(&id);
                self.drop_old_segments();
                self.choose_how_to_read();
            }
            Err(error) => {
                let before = self.notes.checkpoint_errors.lock().insert(id, error.0.clone());
                if before.as_ref() != Some(&error.0) {
                    tracing::error!(
                        "the checkpoint of partition {id} failed and will be tried again: {error}"
                    );
                }
            }
        }
        result
    }

    /// Drops journal segments whose every record is in a tree.
    fn drop_old_segments(&self) {
        let Some(journal) = &self.journal else { return };
        let mut needed = journal.appended();
        for (partition, writing) in self.partitions.iter().zip(&self.writing) {
            // Held while the partition is looked at: another thread's checkpoint takes the rows first (and then nothing is
            // dirty) and writes them afterwards; until they are in the tree the journal alone has them.
            let _not_between_freeze_and_end = writing.lock();
            let mut partition = partition.lock();
            if let Some((position, _)) = partition.dirty_since {
                needed = needed.min(position);
            } else if partition.journal_start + IDLE_BYTES < needed {
                // So that its tree says that it needs none of that, and the next start need not read it.
                partition.dirty_since = Some((needed, self.clock_s.load(Ordering::Relaxed)));
            }
        }
        let dropped = journal.roll_if_done(needed).and_then(|()| journal.drop_before(needed));
        if let Err(error) = dropped {
            tracing::warn!("old journal segments stay: {error}");
        }
    }

    /// Says that the partition's rows are no longer what its history led to. The next checkpoint keeps that.
    fn break_history(&self, id: PartitionId) {
        let position = self.journal_end();
        let mut partition = self.partitions[usize::from(id.0)].lock();
        partition.chain = rand::random();
        partition.dirty_since.get_or_insert((position, 0));
    }

    /// Exact counts of a database over all partitions.
    pub fn counters(&self, database: u16) -> Counters {
        let mut sum = Counters::default();
        for partition in &self.partitions {
            if let Some(database) = partition.lock().databases.get(database as usize) {
                sum.keys += database.counters.keys;
                sum.expires += database.counters.expires;
                sum.bytes += database.counters.bytes;
            }
        }
        sum
    }

    /// Stored bytes of data over all partitions and databases, as `maxmemory` counts them.
    #[inline]
    pub fn data_bytes(&self) -> u64 {
        self.bytes.iter().map(|bytes| bytes.load(Ordering::Relaxed)).sum()
    }

    /// What `maxmemory` limits and INFO calls used: the data, and what an empty store takes. Buffers do not count.
    #[inline]
    pub fn used_bytes(&self) -> u64 {
        self.data_bytes() + self.empty_bytes()
    }

    /// The part of [`Store::used_bytes`] that is there without data.
    #[inline]
    pub fn empty_bytes(&self) -> u64 {
        u64::from(self.partition_count()) * EMPTY_PARTITION_BYTES
    }

    /// What the store is doing, in numbers.
    pub fn status(&self) -> StoreStatus {
        let notes = &self.notes;
        let mut status = StoreStatus {
            partitions: self.partition_count(),
            data_bytes: self.data_bytes(),
            tree_bytes: self.tree_bytes(),
            checkpoints: notes.checkpoints.load(Ordering::Relaxed),
            checkpointed_rows: notes.checkpointed_rows.load(Ordering::Relaxed),
            last_checkpoint_ms: notes.last_checkpoint_ms.load(Ordering::Relaxed),
            checkpoint_durations: notes.checkpoint_durations.counted(),
            last_save_s: notes.last_save_s.load(Ordering::Relaxed),
            checkpoint_error: notes.checkpoint_errors.lock().values().next().cloned(),
            damage: self.damage.get().cloned(),
            recovered_records: notes.recovered_records,
            recovered_position: notes.recovered_position,
            recovered_cut_bytes: notes.recovered_cut_bytes,
            ..StoreStatus::default()
        };
        if let Some(journal) = &self.journal {
            status.journal_bytes = journal.disk_bytes();
            status.journal_position = journal.appended();
            status.durable_position = journal.synced();
            status.sync_durations = journal.sync_durations();
        }
        for partition in &self.partitions {
            let partition = partition.lock();
            status.memory_rows += partition.memory_rows() as u64;
            status.memory_bytes += partition.memory_bytes() as u64;
            status.overlay_bytes += partition.dirty_bytes as u64;
            status.transactions += partition.lsn.0;
            status.unsaved += partition.lsn.0.saturating_sub(partition.saved_lsn.0);
            status.garbage_pending += (partition.emptied.len() + partition.dropped.len()) as u64;
        }
        status
    }

    /// The clock that accesses are noted by, under the eviction policy in force.
    #[inline]
    fn access_clock(&self) -> AccessClock {
        AccessClock { now: self.access_now.load(Ordering::Relaxed), lfu: self.lfu.load(Ordering::Relaxed) }
    }

    /// Numbers and journals what is staged in `guards`. Returns the position behind the record.
    #[inline]
    fn journal_append(&self, guards: &mut [MutexGuard<'_, Partition>], time_ms: i64) -> u64 {
        let changed = |guard: &MutexGuard<'_, Partition>| !guard.staged.is_empty();
        let second = self.clock_s.load(Ordering::Relaxed);
        let before = self.journal_end();
        let mut count = 0;
        for guard in guards.iter_mut().filter(|guard| changed(guard)) {
            guard.lsn.0 += 1;
            guard.dirty_since.get_or_insert((before, second));
            count += 1;
        }
        self.append(|out| {
            journal::put_number(out, count);
            for guard in guards.iter_mut().filter(|guard| changed(guard)) {
                let head = SectionHead {
                    partition: guard.id,
                    epoch: guard.epoch,
                    lsn: guard.lsn,
                    previous: guard.chain,
                    time_ms,
                };
                let operations = guard.staged.iter().map(|staged| &staged.operation);
                guard.chain = journal::encode_section(out, &head, operations);
            }
        })
    }

    /// Journals the record whose payload `encode` writes. Returns the position behind it.
    #[inline]
    fn append(&self, encode: impl FnOnce(&mut Vec<u8>)) -> u64 {
        match &self.journal {
            Some(journal) => journal.append(encode),
            None => self.record(encode),
        }
    }

    /// What a store in memory does with a record.
    fn record(&self, encode: impl FnOnce(&mut Vec<u8>)) -> u64 {
        let mut payload = Vec::new();
        encode(&mut payload);
        self.recorder.as_ref().map_or(1, |recorder| recorder(&payload))
    }

    /// Position behind the last record of the journal; 0 without one.
    #[inline]
    fn journal_end(&self) -> u64 {
        self.journal.as_ref().map_or(0, Journal::appended)
    }

    /// Publishes a partition's stored bytes after a commit.
    #[inline]
    fn note_bytes(&self, partition: &Partition) {
        self.bytes[partition.id.0 as usize].store(partition.bytes, Ordering::Relaxed);
    }
}
