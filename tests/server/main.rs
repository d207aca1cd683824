//! Behaviour over sockets: each test starts the real binary on a port and a folder of its own.
//!
//! `LARDER_TEST_BINARY` names another binary to test; `LARDER_SEED` makes other random choices.

#[path = "../support/mod.rs"]
mod support;

mod append_only;
mod blocking;
mod clients;
mod configuration;
mod connections;
mod differential;
mod hash_deadlines;
mod http;
mod limits;
mod lost;
mod newer_servers;
mod observability;
mod protocol;
mod pubsub;
mod rdb;
mod restart;
mod roles;
mod semantics;
mod slots;
mod sort;
mod table;
