//! Lists: putting elements at their ends, taking them, reading them.

use super::{Command, Failure, Outcome, Request, read, write};
use crate::base::number;
use crate::protocol::error;
use crate::protocol::reply::Reply;
use crate::protocol::spec::access::{ACCESS, DELETE, INSERT, RO, RW, UPDATE};
use crate::protocol::spec::flag::{DENYOOM, FAST};
use crate::protocol::spec::syntax::{integer, key, string};
use crate::protocol::spec::{Argument, Group, KeySpec};
use crate::session::apply::value_limits;
use crate::store::{Entry, Transaction, View};
use crate::types::list::{self, Limits, Side};

/// The declarations.
pub const COMMANDS: &[Command] = &[
    pusher(write("lpush", lpush))
        .since("1.0.0")
        .summary("Puts elements at the beginning of a list, one after the other.")
        .history(&[("2.4.0", "Several elements.")]),
    pusher(write("rpush", rpush))
        .since("1.0.0")
        .summary("Puts elements at the end of a list, one after the other.")
        .history(&[("2.4.0", "Several elements.")]),
    pusher(write("lpushx", lpushx))
        .since("2.2.0")
        .summary("Puts elements at the beginning of a list that exists.")
        .history(&[("4.0.0", "Several elements.")]),
    pusher(write("rpushx", rpushx))
        .since("2.2.0")
        .summary("Puts elements at the end of a list that exists.")
        .history(&[("4.0.0", "Several elements.")]),
    popper(write("lpop", lpop)).summary("Takes elements from the beginning of a list."),
    popper(write("rpop", rpop)).summary("Takes elements from the end of a list."),
    read("llen", llen)
        .arity(2)
        .flags(FAST)
        .group(Group::List)
        .keys(&[KeySpec::one(1, RO)])
        .since("1.0.0")
        .complexity("O(1)")
        .summary("Returns how many elements a list has.")
        .arguments(&[key("key", 0)]),
    read("lrange", lrange)
        .arity(4)
        .group(Group::List)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("1.0.0")
        .complexity("O(log(S)+N), N elements returned, S in the list.")
        .summary("Returns the elements of a list between two places.")
        .arguments(&[key("key", 0), integer("start"), integer("stop")]),
    read("lindex", lindex)
        .arity(3)
        .group(Group::List)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("1.0.0")
        .complexity("O(log(N)), N elements in the list.")
        .summary("Returns the element at a place of a list.")
        .arguments(&[key("key", 0), integer("index")]),
    write("lset", lset)
        .arity(4)
        .flags(DENYOOM)
        .group(Group::List)
        .keys(&[KeySpec::one(1, RW.and(UPDATE))])
        .since("1.0.0")
        .complexity("O(log(N)), N elements in the list.")
        .summary("Replaces the element at a place of a list.")
        .arguments(&[key("key", 0), integer("index"), string("element")]),
    write("ltrim", ltrim)
        .arity(4)
        .group(Group::List)
        .keys(&[KeySpec::one(1, RW.and(DELETE))])
        .since("1.0.0")
        .complexity("O(N), N elements removed.")
        .summary("Removes all elements of a list but those between two places.")
        .arguments(&[key("key", 0), integer("start"), integer("stop")]),
];

const PUSH_KEY: &[KeySpec] = &[KeySpec::one(1, RW.and(INSERT))];
const PUSH_SYNTAX: &[Argument] = &[key("key", 0), string("element").multiple()];
const POP_KEY: &[KeySpec] = &[KeySpec::one(1, RW.and(ACCESS).and(DELETE))];
const POP_SYNTAX: &[Argument] = &[key("key", 0), integer("count").optional().since("6.2.0")];

const fn pusher(command: Command) -> Command {
    command
        .arity(-3)
        .flags(DENYOOM.and(FAST))
        .group(Group::List)
        .keys(PUSH_KEY)
        .complexity("O(N), N elements put.")
        .arguments(PUSH_SYNTAX)
}

const fn popper(command: Command) -> Command {
    command
        .arity(-2)
        .flags(FAST)
        .group(Group::List)
        .keys(POP_KEY)
        .since("1.0.0")
        .complexity("O(N), N elements taken.")
        .history(&[("6.2.0", "The argument `count`.")])
        .arguments(POP_SYNTAX)
}

/// How large a small list may be under the settings in force.
pub(super) fn limits(request: &Request) -> Limits {
    value_limits(request.settings).list
}

fn push(request: &Request, transaction: &mut Transaction, side: Side, must_exist: bool) -> Outcome {
    let key = request.key(1);
    let entry = list::find(transaction, &key)?;
    if must_exist && entry.is_none() {
        return Ok(Reply::Int(0));
    }
    let new = request.args.from(2);
    let len = list::push(transaction, &key, entry.as_ref(), side, new, limits(request))?;
    Ok(Reply::Int(len as i64))
}

fn lpush(request: &Request, transaction: &mut Transaction) -> Outcome {
    push(request, transaction, Side::Left, false)
}

fn rpush(request: &Request, transaction: &mut Transaction) -> Outcome {
    push(request, transaction, Side::Right, false)
}

fn lpushx(request: &Request, transaction: &mut Transaction) -> Outcome {
    push(request, transaction, Side::Left, true)
}

fn rpushx(request: &Request, transaction: &mut Transaction) -> Outcome {
    push(request, transaction, Side::Right, true)
}

/// Takes up to `count` elements; they are all that a reply needs.
pub(super) fn take(
    request: &Request,
    transaction: &mut Transaction,
    name: &[u8],
    entry: &Entry,
    (side, count): (Side, u64),
) -> Result<Vec<Reply>, Failure> {
    let taken = list::pop(transaction, &crate::store::Key::new(request.database, name), entry, side, count)?;
    Ok(taken.into_iter().map(Reply::Slice).collect())
}

fn pop(request: &Request, transaction: &mut Transaction, side: Side, name: &str) -> Outcome {
    let args = request.args;
    if args.len() > 3 {
        return Err(error::wrong_arity(name).into());
    }
    let count = match args.get(2) {
        None => None,
        Some(word) => {
            let count = number::parse_i64(word).and_then(|count| u64::try_from(count).ok());
            Some(count.ok_or(error::OUT_OF_RANGE_POSITIVE)?)
        }
    };
    let Some(entry) = list::find(transaction, &request.key(1))? else {
        return Ok(if count.is_some() { Reply::NullArray } else { Reply::Null });
    };
    let mut taken = take(request, transaction, args.at(1), &entry, (side, count.unwrap_or(1)))?;
    Ok(if count.is_some() { Reply::Array(taken) } else { taken.pop().unwrap_or(Reply::Null) })
}

fn lpop(request: &Request, transaction: &mut Transaction) -> Outcome {
    pop(request, transaction, Side::Left, "lpop")
}

fn rpop(request: &Request, transaction: &mut Transaction) -> Outcome {
    pop(request, transaction, Side::Right, "rpop")
}

fn llen(request: &Request, view: &mut View) -> Outcome {
    let entry = list::find(view, &request.key(1))?;
    Ok(Reply::Int(entry.map_or(Ok(0), |entry| list::len(&entry))? as i64))
}

/// Elements that room is made for at once: what a damaged row says their number is, may be any.
const RESERVED_MAX: u64 = 1 << 16;

fn lrange(request: &Request, view: &mut View) -> Outcome {
    let (start, stop) = (request.args.int(2)?, request.args.int(3)?);
    let key = request.key(1);
    let Some(entry) = list::find(view, &key)? else { return Ok(Reply::Array(Vec::new())) };
    let span = list::span(list::len(&entry)?, start, stop);
    let mut replies = Vec::with_capacity((span.end - span.start).min(RESERVED_MAX) as usize);
    let mut bytes = 0;
    let mut is_too_long = false;
    list::visit(view, &key, &entry, span, &mut |element| {
        bytes += element.len() as u64;
        is_too_long |= request.reply_fits(bytes).is_err();
        if !is_too_long {
            replies.push(Reply::Slice(element));
        }
    })?;
    request.reply_fits(bytes)?;
    Ok(Reply::Array(replies))
}

fn lindex(request: &Request, view: &mut View) -> Outcome {
    let key = request.key(1);
    let Some(entry) = list::find(view, &key)? else { return Ok(Reply::Null) };
    Ok(Reply::optional(list::get(view, &key, &entry, request.args.int(2)?)?))
}

fn lset(request: &Request, transaction: &mut Transaction) -> Outcome {
    let key = request.key(1);
    let entry = list::find(transaction, &key)?.ok_or(error::NO_SUCH_KEY)?;
    let index = request.args.int(2)?;
    if list::set(transaction, &key, &entry, index, request.args.at(3), limits(request))? {
        Ok(Reply::Ok)
    } else {
        Err(error::INDEX_OUT_OF_RANGE.into())
    }
}

fn ltrim(request: &Request, transaction: &mut Transaction) -> Outcome {
    let (start, stop) = (request.args.int(2)?, request.args.int(3)?);
    let key = request.key(1);
    if let Some(entry) = list::find(transaction, &key)? {
        let span = list::span(list::len(&entry)?, start, stop);
        list::trim(transaction, &key, &entry, span)?;
    }
    Ok(Reply::Ok)
}
