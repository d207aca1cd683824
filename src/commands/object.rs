//! OBJECT: what the server knows about a key beside its value.

use super::{Command, Outcome, Request, container, help, read, session};
use crate::protocol::error::ErrorReply;
use crate::protocol::reply::Reply;
use crate::protocol::spec::access::RO;
use crate::protocol::spec::flag::{LOADING, STALE};
use crate::protocol::spec::syntax::key;
use crate::protocol::spec::{Argument, KeySpec};
use crate::session::session::Session;
use crate::store::eviction;
use crate::store::{Kind, View};
use crate::types::{keyspace, string};

const ONE_KEY: &[Argument] = &[key("key", 0)];
const ABOUT: &[KeySpec] = &[KeySpec::one(2, RO)];
const NONDETERMINISTIC: &[&str] = &["nondeterministic_output"];

const fn about_key(command: Command) -> Command {
    command.arity(3).keys(ABOUT).complexity("O(1)").tips(NONDETERMINISTIC).arguments(ONE_KEY)
}

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[container(
    "object",
    &[
        about_key(read("encoding", encoding)).since("2.2.3").summary("Names the form a value is kept in."),
        about_key(read("freq", freq))
            .since("4.0.0")
            .summary("Says how often a key is used, on a logarithmic scale."),
        about_key(read("idletime", idletime))
            .since("2.2.3")
            .summary("Says how many seconds ago a key was used."),
        about_key(read("refcount", refcount)).since("2.2.3").summary("Says how many references a value has."),
        session("help", show_help)
            .arity(2)
            .flags(LOADING.and(STALE))
            .since("6.2.0")
            .complexity("O(1)")
            .summary("Lists the subcommands."),
    ],
)
.arity(-2)
.since("2.2.3")
.complexity("That of the subcommand.")
.summary("Subcommands about what the server knows of a key.")];

const LFU_IN_FORCE: ErrorReply = ErrorReply::fixed(
    "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at \
     runtime LRU and LFU data will take some time to adjust.",
);
const LFU_NOT_IN_FORCE: ErrorReply = ErrorReply::fixed(
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between \
     policies at runtime LRU and LFU data will take some time to adjust.",
);

/// What Redis says of the small integers that all values share.
const SHARED: i64 = 2_147_483_647;

fn encoding(request: &Request, view: &mut View) -> Outcome {
    let key = request.key(2);
    let Some(entry) = view.peek(&key)? else { return Ok(Reply::Null) };
    Ok(Reply::Text(keyspace::encoding_name(&entry)))
}

fn refcount(request: &Request, view: &mut View) -> Outcome {
    let key = request.key(2);
    let Some(entry) = view.peek(&key)? else { return Ok(Reply::Null) };
    // Redis holds the integers from 0 to 9999 once for all, unless each needs an access time of its own.
    let settings = request.settings;
    let notes_accesses = settings.maxmemory > 0 && settings.maxmemory_policy.notes_accesses();
    let is_shared = !notes_accesses
        && entry.kind() == Kind::String
        && string::encoding_name(&entry) == "int"
        && entry.payload().len() <= 4
        && !entry.payload().starts_with(b"-");
    Ok(Reply::Int(if is_shared { SHARED } else { 1 }))
}

fn idletime(request: &Request, view: &mut View) -> Outcome {
    let key = request.key(2);
    if view.peek(&key)?.is_none() {
        return Ok(Reply::Null);
    }
    if view.access_clock().lfu {
        return Err(LFU_IN_FORCE.into());
    }
    Ok(Reply::Int(i64::from(view.idle_s(&key))))
}

fn freq(request: &Request, view: &mut View) -> Outcome {
    let key = request.key(2);
    if view.peek(&key)?.is_none() {
        return Ok(Reply::Null);
    }
    let clock = view.access_clock();
    if !clock.lfu {
        return Err(LFU_NOT_IN_FORCE.into());
    }
    let counter = view.access_of(&key).map_or(0, |access| eviction::lfu_decayed(access, clock.now));
    Ok(Reply::Int(i64::from(counter)))
}

fn show_help(_: &Request, _: &mut Session) -> Outcome {
    Ok(help(
        "OBJECT",
        &[
            "ENCODING <key>",
            "    Name the form the value of <key> is kept in.",
            "FREQ <key>",
            "    Return how often <key> is used, on a logarithmic scale (LFU policies).",
            "IDLETIME <key>",
            "    Return how many seconds ago <key> was used last (all other policies).",
            "REFCOUNT <key>",
            "    Return how many references the value of <key> has.",
        ],
    ))
}
