//! Hashes: setting, reading and removing fields.

use super::{Command, Outcome, Request, read, write};
use crate::protocol::error;
use crate::protocol::reply::Reply;
use crate::protocol::spec::access::{ACCESS, DELETE, INSERT, RO, RW, UPDATE};
use crate::protocol::spec::flag::{DENYOOM, FAST};
use crate::protocol::spec::syntax::{block, key, string};
use crate::protocol::spec::{Group, KeySpec};
use crate::session::apply::value_limits;
use crate::store::{Transaction, View};
use crate::types::hash::{self, Limits, NewDeadline};

/// The declarations.
pub const COMMANDS: &[Command] = &[
    write("hset", hset)
        .arity(-4)
        .flags(DENYOOM.and(FAST))
        .group(Group::Hash)
        .keys(&[KeySpec::one(1, RW.and(UPDATE))])
        .since("2.0.0")
        .complexity("O(N), N fields.")
        .summary("Sets fields of a hash to values and returns how many were new.")
        .history(&[("4.0.0", "Several fields and values.")])
        .arguments(&[key("key", 0), block("field_value", &[string("field"), string("value")]).multiple()]),
    write("hsetnx", hsetnx)
        .arity(4)
        .flags(DENYOOM.and(FAST))
        .group(Group::Hash)
        .keys(&[KeySpec::one(1, RW.and(INSERT))])
        .since("2.0.0")
        .complexity("O(1)")
        .summary("Sets a field of a hash that does not exist.")
        .arguments(&[key("key", 0), string("field"), string("value")]),
    write("hmset", hmset)
        .arity(-4)
        .flags(DENYOOM.and(FAST))
        .group(Group::Hash)
        .keys(&[KeySpec::one(1, RW.and(UPDATE))])
        .since("2.0.0")
        .complexity("O(N), N fields.")
        .summary("Sets fields of a hash to values.")
        .deprecated("4.0.0", "`HSET` with multiple field-value pairs")
        .arguments(&[key("key", 0), block("field_value", &[string("field"), string("value")]).multiple()]),
    read("hget", hget)
        .arity(3)
        .flags(FAST)
        .group(Group::Hash)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("2.0.0")
        .complexity("O(1)")
        .summary("Returns the value of a field of a hash.")
        .arguments(&[key("key", 0), string("field")]),
    read("hmget", hmget)
        .arity(-3)
        .flags(FAST)
        .group(Group::Hash)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("2.0.0")
        .complexity("O(N), N fields asked for.")
        .summary("Returns the values of several fields of a hash.")
        .arguments(&[key("key", 0), string("field").multiple()]),
    read("hgetall", hgetall)
        .arity(2)
        .group(Group::Hash)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("2.0.0")
        .complexity("O(N), N fields in the hash.")
        .summary("Returns all fields and values of a hash.")
        .tips(&["nondeterministic_output_order"])
        .arguments(&[key("key", 0)]),
    read("hkeys", hkeys)
        .arity(2)
        .group(Group::Hash)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("2.0.0")
        .complexity("O(N), N fields in the hash.")
        .summary("Returns all fields of a hash.")
        .tips(&["nondeterministic_output_order"])
        .arguments(&[key("key", 0)]),
    read("hvals", hvals)
        .arity(2)
        .group(Group::Hash)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("2.0.0")
        .complexity("O(N), N fields in the hash.")
        .summary("Returns all values of a hash.")
        .tips(&["nondeterministic_output_order"])
        .arguments(&[key("key", 0)]),
    read("hlen", hlen)
        .arity(2)
        .flags(FAST)
        .group(Group::Hash)
        .keys(&[KeySpec::one(1, RO)])
        .since("2.0.0")
        .complexity("O(1)")
        .summary("Returns how many fields a hash has.")
        .arguments(&[key("key", 0)]),
    read("hstrlen", hstrlen)
        .arity(3)
        .flags(FAST)
        .group(Group::Hash)
        .keys(&[KeySpec::one(1, RO)])
        .since("3.2.0")
        .complexity("O(1)")
        .summary("Returns how many bytes the value of a field has.")
        .arguments(&[key("key", 0), string("field")]),
    read("hexists", hexists)
        .arity(3)
        .flags(FAST)
        .group(Group::Hash)
        .keys(&[KeySpec::one(1, RO)])
        .since("2.0.0")
        .complexity("O(1)")
        .summary("Tells whether a hash has a field.")
        .arguments(&[key("key", 0), string("field")]),
    write("hdel", hdel)
        .arity(-3)
        .flags(FAST)
        .group(Group::Hash)
        .keys(&[KeySpec::one(1, RW.and(DELETE))])
        .since("2.0.0")
        .complexity("O(N), N fields named.")
        .summary("Removes fields of a hash; the key goes with the last one.")
        .history(&[("2.4.0", "Several fields.")])
        .arguments(&[key("key", 0), string("field").multiple()]),
];

/// How large a small hash may be under the settings in force.
pub(super) fn limits(request: &Request) -> Limits {
    value_limits(request.settings).hash
}

/// Sets the fields and values from the second word on. Returns how many fields are new.
fn set_pairs(request: &Request, transaction: &mut Transaction, name: &str) -> Result<usize, super::Failure> {
    let args = request.args;
    if !args.len().is_multiple_of(2) {
        return Err(error::wrong_arity(name).into());
    }
    let pairs = (2..args.len()).step_by(2).map(|index| (args.at(index), args.at(index + 1)));
    Ok(hash::set(transaction, &request.key(1), pairs, NewDeadline::None, limits(request))?)
}

fn hset(request: &Request, transaction: &mut Transaction) -> Outcome {
    Ok(Reply::Int(set_pairs(request, transaction, "hset")? as i64))
}

fn hmset(request: &Request, transaction: &mut Transaction) -> Outcome {
    set_pairs(request, transaction, "hmset")?;
    Ok(Reply::Ok)
}

fn hsetnx(request: &Request, transaction: &mut Transaction) -> Outcome {
    let (key, field) = (request.key(1), request.args.at(2));
    if let Some(entry) = hash::find(transaction, &key)?
        && hash::get(transaction, &key, &entry, field)?.is_some()
    {
        return Ok(Reply::Int(0));
    }
    let pair = (field, request.args.at(3));
    hash::set(transaction, &key, std::iter::once(pair), NewDeadline::None, limits(request))?;
    Ok(Reply::Int(1))
}

fn hget(request: &Request, view: &mut View) -> Outcome {
    let key = request.key(1);
    let Some(entry) = hash::find(view, &key)? else { return Ok(Reply::Null) };
    Ok(Reply::optional(hash::get(view, &key, &entry, request.args.at(2))?))
}

fn hmget(request: &Request, view: &mut View) -> Outcome {
    let key = request.key(1);
    let entry = hash::find(view, &key)?;
    let mut replies = Vec::with_capacity(request.args.len() - 2);
    for field in request.args.from(2) {
        replies.push(match &entry {
            Some(entry) => Reply::optional(hash::get(view, &key, entry, field)?),
            None => Reply::Null,
        });
    }
    Ok(Reply::Array(replies))
}

/// Fields that room is made for at once: what a damaged row says their number is, may be any.
const RESERVED_MAX: usize = 1 << 16;

/// Fields, values, or both in turn.
fn collect(
    request: &Request,
    view: &mut View,
    fields: bool,
    values: bool,
) -> Result<Vec<Reply>, super::Failure> {
    let key = request.key(1);
    let Some(entry) = hash::find(view, &key)? else { return Ok(Vec::new()) };
    let per_field = usize::from(fields) + usize::from(values);
    let mut replies = Vec::with_capacity((hash::len(&entry) as usize).min(RESERVED_MAX) * per_field);
    hash::visit(view, &key, &entry, &mut |field| {
        if fields {
            replies.push(Reply::bulk(field.name));
        }
        if values {
            replies.push(Reply::bulk(field.value));
        }
    })?;
    Ok(replies)
}

fn hgetall(request: &Request, view: &mut View) -> Outcome {
    Ok(Reply::Map(collect(request, view, true, true)?))
}

fn hkeys(request: &Request, view: &mut View) -> Outcome {
    Ok(Reply::Array(collect(request, view, true, false)?))
}

fn hvals(request: &Request, view: &mut View) -> Outcome {
    Ok(Reply::Array(collect(request, view, false, true)?))
}

fn hlen(request: &Request, view: &mut View) -> Outcome {
    let entry = hash::find(view, &request.key(1))?;
    Ok(Reply::Int(entry.map_or(0, |entry| hash::len(&entry) as i64)))
}

/// Bytes of the value of the field at the second word.
fn value_len(request: &Request, view: &mut View) -> Result<Option<usize>, super::Failure> {
    let key = request.key(1);
    let Some(entry) = hash::find(view, &key)? else { return Ok(None) };
    Ok(hash::get(view, &key, &entry, request.args.at(2))?.map(|value| value.len()))
}

fn hstrlen(request: &Request, view: &mut View) -> Outcome {
    Ok(Reply::Int(value_len(request, view)?.unwrap_or(0) as i64))
}

fn hexists(request: &Request, view: &mut View) -> Outcome {
    Ok(Reply::from(value_len(request, view)?.is_some()))
}

fn hdel(request: &Request, transaction: &mut Transaction) -> Outcome {
    let removed = hash::delete(transaction, &request.key(1), request.args.from(2))?;
    Ok(Reply::Int(removed as i64))
}
