//! A counted tree over rows: a sequence of leaves, in which an element is found by its index, and the index of a leaf is known,
//! in O(log n) point reads.
//!
//! Leaves belong to the caller: rows of a few dozen elements in his own bytes. Nodes have up to 64 children and are two rows each:
//! which children there are, which changes only when a leaf comes or goes, and how many elements are below each, which changes
//! with every element. So a change journals few bytes. See the decision page on counted trees.
//!
//! ```text
//! suffix: tag (1: leaf, 2: structure, 3: counts) · id (6, big-endian); other tags are the caller's
//! value:  of a leaf what the caller wrote; the others are drawn in `node`
//! ```
//!
//! A [`Counted`] is one command's work on a tree: rows it changes are kept until [`Counted::flush`], so that each is written once
//! whatever a command does. Then [`Counted::encode_head`] gives the bytes that the caller puts into the key row.
//!
//! An *ordered* tree has separators, and a leaf for any sort key is found by [`Counted::seek`]. There a leaf is only put behind
//! the leaf that it was split from, and elements move only between leaves of one node ([`Counted::pair`]): a node's first
//! child takes all that the node's place in its parent lets in.
//!
//! Invariants:
//! - a node has 1 to 64 children, every leaf is equally deep, ids are never used again;
//! - `Items::bytes` is exact after a flush;
//! - rows that are damaged or missing give an error or an end, never a panic and never an endless loop: depth has a bound, the
//!   counts of a node add up to what its parent says, and a walk has no more steps than there were ids.
//!
//! Not here: what elements are, and any ordered walk of rows.

mod change;
mod node;

pub use node::Separator;

use crate::base::blob::Slice;
use crate::store::{Interrupt, Items, Key, Transaction, View, items_after};
use node::{Head, Node, Structure, decode_counts, encode_counts, suffix};
use smallvec::SmallVec;
use std::collections::HashMap;

/// Names a leaf (or a node) within its tree: below 2^48, never used again. Of 32 bits a busy queue would run out in weeks.
pub type LeafId = u64;

/// The tag of leaves' rows. Whoever has rows of his own in the collection takes tags above [`COUNTS`].
pub const LEAF: u8 = 1;
const STRUCTURE: u8 = 2;
/// The greatest tag of a tree's rows.
pub const COUNTS: u8 = 3;

/// A tree while a command works on it.
pub struct Counted {
    items: Items,
    head: Head,
    nodes: HashMap<LeafId, Node, foldhash::fast::FixedState>,
    /// Leaves that changed; `None`: its row goes.
    leaves: HashMap<LeafId, Option<Slice>, foldhash::fast::FixedState>,
    /// Nodes that went.
    dropped: Vec<LeafId>,
    /// Ids from here on have no rows.
    first_new: LeafId,
    /// Bytes of the items more than `items` says, changed by the caller.
    grown: i64,
}

/// The way from the root to a leaf. A leaf that comes or goes makes all other paths stale; a count that changes only what they say
/// of the elements before them.
#[derive(Clone, Debug)]
pub struct Path {
    steps: SmallVec<[Step; 5]>,
    /// The leaf.
    pub leaf: LeafId,
    /// Elements of all leaves before it.
    pub before: u64,
    /// Elements in it.
    pub count: u64,
    walked: u64,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    node: LeafId,
    at: usize,
}

/// Which child to take on the way down.
enum Way<'a> {
    First,
    Last,
    /// That with the element so many behind the node's first one.
    Index(u64),
    /// The last one that does not begin behind the sort key. The function tells whether a leaf begins behind it.
    Key(&'a [u8], &'a dyn Fn(&[u8]) -> bool),
}

fn damaged() -> Interrupt {
    Interrupt::Storage("a row of a counted tree is damaged or missing".to_owned())
}

impl Counted {
    /// An empty tree in a new collection at `key`.
    pub fn new(transaction: &mut Transaction, key: &Key) -> Counted {
        let items = Items { uid: transaction.new_uid(key), bytes: 0 };
        Counted::at(items, Head::default())
    }

    /// The tree with this head, which stands at the beginning of `payload`; and where it ends. `None` if there is none.
    pub fn open(items: Items, payload: &[u8]) -> Option<(Counted, usize)> {
        let (head, len) = Head::decode(payload)?;
        Some((Counted::at(items, head), len))
    }

    fn at(items: Items, head: Head) -> Counted {
        let first_new = head.next;
        let (nodes, leaves) = (HashMap::default(), HashMap::default());
        Counted { items, head, nodes, leaves, dropped: Vec::new(), first_new, grown: 0 }
    }

    /// Appends the head to what the caller puts into the key row, to be read by [`Counted::open`].
    pub fn encode_head(&self, out: &mut SmallVec<[u8; 1024]>) {
        let root = self.nodes.get(&self.head.root).filter(|_| self.head.height > 0);
        self.head.encode(root.map(|root| &root.counts[..]), out);
    }

    /// The collection, its bytes as they are after the last flush.
    pub fn items(&self) -> Items {
        self.items
    }

    /// The caller put or removed a row of his own in the collection.
    pub fn note_grown(&mut self, grown: i64) {
        self.grown += grown;
    }

    /// Elements in all leaves.
    pub fn len(&self) -> u64 {
        if self.head.height == 0 {
            return 0;
        }
        self.nodes.get(&self.head.root).map_or_else(|| self.head.total, |root| root.total().unwrap_or(0))
    }

    /// Whether there is no leaf.
    pub fn is_empty(&self) -> bool {
        self.head.height == 0
    }

    /// The bytes of a leaf.
    pub fn leaf(&self, view: &mut View, key: &Key, id: LeafId) -> Result<Slice, Interrupt> {
        match self.leaves.get(&id) {
            Some(changed) => changed.clone().ok_or_else(damaged),
            None => view.item(key, self.items.uid, &suffix(LEAF, id))?.ok_or_else(damaged),
        }
    }

    /// A row for a leaf, which is not yet in the tree.
    pub fn new_leaf(&mut self, bytes: &[u8]) -> Result<LeafId, Interrupt> {
        let id = self.new_id()?;
        self.put_leaf(id, bytes);
        Ok(id)
    }

    fn new_id(&mut self) -> Result<LeafId, Interrupt> {
        self.head.new_id().ok_or_else(|| Interrupt::Storage("a collection has had too many rows".to_owned()))
    }

    /// Changes the bytes of a leaf, whether it is in the tree or not.
    pub fn put_leaf(&mut self, id: LeafId, bytes: &[u8]) {
        self.leaves.insert(id, Some(Slice::copy_from(bytes)));
    }

    /// Removes the row of a leaf that is not in the tree, or no longer.
    pub fn drop_leaf(&mut self, id: LeafId) {
        self.leaves.insert(id, None);
    }

    /// The node `id`, below which there are so many elements.
    fn load(&mut self, view: &mut View, key: &Key, id: LeafId, total: u64) -> Result<&mut Node, Interrupt> {
        if !self.nodes.contains_key(&id) {
            let row = view.item(key, self.items.uid, &suffix(STRUCTURE, id))?;
            let structure = row.and_then(Structure::check).ok_or_else(damaged)?;
            let is_root = id == self.head.root;
            let counts = if is_root {
                self.head.root_counts(structure.len()).filter(|_| total == self.head.total)
            } else {
                let row = view.item(key, self.items.uid, &suffix(COUNTS, id))?;
                row.and_then(|row| decode_counts(&row, structure.len(), total))
            };
            let counts = counts.ok_or_else(damaged)?;
            let node = Node {
                structure,
                counts,
                structure_changed: false,
                counts_changed: false,
                counts_stored: !is_root,
            };
            self.nodes.insert(id, node);
        }
        self.node(id)
    }

    /// A node on a path, which has been loaded.
    fn node(&mut self, id: LeafId) -> Result<&mut Node, Interrupt> {
        self.nodes.get_mut(&id).ok_or_else(damaged)
    }

    /// The first leaf.
    pub fn first(&mut self, view: &mut View, key: &Key) -> Result<Option<Path>, Interrupt> {
        self.descend(view, key, Way::First)
    }

    /// The last leaf.
    pub fn last(&mut self, view: &mut View, key: &Key) -> Result<Option<Path>, Interrupt> {
        self.descend(view, key, Way::Last)
    }

    /// The leaf with the element at `index`, and the element's place in it.
    pub fn find(
        &mut self,
        view: &mut View,
        key: &Key,
        index: u64,
    ) -> Result<Option<(Path, usize)>, Interrupt> {
        if index >= self.len() {
            return Ok(None);
        }
        let path = self.descend(view, key, Way::Index(index))?;
        Ok(path.map(|path| {
            let within = index.saturating_sub(path.before) as usize;
            (path, within)
        }))
    }

    /// In an ordered tree the leaf that the element with this sort key is in or belongs into: the last one that does not begin
    /// behind it, or the first. So the first element that is not less than the key is in that leaf, or else the next one's first.
    ///
    /// `begins_behind` tells whether the first element of a leaf's bytes is greater than the key.
    pub fn seek(
        &mut self,
        view: &mut View,
        key: &Key,
        sort_key: &[u8],
        begins_behind: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Option<Path>, Interrupt> {
        self.descend(view, key, Way::Key(sort_key, begins_behind))
    }

    fn descend(&mut self, view: &mut View, key: &Key, way: Way) -> Result<Option<Path>, Interrupt> {
        if self.head.height == 0 {
            return Ok(None);
        }
        let count = self.len();
        let mut path = Path { steps: SmallVec::new(), leaf: self.head.root, before: 0, count, walked: 0 };
        self.extend(view, key, &mut path, &way)?;
        Ok(Some(path))
    }

    /// Goes on from what `path` has reached to a leaf.
    fn extend(&mut self, view: &mut View, key: &Key, path: &mut Path, way: &Way) -> Result<(), Interrupt> {
        while path.steps.len() < self.head.height {
            let (id, level) = (path.leaf, path.steps.len());
            self.load(view, key, id, path.count)?;
            let at = self.choose(view, key, (id, level), path.before, way)?;
            self.step(path, id, at)?;
        }
        Ok(())
    }

    /// Takes the child `at` of the node `id`, which `path` has reached.
    fn step(&mut self, path: &mut Path, id: LeafId, at: usize) -> Result<(), Interrupt> {
        let node = self.node(id)?;
        let (child, count) = node.structure.id(at).zip(node.counts.get(at).copied()).ok_or_else(damaged)?;
        path.before = node.counts[..at].iter().fold(path.before, |sum, &count| sum.saturating_add(count));
        path.steps.push(Step { node: id, at });
        (path.leaf, path.count) = (child, count);
        Ok(())
    }

    /// The place of the child to take in a node on a level, before whose first element there are so many.
    fn choose(
        &mut self,
        view: &mut View,
        key: &Key,
        (id, level): (LeafId, usize),
        before: u64,
        way: &Way,
    ) -> Result<usize, Interrupt> {
        let node = self.node(id)?;
        let last = node.structure.len().saturating_sub(1);
        match way {
            Way::First => Ok(0),
            Way::Last => Ok(last),
            Way::Index(index) => {
                let mut left = index.saturating_sub(before);
                let place = node.counts.iter().position(|&count| {
                    let is_here = left < count;
                    left = left.saturating_sub(count);
                    is_here
                });
                Ok(place.unwrap_or(last))
            }
            Way::Key(sort_key, begins_behind) => {
                let node = (id, node.structure.clone());
                self.choose_by_key(view, key, node, level, sort_key, begins_behind)
            }
        }
    }

    fn choose_by_key(
        &mut self,
        view: &mut View,
        key: &Key,
        (id, structure): (LeafId, Structure),
        level: usize,
        sort_key: &[u8],
        begins_behind: &dyn Fn(&[u8]) -> bool,
    ) -> Result<usize, Interrupt> {
        // The child wanted is at `low` or behind it, and before `high`.
        let (mut low, mut high) = (0, structure.len());
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            let child = structure.child(middle);
            let is_before = if child.is_cut && sort_key.starts_with(child.separator) {
                let count = *self.node(id)?.counts.get(middle).ok_or_else(damaged)?;
                let mut path = Path { steps: SmallVec::new(), leaf: child.id, before: 0, count, walked: 0 };
                path.steps.resize(level + 1, Step { node: id, at: middle });
                self.extend(view, key, &mut path, &Way::First)?;
                begins_behind(&self.leaf(view, key, path.leaf)?)
            } else {
                sort_key < child.separator
            };
            if is_before { high = middle } else { low = middle }
        }
        Ok(low)
    }

    /// Leads `path` to the next leaf. `false` if it is at the last one, and stays there.
    pub fn next(&mut self, view: &mut View, key: &Key, path: &mut Path) -> Result<bool, Interrupt> {
        self.walk(view, key, path, true)
    }

    /// Leads `path` to the leaf before. `false` if it is at the first one, and stays there.
    pub fn previous(&mut self, view: &mut View, key: &Key, path: &mut Path) -> Result<bool, Interrupt> {
        self.walk(view, key, path, false)
    }

    fn walk(
        &mut self,
        view: &mut View,
        key: &Key,
        path: &mut Path,
        forward: bool,
    ) -> Result<bool, Interrupt> {
        path.walked += 1;
        if path.walked > self.head.next {
            return Err(damaged());
        }
        let mut level = path.steps.len();
        loop {
            let Some(above) = level.checked_sub(1) else { return Ok(false) };
            level = above;
            let Step { node, at } = path.steps[level];
            let len = self.node(node)?.structure.len();
            let has_more = if forward { at + 1 < len } else { at > 0 };
            if has_more {
                break;
            }
        }
        let Step { node, at } = path.steps[level];
        let (before, count) = (path.before, path.count);
        path.steps.truncate(level);
        // `step` adds what is before the child in its node; what is before the node is found by taking it off first.
        path.before = 0;
        self.step(path, node, if forward { at + 1 } else { at - 1 })?;
        self.extend(view, key, path, if forward { &Way::First } else { &Way::Last })?;
        path.before = if forward { before.saturating_add(count) } else { before.saturating_sub(path.count) };
        Ok(true)
    }

    /// Writes what changed. The caller puts the key row then, with [`Counted::items`] and the head.
    pub fn flush(&mut self, transaction: &mut Transaction, key: &Key) -> Result<(), Interrupt> {
        let uid = self.items.uid;
        let mut grown = std::mem::take(&mut self.grown);
        // In the order of ids: the same commands journal the same bytes.
        let mut leaves: SmallVec<[_; 4]> = self.leaves.drain().collect();
        leaves.sort_unstable_by_key(|(id, _)| *id);
        for (id, bytes) in leaves {
            let suffix = suffix(LEAF, id);
            grown += match bytes {
                Some(bytes) if id >= self.first_new => transaction.put_new_item(key, uid, &suffix, &[&bytes]),
                Some(bytes) => transaction.put_item(key, uid, &suffix, &[&bytes])?.grown,
                None => transaction.remove_item(key, uid, &suffix)?.grown,
            };
        }
        let mut changed: SmallVec<[_; 8]> = self.nodes.iter_mut().collect();
        changed.retain(|(_, node)| node.structure_changed || node.counts_changed);
        changed.sort_unstable_by_key(|(id, _)| **id);
        for (&id, node) in changed {
            if std::mem::take(&mut node.structure_changed) {
                let bytes = node.structure.bytes();
                grown += transaction.put_item(key, uid, &suffix(STRUCTURE, id), &[bytes])?.grown;
            }
            let is_root = id == self.head.root;
            if std::mem::take(&mut node.counts_changed) && !is_root {
                let bytes = encode_counts(&node.counts);
                grown += transaction.put_item(key, uid, &suffix(COUNTS, id), &[&bytes])?.grown;
                node.counts_stored = true;
            } else if is_root && std::mem::take(&mut node.counts_stored) {
                grown += transaction.remove_item(key, uid, &suffix(COUNTS, id))?.grown;
            }
        }
        for id in self.dropped.drain(..) {
            grown += transaction.remove_item(key, uid, &suffix(STRUCTURE, id))?.grown;
            grown += transaction.remove_item(key, uid, &suffix(COUNTS, id))?.grown;
        }
        self.first_new = self.head.next;
        self.items = items_after(self.items, grown);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
