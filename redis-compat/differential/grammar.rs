//! Requests made from the command table: the syntax tree of each command is its grammar.
//!
//! Nothing here names a command but MULTI and its kin: one that is declared tomorrow is sent tomorrow.

use crate::bounds;
use crate::mutation;
use crate::rules;
use crate::support::Chance;
use crate::transcript::{CONNECTIONS, Step};
use crate::values::{self, one_in, pick};
use larder::commands::Handler;
use larder::commands::table::{self, Entry};
use larder::protocol::spec::{Argument, ArgumentKind, Group, Spec};

type Words = Vec<Vec<u8>>;

/// What can be called: a command, or a subcommand with its container's name.
struct Target {
    names: Vec<&'static str>,
    entry: &'static Entry,
    weight: u64,
}

/// Makes the requests of one episode.
pub struct Generator {
    chance: Chance,
    targets: Vec<Target>,
    weight: u64,
    /// The connection in use, and how many requests more it gets.
    connection: usize,
    left: u64,
    /// Which connections are inside MULTI, as far as can be told without their replies.
    in_transaction: [bool; CONNECTIONS],
    /// Payloads that DUMP gave in this episode.
    payloads: Vec<Vec<u8>>,
    /// Whether deadlines of some milliseconds are given, and waited for.
    pub with_expiry: bool,
}

/// How often a command is called: data first, then transactions.
fn weight(entry: &Entry) -> u64 {
    if rules::is_rare(entry) {
        return 1;
    }
    match entry.command.spec.group {
        Group::Server | Group::Connection | Group::Cluster | Group::Scripting => 2,
        Group::Transactions => 5,
        _ => 20,
    }
}

fn targets() -> Vec<Target> {
    let mut found = Vec::new();
    for entry in table::entries() {
        let below = entry.subcommands.iter();
        for (names, entry) in std::iter::once((vec![entry.command.spec.name], entry))
            .chain(below.map(|below| (vec![entry.command.spec.name, below.command.spec.name], below)))
        {
            if !rules::is_never_sent(entry) {
                let weight =
                    if matches!(entry.command.handler, Handler::Container) { 1 } else { weight(entry) };
                found.push(Target { names, entry, weight });
            }
        }
    }
    found
}

impl Generator {
    /// The same requests for the same seed.
    pub fn new(mut chance: Chance) -> Generator {
        let mut targets = targets();
        if one_in(&mut chance, 4) {
            // All alike: what concerns the connection and the server meets itself.
            targets.iter_mut().filter(|target| target.weight > 1).for_each(|target| target.weight = 5);
        }
        let weight = targets.iter().map(|target| target.weight).sum();
        let with_expiry = one_in(&mut chance, 4);
        Generator {
            chance,
            targets,
            weight,
            connection: 0,
            left: 0,
            in_transaction: [false; CONNECTIONS],
            payloads: Vec::new(),
            with_expiry,
        }
    }

    /// A payload that RESTORE may be given.
    pub fn learn_payload(&mut self, payload: Vec<u8>) {
        if self.payloads.len() < 64 {
            self.payloads.push(payload);
        } else {
            let at = self.chance.below(64) as usize;
            self.payloads[at] = payload;
        }
    }

    /// The next request.
    pub fn step(&mut self) -> Step {
        if self.left == 0 {
            self.connection = self.chance.below(CONNECTIONS as u64) as usize;
            // Short turns for what connections do to each other, long ones for speed.
            let longest = if one_in(&mut self.chance, 3) { 8 } else { 150 };
            self.left = 1 + self.chance.below(longest);
        }
        self.left -= 1;
        loop {
            let (mut words, spec) = self.request();
            let may_expire_soon = self.with_expiry && !self.in_transaction[self.connection];
            // Breaking a request may have made another command of it (seed 9008312: a CLIENT PAUSE for ages).
            let spec = rules::entry_of(&words).map_or(spec, |entry| &entry.command.spec);
            let pause = bounds::apply(&mut self.chance, spec, &mut words, may_expire_soon);
            if rules::may_be_sent(&words, self.in_transaction[self.connection]) {
                self.follow_transaction(&words);
                return Step { connection: self.connection, words, pause };
            }
        }
    }

    fn follow_transaction(&mut self, words: &Words) {
        let is = |name: &str| words[0].eq_ignore_ascii_case(name.as_bytes());
        if is("multi") {
            self.in_transaction[self.connection] = true;
        } else if is("exec") || is("discard") || is("reset") || is("quit") {
            self.in_transaction[self.connection] = false;
        }
    }

    fn request(&mut self) -> (Words, &'static Spec) {
        let chance = &mut self.chance;
        let plain = if self.in_transaction[self.connection] {
            one_in(chance, 8).then(|| if one_in(chance, 8) { "discard" } else { "exec" })
        } else {
            one_in(chance, 60).then_some("multi")
        };
        if let Some(name) = plain {
            let entry = table::entry(name.as_bytes()).expect("transactions are there");
            return (vec![name.as_bytes().to_vec()], &entry.command.spec);
        }
        let (mut words, spec) = self.call();
        if one_in(&mut self.chance, 7) {
            let (other, _) = self.call();
            mutation::mutate(&mut self.chance, &mut words, &other);
        }
        (words, spec)
    }

    /// A command as its declaration wants it.
    fn call(&mut self) -> (Words, &'static Spec) {
        let mut at = self.chance.below(self.weight);
        let index = self.targets.iter().position(|target| {
            let is_it = at < target.weight;
            at = at.wrapping_sub(target.weight);
            is_it
        });
        let target = &self.targets[index.expect("it is below the sum of all weights")];
        let entry = target.entry;
        let mut words: Words = target.names.iter().map(|name| cased(&mut self.chance, name)).collect();
        let spec = &entry.command.spec;
        if spec.arguments.is_empty() {
            self.undeclared(entry, &mut words);
        } else {
            self.arguments(spec, &mut words);
        }
        (words, spec)
    }

    /// Words for a command that declares how many there are, but not what they are.
    fn undeclared(&mut self, entry: &Entry, words: &mut Words) {
        let spec = &entry.command.spec;
        let least = spec.arity.unsigned_abs() as usize;
        if let Some(first) = rules::words_to_follow(entry, words.len()) {
            words.push(pick(&mut self.chance, first).as_bytes().to_vec());
        }
        if least > 2 && one_in(&mut self.chance, 2) {
            // COMMAND GETKEYS and the like: a whole command.
            words.extend(self.call().0);
        }
        while words.len() < least || (spec.arity < 0 && one_in(&mut self.chance, 3)) {
            let word = match self.chance.below(3) {
                0 => values::key(&mut self.chance, Group::String),
                1 => values::integer(&mut self.chance),
                _ => values::text(&mut self.chance),
            };
            words.push(word);
        }
    }

    fn arguments(&mut self, spec: &Spec, words: &mut Words) {
        let first_option = spec.arguments.iter().position(|argument| argument.optional);
        let (fixed, options) = spec.arguments.split_at(first_option.unwrap_or(spec.arguments.len()));
        for argument in fixed {
            self.argument(argument, spec, words);
        }
        let mut parts: Vec<Words> = Vec::new();
        for option in options {
            let mut part = Vec::new();
            self.argument(option, spec, &mut part);
            parts.push(part);
        }
        if parts.len() > 1 && one_in(&mut self.chance, 3) {
            for index in (1..parts.len()).rev() {
                parts.swap(index, self.chance.below(index as u64 + 1) as usize);
            }
        }
        if !parts.is_empty() && one_in(&mut self.chance, 10) {
            let again = pick(&mut self.chance, &parts).clone();
            parts.push(again);
        }
        words.extend(parts.into_iter().flatten());
    }

    fn argument(&mut self, argument: &Argument, spec: &Spec, words: &mut Words) {
        if argument.optional && !one_in(&mut self.chance, 3) {
            return;
        }
        for index in 0..self.repetitions(argument) {
            if !argument.token.is_empty() && (index == 0 || argument.multiple_token) {
                words.push(cased(&mut self.chance, argument.token));
            }
            self.value(argument, spec, words);
        }
    }

    fn repetitions(&mut self, argument: &Argument) -> u64 {
        if !argument.multiple {
            return 1;
        }
        match self.chance.below(300) {
            0 => 130 + self.chance.below(20), // beyond what small collections hold
            1..=10 => 20,
            _ => 1 + self.chance.below(4),
        }
    }

    fn value(&mut self, argument: &Argument, spec: &Spec, words: &mut Words) {
        let chance = &mut self.chance;
        match argument.kind {
            ArgumentKind::PureToken => {}
            ArgumentKind::OneOf => {
                let child = pick(chance, argument.children);
                self.argument(&Argument { optional: false, ..*child }, spec, words);
            }
            ArgumentKind::Block => {
                for child in argument.children {
                    self.argument(child, spec, words);
                }
            }
            ArgumentKind::Key => words.push(values::key(chance, spec.group)),
            _ => words.push(self.word(argument, spec)),
        }
    }

    fn word(&mut self, argument: &Argument, spec: &Spec) -> Vec<u8> {
        let chance = &mut self.chance;
        match argument.name {
            "value" if spec.group == Group::Server => return values::setting(chance),
            "value" if spec.group == Group::Bitmap && !one_in(chance, 3) => {
                return chance.below(2).to_string().into_bytes();
            }
            "serialized-value" if !self.payloads.is_empty() && !one_in(chance, 8) => {
                let mut payload = pick(chance, &self.payloads).clone();
                if one_in(chance, 10) {
                    let at = chance.below(payload.len() as u64) as usize;
                    payload[at] ^= 1 << chance.below(8);
                }
                return payload;
            }
            "field" | "member" | "element" => return values::field(chance),
            "key" => return values::key(chance, Group::String),
            _ => {}
        }
        if let Some(word) = values::named(chance, argument.name) {
            return word;
        }
        match argument.kind {
            ArgumentKind::Integer => values::integer(chance),
            ArgumentKind::Double => values::double(chance),
            ArgumentKind::Pattern => values::pattern(chance),
            ArgumentKind::UnixTime => values::unix_time(chance),
            _ => values::text(chance),
        }
    }
}

/// A literal word as it is declared, or in other letters.
fn cased(chance: &mut Chance, word: &str) -> Vec<u8> {
    match chance.below(10) {
        0 => word.to_ascii_lowercase().into_bytes(),
        1 => word
            .bytes()
            .map(
                |byte| {
                    if chance.below(2) == 0 { byte.to_ascii_lowercase() } else { byte.to_ascii_uppercase() }
                },
            )
            .collect(),
        _ => word.to_ascii_uppercase().into_bytes(),
    }
}
