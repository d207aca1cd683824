//! `Statistics`: what INFO counts.
//!
//! Every thread that serves clients writes into a shard of its own with plain additions (a relaxed load and a relaxed store),
//! so that recording a command costs a few nanoseconds and no cache line is fought over; readers sum the shards. Invariants:
//! - a shard that belongs to one thread is written by that thread alone; threads beyond [`OWN_SHARDS`] share the last shard
//!   and use atomic additions there;
//! - counters never go back: RESETSTAT remembers what they were and readers subtract it.

use super::histogram::{Buckets, Distribution};
use super::rates::Rates;
use parking_lot::Mutex;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Threads that have a shard of their own.
const OWN_SHARDS: usize = 64;
/// Different error prefixes that are counted one by one, as in Redis.
const ERROR_PREFIXES_MAX: usize = 128;
/// Counts errors with prefixes that came after the table was full.
const ERRORS_BEYOND: &str = "ERRORSTATS_DISABLED";

/// A counter of the whole server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Counter {
    /// Commands that ran.
    Commands,
    /// Connections accepted.
    Connections,
    /// Connections refused because of `maxclients`.
    ConnectionsRejected,
    /// Bytes read from clients.
    NetInput,
    /// Bytes sent to clients.
    NetOutput,
    /// Reads from sockets.
    Reads,
    /// Writes to sockets.
    Writes,
    /// Keys removed because their time was up.
    ExpiredKeys,
    /// Fields of hashes removed because their time was up.
    ExpiredFields,
    /// Keys removed because of `maxmemory`.
    EvictedKeys,
    /// Clients closed because of `maxmemory-clients`.
    EvictedClients,
    /// Reading commands that found their key.
    KeyspaceHits,
    /// Reading commands that did not.
    KeyspaceMisses,
    /// Error replies.
    Errors,
    /// Clients closed because of their output buffer.
    OutputBufferDisconnections,
    /// Clients closed because of their query buffer.
    QueryBufferDisconnections,
    /// Failed attempts to authenticate.
    AccessDeniedAuth,
    /// Refused commands.
    AccessDeniedCommand,
    /// Refused keys.
    AccessDeniedKey,
    /// Refused channels.
    AccessDeniedChannel,
    /// Messages published here that other nodes have taken, counted for each of them.
    PubsubPassedOn,
    /// The same of those that could not be told.
    PubsubDropped,
}

const COUNTERS: usize = Counter::PubsubDropped as usize + 1;

/// What is counted for each command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandCounts {
    /// Times it ran.
    pub calls: u64,
    /// Nanoseconds it took in all.
    pub nanoseconds: u64,
    /// Times it was refused before it ran.
    pub rejected: u64,
    /// Times it ran and answered with an error.
    pub failed: u64,
}

#[derive(Default)]
struct CommandCell {
    calls: AtomicU64,
    nanoseconds: AtomicU64,
    rejected: AtomicU64,
    failed: AtomicU64,
    latency: OnceLock<Buckets>,
}

/// The counters of one thread. Aligned so that two of them never share a cache line (nor a prefetched pair).
#[repr(align(128))]
struct Shard {
    is_shared: bool,
    totals: [AtomicU64; COUNTERS],
    commands: Box<[CommandCell]>,
}

impl Shard {
    fn new(commands: usize, is_shared: bool) -> Shard {
        let cells = (0..commands).map(|_| CommandCell::default()).collect();
        Shard { is_shared, totals: std::array::from_fn(|_| AtomicU64::new(0)), commands: cells }
    }

    #[inline]
    fn add(&self, cell: &AtomicU64, amount: u64) {
        if self.is_shared {
            cell.fetch_add(amount, Ordering::Relaxed);
        } else {
            cell.store(cell.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
        }
    }
}

/// What RESETSTAT remembers.
struct Baseline {
    totals: [u64; COUNTERS],
    commands: Vec<CommandCounts>,
}

/// What INFO counts.
pub struct Statistics {
    names: Vec<String>,
    shards: Box<[OnceLock<Shard>]>,
    baseline: Mutex<Baseline>,
    errors: Mutex<BTreeMap<String, u64>>,
    rates: Mutex<Rates>,
    peak_memory: AtomicU64,
}

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The calling thread's shard, the same for its whole life.
#[inline]
fn shard_index() -> usize {
    let index = SHARD.get();
    if index == usize::MAX { assign_shard() } else { index }
}

#[cold]
fn assign_shard() -> usize {
    let index = THREADS.fetch_add(1, Ordering::Relaxed).min(OWN_SHARDS);
    SHARD.set(index);
    index
}

impl Statistics {
    /// Counters for the commands with these full names (`config|get`), which are numbered in this order.
    pub fn new(names: Vec<String>) -> Statistics {
        let commands = vec![CommandCounts::default(); names.len()];
        Statistics {
            names,
            shards: (0..=OWN_SHARDS).map(|_| OnceLock::new()).collect(),
            baseline: Mutex::new(Baseline { totals: [0; COUNTERS], commands }),
            errors: Mutex::default(),
            rates: Mutex::default(),
            peak_memory: AtomicU64::new(0),
        }
    }

    #[inline]
    fn shard(&self) -> &Shard {
        let index = shard_index();
        self.shards[index].get_or_init(|| Shard::new(self.names.len(), index == OWN_SHARDS))
    }

    /// Adds to a counter of the server.
    #[inline]
    pub fn add(&self, counter: Counter, amount: u64) {
        let shard = self.shard();
        shard.add(&shard.totals[counter as usize], amount);
    }

    /// Command number `command` ran for `nanoseconds`; `with_latency` also notes them in its distribution
    /// (`latency-tracking`).
    #[inline]
    pub fn command(&self, command: usize, nanoseconds: u64, with_latency: bool) {
        let shard = self.shard();
        let Some(cell) = shard.commands.get(command) else { return };
        shard.add(&cell.calls, 1);
        shard.add(&cell.nanoseconds, nanoseconds);
        shard.add(&shard.totals[Counter::Commands as usize], 1);
        if with_latency {
            let (bucket, count) = cell.latency.get_or_init(Buckets::default).at(nanoseconds);
            debug_assert!(bucket < super::histogram::BUCKETS);
            shard.add(count, 1);
        }
    }

    /// Command number `command` was refused before it ran.
    pub fn rejected(&self, command: usize) {
        let shard = self.shard();
        shard.commands.get(command).inspect(|cell| shard.add(&cell.rejected, 1));
    }

    /// Command number `command` ran and answered with an error.
    pub fn failed(&self, command: usize) {
        let shard = self.shard();
        shard.commands.get(command).inspect(|cell| shard.add(&cell.failed, 1));
    }

    /// An error reply whose first word is `prefix`. Once [`ERROR_PREFIXES_MAX`] prefixes are known, scripts that make up
    /// more of them are counted together.
    pub fn error(&self, prefix: &str) {
        self.add(Counter::Errors, 1);
        let mut errors = self.errors.lock();
        if let Some(count) = errors.get_mut(prefix) {
            *count += 1;
        } else if errors.len() < ERROR_PREFIXES_MAX {
            errors.insert(prefix.to_owned(), 1);
        } else {
            if !errors.contains_key(ERRORS_BEYOND) {
                let known = errors.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                tracing::warn!(
                    "Errorstats stopped adding new errors because the number of errors reached the limit ({ERROR_PREFIXES_MAX}). Current errors code list: {known}"
                );
            }
            *errors.entry(ERRORS_BEYOND.to_owned()).or_default() += 1;
        }
    }

    /// Takes the samples of which INFO shows the mean; to be called every [`super::rates::INTERVAL_MS`] with a monotonic
    /// time.
    pub fn sample(&self, now_ms: u64) {
        let totals = [Counter::Commands, Counter::NetInput, Counter::NetOutput]
            .map(|counter| self.since_start(counter));
        self.rates.lock().sample(now_ms, totals);
    }

    /// Commands, bytes in, bytes out, each per second over the last samples.
    pub fn per_second(&self) -> [u64; 3] {
        self.rates.lock().per_second()
    }

    /// Notes memory used and returns the most there was.
    pub fn note_memory(&self, bytes: u64) -> u64 {
        self.peak_memory.fetch_max(bytes, Ordering::Relaxed).max(bytes)
    }

    fn in_use(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter().filter_map(OnceLock::get)
    }

    /// What a counter of the server says since the process started, resets or not.
    pub fn since_start(&self, counter: Counter) -> u64 {
        self.in_use().map(|shard| shard.totals[counter as usize].load(Ordering::Relaxed)).sum()
    }

    /// What a counter of the server says since the last reset.
    pub fn get(&self, counter: Counter) -> u64 {
        self.since_start(counter).saturating_sub(self.baseline.lock().totals[counter as usize])
    }

    /// Names of the commands, by number.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The number of the command with this full name.
    pub fn number_of(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }

    /// What is known of command number `command` since the process started, resets or not.
    pub fn counts_since_start(&self, command: usize) -> CommandCounts {
        let mut sum = CommandCounts::default();
        for cell in self.in_use().filter_map(|shard| shard.commands.get(command)) {
            sum.calls += cell.calls.load(Ordering::Relaxed);
            sum.nanoseconds += cell.nanoseconds.load(Ordering::Relaxed);
            sum.rejected += cell.rejected.load(Ordering::Relaxed);
            sum.failed += cell.failed.load(Ordering::Relaxed);
        }
        sum
    }

    /// What is known of command number `command` since the last reset.
    pub fn counts(&self, command: usize) -> CommandCounts {
        let now = self.counts_since_start(command);
        let then = self.baseline.lock().commands.get(command).copied().unwrap_or_default();
        CommandCounts {
            calls: now.calls.saturating_sub(then.calls),
            nanoseconds: now.nanoseconds.saturating_sub(then.nanoseconds),
            rejected: now.rejected.saturating_sub(then.rejected),
            failed: now.failed.saturating_sub(then.failed),
        }
    }

    /// How long command number `command` took; nothing if it was never noted.
    pub fn latency(&self, command: usize) -> Option<Distribution> {
        let cells = self.in_use().filter_map(|shard| shard.commands.get(command)?.latency.get());
        let merged = Distribution::of(cells);
        (merged.count() > 0).then_some(merged)
    }

    /// Error replies by prefix, in order of the prefix.
    pub fn errors(&self) -> Vec<(String, u64)> {
        self.errors.lock().iter().map(|(prefix, count)| (prefix.clone(), *count)).collect()
    }

    /// Starts counting anew (CONFIG RESETSTAT). Distributions of latency that are written at this moment may keep that
    /// one value.
    pub fn reset(&self) {
        let totals = std::array::from_fn(|index| {
            self.in_use().map(|shard| shard.totals[index].load(Ordering::Relaxed)).sum()
        });
        let commands = (0..self.names.len()).map(|command| self.counts_since_start(command)).collect();
        *self.baseline.lock() = Baseline { totals, commands };
        self.errors.lock().clear();
        self.rates.lock().clear();
        self.peak_memory.store(0, Ordering::Relaxed);
        for command in 0..self.names.len() {
            self.reset_latency(command);
        }
    }

    /// Forgets how long command number `command` took.
    pub fn reset_latency(&self, command: usize) {
        for cell in self.in_use().filter_map(|shard| shard.commands.get(command)) {
            cell.latency.get().inspect(|buckets| buckets.clear());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_commands() -> Statistics {
        Statistics::new(vec!["get".to_owned(), "config|get".to_owned()])
    }

    #[test]
    fn threads_are_summed() {
        let statistics = two_commands();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| statistics.command(0, 2000, true)));
            }
        });
        statistics.failed(1);
        let counts = statistics.counts(0);
        assert_eq!((counts.calls, counts.nanoseconds), (4000, 8_000_000));
        assert_eq!(statistics.counts(1).failed, 1);
        assert_eq!(statistics.get(Counter::Commands), 4000);
        assert_eq!(statistics.latency(0).map(|latency| latency.count()), Some(4000));
        assert!(statistics.latency(1).is_none());
    }

    #[test]
    fn threads_without_a_shard_of_their_own_lose_nothing() {
        let statistics = two_commands();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    SHARD.set(OWN_SHARDS);
                    (0..1000).for_each(|_| statistics.add(Counter::NetInput, 3));
                });
            }
        });
        assert_eq!(statistics.get(Counter::NetInput), 12_000);
    }

    #[test]
    fn reset_starts_from_zero() {
        let statistics = two_commands();
        statistics.command(0, 1000, true);
        statistics.error("ERR");
        statistics.reset();
        assert_eq!(statistics.counts(0), CommandCounts::default());
        assert_eq!(statistics.get(Counter::Errors), 0);
        assert!(statistics.errors().is_empty() && statistics.latency(0).is_none());
        statistics.command(0, 500, false);
        assert_eq!(statistics.counts(0).calls, 1);
    }

    #[test]
    fn prefixes_of_errors_are_bounded() {
        let statistics = two_commands();
        for number in 0..1000 {
            statistics.error(&format!("E{number}"));
        }
        statistics.error("E5");
        let errors = statistics.errors();
        assert_eq!(errors.len(), ERROR_PREFIXES_MAX + 1);
        assert_eq!(statistics.get(Counter::Errors), 1001);
        assert!(errors.contains(&("E5".to_owned(), 2)));
    }

    #[test]
    fn an_unknown_command_number_is_ignored() {
        let statistics = two_commands();
        statistics.command(99, 1, true);
        statistics.rejected(99);
        assert_eq!(statistics.get(Counter::Commands), 0);
    }
}
