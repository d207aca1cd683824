//! CLUSTER and its kin, as a server answers whose cluster support is off.

use super::{Command, Outcome, Request, container, session};
use crate::protocol::error::ErrorReply;
use crate::protocol::reply::Reply;
use crate::protocol::spec::Group;
use crate::protocol::spec::flag::{ADMIN, FAST, LOADING, NO_ASYNC_LOADING, NOSCRIPT, STALE};
use crate::protocol::spec::syntax::{block, integer, one_of, string, token};
use crate::session::session::Session;

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[
    container(
        "cluster",
        &[
            session("addslots", disabled)
                .arity(-3)
                .flags(ADMIN.and(STALE).and(NO_ASYNC_LOADING))
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(N) where N is the number of slots")
                .summary("Gives slots to this node.")
                .arguments(&[integer("slot").multiple()]),
            session("addslotsrange", disabled)
                .arity(-4)
                .flags(ADMIN.and(STALE).and(NO_ASYNC_LOADING))
                .group(Group::Cluster)
                .since("7.0.0")
                .complexity("O(N) where N is the number of slots in the ranges")
                .summary("Gives ranges of slots to this node.")
                .arguments(&[
                    block("start-slot_end-slot", &[integer("start-slot"), integer("end-slot")]).multiple()
                ]),
            session("bumpepoch", disabled)
                .arity(2)
                .flags(ADMIN.and(STALE).and(NO_ASYNC_LOADING))
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(1)")
                .summary("Raises the epoch of the configuration.")
                .tips(&["nondeterministic_output"]),
            session("count-failure-reports", disabled)
                .arity(3)
                .flags(ADMIN.and(STALE))
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(N) where N is the number of reports")
                .summary("Counts the reports that a node has failed.")
                .arguments(&[string("node-id")])
                .tips(&["nondeterministic_output"]),
            session("countkeysinslot", disabled)
                .arity(3)
                .flags(STALE)
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(1)")
                .summary("Counts the keys of a slot.")
                .arguments(&[integer("slot")]),
            session("delslots", disabled)
                .arity(-3)
                .flags(ADMIN.and(STALE).and(NO_ASYNC_LOADING))
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(N) where N is the number of slots")
                .summary("Takes slots from this node.")
                .arguments(&[integer("slot").multiple()]),
            session("delslotsrange", disabled)
                .arity(-4)
                .flags(ADMIN.and(STALE).and(NO_ASYNC_LOADING))
                .group(Group::Cluster)
                .since("7.0.0")
                .complexity("O(N) where N is the number of slots in the ranges")
                .summary("Takes ranges of slots from this node.")
                .arguments(&[
                    block("start-slot_end-slot", &[integer("start-slot"), integer("end-slot")]).multiple()
                ]),
            session("failover", disabled)
                .arity(-2)
                .flags(ADMIN.and(STALE).and(NO_ASYNC_LOADING))
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(1)")
                .summary("Lets a replica take over from its master.")
                .arguments(&[
                    one_of("options", &[token("force", "FORCE"), token("takeover", "TAKEOVER")]).optional()
                ]),
            session("flushslots", disabled)
                .arity(2)
                .flags(ADMIN.and(STALE).and(NO_ASYNC_LOADING))
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(1)")
                .summary("Takes all slots from this node."),
            session("forget", disabled)
                .arity(3)
                .flags(ADMIN.and(STALE).and(NO_ASYNC_LOADING))
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(1)")
                .summary("Removes a node from the table of nodes.")
                .arguments(&[string("node-id")]),
            session("getkeysinslot", disabled)
                .arity(4)
                .flags(STALE)
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(log(N)) where N is the number of keys asked for")
                .summary("Lists keys of a slot.")
                .arguments(&[integer("slot"), integer("count")])
                .tips(&["nondeterministic_output"]),
            session("help", disabled)
                .arity(2)
                .flags(LOADING.and(STALE))
                .group(Group::Cluster)
                .since("5.0.0")
                .complexity("O(1)")
                .summary("Explains the subcommands."),
            session("info", disabled)
                .arity(2)
                .flags(STALE)
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(1)")
                .summary("Describes the state of the cluster.")
                .tips(&["nondeterministic_output"]),
            session("keyslot", disabled)
                .arity(3)
                .flags(STALE)
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(N) where N is the length of the key")
                .summary("Computes the slot of a key.")
                .arguments(&[string("key")]),
            session("links", disabled)
                .arity(2)
                .flags(STALE)
                .group(Group::Cluster)
                .since("7.0.0")
                .complexity("O(N) where N is the number of nodes")
                .summary("Lists the links to other nodes.")
                .tips(&["nondeterministic_output"]),
            session("meet", disabled)
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
            session("myid", disabled)
                .arity(2)
                .flags(STALE)
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(1)")
                .summary("Shows the id of this node."),
            session("nodes", disabled)
                .arity(2)
                .flags(STALE)
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(N) where N is the number of nodes")
                .summary("Lists the nodes and what they serve.")
                .tips(&["nondeterministic_output"]),
            session("replicas", disabled)
                .arity(3)
                .flags(ADMIN.and(STALE))
                .group(Group::Cluster)
                .since("5.0.0")
                .complexity("O(1)")
                .summary("Lists the replicas of a node.")
                .arguments(&[string("node-id")])
                .tips(&["nondeterministic_output"]),
            session("replicate", disabled)
                .arity(3)
                .flags(ADMIN.and(STALE).and(NO_ASYNC_LOADING))
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(1)")
                .summary("Makes this node a replica of another.")
                .arguments(&[string("node-id")]),
            session("reset", disabled)
                .arity(-2)
                .flags(ADMIN.and(NOSCRIPT).and(STALE))
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(N) where N is the number of nodes")
                .summary("Makes this node forget the cluster.")
                .arguments(
                    &[one_of("hard_soft", &[token("hard", "HARD"), token("soft", "SOFT")]).optional()],
                ),
            session("saveconfig", disabled)
                .arity(2)
                .flags(ADMIN.and(STALE).and(NO_ASYNC_LOADING))
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(1)")
                .summary("Writes the state of the cluster to disk."),
            session("set-config-epoch", disabled)
                .arity(3)
                .flags(ADMIN.and(STALE).and(NO_ASYNC_LOADING))
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(1)")
                .summary("Sets the epoch of a new node.")
                .arguments(&[integer("config-epoch")]),
            session("setslot", disabled)
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
            session("shards", disabled)
                .arity(2)
                .flags(STALE)
                .group(Group::Cluster)
                .since("7.0.0")
                .complexity("O(N) where N is the number of nodes")
                .summary("Lists slots with the nodes that serve them.")
                .tips(&["nondeterministic_output"]),
            session("slaves", disabled)
                .arity(3)
                .flags(ADMIN.and(STALE))
                .group(Group::Cluster)
                .since("3.0.0")
                .complexity("O(1)")
                .summary("Lists the replicas of a node.")
                .arguments(&[string("node-id")])
                .tips(&["nondeterministic_output"])
                .deprecated("5.0.0", "`CLUSTER REPLICAS`"),
            session("slots", disabled)
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
    session("asking", disabled)
        .arity(1)
        .flags(FAST)
        .group(Group::Cluster)
        .since("3.0.0")
        .complexity("O(1)")
        .summary("Lets the next command into a slot that is moving here.")
        .categories(&["connection"]),
];

fn disabled(_: &Request, _: &mut Session) -> Outcome {
    Err(ErrorReply::fixed("ERR This instance has cluster support disabled").into())
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
        return disabled(request, session);
    }
    session.reads_copies = reads_copies;
    Ok(Reply::Ok)
}
