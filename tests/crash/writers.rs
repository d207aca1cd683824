//! Clients that write until their connection breaks, remember what was acknowledged, and look for it afterwards.
//!
//! Each writes to keys of its own and sends pipelined commands. Commands of one connection are stored in their order, so after
//! a restart a key must be in the state the last acknowledged command left, or that of a later one whose reply did not come any
//! more; a transaction's keys must be in it together.

use crate::support::types::{self, Content, Sizes, Word};
use crate::support::{Chance, Client, Server, Value, now_ms, request};
use std::collections::{HashMap, HashSet, VecDeque};

/// Some collections stay small, others do not.
const SIZES: Sizes = Sizes { items: 300, value: 20_000 };

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
    /// A command of the table in [`types`].
    Do(Vec<Word>),
    SetUntil(String, Vec<u8>, i64),
    Delete(String),
    ExpireAt(String, i64),
    Persist(String),
    /// Both keys get the same value.
    Pair(String, String, Vec<u8>),
}

impl Change {
    fn random(writer: u64, chance: &mut Chance) -> Change {
        let of = types::any(chance);
        let key = |kind: &str, chance: &mut Chance| format!("{kind}:{writer}:{}", chance.below(40));
        let later = now_ms() + 1_000_000 + chance.below(1_000_000) as i64;
        match chance.below(24) {
            0 => Change::SetUntil(key("text", chance), chance.letters(100), later),
            1 => {
                let soon = now_ms() + 50 + chance.below(1_000) as i64;
                Change::SetUntil(key("text:short", chance), chance.letters(100), soon)
            }
            2 => Change::Delete(key(of.name, chance)),
            3 => Change::ExpireAt(key(of.name, chance), later),
            4 => Change::Persist(key(of.name, chance)),
            5 | 6 => {
                let pair = chance.below(20);
                let value = chance.letters(2_000);
                Change::Pair(
                    format!("text:left:{writer}:{pair}"),
                    format!("text:right:{writer}:{pair}"),
                    value,
                )
            }
            _ => Change::Do(of.change(key(of.name, chance).as_bytes(), chance, SIZES)),
        }
    }

    fn keys(&self) -> Vec<String> {
        match self {
            Change::Do(words) => vec![String::from_utf8_lossy(&words[1]).into_owned()],
            Change::SetUntil(key, ..)
            | Change::Delete(key)
            | Change::ExpireAt(key, _)
            | Change::Persist(key) => vec![key.clone()],
            Change::Pair(left, right, _) => vec![left.clone(), right.clone()],
        }
    }

    /// The commands, and so the number of replies.
    fn commands(&self) -> Vec<Vec<Word>> {
        let words = |words: &[&[u8]]| words.iter().map(|word| word.to_vec()).collect::<Vec<_>>();
        let number = |number: &i64| number.to_string().into_bytes();
        vec![match self {
            Change::Do(words) => words.clone(),
            Change::SetUntil(key, value, at) => words(&[b"SET", key.as_bytes(), value, b"PXAT", &number(at)]),
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
            Change::Do(words) => {
                let deadline = state.as_ref().and_then(|key| key.deadline);
                let deadline = deadline.filter(|_| !types::ends_deadline(words));
                let content = types::after(state.map(|key| key.content), words)?;
                Some(Key { content, deadline })
            }
            Change::SetUntil(_, value, at) => text(value, Some(*at)),
            Change::Pair(_, _, value) => text(value, None),
            Change::Delete(_) => None,
            Change::ExpireAt(_, at) => state.map(|key| Key { deadline: Some(*at), ..key }),
            Change::Persist(_) => state.map(|key| Key { deadline: None, ..key }),
        }
    }
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
                bytes.extend(commands.iter().flat_map(|words| request(words)));
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
                    let state = self.acknowledged.entry(key).or_default();
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
                let states = allowed.entry(key).or_insert_with(|| vec![None]);
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
    let of = types::of(key.as_bytes());
    let shown = client.ask(&["TYPE", key]).text();
    if shown == "none" {
        return None;
    }
    assert_eq!(shown, of.shown, "the type of {key}");
    let words = client.ask(&of.read(key.as_bytes())).words();
    if words.is_empty() {
        return None; // Expired in between.
    }
    let content = of.content(words);
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
                client.ask(&["GET", &format!("text:{side}:{}:{pair}", writer.number)])
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
