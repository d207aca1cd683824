//! What happens by time and not by request: keys expire, rates are sampled, and a signal to stop is obeyed.

use crate::base::clock;
use crate::base::ids::PartitionId;
use crate::observability::statistics::Counter;
use crate::session::service::Service;
use crate::types::hash;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the housekeeper looks: deadlines are met within this.
const TICK: Duration = Duration::from_millis(20);
/// Ticks between two samples of the rates.
const SAMPLE_TICKS: u32 = 5;
/// Ticks between two looks at how much is stored.
const PEAK_TICKS: u32 = 50;
/// Keys removed under one hold of a partition's lock: some 100 microseconds.
const EXPIRE_BATCH: usize = 64;

/// Starts the housekeeper; it ends when the service's stop is ordered.
///
/// # Errors
/// If no thread can be made.
pub fn start(service: &Arc<Service>) -> std::io::Result<JoinHandle<()>> {
    let service = Arc::clone(service);
    std::thread::Builder::new().name("housekeeping".into()).spawn(move || run(&service))
}

fn run(service: &Service) {
    let begun = Instant::now();
    let mut tick = 0_u32;
    while !service.stop.is_ordered() {
        std::thread::sleep(TICK);
        if service.housekeeping_rests.load(Ordering::Relaxed) {
            continue;
        }
        service.stop.obey();
        tick = tick.wrapping_add(1);
        if tick.is_multiple_of(SAMPLE_TICKS) {
            service.statistics.sample(begun.elapsed().as_millis() as u64);
        }
        if tick.is_multiple_of(PEAK_TICKS) {
            service.statistics.note_memory(service.store.used_bytes());
        }
        let is_paused = service.pause.is_set() && service.pause.in_force(clock::unix_ms()).is_some();
        if service.active_expire.load(Ordering::Relaxed) && !is_paused {
            expire(service); // not while CLIENT PAUSE promises that no data changes
        }
    }
}

/// Removes every key whose time has come, a batch a partition at a time, so that commands go on in between.
fn expire(service: &Service) {
    let now = clock::unix_ms();
    let mut position = 0;
    for id in 0..service.store.partition_count() {
        loop {
            let expired = match service.store.expire(PartitionId(id), now, EXPIRE_BATCH, hash::clear_over) {
                Ok(expired) => expired,
                Err(error) => {
                    tracing::warn!("expiry of partition {id} waits: {error:?}");
                    break;
                }
            };
            service.statistics.add(Counter::ExpiredKeys, expired.keys);
            service.statistics.add(Counter::ExpiredFields, expired.parts);
            position = position.max(expired.position);
            if !expired.more || service.stop.is_ordered() {
                break;
            }
        }
    }
    if position > 0
        && let Err(error) = service.store.flush(position)
    {
        tracing::warn!("expired keys are not yet in the journal: {error:?}");
    }
}
