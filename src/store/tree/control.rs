//! The control plane's file: one small LMDB environment of plain keys and values, written in synced batches.
//!
//! Each value is followed by the CRC-32C of its key and itself (4 bytes, little-endian): a vote or a log that the disk has damaged is
//! an error, not another vote. Address space is reserved in small steps, because a control plane is small; when a batch does not
//! fit, the reservation doubles.
//!
//! Invariant: the reservation changes only while no transaction is open, neither reading nor writing.

use super::{Rows, TreeError, fill_lock_file};
use heed::types::Bytes;
use heed::{CommitOrAbort, Env, EnvOpenOptions, RwTxn, WithoutTls};
use parking_lot::RwLock;
use std::fs::File;
use std::ops::{Bound, ControlFlow, Range};
use std::path::Path;

/// Address space that is reserved at first. The file is as long as what it holds.
const MAP_BYTES: usize = 16 << 20;
/// The most that is reserved.
const MAP_BYTES_MAX: usize = 4 << 30;
const CRC_BYTES: usize = 4;

/// One change of a batch.
#[derive(Clone, Debug)]
pub enum ControlChange {
    /// This key has this value from now on.
    Put(Vec<u8>, Vec<u8>),
    /// There is no such key any more.
    Delete(Vec<u8>),
    /// There are no keys in this range any more.
    DeleteRange(Range<Vec<u8>>),
}

/// See the module.
pub struct ControlFile {
    env: RwLock<Env<WithoutTls>>,
    rows: Rows,
}

impl ControlFile {
    /// Opens or creates the file in this folder. Nobody else may have it open: the lock of the data folder sees to that.
    pub fn open(folder: &Path) -> Result<ControlFile, TreeError> {
        let failed = |what: &str, error| TreeError(format!("cannot {what} {}: {error}", folder.display()));
        let is_new = !folder.join("data.mdb").exists();
        std::fs::create_dir_all(folder).map_err(|error| failed("create", error))?;
        fill_lock_file(&folder.join("lock.mdb")).map_err(|error| failed("make the lock file in", error))?;
        let env =
            open(folder, MAP_BYTES).map_err(|error| TreeError(format!("{}: {error}", folder.display())))?;
        let transaction = env.write_txn()?;
        let made = env.create_databases_and_commit(transaction, |opener, transaction| {
            let rows = opener.create_database::<Bytes, Bytes>(transaction, None)?;
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(rows))
        })?;
        let rows = made.unwrap_commit();
        if is_new {
            // What is promised from here on must not lose its name.
            for path in [Some(folder), folder.parent()].into_iter().flatten() {
                let synced = File::open(path).and_then(|folder| folder.sync_all());
                synced.map_err(|error| failed("sync", error))?;
            }
        }
        Ok(ControlFile { env: RwLock::new(env), rows })
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        let env = self.env.read();
        let snapshot = env.read_txn()?;
        let Some(stored) = self.rows.get(&snapshot, key)? else { return Ok(None) };
        Ok(Some(checked(key, stored)?.to_vec()))
    }

    /// Visits the keys in a range with their values, in order, until told to stop.
    pub fn scan(
        &self,
        range: Range<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), TreeError> {
        let env = self.env.read();
        let snapshot = env.read_txn()?;
        for row in self.rows.range(&snapshot, &bounds(&range))? {
            let (key, stored) = row?;
            if visit(key, checked(key, stored)?).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The last key in a range, with its value.
    pub fn last(&self, range: Range<&[u8]>) -> Result<Option<(Vec<u8>, Vec<u8>)>, TreeError> {
        let env = self.env.read();
        let snapshot = env.read_txn()?;
        let Some(row) = self.rows.rev_range(&snapshot, &bounds(&range))?.next() else { return Ok(None) };
        let (key, stored) = row?;
        Ok(Some((key.to_vec(), checked(key, stored)?.to_vec())))
    }

    /// Carries out a batch and syncs it to disk. On an error nothing is changed.
    pub fn write(&self, batch: &[ControlChange]) -> Result<(), TreeError> {
        loop {
            let env = self.env.read();
            let mut transaction = env.write_txn()?;
            match self.stage(&mut transaction, batch).and_then(|()| transaction.commit()) {
                Ok(()) => return Ok(()),
                Err(heed::Error::Mdb(heed::MdbError::MapFull)) => drop(env),
                Err(error) => return Err(error.into()),
            }
            self.grow()?;
        }
    }

    fn stage(&self, transaction: &mut RwTxn, batch: &[ControlChange]) -> Result<(), heed::Error> {
        for change in batch {
            match change {
                ControlChange::Put(key, value) => {
                    let stored = [value, &crc(key, value).to_le_bytes()[..]].concat();
                    self.rows.put(transaction, key, &stored)?;
                }
                ControlChange::Delete(key) => {
                    self.rows.delete(transaction, key)?;
                }
                ControlChange::DeleteRange(range) => {
                    self.rows.delete_range(transaction, &bounds(&(&range.start[..]..&range.end[..])))?;
                }
            }
        }
        Ok(())
    }

    /// Reserves twice the address space.
    #[expect(unsafe_code, reason = "LMDB wants no transaction to be open meanwhile: the lock sees to that")]
    fn grow(&self) -> Result<(), TreeError> {
        let env = self.env.write();
        let bytes = env.info().map_size.saturating_mul(2);
        if bytes > MAP_BYTES_MAX {
            return Err(TreeError(format!(
                "the control plane's file has outgrown {} MB",
                MAP_BYTES_MAX >> 20
            )));
        }
        // SAFETY: every transaction lives inside a function that holds the lock shared; here it is held alone.
        Ok(unsafe { env.resize(bytes) }?)
    }
}

#[expect(
    unsafe_code,
    reason = "LMDB maps a file that others could change; the data folder's lock keeps them out"
)]
fn open(folder: &Path, map_bytes: usize) -> Result<Env<WithoutTls>, heed::Error> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(map_bytes).max_readers(64);
    // SAFETY: the folder is locked, so nobody else writes the file.
    unsafe { options.open(folder) }
}

fn bounds<'a>(range: &Range<&'a [u8]>) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    // LMDB has no empty key, not even to start from.
    let start = if range.start.is_empty() { Bound::Unbounded } else { Bound::Included(range.start) };
    (start, Bound::Excluded(range.end.max(range.start)))
}

fn crc(key: &[u8], value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), value)
}

fn checked<'a>(key: &[u8], stored: &'a [u8]) -> Result<&'a [u8], TreeError> {
    let whole = stored.split_last_chunk::<CRC_BYTES>();
    let whole = whole.filter(|(value, sum)| crc(key, value) == u32::from_le_bytes(**sum));
    whole
        .map(|(value, _)| value)
        .ok_or_else(|| TreeError("a row of the control plane's file is damaged".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &[u8], value: Vec<u8>) -> ControlChange {
        ControlChange::Put(key.to_vec(), value)
    }

    fn keys(file: &ControlFile, range: Range<&[u8]>) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        file.scan(range, &mut |key, _| {
            keys.push(key.to_vec());
            ControlFlow::Continue(())
        })
        .expect("it is whole");
        keys
    }

    #[test]
    fn what_was_written_is_there_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("control");
        let file = ControlFile::open(&path).expect("it opens");
        let batch = [
            put(b"a", b"1".to_vec()),
            put(b"b", b"2".to_vec()),
            put(b"c", vec![7; 100_000]),
            put(b"d", vec![]),
        ];
        file.write(&batch).expect("it writes");
        file.write(&[
            ControlChange::DeleteRange(b"b".to_vec()..b"c".to_vec()),
            ControlChange::Delete(b"d".to_vec()),
            put(b"a", b"one".to_vec()),
        ])
        .expect("it writes");
        drop(file);
        let file = ControlFile::open(&path).expect("it opens");
        assert_eq!(file.get(b"a").expect("whole"), Some(b"one".to_vec()));
        assert_eq!(file.get(b"b").expect("whole"), None);
        assert_eq!(file.last(b"a"..b"z").expect("whole"), Some((b"c".to_vec(), vec![7; 100_000])));
        assert_eq!(keys(&file, b""..b"z"), [b"a".to_vec(), b"c".to_vec()]);
        assert_eq!(keys(&file, b"z"..b"a"), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn it_grows_with_what_it_holds() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = ControlFile::open(folder.path()).expect("it opens");
        let large = vec![5; MAP_BYTES];
        file.write(&[put(b"large", large.clone()), put(b"small", vec![1])]).expect("it grows");
        assert_eq!(file.get(b"large").expect("whole"), Some(large));
        assert_eq!(file.get(b"small").expect("whole"), Some(vec![1]));
    }

    #[test]
    fn a_damaged_row_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = ControlFile::open(folder.path()).expect("it opens");
        file.write(&[put(b"vote", b"a-vote-that-is-easily-found".to_vec())]).expect("it writes");
        drop(file);
        let path = folder.path().join("data.mdb");
        let mut bytes = std::fs::read(&path).expect("it is there");
        let found: Vec<usize> = bytes
            .windows(8)
            .enumerate()
            .filter(|(_, window)| window == b"a-vote-t")
            .map(|(at, _)| at)
            .collect();
        assert!(!found.is_empty());
        found.into_iter().for_each(|at| bytes[at] ^= 1);
        std::fs::write(&path, bytes).expect("it can be written");
        let file = ControlFile::open(folder.path()).expect("it opens");
        assert!(file.get(b"vote").is_err());
        assert!(file.last(b"a"..b"z").is_err());
    }
}
