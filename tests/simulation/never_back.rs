//! A replica never goes back: what it has applied stays applied, but for what its own crash takes and what it has written out
//! before a snapshot of another history takes its place.

use crate::history::place;
use crate::witness::{Event, Invariant, Known};
use larder::base::ids::{Lsn, PartitionId, Point};
use std::collections::BTreeMap;

/// See the module.
#[derive(Default)]
pub struct NeverBack {
    /// What was written out last, by node and partition: behind which transaction, and up to where.
    reported: BTreeMap<(usize, PartitionId), (Option<Lsn>, Point)>,
    /// Where the journals stood when their process ended.
    left: BTreeMap<(usize, PartitionId), Point>,
}

impl Invariant for NeverBack {
    fn observe(&mut self, event: &Event, known: &Known) -> Result<(), String> {
        match event {
            Event::Reported { node, partition, common, until } => {
                self.reported.insert((*node, *partition), (*common, *until));
            }
            Event::Applied { node, partition, before, .. } => {
                let last = known.points[*node][usize::from(partition.0)];
                if place(last) != place(*before) {
                    return Err(format!(
                        "node {node} went from {last:?} to {before:?} in partition {partition} by itself"
                    ));
                }
            }
            Event::Installed { node, partition, before, after, kept } => {
                let goes_on = known.history.leads(*partition, place(*before), place(*after));
                let reported = self.reported.get(&(*node, *partition));
                let is_reported =
                    reported.is_some_and(|(common, until)| until == before && (common.is_some() || *kept));
                if !goes_on && !is_reported {
                    return Err(format!(
                        "node {node} went back from {before:?} to {after:?} in partition {partition}, and did not say so"
                    ));
                }
            }
            Event::Crashed { node, .. } => {
                let disk = known.disks[*node].lock();
                for id in (0..disk.trees.len() as u16).map(PartitionId) {
                    self.left.insert((*node, id), disk.written_point(id));
                }
            }
            Event::Started { node, points } => {
                for (id, point) in (0..).map(PartitionId).zip(points) {
                    let left = self.left.get(&(*node, id)).copied().unwrap_or_default();
                    if place(left) != place(*point) {
                        return Err(format!(
                            "node {node} ended with partition {id} at {left:?} and starts at {point:?}"
                        ));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}
