//! Lists: commands that look for an element.

use super::lists::limits;
use super::{Command, Outcome, Request, read, write};
use crate::base::number;
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::access::{ACCESS, DELETE, INSERT, RO, RW};
use crate::protocol::spec::flag::DENYOOM;
use crate::protocol::spec::syntax::{integer, key, one_of, string, token};
use crate::protocol::spec::{Group, KeySpec};
use crate::store::{Transaction, View};
use crate::types::list::{self, Side};
use std::ops::ControlFlow;

/// The declarations.
pub const COMMANDS: &[Command] = &[
    write("linsert", linsert)
        .arity(5)
        .flags(DENYOOM)
        .group(Group::List)
        .keys(&[KeySpec::one(1, RW.and(INSERT))])
        .since("2.2.0")
        .complexity("O(N), N elements before the pivot.")
        .summary("Puts an element before or after another one of a list.")
        .arguments(&[
            key("key", 0),
            one_of("where", &[token("before", "BEFORE"), token("after", "AFTER")]),
            string("pivot"),
            string("element"),
        ]),
    write("lrem", lrem)
        .arity(4)
        .group(Group::List)
        .keys(&[KeySpec::one(1, RW.and(DELETE))])
        .since("1.0.0")
        .complexity("O(N), N elements looked at.")
        .summary("Removes elements of a list that are equal to another one.")
        .arguments(&[key("key", 0), integer("count"), string("element")]),
    read("lpos", lpos)
        .arity(-3)
        .group(Group::List)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("6.0.6")
        .complexity("O(N), N elements looked at.")
        .summary("Returns the places of elements of a list that are equal to another one.")
        .arguments(&[
            key("key", 0),
            string("element"),
            integer("rank").token("RANK").optional(),
            integer("num-matches").token("COUNT").optional(),
            integer("len").token("MAXLEN").optional(),
        ]),
];

fn linsert(request: &Request, transaction: &mut Transaction) -> Outcome {
    let args = request.args;
    let is_after = match args.at(2) {
        word if word.eq_ignore_ascii_case(b"after") => true,
        word if word.eq_ignore_ascii_case(b"before") => false,
        _ => return Err(error::SYNTAX.into()),
    };
    let key = request.key(1);
    let Some(entry) = list::find(transaction, &key)? else { return Ok(Reply::Int(0)) };
    let pivot = (is_after, args.at(3));
    let len = list::insert(transaction, &key, &entry, pivot, args.at(4), limits(request))?;
    Ok(Reply::Int(len.map_or(-1, |len| len as i64)))
}

fn lrem(request: &Request, transaction: &mut Transaction) -> Outcome {
    let count = request.args.int(2)?;
    let key = request.key(1);
    let Some(entry) = list::find(transaction, &key)? else { return Ok(Reply::Int(0)) };
    let from = if count < 0 { Side::Right } else { Side::Left };
    let max = if count == 0 { u64::MAX } else { count.unsigned_abs() };
    let removed = list::remove(transaction, &key, &entry, (from, max), request.args.at(3))?;
    Ok(Reply::Int(removed as i64))
}

const RANK_ZERO: ErrorReply = ErrorReply::fixed(
    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list",
);
const NEGATIVE_COUNT: ErrorReply = ErrorReply::fixed("ERR COUNT can't be negative");
const NEGATIVE_LEN: ErrorReply = ErrorReply::fixed("ERR MAXLEN can't be negative");

/// The options of LPOS.
struct Search {
    from: Side,
    /// Matches to pass by.
    skip: u64,
    /// Matches to return; none is the first one alone.
    count: Option<u64>,
    /// Elements to look at.
    len_max: u64,
}

impl Search {
    fn parse(request: &Request) -> Result<Search, ErrorReply> {
        let mut search = Search { from: Side::Left, skip: 0, count: None, len_max: 0 };
        let mut words = request.args.cursor(3);
        let positive = |word: &[u8], refusal: ErrorReply| {
            number::parse_i64(word).and_then(|number| u64::try_from(number).ok()).ok_or(refusal)
        };
        while !words.is_done() {
            let has_value = words.left() >= 2;
            if has_value && words.eat("RANK") {
                let rank = words.int()?;
                if rank == 0 {
                    return Err(RANK_ZERO);
                }
                search.from = if rank < 0 { Side::Right } else { Side::Left };
                // The least number of all has no opposite, and passes by none in Redis.
                search.skip = rank.checked_neg().map_or(0, |_| rank.unsigned_abs() - 1);
            } else if has_value && words.eat("COUNT") {
                search.count = Some(positive(words.word()?, NEGATIVE_COUNT)?);
            } else if has_value && words.eat("MAXLEN") {
                search.len_max = positive(words.word()?, NEGATIVE_LEN)?;
            } else {
                return Err(error::SYNTAX);
            }
        }
        Ok(search)
    }
}

fn lpos(request: &Request, view: &mut View) -> Outcome {
    let search = Search::parse(request)?;
    let (key, wanted) = (request.key(1), request.args.at(2));
    let Some(entry) = list::find(view, &key)? else {
        return Ok(if search.count.is_some() { Reply::Array(Vec::new()) } else { Reply::Null });
    };
    let max = match search.count {
        None => 1,
        Some(0) => usize::MAX,
        Some(count) => usize::try_from(count).unwrap_or(usize::MAX),
    };
    let (mut found, mut looked_at, mut skip) = (Vec::new(), 0, search.skip);
    list::walk(view, &key, &entry, search.from, &mut |place, element| {
        if element == wanted {
            if skip == 0 {
                found.push(Reply::Int(place as i64));
            }
            skip = skip.saturating_sub(1);
        }
        looked_at += 1;
        if found.len() >= max || looked_at == search.len_max {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    Ok(match search.count {
        None => found.pop().unwrap_or(Reply::Null),
        Some(_) => Reply::Array(found),
    })
}
