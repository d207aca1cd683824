//! Rdb files.
//!
//! Input: a file, whose checksum is taken for the one that says that there is none.
//!
//! Whatever it is, reading it in small steps gives the same as reading it in one: the same items, or the same error at the same place; and
//! it takes memory in proportion to its length.

use super::memory;
use larder::interop::rdb_file::{FileError, FileReader, Item};

/// Bytes of a small step.
const STEP: usize = 16;
/// Things in a file, each some bytes at least.
const ITEMS_MAX: usize = 1 << 16;

/// See `dump`: a compressed text grows, and each element needs some tens of bytes.
fn memory_max(len: usize) -> usize {
    (4 << 20) + 2048 * len
}

fn read(bytes: &[u8], step: usize) -> Result<Vec<Item>, FileError> {
    let mut file = FileReader::in_steps(bytes, bytes.len() as u64, step)?;
    let mut items = Vec::new();
    while let Some(item) = file.next_item()? {
        items.push(item);
        assert!(items.len() < ITEMS_MAX, "more than it can hold");
    }
    Ok(items)
}

/// See the module's page.
pub fn check(data: &[u8]) {
    // Nobody guesses a checksum: a zero says that there is none.
    let bytes = [data, &[0; 8]].concat();
    let whole = memory::within(memory_max(bytes.len()), || read(&bytes, bytes.len()));
    let in_steps = memory::within(memory_max(bytes.len()), || read(&bytes, STEP));
    assert_eq!(format!("{whole:?}"), format!("{in_steps:?}"));
}
