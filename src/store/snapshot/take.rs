//! Taking a snapshot: a checkpoint, then a copy of the tree's pages into a file.

use super::{SnapshotError, SnapshotOffer, failed};
use crate::base::ids::{PartitionId, Point};
use crate::base::{crash_point, gentle};
use crate::store::{Store, room};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// A partition's tree as of a checkpoint, in a file of its own. The file is removed when nobody has it any more.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Random: no two snapshots have the same.
    pub id: u64,
    /// Of which partition.
    pub partition: PartitionId,
    /// Where the history of its rows stands.
    pub point: Point,
    /// What this node's journal has of the partition before this position is in it.
    pub position: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// CRC-32C of the file.
    pub checksum: u32,
    file: Arc<SnapshotFile>,
}

impl Snapshot {
    /// Up to `len` bytes from `offset` on; fewer at the end.
    pub fn read(&self, offset: u64, len: usize) -> std::io::Result<Vec<u8>> {
        let rest = self.bytes.saturating_sub(offset);
        let mut bytes = vec![0; usize::try_from(rest).map_or(len, |rest| rest.min(len))];
        self.file.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// What its receiver must know of it.
    pub fn offer(&self) -> SnapshotOffer {
        let Snapshot { id, partition, point, bytes, checksum, .. } = *self;
        SnapshotOffer { id, partition, point, bytes, checksum }
    }
}

#[derive(Debug)]
struct SnapshotFile {
    file: File,
    path: PathBuf,
}

impl Drop for SnapshotFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!("{} stays until the next start: {error}", self.path.display());
        }
    }
}

impl Store {
    /// Takes a snapshot of a partition: checkpoints it, and copies the tree. Blocks for as long as the disk needs to read and write
    /// it, while others go on. Who wants the tail behind it pins the journal before.
    ///
    /// # Errors
    /// The disk has no room, or the tree is damaged, or cannot be checkpointed.
    pub fn take_snapshot(&self, id: PartitionId) -> Result<Snapshot, SnapshotError> {
        let folder = self.snapshots.folder()?.join("snapshots");
        std::fs::create_dir_all(&folder).map_err(|error| failed("create", &folder, &error))?;
        self.mark_if_new(id);
        self.checkpoint_and_note(id, true)?;
        crash_point::pass("snapshot-checkpointed");
        let begun = Instant::now();
        let (pinned, point, position) = self.pin_tree(id)?;
        room::check(&folder, self.tree(usize::from(id.0)).copy_bytes()).map_err(SnapshotError::NoRoom)?;
        let number: u64 = rand::random();
        let path = folder.join(format!("{id}-{number:016x}.mdb"));
        let to = path.clone();
        let copied = gentle::run(move || pinned.copy(&to)); // and nothing is pinned any more
        // From here on an error removes the file.
        let file = File::open(&path).map(|file| SnapshotFile { file, path: path.clone() });
        let copied = copied?;
        let file = Arc::new(file.map_err(|error| failed("open", &path, &error))?);
        crash_point::pass("snapshot-copied");
        let (bytes, checksum) = (copied.bytes, copied.checksum);
        tracing::info!("snapshot of partition {id}: {bytes} bytes in {:?}", begun.elapsed());
        Ok(Snapshot { id: number, partition: id, point, position, bytes, checksum, file })
    }

    /// A tree without a state gets one with the next checkpoint.
    fn mark_if_new(&self, id: PartitionId) {
        let position = self.journal_end();
        let mut partition = self.partitions[usize::from(id.0)].lock();
        if partition.lsn.0 == 0 {
            partition.dirty_since.get_or_insert((position, 0));
        }
    }

    /// Holds the tree as it is now; with it, where its history stands, and what it has of the journal.
    fn pin_tree(&self, id: PartitionId) -> Result<(crate::store::tree::Pinned, Point, u64), SnapshotError> {
        let index = usize::from(id.0);
        let _no_checkpoint_meanwhile = self.writing[index].lock();
        let tree = self.tree(index);
        let pinned = tree.pin()?;
        let none = || SnapshotError::Storage(format!("the tree of partition {id} has no state"));
        let state = tree.state()?.ok_or_else(none)?;
        let partition = self.partitions[index].lock();
        // Without a change since, the tree has all of the partition that the journal has, and not only what it had back then.
        let is_clean = partition.dirty_since.is_none();
        let end = self.journal_end();
        Ok((pinned, state.point, if is_clean { end } else { state.position }))
    }
}
