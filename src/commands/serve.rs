//! Serves commands that wait for keys, right behind a change of these keys and under its locks.
//!
//! Oldest first, so that the order is that in which they began to wait, and before anybody else sees the change. Each is a transaction
//! of its own right behind the one that made the change. What a served command changes may serve others in turn (BLMOVE). A key of the
//! wrong type does not end a wait, as in Redis.

use super::execute::{find_again, note_expired, remember};
use super::table::Entry;
use super::{Failure, Handler, Outcome, Request, Wait};
use crate::config::Settings;
use crate::protocol::error;
use crate::protocol::reply::Reply;
use crate::protocol::spec::flag;
use crate::session::client::Letter;
use crate::session::holds::Holds;
use crate::session::multi::Queued;
use crate::session::service::Service;
use crate::session::session::Session;
use crate::session::waiting::{DatabaseKey, Ticket, now_us};
use crate::store::{Key, PartitionSet, Savepoint, Transaction};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Keys that may have what somebody waits for, in the order in which they got it.
pub type Ready = VecDeque<DatabaseKey>;

/// Enters a command among those who wait. To be called while its partitions are locked.
pub fn enter(wait: &Wait, request: &Request, session: &Session) -> Arc<Ticket> {
    let words = wait.words.clone().unwrap_or_else(|| Queued::copy_from(request.args));
    let key = |at: usize| (request.database, words.args().at(at).into());
    let (keys, target) = (wait.keys.iter().map(|&at| key(at)).collect(), wait.target.map(key));
    let since_us = now_us().saturating_sub(session.waited_ms.saturating_mul(1000));
    let ticket = Arc::new(Ticket {
        client: Arc::clone(&session.client),
        words,
        database: request.database,
        kind: wait.kind,
        keys,
        target,
        on_timeout: wait.on_timeout.clone(),
        concern: session.concern(request.settings, request.database),
        version: session.version,
        answering: session.answering.map(|(id, _)| id),
        place: request.service.waiting.place(since_us),
        is_claimed: AtomicBool::new(false),
    });
    request.service.waiting.add(&ticket);
    ticket
}

/// Notes what a transaction has put since `start`, as far as somebody waits for it.
#[inline]
pub fn note_ready(
    service: &Service,
    transaction: &Transaction,
    start: Option<&Savepoint>,
    ready: &mut Ready,
) {
    if !service.waiting.is_empty() {
        note_awaited(service, transaction, start, ready);
    }
}

#[cold]
fn note_awaited(service: &Service, transaction: &Transaction, start: Option<&Savepoint>, ready: &mut Ready) {
    let mut databases = SmallVec::<[u16; 2]>::new(); // each partition tells of them
    transaction.visit_new(start, &mut |database, name| match name {
        None if databases.contains(&database) => {}
        None => {
            databases.push(database);
            ready.extend(service.waiting.keys_of(database));
        }
        Some(name) => {
            let key = (database, name.into());
            if !ready.contains(&key) && service.waiting.is_awaited(&key) {
                ready.push_back(key);
            }
        }
    });
}

/// The partitions that must be locked as well, so that all who wait for `ready` can be served; none if all are.
#[inline]
pub fn missing(service: &Service, transaction: &Transaction, ready: &Ready) -> Option<PartitionSet> {
    if ready.is_empty() { None } else { missing_for(service, transaction, ready) }
}

#[cold]
fn missing_for(service: &Service, transaction: &Transaction, ready: &Ready) -> Option<PartitionSet> {
    let targets = service.waiting.targets(ready.iter());
    let missing = targets.iter().filter(|(_, name)| !transaction.holds(name));
    let missing = missing.map(|(database, name)| Key::new(*database, name).slot);
    let missing: SmallVec<_> = missing.map(|slot| service.store.partition_of(slot)).collect();
    (!missing.is_empty()).then(|| PartitionSet::of(missing))
}

/// Serves whoever waits for `ready`. What the transaction has staged before is committed.
#[inline]
pub fn serve(service: &Service, settings: &Settings, transaction: &mut Transaction, ready: Ready) {
    if !ready.is_empty() {
        serve_all(service, settings, transaction, ready);
    }
}

#[cold]
fn serve_all(service: &Service, settings: &Settings, transaction: &mut Transaction, mut ready: Ready) {
    // The locks are not given back in between, so a row that is not in memory is waited for.
    transaction.wait_for_disk();
    while let Some(key) = ready.pop_front() {
        let mut behind = None;
        while transaction.holds(&key.1)
            && let Some(ticket) = service.waiting.next(&key, behind)
        {
            behind = Some(ticket.place);
            let found = transaction.glimpse(&Key::new(key.0, &key.1));
            let Ok(Some(entry)) = found else { break }; // nothing is left for those behind
            if entry.kind() == ticket.kind
                && can_serve(&ticket, transaction)
                && ticket.claim()
                && !serve_one(service, settings, transaction, &ticket, (&key.1, &mut ready))
            {
                ticket.release();
            }
        }
    }
}

fn can_serve(ticket: &Ticket, transaction: &Transaction) -> bool {
    !ticket.client.is_killed() && ticket.target.as_ref().is_none_or(|(_, name)| transaction.holds(name))
}

/// Runs a waiting command for the key that is `ready`. False if it must wait on.
fn serve_one(
    service: &Service,
    settings: &Settings,
    transaction: &mut Transaction,
    ticket: &Arc<Ticket>,
    (name, ready): (&[u8], &mut Ready),
) -> bool {
    let args = ticket.words.args();
    let entry = find_again(args);
    let now = transaction.now();
    let request = Request { args, database: ticket.database, now, settings, service, ready: Some(name) };
    let started = service.clock.raw();
    let mut holds = Holds::default();
    holds.note_view(transaction, &service.replication);
    let start = transaction.savepoint();
    let outcome = run(entry, &request, transaction).and_then(|reply| {
        transaction.admit(entry.command.spec.flags.has(flag::DENYOOM))?;
        Ok(reply)
    });
    let reply = match outcome {
        Ok(reply) => {
            if let Some(id) = ticket.answering {
                remember((id, false), &reply, ticket.version, transaction);
            }
            reply
        }
        Err(failure) => {
            transaction.rollback_to(&start);
            let Failure::Error(refusal) = failure else { return false };
            Reply::Error(refusal)
        }
    };
    note_expired(service, transaction.expired());
    note_ready(service, transaction, Some(&start), ready);
    let position = transaction.commit_guarded(ticket.concern, |partition, position| {
        holds.note_write(partition, ticket.concern, position, &service.replication);
    });
    let nanoseconds = service.clock.delta_as_nanos(started, service.clock.raw());
    service.statistics.command(entry.number, nanoseconds, settings.latency_tracking);
    if let Reply::Error(refusal) = &reply {
        service.statistics.failed(entry.number);
        service.statistics.error(refusal.code());
    }
    service.waiting.remove(ticket);
    ticket.client.send(Letter::Served { reply, position, holds });
    true
}

fn run(entry: &Entry, request: &Request, transaction: &mut Transaction) -> Outcome {
    match entry.command.handler {
        Handler::Read(handler) => handler(request, transaction),
        Handler::Write(handler) => handler(request, transaction),
        Handler::Session(_) | Handler::Container => Err(error::SYNTAX.into()),
    }
}
