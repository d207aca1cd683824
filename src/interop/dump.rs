//! DUMP payloads: a value as in an rdb file, then the format's version (2 bytes) and a CRC-64 of all before it (8 bytes),
//! both little-endian.

use super::rdb_value::{self, Form, TimedField, Value};
use super::reader::Reader;
use crate::store::{Entry, Interrupt, Key, Kind, View};
use crate::types::{hash, list, set, string, zset};
use crc::{CRC_64_REDIS, Crc, Table};

static CRC: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_REDIS);

/// The version that we write: that of Redis 7.0, so that every later server reads it, too.
const VERSION: u16 = 10;
/// And of what 7.0 does not have: deadlines of fields, which 7.4 brought.
const VERSION_OF_TIMED: u16 = 12;
/// The newest version whose framing we know. Types that came with it may still be unknown.
const VERSION_MAX: u16 = 12;
const FOOTER: usize = 10;

/// Why a payload is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is from the future, or damaged.
    Footer,
    /// The value in it is of no type we know, or malformed.
    Value,
}

/// The payload of what `key` holds; none if it is of a type that we cannot write yet, or a hash of which nothing is seen any more.
/// Takes memory for the value twice.
pub fn of(view: &mut View, key: &Key, entry: &Entry) -> Result<Option<Vec<u8>>, Interrupt> {
    let version = if entry.due_at().is_some() { VERSION_OF_TIMED } else { VERSION };
    let value = value_of(view, key, entry, u32::from(version))?.ok().flatten();
    Ok(value.map(|value| seal_as(value, version)))
}

/// What `key` holds, with its type byte, as this version of the rdb format has it; none if it is a hash of which nothing is seen any
/// more; in words, why it cannot be written.
pub fn value_of(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    version: u32,
) -> Result<Result<Option<Vec<u8>>, String>, Interrupt> {
    let mut out = Vec::new();
    let has_listpacks = version >= u32::from(VERSION);
    let form = if entry.items().is_none() && has_listpacks { Form::Packed } else { Form::Plain };
    match entry.kind() {
        Kind::String => rdb_value::write_string_value(&string::read_whole(view, key, entry)?, &mut out),
        Kind::Hash => {
            let mut fields: Vec<TimedField> = Vec::new();
            hash::visit(view, key, entry, &mut |field| {
                fields.push((field.name.into(), field.value.into(), field.expire_at));
            })?;
            if fields.is_empty() {
                return Ok(Ok(None));
            }
            if entry.due_at().is_none() {
                let pairs = fields.iter().map(|(field, value, _)| (&field[..], &value[..]));
                rdb_value::write_hash(pairs, form, &mut out);
            } else if version >= u32::from(VERSION_OF_TIMED) {
                rdb_value::write_timed_hash(&fields, &mut out);
            } else {
                return Ok(Err(format!(
                    "has deadlines of fields, for which version {VERSION_OF_TIMED} is needed"
                )));
            }
        }
        Kind::SortedSet => {
            let mut members: Vec<(f64, Vec<u8>)> = Vec::new();
            zset::visit(view, key, entry, &mut |(score, member)| members.push((score, member.into())))?;
            rdb_value::write_sorted_set(&members, form, &mut out);
        }
        Kind::Set => {
            if let Some(integers) = set::integers(entry) {
                rdb_value::write_intset(integers.width(), integers.bytes(), &mut out);
            } else {
                let members = set::members(view, key, entry)?;
                let texts: Vec<_> = members.iter().map(set::Member::as_text).collect();
                rdb_value::write_set(texts.iter().map(|text| &**text), &mut out);
            }
        }
        Kind::List => {
            let mut elements = Vec::new();
            let len = list::len(entry)?;
            list::visit(view, key, entry, 0..len, &mut |element| elements.push(element))?;
            let elements = elements.iter().map(|element| &**element);
            if has_listpacks {
                rdb_value::write_list(elements, &mut out);
            } else {
                rdb_value::write_plain_list(elements, &mut out);
            }
        }
        Kind::Stream => return Ok(Err("is of a type that cannot be written yet".into())),
    }
    Ok(Ok(Some(out)))
}

/// Appends the footer to a value with its type byte.
pub fn seal(value: Vec<u8>) -> Vec<u8> {
    seal_as(value, VERSION)
}

fn seal_as(mut value: Vec<u8>, version: u16) -> Vec<u8> {
    value.extend_from_slice(&version.to_le_bytes());
    let checksum = CRC.checksum(&value);
    value.extend_from_slice(&checksum.to_le_bytes());
    value
}

/// Reads a payload whose footer fits.
pub fn open(payload: &[u8]) -> Result<Value, Refused> {
    let footer_at = payload.len().checked_sub(FOOTER).ok_or(Refused::Footer)?;
    let mut footer = Reader::new(&payload[footer_at..]);
    let version = footer.array().map(u16::from_le_bytes).map_err(|_| Refused::Footer)?;
    let checksum = footer.array().map(u64::from_le_bytes).map_err(|_| Refused::Footer)?;
    if version > VERSION_MAX || checksum != CRC.checksum(&payload[..footer_at + 2]) {
        return Err(Refused::Footer);
    }
    let mut reader = Reader::new(&payload[..footer_at]);
    let kind = reader.byte().map_err(|_| Refused::Value)?;
    rdb_value::read(kind, &mut reader).ok().flatten().ok_or(Refused::Value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers of redis-server 7.0.15 to DUMP.
    const HELLO: &[u8] = b"\x00\x05hello\x0a\x00cr\xdfve4 \x0a";
    const NUMBER: &[u8] = b"\x00\xc1\xd2\x04\x0a\x00\x00\x87\x08\xa1D\x82\x5c\xed";
    const FORTY_X: &[u8] = b"\x00\xc3\x09(\x01xx\xe0\x1b\x00\x01xx\x0a\x00z\x1dl\xce\xa5@\x133";
    const PACKED: &[u8] =
        b"\x10\x12\x12\x00\x00\x00\x04\x00\x81f\x02\x81v\x02\x81n\x02d\x01\xff\x0a\x00T\x14\xca\xecu\xfc)\x1a";
    const PLAIN: &[u8] = b"\x04\x01\x01f\x01v\x0a\x00\xad\xf2CV\xb1\x86\x0e\xfc";

    #[test]
    fn payloads_of_redis_are_read() {
        let string = |text: &[u8]| Ok(Value::String(text.to_vec()));
        let pair = |field: &[u8], value: &[u8]| (field.to_vec(), value.to_vec());
        assert_eq!(open(HELLO), string(b"hello"));
        assert_eq!(open(NUMBER), string(b"1234"));
        assert_eq!(open(FORTY_X), string(&[b'x'; 40]));
        assert_eq!(open(PACKED), Ok(Value::Hash(vec![pair(b"f", b"v"), pair(b"n", b"100")])));
        assert_eq!(open(PLAIN), Ok(Value::Hash(vec![pair(b"f", b"v")])));
    }

    #[test]
    fn payloads_are_those_of_redis() {
        let string = |text: &[u8]| {
            let mut out = Vec::new();
            rdb_value::write_string_value(text, &mut out);
            seal(out)
        };
        let hash = |pairs: &[(&[u8], &[u8])], form| {
            let mut out = Vec::new();
            rdb_value::write_hash(pairs.iter().copied(), form, &mut out);
            seal(out)
        };
        assert_eq!(string(b"hello"), HELLO);
        assert_eq!(string(b"1234"), NUMBER);
        assert_eq!(hash(&[(b"f", b"v"), (b"n", b"100")], Form::Packed), PACKED);
        assert_eq!(hash(&[(b"f", b"v")], Form::Plain), PLAIN);
    }

    #[test]
    fn a_damaged_payload_is_refused() {
        let mut value = Vec::new();
        rdb_value::write_string_value(b"hello", &mut value);
        let sealed = seal(value);
        assert_eq!(open(&sealed), Ok(Value::String(b"hello".to_vec())));
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert_eq!(open(&damaged), Err(Refused::Footer));
            assert_eq!(open(&sealed[..at]), Err(Refused::Footer));
        }
        assert_eq!(open(&seal(Vec::new())), Err(Refused::Value));
    }
}
