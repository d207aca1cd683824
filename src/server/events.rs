//! Publishes what Sentinels would ([`Events`]) to this node's own clients, whenever the map or the view of who is there changes.

use crate::commands::sentinel::events::Events;
use crate::session::pubsub::Channels;
use crate::session::service::Service;
use std::sync::Arc;

/// Publishes until the node ends.
pub async fn publish_events(service: Arc<Service>) {
    let Some(node) = service.cluster.get() else { return };
    let (mut maps, mut views, mut events) = (node.maps(), node.views(), Events::default());
    loop {
        maps.borrow_and_update();
        views.borrow_and_update();
        for (channel, payload) in events.news(&service) {
            service.publish_here(Channels::Global, channel.as_bytes(), payload.as_bytes(), 0);
        }
        let changed = tokio::select! {
            changed = maps.changed() => changed,
            changed = views.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}
