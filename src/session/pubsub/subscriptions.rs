//! `Subscriptions`: what one session listens to.

use super::Listening;
use bytes::Bytes;
use std::collections::BTreeSet;

/// What a name takes besides its bytes: here, and in the table of all who listen.
const NAME_OVERHEAD: usize = 160;

/// What one session listens to. Names are in order, so that leaving all of them is told in an order that can be foreseen.
#[derive(Default)]
pub struct Subscriptions {
    names: [BTreeSet<Bytes>; 3],
    bytes: usize,
}

impl Subscriptions {
    /// Whether it listens to nothing: what each command asks.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Channels, patterns, sharded channels.
    pub fn counts(&self) -> (usize, usize, usize) {
        let [channels, patterns, shards] = &self.names;
        (channels.len(), patterns.len(), shards.len())
    }

    /// The number that replies to beginning and ending give: sharded channels are counted apart.
    pub fn count(&self, listening: Listening) -> usize {
        let (channels, patterns, shards) = self.counts();
        if listening == Listening::Shard { shards } else { channels + patterns }
    }

    /// Bytes that all of it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// All names of one kind.
    pub fn names(&self, listening: Listening) -> Vec<Bytes> {
        self.names[listening.index()].iter().cloned().collect()
    }

    /// Adds a name. Returns it as it is kept, unless it was there.
    pub(super) fn add(&mut self, listening: Listening, name: &[u8]) -> Option<Bytes> {
        let names = &mut self.names[listening.index()];
        if names.contains(name) {
            return None;
        }
        let kept = Bytes::copy_from_slice(name);
        names.insert(kept.clone());
        self.bytes += name.len() + NAME_OVERHEAD;
        Some(kept)
    }

    /// Removes a name. False if it was not there.
    pub(super) fn remove(&mut self, listening: Listening, name: &[u8]) -> bool {
        let was_there = self.names[listening.index()].remove(name);
        if was_there {
            self.bytes -= name.len() + NAME_OVERHEAD;
        }
        was_there
    }
}
