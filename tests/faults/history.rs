//! Writers that keep a history: each change was acknowledged, refused, or left without a reply.
//!
//! Changes of a cell (a key, or a field of a hash) are made by one writer, in order. So a cell must hold what the last
//! acknowledged change left, or what a later one left whose reply did not come; what was refused must not have happened.

use crate::support::{Chance, Client, Server, Value};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const KEYS: u64 = 300;
const FIELDS: u64 = 400;
const BATCH_MAX: u64 = 8;

/// What a cell holds: the number of the change that wrote it.
type State = Option<u64>;

/// A key, or a field of a hash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cell(String, Option<String>);

/// How large the values are.
#[derive(Clone, Copy)]
pub enum Load {
    /// 10 to 400 bytes.
    Small,
    /// 1 to 40 KB.
    Large,
}

/// A connection's changes and what became of them.
pub struct Writer {
    number: u64,
    load: Load,
    chance: Chance,
    last: u64,
    cells: BTreeMap<Cell, Vec<State>>,
    /// Changes that were acknowledged.
    pub acknowledged: u64,
    /// Changes that were left without a reply.
    pub unknown: u64,
    /// Refusals by their text, and how many there were.
    pub refused: BTreeMap<String, u64>,
    /// The longest time between a batch and its replies.
    pub slowest: Duration,
}

/// What a change makes of its cell.
#[derive(Clone)]
struct Change {
    cell: Cell,
    state: State,
}

impl Writer {
    /// `count` writers.
    pub fn some(count: u64, load: Load, chance: &mut Chance) -> Vec<Writer> {
        let writer = |number| Writer {
            number,
            load,
            chance: chance.branch(),
            last: 0,
            cells: BTreeMap::new(),
            acknowledged: 0,
            unknown: 0,
            refused: BTreeMap::new(),
            slowest: Duration::ZERO,
        };
        (0..count).map(writer).collect()
    }

    /// Writes until told to stop, on a new connection when one breaks.
    pub fn run(&mut self, port: u16, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            if let Ok(mut client) = Client::try_connect(port) {
                while !stop.load(Ordering::Relaxed) && self.batch(&mut client) {}
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Some changes in one go. False if the connection broke.
    fn batch(&mut self, client: &mut Client) -> bool {
        let count = 1 + self.chance.below(BATCH_MAX);
        let changes: Vec<Change> = (0..count).map(|_| self.change()).collect();
        let begun = Instant::now();
        let sent = client.send(&changes.iter().flat_map(|change| self.bytes(change)).collect::<Vec<u8>>());
        for (at, change) in changes.iter().enumerate() {
            let reply = if sent.is_ok() { client.read().ok() } else { None };
            match reply {
                Some(Value::Error(text)) => *self.refused.entry(text).or_default() += 1,
                Some(_) => {
                    self.acknowledged += 1;
                    self.cells.insert(change.cell.clone(), vec![change.state]);
                }
                None => {
                    for change in &changes[at..] {
                        self.unknown += 1;
                        self.cells
                            .entry(change.cell.clone())
                            .or_insert_with(|| vec![None])
                            .push(change.state);
                    }
                    return false;
                }
            }
        }
        self.slowest = self.slowest.max(begun.elapsed());
        true
    }

    fn change(&mut self) -> Change {
        self.last += 1;
        let key = |kind, chance: &mut Chance| format!("{kind}:{}:{}", self.number, chance.below(KEYS));
        let chance = &mut self.chance;
        let hash = format!("hash:{}", self.number);
        let (cell, stays) = match chance.below(10) {
            0..=5 => (Cell(key("text", chance), None), true),
            6 => (Cell(key("text", chance), None), false),
            7 | 8 => (Cell(hash, Some(format!("field{}", chance.below(FIELDS)))), true),
            _ => (Cell(hash, Some(format!("field{}", chance.below(FIELDS)))), false),
        };
        Change { cell, state: stays.then_some(self.last) }
    }

    fn bytes(&self, change: &Change) -> Vec<u8> {
        let Cell(key, field) = &change.cell;
        let words: Vec<Vec<u8>> = match (field, change.state) {
            (None, Some(number)) => vec![b"SET".to_vec(), key.as_bytes().to_vec(), self.content(number)],
            (None, None) => vec![b"DEL".to_vec(), key.as_bytes().to_vec()],
            (Some(field), Some(number)) => {
                vec![
                    b"HSET".to_vec(),
                    key.as_bytes().to_vec(),
                    field.as_bytes().to_vec(),
                    self.content(number),
                ]
            }
            (Some(field), None) => vec![b"HDEL".to_vec(), key.as_bytes().to_vec(), field.as_bytes().to_vec()],
        };
        crate::support::request(&words)
    }

    /// What change `number` writes: never the same as another.
    fn content(&self, number: u64) -> Vec<u8> {
        let length = match self.load {
            Load::Small => 10 + number * 7919 % 390,
            Load::Large => 1_000 + number * 7919 % 39_000,
        };
        let mut content = format!("{}.{number}.", self.number).into_bytes();
        content.resize(content.len() + length as usize, b'a' + (number % 26) as u8);
        content
    }

    /// Checks every cell against the history, and takes over what is there.
    pub fn verify(&mut self, client: &mut Client) {
        for (cell, states) in std::mem::take(&mut self.cells) {
            let found = match &cell.1 {
                None => client.ask(&["GET", &cell.0]),
                Some(field) => client.ask(&["HGET", &cell.0, field]),
            };
            let is_it = |state: &&State| match (state, &found) {
                (None, Value::Null(_)) => true,
                (Some(number), Value::Bulk(bytes)) => *bytes == self.content(*number),
                _ => false,
            };
            let state = *states.iter().find(is_it).unwrap_or_else(|| {
                panic!("{cell:?} holds {found:.60}, the history allows changes {states:?}")
            });
            self.cells.insert(cell, vec![state]);
        }
    }
}

/// Lets `writers` write to `server` while `body` runs.
pub fn under_load<T>(writers: &mut [Writer], server: &mut Server, body: impl FnOnce(&mut Server) -> T) -> T {
    let (stop, port) = (AtomicBool::new(false), server.port);
    std::thread::scope(|scope| {
        for writer in writers {
            let stop = &stop;
            scope.spawn(move || writer.run(port, stop));
        }
        // A failed check must end the writers, or the scope would wait for them for ever.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(server)));
        stop.store(true, Ordering::Relaxed);
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Checks what all of them have written.
pub fn verify(writers: &mut [Writer], server: &Server) {
    let mut client = server.connect();
    writers.iter_mut().for_each(|writer| writer.verify(&mut client));
}

/// Acknowledged, refused and unknown changes of all of them.
pub fn totals(writers: &[Writer]) -> (u64, u64, u64) {
    let sum = |count: fn(&Writer) -> u64| writers.iter().map(count).sum();
    (
        sum(|writer| writer.acknowledged),
        sum(|writer| writer.refused.values().sum()),
        sum(|writer| writer.unknown),
    )
}

/// Fails unless every refusal begins with one of these.
pub fn assert_refusals(writers: &[Writer], beginnings: &[&str]) {
    for text in writers.iter().flat_map(|writer| writer.refused.keys()) {
        assert!(beginnings.iter().any(|beginning| text.starts_with(beginning)), "refused with: {text}");
    }
}
