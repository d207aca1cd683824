//! The log and the vote, on the shelf.
//!
//! ```text
//! "format"               -> version (1)
//! "vote"                 -> Vote
//! "committed"            -> LogId: decided up to here, for certain; may be behind
//! "purged"               -> LogId: the log begins behind it
//! "log/" · index (8, BE) -> Entry
//! "snapshot"             -> see `machine`
//! ```
//! Values are postcard. Each change is one batch of the shelf, and has survived when it is reported.

use super::machine::Stored;
use super::shelf::{Change, Shelf, ShelfError};
use super::types::{Entry, LogId, StorageError, Types, Vote};
use crate::base::ids::NodeId;
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, LogState, OptionalSend, RaftLogReader, StorageIOError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::ops::{Bound, ControlFlow, Range, RangeBounds};
use std::sync::Arc;
use tokio::sync::watch;

const FORMAT: &[u8] = b"format";
const FORMAT_VERSION: u8 = 1;
const VOTE: &[u8] = b"vote";
const COMMITTED: &[u8] = b"committed";
const PURGED: &[u8] = b"purged";
const ENTRIES: &[u8] = b"log/";
/// Bytes of entries that are sent together, the last one not counted.
const BATCH_BYTES: usize = 1 << 20;

/// See the module.
pub struct Log {
    node: NodeId,
    shelf: Arc<dyn Shelf>,
    /// Up to where the snapshot on the shelf goes.
    stored: watch::Receiver<Stored>,
    purged: Option<LogId>,
    last: Option<LogId>,
    /// Written with the next batch: a sync of its own it is not worth.
    committed: Option<LogId>,
}

/// Reads entries for those who are behind.
pub struct Reader {
    shelf: Arc<dyn Shelf>,
}

fn key_of(index: u64) -> Vec<u8> {
    [ENTRIES, &index.to_be_bytes()].concat()
}

/// The value in its form on the shelf.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("memory takes everything, and all lengths are known")
}

/// A value of the shelf; bytes left over are an error like any other.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ShelfError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(ShelfError("there is more than belongs there".into())),
        Err(error) => Err(ShelfError(format!("it makes no sense: {error}"))),
    }
}

fn read<T: DeserializeOwned>(shelf: &dyn Shelf, key: &[u8]) -> Result<Option<T>, ShelfError> {
    let Some(bytes) = shelf.get(key)? else { return Ok(None) };
    let named = |error: ShelfError| ShelfError(format!("{}: {error}", String::from_utf8_lossy(key)));
    decode(&bytes).map(Some).map_err(named)
}

/// Entries from the shelf; those behind the first one only as long as there are fewer than `bytes_max` bytes.
fn entries(shelf: &dyn Shelf, range: Range<u64>, bytes_max: usize) -> Result<Vec<Entry>, ShelfError> {
    let (mut entries, mut bytes, mut failed) = (Vec::new(), 0, None);
    shelf.scan(&key_of(range.start)..&key_of(range.end), &mut |_, value| match decode(value) {
        Ok(entry) => {
            entries.push(entry);
            bytes += value.len();
            if bytes < bytes_max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        }
        Err(error) => {
            failed = Some(ShelfError(format!("an entry of the log: {error}")));
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(entries), Err)
}

impl Log {
    /// This node's log on this shelf, beside a snapshot that goes as far as `stored` says. A new shelf gets a log.
    pub async fn open(
        node: NodeId,
        shelf: Arc<dyn Shelf>,
        stored: watch::Receiver<Stored>,
    ) -> Result<Log, ShelfError> {
        match read::<u8>(&*shelf, FORMAT)? {
            Some(FORMAT_VERSION) => {}
            Some(version) => return Err(ShelfError(format!("format {version} is not known"))),
            None => shelf.write(vec![Change::Put(FORMAT.to_vec(), encode(&FORMAT_VERSION))]).await?,
        }
        let purged = read(&*shelf, PURGED)?;
        let end = [ENTRIES, &[0xFF; 9]].concat();
        let last = match shelf.last(ENTRIES..&end)? {
            Some((_, value)) => Some(decode::<Entry>(&value)?.log_id),
            None => purged,
        };
        let committed = read(&*shelf, COMMITTED)?;
        Ok(Log { node, shelf, stored, purged, last, committed })
    }

    /// Whether nothing was ever decided here, nor anybody voted for.
    pub fn is_new(&self) -> Result<bool, ShelfError> {
        Ok(self.last.is_none() && self.shelf.get(VOTE)?.is_none())
    }

    async fn write(&mut self, mut batch: Vec<Change>) -> Result<(), ShelfError> {
        if let Some(committed) = &self.committed {
            batch.push(Change::Put(COMMITTED.to_vec(), encode(committed)));
        }
        self.shelf.write(batch).await
    }
}

fn writing(error: &ShelfError) -> StorageError {
    StorageIOError::write_logs(AnyError::new(error)).into()
}

fn reading(error: &ShelfError) -> StorageError {
    StorageIOError::read_logs(AnyError::new(error)).into()
}

/// First index and the one behind the last.
fn indexes(range: impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(first) => *first,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(behind) => *behind,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl RaftLogReader<Types> for Reader {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, StorageError> {
        entries(&*self.shelf, indexes(range), usize::MAX).map_err(|error| reading(&error))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        entries(&*self.shelf, start..end, BATCH_BYTES).map_err(|error| reading(&error))
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, StorageError> {
        entries(&*self.shelf, indexes(range), usize::MAX).map_err(|error| reading(&error))
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Reader;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        Ok(LogState { last_purged_log_id: self.purged, last_log_id: self.last })
    }

    async fn get_log_reader(&mut self) -> Reader {
        Reader { shelf: Arc::clone(&self.shelf) }
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let written = self.write(vec![Change::Put(VOTE.to_vec(), encode(vote))]).await;
        written.map_err(|error| StorageIOError::write_vote(AnyError::new(&error)).into())
    }

    /// A node that led and starts again does not lead on: who granted a lease in its name is forgotten, so that it must be elected
    /// anew, with a new number, like any other. (The library would let it lead on with the vote as it stands.)
    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        let mut vote: Option<Vote> = read(&*self.shelf, VOTE)
            .map_err(|error: ShelfError| StorageIOError::read_vote(AnyError::new(&error)))?;
        if let Some(own) = vote.as_mut().filter(|vote| vote.leader_id.node_id == self.node) {
            own.committed = false;
        }
        Ok(vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.committed = self.committed.max(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.committed)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut last = self.last;
        let put = |entry: Entry| {
            last = Some(entry.log_id);
            Change::Put(key_of(entry.log_id.index), encode(&entry))
        };
        let batch = entries.into_iter().map(put).collect();
        let written = self.write(batch).await;
        if written.is_ok() {
            self.last = last;
        }
        callback.log_io_completed(written.map_err(std::io::Error::other));
        Ok(())
    }

    async fn truncate(&mut self, since: LogId) -> Result<(), StorageError> {
        let last = match since.index.checked_sub(1) {
            Some(before) => {
                let found = entries(&*self.shelf, before..since.index, 0).map_err(|error| reading(&error))?;
                found.first().map(|entry| entry.log_id).or(self.purged)
            }
            None => None,
        };
        let batch = vec![Change::DeleteRange(key_of(since.index)..key_of(u64::MAX))];
        self.write(batch).await.map_err(|error| writing(&error))?;
        self.last = last;
        Ok(())
    }

    /// The library asks for this before a snapshot that it was sent has reached the shelf. It must have: a log that begins behind
    /// the snapshot is of no use, and what this node has confirmed would be lost.
    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        let arrived = self.stored.wait_for(|stored| stored.failed || stored.upto >= Some(upto)).await;
        if !arrived.is_ok_and(|stored| !stored.failed) {
            return Err(writing(&ShelfError("the snapshot before the log was not written".into())));
        }
        let batch = vec![
            Change::Put(PURGED.to_vec(), encode(&upto)),
            Change::DeleteRange(key_of(0)..key_of(upto.index + 1)),
        ];
        self.write(batch).await.map_err(|error| writing(&error))?;
        self.purged = Some(upto);
        self.last = self.last.max(self.purged);
        Ok(())
    }
}
