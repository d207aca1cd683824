//! The cluster as a node sees it, in one moment: what CLUSTER and SENTINEL show. Values only, so that it is tested without a cluster.

use crate::base::ids::{Epoch, NodeId, PartitionId, SLOTS, Slot};
use crate::cluster::map::{Address, ClusterMap, Place};
use crate::cluster::membership::View;
use crate::protocol::reply::Reply;
use crate::session::service::Service;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// See the module.
pub struct Shown {
    /// This node.
    pub me: NodeId,
    /// What is decided.
    pub map: Arc<ClusterMap>,
    /// Who is there.
    pub view: Arc<View>,
    /// Who may be gone: a connection to it broke a moment ago.
    pub suspects: BTreeSet<NodeId>,
    /// Whether this node knows of somebody who leads.
    pub has_leader: bool,
    /// Wall clock, milliseconds since 1970.
    pub now_ms: i64,
}

/// Slots that stand side by side, the last one included, and who has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first slot.
    pub first: u16,
    /// The last one.
    pub last: u16,
    /// Who answers.
    pub primary: NodeId,
    /// Who follows.
    pub replicas: Vec<NodeId>,
}

/// What a node is for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It answers for something, or has nothing.
    Primary,
    /// It has only copies: most of them of what this node has.
    ReplicaOf(NodeId),
}

impl Shown {
    /// What is to be shown now; none if this server is in no cluster.
    pub fn of(service: &Service, now_ms: i64) -> Option<Shown> {
        let node = service.cluster.get()?;
        let has_leader = node.control().leading().borrow().leader.is_some();
        let (map, view) = (node.map(), node.view());
        let suspects = map.nodes.keys().copied().filter(|other| node.is_suspect(*other)).collect();
        Some(Shown { me: node.me(), map, view, suspects, has_leader, now_ms })
    }

    /// Whether a node is heard.
    pub fn is_live(&self, node: NodeId) -> bool {
        node == self.me || self.view.live.contains_key(&node)
    }

    /// Where a node is reached: as it says, or else as the map does.
    pub fn address(&self, node: NodeId) -> Address {
        let heard = self.view.live.get(&node).or_else(|| self.view.dead.get(&node));
        let heard = heard.map(|profile| &profile.address).filter(|address| address.port != 0);
        heard.or_else(|| self.map.nodes.get(&node).map(|member| &member.address)).cloned().unwrap_or_default()
    }

    /// Everybody in the cluster, and this node.
    pub fn nodes(&self) -> Vec<NodeId> {
        let all: BTreeSet<NodeId> = self.map.nodes.keys().copied().chain([self.me]).collect();
        all.into_iter().collect()
    }

    /// Slots with their nodes, in order, as few ranges as possible.
    pub fn ranges(&self) -> Vec<Range> {
        let partitions = self.map.partitions.len() as u16;
        let mut ranges: Vec<Range> = Vec::new();
        for (id, Place { primary, replicas, .. }) in self.map.places() {
            let Some(primary) = *primary else { continue };
            let (first, end) = (id.first_slot(partitions).0, PartitionId(id.0 + 1).first_slot(partitions).0);
            match ranges.last_mut() {
                Some(range)
                    if range.last + 1 == first && range.primary == primary && range.replicas == *replicas =>
                {
                    range.last = end - 1;
                }
                _ => ranges.push(Range { first, last: end - 1, primary, replicas: replicas.clone() }),
            }
        }
        ranges
    }

    /// Ranges of slots that a node answers for.
    pub fn ranges_of(&self, node: NodeId) -> Vec<(u16, u16)> {
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for range in self.ranges().iter().filter(|range| range.primary == node) {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == range.first => *last = range.last,
                _ => ranges.push((range.first, range.last)),
            }
        }
        ranges
    }

    /// What a node is.
    pub fn role(&self, node: NodeId) -> Role {
        let mut followed: BTreeMap<NodeId, usize> = BTreeMap::new();
        for place in &self.map.partitions {
            if place.primary == Some(node) {
                return Role::Primary;
            }
            if let Some(primary) = place.primary.filter(|_| place.replicas.contains(&node)) {
                *followed.entry(primary).or_default() += 1;
            }
        }
        let most = followed.into_iter().max_by_key(|(_, partitions)| *partitions);
        most.map_or(Role::Primary, |(primary, _)| Role::ReplicaOf(primary))
    }

    /// The highest epoch of what a node answers for, or of what it follows.
    pub fn epoch_of(&self, node: NodeId) -> Epoch {
        let of = match self.role(node) {
            Role::Primary => node,
            Role::ReplicaOf(primary) => primary,
        };
        let own = self.map.partitions.iter().filter(|place| place.primary == Some(of));
        own.map(|place| place.epoch).max().unwrap_or_default()
    }

    /// Nodes that answer for something.
    pub fn primaries(&self) -> BTreeSet<NodeId> {
        self.map.partitions.iter().filter_map(|place| place.primary).collect()
    }

    /// How many slots are in partitions of which this is so.
    pub fn count_slots(&self, is_so: impl Fn(&Place) -> bool) -> usize {
        let partitions = self.map.partitions.len() as u16;
        let slots = |id: u16| {
            let (first, end) =
                (PartitionId(id).first_slot(partitions), PartitionId(id + 1).first_slot(partitions));
            usize::from(end.0 - first.0)
        };
        (0..).zip(&self.map.partitions).filter(|(_, place)| is_so(place)).map(|(id, _)| slots(id)).sum()
    }

    /// Every slot has somebody who answers for it, and this node is not alone.
    pub fn is_ok(&self) -> bool {
        self.has_leader && self.count_slots(|place| place.primary.is_some()) == usize::from(SLOTS)
    }

    /// The node of this name.
    pub fn find(&self, name: &[u8]) -> Option<NodeId> {
        let node = std::str::from_utf8(name).ok()?.parse().ok()?;
        self.nodes().contains(&node).then_some(node)
    }
}

/// A node's host for clients: none if it is not known, which tells them to stay with the one they have.
pub fn endpoint(address: &Address) -> Reply {
    if address.host.is_empty() { Reply::Null } else { Reply::bulk(&address.host) }
}

/// The slot that a word names.
pub fn slot(number: i64) -> Option<Slot> {
    u16::try_from(number).ok().filter(|slot| *slot < SLOTS).map(Slot)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::cluster::map::Member;
    use crate::cluster::membership::Profile;

    pub fn node(number: u8) -> NodeId {
        NodeId([number; 20])
    }

    /// Three nodes, of which the third is dead; places are a primary and its replicas.
    pub fn shown(places: &[(u8, &[u8])]) -> Shown {
        let mut map = ClusterMap { cluster: Some(node(99)), ..ClusterMap::default() };
        let mut view = View::default();
        for number in 1..=3 {
            let address = Address { host: format!("10.0.0.{number}"), port: 6379, bus_port: 16379 };
            let member = Member { address: address.clone(), ..Member::default() };
            map.nodes.insert(node(number), member);
            let profile = Profile { node: node(number), address, ..Profile::default() };
            let group = if number == 3 { &mut view.dead } else { &mut view.live };
            group.insert(node(number), profile);
        }
        for (epoch, (primary, replicas)) in (1..).zip(places) {
            let replicas = replicas.iter().map(|number| node(*number)).collect();
            let primary = Some(node(*primary)).filter(|_| *primary != 0);
            map.partitions.push(Place { primary, epoch: Epoch(epoch), replicas, ..Place::default() });
        }
        let (map, view) = (Arc::new(map), Arc::new(view));
        Shown { me: node(1), map, view, suspects: BTreeSet::new(), has_leader: true, now_ms: 5000 }
    }

    #[test]
    fn ranges_are_as_few_as_possible_and_cover_all() {
        let together = shown(&[(1, &[2, 3]), (1, &[2, 3]), (1, &[2, 3])]);
        let range = Range { first: 0, last: 16383, primary: node(1), replicas: vec![node(2), node(3)] };
        assert_eq!(together.ranges(), [range]);
        let spread = shown(&[(1, &[2]), (2, &[3]), (2, &[1]), (0, &[])]);
        let ranges: Vec<_> = spread.ranges().iter().map(|range| (range.first, range.last)).collect();
        assert_eq!(ranges, [(0, 4095), (4096, 8191), (8192, 12287)]);
        assert_eq!(spread.ranges_of(node(2)), [(4096, 12287)]);
        assert_eq!(spread.count_slots(|place| place.primary == Some(node(2))), 8192);
        assert!(together.is_ok() && !spread.is_ok());
    }

    #[test]
    fn roles_are_those_of_the_map() {
        let spread = shown(&[(1, &[3]), (2, &[3, 1]), (2, &[3])]);
        assert_eq!(spread.role(node(1)), Role::Primary);
        assert_eq!(spread.role(node(3)), Role::ReplicaOf(node(2)));
        assert_eq!(spread.role(node(7)), Role::Primary, "it has nothing");
        assert_eq!((spread.epoch_of(node(3)), spread.epoch_of(node(1))), (Epoch(3), Epoch(1)));
        assert_eq!(spread.find(node(3).to_string().as_bytes()), Some(node(3)));
        assert_eq!((spread.find(b"3"), spread.find(node(9).to_string().as_bytes())), (None, None));
    }
}
