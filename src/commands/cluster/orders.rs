//! What CLUSTER can be told to do: to meet, to forget, to take over. What Redis Cluster is told about slots this cluster does by itself.

use super::shown::Shown;
use crate::base::ids::NodeId;
use crate::base::number;
use crate::cluster::node::Node;
use crate::commands::{Outcome, Request};
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use std::sync::Arc;

/// From a port for clients to one for other nodes.
const BUS_PORT_GAP: i64 = 10_000;
/// Reason for all that is about slots and epochs.
const BY_ITSELF: ErrorReply = ErrorReply::fixed(
    "ERR Slots, replicas and epochs are assigned by the cluster itself: start a node with cluster-seeds to add it, and see CLUSTER FORGET and CLUSTER FAILOVER",
);
const NO_RESET: ErrorReply = ErrorReply::fixed(
    "ERR A node does not leave its cluster by CLUSTER RESET: have it forgotten at another node (CLUSTER FORGET), stop it, and start it with an empty data folder",
);

/// Slots are not given by hand.
pub fn by_itself() -> Outcome {
    Err(BY_ITSELF.into())
}

/// `CLUSTER RESET [HARD|SOFT]`
pub fn reset(request: &Request) -> Outcome {
    let is_known = request
        .args
        .get(2)
        .is_none_or(|word| word.eq_ignore_ascii_case(b"hard") || word.eq_ignore_ascii_case(b"soft"));
    if is_known && request.args.len() <= 3 { Err(NO_RESET.into()) } else { Err(error::SYNTAX.into()) }
}

/// `CLUSTER MEET host port [bus-port]`. Who was to be forgotten stays when it is met again.
pub fn meet(request: &Request, shown: &Shown, node: &Arc<Node>) -> Outcome {
    let (host, port) = (request.args.at(2), request.args.at(3));
    let wrong = |what: &str, word: &[u8]| {
        ErrorReply::quoting(&format!("ERR Invalid TCP {what} port specified: "), word, "")
    };
    let port_of = |what, word| number::parse_i64(word).ok_or_else(|| wrong(what, word));
    let client_port = port_of("base", port)?;
    let bus_port = request.args.get(4).map_or(Ok(client_port + BUS_PORT_GAP), |word| port_of("bus", word))?;
    let host = std::str::from_utf8(host)
        .ok()
        .filter(|host| crate::cluster::membership::profile::is_name(host, 253) && !host.is_empty());
    let (Some(host), Ok(bus_port)) = (host, u16::try_from(bus_port)) else {
        let shown = String::from_utf8_lossy(request.args.at(2)).into_owned();
        return Err(
            ErrorReply::quoting(&format!("ERR Invalid node address specified: {shown}:"), port, "").into()
        );
    };
    let is_it = |other: &NodeId| {
        let address = shown.address(*other);
        address.host == host && address.bus_port == bus_port
    };
    let mut leaving = shown.map.nodes.iter().filter(|(_, member)| member.is_leaving).map(|(other, _)| *other);
    if let Some(other) = leaving.find(is_it) {
        let node = Arc::clone(node);
        return order(format!("keep node {other}"), async move { node.have_kept(other).await });
    }
    let seed = if host.contains(':') { format!("[{host}]:{bus_port}") } else { format!("{host}:{bus_port}") };
    if node.meet(seed) {
        Ok(Reply::Ok)
    } else {
        Err(ErrorReply::fixed("ERR Too many nodes are to be met already").into())
    }
}

/// `CLUSTER FORGET id`: answers when the order is on its way, as in Redis. What the node has is given to others first, so it may be
/// the primary of this one, too.
pub fn forget(request: &Request, shown: &Shown, node: &Arc<Node>) -> Outcome {
    let word = request.args.at(2);
    let unknown = || ErrorReply::quoting("ERR Unknown node ", word, "");
    let other = shown.find(word).ok_or_else(unknown)?;
    if other == shown.me {
        return Err(ErrorReply::fixed("ERR I tried hard but I can't forget myself...").into());
    }
    let node = Arc::clone(node);
    order(format!("forget node {other}"), async move { node.have_forgotten(other).await })
}

/// `CLUSTER FAILOVER [FORCE|TAKEOVER]`: the primary hands over what this node follows of it. If it is dead, that happens by itself.
pub fn failover(request: &Request, shown: &Shown, node: &Arc<Node>) -> Outcome {
    let is_known = request
        .args
        .get(2)
        .is_none_or(|word| word.eq_ignore_ascii_case(b"force") || word.eq_ignore_ascii_case(b"takeover"));
    if !is_known || request.args.len() > 3 {
        return Err(error::SYNTAX.into());
    }
    let follows = shown.map.partitions.iter().any(|place| place.replicas.contains(&shown.me));
    if !follows {
        return Err(ErrorReply::fixed("ERR You should send CLUSTER FAILOVER to a replica").into());
    }
    let node = Arc::clone(node);
    order("take over from the primary".to_owned(), async move { node.take_over().await })
}

/// `FAILOVER [TO host port]`: this node, a primary, gives everything away.
pub fn give_all(to: Option<NodeId>, node: &Arc<Node>) -> Outcome {
    let node = Arc::clone(node);
    order("hand over".to_owned(), async move { node.give_all(to).await })
}

/// `CONFIG SET replicas n`: the cluster's number of copies.
pub fn set_replicas(replicas: u16, node: &Arc<Node>) -> Outcome {
    let node = Arc::clone(node);
    order(format!("{replicas} replicas of everything"), async move { node.set_copies(replicas + 1).await })
}

/// Has something done on this thread's runtime; what comes of it is in the log.
fn order(what: String, doing: impl Future<Output = Result<(), String>> + Send + 'static) -> Outcome {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return Err(ErrorReply::fixed("ERR This is not possible here").into());
    };
    runtime.spawn(async move {
        match doing.await {
            Ok(()) => tracing::info!("done, as ordered: {what}"),
            Err(why) => tracing::warn!("ordered, and not done: {what}: {why}"),
        }
    });
    Ok(Reply::Ok)
}
