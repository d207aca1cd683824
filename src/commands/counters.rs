//! Strings as numbers: INCR and its kin.

use super::{Command, Failure, Outcome, Request, write};
use crate::protocol::error::ErrorReply;
use crate::protocol::reply::Reply;
use crate::protocol::spec::access::{ACCESS, RW, UPDATE};
use crate::protocol::spec::flag::{DENYOOM, FAST};
use crate::protocol::spec::syntax::{double, integer, key};
use crate::protocol::spec::{Group, KeySpec};
use crate::store::Transaction;
use crate::types::string;

/// The declarations.
pub const COMMANDS: &[Command] = &[
    write("incr", incr)
        .arity(2)
        .flags(DENYOOM.and(FAST))
        .group(Group::String)
        .keys(&[KeySpec::one(1, RW.and(ACCESS).and(UPDATE))])
        .since("1.0.0")
        .complexity("O(1)")
        .summary("Adds one to the integer at a key; an absent key counts as 0.")
        .arguments(&[key("key", 0)]),
    write("decr", decr)
        .arity(2)
        .flags(DENYOOM.and(FAST))
        .group(Group::String)
        .keys(&[KeySpec::one(1, RW.and(ACCESS).and(UPDATE))])
        .since("1.0.0")
        .complexity("O(1)")
        .summary("Takes one from the integer at a key; an absent key counts as 0.")
        .arguments(&[key("key", 0)]),
    write("incrby", incrby)
        .arity(3)
        .flags(DENYOOM.and(FAST))
        .group(Group::String)
        .keys(&[KeySpec::one(1, RW.and(ACCESS).and(UPDATE))])
        .since("1.0.0")
        .complexity("O(1)")
        .summary("Adds a number to the integer at a key; an absent key counts as 0.")
        .arguments(&[key("key", 0), integer("increment")]),
    write("decrby", decrby)
        .arity(3)
        .flags(DENYOOM.and(FAST))
        .group(Group::String)
        .keys(&[KeySpec::one(1, RW.and(ACCESS).and(UPDATE))])
        .since("1.0.0")
        .complexity("O(1)")
        .summary("Takes a number from the integer at a key; an absent key counts as 0.")
        .arguments(&[key("key", 0), integer("decrement")]),
    write("incrbyfloat", incrbyfloat)
        .arity(3)
        .flags(DENYOOM.and(FAST))
        .group(Group::String)
        .keys(&[KeySpec::one(1, RW.and(ACCESS).and(UPDATE))])
        .since("2.6.0")
        .complexity("O(1)")
        .summary("Adds a decimal number to the number at a key; an absent key counts as 0.")
        .arguments(&[key("key", 0), double("increment")]),
];

fn incr(request: &Request, transaction: &mut Transaction) -> Outcome {
    Ok(Reply::Int(string::add(transaction, &request.key(1), 1)?))
}

fn decr(request: &Request, transaction: &mut Transaction) -> Outcome {
    Ok(Reply::Int(string::add(transaction, &request.key(1), -1)?))
}

fn incrby(request: &Request, transaction: &mut Transaction) -> Outcome {
    let delta = request.args.int(2)?;
    Ok(Reply::Int(string::add(transaction, &request.key(1), delta)?))
}

fn decrby(request: &Request, transaction: &mut Transaction) -> Outcome {
    const TOO_LOW: ErrorReply = ErrorReply::fixed("ERR decrement would overflow");
    let delta = request.args.int(2)?.checked_neg().ok_or(Failure::Error(TOO_LOW))?;
    Ok(Reply::Int(string::add(transaction, &request.key(1), delta)?))
}

fn incrbyfloat(request: &Request, transaction: &mut Transaction) -> Outcome {
    let sum = string::add_decimal(transaction, &request.key(1), request.args.at(2))?;
    Ok(Reply::Bulk(sum.into_bytes()))
}
