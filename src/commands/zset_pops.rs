//! Sorted sets: taking members from their ends, from one or from the first of several; with and without waiting for a member.

use super::zsets::limits;
use super::{Command, Failure, Outcome, Request, Wait, write};
use crate::base::number;
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::access::{ACCESS, DELETE, RW};
use crate::protocol::spec::flag::{BLOCKING, FAST, MOVABLEKEYS, NOSCRIPT};
use crate::protocol::spec::syntax::{double, integer, key, one_of, token};
use crate::protocol::spec::{Argument, Group, KeyAccess, KeySpec};
use crate::store::{Kind, Transaction};
use crate::types::zset::{self, End};
use std::ops::Range;

const TAKES: KeyAccess = RW.and(ACCESS).and(DELETE);
const ENDS: &[Argument] = &[token("min", "MIN"), token("max", "MAX")];

/// The declarations.
pub const COMMANDS: &[Command] = &[
    popper(write("zpopmin", zpopmin))
        .summary("Takes the members with the least scores out of a sorted set."),
    popper(write("zpopmax", zpopmax))
        .summary("Takes the members with the greatest scores out of a sorted set."),
    write("zmpop", zmpop)
        .arity(-4)
        .flags(MOVABLEKEYS)
        .group(Group::SortedSet)
        .keys(&[KeySpec::counted(1, TAKES)])
        .since("7.0.0")
        .complexity("O(K + log N + M), K keys, M members taken.")
        .summary("Takes members out of the first of several sorted sets that has any.")
        .arguments(&[
            integer("numkeys"),
            key("key", 0).multiple(),
            one_of("where", ENDS),
            integer("count").token("COUNT").optional(),
        ]),
    waiter(write("bzpopmin", bzpopmin)).summary(
        "Takes the member with the least score out of the first of several sorted sets that has any, or waits for one.",
    ),
    waiter(write("bzpopmax", bzpopmax)).summary(
        "Takes the member with the greatest score out of the first of several sorted sets that has any, or waits for one.",
    ),
    write("bzmpop", bzmpop)
        .arity(-5)
        .flags(BLOCKING.and(MOVABLEKEYS))
        .group(Group::SortedSet)
        .keys(&[KeySpec::counted(2, TAKES)])
        .since("7.0.0")
        .complexity("O(K + log N + M), K keys, M members taken.")
        .summary("Takes members out of the first of several sorted sets that has any, or waits for some.")
        .arguments(&[
            double("timeout"),
            integer("numkeys"),
            key("key", 0).multiple(),
            one_of("where", ENDS),
            integer("count").token("COUNT").optional(),
        ]),
];

const POP_KEY: &[KeySpec] = &[KeySpec::one(1, TAKES)];
const POP_SYNTAX: &[Argument] = &[key("key", 0), integer("count").optional()];
const LAST_BUT_ONE: &[KeySpec] = &[KeySpec::range(1, -2, 1, TAKES)];
const KEYS_AND_TIMEOUT: &[Argument] = &[key("key", 0).multiple(), double("timeout")];

const fn popper(command: Command) -> Command {
    command
        .arity(-2)
        .flags(FAST)
        .group(Group::SortedSet)
        .keys(POP_KEY)
        .since("5.0.0")
        .complexity("O(log N + M), M members taken.")
        .arguments(POP_SYNTAX)
}

const fn waiter(command: Command) -> Command {
    command
        .arity(-3)
        .flags(NOSCRIPT.and(BLOCKING).and(FAST))
        .group(Group::SortedSet)
        .keys(LAST_BUT_ONE)
        .since("5.0.0")
        .complexity("O(K + log N), K keys.")
        .history(&[("6.0.0", "The time may be a fraction of a second.")])
        .arguments(KEYS_AND_TIMEOUT)
}

type Popped = Vec<(Vec<u8>, f64)>;

/// Members and scores in turn.
fn flat(popped: Popped) -> impl Iterator<Item = Reply> {
    popped.into_iter().flat_map(|(member, score)| [Reply::Bulk(member), Reply::Double(score)])
}

fn pop(request: &Request, transaction: &mut Transaction, end: End) -> Outcome {
    if request.args.len() > 3 {
        return Err(error::SYNTAX.into());
    }
    let count = match request.args.get(2) {
        Some(word) => {
            let count = number::parse_i64(word).and_then(|count| u64::try_from(count).ok());
            Some(count.ok_or(error::OUT_OF_RANGE_POSITIVE)?)
        }
        None => None,
    };
    let popped = zset::pop(transaction, &request.key(1), end, count.unwrap_or(1), limits(request))?;
    let replies = flat(popped).collect();
    Ok(if count.is_some() { Reply::Pairs(replies) } else { Reply::Array(replies) })
}

fn zpopmin(request: &Request, transaction: &mut Transaction) -> Outcome {
    pop(request, transaction, End::Min)
}

fn zpopmax(request: &Request, transaction: &mut Transaction) -> Outcome {
    pop(request, transaction, End::Max)
}

/// What the words of ZMPOP and BZMPOP ask for, from the number of keys on.
struct Plan {
    /// Indices of the words that are the keys.
    keys: Range<usize>,
    end: End,
    count: u64,
}

impl Plan {
    /// Reads the words from the one that counts the keys.
    fn parse(request: &Request, number: usize) -> Result<Plan, ErrorReply> {
        let positive = |word: &[u8], refused| {
            number::parse_i64(word).filter(|&count| count > 0).ok_or(ErrorReply::fixed(refused))
        };
        let keys = positive(request.args.at(number), "ERR numkeys should be greater than 0")?;
        let keys = usize::try_from(keys).unwrap_or(usize::MAX);
        let first = number + 1;
        let last = first.checked_add(keys).filter(|&last| last < request.args.len()).ok_or(error::SYNTAX)?;
        let mut words = request.args.cursor(last);
        let end = match () {
            () if words.eat("MIN") => End::Min,
            () if words.eat("MAX") => End::Max,
            () => return Err(error::SYNTAX),
        };
        let mut count = None;
        while !words.is_done() {
            if count.is_some() || words.left() < 2 || !words.eat("COUNT") {
                return Err(error::SYNTAX);
            }
            count = Some(positive(words.word()?, "ERR count should be greater than 0")? as u64);
        }
        Ok(Plan { keys: first..last, end, count: count.unwrap_or(1) })
    }
}

/// Takes members out of the first of the keys that has any: its name and what was taken, or nothing. Who was waiting is served from the
/// key that was waited for.
fn pop_first(
    request: &Request,
    transaction: &mut Transaction,
    plan: &Plan,
) -> Result<Option<(Reply, Popped)>, Failure> {
    for at in plan.keys.clone().filter(|&at| request.is_for(request.args.at(at))) {
        let popped = zset::pop(transaction, &request.key(at), plan.end, plan.count, limits(request))?;
        if !popped.is_empty() {
            return Ok(Some((Reply::bulk(request.args.at(at)), popped)));
        }
    }
    Ok(None)
}

/// The reply of ZMPOP: each member with its score is an array of its own.
fn in_pairs((name, popped): (Reply, Popped)) -> Reply {
    let pair = |(member, score)| Reply::Array(vec![Reply::Bulk(member), Reply::Double(score)]);
    Reply::Array(vec![name, Reply::Array(popped.into_iter().map(pair).collect())])
}

fn zmpop(request: &Request, transaction: &mut Transaction) -> Outcome {
    let plan = Plan::parse(request, 1)?;
    Ok(pop_first(request, transaction, &plan)?.map_or(Reply::NullArray, in_pairs))
}

fn blocking_pop(request: &Request, transaction: &mut Transaction, end: End) -> Outcome {
    let last = request.args.len() - 1;
    let timeout_ms = Wait::timeout_ms(request.args.at(last))?;
    let plan = Plan { keys: 1..last, end, count: 1 };
    match pop_first(request, transaction, &plan)? {
        Some((name, popped)) => Ok(Reply::Array(std::iter::once(name).chain(flat(popped)).collect())),
        None => Err(Wait::for_any(Kind::SortedSet, plan.keys, timeout_ms).into()),
    }
}

fn bzpopmin(request: &Request, transaction: &mut Transaction) -> Outcome {
    blocking_pop(request, transaction, End::Min)
}

fn bzpopmax(request: &Request, transaction: &mut Transaction) -> Outcome {
    blocking_pop(request, transaction, End::Max)
}

fn bzmpop(request: &Request, transaction: &mut Transaction) -> Outcome {
    let plan = Plan::parse(request, 2)?;
    let timeout_ms = Wait::timeout_ms(request.args.at(1))?;
    match pop_first(request, transaction, &plan)? {
        Some(taken) => Ok(in_pairs(taken)),
        None => Err(Wait::for_any(Kind::SortedSet, plan.keys, timeout_ms).into()),
    }
}
