//! The first start in a folder that a server of Redis or Valkey has used: what it left is imported, and left as it is.
//!
//! If there is both an rdb file and a log, the one with the newest data counts, or the one that `appendonly` says, if that is given: see
//! `docs/decisions/2026-11-22-old-volumes.md`. The other one is told.

use super::claim;
use super::files::Source;
use super::{Report, Request, import_source};
use crate::interop::rdb_file::{FileReader, Item};
use crate::tools::folder::Folder;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Notes at the head of an rdb file that are looked at for the time it was written.
const NOTES_MAX: usize = 32;

/// Imports what a folder has of Redis, if it holds no data of ours yet. Returns what to tell, if there was something to import.
///
/// # Errors
/// Why it could not be, in words. The folder holds then what it held before.
pub fn adopt(folder: &Folder, now: i64) -> Result<Option<Report>, String> {
    claim::clear_interrupted(&folder.path)?;
    if claim::has_data(&folder.path) {
        return Ok(None);
    }
    let settings = folder.parameters.snapshot();
    let dump = folder.path.join(&settings.dbfilename);
    let dump = dump.exists().then_some(dump);
    let log = log_in(&folder.path, &settings.appenddirname, &settings.appendfilename);
    let log =
        log.map_err(|reason| format!("{reason}. Nothing was imported. To start without it, move it away"))?;
    let wish = folder.parameters.given("appendonly").map(|value| value == b"yes");
    let dumped_at = dump.as_deref().and_then(dumped_at);
    let is_log = match (&dump, &log) {
        (None, None) => return Ok(None),
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(_), Some(log)) => wish.unwrap_or_else(|| log.written_at() >= dumped_at),
    };
    let dump = dump.map(|file| Source { name: file.clone(), files: vec![file] });
    let (chosen, other) = if is_log { (log, dump) } else { (dump, log) };
    let chosen = chosen.expect("it was found that there is one");
    let reason = if wish.is_some() { "appendonly says so" } else { "it is the older one" };
    let request = Request { file: chosen.name.clone(), ..Request::default() };
    let mut report = import_source(&chosen, &request, folder, now).map_err(|reason| {
        format!(
            "{reason} To start without it, move {} away. larder import --help has what else can be done before a start in {}",
            chosen.name.display(),
            folder.path.display()
        )
    })?;
    if let Some(other) = other {
        let (other, chosen) = (other.name.display(), chosen.name.display());
        report.warnings.push(format!(
            "{other} was not imported, but {chosen}: {reason}. If that is wrong, stop the server, move its data away, and \
             larder import {other}"
        ));
    }
    Ok(Some(report))
}

/// The log that a server has left: in several files, or in one.
fn log_in(folder: &Path, logs: &str, name: &str) -> Result<Option<Source>, String> {
    let logs = folder.join(logs);
    let manifest = logs.join(format!("{name}.manifest"));
    if manifest.exists() {
        return Source::of(&manifest).map(Some);
    }
    if std::fs::read_dir(&logs).is_ok_and(|mut files| files.next().is_some()) {
        return Source::of(&logs).map(Some);
    }
    let single = folder.join(name);
    if single.is_file() { Source::of(&single).map(Some) } else { Ok(None) }
}

/// When the data of an rdb file was as it is: what the file says, as a copy of it is younger; otherwise its own time.
fn dumped_at(path: &Path) -> Option<SystemTime> {
    let file = File::open(path).ok()?;
    let found = file.metadata().ok()?;
    let by_file = found.modified().ok();
    let Ok(mut reader) = FileReader::new(file, found.len()) else { return by_file };
    for _ in 0..NOTES_MAX {
        match reader.next_item() {
            Ok(Some(Item::Aux(name, text))) if name == b"ctime" => {
                let seconds = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
                let said = seconds
                    .and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
                return said.or(by_file);
            }
            Ok(Some(Item::Aux(..))) => {}
            _ => break,
        }
    }
    by_file
}
