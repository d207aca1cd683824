//! Sets: intersections, unions, differences.

use super::sets::{limits, shown};
use super::{Command, Failure, Outcome, Request, read, write};
use crate::base::number;
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::access::{ACCESS, OW, RO, RW, UPDATE};
use crate::protocol::spec::flag::{DENYOOM, MOVABLEKEYS};
use crate::protocol::spec::syntax::{integer, key};
use crate::protocol::spec::{Argument, Group, KeyAccess, KeySpec};
use crate::store::{Transaction, View};
use crate::types::set::algebra::{self, Difference};
use crate::types::set::{self, Limits, Member, NewForm};
use std::borrow::Cow;

const ALL_KEYS: &[KeySpec] = &[KeySpec::range(1, -1, 1, RO.and(ACCESS))];
const SHOWN: &[Argument] = &[key("key", 0).multiple()];
const STORED: &[Argument] = &[key("destination", 0), key("key", 1).multiple()];
const COUNTED: &[KeySpec] = &[KeySpec::counted(1, RO.and(ACCESS))];

const fn shows(command: Command) -> Command {
    command
        .arity(-2)
        .group(Group::Set)
        .keys(ALL_KEYS)
        .since("1.0.0")
        .tips(&["nondeterministic_output_order"])
        .arguments(SHOWN)
}

const fn stores(command: Command, keys: &'static [KeySpec]) -> Command {
    command.arity(-3).flags(DENYOOM).group(Group::Set).keys(keys).since("1.0.0").arguments(STORED)
}

const fn into(target: KeyAccess) -> [KeySpec; 2] {
    [KeySpec::one(1, target), KeySpec::range(2, -1, 1, RO.and(ACCESS))]
}

const INTO_OLD: &[KeySpec] = &into(RW.and(UPDATE));
const INTO_NEW: &[KeySpec] = &into(OW.and(UPDATE));
const OF_SMALLEST: &str = "O(N*M), N members in the smallest set, M sets.";
const OF_ALL: &str = "O(N), N members in all sets.";

/// The declarations.
pub const COMMANDS: &[Command] = &[
    shows(read("sinter", sinter))
        .complexity(OF_SMALLEST)
        .summary("Returns the members that are in all sets."),
    stores(write("sinterstore", sinterstore), INTO_OLD)
        .complexity(OF_SMALLEST)
        .summary("Makes a set of the members that are in all sets."),
    read("sintercard", sintercard)
        .arity(-3)
        .flags(MOVABLEKEYS)
        .group(Group::Set)
        .keys(COUNTED)
        .since("7.0.0")
        .complexity(OF_SMALLEST)
        .summary("Counts the members that are in all sets.")
        .arguments(&[
            integer("numkeys"),
            key("key", 0).multiple(),
            integer("limit").token("LIMIT").optional(),
        ]),
    shows(read("sunion", sunion)).complexity(OF_ALL).summary("Returns the members that are in any set."),
    stores(write("sunionstore", sunionstore), INTO_NEW)
        .complexity(OF_ALL)
        .summary("Makes a set of the members that are in any set."),
    shows(read("sdiff", sdiff))
        .complexity(OF_ALL)
        .summary("Returns the members of the first set that are in no other."),
    stores(write("sdiffstore", sdiffstore), INTO_NEW)
        .complexity(OF_ALL)
        .summary("Makes a set of the members of the first set that are in no other."),
];

/// What comes out of sets, and whether it is held as texts even if all of it is integers.
type Combined = Result<(Vec<Member>, bool), Failure>;

/// What combines the sets at the keys from a word on.
type Combine = fn(&Request, &mut View, usize) -> Combined;

fn intersection(request: &Request, view: &mut View, first: usize) -> Combined {
    let sets = algebra::find_all(view, request.args.from(first).map(|name| request.key_named(name)))?;
    let mut found = Vec::new();
    algebra::intersect(view, &sets, &mut |member| {
        found.push(member);
        true
    })?;
    Ok((found, false))
}

fn union(request: &Request, view: &mut View, first: usize) -> Combined {
    let sets = algebra::find_all(view, request.args.from(first).map(|name| request.key_named(name)))?;
    Ok((algebra::unite(view, &sets)?, false))
}

fn difference(request: &Request, view: &mut View, first: usize) -> Combined {
    let sets = algebra::find_all(view, request.args.from(first).map(|name| request.key_named(name)))?;
    let Difference { members, as_texts } = algebra::subtract(view, &sets, limits(request))?;
    Ok((members, as_texts))
}

/// The reply with what came out: ascending, where Redis would hold it as integers.
fn show(request: &Request, view: &mut View, combine: Combine) -> Outcome {
    let (mut members, as_texts) = combine(request, view, 1)?;
    if !as_texts {
        sort_integers(&mut members, limits(request));
    }
    Ok(Reply::Set(members.into_iter().map(shown).collect()))
}

fn sort_integers(members: &mut [Member], limits: Limits) {
    let value = |member: &Member| match member {
        Member::Integer(value) => Some(*value),
        Member::Text(text) => number::parse_i64(text),
    };
    if members.len() <= limits.integers && members.iter().all(|member| value(member).is_some()) {
        members.sort_by_key(value);
    }
}

fn store(request: &Request, transaction: &mut Transaction, combine: Combine) -> Outcome {
    let (members, as_texts) = transaction.as_reader(|view| combine(request, view, 2))?;
    let members: Vec<Cow<[u8]>> = members.iter().map(Member::as_text).collect();
    let members: Vec<&[u8]> = members.iter().map(|text| &**text).collect();
    let form = NewForm { as_texts, ..NewForm::within(limits(request)) };
    set::store_all(transaction, &request.key(1), &members, None, form)?;
    Ok(Reply::Int(members.len() as i64))
}

fn sinter(request: &Request, view: &mut View) -> Outcome {
    show(request, view, intersection)
}

fn sunion(request: &Request, view: &mut View) -> Outcome {
    show(request, view, union)
}

fn sdiff(request: &Request, view: &mut View) -> Outcome {
    show(request, view, difference)
}

fn sinterstore(request: &Request, transaction: &mut Transaction) -> Outcome {
    store(request, transaction, intersection)
}

fn sunionstore(request: &Request, transaction: &mut Transaction) -> Outcome {
    store(request, transaction, union)
}

fn sdiffstore(request: &Request, transaction: &mut Transaction) -> Outcome {
    store(request, transaction, difference)
}

fn sintercard(request: &Request, view: &mut View) -> Outcome {
    let args = request.args;
    let count = args.int(1).ok().filter(|&count| count > 0);
    let count = count.ok_or(ErrorReply::fixed("ERR numkeys should be greater than 0"))?;
    let Some(count) = usize::try_from(count).ok().filter(|&count| count <= args.len() - 2) else {
        return Err(ErrorReply::fixed("ERR Number of keys can't be greater than number of args").into());
    };
    let mut limit = 0;
    let mut words = args.cursor(2 + count);
    while !words.is_done() {
        if words.left() < 2 || !words.eat("LIMIT") {
            return Err(error::SYNTAX.into());
        }
        limit = words
            .int()
            .ok()
            .filter(|&limit| limit >= 0)
            .ok_or(ErrorReply::fixed("ERR LIMIT can't be negative"))?;
    }
    let keys = args.from(2).take(count).map(|name| request.key_named(name));
    let sets = algebra::find_all(view, keys)?;
    let mut found = 0;
    algebra::intersect(view, &sets, &mut |_| {
        found += 1;
        found != limit
    })?;
    Ok(Reply::Int(found))
}
