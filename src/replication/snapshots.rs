//! `Snapshots`: those that were made and may be wanted again, because their transfer was interrupted or another follower needs
//! the same.

use super::storage::{Outgoing, Storage};
use crate::base::ids::{Lsn, PartitionId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long a snapshot is kept after it was last asked for: long enough for a link that broke, or a server that was started again.
const KEPT: Duration = Duration::from_mins(2);
/// A snapshot that was made so long ago is given to followers that begin, too; older ones only to whom goes on with them.
const SHARED: Duration = Duration::from_secs(10);
/// Where numbers of readers of the journal begin that stand for a snapshot: links count from 1.
const FIRST_PIN: u64 = 1 << 63;

/// A snapshot, and since when.
struct Kept {
    snapshot: Arc<dyn Outgoing>,
    made: Instant,
    asked: Instant,
    pin: u64,
    /// Of which history of the partition it is: see [`Storage::replacements`].
    history: u64,
}

#[derive(Default)]
struct All {
    /// By partition, one of each.
    kept: BTreeMap<PartitionId, Kept>,
    /// Pins of those that a newer one has replaced: whoever has got one still needs the records behind it.
    pins: Vec<(u64, Instant)>,
}

/// Snapshots by partition, one of each.
pub struct Snapshots {
    all: Mutex<All>,
    pins: AtomicU64,
    kept_for: Duration,
    shared_for: Duration,
}

impl Default for Snapshots {
    fn default() -> Snapshots {
        Snapshots::new(KEPT, SHARED)
    }
}

impl Snapshots {
    /// None so far. Each is kept for so long after it was asked for, and given to followers that begin for so long after it was
    /// made.
    pub fn new(kept_for: Duration, shared_for: Duration) -> Snapshots {
        Snapshots { all: Mutex::default(), pins: AtomicU64::new(0), kept_for, shared_for }
    }

    /// How often to look for old ones.
    pub fn pause(&self) -> Duration {
        self.kept_for / 4
    }

    /// The snapshot number `resume` of the partition if it is still there, or a new one, or one made a moment ago, of transaction
    /// `at_least` or later: nobody goes back behind what he has of this history. It is of the partition's `history`, or an error is
    /// given. While it is made, others wait: one at a time is what the disk can do.
    pub async fn take(
        &self,
        storage: &dyn Storage,
        partition: PartitionId,
        resume: Option<u64>,
        at_least: Lsn,
        history: u64,
    ) -> Result<Arc<dyn Outgoing>, String> {
        let mut all = self.all.lock().await;
        if let Some(known) = all.kept.get_mut(&partition) {
            let is_resumed = resume == Some(known.snapshot.offer().id);
            let is_enough = known.snapshot.offer().point.lsn >= at_least && known.history == history;
            if is_enough && (is_resumed || known.made.elapsed() < self.shared_for) {
                known.asked = Instant::now();
                return Ok(Arc::clone(&known.snapshot));
            }
        }
        if let Some(old) = all.kept.remove(&partition) {
            all.pins.push((old.pin, old.asked));
        }
        let pin = FIRST_PIN + self.pins.fetch_add(1, Ordering::Relaxed);
        // What is committed while it is made must still be there when it has arrived.
        let written = *storage.written().borrow(); // whoever tells a new position waits for the end of a borrow
        storage.pin(pin, Some(written));
        let mut made = storage.take_snapshot(partition).await;
        if storage.replacements(partition) != history {
            made = Err("another history took its place meanwhile".into());
        }
        match &made {
            Ok(snapshot) => {
                storage.pin(pin, Some(snapshot.position()));
                let (snapshot, now) = (Arc::clone(snapshot), Instant::now());
                all.kept.insert(partition, Kept { snapshot, made: now, asked: now, pin, history });
            }
            Err(_) => storage.pin(pin, None),
        }
        made
    }

    /// Drops those that nobody has asked for in a while.
    pub async fn forget_old(&self, storage: &dyn Storage) {
        let mut all = self.all.lock().await;
        let is_recent = |asked: Instant| asked.elapsed() < self.kept_for;
        all.kept.retain(|_, known| {
            let stays = is_recent(known.asked) || Arc::strong_count(&known.snapshot) > 1;
            if !stays {
                storage.pin(known.pin, None);
            }
            stays
        });
        all.pins.retain(|(pin, asked)| {
            let stays = is_recent(*asked);
            if !stays {
                storage.pin(*pin, None);
            }
            stays
        });
    }
}
