//! The cluster: who is there, who decides, who is primary of what, and where a command goes.
//!
//! Gossip suspects, the quorum decides, the lease fences:
//! - [`membership`] tells which nodes are there and how to reach them. Each node has its own view of it; nothing is decided by it.
//! - [`consensus`] keeps one [`map`] of the cluster on a quorum of voters. What is decided is a command in its log.
//! - [`lease`]: a primary may answer as long as it has a lease of the control leader; its successor starts when that is over.
//! - [`promotion`] and [`placement`] say what is to be decided next: pure functions of what is known, time included.
//! - [`bus`] carries what nodes say to one another, but for gossip and replication.
//! - [`trust`] says whom a node listens to.
//!
//! Nothing here knows of data or clients: positions come in, the map goes out, as plain values.

pub mod bus;
mod calm;
pub mod consensus;
mod controller;
mod founding;
pub mod lease;
pub mod map;
pub mod membership;
pub mod messages;
pub mod node;
#[cfg(test)]
mod node_tests;
pub mod placement;
pub mod promotion;
pub mod trust;
