//! `Storage`: what replication needs of a node's data. The store is one; the simulation has another, without files.

use super::lost::Lost;
use super::wire::{Offer, Packed};
use crate::base::ids::{Lsn, PartitionId, Point};
use crate::store::ApplyError;
use crate::store::journal::Place;
use async_trait::async_trait;
use std::io;
use std::sync::Arc;
use tokio::sync::watch;

/// Why the journal could not be read.
#[derive(Debug)]
pub enum ReadError {
    /// What was asked for is no longer kept.
    Gone,
    /// In words.
    Failed(String),
}

/// Reads a journal from some position on.
pub trait Records: Send {
    /// Before which record it stands.
    fn position(&self) -> u64;

    /// Gives about `budget` bytes of records with their positions to `visit`, none behind `limit`. False if there was none.
    fn read(
        &mut self,
        limit: u64,
        budget: usize,
        visit: &mut dyn FnMut(u64, &[u8]),
    ) -> Result<bool, ReadError>;
}

/// A snapshot that can be read.
#[async_trait]
pub trait Outgoing: Send + Sync {
    /// What it is.
    fn offer(&self) -> Offer;

    /// The position of this node's journal behind which are the records that it lacks.
    fn position(&self) -> u64;

    /// Up to `len` bytes from `offset` on, packed.
    async fn packed(self: Arc<Self>, offset: u64, len: usize) -> io::Result<Packed>;
}

/// A snapshot on its way in.
#[async_trait]
pub trait Incoming: Send + Sync {
    /// How much of it is there: where to go on.
    fn offset(&self) -> u64;

    /// Adds bytes, which must come in order.
    async fn write(&mut self, offset: u64, bytes: Vec<u8>) -> io::Result<()>;

    /// Puts it in the partition's place, checked. What was there before is kept aside if `keeps_old`. Returns where the partition
    /// stands then.
    async fn install(self: Box<Self>, keeps_old: bool) -> Result<Point, String>;
}

/// Records of this node's that no longer are part of a partition's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostTail {
    /// Which partition.
    pub partition: PartitionId,
    /// The last transaction that the primary has too; none if that could not be found out.
    pub common: Option<Lsn>,
}

/// A node's data, as replication sees it.
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// The node's identity.
    fn node(&self) -> String;

    /// Number of partitions.
    fn partition_count(&self) -> u16;

    /// Where a partition's history stands.
    fn point(&self, partition: PartitionId) -> Point;

    /// Tells up to which position the journal is written.
    fn written(&self) -> watch::Receiver<u64>;

    /// Tells up to which position the journal is on disk.
    fn synced(&self) -> watch::Receiver<u64>;

    /// Writes to the journal all that is committed.
    fn write_out(&self) -> Result<(), String>;

    /// Where the journal begins.
    fn oldest(&self) -> u64;

    /// Where the transaction behind each of these stands in the journal, if it has it. Each is of another partition.
    fn locate(&self, wanted: &[(PartitionId, Lsn)]) -> Result<Vec<Option<Place>>, ReadError>;

    /// Reads the journal from `position` on.
    fn records(&self, position: u64) -> Box<dyn Records>;

    /// Reader number `reader` needs the journal behind `position`; without one, nothing any more.
    fn pin(&self, reader: u64, position: Option<u64>);

    /// Applies a record. Returns the position to be flushed before anybody is told; 0 if it was known.
    fn apply(&self, payload: &[u8]) -> Result<u64, ApplyError>;

    /// Writes the journal up to `position`, so that the end of the process loses none of it.
    async fn flush(&self, position: u64) -> Result<(), String>;

    /// How often since the start a snapshot took the place of the partition's history: while it is the same, so is the history, but
    /// for what was added.
    fn replacements(&self, partition: PartitionId) -> u64;

    /// Makes a snapshot of a partition.
    async fn take_snapshot(&self, partition: PartitionId) -> Result<Arc<dyn Outgoing>, String>;

    /// Begins to receive a snapshot, or goes on with it.
    async fn receive_snapshot(&self, offer: Offer) -> Result<Box<dyn Incoming>, String>;

    /// The snapshot whose receipt was begun before, and how much of it is there: to go on with it.
    fn unfinished_snapshot(&self, partition: PartitionId) -> Option<(u64, u64)>;

    /// Writes out what this node alone has, before a snapshot takes its place. The partition takes no changes meanwhile.
    async fn report_lost(&self, tail: LostTail) -> Result<Lost, String>;
}
