//! The section on the cluster: who leads, which map is in force, and how primaries changed.

use super::Lines;
use super::facts::Facts;
use crate::base::clock;
use crate::base::ids::NodeId;
use crate::cluster::map::Failover;

/// Changes of primaries that are shown.
const FAILOVERS_SHOWN: usize = 16;

pub fn cluster(facts: &Facts, lines: &mut Lines) {
    lines.add("cluster_enabled", i32::from(facts.settings.cluster.is_spread));
    let Some(node) = facts.service.cluster.get() else { return };
    let (map, view, now) = (node.map(), node.view(), clock::since_boot());
    let named = |node: Option<NodeId>| node.map_or_else(String::new, |node| node.to_string());
    lines.add("larder_cluster_id", named(map.cluster));
    lines.add("larder_cluster_node_id", node.me());
    lines.add("larder_cluster_map_version", map.version);
    lines.add("larder_cluster_leader", named(node.control().leading().borrow().leader));
    lines.add("larder_cluster_nodes", map.nodes.len());
    lines.add(
        "larder_cluster_nodes_live",
        map.nodes.keys().filter(|node| view.live.contains_key(node)).count(),
    );
    lines.add("larder_cluster_replicas", map.copies.saturating_sub(1));
    for (number, (id, member)) in map.nodes.iter().enumerate() {
        let state = match member {
            member if member.is_leaving => "leaving",
            _ if view.live.contains_key(id) || *id == node.me() => "live",
            _ => "silent",
        };
        let copies = map.partitions.iter().filter(|place| place.copies().any(|copy| copy == *id)).count();
        lines.add(
            format_args!("larder_cluster_node{number}"),
            format_args!(
                "id={id},host={},port={},state={state},primary_of={},copies_of={copies}",
                member.address.host,
                member.address.port,
                map.primary_of(*id).count(),
            ),
        );
    }
    lines.add("larder_cluster_voters", node.control().voters().0.len());
    lines.add("larder_cluster_primary_of", map.primary_of(node.me()).count());
    lines.add(
        "larder_cluster_without_primary",
        map.partitions.iter().filter(|it| it.primary.is_none()).count(),
    );
    // Copies that do not count yet: nobody of them becomes primary.
    lines.add("larder_cluster_learners", map.partitions.iter().map(|it| it.learners.len()).sum::<usize>());
    let lease_ms = node.lease().until().map_or(0, |until| until.saturating_sub(now).as_millis());
    lines.add("larder_cluster_lease_ms", lease_ms);
    lines.add("larder_cluster_parked_commands", facts.service.forwarding.parked.commands());
    lines.add("larder_cluster_failovers", map.failovers.len());
    let first = map.failovers.len().saturating_sub(FAILOVERS_SHOWN);
    for (number, failover) in map.failovers.iter().enumerate().skip(first) {
        lines.add(format_args!("larder_cluster_failover{number}"), described(failover));
    }
}

fn described(failover: &Failover) -> String {
    let Failover { at_ms, reason, from, to, partitions, epoch, lsn } = failover;
    let from = from.map_or_else(|| "-".to_owned(), |from| from.to_string());
    format!(
        "at={},reason={},from={from},to={to},partitions={partitions},epoch={},lsn={lsn}",
        clock::iso_8601(*at_ms),
        reason.name(),
        epoch.0
    )
}
