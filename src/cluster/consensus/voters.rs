//! Changes of voters and learners: one node at a time, each change decided before the next begins, so that at no time two nodes
//! are new at once, and the quorum before and after have a node in common even for those who miss a step.

use super::ControlError;
use super::raft::{Inner, Running, VOTERS_MAX};
use super::types::{LogId, Membership};
use crate::base::ids::NodeId;
use crate::cluster::map::Address;
use openraft::ChangeMembers;
use openraft::error::{ClientWriteError, RaftError};
use std::collections::{BTreeMap, BTreeSet};
use tokio::time::{Instant, timeout_at};

/// Entries that a learner may be behind when it becomes a voter.
const BEHIND_MAX: u64 = 100;

type Change = ChangeMembers<NodeId, Address>;

/// The next change on the way from `now` to these voters and learners; none if it is done.
fn next(
    now: &Membership,
    voters: &BTreeMap<NodeId, Address>,
    learners: &BTreeMap<NodeId, Address>,
    this: NodeId,
) -> Option<Change> {
    let voting: BTreeSet<NodeId> = now.voter_ids().collect();
    if now.get_joint_config().len() > 1 {
        // A leader died between the two halves of a change: the second half.
        return Some(Change::AddVoterIds(BTreeSet::new()));
    }
    let wanted = || voters.iter().chain(learners);
    if let Some((node, address)) = wanted().find(|(node, _)| now.get_node(node).is_none()) {
        return Some(Change::AddNodes(BTreeMap::from([(*node, address.clone())])));
    }
    if let Some((node, address)) = wanted().find(|(node, address)| now.get_node(node) != Some(*address)) {
        return Some(Change::SetNodes(BTreeMap::from([(*node, address.clone())])));
    }
    if let Some(node) = voters.keys().find(|node| !voting.contains(node)) {
        return Some(Change::AddVoterIds(BTreeSet::from([*node])));
    }
    // This node last: it leads, and what it has begun it finishes.
    let mut leaving: Vec<NodeId> = voting.into_iter().filter(|node| !voters.contains_key(node)).collect();
    leaving.sort_by_key(|node| *node == this);
    if let Some(node) = leaving.first() {
        return Some(Change::RemoveVoters(BTreeSet::from([*node])));
    }
    let gone = now.nodes().map(|(node, _)| *node).find(|node| !wanted().any(|(wanted, _)| wanted == node));
    gone.map(|node| Change::RemoveNodes(BTreeSet::from([node])))
}

impl Inner {
    /// See [`super::ControlPlane::set_voters`].
    pub async fn set_voters(
        &self,
        voters: BTreeMap<NodeId, Address>,
        learners: BTreeMap<NodeId, Address>,
    ) -> Result<(), ControlError> {
        if voters.is_empty() || voters.len() > VOTERS_MAX {
            return Err(ControlError::Failed(format!("there are 1 to {VOTERS_MAX} voters")));
        }
        if voters.keys().any(|node| learners.contains_key(node)) {
            return Err(ControlError::Failed("a node votes or learns, not both".into()));
        }
        let deadline = Instant::now() + self.options.timing.patience;
        let late = |_| ControlError::Unknown("the change of voters is not done in time; it may go on".into());
        let _alone = timeout_at(deadline, self.changing_voters.lock()).await.map_err(late)?;
        loop {
            let running = self.leader()?;
            let membership = {
                let state = running
                    .core
                    .with_raft_state(|state| state.membership_state.effective().membership().clone());
                state.await.map_err(|error| ControlError::Failed(error.to_string()))?
            };
            let Some(change) = next(&membership, &voters, &learners, self.options.node) else {
                return Ok(());
            };
            if let Change::AddVoterIds(nodes) = &change {
                for node in nodes {
                    timeout_at(deadline, caught_up(&running, *node)).await.map_err(late)??;
                }
            }
            let retired = match &change {
                Change::RemoveVoters(nodes) => nodes.first().copied(),
                _ => None,
            };
            // Who votes no more and is not to learn goes with the same change: when it was the leader, nobody would do it after.
            let retain = retired.is_none_or(|node| learners.contains_key(&node));
            let changed = timeout_at(deadline, running.core.change_membership(change, retain)).await;
            changed.map_err(late)?.map_err(failed)?;
            if retired == Some(self.options.node) {
                return Ok(());
            }
        }
    }
}

/// Waits until a learner has nearly all that this leader has.
async fn caught_up(running: &Running, node: NodeId) -> Result<(), ControlError> {
    let has = |place: &Option<LogId>| place.map_or(0, |place| place.index + 1);
    let mut metrics = running.core.data_metrics();
    let waited = metrics.wait_for(|metrics| {
        let Some(followers) = &metrics.replication else { return true }; // it leads no more; the change will say so
        followers
            .get(&node)
            .is_some_and(|place| has(place) + BEHIND_MAX >= has(&metrics.last_log) && place.is_some())
    });
    waited.await.map(drop).map_err(|_| ControlError::Failed("the consensus is stopped".into()))
}

fn failed(error: RaftError<NodeId, ClientWriteError<NodeId, Address>>) -> ControlError {
    match error {
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => {
            ControlError::Failed(error.to_string())
        }
        error => ControlError::Unknown(error.to_string()),
    }
}
