//! Opening a data folder: trees as they are, then the journal from each tree's LSN on.
//!
//! ```text
//! node.toml            format, partitions, node (its id), check (CRC-32C of the lines before); locked while the server runs
//! journal/             see store::journal
//! partitions/NNNN/     one LMDB environment a partition, see store::tree
//! partitions.new/      what a start that was interrupted had made of them
//! snapshots/ incoming/ see store::snapshot
//! ```
//!
//! A power loss during the very first start leaves a folder that the next one makes anew: what is named has been synced before.

use super::journal::{self, JournalError, Record, Recovered, Section};
use super::partition::{Database, Partition};
use super::repair::Report;
use super::tree::{self, Environment, Tree, TreeError, WHAT_TO_DO};
use super::{Interrupt, answers, deadlines, snapshot, table, watch};
use crate::base::crash_point;
use crate::base::ids::{Epoch, Lsn, NodeId, PartitionId};
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

/// The version of the data folder this program writes.
const FORMAT: u32 = 6;
/// How the line of `node.toml` begins that checks the others.
const CHECK: &str = "check = ";
/// Threads that apply the journal at most.
const REPLAY_THREADS_MAX: usize = 8;
/// Parts of transactions handed to a thread at a time.
const REPLAY_BATCH: usize = 512;
/// Physical ids of emptied databases begin here; below, id and number are the same.
pub const FIRST_NEW_DATABASE_ID: u32 = 1 << 16;

/// Why a data folder could not be opened, in words that say what to do.
#[derive(Debug)]
pub struct OpenError(pub String);

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OpenError {}

impl From<TreeError> for OpenError {
    fn from(error: TreeError) -> OpenError {
        OpenError(format!("a partition's tree cannot be opened: {error}"))
    }
}

impl From<snapshot::SnapshotError> for OpenError {
    fn from(error: snapshot::SnapshotError) -> OpenError {
        OpenError(error.to_string())
    }
}

impl From<JournalError> for OpenError {
    fn from(error: JournalError) -> OpenError {
        OpenError(error.0)
    }
}

impl From<Interrupt> for JournalError {
    fn from(interrupt: Interrupt) -> JournalError {
        JournalError(format!("a row could not be read while recovering: {interrupt:?}"))
    }
}

/// What `node.toml` says, and the lock on the data folder.
pub struct Manifest {
    /// Number of partitions, fixed when the data was made.
    pub partitions: u16,
    /// This node's identity.
    pub node: String,
    /// Held while the folder is in use.
    _lock: File,
}

/// An opened data folder.
pub struct Opened {
    pub manifest: Manifest,
    pub partitions: Vec<Mutex<Partition>>,
    pub environments: Vec<Arc<Environment>>,
    pub recovered: Recovered,
    /// Parts of transactions that the trees did not know.
    pub replayed: u64,
}

/// Opens the data folder `folder`, or makes it with `partitions` partitions. Partitions have `databases` databases at least.
pub fn open(folder: &Path, partitions: u16, databases: u16) -> Result<Opened, OpenError> {
    let manifest = open_manifest(folder, partitions)?;
    snapshot::clear(folder)?;
    make_partitions(folder, manifest.partitions)?;
    let journal_folder = folder.join("journal");
    let map_bytes = tree::map_bytes(manifest.partitions);
    let mut environments = Vec::new();
    let mut opened = Vec::new();
    for id in 0..manifest.partitions {
        let path = folder.join("partitions").join(format!("{id:04}"));
        if !path.join("data.mdb").exists() {
            return Err(OpenError(format!("{}/data.mdb is missing. {WHAT_TO_DO}", path.display())));
        }
        let environment = Environment::open(&path, map_bytes)?;
        opened.push(open_partition(PartitionId(id), &environment, databases)?);
        environments.push(environment);
    }
    let known = opened.iter().any(|partition| partition.lsn > Lsn(0));
    let is_lost = || OpenError(format!("{} has no segment file. {WHAT_TO_DO}", journal_folder.display()));
    if !journal_folder.exists() {
        if known {
            return Err(is_lost());
        }
        let made = std::fs::create_dir(&journal_folder).and_then(|()| sync_folder(folder));
        made.map_err(|error| failed("create", &journal_folder, &error))?;
        crash_point::pass("journal-after-make");
    }
    crash_point::pass("recovery-trees-open");
    let (recovered, replayed) = replay_journal(&journal_folder, &mut opened)?;
    if known && recovered.last_segment.is_none() {
        return Err(is_lost());
    }
    for (partition, environment) in opened.iter().zip(&environments) {
        if let Some(lsn) = environment.must_reach().filter(|lsn| partition.lsn < *lsn) {
            return Err(lacks_transactions(partition, lsn));
        }
        if partition.journal_start > recovered.end {
            // What is written next would stand before what the tree says it has, and the next start would not look at it.
            return Err(OpenError(format!(
                "{} ends at position {}, and the tree of partition {} has what stood before {}. {WHAT_TO_DO}",
                journal_folder.display(),
                recovered.end,
                partition.id,
                partition.journal_start
            )));
        }
    }
    crash_point::pass("recovery-done");
    let partitions = opened.into_iter().map(Mutex::new).collect();
    Ok(Opened { manifest, partitions, environments, recovered, replayed })
}

/// Makes the trees of a new data folder, all or none: a tree that a power loss left half made could not be told from a damaged one.
fn make_partitions(folder: &Path, count: u16) -> Result<(), OpenError> {
    let (path, unfinished) = (folder.join("partitions"), folder.join("partitions.new"));
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).map_err(|error| failed("remove", &unfinished, &error))?;
    }
    if path.exists() {
        return Ok(());
    }
    if folder.join("journal").exists() {
        return Err(OpenError(format!("{} is missing. {WHAT_TO_DO}", path.display())));
    }
    for id in 0..count {
        let path = unfinished.join(format!("{id:04}"));
        drop(Environment::open(&path, tree::map_bytes(count))?);
    }
    crash_point::pass("partitions-before-rename");
    let named = sync_folder(&unfinished).and_then(|()| std::fs::rename(&unfinished, &path));
    crash_point::pass("partitions-after-rename");
    named.and_then(|()| sync_folder(folder)).map_err(|error| failed("create", &path, &error))
}

/// Makes the names in a folder durable.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

/// Replays the journal: this thread reads and checks it, others decode and apply it, each for some of the partitions.
/// Returns what was read and how many parts of transactions the trees did not know.
fn replay_journal(folder: &Path, partitions: &mut [Partition]) -> Result<(Recovered, u64), JournalError> {
    let count = std::thread::available_parallelism().map_or(1, usize::from).min(REPLAY_THREADS_MAX);
    let mut shares: Vec<Vec<&mut Partition>> = (0..count).map(|_| Vec::new()).collect();
    let known = partitions.len();
    let from = partitions.iter().map(|partition| partition.journal_start).min().unwrap_or(0);
    for (index, partition) in partitions.iter_mut().enumerate() {
        shares[index % count].push(partition);
    }
    std::thread::scope(|scope| {
        let (senders, workers): (Vec<_>, Vec<_>) = shares
            .into_iter()
            .enumerate()
            .map(|(number, share)| {
                let (sender, receiver) = sync_channel::<Vec<Record>>(8);
                (sender, scope.spawn(move || replay_share(share, number, count, &receiver)))
            })
            .unzip();
        let mut batches: Vec<Vec<Record>> = senders.iter().map(|_| Vec::new()).collect();
        // A worker that ended early has a reason, which is told when it is joined; sending to it fails without harm.
        let mut give = |worker: usize, record: Record| {
            batches[worker].push(record);
            if batches[worker].len() == REPLAY_BATCH {
                let _ = senders[worker].send(std::mem::take(&mut batches[worker]));
            }
        };
        let read = journal::read_all(folder, from, |record| {
            match record.only_partition() {
                Some(id) if id.0 as usize >= known => return Err(unknown_partition(id)),
                Some(id) => give(id.0 as usize % count, record),
                None => (0..count).for_each(|worker| give(worker, record.clone())),
            }
            Ok(())
        });
        for (sender, batch) in senders.into_iter().zip(batches) {
            let _ = sender.send(batch);
        }
        let mut replayed = 0;
        for worker in workers {
            replayed += worker.join().map_err(|_| JournalError("recovery ended by a panic".into()))??;
        }
        Ok((read?, replayed))
    })
}

/// Applies what concerns some of the partitions: those whose number leaves the rest `number` when divided by `count`.
fn replay_share(
    mut share: Vec<&mut Partition>,
    number: usize,
    count: usize,
    batches: &Receiver<Vec<Record>>,
) -> Result<u64, JournalError> {
    let mut replayed = 0;
    for record in batches.iter().flatten() {
        let position = record.position;
        let sections = record.decode();
        let unknown =
            || JournalError(format!("the journal has a record of an unknown form at position {position}"));
        for section in sections.ok_or_else(unknown)? {
            let id = section.head.partition;
            if id.0 as usize % count == number {
                let partition = share.get_mut(id.0 as usize / count).ok_or_else(|| unknown_partition(id))?;
                replayed += u64::from(replay(partition, position, &section)?);
            }
        }
    }
    Ok(replayed)
}

fn unknown_partition(id: PartitionId) -> JournalError {
    JournalError(format!("the journal names partition {id}, which does not exist"))
}

/// A partition without rows.
pub fn empty_partition(id: PartitionId, databases: u16, tree: Tree) -> Partition {
    Partition {
        id,
        is_primary: true,
        guarded: [0; 3],
        epoch: Epoch(1),
        lsn: Lsn(0),
        chain: 0,
        journal_start: 0,
        history_start: 0,
        replacements: 0,
        saved_lsn: Lsn(0),
        databases: (0..u32::from(databases)).map(Database::new).collect(),
        bytes: 0,
        next_database_id: FIRST_NEW_DATABASE_ID,
        items: table::RowTable::new(0),
        deadlines: deadlines::Deadlines::default(),
        watches: watch::Watches::default(),
        answers: answers::Answers::default(),
        staged: super::staged::StagedList::default(),
        staged_databases: Vec::new(),
        uids_made: 0,
        is_quiet: false,
        scratch: Vec::new(),
        generation: 1,
        frozen: None,
        clean: 0,
        dropped: Vec::new(),
        emptied: Vec::new(),
        dirty_bytes: 0,
        dirty_since: None,
        fetches: false,
        is_being_replaced: false,
        tree,
    }
}

/// A partition as its tree has it.
pub fn open_partition(
    id: PartitionId,
    environment: &Arc<Environment>,
    databases: u16,
) -> Result<Partition, TreeError> {
    let mut partition = empty_partition(id, databases, Tree::open(environment)?);
    if let Some(state) = environment.state()? {
        (partition.epoch, partition.lsn, partition.chain) =
            (state.point.epoch, state.point.lsn, state.point.chain);
        partition.journal_start = state.position;
        partition.history_start = state.history_start;
        partition.saved_lsn = state.point.lsn;
        partition.next_database_id = state.next_database_id;
        for (number, (id, counters)) in state.databases.into_iter().enumerate() {
            if number == partition.databases.len() {
                partition.databases.push(Database::new(id));
            }
            let database = &mut partition.databases[number];
            (database.id, database.counters) = (id, counters);
            partition.bytes += counters.bytes;
        }
    }
    Ok(partition)
}

/// Applies one partition's part of a journaled transaction, unless its tree knows it. Returns whether it did.
fn replay(partition: &mut Partition, position: u64, section: &Section) -> Result<bool, JournalError> {
    let head = section.head;
    if head.lsn <= partition.lsn || position < partition.journal_start {
        return Ok(false);
    }
    if head.lsn.0 != partition.lsn.0 + 1 || head.previous != partition.chain {
        return Err(JournalError(lacks_transactions(partition, head.lsn).0));
    }
    partition.apply_section(section, (position, 0), 0)?;
    Ok(true)
}

fn lacks_transactions(partition: &Partition, next: Lsn) -> OpenError {
    OpenError(format!(
        "the journal lacks transactions of partition {}: behind {} should follow what leads to {next}. A segment file is \
         missing, or the end of the tree's checksums is damaged. {WHAT_TO_DO}",
        partition.id, partition.lsn
    ))
}

pub fn open_manifest(folder: &Path, partitions: u16) -> Result<Manifest, OpenError> {
    std::fs::create_dir_all(folder).map_err(|error| failed("create", folder, &error))?;
    let path = folder.join("node.toml");
    let open = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
    let mut file = open.map_err(|error| failed("open", &path, &error))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        OpenError(format!(
            "{} is in use by another server: stop it, or choose another --dir",
            folder.display()
        ))
    })?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|error| failed("read", &path, &error))?;
    let text = String::from_utf8_lossy(&bytes);
    let is_whole = text.rfind(CHECK).is_some_and(|at| sealed(&text[..at]) == text);
    // It is on disk before anything else is made; without anything else it was never finished.
    let is_made = ["journal", "partitions", "partitions.new"].iter().any(|name| folder.join(name).exists());
    if !is_whole && !is_made {
        let node = new_node_id();
        let text = manifest_text(partitions, &node);
        crash_point::pass("manifest-before-write");
        let write = file.set_len(0).and_then(|()| file.write_all_at(text.as_bytes(), 0));
        let synced = write.and_then(|()| file.sync_all()).and_then(|()| sync_folder(folder));
        synced.map_err(|error| failed("write", &path, &error))?;
        crash_point::pass("manifest-after-write");
        return Ok(Manifest { partitions, node, _lock: file });
    }
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='));
        line.map(|value| value.trim().trim_matches('"').to_owned()).ok_or_else(|| {
            OpenError(format!("{} has no line for {name}. Restore it from a copy", path.display()))
        })
    };
    let format = value("format")?;
    if format != FORMAT.to_string() || !is_whole {
        return Err(OpenError(format!(
            "{} is damaged, or of another version than {FORMAT}, which this program knows. Restore it from a copy of the data folder",
            path.display()
        )));
    }
    let count: u16 = value("partitions")?
        .parse()
        .ok()
        .filter(|count| (1..=16_384).contains(count))
        .ok_or_else(|| OpenError(format!("{} has no sensible number of partitions", path.display())))?;
    if count != partitions {
        tracing::warn!("the data has {count} partitions; the configured {partitions} concern new data only");
    }
    Ok(Manifest { partitions: count, node: value("node")?, _lock: file })
}

/// Writes a damaged `node.toml` anew: the node's id as far as it can be read, and the number of partitions there are.
pub fn repair_manifest(folder: &Path, partitions: u16, report: Report) -> Result<(), OpenError> {
    let path = folder.join("node.toml");
    let text = std::fs::read(&path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    if text.rfind(CHECK).is_some_and(|at| sealed(&text[..at]) == text) {
        return Ok(());
    }
    let id = text.lines().find_map(|line| line.strip_prefix("node = \"")?.strip_suffix('"'));
    let id = id.filter(|id| id.parse::<NodeId>().is_ok());
    let node = id.map_or_else(new_node_id, str::to_owned);
    std::fs::write(&path, manifest_text(partitions, &node))
        .map_err(|error| failed("write", &path, &error))?;
    report(&format!("{} was damaged: written anew, {partitions} partitions, node {node}", path.display()));
    Ok(())
}

fn new_node_id() -> String {
    NodeId(rand::random()).to_string()
}

fn manifest_text(partitions: u16, node: &str) -> String {
    sealed(&format!("format = {FORMAT}\npartitions = {partitions}\nnode = \"{node}\"\n"))
}

/// The lines of `node.toml` with the one that checks them.
fn sealed(lines: &str) -> String {
    format!("{lines}{CHECK}\"{:08x}\"\n", crc32c::crc32c(lines.as_bytes()))
}

/// An error of the file system, with what was tried.
pub fn failed(what: &str, path: &Path, error: &std::io::Error) -> OpenError {
    OpenError(format!("cannot {what} {}: {error}", path.display()))
}
