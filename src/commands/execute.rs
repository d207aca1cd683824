//! Runs commands over data: which partitions a command needs, its run under their locks, the commit, and the way around
//! rows that are on disk only. Knows no gates and no sockets.
//!
//! A row that must be fetched ends the run, which has changed nothing; the row is fetched without any lock, and the command
//! runs again from its start. What it found in memory stays there for long enough, so each run gets further.
//! A command that must wait for a key is entered among those who wait before the locks are released; whoever changes data
//! serves them, see [`super::serve`].

use super::keys_of::{Keys, keys_of};
use super::record::record;
use super::serve::{self, Ready};
use super::sort;
use super::table::{self, Entry};
use super::{Command, Failure, Handler, Outcome, Request};
use crate::base::crc16;
use crate::observability::statistics::Counter;
use crate::protocol::args::Args;
use crate::protocol::encode::{Version, encode};
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::flag;
use crate::session::copies::CopiesWanted;
use crate::session::forwarding::message::{self, RequestId, remembered};
use crate::session::holds::Holds;
use crate::session::service::Service;
use crate::session::session::{Closing, Session};
use crate::session::waiting::Ticket;
use crate::store::{Answered, Interrupt, PartitionSet, Refusal, Store, Transaction};
use smallvec::SmallVec;
use std::sync::Arc;

/// Rows fetched one by one, each followed by a run from the start, before a command waits for the disk under its locks: the cost
/// of running again grows with the square of the rows.
const FETCHES_MAX: u32 = 8;
/// How often a command may run again for rows on disk. A command over a million cold rows is within it; more means that
/// what was fetched did not stay, which is a fault of ours.
const RUNS_MAX: u32 = 4_000_000;

/// What became of a command.
pub enum Answer {
    /// It is done.
    Reply(Reply),
    /// It waits for a key.
    Waiting {
        /// Where it was entered.
        ticket: Arc<Ticket>,
        /// For how long, in milliseconds; none is for ever.
        timeout_ms: Option<u64>,
    },
    /// It waits for copies of what the connection wrote.
    Copies(CopiesWanted),
    /// Another node has become primary of what it would change: it has changed nothing, and is to run there.
    Moved,
}

/// Runs a command that passed the gates, notes its write in the session, and records it. Errors are replies here.
#[inline]
pub fn execute(entry: &Entry, request: &Request, session: &mut Session) -> Answer {
    let started = session.clock;
    let mut ticket = None;
    let reply = match run(entry.command, request, session, &mut ticket) {
        Ok(reply) => reply,
        Err(Failure::Wait(wait)) => match ticket {
            Some(ticket) => return Answer::Waiting { ticket, timeout_ms: wait.timeout_ms },
            None => wait.at_once,
        },
        Err(Failure::Interrupt(Interrupt::NotPrimary)) if request.service.forwarding.get().is_some() => {
            return Answer::Moved;
        }
        Err(Failure::Copies(wanted)) => {
            // It has run; what is still to come is how many copies there are.
            record(entry, request, session, &Reply::Null, started);
            return Answer::Copies(wanted);
        }
        Err(Failure::ReplyTooLong) => {
            close_over_reply(request, session);
            Reply::Null
        }
        Err(failure) => reply_of(failure),
    };
    record(entry, request, session, &reply, started);
    Answer::Reply(reply)
}

/// Has a client closed over a reply that is longer than it may have waiting, and that was not made.
#[cold]
pub fn close_over_reply(request: &Request, session: &mut Session) {
    tracing::warn!(
        id = session.id,
        "closing a client: output buffer limit, by a reply that was not even made"
    );
    request.service.statistics.add(Counter::OutputBufferDisconnections, 1);
    session.closing = Some(Closing::Now);
}

/// The reply to a failure where nothing may wait.
pub fn reply_of(failure: Failure) -> Reply {
    match failure {
        Failure::Error(error) => Reply::Error(error),
        Failure::Wait(wait) => wait.at_once,
        Failure::Interrupt(interrupt) => Reply::Error(storage_error(&interrupt)),
        Failure::Copies(_) | Failure::ReplyTooLong => Reply::Error(error::OUT_OF_RANGE),
    }
}

#[inline]
fn run(
    command: &Command,
    request: &Request,
    session: &mut Session,
    ticket: &mut Option<Arc<Ticket>>,
) -> Outcome {
    let (store, replication) = (&*request.service.store, &*request.service.replication);
    let mut holds = Holds::default();
    match command.handler {
        Handler::Read(handler) => {
            let partitions = limited(command, request, session);
            let outcome = until_fetched(store, |waits| {
                let mut view = store.view(&partitions, request.now);
                if waits {
                    view.wait_for_disk();
                }
                holds.note_view(&view, replication);
                let outcome = view.as_reader(|view| handler(request, view));
                if !matches!(outcome, Err(Failure::Interrupt(_))) {
                    note_lookups(request.service, view.take_lookups());
                }
                outcome.inspect_err(|failure| *ticket = enter(failure, request, session))
            });
            session.holds.merge(holds);
            outcome
        }
        Handler::Write(handler) => {
            let mut partitions = limited(command, request, session);
            let mut position = 0;
            let concern = session.concern(request.settings, request.database);
            let outcome = until_fetched_or_locked(store, &mut partitions, |waits, partitions| {
                let mut transaction = store.transaction(partitions, request.now);
                if waits {
                    transaction.wait_for_disk();
                }
                holds.note_view(&transaction, replication);
                let start = session.answering.map(|_| transaction.savepoint());
                let mut outcome = handler(request, &mut transaction);
                if let (Some((_, true)), Some(start), Err(Failure::Error(_))) =
                    (session.answering, start, &outcome)
                {
                    transaction.rollback_to(&start); // the refusal is remembered, as others run behind it
                    outcome = Ok(outcome.unwrap_or_else(reply_of));
                }
                if !matches!(outcome, Err(Failure::Interrupt(_))) {
                    note_lookups(request.service, transaction.take_lookups());
                }
                if matches!(outcome, Err(Failure::Wait(_))) && !transaction.is_primary() {
                    return Err(Interrupt::NotPrimary.into()); // what it waits for comes to another node
                }
                let reply = outcome.inspect_err(|failure| *ticket = enter(failure, request, session))?;
                if let Some(id) = session.answering {
                    remember(id, &reply, session.version, &mut transaction);
                }
                transaction.admit(command.spec.flags.has(flag::DENYOOM))?;
                let mut ready = Ready::new();
                serve::note_ready(request.service, &transaction, None, &mut ready);
                // A part of a command has just these partitions: it would change what other parts are to.
                let is_whole = session.only.is_none();
                if is_whole && let Some(missing) = serve::missing(request.service, &transaction, &ready) {
                    return Ok(Err(missing));
                }
                note_expired(request.service, transaction.expired());
                position = transaction.commit_guarded(concern, |partition, position| {
                    holds.note_write(partition, concern, position, replication);
                });
                serve::serve(request.service, request.settings, &mut transaction, ready);
                Ok(Ok(reply))
            });
            session.note_write(position);
            session.holds.merge(holds);
            outcome
        }
        Handler::Session(handler) => until_fetched(store, |_| handler(request, session)),
        Handler::Container => Err(error::SYNTAX.into()),
    }
}

/// Has the record of a change say which request of another node it carries out.
#[cold]
pub fn remember(id: (RequestId, bool), reply: &Reply, version: Version, transaction: &mut Transaction) {
    let mut bytes = Vec::new();
    encode(reply, version, &mut bytes);
    let answer = remembered(message::Outcome::Done, bytes).into();
    transaction.carries_out(Answered { request: id.0.0, answer }, id.1);
}

/// Counts the keys that a reading command found and those that it did not.
#[inline]
pub fn note_lookups(service: &Service, (hits, misses): (u32, u32)) {
    if hits > 0 {
        service.statistics.add(Counter::KeyspaceHits, u64::from(hits));
    }
    if misses > 0 {
        service.statistics.add(Counter::KeyspaceMisses, u64::from(misses));
    }
}

/// Counts the expired keys that a writing command came upon and removed.
#[inline]
pub fn note_expired(service: &Service, keys: u32) {
    if keys > 0 {
        service.statistics.add(Counter::ExpiredKeys, u64::from(keys));
    }
}

/// Enters a command that must wait; the locks are still held, so that no change can come before it.
#[inline]
fn enter(failure: &Failure, request: &Request, session: &Session) -> Option<Arc<Ticket>> {
    match failure {
        Failure::Wait(wait) => Some(serve::enter(wait, request, session)),
        _ => None,
    }
}

/// Runs `run` again and again until all that it needs is in memory; it is told whether it must wait for the disk under the
/// locks, because fetching one row after the other has taken long enough. The outcome is no interrupt but that another node
/// takes these changes.
#[inline]
pub fn until_fetched(store: &Store, mut run: impl FnMut(bool) -> Outcome) -> Outcome {
    match run(false) {
        outcome @ Err(Failure::Interrupt(Interrupt::NotPrimary)) => outcome,
        Err(Failure::Interrupt(interrupt)) => run_again(store, interrupt, &mut run),
        outcome => outcome,
    }
}

/// The same with locks on `partitions`, until these are enough to serve those who wait for what was changed: `run` says which are missing.
#[inline]
pub fn until_fetched_or_locked(
    store: &Store,
    partitions: &mut PartitionSet,
    mut run: impl FnMut(bool, &PartitionSet) -> Result<Result<Reply, PartitionSet>, Failure>,
) -> Outcome {
    until_fetched(store, |waits| {
        loop {
            match run(waits, partitions)? {
                Ok(reply) => return Ok(reply),
                Err(missing) => *partitions = partitions.clone().union(missing),
            }
        }
    })
}

#[cold]
fn run_again(store: &Store, mut interrupt: Interrupt, run: &mut dyn FnMut(bool) -> Outcome) -> Outcome {
    for attempt in 0..RUNS_MAX {
        fetch(store, &interrupt)?;
        interrupt = match run(attempt >= FETCHES_MAX) {
            outcome @ Err(Failure::Interrupt(Interrupt::NotPrimary)) => return outcome,
            Err(Failure::Interrupt(interrupt)) => interrupt,
            outcome => return outcome,
        };
    }
    panic!("rows that are fetched stay in memory until the command has run");
}

fn fetch(store: &Store, interrupt: &Interrupt) -> Result<(), ErrorReply> {
    match interrupt {
        Interrupt::Fetch(request) => store.fetch(request).map_err(|failure| storage_error(&failure)),
        Interrupt::Room(room) => store.make_room(*room).map_err(|refusal| disk_refusal(&refusal)),
        Interrupt::TooLarge | Interrupt::NotPrimary | Interrupt::Storage(_) => Err(storage_error(interrupt)),
    }
}

/// The disk is full or has failed.
#[cold]
pub fn disk_refusal(refusal: &Refusal) -> ErrorReply {
    match refusal {
        Refusal::DiskFull => ErrorReply::fixed(
            "MISCONF No space left on the disk: commands that make data grow are refused, removing data works.",
        ),
        Refusal::Stuck(reason) => ErrorReply::new(format!(
            "MISCONF Errors writing to the journal, changes are refused until it can be written: {reason}"
        )),
        Refusal::Failed(reason) => ErrorReply::new(format!(
            "MISCONF Errors writing to the journal, changes are refused until the server is started again on a sound \
             disk: {reason}"
        )),
        Refusal::Damaged(reason) => ErrorReply::new(format!("MISCONF Changes are refused: {reason}")),
    }
}

fn storage_error(failure: &Interrupt) -> ErrorReply {
    match failure {
        Interrupt::Storage(reason) => {
            tracing::error!(%reason, "a command failed at the storage");
            ErrorReply::new(format!("ERR storage: {reason}"))
        }
        Interrupt::TooLarge => {
            ErrorReply::fixed("ERR the changes of this transaction are larger than 4 GB in all")
        }
        Interrupt::NotPrimary => error::READ_ONLY,
        Interrupt::Fetch(_) | Interrupt::Room(_) => {
            ErrorReply::fixed("ERR storage: a row could not be fetched")
        }
    }
}

/// The command, or subcommand, that words mean which were found before.
pub fn find_again(args: Args<'_>) -> &'static Entry {
    let base = table::entry(args.at(0)).expect("the same words were found in the same table before");
    args.get(1).and_then(|word| base.subcommand(word)).unwrap_or(base)
}

/// The partitions that a command runs on.
#[inline]
fn limited(command: &Command, request: &Request, session: &Session) -> PartitionSet {
    match &session.only {
        None => partitions_of(command, &request.args, &request.service.store),
        Some(only) => only.clone(),
    }
}

/// The partitions that hold the keys of a command.
#[inline]
pub fn partitions_of(command: &Command, args: &Args, store: &Store) -> PartitionSet {
    if command.spec.flags.has(flag::ALL_PARTITIONS) && !sort::names_its_keys(command, args) {
        return PartitionSet::All;
    }
    let partition = |at: usize| store.partition_of(crc16::slot(args.at(at)));
    match keys_of(command, args) {
        Ok(Keys::One((at, _))) => PartitionSet::One(partition(at)),
        Ok(Keys::None) => PartitionSet::Some(SmallVec::new()),
        // The handler is about to say what is wrong with the words; whatever it looks at before that is there.
        Err(_) => PartitionSet::All,
        Ok(keys) => PartitionSet::of(keys.map(|(at, _)| partition(at)).collect()),
    }
}
