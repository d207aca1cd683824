//! What clients did, in the order in which it was committed, and what the data is after any number of their transactions.

use larder::base::crc16;
use larder::base::ids::PartitionId;
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::BTreeMap;

pub const PARTITIONS: u16 = 4;
pub const DATABASES: u16 = 3;

/// Where a value is: database and name.
pub type Place = (u16, Vec<u8>);

/// What a key holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    pub content: Content,
    pub deadline: Option<i64>,
}

#[derive(Clone, PartialEq)]
pub enum Content {
    Text(Vec<u8>),
    Fields(BTreeMap<Vec<u8>, Vec<u8>>),
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Content::Text(text) => write!(f, "{} bytes, first {:?}", text.len(), text.first()),
            Content::Fields(fields) => write!(f, "{} fields", fields.len()),
        }
    }
}

/// All keys.
pub type Data = BTreeMap<Place, Value>;

/// A part of a transaction. Keys whose names begin with `t` hold text, with `h` hashes.
#[derive(Clone, Debug)]
pub enum Change {
    Set(Place, Vec<u8>, Option<i64>),
    Append(Place, Vec<u8>),
    Overwrite(Place, usize, Vec<u8>),
    SetFields(Place, Vec<(Vec<u8>, Vec<u8>)>),
    DeleteFields(Place, Vec<Vec<u8>>),
    Delete(Place),
    Deadline(Place, Option<i64>),
    Rename(Place, Place),
    Flush(u16),
    Swap(u16, u16),
    /// Keys of a partition whose deadline is before this are removed.
    Expire(u16, i64),
}

/// A committed transaction and the journal position behind it.
#[derive(Clone, Debug)]
pub struct Committed {
    pub position: u64,
    pub changes: Vec<Change>,
    /// When: keys whose deadline is before this are not there for it, until they are removed.
    pub now: i64,
}

/// Committed transactions by position.
pub type History = Vec<Committed>;

/// What the data is after these.
pub fn data_after(history: &[Committed]) -> Data {
    let mut data = Data::new();
    for Committed { changes, now, .. } in history {
        changes.iter().for_each(|change| change.apply(&mut data, *now));
    }
    data
}

/// How many transactions stand before `position`.
pub fn count_to(history: &[Committed], position: u64) -> usize {
    history.partition_point(|committed| committed.position <= position)
}

impl Change {
    /// Any change; `prefix` keeps the keys of writers apart.
    pub fn random(random: &mut StdRng, prefix: &str, now: i64) -> Change {
        let kind = if random.random_bool(0.5) { "t" } else { "h" };
        let place = place(random, kind, prefix);
        let deadline = random.random_bool(0.3).then(|| now + random.random_range(1..400));
        match random.random_range(0..100) {
            0..30 if kind == "t" => Change::Set(place, text(random), deadline),
            30..40 if kind == "t" => Change::Append(place, text(random)),
            40..60 if kind == "t" => Change::Overwrite(place, random.random_range(0..40_000), text(random)),
            0..45 => {
                let count = if random.random_bool(0.2) { 30 } else { 3 };
                let fields = (0..count).map(|_| (field(random), text(random))).collect();
                Change::SetFields(at_hash(place), fields)
            }
            45..60 => Change::DeleteFields(at_hash(place), (0..10).map(|_| field(random)).collect()),
            60..75 => Change::Delete(place),
            75..88 => Change::Deadline(place, deadline),
            _ => {
                let to = self::place(random, if place.1[0] == b't' { "t" } else { "h" }, prefix);
                Change::Rename(place, to)
            }
        }
    }

    /// The keys it names; none if it concerns every partition.
    pub fn places(&self) -> Vec<&Place> {
        match self {
            Change::Set(place, ..)
            | Change::Append(place, _)
            | Change::Overwrite(place, ..)
            | Change::SetFields(place, _)
            | Change::DeleteFields(place, _)
            | Change::Delete(place)
            | Change::Deadline(place, _) => vec![place],
            Change::Rename(from, to) => vec![from, to],
            Change::Flush(_) | Change::Swap(..) | Change::Expire(..) => vec![],
        }
    }

    fn apply(&self, data: &mut Data, now: i64) {
        // Whatever writes to a key that is over makes it anew.
        if let Change::Append(place, _) | Change::Overwrite(place, ..) | Change::SetFields(place, _) = self {
            take_if_over(data, place, now);
        }
        match self {
            Change::Set(place, text, deadline) => {
                let value = Value { content: Content::Text(text.clone()), deadline: *deadline };
                data.insert(place.clone(), value);
            }
            Change::Append(place, more) => text_at(data, place).extend_from_slice(more),
            Change::Overwrite(place, offset, bytes) => {
                let text = text_at(data, place);
                text.resize(text.len().max(offset + bytes.len()), 0);
                text[*offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            Change::SetFields(place, fields) => fields_at(data, place).extend(fields.iter().cloned()),
            Change::DeleteFields(place, names) => {
                let Some(Value { content: Content::Fields(fields), .. }) = data.get_mut(place) else {
                    return;
                };
                names.iter().for_each(|name| drop(fields.remove(name)));
                if fields.is_empty() {
                    data.remove(place);
                }
            }
            Change::Delete(place) => drop(data.remove(place)),
            Change::Deadline(place, deadline) => {
                if let Some(value) = data.get_mut(place).filter(|value| !value.is_over(now)) {
                    value.deadline = *deadline;
                }
            }
            Change::Rename(from, to) => {
                if data.get(from).is_some_and(|value| !value.is_over(now)) {
                    let value = data.remove(from).expect("it was there just now");
                    data.insert(to.clone(), value);
                }
            }
            Change::Flush(database) => data.retain(|(of, _), _| of != database),
            Change::Swap(a, b) => {
                let all = std::mem::take(data);
                let other = |of| {
                    if of == *a {
                        *b
                    } else if of == *b {
                        *a
                    } else {
                        of
                    }
                };
                *data = all.into_iter().map(|((of, name), value)| ((other(of), name), value)).collect();
            }
            Change::Expire(partition, now) => data.retain(|(_, name), value| {
                PartitionId::of(crc16::slot(name), PARTITIONS).0 != *partition || !value.is_over(*now)
            }),
        }
    }
}

impl Value {
    fn is_over(&self, now: i64) -> bool {
        self.deadline.is_some_and(|deadline| deadline < now)
    }
}

fn take_if_over(data: &mut Data, place: &Place, now: i64) {
    if data.get(place).is_some_and(|value| value.is_over(now)) {
        data.remove(place);
    }
}

fn at_hash((database, mut name): Place) -> Place {
    name[0] = b'h';
    (database, name)
}

fn text_at<'a>(data: &'a mut Data, place: &Place) -> &'a mut Vec<u8> {
    let empty = || Value { content: Content::Text(Vec::new()), deadline: None };
    match &mut data.entry(place.clone()).or_insert_with(empty).content {
        Content::Text(text) => text,
        Content::Fields(_) => panic!("keys of texts hold texts"),
    }
}

fn fields_at<'a>(data: &'a mut Data, place: &Place) -> &'a mut BTreeMap<Vec<u8>, Vec<u8>> {
    let empty = || Value { content: Content::Fields(BTreeMap::new()), deadline: None };
    match &mut data.entry(place.clone()).or_insert_with(empty).content {
        Content::Fields(fields) => fields,
        Content::Text(_) => panic!("keys of hashes hold hashes"),
    }
}

fn place(random: &mut StdRng, kind: &str, prefix: &str) -> Place {
    let number = random.random_range(0..16_u8);
    // Now and then a name too long for the tree.
    let tail = if number == 0 { "x".repeat(600) } else { String::new() };
    (random.random_range(0..DATABASES), format!("{kind}{prefix}{number}{tail}").into_bytes())
}

fn field(random: &mut StdRng) -> Vec<u8> {
    format!("field{}", random.random_range(0..60)).into_bytes()
}

fn text(random: &mut StdRng) -> Vec<u8> {
    let len = match random.random_range(0..40) {
        0 => random.random_range(16_000..24_000),
        1..4 => random.random_range(500..5_000),
        _ => random.random_range(1..40),
    };
    vec![random.random_range(b'a'..=b'z'); len]
}
