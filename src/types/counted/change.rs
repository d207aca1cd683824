//! Leaves that come and go, and their counts.

use super::node::{CHILDREN_MAX, Child, HEIGHT_MAX, Node, Structure};
use super::{Counted, LeafId, Path, Separator, Step, damaged};
use crate::store::{Interrupt, Key, View};

/// A node with fewer children is put together with a neighbour, if both are not more than [`MERGED_MAX`].
const THIN: usize = CHILDREN_MAX / 4;
const MERGED_MAX: usize = CHILDREN_MAX * 3 / 4;

impl Counted {
    /// Notes how many elements the leaf at `path` has now.
    pub fn set_count(&mut self, path: &mut Path, count: u64) -> Result<(), Interrupt> {
        self.count_up(&path.steps, count, path.count)?;
        path.count = count;
        Ok(())
    }

    /// Adds to the counts along a way, and takes off.
    fn count_up(&mut self, steps: &[Step], more: u64, less: u64) -> Result<(), Interrupt> {
        for step in steps {
            let node = self.node(step.node)?;
            let count = node.counts.get_mut(step.at).ok_or_else(damaged)?;
            *count = count.checked_add(more).and_then(|sum| sum.checked_sub(less)).ok_or_else(damaged)?;
            node.counts_changed |= more != less;
        }
        Ok(())
    }

    /// Puts a leaf with `count` elements before all others. Not for ordered trees, unless they are empty.
    pub fn push_first(
        &mut self,
        view: &mut View,
        key: &Key,
        id: LeafId,
        count: u64,
    ) -> Result<(), Interrupt> {
        match self.first(view, key)? {
            Some(path) => self.insert(&path, 0, id, count, &Separator::default()),
            None => self.plant(id, count),
        }
    }

    /// Puts a leaf with `count` elements behind all others. Not for ordered trees, unless they are empty.
    pub fn push_last(&mut self, view: &mut View, key: &Key, id: LeafId, count: u64) -> Result<(), Interrupt> {
        match self.last(view, key)? {
            Some(path) => self.insert_after(&path, id, count, &Separator::default()),
            None => self.plant(id, count),
        }
    }

    /// Puts a leaf with `count` elements behind the one at `path`. In an ordered tree `separator` lies between the two.
    pub fn insert_after(
        &mut self,
        path: &Path,
        id: LeafId,
        count: u64,
        separator: &Separator,
    ) -> Result<(), Interrupt> {
        self.insert(path, 1, id, count, separator)
    }

    /// Puts a leaf with `count` elements before the one at `path`. Not for ordered trees.
    pub fn insert_before(&mut self, path: &Path, id: LeafId, count: u64) -> Result<(), Interrupt> {
        self.insert(path, 0, id, count, &Separator::default())
    }

    /// The first leaf of an empty tree.
    fn plant(&mut self, id: LeafId, count: u64) -> Result<(), Interrupt> {
        let separator = Separator::default();
        self.new_root(&[(Child::new(id, &separator), count)])
    }

    fn new_root(&mut self, children: &[(Child, u64)]) -> Result<(), Interrupt> {
        if self.head.height == HEIGHT_MAX {
            return Err(damaged());
        }
        let root = self.new_id()?;
        let structure = Structure::of(children.iter().map(|(child, _)| *child));
        let counts = children.iter().map(|(_, count)| *count).collect();
        self.nodes.insert(root, Node::new(structure, counts));
        if let Some(before) = self.nodes.get_mut(&self.head.root) {
            // Its counts stood in the head and get a row now.
            before.counts_changed = true;
        }
        self.head.root = root;
        self.head.height += 1;
        Ok(())
    }

    fn insert(
        &mut self,
        path: &Path,
        behind: usize,
        id: LeafId,
        count: u64,
        separator: &Separator,
    ) -> Result<(), Interrupt> {
        let Some((lowest, above)) = path.steps.split_last() else { return Err(damaged()) };
        self.count_up(above, count, 0)?;
        let (mut node_id, mut at) = (lowest.node, lowest.at + behind);
        let (mut id, mut count, mut separator) = (id, count, separator.clone());
        let mut above = above.iter().rev();
        loop {
            let node = self.node(node_id)?;
            if at > node.structure.len() || node.structure.len() > CHILDREN_MAX {
                return Err(damaged());
            }
            node.insert(at, Child::new(id, &separator), count);
            let len = node.structure.len();
            if len <= CHILDREN_MAX {
                return Ok(());
            }
            // What grows at an end leaves full nodes behind.
            let split_at = match at {
                0 => 1,
                at if at + 1 == len => at,
                _ => len / 2,
            };
            let right = node.split_off(split_at);
            let left_count = node.total().ok_or_else(damaged)?;
            separator = right.structure.child(0).separator();
            count = right.total().ok_or_else(damaged)?;
            id = self.new_id()?;
            self.nodes.insert(id, right);
            let Some(parent) = above.next() else {
                let none = Separator::default();
                let left = (Child::new(node_id, &none), left_count);
                return self.new_root(&[left, (Child::new(id, &separator), count)]);
            };
            let counts = &mut self.node(parent.node)?.counts;
            *counts.get_mut(parent.at).ok_or_else(damaged)? = left_count;
            (node_id, at) = (parent.node, parent.at + 1);
        }
    }

    /// Takes the leaf at `path` out of the tree. Its row stays, until [`Counted::drop_leaf`].
    pub fn remove(&mut self, view: &mut View, key: &Key, path: &Path) -> Result<(), Interrupt> {
        let Some((_, above)) = path.steps.split_last() else { return Err(damaged()) };
        self.count_up(above, 0, path.count)?;
        for level in (0..path.steps.len()).rev() {
            let Step { node: id, at } = path.steps[level];
            let node = self.node(id)?;
            if at >= node.structure.len() {
                return Err(damaged());
            }
            node.remove(at);
            match node.structure.len() {
                // An empty node goes, which is a child less for the one above.
                0 => self.drop_node(id),
                len if len < THIN && level > 0 => {
                    let parent = path.steps[level - 1];
                    self.merge(view, key, parent)?;
                    self.thin_out(view, key, &path.steps[..level - 1])?;
                    break;
                }
                _ => break,
            }
        }
        self.lower(view, key)
    }

    /// Nodes above one that was merged, lowest last, may have become thin in their turn.
    fn thin_out(&mut self, view: &mut View, key: &Key, above: &[Step]) -> Result<(), Interrupt> {
        for parent in above.iter().rev() {
            let child = self.node(parent.node)?.structure.id(parent.at).ok_or_else(damaged)?;
            if self.node(child)?.structure.len() >= THIN || !self.merge(view, key, *parent)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Puts the node at this place in its parent together with a neighbour, if they are few. Whether it did.
    fn merge(&mut self, view: &mut View, key: &Key, parent: Step) -> Result<bool, Interrupt> {
        let node = self.node(parent.node)?;
        let left = if parent.at + 1 < node.structure.len() { parent.at } else { parent.at.saturating_sub(1) };
        let right = left + 1;
        let counts = node.counts.get(left).copied().zip(node.counts.get(right).copied());
        let Some((left_count, right_count)) = counts else { return Ok(false) };
        let left_id = node.structure.child(left).id;
        let right_child = node.structure.child(right);
        let (right_id, separator) = (right_child.id, right_child.separator());
        let left_len = self.load(view, key, left_id, left_count)?.structure.len();
        let right_len = self.load(view, key, right_id, right_count)?.structure.len();
        if left_len + right_len > MERGED_MAX || left_id == right_id {
            return Ok(false);
        }
        let taken = self.nodes.remove(&right_id).ok_or_else(damaged)?;
        self.dropped.push(right_id);
        self.node(left_id)?.append(&taken, &separator);
        let node = self.node(parent.node)?;
        if right >= node.structure.len() {
            return Err(damaged());
        }
        node.remove(right);
        node.counts[left] = left_count.checked_add(right_count).ok_or_else(damaged)?;
        Ok(true)
    }

    fn drop_node(&mut self, id: LeafId) {
        self.nodes.remove(&id);
        self.dropped.push(id);
        if id == self.head.root {
            self.head.empty();
        }
    }

    /// While the root has one child that is a node, that one is the root.
    fn lower(&mut self, view: &mut View, key: &Key) -> Result<(), Interrupt> {
        while self.head.height > 1 {
            let root = self.head.root;
            let node = self.node(root)?;
            if node.structure.len() != 1 {
                break;
            }
            let (child, count) = (node.structure.child(0).id, node.counts[0]);
            let node = self.load(view, key, child, count)?;
            // Its counts stand in the head now, and not in a row.
            node.counts_changed = true;
            self.nodes.remove(&root);
            self.dropped.push(root);
            self.head.root = child;
            self.head.height -= 1;
        }
        Ok(())
    }

    /// The leaf at `path` and a neighbour under the same node, in order: two whose elements may be put together into the first.
    pub fn pair(&mut self, path: &Path) -> Result<Option<(Path, Path)>, Interrupt> {
        let Some(&Step { node, at }) = path.steps.last() else { return Ok(None) };
        let node = self.node(node)?;
        let other = if at + 1 < node.structure.len() { at + 1 } else { at.wrapping_sub(1) };
        let Some((leaf, count)) = node.structure.id(other).zip(node.counts.get(other).copied()) else {
            return Ok(None);
        };
        let mut second = path.clone();
        (second.leaf, second.count) = (leaf, count);
        second.steps.last_mut().expect("a path has steps").at = other;
        second.before = if other > at {
            path.before.saturating_add(path.count)
        } else {
            path.before.saturating_sub(count)
        };
        let mut both = [path.clone(), second];
        both.sort_by_key(|path| path.steps.last().map(|step| step.at));
        let [first, second] = both;
        Ok(Some((first, second)))
    }
}
