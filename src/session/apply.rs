//! Settings put into force where others keep their own copy: the store's options, the log level.

use super::service::Service;
use crate::config::Settings;
use crate::config::settings::{EvictionPolicy, Fsync};
use crate::observability::{logging, process};
use crate::store::{Options, Policy, SyncMode};

impl Service {
    /// Puts the present settings into force. To be called whenever they have changed.
    pub fn apply_settings(&self) {
        let settings = self.parameters.snapshot();
        self.store.set_options(store_options(&settings));
        logging::set_level(settings.loglevel.name());
    }
}

/// What the settings mean for the store.
pub fn store_options(settings: &Settings) -> Options {
    Options {
        sync: match settings.appendfsync {
            Fsync::Always => SyncMode::Always,
            Fsync::EverySecond => SyncMode::EverySecond,
            Fsync::No => SyncMode::Never,
        },
        checkpoint_journal_bytes: settings.checkpoint_journal_size,
        checkpoint_overlay_bytes: settings.checkpoint_overlay_size,
        checkpoint_age_s: settings.checkpoint_age,
        row_cache_bytes: match settings.row_cache_size {
            0 => process::machine_memory() / 4,
            bytes => bytes,
        },
        fetch_beyond_bytes: process::machine_memory() / 2,
        policy: policy(settings.maxmemory_policy),
    }
}

/// The store's word for an eviction policy.
pub fn policy(policy: EvictionPolicy) -> Policy {
    match policy {
        EvictionPolicy::NoEviction => Policy::NoEviction,
        EvictionPolicy::AllKeysLru => Policy::AllKeysLru,
        EvictionPolicy::AllKeysLfu => Policy::AllKeysLfu,
        EvictionPolicy::AllKeysRandom => Policy::AllKeysRandom,
        EvictionPolicy::VolatileLru => Policy::VolatileLru,
        EvictionPolicy::VolatileLfu => Policy::VolatileLfu,
        EvictionPolicy::VolatileRandom => Policy::VolatileRandom,
        EvictionPolicy::VolatileTtl => Policy::VolatileTtl,
    }
}
