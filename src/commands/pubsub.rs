//! Publish and subscribe: SUBSCRIBE, PSUBSCRIBE, SSUBSCRIBE and their ends, PUBLISH, SPUBLISH, PUBSUB.
//!
//! None of them touches data. Replies to beginning and ending are messages themselves, one for each name; where they stand among
//! the messages that come at the same time is told to the mailbox.

use super::{Command, Outcome, Request, container, help_from_table, session};
use crate::base::glob;
use crate::protocol::error;
use crate::protocol::reply::Reply;
use crate::protocol::spec::access::NOT_KEY;
use crate::protocol::spec::flag::{FAST, LOADING, MAY_REPLICATE, NOSCRIPT, PUBSUB, STALE};
use crate::protocol::spec::syntax::{block, pattern, string};
use crate::protocol::spec::{Flags, Group, KeySpec};
use crate::session::pubsub::{Channels, Listening};
use crate::session::session::Session;

const LISTENING: Flags = PUBSUB.and(NOSCRIPT).and(LOADING).and(STALE);
const PUBLISHING: Flags = PUBSUB.and(LOADING).and(STALE).and(FAST).and(MAY_REPLICATE);
const ASKING: Flags = PUBSUB.and(LOADING).and(STALE);

const fn part(command: Command, arity: i32, since: &'static str, summary: &'static str) -> Command {
    command.arity(arity).flags(ASKING).group(Group::Pubsub).since(since).summary(summary)
}

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[
    session("subscribe", |request, session| Ok(begin(request, session, Listening::Channel)))
        .arity(-2)
        .flags(LISTENING)
        .group(Group::Pubsub)
        .since("2.0.0")
        .complexity("O(N) for N channels.")
        .summary("Lets the connection receive what is published to channels.")
        .arguments(&[string("channel").multiple()]),
    session("unsubscribe", |request, session| Ok(end(request, session, Listening::Channel)))
        .arity(-1)
        .flags(LISTENING)
        .group(Group::Pubsub)
        .since("2.0.0")
        .complexity("O(N) for N channels.")
        .summary("Ends SUBSCRIBE for some channels or for all.")
        .arguments(&[string("channel").optional().multiple()]),
    session("psubscribe", |request, session| Ok(begin(request, session, Listening::Pattern)))
        .arity(-2)
        .flags(LISTENING)
        .group(Group::Pubsub)
        .since("2.0.0")
        .complexity("O(N) for N patterns.")
        .summary("Lets the connection receive what is published to channels whose names fit.")
        .arguments(&[block("pattern", &[pattern("pattern")]).multiple()]),
    session("punsubscribe", |request, session| Ok(end(request, session, Listening::Pattern)))
        .arity(-1)
        .flags(LISTENING)
        .group(Group::Pubsub)
        .since("2.0.0")
        .complexity("O(N) for N patterns.")
        .summary("Ends PSUBSCRIBE for some patterns or for all.")
        .arguments(&[pattern("pattern").optional().multiple()]),
    session("publish", |request, session| Ok(publish(request, session, Channels::Global)))
        .arity(3)
        .flags(PUBLISHING)
        .group(Group::Pubsub)
        .since("2.0.0")
        .complexity("O(N+M) for N clients that listen to the channel and M patterns of all clients.")
        .summary("Sends a message to all who listen to a channel.")
        .arguments(&[string("channel"), string("message")]),
    session("ssubscribe", |request, session| Ok(begin(request, session, Listening::Shard)))
        .arity(-2)
        .flags(LISTENING)
        .group(Group::Pubsub)
        .since("7.0.0")
        .complexity("O(N) for N channels.")
        .summary("Lets the connection receive what is published to sharded channels.")
        .keys(&[KeySpec::range(1, -1, 1, NOT_KEY)])
        .arguments(&[string("shardchannel").multiple()]),
    session("sunsubscribe", |request, session| Ok(end(request, session, Listening::Shard)))
        .arity(-1)
        .flags(LISTENING)
        .group(Group::Pubsub)
        .since("7.0.0")
        .complexity("O(N) for N channels.")
        .summary("Ends SSUBSCRIBE for some sharded channels or for all.")
        .keys(&[KeySpec::range(1, -1, 1, NOT_KEY)])
        .arguments(&[string("shardchannel").optional().multiple()]),
    session("spublish", |request, session| Ok(publish(request, session, Channels::Sharded)))
        .arity(3)
        .flags(PUBLISHING)
        .group(Group::Pubsub)
        .since("7.0.0")
        .complexity("O(N) for N clients that listen to the channel.")
        .summary("Sends a message to all who listen to a sharded channel.")
        .keys(&[KeySpec::one(1, NOT_KEY)])
        .arguments(&[string("shardchannel"), string("message")]),
    container(
        "pubsub",
        &[
            part(session("channels", channels), -2, "2.8.0", "Lists channels that somebody listens to.")
                .complexity("O(N) for N channels.")
                .arguments(&[pattern("pattern").optional()]),
            session("help", help_from_table)
                .arity(2)
                .flags(LOADING.and(STALE))
                .group(Group::Pubsub)
                .since("6.2.0")
                .complexity("O(1)")
                .summary("Explains the subcommands."),
            part(session("numpat", numpat), 2, "2.8.0", "Counts the different patterns of all clients.")
                .complexity("O(1)"),
            part(session("numsub", numsub), -2, "2.8.0", "Counts who listens to each of these channels.")
                .complexity("O(N) for N channels asked for.")
                .arguments(&[string("channel").optional().multiple()]),
            part(
                session("shardchannels", shardchannels),
                -2,
                "7.0.0",
                "Lists sharded channels that somebody listens to.",
            )
            .complexity("O(N) for N sharded channels.")
            .arguments(&[pattern("pattern").optional()]),
            part(
                session("shardnumsub", shardnumsub),
                -2,
                "7.0.0",
                "Counts who listens to each of these sharded channels.",
            )
            .complexity("O(N) for N channels asked for.")
            .arguments(&[string("shardchannel").optional().multiple()]),
        ],
    )
    .arity(-2)
    .group(Group::Pubsub)
    .since("2.8.0")
    .complexity("Depends on the subcommand.")
    .summary("Commands that look at publish/subscribe."),
];

/// One message of a reply: what was done, to which name, and to how many names the connection listens now.
fn told(word: &'static str, name: Reply, session: &Session, listening: Listening) -> Reply {
    let count = session.subscriptions.count(listening) as i64;
    Reply::Push(vec![Reply::Text(word), name, Reply::Int(count)])
}

fn begin(request: &Request, session: &mut Session, listening: Listening) -> Reply {
    session.client.mark_reply(); // messages for the first name come behind the replies for all
    let mut replies = Vec::with_capacity(request.args.len());
    for name in request.args.from(1) {
        request.service.pubsub.begin(listening, name, &session.client, &mut session.subscriptions);
        replies.push(told(listening.begun(), Reply::bulk(name), session, listening));
    }
    session.touch();
    Reply::Many(replies)
}

fn end(request: &Request, session: &mut Session, listening: Listening) -> Reply {
    let mut replies = Vec::with_capacity(request.args.len());
    let mut end_one = |session: &mut Session, name: &[u8]| {
        request.service.pubsub.end(listening, name, session.id, &mut session.subscriptions);
        replies.push(told(listening.ended(), Reply::bulk(name), session, listening));
    };
    if request.args.len() > 1 {
        request.args.from(1).for_each(|name| end_one(session, name));
    } else {
        session.subscriptions.names(listening).iter().for_each(|name| end_one(session, name));
    }
    if replies.is_empty() {
        replies.push(told(listening.ended(), Reply::Null, session, listening));
    }
    session.client.mark_reply(); // messages for the last name come before
    session.touch();
    Reply::Many(replies)
}

fn publish(request: &Request, session: &Session, channels: Channels) -> Reply {
    let (channel, payload) = (request.args.at(1), request.args.at(2));
    Reply::Int(request.service.publish(channels, channel, payload, session.id) as i64)
}

fn list(request: &Request, channels: Channels) -> Outcome {
    if request.args.len() > 3 {
        return Err(error::unknown_or_wrong_arity("pubsub", request.args.at(1)).into());
    }
    let pattern = request.args.get(2);
    let fits = |name: &[u8]| pattern.is_none_or(|pattern| glob::matches(pattern, name, false));
    let names = request.service.pubsub.names(channels, fits);
    Ok(Reply::Array(names.into_iter().map(Reply::bulk).collect()))
}

fn count(request: &Request, channels: Channels) -> Reply {
    let counted = |name: &[u8]| {
        let listeners = request.service.pubsub.listeners(channels, name);
        [Reply::bulk(name), Reply::Int(listeners as i64)]
    };
    Reply::Array(request.args.from(2).flat_map(counted).collect())
}

fn channels(request: &Request, _: &mut Session) -> Outcome {
    list(request, Channels::Global)
}

fn shardchannels(request: &Request, _: &mut Session) -> Outcome {
    list(request, Channels::Sharded)
}

fn numsub(request: &Request, _: &mut Session) -> Outcome {
    Ok(count(request, Channels::Global))
}

fn shardnumsub(request: &Request, _: &mut Session) -> Outcome {
    Ok(count(request, Channels::Sharded))
}

fn numpat(request: &Request, _: &mut Session) -> Outcome {
    Ok(Reply::Int(request.service.pubsub.pattern_count() as i64))
}
