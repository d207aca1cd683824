//! Strings as wholes: GET, SET and their kin.

use super::{Command, Outcome, Request, read, write};
use crate::protocol::args::Cursor;
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::access::{ACCESS, DELETE, INSERT, OW, RO, RW, UPDATE, VARIABLE_FLAGS};
use crate::protocol::spec::flag::{DENYOOM, FAST};
use crate::protocol::spec::syntax::{block, integer, key, one_of, string, token, unix_time};
use crate::protocol::spec::{Argument, Group, KeySpec};
use crate::store::{Key, Kind, NewValue, Transaction, View};
use crate::types::string::{self as strings, Text};

/// The deadline that GETEX and HGETEX set, or that there is to be none.
#[rustfmt::skip]
pub(super) const NEW_OR_NO_DEADLINE: Argument = one_of("expiration", &[integer("seconds").token("EX"), integer("milliseconds").token("PX"), unix_time("unix-time-seconds").token("EXAT"), unix_time("unix-time-milliseconds").token("PXAT"), token("persist", "PERSIST")]).optional();

/// The declarations.
pub const COMMANDS: &[Command] = &[
read("get", get).arity(2).flags(FAST).group(Group::String).keys(&[KeySpec::one(1, RO.and(ACCESS))]).since("1.0.0").complexity("O(1)").summary("Returns the string stored at a key.").arguments(&[key("key", 0)]),
write("set", set).arity(-3).flags(DENYOOM).group(Group::String).keys(&[KeySpec::one(1, RW.and(ACCESS).and(UPDATE).and(VARIABLE_FLAGS)).notes("Only read unless an option or operation writes.")]).since("1.0.0").complexity("O(1)").summary("Stores a string at a key, whatever it held before; a condition, a deadline and the old value on request.").history(&[("2.6.12", "`EX`, `PX`, `NX`, `XX`."), ("6.0.0", "`KEEPTTL`."), ("6.2.0", "`GET`, `EXAT`, `PXAT`."), ("7.0.0", "`NX` and `GET` may stand together.")]).arguments(&[key("key", 0), string("value"), one_of("condition", &[token("nx", "NX"), token("xx", "XX")]).optional().since("2.6.12"), token("get", "GET").optional().since("6.2.0"), one_of("expiration", &[integer("seconds").token("EX").since("2.6.12"), integer("milliseconds").token("PX").since("2.6.12"), unix_time("unix-time-seconds").token("EXAT").since("6.2.0"), unix_time("unix-time-milliseconds").token("PXAT").since("6.2.0"), token("keepttl", "KEEPTTL").since("6.0.0")]).optional()]),
write("setnx", setnx).arity(3).flags(DENYOOM.and(FAST)).group(Group::String).keys(&[KeySpec::one(1, OW.and(INSERT))]).since("1.0.0").complexity("O(1)").summary("Stores a string at a key that does not exist.").arguments(&[key("key", 0), string("value")]),
write("setex", setex).arity(4).flags(DENYOOM).group(Group::String).keys(&[KeySpec::one(1, OW.and(UPDATE))]).since("2.0.0").complexity("O(1)").summary("Stores a string with a deadline some seconds from now.").arguments(&[key("key", 0), integer("seconds"), string("value")]),
write("psetex", psetex).arity(4).flags(DENYOOM).group(Group::String).keys(&[KeySpec::one(1, OW.and(UPDATE))]).since("2.6.0").complexity("O(1)").summary("Stores a string with a deadline some milliseconds from now.").arguments(&[key("key", 0), integer("milliseconds"), string("value")]),
write("getset", getset).arity(3).flags(DENYOOM.and(FAST)).group(Group::String).keys(&[KeySpec::one(1, RW.and(ACCESS).and(UPDATE))]).since("1.0.0").complexity("O(1)").summary("Stores a string and returns the one that was there.").deprecated("6.2.0", "`SET` with the `!GET` argument").arguments(&[key("key", 0), string("value")]),
write("getdel", getdel).arity(2).flags(FAST).group(Group::String).keys(&[KeySpec::one(1, RW.and(ACCESS).and(DELETE))]).since("6.2.0").complexity("O(1)").summary("Returns a string and removes its key.").arguments(&[key("key", 0)]),
write("getex", getex).arity(-2).flags(FAST).group(Group::String).keys(&[KeySpec::one(1, RW.and(ACCESS).and(UPDATE)).notes("Only read unless an option or operation writes.")]).since("6.2.0").complexity("O(1)").summary("Returns a string and changes or removes its deadline.").arguments(&[key("key", 0), NEW_OR_NO_DEADLINE]),
read("mget", mget).arity(-2).flags(FAST).group(Group::String).keys(&[KeySpec::range(1, -1, 1, RO.and(ACCESS))]).since("1.0.0").complexity("O(N), N keys.").summary("Returns the strings of several keys.").tips(&["request_policy:multi_shard"]).arguments(&[key("key", 0).multiple()]),
write("mset", mset).arity(-3).flags(DENYOOM).group(Group::String).keys(&[KeySpec::range(1, -1, 2, OW.and(UPDATE))]).since("1.0.1").complexity("O(N), N keys.").summary("Stores several strings at once.").tips(&["request_policy:multi_shard", "response_policy:all_succeeded"]).arguments(&[block("key_value", &[key("key", 0), string("value")]).multiple()]),
write("msetnx", msetnx).arity(-3).flags(DENYOOM).group(Group::String).keys(&[KeySpec::range(1, -1, 2, OW.and(INSERT))]).since("1.0.1").complexity("O(N), N keys.").summary("Stores several strings at once if none of the keys exists.").tips(&["request_policy:multi_shard", "response_policy:agg_min"]).arguments(&[block("key_value", &[key("key", 0), string("value")]).multiple()]),
];

/// The reply with these bytes.
#[inline]
pub(super) fn bulk(text: Text) -> Reply {
    match text {
        Text::Shared(slice) => Reply::Slice(slice),
        Text::Owned(bytes) => Reply::Bulk(bytes),
    }
}

#[inline]
fn value_at(view: &mut View, key: &Key) -> Outcome {
    let Some(entry) = strings::find(view, key)? else { return Ok(Reply::Null) };
    Ok(bulk(strings::read_whole(view, key, &entry)?))
}

fn get(request: &Request, view: &mut View) -> Outcome {
    value_at(view, &request.key(1))
}

/// How a deadline was given.
#[derive(Clone, Copy, Debug)]
struct Deadline<'a> {
    number: &'a [u8],
    is_seconds: bool,
    is_absolute: bool,
}

impl Deadline<'_> {
    /// Milliseconds since 1970; an error of command `name` if it is none.
    fn resolve(self, now: i64, name: &str) -> Result<i64, ErrorReply> {
        let number = crate::base::number::parse_i64(self.number).ok_or(error::NOT_AN_INTEGER)?;
        let ms = if self.is_seconds { number.checked_mul(1000) } else { Some(number) };
        let base = if self.is_absolute { 0 } else { now };
        let at = ms.filter(|ms| *ms > 0).and_then(|ms| ms.checked_add(base));
        at.ok_or_else(|| error::invalid_expire(name))
    }
}

/// The options of SET and GETEX.
#[derive(Clone, Copy, Debug, Default)]
struct Options<'a> {
    /// What SET demands: `Some(true)` that the key exists, `Some(false)` that it does not.
    must_exist: Option<bool>,
    get: bool,
    keep_deadline: bool,
    persist: bool,
    deadline: Option<Deadline<'a>>,
    /// EX, PX, EXAT or PXAT: the same may stand twice, two of them may not.
    deadline_word: &'static str,
}

impl<'a> Options<'a> {
    fn parse_set(mut cursor: Cursor<'a>) -> Result<Options<'a>, ErrorReply> {
        let mut options = Options::default();
        while !cursor.is_done() {
            if options.must_exist != Some(true) && cursor.eat("NX") {
                options.must_exist = Some(false);
            } else if options.must_exist != Some(false) && cursor.eat("XX") {
                options.must_exist = Some(true);
            } else if cursor.eat("GET") {
                options.get = true;
            } else if options.deadline.is_none() && cursor.eat("KEEPTTL") {
                options.keep_deadline = true;
            } else {
                options.parse_deadline(&mut cursor)?;
            }
        }
        Ok(options)
    }

    fn parse_getex(mut cursor: Cursor<'a>) -> Result<Options<'a>, ErrorReply> {
        let mut options = Options::default();
        while !cursor.is_done() {
            if options.deadline.is_none() && cursor.eat("PERSIST") {
                options.persist = true;
            } else {
                options.parse_deadline(&mut cursor)?;
            }
        }
        Ok(options)
    }

    fn parse_deadline(&mut self, cursor: &mut Cursor<'a>) -> Result<(), ErrorReply> {
        const FORMS: [(&str, bool, bool); 4] =
            [("EX", true, false), ("PX", false, false), ("EXAT", true, true), ("PXAT", false, true)];
        if self.keep_deadline || self.persist {
            return Err(error::SYNTAX);
        }
        for (word, is_seconds, is_absolute) in FORMS {
            if cursor.eat(word) {
                if self.deadline.is_some() && self.deadline_word != word {
                    return Err(error::SYNTAX);
                }
                self.deadline = Some(Deadline { number: cursor.word()?, is_seconds, is_absolute });
                self.deadline_word = word;
                return Ok(());
            }
        }
        Err(error::SYNTAX)
    }
}

fn set(request: &Request, transaction: &mut Transaction) -> Outcome {
    let (key, value) = (request.key(1), request.args.at(2));
    if request.args.len() == 3 {
        strings::store(transaction, &key, value, None)?;
        return Ok(Reply::Ok);
    }
    set_with(request, transaction, &key, value)
}

fn set_with(request: &Request, transaction: &mut Transaction, key: &Key, value: &[u8]) -> Outcome {
    let options = Options::parse_set(request.args.cursor(3))?;
    let expire_at = match options.deadline {
        Some(deadline) => Some(deadline.resolve(request.now, "set")?),
        None => None,
    };
    let answer = if options.get { transaction.as_reader(|view| value_at(view, key))? } else { Reply::Ok };
    let before = transaction.get(key)?;
    if options.must_exist.is_some_and(|must| must != before.is_some()) {
        return Ok(if options.get { answer } else { Reply::Null });
    }
    let kept = before.filter(|_| options.keep_deadline).and_then(|entry| entry.expire_at());
    strings::store(transaction, key, value, expire_at.or(kept))?;
    Ok(answer)
}

fn setnx(request: &Request, transaction: &mut Transaction) -> Outcome {
    let key = request.key(1);
    if transaction.get(&key)?.is_some() {
        return Ok(Reply::Int(0));
    }
    strings::store(transaction, &key, request.args.at(2), None)?;
    Ok(Reply::Int(1))
}

fn setex(request: &Request, transaction: &mut Transaction) -> Outcome {
    set_until(request, transaction, true, "setex")
}

fn psetex(request: &Request, transaction: &mut Transaction) -> Outcome {
    set_until(request, transaction, false, "psetex")
}

fn set_until(request: &Request, transaction: &mut Transaction, is_seconds: bool, name: &str) -> Outcome {
    let deadline = Deadline { number: request.args.at(2), is_seconds, is_absolute: false };
    let expire_at = deadline.resolve(request.now, name)?;
    strings::store(transaction, &request.key(1), request.args.at(3), Some(expire_at))?;
    Ok(Reply::Ok)
}

fn getset(request: &Request, transaction: &mut Transaction) -> Outcome {
    let key = request.key(1);
    let answer = transaction.as_reader(|view| value_at(view, &key))?;
    strings::store(transaction, &key, request.args.at(2), None)?;
    Ok(answer)
}

fn getdel(request: &Request, transaction: &mut Transaction) -> Outcome {
    let key = request.key(1);
    let answer = transaction.as_reader(|view| value_at(view, &key))?;
    if answer != Reply::Null {
        transaction.remove(&key)?;
    }
    Ok(answer)
}

fn getex(request: &Request, transaction: &mut Transaction) -> Outcome {
    let options = Options::parse_getex(request.args.cursor(2))?;
    let key = request.key(1);
    let entry = transaction.as_reader(|view| strings::find(view, &key))?;
    let Some(entry) = entry else { return Ok(Reply::Null) };
    let answer = bulk(strings::read_whole(transaction, &key, &entry)?);
    if let Some(deadline) = options.deadline {
        let at = deadline.resolve(request.now, "getex")?;
        if deadline.is_absolute && at <= request.now {
            transaction.remove(&key)?;
        } else {
            transaction.put_meta(&key, &entry, NewValue { expire_at: Some(at), ..entry.meta() })?;
        }
    } else if options.persist && entry.expire_at().is_some() {
        transaction.put_meta(&key, &entry, NewValue { expire_at: None, ..entry.meta() })?;
    }
    Ok(answer)
}

fn mget(request: &Request, view: &mut View) -> Outcome {
    let mut replies = Vec::with_capacity(request.args.len() - 1);
    for name in request.args.from(1) {
        let key = request.key_named(name);
        let entry = view.get(&key)?.filter(|entry| entry.kind() == Kind::String);
        replies.push(match entry {
            Some(entry) => bulk(strings::read_whole(view, &key, &entry)?),
            None => Reply::Null,
        });
    }
    Ok(Reply::Array(replies))
}

/// Keys and values in turn, from the first word on.
fn pairs<'a>(
    request: &Request<'a>,
    name: &str,
) -> Result<impl Iterator<Item = (Key<'a>, &'a [u8])> + use<'a>, ErrorReply> {
    let count = request.args.len();
    if count.is_multiple_of(2) {
        return Err(error::wrong_arity(name));
    }
    let request = *request;
    Ok((1..count).step_by(2).map(move |index| (request.key(index), request.args.at(index + 1))))
}

fn mset(request: &Request, transaction: &mut Transaction) -> Outcome {
    for (key, value) in pairs(request, "mset")? {
        strings::store(transaction, &key, value, None)?;
    }
    Ok(Reply::Ok)
}

fn msetnx(request: &Request, transaction: &mut Transaction) -> Outcome {
    for (key, _) in pairs(request, "msetnx")? {
        if transaction.get(&key)?.is_some() {
            return Ok(Reply::Int(0));
        }
    }
    for (key, value) in pairs(request, "msetnx")? {
        strings::store(transaction, &key, value, None)?;
    }
    Ok(Reply::Int(1))
}
