//! Closes clients that are idle for too long (`timeout`) or have had too much output waiting for too long (the soft limit of
//! `client-output-buffer-limit`): once a second, for all of them together, so that no connection needs a timer. What a connection
//! does not see by itself, that others have made `maxmemory-clients` be exceeded, is seen here too.

use crate::base::clock;
use crate::config::Settings;
use crate::session::client::{Client, Kind, limited_output_len};
use crate::session::service::Service;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

const GAP: Duration = Duration::from_secs(1);

/// Sweeps until the server stops.
pub async fn sweep(service: Arc<Service>) {
    let stop = service.stop.token();
    let mut over_since_ms = HashMap::new();
    while stop.run_until_cancelled(tokio::time::sleep(GAP)).await.is_some() {
        let settings = service.settings();
        service.evict_clients(&settings);
        if settings.timeout == 0 && settings.client_output_buffer_limit.iter().all(|limit| limit.soft == 0) {
            continue;
        }
        let now_ms = clock::unix_ms();
        let clients = service.clients.list();
        over_since_ms.retain(|id, _| clients.binary_search_by_key(id, |client| client.id).is_ok());
        for client in clients {
            if is_idle(&client, &settings, now_ms) || is_slow(&client, &settings, now_ms, &mut over_since_ms)
            {
                tracing::debug!(
                    id = client.id,
                    address = client.peer.address,
                    "closing an idle or slow client"
                );
                service.clients.close(&client);
            }
        }
    }
}

/// Idle longer than `timeout`. Who waits on purpose (subscribers, monitors, blocked clients) is never idle.
fn is_idle(client: &Client, settings: &Settings, now_ms: i64) -> bool {
    if settings.timeout == 0 || now_ms - client.last_seen_ms() <= i64::from(settings.timeout) * 1000 {
        return false;
    }
    let profile = client.profile();
    profile.kind() == Kind::Normal && !profile.is_monitor && !profile.is_blocked
}

/// Over the soft limit for longer than it allows.
fn is_slow(client: &Client, settings: &Settings, now_ms: i64, over_since_ms: &mut HashMap<u64, i64>) -> bool {
    let limit = match client.profile().kind() {
        Kind::Normal | Kind::Master => settings.client_output_buffer_limit[0],
        Kind::Replica => settings.client_output_buffer_limit[1],
        Kind::Pubsub => settings.client_output_buffer_limit[2],
    };
    if limit.soft == 0 || limited_output_len(client.output_len()) < limit.soft {
        over_since_ms.remove(&client.id);
        return false;
    }
    now_ms - *over_since_ms.entry(client.id).or_insert(now_ms) > limit.soft_seconds as i64 * 1000
}
