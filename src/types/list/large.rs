//! Large lists: a leaf at each end, and a counted tree of leaves between them.
//!
//! ```text
//! payload of the key row: head of the tree · for each end: id of its leaf (varint)
//!                         · elements of the leaf's row that were taken from its left (varint)
//!                         · elements that it has (varint; 0: there is no leaf)
//! ```
//!
//! What is put at an end goes into its leaf, what is taken comes from there; so most commands write the key row and one leaf. Taking
//! writes the key row alone: what was taken stands in the leaf's row until that is written again or dropped. A full end leaf is handed to the tree as it is, and when one is empty the tree gives its next, or the other end has what is left.
//! The tree is changed once for so many elements as a leaf has.
//!
//! Invariants:
//! - no leaf is empty; one has up to [`ELEMENTS_MAX`] elements and [`ROW_BYTES_MAX`] bytes, or a single element of any length;
//! - what counts say and what leaves have is compared whenever a leaf is read: damage gives an error, never a panic.

use super::packed::{self, Elements, Packed, Ranges, packed_len};
use super::{ROW_BYTES_MAX, Side};
use crate::base::blob::Slice;
use crate::store::{Entry, Interrupt, Key, Kind, NewValue, Transaction, View};
use crate::types::counted::{Counted, LeafId, Path, Separator};
use crate::types::varint;
use std::ops::{ControlFlow, Range};

/// Elements of a leaf.
const ELEMENTS_MAX: usize = 32;
/// A leaf of fewer elements, after some were removed, is put together with the one behind it if that fits.
const ELEMENTS_FEW: usize = ELEMENTS_MAX / 4;
/// The key row's mark of this form.
pub const LARGE: u8 = 1;

/// The leaf at an end: none if it has no elements.
#[derive(Clone, Copy, Default)]
struct End {
    id: LeafId,
    /// Elements in its row that are before the first one.
    skip: u64,
    count: u64,
}

/// A large list while a command works on it.
pub struct Large {
    tree: Counted,
    /// The left one and the right one.
    ends: [End; 2],
    expire_at: Option<i64>,
}

/// Where a leaf is.
enum Spot {
    End(usize),
    Tree(Path),
}

/// A leaf that was read.
struct Leaf {
    spot: Spot,
    id: LeafId,
    /// Elements before it.
    before: u64,
    /// Elements in its row before the first that counts.
    skip: u64,
    count: u64,
    bytes: Slice,
}

impl Leaf {
    fn elements(&self) -> Elements<'_> {
        packed::elements(&self.bytes).skip(self.skip as usize).take(self.count as usize).collect()
    }
}

fn damaged() -> Interrupt {
    Interrupt::Storage("a row of a list is damaged or missing".to_owned())
}

fn index_of(side: Side) -> usize {
    usize::from(side == Side::Right)
}

/// Whether one more element still goes into a leaf.
fn has_room(count: usize, bytes: usize, more: usize) -> bool {
    count == 0 || (count < ELEMENTS_MAX && bytes + more <= ROW_BYTES_MAX)
}

/// Cuts elements into leaves, in order. At least one, which may be empty.
fn chunks<'e, 'a>(elements: &'e [&'a [u8]]) -> Vec<&'e [&'a [u8]]> {
    let (mut chunks, mut start, mut bytes) = (Vec::new(), 0, 1);
    for (at, element) in elements.iter().enumerate() {
        let more = packed_len(element);
        if !has_room(at - start, bytes, more) {
            chunks.push(&elements[start..at]);
            (start, bytes) = (at, 1);
        }
        bytes += more;
    }
    chunks.push(&elements[start..]);
    chunks
}

impl Large {
    /// The list in a key row of this form; none if it is a small one.
    pub fn of(entry: &Entry) -> Result<Option<Large>, Interrupt> {
        let Some(items) = entry.items() else { return Ok(None) };
        let (tree, at) = Counted::open(items, entry.payload()).ok_or_else(damaged)?;
        let mut at = at;
        let mut take = || varint::take(entry.payload(), &mut at);
        let mut end = || Some(End { id: take()?, skip: take()?, count: take()? });
        let (left, right) = end().zip(end()).ok_or_else(damaged)?;
        let list = Large { tree, ends: [left, right], expire_at: entry.expire_at() };
        let is_far = |end: End| end.skip >= 1 << 32;
        if is_far(left) || is_far(right) {
            return Err(damaged());
        }
        let len = left.count.checked_add(right.count).and_then(|count| count.checked_add(list.tree.len()));
        // Whatever counts to 2^63 is damaged: no sum of ours is near it.
        len.filter(|len| *len < 1 << 63).map(|_| Some(list)).ok_or_else(damaged)
    }

    /// An empty list, to be put at `key`.
    pub fn new(transaction: &mut Transaction, key: &Key, expire_at: Option<i64>) -> Large {
        Large { tree: Counted::new(transaction, key), ends: [End::default(); 2], expire_at }
    }

    /// Number of elements.
    pub fn len(&self) -> u64 {
        self.ends[0].count + self.tree.len() + self.ends[1].count
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes what changed, and the key row; removes the key if there is no element left.
    pub fn put(mut self, transaction: &mut Transaction, key: &Key) -> Result<(), Interrupt> {
        if self.is_empty() {
            return transaction.remove(key);
        }
        self.tree.flush(transaction, key)?;
        let mut payload = Packed::new();
        self.tree.encode_head(&mut payload);
        for end in self.ends {
            varint::put(&mut payload, end.id);
            varint::put(&mut payload, end.skip);
            varint::put(&mut payload, end.count);
        }
        let items = Some(self.tree.items());
        let meta =
            NewValue { kind: Kind::List, encoding: LARGE, expire_at: self.expire_at, due_at: None, items };
        transaction.put(key, meta, &[&payload])
    }

    /// The leaf with the element at `index`.
    fn leaf_at(&mut self, view: &mut View, key: &Key, index: u64) -> Result<Option<Leaf>, Interrupt> {
        let [left, right] = self.ends;
        let inner = left.count + self.tree.len();
        let (spot, id, before, skip, count) = if index < left.count {
            (Spot::End(0), left.id, 0, left.skip, left.count)
        } else if index < inner {
            let found = self.tree.find(view, key, index - left.count)?;
            let (path, _) = found.ok_or_else(damaged)?;
            let (id, before, count) = (path.leaf, left.count + path.before, path.count);
            (Spot::Tree(path), id, before, 0, count)
        } else if index - inner < right.count {
            (Spot::End(1), right.id, inner, right.skip, right.count)
        } else {
            return Ok(None);
        };
        let bytes = self.tree.leaf(view, key, id)?;
        let found = Ranges::new(&bytes).count() as u64;
        let is_whole = match &spot {
            Spot::End(_) => skip.checked_add(count).is_some_and(|needed| needed <= found),
            Spot::Tree(_) => count == found && (before..before + count).contains(&index),
        };
        if is_whole { Ok(Some(Leaf { spot, id, before, skip, count, bytes })) } else { Err(damaged()) }
    }

    /// Visits elements with their places from an end on until told to stop.
    pub fn walk(
        &mut self,
        view: &mut View,
        key: &Key,
        from: Side,
        visit: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Interrupt> {
        let len = self.len();
        let mut done = 0;
        while done < len {
            let index = if from == Side::Left { done } else { len - 1 - done };
            let Some(leaf) = self.leaf_at(view, key, index)? else { break };
            let elements = leaf.elements();
            let mut places = elements.iter().zip(leaf.before..);
            let flow = match from {
                Side::Left => places.try_for_each(|(element, place)| visit(place, element)),
                Side::Right => {
                    let mut places = elements.iter().rev().zip((leaf.before..leaf.before + leaf.count).rev());
                    places.try_for_each(|(element, place)| visit(place, element))
                }
            };
            if flow.is_break() {
                break;
            }
            done += leaf.count;
        }
        Ok(())
    }

    /// Gives the elements at the places in `span`, in order.
    pub fn visit(
        &mut self,
        view: &mut View,
        key: &Key,
        span: Range<u64>,
        visit: &mut dyn FnMut(Slice),
    ) -> Result<(), Interrupt> {
        let mut at = span.start;
        while at < span.end
            && let Some(leaf) = self.leaf_at(view, key, at)?
        {
            let skipped = (at - leaf.before) as usize;
            let wanted = (span.end.min(leaf.before + leaf.count) - at) as usize;
            let ranges = Ranges::new(&leaf.bytes).skip(leaf.skip as usize + skipped).take(wanted);
            ranges.for_each(|range| visit(leaf.bytes.slice(range.start, range.end)));
            at += wanted as u64;
        }
        Ok(())
    }

    /// Puts elements at an end, one after the other.
    pub fn push<'a>(
        &mut self,
        view: &mut View,
        key: &Key,
        side: Side,
        new: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), Interrupt> {
        let end = self.ends[index_of(side)];
        let old = if end.count > 0 { self.tree.leaf(view, key, end.id)? } else { Slice::copy_from(&[]) };
        // In the order in which they are put: what is put on the left stands the other way round.
        let elements = packed::elements(&old).skip(end.skip as usize).take(end.count as usize);
        let mut elements: Elements = elements.collect();
        if elements.len() as u64 != end.count {
            return Err(damaged());
        }
        if side == Side::Left {
            elements.reverse();
        }
        let mut bytes: usize = 1 + elements.iter().map(|element| packed_len(element)).sum::<usize>();
        for element in new {
            let more = packed_len(element);
            if !has_room(elements.len(), bytes, more) {
                self.put_end(side, &mut elements)?;
                self.hand_over(view, key, side)?;
                (elements, bytes) = (Elements::new(), 1);
            }
            elements.push(element);
            bytes += more;
        }
        self.put_end(side, &mut elements)
    }

    /// Writes the leaf of an end, whose elements stand in the order in which they were put.
    fn put_end(&mut self, side: Side, elements: &mut Elements) -> Result<(), Interrupt> {
        if side == Side::Left {
            elements.reverse();
        }
        self.write_end(index_of(side), elements)
    }

    fn write_end(&mut self, end: usize, elements: &[&[u8]]) -> Result<(), Interrupt> {
        let End { id, count, .. } = self.ends[end];
        self.ends[end] = match (elements.is_empty(), count) {
            (true, 0) => End::default(),
            (true, _) => {
                self.tree.drop_leaf(id);
                End::default()
            }
            (false, 0) => {
                let id = self.tree.new_leaf(&packed::pack(elements))?;
                End { id, skip: 0, count: elements.len() as u64 }
            }
            (false, _) => {
                self.tree.put_leaf(id, &packed::pack(elements));
                End { id, skip: 0, count: elements.len() as u64 }
            }
        };
        Ok(())
    }

    /// Hands the leaf of an end to the tree.
    fn hand_over(&mut self, view: &mut View, key: &Key, side: Side) -> Result<(), Interrupt> {
        let End { id, count, .. } = std::mem::take(&mut self.ends[index_of(side)]);
        match side {
            Side::Left => self.tree.push_first(view, key, id, count),
            Side::Right => self.tree.push_last(view, key, id, count),
        }
    }

    /// The index of the end that has the elements nearest to a side: its own, with a leaf of the tree if it has none; the other one's if
    /// there is nothing else. `None` if there is nothing.
    fn nearest_end(&mut self, view: &mut View, key: &Key, side: Side) -> Result<Option<usize>, Interrupt> {
        let index = index_of(side);
        if self.ends[index].count == 0 {
            let path = match side {
                Side::Left => self.tree.first(view, key)?,
                Side::Right => self.tree.last(view, key)?,
            };
            if let Some(path) = path {
                self.tree.remove(view, key, &path)?;
                if path.count == 0 {
                    return Err(damaged());
                }
                self.ends[index] = End { id: path.leaf, skip: 0, count: path.count };
            }
        }
        let with_elements = [index, 1 - index].into_iter().find(|&end| self.ends[end].count > 0);
        Ok(with_elements)
    }

    /// Takes `count` elements from an end; they come in the order in which they are taken, if they are `wanted`.
    pub fn pop(
        &mut self,
        view: &mut View,
        key: &Key,
        side: Side,
        count: u64,
        wanted: bool,
    ) -> Result<Vec<Slice>, Interrupt> {
        let (mut taken, mut left) = (Vec::new(), count);
        while left > 0
            && let Some(index) = self.nearest_end(view, key, side)?
        {
            let end = self.ends[index];
            let part = left.min(end.count);
            left -= part;
            let gone = if side == Side::Left { end.skip } else { end.skip + end.count - part };
            if wanted {
                let bytes = self.tree.leaf(view, key, end.id)?;
                let already = taken.len();
                let ranges = Ranges::new(&bytes).skip(gone as usize).take(part as usize);
                taken.extend(ranges.map(|range| bytes.slice(range.start, range.end)));
                if (taken.len() - already) as u64 != part {
                    return Err(damaged());
                }
                if side == Side::Right {
                    taken[already..].reverse();
                }
            }
            if part == end.count {
                self.write_end(index, &[])?;
                continue;
            }
            let skip = if side == Side::Left { end.skip + part } else { end.skip };
            self.ends[index] = End { skip, count: end.count - part, ..end };
        }
        Ok(taken)
    }

    /// Puts these elements in the place of those of a leaf.
    fn replace(
        &mut self,
        view: &mut View,
        key: &Key,
        leaf: &Leaf,
        elements: &[&[u8]],
    ) -> Result<(), Interrupt> {
        let chunks = chunks(elements);
        match &leaf.spot {
            Spot::End(0) => {
                self.write_end(0, chunks[0])?;
                for chunk in chunks[1..].iter().rev() {
                    let id = self.tree.new_leaf(&packed::pack(chunk))?;
                    self.tree.push_first(view, key, id, chunk.len() as u64)?;
                }
            }
            Spot::End(end) => {
                let (last, others) = chunks.split_last().ok_or_else(damaged)?;
                self.write_end(*end, last)?;
                for chunk in others {
                    let id = self.tree.new_leaf(&packed::pack(chunk))?;
                    self.tree.push_last(view, key, id, chunk.len() as u64)?;
                }
            }
            Spot::Tree(path) if elements.is_empty() => {
                self.tree.remove(view, key, path)?;
                self.tree.drop_leaf(leaf.id);
            }
            Spot::Tree(path) => {
                let mut path = path.clone();
                self.tree.put_leaf(leaf.id, &packed::pack(chunks[0]));
                self.tree.set_count(&mut path, chunks[0].len() as u64)?;
                for chunk in &chunks[1..] {
                    let id = self.tree.new_leaf(&packed::pack(chunk))?;
                    self.tree.insert_after(&path, id, chunk.len() as u64, &Separator::default())?;
                    let found = self.tree.find(view, key, path.before + path.count)?;
                    (path, _) = found.ok_or_else(damaged)?;
                }
            }
        }
        Ok(())
    }

    /// Puts `element` in the place of the one at `place`, which there is.
    pub fn set(&mut self, view: &mut View, key: &Key, place: u64, element: &[u8]) -> Result<(), Interrupt> {
        let leaf = self.leaf_at(view, key, place)?.ok_or_else(damaged)?;
        let mut elements = leaf.elements();
        elements[(place - leaf.before) as usize] = element;
        self.replace(view, key, &leaf, &elements)
    }

    /// Puts `element` at `place`, before the one that is there.
    pub fn insert(
        &mut self,
        view: &mut View,
        key: &Key,
        place: u64,
        element: &[u8],
    ) -> Result<(), Interrupt> {
        // Behind the last one is within the last leaf, too.
        let leaf = self.leaf_at(view, key, place.min(self.len() - 1))?.ok_or_else(damaged)?;
        let mut elements = leaf.elements();
        elements.insert((place - leaf.before) as usize, element);
        self.replace(view, key, &leaf, &elements)
    }

    /// Removes elements that are equal to `element`, up to `max`, looked for from an end. Returns how many.
    pub fn remove(
        &mut self,
        view: &mut View,
        key: &Key,
        (from, max): (Side, u64),
        element: &[u8],
    ) -> Result<u64, Interrupt> {
        // Elements from the end that are looked through already.
        let (mut removed, mut done) = (0, 0);
        while removed < max && done < self.len() {
            let index = if from == Side::Left { done } else { self.len() - 1 - done };
            let Some(leaf) = self.leaf_at(view, key, index)? else { break };
            let mut elements = leaf.elements();
            let found = super::remove_equal(&mut elements, (from, max - removed), element);
            if found > 0 {
                removed += found;
                self.replace(view, key, &leaf, &elements)?;
                if elements.len() < ELEMENTS_FEW {
                    self.join(view, key, leaf.before)?;
                }
            }
            // By place, as the leaf may now have others of the next one, too.
            done =
                if from == Side::Left { leaf.before + leaf.count - found } else { self.len() - leaf.before };
        }
        Ok(removed)
    }

    /// Puts the leaf of the tree that begins at `place` together with the one behind it, if both are of the tree and that fits.
    fn join(&mut self, view: &mut View, key: &Key, place: u64) -> Result<(), Interrupt> {
        let Some(leaf) = self.leaf_at(view, key, place)? else { return Ok(()) };
        let Some(next) = self.leaf_at(view, key, place + leaf.count)? else { return Ok(()) };
        let (Spot::Tree(_), Spot::Tree(path)) = (&leaf.spot, &next.spot) else { return Ok(()) };
        let fits = leaf.count + next.count <= ELEMENTS_MAX as u64
            && leaf.bytes.len() + next.bytes.len() <= ROW_BYTES_MAX
            && leaf.before == place;
        if !fits {
            return Ok(());
        }
        self.tree.remove(view, key, path)?;
        self.tree.drop_leaf(next.id);
        let elements: Elements = packed::elements(&leaf.bytes).chain(packed::elements(&next.bytes)).collect();
        let leaf = self.leaf_at(view, key, place)?.ok_or_else(damaged)?;
        self.replace(view, key, &leaf, &elements)
    }
}
