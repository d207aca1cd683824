//! Numbers in rows: seven bits a byte, the lowest first, with the highest bit set in all but the last.

use smallvec::SmallVec;

/// The highest bits that are read stand this high: nine bytes.
const SHIFT_MAX: u32 = 56;

/// Reads a number at `at`, which goes behind it. None if the bytes end before, or it is longer than any that is written.
#[inline]
pub fn take(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let (mut value, mut shift) = (0, 0);
    loop {
        let &byte = bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Some(value);
        }
        shift += 7;
        if shift > SHIFT_MAX {
            return None;
        }
    }
}

/// Appends a number.
#[inline]
pub fn put(out: &mut SmallVec<[u8; 1024]>, mut value: u64) {
    while value >= 128 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_taken() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), (1 << 63) - 1] {
            let mut bytes = SmallVec::new();
            put(&mut bytes, value);
            bytes.push(1);
            let mut at = 0;
            assert_eq!(take(&bytes, &mut at), Some(value));
            assert_eq!(at, bytes.len() - 1);
            assert_eq!(take(&bytes[..at - 1], &mut 0), None, "cut off");
        }
        assert_eq!(take(&[255; 20], &mut 0), None);
    }
}
