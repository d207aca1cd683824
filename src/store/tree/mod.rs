//! The tree of a partition: what its last checkpoint wrote, in LMDB. The only room with `unsafe` in it.
//!
//! One LMDB environment a partition, in LMDB's default, fully synced mode, written only by the checkpointer, in batches that carry
//! the LSN they bring the tree to: after a crash a batch is there as a whole or not at all.
//!
//! Named trees:
//! ```text
//! keys       row key of a key row (see store::row)          -> its value
//! items      row key of an item row                          -> its value
//! deadlines  ms (8) · row key                                -> nothing
//! garbage    uid (12) of a dropped collection, or id (4) of an emptied database -> kind (1) or nothing
//! meta       b"state"                                        -> see `State`
//! ```
//! LMDB's file has no checksums; ours stand beside it (see `checksums`), and every page is checked before LMDB is led to it.
//! A key longer than [`order::LONGEST_PLAIN`] stands shortened; its value then begins with its length (4) and itself.
//!
//! Invariants:
//! - readers use one snapshot a partition, renewed after each batch: no long-lived reader makes the file grow;
//! - no environment is opened twice (a file lock on the data folder sees to other processes).

mod batch;
mod checksums;
mod control;
mod copy;
mod page;
mod salvage;

pub use batch::{Batch, State};
pub use checksums::WHAT_TO_DO;
pub use control::{ControlChange, ControlFile};
pub use copy::{Copied, Pinned, Scanned, scan};
pub use salvage::Salvage;

use super::Interrupt;
use super::order::{self, LONGEST_PLAIN, SHORTENED};
use crate::base::blob::{Blob, Head};
use crate::base::gentle;
use crate::base::ids::Lsn;
use arc_swap::ArcSwap;
use checksums::{Checksums, Opening};
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, RoTxn, RwTxn, WithoutTls};
use parking_lot::Mutex;
use std::fs::File;
use std::io::Read;
use std::ops::{Bound, ControlFlow};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// After how many pages work on a whole tree steps aside.
const STEP_PAGES: u64 = 16;
/// Address space reserved for one environment; the file grows as it is filled.
const MAP_BYTES: usize = 256 << 30;
/// The least: a tree can hold no more than is reserved for it.
const MAP_BYTES_MIN: usize = 16 << 20;
/// Bytes of the file that readers are entered in: LMDB maps it, so they must be there before.
const LOCK_BYTES: usize = 16 << 10;

/// What went wrong in a tree, in words.
#[derive(Debug, Clone)]
pub struct TreeError(pub String);

impl From<heed::Error> for TreeError {
    fn from(error: heed::Error) -> TreeError {
        TreeError(error.to_string())
    }
}

impl From<TreeError> for Interrupt {
    fn from(error: TreeError) -> Interrupt {
        Interrupt::Storage(error.0)
    }
}

impl std::fmt::Display for TreeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The named trees of a partition's environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeName {
    /// Key rows.
    Keys,
    /// Rows of collections.
    Items,
    /// Deadlines.
    Deadlines,
}

impl TreeName {
    /// The name, as LMDB has it.
    const fn name(self) -> &'static str {
        match self {
            TreeName::Keys => "keys",
            TreeName::Items => "items",
            TreeName::Deadlines => "deadlines",
        }
    }
}

const GARBAGE: &str = "garbage";
const META: &str = "meta";
/// All named trees.
const NAMES: [&str; 5] =
    [TreeName::Keys.name(), TreeName::Items.name(), TreeName::Deadlines.name(), GARBAGE, META];

type Rows = Database<'static, Bytes, Bytes>;

/// An open environment.
pub struct Environment {
    env: Env<WithoutTls>,
    keys: Rows,
    items: Rows,
    deadlines: Rows,
    garbage: Rows,
    meta: Rows,
    checksums: Mutex<Checksums>,
    /// Its folder; LMDB knows it by the name it had when it was opened.
    path: ArcSwap<PathBuf>,
    /// All pages were checked: nobody need look again.
    all_checked: AtomicBool,
}

impl Environment {
    /// Opens or creates the environment in the folder `path` and reserves `map_bytes` of address space for it, or less if
    /// there is not that much.
    #[expect(
        unsafe_code,
        reason = "LMDB maps a file that others could change; the data folder's lock keeps them out"
    )]
    pub fn open(path: &Path, map_bytes: usize) -> Result<Arc<Environment>, TreeError> {
        let failed = |what: &str, error| TreeError(format!("cannot {what} {}: {error}", path.display()));
        std::fs::create_dir_all(path).map_err(|error| failed("create", error))?;
        fill_lock_file(&path.join("lock.mdb")).map_err(|error| failed("make the lock file in", error))?;
        let mut checksums = Checksums::open(path)?;
        let opening = checksums.settle()?;
        let open = |map_bytes| {
            let mut options = EnvOpenOptions::new().read_txn_without_tls();
            options.map_size(map_bytes).max_dbs(8).max_readers(64);
            // SAFETY: NO_READ_AHEAD changes no guarantee; the folder is locked, so nobody else writes the file.
            unsafe {
                options.flags(EnvFlags::NO_READ_AHEAD);
                options.open(path)
            }
        };
        let halves = std::iter::successors(Some(map_bytes), |bytes| {
            Some(bytes / 2).filter(|half| *half >= MAP_BYTES_MIN)
        });
        let mut opened = Err(TreeError("no address space".into()));
        for bytes in halves {
            match open(bytes) {
                Err(heed::Error::Io(error)) if error.kind() == std::io::ErrorKind::OutOfMemory => {
                    tracing::warn!("{}: {error}; trying with half of the address space", path.display());
                    opened = Err(failed("map", error));
                }
                done => {
                    opened = done.map_err(|error| TreeError(format!("{}: {error}", path.display())));
                    break;
                }
            }
        }
        let env = opened?;
        checksums.attach()?;
        for name in NAMES {
            checksums.check_way(name.as_bytes(), &[])?;
        }
        let transaction = env.write_txn()?;
        let made = env.create_databases_and_commit(transaction, |opener, transaction| {
            let mut create = |name| opener.create_database::<Bytes, Bytes>(transaction, Some(name));
            let [keys, items, deadlines, garbage, meta] = NAMES;
            let all = (create(keys)?, create(items)?, create(deadlines)?, create(garbage)?, create(meta)?);
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(all))
        })?;
        let (keys, items, deadlines, garbage, meta) = made.unwrap_commit();
        let all_checked = AtomicBool::new(opening == Opening::New);
        let environment = Environment {
            env,
            keys,
            items,
            deadlines,
            garbage,
            meta,
            checksums: Mutex::new(checksums),
            path: ArcSwap::from_pointee(path.to_path_buf()),
            all_checked,
        };
        if opening == Opening::New {
            // The file's name is on disk before its checksums say that there is one.
            let synced = File::open(path).and_then(|folder| folder.sync_all());
            synced.map_err(|error| failed("sync", error))?;
            environment.record_commit()?;
        }
        Ok(Arc::new(environment))
    }

    /// The LSN that the journal must reach, because a commit up to it was taken back.
    pub fn must_reach(&self) -> Option<Lsn> {
        self.checksums.lock().unfinished().map(|state| state.point.lsn)
    }

    /// Checks every page that was not checked yet, or until `stop` is set.
    pub fn check_all(&self, stop: &AtomicBool) -> Result<(), TreeError> {
        if !self.all_checked.load(Ordering::Acquire) {
            self.check_from_the_roots(stop)?;
            self.all_checked.store(!stop.load(Ordering::Acquire), Ordering::Release);
        }
        Ok(())
    }

    /// Whether all pages were checked.
    pub fn is_checked(&self) -> bool {
        self.all_checked.load(Ordering::Acquire)
    }

    /// Level by level, each in the order of the file.
    fn check_from_the_roots(&self, stop: &AtomicBool) -> Result<(), TreeError> {
        let (mut level, mut checked) = (self.checksums.lock().roots(), 0_u64);
        while !level.is_empty() {
            level.sort_unstable();
            let mut below = Vec::new();
            for number in level {
                if stop.load(Ordering::Acquire) {
                    return Ok(());
                }
                self.checksums.lock().check_and_list(number, &mut below)?;
                checked += 1;
                if checked.is_multiple_of(STEP_PAGES) {
                    gentle::step_aside();
                }
            }
            level = below;
        }
        Ok(())
    }

    /// Checks what LMDB will read on its way to `key`. Returns where the part of the tree begins that was not checked.
    fn check_way(&self, name: &str, key: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        if self.all_checked.load(Ordering::Acquire) {
            return Ok(None);
        }
        let mut checksums = self.checksums.lock();
        let Some(next) = checksums.check_way(name.as_bytes(), key)? else { return Ok(None) };
        // LMDB looks at the row behind the last one wanted, to see that it is behind.
        checksums.check_way(name.as_bytes(), &next)?;
        Ok(Some(next))
    }

    /// Begins to write: what was written before is recorded, and what stands there is whole.
    fn begin(&self) -> Result<RwTxn<'_>, TreeError> {
        self.check_all(&AtomicBool::new(false))?;
        self.checksums.lock().flush()?;
        Ok(self.env.write_txn()?)
    }

    /// Records the checksums of what was committed.
    fn record_commit(&self) -> Result<(), TreeError> {
        let mut checksums = self.checksums.lock();
        checksums.advance()?;
        checksums.flush()
    }

    fn rows(&self, tree: TreeName) -> &Rows {
        match tree {
            TreeName::Keys => &self.keys,
            TreeName::Items => &self.items,
            TreeName::Deadlines => &self.deadlines,
        }
    }

    /// The row with this key as of now, read through a snapshot of its own.
    pub fn get(&self, tree: TreeName, row_key: &[u8], hash: u64) -> Result<Option<Blob>, TreeError> {
        let snapshot = self.env.read_txn()?;
        self.get_in(&snapshot, tree, row_key, hash)
    }

    fn get_in(
        &self,
        snapshot: &RoTxn<WithoutTls>,
        tree: TreeName,
        row_key: &[u8],
        hash: u64,
    ) -> Result<Option<Blob>, TreeError> {
        let key = order::tree_key(row_key);
        self.check_way(tree.name(), &key)?;
        let Some(value) = self.rows(tree).get(snapshot, &key)? else { return Ok(None) };
        let value = if row_key.len() > LONGEST_PLAIN { lengthen(value)?.1 } else { value };
        let mut bytes = Vec::with_capacity(row_key.len() + value.len());
        bytes.extend_from_slice(row_key);
        bytes.extend_from_slice(value);
        Ok(Some(Blob::new(Head { hash, key_len: row_key.len() as u32, mark: 0 }, &bytes)))
    }

    /// Reads the whole file once, or until `stop` is set.
    pub fn read_through(&self, stop: &AtomicBool) -> std::io::Result<()> {
        let mut file = File::open(self.path().join("data.mdb"))?;
        let mut buffer = vec![0; 1 << 20];
        while !stop.load(Ordering::Acquire) && file.read(&mut buffer)? > 0 {}
        Ok(())
    }

    /// Its folder.
    pub fn path(&self) -> Arc<PathBuf> {
        self.path.load_full()
    }

    /// Its folder was given another name. Nothing is written to it meanwhile.
    pub fn moved(&self, path: &Path) {
        self.checksums.lock().moved(path);
        self.path.store(Arc::new(path.to_path_buf()));
    }

    /// Bytes of the file that hold nothing and will be written before the file grows, about.
    pub fn reusable_bytes(&self) -> u64 {
        let used = || -> Result<u64, heed::Error> {
            let snapshot = self.env.read_txn()?;
            let trees = [&self.keys, &self.items, &self.deadlines, &self.garbage, &self.meta];
            let pages = trees.map(|tree| {
                let stat = tree.stat(&snapshot)?;
                Ok::<_, heed::Error>(
                    (stat.branch_pages + stat.leaf_pages + stat.overflow_pages) as u64
                        * u64::from(stat.page_size),
                )
            });
            pages.into_iter().sum()
        };
        used().map_or(0, |used| self.disk_bytes().saturating_sub(used))
    }

    /// Bytes of the file on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.env.real_disk_size().unwrap_or(0)
    }
}

/// Address space to reserve for each of `count` environments: a quarter of what the process may have is theirs.
pub fn map_bytes(count: u16) -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current;
    let Some(limit) = limit else { return MAP_BYTES };
    let share = (limit / 4 / u64::from(count.max(1))) as usize;
    if share >= MAP_BYTES {
        return MAP_BYTES;
    }
    let bytes = (share & !(MAP_BYTES_MIN - 1)).max(MAP_BYTES_MIN);
    tracing::warn!(
        "address space is limited (ulimit -v): each of the {count} partitions can hold {} MB at most",
        bytes >> 20
    );
    bytes
}

/// Makes LMDB's lock file as long as it must be. LMDB would only set its length, and write to it through a mapping: on a full
/// disk that ends the process.
fn fill_lock_file(path: &Path) -> std::io::Result<()> {
    if std::fs::metadata(path).is_ok_and(|data| data.len() >= LOCK_BYTES as u64) {
        return Ok(());
    }
    std::fs::write(path, vec![0; LOCK_BYTES])
}

/// A partition's tree as of its last checkpoint.
pub struct Tree {
    open: Option<(Arc<Environment>, RoTxn<'static, WithoutTls>)>,
    empty: bool,
}

impl Tree {
    /// A tree without rows, for partitions that live in memory only.
    pub fn none() -> Tree {
        Tree { open: None, empty: true }
    }

    /// The tree in `environment`, as it is now.
    pub fn open(environment: &Arc<Environment>) -> Result<Tree, TreeError> {
        let snapshot = environment.env.clone().static_read_txn()?;
        environment.check_way(TreeName::Keys.name(), &[])?;
        environment.check_way(TreeName::Items.name(), &[])?;
        let empty = environment.keys.is_empty(&snapshot)? && environment.items.is_empty(&snapshot)?;
        Ok(Tree { open: Some((Arc::clone(environment), snapshot)), empty })
    }

    /// Whether there is nothing in it, so that nobody need look.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.empty
    }

    /// The row with this key.
    pub fn get(&self, tree: TreeName, row_key: &[u8], hash: u64) -> Result<Option<Blob>, TreeError> {
        let Some((environment, snapshot)) = &self.open else { return Ok(None) };
        environment.get_in(snapshot, tree, row_key, hash)
    }

    /// Visits rows in order from `from` on: whole key and value.
    pub fn walk(
        &self,
        tree: TreeName,
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), TreeError> {
        let Some((environment, snapshot)) = &self.open else { return Ok(()) };
        let mut from = order::tree_key(from).into_owned();
        loop {
            let next = environment.check_way(tree.name(), &from)?;
            // LMDB has no empty key to begin at.
            let begin = if from.is_empty() { Bound::Unbounded } else { Bound::Included(&*from) };
            let end = next.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            for row in environment.rows(tree).range(snapshot, &(begin, end))? {
                let (key, value) = row?;
                let (key, value) = if key.len() == SHORTENED { lengthen(value)? } else { (key, value) };
                if visit(key, value).is_break() {
                    return Ok(());
                }
            }
            let Some(next) = next else { return Ok(()) };
            from = next;
        }
    }
}

/// Whole key and value of a row whose key is shortened.
fn lengthen(stored: &[u8]) -> Result<(&[u8], &[u8]), TreeError> {
    let damaged = || TreeError("a row with a long key is damaged".into());
    let (len, rest) = stored.split_first_chunk::<4>().ok_or_else(damaged)?;
    rest.split_at_checked(u32::from_be_bytes(*len) as usize).ok_or_else(damaged)
}
