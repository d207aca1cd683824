//! The connection itself: PING, ECHO, HELLO, AUTH, QUIT, RESET, SELECT. CLIENT is in `client`.

use super::{Command, Outcome, Request, client, session};
use crate::base::number;
use crate::observability::statistics::Counter;
use crate::protocol::args::Args;
use crate::protocol::encode::Version;
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::flag::{ALLOW_BUSY, FAST, LOADING, NO_AUTH, NOSCRIPT, STALE};
use crate::protocol::spec::syntax::{block, integer, string};
use crate::protocol::spec::{Flags, Group};
use crate::session::session::{DEFAULT_USER, Replies, Session};

/// The version of Redis whose behaviour we report to clients.
pub const REDIS_VERSION: &str = "7.2.4";

const ANYTIME: Flags = LOADING.and(STALE).and(FAST);
const BEFORE_AUTH: Flags = ANYTIME.and(NOSCRIPT).and(NO_AUTH).and(ALLOW_BUSY);

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[
    session("ping", ping)
        .arity(-1)
        .flags(FAST)
        .group(Group::Connection)
        .since("1.0.0")
        .complexity("O(1)")
        .summary("Answers PONG, or what it was given.")
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .arguments(&[string("message").optional()]),
    session("echo", echo)
        .arity(2)
        .flags(ANYTIME)
        .group(Group::Connection)
        .since("1.0.0")
        .complexity("O(1)")
        .summary("Answers what it was given.")
        .arguments(&[string("message")]),
    session("hello", hello)
        .arity(-1)
        .flags(BEFORE_AUTH)
        .group(Group::Connection)
        .since("6.0.0")
        .complexity("O(1)")
        .summary("Chooses the protocol version, authenticates, names the connection.")
        .history(&[("6.2.0", "Without a version, the present one stays.")])
        .arguments(&[block(
            "arguments",
            &[
                integer("protover"),
                block("username_password", &[string("username"), string("password")])
                    .token("AUTH")
                    .optional(),
                string("clientname").token("SETNAME").optional(),
            ],
        )
        .optional()]),
    session("auth", auth)
        .arity(-2)
        .flags(BEFORE_AUTH)
        .group(Group::Connection)
        .since("1.0.0")
        .complexity("O(N) for N passwords of the user.")
        .summary("Authenticates the connection.")
        .history(&[("6.0.0", "A user name may come before the password.")])
        .arguments(&[string("username").optional().since("6.0.0"), string("password")]),
    session("quit", quit)
        .arity(-1)
        .flags(BEFORE_AUTH)
        .group(Group::Connection)
        .since("1.0.0")
        .complexity("O(1)")
        .summary("Closes the connection.")
        .deprecated("7.2.0", "just closing the connection"),
    session("reset", reset)
        .arity(1)
        .flags(BEFORE_AUTH)
        .group(Group::Connection)
        .since("6.2.0")
        .complexity("O(1)")
        .summary("Brings the connection back to the state it began in."),
    session("select", select)
        .arity(2)
        .flags(ANYTIME)
        .group(Group::Connection)
        .since("1.0.0")
        .complexity("O(1)")
        .summary("Chooses the database of the commands that follow.")
        .arguments(&[integer("index")]),
    client::CLIENT,
];

fn ping(request: &Request, session: &mut Session) -> Outcome {
    if request.args.len() > 2 {
        return Err(error::wrong_arity("ping").into());
    }
    let message = request.args.get(1);
    if session.is_subscriber_only() {
        return Ok(Reply::Array(vec![Reply::Text("pong"), Reply::bulk(message.unwrap_or_default())]));
    }
    Ok(message.map_or(Reply::Simple("PONG"), Reply::bulk))
}

fn echo(request: &Request, _: &mut Session) -> Outcome {
    Ok(Reply::bulk(request.args.at(1)))
}

fn quit(_: &Request, session: &mut Session) -> Outcome {
    session.close_after_reply();
    Ok(Reply::Ok)
}

fn select(request: &Request, session: &mut Session) -> Outcome {
    let index = request.args.int_32(1)?;
    let known = u16::try_from(index).ok().filter(|&index| u32::from(index) < request.settings.databases);
    session.database = known.ok_or(error::DB_OUT_OF_RANGE)?;
    session.touch();
    Ok(Reply::Ok)
}

fn reset(request: &Request, session: &mut Session) -> Outcome {
    session.multi = None;
    session.watched.clear(&request.service.store, request.now);
    request.service.monitors.remove(session.id);
    request.service.pubsub.end_all(session.id, &mut session.subscriptions);
    session.client.mark_reply();
    session.is_monitor = false;
    // NO-EVICT stays: in Redis 7.0 it is no part of what is reset.
    session.is_no_touch = false;
    session.write_concern = None;
    session.reads_copies = false;
    session.knows_slots = false;
    session.version = Version::Resp2;
    session.database = 0;
    session.name.clear();
    session.replies = Replies::On;
    session.user = DEFAULT_USER.into();
    session.is_authenticated = request.settings.requirepass.0.is_empty();
    session.touch();
    Ok(Reply::Simple("RESET"))
}

fn auth(request: &Request, session: &mut Session) -> Outcome {
    let args = request.args;
    match args.len() {
        2 if request.settings.requirepass.0.is_empty() => Err(ErrorReply::fixed(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
             configuration is correct?",
        )
        .into()),
        2 => authenticate(request, session, DEFAULT_USER.as_bytes(), args.at(1)).map_err(Into::into),
        3 => authenticate(request, session, args.at(1), args.at(2)).map_err(Into::into),
        _ => Err(error::SYNTAX.into()),
    }
}

/// Makes the session act as `user`, if the password is right.
fn authenticate(
    request: &Request,
    session: &mut Session,
    user: &[u8],
    password: &[u8],
) -> Result<Reply, ErrorReply> {
    let expected = &request.settings.requirepass.0;
    let is_right =
        user == DEFAULT_USER.as_bytes() && (expected.is_empty() || is_same_secret(expected, password));
    if !is_right {
        request.service.statistics.add(Counter::AccessDeniedAuth, 1);
        return Err(error::WRONG_PASS);
    }
    session.user = DEFAULT_USER.into();
    session.is_authenticated = true;
    session.touch();
    Ok(Reply::Ok)
}

/// Compares two secrets in a time that does not tell where they differ: by their digests.
fn is_same_secret(a: &[u8], b: &[u8]) -> bool {
    use sha2::{Digest, Sha256};
    let (a, b) = (Sha256::digest(a), Sha256::digest(b));
    a.iter().zip(b.iter()).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

/// The version of the protocol that HELLO asks for.
fn asked_version(args: Args) -> Result<Option<Version>, ErrorReply> {
    let Some(version) = args.get(1) else { return Ok(None) };
    match number::parse_i64(version) {
        Some(2) => Ok(Some(Version::Resp2)),
        Some(3) => Ok(Some(Version::Resp3)),
        Some(_) => Err(ErrorReply::fixed("NOPROTO unsupported protocol version")),
        None => Err(ErrorReply::fixed("ERR Protocol version is not an integer or out of range")),
    }
}

fn hello(request: &Request, session: &mut Session) -> Outcome {
    let version = asked_version(request.args)?;
    let mut cursor = request.args.cursor(2);
    // Options count one by one, as in Redis: an error in a later one takes nothing back.
    while let Some(option) = cursor.peek() {
        if cursor.left() >= 3 && cursor.eat("AUTH") {
            authenticate(request, session, cursor.word()?, cursor.word()?)?;
        } else if cursor.left() >= 2 && cursor.eat("SETNAME") {
            let name = cursor.word()?;
            client::check_name(name)?;
            session.name = name.to_vec();
            session.touch();
        } else {
            return Err(ErrorReply::quoting("ERR Syntax error in HELLO option '", option, "'").into());
        }
    }
    if !session.is_authenticated && !request.settings.requirepass.0.is_empty() {
        return Err(ErrorReply::fixed(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> \
             option can be used to authenticate the client and select the RESP protocol version at the same time",
        )
        .into());
    }
    session.version = version.unwrap_or(session.version);
    session.touch();
    Ok(Reply::Map(vec![
        Reply::Text("server"),
        Reply::Text("redis"),
        Reply::Text("version"),
        Reply::Text(REDIS_VERSION),
        Reply::Text("proto"),
        Reply::Int(session.version.number()),
        Reply::Text("id"),
        Reply::Int(session.id as i64),
        Reply::Text("mode"),
        Reply::Text("standalone"),
        Reply::Text("role"),
        Reply::Text("master"),
        Reply::Text("modules"),
        Reply::Array(Vec::new()),
    ]))
}
