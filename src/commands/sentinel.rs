//! SENTINEL, on every node of a cluster: clients that look for a primary by the name of a master find it here.
//!
//! Each node answers for all that a group of Sentinels would. The masters that are shown are those of `sentinel-master-name`; asked for
//! one by name, a node takes any name, as there is one cluster. While the primary is dead and there is no other yet, this node stands
//! for it: it takes any command and lets it wait for the next primary. Nothing can be configured here.

pub mod events;

use super::cluster::shown::Shown;
use super::{Command, Failure, Outcome, Request, container, help_from_table, session};
use crate::base::ids::NodeId;
use crate::protocol::error::ErrorReply;
use crate::protocol::reply::Reply;
use crate::protocol::spec::Group;
use crate::protocol::spec::flag::ADMIN;
use crate::protocol::spec::syntax::{integer, pattern, string};
use crate::session::session::Session;

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[container(
    "sentinel",
    &[
        session("ckquorum", check_quorum)
            .arity(3)
            .flags(ADMIN)
            .group(Group::Cluster)
            .since("2.8.4")
            .summary("Says whether enough nodes are there to replace a primary.")
            .arguments(&[string("master-name")]),
        session("config", config)
            .arity(-3)
            .flags(ADMIN)
            .group(Group::Cluster)
            .since("6.2.0")
            .complexity("O(1)")
            .summary("Shows parameters that Sentinels have.")
            .arguments(&[string("get"), pattern("parameter")]),
        session("get-master-addr-by-name", address_of_master)
            .arity(3)
            .flags(ADMIN)
            .group(Group::Cluster)
            .since("2.8.4")
            .complexity("O(1)")
            .summary("Says where the primary is.")
            .arguments(&[string("master-name")]),
        session("help", help_from_table)
            .arity(2)
            .flags(ADMIN)
            .group(Group::Cluster)
            .since("6.2.0")
            .complexity("O(1)")
            .summary("Explains the subcommands."),
        session("is-master-down-by-addr", is_master_down)
            .arity(6)
            .flags(ADMIN)
            .group(Group::Cluster)
            .since("2.8.4")
            .complexity("O(1)")
            .summary("Says whether a primary is not heard.")
            .arguments(&[string("ip"), integer("port"), integer("current-epoch"), string("runid")]),
        session("master", master)
            .arity(3)
            .flags(ADMIN)
            .group(Group::Cluster)
            .since("2.8.4")
            .complexity("O(1)")
            .summary("Describes the primary.")
            .arguments(&[string("master-name")]),
        session("masters", masters)
            .arity(2)
            .flags(ADMIN)
            .group(Group::Cluster)
            .since("2.8.4")
            .complexity("O(N) where N is the number of names")
            .summary("Describes the primary, under each of its names."),
        session("myid", my_id)
            .arity(2)
            .flags(ADMIN)
            .group(Group::Cluster)
            .since("6.2.0")
            .complexity("O(1)")
            .summary("Shows the id of this node."),
        session("replicas", replicas)
            .arity(3)
            .flags(ADMIN)
            .group(Group::Cluster)
            .since("5.0.0")
            .complexity("O(N) where N is the number of replicas")
            .summary("Describes the replicas.")
            .arguments(&[string("master-name")]),
        session("sentinels", sentinels)
            .arity(3)
            .flags(ADMIN)
            .group(Group::Cluster)
            .since("2.8.4")
            .complexity("O(N) where N is the number of nodes")
            .summary("Describes the other nodes, which all answer this.")
            .arguments(&[string("master-name")]),
        session("slaves", replicas)
            .arity(3)
            .flags(ADMIN)
            .group(Group::Cluster)
            .since("2.8.0")
            .complexity("O(N) where N is the number of replicas")
            .summary("Describes the replicas.")
            .arguments(&[string("master-name")])
            .deprecated("5.0.0", "`SENTINEL REPLICAS`"),
    ],
)
.arity(-2)
.flags(ADMIN)
.group(Group::Cluster)
.since("2.8.4")
.complexity("Depends on the subcommand")
.summary("What clients ask Sentinels.")];

const NO_CLUSTER: ErrorReply =
    ErrorReply::fixed("ERR This server is in no cluster, so it answers for no Sentinel");
/// After so many milliseconds a node that is not heard is taken for dead.
const DOWN_AFTER_MS: &str = "1000";

fn shown(request: &Request) -> Result<Shown, Failure> {
    Ok(Shown::of(request.service, request.now).ok_or(NO_CLUSTER)?)
}

/// Who answers: the primary of most partitions, or this node where that one is not heard, or may be gone. (If it is not, what comes here
/// is forwarded to it.)
fn primary(shown: &Shown) -> NodeId {
    let is_there = |node: &NodeId| shown.is_live(*node) && !shown.suspects.contains(node);
    decided_primary(shown).filter(is_there).unwrap_or(shown.me)
}

/// The primary of most partitions, heard or not.
fn decided_primary(shown: &Shown) -> Option<NodeId> {
    let partitions = |node: &NodeId| shown.map.primary_of(*node).count();
    shown.primaries().into_iter().max_by_key(partitions)
}

fn fields(pairs: &[(&'static str, String)]) -> Reply {
    let pairs = pairs.iter().flat_map(|(name, value)| [Reply::Text(name), Reply::bulk(value)]);
    Reply::Map(pairs.collect())
}

/// What is said of every node: under which name, where it is, what it is, and that it is well, or not.
fn node_fields(shown: &Shown, node: NodeId, name: &str, kind: &str) -> Vec<(&'static str, String)> {
    let address = shown.address(node);
    let (flags, silence) = if shown.is_live(node) {
        (kind.to_owned(), "0")
    } else {
        (format!("s_down,{kind},disconnected"), DOWN_AFTER_MS)
    };
    vec![
        ("name", name.to_owned()),
        ("ip", address.host),
        ("port", address.port.to_string()),
        ("runid", node.to_string()),
        ("flags", flags),
        ("link-pending-commands", "0".into()),
        ("link-refcount", "1".into()),
        ("last-ping-sent", silence.into()),
        ("last-ok-ping-reply", silence.into()),
        ("last-ping-reply", silence.into()),
        ("down-after-milliseconds", DOWN_AFTER_MS.into()),
    ]
}

/// Who has copies and does not answer.
fn copies(shown: &Shown) -> Vec<NodeId> {
    let primary = primary(shown);
    let has_data = |node: &NodeId| shown.map.partitions.iter().any(|place| place.replicas.contains(node));
    shown.nodes().into_iter().filter(|node| *node != primary && has_data(node)).collect()
}

/// All nodes but this one.
fn others(shown: &Shown) -> impl Iterator<Item = NodeId> {
    let me = shown.me;
    shown.nodes().into_iter().filter(move |node| *node != me)
}

fn quorum(shown: &Shown) -> usize {
    shown.nodes().len() / 2 + 1
}

fn master_fields(shown: &Shown, name: &str) -> Reply {
    let mut pairs = node_fields(shown, primary(shown), name, "master");
    pairs.extend([
        ("info-refresh", "0".into()),
        ("role-reported", "master".into()),
        ("role-reported-time", "0".into()),
        ("config-epoch", shown.map.epoch().0.to_string()),
        ("num-slaves", copies(shown).len().to_string()),
        ("num-other-sentinels", others(shown).count().to_string()),
        ("quorum", quorum(shown).to_string()),
        ("failover-timeout", "180000".into()),
        ("parallel-syncs", "1".into()),
    ]);
    fields(&pairs)
}

fn replica_fields(shown: &Shown, node: NodeId) -> Reply {
    let (address, upstream) = (shown.address(node), shown.address(primary(shown)));
    let heard = shown.view.live.get(&node).or_else(|| shown.view.dead.get(&node));
    let (link, down_ms) = if shown.is_live(node) { ("ok", "0") } else { ("err", DOWN_AFTER_MS) };
    let mut pairs = node_fields(shown, node, &format!("{}:{}", address.host, address.port), "slave");
    pairs.extend([
        ("info-refresh", "0".into()),
        ("role-reported", "slave".into()),
        ("role-reported-time", "0".into()),
        ("master-link-down-time", down_ms.into()),
        ("master-link-status", link.into()),
        ("master-host", upstream.host),
        ("master-port", upstream.port.to_string()),
        ("slave-priority", "100".into()),
        ("slave-repl-offset", heard.map_or(0, |profile| profile.position.1.0).to_string()),
        ("replica-announced", "1".into()),
    ]);
    fields(&pairs)
}

fn sentinel_fields(shown: &Shown, node: NodeId) -> Reply {
    let mut pairs = node_fields(shown, node, &node.to_string(), "sentinel");
    pairs.extend([
        ("last-hello-message", "0".into()),
        ("voted-leader", "?".into()),
        ("voted-leader-epoch", "0".into()),
    ]);
    fields(&pairs)
}

fn masters(request: &Request, _: &mut Session) -> Outcome {
    let shown = shown(request)?;
    let names = request.settings.cluster.master_names.iter();
    Ok(Reply::Array(names.map(|name| master_fields(&shown, name)).collect()))
}

fn master(request: &Request, _: &mut Session) -> Outcome {
    Ok(master_fields(&shown(request)?, &String::from_utf8_lossy(request.args.at(2))))
}

fn replicas(request: &Request, _: &mut Session) -> Outcome {
    let shown = shown(request)?;
    Ok(Reply::Array(copies(&shown).into_iter().map(|node| replica_fields(&shown, node)).collect()))
}

fn sentinels(request: &Request, _: &mut Session) -> Outcome {
    let shown = shown(request)?;
    Ok(Reply::Array(others(&shown).map(|node| sentinel_fields(&shown, node)).collect()))
}

fn address_of_master(request: &Request, _: &mut Session) -> Outcome {
    let shown = shown(request)?;
    let address = shown.address(primary(&shown));
    if address.port == 0 {
        return Ok(Reply::NullArray);
    }
    Ok(Reply::Array(vec![Reply::bulk(&address.host), Reply::bulk(address.port.to_string())]))
}

fn my_id(request: &Request, _: &mut Session) -> Outcome {
    Ok(Reply::bulk(shown(request)?.me.to_string()))
}

fn check_quorum(request: &Request, _: &mut Session) -> Outcome {
    quorum_of(&shown(request)?)
}

fn quorum_of(shown: &Shown) -> Outcome {
    let usable = others(shown).filter(|node| shown.is_live(*node)).count() + 1;
    if usable >= quorum(shown) && shown.has_leader {
        let text = format!("OK {usable} usable Sentinels. Quorum and failover authorization can be reached");
        return Ok(Reply::Status(text));
    }
    let text = format!(
        "NOQUORUM {usable} usable Sentinels. Not enough available Sentinels to reach the majority and authorize a failover"
    );
    Err(ErrorReply::new(text).into())
}

/// Whether a primary is not heard. Votes are asked for elsewhere: none is given.
fn is_master_down(request: &Request, _: &mut Session) -> Outcome {
    let shown = shown(request)?;
    let (host, port) = (request.args.at(2), request.args.int(3)?);
    request.args.int(4)?;
    let is_it = |node: &NodeId| {
        let address = shown.address(*node);
        address.host.as_bytes() == host && i64::from(address.port) == port
    };
    let is_down = shown.primaries().into_iter().filter(is_it).any(|node| !shown.is_live(node));
    Ok(Reply::Array(vec![Reply::Int(i64::from(is_down)), Reply::Text("*"), Reply::Int(0)]))
}

/// `SENTINEL CONFIG GET pattern`, of what never changes here.
fn config(request: &Request, _: &mut Session) -> Outcome {
    const PARAMETERS: [(&str, &str); 6] = [
        ("resolve-hostnames", "yes"),
        ("announce-hostnames", "no"),
        ("announce-ip", ""),
        ("announce-port", "0"),
        ("sentinel-user", ""),
        ("sentinel-pass", ""),
    ];
    let is_get = request.args.at(2).eq_ignore_ascii_case(b"get");
    let Some(pattern) = request.args.get(3).filter(|_| is_get && request.args.len() == 4) else {
        let words = "ERR Only SENTINEL CONFIG GET <option> / SET <option> <value> are supported.";
        return Err(ErrorReply::fixed(words).into());
    };
    shown(request)?;
    let fits = |name: &str| crate::base::glob::matches(pattern, name.as_bytes(), true);
    let found = PARAMETERS.iter().filter(|(name, _)| fits(name));
    Ok(Reply::Map(found.flat_map(|(name, value)| [Reply::Text(name), Reply::Text(value)]).collect()))
}

#[cfg(test)]
mod tests {
    use super::super::cluster::shown::tests::{node, shown};
    use super::*;

    fn value(reply: &Reply, field: &str) -> String {
        let Reply::Map(pairs) = reply else { panic!("{reply:?}") };
        let pair = pairs.chunks(2).find(|pair| matches!(pair[0], Reply::Text(name) if name == field));
        match pair {
            Some([_, Reply::Bulk(bytes)]) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("{field}: {other:?}"),
        }
    }

    #[test]
    fn the_primary_has_any_name() {
        let cluster = shown(&[(2, &[1, 3]), (2, &[1, 3])]);
        let master = master_fields(&cluster, "any");
        for (field, expect) in [
            ("name", "any"),
            ("ip", "10.0.0.2"),
            ("flags", "master"),
            ("num-slaves", "2"),
            ("num-other-sentinels", "2"),
            ("quorum", "2"),
            ("config-epoch", "2"),
        ] {
            assert_eq!(value(&master, field), expect, "{field}");
        }
        let third = replica_fields(&cluster, node(3));
        for (field, expect) in [
            ("name", "10.0.0.3:6379"),
            ("flags", "s_down,slave,disconnected"),
            ("master-host", "10.0.0.2"),
            ("master-link-status", "err"),
        ] {
            assert_eq!(value(&third, field), expect, "{field}");
        }
        assert_eq!(value(&sentinel_fields(&cluster, node(2)), "flags"), "sentinel");
        let Ok(Reply::Status(text)) = quorum_of(&cluster) else { panic!("a quorum") };
        assert!(text.starts_with("OK 2 usable Sentinels"));
    }

    #[test]
    fn a_dead_primary_is_stood_for_until_there_is_another() {
        let cluster = shown(&[(3, &[1, 2])]);
        let master = master_fields(&cluster, "mymaster");
        assert_eq!((value(&master, "ip"), value(&master, "flags")), ("10.0.0.1".into(), "master".into()));
        assert_eq!(copies(&cluster), [node(2)]);
        let broken = Shown { suspects: [node(2)].into(), ..shown(&[(2, &[1, 3])]) };
        assert_eq!(primary(&broken), node(1), "its connection broke");
        assert!(quorum_of(&Shown { has_leader: false, ..cluster }).is_err());
    }
}
