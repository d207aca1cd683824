//! Redis's packed lists: small collections in one byte string. Reads listpack, ziplist and zipmap, writes listpack.
//!
//! ```text
//! listpack  total bytes (u32) · elements (u16, 0xFFFF: unknown) · entries · 0xFF
//!   entry   encoding · data · length of both, 7 bits a byte, readable from behind
//! ziplist   total bytes (u32) · offset of the last entry (u32) · entries (u16) · entries · 0xFF
//!   entry   length of the entry before (u8, or 0xFE and u32) · encoding · data
//! zipmap    entries (u8) · for each: key length · key · value length · free (u8) · value · free bytes · 0xFF
//! ```
//! All numbers are little-endian, except lengths within encodings, which are big-endian.

use super::reader::{Malformed, Reader};
use crate::base::number;
use std::borrow::Cow;

/// An element: bytes, or the text of an integer.
pub type Element<'a> = Cow<'a, [u8]>;

fn integer(value: i64) -> Element<'static> {
    Cow::Owned(value.to_string().into_bytes())
}

const END: u8 = 0xFF;

/// Takes an element, or refuses it and so ends the reading.
pub type Take<'t, 'a> = &'t mut dyn FnMut(Element<'a>) -> Result<(), Malformed>;

/// Reads a packed list that begins with its total length and ends with 0xFF. Elements are given out one by one: whoever takes
/// them may refuse early, as a few compressed bytes can be millions of elements.
fn visit_all<'a>(
    bytes: &'a [u8],
    header: usize,
    count_at: usize,
    entry: fn(&mut Reader<'a>) -> Result<Element<'a>, Malformed>,
    take: Take<'_, 'a>,
) -> Result<(), Malformed> {
    let total = bytes.first_chunk().map(|total| u32::from_le_bytes(*total)).ok_or(Malformed)?;
    let count = bytes.get(count_at..count_at + 2).ok_or(Malformed)?;
    let count = u16::from_le_bytes([count[0], count[1]]);
    if total as usize != bytes.len() || bytes.len() <= header {
        return Err(Malformed);
    }
    let mut reader = Reader::new(&bytes[header..]);
    let mut found = 0;
    while reader.rest().first().ok_or(Malformed)? != &END {
        take(entry(&mut reader)?)?;
        found += 1;
    }
    let is_counted = count == u16::MAX || usize::from(count) == found;
    if reader.rest().len() == 1 && is_counted { Ok(()) } else { Err(Malformed) }
}

/// Gives the elements of a listpack to `take`.
pub fn visit_listpack<'a>(bytes: &'a [u8], take: Take<'_, 'a>) -> Result<(), Malformed> {
    visit_all(bytes, 6, 4, listpack_entry, take)
}

fn listpack_entry<'a>(reader: &mut Reader<'a>) -> Result<Element<'a>, Malformed> {
    let before = reader.rest().len();
    let first = reader.byte()?;
    let element = match first {
        0..=0x7F => integer(i64::from(first)),
        0x80..=0xBF => Cow::Borrowed(reader.take(usize::from(first & 0x3F))?),
        0xC0..=0xDF => {
            let value = i64::from(first & 0x1F) << 8 | i64::from(reader.byte()?);
            integer(if value >= 1 << 12 { value - (1 << 13) } else { value })
        }
        0xE0..=0xEF => {
            let len = usize::from(first & 0x0F) << 8 | usize::from(reader.byte()?);
            Cow::Borrowed(reader.take(len)?)
        }
        0xF0 => {
            let len = u32::from_le_bytes(reader.array()?);
            Cow::Borrowed(reader.take(len as usize)?)
        }
        0xF1 => integer(i64::from(i16::from_le_bytes(reader.array()?))),
        0xF2 => integer(int24(reader.array()?)),
        0xF3 => integer(i64::from(i32::from_le_bytes(reader.array()?))),
        0xF4 => integer(i64::from_le_bytes(reader.array()?)),
        _ => return Err(Malformed),
    };
    let len = before - reader.rest().len();
    reader.take(back_len_size(len))?;
    Ok(element)
}

fn int24([a, b, c]: [u8; 3]) -> i64 {
    i64::from(i32::from_le_bytes([0, a, b, c]) >> 8)
}

fn back_len_size(len: usize) -> usize {
    match len {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        0x20_0000..=0x0FFF_FFFF => 4,
        _ => 5,
    }
}

/// Writes listpacks.
pub struct ListpackWriter {
    bytes: Vec<u8>,
    elements: usize,
}

impl Default for ListpackWriter {
    fn default() -> ListpackWriter {
        ListpackWriter { bytes: vec![0; 6], elements: 0 }
    }
}

impl ListpackWriter {
    /// Appends an element.
    pub fn push(&mut self, element: &[u8]) {
        let before = self.bytes.len();
        match number::parse_i64(element) {
            Some(value) => self.push_integer(value),
            None => self.push_bytes(element),
        }
        self.push_back_len(self.bytes.len() - before);
        self.elements += 1;
    }

    fn push_integer(&mut self, value: i64) {
        let (code, bytes) = (value.to_le_bytes(), &mut self.bytes);
        let (mark, len) = match value {
            0..=127 => return bytes.push(value as u8),
            -4096..=4095 => return bytes.extend_from_slice(&(0xC000 | value as u16 & 0x1FFF).to_be_bytes()),
            -0x8000..=0x7FFF => (0xF1, 2),
            -0x80_0000..=0x7F_FFFF => (0xF2, 3),
            -0x8000_0000..=0x7FFF_FFFF => (0xF3, 4),
            _ => (0xF4, 8),
        };
        bytes.push(mark);
        bytes.extend_from_slice(&code[..len]);
    }

    fn push_bytes(&mut self, element: &[u8]) {
        match element.len() {
            len @ 0..=63 => self.bytes.push(0x80 | len as u8),
            len @ 64..=4095 => self.bytes.extend_from_slice(&(0xE000 | len as u16).to_be_bytes()),
            len => {
                self.bytes.push(0xF0);
                self.bytes.extend_from_slice(&(len as u32).to_le_bytes());
            }
        }
        self.bytes.extend_from_slice(element);
    }

    /// The highest 7 bits first; every byte but the first says that one stands before it.
    fn push_back_len(&mut self, len: usize) {
        let size = back_len_size(len);
        for place in (0..size).rev() {
            let more = if place + 1 == size { 0 } else { 0x80 };
            self.bytes.push((len >> (7 * place) & 0x7F) as u8 | more);
        }
    }

    /// Bytes that it would have now.
    pub fn len(&self) -> usize {
        self.bytes.len() + 1
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.elements == 0
    }

    /// The listpack.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.push(END);
        let total = (self.bytes.len() as u32).to_le_bytes();
        let count = u16::try_from(self.elements).unwrap_or(u16::MAX).to_le_bytes();
        self.bytes[..4].copy_from_slice(&total);
        self.bytes[4..6].copy_from_slice(&count);
        self.bytes
    }
}

/// Gives the elements of a ziplist to `take`.
pub fn visit_ziplist<'a>(bytes: &'a [u8], take: Take<'_, 'a>) -> Result<(), Malformed> {
    visit_all(bytes, 10, 8, ziplist_entry, take)
}

fn ziplist_entry<'a>(reader: &mut Reader<'a>) -> Result<Element<'a>, Malformed> {
    match reader.byte()? {
        0xFE => {
            reader.take(4)?;
        }
        0xFF => return Err(Malformed),
        _ => {}
    }
    let first = reader.byte()?;
    Ok(match first {
        0..=0x3F => Cow::Borrowed(reader.take(usize::from(first))?),
        0x40..=0x7F => {
            let len = usize::from(first & 0x3F) << 8 | usize::from(reader.byte()?);
            Cow::Borrowed(reader.take(len)?)
        }
        0x80 => {
            let len = u32::from_be_bytes(reader.array()?);
            Cow::Borrowed(reader.take(len as usize)?)
        }
        0xC0 => integer(i64::from(i16::from_le_bytes(reader.array()?))),
        0xD0 => integer(i64::from(i32::from_le_bytes(reader.array()?))),
        0xE0 => integer(i64::from_le_bytes(reader.array()?)),
        0xF0 => integer(int24(reader.array()?)),
        0xFE => integer(i64::from(i8::from_le_bytes(reader.array()?))),
        0xF1..=0xFD => integer(i64::from(first & 0x0F) - 1),
        _ => return Err(Malformed),
    })
}

/// Gives keys and values of a zipmap, in turn, to `take`.
pub fn visit_zipmap<'a>(bytes: &'a [u8], take: Take<'_, 'a>) -> Result<(), Malformed> {
    let mut reader = Reader::new(bytes);
    let count = reader.byte()?;
    let mut found = 0;
    while reader.rest().first().ok_or(Malformed)? != &END {
        let len = zipmap_length(&mut reader)?;
        take(Cow::Borrowed(reader.take(len)?))?;
        let len = zipmap_length(&mut reader)?;
        let free = reader.byte()?;
        take(Cow::Borrowed(reader.take(len)?))?;
        reader.take(usize::from(free))?;
        found += 1;
    }
    let is_counted = count >= 254 || usize::from(count) == found;
    if reader.rest().len() == 1 && is_counted { Ok(()) } else { Err(Malformed) }
}

fn zipmap_length(reader: &mut Reader) -> Result<usize, Malformed> {
    match reader.byte()? {
        254 => Ok(u32::from_le_bytes(reader.array()?) as usize),
        255 => Err(Malformed),
        len => Ok(usize::from(len)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Visit = for<'t, 'a> fn(&'a [u8], Take<'t, 'a>) -> Result<(), Malformed>;

    fn read(visit: Visit, bytes: &[u8]) -> Result<Vec<Vec<u8>>, Malformed> {
        let mut elements = Vec::new();
        visit(bytes, &mut |element| {
            elements.push(element.into_owned());
            Ok(())
        })?;
        Ok(elements)
    }

    fn listpack(elements: &[Vec<u8>]) -> Vec<u8> {
        let mut writer = ListpackWriter::default();
        elements.iter().for_each(|element| writer.push(element));
        writer.finish()
    }

    #[test]
    fn elements_of_every_encoding_survive_in_a_listpack() {
        let mut elements: Vec<Vec<u8>> = Vec::new();
        for bits in [0, 6, 7, 8, 12, 13, 15, 16, 23, 24, 31, 32, 62] {
            for value in [(1_i64 << bits) - 1, 1 << bits, -(1 << bits), -(1 << bits) - 1] {
                elements.push(value.to_string().into_bytes());
            }
        }
        elements.extend([i64::MIN, i64::MAX].map(|value| value.to_string().into_bytes()));
        elements.extend([0, 1, 63, 64, 127, 128, 4095, 4096, 20_000, 3_000_000].map(|len| vec![b'x'; len]));
        let bytes = listpack(&elements);
        assert_eq!(read(visit_listpack, &bytes).expect("well-formed"), elements);
    }

    #[test]
    fn a_ziplist_and_a_zipmap_are_read() {
        let ziplist = b"\x1a\0\0\0\x17\0\0\0\x04\0\0\x01a\x03\xf2\x02\x01b\x03\xc0\x39\x30\xff".to_vec();
        let mut ziplist = ziplist;
        let len = ziplist.len() as u32;
        ziplist[..4].copy_from_slice(&len.to_le_bytes());
        let expected: Vec<&[u8]> = vec![b"a", b"1", b"b", b"12345"];
        assert_eq!(read(visit_ziplist, &ziplist).expect("well-formed"), expected);
        let zipmap = b"\x02\x03foo\x03\x00bar\x05hello\x05\x02world..\xff";
        let expected: Vec<&[u8]> = vec![b"foo", b"bar", b"hello", b"world"];
        assert_eq!(read(visit_zipmap, zipmap).expect("well-formed"), expected);
    }

    proptest! {
        #[test]
        fn any_elements_survive(elements in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..30)) {
            let bytes = listpack(&elements);
            prop_assert_eq!(read(visit_listpack, &bytes).expect("well-formed"), elements);
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = read(visit_zipmap, &bytes);
            let len = bytes.len() as u32;
            if let Some(total) = bytes.first_chunk_mut::<4>() {
                *total = len.to_le_bytes();
            }
            let _ = (read(visit_listpack, &bytes), read(visit_ziplist, &bytes));
        }
    }
}
