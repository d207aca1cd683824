//! The store's own threads: the journal's, and the checkpointer, which also sweeps the cache and removes garbage.

use super::table::Cell;
use super::transaction::CLOCK_START_S;
use super::{Refusal, Store, eviction};
use crate::base::clock::unix_ms;
use crate::base::ids::PartitionId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the checkpointer looks.
const TICK: Duration = Duration::from_millis(20);
/// Buckets the cache sweep looks at under one hold of a lock: some 20 microseconds.
pub const SWEEP_BUCKETS: usize = 1024;
/// Under a load that keeps checkpoints due all the time, garbage is collected after so many of them.
const GARBAGE_ROUNDS: u32 = 16;
/// Overlays larger than this many times their limit hold writers up until the checkpoints have caught up.
const OVERLAY_EXCESS: u64 = 4;
/// Ticks between attempts after failed checkpoints.
const RETRY_TICKS: u32 = 50;
/// With a full disk, seconds after which even a small overlay is checkpointed: the journal may then give up segments.
const AGE_WHEN_FULL_S: u32 = 1;

/// The store's threads; dropped or stopped, they end.
pub struct Background {
    store: Arc<Store>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Background {
    /// Starts the threads of `store`.
    pub fn start(store: &Arc<Store>) -> std::io::Result<Background> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut background = Background { store: Arc::clone(store), stop, threads: Vec::new() };
        background.spawn("journal", |store, stop| {
            if let Some(journal) = &store.journal {
                journal.run(stop);
            }
        })?;
        background.spawn("checkpoint", run_checkpoints)?;
        background.spawn("warm-up", |store, stop| {
            store.warm(stop);
            // Damage is remembered and logged where it is found; here is nobody to tell.
            let _ = store.check_trees(stop);
        })?;
        Ok(background)
    }

    fn spawn(&mut self, name: &str, run: fn(&Store, &AtomicBool)) -> std::io::Result<()> {
        let (store, stop) = (Arc::clone(&self.store), Arc::clone(&self.stop));
        let guarded = move || {
            // A broken invariant here must not leave a server that goes on without its checkpoints.
            let run = std::panic::AssertUnwindSafe(|| run(&store, &stop));
            if std::panic::catch_unwind(run).is_err() {
                tracing::error!(
                    "a thread of the store has panicked: the process ends, the journal has everything"
                );
                std::process::abort();
            }
        };
        let thread = std::thread::Builder::new().name(name.into()).spawn(guarded)?;
        self.threads.push(thread);
        Ok(())
    }

    /// Ends the threads and waits for them.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(journal) = &self.store.journal {
            journal.wake();
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the store ended by a panic");
            }
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run_checkpoints(store: &Store, stop: &AtomicBool) {
    let (mut wait_ticks, mut rounds) = (0_u32, 0_u32);
    // Partitions whose checkpoint has failed in this round: the others get their turn before they are tried again.
    let mut failed: Vec<PartitionId> = Vec::new();
    let mut garbage = Garbage::default();
    while !stop.load(Ordering::Acquire) {
        store.tick_clock();
        wait_ticks = wait_ticks.saturating_sub(1);
        let due = if wait_ticks == 0 { store.due_for_checkpoint(&failed) } else { None };
        let checkpointed = due.map(|(id, saves)| store.checkpoint_and_note(id, saves).is_ok());
        if let (Some((id, _)), Some(false)) = (due, checkpointed) {
            failed.push(id);
        }
        if due.is_none() && !failed.is_empty() {
            failed.clear();
            wait_ticks = RETRY_TICKS;
        }
        rounds = rounds.wrapping_add(1);
        let mut worked = checkpointed.is_some();
        worked |= store.sweep_cache();
        if due.is_none() || rounds.is_multiple_of(GARBAGE_ROUNDS) {
            worked |= garbage.collect_some(store);
        }
        if !worked {
            std::thread::park_timeout(TICK);
        }
    }
}

/// Rows removed in one LMDB transaction.
const GARBAGE_ROWS: usize = 20_000;
/// The same at least, where the disk has no room for the pages that a removal needs before it gives others back.
const GARBAGE_ROWS_MIN: usize = 32;

/// The removal of rows that are nobody's.
struct Garbage {
    /// Rows to remove at a time.
    rows: usize,
    wait_ticks: u32,
    /// What was said last of why it waits.
    error: Option<String>,
}

impl Default for Garbage {
    fn default() -> Garbage {
        Garbage { rows: GARBAGE_ROWS, wait_ticks: 0, error: None }
    }
}

impl Garbage {
    /// Removes some. Returns whether there may be more that can be removed.
    fn collect_some(&mut self, store: &Store) -> bool {
        self.wait_ticks = self.wait_ticks.saturating_sub(1);
        if self.wait_ticks > 0 {
            return false;
        }
        let (mut more, mut error) = (false, None);
        for id in 0..store.partition_count() {
            match store.collect_garbage(PartitionId(id), self.rows) {
                Ok(any) => more |= any,
                Err(failure) => error = Some(failure.0),
            }
        }
        if error.is_some() {
            if self.error.is_none() {
                tracing::warn!("garbage waits: {}", error.as_deref().unwrap_or_default());
            }
            if self.rows == GARBAGE_ROWS_MIN {
                self.wait_ticks = RETRY_TICKS;
            }
            self.rows = (self.rows / 4).max(GARBAGE_ROWS_MIN);
        } else {
            self.rows = (self.rows * 2).min(GARBAGE_ROWS);
        }
        self.error = error;
        more
    }
}

impl Store {
    /// Advances the clocks that accesses are noted by.
    pub(super) fn tick_clock(&self) {
        let seconds = self.started.elapsed().as_secs() as u32 + 1;
        let now = if self.lfu.load(Ordering::Relaxed) {
            (unix_ms() / 60_000) as u32
        } else {
            CLOCK_START_S + seconds
        };
        self.access_now.store(now, Ordering::Relaxed);
        self.clock_s.store(seconds, Ordering::Relaxed);
    }

    /// The partition that should be checkpointed next, if one should that is not in `failed`, and whether because of what was
    /// written: the rows of a flushed database are to leave the tree soon, but that saves nothing.
    fn due_for_checkpoint(&self, failed: &[PartitionId]) -> Option<(PartitionId, bool)> {
        if self.damage.get().is_some() {
            return None;
        }
        let options = self.options.load();
        let journal = self.journal.as_ref()?;
        if journal.failure().is_some() {
            return None; // no tree may know what the journal may have lost
        }
        let is_full = matches!(self.refusal(), Some(Refusal::DiskFull));
        let age_s = if is_full { AGE_WHEN_FULL_S } else { options.checkpoint_age_s };
        // Read first: a partition may be written to afterwards, so that its oldest change is behind this.
        let (position, now) = (journal.appended(), self.clock_s.load(Ordering::Relaxed));
        let mut overlay = 0;
        let (mut oldest, mut largest, mut emptied) = (None, None, None);
        for (id, partition) in self.partitions.iter().enumerate() {
            let partition = partition.lock();
            let Some(since) = partition.dirty_since else { continue };
            overlay += partition.dirty_bytes as u64;
            if failed.contains(&PartitionId(id as u16)) {
                continue;
            }
            oldest = oldest.min(Some((since, id))).or(Some((since, id)));
            largest = largest.max(Some((partition.dirty_bytes, id)));
            if !partition.emptied.is_empty() {
                emptied = Some(id);
            }
        }
        // Without room nobody makes it grow, and what would shrink it must not wait.
        self.set_overloaded(!is_full && overlay > options.checkpoint_overlay_bytes * OVERLAY_EXCESS);
        let ((since, second), oldest) = oldest?;
        let id = if emptied.is_some() {
            emptied
        } else if position.saturating_sub(since) > options.checkpoint_journal_bytes {
            Some(oldest)
        } else if overlay > options.checkpoint_overlay_bytes {
            largest.map(|(_, id)| id)
        } else {
            (now.saturating_sub(second) >= age_s).then_some(oldest)
        };
        id.map(|id| (PartitionId(id as u16), emptied.is_none()))
    }

    /// Notes whether writers must wait for the checkpoints; lets them go on if not.
    fn set_overloaded(&self, overloaded: bool) {
        if self.overloaded.swap(overloaded, Ordering::AcqRel) != overloaded {
            tracing::info!("writers wait for checkpoints: {overloaded}");
        }
    }

    /// Frees memory of clean rows beyond the cache's size, the longest unused first, more or less. Returns whether there is
    /// more to do.
    fn sweep_cache(&self) -> bool {
        let limit = self.options.load().row_cache_bytes;
        let mut memory: u64 =
            self.partitions.iter().map(|partition| partition.lock().memory_bytes() as u64).sum();
        if memory <= limit || self.journal.is_none() {
            self.sweep_age.store(u32::MAX, Ordering::Relaxed);
            return false;
        }
        let now = self.access_now.load(Ordering::Relaxed);
        let lfu = self.lfu.load(Ordering::Relaxed);
        // Each round that frees too little takes younger rows.
        let oldest = if lfu { now } else { now - CLOCK_START_S };
        let age = self.sweep_age.load(Ordering::Relaxed).min(oldest) / 2;
        self.sweep_age.store(age, Ordering::Relaxed);
        let mut freed_any = false;
        for partition in &self.partitions {
            let buckets = partition.lock().buckets();
            for _ in 0..buckets.div_ceil(SWEEP_BUCKETS) {
                if memory <= limit {
                    return false;
                }
                let should_go = |cell: &Cell| {
                    if lfu {
                        eviction::lfu_decayed(cell.access, now) <= 255 - age.min(255)
                    } else {
                        now.saturating_sub(cell.access) >= age
                    }
                };
                let freed = partition.lock().sweep(SWEEP_BUCKETS, should_go) as u64;
                freed_any |= freed > 0;
                memory = memory.saturating_sub(freed);
            }
        }
        memory > limit && (freed_any || age > 0)
    }
}
