//! Hashes: fields and their values at a key.
//!
//! A *small* hash, within the limits of Redis's listpack, is the payload of its key row, fields in the order they came:
//!
//! ```text
//! number of fields (varint) · for each: length (varint) · field · length (varint) · value
//! ```
//!
//! A *big* one has a row in the items tree for each field, and the key row's payload is their number (u64):
//!
//! ```text
//! suffix: hash32(field) (4, big-endian) · field
//! value:  flags (1; bit 0: a deadline follows, kept for later) · [expire at, ms (8)] · value
//! ```
//!
//! Invariants:
//! - a hash has at least one field; the key goes with the last one;
//! - a big hash stays big, as in Redis;
//! - the count and `Items::bytes` of a big hash are exact.

use super::error::Error;
use super::varint;
use crate::base::blob::Slice;
use crate::base::long_double::LongDouble;
use crate::base::number;
use crate::store::{Entry, Interrupt, Items, Key, Kind, NewValue, Transaction, View, hash32, items_after};
use rand::seq::IndexedRandom;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::ops::ControlFlow;

/// Above this a hash is big, whatever the limits say: a row is rewritten as a whole.
const INLINE_MAX: usize = 128 * 1024;

const LISTPACK: u8 = 0;
const HASHTABLE: u8 = 1;

/// How large a small hash may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Fields.
    pub entries: usize,
    /// Bytes of a field or a value.
    pub value: usize,
}

/// What OBJECT ENCODING says of a hash.
pub fn encoding_name(entry: &Entry) -> &'static str {
    if entry.encoding() == LISTPACK { "listpack" } else { "hashtable" }
}

/// A field and its value.
pub type Pair<'a> = (&'a [u8], &'a [u8]);
type Pairs<'a> = SmallVec<[Pair<'a>; 32]>;

/// The fields of a small hash, in order.
#[derive(Clone)]
pub struct Fields<'a> {
    payload: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    /// Of a small hash's payload.
    pub fn new(payload: &'a [u8]) -> Fields<'a> {
        let mut fields = Fields { payload, at: 0 };
        let _count = fields.varint();
        fields
    }

    fn varint(&mut self) -> Option<usize> {
        Some(varint::take(self.payload, &mut self.at)? as usize)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.varint()?;
        let bytes = self.payload.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(bytes)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Pair<'a>;

    #[inline]
    fn next(&mut self) -> Option<Pair<'a>> {
        if self.at >= self.payload.len() {
            return None;
        }
        Some((self.bytes()?, self.bytes()?))
    }
}

fn small_count(payload: &[u8]) -> usize {
    Fields { payload, at: 0 }.varint().unwrap_or(0)
}

fn put_small(
    transaction: &mut Transaction,
    key: &Key,
    pairs: &[Pair],
    expire_at: Option<i64>,
) -> Result<(), Interrupt> {
    let mut payload = SmallVec::new();
    varint::put(&mut payload, pairs.len() as u64);
    for (field, value) in pairs {
        varint::put(&mut payload, field.len() as u64);
        payload.extend_from_slice(field);
        varint::put(&mut payload, value.len() as u64);
        payload.extend_from_slice(value);
    }
    let meta = NewValue { kind: Kind::Hash, encoding: LISTPACK, expire_at, items: None };
    transaction.put(key, meta, &[&payload])
}

/// The key row of a big hash, decoded.
#[derive(Clone, Copy)]
struct Big {
    items: Items,
    count: u64,
    expire_at: Option<i64>,
}

impl Big {
    fn of(entry: &Entry) -> Option<Big> {
        let count = entry.payload().try_into().map_or(0, u64::from_be_bytes);
        Some(Big { items: entry.items()?, count, expire_at: entry.expire_at() })
    }

    fn put(self, transaction: &mut Transaction, key: &Key) -> Result<(), Interrupt> {
        let (expire_at, items) = (self.expire_at, Some(self.items));
        let meta = NewValue { kind: Kind::Hash, encoding: HASHTABLE, expire_at, items };
        transaction.put(key, meta, &[&self.count.to_be_bytes()])
    }
}

fn suffix(field: &[u8]) -> SmallVec<[u8; 64]> {
    let mut suffix = SmallVec::new();
    suffix.extend_from_slice(&hash32(field).to_be_bytes());
    suffix.extend_from_slice(field);
    suffix
}

/// Flags of a field without a deadline.
const PLAIN: &[u8] = &[0];

/// Where the value begins in a field's row.
fn value_at(row: &[u8]) -> usize {
    let len = if row.first().is_some_and(|flags| flags & 1 != 0) { 9 } else { 1 };
    len.min(row.len())
}

/// Field and value in the row of a big hash with this suffix.
pub fn pair_of_row<'a>(suffix: &'a [u8], row: &'a [u8]) -> Pair<'a> {
    (suffix.get(4..).unwrap_or_default(), &row[value_at(row)..])
}

/// The hash at `key`, if there is one.
#[inline]
pub fn find(view: &mut View, key: &Key) -> Result<Option<Entry>, Error> {
    match view.get(key)? {
        Some(entry) if entry.kind() != Kind::Hash => Err(Error::WrongType),
        entry => Ok(entry),
    }
}

/// Number of fields.
pub fn len(entry: &Entry) -> u64 {
    Big::of(entry).map_or_else(|| small_count(entry.payload()) as u64, |big| big.count)
}

/// The value of `field`.
pub fn get(view: &mut View, key: &Key, entry: &Entry, field: &[u8]) -> Result<Option<Slice>, Interrupt> {
    if let Some(items) = entry.items() {
        let row = view.item(key, items.uid, &suffix(field))?;
        return Ok(row.map(|row| row.slice(value_at(&row), row.len())));
    }
    let mut fields = Fields::new(entry.payload());
    while let Some((name, value)) = fields.next() {
        if name == field {
            return Ok(Some(entry.slice(fields.at - value.len(), fields.at)));
        }
    }
    Ok(None)
}

/// Visits all fields and values: in the order they came if the hash is small.
pub fn visit(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    visit: &mut dyn FnMut(&[u8], &[u8]),
) -> Result<(), Interrupt> {
    let Some(items) = entry.items() else {
        Fields::new(entry.payload()).for_each(|(field, value)| visit(field, value));
        return Ok(());
    };
    view.visit_items(key, items.uid, &[], &mut |name, row| {
        let (field, value) = pair_of_row(name, row);
        visit(field, value);
        ControlFlow::Continue(())
    })
}

/// Visits about `count` fields from `cursor` on (0: from the beginning) and returns the cursor to go on with, 0 at the end.
///
/// The cursor is the hash position that comes next. Fields of one position are visited in the same call, so that every field
/// that exists all the time is visited once. A small hash is visited as a whole.
pub fn scan(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    cursor: u64,
    count: usize,
    visit: &mut dyn FnMut(&[u8], &[u8]),
) -> Result<u64, Interrupt> {
    let Some(items) = entry.items() else {
        self::visit(view, key, entry, visit)?;
        return Ok(0);
    };
    let Ok(from) = u32::try_from(cursor) else { return Ok(0) };
    let (mut seen, mut last, mut next) = (0, [0; 4], 0);
    view.visit_items(key, items.uid, &from.to_be_bytes(), &mut |name, row| {
        let Some((position, field)) = name.split_first_chunk::<4>() else { return ControlFlow::Continue(()) };
        if seen >= count && *position != last {
            next = u64::from(u32::from_be_bytes(*position));
            return ControlFlow::Break(());
        }
        visit(field, &row[value_at(row)..]);
        seen += 1;
        last = *position;
        ControlFlow::Continue(())
    })?;
    Ok(next)
}

/// Sets fields, the key if need be. Returns how many are new.
pub fn set<'a>(
    transaction: &mut Transaction,
    key: &Key,
    new: impl Iterator<Item = Pair<'a>> + Clone,
    limits: Limits,
) -> Result<usize, Error> {
    let before = find(transaction, key)?;
    if let Some(big) = before.as_ref().and_then(Big::of) {
        return Ok(set_in_big(transaction, key, big, new)?);
    }
    let expire_at = before.as_ref().and_then(Entry::expire_at);
    let old = before.as_ref().map_or(&[][..], Entry::payload);
    let mut pairs: Pairs = Fields::new(old).collect();
    let old_count = pairs.len();
    if merge_small(&mut pairs, new.clone(), limits) {
        put_small(transaction, key, &pairs, expire_at)?;
        return Ok(pairs.len() - old_count);
    }
    #[expect(clippy::map_identity, reason = "the pairs' lifetimes become those of the old ones")]
    let new = new.map(|(field, value)| (field, value));
    let count = make_big(transaction, key, Fields::new(old).chain(new), expire_at)?;
    Ok(count.saturating_sub(old_count))
}

/// Sets fields in a list of them; `false` if the result is too large for a small hash.
fn merge_small<'b, 'a: 'b>(
    pairs: &mut Pairs<'b>,
    new: impl Iterator<Item = Pair<'a>>,
    limits: Limits,
) -> bool {
    let mut bytes: usize = pairs.iter().map(|(field, value)| field.len() + value.len()).sum();
    for (field, value) in new {
        if field.len() > limits.value || value.len() > limits.value {
            return false;
        }
        match pairs.iter_mut().find(|(name, _)| *name == field) {
            Some((_, old)) => *old = value,
            None => pairs.push((field, value)),
        }
        bytes += field.len() + value.len();
        if pairs.len() > limits.entries || bytes > INLINE_MAX {
            return false;
        }
    }
    true
}

/// Makes a big hash of `pairs`, of which the last of each field counts. Returns the number of fields.
fn make_big<'a>(
    transaction: &mut Transaction,
    key: &Key,
    pairs: impl Iterator<Item = Pair<'a>>,
    expire_at: Option<i64>,
) -> Result<usize, Interrupt> {
    // In the order in which they came: the same commands journal the same bytes.
    let (mut last, mut places) = (Pairs::new(), HashMap::new());
    for (field, value) in pairs {
        let place = *places.entry(field).or_insert(last.len());
        match last.get_mut(place) {
            Some(known) => *known = (field, value),
            None => last.push((field, value)),
        }
    }
    let uid = transaction.new_uid(key);
    let mut bytes = 0;
    for (field, value) in &last {
        bytes += transaction.put_new_item(key, uid, &suffix(field), &[PLAIN, value]) as u64;
    }
    Big { items: Items { uid, bytes }, count: last.len() as u64, expire_at }.put(transaction, key)?;
    Ok(last.len())
}

fn set_in_big<'a>(
    transaction: &mut Transaction,
    key: &Key,
    big: Big,
    new: impl Iterator<Item = Pair<'a>>,
) -> Result<usize, Interrupt> {
    let (mut added, mut grown) = (0, 0);
    for (field, value) in new {
        let change = transaction.put_item(key, big.items.uid, &suffix(field), &[PLAIN, value])?;
        added += u64::from(!change.existed);
        grown += change.grown;
    }
    put_changed(transaction, key, big, added as i64, grown)?;
    Ok(added as usize)
}

/// Puts the key row of a big hash if it changed; else only tells the watchers.
fn put_changed(
    transaction: &mut Transaction,
    key: &Key,
    big: Big,
    more: i64,
    grown: i64,
) -> Result<(), Interrupt> {
    if more == 0 && grown == 0 {
        transaction.touch(key);
        return Ok(());
    }
    let count = big.count.saturating_add_signed(more);
    if count == 0 {
        return transaction.remove(key);
    }
    Big { items: items_after(big.items, grown), count, ..big }.put(transaction, key)
}

/// Makes `key` a hash of these pairs, of which the last of each field counts, whatever it held before. Without pairs the key
/// is removed.
pub fn store_all<'a>(
    transaction: &mut Transaction,
    key: &Key,
    pairs: impl Iterator<Item = Pair<'a>> + Clone,
    expire_at: Option<i64>,
    limits: Limits,
) -> Result<(), Interrupt> {
    let mut small = Pairs::new();
    if !merge_small(&mut small, pairs.clone(), limits) {
        return make_big(transaction, key, pairs, expire_at).map(drop);
    }
    if small.is_empty() {
        return transaction.remove(key);
    }
    put_small(transaction, key, &small, expire_at)
}

/// Removes fields, and the key with the last one. Returns how many there were.
pub fn delete<'a>(
    transaction: &mut Transaction,
    key: &Key,
    fields: impl Iterator<Item = &'a [u8]>,
) -> Result<usize, Error> {
    let Some(entry) = find(transaction, key)? else { return Ok(0) };
    if let Some(big) = Big::of(&entry) {
        let (mut removed, mut grown) = (0, 0);
        for field in fields {
            let change = transaction.remove_item(key, big.items.uid, &suffix(field))?;
            removed += i64::from(change.existed);
            grown += change.grown;
        }
        if removed > 0 {
            put_changed(transaction, key, big, -removed, grown)?;
        }
        return Ok(removed as usize);
    }
    let mut pairs: Pairs = Fields::new(entry.payload()).collect();
    let count = pairs.len();
    for field in fields {
        pairs.retain(|(name, _)| *name != field);
    }
    let removed = count - pairs.len();
    match pairs.len() {
        0 => transaction.remove(key)?,
        _ if removed == 0 => (),
        _ => put_small(transaction, key, &pairs, entry.expire_at())?,
    }
    Ok(removed)
}

/// Adds `delta` to the integer in `field`. Returns the sum.
pub fn add(
    transaction: &mut Transaction,
    key: &Key,
    field: &[u8],
    delta: i64,
    limits: Limits,
) -> Result<i64, Error> {
    let old = match find(transaction, key)? {
        Some(entry) => get(transaction, key, &entry, field)?,
        None => None,
    };
    let old = old.map_or(Some(0), |text| number::parse_i64(&text)).ok_or(Error::NotAnInteger)?;
    let sum = old.checked_add(delta).ok_or(Error::Overflow)?;
    let mut buffer = itoa::Buffer::new();
    set(transaction, key, std::iter::once((field, buffer.format(sum).as_bytes())), limits)?;
    Ok(sum)
}

/// Adds `delta` to the number in `field`. Returns the sum's text.
pub fn add_decimal(
    transaction: &mut Transaction,
    key: &Key,
    field: &[u8],
    delta: LongDouble,
    limits: Limits,
) -> Result<String, Error> {
    let old = match find(transaction, key)? {
        Some(entry) => get(transaction, key, &entry, field)?,
        None => None,
    };
    let old = LongDouble::parse(old.as_deref().unwrap_or(b"0")).ok_or(Error::NotAFloat)?;
    let sum = old.add(delta).filter(|sum| !sum.is_infinite()).ok_or(Error::NanOrInfinity)?;
    let text = sum.format();
    set(transaction, key, std::iter::once((field, text.as_bytes())), limits)?;
    Ok(text)
}

/// Calls `take` with `count` fields at random, any of them any number of times.
///
/// In a big hash a random position is sought and the field that follows is taken: one behind a wide gap comes a little more
/// often, as in any store that is ordered by hash. With few fields the gaps differ much, with many draws it shows: there all
/// fields are looked at, and each is as likely as the next.
pub fn random_repeated(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    count: usize,
    take: &mut dyn FnMut(&[u8], &[u8]),
) -> Result<(), Interrupt> {
    let Some(items) = entry.items() else {
        let pairs: Pairs = Fields::new(entry.payload()).collect();
        draw(&pairs, count, &mut |&(field, value)| take(field, value));
        return Ok(());
    };
    if !is_sought(len(entry), count) {
        let mut pairs: Vec<(Box<[u8]>, Box<[u8]>)> = Vec::new();
        visit(view, key, entry, &mut |field, value| pairs.push((field.into(), value.into())))?;
        draw(&pairs, count, &mut |(field, value)| take(field, value));
        return Ok(());
    }
    for _ in 0..count {
        one_at_random(view, key, items, take)?;
    }
    Ok(())
}

/// Calls `take` with `count` of `all` at random, if there are any.
fn draw<T>(all: &[T], count: usize, take: &mut dyn FnMut(&T)) {
    for _ in 0..count {
        all.choose(&mut rand::rng()).into_iter().for_each(&mut *take);
    }
}

/// Whether `count` of `len` fields are better found by seeking each than by looking at all.
fn is_sought(len: u64, count: usize) -> bool {
    len > 128 && (count as u64) < len / 3
}

fn one_at_random(
    view: &mut View,
    key: &Key,
    items: Items,
    take: &mut dyn FnMut(&[u8], &[u8]),
) -> Result<(), Interrupt> {
    let mut found = false;
    for from in [&rand::random::<[u8; 4]>()[..], &[]] {
        if found {
            break;
        }
        view.visit_items(key, items.uid, from, &mut |name, row| {
            take(name.get(4..).unwrap_or_default(), &row[value_at(row)..]);
            found = true;
            ControlFlow::Break(())
        })?;
    }
    Ok(())
}

/// Calls `take` with `count` different fields at random, or with all if they are fewer.
pub fn random_distinct(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    count: usize,
    take: &mut dyn FnMut(&[u8], &[u8]),
) -> Result<(), Interrupt> {
    let len = len(entry);
    if count as u64 >= len {
        return visit(view, key, entry, take);
    }
    if let Some(items) = entry.items().filter(|_| is_sought(len, count))
        && let Some(found) = sought(view, key, items, count)?
    {
        found.iter().for_each(|(field, value)| take(field, value));
        return Ok(());
    }
    // Each field is taken with the chance that is left for it: one pass, each choice equally likely.
    let (mut wanted, mut left) = (count as u64, len);
    visit(view, key, entry, &mut |field, value| {
        if rand::random_range(0..left.max(1)) < wanted {
            take(field, value);
            wanted -= 1;
        }
        left = left.saturating_sub(1);
    })
}

/// Seeking finds nothing new so often only if the fields are not spread evenly.
const MISSES_MAX: usize = 64;

/// Different fields by seeking random positions; `None` if one place is hit again and again. Whoever chooses the names can put
/// all fields close to each other.
fn sought(
    view: &mut View,
    key: &Key,
    items: Items,
    count: usize,
) -> Result<Option<HashMap<Vec<u8>, Vec<u8>>>, Interrupt> {
    let (mut found, mut misses) = (HashMap::new(), 0);
    while found.len() < count {
        let before = found.len();
        one_at_random(view, key, items, &mut |field, value| {
            found.entry(field.to_vec()).or_insert_with(|| value.to_vec());
        })?;
        misses = if found.len() > before { 0 } else { misses + 1 };
        if misses > MISSES_MAX {
            return Ok(None);
        }
    }
    Ok(Some(found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{PartitionSet, Store};
    use rand::prelude::*;
    use std::collections::{BTreeMap, HashSet};

    const LIMITS: Limits = Limits { entries: 8, value: 16 };

    fn key() -> Key<'static> {
        Key::new(0, b"key")
    }

    type Model = BTreeMap<Vec<u8>, Vec<u8>>;

    fn check_against(view: &mut View, model: &Model) {
        let Some(entry) = find(view, &key()).expect("a hash") else {
            assert!(model.is_empty());
            return;
        };
        assert_eq!(len(&entry), model.len() as u64);
        let mut found = Model::new();
        visit(view, &key(), &entry, &mut |field, value| {
            assert!(found.insert(field.to_vec(), value.to_vec()).is_none());
        })
        .expect("in memory");
        assert_eq!(&found, model);
        for (field, value) in model {
            let got = get(view, &key(), &entry, field).expect("in memory");
            assert_eq!(got.as_deref(), Some(&value[..]));
        }
        assert!(get(view, &key(), &entry, b"absent").expect("in memory").is_none());
        let Some(items) = entry.items() else { return };
        let mut bytes = 0;
        view.visit_items(&key(), items.uid, &[], &mut |suffix, row| {
            bytes += (12 + suffix.len() + row.len()) as u64;
            ControlFlow::Continue(())
        })
        .expect("in memory");
        assert_eq!(items.bytes, bytes);
    }

    #[test]
    fn small_and_big_hashes_are_maps() {
        let mut random = StdRng::seed_from_u64(11);
        let store = Store::in_memory(4, 16);
        let mut model = Model::new();
        for round in 0..2000 {
            let range = if round / 200 % 2 == 0 { 6 } else { 40 };
            let mut transaction = store.transaction(&PartitionSet::All, 0);
            let mut field = || format!("f{}", random.random_range(0..range)).into_bytes();
            if round % 5 < 3 {
                let pairs = [(field(), field()), (field(), field())];
                let fresh = set(
                    &mut transaction,
                    &key(),
                    pairs.iter().map(|(field, value)| (&field[..], &value[..])),
                    LIMITS,
                );
                let before = model.len();
                model.extend(pairs.clone());
                assert_eq!(fresh.expect("a hash"), model.len() - before);
            } else {
                let fields = [field(), field(), field(), field()];
                let removed = delete(&mut transaction, &key(), fields.iter().map(|field| &field[..]));
                let there = fields.iter().filter(|field| model.remove(*field).is_some()).count();
                assert_eq!(removed.expect("a hash"), there);
            }
            check_against(&mut transaction, &model);
            transaction.commit();
            check_against(&mut store.view(&PartitionSet::All, 0), &model);
        }
    }

    fn numbered(count: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        (0..count).map(|i| (format!("field{i}").into_bytes(), i.to_string().into_bytes())).collect()
    }

    fn store_numbered(store: &Store, count: usize) {
        let mut transaction = store.transaction(&PartitionSet::All, 0);
        let pairs = numbered(count);
        let pairs = pairs.iter().map(|(field, value)| (&field[..], &value[..]));
        store_all(&mut transaction, &key(), pairs, Some(9), LIMITS).expect("in memory");
        transaction.commit();
    }

    #[test]
    fn a_scan_visits_each_field_once() {
        let store = Store::in_memory(4, 16);
        for count in [3, 500] {
            store_numbered(&store, count);
            let mut view = store.view(&PartitionSet::All, 0);
            let entry = find(&mut view, &key()).expect("a hash").expect("exists");
            assert_eq!(entry.expire_at(), Some(9));
            let (mut cursor, mut found, mut calls) = (0, Vec::new(), 0);
            loop {
                let visit = &mut |field: &[u8], _: &[u8]| found.push(field.to_vec());
                cursor = scan(&mut view, &key(), &entry, cursor, 10, visit).expect("in memory");
                calls += 1;
                if cursor == 0 {
                    break;
                }
            }
            assert!(calls >= count / 20 && calls <= count / 10 + 1);
            assert_eq!(found.len(), count);
            found.sort();
            found.dedup();
            assert_eq!(found.len(), count);
        }
    }

    #[test]
    fn fields_at_random_are_fields() {
        let store = Store::in_memory(4, 16);
        for (size, count) in [(5, 3), (5, 9), (500, 20), (500, 400), (500, 600)] {
            store_numbered(&store, size);
            let mut view = store.view(&PartitionSet::All, 0);
            let entry = find(&mut view, &key()).expect("a hash").expect("exists");
            let mut found = Vec::new();
            random_distinct(&mut view, &key(), &entry, count, &mut |field, _| found.push(field.to_vec()))
                .expect("in memory");
            assert_eq!(found.len(), count.min(size));
            found.sort();
            found.dedup();
            assert_eq!(found.len(), count.min(size));
            let mut drawn = 0;
            random_repeated(&mut view, &key(), &entry, count, &mut |_, _| drawn += 1).expect("in memory");
            assert_eq!(drawn, count);
        }
    }

    /// A big hash with these rows and this number of fields in its head, however many there are.
    fn store_rows(store: &Store, count: u64, rows: &[(Vec<u8>, &[u8])]) {
        let mut transaction = store.transaction(&PartitionSet::All, 0);
        let uid = transaction.new_uid(&key());
        let put = |(suffix, value): &(Vec<u8>, &[u8])| {
            transaction.put_new_item(&key(), uid, suffix, &[value]) as u64
        };
        let bytes = rows.iter().map(put).sum();
        let big = Big { items: Items { uid, bytes }, count, expire_at: None };
        big.put(&mut transaction, &key()).expect("in memory");
        transaction.commit();
    }

    #[test]
    fn fields_at_one_position_are_drawn_soon() {
        let store = Store::in_memory(4, 16);
        let rows: Vec<(Vec<u8>, &[u8])> =
            (0..300_u32).map(|i| ([&[0; 4], &i.to_be_bytes()[..]].concat(), &b"\0v"[..])).collect();
        store_rows(&store, 300, &rows);
        let mut view = store.view(&PartitionSet::All, 0);
        let entry = find(&mut view, &key()).expect("a hash").expect("exists");
        let mut found = HashSet::new();
        random_distinct(&mut view, &key(), &entry, 50, &mut |field, _| {
            assert!(found.insert(field.to_vec()));
        })
        .expect("in memory");
        assert_eq!(found.len(), 50);
    }

    #[test]
    fn a_number_of_fields_that_is_wrong_ends_no_draw() {
        let store = Store::in_memory(4, 16);
        store_rows(&store, 1 << 40, &[(vec![0, 0, 0, 1, b'f'], b"\0v"), (b"ab".to_vec(), b"")]);
        let mut view = store.view(&PartitionSet::All, 0);
        let entry = find(&mut view, &key()).expect("a hash").expect("exists");
        let mut found = 0;
        random_distinct(&mut view, &key(), &entry, 3, &mut |_, _| found += 1).expect("in memory");
        assert!(found <= 2);
    }

    #[test]
    fn nothing_is_drawn_from_a_hash_without_fields() {
        let store = Store::in_memory(4, 16);
        let mut transaction = store.transaction(&PartitionSet::All, 0);
        let head = NewValue { kind: Kind::Hash, encoding: LISTPACK, expire_at: None, items: None };
        transaction.put(&key(), head, &[&[3, 1]]).expect("in memory");
        let entry = find(&mut transaction, &key()).expect("a hash").expect("exists");
        for draw in [random_repeated, random_distinct] {
            draw(&mut transaction, &key(), &entry, 2, &mut |_, _| panic!("nothing")).expect("in memory");
        }
    }

    #[test]
    fn damaged_payloads_end_early() {
        for payload in [&[][..], &[255; 20], &[1, 5, b'a'], &[2, 1, b'a', 1, b'b', 200]] {
            assert!(Fields::new(payload).count() <= 1);
        }
    }
}
