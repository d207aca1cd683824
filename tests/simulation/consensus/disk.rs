//! A simulated disk: takes its time, may crash in the middle of a write, keeps what was written, and fails when it is told to.

use crate::consensus::scenario::Plant;
use async_trait::async_trait;
use larder::cluster::consensus::shelf::{Change, Shelf, ShelfError};
use parking_lot::Mutex;
use rand::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Batches that a disk has not written when it says that it has, if it writes late.
const LATE: usize = 3;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// What survives a process.
#[derive(Default)]
pub struct Disk {
    rows: Mutex<Rows>,
    /// It takes no more.
    pub is_full: AtomicBool,
}

/// The disk as a process has it.
pub struct OpenDisk {
    disk: Arc<Disk>,
    /// What the process sees: the disk's rows, and what a planted bug keeps from the disk.
    rows: Mutex<Rows>,
    /// Batches that a planted bug has not written yet.
    late: Mutex<VecDeque<Vec<Change>>>,
    random: Mutex<StdRng>,
    write_ms: u64,
    plant: Plant,
}

impl OpenDisk {
    /// Opens it after a start.
    pub fn new(disk: &Arc<Disk>, seed: u64, write_ms: u64, plant: Plant) -> OpenDisk {
        let rows = disk.rows.lock().clone();
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        let (rows, late) = (Mutex::new(rows), Mutex::default());
        OpenDisk { disk: Arc::clone(disk), rows, late, random, write_ms, plant }
    }

    fn pause(&self) -> Duration {
        Duration::from_micros(self.random.lock().random_range(0..=self.write_ms * 1000 / 2))
    }

    /// What reaches the disk with this batch.
    fn arriving(&self, mut batch: Vec<Change>) -> Vec<Change> {
        match self.plant {
            Plant::ForgetsVotes => {
                batch.retain(|change| !matches!(change, Change::Put(key, _) if key == b"vote"));
            }
            Plant::WritesLate => {
                let mut late = self.late.lock();
                late.push_back(batch);
                let due = late.len().saturating_sub(LATE);
                return late.drain(..due).flatten().collect();
            }
            _ => {}
        }
        batch
    }
}

fn carry_out(rows: &mut Rows, change: &Change) {
    match change {
        Change::Put(key, value) => {
            rows.insert(key.clone(), value.clone());
        }
        Change::Delete(key) => {
            rows.remove(key);
        }
        Change::DeleteRange(range) => rows.retain(|key, _| !range.contains(key)),
    }
}

#[async_trait]
impl Shelf for OpenDisk {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ShelfError> {
        Ok(self.rows.lock().get(key).cloned())
    }

    fn scan(
        &self,
        range: Range<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ShelfError> {
        for (key, value) in self.rows.lock().range(range.start.to_vec()..range.end.to_vec()) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn last(&self, range: Range<&[u8]>) -> Result<Option<(Vec<u8>, Vec<u8>)>, ShelfError> {
        let rows = self.rows.lock();
        let mut range = rows.range(range.start.to_vec()..range.end.to_vec());
        Ok(range.next_back().map(|(key, value)| (key.clone(), value.clone())))
    }

    async fn write(&self, batch: Vec<Change>) -> Result<(), ShelfError> {
        tokio::time::sleep(self.pause()).await;
        if self.disk.is_full.load(Ordering::Relaxed) {
            return Err(ShelfError("the disk is full".into()));
        }
        for change in &batch {
            carry_out(&mut self.rows.lock(), change);
        }
        for change in self.arriving(batch) {
            carry_out(&mut self.disk.rows.lock(), &change);
        }
        tokio::time::sleep(self.pause()).await;
        Ok(())
    }
}
