//! The first start in a folder that a server of Redis or Valkey has used: its rdb file is imported, and left as it is.
//!
//! What was imported counts only as a whole. While the import runs, a note lies in the folder, locked by who imports; a start that
//! finds one that nobody holds removes what the interrupted import made, and begins again.

use super::{Folder, ImportRequest, import};
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::Path;

/// The note. It is made only where nothing of what it lets remove is there.
const NOTE: &str = "import.unfinished";
/// What a store makes in its folder.
const MADE: [&str; 5] = ["node.toml", "journal", "partitions", "partitions.new", "snapshots"];

/// Imports the file `dump` of the folder if the folder holds no data of ours yet. Returns what to tell, if there was something
/// to import.
///
/// # Errors
/// Why it could not be, in words. The folder holds then what it held before.
pub fn adopt(folder: &Folder, dump: &str, append_only: &str, now: i64) -> Result<Option<String>, String> {
    let path = &folder.path;
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let note = path.join(NOTE);
    match OpenOptions::new().write(true).open(&note) {
        Ok(held) => {
            lock(&held)?;
            // Unless it ended, and took the note away, while we came.
            if note.exists() {
                clear(path).map_err(failed)?;
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    // Data of ours, or what is left of some: the store says what it thinks of that.
    if MADE.iter().any(|name| path.join(name).exists()) {
        return Ok(None);
    }
    let logs = path.join(append_only);
    if std::fs::read_dir(&logs).is_ok_and(|mut files| files.next().is_some()) {
        return Err(format!(
            "{} holds a log of Redis, which cannot be imported yet, and {dump} beside it may be older. Have redis-server write {dump} (SAVE), move {append_only} away, and start again",
            logs.display()
        ));
    }
    let file = path.join(dump);
    if !file.exists() {
        return Ok(None);
    }
    let held = OpenOptions::new().write(true).create_new(true).open(&note).map_err(failed)?;
    lock(&held)?;
    held.sync_all().and_then(|()| sync(path)).map_err(failed)?;
    let request = ImportRequest { file, ..ImportRequest::default() };
    let done = import(&request, folder, now);
    let cleared = match &done {
        Ok(_) => std::fs::remove_file(&note),
        Err(_) => clear(path),
    };
    let told = done.map_err(|reason| {
        format!("{reason} Move {dump} away to start without it, or see larder import --help")
    })?;
    cleared.and_then(|()| sync(path)).map_err(failed)?;
    Ok(Some(told))
}

/// Fails if another process imports here.
fn lock(note: &File) -> Result<(), String> {
    let locked = flock(note, FlockOperation::NonBlockingLockExclusive);
    locked.map_err(|_| "another server imports into the data folder just now".to_owned())
}

/// Removes what an import that did not end has made, and the note at last.
fn clear(path: &Path) -> std::io::Result<()> {
    for name in MADE {
        let made = path.join(name);
        let removed =
            if made.is_dir() { std::fs::remove_dir_all(&made) } else { std::fs::remove_file(&made) };
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    sync(path)?;
    std::fs::remove_file(path.join(NOTE))?;
    sync(path)
}

fn sync(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}
