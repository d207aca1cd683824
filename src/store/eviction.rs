//! Eviction by `maxmemory` and its policies, and the access clocks they read.
//!
//! The limit applies to stored bytes of data, whether in memory or not; buffers do not count. Candidates are sampled, as in
//! Redis: some keys near random positions, of which the best by policy goes. A key that is not in memory has not been used for
//! longest and goes first under LRU and LFU.

use super::partition::Partition;
use super::row;
use super::transaction::{AccessClock, Key, PartitionSet};
use super::{Interrupt, Store};
use crate::base::ids::{PartitionId, SLOTS, Slot};
use std::ops::ControlFlow;

/// Which keys may go, and which of them first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// None: writes that need room are refused.
    NoEviction,
    /// Any, the longest unused first.
    AllKeysLru,
    /// Any, the least used first.
    AllKeysLfu,
    /// Any.
    AllKeysRandom,
    /// Those with a deadline, the longest unused first.
    VolatileLru,
    /// Those with a deadline, the least used first.
    VolatileLfu,
    /// Those with a deadline, any.
    VolatileRandom,
    /// Those with a deadline, the next to expire first.
    VolatileTtl,
}

impl Policy {
    /// Whether accesses are counted instead of noted by time.
    pub fn is_lfu(self) -> bool {
        matches!(self, Policy::AllKeysLfu | Policy::VolatileLfu)
    }

    /// Whether any key that may go is as good as any other.
    pub fn is_random(self) -> bool {
        matches!(self, Policy::AllKeysRandom | Policy::VolatileRandom)
    }

    /// Whether only keys with a deadline may go.
    pub fn is_volatile(self) -> bool {
        matches!(
            self,
            Policy::VolatileLru | Policy::VolatileLfu | Policy::VolatileRandom | Policy::VolatileTtl
        )
    }
}

/// What a run of eviction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evicted {
    /// Keys removed.
    pub keys: u64,
    /// Journal position to be flushed.
    pub position: u64,
    /// The data is within the limit now.
    pub within_limit: bool,
}

/// How many rows in memory are looked at for one that may go, before a walk in key order looks for it.
const SAMPLE_TRIES: usize = 64;

/// Initial counter of a new key, so that it is not the first to go.
const LFU_START: u32 = 5;

/// Notes a use in an LFU cell: minutes of the last use (24 bits) · logarithmic counter (8 bits). The counter decays by one a
/// minute of rest and grows with a probability that falls as it grows.
pub fn lfu_touch(access: u32, minute: u32) -> u32 {
    let counter = lfu_decayed(access, minute);
    let base = counter.saturating_sub(LFU_START);
    let grows = counter < 255 && rand::random::<u32>().is_multiple_of(base * 10 + 1);
    ((minute & 0xFF_FFFF) << 8) | (counter + u32::from(grows))
}

/// The counter of an LFU cell as of now.
pub fn lfu_decayed(access: u32, minute: u32) -> u32 {
    let rested = (minute & 0xFF_FFFF).wrapping_sub(access >> 8) & 0xFF_FFFF;
    (access & 0xFF).saturating_sub(rested)
}

/// What a new key starts with under LFU.
pub fn lfu_fresh(minute: u32) -> u32 {
    ((minute & 0xFF_FFFF) << 8) | LFU_START
}

impl Store {
    /// Removes keys by policy until [`Store::used_bytes`] are within `limit`, or until `keys` of them and as many as had `bytes`
    /// bytes are gone. `now` is the wall clock in milliseconds since 1970.
    pub fn evict(
        &self,
        limit: u64,
        policy: Policy,
        samples: usize,
        (keys, bytes): (usize, u64),
        now: i64,
    ) -> Result<Evicted, Interrupt> {
        let mut evicted = Evicted::default();
        let goal = self.used_bytes().saturating_sub(bytes);
        let mut misses = 0;
        while self.used_bytes() > limit {
            let partitions = self.partition_count();
            let is_enough = evicted.keys as usize >= keys && self.used_bytes() <= goal;
            if policy == Policy::NoEviction || is_enough || misses > 2 * partitions {
                return Ok(evicted);
            }
            let id = PartitionId((rand::random::<u32>() % u32::from(partitions)) as u16);
            match self.until_fetched(|| self.evict_one(id, policy, samples, now))? {
                Some(position) => {
                    evicted.position = evicted.position.max(position);
                    evicted.keys += 1;
                    misses = 0;
                }
                None => misses += 1,
            }
        }
        evicted.within_limit = true;
        Ok(evicted)
    }
}

impl Store {
    /// Removes the best of some sampled keys of a partition. Returns the journal position; `None` if it found none.
    fn evict_one(
        &self,
        id: PartitionId,
        policy: Policy,
        samples: usize,
        now: i64,
    ) -> Result<Option<u64>, Interrupt> {
        let partitions = self.partition_count();
        let mut transaction = self.transaction(&PartitionSet::One(id), now);
        let clock = transaction.access_clock();
        if !transaction.only_partition().is_primary {
            return Ok(None);
        }
        let found = candidate(transaction.only_partition(), partitions, policy, samples, clock)?;
        let Some((database, name)) = found else { return Ok(None) };
        transaction.remove(&Key::new(database, &name))?;
        transaction.admit(false)?;
        Ok(Some(transaction.commit()))
    }
}

/// The best of some sampled keys of a partition: database and name.
fn candidate(
    partition: &mut Partition,
    partitions: u16,
    policy: Policy,
    samples: usize,
    clock: AccessClock,
) -> Result<Option<(u16, Vec<u8>)>, Interrupt> {
    let eligible = |partition: &Partition, number: usize| {
        let counters = partition.databases[number].counters;
        if policy.is_volatile() { counters.expires } else { counters.keys }
    };
    let total: u64 = (0..partition.databases.len()).map(|number| eligible(partition, number)).sum();
    if total == 0 {
        return Ok(None);
    }
    let mut best: Option<(u64, u16, Vec<u8>)> = None;
    for _ in 0..if policy.is_random() { 1 } else { samples.max(1) } {
        let mut pick = rand::random::<u64>() % total;
        let number = (0..partition.databases.len())
            .find(|number| {
                let count = eligible(partition, *number);
                let here = pick < count;
                pick = pick.saturating_sub(count);
                here
            })
            .expect("the pick is below the sum");
        let Some((score, name)) = sample(partition, number as u16, partitions, policy, clock)? else {
            continue;
        };
        if best.as_ref().is_none_or(|(top, ..)| score > *top) {
            best = Some((score, number as u16, name));
        }
    }
    Ok(best.map(|(_, number, name)| (number, name)))
}

/// A key near a random position and how much it should go.
fn sample(
    partition: &mut Partition,
    database: u16,
    partitions: u16,
    policy: Policy,
    clock: AccessClock,
) -> Result<Option<(u64, Vec<u8>)>, Interrupt> {
    // Mostly what is in memory, without sorting; now and then a position in key order, where keys are that are not in memory.
    // Deletions are in memory too, until the cache is swept, and can be most of it.
    let table = &partition.databases[database as usize].rows;
    let in_memory = table.live() as u64;
    let keys = partition.databases[database as usize].counters.keys;
    if rand::random::<u64>() % keys.max(1) < in_memory {
        for _ in 0..SAMPLE_TRIES {
            let Some(cell) = table.sample(rand::random()) else { break };
            if let Some(score) = score_of(cell.row.value(), Some(cell.access), policy, clock) {
                return Ok(Some((score, row::name_of(&cell.row).to_vec())));
            }
        }
    }
    let (first, end) =
        (partition.id.first_slot(partitions).0, PartitionId(partition.id.0 + 1).first_slot(partitions).0);
    let slot = Slot(first + (rand::random::<u32>() % u32::from(end.min(SLOTS) - first)) as u16);
    for from in [(slot, rand::random()), (Slot(first), 0)] {
        let mut found: Option<(Vec<u8>, Vec<u8>)> = None;
        super::walk::keys(partition, database, from, &mut |key, value| {
            let goes = score_of(value, None, policy, clock).is_some();
            if goes {
                found = Some((key[row::KEY_PREFIX..].to_vec(), value.to_vec()));
            }
            if goes { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if let Some((name, value)) = found {
            let hash = row::table_hash(&name);
            let access =
                partition.databases[database as usize].rows.find(hash, &name).map(|cell| cell.access);
            return Ok(score_of(&value, access, policy, clock).map(|score| (score, name)));
        }
    }
    Ok(None)
}

/// How much a key should go: more is sooner. `None` if it may not, or is no key (a deletion).
fn score_of(value: &[u8], access: Option<u32>, policy: Policy, clock: AccessClock) -> Option<u64> {
    let (meta, _) = row::decode_value(value)?;
    if policy.is_volatile() && meta.expire_at.is_none() {
        return None;
    }
    Some(match policy {
        Policy::NoEviction => return None,
        Policy::AllKeysRandom | Policy::VolatileRandom => 0,
        Policy::VolatileTtl => u64::MAX - meta.expire_at?.max(0) as u64,
        Policy::AllKeysLru | Policy::VolatileLru => {
            access.map_or(u64::MAX, |access| u64::from(clock.now.saturating_sub(access)))
        }
        Policy::AllKeysLfu | Policy::VolatileLfu => {
            access.map_or(u64::MAX, |access| u64::from(255 - lfu_decayed(access, clock.now)))
        }
    })
}
