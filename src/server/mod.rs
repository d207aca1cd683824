//! Sockets: connections come in here, their commands are dispatched, their replies leave.

pub mod listener;
