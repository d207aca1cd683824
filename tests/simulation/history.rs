//! What primaries have committed: a tree, because two primaries may continue the same history in two ways.
//!
//! A transaction is known by partition, LSN and chain; the chain stands for all that leads to it.

use larder::base::ids::{Lsn, PartitionId, Point};
use std::collections::HashMap;

/// A transaction of a partition: its LSN and its chain.
pub type Place = (Lsn, u32);

/// The place of a point.
pub fn place(point: Point) -> Place {
    (point.lsn, point.chain)
}

/// All transactions that were committed by primaries.
#[derive(Default)]
pub struct History {
    /// The chain of the one before each.
    before: HashMap<(PartitionId, Place), u32>,
}

impl History {
    /// A primary has committed this, behind the transaction with the chain `previous`.
    pub fn commit(&mut self, partition: PartitionId, place: Place, previous: u32) {
        self.before.insert((partition, place), previous);
    }

    /// Whether a primary has committed this.
    pub fn has(&self, partition: PartitionId, place: Place) -> bool {
        place == (Lsn(0), 0) || self.before.contains_key(&(partition, place))
    }

    /// The transaction before this one.
    pub fn before(&self, partition: PartitionId, (lsn, chain): Place) -> Option<Place> {
        let previous = *self.before.get(&(partition, (lsn, chain)))?;
        Some((Lsn(lsn.0 - 1), previous))
    }

    /// The transaction with this LSN in the history that leads to `late`.
    pub fn at(&self, partition: PartitionId, mut late: Place, lsn: Lsn) -> Option<Place> {
        while late.0 > lsn {
            late = self.before(partition, late)?;
        }
        (late.0 == lsn).then_some(late)
    }

    /// Whether `early` is part of the history that leads to `late`.
    pub fn leads(&self, partition: PartitionId, early: Place, late: Place) -> bool {
        self.at(partition, late, early.0) == Some(early)
    }

    /// The LSN of the last transaction that both histories have.
    pub fn common(&self, partition: PartitionId, a: Place, b: Place) -> Lsn {
        let mut lsn = a.0.min(b.0);
        let (mut a, mut b) = (self.at(partition, a, lsn), self.at(partition, b, lsn));
        while a != b && lsn.0 > 0 {
            (a, b) = (
                a.and_then(|place| self.before(partition, place)),
                b.and_then(|place| self.before(partition, place)),
            );
            lsn.0 -= 1;
        }
        lsn
    }
}
