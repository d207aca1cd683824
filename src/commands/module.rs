//! MODULE: there are no loadable modules.

use super::{Command, Outcome, Request, container, help_from_table, session};
use crate::protocol::error::ErrorReply;
use crate::protocol::reply::Reply;
use crate::protocol::spec::Group;
use crate::protocol::spec::flag::{ADMIN, LOADING, NO_ASYNC_LOADING, NOSCRIPT, PROTECTED, STALE};
use crate::protocol::spec::syntax::{block, string};
use crate::session::session::Session;

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[container(
    "module",
    &[
        session("help", help_from_table)
            .arity(2)
            .flags(LOADING.and(STALE))
            .group(Group::Server)
            .since("5.0.0")
            .complexity("O(1)")
            .summary("Explains the subcommands."),
        session("list", list)
            .arity(2)
            .flags(ADMIN.and(NOSCRIPT))
            .group(Group::Server)
            .since("4.0.0")
            .complexity("O(N) where N is the number of modules")
            .summary("Lists the loaded modules.")
            .tips(&["nondeterministic_output_order"]),
        session("load", load)
            .arity(-3)
            .flags(ADMIN.and(NOSCRIPT).and(NO_ASYNC_LOADING).and(PROTECTED))
            .group(Group::Server)
            .since("4.0.0")
            .complexity("O(1)")
            .summary("Loads a module.")
            .arguments(&[string("path"), string("arg").optional().multiple()]),
        session("loadex", load)
            .arity(-3)
            .flags(ADMIN.and(NOSCRIPT).and(NO_ASYNC_LOADING).and(PROTECTED))
            .group(Group::Server)
            .since("7.0.0")
            .complexity("O(1)")
            .summary("Loads a module with settings of its own.")
            .arguments(&[
                string("path"),
                block("configs", &[string("name"), string("value")])
                    .token("CONFIG")
                    .optional()
                    .multiple_token(),
                block("args", &[string("arg")]).token("ARGS").optional().multiple(),
            ]),
        session("unload", unload)
            .arity(3)
            .flags(ADMIN.and(NOSCRIPT).and(NO_ASYNC_LOADING).and(PROTECTED))
            .group(Group::Server)
            .since("4.0.0")
            .complexity("O(1)")
            .summary("Unloads a module.")
            .arguments(&[string("name")]),
    ],
)
.arity(-2)
.group(Group::Server)
.since("4.0.0")
.complexity("Depends on the subcommand")
.summary("Commands on loadable modules.")];

fn list(_: &Request, _: &mut Session) -> Outcome {
    Ok(Reply::Array(Vec::new()))
}

fn load(_: &Request, _: &mut Session) -> Outcome {
    tracing::warn!("MODULE LOAD was refused: Larder has no loadable modules");
    Err(ErrorReply::fixed("ERR Error loading the extension. Please check the server logs.").into())
}

fn unload(_: &Request, _: &mut Session) -> Outcome {
    Err(ErrorReply::fixed("ERR Error unloading module: no such module with that name").into())
}
