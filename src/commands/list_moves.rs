//! Lists: from one to another, and from the first of several; with and without waiting for an element.

use super::lists::{limits, take};
use super::{Command, Failure, Outcome, Request, Wait, write};
use crate::base::number;
use crate::protocol::args::Cursor;
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::access::{ACCESS, DELETE, INSERT, RW};
use crate::protocol::spec::flag::{BLOCKING, DENYOOM, MOVABLEKEYS, NOSCRIPT};
use crate::protocol::spec::syntax::{double, integer, key, one_of, token};
use crate::protocol::spec::{Argument, Group, KeyAccess, KeySpec};
use crate::store::{Key, Kind, Transaction};
use crate::types::list::{self, Side};
use std::ops::Range;

const SIDES: &[Argument] = &[token("left", "LEFT"), token("right", "RIGHT")];
const FROM: KeySpec = KeySpec::one(1, TAKEN);
const TO: KeySpec = KeySpec::one(2, RW.and(INSERT));
const LAST_BUT_ONE: &[KeySpec] = &[KeySpec::range(1, -2, 1, TAKEN)];
const TIMEOUT_HISTORY: &[(&str, &str)] = &[("6.0.0", "The time may be a fraction of a second.")];

const TAKEN: KeyAccess = RW.and(ACCESS).and(DELETE);
const LMPOP_KEYS: &[KeySpec] = &[KeySpec::counted(1, TAKEN)];
const BLMPOP_KEYS: &[KeySpec] = &[KeySpec::counted(2, TAKEN)];

/// The declarations.
pub const COMMANDS: &[Command] = &[
    write("rpoplpush", rpoplpush)
        .arity(3)
        .flags(DENYOOM)
        .group(Group::List)
        .keys(&[FROM, TO])
        .since("1.2.0")
        .complexity("O(1)")
        .summary("Moves the last element of a list to the beginning of another one.")
        .deprecated("6.2.0", "`LMOVE` with the `RIGHT` and `LEFT` arguments")
        .arguments(&[key("source", 0), key("destination", 1)]),
    write("lmove", lmove)
        .arity(5)
        .flags(DENYOOM)
        .group(Group::List)
        .keys(&[FROM, TO])
        .since("6.2.0")
        .complexity("O(1)")
        .summary("Moves an element from an end of a list to an end of another one.")
        .arguments(&[
            key("source", 0),
            key("destination", 1),
            one_of("wherefrom", SIDES),
            one_of("whereto", SIDES),
        ]),
    write("lmpop", lmpop)
        .arity(-4)
        .flags(MOVABLEKEYS)
        .group(Group::List)
        .keys(LMPOP_KEYS)
        .since("7.0.0")
        .complexity("O(N+M), N keys named, M elements taken.")
        .summary("Takes elements from the first of several lists that is there.")
        .arguments(&[
            integer("numkeys"),
            key("key", 0).multiple(),
            one_of("where", SIDES),
            integer("count").token("COUNT").optional(),
        ]),
    popper(write("blpop", blpop))
        .summary("Takes the first element of the first of several lists that is there, or waits for one."),
    popper(write("brpop", brpop))
        .summary("Takes the last element of the first of several lists that is there, or waits for one."),
    write("brpoplpush", brpoplpush)
        .arity(4)
        .flags(DENYOOM.and(NOSCRIPT).and(BLOCKING))
        .group(Group::List)
        .keys(&[FROM, TO])
        .since("2.2.0")
        .complexity("O(1)")
        .summary("Moves the last element of a list to the beginning of another one, or waits for one.")
        .history(TIMEOUT_HISTORY)
        .deprecated("6.2.0", "`BLMOVE` with the `RIGHT` and `LEFT` arguments")
        .arguments(&[key("source", 0), key("destination", 1), double("timeout")]),
    write("blmove", blmove)
        .arity(6)
        .flags(DENYOOM.and(NOSCRIPT).and(BLOCKING))
        .group(Group::List)
        .keys(&[FROM, TO])
        .since("6.2.0")
        .complexity("O(1)")
        .summary("Moves an element from an end of a list to an end of another one, or waits for one.")
        .arguments(&[
            key("source", 0),
            key("destination", 1),
            one_of("wherefrom", SIDES),
            one_of("whereto", SIDES),
            double("timeout"),
        ]),
    write("blmpop", blmpop)
        .arity(-5)
        .flags(BLOCKING.and(MOVABLEKEYS))
        .group(Group::List)
        .keys(BLMPOP_KEYS)
        .since("7.0.0")
        .complexity("O(N+M), N keys named, M elements taken.")
        .summary("Takes elements from the first of several lists that is there, or waits for some.")
        .arguments(&[
            double("timeout"),
            integer("numkeys"),
            key("key", 0).multiple(),
            one_of("where", SIDES),
            integer("count").token("COUNT").optional(),
        ]),
];

const KEYS_AND_TIMEOUT: &[Argument] = &[key("key", 0).multiple(), double("timeout")];

const fn popper(command: Command) -> Command {
    command
        .arity(-3)
        .flags(NOSCRIPT.and(BLOCKING))
        .group(Group::List)
        .keys(LAST_BUT_ONE)
        .since("2.0.0")
        .complexity("O(N), N keys named.")
        .history(TIMEOUT_HISTORY)
        .arguments(KEYS_AND_TIMEOUT)
}

fn side(word: &[u8]) -> Result<Side, ErrorReply> {
    match word {
        word if word.eq_ignore_ascii_case(b"left") => Ok(Side::Left),
        word if word.eq_ignore_ascii_case(b"right") => Ok(Side::Right),
        _ => Err(error::SYNTAX),
    }
}

/// Moves an element from the list at the first word to that at the second one; nothing if there is no list.
fn move_element(
    request: &Request,
    transaction: &mut Transaction,
    (from, to): (Side, Side),
) -> Result<Option<Reply>, Failure> {
    let (source, target) = (request.key(1), request.key(2));
    let Some(entry) = list::find(transaction, &source)? else { return Ok(None) };
    list::find(transaction, &target)?;
    if source.name == target.name && list::len(&entry)? == 1 {
        transaction.touch(&source); // the key stays what it is, its deadline included
        return Ok(list::get(transaction, &source, &entry, 0)?.map(Reply::Slice));
    }
    let Some(element) = list::pop(transaction, &source, &entry, from, 1)?.pop() else { return Ok(None) };
    let entry = list::find(transaction, &target)?; // if it is the same, it has changed
    let new = std::iter::once(&*element);
    list::push(transaction, &target, entry.as_ref(), to, new, limits(request))?;
    Ok(Some(Reply::Slice(element)))
}

fn rpoplpush(request: &Request, transaction: &mut Transaction) -> Outcome {
    Ok(move_element(request, transaction, (Side::Right, Side::Left))?.unwrap_or(Reply::Null))
}

fn lmove(request: &Request, transaction: &mut Transaction) -> Outcome {
    let sides = (side(request.args.at(3))?, side(request.args.at(4))?);
    Ok(move_element(request, transaction, sides)?.unwrap_or(Reply::Null))
}

fn blocking_move(
    request: &Request,
    transaction: &mut Transaction,
    sides: (Side, Side),
    timeout_ms: Option<u64>,
) -> Outcome {
    if let Some(reply) = move_element(request, transaction, sides)? {
        return Ok(reply);
    }
    Err(Wait {
        kind: Kind::List,
        keys: vec![1],
        target: Some(2),
        timeout_ms,
        on_timeout: Reply::NullArray,
        at_once: Reply::Null,
        words: None,
    }
    .into())
}

fn brpoplpush(request: &Request, transaction: &mut Transaction) -> Outcome {
    let timeout_ms = Wait::timeout_ms(request.args.at(3))?;
    blocking_move(request, transaction, (Side::Right, Side::Left), timeout_ms)
}

fn blmove(request: &Request, transaction: &mut Transaction) -> Outcome {
    let args = request.args;
    let sides = (side(args.at(3))?, side(args.at(4))?);
    blocking_move(request, transaction, sides, Wait::timeout_ms(args.at(5))?)
}

/// The name of the first list among the words in `keys` with up to `count` of its elements. Who was waiting is served from the list
/// that was waited for.
fn take_first(
    request: &Request,
    transaction: &mut Transaction,
    keys: Range<usize>,
    what: (Side, u64),
) -> Result<Option<(Reply, Vec<Reply>)>, Failure> {
    for name in keys.map(|at| request.args.at(at)).filter(|name| request.is_for(name)) {
        if let Some(entry) = list::find(transaction, &Key::new(request.database, name))? {
            return Ok(Some((Reply::bulk(name), take(request, transaction, name, &entry, what)?)));
        }
    }
    Ok(None)
}

fn blocking_pop(request: &Request, transaction: &mut Transaction, side: Side) -> Outcome {
    let last = request.args.len() - 1;
    let timeout_ms = Wait::timeout_ms(request.args.at(last))?;
    match take_first(request, transaction, 1..last, (side, 1))? {
        Some((name, mut taken)) => {
            taken.insert(0, name);
            Ok(Reply::Array(taken))
        }
        None => Err(Wait::for_any(Kind::List, 1..last, timeout_ms).into()),
    }
}

fn blpop(request: &Request, transaction: &mut Transaction) -> Outcome {
    blocking_pop(request, transaction, Side::Left)
}

fn brpop(request: &Request, transaction: &mut Transaction) -> Outcome {
    blocking_pop(request, transaction, Side::Right)
}

/// Takes a number that must be positive.
fn positive(words: &mut Cursor, refusal: &'static str) -> Result<u64, ErrorReply> {
    let number = number::parse_i64(words.word()?).and_then(|number| u64::try_from(number).ok());
    number.filter(|number| *number > 0).ok_or(ErrorReply::fixed(refusal))
}

/// What stands behind LMPOP from the number of keys on: the keys' words, the end, how many elements.
fn parse_many(request: &Request, at: usize) -> Result<(Range<usize>, (Side, u64)), ErrorReply> {
    let mut words = request.args.cursor(at);
    let count = positive(&mut words, "ERR numkeys should be greater than 0")?;
    let end = usize::try_from(count).ok().and_then(|count| count.checked_add(at + 1));
    let end = end.filter(|end| *end < request.args.len()).ok_or(error::SYNTAX)?;
    let mut words = request.args.cursor(end);
    let side = side(words.word()?)?;
    let mut elements = None;
    while !words.is_done() {
        if elements.is_some() || words.left() < 2 || !words.eat("COUNT") {
            return Err(error::SYNTAX);
        }
        elements = Some(positive(&mut words, "ERR count should be greater than 0")?);
    }
    Ok((at + 1..end, (side, elements.unwrap_or(1))))
}

fn lmpop(request: &Request, transaction: &mut Transaction) -> Outcome {
    let (keys, what) = parse_many(request, 1)?;
    let taken = take_first(request, transaction, keys, what)?;
    Ok(taken.map_or(Reply::NullArray, |(name, taken)| Reply::Array(vec![name, Reply::Array(taken)])))
}

fn blmpop(request: &Request, transaction: &mut Transaction) -> Outcome {
    let (keys, what) = parse_many(request, 2)?;
    let timeout_ms = Wait::timeout_ms(request.args.at(1))?;
    match take_first(request, transaction, keys.clone(), what)? {
        Some((name, taken)) => Ok(Reply::Array(vec![name, Reply::Array(taken)])),
        None => Err(Wait::for_any(Kind::List, keys, timeout_ms).into()),
    }
}
