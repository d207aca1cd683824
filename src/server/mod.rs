//! Sockets: connections come in here, their commands are dispatched, their replies leave.

pub mod buffers;
pub mod connection;
pub mod dispatch;
pub mod housekeeping;
pub mod listener;
mod listening;
pub mod names;
pub mod runtime;
pub mod sweep;
