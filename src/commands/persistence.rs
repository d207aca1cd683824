//! Commands that in Redis write the data to disk: SAVE, BGSAVE, BGREWRITEAOF, LASTSAVE. Here the journal holds every
//! write already; all of them ask for a checkpoint, which makes the next start replay less.

use super::{Command, Outcome, Request, session};
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::Group;
use crate::protocol::spec::flag::{ADMIN, FAST, LOADING, NO_ASYNC_LOADING, NO_MULTI, NOSCRIPT, STALE};
use crate::protocol::spec::syntax::token;
use crate::session::saving::{Begun, Kind};
use crate::session::service::Service;
use crate::session::session::Session;
use std::sync::Arc;

const IN_PROGRESS: ErrorReply = ErrorReply::fixed("ERR Background save already in progress");
const REWRITE_IN_PROGRESS: ErrorReply =
    ErrorReply::fixed("ERR Background append only file rewriting already in progress");
const REWRITE_RUNS: ErrorReply = ErrorReply::fixed(
    "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to schedule a BGSAVE \
     whenever possible.",
);

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[
    session("save", save)
        .arity(1)
        .flags(ADMIN.and(NOSCRIPT).and(NO_ASYNC_LOADING).and(NO_MULTI))
        .group(Group::Server)
        .since("1.0.0")
        .complexity("O(N) where N is the number of rows changed since the last checkpoint")
        .summary("Writes a checkpoint and waits for it."),
    session("bgsave", bgsave)
        .arity(-1)
        .flags(ADMIN.and(NOSCRIPT).and(NO_ASYNC_LOADING))
        .group(Group::Server)
        .since("1.0.0")
        .complexity("O(1)")
        .summary("Starts a checkpoint.")
        .arguments(&[token("schedule", "SCHEDULE").optional().since("3.2.2")])
        .history(&[("3.2.2", "`SCHEDULE` came.")]),
    session("bgrewriteaof", bgrewriteaof)
        .arity(1)
        .flags(ADMIN.and(NOSCRIPT).and(NO_ASYNC_LOADING))
        .group(Group::Server)
        .since("1.0.0")
        .complexity("O(1)")
        .summary("Starts a checkpoint, after which older journal segments can go."),
    session("lastsave", lastsave)
        .arity(1)
        .flags(LOADING.and(STALE).and(FAST))
        .group(Group::Server)
        .since("1.0.0")
        .complexity("O(1)")
        .summary("Returns when the data was last checkpointed.")
        .tips(&["nondeterministic_output"])
        .categories(&["admin", "dangerous"]),
];

fn save(request: &Request, _: &mut Session) -> Outcome {
    if request.service.saving.running() == Some(Kind::Save) {
        return Err(IN_PROGRESS.into());
    }
    match request.service.store.checkpoint_now() {
        Ok(()) => Ok(Reply::Ok),
        Err(error) => Err(ErrorReply::new(format!("ERR the checkpoint failed: {error}")).into()),
    }
}

fn bgsave(request: &Request, session: &mut Session) -> Outcome {
    let mut words = request.args.cursor(1);
    let waits = words.eat("SCHEDULE") || session.executing.is_some();
    if !words.is_done() {
        return Err(error::SYNTAX.into());
    }
    match save_in_background(request.service, Kind::Save, waits)? {
        // Redis forks after EXEC, and says so.
        Begun::Now if session.executing.is_none() => Ok(Reply::Simple("Background saving started")),
        Begun::Now | Begun::Scheduled => Ok(Reply::Simple("Background saving scheduled")),
        Begun::Refused(Kind::Save) => Err(IN_PROGRESS.into()),
        Begun::Refused(Kind::Rewrite) => Err(REWRITE_RUNS.into()),
    }
}

fn bgrewriteaof(request: &Request, session: &mut Session) -> Outcome {
    match save_in_background(request.service, Kind::Rewrite, true)? {
        Begun::Now if session.executing.is_none() => {
            Ok(Reply::Simple("Background append only file rewriting started"))
        }
        Begun::Now | Begun::Scheduled => Ok(Reply::Simple("Background append only file rewriting scheduled")),
        Begun::Refused(_) => Err(REWRITE_IN_PROGRESS.into()),
    }
}

/// Starts a checkpoint on a thread of its own, if it is to begin now. That it failed is in the log and in INFO.
fn save_in_background(service: &Service, kind: Kind, waits: bool) -> Result<Begun, ErrorReply> {
    let begun = service.saving.begin(kind, waits);
    if begun != Begun::Now {
        return Ok(begun);
    }
    let (store, saving) = (Arc::clone(&service.store), Arc::clone(&service.saving));
    let run = move || {
        loop {
            if store.checkpoint_now().is_err() {
                return saving.give_up();
            }
            if saving.end() {
                return;
            }
        }
    };
    let spawned = std::thread::Builder::new().name("save".into()).spawn(run);
    spawned.map(|_| begun).map_err(|error| {
        service.saving.give_up();
        ErrorReply::new(format!("ERR Can't save in background: {error}"))
    })
}

fn lastsave(request: &Request, _: &mut Session) -> Outcome {
    Ok(Reply::Int(request.service.store.status().last_save_s))
}
