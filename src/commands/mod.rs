//! The command table: one file a group, each with its declarations beside its handlers.
//!
//! A declaration is built by `read`, `write` or `session`, which take functions of different types: a writer declared as a
//! reader does not compile. Everything else derives from [`GROUPS`].

mod acl;
mod bitfields;
mod bitmaps;
pub mod categories;
mod client;
mod cluster;
mod command;
mod config;
mod connection;
mod counters;
mod databases;
mod debug;
mod docs;
mod dump;
pub mod execute;
mod expiry;
mod function;
mod geo;
mod geo_search;
mod hash_deadlines;
mod hash_fields;
mod hashes;
mod help;
mod hyperloglogs;
mod info;
mod keys;
pub mod keys_of;
mod latency;
mod links;
mod list_moves;
mod list_search;
mod lists;
mod memory;
mod module;
mod object;
mod persistence;
mod pubsub;
mod ranges;
pub mod record;
mod replication;
pub mod scan;
mod script;
pub mod sentinel;
pub mod serve;
mod server;
mod set_algebra;
mod sets;
mod slowlog;
mod sort;
mod strings;
pub mod table;
pub mod transactions;
mod wait;
mod zset_algebra;
mod zset_pops;
mod zset_ranges;
mod zsets;

pub use command::{
    Command, Failure, Handler, Outcome, Request, Wait, container, read, read_and_note, session, write,
};
pub use connection::REDIS_VERSION;
pub use help::{help, help_from_table};

/// The groups, in the order of the documentation. One line each, so that neighbours do not meet when branches do.
#[rustfmt::skip]
pub const GROUPS: &[&[Command]] = &[
    config::COMMANDS,
    connection::COMMANDS,
    databases::COMMANDS,
    debug::COMMANDS,
    docs::COMMANDS,
    dump::COMMANDS,
    expiry::COMMANDS,
    info::COMMANDS,
    keys::COMMANDS,
    memory::COMMANDS,
    object::COMMANDS,
    scan::COMMANDS,
    sort::COMMANDS,
    transactions::COMMANDS,
    wait::COMMANDS,
    acl::COMMANDS,
    cluster::COMMANDS,
    function::COMMANDS,
    latency::COMMANDS,
    links::COMMANDS,
    module::COMMANDS,
    persistence::COMMANDS,
    pubsub::COMMANDS,
    replication::COMMANDS,
    script::COMMANDS,
    sentinel::COMMANDS,
    server::COMMANDS,
    slowlog::COMMANDS,
    strings::COMMANDS,
    counters::COMMANDS,
    ranges::COMMANDS,
    bitmaps::COMMANDS,
    bitfields::COMMANDS,
    hashes::COMMANDS,
    hash_fields::COMMANDS,
    hash_deadlines::COMMANDS,
    zsets::COMMANDS,
    zset_ranges::COMMANDS,
    zset_algebra::COMMANDS,
    zset_pops::COMMANDS,
    geo::COMMANDS,
    geo_search::COMMANDS,
    sets::COMMANDS,
    set_algebra::COMMANDS,
    hyperloglogs::COMMANDS,
    lists::COMMANDS,
    list_search::COMMANDS,
    list_moves::COMMANDS,
];
