//! `Clients`: who is connected, and what all of them take together.
//!
//! `maxmemory-clients` bounds that sum: when it is exceeded, those that take most are closed, largest first, but for those that
//! asked to be spared. Who is closed by others leaves the registry at once, so that no list shows a client that is as good as gone.

use super::client::{Client, Peer};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The connected clients, in order of their numbers.
#[derive(Default)]
pub struct Clients {
    connected: Mutex<BTreeMap<u64, Arc<Client>>>,
    memory: Arc<AtomicUsize>,
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
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let client = Arc::new(Client::new(id, peer, now_ms, Arc::clone(&self.memory)));
        connected.insert(client.id, Arc::clone(&client));
        self.count.store(connected.len(), Ordering::Relaxed);
        Some(client)
    }

    /// Forgets a client.
    pub fn remove(&self, client: &Client) {
        let mut connected = self.connected.lock();
        connected.remove(&client.id);
        self.count.store(connected.len(), Ordering::Relaxed);
        client.note_memory(0);
    }

    /// Closes another client's connection: it ends by itself, but is gone from here.
    pub fn close(&self, client: &Client) {
        client.kill();
        self.remove(client);
    }

    /// Bytes that all of them take, as of their last turns.
    pub fn memory(&self) -> u64 {
        self.memory.load(Ordering::Relaxed) as u64
    }

    /// Closes the largest until all together take no more than `limit` bytes or only spared ones are left. Returns how many
    /// were closed.
    pub fn evict(&self, limit: u64) -> u64 {
        let mut candidates = self.list();
        candidates.retain(|client| !client.profile().is_no_evict);
        candidates.sort_by_key(|client| std::cmp::Reverse(client.memory()));
        let mut closed = 0;
        for client in candidates {
            if self.memory() <= limit {
                break;
            }
            tracing::info!(id = client.id, bytes = client.memory(), "closing a client: maxmemory-clients");
            self.close(&client);
            closed += 1;
        }
        closed
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
    use crate::session::client::Profile;

    #[test]
    fn the_limit_holds_and_numbers_grow() {
        let clients = Clients::default();
        let first = clients.register(Peer::default(), 0, 1).expect("room");
        assert!(clients.register(Peer::default(), 0, 1).is_none());
        clients.remove(&first);
        assert!(clients.register(Peer::default(), 0, 1).expect("room again").id > first.id);
        assert_eq!((clients.count(), clients.received(), clients.rejected()), (1, 3, 1));
    }

    #[test]
    fn the_largest_are_closed_until_the_rest_fits() {
        let clients = Clients::default();
        let all = [50, 400, 300, 200].map(|bytes| {
            let client = clients.register(Peer::default(), 0, 9).expect("room");
            client.note_memory(bytes);
            client
        });
        all[1].set_profile(Profile { is_no_evict: true, ..Profile::default() });
        assert_eq!((clients.evict(950), clients.memory()), (0, 950));
        assert_eq!((clients.evict(650), clients.memory()), (1, 650));
        assert!(all[2].is_killed() && clients.get(all[2].id).is_none());
        all[2].note_memory(300); // its connection has not noticed yet
        clients.remove(&all[2]);
        assert_eq!((clients.evict(1), clients.memory()), (2, 400), "who is spared stays");
    }
}
