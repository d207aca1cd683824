//! Who may stand for election: a voter that hears no leader, if a majority of the voters does not either.
//!
//! A voter that was cut off, or stood still, would come back with a term of its own above the leader's, and the first heartbeat that it
//! answers would unseat a leader whom all others hear. So it asks them before there is an election (Ongaro, *Consensus: bridging
//! theory and practice*, 2014, section 9.6: PreVote).
//!
//! Invariants:
//! - a poll changes nothing at who is asked, and objects only where a vote would be refused: a leader was heard within the
//!   lease, or the own log is longer. So nobody is kept from being elected who could be;
//! - as long as this node hears a leader, or leads, the library may not begin an election;
//! - what a voter said counts for a short time from when it was asked, and for nothing once a leader was heard.
//!
//! It takes no time from a failover: the library begins an election some time after the lease is over
//! ([`Timing`](super::raft::Timing)), and by then the others have answered.

use super::raft::{Inner, Running, is_out_of_place};
use super::types::{LogId, Membership};
use super::wire::{Answer, Request};
use crate::base::ids::NodeId;
use openraft::ServerState;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// What a node knows of leaders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hears {
    /// It leads.
    Itself,
    /// One, whose lease at this node ends then.
    Until(Instant),
    /// None.
    Nobody,
}

/// What a node knows when it is about to ask, or is asked.
struct View {
    hears: Hears,
    /// By what its log says.
    membership: Membership,
    /// Where its log ends, or ended a moment ago.
    last: Option<LogId>,
}

/// Answers of voters, since a leader was heard last.
#[derive(Default)]
struct Answers {
    /// When each was asked last.
    asked: BTreeMap<NodeId, Instant>,
    /// Who has not answered yet.
    open: BTreeSet<NodeId>,
    /// Who has heard nobody: when it was asked.
    free: BTreeMap<NodeId, Instant>,
    tasks: JoinSet<(NodeId, bool)>,
}

impl Answers {
    /// Notes what a voter has said: that it objects, or does not answer, or neither.
    fn note(&mut self, node: NodeId, is_free: bool) {
        self.open.remove(&node);
        match self.asked.get(&node).filter(|_| is_free) {
            Some(asked) => self.free.insert(node, *asked),
            None => self.free.remove(&node),
        };
    }

    /// Who was asked after this moment and hears nobody, and the node itself.
    fn since(&self, moment: Option<Instant>, this: NodeId) -> BTreeSet<NodeId> {
        let recent = self.free.iter().filter(|(_, asked)| moment.is_none_or(|moment| **asked >= moment));
        recent.map(|(node, _)| *node).chain([this]).collect()
    }
}

/// Whether these are a majority, in each set of voters while those change.
fn is_majority(membership: &Membership, nodes: &BTreeSet<NodeId>) -> bool {
    let is_most = |voters: &BTreeSet<NodeId>| 2 * voters.intersection(nodes).count() > voters.len();
    membership.get_joint_config().iter().all(is_most)
}

impl Inner {
    /// Lets this node stand for election whenever a majority of the voters hears no leader. Does not end.
    pub async fn poll(&self, running: &Running) {
        let mut server = running.core.server_metrics();
        if let Some(rests_until) = running.rests_until {
            sleep_until(rests_until).await;
        }
        let mut answers = Answers::default();
        loop {
            server.borrow_and_update();
            // Without the instance there is nothing to stand for; that it has ended is seen elsewhere.
            let Some(view) = self.view(running).await else { return std::future::pending().await };
            let (is_free, wake) = self.consider(&view, &mut answers);
            running.is_free.store(is_free, Ordering::Release);
            self.stand(running);
            tokio::select! {
                biased;
                changed = server.changed() => {
                    if changed.is_err() {
                        return std::future::pending().await;
                    }
                }
                Some(Ok((node, is_free))) = answers.tasks.join_next() => answers.note(node, is_free),
                () = super::raft::until(wake) => {}
            }
        }
    }

    /// Whether this node may stand for election by what it knows now, and when to look again if nothing happens until then. Asks
    /// whom there is to ask.
    fn consider(&self, view: &View, answers: &mut Answers) -> (bool, Option<Instant>) {
        let (this, timing) = (self.options.node, self.options.timing);
        let is_voter = view.membership.voter_ids().any(|voter| voter == this);
        let heard = match view.hears {
            _ if !is_voter => Some(None),
            Hears::Itself => Some(None),
            Hears::Until(end) if !is_majority(&view.membership, &BTreeSet::from([this])) => Some(Some(end)),
            Hears::Until(_) | Hears::Nobody => None,
        };
        if let Some(until) = heard {
            *answers = Answers::default();
            return (false, until);
        }
        let now = Instant::now();
        for voter in view.membership.voter_ids().filter(|voter| *voter != this) {
            let is_due = answers.asked.get(&voter).is_none_or(|asked| *asked + timing.heartbeat <= now);
            if is_due && answers.open.insert(voter) {
                answers.asked.insert(voter, now);
                self.ask(voter, view, &mut answers.tasks);
            }
        }
        let valid = now.checked_sub(timing.election.0);
        let is_free = is_majority(&view.membership, &answers.since(valid, this));
        (is_free, Some(now + timing.heartbeat))
    }

    /// Asks a voter. The answer comes in time or not at all.
    fn ask(&self, voter: NodeId, view: &View, tasks: &mut JoinSet<(NodeId, bool)>) {
        let address = view.membership.get_node(&voter).cloned().unwrap_or_default();
        let link = self.network().link(voter, &address);
        let (request, patience) = (Request::Poll { last: view.last }, self.options.timing.election.0);
        tasks.spawn(async move {
            let answer = link.ask(&request, patience).await;
            (voter, matches!(answer, Ok(Answer::Poll(true))))
        });
    }

    /// The answer to another voter's poll, whose log ends at `last`.
    pub async fn polled(&self, running: &Running, last: Option<LogId>) -> Option<bool> {
        let view = self.view(running).await?;
        let hears_nobody = match view.hears {
            Hears::Nobody => true,
            Hears::Until(_) => false,
            Hears::Itself => !self.is_followed(running),
        };
        Some(hears_nobody && last >= view.last)
    }

    /// Whether this leader wants to be followed, and is.
    fn is_followed(&self, running: &Running) -> bool {
        let is_silent = self.is_abdicating.load(Ordering::Acquire)
            || is_out_of_place(&running.core.server_metrics().borrow());
        let answered_ms = running.core.metrics().borrow().millis_since_quorum_ack;
        !is_silent && answered_ms.is_none_or(|ms| Duration::from_millis(ms) <= self.lease())
    }

    /// How long a voter elects nobody else after it has heard its leader.
    fn lease(&self) -> Duration {
        self.options.timing.election.1
    }

    async fn view(&self, running: &Running) -> Option<View> {
        let lease = self.lease();
        let state = running.core.with_raft_state(move |state| {
            let heard = state.vote_last_modified().filter(|_| state.vote_ref().is_committed());
            let hears = match heard.map(|heard| heard + lease) {
                _ if state.server_state == ServerState::Leader => Hears::Itself,
                Some(end) if Instant::now() < end => Hears::Until(end),
                _ => Hears::Nobody,
            };
            (hears, state.membership_state.effective().membership().clone())
        });
        let (hears, membership) = state.await.ok()?;
        let last = running.core.data_metrics().borrow().last_log;
        Some(View { hears, membership, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId([number; 20])
    }

    fn nodes(numbers: &[u8]) -> BTreeSet<NodeId> {
        numbers.iter().copied().map(node).collect()
    }

    #[test]
    fn a_majority_is_one_of_each_set_of_voters() {
        let of = |configs: &[&[u8]]| {
            let all = nodes(&configs.concat()).into_iter().map(|node| (node, Default::default()));
            Membership::new(
                configs.iter().map(|config| nodes(config)).collect(),
                all.collect::<BTreeMap<_, _>>(),
            )
        };
        let three = of(&[&[1, 2, 3]]);
        assert!(!is_majority(&three, &nodes(&[1])) && !is_majority(&three, &nodes(&[1, 4])));
        assert!(is_majority(&three, &nodes(&[1, 3])));
        let four = of(&[&[1, 2, 3, 4]]);
        assert!(!is_majority(&four, &nodes(&[1, 2])) && is_majority(&four, &nodes(&[1, 2, 3])));
        let changing = of(&[&[1, 2, 3], &[1, 4, 5]]);
        assert!(!is_majority(&changing, &nodes(&[1, 2, 3])) && !is_majority(&changing, &nodes(&[2, 3, 4])));
        assert!(is_majority(&changing, &nodes(&[1, 2, 4])));
        assert!(is_majority(&of(&[&[1]]), &nodes(&[1])));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_counts_from_when_it_was_asked_for() {
        let mut answers = Answers::default();
        let begin = Instant::now();
        answers.asked.insert(node(2), begin);
        answers.open.insert(node(2));
        answers.note(node(2), true);
        assert!(answers.open.is_empty());
        assert_eq!(answers.since(Some(begin), node(1)), nodes(&[1, 2]));
        assert_eq!(answers.since(Some(begin + Duration::from_millis(1)), node(1)), nodes(&[1]));
        answers.note(node(2), false);
        assert_eq!(answers.since(Some(begin), node(1)), nodes(&[1]), "it hears somebody again");
        answers.note(node(3), true);
        assert_eq!(answers.since(None, node(1)), nodes(&[1]), "who was not asked has not answered");
    }
}
