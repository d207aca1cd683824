//! Reads a journal that is being written: for replicas, which get what their primary has written, and to find out where a
//! history is kept.
//!
//! What was written a moment ago is in the page cache, so this reads memory, and memory of its own it needs for one batch only.

use super::JournalError;
use super::reader::record_at;
use super::record::{MARK, visit_sections};
use super::segment::{self, HEADER_BYTES, failed};
use crate::base::ids::{Lsn, PartitionId};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Why reading cannot go on.
#[derive(Debug)]
pub enum CursorError {
    /// The segment was removed: nothing needed it any more.
    Gone,
    /// It could not be read, or is damaged.
    Failed(JournalError),
}

/// Where somebody stands who reads the journal from some position on.
pub struct Cursor {
    folder: PathBuf,
    position: u64,
    /// The segment that holds the position, if it was opened: its first position, and that of the next if there is one.
    segment: Option<(File, u64, Option<u64>)>,
    buffer: Vec<u8>,
}

impl Cursor {
    /// Before the record at `position` of the journal in `folder`.
    pub fn new(folder: &Path, position: u64) -> Cursor {
        Cursor { folder: folder.to_path_buf(), position, segment: None, buffer: Vec::new() }
    }

    /// Where it stands: before the next record.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Reads about `budget` bytes of records (one at least), none behind `limit`, up to which all must be written. Gives each to
    /// `visit` with its position, but for marks. False if there was none.
    pub fn read(
        &mut self,
        limit: u64,
        budget: usize,
        visit: &mut dyn FnMut(u64, &[u8]),
    ) -> Result<bool, CursorError> {
        if self.position >= limit {
            return Ok(false);
        }
        let len = self.fill(limit, budget)?;
        let bytes = std::mem::take(&mut self.buffer);
        let mut at = 0;
        while let Some(payload) = record_at(&bytes[at..len]) {
            if !payload.starts_with(MARK) {
                visit(self.position, payload);
            }
            at += 8 + payload.len();
            self.position += 8 + payload.len() as u64;
        }
        self.buffer = bytes;
        if at == 0 { Err(self.damaged()) } else { Ok(true) }
    }

    /// Reads bytes that begin with one whole record at least. Returns how many.
    fn fill(&mut self, limit: u64, budget: usize) -> Result<usize, CursorError> {
        let mut wanted = budget.max(8);
        loop {
            let (file, start, next) = self.open(limit)?;
            let offset = HEADER_BYTES + self.position - start;
            let most = (next.unwrap_or(limit).min(limit) - self.position) as usize;
            self.buffer.resize(wanted.min(most), 0);
            let len = read_some(&file, &mut self.buffer, offset).map_err(|error| {
                CursorError::Failed(failed("read", &segment::path(&self.folder, start), &error))
            })?;
            self.segment = Some((file, start, next));
            if len == 0 && next.is_none() {
                self.segment = None; // another was begun since it was opened
                wanted = budget.max(8);
                continue;
            }
            let Some(head) = self.buffer[..len].first_chunk::<4>() else { return Err(self.damaged()) };
            let first = u32::from_le_bytes(*head) as usize + 8;
            if first <= len {
                return Ok(len);
            }
            if first > most || wanted >= first {
                return Err(self.damaged());
            }
            wanted = first;
        }
    }

    /// The segment that holds the position.
    fn open(&mut self, limit: u64) -> Result<(File, u64, Option<u64>), CursorError> {
        if let Some(open) = self.segment.take()
            && open.2.is_none_or(|next| self.position < next)
        {
            return Ok(open);
        }
        let starts = segment::list(&self.folder).map_err(CursorError::Failed)?;
        let behind = starts.partition_point(|start| *start <= self.position);
        let start = *starts[..behind].last().ok_or(CursorError::Gone)?;
        let path = segment::path(&self.folder, start);
        match File::open(&path) {
            Ok(file) => Ok((file, start, starts.get(behind).copied().filter(|next| *next <= limit))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(CursorError::Gone),
            Err(error) => Err(CursorError::Failed(failed("open", &path, &error))),
        }
    }

    fn damaged(&self) -> CursorError {
        CursorError::Failed(JournalError(format!(
            "the journal in {} has no whole record at position {}",
            self.folder.display(),
            self.position
        )))
    }
}

/// Reads until the buffer is full or the file ends.
fn read_some(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read_at(&mut buffer[len..], offset + len as u64) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// A transaction in the journal: its position, and the chain of the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where its record stands.
    pub position: u64,
    /// What its history leads to before it.
    pub previous: u32,
}

/// Bytes looked through at a time.
const LOOK_BYTES: usize = 1 << 20;

/// Finds transactions in the segment that begins at `start` and ends at `end`: of each partition in `wanted`, the one with this
/// LSN, unless it stands before `floor(partition)`. Takes what it finds out of `wanted`.
pub fn find(
    folder: &Path,
    start: u64,
    end: u64,
    floor: impl Fn(PartitionId) -> u64,
    wanted: &mut BTreeMap<PartitionId, Lsn>,
    found: &mut BTreeMap<PartitionId, Place>,
) -> Result<(), CursorError> {
    let mut cursor = Cursor::new(folder, start);
    while cursor.read(end, LOOK_BYTES, &mut |position, payload| {
        // What has not the form of a record is found by whoever reads it.
        let _ = visit_sections(payload, |head, _| {
            if wanted.get(&head.partition) == Some(&head.lsn) && position >= floor(head.partition) {
                wanted.remove(&head.partition);
                found.insert(head.partition, Place { position, previous: head.previous });
            }
        });
    })? {}
    Ok(())
}
