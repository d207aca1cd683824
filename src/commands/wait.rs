//! WAIT and WAITAOF: how many nodes have what this connection wrote. There are no replicas yet, so neither has to wait.

use super::{Command, Outcome, Request, session};
use crate::protocol::error::ErrorReply;
use crate::protocol::reply::Reply;
use crate::protocol::spec::flag::NOSCRIPT;
use crate::protocol::spec::syntax::integer;
use crate::session::session::Session;

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[
    session("wait", wait)
        .arity(3)
        .flags(NOSCRIPT)
        .categories(&["connection"])
        .since("3.0.0")
        .complexity("O(1)")
        .summary("Waits until a number of replicas have all that this connection wrote.")
        .tips(&["request_policy:all_shards", "response_policy:agg_min"])
        .arguments(&[integer("numreplicas"), integer("timeout")]),
    session("waitaof", waitaof)
        .arity(4)
        .flags(NOSCRIPT)
        .categories(&["connection"])
        .since("7.2.0")
        .complexity("O(1)")
        .summary("Waits until all that this connection wrote is on the disks of a number of nodes.")
        .tips(&["request_policy:all_shards", "response_policy:agg_min"])
        .arguments(&[integer("numlocal"), integer("numreplicas"), integer("timeout")]),
];

const NUMLOCAL: ErrorReply = ErrorReply::fixed("ERR value is out of range, value must between 0 and 1");
const NUMREPLICAS: ErrorReply = ErrorReply::fixed("ERR value is out of range, must be positive");

fn check_timeout(request: &Request, word: usize) -> Result<(), ErrorReply> {
    match request.args.int(word) {
        Ok(timeout) if timeout >= 0 => Ok(()),
        Ok(_) => Err(ErrorReply::fixed("ERR timeout is negative")),
        Err(_) => Err(ErrorReply::fixed("ERR timeout is not an integer or out of range")),
    }
}

fn wait(request: &Request, _: &mut Session) -> Outcome {
    request.args.int(1)?;
    check_timeout(request, 2)?;
    Ok(Reply::Int(0))
}

fn waitaof(request: &Request, session: &mut Session) -> Outcome {
    if !(0..=1).contains(&request.args.int(1)?) {
        return Err(NUMLOCAL.into());
    }
    if request.args.int(2)? < 0 {
        return Err(NUMREPLICAS.into());
    }
    check_timeout(request, 3)?;
    let is_durable = request.service.store.durable_position() >= session.journal_position;
    Ok(Reply::Array(vec![Reply::Int(i64::from(is_durable)), Reply::Int(0)]))
}
