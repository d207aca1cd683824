//! Who is there: what each node says of itself, and who is heard. A node's own view, which others need not share; nothing is
//! decided by it.
//!
//! [`gossip`] is the one that is used: over [`socket`], which seals ([`sealed`]), with what nodes say of themselves ([`profile`]),
//! from [`seeds`] on. The simulation has another.

pub mod gossip;
pub mod profile;
pub mod sealed;
pub mod seeds;
pub mod socket;

use super::map::Address;
use crate::base::ids::{Epoch, Lsn, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Which node.
    pub node: NodeId,
    /// Where it is reached. An empty host: where its messages come from.
    pub address: Address,
    /// Copies of a partition are put into different zones.
    pub zone: String,
    /// Version of the program.
    pub version: String,
    /// It votes and keeps no data.
    pub is_witness: bool,
    /// It could take changes: its disk has room and works.
    pub can_serve: bool,
    /// The cluster that it is in; none before it was admitted.
    pub cluster: Option<NodeId>,
    /// How many nodes it waits for to found a cluster; 0 if it only joins one.
    pub expects: u16,
    /// Number of its partitions.
    pub partitions: u16,
    /// Where its partitions stand: sum of the LSNs and highest epoch, to see who has data at all.
    pub position: (Epoch, Lsn),
}

/// Who is there, as this node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Heard lately, this node included.
    pub live: BTreeMap<NodeId, Profile>,
    /// Known, and not heard lately.
    pub dead: BTreeMap<NodeId, Profile>,
}

/// Tells who is there.
pub trait Membership: Send + Sync + 'static {
    /// What is known. Tells when it changes.
    fn view(&self) -> watch::Receiver<Arc<View>>;

    /// What others are to learn of this node from now on.
    fn tell(&self, own: Profile);

    /// From now on looks for nodes at `HOST:BUSPORT` too. False if that is not possible.
    fn meet(&self, _seed: String) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
