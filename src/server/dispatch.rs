//! From words to a reply: finds the command, passes it through the gates in order, then runs or queues it.
//!
//! The gates stand in the order in which Redis refuses, because clients see which refusal wins. Each is a small function
//! named for its refusal; each costs a load or two when there is nothing to refuse. A refused command spoils the
//! transaction that is being put together; a refused EXEC ends it.

use super::names;
use super::route::{self, Away, Place, place};
use super::split::{Split, can_split, split};
use crate::base::clock;
use crate::commands::execute::{Answer, disk_refusal, execute, partitions_of};
use crate::commands::table::{self, Entry};
use crate::commands::{Handler, Request, transactions};
use crate::config::Settings;
use crate::config::settings::ReplicaReads;
use crate::observability::statistics::Counter;
use crate::protocol::args::Args;
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::{Flags, flag};
use crate::replication::LinkState;
use crate::session::apply::policy;
use crate::session::copies::CopiesWanted;
use crate::session::forwarding::Route;
use crate::session::pause::Scope;
use crate::session::service::Service;
use crate::session::session::{Closing, Session};
use crate::session::waiting::Ticket;
use crate::store::{PartitionSet, Refusal};
use std::sync::Arc;

/// Keys that one command evicts before it runs, if there are too many; more if those had fewer bytes than it has itself, so
/// that the data does not outgrow its limit.
const EVICTIONS: usize = 64;

/// What all commands of a turn have in common.
#[derive(Clone, Copy)]
pub struct Turn<'a> {
    /// What all sessions share.
    pub service: &'a Service,
    /// The settings in force when the turn began.
    pub settings: &'a Settings,
    /// Wall clock when the turn began, milliseconds since 1970.
    pub now_ms: i64,
}

impl Turn<'_> {
    /// Whether this server follows another one that takes all changes. In a cluster what is not for this node does not get so far.
    #[inline]
    fn is_replica(&self) -> bool {
        self.service.replication.is_replica() && self.service.forwarding.get().is_none()
    }
}

/// What became of a command.
pub enum Verdict {
    /// It is done.
    Done(Reply),
    /// It waits for a key.
    Waiting {
        /// Where it was entered.
        ticket: Arc<Ticket>,
        /// For how long, in milliseconds; none is for ever.
        timeout_ms: Option<u64>,
    },
    /// It waits for copies of what the connection wrote.
    Copies(CopiesWanted),
    /// It must wait for the end of a pause, at this wall clock or earlier, and then be dispatched again.
    Postponed {
        /// Wall clock milliseconds.
        until_ms: i64,
    },
    /// It is for another node, or for whoever becomes primary of what it needs.
    Away(Box<Away>),
    /// It is for several nodes.
    Split(Box<Split>),
    /// It must wait until those that are collected are done, and then be dispatched again.
    Later,
}

/// A command and the words it was called with.
pub(super) struct Call<'a> {
    /// What runs: a subcommand if there are such.
    pub(super) entry: &'static Entry,
    /// The first word's command: the same, or the container.
    pub(super) base: &'static Entry,
    pub(super) args: Args<'a>,
}

impl Call<'_> {
    #[inline]
    pub(super) fn flags(&self) -> Flags {
        self.entry.command.spec.flags
    }

    pub(super) fn base_name(&self) -> &'static str {
        self.base.command.spec.name
    }

    pub(super) fn is_exec(&self) -> bool {
        self.base_name() == "exec"
    }
}

/// Takes one command from its words to its end.
#[inline]
pub fn dispatch(turn: Turn, session: &mut Session, args: Args) -> Verdict {
    if session.collecting.is_some() {
        return follow(turn, session, args);
    }
    let call = match find(args) {
        Ok(call) => call,
        Err(refusal) => {
            if names::is_http(args.at(0)) {
                tracing::warn!(
                    id = session.id,
                    "closing a client: it speaks HTTP, maybe for somebody else's web page"
                );
                session.closing = Some(Closing::Now);
            }
            return Verdict::Done(refused(turn, session, None, refusal));
        }
    };
    if let Err(refusal) = strangers_and_mistakes(turn, session, &call) {
        return Verdict::Done(refused(turn, session, Some(&call), refusal));
    }
    let place = match turn.service.forwarding.get() {
        None => Place::Here,
        Some(way) => place(turn, session, &call, &**way),
    };
    let outcome = match place {
        Place::Here => gates(turn, session, &call),
        Place::Queue => subscriber_only(session, &call),
        Place::Elsewhere(route, needs) => return send_away(turn, session, &call, route, needs),
        Place::Refused(refusal) => Err(refusal),
        Place::Split => return send_apart(turn, session, &call),
        Place::Answered(reply) => return answered(turn, session, &call, reply),
    };
    if let Err(refusal) = outcome {
        return Verdict::Done(refused(turn, session, Some(&call), refusal));
    }
    if let Some(until_ms) = paused(turn, session, &call) {
        return Verdict::Postponed { until_ms };
    }
    if session.multi.is_some() && !runs_inside_multi(&call) {
        return Verdict::Done(queued(session, &call));
    }
    match run(turn, session, &call) {
        Answer::Reply(reply) => Verdict::Done(reply),
        Answer::Waiting { ticket, timeout_ms } => Verdict::Waiting { ticket, timeout_ms },
        Answer::Copies(wanted) => Verdict::Copies(wanted),
        Answer::Moved => {
            let needs = route::needs(turn, session, &call);
            if call.is_exec() && !session.watched.is_empty() {
                return answered(turn, session, &call, Reply::NullArray);
            }
            // What it needs may be several nodes' by now.
            if turn.settings.cluster.is_spread && session.multi.is_none() && can_split(&call) {
                return send_apart(turn, session, &call);
            }
            Verdict::Away(Box::new(route::away(turn, session, &call, Route::Nobody, needs)))
        }
    }
}

/// The verdict on a command that is for another node. What refuses it here is what there cannot be known of its client.
#[cold]
fn send_away(turn: Turn, session: &mut Session, call: &Call, route: Route, needs: PartitionSet) -> Verdict {
    if let Err(refusal) = subscriber_only(session, call) {
        return Verdict::Done(refused(turn, session, Some(call), refusal));
    }
    if let Some(until_ms) = paused(turn, session, call) {
        return Verdict::Postponed { until_ms };
    }
    Verdict::Away(Box::new(route::away(turn, session, call, route, needs)))
}

/// A command that waited here for so long, and is now to wait wherever the primary of its keys is. None if it is no command any more.
pub(super) fn away_from_here(turn: Turn, session: &mut Session, words: Args, waited_ms: u64) -> Option<Away> {
    let call = find(words).ok()?;
    let needs = route::needs(turn, session, &call);
    let mut away = route::away(turn, session, &call, Route::Nobody, needs);
    away.unit.waited_ms = waited_ms;
    Some(away)
}

/// The verdict on a command that is for several nodes.
#[cold]
fn send_apart(turn: Turn, session: &mut Session, call: &Call) -> Verdict {
    if let Err(refusal) = subscriber_only(session, call) {
        return Verdict::Done(refused(turn, session, Some(call), refusal));
    }
    if let Some(until_ms) = paused(turn, session, call) {
        return Verdict::Postponed { until_ms };
    }
    let way = turn.service.forwarding.get().expect("it was found that there are several nodes");
    Verdict::Split(Box::new(split(turn, session, call, &**way)))
}

/// The verdict on a command whose reply is known before it has run. EXEC ends its transaction with it.
#[cold]
fn answered(turn: Turn, session: &mut Session, call: &Call, reply: Reply) -> Verdict {
    if call.is_exec() {
        session.multi = None;
        session.watched.clear(&turn.service.store, turn.now_ms);
        session.touch();
    }
    Verdict::Done(reply)
}

/// The verdict on a command that comes behind others that are collected: it goes with them, or is dispatched again once they are
/// done. Nothing is changed by it.
#[cold]
fn follow(turn: Turn, session: &mut Session, args: Args) -> Verdict {
    let Ok(call) = find(args) else { return Verdict::Later };
    let may_go = strangers_and_mistakes(turn, session, &call).is_ok()
        && session.multi.is_none()
        && subscriber_only(session, &call).is_ok()
        && paused(turn, session, &call).is_none()
        && route::is_data(&call)
        && !call.flags().has(flag::BLOCKING);
    let Some(way) = turn.service.forwarding.get().filter(|_| may_go) else { return Verdict::Later };
    match place(turn, session, &call, &**way) {
        Place::Elsewhere(route, needs) if session.collecting == Some(route) => {
            Verdict::Away(Box::new(route::away(turn, session, &call, route, needs)))
        }
        _ => Verdict::Later,
    }
}

/// Finds the command and, among its subcommands, the one that is meant.
#[inline]
fn find(args: Args<'_>) -> Result<Call<'_>, ErrorReply> {
    let base = table::entry(args.at(0)).ok_or_else(|| names::unknown_command(args))?;
    if base.subcommands.is_empty() || args.len() == 1 {
        return Ok(Call { entry: base, base, args });
    }
    let word = args.at(1);
    let entry = base
        .subcommand(word)
        .ok_or_else(|| error::unknown_subcommand(&String::from_utf8_lossy(args.at(0)), word))?;
    Ok(Call { entry, base, args })
}

#[inline]
fn strangers_and_mistakes(turn: Turn, session: &Session, call: &Call) -> Result<(), ErrorReply> {
    wrong_arity(call)?;
    protected(turn, session, call)?;
    unauthenticated(turn, session, call)?;
    not_inside_multi(session, call)
}

#[inline]
fn gates(turn: Turn, session: &mut Session, call: &Call) -> Result<(), ErrorReply> {
    out_of_memory(turn, session, call)?;
    disk_refuses(turn, session, call)?;
    too_few_replicas(turn, session, call)?;
    read_only(turn, session, call)?;
    concern_cannot_be_met(turn, session, call)?;
    subscriber_only(session, call)?;
    stale(turn, session, call)
}

/// The number of words.
#[inline]
fn wrong_arity(call: &Call) -> Result<(), ErrorReply> {
    let (arity, count) = (call.entry.command.spec.arity, call.args.len());
    let fits = if arity >= 0 { count == arity as usize } else { count >= arity.unsigned_abs() as usize };
    if fits { Ok(()) } else { Err(error::wrong_arity(&call.entry.full_name)) }
}

/// DEBUG and MODULE, unless `enable-…-command` allows them to this client.
#[inline]
fn protected(turn: Turn, session: &Session, call: &Call) -> Result<(), ErrorReply> {
    if !call.flags().has(flag::PROTECTED) {
        return Ok(());
    }
    let name = call.base_name();
    let allowed = match name {
        "module" => turn.settings.enable_module_command,
        _ => turn.settings.enable_debug_command,
    };
    if allowed.permits(session.client.peer.is_loopback || session.client.peer.is_local_socket) {
        return Ok(());
    }
    Err(names::protected(name))
}

/// Anything but authentication, before it.
#[inline]
fn unauthenticated(turn: Turn, session: &Session, call: &Call) -> Result<(), ErrorReply> {
    if session.is_authenticated || call.flags().has(flag::NO_AUTH) || turn.settings.requirepass.0.is_empty() {
        return Ok(());
    }
    Err(error::NO_AUTH)
}

#[inline]
fn not_inside_multi(session: &Session, call: &Call) -> Result<(), ErrorReply> {
    if session.multi.is_some() && call.flags().has(flag::NO_MULTI) {
        return Err(ErrorReply::fixed("ERR Command not allowed inside a transaction"));
    }
    Ok(())
}

/// Growth beyond `maxmemory`, if evicting does not help. Queueing grows too.
#[inline]
fn out_of_memory(turn: Turn, session: &mut Session, call: &Call) -> Result<(), ErrorReply> {
    let limit = turn.settings.maxmemory;
    if limit == 0 || turn.service.store.used_bytes() <= limit || turn.is_replica() {
        return Ok(()); // what a replica removes is its primary's decision
    }
    evict(turn, session, call)
}

#[cold]
fn evict(turn: Turn, session: &mut Session, call: &Call) -> Result<(), ErrorReply> {
    let is_growth = effective_flags(session, call).has(flag::DENYOOM)
        || (session.multi.is_some() && !matches!(call.base_name(), "exec" | "discard" | "quit" | "reset"));
    let (store, settings) = (&turn.service.store, turn.settings);
    let policy = policy(settings.maxmemory_policy);
    let samples = settings.maxmemory_samples;
    let bytes = call.args.from(0).map(|word| word.len() as u64).sum();
    match store.evict(settings.maxmemory, policy, samples, (EVICTIONS, bytes), turn.now_ms) {
        Ok(evicted) => {
            session.note_write(evicted.position);
            turn.service.statistics.add(Counter::EvictedKeys, evicted.keys);
            // As long as evicting gets on, commands do too.
            if evicted.within_limit || evicted.keys > 0 || !is_growth {
                Ok(())
            } else {
                Err(error::OUT_OF_MEMORY)
            }
        }
        Err(failure) => {
            tracing::error!(?failure, "evicting failed");
            if is_growth { Err(error::OUT_OF_MEMORY) } else { Ok(()) }
        }
    }
}

/// The flags of a command; EXEC has those of all it runs.
pub(super) fn effective_flags(session: &Session, call: &Call) -> Flags {
    let queued = session.multi.as_ref().filter(|_| call.is_exec()).map(|multi| multi.flags);
    call.flags().and(queued.unwrap_or_default())
}

/// Writes that the disk does not take: those that make data grow when it is full, all when it has failed.
#[inline]
fn disk_refuses(turn: Turn, session: &Session, call: &Call) -> Result<(), ErrorReply> {
    if !effective_flags(session, call).has(flag::WRITE) {
        return Ok(());
    }
    match turn.service.store.refusal() {
        None => Ok(()),
        Some(Refusal::DiskFull) if !effective_flags(session, call).has(flag::DENYOOM) => Ok(()),
        Some(refusal) => Err(disk_refusal(&refusal)),
    }
}

/// Writes of a primary while fewer replicas follow closely than `min-replicas-to-write` asks for.
#[inline]
fn too_few_replicas(turn: Turn, session: &Session, call: &Call) -> Result<(), ErrorReply> {
    let settings = turn.settings;
    if settings.min_replicas_to_write == 0 || settings.min_replicas_max_lag == 0 {
        return Ok(());
    }
    if !effective_flags(session, call).has(flag::WRITE) || turn.is_replica() {
        return Ok(());
    }
    let good = turn.service.replication.good(u64::from(settings.min_replicas_max_lag) * 1000);
    if good >= settings.min_replicas_to_write as usize { Ok(()) } else { Err(error::NO_REPLICAS) }
}

/// Writes to a replica.
#[inline]
fn read_only(turn: Turn, session: &Session, call: &Call) -> Result<(), ErrorReply> {
    if turn.is_replica() && effective_flags(session, call).has(flag::WRITE) {
        return Err(error::READ_ONLY);
    }
    Ok(())
}

/// Writes with a write concern that asks for more replicas than are in step.
#[inline]
fn concern_cannot_be_met(turn: Turn, session: &Session, call: &Call) -> Result<(), ErrorReply> {
    if !turn.settings.has_concern() && session.write_concern.is_none() {
        return Ok(());
    }
    if effective_flags(session, call).has(flag::WRITE) && !can_meet(turn, session, call) {
        return Err(error::NO_REPLICAS);
    }
    Ok(())
}

#[cold]
fn can_meet(turn: Turn, session: &Session, call: &Call) -> bool {
    let (store, replication) = (&turn.service.store, &turn.service.replication);
    let queued = session.multi.as_ref().filter(|_| call.is_exec());
    let (concern, partitions) = if let Some(multi) = queued {
        transactions::written(session, turn.settings, store, &multi.queue)
    } else {
        let concern = session.concern(turn.settings, session.database);
        (concern, partitions_of(call.entry.command, &call.args, store))
    };
    partitions.is_every(store.partition_count(), |id| replication.can_meet(id, concern))
}

/// Commands that need data that is not too old, on a replica.
#[inline]
fn stale(turn: Turn, session: &Session, call: &Call) -> Result<(), ErrorReply> {
    if turn.is_replica() { too_old(turn, session, call) } else { Ok(()) }
}

#[cold]
fn too_old(turn: Turn, session: &Session, call: &Call) -> Result<(), ErrorReply> {
    let (link, stale_ms) = turn.service.replication.standing();
    let queued = session.multi.as_ref().filter(|_| call.is_exec());
    let common = queued.and_then(|multi| multi.common_flags).unwrap_or(flag::STALE);
    let works_with_old_data = call.flags().has(flag::STALE) && common.has(flag::STALE);
    if link != LinkState::Up && !turn.settings.replica_serve_stale_data && !works_with_old_data {
        return Err(error::MASTER_DOWN);
    }
    if !effective_flags(session, call).has(flag::READONLY) {
        return Ok(());
    }
    match turn.settings.replica_reads {
        ReplicaReads::Auto | ReplicaReads::Any => Ok(()),
        ReplicaReads::Primary => Err(names::READS_OF_PRIMARY),
        ReplicaReads::MaxLag(limit_ms) if stale_ms > limit_ms => Err(names::TOO_OLD),
        ReplicaReads::MaxLag(_) => Ok(()),
    }
}

/// Ordinary commands of a subscriber that could not tell their replies from messages.
#[inline]
fn subscriber_only(session: &Session, call: &Call) -> Result<(), ErrorReply> {
    if !session.is_subscriber_only() {
        return Ok(());
    }
    let allowed = [
        "ping",
        "subscribe",
        "ssubscribe",
        "unsubscribe",
        "sunsubscribe",
        "psubscribe",
        "punsubscribe",
        "quit",
        "reset",
    ];
    if allowed.contains(&call.base_name()) {
        Ok(())
    } else {
        Err(names::subscriber_only(&call.entry.full_name))
    }
}

/// Until when a command must wait because of CLIENT PAUSE.
#[inline]
fn paused(turn: Turn, session: &Session, call: &Call) -> Option<i64> {
    if !turn.service.pause.is_set() {
        return None;
    }
    let (scope, end_ms) = turn.service.pause.in_force(clock::unix_ms())?;
    if call.base_name() == "quit" {
        return None;
    }
    let flags = effective_flags(session, call);
    let is_held = scope == Scope::All || flags.has(flag::WRITE) || flags.has(flag::MAY_REPLICATE);
    is_held.then_some(end_ms)
}

/// The commands that MULTI does not queue.
fn runs_inside_multi(call: &Call) -> bool {
    is_run_inside_multi(call.base_name())
}

/// Whether the command with this name is not queued.
pub(super) fn is_run_inside_multi(name: &str) -> bool {
    matches!(name, "exec" | "discard" | "multi" | "watch" | "quit" | "reset")
}

fn queued(session: &mut Session, call: &Call) -> Reply {
    if let Some(multi) = &mut session.multi {
        multi.push(call.args, call.flags());
        session.touch();
    }
    Reply::Simple("QUEUED")
}

/// What a refusal leaves behind.
#[cold]
fn refused(turn: Turn, session: &mut Session, call: Option<&Call>, refusal: ErrorReply) -> Reply {
    if let Some(call) = call {
        turn.service.statistics.rejected(call.entry.number);
    }
    if call.is_some_and(Call::is_exec) {
        session.multi = None;
        session.watched.clear(&turn.service.store, turn.now_ms);
        if is_redirect(&refusal) {
            turn.service.statistics.error(refusal.code());
            return Reply::Error(refusal);
        }
        turn.service.statistics.error(error::EXEC_ABORT.code());
        let reason = refusal.0.strip_prefix(b"ERR ").unwrap_or(&refusal.0);
        return Reply::Error(ErrorReply::quoting("EXECABORT Transaction discarded because of: ", reason, ""));
    }
    turn.service.statistics.error(refusal.code());
    if let Some(multi) = &mut session.multi {
        multi.is_aborted = true;
    }
    Reply::Error(refusal)
}

/// Whether an error says where to go, or that there is no such place: what Redis tells of EXEC as it is, for clients that go there.
fn is_redirect(refusal: &ErrorReply) -> bool {
    matches!(refusal.code(), "MOVED" | "CROSSSLOT")
}

#[inline]
fn run(turn: Turn, session: &mut Session, call: &Call) -> Answer {
    session.note_command(&call.entry.full_name);
    let request = Request {
        args: call.args,
        database: session.database,
        now: turn.now_ms,
        settings: turn.settings,
        service: turn.service,
        ready: None,
    };
    if matches!(call.entry.command.handler, Handler::Session(_)) {
        session.publish();
        session.publish_buffers();
    }
    execute(call.entry, &request, session)
}
