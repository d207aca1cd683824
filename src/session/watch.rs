//! `Watched`: the keys a session watches until EXEC, DISCARD or UNWATCH.
//!
//! The store raises the session's flag when one of them changes. A key that was there and has expired since counts as
//! changed too, though nothing was written: that is why each remembers whether it was there.

use super::forwarding::message::WatchId;
use crate::base::ids::NodeId;
use crate::store::{Key, PartitionSet, Store, WatchFlag};
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a watched key takes here and in the store, without its name.
const KEY_LEN: usize = std::mem::size_of::<WatchedKey>() + 64;

/// A key that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedKey {
    /// The database that was selected.
    pub database: u16,
    /// Its name.
    pub name: Box<[u8]>,
    /// Whether it existed.
    pub existed: bool,
}

/// Keys that are watched at the node that is their primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// The name they are watched under.
    pub id: WatchId,
    /// The node; none before it has answered.
    pub node: Option<NodeId>,
    /// The partitions they are in.
    pub needs: PartitionSet,
    /// Some are watched by nobody any more, as another node became primary: they count as changed.
    pub is_lost: bool,
}

/// The keys a session watches.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    keys: Vec<WatchedKey>,
    bytes: usize,
    flag: WatchFlag,
    /// Those that another node watches.
    pub elsewhere: Option<Elsewhere>,
    /// Names of which nodes are still to be told that they are of no interest.
    pub forgotten: Vec<(NodeId, WatchId)>,
}

impl Watched {
    /// Whether nothing is watched here.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Bytes that watching takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The keys.
    pub fn keys(&self) -> &[WatchedKey] {
        &self.keys
    }

    /// What the store raises.
    pub fn flag(&self) -> &WatchFlag {
        &self.flag
    }

    /// Whether one of them was changed.
    pub fn is_dirty(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// Whether this key is watched already.
    pub fn contains(&self, key: &Key) -> bool {
        self.keys.iter().any(|watched| watched.database == key.database && *watched.name == *key.name)
    }

    /// Remembers a key; the store was told by the caller, under the lock.
    pub fn push(&mut self, key: &Key, existed: bool) {
        self.keys.push(WatchedKey { database: key.database, name: key.name.into(), existed });
        self.bytes += KEY_LEN + key.name.len();
    }

    /// The partitions they are in.
    pub fn partitions(&self, store: &Store) -> PartitionSet {
        let ids: SmallVec<_> =
            self.keys.iter().map(|key| store.partition_of(Key::new(key.database, &key.name).slot)).collect();
        PartitionSet::of(ids)
    }

    /// Ends the watch over all of them.
    pub fn clear(&mut self, store: &Store, now_ms: i64) {
        if let Some(Elsewhere { id, node: Some(node), .. }) = self.elsewhere.take() {
            self.forgotten.push((node, id));
        }
        if self.keys.is_empty() {
            return;
        }
        self.bytes = 0;
        for watched in self.keys.drain(..) {
            let key = Key::new(watched.database, &watched.name);
            let mut view = store.view(&PartitionSet::One(store.partition_of(key.slot)), now_ms);
            view.unwatch(&key, &self.flag);
        }
        // A new flag: nobody has the old one any more, but that is the store's business, not ours to rely on.
        self.flag = Arc::default();
    }
}
