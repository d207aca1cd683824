//! SCRIPT: there are no scripts yet, so that none is in the cache.

use super::{Command, Outcome, Request, container, help_from_table, session};
use crate::protocol::error::ErrorReply;
use crate::protocol::reply::Reply;
use crate::protocol::spec::Group;
use crate::protocol::spec::flag::{ALLOW_BUSY, LOADING, NOSCRIPT, STALE};
use crate::protocol::spec::syntax::{one_of, string, token};
use crate::session::session::Session;

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[container(
    "script",
    &[
        session("exists", exists)
            .arity(-3)
            .flags(NOSCRIPT)
            .group(Group::Scripting)
            .since("2.6.0")
            .complexity("O(N) where N is the number of digests")
            .summary("Says which scripts are in the cache.")
            .arguments(&[string("sha1").multiple()])
            .tips(&["request_policy:all_shards", "response_policy:agg_logical_and"]),
        session("flush", flush)
            .arity(-2)
            .flags(NOSCRIPT)
            .group(Group::Scripting)
            .since("2.6.0")
            .complexity("O(N) where N is the number of scripts")
            .summary("Empties the script cache.")
            .arguments(&[one_of("async", &[token("async", "ASYNC"), token("sync", "SYNC")])
                .optional()
                .since("6.2.0")])
            .history(&[("6.2.0", "`ASYNC` and `SYNC` came.")])
            .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
        session("help", help_from_table)
            .arity(2)
            .flags(LOADING.and(STALE))
            .group(Group::Scripting)
            .since("5.0.0")
            .complexity("O(1)")
            .summary("Explains the subcommands."),
        session("kill", kill)
            .arity(2)
            .flags(NOSCRIPT.and(ALLOW_BUSY))
            .group(Group::Scripting)
            .since("2.6.0")
            .complexity("O(1)")
            .summary("Stops the script that runs.")
            .tips(&["request_policy:all_shards", "response_policy:one_succeeded"]),
    ],
)
.arity(-2)
.group(Group::Scripting)
.since("2.6.0")
.complexity("Depends on the subcommand")
.summary("Commands on cached scripts.")];

fn exists(request: &Request, _: &mut Session) -> Outcome {
    Ok(Reply::Array(request.args.from(2).map(|_| Reply::Int(0)).collect()))
}

fn flush(request: &Request, _: &mut Session) -> Outcome {
    let mode = request.args.get(2).unwrap_or(b"SYNC");
    let is_known = mode.eq_ignore_ascii_case(b"SYNC") || mode.eq_ignore_ascii_case(b"ASYNC");
    if request.args.len() > 3 || !is_known {
        return Err(ErrorReply::fixed("ERR SCRIPT FLUSH only support SYNC|ASYNC option").into());
    }
    Ok(Reply::Ok)
}

fn kill(_: &Request, _: &mut Session) -> Outcome {
    Err(ErrorReply::fixed("NOTBUSY No scripts in execution right now.").into())
}
