//! Keys, what they take, what became of them.

use super::Facts;
use super::{Metric, counter, gauge, gauges};
use crate::observability::metrics::Samples;
use crate::observability::statistics::Counter;
use crate::store::Counters;

pub const METRICS: &[Metric] = &[
    gauges("larder_keys", &["database"], "Keys in each database that is not empty.", |facts, samples| {
        of_each(facts, samples, |counters| counters.keys);
    }),
    gauges(
        "larder_expiring_keys",
        &["database"],
        "Keys with a deadline in each database that is not empty.",
        |facts, samples| {
            of_each(facts, samples, |counters| counters.expires);
        },
    ),
    counter("larder_keyspace_hits_total", "Reading commands that found their key.", |facts| {
        facts.counted(Counter::KeyspaceHits)
    }),
    counter("larder_keyspace_misses_total", "Reading commands that did not.", |facts| {
        facts.counted(Counter::KeyspaceMisses)
    }),
    counter("larder_expired_keys_total", "Keys removed because their time was up.", |facts| {
        facts.counted(Counter::ExpiredKeys)
    }),
    counter("larder_expired_fields_total", "Fields of hashes removed because their time was up.", |facts| {
        facts.counted(Counter::ExpiredFields)
    }),
    counter("larder_evicted_keys_total", "Keys removed because of maxmemory.", |facts| {
        facts.counted(Counter::EvictedKeys)
    }),
    gauge(
        "larder_used_bytes",
        "What maxmemory limits and INFO calls used_memory: the data, in memory or not.",
        |facts| facts.service.store.used_bytes() as f64,
    ),
    gauge("larder_maxmemory_bytes", "The limit of larder_used_bytes; 0 is none.", |facts| {
        facts.settings.maxmemory as f64
    }),
    gauge("larder_row_cache_bytes", "Rows in memory and their tables.", |facts| {
        facts.store.memory_bytes as f64
    }),
    gauge("larder_row_cache_rows", "Rows in memory.", |facts| facts.store.memory_rows as f64),
];

fn of_each(facts: &Facts, samples: &mut Samples, read: fn(&Counters) -> u64) {
    for database in 0..u16::try_from(facts.settings.databases).unwrap_or(u16::MAX) {
        let counters = facts.service.store.counters(database);
        if counters.keys > 0 || database == 0 {
            samples.add(&[&database.to_string()], read(&counters) as f64);
        }
    }
}
