//! What the requests left behind: the same keys in every database, with the same type, encoding, deadline and value.

use crate::compare;
use crate::pair::{Pair, Side};
use crate::support::{Client, Value, request, wait_until};
use crate::transcript::line;
use std::time::Duration;

const DATABASES: usize = 16;

/// Requests sent before their answers are read.
const PIPELINE: usize = 200;

/// The request that reads all of a value, by type; what stands before `KEY` and behind it.
const WHOLE_VALUE: &[(&str, &str, &[&str])] = &[
    ("string", "GET", &[]),
    ("hash", "HGETALL", &[]),
    ("list", "LRANGE", &["0", "-1"]),
    ("set", "SMEMBERS", &[]),
    ("zset", "ZRANGE", &["0", "-1", "WITHSCORES"]),
    ("stream", "XRANGE", &["-", "+"]),
];

/// What differs: what was asked, our answer, theirs.
type Found = (String, String, String);

/// A key and its database.
type Place = (usize, Vec<u8>);

/// The first difference; payloads of DUMP and whole walks are compared too, if `whole`.
pub fn difference(pair: &mut Pair, whole: bool) -> Option<Found> {
    let both = &mut Both { ours: &mut pair.ours.control, theirs: &mut pair.theirs.control };
    let listings =
        both.ask((0..DATABASES).flat_map(|database| [select(database), words(&["KEYS", "*"])]).collect());
    let mut places = Vec::new();
    for (database, answers) in listings.chunks(2).enumerate() {
        let (ours, theirs) = (names(&answers[1].0), names(&answers[1].1));
        if ours != theirs {
            return Some((format!("keys of database {database}"), listed(&ours), listed(&theirs)));
        }
        places.extend(ours.into_iter().map(|key| (database, key)));
    }
    let found = values_differ(both, &places);
    if found.is_some() || !whole {
        return found;
    }
    payloads_differ(both, &places).or_else(|| walks_differ(both, &places))
}

/// The two connections outside of the episode.
struct Both<'a> {
    ours: &'a mut Client,
    theirs: &'a mut Client,
}

type Words = Vec<Vec<u8>>;

fn words(words: &[&str]) -> Words {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn about(name: &[&str], key: &[u8], rest: &[&str]) -> Words {
    let mut all = words(name);
    all.push(key.to_vec());
    all.extend(words(rest));
    all
}

fn select(database: usize) -> Words {
    words(&["SELECT", &database.to_string()])
}

/// The requests that `make` has for each key, each database selected before.
fn of_each(places: &[Place], mut make: impl FnMut(usize, &[u8]) -> Vec<Words>) -> Vec<Words> {
    let (mut requests, mut selected) = (Vec::new(), None);
    for (index, (database, key)) in places.iter().enumerate() {
        if selected.replace(database) != Some(database) {
            requests.push(select(*database));
        }
        requests.extend(make(index, key));
    }
    requests
}

impl Both<'_> {
    /// Asks both, in pipelines, and pairs the answers.
    fn ask(&mut self, requests: Vec<Words>) -> Vec<(Value, Value)> {
        let theirs = requests.clone();
        self.ask_each(&requests, &theirs)
    }

    /// Asks us the ones and them the others.
    fn ask_each(&mut self, ours: &[Words], theirs: &[Words]) -> Vec<(Value, Value)> {
        let mut answers = Vec::with_capacity(ours.len());
        for (ours, theirs) in ours.chunks(PIPELINE).zip(theirs.chunks(PIPELINE)) {
            let bytes = |requests: &[Words]| -> Vec<u8> {
                requests.iter().flat_map(|words| request(words)).collect()
            };
            self.ours.send(&bytes(ours)).expect("Larder reads");
            self.theirs.send(&bytes(theirs)).expect("redis-server reads");
            for _ in ours {
                let our = self.ours.read().expect("Larder answers");
                answers.push((our, self.theirs.read().expect("redis-server answers")));
            }
        }
        answers
    }

    /// Asks both and returns the first request whose answers are not the same.
    fn first_difference(&mut self, requests: Vec<Words>) -> Option<Found> {
        let answers = self.ask(requests.clone());
        let mut both = requests.iter().zip(answers);
        both.find(|(words, (ours, theirs))| !compare::same(words, &[], ours, theirs)).map(
            |(words, (ours, theirs))| {
                (format!("the data: {}", line(words, true)), ours.to_string(), theirs.to_string())
            },
        )
    }
}

fn names(value: &Value) -> Vec<Vec<u8>> {
    let name = |value: &Value| match value {
        Value::Bulk(name) => name.clone(),
        other => panic!("{other} is no name"),
    };
    let mut names: Vec<Vec<u8>> = value.items().iter().map(name).collect();
    names.sort();
    names
}

fn listed(keys: &[Vec<u8>]) -> String {
    keys.iter().map(|key| key.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
}

/// Type, encoding, deadline and value of each key.
fn values_differ(both: &mut Both, places: &[Place]) -> Option<Found> {
    let requests = of_each(places, |_, key| vec![about(&["TYPE"], key, &[])]);
    let answers = both.ask(requests.clone());
    let mut kinds = Vec::new();
    for (words, (ours, theirs)) in requests.iter().zip(answers).filter(|(words, _)| words[0] == b"TYPE") {
        if ours != theirs {
            return Some((line(words, true), ours.to_string(), theirs.to_string()));
        }
        kinds.push(ours.text());
    }
    both.first_difference(of_each(places, |index, key| {
        let reader = WHOLE_VALUE.iter().find(|(kind, ..)| *kind == kinds[index]);
        let (_, reader, rest) = reader.unwrap_or(&("none", "EXISTS", &[]));
        vec![
            about(&["OBJECT", "ENCODING"], key, &[]),
            about(&[reader], key, rest),
            about(&["PTTL"], key, &[]),
        ]
    }))
}

/// Payloads must be the same as far as they can, and each server must make the same value of the other's.
fn payloads_differ(both: &mut Both, places: &[Place]) -> Option<Found> {
    let requests = of_each(places, |_, key| vec![about(&["DUMP"], key, &[])]);
    let answers = both.ask(requests.clone());
    let (mut ours, mut theirs, mut restored) = (vec![select(0)], vec![select(0)], Vec::new());
    for (words, (our, their)) in requests.iter().zip(answers).filter(|(words, _)| words[0] == b"DUMP") {
        if !compare::same(words, &[], &our, &their) {
            return Some((line(words, true), our.to_string(), their.to_string()));
        }
        let (Value::Bulk(our), Value::Bulk(their)) = (our, their) else { continue };
        let name = format!("{} restored from the other server's payload", restored.len()).into_bytes();
        let restore = |payload| vec![b"RESTORE".to_vec(), name.clone(), b"0".to_vec(), payload];
        ours.push(restore(their));
        theirs.push(restore(our));
        restored.push((0, name));
    }
    let answers = both.ask_each(&ours, &theirs);
    let refused = answers.iter().zip(&ours).find(|((ours, theirs), _)| ours != theirs);
    let found =
        refused.map(|((ours, theirs), words)| (line(words, true), ours.to_string(), theirs.to_string()));
    let found = found.or_else(|| values_differ(both, &restored));
    both.ask(of_each(&restored, |_, key| vec![about(&["DEL"], key, &[])]));
    found
}

/// A whole SCAN must find each key of a database, and RANDOMKEY one of them.
fn walks_differ(both: &mut Both, places: &[Place]) -> Option<Found> {
    let mut databases: Vec<usize> = places.iter().map(|(database, _)| *database).collect();
    databases.dedup();
    for database in databases {
        both.ask(vec![select(database)]);
        let of_it = places.iter().filter(|(of, _)| *of == database);
        let keys: Vec<Vec<u8>> = of_it.map(|(_, key)| key.clone()).collect();
        let (ours, theirs) = (walk(both.ours), walk(both.theirs));
        if ours != keys || theirs != keys {
            return Some((format!("SCAN … COUNT 5 in database {database}"), listed(&ours), listed(&theirs)));
        }
        let random = both.ours.ask(&["RANDOMKEY"]);
        if !matches!(&random, Value::Bulk(name) if keys.contains(name)) {
            return Some((format!("RANDOMKEY in database {database}"), random.to_string(), listed(&keys)));
        }
    }
    None
}

fn walk(client: &mut Client) -> Vec<Vec<u8>> {
    let (mut found, mut cursor) = (Vec::new(), "0".to_owned());
    loop {
        let reply = client.ask(&["SCAN", &cursor, "COUNT", "5"]);
        cursor = reply.items()[0].text();
        found.extend(names(&reply.items()[1]));
        if cursor == "0" {
            found.sort();
            found.dedup();
            return found;
        }
    }
}

/// Waits until what has expired is gone on both servers, counts included.
pub fn await_expiry(pair: &mut Pair) {
    for side in [&mut pair.ours, &mut pair.theirs] {
        wait_until("expired keys are removed", Duration::from_secs(20), || counts_are_exact(side));
    }
}

fn counts_are_exact(side: &mut Side) -> bool {
    (0..DATABASES).all(|database| {
        side.control.ask(&select(database));
        let keys = side.control.ask(&["KEYS", "*"]).items().len() as i64;
        side.control.ask(&["DBSIZE"]) == Value::Integer(keys)
    })
}

/// Payloads of some keys there are, for RESTORE: of those in which the order is no accident, so that a seed repeats them.
pub fn payloads(pair: &mut Pair) -> Vec<Vec<u8>> {
    // Both are asked, so that both have counted the same requests.
    let both = &mut Both { ours: &mut pair.ours.control, theirs: &mut pair.theirs.control };
    let listed = both.ask(vec![select(0), words(&["KEYS", "*"])]);
    let mut keys = names(&listed[1].1);
    keys.truncate(8);
    let answers = both.ask(keys.iter().map(|key| about(&["DUMP"], key, &[])).collect());
    let payloads = answers.into_iter().filter_map(|(_, theirs)| match theirs {
        Value::Bulk(bytes) if bytes.len() < 3000 && !compare::has_no_order(&bytes) => Some(bytes),
        _ => None,
    });
    payloads.collect()
}
