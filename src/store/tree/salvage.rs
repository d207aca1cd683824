//! Reads what is whole of a damaged tree, past LMDB: page by page, leaving out those that do not match their checksums.

use super::batch::{STATE_KEY, State};
use super::checksums::Checksums;
use super::page::{self, Data, HEADER, Page};
use super::{META, TreeError, TreeName, lengthen};
use crate::store::order::SHORTENED;
use std::path::Path;

/// A tree that is not opened by LMDB any more.
pub struct Salvage {
    checksums: Checksums,
}

impl Salvage {
    /// Opens the tree in `folder`. If its checksums are of no use, its pages are taken as they are; `is_checked` then says so.
    pub fn open(folder: &Path) -> Result<Salvage, TreeError> {
        Ok(Salvage { checksums: Checksums::open_damaged(folder)? })
    }

    /// Whether its pages can be checked.
    pub fn is_checked(&self) -> bool {
        !self.checksums.trusts()
    }

    /// What the tree knows of itself, if that is whole.
    pub fn state(&mut self) -> Option<State> {
        let mut state = None;
        self.visit(META, &mut |key, value| {
            if key == STATE_KEY {
                state = State::decode(value);
            }
        });
        state
    }

    /// Visits the rows on whole pages: whole key and value. Returns how many pages are damaged; what was below them is not even
    /// counted.
    pub fn rows(&mut self, tree: TreeName, visit: &mut dyn FnMut(&[u8], &[u8])) -> u64 {
        self.visit(tree.name(), &mut |key, value| {
            if key.len() != SHORTENED {
                visit(key, value);
            } else if let Ok((key, value)) = lengthen(value) {
                visit(key, value);
            }
        })
    }

    fn visit(&mut self, name: &str, visit: &mut dyn FnMut(&[u8], &[u8])) -> u64 {
        let Ok(root) = self.checksums.root(name.as_bytes()) else { return 1 };
        let (mut damaged, mut waiting) = (0, Vec::from_iter(root));
        while let Some(number) = waiting.pop() {
            let Ok(bytes) = self.checksums.check(number) else {
                damaged += 1;
                continue;
            };
            match page::read(&bytes, number) {
                // The last first: `waiting` gives them back in the order of their keys.
                Some(Page::Branch(nodes)) => {
                    waiting.extend((0..nodes.len()).rev().filter_map(|i| nodes.child(i)));
                }
                Some(Page::Leaf(nodes)) => {
                    for index in 0..nodes.len() {
                        match (nodes.key(index), nodes.data(index)) {
                            (Some(key), Some(Data::Inline(value))) => visit(key, value),
                            (Some(key), Some(Data::Overflow { page, len })) => {
                                match self.checksums.check(page) {
                                    Ok(run) if run.len() >= HEADER + len => {
                                        visit(key, &run[HEADER..HEADER + len]);
                                    }
                                    _ => damaged += 1,
                                }
                            }
                            _ => damaged += 1,
                        }
                    }
                }
                _ => damaged += 1,
            }
        }
        damaged
    }
}
