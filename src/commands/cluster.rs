//! CLUSTER and its kin.
//!
//! As in Redis, a server answers these if `cluster-enabled` is set, whether its cluster stands yet or not. Where all partitions have
//! their primary on one node, clients are not to take the cluster for one of slots; but who operates it may have nodes met,
//! forgotten and take over there too.

mod nodes;
pub mod orders;
pub mod shown;
mod slots;

use super::{Command, Failure, Outcome, Request, container, help_from_table, session};
use crate::base::crc16;
use crate::base::ids::{NodeId, Slot};
use crate::cluster::node::Node;
use crate::protocol::error::ErrorReply;
use crate::protocol::reply::Reply;
use crate::protocol::spec::Group;
use crate::protocol::spec::flag::{ADMIN, FAST, LOADING, NO_ASYNC_LOADING, NOSCRIPT, STALE};
use crate::protocol::spec::syntax::{block, integer, one_of, string, token};
use crate::session::session::Session;
use crate::store::PartitionSet;
use shown::Shown;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[
    container(
        "cluster",
        &[
            session("addslots", slots_by_hand)
                .arity(-3)
                .flags(ADMIN.and(STALE).and(NO_ASYNC_LOADING))
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(N) where N is the number of slots")
                .summary("Gives slots to this node.")
                .arguments(&[integer("slot").multiple()]),
            session("addslotsrange", slots_by_hand)
                .arity(-4)
                .flags(ADMIN.and(STALE).and(NO_ASYNC_LOADING))
                .group(Group::Cluster)
                .since("7.0.0")
                .complexity("O(N) where N is the number of slots in the ranges")
                .summary("Gives ranges of slots to this node.")
                .arguments(&[
                    block("start-slot_end-slot", &[integer("start-slot"), integer("end-slot")]).multiple()
                ]),
            session("bumpepoch", slots_by_hand)
                .arity(2)
                .flags(ADMIN.and(STALE).and(NO_ASYNC_LOADING))
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(1)")
                .summary("Raises the epoch of the configuration.")
                .tips(&["nondeterministic_output"]),
            session("count-failure-reports", count_failure_reports)
                .arity(3)
                .flags(ADMIN.and(STALE))
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(N) where N is the number of reports")
                .summary("Counts the reports that a node has failed.")
                .arguments(&[string("node-id")])
                .tips(&["nondeterministic_output"]),
            session("countkeysinslot", count_keys_in_slot)
                .arity(3)
                .flags(STALE)
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(1)")
                .summary("Counts the keys of a slot.")
                .arguments(&[integer("slot")]),
            session("delslots", slots_by_hand)
                .arity(-3)
                .flags(ADMIN.and(STALE).and(NO_ASYNC_LOADING))
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(N) where N is the number of slots")
                .summary("Takes slots from this node.")
                .arguments(&[integer("slot").multiple()]),
            session("delslotsrange", slots_by_hand)
                .arity(-4)
                .flags(ADMIN.and(STALE).and(NO_ASYNC_LOADING))
                .group(Group::Cluster)
                .since("7.0.0")
                .complexity("O(N) where N is the number of slots in the ranges")
                .summary("Takes ranges of slots from this node.")
                .arguments(&[
                    block("start-slot_end-slot", &[integer("start-slot"), integer("end-slot")]).multiple()
                ]),
            session("failover", failover)
                .arity(-2)
                .flags(ADMIN.and(STALE).and(NO_ASYNC_LOADING))
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(1)")
                .summary("Lets a replica take over from its master.")
                .arguments(&[
                    one_of("options", &[token("force", "FORCE"), token("takeover", "TAKEOVER")]).optional()
                ]),
            session("flushslots", slots_by_hand)
                .arity(2)
                .flags(ADMIN.and(STALE).and(NO_ASYNC_LOADING))
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(1)")
                .summary("Takes all slots from this node."),
            session("forget", forget)
                .arity(3)
                .flags(ADMIN.and(STALE).and(NO_ASYNC_LOADING))
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(1)")
                .summary("Removes a node from the table of nodes.")
                .arguments(&[string("node-id")]),
            session("getkeysinslot", get_keys_in_slot)
                .arity(4)
                .flags(STALE)
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(log(N)) where N is the number of keys asked for")
                .summary("Lists keys of a slot.")
                .arguments(&[integer("slot"), integer("count")])
                .tips(&["nondeterministic_output"]),
            session("help", help)
                .arity(2)
                .flags(LOADING.and(STALE))
                .group(Group::Cluster)
                .since("5.0.0")
                .complexity("O(1)")
                .summary("Explains the subcommands."),
            session("info", info)
                .arity(2)
                .flags(STALE)
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(1)")
                .summary("Describes the state of the cluster.")
                .tips(&["nondeterministic_output"]),
            session("keyslot", key_slot)
                .arity(3)
                .flags(STALE)
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(N) where N is the length of the key")
                .summary("Computes the slot of a key.")
                .arguments(&[string("key")]),
            session("links", links)
                .arity(2)
                .flags(STALE)
                .group(Group::Cluster)
                .since("7.0.0")
                .complexity("O(N) where N is the number of nodes")
                .summary("Lists the links to other nodes.")
                .tips(&["nondeterministic_output"]),
            session("meet", meet)
                .arity(-4)
                .flags(ADMIN.and(STALE).and(NO_ASYNC_LOADING))
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(1)")
                .summary("Introduces this node to another.")
                .arguments(&[
                    string("ip"),
                    integer("port"),
                    integer("cluster_bus_port").optional().since("4.0.0"),
                ])
                .history(&[("4.0.0", "`cluster_bus_port` came.")]),
            session("myid", my_id)
                .arity(2)
                .flags(STALE)
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(1)")
                .summary("Shows the id of this node."),
            session("myshardid", my_shard_id)
                .arity(2)
                .flags(STALE)
                .group(Group::Cluster)
                .since("7.2.0")
                .complexity("O(1)")
                .summary("Shows the id of the shard that this node is part of.")
                .tips(&["nondeterministic_output"]),
            session("nodes", nodes)
                .arity(2)
                .flags(STALE)
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(N) where N is the number of nodes")
                .summary("Lists the nodes and what they serve.")
                .tips(&["nondeterministic_output"]),
            session("replicas", replicas)
                .arity(3)
                .flags(ADMIN.and(STALE))
                .group(Group::Cluster)
                .since("5.0.0")
                .complexity("O(1)")
                .summary("Lists the replicas of a node.")
                .arguments(&[string("node-id")])
                .tips(&["nondeterministic_output"]),
            session("replicate", slots_by_hand)
                .arity(3)
                .flags(ADMIN.and(STALE).and(NO_ASYNC_LOADING))
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(1)")
                .summary("Makes this node a replica of another.")
                .arguments(&[string("node-id")]),
            session("reset", reset)
                .arity(-2)
                .flags(ADMIN.and(NOSCRIPT).and(STALE))
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(N) where N is the number of nodes")
                .summary("Makes this node forget the cluster.")
                .arguments(
                    &[one_of("hard_soft", &[token("hard", "HARD"), token("soft", "SOFT")]).optional()],
                ),
            session("saveconfig", save_config)
                .arity(2)
                .flags(ADMIN.and(STALE).and(NO_ASYNC_LOADING))
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(1)")
                .summary("Writes the state of the cluster to disk."),
            session("set-config-epoch", slots_by_hand)
                .arity(3)
                .flags(ADMIN.and(STALE).and(NO_ASYNC_LOADING))
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(1)")
                .summary("Sets the epoch of a new node.")
                .arguments(&[integer("config-epoch")]),
            session("setslot", slots_by_hand)
                .arity(-4)
                .flags(ADMIN.and(STALE).and(NO_ASYNC_LOADING))
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(1)")
                .summary("Says which node a slot belongs to or moves to.")
                .arguments(&[
                    integer("slot"),
                    one_of(
                        "subcommand",
                        &[
                            string("node-id").token("IMPORTING"),
                            string("node-id").token("MIGRATING"),
                            string("node-id").token("NODE"),
                            token("stable", "STABLE"),
                        ],
                    ),
                ]),
            session("shards", shards)
                .arity(2)
                .flags(STALE)
                .group(Group::Cluster)
                .since("7.0.0")
                .complexity("O(N) where N is the number of nodes")
                .summary("Lists slots with the nodes that serve them.")
                .tips(&["nondeterministic_output"]),
            session("slaves", replicas)
                .arity(3)
                .flags(ADMIN.and(STALE))
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(1)")
                .summary("Lists the replicas of a node.")
                .arguments(&[string("node-id")])
                .tips(&["nondeterministic_output"])
                .deprecated("5.0.0", "`CLUSTER REPLICAS`"),
            session("slots", slots)
                .arity(2)
                .flags(STALE)
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(N) where N is the number of nodes")
                .summary("Lists ranges of slots with the nodes that serve them.")
                .history(&[("4.0.0", "Shows ids of nodes."), ("7.0.0", "Shows further network data.")])
                .tips(&["nondeterministic_output"])
                .deprecated("7.0.0", "`CLUSTER SHARDS`"),
        ],
    )
    .arity(-2)
    .group(Group::Cluster)
    .since("3.0.0")
    .complexity("Depends on the subcommand")
    .summary("Commands on the cluster."),
    session("readonly", readonly)
        .arity(1)
        .flags(LOADING.and(STALE).and(FAST))
        .group(Group::Cluster)
        .since("3.0.0")
        .complexity("O(1)")
        .summary("Allows this connection to read from a replica.")
        .categories(&["connection"]),
    session("readwrite", readwrite)
        .arity(1)
        .flags(LOADING.and(STALE).and(FAST))
        .group(Group::Cluster)
        .since("3.0.0")
        .complexity("O(1)")
        .summary("Takes back READONLY.")
        .categories(&["connection"]),
    session("asking", asking)
        .arity(1)
        .flags(FAST)
        .group(Group::Cluster)
        .since("3.0.0")
        .complexity("O(1)")
        .summary("Lets the next command into a slot that is moving here.")
        .categories(&["connection"]),
];

const DISABLED: ErrorReply = ErrorReply::fixed("ERR This instance has cluster support disabled");
const NO_CLUSTER: ErrorReply = ErrorReply::fixed("CLUSTERDOWN This node is in no cluster yet");

/// The cluster, for a client that takes it for one of slots.
fn of_slots(request: &Request) -> Result<Shown, Failure> {
    if !request.settings.cluster.is_spread {
        return Err(DISABLED.into());
    }
    Ok(Shown::of(request.service, request.now).ok_or(NO_CLUSTER)?)
}

/// The cluster, for who operates it.
fn of_nodes<'a>(request: &Request<'a>) -> Result<(Shown, &'a Arc<Node>), Failure> {
    let node = request.service.cluster.get().ok_or(DISABLED)?;
    Ok((Shown::of(request.service, request.now).ok_or(DISABLED)?, node))
}

/// The cluster, for a client that asks where slots are: it knows from now on.
fn where_slots_are(request: &Request, session: &mut Session) -> Result<Shown, Failure> {
    // Even if there is no answer yet: who asks is going to ask again.
    session.knows_slots = request.settings.cluster.is_spread;
    of_slots(request)
}

fn slots(request: &Request, session: &mut Session) -> Outcome {
    Ok(slots::slots(&where_slots_are(request, session)?))
}

fn shards(request: &Request, session: &mut Session) -> Outcome {
    Ok(slots::shards(&where_slots_are(request, session)?))
}

fn nodes(request: &Request, session: &mut Session) -> Outcome {
    Ok(nodes::nodes(&where_slots_are(request, session)?))
}

fn info(request: &Request, _: &mut Session) -> Outcome {
    Ok(nodes::info(&of_slots(request)?))
}

fn links(request: &Request, _: &mut Session) -> Outcome {
    Ok(nodes::links(&of_slots(request)?))
}

fn my_id(request: &Request, _: &mut Session) -> Outcome {
    Ok(Reply::bulk(of_slots(request)?.me.to_string()))
}

/// A shard is named after its primary: it has no name of its own, as slots do not belong together for good.
fn my_shard_id(request: &Request, _: &mut Session) -> Outcome {
    let shown = of_slots(request)?;
    let primary = match shown.role(shown.me) {
        shown::Role::Primary => shown.me,
        shown::Role::ReplicaOf(primary) => primary,
    };
    Ok(Reply::bulk(primary.to_string()))
}

fn replicas(request: &Request, _: &mut Session) -> Outcome {
    let shown = of_slots(request)?;
    let node = node_of(request, &shown)?;
    match shown.role(node) {
        shown::Role::Primary => Ok(nodes::replicas(&shown, node)),
        shown::Role::ReplicaOf(_) => Err(ErrorReply::fixed("ERR The specified node is not a master").into()),
    }
}

/// Nobody reports failures here: each node sees for itself, and the quorum decides.
fn count_failure_reports(request: &Request, _: &mut Session) -> Outcome {
    let shown = of_slots(request)?;
    Ok(Reply::Int(i64::from(!shown.is_live(node_of(request, &shown)?))))
}

fn node_of(request: &Request, shown: &Shown) -> Result<NodeId, ErrorReply> {
    let name = request.args.at(2);
    shown.find(name).ok_or_else(|| ErrorReply::quoting("ERR Unknown node ", name, ""))
}

fn key_slot(request: &Request, _: &mut Session) -> Outcome {
    of_slots(request)?;
    Ok(Reply::Int(i64::from(crc16::slot(request.args.at(2)).0)))
}

fn count_keys_in_slot(request: &Request, _: &mut Session) -> Outcome {
    of_slots(request)?;
    let slot = shown::slot(request.args.int(2)?).ok_or(ErrorReply::fixed("ERR Invalid slot"))?;
    let mut count = 0;
    visit_slot(request, slot, &mut |_| {
        count += 1;
        ControlFlow::Continue(())
    })?;
    Ok(Reply::Int(count))
}

fn get_keys_in_slot(request: &Request, _: &mut Session) -> Outcome {
    of_slots(request)?;
    let (slot, count) = (shown::slot(request.args.int(2)?), request.args.int(3)?);
    let wrong = ErrorReply::fixed("ERR Invalid slot or number of keys");
    let (Some(slot), Ok(count)) = (slot, usize::try_from(count)) else { return Err(wrong.into()) };
    let mut names = Vec::new();
    visit_slot(request, slot, &mut |name| {
        if names.len() < count {
            names.push(Reply::bulk(name));
        }
        if names.len() < count { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(Reply::Array(names))
}

/// Keys of a slot that this node has, as primary or not.
fn visit_slot(
    request: &Request,
    slot: Slot,
    visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<(), Failure> {
    let store = &request.service.store;
    let mut view = store.view(&PartitionSet::One(store.partition_of(slot)), request.now);
    Ok(view.visit_keys(request.database, (slot, 0), &mut |(at, _), name, _| {
        if at == slot { visit(name) } else { ControlFlow::Break(()) }
    })?)
}

fn help(request: &Request, session: &mut Session) -> Outcome {
    if request.settings.cluster.is_spread { help_from_table(request, session) } else { Err(DISABLED.into()) }
}

fn meet(request: &Request, _: &mut Session) -> Outcome {
    let (shown, node) = of_nodes(request)?;
    orders::meet(request, &shown, node)
}

fn forget(request: &Request, _: &mut Session) -> Outcome {
    let (shown, node) = of_nodes(request)?;
    orders::forget(request, &shown, node)
}

fn failover(request: &Request, _: &mut Session) -> Outcome {
    let (shown, node) = of_nodes(request)?;
    orders::failover(request, &shown, node)
}

fn reset(request: &Request, _: &mut Session) -> Outcome {
    of_slots(request)?;
    orders::reset(request)
}

fn slots_by_hand(request: &Request, _: &mut Session) -> Outcome {
    of_slots(request)?;
    orders::by_itself()
}

/// Nothing is kept outside of the quorum's log.
fn save_config(request: &Request, _: &mut Session) -> Outcome {
    of_slots(request)?;
    Ok(Reply::Ok)
}

/// Slots do not move key by key here, so there is nothing to be let into.
fn asking(request: &Request, _: &mut Session) -> Outcome {
    of_slots(request)?;
    Ok(Reply::Ok)
}

fn disabled() -> Outcome {
    Err(DISABLED.into())
}

fn readonly(request: &Request, session: &mut Session) -> Outcome {
    read_copies(request, session, true)
}

fn readwrite(request: &Request, session: &mut Session) -> Outcome {
    read_copies(request, session, false)
}

/// Takes reads from copies from now on, or leaves them to the primary.
fn read_copies(request: &Request, session: &mut Session, reads_copies: bool) -> Outcome {
    if request.service.forwarding.get().is_none() {
        return disabled();
    }
    session.reads_copies = reads_copies;
    Ok(Reply::Ok)
}
