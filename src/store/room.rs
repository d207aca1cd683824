//! Whether the disk has room for a checkpoint, before it is begun.
//!
//! LMDB never writes over a page in use: a batch that removes rows needs new pages first and gives old ones back after. So a
//! batch that makes a tree grow must leave some of the disk to those that do not, or nothing could ever be removed from
//! a full disk. The journal leaves half as much alone (see `journal::segment`).

use super::Store;
use super::tree::{Batch, Environment, TreeError};
use crate::base::blob::Blob;
use crate::base::ids::PartitionId;
use rustix::fs::statvfs;
use std::path::Path;
use std::sync::atomic::Ordering;

/// LMDB's page.
const PAGE: u64 = 4096;
/// A value longer than this has pages of its own.
const OWN_PAGES_FROM: usize = 2000;
/// What LMDB keeps beside a row, about.
const ROW_OVERHEAD: u64 = 16;
/// A batch that puts fewer bytes does not count as growth.
const GROWTH_MIN: u64 = 64 << 10;
/// The part of a file system, one in so many, and its bounds in bytes, that growth leaves alone.
const KEPT_SHARE: u64 = 16;
const KEPT_BYTES: std::ops::RangeInclusive<u64> = 8 << 20..=256 << 20;

impl Store {
    /// An error if the batch would take room that removals may need. As long as it would, what makes data grow is refused.
    pub(super) fn check_room(
        &self,
        id: PartitionId,
        environment: &Environment,
        batch: &Batch,
    ) -> Result<(), TreeError> {
        let checked = look_for_room(environment, batch);
        let mut without_room = self.notes.without_room.lock();
        if checked.is_err() {
            without_room.insert(id);
        } else {
            without_room.remove(&id);
        }
        self.notes.is_without_room.store(!without_room.is_empty(), Ordering::Relaxed);
        checked
    }
}

fn look_for_room(environment: &Environment, batch: &Batch) -> Result<(), TreeError> {
    let puts: u64 = batch.keys.iter().chain(batch.items).map(put_bytes).sum();
    if puts < GROWTH_MIN {
        return Ok(());
    }
    let Some((available, kept)) = room_beside(&environment.path()) else { return Ok(()) };
    let file = environment.disk_bytes();
    let rows = (batch.keys.len() + batch.items.len() + batch.deadlines.len()) as u64;
    // Each row may change a page that nothing else in the batch changes, but no more pages than there are.
    let needed = puts + puts / 4 + (rows * PAGE).min(file);
    if needed + kept <= available + environment.reusable_bytes() {
        return Ok(());
    }
    Err(TreeError("no space left on the disk for what was written since the last one".into()))
}

/// An error, in words, unless a file of so many bytes leaves the disk of `folder` the room that others need.
pub(super) fn check(folder: &Path, bytes: u64) -> Result<(), String> {
    match room_beside(folder) {
        Some((available, kept)) if bytes + kept > available => Err(format!(
            "no space left on the disk for a snapshot: it takes {bytes} bytes, {} are free",
            available.saturating_sub(kept)
        )),
        _ => Ok(()),
    }
}

/// Bytes that the file system of `folder` has left, and how many of them growth leaves alone.
fn room_beside(folder: &Path) -> Option<(u64, u64)> {
    let disk = statvfs(folder).ok()?;
    let (available, size) =
        (disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_blocks.saturating_mul(disk.f_frsize));
    Some((available, (size / KEPT_SHARE).clamp(*KEPT_BYTES.start(), *KEPT_BYTES.end())))
}

/// Bytes that a row adds to a tree, about.
fn put_bytes(row: &Blob) -> u64 {
    if super::row::is_deletion(row) {
        return 0;
    }
    let (key, value) = (row.key().len() as u64, row.value().len() as u64);
    let own_pages = if row.value().len() > OWN_PAGES_FROM {
        (value + ROW_OVERHEAD).next_multiple_of(PAGE)
    } else {
        value
    };
    key + ROW_OVERHEAD + own_pages
}
