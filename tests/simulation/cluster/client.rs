//! Clients: one command at a time on single keys of partitions that their node answers for, with the holds of the server's own
//! sessions. What they saw is kept.

use crate::cluster::linearizable::{Answer, Call, History, Operation, Outcome};
use crate::cluster::node::{Machine, Process};
use crate::cluster::scenario::Plant;
use crate::commands;
use crate::history::place;
use crate::types::Word;
use crate::witness::Event;
use larder::base::concern::WriteConcern;
use larder::base::ids::{PartitionId, Point};
use larder::replication::storage::Storage;
use larder::session::holds::{Holds, Standing};
use larder::store::{Key, PartitionSet, Transaction};
use rand::prelude::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Keys there are.
const KEYS: u32 = 10;
/// A number as a value of each type: how it is written where nothing is, and how it is read.
const REGISTERS: &[(&str, &[&str], &[&str])] = &[
    ("string", &["SET", KEY, NUMBER], &["GET", KEY]),
    ("hash", &["HSET", KEY, "field", NUMBER], &["HGET", KEY, "field"]),
    ("set", &["SADD", KEY, NUMBER], &["SMEMBERS", KEY]),
    ("list", &["RPUSH", KEY, NUMBER], &["LINDEX", KEY, "0"]),
    ("zset", &["ZADD", KEY, NUMBER, "member"], &["ZSCORE", KEY, "member"]),
];
const KEY: &str = "KEY";
const NUMBER: &str = "NUMBER";
/// How long a client waits for an acknowledgement.
const PATIENCE: Duration = Duration::from_secs(4);
/// How often it looks.
const LOOK_GAP: Duration = Duration::from_millis(1);

/// What clients saw.
#[derive(Default)]
pub struct Calls(Vec<(String, Call)>);

impl Calls {
    /// A command is sent. Returns what to name it by.
    fn begin(&mut self, key: &str, call: Call) -> usize {
        self.0.push((key.to_owned(), call));
        self.0.len() - 1
    }

    /// It was answered.
    fn end(&mut self, entry: usize, answer: Answer, now_ns: u64) {
        self.0[entry].1.outcome = Outcome::Answered(answer, now_ns);
    }

    /// All of it.
    pub fn history(&self) -> History {
        let mut history = History::default();
        self.0.iter().for_each(|(key, call)| history.record(key, call.clone()));
        history
    }
}

fn now_ns() -> u64 {
    turmoil::sim_elapsed().expect("inside the world").as_nanos() as u64
}

/// A command that was carried out, and not answered yet.
struct Done {
    operation: Operation,
    answer: Answer,
    holds: Holds,
    /// Where the partition stands, if it was changed, and up to where the journal must be written.
    write: Option<(Point, u64)>,
}

/// Uses what this node answers for, for ever.
pub async fn live(machine: Arc<Machine>, process: Process, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let Machine { scenario, shared, .. } = &*machine;
    loop {
        tokio::time::sleep(Duration::from_millis(random.random_range(1..=scenario.client_ms))).await;
        if !shared.has_clients.load(Ordering::Relaxed) || machine.is_paused.load(Ordering::Relaxed) {
            continue;
        }
        let number = random.random_range(0..KEYS);
        let key = format!("{}-{number}", REGISTERS[number as usize % REGISTERS.len()].0);
        let id = process.data.store.partition_of(Key::new(0, key.as_bytes()).slot);
        if process.host.is_here(id).is_none() || !process.replication.may_answer() {
            continue;
        }
        let called = now_ns();
        let done = carry_out(&machine, &process, &key, id, &mut random);
        // A reader that has no answer has seen nothing; a change may have happened, or may yet.
        let outcome = if done.operation == Operation::Get { Outcome::Failed } else { Outcome::Unknown };
        let call = Call { client: seed as u32, called, operation: done.operation.clone(), outcome };
        let entry = shared.calls.lock().begin(&key, call);
        if let Some((_, position)) = done.write {
            if random.random_bool(0.3) {
                // Others read, wait and ask while it is committed and not yet written.
                tokio::time::sleep(Duration::from_millis(random.random_range(0..4))).await;
            }
            process.data.write_up_to(position).expect("a position that was given");
        }
        let is_early = scenario.plant == Plant::ReadsEarly && done.operation == Operation::Get;
        if !is_early && !await_confirmation(&process, &done.holds).await {
            continue;
        }
        shared.calls.lock().end(entry, done.answer, now_ns());
        shared.answered.fetch_add(1, Ordering::Relaxed);
        if let Some((point, _)) = done.write {
            let (node, concern) = (machine.number, scenario.concern);
            shared.witness.tell(Event::Acknowledged { node, partition: id, point, concern });
        }
    }
}

/// Whether the replies may leave.
async fn await_confirmation(process: &Process, holds: &Holds) -> bool {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        match holds.standing(&process.replication) {
            Standing::Confirmed => return true,
            Standing::Lost => return false,
            Standing::Pending if tokio::time::Instant::now() > end => return false,
            Standing::Pending => tokio::time::sleep(LOOK_GAP).await,
        }
    }
}

fn register(key: &Key) -> (&'static [&'static str], &'static [&'static str]) {
    let is_it = |(name, ..): &&(&str, _, _)| key.name.starts_with(name.as_bytes());
    let (_, put, read) = REGISTERS.iter().find(is_it).expect("its name begins with its type's");
    (put, read)
}

fn words(words: &[&str], key: &Key, number: i64) -> Vec<Word> {
    let word = |word: &&str| match *word {
        KEY => key.name.to_vec(),
        NUMBER => number.to_string().into_bytes(),
        word => word.as_bytes().to_vec(),
    };
    words.iter().map(word).collect()
}

fn number_at(transaction: &mut Transaction, key: &Key) -> Option<i64> {
    let (_, read) = register(key);
    let found = commands::read(transaction, key.database, &words(read, key, 0)).expect("all is in memory");
    let text = std::str::from_utf8(found.first()?).expect("a number was written");
    Some(text.parse().expect("a number was written"))
}

fn put(transaction: &mut Transaction, key: &Key, number: i64) {
    let (put, _) = register(key);
    transaction.remove(key).expect("all is in memory");
    commands::write(transaction, key.database, &words(put, key, number));
}

fn carry_out(machine: &Machine, process: &Process, key: &str, id: PartitionId, random: &mut StdRng) -> Done {
    let (witness, concern) = (&machine.shared.witness, machine.scenario.concern);
    let key = Key::new(0, key.as_bytes());
    let store = &process.data.store;
    let before = store.point(id);
    let mut holds = Holds::default();
    let mut transaction = store.transaction(&PartitionSet::One(id), witness.wall_clock_ms());
    let known = number_at(&mut transaction, &key);
    let can_write = process.replication.can_meet(id, concern);
    let (operation, answer) = match random.random_range(0..20) {
        0..8 if can_write => {
            let number = witness.number() as i64 * 1000;
            put(&mut transaction, &key, number);
            (Operation::Set(number), Answer::Done)
        }
        8..11 if can_write => {
            let number = known.unwrap_or_default() + 1;
            put(&mut transaction, &key, number);
            (Operation::Increment, Answer::Number(number))
        }
        11 if can_write => {
            transaction.remove(&key).expect("all is in memory");
            (Operation::Delete, Answer::Number(i64::from(known.is_some())))
        }
        _ => (Operation::Get, known.map_or(Answer::Nothing, Answer::Number)),
    };
    holds.note_view(&transaction, &process.replication);
    let position = transaction.commit_guarded(concern, |partition, position| {
        if concern > WriteConcern::Local {
            holds.note_write(partition, concern, position, &process.replication);
        }
    });
    drop(transaction); // its locks are held on after a commit
    let point = store.point(id);
    let write = (place(point) != place(before)).then(|| {
        let node = machine.number;
        witness.tell(Event::Committed { node, partition: id, point, previous: before.chain });
        (point, position)
    });
    assert!(process.data.point(id) == point);
    Done { operation, answer, holds, write }
}
