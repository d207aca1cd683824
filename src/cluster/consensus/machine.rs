//! The state machine: decided entries make the [`ClusterMap`], in memory. On the shelf there is a snapshot of it, and the log
//! behind that.
//!
//! ```text
//! snapshot   version (1) · postcard of `Snapshot`: last entry · who votes · leadership · map
//! ```
//! A leadership is numbered by the index of the first entry that was decided in it: the empty one with which every leader begins.
//! These numbers grow and no two leaders have the same. The library's terms do not have that: one term can have a second leader,
//! when a node with a higher name is elected in it later; so what is fenced by a term would let both through.

use super::log::{decode, encode};
use super::shelf::{Change, Shelf, ShelfError};
use super::types::{Entry, LeaderId, LogId, SnapshotMeta, StorageError, StoredMembership, Types};
use crate::cluster::map::{ClusterMap, Outcome};
use openraft::storage::RaftStateMachine;
use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, StorageIOError};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::watch;

const KEY: &[u8] = b"snapshot";
const VERSION: u8 = 1;

/// A time in which one node led.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leadership {
    /// Who; none before the first.
    pub leader: Option<LeaderId>,
    /// See the module; 0 before the first.
    pub number: u64,
}

/// All that decided entries have led to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The last one.
    pub last: Option<LogId>,
    /// Who votes and who learns.
    pub membership: StoredMembership,
    /// Whose entry it was.
    pub leadership: Leadership,
    /// The map.
    pub map: ClusterMap,
}

/// How far the snapshot on the shelf goes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stored {
    /// The last entry in it.
    pub upto: Option<LogId>,
    /// A later one could not be written.
    pub failed: bool,
}

impl Snapshot {
    /// Its form on the shelf and on the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend(encode(self));
        bytes
    }

    /// # Errors
    /// If these are not the bytes of a snapshot of a known version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Snapshot, ShelfError> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => decode(rest),
            _ => Err(ShelfError("a snapshot of an unknown version".into())),
        }
    }

    /// What the library wants to know of it.
    pub fn meta(&self) -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: self.last,
            last_membership: self.membership.clone(),
            snapshot_id: self.last.map_or_else(String::new, |last| last.to_string()),
        }
    }

    fn apply(&mut self, entry: Entry) -> Outcome {
        let leader = Some(entry.log_id.leader_id);
        if self.leadership.leader != leader {
            self.leadership = Leadership { leader, number: entry.log_id.index };
        }
        self.last = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Blank => Outcome::Done(self.map.version),
            EntryPayload::Normal(command) => self.map.apply(command),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                Outcome::Done(self.map.version)
            }
        }
    }
}

/// See the module. Its clones share all they have.
#[derive(Clone)]
pub struct Machine {
    inner: Arc<Inner>,
}

struct Inner {
    shelf: Arc<dyn Shelf>,
    state: Mutex<Snapshot>,
    /// Taken while a snapshot is written, so that an older one does not replace a newer one.
    writing: tokio::sync::Mutex<()>,
    stored: watch::Sender<Stored>,
    map: Arc<watch::Sender<Arc<ClusterMap>>>,
    leadership: watch::Sender<Leadership>,
}

impl Machine {
    /// The state as of the shelf's snapshot. Tells of changes through `map`.
    pub fn open(
        shelf: Arc<dyn Shelf>,
        map: Arc<watch::Sender<Arc<ClusterMap>>>,
    ) -> Result<Machine, ShelfError> {
        let state = match shelf.get(KEY)? {
            Some(bytes) => Snapshot::from_bytes(&bytes)?,
            None => Snapshot::default(),
        };
        let stored = watch::Sender::new(Stored { upto: state.last, failed: false });
        let leadership = watch::Sender::new(state.leadership);
        let inner = Inner {
            shelf,
            state: Mutex::new(state),
            writing: tokio::sync::Mutex::default(),
            stored,
            map,
            leadership,
        };
        let machine = Machine { inner: Arc::new(inner) };
        machine.tell();
        Ok(machine)
    }

    /// How far the snapshot on the shelf goes.
    pub fn stored(&self) -> watch::Receiver<Stored> {
        self.inner.stored.subscribe()
    }

    /// In whose time this node is, by what it has applied.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.subscribe()
    }

    /// Lets others know of the state. The map goes first: who sees a leadership sees at least what was decided before it.
    fn tell(&self) {
        let state = self.inner.state.lock();
        // Another instance over the same shelf may have been further; the map never goes back.
        self.inner.map.send_if_modified(|map| {
            let is_newer = map.version < state.map.version;
            if is_newer {
                *map = Arc::new(state.map.clone());
            }
            is_newer
        });
        self.inner.leadership.send_if_modified(|leadership| {
            std::mem::replace(leadership, state.leadership) != state.leadership
        });
    }

    /// Writes a snapshot, unless the shelf has a newer one.
    async fn write(&self, snapshot: &Snapshot, bytes: Vec<u8>) -> Result<(), ShelfError> {
        let writing = self.inner.writing.lock().await;
        if self.inner.stored.borrow().upto >= snapshot.last {
            return Ok(());
        }
        let written = self.inner.shelf.write(vec![Change::Put(KEY.to_vec(), bytes)]).await;
        self.inner.stored.send_modify(|stored| match &written {
            Ok(()) => stored.upto = snapshot.last,
            Err(_) => stored.failed = true,
        });
        drop(writing);
        written
    }
}

fn failed(error: &ShelfError) -> StorageError {
    StorageIOError::write_snapshot(None, AnyError::new(error)).into()
}

impl RaftSnapshotBuilder<Types> for Machine {
    async fn build_snapshot(&mut self) -> Result<openraft::Snapshot<Types>, StorageError> {
        let snapshot = self.inner.state.lock().clone();
        let bytes = snapshot.to_bytes();
        self.write(&snapshot, bytes.clone()).await.map_err(|error| failed(&error))?;
        Ok(openraft::Snapshot { meta: snapshot.meta(), snapshot: Box::new(bytes) })
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Machine;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let state = self.inner.state.lock();
        Ok((state.last, state.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Outcome>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let outcomes = {
            let mut state = self.inner.state.lock();
            entries.into_iter().map(|entry| state.apply(entry)).collect()
        };
        self.tell();
        Ok(outcomes)
    }

    async fn get_snapshot_builder(&mut self) -> Machine {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Vec<u8>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(&mut self, _: &SnapshotMeta, bytes: Box<Vec<u8>>) -> Result<(), StorageError> {
        let snapshot = Snapshot::from_bytes(&bytes).map_err(|error| failed(&error))?;
        self.write(&snapshot, *bytes).await.map_err(|error| failed(&error))?;
        *self.inner.state.lock() = snapshot;
        self.tell();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<openraft::Snapshot<Types>>, StorageError> {
        let read = |error: &ShelfError| StorageIOError::read_snapshot(None, AnyError::new(error));
        let Some(bytes) = self.inner.shelf.get(KEY).map_err(|error| read(&error))? else { return Ok(None) };
        let snapshot = Snapshot::from_bytes(&bytes).map_err(|error| read(&error))?;
        Ok(Some(openraft::Snapshot { meta: snapshot.meta(), snapshot: Box::new(bytes) }))
    }
}
