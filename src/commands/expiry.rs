//! Deadlines of keys: EXPIRE and its kin, TTL and its kin, PERSIST.
//!
//! A deadline is stored as milliseconds since 1970. One that is already reached removes the key at once.

use super::{Command, Outcome, Request, read, write};
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::access::{ACCESS, RO, RW, UPDATE};
use crate::protocol::spec::flag::FAST;
use crate::protocol::spec::syntax::{integer, key, one_of, token, unix_time};
use crate::protocol::spec::{Argument, KeySpec};
use crate::store::{Transaction, View};
use crate::types::keyspace;

const WRITTEN: &[KeySpec] = &[KeySpec::one(1, RW.and(UPDATE))];
const ONE_KEY: &[Argument] = &[key("key", 0)];
const READ: &[KeySpec] = &[KeySpec::one(1, RO.and(ACCESS))];
const CONDITION: Argument =
    one_of("condition", &[token("nx", "NX"), token("xx", "XX"), token("gt", "GT"), token("lt", "LT")])
        .optional()
        .since("7.0.0");
const CONDITION_HISTORY: &[(&str, &str)] = &[("7.0.0", "Conditions `NX`, `XX`, `GT` and `LT`.")];
const MINUS_TWO_HISTORY: &[(&str, &str)] = &[("2.8.0", "-2 for a key that does not exist.")];
const NONDETERMINISTIC: &[&str] = &["nondeterministic_output"];

const fn setter(command: Command) -> Command {
    command.arity(-3).flags(FAST).keys(WRITTEN).complexity("O(1)").history(CONDITION_HISTORY)
}

const fn getter(command: Command) -> Command {
    command.arity(2).flags(FAST).keys(READ).complexity("O(1)").arguments(ONE_KEY)
}

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[
    setter(write("expire", expire))
        .since("1.0.0")
        .summary("Lets a key expire after a number of seconds.")
        .arguments(&[key("key", 0), integer("seconds"), CONDITION]),
    setter(write("pexpire", pexpire))
        .since("2.6.0")
        .summary("Lets a key expire after a number of milliseconds.")
        .arguments(&[key("key", 0), integer("milliseconds"), CONDITION]),
    setter(write("expireat", expireat))
        .since("1.2.0")
        .summary("Lets a key expire at a Unix time in seconds.")
        .arguments(&[key("key", 0), unix_time("unix-time-seconds"), CONDITION]),
    setter(write("pexpireat", pexpireat))
        .since("2.6.0")
        .summary("Lets a key expire at a Unix time in milliseconds.")
        .arguments(&[key("key", 0), unix_time("unix-time-milliseconds"), CONDITION]),
    getter(read("ttl", ttl))
        .since("1.0.0")
        .summary("Says how many seconds a key has left.")
        .history(MINUS_TWO_HISTORY)
        .tips(NONDETERMINISTIC),
    getter(read("pttl", pttl))
        .since("2.6.0")
        .summary("Says how many milliseconds a key has left.")
        .history(MINUS_TWO_HISTORY)
        .tips(NONDETERMINISTIC),
    getter(read("expiretime", expiretime))
        .since("7.0.0")
        .summary("Says at which Unix time, in seconds, a key expires."),
    getter(read("pexpiretime", pexpiretime))
        .since("7.0.0")
        .summary("Says at which Unix time, in milliseconds, a key expires."),
    write("persist", persist)
        .arity(2)
        .flags(FAST)
        .keys(WRITTEN)
        .since("2.2.0")
        .complexity("O(1)")
        .summary("Takes a key's deadline away.")
        .arguments(&[key("key", 0)]),
];

const NX_AND_OTHERS: ErrorReply =
    ErrorReply::fixed("ERR NX and XX, GT or LT options at the same time are not compatible");
const GT_AND_LT: ErrorReply = ErrorReply::fixed("ERR GT and LT options at the same time are not compatible");

fn expire(request: &Request, transaction: &mut Transaction) -> Outcome {
    set(request, transaction, "expire", 1000, request.now)
}

fn pexpire(request: &Request, transaction: &mut Transaction) -> Outcome {
    set(request, transaction, "pexpire", 1, request.now)
}

fn expireat(request: &Request, transaction: &mut Transaction) -> Outcome {
    set(request, transaction, "expireat", 1000, 0)
}

fn pexpireat(request: &Request, transaction: &mut Transaction) -> Outcome {
    set(request, transaction, "pexpireat", 1, 0)
}

/// Under which conditions a deadline is set.
#[derive(Clone, Copy, Default)]
pub(super) struct Condition {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Condition {
    fn parse(request: &Request) -> Result<Condition, ErrorReply> {
        let mut condition = Condition::default();
        for word in request.args.from(3) {
            if !condition.add(word) {
                return Err(ErrorReply::quoting("ERR Unsupported option ", word, ""));
            }
        }
        if condition.nx && (condition.xx || condition.gt || condition.lt) {
            return Err(NX_AND_OTHERS);
        }
        if condition.gt && condition.lt {
            return Err(GT_AND_LT);
        }
        Ok(condition)
    }

    /// The one with this name.
    pub(super) fn named(word: &[u8]) -> Option<Condition> {
        let mut condition = Condition::default();
        condition.add(word).then_some(condition)
    }

    /// Adds the one with this name; whether there is one.
    fn add(&mut self, word: &[u8]) -> bool {
        let flag = match word.to_ascii_lowercase().as_slice() {
            b"nx" => &mut self.nx,
            b"xx" => &mut self.xx,
            b"gt" => &mut self.gt,
            b"lt" => &mut self.lt,
            _ => return false,
        };
        *flag = true;
        true
    }

    /// Without a deadline a key lives for ever: nothing is greater, everything is less.
    pub(super) fn allows(self, current: Option<i64>, new: i64) -> bool {
        !(self.nx && current.is_some()
            || self.xx && current.is_none()
            || self.gt && current.is_none_or(|current| new <= current)
            || self.lt && current.is_some_and(|current| new >= current))
    }
}

fn set(request: &Request, transaction: &mut Transaction, name: &str, unit: i64, base: i64) -> Outcome {
    let condition = Condition::parse(request)?;
    let when = request.args.int(2)?.checked_mul(unit).and_then(|when| when.checked_add(base));
    let when = when.ok_or_else(|| error::invalid_expire(name))?;
    let key = request.key(1);
    let Some(entry) = transaction.get(&key)? else { return Ok(Reply::Int(0)) };
    if !condition.allows(entry.expire_at(), when) {
        return Ok(Reply::Int(0));
    }
    if when <= request.now {
        transaction.remove(&key)?;
    } else {
        keyspace::set_deadline(transaction, &key, &entry, Some(when))?;
    }
    Ok(Reply::Int(1))
}

fn ttl(request: &Request, view: &mut View) -> Outcome {
    get(request, view, |at| ((at - request.now).max(0) + 500) / 1000)
}

fn pttl(request: &Request, view: &mut View) -> Outcome {
    get(request, view, |at| (at - request.now).max(0))
}

fn expiretime(request: &Request, view: &mut View) -> Outcome {
    get(request, view, |at| at.saturating_add(500) / 1000)
}

fn pexpiretime(request: &Request, view: &mut View) -> Outcome {
    get(request, view, |at| at)
}

/// -2 for a missing key, -1 for one without a deadline, else what `show` makes of it.
fn get(request: &Request, view: &mut View, show: impl Fn(i64) -> i64) -> Outcome {
    let entry = view.peek(&request.key(1))?;
    Ok(Reply::Int(entry.map_or(-2, |entry| entry.expire_at().map_or(-1, show))))
}

fn persist(request: &Request, transaction: &mut Transaction) -> Outcome {
    let key = request.key(1);
    match transaction.get(&key)? {
        Some(entry) if entry.expire_at().is_some() => {
            keyspace::set_deadline(transaction, &key, &entry, None)?;
            Ok(Reply::Int(1))
        }
        _ => Ok(Reply::Int(0)),
    }
}
