//! The journal: the node's append-only record of committed transactions, shared by its partitions.
//!
//! Transactions append to a buffer under its lock; whoever ends a turn writes the buffer with one `write`; a thread syncs.
//! A *position* counts the bytes of all records ever appended, so positions of one node only grow.
//!
//! ```text
//! journal/<position of its first record, 20 digits>.log, about 64 MB each:
//!   header   b"LARDERJ" (7) · version, 3 (1) · first position (8, LE) · CRC-32C of these 16 bytes (4)
//!   records  payload length (4, LE) · CRC-32C of length and payload (4, LE) · payload
//! payload:   number of sections, then a section for each partition concerned (see `record`); numbers are LEB128
//!            or a mark: 0 · b"synced" · its own position (8, LE) · the position up to which all was synced when it was made (8, LE)
//! ```
//!
//! Invariants:
//! - records of a partition stand in LSN order, without gaps;
//! - a transaction over several partitions is one record: a crash keeps all of it or none;
//! - a failed write keeps the buffer and is tried again where the last good one ended, so no torn record is followed by a whole
//!   one; a failed sync makes the journal refuse everything until restart (the kernel may have dropped the pages);
//! - a mark follows each sync, behind the last record if nobody writes, else with the next ones. What stands before the position in
//!   a mark is no torn tail. Without marks nobody could tell: a power loss may take any block of what was not synced and leave the
//!   blocks behind it;
//! - disk space is reserved for a record before its transaction is accepted; what makes data grow leaves some of it to removals,
//!   and some of the disk to checkpoints.

mod cursor;
mod reader;
mod record;
mod salvage;
mod segment;
mod writer;

pub use cursor::{Cursor, CursorError, Place};
pub use reader::{Record, Recovered, read_all};
pub use record::{
    Section, SectionHead, decode_mark, decode_payload, decode_section_bytes, encode_section, put_mark,
    put_number, put_sections, visit_sections,
};
pub use salvage::salvage;
pub use writer::{Journal, RECORD_MAX, SyncMode};

/// What went wrong in the journal, in words that say what to do.
#[derive(Debug, Clone)]
pub struct JournalError(pub String);

impl std::fmt::Display for JournalError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
