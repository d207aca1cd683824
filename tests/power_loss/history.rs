//! What clients did, in the order in which it was committed, and what the data is after any number of their transactions.

use crate::chance::Chance;
use crate::types::{self, Content, Sizes, Type, Word};
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

/// All keys.
pub type Data = BTreeMap<Place, Value>;

/// How large values get.
const SIZES: Sizes = Sizes { items: 60, value: 24_000 };

/// A part of a transaction. The names of keys begin with those of their types.
#[derive(Clone, Debug)]
pub enum Change {
    Set(Place, Vec<u8>, Option<i64>),
    /// A command of the table in [`types`], in this database.
    Do(u16, Vec<Word>),
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
        let mut chance = Chance::from(random.random());
        let of = types::any(&mut chance);
        let place = place(random, of, prefix);
        let deadline = random.random_bool(0.3).then(|| now + random.random_range(1..400));
        match random.random_range(0..100) {
            0..10 if of.name == "text" => Change::Set(place, chance.letters(20), deadline),
            0..60 => Change::Do(place.0, of.change(&place.1, &mut chance, SIZES)),
            60..75 => Change::Delete(place),
            75..88 => Change::Deadline(place, deadline),
            _ => Change::Rename(place, self::place(random, of, prefix)),
        }
    }

    /// The keys it names; none if it concerns every partition.
    pub fn places(&self) -> Vec<Place> {
        match self {
            Change::Set(place, ..) | Change::Delete(place) | Change::Deadline(place, _) => {
                vec![place.clone()]
            }
            Change::Do(database, words) => vec![(*database, words[1].clone())],
            Change::Rename(from, to) => vec![from.clone(), to.clone()],
            Change::Flush(_) | Change::Swap(..) | Change::Expire(..) => vec![],
        }
    }

    fn apply(&self, data: &mut Data, now: i64) {
        match self {
            Change::Set(place, text, deadline) => {
                let value = Value { content: Content::Text(text.clone()), deadline: *deadline };
                data.insert(place.clone(), value);
            }
            Change::Do(database, words) => {
                let place = (*database, words[1].clone());
                // For a command a key that is over is not there; it stays where it is unless it is made anew.
                let (before, over) = match data.remove(&place) {
                    Some(value) if value.is_over(now) => (None, Some(value)),
                    value => (value, None),
                };
                let deadline = before.as_ref().and_then(|value| value.deadline);
                let deadline = deadline.filter(|_| !types::ends_deadline(words));
                let made = types::after(before.map(|value| value.content), words);
                let value = made.map(|content| Value { content, deadline }).or(over);
                data.extend(value.map(|value| (place, value)));
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

fn place(random: &mut StdRng, of: &Type, prefix: &str) -> Place {
    let number = random.random_range(0..8_u8);
    // Now and then a name too long for the tree.
    let tail = if number == 0 { "x".repeat(600) } else { String::new() };
    (random.random_range(0..DATABASES), format!("{}{prefix}{number}{tail}", of.name).into_bytes())
}
