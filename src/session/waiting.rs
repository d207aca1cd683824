//! `Waiting`: clients that wait for a key to change (BLPOP, XREAD BLOCK, …), in the order they came.
//!
//! Whoever changes a key serves those that wait for it, oldest first, before it goes on: so the order is that of Redis and no
//! client polls. A wait is entered while the key's partition is still locked, so that no change falls between looking and
//! waiting. A ticket is claimed by whoever is about to serve it or to end it; only one of both gets it.

use super::client::Client;
use super::multi::Queued;
use crate::base::concern::WriteConcern;
use crate::protocol::reply::Reply;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A key of a database.
pub type DatabaseKey = (u16, Box<[u8]>);

/// A command that waits.
pub struct Ticket {
    /// Whose it is.
    pub client: Arc<Client>,
    /// The words to run again.
    pub words: Queued,
    /// The database that was selected.
    pub database: u16,
    /// What it waits for.
    pub keys: Vec<DatabaseKey>,
    /// What it gets when its time is up.
    pub on_timeout: Reply,
    /// On how many nodes its change is to be stored before it is acknowledged.
    pub concern: WriteConcern,
    is_claimed: AtomicBool,
}

impl Ticket {
    /// A ticket that nobody has claimed.
    pub fn new(
        client: Arc<Client>,
        words: Queued,
        database: u16,
        keys: Vec<DatabaseKey>,
        on_timeout: Reply,
        concern: WriteConcern,
    ) -> Ticket {
        Ticket { client, words, database, keys, on_timeout, concern, is_claimed: AtomicBool::new(false) }
    }

    /// Takes the right to serve or to end it; false if another has it.
    pub fn claim(&self) -> bool {
        !self.is_claimed.swap(true, Ordering::AcqRel)
    }

    /// Gives that right back: it waits on.
    pub fn release(&self) {
        self.is_claimed.store(false, Ordering::Release);
    }
}

/// All waiting commands, by the keys they wait for.
#[derive(Default)]
pub struct Waiting {
    by_key: Mutex<HashMap<DatabaseKey, Vec<Arc<Ticket>>>>,
    keys: AtomicUsize,
}

impl Waiting {
    /// Whether nobody waits: the one load that a change pays.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.keys.load(Ordering::Acquire) == 0
    }

    /// Enters a ticket. To be called while the partitions of its keys are locked.
    pub fn add(&self, ticket: &Arc<Ticket>) {
        let mut by_key = self.by_key.lock();
        for key in &ticket.keys {
            by_key.entry(key.clone()).or_default().push(Arc::clone(ticket));
        }
        self.keys.store(by_key.len(), Ordering::Release);
    }

    /// Removes a ticket that was served or ended.
    pub fn remove(&self, ticket: &Arc<Ticket>) {
        let mut by_key = self.by_key.lock();
        for key in &ticket.keys {
            if let Some(tickets) = by_key.get_mut(key) {
                tickets.retain(|other| !Arc::ptr_eq(other, ticket));
                if tickets.is_empty() {
                    by_key.remove(key);
                }
            }
        }
        self.keys.store(by_key.len(), Ordering::Release);
    }

    /// Who waits for a key, oldest first.
    pub fn for_key(&self, database: u16, name: &[u8]) -> Vec<Arc<Ticket>> {
        self.by_key.lock().get(&(database, name.into())).cloned().unwrap_or_default()
    }

    /// All keys that somebody waits for.
    pub fn keys(&self) -> Vec<DatabaseKey> {
        self.by_key.lock().keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::args::Args;
    use crate::session::client::Peer;

    fn ticket(keys: &[&str]) -> Arc<Ticket> {
        let client = Arc::new(Client::new(1, Peer::default(), 0, Arc::default()));
        let keys = keys.iter().map(|key| (0, key.as_bytes().into())).collect();
        let words = Queued::copy_from(Args::new(b"", &[]));
        Arc::new(Ticket::new(client, words, 0, keys, Reply::NullArray, WriteConcern::Local))
    }

    #[test]
    fn tickets_keep_their_order_and_leave_nothing_behind() {
        let waiting = Waiting::default();
        let (first, second) = (ticket(&["a", "b"]), ticket(&["a"]));
        waiting.add(&first);
        waiting.add(&second);
        let order = waiting.for_key(0, b"a");
        assert!(Arc::ptr_eq(&order[0], &first) && Arc::ptr_eq(&order[1], &second));
        assert!(waiting.for_key(1, b"a").is_empty());
        waiting.remove(&first);
        waiting.remove(&second);
        assert!(waiting.is_empty() && waiting.keys().is_empty());
    }

    #[test]
    fn only_one_claims() {
        let ticket = ticket(&["a"]);
        assert!(ticket.claim() && !ticket.claim());
        ticket.release();
        assert!(ticket.claim());
    }
}
