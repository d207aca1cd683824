//! Replication as its commands show it: ROLE, REPLICAOF, SLAVEOF, FAILOVER.

use super::cluster::orders;
use super::cluster::shown::Shown;
use super::{Command, Outcome, Request, session};
use crate::base::ids::NodeId;
use crate::base::{clock, number};
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::Group;
use crate::protocol::spec::flag::{ADMIN, FAST, LOADING, NO_ASYNC_LOADING, NOSCRIPT, STALE};
use crate::protocol::spec::syntax::{block, integer, one_of, string, token};
use crate::replication::LinkState;
use crate::replication::progress::Follower;
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

fn role(request: &Request, _: &mut Session) -> Outcome {
    let replication = &request.service.replication;
    let Some((host, port)) = replication.followed() else { return Ok(role_of_primary(request)) };
    let upstream = replication.upstream();
    let (state, position) = match upstream.state {
        LinkState::Down => ("connect", -1),
        LinkState::Connecting => ("connecting", -1),
        LinkState::Syncing => ("sync", -1),
        LinkState::Up => ("connected", upstream.position as i64),
    };
    Ok(Reply::Array(vec![
        Reply::Text("slave"),
        Reply::bulk(host),
        Reply::Int(i64::from(port)),
        Reply::Text(state),
        Reply::Int(position),
    ]))
}

/// Replicas that still wait for a snapshot are not told of.
fn role_of_primary(request: &Request) -> Reply {
    let (replication, store) = (&request.service.replication, &request.service.store);
    let partitions = usize::from(store.partition_count());
    let followers = replication.followers();
    let online = followers.iter().filter(|(_, follower)| follower.in_step.len() >= partitions);
    let replicas = online.map(|(_, follower)| {
        let (host, port) = &follower.address;
        let words = [host.clone(), port.to_string(), follower.journaled.to_string()];
        Reply::Array(words.map(Reply::bulk).to_vec())
    });
    let position = store.status().journal_position;
    Reply::Array(vec![Reply::Text("master"), Reply::Int(position as i64), Reply::Array(replicas.collect())])
}

fn replicaof(request: &Request, _: &mut Session) -> Outcome {
    let (host, port) = (request.args.at(1), request.args.at(2));
    let service = request.service;
    if service.cluster.get().is_some() {
        return Err(ErrorReply::fixed("ERR REPLICAOF not allowed in cluster mode.").into());
    }
    if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
        if service.replication.is_replica() {
            service.follow(None);
            tracing::info!("MASTER MODE enabled (user request)");
        }
        return Ok(Reply::Ok);
    }
    let port = number::parse_i64(port).and_then(|port| u16::try_from(port).ok());
    let port = port.ok_or(ErrorReply::fixed("ERR Invalid master port"))?;
    let host = std::str::from_utf8(host).ok().filter(|host| !host.is_empty() && !host.contains(' '));
    let host = host.ok_or(ErrorReply::fixed("ERR Invalid master host"))?;
    let followed = service.replication.followed();
    if followed.is_some_and(|(known, its_port)| known.eq_ignore_ascii_case(host) && its_port == port) {
        tracing::info!(
            "REPLICAOF would result into synchronization with the master we are already connected with."
        );
        return Ok(Reply::Simple("OK Already connected to specified master"));
    }
    service.follow(Some((host, port)));
    tracing::info!(
        "Before turning into a replica of {host}:{port}, this server takes no more changes (user request)"
    );
    Ok(Reply::Ok)
}

fn failover(request: &Request, _: &mut Session) -> Outcome {
    let mut words = request.args.cursor(1);
    if request.args.len() == 2 && words.eat("ABORT") {
        return Err(ErrorReply::fixed("ERR No failover in progress.").into());
    }
    let (mut target, mut is_forced, mut has_timeout) = (None, false, false);
    while !words.is_done() {
        if words.eat("TO") {
            target = Some((words.word()?, words.int()?));
        } else if words.eat("TIMEOUT") {
            if words.int()? <= 0 {
                return Err(ErrorReply::fixed("ERR FAILOVER timeout must be greater than 0").into());
            }
            has_timeout = true;
        } else if words.eat("FORCE") {
            is_forced = true;
        } else {
            return Err(error::SYNTAX.into());
        }
    }
    let service = request.service;
    if service.parameters.settings().cluster.is_spread {
        return Err(ErrorReply::fixed("ERR FAILOVER not allowed in cluster mode.").into());
    }
    let followers = service.replication.followers();
    let is_follower = |(host, port): (&[u8], i64)| {
        let is_it = |follower: &Follower| {
            follower.address.0.as_bytes() == host && i64::from(follower.address.1) == port
        };
        followers.iter().any(|(_, follower)| is_it(follower))
    };
    let refusal = if service.replication.is_replica() {
        "ERR FAILOVER is not valid when server is a replica."
    } else if followers.is_empty() {
        "ERR FAILOVER requires connected replicas."
    } else if is_forced && (!has_timeout || target.is_none()) {
        "ERR FAILOVER with force option requires both a timeout and target HOST and IP."
    } else if target.is_some_and(|target| !is_follower(target)) {
        "ERR FAILOVER target HOST and PORT is not a replica."
    } else if is_forced {
        "ERR FAILOVER FORCE could lose what was acknowledged: a primary that is gone is replaced by itself"
    } else {
        ""
    };
    if !refusal.is_empty() {
        return Err(ErrorReply::fixed(refusal).into());
    }
    let shown = Shown::of(service, clock::unix_ms());
    let Some((shown, node)) = shown.zip(service.cluster.get()) else {
        return Err(ErrorReply::fixed(
            "ERR FAILOVER needs a cluster, which decides who is primary: two servers of which one was told to follow have nobody to ask",
        )
        .into());
    };
    let is_it = |to: &NodeId, (host, port): (&[u8], i64)| {
        let address = shown.address(*to);
        address.host.as_bytes() == host && i64::from(address.port) == port
    };
    let to = match target {
        Some(target) => Some(
            shown
                .nodes()
                .into_iter()
                .find(|to| is_it(to, target))
                .ok_or(ErrorReply::fixed("ERR FAILOVER target HOST and PORT is not a replica."))?,
        ),
        None => None,
    };
    orders::give_all(to, node)
}
