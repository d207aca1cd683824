//! `Waiting`: clients that wait for a key to change (BLPOP, XREAD BLOCK, …), in the order they came.
//!
//! Whoever changes a key serves those that wait for it, oldest first, before the key's partition is unlocked: so the order is that of
//! Redis, nobody who comes by takes what is for them, and no client polls. A wait is entered while its keys' partitions are locked, so
//! that no change falls between looking and waiting. A ticket is claimed by whoever is about to serve it or to end it; only one of
//! both gets it.

use super::client::Client;
use super::forwarding::message::RequestId;
use super::multi::Queued;
use crate::base::concern::WriteConcern;
use crate::protocol::encode::Version;
use crate::protocol::reply::Reply;
use crate::store::Kind;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::time::Instant;

/// A key of a database.
pub type DatabaseKey = (u16, Box<[u8]>);

/// Since when somebody waits, on the clock of [`now_us`], and a number that grows: no two are the same.
pub type Place = (u64, u64);

/// What the clock says when a process starts: some have waited for long at other nodes before.
const START_US: u64 = 1 << 52;

/// The clock by which it is told who waits longest, in microseconds. It is that of timeouts, so that tests can move it.
pub fn now_us() -> u64 {
    static START: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
    let (start, now) = (*START, Instant::now().into_std());
    let us = |duration: Duration| duration.as_micros() as u64;
    match now.checked_duration_since(start) {
        Some(later) => START_US + us(later),
        None => START_US - us(start.duration_since(now)), // a clock that stands still in a test
    }
}

/// A command that waits.
pub struct Ticket {
    /// Whose it is.
    pub client: Arc<Client>,
    /// The words to run again.
    pub words: Queued,
    /// The database that was selected.
    pub database: u16,
    /// The type of value that it waits for.
    pub kind: Kind,
    /// What it waits for.
    pub keys: Vec<DatabaseKey>,
    /// What else it changes when it is served.
    pub target: Option<DatabaseKey>,
    /// What it gets when its time is up.
    pub on_timeout: Reply,
    /// On how many nodes its change is to be stored before it is acknowledged.
    pub concern: WriteConcern,
    /// The version of the protocol that its client speaks.
    pub version: Version,
    /// The request of another node that it carries out.
    pub answering: Option<RequestId>,
    /// Where it stands among those who wait.
    pub place: Place,
    /// Whether somebody is about to serve or to end it.
    pub is_claimed: AtomicBool,
}

impl Ticket {
    /// For how long it has waited, in milliseconds.
    pub fn waited_ms(&self) -> u64 {
        now_us().saturating_sub(self.place.0) / 1000
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

/// Who waits for a key.
#[derive(Default)]
struct Queue {
    tickets: BTreeMap<Place, Arc<Ticket>>,
    /// How many of them change another key as well.
    with_target: usize,
}

#[derive(Default)]
struct All {
    queues: HashMap<DatabaseKey, Queue>,
    /// Keys that are changed when somebody is served, and how often each.
    targets: HashMap<DatabaseKey, usize>,
}

/// All waiting commands, by the keys they wait for.
#[derive(Default)]
pub struct Waiting {
    all: Mutex<All>,
    keys: AtomicUsize,
    places: AtomicU64,
}

impl Waiting {
    /// Whether nobody waits: the one load that a change pays.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.keys.load(Ordering::Acquire) == 0
    }

    /// The place of somebody who waits since then.
    pub fn place(&self, since_us: u64) -> Place {
        (since_us, self.places.fetch_add(1, Ordering::Relaxed))
    }

    /// Enters a ticket. To be called while the partitions of its keys are locked.
    pub fn add(&self, ticket: &Arc<Ticket>) {
        let mut all = self.all.lock();
        for key in &ticket.keys {
            let queue = all.queues.entry(key.clone()).or_default();
            let is_new = queue.tickets.insert(ticket.place, Arc::clone(ticket)).is_none();
            queue.with_target += usize::from(is_new && ticket.target.is_some());
        }
        if let Some(target) = &ticket.target {
            *all.targets.entry(target.clone()).or_default() += 1;
        }
        self.keys.store(all.queues.len(), Ordering::Release);
    }

    /// Removes a ticket that was served or ended.
    pub fn remove(&self, ticket: &Arc<Ticket>) {
        let mut all = self.all.lock();
        let mut was_there = false;
        for key in &ticket.keys {
            let Some(queue) = all.queues.get_mut(key) else { continue };
            if queue.tickets.remove(&ticket.place).is_some() {
                was_there = true;
                queue.with_target -= usize::from(ticket.target.is_some());
            }
            if queue.tickets.is_empty() {
                all.queues.remove(key);
            }
        }
        if let Some(target) = ticket.target.as_ref().filter(|_| was_there)
            && let Some(count) = all.targets.get_mut(target)
        {
            *count -= 1;
            if *count == 0 {
                all.targets.remove(target);
            }
        }
        self.keys.store(all.queues.len(), Ordering::Release);
    }

    /// Who waits for a key the longest, of those behind a place.
    pub fn next(&self, key: &DatabaseKey, behind: Option<Place>) -> Option<Arc<Ticket>> {
        let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
        let all = self.all.lock();
        let (_, ticket) = all.queues.get(key)?.tickets.range((from, Bound::Unbounded)).next()?;
        Some(Arc::clone(ticket))
    }

    /// Whether somebody waits for this key.
    pub fn is_awaited(&self, key: &DatabaseKey) -> bool {
        self.all.lock().queues.contains_key(key)
    }

    /// The keys of a database that somebody waits for.
    pub fn keys_of(&self, database: u16) -> Vec<DatabaseKey> {
        self.all.lock().queues.keys().filter(|(number, _)| *number == database).cloned().collect()
    }

    /// The keys that may be changed by serving those who wait for `ready`, and those who wait for what these change.
    pub fn targets<'a>(&self, mut ready: impl Iterator<Item = &'a DatabaseKey>) -> Vec<DatabaseKey> {
        let all = self.all.lock();
        if ready.any(|key| all.queues.get(key).is_some_and(|queue| queue.with_target > 0)) {
            all.targets.keys().cloned().collect()
        } else {
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::args::Args;
    use crate::session::client::Peer;

    fn ticket(waiting: &Waiting, since_us: u64, keys: &[&str], target: Option<&str>) -> Arc<Ticket> {
        let key = |name: &str| -> DatabaseKey { (0, name.as_bytes().into()) };
        let ticket = Arc::new(Ticket {
            client: Arc::new(Client::new(1, Peer::default(), 0, Arc::default())),
            words: Queued::copy_from(Args::new(b"", &[])),
            database: 0,
            kind: Kind::List,
            keys: keys.iter().map(|name| key(name)).collect(),
            target: target.map(key),
            on_timeout: Reply::NullArray,
            concern: WriteConcern::Local,
            version: Version::Resp2,
            answering: None,
            place: waiting.place(since_us),
            is_claimed: AtomicBool::new(false),
        });
        waiting.add(&ticket);
        ticket
    }

    #[test]
    fn who_waits_longest_is_first_and_nothing_stays_behind() {
        let waiting = Waiting::default();
        let second = ticket(&waiting, 20, &["a", "b"], None);
        let third = ticket(&waiting, 20, &["a"], Some("c"));
        let first = ticket(&waiting, 10, &["a", "a"], None);
        let key = |name: &str| -> DatabaseKey { (0, name.as_bytes().into()) };
        let mut order = Vec::new();
        while let Some(next) = waiting.next(&key("a"), order.last().map(|last: &Arc<Ticket>| last.place)) {
            order.push(next);
        }
        assert_eq!(order.iter().map(|ticket| ticket.place.0).collect::<Vec<_>>(), [10, 20, 20]);
        assert!(Arc::ptr_eq(&order[1], &second) && Arc::ptr_eq(&order[2], &third));
        assert!(!waiting.is_awaited(&(1, b"a".as_slice().into())) && waiting.keys_of(1).is_empty());
        assert_eq!(waiting.targets([key("a")].iter()), [key("c")]);
        assert!(waiting.targets([key("b")].iter()).is_empty());
        for ticket in [&third, &first, &second, &third] {
            waiting.remove(ticket);
        }
        assert!(waiting.is_empty() && waiting.targets([key("a")].iter()).is_empty());
    }

    #[test]
    fn only_one_claims() {
        let ticket = ticket(&Waiting::default(), 0, &["a"], None);
        assert!(ticket.claim() && !ticket.claim());
        ticket.release();
        assert!(ticket.claim());
    }
}
