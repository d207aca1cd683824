//! Values as they stand in an rdb file or a DUMP payload: a type byte, then the value in the form that type says.

use super::packed::{self, Element, ListpackWriter};
use super::reader::{Malformed, Reader, write_length, write_string};
use crate::base::number;
use crate::types::hash::DEADLINE_MAX;
use std::collections::HashSet;

/// A value of any type, with its data.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A string.
    String(Vec<u8>),
    /// A list: its elements in order, at least one.
    List(Elements),
    /// A hash: fields and values; no field twice, at least one.
    Hash(Vec<(Vec<u8>, Vec<u8>)>),
    /// The same with deadlines of fields.
    TimedHash(Vec<TimedField>),
    /// A sorted set: scores and members; no member twice, no score that is no number, at least one.
    SortedSet(Vec<(f64, Vec<u8>)>),
    /// A set: its members; none twice, at least one.
    Set(Vec<Vec<u8>>),
}

impl Value {
    /// What it is, in words.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::String(_) => "string",
            Value::List(_) => "list",
            Value::Hash(_) | Value::TimedHash(_) => "hash",
            Value::SortedSet(_) => "sorted set",
            Value::Set(_) => "set",
        }
    }
}

/// A field of a hash, its value and its deadline (milliseconds since 1970).
pub type TimedField = (Vec<u8>, Vec<u8>, Option<i64>);

/// Elements in order, all in one piece of memory: a few compressed bytes can be millions of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elements {
    bytes: Vec<u8>,
    /// Where each ends in `bytes`.
    ends: Vec<u32>,
}

impl Elements {
    fn push(&mut self, element: &[u8]) -> Result<(), Malformed> {
        let end = u32::try_from(self.bytes.len() + element.len()).map_err(|_| Malformed)?;
        self.bytes.extend_from_slice(element);
        self.ends.push(end);
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|at| {
            let start = if at == 0 { 0 } else { self.ends[at - 1] };
            &self.bytes[start as usize..self.ends[at] as usize]
        })
    }
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
const LIST: u8 = 1;
const SET: u8 = 2;
/// Scores as text.
const SORTED_SET_TEXT: u8 = 3;
const HASH: u8 = 4;
/// Scores as eight bytes.
const SORTED_SET: u8 = 5;
const HASH_ZIPMAP: u8 = 9;
const LIST_ZIPLIST: u8 = 10;
const SET_INTSET: u8 = 11;
const SORTED_SET_ZIPLIST: u8 = 12;
const HASH_ZIPLIST: u8 = 13;
/// Ziplists, as Redis 3.2 to 6.2 write a list.
const LIST_OF_ZIPLISTS: u8 = 14;
/// A small hash, as Redis 7 writes it.
pub const HASH_LISTPACK: u8 = 16;
/// A small sorted set, as Redis 7 writes it.
pub const SORTED_SET_LISTPACK: u8 = 17;
/// Listpacks and single elements, as Redis 7 writes a list.
const LIST_OF_LISTPACKS: u8 = 18;

/// What a part of such a list is: an element by itself, or a listpack.
const PLAIN_NODE: u64 = 1;
const PACKED_NODE: u64 = 2;
/// Bytes of a listpack within a list, as Redis makes them by default.
const NODE_BYTES_MAX: usize = 8192;
/// A small set, as Redis 7.2 writes it.
const SET_LISTPACK: u8 = 20;
/// A hash with deadlines of fields, each counted from the first of them.
const HASH_TIMED: u8 = 24;
/// The same in a listpack, with the deadlines as they are.
const HASH_LISTPACK_TIMED: u8 = 25;

/// The same as Valkey has it since 9.0: each deadline is in milliseconds since 1970, -1 is none.
pub const HASH_TIMED_OF_VALKEY: u8 = 22;

/// Reads a hash of Valkey's type with deadlines.
pub fn read_valkey_hash(reader: &mut Reader) -> Result<Value, Malformed> {
    let count = reader.length()?;
    reader.check_claim(count, 10)?;
    let (mut seen, mut fields) = (HashSet::new(), Vec::new());
    for _ in 0..count {
        let (name, value) = (reader.string()?, reader.string()?);
        let expire_at = match i64::from_le_bytes(reader.array()?) {
            -1 => None,
            at => Some(checked_deadline(Some(at))?),
        };
        fields.push((name.to_vec(), value.into_owned(), expire_at));
        if !seen.insert(name) {
            return Err(Malformed);
        }
    }
    if fields.is_empty() { Err(Malformed) } else { Ok(Value::TimedHash(fields)) }
}

/// Reads a value of the type `kind`; `None` if that is none that is here.
pub fn read(kind: u8, reader: &mut Reader) -> Result<Option<Value>, Malformed> {
    let value = match kind {
        STRING => Ok(Value::String(reader.string()?.into_owned())),
        SET => read_set(reader),
        SET_INTSET => read_intset(&reader.string()?),
        SET_LISTPACK => {
            let listpack = reader.string()?;
            let mut made = SetMaker::default();
            packed::visit_listpack(&listpack, &mut |element| made.push(element))?;
            made.finish()
        }
        LIST => read_list(reader, plain_element),
        LIST_ZIPLIST => one_ziplist(reader),
        LIST_OF_ZIPLISTS => read_list(reader, ziplist_elements),
        LIST_OF_LISTPACKS => read_list(reader, node_elements),
        HASH => read_hash(reader),
        HASH_ZIPMAP => packed_hash(&reader.string()?, packed::visit_zipmap),
        HASH_ZIPLIST => packed_hash(&reader.string()?, packed::visit_ziplist),
        HASH_LISTPACK => packed_hash(&reader.string()?, packed::visit_listpack),
        HASH_TIMED => read_timed_hash(reader),
        HASH_LISTPACK_TIMED => read_packed_timed_hash(reader),
        SORTED_SET_TEXT => read_sorted_set(reader, text_score),
        SORTED_SET => read_sorted_set(reader, |reader| Ok(f64::from_le_bytes(reader.array()?))),
        SORTED_SET_ZIPLIST => packed_sorted_set(&reader.string()?, packed::visit_ziplist),
        SORTED_SET_LISTPACK => packed_sorted_set(&reader.string()?, packed::visit_listpack),
        _ => return Ok(None),
    };
    value.map(Some)
}

/// Reads a list of so many parts as it begins with.
fn read_list<'a>(
    reader: &mut Reader<'a>,
    part: fn(&mut Reader<'a>, &mut Elements) -> Result<(), Malformed>,
) -> Result<Value, Malformed> {
    let count = reader.length()?;
    // A part takes a byte at least.
    reader.check_claim(count, 1)?;
    let mut elements = Elements::default();
    for _ in 0..count {
        part(reader, &mut elements)?;
    }
    if elements.is_empty() { Err(Malformed) } else { Ok(Value::List(elements)) }
}

fn one_ziplist(reader: &mut Reader) -> Result<Value, Malformed> {
    let mut elements = Elements::default();
    ziplist_elements(reader, &mut elements)?;
    if elements.is_empty() { Err(Malformed) } else { Ok(Value::List(elements)) }
}

fn plain_element(reader: &mut Reader, elements: &mut Elements) -> Result<(), Malformed> {
    elements.push(&reader.string()?)
}

fn ziplist_elements(reader: &mut Reader, elements: &mut Elements) -> Result<(), Malformed> {
    packed::visit_ziplist(&reader.string()?, &mut |element| elements.push(&element))
}

fn node_elements(reader: &mut Reader, elements: &mut Elements) -> Result<(), Malformed> {
    match reader.length()? {
        PLAIN_NODE => plain_element(reader, elements),
        PACKED_NODE => packed::visit_listpack(&reader.string()?, &mut |element| elements.push(&element)),
        _ => Err(Malformed),
    }
}

fn read_hash(reader: &mut Reader) -> Result<Value, Malformed> {
    let count = reader.length()?;
    // Two strings take two bytes at least, so a claim of more pairs cannot be true.
    reader.check_claim(count, 2)?;
    let mut made = HashMaker::default();
    for _ in 0..count * 2 {
        made.push(reader.string()?)?;
    }
    made.finish()
}

/// The first deadline, the number of fields, then for each how far its deadline is behind (1: it is the first, 0: there is none),
/// its name and its value.
fn read_timed_hash(reader: &mut Reader) -> Result<Value, Malformed> {
    let first = i64::from_le_bytes(reader.array()?);
    let count = reader.length()?;
    reader.check_claim(count, 3)?;
    let (mut seen, mut fields) = (HashSet::new(), Vec::new());
    for _ in 0..count {
        let behind = reader.length()?;
        let (name, value) = (reader.string()?, reader.string()?);
        let expire_at = match behind.checked_sub(1) {
            None => None,
            Some(behind) => Some(checked_deadline(first.checked_add_unsigned(behind))?),
        };
        fields.push((name.to_vec(), value.into_owned(), expire_at));
        if !seen.insert(name) {
            return Err(Malformed);
        }
    }
    if fields.is_empty() { Err(Malformed) } else { Ok(Value::TimedHash(fields)) }
}

/// A deadline that a hash can have.
fn checked_deadline(at: Option<i64>) -> Result<i64, Malformed> {
    at.filter(|at| (1..=DEADLINE_MAX).contains(at)).ok_or(Malformed)
}

/// The first deadline, then a listpack: name, value and deadline (0: there is none) of each field.
fn read_packed_timed_hash(reader: &mut Reader) -> Result<Value, Malformed> {
    let _first = reader.array::<8>()?;
    let listpack = reader.string()?;
    let (mut seen, mut fields, mut parts) = (HashSet::new(), Vec::new(), Vec::new());
    packed::visit_listpack(&listpack, &mut |element| {
        if parts.len() < 2 {
            if parts.is_empty() && !seen.insert(element.to_vec()) {
                return Err(Malformed);
            }
            parts.push(element.into_owned());
            return Ok(());
        }
        let expire_at = match number::parse_i64(&element).ok_or(Malformed)? {
            0 => None,
            at => Some(checked_deadline(Some(at))?),
        };
        let value = parts.pop().unwrap_or_default();
        fields.push((parts.pop().unwrap_or_default(), value, expire_at));
        Ok(())
    })?;
    if fields.is_empty() || !parts.is_empty() { Err(Malformed) } else { Ok(Value::TimedHash(fields)) }
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

fn read_sorted_set(
    reader: &mut Reader,
    mut score: impl FnMut(&mut Reader) -> Result<f64, Malformed>,
) -> Result<Value, Malformed> {
    let count = reader.length()?;
    // A string and a score take two bytes at least.
    reader.check_claim(count, 2)?;
    let mut made = SortedSetMaker::default();
    for _ in 0..count {
        let member = reader.string()?;
        made.push(member, score(reader)?)?;
    }
    made.finish()
}

fn read_set(reader: &mut Reader) -> Result<Value, Malformed> {
    let count = reader.length()?;
    // A string takes a byte at least.
    reader.check_claim(count, 1)?;
    let mut made = SetMaker::default();
    for _ in 0..count {
        made.push(reader.string()?)?;
    }
    made.finish()
}

/// A length and so many digits, or what stands for no number and the infinities.
fn text_score(reader: &mut Reader) -> Result<f64, Malformed> {
    match reader.byte()? {
        253 => Ok(f64::NAN),
        254 => Ok(f64::INFINITY),
        255 => Ok(f64::NEG_INFINITY),
        len => number::parse_f64(reader.take(usize::from(len))?).ok_or(Malformed),
    }
}

fn packed_sorted_set<'a>(
    bytes: &'a [u8],
    visit: fn(&'a [u8], packed::Take<'_, 'a>) -> Result<(), Malformed>,
) -> Result<Value, Malformed> {
    let mut made = SortedSetMaker::default();
    let mut member = None;
    visit(bytes, &mut |element| match member.take() {
        None => {
            member = Some(element);
            Ok(())
        }
        Some(member) => made.push(member, number::parse_f64(&element).ok_or(Malformed)?),
    })?;
    if member.is_some() { Err(Malformed) } else { made.finish() }
}

/// A sorted set that is being put together; a member that comes twice is refused when it comes.
#[derive(Default)]
struct SortedSetMaker<'a> {
    seen: HashSet<Element<'a>>,
    members: Vec<(f64, Vec<u8>)>,
}

impl<'a> SortedSetMaker<'a> {
    fn push(&mut self, member: Element<'a>, score: f64) -> Result<(), Malformed> {
        self.members.push((score, member.to_vec()));
        if self.seen.insert(member) && !score.is_nan() { Ok(()) } else { Err(Malformed) }
    }

    fn finish(self) -> Result<Value, Malformed> {
        if self.members.is_empty() { Err(Malformed) } else { Ok(Value::SortedSet(self.members)) }
    }
}

/// Integers of one width (u32), their number (u32), then they themselves in ascending order; all little-endian.
fn read_intset(bytes: &[u8]) -> Result<Value, Malformed> {
    let mut reader = Reader::new(bytes);
    let width = u32::from_le_bytes(reader.array()?) as usize;
    let count = u32::from_le_bytes(reader.array()?) as usize;
    if !matches!(width, 2 | 4 | 8) || count == 0 || count.checked_mul(width) != Some(reader.rest().len()) {
        return Err(Malformed);
    }
    let mut values = Vec::with_capacity(count);
    for bytes in reader.rest().chunks_exact(width) {
        let mut wide = [if bytes[width - 1] < 128 { 0 } else { 255 }; 8];
        wide[..width].copy_from_slice(bytes);
        values.push(i64::from_le_bytes(wide));
    }
    if !values.is_sorted_by(|a, b| a < b) {
        return Err(Malformed);
    }
    Ok(Value::Set(values.iter().map(|value| value.to_string().into_bytes()).collect()))
}

/// A set that is being put together; a member that comes twice is refused when it comes.
#[derive(Default)]
struct SetMaker<'a> {
    seen: HashSet<Element<'a>>,
    members: Vec<Vec<u8>>,
}

impl<'a> SetMaker<'a> {
    fn push(&mut self, element: Element<'a>) -> Result<(), Malformed> {
        self.members.push(element.to_vec());
        if self.seen.insert(element) { Ok(()) } else { Err(Malformed) }
    }

    fn finish(self) -> Result<Value, Malformed> {
        if self.members.is_empty() { Err(Malformed) } else { Ok(Value::Set(self.members)) }
    }
}

/// Writes a string with its type byte.
pub fn write_string_value(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(STRING);
    write_string(bytes, out);
}

/// Writes a list with its type byte.
pub fn write_list<'a>(elements: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    let (mut nodes, mut node) = (Vec::new(), ListpackWriter::default());
    for element in elements {
        // As Redis fills them from the left; it takes 8 bytes for what stands beside an element.
        if !node.is_empty() && node.len() + element.len() + 8 > NODE_BYTES_MAX {
            nodes.push(std::mem::take(&mut node).finish());
        }
        node.push(element);
    }
    nodes.push(node.finish());
    out.push(LIST_OF_LISTPACKS);
    write_length(nodes.len() as u64, out);
    for node in nodes {
        write_length(PACKED_NODE, out);
        write_string(&node, out);
    }
}

/// Writes a list with its type byte, as versions before 10 read it.
pub fn write_plain_list<'a>(elements: impl ExactSizeIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    out.push(LIST);
    write_length(elements.len() as u64, out);
    elements.for_each(|element| write_string(element, out));
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

/// Writes a hash with deadlines of fields, with its type byte.
pub fn write_timed_hash(fields: &[TimedField], out: &mut Vec<u8>) {
    let first = fields.iter().filter_map(|(_, _, at)| *at).min().unwrap_or(0);
    out.push(HASH_TIMED);
    out.extend_from_slice(&first.to_le_bytes());
    write_length(fields.len() as u64, out);
    for (name, value, at) in fields {
        write_length(at.map_or(0, |at| at.abs_diff(first) + 1), out);
        write_string(name, out);
        write_string(value, out);
    }
}

/// Writes a sorted set with its type byte, in the order of its members.
pub fn write_sorted_set(members: &[(f64, Vec<u8>)], form: Form, out: &mut Vec<u8>) {
    match form {
        Form::Packed => {
            let mut listpack = ListpackWriter::default();
            for (score, member) in members {
                listpack.push(member);
                listpack.push(packed_score(*score).as_bytes());
            }
            out.push(SORTED_SET_LISTPACK);
            write_string(&listpack.finish(), out);
        }
        Form::Plain => {
            out.push(SORTED_SET);
            write_length(members.len() as u64, out);
            // From the highest to the lowest, as Redis does.
            for (score, member) in members.iter().rev() {
                write_string(member, out);
                out.extend_from_slice(&score.to_le_bytes());
            }
        }
    }
}

/// A score as Redis's listpacks hold it: integers as such, also large ones.
pub fn packed_score(score: f64) -> String {
    let is_integer = score.fract() == 0.0 && score.abs() <= (i64::MAX / 2) as f64;
    if is_integer { (score as i64).to_string() } else { number::format_f64(score) }
}

/// Writes a set of texts with its type byte.
pub fn write_set<'a>(members: impl ExactSizeIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    out.push(SET);
    write_length(members.len() as u64, out);
    members.for_each(|member| write_string(member, out));
}

/// Writes a set of integers with its type byte: those in `bytes`, so wide, little-endian and ascending.
pub fn write_intset(width: usize, bytes: &[u8], out: &mut Vec<u8>) {
    let (width_word, count) = ((width as u32).to_le_bytes(), ((bytes.len() / width) as u32).to_le_bytes());
    out.push(SET_INTSET);
    write_string(&[&width_word[..], &count, bytes].concat(), out);
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
        read(kind, &mut reader)?.ok_or(Malformed)
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
        fn hashes_with_deadlines_survive(pairs in pairs(), deadlines in prop::collection::vec(prop::option::of(1..=DEADLINE_MAX), 20)) {
            let fields: Vec<TimedField> = pairs.into_iter().zip(deadlines).map(|((field, value), at)| (field, value, at)).collect();
            let mut out = Vec::new();
            write_timed_hash(&fields, &mut out);
            prop_assert_eq!(read_back(&out), Ok(Value::TimedHash(fields)));
        }

        #[test]
        fn no_change_of_a_byte_makes_it_panic(pairs in pairs(), at in any::<prop::sample::Index>(), to: u8, form in 0..3) {
            let mut bytes = match form {
                0 => written(&pairs, Form::Packed),
                1 => written(&pairs, Form::Plain),
                _ => {
                    let fields: Vec<_> = pairs.into_iter().map(|(field, value)| (field, value, Some(1 << 41))).collect();
                    let mut out = Vec::new();
                    write_timed_hash(&fields, &mut out);
                    out
                }
            };
            let at = at.index(bytes.len());
            bytes[at] = to;
            let _ = read_back(&bytes);
            let _ = read_back(&bytes[..at]);
        }
    }

    proptest! {
        #[test]
        fn sorted_sets_survive(
            members in prop::collection::hash_map(prop::collection::vec(any::<u8>(), 0..40), any::<i32>(), 1..20),
            packed: bool,
        ) {
            let form = if packed { Form::Packed } else { Form::Plain };
            let members: Vec<(f64, Vec<u8>)> =
                members.into_iter().map(|(member, score)| (f64::from(score) / 8.0, member)).collect();
            let mut out = Vec::new();
            write_sorted_set(&members, form, &mut out);
            let Ok(Value::SortedSet(mut found)) = read_back(&out) else { return Err(TestCaseError::fail("unread")) };
            if !packed {
                found.reverse();
            }
            prop_assert_eq!(found, members);
        }

        #[test]
        fn sets_survive(members in prop::collection::hash_set(prop::collection::vec(any::<u8>(), 0..40), 1..20)) {
            let members: Vec<Vec<u8>> = members.into_iter().collect();
            let mut out = Vec::new();
            write_set(members.iter().map(|member| &member[..]), &mut out);
            prop_assert_eq!(read_back(&out), Ok(Value::Set(members)));
        }

        #[test]
        fn sets_of_integers_survive(values in prop::collection::btree_set(any::<i32>(), 1..40), wide: bool) {
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|value| {
                    if wide { i64::from(*value).to_le_bytes().to_vec() } else { value.to_le_bytes().to_vec() }
                })
                .collect();
            let mut out = Vec::new();
            write_intset(if wide { 8 } else { 4 }, &bytes, &mut out);
            let texts = values.iter().map(|value| value.to_string().into_bytes()).collect();
            prop_assert_eq!(read_back(&out), Ok(Value::Set(texts)));
        }
    }

    #[test]
    fn what_no_sorted_set_can_be_is_refused() {
        let one = |score: f64| {
            let mut out = Vec::new();
            write_sorted_set(&[(score, b"a".to_vec())], Form::Plain, &mut out);
            read_back(&out)
        };
        assert_eq!(one(f64::INFINITY), Ok(Value::SortedSet(vec![(f64::INFINITY, b"a".to_vec())])));
        assert_eq!(one(f64::NAN), Err(Malformed));
        let text = |score: &[u8]| read_back(&[&[SORTED_SET_TEXT, 1, 1, b'a'][..], score].concat());
        assert_eq!(text(b"\x031.5"), Ok(Value::SortedSet(vec![(1.5, b"a".to_vec())])));
        assert_eq!(text(&[255]), Ok(Value::SortedSet(vec![(f64::NEG_INFINITY, b"a".to_vec())])));
        for score in [&[253][..], b"\x01x", b"\x041.5"] {
            assert_eq!(text(score), Err(Malformed));
        }
        let twice = [(1.0, b"a".to_vec()), (2.0, b"a".to_vec())];
        for form in [Form::Packed, Form::Plain] {
            for members in [&twice[..], &[]] {
                let mut out = Vec::new();
                write_sorted_set(members, form, &mut out);
                assert_eq!(read_back(&out), Err(Malformed));
            }
        }
        let odd = vec![SORTED_SET_LISTPACK, 10, 10, 0, 0, 0, 1, 0, 0x81, b'a', 2, 255];
        assert_eq!(read_back(&odd), Err(Malformed));
    }

    #[test]
    fn what_no_set_can_be_is_refused() {
        let intset = |width: u32, count: u32, bytes: &[u8]| {
            let mut out = vec![SET_INTSET];
            write_string(&[&width.to_le_bytes()[..], &count.to_le_bytes(), bytes].concat(), &mut out);
            read_back(&out)
        };
        assert_eq!(intset(2, 2, &[255, 255, 1, 0]), Ok(Value::Set(vec![b"-1".to_vec(), b"1".to_vec()])));
        for (width, count, bytes) in [
            (2, 2, &[1, 0, 1, 0][..]),
            (2, 2, &[2, 0, 1, 0]),
            (2, 0, &[]),
            (3, 1, &[1, 2, 3]),
            (2, 1, &[1, 0, 0]),
        ] {
            assert_eq!(intset(width, count, bytes), Err(Malformed));
        }
        assert_eq!(read_back(&[SET, 2, 1, b'a', 1, b'a']), Err(Malformed));
        assert_eq!(read_back(&[SET, 0]), Err(Malformed));
        assert_eq!(read_back(&[SET, 0x81, 255, 255, 255, 255, 255, 255, 255, 255]), Err(Malformed));
    }

    #[test]
    fn lists_survive_and_no_change_of_a_byte_makes_them_panic() {
        let mut elements = Elements::default();
        for number in 0..40_u8 {
            elements.push(&vec![number + b'0'; usize::from(number) * 30]).expect("short");
        }
        let mut bytes = Vec::new();
        write_list(elements.iter(), &mut bytes);
        assert_eq!(read_back(&bytes), Ok(Value::List(elements)));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x55;
            let _ = read_back(&damaged);
            assert!(read_back(&bytes[..at]).is_err());
        }
        let huge = [LIST, 0x80, 255, 255, 255, 255];
        for empty in [&[LIST, 0][..], &[LIST_OF_ZIPLISTS, 0], &[LIST_OF_LISTPACKS, 0], &huge] {
            assert_eq!(read_back(empty), Err(Malformed));
        }
        let Ok(Value::List(found)) = read_back(&[LIST, 2, 1, b'a', 1, b'b']) else { panic!("a list") };
        assert_eq!(found.iter().collect::<Vec<_>>(), [b"a", b"b"]);
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
