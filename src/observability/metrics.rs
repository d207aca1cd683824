//! Names of our metrics for the exporter, with handles that are made once: a handle costs 13 ns, its name 116.
//!
//! What is counted per thread in [`super::statistics`] is copied here once a second by [`Handles::publish`] instead of being
//! counted twice. Without a recorder installed all of this is nothing.

use super::statistics::{Counter as Counted, Statistics};
use metrics::{Counter, Gauge, counter, gauge};

/// What is not counted in [`Statistics`]. Totals are since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Connections open now.
    pub connections: usize,
    /// Memory of this process alone, bytes.
    pub memory_bytes: u64,
    /// Bytes of data stored, as `maxmemory` counts them.
    pub data_bytes: u64,
    /// Bytes written to the journal, total.
    pub journal_bytes: u64,
    /// Checkpoints of partitions, total.
    pub checkpoints: u64,
    /// Milliseconds of the last one.
    pub last_checkpoint_ms: u64,
    /// Files of what failovers lost.
    pub lost_files: u64,
    /// Transactions in them.
    pub lost_transactions: u64,
}

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
    expired_fields: Counter,
    evicted_keys: Counter,
    pubsub_dropped: Counter,
    memory: Gauge,
    journal_bytes: Counter,
    checkpoints: Counter,
    checkpoint_seconds: Gauge,
    data: Gauge,
    lost_files: Gauge,
    lost_transactions: Gauge,
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
            expired_fields: counter!("larder_expired_fields_total"),
            evicted_keys: counter!("larder_evicted_keys_total"),
            pubsub_dropped: counter!("larder_pubsub_dropped_total"),
            memory: gauge!("larder_memory_bytes"),
            journal_bytes: counter!("larder_journal_bytes_total"),
            checkpoints: counter!("larder_checkpoints_total"),
            checkpoint_seconds: gauge!("larder_last_checkpoint_seconds"),
            data: gauge!("larder_data_bytes"),
            lost_files: gauge!("larder_lost_files"),
            lost_transactions: gauge!("larder_lost_transactions"),
        }
    }

    /// Shows what `statistics` counted, and `figures`.
    pub fn publish(&self, statistics: &Statistics, figures: Figures) {
        for (handle, counted) in [
            (&self.commands, Counted::Commands),
            (&self.errors, Counted::Errors),
            (&self.connections_received, Counted::Connections),
            (&self.net_input, Counted::NetInput),
            (&self.net_output, Counted::NetOutput),
            (&self.keyspace_hits, Counted::KeyspaceHits),
            (&self.keyspace_misses, Counted::KeyspaceMisses),
            (&self.expired_keys, Counted::ExpiredKeys),
            (&self.expired_fields, Counted::ExpiredFields),
            (&self.evicted_keys, Counted::EvictedKeys),
            (&self.pubsub_dropped, Counted::PubsubDropped),
        ] {
            handle.absolute(statistics.since_start(counted));
        }
        self.connections.set(figures.connections as f64);
        self.memory.set(figures.memory_bytes as f64);
        self.data.set(figures.data_bytes as f64);
        self.lost_files.set(figures.lost_files as f64);
        self.lost_transactions.set(figures.lost_transactions as f64);
        self.journal_bytes.absolute(figures.journal_bytes);
        self.checkpoints.absolute(figures.checkpoints);
        self.checkpoint_seconds.set(figures.last_checkpoint_ms as f64 / 1000.0);
    }
}

impl Default for Handles {
    fn default() -> Handles {
        Handles::new()
    }
}
