//! The Redis protocol without sockets and clocks: requests in, replies out, and what a command declares about itself.

pub mod args;
pub mod encode;
pub mod error;
pub mod parser;
pub mod reply;
pub mod spec;
