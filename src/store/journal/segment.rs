//! Segment files: names, headers, reserved space.

use super::JournalError;
use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes in front of the first record.
pub const HEADER_BYTES: u64 = 20;
/// The part of a file system, one in so many, and its bounds in bytes, that the journal leaves to the trees. Trees that grow
/// leave twice as much (see `store::room`): once they have taken all they may, the journal can still go on, so that what
/// was removed from them can be filled again.
const KEPT_SHARE: u64 = 32;
const KEPT_BYTES: std::ops::RangeInclusive<u64> = 4 << 20..=128 << 20;
const MAGIC: &[u8; 8] = b"LARDERJ\x03";

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

/// Makes the segment that begins at `position`, durable but for its records. On error there is none.
pub fn create(folder: &Path, position: u64) -> Result<File, JournalError> {
    let path = path(folder, position);
    let make = || -> std::io::Result<File> {
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path)?;
        file.write_all_at(&header(position), 0)?;
        file.sync_all()?;
        sync_folder(folder)?;
        Ok(file)
    };
    make().map_err(|error| {
        // The journal goes on in the segment before, so this one must not stand at a position in its middle. If it can not be
        // removed either, the next start does, as it has no records.
        let _ = std::fs::remove_file(&path);
        failed("create", &path, &error)
    })
}

/// Makes the names of segments durable.
pub fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
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

/// An error unless `len` bytes can be taken from the file system and enough stays for checkpoints: those of removals give
/// room back, and need some before. The look comes first because some file systems keep what a failed reservation got.
pub fn leave_room_for_trees(file: &File, len: u64) -> std::io::Result<()> {
    let Ok(disk) = fstatvfs(file) else { return Ok(()) };
    let share = disk.f_blocks.saturating_mul(disk.f_frsize) / KEPT_SHARE;
    let kept = share.clamp(*KEPT_BYTES.start(), *KEPT_BYTES.end());
    if disk.f_bavail.saturating_mul(disk.f_frsize) >= len.saturating_add(kept) {
        return Ok(());
    }
    Err(rustix::io::Errno::NOSPC.into())
}

/// An error of the file system, with what was tried.
pub fn failed(what: &str, path: &Path, error: &std::io::Error) -> JournalError {
    JournalError(format!("cannot {what} {}: {error}", path.display()))
}
