//! Names of our metrics for the exporter, with handles that are made once: a handle costs 13 ns, its name 116.
//!
//! What is counted per thread in [`super::statistics`] is copied here once a second by [`Handles::publish`] instead of being
//! counted twice. Without a recorder installed all of this is nothing.

use super::statistics::{Counter as Counted, Statistics};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use std::time::Duration;

/// Handles of what the exporter shows.
pub struct Handles {
    commands: Counter,
    errors: Counter,
    connections_received: Counter,
    connections: Gauge,
    net_input: Counter,
    net_output: Counter,
    keyspace_hits: Counter,
    keyspace_misses: Counter,
    expired_keys: Counter,
    evicted_keys: Counter,
    memory: Gauge,
    journal_bytes: Counter,
    checkpoints: Counter,
    checkpoint_seconds: Histogram,
}

impl Handles {
    /// Handles of the recorder installed now.
    pub fn new() -> Handles {
        Handles {
            commands: counter!("larder_commands_total"),
            errors: counter!("larder_error_replies_total"),
            connections_received: counter!("larder_connections_received_total"),
            connections: gauge!("larder_connections"),
            net_input: counter!("larder_net_input_bytes_total"),
            net_output: counter!("larder_net_output_bytes_total"),
            keyspace_hits: counter!("larder_keyspace_hits_total"),
            keyspace_misses: counter!("larder_keyspace_misses_total"),
            expired_keys: counter!("larder_expired_keys_total"),
            evicted_keys: counter!("larder_evicted_keys_total"),
            memory: gauge!("larder_memory_bytes"),
            journal_bytes: counter!("larder_journal_bytes_total"),
            checkpoints: counter!("larder_checkpoints_total"),
            checkpoint_seconds: histogram!("larder_checkpoint_seconds"),
        }
    }

    /// Copies what `statistics` counted; `connections` are open and `memory_bytes` are used now.
    pub fn publish(&self, statistics: &Statistics, connections: usize, memory_bytes: u64) {
        for (handle, counted) in [
            (&self.commands, Counted::Commands),
            (&self.errors, Counted::Errors),
            (&self.connections_received, Counted::Connections),
            (&self.net_input, Counted::NetInput),
            (&self.net_output, Counted::NetOutput),
            (&self.keyspace_hits, Counted::KeyspaceHits),
            (&self.keyspace_misses, Counted::KeyspaceMisses),
            (&self.expired_keys, Counted::ExpiredKeys),
            (&self.evicted_keys, Counted::EvictedKeys),
        ] {
            handle.absolute(statistics.since_start(counted));
        }
        self.connections.set(connections as f64);
        self.memory.set(memory_bytes as f64);
    }

    /// Bytes were written to the journal.
    pub fn journal_written(&self, bytes: u64) {
        self.journal_bytes.increment(bytes);
    }

    /// A checkpoint was committed after `duration`.
    pub fn checkpoint_done(&self, duration: Duration) {
        self.checkpoints.increment(1);
        self.checkpoint_seconds.record(duration);
    }
}

impl Default for Handles {
    fn default() -> Handles {
        Handles::new()
    }
}
