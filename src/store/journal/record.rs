//! Sections of journal records as bytes.
//!
//! A section's chain is the CRC-32C of its bytes, and these begin with the chain of the section before it. So equal chains mean
//! equal histories, and whoever copies a history sees at the first record that it does not continue his own.
//!
//! ```text
//! section    partition · epoch · LSN · chain before it (4, LE) · commit time, ms since 1970 · number of operations · operations
//! operation  1 · key length · value length · key · value    key row put
//!            2 · key length · key                           key row deleted
//!            3 · key length · value length · key · value    item row put
//!            4 · key length · key                           item row deleted
//!            5 · uid (12) · kind                            collection dropped
//!            6 · number · id · id before                    database number means id
//!            7 · request (16, LE) · length · answer         a request of another node was carried out
//! ```

use crate::base::blob::{Blob, Head};
use crate::base::ids::{Epoch, Lsn, PartitionId, Uid};
use crate::store::Answered;
use crate::store::record::Operation;
use crate::store::row::{self, Kind};
use std::sync::Arc;

const PUT_KEY: u8 = 1;
const DELETE_KEY: u8 = 2;
const PUT_ITEM: u8 = 3;
const DELETE_ITEM: u8 = 4;
const DROP: u8 = 5;
const DATABASE: u8 = 6;
const ANSWER: u8 = 7;

/// What a section begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionHead {
    /// Which partition.
    pub partition: PartitionId,
    /// Of its history.
    pub epoch: Epoch,
    /// Which transaction.
    pub lsn: Lsn,
    /// The chain of the one before.
    pub previous: u32,
    /// When it was committed, by the primary's wall clock in milliseconds since 1970.
    pub time_ms: i64,
}

/// One partition's part of a transaction.
pub struct Section {
    /// Where it belongs.
    pub head: SectionHead,
    /// Its chain.
    pub chain: u32,
    /// What it did.
    pub operations: Vec<Operation>,
}

/// Appends one partition's part of a transaction. Returns its chain.
#[inline]
pub fn encode_section<'a>(
    out: &mut Vec<u8>,
    head: &SectionHead,
    operations: impl ExactSizeIterator<Item = &'a Operation>,
) -> u32 {
    let start = out.len();
    put_number(out, u64::from(head.partition.0));
    put_number(out, head.epoch.0);
    put_number(out, head.lsn.0);
    out.extend_from_slice(&head.previous.to_le_bytes());
    put_number(out, head.time_ms as u64);
    put_number(out, operations.len() as u64);
    for operation in operations {
        match operation {
            Operation::Key(row) => put_row(out, row, PUT_KEY, DELETE_KEY),
            Operation::Item(row) => put_row(out, row, PUT_ITEM, DELETE_ITEM),
            Operation::Drop { uid, kind } => {
                out.push(DROP);
                out.extend_from_slice(&uid.to_bytes());
                out.push(*kind as u8);
            }
            Operation::Database { number, id, before } => {
                out.push(DATABASE);
                put_number(out, u64::from(*number));
                put_number(out, u64::from(*id));
                put_number(out, u64::from(*before));
            }
            Operation::Answer(answered) => {
                out.push(ANSWER);
                out.extend_from_slice(&answered.request.to_le_bytes());
                put_number(out, answered.answer.len() as u64);
                out.extend_from_slice(&answered.answer);
            }
        }
    }
    crc32c::crc32c(&out[start..])
}

#[inline]
fn put_row(out: &mut Vec<u8>, row: &Blob, put: u8, delete: u8) {
    let deleted = row::is_deletion(row);
    out.push(if deleted { delete } else { put });
    put_number(out, u64::from(row.head().key_len));
    if !deleted {
        put_number(out, row.value().len() as u64);
    }
    out.extend_from_slice(row.bytes());
}

/// Appends the payload of a record with these sections.
pub fn put_sections<'a>(out: &mut Vec<u8>, sections: impl ExactSizeIterator<Item = &'a Section>) {
    put_number(out, sections.len() as u64);
    for section in sections {
        encode_section(out, &section.head, section.operations.iter());
    }
}

/// Appends a number as LEB128.
#[inline]
pub fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// What the payload of a mark begins with: no sections, and a word to look for.
pub const MARK: &[u8; 7] = b"\0synced";
/// Bytes of a mark's payload.
pub const MARK_BYTES: usize = MARK.len() + 16;

/// Appends the payload of the mark at `position` that says that all before `synced` is on disk.
pub fn put_mark(out: &mut Vec<u8>, position: u64, synced: u64) {
    out.extend_from_slice(MARK);
    out.extend_from_slice(&position.to_le_bytes());
    out.extend_from_slice(&synced.to_le_bytes());
}

/// The position up to which all was synced, if `payload` is the mark at `position`. A mark says where it stands, so that bytes in
/// somebody's value are not taken for one.
pub fn decode_mark(payload: &[u8], position: u64) -> Option<u64> {
    let (own, synced) = payload.strip_prefix(MARK)?.split_first_chunk::<8>()?;
    let synced = u64::from_le_bytes(synced.try_into().ok()?);
    (u64::from_le_bytes(*own) == position && synced <= position).then_some(synced)
}

/// Reads a record's payload; `None` if the bytes are not what this version writes. A mark has no sections.
pub fn decode_payload(payload: &[u8]) -> Option<Vec<Section>> {
    let mut input = Input(payload);
    let count = input.number()?;
    if count == 0 {
        return (payload.len() == MARK_BYTES && payload.starts_with(MARK)).then(Vec::new);
    }
    let sections = (0..count).map(|_| decode_section(&mut input)).collect::<Option<Vec<_>>>()?;
    input.0.is_empty().then_some(sections)
}

/// Whether bytes have the form of a payload, as far as their lengths tell: looks at the heads of operations only.
pub fn has_form(payload: &[u8]) -> bool {
    let mut input = Input(payload);
    input.skip_sections().is_some() && input.0.is_empty()
}

/// The partition a record concerns, if it is one alone.
pub fn only_partition(payload: &[u8]) -> Option<PartitionId> {
    let mut input = Input(payload);
    let count = input.number()?;
    let partition = u16::try_from(input.number()?).ok()?;
    (count == 1).then_some(PartitionId(partition))
}

/// Calls `visit` with the head of each section and the bytes of the whole section, without decoding the operations. `None` if the
/// bytes have not the form of a payload.
pub fn visit_sections<'a>(payload: &'a [u8], mut visit: impl FnMut(SectionHead, &'a [u8])) -> Option<()> {
    let mut input = Input(payload);
    for _ in 0..input.number()? {
        let start = input.0;
        let head = input.head()?;
        let operations = input.number()?;
        (0..operations).try_for_each(|_| input.skip_operation())?;
        visit(head, &start[..start.len() - input.0.len()]);
    }
    Some(())
}

/// Reads one section from the bytes that [`visit_sections`] gives.
pub fn decode_section_bytes(bytes: &[u8]) -> Option<Section> {
    let mut input = Input(bytes);
    decode_section(&mut input).filter(|_| input.0.is_empty())
}

fn decode_section(input: &mut Input) -> Option<Section> {
    let start = input.0;
    let (head, count) = (input.head()?, input.number()?);
    // Each operation takes a byte at least: a damaged count cannot make us reserve more than the record is long.
    let mut operations = Vec::with_capacity((count as usize).min(input.0.len()));
    for _ in 0..count {
        operations.push(decode_operation(input)?);
    }
    let chain = crc32c::crc32c(&start[..start.len() - input.0.len()]);
    Some(Section { head, chain, operations })
}

fn decode_operation(input: &mut Input) -> Option<Operation> {
    let tag = input.take(1)?[0];
    Some(match tag {
        PUT_KEY | PUT_ITEM => {
            let (key_len, value_len) = (input.number()?, input.number()?);
            let bytes = input.take(usize::try_from(key_len.checked_add(value_len)?).ok()?)?;
            row_operation(tag == PUT_KEY, bytes, key_len as usize, 0)?
        }
        DELETE_KEY | DELETE_ITEM => {
            let key_len = usize::try_from(input.number()?).ok()?;
            row_operation(tag == DELETE_KEY, input.take(key_len)?, key_len, row::DELETED)?
        }
        DROP => {
            let uid = Uid::from_bytes(input.take(Uid::LEN)?)?;
            Operation::Drop { uid, kind: Kind::from_bits(input.take(1)?[0])? }
        }
        DATABASE => Operation::Database {
            number: u16::try_from(input.number()?).ok()?,
            id: u32::try_from(input.number()?).ok()?,
            before: u32::try_from(input.number()?).ok()?,
        },
        ANSWER => {
            let request = u128::from_le_bytes(input.take(16)?.try_into().ok()?);
            let len = usize::try_from(input.number()?).ok()?;
            Operation::Answer(Arc::new(Answered { request, answer: input.take(len)?.into() }))
        }
        _ => return None,
    })
}

fn row_operation(is_key: bool, bytes: &[u8], key_len: usize, mark: u32) -> Option<Operation> {
    let key = &bytes[..key_len];
    let found_by = if is_key { key.get(row::KEY_PREFIX..)? } else { key };
    let head = Head { hash: row::table_hash(found_by), key_len: u32::try_from(key_len).ok()?, mark };
    let row = Blob::new(head, bytes);
    if !is_key {
        return (key_len >= Uid::LEN).then_some(Operation::Item(row));
    }
    (mark == row::DELETED || row::decode_value(row.value()).is_some()).then_some(Operation::Key(row))
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

impl Input<'_> {
    fn head(&mut self) -> Option<SectionHead> {
        let partition = PartitionId(u16::try_from(self.number()?).ok()?);
        let (epoch, lsn) = (Epoch(self.number()?), Lsn(self.number()?));
        let previous = u32::from_le_bytes(self.take(4)?.try_into().ok()?);
        Some(SectionHead { partition, epoch, lsn, previous, time_ms: self.number()? as i64 })
    }

    fn skip_sections(&mut self) -> Option<()> {
        let count = self.number()?;
        if count == 0 {
            let word = &MARK[1..];
            return (self.take(word.len())? == word && self.take(16).is_some()).then_some(());
        }
        for _ in 0..count {
            let (_head, operations) = (self.head()?, self.number()?);
            (0..operations).try_for_each(|_| self.skip_operation())?;
        }
        Some(())
    }

    fn skip_operation(&mut self) -> Option<()> {
        match self.take(1)?[0] {
            PUT_KEY | PUT_ITEM => {
                let len = self.number()?.checked_add(self.number()?)?;
                self.take(usize::try_from(len).ok()?)?;
            }
            DELETE_KEY | DELETE_ITEM => {
                let len = self.number()?;
                self.take(usize::try_from(len).ok()?)?;
            }
            DROP => {
                self.take(Uid::LEN + 1)?;
            }
            DATABASE => {
                let _number_and_ids = (self.number()?, self.number()?, self.number()?);
            }
            ANSWER => {
                self.take(16)?;
                let len = self.number()?;
                self.take(usize::try_from(len).ok()?)?;
            }
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Slot;
    use crate::store::row::NewValue;

    fn key_row(name: &[u8], value: &[u8]) -> Blob {
        let meta =
            NewValue { kind: Kind::String, encoding: 0, expire_at: Some(5), due_at: None, items: None };
        let prefix = row::key_prefix(3, Slot(9), 4);
        row::build(&mut Vec::new(), row::table_hash(name), &[&prefix, name], |out| {
            row::encode_head(&meta, out);
            out.extend_from_slice(value);
        })
    }

    #[test]
    fn a_section_survives_the_round_trip_and_no_cut_or_flip_panics() {
        let operations = [
            Operation::Key(key_row(b"name", &[7; 300])),
            Operation::Key(row::deletion(&mut Vec::new(), row::table_hash(b"gone"), &[&[0; 10], b"gone"])),
            Operation::Item(row::build(&mut Vec::new(), 1, &[&[1; 12], b"field"], |out| out.push(0))),
            Operation::Drop { uid: Uid { lsn: 1, index: 2 }, kind: Kind::Hash },
            Operation::Database { number: 15, id: 300, before: 15 },
            Operation::Answer(Arc::new(Answered { request: 1 << 127, answer: b"+OK".as_slice().into() })),
        ];
        let head = SectionHead {
            partition: PartitionId(11),
            epoch: Epoch(1),
            lsn: Lsn(1 << 50),
            previous: 0x1234_5678,
            time_ms: 1_700_000_000_000,
        };
        let mut bytes = Vec::new();
        put_number(&mut bytes, 1);
        let chain = encode_section(&mut bytes, &head, operations.iter());
        let sections = decode_payload(&bytes).expect("decodes");
        assert_eq!((sections[0].head, sections[0].chain), (head, chain));
        let mut again = Vec::new();
        put_number(&mut again, 1);
        assert_eq!(encode_section(&mut again, &head, sections[0].operations.iter()), chain);
        assert_eq!(again, bytes);
        let mut visited = Vec::new();
        visit_sections(&bytes, |head, section| visited.push((head, section))).expect("has the form");
        assert_eq!(visited, [(head, &bytes[1..])]);
        let mut mark = Vec::new();
        put_mark(&mut mark, 7, 5);
        assert!(has_form(&bytes) && has_form(&mark));
        assert_eq!((decode_mark(&mark, 7), decode_mark(&mark, 8)), (Some(5), None));
        for cut in 0..bytes.len() {
            assert!(decode_payload(&bytes[..cut]).is_none() && !has_form(&bytes[..cut]));
            let mut flipped = bytes.clone();
            flipped[cut] ^= 0xFF;
            assert!(decode_payload(&flipped).is_none() || has_form(&flipped));
        }
    }
}
