//! Parts that are wrong on purpose.

use async_trait::async_trait;
use larder::base::ids::NodeId;
use larder::cluster::consensus::raft::Raft;
use larder::cluster::consensus::{ControlError, ControlPlane, Leading};
use larder::cluster::map::{Address, ClusterMap, Command, Outcome};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// A control plane that confirms whatever it believes.
pub struct Unconfirmed(pub Arc<Raft>);

#[async_trait]
impl ControlPlane for Unconfirmed {
    fn map(&self) -> watch::Receiver<Arc<ClusterMap>> {
        self.0.map()
    }

    fn leading(&self) -> watch::Receiver<Leading> {
        self.0.leading()
    }

    async fn propose(&self, command: Command) -> Result<Outcome, ControlError> {
        self.0.propose(command).await
    }

    async fn confirm(&self) -> Result<u64, ControlError> {
        let leading = *self.0.leading().borrow();
        if leading.is_me { Ok(leading.term) } else { Err(ControlError::NotLeader(leading.leader)) }
    }

    async fn found(&self, voters: BTreeMap<NodeId, Address>) -> Result<(), ControlError> {
        self.0.found(voters).await
    }

    async fn set_voters(
        &self,
        voters: BTreeMap<NodeId, Address>,
        learners: BTreeMap<NodeId, Address>,
    ) -> Result<(), ControlError> {
        self.0.set_voters(voters, learners).await
    }

    fn voters(&self) -> (Vec<NodeId>, Vec<NodeId>) {
        self.0.voters()
    }
}
