//! Changes of voters and learners: one node at a time, each change decided before the next begins, so that at no time two nodes
//! are new at once, and the quorum before and after have a node in common even for those who miss a step.
//!
//! A leader never votes itself out. With two voters left it could end before the other knows of it: then it alone has the longest
//! log, in which it is no voter any more and so does not stand, and the other cannot be elected without it (found by simulation).
//! It lays down its office first, and whoever leads next votes it out.

use super::ControlError;
use super::VOTERS_MAX;
use super::raft::{Inner, Running};
use super::types::{LogId, Membership};
use crate::base::ids::NodeId;
use crate::cluster::map::Address;
use openraft::ChangeMembers;
use openraft::error::{ClientWriteError, RaftError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use tokio::time::{Instant, timeout_at};

/// Entries that a learner may be behind when it becomes a voter.
const BEHIND_MAX: u64 = 100;

type Change = ChangeMembers<NodeId, Address>;

/// What is to be done next.
#[derive(Debug)]
enum Step {
    /// A change that this node has decided.
    Change(Change),
    /// This node is to go: another must lead.
    Abdicate,
}

/// The next step on the way from `now` to these voters and learners; none if it is done.
fn next(
    now: &Membership,
    voters: &BTreeMap<NodeId, Address>,
    learners: &BTreeMap<NodeId, Address>,
    this: NodeId,
) -> Option<Step> {
    let change = |change| Some(Step::Change(change));
    let voting: BTreeSet<NodeId> = now.voter_ids().collect();
    if let [_, .., after] = &now.get_joint_config()[..] {
        // A leader died between the two halves of a change: the second half, unless it is this node that it votes out.
        let is_out = !after.contains(&this);
        return if is_out { Some(Step::Abdicate) } else { change(Change::AddVoterIds(BTreeSet::new())) };
    }
    let wanted = || voters.iter().chain(learners);
    if let Some((node, address)) = wanted().find(|(node, _)| now.get_node(node).is_none()) {
        return change(Change::AddNodes(BTreeMap::from([(*node, address.clone())])));
    }
    if let Some((node, address)) = wanted().find(|(node, address)| now.get_node(node) != Some(*address)) {
        return change(Change::SetNodes(BTreeMap::from([(*node, address.clone())])));
    }
    if let Some(node) = voters.keys().find(|node| !voting.contains(node)) {
        return change(Change::AddVoterIds(BTreeSet::from([*node])));
    }
    let leaving = || voting.iter().filter(|node| !voters.contains_key(node));
    if let Some(node) = leaving().find(|node| **node != this) {
        return change(Change::RemoveVoters(BTreeSet::from([*node])));
    }
    if leaving().next().is_some() {
        return Some(Step::Abdicate);
    }
    let gone = now.nodes().map(|(node, _)| *node).find(|node| !wanted().any(|(wanted, _)| wanted == node));
    gone.and_then(|node| change(Change::RemoveNodes(BTreeSet::from([node]))))
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
            // The library ends if who is not a voter asks for more.
            if !membership.voter_ids().any(|voter| voter == self.options.node) {
                return Err(ControlError::NotLeader(None));
            }
            let change = match next(&membership, &voters, &learners, self.options.node) {
                Some(Step::Change(change)) => change,
                Some(Step::Abdicate) => {
                    let successor = timeout_at(deadline, self.abdicate(&running)).await.map_err(late)?;
                    return Err(ControlError::NotLeader(successor));
                }
                None => return Ok(()),
            };
            if let Change::AddVoterIds(nodes) = &change {
                for node in nodes {
                    timeout_at(deadline, caught_up(&running, *node)).await.map_err(late)??;
                }
            }
            let changed = timeout_at(deadline, running.core.change_membership(change, true)).await;
            changed.map_err(late)?.map_err(failed)?;
        }
    }

    /// Falls silent, so that the others elect somebody else. Returns whom.
    async fn abdicate(&self, running: &Running) -> Option<NodeId> {
        tracing::info!("this node is to vote no more: it lets another lead the control plane");
        let _silence = Silence::begin(self, running);
        let mut server = running.core.server_metrics();
        let other = |leader: Option<NodeId>| leader.filter(|leader| *leader != self.options.node);
        let elected = server.wait_for(|server| other(server.current_leader).is_some()).await;
        elected.ok().and_then(|server| other(server.current_leader))
    }
}

/// No heartbeats, and nobody is told that this node leads, as long as it is there. (It leads, so it does not stand for election.)
struct Silence<'a>(&'a Inner, &'a Running);

impl Silence<'_> {
    fn begin<'a>(inner: &'a Inner, running: &'a Running) -> Silence<'a> {
        inner.is_abdicating.store(true, Ordering::Release);
        running.core.runtime_config().heartbeat(false);
        inner.stand(running);
        Silence(inner, running)
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        self.1.core.runtime_config().heartbeat(true);
        self.0.is_abdicating.store(false, Ordering::Release);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(numbers: &[u8]) -> BTreeMap<NodeId, Address> {
        numbers.iter().map(|number| (NodeId([*number; 20]), Address::default())).collect()
    }

    fn set(numbers: &[u8]) -> BTreeSet<NodeId> {
        addresses(numbers).into_keys().collect()
    }

    /// What node 1 does, when these vote (by configuration) and these are known at all.
    fn step(configs: &[&[u8]], known: &[u8], voters: &[u8], learners: &[u8]) -> Option<Step> {
        let configs = configs.iter().map(|config| set(config)).collect();
        let now = Membership::new(configs, addresses(known));
        next(&now, &addresses(voters), &addresses(learners), NodeId([1; 20]))
    }

    #[test]
    fn one_step_follows_another() {
        let is = |step: Option<Step>, expected: Change| matches!(step, Some(Step::Change(change)) if change == expected);
        assert!(is(step(&[&[1]], &[1], &[1, 2], &[3]), Change::AddNodes(addresses(&[2]))));
        assert!(is(step(&[&[1]], &[1, 2], &[1, 2], &[3]), Change::AddNodes(addresses(&[3]))));
        assert!(is(step(&[&[1]], &[1, 2, 3], &[1, 2], &[3]), Change::AddVoterIds(set(&[2]))));
        assert!(step(&[&[1, 2]], &[1, 2, 3], &[1, 2], &[3]).is_none());
        assert!(is(step(&[&[1, 2, 3]], &[1, 2, 3], &[1], &[2]), Change::RemoveVoters(set(&[2]))));
        assert!(is(step(&[&[1]], &[1, 2, 3], &[1], &[2]), Change::RemoveNodes(set(&[3]))));
    }

    #[test]
    fn a_leader_never_votes_itself_out() {
        assert!(matches!(step(&[&[1, 2]], &[1, 2], &[2], &[1]), Some(Step::Abdicate)));
        let first = step(&[&[1, 2, 3]], &[1, 2, 3], &[2], &[]);
        assert!(matches!(first, Some(Step::Change(Change::RemoveVoters(nodes))) if nodes == set(&[3])));
        // Another leader has begun to vote it out (found by simulation).
        assert!(matches!(step(&[&[1, 2, 3], &[2, 3]], &[1, 2, 3], &[1, 2, 3], &[]), Some(Step::Abdicate)));
        let half = step(&[&[1, 2, 3], &[1, 2]], &[1, 2, 3], &[1, 2], &[3]);
        assert!(matches!(half, Some(Step::Change(Change::AddVoterIds(nodes))) if nodes.is_empty()));
    }
}
