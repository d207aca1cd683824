//! MEMORY: what keys and the server take.
//!
//! Sizes of keys are bytes stored (the row with its head and the rows of a collection), which are exact and what `maxmemory`
//! counts; sizes of the process come from the system.

use super::{Command, Outcome, Request, container, help, read, session};
use crate::observability::process::Memory;
use crate::protocol::error;
use crate::protocol::reply::Reply;
use crate::protocol::spec::access::RO;
use crate::protocol::spec::flag::{LOADING, STALE};
use crate::protocol::spec::syntax::{integer, key};
use crate::protocol::spec::{Group, KeySpec};
use crate::session::session::Session;
use crate::store::View;

const STATISTICS_TIPS: &[&str] =
    &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"];

const fn about_server(command: Command) -> Command {
    command.arity(2).group(Group::Server).since("4.0.0").complexity("O(1)")
}

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[container(
    "memory",
    &[
        about_server(session("doctor", doctor))
            .summary("Looks for trouble with memory and says what it found.")
            .tips(STATISTICS_TIPS),
        about_server(session("help", show_help)).flags(LOADING.and(STALE)).summary("Lists the subcommands."),
        about_server(session("malloc-stats", malloc_stats))
            .summary("Reports what the allocator says of itself.")
            .tips(STATISTICS_TIPS),
        about_server(session("purge", purge))
            .summary("Asks the allocator to give memory back to the system.")
            .tips(&["request_policy:all_shards", "response_policy:all_succeeded"]),
        about_server(session("stats", stats))
            .summary("Reports what the server's memory is used for.")
            .tips(STATISTICS_TIPS),
        read("usage", usage)
            .arity(-3)
            .keys(&[KeySpec::one(2, RO)])
            .group(Group::Server)
            .since("4.0.0")
            .complexity("O(1): the size is kept, nothing is sampled.")
            .summary("Says how many bytes a key takes.")
            .arguments(&[key("key", 0), integer("count").token("SAMPLES").optional()]),
    ],
)
.arity(-2)
.group(Group::Server)
.since("4.0.0")
.complexity("That of the subcommand.")
.summary("Subcommands about memory.")];

fn usage(request: &Request, view: &mut View) -> Outcome {
    let mut words = request.args.cursor(3);
    while !words.is_done() {
        if words.left() < 2 || !words.eat("SAMPLES") {
            return Err(error::SYNTAX.into());
        }
        if words.int()? < 0 {
            return Err(error::SYNTAX.into());
        }
    }
    let entry = view.glimpse(&request.key(2))?;
    Ok(entry.map_or(Reply::Null, |entry| Reply::Int(entry.stored_bytes() as i64)))
}

fn doctor(request: &Request, _: &mut Session) -> Outcome {
    const NEARLY_FULL: &str = "The data takes more than nine tenths of maxmemory. Once it is reached, keys are evicted or \
                               writes refused, as maxmemory-policy says.";
    const WELL: &str = "No trouble with memory was found.";
    let (limit, used) = (request.settings.maxmemory, request.service.store.used_bytes());
    let is_nearly_full = limit > 0 && used > limit / 10 * 9;
    Ok(Reply::Verbatim("txt", if is_nearly_full { NEARLY_FULL } else { WELL }.into()))
}

fn malloc_stats(_: &Request, _: &mut Session) -> Outcome {
    let memory = Memory::now();
    let text = format!("mimalloc; resident {} bytes, of them {} of files", memory.resident, memory.mapped);
    Ok(Reply::Verbatim("txt", text))
}

/// The allocator gives memory back by itself.
fn purge(_: &Request, _: &mut Session) -> Outcome {
    Ok(Reply::Ok)
}

/// The names of Redis; what has no meaning here is 0.
fn stats(request: &Request, _: &mut Session) -> Outcome {
    let store = &request.service.store;
    let memory = Memory::now();
    let (own, data, used_bytes) = (memory.own() as f64, store.data_bytes(), store.used_bytes());
    let peak_bytes = request.service.statistics.note_memory(used_bytes);
    let databases = 0..request.settings.databases as u16;
    let counters = databases.map(|number| (number, store.counters(number)));
    let used: Vec<_> = counters.filter(|(_, counters)| counters.keys > 0).collect();
    let keys: u64 = used.iter().map(|(_, counters)| counters.keys).sum();
    let int = |value: u64| Reply::Int(value as i64);
    let mut fields = Vec::new();
    let mut field = |name: &str, value: Reply| fields.extend([Reply::bulk(name), value]);
    field("peak.allocated", int(peak_bytes));
    field("total.allocated", int(used_bytes));
    field("startup.allocated", int(store.empty_bytes()));
    field("replication.backlog", int(0));
    field("clients.slaves", int(0));
    field("clients.normal", int(request.service.clients.memory()));
    field("cluster.links", int(0));
    field("aof.buffer", int(0));
    field("lua.caches", int(0));
    field("functions.caches", int(0));
    for (number, _) in &used {
        let overhead =
            ["overhead.hashtable.main", "overhead.hashtable.expires", "overhead.hashtable.slot-to-keys"];
        let overhead = overhead.into_iter().flat_map(|name| [Reply::Text(name), int(0)]);
        field(&format!("db.{number}"), Reply::Map(overhead.collect()));
    }
    field("overhead.total", int(store.empty_bytes()));
    field("keys.count", int(keys));
    field("keys.bytes-per-key", int(data.checked_div(keys).unwrap_or(0)));
    field("dataset.bytes", int(data));
    field("dataset.percentage", Reply::Double(if data == 0 { 0.0 } else { 100.0 }));
    field("peak.percentage", Reply::Double(used_bytes as f64 * 100.0 / peak_bytes.max(1) as f64));
    field("allocator.allocated", int(memory.own()));
    field("allocator.active", int(memory.own()));
    field("allocator.resident", int(memory.resident));
    for name in ["allocator-fragmentation", "allocator-rss", "rss-overhead"] {
        field(&format!("{name}.ratio"), Reply::Double(1.0));
        field(&format!("{name}.bytes"), int(0));
    }
    field("fragmentation", Reply::Double(memory.resident as f64 / own.max(1.0)));
    field("fragmentation.bytes", int(memory.resident.saturating_sub(memory.own())));
    Ok(Reply::Map(fields))
}

fn show_help(_: &Request, _: &mut Session) -> Outcome {
    Ok(help(
        "MEMORY",
        &[
            "DOCTOR",
            "    Look for trouble with memory.",
            "MALLOC-STATS",
            "    Show what the allocator says of itself.",
            "PURGE",
            "    Ask the allocator to give memory back.",
            "STATS",
            "    Show what memory is used for.",
            "USAGE <key> [SAMPLES <count>]",
            "    Return the bytes that <key> takes. The size is exact; <count> changes nothing.",
        ],
    ))
}
