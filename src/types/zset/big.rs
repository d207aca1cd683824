//! Big sorted sets: a row for each member, and a counted tree for their order.

use super::entries::{Entries, Scored, SortKey, compare_to_key, put, sort_key};
use crate::base::blob::Slice;
use crate::store::{Entry, Interrupt, Items, Key, Transaction, View, hash32};
use crate::types::counted::{COUNTS, Counted, Path, Separator};
use smallvec::SmallVec;
use std::cmp::Ordering;
use std::ops::{ControlFlow, Range};

/// The tag of members' rows.
pub const MEMBER: u8 = COUNTS + 1;
/// Members of a leaf.
const LEAF_LEN_MAX: usize = 16;
/// Bytes of a leaf of more than one member.
const LEAF_BYTES_MAX: usize = 512;
/// A leaf with fewer bytes is put together with a neighbour, if both fit well.
const THIN_BYTES: usize = LEAF_BYTES_MAX / 8;
const THIN_LEN: usize = LEAF_LEN_MAX / 4;

/// A big sorted set while a command works on it.
pub struct Big {
    pub tree: Counted,
}

/// A place in the order.
struct Place {
    path: Path,
    leaf: Slice,
    /// Which of the leaf's members, and where its bytes begin.
    index: usize,
    offset: usize,
}

/// The suffix of a member's row.
fn suffix(member: &[u8]) -> SmallVec<[u8; 64]> {
    let mut suffix = SmallVec::new();
    suffix.push(MEMBER);
    suffix.extend_from_slice(&hash32(member).to_be_bytes());
    suffix.extend_from_slice(member);
    suffix
}

/// Score and member in a row with this suffix; `None` if it is another kind of row.
pub fn scored_of_row<'a>(suffix: &'a [u8], row: &[u8]) -> Option<Scored<'a>> {
    let (&tag, rest) = suffix.split_first()?;
    let score = f64::from_bits(u64::from_be_bytes(row.try_into().ok()?));
    (tag == MEMBER).then_some((score, rest.get(4..)?))
}

pub(super) fn damaged() -> Interrupt {
    Interrupt::Storage("a row of a sorted set is damaged or missing".to_owned())
}

/// The score of a member of the big set with these items.
pub fn score(view: &mut View, key: &Key, items: Items, member: &[u8]) -> Result<Option<f64>, Interrupt> {
    let Some(row) = view.item(key, items.uid, &suffix(member))? else { return Ok(None) };
    let bits: [u8; 8] = row[..].try_into().map_err(|_| damaged())?;
    Ok(Some(f64::from_bits(u64::from_be_bytes(bits))))
}

/// Whether a leaf has too much in it, if it can have less.
fn is_over(len: usize, bytes: usize) -> bool {
    len > LEAF_LEN_MAX || (bytes > LEAF_BYTES_MAX && len > 1)
}

impl Big {
    /// The set that `entry` is the head of; `None` if it is small.
    pub fn open(entry: &Entry) -> Result<Option<Big>, Interrupt> {
        let Some(items) = entry.items() else { return Ok(None) };
        let (tree, _) = Counted::open(items, entry.payload()).ok_or_else(damaged)?;
        Ok(Some(Big { tree }))
    }

    /// One of these members, which are in order.
    pub fn of_sorted(transaction: &mut Transaction, key: &Key, members: &[Scored]) -> Result<Big, Interrupt> {
        let mut big = Big { tree: Counted::new(transaction, key) };
        let uid = big.tree.items().uid;
        for &(score, member) in members {
            let value = score.to_bits().to_be_bytes();
            big.tree.note_grown(transaction.put_new_item(key, uid, &suffix(member), &[&value]));
        }
        let mut rest = members;
        let mut last: Option<Scored> = None;
        while !rest.is_empty() {
            let (mut bytes, mut len) = (Vec::new(), 0);
            for &scored in rest {
                let before = bytes.len();
                put(&mut bytes, scored);
                // Three quarters, so that the next members have room.
                if len > 0 && (len >= LEAF_LEN_MAX * 3 / 4 || bytes.len() > LEAF_BYTES_MAX * 3 / 4) {
                    bytes.truncate(before);
                    break;
                }
                len += 1;
            }
            let separator = last.map(|last| Separator::between(&sort_key(last), &sort_key(rest[0])));
            last = Some(rest[len - 1]);
            rest = &rest[len..];
            big.append_leaf(transaction, key, &bytes, len, separator.as_ref())?;
        }
        Ok(big)
    }

    fn append_leaf(
        &mut self,
        view: &mut View,
        key: &Key,
        bytes: &[u8],
        len: usize,
        separator: Option<&Separator>,
    ) -> Result<(), Interrupt> {
        let id = self.tree.new_leaf(bytes)?;
        match (self.tree.last(view, key)?, separator) {
            (Some(path), Some(separator)) => self.tree.insert_after(&path, id, len as u64, separator),
            _ => self.tree.push_last(view, key, id, len as u64),
        }
    }

    /// Where the first member is that is not before `bound`: perhaps behind the last of its leaf.
    fn place(&mut self, view: &mut View, key: &Key, bound: &[u8]) -> Result<Option<Place>, Interrupt> {
        let begins_behind = |leaf: &[u8]| {
            let first = Entries::new(leaf).next();
            first.is_some_and(|first| compare_to_key(first, bound) == Ordering::Greater)
        };
        let Some(path) = self.tree.seek(view, key, bound, &begins_behind)? else { return Ok(None) };
        let leaf = self.tree.leaf(view, key, path.leaf)?;
        let (mut index, mut offset) = (0, 0);
        let mut entries = Entries::new(&leaf);
        while let Some(scored) = entries.next() {
            if compare_to_key(scored, bound) != Ordering::Less {
                break;
            }
            (index, offset) = (index + 1, entries.at);
        }
        Ok(Some(Place { path, leaf, index, offset }))
    }

    /// How many members are before `bound`.
    pub fn rank(&mut self, view: &mut View, key: &Key, bound: &[u8]) -> Result<u64, Interrupt> {
        let place = self.place(view, key, bound)?;
        Ok(place.map_or(0, |place| place.path.before.saturating_add(place.index as u64)))
    }

    /// Adds a member that is not there.
    pub fn insert(
        &mut self,
        transaction: &mut Transaction,
        key: &Key,
        scored: Scored,
    ) -> Result<(), Interrupt> {
        let grown = self.put_row(transaction, key, scored);
        self.tree.note_grown(grown);
        self.insert_in_order(transaction, key, scored)
    }

    /// Puts a member's row; how large it is. Whether there was one the caller knows.
    fn put_row(&self, transaction: &mut Transaction, key: &Key, (score, member): Scored) -> i64 {
        let uid = self.tree.items().uid;
        transaction.put_new_item(key, uid, &suffix(member), &[&score.to_bits().to_be_bytes()])
    }

    fn insert_in_order(&mut self, view: &mut View, key: &Key, scored: Scored) -> Result<(), Interrupt> {
        let mut made = Vec::new();
        put(&mut made, scored);
        let Some(place) = self.place(view, key, &sort_key(scored))? else {
            let id = self.tree.new_leaf(&made)?;
            return self.tree.push_last(view, key, id, 1);
        };
        let Place { mut path, leaf, index, offset } = place;
        let len = path.count as usize + 1;
        let bytes = leaf.len() + made.len();
        if is_over(len, bytes) {
            let is_last = path.before + path.count == self.tree.len() && offset == leaf.len();
            let mut all: Vec<Scored> = Entries::new(&leaf).collect();
            all.insert(index.min(all.len()), scored);
            // What grows at the end leaves full leaves behind.
            let first = if is_last { all.len() - 1 } else { half(&all) };
            return self.split(&mut path, &all, first);
        }
        let bytes = [&leaf[..offset], &made, &leaf[offset..]].concat();
        self.tree.put_leaf(path.leaf, &bytes);
        self.tree.set_count(&mut path, len as u64)
    }

    /// Makes leaves of what is too much for the one at `path`: the first so many stay.
    fn split(&mut self, path: &mut Path, all: &[Scored], first: usize) -> Result<(), Interrupt> {
        let (left, right) = all.split_at(first);
        let (Some(&last), Some(&next)) = (left.last(), right.first()) else { return Err(damaged()) };
        let separator = Separator::between(&sort_key(last), &sort_key(next));
        self.tree.put_leaf(path.leaf, &packed(left));
        self.tree.set_count(path, left.len() as u64)?;
        let bytes = packed(right);
        let id = self.tree.new_leaf(&bytes)?;
        self.tree.insert_after(path, id, right.len() as u64, &separator)
    }

    /// Gives another score to a member.
    pub fn update(
        &mut self,
        transaction: &mut Transaction,
        key: &Key,
        (old, member): Scored,
        score: f64,
    ) -> Result<(), Interrupt> {
        self.put_row(transaction, key, (score, member));
        let place = self.find(transaction, key, (old, member))?;
        if place.keeps_order((score, member)) {
            let mut bytes = place.leaf.to_vec();
            let Some(at) = bytes.get_mut(place.offset..place.offset + 8) else { return Err(damaged()) };
            at.copy_from_slice(&score.to_bits().to_be_bytes());
            self.tree.put_leaf(place.path.leaf, &bytes);
            return Ok(());
        }
        self.cut(transaction, key, place, 1)?;
        self.insert_in_order(transaction, key, (score, member))
    }

    /// The place of a member that is there.
    fn find(&mut self, view: &mut View, key: &Key, scored: Scored) -> Result<Place, Interrupt> {
        let place = self.place(view, key, &sort_key(scored))?.ok_or_else(damaged)?;
        let found = Entries::new(&place.leaf[place.offset..]).next();
        if found.is_some_and(|(_, member)| member == scored.1) { Ok(place) } else { Err(damaged()) }
    }

    /// Removes a member that is there.
    pub fn remove(
        &mut self,
        transaction: &mut Transaction,
        key: &Key,
        scored: Scored,
    ) -> Result<(), Interrupt> {
        self.remove_row(transaction, key, scored.1)?;
        let place = self.find(transaction, key, scored)?;
        self.cut(transaction, key, place, 1)
    }

    fn remove_row(
        &mut self,
        transaction: &mut Transaction,
        key: &Key,
        member: &[u8],
    ) -> Result<(), Interrupt> {
        let change = transaction.remove_item(key, self.tree.items().uid, &suffix(member))?;
        self.tree.note_grown(change.grown);
        Ok(())
    }

    /// Takes `count` members out of a leaf, from a place on.
    fn cut(&mut self, view: &mut View, key: &Key, place: Place, count: usize) -> Result<(), Interrupt> {
        let Place { mut path, leaf, offset, .. } = place;
        let mut entries = Entries::new(&leaf[offset..]);
        let taken = entries.by_ref().take(count).count();
        let end = offset + entries.at;
        let left = (path.count as usize).saturating_sub(taken);
        if left == 0 || end - offset == leaf.len() {
            self.tree.remove(view, key, &path)?;
            self.tree.drop_leaf(path.leaf);
            return Ok(());
        }
        let bytes = [&leaf[..offset], &leaf[end..]].concat();
        self.tree.put_leaf(path.leaf, &bytes);
        self.tree.set_count(&mut path, left as u64)?;
        if left < THIN_LEN && bytes.len() < THIN_BYTES { self.merge(view, key, &path) } else { Ok(()) }
    }

    /// Puts a leaf together with a neighbour, if both are not much.
    fn merge(&mut self, view: &mut View, key: &Key, path: &Path) -> Result<(), Interrupt> {
        let Some((mut first, second)) = self.tree.pair(path)? else { return Ok(()) };
        let count = first.count.saturating_add(second.count);
        if count > (LEAF_LEN_MAX * 3 / 4) as u64 {
            return Ok(());
        }
        let (left, right) = (self.tree.leaf(view, key, first.leaf)?, self.tree.leaf(view, key, second.leaf)?);
        if left.len() + right.len() > LEAF_BYTES_MAX * 3 / 4 {
            return Ok(());
        }
        self.tree.put_leaf(first.leaf, &[&left[..], &right[..]].concat());
        self.tree.set_count(&mut first, count)?;
        self.tree.remove(view, key, &second)?;
        self.tree.drop_leaf(second.leaf);
        Ok(())
    }

    /// Removes the members of these ranks, leaf by leaf, and shows them.
    pub fn remove_ranks(
        &mut self,
        transaction: &mut Transaction,
        key: &Key,
        ranks: Range<u64>,
        removed: &mut dyn FnMut(Scored),
    ) -> Result<(), Interrupt> {
        let mut left = ranks.end.saturating_sub(ranks.start);
        while left > 0 {
            let Some((path, within)) = self.tree.find(transaction, key, ranks.start)? else { break };
            let leaf = self.tree.leaf(transaction, key, path.leaf)?;
            let mut entries = Entries::new(&leaf);
            let skipped = entries.by_ref().take(within).count();
            let offset = entries.at;
            let mut count = 0;
            for scored in entries.take(left.min(path.count) as usize) {
                self.remove_row(transaction, key, scored.1)?;
                removed(scored);
                count += 1;
            }
            if count == 0 || skipped < within {
                return Err(damaged());
            }
            left -= count as u64;
            self.cut(transaction, key, Place { path, leaf: leaf.clone(), index: within, offset }, count)?;
        }
        Ok(())
    }

    /// Visits the members of these ranks, the last one first if `backward`.
    pub fn visit(
        &mut self,
        view: &mut View,
        key: &Key,
        ranks: Range<u64>,
        backward: bool,
        visit: &mut dyn FnMut(Scored) -> ControlFlow<()>,
    ) -> Result<(), Interrupt> {
        let mut left = ranks.end.saturating_sub(ranks.start);
        if left == 0 {
            return Ok(());
        }
        let begin = if backward { ranks.end - 1 } else { ranks.start };
        let Some((mut path, mut within)) = self.tree.find(view, key, begin)? else { return Ok(()) };
        loop {
            let leaf = self.tree.leaf(view, key, path.leaf)?;
            let flow = if backward {
                let entries: SmallVec<[Scored; LEAF_LEN_MAX]> =
                    Entries::new(&leaf).take(within.saturating_add(1)).collect();
                show(entries.into_iter().rev(), &mut left, visit)
            } else {
                show(Entries::new(&leaf).skip(within), &mut left, visit)
            };
            if flow.is_break() || left == 0 {
                return Ok(());
            }
            let more = if backward {
                self.tree.previous(view, key, &mut path)?
            } else {
                self.tree.next(view, key, &mut path)?
            };
            if !more {
                return Ok(());
            }
            within = if backward { usize::MAX } else { 0 };
        }
    }

    /// The member at `rank`, by itself.
    pub fn at_rank(
        &mut self,
        view: &mut View,
        key: &Key,
        rank: u64,
        take: &mut dyn FnMut(Scored),
    ) -> Result<(), Interrupt> {
        self.visit(view, key, rank..rank.saturating_add(1), false, &mut |scored| {
            take(scored);
            ControlFlow::Break(())
        })
    }

    /// The bound before all members of the first one's score whose bytes are not less than `member`.
    pub fn bound_in_first_score(
        &mut self,
        view: &mut View,
        key: &Key,
        member: &[u8],
    ) -> Result<SortKey, Interrupt> {
        let mut score = 0.0;
        self.at_rank(view, key, 0, &mut |first| score = first.0)?;
        Ok(sort_key((score, member)))
    }
}

impl Place {
    /// Whether the member here would stay between its neighbours in the leaf with another score.
    fn keeps_order(&self, scored: Scored) -> bool {
        let key = sort_key(scored);
        let mut entries = Entries::new(&self.leaf);
        let before = match self.index.checked_sub(1) {
            Some(before) => entries.nth(before),
            None => None,
        };
        entries.next();
        // At an end of the leaf the neighbour is in another one, which nobody has looked at.
        before.is_some_and(|before| compare_to_key(before, &key) == Ordering::Less)
            && entries.next().is_some_and(|after| compare_to_key(after, &key) == Ordering::Greater)
    }
}

fn show<'a>(
    entries: impl Iterator<Item = Scored<'a>>,
    left: &mut u64,
    visit: &mut dyn FnMut(Scored) -> ControlFlow<()>,
) -> ControlFlow<()> {
    for scored in entries {
        if *left == 0 {
            return ControlFlow::Break(());
        }
        *left -= 1;
        visit(scored)?;
    }
    ControlFlow::Continue(())
}

fn packed(members: &[Scored]) -> Vec<u8> {
    let mut bytes = Vec::new();
    members.iter().for_each(|&scored| put(&mut bytes, scored));
    bytes
}

/// How many of these are about half the bytes: at least one, and not all.
fn half(all: &[Scored]) -> usize {
    let size = |&(_, member): &Scored| 10 + member.len();
    let total: usize = all.iter().map(size).sum();
    let mut sum = 0;
    let first = all.iter().position(|scored| {
        sum += size(scored);
        sum * 2 > total
    });
    first.unwrap_or(0).clamp(1, all.len().saturating_sub(1).max(1))
}
