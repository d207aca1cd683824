//! Transactions: MULTI, EXEC, DISCARD, WATCH, UNWATCH.
//!
//! EXEC runs all queued commands in one transaction over the partitions of all their keys and of the watched ones. A command
//! that fails is rolled back alone; its error stands in its place and the others count, as in Redis. Commands that concern
//! neither data nor this connection (CONFIG, INFO, PUBLISH, …) may look at the store themselves and must not find it locked:
//! they run right after the commit, and their replies are put where they belong.

use super::execute::{
    Answer, close_over_reply, execute, find_again, note_expired, note_lookups, partitions_of, reply_of,
    until_fetched_or_locked,
};
use super::serve::{self, Ready};
use super::table::Entry;
use super::{Command, Failure, Handler, Outcome, Request, record, session};
use crate::base::concern::WriteConcern;
use crate::config::Settings;
use crate::protocol::args::Args;
use crate::protocol::encode::{self, Version};
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::access::RO;
use crate::protocol::spec::flag::{ALLOW_BUSY, DENYOOM, FAST, LOADING, NOSCRIPT, SKIP_SLOWLOG, STALE};
use crate::protocol::spec::syntax::key;
use crate::protocol::spec::{Flags, Group, KeySpec};
use crate::session::forwarding::message::{self, RequestId, remembered};
use crate::session::holds::Holds;
use crate::session::multi::Queued;
use crate::session::session::Session;
use crate::store::{Answered, Interrupt, Key, PartitionSet, Store, Transaction};
use smallvec::SmallVec;

const ALWAYS: Flags = NOSCRIPT.and(LOADING).and(STALE);

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[
    session("multi", multi)
        .arity(1)
        .flags(ALWAYS.and(FAST).and(ALLOW_BUSY))
        .group(Group::Transactions)
        .since("1.2.0")
        .complexity("O(1)")
        .summary("Begins a transaction: commands are queued until EXEC."),
    session("exec", exec)
        .arity(1)
        .flags(ALWAYS.and(SKIP_SLOWLOG))
        .group(Group::Transactions)
        .since("1.2.0")
        .complexity("That of the queued commands.")
        .summary("Runs the queued commands as one transaction."),
    session("discard", discard)
        .arity(1)
        .flags(ALWAYS.and(FAST).and(ALLOW_BUSY))
        .group(Group::Transactions)
        .since("2.0.0")
        .complexity("O(N) for N queued commands.")
        .summary("Drops the queued commands."),
    session("watch", watch)
        .arity(-2)
        .flags(ALWAYS.and(FAST).and(ALLOW_BUSY))
        .group(Group::Transactions)
        .since("2.2.0")
        .complexity("O(1) for each key.")
        .summary("Makes the next EXEC depend on these keys staying as they are.")
        .keys(&[KeySpec::range(1, -1, 1, RO)])
        .arguments(&[key("key", 0).multiple()]),
    session("unwatch", unwatch)
        .arity(1)
        .flags(ALWAYS.and(FAST).and(ALLOW_BUSY))
        .group(Group::Transactions)
        .since("2.2.0")
        .complexity("O(1)")
        .summary("Forgets all watched keys."),
];

fn multi(_: &Request, session: &mut Session) -> Outcome {
    if session.multi.is_some() {
        return Err(ErrorReply::fixed("ERR MULTI calls can not be nested").into());
    }
    session.multi = Some(Box::default());
    session.touch();
    Ok(Reply::Ok)
}

fn discard(request: &Request, session: &mut Session) -> Outcome {
    if session.multi.take().is_none() {
        return Err(ErrorReply::fixed("ERR DISCARD without MULTI").into());
    }
    session.watched.clear(&request.service.store, request.now);
    session.touch();
    Ok(Reply::Ok)
}

fn watch(request: &Request, session: &mut Session) -> Outcome {
    if session.multi.is_some() {
        return Err(ErrorReply::fixed("ERR WATCH inside MULTI is not allowed").into());
    }
    for name in request.args.from(1) {
        let key = request.key_named(name);
        if session.watched.contains(&key) {
            continue;
        }
        let store = &request.service.store;
        let mut view = store.view(&PartitionSet::One(store.partition_of(key.slot)), request.now);
        let existed = view.peek(&key)?.is_some();
        view.watch(&key, session.watched.flag());
        session.watched.push(&key, existed);
    }
    Ok(Reply::Ok)
}

fn unwatch(request: &Request, session: &mut Session) -> Outcome {
    session.watched.clear(&request.service.store, request.now);
    session.touch();
    Ok(Reply::Ok)
}

fn exec(request: &Request, session: &mut Session) -> Outcome {
    let Some(multi) = session.multi.take() else {
        return Err(ErrorReply::fixed("ERR EXEC without MULTI").into());
    };
    session.executing = Some((multi.queue.len(), multi.bytes));
    let outcome = if multi.is_aborted {
        Ok(Reply::Error(error::EXEC_ABORT))
    } else {
        run(request, session, &multi.queue)
    };
    session.executing = None;
    session.touch();
    let reply = match outcome {
        Err(failure @ Failure::Interrupt(Interrupt::NotPrimary))
            if request.service.forwarding.get().is_some() =>
        {
            session.multi = Some(multi); // it is to run elsewhere
            return Err(failure);
        }
        outcome => outcome.unwrap_or_else(reply_of),
    };
    session.watched.clear(&request.service.store, request.now);
    Ok(reply)
}

/// A queued command that was found again.
struct Step<'a> {
    entry: &'static Entry,
    args: Args<'a>,
}

impl Step<'_> {
    /// Whether it runs inside the transaction: data, and what only concerns this connection.
    fn is_inside(&self) -> bool {
        let command = self.entry.command;
        !matches!(command.handler, Handler::Session(_)) || command.spec.group == Group::Connection
    }

    /// Whether it concerns the connection or the server and not data, so that it runs where the client is connected.
    fn is_for_caller(&self) -> bool {
        matches!(self.entry.command.handler, Handler::Session(_) | Handler::Container)
    }

    /// Whether it changes what the commands behind it mean, or how their replies are written.
    fn is_frame(&self) -> bool {
        matches!(self.entry.command.spec.name, "select" | "hello")
    }

    fn is_write(&self) -> bool {
        matches!(self.entry.command.handler, Handler::Write(_))
    }

    /// The database that is selected behind it, if it was `database` before.
    fn database_after(&self, database: u16) -> u16 {
        let index = (self.entry.command.spec.name == "select").then(|| self.args.int(1).ok()).flatten();
        index.and_then(|index| u16::try_from(index).ok()).unwrap_or(database)
    }
}

fn run(request: &Request, session: &mut Session, queue: &[Queued]) -> Outcome {
    let database = session.database;
    let steps = steps_of(queue);
    let watched = session.watched.partitions(&request.service.store);
    let mut partitions = partitions_of_steps(&request.service.store, &steps, watched);
    let (mut replies, mut position, mut holds) = (Vec::new(), 0, Holds::default());
    let (version, concern) = (session.version, concern_of(session, request.settings, &steps));
    let replication = &*request.service.replication;
    let outcome = until_fetched_or_locked(&request.service.store, &mut partitions, |waits, partitions| {
        session.version = version;
        session.database = database;
        let mut transaction = request.service.store.transaction(partitions, request.now);
        if waits {
            transaction.wait_for_disk();
        }
        holds.note_view(&transaction, replication);
        if is_overtaken(session, &mut transaction)? {
            return Ok(Ok(Reply::NullArray));
        }
        let mut ready = Ready::new();
        replies = run_inside(request, session, &steps, &mut transaction, &mut ready)?;
        if let Some(id) = session.answering {
            remember(id, &replies, &steps, session.version, &mut transaction);
        }
        transaction.admit(steps.iter().any(|step| step.entry.command.spec.flags.has(DENYOOM)))?;
        if let Some(missing) = serve::missing(request.service, &transaction, &ready) {
            return Ok(Err(missing));
        }
        note_expired(request.service, transaction.expired());
        position = transaction.commit_guarded(concern, |partition, position| {
            holds.note_write(partition, concern, position, replication);
        });
        serve::serve(request.service, request.settings, &mut transaction, ready);
        Ok(Ok(Reply::Ok))
    });
    session.note_write(position);
    session.holds.merge(holds);
    match outcome {
        Ok(Reply::Ok) => {}
        other => return other,
    }
    let is_forwarded = session.is_forwarded;
    let is_outside = |step: &Step| !is_forwarded && !step.is_inside();
    for (step, (reply, _)) in steps.iter().zip(&mut replies).filter(|(step, _)| is_outside(step)) {
        if let Answer::Reply(made) = execute(step.entry, &request_of(request, session, step), session) {
            *reply = made;
        }
    }
    let replies = replies.into_iter().map(|(reply, asked)| reply.in_version(asked, session.version));
    Ok(Reply::Array(replies.collect()))
}

/// The partitions that a transaction of these commands needs, those of watched keys not included.
pub fn partitions_of_queue(store: &Store, queue: &[Queued]) -> PartitionSet {
    partitions_of_steps(store, &steps_of(queue), PartitionSet::of(SmallVec::new()))
}

/// The commands of a queue that are on data, with their words.
pub fn commands_on_data(queue: &[Queued]) -> impl Iterator<Item = (&'static Command, Args<'_>)> {
    steps_of(queue)
        .into_iter()
        .filter(|step| !matches!(step.entry.command.handler, Handler::Session(_)))
        .map(|step| (step.entry.command, step.args))
}

fn partitions_of_steps(store: &Store, steps: &[Step], besides: PartitionSet) -> PartitionSet {
    let steps = steps.iter().filter(|step| !matches!(step.entry.command.handler, Handler::Session(_)));
    steps.fold(besides, |all, step| all.union(partitions_of(step.entry.command, &step.args, store)))
}

/// Whether a queued command concerns the connection or the server and not data, so that it runs where the client is connected.
pub fn is_for_caller(queued: &Queued) -> bool {
    Step { entry: find_again(queued.args()), args: queued.args() }.is_for_caller()
}

/// Appends the reply to a transaction whose commands on data have run at another node. `item` gives the replies to these, in their
/// order; the others run now.
pub fn merge<'a>(
    request: &Request,
    session: &mut Session,
    queue: &[Queued],
    mut item: impl FnMut() -> &'a [u8],
    out: &mut Vec<u8>,
) {
    encode::array_head(queue.len(), out);
    session.executing = Some((queue.len(), 0));
    for step in steps_of(queue) {
        let answered = item();
        if step.is_for_caller() {
            let version = session.version;
            if let Answer::Reply(reply) = execute(step.entry, &request_of(request, session, &step), session) {
                encode::encode(&reply, if step.is_inside() { session.version } else { version }, out);
            }
        } else {
            out.extend_from_slice(answered);
        }
    }
    session.executing = None;
    session.touch();
}

/// Has the record of a transaction say which request of another node it carries out.
#[cold]
fn remember(
    id: (RequestId, bool),
    replies: &[(Reply, Version)],
    steps: &[Step],
    version: Version,
    transaction: &mut Transaction,
) {
    let items = replies.iter().map(|(reply, asked)| reply.clone().in_version(*asked, version));
    let is_for_caller = steps.iter().map(Step::is_for_caller);
    let (lens, bytes) = encode_items(items.zip(is_for_caller), version);
    let answer = remembered(message::Outcome::Items(lens), bytes).into();
    transaction.carries_out(Answered { request: id.0.0, answer }, id.1);
}

/// The items of a transaction's reply for another node, with their lengths. Those that are for the client's own node are left out.
pub fn encode_items(items: impl Iterator<Item = (Reply, bool)>, version: Version) -> (Vec<u32>, Vec<u8>) {
    let (mut lens, mut bytes) = (Vec::new(), Vec::new());
    for (item, is_for_caller) in items {
        let start = bytes.len();
        if !is_for_caller {
            encode::encode(&item, version, &mut bytes);
        }
        lens.push((bytes.len() - start) as u32);
    }
    (lens, bytes)
}

fn steps_of(queue: &[Queued]) -> Vec<Step<'_>> {
    queue.iter().map(|queued| Step { entry: find_again(queued.args()), args: queued.args() }).collect()
}

/// The write concern that a transaction of these commands would have, and the partitions that it may change.
pub fn written(
    session: &Session,
    settings: &Settings,
    store: &Store,
    queue: &[Queued],
) -> (WriteConcern, PartitionSet) {
    let steps = steps_of(queue);
    let writes = steps.iter().filter(|step| step.is_write());
    let partitions = writes.fold(PartitionSet::of(SmallVec::new()), |all, step| {
        all.union(partitions_of(step.entry.command, &step.args, store))
    });
    (concern_of(session, settings, &steps), partitions)
}

/// The strongest write concern of all its databases, as it is committed as a whole.
fn concern_of(session: &Session, settings: &Settings, steps: &[Step]) -> WriteConcern {
    let mut database = session.database;
    let mut strongest = WriteConcern::Local;
    for step in steps {
        database = step.database_after(database);
        if step.is_write() {
            strongest = strongest.max(session.concern(settings, database));
        }
    }
    strongest
}

fn request_of<'a>(request: &Request<'a>, session: &Session, step: &Step<'a>) -> Request<'a> {
    Request { args: step.args, database: session.database, ..*request }
}

/// Whether a watched key is not what it was: changed, or gone because its time was up.
fn is_overtaken(session: &Session, transaction: &mut Transaction) -> Result<bool, Failure> {
    if session.watched.is_dirty() {
        return Ok(true);
    }
    for watched in session.watched.keys().iter().filter(|watched| watched.existed) {
        if transaction.peek(&Key::new(watched.database, &watched.name))?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Runs the steps that belong inside the transaction; the others get a placeholder. May run again from the start. Each reply
/// comes with the version of the protocol that was in force behind it.
fn run_inside(
    request: &Request,
    session: &mut Session,
    steps: &[Step],
    transaction: &mut Transaction,
    ready: &mut Ready,
) -> Result<Vec<(Reply, Version)>, Failure> {
    let database = session.database;
    let mut replies = Vec::with_capacity(steps.len());
    for step in steps {
        if !step.is_inside() || session.is_forwarded && step.is_for_caller() && !step.is_frame() {
            replies.push((Reply::Null, session.version));
            continue;
        }
        let request = request_of(request, session, step);
        let started = session.clock;
        let savepoint = transaction.savepoint();
        let outcome = match step.entry.command.handler {
            Handler::Read(handler) => transaction.as_reader(|view| handler(&request, view)),
            Handler::Write(handler) => {
                let outcome = handler(&request, transaction);
                transaction.check_size()?; // at once, before the next makes it larger still
                outcome
            }
            Handler::Session(handler) => {
                session.publish(); // what came before in this transaction
                handler(&request, session)
            }
            Handler::Container => Err(error::SYNTAX.into()),
        };
        note_lookups(request.service, transaction.take_lookups());
        let reply = match outcome {
            Ok(reply) => reply,
            Err(Failure::Error(refusal)) => {
                transaction.rollback_to(&savepoint);
                Reply::Error(refusal)
            }
            Err(Failure::Wait(wait)) => wait.at_once,
            Err(Failure::ReplyTooLong) => {
                // The others run, as in Redis, and then the client is closed.
                transaction.rollback_to(&savepoint);
                close_over_reply(&request, session);
                Reply::Null
            }
            Err(interrupt) => {
                session.database = database;
                return Err(interrupt);
            }
        };
        serve::note_ready(request.service, transaction, Some(&savepoint), ready);
        record::record(step.entry, &request, session, &reply, started);
        replies.push((reply, session.version));
    }
    Ok(replies)
}
