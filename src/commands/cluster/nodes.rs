//! CLUSTER NODES, REPLICAS, INFO and LINKS: who is there, and how the cluster is.

use super::shown::{Role, Shown};
use crate::base::ids::NodeId;
use crate::protocol::reply::Reply;
use std::fmt::Write as _;

/// A line for each node.
pub fn nodes(shown: &Shown) -> Reply {
    let lines = shown.nodes().into_iter().map(|node| line(shown, node) + "\n");
    Reply::Verbatim("txt", lines.collect())
}

/// The lines of those who follow this node, at least in something.
pub fn replicas(shown: &Shown, of: NodeId) -> Reply {
    let follows = |node: &NodeId| {
        shown.map.partitions.iter().any(|place| place.primary == Some(of) && place.replicas.contains(node))
    };
    let lines = shown.nodes().into_iter().filter(follows).map(|node| Reply::bulk(line(shown, node)));
    Reply::Array(lines.collect())
}

/// `id ip:port@bus-port flags master ping-sent pong-received epoch link slots…`
fn line(shown: &Shown, node: NodeId) -> String {
    let address = shown.address(node);
    let (is_live, role) = (shown.is_live(node), shown.role(node));
    let mut flags = Vec::new();
    if node == shown.me {
        flags.push("myself");
    }
    flags.push(if role == Role::Primary { "master" } else { "slave" });
    if !is_live {
        // What others would have to agree on in Redis has been agreed on here once nothing is asked of it any more.
        flags.push(if shown.primaries().contains(&node) { "fail?" } else { "fail" });
    }
    if address.port == 0 {
        flags.push("noaddr");
    }
    let primary = match role {
        Role::Primary => "-".to_owned(),
        Role::ReplicaOf(primary) => primary.to_string(),
    };
    let heard = if is_live && node != shown.me { shown.now_ms } else { 0 };
    let link = if is_live { "connected" } else { "disconnected" };
    let mut line = format!(
        "{node} {}:{}@{} {} {primary} 0 {heard} {} {link}",
        address.host,
        address.port,
        address.bus_port,
        flags.join(","),
        shown.epoch_of(node).0
    );
    for (first, last) in shown.ranges_of(node) {
        if first == last { write!(line, " {first}") } else { write!(line, " {first}-{last}") }
            .expect("a string takes all");
    }
    line
}

/// The state of the cluster, a line for each fact. Messages are not counted.
pub fn info(shown: &Shown) -> Reply {
    let assigned = shown.count_slots(|place| place.primary.is_some());
    let reached = shown.count_slots(|place| place.primary.is_some_and(|node| shown.is_live(node)));
    let facts = [
        ("cluster_slots_assigned", assigned as u64),
        ("cluster_slots_ok", reached as u64),
        ("cluster_slots_pfail", (assigned - reached) as u64),
        ("cluster_slots_fail", 0),
        ("cluster_known_nodes", shown.nodes().len() as u64),
        ("cluster_size", shown.primaries().len() as u64),
        ("cluster_current_epoch", shown.map.epoch().0),
        ("cluster_my_epoch", shown.epoch_of(shown.me).0),
        ("cluster_stats_messages_sent", 0),
        ("cluster_stats_messages_received", 0),
        ("total_cluster_links_buffer_limit_exceeded", 0),
    ];
    let state = if shown.is_ok() { "ok" } else { "fail" };
    let mut text = format!("cluster_state:{state}\r\n");
    facts.iter().for_each(|(name, value)| text.push_str(&format!("{name}:{value}\r\n")));
    Reply::Verbatim("txt", text)
}

/// The ways to other nodes that are heard. Since when, and how much waits there, is not told.
pub fn links(shown: &Shown) -> Reply {
    let others = shown.nodes().into_iter().filter(|node| *node != shown.me && shown.is_live(*node));
    let link = |(node, direction): (NodeId, &'static str)| {
        Reply::Map(vec![
            Reply::Text("direction"),
            Reply::Text(direction),
            Reply::Text("node"),
            Reply::bulk(node.to_string()),
            Reply::Text("create-time"),
            Reply::Int(0),
            Reply::Text("events"),
            Reply::Text("rw"),
            Reply::Text("send-buffer-allocated"),
            Reply::Int(0),
            Reply::Text("send-buffer-used"),
            Reply::Int(0),
        ])
    };
    Reply::Array(others.flat_map(|node| [(node, "to"), (node, "from")]).map(link).collect())
}

#[cfg(test)]
mod tests {
    use super::super::shown::tests::{node, shown};
    use super::*;

    fn text(reply: Reply) -> String {
        match reply {
            Reply::Verbatim("txt", text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nodes_are_shown_as_redis_shows_them() {
        let (one, two, three) = (node(1), node(2), node(3));
        let together = shown(&[(1, &[2, 3]), (1, &[2, 3])]);
        let expect = format!(
            "{one} 10.0.0.1:6379@16379 myself,master - 0 0 2 connected 0-16383\n\
             {two} 10.0.0.2:6379@16379 slave {one} 0 5000 2 connected\n\
             {three} 10.0.0.3:6379@16379 slave,fail {one} 0 0 2 disconnected\n"
        );
        assert_eq!(text(nodes(&together)), expect);
        let Reply::Array(lines) = replicas(&together, one) else { panic!("a list") };
        assert_eq!(lines.len(), 2);
        let spread = shown(&[(3, &[]), (2, &[]), (3, &[])]);
        let third = text(nodes(&spread)).lines().nth(2).map(str::to_owned);
        let expect =
            format!("{three} 10.0.0.3:6379@16379 master,fail? - 0 0 3 disconnected 0-5461 10923-16383");
        assert_eq!(third, Some(expect));
    }

    #[test]
    fn info_counts_slots_by_who_is_heard() {
        let spread = shown(&[(3, &[]), (2, &[]), (1, &[]), (0, &[])]);
        let text = text(info(&spread));
        for fact in [
            "state:fail",
            "slots_assigned:12288",
            "slots_ok:8192",
            "slots_pfail:4096",
            "size:3",
            "known_nodes:3",
            "current_epoch:4",
            "my_epoch:3",
        ] {
            assert!(text.contains(&format!("cluster_{fact}\r\n")), "{fact} in {text}");
        }
    }
}
