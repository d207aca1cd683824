//! INFO: figures and facts in sections, under Redis's names and in Redis's order. What has no meaning here is zero; what is
//! ours alone stands in a section of its own, under names that begin with `larder_`.

mod activity;
mod cluster;
mod facts;
mod machine;
mod replication;

use super::{Command, Outcome, Request, session};
use crate::protocol::reply::Reply;
use crate::protocol::spec::Group;
use crate::protocol::spec::flag::{LOADING, STALE};
use crate::protocol::spec::syntax::string;
use crate::session::session::Session;
use facts::Facts;
use std::fmt::{Display, Write};

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[session("info", info)
    .arity(-1)
    .flags(LOADING.and(STALE))
    .group(Group::Server)
    .since("1.0.0")
    .complexity("O(1)")
    .summary("Shows figures and facts of the server.")
    .arguments(&[string("section").optional().multiple()])
    .history(&[("7.0.0", "Takes several sections.")])
    .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"])
    .categories(&["dangerous"])];

/// A part of the reply.
struct Section {
    /// Its head; in lower case what a client asks for.
    name: &'static str,
    /// Whether it is shown without being asked for.
    is_default: bool,
    write: fn(&Facts, &mut Lines),
}

const fn shown(name: &'static str, write: fn(&Facts, &mut Lines)) -> Section {
    Section { name, is_default: true, write }
}

const fn on_demand(name: &'static str, write: fn(&Facts, &mut Lines)) -> Section {
    Section { name, is_default: false, write }
}

const SECTIONS: &[Section] = &[
    shown("Server", machine::server),
    shown("Clients", activity::clients),
    shown("Memory", machine::memory),
    shown("Persistence", machine::persistence),
    shown("Stats", activity::stats),
    shown("Replication", replication::replication),
    shown("CPU", machine::cpu),
    shown("Modules", |_, _| ()),
    on_demand("Commandstats", activity::command_counts),
    shown("Errorstats", activity::errors),
    on_demand("Latencystats", activity::latencies),
    shown("Cluster", cluster::cluster),
    shown("Larder", machine::larder),
    shown("Keyspace", machine::keyspace),
];

/// Lines `name:value`.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, name: impl Display, value: impl Display) {
        let _ = write!(self.0, "{name}:{value}\r\n"); // a String takes everything
    }

    /// Names that mean nothing here.
    fn zeros(&mut self, names: &[&str]) {
        names.iter().for_each(|name| self.add(name, 0));
    }
}

fn info(request: &Request, _: &mut Session) -> Outcome {
    let asked: Vec<_> = request.args.from(1).map(<[u8]>::to_ascii_lowercase).collect();
    let is_asked = |name: &str| asked.iter().any(|word| word == name.as_bytes());
    let everything = is_asked("all") || is_asked("everything");
    let defaults = asked.is_empty() || is_asked("default");
    let facts = Facts::of(request);
    let mut lines = Lines::default();
    for section in SECTIONS {
        let wanted =
            everything || (defaults && section.is_default) || is_asked(&section.name.to_ascii_lowercase());
        if wanted {
            let gap = if lines.0.is_empty() { "" } else { "\r\n" };
            let _ = write!(lines.0, "{gap}# {}\r\n", section.name);
            (section.write)(&facts, &mut lines);
        }
    }
    Ok(Reply::Verbatim("txt", lines.0))
}
