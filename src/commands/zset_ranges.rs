//! Sorted sets: ranges by rank, score and bytes, shown, counted, stored and removed; and the rank of a member.

use super::zsets::{limits, show};
use super::{Command, Failure, Outcome, Request, read, write};
use crate::base::number;
use crate::protocol::error::{self, ErrorReply, shown};
use crate::protocol::reply::Reply;
use crate::protocol::spec::access::{ACCESS, DELETE, OW, RO, RW, UPDATE};
use crate::protocol::spec::flag::{DENYOOM, FAST};
use crate::protocol::spec::syntax::{block, double, integer, key, one_of, string, token};
use crate::protocol::spec::{Group, KeySpec};
use crate::store::{Entry, Interrupt, Key, Transaction, View};
use crate::types::zset::{self, LexBound, LexRange, ScoreRange, Scored};
use std::ops::{ControlFlow, Range};

/// The declarations.
pub const COMMANDS: &[Command] = &[
    read("zcount", zcount)
        .arity(4)
        .flags(FAST)
        .group(Group::SortedSet)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("2.0.0")
        .complexity("O(log N)")
        .summary("Counts the members of a sorted set with scores in a range.")
        .arguments(&[key("key", 0), double("min"), double("max")]),
    read("zlexcount", zlexcount)
        .arity(4)
        .flags(FAST)
        .group(Group::SortedSet)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("2.8.9")
        .complexity("O(log N)")
        .summary("Counts the members of a sorted set in a range by bytes.")
        .arguments(&[key("key", 0), string("min"), string("max")]),
    read("zrank", zrank)
        .arity(-3)
        .flags(FAST)
        .group(Group::SortedSet)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("2.0.0")
        .complexity("O(log N)")
        .summary("Returns how many members of a sorted set stand before one.")
        .history(&[("7.2.0", "The word `WITHSCORE`.")])
        .arguments(&[
            key("key", 0),
            string("member"),
            token("withscore", "WITHSCORE").optional().since("7.2.0"),
        ]),
    read("zrevrank", zrevrank)
        .arity(-3)
        .flags(FAST)
        .group(Group::SortedSet)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("2.0.0")
        .complexity("O(log N)")
        .summary("Returns how many members of a sorted set stand behind one.")
        .history(&[("7.2.0", "The word `WITHSCORE`.")])
        .arguments(&[
            key("key", 0),
            string("member"),
            token("withscore", "WITHSCORE").optional().since("7.2.0"),
        ]),
    read("zrange", zrange)
        .arity(-4)
        .group(Group::SortedSet)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("1.2.0")
        .complexity("O(log N + M), M members shown.")
        .summary("Returns a range of members of a sorted set, by rank, score or bytes.")
        .history(&[("6.2.0", "The options `REV`, `BYSCORE`, `BYLEX` and `LIMIT`.")])
        .arguments(&[
            key("key", 0),
            string("start"),
            string("stop"),
            one_of("sortby", &[token("byscore", "BYSCORE"), token("bylex", "BYLEX")])
                .optional()
                .since("6.2.0"),
            token("rev", "REV").optional().since("6.2.0"),
            block("offset_count", &[integer("offset"), integer("count")])
                .token("LIMIT")
                .optional()
                .since("6.2.0"),
            token("withscores", "WITHSCORES").optional(),
        ]),
    read("zrevrange", zrevrange)
        .arity(-4)
        .group(Group::SortedSet)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("1.2.0")
        .complexity("O(log N + M), M members shown.")
        .summary("Returns a range of members of a sorted set by rank, highest first.")
        .deprecated("6.2.0", "`ZRANGE` with the `REV` argument")
        .arguments(&[
            key("key", 0),
            integer("start"),
            integer("stop"),
            token("withscores", "WITHSCORES").optional(),
        ]),
    read("zrangebyscore", zrangebyscore)
        .arity(-4)
        .group(Group::SortedSet)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("1.0.5")
        .complexity("O(log N + M), M members shown.")
        .summary("Returns the members of a sorted set with scores in a range.")
        .deprecated("6.2.0", "`ZRANGE` with the `BYSCORE` argument")
        .history(&[("2.0.0", "The word `WITHSCORES`.")])
        .arguments(&[
            key("key", 0),
            double("min"),
            double("max"),
            token("withscores", "WITHSCORES").optional().since("2.0.0"),
            block("offset_count", &[integer("offset"), integer("count")]).token("LIMIT").optional(),
        ]),
    read("zrevrangebyscore", zrevrangebyscore)
        .arity(-4)
        .group(Group::SortedSet)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("2.2.0")
        .complexity("O(log N + M), M members shown.")
        .summary("Returns the members of a sorted set with scores in a range, highest first.")
        .deprecated("6.2.0", "`ZRANGE` with the `REV` and `BYSCORE` arguments")
        .history(&[("2.1.6", "Ends that are not included.")])
        .arguments(&[
            key("key", 0),
            double("max"),
            double("min"),
            token("withscores", "WITHSCORES").optional(),
            block("offset_count", &[integer("offset"), integer("count")]).token("LIMIT").optional(),
        ]),
    read("zrangebylex", zrangebylex)
        .arity(-4)
        .group(Group::SortedSet)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("2.8.9")
        .complexity("O(log N + M), M members shown.")
        .summary("Returns the members of a sorted set in a range by bytes.")
        .deprecated("6.2.0", "`ZRANGE` with the `BYLEX` argument")
        .arguments(&[
            key("key", 0),
            string("min"),
            string("max"),
            block("offset_count", &[integer("offset"), integer("count")]).token("LIMIT").optional(),
        ]),
    read("zrevrangebylex", zrevrangebylex)
        .arity(-4)
        .group(Group::SortedSet)
        .keys(&[KeySpec::one(1, RO.and(ACCESS))])
        .since("2.8.9")
        .complexity("O(log N + M), M members shown.")
        .summary("Returns the members of a sorted set in a range by bytes, last first.")
        .deprecated("6.2.0", "`ZRANGE` with the `REV` and `BYLEX` arguments")
        .arguments(&[
            key("key", 0),
            string("max"),
            string("min"),
            block("offset_count", &[integer("offset"), integer("count")]).token("LIMIT").optional(),
        ]),
    write("zrangestore", zrangestore)
        .arity(-5)
        .flags(DENYOOM)
        .group(Group::SortedSet)
        .keys(&[KeySpec::one(1, OW.and(UPDATE)), KeySpec::one(2, RO.and(ACCESS))])
        .since("6.2.0")
        .complexity("O(log N + M), M members stored.")
        .summary("Makes a sorted set of a range of another.")
        .arguments(&[
            key("dst", 0),
            key("src", 1),
            string("min"),
            string("max"),
            one_of("sortby", &[token("byscore", "BYSCORE"), token("bylex", "BYLEX")]).optional(),
            token("rev", "REV").optional(),
            block("offset_count", &[integer("offset"), integer("count")]).token("LIMIT").optional(),
        ]),
    write("zremrangebyrank", zremrangebyrank)
        .arity(4)
        .group(Group::SortedSet)
        .keys(&[KeySpec::one(1, RW.and(DELETE))])
        .since("2.0.0")
        .complexity("O(log N + M), M members removed.")
        .summary("Removes a range of members of a sorted set by rank.")
        .arguments(&[key("key", 0), integer("start"), integer("stop")]),
    write("zremrangebyscore", zremrangebyscore)
        .arity(4)
        .group(Group::SortedSet)
        .keys(&[KeySpec::one(1, RW.and(DELETE))])
        .since("1.2.0")
        .complexity("O(log N + M), M members removed.")
        .summary("Removes the members of a sorted set with scores in a range.")
        .arguments(&[key("key", 0), double("min"), double("max")]),
    write("zremrangebylex", zremrangebylex)
        .arity(4)
        .group(Group::SortedSet)
        .keys(&[KeySpec::one(1, RW.and(DELETE))])
        .since("2.8.9")
        .complexity("O(log N + M), M members removed.")
        .summary("Removes the members of a sorted set in a range by bytes.")
        .arguments(&[key("key", 0), string("min"), string("max")]),
];

/// Reads an end of a range of scores as C's `strtod` does: nothing is zero, what is too large is infinite.
fn score_of(word: &[u8]) -> Option<f64> {
    let text = shown(word, usize::MAX);
    if text.is_empty() {
        return Some(0.0);
    }
    let text = text.trim_ascii_start();
    number::parse_f64(text).or_else(|| {
        // What is left are numbers beyond a double's range, and what is none.
        let is_number = text.last()?.is_ascii_digit() || text.ends_with(b".");
        let value: f64 = std::str::from_utf8(text).ok().filter(|_| is_number)?.parse().ok()?;
        (!value.is_nan()).then_some(value)
    })
}

fn score_end(word: &[u8]) -> Result<(f64, bool), ErrorReply> {
    const REFUSED: ErrorReply = ErrorReply::fixed("ERR min or max is not a float");
    let (text, exclusive) = word.strip_prefix(b"(").map_or((word, false), |rest| (rest, true));
    Ok((score_of(text).ok_or(REFUSED)?, exclusive))
}

fn score_range(min: &[u8], max: &[u8]) -> Result<ScoreRange, ErrorReply> {
    let ((min, min_exclusive), (max, max_exclusive)) = (score_end(min)?, score_end(max)?);
    Ok(ScoreRange { min, max, min_exclusive, max_exclusive })
}

fn lex_end(word: &[u8]) -> Result<LexBound<'_>, ErrorReply> {
    match word {
        [b'-'] | [b'-', 0, ..] => Ok(LexBound::Lowest),
        [b'+'] | [b'+', 0, ..] => Ok(LexBound::Highest),
        [b'[', rest @ ..] => Ok(LexBound::Inclusive(rest)),
        [b'(', rest @ ..] => Ok(LexBound::Exclusive(rest)),
        _ => Err(ErrorReply::fixed("ERR min or max not valid string range item")),
    }
}

fn lex_range<'a>(min: &'a [u8], max: &'a [u8]) -> Result<LexRange<'a>, ErrorReply> {
    Ok(LexRange { min: lex_end(min)?, max: lex_end(max)? })
}

/// What a range is taken by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Lex,
}

/// A range, its ends read.
#[derive(Clone, Copy, Debug)]
enum Between<'a> {
    Ranks(i64, i64),
    Scores(ScoreRange),
    Lex(LexRange<'a>),
}

impl<'a> Between<'a> {
    fn parse(by: By, request: &Request<'a>, min: usize, max: usize) -> Result<Between<'a>, ErrorReply> {
        let args = request.args;
        Ok(match by {
            By::Rank => Between::Ranks(args.int(min)?, args.int(max)?),
            By::Score => Between::Scores(score_range(args.at(min), args.at(max))?),
            By::Lex => Between::Lex(lex_range(args.at(min), args.at(max))?),
        })
    }

    /// The ranks of the members in it, counted from the lowest. `backward`: ranks are given from the highest.
    fn ranks(
        self,
        view: &mut View,
        key: &Key,
        entry: &Entry,
        backward: bool,
    ) -> Result<Range<u64>, Interrupt> {
        match self {
            Between::Ranks(start, stop) => Ok(ranks_between(start, stop, zset::len(entry), backward)),
            Between::Scores(range) => zset::ranks_of_scores(view, key, entry, range),
            Between::Lex(range) => zset::ranks_of_lex(view, key, entry, range, backward),
        }
    }
}

/// The ranks from `start` to `stop`, which count from the end if negative, among `len`.
fn ranks_between(start: i64, stop: i64, len: u64, backward: bool) -> Range<u64> {
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let from_front = |rank: i64| if rank < 0 { rank.saturating_add(len) } else { rank };
    let (start, stop) = (from_front(start).max(0), from_front(stop).min(len - 1));
    if start > stop || start >= len {
        return 0..0;
    }
    let (start, end) = if backward { (len - 1 - stop, len - start) } else { (start, stop + 1) };
    start as u64..end as u64
}

/// What the words of ZRANGE and its kin ask for.
struct Plan<'a> {
    between: Between<'a>,
    backward: bool,
    with_scores: bool,
    /// How many are skipped, and how many are left.
    limit: (i64, i64),
}

impl<'a> Plan<'a> {
    /// Reads the words from the first end of the range on. What the command's name says of order and kind is not asked for.
    fn parse(
        request: &Request<'a>,
        first: usize,
        by: Option<By>,
        backward: Option<bool>,
        stores: bool,
    ) -> Result<Plan<'a>, ErrorReply> {
        let (mut by_asked, mut backward_asked, mut with_scores, mut limit) = (by, backward, false, (0, -1));
        let mut words = request.args.cursor(first + 2);
        while !words.is_done() {
            if !stores && words.eat("WITHSCORES") {
                with_scores = true;
            } else if words.left() >= 3 && words.eat("LIMIT") {
                limit = (words.int()?, words.int()?);
            } else if backward_asked.is_none() && words.eat("REV") {
                backward_asked = Some(true);
            } else if by_asked.is_none() && words.eat("BYLEX") {
                by_asked = Some(By::Lex);
            } else if by_asked.is_none() && words.eat("BYSCORE") {
                by_asked = Some(By::Score);
            } else {
                return Err(error::SYNTAX);
            }
        }
        let (by, backward) = (by_asked.unwrap_or(By::Rank), backward_asked.unwrap_or(false));
        if limit.1 != -1 && by == By::Rank {
            return Err(ErrorReply::fixed(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if with_scores && by == By::Lex {
            return Err(ErrorReply::fixed(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        let (min, max) = if backward && by != By::Rank { (first + 1, first) } else { (first, first + 1) };
        let between = Between::parse(by, request, min, max)?;
        Ok(Plan { between, backward, with_scores, limit: if by == By::Rank { (0, -1) } else { limit } })
    }

    /// The ranks to show.
    fn ranks(&self, view: &mut View, key: &Key, entry: &Entry) -> Result<Range<u64>, Interrupt> {
        let ranks = self.between.ranks(view, key, entry, self.backward)?;
        let (offset, count) = self.limit;
        let Ok(offset) = u64::try_from(offset) else { return Ok(0..0) };
        let len = (ranks.end - ranks.start).saturating_sub(offset);
        let len = u64::try_from(count).map_or(len, |count| len.min(count));
        Ok(if len == 0 {
            0..0
        } else if self.backward {
            let end = ranks.end - offset;
            end - len..end
        } else {
            let start = ranks.start + offset;
            start..start + len
        })
    }
}

/// Members that room is made for at once: what a damaged row says their number is, may be any.
const RESERVED_MAX: u64 = 1 << 16;

fn show_range(request: &Request, view: &mut View, by: Option<By>, backward: Option<bool>) -> Outcome {
    let plan = Plan::parse(request, 2, by, backward, false)?;
    let key = request.key(1);
    let Some(entry) = zset::find(view, &key)? else { return Ok(Reply::Array(Vec::new())) };
    let ranks = plan.ranks(view, &key, &entry)?;
    let room = (ranks.end - ranks.start).min(RESERVED_MAX) as usize;
    let mut replies = Vec::with_capacity(if plan.with_scores { 2 * room } else { room });
    zset::visit_ranks(view, &key, &entry, ranks, plan.backward, &mut |scored| {
        show(&mut replies, scored, plan.with_scores);
        ControlFlow::Continue(())
    })?;
    Ok(if plan.with_scores { Reply::Pairs(replies) } else { Reply::Array(replies) })
}

fn zrange(request: &Request, view: &mut View) -> Outcome {
    show_range(request, view, None, None)
}

fn zrevrange(request: &Request, view: &mut View) -> Outcome {
    show_range(request, view, Some(By::Rank), Some(true))
}

fn zrangebyscore(request: &Request, view: &mut View) -> Outcome {
    show_range(request, view, Some(By::Score), Some(false))
}

fn zrevrangebyscore(request: &Request, view: &mut View) -> Outcome {
    show_range(request, view, Some(By::Score), Some(true))
}

fn zrangebylex(request: &Request, view: &mut View) -> Outcome {
    show_range(request, view, Some(By::Lex), Some(false))
}

fn zrevrangebylex(request: &Request, view: &mut View) -> Outcome {
    show_range(request, view, Some(By::Lex), Some(true))
}

fn zrangestore(request: &Request, transaction: &mut Transaction) -> Outcome {
    let plan = Plan::parse(request, 3, None, None, true)?;
    let source = request.key(2);
    let mut found: Vec<(f64, Vec<u8>)> = Vec::new();
    transaction.as_reader(|view| -> Result<(), Failure> {
        let Some(entry) = zset::find(view, &source)? else { return Ok(()) };
        let ranks = plan.ranks(view, &source, &entry)?;
        zset::visit_ranks(view, &source, &entry, ranks, plan.backward, &mut |(score, member)| {
            found.push((score, member.to_vec()));
            ControlFlow::Continue(())
        })?;
        Ok(())
    })?;
    store_found(request, transaction, &request.key(1), &found)
}

/// Makes `target` a sorted set of these. Returns the reply with their number.
pub(super) fn store_found(
    request: &Request,
    transaction: &mut Transaction,
    target: &Key,
    found: &[(f64, Vec<u8>)],
) -> Outcome {
    let mut members: Vec<Scored> = found.iter().map(|(score, member)| (*score, &member[..])).collect();
    let count = zset::store_all(transaction, target, &mut members, None, limits(request))?;
    Ok(Reply::Int(count as i64))
}

fn count(request: &Request, view: &mut View, by: By) -> Outcome {
    let between = Between::parse(by, request, 2, 3)?;
    let key = request.key(1);
    let Some(entry) = zset::find(view, &key)? else { return Ok(Reply::Int(0)) };
    let ranks = between.ranks(view, &key, &entry, false)?;
    Ok(Reply::Int((ranks.end - ranks.start) as i64))
}

fn zcount(request: &Request, view: &mut View) -> Outcome {
    count(request, view, By::Score)
}

fn zlexcount(request: &Request, view: &mut View) -> Outcome {
    count(request, view, By::Lex)
}

fn rank(request: &Request, view: &mut View, backward: bool) -> Outcome {
    if request.args.len() > 4 {
        return Err(error::wrong_arity(if backward { "zrevrank" } else { "zrank" }).into());
    }
    let with_score = match request.args.get(3) {
        None => false,
        Some(word) if word.eq_ignore_ascii_case(b"WITHSCORE") => true,
        Some(_) => return Err(error::SYNTAX.into()),
    };
    let nothing = if with_score { Reply::NullArray } else { Reply::Null };
    let key = request.key(1);
    let Some(entry) = zset::find(view, &key)? else { return Ok(nothing) };
    let Some((rank, score)) = zset::rank(view, &key, &entry, request.args.at(2))? else { return Ok(nothing) };
    let rank = if backward { zset::len(&entry).saturating_sub(rank + 1) } else { rank };
    let rank = Reply::Int(rank as i64);
    Ok(if with_score { Reply::Array(vec![rank, Reply::Double(score)]) } else { rank })
}

fn zrank(request: &Request, view: &mut View) -> Outcome {
    rank(request, view, false)
}

fn zrevrank(request: &Request, view: &mut View) -> Outcome {
    rank(request, view, true)
}

fn remove(request: &Request, transaction: &mut Transaction, by: By) -> Outcome {
    let between = Between::parse(by, request, 2, 3)?;
    let key = request.key(1);
    let Some(entry) = zset::find(transaction, &key)? else { return Ok(Reply::Int(0)) };
    let ranks = between.ranks(transaction, &key, &entry, false)?;
    let removed = zset::remove_ranks(transaction, &key, &entry, ranks, limits(request))?;
    Ok(Reply::Int(removed as i64))
}

fn zremrangebyrank(request: &Request, transaction: &mut Transaction) -> Outcome {
    remove(request, transaction, By::Rank)
}

fn zremrangebyscore(request: &Request, transaction: &mut Transaction) -> Outcome {
    remove(request, transaction, By::Score)
}

fn zremrangebylex(request: &Request, transaction: &mut Transaction) -> Outcome {
    remove(request, transaction, By::Lex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_score_ranges_are_read_as_strtod_reads_them() {
        for (text, value) in [
            ("", 0.0),
            (" 5", 5.0),
            ("5\0x", 5.0),
            ("1e400", f64::INFINITY),
            ("-1e400", f64::NEG_INFINITY),
            ("+inf", f64::INFINITY),
            ("1e-400", 0.0),
        ] {
            assert_eq!(score_of(text.as_bytes()), Some(value), "{text:?}");
        }
        for text in ["x", " ", "5 ", "nan", "1x"] {
            assert_eq!(score_of(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn ranks_count_from_either_end() {
        for (start, stop, backward, ranks) in [
            (0, -1, false, 0..5),
            (1, 2, false, 1..3),
            (-2, -1, false, 3..5),
            (-99, 99, false, 0..5),
            (3, 1, false, 0..0),
            (5, 9, false, 0..0),
            (0, 1, true, 3..5),
            (-1, -1, true, 0..1),
            (i64::MIN, i64::MAX, true, 0..5),
        ] {
            assert_eq!(ranks_between(start, stop, 5, backward), ranks);
        }
        assert_eq!(ranks_between(0, -1, 0, false), 0..0);
    }
}
