//! Where a command runs: here, or at the primary of what it needs.
//!
//! Commands on data go where their keys are; EXEC where those of its whole queue are, in one piece. What concerns the connection or
//! the server runs here. A read may be answered from a copy if the settings or the connection say so.

use super::dispatch::{Call, Turn, effective_flags};
use super::redirect::{self, CROSS_SLOT};
use super::split::{can_split, limit};
use crate::base::ids::NodeId;
use crate::commands::Handler;
use crate::commands::execute::partitions_of;
use crate::commands::keys_of::keys_of;
use crate::commands::transactions;
use crate::config::settings::ReplicaReads;
use crate::protocol::error::ErrorReply;
use crate::protocol::reply::Reply;
use crate::protocol::spec::flag;
use crate::replication::LinkState;
use crate::session::forwarding::message::{Again, Answer, Concern, RequestId, Task, Unit, WatchId};
use crate::session::forwarding::{Forwarding, Route};
use crate::session::multi::Queued;
use crate::session::session::Session;
use crate::session::watch::Elsewhere;
use crate::store::{PartitionSet, Store};

/// Where a command runs.
pub enum Place {
    /// Here.
    Here,
    /// Not now: it is queued for EXEC, which is going to run elsewhere.
    Queue,
    /// Where this leads; it needs these.
    Elsewhere(Route, PartitionSet),
    /// Nowhere.
    Refused(ErrorReply),
    /// At several nodes, a part at each.
    Split,
    /// Nowhere: this is the reply.
    Answered(Reply),
}

/// A command, or a transaction, that is to run elsewhere.
#[derive(Clone, Debug)]
pub struct Away {
    /// What is sent.
    pub unit: Unit,
    /// What it needs.
    pub needs: PartitionSet,
    /// Where that was when it was looked for.
    pub route: Route,
    /// Whether it may change data: it is not simply sent again.
    pub is_write: bool,
    /// Whether it may wait for data, so that nothing is to go with it.
    pub is_alone: bool,
    /// It is done, and waits for those before it.
    pub ending: Option<Ending>,
    /// Whether it was sent, and whether it has run is not known.
    pub is_unknown: bool,
    /// When it was first sent, in microseconds since the machine started; 0 if it was not.
    pub sent_us: u64,
}

/// What became of a command.
#[derive(Clone, Debug)]
pub enum Ending {
    /// It has run there.
    Answer(NodeId, Answer),
    /// It has not, or nobody knows.
    Error(ErrorReply),
}

/// Whether a command is about data, so that it runs where that is.
pub fn is_data(call: &Call) -> bool {
    matches!(call.entry.command.handler, Handler::Read(_) | Handler::Write(_))
}

/// The partitions that a command needs, EXEC those of all it runs.
pub fn needs(turn: Turn, session: &Session, call: &Call) -> PartitionSet {
    let store = &turn.service.store;
    if let Some(only) = &session.only {
        return only.clone();
    }
    match session.multi.as_ref().filter(|_| call.is_exec()) {
        Some(multi) => {
            transactions::partitions_of_queue(store, &multi.queue).union(needs_of_watch(session, store))
        }
        None => partitions_of(call.entry.command, &call.args, store),
    }
}

/// The partitions of keys that are watched, wherever that is.
fn needs_of_watch(session: &Session, store: &Store) -> PartitionSet {
    let here = session.watched.partitions(store);
    match &session.watched.elsewhere {
        Some(elsewhere) => here.union(elsewhere.needs.clone()),
        None => here,
    }
}

/// Where a command runs, as things stand now.
pub fn place(turn: Turn, session: &Session, call: &Call, way: &dyn Forwarding) -> Place {
    let is_exec = call.is_exec() && session.multi.as_ref().is_some_and(|multi| !multi.is_aborted);
    if !is_exec && !is_data(call) {
        return match call.base_name() {
            "watch" if session.multi.is_none() => place_watch(turn, session, call, way),
            "wait" | "waitaof" if session.multi.is_none() => place_wait(session, call, way),
            _ => Place::Here,
        };
    }
    let slots = redirect::slots(turn, session, call);
    if redirect::is_cross_slot(session, call, slots) {
        return Place::Refused(CROSS_SLOT);
    }
    if !is_exec && way.common() == Some(Route::Here) {
        return Place::Here; // whatever it needs; that is found out when it runs
    }
    let needs = needs(turn, session, call);
    let is_nothing = matches!(&needs, PartitionSet::Some(ids) if ids.is_empty());
    let route = if is_nothing { Route::Here } else { way.route(&needs) };
    if is_exec && is_watch_lost(session, route) {
        return Place::Answered(Reply::NullArray);
    }
    if route == Route::Here {
        return Place::Here;
    }
    if !is_exec && keys_of(call.entry.command, &call.args).is_err() {
        return Place::Here; // there is nothing to be found, but what is wrong with the words
    }
    let is_alone = session.multi.is_none() && !session.is_forwarded;
    let is_divisible = is_alone && can_split(call);
    if route == Route::Several {
        return match call.base_name() {
            _ if is_divisible => Place::Split,
            "scan" if is_alone => Place::Here, // its cursor is behind everything, or none
            _ => Place::Refused(CROSS_SLOT),
        };
    }
    let is_queued = session.multi.is_some() && !is_exec;
    if !is_queued && reads_copy(turn, session, call, &needs, way) {
        return Place::Here;
    }
    // It may be of several primaries when there are some again.
    if route == Route::Nobody && turn.settings.cluster.is_spread && is_divisible {
        return Place::Split;
    }
    match redirect::moved(session, slots, route, way) {
        Some(moved) => Place::Refused(moved),
        None if is_queued => Place::Queue,
        None => Place::Elsewhere(route, needs),
    }
}

/// Whether a key that is watched may have changed unseen, as it is watched where its primary is no more.
fn is_watch_lost(session: &Session, route: Route) -> bool {
    let watched = &session.watched;
    let is_elsewhere_lost = watched.elsewhere.as_ref().is_some_and(|elsewhere| {
        elsewhere.is_lost
            || match route {
                Route::Here => true,
                Route::There(node) => elsewhere.node != Some(node),
                Route::Nobody | Route::Several => false,
            }
    });
    is_elsewhere_lost || (!watched.is_empty() && !session.is_forwarded && route != Route::Here)
}

/// Keys are watched where they are changed.
fn place_watch(turn: Turn, session: &Session, call: &Call, way: &dyn Forwarding) -> Place {
    let store = &turn.service.store;
    let slots = redirect::slots(turn, session, call);
    if redirect::is_cross_slot(session, call, slots) {
        return Place::Refused(CROSS_SLOT);
    }
    let needs = partitions_of(call.entry.command, &call.args, store).union(needs_of_watch(session, store));
    match way.route(&needs) {
        Route::Here => Place::Here,
        Route::Several => Place::Refused(CROSS_SLOT),
        route => match redirect::moved(session, slots, route, way) {
            Some(moved) => Place::Refused(moved),
            None => Place::Elsewhere(route, needs),
        },
    }
}

/// WAIT asks about the last change of the connection, so it goes to the node that has made it.
fn place_wait(session: &Session, call: &Call, way: &dyn Forwarding) -> Place {
    let none = || {
        let replicas = Reply::Int(0);
        let is_wait = call.base_name() == "wait";
        Place::Answered(if is_wait { replicas } else { Reply::Array(vec![Reply::Int(0), replicas]) })
    };
    let route = way.route(&PartitionSet::All);
    match (session.written_elsewhere, route) {
        _ if session.is_forwarded => Place::Here,
        // Several nodes have what is here, or nobody has and this is answered at once.
        (None, Route::Here | Route::Several) => Place::Here,
        (None, route) => Place::Elsewhere(route, PartitionSet::All),
        (Some((node, _)), Route::There(primary)) if node == primary => {
            Place::Elsewhere(route, PartitionSet::All)
        }
        (Some(_), Route::Nobody) => Place::Elsewhere(route, PartitionSet::All),
        // The node that made the change is the primary no more: nobody knows of a replica that has it.
        (Some(_), _) => none(),
    }
}

/// Whether a command only reads, and is answered from the copy that is here.
fn reads_copy(
    turn: Turn,
    session: &Session,
    call: &Call,
    needs: &PartitionSet,
    way: &dyn Forwarding,
) -> bool {
    let flags = effective_flags(session, call);
    if session.is_forwarded || !flags.has(flag::READONLY) || flags.has(flag::WRITE) {
        return false;
    }
    let (link, stale_ms) = turn.service.replication.standing();
    let is_wanted = match turn.settings.replica_reads {
        ReplicaReads::Any => true,
        ReplicaReads::MaxLag(limit_ms) => stale_ms <= limit_ms,
        ReplicaReads::Auto => session.reads_copies,
        ReplicaReads::Primary => false,
    };
    is_wanted && (link == LinkState::Up || turn.settings.replica_serve_stale_data) && way.has_copy(needs)
}

/// What is sent of a command. EXEC takes what was queued with it.
pub fn away(turn: Turn, session: &mut Session, call: &Call, route: Route, needs: PartitionSet) -> Away {
    let flags = effective_flags(session, call);
    let (mut level, mut commands) = (session.concern(turn.settings, session.database), Vec::new());
    let task = match call.base_name() {
        "exec" => {
            let multi = session.multi.take().unwrap_or_default();
            (level, _) = transactions::written(session, turn.settings, &turn.service.store, &multi.queue);
            session.touch();
            commands = multi.queue;
            Task::Transaction(session.watched.elsewhere.take().map(|elsewhere| elsewhere.id))
        }
        "watch" => watch_elsewhere(session, &needs),
        "wait" | "waitaof" => Task::Copies(session.written_elsewhere.map_or(0, |(_, position)| position)),
        _ => Task::Command,
    };
    if !call.is_exec() {
        commands.push(Queued::copy_from(call.args));
    }
    session.note_command(&call.entry.full_name);
    Away {
        unit: Unit {
            id: RequestId::random(),
            task,
            database: session.database,
            concern: Concern { level, is_chosen: session.write_concern.is_some() },
            waited_ms: 0,
            again: Again::No,
            commands,
            only: Vec::new(),
        },
        needs,
        route,
        is_write: flags.has(flag::WRITE),
        is_alone: flags.has(flag::BLOCKING) || !is_data(call),
        ending: None,
        is_unknown: false,
        sent_us: 0,
    }
}

/// Notes that keys are about to be watched where their primary is.
fn watch_elsewhere(session: &mut Session, needs: &PartitionSet) -> Task {
    // What was watched here is so no more where it matters.
    let is_lost = !session.watched.is_empty();
    let is_first = session.watched.elsewhere.is_none();
    let fresh = || Elsewhere { id: WatchId::random(), node: None, needs: needs.clone(), is_lost };
    let elsewhere = session.watched.elsewhere.get_or_insert_with(fresh);
    elsewhere.needs = needs.clone();
    Task::Watch { id: elsewhere.id, is_first }
}

/// A part of a command that is taken apart.
pub fn part(
    turn: Turn,
    session: &mut Session,
    call: &Call,
    route: Route,
    words: Queued,
    only: Vec<u16>,
) -> Away {
    let args = words.args();
    let needs = limit(&only).unwrap_or_else(|| partitions_of(call.entry.command, &args, &turn.service.store));
    let mut away = away(turn, session, call, route, needs);
    away.unit.commands = vec![words];
    away.unit.only = only;
    away
}
