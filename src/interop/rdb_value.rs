//! Values as they stand in an rdb file or a DUMP payload: a type byte, then the value in the form that type says.

use super::packed::{self, Element, ListpackWriter};
use super::reader::{Malformed, Reader, write_length, write_string};
use std::collections::HashSet;

/// A value of any type, with its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A string.
    String(Vec<u8>),
    /// A hash: fields and values; no field twice, at least one.
    Hash(Vec<(Vec<u8>, Vec<u8>)>),
}

/// How a collection is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One packed byte string, as Redis keeps small collections.
    Packed,
    /// Element by element.
    Plain,
}

const STRING: u8 = 0;
const HASH: u8 = 4;
const HASH_ZIPMAP: u8 = 9;
const HASH_ZIPLIST: u8 = 13;
/// A small hash, as Redis 7 writes it.
pub const HASH_LISTPACK: u8 = 16;

/// Reads a value of the type `kind`. Types that are not here are malformed.
pub fn read(kind: u8, reader: &mut Reader) -> Result<Value, Malformed> {
    match kind {
        STRING => Ok(Value::String(reader.string()?.into_owned())),
        HASH => read_hash(reader),
        HASH_ZIPMAP => packed_hash(&reader.string()?, packed::visit_zipmap),
        HASH_ZIPLIST => packed_hash(&reader.string()?, packed::visit_ziplist),
        HASH_LISTPACK => packed_hash(&reader.string()?, packed::visit_listpack),
        _ => Err(Malformed),
    }
}

fn read_hash(reader: &mut Reader) -> Result<Value, Malformed> {
    let count = reader.length()?;
    // Two strings take two bytes at least, so a claim of more pairs cannot be true.
    if count > reader.rest().len() as u64 / 2 {
        return Err(Malformed);
    }
    let mut made = HashMaker::default();
    for _ in 0..count * 2 {
        made.push(reader.string()?)?;
    }
    made.finish()
}

fn packed_hash<'a>(
    bytes: &'a [u8],
    visit: fn(&'a [u8], packed::Take<'_, 'a>) -> Result<(), Malformed>,
) -> Result<Value, Malformed> {
    let mut made = HashMaker::default();
    visit(bytes, &mut |element| made.push(element))?;
    made.finish()
}

/// A hash that is being put together of fields and values in turn. A field that comes twice is refused when it comes: what a
/// compressed text repeats a million times must not be taken a million times first.
#[derive(Default)]
struct HashMaker<'a> {
    seen: HashSet<Element<'a>>,
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
    field: Option<Vec<u8>>,
}

impl<'a> HashMaker<'a> {
    fn push(&mut self, element: Element<'a>) -> Result<(), Malformed> {
        if let Some(field) = self.field.take() {
            self.pairs.push((field, element.into_owned()));
            return Ok(());
        }
        self.field = Some(element.to_vec());
        if self.seen.insert(element) { Ok(()) } else { Err(Malformed) }
    }

    fn finish(self) -> Result<Value, Malformed> {
        if self.field.is_some() || self.pairs.is_empty() {
            Err(Malformed)
        } else {
            Ok(Value::Hash(self.pairs))
        }
    }
}

/// Writes a string with its type byte.
pub fn write_string_value(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(STRING);
    write_string(bytes, out);
}

/// Writes a hash with its type byte.
pub fn write_hash<'a>(
    pairs: impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])>,
    form: Form,
    out: &mut Vec<u8>,
) {
    match form {
        Form::Packed => {
            let mut listpack = ListpackWriter::default();
            for (field, value) in pairs {
                listpack.push(field);
                listpack.push(value);
            }
            out.push(HASH_LISTPACK);
            write_string(&listpack.finish(), out);
        }
        Form::Plain => {
            out.push(HASH);
            write_length(pairs.len() as u64, out);
            for (field, value) in pairs {
                write_string(field, out);
                write_string(value, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

    fn written(pairs: &Pairs, form: Form) -> Vec<u8> {
        let mut out = Vec::new();
        write_hash(pairs.iter().map(|(field, value)| (&field[..], &value[..])), form, &mut out);
        out
    }

    fn read_back(bytes: &[u8]) -> Result<Value, Malformed> {
        let mut reader = Reader::new(bytes);
        let kind = reader.byte()?;
        read(kind, &mut reader)
    }

    fn pairs() -> impl Strategy<Value = Pairs> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..40);
        prop::collection::hash_map(bytes(), bytes(), 1..20).prop_map(|map| map.into_iter().collect())
    }

    proptest! {
        #[test]
        fn hashes_survive_in_both_forms(pairs in pairs()) {
            for form in [Form::Packed, Form::Plain] {
                prop_assert_eq!(read_back(&written(&pairs, form)), Ok(Value::Hash(pairs.clone())));
            }
        }

        #[test]
        fn no_change_of_a_byte_makes_it_panic(pairs in pairs(), at in any::<prop::sample::Index>(), to: u8, packed: bool) {
            let form = if packed { Form::Packed } else { Form::Plain };
            let mut bytes = written(&pairs, form);
            let at = at.index(bytes.len());
            bytes[at] = to;
            let _ = read_back(&bytes);
            let _ = read_back(&bytes[..at]);
        }
    }

    #[test]
    fn what_no_hash_can_be_is_refused() {
        let twice = vec![(b"a".to_vec(), b"1".to_vec()), (b"a".to_vec(), b"2".to_vec())];
        for form in [Form::Packed, Form::Plain] {
            assert_eq!(read_back(&written(&twice, form)), Err(Malformed));
            assert_eq!(read_back(&written(&Vec::new(), form)), Err(Malformed));
        }
        assert_eq!(read_back(&[HASH, 0x81, 255, 255, 255, 255, 255, 255, 255, 255]), Err(Malformed));
        assert_eq!(read_back(&[99]), Err(Malformed));
    }
}
