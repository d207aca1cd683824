//! Small sets of integers: one sorted row, as Redis's intset has it.
//!
//! ```text
//! width: 2, 4 or 8 (1) · integers of that width, little-endian, ascending
//! ```
//!
//! The width is that of the widest integer there ever was: DUMP shows it.

use smallvec::SmallVec;

/// Bytes of such a row.
pub type Packed = SmallVec<[u8; 1024]>;

/// The integers of a row.
#[derive(Clone, Copy, Debug)]
pub struct Integers<'a> {
    width: usize,
    bytes: &'a [u8],
}

impl<'a> Integers<'a> {
    /// Of a payload; none in what no such payload can be.
    pub fn of(payload: &'a [u8]) -> Integers<'a> {
        match payload.split_first() {
            Some((&width @ (2 | 4 | 8), bytes)) => {
                let width = usize::from(width);
                Integers { width, bytes: &bytes[..bytes.len() / width * width] }
            }
            _ => Integers { width: 2, bytes: &[] },
        }
    }

    /// Bytes of an integer.
    pub fn width(self) -> usize {
        self.width
    }

    /// All of them, little-endian.
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// How many there are.
    pub fn len(self) -> usize {
        self.bytes.len() / self.width
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }

    /// The integer at `index`, in ascending order.
    pub fn get(self, index: usize) -> Option<i64> {
        let bytes = self.bytes.get(index * self.width..(index + 1) * self.width)?;
        Some(match *bytes {
            [a, b] => i64::from(i16::from_le_bytes([a, b])),
            [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
            _ => i64::from_le_bytes(bytes.try_into().ok()?),
        })
    }

    /// All of them, ascending.
    pub fn iter(self) -> impl Iterator<Item = i64> + use<'a> {
        (0..self.len()).map_while(move |index| self.get(index))
    }

    /// Where `value` stands, or where it would.
    pub fn find(self, value: i64) -> Result<usize, usize> {
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = usize::midpoint(from, to);
            match self.get(middle).map(|found| found.cmp(&value)) {
                Some(std::cmp::Ordering::Equal) => return Ok(middle),
                Some(std::cmp::Ordering::Less) => from = middle + 1,
                _ => to = middle,
            }
        }
        Err(from)
    }

    /// The bytes before the integer at `at`, and those from the one `skipped` behind it on.
    pub fn around(self, at: usize, skipped: usize) -> (&'a [u8], &'a [u8]) {
        (&self.bytes[..at * self.width], &self.bytes[(at + skipped) * self.width..])
    }

    /// The row with these as well, and how many of them are new.
    pub fn with(self, new: &[i64]) -> (Packed, usize) {
        let mut all: Vec<i64> = self.iter().chain(new.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        (pack(&all, self.width), all.len() - self.len())
    }

    /// The row without these, and how many of them there were.
    pub fn without(self, gone: &[i64]) -> (Packed, usize) {
        let mut gone = gone.to_vec();
        gone.sort_unstable();
        let left: Vec<i64> = self.iter().filter(|value| gone.binary_search(value).is_err()).collect();
        (pack(&left, self.width), self.len() - left.len())
    }
}

/// Bytes that `value` needs.
pub fn width_of(value: i64) -> usize {
    if i16::try_from(value).is_ok() {
        2
    } else if i32::try_from(value).is_ok() {
        4
    } else {
        8
    }
}

/// A row of `values`, which are ascending and each there once, at least so wide.
pub fn pack(values: &[i64], width_min: usize) -> Packed {
    let ends = [values.first(), values.last()];
    let width = ends.into_iter().flatten().map(|&value| width_of(value)).fold(width_min, usize::max);
    let mut packed = Packed::with_capacity(1 + values.len() * width);
    packed.push(width as u8);
    for value in values {
        packed.extend_from_slice(&value.to_le_bytes()[..width]);
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn rows_are_sorted_sets() {
        let mut random = StdRng::seed_from_u64(3);
        for bits in [6, 20, 40] {
            let (mut row, mut model) = (pack(&[], 2), BTreeSet::new());
            for round in 0..400 {
                let mut value = || random.random_range(-(1_i64 << bits)..1 << bits) >> (round % 2 * 3);
                let some: Vec<i64> = (0..=round % 3).map(|_| value()).collect();
                let before = Integers::of(&row);
                let (after, changed) = if round % 5 < 3 {
                    let new = some.iter().filter(|value| model.insert(**value)).count();
                    let (after, added) = before.with(&some);
                    (after, added == new)
                } else {
                    let gone = some.iter().filter(|value| model.remove(value)).count();
                    let (after, removed) = before.without(&some);
                    (after, removed == gone)
                };
                assert!(changed);
                row = after;
                let integers = Integers::of(&row);
                assert!(integers.iter().eq(model.iter().copied()));
                assert_eq!(integers.len(), model.len());
                for (index, &value) in model.iter().enumerate() {
                    assert_eq!((integers.find(value), integers.get(index)), (Ok(index), Some(value)));
                }
                assert!(integers.find(value() + (1 << 50)).is_err());
            }
        }
    }

    #[test]
    fn the_width_only_grows() {
        let (wide, _) = Integers::of(&pack(&[1], 2)).with(&[i64::MIN]);
        assert_eq!(Integers::of(&wide).width(), 8);
        assert_eq!(Integers::of(&Integers::of(&wide).without(&[i64::MIN]).0).width(), 8);
        for (value, width) in [(32767, 2), (-32768, 2), (32768, 4), (-2_147_483_648, 4), (1 << 31, 8)] {
            assert_eq!(width_of(value), width);
        }
    }

    #[test]
    fn damaged_rows_have_what_can_be_read() {
        for (payload, len) in [(&[][..], 0), (&[3, 1, 2, 3], 0), (&[2, 1, 0, 7], 1), (&[8, 1], 0)] {
            let integers = Integers::of(payload);
            assert_eq!((integers.len(), integers.iter().count()), (len, len));
            assert!(integers.find(9).is_err());
        }
    }
}
