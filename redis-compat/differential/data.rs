//! What the requests left behind: the same keys in every database, with the same type, encoding, deadline and value.

use crate::compare;
use crate::pair::{Pair, Side};
use crate::support::{Client, Value, request, wait_until};
use std::time::Duration;

const DATABASES: usize = 16;

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

/// The first difference; payloads of DUMP and whole walks are compared too, if `whole`.
pub fn difference(pair: &mut Pair, whole: bool) -> Option<Found> {
    let both = &mut Both { ours: &mut pair.ours.control, theirs: &mut pair.theirs.control };
    let numbers: Vec<String> = (0..DATABASES).map(|number| number.to_string()).collect();
    let listings =
        both.ask(numbers.iter().flat_map(|number| [words(&["SELECT", number]), words(&["KEYS", "*"])]));
    for (number, answers) in numbers.iter().zip(listings.chunks(2)) {
        let (ours, theirs) = (names(&answers[1].0), names(&answers[1].1));
        if ours != theirs {
            return Some((format!("keys of database {number}"), listed(&ours), listed(&theirs)));
        }
        if ours.is_empty() {
            continue;
        }
        both.ask([words(&["SELECT", number])]);
        let found =
            values_differ(both, &ours).or_else(|| whole.then(|| wholes_differ(both, &ours)).flatten());
        if let Some((what, ours, theirs)) = found {
            return Some((format!("database {number}: {what}"), ours, theirs));
        }
    }
    None
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

impl Both<'_> {
    /// Asks both, in pipelines, and pairs the answers.
    fn ask(&mut self, requests: impl IntoIterator<Item = Words>) -> Vec<(Value, Value)> {
        let requests: Vec<Words> = requests.into_iter().collect();
        let mut answers = Vec::with_capacity(requests.len());
        for part in requests.chunks(60) {
            let bytes: Vec<u8> = part.iter().flat_map(|words| request(words)).collect();
            self.ours.send(&bytes).expect("Larder reads");
            self.theirs.send(&bytes).expect("redis-server reads");
            for _ in part {
                let ours = self.ours.read().expect("Larder answers");
                answers.push((ours, self.theirs.read().expect("redis-server answers")));
            }
        }
        answers
    }

    /// Asks both and returns the first request whose answers are not the same.
    fn first_difference(&mut self, requests: Vec<Words>) -> Option<Found> {
        let answers = self.ask(requests.iter().cloned());
        let mut both = requests.iter().zip(answers);
        both.find(|(words, (ours, theirs))| !compare::same(words, &[], ours, theirs)).map(
            |(words, (ours, theirs))| {
                (crate::transcript::line(words, true), ours.to_string(), theirs.to_string())
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
fn values_differ(both: &mut Both, keys: &[Vec<u8>]) -> Option<Found> {
    let types = both.ask(keys.iter().map(|key| about(&["TYPE"], key, &[])));
    let mut requests = Vec::new();
    for (key, (ours, theirs)) in keys.iter().zip(&types) {
        if ours != theirs {
            let what = crate::transcript::line(&about(&["TYPE"], key, &[]), true);
            return Some((what, ours.to_string(), theirs.to_string()));
        }
        let kind = ours.text();
        let (_, reader, rest) =
            WHOLE_VALUE.iter().find(|(of, ..)| *of == kind).unwrap_or(&("none", "EXISTS", &[]));
        requests.push(about(&["OBJECT", "ENCODING"], key, &[]));
        requests.push(about(&[reader], key, rest));
        requests.push(about(&["PTTL"], key, &[]));
    }
    both.first_difference(requests)
}

/// Payloads, and a whole walk: SCAN must find each key, RANDOMKEY one of them.
fn wholes_differ(both: &mut Both, keys: &[Vec<u8>]) -> Option<Found> {
    for key in keys {
        if let Some(found) = payload_differs(both, key) {
            return Some(found);
        }
    }
    let (ours, theirs) = (walk(both.ours), walk(both.theirs));
    if ours != keys || theirs != keys {
        return Some(("SCAN … COUNT 5".to_owned(), listed(&ours), listed(&theirs)));
    }
    let random = both.ours.ask(&["RANDOMKEY"]);
    let is_key = matches!(&random, Value::Bulk(name) if keys.contains(name));
    (!is_key).then(|| ("RANDOMKEY".to_owned(), random.to_string(), listed(keys)))
}

/// Each server must make the same value of the other's payload.
fn payload_differs(both: &mut Both, key: &[u8]) -> Option<Found> {
    const RESTORED: &[u8] = b"restored from the other server's payload";
    let dump = about(&["DUMP"], key, &[]);
    if let Some(found) = both.first_difference(vec![dump.clone()]) {
        return Some(found);
    }
    let (ours, theirs) = both.ask([dump]).pop().expect("there is an answer to each request");
    for (client, payload) in [(&mut *both.ours, theirs), (&mut *both.theirs, ours)] {
        let Value::Bulk(payload) = payload else { continue };
        client.expect(&[b"RESTORE".as_slice(), RESTORED, b"0", &payload], "OK");
    }
    let found = values_differ(both, &[RESTORED.to_vec()]);
    both.ask([about(&["DEL"], RESTORED, &[])]);
    found
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
        side.control.ask(&["SELECT", &database.to_string()]);
        let keys = side.control.ask(&["KEYS", "*"]).items().len() as i64;
        side.control.ask(&["DBSIZE"]) == Value::Integer(keys)
    })
}

/// Payloads of some keys there are, for RESTORE: of those in which the order is no accident, so that a seed repeats them.
pub fn payloads(pair: &mut Pair) -> Vec<Vec<u8>> {
    // Both are asked, so that both have counted the same requests.
    let both = &mut Both { ours: &mut pair.ours.control, theirs: &mut pair.theirs.control };
    let listed = both.ask([words(&["SELECT", "0"]), words(&["KEYS", "*"])]);
    let mut keys = names(&listed[1].1);
    keys.truncate(8);
    let answers = both.ask(keys.iter().map(|key| about(&["DUMP"], key, &[])));
    let payloads = answers.into_iter().filter_map(|(_, theirs)| match theirs {
        Value::Bulk(bytes) if bytes.len() < 3000 && bytes[0] != compare::LARGE_HASH => Some(bytes),
        _ => None,
    });
    payloads.collect()
}
