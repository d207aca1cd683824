//! Reads what is whole of a damaged journal.

use super::JournalError;
use super::reader::{Record, record_at};
use super::record::decode_payload;
use super::segment::{self, HEADER_BYTES, failed};
use std::path::Path;
use std::sync::Arc;

/// Behind damage a record is looked for at every byte; one longer than this is not, because trying lengths that could be any
/// number would take days.
const LONGEST_BEHIND_DAMAGE: usize = 1 << 20;

/// What is whole of a journal.
pub struct Salvaged {
    records: Vec<Record>,
    /// Places where bytes are not what was written.
    pub damages: u64,
    /// Behind all of it.
    pub end: u64,
}

impl Salvaged {
    /// The whole records, in order.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.iter()
    }
}

/// Reads the journal in `folder`, going on behind what is damaged.
pub fn salvage(folder: &Path) -> Result<Salvaged, JournalError> {
    let mut found = Salvaged { records: Vec::new(), damages: 0, end: 0 };
    if !folder.exists() {
        found.damages = 1;
        return Ok(found);
    }
    for start in segment::list(folder)? {
        let path = segment::path(folder, start);
        let bytes = Arc::new(std::fs::read(&path).map_err(|error| failed("read", &path, &error))?);
        if bytes.get(..HEADER_BYTES as usize) != Some(&segment::header(start)[..]) {
            found.damages += 1;
        }
        found.read_segment(&bytes, start);
        found.end = found.end.max(start + bytes.len() as u64);
    }
    Ok(found)
}

impl Salvaged {
    fn read_segment(&mut self, bytes: &Arc<Vec<u8>>, start: u64) {
        let (mut at, mut is_whole) = (HEADER_BYTES as usize, true);
        while at < bytes.len() {
            let within = if is_whole { bytes.len() } else { bytes.len().min(at + LONGEST_BEHIND_DAMAGE) };
            let payload = record_at(&bytes[at..within]).filter(|p| is_whole || decode_payload(p).is_some());
            let Some(len) = payload.map(<[u8]>::len) else {
                // Zeros are space that was reserved; everything else was something once.
                self.damages += u64::from(is_whole && bytes[at..].iter().any(|byte| *byte != 0));
                is_whole = false;
                at += 1;
                continue;
            };
            let position = start + at as u64 - HEADER_BYTES;
            self.records.push(Record { position, segment: Arc::clone(bytes), start: at + 8, len });
            at += 8 + len;
            is_whole = true;
        }
    }
}
