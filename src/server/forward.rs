//! Sends commands to the primary of what they need, and waits for it while there is none.
//!
//! Consecutive commands of a client that go to the same node are one request. While it is under way the connection runs nothing else,
//! so replies keep their order. What is known not to have run is sent again, wherever its data's primary is by then; what only reads,
//! too. Of a change whose outcome is unknown the primary is asked whether it knows of it; it is sent again only if the primary can say
//! for certain that nobody has carried it out, and answered as unknown if nobody can say.

use super::connection::Connection;
use super::dispatch::Turn;
use super::redirect::CROSS_SLOT;
use super::route::{Away, Ending};
use super::serving;
use super::split::Split;
use super::stream::Stream;
use crate::base::clock;
use crate::base::ids::NodeId;
use crate::cluster::bus::CallError;
use crate::commands::{Request, transactions};
use crate::config::Settings;
use crate::protocol::args::Args;
use crate::protocol::encode::{self, Version};
use crate::protocol::error::ErrorReply;
use crate::protocol::reply::Reply;
use crate::session::forwarding::message::{
    self, Again, Answer, Caller, End, Message, Outcome, RequestId, Task, UNITS_MAX, Unit, decode_answers,
    encode_request,
};
use crate::session::forwarding::{Forwarding, Route};
use crate::session::service::Service;
use crate::session::session::{Closing, Session};
use crate::session::watch::Watched;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Bytes of words that are collected before they are sent.
const COLLECTED_BYTES_MAX: usize = 256 << 10;
/// For so long may a request lie at the other node before a command of it begins.
const BEGIN_MAX: Duration = Duration::from_secs(10);
/// For so long may a command wait there for data, before it is asked again whether anybody still wants it.
const WAIT_SLICE: Duration = Duration::from_secs(30);
/// For so long beyond that is the answer waited for: replies are held there for replicas, disks are slow.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// An answer is given up this long after somebody else became primary: what was to come has come by then.
const GRACE: Duration = Duration::from_millis(500);
/// How soon it is tried again with a node that is the primary as far as this one knows.
const RETRY_GAP: Duration = Duration::from_millis(20);

/// How long a node may take to hear what needs no answer.
const TELL_MAX: Duration = Duration::from_secs(5);

const UNKNOWN: ErrorReply = ErrorReply::fixed(
    "UNKNOWN The connection to the primary broke: whether the command was carried out is not known.",
);
const FORGOTTEN: ErrorReply = ErrorReply::fixed(
    "UNKNOWN The command was carried out, but the connection to the primary broke before its reply came.",
);
const NO_PRIMARY: ErrorReply =
    ErrorReply::fixed("CLUSTERDOWN There was no primary for this data within failover-wait");
const TOO_MUCH_WAITS: ErrorReply = ErrorReply::fixed(
    "TRYAGAIN There is no primary for this data, and too many commands wait for one already",
);

/// Commands of a turn that are for another node.
#[derive(Default)]
pub struct Collected {
    commands: Vec<Away>,
    bytes: usize,
}

/// Commands that are at other nodes, or wait for one.
pub struct Errand {
    /// Ends when some are done.
    pub run: Pin<Box<dyn Future<Output = Return> + Send>>,
    /// Whether they may wait for data.
    pub may_wait: bool,
    /// The first of them.
    first: RequestId,
    /// The node that has it.
    at: Arc<Mutex<Option<NodeId>>>,
}

/// What an errand comes back with.
pub struct Return {
    settled: Vec<Settled>,
    /// What is not done yet, and behind those that are.
    left: Vec<Away>,
    caller: Caller,
}

/// A command that is done.
struct Settled {
    /// What it was.
    unit: Unit,
    /// What became of it.
    ending: Ending,
}

impl<S: Stream> Connection<S> {
    /// Takes in a command that is for another node. Whether more may go with it.
    pub(super) fn collect(&mut self, away: Away) -> bool {
        let is_alone = away.is_alone;
        self.session.collecting = Some(away.route);
        self.collected.bytes += size(&away.unit);
        self.collected.commands.push(away);
        !is_alone && self.collected.commands.len() < UNITS_MAX && self.collected.bytes < COLLECTED_BYTES_MAX
    }

    /// Takes in the parts of a command, with which nothing else goes.
    pub(super) fn collect_split(&mut self, split: Split) {
        self.parts = Some((split.merge, Vec::new()));
        self.collected.commands = split.parts;
        self.collected.bytes = 0;
    }

    /// Sends what was collected.
    pub(super) fn send_collected(&mut self) {
        if !self.session.watched.forgotten.is_empty() {
            forget_watches(&self.service, &mut self.session);
        }
        if self.collected.commands.is_empty() {
            return;
        }
        self.session.collecting = None;
        let commands = std::mem::take(&mut self.collected).commands;
        let caller = Caller {
            id: self.session.id,
            name: self.session.name.clone(),
            address: self.session.client.peer.address.clone(),
            user: self.session.user.to_string(),
            is_resp3: self.session.version == Version::Resp3,
        };
        self.send(caller, commands);
    }

    fn send(&mut self, caller: Caller, commands: Vec<Away>) {
        let may_wait = commands.iter().any(|away| away.is_alone);
        let (first, at) = (commands[0].unit.id, Arc::default());
        let run = Box::pin(forward(Arc::clone(&self.service), caller, commands, Arc::clone(&at)));
        if may_wait {
            self.session.client.set_waiting(true);
        }
        self.errand = Some(Errand { run, may_wait, first, at });
    }
}

impl<S> Connection<S> {
    /// Ends what waits for data at another node.
    pub(super) fn end_errand(&self, end: End) {
        let Some(errand) = self.errand.as_ref().filter(|errand| errand.may_wait) else { return };
        let (first, at) = (errand.first, *errand.at.lock());
        if let Some(node) = at {
            tell(&self.service, node, &Message::End(first, end));
        }
    }
}

impl<S: Stream> Connection<S> {
    /// Answers what is done; what is not stays away.
    pub(super) fn settle(&mut self, Return { settled, left, caller }: Return) {
        self.session.client.set_waiting(false);
        let service = Arc::clone(&self.service);
        let settings = service.settings();
        if self.output.capacity() == 0 {
            self.output = super::buffers::take();
        }
        if self.parts.is_some() {
            self.settle_parts(settled, left.is_empty());
        } else {
            self.settle_each(settled, &service, &settings);
        }
        if !left.is_empty() {
            self.send(caller, left);
        }
        self.session.publish();
    }

    /// Takes in replies to parts of a command; those to all of them make one.
    fn settle_parts(&mut self, settled: Vec<Settled>, is_all: bool) {
        let Some((merge, mut replies)) = self.parts.take() else { return };
        for Settled { ending, .. } in settled {
            replies.push(match ending {
                Ending::Error(error) => {
                    let mut bytes = Vec::new();
                    encode::encode(&Reply::Error(error), self.session.version, &mut bytes);
                    bytes
                }
                Ending::Answer(_, Answer { outcome: Outcome::TooLong, .. }) => {
                    self.session.closing = Some(Closing::Now);
                    Vec::new()
                }
                Ending::Answer(node, answer) => {
                    self.note_written(node, answer.position);
                    answer.reply
                }
            });
        }
        if !is_all {
            self.parts = Some((merge, replies));
        } else if self.is_told() {
            self.output.extend_from_slice(&merge.replies(&replies, self.session.version));
        }
    }

    /// Answers commands that are done.
    fn settle_each(&mut self, settled: Vec<Settled>, service: &Arc<Service>, settings: &Settings) {
        for Settled { unit, ending } in settled {
            if self.session.closing == Some(Closing::Now) {
                return;
            }
            match ending {
                Ending::Error(error) => {
                    service.statistics.error(error.code());
                    self.answer(&Reply::Error(error));
                }
                Ending::Answer(_, Answer { outcome: Outcome::TooLong, .. }) => {
                    self.session.closing = Some(Closing::Now);
                }
                Ending::Answer(node, Answer { outcome: Outcome::Items(lens), reply, position }) => {
                    self.note_written(node, position);
                    let turn = Turn { service, settings, now_ms: clock::unix_ms() };
                    let answer = self.merge(turn, &unit, &lens, &reply);
                    if self.is_told() {
                        self.output.extend_from_slice(&answer);
                    }
                }
                Ending::Answer(node, answer) => {
                    self.note_written(node, answer.position);
                    if matches!(unit.task, Task::Watch { .. }) {
                        note_watched(&mut self.session.watched, node);
                    }
                    if self.is_told() {
                        self.output.extend_from_slice(&answer.reply);
                    }
                }
            }
            self.close_if_over_limit(settings);
        }
    }

    /// That node has made a change: what WAIT asks about.
    fn note_written(&mut self, node: NodeId, position: u64) {
        if position > 0 {
            let me = self.service.forwarding.get().map(|way| way.me());
            if me == Some(node) {
                self.session.last_write = position.max(self.session.last_write);
                self.session.written_elsewhere = None;
            } else {
                self.session.last_write = 0;
                self.session.written_elsewhere = Some((node, position));
            }
        }
    }

    /// The reply to a transaction: what is about data has run elsewhere, the rest runs now.
    fn merge(&mut self, turn: Turn, unit: &Unit, lens: &[u32], mut items: &[u8]) -> Vec<u8> {
        self.session.clock = turn.service.clock.raw();
        let request = Request {
            args: Args::new(b"", &[]),
            database: self.session.database,
            now: turn.now_ms,
            settings: turn.settings,
            service: turn.service,
            ready: None,
        };
        let mut lens = lens.iter();
        let item = || {
            let len = lens.next().map_or(0, |len| *len as usize).min(items.len());
            let (item, rest) = items.split_at(len);
            items = rest;
            item
        };
        let mut out = Vec::new();
        transactions::merge(&request, &mut self.session, &unit.commands, item, &mut out);
        out
    }
}

/// That node watches keys of this session.
fn note_watched(watched: &mut Watched, node: NodeId) {
    if let Some(elsewhere) = &mut watched.elsewhere {
        elsewhere.is_lost |= elsewhere.node.is_some_and(|before| before != node);
        elsewhere.node = Some(node);
    }
}

/// Tells nodes which watches are of no interest any more.
pub fn forget_watches(service: &Arc<Service>, session: &mut Session) {
    for (node, id) in session.watched.forgotten.drain(..) {
        tell(service, node, &Message::Forget(vec![id]));
    }
}

/// Tells a node something that needs no answer, as far as it can be reached.
fn tell(service: &Arc<Service>, node: NodeId, message: &Message) {
    let (Some(way), Ok(runtime)) = (service.forwarding.get().cloned(), Handle::try_current()) else { return };
    let (service, message) = (Arc::clone(service), message.encode());
    runtime.spawn(async move {
        if way.me() == node {
            let _ = serving::serve(&service, node, &message).await;
        } else {
            let _ = way.forward(node, message, TELL_MAX).await;
        }
    });
}

fn size(unit: &Unit) -> usize {
    unit.commands.iter().map(crate::session::multi::Queued::size).sum()
}

/// Commands on their way.
struct Run {
    service: Arc<Service>,
    way: Arc<dyn Forwarding>,
    caller: Caller,
    /// Those that are not done, in order.
    left: VecDeque<Away>,
    settled: Vec<Settled>,
    /// The node that has the first.
    at: Arc<Mutex<Option<NodeId>>>,
    /// Commands and bytes that were entered among those that wait.
    parked: Option<(usize, usize)>,
    /// What the last request asked for, by index in `left`, when, and whom.
    asked: Vec<usize>,
    asked_at: Instant,
    node: NodeId,
    /// Since when nothing gets on.
    stuck_since: Option<Instant>,
}

impl Away {
    /// It was sent, and nothing was heard of it. What only reads is simply sent again.
    fn note_unknown(&mut self) {
        self.is_unknown = self.is_write;
    }
}

/// The moment, in microseconds since the machine started: its sleep counts, as others' clocks go on meanwhile.
fn now_us() -> u64 {
    clock::since_boot().as_micros() as u64
}

impl Drop for Run {
    fn drop(&mut self) {
        self.unpark();
    }
}

/// What was heard of a request.
enum Heard {
    Answers(Vec<Answer>),
    /// It did not get there.
    NotSent(String),
    /// It may have got there.
    Unknown(String),
}

/// Has these commands run by the primaries of what they need, and comes back once some are done: their replies need not wait for
/// what holds the others up.
async fn forward(
    service: Arc<Service>,
    caller: Caller,
    commands: Vec<Away>,
    at: Arc<Mutex<Option<NodeId>>>,
) -> Return {
    let way = service.forwarding.get().cloned().expect("nothing is away where nothing is forwarded");
    let mut changes = way.changes();
    let mut run = Run {
        service,
        way,
        caller,
        settled: Vec::with_capacity(commands.len()),
        left: commands.into(),
        at,
        parked: None,
        asked: Vec::new(),
        asked_at: Instant::now(),
        node: NodeId::default(),
        stuck_since: None,
    };
    while let Some(first) = run.left.front() {
        changes.borrow_and_update();
        let route = run.way.route(&first.needs);
        let is_on = match route {
            Route::Nobody => false,
            Route::Several => run.settle_first(CROSS_SLOT),
            Route::Here | Route::There(_) if first.is_unknown => {
                let heard = run.ask_again(route, &mut changes).await;
                run.take_in_again(heard)
            }
            Route::Here | Route::There(_) => {
                let heard = run.ask(route, &mut changes).await;
                run.take_in(heard)
            }
        };
        if !run.settled.is_empty() {
            break;
        }
        if is_on {
            run.stuck_since = None;
            run.unpark();
        } else if let Err(refusal) = run.wait(route == Route::Nobody, &mut changes).await {
            while run.settle_first(refusal.clone()) {}
        }
    }
    Return {
        settled: std::mem::take(&mut run.settled),
        left: std::mem::take(&mut run.left).into(),
        caller: std::mem::take(&mut run.caller),
    }
}

impl Run {
    /// Ends the first command with an error. False if there is none.
    fn settle_first(&mut self, error: ErrorReply) -> bool {
        let Some(first) = self.left.front_mut() else { return false };
        // Of what may have run it cannot be said that it has not.
        first.ending = Some(Ending::Error(if first.is_unknown { UNKNOWN } else { error }));
        self.settle_done();
        true
    }

    /// How many of the first commands go there.
    fn count(&self, route: Route) -> usize {
        let together =
            |away: &&Away| self.way.route(&away.needs) == route && !away.is_unknown && away.ending.is_none();
        self.left.iter().take(UNITS_MAX).take_while(together).count().max(1)
    }

    /// Asks for the first commands to be run there.
    async fn ask(&mut self, route: Route, changes: &mut watch::Receiver<u64>) -> Heard {
        let count = self.count(route);
        self.asked_at = Instant::now();
        let begin_max = if self.left[0].is_alone { WAIT_SLICE } else { BEGIN_MAX };
        let now_us = now_us();
        for away in self.left.iter_mut().take(count).filter(|away| away.sent_us == 0) {
            away.sent_us = now_us;
        }
        self.asked = (0..count).collect();
        self.send_asked(route, begin_max, changes).await
    }

    /// Asks whether the changes with an unknown outcome are known there.
    async fn ask_again(&mut self, route: Route, changes: &mut watch::Receiver<u64>) -> Heard {
        let is_asked = |away: &Away| away.is_unknown && self.way.route(&away.needs) == route;
        let asked = self.left.iter().enumerate().filter(|(_, away)| is_asked(away)).map(|(index, _)| index);
        self.asked = asked.take(UNITS_MAX).collect();
        for index in &self.asked {
            self.left[*index].unit.again = Again::Ask;
        }
        self.send_asked(route, BEGIN_MAX, changes).await
    }

    async fn send_asked(
        &mut self,
        route: Route,
        begin_max: Duration,
        changes: &mut watch::Receiver<u64>,
    ) -> Heard {
        let units = self.asked.iter().map(|index| &self.left[*index].unit);
        let deadline_ms = begin_max.as_millis() as u64;
        self.node = if let Route::There(node) = route { node } else { self.way.me() };
        *self.at.lock() = Some(self.node);
        if route == Route::Here {
            let (caller, units) = (self.caller.clone(), units.cloned().collect());
            let request = message::Request { deadline_ms, caller, units };
            return Heard::Answers(serving::run(&self.service, request).await);
        }
        let request = encode_request(deadline_ms, &self.caller, units);
        match self.call(self.node, request, begin_max + ANSWER_MAX, changes).await {
            Ok(answers) => match decode_answers(&answers) {
                Ok(answers) if answers.len() == self.asked.len() => Heard::Answers(answers),
                Ok(_) => Heard::Unknown("so many answers belong to another request".to_owned()),
                Err(malformed) => Heard::Unknown(format!("the answer is {}", malformed.0)),
            },
            Err(CallError::NotSent(reason)) => Heard::NotSent(reason),
            Err(CallError::Unknown(reason)) => Heard::Unknown(reason),
        }
    }

    /// The answer of `node`, unless it takes too long or somebody else becomes primary.
    async fn call(
        &self,
        node: NodeId,
        request: Vec<u8>,
        patience: Duration,
        changes: &mut watch::Receiver<u64>,
    ) -> Result<Vec<u8>, CallError> {
        let mut call = pin!(self.way.forward(node, request, patience));
        let mut given_up = None;
        loop {
            let end = given_up.unwrap_or_else(|| Instant::now() + patience + ANSWER_MAX);
            tokio::select! {
                biased;
                answer = &mut call => return answer,
                () = sleep_until(end) => {
                    return Err(CallError::Unknown("somebody else became primary meanwhile".to_owned()));
                }
                Ok(()) = changes.changed(), if given_up.is_none() => {
                    if self.way.route(&self.left[0].needs) != Route::There(node) {
                        given_up = Some(Instant::now() + GRACE);
                    }
                }
            }
        }
    }

    /// Takes in what was heard. Whether anything got on.
    fn take_in(&mut self, heard: Heard) -> bool {
        let answers = match heard {
            Heard::Answers(answers) => answers,
            Heard::NotSent(reason) => {
                tracing::debug!(%reason, "commands could not be sent");
                return false;
            }
            Heard::Unknown(reason) => {
                tracing::debug!(%reason, "the outcome of commands is unknown");
                self.asked.iter().for_each(|index| self.left[*index].note_unknown());
                return false;
            }
        };
        let mut is_on = false;
        for (away, answer) in self.left.iter_mut().zip(answers) {
            match &answer.outcome {
                // It has not run: nobody need remember it from before.
                Outcome::NotHere | Outcome::Late => {
                    away.unit.waited_ms += self.asked_at.elapsed().as_millis() as u64;
                    away.sent_us = 0;
                    is_on |= answer.outcome == Outcome::Late;
                }
                Outcome::Unknown(reason) => {
                    tracing::debug!(%reason, "the outcome of a command is unknown");
                    away.note_unknown();
                }
                Outcome::NotKnown(_) => away.note_unknown(), // another process asks for the moment again
                Outcome::Uncertain => away.ending = Some(Ending::Error(UNKNOWN)),
                Outcome::Forgotten => away.ending = Some(Ending::Error(FORGOTTEN)),
                Outcome::Done | Outcome::Items(_) | Outcome::TooLong => {
                    away.ending = Some(Ending::Answer(self.node, answer));
                }
            }
            is_on |= away.ending.is_some();
        }
        self.settle_done();
        is_on
    }

    /// Takes in what is known of changes with an unknown outcome. Whether anything got on.
    fn take_in_again(&mut self, heard: Heard) -> bool {
        let (Heard::Answers(answers), heard_us) = (heard, now_us()) else { return false };
        // A connection's changes run in order: what is before one that has run has run as well, and changed nothing; its reply is lost.
        let is_known = |answer: &Answer| {
            matches!(
                answer.outcome,
                Outcome::Done | Outcome::Items(_) | Outcome::TooLong | Outcome::Forgotten
            )
        };
        let last_known = answers.iter().rposition(is_known);
        let mut is_on = false;
        for (at, (index, answer)) in self.asked.iter().zip(answers).enumerate() {
            let away = &mut self.left[*index];
            match answer.outcome {
                Outcome::NotHere | Outcome::Late | Outcome::Unknown(_) => continue,
                Outcome::NotKnown(_) if last_known.is_some_and(|last| at < last) => {
                    away.ending = Some(Ending::Error(UNKNOWN));
                }
                Outcome::NotKnown(moment) => {
                    let age_us = heard_us.saturating_sub(away.sent_us);
                    away.unit.again = Again::Since { moment, age_us };
                    away.is_unknown = false;
                }
                Outcome::Uncertain => away.ending = Some(Ending::Error(UNKNOWN)),
                Outcome::Forgotten => away.ending = Some(Ending::Error(FORGOTTEN)),
                Outcome::Done | Outcome::Items(_) | Outcome::TooLong => {
                    away.ending = Some(Ending::Answer(self.node, answer));
                }
            }
            is_on = true;
        }
        self.settle_done();
        is_on
    }

    /// Ends the first commands that are done, up to one that is not: replies keep their order.
    fn settle_done(&mut self) {
        while let Some(away) = self.left.pop_front_if(|away| away.ending.is_some()) {
            if let Some(ending) = away.ending {
                self.settled.push(Settled { unit: away.unit, ending });
            }
        }
    }

    /// Waits until it makes sense to try again, or says why that is over.
    async fn wait(
        &mut self,
        until_changes: bool,
        changes: &mut watch::Receiver<u64>,
    ) -> Result<(), ErrorReply> {
        let now = Instant::now();
        let limit = Duration::from_millis(self.service.settings().failover_wait);
        let end = *self.stuck_since.get_or_insert(now) + limit;
        if now >= end {
            return Err(NO_PRIMARY);
        }
        if self.parked.is_none() {
            let much = (self.left.len(), self.left.iter().map(|away| size(&away.unit)).sum());
            if !self.service.forwarding.parked.enter(much.0, much.1) {
                return Err(TOO_MUCH_WAITS);
            }
            self.parked = Some(much);
        }
        let again = if until_changes { end } else { end.min(now + RETRY_GAP) };
        let _ = tokio::time::timeout_at(again, changes.changed()).await;
        Ok(())
    }

    fn unpark(&mut self) {
        if let Some((commands, bytes)) = self.parked.take() {
            self.service.forwarding.parked.leave(commands, bytes);
        }
    }
}
