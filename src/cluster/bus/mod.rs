//! The bus: requests from node to node, each with its answer.

use super::map::Address;
use crate::base::ids::NodeId;
use async_trait::async_trait;
use std::time::Duration;

/// Who a request is for, at the other node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The consensus, from voter to voter.
    Consensus = 1,
    /// The control plane: leases, positions, what is to be decided.
    Control = 2,
    /// Commands of clients whose data is there.
    Forward = 3,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The other node did not get it, for certain: why, in words.
    NotSent(String),
    /// It may have got it and done what it says: why there is no answer, in words.
    Unknown(String),
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (CallError::NotSent(reason) | CallError::Unknown(reason)) = self;
        f.write_str(reason)
    }
}

/// Asks other nodes.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// The answer of the node at this address, which must be that node, within `patience`.
    async fn call(
        &self,
        node: NodeId,
        address: &Address,
        kind: Kind,
        request: Vec<u8>,
        patience: Duration,
    ) -> Result<Vec<u8>, CallError>;
}

/// Answers other nodes' requests of one kind.
#[async_trait]
pub trait Serve: Send + Sync + 'static {
    /// The answer; none ends the connection, as for what makes no sense.
    async fn serve(&self, from: NodeId, request: Vec<u8>) -> Option<Vec<u8>>;
}
