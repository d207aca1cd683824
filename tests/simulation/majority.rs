//! What a client was told is safe is: in the journals of as many nodes as its write concern names, at that moment; and, for a
//! majority, in the history of every primary that comes after, as long as each is the most advanced of a majority.

use crate::history::{Place, place};
use crate::witness::{Event, Invariant, Known};
use larder::base::concern::WriteConcern;
use larder::base::ids::{Epoch, PartitionId, Point};
use std::collections::BTreeMap;

/// See the module.
pub struct Majority {
    /// Whether promotions are such that acknowledged writes survive them.
    pub survives: bool,
    /// The last write of each epoch that a majority acknowledged.
    acknowledged: BTreeMap<(PartitionId, Epoch), Place>,
    /// Where partitions stood when the power took some of it: it was there when it was told.
    with_power: Vec<(usize, PartitionId, Place)>,
}

impl Majority {
    /// Nothing was acknowledged.
    pub fn new(survives: bool) -> Majority {
        Majority { survives, acknowledged: BTreeMap::new(), with_power: Vec::new() }
    }

    /// Whether a node has what was acknowledged before this epoch. (A node may learn late that it was promoted, when another is already
    /// in a later epoch: then it answers nobody.)
    fn check_survival(
        &self,
        known: &Known,
        node: usize,
        (partition, before): (PartitionId, Epoch),
        point: Point,
    ) -> Result<(), String> {
        let earlier = self.acknowledged.range((partition, Epoch(0))..(partition, before));
        let Some((_, last)) = earlier.last() else { return Ok(()) };
        if self.survives && !known.history.leads(partition, *last, place(point)) {
            return Err(format!(
                "node {node} is at {point:?} in partition {partition} and lacks {last:?}, which a majority had acknowledged"
            ));
        }
        Ok(())
    }
}

impl Invariant for Majority {
    fn observe(&mut self, event: &Event, known: &Known) -> Result<(), String> {
        match event {
            Event::Acknowledged { node, partition, point, concern } => {
                let wanted = usize::from(concern.replicas(known.disks.len() as u16)) + 1;
                let leads_to = |late: Place| known.history.leads(*partition, place(*point), late);
                let has = |node: &usize| {
                    let written = known.disks[*node].lock().written_point(*partition);
                    let mut had = self.with_power.iter().filter(|(of, id, _)| (of, id) == (node, partition));
                    leads_to(place(written)) || had.any(|(_, _, late)| leads_to(*late))
                };
                let found = (0..known.disks.len()).filter(has).count();
                if found < wanted {
                    return Err(format!(
                        "node {node} acknowledged {point:?} of partition {partition} for {}, and {found} nodes have it",
                        concern.name()
                    ));
                }
                if *concern >= WriteConcern::Majority {
                    let last = self.acknowledged.entry((*partition, point.epoch)).or_insert(place(*point));
                    if last.0 < point.lsn {
                        *last = place(*point);
                    }
                }
            }
            Event::Crashed { node, power: true, lost_bytes: 1.. } => {
                let points = (0..).map(PartitionId).zip(&known.points[*node]);
                self.with_power.extend(points.map(|(id, point)| (*node, id, place(*point))));
            }
            Event::Promoted { node, partition, point } => {
                self.check_survival(known, *node, (*partition, point.epoch), *point)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, known: &Known) -> Result<(), String> {
        for (node, points) in known.points.iter().enumerate() {
            for (partition, point) in (0..).map(PartitionId).zip(points) {
                self.check_survival(known, node, (partition, Epoch(u64::MAX)), *point)?;
            }
        }
        Ok(())
    }
}
