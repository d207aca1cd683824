//! The witness: is told everything that happens, asks each invariant about it, and keeps a trace that is the same for the same
//! seed.

use crate::disk::Disk;
use crate::history::{History, place};
use crate::seeds::Violation;
use larder::base::concern::WriteConcern;
use larder::base::ids::{Lsn, PartitionId, Point};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// Events that are shown when a seed fails, unless `LARDER_EVENTS` says how many.
const SHOWN: usize = 120;

/// What happens. Nodes are known by number.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "some of it is there to be shown")]
pub enum Event {
    /// A process began; its partitions stand at these points.
    Started { node: usize, points: Vec<Point> },
    /// A process ended; what it had not written is lost, and what it had not synced as well if the power went.
    Crashed { node: usize, power: bool, lost_bytes: u64 },
    /// A node is the primary of a partition from now on, at this point.
    Promoted { node: usize, partition: PartitionId, point: Point },
    /// A primary has committed a transaction.
    Committed { node: usize, partition: PartitionId, point: Point, previous: u32 },
    /// A client was told that its write is safe.
    Acknowledged { node: usize, partition: PartitionId, point: Point, concern: WriteConcern },
    /// A replica has applied records.
    Applied { node: usize, partition: PartitionId, before: Point, after: Point },
    /// A snapshot was offered to a replica, which has this much of it already.
    Receiving { node: usize, partition: PartitionId, point: Point, offset: u64 },
    /// A snapshot took the place of what a replica had, which is kept aside if `kept`.
    Installed { node: usize, partition: PartitionId, before: Point, after: Point, kept: bool },
    /// A replica has written out what it has behind `common`, up to `until`.
    Reported { node: usize, partition: PartitionId, common: Option<Lsn>, until: Point },
    /// The journal of a node no longer has what stands before this position.
    Dropped { node: usize, oldest: u64 },
    /// A node of a cluster answers for a partition from now on, in this epoch.
    Answers { node: usize, partition: PartitionId, epoch: u64 },
    /// It does not any more.
    Silent { node: usize, partition: PartitionId },
    /// A node of a cluster has a map in force. The number stands for all that is in it; epochs are by partition.
    InForce { node: usize, version: u64, digest: u64, epochs: Vec<u64> },
    /// A fault begins or ends.
    Fault(String),
}

impl Event {
    /// What is counted.
    fn kind(&self) -> &str {
        match self {
            Event::Started { .. } => "starts",
            Event::Crashed { power: false, .. } => "kills",
            Event::Crashed { power: true, .. } => "power losses",
            Event::Promoted { .. } => "promotions",
            Event::Committed { .. } => "commits",
            Event::Acknowledged { .. } => "acknowledgements",
            Event::Applied { .. } => "applied records",
            Event::Receiving { offset: 0, .. } => "snapshots begun",
            Event::Receiving { .. } => "snapshots resumed",
            Event::Installed { kept: false, .. } => "snapshots installed",
            Event::Installed { kept: true, .. } => "snapshots installed, old kept",
            Event::Reported { common: Some(_), .. } => "tails reported",
            Event::Reported { common: None, .. } => "unknown tails reported",
            Event::Dropped { .. } => "journal drops",
            Event::Answers { .. } => "answering begun",
            Event::Silent { .. } => "answering ended",
            Event::InForce { .. } => "maps in force",
            Event::Fault(what) => what.split(':').next().unwrap_or_default(),
        }
    }
}

/// What invariants may look at.
pub struct Known {
    /// What primaries have committed.
    pub history: History,
    /// Of each node.
    pub disks: Vec<Arc<Mutex<Disk>>>,
    /// Where each node's partitions stand, as it was told.
    pub points: Vec<Vec<Point>>,
}

/// What must always hold.
pub trait Invariant: Send {
    /// Looks at what has happened; `known` is from before it.
    fn observe(&mut self, _event: &Event, _known: &Known) -> Result<(), String> {
        Ok(())
    }

    /// So many bytes are on their way to a follower.
    fn measure(&mut self, _in_flight: u64) -> Result<(), String> {
        Ok(())
    }

    /// Looks at what there is when all is quiet again.
    fn finish(&mut self, _known: &Known) -> Result<(), String> {
        Ok(())
    }
}

/// See the module.
pub struct Witness(Mutex<Inner>);

struct Inner {
    known: Known,
    /// Looked at is this one alone.
    only: Option<&'static str>,
    invariants: Vec<(&'static str, Box<dyn Invariant>)>,
    now_ms: u64,
    numbers: u64,
    hash: Xxh3,
    recent: VecDeque<String>,
    shown: usize,
    counts: BTreeMap<String, u64>,
    violation: Option<Violation>,
}

impl Witness {
    /// Of a world with these disks.
    pub fn new(
        disks: Vec<Arc<Mutex<Disk>>>,
        partitions: u16,
        only: Option<&'static str>,
        invariants: Vec<(&'static str, Box<dyn Invariant>)>,
    ) -> Witness {
        let points = vec![vec![Point::default(); usize::from(partitions)]; disks.len()];
        Witness(Mutex::new(Inner {
            known: Known { history: History::default(), disks, points },
            only,
            invariants,
            now_ms: 0,
            numbers: 0,
            hash: Xxh3::new(),
            recent: VecDeque::new(),
            shown: crate::number("LARDER_EVENTS", SHOWN as u64) as usize,
            counts: BTreeMap::new(),
            violation: None,
        }))
    }

    /// Something has happened.
    pub fn tell(&self, event: Event) {
        self.0.lock().tell(event);
    }

    /// So many bytes are on their way to a follower.
    pub fn measure(&self, in_flight: u64) {
        let inner = &mut *self.0.lock();
        let broken =
            inner.invariants.iter_mut().find_map(|(name, it)| Some((*name, it.measure(in_flight).err()?)));
        inner.note_violation(broken);
    }

    /// All is quiet.
    pub fn finish(&self) {
        let inner = &mut *self.0.lock();
        let known = &inner.known;
        let broken =
            inner.invariants.iter_mut().find_map(|(name, it)| Some((*name, it.finish(known).err()?)));
        inner.note_violation(broken);
    }

    /// Something went wrong that is no invariant's matter: a panic, or an end that does not come.
    pub fn fail(&self, invariant: &'static str, what: String) {
        self.0.lock().note_violation(Some((invariant, what)));
    }

    /// Virtual time goes on.
    pub fn set_now(&self, now_ms: u64) {
        self.0.lock().now_ms = now_ms;
    }

    /// Virtual milliseconds since 1970.
    pub fn wall_clock_ms(&self) -> i64 {
        1_700_000_000_000 + self.0.lock().now_ms as i64
    }

    /// A number that is given once.
    pub fn number(&self) -> u64 {
        let inner = &mut *self.0.lock();
        inner.numbers += 1;
        inner.numbers
    }

    /// What was broken first, if anything was.
    pub fn violation(&self) -> Option<Violation> {
        self.0.lock().violation.clone()
    }

    /// A number that stands for all that has happened.
    pub fn trace(&self) -> u64 {
        self.0.lock().hash.digest()
    }

    /// How often each kind of thing has happened.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.0.lock().counts.clone()
    }
}

impl Inner {
    fn tell(&mut self, event: Event) {
        let line = format!("{:>7} ms  {event:?}", self.now_ms);
        self.hash.update(line.as_bytes());
        if self.recent.len() == self.shown {
            self.recent.pop_front();
        }
        self.recent.push_back(line);
        *self.counts.entry(event.kind().to_owned()).or_default() += 1;
        if let Event::Committed { partition, point, previous, .. } = event {
            self.known.history.commit(partition, place(point), previous);
        }
        let known = &self.known;
        let broken =
            self.invariants.iter_mut().find_map(|(name, it)| Some((*name, it.observe(&event, known).err()?)));
        self.note_violation(broken);
        match event {
            Event::Started { node, points } => self.known.points[node] = points,
            Event::Committed { node, partition, point, .. }
            | Event::Applied { node, partition, after: point, .. }
            | Event::Installed { node, partition, after: point, .. } => {
                self.known.points[node][usize::from(partition.0)] = point;
            }
            _ => {}
        }
    }

    fn note_violation(&mut self, broken: Option<(&'static str, String)>) {
        let broken = broken.filter(|(name, _)| self.only.is_none_or(|only| only == *name));
        if let (Some((name, what)), None) = (broken, &self.violation) {
            let recent: Vec<String> = self.recent.iter().cloned().collect();
            let story = format!("{}\n{name}: {what}", recent.join("\n"));
            self.violation = Some(Violation { invariant: name, story });
        }
    }
}
