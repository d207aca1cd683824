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
use assignment::{Assignment, Part};
use parking_lot::Mutex;
use progress::{Follower, LinkId, Progress};
use snapshots::Snapshots;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
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
            timeout: Duration::from_mins(1),
            retry: Duration::from_millis(100),
        }
    }
}

/// Sizes of what is sent.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Bytes of data that may be on their way to a follower at a time, frames not begun included.
    pub window: u64,
    /// Bytes of records that go in one frame.
    pub batch: usize,
    /// Bytes of a snapshot that go in one frame.
    pub chunk: usize,
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes { window: 8 << 20, batch: wire::BATCH_BYTES, chunk: 256 << 10 }
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
    /// Sizes of what it sends.
    pub sizes: Sizes,
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
    /// The primary's identity, as its data folder has it.
    pub node: String,
    /// When something was received last, in milliseconds of [`Replication::now_ms`].
    pub heard_ms: u64,
    /// When the link went down, in the same clock; 0 if it was never up.
    pub down_since_ms: u64,
    /// Up to which position of the primary's journal everything is in this node's journal.
    pub position: u64,
    /// Where the primary's journal ended when it was heard last.
    pub primary_position: u64,
    /// Bytes of snapshots received and to be received, while they are.
    pub snapshot_bytes: (u64, u64),
    /// Why the link ended last, in words.
    pub error: Option<String>,
    /// When everything that the primary had was here, as far as that is known; kept by [`Upstream::note_freshness`].
    fresh_ms: u64,
    /// When the primary told an end of its journal that is not reached yet, and that end.
    mark: Option<(u64, u64)>,
}

impl Upstream {
    /// For how many milliseconds, at most, changes of the primary may be missing here. A primary that is silent may have changed
    /// anything.
    pub fn stale_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.fresh_ms)
    }

    /// The primary has said where its journal ends.
    pub fn primary_is_at(&mut self, position: u64, now_ms: u64) {
        self.primary_position = position;
        self.mark.get_or_insert((now_ms, position));
    }

    /// While the primary goes on, its end is never reached. So one end that it told is remembered until it is, then the next.
    fn note_freshness(&mut self) {
        if let Some((told_ms, end)) = self.mark
            && self.position >= end
        {
            self.fresh_ms = told_ms;
            self.mark = None;
        }
    }
}

/// The state of replication that everybody may ask for.
pub struct Replication {
    assignment: watch::Sender<Assignment>,
    /// Counts changes of parts.
    term: AtomicU64,
    is_replica: AtomicBool,
    progress: Mutex<Progress>,
    /// Of each partition, by [`WriteConcern::held_index`].
    acknowledged: Vec<[AtomicU64; 3]>,
    /// How many nodes are in step with each partition.
    in_step: Vec<AtomicU16>,
    /// Counts changes of `acknowledged` and of who follows.
    changes: watch::Sender<u64>,
    upstream: Mutex<Upstream>,
    /// Whether this node may answer at all, where that is a matter of time.
    right: OnceLock<Box<dyn Fn() -> bool + Send + Sync>>,
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
            in_step: assignment.parts.iter().map(|_| AtomicU16::new(0)).collect(),
            term: AtomicU64::new(0),
            is_replica: AtomicBool::new(!assignment.has_primary()),
            assignment: watch::Sender::new(assignment),
            changes: watch::Sender::new(0),
            upstream: Mutex::default(),
            right: OnceLock::new(),
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

    /// Tells when the parts change; not when the number of copies does, or who counts.
    pub fn assignments(&self) -> watch::Receiver<Assignment> {
        self.assignment.subscribe()
    }

    /// Gives this node other parts. Links end and begin as they say.
    pub fn assign(&self, assignment: Assignment) {
        self.progress.lock().set_copies(assignment.copies, assignment.counted.clone());
        self.is_replica.store(!assignment.has_primary(), Ordering::Release);
        let before = self.assignment();
        let mut parts = before.parts.iter().zip(&assignment.parts);
        if parts.clone().any(|(before, part)| before.is_primary() && !part.is_primary()) {
            self.term.fetch_add(1, Ordering::AcqRel);
        }
        if !parts.any(|(before, part)| before == part && matches!(part, Part::Replica { .. })) {
            *self.upstream.lock() = Upstream::default(); // before links begin that tell more
        }
        self.assignment.send_if_modified(|known| {
            let are_other_parts = known.parts != assignment.parts;
            *known = assignment.clone();
            are_other_parts // links go on otherwise
        });
        if before.copies != assignment.copies {
            // What fewer copies had acknowledged, more have not. (Who counts changes by one node at a time: any majority of before
            // shares a node with any of after.)
            self.acknowledged.iter().flatten().for_each(|position| position.store(0, Ordering::Release));
        }
        self.note_progress();
    }

    /// Changes when this node is primary of something no more: what began as a primary's in an earlier term may never be
    /// acknowledged.
    #[inline]
    pub fn term(&self) -> u64 {
        self.term.load(Ordering::Acquire)
    }

    /// From now on what this node tells as a primary holds only as long as `may_answer` says so when it is told: another node may
    /// have taken its place meanwhile. To be called once, before clients are served.
    pub fn fence(&self, may_answer: Box<dyn Fn() -> bool + Send + Sync>) {
        assert!(self.right.set(may_answer).is_ok(), "a node is fenced once");
    }

    /// Whether it may be that this node is primary and yet may not answer.
    #[inline]
    pub fn is_fenced(&self) -> bool {
        self.right.get().is_some()
    }

    /// Whether what this node has found as a primary is still so, at this moment.
    pub fn may_answer(&self) -> bool {
        self.right.get().is_none_or(|may_answer| may_answer())
    }

    /// Whether others may follow a partition from here: where it was decided who counts, from its primary only. A replica may follow
    /// another one where an operator wants it so.
    pub fn serves(&self, partition: PartitionId) -> bool {
        let (assignment, id) = (self.assignment.borrow(), usize::from(partition.0));
        assignment.counted.is_empty() || assignment.parts.get(id).is_some_and(Part::is_primary)
    }

    /// Wakes those who wait for acknowledgements or for the right to answer.
    pub fn wake(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Whether this node is primary of nothing.
    #[inline]
    pub fn is_replica(&self) -> bool {
        self.is_replica.load(Ordering::Acquire)
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
        let mut upstream = self.upstream.lock();
        let outcome = change(&mut upstream);
        upstream.note_freshness();
        outcome
    }

    /// How the link to the primary stands, and for how many milliseconds, at most, changes of the primary may be missing here.
    pub fn standing(&self) -> (LinkState, u64) {
        let upstream = self.upstream.lock();
        (upstream.state, upstream.stale_ms(self.now_ms()))
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

    /// Which links have brought their follower everything that it is to have.
    pub fn whole(&self) -> Vec<LinkId> {
        let (served, progress) = (self.served(), self.progress.lock());
        let whole = progress.followers().filter(|(_, follower)| progress.is_whole(follower, &served));
        whole.map(|(link, _)| link).collect()
    }

    /// Changes what is known of the followers, and tells those who wait for it.
    pub fn with_progress<T>(&self, change: impl FnOnce(&mut Progress) -> T) -> T {
        let outcome = change(&mut self.progress.lock());
        self.note_progress();
        outcome
    }

    fn note_progress(&self) {
        let progress = self.progress.lock();
        let of = |partition: usize| {
            let partition = PartitionId(partition as u16);
            let positions = WriteConcern::HELD.map(|concern| progress.acknowledged(partition, concern));
            (u16::try_from(progress.in_step(partition)).unwrap_or(u16::MAX), positions)
        };
        // The usual case, looked at once for all partitions: this runs with every acknowledgement.
        let same = progress.is_uniform(self.acknowledged.len() as u16).then(|| of(0));
        for (partition, acknowledged) in self.acknowledged.iter().enumerate() {
            let (in_step, positions) = same.unwrap_or_else(|| of(partition));
            self.in_step[partition].store(in_step, Ordering::Release);
            for (known, position) in acknowledged.iter().zip(positions) {
                known.fetch_max(position, Ordering::AcqRel);
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

    /// Whether as many replicas are in step with `partition` as `concern` asks for.
    pub fn can_meet(&self, partition: PartitionId, concern: WriteConcern) -> bool {
        let wanted = concern.replicas(self.assignment.borrow().copies);
        self.in_step[usize::from(partition.0)].load(Ordering::Acquire) >= wanted
    }

    /// What others may follow from here: what this node is primary of, or everything where an operator made it a replica with replicas.
    fn served(&self) -> Vec<PartitionId> {
        let assignment = self.assignment.borrow();
        let has_primary = assignment.has_primary();
        let is_served = |part: &Part| !has_primary || part.is_primary();
        let parts = (0..).map(PartitionId).zip(&assignment.parts);
        parts.filter(|(_, part)| is_served(part)).map(|(id, _)| id).collect()
    }

    /// How many replicas have everything up to `position` of this node's journal: in theirs, or on their disks.
    pub fn have(&self, position: u64, on_disk: bool) -> usize {
        let served = self.served();
        self.progress.lock().have(position, &served, on_disk)
    }

    /// How many replicas are in step and were heard within the last `lag_ms` milliseconds.
    pub fn good(&self, lag_ms: u64) -> usize {
        let served = self.served();
        self.progress.lock().good(self.now_ms().saturating_sub(lag_ms), &served)
    }

    /// Tells when followers come, go, or get on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Epoch;

    #[test]
    fn a_replica_knows_how_old_its_data_may_be() {
        let mut upstream = Upstream::default();
        let mut hear = |now_ms, primary_position, position| {
            upstream.primary_is_at(primary_position, now_ms);
            upstream.position = position;
            upstream.note_freshness();
            upstream.stale_ms(1000)
        };
        assert_eq!(hear(100, 50, 0), 1000, "nothing is here yet");
        assert_eq!(hear(200, 80, 40), 1000);
        assert_eq!(hear(300, 90, 60), 900, "what was there at 100 is here, though never all of it at once");
        assert_eq!(hear(400, 90, 90), 600, "all is here that was there when it was heard last");
        assert_eq!(hear(500, 120, 100), 600);
    }

    #[test]
    fn the_end_of_a_primary_begins_a_term_and_nothing_else_does() {
        let replication = Replication::new(Assignment::primary(1, 2));
        replication.assign(Assignment::primary(1, 3));
        assert_eq!((replication.term(), replication.is_replica()), (0, false));
        replication.assign(Assignment::replica(1, 3, "a", 1));
        assert_eq!((replication.term(), replication.is_replica()), (1, true));
        let primary = |epoch| Assignment {
            parts: vec![Part::Primary { epoch: Some(Epoch(epoch)) }],
            ..Assignment::primary(1, 3)
        };
        replication.assign(primary(5));
        assert_eq!(
            (replication.term(), replication.is_replica()),
            (1, false),
            "nobody waited for a replica's replies"
        );
        replication.assign(primary(6));
        assert_eq!(replication.term(), 1, "it is the same history");
        replication.assign(Assignment::replica(1, 3, "a", 1));
        assert_eq!(replication.term(), 2);
    }

    #[test]
    fn partitions_differ_while_a_follower_is_in_step_with_some() {
        let replication = Replication::new(Assignment::primary(2, 2));
        let follow = |in_step: &[u16], journaled| {
            replication.with_progress(|progress| {
                let in_step = in_step.iter().map(|id| PartitionId(*id)).collect();
                *progress.follower(1) =
                    Follower { node: "a".to_owned(), in_step, journaled, ..Follower::default() };
            });
            [0, 1].map(|id| {
                let id = PartitionId(id);
                (replication.can_meet(id, WriteConcern::One), replication.acknowledged(id, WriteConcern::One))
            })
        };
        assert_eq!(follow(&[], 5), [(false, 0), (false, 0)]);
        assert_eq!(follow(&[1], 6), [(false, 0), (true, 6)]);
        assert_eq!(follow(&[0, 1], 7), [(true, 7), (true, 7)]);
    }

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
