//! Bitmaps: strings seen as bits, the first bit of a byte being its highest. Absent bytes are zeros.

use super::error::Error;
use super::string::{self, Encoding, INLINE_MAX, Piece};
use crate::store::{Entry, Interrupt, Key, Transaction, View};
use smallvec::SmallVec;
use std::ops::{ControlFlow, RangeInclusive};

/// The bit at `offset`.
pub fn get(view: &mut View, key: &Key, offset: u64) -> Result<bool, Error> {
    let Some(entry) = string::find(view, key)? else { return Ok(false) };
    Ok(byte_at(view, key, &entry, (offset >> 3) as usize)? & mask(offset) != 0)
}

/// Sets or clears the bit at `offset`; the string grows as needed. Returns what the bit was.
pub fn set(transaction: &mut Transaction, key: &Key, offset: u64, on: bool) -> Result<bool, Error> {
    let before = string::find(transaction, key)?;
    let at = (offset >> 3) as usize;
    let old = match &before {
        Some(entry) => byte_at(transaction, key, entry, at)?,
        None => 0,
    };
    let new = if on { old | mask(offset) } else { old & !mask(offset) };
    let stays = |entry: &Entry| entry.encoding() >= Encoding::Raw as u8 && at < string::len(entry);
    if new != old || !before.as_ref().is_some_and(stays) {
        if new == old && before.as_ref().is_some_and(|entry| at < string::len(entry)) {
            transaction.keep_quiet(key); // as in Redis, which stores it otherwise and tells nobody
        }
        string::write_at(transaction, key, before.as_ref(), at, &[new])?;
    }
    Ok(old & mask(offset) != 0)
}

fn mask(offset: u64) -> u8 {
    128 >> (offset & 7)
}

fn byte_at(view: &mut View, key: &Key, entry: &Entry, at: usize) -> Result<u8, Interrupt> {
    if at >= string::len(entry) {
        return Ok(0);
    }
    Ok(string::read_range(view, key, entry, at..at + 1)?[0])
}

/// The bits of a range's first and last byte (which may be the same) that belong to it.
struct Masked {
    first: u8,
    last: u8,
}

impl Masked {
    fn of(range: &RangeInclusive<u64>) -> Masked {
        Masked { first: 255 >> (range.start() & 7), last: !(127_u8 >> (range.end() & 7)) }
    }
}

/// Number of bits set within `range` (bit offsets, within the string).
pub fn count(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    range: &RangeInclusive<u64>,
) -> Result<u64, Interrupt> {
    let (first, last) = ((range.start() >> 3) as usize, (range.end() >> 3) as usize);
    let masked = Masked::of(range);
    let mut at = first;
    let mut ones = 0;
    string::visit(view, key, entry, first..last + 1, &mut |piece| {
        match piece {
            Piece::Zeros(len) => at += len,
            Piece::Bytes(bytes) => {
                ones += count_ones(bytes);
                if at == first {
                    ones -= u64::from((bytes[0] & !masked.first).count_ones());
                }
                at += bytes.len();
                if at == last + 1 {
                    ones -= u64::from((bytes[bytes.len() - 1] & !masked.last).count_ones());
                }
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(ones)
}

fn count_ones(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let words: u64 = words.iter().map(|word| u64::from(u64::from_ne_bytes(*word).count_ones())).sum();
    words + rest.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>()
}

/// The first bit within `range` (bit offsets, within the string) that is `wanted`.
pub fn position(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    range: &RangeInclusive<u64>,
    wanted: bool,
) -> Result<Option<u64>, Interrupt> {
    let (first, last) = ((range.start() >> 3) as usize, (range.end() >> 3) as usize);
    let masked = Masked::of(range);
    let mut at = first;
    let mut found = None;
    // A byte in which the wanted bits of the range are ones.
    let wanted_bits = |at: usize, byte: u8| {
        let byte = if wanted { byte } else { !byte };
        byte & if at == first { masked.first } else { 255 } & if at == last { masked.last } else { 255 }
    };
    string::visit(view, key, entry, first..last + 1, &mut |piece| {
        let hit = match piece {
            // Within zeros the answer is in one of the first two bytes, or there is none.
            Piece::Zeros(len) => (0..len.min(2)).find(|i| wanted_bits(at + i, 0) != 0).map(|i| (i, 0)),
            Piece::Bytes(bytes) => first_hit(bytes, at, wanted, &wanted_bits),
        };
        if let Some((within, byte)) = hit {
            let bit = wanted_bits(at + within, byte).leading_zeros();
            found = Some(((at + within) as u64) << 3 | u64::from(bit));
            return ControlFlow::Break(());
        }
        at += match piece {
            Piece::Zeros(len) => len,
            Piece::Bytes(bytes) => bytes.len(),
        };
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// The first byte with a wanted bit, skipping runs without one quickly.
fn first_hit(
    bytes: &[u8],
    at: usize,
    wanted: bool,
    wanted_bits: &dyn Fn(usize, u8) -> u8,
) -> Option<(usize, u8)> {
    let dull = if wanted { 0 } else { 255 };
    bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte != dull)
        .find(|(i, byte)| wanted_bits(at + i, **byte) != 0)
        .map(|(i, byte)| (i, *byte))
}

/// How BITOP combines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combination {
    /// Set in all.
    And,
    /// Set in any.
    Or,
    /// Set in an odd number.
    Xor,
    /// Not set in the only one.
    Not,
}

/// Combines strings, the shorter ones followed by zeros, and stores the result at `to`; an empty one removes it. Returns its
/// length.
pub fn combine<'k>(
    transaction: &mut Transaction,
    combination: Combination,
    to: &Key,
    from: impl Iterator<Item = Key<'k>>,
) -> Result<usize, Error> {
    let mut sources = SmallVec::<[_; 4]>::new();
    for key in from {
        sources.push(match transaction.as_reader(|view| string::find(view, &key))? {
            Some(entry) => Some(string::read_whole(transaction, &key, &entry)?),
            None => None,
        });
    }
    let bytes = |source: &'_ Option<string::Text>| -> usize { source.as_ref().map_or(0, |text| text.len()) };
    let len = sources.iter().map(bytes).max().unwrap_or(0);
    if len == 0 {
        transaction.remove(to)?;
        return Ok(0);
    }
    let mut result = sources[0].as_deref().unwrap_or_default().to_vec();
    result.resize(len, 0);
    if combination == Combination::Not {
        for byte in &mut result {
            *byte = !*byte;
        }
    }
    for source in &sources[1..] {
        fold(combination, &mut result, source.as_deref().unwrap_or_default());
    }
    string::store_as(transaction, to, &result, None, Encoding::Raw)?;
    Ok(len)
}

fn fold(combination: Combination, into: &mut [u8], from: &[u8]) {
    let (head, tail) = into.split_at_mut(from.len());
    let pairs = head.iter_mut().zip(from);
    match combination {
        Combination::And => {
            pairs.for_each(|(a, b)| *a &= b);
            tail.fill(0);
        }
        Combination::Or => pairs.for_each(|(a, b)| *a |= b),
        Combination::Xor => pairs.for_each(|(a, b)| *a ^= b),
        Combination::Not => (),
    }
}

/// What becomes of a value that does not fit its integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The lowest bits are kept.
    Wrap,
    /// The nearest value that fits.
    Saturate,
    /// Nothing is done.
    Fail,
}

/// What is done to an integer within a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read it.
    Get,
    /// Replace it.
    Set(i64),
    /// Add to it.
    Add(i64),
}

/// An operation of BITFIELD.
#[derive(Clone, Copy, Debug)]
pub struct FieldOperation {
    /// Two's complement.
    pub signed: bool,
    /// Width: 1 to 64 if signed, else to 63.
    pub bits: u32,
    /// Of the first bit.
    pub offset: u64,
    /// What to do.
    pub action: Action,
    /// If it does not fit.
    pub overflow: Overflow,
}

/// Bytes in which a field of 64 bits at any bit offset lies.
const WINDOW: usize = 9;

impl FieldOperation {
    fn first_byte(&self) -> usize {
        (self.offset >> 3) as usize
    }

    fn end_byte(&self) -> usize {
        ((self.offset + u64::from(self.bits) - 1) >> 3) as usize + 1
    }

    fn value_mask(&self) -> u128 {
        (1 << self.bits) - 1
    }

    /// Bits behind the field in its window.
    fn shift(&self) -> u32 {
        (WINDOW as u32) * 8 - (self.offset & 7) as u32 - self.bits
    }

    fn read(&self, window: [u8; WINDOW]) -> i64 {
        let raw = (as_number(window) >> self.shift()) & self.value_mask();
        self.interpret(raw as u64)
    }

    /// The lowest bits as a number.
    fn interpret(&self, raw: u64) -> i64 {
        let unused = 64 - self.bits;
        if self.signed { (raw << unused) as i64 >> unused } else { raw as i64 }
    }

    fn write(&self, window: [u8; WINDOW], value: i64) -> [u8; WINDOW] {
        let kept = as_number(window) & !(self.value_mask() << self.shift());
        let number = kept | (value as u128 & self.value_mask()) << self.shift();
        let mut made = [0; WINDOW];
        made.copy_from_slice(&number.to_be_bytes()[16 - WINDOW..]);
        made
    }

    /// The value of `sum` under the overflow rule; `None` if it is refused.
    fn fit(&self, sum: i128) -> Option<i64> {
        let (min, max) = if self.signed {
            (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1)
        } else {
            (0, (1 << self.bits) - 1)
        };
        match self.overflow {
            _ if (min..=max).contains(&sum) => Some(sum as i64),
            Overflow::Wrap => Some(self.interpret((sum as u128 & self.value_mask()) as u64)),
            Overflow::Saturate => Some(if sum > max { max } else { min } as i64),
            Overflow::Fail => None,
        }
    }

    /// A value that SET gives a signed field. Redis subtracts it from the field's largest one in 64 bits; where that wraps, the
    /// smallest values are too large for it, which shows under saturation.
    fn as_redis_sees(&self, value: i64) -> i128 {
        let max = ((1_i128 << (self.bits - 1)) - 1) as i64;
        let wraps = self.bits < 64 && max.checked_sub(value).is_none();
        if wraps && self.overflow == Overflow::Saturate { i128::from(max) } else { i128::from(value) }
    }

    /// Runs on a window: what to answer, and the window if it is to be written.
    fn run(&self, window: [u8; WINDOW]) -> (Option<i64>, Option<[u8; WINDOW]>) {
        let old = self.read(window);
        let answer_and_new = match self.action {
            Action::Get => return (Some(old), None),
            // An unsigned field takes a negative value for a very large one.
            Action::Set(value) if !self.signed => self.fit(i128::from(value as u64)).map(|new| (old, new)),
            Action::Set(value) => self.fit(self.as_redis_sees(value)).map(|new| (old, new)),
            Action::Add(delta) => self.fit(i128::from(old) + i128::from(delta)).map(|new| (new, new)),
        };
        match answer_and_new {
            Some((answer, new)) => (Some(answer), Some(self.write(window, new))),
            None => (None, None),
        }
    }
}

fn as_number(window: [u8; WINDOW]) -> u128 {
    let mut bytes = [0; 16];
    bytes[16 - WINDOW..].copy_from_slice(&window);
    u128::from_be_bytes(bytes)
}

fn window_of(bytes: &[u8]) -> [u8; WINDOW] {
    let mut window = [0; WINDOW];
    let len = bytes.len().min(WINDOW);
    window[..len].copy_from_slice(&bytes[..len]);
    window
}

/// What a read operation finds.
pub fn read_field(
    view: &mut View,
    key: &Key,
    entry: Option<&Entry>,
    operation: &FieldOperation,
) -> Result<i64, Interrupt> {
    let Some(entry) = entry else { return Ok(0) };
    let end = operation.end_byte().min(string::len(entry));
    let start = operation.first_byte().min(end);
    let bytes = string::read_range(view, key, entry, start..end)?;
    Ok(operation.read(window_of(&bytes)))
}

/// Runs BITFIELD operations one after the other; the string first grows as far as any of them writes. The answer of one that
/// is refused is `None`.
pub fn run_fields(
    transaction: &mut Transaction,
    key: &Key,
    operations: &[FieldOperation],
) -> Result<Vec<Option<i64>>, Error> {
    let before = string::find(transaction, key)?;
    let writes = operations.iter().filter(|operation| operation.action != Action::Get);
    let len_min = writes.map(FieldOperation::end_byte).max().unwrap_or(0);
    let is_small = before.as_ref().is_none_or(|entry| entry.items().is_none());
    if is_small && len_min <= INLINE_MAX {
        return Ok(run_in_row(transaction, key, before, len_min, operations)?);
    }
    let mut entry = string::grow(transaction, key, before, len_min)?;
    let mut answers = Vec::with_capacity(operations.len());
    for operation in operations {
        let Some(found) = &entry else { break };
        let end = operation.end_byte().min(string::len(found));
        let start = operation.first_byte().min(end);
        let bytes = string::read_range(transaction, key, found, start..end)?;
        let (answer, window) = operation.run(window_of(&bytes));
        let is_same = |window: &[u8]| matches!(operation.action, Action::Set(_)) && window == &bytes[..];
        if let Some(window) = window.filter(|window| !is_same(&window[..end - start])) {
            string::write_at(transaction, key, Some(found), start, &window[..end - start])?;
            entry = transaction.get(key)?;
        }
        answers.push(answer);
    }
    Ok(answers)
}

fn run_in_row(
    transaction: &mut Transaction,
    key: &Key,
    before: Option<Entry>,
    len_min: usize,
    operations: &[FieldOperation],
) -> Result<Vec<Option<i64>>, Interrupt> {
    let mut bytes = before.as_ref().map_or(&[][..], Entry::payload).to_vec();
    bytes.resize(bytes.len().max(len_min), 0);
    let run = |operation: &FieldOperation| {
        let end = operation.end_byte().min(bytes.len());
        let start = operation.first_byte().min(end);
        let (answer, window) = operation.run(window_of(&bytes[start..end]));
        if let Some(window) = window {
            bytes[start..end].copy_from_slice(&window[..end - start]);
        }
        answer
    };
    let answers: Vec<Option<i64>> = operations.iter().map(run).collect();
    // As in Redis what sets bits to what they are changes nothing, while an addition counts even if it adds 0.
    let adds = |(operation, answer): (&FieldOperation, &Option<i64>)| {
        matches!(operation.action, Action::Add(_)) && answer.is_some()
    };
    let is_same = before
        .as_ref()
        .is_some_and(|entry| entry.payload() == &bytes[..] && !operations.iter().zip(&answers).any(adds));
    let stays = is_same && before.as_ref().is_some_and(|entry| entry.encoding() >= Encoding::Raw as u8);
    if len_min > 0 && !stays {
        if is_same {
            transaction.keep_quiet(key);
        }
        let expire_at = before.and_then(|entry| entry.expire_at());
        string::store_as(transaction, key, &bytes, expire_at, Encoding::Raw)?;
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{PartitionSet, Store};
    use rand::prelude::*;

    fn key() -> Key<'static> {
        Key::new(0, b"key")
    }

    #[test]
    fn bits_of_small_and_large_strings_are_those_of_a_list() {
        let mut random = StdRng::seed_from_u64(3);
        for bits in [300_u64, 400_000] {
            let store = Store::in_memory(4, 16);
            let mut transaction = store.transaction(&PartitionSet::All, 0);
            let mut model = vec![false; bits as usize];
            set(&mut transaction, &key(), bits - 1, false).expect("a string");
            for _ in 0..200 {
                let (offset, on) = (random.random_range(0..bits), random.random());
                let old = set(&mut transaction, &key(), offset, on).expect("a string");
                assert_eq!(old, std::mem::replace(&mut model[offset as usize], on));
                assert_eq!(get(&mut transaction, &key(), offset).expect("a string"), on);
            }
            let entry = string::find(&mut transaction, &key()).expect("a string").expect("exists");
            for _ in 0..60 {
                let start = random.random_range(0..bits);
                let end = random.random_range(start..bits);
                let part = &model[start as usize..=end as usize];
                let ones = part.iter().filter(|bit| **bit).count() as u64;
                let range = start..=end;
                assert_eq!(count(&mut transaction, &key(), &entry, &range).expect("in memory"), ones);
                for wanted in [false, true] {
                    let first = part.iter().position(|bit| *bit == wanted).map(|at| start + at as u64);
                    let found = position(&mut transaction, &key(), &entry, &range, wanted);
                    assert_eq!(found.expect("in memory"), first);
                }
            }
        }
    }

    fn field(bits: u32, signed: bool, action: Action, overflow: Overflow) -> FieldOperation {
        FieldOperation { signed, bits, offset: 5, action, overflow }
    }

    #[test]
    fn fields_overflow_as_they_were_told() {
        let store = Store::in_memory(4, 16);
        let mut transaction = store.transaction(&PartitionSet::All, 0);
        let mut run = |operation| {
            run_fields(&mut transaction, &key(), &[operation]).expect("a string").pop().expect("one answer")
        };
        assert_eq!(run(field(8, false, Action::Set(250), Overflow::Wrap)), Some(0));
        assert_eq!(run(field(8, false, Action::Add(10), Overflow::Fail)), None);
        assert_eq!(run(field(8, false, Action::Add(10), Overflow::Wrap)), Some(4));
        assert_eq!(run(field(8, false, Action::Add(-10), Overflow::Saturate)), Some(0));
        assert_eq!(run(field(8, true, Action::Set(200), Overflow::Saturate)), Some(0));
        assert_eq!(run(field(8, true, Action::Get, Overflow::Wrap)), Some(127));
        assert_eq!(run(field(8, true, Action::Set(i64::MIN + 128), Overflow::Saturate)), Some(127));
        assert_eq!(run(field(8, true, Action::Set(i64::MIN + 127), Overflow::Saturate)), Some(-128));
        assert_eq!(run(field(8, true, Action::Add(i64::MIN), Overflow::Saturate)), Some(-128));
        assert_eq!(run(field(8, true, Action::Set(127), Overflow::Saturate)), Some(-128));
        assert_eq!(run(field(64, true, Action::Set(i64::MAX), Overflow::Wrap)), Some(127 << 56));
        assert_eq!(run(field(64, true, Action::Add(1), Overflow::Wrap)), Some(i64::MIN));
        assert_eq!(run(field(63, false, Action::Set(-1), Overflow::Saturate)), Some(1 << 62));
    }
}
