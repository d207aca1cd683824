//! Commands on keys of any type: removing, counting, moving and copying them.

use super::{Command, Outcome, Request, read, write};
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::access::{ACCESS, DELETE, INSERT, OW, RM, RO, RW, UPDATE};
use crate::protocol::spec::flag::{DENYOOM, FAST};
use crate::protocol::spec::syntax::{integer, key, token};
use crate::protocol::spec::{Argument, KeySpec};
use crate::store::{Entry, Key, Transaction, View};
use crate::types::keyspace;

const MULTI_SHARD: &[&str] = &["request_policy:multi_shard", "response_policy:agg_sum"];
const SEVERAL_KEYS: &[Argument] = &[key("key", 0).multiple()];
const TWO_KEYS: &[Argument] = &[key("key", 0), key("newkey", 1)];

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[
    write("del", del)
        .arity(-2)
        .keys(&[KeySpec::range(1, -1, 1, RM.and(DELETE))])
        .since("1.0.0")
        .complexity("O(1) for each key, whatever it holds: its rows are freed in the background.")
        .summary("Removes keys and what they hold.")
        .tips(MULTI_SHARD)
        .arguments(SEVERAL_KEYS),
    write("unlink", del)
        .arity(-2)
        .flags(FAST)
        .keys(&[KeySpec::range(1, -1, 1, RM.and(DELETE))])
        .since("4.0.0")
        .complexity("O(1) for each key, whatever it holds: its rows are freed in the background.")
        .summary("Removes keys; their memory is freed in the background.")
        .tips(MULTI_SHARD)
        .arguments(SEVERAL_KEYS),
    read("exists", exists)
        .arity(-2)
        .flags(FAST)
        .keys(&[KeySpec::range(1, -1, 1, RO)])
        .since("1.0.0")
        .complexity("O(N) for N keys.")
        .summary("Counts how many of the named keys exist; one named twice counts twice.")
        .history(&[("3.0.3", "Takes several keys.")])
        .tips(MULTI_SHARD)
        .arguments(SEVERAL_KEYS),
    read("type", type_of)
        .arity(2)
        .flags(FAST)
        .keys(&[KeySpec::one(1, RO)])
        .since("1.0.0")
        .complexity("O(1)")
        .summary("Says which type of value a key holds.")
        .arguments(&[key("key", 0)]),
    read("touch", touch)
        .arity(-2)
        .flags(FAST)
        .keys(&[KeySpec::range(1, -1, 1, RO)])
        .since("3.2.1")
        .complexity("O(N) for N keys.")
        .summary("Notes a use of each key, as eviction sees it, and counts those that exist.")
        .tips(MULTI_SHARD)
        .arguments(SEVERAL_KEYS),
    write("rename", rename)
        .arity(3)
        .keys(&[KeySpec::one(1, RW.and(ACCESS).and(DELETE)), KeySpec::one(2, OW.and(UPDATE))])
        .since("1.0.0")
        .complexity("O(1) for strings and within a partition; else O(N) for N rows of the collection.")
        .summary("Gives a key another name; what held that name before is replaced.")
        .arguments(TWO_KEYS),
    write("renamenx", renamenx)
        .arity(3)
        .flags(FAST)
        .keys(&[KeySpec::one(1, RW.and(ACCESS).and(DELETE)), KeySpec::one(2, OW.and(INSERT))])
        .since("1.0.0")
        .complexity("O(1) for strings and within a partition; else O(N) for N rows of the collection.")
        .summary("Gives a key another name unless that name is taken.")
        .history(&[("3.2.0", "The same name twice is no error any more.")])
        .arguments(TWO_KEYS),
    write("copy", copy)
        .arity(-3)
        .flags(DENYOOM)
        .keys(&[KeySpec::one(1, RO.and(ACCESS)), KeySpec::one(2, OW.and(UPDATE))])
        .since("6.2.0")
        .complexity("O(1) for strings, O(N) for N items of a collection.")
        .summary("Copies what a key holds to another key.")
        .arguments(&[
            key("source", 0),
            key("destination", 1),
            integer("destination-db").token("DB").optional(),
            token("replace", "REPLACE").optional(),
        ]),
    write("move", move_key)
        .arity(3)
        .flags(FAST)
        .keys(&[KeySpec::one(1, RW.and(ACCESS).and(UPDATE))])
        .since("1.0.0")
        .complexity("O(1)")
        .summary("Moves a key to another database.")
        .arguments(&[key("key", 0), integer("db")]),
];

const SAME_OBJECT: ErrorReply = ErrorReply::fixed("ERR source and destination objects are the same");

fn del(request: &Request, transaction: &mut Transaction) -> Outcome {
    let mut removed = 0;
    for name in request.args.from(1) {
        removed += i64::from(keyspace::remove(transaction, &request.key_named(name))?);
    }
    Ok(Reply::Int(removed))
}

fn exists(request: &Request, view: &mut View) -> Outcome {
    let mut found = 0;
    for name in request.args.from(1) {
        found += i64::from(view.peek(&request.key_named(name))?.is_some());
    }
    Ok(Reply::Int(found))
}

fn touch(request: &Request, view: &mut View) -> Outcome {
    let mut found = 0;
    for name in request.args.from(1) {
        found += i64::from(view.get(&request.key_named(name))?.is_some());
    }
    Ok(Reply::Int(found))
}

fn type_of(request: &Request, view: &mut View) -> Outcome {
    let entry = view.peek(&request.key(1))?;
    Ok(Reply::Simple(entry.map_or("none", |entry| entry.kind().name())))
}

fn rename(request: &Request, transaction: &mut Transaction) -> Outcome {
    let (key, to) = (request.key(1), request.key(2));
    let entry = existing(transaction, &key)?;
    if key.name != to.name {
        keyspace::rename(transaction, &key, &entry, &to)?;
    }
    Ok(Reply::Ok)
}

fn renamenx(request: &Request, transaction: &mut Transaction) -> Outcome {
    let (key, to) = (request.key(1), request.key(2));
    let entry = existing(transaction, &key)?;
    if key.name == to.name || transaction.peek(&to)?.is_some() {
        return Ok(Reply::Int(0));
    }
    keyspace::rename(transaction, &key, &entry, &to)?;
    Ok(Reply::Int(1))
}

fn existing(transaction: &mut Transaction, key: &Key) -> Result<Entry, super::Failure> {
    Ok(transaction.get(key)?.ok_or(error::NO_SUCH_KEY)?)
}

fn copy(request: &Request, transaction: &mut Transaction) -> Outcome {
    let mut cursor = request.args.cursor(3);
    let mut replaces = false;
    let mut database = request.database;
    while !cursor.is_done() {
        if cursor.eat("REPLACE") {
            replaces = true;
        } else if cursor.left() >= 2 && cursor.eat("DB") {
            database = database_number(cursor.int_32()?, transaction)?;
        } else {
            return Err(error::SYNTAX.into());
        }
    }
    let (key, to) = (request.key(1), Key::new(database, request.args.at(2)));
    if key.name == to.name && key.database == to.database {
        return Err(SAME_OBJECT.into());
    }
    let entry = transaction.as_reader(|view| view.get(&key))?;
    let Some(entry) = entry else { return Ok(Reply::Int(0)) };
    if !replaces && transaction.peek(&to)?.is_some() {
        return Ok(Reply::Int(0));
    }
    keyspace::copy(transaction, &key, &entry, &to)?;
    Ok(Reply::Int(1))
}

fn move_key(request: &Request, transaction: &mut Transaction) -> Outcome {
    let database = database_number(request.args.int_32(2)?, transaction)?;
    let (key, to) = (request.key(1), Key::new(database, request.args.at(1)));
    if database == request.database {
        return Err(SAME_OBJECT.into());
    }
    let Some(entry) = transaction.get(&key)? else { return Ok(Reply::Int(0)) };
    if transaction.peek(&to)?.is_some() {
        return Ok(Reply::Int(0));
    }
    keyspace::rename(transaction, &key, &entry, &to)?;
    Ok(Reply::Int(1))
}

/// `number` as the number of a database that there is.
pub fn database_number(number: i32, view: &View) -> Result<u16, ErrorReply> {
    let number = u16::try_from(number).ok().filter(|&number| number < view.database_count());
    number.ok_or(error::DB_OUT_OF_RANGE)
}
