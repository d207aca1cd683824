//! Clients that write down what they saw: plain ones, each connected to one node, which connect again to the same node when they must, and
//! such as look for the primary (`finder.rs`).

use crate::finder::{Finder, Way};
use crate::fleet::Fleet;
use crate::linearizable::{Answer, Call, History, Operation, Outcome};
use crate::support::{Chance, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longer than any wait a server may make a client wait: for a primary, then for replicas.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pause of a client that has no connection.
const CONNECT_GAP: Duration = Duration::from_millis(20);
/// The longest pause between two operations of a client.
const PAUSE_MS_MAX: u64 = 6;
/// A key is left alone after so many operations: new ones come, so that no history of a key grows without end.
const OPERATIONS_PER_KEY: u32 = 300;
const KEYS_OF_A_KIND: u64 = 3;

/// Refusals that say that nothing was done. Every other error leaves open what happened.
const CERTAIN: &[&str] = &[
    "NOREPLICAS",
    "READONLY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "LOADING",
    "OOM",
    "MISCONF",
    "TRYAGAIN",
    "MOVED",
];

/// An operation with all that the checks ask about it.
#[derive(Clone, Debug)]
pub struct Note {
    /// The key.
    pub key: String,
    /// What happened to it.
    pub call: Call,
    /// The node that the client was connected to.
    pub node: usize,
}

/// What all clients saw so far.
pub struct Record {
    /// Its keys are nobody else's.
    tag: u32,
    begun: Instant,
    notes: Mutex<Vec<Note>>,
    errors: Mutex<BTreeMap<String, u64>>,
    operations: AtomicU32,
    values: AtomicI64,
    ending: AtomicBool,
}

/// What the clients do.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    /// Registers, counters and sets that all share.
    Shared,
    /// Keys that are written once, by one client, and never again.
    Once,
}

impl Record {
    /// Nothing yet.
    pub fn new() -> Record {
        static RECORDS: AtomicU32 = AtomicU32::new(0);
        Record {
            tag: RECORDS.fetch_add(1, Ordering::Relaxed),
            begun: Instant::now(),
            notes: Mutex::default(),
            errors: Mutex::default(),
            operations: AtomicU32::new(0),
            values: AtomicI64::new(0),
            ending: AtomicBool::new(false),
        }
    }

    /// This moment.
    pub fn now(&self) -> u64 {
        self.begun.elapsed().as_nanos() as u64
    }

    /// All that was seen so far.
    pub fn notes(&self) -> Vec<Note> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Errors by their text, and how often each came.
    pub fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes that were called after this moment and acknowledged, by clients of these nodes.
    pub fn acknowledged_since(&self, moment: u64, nodes: &[usize]) -> Vec<Note> {
        let is_late = |note: &Note| {
            note.call.called >= moment
                && nodes.contains(&note.node)
                && is_write(&note.call)
                && returned(&note.call).is_some()
        };
        let mut found: Vec<Note> = self.notes().into_iter().filter(is_late).collect();
        found.sort_by_key(|note| returned(&note.call));
        found
    }

    /// Waits until a client of one of these nodes has written, and began to after this moment. When the first such write returned.
    pub fn await_write(&self, since: u64, nodes: &[usize]) -> u64 {
        self.await_write_of(since, nodes, |_| true)
    }

    /// The same, of a key that is wanted.
    pub fn await_write_of(&self, since: u64, nodes: &[usize], is_wanted: impl Fn(&str) -> bool) -> u64 {
        let mut found = None;
        crate::support::wait_until(&format!("a client of {nodes:?} writes"), crate::fleet::WITHIN, || {
            let notes = self.acknowledged_since(since, nodes);
            let first = notes.iter().find(|note| is_wanted(&note.key));
            found = first.and_then(|note| returned(&note.call));
            found.is_some()
        });
        found.expect("it was awaited")
    }

    /// The longest time in which nobody's write was acknowledged, between these moments, in milliseconds.
    pub fn longest_pause_ms(&self, from: u64, to: u64) -> u64 {
        let mut moments: Vec<u64> = self
            .acknowledged_since(0, &(0..100).collect::<Vec<_>>())
            .iter()
            .filter_map(|note| returned(&note.call))
            .collect();
        moments.retain(|at| (from..to).contains(at));
        moments.extend([from, to]);
        moments.sort_unstable();
        moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0) / 1_000_000
    }

    /// The history for the checker.
    pub fn history(&self) -> History {
        let mut history = History::default();
        self.notes().into_iter().for_each(|note| history.record(&note.key, note.call));
        history
    }

    fn note(&self, note: Note) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(note);
    }

    fn note_error(&self, text: &str) {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        *errors.entry(text.chars().take(100).collect()).or_default() += 1;
    }
}

/// When it was answered.
pub fn returned(call: &Call) -> Option<u64> {
    match call.outcome {
        Outcome::Answered(_, at) => Some(at),
        _ => None,
    }
}

fn is_write(call: &Call) -> bool {
    !matches!(call.operation, Operation::Get | Operation::Members)
}

/// Runs `story` while clients work, one for each of `nodes`; what they saw, and what the story returned.
pub fn run<T>(
    fleet: &mut Fleet,
    kind: Kind,
    nodes: &[usize],
    chance: Chance,
    story: impl FnOnce(&mut Fleet, &Record) -> T,
) -> (Record, T) {
    run_with(fleet, kind, nodes, &[], chance, story)
}

/// The same, with more clients that find their way so.
pub fn run_with<T>(
    fleet: &mut Fleet,
    kind: Kind,
    nodes: &[usize],
    more: &[Way],
    mut chance: Chance,
    story: impl FnOnce(&mut Fleet, &Record) -> T,
) -> (Record, T) {
    let record = Record::new();
    let ways = nodes.iter().map(|node| Way::Node(*node)).chain(more.iter().copied());
    let result = std::thread::scope(|scope| {
        let _ends = EndsWhenDropped(&record);
        for (number, way) in (1..).zip(ways) {
            let one = One {
                number,
                way,
                finder: Finder::new(fleet, way, PATIENCE),
                kind,
                chance: chance.branch(),
                record: &record,
            };
            scope.spawn(move || one.work());
        }
        story(fleet, &record)
    });
    (record, result)
}

/// So that clients end even if the story panics.
struct EndsWhenDropped<'a>(&'a Record);

impl Drop for EndsWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.ending.store(true, Ordering::Release);
    }
}

struct One<'a> {
    number: u32,
    way: Way,
    finder: Finder,
    kind: Kind,
    chance: Chance,
    record: &'a Record,
}

impl One<'_> {
    fn work(mut self) {
        while !self.record.ending.load(Ordering::Acquire) {
            let (key, operation) = self.choose();
            let called = self.record.now();
            let words = words(&key, &operation);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let (node, reply) = match self.finder.ask(&key, &words) {
                Ok(sent) => sent,
                Err(error) => {
                    self.note_error(&format!("connect: {error}"));
                    std::thread::sleep(CONNECT_GAP);
                    continue;
                }
            };
            let outcome = self.outcome(&operation, &reply);
            let call = Call { client: self.number, called, operation, outcome };
            self.record.note(Note { key, call, node });
            // The pace of the clients, not a wait for anything.
            std::thread::sleep(Duration::from_millis(self.chance.below(PAUSE_MS_MAX)));
        }
    }

    fn note_error(&self, text: &str) {
        self.record.note_error(&format!("{}{text}", self.way.prefix()));
    }

    fn choose(&mut self) -> (String, Operation) {
        let tag = self.record.tag;
        let value = self.record.values.fetch_add(1, Ordering::Relaxed) + 1;
        if self.kind == Kind::Once {
            return (format!("once:{tag}:{}:{value}", self.number), Operation::Set(value));
        }
        let round = self.record.operations.fetch_add(1, Ordering::Relaxed)
            / (OPERATIONS_PER_KEY * KEYS_OF_A_KIND as u32 * 3);
        let which = self.chance.below(KEYS_OF_A_KIND);
        match self.chance.below(30) {
            0..4 => (format!("register:{tag}:{round}:{which}"), Operation::Get),
            4..9 => (format!("register:{tag}:{round}:{which}"), Operation::Set(value)),
            9 => (format!("register:{tag}:{round}:{which}"), Operation::Delete),
            10..13 => (format!("counter:{tag}:{round}:{which}"), Operation::Get),
            13..20 => (format!("counter:{tag}:{round}:{which}"), Operation::Increment),
            20..22 => (format!("set:{tag}:{round}:{which}"), Operation::Members),
            _ => (format!("set:{tag}:{round}:{which}"), Operation::Add(value)),
        }
    }

    fn outcome(&self, operation: &Operation, reply: &std::io::Result<Value>) -> Outcome {
        let unknown = if matches!(operation, Operation::Get | Operation::Members) {
            Outcome::Failed
        } else {
            Outcome::Unknown
        };
        match reply {
            Err(error) => {
                self.note_error(&format!("connection: {}", error.kind()));
                unknown
            }
            Ok(Value::Error(text)) => {
                self.note_error(text);
                let is_certain = CERTAIN.iter().any(|word| text.split(' ').next() == Some(word));
                if is_certain { Outcome::Failed } else { unknown }
            }
            Ok(value) => Outcome::Answered(answer(operation, value), self.record.now()),
        }
    }
}

fn words(key: &str, operation: &Operation) -> Vec<String> {
    let (name, value, more) = match operation {
        Operation::Get => ("GET", None, None),
        Operation::Set(value) => ("SET", Some(value), None),
        Operation::Delete => ("DEL", None, None),
        Operation::Increment => ("INCR", None, None),
        Operation::Add(value) => ("HSET", Some(value), Some("x")),
        Operation::Members => ("HKEYS", None, None),
    };
    let value = value.map(ToString::to_string);
    [name.to_owned(), key.to_owned()].into_iter().chain(value).chain(more.map(str::to_owned)).collect()
}

fn answer(operation: &Operation, value: &Value) -> Answer {
    let number = |value: &Value| value.text().parse::<i64>().expect("a value that was set");
    match (operation, value) {
        (Operation::Get, Value::Null(_)) => Answer::Nothing,
        (Operation::Get, bulk) => Answer::Number(number(bulk)),
        (Operation::Members, list) => Answer::Members(list.items().iter().map(number).collect()),
        (Operation::Delete | Operation::Increment, integer) => Answer::Number(integer.integer()),
        (Operation::Set(_) | Operation::Add(_), _) => Answer::Done,
    }
}

/// Reads every key once more through this node, as part of the history; then no acknowledged write can hide.
pub fn read_all(fleet: &Fleet, record: &Record, through: usize) {
    let notes = record.notes();
    let kinds: BTreeMap<&str, bool> = notes
        .iter()
        .map(|note| {
            (note.key.as_str(), matches!(note.call.operation, Operation::Add(_) | Operation::Members))
        })
        .collect();
    let mut client = fleet.connect(through, PATIENCE).expect("the cluster is whole");
    for (key, is_set) in kinds {
        let operation = if is_set { Operation::Members } else { Operation::Get };
        let called = record.now();
        let value = client.try_ask(&words(key, &operation)).expect("the cluster is whole");
        assert!(!matches!(value, Value::Error(_)), "{key}: {value}");
        let outcome = Outcome::Answered(answer(&operation, &value), record.now());
        record.note(Note {
            key: key.to_owned(),
            call: Call { client: 0, called, operation, outcome },
            node: through,
        });
    }
}

/// Fails unless the history is linearizable.
pub fn check(record: &Record, what: &str) {
    let checked = record
        .history()
        .check()
        .unwrap_or_else(|violation| panic!("{what}: {violation}\nerrors: {:?}", record.errors()));
    eprintln!("{what}: {checked}; errors: {:?}", record.errors());
}

/// Keys that were written once, acknowledged, and are not there, each with its call.
pub fn missing(fleet: &Fleet, record: &Record, through: usize) -> Vec<Note> {
    let mut client = fleet.connect(through, PATIENCE).expect("the cluster is whole");
    let written: Vec<Note> =
        record.notes().into_iter().filter(|note| returned(&note.call).is_some()).collect();
    let mut missing = Vec::new();
    for some in written.chunks(200) {
        let words: Vec<&str> =
            std::iter::once("MGET").chain(some.iter().map(|note| note.key.as_str())).collect();
        let values = client.try_ask(&words).expect("the cluster is whole");
        let is_gone = |pair: &(&Note, &Value)| matches!(pair.1, Value::Null(_));
        missing.extend(some.iter().zip(values.items()).filter(is_gone).map(|(note, _)| note.clone()));
    }
    missing
}

/// Fails unless all that is missing stands in `lost/`, and was acknowledged before any successor began. Returns how many there are.
pub fn check_lost(fleet: &Fleet, record: &Record, through: usize, what: &str) -> usize {
    let missing = missing(fleet, record, through);
    let lost = fleet.lost();
    let told: BTreeSet<&str> = lost.split(|c: char| !c.is_ascii_alphanumeric() && c != ':').collect();
    let untold: Vec<&Note> = missing.iter().filter(|note| !told.contains(note.key.as_str())).collect();
    assert!(
        untold.is_empty(),
        "{what}: {} acknowledged writes are missing, {} of them in no lost/: {:?}",
        missing.len(),
        untold.len(),
        untold.iter().take(5).collect::<Vec<_>>()
    );
    let acknowledged = record.notes().iter().filter(|note| returned(&note.call).is_some()).count();
    eprintln!(
        "{what}: {acknowledged} acknowledged, {} missing and told; errors: {:?}",
        missing.len(),
        record.errors()
    );
    missing.len()
}
