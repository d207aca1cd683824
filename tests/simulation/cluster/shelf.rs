//! Where the control plane keeps what it must not forget: a disk that takes its time. What is written survives everything.

use async_trait::async_trait;
use larder::cluster::consensus::shelf::{Change, MemoryShelf, Shelf, ShelfError};
use parking_lot::Mutex;
use rand::prelude::*;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::time::Duration;

/// A shelf as a process has it.
pub struct SlowShelf {
    shelf: Arc<MemoryShelf>,
    random: Mutex<StdRng>,
    write_ms: u64,
}

impl SlowShelf {
    /// What was written takes up to `write_ms`, half of it before it is there and half after.
    pub fn new(shelf: &Arc<MemoryShelf>, write_ms: u64, seed: u64) -> SlowShelf {
        SlowShelf { shelf: Arc::clone(shelf), random: Mutex::new(StdRng::seed_from_u64(seed)), write_ms }
    }

    fn pause(&self) -> Duration {
        Duration::from_micros(self.random.lock().random_range(0..=self.write_ms * 1000 / 2))
    }
}

#[async_trait]
impl Shelf for SlowShelf {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ShelfError> {
        self.shelf.get(key)
    }

    fn scan(
        &self,
        range: Range<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ShelfError> {
        self.shelf.scan(range, visit)
    }

    fn last(&self, range: Range<&[u8]>) -> Result<Option<(Vec<u8>, Vec<u8>)>, ShelfError> {
        self.shelf.last(range)
    }

    async fn write(&self, batch: Vec<Change>) -> Result<(), ShelfError> {
        tokio::time::sleep(self.pause()).await;
        self.shelf.write(batch).await?;
        tokio::time::sleep(self.pause()).await;
        Ok(())
    }
}
