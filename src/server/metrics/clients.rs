//! Who is connected, what they send and get, who was refused.

use super::{Metric, counter, counters, gauge};
use crate::observability::statistics::Counter;
use crate::session::pubsub::Channels;
use std::sync::atomic::Ordering;

pub const METRICS: &[Metric] = &[
    gauge("larder_connected_clients", "Connections open now.", |facts| facts.service.clients.count() as f64),
    gauge("larder_max_clients", "How many connections may be open: maxclients.", |facts| {
        facts.settings.maxclients as f64
    }),
    gauge(
        "larder_blocked_clients",
        "Clients that wait in a blocking command, or for the end of a pause.",
        |facts| facts.service.clients.blocked() as f64,
    ),
    gauge(
        "larder_clients_awaiting_replicas",
        "Connections that hold replies until replicas have confirmed the writes.",
        |facts| facts.service.confirming.load(Ordering::Relaxed) as f64,
    ),
    gauge("larder_client_buffers_bytes", "What the buffers of all clients take.", |facts| {
        facts.service.clients.memory() as f64
    }),
    counter("larder_connections_received_total", "Connections accepted.", |facts| {
        facts.counted(Counter::Connections)
    }),
    counter("larder_connections_rejected_total", "Connections refused because of maxclients.", |facts| {
        facts.counted(Counter::ConnectionsRejected)
    }),
    counters(
        "larder_clients_closed_total",
        &["reason"],
        "Clients closed for what they take: the limit of output buffers, of query buffers, maxmemory-clients.",
        |facts, samples| {
            for (reason, counter) in [
                ("output-buffer", Counter::OutputBufferDisconnections),
                ("query-buffer", Counter::QueryBufferDisconnections),
                ("maxmemory-clients", Counter::EvictedClients),
            ] {
                samples.add(&[reason], facts.counted(counter));
            }
        },
    ),
    counters(
        "larder_access_denied_total",
        &["reason"],
        "What was refused to a client: authentication, a command, a key, a channel.",
        |facts, samples| {
            for (reason, counter) in [
                ("auth", Counter::AccessDeniedAuth),
                ("command", Counter::AccessDeniedCommand),
                ("key", Counter::AccessDeniedKey),
                ("channel", Counter::AccessDeniedChannel),
            ] {
                samples.add(&[reason], facts.counted(counter));
            }
        },
    ),
    counter("larder_net_input_bytes_total", "Bytes read from clients.", |facts| {
        facts.counted(Counter::NetInput)
    }),
    counter("larder_net_output_bytes_total", "Bytes sent to clients.", |facts| {
        facts.counted(Counter::NetOutput)
    }),
    counter("larder_socket_reads_total", "Reads from clients' sockets.", |facts| {
        facts.counted(Counter::Reads)
    }),
    counter("larder_socket_writes_total", "Writes to clients' sockets.", |facts| {
        facts.counted(Counter::Writes)
    }),
    gauge("larder_pubsub_channels", "Channels that somebody is subscribed to.", |facts| {
        facts.service.pubsub.channel_count(Channels::Global) as f64
    }),
    gauge("larder_pubsub_shard_channels", "Shard channels that somebody is subscribed to.", |facts| {
        facts.service.pubsub.channel_count(Channels::Sharded) as f64
    }),
    gauge("larder_pubsub_patterns", "Patterns that somebody is subscribed to.", |facts| {
        facts.service.pubsub.pattern_count() as f64
    }),
];
