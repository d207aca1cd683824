//! What was decided is decided: maps of one version are equal wherever and whenever they are seen, the history in them is one, and
//! what a client was told is in it at once.

use crate::consensus::witness::{Event, Invariant};
use larder::cluster::map::ClusterMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// See the module.
#[derive(Default)]
pub struct Maps {
    /// By version.
    versions: BTreeMap<u64, Arc<ClusterMap>>,
    /// By the epoch that a command made: the command.
    history: BTreeMap<u64, i64>,
    /// By node: the version its process saw last.
    seen: BTreeMap<usize, u64>,
    /// When clients were told, and the epoch that was decided then at least.
    decided: Vec<(u64, u64)>,
}

impl Maps {
    fn see(&mut self, node: usize, map: &Arc<ClusterMap>) -> Result<(), String> {
        let before = self.seen.insert(node, map.version).unwrap_or_default();
        if before > map.version {
            return Err(format!("node {node} went from version {before} to {}", map.version));
        }
        let known = self.versions.entry(map.version).or_insert_with(|| Arc::clone(map));
        if known != map {
            return Err(format!(
                "node {node} has another map of version {} than was seen before",
                map.version
            ));
        }
        for failover in &map.failovers {
            let known = *self.history.entry(failover.epoch.0).or_insert(failover.at_ms);
            if known != failover.at_ms {
                return Err(format!(
                    "epoch {} was made by command {known}, and at node {node} by {}",
                    failover.epoch.0, failover.at_ms
                ));
            }
        }
        Ok(())
    }
}

impl Invariant for Maps {
    fn observe(&mut self, now_us: u64, event: &Event) -> Result<(), String> {
        match event {
            Event::Started { node } => {
                self.seen.remove(node);
                Ok(())
            }
            Event::Sees { node, map } => self.see(*node, &map.0),
            Event::Decided { node, epoch, command, asked_us } => {
                let before = self.decided.partition_point(|(told_us, _)| told_us < asked_us);
                let highest = before.checked_sub(1).map_or(0, |at| self.decided[at].1);
                // It came too late if another was first; else its place is the one behind what it was for.
                let place = self.history.get(&(epoch + 1)).copied();
                let so_far = self.decided.last().map_or(0, |(_, epoch)| *epoch);
                self.decided.push((now_us, so_far.max(epoch + 1)));
                match place {
                    None => Err(format!("node {node}: command {command} was decided, and is nowhere")),
                    Some(found) if found == *command && highest > *epoch => Err(format!(
                        "node {node}: command {command} was decided for epoch {epoch}, when {highest} had been"
                    )),
                    Some(_) => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}
