//! Bits of strings: SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP.

use super::ranges::clamp_range;
use super::{Command, Outcome, Request, read, write};
use crate::base::number;
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::access::{ACCESS, OW, RO, RW, UPDATE};
use crate::protocol::spec::flag::{DENYOOM, FAST};
use crate::protocol::spec::syntax::{block, integer, key, one_of, string, token};
use crate::protocol::spec::{Group, KeySpec};
use crate::store::{Transaction, View};
use crate::types::bitmap::{self, Combination};
use crate::types::string as strings;
use std::ops::RangeInclusive;

/// The declarations.
pub const COMMANDS: &[Command] = &[
    write("setbit", setbit)
        .arity(4)
        .flags(DENYOOM)
        .group(Group::Bitmap)
        .keys(&[KeySpec::one(1, RW.and(ACCESS).and(UPDATE))])
        .since("2.2.0")
        .complexity("O(1)")
        .summary("Sets or clears one bit of a string, which grows as needed, and returns what the bit was.")
        .arguments(&[key("key", 0), integer("offset"), integer("value")]),
    read("getbit", getbit)
        .arity(3)
        .flags(FAST)
        .group(Group::Bitmap)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("2.2.0")
        .complexity("O(1)")
        .summary("Returns one bit of a string.")
        .arguments(&[key("key", 0), integer("offset")]),
    read("bitcount", bitcount)
        .arity(-2)
        .group(Group::Bitmap)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("2.6.0")
        .complexity("O(N), N bytes looked at.")
        .summary("Counts the bits that are set in a string or a part of it.")
        .history(&[("7.0.0", "Ranges in `BYTE` or `BIT`.")])
        .arguments(&[
            key("key", 0),
            block(
                "index",
                &[
                    integer("start"),
                    integer("end"),
                    one_of("index_unit", &[token("byte", "BYTE"), token("bit", "BIT")])
                        .optional()
                        .since("7.0.0"),
                ],
            )
            .optional(),
        ]),
    read("bitpos", bitpos)
        .arity(-3)
        .group(Group::Bitmap)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("2.8.7")
        .complexity("O(N), N bytes looked at.")
        .summary("Finds the first bit that is set, or clear, in a string or a part of it.")
        .history(&[("7.0.0", "Ranges in `BYTE` or `BIT`.")])
        .arguments(&[
            key("key", 0),
            integer("bit"),
            block(
                "index",
                &[
                    integer("start"),
                    block(
                        "end_index",
                        &[
                            integer("end"),
                            one_of("index_unit", &[token("byte", "BYTE"), token("bit", "BIT")])
                                .optional()
                                .since("7.0.0"),
                        ],
                    )
                    .optional(),
                ],
            )
            .optional(),
        ]),
    write("bitop", bitop)
        .arity(-4)
        .flags(DENYOOM)
        .group(Group::Bitmap)
        .keys(&[KeySpec::one(2, OW.and(UPDATE)), KeySpec::range(3, -1, 1, RO.and(ACCESS))])
        .since("2.6.0")
        .complexity("O(N), N bytes in the longest string.")
        .summary("Combines strings bit by bit and stores the result.")
        .arguments(&[string("operation"), key("destkey", 0), key("key", 1).multiple()]),
];

/// A bit's offset; `unit` bits is what a number after `#` counts (BITFIELD).
pub(super) fn bit_offset(request: &Request, word: &[u8], unit: Option<u32>) -> Result<u64, ErrorReply> {
    const BAD: ErrorReply = ErrorReply::fixed("ERR bit offset is not an integer or out of range");
    let (digits, factor) = match (word.strip_prefix(b"#"), unit) {
        (Some(digits), Some(bits)) => (digits, bits),
        _ => (word, 1),
    };
    let offset = number::parse_i64(digits).and_then(|offset| offset.checked_mul(i64::from(factor)));
    let offset = offset.and_then(|offset| u64::try_from(offset).ok()).ok_or(BAD)?;
    if offset >> 3 >= request.settings.proto_max_bulk_len as u64 { Err(BAD) } else { Ok(offset) }
}

fn setbit(request: &Request, transaction: &mut Transaction) -> Outcome {
    let offset = bit_offset(request, request.args.at(2), None)?;
    let on = match number::parse_i64(request.args.at(3)) {
        Some(0) => false,
        Some(1) => true,
        _ => return Err(ErrorReply::fixed("ERR bit is not an integer or out of range").into()),
    };
    Ok(Reply::from(bitmap::set(transaction, &request.key(1), offset, on)?))
}

fn getbit(request: &Request, view: &mut View) -> Outcome {
    let offset = bit_offset(request, request.args.at(2), None)?;
    Ok(Reply::from(bitmap::get(view, &request.key(1), offset)?))
}

/// Whether the word at `index` says that a range is in bits.
fn range_is_in_bits(request: &Request, index: usize) -> Result<bool, ErrorReply> {
    match request.args.get(index) {
        None => Ok(false),
        Some(word) if word.eq_ignore_ascii_case(b"BIT") => Ok(true),
        Some(word) if word.eq_ignore_ascii_case(b"BYTE") => Ok(false),
        Some(_) => Err(error::SYNTAX),
    }
}

/// The bits of a range given in bits or bytes, in a string of `len` bytes.
fn bit_range(start: i64, end: i64, in_bits: bool, len: usize) -> Option<RangeInclusive<u64>> {
    let unit = if in_bits { 1 } else { 8 };
    let (start, last) = clamp_range(start, end, len as i64 * 8 / unit)?;
    Some((start * unit) as u64..=(last * unit + unit - 1) as u64)
}

fn bitcount(request: &Request, view: &mut View) -> Outcome {
    let key = request.key(1);
    let Some(entry) = strings::find(view, &key)? else { return Ok(Reply::Int(0)) };
    let (start, end, in_bits) = match request.args.len() {
        2 => (0, -1, false),
        4 | 5 => {
            let (start, end) = (request.args.int(2)?, request.args.int(3)?);
            // Before the unit is looked at, as in Redis.
            if start < 0 && end < 0 && start > end {
                return Ok(Reply::Int(0));
            }
            (start, end, range_is_in_bits(request, 4)?)
        }
        _ => return Err(error::SYNTAX.into()),
    };
    let Some(range) = bit_range(start, end, in_bits, strings::len(&entry)) else { return Ok(Reply::Int(0)) };
    Ok(Reply::Int(bitmap::count(view, &key, &entry, &range)? as i64))
}

fn bitpos(request: &Request, view: &mut View) -> Outcome {
    let wanted = match request.args.int(2)? {
        0 => false,
        1 => true,
        _ => return Err(ErrorReply::fixed("ERR The bit argument must be 1 or 0.").into()),
    };
    let key = request.key(1);
    let Some(entry) = strings::find(view, &key)? else { return Ok(Reply::Int(if wanted { -1 } else { 0 })) };
    let words = request.args.len();
    if words > 6 {
        return Err(error::SYNTAX.into());
    }
    let start = if words > 3 { request.args.int(3)? } else { 0 };
    let in_bits = range_is_in_bits(request, 5)?;
    let end = if words > 4 { request.args.int(4)? } else { -1 };
    let len = strings::len(&entry);
    let Some(range) = bit_range(start, end, in_bits, len) else { return Ok(Reply::Int(-1)) };
    let found = bitmap::position(view, &key, &entry, &range, wanted)?;
    // Without an end the string counts as followed by zeros.
    let behind = if wanted || words > 4 { -1 } else { len as i64 * 8 };
    Ok(Reply::Int(found.map_or(behind, |bit| bit as i64)))
}

fn bitop(request: &Request, transaction: &mut Transaction) -> Outcome {
    let combination = match request.args.at(1).to_ascii_lowercase().as_slice() {
        b"and" => Combination::And,
        b"or" => Combination::Or,
        b"xor" => Combination::Xor,
        b"not" => Combination::Not,
        _ => return Err(error::SYNTAX.into()),
    };
    if combination == Combination::Not && request.args.len() != 4 {
        return Err(ErrorReply::fixed("ERR BITOP NOT must be called with a single source key.").into());
    }
    let sources = request.args.from(3).map(|name| request.key_named(name));
    let len = bitmap::combine(transaction, combination, &request.key(2), sources)?;
    Ok(Reply::Int(len as i64))
}
