//! The library's network, over the bus.

use super::types::{Types, Vote};
use super::wire::{self, Answer, Request};
use crate::base::ids::NodeId;
use crate::cluster::bus::{Bus, Kind};
use crate::cluster::map::Address;
use openraft::error::{Fatal, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend, Snapshot};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// Tells where a node is reached now. Addresses change at every restart, and are gossiped sooner than they are decided.
pub type Find = Arc<dyn Fn(NodeId) -> Option<Address> + Send + Sync>;

/// Makes links.
pub struct Network {
    /// Carries requests.
    pub bus: Arc<dyn Bus>,
    /// Where nodes are.
    pub find: Find,
    /// How long to leave a node alone that was not reached.
    pub pause: Duration,
}

/// To one node.
pub struct Link {
    bus: Arc<dyn Bus>,
    find: Find,
    pause: Duration,
    node: NodeId,
    /// Where the log says that it is.
    address: Address,
}

type Failed = RPCError<NodeId, Address, RaftError<NodeId>>;

fn unreachable(reason: &str) -> Unreachable {
    Unreachable::new(&AnyError::error(reason))
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Link;

    async fn new_client(&mut self, node: NodeId, address: &Address) -> Link {
        self.link(node, address)
    }
}

impl Network {
    /// To this node, which the log says is at this address.
    pub fn link(&self, node: NodeId, address: &Address) -> Link {
        let (bus, find) = (Arc::clone(&self.bus), Arc::clone(&self.find));
        Link { bus, find, pause: self.pause, node, address: address.clone() }
    }
}

impl Link {
    /// The answer to a request, if it comes in time and says something.
    ///
    /// # Errors
    /// If it does not; the node may have got the request all the same.
    pub async fn ask(&self, request: &Request, patience: Duration) -> Result<Answer, Unreachable> {
        let address = (self.find)(self.node).unwrap_or_else(|| self.address.clone());
        let bytes = wire::to_bytes(request);
        if bytes.len() > wire::MESSAGE_BYTES_MAX {
            return Err(unreachable("the message is too long"));
        }
        let answer = self.bus.call(self.node, &address, Kind::Consensus, bytes, patience).await;
        let answer = answer.map_err(|error| unreachable(&error.to_string()))?;
        match wire::answer(&answer) {
            Some(Answer::Unable) => Err(unreachable("it is unable to for now")),
            Some(answer) => Ok(answer),
            None => Err(unreachable("the answer makes no sense")),
        }
    }
}

fn another() -> Unreachable {
    unreachable("the answer is not to the request")
}

impl RaftNetwork<Types> for Link {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, Failed> {
        let (vote, before) = (request.vote, request.prev_log_id);
        let last = request.entries.last().map_or(before, |entry| Some(entry.log_id));
        let answer = self.ask(&Request::Append(request), option.hard_ttl()).await?;
        // The library ends at what cannot follow from what it sent.
        let Answer::Append(response) = answer else { return Err(another().into()) };
        let is_sound = match &response {
            AppendEntriesResponse::Success => true,
            AppendEntriesResponse::PartialSuccess(upto) => (before..=last).contains(upto),
            AppendEntriesResponse::Conflict => before.is_some(),
            AppendEntriesResponse::HigherVote(higher) => *higher > vote,
        };
        if is_sound { Ok(response) } else { Err(another().into()) }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<NodeId>,
        option: RPCOption,
    ) -> Result<VoteResponse<NodeId>, Failed> {
        match self.ask(&Request::Vote(request), option.hard_ttl()).await? {
            Answer::Vote(response) => Ok(response),
            _ => Err(another().into()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<Types>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<NodeId>, StreamingError<Types, Fatal<NodeId>>> {
        let request = Request::Snapshot { vote, bytes: *snapshot.snapshot };
        let answer = tokio::select! {
            biased;
            closed = cancel => return Err(closed.into()),
            answer = self.ask(&request, option.hard_ttl()) => answer?,
        };
        match answer {
            Answer::Snapshot(response) => Ok(response),
            _ => Err(another().into()),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(self.pause))
    }
}
