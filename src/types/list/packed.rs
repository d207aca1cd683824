//! Elements one behind the other in one byte string: a small list, or a leaf of a large one.
//!
//! ```text
//! number of elements (varint) · for each: length (varint) · bytes
//! ```
//!
//! It is short, so it is read from its beginning whatever is looked for, and written anew by every change. Bytes that make no sense
//! end the reading; they panic nobody.

use crate::types::varint;
use smallvec::SmallVec;
use std::ops::Range;

/// Elements that share the bytes they were read from.
pub type Elements<'a> = SmallVec<[&'a [u8]; 32]>;
/// Packed elements.
pub type Packed = SmallVec<[u8; 1024]>;

/// Reads packed elements, each as the range of its bytes.
#[derive(Clone)]
pub struct Ranges<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Ranges<'a> {
    /// Of these packed elements.
    pub fn new(bytes: &'a [u8]) -> Ranges<'a> {
        let mut ranges = Ranges { bytes, at: 0 };
        let _count = ranges.varint();
        ranges
    }

    fn varint(&mut self) -> Option<usize> {
        Some(varint::take(self.bytes, &mut self.at)? as usize)
    }
}

impl Iterator for Ranges<'_> {
    type Item = Range<usize>;

    #[inline]
    fn next(&mut self) -> Option<Range<usize>> {
        let len = self.varint()?;
        let range = self.at..self.at.checked_add(len).filter(|end| *end <= self.bytes.len())?;
        self.at = range.end;
        Some(range)
    }
}

/// How many elements there are.
pub fn count(bytes: &[u8]) -> usize {
    Ranges { bytes, at: 0 }.varint().unwrap_or(0)
}

/// All elements.
pub fn elements(bytes: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    Ranges::new(bytes).map(|range| &bytes[range])
}

/// Packs elements.
pub fn pack(elements: &[&[u8]]) -> Packed {
    let mut packed = Packed::new();
    varint::put(&mut packed, elements.len() as u64);
    for element in elements {
        varint::put(&mut packed, element.len() as u64);
        packed.extend_from_slice(element);
    }
    packed
}

/// Bytes that an element takes when packed.
pub fn packed_len(element: &[u8]) -> usize {
    let bits = (usize::BITS - element.len().leading_zeros()).max(1);
    bits.div_ceil(7) as usize + element.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_read() {
        let long = vec![b'x'; 300];
        for elements in [&[][..], &[&b""[..]], &[b"a", b"bc", b"", long.as_slice()]] {
            let packed = pack(elements);
            assert_eq!(count(&packed), elements.len());
            assert_eq!(self::elements(&packed).collect::<Vec<_>>(), elements);
            assert_eq!(packed.len(), 1 + elements.iter().map(|element| packed_len(element)).sum::<usize>());
            for cut in 0..packed.len() {
                assert!(self::elements(&packed[..cut]).count() <= elements.len());
            }
        }
    }

    #[test]
    fn damaged_bytes_end_early() {
        for bytes in [&[][..], &[255; 20], &[1, 5, b'a'], &[2, 1, b'a', 200]] {
            assert!(elements(bytes).count() <= 1);
        }
    }

    #[test]
    fn lengths_are_foretold() {
        for len in [0, 1, 127, 128, 16_383, 16_384] {
            let element = vec![0; len];
            assert_eq!(pack(&[&element]).len(), 1 + packed_len(&element));
        }
    }
}
