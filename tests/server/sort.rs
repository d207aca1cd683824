//! SORT over random lists, sets and sorted sets, beside redis-server: the same elements in the same order, and the same list stored.
//!
//! Left out is what redis-server leaves to chance: texts that are equal by a pattern, and sets that are not sorted at all.

use crate::support::{Chance, Client, Server, Value};

const ROUNDS: usize = 60;
const SORTS: usize = 12;

/// A request's words.
type Words = Vec<String>;

fn words(line: &str) -> Words {
    line.split(' ').map(str::to_owned).collect()
}

/// One of these.
fn pick<'a>(chance: &mut Chance, from: &[&'a str]) -> &'a str {
    from[chance.below(from.len() as u64) as usize]
}

/// An element: most are numbers, so that sorting by numbers mostly works.
fn element(chance: &mut Chance, may_be_text: bool) -> String {
    match chance.below(10) {
        0 => format!("{}.{}", chance.below(20), chance.below(100)),
        1 => format!("-{}", chance.below(1000)),
        2 if may_be_text => {
            let len = 1 + chance.below(4) as usize;
            String::from_utf8(chance.letters(len)).expect("letters")
        }
        _ => chance.below(300).to_string(),
    }
}

/// The commands that make the collection `c` and what patterns lead to: a weight for each element, no two the same.
fn data(chance: &mut Chance) -> (&'static str, Vec<Words>) {
    let kind = pick(chance, &["RPUSH", "RPUSH", "SADD", "ZADD"]);
    let len = if chance.below(4) == 0 { 400 } else { 1 + chance.below(30) };
    let may_be_text = chance.below(4) == 0;
    let mut commands = vec![words("FLUSHALL")];
    let mut elements: Vec<String> = (0..len).map(|_| element(chance, may_be_text)).collect();
    let mut made = words(&format!("{kind} c"));
    for element in &elements {
        if kind == "ZADD" {
            made.push(chance.below(50).to_string());
        }
        made.push(element.clone());
    }
    commands.push(made);
    elements.sort();
    elements.dedup();
    for (index, element) in elements.iter().enumerate() {
        let weight = index as u64 * 7919 % 1009 + 1; // both are prime
        commands.push(words(&format!("SET w_{element} {weight}")));
        if chance.below(3) > 0 {
            commands.push(words(&format!("HSET h_{element} f {weight} g text{}", chance.below(9))));
        }
    }
    (kind, commands)
}

/// Words of a SORT whose answer does not depend on chance.
fn sort(chance: &mut Chance, kind: &str) -> Words {
    let stores = chance.below(2) == 0;
    let is_alpha = chance.below(3) == 0;
    let by = match chance.below(5) {
        0 => Some("w_*"),
        1 if !is_alpha => Some("h_*->f"),
        2 if kind != "SADD" || stores => Some("nosort"),
        _ => None,
    };
    let mut parts: Vec<String> = by.map(|by| format!("BY {by}")).into_iter().collect();
    if is_alpha {
        parts.push("ALPHA".to_owned());
    }
    if chance.below(3) == 0 {
        parts.push(pick(chance, &["ASC", "DESC"]).to_owned());
    }
    if chance.below(3) == 0 {
        let limit = pick(chance, &["0 5", "3 4", "-1 3", "2 -1", "0 0", "1000 5", "5 1000"]);
        parts.push(format!("LIMIT {limit}"));
    }
    for _ in 0..chance.below(3) {
        parts.push(format!("GET {}", pick(chance, &["#", "w_*", "h_*->f", "h_*->g", "h_*", "nothing"])));
    }
    if stores {
        parts.push(format!("STORE {}", pick(chance, &["stored", "stored", "c2"])));
    }
    for index in (1..parts.len()).rev() {
        parts.swap(index, chance.below(index as u64 + 1) as usize);
    }
    words(&[&["SORT c".to_owned()][..], &parts].concat().join(" "))
}

fn answers(client: &mut Client, commands: &[Words]) -> Vec<Value> {
    commands.iter().map(|words| client.ask(words)).collect()
}

#[test]
fn random_collections_are_sorted_as_redis_server_sorts_them() {
    let mut chance = Chance::seeded("sort");
    let (server, reference) = (Server::start(&[]), Server::start_reference(&[]));
    let (mut ours, mut theirs) = (server.connect(), reference.connect());
    let (mut stored, mut refused) = (0, 0);
    for _ in 0..ROUNDS {
        let (kind, mut commands) = data(&mut chance);
        for _ in 0..SORTS {
            commands.push(sort(&mut chance, kind));
            for key in ["stored", "c2"] {
                commands.push(words(&format!("LRANGE {key} 0 -1")));
                commands.push(words(&format!("TYPE {key}")));
            }
        }
        let (ours, theirs) = (answers(&mut ours, &commands), answers(&mut theirs, &commands));
        for ((command, ours), theirs) in commands.iter().zip(&ours).zip(&theirs) {
            assert!(
                ours == theirs,
                "{command:?}\n  ours: {ours}\n  theirs: {theirs}\n  of {:?}",
                commands[1]
            );
            refused += usize::from(matches!(ours, Value::Error(_)));
            stored += usize::from(matches!(ours, Value::Simple(kind) if kind == "list"));
        }
    }
    assert!(stored > 100 && refused > 5, "{stored} lists, {refused} refusals");
}
