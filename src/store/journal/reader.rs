//! Reads the journal back: at start, for recovery.
//!
//! A torn tail (what a power loss or a kill left of records that were not synced) is cut and reported. Damage anywhere else stops
//! the start: what stands behind it would be missing.

use super::JournalError;
use super::record::{MARK, Section, decode_mark, decode_payload, has_form, only_partition};
use super::segment::{self, HEADER_BYTES, failed};
use crate::base::crash_point;
use crate::base::ids::PartitionId;
use crate::store::tree::WHAT_TO_DO;
use memchr::memmem;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// What reading the journal found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Where the next record goes.
    pub end: u64,
    /// First position of the last segment, if there is one.
    pub last_segment: Option<u64>,
    /// Position behind the last mark: the end, if nothing follows it.
    pub marked: u64,
    /// Bytes of a torn tail that were cut.
    pub cut: u64,
}

/// A whole record in the bytes of its segment, which whoever works on it keeps alive.
#[derive(Clone)]
pub struct Record {
    /// Its position in the journal.
    pub position: u64,
    pub(super) segment: Arc<Vec<u8>>,
    pub(super) start: usize,
    pub(super) len: usize,
}

impl Record {
    /// What it says; `None` if its form is unknown.
    pub fn decode(&self) -> Option<Vec<Section>> {
        decode_payload(self.payload())
    }

    /// The partition it concerns, if it is one alone.
    pub fn only_partition(&self) -> Option<PartitionId> {
        only_partition(self.payload())
    }

    /// Its bytes.
    pub fn payload(&self) -> &[u8] {
        &self.segment[self.start..self.start + self.len]
    }
}

/// Reads the records in `folder` in order and gives each to `apply`; cuts a torn tail. Segments that end before `from` are not
/// looked at: what was kept for replicas is no matter of a start.
pub fn read_all(
    folder: &Path,
    from: u64,
    mut apply: impl FnMut(Record) -> Result<(), JournalError>,
) -> Result<Recovered, JournalError> {
    let mut positions = segment::list(folder)?;
    let needless =
        positions.windows(2).take_while(|pair| pair[1] <= from && is_followed(folder, pair)).count();
    positions.drain(..needless);
    let mut found = Recovered::default();
    for (index, &start) in positions.iter().enumerate() {
        let path = segment::path(folder, start);
        let bytes = Arc::new(std::fs::read(&path).map_err(|error| failed("read", &path, &error))?);
        if index == 0 {
            found.end = start;
        }
        if start < found.end && bytes.len() <= HEADER_BYTES as usize {
            // It could not be made, nor removed: records went on in the one before.
            std::fs::remove_file(&path).map_err(|error| failed("remove", &path, &error))?;
            continue;
        }
        let good =
            if start == found.end { read_segment(&bytes, start, &mut found.marked, &mut apply)? } else { 0 };
        if good > 0 {
            found.end = start + good as u64 - HEADER_BYTES;
            found.last_segment = Some(start);
        }
        if good < bytes.len() || good == 0 {
            found.cut = cut_tail(folder, &positions[index..], &found)?;
            break;
        }
    }
    Ok(found)
}

/// Cuts what stands behind the last good record, in `segments`, of which the first holds it or is not good at all. Returns how
/// many bytes that were.
///
/// What a power loss left is a tail with holes: of what was not synced any block may be missing, files and their headers
/// included. If a mark says that a hole was synced once, it is damage, and nothing is changed.
fn cut_tail(folder: &Path, segments: &[u64], found: &Recovered) -> Result<u64, JournalError> {
    let mut cut = 0;
    let keeps_first = found.last_segment == segments.first().copied();
    for &start in segments {
        let path = segment::path(folder, start);
        let bytes = std::fs::read(&path).map_err(|error| failed("read", &path, &error))?;
        let keeps =
            if keeps_first && start == segments[0] { (HEADER_BYTES + found.end - start) as usize } else { 0 };
        let hole = segment::path(folder, segments[0]);
        let at = (HEADER_BYTES + found.end).saturating_sub(segments[0]) as usize;
        if keeps == 0 && !is_header(&bytes, start) && has_record(&bytes) {
            // A header is synced before the first record is written.
            return Err(damaged(&path, 0, "its header is not one of ours"));
        }
        if last_mark(&bytes[keeps..], start, keeps).is_some_and(|synced| synced > found.end) {
            return Err(damaged(&hole, at, "it was synced once, so this is no torn tail"));
        }
        cut += (bytes.len() - keeps) as u64;
    }
    crash_point::pass("recovery-before-cut");
    // From the end, so that at any time what is there is what a power loss may leave.
    for &start in segments.iter().skip(usize::from(keeps_first)).rev() {
        let path = segment::path(folder, start);
        std::fs::remove_file(&path).map_err(|error| failed("remove", &path, &error))?;
    }
    let synced = segment::sync_folder(folder);
    synced.map_err(|error| failed("sync", folder, &error))?;
    if keeps_first {
        let path = segment::path(folder, segments[0]);
        let file =
            OpenOptions::new().write(true).open(&path).map_err(|error| failed("open", &path, &error))?;
        let len = HEADER_BYTES + found.end - segments[0];
        file.set_len(len).and_then(|()| file.sync_all()).map_err(|error| failed("cut", &path, &error))?;
    }
    crash_point::pass("recovery-after-cut");
    Ok(cut)
}

/// Whether the second of two segments goes on where the first ends. One that could not be made stands in the middle of it, and of
/// one whose making was interrupted nothing but its name may be there: then the journal ends in the first.
fn is_followed(folder: &Path, pair: &[u64]) -> bool {
    let len = std::fs::metadata(segment::path(folder, pair[0])).map_or(0, |data| data.len());
    let mut header = [0; HEADER_BYTES as usize];
    let read = File::open(segment::path(folder, pair[1])).and_then(|file| file.read_exact_at(&mut header, 0));
    len == HEADER_BYTES + pair[1] - pair[0] && read.is_ok() && is_header(&header, pair[1])
}

fn is_header(bytes: &[u8], start: u64) -> bool {
    bytes.get(..HEADER_BYTES as usize) == Some(&segment::header(start)[..])
}

/// What the last whole mark in `bytes` says, which begin at `offset` of the segment that begins at `start`.
fn last_mark(bytes: &[u8], start: u64, offset: usize) -> Option<u64> {
    let marks = memmem::rfind_iter(bytes, MARK).filter_map(|at| {
        let record = at.checked_sub(8)?;
        let position = (start + (offset + record) as u64).checked_sub(HEADER_BYTES)?;
        decode_mark(record_at(&bytes[record..])?, position)
    });
    marks.into_iter().next()
}

/// Reads records until the end or the first that is not whole; returns how many bytes are good, 0 if not even the header is.
fn read_segment(
    bytes: &Arc<Vec<u8>>,
    start: u64,
    marked: &mut u64,
    apply: &mut impl FnMut(Record) -> Result<(), JournalError>,
) -> Result<usize, JournalError> {
    if !is_header(bytes, start) {
        return Ok(0);
    }
    let mut at = HEADER_BYTES as usize;
    while let Some(payload) = record_at(&bytes[at..]) {
        let len = payload.len();
        let position = start + at as u64 - HEADER_BYTES;
        let is_mark = decode_mark(payload, position).is_some();
        at += 8 + len;
        crash_point::pass("recovery-before-record");
        if is_mark {
            *marked = start + at as u64 - HEADER_BYTES;
        } else {
            apply(Record { position, segment: Arc::clone(bytes), start: at - len, len })?;
        }
    }
    Ok(at)
}

/// The payload of the whole record at the head of `bytes`, if there is one.
pub(super) fn record_at(bytes: &[u8]) -> Option<&[u8]> {
    let len = u32::from_le_bytes(*bytes.first_chunk::<4>()?) as usize;
    let crc = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?);
    let payload = bytes.get(8..8_usize.checked_add(len)?)?;
    // A record has a section at least; so zeros, which many file systems leave behind a tail, are no record.
    (len > 0 && crc32c::crc32c_append(crc32c::crc32c(&bytes[..4]), payload) == crc).then_some(payload)
}

/// Whether a whole record stands anywhere in `bytes`. Looks at a bounded number of places: a tail that is torn is short. What
/// stands there may be any value, and a length can be read from every byte of it: the sum over so much is taken only of what
/// has the form of a record, or a start could take hours.
fn has_record(bytes: &[u8]) -> bool {
    const LONGEST_LOOK: usize = 8 << 20;
    (0..bytes.len().min(LONGEST_LOOK)).any(|at| {
        let rest = &bytes[at..];
        let len = rest.first_chunk::<4>().map_or(0, |len| u32::from_le_bytes(*len) as usize);
        let payload = rest.get(8..8 + len).filter(|payload| payload.len() > 4 && has_form(payload));
        payload.is_some() && record_at(rest).is_some_and(|payload| decode_payload(payload).is_some())
    })
}

fn damaged(path: &Path, at: usize, why: &str) -> JournalError {
    JournalError(format!(
        "the journal is damaged: {} at byte {at}: {why}. Nothing was changed. {WHAT_TO_DO}",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::super::record::put_mark;
    use super::*;

    #[test]
    fn a_torn_value_full_of_lengths_is_looked_through_soon() {
        let mut mark = Vec::new();
        put_mark(&mut mark, 0, 0);
        let len = (mark.len() as u32).to_le_bytes();
        let sum = crc32c::crc32c(&[&len[..], &mark].concat()).to_le_bytes();
        let mut torn = [0, 0, 8, 0].repeat(1 << 19);
        assert!(!has_record(&torn));
        torn.extend([&[1; 3], &len[..], &sum, &mark, &[9; 5]].concat());
        assert!(has_record(&torn[1 << 20..]));
    }
}
