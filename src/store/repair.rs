//! Checking and repairing a data folder that no server uses: `larder check` and `larder repair`.
//!
//! A check does what a start does, then reads every page. A repair keeps what is whole and says what it lost:
//! - a damaged `node.toml` is written anew, from what it still says and the partitions there are;
//! - of a damaged tree the rows on whole pages go into a new one; keys whose items are not all there go, and are named;
//! - of a damaged journal the whole records go into a new one; those of a partition end where one is missing in its history.
//!
//! Nothing is thrown away: what is replaced is moved to `lost/<unix time>/` with a list of the keys that had to go.

use super::deadlines::deadline_key;
use super::journal::{self, Journal, Recovered, SyncMode};
use super::recovery::{self, OpenError};
use super::row::{self, Kind};
use super::tree::{Batch, Environment, Salvage, State, TreeError, TreeName};
use super::{Counters, Options, Store};
use crate::base::blob::{Blob, Head};
use crate::base::clock::unix_ms;
use crate::base::ids::{Lsn, PartitionId, Point, Uid};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const JOURNAL: &str = "journal";
/// What a folder ends with that is being made to take another's place.
const REPAIRED: &str = "repaired";
/// Rows written to a new tree in one transaction.
const BATCH_ROWS: usize = 50_000;

/// Takes lines about what was found and done.
pub type Report<'a> = &'a mut dyn FnMut(&str);

/// Opens the data folder as a start does and checks every page of every tree.
///
/// # Errors
/// What is damaged.
pub fn check(folder: &Path, report: Report) -> Result<(), OpenError> {
    if !folder.join("node.toml").exists() {
        return Err(OpenError(format!("{} is no data folder: it has no node.toml", folder.display())));
    }
    let store = Store::open(folder, 1, 1, Options::default())?;
    let status = store.status();
    report(&format!(
        "{} partitions; {} transactions replayed from the journal; {} bytes of a torn record cut",
        status.partitions, status.recovered_records, status.recovered_cut_bytes
    ));
    store.check_trees(&AtomicBool::new(false))?;
    report(&format!("{} bytes of trees are whole", status.tree_bytes));
    Ok(())
}

/// Keeps what is whole of the data folder.
///
/// # Errors
/// What could not be repaired, or read, or written.
pub fn repair(folder: &Path, report: Report) -> Result<(), OpenError> {
    let lost = folder.join("lost").join(unix_ms().to_string());
    finish_interrupted(folder)?;
    let ids = partitions_in(folder)?;
    recovery::repair_manifest(folder, ids.len() as u16, report)?;
    let manifest = recovery::open_manifest(folder, ids.len() as u16)?; // and with it the lock
    let mut known = Vec::new();
    for id in &ids {
        known.push(repair_tree(&folder.join("partitions").join(id), &lost, report)?);
    }
    let lossy = repair_journal(folder, &lost, known, report)?;
    drop(manifest);
    break_histories(folder, &lossy)
}

/// What a partition's tree is after its repair.
struct Known {
    state: State,
    /// What it should have reached if a commit was taken back.
    must_reach: Option<Lsn>,
    /// Rows may be missing.
    is_lossy: bool,
}

/// What a tree without a state is.
fn new_state() -> State {
    State {
        point: Point::default(),
        position: 0,
        history_start: 0,
        next_database_id: 0,
        databases: Vec::new(),
    }
}

/// A partition that lost something has no longer the history that its LSN stands for: other nodes must not take the two for
/// equal.
fn break_histories(folder: &Path, lossy: &BTreeSet<u16>) -> Result<(), OpenError> {
    if lossy.is_empty() {
        return Ok(());
    }
    let store = Store::open(folder, 1, 1, Options::default())?;
    lossy.iter().for_each(|id| store.break_history(PartitionId(*id)));
    Ok(store.checkpoint_now()?)
}

/// Puts in place what an interrupted repair had made whole: the old one was moved aside only after that.
fn finish_interrupted(folder: &Path) -> Result<(), OpenError> {
    let path = folder.join("partitions");
    let entries = std::fs::read_dir(&path).map_err(|error| recovery::failed("read", &path, &error))?;
    let mut made: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    made.push(folder.join(JOURNAL).with_extension(REPAIRED));
    for made in made.iter().filter(|path| path.extension().is_some_and(|extension| extension == REPAIRED)) {
        let place = made.with_extension("");
        if made.exists() && !place.exists() {
            std::fs::rename(made, &place).map_err(|error| recovery::failed("rename", made, &error))?;
        }
    }
    Ok(())
}

/// The folders of the partitions, in order.
fn partitions_in(folder: &Path) -> Result<Vec<String>, OpenError> {
    let path = folder.join("partitions");
    let entries = std::fs::read_dir(&path).map_err(|error| recovery::failed("read", &path, &error))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut ids: Vec<String> = names.filter(|name| name.len() == 4 && name.parse::<u16>().is_ok()).collect();
    ids.sort_unstable();
    let gap = ids.iter().enumerate().find(|(index, id)| id.parse() != Ok(*index));
    match gap {
        None if !ids.is_empty() => Ok(ids),
        _ => Err(OpenError(format!("{} lacks a partition, which can only come from a copy", path.display()))),
    }
}

/// Makes a tree whole.
fn repair_tree(path: &Path, lost: &Path, report: Report) -> Result<Known, OpenError> {
    let opened = Environment::open(path, super::tree::map_bytes(1)).and_then(|environment| {
        environment.check_all(&AtomicBool::new(false))?;
        let state = environment.state()?.unwrap_or_else(new_state);
        Ok(Known { state, must_reach: environment.must_reach(), is_lossy: false })
    });
    match opened {
        Ok(known) => Ok(known),
        Err(TreeError(reason)) => {
            report(&reason);
            Ok(Known { state: rebuild(path, lost, report)?, must_reach: None, is_lossy: true })
        }
    }
}

/// Moves what is whole of a tree into a new one and the old one to `lost`. Returns what it knows.
fn rebuild(path: &Path, lost: &Path, report: Report) -> Result<State, OpenError> {
    let shown = path.display();
    let unreadable = || {
        OpenError(format!("{shown} does not even say what it held: this partition can only come from a copy"))
    };
    let mut old = Salvage::open(path).map_err(|_| unreadable())?;
    let mut state = old.state().ok_or_else(unreadable)?;
    if !old.is_checked() {
        report(&format!("{shown}: its checksums are of no use; pages are taken as they are"));
    }
    let before: u64 = state.databases.iter().map(|(_, counters)| counters.keys).sum();
    let fresh = path.with_extension(REPAIRED);
    let _ = std::fs::remove_dir_all(&fresh); // of a repair that did not end
    let new = Environment::open(&fresh, super::tree::map_bytes(1))?;
    let (names, damaged) = move_rows(&mut old, &new, &mut state)?;
    let kept: u64 = state.databases.iter().map(|(_, counters)| counters.keys).sum();
    drop(new);
    put_aside(path, lost)?;
    std::fs::rename(&fresh, path).map_err(|error| recovery::failed("rename", &fresh, &error))?;
    if !names.is_empty() {
        let list = lost.join(format!("keys-{}.txt", path.file_name().unwrap_or_default().to_string_lossy()));
        std::fs::write(&list, &names).map_err(|error| recovery::failed("write", &list, &error))?;
    }
    report(&format!(
        "{shown}: {damaged} damaged pages; kept {kept} of {before} keys; {} of the others can be named, in {}",
        names.lines().count(),
        lost.display()
    ));
    Ok(state)
}

/// Copies the rows of `old` that can be used into `new`, and the counts of them into `state`. Returns the names of keys whose
/// items are not all there, a line each, and how many pages are damaged.
fn move_rows(
    old: &mut Salvage,
    new: &Arc<Environment>,
    state: &mut State,
) -> Result<(String, u64), OpenError> {
    let mut bytes_of: HashMap<[u8; Uid::LEN], (u64, bool)> = HashMap::new();
    let mut damaged = old.rows(TreeName::Items, &mut |key, value| {
        if let Some(uid) = key.first_chunk() {
            bytes_of.entry(*uid).or_default().0 += (key.len() + value.len()) as u64;
        }
    });
    for (_, counters) in &mut state.databases {
        *counters = Counters::default();
    }
    let mut names = String::new();
    let mut writer =
        RowWriter { new, state: state.clone(), keys: Vec::new(), items: Vec::new(), failure: None };
    damaged += old.rows(TreeName::Keys, &mut |key, value| {
        let row = blob(key, value);
        let Some((meta, _)) = row::decode_value(value) else { return };
        let (id, ..) = row::position_of(key);
        let Some((_, counters)) = writer.state.databases.iter_mut().find(|(number, _)| *number == id) else {
            return;
        };
        if let Some(items) = meta.items {
            let found = bytes_of.get_mut(&items.uid.to_bytes()).filter(|(bytes, _)| *bytes == items.bytes);
            let Some((_, is_used)) = found else {
                let _ = writeln!(names, "{}", row::name_of(&row).escape_ascii());
                return;
            };
            *is_used = true;
        }
        counters.keys += 1;
        counters.expires += u64::from(meta.expire_at.is_some());
        counters.bytes += row::stored_bytes(&row, &meta);
        writer.add_key(row, meta.next_deadline());
    });
    old.rows(TreeName::Items, &mut |key, value| {
        let is_used =
            key.first_chunk().is_some_and(|uid| bytes_of.get(uid).is_some_and(|(_, is_used)| *is_used));
        if is_used {
            writer.add_item(blob(key, value));
        }
    });
    writer.write()?;
    *state = writer.state;
    Ok((names, damaged))
}

fn blob(key: &[u8], value: &[u8]) -> Blob {
    // The hash is for tables in memory, where these rows never are.
    Blob::new(Head { hash: 0, key_len: key.len() as u32, mark: 0 }, &[key, value].concat())
}

/// Writes rows in batches.
struct RowWriter<'a> {
    new: &'a Arc<Environment>,
    state: State,
    keys: Vec<(Blob, Option<i64>)>,
    items: Vec<Blob>,
    failure: Option<TreeError>,
}

impl RowWriter<'_> {
    fn add_key(&mut self, row: Blob, deadline: Option<i64>) {
        self.keys.push((row, deadline));
        self.write_if_many();
    }

    fn add_item(&mut self, row: Blob) {
        self.items.push(row);
        self.write_if_many();
    }

    fn write_if_many(&mut self) {
        if self.keys.len() + self.items.len() >= BATCH_ROWS
            && let Err(error) = self.write()
        {
            self.failure.get_or_insert(error);
        }
    }

    fn write(&mut self) -> Result<(), TreeError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let deadlines: Vec<_> =
            self.keys.iter().filter_map(|(row, at)| Some(deadline_key((*at)?, row.key()))).collect();
        let keys: Vec<Blob> = self.keys.drain(..).map(|(row, _)| row).collect();
        let items = std::mem::take(&mut self.items);
        self.new.write(&Batch {
            keys: &keys,
            items: &items,
            deadlines: deadlines.iter().map(|key| (&**key, true)).collect(),
            dropped: &[] as &[(Uid, Kind)],
            emptied: Vec::new(),
            state: &self.state,
        })
    }
}

/// Writes the records that can be used into a new journal. Returns the partitions that may lack something.
fn repair_journal(
    folder: &Path,
    lost: &Path,
    known: Vec<Known>,
    report: Report,
) -> Result<BTreeSet<u16>, OpenError> {
    let path = folder.join(JOURNAL);
    let fresh = path.with_extension(REPAIRED);
    let _ = std::fs::remove_dir_all(&fresh); // of a repair that did not end
    std::fs::create_dir_all(&fresh).map_err(|error| recovery::failed("create", &fresh, &error))?;
    let salvaged = journal::salvage(&path)?;
    // Not before what the trees have either, or the next start would not look at what is written.
    let end = known.iter().map(|known| known.state.position).fold(salvaged.end, u64::max);
    let begin = Recovered { end, ..Recovered::default() };
    let segment_bytes = Options::default().journal_segment_bytes;
    let new = Journal::open(&fresh, &begin, SyncMode::Never, segment_bytes)?;
    let mut at: Vec<Lsn> = known.iter().map(|known| known.state.point.lsn).collect();
    let (mut kept, mut unusable) = (0_u64, BTreeMap::<u16, u64>::new());
    for record in salvaged.records() {
        // Marks are of no use elsewhere: the new journal makes its own.
        let Some(mut sections) = record.decode().filter(|sections| !sections.is_empty()) else { continue };
        // What stands before a tree's position is in it, or of a history that a snapshot replaced.
        let start = |id: PartitionId| known.get(usize::from(id.0)).map_or(0, |known| known.state.position);
        sections.retain(|section| record.position >= start(section.head.partition));
        if sections.is_empty() {
            continue;
        }
        let fits = sections.iter().all(|section| {
            at.get(section.head.partition.0 as usize).is_some_and(|lsn| section.head.lsn.0 <= lsn.0 + 1)
        });
        if !fits {
            sections.iter().for_each(|section| *unusable.entry(section.head.partition.0).or_default() += 1);
            continue;
        }
        for section in &sections {
            let lsn = &mut at[section.head.partition.0 as usize];
            *lsn = (*lsn).max(section.head.lsn);
        }
        kept += 1;
        new.append(|out| journal::put_sections(out, sections.iter()));
    }
    new.sync_to(new.appended())?;
    drop(new);
    let mut lossy: BTreeSet<u16> = unusable.keys().copied().collect();
    for (id, count) in &unusable {
        report(&format!(
            "partition {id}: {count} transactions come behind one that is missing, and are lost"
        ));
    }
    for (id, (known, at)) in known.iter().zip(&at).enumerate() {
        if known.is_lossy || salvaged.damages > 0 {
            lossy.insert(id as u16);
        }
        if let Some(should) = known.must_reach.filter(|should| at < should) {
            lossy.insert(id as u16);
            report(&format!("partition {id} ends at transaction {at}; there were some up to {should}"));
            let note = folder.join(format!("partitions/{id:04}/unfinished"));
            put_aside(&note, lost)?;
        }
    }
    report(&format!("journal: {} damaged places; kept {kept} records", salvaged.damages));
    put_aside(&path, lost)?;
    std::fs::rename(&fresh, &path).map_err(|error| recovery::failed("rename", &fresh, &error))?;
    Ok(lossy)
}

/// Moves a file or folder to `lost`.
fn put_aside(path: &Path, lost: &Path) -> Result<(), OpenError> {
    if !path.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(lost).map_err(|error| recovery::failed("create", lost, &error))?;
    let to: PathBuf = lost.join(path.file_name().unwrap_or_default());
    std::fs::rename(path, &to).map_err(|error| recovery::failed("move", path, &error))
}
