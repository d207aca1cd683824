//! How a follower gets from where it stands to where its primary is. Decisions and searches; the links carry them out.
//!
//! A follower names the point its history stands at. The primary has the same history as far as its chain at that LSN is the
//! same: then the records behind it are enough. If its journal does not reach back so far, a snapshot is. If the chains differ,
//! the follower was a primary once, or followed another one, and has records that are in no history any more: it looks for the
//! last common one, writes the others out, and takes a snapshot.

use super::storage::{ReadError, Storage};
use super::wire::{Chain, Plan};
use crate::base::ids::{Lsn, PartitionId, Point};
use crate::store::journal::{Place, visit_sections};
use std::collections::BTreeMap;

/// Bytes of the journal looked through at a time.
const LOOK_BYTES: usize = 1 << 20;

/// What a follower that stands at `theirs` needs, where this node stands at `ours` and its journal has the chain `kept` at
/// that LSN, if it reaches back so far.
pub fn plan(theirs: Point, ours: Point, kept: Option<u32>) -> Plan {
    match kept {
        Some(chain) if chain == theirs.chain => Plan::Stream,
        Some(_) => Plan::OtherHistory,
        None if theirs.lsn > ours.lsn => Plan::OtherHistory,
        None if theirs.lsn == Lsn(0) || theirs.epoch == ours.epoch => Plan::Behind,
        None => Plan::Unknown,
    }
}

/// For each transaction, each of another partition, where the one behind it stands and its own chain; none if the journal does not
/// reach back so far, or not up to it.
pub fn places(
    storage: &dyn Storage,
    wanted: &[(PartitionId, Lsn)],
) -> Result<BTreeMap<PartitionId, Place>, ReadError> {
    // Before the points are read: what is committed afterwards stands behind it.
    let written = *storage.written().borrow();
    let (mut found, mut older) = (BTreeMap::new(), Vec::new());
    for (id, lsn) in wanted {
        let point = storage.point(*id);
        if *lsn == point.lsn {
            found.insert(*id, Place { position: written, previous: point.chain });
        } else if *lsn < point.lsn {
            older.push((*id, *lsn));
        }
    }
    if !older.is_empty() {
        storage.write_out().map_err(ReadError::Failed)?; // what is committed may not be written yet
        for ((id, _), place) in older.iter().zip(storage.locate(&older)?) {
            found.extend(place.map(|place| (*id, place)));
        }
    }
    Ok(found)
}

/// The transactions of a partition that this node's journal has, with their chains, oldest first; the first is the one before
/// the oldest record.
pub type OwnHistory = Vec<(Lsn, u32)>;

/// Whether a history is that of the partition as it is now.
pub fn is_up_to_date(history: &[(Lsn, u32)], point: Point) -> bool {
    history.last() == Some(&(point.lsn, point.chain))
}

/// What this node's journal has of each of these partitions, by one look through all of it.
pub fn own_histories(
    storage: &dyn Storage,
    partitions: &[PartitionId],
) -> Result<BTreeMap<PartitionId, OwnHistory>, ReadError> {
    let written = *storage.written().borrow();
    let mut histories: BTreeMap<PartitionId, OwnHistory> =
        partitions.iter().map(|id| (*id, OwnHistory::new())).collect();
    let mut records = storage.records(storage.oldest());
    while records.read(written, LOOK_BYTES, &mut |_, payload| {
        let _ = visit_sections(payload, |head, section| {
            let Some(found) = histories.get_mut(&head.partition) else { return };
            if found.last() != Some(&(Lsn(head.lsn.0 - 1), head.previous)) {
                *found = vec![(Lsn(head.lsn.0 - 1), head.previous)]; // what stands before is of a history that was replaced
            }
            found.push((head.lsn, crc32c::crc32c(section)));
        });
    })? {}
    for (id, found) in &mut histories {
        let point = storage.point(*id);
        if !is_up_to_date(found, point) {
            *found = vec![(point.lsn, point.chain)];
        }
    }
    Ok(histories)
}

/// The search for the last transaction that two histories have in common: if a transaction is common, so are all before it.
#[derive(Debug)]
pub struct Search {
    own: Vec<(Lsn, u32)>,
    /// The last that is known to be common.
    common: Option<Lsn>,
    /// The last common one, if one is known at all, does not stand below this index,
    low: usize,
    /// nor is it this one or one behind it.
    high: usize,
}

impl Search {
    /// Among these transactions of this node's, oldest first.
    pub fn new(own: Vec<(Lsn, u32)>) -> Search {
        Search { common: None, low: 0, high: own.len(), own }
    }

    /// Which transaction's chain to ask for next; none if the search is over.
    pub fn next(&self) -> Option<Lsn> {
        (self.low < self.high).then(|| self.own[self.middle()].0)
    }

    fn middle(&self) -> usize {
        usize::midpoint(self.low, self.high)
    }

    /// Takes the answer: what the other has as the chain of this transaction.
    pub fn answer(&mut self, lsn: Lsn, chain: Chain) {
        let middle = self.middle();
        if self.next() != Some(lsn) {
            return;
        }
        match chain {
            Chain::Is(chain) if chain == self.own[middle].1 => {
                self.common = Some(lsn);
                self.low = middle + 1;
            }
            // It may be common. Only what the other has kept can be known to be, and that stands behind it.
            Chain::NotKept => self.low = middle + 1,
            Chain::Is(_) | Chain::NotYet => self.high = middle,
        }
    }

    /// The last common transaction, once the search is over; none if there is none among those known.
    pub fn outcome(&self) -> Option<Lsn> {
        self.common
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Epoch;

    #[test]
    fn the_last_common_transaction_is_found_wherever_it_is() {
        let own: Vec<(Lsn, u32)> = (10..=40).map(|lsn| (Lsn(lsn), lsn as u32)).collect();
        for last_common in 9..=40 {
            let mut search = Search::new(own.clone());
            let mut asked = 0;
            while let Some(lsn) = search.next() {
                asked += 1;
                assert!(asked <= 6);
                search.answer(Lsn(3), Chain::Is(3)); // of something else
                search
                    .answer(lsn, if lsn.0 <= last_common { Chain::Is(lsn.0 as u32) } else { Chain::NotYet });
            }
            assert_eq!(search.outcome(), (last_common > 9).then_some(Lsn(last_common)));
        }
    }

    #[test]
    fn what_the_other_has_not_kept_does_not_hide_what_is_common() {
        let own: Vec<(Lsn, u32)> = (10..=40).map(|lsn| (Lsn(lsn), lsn as u32)).collect();
        for (oldest_kept, last_common) in
            (10..=41).flat_map(|oldest| (9..=40).map(move |last| (oldest, last)))
        {
            let mut search = Search::new(own.clone());
            while let Some(lsn) = search.next() {
                let kept = if lsn.0 <= last_common { lsn.0 as u32 } else { 0 };
                search.answer(lsn, if lsn.0 < oldest_kept { Chain::NotKept } else { Chain::Is(kept) });
            }
            assert_eq!(search.outcome(), (last_common >= oldest_kept).then_some(Lsn(last_common)));
        }
    }

    #[test]
    fn a_follower_gets_the_least_that_brings_it_there() {
        let point = |epoch, lsn, chain| Point { epoch: Epoch(epoch), lsn: Lsn(lsn), chain };
        let ours = point(2, 100, 7);
        assert_eq!(plan(point(2, 100, 7), ours, Some(7)), Plan::Stream);
        assert_eq!(plan(point(1, 50, 3), ours, Some(3)), Plan::Stream);
        assert_eq!(plan(point(1, 50, 4), ours, Some(3)), Plan::OtherHistory);
        assert_eq!(plan(point(2, 101, 4), ours, None), Plan::OtherHistory);
        assert_eq!(plan(point(2, 5, 4), ours, None), Plan::Behind);
        assert_eq!(plan(point(0, 0, 0), ours, None), Plan::Behind);
        assert_eq!(plan(point(1, 5, 4), ours, None), Plan::Unknown);
    }
}
