//! Runs commands that other nodes send here because this one is the primary of what they need.
//!
//! A client of another node has a connection here as long as its request takes, without a socket: so its commands pass the same gates,
//! wait for the same things, and their replies are held for replicas like those of this node's own clients. A unit that this node is
//! not the primary for is not run, nor is any behind it.

use super::confirmation::unconfirmed;
use super::connection::{CLAIM_AGAIN_GAP, Connection, Woken};
use super::dispatch::{Turn, Verdict, dispatch};
use super::split::limit;
use super::stream::Stream;
use crate::base::clock;
use crate::base::concern::WriteConcern;
use crate::base::ids::NodeId;
use crate::cluster::bus::Serve;
use crate::commands::execute::partitions_of;
use crate::commands::table;
use crate::commands::{Command, Handler, transactions};
use crate::protocol::args::Args;
use crate::protocol::encode;
use crate::protocol::error;
use crate::protocol::reply::Reply;
use crate::protocol::spec::flag;
use crate::session::client::{Client, Letter, Peer};
use crate::session::forwarding::message::{
    Again, Answer, Caller, Concern, End, Message, Moment, Outcome, Request, RequestId, Task, Unit, WatchId,
    decode_answers, encode_answers,
};
use crate::session::forwarding::served::{Begun, UnderWay};
use crate::session::forwarding::{Forwarding, Route};
use crate::session::holds::{Held, Holds, Standing};
use crate::session::multi::Queued;
use crate::session::service::Service;
use crate::session::session::Closing;
use crate::store::{Key, PartitionSet, Store};
use async_trait::async_trait;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

/// The words of EXEC, for a transaction that came whole.
const EXEC: Args<'static> = Args::new(b"exec", &[(0, 4)]);

/// Answers other nodes' requests to run commands.
pub struct Serving(pub Arc<Service>);

#[async_trait]
impl Serve for Serving {
    async fn serve(&self, from: NodeId, request: Vec<u8>) -> Option<Vec<u8>> {
        serve(&self.0, from, &request).await
    }
}

/// The answer to a message from that node; none to what makes no sense.
pub async fn serve(service: &Arc<Service>, from: NodeId, message: &[u8]) -> Option<Vec<u8>> {
    match Message::decode(message) {
        Ok(Message::Run(request)) if request.units.iter().all(is_of_ours) => {
            Some(encode_answers(&run(service, request).await))
        }
        Ok(Message::Run(_)) => {
            tracing::warn!(%from, "a forwarded request has commands that are not forwarded");
            None
        }
        Ok(Message::Forget(watches)) => {
            service.forwarding.watches.forget(&watches, &service.store);
            Some(encode_answers(&[]))
        }
        Ok(Message::End(request, end)) => {
            let waiting = service.forwarding.waiting.lock().get(&request).cloned();
            match (waiting, end) {
                (Some(client), End::Gone) => client.kill(),
                (Some(client), End::Unblock { with_error }) => {
                    client.send(Letter::Unblock { with_error });
                }
                (None, _) => {}
            }
            Some(encode_answers(&[]))
        }
        Err(malformed) => {
            tracing::warn!(%from, "a forwarded request is {}", malformed.0);
            None
        }
    }
}

/// The command, or subcommand, that words begin with, if there is such.
fn command_of(words: Args) -> Option<&'static Command> {
    let entry = table::entry(words.at(0))?;
    Some(words.get(1).and_then(|word| entry.subcommand(word)).unwrap_or(entry).command)
}

/// Whether a unit has only commands that nodes forward. One that is not known here is refused like any client's.
fn is_of_ours(unit: &Unit) -> bool {
    let mut commands = unit.commands.iter().filter_map(|queued| command_of(queued.args()));
    match unit.task {
        Task::Command => {
            let may_be =
                |command: &Command| unit.only.is_empty() || command.spec.flags.has(flag::ALL_PARTITIONS);
            commands.all(|command| {
                matches!(command.handler, Handler::Read(_) | Handler::Write(_)) && may_be(command)
            })
        }
        _ if !unit.only.is_empty() => false,
        Task::Transaction(_) => {
            commands.all(|command| !super::dispatch::is_run_inside_multi(command.spec.name))
        }
        Task::Watch { .. } => commands.all(|command| command.spec.name == "watch"),
        Task::Copies(_) => commands.all(|command| matches!(command.spec.name, "wait" | "waitaof")),
    }
}

/// Runs the units of a request: an answer for each.
pub async fn run(service: &Arc<Service>, request: Request) -> Vec<Answer> {
    let deadline = Instant::now() + Duration::from_millis(request.deadline_ms);
    let mut connection = Connection::for_caller(Arc::clone(service), &request.caller);
    poll_fn(|context| {
        connection.session.client.set_waker(context.waker());
        Poll::Ready(())
    })
    .await;
    let mut answers = Vec::with_capacity(request.units.len());
    let (mut held, mut under_way) = (Vec::new(), Vec::new());
    for unit in &request.units {
        let now = Instant::now();
        // What must wait holds up no reply: it is to come again, as the first.
        let wait_until = if answers.is_empty() { deadline } else { now };
        let is_followed = answers.len() + 1 < request.units.len();
        let begun = if now > deadline {
            Err(Answer::without_reply(Outcome::Late))
        } else {
            connection.begin(&request.caller, unit, is_followed, wait_until).await
        };
        let answer = match begun {
            Err(answer) => answer,
            Ok(right) => {
                under_way.extend(right.map(|right| (answers.len(), right)));
                let outcome = connection.run_unit(unit, wait_until).await;
                let reply = std::mem::take(&mut connection.output);
                Answer { outcome, reply, position: connection.session.last_write }
            }
        };
        held.push(connection.take_held());
        let is_on = !matches!(answer.outcome, Outcome::NotHere | Outcome::Late | Outcome::TooLong);
        answers.push(answer);
        if !is_on {
            break;
        }
    }
    connection.finish(&mut answers, &held).await;
    for (index, right) in under_way {
        let is_done = matches!(answers[index].outcome, Outcome::Done | Outcome::Items(_));
        if is_done && request.units[index].again != Again::No {
            right.done(answers[index].clone());
        }
    }
    answers.resize_with(request.units.len(), || Answer::without_reply(Outcome::NotHere));
    answers
}

/// A unit that waits, and can be ended.
struct Waits<'a> {
    service: &'a Service,
    id: RequestId,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.service.forwarding.waiting.lock().remove(&self.id);
    }
}

/// The partitions that a unit needs, if it may change data.
fn needs_of_change(store: &Store, unit: &Unit) -> Option<PartitionSet> {
    match unit.task {
        Task::Command => {
            let words = unit.commands[0].args();
            let command = command_of(words)?;
            let is_right = |arity: i32| words.len() >= arity.unsigned_abs() as usize;
            let is_change = matches!(command.handler, Handler::Write(_)) && is_right(command.spec.arity);
            is_change.then(|| limit(&unit.only).unwrap_or_else(|| partitions_of(command, &words, store)))
        }
        Task::Transaction(_) => {
            let is_known = |queued: &Queued| {
                let words = queued.args();
                command_of(words)
                    .is_some_and(|command| words.len() >= command.spec.arity.unsigned_abs() as usize)
            };
            // Of other commands the keys cannot be told: EXEC is going to refuse them.
            unit.commands
                .iter()
                .all(is_known)
                .then(|| transactions::partitions_of_queue(store, &unit.commands))
        }
        Task::Watch { .. } | Task::Copies(_) => None,
    }
}

/// In the place of a socket: nothing comes, nothing goes.
struct Nobody;

impl AsyncRead for Nobody {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context, _: &mut ReadBuf) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Nobody {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Stream for Nobody {
    fn another_handle(&self) -> io::Result<std::net::TcpStream> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Connection<Nobody> {
    fn for_caller(service: Arc<Service>, caller: &Caller) -> Connection<Nobody> {
        let peer = Peer { address: caller.address.clone(), ..Peer::default() };
        // Not among the clients of this node: nobody lists it, and its number is nobody's.
        let client = Arc::new(Client::new(0, peer, clock::unix_ms(), Arc::default()));
        let mut connection = Connection::new(Nobody, service, client);
        let session = &mut connection.session;
        session.is_forwarded = true;
        session.is_authenticated = true; // there
        session.name.clone_from(&caller.name);
        session.user = caller.user.as_str().into();
        connection
    }

    /// Makes the session that of a unit's client, and looks whether the unit is to run: an answer if not. What is known of a change
    /// is answered again; what may have been carried out and cannot be known is not carried out.
    async fn begin(
        &mut self,
        caller: &Caller,
        unit: &Unit,
        is_followed: bool,
        wait_until: Instant,
    ) -> Result<Option<UnderWay>, Answer> {
        let session = &mut self.session;
        session.database = unit.database;
        session.version = caller.version();
        session.last_write = 0;
        session.write_concern = None;
        session.answering = None;
        session.waited_ms = unit.waited_ms;
        session.only = limit(&unit.only);
        if unit.only.iter().any(|id| *id >= self.service.store.partition_count()) {
            return Err(Answer::without_reply(Outcome::NotHere));
        }
        if u32::from(unit.database) >= self.service.settings().databases {
            self.answer(&Reply::Error(error::DB_OUT_OF_RANGE));
            let reply = std::mem::take(&mut self.output);
            return Err(Answer { outcome: Outcome::Done, reply, position: 0 });
        }
        let Some(needs) = needs_of_change(&self.service.store, unit) else { return Ok(None) };
        if self.service.forwarding.get().is_none_or(|way| way.route(&needs) != Route::Here) {
            return Err(Answer::without_reply(Outcome::NotHere));
        }
        let right = loop {
            match self.service.forwarding.served.begin(unit.id) {
                Begun::Now(right) => break right,
                Begun::Done(answer) => return Err(answer),
                Begun::Already(mut over) => {
                    if tokio::time::timeout_at(wait_until, over.changed()).await.is_err() {
                        return Err(Answer::without_reply(Outcome::Late));
                    }
                }
            }
        };
        self.look_it_up(unit, &needs)?;
        self.session.answering = Some((unit.id, is_followed));
        Ok(Some(right))
    }

    /// An answer if a change was carried out, or may have been.
    fn look_it_up(&mut self, unit: &Unit, needs: &PartitionSet) -> Result<(), Answer> {
        let service = Arc::clone(&self.service);
        let view = service.store.view(needs, clock::unix_ms());
        let now =
            Moment { process: service.forwarding.process(), at_us: clock::since_boot().as_micros() as u64 };
        let Some(known) = view.answer(unit.id.0) else {
            let outcome = match unit.again {
                Again::No => return Ok(()),
                Again::Since { moment, age_us } if moment.process == now.process => {
                    // Clocks of two machines differ by less than a thousandth: they are slewed by half of that at most.
                    let sent_us = moment.at_us.checked_sub(age_us + age_us / 1000 + 1);
                    if sent_us.is_some_and(|sent_us| sent_us >= view.answers_since_us()) {
                        return Ok(());
                    }
                    Outcome::Uncertain
                }
                Again::Ask | Again::Since { .. } => Outcome::NotKnown(now),
            };
            return Err(Answer::without_reply(outcome));
        };
        let replication = &*service.replication;
        let mut holds = Holds::default();
        holds.note_view(&view, replication);
        let position = service.store.end_position();
        if unit.concern.level != WriteConcern::Local {
            needs.is_every(service.store.partition_count(), |partition| {
                holds.note_write(partition, unit.concern.level, position, replication);
                true
            });
        }
        drop(view);
        self.session.holds.merge(holds);
        let mut answers = decode_answers(&known.answer).unwrap_or_default();
        let forgotten = || Answer::without_reply(Outcome::Forgotten);
        Err(Answer { position, ..answers.pop().unwrap_or_else(forgotten) })
    }

    /// Runs a unit; its reply is the output then.
    async fn run_unit(&mut self, unit: &Unit, deadline: Instant) -> Outcome {
        match unit.task {
            Task::Command => {
                self.take_over_concern(unit.concern, unit.database);
                self.run_words(unit.commands[0].args(), unit, deadline).await
            }
            Task::Transaction(watch) => self.run_transaction(watch, unit, deadline).await,
            Task::Watch { id, is_first } => self.run_watch(id, is_first, unit, deadline).await,
            Task::Copies(position) => {
                let is_here = |way: &Arc<dyn Forwarding>| way.route(&PartitionSet::All) == Route::Here;
                if !self.service.forwarding.get().is_some_and(is_here) {
                    return Outcome::NotHere;
                }
                self.session.last_write = position;
                let outcome = self.run_words(unit.commands[0].args(), unit, deadline).await;
                self.session.last_write = 0;
                outcome
            }
        }
    }

    /// What the connection has chosen counts; of settings the stronger one.
    fn take_over_concern(&mut self, concern: Concern, database: u16) {
        let own = self.service.settings().write_concern_of(database);
        self.session.write_concern = (concern.is_chosen || concern.level > own).then_some(concern.level);
    }

    /// Watches keys for a client until it comes for them.
    async fn run_watch(&mut self, id: WatchId, is_first: bool, unit: &Unit, deadline: Instant) -> Outcome {
        let service = Arc::clone(&self.service);
        let words = unit.commands[0].args();
        let term = service.replication.term();
        let watched = service.forwarding.watches.take(id, term, &service.store);
        let is_lost = watched.is_none() && !is_first;
        self.session.watched = watched.unwrap_or_default();
        let outcome = self.run_words(words, unit, deadline).await;
        let watched = std::mem::take(&mut self.session.watched);
        if is_lost {
            watched.flag().store(true, Ordering::Relaxed); // what was watched before has been seen by nobody
        }
        service.forwarding.watches.keep(id, watched, term, &service.store);
        outcome
    }

    /// Queues the commands of a transaction as their client has, and runs them.
    async fn run_transaction(&mut self, watch: Option<WatchId>, unit: &Unit, deadline: Instant) -> Outcome {
        let service = Arc::clone(&self.service);
        if let Some(id) = watch {
            let term = service.replication.term();
            let Some(watched) = service.forwarding.watches.take(id, term, &service.store) else {
                self.answer(&Reply::NullArray); // nobody has watched the keys
                return Outcome::Done;
            };
            self.session.watched = watched;
        }
        let strongest = {
            let settings = service.settings();
            let turn = Turn { service: &service, settings: &settings, now_ms: clock::unix_ms() };
            self.session.multi = Some(Box::default());
            for queued in &unit.commands {
                let _ = dispatch(turn, &mut self.session, queued.args()); // a refusal is in EXEC's reply
            }
            let queue = self.session.multi.as_ref().map_or(&[][..], |multi| &multi.queue);
            transactions::written(&self.session, &settings, &service.store, queue).0
        };
        let own = if unit.concern.is_chosen { WriteConcern::Local } else { strongest };
        self.session.write_concern = Some(unit.concern.level.max(own));
        let outcome = self.run_words(EXEC, unit, deadline).await;
        self.session.multi = None;
        self.session.watched.clear(&service.store, clock::unix_ms());
        outcome
    }

    /// Runs a command to its end.
    async fn run_words(&mut self, words: Args<'_>, unit: &Unit, deadline: Instant) -> Outcome {
        let service = Arc::clone(&self.service);
        loop {
            let verdict = {
                let settings = service.settings();
                let turn = Turn { service: &service, settings: &settings, now_ms: clock::unix_ms() };
                self.session.clock = service.clock.raw();
                dispatch(turn, &mut self.session, words)
            };
            let is_done = match verdict {
                Verdict::Done(_) if self.session.closing == Some(Closing::Now) => return Outcome::TooLong,
                Verdict::Done(Reply::Array(items)) if matches!(unit.task, Task::Transaction(_)) => {
                    return self.answer_items(unit, items);
                }
                Verdict::Done(reply) => {
                    self.answer(&reply);
                    return Outcome::Done;
                }
                Verdict::Waiting { ticket, timeout_ms } => {
                    self.session.holds.take_held();
                    self.wait_for_key(ticket, timeout_ms.map(|ms| ms.saturating_sub(unit.waited_ms).max(1)));
                    true
                }
                Verdict::Copies(mut wanted) => {
                    wanted.timeout_ms = wanted.timeout_ms.map(|ms| ms.saturating_sub(unit.waited_ms).max(1));
                    self.wait_for_copies(wanted);
                    true
                }
                Verdict::Postponed { until_ms } => {
                    self.wait_for_pause(until_ms);
                    false
                }
                Verdict::Away(_) | Verdict::Split(_) | Verdict::Later => return Outcome::NotHere,
            };
            service.forwarding.waiting.lock().insert(unit.id, Arc::clone(&self.session.client));
            let _waits = Waits { service: &service, id: unit.id };
            if let Err(outcome) = self.await_end(deadline).await {
                return outcome;
            }
            if is_done {
                return Outcome::Done;
            }
        }
    }

    /// The items of a transaction's reply, one by one, but for those that the client's own node makes.
    fn answer_items(&mut self, unit: &Unit, items: Vec<Reply>) -> Outcome {
        let is_for_caller = unit.commands.iter().map(transactions::is_for_caller);
        let (lens, bytes) =
            transactions::encode_items(items.into_iter().zip(is_for_caller), self.session.version);
        self.output.extend_from_slice(&bytes);
        Outcome::Items(lens)
    }

    /// Waits until the command that waits has its reply or may go on, or says why it must not.
    async fn await_end(&mut self, deadline: Instant) -> Result<(), Outcome> {
        let way = self.service.forwarding.get().cloned();
        let mut changes = way.as_ref().map(|way| way.changes());
        let needs = self.ticket.as_ref().map(|ticket| {
            let keys = ticket.keys.iter().map(|(database, name)| Key::new(*database, name));
            PartitionSet::of(keys.map(|key| self.service.store.partition_of(key.slot)).collect())
        });
        let is_here = || match (&way, &needs) {
            (Some(way), Some(needs)) => way.route(needs) == Route::Here,
            _ => true,
        };
        while self.wait.is_some() {
            let changed = async {
                match &mut changes {
                    Some(changes) => changes.changed().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                woken = poll_fn(|context| self.poll_woken(context)) => match woken {
                    Woken::Mail if !self.read_mail() => {
                        self.stop_waiting();
                        return Err(Outcome::Late); // nobody wants its reply
                    }
                    Woken::Resumed => self.time_is_up(None),
                    _ => {}
                },
                () = sleep_until(deadline) => {
                    if self.stop_waiting() {
                        return Err(Outcome::Late);
                    }
                    tokio::time::sleep(CLAIM_AGAIN_GAP).await;
                }
                _ = changed => {
                    if !is_here() && self.stop_waiting() {
                        return Err(Outcome::NotHere);
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends the wait, unless it is being served at this moment.
    fn stop_waiting(&mut self) -> bool {
        if let Some(ticket) = &self.ticket
            && !ticket.claim()
        {
            return false;
        }
        if let Some(ticket) = self.ticket.take() {
            self.service.waiting.remove(&ticket);
        }
        self.copies = None;
        self.end_wait();
        true
    }

    /// What the reply that was just made is held for.
    fn take_held(&mut self) -> Option<Held> {
        let noted = self.held.pop().map(|reply| reply.held);
        self.held.clear();
        noted.or(self.session.holds.take_held())
    }

    /// Makes sure that what was changed is in the journal and on as many nodes as it must be, or says that it is not.
    async fn finish(mut self, answers: &mut [Answer], held: &[Option<Held>]) {
        if self.session.journal_position > 0 && !self.flush().await {
            for answer in answers.iter_mut().filter(|answer| answer.position > 0) {
                *answer =
                    Answer::without_reply(Outcome::Unknown("the journal could not be written".to_owned()));
            }
            return;
        }
        let holds = std::mem::take(&mut self.session.holds);
        if holds.standing(&self.service.replication) == Standing::Confirmed
            || self.await_confirmation(&holds).await == Some(true)
        {
            return;
        }
        let is_lost = holds.standing(&self.service.replication) == Standing::Lost;
        for (answer, held) in answers.iter_mut().zip(held) {
            let Some(held) = held else { continue };
            if is_lost {
                // Whoever is primary now knows what became of it.
                let reason = "this node is the primary no more".to_owned();
                *answer = Answer::without_reply(Outcome::Unknown(reason));
                continue;
            }
            let refusal = unconfirmed(*held);
            self.service.statistics.error(refusal.code());
            answer.reply.clear();
            encode::encode(&Reply::Error(refusal), self.session.version, &mut answer.reply);
            answer.outcome = Outcome::Done;
        }
    }
}
