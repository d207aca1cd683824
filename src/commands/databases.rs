//! Whole databases: DBSIZE, FLUSHDB, FLUSHALL, SWAPDB. Constant time, whatever they hold.

use super::keys::database_number;
use super::{Command, Outcome, Request, read, write};
use crate::base::number;
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::flag::{ALL_PARTITIONS, FAST};
use crate::protocol::spec::syntax::{integer, one_of, token};
use crate::protocol::spec::{Argument, Group};
use crate::store::{Transaction, View};

const MODE: &[Argument] =
    &[one_of("async", &[token("async", "ASYNC").since("4.0.0"), token("sync", "SYNC").since("6.2.0")])
        .optional()];
const MODE_HISTORY: &[(&str, &str)] = &[("4.0.0", "The mode `ASYNC`."), ("6.2.0", "The mode `SYNC`.")];
const ALL_SUCCEED: &[&str] = &["request_policy:all_shards", "response_policy:all_succeeded"];

const fn flush(command: Command) -> Command {
    command
        .arity(-1)
        .flags(ALL_PARTITIONS)
        .group(Group::Server)
        .categories(&["keyspace", "dangerous"])
        .since("1.0.0")
        .complexity("O(1): the rows are freed in the background.")
        .history(MODE_HISTORY)
        .tips(ALL_SUCCEED)
        .arguments(MODE)
}

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[
    read("dbsize", dbsize)
        .arity(1)
        .flags(FAST.and(ALL_PARTITIONS))
        .group(Group::Server)
        .categories(&["keyspace"])
        .since("1.0.0")
        .complexity("O(1)")
        .summary("Counts the keys of the database.")
        .tips(&["request_policy:all_shards", "response_policy:agg_sum"]),
    flush(write("flushdb", flushdb)).summary("Removes all keys of the database."),
    flush(write("flushall", flushall)).summary("Removes all keys of all databases."),
    write("swapdb", swapdb)
        .arity(3)
        .flags(FAST.and(ALL_PARTITIONS))
        .group(Group::Server)
        .categories(&["keyspace", "dangerous"])
        .since("4.0.0")
        .complexity("O(N) for N watched keys of both databases.")
        .summary("Exchanges two databases.")
        .arguments(&[integer("index1"), integer("index2")]),
];

fn dbsize(request: &Request, view: &mut View) -> Outcome {
    Ok(Reply::Int(view.count(request.database) as i64))
}

/// `ASYNC` and `SYNC` are the same here: emptying takes constant time, and freeing happens behind it.
fn check_mode(request: &Request) -> Result<(), ErrorReply> {
    let mut cursor = request.args.cursor(1);
    let _ = cursor.eat("ASYNC") || cursor.eat("SYNC");
    if cursor.is_done() { Ok(()) } else { Err(error::SYNTAX) }
}

fn flushdb(request: &Request, transaction: &mut Transaction) -> Outcome {
    check_mode(request)?;
    flush_if_used(transaction, request.database);
    Ok(Reply::Ok)
}

fn flushall(request: &Request, transaction: &mut Transaction) -> Outcome {
    check_mode(request)?;
    for database in 0..transaction.database_count() {
        flush_if_used(transaction, database);
    }
    Ok(Reply::Ok)
}

fn flush_if_used(transaction: &mut Transaction, database: u16) {
    if transaction.count(database) > 0 {
        transaction.flush_database(database);
    }
}

fn swapdb(request: &Request, transaction: &mut Transaction) -> Outcome {
    let index = |word: usize, refusal: &'static str| {
        let number = number::parse_i64(request.args.at(word)).and_then(|number| i32::try_from(number).ok());
        number.ok_or(ErrorReply::fixed(refusal))
    };
    let a = index(1, "ERR invalid first DB index")?;
    let b = index(2, "ERR invalid second DB index")?;
    let a = database_number(a, transaction)?;
    let b = database_number(b, transaction)?;
    if a != b {
        transaction.swap_databases(a, b);
    }
    Ok(Reply::Ok)
}
