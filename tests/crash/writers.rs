//! Clients that write until their connection breaks, remember what was acknowledged, and look for it afterwards.
//!
//! Each writes to keys of its own and sends pipelined commands. Commands of one connection are stored in their order, so after
//! a restart a key must be in the state the last acknowledged command left, or that of a later one whose reply did not come any
//! more; a transaction's keys must be in it together.

use crate::support::{Chance, Client, Server, Value, now_ms};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

/// What a key holds.
#[derive(Clone, Debug, PartialEq)]
enum Content {
    Text(Vec<u8>),
    Fields(BTreeMap<Vec<u8>, Vec<u8>>),
}

/// A key that is there: what it holds, and its deadline in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq)]
struct Key {
    content: Content,
    deadline: Option<i64>,
}

/// `None`: no such key.
type State = Option<Key>;

/// One command, or one transaction.
#[derive(Clone, Debug)]
enum Change {
    Set(String, Vec<u8>),
    SetUntil(String, Vec<u8>, i64),
    Append(String, Vec<u8>),
    Increment(String, i64),
    SetField(String, Vec<u8>, Vec<u8>),
    DeleteField(String, Vec<u8>),
    Delete(String),
    ExpireAt(String, i64),
    Persist(String),
    /// Both keys get the same value.
    Pair(String, String, Vec<u8>),
}

impl Change {
    fn random(writer: u64, chance: &mut Chance) -> Change {
        let key = |kind: &str, chance: &mut Chance| format!("{kind}:{writer}:{}", chance.below(40));
        let length = match chance.below(20) {
            0 => 20_000,
            1..=4 => 2_000,
            _ => 1 + chance.below(100) as usize,
        };
        let value = chance.letters(length);
        let field = format!("field{}", chance.below(300)).into_bytes();
        let later = now_ms() + 1_000_000 + chance.below(1_000_000) as i64;
        match chance.below(24) {
            0..=5 => Change::Set(key("text", chance), value),
            6 => Change::SetUntil(key("text", chance), value, later),
            7 => Change::SetUntil(key("short", chance), value, now_ms() + 50 + chance.below(1_000) as i64),
            8 | 9 => Change::Append(key("text", chance), chance.letters(10)),
            10..=12 => Change::Increment(key("number", chance), 1 + chance.below(9) as i64),
            13..=16 => Change::SetField(key("hash", chance), field, value),
            17 => Change::DeleteField(key("hash", chance), field),
            18 => Change::Delete(key(["text", "hash", "number"][chance.below(3) as usize], chance)),
            19 => Change::ExpireAt(key(["text", "hash", "number"][chance.below(3) as usize], chance), later),
            20 => Change::Persist(key("text", chance)),
            _ => {
                let pair = chance.below(20);
                Change::Pair(format!("left:{writer}:{pair}"), format!("right:{writer}:{pair}"), value)
            }
        }
    }

    fn keys(&self) -> Vec<&String> {
        match self {
            Change::Set(key, _)
            | Change::SetUntil(key, ..)
            | Change::Append(key, _)
            | Change::Increment(key, _)
            | Change::SetField(key, ..)
            | Change::DeleteField(key, _)
            | Change::Delete(key)
            | Change::ExpireAt(key, _)
            | Change::Persist(key) => vec![key],
            Change::Pair(left, right, _) => vec![left, right],
        }
    }

    /// The commands, and so the number of replies.
    fn commands(&self) -> Vec<Vec<Vec<u8>>> {
        let words = |words: &[&[u8]]| words.iter().map(|word| word.to_vec()).collect::<Vec<_>>();
        let number = |number: &i64| number.to_string().into_bytes();
        vec![match self {
            Change::Set(key, value) => words(&[b"SET", key.as_bytes(), value]),
            Change::SetUntil(key, value, at) => words(&[b"SET", key.as_bytes(), value, b"PXAT", &number(at)]),
            Change::Append(key, value) => words(&[b"APPEND", key.as_bytes(), value]),
            Change::Increment(key, by) => words(&[b"INCRBY", key.as_bytes(), &number(by)]),
            Change::SetField(key, field, value) => words(&[b"HSET", key.as_bytes(), field, value]),
            Change::DeleteField(key, field) => words(&[b"HDEL", key.as_bytes(), field]),
            Change::Delete(key) => words(&[b"DEL", key.as_bytes()]),
            Change::ExpireAt(key, at) => words(&[b"PEXPIREAT", key.as_bytes(), &number(at)]),
            Change::Persist(key) => words(&[b"PERSIST", key.as_bytes()]),
            Change::Pair(left, right, value) => {
                let set = |key: &String| words(&[b"SET", key.as_bytes(), value]);
                return vec![words(&[b"MULTI"]), set(left), set(right), words(&[b"EXEC"])];
            }
        }]
    }

    /// What it makes of a key.
    fn apply(&self, state: State) -> State {
        let text = |value: &Vec<u8>, deadline| Some(Key { content: Content::Text(value.clone()), deadline });
        match self {
            Change::Set(_, value) | Change::Pair(_, _, value) => text(value, None),
            Change::SetUntil(_, value, at) => text(value, Some(*at)),
            Change::Append(_, value) => {
                let Some(Key { content: Content::Text(mut old), deadline }) = state else {
                    return text(value, None);
                };
                old.extend_from_slice(value);
                text(&old, deadline)
            }
            Change::Increment(_, by) => {
                let (old, deadline) = match &state {
                    Some(Key { content: Content::Text(old), deadline }) => (number(old), *deadline),
                    _ => (0, None),
                };
                text(&(old + by).to_string().into_bytes(), deadline)
            }
            Change::SetField(_, field, value) => {
                let mut key =
                    state.unwrap_or(Key { content: Content::Fields(BTreeMap::new()), deadline: None });
                let Content::Fields(fields) = &mut key.content else { unreachable!("hash keys hold hashes") };
                fields.insert(field.clone(), value.clone());
                Some(key)
            }
            Change::DeleteField(_, field) => {
                let mut key = state?;
                let Content::Fields(fields) = &mut key.content else { unreachable!("hash keys hold hashes") };
                fields.remove(field);
                (!fields.is_empty()).then_some(key)
            }
            Change::Delete(_) => None,
            Change::ExpireAt(_, at) => state.map(|key| Key { deadline: Some(*at), ..key }),
            Change::Persist(_) => state.map(|key| Key { deadline: None, ..key }),
        }
    }
}

fn number(text: &[u8]) -> i64 {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).expect("a counter holds a number")
}

/// One connection's changes: the states acknowledged, and what was sent after that.
pub struct Writer {
    number: u64,
    chance: Chance,
    acknowledged: HashMap<String, State>,
    in_flight: VecDeque<Change>,
    /// How many changes were acknowledged.
    pub changes: u64,
}

impl Writer {
    /// Writers with keys of their own.
    pub fn several(count: u64, chance: &mut Chance) -> Vec<Writer> {
        let mut make = |number| Writer {
            number,
            chance: chance.branch(),
            acknowledged: HashMap::new(),
            in_flight: VecDeque::new(),
            changes: 0,
        };
        (0..count).map(&mut make).collect()
    }

    /// How many changes were sent and not acknowledged.
    pub fn open(&self) -> usize {
        self.in_flight.len()
    }

    /// Writes until the connection breaks.
    pub fn run(&mut self, port: u16) {
        let Ok(mut client) = Client::try_connect(port) else { return };
        loop {
            let batch = 1 + self.chance.below(16) as usize;
            let mut bytes = Vec::new();
            let mut replies = Vec::new();
            for _ in 0..batch {
                let change = Change::random(self.number, &mut self.chance);
                let commands = change.commands();
                replies.push(commands.len());
                for words in commands {
                    bytes.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
                    for word in words {
                        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
                        bytes.extend_from_slice(&word);
                        bytes.extend_from_slice(b"\r\n");
                    }
                }
                self.in_flight.push_back(change);
            }
            if client.send(&bytes).is_err() {
                return;
            }
            for count in replies {
                for _ in 0..count {
                    match client.read() {
                        Ok(Value::Error(text)) => panic!("{text}, to {:.200?}", self.in_flight.front()),
                        Ok(_) => {}
                        Err(_) => return,
                    }
                }
                let change = self.in_flight.pop_front().expect("one for each reply");
                self.changes += 1;
                for key in change.keys() {
                    let state = self.acknowledged.entry(key.clone()).or_default();
                    *state = change.apply(state.take());
                }
            }
        }
    }

    /// Checks every key against what may be there, and takes over what is.
    fn verify(&mut self, client: &mut Client) {
        let mut allowed: HashMap<String, Vec<State>> =
            self.acknowledged.drain().map(|(key, state)| (key, vec![state])).collect();
        for change in &self.in_flight {
            for key in change.keys() {
                let states = allowed.entry(key.clone()).or_insert_with(|| vec![None]);
                let last = states.last().expect("there is one at least").clone();
                states.push(change.apply(last));
            }
        }
        self.in_flight.clear();
        for (key, states) in allowed {
            let before = now_ms();
            let found = read_key(client, &key);
            let passed = |state: &State, now| {
                state.as_ref().is_some_and(|key| key.deadline.is_some_and(|deadline| deadline <= now))
            };
            let right =
                states.iter().any(|state| *state == found || (found.is_none() && passed(state, now_ms())));
            assert!(
                right,
                "{key} is {found:.300?}\nbut was acknowledged as {:.300?}\n(then maybe {:.600?})",
                states[0],
                &states[1..]
            );
            assert!(!passed(&found, before - 5), "{key} is there after its deadline");
            self.acknowledged.insert(key, found);
        }
    }
}

fn read_key(client: &mut Client, key: &str) -> State {
    let content = match client.ask(&["TYPE", key]).text().as_str() {
        "none" => return None,
        "string" => match client.ask(&["GET", key]) {
            Value::Bulk(bytes) => Content::Text(bytes),
            _ => return None, // Expired in between.
        },
        "hash" => {
            let all = client.ask(&["HGETALL", key]);
            let text = |value: &Value| value.text().into_bytes();
            Content::Fields(all.items().chunks(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect())
        }
        other => panic!("{key} is of type {other}"),
    };
    match client.ask(&["PEXPIRETIME", key]).integer() {
        -2 => None,
        -1 => Some(Key { content, deadline: None }),
        deadline => Some(Key { content, deadline: Some(deadline) }),
    }
}

/// Checks all that the writers know, and that nobody else wrote anything.
pub fn verify_all(server: &Server, writers: &mut [Writer]) {
    let mut client = server.connect();
    for writer in &mut *writers {
        writer.verify(&mut client);
        for pair in 0..20 {
            let value = |side: &str, client: &mut Client| {
                client.ask(&["GET", &format!("{side}:{}:{pair}", writer.number)])
            };
            let (left, right) = (value("left", &mut client), value("right", &mut client));
            assert!(left == right, "half a transaction: {left:.100} and {right:.100}");
        }
    }
    let known: HashSet<&String> = writers.iter().flat_map(|writer| writer.acknowledged.keys()).collect();
    let mut cursor = "0".to_string();
    loop {
        let reply = client.ask(&["SCAN", &cursor, "COUNT", "1000"]);
        for key in reply.items()[1].items() {
            assert!(known.contains(&key.text()), "nobody wrote {key}");
        }
        cursor = reply.items()[0].text();
        if cursor == "0" {
            break;
        }
    }
}
