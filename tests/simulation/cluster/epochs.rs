//! Epochs only grow, for each partition and on each node; maps come into force in their order, and two of one version are the same.

use crate::witness::{Event, Invariant, Known};
use std::collections::BTreeMap;

/// See the module.
#[derive(Default)]
pub struct Epochs {
    /// What maps are, by version.
    maps: BTreeMap<u64, (u64, Vec<u64>)>,
    /// The version in force on each node.
    in_force: BTreeMap<usize, u64>,
}

impl Invariant for Epochs {
    fn observe(&mut self, event: &Event, _: &Known) -> Result<(), String> {
        match event {
            Event::InForce { node, version, digest, epochs } => {
                if self.in_force.insert(*node, *version).is_some_and(|before| before > *version) {
                    return Err(format!("node {node} went back to version {version}"));
                }
                let (known, _) = self.maps.entry(*version).or_insert_with(|| (*digest, epochs.clone()));
                if known != digest {
                    return Err(format!("there are two maps of version {version}; node {node} has one"));
                }
                let grows = |(before, after): (&u64, &u64)| before <= after;
                let is_after = |other: &Vec<u64>| other.iter().zip(epochs).all(grows);
                let is_before = |other: &Vec<u64>| epochs.iter().zip(other).all(grows);
                let late = self.maps.range(version + 1..).next();
                let early = self.maps.range(..version).next_back();
                if early.is_some_and(|(_, (_, other))| !is_after(other))
                    || late.is_some_and(|(_, (_, other))| !is_before(other))
                {
                    return Err(format!(
                        "epochs {epochs:?} of version {version}: one went back; {early:?}, {late:?}"
                    ));
                }
            }
            // What a process has in force at its start is what it finds on its shelf, or the beginning.
            Event::Crashed { node, .. } => _ = self.in_force.remove(node),
            _ => {}
        }
        Ok(())
    }
}
