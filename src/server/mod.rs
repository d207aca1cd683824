//! Sockets: connections come in here, their commands are dispatched, their replies leave.

pub mod buffers;
mod confirmation;
pub mod connection;
#[cfg(test)]
mod connection_tests;
pub mod control_file;
pub mod dispatch;
pub mod housekeeping;
pub mod listener;
mod listening;
pub mod names;
pub mod peer;
pub mod runtime;
mod stream;
pub mod sweep;
