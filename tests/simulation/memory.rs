//! What is on its way to a follower stays within the window, one more batch, and one more record: neither side's memory depends on how
//! slow the other is.

use crate::witness::Invariant;

/// Heartbeats and answers besides the data.
const MESSAGES_BYTES: u64 = 4096;

/// See the module.
pub struct Memory {
    bound: u64,
}

impl Memory {
    /// With windows of so many bytes, batches (or chunks) of so many, and records of so many at most.
    pub fn new(window: u64, batch: usize, record: usize) -> Memory {
        Memory { bound: window + 2 * batch as u64 + record as u64 + MESSAGES_BYTES }
    }
}

impl Invariant for Memory {
    fn measure(&mut self, in_flight: u64) -> Result<(), String> {
        if in_flight > self.bound {
            return Err(format!("{in_flight} bytes are on their way, more than {}", self.bound));
        }
        Ok(())
    }
}
