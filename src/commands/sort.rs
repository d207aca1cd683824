//! SORT and SORT_RO: the elements of a collection in order, of themselves or of values kept at keys named after them.
//!
//! A pattern (`weight_*`, `object_*->field`) names a key by putting the element in place of its first `*`. Such keys are
//! nowhere in the words, so these commands hold all partitions.

use super::{Command, Failure, Outcome, Request, read, write};
use crate::base::number;
use crate::protocol::args::Args;
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::access::{ACCESS, OW, RO, UPDATE};
use crate::protocol::spec::flag::{ALL_PARTITIONS, DENYOOM, MOVABLEKEYS};
use crate::protocol::spec::syntax::{block, integer, key, one_of, pattern, token};
use crate::protocol::spec::{Argument, Begin, Find, KeyAccess, KeySpec};
use crate::store::{Kind, Transaction, View};
use crate::types::{hash, keyspace, list, set, string, zset};
use std::cmp::Ordering;

const fn unknown(access: KeyAccess, notes: &'static str) -> KeySpec {
    KeySpec { begin: Begin::Unknown, find: Find::Unknown, access, notes }
}

const SOURCE: KeySpec = KeySpec::one(1, RO.and(ACCESS));
const PATTERN_KEYS: KeySpec = unknown(
    RO.and(ACCESS),
    "For the optional BY/GET keyword. It is marked 'unknown' because the key names derive from the content of the key we sort",
);
const STORE_KEY: KeySpec = unknown(
    OW.and(UPDATE),
    "For the optional STORE keyword. It is marked 'unknown' because the keyword can appear anywhere in the argument array",
);
const BY: Argument = by_or_get("BY").optional();
const LIMIT: Argument =
    block("offset_count", &[integer("offset"), integer("count")]).token("LIMIT").optional();
const GET: Argument = by_or_get("GET").optional().multiple_token();
const ORDER: Argument = one_of("order", &[token("asc", "ASC"), token("desc", "DESC")]).optional();
const ALPHA: Argument = token("sorting", "ALPHA").optional();

const fn by_or_get(word: &'static str) -> Argument {
    let mut made = pattern("pattern").token(word);
    made.key_spec = Some(1);
    made
}

const TYPES: &[&str] = &["set", "sortedset", "list", "dangerous"];
const COMPLEXITY: &str =
    "O(N + M log M) for N elements of which M are returned; O(N) if they are not sorted.";

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[
    write("sort", sort)
        .arity(-2)
        .flags(DENYOOM.and(MOVABLEKEYS).and(ALL_PARTITIONS))
        .keys(&[SOURCE, PATTERN_KEYS, STORE_KEY])
        .categories(TYPES)
        .since("1.0.0")
        .complexity(COMPLEXITY)
        .summary("Sorts the elements of a list, set or sorted set; may store the result.")
        .arguments(&[
            key("key", 0),
            BY,
            LIMIT,
            GET,
            ORDER,
            ALPHA,
            key("destination", 2).token("STORE").optional(),
        ]),
    read("sort_ro", sort_ro)
        .arity(-2)
        .flags(MOVABLEKEYS.and(ALL_PARTITIONS))
        .keys(&[SOURCE, PATTERN_KEYS])
        .categories(TYPES)
        .since("7.0.0")
        .complexity(COMPLEXITY)
        .summary("Sorts the elements of a list, set or sorted set.")
        .arguments(&[key("key", 0), BY, LIMIT, GET, ORDER, ALPHA]),
];

/// What the words ask for.
#[derive(Default)]
struct Plan<'a> {
    by: Option<&'a [u8]>,
    limit: Option<(i64, i64)>,
    gets: Vec<&'a [u8]>,
    is_descending: bool,
    is_alpha: bool,
    store: Option<&'a [u8]>,
}

impl<'a> Plan<'a> {
    fn parse(request: &Request<'a>, may_store: bool) -> Result<Plan<'a>, ErrorReply> {
        let mut plan = Plan::default();
        // Keys that no word names may be at other nodes: refused as in Redis.
        let is_spread = request.settings.cluster.is_spread;
        let mut words = request.args.cursor(2);
        while !words.is_done() {
            let left = words.left();
            if words.eat("ASC") {
                plan.is_descending = false;
            } else if words.eat("DESC") {
                plan.is_descending = true;
            } else if words.eat("ALPHA") {
                plan.is_alpha = true;
            } else if left >= 3 && words.eat("LIMIT") {
                plan.limit = Some((words.int()?, words.int()?));
            } else if may_store && left >= 2 && words.eat("STORE") {
                plan.store = Some(words.word()?);
            } else if left >= 2 && words.eat("BY") {
                plan.by = Some(words.word()?);
                if is_spread && plan.by.is_some_and(|by| by.contains(&b'*')) {
                    return Err(ErrorReply::fixed("ERR BY option of SORT denied in Cluster mode."));
                }
            } else if left >= 2 && words.eat("GET") {
                if is_spread {
                    return Err(ErrorReply::fixed("ERR GET option of SORT denied in Cluster mode."));
                }
                plan.gets.push(words.word()?);
            } else {
                return Err(error::SYNTAX);
            }
        }
        Ok(plan)
    }
}

/// Whether all keys of a command are in its words: it is one of these, and has no pattern with a star, which alone leads to other keys.
pub fn names_its_keys(command: &Command, args: &Args) -> bool {
    matches!(command.spec.name, "sort" | "sort_ro") && !args.from(2).any(|word| word.contains(&b'*'))
}

type Text = Vec<u8>;

/// The elements of a collection in its own order. Nothing for a missing key.
fn elements(request: &Request, view: &mut View) -> Result<(Option<Kind>, Vec<Text>), Failure> {
    let key = request.key(1);
    let Some(entry) = view.get(&key)? else { return Ok((None, Vec::new())) };
    let mut found = Vec::new();
    match entry.kind() {
        Kind::SortedSet => {
            zset::visit(view, &key, &entry, &mut |(_, member)| found.push(member.to_vec()))?;
        }
        Kind::Set => set::visit(view, &key, &entry, &mut |member| found.push(member.to_vec()))?,
        Kind::List => {
            let len = list::len(&entry)?;
            list::visit(view, &key, &entry, 0..len, &mut |element| found.push(element.to_vec()))?;
        }
        _ => return Err(error::WRONG_TYPE.into()),
    }
    Ok((Some(entry.kind()), found))
}

fn sort_ro(request: &Request, view: &mut View) -> Outcome {
    let plan = Plan::parse(request, false)?;
    let found = sorted(request, view, plan)?;
    Ok(Reply::Array(found.into_iter().map(|text| text.map_or(Reply::Null, Reply::Bulk)).collect()))
}

fn sort(request: &Request, transaction: &mut Transaction) -> Outcome {
    let plan = Plan::parse(request, true)?;
    let store = plan.store;
    let found = transaction.as_reader(|view| sorted(request, view, plan))?;
    let Some(target) = store else {
        return Ok(Reply::Array(
            found.into_iter().map(|text| text.map_or(Reply::Null, Reply::Bulk)).collect(),
        ));
    };
    let target = request.key_named(target);
    if found.is_empty() {
        keyspace::remove(transaction, &target)?;
    } else {
        let elements = found.iter().map(|text| text.as_deref().unwrap_or_default());
        list::store_all(transaction, &target, elements, None, super::lists::limits(request))?;
    }
    Ok(Reply::Int(found.len() as i64))
}

/// The elements in order, cut by LIMIT, each as what the GET patterns make of it.
fn sorted(request: &Request, view: &mut View, mut plan: Plan) -> Result<Vec<Option<Text>>, Failure> {
    let (kind, mut found) = elements(request, view)?;
    let mut sorts = plan.by.is_none_or(|by| by.contains(&b'*'));
    if !sorts && kind == Some(Kind::Set) && plan.store.is_some() {
        // A set has no order of its own, and what is stored must not depend on chance.
        (sorts, plan.is_alpha, plan.by) = (true, true, None);
    }
    if sorts {
        found = if plan.is_alpha {
            by_text(request, view, found, &plan)?
        } else {
            by_number(request, view, found, &plan)?
        };
    } else if matches!(kind, Some(Kind::SortedSet | Kind::List)) && plan.is_descending {
        found.reverse();
    }
    let found = &found[limited(plan.limit, found.len())];
    if plan.gets.is_empty() {
        return Ok(found.iter().cloned().map(Some).collect());
    }
    let mut shown = Vec::with_capacity(found.len() * plan.gets.len());
    for element in found {
        for pattern in &plan.gets {
            shown.push(value_named(request, view, pattern, element)?);
        }
    }
    Ok(shown)
}

/// Which of `len` elements `LIMIT offset count` leaves; a negative count leaves all.
fn limited(limit: Option<(i64, i64)>, len: usize) -> std::ops::Range<usize> {
    let Some((offset, count)) = limit else { return 0..len };
    let start = usize::try_from(offset.max(0)).unwrap_or(usize::MAX).min(len);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    start..start.saturating_add(count).min(len)
}

fn by_number(
    request: &Request,
    view: &mut View,
    found: Vec<Text>,
    plan: &Plan,
) -> Result<Vec<Text>, Failure> {
    const NOT_NUMBERS: ErrorReply =
        ErrorReply::fixed("ERR One or more scores can't be converted into double");
    let mut scored = Vec::with_capacity(found.len());
    for element in found {
        let score = match plan.by {
            None => number_of(&element),
            Some(by) => value_named(request, view, by, &element)?.map_or(Some(0.0), |text| number_of(&text)),
        };
        scored.push((score.ok_or(NOT_NUMBERS)?, element));
    }
    scored.sort_by(|(score, element), (other_score, other)| {
        let order =
            score.partial_cmp(other_score).unwrap_or(Ordering::Equal).then_with(|| element.cmp(other));
        if plan.is_descending { order.reverse() } else { order }
    });
    Ok(scored.into_iter().map(|(_, element)| element).collect())
}

/// As C's `strtod` reads a whole text: leading spaces are skipped, nothing is zero.
fn number_of(text: &[u8]) -> Option<f64> {
    let text = text.trim_ascii_start();
    if text.is_empty() {
        return Some(0.0);
    }
    let number = number::parse_f64(text)?;
    let overflows = number.is_infinite() && text.iter().any(u8::is_ascii_digit);
    (!overflows).then_some(number)
}

fn by_text(request: &Request, view: &mut View, found: Vec<Text>, plan: &Plan) -> Result<Vec<Text>, Failure> {
    let mut keyed = Vec::with_capacity(found.len());
    for element in found {
        let key = match plan.by {
            None => Some(element.clone()),
            Some(by) => value_named(request, view, by, &element)?,
        };
        keyed.push((key, element));
    }
    // No value sorts before every value.
    keyed.sort_by(|(a, _), (b, _)| if plan.is_descending { b.cmp(a) } else { a.cmp(b) });
    Ok(keyed.into_iter().map(|(_, element)| element).collect())
}

/// The value that `pattern` names for `element`: `#` the element itself, `prefix*suffix` a string, `prefix*suffix->field`
/// a field of a hash. Nothing if there is none, or something else.
fn value_named(
    request: &Request,
    view: &mut View,
    pattern: &[u8],
    element: &[u8],
) -> Result<Option<Text>, Failure> {
    if pattern == b"#" {
        return Ok(Some(element.to_vec()));
    }
    let Some(star) = pattern.iter().position(|&byte| byte == b'*') else { return Ok(None) };
    let (prefix, rest) = (&pattern[..star], &pattern[star + 1..]);
    let arrow = rest.windows(2).position(|pair| pair == b"->").filter(|&at| at + 2 < rest.len());
    let (suffix, field) = arrow.map_or((rest, None), |at| (&rest[..at], Some(&rest[at + 2..])));
    let name = [prefix, element, suffix].concat();
    let key = crate::store::Key::new(request.database, &name);
    let Some(entry) = view.get(&key)? else { return Ok(None) };
    Ok(match (entry.kind(), field) {
        (Kind::String, None) => Some(string::read_whole(view, &key, &entry)?.to_vec()),
        (Kind::Hash, Some(field)) => hash::get(view, &key, &entry, field)?.map(|value| value.to_vec()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_cut_to_what_there_is() {
        for (limit, range) in [
            (None, 0..5),
            (Some((0, -1)), 0..5),
            (Some((1, 2)), 1..3),
            (Some((-7, 2)), 0..2),
            (Some((4, 9)), 4..5),
            (Some((9, 9)), 5..5),
            (Some((i64::MAX, i64::MAX)), 5..5),
            (Some((1, 0)), 1..1),
        ] {
            assert_eq!(limited(limit, 5), range);
        }
    }

    #[test]
    fn numbers_are_read_as_strtod_reads_them() {
        assert_eq!(number_of(b""), Some(0.0));
        assert_eq!(number_of(b" 1.5"), Some(1.5));
        assert_eq!(number_of(b"inf"), Some(f64::INFINITY));
        for text in ["x", "1 ", "nan", "1e999"] {
            assert_eq!(number_of(text.as_bytes()), None, "{text}");
        }
    }
}
