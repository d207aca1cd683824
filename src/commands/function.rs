//! FUNCTION: there are no function libraries yet, so that none is listed and none can be removed.

use super::{Command, Outcome, Request, container, help_from_table, session};
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::Group;
use crate::protocol::spec::flag::{ALLOW_BUSY, LOADING, NOSCRIPT, STALE, WRITE};
use crate::protocol::spec::syntax::{one_of, string, token};
use crate::session::session::Session;

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[container(
    "function",
    &[
        session("delete", delete)
            .arity(3)
            .flags(WRITE.and(NOSCRIPT))
            .group(Group::Scripting)
            .since("7.0.0")
            .complexity("O(1)")
            .summary("Removes a library.")
            .arguments(&[string("library-name")])
            .tips(&["request_policy:all_shards", "response_policy:all_succeeded"]),
        session("flush", flush)
            .arity(-2)
            .flags(WRITE.and(NOSCRIPT))
            .group(Group::Scripting)
            .since("7.0.0")
            .complexity("O(N) where N is the number of functions")
            .summary("Removes all functions.")
            .arguments(&[one_of("async", &[token("async", "ASYNC"), token("sync", "SYNC")]).optional()])
            .tips(&["request_policy:all_shards", "response_policy:all_succeeded"]),
        session("help", help_from_table)
            .arity(2)
            .flags(LOADING.and(STALE))
            .group(Group::Scripting)
            .since("7.0.0")
            .complexity("O(1)")
            .summary("Explains the subcommands."),
        session("kill", kill)
            .arity(2)
            .flags(NOSCRIPT.and(ALLOW_BUSY))
            .group(Group::Scripting)
            .since("7.0.0")
            .complexity("O(1)")
            .summary("Stops the function that runs.")
            .tips(&["request_policy:all_shards", "response_policy:one_succeeded"]),
        session("list", list)
            .arity(-2)
            .flags(NOSCRIPT)
            .group(Group::Scripting)
            .since("7.0.0")
            .complexity("O(N) where N is the number of functions")
            .summary("Lists the libraries.")
            .arguments(&[
                string("library-name-pattern").token("LIBRARYNAME").optional(),
                token("withcode", "WITHCODE").optional(),
            ])
            .tips(&["nondeterministic_output_order"]),
        session("stats", stats)
            .arity(2)
            .flags(NOSCRIPT.and(ALLOW_BUSY))
            .group(Group::Scripting)
            .since("7.0.0")
            .complexity("O(1)")
            .summary("Says which function runs and what engines there are.")
            .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"]),
    ],
)
.arity(-2)
.group(Group::Scripting)
.since("7.0.0")
.complexity("Depends on the subcommand")
.summary("Commands on function libraries.")];

fn flush(request: &Request, _: &mut Session) -> Outcome {
    if request.args.len() > 3 {
        return Err(error::unknown_or_wrong_arity("FUNCTION", request.args.at(1)).into());
    }
    let mode = request.args.get(2).unwrap_or(b"SYNC");
    if !mode.eq_ignore_ascii_case(b"SYNC") && !mode.eq_ignore_ascii_case(b"ASYNC") {
        return Err(ErrorReply::fixed("ERR FUNCTION FLUSH only supports SYNC|ASYNC option").into());
    }
    Ok(Reply::Ok)
}

fn list(request: &Request, _: &mut Session) -> Outcome {
    let mut words = request.args.cursor(2);
    let (mut with_code, mut library) = (false, None);
    while let Some(word) = words.peek() {
        if !with_code && words.eat("WITHCODE") {
            with_code = true;
        } else if library.is_none() && words.eat("LIBRARYNAME") {
            let missing = ErrorReply::fixed("ERR library name argument was not given");
            library = Some(words.word().map_err(|_| missing)?);
        } else {
            let text = [b"ERR Unknown argument ", error::shown(word, usize::MAX)].concat();
            return Err(ErrorReply::new(text).into());
        }
    }
    Ok(Reply::Array(Vec::new()))
}

fn delete(_: &Request, _: &mut Session) -> Outcome {
    Err(ErrorReply::fixed("ERR Library not found").into())
}

fn kill(_: &Request, _: &mut Session) -> Outcome {
    Err(ErrorReply::fixed("NOTBUSY No scripts in execution right now.").into())
}

fn stats(_: &Request, _: &mut Session) -> Outcome {
    let counts =
        vec![Reply::Text("libraries_count"), Reply::Int(0), Reply::Text("functions_count"), Reply::Int(0)];
    let engines = Reply::Map(vec![Reply::Text("LUA"), Reply::Map(counts)]);
    Ok(Reply::Map(vec![Reply::Text("running_script"), Reply::Null, Reply::Text("engines"), engines]))
}
