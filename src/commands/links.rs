//! What servers send each other over a client's connection: REPLCONF, PSYNC, SYNC.
//!
//! A Larder replica says `REPLCONF LARDER-LINK <version>`; from there on the socket belongs to replication. What replicas of
//! Redis say about themselves is understood, but the snapshot that they ask for next is not served.

use super::{Command, Failure, Outcome, Request, session};
use crate::base::number;
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::Group;
use crate::protocol::spec::flag::{ADMIN, ALLOW_BUSY, LOADING, NO_ASYNC_LOADING, NO_MULTI, NOSCRIPT, STALE};
use crate::protocol::spec::syntax::{integer, string};
use crate::session::handover::Handover;
use crate::session::session::Session;

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[
    session("replconf", replconf)
        .arity(-1)
        .flags(ADMIN.and(NOSCRIPT).and(LOADING).and(STALE).and(ALLOW_BUSY))
        .group(Group::Server)
        .since("3.0.0")
        .complexity("O(1)")
        .summary("Tells about a replica, or makes the connection a replication link."),
    session("psync", psync)
        .arity(-3)
        .flags(ADMIN.and(NOSCRIPT).and(NO_ASYNC_LOADING).and(NO_MULTI))
        .group(Group::Server)
        .since("2.8.0")
        .summary("Asks for a snapshot in Redis's format, or for what came after one.")
        .arguments(&[string("replicationid"), integer("offset")]),
    session("sync", sync)
        .arity(1)
        .flags(ADMIN.and(NOSCRIPT).and(NO_ASYNC_LOADING).and(NO_MULTI))
        .group(Group::Server)
        .since("1.0.0")
        .summary("Asks for a snapshot in Redis's format."),
];

/// The longest name of a host that a replica may tell.
const HOST_LEN_MAX: usize = 255;
/// What tells replicas of Redis that they must look elsewhere.
const NO_SNAPSHOTS: ErrorReply =
    ErrorReply::fixed("ERR snapshots in Redis's format are not served by this version of Larder");
const NO_LINKS: ErrorReply = ErrorReply::fixed("ERR replication links are not served here");

fn replconf(request: &Request, session: &mut Session) -> Outcome {
    if request.args.len().is_multiple_of(2) {
        return Err(error::SYNTAX.into());
    }
    let mut is_silent = false;
    for at in (1..request.args.len()).step_by(2) {
        is_silent |= option(request, session, at)?;
        if is_silent {
            break; // acknowledgements have no reply, whatever else is said
        }
    }
    Ok(if is_silent { Reply::Many(Vec::new()) } else { Reply::Ok })
}

/// Takes the option at word `at` with its value. Whether it is one that gets no reply.
fn option(request: &Request, session: &mut Session, at: usize) -> Result<bool, Failure> {
    let (name, value) = (request.args.at(at), request.args.at(at + 1));
    match name.to_ascii_lowercase().as_slice() {
        b"listening-port" => session.announced.port = u16::try_from(request.args.int(at + 1)?).unwrap_or(0),
        b"ip-address" if value.len() > HOST_LEN_MAX => {
            let text = format!(
                "ERR REPLCONF ip-address provided by replica instance is too long: {} bytes",
                value.len()
            );
            return Err(ErrorReply::new(text).into());
        }
        b"ip-address" => session.announced.host = String::from_utf8_lossy(value).into_owned(),
        b"capa" => {}
        b"ack" | b"getack" => return Ok(true),
        b"rdb-only" => {
            if !(0..=1).contains(&request.args.int(at + 1)?) {
                return Err(ErrorReply::fixed("ERR value is out of range, value must between 0 and 1").into());
            }
        }
        b"larder-link" => link(request, session, value)?,
        _ => return Err(ErrorReply::quoting("ERR Unrecognized REPLCONF option: ", name, "").into()),
    }
    Ok(false)
}

/// Makes the connection a link once the reply is sent.
fn link(request: &Request, session: &mut Session, version: &[u8]) -> Result<(), Failure> {
    let version = number::parse_i64(version).and_then(|version| u32::try_from(version).ok());
    let version = version.ok_or(error::NOT_AN_INTEGER)?;
    if session.executing.is_some()
        || session.client.peer.is_local_socket
        || request.service.links.get().is_none()
    {
        return Err(NO_LINKS.into());
    }
    session.handover = Some(Handover { version });
    session.close_after_reply();
    Ok(())
}

fn psync(request: &Request, _: &mut Session) -> Outcome {
    if request.args.get(3).is_some_and(|word| word.eq_ignore_ascii_case(b"FAILOVER")) {
        return Err(ErrorReply::fixed("ERR PSYNC FAILOVER can't be sent to a master.").into());
    }
    request.args.int(2)?;
    Err(NO_SNAPSHOTS.into())
}

fn sync(_: &Request, _: &mut Session) -> Outcome {
    Err(NO_SNAPSHOTS.into())
}
