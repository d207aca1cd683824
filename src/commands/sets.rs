//! Sets: adding, removing, looking up and drawing members, walks.

use super::scan::{Part, parse_cursor};
use super::{Command, Failure, Outcome, Request, read, write};
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::access::{ACCESS, DELETE, INSERT, RO, RW};
use crate::protocol::spec::flag::{DENYOOM, FAST};
use crate::protocol::spec::syntax::{integer, key, pattern, string};
use crate::protocol::spec::{Argument, Group, KeySpec};
use crate::session::apply::value_limits;
use crate::store::{Key, Transaction, View};
use crate::types::set::{self, Limits, Member};

const READ: &[KeySpec] = &[KeySpec::one(1, RO)];
const SHOWN: &[KeySpec] = &[KeySpec::one(1, RO.and(ACCESS))];
const MEMBERS: &[Argument] = &[key("key", 0), string("member").multiple()];
const SEVERAL: &[(&str, &str)] = &[("2.4.0", "Several members.")];

const fn about_set(command: Command) -> Command {
    command.group(Group::Set)
}

/// The declarations.
pub const COMMANDS: &[Command] = &[
    about_set(write("sadd", sadd))
        .arity(-3)
        .flags(DENYOOM.and(FAST))
        .keys(&[KeySpec::one(1, RW.and(INSERT))])
        .since("1.0.0")
        .complexity("O(N), N members named.")
        .summary("Adds members to a set and returns how many were new.")
        .history(SEVERAL)
        .arguments(MEMBERS),
    about_set(write("srem", srem))
        .arity(-3)
        .flags(FAST)
        .keys(&[KeySpec::one(1, RW.and(DELETE))])
        .since("1.0.0")
        .complexity("O(N), N members named.")
        .summary("Removes members of a set; the key goes with the last one.")
        .history(SEVERAL)
        .arguments(MEMBERS),
    about_set(read("smembers", smembers))
        .arity(2)
        .keys(SHOWN)
        .since("1.0.0")
        .complexity("O(N), N members in the set.")
        .summary("Returns all members of a set.")
        .tips(&["nondeterministic_output_order"])
        .arguments(&[key("key", 0)]),
    about_set(read("sismember", sismember))
        .arity(3)
        .flags(FAST)
        .keys(READ)
        .since("1.0.0")
        .complexity("O(1)")
        .summary("Tells whether a set has a member.")
        .arguments(&[key("key", 0), string("member")]),
    about_set(read("smismember", smismember))
        .arity(-3)
        .flags(FAST)
        .keys(SHOWN)
        .since("6.2.0")
        .complexity("O(N), N members asked for.")
        .summary("Tells of several members whether a set has them.")
        .arguments(MEMBERS),
    about_set(read("scard", scard))
        .arity(2)
        .flags(FAST)
        .keys(READ)
        .since("1.0.0")
        .complexity("O(1)")
        .summary("Returns how many members a set has.")
        .arguments(&[key("key", 0)]),
    about_set(write("smove", smove))
        .arity(4)
        .flags(FAST)
        .keys(&[KeySpec::one(1, RW.and(ACCESS).and(DELETE)), KeySpec::one(2, RW.and(INSERT))])
        .since("1.0.0")
        .complexity("O(1)")
        .summary("Moves a member from one set to another.")
        .arguments(&[key("source", 0), key("destination", 1), string("member")]),
    about_set(write("spop", spop))
        .arity(-2)
        .flags(FAST)
        .keys(&[KeySpec::one(1, RW.and(ACCESS).and(DELETE))])
        .since("1.0.0")
        .complexity("O(N), N members returned.")
        .summary("Removes members of a set at random and returns them.")
        .history(&[("3.2.0", "The argument `count`.")])
        .tips(&["nondeterministic_output"])
        .arguments(&[key("key", 0), integer("count").optional().since("3.2.0")]),
    about_set(read("srandmember", srandmember))
        .arity(-2)
        .keys(SHOWN)
        .since("1.0.0")
        .complexity("O(N), N members returned.")
        .summary("Returns members of a set at random.")
        .history(&[("2.6.0", "The argument `count`.")])
        .tips(&["nondeterministic_output"])
        .arguments(&[key("key", 0), integer("count").optional().since("2.6.0")]),
    about_set(read("sscan", sscan))
        .arity(-3)
        .keys(SHOWN)
        .since("2.8.0")
        .complexity("O(1) a call, O(N) for a whole walk over N members.")
        .summary("Walks through the members of a set, a part at each call.")
        .tips(&["nondeterministic_output"])
        .arguments(&[
            key("key", 0),
            integer("cursor"),
            pattern("pattern").token("MATCH").optional(),
            integer("count").token("COUNT").optional(),
        ]),
];

/// How large a set of one row may be under the settings in force.
pub(super) fn limits(request: &Request) -> Limits {
    value_limits(request.settings).set
}

/// A member in a reply.
pub(super) fn shown(member: Member) -> Reply {
    match member {
        Member::Integer(value) => Reply::bulk(itoa::Buffer::new().format(value)),
        Member::Text(text) => Reply::Slice(text),
    }
}

fn sadd(request: &Request, transaction: &mut Transaction) -> Outcome {
    let added = set::add(transaction, &request.key(1), request.args.from(2), limits(request))?;
    Ok(Reply::Int(added as i64))
}

fn srem(request: &Request, transaction: &mut Transaction) -> Outcome {
    let removed = set::remove(transaction, &request.key(1), request.args.from(2))?;
    Ok(Reply::Int(removed as i64))
}

fn smembers(request: &Request, view: &mut View) -> Outcome {
    let key = request.key(1);
    let Some(entry) = set::find(view, &key)? else { return Ok(Reply::Set(Vec::new())) };
    let members = set::members(view, &key, &entry)?;
    Ok(Reply::Set(members.into_iter().map(shown).collect()))
}

fn sismember(request: &Request, view: &mut View) -> Outcome {
    let key = request.key(1);
    let Some(entry) = set::find(view, &key)? else { return Ok(Reply::Int(0)) };
    Ok(Reply::from(set::has(view, &key, &entry, request.args.at(2))?))
}

fn smismember(request: &Request, view: &mut View) -> Outcome {
    let key = request.key(1);
    let entry = set::find(view, &key)?;
    let mut replies = Vec::with_capacity(request.args.len() - 2);
    for member in request.args.from(2) {
        replies.push(match &entry {
            Some(entry) => Reply::from(set::has(view, &key, entry, member)?),
            None => Reply::Int(0),
        });
    }
    Ok(Reply::Array(replies))
}

fn scard(request: &Request, view: &mut View) -> Outcome {
    let entry = set::find(view, &request.key(1))?;
    Ok(Reply::Int(entry.map_or(0, |entry| set::len(&entry) as i64)))
}

/// Of a missing source the type of what is at the destination does not matter.
fn smove(request: &Request, transaction: &mut Transaction) -> Outcome {
    let (from, to, member) = (request.key(1), request.key(2), request.args.at(3));
    let source = transaction.get(&from)?;
    let Some(source) = source else {
        transaction.get(&to)?;
        return Ok(Reply::Int(0));
    };
    let source = set::check(Some(source))?;
    set::find(transaction, &to)?;
    if from.name == to.name {
        let Some(source) = source else { return Ok(Reply::Int(0)) };
        return Ok(Reply::from(set::has(transaction, &from, &source, member)?));
    }
    let removed = set::remove(transaction, &from, std::iter::once(member))?;
    if removed > 0 {
        set::add(transaction, &to, std::iter::once(member), limits(request))?;
    }
    Ok(Reply::from(removed > 0))
}

fn spop(request: &Request, transaction: &mut Transaction) -> Outcome {
    let key = request.key(1);
    match request.args.len() {
        2 => Ok(set::pop(transaction, &key)?.map_or(Reply::Null, shown)),
        3 => {
            let count = request.args.int(2).ok().and_then(|count| u64::try_from(count).ok());
            let count = count.ok_or(error::OUT_OF_RANGE_POSITIVE)?;
            let popped = set::pop_some(transaction, &key, count, limits(request))?;
            Ok(Reply::Set(popped.into_iter().map(shown).collect()))
        }
        _ => Err(error::SYNTAX.into()),
    }
}

/// More members than this are not drawn with repeats: Redis would fill its memory until it is killed.
const REPEATS_MAX: u64 = 1 << 24;
/// Bytes of the shortest string in a reply: `$0`, two line ends.
const BULK_LEN_MIN: u64 = 6;

fn srandmember(request: &Request, view: &mut View) -> Outcome {
    let key = request.key(1);
    let mut replies = Vec::new();
    let mut take = |member| replies.push(shown(member));
    match request.args.len() {
        2 => {
            let Some(entry) = set::find(view, &key)? else { return Ok(Reply::Null) };
            set::random_repeated(view, &key, &entry, 1, &mut take)?;
            Ok(replies.pop().unwrap_or(Reply::Null))
        }
        3 => {
            random_members(request, view, &key, &mut take)?;
            Ok(Reply::Array(replies))
        }
        _ => Err(error::SYNTAX.into()),
    }
}

fn random_members(
    request: &Request,
    view: &mut View,
    key: &Key,
    take: &mut dyn FnMut(Member),
) -> Result<(), Failure> {
    let count = request.args.int(2)?;
    if count == i64::MIN {
        let (min, max) = (-i64::MAX, i64::MAX);
        return Err(ErrorReply::new(format!(
            "ERR value is out of range, value must between {min} and {max}"
        ))
        .into());
    }
    let Some(entry) = set::find(view, key)?.filter(|_| count != 0) else { return Ok(()) };
    if count > 0 {
        set::random_distinct(view, key, &entry, count as usize, take)?;
        return Ok(());
    }
    let repeats = count.unsigned_abs();
    request.reply_fits(repeats.saturating_mul(BULK_LEN_MIN))?;
    if repeats > REPEATS_MAX {
        return Err(error::OUT_OF_RANGE.into());
    }
    set::random_repeated(view, key, &entry, repeats as usize, take)?;
    Ok(())
}

fn sscan(request: &Request, view: &mut View) -> Outcome {
    let cursor = parse_cursor(request.args.at(2)).ok_or(error::INVALID_CURSOR)?;
    let key = request.key(1);
    let Some(entry) = set::find(view, &key)? else { return Ok(Part::reply(0, Vec::new())) };
    let part = Part::parse(request)?;
    let mut found = Vec::new();
    let next = set::scan(view, &key, &entry, cursor, part.count, &mut |member| {
        if part.has(member) {
            found.push(Reply::bulk(member));
        }
    })?;
    Ok(Part::reply(next, found))
}
