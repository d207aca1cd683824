//! The tree of a partition: what its last checkpoint wrote, in LMDB.

use super::Interrupt;
use crate::base::blob::Blob;
use std::ops::ControlFlow;

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

/// A partition's tree as of its last checkpoint.
pub struct Tree {
    empty: bool,
}

impl Tree {
    /// A tree without rows, for partitions that live in memory only.
    pub fn none() -> Tree {
        Tree { empty: true }
    }

    /// Whether there is nothing in it, so that nobody need look.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.empty
    }

    /// The row with this key.
    pub fn get(&self, _tree: TreeName, _row_key: &[u8], _hash: u64) -> Result<Option<Blob>, Interrupt> {
        Ok(None)
    }

    /// Visits rows in order from `from` on: whole key and value.
    pub fn walk(
        &self,
        _tree: TreeName,
        _from: &[u8],
        _visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Interrupt> {
        Ok(())
    }
}
