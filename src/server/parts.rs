//! The parts that the cluster's map gives a node, and what its followers tell of the data: pure functions of the map and of replication.
//! The server's host and the simulated one ask the same ones.

use crate::base::concern::WriteConcern;
use crate::base::ids::{Epoch, NodeId, PartitionId};
use crate::cluster::lease::Holder;
use crate::cluster::map::{ClusterMap, Place};
use crate::replication::Replication;
use crate::replication::assignment::{Assignment, Counted, Part};
use std::collections::{BTreeMap, BTreeSet};

/// What a process has given up, each with the epoch in which it was its primary: a later promotion is another matter.
pub type GivenUp = BTreeMap<PartitionId, Epoch>;

/// Whether a partition was given up, as the primary of this epoch or of a later one.
pub fn is_given_up(given_up: &GivenUp, id: PartitionId, epoch: Epoch) -> bool {
    given_up.get(&id).is_some_and(|of| epoch <= *of)
}

/// Forgets what was given up where a promotion has come since, be it of this very process (simulation of the cluster, seed 4016282).
pub fn forget_given_up(given_up: &mut GivenUp, map: &ClusterMap) {
    given_up.retain(|id, epoch| map.place(*id).is_none_or(|place| place.epoch <= *epoch));
}

/// The parts of this process of a node. What it has given up it plays no part for. `reach` tells where a node serves links, `name` what
/// it calls itself there.
pub fn assignment(
    map: &ClusterMap,
    holder: Holder,
    given_up: &GivenUp,
    reach: impl Fn(NodeId) -> Option<(String, u16)>,
    name: impl Fn(NodeId) -> String,
) -> Assignment {
    let follow = |place: &Place| {
        let primary = place.primary.filter(|primary| *primary != holder.0)?;
        let (host, port) = reach(primary).filter(|_| place.copies().any(|node| node == holder.0))?;
        Some(Part::Replica { host, port, epoch: Some(place.epoch) })
    };
    let part = |(id, place): (PartitionId, &Place)| match place.is_of(holder) {
        true if is_given_up(given_up, id, place.epoch) => Part::Elsewhere,
        true => Part::Primary { epoch: Some(place.epoch) },
        false => follow(place).unwrap_or(Part::Elsewhere),
    };
    let counted = |place: &Place| -> Counted { Some(place.counted().map(&name).collect()) };
    // While there is a member too many, a majority is one of them all.
    let members = map.partitions.iter().map(|place| 1 + place.counted().count()).max().unwrap_or(0);
    Assignment {
        parts: map.places().map(part).collect(),
        copies: map.copies.max(members as u16),
        counted: map.partitions.iter().map(counted).collect(),
    }
}

/// Whether other nodes count for acknowledgements after a change of parts than before.
pub fn counts_others(before: &Assignment, after: &Assignment) -> bool {
    (before.copies, &before.counted) != (after.copies, &after.counted)
}

/// Whether something is primary after a change of parts that was not, or was in another epoch.
pub fn becomes_primary(before: &Assignment, after: &Assignment) -> bool {
    before.parts.iter().zip(&after.parts).any(|(before, part)| part.is_primary() && before != part)
}

/// Who follows, and has all of which partitions. Left out is who is not beyond `counted_from`, where the journal was when those who
/// count changed last: it may lack what others had acknowledged, who counted before and are about to go.
pub fn in_step(
    replication: &Replication,
    counted_from: u64,
    node: impl Fn(&str) -> Option<NodeId>,
) -> Vec<(NodeId, Vec<PartitionId>)> {
    let mut found: BTreeMap<NodeId, BTreeSet<PartitionId>> = BTreeMap::new();
    let followers = replication.followers().into_iter();
    for (_, follower) in followers.filter(|(_, follower)| follower.journaled >= counted_from) {
        if let Some(node) = node(&follower.node) {
            found.entry(node).or_default().extend(follower.in_step);
        }
    }
    found.into_iter().map(|(node, partitions)| (node, partitions.into_iter().collect())).collect()
}

/// Whether the follower with this name has everything of these partitions up to this position of the journal. (An old link of it may not
/// have ended yet.)
pub fn has(replication: &Replication, name: &str, position: u64, partitions: &[PartitionId]) -> bool {
    let followers = replication.followers();
    let links = followers.iter().filter(|(_, it)| it.node == name && it.journaled >= position);
    partitions.iter().all(|id| links.clone().any(|(_, follower)| follower.in_step.contains(id)))
}

/// Whether a majority of the copies of everything that this node is primary of follows it.
pub fn is_followed(replication: &Replication) -> bool {
    let parts = replication.assignment().parts;
    let mut parts = (0..).map(PartitionId).zip(&parts);
    parts.all(|(id, part)| !part.is_primary() || replication.can_meet(id, WriteConcern::Majority))
}
