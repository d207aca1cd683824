//! What data types do, in Rust values, without RESP: functions over a view or a transaction of the store.

pub mod digest;
pub mod error;
pub mod keyspace;

pub mod bitmap;
pub mod counted;
pub mod geo;
pub mod hash;
pub mod hyperloglog;
pub mod lcs;
pub mod list;
pub mod set;
pub mod string;
mod varint;
pub mod zset;
