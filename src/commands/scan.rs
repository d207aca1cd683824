//! Walking the keys of a database: KEYS, SCAN, RANDOMKEY; and what walks of collections have in common with that.
//!
//! A cursor of SCAN is a position in the order the keys are stored in, (slot, hash32) + 1, so it needs no memory on the
//! server, stays valid whatever happens, and a key that is there during the whole scan is returned: keys never change
//! their position, and all keys of one position are returned by the same call.

use super::{Command, Outcome, Request, read};
use crate::base::glob;
use crate::base::ids::{SLOTS, Slot};
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::flag::ALL_PARTITIONS;
use crate::protocol::spec::syntax::{integer, pattern, string};
use crate::store::{ScanPosition, View};
use std::ops::ControlFlow;

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[
    read("keys", keys)
        .arity(2)
        .flags(ALL_PARTITIONS)
        .since("1.0.0")
        .complexity("O(N) for N keys in the database.")
        .summary("Lists the keys whose names fit a pattern.")
        .categories(&["dangerous"])
        .tips(&["request_policy:all_shards", "nondeterministic_output_order"])
        .arguments(&[pattern("pattern")]),
    read("scan", scan)
        .arity(-2)
        .flags(ALL_PARTITIONS)
        .since("2.8.0")
        .complexity("O(1) for a call with a bounded COUNT, O(N) for a whole scan of N keys.")
        .summary("Walks the keys of the database, a part with each call.")
        .history(&[("6.0.0", "Filter by type.")])
        .tips(&["nondeterministic_output", "request_policy:special"])
        .arguments(&[
            integer("cursor"),
            pattern("pattern").token("MATCH").optional(),
            integer("count").token("COUNT").optional(),
            string("type").token("TYPE").optional().since("6.0.0"),
        ]),
    read("randomkey", randomkey)
        .arity(1)
        .flags(ALL_PARTITIONS)
        .since("1.0.0")
        .complexity("O(1)")
        .summary("Returns the name of some key of the database.")
        .tips(&["request_policy:all_shards", "nondeterministic_output"]),
];

fn keys(request: &Request, view: &mut View) -> Outcome {
    let pattern = request.args.at(1);
    let mut found = Vec::new();
    view.visit_keys(request.database, (Slot(0), 0), &mut |_, name, _| {
        if pattern == b"*" || glob::matches(pattern, name, false) {
            found.push(Reply::bulk(name));
        }
        ControlFlow::Continue(())
    })?;
    Ok(Reply::Array(found))
}

/// What SCAN's words ask for.
struct Options<'a> {
    from: Option<ScanPosition>,
    pattern: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
    count: i64,
}

impl<'a> Options<'a> {
    fn parse(request: &Request<'a>) -> Result<Options<'a>, ErrorReply> {
        let cursor = parse_cursor(request.args.at(1)).ok_or(error::INVALID_CURSOR)?;
        let mut options = Options { from: position_of(cursor), pattern: None, kind: None, count: 10 };
        let mut words = request.args.cursor(2);
        while words.left() >= 2 {
            if words.eat("COUNT") {
                options.count = words.int()?;
                if options.count < 1 {
                    return Err(error::SYNTAX);
                }
            } else if words.eat("MATCH") {
                options.pattern = words.word().ok().filter(|&pattern| pattern != b"*");
            } else if words.eat("TYPE") {
                options.kind = words.word().ok();
            } else {
                return Err(error::SYNTAX);
            }
        }
        if words.is_done() { Ok(options) } else { Err(error::SYNTAX) }
    }
}

/// What the words of HSCAN and its kin ask for, behind the cursor.
pub(super) struct Part<'a> {
    /// About how many elements.
    pub count: usize,
    pattern: Option<&'a [u8]>,
}

impl<'a> Part<'a> {
    /// From the words behind key and cursor.
    pub fn parse(request: &Request<'a>) -> Result<Part<'a>, ErrorReply> {
        let mut part = Part { count: 10, pattern: None };
        let mut words = request.args.cursor(3);
        while words.left() >= 2 {
            if words.eat("COUNT") {
                let count = words.int()?;
                part.count = usize::try_from(count).ok().filter(|&count| count > 0).ok_or(error::SYNTAX)?;
            } else if words.eat("MATCH") {
                part.pattern = Some(words.word()?);
            } else {
                return Err(error::SYNTAX);
            }
        }
        if words.is_done() { Ok(part) } else { Err(error::SYNTAX) }
    }

    /// Whether an element with this name is wanted.
    pub fn has(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, name, false))
    }

    /// The reply: where to go on, and what was found.
    pub fn reply(next: u64, found: Vec<Reply>) -> Reply {
        Reply::Array(vec![Reply::bulk(next.to_string()), Reply::Array(found)])
    }
}

/// Reads a cursor as C's `strtoul` does: Redis takes a sign and an empty text, too.
pub fn parse_cursor(word: &[u8]) -> Option<u64> {
    let (negative, digits) = match word {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if word.is_empty() {
        return Some(0);
    }
    let text = std::str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_digit))?;
    let number: u64 = text.parse().ok()?;
    Some(if negative { number.wrapping_neg() } else { number })
}

/// Where the scan with this cursor goes on; `None` if that is behind all keys.
pub fn position_of(cursor: u64) -> Option<ScanPosition> {
    let position = cursor.saturating_sub(1);
    let slot = u16::try_from(position >> 32).ok().filter(|&slot| slot < SLOTS)?;
    Some((Slot(slot), position as u32))
}

/// The cursor of a scan that goes on there.
pub fn cursor_at((slot, position): ScanPosition) -> u64 {
    (u64::from(slot.0) << 32 | u64::from(position)) + 1
}

fn scan(request: &Request, view: &mut View) -> Outcome {
    let options = Options::parse(request)?;
    let mut found = Vec::new();
    let mut next = 0;
    if let Some(from) = options.from {
        let mut seen = 0;
        let mut last = None;
        view.visit_keys(request.database, from, &mut |position, name, meta| {
            if seen >= options.count && last != Some(position) {
                next = cursor_at(position);
                return ControlFlow::Break(());
            }
            seen += 1;
            last = Some(position);
            let kind_fits =
                options.kind.is_none_or(|kind| kind.eq_ignore_ascii_case(meta.kind.name().as_bytes()));
            if kind_fits && options.pattern.is_none_or(|pattern| glob::matches(pattern, name, false)) {
                found.push(Reply::bulk(name));
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok(Reply::Array(vec![Reply::bulk(next.to_string()), Reply::Array(found)]))
}

fn randomkey(request: &Request, view: &mut View) -> Outcome {
    let start = (Slot(rand::random::<u16>() % SLOTS), rand::random::<u32>());
    for from in [start, (Slot(0), 0)] {
        let mut found = None;
        view.visit_keys(request.database, from, &mut |_, name, _| {
            found = Some(Reply::bulk(name));
            ControlFlow::Break(())
        })?;
        if let Some(name) = found {
            return Ok(name);
        }
    }
    Ok(Reply::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_strtoul_reads_them() {
        for (text, value) in [("", Some(0)), ("0", Some(0)), ("+7", Some(7)), ("-1", Some(u64::MAX))] {
            assert_eq!(parse_cursor(text.as_bytes()), value);
        }
        for text in ["x", " 1", "1 ", "99999999999999999999"] {
            assert_eq!(parse_cursor(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_cursor_is_a_position_and_0_is_the_beginning() {
        for position in [(Slot(0), 0), (Slot(0), 1), (Slot(SLOTS - 1), u32::MAX)] {
            assert_eq!(position_of(cursor_at(position)), Some(position));
        }
        assert_eq!(position_of(0), Some((Slot(0), 0)));
        assert_eq!(position_of(u64::MAX), None);
    }
}
