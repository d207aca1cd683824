//! Walks over the members of a set.

use super::buckets::Big;
use super::integers::Integers;
use super::packed::{self, Places};
use super::{Form, payload};
use crate::base::blob::Slice;
use crate::store::{Entry, Interrupt, Key, View};
use std::borrow::Cow;
use std::ops::ControlFlow;

/// Beyond so many buckets a walk reads rows in order and not one by one: what a head says of their number costs no more than
/// the rows there are.
const IN_ORDER_FROM: u32 = 1 << 16;
/// Rows read at once then.
const ROWS_AT_ONCE: usize = 256;

/// A member.
#[derive(Clone, Debug)]
pub enum Member {
    /// One held as an integer.
    Integer(i64),
    /// One held as bytes, sharing the row's memory.
    Text(Slice),
}

impl Member {
    /// Its bytes; `buffer` is where an integer is written.
    #[inline]
    pub fn text<'a>(&'a self, buffer: &'a mut itoa::Buffer) -> &'a [u8] {
        match self {
            Member::Integer(value) => buffer.format(*value).as_bytes(),
            Member::Text(text) => text,
        }
    }

    /// Its bytes, shared where they are held as such.
    pub fn as_text(&self) -> Cow<'_, [u8]> {
        match self {
            Member::Integer(value) => Cow::Owned(value.to_string().into_bytes()),
            Member::Text(text) => Cow::Borrowed(text),
        }
    }

    /// Its bytes, copied.
    pub fn to_vec(&self) -> Vec<u8> {
        self.text(&mut itoa::Buffer::new()).to_vec()
    }
}

/// The members of a row, in order.
pub struct Run {
    row: Slice,
    is_integers: bool,
    /// Index of the next integer, or offset of the next member.
    at: usize,
}

impl Iterator for Run {
    type Item = Member;

    #[inline]
    fn next(&mut self) -> Option<Member> {
        if self.is_integers {
            let value = Integers::of(&self.row).get(self.at)?;
            self.at += 1;
            return Some(Member::Integer(value));
        }
        let place = Places::from(&self.row, self.at).next()?;
        self.at = place.bytes.end;
        Some(Member::Text(self.row.slice(place.bytes.start, place.bytes.end)))
    }
}

/// A walk over a set, row by row, that lets go of the view in between. The set must not change meanwhile.
pub struct Walk<'k> {
    key: Key<'k>,
    state: State,
}

enum State {
    Row(Option<Run>),
    Buckets { big: Big, next: u32 },
    InOrder { big: Big, next: Option<u32>, rows: std::vec::IntoIter<Slice> },
}

impl<'k> Walk<'k> {
    /// Over the set `entry`, which is what `key` holds.
    pub fn new(key: &Key<'k>, entry: &Entry) -> Result<Walk<'k>, Interrupt> {
        let row = |is_integers| State::Row(Some(Run { row: payload(entry), is_integers, at: 0 }));
        let state = match Form::of(entry)? {
            Form::Integers(_) => row(true),
            Form::Small(_) => row(false),
            Form::Big(big) if big.cut.buckets < IN_ORDER_FROM => State::Buckets { big, next: 0 },
            Form::Big(big) => State::InOrder { big, next: Some(0), rows: Vec::new().into_iter() },
        };
        Ok(Walk { key: *key, state })
    }

    /// The members of the next row; `None` at the end.
    pub fn next(&mut self, view: &mut View) -> Result<Option<Run>, Interrupt> {
        match &mut self.state {
            State::Row(run) => Ok(run.take()),
            State::Buckets { big, next } => {
                while *next < big.cut.buckets {
                    let start = big.cut.start_of(*next);
                    *next += 1;
                    if let Some(row) = big.row(view, &self.key, start)? {
                        return Ok(Some(Run { row, is_integers: false, at: 0 }));
                    }
                }
                Ok(None)
            }
            State::InOrder { big, next, rows } => {
                if rows.len() == 0
                    && let Some(from) = *next
                {
                    let (found, then) = rows_in_order(view, &self.key, big, from)?;
                    (*rows, *next) = (found.into_iter(), then);
                }
                Ok(rows.next().map(|row| Run { row, is_integers: false, at: 0 }))
            }
        }
    }
}

/// Some rows from a position on, and the position to go on with.
fn rows_in_order(
    view: &mut View,
    key: &Key,
    big: &Big,
    from: u32,
) -> Result<(Vec<Slice>, Option<u32>), Interrupt> {
    let (mut rows, mut next) = (Vec::with_capacity(ROWS_AT_ONCE), None);
    view.visit_items(key, big.items.uid, &from.to_be_bytes(), &mut |suffix, row| {
        if rows.len() == ROWS_AT_ONCE {
            next = suffix.first_chunk().map(|start| u32::from_be_bytes(*start));
            return ControlFlow::Break(());
        }
        rows.push(Slice::copy_from(row));
        ControlFlow::Continue(())
    })?;
    // Rows whose suffixes no set has could lead back to where this began.
    Ok((rows, next.filter(|&next| next > from)))
}

/// Visits all members: in ascending order if they are held as integers, else in the order they came if the set is small.
pub fn visit(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    visit: &mut dyn FnMut(&[u8]),
) -> Result<(), Interrupt> {
    let mut buffer = itoa::Buffer::new();
    let mut walk = Walk::new(key, entry)?;
    while let Some(run) = walk.next(view)? {
        run.for_each(|member| visit(member.text(&mut buffer)));
    }
    Ok(())
}

/// All members, in the order of [`visit`].
pub fn members(view: &mut View, key: &Key, entry: &Entry) -> Result<Vec<Member>, Interrupt> {
    let mut found = Vec::new();
    let mut walk = Walk::new(key, entry)?;
    while let Some(run) = walk.next(view)? {
        found.extend(run);
    }
    Ok(found)
}

/// The rows of a set that is not held as integers.
pub(super) fn rows(view: &mut View, key: &Key, entry: &Entry) -> Result<Vec<Slice>, Interrupt> {
    let mut found = Vec::new();
    let mut walk = Walk::new(key, entry)?;
    while let Some(run) = walk.next(view)? {
        found.push(run.row);
    }
    Ok(found)
}

/// Buckets looked at for a member asked for, at most: most may be empty in a set that was large once.
const LOOKS_PER_MEMBER: usize = 10;

/// Visits about `count` members from `cursor` on (0: from the beginning) and returns the cursor to go on with, 0 at the end.
///
/// The cursor is a position in the order of hashes, which never changes for a member, however buckets are split and joined: each
/// member that is there all the time is visited once. A small set is visited as a whole.
pub fn scan(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    cursor: u64,
    count: usize,
    visit: &mut dyn FnMut(&[u8]),
) -> Result<u64, Interrupt> {
    let Form::Big(big) = Form::of(entry)? else {
        self::visit(view, key, entry, visit)?;
        return Ok(0);
    };
    let Ok(from) = u32::try_from(cursor) else { return Ok(0) };
    let first = big.cut.index_of(from);
    let looks = u32::try_from(count.saturating_mul(LOOKS_PER_MEMBER)).unwrap_or(u32::MAX);
    let mut seen = 0;
    for index in first..big.cut.buckets {
        if seen >= count || index - first >= looks {
            return Ok(u64::from(big.cut.start_of(index)));
        }
        let Some(row) = big.row(view, key, big.cut.start_of(index))? else { continue };
        for member in packed::members(&row) {
            // A bucket that was split when the cursor was given may have been joined since.
            if index > first || big.position(member) >= from {
                visit(member);
                seen += 1;
            }
        }
    }
    Ok(0)
}
