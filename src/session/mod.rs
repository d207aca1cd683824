//! A client's state without its socket, and what all sessions share.
//!
//! Reading order: `session` (what only its own connection touches), `client` (what others see of it and how they reach it),
//! `clients` (who is connected), `multi` and `watch` (transactions), `pause`, `monitor`, `pubsub`, `forwarding` (commands for other nodes),
//! `service` (all of it together).

pub mod apply;
pub mod client;
pub mod clients;
pub mod copies;
pub mod descriptors;
pub mod forwarding;
pub mod handover;
pub mod holds;
pub mod imported;
pub mod monitor;
pub mod multi;
pub mod pause;
pub mod pubsub;
pub mod roles;
pub mod saving;
pub mod service;
#[expect(clippy::module_inception, reason = "the session is what this layer is about")]
pub mod session;
pub mod stop;
pub mod waiting;
pub mod watch;
