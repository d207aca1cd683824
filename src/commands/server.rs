//! The server itself: TIME, LOLWUT, MONITOR, SHUTDOWN.

use super::{Command, Outcome, REDIS_VERSION, Request, session};
use crate::base::clock;
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::Group;
use crate::protocol::spec::flag::{ADMIN, ALLOW_BUSY, FAST, LOADING, NO_MULTI, NOSCRIPT, READONLY, STALE};
use crate::protocol::spec::syntax::{integer, one_of, token};
use crate::session::session::{Closing, Session};

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[
    session("time", time)
        .arity(1)
        .flags(LOADING.and(STALE).and(FAST))
        .group(Group::Server)
        .since("2.6.0")
        .complexity("O(1)")
        .summary("Returns the server's clock.")
        .tips(&["nondeterministic_output"]),
    session("lolwut", lolwut)
        .arity(-1)
        .flags(READONLY.and(FAST))
        .group(Group::Server)
        .since("5.0.0")
        .summary("Draws a picture and names the version.")
        .arguments(&[integer("version").token("VERSION").optional()]),
    session("monitor", monitor)
        .arity(1)
        .flags(ADMIN.and(NOSCRIPT).and(LOADING).and(STALE))
        .group(Group::Server)
        .since("1.0.0")
        .summary("Shows every command that runs, as it runs."),
    session("shutdown", shutdown)
        .arity(-1)
        .flags(ADMIN.and(NOSCRIPT).and(LOADING).and(STALE).and(NO_MULTI).and(ALLOW_BUSY))
        .group(Group::Server)
        .since("1.0.0")
        .complexity("O(N) where N is the number of rows changed since the last checkpoint; O(1) with NOSAVE")
        .summary("Stops the server.")
        .arguments(&[
            one_of("nosave_save", &[token("nosave", "NOSAVE"), token("save", "SAVE")]).optional(),
            token("now", "NOW").optional().since("7.0.0"),
            token("force", "FORCE").optional().since("7.0.0"),
            token("abort", "ABORT").optional().since("7.0.0"),
        ])
        .history(&[("7.0.0", "`NOW`, `FORCE` and `ABORT` came.")]),
];

fn time(_: &Request, _: &mut Session) -> Outcome {
    let now_us = clock::unix_us();
    let words = [now_us / 1_000_000, now_us % 1_000_000];
    Ok(Reply::Array(words.iter().map(|word| Reply::bulk(word.to_string())).collect()))
}

fn lolwut(request: &Request, _: &mut Session) -> Outcome {
    let mut words = request.args.cursor(1);
    if words.left() >= 2 && words.eat("VERSION") {
        // Redis's pictures of old versions have measures; ours has none, but numbers they must be.
        let measures = match words.int()? {
            5 => 3,
            6 => 2,
            _ => 0,
        };
        for _ in 0..measures.min(words.left()) {
            words.int()?;
        }
    }
    let shelves = "  _______________________\n  | [] ()  {} |  []  () |\n  |_[]_()__{}_|__[]__()_|\n  |  {}  [] ()|  {} []  |\n  |__{}__[]_()|__{}_[]__|\n";
    let version = env!("CARGO_PKG_VERSION");
    let text = format!(
        "{shelves}\nA larder keeps what it is given. Larder ver. {version}, as Redis ver. {REDIS_VERSION}\n"
    );
    Ok(Reply::Verbatim("txt", text))
}

fn monitor(request: &Request, session: &mut Session) -> Outcome {
    session.is_monitor = true;
    session.touch();
    request.service.monitors.add(&session.client);
    Ok(Reply::Ok)
}

/// A server that stops does not answer.
fn shutdown(request: &Request, session: &mut Session) -> Outcome {
    let mut words = request.args.cursor(1);
    let (mut save, mut no_save, mut abort, mut others) = (false, false, false, false);
    while !words.is_done() {
        if words.eat("NOSAVE") {
            no_save = true;
        } else if words.eat("SAVE") {
            save = true;
        } else if words.eat("ABORT") {
            abort = true;
        } else if words.eat("NOW") || words.eat("FORCE") {
            others = true;
        } else {
            return Err(error::SYNTAX.into());
        }
    }
    if (save && no_save) || (abort && (save || no_save || others)) {
        return Err(error::SYNTAX.into());
    }
    if abort {
        if request.service.stop.abort() {
            tracing::warn!("Shutdown manually aborted");
            return Ok(Reply::Ok);
        }
        return Err(ErrorReply::fixed("ERR No shutdown in progress.").into());
    }
    tracing::info!("User requested shutdown...");
    request.service.stop.order(no_save);
    session.closing = Some(Closing::AfterReply);
    Ok(Reply::Many(Vec::new()))
}
