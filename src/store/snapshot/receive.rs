//! Receiving a snapshot: its bytes are kept as they come, and a note says which snapshot they belong to and how many of them are
//! on disk, so that an interrupted transfer goes on there.
//!
//! ```text
//! note    two slots of 512 bytes, of which the one counts that is whole and says more
//! slot    b"LARDERN" (7) · version (1) · id (8) · partition (2) · epoch (8) · LSN (8) · chain (4) · bytes (8) · checksum (4)
//!         · bytes on disk (8) · CRC-32C of all before (4) · zeros
//! ```
//! Numbers are big-endian. Bytes are synced before a slot counts them. The slots are written in turn, so that one is whole if the
//! power is lost, and over what is there, so that it needs no room on a full disk. What is behind that count may have holes after
//! a power loss, and is received again.

use super::{SnapshotError, SnapshotOffer, failed, sync_folder};
use crate::base::ids::{Epoch, Lsn, PartitionId, Point};
use crate::base::{crash_point, gentle};
use crate::store::tree::{Scanned, scan};
use crate::store::{Store, room};
use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, fallocate};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const HEADER: [u8; 8] = *b"LARDERN\x01";
const NOTE_BYTES: usize = HEADER.len() + 8 + 2 + 8 + 8 + 4 + 8 + 4 + 8 + 4;
/// What a disk writes as a whole.
const SLOT_BYTES: usize = 512;
/// So much is received again at most after a power loss.
const SYNC_BYTES: u64 = 8 << 20;

/// A snapshot that is being received. Dropped, it keeps what came; [`Store::receive_snapshot`] goes on with it.
pub struct IncomingSnapshot {
    offer: SnapshotOffer,
    folder: PathBuf,
    file: File,
    note: File,
    /// The slot of the note that is written next.
    slot: u64,
    /// Bytes that came.
    offset: u64,
    /// Of these, what the note says is on disk.
    synced: u64,
    /// What was found in the file, once it is whole.
    scanned: Option<Scanned>,
    /// What came is to be kept.
    is_kept: bool,
    _claim: Claim,
}

/// Says that a partition receives a snapshot, as long as it is there.
struct Claim {
    partition: PartitionId,
    receiving: Arc<Mutex<BTreeSet<PartitionId>>>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.receiving.lock().remove(&self.partition);
    }
}

impl Store {
    /// Begins to receive a snapshot, or goes on with it, if this one was interrupted. One that was begun before is given up.
    ///
    /// # Errors
    /// The disk has no room, or the offer cannot be right.
    pub fn receive_snapshot(&self, offer: SnapshotOffer) -> Result<IncomingSnapshot, SnapshotError> {
        let claim = self.claim(offer.partition)?;
        let folder = self.incoming_folder(offer.partition)?;
        let kept = what_is_kept(&folder).filter(|(other, ..)| *other == offer);
        if kept.is_none() {
            give_up(&folder)?;
        }
        let path = folder.join("data.mdb");
        let reserved = std::fs::metadata(&path).map_or(0, |data| data.blocks() * 512);
        room::check(&folder, offer.bytes.saturating_sub(reserved)).map_err(SnapshotError::NoRoom)?;
        let offset = kept.map_or(0, |(_, offset, _)| offset);
        let file = open(&path)?;
        file.set_len(offset).map_err(|error| failed("cut", &path, &error))?;
        reserve(&file, offer.bytes).map_err(|error| failed("reserve room for", &path, &error))?;
        let note = open(&folder.join("note"))?;
        if kept.is_none() {
            begin_note(&note, &folder, &offer)?;
            crash_point::pass("incoming-begun");
        }
        Ok(IncomingSnapshot {
            offer,
            folder,
            file,
            note,
            slot: kept.map_or(0, |(_, _, slot)| 1 - slot),
            offset,
            synced: offset,
            scanned: None,
            is_kept: true,
            _claim: claim,
        })
    }

    /// The snapshot that was begun to be received of a partition, and how many bytes of it are kept, if there is one.
    pub fn interrupted_snapshot(&self, partition: PartitionId) -> Option<(SnapshotOffer, u64)> {
        let (offer, synced, _) = what_is_kept(&self.incoming_folder(partition).ok()?)?;
        Some((offer, synced))
    }

    fn incoming_folder(&self, partition: PartitionId) -> Result<PathBuf, SnapshotError> {
        Ok(self.snapshots.folder()?.join("incoming").join(partition.to_string()))
    }

    fn claim(&self, partition: PartitionId) -> Result<Claim, SnapshotError> {
        if partition.0 >= self.partition_count() {
            return Err(SnapshotError::Refused(format!("there is no partition {partition}")));
        }
        let receiving = Arc::clone(&self.snapshots.receiving);
        if !receiving.lock().insert(partition) {
            return Err(SnapshotError::Busy(format!("partition {partition} receives a snapshot already")));
        }
        Ok(Claim { partition, receiving })
    }
}

impl IncomingSnapshot {
    /// Which one it is.
    pub fn offer(&self) -> &SnapshotOffer {
        &self.offer
    }

    /// Bytes that came: where to go on.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes the bytes that stand at `offset`, which must be where it goes on.
    ///
    /// # Errors
    /// They are not the next ones, or more than there should be; or they could not be written: then nothing was taken.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SnapshotError> {
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= self.offer.bytes);
        let Some(end) = end.filter(|_| offset == self.offset) else {
            let expected = format!("the next byte is {} of {}", self.offset, self.offer.bytes);
            return Err(SnapshotError::Refused(format!("{} bytes at {offset}: {expected}", bytes.len())));
        };
        self.file.write_all_at(bytes, offset).map_err(|error| failed("write", &self.path(), &error))?;
        self.offset = end;
        if self.offset - self.synced >= SYNC_BYTES {
            self.sync()?;
        }
        Ok(())
    }

    /// Checks that all came, and that it is what was sent. If it is not, what came is thrown away.
    pub fn finish(&mut self) -> Result<(), SnapshotError> {
        if self.scanned.is_some() {
            return Ok(());
        }
        if self.offset < self.offer.bytes {
            let missing = self.offer.bytes - self.offset;
            return Err(SnapshotError::Refused(format!(
                "the last {missing} bytes of the snapshot are missing"
            )));
        }
        self.sync()?;
        crash_point::pass("incoming-complete");
        match gentle::run(|| scan(&self.path(), self.offer.copied())) {
            Ok(scanned) => self.scanned = Some(scanned),
            Err(error) => {
                self.is_kept = false;
                give_up(&self.folder)?;
                return Err(SnapshotError::Refused(error.0));
            }
        }
        Ok(())
    }

    /// Moves the file into `folder`, checked, with checksums for its pages beside it. All of it is on disk then.
    pub(super) fn move_to(mut self, folder: &Path) -> Result<(), SnapshotError> {
        self.finish()?;
        self.is_kept = false;
        let (from, to) = (self.path(), folder.join("data.mdb"));
        std::fs::rename(&from, &to).map_err(|error| failed("rename", &from, &error))?;
        crash_point::pass("install-moved");
        if let Some(scanned) = &self.scanned {
            scanned.write_checksums(folder)?;
        }
        sync_folder(folder).map_err(|error| failed("sync", folder, &error))?;
        give_up(&self.folder)
    }

    fn path(&self) -> PathBuf {
        self.folder.join("data.mdb")
    }

    /// What came is on disk, and noted.
    fn sync(&mut self) -> Result<(), SnapshotError> {
        if self.synced == self.offset {
            return Ok(());
        }
        self.file.sync_data().map_err(|error| failed("sync", &self.path(), &error))?;
        crash_point::pass("incoming-synced");
        self.synced = self.offset;
        let written =
            self.note.write_all_at(&encode_note(&self.offer, self.synced), self.slot * SLOT_BYTES as u64);
        written
            .and_then(|()| self.note.sync_data())
            .map_err(|error| failed("write", &self.folder.join("note"), &error))?;
        self.slot = 1 - self.slot;
        crash_point::pass("incoming-noted");
        Ok(())
    }
}

impl Drop for IncomingSnapshot {
    fn drop(&mut self) {
        if self.is_kept
            && let Err(error) = self.sync()
        {
            tracing::warn!("the end of what came of a snapshot will be received again: {error}");
        }
    }
}

/// Reserves disk space without a change that could be read. File systems that cannot are asked for it as it is used.
fn reserve(file: &File, bytes: u64) -> std::io::Result<()> {
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes.max(1)) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn open(path: &Path) -> Result<File, SnapshotError> {
    let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path);
    file.map_err(|error| failed("open", path, &error))
}

/// Fills both slots.
fn begin_note(note: &File, folder: &Path, offer: &SnapshotOffer) -> Result<(), SnapshotError> {
    let mut slot = encode_note(offer, 0);
    slot.resize(SLOT_BYTES, 0);
    let written = note.write_all_at(&slot.repeat(2), 0).and_then(|()| note.sync_all());
    let made = written.and_then(|()| sync_folder(folder));
    made.map_err(|error| failed("write", &folder.join("note"), &error))
}

/// Makes the folder, empty.
fn give_up(folder: &Path) -> Result<(), SnapshotError> {
    // The note first: without it the rest is nothing.
    for name in ["note", "data.mdb"] {
        let path = folder.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed("remove", &path, &error));
            }
            _ => {}
        }
    }
    let made = std::fs::create_dir_all(folder).and_then(|()| sync_folder(folder));
    made.map_err(|error| failed("create", folder, &error))
}

fn encode_note(offer: &SnapshotOffer, synced: u64) -> Vec<u8> {
    let mut bytes = HEADER.to_vec();
    bytes.extend_from_slice(&offer.id.to_be_bytes());
    bytes.extend_from_slice(&offer.partition.0.to_be_bytes());
    bytes.extend_from_slice(&offer.point.epoch.0.to_be_bytes());
    bytes.extend_from_slice(&offer.point.lsn.0.to_be_bytes());
    bytes.extend_from_slice(&offer.point.chain.to_be_bytes());
    bytes.extend_from_slice(&offer.bytes.to_be_bytes());
    bytes.extend_from_slice(&offer.checksum.to_be_bytes());
    bytes.extend_from_slice(&synced.to_be_bytes());
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes
}

/// Which snapshot there is a part of, how many of its bytes are on disk, and which slot of the note says so.
fn what_is_kept(folder: &Path) -> Option<(SnapshotOffer, u64, u64)> {
    let note = std::fs::read(folder.join("note")).ok()?;
    let slots = note.chunks(SLOT_BYTES).take(2).zip(0..);
    let whole =
        slots.filter_map(|(slot, number)| decode_note(slot).map(|(offer, synced)| (offer, synced, number)));
    let len = std::fs::metadata(folder.join("data.mdb")).ok()?.len();
    whole.max_by_key(|(_, synced, _)| *synced).filter(|(_, synced, _)| *synced <= len)
}

fn decode_note(slot: &[u8]) -> Option<(SnapshotOffer, u64)> {
    let bytes = slot.get(..NOTE_BYTES)?;
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    let mut rest = body.strip_prefix(&HEADER).filter(|_| crc32c::crc32c(body).to_be_bytes() == *crc)?;
    let mut take = |len: usize| {
        let (head, tail) = rest.split_at(len);
        rest = tail;
        head.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
    };
    let id = take(8);
    let partition = PartitionId(take(2) as u16);
    let point = Point { epoch: Epoch(take(8)), lsn: Lsn(take(8)), chain: take(4) as u32 };
    let (bytes, checksum) = (take(8), take(4) as u32);
    Some((SnapshotOffer { id, partition, point, bytes, checksum }, take(8)))
}
