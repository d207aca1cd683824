//! Commands whose data has several primaries: those that can be taken apart are, and the replies put together again.
//!
//! A part is a command of its own, so the whole is not atomic: what Redis Cluster leaves to clients. Commands with keys are divided by
//! partitions (MGET, MSET, DEL, UNLINK, EXISTS, TOUCH); those on all keys run once for each partition. SCAN goes on where its cursor
//! says, and from one primary's partitions to the next.

use super::dispatch::{Call, Turn};
use super::route::{Away, part};
use crate::base::ids::{PartitionId, Slot};
use crate::commands::scan::{cursor_at, parse_cursor, position_of};
use crate::protocol::encode::{self, Version};
use crate::protocol::reply::Reply;
use crate::session::forwarding::{Forwarding, Route};
use crate::session::multi::Queued;
use crate::session::session::Session;
use crate::store::PartitionSet;
use std::collections::{BTreeMap, BTreeSet};

/// How the replies to parts make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Integers add up.
    Sum,
    /// All are OK.
    AllOk,
    /// Lists of values: for each the part that has it.
    Values(Vec<usize>),
    /// Lists follow one another.
    Lists,
    /// The first that is not null counts.
    Any,
    /// A cursor and a list.
    Scan {
        /// Where the scan goes on when this part of it is over, if it does.
        next: Option<u64>,
        /// Where it is now: if the primaries have changed so that it is no part any more, nothing was found, and the client asks again.
        again: u64,
    },
}

/// A command taken apart.
#[derive(Clone, Debug)]
pub struct Split {
    /// How the replies make one.
    pub merge: Merge,
    /// Commands of their own.
    pub parts: Vec<Away>,
}

/// Whether a command with these words can be taken apart.
pub fn can_split(call: &Call) -> bool {
    match call.base_name() {
        "mget" | "del" | "unlink" | "exists" | "touch" | "keys" | "dbsize" | "flushall" | "flushdb"
        | "randomkey" => true,
        "mset" => !call.args.len().is_multiple_of(2),
        "scan" => parse_cursor(call.args.at(1)).and_then(position_of).is_some(),
        _ => false,
    }
}

/// Takes a command apart.
pub fn split(turn: Turn, session: &mut Session, call: &Call, way: &dyn Forwarding) -> Split {
    let merge = match call.base_name() {
        "mget" => return by_key(turn, session, call, way, 1),
        "mset" => return by_key(turn, session, call, way, 2),
        "del" | "unlink" | "exists" | "touch" => return by_key(turn, session, call, way, 1),
        "scan" => return scan(turn, session, call, way),
        "keys" => Merge::Lists,
        "dbsize" => Merge::Sum,
        "randomkey" => Merge::Any,
        _ => Merge::AllOk,
    };
    let mut asked = by_primary(asked(session, way).into_iter().map(PartitionId), way);
    if merge == Merge::Any {
        let first = rand::random_range(0..asked.len().max(1));
        asked.rotate_left(first);
    }
    let whole = Queued::copy_from(call.args);
    let parts =
        asked.into_iter().map(|(route, id)| part(turn, session, call, route, whole.clone(), vec![id.0]));
    Split { merge, parts: parts.collect() }
}

/// Partitions with their primaries, those of one primary side by side: what goes to one node goes there in one request. A part is about one
/// partition and no more, so that it always has one primary, whichever that is by the time it runs.
fn by_primary(ids: impl Iterator<Item = PartitionId>, way: &dyn Forwarding) -> Vec<(Route, PartitionId)> {
    let mut ordered: Vec<(Route, PartitionId)> = Vec::new();
    for id in ids.filter({
        let mut seen = BTreeSet::new();
        move |id| seen.insert(*id)
    }) {
        let route = way.primary(id);
        let behind =
            ordered.iter().rposition(|(other, _)| *other == route).map_or(ordered.len(), |at| at + 1);
        ordered.insert(behind, (route, id));
    }
    ordered
}

/// The partitions that a command on all keys is about. A client that knows slots asks every node and adds up: as in Redis, it is told of
/// those that this node is primary of, if there are any.
fn asked(session: &Session, way: &dyn Forwarding) -> Vec<u16> {
    let all = 0..way.partition_count();
    let is_own = |id: &u16| session.knows_slots && way.primary(PartitionId(*id)) == Route::Here;
    let own: Vec<u16> = all.clone().filter(is_own).collect();
    if own.is_empty() { all.collect() } else { own }
}

/// The keys of each partition, each with the words behind it up to the next key.
fn by_key(turn: Turn, session: &mut Session, call: &Call, way: &dyn Forwarding, step: usize) -> Split {
    let store = &turn.service.store;
    let keys = || (1..call.args.len()).step_by(step);
    let partition = |at: usize| store.partition_of(crate::base::crc16::slot(call.args.at(at)));
    let ordered = by_primary(keys().map(partition), way);
    let group_of: BTreeMap<PartitionId, usize> =
        ordered.iter().enumerate().map(|(group, (_, id))| (*id, group)).collect();
    let mut groups: Vec<(Route, Vec<&[u8]>)> =
        ordered.iter().map(|(route, _)| (*route, vec![call.args.at(0)])).collect();
    let mut owners = Vec::new();
    for at in keys() {
        let group = group_of[&partition(at)];
        groups[group].1.extend((at..at + step).map(|at| call.args.at(at)));
        owners.push(group);
    }
    let merge = match call.base_name() {
        "mget" => Merge::Values(owners),
        "mset" => Merge::AllOk,
        _ => Merge::Sum,
    };
    let parts = groups.into_iter().map(|(route, words)| {
        let lens: Vec<u32> = words.iter().map(|word| word.len() as u32).collect();
        part(turn, session, call, route, Queued::of_words(&words.concat(), &lens), Vec::new())
    });
    Split { merge, parts: parts.collect() }
}

/// The part of a scan that begins at its cursor, up to where another primary's partitions begin.
fn scan(turn: Turn, session: &mut Session, call: &Call, way: &dyn Forwarding) -> Split {
    let count = way.partition_count();
    let position = parse_cursor(call.args.at(1)).and_then(position_of).unwrap_or((Slot(0), 0));
    let asked = asked(session, way);
    // A cursor behind them all finds nothing more in the last one.
    let first = PartitionId::of(position.0, count).0.min(asked.last().copied().unwrap_or_default());
    let mut left = asked.into_iter().skip_while(|id| *id < first).peekable();
    let route = left.peek().map_or(Route::Nobody, |id| way.primary(PartitionId(*id)));
    let mut ids = Vec::new();
    while let Some(id) = left.next_if(|id| way.primary(PartitionId(*id)) == route) {
        ids.push(id);
    }
    let next = left.next().map(|id| cursor_at((PartitionId(id).first_slot(count), 0)));
    let words = Queued::copy_from(call.args);
    let again = cursor_at(position.max((PartitionId(first).first_slot(count), 0)));
    Split { merge: Merge::Scan { next, again }, parts: vec![part(turn, session, call, route, words, ids)] }
}

/// The partitions that a part is limited to; all that its words name, if it is not.
pub fn limit(only: &[u16]) -> Option<PartitionSet> {
    (!only.is_empty()).then(|| PartitionSet::of(only.iter().map(|id| PartitionId(*id)).collect()))
}

impl Merge {
    /// The reply that these make, each as it would be sent. An error among them is the reply; so is what does not fit together.
    pub fn replies(&self, replies: &[Vec<u8>], version: Version) -> Vec<u8> {
        if let Some(error) = replies.iter().find(|reply| reply.first() == Some(&b'-')) {
            return match self {
                Merge::Scan { again, .. } if error.starts_with(b"-CROSSSLOT ") => {
                    let nothing = vec![Reply::bulk(again.to_string()), Reply::Array(Vec::new())];
                    let mut out = Vec::new();
                    encode::encode(&Reply::Array(nothing), version, &mut out);
                    out
                }
                _ => error.clone(),
            };
        }
        self.merged(replies, version)
            .unwrap_or_else(|| b"-ERR the replies of several nodes do not fit together\r\n".to_vec())
    }

    fn merged(&self, replies: &[Vec<u8>], version: Version) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match self {
            Merge::AllOk => return replies.first().cloned(),
            Merge::Sum => {
                let sum: i64 =
                    replies.iter().map(|reply| number(reply, b':').map(|(n, _)| n)).sum::<Option<_>>()?;
                encode::encode(&sum.into(), version, &mut out);
            }
            Merge::Any => return replies.iter().find(|reply| is_bulk(reply)).or(replies.first()).cloned(),
            Merge::Lists => {
                let lists = replies.iter().map(|reply| number(reply, b'*')).collect::<Option<Vec<_>>>()?;
                let count: i64 = lists.iter().map(|(count, _)| count).sum();
                encode::array_head(usize::try_from(count).ok()?, &mut out);
                lists.iter().for_each(|(_, items)| out.extend_from_slice(items));
            }
            Merge::Values(owners) => {
                let lists = replies.iter().map(|reply| number(reply, b'*').map(|(_, items)| items));
                let mut lists = lists.collect::<Option<Vec<_>>>()?;
                encode::array_head(owners.len(), &mut out);
                for owner in owners {
                    let rest = lists.get_mut(*owner)?;
                    let (item, behind) = rest.split_at_checked(item_len(rest)?)?;
                    out.extend_from_slice(item);
                    *rest = behind;
                }
            }
            Merge::Scan { next, .. } => {
                let reply = replies.first()?;
                match (next, reply.strip_prefix(b"*2\r\n$1\r\n0\r\n")) {
                    (Some(next), Some(found)) => {
                        encode::array_head(2, &mut out);
                        encode::bulk(next.to_string().as_bytes(), &mut out);
                        out.extend_from_slice(found);
                    }
                    _ => out.extend_from_slice(reply),
                }
            }
        }
        Some(out)
    }
}

/// The number in the first line, which begins with `mark`, and what comes behind it.
fn number(reply: &[u8], mark: u8) -> Option<(i64, &[u8])> {
    let end = memchr::memchr(b'\r', reply)?;
    let line = reply.get(..end)?.strip_prefix(&[mark])?;
    Some((crate::base::number::parse_i64(line)?, reply.get(end + 2..)?))
}

fn is_bulk(reply: &[u8]) -> bool {
    number(reply, b'$').is_some_and(|(len, _)| len >= 0)
}

/// Bytes of the value that begins here: a byte string or null.
fn item_len(bytes: &[u8]) -> Option<usize> {
    if bytes.starts_with(b"_\r\n") {
        return Some(3);
    }
    let (len, rest) = number(bytes, b'$')?;
    let head = bytes.len() - rest.len();
    Some(if len < 0 { head } else { head + usize::try_from(len).ok()? + 2 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_of_parts_make_one() {
        let merged = |merge: Merge, replies: &[&str]| {
            let replies: Vec<Vec<u8>> =
                replies.iter().map(|reply| reply.replace('|', "\r\n").into_bytes()).collect();
            String::from_utf8_lossy(&merge.replies(&replies, Version::Resp2)).replace("\r\n", "|")
        };
        let scan = |next| Merge::Scan { next, again: 7 };
        assert_eq!(merged(Merge::Sum, &[":2|", ":40|"]), ":42|");
        assert_eq!(merged(Merge::Sum, &[":2|", "-ERR no|"]), "-ERR no|");
        assert_eq!(merged(Merge::AllOk, &["+OK|", "+OK|"]), "+OK|");
        assert_eq!(merged(Merge::Any, &["$-1|", "$1|k|"]), "$1|k|");
        assert_eq!(merged(Merge::Any, &["$-1|", "$-1|"]), "$-1|");
        assert_eq!(merged(Merge::Lists, &["*1|$1|a|", "*0|", "*1|$1|b|"]), "*2|$1|a|$1|b|");
        assert_eq!(merged(Merge::Values(vec![1, 0, 1]), &["*1|$-1|", "*2|$2|ab|_|"]), "*3|$2|ab|$-1|_|");
        assert_eq!(merged(scan(Some(77)), &["*2|$1|0|*1|$1|a|"]), "*2|$2|77|*1|$1|a|");
        assert_eq!(merged(scan(None), &["*2|$1|0|*0|"]), "*2|$1|0|*0|");
        assert_eq!(merged(scan(Some(77)), &["*2|$2|55|*0|"]), "*2|$2|55|*0|");
        assert_eq!(merged(scan(Some(77)), &["-CROSSSLOT x|"]), "*2|$1|7|*0|");
        assert_eq!(merged(scan(Some(77)), &["-ERR x|"]), "-ERR x|");
        for broken in ["", "*", "*1|$9|a|", "*1|", "*x|", ":|"] {
            assert!(merged(Merge::Values(vec![0]), &[broken]).starts_with("-ERR the replies"), "{broken}");
        }
    }
}
