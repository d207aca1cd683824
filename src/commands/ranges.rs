//! Parts of strings: APPEND, STRLEN, ranges, and the longest common subsequence.

use super::strings::bulk;
use super::{Command, Outcome, Request, read, write};
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::access::{ACCESS, INSERT, RO, RW, UPDATE};
use crate::protocol::spec::flag::{DENYOOM, FAST};
use crate::protocol::spec::syntax::{integer, key, string, token};
use crate::protocol::spec::{Group, KeySpec};
use crate::store::{Kind, Transaction, View};
use crate::types::lcs::{self as subsequence, Match};
use crate::types::string::{self as strings, Text};

/// The declarations.
pub const COMMANDS: &[Command] = &[
    write("append", append)
        .arity(3)
        .flags(DENYOOM.and(FAST))
        .group(Group::String)
        .keys(&[KeySpec::one(1, RW.and(INSERT))])
        .since("2.0.0")
        .complexity("O(M), M bytes appended.")
        .summary("Puts bytes behind the string at a key, which is made if it is absent.")
        .arguments(&[key("key", 0), string("value")]),
    read("strlen", strlen)
        .arity(2)
        .flags(FAST)
        .group(Group::String)
        .keys(&[KeySpec::one(1, RO)])
        .since("2.2.0")
        .complexity("O(1)")
        .summary("Returns how many bytes the string at a key has.")
        .arguments(&[key("key", 0)]),
    write("setrange", setrange)
        .arity(4)
        .flags(DENYOOM)
        .group(Group::String)
        .keys(&[KeySpec::one(1, RW.and(UPDATE))])
        .since("2.2.0")
        .complexity("O(M), M bytes written; what is not touched costs nothing.")
        .summary("Overwrites a part of a string from an offset on; a gap is filled with zero bytes.")
        .arguments(&[key("key", 0), integer("offset"), string("value")]),
    read("getrange", getrange)
        .arity(4)
        .group(Group::String)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("2.4.0")
        .complexity("O(M), M bytes returned.")
        .summary("Returns the bytes of a string between two offsets.")
        .arguments(&[key("key", 0), integer("start"), integer("end")]),
    read("substr", substr)
        .arity(4)
        .group(Group::String)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("1.0.0")
        .complexity("O(M), M bytes returned.")
        .summary("Returns the bytes of a string between two offsets.")
        .deprecated("2.0.0", "`GETRANGE`")
        .arguments(&[key("key", 0), integer("start"), integer("end")]),
    read("lcs", lcs)
        .arity(-3)
        .group(Group::String)
        .keys(&[KeySpec::range(1, 1, 1, RO.and(ACCESS))])
        .since("7.0.0")
        .complexity("O(N*M), N and M bytes in the strings.")
        .summary("Finds the longest common subsequence of two strings.")
        .arguments(&[
            key("key1", 0),
            key("key2", 0),
            token("len", "LEN").optional(),
            token("idx", "IDX").optional(),
            integer("len").token("MINMATCHLEN").optional(),
            token("withmatchlen", "WITHMATCHLEN").optional(),
        ]),
];

fn append(request: &Request, transaction: &mut Transaction) -> Outcome {
    let limit = request.settings.proto_max_bulk_len;
    let len = strings::append(transaction, &request.key(1), request.args.at(2), limit)?;
    Ok(Reply::Int(len as i64))
}

fn strlen(request: &Request, view: &mut View) -> Outcome {
    let entry = strings::find(view, &request.key(1))?;
    Ok(Reply::Int(entry.map_or(0, |entry| strings::len(&entry) as i64)))
}

fn setrange(request: &Request, transaction: &mut Transaction) -> Outcome {
    const OUT_OF_RANGE: ErrorReply = ErrorReply::fixed("ERR offset is out of range");
    let offset = usize::try_from(request.args.int(2)?).map_err(|_| OUT_OF_RANGE)?;
    let limit = request.settings.proto_max_bulk_len;
    let len = strings::set_range(transaction, &request.key(1), offset, request.args.at(3), limit)?;
    Ok(Reply::Int(len as i64))
}

fn getrange(request: &Request, view: &mut View) -> Outcome {
    let (start, end) = (request.args.int(2)?, request.args.int(3)?);
    let key = request.key(1);
    let Some(entry) = strings::find(view, &key)? else { return Ok(Reply::Text("")) };
    let Some((start, last)) = resolve_range(start, end, strings::len(&entry) as i64) else {
        return Ok(Reply::Text(""));
    };
    Ok(bulk(strings::read_range(view, &key, &entry, start as usize..last as usize + 1)?))
}

fn substr(request: &Request, view: &mut View) -> Outcome {
    getrange(request, view)
}

/// First and last position of a range in something of `len` parts, negative positions counting from its end; `None` if it is
/// empty.
pub(super) fn resolve_range(start: i64, end: i64, len: i64) -> Option<(i64, i64)> {
    if start < 0 && end < 0 && start > end {
        return None;
    }
    clamp_range(start, end, len)
}

/// The same, except that a range that ends before it begins is not empty if both its ends fall before the first part.
pub(super) fn clamp_range(start: i64, end: i64, len: i64) -> Option<(i64, i64)> {
    let from_end = |position: i64| if position < 0 { (len + position).max(0) } else { position };
    let (start, end) = (from_end(start), from_end(end).min(len - 1));
    (start <= end && len > 0).then_some((start, end))
}

/// The options of LCS.
#[derive(Default)]
struct LcsOptions {
    only_len: bool,
    matches: bool,
    match_len_min: usize,
    with_match_len: bool,
}

impl LcsOptions {
    fn parse(request: &Request) -> Result<LcsOptions, ErrorReply> {
        let mut options = LcsOptions::default();
        let mut cursor = request.args.cursor(3);
        while !cursor.is_done() {
            if cursor.eat("IDX") {
                options.matches = true;
            } else if cursor.eat("LEN") {
                options.only_len = true;
            } else if cursor.eat("WITHMATCHLEN") {
                options.with_match_len = true;
            } else if cursor.left() > 1 && cursor.eat("MINMATCHLEN") {
                options.match_len_min = cursor.int()?.max(0) as usize;
            } else {
                return Err(error::SYNTAX);
            }
        }
        if options.matches && options.only_len {
            return Err(ErrorReply::fixed(
                "ERR If you want both the length and indexes, please just use IDX.",
            ));
        }
        Ok(options)
    }
}

fn lcs(request: &Request, view: &mut View) -> Outcome {
    const NOT_STRINGS: ErrorReply = ErrorReply::fixed("ERR The specified keys must contain string values");
    const TOO_LARGE: ErrorReply =
        ErrorReply::fixed("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len");
    let keys = [request.key(1), request.key(2)];
    let entries = [view.get(&keys[0])?, view.get(&keys[1])?];
    if entries.iter().flatten().any(|entry| entry.kind() != Kind::String) {
        return Err(NOT_STRINGS.into());
    }
    let options = LcsOptions::parse(request)?;
    let mut texts = [Text::Owned(Vec::new()), Text::Owned(Vec::new())];
    for ((text, entry), key) in texts.iter_mut().zip(&entries).zip(&keys) {
        if let Some(entry) = entry {
            *text = strings::read_whole(view, key, entry)?;
        }
    }
    let [a, b] = &texts;
    if subsequence::table_bytes(a.len(), b.len())
        .is_none_or(|bytes| bytes > request.settings.proto_max_bulk_len)
    {
        return Err(TOO_LARGE.into());
    }
    let (len, matches) = subsequence::longest(a, b);
    if options.only_len {
        return Ok(Reply::Int(len as i64));
    }
    if options.matches {
        return Ok(lcs_matches(len, &matches, &options));
    }
    let bytes = matches.iter().rev().flat_map(|found| &a[found.a..found.a + found.len]);
    Ok(Reply::Bulk(bytes.copied().collect()))
}

fn lcs_matches(len: usize, matches: &[Match], options: &LcsOptions) -> Reply {
    let range = |start: usize, len: usize| {
        Reply::Array(vec![Reply::Int(start as i64), Reply::Int((start + len - 1) as i64)])
    };
    let shown = matches.iter().filter(|found| found.len >= options.match_len_min).map(|found| {
        let mut parts = vec![range(found.a, found.len), range(found.b, found.len)];
        if options.with_match_len {
            parts.push(Reply::Int(found.len as i64));
        }
        Reply::Array(parts)
    });
    Reply::Map(vec![
        Reply::Text("matches"),
        Reply::Array(shown.collect()),
        Reply::Text("len"),
        Reply::Int(len as i64),
    ])
}
