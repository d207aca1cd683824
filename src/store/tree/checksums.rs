//! A checksum for every page of a partition's LMDB file, which has none of its own: a damaged byte is found before it is served.
//!
//! Kept beside the file, in `checksums`, and appended to after each of LMDB's commits:
//! ```text
//! header   b"LARDERC" (7) · version (1) · CRC-32C of these 8 bytes (4)
//! batches  length of what follows the CRC (4, LE) · CRC-32C of length and rest (4)
//!          · the meta page after the commit (152) · then for each page that came or went: number (4, LE) · CRC-32C, 0 if it went (4)
//! ```
//! LMDB never overwrites a page that the last snapshot or the one before can reach. So the pages that came with a commit are those
//! that can be reached now and have no checksum yet, once those that the commit freed (LMDB lists them in its tree of free pages)
//! have lost theirs; what a commit costs us is in proportion to what it wrote.
//!
//! At open the newest meta page must be the last one recorded. One commit may stand behind it, if the process ended before its
//! batch was synced: it is taken back by writing its meta page over, because the journal has what was in it. That the journal
//! does have it is for recovery to see: the LSN it must reach stands in the file `unfinished` until the next commit. (LMDB's own
//! way, MDB_PREVSNAPSHOT, was tried: after the first commit its readers see the snapshot before.) A damaged meta page is written
//! anew from the record. Pages are checked on their first way to them, and all of them by a thread after the start ([`Checksums`]
//! remembers which were), because reading everything first would make a start as slow as the data is large.
//!
//! Invariants:
//! - LMDB is never led to a page that was not checked since the start, or written by this process;
//! - no commit follows one whose batch is not on disk;
//! - nothing is written to a tree before all of it was checked.

use super::TreeError;
use super::batch::{STATE_KEY, State};
use super::page::{self, Data, Meta, PAGE_BYTES, Page};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const HEADER: [u8; 8] = *b"LARDERC\x01";
const HEADER_BYTES: usize = HEADER.len() + 4;
/// Stands beside the tree from when a commit was taken back until the next.
const UNFINISHED: &str = "unfinished";
/// The file is written anew when it is so many times longer than it need be.
const SLACK: usize = 4;
/// Files shorter than this are left as they are.
const WORTH_REWRITING: usize = 1 << 20;
/// A file with empty trees is not longer than this.
const NEW_BYTES_MAX: u64 = 16 * PAGE_BYTES as u64;
/// Levels of a tree at most: LMDB's own bound.
pub const DEPTH_MAX: usize = 32;

/// The pages of a file. They are read, not mapped: a disk that fails makes an error here, where a map would end the process.
pub struct Pages {
    pub file: File,
    pub page_bytes: usize,
}

impl Pages {
    fn run(&self, number: u64, count: usize) -> Option<Vec<u8>> {
        let start = number.checked_mul(self.page_bytes as u64)?;
        let len = count.checked_mul(self.page_bytes)?;
        if start.checked_add(len as u64)? > self.file.metadata().ok()?.len() {
            return None; // before a damaged length makes us reserve memory for it
        }
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, start).ok()?;
        Some(bytes)
    }

    /// A page, or the whole run of pages that begins with it.
    pub fn get(&self, number: u64) -> Option<Vec<u8>> {
        let mut first = vec![0; self.page_bytes];
        self.file.read_exact_at(&mut first, number.checked_mul(self.page_bytes as u64)?).ok()?;
        match page::read(&first, number)? {
            Page::Overflow(count) if count != 1 => self.run(number, count as usize),
            _ => Some(first),
        }
    }

    /// The meta page in this slot.
    pub fn meta(&self, slot: u64) -> Option<Meta> {
        Meta::of(&self.run(slot, 1)?)
    }

    /// Makes `meta` the newest, in its slot.
    fn write_metas(&self, meta: &Meta) -> std::io::Result<()> {
        let slot = meta.transaction() % 2;
        self.file.write_all_at(meta.as_earlier().bytes(), (1 - slot) * self.page_bytes as u64)?;
        self.file.write_all_at(meta.bytes(), slot * self.page_bytes as u64)?;
        self.file.sync_all()
    }

    /// A short row of a named tree in the snapshot of `meta`, without a look at checksums.
    fn row(&self, meta: &Meta, name: &str, key: &[u8]) -> Option<Vec<u8>> {
        let (number, leaf) = self.leaf(meta.main_root()?, name.as_bytes())?;
        let (number, leaf) = self.leaf(root_in(&leaf, number, name.as_bytes())?, key)?;
        let Page::Leaf(nodes) = page::read(&leaf, number)? else { return None };
        match nodes.data((0..nodes.len()).find(|index| nodes.key(*index) == Some(key))?)? {
            Data::Inline(value) => Some(value.to_vec()),
            _ => None,
        }
    }

    fn leaf(&self, root: u64, key: &[u8]) -> Option<(u64, Vec<u8>)> {
        let mut number = root;
        for _ in 0..DEPTH_MAX {
            let bytes = self.get(number)?;
            match page::read(&bytes, number)? {
                Page::Branch(nodes) => number = nodes.child(nodes.towards(key)?)?,
                _ => return Some((number, bytes)),
            }
        }
        None
    }
}

/// How LMDB is to open the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// There is none yet.
    New,
    /// As it is.
    Latest,
}

/// The checksums of a partition's file.
pub struct Checksums {
    folder: PathBuf,
    file: File,
    /// Good bytes in the file.
    len: usize,
    /// There were others behind them.
    was_cut: bool,
    /// By page number; 0 is a page not in use.
    sums: Vec<u32>,
    /// Pages in use.
    in_use: usize,
    /// Bit by page number: checked since the start, or written by this process.
    checked: Vec<u64>,
    /// After which commit the sums are right.
    meta: Option<Meta>,
    /// Changes that are not in the file yet.
    unlogged: Vec<(u32, u32)>,
    /// LMDB's file, once it is there.
    pages: Option<Pages>,
    /// What the tree would hold if its last commit had not been taken back.
    unfinished: Option<State>,
    /// There are no sums to go by: pages are taken as they are.
    trusts: bool,
}

impl Checksums {
    /// Opens or makes the file in the folder `folder`; cuts a batch that was not written to its end.
    pub fn open(folder: &Path) -> Result<Checksums, TreeError> {
        let path = folder.join("checksums");
        let open = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = open.map_err(|error| failed("open", &path, &error))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| failed("read", &path, &error))?;
        let mut checksums = Checksums {
            folder: folder.to_path_buf(),
            file,
            len: HEADER_BYTES,
            was_cut: false,
            sums: Vec::new(),
            in_use: 0,
            checked: Vec::new(),
            meta: None,
            unlogged: Vec::new(),
            pages: None,
            unfinished: None,
            trusts: false,
        };
        if bytes.len() < HEADER_BYTES {
            let made = checksums.file.set_len(0).and_then(|()| checksums.file.write_all_at(&header(), 0));
            made.map_err(|error| failed("write", &path, &error))?;
            return Ok(checksums);
        }
        if bytes[..HEADER_BYTES] != header() {
            return Err(TreeError(format!("{} is damaged at its head. {WHAT_TO_DO}", path.display())));
        }
        while let Some(batch) = batch_at(&bytes[checksums.len..]) {
            checksums.take_in(batch);
            checksums.len += 8 + batch.len();
        }
        if checksums.len < bytes.len() {
            tracing::warn!(
                "{}: its last {} bytes are not whole",
                path.display(),
                bytes.len() - checksums.len
            );
            checksums.was_cut = true;
        }
        Ok(checksums)
    }

    /// Opens what may be damaged, to read what is whole.
    pub fn open_damaged(folder: &Path) -> Result<Checksums, TreeError> {
        let mut settled = Checksums::open(folder).and_then(|mut checksums| {
            checksums.settle()?;
            checksums.attach()?;
            Ok(checksums)
        });
        if settled.is_err() {
            // Aside with them: without sums the newest meta page is the one to go by.
            let (from, to) = (folder.join("checksums"), folder.join("checksums.damaged"));
            let moved = if from.exists() { std::fs::rename(&from, &to) } else { Ok(()) };
            moved.map_err(|error| failed("rename", &from, &error))?;
            let mut trusting = Checksums::open(folder)?;
            trusting.attach()?;
            let slots = [0, 1].map(|slot| trusting.pages.as_ref().and_then(|pages| pages.meta(slot)));
            trusting.meta = slots.into_iter().flatten().max_by_key(Meta::transaction);
            trusting.trusts = true;
            settled = Ok(trusting);
        }
        settled
    }

    /// Whether pages are taken as they are.
    pub fn trusts(&self) -> bool {
        self.trusts
    }

    /// Makes `data.mdb` begin at the commit that was recorded last, before LMDB opens it.
    pub fn settle(&mut self) -> Result<Opening, TreeError> {
        let path = self.folder.join("data.mdb");
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound && self.meta.is_none() => {
                return Ok(Opening::New);
            }
            Err(error) => {
                return Err(TreeError(format!("cannot open {}: {error}. {WHAT_TO_DO}", path.display())));
            }
        };
        let page_bytes = self.meta.map_or(PAGE_BYTES, |meta| meta.page_bytes());
        let pages = Pages { file, page_bytes };
        let slot = |number| pages.meta(number);
        let Some(recorded) = self.meta else {
            // Without a record there was no checkpoint: LMDB's first commit makes the empty trees.
            let transactions = [slot(0), slot(1)].map(|meta| meta.map_or(0, |meta| meta.transaction()));
            let len = pages.file.metadata().map_or(u64::MAX, |metadata| metadata.len());
            if transactions.iter().any(|transaction| *transaction > 1) || len > NEW_BYTES_MAX {
                return Err(self.missing());
            }
            std::fs::remove_file(&path).map_err(|error| failed("remove", &path, &error))?;
            return Ok(Opening::New);
        };
        let here = recorded.transaction() % 2;
        let (newest, other) = (slot(here), slot(1 - here));
        if newest == Some(recorded) {
            match other.map(|meta| meta.transaction()) {
                Some(earlier) if earlier < recorded.transaction() => return Ok(Opening::Latest),
                Some(later) if later == recorded.transaction() + 1 => {
                    self.take_back(&pages, &recorded)?;
                    return Ok(Opening::Latest);
                }
                _ => {}
            }
        }
        if self.was_cut {
            // More is missing than the batch of the last commit: it is the checksums that are damaged, not the meta pages.
            return Err(self.missing());
        }
        tracing::warn!("{}: a damaged meta page is written anew from its copy", path.display());
        let written = pages.write_metas(&recorded);
        written.map_err(|error| failed("repair", &path, &error))?;
        Ok(Opening::Latest)
    }

    /// Undoes the commit behind the recorded one.
    fn take_back(&mut self, pages: &Pages, recorded: &Meta) -> Result<(), TreeError> {
        let later = pages.meta(1 - recorded.transaction() % 2);
        let state = later
            .and_then(|later| pages.row(&later, super::META, STATE_KEY))
            .ok_or_else(|| self.missing())?;
        let path = self.folder.join(UNFINISHED);
        let note = [&state[..], &crc32c::crc32c(&state).to_le_bytes()].concat();
        let noted =
            File::create(&path).and_then(|file| file.write_all_at(&note, 0).and_then(|()| file.sync_all()));
        let noted = noted.and_then(|()| File::open(&self.folder)?.sync_all());
        if let Err(error) = noted {
            // Half a note would be taken for a damaged one.
            let _ = std::fs::remove_file(&path);
            if error.kind() != ErrorKind::StorageFull {
                return Err(failed("write", &path, &error));
            }
            // A full disk must not keep data from being read: this start at least knows what the journal must have.
            self.unfinished = State::decode(&state);
        }
        pages
            .write_metas(recorded)
            .map_err(|error| failed("write", &self.folder.join("data.mdb"), &error))?;
        tracing::info!("{}: its last commit was not finished; the journal has it", self.folder.display());
        Ok(())
    }

    /// Reads the note of a commit that was taken back.
    fn read_unfinished(&self) -> Result<Option<State>, TreeError> {
        let path = self.folder.join(UNFINISHED);
        let note = match std::fs::read(&path) {
            Ok(note) => note,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path, &error)),
        };
        let whole =
            note.split_last_chunk::<4>().filter(|(state, crc)| crc32c::crc32c(state).to_le_bytes() == **crc);
        let state = whole.and_then(|(state, _)| State::decode(state));
        state.map(Some).ok_or_else(|| TreeError(format!("{} is damaged. {WHAT_TO_DO}", path.display())))
    }

    /// What the tree would hold if its last commit had not been taken back: the journal must reach as far.
    pub fn unfinished(&self) -> Option<&State> {
        self.unfinished.as_ref()
    }

    /// From here on LMDB has its file, and it is read from.
    pub fn attach(&mut self) -> Result<(), TreeError> {
        let path = self.folder.join("data.mdb");
        let file = File::open(&path).map_err(|error| failed("open", &path, &error))?;
        let mut pages = Pages { file, page_bytes: PAGE_BYTES };
        pages.page_bytes = pages.meta(0).ok_or_else(|| self.damage(0))?.page_bytes();
        self.pages = Some(pages);
        self.unfinished = self.read_unfinished()?.or(self.unfinished.take());
        Ok(())
    }

    fn read(&self, number: u64) -> Result<Vec<u8>, TreeError> {
        self.pages.as_ref().and_then(|pages| pages.get(number)).ok_or_else(|| self.damage(number))
    }

    /// Takes in what the last commit changed. Costs in proportion to that.
    pub fn advance(&mut self) -> Result<(), TreeError> {
        let slots = [0, 1].map(|slot| self.pages.as_ref().and_then(|pages| pages.meta(slot)));
        let newest = slots.into_iter().flatten().max_by_key(Meta::transaction);
        let newest = newest.ok_or_else(|| self.damage(0))?;
        let before = self.meta.map_or(0, |meta| meta.transaction());
        if newest.transaction() == before {
            return Ok(());
        }
        assert_eq!(newest.transaction(), before + 1, "each commit is taken in");
        for number in self.freed_by(&newest)? {
            self.set(number, 0);
        }
        let mut level: Vec<u64> = newest.free_root().into_iter().chain(newest.main_root()).collect();
        let mut below = Vec::new();
        while let Some(number) = level.pop() {
            if self.sum(number) != 0 {
                continue;
            }
            let page = self.read(number)?;
            self.set(number, sum_of(&page));
            self.note_checked(number);
            children(&page, number, &mut below).ok_or_else(|| self.damage(number))?;
            level.append(&mut below);
        }
        self.meta = Some(newest);
        Ok(())
    }

    /// What is needed to read the tree as of the last commit: its pages, its meta page and the sums of them all.
    pub fn as_of_now(&self) -> Result<(Pages, Meta, Vec<u32>), TreeError> {
        let (pages, meta) = self.pages.as_ref().zip(self.meta).ok_or_else(|| self.missing())?;
        let path = self.folder.join("data.mdb");
        let file = pages.file.try_clone().map_err(|error| failed("open", &path, &error))?;
        Ok((Pages { file, page_bytes: pages.page_bytes }, meta, self.sums.clone()))
    }

    /// Makes the file for a `data.mdb` that came from elsewhere, with the sums that were found in it.
    pub fn make(folder: &Path, meta: &Meta, sums: &[(u32, u32)]) -> Result<(), TreeError> {
        let path = folder.join("checksums");
        let bytes = [&header()[..], &encode_batch(meta, sums)].concat();
        let made = File::create(&path).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        });
        made.map_err(|error| failed("write", &path, &error))
    }

    /// The folder was given another name.
    pub fn moved(&mut self, folder: &Path) {
        self.folder = folder.to_path_buf();
    }

    /// Brings the file up to date and syncs it.
    pub fn flush(&mut self) -> Result<(), TreeError> {
        let Some(meta) = self.meta.filter(|_| !self.unlogged.is_empty()) else { return Ok(()) };
        let path = self.folder.join("checksums");
        if self.len > WORTH_REWRITING && self.len > SLACK * self.in_use * 8 {
            self.rewrite(&meta).map_err(|error| failed("write", &path, &error))?;
            return self.forget_unfinished();
        }
        let batch = encode_batch(&meta, &self.unlogged);
        let end = self.len + batch.len();
        let written = self.file.write_all_at(&batch, self.len as u64);
        // What stands behind could be the rest of a longer batch that failed to be written.
        let written =
            written.and_then(|()| self.file.set_len(end as u64)).and_then(|()| self.file.sync_data());
        written.map_err(|error| failed("write", &path, &error))?;
        self.len = end;
        self.unlogged.clear();
        self.forget_unfinished()
    }

    fn forget_unfinished(&mut self) -> Result<(), TreeError> {
        if self.unfinished.take().is_some() {
            let path = self.folder.join(UNFINISHED);
            match std::fs::remove_file(&path) {
                // There was no room to write it.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                removed => removed.map_err(|error| failed("remove", &path, &error))?,
            }
        }
        Ok(())
    }

    fn rewrite(&mut self, meta: &Meta) -> std::io::Result<()> {
        let all: Vec<(u32, u32)> =
            (0..).zip(&self.sums).filter(|(_, sum)| **sum != 0).map(|(number, sum)| (number, *sum)).collect();
        let bytes = [&header()[..], &encode_batch(meta, &all)].concat();
        let fresh = self.folder.join("checksums.new");
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&fresh)?;
        file.write_all_at(&bytes, 0)?;
        file.sync_all()?;
        std::fs::rename(&fresh, self.folder.join("checksums"))?;
        File::open(&self.folder)?.sync_all()?;
        (self.file, self.len) = (file, bytes.len());
        self.unlogged.clear();
        Ok(())
    }

    /// Checks the pages on the way from the root of the tree `name` to `key`, and the long values beside it. Returns the key from
    /// which on another leaf begins, if one follows.
    pub fn check_way(&mut self, name: &[u8], key: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        let Some(root) = self.root(name)? else { return Ok(None) };
        let (number, leaf, next) = self.descend(root, key)?;
        let mut long_values = Vec::new();
        children(&leaf, number, &mut long_values).ok_or_else(|| self.damage(number))?;
        for number in long_values {
            self.check(number)?;
        }
        Ok(next)
    }

    /// The root of a named tree, if it has rows.
    pub fn root(&mut self, name: &[u8]) -> Result<Option<u64>, TreeError> {
        let Some(main) = self.meta.and_then(|meta| meta.main_root()) else { return Ok(None) };
        let (number, leaf, _) = self.descend(main, name)?;
        Ok(root_in(&leaf, number, name))
    }

    /// The leaf where `key` is or would be, with its number, and the key from which on another begins.
    fn descend(&mut self, root: u64, key: &[u8]) -> Result<(u64, Vec<u8>, Option<Vec<u8>>), TreeError> {
        let (mut number, mut next) = (root, None);
        for _ in 0..DEPTH_MAX {
            let bytes = self.check(number)?;
            let damage = || self.damage(number);
            let Some(Page::Branch(nodes)) = page::read(&bytes, number) else {
                return Ok((number, bytes, next));
            };
            let towards = nodes.towards(key).ok_or_else(damage)?;
            if towards + 1 < nodes.len() {
                next = nodes.key(towards + 1).map(<[u8]>::to_vec);
            }
            number = nodes.child(towards).ok_or_else(damage)?;
        }
        Err(self.damage(number))
    }

    /// The roots of everything there is to check.
    pub fn roots(&self) -> Vec<u64> {
        self.meta.iter().flat_map(|meta| meta.free_root().into_iter().chain(meta.main_root())).collect()
    }

    /// Checks a page and adds those below it to `below`.
    pub fn check_and_list(&mut self, number: u64, below: &mut Vec<u64>) -> Result<(), TreeError> {
        let bytes = self.check(number)?;
        children(&bytes, number, below).ok_or_else(|| self.damage(number))
    }

    /// A page or run of pages, checked.
    pub fn check(&mut self, number: u64) -> Result<Vec<u8>, TreeError> {
        let bytes = self.read(number)?;
        let (word, bit) = (number as usize / 64, 1 << (number % 64));
        if self.checked.get(word).is_none_or(|word| word & bit == 0) {
            if !self.trusts && self.sum(number) != sum_of(&bytes) {
                return Err(self.damage(number));
            }
            self.note_checked(number);
        }
        Ok(bytes)
    }

    fn note_checked(&mut self, number: u64) {
        let word = number as usize / 64;
        if self.checked.len() <= word {
            self.checked.resize(word + 1, 0);
        }
        self.checked[word] |= 1 << (number % 64);
    }

    fn damage(&self, number: u64) -> TreeError {
        let path = self.folder.join("data.mdb");
        TreeError(format!(
            "{} is damaged: page {number} is not what was written. {WHAT_TO_DO}",
            path.display()
        ))
    }

    fn missing(&self) -> TreeError {
        let folder = self.folder.display();
        TreeError(format!(
            "{folder}/checksums is damaged or missing, so {folder}/data.mdb cannot be trusted. {WHAT_TO_DO}"
        ))
    }

    fn sum(&self, number: u64) -> u32 {
        self.sums.get(number as usize).copied().unwrap_or(0)
    }

    fn set(&mut self, number: u64, sum: u32) {
        let index = number as usize;
        if self.sums.len() <= index {
            self.sums.resize(index + 1, 0);
        }
        let old = std::mem::replace(&mut self.sums[index], sum);
        self.in_use += usize::from(sum != 0);
        self.in_use -= usize::from(old != 0);
        self.unlogged.push((number as u32, sum));
    }

    fn take_in(&mut self, batch: &[u8]) {
        let (meta, changes) = batch.split_at(Meta::BYTES);
        self.meta = Meta::of(meta);
        for change in changes.chunks_exact(8) {
            let [number, sum] = [&change[..4], &change[4..]]
                .map(|bytes| bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)));
            self.set(u64::from(number), sum);
        }
        self.unlogged.clear();
    }

    /// The pages that the commit of `meta` freed: they stand in the tree of free pages under its number, the last there.
    fn freed_by(&self, meta: &Meta) -> Result<Vec<u64>, TreeError> {
        let Some(mut number) = meta.free_root() else { return Ok(Vec::new()) };
        for _ in 0..DEPTH_MAX {
            let damage = || self.damage(number);
            let bytes = self.read(number)?;
            match page::read(&bytes, number).ok_or_else(damage)? {
                Page::Branch(nodes) => {
                    number = nodes.child(nodes.len().wrapping_sub(1)).ok_or_else(damage)?;
                }
                Page::Leaf(nodes) => {
                    let last = nodes.len().wrapping_sub(1);
                    if nodes.key(last) != Some(&meta.transaction().to_le_bytes()) {
                        return Ok(Vec::new());
                    }
                    return match nodes.data(last).ok_or_else(damage)? {
                        Data::Inline(list) => page_list(list),
                        Data::Overflow { page, .. } => {
                            self.read(page)?.get(page::HEADER..).and_then(page_list)
                        }
                        Data::Tree(_) => None,
                    }
                    .ok_or_else(damage);
                }
                Page::Overflow(_) => return Err(damage()),
            }
        }
        Err(self.damage(number))
    }
}

/// What an operator can do about damage; every message of it ends with this.
pub const WHAT_TO_DO: &str = "Stop the server and restore the data folder from a copy, or let `larder repair FOLDER` \
                              keep what is whole";

/// A list of pages as LMDB keeps it: their count, then they.
fn page_list(bytes: &[u8]) -> Option<Vec<u64>> {
    let mut numbers =
        bytes.chunks_exact(8).map(|bytes| bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)));
    let count = usize::try_from(numbers.next()?).ok()?;
    let list: Vec<u64> = numbers.take(count).collect();
    (list.len() == count).then_some(list)
}

/// The root of a named tree, from the leaf of the main tree where it stands.
fn root_in(leaf: &[u8], number: u64, name: &[u8]) -> Option<u64> {
    let Some(Page::Leaf(nodes)) = page::read(leaf, number) else { return None };
    let index = (0..nodes.len()).find(|index| nodes.key(*index) == Some(name))?;
    match nodes.data(index) {
        Some(Data::Tree(root)) => root,
        _ => None,
    }
}

/// Adds the pages that a page leads to. `None` if it is no page of a tree.
pub fn children(bytes: &[u8], number: u64, below: &mut Vec<u64>) -> Option<()> {
    match page::read(bytes, number)? {
        Page::Branch(nodes) => {
            for index in 0..nodes.len() {
                below.push(nodes.child(index)?);
            }
        }
        Page::Leaf(nodes) => {
            for index in 0..nodes.len() {
                match nodes.data(index)? {
                    Data::Overflow { page: number, .. } | Data::Tree(Some(number)) => below.push(number),
                    Data::Inline(_) | Data::Tree(None) => {}
                }
            }
        }
        Page::Overflow(_) => {}
    }
    Some(())
}

/// Never 0, which stands for none.
pub fn sum_of(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).max(1)
}

fn header() -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..HEADER.len()].copy_from_slice(&HEADER);
    header[HEADER.len()..].copy_from_slice(&crc32c::crc32c(&HEADER).to_le_bytes());
    header
}

fn encode_batch(meta: &Meta, changes: &[(u32, u32)]) -> Vec<u8> {
    let mut rest = meta.bytes().to_vec();
    for (number, sum) in changes {
        rest.extend_from_slice(&number.to_le_bytes());
        rest.extend_from_slice(&sum.to_le_bytes());
    }
    let len = u32::try_from(rest.len()).expect("a file's pages are fewer than 2^28").to_le_bytes();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&len), &rest).to_le_bytes();
    [&len[..], &crc, &rest].concat()
}

/// The whole batch at the head of `bytes`, if there is one.
fn batch_at(bytes: &[u8]) -> Option<&[u8]> {
    let len = u32::from_le_bytes(*bytes.first_chunk()?);
    let crc = u32::from_le_bytes(*bytes.get(4..)?.first_chunk()?);
    let rest = bytes.get(8..8_usize.checked_add(len as usize)?)?;
    let whole = rest.len() >= Meta::BYTES && rest.len() % 8 == 0;
    (whole && crc32c::crc32c_append(crc32c::crc32c(&bytes[..4]), rest) == crc).then_some(rest)
}

pub fn failed(what: &str, path: &Path, error: &std::io::Error) -> TreeError {
    TreeError(format!("cannot {what} {}: {error}", path.display()))
}
