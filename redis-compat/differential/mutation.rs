//! Broken requests: too few words, too many, swapped, doubled, foreign ones, names nobody knows.

use crate::support::Chance;
use crate::values::{self, one_in, pick};
use larder::protocol::spec::Group;

type Words = Vec<Vec<u8>>;

/// Changes a request so that it is most likely wrong; `other` is another one to take words from.
pub fn mutate(chance: &mut Chance, words: &mut Words, other: &Words) {
    for _ in 0..=chance.below(2) {
        let at = chance.below(words.len() as u64) as usize;
        match chance.below(10) {
            0 => words.truncate(at.max(1)),
            1 if at > 0 => drop(words.remove(at)),
            2 => words.insert(at + 1, any(chance)),
            3 if at > 0 => words[at] = any(chance),
            4 => words.insert(at, words[at].clone()),
            5 if words.len() > 2 => {
                let to = 1 + chance.below(words.len() as u64 - 1) as usize;
                words.swap(at.max(1), to);
            }
            6 => words.extend_from_slice(&other[1..]),
            7 if other.len() > 1 && at > 0 => words[at] = pick(chance, &other[1..]).clone(),
            8 => misspell(chance, &mut words[at]),
            9 => words.push(any(chance)),
            _ => {}
        }
        words.truncate(400);
    }
}

fn any(chance: &mut Chance) -> Vec<u8> {
    const TOKENS: &[&str] = &[
        "NX",
        "XX",
        "GT",
        "LT",
        "EX",
        "PX",
        "EXAT",
        "PXAT",
        "KEEPTTL",
        "GET",
        "PERSIST",
        "REPLACE",
        "DB",
        "WITHVALUES",
        "MATCH",
        "COUNT",
        "TYPE",
        "LIMIT",
        "ASC",
        "DESC",
        "ALPHA",
        "STORE",
        "BY",
        "IDX",
        "LEN",
        "BIT",
        "BYTE",
        "HELP",
        "ABSTTL",
        "OVERFLOW",
        "SYNC",
        "ASYNC",
        "YES",
        "NO",
    ];
    match chance.below(6) {
        0 => values::integer(chance),
        1 => values::double(chance),
        2 => values::text(chance),
        3 => values::key(chance, Group::String),
        4 => values::pattern(chance),
        _ => pick(chance, TOKENS).as_bytes().to_vec(),
    }
}

/// One letter more or other. What comes of it is no command of Redis: a digit or a byte that no name has is put in.
fn misspell(chance: &mut Chance, word: &mut Vec<u8>) {
    let letter = *pick(chance, b"0~\xff %");
    let at = chance.below(word.len() as u64 + 1) as usize;
    if at < word.len() && one_in(chance, 2) {
        word[at] = letter;
    } else {
        word.insert(at, letter);
    }
}
