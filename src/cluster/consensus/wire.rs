//! What voters say to one another, as bytes.
//!
//! ```text
//! version (1) · postcard of `Request` or `Answer`
//! ```
//! A message carries the version with which its kind came, so that nodes of two versions understand one another in what both know.
//! To what is of a later version than a node knows it answers that it is unable to.
//!
//! What comes from another node is checked before the library sees it, which trusts its peers and would end at what cannot be: an
//! entry out of order, a vote in somebody else's name, a term with nothing above it.

use super::log::{decode, encode};
use super::machine::Snapshot;
use super::types::{Entry, LogId, Membership, StoredMembership, Types, Vote};
use crate::base::ids::NodeId;
use crate::cluster::map::Command;
use openraft::EntryPayload;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

/// The latest version of a message: 1, and 2 for [`Request::Poll`] and its answer.
const VERSION: u8 = 2;
/// Bytes of a message at most. A snapshot is the largest: a map of 256 nodes and 16,384 partitions is a tenth of it.
pub const MESSAGE_BYTES_MAX: usize = 32 << 20;
/// Terms and indexes at most: there is always one above.
const COUNT_MAX: u64 = 1 << 48;
/// Nodes that vote or learn at most.
const NODES_MAX: usize = 512;
/// Sets of voters in one membership: two while they change, which the library allows to be interrupted.
const CONFIGS_MAX: usize = 4;

/// To a voter or a learner.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// The next entries, or none: a heartbeat.
    Append(AppendEntriesRequest<Types>),
    /// Elect me.
    Vote(VoteRequest<NodeId>),
    /// Everything, as the log does not reach back far enough.
    Snapshot {
        /// The leader's.
        vote: Vote,
        /// See [`Snapshot`].
        bytes: Vec<u8>,
    },
    /// Do you hear a leader, or would you elect me? It changes nothing: see [`super::poll`].
    Poll {
        /// Where the asker's log ends.
        last: Option<LogId>,
    },
}

/// From a voter or a learner.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// To `Append`.
    Append(AppendEntriesResponse<NodeId>),
    /// To `Vote`.
    Vote(VoteResponse<NodeId>),
    /// To `Snapshot`.
    Snapshot(SnapshotResponse<NodeId>),
    /// It elects nobody yet, or its disk does not work.
    Unable,
    /// To `Poll`: it hears no leader, and its own log is no longer than the asker's.
    Poll(bool),
}

/// What may be sent.
pub trait Message: Serialize + for<'a> Deserialize<'a> {
    /// The version with which its kind came.
    fn version(&self) -> u8;
}

impl Message for Request {
    fn version(&self) -> u8 {
        match self {
            Request::Append(_) | Request::Vote(_) | Request::Snapshot { .. } => 1,
            Request::Poll { .. } => 2,
        }
    }
}

impl Message for Answer {
    fn version(&self) -> u8 {
        match self {
            Answer::Append(_) | Answer::Vote(_) | Answer::Snapshot(_) | Answer::Unable => 1,
            Answer::Poll(_) => 2,
        }
    }
}

/// The bytes of a message.
pub fn to_bytes<T: Message>(message: &T) -> Vec<u8> {
    let mut bytes = vec![message.version()];
    bytes.extend(encode(message));
    bytes
}

/// Whether a message is of a version that this program does not know yet.
pub fn is_of_later_version(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|version| *version > VERSION)
}

/// A request of this node; `None` if that cannot be one.
pub fn request(from: NodeId, bytes: &[u8]) -> Option<Request> {
    let request = message(bytes)?;
    is_sound(from, &request).then_some(request)
}

/// An answer of the node that was asked; `None` if that cannot be one.
pub fn answer(bytes: &[u8]) -> Option<Answer> {
    let answer = message(bytes)?;
    let is_sound = match &answer {
        Answer::Append(AppendEntriesResponse::HigherVote(vote)) => is_vote(vote),
        Answer::Append(AppendEntriesResponse::PartialSuccess(upto)) => is_place(*upto),
        Answer::Append(_) | Answer::Unable | Answer::Poll(_) => true,
        Answer::Vote(response) => is_vote(&response.vote) && is_place(response.last_log_id),
        Answer::Snapshot(response) => is_vote(&response.vote),
    };
    is_sound.then_some(answer)
}

/// The commands that a request brings, for who looks at what they would do.
pub fn commands(request: &Request) -> impl Iterator<Item = &Command> {
    let entries = match request {
        Request::Append(append) => &append.entries[..],
        Request::Vote(_) | Request::Snapshot { .. } | Request::Poll { .. } => &[],
    };
    entries.iter().filter_map(|entry| match &entry.payload {
        EntryPayload::Normal(command) => Some(command),
        EntryPayload::Blank | EntryPayload::Membership(_) => None,
    })
}

fn message<T: Message>(bytes: &[u8]) -> Option<T> {
    let (version, rest) = bytes.split_first().filter(|_| bytes.len() <= MESSAGE_BYTES_MAX)?;
    let message: T = decode(rest).ok()?;
    (message.version() == *version).then_some(message)
}

fn is_sound(from: NodeId, request: &Request) -> bool {
    match request {
        Request::Append(append) => {
            is_of_leader(from, &append.vote)
                && is_place(append.prev_log_id)
                && is_place(append.leader_commit)
                && follow(append.prev_log_id, &append.entries, &append.vote)
        }
        Request::Vote(request) => {
            is_vote(&request.vote)
                && !request.vote.committed
                && request.vote.leader_id.node_id == from
                && is_place(request.last_log_id)
        }
        Request::Snapshot { vote, bytes } => is_of_leader(from, vote) && snapshot(bytes).is_some(),
        Request::Poll { last } => is_place(*last),
    }
}

/// The snapshot in a request; `None` if it cannot be one.
pub fn snapshot(bytes: &[u8]) -> Option<Snapshot> {
    let snapshot = Snapshot::from_bytes(bytes).ok()?;
    let is_sound = snapshot.last.is_some()
        && is_place(snapshot.last)
        && is_stored_membership(&snapshot.membership)
        && snapshot.membership.log_id() <= &snapshot.last
        && snapshot.leadership.number <= COUNT_MAX;
    is_sound.then_some(snapshot)
}

fn is_vote(vote: &Vote) -> bool {
    vote.leader_id.term < COUNT_MAX
}

/// Only who was elected sends entries.
fn is_of_leader(from: NodeId, vote: &Vote) -> bool {
    is_vote(vote) && vote.committed && vote.leader_id.node_id == from
}

fn is_place(place: Option<LogId>) -> bool {
    place.is_none_or(|place| place.index < COUNT_MAX && place.leader_id.term < COUNT_MAX)
}

/// Whether these entries follow `before` one by one, none of them by a later leader than the one who sends them.
fn follow(before: Option<LogId>, entries: &[Entry], vote: &Vote) -> bool {
    let mut last = before;
    entries.iter().all(|entry| {
        let place = entry.log_id;
        let is_next = match last {
            Some(last) => place.index == last.index + 1 && place.leader_id >= last.leader_id,
            None => place.index == 0,
        };
        last = Some(place);
        is_next && place.leader_id <= vote.leader_id && is_place(last) && is_payload(entry)
    })
}

fn is_payload(entry: &Entry) -> bool {
    match &entry.payload {
        EntryPayload::Membership(membership) => is_membership(membership),
        EntryPayload::Blank | EntryPayload::Normal(_) => true,
    }
}

fn is_stored_membership(membership: &StoredMembership) -> bool {
    is_place(*membership.log_id()) && is_membership(membership.membership())
}

/// Whether there are voters, and each of them is a known node.
fn is_membership(membership: &Membership) -> bool {
    let configs = membership.get_joint_config();
    (1..=CONFIGS_MAX).contains(&configs.len())
        && membership.nodes().count() <= NODES_MAX
        && configs.iter().all(|config| !config.is_empty())
        && membership.voter_ids().all(|node| membership.get_node(&node).is_some())
}
