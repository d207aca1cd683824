//! The journal and its syncs, checkpoints, the disk, and whether writes are refused.

use super::{Metric, add_durations, counter, gauge, gauges, histogram, of_bool};
use crate::store::Refusal;
use rustix::fs::statvfs;

pub const METRICS: &[Metric] = &[
    gauges(
        "larder_writes_refused",
        &["reason"],
        "Whether writes are refused, and why: the disk is full (what removes goes on), the journal cannot be written for the moment, a sync has failed (until a restart), data is damaged.",
        |facts, samples| {
            let reason = match &facts.refusal {
                None => "",
                Some(Refusal::DiskFull) => "disk-full",
                Some(Refusal::Stuck(_)) => "journal-stuck",
                Some(Refusal::Failed(_)) => "sync-failed",
                Some(Refusal::Damaged(_)) => "damaged",
            };
            for each in ["disk-full", "journal-stuck", "sync-failed", "damaged"] {
                samples.add(&[each], of_bool(each == reason));
            }
        },
    ),
    gauge("larder_writers_held_up", "Whether writers wait because checkpoints do not keep up.", |facts| {
        of_bool(facts.service.store.is_overloaded())
    }),
    counter("larder_transactions_total", "Transactions committed since the data was made.", |facts| {
        facts.store.transactions as f64
    }),
    gauge("larder_journal_disk_bytes", "What the journal takes on disk.", |facts| {
        facts.store.journal_bytes as f64
    }),
    counter(
        "larder_journal_written_bytes_total",
        "Bytes written to the journal since the data was made.",
        |facts| facts.store.journal_position as f64,
    ),
    gauge("larder_journal_unsynced_bytes", "Journal bytes that a power loss would take now.", |facts| {
        facts.store.journal_position.saturating_sub(facts.store.durable_position) as f64
    }),
    histogram(
        "larder_journal_sync_duration_seconds",
        &[],
        "How long syncs of the journal took.",
        |facts, samples| {
            add_durations(samples, &facts.store.sync_durations);
        },
    ),
    gauge(
        "larder_journal_last_sync_timestamp_seconds",
        "When the journal was synced last, since 1970.",
        |facts| facts.store.sync_durations.last_s as f64,
    ),
    gauge("larder_tree_bytes", "What the trees take on disk.", |facts| facts.store.tree_bytes as f64),
    gauge("larder_uncheckpointed_bytes", "Bytes of rows that are newer than the trees.", |facts| {
        facts.store.overlay_bytes as f64
    }),
    gauge("larder_uncheckpointed_transactions", "Transactions since the last checkpoints.", |facts| {
        facts.store.unsaved as f64
    }),
    histogram(
        "larder_checkpoint_duration_seconds",
        &[],
        "How long checkpoints of a partition took.",
        |facts, samples| {
            add_durations(samples, &facts.store.checkpoint_durations);
        },
    ),
    gauge(
        "larder_checkpoint_last_timestamp_seconds",
        "When a checkpoint succeeded last, or the start, since 1970.",
        |facts| facts.store.last_save_s as f64,
    ),
    gauge("larder_checkpoint_failing", "Whether the last checkpoint of some partition failed.", |facts| {
        of_bool(facts.store.checkpoint_error.is_some())
    }),
    counter("larder_checkpointed_rows_total", "Rows written by checkpoints.", |facts| {
        facts.store.checkpointed_rows as f64
    }),
    gauge(
        "larder_garbage_pending",
        "Emptied databases and dropped collections that are not yet removed from the trees.",
        |facts| facts.store.garbage_pending as f64,
    ),
    gauge("larder_recovered_records", "Journal records replayed at the start.", |facts| {
        facts.store.recovered_records as f64
    }),
    gauge(
        "larder_recovered_cut_bytes",
        "Bytes of a torn record cut from the journal's end at the start.",
        |facts| facts.store.recovered_cut_bytes as f64,
    ),
    gauges(
        "larder_disk_size_bytes",
        &[],
        "The size of the file system that holds the data.",
        |facts, samples| {
            if let Ok(disk) = statvfs(&facts.settings.dir) {
                samples.add(&[], disk.f_blocks.saturating_mul(disk.f_frsize) as f64);
            }
        },
    ),
    gauges(
        "larder_disk_free_bytes",
        &[],
        "What that file system has left for this process.",
        |facts, samples| {
            if let Ok(disk) = statvfs(&facts.settings.dir) {
                samples.add(&[], disk.f_bavail.saturating_mul(disk.f_frsize) as f64);
            }
        },
    ),
];
