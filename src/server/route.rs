//! Where a command runs: here, or at the primary of what it needs.
//!
//! Commands on data go where their keys are; EXEC where those of its whole queue are, in one piece. What concerns the connection or
//! the server runs here. A read may be answered from a copy if the settings or the connection say so.

use super::dispatch::{Call, Turn, effective_flags};
use crate::commands::Handler;
use crate::commands::execute::partitions_of;
use crate::commands::keys_of::keys_of;
use crate::commands::transactions;
use crate::config::settings::ReplicaReads;
use crate::protocol::error::ErrorReply;
use crate::protocol::spec::flag;
use crate::replication::LinkState;
use crate::session::forwarding::message::{Concern, RequestId, Task, Unit};
use crate::session::forwarding::{Forwarding, Route};
use crate::session::multi::Queued;
use crate::session::session::Session;
use crate::store::PartitionSet;

/// What is needed has several primaries, and the command is to see all of it at once.
pub const CROSS_SLOT: ErrorReply = ErrorReply::fixed("CROSSSLOT Keys in request don't hash to the same slot");

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
    /// Whether it was sent, and whether it has run is not known.
    pub is_unknown: bool,
}

/// Whether a command is about data, so that it runs where that is.
pub fn is_data(call: &Call) -> bool {
    matches!(call.entry.command.handler, Handler::Read(_) | Handler::Write(_))
}

/// The partitions that a command needs, EXEC those of all it runs.
pub fn needs(turn: Turn, session: &Session, call: &Call) -> PartitionSet {
    let store = &turn.service.store;
    match session.multi.as_ref().filter(|_| call.is_exec()) {
        Some(multi) => {
            transactions::partitions_of_queue(store, &multi.queue).union(session.watched.partitions(store))
        }
        None => partitions_of(call.entry.command, &call.args, store),
    }
}

/// Where a command runs, as things stand now.
pub fn place(turn: Turn, session: &Session, call: &Call, way: &dyn Forwarding) -> Place {
    let is_exec = call.is_exec() && session.multi.as_ref().is_some_and(|multi| !multi.is_aborted);
    if !is_exec && !is_data(call) {
        return Place::Here;
    }
    let needs = needs(turn, session, call);
    let route = way.route(&needs);
    if route == Route::Here {
        return Place::Here;
    }
    if !is_exec && keys_of(call.entry.command, &call.args).is_err() {
        return Place::Here; // there is nothing to be found, but what is wrong with the words
    }
    if route == Route::Several {
        return Place::Refused(CROSS_SLOT);
    }
    if session.multi.is_some() && !is_exec {
        return Place::Queue;
    }
    if reads_copy(turn, session, call, &needs, way) {
        return Place::Here;
    }
    Place::Elsewhere(route, needs)
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
    let (task, level, commands) = if let Some(multi) = session.multi.take_if(|_| call.is_exec()) {
        let (level, _) = transactions::written(session, turn.settings, &turn.service.store, &multi.queue);
        session.touch();
        (Task::Transaction(None), level, multi.queue)
    } else {
        let level = session.concern(turn.settings, session.database);
        (Task::Command, level, vec![Queued::copy_from(call.args)])
    };
    session.note_command(&call.entry.full_name);
    Away {
        unit: Unit {
            id: RequestId::random(),
            task,
            database: session.database,
            concern: Concern { level, is_chosen: session.write_concern.is_some() },
            waited_ms: 0,
            commands,
        },
        needs,
        route,
        is_write: flags.has(flag::WRITE),
        is_alone: flags.has(flag::BLOCKING) || call.is_exec(),
        is_unknown: false,
    }
}
