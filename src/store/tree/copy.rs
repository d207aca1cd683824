//! A copy of a tree for other nodes: the pages in use, one behind the other, in a file of LMDB's format.
//!
//! LMDB can make such a copy itself, out of its map. This one reads each page and checks it against its checksum, so that damage
//! is not sent to others and a disk that fails ends the copy and not the process; and it clears what was deleted within pages, so
//! that the file compresses well.
//!
//! Pages come after all that they lead to, the root of the main tree is the last: children have lower numbers than their parents,
//! and no page is without one. [`scan`] relies on that to check a file in one pass, front to back.
//!
//! Invariants:
//! - no page is in a copy that was not checked against its checksum when it was read;
//! - what passes a scan leads LMDB to pages of the file only, each once.

use super::checksums::{Checksums, DEPTH_MAX, Pages, WHAT_TO_DO, children, failed, sum_of};
use super::page::{self, Data, Meta, PAGE_BYTES, Page};
use super::{Environment, STEP_PAGES, TreeError};
use crate::base::{crash_point, gentle};
use heed::{RoTxn, WithoutTls};
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes written at a time.
const BUFFER_BYTES: usize = 256 << 10;
/// Bytes after which what was written is synced: more of it in the page cache would hold up the journal's next sync.
const SYNC_BYTES: u64 = 8 << 20;
/// Pages in front of the first of a tree.
const META_PAGES: u64 = 2;

/// A tree as of one commit. As long as it is held, none of its pages is written over, so the file grows with every commit.
pub struct Pinned {
    _reader: RoTxn<'static, WithoutTls>,
    pages: Pages,
    meta: Meta,
    sums: Vec<u32>,
    /// For messages.
    path: String,
}

/// What a copy is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Bytes of the file.
    pub bytes: u64,
    /// CRC-32C of the file.
    pub checksum: u32,
}

impl Environment {
    /// Holds the tree as it is now. Nothing may be committed meanwhile.
    pub fn pin(&self) -> Result<Pinned, TreeError> {
        let reader = self.env.clone().static_read_txn()?;
        let (pages, meta, sums) = self.checksums.lock().as_of_now()?;
        let path = self.path().join("data.mdb").display().to_string();
        Ok(Pinned { _reader: reader, pages, meta, sums, path })
    }

    /// Bytes of a copy, about.
    pub fn copy_bytes(&self) -> u64 {
        self.disk_bytes().saturating_sub(self.reusable_bytes()) + META_PAGES * PAGE_BYTES as u64
    }
}

#[cfg(test)]
impl Environment {
    /// What this is instead of.
    pub fn copy_by_lmdb(&self, to: &Path) {
        self.env.copy_to_path(to, heed::CompactionOption::Enabled).expect("copies");
    }
}

impl Pinned {
    /// Copies the tree into the new file `to`, whose name is not synced.
    pub fn copy(&self, to: &Path) -> Result<Copied, TreeError> {
        let file = File::create_new(to).map_err(|error| failed("create", to, &error))?;
        let mut copy =
            Copy { from: self, to, file, buffer: Vec::new(), next: META_PAGES, unsynced: 0, crc: 0 };
        // The meta pages name the last page: they are written when that is known.
        let meta_bytes = META_PAGES as usize * self.pages.page_bytes;
        copy.file.write_all(&vec![0; meta_bytes]).map_err(|error| copy.failed(&error))?;
        let root = self.meta.main_root().map(|root| copy.tree(root, 0)).transpose()?;
        copy.flush()?;
        crash_point::pass("snapshot-before-meta");
        copy.finish(root)
    }

    fn damage(&self, number: u64) -> TreeError {
        TreeError(format!("{} is damaged: page {number} is not what was written. {WHAT_TO_DO}", self.path))
    }

    /// A page or run of pages, checked.
    fn read(&self, number: u64) -> Result<Vec<u8>, TreeError> {
        let bytes = self.pages.get(number).ok_or_else(|| self.damage(number))?;
        if self.sums.get(number as usize) != Some(&sum_of(&bytes)) {
            return Err(self.damage(number));
        }
        Ok(bytes)
    }
}

/// A copy that is being made.
struct Copy<'a> {
    from: &'a Pinned,
    to: &'a Path,
    file: File,
    /// What is not written yet.
    buffer: Vec<u8>,
    /// The number the next page gets.
    next: u64,
    /// Bytes written since the last sync.
    unsynced: u64,
    /// Of everything behind the meta pages.
    crc: u32,
}

impl Copy<'_> {
    /// Copies what is below a page, and then itself. Returns the number it has in the copy.
    fn tree(&mut self, number: u64, depth: usize) -> Result<u64, TreeError> {
        // A named tree hangs below a leaf of the main one.
        if depth > 2 * DEPTH_MAX {
            return Err(self.from.damage(number));
        }
        let damage = || self.from.damage(number);
        let old = self.from.read(number)?;
        let mut new = old.clone();
        match page::read(&old, number).ok_or_else(damage)? {
            Page::Branch(nodes) => {
                for index in 0..nodes.len() {
                    let child = self.tree(nodes.child(index).ok_or_else(damage)?, depth + 1)?;
                    page::set_child(&mut new, index, child).ok_or_else(damage)?;
                }
            }
            Page::Leaf(nodes) => {
                for index in 0..nodes.len() {
                    match nodes.data(index).ok_or_else(damage)? {
                        Data::Inline(_) | Data::Tree(None) => {}
                        Data::Overflow { page, len } => {
                            let run = self.run(page, len)?;
                            page::set_overflow(&mut new, index, run).ok_or_else(damage)?;
                        }
                        Data::Tree(Some(root)) => {
                            let root = self.tree(root, depth + 1)?;
                            page::set_root(&mut new, index, root).ok_or_else(damage)?;
                        }
                    }
                }
            }
            Page::Overflow(_) => return Err(damage()),
        }
        page::clear_hole(&mut new).ok_or_else(damage)?;
        self.put(new)
    }

    /// Copies the pages of a long value.
    fn run(&mut self, number: u64, len: usize) -> Result<u64, TreeError> {
        let mut run = self.from.read(number)?;
        let is_run = matches!(page::read(&run, number), Some(Page::Overflow(_)));
        let behind = run.get_mut(page::HEADER + len..).filter(|_| is_run);
        behind.ok_or_else(|| self.from.damage(number))?.fill(0);
        self.put(run)
    }

    /// Puts a page or run of pages behind the others. Returns its number.
    fn put(&mut self, mut bytes: Vec<u8>) -> Result<u64, TreeError> {
        let number = self.next;
        page::set_number(&mut bytes, number).ok_or_else(|| self.from.damage(number))?;
        self.next += (bytes.len() / self.from.pages.page_bytes) as u64;
        self.buffer.extend_from_slice(&bytes);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        if number.is_multiple_of(STEP_PAGES) {
            gentle::step_aside();
        }
        Ok(number)
    }

    fn flush(&mut self) -> Result<(), TreeError> {
        self.crc = crc32c::crc32c_append(self.crc, &self.buffer);
        self.unsynced += self.buffer.len() as u64;
        let mut written = self.file.write_all(&self.buffer);
        if self.unsynced >= SYNC_BYTES {
            written = written.and_then(|()| self.file.sync_data());
            self.unsynced = 0;
        }
        self.buffer.clear();
        written.map_err(|error| self.failed(&error))
    }

    /// Writes the meta pages.
    fn finish(self, root: Option<u64>) -> Result<Copied, TreeError> {
        let page_bytes = self.from.pages.page_bytes;
        let mut head = vec![0; META_PAGES as usize * page_bytes];
        for (slot, page) in head.chunks_exact_mut(page_bytes).enumerate() {
            let meta = self.from.meta.of_copy(slot as u64, root.filter(|_| slot == 1));
            page[..Meta::BYTES].copy_from_slice(meta.bytes());
        }
        self.file.write_all_at(&head, 0).map_err(|error| self.failed(&error))?;
        let bytes = self.next * page_bytes as u64;
        let behind = bytes as usize - head.len();
        Ok(Copied { bytes, checksum: crc32c::crc32c_combine(crc32c::crc32c(&head), self.crc, behind) })
    }

    fn failed(&self, error: &std::io::Error) -> TreeError {
        failed("write", self.to, error)
    }
}

/// What a scan found in a file.
pub struct Scanned {
    meta: Meta,
    /// Page numbers and their checksums.
    sums: Vec<(u32, u32)>,
}

impl Scanned {
    /// Writes the checksums beside the file, which is `data.mdb` in `folder`.
    pub fn write_checksums(&self, folder: &Path) -> Result<(), TreeError> {
        Checksums::make(folder, &self.meta, &self.sums)
    }
}

/// Reads a copy once and checks that it is one, of `expected` length and checksum.
pub fn scan(path: &Path, expected: Copied) -> Result<Scanned, TreeError> {
    let refused = || TreeError(format!("{} is not what was sent", path.display()));
    let file = File::open(path).map_err(|error| failed("open", path, &error))?;
    let len = file.metadata().map_err(|error| failed("read", path, &error))?.len();
    if len != expected.bytes {
        return Err(refused());
    }
    let mut reader = Summing { inner: BufReader::with_capacity(BUFFER_BYTES, file), crc: 0 };
    let scanned = scan_pages(&mut reader, len);
    // What stands behind a page that cannot be is of no interest: the file is refused either way.
    match scanned.map_err(|error| failed("read", path, &error))? {
        Some(scanned) if reader.crc == expected.checksum => Ok(scanned),
        _ => Err(refused()),
    }
}

fn scan_pages(file: &mut Summing, len: u64) -> std::io::Result<Option<Scanned>> {
    let mut head = vec![0; PAGE_BYTES.max(Meta::BYTES)];
    file.read_exact(&mut head)?;
    let Some(first) = Meta::of(&head) else { return Ok(None) };
    let page_bytes = first.page_bytes();
    if !page_bytes.is_power_of_two() || !(PAGE_BYTES..=PAGE_BYTES_MAX).contains(&page_bytes) {
        return Ok(None);
    }
    file.skip(page_bytes - head.len())?;
    let mut page = vec![0; page_bytes];
    file.read_exact(&mut page)?;
    let pages = len / page_bytes as u64;
    let meta = Meta::of(&page).filter(|meta| {
        let is_copy = |slot, root| *meta == meta.of_copy(slot, root);
        meta.transaction() == 1 && is_copy(1, meta.main_root()) && first == meta.of_copy(0, None)
    });
    let Some(meta) = meta.filter(|meta| meta.last_page() + 1 == pages && len == pages * page_bytes as u64)
    else {
        return Ok(None);
    };
    let mut scan = Scan { seen: Bits::default(), used: Bits::default(), below: Vec::new(), sums: Vec::new() };
    let mut number = META_PAGES;
    while number < pages {
        let mut bytes = vec![0; page_bytes];
        file.read_exact(&mut bytes)?;
        let Some(count) = scan.take_in(&bytes, number) else { return Ok(None) };
        if count > pages - number {
            return Ok(None);
        }
        bytes.resize(count as usize * page_bytes, 0);
        file.read_exact(&mut bytes[page_bytes..])?;
        scan.sums.push((number as u32, sum_of(&bytes)));
        number += count;
        if number.is_multiple_of(STEP_PAGES) {
            gentle::step_aside();
        }
    }
    let is_whole =
        meta.main_root().is_none_or(|root| scan.use_once(root)) && scan.used.count == scan.seen.count;
    Ok(is_whole.then_some(Scanned { meta, sums: scan.sums }))
}

/// LMDB's largest page.
const PAGE_BYTES_MAX: usize = 1 << 15;

/// What is known of the pages read so far.
struct Scan {
    /// First pages of runs, and all others.
    seen: Bits,
    /// Those of them that something leads to.
    used: Bits,
    below: Vec<u64>,
    sums: Vec<(u32, u32)>,
}

impl Scan {
    /// Takes a page in; returns how many pages the run has that begins with it. `None` if it cannot stand here.
    fn take_in(&mut self, bytes: &[u8], number: u64) -> Option<u64> {
        self.seen.set(number);
        let mut below = std::mem::take(&mut self.below);
        let found = children(bytes, number, &mut below);
        let all_known = below.drain(..).all(|child| self.use_once(child));
        self.below = below;
        found.filter(|()| all_known)?;
        match page::read(bytes, number)? {
            Page::Overflow(count) => Some(u64::from(count)).filter(|count| *count > 0),
            Page::Branch(_) | Page::Leaf(_) => Some(1),
        }
    }

    /// Something leads to a page: it was read before, and nothing else leads to it.
    fn use_once(&mut self, number: u64) -> bool {
        self.seen.get(number) && self.used.set(number)
    }
}

/// A set of page numbers.
#[derive(Default)]
struct Bits {
    words: Vec<u64>,
    count: u64,
}

impl Bits {
    fn get(&self, number: u64) -> bool {
        self.words.get((number / 64) as usize).is_some_and(|word| word & 1 << (number % 64) != 0)
    }

    /// False if it was set before.
    fn set(&mut self, number: u64) -> bool {
        let word = (number / 64) as usize;
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let is_new = self.words[word] & 1 << (number % 64) == 0;
        self.words[word] |= 1 << (number % 64);
        self.count += u64::from(is_new);
        is_new
    }
}

/// Reads a file and sums up what was read.
struct Summing {
    inner: BufReader<File>,
    crc: u32,
}

impl Summing {
    fn read_exact(&mut self, to: &mut [u8]) -> std::io::Result<()> {
        self.inner.read_exact(to)?;
        self.crc = crc32c::crc32c_append(self.crc, to);
        Ok(())
    }

    fn skip(&mut self, count: usize) -> std::io::Result<()> {
        self.read_exact(&mut vec![0; count])
    }
}
