//! Snapshots: a partition's tree as a file that travels to another node and becomes the tree there.
//!
//! Reading order: `take` (a primary makes the file and reads it in parts), `receive` (a replica keeps the parts as they come, and
//! goes on where it was after an interruption), `install` (the whole file becomes the partition's tree), `leftovers` (what a
//! process that ended in between has left). How the parts travel is not known here.
//!
//! ```text
//! snapshots/NNNN-<id>.mdb      a snapshot that was taken; a start removes it
//! incoming/NNNN/data.mdb       what came of one so far
//! incoming/NNNN/note           which one it is, and up to where that is on disk (see `receive`)
//! partitions/NNNN.<random>/    one that is to become the tree, or what was the tree before; a start removes it
//! partitions/NNNN/keep         where the tree is to go once another has taken its place (see `install`)
//! ```
//!
//! Invariants:
//! - no LMDB reader is held for longer than it takes to copy the file;
//! - a partition's tree is the old one or the new one, whole, whenever the process or the machine ends;
//! - no page that does not have the checksum it was written with is sent, or installed.

mod digest;
mod install;
mod leftovers;
mod receive;
mod take;
#[cfg(test)]
mod tests;

pub use leftovers::clear;
pub use receive::IncomingSnapshot;
pub use take::Snapshot;

use super::tree::{Copied, TreeError};
use crate::base::ids::{PartitionId, Point};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

/// What a snapshot is, as its taker offers it to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotOffer {
    /// Random: no two snapshots have the same.
    pub id: u64,
    /// Of which partition.
    pub partition: PartitionId,
    /// Where the history of its rows stands.
    pub point: Point,
    /// Bytes of the file.
    pub bytes: u64,
    /// CRC-32C of the file.
    pub checksum: u32,
}

impl SnapshotOffer {
    fn copied(&self) -> Copied {
        Copied { bytes: self.bytes, checksum: self.checksum }
    }
}

/// Why a snapshot was not taken, received or installed; in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotError {
    /// The disk has no room for it.
    NoRoom(String),
    /// It is not what was sent, or cannot be a snapshot. What came of it is not used: the next attempt begins at its start.
    Refused(String),
    /// The partition receives one already, or is written to by this node.
    Busy(String),
    /// The storage failed or is damaged.
    Storage(String),
}

impl std::fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::NoRoom(reason) | Self::Refused(reason) | Self::Busy(reason) | Self::Storage(reason)) =
            self;
        f.write_str(reason)
    }
}

impl std::error::Error for SnapshotError {}

impl From<TreeError> for SnapshotError {
    fn from(error: TreeError) -> SnapshotError {
        SnapshotError::Storage(error.0)
    }
}

/// What a store knows of snapshots.
#[derive(Default)]
pub(super) struct Snapshots {
    /// The data folder; none for a store in memory only.
    folder: Option<PathBuf>,
    /// Partitions that receive one.
    receiving: Arc<Mutex<BTreeSet<PartitionId>>>,
    removals: Removals,
}

impl Snapshots {
    /// Of a store in a data folder.
    pub fn new(folder: &Path) -> Snapshots {
        Snapshots { folder: Some(folder.to_path_buf()), ..Snapshots::default() }
    }

    fn folder(&self) -> Result<&Path, SnapshotError> {
        let none = || SnapshotError::Storage("this store is in memory only".into());
        self.folder.as_deref().ok_or_else(none)
    }

    fn tree_folder(&self, id: PartitionId) -> Result<PathBuf, SnapshotError> {
        Ok(self.folder()?.join("partitions").join(id.to_string()))
    }
}

/// Threads that remove large files, waited for when the store is closed.
#[derive(Default)]
struct Removals(Mutex<Vec<JoinHandle<()>>>);

impl Removals {
    /// Removes a folder. What cannot be removed, the next start removes.
    fn remove(&self, folder: PathBuf) {
        let work = move || {
            if let Err(error) = std::fs::remove_dir_all(&folder) {
                tracing::warn!("{} stays until the next start: {error}", folder.display());
            }
        };
        let mut threads = self.0.lock();
        threads.retain(|thread| !thread.is_finished());
        match std::thread::Builder::new().name("remove".into()).spawn(work) {
            Ok(thread) => threads.push(thread),
            Err(error) => tracing::warn!("an old tree stays until the next start: {error}"),
        }
    }
}

impl Drop for Removals {
    fn drop(&mut self) {
        for thread in self.0.lock().drain(..) {
            // A panic there was reported, and the next start removes what is left.
            let _ = thread.join();
        }
    }
}

/// An error of the file system, with what was tried.
fn failed(what: &str, path: &Path, error: &std::io::Error) -> SnapshotError {
    let text = format!("cannot {what} {}: {error}", path.display());
    if error.kind() == std::io::ErrorKind::StorageFull {
        SnapshotError::NoRoom(text)
    } else {
        SnapshotError::Storage(text)
    }
}

/// Makes the names in a folder durable.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    std::fs::File::open(path)?.sync_all()
}
