//! `Watches`: keys that clients of other nodes watch here, until their EXEC comes or they lose interest.
//!
//! A node that ends cannot say so; so what nobody asks for is forgotten after a while, and the EXEC that comes for it then fails as if a
//! key had changed, which is what WATCH allows. The same goes for all of them when this node stops to be the primary.

use super::message::WatchId;
use crate::base::clock;
use crate::session::watch::Watched;
use crate::store::Store;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// How many may be kept.
const KEPT_MAX: usize = 16_384;
/// For how long at most.
const KEPT_TIME: Duration = Duration::from_mins(10);

struct Kept {
    watched: Watched,
    /// The term in which the first key was watched: see [`crate::replication::Replication::term`].
    term: u64,
    since: Instant,
}

#[derive(Default)]
struct All {
    by_id: HashMap<WatchId, Kept>,
    /// In the order they came; some are gone.
    order: VecDeque<(WatchId, Instant)>,
}

/// See the module.
#[derive(Default)]
pub struct Watches(Mutex<All>);

impl Watches {
    /// Takes out what is watched under this name, if that holds in this term.
    pub fn take(&self, id: WatchId, term: u64, store: &Store) -> Option<Watched> {
        let kept = self.0.lock().by_id.remove(&id)?;
        if kept.term == term {
            return Some(kept.watched);
        }
        end(kept, store);
        None
    }

    /// Keeps what is watched since this term, and forgets what has been here for too long.
    pub fn keep(&self, id: WatchId, watched: Watched, term: u64, store: &Store) {
        let mut all = self.0.lock();
        let since = Instant::now();
        let mut over = Vec::new();
        while all.order.len() >= KEPT_MAX
            || all.order.front().is_some_and(|(_, kept)| since.duration_since(*kept) > KEPT_TIME)
        {
            let Some((old, kept)) = all.order.pop_front() else { break };
            if all.by_id.get(&old).is_some_and(|found| found.since == kept) {
                over.extend(all.by_id.remove(&old));
            }
        }
        all.order.push_back((id, since));
        over.extend(all.by_id.insert(id, Kept { watched, term, since }));
        drop(all);
        over.into_iter().for_each(|kept| end(kept, store));
    }

    /// Forgets what is watched under these names.
    pub fn forget(&self, ids: &[WatchId], store: &Store) {
        for id in ids {
            let kept = self.0.lock().by_id.remove(id);
            kept.into_iter().for_each(|kept| end(kept, store));
        }
    }

    /// Under how many names something is watched.
    pub fn len(&self) -> usize {
        self.0.lock().by_id.len()
    }

    /// Whether nothing is watched.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn end(mut kept: Kept, store: &Store) {
    kept.watched.clear(store, clock::unix_ms());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_and_of_its_term() {
        let (watches, store) = (Watches::default(), Store::in_memory(1, 1));
        for id in 0..KEPT_MAX as u128 + 10 {
            watches.keep(WatchId(id), Watched::default(), 1, &store);
        }
        assert_eq!(watches.len(), KEPT_MAX);
        assert!(
            watches.take(WatchId(9), 1, &store).is_none() && watches.take(WatchId(10), 1, &store).is_some()
        );
        assert!(
            watches.take(WatchId(11), 2, &store).is_none() && watches.take(WatchId(11), 1, &store).is_none()
        );
        watches.forget(&[WatchId(12), WatchId(12)], &store);
        assert_eq!(watches.len(), KEPT_MAX - 3);
    }
}
