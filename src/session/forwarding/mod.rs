//! Forwarding: a command whose data has its primary elsewhere is run there, and its reply given to the client as if it had run here.
//!
//! [`Forwarding`] is what this layer needs of the cluster: who is primary of what, and a way to ask it. [`message`] is what is asked
//! and answered. Here is what a node keeps for it: the way itself, and how much waits for a primary ([`Parked`]).
//!
//! Invariants:
//! - a command is forwarded once: who gets it and is not the primary says so, and has not run it;
//! - a change whose outcome is unknown is never simply sent again;
//! - what waits is bounded, in number, bytes and time.

pub mod message;
pub mod served;
pub mod watches;

use crate::base::ids::{NodeId, PartitionId};
use crate::cluster::bus::CallError;
use crate::session::client::Client;
use crate::store::PartitionSet;
use async_trait::async_trait;
use message::RequestId;
use parking_lot::Mutex;
use served::Served;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;
use watches::Watches;

/// Commands of this node's clients that may wait for a primary at a time.
const PARKED_COMMANDS_MAX: usize = 65_536;
/// Bytes of their words.
const PARKED_BYTES_MAX: usize = 128 << 20;

/// Where a command is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// This node is the primary of all that it needs.
    Here,
    /// That node is.
    There(NodeId),
    /// Something that it needs has no primary at the moment.
    Nobody,
    /// What it needs has several primaries.
    Several,
}

impl Route {
    /// Where a command is to run that needs what both need.
    #[must_use]
    pub fn and(self, other: Route) -> Route {
        match (self, other) {
            (a, b) if a == b => a,
            (Route::Nobody, _) | (_, Route::Nobody) => Route::Nobody,
            _ => Route::Several,
        }
    }
}

/// What forwarding needs of the cluster.
#[async_trait]
pub trait Forwarding: Send + Sync + 'static {
    /// This node.
    fn me(&self) -> NodeId;

    /// Number of partitions.
    fn partition_count(&self) -> u16;

    /// Who is primary of a partition: `Here` only as long as this node may answer, `There` as far as this node knows. Never `Several`.
    fn primary(&self, partition: PartitionId) -> Route;

    /// Where every command is to run, whatever it needs, if that is known. It is asked for each command.
    fn common(&self) -> Option<Route> {
        None
    }

    /// Where a command is to run that needs these.
    fn route(&self, partitions: &PartitionSet) -> Route {
        if let Some(route) = self.common() {
            return route;
        }
        let mut route = None;
        partitions.is_every(self.partition_count(), |id| {
            let primary = self.primary(id);
            route = Some(route.map_or(primary, |route: Route| route.and(primary)));
            true
        });
        route.unwrap_or(Route::Here)
    }

    /// Whether this node has a copy of all of these that is no part of one.
    fn has_copy(&self, partitions: &PartitionSet) -> bool;

    /// Where clients reach that node, if it is heard; none if it is not, or if that is not known.
    fn address(&self, _node: NodeId) -> Option<(String, u16)> {
        None
    }

    /// Tells when somebody else became primary, or somebody's lease came or went.
    fn changes(&self) -> watch::Receiver<u64>;

    /// The answer of what serves such requests at that node, within `patience`.
    async fn forward(&self, to: NodeId, request: Vec<u8>, patience: Duration) -> Result<Vec<u8>, CallError>;
}

/// What a node keeps for forwarding.
#[derive(Default)]
pub struct Forwards {
    way: OnceLock<Arc<dyn Forwarding>>,
    process: OnceLock<u64>,
    /// What waits for a primary.
    pub parked: Parked,
    /// Changes that other nodes ask for.
    pub served: Served,
    /// Keys that clients of other nodes watch here.
    pub watches: Watches,
    /// Those who stand here for clients of other nodes whose commands wait.
    pub waiting: Mutex<HashMap<RequestId, Arc<Client>>>,
}

impl Forwards {
    /// Names this process among all that this node is ever run by.
    pub fn process(&self) -> u64 {
        *self.process.get_or_init(rand::random)
    }

    /// The way to other nodes; none on a server without a cluster, for which this is all that forwarding costs.
    #[inline]
    pub fn get(&self) -> Option<&Arc<dyn Forwarding>> {
        self.way.get()
    }

    /// From now on commands are forwarded. To be called once, before clients are served.
    pub fn begin(&self, way: Arc<dyn Forwarding>) {
        assert!(self.way.set(way).is_ok(), "forwarding begins once");
    }
}

/// How much waits for a primary.
#[derive(Default)]
pub struct Parked {
    commands: AtomicUsize,
    bytes: AtomicUsize,
}

impl Parked {
    /// Lets so many commands with words of so many bytes wait, unless that is too much. What is entered is to leave.
    pub fn enter(&self, commands: usize, bytes: usize) -> bool {
        let commands_before = self.commands.fetch_add(commands, Ordering::Relaxed);
        let bytes_before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        // One alone may always wait, however large it is.
        let fits = commands_before == 0
            || (commands_before + commands <= PARKED_COMMANDS_MAX
                && bytes_before + bytes <= PARKED_BYTES_MAX);
        if !fits {
            self.leave(commands, bytes);
        }
        fits
    }

    /// What was entered waits no more.
    pub fn leave(&self, commands: usize, bytes: usize) {
        self.commands.fetch_sub(commands, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// How many commands wait.
    pub fn commands(&self) -> usize {
        self.commands.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded() {
        let parked = Parked::default();
        assert!(parked.enter(1, PARKED_BYTES_MAX * 2), "one alone");
        assert!(!parked.enter(1, 1));
        parked.leave(1, PARKED_BYTES_MAX * 2);
        assert!(parked.enter(PARKED_COMMANDS_MAX, 10) && !parked.enter(1, 1));
        parked.leave(PARKED_COMMANDS_MAX, 10);
        assert_eq!((parked.commands(), parked.bytes.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn routes_add_up() {
        let (a, b) = (Route::There(NodeId([1; 20])), Route::There(NodeId([2; 20])));
        assert_eq!((a.and(a), a.and(b), a.and(Route::Here)), (a, Route::Several, Route::Several));
        assert_eq!((a.and(Route::Nobody), Route::Nobody.and(b)), (Route::Nobody, Route::Nobody));
    }
}
