//! The control plane: one [`ClusterMap`], changed by commands that a quorum of voters has.
//!
//! Reading order: [`shelf`] (what must survive), `log` and `machine` (what is kept there), `wire` and `network` (what voters say to
//! one another), `poll` (who may stand for election), [`raft`] (all of it together, as a [`ControlPlane`]), `voters` (changes of
//! who decides).

mod log;
mod machine;
mod network;
mod poll;
pub mod raft;
pub mod shelf;
#[cfg(test)]
mod tests;
mod types;
mod voters;
pub mod wire;

pub use network::Find;

use super::map::{Address, ClusterMap, Command, Outcome};
use crate::base::ids::NodeId;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// Nodes that vote at most.
pub const VOTERS_MAX: usize = 5;

/// How many of so many nodes vote: an odd number, since of an even one no more may be missing than of the odd one below it. (Of two
/// voters both would be needed.)
pub fn voters_of(nodes: usize) -> usize {
    let most = nodes.min(VOTERS_MAX);
    if most.is_multiple_of(2) { most.saturating_sub(1).max(1) } else { most }
}

/// Who leads, as this node knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leading {
    /// Numbers the time in which it leads: no two leaders have the same, and who leads later has a higher one. 0 as long as this
    /// node does not know it, because it has not applied everything that was decided before.
    pub term: u64,
    /// The leader, if it is known.
    pub leader: Option<NodeId>,
    /// Whether it is this node, and it has applied everything that was decided before its term.
    pub is_me: bool,
}

/// Why something was not decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlError {
    /// This node does not lead; who does, if that is known.
    NotLeader(Option<NodeId>),
    /// It may or may not be decided: the quorum did not answer in time.
    Unknown(String),
    /// It cannot be.
    Failed(String),
}

/// Decides, on a quorum of voters.
#[async_trait]
pub trait ControlPlane: Send + Sync + 'static {
    /// The map as far as this node has it. Tells when it changes.
    fn map(&self) -> watch::Receiver<Arc<ClusterMap>>;

    /// Who leads. Tells when it changes.
    fn leading(&self) -> watch::Receiver<Leading>;

    /// Has a command decided. Only the leader can.
    async fn propose(&self, command: Command) -> Result<Outcome, ControlError>;

    /// That this node leads at some moment after the call began: a quorum has said so. Returns its term.
    async fn confirm(&self) -> Result<u64, ControlError>;

    /// Begins the log with these voters. To be called at one of them, which must have nothing in its log.
    async fn found(&self, voters: BTreeMap<NodeId, Address>) -> Result<(), ControlError>;

    /// Makes these the voters, and these the nodes that learn what is decided. Only the leader can; one change at a time. A leader
    /// that is not among the voters does the rest, lets another lead and answers `NotLeader`: that one must be asked once more.
    async fn set_voters(
        &self,
        voters: BTreeMap<NodeId, Address>,
        learners: BTreeMap<NodeId, Address>,
    ) -> Result<(), ControlError>;

    /// Who votes and who learns, as this node knows.
    fn voters(&self) -> (Vec<NodeId>, Vec<NodeId>);
}
