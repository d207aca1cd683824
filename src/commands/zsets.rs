//! Sorted sets: adding, reading and removing members.

use super::hash_fields::{checked_repeats, random_options};
use super::scan::{Part, parse_cursor};
use super::{Command, Outcome, Request, read, write};
use crate::base::number;
use crate::interop::rdb_value::packed_score;
use crate::protocol::args::Cursor;
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::access::{ACCESS, DELETE, RO, RW, UPDATE};
use crate::protocol::spec::flag::{DENYOOM, FAST};
use crate::protocol::spec::syntax::{block, double, integer, key, one_of, pattern, string, token};
use crate::protocol::spec::{Group, KeySpec};
use crate::session::apply::value_limits;
use crate::store::{Transaction, View};
use crate::types::zset::{self, Edit, Limits, Scored};
use smallvec::SmallVec;

/// The declarations.
pub const COMMANDS: &[Command] = &[
    write("zadd", zadd)
        .arity(-4)
        .flags(DENYOOM.and(FAST))
        .group(Group::SortedSet)
        .keys(&[KeySpec::one(1, RW.and(UPDATE))])
        .since("1.2.0")
        .complexity("O(log N) for each member.")
        .summary("Adds members to a sorted set, or gives them new scores.")
        .history(&[
            ("2.4.0", "Several members."),
            ("3.0.2", "The options `XX`, `NX`, `CH` and `INCR`."),
            ("6.2.0", "The options `GT` and `LT`."),
        ])
        .arguments(&[
            key("key", 0),
            one_of("condition", &[token("nx", "NX"), token("xx", "XX")]).optional().since("3.0.2"),
            one_of("comparison", &[token("gt", "GT"), token("lt", "LT")]).optional().since("6.2.0"),
            token("change", "CH").optional().since("3.0.2"),
            token("increment", "INCR").optional().since("3.0.2"),
            block("score_member", &[double("score"), string("member")]).multiple(),
        ]),
    write("zincrby", zincrby)
        .arity(4)
        .flags(DENYOOM.and(FAST))
        .group(Group::SortedSet)
        .keys(&[KeySpec::one(1, RW.and(ACCESS).and(UPDATE))])
        .since("1.2.0")
        .complexity("O(log N)")
        .summary("Adds a number to the score of a member of a sorted set; an absent member counts as 0.")
        .arguments(&[key("key", 0), integer("increment"), string("member")]),
    read("zscore", zscore)
        .arity(3)
        .flags(FAST)
        .group(Group::SortedSet)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("1.2.0")
        .complexity("O(1)")
        .summary("Returns the score of a member of a sorted set.")
        .arguments(&[key("key", 0), string("member")]),
    read("zmscore", zmscore)
        .arity(-3)
        .flags(FAST)
        .group(Group::SortedSet)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("6.2.0")
        .complexity("O(N), N members asked for.")
        .summary("Returns the scores of several members of a sorted set.")
        .arguments(&[key("key", 0), string("member").multiple()]),
    read("zcard", zcard)
        .arity(2)
        .flags(FAST)
        .group(Group::SortedSet)
        .keys(&[KeySpec::one(1, RO)])
        .since("1.2.0")
        .complexity("O(1)")
        .summary("Returns how many members a sorted set has.")
        .arguments(&[key("key", 0)]),
    write("zrem", zrem)
        .arity(-3)
        .flags(FAST)
        .group(Group::SortedSet)
        .keys(&[KeySpec::one(1, RW.and(DELETE))])
        .since("1.2.0")
        .complexity("O(M log N), M members named.")
        .summary("Removes members of a sorted set; the key goes with the last one.")
        .history(&[("2.4.0", "Several members.")])
        .arguments(&[key("key", 0), string("member").multiple()]),
    read("zrandmember", zrandmember)
        .arity(-2)
        .group(Group::SortedSet)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("6.2.0")
        .complexity("O(M log N), M members shown.")
        .summary("Returns members of a sorted set at random.")
        .tips(&["nondeterministic_output"])
        .arguments(&[
            key("key", 0),
            block("options", &[integer("count"), token("withscores", "WITHSCORES").optional()]).optional(),
        ]),
    read("zscan", zscan)
        .arity(-3)
        .group(Group::SortedSet)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("2.8.0")
        .complexity("O(1) a call, O(N) for a whole walk over N members.")
        .summary("Walks through the members and scores of a sorted set, a part at each call.")
        .tips(&["nondeterministic_output"])
        .arguments(&[
            key("key", 0),
            integer("cursor"),
            pattern("pattern").token("MATCH").optional(),
            integer("count").token("COUNT").optional(),
        ]),
];

/// How large a small sorted set may be under the settings in force.
pub(super) fn limits(request: &Request) -> Limits {
    value_limits(request.settings).zset
}

/// When a member gets its score, and what is told.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub(super) struct Adding {
    /// Only members that are there.
    pub only_old: bool,
    /// Only members that are not there.
    pub only_new: bool,
    /// Only if the score grows.
    pub only_greater: bool,
    /// Only if the score sinks.
    pub only_less: bool,
    /// The score is added to the old one, and the sum is told.
    pub adds: bool,
    /// Members with new scores are counted, not only those that are new.
    pub counts_changed: bool,
}

impl Adding {
    /// Reads ZADD's options.
    fn parse(words: &mut Cursor) -> Adding {
        let mut adding = Adding::default();
        loop {
            let option = if words.eat("NX") {
                &mut adding.only_new
            } else if words.eat("XX") {
                &mut adding.only_old
            } else if words.eat("CH") {
                &mut adding.counts_changed
            } else if words.eat("INCR") {
                &mut adding.adds
            } else if words.eat("GT") {
                &mut adding.only_greater
            } else if words.eat("LT") {
                &mut adding.only_less
            } else {
                return adding;
            };
            *option = true;
        }
    }

    fn check(self, members: usize) -> Result<(), ErrorReply> {
        if self.only_new && self.only_old {
            return Err(ErrorReply::fixed("ERR XX and NX options at the same time are not compatible"));
        }
        let conditions = [self.only_new, self.only_greater, self.only_less];
        if conditions.into_iter().filter(|&condition| condition).count() > 1 {
            return Err(ErrorReply::fixed(
                "ERR GT, LT, and/or NX options at the same time are not compatible",
            ));
        }
        if self.adds && members > 1 {
            return Err(ErrorReply::fixed("ERR INCR option supports a single increment-element pair"));
        }
        Ok(())
    }

    /// The score that a member gets; `None` if it is left as it is.
    fn score(self, old: Option<f64>, score: f64) -> Result<Option<f64>, ErrorReply> {
        let Some(old) = old else { return Ok((!self.only_old).then_some(score)) };
        if self.only_new {
            return Ok(None);
        }
        let score = if self.adds { old + score } else { score };
        if score.is_nan() {
            return Err(ErrorReply::fixed("ERR resulting score is not a number (NaN)"));
        }
        let is_refused = (self.only_less && score >= old) || (self.only_greater && score <= old);
        Ok((!is_refused).then_some(score))
    }
}

/// Gives members their scores. Returns the reply.
pub(super) fn add(
    request: &Request,
    transaction: &mut Transaction,
    adding: Adding,
    members: &[Scored],
) -> Outcome {
    adding.check(members.len())?;
    let key = request.key(1);
    let before = zset::find(transaction, &key)?;
    let (mut added, mut updated, mut last) = (0, 0, None);
    if before.is_some() || !adding.only_old {
        let mut edit = Edit::open(key, before.as_ref(), limits(request))?;
        for &(score, member) in members {
            let old = edit.score(transaction, member)?;
            last = adding.score(old, score)?;
            let Some(score) = last.filter(|&score| old != Some(score)) else { continue };
            edit.set(transaction, (score, member), old)?;
            added += i64::from(old.is_none());
            updated += i64::from(old.is_some());
        }
        edit.save(transaction)?;
    }
    Ok(match last {
        Some(score) if adding.adds => Reply::Double(score),
        None if adding.adds => Reply::Null,
        _ => Reply::Int(if adding.counts_changed { added + updated } else { added }),
    })
}

fn zadd(request: &Request, transaction: &mut Transaction) -> Outcome {
    let mut words = request.args.cursor(2);
    let adding = Adding::parse(&mut words);
    if words.is_done() || !words.left().is_multiple_of(2) {
        return Err(error::SYNTAX.into());
    }
    adding.check(words.left() / 2)?;
    let mut members: SmallVec<[Scored; 4]> = SmallVec::new();
    while !words.is_done() {
        members.push((words.double()?, words.word()?));
    }
    add(request, transaction, adding, &members)
}

fn zincrby(request: &Request, transaction: &mut Transaction) -> Outcome {
    const OPTIONS: [&str; 6] = ["NX", "XX", "GT", "LT", "CH", "INCR"];
    if OPTIONS.iter().any(|option| request.args.at(2).eq_ignore_ascii_case(option.as_bytes())) {
        return Err(error::SYNTAX.into()); // Redis reads ZADD's options here, too, and then misses the member
    }
    let adding = Adding { adds: true, ..Adding::default() };
    add(request, transaction, adding, &[(request.args.double(2)?, request.args.at(3))])
}

fn zscore(request: &Request, view: &mut View) -> Outcome {
    let key = request.key(1);
    let Some(entry) = zset::find(view, &key)? else { return Ok(Reply::Null) };
    Ok(zset::score(view, &key, &entry, request.args.at(2))?.map_or(Reply::Null, Reply::Double))
}

fn zmscore(request: &Request, view: &mut View) -> Outcome {
    let key = request.key(1);
    let entry = zset::find(view, &key)?;
    let mut replies = Vec::with_capacity(request.args.len() - 2);
    for member in request.args.from(2) {
        let score = match &entry {
            Some(entry) => zset::score(view, &key, entry, member)?,
            None => None,
        };
        replies.push(score.map_or(Reply::Null, Reply::Double));
    }
    Ok(Reply::Array(replies))
}

fn zcard(request: &Request, view: &mut View) -> Outcome {
    let entry = zset::find(view, &request.key(1))?;
    Ok(Reply::Int(entry.map_or(0, |entry| zset::len(&entry) as i64)))
}

fn zrem(request: &Request, transaction: &mut Transaction) -> Outcome {
    let key = request.key(1);
    let Some(entry) = zset::find(transaction, &key)? else { return Ok(Reply::Int(0)) };
    let mut edit = Edit::open(key, Some(&entry), limits(request))?;
    let mut removed = 0;
    for member in request.args.from(2) {
        removed += i64::from(edit.remove(transaction, member)?);
    }
    edit.save(transaction)?;
    Ok(Reply::Int(removed))
}

fn zrandmember(request: &Request, view: &mut View) -> Outcome {
    let key = request.key(1);
    if request.args.len() == 2 {
        let Some(entry) = zset::find(view, &key)? else { return Ok(Reply::Null) };
        let mut reply = Reply::Null;
        zset::random_repeated(view, &key, &entry, 1, &mut |(_, member)| reply = Reply::bulk(member))?;
        return Ok(reply);
    }
    let (count, with_scores) = random_options(request, "WITHSCORES")?;
    let mut replies = Vec::new();
    if let Some(entry) = zset::find(view, &key)?.filter(|_| count != 0) {
        let mut take = |scored: Scored| show(&mut replies, scored, with_scores);
        if count > 0 {
            zset::random_distinct(view, &key, &entry, count as usize, &mut take)?;
        } else {
            let repeats = checked_repeats(request, count)?;
            zset::random_repeated(view, &key, &entry, repeats, &mut take)?;
        }
    }
    Ok(if with_scores { Reply::Pairs(replies) } else { Reply::Array(replies) })
}

/// Appends a member to a reply, and its score if that is asked for.
pub(super) fn show(replies: &mut Vec<Reply>, (score, member): Scored, with_scores: bool) {
    replies.push(Reply::bulk(member));
    if with_scores {
        replies.push(Reply::Double(score));
    }
}

fn zscan(request: &Request, view: &mut View) -> Outcome {
    let cursor = parse_cursor(request.args.at(2)).ok_or(error::INVALID_CURSOR)?;
    let key = request.key(1);
    let Some(entry) = zset::find(view, &key)? else { return Ok(Part::reply(0, Vec::new())) };
    let part = Part::parse(request)?;
    let is_small = entry.items().is_none();
    let mut found = Vec::new();
    let next = zset::scan(view, &key, &entry, cursor, part.count, &mut |(score, member)| {
        if part.has(member) {
            found.push(Reply::bulk(member));
            found.push(Reply::Bulk(score_text(score, is_small).into_bytes()));
        }
    })?;
    Ok(Part::reply(next, found))
}

fn score_text(score: f64, is_small: bool) -> String {
    if is_small { packed_score(score) } else { number::format_f64(score) }
}
