//! Every node's history is the beginning of one that a primary has committed, transaction for transaction.

use crate::history::place;
use crate::witness::{Event, Invariant, Known};
use larder::base::ids::{PartitionId, Point};

/// See the module.
pub struct Prefix;

impl Invariant for Prefix {
    fn observe(&mut self, event: &Event, known: &Known) -> Result<(), String> {
        let is_known = |partition: PartitionId, point: Point| known.history.has(partition, place(point));
        match event {
            Event::Applied { node, partition, before, after } => {
                let continues = known.history.before(*partition, place(*after)) == Some(place(*before));
                if !continues {
                    return Err(format!(
                        "node {node} went from {before:?} to {after:?} in partition {partition}, which no primary did"
                    ));
                }
            }
            Event::Installed { node, partition, after, .. } if !is_known(*partition, *after) => {
                return Err(format!(
                    "node {node} has a snapshot of partition {partition} at {after:?}, which never was"
                ));
            }
            Event::Reported { node, partition, until: before, .. }
            | Event::Installed { node, partition, before, .. }
                if !is_known(*partition, *before) =>
            {
                return Err(format!("node {node} had partition {partition} at {before:?}, which never was"));
            }
            Event::Started { node, points } => {
                for (partition, point) in (0..).map(PartitionId).zip(points) {
                    if !is_known(partition, *point) {
                        return Err(format!(
                            "node {node} starts with partition {partition} at {point:?}, which never was"
                        ));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}
