//! Eviction by `maxmemory` and its policies, and the access clocks they read.

/// Notes a use in an LFU cell: minutes of the last use in the upper 24 bits, a logarithmic counter below.
pub fn lfu_touch(access: u32, now: u32) -> u32 {
    let counter = access & 0xFF;
    (now << 8) | counter
}

/// What a new key starts with under LFU.
pub fn lfu_fresh(now: u32) -> u32 {
    (now << 8) | 5
}
