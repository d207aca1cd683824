//! `Reader`: the words of the RDB format, read from bytes that nobody vouches for.
//!
//! ```text
//! length   00xxxxxx                 6 bits            string   length, then so many bytes
//!          01xxxxxx xxxxxxxx        14 bits                    0xC0 and 1 byte, 0xC1 and 2, 0xC2 and 4 (little-endian): an integer's text
//!          0x80 and 4 bytes, 0x81 and 8 (big-endian)           0xC3, compressed length, length, LZF bytes
//! ```

use super::lzf;
use std::borrow::Cow;

/// The bytes are not what they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Reads from the front of a byte string, which may be the beginning of a longer one.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    /// Bytes that follow these and are not here.
    beyond: u64,
    /// Some of them were wanted.
    wants_more: bool,
}

/// A length, or what stands in its place.
enum Length {
    Plain(u64),
    Special(u8),
}

impl<'a> Reader<'a> {
    /// Reads `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader::part(bytes, 0)
    }

    /// Reads `bytes`, which so many others follow.
    pub fn part(bytes: &'a [u8], beyond: u64) -> Reader<'a> {
        Reader { rest: bytes, beyond, wants_more: false }
    }

    /// Whether reading failed for want of bytes that follow: with more of them it may go on.
    pub fn wants_more(&self) -> bool {
        self.wants_more
    }

    /// An error if there cannot be `count` things of `bytes` bytes at least each.
    pub fn check_claim(&self, count: u64, bytes: u64) -> Result<(), Malformed> {
        let there = self.beyond.saturating_add(self.rest.len() as u64);
        if count.checked_mul(bytes).is_some_and(|needed| needed <= there) { Ok(()) } else { Err(Malformed) }
    }

    /// What is not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else { return Err(self.short_of(len)) };
        self.rest = rest;
        Ok(taken)
    }

    /// The next byte.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else { return Err(self.short_of(N)) };
        self.rest = rest;
        Ok(*taken)
    }

    fn short_of(&mut self, len: usize) -> Malformed {
        self.wants_more |= (len - self.rest.len()) as u64 <= self.beyond;
        Malformed
    }

    fn length_or_special(&mut self) -> Result<Length, Malformed> {
        let first = self.byte()?;
        Ok(match first >> 6 {
            0 => Length::Plain(u64::from(first)),
            1 => Length::Plain(u64::from(first & 0x3F) << 8 | u64::from(self.byte()?)),
            3 => Length::Special(first & 0x3F),
            _ => match first {
                0x80 => Length::Plain(u64::from(u32::from_be_bytes(self.array()?))),
                0x81 => Length::Plain(u64::from_be_bytes(self.array()?)),
                _ => return Err(Malformed),
            },
        })
    }

    /// A length, of bytes or of elements. It is only a claim: compare it with what is there.
    pub fn length(&mut self) -> Result<u64, Malformed> {
        match self.length_or_special()? {
            Length::Plain(length) => Ok(length),
            Length::Special(_) => Err(Malformed),
        }
    }

    fn byte_length(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.length()?).map_err(|_| Malformed)
    }

    /// A string in any of its forms.
    pub fn string(&mut self) -> Result<Cow<'a, [u8]>, Malformed> {
        let text = |number: i32| Ok(Cow::Owned(number.to_string().into_bytes()));
        match self.length_or_special()? {
            Length::Plain(length) => {
                Ok(Cow::Borrowed(self.take(usize::try_from(length).map_err(|_| Malformed)?)?))
            }
            Length::Special(0) => text(i32::from(i8::from_le_bytes(self.array()?))),
            Length::Special(1) => text(i32::from(i16::from_le_bytes(self.array()?))),
            Length::Special(2) => text(i32::from_le_bytes(self.array()?)),
            Length::Special(3) => {
                let compressed = self.byte_length()?;
                let length = self.byte_length()?;
                lzf::decompress(self.take(compressed)?, length).map(Cow::Owned).ok_or(Malformed)
            }
            Length::Special(_) => Err(Malformed),
        }
    }
}

/// Writes a length.
pub fn write_length(length: u64, out: &mut Vec<u8>) {
    if length < 1 << 6 {
        out.push(length as u8);
    } else if length < 1 << 14 {
        out.extend_from_slice(&(0x4000 | length as u16).to_be_bytes());
    } else if let Ok(short) = u32::try_from(length) {
        out.push(0x80);
        out.extend_from_slice(&short.to_be_bytes());
    } else {
        out.push(0x81);
        out.extend_from_slice(&length.to_be_bytes());
    }
}

/// Strings of up to this length are not worth compressing.
const COMPRESS_FROM: usize = 21;
/// The longest text of a 32-bit integer.
const INTEGER_MAX: usize = 11;

/// Writes a string in the shortest of its forms.
pub fn write_string(bytes: &[u8], out: &mut Vec<u8>) {
    if bytes.len() <= INTEGER_MAX
        && let Some(number) = crate::base::number::parse_i64(bytes)
        && write_integer(number, out)
    {
        return;
    }
    if bytes.len() >= COMPRESS_FROM
        && let Some(compressed) = lzf::compress(bytes, bytes.len() - 4)
    {
        out.push(0xC3);
        write_length(compressed.len() as u64, out);
        write_length(bytes.len() as u64, out);
        out.extend_from_slice(&compressed);
        return;
    }
    write_length(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn write_integer(number: i64, out: &mut Vec<u8>) -> bool {
    if let Ok(number) = i8::try_from(number) {
        out.push(0xC0);
        out.extend_from_slice(&number.to_le_bytes());
    } else if let Ok(number) = i16::try_from(number) {
        out.push(0xC1);
        out.extend_from_slice(&number.to_le_bytes());
    } else if let Ok(number) = i32::try_from(number) {
        out.push(0xC2);
        out.extend_from_slice(&number.to_le_bytes());
    } else {
        return false;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn survives(bytes: &[u8]) {
        let mut out = Vec::new();
        write_string(bytes, &mut out);
        let mut reader = Reader::new(&out);
        assert_eq!(&*reader.string().expect("well-formed"), bytes);
        assert!(reader.rest().is_empty());
        for cut in 0..out.len() {
            assert_eq!(Reader::new(&out[..cut]).string(), Err(Malformed));
        }
    }

    #[test]
    fn strings_survive_in_every_form() {
        for text in ["", "0", "-1", "127", "128", "-32769", "2147483647", "2147483648", "-2147483648", "007"]
        {
            survives(text.as_bytes());
        }
        survives(&[b'x'; 63]);
        survives(&[b'x'; 20_000]);
        survives(&(0..=255).collect::<Vec<u8>>());
        survives(
            &(0..5000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()).collect::<Vec<u8>>(),
        );
    }

    #[test]
    fn lengths_survive() {
        for length in [0, 63, 64, 16_383, 16_384, u64::from(u32::MAX), u64::from(u32::MAX) + 1, u64::MAX] {
            let mut out = Vec::new();
            write_length(length, &mut out);
            assert_eq!(Reader::new(&out).length(), Ok(length));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut reader = Reader::new(&bytes);
            while reader.string().is_ok() && !reader.rest().is_empty() {}
        }
    }
}
