//! Words every layer shares: identifiers, time, numbers, patterns, byte strings. Imports nothing of ours.

mod big;
pub mod blob;
pub mod clock;
pub mod concern;
pub mod crash_point;
pub mod crc16;
pub mod gentle;
pub mod glob;
pub mod ids;
pub mod long_double;
pub mod number;
