//! What nodes say to one another about the cluster itself ([`Kind::Control`](super::bus::Kind)): bytes as postcard writes them.

use super::map::{ClusterMap, Promotion};
use super::promotion::Answer;
use crate::base::ids::{NodeId, PartitionId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// To the leader: a lease, please.
    Renew {
        /// Which process of the node asks.
        incarnation: u64,
        /// The version of its map.
        version: u64,
        /// It is primary by the map and has stopped to be: others are to be chosen.
        gave_up: bool,
    },
    /// To anybody: where do your partitions stand?
    Positions,
    /// To anybody: this has been decided.
    Map(ClusterMap),
    /// To a primary: give these to that node, once it has everything.
    HandOver {
        /// What.
        partitions: Vec<PartitionId>,
        /// To whom.
        to: NodeId,
    },
    /// To the leader, from the primary of these partitions, which has stopped to take commands for them.
    Promote(Vec<Promotion>),
    /// To a node that is in no cluster: found none without me, I am about to, with this node among the voters.
    Promise,
    /// To the leader, from an operator's node: forget this node, once it has given away what it has.
    Forget(NodeId),
    /// To the leader, from an operator's node: that one is not to be forgotten after all.
    Keep(NodeId),
    /// To the leader, from an operator's node: so many copies of each partition, the primary's included.
    SetCopies(u16),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The lease is given, once the map has this version; here it is if the asker's is older.
    Granted {
        /// The least version of the map with which it holds.
        version: u64,
        /// The map.
        map: Option<ClusterMap>,
    },
    /// Not by this node; who leads, if it is known.
    NotLeader(Option<NodeId>),
    /// Where it stands.
    Positions(Answer),
    /// Done.
    Done,
    /// It cannot be, and is not: why, in words.
    Refused(String),
    /// It may be decided, now or later: why that is not known, in words.
    Unknown(String),
}

/// As bytes.
pub fn encode(message: &impl Serialize) -> Vec<u8> {
    postcard::to_allocvec(message).expect("a message has no part that cannot be written")
}

/// From bytes; `None` if they are none.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (message, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(message)
}
