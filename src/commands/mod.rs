//! The command table: one file a group, each with its declarations beside its handlers.
//!
//! A declaration is built by `read`, `write` or `session`, which take functions of different types: a writer declared as a
//! reader does not compile. Everything else derives from [`GROUPS`].

mod command;
mod config;
mod databases;
mod expiry;
mod help;
mod keys;
pub mod keys_of;
mod scan;
pub mod table;

pub use command::{Command, Failure, Handler, Outcome, Request, container, read, session, write};
pub use help::help;

/// The groups, in the order of the documentation.
pub const GROUPS: &[&[Command]] =
    &[keys::COMMANDS, expiry::COMMANDS, scan::COMMANDS, databases::COMMANDS, config::COMMANDS];
