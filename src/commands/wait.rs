//! WAIT and WAITAOF: how many nodes have what this connection wrote.

use super::{Command, Failure, Outcome, Request, session};
use crate::protocol::error::ErrorReply;
use crate::protocol::spec::flag::NOSCRIPT;
use crate::protocol::spec::syntax::integer;
use crate::session::copies::CopiesWanted;
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
const ON_A_REPLICA: ErrorReply = ErrorReply::fixed(
    "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is configured to be \
     writable (which is not the default) writes to replicas are just local and are not propagated.",
);
const AOF_ON_A_REPLICA: ErrorReply = ErrorReply::fixed(
    "ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are just local and are not \
     propagated.",
);
const NUMREPLICAS: ErrorReply = ErrorReply::fixed("ERR value is out of range, must be positive");

/// Milliseconds; none is for ever.
fn timeout(request: &Request, word: usize) -> Result<Option<u64>, ErrorReply> {
    match request.args.int(word) {
        Ok(timeout) if timeout >= 0 => Ok(Some(timeout.unsigned_abs()).filter(|ms| *ms > 0)),
        Ok(_) => Err(ErrorReply::fixed("ERR timeout is negative")),
        Err(_) => Err(ErrorReply::fixed("ERR timeout is not an integer or out of range")),
    }
}

/// Whether this server follows another one. In a cluster, WAIT comes to the primary.
fn is_plain_replica(request: &Request) -> bool {
    request.service.replication.is_replica() && request.service.forwarding.get().is_none()
}

fn wait(request: &Request, session: &mut Session) -> Outcome {
    if is_plain_replica(request) {
        return Err(ON_A_REPLICA.into());
    }
    let replicas = request.args.int(1)?;
    let timeout_ms = timeout(request, 2)?;
    wait_for(request, session, (None, replicas), timeout_ms)
}

fn waitaof(request: &Request, session: &mut Session) -> Outcome {
    let local = request.args.int(1)?;
    if !(0..=1).contains(&local) {
        return Err(NUMLOCAL.into());
    }
    let replicas = request.args.int(2)?;
    if replicas < 0 {
        return Err(NUMREPLICAS.into());
    }
    let timeout_ms = timeout(request, 3)?;
    if is_plain_replica(request) {
        return Err(AOF_ON_A_REPLICA.into());
    }
    wait_for(request, session, (Some(local == 1), replicas), timeout_ms)
}

/// The counts if they are enough already, or if nothing may wait here; else the wait.
fn wait_for(
    request: &Request,
    session: &Session,
    (local_disk, replicas): (Option<bool>, i64),
    timeout_ms: Option<u64>,
) -> Outcome {
    let replicas = u64::try_from(replicas).unwrap_or(0);
    let wanted = CopiesWanted { position: session.last_write, local_disk, replicas, timeout_ms };
    let copies = wanted.count(request.service);
    if wanted.is_met_by(copies) || session.executing.is_some() {
        return Ok(wanted.reply(copies));
    }
    Err(Failure::Copies(wanted))
}
