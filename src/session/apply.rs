//! Settings put into force where others keep their own copy: the store's options, the log level.

use super::descriptors::allow_clients;
use super::service::Service;
use crate::config::Settings;
use crate::config::settings::{EvictionPolicy, Fsync};
use crate::interop::place::Limits;
use crate::observability::{logging, process};
use crate::store::{Options, Policy, SyncMode};
use crate::types::{hash, list, set, zset};

impl Service {
    /// Does what may fail before `settings` come into force, in which the parameters called `changed` differ from what they are.
    /// Refused are the name of a parameter and the reason, in Redis's words.
    pub fn prepare_settings(
        &self,
        settings: &Settings,
        changed: &[&'static str],
    ) -> Result<(), (&'static str, String)> {
        if changed.contains(&"maxclients")
            && let Err(possible) = allow_clients(settings)
        {
            let reason =
                "The operating system is not able to handle the specified number of clients, try with";
            return Err(("maxclients", format!("{reason} {possible}")));
        }
        let (is_port, is_bind) = (changed.contains(&"port"), changed.contains(&"bind"));
        if (is_port || is_bind) && self.listens().is_some_and(|listens| !listens.listen_on(settings)) {
            return Err(if is_port {
                ("port", "Unable to listen on this port. Check server logs.".to_owned())
            } else {
                ("bind", "Failed to bind to specified addresses.".to_owned())
            });
        }
        Ok(())
    }

    /// Puts the present settings into force. To be called whenever they have changed.
    pub fn apply_settings(&self) {
        let settings = self.parameters.snapshot();
        self.store.set_options(store_options(&settings));
        logging::set_level(settings.loglevel.name());
        self.evict_clients(&settings);
        self.keep_copies();
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
        // Writers are held up at four times as much only, and the rows stay in memory until then.
        checkpoint_overlay_bytes: settings.checkpoint_overlay_size.min(process::memory_limit() / 32),
        checkpoint_age_s: settings.checkpoint_age,
        row_cache_bytes: match settings.row_cache_size {
            0 => row_cache_bytes(process::memory_limit(), process::machine_memory()),
            bytes => bytes,
        },
        fetch_beyond_bytes: process::memory_limit() / 2,
        policy: policy(settings.maxmemory_policy),
        ..Options::default()
    }
}

/// How large values of each type may be in one row.
#[inline]
pub fn value_limits(settings: &Settings) -> Limits {
    Limits {
        hash: hash::Limits {
            entries: settings.hash_max_listpack_entries,
            value: settings.hash_max_listpack_value,
        },
        list: list::Limits::of_setting(settings.list_max_listpack_size),
        set: set::Limits {
            integers: settings.set_max_intset_entries,
            entries: settings.set_max_listpack_entries,
            value: settings.set_max_listpack_value,
        },
        zset: zset::Limits {
            entries: settings.zset_max_listpack_entries,
            value: settings.zset_max_listpack_value,
        },
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

/// Bytes of rows in memory if no directive says: a quarter of the machine's memory, or an eighth of what a container may use.
/// Beside the rows there are what the allocator holds back, batches of checkpoints and buffers; a machine has room for that, and
/// a container is killed.
fn row_cache_bytes(limit: u64, machine: u64) -> u64 {
    if limit < machine { limit / 8 } else { machine / 4 }
}
