//! Whether clients are served, or why not, in words for people.
//!
//! Ready is who answers commands as it is meant to. A replica whose link is down is, once it was in step, as long as
//! `replica-serve-stale-data` says that old answers are better than none. Writes that are refused, because the disk is full for one, are
//! no reason: to send clients elsewhere would not help, as there is one primary.

use super::Stage;
use crate::base::clock;
use crate::cluster::node::Node;
use crate::replication::LinkState;
use crate::session::service::Service;

/// Ready, or the reason why not.
pub(super) fn ready(stage: &Stage) -> Result<(), String> {
    match stage {
        Stage::Starting(what) => Err((*what).to_owned()),
        Stage::Serving(service) if service.stop.is_ordered() => Err("the server is stopping".to_owned()),
        Stage::Serving(service) => match service.cluster.get() {
            Some(node) => in_cluster(node),
            None => as_replica(service),
        },
    }
}

fn in_cluster(node: &Node) -> Result<(), String> {
    let map = node.map();
    if map.cluster.is_none() {
        return Err("this node is in no cluster yet".to_owned());
    }
    if !node.lease().holds(clock::since_boot()) {
        return Err(
            "this node has no lease: it does not reach a majority of the voters, or nobody leads yet"
                .to_owned(),
        );
    }
    match map.partitions.iter().filter(|place| place.primary.is_none()).count() {
        0 => Ok(()),
        without => Err(format!("{without} of {} partitions have no primary", map.partitions.len())),
    }
}

fn as_replica(service: &Service) -> Result<(), String> {
    let Some((host, port)) = service.replication.followed() else { return Ok(()) };
    let upstream = service.replication.upstream();
    let was_up = upstream.down_since_ms > 0;
    let because = upstream.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
    match upstream.state {
        LinkState::Up => Ok(()),
        LinkState::Syncing => {
            let (read, total) = upstream.snapshot_bytes;
            Err(format!("the data of the primary {host}:{port} is being copied: {read} of {total} bytes"))
        }
        LinkState::Down | LinkState::Connecting if was_up && service.settings().replica_serve_stale_data => {
            Ok(())
        }
        LinkState::Down | LinkState::Connecting => {
            Err(format!("there is no link to the primary {host}:{port}{because}"))
        }
    }
}
