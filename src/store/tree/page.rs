//! The pages of an LMDB file, as bytes: enough of the format to find a page's children, so that each can be checked against its
//! checksum before LMDB follows it, and to number them anew in a copy.
//!
//! ```text
//! page     number (8) · - (2) · flags (2) · lower (2) · upper (2) · then, on branches and leaves, (lower - 16) / 2 offsets of nodes
//!          on the first of a run of overflow pages, the run's length (4) stands in the place of lower and upper
//! node     low (2) · high (2) · flags (2) · key length (2) · key · data
//!          branch: low, high and flags are the child's number; leaf: low and high are the data's length
//! meta     on pages 0 and 1, behind 16 bytes: magic (4) · version (4) · - (16) · tree of free pages (48) · main tree (48)
//!          · last page (8) · transaction (8)
//! tree     - (4) · flags (2) · depth (2) · counts (32) · root page (8)
//! ```
//! Numbers are in the byte order of the machine that wrote them: little-endian here. Source: LMDB 0.9's description of its format
//! in mdb.c.
//!
//! Invariant: no byte of a page can make this code panic or read outside of it; what cannot be is `None`.

use std::cmp::Ordering;

/// Bytes in front of a page's contents.
pub const HEADER: usize = 16;
/// Bytes in front of a node's key.
const NODE_HEADER: usize = 8;
const FLAG_BRANCH: u16 = 0x01;
const FLAG_LEAF: u16 = 0x02;
const FLAG_OVERFLOW: u16 = 0x04;
const FLAG_META: u16 = 0x08;
/// The node's data is a run of overflow pages.
const NODE_OVERFLOW: u16 = 0x01;
/// The node's data is the record of a named tree.
const NODE_TREE: u16 = 0x02;
const MAGIC: u32 = 0xBEEF_C0DE;
const TREE_BYTES: usize = 48;
const NO_PAGE: u64 = u64::MAX;

/// The smallest page, and what is written to disk at a time.
pub const PAGE_BYTES: usize = 4096;

/// A meta page, as far as it is used: header and record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meta([u8; Meta::BYTES]);

impl Meta {
    /// Bytes from the head of its page on.
    pub const BYTES: usize = HEADER + 136;

    /// The meta page at the head of `page`, if it is one.
    pub fn of(page: &[u8]) -> Option<Meta> {
        let meta = Meta(*page.first_chunk()?);
        let is_meta = u16_at(page, 10)? & FLAG_META != 0 && u32_at(page, HEADER)? == MAGIC;
        is_meta.then_some(meta)
    }

    /// The bytes, for the record of them.
    pub fn bytes(&self) -> &[u8; Meta::BYTES] {
        &self.0
    }

    /// The transaction that wrote it.
    pub fn transaction(&self) -> u64 {
        self.u64(Meta::BYTES - 8)
    }

    /// Bytes of a page of this file.
    pub fn page_bytes(&self) -> usize {
        u32_at(&self.0, HEADER + 24).map_or(0, |bytes| bytes as usize)
    }

    /// Root of the tree of free pages, if there are any.
    pub fn free_root(&self) -> Option<u64> {
        root_of(&self.0[META_FREE..])
    }

    /// Root of the main tree, whose rows are the named trees.
    pub fn main_root(&self) -> Option<u64> {
        root_of(&self.0[META_MAIN..])
    }

    /// The same state, as if an earlier transaction had written it: what stands in the other slot of a repaired file.
    pub fn as_earlier(&self) -> Meta {
        let mut earlier = *self;
        earlier.0[Meta::BYTES - 8..].copy_from_slice(&self.transaction().saturating_sub(1).to_le_bytes());
        earlier
    }

    /// The last page of the file that was used.
    pub fn last_page(&self) -> u64 {
        self.u64(META_LAST)
    }

    /// What stands in slot `slot` of a copy: without free pages, the main tree's root and the last page being these. Slot 0 is of
    /// before the first transaction, slot 1 of the first.
    pub fn of_copy(&self, slot: u64, main_root: Option<u64>) -> Meta {
        let mut meta = *self;
        for (tree, root) in [(META_FREE, None), (META_MAIN, main_root)] {
            if root.is_none() {
                meta.0[tree + 6..tree + TREE_BYTES].fill(0); // depth and counts
            }
            meta.put(tree + TREE_BYTES - 8, root.unwrap_or(NO_PAGE));
        }
        meta.put(0, slot);
        meta.put(META_LAST, main_root.unwrap_or(1));
        meta.put(META_LAST + 8, slot);
        meta
    }

    fn put(&mut self, at: usize, number: u64) {
        self.0[at..at + 8].copy_from_slice(&number.to_le_bytes());
    }

    fn u64(&self, at: usize) -> u64 {
        u64_at(&self.0, at).unwrap_or(0)
    }
}

/// Where the trees and the last page stand in a meta page.
const META_FREE: usize = HEADER + 24;
const META_MAIN: usize = META_FREE + TREE_BYTES;
const META_LAST: usize = META_MAIN + TREE_BYTES;
const _: () = assert!(META_LAST + 16 == Meta::BYTES);

fn root_of(tree: &[u8]) -> Option<u64> {
    u64_at(tree, TREE_BYTES - 8).filter(|root| *root != NO_PAGE)
}

/// What a page is.
pub enum Page<'a> {
    /// Its nodes lead to pages further down.
    Branch(Nodes<'a>),
    /// Its nodes are rows.
    Leaf(Nodes<'a>),
    /// The first of so many pages that hold one long value.
    Overflow(u32),
}

/// Reads the header of the page with this number.
pub fn read(page: &[u8], number: u64) -> Option<Page<'_>> {
    if u64_at(page, 0)? != number {
        return None;
    }
    let flags = u16_at(page, 10)?;
    if flags & FLAG_OVERFLOW != 0 {
        return Some(Page::Overflow(u32_at(page, 12)?));
    }
    let count = usize::from(u16_at(page, 12)?).checked_sub(HEADER)? / 2;
    let nodes = Nodes { page, count };
    if flags & FLAG_BRANCH != 0 {
        Some(Page::Branch(nodes))
    } else {
        (flags & FLAG_LEAF != 0).then_some(Page::Leaf(nodes))
    }
}

/// The nodes of a branch or leaf, in order.
#[derive(Clone, Copy)]
pub struct Nodes<'a> {
    page: &'a [u8],
    count: usize,
}

/// The data of a leaf's node.
pub enum Data<'a> {
    /// It stands in the node.
    Inline(&'a [u8]),
    /// It stands on a run of overflow pages, behind the header of the first.
    Overflow {
        /// The first of them.
        page: u64,
        /// Its length.
        len: usize,
    },
    /// A named tree with this root, if it is not empty.
    Tree(Option<u64>),
}

impl<'a> Nodes<'a> {
    /// How many.
    pub fn len(&self) -> usize {
        self.count
    }

    /// A node's key. On a branch, that of the first node does not count.
    pub fn key(&self, index: usize) -> Option<&'a [u8]> {
        let node = self.node(index)?;
        node.get(NODE_HEADER..NODE_HEADER + usize::from(u16_at(node, 6)?))
    }

    /// The page a branch's node leads to.
    pub fn child(&self, index: usize) -> Option<u64> {
        let node = self.node(index)?;
        let parts = [u16_at(node, 0)?, u16_at(node, 2)?, u16_at(node, 4)?];
        Some(parts.iter().rev().fold(0, |number, part| number << 16 | u64::from(*part)))
    }

    /// The data of a leaf's node.
    pub fn data(&self, index: usize) -> Option<Data<'a>> {
        let node = self.node(index)?;
        let flags = u16_at(node, 4)?;
        let data = node.get(NODE_HEADER + usize::from(u16_at(node, 6)?)..)?;
        let len = usize::from(u16_at(node, 0)?) | usize::from(u16_at(node, 2)?) << 16;
        if flags & NODE_OVERFLOW != 0 {
            return Some(Data::Overflow { page: u64_at(data, 0)?, len });
        }
        if flags & NODE_TREE != 0 {
            return Some(Data::Tree(root_of(data.get(..TREE_BYTES)?)));
        }
        data.get(..len).map(Data::Inline)
    }

    /// The node of a branch below which `key` is, or would be.
    pub fn towards(&self, key: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (1, self.count);
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.key(middle)?.cmp(key) {
                Ordering::Greater => high = middle,
                _ => low = middle + 1,
            }
        }
        Some(low - 1)
    }

    fn node(&self, index: usize) -> Option<&'a [u8]> {
        if index >= self.count {
            return None;
        }
        self.page.get(usize::from(u16_at(self.page, HEADER + index * 2)?)..)
    }
}

/// Gives a page, or the run of pages that begins with it, another number.
pub fn set_number(page: &mut [u8], number: u64) -> Option<()> {
    set_u64(page, 0, number)
}

/// Changes the page a branch's node leads to.
pub fn set_child(page: &mut [u8], index: usize, number: u64) -> Option<()> {
    let at = node_at(page, index)?;
    page.get_mut(at..at + 6)?.copy_from_slice(&number.to_le_bytes()[..6]);
    Some(())
}

/// Changes the number of the page that the data of a leaf's node begins at.
pub fn set_overflow(page: &mut [u8], index: usize, number: u64) -> Option<()> {
    set_u64(page, data_at(page, index)?, number)
}

/// Changes the root of the named tree in a leaf's node.
pub fn set_root(page: &mut [u8], index: usize, number: u64) -> Option<()> {
    set_u64(page, data_at(page, index)? + TREE_BYTES - 8, number)
}

/// Clears what a branch or leaf has between its offsets and its nodes: what was deleted there.
pub fn clear_hole(page: &mut [u8]) -> Option<()> {
    let (lower, upper) = (usize::from(u16_at(page, 12)?), usize::from(u16_at(page, 14)?));
    page.get_mut(lower..upper)?.fill(0);
    Some(())
}

fn set_u64(page: &mut [u8], at: usize, number: u64) -> Option<()> {
    page.get_mut(at..at + 8)?.copy_from_slice(&number.to_le_bytes());
    Some(())
}

fn node_at(page: &[u8], index: usize) -> Option<usize> {
    u16_at(page, HEADER + index * 2).map(usize::from)
}

fn data_at(page: &[u8], index: usize) -> Option<usize> {
    let node = node_at(page, index)?;
    Some(node + NODE_HEADER + usize::from(u16_at(page, node + 6)?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bytes_make_it_panic() {
        let mut seed = 1_u64;
        let mut page = vec![0_u8; PAGE_BYTES];
        for round in 0..2000 {
            for byte in &mut page[..64] {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = (seed >> 56) as u8;
            }
            page[..8].copy_from_slice(&7_u64.to_le_bytes());
            page[10..12].copy_from_slice(&[1 << (round % 3), 0]);
            let _ = Meta::of(&page);
            if let Some(Page::Branch(nodes) | Page::Leaf(nodes)) = read(&page, 7) {
                let _ = nodes.towards(b"key");
                for index in 0..nodes.len() {
                    let _ = (nodes.key(index), nodes.child(index), nodes.data(index));
                }
            }
        }
    }
}
