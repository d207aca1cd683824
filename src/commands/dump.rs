//! DUMP and RESTORE: values in Redis's own serialization.

use super::{Command, Failure, Outcome, Request, read, write};
use crate::interop::dump::{self as payload, Refused};
use crate::interop::place::place;
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::access::{ACCESS, OW, RO, UPDATE};
use crate::protocol::spec::flag::{ASKING, DENYOOM};
use crate::protocol::spec::syntax::{integer, key, string as text, token};
use crate::protocol::spec::{Argument, Group, KeySpec};
use crate::session::apply::value_limits;
use crate::store::{Kind, Transaction, View};
use crate::types::keyspace;

const RESTORE_SYNTAX: &[Argument] = &[
    key("key", 0),
    integer("ttl"),
    text("serialized-value"),
    token("replace", "REPLACE").optional().since("3.0.0"),
    token("absttl", "ABSTTL").optional().since("5.0.0"),
    integer("seconds").token("IDLETIME").optional().since("5.0.0"),
    integer("frequency").token("FREQ").optional().since("5.0.0"),
];
const RESTORE_KEYS: &[KeySpec] = &[KeySpec::one(1, OW.and(UPDATE))];

const fn restorer(command: Command) -> Command {
    command
        .arity(-4)
        .flags(DENYOOM)
        .keys(RESTORE_KEYS)
        .complexity("O(N) for N bytes of payload.")
        .history(&[
            ("3.0.0", "The word `REPLACE`."),
            ("5.0.0", "The word `ABSTTL`."),
            ("5.0.0", "The options `IDLETIME` and `FREQ`."),
        ])
        .arguments(RESTORE_SYNTAX)
}

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[
    read("dump", dump)
        .arity(2)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("2.6.0")
        .complexity("O(N) for N bytes of value.")
        .summary("Serializes what a key holds.")
        .tips(&["nondeterministic_output"])
        .arguments(&[key("key", 0)]),
    restorer(write("restore", restore))
        .since("2.6.0")
        .categories(&["dangerous"])
        .summary("Makes a key of what DUMP gave."),
    restorer(write("restore-asking", restore))
        .flags(ASKING)
        .group(Group::Server)
        .since("3.0.0")
        .categories(&["keyspace", "dangerous"])
        .summary("RESTORE for a key of a slot that is on its way here."),
];

fn dump(request: &Request, view: &mut View) -> Outcome {
    let key = request.key(1);
    let Some(entry) = view.peek(&key)? else { return Ok(Reply::Null) };
    let dumped = payload::of(view, &key, &entry)?;
    match dumped {
        Some(payload) => Ok(Reply::Bulk(payload)),
        // All of its fields are over.
        None if entry.kind() == Kind::Hash => Ok(Reply::Null),
        None => Err(error::WRONG_TYPE.into()),
    }
}

/// The words behind RESTORE's payload.
#[derive(Default)]
struct Options {
    replaces: bool,
    is_absolute: bool,
    /// Seconds without use.
    idle: Option<i64>,
    /// The counter of uses.
    frequency: Option<i64>,
}

impl Options {
    fn parse(request: &Request) -> Result<Options, ErrorReply> {
        let mut options = Options::default();
        let mut words = request.args.cursor(4);
        while !words.is_done() {
            if words.eat("REPLACE") {
                options.replaces = true;
            } else if words.eat("ABSTTL") {
                options.is_absolute = true;
            } else if words.left() >= 2 && options.frequency.is_none() && words.eat("IDLETIME") {
                options.idle = Some(words.int()?);
                if options.idle < Some(0) {
                    return Err(ErrorReply::fixed("ERR Invalid IDLETIME value, must be >= 0"));
                }
            } else if words.left() >= 2 && options.idle.is_none() && words.eat("FREQ") {
                options.frequency = Some(words.int()?);
                if !options.frequency.is_some_and(|frequency| (0..=255).contains(&frequency)) {
                    return Err(ErrorReply::fixed("ERR Invalid FREQ value, must be >= 0 and <= 255"));
                }
            } else {
                return Err(error::SYNTAX);
            }
        }
        Ok(options)
    }
}

/// IDLETIME and FREQ say how a key was used, whichever the eviction policy in force has ears for.
fn restore(request: &Request, transaction: &mut Transaction) -> Outcome {
    let key = request.key(1);
    let options = Options::parse(request)?;
    if !options.replaces && transaction.peek(&key)?.is_some() {
        return Err(error::BUSY_KEY.into());
    }
    let ttl = request.args.int(2)?;
    if ttl < 0 {
        return Err(ErrorReply::fixed("ERR Invalid TTL value, must be >= 0").into());
    }
    let value = payload::open(request.args.at(3)).map_err(|refused| {
        Failure::Error(ErrorReply::fixed(match refused {
            Refused::Footer => "ERR DUMP payload version or checksum are wrong",
            Refused::Value => "ERR Bad data format",
        }))
    })?;
    let base = if options.is_absolute { 0 } else { request.now };
    // Redis adds without looking, so a time beyond the clock is one before it: such a key expires at once.
    let expire_at = (ttl > 0).then(|| ttl.wrapping_add(base));
    if expire_at.is_some_and(|at| at <= request.now) {
        keyspace::remove(transaction, &key)?;
        return Ok(Reply::Ok);
    }
    let limits = value_limits(request.settings);
    place(transaction, &key, &value, expire_at, limits.of_kind(request.args.at(3).first()))?;
    let clock = transaction.access_clock();
    let access = options.idle.and_then(|seconds| clock.idle_for(seconds as u64));
    let access = access.or(options.frequency.and_then(|counter| clock.used_often(counter as u8)));
    if let Some(access) = access {
        transaction.begin_access(&key, access);
    }
    Ok(Reply::Ok)
}
