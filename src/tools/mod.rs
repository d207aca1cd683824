//! What `larder` does besides serving: subcommands that look at files and talk to servers from outside.

pub mod export;
mod folder;
pub mod import;
pub mod lost;

pub use folder::Folder;
