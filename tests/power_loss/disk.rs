//! The simulated disk: what reached the kernel, in order, and what of it was made durable.
//!
//! A [`Disk`] watches a folder. The calls in [`crate::calls`] do their work for real and tell the disk, both under its lock, so
//! the events stand in the order in which the kernel saw them. What the store promises to its callers is noted among them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A file or folder, whatever it is called just now.
pub type Node = usize;
/// The watched folder itself.
pub const ROOT: Node = 0;

/// Bytes that a message shows the number of.
#[derive(Clone)]
pub struct Bytes(pub Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A name came, in a folder.
    Link { folder: Node, name: OsString, node: Node },
    /// A name went.
    Unlink { folder: Node, name: OsString },
    /// A name became another one in the same folder, in one step.
    Rename { folder: Node, from: OsString, to: OsString },
    /// Two folders in the same folder exchanged their names, in one step.
    Exchange { folder: Node, names: (OsString, OsString) },
    /// Bytes were written; `durable` if the file was opened so that they are on disk when the call returns.
    Write { file: Node, offset: u64, bytes: Bytes, durable: bool },
    /// A file was cut or grew.
    SetLen { file: Node, len: u64 },
    /// Everything written to the file before is durable.
    Sync { file: Node },
    /// Every change of names in the folder before is durable.
    SyncFolder { folder: Node },
    /// The store said that a power loss loses nothing before this journal position.
    Promise { position: u64 },
    /// A client was told that the transaction behind this journal position is stored.
    Acknowledged { position: u64 },
    /// A transaction was written to the journal, not before `begun` and not after `done`.
    Written { position: u64, begun: Instant, done: Instant },
    /// The store was opened.
    Opened,
    /// The process was killed; the kernel keeps what it has and goes on.
    Killed,
}

/// What a file or folder held when the watch began; that is durable.
#[derive(Clone, Debug)]
pub enum Content {
    File(Vec<u8>),
    Folder(BTreeMap<OsString, Node>),
}

/// A lie the disk tells, to show that the tests would notice: a store with the bug behind its name does the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// The journal is never synced.
    JournalNotSynced,
    /// What a start found in the journal is not synced before it is served.
    JournalNotSyncedAtStart,
    /// The trees are written as LMDB does with NO_SYNC.
    TreeNotSynced,
    /// A tree's root becomes durable before the pages it leads to.
    TreeRootBeforePages,
    /// New files are synced, their names are not.
    NamesNotSynced,
    /// Segments are dropped before the checkpoint that makes them needless is on disk.
    SegmentDroppedEarly,
    /// Clients are told that a transaction is stored before the journal is synced. (The workload does this one.)
    AcknowledgedEarly,
    /// That a snapshot's tree took the place of another is not synced. (Only the test of snapshots can notice this one.)
    ExchangeNotSynced,
}

/// A watched folder.
pub struct Disk {
    root: PathBuf,
    lie: Option<Lie>,
    state: Mutex<State>,
}

/// Names as they are now, and how they came to be so.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// What was there at the beginning; nodes made later are behind these, and were empty.
    pub base: Vec<Content>,
    /// What each node is called, and whether it is a folder.
    pub names: Vec<(OsString, bool)>,
    pub events: Vec<Event>,
    /// Names now.
    pub folders: BTreeMap<Node, BTreeMap<OsString, Node>>,
    /// The kernel's numbers of folders.
    pub inodes: BTreeMap<u64, Node>,
}

impl Disk {
    /// Watches `root` from now on.
    pub fn watch(root: &Path, lie: Option<Lie>) -> Arc<Disk> {
        let mut state = State::default();
        take_in(&mut state, root, OsString::new());
        let disk = Arc::new(Disk { root: root.to_path_buf(), lie, state: Mutex::new(state) });
        crate::calls::watch(&disk);
        disk
    }

    /// Ends the watch; the names on disk must be what the events say, and so must the bytes: nothing went by unseen.
    pub fn finish(self: Arc<Disk>) -> State {
        crate::calls::unwatch(&self);
        let state = self.lock().clone();
        let seen = crate::image::newest(&state);
        crate::image::assert_same(&seen, &self.root);
        state
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The disk for the length of one call.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what happened, bent by the lie, if there is one.
    pub fn tell(&self, state: &mut State, event: Event) {
        let event = match self.lie {
            Some(lie) => lie.bend(state, event),
            None => Some(event),
        };
        state.events.extend(event);
    }

    /// Notes what the store or the workload says.
    pub fn note(&self, event: Event) {
        self.lock().events.push(event);
    }
}

impl Lie {
    /// Those that any run notices.
    pub const ALL: [Lie; 7] = [
        Lie::JournalNotSynced,
        Lie::JournalNotSyncedAtStart,
        Lie::TreeNotSynced,
        Lie::TreeRootBeforePages,
        Lie::NamesNotSynced,
        Lie::SegmentDroppedEarly,
        Lie::AcknowledgedEarly,
    ];

    fn bend(self, state: &mut State, event: Event) -> Option<Event> {
        let is_journal = |file: Node| state.names[file].0.to_string_lossy().ends_with(".log");
        let is_tree = |file: Node| state.names[file].0 == "data.mdb";
        let opened = || {
            let mut last = state.events.iter().rev();
            last.find_map(|event| match event {
                Event::Opened => Some(true),
                Event::Killed => Some(false),
                _ => None,
            }) == Some(true)
        };
        match (self, event) {
            (Lie::JournalNotSynced, Event::Sync { file }) if is_journal(file) => None,
            (Lie::JournalNotSyncedAtStart, Event::Sync { file }) if is_journal(file) && !opened() => None,
            (Lie::TreeNotSynced | Lie::TreeRootBeforePages, Event::Sync { file }) if is_tree(file) => None,
            (Lie::TreeNotSynced, Event::Write { file, offset, bytes, .. }) if is_tree(file) => {
                Some(Event::Write { file, offset, bytes, durable: false })
            }
            (Lie::NamesNotSynced, Event::SyncFolder { .. }) => None,
            (Lie::ExchangeNotSynced, Event::SyncFolder { folder })
                if state.names[folder].0 == "partitions" && opened() =>
            {
                None
            }
            (Lie::SegmentDroppedEarly, Event::Unlink { folder, name })
                if name.to_string_lossy().ends_with(".log") =>
            {
                let trees = state.events.iter().rposition(|event| match event {
                    Event::Sync { file } => is_tree(*file),
                    _ => false,
                });
                let at = trees.unwrap_or(state.events.len());
                state.events.insert(at, Event::Unlink { folder, name });
                None
            }
            (_, event) => Some(event),
        }
    }
}

/// Reads what is there into nodes, depth first.
fn take_in(state: &mut State, path: &Path, name: OsString) -> Node {
    let node = state.base.len();
    state.names.push((name, path.is_dir()));
    state.base.push(Content::File(Vec::new()));
    if path.is_dir() {
        let mut names = BTreeMap::new();
        let mut entries: Vec<_> = std::fs::read_dir(path)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        entries.sort();
        for entry in entries {
            let child = take_in(state, &path.join(&entry), entry.clone());
            names.insert(entry, child);
        }
        state.folders.insert(node, names.clone());
        state.inodes.insert(std::fs::metadata(path).expect("a folder").ino(), node);
        state.base[node] = Content::Folder(names);
    } else {
        state.base[node] = Content::File(std::fs::read(path).expect("a file"));
    }
    node
}

impl State {
    /// The folder and the name in it that `path`, below the root, leads to.
    pub fn folder_of(&self, path: &Path) -> Option<(Node, OsString)> {
        let name = path.file_name()?.to_os_string();
        Some((self.find(path.parent()?)?, name))
    }

    /// What `path` leads to.
    pub fn find(&self, path: &Path) -> Option<Node> {
        path.iter().try_fold(ROOT, |folder, name| self.folders.get(&folder)?.get(name).copied())
    }

    /// A new node, not yet called anything.
    pub fn make(&mut self, name: &OsString, is_folder: bool) -> Node {
        let node = self.names.len();
        self.names.push((name.clone(), is_folder));
        if is_folder {
            self.folders.insert(node, BTreeMap::new());
        }
        node
    }

    /// The names in a folder now, to be changed.
    pub fn names_in(&mut self, folder: Node) -> &mut BTreeMap<OsString, Node> {
        self.folders.get_mut(&folder).expect("a folder")
    }
}
