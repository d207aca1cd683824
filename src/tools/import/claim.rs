//! A data folder without data of ours, claimed for an import: what comes into it counts as a whole or not at all.
//!
//! While the import runs, a note lies in the folder, locked by who imports. Whoever finds one that nobody holds removes what the
//! interrupted import has made.

use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The note. It is made only where nothing of what it lets remove is there.
const NOTE: &str = "import.unfinished";
/// What a store makes in its folder.
const MADE: [&str; 5] = ["node.toml", "journal", "partitions", "partitions.new", "snapshots"];

/// The right to fill a folder.
pub struct Claim {
    folder: PathBuf,
    /// Locked as long as it is open.
    _note: File,
}

/// Removes what an import that was interrupted has left.
///
/// # Errors
/// In words, if another process imports just now.
pub fn clear_interrupted(folder: &Path) -> Result<(), String> {
    let note = folder.join(NOTE);
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    match OpenOptions::new().write(true).open(&note) {
        Ok(held) => {
            lock(&held)?;
            // Unless it ended, and took the note away, while we came.
            if note.exists() { clear(folder).map_err(failed) } else { Ok(()) }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// Whether there is data of ours in the folder, or what is left of some: the store says what it thinks of that.
pub fn has_data(folder: &Path) -> bool {
    MADE.iter().any(|name| folder.join(name).exists())
}

impl Claim {
    /// Claims the folder, which is made if it is not there. None, if it has data of ours.
    ///
    /// # Errors
    /// In words, if another process imports just now, or the folder cannot be written to.
    pub fn take(folder: &Path) -> Result<Option<Claim>, String> {
        clear_interrupted(folder)?;
        if has_data(folder) {
            return Ok(None);
        }
        let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
        std::fs::create_dir_all(folder).map_err(failed)?;
        let note = OpenOptions::new().write(true).create_new(true).open(folder.join(NOTE));
        let note = note.map_err(failed)?;
        lock(&note)?;
        note.sync_all().and_then(|()| sync(folder)).map_err(failed)?;
        Ok(Some(Claim { folder: folder.to_owned(), _note: note }))
    }

    /// What was imported counts.
    ///
    /// # Errors
    /// If it cannot be made to.
    pub fn keep(self) -> std::io::Result<()> {
        std::fs::remove_file(self.folder.join(NOTE))?;
        sync(&self.folder)
    }

    /// Removes what was imported.
    ///
    /// # Errors
    /// If that is not possible: the next one who looks does it then.
    pub fn clear(self) -> std::io::Result<()> {
        clear(&self.folder)
    }
}

/// Fails if another process imports here.
fn lock(note: &File) -> Result<(), String> {
    let locked = flock(note, FlockOperation::NonBlockingLockExclusive);
    locked.map_err(|_| "another process imports into the data folder just now".to_owned())
}

/// Removes what an import has made, and the note at last.
fn clear(folder: &Path) -> std::io::Result<()> {
    for name in MADE {
        let made = folder.join(name);
        let removed =
            if made.is_dir() { std::fs::remove_dir_all(&made) } else { std::fs::remove_file(&made) };
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    sync(folder)?;
    std::fs::remove_file(folder.join(NOTE))?;
    sync(folder)
}

fn sync(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}
