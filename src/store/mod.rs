//! The store: partitions of rows, committed through one journal, checkpointed into LMDB trees.
//!
//! Reading order: `row` (what is stored), `table` (rows in memory), `partition`, `transaction` (how the layers above read and
//! write), then what keeps it on disk. Knows nothing of RESP, sockets or commands.

mod deadlines;
pub mod eviction;
mod order;
mod partition;
mod record;
pub mod row;
mod table;
mod transaction;
mod tree;
mod walk;
mod watch;

pub use partition::Counters;
pub use row::{Entry, Items, Kind, NewValue, hash32};
pub use transaction::{
    AccessClock, ItemChange, Key, PartitionSet, Savepoint, ScanPosition, Transaction, View, items_after,
};
pub use watch::WatchFlag;

use crate::base::ids::{Epoch, Lsn, PartitionId, Slot};
use parking_lot::{Mutex, MutexGuard};
use partition::{Database, Partition};
use smallvec::SmallVec;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a command must stop before its end: nothing was changed, the transaction is to be dropped.
#[derive(Clone, Debug)]
pub enum Interrupt {
    /// A row must be fetched from disk, outside of the locks; then the command runs again.
    Fetch(Box<FetchRequest>),
    /// The storage failed or is damaged; in words.
    Storage(String),
}

/// Which row must be fetched.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// Where it belongs.
    pub partition: PartitionId,
}

/// Partitions, their journal and their trees.
pub struct Store {
    partitions: Vec<Mutex<Partition>>,
    position: AtomicU64,
}

impl Store {
    /// A store that lives in memory only, for tests.
    pub fn in_memory(partitions: u16, databases: u16) -> Store {
        let make = |id| {
            Mutex::new(Partition {
                id: PartitionId(id),
                epoch: Epoch(1),
                lsn: Lsn(0),
                databases: (0..u32::from(databases)).map(Database::new).collect(),
                next_database_id: u32::from(databases),
                items: table::RowTable::new(0),
                deadlines: deadlines::Deadlines::default(),
                watches: watch::Watches::default(),
                staged: Vec::new(),
                staged_databases: Vec::new(),
                uids_made: 0,
                scratch: Vec::new(),
                generation: 1,
                frozen: None,
                dropped: Vec::new(),
                emptied: Vec::new(),
                dirty_bytes: 0,
                dirty_since: None,
                tree: tree::Tree::none(),
            })
        };
        Store { partitions: (0..partitions).map(make).collect(), position: AtomicU64::new(0) }
    }

    /// Number of partitions.
    pub fn partition_count(&self) -> u16 {
        self.partitions.len() as u16
    }

    /// The partition that holds `slot`.
    pub fn partition_of(&self, slot: Slot) -> PartitionId {
        PartitionId::of(slot, self.partition_count())
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
    /// Returns whether a reply may be sent now, or only once [`Store::durable_position`] has reached `position`
    /// (`appendfsync always`).
    pub fn flush(&self, _position: u64) -> Result<Flushed, Interrupt> {
        Ok(Flushed::Acknowledge)
    }

    /// The journal position up to which a power loss loses nothing.
    pub fn durable_position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    /// Fetches what a command was interrupted for, without holding locks while the disk works.
    pub fn fetch(&self, _request: &FetchRequest) -> Result<(), Interrupt> {
        Ok(())
    }

    /// Exact counts of a database over all partitions.
    pub fn counters(&self, database: u16) -> Counters {
        let mut sum = Counters::default();
        for partition in &self.partitions {
            let counters = partition.lock().databases[database as usize].counters;
            sum.keys += counters.keys;
            sum.expires += counters.expires;
            sum.bytes += counters.bytes;
        }
        sum
    }

    /// The clock that accesses are noted by, under the eviction policy in force.
    fn access_clock(&self) -> AccessClock {
        AccessClock { now: 0, lfu: false }
    }

    fn journal_append(&self, guards: &mut [MutexGuard<'_, Partition>]) -> u64 {
        for guard in guards.iter_mut().filter(|guard| !guard.staged.is_empty()) {
            guard.lsn.0 += 1;
        }
        self.position.fetch_add(1, Ordering::AcqRel) + 1
    }
}

/// When a reply to a flushed write may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Now.
    Acknowledge,
    /// Once the journal is synced up to the position.
    AwaitSync,
}
