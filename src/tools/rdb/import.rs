//! Reads an rdb file into a data folder: once to see that all of it can be read, then for good.

use super::{Folder, ImportRequest, bar};
use crate::interop::place::{Limits, place};
use crate::interop::rdb_file::{FileReader, Item, Key as FileKey};
use crate::store::{Flushed, Key, PartitionSet, Store};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long to wait before a write that was late is tried again.
const LATE_GAP: Duration = Duration::from_millis(5);
/// Databases that the data folder can have.
const DATABASES_MAX: u64 = 16_384;

/// What is in a file.
#[derive(Default)]
struct Found {
    /// By type.
    keys: BTreeMap<&'static str, u64>,
    /// Those of types that are not here.
    unknown: BTreeMap<&'static str, u64>,
    expired: u64,
    functions: u64,
    module_data: u64,
    databases: u64,
    version: u32,
    writer: String,
}

/// Reads the file that the request names into the folder. Returns what to tell.
///
/// # Errors
/// Why it was refused, in words: then nothing was imported; or why it stopped, which says so.
pub fn import(request: &ImportRequest, folder: &Folder, now: i64) -> Result<String, String> {
    let begun = Instant::now();
    let mut found = Found::default();
    visit(&request.file, "checking ", &mut found, now, &mut |_| Ok(()))
        .map_err(|reason| format!("{reason}. Nothing was imported."))?;
    if !found.unknown.is_empty() && !request.skip_unknown {
        return Err(format!(
            "{} holds {}, for which there is no type yet; --skip-unknown leaves them out. Nothing was imported.",
            request.file.display(),
            counted(&found.unknown)
        ));
    }
    if found.databases > DATABASES_MAX {
        return Err(format!("there can be {DATABASES_MAX} databases at most. Nothing was imported."));
    }
    let databases = folder.databases.max(found.databases as u16);
    let (store, mut background) = folder.open(databases)?;
    let there: u64 = (0..databases).map(|database| store.counters(database).keys).sum();
    if there > 0 && !request.merge {
        return Err(format!(
            "{} holds {there} keys already; --merge lets those of the file replace what has the same name. Nothing was imported.",
            folder.path.display()
        ));
    }
    let imported = visit(&request.file, "importing", &mut Found::default(), now, &mut |key| {
        put(&store, key, folder.limits, now)
    });
    let synced = store.sync().map_err(|error| format!("{error:?}"));
    background.stop();
    imported.and(synced).map_err(|reason| format!("{reason}. A part of the file was imported."))?;
    store.checkpoint_now().map_err(|error| error.to_string())?;
    Ok(told(&found, request, begun.elapsed()))
}

/// Gives each key of a file that has not expired to `take`, if it can be kept here.
fn visit(
    path: &Path,
    what: &str,
    found: &mut Found,
    now: i64,
    take: &mut dyn FnMut(&FileKey) -> Result<(), String>,
) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(|error| failed(&error))?;
    let len = file.metadata().map_err(|error| failed(&error))?.len();
    let mut reader = FileReader::new(file, len).map_err(|error| failed(&error))?;
    found.version = reader.version();
    let bar = bar(len, what);
    while let Some(item) = reader.next_item().map_err(|error| failed(&error))? {
        bar.set_position(reader.offset());
        match item {
            Item::Aux(name, text) if name.ends_with(b"-ver") => {
                found.writer = String::from_utf8_lossy(&text).into_owned();
            }
            Item::Aux(..) | Item::Sizes(_) => {}
            Item::Functions => found.functions += 1,
            Item::ModuleData => found.module_data += 1,
            Item::Key(key) => {
                found.databases = found.databases.max(key.database.saturating_add(1));
                match &key.value {
                    Err(kind) => *found.unknown.entry(kind).or_default() += 1,
                    Ok(_) if key.expire_at.is_some_and(|at| at < now) => found.expired += 1,
                    Ok(value) => {
                        *found.keys.entry(value.type_name()).or_default() += 1;
                        take(&key)?;
                    }
                }
            }
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn put(store: &Store, found: &FileKey, limits: Limits, now: i64) -> Result<(), String> {
    let Ok(value) = &found.value else { return Ok(()) };
    let key = Key::new(found.database as u16, &found.name);
    let partition = PartitionSet::One(store.partition_of(key.slot));
    let position = store.until_fetched(|| {
        let mut transaction = store.transaction(&partition, now);
        place(&mut transaction, &key, value, found.expire_at, limits.of_kind(Some(&found.kind)))?;
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
    let position = position.map_err(failed)?;
    while store.flush(position).map_err(failed)? == Flushed::Late {
        std::thread::sleep(LATE_GAP);
    }
    Ok(())
}

fn counted(counts: &BTreeMap<&'static str, u64>) -> String {
    let counts =
        counts.iter().map(|(kind, count)| format!("{count} {kind}{}", if *count == 1 { "" } else { "s" }));
    counts.collect::<Vec<_>>().join(", ")
}

fn told(found: &Found, request: &ImportRequest, took: Duration) -> String {
    let keys: u64 = found.keys.values().sum();
    let mut text = format!(
        "{}: version {}{}, {keys} keys imported in {:.1} s",
        request.file.display(),
        found.version,
        if found.writer.is_empty() { String::new() } else { format!(" of {}", found.writer) },
        took.as_secs_f64(),
    );
    if keys > 0 {
        let _ = write!(text, " ({})", counted(&found.keys));
    }
    if found.expired > 0 {
        let _ = write!(text, "; {} had expired", found.expired);
    }
    if !found.unknown.is_empty() {
        let _ = write!(text, "; left out: {}", counted(&found.unknown));
    }
    if found.functions > 0 {
        let _ = write!(text, "; {} libraries of functions were left out", found.functions);
    }
    if found.module_data > 0 {
        let _ = write!(text, "; data of {} modules was left out", found.module_data);
    }
    text
}
