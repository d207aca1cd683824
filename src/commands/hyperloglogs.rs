//! HyperLogLog: adding, counting, merging, and a look inside.

use super::{Command, Failure, Outcome, Request, read_and_note, session, write};
use crate::protocol::error::ErrorReply;
use crate::protocol::reply::Reply;
use crate::protocol::spec::access::{ACCESS, INSERT, RO, RW};
use crate::protocol::spec::flag::{ADMIN, DENYOOM, FAST};
use crate::protocol::spec::syntax::{key, string};
use crate::protocol::spec::{Group, KeySpec};
use crate::session::session::Session;
use crate::store::Transaction;
use crate::types::hyperloglog::{self, Refused};

const fn about_sketch(command: Command) -> Command {
    command.group(Group::Hyperloglog).since("2.8.9")
}

/// The declarations.
pub const COMMANDS: &[Command] = &[
    about_sketch(write("pfadd", pfadd))
        .arity(-2)
        .flags(DENYOOM.and(FAST))
        .keys(&[KeySpec::one(1, RW.and(INSERT))])
        .complexity("O(N), N elements.")
        .summary("Adds elements to a HyperLogLog, and tells whether its estimate may have changed.")
        .arguments(&[key("key", 0), string("element").optional().multiple()]),
    about_sketch(read_and_note("pfcount", pfcount))
        .arity(-2)
        .keys(&[KeySpec::range(1, -1, 1, RW.and(ACCESS))
            .notes("RW because the estimate is kept in the key, and goes to replicas")])
        .complexity("O(N), N keys; of one key that did not change since, the estimate is known.")
        .summary("Estimates how many different elements were added to HyperLogLogs together.")
        .arguments(&[key("key", 0).multiple()]),
    about_sketch(write("pfmerge", pfmerge))
        .arity(-2)
        .flags(DENYOOM)
        .keys(&[KeySpec::one(1, RW.and(ACCESS).and(INSERT)), KeySpec::range(2, -1, 1, RO.and(ACCESS))])
        .complexity("O(N), N keys.")
        .summary("Makes a HyperLogLog of all elements that were added to any of several.")
        .arguments(&[key("destkey", 0), key("sourcekey", 1).multiple()]),
    about_sketch(write("pfdebug", pfdebug))
        .arity(3)
        .flags(DENYOOM.and(ADMIN))
        .keys(&[KeySpec::one(2, RW.and(ACCESS))])
        .complexity("O(1)")
        .summary("Shows the inside of a HyperLogLog, for tests.")
        .arguments(&[string("subcommand"), key("key", 0)]),
    about_sketch(session("pfselftest", pfselftest))
        .arity(1)
        .flags(ADMIN)
        .complexity("O(1)")
        .summary("Checks the estimates of this server's HyperLogLogs."),
];

const CORRUPTED: ErrorReply = ErrorReply::fixed("INVALIDOBJ Corrupted HLL object detected");

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Failure {
        match refused {
            Refused::NoSketch => {
                ErrorReply::fixed("WRONGTYPE Key is not a valid HyperLogLog string value.").into()
            }
            Refused::Corrupted => CORRUPTED.into(),
            Refused::NotSparse => ErrorReply::fixed("ERR HLL encoding is not sparse").into(),
            Refused::Other(error) => error.into(),
        }
    }
}

fn pfadd(request: &Request, transaction: &mut Transaction) -> Outcome {
    let sparse_max = request.settings.hll_sparse_max_bytes;
    Ok(Reply::from(hyperloglog::add(transaction, &request.key(1), request.args.from(2), sparse_max)?))
}

/// An estimate is kept in the key where that may be changed: on a replica it is made anew each time.
fn pfcount(request: &Request, transaction: &mut Transaction) -> Outcome {
    let key = request.key(1);
    if request.args.len() > 2 {
        let keys = request.args.from(1).map(|name| request.key_named(name));
        return Ok(Reply::Int(transaction.as_reader(|view| hyperloglog::count_all(view, keys))? as i64));
    }
    let (count, kept) = transaction.as_reader(|view| hyperloglog::count(view, &key))?;
    if let Some(kept) = kept.filter(|_| transaction.is_primary_of(&key)) {
        hyperloglog::keep_count(transaction, &key, &kept)?;
    }
    Ok(Reply::Int(count as i64))
}

fn pfmerge(request: &Request, transaction: &mut Transaction) -> Outcome {
    let keys = request.args.from(1).map(|name| request.key_named(name));
    hyperloglog::merge(transaction, &request.key(1), keys, request.settings.hll_sparse_max_bytes)?;
    Ok(Reply::Ok)
}

fn pfdebug(request: &Request, transaction: &mut Transaction) -> Outcome {
    const NO_KEY: ErrorReply = ErrorReply::fixed("ERR The specified key does not exist");
    let (word, key) = (request.args.at(1), request.key(2));
    let (_, sketch) = hyperloglog::find(transaction, &key)?.ok_or(NO_KEY)?;
    let is = |subcommand: &str| word.eq_ignore_ascii_case(subcommand.as_bytes());
    if is("getreg") {
        hyperloglog::make_dense(transaction, &key)?;
        let registers = sketch.all_registers()?;
        return Ok(Reply::Array(registers.iter().map(|&value| Reply::Int(i64::from(value))).collect()));
    }
    if is("decode") {
        return Ok(Reply::Bulk(sketch.runs()?.into_bytes()));
    }
    if is("encoding") {
        return Ok(Reply::Simple(if sketch.is_dense() { "dense" } else { "sparse" }));
    }
    if is("todense") {
        let made = hyperloglog::make_dense(transaction, &key)?;
        return Ok(Reply::from(made.is_some_and(|(_, changed)| changed)));
    }
    Err(ErrorReply::quoting("ERR Unknown PFDEBUG subcommand '", word, "'").into())
}

fn pfselftest(_: &Request, _: &mut Session) -> Outcome {
    hyperloglog::self_test().map_err(ErrorReply::new)?;
    Ok(Reply::Ok)
}
