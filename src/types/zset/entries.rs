//! Members and scores in a row, and the order they stand in.
//!
//! ```text
//! for each: score (8, bits of the double, big-endian) · length (varint) · member
//! ```

use crate::types::varint;
use smallvec::SmallVec;
use std::cmp::Ordering;

/// A score and its member.
pub type Scored<'a> = (f64, &'a [u8]);

/// Walks the members of a row; ends at bytes that are none.
#[derive(Clone)]
pub struct Entries<'a> {
    bytes: &'a [u8],
    /// Where the next one begins.
    pub at: usize,
}

impl<'a> Entries<'a> {
    /// Of a row, or a part of it.
    pub fn new(bytes: &'a [u8]) -> Entries<'a> {
        Entries { bytes, at: 0 }
    }

    fn entry(&mut self) -> Option<Scored<'a>> {
        let score =
            f64::from_bits(u64::from_be_bytes(self.bytes.get(self.at..self.at + 8)?.try_into().ok()?));
        let mut at = self.at + 8;
        let len = get_varint(self.bytes, &mut at)?;
        let member = self.bytes.get(at..at.checked_add(len)?)?;
        self.at = at + len;
        Some((score, member))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Scored<'a>;

    #[inline]
    fn next(&mut self) -> Option<Scored<'a>> {
        self.entry()
    }
}

/// Reads a length or a count at `at`, which goes behind it. None is as long as 2^56.
#[inline]
pub fn get_varint(bytes: &[u8], at: &mut usize) -> Option<usize> {
    varint::take(bytes, at).filter(|value| value >> 56 == 0).map(|value| value as usize)
}

/// Appends a number.
pub fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 128 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a member.
pub fn put(out: &mut Vec<u8>, (score, member): Scored) {
    out.extend_from_slice(&score.to_bits().to_be_bytes());
    put_varint(out, member.len());
    out.extend_from_slice(member);
}

/// A score as a number in the same order; both zeros are one.
pub fn orderable(score: f64) -> u64 {
    let bits = if score == 0.0 { 0 } else { score.to_bits() };
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// The order of members: by score, then by bytes.
pub fn compare(a: Scored, b: Scored) -> Ordering {
    orderable(a.0).cmp(&orderable(b.0)).then_with(|| a.1.cmp(b.1))
}

/// Bytes in the same order: what stands before a bound compares as less.
pub type SortKey = SmallVec<[u8; 64]>;

/// That of a member.
pub fn sort_key((score, member): Scored) -> SortKey {
    let mut key = SmallVec::from_slice(&orderable(score).to_be_bytes());
    key.extend_from_slice(member);
    key
}

/// How a member compares with a sort key, without making its own.
pub fn compare_to_key((score, member): Scored, key: &[u8]) -> Ordering {
    let Some((head, tail)) = key.split_first_chunk::<8>() else {
        return orderable(score).to_be_bytes()[..].cmp(key);
    };
    orderable(score).cmp(&u64::from_be_bytes(*head)).then_with(|| member.cmp(tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sort_keys_are_in_the_order_of_members() {
        let scores = [f64::NEG_INFINITY, -1e300, -1.5, -0.0, 0.0, 5e-324, 1.0, f64::INFINITY];
        let members = [&b""[..], b"\0", b"a", b"a\0", b"ab", b"\xff"];
        let all: Vec<Scored> =
            scores.iter().flat_map(|&score| members.map(|member| (score, member))).collect();
        for &a in &all {
            for &b in &all {
                let expected = a.0.partial_cmp(&b.0).expect("no NaN").then_with(|| a.1.cmp(b.1));
                assert_eq!(sort_key(a).cmp(&sort_key(b)), expected);
                assert_eq!(compare(a, b), expected);
                assert_eq!(compare_to_key(a, &sort_key(b)), expected);
            }
        }
    }

    #[test]
    fn damaged_rows_end_early() {
        let mut row = Vec::new();
        put(&mut row, (1.5, b"one"));
        put(&mut row, (2.5, &[b'x'; 300]));
        assert_eq!(Entries::new(&row).collect::<Vec<_>>(), [(1.5, &b"one"[..]), (2.5, &[b'x'; 300][..])]);
        for cut in 0..row.len() {
            assert!(Entries::new(&row[..cut]).count() <= 1);
        }
        assert_eq!(Entries::new(&[255; 40]).count(), 0);
    }
}
