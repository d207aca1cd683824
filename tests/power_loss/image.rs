//! What a power loss may leave on disk.
//!
//! The model, for a loss after some event:
//! - **Bytes.** What was written to a file before its last sync is there, and so is what was written through a descriptor opened
//!   with `O_DSYNC`. Of what came later each block holds what it held at the last sync, or any state it was in since then: blocks
//!   reach the disk one by one and in any order. A block is a sector of 512 bytes, which is never torn (LMDB counts on
//!   that), or a page of 4 KiB.
//! - **Length.** That of the last sync, or any length the file had since then, whether its bytes are there or not: what is missing
//!   reads as zeros.
//! - **Names.** Creations, renames, exchanges and removals in a folder happen in order; those before the folder's last sync are there, and of
//!   those that came later the first few, any number. Folders know nothing of each other. A sync of a new file does not
//!   make its name durable. (Linux's usual file systems promise more; POSIX does not.)
//! - Lock files of LMDB hold anything.
//!
//! [`Loss`] draws the extremes as often as the middle: nothing unsynced is there, all of it, a prefix that ends in a torn write,
//! or any mixture.

use crate::disk::{Bytes, Content, Event, Node, ROOT, State};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

const SECTOR: usize = 512;
const PAGE: usize = 4096;

/// Files and folders as they lie on a disk.
#[derive(Clone, Debug)]
pub enum Image {
    File(Vec<u8>),
    Folder(BTreeMap<OsString, Image>),
}

/// How much of what was not synced is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All of it: the process was killed, the kernel went on.
    Kill,
    /// All but the lock files.
    Everything,
    Nothing,
    /// What came first, the last write torn.
    Prefix,
    /// Any blocks, new ones about so often in a hundred.
    Mixture(u32),
}

impl Loss {
    pub fn random(random: &mut StdRng) -> Loss {
        match random.random_range(0..10) {
            0 => Loss::Everything,
            1 | 2 => Loss::Nothing,
            3..6 => Loss::Prefix,
            _ => Loss::Mixture([3, 20, 50, 80, 97][random.random_range(0..5)]),
        }
    }
}

/// A change of a file's bytes or length.
enum FileChange<'a> {
    Write { offset: usize, bytes: &'a [u8], durable: bool },
    SetLen(usize),
}

/// The changes of one file, of which the first `durable` are.
#[derive(Default)]
struct FileChanges<'a> {
    changes: Vec<FileChange<'a>>,
    durable: usize,
}

/// A change of names in a folder.
enum NameChange<'a> {
    Link(&'a OsString, Node),
    Unlink(&'a OsString),
    Rename(&'a OsString, &'a OsString),
    Exchange(&'a OsString, &'a OsString),
}

#[derive(Default)]
struct FolderChanges<'a> {
    changes: Vec<NameChange<'a>>,
    durable: usize,
}

struct Builder<'a> {
    state: &'a State,
    files: BTreeMap<Node, FileChanges<'a>>,
    folders: BTreeMap<Node, FolderChanges<'a>>,
    /// What stands in two folders is the same in both.
    built: BTreeMap<Node, Image>,
    loss: Loss,
    random: StdRng,
}

/// What is on the disk after the first `events` events and a loss of this kind; what is left to chance comes from `seed`.
pub fn after(state: &State, events: usize, loss: Loss, seed: u64) -> Image {
    let random = StdRng::seed_from_u64(seed);
    let mut builder = Builder {
        state,
        files: BTreeMap::new(),
        folders: BTreeMap::new(),
        built: BTreeMap::new(),
        loss,
        random,
    };
    state.events[..events].iter().for_each(|event| builder.sort_in(event));
    builder.node(ROOT)
}

/// What the kernel has: what is on the disk if no power is lost.
pub fn newest(state: &State) -> Image {
    after(state, state.events.len(), Loss::Kill, 0)
}

impl<'a> Builder<'a> {
    fn sort_in(&mut self, event: &'a Event) {
        match event {
            Event::Write { file, offset, bytes, durable } => {
                let change =
                    FileChange::Write { offset: *offset as usize, bytes: &bytes.0, durable: *durable };
                self.files.entry(*file).or_default().changes.push(change);
            }
            Event::SetLen { file, len } => {
                self.files.entry(*file).or_default().changes.push(FileChange::SetLen(*len as usize));
            }
            Event::Sync { file } => {
                let file = self.files.entry(*file).or_default();
                file.durable = file.changes.len();
            }
            Event::Link { folder, name, node } => self.name(*folder, NameChange::Link(name, *node)),
            Event::Unlink { folder, name } => self.name(*folder, NameChange::Unlink(name)),
            Event::Rename { folder, from, to } => self.name(*folder, NameChange::Rename(from, to)),
            Event::Exchange { folder, names: (a, b) } => self.name(*folder, NameChange::Exchange(a, b)),
            Event::SyncFolder { folder } => {
                let folder = self.folders.entry(*folder).or_default();
                folder.durable = folder.changes.len();
            }
            Event::Promise { .. } | Event::Acknowledged { .. } | Event::Written { .. } => {}
            Event::Opened | Event::Killed => {}
        }
    }

    fn name(&mut self, folder: Node, change: NameChange<'a>) {
        self.folders.entry(folder).or_default().changes.push(change);
    }

    fn node(&mut self, node: Node) -> Image {
        if let Some(built) = self.built.get(&node) {
            return built.clone();
        }
        let image = self.build(node);
        self.built.insert(node, image.clone());
        image
    }

    fn build(&mut self, node: Node) -> Image {
        if !self.state.names[node].1 {
            return Image::File(self.file(node));
        }
        let mut names = match self.state.base.get(node) {
            Some(Content::Folder(names)) => names.clone(),
            _ => BTreeMap::new(),
        };
        let changes = self.folders.remove(&node).unwrap_or_default();
        let count = match self.loss {
            Loss::Kill | Loss::Everything => changes.changes.len(),
            Loss::Nothing => changes.durable,
            Loss::Prefix | Loss::Mixture(_) => {
                self.random.random_range(changes.durable..=changes.changes.len())
            }
        };
        for change in &changes.changes[..count] {
            match change {
                NameChange::Link(name, node) => {
                    names.insert((*name).clone(), *node);
                }
                NameChange::Unlink(name) => {
                    names.remove(*name);
                }
                NameChange::Rename(from, to) => {
                    let node = names.remove(*from).expect("names change in order");
                    names.insert((*to).clone(), node);
                }
                NameChange::Exchange(a, b) => {
                    let nodes = (names[*a], names[*b]);
                    names.insert((*a).clone(), nodes.1);
                    names.insert((*b).clone(), nodes.0);
                }
            }
        }
        Image::Folder(names.into_iter().map(|(name, node)| (name, self.node(node))).collect())
    }

    fn file(&mut self, node: Node) -> Vec<u8> {
        let base = match self.state.base.get(node) {
            Some(Content::File(bytes)) => bytes.clone(),
            _ => Vec::new(),
        };
        let changes = self.files.remove(&node).unwrap_or_default();
        if self.state.names[node].0 == "lock.mdb" && self.loss != Loss::Kill {
            let len = self.random.random_range(0..16_384);
            return (0..len).map(|_| self.random.random()).collect();
        }
        let (durable, pending) = changes.changes.split_at(changes.durable);
        let mut bytes = base;
        durable.iter().for_each(|change| change.apply(&mut bytes));
        self.apply_some(&mut bytes, pending);
        bytes
    }

    fn apply_some(&mut self, bytes: &mut Vec<u8>, pending: &[FileChange]) {
        match self.loss {
            Loss::Kill | Loss::Everything => pending.iter().for_each(|change| change.apply(bytes)),
            Loss::Nothing => self.apply_blocks(bytes, pending, SECTOR, 0),
            Loss::Prefix => {
                let sure = pending.iter().rposition(FileChange::is_durable).map_or(0, |last| last + 1);
                let count = self.random.random_range(sure..=pending.len());
                pending[..count].iter().for_each(|change| change.apply(bytes));
                if let Some(torn) = pending.get(count) {
                    self.apply_blocks(bytes, std::slice::from_ref(torn), SECTOR, 50);
                }
            }
            Loss::Mixture(percent) => {
                let block = if self.random.random_bool(0.5) { SECTOR } else { PAGE };
                self.apply_blocks(bytes, pending, block, percent);
            }
        }
    }

    /// Each block in one of its states since the last sync, and one of the lengths.
    fn apply_blocks(&mut self, bytes: &mut Vec<u8>, pending: &[FileChange], block: usize, percent: u32) {
        let (mut lengths, mut sure) = (vec![bytes.len()], 0);
        for (index, change) in pending.iter().enumerate() {
            lengths.push(change.length_after(lengths[index]));
            if change.is_durable() {
                sure = index + 1;
            }
        }
        let len = lengths[self.choose(sure, pending.len(), percent)];
        let longest = lengths.iter().copied().max().unwrap_or(0);
        bytes.resize(longest.div_ceil(block) * block, 0);
        let mut of_block: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, change) in pending.iter().enumerate() {
            for number in change.blocks(block, longest) {
                of_block.entry(number).or_default().push(index);
            }
        }
        for (number, touching) in of_block {
            let sure =
                touching.iter().rposition(|index| pending[*index].is_durable()).map_or(0, |last| last + 1);
            let count = self.choose(sure, touching.len(), percent);
            let range = number * block..(number + 1) * block;
            for index in &touching[..count] {
                pending[*index].apply_within(&mut bytes[range.clone()], range.start);
            }
        }
        bytes.resize(len, 0);
    }

    /// How many of some changes are there: all of them so often in a hundred, else any number that is not below `sure`.
    fn choose(&mut self, sure: usize, all: usize, percent: u32) -> usize {
        if percent == 0 {
            return sure;
        }
        if self.random.random_ratio(percent, 100) { all } else { self.random.random_range(sure..=all) }
    }
}

impl FileChange<'_> {
    fn is_durable(&self) -> bool {
        matches!(self, FileChange::Write { durable: true, .. })
    }

    fn length_after(&self, before: usize) -> usize {
        match self {
            FileChange::Write { offset, bytes, .. } => before.max(offset + bytes.len()),
            FileChange::SetLen(len) => *len,
        }
    }

    fn apply(&self, file: &mut Vec<u8>) {
        file.resize(self.length_after(file.len()), 0);
        self.apply_within(file, 0);
    }

    /// Does what it does to the part of the file that begins at `start`.
    fn apply_within(&self, part: &mut [u8], start: usize) {
        match self {
            FileChange::Write { offset, bytes, .. } => {
                let from = (*offset).max(start);
                let to = (offset + bytes.len()).min(start + part.len());
                if from < to {
                    part[from - start..to - start].copy_from_slice(&bytes[from - offset..to - offset]);
                }
            }
            // What is cut off reads as zeros if the file grows again.
            FileChange::SetLen(len) => {
                let from = len.saturating_sub(start).min(part.len());
                part[from..].fill(0);
            }
        }
    }

    /// The blocks it touches in a file that is never longer than `longest`.
    fn blocks(&self, block: usize, longest: usize) -> std::ops::Range<usize> {
        match self {
            FileChange::Write { offset, bytes, .. } => offset / block..(offset + bytes.len()).div_ceil(block),
            FileChange::SetLen(len) => len / block..longest.div_ceil(block),
        }
    }
}

impl Image {
    /// Writes it into the empty folder `path`.
    pub fn lay_out(&self, path: &Path) {
        match self {
            Image::File(bytes) => std::fs::write(path, bytes).expect("room for an image"),
            Image::Folder(names) => {
                if !path.exists() {
                    std::fs::create_dir(path).expect("a folder can be made");
                }
                names.iter().for_each(|(name, image)| image.lay_out(&path.join(name)));
            }
        }
    }
}

/// Fails unless the folder `path` holds exactly this, but for lock files.
pub fn assert_same(image: &Image, path: &Path) {
    match image {
        Image::File(_) if path.file_name().is_some_and(|name| name == "lock.mdb") => {}
        Image::File(bytes) => {
            let found = std::fs::read(path).expect("the file is there");
            assert!(found == *bytes, "{} was written to unseen", path.display());
        }
        Image::Folder(names) => {
            let entries = std::fs::read_dir(path).expect("the folder is there");
            let found: Vec<OsString> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
            let unseen: Vec<_> = found.iter().filter(|name| !names.contains_key(*name)).collect();
            assert!(unseen.is_empty(), "{unseen:?} came into {} unseen", path.display());
            names.iter().for_each(|(name, image)| assert_same(image, &path.join(name)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Node = 1;

    /// A file of 1,024 `a`, synced, over which `b` and then `c` is written, and behind which `d`.
    fn state() -> State {
        let write = |offset, byte, len, durable| Event::Write {
            file: FILE,
            offset,
            bytes: Bytes(vec![byte; len]),
            durable,
        };
        State {
            names: vec![(OsString::new(), true), ("file".into(), false)],
            events: vec![
                Event::Link { folder: ROOT, name: "file".into(), node: FILE },
                Event::SyncFolder { folder: ROOT },
                write(0, b'a', 1024, false),
                Event::Sync { file: FILE },
                write(100, b'b', 800, false),
                write(200, b'c', 100, false),
                write(1024, b'd', 600, false),
            ],
            ..State::default()
        }
    }

    fn file_after(state: &State, loss: Loss, seed: u64) -> Vec<u8> {
        match after(state, state.events.len(), loss, seed) {
            Image::Folder(names) => match &names[&OsString::from("file")] {
                Image::File(bytes) => bytes.clone(),
                Image::Folder(_) => panic!("a file"),
            },
            Image::File(_) => panic!("a folder"),
        }
    }

    #[test]
    fn what_was_synced_is_there_and_sectors_are_whole() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..500 {
            let bytes = file_after(&state(), Loss::Mixture(50), seed);
            assert!([1024, 1624].contains(&bytes.len()));
            // The first sector is the old one, or has b, or b and c; the second has b or not, whatever the first has.
            assert!(bytes[..100].iter().all(|byte| *byte == b'a'));
            let first = (bytes[100], bytes[250], bytes[511]);
            assert!(
                [(b'a', b'a', b'a'), (b'b', b'b', b'b'), (b'b', b'c', b'b')].contains(&first),
                "{first:?}"
            );
            assert!(bytes[512..900].iter().all(|byte| *byte == bytes[512]));
            seen.insert((first, bytes[512], bytes.get(1024).copied(), bytes.get(1600).copied()));
        }
        assert!(seen.len() >= 15, "every mixture comes: {}", seen.len());
    }

    #[test]
    fn nothing_everything_and_a_prefix_are_what_they_say() {
        assert_eq!(file_after(&state(), Loss::Nothing, 1), vec![b'a'; 1024]);
        assert_eq!(file_after(&state(), Loss::Everything, 1).len(), 1624);
        for seed in 0..100 {
            let bytes = file_after(&state(), Loss::Prefix, seed);
            if bytes.len() == 1624 {
                assert_eq!((bytes[150], bytes[250]), (b'b', b'c'), "what came before is there");
            }
        }
    }

    #[test]
    fn a_durable_write_takes_what_was_in_its_sector_with_it() {
        let mut state = state();
        state.events.push(Event::Write { file: FILE, offset: 300, bytes: Bytes(vec![b'e']), durable: true });
        let bytes = file_after(&state, Loss::Nothing, 1);
        assert_eq!(
            (bytes.len(), bytes[150], bytes[250], bytes[300], bytes[512]),
            (1624, b'b', b'c', b'e', b'a')
        );
    }

    #[test]
    fn names_come_in_order_and_not_before_their_folder_is_synced() {
        let mut state = state();
        state.events.push(Event::Link { folder: ROOT, name: "new".into(), node: FILE });
        state.events.push(Event::Rename { folder: ROOT, from: "new".into(), to: "newer".into() });
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let Image::Folder(names) = after(&state, state.events.len(), Loss::Prefix, seed) else {
                panic!("a folder")
            };
            seen.insert(names.into_keys().collect::<Vec<_>>());
        }
        let both = |name: &str| vec![OsString::from("file"), name.into()];
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [vec!["file".into()], both("new"), both("newer")]);
    }
}
