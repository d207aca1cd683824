//! Sections on what clients do: Clients, Stats, Commandstats, Errorstats, Latencystats.

use super::Lines;
use super::facts::Facts;
use crate::observability::statistics::Counter;
use crate::session::pubsub::Channels;

pub fn clients(facts: &Facts, lines: &mut Lines) {
    let clients = facts.service.clients.list();
    let largest = |len: &dyn Fn(&crate::session::client::Client) -> usize| {
        clients.iter().map(|client| len(client)).max().unwrap_or(0)
    };
    lines.add("connected_clients", facts.service.clients.count());
    lines.add("cluster_connections", 0);
    lines.add("maxclients", facts.settings.maxclients);
    lines.add("client_recent_max_input_buffer", largest(&|client| client.input_len()));
    lines.add("client_recent_max_output_buffer", largest(&|client| client.output_len()));
    lines.add("blocked_clients", facts.service.clients.blocked());
    lines.zeros(&["tracking_clients", "clients_in_timeout_table"]);
    lines.zeros(&["total_blocking_keys", "total_blocking_keys_on_nokey"]);
}

pub fn stats(facts: &Facts, lines: &mut Lines) {
    let statistics = &facts.service.statistics;
    let count = |counter| statistics.get(counter);
    let [operations, input, output] = statistics.per_second();
    let kilobytes = |bytes: u64| format!("{:.2}", bytes as f64 / 1024.0);
    lines.add("total_connections_received", count(Counter::Connections));
    lines.add("total_commands_processed", count(Counter::Commands));
    lines.add("instantaneous_ops_per_sec", operations);
    lines.add("total_net_input_bytes", count(Counter::NetInput));
    lines.add("total_net_output_bytes", count(Counter::NetOutput));
    lines.zeros(&["total_net_repl_input_bytes", "total_net_repl_output_bytes"]);
    lines.add("instantaneous_input_kbps", kilobytes(input));
    lines.add("instantaneous_output_kbps", kilobytes(output));
    lines.add("instantaneous_input_repl_kbps", "0.00");
    lines.add("instantaneous_output_repl_kbps", "0.00");
    lines.add("rejected_connections", count(Counter::ConnectionsRejected));
    lines.zeros(&["sync_full", "sync_partial_ok", "sync_partial_err"]);
    lines.add("expired_keys", count(Counter::ExpiredKeys));
    lines.add("expired_subkeys", count(Counter::ExpiredFields)); // its name since 7.4
    lines.add("expired_stale_perc", "0.00");
    lines.zeros(&["expired_time_cap_reached_count", "expire_cycle_cpu_milliseconds"]);
    lines.add("evicted_keys", count(Counter::EvictedKeys));
    lines.add("evicted_clients", count(Counter::EvictedClients));
    lines.zeros(&["total_eviction_exceeded_time", "current_eviction_exceeded_time"]);
    lines.add("keyspace_hits", count(Counter::KeyspaceHits));
    lines.add("keyspace_misses", count(Counter::KeyspaceMisses));
    let pubsub = &facts.service.pubsub;
    lines.add("pubsub_channels", pubsub.channel_count(Channels::Global));
    lines.add("pubsub_patterns", pubsub.pattern_count());
    lines.add("pubsubshard_channels", pubsub.channel_count(Channels::Sharded));
    lines.add("larder_pubsub_passed_on", count(Counter::PubsubPassedOn));
    lines.add("larder_pubsub_dropped", count(Counter::PubsubDropped));
    lines.add("latest_fork_usec", 0);
    lines.zeros(&["total_forks", "migrate_cached_sockets", "slave_expires_tracked_keys"]);
    lines.zeros(&["active_defrag_hits", "active_defrag_misses", "active_defrag_key_hits"]);
    lines.zeros(&["active_defrag_key_misses", "total_active_defrag_time", "current_active_defrag_time"]);
    lines.zeros(&["tracking_total_keys", "tracking_total_items", "tracking_total_prefixes"]);
    lines.add("unexpected_error_replies", 0);
    lines.add("total_error_replies", count(Counter::Errors));
    lines.add("dump_payload_sanitizations", 0);
    lines.add("total_reads_processed", count(Counter::Reads));
    lines.add("total_writes_processed", count(Counter::Writes));
    lines.zeros(&["io_threaded_reads_processed", "io_threaded_writes_processed"]);
    lines.zeros(&["reply_buffer_shrinks", "reply_buffer_expands"]);
    lines.add("acl_access_denied_auth", count(Counter::AccessDeniedAuth));
    lines.add("acl_access_denied_cmd", count(Counter::AccessDeniedCommand));
    lines.add("acl_access_denied_key", count(Counter::AccessDeniedKey));
    lines.add("acl_access_denied_channel", count(Counter::AccessDeniedChannel));
}

pub fn command_counts(facts: &Facts, lines: &mut Lines) {
    let statistics = &facts.service.statistics;
    for (number, name) in statistics.names().iter().enumerate() {
        let counts = statistics.counts(number);
        if counts.calls + counts.rejected + counts.failed == 0 {
            continue;
        }
        let microseconds = counts.nanoseconds / 1000;
        let mean = if counts.calls == 0 { 0.0 } else { microseconds as f64 / counts.calls as f64 };
        let (calls, rejected, failed) = (counts.calls, counts.rejected, counts.failed);
        lines.add(
            format_args!("cmdstat_{name}"),
            format_args!(
                "calls={calls},usec={microseconds},usec_per_call={mean:.2},rejected_calls={rejected},failed_calls={failed}"
            ),
        );
    }
}

pub fn errors(facts: &Facts, lines: &mut Lines) {
    for (prefix, count) in facts.service.statistics.errors() {
        lines.add(format_args!("errorstat_{prefix}"), format_args!("count={count}"));
    }
}

pub fn latencies(facts: &Facts, lines: &mut Lines) {
    let statistics = &facts.service.statistics;
    if !facts.settings.latency_tracking {
        return;
    }
    for (number, name) in statistics.names().iter().enumerate() {
        let Some(latency) = statistics.latency(number) else { continue };
        let shown = facts
            .settings
            .latency_tracking_info_percentiles
            .iter()
            .map(|percent| format!("p{percent}={:.3}", latency.percentile_ns(*percent) as f64 / 1000.0));
        let shown = shown.collect::<Vec<_>>().join(",");
        lines.add(format_args!("latency_percentiles_usec_{name}"), shown);
    }
}
