//! Deadlines of fields of hashes: HEXPIRE and its kin, HTTL and its kin, HPERSIST, and what sets or gets fields with their
//! deadlines: HSETEX, HGETEX, HGETDEL. Redis has the first since 7.4, the others since 8.0.
//!
//! A deadline is stored as milliseconds since 1970. One that is already reached removes the field at once.

use super::expiry::Condition;
use super::hashes::limits;
use super::strings::NEW_OR_NO_DEADLINE;
use super::{Command, Failure, Outcome, Request, read, write};
use crate::base::number;
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::access::{ACCESS, DELETE, RO, RW, UPDATE};
use crate::protocol::spec::flag::{DENYOOM, FAST};
use crate::protocol::spec::syntax::{block, integer, key, one_of, string, token, unix_time};
use crate::protocol::spec::{Argument, Group, KeySpec};
use crate::store::{Key, Transaction, View};
use crate::types::hash::{self, DEADLINE_MAX, NewDeadline};
use std::collections::HashSet;

const FIELDS: Argument = block("fields", &[integer("numfields"), string("field").multiple()]).token("FIELDS");
const CONDITION: Argument =
    one_of("condition", &[token("nx", "NX"), token("xx", "XX"), token("gt", "GT"), token("lt", "LT")])
        .optional();
const WRITTEN: &[KeySpec] = &[KeySpec::one(1, RW.and(UPDATE))];
const READ: &[KeySpec] = &[KeySpec::one(1, RO.and(ACCESS))];
const MARKED: &[Argument] = &[key("key", 0), FIELDS];
const PER_FIELD: &str = "O(N), N fields named.";

const fn setter(command: Command) -> Command {
    command
        .arity(-6)
        .flags(DENYOOM.and(FAST))
        .group(Group::Hash)
        .keys(WRITTEN)
        .since("7.4.0")
        .complexity(PER_FIELD)
}

const fn getter(command: Command) -> Command {
    command
        .arity(-5)
        .flags(FAST)
        .group(Group::Hash)
        .keys(READ)
        .since("7.4.0")
        .complexity(PER_FIELD)
        .arguments(MARKED)
}

/// The declarations.
pub const COMMANDS: &[Command] = &[
    setter(write("hexpire", hexpire))
        .summary("Lets fields of a hash expire after a number of seconds.")
        .arguments(&[key("key", 0), integer("seconds"), CONDITION, FIELDS]),
    setter(write("hpexpire", hpexpire))
        .summary("Lets fields of a hash expire after a number of milliseconds.")
        .arguments(&[key("key", 0), integer("milliseconds"), CONDITION, FIELDS]),
    setter(write("hexpireat", hexpireat))
        .summary("Lets fields of a hash expire at a Unix time in seconds.")
        .arguments(&[key("key", 0), unix_time("unix-time-seconds"), CONDITION, FIELDS]),
    setter(write("hpexpireat", hpexpireat))
        .summary("Lets fields of a hash expire at a Unix time in milliseconds.")
        .arguments(&[key("key", 0), unix_time("unix-time-milliseconds"), CONDITION, FIELDS]),
    getter(read("httl", httl))
        .summary("Says how many seconds fields of a hash have left.")
        .tips(&["nondeterministic_output"]),
    getter(read("hpttl", hpttl))
        .summary("Says how many milliseconds fields of a hash have left.")
        .tips(&["nondeterministic_output"]),
    getter(read("hexpiretime", hexpiretime))
        .summary("Says at which Unix time, in seconds, fields of a hash expire."),
    getter(read("hpexpiretime", hpexpiretime))
        .summary("Says at which Unix time, in milliseconds, fields of a hash expire."),
    write("hpersist", hpersist)
        .arity(-5)
        .flags(FAST)
        .group(Group::Hash)
        .keys(WRITTEN)
        .since("7.4.0")
        .complexity(PER_FIELD)
        .summary("Takes the deadlines of fields of a hash away.")
        .arguments(MARKED),
    write("hgetdel", hgetdel)
        .arity(-5)
        .flags(FAST)
        .group(Group::Hash)
        .keys(&[KeySpec::one(1, RW.and(ACCESS).and(DELETE))])
        .since("8.0.0")
        .complexity(PER_FIELD)
        .summary("Returns the values of fields of a hash and removes the fields.")
        .arguments(MARKED),
    write("hgetex", hgetex)
        .arity(-5)
        .flags(FAST)
        .group(Group::Hash)
        .keys(&[KeySpec::one(1, RW.and(ACCESS).and(UPDATE))])
        .since("8.0.0")
        .complexity(PER_FIELD)
        .summary("Returns the values of fields of a hash, and may set their deadlines or take them away.")
        .arguments(&[key("key", 0), NEW_OR_NO_DEADLINE, FIELDS]),
    write("hsetex", hsetex)
        .arity(-6)
        .flags(DENYOOM.and(FAST))
        .group(Group::Hash)
        .keys(WRITTEN)
        .since("8.0.0")
        .complexity(PER_FIELD)
        .summary("Sets fields of a hash to values, with a deadline if wanted.")
        .arguments(&[
            key("key", 0),
            one_of("condition", &[token("fnx", "FNX"), token("fxx", "FXX")]).optional(),
            one_of(
                "expiration",
                &[
                    integer("seconds").token("EX"),
                    integer("milliseconds").token("PX"),
                    unix_time("unix-time-seconds").token("EXAT"),
                    unix_time("unix-time-milliseconds").token("PXAT"),
                    token("keepttl", "KEEPTTL"),
                ],
            )
            .optional(),
            block(
                "fields",
                &[integer("numfields"), block("data", &[string("field"), string("value")]).multiple()],
            )
            .token("FIELDS"),
        ]),
];

/// What is said of a field that does not exist.
const NO_FIELD: Reply = Reply::Int(-2);
const NO_DEADLINE: Reply = Reply::Int(-1);
const CONDITION_NOT_MET: Reply = Reply::Int(0);
const DONE: Reply = Reply::Int(1);
const REMOVED: Reply = Reply::Int(2);

const FIELDS_MISSING: ErrorReply =
    ErrorReply::fixed("ERR Mandatory argument FIELDS is missing or not at the right position");
const COUNT_MISMATCH: ErrorReply =
    ErrorReply::fixed("ERR The `numfields` parameter must match the number of arguments");
const COUNT_NOT_POSITIVE: ErrorReply = ErrorReply::fixed("ERR Number of fields must be a positive integer");
/// The same, in the words of what sets deadlines.
const COUNT_NOT_ABOVE_ZERO: ErrorReply =
    ErrorReply::fixed("ERR Parameter `numFields` should be greater than 0");
const NEGATIVE_TIME: ErrorReply = ErrorReply::fixed("ERR invalid expire time, must be >= 0");

/// Milliseconds in the unit of a time, and from when it counts: in milliseconds since 1970.
#[derive(Clone, Copy)]
struct Clock {
    unit: i64,
    base: i64,
}

impl Clock {
    fn seconds(base: i64) -> Clock {
        Clock { unit: 1000, base }
    }

    fn milliseconds(base: i64) -> Clock {
        Clock { unit: 1, base }
    }

    /// The one that a word asks for in HSETEX and HGETEX.
    fn named(word: &[u8], now: i64) -> Option<Clock> {
        match word.to_ascii_lowercase().as_slice() {
            b"ex" => Some(Clock::seconds(now)),
            b"px" => Some(Clock::milliseconds(now)),
            b"exat" => Some(Clock::seconds(0)),
            b"pxat" => Some(Clock::milliseconds(0)),
            _ => None,
        }
    }

    /// The deadline that the word at `index` stands for.
    fn deadline(self, request: &Request, index: usize, name: &str) -> Result<i64, ErrorReply> {
        let time = request.args.int(index)?;
        if time < 0 {
            return Err(NEGATIVE_TIME);
        }
        let at = time.checked_mul(self.unit).and_then(|time| time.checked_add(self.base));
        at.filter(|at| *at <= DEADLINE_MAX).ok_or_else(|| error::invalid_expire(name))
    }

    /// What is said of a deadline: begun units count.
    fn show(self, at: i64) -> i64 {
        (at - self.base + self.unit - 1) / self.unit
    }
}

/// The fields behind the word FIELDS at `index` and their number.
fn fields<'a>(
    request: &Request<'a>,
    index: usize,
    no_count: ErrorReply,
) -> Result<impl ExactSizeIterator<Item = &'a [u8]> + Clone + use<'a>, ErrorReply> {
    let args = request.args;
    if !args.get(index).is_some_and(|word| word.eq_ignore_ascii_case(b"FIELDS")) {
        return Err(FIELDS_MISSING);
    }
    let count = args.get(index + 1).and_then(number::parse_i64).filter(|count| *count > 0);
    let count = count.ok_or(no_count)?;
    let fields = args.from(index + 2);
    if fields.len() as i64 == count { Ok(fields) } else { Err(COUNT_MISMATCH) }
}

/// An error if `key` holds something else than a hash: said before anything that is wrong with the other words.
fn check_kind(request: &Request, view: &mut View) -> Result<(), Failure> {
    hash::find(view, &request.key(1))?;
    Ok(())
}

fn hexpire(request: &Request, transaction: &mut Transaction) -> Outcome {
    set(request, transaction, "hexpire", Clock::seconds(request.now))
}

fn hpexpire(request: &Request, transaction: &mut Transaction) -> Outcome {
    set(request, transaction, "hpexpire", Clock::milliseconds(request.now))
}

fn hexpireat(request: &Request, transaction: &mut Transaction) -> Outcome {
    set(request, transaction, "hexpireat", Clock::seconds(0))
}

fn hpexpireat(request: &Request, transaction: &mut Transaction) -> Outcome {
    set(request, transaction, "hpexpireat", Clock::milliseconds(0))
}

fn set(request: &Request, transaction: &mut Transaction, name: &str, clock: Clock) -> Outcome {
    check_kind(request, transaction)?;
    let at = clock.deadline(request, 2, name)?;
    let condition = Condition::named(request.args.at(3));
    let index = 3 + usize::from(condition.is_some());
    let condition = condition.unwrap_or_default();
    let fields = fields(request, index, COUNT_NOT_ABOVE_ZERO)?;
    let key = request.key(1);
    if at <= request.now {
        return remove_those_allowed(transaction, &key, fields, |old| condition.allows(old, at));
    }
    let choose = |old| condition.allows(old, at).then_some(Some(at));
    let found = hash::set_deadlines(transaction, &key, fields, choose)?;
    // A field that is named twice had this deadline the second time.
    let said = found.into_iter().map(|found| match found {
        None => NO_FIELD,
        Some(old) if condition.allows(old, at) => DONE,
        Some(_) => CONDITION_NOT_MET,
    });
    Ok(Reply::Array(said.collect()))
}

/// What a deadline that is already reached does.
fn remove_those_allowed<'a>(
    transaction: &mut Transaction,
    key: &Key,
    fields: impl Iterator<Item = &'a [u8]>,
    allows: impl Fn(Option<i64>) -> bool,
) -> Outcome {
    let (mut said, mut going) = (Vec::new(), HashSet::new());
    let entry = hash::find(transaction, key)?;
    for field in fields {
        let found = match &entry {
            Some(entry) if !going.contains(field) => hash::get_timed(transaction, key, entry, field)?,
            _ => None,
        };
        said.push(match found {
            None => NO_FIELD,
            Some((_, old)) if allows(old) => {
                going.insert(field);
                REMOVED
            }
            Some(_) => CONDITION_NOT_MET,
        });
    }
    hash::delete(transaction, key, going.into_iter())?;
    Ok(Reply::Array(said))
}

fn httl(request: &Request, view: &mut View) -> Outcome {
    get(request, view, Clock::seconds(request.now))
}

fn hpttl(request: &Request, view: &mut View) -> Outcome {
    get(request, view, Clock::milliseconds(request.now))
}

fn hexpiretime(request: &Request, view: &mut View) -> Outcome {
    get(request, view, Clock::seconds(0))
}

fn hpexpiretime(request: &Request, view: &mut View) -> Outcome {
    get(request, view, Clock::milliseconds(0))
}

fn get(request: &Request, view: &mut View, clock: Clock) -> Outcome {
    let key = request.key(1);
    let entry = hash::find(view, &key)?;
    let mut said = Vec::new();
    for field in fields(request, 2, COUNT_NOT_POSITIVE)? {
        let found = match &entry {
            Some(entry) => hash::get_timed(view, &key, entry, field)?,
            None => None,
        };
        said.push(match found {
            None => NO_FIELD,
            Some((_, None)) => NO_DEADLINE,
            Some((_, Some(at))) => Reply::Int(clock.show(at)),
        });
    }
    Ok(Reply::Array(said))
}

fn hpersist(request: &Request, transaction: &mut Transaction) -> Outcome {
    check_kind(request, transaction)?;
    let fields = fields(request, 2, COUNT_NOT_POSITIVE)?;
    let found = hash::set_deadlines(transaction, &request.key(1), fields, |old| old.map(|_| None))?;
    let said = found.into_iter().map(|found| match found {
        None => NO_FIELD,
        Some(None) => NO_DEADLINE,
        Some(Some(_)) => DONE,
    });
    Ok(Reply::Array(said.collect()))
}

/// The values of fields. If they `go_after`, one that is named again is not there any more.
fn values<'a>(
    request: &Request,
    view: &mut View,
    fields: impl Iterator<Item = &'a [u8]>,
    go_after: bool,
) -> Result<Vec<Reply>, Failure> {
    let key = request.key(1);
    let entry = hash::find(view, &key)?;
    let (mut replies, mut gone) = (Vec::new(), HashSet::new());
    for field in fields {
        let is_gone = go_after && !gone.insert(field);
        let value = match &entry {
            Some(entry) if !is_gone => hash::get(view, &key, entry, field)?,
            _ => None,
        };
        replies.push(Reply::optional(value));
    }
    Ok(replies)
}

fn hgetdel(request: &Request, transaction: &mut Transaction) -> Outcome {
    check_kind(request, transaction)?;
    let fields = fields(request, 2, COUNT_NOT_POSITIVE)?;
    let values = values(request, transaction, fields.clone(), true)?;
    hash::delete(transaction, &request.key(1), fields)?;
    Ok(Reply::Array(values))
}

fn hgetex(request: &Request, transaction: &mut Transaction) -> Outcome {
    check_kind(request, transaction)?;
    let (word, key) = (request.args.at(2), request.key(1));
    let (new, index) = if let Some(clock) = Clock::named(word, request.now) {
        (Some(Some(clock.deadline(request, 3, "hgetex")?)), 4)
    } else if word.eq_ignore_ascii_case(b"PERSIST") {
        (Some(None), 3)
    } else {
        (None, 2)
    };
    let fields = fields(request, index, COUNT_NOT_POSITIVE)?;
    let is_reached = new.flatten().is_some_and(|at| at <= request.now);
    let values = values(request, transaction, fields.clone(), is_reached)?;
    if is_reached {
        hash::delete(transaction, &key, fields)?;
    } else if let Some(new) = new {
        hash::set_deadlines(transaction, &key, fields, |old| (old != new).then_some(new))?;
    }
    Ok(Reply::Array(values))
}

/// The words before the fields of HSETEX.
struct SetOptions {
    /// Only if all of the fields exist (true), or none of them (false).
    condition: Option<bool>,
    deadline: NewDeadline,
    /// Index of the first field.
    first: usize,
}

impl SetOptions {
    fn parse(request: &Request) -> Result<SetOptions, ErrorReply> {
        let args = request.args;
        let (mut condition, mut deadline, mut index) = (None, None, 2);
        loop {
            let Some(word) = args.get(index) else { return Err(error::wrong_arity("hsetex")) };
            if word.eq_ignore_ascii_case(b"FIELDS") {
                break;
            }
            let existing = [(&b"FXX"[..], true), (b"FNX", false)];
            if let Some((_, existing)) = existing.iter().find(|(name, _)| word.eq_ignore_ascii_case(name)) {
                if condition.replace(*existing).is_some() {
                    return Err(ErrorReply::fixed("ERR Only one of FXX or FNX arguments can be specified"));
                }
            } else {
                let clock = Clock::named(word, request.now);
                if clock.is_none() && !word.eq_ignore_ascii_case(b"KEEPTTL") {
                    return Err(ErrorReply::quoting("ERR unknown argument: ", word, ""));
                }
                if deadline.is_some() {
                    return Err(ErrorReply::fixed(
                        "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified",
                    ));
                }
                deadline = Some(NewDeadline::Kept);
                if let Some(clock) = clock {
                    index += 1;
                    if index >= args.len() {
                        return Err(ErrorReply::fixed("ERR missing expire time"));
                    }
                    deadline = Some(NewDeadline::At(clock.deadline(request, index, "hsetex")?));
                }
            }
            index += 1;
        }
        let left = args.len() - index - 1;
        if left < 3 {
            return Err(error::wrong_arity("hsetex"));
        }
        let count = number::parse_i64(args.at(index + 1));
        let count = count.filter(|count| (1..=i64::from(i32::MAX)).contains(count));
        let count = count.ok_or(ErrorReply::fixed("ERR invalid number of fields"))?;
        if (left - 1) as i64 != count * 2 {
            return Err(error::wrong_arity("hsetex"));
        }
        Ok(SetOptions { condition, deadline: deadline.unwrap_or(NewDeadline::None), first: index + 2 })
    }
}

fn hsetex(request: &Request, transaction: &mut Transaction) -> Outcome {
    let options = SetOptions::parse(request)?;
    let (key, args) = (request.key(1), request.args);
    let entry = hash::find(transaction, &key)?;
    let pairs = (options.first..args.len()).step_by(2).map(|index| (args.at(index), args.at(index + 1)));
    if let Some(wanted) = options.condition {
        for (field, _) in pairs.clone() {
            let exists = match &entry {
                Some(entry) => hash::get(transaction, &key, entry, field)?.is_some(),
                None => false,
            };
            if exists != wanted {
                return Ok(Reply::Int(0));
            }
        }
    }
    match options.deadline {
        NewDeadline::At(at) if at <= request.now => {
            hash::delete(transaction, &key, pairs.map(|(field, _)| field))?;
        }
        deadline => drop(hash::set(transaction, &key, pairs, deadline, limits(request))?),
    }
    Ok(DONE)
}
