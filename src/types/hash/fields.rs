//! The fields of a small hash: its key row's payload.

use super::{Pair, TIMED};
use crate::store::{Entry, Interrupt, Key, Kind, NewValue, Transaction};
use crate::types::varint;
use smallvec::SmallVec;

/// A field, its value and its deadline (milliseconds since 1970).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name.
    pub name: &'a [u8],
    /// What it holds.
    pub value: &'a [u8],
    /// When it is over.
    pub expire_at: Option<i64>,
}

/// Some of them.
pub type List<'a> = SmallVec<[Field<'a>; 32]>;

impl<'a> Field<'a> {
    /// One without a deadline.
    pub fn plain((name, value): Pair<'a>) -> Field<'a> {
        Field { name, value, expire_at: None }
    }

    /// Whether it is over: nobody sees it any more.
    #[inline]
    pub fn is_over(&self, now: i64) -> bool {
        is_over(self.expire_at, now)
    }
}

/// Whether a deadline was before `now`.
#[inline]
pub fn is_over(expire_at: Option<i64>, now: i64) -> bool {
    expire_at.is_some_and(|at| at < now)
}

/// The fields of a small hash, in order, those that are over as well.
#[derive(Clone)]
pub struct Fields<'a> {
    payload: &'a [u8],
    at: usize,
    is_timed: bool,
}

impl<'a> Fields<'a> {
    /// Of a small hash.
    pub fn of(entry: &'a Entry) -> Fields<'a> {
        Fields::new(entry.payload(), entry.encoding() == TIMED)
    }

    /// Of a small hash's payload, with deadlines or without.
    pub fn new(payload: &'a [u8], is_timed: bool) -> Fields<'a> {
        let mut fields = Fields { payload, at: 0, is_timed };
        let _count = fields.varint();
        fields
    }

    fn varint(&mut self) -> Option<u64> {
        varint::take(self.payload, &mut self.at)
    }

    /// Where the next bytes stand.
    fn place(&mut self) -> Option<(usize, usize)> {
        let len = self.varint()? as usize;
        let (start, end) = (self.at, self.at.checked_add(len)?);
        self.at = end;
        (end <= self.payload.len()).then_some((start, end))
    }

    /// The next field, and where its value stands in the payload.
    #[inline]
    pub fn next_placed(&mut self) -> Option<(Field<'a>, (usize, usize))> {
        if self.at >= self.payload.len() {
            return None;
        }
        let (name, value) = (self.place()?, self.place()?);
        let expire_at = if self.is_timed { Some(self.varint()? as i64).filter(|at| *at > 0) } else { None };
        let bytes = |(start, end)| &self.payload[start..end];
        Some((Field { name: bytes(name), value: bytes(value), expire_at }, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    #[inline]
    fn next(&mut self) -> Option<Field<'a>> {
        Some(self.next_placed()?.0)
    }
}

/// How many fields a small hash's payload says that there are.
pub fn count(payload: &[u8]) -> usize {
    varint::take(payload, &mut 0).unwrap_or(0) as usize
}

/// The first of their deadlines.
fn soonest(fields: &[Field]) -> Option<i64> {
    fields.iter().filter_map(|field| field.expire_at).min()
}

/// Makes `key` a small hash of these fields. One that had deadlines once keeps room for them, as in Redis.
pub fn put(
    transaction: &mut Transaction,
    key: &Key,
    fields: &[Field],
    expire_at: Option<i64>,
    had_deadlines: bool,
) -> Result<(), Interrupt> {
    let due_at = soonest(fields);
    let is_timed = had_deadlines || due_at.is_some();
    let mut payload = SmallVec::new();
    varint::put(&mut payload, fields.len() as u64);
    for field in fields {
        varint::put(&mut payload, field.name.len() as u64);
        payload.extend_from_slice(field.name);
        varint::put(&mut payload, field.value.len() as u64);
        payload.extend_from_slice(field.value);
        if is_timed {
            varint::put(&mut payload, field.expire_at.unwrap_or(0) as u64);
        }
    }
    let encoding = if is_timed { TIMED } else { super::LISTPACK };
    let meta = NewValue { kind: Kind::Hash, encoding, expire_at, due_at, items: None };
    transaction.put(key, meta, &[&payload])
}
