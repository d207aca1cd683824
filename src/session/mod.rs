//! A client's state without its socket, and what all sessions share.

pub mod service;
#[expect(clippy::module_inception, reason = "the session is what this layer is about")]
pub mod session;
