//! What a process leaves that ends while snapshots are taken, received or installed; and old trees that are to be kept.

use super::{SnapshotError, failed, sync_folder};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The file in a tree's folder that says where the tree goes when another takes its place: the path, from the data folder on if it
/// is below that, then its CRC-32C (4).
const KEEP: &str = "keep";

/// A tree that is kept when another takes its place.
pub struct Keep {
    to: PathBuf,
}

impl Keep {
    /// Notes that the tree in `folder` is to go to `to`, or nowhere.
    pub fn note(data: &Path, folder: &Path, to: Option<&Path>) -> Result<Option<Keep>, SnapshotError> {
        forget(folder)?;
        let Some(to) = to else { return Ok(None) };
        let path = folder.join(KEEP);
        let bytes = to.strip_prefix(data).unwrap_or(to).as_os_str().as_bytes();
        let noted = File::create(&path).and_then(|mut file| {
            file.write_all(&[bytes, &crc32c::crc32c(bytes).to_be_bytes()].concat())?;
            file.sync_all()?;
            sync_folder(folder)
        });
        noted.map_err(|error| failed("write", &path, &error))?;
        Ok(Some(Keep { to: to.to_path_buf() }))
    }

    /// Moves the tree there from where it stands aside. The next start does it if that fails.
    pub fn done(&self, aside: &Path) {
        if let Err(error) = put_aside(aside, &self.to) {
            tracing::warn!("an old tree stays in {} until the next start: {error}", aside.display());
        }
    }

    /// Where the tree in this folder is to go, if that was noted.
    fn read(data: &Path, folder: &Path) -> Option<Keep> {
        let bytes = std::fs::read(folder.join(KEEP)).ok()?;
        let (path, crc) = bytes.split_last_chunk::<4>()?;
        (crc32c::crc32c(path).to_be_bytes() == *crc).then(|| Keep { to: data.join(OsStr::from_bytes(path)) })
    }
}

/// Moves a tree from where it stands aside to where it is to be kept, or beside that if something is there.
fn put_aside(from: &Path, to: &Path) -> std::io::Result<()> {
    let folder = to.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let to = (1..=u32::MAX)
        .map(|number| beside(to, number))
        .find(|path| !path.exists())
        .expect("some number is free");
    std::fs::rename(from, &to)?;
    std::fs::remove_file(to.join(KEEP))?;
    sync_folder(folder)
}

/// The path itself, then others beside it.
fn beside(path: &Path, number: u32) -> PathBuf {
    if number == 1 {
        return path.to_path_buf();
    }
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{number}"));
    path.with_file_name(name)
}

/// Does at a start what was left undone, and removes what nobody needs any more. What was received stays: the transfer may go on.
///
/// # Errors
/// The file system's.
pub fn clear(data: &Path) -> Result<(), SnapshotError> {
    for path in entries(&data.join("snapshots"))? {
        std::fs::remove_file(&path).map_err(|error| failed("remove", &path, &error))?;
    }
    for path in entries(&data.join("partitions"))? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let random = name.split_once('.').map(|(_, random)| random);
        if random
            .is_some_and(|random| random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit()))
        {
            match Keep::read(data, &path) {
                Some(keep) => {
                    put_aside(&path, &keep.to).map_err(|error| failed("move", &path, &error))?;
                }
                None => std::fs::remove_dir_all(&path).map_err(|error| failed("remove", &path, &error))?,
            }
        } else {
            forget(&path)?;
        }
    }
    Ok(())
}

/// Removes what was noted for an exchange that did not come about.
fn forget(folder: &Path) -> Result<(), SnapshotError> {
    let path = folder.join(KEEP);
    match std::fs::remove_file(&path) {
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(failed("remove", &path, &error))
        }
        _ => Ok(()),
    }
}

/// The paths in a folder, if there is one.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, SnapshotError> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    };
    match read() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries.map_err(|error| failed("read", folder, &error)),
    }
}
