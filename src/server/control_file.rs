//! The control plane's shelf on disk: `control/` in the data folder. `cluster` says what a shelf is and `store` how a file is kept;
//! here they meet.

use crate::cluster::consensus::shelf::{Change, Shelf, ShelfError};
use crate::store::{ControlChange, ControlFile, TreeError};
use async_trait::async_trait;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;

/// See the module.
#[derive(Clone)]
pub struct ControlShelf {
    file: Arc<ControlFile>,
}

impl ControlShelf {
    /// Opens or creates it in this folder, which nobody else may have open.
    pub fn open(folder: &Path) -> Result<ControlShelf, ShelfError> {
        Ok(ControlShelf { file: Arc::new(ControlFile::open(folder)?) })
    }
}

impl From<TreeError> for ShelfError {
    fn from(error: TreeError) -> ShelfError {
        ShelfError(error.0)
    }
}

fn change(change: Change) -> ControlChange {
    match change {
        Change::Put(key, value) => ControlChange::Put(key, value),
        Change::Delete(key) => ControlChange::Delete(key),
        Change::DeleteRange(range) => ControlChange::DeleteRange(range),
    }
}

#[async_trait]
impl Shelf for ControlShelf {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ShelfError> {
        Ok(self.file.get(key)?)
    }

    fn scan(
        &self,
        range: Range<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ShelfError> {
        Ok(self.file.scan(range, visit)?)
    }

    fn last(&self, range: Range<&[u8]>) -> Result<Option<(Vec<u8>, Vec<u8>)>, ShelfError> {
        Ok(self.file.last(range)?)
    }

    /// On a thread of its own: it waits for the disk, and heartbeats must not wait with it.
    async fn write(&self, batch: Vec<Change>) -> Result<(), ShelfError> {
        let (file, batch) = (Arc::clone(&self.file), batch.into_iter().map(change).collect::<Vec<_>>());
        let written = tokio::task::spawn_blocking(move || file.write(&batch)).await;
        Ok(written.map_err(|error| ShelfError(error.to_string()))??)
    }
}
