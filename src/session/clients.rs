//! `Clients`: who is connected.

use super::client::{Client, Peer};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The connected clients, in order of their numbers.
#[derive(Default)]
pub struct Clients {
    connected: Mutex<BTreeMap<u64, Arc<Client>>>,
    count: AtomicUsize,
    last_id: AtomicU64,
    received: AtomicU64,
    rejected: AtomicU64,
    blocked: AtomicUsize,
}

impl Clients {
    /// Registers a new client, unless there are `limit` already.
    pub fn register(&self, peer: Peer, now_ms: i64, limit: usize) -> Option<Arc<Client>> {
        self.received.fetch_add(1, Ordering::Relaxed);
        let mut connected = self.connected.lock();
        if connected.len() >= limit {
            self.rejected.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let client = Arc::new(Client::new(self.last_id.fetch_add(1, Ordering::Relaxed) + 1, peer, now_ms));
        connected.insert(client.id, Arc::clone(&client));
        self.count.store(connected.len(), Ordering::Relaxed);
        Some(client)
    }

    /// Forgets a client.
    pub fn remove(&self, id: u64) {
        let mut connected = self.connected.lock();
        connected.remove(&id);
        self.count.store(connected.len(), Ordering::Relaxed);
    }

    /// The client with this number.
    pub fn get(&self, id: u64) -> Option<Arc<Client>> {
        self.connected.lock().get(&id).cloned()
    }

    /// All of them, oldest first.
    pub fn list(&self) -> Vec<Arc<Client>> {
        self.connected.lock().values().cloned().collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// How many there were since the start, refused ones included.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// How many were refused because of `maxclients`.
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// How many wait in a blocking command or for the end of a pause.
    pub fn blocked(&self) -> usize {
        self.blocked.load(Ordering::Relaxed)
    }

    /// One more waits.
    pub fn note_blocked(&self) {
        self.blocked.fetch_add(1, Ordering::Relaxed);
    }

    /// One of them waits no more.
    pub fn note_unblocked(&self) {
        self.blocked.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_and_numbers_grow() {
        let clients = Clients::default();
        let first = clients.register(Peer::default(), 0, 1).expect("room");
        assert!(clients.register(Peer::default(), 0, 1).is_none());
        clients.remove(first.id);
        assert!(clients.register(Peer::default(), 0, 1).expect("room again").id > first.id);
        assert_eq!((clients.count(), clients.received(), clients.rejected()), (1, 3, 1));
    }
}
