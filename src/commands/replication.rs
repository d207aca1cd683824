//! Replication as its commands show it: ROLE, REPLICAOF, SLAVEOF, FAILOVER. A single server follows nobody and has no
//! replicas, and says so.

use super::{Command, Outcome, Request, session};
use crate::base::number;
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::Group;
use crate::protocol::spec::flag::{ADMIN, FAST, LOADING, NO_ASYNC_LOADING, NOSCRIPT, STALE};
use crate::protocol::spec::syntax::{block, integer, one_of, string, token};
use crate::session::session::Session;

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[
    session("role", role)
        .arity(1)
        .flags(NOSCRIPT.and(LOADING).and(STALE).and(FAST))
        .group(Group::Server)
        .since("2.8.12")
        .complexity("O(1)")
        .summary("Says which part the server plays in replication.")
        .categories(&["admin", "dangerous"]),
    session("replicaof", replicaof)
        .arity(3)
        .flags(ADMIN.and(NOSCRIPT).and(STALE).and(NO_ASYNC_LOADING))
        .group(Group::Server)
        .since("5.0.0")
        .complexity("O(1)")
        .summary("Makes the server follow another one, or none.")
        .arguments(&[one_of(
            "args",
            &[
                block("host-port", &[string("host"), integer("port")]),
                block("no-one", &[token("no", "NO"), token("one", "ONE")]),
            ],
        )]),
    session("slaveof", replicaof)
        .arity(3)
        .flags(ADMIN.and(NOSCRIPT).and(STALE).and(NO_ASYNC_LOADING))
        .group(Group::Server)
        .since("1.0.0")
        .complexity("O(1)")
        .summary("Makes the server follow another one, or none.")
        .arguments(&[one_of(
            "args",
            &[
                block("host-port", &[string("host"), integer("port")]),
                block("no-one", &[token("no", "NO"), token("one", "ONE")]),
            ],
        )])
        .deprecated("5.0.0", "`REPLICAOF`"),
    session("failover", failover)
        .arity(-1)
        .flags(ADMIN.and(NOSCRIPT).and(STALE))
        .group(Group::Server)
        .since("6.2.0")
        .complexity("O(1)")
        .summary("Hands over to a replica.")
        .arguments(&[
            block("target", &[string("host"), integer("port"), token("force", "FORCE").optional()])
                .token("TO")
                .optional(),
            token("abort", "ABORT").optional(),
            integer("milliseconds").token("TIMEOUT").optional(),
        ]),
];

fn role(_: &Request, _: &mut Session) -> Outcome {
    Ok(Reply::Array(vec![Reply::Text("master"), Reply::Int(0), Reply::Array(Vec::new())]))
}

fn replicaof(request: &Request, _: &mut Session) -> Outcome {
    let (host, port) = (request.args.at(1), request.args.at(2));
    if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
        return Ok(Reply::Ok);
    }
    match number::parse_i64(port) {
        Some(0..=65_535) => {
            Err(ErrorReply::fixed("ERR replication is not supported by this version of Larder").into())
        }
        _ => Err(ErrorReply::fixed("ERR Invalid master port").into()),
    }
}

fn failover(request: &Request, _: &mut Session) -> Outcome {
    let mut words = request.args.cursor(1);
    if request.args.len() == 2 && words.eat("ABORT") {
        return Err(ErrorReply::fixed("ERR No failover in progress.").into());
    }
    while !words.is_done() {
        if words.eat("TO") {
            words.word()?;
            words.int()?;
            words.eat("FORCE");
        } else if words.eat("TIMEOUT") {
            if words.int()? <= 0 {
                return Err(ErrorReply::fixed("ERR FAILOVER timeout must be greater than 0").into());
            }
        } else {
            return Err(error::SYNTAX.into());
        }
    }
    Err(ErrorReply::fixed("ERR FAILOVER requires connected replicas.").into())
}
