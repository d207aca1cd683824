//! CLUSTER SLOTS and CLUSTER SHARDS: who has which slots.

use super::shown::{Range, Role, Shown, endpoint};
use crate::base::ids::NodeId;
use crate::protocol::reply::Reply;

/// Ranges of slots, each with its primary and the replicas that are heard.
pub fn slots(shown: &Shown) -> Reply {
    let node = |node: NodeId| {
        let address = shown.address(node);
        let port = Reply::Int(i64::from(address.port));
        Reply::Array(vec![endpoint(&address), port, Reply::bulk(node.to_string()), Reply::Map(Vec::new())])
    };
    let range = |range: Range| {
        let replicas = range.replicas.into_iter().filter(|replica| shown.is_live(*replica));
        let mut reply = vec![Reply::Int(i64::from(range.first)), Reply::Int(i64::from(range.last))];
        reply.extend([range.primary].into_iter().chain(replicas).map(node));
        Reply::Array(reply)
    };
    Reply::Array(shown.ranges().into_iter().map(range).collect())
}

/// Slots that the same nodes have, with these nodes. A node that is primary of some slots and replica of others is in more than one.
pub fn shards(shown: &Shown) -> Reply {
    let mut shards: Vec<(NodeId, Vec<NodeId>, Vec<Reply>)> = Vec::new();
    for Range { first, last, primary, replicas } in shown.ranges() {
        let bounds = [first, last].map(|slot| Reply::Int(i64::from(slot)));
        match shards.iter_mut().find(|shard| shard.0 == primary && shard.1 == replicas) {
            Some(shard) => shard.2.extend(bounds),
            None => shards.push((primary, replicas, bounds.to_vec())),
        }
    }
    // Who has nothing is a shard of its own, as in Redis.
    let placed = |node: &NodeId| shards.iter().any(|shard| shard.0 == *node || shard.1.contains(node));
    let idle: Vec<NodeId> = shown.nodes().into_iter().filter(|node| !placed(node)).collect();
    shards.extend(idle.into_iter().map(|node| (node, Vec::new(), Vec::new())));
    let shard = |(primary, replicas, slots): (NodeId, Vec<NodeId>, Vec<Reply>)| {
        let mut nodes = vec![node_of_shard(shown, primary, Role::Primary)];
        nodes.extend(replicas.iter().map(|node| node_of_shard(shown, *node, Role::ReplicaOf(primary))));
        Reply::Map(vec![Reply::Text("slots"), Reply::Array(slots), Reply::Text("nodes"), Reply::Array(nodes)])
    };
    Reply::Array(shards.into_iter().map(shard).collect())
}

fn node_of_shard(shown: &Shown, node: NodeId, role: Role) -> Reply {
    let address = shown.address(node);
    let heard = shown.view.live.get(&node).or_else(|| shown.view.dead.get(&node));
    let offset = heard.map_or(0, |profile| profile.position.1.0);
    Reply::Map(vec![
        Reply::Text("id"),
        Reply::bulk(node.to_string()),
        Reply::Text("port"),
        Reply::Int(i64::from(address.port)),
        Reply::Text("ip"),
        Reply::bulk(&address.host),
        Reply::Text("endpoint"),
        endpoint(&address),
        Reply::Text("role"),
        Reply::Text(if role == Role::Primary { "master" } else { "replica" }),
        Reply::Text("replication-offset"),
        Reply::Int(offset as i64),
        Reply::Text("health"),
        Reply::Text(if shown.is_live(node) { "online" } else { "fail" }),
    ])
}

#[cfg(test)]
mod tests {
    use super::super::shown::tests::{node, shown};
    use super::*;

    /// The reply in one line, as a client of RESP2 gets it.
    fn line(reply: &Reply) -> String {
        match reply {
            Reply::Array(all) | Reply::Map(all) => {
                format!("[{}]", all.iter().map(line).collect::<Vec<_>>().join(" "))
            }
            Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).replace(&node(1).to_string()[2..], ""),
            Reply::Text(text) => (*text).to_owned(),
            Reply::Int(number) => number.to_string(),
            other => format!("{other:?}"),
        }
    }

    fn id(number: u8) -> String {
        node(number).to_string()
    }

    #[test]
    fn slots_name_the_primary_first_and_no_dead_replica() {
        let reply = slots(&shown(&[(1, &[2, 3]), (2, &[1])]));
        let (one, two) = ("[10.0.0.1 6379 01 []]", format!("[10.0.0.2 6379 {} []]", id(2)));
        assert_eq!(line(&reply), format!("[[0 8191 {one} {two}] [8192 16383 {two} {one}]]"));
    }

    #[test]
    fn shards_are_slots_with_the_same_nodes() {
        let reply = shards(&shown(&[(1, &[3]), (2, &[]), (1, &[3]), (2, &[])]));
        let of = |id: &str, number: u8, role, health| {
            format!(
                "[id {id} port 6379 ip 10.0.0.{number} endpoint 10.0.0.{number} role {role} replication-offset 0 health {health}]"
            )
        };
        let (one, two, three) = (
            of("01", 1, "master", "online"),
            of(&id(2), 2, "master", "online"),
            of(&id(3), 3, "replica", "fail"),
        );
        let expect = format!(
            "[[slots [0 4095 8192 12287] nodes [{one} {three}]] [slots [4096 8191 12288 16383] nodes [{two}]]]"
        );
        assert_eq!(line(&reply), expect);
        let idle = line(&shards(&shown(&[(1, &[])])));
        assert!(idle.contains(&format!("[slots [] nodes [{two}]]")), "{idle}");
    }
}
