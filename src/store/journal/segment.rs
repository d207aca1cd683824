//! Segment files: names, headers, reserved space.

use super::JournalError;
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A segment is followed by the next one when it is longer than this.
pub const SEGMENT_BYTES: u64 = 64 << 20;
/// Bytes in front of the first record.
pub const HEADER_BYTES: u64 = 20;
const MAGIC: &[u8; 8] = b"LARDERJ\x01";

/// The file of the segment that begins at `position`.
pub fn path(folder: &Path, position: u64) -> PathBuf {
    folder.join(format!("{position:020}.log"))
}

/// First positions of the segments in `folder`, in order.
pub fn list(folder: &Path) -> Result<Vec<u64>, JournalError> {
    let mut positions = Vec::new();
    let entries = std::fs::read_dir(folder).map_err(|error| failed("read", folder, &error))?;
    for entry in entries {
        let name = entry.map_err(|error| failed("read", folder, &error))?.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(".log"));
        if let Some(position) = stem.and_then(|stem| stem.parse().ok()) {
            positions.push(position);
        }
    }
    positions.sort_unstable();
    Ok(positions)
}

/// The bytes in front of the first record.
pub fn header(position: u64) -> [u8; HEADER_BYTES as usize] {
    let mut bytes = [0; HEADER_BYTES as usize];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&position.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..16]);
    bytes[16..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Makes the segment that begins at `position`, durable but for its records.
pub fn create(folder: &Path, position: u64) -> Result<File, JournalError> {
    let path = path(folder, position);
    let make = || -> std::io::Result<File> {
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path)?;
        file.write_all_at(&header(position), 0)?;
        file.sync_all()?;
        File::open(folder)?.sync_all()?;
        Ok(file)
    };
    make().map_err(|error| failed("create", &path, &error))
}

/// Reserves disk space for `len` bytes from `offset` on without changing the file's length.
pub fn reserve(file: &File, offset: u64, len: u64) -> std::io::Result<()> {
    match fallocate(file, FallocateFlags::KEEP_SIZE, offset, len) {
        Ok(()) => Ok(()),
        // A file system without reservations: a full disk is then noticed by the write.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// An error of the file system, with what was tried.
pub fn failed(what: &str, path: &Path, error: &std::io::Error) -> JournalError {
    JournalError(format!("cannot {what} {}: {error}", path.display()))
}
