//! Larder: a Redis-protocol cache-store that keeps what it is given.
//!
//! The layers in reading order, each importing only what stands above it here:

pub mod base;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod interop;
pub mod node;
pub mod observability;
pub mod protocol;
pub mod replication;
pub mod server;
pub mod session;
pub mod store;
pub mod tools;
pub mod types;
