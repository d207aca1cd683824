//! Sorted sets: unions, intersections, differences.

use super::zset_ranges::store_found;
use super::{Command, Failure, Outcome, Request, read, write};
use crate::base::number;
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::access::{ACCESS, OW, RO, UPDATE};
use crate::protocol::spec::flag::{DENYOOM, MOVABLEKEYS};
use crate::protocol::spec::syntax::{integer, key, one_of, token};
use crate::protocol::spec::{Group, KeySpec};
use crate::store::{Interrupt, Transaction, View};
use crate::types::zset::{self, Aggregate, Source};

/// The declarations.
pub const COMMANDS: &[Command] = &[
    read("zunion", zunion)
        .arity(-3)
        .flags(MOVABLEKEYS)
        .group(Group::SortedSet)
        .keys(&[KeySpec::counted(1, RO.and(ACCESS))])
        .since("6.2.0")
        .complexity("O(N + M log M), N members in all sets, M shown.")
        .summary("Returns the members that are in any of several sorted sets.")
        .arguments(&[
            integer("numkeys"),
            key("key", 0).multiple(),
            integer("weight").token("WEIGHTS").optional().multiple(),
            one_of("aggregate", &[token("sum", "SUM"), token("min", "MIN"), token("max", "MAX")])
                .token("AGGREGATE")
                .optional(),
            token("withscores", "WITHSCORES").optional(),
        ]),
    read("zinter", zinter)
        .arity(-3)
        .flags(MOVABLEKEYS)
        .group(Group::SortedSet)
        .keys(&[KeySpec::counted(1, RO.and(ACCESS))])
        .since("6.2.0")
        .complexity("O(N K + M log M), N members in the smallest of K sets, M shown.")
        .summary("Returns the members that are in all of several sorted sets.")
        .arguments(&[
            integer("numkeys"),
            key("key", 0).multiple(),
            integer("weight").token("WEIGHTS").optional().multiple(),
            one_of("aggregate", &[token("sum", "SUM"), token("min", "MIN"), token("max", "MAX")])
                .token("AGGREGATE")
                .optional(),
            token("withscores", "WITHSCORES").optional(),
        ]),
    read("zdiff", zdiff)
        .arity(-3)
        .flags(MOVABLEKEYS)
        .group(Group::SortedSet)
        .keys(&[KeySpec::counted(1, RO.and(ACCESS))])
        .since("6.2.0")
        .complexity("O(N K + M log M), N members in the first of K sets, M shown.")
        .summary("Returns the members of the first sorted set that are in no other.")
        .arguments(&[
            integer("numkeys"),
            key("key", 0).multiple(),
            token("withscores", "WITHSCORES").optional(),
        ]),
    write("zunionstore", zunionstore)
        .arity(-4)
        .flags(DENYOOM.and(MOVABLEKEYS))
        .group(Group::SortedSet)
        .keys(&[KeySpec::one(1, OW.and(UPDATE)), KeySpec::counted(2, RO.and(ACCESS))])
        .since("2.0.0")
        .complexity("O(N + M log M), N members in all sets, M stored.")
        .summary("Makes a sorted set of the members that are in any of several.")
        .arguments(&[
            key("destination", 0),
            integer("numkeys"),
            key("key", 1).multiple(),
            integer("weight").token("WEIGHTS").optional().multiple(),
            one_of("aggregate", &[token("sum", "SUM"), token("min", "MIN"), token("max", "MAX")])
                .token("AGGREGATE")
                .optional(),
        ]),
    write("zinterstore", zinterstore)
        .arity(-4)
        .flags(DENYOOM.and(MOVABLEKEYS))
        .group(Group::SortedSet)
        .keys(&[KeySpec::one(1, OW.and(UPDATE)), KeySpec::counted(2, RO.and(ACCESS))])
        .since("2.0.0")
        .complexity("O(N K + M log M), N members in the smallest of K sets, M stored.")
        .summary("Makes a sorted set of the members that are in all of several.")
        .arguments(&[
            key("destination", 0),
            integer("numkeys"),
            key("key", 1).multiple(),
            integer("weight").token("WEIGHTS").optional().multiple(),
            one_of("aggregate", &[token("sum", "SUM"), token("min", "MIN"), token("max", "MAX")])
                .token("AGGREGATE")
                .optional(),
        ]),
    write("zdiffstore", zdiffstore)
        .arity(-4)
        .flags(DENYOOM.and(MOVABLEKEYS))
        .group(Group::SortedSet)
        .keys(&[KeySpec::one(1, OW.and(UPDATE)), KeySpec::counted(2, RO.and(ACCESS))])
        .since("6.2.0")
        .complexity("O(N K + M log M), N members in the first of K sets, M stored.")
        .summary("Makes a sorted set of the members of the first one that are in no other.")
        .arguments(&[key("destination", 0), integer("numkeys"), key("key", 1).multiple()]),
    read("zintercard", zintercard)
        .arity(-3)
        .flags(MOVABLEKEYS)
        .group(Group::SortedSet)
        .keys(&[KeySpec::counted(1, RO.and(ACCESS))])
        .since("7.0.0")
        .complexity("O(N K), N members in the smallest of K sets.")
        .summary("Counts the members that are in all of several sorted sets.")
        .arguments(&[
            integer("numkeys"),
            key("key", 0).multiple(),
            integer("limit").token("LIMIT").optional(),
        ]),
];

/// Which way sets are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Union,
    Intersection,
    Difference,
}

/// What the words ask for, from the number of keys on, and the sets.
struct Plan<'a> {
    sources: Vec<Source<'a>>,
    aggregate: Aggregate,
    with_scores: bool,
    /// As far as is counted; 0: to the end.
    limit: u64,
}

/// Which options there are besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Shows,
    Stores,
    Counts,
}

/// Finds the sets that the word at `number` counts.
fn sources<'a>(
    request: &Request<'a>,
    view: &mut View,
    name: &str,
    number: usize,
) -> Result<Vec<Source<'a>>, Failure> {
    let count = request.args.int(number)?;
    if count < 1 {
        let text = format!("ERR at least 1 input key is needed for '{name}' command");
        return Err(ErrorReply::new(text).into());
    }
    let left = request.args.len() - (number + 1);
    let count = usize::try_from(count).ok().filter(|&count| count <= left).ok_or(error::SYNTAX)?;
    let mut sources = Vec::with_capacity(count);
    for name in request.args.from(number + 1).take(count) {
        sources.push(Source::open(view, request.key_named(name))?);
    }
    Ok(sources)
}

impl<'a> Plan<'a> {
    fn parse(
        request: &Request<'a>,
        view: &mut View,
        (name, number): (&str, usize),
        way: Way,
        used: Use,
    ) -> Result<Plan<'a>, Failure> {
        let sources = sources(request, view, name, number)?;
        let mut words = request.args.cursor(number + 1 + sources.len());
        let mut plan = Plan { sources, aggregate: Aggregate::Sum, with_scores: false, limit: 0 };
        let is_weighted = way != Way::Difference && used != Use::Counts;
        while !words.is_done() {
            if is_weighted && words.left() > plan.sources.len() && words.eat("WEIGHTS") {
                for source in &mut plan.sources {
                    let weight = number::parse_f64(words.word()?);
                    source.weigh(weight.ok_or(ErrorReply::fixed("ERR weight value is not a float"))?);
                }
            } else if is_weighted && words.left() >= 2 && words.eat("AGGREGATE") {
                plan.aggregate = match () {
                    () if words.eat("SUM") => Aggregate::Sum,
                    () if words.eat("MIN") => Aggregate::Min,
                    () if words.eat("MAX") => Aggregate::Max,
                    () => return Err(error::SYNTAX.into()),
                };
            } else if used == Use::Shows && words.eat("WITHSCORES") {
                plan.with_scores = true;
            } else if used == Use::Counts && words.left() >= 2 && words.eat("LIMIT") {
                let limit = number::parse_i64(words.word()?).and_then(|limit| u64::try_from(limit).ok());
                plan.limit = limit.ok_or(ErrorReply::fixed("ERR LIMIT can't be negative"))?;
            } else {
                return Err(error::SYNTAX.into());
            }
        }
        Ok(plan)
    }

    fn combine(self, view: &mut View, way: Way) -> Result<Vec<(f64, Vec<u8>)>, Interrupt> {
        match way {
            Way::Union => zset::union(view, self.sources, self.aggregate),
            Way::Intersection => zset::intersection(view, self.sources, self.aggregate),
            Way::Difference => zset::difference(view, &self.sources),
        }
    }
}

fn show_combined(request: &Request, view: &mut View, name: &str, way: Way) -> Outcome {
    let plan = Plan::parse(request, view, (name, 1), way, Use::Shows)?;
    let with_scores = plan.with_scores;
    let mut replies = Vec::new();
    for (score, member) in plan.combine(view, way)? {
        replies.push(Reply::Bulk(member));
        if with_scores {
            replies.push(Reply::Double(score));
        }
    }
    Ok(if with_scores { Reply::Pairs(replies) } else { Reply::Array(replies) })
}

fn store_combined(request: &Request, transaction: &mut Transaction, name: &str, way: Way) -> Outcome {
    let found = transaction.as_reader(|view| -> Result<_, Failure> {
        let plan = Plan::parse(request, view, (name, 2), way, Use::Stores)?;
        Ok(plan.combine(view, way)?)
    })?;
    store_found(request, transaction, &request.key(1), &found)
}

fn zunion(request: &Request, view: &mut View) -> Outcome {
    show_combined(request, view, "zunion", Way::Union)
}

fn zinter(request: &Request, view: &mut View) -> Outcome {
    show_combined(request, view, "zinter", Way::Intersection)
}

fn zdiff(request: &Request, view: &mut View) -> Outcome {
    show_combined(request, view, "zdiff", Way::Difference)
}

fn zunionstore(request: &Request, transaction: &mut Transaction) -> Outcome {
    store_combined(request, transaction, "zunionstore", Way::Union)
}

fn zinterstore(request: &Request, transaction: &mut Transaction) -> Outcome {
    store_combined(request, transaction, "zinterstore", Way::Intersection)
}

fn zdiffstore(request: &Request, transaction: &mut Transaction) -> Outcome {
    store_combined(request, transaction, "zdiffstore", Way::Difference)
}

fn zintercard(request: &Request, view: &mut View) -> Outcome {
    let plan = Plan::parse(request, view, ("zintercard", 1), Way::Intersection, Use::Counts)?;
    Ok(Reply::Int(zset::intersection_count(view, plan.sources, plan.limit)? as i64))
}
