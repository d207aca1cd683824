//! Who becomes primary. A pure function of what the copies have answered.
//!
//! A write that was acknowledged under `majority` is in the journals of more than half of a partition's members. So of any
//! `members - majority + 1` of them one has it, and the most advanced of them has it too: histories are ordered by (epoch, LSN), and
//! whoever has a later transaction of an epoch has all before it. With fewer answers nobody is promoted. Learners are not asked.
//!
//! A member that is behind is never more advanced than one that is not. So nobody has to keep a list of who is in step.

use super::map::{Place, Promotion};
use crate::base::ids::{Epoch, Lsn, NodeId, PartitionId};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// What a node has answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Which process of it answers.
    pub incarnation: u64,
    /// It could take changes.
    pub can_serve: bool,
    /// Where each partition stands.
    pub positions: Vec<(Epoch, Lsn)>,
    /// Who follows it, and has all of which partitions.
    pub in_step: Vec<(NodeId, Vec<PartitionId>)>,
}

impl Answer {
    fn position(&self, id: PartitionId) -> (Epoch, Lsn) {
        self.positions.get(usize::from(id.0)).copied().unwrap_or_default()
    }

    /// A measure of how much it has at all.
    pub(super) fn weight(&self) -> (Epoch, u64) {
        let epoch = self.positions.iter().map(|(epoch, _)| *epoch).max().unwrap_or_default();
        (epoch, self.positions.iter().map(|(_, lsn)| lsn.0).sum())
    }
}

/// How many members of a place must have answered; `copies` is how many there are to be.
pub fn answers_needed(place: &Place, copies: u16) -> usize {
    fail::fail_point!("promotion-asks-one", |_| 1);
    // What was acknowledged may be from before the last members came, or from when there were to be fewer copies: by a majority of fewer.
    let majority = place.members().count().min(usize::from(copies)) / 2 + 1;
    (place.members().count() + 1).saturating_sub(majority).max(1)
}

/// The new primaries of these partitions. Left out are those of which too few copies have answered. Of several that are equally
/// advanced, it is one that can be it for all partitions, if there is such; and not `avoided`, if possible.
pub fn choose<'a>(
    places: impl Iterator<Item = (PartitionId, &'a Place)>,
    copies: u16,
    answers: &BTreeMap<NodeId, Answer>,
    avoided: Option<NodeId>,
) -> Vec<Promotion> {
    let mut open = Vec::new();
    for (id, place) in places {
        let answered: Vec<(NodeId, &Answer)> =
            place.members().filter_map(|node| Some((node, answers.get(&node)?))).collect();
        if answered.len() < answers_needed(place, copies) {
            continue;
        }
        let best = answered.iter().map(|(_, answer)| answer.position(id)).max().unwrap_or_default();
        let equal: Vec<NodeId> = answered
            .iter()
            .filter(|(_, answer)| answer.position(id) == best)
            .map(|(node, _)| *node)
            .collect();
        open.push((id, place, best, equal));
    }
    // One for as many partitions as possible; then who can take changes, has more, and is not to be avoided.
    let mut counts: BTreeMap<NodeId, usize> = BTreeMap::new();
    open.iter().flat_map(|(.., equal)| equal).for_each(|node| *counts.entry(*node).or_default() += 1);
    let rank = |node: &NodeId| {
        let answer = &answers[node];
        (answer.can_serve, counts[node], avoided != Some(*node), answer.weight(), Reverse(*node))
    };
    let promotion = |(id, place, position, equal): (PartitionId, &Place, (Epoch, Lsn), Vec<NodeId>)| {
        let to = equal.iter().max_by_key(|node| rank(node)).copied()?;
        let incarnation = answers[&to].incarnation;
        Some(Promotion { partition: id, if_epoch: place.epoch, to, incarnation, position })
    };
    open.into_iter().filter_map(promotion).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId([number; 20])
    }

    fn place(nodes: &[u8]) -> Place {
        let mut nodes = nodes.iter().map(|number| node(*number));
        let (primary, replicas) = (nodes.next(), nodes.collect());
        Place { primary, incarnation: 1, epoch: Epoch(5), replicas, learners: vec![node(9)], parting: None }
    }

    fn answers(of: &[(u8, &[(u64, u64)])]) -> BTreeMap<NodeId, Answer> {
        of.iter()
            .map(|(number, positions)| {
                let positions = positions.iter().map(|(epoch, lsn)| (Epoch(*epoch), Lsn(*lsn))).collect();
                (node(*number), Answer { incarnation: 7, can_serve: true, positions, ..Answer::default() })
            })
            .collect()
    }

    fn chosen(places: &[Place], copies: u16, of: &[(u8, &[(u64, u64)])]) -> Vec<Option<u8>> {
        let numbered = || (0..).map(PartitionId).zip(places);
        let chosen = choose(numbered(), copies, &answers(of), None);
        let to =
            |id| chosen.iter().find(|promotion| promotion.partition == id).map(|promotion| promotion.to.0[0]);
        numbered().map(|(id, _)| to(id)).collect()
    }

    #[test]
    fn so_many_answer_that_one_has_what_a_majority_has() {
        for (places, copies, needed) in [
            (1, 1, 1),
            (2, 2, 1),
            (3, 3, 2),
            (5, 5, 3),
            (4, 4, 2),
            (2, 3, 1),
            (1, 3, 1),
            (4, 3, 3),
            (3, 2, 2),
            (2, 1, 2),
        ] {
            let nodes: Vec<u8> = (1..=places).collect();
            assert_eq!(answers_needed(&place(&nodes), copies), needed, "{places} of {copies}");
        }
        let three = [place(&[1, 2, 3])];
        assert_eq!(chosen(&three, 3, &[(2, &[(5, 9)])]), [None]);
        assert_eq!(chosen(&three, 3, &[(2, &[(5, 9)]), (3, &[(5, 8)])]), [Some(2)]);
        assert_eq!(chosen(&three, 3, &[(2, &[(5, 9)]), (4, &[(9, 9)])]), [None], "4 has no copy");
        assert_eq!(chosen(&three, 3, &[(2, &[(5, 9)]), (9, &[(9, 9)])]), [None], "9 is a learner");
    }

    #[test]
    fn a_later_epoch_is_further_than_a_later_transaction() {
        let places = [place(&[1, 2, 3])];
        assert_eq!(chosen(&places, 3, &[(2, &[(4, 900)]), (3, &[(5, 1)])]), [Some(3)]);
        assert_eq!(chosen(&places, 3, &[(1, &[(0, 0)]), (3, &[(5, 1)])]), [Some(3)], "an emptied primary");
    }

    #[test]
    fn one_node_for_all_partitions_where_that_loses_nothing() {
        let places = [place(&[1, 2, 3]), place(&[1, 2, 3])];
        let equal: &[(u64, u64)] = &[(5, 9), (5, 4)];
        assert_eq!(chosen(&places, 3, &[(2, equal), (3, equal)]), [Some(2), Some(2)]);
        assert_eq!(chosen(&places, 3, &[(2, &[(5, 8), (5, 4)]), (3, equal)]), [Some(3), Some(3)]);
        assert_eq!(chosen(&places, 3, &[(2, &[(5, 9), (5, 3)]), (3, &[(5, 8), (5, 4)])]), [Some(2), Some(3)]);
    }

    #[test]
    fn who_cannot_serve_or_leads_is_chosen_last() {
        let (places, mut answers) = ([place(&[1, 2, 3])], answers(&[(2, &[(5, 9)]), (3, &[(5, 9)])]));
        let choose = |answers: &BTreeMap<NodeId, Answer>, avoided| {
            choose((0..).map(PartitionId).zip(&places), 3, answers, avoided)[0].to
        };
        assert_eq!(choose(&answers, Some(node(2))), node(3));
        answers.get_mut(&node(3)).expect("it answered").can_serve = false;
        assert_eq!(choose(&answers, Some(node(2))), node(2));
    }
}
