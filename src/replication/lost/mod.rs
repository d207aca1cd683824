//! What a failover loses, in readable form: the transactions that a node committed as a primary and that the one which was
//! promoted in its place does not have. Before a snapshot replaces them they are written to the data folder:
//!
//! ```text
//! lost/<unix ms>-partition-<NNNN>-epoch-<E>.jsonl, one JSON object a line, UTF-8:
//!   first   larder_lost (the format's version, 1), node, partition, epoch, common_lsn (the last transaction that the new primary
//!           has too; null if not known: then all that the journal has is listed), first_lsn, last_lsn, chain, from, to, transactions
//!   then    a line for each operation, in order: partition, epoch, lsn, time, operation, database, key or key_base64, …
//!             set             type; value, or fields of a small hash; expire_at_ms. Of a large value the head alone
//!             delete
//!             item-set        type; field and value of a large hash, or offset and value in a long string
//!             item-delete     the same without the value
//!             drop            the large value that the key held until now, with all its parts
//!             empty-database  database
//!             swap-databases  database, other_database
//!   then    a line for each key that one of these touched: operation "final", database, key, and what it held at the end:
//!             type, dump (what DUMP gives, in base64), expire_at_ms; or deleted
//!   last    operation "end", keys (states above), missing (what is not in the file, in words), crc32c of all lines before
//! ```
//!
//! Names and values that are no UTF-8 stand under the same name with `_base64`. Values are cut after 1024 bytes (`value_bytes`
//! says how long they are); in the state at the end they are whole. Times are UTC.
//!
//! A key whose collection was renamed in the tail may stand under its new name before that, too, if nothing tells the old one.
//!
//! Invariants:
//! - a file has its name once it is whole and on disk; what an interrupted attempt left is removed by the next one;
//! - the same tail is written once, however often the link to the new primary begins anew;
//! - memory: the longest value, twice, and [`NAMES_MAX`] bytes of names. If these are not enough the file says what it lacks, and
//!   the partition's old tree must be kept.

pub mod line;
pub mod read;
mod tail;
#[cfg(test)]
mod tests;
mod write;

use super::storage::LostTail;
use crate::base::clock::iso_8601;
use crate::store::Store;
use line::{End, Header};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use tail::{Budget, Learned, Tail};

/// Bytes of names that are held in memory while a tail is written.
pub const NAMES_MAX: usize = 64 << 20;
/// What the names of files end with.
const EXTENSION: &str = "jsonl";
/// And while they are written.
const UNFINISHED: &str = "unfinished";
/// The first line is not longer, and neither is the last.
const HEADER_MAX: u64 = 64 << 10;

/// What was written out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Where; none if nothing was lost.
    pub file: Option<PathBuf>,
    /// Transactions in it.
    pub transactions: u64,
    /// Keys they touched.
    pub keys: u64,
    /// What is not in the file; the partition's old tree must be kept then.
    pub missing: Option<String>,
    /// Written now, and not by an earlier attempt.
    pub is_new: bool,
}

/// Writes what this node alone has of a partition to a file in `folder`. The partition must take no changes meanwhile.
///
/// # Errors
/// The disk's, or the journal's. Then there is no file.
pub fn write_tail(store: &Store, folder: &Path, wanted: LostTail, now_ms: i64) -> io::Result<Lost> {
    let end = store.point(wanted.partition);
    if wanted.common.map_or(0, |lsn| lsn.0) >= end.lsn.0 {
        return Ok(Lost::default());
    }
    let tail = Tail::new(store, wanted)?;
    let mut budget = Budget::new(NAMES_MAX);
    let learned = Learned::of(&tail, &mut budget)?;
    let (Some(first), Some(last)) = (learned.first, learned.last) else {
        tracing::error!(
            "partition {}: this node's history is in no copy that serves, and {ALL_MISSING}: its old tree is kept",
            wanted.partition
        );
        return Ok(Lost { missing: Some(ALL_MISSING.to_owned()), ..Lost::default() });
    };
    let header = Header {
        larder_lost: line::VERSION,
        node: store.node().to_owned(),
        partition: wanted.partition.0,
        epoch: end.epoch.0,
        common_lsn: wanted.common.map(|lsn| lsn.0),
        first_lsn: first.lsn.0,
        last_lsn: last.lsn.0,
        chain: format!("{:08x}", end.chain),
        from: iso_8601(first.time_ms),
        to: iso_8601(last.time_ms),
        transactions: learned.transactions,
    };
    fs::create_dir_all(folder)?;
    if let Some(written) = find(folder, &header)? {
        return Ok(written);
    }
    let lost = write::write(&tail, learned, &header, &mut budget, &unused_name(folder, &header, now_ms))?;
    tell(&lost, &header);
    Ok(lost)
}

const ALL_MISSING: &str = "the journal has none of the transactions any more";

/// The file's name, which no other file has.
fn unused_name(folder: &Path, header: &Header, now_ms: i64) -> PathBuf {
    let Header { partition, epoch, .. } = header;
    let name = |ms: i64| folder.join(format!("{ms}-partition-{partition:04}-epoch-{epoch}.{EXTENSION}"));
    (now_ms..=i64::MAX).map(name).find(|path| !path.exists()).expect("there are more moments than files")
}

fn tell(lost: &Lost, header: &Header) {
    let Lost { file: Some(file), transactions, keys, missing, .. } = lost else { return };
    let file = file.display();
    let sure = if header.common_lsn.is_some() { "" } else { ", of which the new primary may have some" };
    tracing::error!(
        "partition {:04}: {transactions} transactions of this node{sure}, which touched {keys} keys, are in no copy that serves: \
         they were written to {file}. Look with 'larder lost show {file}'; bring keys back with 'larder lost replay {file} --to \
         HOST:PORT'; remove the file when nothing in it is missed",
        header.partition
    );
    if let Some(missing) = missing {
        tracing::error!("{file} is not complete: {missing}");
    }
}

/// The file with the same tail that was written before.
fn find(folder: &Path, header: &Header) -> io::Result<Option<Lost>> {
    for path in list(folder)? {
        let Ok(summary) = Summary::read(&path) else { continue };
        let of = |header: &Header| {
            (header.partition, header.epoch, header.common_lsn, header.last_lsn, header.chain.clone())
        };
        if let (true, Some(End { keys, missing, .. })) = (of(&summary.header) == of(header), summary.end) {
            let transactions = summary.header.transactions;
            return Ok(Some(Lost { file: Some(path), transactions, keys, missing, is_new: false }));
        }
    }
    Ok(None)
}

/// The files of lost transactions in a folder, oldest first; none if there is no such folder.
pub fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.contains("-partition-") && path.extension().is_some_and(|extension| extension == EXTENSION)
    };
    let mut paths: Vec<PathBuf> = paths.into_iter().filter(is_ours).collect();
    paths.sort();
    Ok(paths)
}

/// Files that are looked at when they are counted, at most.
const COUNTED_MAX: usize = 10_000;

/// How many files there are, and how many transactions in them: counted at the start and whenever one is written.
#[derive(Debug, Default)]
pub struct Counted {
    files: AtomicU64,
    transactions: AtomicU64,
}

impl Counted {
    /// Files that are there.
    pub fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    /// Transactions in them.
    pub fn transactions(&self) -> u64 {
        self.transactions.load(Ordering::Relaxed)
    }

    /// Counts what is in `folder`.
    pub fn count(&self, folder: &Path) {
        let paths = list(folder).unwrap_or_else(|error| {
            tracing::warn!("{} cannot be read: {error}", folder.display());
            Vec::new()
        });
        let summaries = paths.iter().take(COUNTED_MAX).filter_map(|path| Summary::read(path).ok());
        let transactions = summaries.map(|summary| summary.header.transactions).sum();
        self.files.store(paths.len() as u64, Ordering::Relaxed);
        self.transactions.store(transactions, Ordering::Relaxed);
    }

    /// Counts anew if a file was written.
    pub fn note(&self, lost: &Lost) {
        if let Some(folder) = lost.file.as_ref().filter(|_| lost.is_new).and_then(|file| file.parent()) {
            self.count(folder);
        }
    }
}

/// First and last line of a file.
#[derive(Debug)]
pub struct Summary {
    /// What it is.
    pub header: Header,
    /// What its last line says; none if that line is missing.
    pub end: Option<End>,
}

impl Summary {
    /// Reads both lines, and nothing between them.
    pub fn read(path: &Path) -> io::Result<Summary> {
        let mut file = File::open(path)?;
        let mut first = Vec::new();
        BufReader::new(&mut file).take(HEADER_MAX).read_until(b'\n', &mut first)?;
        let header = parse_header(&first)?;
        let start = file.metadata()?.len().saturating_sub(HEADER_MAX);
        file.seek(SeekFrom::Start(start))?;
        let mut rest = Vec::new();
        file.take(HEADER_MAX).read_to_end(&mut rest)?;
        let last = rest.strip_suffix(b"\n").and_then(|rest| rest.rsplit(|byte| *byte == b'\n').next());
        Ok(Summary { header, end: last.and_then(|last| serde_json::from_slice(last).ok()) })
    }
}

fn parse_header(line: &[u8]) -> io::Result<Header> {
    let header: Result<Header, _> = serde_json::from_slice(line);
    match header {
        Ok(header) if header.larder_lost == line::VERSION => Ok(header),
        Ok(header) => {
            Err(io::Error::other(format!("version {} of the format is not known", header.larder_lost)))
        }
        Err(_) => Err(io::Error::other("its first line is not that of a file of lost transactions")),
    }
}
