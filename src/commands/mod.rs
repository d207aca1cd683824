//! The command table: one file a group, each with its declarations beside its handlers.
//!
//! A declaration is built by `read`, `write` or `session`, which take functions of different types: a writer declared as a
//! reader does not compile. Everything else derives from [`GROUPS`].

mod command;
pub mod keys_of;
pub mod table;

pub use command::{Command, Failure, Handler, Outcome, Request, container, read, session, write};

/// The groups, in the order of the documentation.
pub const GROUPS: &[&[Command]] = &[];
