//! Serves commands that wait for keys, right after a change of these keys and on the thread that made it.
//!
//! Oldest first, so that the order is that in which they began to wait. What a served command changes may serve others in
//! turn (BLMOVE). A key of the wrong type does not end a wait, as in Redis.

use super::execute::{find_again, note_expired, partitions_of, until_fetched};
use super::keys_of::keys_of;
use super::{Command, Failure, Handler, Outcome, Request, Wait};
use crate::base::concern::WriteConcern;
use crate::config::Settings;
use crate::protocol::error;
use crate::protocol::reply::Reply;
use crate::protocol::spec::flag;
use crate::session::client::Letter;
use crate::session::holds::Holds;
use crate::session::multi::Queued;
use crate::session::service::Service;
use crate::session::session::Session;
use crate::session::waiting::{DatabaseKey, Ticket};
use std::collections::VecDeque;
use std::sync::Arc;

/// Enters a command among those who wait. To be called while its partitions are locked.
pub fn enter(wait: &Wait, request: &Request, session: &Session) -> Arc<Ticket> {
    let words = wait.words.clone().unwrap_or_else(|| Queued::copy_from(request.args));
    let keys = wait.keys.iter().map(|&at| (request.database, words.args().at(at).into())).collect();
    let client = Arc::clone(&session.client);
    let concern = session.concern(request.settings, request.database);
    let ticket = Ticket::new(client, words, request.database, keys, wait.on_timeout.clone(), concern);
    let ticket = Arc::new(ticket);
    request.service.waiting.add(&ticket);
    ticket
}

/// Serves whoever waits for what `command` has just changed.
#[cold]
pub fn after(command: &Command, request: &Request) {
    let mut keys = VecDeque::new();
    changed_by(command, request, &mut keys);
    serve(request.service, request.settings, request.now, keys);
}

/// The keys that a command may have changed, as far as somebody could wait for them.
pub fn changed_by(command: &Command, request: &Request, keys: &mut VecDeque<DatabaseKey>) {
    if command.spec.flags.has(flag::ALL_PARTITIONS) {
        keys.extend(request.service.waiting.keys());
        return;
    }
    for (at, _) in keys_of(command, &request.args).into_iter().flatten() {
        keys.push_back((request.database, request.args.at(at).into()));
    }
}

/// Serves whoever waits for `keys`.
pub fn serve(service: &Service, settings: &Settings, now: i64, mut keys: VecDeque<DatabaseKey>) {
    while let Some((database, name)) = keys.pop_front() {
        for ticket in service.waiting.for_key(database, &name) {
            if ticket.claim() && !run_ticket(service, settings, now, &ticket, &mut keys) {
                ticket.release();
            }
        }
    }
}

/// Runs a waiting command. False if it must wait on.
fn run_ticket(
    service: &Service,
    settings: &Settings,
    now: i64,
    ticket: &Arc<Ticket>,
    changed: &mut VecDeque<DatabaseKey>,
) -> bool {
    let args = ticket.words.args();
    let entry = find_again(args);
    let request = Request { args, database: ticket.database, now, settings, service };
    let (mut position, mut holds) = (0, Holds::default());
    let started = service.clock.raw();
    let outcome = until_fetched(&service.store, |waits| {
        run_once(entry.command, &request, ticket.concern, waits, (&mut position, &mut holds))
    });
    let reply = match outcome {
        Ok(reply) => reply,
        Err(Failure::Error(refusal)) if refusal != error::WRONG_TYPE => Reply::Error(refusal),
        Err(_) => return false,
    };
    let nanoseconds = service.clock.delta_as_nanos(started, service.clock.raw());
    service.statistics.command(entry.number, nanoseconds, settings.latency_tracking);
    service.waiting.remove(ticket);
    if position > 0 {
        changed_by(entry.command, &request, changed);
    }
    ticket.client.send(Letter::Served { reply, position, holds });
    true
}

fn run_once(
    command: &Command,
    request: &Request,
    concern: WriteConcern,
    waits: bool,
    (position, holds): (&mut u64, &mut Holds),
) -> Outcome {
    let (store, replication) = (&*request.service.store, &*request.service.replication);
    let partitions = partitions_of(command, &request.args, store);
    match command.handler {
        Handler::Read(handler) => {
            let mut view = store.view(&partitions, request.now);
            if waits {
                view.wait_for_disk();
            }
            holds.note_view(&view, replication);
            handler(request, &mut view)
        }
        Handler::Write(handler) => {
            let mut transaction = store.transaction(&partitions, request.now);
            if waits {
                transaction.wait_for_disk();
            }
            holds.note_view(&transaction, replication);
            let reply = handler(request, &mut transaction)?;
            transaction.admit(command.spec.flags.has(flag::DENYOOM))?;
            note_expired(request.service, transaction.expired());
            *position = transaction.commit_guarded(concern, |partition, position| {
                holds.note_write(partition, concern, position, replication);
            });
            Ok(reply)
        }
        Handler::Session(_) | Handler::Container => Err(error::SYNTAX.into()),
    }
}
