//! Hashes: numbers in fields, fields at random, walks.

use super::hashes::limits;
use super::scan::{Part, parse_cursor};
use super::{Command, Failure, Outcome, Request, read, write};
use crate::base::long_double::LongDouble;
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::access::{ACCESS, RO, RW, UPDATE};
use crate::protocol::spec::flag::{DENYOOM, FAST};
use crate::protocol::spec::syntax::{block, double, integer, key, pattern, string, token};
use crate::protocol::spec::{Group, KeySpec};
use crate::store::{Transaction, View};
use crate::types::error::Error;
use crate::types::hash;

/// The declarations.
pub const COMMANDS: &[Command] = &[
    write("hincrby", hincrby)
        .arity(4)
        .flags(DENYOOM.and(FAST))
        .group(Group::Hash)
        .keys(&[KeySpec::one(1, RW.and(ACCESS).and(UPDATE))])
        .since("2.0.0")
        .complexity("O(1)")
        .summary("Adds a number to the integer in a field of a hash; an absent field counts as 0.")
        .arguments(&[key("key", 0), string("field"), integer("increment")]),
    write("hincrbyfloat", hincrbyfloat)
        .arity(4)
        .flags(DENYOOM.and(FAST))
        .group(Group::Hash)
        .keys(&[KeySpec::one(1, RW.and(ACCESS).and(UPDATE))])
        .since("2.6.0")
        .complexity("O(1)")
        .summary("Adds a decimal number to the number in a field of a hash; an absent field counts as 0.")
        .arguments(&[key("key", 0), string("field"), double("increment")]),
    read("hrandfield", hrandfield)
        .arity(-2)
        .group(Group::Hash)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("6.2.0")
        .complexity("O(N), N fields returned.")
        .summary("Returns fields of a hash at random.")
        .tips(&["nondeterministic_output"])
        .arguments(&[
            key("key", 0),
            block("options", &[integer("count"), token("withvalues", "WITHVALUES").optional()]).optional(),
        ]),
    read("hscan", hscan)
        .arity(-3)
        .group(Group::Hash)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("2.8.0")
        .complexity("O(1) a call, O(N) for a whole walk over N fields.")
        .summary("Walks through the fields and values of a hash, a part at each call.")
        .tips(&["nondeterministic_output"])
        .arguments(&[
            key("key", 0),
            integer("cursor"),
            pattern("pattern").token("MATCH").optional(),
            integer("count").token("COUNT").optional(),
        ]),
];

/// What the error of a field that is no number is called, unlike that of an argument.
fn in_field(refused: Error) -> Failure {
    match refused {
        Error::NotAnInteger => ErrorReply::fixed("ERR hash value is not an integer").into(),
        Error::NotAFloat => ErrorReply::fixed("ERR hash value is not a float").into(),
        other => other.into(),
    }
}

fn hincrby(request: &Request, transaction: &mut Transaction) -> Outcome {
    let delta = request.args.int(3)?;
    let (key, field) = (request.key(1), request.args.at(2));
    let sum = hash::add(transaction, &key, field, delta, limits(request)).map_err(in_field)?;
    Ok(Reply::Int(sum))
}

fn hincrbyfloat(request: &Request, transaction: &mut Transaction) -> Outcome {
    let delta = LongDouble::parse(request.args.at(3)).ok_or(error::NOT_A_FLOAT)?;
    if delta.is_infinite() {
        return Err(ErrorReply::fixed("ERR value is NaN or Infinity").into());
    }
    let (key, field) = (request.key(1), request.args.at(2));
    let sum = hash::add_decimal(transaction, &key, field, delta, limits(request)).map_err(in_field)?;
    Ok(Reply::Bulk(sum.into_bytes()))
}

/// More fields than this are not drawn with repeats: Redis would fill its memory until it is killed.
const REPEATS_MAX: u64 = 1 << 24;
/// Bytes of the shortest string in a reply: `$0`, two line ends.
const BULK_LEN_MIN: u64 = 6;

fn hrandfield(request: &Request, view: &mut View) -> Outcome {
    let key = request.key(1);
    if request.args.len() == 2 {
        let Some(entry) = hash::find(view, &key)? else { return Ok(Reply::Null) };
        let mut reply = Reply::Null;
        hash::random_repeated(view, &key, &entry, 1, &mut |field, _| reply = Reply::bulk(field))?;
        return Ok(reply);
    }
    let (count, with_values) = random_options(request, "WITHVALUES")?;
    let mut replies = Vec::new();
    if let Some(entry) = hash::find(view, &key)?.filter(|_| count != 0) {
        let mut take = |field: &[u8], value: &[u8]| {
            replies.push(Reply::bulk(field));
            if with_values {
                replies.push(Reply::bulk(value));
            }
        };
        if count > 0 {
            hash::random_distinct(view, &key, &entry, count as usize, &mut take)?;
        } else {
            let repeats = checked_repeats(request, count)?;
            hash::random_repeated(view, &key, &entry, repeats, &mut take)?;
        }
    }
    Ok(if with_values { Reply::Pairs(replies) } else { Reply::Array(replies) })
}

/// How many are drawn with repeats, if that makes a reply that the client would get.
pub(super) fn checked_repeats(request: &Request, count: i64) -> Result<usize, Failure> {
    let repeats = count.unsigned_abs();
    request.reply_fits(repeats.saturating_mul(BULK_LEN_MIN))?;
    if repeats > REPEATS_MAX { Err(error::OUT_OF_RANGE.into()) } else { Ok(repeats as usize) }
}

/// Count, and whether `word` asks for what belongs to what is drawn.
pub(super) fn random_options(request: &Request, word: &str) -> Result<(i64, bool), ErrorReply> {
    let count = request.args.int(2)?;
    if count == i64::MIN {
        return Err(ErrorReply::new(format!(
            "ERR value is out of range, value must between {} and {}",
            -i64::MAX,
            i64::MAX
        )));
    }
    let with_values = match request.args.get(3) {
        None => false,
        Some(found) if found.eq_ignore_ascii_case(word.as_bytes()) && request.args.len() == 4 => true,
        Some(_) => return Err(error::SYNTAX),
    };
    let is_too_large = with_values && count.unsigned_abs() > i64::MAX as u64 / 2;
    if is_too_large {
        return Err(error::OUT_OF_RANGE);
    }
    Ok((count, with_values))
}

fn hscan(request: &Request, view: &mut View) -> Outcome {
    let cursor = parse_cursor(request.args.at(2)).ok_or(error::INVALID_CURSOR)?;
    let key = request.key(1);
    let Some(entry) = hash::find(view, &key)? else { return Ok(Part::reply(0, Vec::new())) };
    let part = Part::parse(request)?;
    let mut found = Vec::new();
    let next = hash::scan(view, &key, &entry, cursor, part.count, &mut |field| {
        if !field.is_over(request.now) && part.has(field.name) {
            found.push(Reply::bulk(field.name));
            found.push(Reply::bulk(field.value));
        }
    })?;
    Ok(Part::reply(next, found))
}
