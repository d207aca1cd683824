//! The rows of an inner node, and the head that stands in the key row.
//!
//! ```text
//! structure: children (1) · id of each (6) · end of each separator (2; bit 15: the separator was cut) · separators
//! counts:    elements below each child (varint)
//! head:      height (1) · id that comes next (6) · [id of the root (6) · children of the root (1) · counts (varint each)]
//! ```
//!
//! Numbers are big-endian. A head of height 0 is a tree without leaves and ends behind the id that comes next.

use super::LeafId;
use crate::base::blob::Slice;
use smallvec::SmallVec;

/// Children of a node. Unit tests have small nodes, so that few leaves make a deep tree.
pub(super) const CHILDREN_MAX: usize = if cfg!(test) { 8 } else { 64 };
/// Levels of nodes above the leaves: more than 2^48 leaves need.
pub(super) const HEIGHT_MAX: usize = 16;
/// Bytes of a separator; a longer one is cut.
const SEPARATOR_MAX: usize = 48;

const ID_LEN: usize = 6;
const IDS_END: u64 = 1 << (8 * ID_LEN);
const CUT: u16 = 1 << 15;

const _: () = assert!((CHILDREN_MAX + 1) * SEPARATOR_MAX < CUT as usize && CHILDREN_MAX < 255);

/// What tells the elements of a leaf from those before it: bytes that are greater than the last element of the leaf before,
/// and not greater than its own first one. The first few that do are enough.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Separator {
    bytes: SmallVec<[u8; 64]>,
    /// The two share too many bytes: what begins with these may be on either side.
    is_cut: bool,
}

impl Separator {
    /// Of two neighbours, of which the first is less.
    pub fn between(last_before: &[u8], first: &[u8]) -> Separator {
        let shared = last_before.iter().zip(first).take_while(|(a, b)| a == b).count();
        let len = (shared + 1).min(first.len());
        let is_cut = len > SEPARATOR_MAX;
        Separator { bytes: SmallVec::from_slice(&first[..len.min(SEPARATOR_MAX)]), is_cut }
    }
}

/// A child as a node's structure names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Child<'a> {
    pub id: LeafId,
    pub separator: &'a [u8],
    pub is_cut: bool,
}

impl<'a> Child<'a> {
    pub fn new(id: LeafId, separator: &'a Separator) -> Child<'a> {
        Child { id, separator: &separator.bytes, is_cut: separator.is_cut }
    }

    pub fn separator(&self) -> Separator {
        Separator { bytes: SmallVec::from_slice(self.separator), is_cut: self.is_cut }
    }
}

/// Which children a node has. When it is made only its length is checked, since every descent makes some: a separator that lies wrong in a
/// damaged row is an empty one.
#[derive(Clone)]
pub(super) struct Structure(Slice);

impl Structure {
    pub fn of<'a>(children: impl Iterator<Item = Child<'a>> + Clone) -> Structure {
        let mut bytes: SmallVec<[u8; 1024]> = SmallVec::new();
        bytes.push(children.clone().count() as u8);
        children.clone().for_each(|child| put_id(&mut bytes, child.id));
        let mut end = 0;
        for child in children.clone() {
            end += child.separator.len() as u16;
            bytes.extend_from_slice(&(end | if child.is_cut { CUT } else { 0 }).to_be_bytes());
        }
        children.for_each(|child| bytes.extend_from_slice(child.separator));
        Structure(Slice::copy_from(&bytes))
    }

    /// Of a row; `None` if it is none.
    pub fn check(row: Slice) -> Option<Structure> {
        let len = *row.first()? as usize;
        let separators = row.len().checked_sub(Structure::separators_at(len))?;
        let structure = Structure(row);
        ((1..=CHILDREN_MAX).contains(&len) && structure.end(len - 1) == separators).then_some(structure)
    }

    fn separators_at(len: usize) -> usize {
        1 + len * (ID_LEN + 2)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn len(&self) -> usize {
        self.0[0] as usize
    }

    pub fn id(&self, index: usize) -> Option<LeafId> {
        if index >= self.len() {
            return None;
        }
        get_id(&self.0[1 + index * ID_LEN..])
    }

    fn end_and_cut(&self, index: usize) -> u16 {
        let at = 1 + self.len() * ID_LEN + index * 2;
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }

    fn end(&self, index: usize) -> usize {
        (self.end_and_cut(index) & !CUT) as usize
    }

    /// The child at `index`, which is below `len`.
    pub fn child(&self, index: usize) -> Child<'_> {
        let at = Structure::separators_at(self.len());
        let start = if index == 0 { 0 } else { self.end(index - 1) };
        let end = self.end_and_cut(index);
        Child {
            id: self.id(index).expect("an index below the length"),
            separator: self.0.get(at + start..at + (end & !CUT) as usize).unwrap_or_default(),
            is_cut: end & CUT != 0,
        }
    }

    pub fn children(&self) -> impl Iterator<Item = Child<'_>> + Clone {
        (0..self.len()).map(|index| self.child(index))
    }
}

fn put_id(out: &mut SmallVec<[u8; 1024]>, id: LeafId) {
    out.extend_from_slice(&id.to_be_bytes()[8 - ID_LEN..]);
}

fn get_id(bytes: &[u8]) -> Option<LeafId> {
    let mut id = [0; 8];
    id[8 - ID_LEN..].copy_from_slice(bytes.get(..ID_LEN)?);
    Some(u64::from_be_bytes(id))
}

/// The key of a row of the tree, behind the uid.
pub(super) fn suffix(tag: u8, id: LeafId) -> [u8; 1 + ID_LEN] {
    let mut suffix = [0; 1 + ID_LEN];
    suffix[0] = tag;
    suffix[1..].copy_from_slice(&id.to_be_bytes()[8 - ID_LEN..]);
    suffix
}

/// The key row of a list or a sorted set has those of the root, so this is done with every change.
fn put_varints(out: &mut SmallVec<[u8; 1024]>, values: &[u64]) {
    const LEN_MAX: usize = 10;
    for some in values.chunks(8) {
        let (mut bytes, mut len) = ([0; 8 * LEN_MAX], 0);
        for &value in some {
            let mut value = value;
            while value >= 128 {
                bytes[len] = value as u8 | 128;
                len += 1;
                value >>= 7;
            }
            bytes[len] = value as u8;
            len += 1;
        }
        out.extend_from_slice(&bytes[..len]);
    }
}

#[inline]
fn get_varint(bytes: &mut &[u8]) -> Option<u64> {
    // Most are counts of some hundreds or thousands.
    if let [low, high @ 0..128, rest @ ..] = *bytes
        && *low >= 128
    {
        *bytes = rest;
        return Some(u64::from(low & 127) | u64::from(*high) << 7);
    }
    let (mut value, mut shift) = (0, 0);
    while let Some((&byte, rest)) = bytes.split_first() {
        *bytes = rest;
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Some(value);
        }
        shift += 7;
        if shift > 56 {
            return None;
        }
    }
    None
}

/// A node while it is worked on.
pub(super) struct Node {
    pub structure: Structure,
    pub counts: Vec<u64>,
    pub structure_changed: bool,
    pub counts_changed: bool,
    /// Whether the counts have a row: those of the root stand in the head.
    pub counts_stored: bool,
}

impl Node {
    /// One that has no rows yet.
    pub fn new(structure: Structure, counts: Vec<u64>) -> Node {
        Node { structure, counts, structure_changed: true, counts_changed: true, counts_stored: false }
    }

    /// All elements below it; `None` if they cannot be so many.
    pub fn total(&self) -> Option<u64> {
        total(&self.counts)
    }

    /// Puts a child at `index`, which is at most the length.
    pub fn insert(&mut self, index: usize, child: Child, count: u64) {
        let mut children: Vec<Child> = self.structure.children().collect();
        children.insert(index, child);
        self.structure = Structure::of(children.into_iter());
        self.counts.insert(index, count);
        self.changed();
    }

    /// Takes out the child at `index`, which is below the length.
    pub fn remove(&mut self, index: usize) {
        let mut children: Vec<Child> = self.structure.children().collect();
        children.remove(index);
        self.structure = Structure::of(children.into_iter());
        self.counts.remove(index);
        self.changed();
    }

    /// Gives away the children from `index` on.
    pub fn split_off(&mut self, index: usize) -> Node {
        let right = Structure::of(self.structure.children().skip(index));
        self.structure = Structure::of(self.structure.children().take(index));
        self.changed();
        Node::new(right, self.counts.split_off(index))
    }

    /// Takes the children of the node that follows, whose separator in the parent is `separator`.
    pub fn append(&mut self, right: &Node, separator: &Separator) {
        let more = right.structure.children().enumerate().map(|(index, child)| {
            // The first child of a node takes all that is less than the second: only the parent knows where that begins.
            if index == 0 { Child::new(child.id, separator) } else { child }
        });
        self.structure = Structure::of(self.structure.children().chain(more));
        self.counts.extend_from_slice(&right.counts);
        self.changed();
    }

    fn changed(&mut self) {
        (self.structure_changed, self.counts_changed) = (true, true);
    }
}

fn total(counts: &[u64]) -> Option<u64> {
    counts.iter().try_fold(0, |sum: u64, &count| sum.checked_add(count))
}

pub(super) fn encode_counts(counts: &[u64]) -> SmallVec<[u8; 1024]> {
    let mut bytes = SmallVec::new();
    put_varints(&mut bytes, counts);
    bytes
}

/// The counts of `len` children, which add up to `sum`.
pub(super) fn decode_counts(mut row: &[u8], len: usize, sum: u64) -> Option<Vec<u64>> {
    if row.len() == len && row.is_ascii() {
        // Of leaves: a byte each.
        let counts: Vec<u64> = row.iter().map(|&count| u64::from(count)).collect();
        return (counts.iter().sum::<u64>() == sum).then_some(counts);
    }
    let mut counts = Vec::with_capacity(len);
    for _ in 0..len {
        counts.push(get_varint(&mut row)?);
    }
    (row.is_empty() && total(&counts) == Some(sum)).then_some(counts)
}

/// Where a tree begins.
///
/// ```text
/// height (1) · the next new id (6) · unless the tree is empty: id of the root (6) · all elements (varint)
///            · children of the root (1) · bytes of their counts (2, big-endian) · their counts (varints)
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub height: usize,
    pub next: LeafId,
    pub root: LeafId,
    /// All elements of the tree.
    pub total: u64,
    /// Children of the root.
    len: u8,
    /// Their counts as they stand in the key row: most commands at an end of a list do not need them.
    counts: SmallVec<[u8; 128]>,
}

impl Head {
    /// Appends the head. `root`: the root's counts, if they were read.
    pub fn encode(&self, root: Option<&[u64]>, out: &mut SmallVec<[u8; 1024]>) {
        out.push(self.height as u8);
        put_id(out, self.next);
        if self.height == 0 {
            return;
        }
        put_id(out, self.root);
        let (all, len) =
            root.map_or((self.total, self.len), |counts| (total(counts).unwrap_or(0), counts.len() as u8));
        put_varints(out, &[all]);
        out.push(len);
        let at = out.len();
        out.extend_from_slice(&[0; 2]);
        match root {
            Some(counts) => put_varints(out, counts),
            None => out.extend_from_slice(&self.counts),
        }
        let bytes = (out.len() - at - 2) as u16;
        out[at..at + 2].copy_from_slice(&bytes.to_be_bytes());
    }

    /// The counts of the root, which has so many children.
    pub fn root_counts(&self, len: usize) -> Option<Vec<u64>> {
        if len == usize::from(self.len) { decode_counts(&self.counts, len, self.total) } else { None }
    }

    /// The tree has no leaf any more.
    pub fn empty(&mut self) {
        *self = Head { next: self.next, ..Head::default() };
    }

    /// Reads a head, and where it ends; `None` if there is none.
    pub fn decode(payload: &[u8]) -> Option<(Head, usize)> {
        let (&height, rest) = payload.split_first()?;
        let mut head = Head { height: height as usize, next: get_id(rest)?, ..Head::default() };
        let mut rest = &rest[ID_LEN..];
        if head.height > 0 {
            head.root = get_id(rest)?;
            rest = &rest[ID_LEN..];
            head.total = get_varint(&mut rest)?;
            let (&[len, high, low], counts) = rest.split_first_chunk()?;
            head.len = len;
            let (counts, behind) = counts.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
            head.counts.extend_from_slice(counts);
            rest = behind;
        }
        let is_sound = head.height <= HEIGHT_MAX && usize::from(head.len) <= CHILDREN_MAX;
        is_sound.then_some((head, payload.len() - rest.len()))
    }

    /// A number that no leaf and no node has had; `None` if there are no more.
    pub fn new_id(&mut self) -> Option<LeafId> {
        let id = self.next;
        self.next += 1;
        (self.next < IDS_END).then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_separator_lies_between_its_neighbours() {
        for (left, right) in [
            (&b"abc"[..], &b"abd"[..]),
            (b"a", b"ab"),
            (b"", b"x"),
            (b"abcd", b"b"),
            (&[b'x'; 47], &[b'x'; 48]),
        ] {
            let separator = Separator::between(left, right);
            assert!(!separator.is_cut && left < &separator.bytes[..] && &separator.bytes[..] <= right);
        }
        let (left, right) = ([[b'x'; 60], [b'1'; 60]].concat(), [[b'x'; 60], [b'2'; 60]].concat());
        let separator = Separator::between(&left, &right);
        assert!(
            separator.is_cut && left.starts_with(&separator.bytes) && right.starts_with(&separator.bytes)
        );
    }

    #[test]
    fn structures_and_heads_survive_the_round_trip_and_their_parts_do_not_pass() {
        let separators =
            [Separator::default(), Separator::between(b"ab", b"ac"), Separator::between(b"", b"z")];
        let children =
            separators.iter().zip([1, 7, (1 << 48) - 1]).map(|(separator, id)| Child::new(id, separator));
        let bytes = Structure::of(children).bytes().to_vec();
        let read = Structure::check(Slice::copy_from(&bytes)).expect("a structure");
        assert_eq!([0, 1, 2].map(|at| read.id(at)), [Some(1), Some(7), Some((1 << 48) - 1)]);
        assert_eq!(read.id(3), None);
        assert!(read.children().map(|child| child.separator()).eq(separators));
        for cut in 0..bytes.len() {
            assert!(Structure::check(Slice::copy_from(&bytes[..cut])).is_none());
        }
        let counts = [3, 1 << 50, 200];
        let mut bytes = SmallVec::new();
        Head { height: 2, next: 1 << 40, root: 5, ..Head::default() }.encode(Some(&counts), &mut bytes);
        let len = bytes.len();
        bytes.extend_from_slice(b"more");
        let (head, at) = Head::decode(&bytes).expect("a head");
        assert_eq!((at, head.total, head.root_counts(3)), (len, counts.iter().sum(), Some(counts.to_vec())));
        assert_eq!(head.root_counts(2), None);
        let mut again = SmallVec::new();
        head.encode(None, &mut again);
        assert_eq!(&again[..], &bytes[..len]);
        for cut in 0..len {
            assert_eq!(Head::decode(&bytes[..cut]), None);
        }
    }
}
