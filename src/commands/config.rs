//! CONFIG: parameters while the server runs. What a parameter takes and how it is shown is in [`crate::config`]; here are the
//! words of the command, and what has to happen at once when a value changes.

use super::cluster::orders;
use super::{Command, Outcome, Request, container, help, session};
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::flag::{ADMIN, LOADING, NOSCRIPT, STALE};
use crate::protocol::spec::syntax::{block, string};
use crate::protocol::spec::{Flags, Group};
use crate::session::session::Session;

const GUARDED: Flags = ADMIN.and(NOSCRIPT).and(LOADING).and(STALE);

const fn subcommand(
    name: &'static str,
    handler: fn(&Request, &mut Session) -> Outcome,
    arity: i32,
) -> Command {
    session(name, handler).arity(arity).flags(GUARDED).group(Group::Server).since("2.0.0").complexity("O(1)")
}

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[container(
    "config",
    &[
        subcommand("get", get, -3)
            .complexity("O(N) for N parameters asked for.")
            .summary("Shows parameters and their values.")
            .history(&[("7.0.0", "Several patterns in one call.")])
            .arguments(&[block("parameter", &[string("parameter")]).multiple()]),
        session("help", show_help)
            .arity(2)
            .flags(LOADING.and(STALE))
            .group(Group::Server)
            .since("5.0.0")
            .complexity("O(1)")
            .summary("Shows what the subcommands do."),
        subcommand("resetstat", reset_statistics, 2).summary("Starts the counters of INFO anew."),
        subcommand("rewrite", rewrite, 2)
            .since("2.8.0")
            .summary("Writes the present parameters into the configuration file."),
        subcommand("set", set, -4)
            .complexity("O(N) for N parameters set.")
            .summary("Sets parameters, all or none.")
            .history(&[("7.0.0", "Several parameters in one call.")])
            .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
            .arguments(&[block("parameter_value", &[string("parameter"), string("value")]).multiple()]),
    ],
)
.arity(-2)
.group(Group::Server)
.since("2.0.0")
.complexity("Depends on the subcommand.")
.summary("Parameters of the running server.")];

fn get(request: &Request, _: &mut Session) -> Outcome {
    let patterns: Vec<&[u8]> = request.args.from(2).collect();
    let found = request.service.parameters.get(&patterns);
    Ok(Reply::Map(
        found.into_iter().flat_map(|(name, value)| [Reply::Text(name), Reply::Bulk(value)]).collect(),
    ))
}

fn set(request: &Request, session: &mut Session) -> Outcome {
    let words: Vec<&[u8]> = request.args.from(2).collect();
    if words.len() % 2 == 1 {
        return Err(error::SYNTAX.into());
    }
    let pairs: Vec<(&[u8], &[u8])> = words.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    let peer = &session.client.peer;
    let is_local = peer.is_local_socket || peer.is_loopback;
    let service = request.service;
    let changed = service
        .parameters
        .set(&pairs, is_local, |settings, changed| service.prepare_settings(settings, changed));
    let changed = changed.map_err(ErrorReply::new)?;
    if !changed.is_empty() {
        request.service.apply_settings();
        session.has_new_settings = true;
    }
    // It is the cluster's, whatever this node had in its file.
    let has_replicas = pairs.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"replicas"));
    if let Some(node) = service.cluster.get().filter(|_| has_replicas) {
        return orders::set_replicas(service.parameters.settings().replicas, node);
    }
    Ok(Reply::Ok)
}

fn reset_statistics(request: &Request, _: &mut Session) -> Outcome {
    request.service.statistics.reset();
    Ok(Reply::Ok)
}

fn rewrite(request: &Request, _: &mut Session) -> Outcome {
    match request.service.parameters.rewrite() {
        Ok(()) => {
            tracing::info!("the configuration file was rewritten");
            Ok(Reply::Ok)
        }
        Err(text) => {
            tracing::warn!("CONFIG REWRITE failed: {text}");
            Err(ErrorReply::new(text).into())
        }
    }
}

fn show_help(_: &Request, _: &mut Session) -> Outcome {
    Ok(help(
        "CONFIG",
        &[
            "GET <pattern> [<pattern> ...]",
            "    Show the parameters whose names match, and their values.",
            "SET <parameter> <value> [<parameter> <value> ...]",
            "    Set parameters, all of them or none.",
            "RESETSTAT",
            "    Start the counters of INFO anew.",
            "REWRITE",
            "    Write the present parameters into the configuration file.",
        ],
    ))
}
