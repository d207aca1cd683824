//! What `larder` does besides serving: subcommands that look at files and talk to servers from outside.

pub mod lost;
pub mod rdb;
