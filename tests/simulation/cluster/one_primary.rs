//! At most one node answers for a partition at a time, and each in a later epoch than the one before.

use crate::witness::{Event, Invariant, Known};
use larder::base::ids::PartitionId;
use std::collections::BTreeMap;

/// See the module.
#[derive(Default)]
pub struct OnePrimary {
    /// Who answers for each partition, and in which epoch.
    answering: BTreeMap<PartitionId, (usize, u64)>,
    /// Who did last.
    last: BTreeMap<PartitionId, (usize, u64)>,
}

impl Invariant for OnePrimary {
    fn observe(&mut self, event: &Event, _: &Known) -> Result<(), String> {
        match event {
            Event::Answers { node, partition, epoch } => {
                let before = self.answering.insert(*partition, (*node, *epoch));
                if let Some((other, other_epoch)) = before.filter(|(other, _)| other != node) {
                    return Err(format!(
                        "nodes {other} (epoch {other_epoch}) and {node} (epoch {epoch}) answer for partition {partition} at a time"
                    ));
                }
                let last = self.last.insert(*partition, (*node, *epoch));
                if let Some((other, late)) =
                    last.filter(|(other, late)| late > epoch || (late == epoch && other != node))
                {
                    return Err(format!(
                        "node {node} answers for partition {partition} in epoch {epoch}; node {other} did so in epoch {late}"
                    ));
                }
            }
            Event::Silent { node, partition } => {
                self.answering.retain(|id, (who, _)| id != partition || who != node);
            }
            Event::Crashed { node, .. } => self.answering.retain(|_, (who, _)| who != node),
            _ => {}
        }
        Ok(())
    }
}
