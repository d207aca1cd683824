//! Nothing acknowledged is dropped in silence: a write that is in no node's history at the end was written out by a node that
//! had it, or went with the power before any disk had it.

use crate::history::{Place, place};
use crate::witness::{Event, Invariant, Known};
use larder::base::ids::{Lsn, PartitionId, Point};
use std::collections::BTreeMap;

/// What a node has written out.
struct Report {
    partition: PartitionId,
    common: Option<Lsn>,
    until: Point,
    node: usize,
}

/// See the module.
#[derive(Default)]
pub struct Lost {
    acknowledged: BTreeMap<PartitionId, Vec<Place>>,
    reports: Vec<Report>,
    /// Where partitions of nodes stood that lost some of it with the power.
    with_power: Vec<(PartitionId, Point)>,
}

impl Lost {
    /// Whether a node has written out this transaction.
    fn is_reported(&self, known: &Known, partition: PartitionId, write: Place) -> bool {
        self.reports.iter().filter(|report| report.partition == partition).any(|report| {
            report.common.is_none_or(|common| common < write.0)
                && known.history.leads(partition, write, place(report.until))
        })
    }

    fn went_with_power(&self, known: &Known, partition: PartitionId, write: Place) -> bool {
        let mut points = self.with_power.iter().filter(|(id, _)| *id == partition);
        points.any(|(_, point)| known.history.leads(partition, write, place(*point)))
    }
}

impl Invariant for Lost {
    fn observe(&mut self, event: &Event, known: &Known) -> Result<(), String> {
        match event {
            Event::Acknowledged { partition, point, .. } => {
                self.acknowledged.entry(*partition).or_default().push(place(*point));
            }
            Event::Reported { node, partition, common, until } => {
                let (node, partition, common, until) = (*node, *partition, *common, *until);
                self.reports.push(Report { partition, common, until, node });
            }
            Event::Installed { node, partition, before, after, kept } => {
                // Whatever of its own does not lead to the new history must have been written out by this very node.
                let common = known.history.common(*partition, place(*before), place(*after));
                let covers = |report: &Report| {
                    (report.node, report.partition, report.until) == (*node, *partition, *before)
                        && report.common.map_or(*kept, |reported| reported <= common)
                };
                if common < before.lsn && !self.reports.iter().any(covers) {
                    return Err(format!(
                        "node {node} has dropped what it had of partition {partition} behind {common} up to {before:?} for {after:?}"
                    ));
                }
            }
            Event::Crashed { node, power: true, lost_bytes: 1.. } => {
                let points = (0..).map(PartitionId).zip(&known.points[*node]);
                self.with_power.extend(points.map(|(partition, point)| (partition, *point)));
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, known: &Known) -> Result<(), String> {
        for (partition, writes) in &self.acknowledged {
            let last = known.points[0][usize::from(partition.0)];
            for write in writes {
                let is_there = known.history.leads(*partition, *write, place(last));
                if !is_there
                    && !self.is_reported(known, *partition, *write)
                    && !self.went_with_power(known, *partition, *write)
                {
                    return Err(format!(
                        "{write:?} of partition {partition} was acknowledged and is nowhere"
                    ));
                }
            }
        }
        Ok(())
    }
}
