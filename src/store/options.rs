//! What the layers above choose for the store, and what they can ask about it.

use super::durations::CountedDurations;
use super::eviction::Policy;
use super::journal::SyncMode;

/// What can be changed while the store is open.
#[derive(Clone, Debug)]
pub struct Options {
    /// When the journal is synced.
    pub sync: SyncMode,
    /// A journal segment of so many bytes is followed by the next one. What the store was opened with counts.
    pub journal_segment_bytes: u64,
    /// Journal bytes that recovery may have to replay, about: a checkpoint is due beyond.
    pub checkpoint_journal_bytes: u64,
    /// Bytes of rows newer than the trees: a checkpoint is due beyond.
    pub checkpoint_overlay_bytes: u64,
    /// Seconds after which even a small overlay is checkpointed.
    pub checkpoint_age_s: u32,
    /// Bytes of rows kept in memory, dirty ones included if there is room.
    pub row_cache_bytes: u64,
    /// Size of the trees beyond which rows that are not in memory are fetched without the partition's lock; below, once they were read
    /// through after the start, they are read at once. `u64::MAX` never fetches.
    pub fetch_beyond_bytes: u64,
    /// Which keys are evicted, for the access clock.
    pub policy: Policy,
    /// From this follows what nobody outside may guess ([`Transaction::secret_of`](super::Transaction::secret_of)). Tests give one, so that a
    /// run can be repeated.
    pub secret: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            sync: SyncMode::EverySecond,
            journal_segment_bytes: 64 << 20,
            checkpoint_journal_bytes: 512 << 20,
            checkpoint_overlay_bytes: 256 << 20,
            checkpoint_age_s: 60,
            row_cache_bytes: 1 << 30,
            fetch_beyond_bytes: u64::MAX,
            policy: Policy::NoEviction,
            secret: rand::random(),
        }
    }
}

/// What the store is doing, in numbers. Bytes and counts are of this moment, totals since the start.
#[derive(Clone, Debug, Default)]
pub struct StoreStatus {
    /// Number of partitions.
    pub partitions: u16,
    /// Stored bytes of data, as `maxmemory` counts them.
    pub data_bytes: u64,
    /// Rows in memory.
    pub memory_rows: u64,
    /// Bytes of rows in memory and their tables.
    pub memory_bytes: u64,
    /// Bytes committed since the last checkpoints.
    pub overlay_bytes: u64,
    /// Journal bytes on disk.
    pub journal_bytes: u64,
    /// Position behind the last record appended to the journal.
    pub journal_position: u64,
    /// Position up to which a power loss loses nothing.
    pub durable_position: u64,
    /// How long syncs of the journal took.
    pub sync_durations: CountedDurations,
    /// Bytes of the trees' files.
    pub tree_bytes: u64,
    /// Transactions committed (sum of LSNs).
    pub transactions: u64,
    /// Of these, what came since the last checkpoints.
    pub unsaved: u64,
    /// Checkpoints of partitions done.
    pub checkpoints: u64,
    /// Rows they wrote.
    pub checkpointed_rows: u64,
    /// Milliseconds of the last one.
    pub last_checkpoint_ms: u64,
    /// How long they took.
    pub checkpoint_durations: CountedDurations,
    /// Unix seconds of the last one that left nothing dirty; the start, before.
    pub last_save_s: i64,
    /// Why the last checkpoint of some partition failed, if it did.
    pub checkpoint_error: Option<String>,
    /// What is damaged, once something was found to be.
    pub damage: Option<String>,
    /// Emptied databases and dropped collections that are not yet removed.
    pub garbage_pending: u64,
    /// Records replayed at the start.
    pub recovered_records: u64,
    /// Position behind the last record found at the start.
    pub recovered_position: u64,
    /// Bytes of a torn tail cut at the start.
    pub recovered_cut_bytes: u64,
}
