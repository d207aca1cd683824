//! HyperLogLog: how many different elements there were, to within 0.81 %, as a string in Redis's own bytes.
//!
//! ```text
//! "HYLL" · encoding: 0 dense, 1 sparse (1) · 0 (3) · last count, little-endian, highest bit: it is out of date (8) · registers
//! dense:  16,384 registers of 6 bits, the first in the lowest bits of the first byte
//! sparse: runs. 00nnnnnn: n+1 zeros · 01nnnnnn nnnnnnnn: n+1 zeros · 1vvvvvnn: n+1 times v+1
//! ```
//!
//! An element's 64-bit hash says by its lowest 14 bits which register it belongs to; how many zeros follow is what the register
//! keeps the maximum of. The estimate is that of Otmar Ertl, "New cardinality estimation algorithms for HyperLogLog sketches"
//! (2017), in the same order of operations as in Redis, so that the counts are the same numbers.
//!
//! Bytes come from clients too (SET): what no sketch can be is refused, and runs never lead beyond the registers.

mod estimate;
mod sparse;

use super::error::Error;
use super::string::{self, Encoding, Text};
use crate::store::{Entry, Key, Transaction, View};
use sparse::{Run, SparseChange};

/// Registers of a sketch.
pub const REGISTERS: usize = 1 << INDEX_BITS;
const INDEX_BITS: u32 = 14;
const REGISTER_BITS: usize = 6;
const REGISTER_MAX: u8 = 63;
const HEADER: usize = 16;
const DENSE_LEN: usize = HEADER + REGISTERS * REGISTER_BITS / 8;
/// No sketch is longer: each register in a run of its own.
const LEN_MAX: usize = HEADER + 2 * REGISTERS;
const MAGIC: &[u8] = b"HYLL";
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
const ENCODING_AT: usize = 4;
const COUNT_AT: usize = 8;
/// The byte with the bit that says that the count is out of date.
const STALE_AT: usize = 15;
const STALE: u8 = 128;

/// Why a sketch was refused.
#[derive(Debug)]
pub enum Refused {
    /// The string is none.
    NoSketch,
    /// Its runs do not make up the registers.
    Corrupted,
    /// Its encoding is not the sparse one.
    NotSparse,
    /// The key's type, or an interrupt.
    Other(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        Refused::Other(error)
    }
}

impl From<crate::store::Interrupt> for Refused {
    fn from(interrupt: crate::store::Interrupt) -> Refused {
        Refused::Other(interrupt.into())
    }
}

/// Register and value of an element.
pub fn place_of(element: &[u8]) -> (usize, u8) {
    let hash = murmur64(element, 0xadc8_3b19);
    let rest = hash >> INDEX_BITS | 1 << (64 - INDEX_BITS);
    ((hash as usize) & (REGISTERS - 1), rest.trailing_zeros() as u8 + 1)
}

/// `MurmurHash64A` by Austin Appleby, over little-endian words.
fn murmur64(bytes: &[u8], seed: u64) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    const R: u32 = 47;
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(M);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let mut mixed = u64::from_le_bytes(*word).wrapping_mul(M);
        mixed = (mixed ^ (mixed >> R)).wrapping_mul(M);
        hash = (hash ^ mixed).wrapping_mul(M);
    }
    if !rest.is_empty() {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> R)).wrapping_mul(M);
    hash ^ (hash >> R)
}

/// Whether a string may be a sketch, as far as its length and its first bytes tell.
fn has_form(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER
        && bytes.starts_with(MAGIC)
        && match bytes[ENCODING_AT] {
            DENSE => bytes.len() == DENSE_LEN,
            encoding => encoding == SPARSE,
        }
}

/// A sketch's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sketch(Vec<u8>);

impl Sketch {
    /// Without elements: one run of zeros.
    pub fn empty() -> Sketch {
        let mut bytes = [MAGIC, &[SPARSE], &[0; 11]].concat();
        sparse::push_zeros(&mut bytes, REGISTERS);
        Sketch(bytes)
    }

    /// The one with these bytes, if they have the form of one; its runs may still be wrong.
    pub fn of(bytes: Vec<u8>) -> Option<Sketch> {
        has_form(&bytes).then_some(Sketch(bytes))
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether registers are held one by one.
    pub fn is_dense(&self) -> bool {
        self.0[ENCODING_AT] == DENSE
    }

    fn registers(&self) -> &[u8] {
        &self.0[HEADER..]
    }

    /// The last count, if it still is right.
    pub fn cached_count(&self) -> Option<u64> {
        let count = self.0[COUNT_AT..HEADER].try_into().map_or(0, u64::from_le_bytes);
        (self.0[STALE_AT] & STALE == 0).then_some(count)
    }

    fn forget_count(&mut self) {
        self.0[STALE_AT] |= STALE;
    }

    /// Notes the count, until something changes.
    pub fn keep_count(&mut self, count: u64) {
        self.0[COUNT_AT..HEADER].copy_from_slice(&count.to_le_bytes());
    }

    /// Adds an element. Whether a register changed.
    fn add(&mut self, element: &[u8], sparse_len_max: usize) -> Result<bool, Refused> {
        let (index, value) = place_of(element);
        self.raise(index, value, sparse_len_max)
    }

    /// Raises a register to `value`; false if it is that high already.
    fn raise(&mut self, index: usize, value: u8, sparse_len_max: usize) -> Result<bool, Refused> {
        if !self.is_dense() {
            match sparse::raise(&mut self.0, HEADER, index, value, sparse_len_max)? {
                SparseChange::Unchanged => return Ok(false),
                SparseChange::Raised => {
                    self.forget_count();
                    return Ok(true);
                }
                SparseChange::DoesNotFit => _ = self.make_dense()?,
            }
        }
        let registers = &mut self.0[HEADER..];
        let raises = dense_get(registers, index) < value;
        if raises {
            dense_set(registers, index, value);
        }
        Ok(raises)
    }

    /// Holds registers one by one. Whether it did not before.
    pub fn make_dense(&mut self) -> Result<bool, Refused> {
        if self.is_dense() {
            return Ok(false);
        }
        let mut dense = vec![0; DENSE_LEN];
        dense[..HEADER].copy_from_slice(&self.0[..HEADER]);
        dense[ENCODING_AT] = DENSE;
        let registers = self.all_registers()?;
        for (index, &value) in registers.iter().enumerate().filter(|(_, value)| **value > 0) {
            dense_set(&mut dense[HEADER..], index, value);
        }
        self.0 = dense;
        Ok(true)
    }

    /// All registers.
    pub fn all_registers(&self) -> Result<Vec<u8>, Refused> {
        let mut all = Vec::with_capacity(REGISTERS);
        if self.is_dense() {
            // Three bytes are four registers.
            for &[a, b, c] in self.registers().as_chunks().0 {
                all.extend_from_slice(&[
                    a & REGISTER_MAX,
                    (a >> 6 | b << 2) & REGISTER_MAX,
                    (b >> 4 | c << 4) & REGISTER_MAX,
                    c >> 2,
                ]);
            }
            return Ok(all);
        }
        for run in sparse::runs(self.registers()) {
            let len = all.len() + run.len();
            if len > REGISTERS {
                return Err(Refused::Corrupted);
            }
            all.resize(len, run.value());
        }
        if all.len() == REGISTERS { Ok(all) } else { Err(Refused::Corrupted) }
    }

    /// How many elements there were.
    fn count(&self) -> Result<u64, Refused> {
        Ok(estimate::of(&self.all_registers()?))
    }

    fn merge_into(&self, all: &mut [u8]) -> Result<(), Refused> {
        let own = self.all_registers()?;
        all.iter_mut().zip(own).for_each(|(highest, value)| *highest = value.max(*highest));
        Ok(())
    }

    /// The runs of a sparse sketch, in the words of PFDEBUG.
    pub fn runs(&self) -> Result<String, Refused> {
        if self.is_dense() {
            return Err(Refused::NotSparse);
        }
        let words: Vec<String> = sparse::runs(self.registers())
            .map(|run| match run {
                Run::Zeros(len) => format!("z:{len}"),
                Run::ManyZeros(len) => format!("Z:{len}"),
                Run::Values(value, len) => format!("v:{value},{len}"),
            })
            .collect();
        Ok(words.join(" "))
    }
}

fn dense_get(registers: &[u8], index: usize) -> u8 {
    let (byte, shift) = (index * REGISTER_BITS / 8, index * REGISTER_BITS % 8);
    let next = registers.get(byte + 1).copied().unwrap_or(0);
    (u16::from_le_bytes([registers[byte], next]) >> shift) as u8 & REGISTER_MAX
}

fn dense_set(registers: &mut [u8], index: usize, value: u8) {
    let (byte, shift) = (index * REGISTER_BITS / 8, index * REGISTER_BITS % 8);
    let next = registers.get(byte + 1).copied().unwrap_or(0);
    let mut word = u16::from_le_bytes([registers[byte], next]);
    word = word & !(u16::from(REGISTER_MAX) << shift) | u16::from(value & REGISTER_MAX) << shift;
    let [low, high] = word.to_le_bytes();
    registers[byte] = low;
    if let Some(next) = registers.get_mut(byte + 1) {
        *next = high;
    }
}

/// The string at `key` with its key row, if there is one and it has the form of a sketch.
fn find_bytes(view: &mut View, key: &Key) -> Result<Option<(Entry, Text)>, Refused> {
    let Some(entry) = string::find(view, key)? else { return Ok(None) };
    let len = string::len(&entry);
    if len > LEN_MAX {
        let header = string::read_range(view, key, &entry, 0..HEADER)?;
        return Err(if has_form(&header) { Refused::Corrupted } else { Refused::NoSketch });
    }
    let bytes = string::read_whole(view, key, &entry)?;
    if has_form(&bytes) { Ok(Some((entry, bytes))) } else { Err(Refused::NoSketch) }
}

/// The sketch at `key` with its key row, if there is one.
pub fn find(view: &mut View, key: &Key) -> Result<Option<(Entry, Sketch)>, Refused> {
    let found = find_bytes(view, key)?;
    Ok(found.map(|(entry, bytes)| (entry, Sketch(bytes.to_vec()))))
}

fn store(
    transaction: &mut Transaction,
    key: &Key,
    before: Option<&Entry>,
    sketch: &Sketch,
) -> Result<(), Refused> {
    let expire_at = before.and_then(Entry::expire_at);
    Ok(string::store_as(transaction, key, sketch.bytes(), expire_at, Encoding::Raw)?)
}

/// Whether none of these elements would change a dense sketch, which after some thousands is what most do: its bytes need not be
/// copied then.
fn has_all<'a>(bytes: &[u8], mut elements: impl Iterator<Item = &'a [u8]>) -> bool {
    bytes[ENCODING_AT] == DENSE
        && elements.all(|element| {
            let (index, value) = place_of(element);
            dense_get(&bytes[HEADER..], index) >= value
        })
}

/// Adds elements to the sketch at `key`, which is made if need be. Whether anything changed.
pub fn add<'a>(
    transaction: &mut Transaction,
    key: &Key,
    elements: impl Iterator<Item = &'a [u8]> + Clone,
    sparse_len_max: usize,
) -> Result<bool, Refused> {
    let found = match find_bytes(transaction, key) {
        // Nothing is looked at where nothing is added.
        Err(Refused::Corrupted) if elements.clone().next().is_none() => return Ok(false),
        found => found?,
    };
    let (before, mut sketch) = match found {
        Some((_, bytes)) if has_all(&bytes, elements.clone()) => return Ok(false),
        Some((entry, bytes)) => (Some(entry), Sketch(bytes.to_vec())),
        None => (None, Sketch::empty()),
    };
    let mut changed = before.is_none();
    for element in elements {
        changed |= sketch.add(element, sparse_len_max)?;
    }
    if changed {
        sketch.forget_count();
        store(transaction, key, before.as_ref(), &sketch)?;
    }
    Ok(changed)
}

/// How many elements the sketch at `key` has seen; and the sketch with its key row, if that is to be kept in it.
pub fn count(view: &mut View, key: &Key) -> Result<(u64, Option<(Entry, Sketch)>), Refused> {
    let found = match find(view, key) {
        Err(Refused::Corrupted) => {
            // Too long to be read; the last count may stand in its beginning.
            let entry = string::find(view, key)?.ok_or(Refused::Corrupted)?;
            let beginning = Sketch(string::read_range(view, key, &entry, 0..HEADER)?.to_vec());
            return beginning.cached_count().map(|count| (count, None)).ok_or(Refused::Corrupted);
        }
        found => found?,
    };
    let Some((entry, mut sketch)) = found else { return Ok((0, None)) };
    if let Some(count) = sketch.cached_count() {
        return Ok((count, None));
    }
    let count = sketch.count()?;
    sketch.keep_count(count);
    Ok((count, Some((entry, sketch))))
}

/// Puts what [`count`] gave.
pub fn keep_count(
    transaction: &mut Transaction,
    key: &Key,
    (entry, sketch): &(Entry, Sketch),
) -> Result<(), Refused> {
    store(transaction, key, Some(entry), sketch)
}

/// How many elements the sketches at these keys have seen together.
pub fn count_all<'k>(view: &mut View, keys: impl Iterator<Item = Key<'k>>) -> Result<u64, Refused> {
    let mut all = vec![0; REGISTERS];
    for key in keys {
        if let Some((_, sketch)) = find(view, &key)? {
            sketch.merge_into(&mut all)?;
        }
    }
    Ok(estimate::of(&all))
}

/// Makes the sketch at `to` one of all that those at `keys`, `to` among them, have seen.
pub fn merge<'k>(
    transaction: &mut Transaction,
    to: &Key,
    keys: impl Iterator<Item = Key<'k>>,
    sparse_len_max: usize,
) -> Result<(), Refused> {
    let (mut all, mut is_dense) = (vec![0; REGISTERS], false);
    for key in keys {
        if let Some((_, sketch)) = transaction.as_reader(|view| find(view, &key))? {
            is_dense |= sketch.is_dense();
            sketch.merge_into(&mut all)?;
        }
    }
    let (before, mut sketch) = match find(transaction, to)? {
        Some((entry, sketch)) => (Some(entry), sketch),
        None => (None, Sketch::empty()),
    };
    if is_dense {
        sketch.make_dense()?;
    }
    for (index, &value) in all.iter().enumerate().filter(|(_, value)| **value > 0) {
        sketch.raise(index, value, sparse_len_max)?;
    }
    sketch.forget_count();
    store(transaction, to, before.as_ref(), &sketch)
}

/// Has the sketch at `key` hold its registers one by one. The sketch, and whether it did not before; none without a key.
pub fn make_dense(transaction: &mut Transaction, key: &Key) -> Result<Option<(Sketch, bool)>, Refused> {
    let Some((entry, mut sketch)) = find(transaction, key)? else { return Ok(None) };
    let changed = sketch.make_dense()?;
    if changed {
        store(transaction, key, Some(&entry), &sketch)?;
    }
    Ok(Some((sketch, changed)))
}

/// Adds elements to a sparse and to a dense sketch: both must hold the same registers, and estimate as well as they should.
///
/// # Errors
/// In words, what is wrong.
pub fn self_test() -> Result<(), String> {
    const ELEMENTS: u32 = 20_000;
    /// Sparse ones are walked over for each element, and few that are in use have more.
    const SPARSE_ELEMENTS: u32 = 2_048;
    // Six times 1.04 / sqrt(16384), the standard error.
    const ERROR_MAX: f64 = 6.0 * 0.008_125;
    let failed = |refused: Refused| format!("TESTFAILED {refused:?}");
    let (mut sparse, mut dense) = (Sketch::empty(), Sketch::empty());
    dense.make_dense().map_err(failed)?;
    for number in 1..=ELEMENTS {
        let element = number.to_le_bytes();
        dense.add(&element, 0).map_err(failed)?;
        let is_sparse = number <= SPARSE_ELEMENTS;
        if is_sparse {
            sparse.add(&element, usize::MAX).map_err(failed)?;
        }
        if !number.is_power_of_two() && number != ELEMENTS {
            continue;
        }
        if is_sparse && sparse.all_registers().map_err(failed)? != dense.all_registers().map_err(failed)? {
            return Err(format!("TESTFAILED the encodings differ after {number} elements"));
        }
        let estimate = dense.count().map_err(failed)?;
        if (estimate as f64 - f64::from(number)).abs() > (f64::from(number) * ERROR_MAX).max(1.5) {
            return Err(format!("TESTFAILED {number} elements are counted as {estimate}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::prelude::*;

    const SPARSE_MAX: usize = 3000;
    const FIVE_ELEMENTS: &[u8] = b"W<\x80I\xb5\x80C\xc1\x8cL\xee\x84K\xfb\x80BZ";

    #[test]
    fn registers_of_six_bits_do_not_touch_each_other() {
        let mut random = StdRng::seed_from_u64(1);
        let (mut bytes, mut model) = (vec![0; REGISTERS * REGISTER_BITS / 8], vec![0; REGISTERS]);
        for _ in 0..100_000 {
            let (index, value) = (random.random_range(0..REGISTERS), random.random_range(0..64));
            dense_set(&mut bytes, index, value);
            model[index] = value;
        }
        assert!(model.iter().enumerate().all(|(index, &value)| dense_get(&bytes, index) == value));
    }

    /// Answers of redis-server 7.0.15 to GET and PFCOUNT after PFADD.
    #[test]
    fn sketches_are_those_of_redis() {
        let mut sketch = Sketch::empty();
        for element in ["a", "b", "c", "hello world", "0123456789abcdef"] {
            assert!(sketch.add(element.as_bytes(), SPARSE_MAX).expect("whole"));
        }
        assert_eq!(sketch.bytes()[HEADER..], *FIVE_ELEMENTS);
        assert_eq!((sketch.cached_count(), sketch.count().expect("whole")), (None, 5));
    }

    #[test]
    fn it_finds_nothing_wrong_with_itself() {
        self_test().expect("nothing is wrong");
    }

    #[test]
    fn both_encodings_hold_the_same_registers_and_counts() {
        let (mut sparse, mut dense) = (Sketch::empty(), Sketch::empty());
        assert!(dense.make_dense().expect("whole"));
        for i in 0..3000_u32 {
            let element = i.to_string();
            let changed = sparse.add(element.as_bytes(), usize::MAX).expect("whole");
            assert_eq!(dense.add(element.as_bytes(), SPARSE_MAX).expect("whole"), changed);
            if i % 100 == 0 {
                assert_eq!(sparse.all_registers().expect("whole"), dense.all_registers().expect("whole"));
                assert_eq!(sparse.count().expect("whole"), dense.count().expect("whole"));
            }
        }
        assert!(!sparse.is_dense());
        let count = dense.count().expect("whole") as f64;
        assert!((count - 3000.0).abs() < 3000.0 * 0.05, "{count}");
        sparse.make_dense().expect("whole");
        assert_eq!(sparse.registers(), dense.registers());
    }

    #[test]
    fn a_sketch_that_grows_too_long_becomes_dense() {
        let mut sketch = Sketch::empty();
        for i in 0..100_000_u32 {
            let before = sketch.bytes().len();
            sketch.add(&i.to_le_bytes(), SPARSE_MAX).expect("whole");
            assert!(sketch.is_dense() || sketch.bytes().len() <= SPARSE_MAX.max(before));
        }
        assert!(sketch.is_dense() && sketch.bytes().len() == DENSE_LEN);
        let count = sketch.count().expect("whole") as f64;
        assert!((count - 100_000.0).abs() < 100_000.0 * 0.04, "{count}");
    }

    #[test]
    fn what_is_no_sketch_is_refused() {
        let refused = |bytes: &[u8]| !has_form(bytes);
        let whole = Sketch::empty();
        for at in 0..=ENCODING_AT {
            let mut bytes = whole.bytes().to_vec();
            bytes[at] ^= 1;
            assert!(refused(&bytes));
        }
        assert!(refused(&whole.bytes()[..HEADER - 1]) && refused(b""));
        for runs in [&[][..], &[0x7f], &[0x7f, 0xff, 0x00], &[0x3f; 20], &[0xff; 300]] {
            let bytes = [&whole.bytes()[..HEADER], runs].concat();
            assert!(has_form(&bytes));
            let mut sketch = Sketch(bytes);
            assert!(matches!(sketch.count(), Err(Refused::Corrupted)));
            for i in 0..50_u32 {
                let _ = sketch.add(&i.to_le_bytes(), SPARSE_MAX);
            }
            assert!(matches!(sketch.make_dense(), Err(Refused::Corrupted)));
        }
    }
}
