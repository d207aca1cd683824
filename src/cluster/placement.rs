//! What is to be moved next, so that each partition has its copies, on nodes of different zones, and primaries are where the shape
//! wants them. A pure function: the same picture gives the same step, so a controller that died in between is no loss.
//!
//! One step at a time, and none while the last is under way: what moves data costs disks and network.

use super::map::{Arrangement, ClusterMap, Command, Member, Place, Shape};
use crate::base::ids::{NodeId, PartitionId};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// What is known of the nodes besides the map.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// Nodes that are there and can take data.
    pub fit: BTreeSet<NodeId>,
    /// Nodes that were not heard for so long that others may take their copies.
    pub lost: BTreeSet<NodeId>,
    /// Nodes that are there and can take no changes for the moment.
    pub unable: BTreeSet<NodeId>,
    /// Followers that have all of a partition, as its primary says.
    pub in_step: BTreeSet<(NodeId, PartitionId)>,
    /// Nothing has gone wrong for a while, so that primaries may be moved for balance alone.
    pub is_calm: bool,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// To be decided as it is.
    Decide(Command),
    /// The primary of these partitions is to hand them over, once the other one is in step.
    HandOver {
        /// Who gives.
        from: NodeId,
        /// Who takes.
        to: NodeId,
        /// What.
        partitions: Vec<PartitionId>,
    },
}

/// The next step; none if everything is in its place, or on its way there.
pub fn next(map: &ClusterMap, picture: &Picture) -> Option<Step> {
    let world = World { map, picture, homes: homes(map, picture) };
    let arrange = |arrangements: Vec<Arrangement>| {
        (!arrangements.is_empty()).then(|| Step::Decide(Command::Arrange(arrangements)))
    };
    arrange(world.new_learners())
        .or_else(|| arrange(world.new_members()))
        .or_else(|| primaries(map, picture))
        // Last: a member too many may be there for a primary that is about to move to it.
        .or_else(|| arrange(world.members_too_many()))
}

/// Nodes that may have copies.
fn homes<'a>(map: &'a ClusterMap, picture: &Picture) -> BTreeMap<NodeId, &'a Member> {
    let is_home = |(node, member): &(&NodeId, &Member)| {
        !member.is_witness && !member.is_leaving && !picture.lost.contains(node)
    };
    map.nodes.iter().filter(is_home).map(|(node, member)| (*node, member)).collect()
}

struct World<'a> {
    map: &'a ClusterMap,
    picture: &'a Picture,
    homes: BTreeMap<NodeId, &'a Member>,
}

impl World<'_> {
    /// How many copies each partition can have.
    fn wanted(&self) -> usize {
        usize::from(self.map.copies).min(self.homes.len().max(1))
    }

    /// Partitions that somebody is primary of.
    fn places(&self) -> impl Iterator<Item = (PartitionId, NodeId, &Place)> {
        self.map.places().filter_map(|(id, place)| Some((id, place.primary?, place)))
    }

    fn arrangement(
        id: PartitionId,
        place: &Place,
        replicas: Vec<NodeId>,
        learners: Vec<NodeId>,
    ) -> Arrangement {
        let parting = place.parting.filter(|node| replicas.contains(node));
        Arrangement { partition: id, if_epoch: place.epoch, replicas, learners, parting }
    }

    /// A learner for each partition that has fewer copies than it should; in another zone if there is one, and where there are few.
    fn new_learners(&self) -> Vec<Arrangement> {
        let mut loads: BTreeMap<NodeId, usize> = BTreeMap::new();
        let all = self.map.partitions.iter().flat_map(Place::copies);
        all.for_each(|node| *loads.entry(node).or_default() += 1);
        let mut arrangements = Vec::new();
        for (id, primary, place) in self.places() {
            let is_home = |node: &NodeId| self.homes.contains_key(node);
            let learners: Vec<NodeId> = place.learners.iter().copied().filter(is_home).collect();
            let mut changed = learners;
            let good = 1 + place.replicas.iter().filter(|node| is_home(node)).count() + changed.len();
            if good < self.wanted() {
                let known =
                    place.replicas.iter().chain(&changed).filter(|node| is_home(node)).chain([&primary]);
                let zones: BTreeSet<&str> =
                    known.filter_map(|node| self.map.nodes.get(node)).map(|member| &*member.zone).collect();
                let has_none = |node: &NodeId| place.copies().all(|copy| copy != *node);
                let free =
                    self.homes.iter().filter(|(node, _)| has_none(node) && self.picture.fit.contains(node));
                let rank = |node: &NodeId, member: &Member| {
                    (zones.contains(&*member.zone), loads.get(node).copied().unwrap_or(0), *node)
                };
                if let Some((node, _)) = free.min_by_key(|(node, member)| rank(node, member)) {
                    *loads.entry(*node).or_default() += 1;
                    changed.push(*node);
                }
            }
            if changed != place.learners {
                arrangements.push(Self::arrangement(id, place, place.replicas.clone(), changed));
            }
        }
        arrangements
    }

    /// Learners that have everything become members, one of each partition at a time.
    fn new_members(&self) -> Vec<Arrangement> {
        let join = |(id, _, place): (PartitionId, NodeId, &Place)| {
            let ready = |node: &&NodeId| self.picture.in_step.contains(&(**node, id));
            let ready = *place.learners.iter().find(ready)?;
            let replicas = place.replicas.iter().copied().chain([ready]).collect();
            let learners = place.learners.iter().copied().filter(|node| *node != ready).collect();
            Some(Self::arrangement(id, place, replicas, learners))
        };
        self.places().filter_map(join).collect()
    }

    /// One member less where there are more than there should be: one that is no home for it any more, or else one of a node
    /// that has much. Nobody goes unless as many as there should be are in step: whoever is not there may be needed to know the last
    /// writes until then. In two steps: first it does not count any more, then it goes. Between them the others get what was acknowledged
    /// with its help: who does not have that is not in step, as the primary tells once the first step is in force.
    fn members_too_many(&self) -> Vec<Arrangement> {
        let mut loads: BTreeMap<NodeId, usize> = BTreeMap::new();
        let all = self.map.partitions.iter().flat_map(Place::copies);
        all.for_each(|node| *loads.entry(node).or_default() += 1);
        let leave = |(id, _, place): (PartitionId, NodeId, &Place)| {
            let is_good =
                |node: &NodeId| self.homes.contains_key(node) && self.picture.in_step.contains(&(*node, id));
            let good = 1 + place.replicas.iter().filter(|node| is_good(node)).count();
            let gone = place.replicas.iter().find(|node| !self.homes.contains_key(node));
            let surplus = || {
                let load = |node: &&NodeId| (loads.get(node).copied(), **node);
                let has_too_many = 1 + place.replicas.len() > self.wanted();
                place.replicas.iter().filter(|_| has_too_many).max_by_key(load)
            };
            let goes = match gone {
                Some(gone) if good >= self.wanted() => Some(*gone),
                None if good > self.wanted() => place.parting.or_else(|| surplus().copied()),
                _ => None,
            };
            if let Some(goes) = goes {
                *loads.entry(goes).or_default() -= 1;
            }
            if goes.is_none() || goes != place.parting {
                let is_news = goes.is_some() || (gone.is_none() && place.parting.is_some());
                return is_news.then(|| Arrangement {
                    parting: goes,
                    ..Self::arrangement(id, place, place.replicas.clone(), place.learners.clone())
                });
            }
            let replicas = place.counted().collect();
            Some(Self::arrangement(id, place, replicas, place.learners.clone()))
        };
        self.places().filter_map(leave).collect()
    }
}

/// Moves primaries to where the shape wants them.
fn primaries(map: &ClusterMap, picture: &Picture) -> Option<Step> {
    let is_fit = |node: &NodeId| {
        picture.fit.contains(node) && map.nodes.get(node).is_some_and(|member| !member.is_leaving)
    };
    let mut counts: BTreeMap<NodeId, Vec<PartitionId>> = BTreeMap::new();
    for (id, place) in map.places() {
        counts.entry(place.primary?).or_default().push(id);
    }
    let can_take = |node: NodeId, id: &PartitionId| {
        map.place(*id).is_some_and(|place| place.replicas.contains(&node)) && is_fit(&node)
    };
    let hand_over = |from: NodeId, to: NodeId, partitions: Vec<PartitionId>| {
        (!partitions.is_empty()).then_some(Step::HandOver { from, to, partitions })
    };
    // Who is to leave, or has no room, gives everything to whoever can take the most of it.
    let is_leaving = |node: &NodeId| map.nodes.get(node).is_some_and(|member| member.is_leaving);
    let leaving = counts.iter().find(|(node, _)| is_leaving(node) || picture.unable.contains(node));
    if let Some((from, own)) = leaving {
        let able = |to: NodeId| own.iter().filter(move |id| can_take(to, id)).copied().collect::<Vec<_>>();
        let (to, partitions) =
            map.nodes.keys().map(|to| (*to, able(*to))).max_by_key(|(_, able)| able.len())?;
        return hand_over(*from, to, partitions);
    }
    match map.shape {
        Shape::Together => {
            let (to, _) =
                counts.iter().max_by_key(|(node, own)| (is_fit(node), own.len(), Reverse(**node)))?;
            let (from, own) = counts.iter().find(|(node, _)| *node != to)?;
            hand_over(*from, *to, own.iter().filter(|id| can_take(*to, id)).copied().collect())
        }
        Shape::Spread if !picture.is_calm => None,
        Shape::Spread => {
            let fit: Vec<NodeId> = map
                .nodes
                .iter()
                .filter(|(_, member)| !member.is_witness)
                .map(|(node, _)| *node)
                .filter(is_fit)
                .collect();
            let count = |node: &NodeId| counts.get(node).map_or(0, Vec::len);
            let least = *fit.iter().min_by_key(|node| (count(node), **node))?;
            let (most, own) = counts.iter().max_by_key(|(node, own)| (own.len(), **node))?;
            let surplus = surplus(own.len(), count(&least), map.partitions.len() / fit.len());
            if surplus == 0 {
                return None;
            }
            let able = || own.iter().filter(|id| can_take(least, id)).copied();
            let ready: Vec<PartitionId> =
                able().filter(|id| picture.in_step.contains(&(least, *id))).take(surplus).collect();
            // All in one go: what costs clients a pause is the handover, not how much is handed over.
            match able().next() {
                Some(_) => hand_over(*most, least, ready),
                // It must have a copy first; one such move at a time.
                None if map.partitions.iter().any(|place| place.learners.contains(&least)) => None,
                None => own.first().and_then(|id| teach(map, *id, least)).map(Step::Decide),
            }
        }
    }
}

/// How many partitions a primary of `most` gives to one of `least`, where each should have about `fair`: never so many that one is to
/// come back, so that moves come to an end.
fn surplus(most: usize, least: usize, fair: usize) -> usize {
    let half = most.saturating_sub(least) / 2;
    half.min(most.saturating_sub(fair).min(fair.saturating_sub(least)).max(1))
}

/// Gives a node a copy of a partition besides those that there are.
fn teach(map: &ClusterMap, id: PartitionId, to: NodeId) -> Option<Command> {
    let place = map.place(id)?;
    let learners = place.learners.iter().copied().chain([to]).collect();
    Some(Command::Arrange(vec![World::arrangement(id, place, place.replicas.clone(), learners)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{Epoch, Lsn};
    use crate::cluster::map::{Outcome, Promotion, Reason};

    const PARTITIONS: u16 = 6;

    fn node(number: u8) -> NodeId {
        NodeId([number; 20])
    }

    fn map(nodes: u8, copies: u16, shape: Shape) -> ClusterMap {
        let mut map = ClusterMap::default();
        let members = (1..=nodes).map(|number| (node(number), Member::default())).collect();
        let cluster = node(99);
        map.apply(Command::Found { cluster, partitions: PARTITIONS, copies, shape, members });
        promote(&mut map, (0..PARTITIONS).map(PartitionId).collect(), node(1));
        map
    }

    fn promote(map: &mut ClusterMap, partitions: Vec<PartitionId>, to: NodeId) {
        let promotion = |partition| Promotion {
            partition,
            if_epoch: map.place(partition).map_or(Epoch(0), |place| place.epoch),
            to,
            incarnation: 0,
            position: (Epoch(0), Lsn(0)),
        };
        let promotions = partitions.into_iter().map(promotion).collect();
        let done = map.apply(Command::Promote { promotions, reason: Reason::Handover, at_ms: 0 });
        assert!(matches!(done, Outcome::Done(_)));
    }

    fn picture(map: &ClusterMap, without: &[u8]) -> Picture {
        let lost: BTreeSet<NodeId> = without.iter().map(|number| node(*number)).collect();
        let fit: BTreeSet<NodeId> = map.nodes.keys().filter(|node| !lost.contains(node)).copied().collect();
        let all = fit.iter().flat_map(|node| (0..PARTITIONS).map(|id| (*node, PartitionId(id))));
        Picture { in_step: all.collect(), unable: BTreeSet::new(), fit, lost, is_calm: true }
    }

    /// Steps until there is nothing to do; each is carried out. Returns how many there were.
    fn settle(map: &mut ClusterMap, picture: &Picture) -> usize {
        for count in 0..200 {
            match next(map, picture) {
                None => return count,
                Some(Step::Decide(command)) => {
                    let version = map.version;
                    assert!(matches!(map.apply(command), Outcome::Done(_)));
                    assert!(map.version > version, "a step changes something");
                }
                Some(Step::HandOver { from, to, partitions }) => {
                    assert!(
                        partitions.iter().all(|id| map.place(*id).expect("is there").primary == Some(from))
                    );
                    promote(map, partitions, to);
                }
            }
        }
        panic!("it does not come to rest: {map:?}");
    }

    fn copies_of(map: &ClusterMap) -> BTreeSet<usize> {
        map.partitions.iter().map(|place| place.copies().collect::<BTreeSet<_>>().len()).collect()
    }

    #[test]
    fn each_partition_gets_its_copies_and_keeps_them() {
        for (nodes, copies, expected) in [(1, 2, 1), (3, 1, 1), (3, 2, 2), (3, 3, 3), (5, 3, 3), (3, 5, 3)] {
            let mut map = map(nodes, copies, Shape::Together);
            let picture = picture(&map, &[]);
            settle(&mut map, &picture);
            assert_eq!(copies_of(&map), [expected].into(), "{nodes} nodes, {copies} copies");
            assert_eq!(map.primary_of(node(1)).count(), usize::from(PARTITIONS));
        }
    }

    #[test]
    fn another_takes_the_place_of_a_lost_copy() {
        let mut map = map(4, 2, Shape::Together);
        let all = picture(&map, &[]);
        settle(&mut map, &all);
        let lost = map.partitions[0].replicas[0];
        let without = picture(&map, &[lost.0[0]]);
        settle(&mut map, &without);
        assert!(!map.has_copies(lost));
        assert_eq!(copies_of(&map), [2].into());
    }

    #[test]
    fn a_lost_copy_stays_named_while_nobody_can_take_its_place() {
        let mut map = map(3, 3, Shape::Together);
        let all = picture(&map, &[]);
        settle(&mut map, &all);
        let without = picture(&map, &[3]);
        settle(&mut map, &without);
        assert_eq!(copies_of(&map), [2].into(), "so many nodes are left");
    }

    #[test]
    fn a_learner_that_has_not_everything_stays_one() {
        let mut map = map(2, 2, Shape::Together);
        let mut all = picture(&map, &[]);
        all.in_step.clear();
        settle(&mut map, &all);
        assert!(map.partitions.iter().all(|place| place.learners == [node(2)] && place.replicas.is_empty()));
        all.in_step.insert((node(2), PartitionId(3)));
        settle(&mut map, &all);
        assert_eq!(map.partitions[3].replicas, [node(2)]);
        assert_eq!(map.partitions[2].replicas, []);
    }

    #[test]
    fn zones_differ_if_they_can() {
        let mut map = map(4, 2, Shape::Together);
        for (number, zone) in [(1, "a"), (2, "a"), (3, "b"), (4, "a")] {
            map.apply(Command::Admit(node(number), Member { zone: zone.into(), ..Member::default() }));
        }
        let all = picture(&map, &[]);
        settle(&mut map, &all);
        assert!(map.partitions.iter().all(|place| place.replicas == [node(3)]));
    }

    #[test]
    fn primaries_are_together_or_spread_as_the_shape_says() {
        for copies in [1, 2, 3] {
            let mut map = map(3, copies, Shape::Spread);
            let all = picture(&map, &[]);
            settle(&mut map, &all);
            let counts = [1, 2, 3].map(|number| map.primary_of(node(number)).count());
            assert_eq!(counts, [2, 2, 2], "{copies} copies");
            assert_eq!(copies_of(&map), [usize::from(copies)].into());
        }
        let mut map = map(3, 3, Shape::Together);
        let all = picture(&map, &[]);
        settle(&mut map, &all);
        promote(&mut map, vec![PartitionId(0), PartitionId(3)], node(2));
        settle(&mut map, &all);
        assert_eq!(map.primary_of(node(1)).count(), usize::from(PARTITIONS));
    }

    #[test]
    fn primaries_are_moved_for_balance_in_few_steps_and_only_when_all_is_calm() {
        let mut map = map(3, 3, Shape::Spread);
        let mut all = picture(&map, &[]);
        all.is_calm = false;
        settle(&mut map, &all);
        assert_eq!(map.primary_of(node(1)).count(), usize::from(PARTITIONS));
        all.is_calm = true;
        assert_eq!(settle(&mut map, &all), 2, "each of the others takes its share at once");
        // Who lost its primaries gets them back, and nothing else moves.
        let before = map.clone();
        let own = map.primary_of(node(2)).collect();
        promote(&mut map, own, node(3));
        assert_eq!(settle(&mut map, &all), 1);
        assert!(map.primary_of(node(1)).eq(before.primary_of(node(1))));
    }

    #[test]
    fn moves_for_balance_come_to_an_end_whatever_they_begin_with() {
        for seed in 0..3_usize.pow(u32::from(PARTITIONS)) {
            let mut map = map(3, 3, Shape::Spread);
            let all = picture(&map, &[]);
            settle(&mut map, &Picture { is_calm: false, ..all.clone() });
            for id in 0..PARTITIONS {
                let to = node((seed / 3_usize.pow(id.into()) % 3) as u8 + 1);
                promote(&mut map, vec![PartitionId(id)], to);
            }
            let moves = settle(&mut map, &all);
            assert!(moves <= 3, "{moves} moves");
            let counts = [1, 2, 3].map(|number| map.primary_of(node(number)).count());
            assert_eq!(counts, [2, 2, 2]);
        }
    }

    #[test]
    fn who_has_no_room_gives_its_primaries_away_and_keeps_its_copies() {
        let mut map = map(2, 2, Shape::Together);
        let mut all = picture(&map, &[]);
        settle(&mut map, &all);
        all.fit.remove(&node(1));
        all.unable.insert(node(1));
        settle(&mut map, &all);
        assert_eq!(map.primary_of(node(2)).count(), usize::from(PARTITIONS));
        assert_eq!(copies_of(&map), [2].into());
    }

    #[test]
    fn who_goes_does_not_count_before_it_goes() {
        let mut map = map(3, 3, Shape::Together);
        let mut all = picture(&map, &[]);
        settle(&mut map, &all);
        map.apply(Command::SetLeaving(node(2), true));
        let step = |map: &mut ClusterMap, all: &Picture| match next(map, all) {
            Some(Step::Decide(command)) => assert!(matches!(map.apply(command), Outcome::Done(_))),
            step => panic!("{step:?}"),
        };
        step(&mut map, &all);
        assert!(
            map.partitions.iter().all(|place| place.parting == Some(node(2)) && place.replicas.len() == 2)
        );
        assert!(map.partitions.iter().all(|place| place.counted().eq([node(3)])));
        // Who is left lacks something yet.
        all.in_step.retain(|(follower, _)| *follower != node(3));
        assert_eq!(next(&map, &all), None);
        let all = picture(&map, &[]);
        step(&mut map, &all);
        assert!(map.partitions.iter().all(|place| place.parting.is_none() && place.replicas == [node(3)]));
    }

    #[test]
    fn who_stays_after_all_counts_again() {
        let mut map = map(3, 3, Shape::Together);
        let all = picture(&map, &[]);
        settle(&mut map, &all);
        map.apply(Command::SetLeaving(node(2), true));
        let Some(Step::Decide(command)) = next(&map, &all) else { panic!("it is to go") };
        map.apply(command);
        map.apply(Command::SetLeaving(node(2), false));
        settle(&mut map, &all);
        assert!(map.partitions.iter().all(|place| place.counted().count() == 2), "{map:?}");
    }

    #[test]
    fn who_leaves_gives_everything_away() {
        let mut map = map(3, 2, Shape::Together);
        let all = picture(&map, &[]);
        settle(&mut map, &all);
        map.apply(Command::SetLeaving(node(1), true));
        settle(&mut map, &all);
        assert!(!map.has_copies(node(1)), "{map:?}");
    }
}
