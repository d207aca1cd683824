//! `StoreStorage`: this node's store, as replication sees it.
//!
//! The journal's last records are in the page cache, and a record is applied in microseconds: both are done where the link's task
//! runs, whose threads serve no clients. What works on whole trees gets a thread of its own.

use super::lost::{self, Lost};
use super::storage::{Incoming, LostTail, Outgoing, ReadError, Records, Storage};
use super::wire::{Offer, Packed};
use crate::base::ids::{Lsn, PartitionId, Point};
use crate::base::{clock, gentle};
use crate::store::journal::{Cursor, CursorError, Place};
use crate::store::{ApplyError, Flushed, IncomingSnapshot, Interrupt, Snapshot, SnapshotOffer, Store};
use async_trait::async_trait;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often a journal is tried again that the disk cannot keep up with.
const LATE_GAP: Duration = Duration::from_millis(50);

/// A node's store and what it tells.
pub struct StoreStorage {
    store: Arc<Store>,
    written: Arc<watch::Sender<u64>>,
    synced: watch::Receiver<u64>,
    /// Where tails of histories are kept that are no more.
    lost: PathBuf,
}

impl StoreStorage {
    /// Of the store in the data folder `folder`; `synced` tells its durable positions.
    pub fn new(store: Arc<Store>, synced: watch::Receiver<u64>, folder: &std::path::Path) -> StoreStorage {
        let written = Arc::new(watch::Sender::new(store.written_position()));
        let sender = Arc::clone(&written);
        store.after_journal_write(Box::new(move |position| tell(&sender, position)));
        StoreStorage { store, written, synced, lost: folder.join("lost") }
    }
}

impl From<CursorError> for ReadError {
    fn from(error: CursorError) -> ReadError {
        match error {
            CursorError::Gone => ReadError::Gone,
            CursorError::Failed(reason) => ReadError::Failed(reason.0),
        }
    }
}

/// Tells a position, unless a later one was told.
fn tell(sender: &watch::Sender<u64>, position: u64) {
    sender.send_if_modified(|told| position > std::mem::replace(told, position.max(*told)));
}

/// Runs what takes long on a thread of its own.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| format!("a task of the store ended: {error}"))
}
/// Runs what works on whole snapshots, and leaves the processor to others.
async fn apart_gently<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    apart(|| gentle::run(work)).await
}

#[async_trait]
impl Storage for StoreStorage {
    fn node(&self) -> String {
        self.store.node().to_owned()
    }

    fn partition_count(&self) -> u16 {
        self.store.partition_count()
    }

    fn point(&self, partition: PartitionId) -> Point {
        self.store.point(partition)
    }

    fn written(&self) -> watch::Receiver<u64> {
        // While nobody reads the journal it does not tell.
        tell(&self.written, self.store.written_position());
        self.written.subscribe()
    }

    fn synced(&self) -> watch::Receiver<u64> {
        self.synced.clone()
    }

    fn write_out(&self) -> Result<(), String> {
        self.store.write_out().map_err(|error| format!("{error:?}"))
    }

    fn oldest(&self) -> u64 {
        self.store.oldest_journal_position()
    }

    fn locate(&self, wanted: &[(PartitionId, Lsn)]) -> Result<Vec<Option<Place>>, ReadError> {
        Ok(self.store.locate(wanted)?)
    }

    fn records(&self, position: u64) -> Box<dyn Records> {
        Box::new(self.store.cursor(position).expect("a store in a folder has a journal"))
    }

    fn pin(&self, reader: u64, position: Option<u64>) {
        self.store.pin_journal(reader, position);
        tell(&self.written, self.store.written_position());
    }

    fn apply(&self, payload: &[u8]) -> Result<u64, ApplyError> {
        self.store.apply(payload)
    }

    async fn flush(&self, position: u64) -> Result<(), String> {
        loop {
            match self.store.flush(position) {
                Ok(Flushed::Acknowledge | Flushed::AwaitSync) => return Ok(()),
                // The disk cannot keep up: the primary waits, too, which is what its window is for.
                Ok(Flushed::Late) => tokio::time::sleep(LATE_GAP).await,
                Err(Interrupt::Storage(reason)) => return Err(reason),
                Err(other) => return Err(format!("{other:?}")),
            }
        }
    }

    fn replacements(&self, partition: PartitionId) -> u64 {
        self.store.replacements(partition)
    }

    async fn take_snapshot(&self, partition: PartitionId) -> Result<Arc<dyn Outgoing>, String> {
        let store = Arc::clone(&self.store);
        let taken = apart(move || store.take_snapshot(partition)).await?;
        taken.map(|snapshot| Arc::new(snapshot) as Arc<dyn Outgoing>).map_err(|error| error.to_string())
    }

    async fn receive_snapshot(&self, offer: Offer) -> Result<Box<dyn Incoming>, String> {
        let store = Arc::clone(&self.store);
        let begun = apart(move || store.receive_snapshot(offer.into())).await?;
        let incoming = begun.map_err(|error| error.to_string())?;
        let (store, lost) = (Arc::clone(&self.store), self.lost.clone());
        Ok(Box::new(Arriving { store, incoming: Some(incoming), lost }))
    }

    fn unfinished_snapshot(&self, partition: PartitionId) -> Option<(u64, u64)> {
        self.store.interrupted_snapshot(partition).map(|(offer, bytes)| (offer.id, bytes))
    }

    async fn report_lost(&self, tail: LostTail) -> Result<Lost, String> {
        let (store, lost) = (Arc::clone(&self.store), self.lost.clone());
        let written = apart(move || lost::write_tail(&store, &lost, tail, clock::unix_ms())).await?;
        written.map_err(|error| format!("what this node alone has could not be written out: {error}"))
    }
}

impl Records for Cursor {
    fn position(&self) -> u64 {
        Cursor::position(self)
    }

    fn read(
        &mut self,
        limit: u64,
        budget: usize,
        visit: &mut dyn FnMut(u64, &[u8]),
    ) -> Result<bool, ReadError> {
        Ok(Cursor::read(self, limit, budget, visit)?)
    }
}

impl From<Offer> for SnapshotOffer {
    fn from(offer: Offer) -> SnapshotOffer {
        let Offer { id, partition, point, bytes, checksum } = offer;
        SnapshotOffer { id, partition, point, bytes, checksum }
    }
}

#[async_trait]
impl Outgoing for Snapshot {
    fn offer(&self) -> Offer {
        let SnapshotOffer { id, partition, point, bytes, checksum } = Snapshot::offer(self);
        Offer { id, partition, point, bytes, checksum }
    }

    fn position(&self) -> u64 {
        self.position
    }

    async fn packed(self: Arc<Self>, offset: u64, len: usize) -> io::Result<Packed> {
        let packed = apart_gently(move || Packed::new(offset, &self.read(offset, len)?));
        packed.await.map_err(io::Error::other)?
    }
}

/// A snapshot that arrives.
struct Arriving {
    store: Arc<Store>,
    /// None while a thread writes to it.
    incoming: Option<IncomingSnapshot>,
    lost: PathBuf,
}

#[async_trait]
impl Incoming for Arriving {
    fn offset(&self) -> u64 {
        self.incoming.as_ref().map_or(0, IncomingSnapshot::offset)
    }

    async fn write(&mut self, offset: u64, bytes: Vec<u8>) -> io::Result<()> {
        let gone = || io::Error::other("an earlier write of the snapshot did not end");
        let mut incoming = self.incoming.take().ok_or_else(gone)?;
        let written = apart_gently(move || {
            let written = incoming.write(offset, &bytes);
            (incoming, written)
        });
        let (incoming, written) = written.await.map_err(io::Error::other)?;
        self.incoming = Some(incoming);
        written.map_err(|error| io::Error::other(error.to_string()))
    }

    async fn install(mut self: Box<Self>, keeps_old: bool) -> Result<Point, String> {
        let incoming = self.incoming.take().ok_or("an earlier write of the snapshot did not end")?;
        let keep = format!("{}-partition-{}", clock::unix_ms(), incoming.offer().partition);
        let keep = keeps_old.then(|| self.lost.join(keep));
        let store = Arc::clone(&self.store);
        let installed = apart(move || store.install_snapshot(incoming, keep.as_deref())).await?;
        installed.map_err(|error| error.to_string())
    }
}
