//! Sections on what the server is and keeps: Server, Memory, Persistence, CPU, Cluster, Larder, Keyspace.

use super::Lines;
use super::facts::Facts;
use crate::base::clock;
use crate::commands::REDIS_VERSION;
use crate::observability::process::{self, CpuTime, human_bytes};
use crate::observability::statistics::Counter;
use crate::session::saving::Kind;

pub fn server(facts: &Facts, lines: &mut Lines) {
    let identity = &facts.service.identity;
    let uptime_s = identity.started.elapsed().as_secs();
    let now_us = clock::unix_us();
    lines.add("redis_version", REDIS_VERSION);
    lines.add("redis_git_sha1", "00000000");
    lines.add("redis_git_dirty", 0);
    lines.add("redis_build_id", "0000000000000000");
    lines.add("redis_mode", "standalone");
    lines.add("os", process::system_name());
    lines.add("arch_bits", usize::BITS);
    lines.add("monotonic_clock", "POSIX clock_gettime");
    lines.add("multiplexing_api", "epoll");
    lines.add("atomicvar_api", "c11-builtin");
    lines.add("gcc_version", "0.0.0");
    lines.add("process_id", std::process::id());
    lines.add("process_supervised", "no");
    lines.add("run_id", &identity.run_id);
    lines.add("tcp_port", facts.settings.port);
    lines.add("server_time_usec", now_us);
    lines.add("uptime_in_seconds", uptime_s);
    lines.add("uptime_in_days", uptime_s / 86_400);
    lines.add("hz", facts.settings.hz);
    lines.add("configured_hz", facts.settings.hz);
    lines.add("lru_clock", (now_us / 1_000_000) & 0xFF_FFFF);
    lines.add("executable", &identity.executable);
    let file = facts.service.parameters.file().map(|file| file.display().to_string());
    lines.add("config_file", file.unwrap_or_default());
    lines.add("io_threads_active", 0);
    let bind: Vec<String> = facts.settings.bind.iter().map(|address| format!(",bind={address}")).collect();
    lines.add("listener0", format!("name=tcp{},port={}", bind.concat(), facts.settings.port));
}

/// `used_memory` is what `maxmemory` limits, as whoever watches a Redis divides one by the other: stored data, whether in memory
/// or not. What the process takes is `allocator_allocated` (its own) and `used_memory_rss` (with pages of the trees' files, which
/// the kernel takes back when it needs memory).
pub fn memory(facts: &Facts, lines: &mut Lines) {
    let (used, peak) = (facts.service.store.used_bytes(), facts.peak_memory);
    let (own, resident) = (facts.memory.own(), facts.memory.resident);
    let startup = facts.service.store.empty_bytes();
    let dataset = used - startup;
    let buffers = facts.service.clients.memory();
    let percent = |part: u64, whole: u64| format!("{:.2}%", 100.0 * part as f64 / whole.max(1) as f64);
    let both = |lines: &mut Lines, name: &str, bytes: u64| {
        lines.add(name, bytes);
        lines.add(format_args!("{name}_human"), human_bytes(bytes));
    };
    both(lines, "used_memory", used);
    both(lines, "used_memory_rss", resident);
    both(lines, "used_memory_peak", peak);
    lines.add("used_memory_peak_perc", percent(used, peak));
    lines.add("used_memory_overhead", startup);
    lines.add("used_memory_startup", startup);
    lines.add("used_memory_dataset", dataset);
    lines.add("used_memory_dataset_perc", percent(dataset, dataset));
    lines.add("allocator_allocated", own);
    lines.add("allocator_active", own);
    lines.add("allocator_resident", own);
    both(lines, "total_system_memory", process::machine_memory());
    lines.zeros(&["used_memory_lua", "used_memory_vm_eval"]);
    lines.add("used_memory_lua_human", "0B");
    lines.zeros(&["used_memory_scripts_eval", "number_of_cached_scripts", "number_of_functions"]);
    lines.zeros(&["number_of_libraries", "used_memory_vm_functions"]);
    both(lines, "used_memory_vm_total", 0);
    lines.zeros(&["used_memory_functions"]);
    both(lines, "used_memory_scripts", 0);
    both(lines, "maxmemory", facts.settings.maxmemory);
    lines.add("maxmemory_policy", facts.settings.maxmemory_policy.name());
    lines.add("allocator_frag_ratio", "1.00");
    lines.add("allocator_frag_bytes", 0);
    lines.add("allocator_rss_ratio", "1.00");
    lines.add("allocator_rss_bytes", 0);
    lines.add("rss_overhead_ratio", format_args!("{:.2}", resident as f64 / own.max(1) as f64));
    lines.add("rss_overhead_bytes", resident - own);
    lines.add("mem_fragmentation_ratio", format_args!("{:.2}", resident as f64 / own.max(1) as f64));
    lines.add("mem_fragmentation_bytes", resident - own);
    lines.zeros(&["mem_not_counted_for_evict", "mem_replication_backlog", "mem_total_replication_buffers"]);
    lines.add("mem_clients_slaves", 0);
    lines.add("mem_clients_normal", buffers);
    lines.zeros(&["mem_cluster_links", "mem_aof_buffer"]);
    lines.add("mem_allocator", "mimalloc");
    lines.zeros(&["active_defrag_running", "lazyfree_pending_objects", "lazyfreed_objects"]);
}

/// A checkpoint answers to what Redis calls a save and a rewrite, the journal to its append-only file.
pub fn persistence(facts: &Facts, lines: &mut Lines) {
    let (store, saving) = (&facts.store, &facts.service.saving);
    let is_running = |kind| saving.running() == Some(kind);
    let status = if store.checkpoint_error.is_none() { "ok" } else { "err" };
    let last_s = if store.checkpoints == 0 { -1 } else { (store.last_checkpoint_ms / 1000) as i64 };
    lines.zeros(&[
        "loading",
        "async_loading",
        "current_cow_peak",
        "current_cow_size",
        "current_cow_size_age",
    ]);
    lines.add("current_fork_perc", "0.00");
    lines.zeros(&["current_save_keys_processed", "current_save_keys_total"]);
    lines.add("rdb_changes_since_last_save", store.unsaved);
    lines.add("rdb_bgsave_in_progress", i32::from(is_running(Kind::Save)));
    lines.add("rdb_last_save_time", store.last_save_s);
    lines.add("rdb_last_bgsave_status", status);
    lines.add("rdb_last_bgsave_time_sec", last_s);
    lines.add("rdb_current_bgsave_time_sec", if is_running(Kind::Save) { 0 } else { -1 });
    lines.add("rdb_saves", store.checkpoints);
    lines.add("rdb_last_cow_size", 0);
    let imported = facts.service.imported();
    lines.add("rdb_last_load_keys_expired", imported.map_or(0, |imported| imported.expired));
    lines.add("rdb_last_load_keys_loaded", imported.map_or(0, |imported| imported.keys));
    lines.add("aof_enabled", 1);
    lines.add("aof_rewrite_in_progress", i32::from(is_running(Kind::Rewrite)));
    lines.add("aof_rewrite_scheduled", i32::from(saving.scheduled() == Some(Kind::Rewrite)));
    lines.add("aof_last_rewrite_time_sec", last_s);
    lines.add("aof_current_rewrite_time_sec", if is_running(Kind::Rewrite) { 0 } else { -1 });
    lines.add("aof_last_bgrewrite_status", status);
    lines.add("aof_rewrites", store.checkpoints);
    lines.add("aof_rewrites_consecutive_failures", i32::from(store.checkpoint_error.is_some()));
    lines.add("aof_last_write_status", if facts.service.store.refusal().is_none() { "ok" } else { "err" });
    lines.zeros(&["aof_last_cow_size", "module_fork_in_progress", "module_fork_last_cow_size"]);
    lines.add("aof_current_size", store.journal_bytes);
    lines.add("aof_base_size", 0);
    lines.add("aof_pending_rewrite", 0);
    lines.add("aof_buffer_length", 0);
    lines.add("aof_pending_bio_fsync", i32::from(store.durable_position < store.journal_position));
    lines.add("aof_delayed_fsync", 0);
    let Some(imported) = imported else { return };
    lines.add("larder_import_file", &imported.file);
    lines.add("larder_import_time", imported.at_ms / 1000);
    lines.add("larder_import_left_out", imported.left_out);
    lines.add("larder_import_cut_bytes", imported.cut_bytes);
}

pub fn cpu(_: &Facts, lines: &mut Lines) {
    let (all, main) = (CpuTime::of_process(), CpuTime::of_main_thread());
    for (name, seconds) in [
        ("used_cpu_sys", all.system),
        ("used_cpu_user", all.user),
        ("used_cpu_sys_children", all.system_children),
        ("used_cpu_user_children", all.user_children),
        ("used_cpu_sys_main_thread", main.system),
        ("used_cpu_user_main_thread", main.user),
    ] {
        lines.add(name, format_args!("{seconds:.6}"));
    }
}

pub fn larder(facts: &Facts, lines: &mut Lines) {
    let store = &facts.store;
    lines.add("larder_version", env!("CARGO_PKG_VERSION"));
    lines.add("larder_node", facts.service.store.node());
    lines.add("larder_partitions", store.partitions);
    lines.add("larder_data_bytes", store.data_bytes);
    lines.add("larder_overlay_bytes", store.overlay_bytes);
    lines.add("larder_row_cache_rows", store.memory_rows);
    lines.add("larder_row_cache_bytes", store.memory_bytes);
    lines.add("larder_journal_bytes", store.journal_bytes);
    lines.add("larder_journal_position", store.journal_position);
    lines.add("larder_journal_durable_position", store.durable_position);
    lines.add("larder_tree_bytes", store.tree_bytes);
    lines.add("larder_mapped_bytes", facts.memory.mapped);
    lines.add("larder_transactions", store.transactions);
    lines.add("larder_checkpoints", store.checkpoints);
    lines.add("larder_checkpointed_rows", store.checkpointed_rows);
    lines.add("larder_last_checkpoint_ms", store.last_checkpoint_ms);
    lines.add("larder_last_checkpoint_error", store.checkpoint_error.as_deref().unwrap_or(""));
    lines.add("larder_damage", store.damage.as_deref().unwrap_or(""));
    lines.add("larder_garbage_pending", store.garbage_pending);
    let count = |counter| facts.service.statistics.get(counter);
    lines.add("larder_output_limit_disconnections", count(Counter::OutputBufferDisconnections));
    lines.add("larder_query_limit_disconnections", count(Counter::QueryBufferDisconnections));
    lines.add("larder_recovered_records", store.recovered_records);
    lines.add("larder_recovered_cut_bytes", store.recovered_cut_bytes);
}

pub fn keyspace(facts: &Facts, lines: &mut Lines) {
    for database in 0..u16::try_from(facts.settings.databases).unwrap_or(u16::MAX) {
        let counters = facts.service.store.counters(database);
        if counters.keys > 0 {
            let (keys, expires) = (counters.keys, counters.expires);
            lines.add(format_args!("db{database}"), format_args!("keys={keys},expires={expires},avg_ttl=0"));
        }
    }
}
