//! `larder export rdb`: writes all keys of a data folder that no server uses to an rdb file.

use super::folder::{Folder, bar};
use crate::base::ids::{PartitionId, Slot};
use crate::interop::dump;
use crate::interop::rdb_file::FileWriter;
use crate::store::{Key, PartitionSet, Store};
use std::fs::File;
use std::io::BufWriter;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// How it is called.
pub const USAGE: &str = "\
usage: larder export rdb FILE [--rdb-version N] [CONFIGURATION] [--DIRECTIVE VALUE...]

  write all keys of the data folder, which no server may use meanwhile, to the new file FILE
  --rdb-version N the version of the format: 9 for Redis 5 and 6, 10 (the default) for 7.0, 12 for 7.4 and later

The data folder is that of --dir or the configuration, as for the server: ./data by default.
";

/// How to write a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// The file.
    pub file: PathBuf,
    /// The version of the format.
    pub version: u32,
}

/// Versions that can be written.
const VERSIONS: std::ops::RangeInclusive<u32> = 9..=12;
/// Names that are looked up at a time.
const NAMES: usize = 1024;

/// Writes the file that the request names. Returns what to tell.
///
/// # Errors
/// Why not, in words. Then there is no such file.
pub fn export(request: &Request, folder: &Folder, now: i64) -> Result<String, String> {
    if !VERSIONS.contains(&request.version) {
        return Err(format!("versions {} to {} can be written", VERSIONS.start(), VERSIONS.end()));
    }
    if !folder.path.join("node.toml").exists() {
        return Err(format!("{} is no data folder", folder.path.display()));
    }
    let failed = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    if request.file.exists() {
        return Err(failed(&request.file, &"is there already"));
    }
    let (store, mut background) = folder.open(folder.databases)?;
    // Under another name until it is whole.
    let mut unfinished = request.file.clone().into_os_string();
    unfinished.push(".part");
    let unfinished = Path::new(&unfinished);
    let written = write(&store, request.version, unfinished, now);
    background.stop();
    let named = written.and_then(|keys| {
        std::fs::rename(unfinished, &request.file).map_err(|error| failed(&request.file, &error))?;
        Ok(format!("{}: {keys} keys, version {}", request.file.display(), request.version))
    });
    named.inspect_err(|_| drop(std::fs::remove_file(unfinished)))
}

/// Returns how many keys were written.
fn write(store: &Store, version: u32, path: &Path, now: i64) -> Result<u64, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = File::create(path).map_err(|error| failed(&error))?;
    let mut out = FileWriter::new(BufWriter::new(file), version).map_err(|error| failed(&error))?;
    let databases = store.view(&PartitionSet::One(PartitionId(0)), now).database_count();
    let bar = bar(store.data_bytes(), "exporting");
    let mut keys = 0;
    for database in 0..databases {
        for id in (0..store.partition_count()).map(PartitionId) {
            let mut from = (Slot(0), 0);
            loop {
                let (names, next) = names(store, id, database, from, now)?;
                for name in &names {
                    let key = Key::new(database, name);
                    let dumped = store.until_fetched(|| {
                        let mut view = store.view(&PartitionSet::One(id), now);
                        let Some(entry) = view.glimpse(&key)? else { return Ok(None) };
                        let value = dump::value_of(&mut view, &key, &entry, version)?;
                        Ok(Some((value, entry.expire_at(), entry.stored_bytes())))
                    });
                    let told = |reason: &str| format!("the key {} {reason}", name.escape_ascii());
                    let dumped = dumped.map_err(|error| told(&format!("could not be read: {error:?}")))?;
                    let Some((value, expire_at, bytes)) = dumped else { continue };
                    let value = value.map_err(|reason| told(&reason))?;
                    let Some(value) = value else { continue };
                    out.key(u64::from(database), name, expire_at, &value).map_err(|error| failed(&error))?;
                    keys += 1;
                    bar.inc(bytes);
                }
                match next {
                    Some(next) => from = next,
                    None => break,
                }
            }
        }
    }
    let file = out.finish().and_then(|out| out.into_inner().map_err(std::io::IntoInnerError::into_error));
    file.and_then(|file| file.sync_all()).map_err(|error| failed(&error))?;
    bar.finish_and_clear();
    Ok(keys)
}

type Position = (Slot, u32);

/// Names from a position on, and where to go on. All of one position come together.
fn names(
    store: &Store,
    id: PartitionId,
    database: u16,
    from: Position,
    now: i64,
) -> Result<(Vec<Vec<u8>>, Option<Position>), String> {
    let read = store.until_fetched(|| {
        let (mut names, mut last, mut next) = (Vec::new(), None, None);
        let mut view = store.view(&PartitionSet::One(id), now);
        view.visit_keys(database, from, &mut |position, name, _| {
            if names.len() >= NAMES && last != Some(position) {
                next = Some(position);
                return ControlFlow::Break(());
            }
            last = Some(position);
            names.push(name.to_vec());
            ControlFlow::Continue(())
        })?;
        Ok((names, next))
    });
    read.map_err(|error| format!("keys could not be read: {error:?}"))
}
