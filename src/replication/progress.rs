//! `Progress`: how far each follower is, and what follows from it for replies that are held. Pure: no sockets, no clock.
//!
//! A follower says up to which position of this node's journal it has everything, so one number stands for all partitions that
//! its link carries. Invariants:
//! - a position that was acknowledged once stays acknowledged;
//! - a follower counts for a partition only while it is in step: not while it still waits for a snapshot of it, or for records
//!   that it lacks.

use super::assignment::Counted;
use crate::base::concern::WriteConcern;
use crate::base::ids::PartitionId;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};

/// Names a link of this process: never used twice.
pub type LinkId = u64;

/// How far a follower is. Positions are those of this node's journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Follower {
    /// Its identity, as its data folder has it.
    pub node: String,
    /// Where it can be reached as a server: host and port.
    pub address: (String, u16),
    /// Partitions that it follows from here and has all records of.
    pub in_step: BTreeSet<PartitionId>,
    /// Up to here it has everything in its journal, so that its end as a process loses nothing.
    pub journaled: u64,
    /// Up to here it has everything on its disk.
    pub synced: u64,
    /// When it was heard last, in milliseconds of a monotonic clock.
    pub heard_ms: u64,
}

/// The followers of a node.
#[derive(Debug, Default)]
pub struct Progress {
    copies: u16,
    /// By partition; everybody counts where there is none.
    counted: Vec<Counted>,
    followers: BTreeMap<LinkId, Follower>,
}

impl Progress {
    /// Nobody follows; the data is to be kept in `copies` copies.
    pub fn new(copies: u16) -> Progress {
        Progress { copies, ..Progress::default() }
    }

    /// Changes in how many copies the data is to be kept, and who counts as one.
    pub fn set_copies(&mut self, copies: u16, counted: Vec<Counted>) {
        (self.copies, self.counted) = (copies, counted);
    }

    fn counts(&self, partition: PartitionId, node: &str) -> bool {
        let counted = self.counted.get(usize::from(partition.0)).and_then(Option::as_ref);
        counted.is_none_or(|counted| counted.contains(node))
    }

    /// A follower, to be changed; it is made if it is new.
    pub fn follower(&mut self, link: LinkId) -> &mut Follower {
        self.followers.entry(link).or_default()
    }

    /// A link has ended.
    pub fn remove(&mut self, link: LinkId) {
        self.followers.remove(&link);
    }

    /// All followers, in the order they came.
    pub fn followers(&self) -> impl Iterator<Item = (LinkId, &Follower)> {
        self.followers.iter().map(|(link, follower)| (*link, follower))
    }

    /// Up to which position the changes of `partition` are stored on as many nodes as `concern` asks for. 0 if too few nodes
    /// follow.
    pub fn acknowledged(&self, partition: PartitionId, concern: WriteConcern) -> u64 {
        let replicas = usize::from(concern.replicas(self.copies));
        if replicas == 0 {
            return u64::MAX;
        }
        let counts = |it: &Follower| it.in_step.contains(&partition) && self.counts(partition, &it.node);
        let mut positions = self.nodes(|it| counts(it).then_some(it.journaled));
        positions.sort_unstable_by(|a, b| b.cmp(a));
        positions.get(replicas - 1).copied().unwrap_or(0)
    }

    /// Whether it is the same for each of so many `partitions`: every follower is in step with all of them or with none.
    pub fn is_uniform(&self, partitions: u16) -> bool {
        let all = usize::from(partitions);
        let counted = self.counted.first();
        if self.counted.len() > 1 && self.counted.iter().any(|it| Some(it) != counted) {
            return false;
        }
        self.followers.values().all(|it| it.in_step.is_empty() || it.in_step.len() >= all)
    }

    /// How many nodes that count are in step with `partition`.
    pub fn in_step(&self, partition: PartitionId) -> usize {
        let counts = |it: &Follower| it.in_step.contains(&partition) && self.counts(partition, &it.node);
        self.nodes(|it| counts(it).then_some(0)).len()
    }

    /// How many nodes, of each of these `partitions`, have everything up to `position`: in their journals, or on their disks.
    pub fn have(&self, position: u64, partitions: &[PartitionId], on_disk: bool) -> usize {
        self.least(partitions, |it| if on_disk { it.synced >= position } else { it.journaled >= position })
    }

    /// How many nodes are in step with each of these `partitions` and were heard at `since_ms` or later.
    pub fn good(&self, since_ms: u64, partitions: &[PartitionId]) -> usize {
        self.least(partitions, |it| it.heard_ms >= since_ms)
    }

    /// How many nodes are in step and such, for the partition that has the fewest: not every node need follow all of them.
    fn least(&self, partitions: &[PartitionId], is_such: impl Fn(&Follower) -> bool) -> usize {
        let of = |id| self.nodes(|it| (it.in_step.contains(id) && is_such(it)).then_some(0)).len();
        partitions.iter().map(of).min().unwrap_or(0)
    }

    /// Whether a follower has everything of those of these `partitions` that it is to keep a copy of.
    pub fn is_whole(&self, follower: &Follower, partitions: &[PartitionId]) -> bool {
        let is_there = |id: &PartitionId| follower.in_step.contains(id) || !self.counts(*id, &follower.node);
        !follower.in_step.is_empty() && partitions.iter().all(is_there)
    }

    /// What `of` gives for each node, the largest of its links; nodes for which it gives nothing are left out. A node counts
    /// once, also while an old link of it has not ended yet.
    fn nodes(&self, of: impl Fn(&Follower) -> Option<u64>) -> SmallVec<[u64; 8]> {
        let mut found: SmallVec<[(&str, u64); 8]> = SmallVec::new();
        for follower in self.followers.values() {
            let Some(value) = of(follower) else { continue };
            match found.iter_mut().find(|(node, _)| *node == follower.node) {
                Some((_, largest)) => *largest = value.max(*largest),
                None => found.push((&follower.node, value)),
            }
        }
        found.into_iter().map(|(_, value)| value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: PartitionId = PartitionId(0);

    fn progress(copies: u16, followers: &[(&str, u64)]) -> Progress {
        let mut progress = Progress::new(copies);
        for (link, (node, journaled)) in followers.iter().enumerate() {
            *progress.follower(link as u64) = Follower {
                node: (*node).to_owned(),
                in_step: [P].into(),
                journaled: *journaled,
                ..Follower::default()
            };
        }
        progress
    }

    #[test]
    fn each_concern_takes_the_follower_that_completes_it() {
        let progress = progress(3, &[("a", 10), ("b", 30)]);
        assert_eq!(progress.acknowledged(P, WriteConcern::Local), u64::MAX);
        assert_eq!(progress.acknowledged(P, WriteConcern::One), 30);
        assert_eq!(progress.acknowledged(P, WriteConcern::Majority), 30);
        assert_eq!(progress.acknowledged(P, WriteConcern::All), 10);
    }

    #[test]
    fn too_few_followers_acknowledge_nothing() {
        assert_eq!(progress(5, &[("a", 10)]).acknowledged(P, WriteConcern::Majority), 0);
        assert_eq!(progress(2, &[]).acknowledged(P, WriteConcern::One), 0);
    }

    #[test]
    fn a_node_with_two_links_is_one_copy() {
        assert_eq!(progress(5, &[("a", 10), ("a", 20)]).acknowledged(P, WriteConcern::Majority), 0);
        assert_eq!(progress(5, &[("a", 10), ("a", 20)]).acknowledged(P, WriteConcern::One), 20);
    }

    #[test]
    fn those_that_have_a_position_are_counted_by_node() {
        let mut progress = progress(3, &[("a", 10), ("a", 20), ("b", 30)]);
        progress.follower(2).synced = 25;
        assert_eq!([20, 30, 31].map(|position| progress.have(position, &[P], false)), [2, 1, 0]);
        assert_eq!([25, 0].map(|position| progress.have(position, &[P], true)), [1, 2]);
        progress.follower(2).heard_ms = 100;
        assert_eq!([100, 0].map(|since_ms| progress.good(since_ms, &[P])), [1, 2]);
    }

    #[test]
    fn of_several_partitions_the_one_with_the_fewest_copies_counts() {
        const Q: PartitionId = PartitionId(1);
        let mut progress = progress(3, &[("a", 10), ("b", 10)]);
        assert_eq!((progress.have(0, &[P, Q], false), progress.in_step(P)), (0, 2), "nobody has the other");
        progress.follower(1).in_step = [Q].into();
        assert_eq!((progress.have(10, &[P, Q], false), progress.good(0, &[P, Q])), (1, 1));
        let is_whole =
            |progress: &Progress| progress.followers().all(|(_, it)| progress.is_whole(it, &[P, Q]));
        assert!(!is_whole(&progress), "each is to have both");
        progress.set_copies(2, vec![Some(["a".to_owned()].into()), Some(["b".to_owned()].into())]);
        assert!(is_whole(&progress), "each has what it is to have");
    }

    #[test]
    fn a_follower_that_is_no_member_does_not_count() {
        let mut progress = progress(3, &[("a", 10), ("b", 30)]);
        progress.set_copies(3, vec![Some(["a".to_owned()].into()), None]);
        assert_eq!((progress.acknowledged(P, WriteConcern::Majority), progress.in_step(P)), (10, 1));
        assert!(!progress.is_uniform(1));
    }

    #[test]
    fn a_follower_that_is_not_in_step_does_not_count() {
        let mut progress = progress(2, &[("a", 10)]);
        progress.follower(0).in_step.clear();
        assert_eq!(progress.acknowledged(P, WriteConcern::One), 0);
    }
}
