//! Reads the journal back: at start, for recovery.
//!
//! A torn tail (the last records of the last segment, cut off by a power loss or a kill) is cut and reported. Damage anywhere
//! else stops the start: what stands behind it would be missing.

use super::JournalError;
use super::record::Section;
use super::record::{decode_payload, has_form, only_partition};
use super::segment::{self, HEADER_BYTES, failed};
use crate::base::ids::PartitionId;
use crate::store::tree::WHAT_TO_DO;
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Arc;

/// What reading the journal found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Where the next record goes.
    pub end: u64,
    /// First position of the last segment, if there is one.
    pub last_segment: Option<u64>,
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

/// Reads all records in `folder` in order and gives each to `apply`; cuts a torn tail.
pub fn read_all(
    folder: &Path,
    mut apply: impl FnMut(Record) -> Result<(), JournalError>,
) -> Result<Recovered, JournalError> {
    let positions = segment::list(folder)?;
    let mut found = Recovered::default();
    for (index, &start) in positions.iter().enumerate() {
        let is_last = index + 1 == positions.len();
        let path = segment::path(folder, start);
        let bytes = Arc::new(std::fs::read(&path).map_err(|error| failed("read", &path, &error))?);
        let (has_records, is_first) = (bytes.len() > HEADER_BYTES as usize, index == 0);
        if is_last && !has_records && (start < found.end || bytes.len() < HEADER_BYTES as usize) {
            // The process ended while it made this segment, or could not make it: nothing was written to it. The first one
            // is written over when it is made again.
            if !is_first {
                std::fs::remove_file(&path).map_err(|error| failed("remove", &path, &error))?;
            }
            break;
        }
        if !is_first && start != found.end {
            return Err(damaged(
                &path,
                0,
                &format!("begins at {start}, the one before ends at {}", found.end),
            ));
        }
        if bytes.get(..HEADER_BYTES as usize) != Some(&segment::header(start)[..]) {
            return Err(damaged(&path, 0, "its header is not one of ours"));
        }
        let good = read_segment(&bytes, start, &mut apply)?;
        let rest = bytes.len() - good;
        if rest > 0 {
            if !is_last || has_record(&bytes[good + 1..]) {
                return Err(damaged(&path, good, "records behind it are whole, so this is no torn tail"));
            }
            let file =
                OpenOptions::new().write(true).open(&path).map_err(|error| failed("open", &path, &error))?;
            file.set_len(good as u64).and_then(|()| file.sync_all()).map_err(|e| failed("cut", &path, &e))?;
            found.cut = rest as u64;
        }
        found.end = start + good as u64 - HEADER_BYTES;
        found.last_segment = Some(start);
    }
    Ok(found)
}

/// Reads records until the end or the first that is not whole; returns how many bytes are good.
fn read_segment(
    bytes: &Arc<Vec<u8>>,
    start: u64,
    apply: &mut impl FnMut(Record) -> Result<(), JournalError>,
) -> Result<usize, JournalError> {
    let mut at = HEADER_BYTES as usize;
    while let Some(payload) = record_at(&bytes[at..]) {
        let len = payload.len();
        let position = start + at as u64 - HEADER_BYTES;
        apply(Record { position, segment: Arc::clone(bytes), start: at + 8, len })?;
        at += 8 + len;
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
    use super::*;

    #[test]
    fn a_torn_value_full_of_lengths_is_looked_through_soon() {
        let mark = b"\0synced";
        let len = (mark.len() as u32).to_le_bytes();
        let sum = crc32c::crc32c(&[&len[..], mark].concat()).to_le_bytes();
        let mut torn = [0, 0, 8, 0].repeat(1 << 19);
        assert!(!has_record(&torn));
        torn.extend([&[1; 3], &len[..], &sum, mark, &[9; 5]].concat());
        assert!(has_record(&torn[1 << 20..]));
    }
}
