//! Runs commands over data: which partitions a command needs, its run under their locks, the commit, and the way around
//! rows that are on disk only. Knows no gates and no sockets.
//!
//! A row that must be fetched ends the run, which has changed nothing; the row is fetched without any lock, and the command
//! runs again from its start. What it found in memory stays there for long enough, so each run gets further.

use super::keys_of::{Keys, keys_of};
use super::record::record;
use super::table::Entry;
use super::{Command, Failure, Handler, Outcome, Request};
use crate::base::crc16;
use crate::protocol::args::Args;
use crate::protocol::error::ErrorReply;
use crate::protocol::reply::Reply;
use crate::protocol::spec::{Begin, flag};
use crate::session::session::Session;
use crate::store::{Interrupt, PartitionSet, Store};
use smallvec::SmallVec;

/// How often a command may run again for rows on disk. A command over a million cold rows is within it; more means that
/// what was fetched did not stay, which is a fault of ours.
const RUNS_MAX: u32 = 4_000_000;

/// Runs a command that passed the gates, notes its write in the session, and records it. Errors are replies here.
#[inline]
pub fn execute(entry: &Entry, request: &Request, session: &mut Session) -> Reply {
    let started = session.clock;
    let reply = run(entry.command, request, session);
    record(entry, request, session, &reply, started);
    reply
}

#[inline]
fn run(command: &Command, request: &Request, session: &mut Session) -> Reply {
    match command.handler {
        Handler::Read(handler) => {
            let partitions = partitions_of(command, &request.args, &request.service.store);
            until_fetched(&request.service.store, || {
                let mut view = request.service.store.view(&partitions, request.now);
                handler(request, &mut view)
            })
        }
        Handler::Write(handler) => {
            let partitions = partitions_of(command, &request.args, &request.service.store);
            until_fetched(&request.service.store, || {
                let mut transaction = request.service.store.transaction(&partitions, request.now);
                let reply = handler(request, &mut transaction)?;
                session.note_write(transaction.commit());
                Ok(reply)
            })
        }
        Handler::Session(handler) => until_fetched(&request.service.store, || handler(request, session)),
        Handler::Container => Reply::Error(crate::protocol::error::SYNTAX),
    }
}

/// Runs `run` again and again until all that it needs is in memory.
#[inline]
pub fn until_fetched(store: &Store, mut run: impl FnMut() -> Outcome) -> Reply {
    match run() {
        Ok(reply) => reply,
        Err(Failure::Error(error)) => Reply::Error(error),
        Err(Failure::Interrupt(interrupt)) => run_again(store, interrupt, &mut run),
    }
}

#[cold]
fn run_again(store: &Store, mut interrupt: Interrupt, run: &mut dyn FnMut() -> Outcome) -> Reply {
    for _ in 0..RUNS_MAX {
        if let Err(error) = fetch(store, interrupt) {
            return Reply::Error(error);
        }
        interrupt = match run() {
            Ok(reply) => return reply,
            Err(Failure::Error(error)) => return Reply::Error(error),
            Err(Failure::Interrupt(interrupt)) => interrupt,
        };
    }
    panic!("rows that are fetched stay in memory until the command has run");
}

fn fetch(store: &Store, interrupt: Interrupt) -> Result<(), ErrorReply> {
    let done = match interrupt {
        Interrupt::Fetch(request) => store.fetch(&request),
        Interrupt::Storage(_) => Err(interrupt),
    };
    match done {
        Ok(()) => Ok(()),
        Err(Interrupt::Storage(reason)) => {
            tracing::error!(%reason, "a command failed at the storage");
            Err(ErrorReply::new(format!("ERR storage: {reason}")))
        }
        Err(Interrupt::Fetch(_)) => Err(ErrorReply::fixed("ERR storage: a row could not be fetched")),
    }
}

/// The partitions that hold the keys of a command.
#[inline]
pub fn partitions_of(command: &Command, args: &Args, store: &Store) -> PartitionSet {
    if command.spec.flags.has(flag::ALL_PARTITIONS) {
        return PartitionSet::All;
    }
    let partition = |at: usize| store.partition_of(crc16::slot(args.at(at)));
    match keys_of(command, args) {
        Ok(Keys::One((at, _))) => PartitionSet::One(partition(at)),
        Ok(Keys::None) => PartitionSet::Some(SmallVec::new()),
        // The handler is about to say what is wrong with the words; whatever it looks at before that is there.
        Err(_) => PartitionSet::All,
        Ok(keys) if command.spec.keys.iter().any(|spec| matches!(spec.begin, Begin::Unknown)) => {
            // Keys that no word names (patterns of SORT): they may be anywhere.
            drop(keys);
            PartitionSet::All
        }
        Ok(keys) => PartitionSet::of(keys.map(|(at, _)| partition(at)).collect()),
    }
}
