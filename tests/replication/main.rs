//! Two and more servers as processes: a replica has what its primary has, whatever happens to either.
//!
//! What time and the network can do stands in `tests/simulation`; here are real files, sockets and signals.

#[path = "../support/mod.rs"]
mod support;

mod away;
mod concern;
mod diverged;
mod follows;
mod pair;
mod snapshots;
