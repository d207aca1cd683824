//! Makes command lines from the command table's syntax trees, so that a command is fuzzed in depth the day it is declared.

use larder::commands::table::{self, Entry};
use larder::protocol::spec::{Argument, ArgumentKind};

/// Numbers from a seed.
pub struct Random(pub u64);

impl Random {
    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % bound as u64) as usize
    }

    fn one_in(&mut self, chance: usize) -> bool {
        self.below(chance) == 0
    }

    fn of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }
}

const KEYS: [&str; 8] = ["k", "h", "s", "n", "{k}2", "big", "missing", "\"\""];
const TEXTS: [&str; 10] = ["a", "10", "-1", "value", "\"a b\"", "\"\\x00\\xff\"", "3.5", "\"\"", "0", "*"];
const INTEGERS: [&str; 16] = [
    "0",
    "1",
    "-1",
    "2",
    "5",
    "-3",
    "7",
    "10",
    "100",
    "1000",
    "1048576",
    "4294967295",
    "9223372036854775807",
    "-9223372036854775808",
    "x",
    "01",
];
const DOUBLES: [&str; 9] = ["0", "1.5", "-2.25", "1e300", "-inf", "nan", "0x1p3", "1e-300", "x"];
const PATTERNS: [&str; 6] = ["*", "k*", "?", "[a-z]*", "\\*", "*a*b*c*"];
const TIMES: [&str; 6] = ["1700000001", "1700000000001", "0", "1", "-1", "9223372036854775807"];

/// A line of some command.
pub fn line(random: &mut Random) -> String {
    let entries = table::entries();
    let entry = &entries[random.below(entries.len())];
    let (mut words, mut spec) = (vec![entry.full_name.clone()], entry);
    if !entry.subcommands.is_empty() && !random.one_in(10) {
        spec = &entry.subcommands[random.below(entry.subcommands.len())];
        words.push(spec.command.spec.name.to_owned());
    }
    all(spec.command.spec.arguments, random, &mut words);
    fill_up(spec, random, &mut words);
    if random.one_in(12) {
        words.pop();
    }
    if random.one_in(12) {
        words.push(random.of(&TEXTS).to_owned());
    }
    words.join(" ") + "\n"
}

/// Commands that are declared without a tree have their number of words at least.
fn fill_up(entry: &Entry, random: &mut Random, words: &mut Vec<String>) {
    let wanted = entry.command.spec.arity.unsigned_abs() as usize;
    while words.len() < wanted {
        words.push(random_word(random).to_owned());
    }
}

fn random_word(random: &mut Random) -> &'static str {
    match random.below(3) {
        0 => random.of(&KEYS),
        1 => random.of(&TEXTS),
        _ => random.of(&INTEGERS),
    }
}

fn all(arguments: &[Argument], random: &mut Random, words: &mut Vec<String>) {
    for argument in arguments {
        if argument.optional && random.one_in(2) {
            continue;
        }
        let times = if argument.multiple { 1 + random.below(3) } else { 1 };
        for time in 0..times {
            one(argument, time > 0 && !argument.multiple_token, random, words);
        }
    }
}

fn one(argument: &Argument, without_token: bool, random: &mut Random, words: &mut Vec<String>) {
    if !argument.token.is_empty() && !without_token {
        words.push(argument.token.to_owned());
    }
    let word = match argument.kind {
        // Now and then something that does not belong there.
        _ if argument.children.is_empty() && random.one_in(16) => random_word(random),
        ArgumentKind::PureToken => return,
        ArgumentKind::OneOf => {
            let child = &argument.children[random.below(argument.children.len())];
            return one(child, false, random, words);
        }
        ArgumentKind::Block => return all(argument.children, random, words),
        ArgumentKind::String => random.of(&TEXTS),
        ArgumentKind::Integer => random.of(&INTEGERS),
        ArgumentKind::Double => random.of(&DOUBLES),
        ArgumentKind::Key => random.of(&KEYS),
        ArgumentKind::Pattern => random.of(&PATTERNS),
        ArgumentKind::UnixTime => random.of(&TIMES),
    };
    words.push(word.to_owned());
}
