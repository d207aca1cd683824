//! The bus: requests from node to node, each with its answer.
//!
//! - [`wire`]: the bytes. [`channel`]: frames over a connection, sealed if there is a secret, watched for silence.
//! - [`link`]: a connection from the side that asks. [`tcp`]: all of them, and how they come to be.
//! - [`listen`]: the side that answers.
//!
//! A request goes out at most once. That there is no answer is told in two ways ([`CallError`]), and the difference can be trusted.

pub mod channel;
pub mod link;
pub mod listen;
pub mod tcp;
pub mod wire;

use super::map::Address;
use crate::base::ids::NodeId;
use async_trait::async_trait;
use std::time::Duration;
use tokio::sync::watch;
use wire::{Hello, Lane};

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
    /// Messages that clients have published.
    Publish = 8,
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

/// What a node says of itself when a connection begins.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Which node it is.
    pub node: NodeId,
    /// The cluster that it is in; none before it was admitted.
    pub cluster: watch::Receiver<Option<NodeId>>,
}

impl Identity {
    fn hello(&self, lane: Lane) -> Hello {
        Hello { node: self.node, cluster: *self.cluster.borrow(), lane }
    }

    /// Nodes of two clusters have nothing to say to one another; one that is in none may be about to join.
    fn accepts(&self, other: Hello) -> Result<(), String> {
        match (*self.cluster.borrow(), other.cluster) {
            (Some(own), Some(theirs)) if own != theirs => {
                Err(format!("node {} is of another cluster: {theirs}, and not {own}", other.node))
            }
            _ => Ok(()),
        }
    }
}

/// A sign that a node may be dead, or is not where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which node.
    pub node: NodeId,
    /// What was seen.
    pub sign: Sign,
}

/// What was seen of a node that may be dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Its machine answers, and nobody listens there: its process is not running.
    Refused,
    /// It closed the connection, or its system did so because the process has ended.
    Closed,
    /// It says nothing any more.
    Silent,
    /// There is no way to its address, or what is there is not a node that this one may talk to.
    Unreachable,
    /// Another node answers at its address.
    Elsewhere,
}

#[cfg(test)]
mod tests;
