//! What a node has that survives its process: the journal as far as it is written, the trees, snapshots on their way in.

use larder::base::ids::{Lsn, PartitionId, Point};
use larder::replication::wire::Offer;
use larder::store::journal::{Place, visit_sections};
use rand::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Bytes of the mark that follows a sync.
const MARK_BYTES: u64 = 31;

/// A record of the journal, or a mark.
#[derive(Clone)]
pub struct Entry {
    /// Where it begins.
    pub position: u64,
    /// Where the next one begins.
    pub end: u64,
    /// None of a mark.
    pub payload: Option<Arc<[u8]>>,
    /// Of each section: whose it is, the chain before it, and where the history stands with it.
    pub sections: Vec<(PartitionId, u32, Point)>,
}

/// A partition as of its last checkpoint.
#[derive(Clone, Default)]
pub struct Tree {
    /// Where its history stands.
    pub point: Point,
    /// Its rows; empty if there never was a checkpoint.
    pub image: Vec<u8>,
    /// What the journal has of the partition before this position is in it.
    pub position: u64,
    /// What the journal has of the partition before this position is of another history.
    pub history_start: u64,
}

/// A snapshot on its way in.
pub struct Arrival {
    /// What it is.
    pub offer: Offer,
    /// What came of it so far.
    pub bytes: Vec<u8>,
    /// How much of that a power loss leaves.
    pub synced: usize,
}

/// See the module.
#[derive(Default)]
pub struct Disk {
    /// Oldest first.
    pub journal: VecDeque<Entry>,
    /// Where the journal begins.
    pub oldest: u64,
    /// Where it ends, with what is in the process only.
    pub appended: u64,
    /// Up to here the end of the process loses nothing.
    pub written: u64,
    /// Up to here a power loss loses nothing.
    pub synced: u64,
    /// By partition.
    pub trees: Vec<Tree>,
    /// By partition.
    pub arrivals: BTreeMap<PartitionId, Arrival>,
}

impl Disk {
    /// Of a new node.
    pub fn new(partitions: u16) -> Disk {
        Disk { trees: vec![Tree::default(); usize::from(partitions)], ..Disk::default() }
    }

    /// Appends a record. Returns where the next one begins.
    pub fn append(&mut self, payload: &[u8]) -> u64 {
        let mut sections = Vec::new();
        visit_sections(payload, |head, section| {
            let point = Point { epoch: head.epoch, lsn: head.lsn, chain: crc32c::crc32c(section) };
            sections.push((head.partition, head.previous, point));
        })
        .expect("stores make records of the form that they read");
        let (position, end) = (self.appended, self.appended + payload.len() as u64 + 8);
        self.journal.push_back(Entry { position, end, payload: Some(payload.into()), sections });
        self.appended = end;
        end
    }

    /// Syncs what is written, and notes that in the journal, if there was anything to sync.
    pub fn sync(&mut self) {
        if self.synced == self.written {
            return;
        }
        self.synced = self.written;
        let (position, end) = (self.appended, self.appended + MARK_BYTES);
        let is_alone = self.written == self.appended;
        self.journal.push_back(Entry { position, end, payload: None, sections: Vec::new() });
        self.appended = end;
        if is_alone {
            // Nothing is lost with the mark itself.
            (self.written, self.synced) = (end, end);
        }
    }

    /// The process ends; the journal keeps what stands before `end`, which is where a record ends. All of that is on disk if the power
    /// went.
    pub fn cut(&mut self, end: u64, power: bool) {
        while self.journal.back().is_some_and(|entry| entry.end > end) {
            self.journal.pop_back();
        }
        self.appended = self.journal.back().map_or(self.oldest, |entry| entry.end);
        self.written = self.appended;
        self.synced = if power { self.appended } else { self.synced.min(self.appended) };
    }

    /// Takes what the end of the process, or of the power, takes with it. Returns how many bytes of what was written.
    pub fn lose(&mut self, power: bool, random: &mut StdRng) -> u64 {
        let before = self.written;
        let end = if power {
            let unsynced =
                self.journal.iter().filter(|entry| entry.end > self.synced && entry.end <= self.written);
            let ends: Vec<u64> = unsynced.map(|entry| entry.end).chain([self.synced]).collect();
            self.arrivals.values_mut().for_each(|arrival| arrival.bytes.truncate(arrival.synced));
            *ends.choose(random).expect("there is one")
        } else {
            self.written
        };
        self.cut(end, power);
        before - self.written
    }

    /// Drops what stands before `position`.
    pub fn drop_before(&mut self, position: u64) {
        while self.journal.front().is_some_and(|entry| entry.end <= position) {
            self.journal.pop_front();
        }
        self.oldest = self.journal.front().map_or(self.appended, |entry| entry.position);
    }

    /// Where a partition's history stands, as far as the end of the process loses nothing.
    pub fn written_point(&self, partition: PartitionId) -> Point {
        let tree = &self.trees[usize::from(partition.0)];
        let of_tree = tree.point;
        let written = self.journal.iter().rev().filter(|entry| entry.end <= self.written);
        let of_history = written.take_while(|entry| entry.position >= tree.position.max(tree.history_start));
        let mut points = of_history.flat_map(|entry| &entry.sections).filter(|(id, _, _)| *id == partition);
        points.next().map_or(of_tree, |(_, _, point)| *point)
    }

    /// Where the transaction behind this one stands in the journal, if it has it.
    pub fn locate(&self, partition: PartitionId, lsn: Lsn) -> Option<Place> {
        let start = self.trees[usize::from(partition.0)].history_start;
        let written =
            self.journal.iter().filter(|entry| entry.position >= start && entry.end <= self.written);
        let mut places = written.filter_map(|entry| {
            let section =
                entry.sections.iter().find(|(id, _, point)| *id == partition && point.lsn.0 == lsn.0 + 1)?;
            Some(Place { position: entry.position, previous: section.1 })
        });
        places.next()
    }

    /// Whether the journal has all of a partition's transactions from the first to the last, of its present history.
    pub fn has_all(&self, partition: PartitionId, first: u64, last: u64) -> bool {
        let start = self.trees[usize::from(partition.0)].history_start;
        let entries =
            self.journal.iter().filter(|entry| entry.position >= start && entry.end <= self.written);
        let sections = entries.flat_map(|entry| &entry.sections).filter(|(id, ..)| *id == partition);
        let found = sections.filter(|(_, _, point)| (first..=last).contains(&point.lsn.0)).count() as u64;
        found == last + 1 - first
    }
}
