//! Which words of a command are keys, from its key specifications: what routing, ACL key patterns and COMMAND GETKEYS ask.
//!
//! A few commands say more in their words than a specification can (`SORT … STORE`, `SET … GET`, `MIGRATE … KEYS`); they
//! are the `match` in [`special`]. Words that make no sense (`ZUNION x …`) give an error here and again, with its own
//! words, in the handler.

use super::Command;
use crate::base::number;
use crate::protocol::args::Args;
use crate::protocol::spec::access::{
    ACCESS, DELETE, INCOMPLETE, NOT_KEY, OW, RO, RW, UPDATE, VARIABLE_FLAGS,
};
use crate::protocol::spec::flag::NO_MANDATORY_KEYS;
use crate::protocol::spec::{Begin, Find, KeyAccess, KeySpec};
use smallvec::SmallVec;

/// A key: the index of its word, and what is done to it.
pub type KeyAt = (usize, KeyAccess);

/// The words do not fit the command's syntax, so that its keys cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidWords;

/// The keys of a command, in the order of its specifications.
#[derive(Clone, Debug)]
pub enum Keys {
    /// None left.
    None,
    /// This one is left.
    One(KeyAt),
    /// These.
    Many(smallvec::IntoIter<[KeyAt; 6]>),
}

impl Iterator for Keys {
    type Item = KeyAt;

    #[inline]
    fn next(&mut self) -> Option<KeyAt> {
        match self {
            Keys::None => None,
            Keys::One(key) => {
                let key = *key;
                *self = Keys::None;
                Some(key)
            }
            Keys::Many(keys) => keys.next(),
        }
    }
}

/// The keys among `args`, the words of `command` (of a subcommand: with its container's name). The arity was checked.
#[inline]
pub fn keys_of(command: &Command, args: &Args) -> Result<Keys, InvalidWords> {
    match command.spec.keys {
        [] => Ok(Keys::None),
        [KeySpec { begin: Begin::Index(at), find: Find::Range { last: 0, .. }, access, .. }]
            if access.0 & (VARIABLE_FLAGS.0 | INCOMPLETE.0 | NOT_KEY.0) == 0 =>
        {
            let at = *at as usize;
            if at < args.len() { Ok(Keys::One((at, *access))) } else { Err(InvalidWords) }
        }
        _ => several(command, args),
    }
}

/// The words that look like keys but are none (channels of `SSUBSCRIBE`), for cluster routing.
pub fn not_keys_of(command: &Command, args: &Args) -> Result<Keys, InvalidWords> {
    let mut found = SmallVec::new();
    for spec in command.spec.keys.iter().filter(|spec| spec.access.has(NOT_KEY)) {
        by_spec(spec, command, args, &mut found)?;
    }
    Ok(Keys::Many(found.into_iter()))
}

fn several(command: &Command, args: &Args) -> Result<Keys, InvalidWords> {
    let mut found = SmallVec::new();
    if !special(command.spec.name, args, &mut found) {
        for spec in command.spec.keys.iter().filter(|spec| !spec.access.has(NOT_KEY)) {
            by_spec(spec, command, args, &mut found)?;
        }
    }
    Ok(Keys::Many(found.into_iter()))
}

/// The commands whose words say more than their specifications. False if `name` is none of them.
fn special(name: &str, args: &Args, found: &mut SmallVec<[KeyAt; 6]>) -> bool {
    match name {
        "set" => {
            let gets = args.from(3).any(|word| word.eq_ignore_ascii_case(b"get"));
            found.push((1, if gets { RW.and(ACCESS).and(UPDATE) } else { OW.and(UPDATE) }));
        }
        "bitfield" => found.push((1, bitfield_access(args))),
        "sort" => {
            found.push((1, RO.and(ACCESS)));
            found.extend(sort_target(args).map(|at| (at, OW.and(UPDATE))));
        }
        "sort_ro" => found.push((1, RO.and(ACCESS))),
        "migrate" => migrate(args, found),
        _ => return false,
    }
    true
}

/// Read only as long as every operation is a `GET`.
fn bitfield_access(args: &Args) -> KeyAccess {
    let mut at = 2;
    while let Some(word) = args.get(at) {
        at += match word {
            word if word.eq_ignore_ascii_case(b"get") => 3,
            word if word.eq_ignore_ascii_case(b"overflow") => 2,
            _ => return RW.and(ACCESS).and(UPDATE),
        };
    }
    RO.and(ACCESS)
}

/// The word behind the last `STORE`, which is the one that counts.
fn sort_target(args: &Args) -> Option<usize> {
    let mut target = None;
    let mut at = 2;
    while let Some(word) = args.get(at) {
        let is = |token: &[u8]| word.eq_ignore_ascii_case(token);
        at += match () {
            () if is(b"limit") => 3,
            () if is(b"get") || is(b"by") => 2,
            () if is(b"store") && at + 1 < args.len() => {
                target = Some(at + 1);
                2
            }
            () => 1,
        };
    }
    target
}

/// One key at word 3, or if that is empty those behind `KEYS`.
fn migrate(args: &Args, found: &mut SmallVec<[KeyAt; 6]>) {
    let access = RW.and(ACCESS).and(DELETE);
    let keys = (6..args.len()).find(|&at| args.at(at).eq_ignore_ascii_case(b"keys"));
    match keys.filter(|_| args.get(3).is_some_and(<[u8]>::is_empty)) {
        Some(keys) => found.extend((keys + 1..args.len()).map(|at| (at, access))),
        None => found.push((3, access)),
    }
}

fn by_spec(
    spec: &KeySpec,
    command: &Command,
    args: &Args,
    found: &mut SmallVec<[KeyAt; 6]>,
) -> Result<(), InvalidWords> {
    let Some(first) = begin(spec.begin, args) else { return Ok(()) };
    let count = args.len() as i64;
    let (first, last, step) = match spec.find {
        Find::Unknown => return Ok(()),
        Find::Range { last, step, limit } => {
            let last = match i64::from(last) {
                last if last >= 0 => first + last,
                last if limit <= 1 => count + last,
                last => first + (count - first) / i64::from(limit) + last,
            };
            (first, last, step)
        }
        Find::Count { number, first: offset, step } => {
            let word = usize::try_from(first + i64::from(number)).ok().and_then(|at| args.get(at));
            let least = i64::from(!command.spec.flags.has(NO_MANDATORY_KEYS));
            let keys = word.and_then(number::parse_i64).filter(|keys| (least..=count).contains(keys));
            let keys = keys.ok_or(InvalidWords)?;
            let first = first + i64::from(offset);
            (first, first + (keys - 1) * i64::from(step), step)
        }
    };
    if first < 1 || last >= count {
        return Err(InvalidWords);
    }
    let indices = (first..=last).step_by(step.max(1) as usize);
    found.extend(indices.map(|at| (at as usize, spec.access)));
    Ok(())
}

/// The word where the keys of a specification begin; `None` if its keyword does not occur.
fn begin(begin: Begin, args: &Args) -> Option<i64> {
    let count = args.len() as i64;
    let (keyword, from) = match begin {
        Begin::Index(at) => return Some(i64::from(at)),
        Begin::Keyword(keyword, from) => (keyword, i64::from(from)),
        Begin::Unknown => return None,
    };
    let is_it = |&at: &i64| args.at(at as usize).eq_ignore_ascii_case(keyword.as_bytes());
    let found =
        if from >= 0 { (from..count).find(is_it) } else { (1..=(count + from).max(0)).rev().find(is_it) };
    found.map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::{Outcome, Request, read};
    use crate::protocol::reply::Reply;
    use crate::store::View;

    fn nothing(_: &Request, _: &mut View) -> Outcome {
        Ok(Reply::Ok)
    }

    fn keys(name: &'static str, specs: &'static [KeySpec], line: &str) -> Option<Vec<usize>> {
        let command = read(name, nothing).keys(specs);
        let mut ranges = Vec::new();
        let mut at = 0;
        for word in line.split(' ') {
            ranges.push((at, at + word.len() as u32));
            at += word.len() as u32 + 1;
        }
        let args = Args::new(line.as_bytes(), &ranges);
        keys_of(&command, &args).ok().map(|keys| keys.map(|(at, _)| at).collect())
    }

    const fn spec(begin: Begin, find: Find) -> KeySpec {
        KeySpec { begin, find, access: RO, notes: "" }
    }

    #[test]
    fn ranges_reach_to_the_end_or_before_it() {
        const ONE: &[KeySpec] = &[KeySpec::one(1, RO)];
        const ALL: &[KeySpec] = &[KeySpec::range(1, -1, 1, RO)];
        const PAIRS: &[KeySpec] = &[KeySpec::range(1, -1, 2, OW)];
        const BUT_LAST: &[KeySpec] = &[KeySpec::range(1, -2, 1, RO)];
        assert_eq!(keys("get", ONE, "get a"), Some(vec![1]));
        assert_eq!(keys("mget", ALL, "mget a b c"), Some(vec![1, 2, 3]));
        assert_eq!(keys("mset", PAIRS, "mset a 1 b 2"), Some(vec![1, 3]));
        assert_eq!(keys("blpop", BUT_LAST, "blpop a b 0"), Some(vec![1, 2]));
    }

    #[test]
    fn keywords_and_counts_are_found() {
        const STREAMS: &[KeySpec] =
            &[spec(Begin::Keyword("STREAMS", 1), Find::Range { last: -1, step: 1, limit: 2 })];
        const COUNT: &[KeySpec] = &[spec(Begin::Index(1), Find::Count { number: 0, first: 1, step: 1 })];
        assert_eq!(keys("xread", STREAMS, "xread count 5 streams a b 0 0"), Some(vec![4, 5]));
        assert_eq!(keys("xread", STREAMS, "xread count 5"), Some(vec![]));
        assert_eq!(keys("zunion", COUNT, "zunion 2 a b withscores"), Some(vec![2, 3]));
        for line in
            ["zunion 0 a", "zunion 9 a b", "zunion -1 a", "zunion x a", "zunion 9223372036854775807 a"]
        {
            assert_eq!(keys("zunion", COUNT, line), None, "{line}");
        }
        let may_have_none = read("eval", nothing).keys(COUNT).flags(NO_MANDATORY_KEYS);
        let args = [(0, 4), (5, 6)];
        assert_eq!(keys_of(&may_have_none, &Args::new(b"eval 0", &args)).map(Iterator::count), Ok(0));
    }

    #[test]
    fn what_specifications_cannot_say_is_said_here() {
        const ANY: &[KeySpec] = &[KeySpec::one(1, RO.and(VARIABLE_FLAGS))];
        assert_eq!(keys("sort", ANY, "sort a by store get store store b store c"), Some(vec![1, 9]));
        assert_eq!(keys("sort", ANY, "sort a store"), Some(vec![1]));
        assert_eq!(keys("migrate", ANY, "migrate h 1 k 0 5"), Some(vec![3]));
        assert_eq!(keys("migrate", ANY, "migrate h 1  0 5 copy keys a b"), Some(vec![8, 9]));
        assert_eq!(keys("bitfield", ANY, "bitfield k get u8 0"), Some(vec![1]));
    }
}
