//! Runs commands that other nodes send here because this one is the primary of what they need.
//!
//! A client of another node has a connection here as long as its request takes, without a socket: so its commands pass the same gates,
//! wait for the same things, and their replies are held for replicas like those of this node's own clients. A unit that this node is
//! not the primary for is not run, nor is any behind it.

use super::confirmation::unconfirmed;
use super::connection::{CLAIM_AGAIN_GAP, Connection, Woken};
use super::dispatch::{Turn, Verdict, dispatch};
use super::stream::Stream;
use crate::base::clock;
use crate::base::concern::WriteConcern;
use crate::base::ids::NodeId;
use crate::cluster::bus::Serve;
use crate::commands::table;
use crate::commands::{Handler, transactions};
use crate::protocol::args::Args;
use crate::protocol::encode;
use crate::protocol::error;
use crate::protocol::reply::Reply;
use crate::session::client::{Client, Letter, Peer};
use crate::session::forwarding::message::{
    Answer, Caller, Concern, End, Message, Outcome, Request, RequestId, Task, Unit, WatchId, encode_answers,
};
use crate::session::forwarding::{Forwarding, Route};
use crate::session::holds::{Held, Standing};
use crate::session::service::Service;
use crate::session::session::Closing;
use crate::store::{Key, PartitionSet};
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

/// Whether a unit has only commands that nodes forward. One that is not known here is refused like any client's.
fn is_of_ours(unit: &Unit) -> bool {
    let command =
        |queued: &crate::session::multi::Queued| table::entry(queued.args().at(0)).map(|entry| entry.command);
    let mut commands = unit.commands.iter().filter_map(command);
    match unit.task {
        Task::Command => {
            commands.all(|command| matches!(command.handler, Handler::Read(_) | Handler::Write(_)))
        }
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
    let mut held = Vec::new();
    for unit in &request.units {
        let now = Instant::now();
        // What must wait holds up no reply: it is to come again, as the first.
        let wait_until = if answers.is_empty() { deadline } else { now };
        let outcome = if now > deadline {
            Outcome::Late
        } else {
            connection.run_unit(&request.caller, unit, wait_until).await
        };
        let reply = std::mem::take(&mut connection.output);
        let is_on = matches!(outcome, Outcome::Done | Outcome::Items(_));
        held.push(connection.take_held());
        answers.push(Answer { outcome, reply, position: connection.session.last_write });
        if !is_on {
            break;
        }
    }
    connection.finish(&mut answers, &held).await;
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

    /// Runs a unit; its reply is the output then.
    async fn run_unit(&mut self, caller: &Caller, unit: &Unit, deadline: Instant) -> Outcome {
        let is_known = u32::from(unit.database) < self.service.settings().databases;
        let session = &mut self.session;
        session.database = unit.database;
        session.version = caller.version();
        session.last_write = 0;
        session.write_concern = None;
        if !is_known {
            self.answer(&Reply::Error(error::DB_OUT_OF_RANGE));
            return Outcome::Done;
        }
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
                    return self.answer_items(unit, &items);
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
                Verdict::Away(_) | Verdict::Later => return Outcome::NotHere,
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
    fn answer_items(&mut self, unit: &Unit, items: &[Reply]) -> Outcome {
        let mut lens = Vec::with_capacity(items.len());
        for (item, queued) in items.iter().zip(&unit.commands) {
            let start = self.output.len();
            if !transactions::is_for_caller(queued) {
                encode::encode(item, self.session.version, &mut self.output);
            }
            lens.push((self.output.len() - start) as u32);
        }
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
        for (answer, held) in answers.iter_mut().zip(held) {
            let Some(held) = held else { continue };
            let refusal = unconfirmed(*held);
            self.service.statistics.error(refusal.code());
            answer.reply.clear();
            encode::encode(&Reply::Error(refusal), self.session.version, &mut answer.reply);
            answer.outcome = Outcome::Done;
        }
    }
}
