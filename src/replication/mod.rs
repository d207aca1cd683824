//! Replication: a second copy that is never wrong.
//!
//! One link for each pair of nodes carries all partitions that one follows from the other. The follower asks for each partition
//! from where its history ends; the primary sends what its journal has from there on, in journal order, or a snapshot first.
//!
//! Reading order: `assignment` (who follows whom), `progress` (how far followers are), `wire` (what goes over a link), `catch_up` (how
//! a follower gets there), the two ends of a link, `primary` and `replica`, and `links` (which there are). What replication needs
//! of the data stands in `storage`. This module is what the layers above see: [`Replication`].

pub mod assignment;
pub mod catch_up;
pub mod links;
pub mod local;
pub mod lost;
pub mod primary;
pub mod progress;
pub mod replica;
pub mod snapshots;
pub mod storage;
pub mod wire;

use crate::base::concern::WriteConcern;
use crate::base::ids::PartitionId;
use assignment::Assignment;
use parking_lot::Mutex;
use progress::{Follower, LinkId, Progress};
use snapshots::Snapshots;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use storage::Storage;
use tokio::sync::watch;
use wire::Hello;

/// Times of links.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// After so long without anything else each side says that it is there, and where.
    pub heartbeat: Duration,
    /// A link on which nothing came for so long is ended.
    pub timeout: Duration,
    /// The shortest pause before another attempt.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            heartbeat: Duration::from_millis(250),
            timeout: Duration::from_secs(60),
            retry: Duration::from_millis(100),
        }
    }
}

/// What both ends of a link know of the node they are on.
pub struct Node {
    /// Its data.
    pub storage: Arc<dyn Storage>,
    /// What others see of its replication.
    pub replication: Arc<Replication>,
    /// Snapshots that may be wanted again.
    pub snapshots: Arc<Snapshots>,
    /// Where clients reach it; an empty host is the one that its links come from.
    pub address: (String, u16),
    /// Times of its links.
    pub timing: Timing,
}

impl Node {
    fn hello(&self) -> Hello {
        Hello {
            version: wire::VERSION,
            node: self.storage.node(),
            partitions: self.storage.partition_count(),
            address: self.address.clone(),
        }
    }
}

/// Why a link has ended.
#[derive(Debug)]
pub enum LinkError {
    /// The stream failed, or the other side closed it.
    Io(io::Error),
    /// The other side sent what makes no sense.
    Protocol(String),
    /// The other side cannot or will not: why, in words.
    Refused(String),
    /// This node's data could not be read or written.
    Storage(String),
    /// Nothing was heard for too long.
    Silent,
    /// This node ends.
    Stopped,
}

impl std::fmt::Display for LinkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LinkError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                f.write_str("the other side closed it")
            }
            LinkError::Io(error) => error.fmt(f),
            LinkError::Protocol(what) => write!(f, "the other side sent {what}"),
            LinkError::Refused(reason) | LinkError::Storage(reason) => f.write_str(reason),
            LinkError::Silent => f.write_str("nothing was heard for too long"),
            LinkError::Stopped => f.write_str("this node stops"),
        }
    }
}

impl std::error::Error for LinkError {}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> LinkError {
        LinkError::Io(error)
    }
}

/// How a replica's link to its primary stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkState {
    /// There is none: the next attempt is about to be made.
    #[default]
    Down,
    /// It connects.
    Connecting,
    /// It receives snapshots.
    Syncing,
    /// It receives changes as they are made.
    Up,
}

/// What a replica knows of the primary it follows.
#[derive(Clone, Debug, Default)]
pub struct Upstream {
    /// How the link stands.
    pub state: LinkState,
    /// When something was received last, in milliseconds of [`Replication::now_ms`].
    pub heard_ms: u64,
    /// When the link went down, in the same clock.
    pub down_since_ms: u64,
    /// Up to which position of the primary's journal everything is in this node's journal.
    pub position: u64,
    /// Where the primary's journal ended when it was heard last.
    pub primary_position: u64,
    /// Bytes of snapshots received and to be received, while they are.
    pub snapshot_bytes: (u64, u64),
    /// Why the link ended last, in words.
    pub error: Option<String>,
}

/// The state of replication that everybody may ask for.
pub struct Replication {
    assignment: watch::Sender<Assignment>,
    progress: Mutex<Progress>,
    /// Of each partition, by [`WriteConcern::held_index`].
    acknowledged: Vec<[AtomicU64; 3]>,
    /// Counts changes of `acknowledged` and of who follows.
    changes: watch::Sender<u64>,
    upstream: Mutex<Upstream>,
    links: AtomicU64,
    lost: lost::Counted,
    started: tokio::time::Instant,
}

impl Replication {
    /// Of a node that plays these parts.
    pub fn new(assignment: Assignment) -> Replication {
        Replication {
            progress: Mutex::new(Progress::new(assignment.copies)),
            acknowledged: assignment.parts.iter().map(|_| Default::default()).collect(),
            assignment: watch::Sender::new(assignment),
            changes: watch::Sender::new(0),
            upstream: Mutex::default(),
            links: AtomicU64::new(0),
            lost: lost::Counted::default(),
            started: tokio::time::Instant::now(),
        }
    }

    /// Milliseconds since the start, of a clock that only grows.
    pub fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// The parts this node plays.
    pub fn assignment(&self) -> Assignment {
        self.assignment.borrow().clone()
    }

    /// Tells when the parts change.
    pub fn assignments(&self) -> watch::Receiver<Assignment> {
        self.assignment.subscribe()
    }

    /// Gives this node other parts. Links end and begin as they say.
    pub fn assign(&self, assignment: Assignment) {
        self.progress.lock().set_copies(assignment.copies);
        let before = self.assignment.send_replace(assignment.clone());
        if before.copies != assignment.copies {
            // What fewer copies had acknowledged, more have not.
            self.acknowledged.iter().flatten().for_each(|position| position.store(0, Ordering::Release));
        }
        self.note_progress();
    }

    /// Host and port of the server that is followed, if this node is a replica.
    pub fn followed(&self) -> Option<(String, u16)> {
        self.assignment.borrow().followed().map(|(host, port)| (host.to_owned(), port))
    }

    /// What is known of the primary, if this node is a replica.
    pub fn upstream(&self) -> Upstream {
        self.upstream.lock().clone()
    }

    /// Changes what is known of the primary.
    pub fn with_upstream<T>(&self, change: impl FnOnce(&mut Upstream) -> T) -> T {
        change(&mut self.upstream.lock())
    }

    /// A name for a link that begins, from 1.
    pub fn new_link(&self) -> LinkId {
        self.links.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// What failovers lost of this node's data and is kept in files.
    pub fn lost(&self) -> &lost::Counted {
        &self.lost
    }

    /// Who follows this node, in the order they came.
    pub fn followers(&self) -> Vec<(LinkId, Follower)> {
        self.progress.lock().followers().map(|(link, follower)| (link, follower.clone())).collect()
    }

    /// Changes what is known of the followers, and tells those who wait for it.
    pub fn with_progress<T>(&self, change: impl FnOnce(&mut Progress) -> T) -> T {
        let outcome = change(&mut self.progress.lock());
        self.note_progress();
        outcome
    }

    fn note_progress(&self) {
        let progress = self.progress.lock();
        for (partition, acknowledged) in self.acknowledged.iter().enumerate() {
            for (index, concern) in WriteConcern::HELD.into_iter().enumerate() {
                let position = progress.acknowledged(PartitionId(partition as u16), concern);
                acknowledged[index].fetch_max(position, Ordering::AcqRel);
            }
        }
        drop(progress);
        self.changes.send_modify(|count| *count += 1);
    }

    /// Up to which position of this node's journal the changes of `partition` are stored on as many nodes as `concern` asks for.
    #[inline]
    pub fn acknowledged(&self, partition: PartitionId, concern: WriteConcern) -> u64 {
        match concern.held_index() {
            None => u64::MAX,
            Some(index) => self.acknowledged[usize::from(partition.0)][index].load(Ordering::Acquire),
        }
    }

    /// Tells when followers come, go, or get on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_acknowledged_once_stays_so() {
        let replication = Replication::new(Assignment::primary(1, 2));
        replication.with_progress(|progress| {
            *progress.follower(1) = Follower {
                node: "a".to_owned(),
                in_step: [PartitionId(0)].into(),
                journaled: 7,
                ..Follower::default()
            };
        });
        let acknowledged = || replication.acknowledged(PartitionId(0), WriteConcern::Majority);
        assert_eq!(acknowledged(), 7);
        replication.with_progress(|progress| progress.remove(1));
        assert_eq!(acknowledged(), 7);
    }
}
