//! The section on replication: who follows whom, in Redis's words and order.

use super::Lines;
use super::facts::Facts;
use crate::replication::progress::Follower;
use crate::replication::{LinkState, Upstream};
use sha2::{Digest, Sha256};

pub fn replication(facts: &Facts, lines: &mut Lines) {
    let replication = &facts.service.replication;
    let followed = replication.followed();
    let upstream = replication.upstream();
    let now_ms = replication.now_ms();
    lines.add("role", if replication.is_replica() { "slave" } else { "master" });
    if let Some((host, port)) = &followed {
        lines.add("master_host", host);
        lines.add("master_port", port);
        link(&upstream, now_ms, lines);
        lines.add("slave_priority", facts.settings.replica_priority);
        lines.add("slave_read_only", 1);
        lines.add("replica_announced", i32::from(facts.settings.replica_announced));
    }
    let (followers, whole) = (replication.followers(), replication.whole());
    lines.add("connected_slaves", followers.len());
    let lag_max_ms = u64::from(facts.settings.min_replicas_max_lag) * 1000;
    if facts.settings.min_replicas_to_write > 0 && lag_max_ms > 0 {
        lines.add("min_slaves_good_slaves", replication.good(lag_max_ms));
    }
    for (number, (link, follower)) in followers.iter().enumerate() {
        lines.add(format_args!("slave{number}"), describe(follower, whole.contains(link), now_ms));
    }
    lines.add("master_failover_state", "no-failover");
    let own = facts.service.store.node();
    lines.add("master_replid", replication_id(if upstream.node.is_empty() { own } else { &upstream.node }));
    lines.add("master_replid2", "0".repeat(40));
    let position = facts.store.journal_position;
    lines.add("master_repl_offset", if followed.is_some() { upstream.position } else { position });
    lines.add("second_repl_offset", -1);
    let (is_active, kept) = (!followers.is_empty(), facts.store.journal_bytes.min(position));
    lines.add("repl_backlog_active", i32::from(is_active));
    lines.add("repl_backlog_size", facts.settings.repl_backlog_size);
    lines.add("repl_backlog_first_byte_offset", if is_active { position - kept } else { 0 });
    lines.add("repl_backlog_histlen", if is_active { kept } else { 0 });
    let lost = replication.lost();
    lines.add("lost_transactions", lost.transactions());
    lines.add("lost_files", lost.files());
}

/// What a replica knows of its link.
fn link(upstream: &Upstream, now_ms: u64, lines: &mut Lines) {
    let seconds_since = |ms: u64| now_ms.saturating_sub(ms) / 1000;
    let (is_up, is_syncing) = (upstream.state == LinkState::Up, upstream.state == LinkState::Syncing);
    let heard_s = if is_up || is_syncing { seconds_since(upstream.heard_ms) as i64 } else { -1 };
    lines.add("master_link_status", if is_up { "up" } else { "down" });
    lines.add("master_last_io_seconds_ago", if is_up { heard_s } else { -1 });
    lines.add("master_sync_in_progress", i32::from(is_syncing));
    lines.add("slave_read_repl_offset", upstream.position);
    lines.add("slave_repl_offset", upstream.position);
    if is_syncing {
        let (read, total) = upstream.snapshot_bytes;
        lines.add("master_sync_total_bytes", total);
        lines.add("master_sync_read_bytes", read);
        lines.add("master_sync_left_bytes", total.saturating_sub(read));
        let percent = if total == 0 { 0.0 } else { read as f64 / total as f64 * 100.0 };
        lines.add("master_sync_perc", format_args!("{percent:.2}"));
        lines.add("master_sync_last_io_seconds_ago", heard_s);
    }
    if !is_up {
        let down_s = (upstream.down_since_ms > 0).then(|| seconds_since(upstream.down_since_ms) as i64);
        lines.add("master_link_down_since_seconds", down_s.unwrap_or(-1));
    }
}

fn describe(follower: &Follower, is_whole: bool, now_ms: u64) -> String {
    let (host, port) = &follower.address;
    let state = if is_whole { "online" } else { "send_bulk" };
    let lag_s = now_ms.saturating_sub(follower.heard_ms) / 1000;
    format!("ip={host},port={port},state={state},offset={},lag={lag_s}", follower.journaled)
}

/// Forty hexadecimal digits for a node, as Redis has them for a history.
pub fn replication_id(node: &str) -> String {
    Sha256::digest(node.as_bytes()).iter().take(20).map(|byte| format!("{byte:02x}")).collect()
}
