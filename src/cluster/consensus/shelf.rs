//! `Shelf`: where the control plane keeps what it must not forget. A small ordered store of keys and values that changes by whole
//! batches; what it is made of, others say.
//!
//! Invariants that a shelf promises:
//! - a batch is there as a whole or not at all, whatever happens while it is written;
//! - when [`Shelf::write`] has returned, its batch survives the process and the machine's power;
//! - batches take effect in the order in which they were written.

use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

/// What went wrong on a shelf, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShelfError(pub String);

impl std::fmt::Display for ShelfError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ShelfError {}

/// One change of a batch. Keys have 500 bytes at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This key has this value from now on.
    Put(Vec<u8>, Vec<u8>),
    /// There is no such key any more.
    Delete(Vec<u8>),
    /// There are no keys in this range any more.
    DeleteRange(Range<Vec<u8>>),
}

/// See the module.
#[async_trait]
pub trait Shelf: Send + Sync + 'static {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ShelfError>;

    /// Visits the keys in a range with their values, in order, until told to stop.
    fn scan(
        &self,
        range: Range<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ShelfError>;

    /// The last key in a range, with its value.
    fn last(&self, range: Range<&[u8]>) -> Result<Option<(Vec<u8>, Vec<u8>)>, ShelfError>;

    /// Carries out a batch, its changes in their order. On an error nothing was changed.
    async fn write(&self, batch: Vec<Change>) -> Result<(), ShelfError>;
}

/// A shelf in memory, for tests: what was written is there for whoever opens it next.
#[derive(Debug, Default)]
pub struct MemoryShelf {
    rows: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl MemoryShelf {
    /// All that is there, to compare.
    pub fn rows(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.rows.lock().clone()
    }
}

#[async_trait]
impl Shelf for MemoryShelf {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ShelfError> {
        Ok(self.rows.lock().get(key).cloned())
    }

    fn scan(
        &self,
        range: Range<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ShelfError> {
        let rows = self.rows.lock();
        for (key, value) in rows.range(owned(&range)) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn last(&self, range: Range<&[u8]>) -> Result<Option<(Vec<u8>, Vec<u8>)>, ShelfError> {
        let rows = self.rows.lock();
        Ok(rows.range(owned(&range)).next_back().map(|(key, value)| (key.clone(), value.clone())))
    }

    async fn write(&self, batch: Vec<Change>) -> Result<(), ShelfError> {
        let mut rows = self.rows.lock();
        for change in batch {
            match change {
                Change::Put(key, value) => {
                    rows.insert(key, value);
                }
                Change::Delete(key) => {
                    rows.remove(&key);
                }
                Change::DeleteRange(range) => rows.retain(|key, _| !range.contains(key)),
            }
        }
        Ok(())
    }
}

/// A range that a map of owned keys takes; one that ends before it begins is empty.
fn owned(range: &Range<&[u8]>) -> Range<Vec<u8>> {
    range.start.to_vec()..range.end.max(range.start).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_batch_takes_effect_in_its_order() {
        let shelf = MemoryShelf::default();
        let put = |key: &[u8], value: &[u8]| Change::Put(key.to_vec(), value.to_vec());
        let batch = vec![
            put(b"a1", b"x"),
            put(b"a2", b"x"),
            put(b"b", b"x"),
            Change::DeleteRange(b"a1".to_vec()..b"b".to_vec()),
            put(b"a2", b"again"),
            Change::Delete(b"none".to_vec()),
        ];
        shelf.write(batch).await.expect("memory has room");
        assert_eq!(shelf.get(b"a1"), Ok(None));
        assert_eq!(
            shelf.last(b"a".as_slice()..b"b".as_slice()),
            Ok(Some((b"a2".to_vec(), b"again".to_vec())))
        );
        let mut keys = Vec::new();
        let scanned = shelf.scan(b"".as_slice()..b"z".as_slice(), &mut |key, _| {
            keys.push(key.to_vec());
            ControlFlow::Continue(())
        });
        assert_eq!((scanned, keys), (Ok(()), vec![b"a2".to_vec(), b"b".to_vec()]));
        assert_eq!(shelf.last(b"z".as_slice()..b"a".as_slice()), Ok(None));
    }
}
