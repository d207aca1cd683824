//! SLOWLOG: the last commands that took long.

use super::{Command, Outcome, Request, container, help_from_table, session};
use crate::base::number;
use crate::observability::slowlog::SlowCommand;
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::Group;
use crate::protocol::spec::flag::{ADMIN, LOADING, STALE};
use crate::protocol::spec::syntax::integer;
use crate::session::session::Session;

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[container(
    "slowlog",
    &[
        session("get", get)
            .arity(-2)
            .flags(ADMIN.and(LOADING).and(STALE))
            .group(Group::Server)
            .since("2.2.12")
            .complexity("O(N) where N is the number of entries returned")
            .summary("Lists slow commands, newest first.")
            .arguments(&[integer("count").optional()])
            .history(&[("4.0.0", "Shows address and name of the client.")])
            .tips(&["request_policy:all_nodes", "nondeterministic_output"]),
        session("help", help_from_table)
            .arity(2)
            .flags(LOADING.and(STALE))
            .group(Group::Server)
            .since("6.2.0")
            .complexity("O(1)")
            .summary("Explains the subcommands."),
        session("len", len)
            .arity(2)
            .flags(ADMIN.and(LOADING).and(STALE))
            .group(Group::Server)
            .since("2.2.12")
            .complexity("O(1)")
            .summary("Counts the slow commands that are kept.")
            .tips(&["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"]),
        session("reset", reset)
            .arity(2)
            .flags(ADMIN.and(LOADING).and(STALE))
            .group(Group::Server)
            .since("2.2.12")
            .complexity("O(N) where N is the number of entries")
            .summary("Forgets all slow commands.")
            .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
    ],
)
.arity(-2)
.group(Group::Server)
.since("2.2.12")
.complexity("Depends on the subcommand")
.summary("Commands on the log of slow commands.")];

const COUNT_DEFAULT: usize = 10;

fn get(request: &Request, _: &mut Session) -> Outcome {
    const REFUSED: ErrorReply = ErrorReply::fixed("ERR count should be greater than or equal to -1");
    if request.args.len() > 3 {
        return Err(error::unknown_or_wrong_arity("SLOWLOG", request.args.at(1)).into());
    }
    let count = match request.args.get(2) {
        None => Some(COUNT_DEFAULT),
        Some(word) => match number::parse_i64(word).ok_or(REFUSED)? {
            -1 => None,
            count => Some(usize::try_from(count).map_err(|_| REFUSED)?),
        },
    };
    Ok(Reply::Array(request.service.slowlog.get(count).into_iter().map(reply_of).collect()))
}

fn reply_of(slow: SlowCommand) -> Reply {
    Reply::Array(vec![
        Reply::Int(slow.id as i64),
        Reply::Int(slow.unix_s),
        Reply::Int(slow.duration_us as i64),
        Reply::Array(slow.words.into_iter().map(Reply::Bulk).collect()),
        Reply::Bulk(slow.address.into_bytes()),
        Reply::Bulk(slow.client_name),
    ])
}

fn len(request: &Request, _: &mut Session) -> Outcome {
    Ok(Reply::Int(request.service.slowlog.len() as i64))
}

fn reset(request: &Request, _: &mut Session) -> Outcome {
    request.service.slowlog.reset();
    Ok(Reply::Ok)
}
