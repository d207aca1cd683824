//! Sockets: connections come in here, their commands are dispatched, their replies leave.

#[cfg(test)]
mod blocking_tests;
pub mod buffers;
pub mod cluster;
mod confirmation;
pub mod connection;
#[cfg(test)]
mod connection_tests;
pub mod control_file;
pub mod dispatch;
mod events;
mod forward;
#[cfg(test)]
mod forward_golden_tests;
#[cfg(test)]
mod forward_tests;
mod host;
pub mod housekeeping;
pub mod http;
pub mod listener;
mod listening;
pub mod metrics;
pub mod names;
pub mod parts;
pub mod peer;
mod publishing;
mod redirect;
mod route;
pub mod runtime;
pub mod serving;
mod split;
mod stream;
pub mod supervisor;
pub mod sweep;
