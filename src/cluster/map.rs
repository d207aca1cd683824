//! `ClusterMap`: what the quorum has decided, and the commands that change it. A pure state machine: the same commands in the same
//! order make the same map on every node.

use super::lease::Holder;
use crate::base::ids::{Epoch, Lsn, NodeId, PartitionId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Failovers that are remembered.
const FAILOVERS_MAX: usize = 128;
/// Nodes of a cluster at most.
const NODES_MAX: usize = 256;

/// Where a node is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// A name or an address.
    pub host: String,
    /// The port for clients.
    pub port: u16,
    /// The port for other nodes.
    pub bus_port: u16,
}

/// A node as the cluster knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Where it was last reached; changes with a restart elsewhere.
    pub address: Address,
    /// Copies of a partition are put into different zones.
    pub zone: String,
    /// It votes and keeps no data.
    pub is_witness: bool,
    /// It is to give away what it has: it is about to leave.
    pub is_leaving: bool,
}

/// Who has a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Who answers; none until the first promotion.
    pub primary: Option<NodeId>,
    /// The process of it that was promoted: another one of the same node may have lost something with the power, and needs a
    /// promotion of its own.
    pub incarnation: u64,
    /// +1 for each promotion.
    pub epoch: Epoch,
    /// Who follows, counts for acknowledgements, and may become primary.
    pub replicas: Vec<NodeId>,
    /// Who follows and does neither yet: it is getting the data.
    pub learners: Vec<NodeId>,
    /// The replica that is about to go: it counts for acknowledgements no more. Before it goes all others must have what was acknowledged
    /// with its help (simulation of the cluster, seed 5010797).
    pub parting: Option<NodeId>,
}

impl Place {
    /// Primary and replicas: one of them has what was acknowledged.
    pub fn members(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.primary.into_iter().chain(self.replicas.iter().copied())
    }

    /// Whether this process of the node is the primary.
    pub fn is_of(&self, holder: Holder) -> bool {
        self.primary.is_some_and(|primary| (primary, self.incarnation) == holder)
    }

    /// Replicas that count for acknowledgements.
    pub fn counted(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.replicas.iter().copied().filter(|node| self.parting != Some(*node))
    }

    /// Everybody who has a copy, or is about to.
    pub fn copies(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members().chain(self.learners.iter().copied())
    }
}

/// Who is to follow a partition from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrangement {
    /// Of which partition.
    pub partition: PartitionId,
    /// Nothing happens unless this is still its epoch.
    pub if_epoch: Epoch,
    /// See [`Place::replicas`]. One more than before, or the same, or without the one that was parting: then nothing that was
    /// acknowledged is out of sight at any time.
    pub replicas: Vec<NodeId>,
    /// See [`Place::learners`].
    pub learners: Vec<NodeId>,
    /// See [`Place::parting`]. One of the replicas.
    pub parting: Option<NodeId>,
}

/// How primaries are spread over nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// One node is primary of everything: any command works on any keys.
    #[default]
    Together,
    /// Each node is primary of some partitions: `cluster-enabled yes`.
    Spread,
}

/// Why another node became primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The cluster begins.
    Founding,
    /// The primary before had no lease any more.
    LeaseEnded,
    /// The primary before gave it away, for a stop or to spread the load.
    Handover,
    /// The same node goes on, with a later epoch: a newcomer has a history of its own that got further than this one's.
    Newcomer,
}

impl Reason {
    /// As INFO shows it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Founding => "founding",
            Reason::LeaseEnded => "lease-ended",
            Reason::Handover => "handover",
            Reason::Newcomer => "newcomer",
        }
    }
}

/// One partition's change of primary, to be decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    /// Of which partition.
    pub partition: PartitionId,
    /// Nothing happens unless this is still its epoch.
    pub if_epoch: Epoch,
    /// The new primary.
    pub to: NodeId,
    /// The process of it that was asked.
    pub incarnation: u64,
    /// Where the new primary stood when it was chosen.
    pub position: (Epoch, Lsn),
}

/// A change of primary that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failover {
    /// When it was decided, milliseconds since 1970, by the clock of who decided.
    pub at_ms: i64,
    /// Why.
    pub reason: Reason,
    /// Who was primary before.
    pub from: Option<NodeId>,
    /// Who is since.
    pub to: NodeId,
    /// How many partitions went over together.
    pub partitions: u16,
    /// The highest of their new epochs.
    pub epoch: Epoch,
    /// Sum of the LSNs at which they were taken over.
    pub lsn: u64,
}

/// What is decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The cluster begins, with these nodes. Only an empty map takes it.
    Found {
        /// Names the cluster.
        cluster: NodeId,
        /// Number of partitions.
        partitions: u16,
        /// Copies of each, the primary's included.
        copies: u16,
        /// How primaries are spread.
        shape: Shape,
        /// Who is in it.
        members: Vec<(NodeId, Member)>,
    },
    /// A node joins, or says anew where it is reached and what it is.
    Admit(NodeId, Member),
    /// A node is forgotten. It must have no copy any more.
    Dismiss(NodeId),
    /// A node is to give away what it has, or no longer.
    SetLeaving(NodeId, bool),
    /// Other nodes become primaries. Those whose epoch has changed meanwhile stay as they are. Who was primary becomes a replica.
    Promote {
        /// Which partitions, and to whom.
        promotions: Vec<Promotion>,
        /// Why.
        reason: Reason,
        /// When, milliseconds since 1970.
        at_ms: i64,
    },
    /// Other nodes follow partitions.
    Arrange(Vec<Arrangement>),
    /// Copies of each partition, the primary's included.
    SetCopies(u16),
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The map is this version now; it may be unchanged.
    Done(u64),
    /// It makes no sense: why, in words. Nothing changed.
    Refused(String),
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterMap {
    /// Names the cluster; none before it was founded.
    pub cluster: Option<NodeId>,
    /// +1 for each command that changed something.
    pub version: u64,
    /// How primaries are spread.
    pub shape: Shape,
    /// Copies of each partition, the primary's included.
    pub copies: u16,
    /// Who is in it.
    pub nodes: BTreeMap<NodeId, Member>,
    /// By partition number.
    pub partitions: Vec<Place>,
    /// The last changes of primaries, oldest first.
    pub failovers: VecDeque<Failover>,
}

impl ClusterMap {
    /// Who has which partition.
    pub fn places(&self) -> impl Iterator<Item = (PartitionId, &Place)> {
        (0..).map(PartitionId).zip(&self.partitions)
    }

    /// Who has this partition.
    pub fn place(&self, id: PartitionId) -> Option<&Place> {
        self.partitions.get(usize::from(id.0))
    }

    /// Partitions that this node is primary of.
    pub fn primary_of(&self, node: NodeId) -> impl Iterator<Item = PartitionId> + '_ {
        self.places().filter(move |(_, place)| place.primary == Some(node)).map(|(id, _)| id)
    }

    /// Whether this node has a copy of anything.
    pub fn has_copies(&self, node: NodeId) -> bool {
        self.partitions.iter().any(|place| place.copies().any(|copy| copy == node))
    }

    /// The highest epoch of any partition.
    pub fn epoch(&self) -> Epoch {
        self.partitions.iter().map(|place| place.epoch).max().unwrap_or_default()
    }

    /// Carries out a command.
    pub fn apply(&mut self, command: Command) -> Outcome {
        let changed = match self.change(command) {
            Ok(changed) => changed,
            Err(reason) => return Outcome::Refused(reason.to_owned()),
        };
        self.version += u64::from(changed);
        Outcome::Done(self.version)
    }

    /// Whether it changed anything, or why it cannot be.
    fn change(&mut self, command: Command) -> Result<bool, &'static str> {
        if self.cluster.is_none() && !matches!(command, Command::Found { .. }) {
            return Err("the cluster was not founded");
        }
        match command {
            Command::Found { cluster, partitions, copies, shape, members } => {
                if self.cluster.is_some() {
                    return Err("the cluster was founded before");
                }
                self.cluster = Some(cluster);
                (self.copies, self.shape) = (copies.max(1), shape);
                self.nodes = members.into_iter().collect();
                self.partitions = vec![Place::default(); usize::from(partitions)];
                Ok(true)
            }
            Command::Admit(node, member) => self.admit(node, member),
            Command::Dismiss(node) => {
                if self.has_copies(node) {
                    return Err("it has copies of data");
                }
                Ok(self.nodes.remove(&node).is_some())
            }
            Command::SetLeaving(node, is_leaving) => {
                let stays = |(other, member): (&NodeId, &Member)| {
                    *other != node && !member.is_leaving && !member.is_witness
                };
                if is_leaving && self.has_copies(node) && !self.nodes.iter().any(stays) {
                    return Err("nobody else could have its data");
                }
                let member = self.nodes.get_mut(&node).ok_or("there is no such node")?;
                Ok(std::mem::replace(&mut member.is_leaving, is_leaving) != is_leaving)
            }
            Command::Promote { promotions, reason, at_ms } => self.promote(promotions, reason, at_ms),
            Command::Arrange(arrangements) => self.arrange(arrangements),
            Command::SetCopies(copies) => {
                let copies = copies.max(1);
                Ok(std::mem::replace(&mut self.copies, copies) != copies)
            }
        }
    }

    fn admit(&mut self, node: NodeId, member: Member) -> Result<bool, &'static str> {
        if !self.nodes.contains_key(&node) && self.nodes.len() >= NODES_MAX {
            return Err("there are too many nodes");
        }
        // A name of the network that a dead node had may be another one's now: nobody is followed under two names.
        let is_taken = |(id, other): (&NodeId, &Member)| {
            *id != node && other.address == member.address && member.address.port != 0
        };
        if let Some(other) = self.nodes.iter().find(|entry| is_taken(*entry)).map(|(id, _)| *id)
            && let Some(other) = self.nodes.get_mut(&other)
        {
            other.address = Address::default();
        }
        let before = self.nodes.insert(node, member.clone());
        Ok(before.as_ref() != Some(&member))
    }

    fn promote(
        &mut self,
        promotions: Vec<Promotion>,
        reason: Reason,
        at_ms: i64,
    ) -> Result<bool, &'static str> {
        if promotions.iter().any(|one| !self.nodes.contains_key(&one.to)) {
            return Err("there is no such node");
        }
        let mut done: BTreeMap<(Option<NodeId>, NodeId), Failover> = BTreeMap::new();
        for Promotion { partition, if_epoch, to, incarnation, position } in promotions {
            let Some(place) = self.partitions.get_mut(usize::from(partition.0)) else { continue };
            if place.epoch != if_epoch {
                continue;
            }
            let from = place.primary.replace(to);
            place.incarnation = incarnation;
            // A history that was further than the map knows is not fallen behind of.
            place.epoch = Epoch(place.epoch.max(position.0).0.saturating_add(1));
            place.replicas.retain(|replica| *replica != to);
            place.learners.retain(|learner| *learner != to);
            place.parting = None; // what goes is chosen anew
            if let Some(from) = from.filter(|from| *from != to) {
                place.replicas.push(from);
            }
            let failover = done.entry((from, to)).or_insert(Failover {
                at_ms,
                reason,
                from,
                to,
                partitions: 0,
                epoch: place.epoch,
                lsn: 0,
            });
            failover.partitions = failover.partitions.saturating_add(1);
            failover.epoch = failover.epoch.max(place.epoch);
            failover.lsn = failover.lsn.saturating_add(position.1.0);
        }
        let changed = !done.is_empty();
        self.failovers.extend(done.into_values());
        while self.failovers.len() > FAILOVERS_MAX {
            self.failovers.pop_front();
        }
        Ok(changed)
    }

    fn arrange(&mut self, arrangements: Vec<Arrangement>) -> Result<bool, &'static str> {
        let named = arrangements.iter().flat_map(|one| one.replicas.iter().chain(&one.learners));
        if named.into_iter().any(|node| !self.nodes.contains_key(node)) {
            return Err("there is no such node");
        }
        let mut is_changed = false;
        for Arrangement { partition, if_epoch, replicas, learners, parting } in arrangements {
            let Some(place) = self.partitions.get_mut(usize::from(partition.0)) else { continue };
            let (before, after): (BTreeSet<_>, BTreeSet<_>) =
                (place.replicas.iter().collect(), replicas.iter().collect());
            let is_one_step = before.symmetric_difference(&after).count() <= 1;
            let loses_who_counts = before.difference(&after).any(|node| place.parting != Some(**node));
            let names_primary = replicas.iter().chain(&learners).any(|node| place.primary == Some(*node));
            let is_parting_known = parting.is_none_or(|node| after.contains(&node));
            if place.epoch != if_epoch
                || !is_one_step
                || loses_who_counts
                || names_primary
                || !is_parting_known
            {
                continue;
            }
            if (&place.replicas, &place.learners, place.parting) != (&replicas, &learners, parting) {
                (place.replicas, place.learners, place.parting) = (replicas, learners, parting);
                is_changed = true;
            }
        }
        Ok(is_changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId([number; 20])
    }

    fn member(port: u16) -> Member {
        Member { address: Address { host: "h".into(), port, bus_port: port + 10_000 }, ..Member::default() }
    }

    fn founded() -> ClusterMap {
        let mut map = ClusterMap::default();
        let members = (1..=3).map(|number| (node(number), member(u16::from(number)))).collect();
        let found =
            Command::Found { cluster: node(9), partitions: 2, copies: 2, shape: Shape::Together, members };
        assert_eq!(map.apply(found.clone()), Outcome::Done(1));
        assert!(matches!(map.apply(found), Outcome::Refused(_)));
        map
    }

    fn promote(map: &mut ClusterMap, if_epoch: u64, to: u8, position: (u64, u64)) -> Outcome {
        let position = (Epoch(position.0), Lsn(position.1));
        let promotions = (0..2)
            .map(|id| Promotion {
                partition: PartitionId(id),
                if_epoch: Epoch(if_epoch),
                to: node(to),
                incarnation: 4,
                position,
            })
            .collect();
        map.apply(Command::Promote { promotions, reason: Reason::LeaseEnded, at_ms: 5 })
    }

    #[test]
    fn a_promotion_counts_once() {
        let mut map = founded();
        assert_eq!(promote(&mut map, 0, 1, (0, 0)), Outcome::Done(2));
        assert_eq!(promote(&mut map, 1, 2, (1, 7)), Outcome::Done(3));
        assert_eq!(promote(&mut map, 1, 3, (1, 9)), Outcome::Done(3), "the epoch is another one");
        let place = &map.partitions[1];
        assert_eq!(
            (place.primary, place.epoch, &place.replicas[..]),
            (Some(node(2)), Epoch(2), &[node(1)][..])
        );
        let last = map.failovers.back().expect("one happened");
        assert_eq!((last.from, last.to, last.partitions, last.lsn), (Some(node(1)), node(2), 2, 14));
        assert_eq!(map.primary_of(node(2)).count(), 2);
    }

    #[test]
    fn an_epoch_is_above_every_history_it_follows() {
        let mut map = founded();
        promote(&mut map, 0, 1, (7, 3));
        assert_eq!(map.epoch(), Epoch(8));
    }

    #[test]
    fn an_address_belongs_to_one_node() {
        let mut map = founded();
        map.apply(Command::Admit(node(4), member(2)));
        assert_eq!(map.nodes[&node(2)].address, Address::default());
        let version = map.version;
        map.apply(Command::Admit(node(4), member(2)));
        assert_eq!(map.version, version, "nothing is new");
    }

    #[test]
    fn a_node_with_copies_stays() {
        let mut map = founded();
        promote(&mut map, 0, 1, (0, 0));
        assert!(matches!(map.apply(Command::Dismiss(node(1))), Outcome::Refused(_)));
        let mut arrange = |replicas: &[u8], learners: &[u8], parting: &[u8], if_epoch| {
            let nodes = |numbers: &[u8]| numbers.iter().map(|number| node(*number)).collect();
            map.apply(Command::Arrange(vec![Arrangement {
                partition: PartitionId(0),
                if_epoch: Epoch(if_epoch),
                replicas: nodes(replicas),
                learners: nodes(learners),
                parting: parting.first().map(|number| node(*number)),
            }]))
        };
        assert_eq!(arrange(&[], &[2, 3], &[], 1), Outcome::Done(3));
        assert_eq!(arrange(&[3], &[2], &[], 0), Outcome::Done(3), "the epoch is another one");
        assert_eq!(arrange(&[2, 3], &[], &[], 1), Outcome::Done(3), "two at a time");
        assert_eq!(arrange(&[3], &[2], &[], 1), Outcome::Done(4));
        assert_eq!(arrange(&[2], &[], &[], 1), Outcome::Done(4), "one for another");
        assert_eq!(arrange(&[1], &[], &[], 1), Outcome::Done(4), "the primary follows nobody");
        assert_eq!(arrange(&[2, 3], &[], &[], 1), Outcome::Done(5));
        assert_eq!(arrange(&[2], &[], &[], 1), Outcome::Done(5), "3 counts for acknowledgements");
        assert_eq!(arrange(&[2, 3], &[], &[1], 1), Outcome::Done(5), "1 is no replica");
        assert_eq!(arrange(&[2, 3], &[], &[3], 1), Outcome::Done(6));
        assert_eq!(arrange(&[3], &[], &[3], 1), Outcome::Done(6), "2 counts");
        assert_eq!(arrange(&[2], &[], &[], 1), Outcome::Done(7));
        assert_eq!(map.apply(Command::Dismiss(node(3))), Outcome::Done(8));
        assert!(matches!(map.apply(Command::Dismiss(node(2))), Outcome::Refused(_)));
    }
}
