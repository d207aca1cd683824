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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::map::{Command, Member, Promotion, Reason, Shape};

    fn promoted(map: &mut ClusterMap, to: NodeId, incarnation: u64) -> Epoch {
        let (partition, position) = (PartitionId(0), Default::default());
        let if_epoch = map.partitions[0].epoch;
        let promotions = vec![Promotion { partition, if_epoch, to, incarnation, position }];
        map.apply(Command::Promote { promotions, reason: Reason::Handover, at_ms: 0 });
        map.partitions[0].epoch
    }

    #[test]
    fn what_was_given_up_and_came_back_is_another_matter() {
        let (me, other) = (NodeId([1; 20]), NodeId([2; 20]));
        let mut map = ClusterMap::default();
        let members = [me, other].map(|node| (node, Member::default())).to_vec();
        map.apply(Command::Found { cluster: me, partitions: 1, copies: 2, shape: Shape::Together, members });
        let part = |map: &ClusterMap, given_up: &GivenUp| {
            assignment(map, (me, 7), given_up, |_| None, |node| node.to_string()).parts[0].clone()
        };
        let epoch = promoted(&mut map, me, 7);
        let mut given_up = GivenUp::from([(PartitionId(0), epoch)]);
        assert_eq!(part(&map, &given_up), Part::Elsewhere);
        forget_given_up(&mut given_up, &map);
        assert_eq!(given_up.len(), 1, "nobody else was promoted");
        // Over a map that this process may never see.
        promoted(&mut map, other, 1);
        let again = promoted(&mut map, me, 7);
        assert_eq!(part(&map, &given_up), Part::Primary { epoch: Some(again) });
        forget_given_up(&mut given_up, &map);
        assert!(given_up.is_empty());
    }
}
