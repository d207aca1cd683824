//! Members one behind the other: a small set's row, or a bucket of a big one.
//!
//! ```text
//! for each member: length (varint) · member
//! ```

use crate::types::varint;
use smallvec::SmallVec;
use std::ops::Range;

/// A length in front of a member.
pub type Length = SmallVec<[u8; 10]>;

/// Writes a length.
pub fn length(mut value: usize) -> Length {
    let mut out = Length::new();
    while value >= 128 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// Appends a member.
pub fn push(out: &mut Vec<u8>, member: &[u8]) {
    out.extend_from_slice(&length(member.len()));
    out.extend_from_slice(member);
}

/// A member's place in a row: where its length begins, and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The first byte of its length.
    pub from: usize,
    /// Its bytes.
    pub bytes: Range<usize>,
}

/// The places of all members, in order. Ends early where a row is damaged.
#[derive(Clone, Debug)]
pub struct Places<'a> {
    row: &'a [u8],
    at: usize,
}

impl<'a> Places<'a> {
    /// In this row.
    #[inline]
    pub fn of(row: &'a [u8]) -> Places<'a> {
        Places { row, at: 0 }
    }

    /// The same from this byte on, which is behind a member.
    #[inline]
    pub fn from(row: &'a [u8], at: usize) -> Places<'a> {
        Places { row, at }
    }

    #[inline]
    fn length(&mut self) -> Option<usize> {
        Some(varint::take(self.row, &mut self.at)? as usize)
    }
}

impl Iterator for Places<'_> {
    type Item = Place;

    #[inline]
    fn next(&mut self) -> Option<Place> {
        let from = self.at;
        let found = self.length().and_then(|len| {
            let end = self.at.checked_add(len).filter(|&end| end <= self.row.len())?;
            Some(Place { from, bytes: self.at..end })
        });
        self.at = found.as_ref().map_or(self.row.len(), |place| place.bytes.end);
        found
    }
}

/// All members of a row, in order.
#[inline]
pub fn members(row: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    Places::of(row).map(move |place| &row[place.bytes])
}

/// Where `member` stands.
#[inline]
pub fn find(row: &[u8], member: &[u8]) -> Option<Place> {
    Places::of(row).find(|place| row[place.bytes.clone()] == *member)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_where_they_are() {
        let mut row = Vec::new();
        let long = vec![b'x'; 300];
        for member in [&b"one"[..], b"", &long] {
            push(&mut row, member);
        }
        assert!(members(&row).eq([&b"one"[..], b"", &long]));
        assert_eq!(find(&row, b"one"), Some(Place { from: 0, bytes: 1..4 }));
        assert_eq!(find(&row, b""), Some(Place { from: 4, bytes: 5..5 }));
        assert_eq!(find(&row, &long), Some(Place { from: 5, bytes: 7..307 }));
        assert_eq!(find(&row, b"two"), None);
    }

    #[test]
    fn damaged_rows_end_early() {
        for row in [&[255; 20][..], &[5, b'a'], &[1, b'a', 200], &[255, 255, 255, 255, 255, 255, 255, 127]] {
            assert!(members(row).count() <= 1);
        }
    }
}
