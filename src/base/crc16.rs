//! The slot of a key: CRC-16/XMODEM of the key, or of its {hash tag}, as the Redis Cluster specification defines it.

use super::ids::{SLOTS, Slot};
use crc::{CRC_16_XMODEM, Crc, Table};

static CRC: Crc<u16, Table<16>> = Crc::<u16, Table<16>>::new(&CRC_16_XMODEM);

/// The slot `key` belongs to. What stands between the first `{` and the next `}` is hashed alone if it is not empty.
#[inline]
pub fn slot(key: &[u8]) -> Slot {
    Slot(CRC.checksum(hash_tag(key)) % SLOTS)
}

#[inline]
fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = memchr::memchr(b'{', key) else { return key };
    match memchr::memchr(b'}', &key[open + 1..]) {
        Some(len) if len > 0 => &key[open + 1..open + 1 + len],
        _ => key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot(b"123456789").0, 0x31C3);
        assert_eq!(slot(b"{user1000}.following"), slot(b"{user1000}.followers"));
        assert_eq!(slot(b"foo{}{bar}").0, CRC.checksum(b"foo{}{bar}") % SLOTS);
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
        assert_eq!(slot(b"foo{bar}{zap}"), slot(b"bar"));
    }
}
