//! `larder import` and the first start over an old volume: what Redis or Valkey has written becomes the data of a folder that no server uses.
//!
//! Reading order: `files` (which files, and how they are read), `found` (a first look at all of it: what is refused leaves nothing behind),
//! then here for good, with `replay` for the commands of a log; `claim` (a folder is filled as a whole or not at all), `first_start`.
//!
//! - The files are only read.
//! - Memory is bounded by the largest value or command.
//! - Nothing is left out in silence: it is refused, or counted and told.

mod claim;
mod files;
mod first_start;
mod found;
mod replay;

pub use claim::clear_interrupted;
pub use first_start::adopt;

use super::folder::{Folder, Progress};
use crate::base::ids::PartitionId;
use crate::interop::place::{Limits, place};
use crate::interop::rdb_file::{Item, Key as FileKey};
use crate::protocol::args::Args;
use crate::session::imported::Imported;
use crate::store::{Flushed, Key, PartitionSet, Store};
use crate::types::hash;
use claim::Claim;
use files::{Head, Source, Visitor};
use found::{Found, counted};
use replay::{Meaning, Replay};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How it is called.
pub const USAGE: &str = "\
usage: larder import FILE [--merge] [--skip-unknown] [CONFIGURATION] [--DIRECTIVE VALUE...]

  read FILE into the data folder, which no server may use meanwhile. FILE is of Redis or Valkey:
                    an rdb file (dump.rdb),
                    a log in several files (the folder appendonlydir, or the .manifest in it),
                    or a log in one file (appendonly.aof)
  --merge           also if the data folder holds keys; an rdb file's keys replace those of the same name, and a log's commands
                    find what is there
  --skip-unknown    leave out values of types and commands that Larder does not have

A log that ends inside a command or a transaction is read up to there, unless --aof-load-truncated no is given.
The data folder is that of --dir or the configuration, as for the server: ./data by default.
";

/// How long to wait before a write that was late is tried again.
const LATE_GAP: Duration = Duration::from_millis(5);
/// Bytes of the journal that are written at once.
const JOURNAL_STEP: u64 = 256 * 1024;
/// Databases that the data folder can have.
const DATABASES_MAX: u64 = 16_384;
/// Keys that are removed under one lock when their time has come.
const EXPIRE_BATCH: usize = 64;
/// Refusals that are told one by one.
const REFUSALS_TOLD: u64 = 5;

/// What to import, and how.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// A file, a manifest, or a folder with one.
    pub file: PathBuf,
    /// Into a folder with keys, too.
    pub merge: bool,
    /// Without what there is no type or command for.
    pub skip_unknown: bool,
}

/// What became of an import.
#[derive(Debug)]
pub struct Report {
    /// What was imported, in words.
    pub text: String,
    /// What somebody should look at.
    pub warnings: Vec<String>,
}

/// Reads what the request names into the folder.
///
/// # Errors
/// Why it was refused, in words: then nothing was imported; or why it stopped, which says whether anything was.
pub fn import(request: &Request, folder: &Folder, now: i64) -> Result<Report, String> {
    Source::of(&request.file)
        .map_err(|reason| format!("{reason}. Nothing was imported."))
        .and_then(|source| import_source(&source, request, folder, now))
}

fn import_source(source: &Source, request: &Request, folder: &Folder, now: i64) -> Result<Report, String> {
    let begun = Instant::now();
    let nothing = |reason: String| format!("{reason}. Nothing was imported.");
    let cut_is_allowed = folder.parameters.settings().aof_load_truncated;
    let found = found::look(source, now, cut_is_allowed).map_err(nothing)?;
    if found.unknown_count() > 0 && !request.skip_unknown {
        let what = found.unknown_in_words();
        let name = source.name.display();
        return Err(format!(
            "{name} holds {what}, which Larder does not have; --skip-unknown leaves them out. Nothing was imported."
        ));
    }
    if found.databases > DATABASES_MAX {
        return Err(nothing(format!("there can be {DATABASES_MAX} databases at most")));
    }
    let claim = Claim::take(&folder.path).map_err(nothing)?;
    let poured = pour(source, &found, request, folder, now);
    let Some(claim) = claim else {
        return poured.map(|poured| report(source, &found, &poured, now, begun, &folder.path))?;
    };
    let failed = |error: std::io::Error| format!("{}: {error}", folder.path.display());
    match poured {
        Ok(poured) => {
            let report = report(source, &found, &poured, now, begun, &folder.path)?;
            claim.keep().map_err(failed)?;
            Ok(report)
        }
        Err(reason) => {
            claim.clear().map_err(failed)?;
            Err(reason.replace(PARTLY, "Nothing was imported."))
        }
    }
}

/// What is said where a folder had data before, so that what came is not taken back.
const PARTLY: &str = "A part was imported.";

/// What has come into the folder.
#[derive(Default)]
struct Poured {
    keys: u64,
    commands: u64,
    expired: u64,
    refusals: Vec<String>,
    refused: u64,
}

/// Reads the files for good.
fn pour(
    source: &Source,
    found: &Found,
    request: &Request,
    folder: &Folder,
    now: i64,
) -> Result<Poured, String> {
    let databases = folder.databases.max(found.databases as u16);
    let (store, mut background) = folder.open(databases)?;
    let count = || (0..databases).map(|database| store.counters(database).keys).sum::<u64>();
    let there = count();
    if there > 0 && !request.merge {
        return Err(format!(
            "{} holds {there} keys already; --merge lets what is imported replace what has the same name. Nothing was imported.",
            folder.path.display()
        ));
    }
    let mut pouring = Pouring {
        replay: Replay::on(&store, &folder.parameters, databases, now),
        store: Arc::clone(&store),
        limits: folder.limits,
        // Where a log follows, what it says of a key comes before the key's deadline counts.
        clock: if found.has_log { 0 } else { now },
        skips: request.skip_unknown,
        written: 0,
        poured: Poured { expired: found.overdue, ..Poured::default() },
    };
    let done = pouring.all(source, found, now);
    let synced = store.sync().map_err(|error| format!("{error:?}"));
    background.stop();
    done.and(synced).map_err(|reason| format!("{reason}. {PARTLY}"))?;
    store.checkpoint_now().map_err(|error| error.to_string())?;
    pouring.poured.keys = if found.has_log { count() } else { found.key_count() };
    Ok(pouring.poured)
}

/// The work on a store.
struct Pouring {
    store: Arc<Store>,
    replay: Replay,
    limits: Limits,
    /// The time that counts for keys, milliseconds since 1970.
    clock: i64,
    skips: bool,
    /// Up to where the journal is written.
    written: u64,
    poured: Poured,
}

impl Pouring {
    fn all(&mut self, source: &Source, found: &Found, now: i64) -> Result<(), String> {
        let mut progress = Progress::over(found.lens.iter().sum(), "importing");
        for (path, &len) in source.files.iter().zip(&found.lens) {
            self.replay.begin_file();
            let end = files::read(path, len, &mut progress, self)?;
            if let Some(at) = end {
                return Err(format!("{}: it has changed at byte {at} meanwhile", path.display()));
            }
        }
        if found.has_log {
            self.poured.expired = self.expire(now)?;
        }
        Ok(())
    }

    /// Has the journal written up to `position` if that is worthwhile, and waits while more comes than the disk takes.
    fn settle(&mut self, position: u64) -> Result<(), String> {
        if position < self.written + JOURNAL_STEP {
            return Ok(());
        }
        while self.store.is_overloaded() {
            std::thread::sleep(LATE_GAP);
        }
        let failed = |error| format!("the journal cannot be written: {error:?}");
        while self.store.flush(position).map_err(failed)? == Flushed::Late {
            std::thread::sleep(LATE_GAP);
        }
        self.written = position;
        Ok(())
    }

    fn put(&mut self, found: &FileKey) -> Result<(), String> {
        let Ok(value) = &found.value else { return Ok(()) };
        if found.expire_at.is_some_and(|at| at < self.clock) {
            return Ok(());
        }
        let key = Key::new(found.database as u16, &found.name);
        let partition = PartitionSet::One(self.store.partition_of(key.slot));
        let limits = self.limits.of_kind(Some(&found.kind));
        let position = self.store.until_fetched(|| {
            let mut transaction = self.store.transaction(&partition, self.clock);
            place(&mut transaction, &key, value, found.expire_at, limits)?;
            let clock = transaction.access_clock();
            let access = found.idle_s.and_then(|seconds| clock.idle_for(seconds));
            if let Some(access) = access.or(found.frequency.and_then(|counter| clock.used_often(counter))) {
                transaction.begin_access(&key, access);
            }
            transaction.check_size()?;
            transaction.admit(true)?;
            Ok(transaction.commit())
        });
        let failed = |error| format!("the key {} could not be written: {error:?}", found.name.escape_ascii());
        self.settle(position.map_err(failed)?)
    }

    /// Removes what has expired, now that the log has no more to say. Returns how many keys.
    fn expire(&mut self, now: i64) -> Result<u64, String> {
        let mut keys = 0;
        for id in (0..self.store.partition_count()).map(PartitionId) {
            loop {
                let expired = self.store.expire(id, now, EXPIRE_BATCH, hash::clear_over);
                let expired = expired.map_err(|error| format!("keys could not expire: {error:?}"))?;
                keys += expired.keys;
                self.settle(expired.position)?;
                if !expired.more {
                    break;
                }
            }
        }
        Ok(keys)
    }

    /// A command that was refused although it is known: what it did to the data it was written for, it does not do here.
    fn refused(&mut self, at: u64, words: Args, error: &[u8]) -> Result<(), String> {
        let name = words.at(0).escape_ascii().to_string().to_ascii_uppercase();
        let text = format!("{name} was refused: {}", String::from_utf8_lossy(error));
        if !self.skips {
            return Err(text);
        }
        self.poured.refused += 1;
        if self.poured.refused <= REFUSALS_TOLD {
            self.poured.refusals.push(format!("{text} at byte {at}"));
        }
        Ok(())
    }
}

impl Visitor for Pouring {
    fn item(&mut self, item: Item, _: Head) -> Result<(), String> {
        match item {
            Item::Key(key) => self.put(&key),
            _ => Ok(()),
        }
    }

    fn command(&mut self, at: u64, words: Args) -> Result<(), String> {
        let (Meaning::Change(entry) | Meaning::Select(entry)) = replay::meaning(words)? else {
            return Ok(());
        };
        match self.replay.run(entry, words)? {
            Ok(position) => {
                self.poured.commands += 1;
                self.settle(position)
            }
            Err(error) => self.refused(at, words, &error.0),
        }
    }
}

/// Tells what was done, and notes it in the folder for INFO.
fn report(
    source: &Source,
    found: &Found,
    poured: &Poured,
    now: i64,
    begun: Instant,
    folder: &Path,
) -> Result<Report, String> {
    let file = std::path::absolute(&source.name).unwrap_or_else(|_| source.name.clone());
    let imported = Imported {
        file: file.display().to_string(),
        at_ms: now + begun.elapsed().as_millis() as i64,
        keys: poured.keys,
        expired: poured.expired,
        left_out: found.unknown_count() + poured.refused,
        cut_bytes: found.cut.as_ref().map_or(0, |cut| cut.bytes),
    };
    imported.write(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut warnings = Vec::new();
    if let Some(cut) = &found.cut {
        warnings.push(format!(
            "{}: ends with {}: the {} bytes from byte {} on were not imported (aof-load-truncated is yes)",
            cut.file.display(),
            cut.what,
            cut.bytes,
            cut.at
        ));
    }
    warnings.extend(poured.refusals.iter().cloned());
    Ok(Report { text: told(source, found, poured, begun.elapsed()), warnings })
}

fn told(source: &Source, found: &Found, poured: &Poured, took: Duration) -> String {
    let mut text = source.name.display().to_string();
    if let Some(version) = found.version {
        let _ = write!(text, ": version {version}");
        if !found.writer.is_empty() {
            let _ = write!(text, " of {}", found.writer);
        }
        text.push(',');
    } else {
        text.push(':');
    }
    let _ = write!(text, " {} keys imported in {:.1} s", poured.keys, took.as_secs_f64());
    if found.has_log {
        let files = counted("file", source.files.len() as u64);
        let _ = write!(text, " from {} keys and {} commands in {files}", found.key_count(), poured.commands);
    } else if poured.keys > 0 {
        let kinds: Vec<_> = found.keys.iter().map(|(kind, count)| counted(kind, *count)).collect();
        let _ = write!(text, " ({})", kinds.join(", "));
    }
    if poured.expired > 0 {
        let _ = write!(text, "; {} had expired", poured.expired);
    }
    if found.unknown_count() > 0 {
        let _ = write!(text, "; left out: {}", found.unknown_in_words());
    }
    if poured.refused > 0 {
        let _ = write!(text, "; {} commands were refused", poured.refused);
    }
    if found.functions > 0 {
        let _ = write!(text, "; {} libraries of functions were left out", found.functions);
    }
    if found.module_data > 0 {
        let _ = write!(text, "; data of {} modules was left out", found.module_data);
    }
    text
}
