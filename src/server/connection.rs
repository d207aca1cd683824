//! One client's connection: reads, runs a turn, flushes the journal, answers.
//!
//! A turn runs every complete command that is there, up to a bound, so that a client that sends without end starves nobody.
//! If it changed anything, it then lets the other connections of its thread have their turns first, so that one write of the
//! journal serves all of them. Invariants:
//! - a reply to a change never leaves before the journal was flushed up to that change;
//! - with one command at a time there is one read and one write a turn;
//! - while much output waits, commands do not run but their bytes are still taken in, as clients that send everything before
//!   they read anything must not get stuck; past a bound of such bytes the commands run all the same and the output grows up
//!   to `client-output-buffer-limit`, as in Redis;
//! - with a limit in force that closes whoever exceeds it (a hard one for the output, or `maxmemory-clients`), commands run on and
//!   it is exceeded, as in Redis: the same clients are closed, and none of their replies are sent any more;
//! - an idle connection owns no buffers.

use super::buffers;
use super::confirmation::{HeldReply, Release};
use super::dispatch::{Turn, Verdict, away_from_here, dispatch};
use super::forward::{Collected, Errand, Return, forget_watches};
use super::split::Merge;
use super::stream::Stream;
use crate::base::clock;
use crate::config::Settings;
use crate::observability::statistics::Counter;
use crate::protocol::encode::{self, Version};
use crate::protocol::error::ErrorReply;
use crate::protocol::parser::{Limits, Parser, Step};
use crate::protocol::reply::Reply;
use crate::session::client::{Buffers, Client, Letter, limited_output_len};
use crate::session::copies::CopiesWanted;
use crate::session::forwarding::message::End;
use crate::session::handover::LinkStream;
use crate::session::service::Service;
use crate::session::session::{Closing, Replies, Session};
use crate::session::waiting::Ticket;
use crate::store::{Flushed, Key, Refusal};
use bytes::{Buf, BytesMut};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// Commands run before others get the thread.
const TURN_COMMANDS_MAX: usize = 1024;
/// Reply bytes made before others get the thread.
const TURN_OUTPUT_MAX: usize = 256 * 1024;
/// Unsent bytes above which commands wait.
const OUTPUT_WAITING_MAX: usize = 1024 * 1024;
/// Unread bytes above which they run all the same.
const INPUT_WAITING_MAX: usize = 16 * 1024 * 1024;
/// What `client-output-buffer-limit` is for clients that have not authenticated, who get no replies worth that many bytes.
const UNAUTHENTICATED_OUTPUT_MAX: u64 = 1024;
/// A command of more bytes than this counts towards `maxmemory-clients` although it runs at once.
const LARGE_COMMAND_LEN: usize = 16 * 1024;
/// Bytes reserved for a read into the connection's own buffer.
const READ_LEN: usize = 16 * 1024;
/// Bytes reserved at most ahead of a large word that arrives.
const READ_AHEAD_MAX: usize = 4 * 1024 * 1024;
/// How often it is checked that the journal has not failed while a reply waits for its sync.
const SYNC_CHECK_GAP: Duration = Duration::from_millis(500);
/// How often a writer looks whether a disk that cannot keep up has caught up.
const LATE_GAP: Duration = Duration::from_millis(100);
/// How often, and how many times, it looks whether checkpoints have.
const RELIEF_GAP: Duration = Duration::from_millis(10);
const RELIEF_LOOKS: u32 = 10;
/// How soon the end of a wait is tried again that another thread is just about to serve.
pub(super) const CLAIM_AGAIN_GAP: Duration = Duration::from_millis(1);

/// What ends the wait of a blocking command when the server begins to follow another one.
const ROLE_CHANGED: ErrorReply = ErrorReply::fixed(
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
);

/// Why a connection woke up.
pub(super) enum Woken {
    /// This many bytes are in the thread's shared buffer.
    Shared(usize),
    /// Bytes were added to the connection's own buffer.
    Own,
    /// Letters came, or an order to close.
    Mail,
    /// All output is sent, and there is input to go on with.
    Sent,
    /// The wait is over.
    Resumed,
    /// What was sent to other nodes is done.
    Settled(Return),
    /// The peer is gone.
    Gone,
}

/// What is left to do after a run of commands.
#[derive(PartialEq)]
enum Left {
    /// Nothing before more bytes come.
    Nothing,
    /// There may be more complete commands.
    More,
}

/// Ends a wait.
type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One client's connection.
pub struct Connection<S> {
    pub(super) stream: S,
    pub(super) service: Arc<Service>,
    pub(super) session: Session,
    parser: Parser,
    /// Bytes not yet run.
    input: BytesMut,
    /// Replies, the first `sent` bytes of which are gone.
    pub(super) output: Vec<u8>,
    sent: usize,
    /// The replies of this turn that tell of something unconfirmed.
    pub(super) held: Vec<HeldReply>,
    /// Replies wait to be confirmed.
    pub(super) is_confirming: bool,
    /// What must end before commands run again.
    pub(super) wait: Option<Wait>,
    /// The command that waits for a key, if that is why.
    pub(super) ticket: Option<Arc<Ticket>>,
    /// What WAIT or WAITAOF waits for, if that is why.
    pub(super) copies: Option<CopiesWanted>,
    /// Commands of this turn that are for another node.
    pub(super) collected: Collected,
    /// What makes one reply of those to the parts of a command, while that is under way, and those that have come.
    pub(super) parts: Option<(Merge, Vec<Vec<u8>>)>,
    /// What was sent to other nodes and is not done: commands wait for it.
    pub(super) errand: Option<Errand>,
    /// The client sends nothing more, and has commands at other nodes whose replies it may still wait for.
    is_half_closed: bool,
}

impl<S: Stream> Connection<S> {
    /// The connection of a registered client.
    pub fn new(stream: S, service: Arc<Service>, client: Arc<Client>) -> Connection<S> {
        let is_authenticated = service.settings().requirepass.0.is_empty();
        Connection {
            stream,
            session: Session::new(client, is_authenticated),
            service,
            parser: Parser::default(),
            input: BytesMut::new(),
            output: Vec::new(),
            sent: 0,
            held: Vec::new(),
            is_confirming: false,
            wait: None,
            ticket: None,
            copies: None,
            collected: Collected::default(),
            parts: None,
            errand: None,
            is_half_closed: false,
        }
    }

    /// Serves the client until one of both ends it.
    pub async fn run(mut self) {
        let _counted = buffers::Counted::new();
        poll_fn(|context| {
            self.session.client.set_waker(context.waker());
            Poll::Ready(())
        })
        .await;
        self.session.publish();
        loop {
            let woken = poll_fn(|context| self.poll_woken(context)).await;
            let go_on = match woken {
                Woken::Gone => false,
                Woken::Mail => self.read_mail() && self.turns(0).await,
                Woken::Resumed => {
                    self.time_is_up(None);
                    self.turns(0).await
                }
                Woken::Settled(settled) => {
                    self.settle(settled);
                    self.turns(0).await && (self.errand.is_some() || !self.is_half_closed)
                }
                Woken::Shared(len) => self.turns(len).await,
                Woken::Own | Woken::Sent => self.turns(0).await,
            };
            if !go_on {
                break;
            }
        }
        self.hand_over();
    }

    /// Gives the socket to replication, if that was asked for and everything is sent.
    fn hand_over(&mut self) {
        let Some(handover) = self.session.handover.take() else { return };
        let Some(take_link) = self.service.links.get() else { return };
        if self.unsent_len() > 0 || self.session.client.is_killed() {
            return;
        }
        let socket = match self.stream.another_handle() {
            Ok(socket) => socket,
            Err(error) => return tracing::warn!(%error, "a replication link could not begin"),
        };
        let peer =
            socket.peer_addr().map_or_else(|_| String::new(), |peer| peer.ip().to_canonical().to_string());
        let announced = std::mem::take(&mut self.session.announced);
        let host = if announced.host.is_empty() { peer } else { announced.host };
        take_link(LinkStream {
            socket,
            received: std::mem::take(&mut self.input).into(),
            version: handover.version,
            address: (host, announced.port),
        });
    }

    /// Whether commands may run: not while waiting, nor while too much output does.
    fn may_run(&self) -> bool {
        self.wait.is_none()
            && self.errand.is_none()
            && !self.is_confirming
            && self.session.closing.is_none()
            && !self.is_output_full()
    }

    /// Whether commands wait because of unsent output. With a limit they do not: whoever exceeds it is closed.
    fn is_output_full(&self) -> bool {
        if self.unsent_len() <= OUTPUT_WAITING_MAX || self.input.len() >= INPUT_WAITING_MAX {
            return false;
        }
        let settings = self.service.settings();
        self.output_limit(&settings) == 0 && settings.maxmemory_clients == 0
    }

    fn unsent_len(&self) -> usize {
        self.output.len() - self.sent
    }

    pub(super) fn poll_woken(&mut self, context: &mut Context) -> Poll<Woken> {
        if self.session.client.has_mail() {
            return Poll::Ready(Woken::Mail);
        }
        if self.unsent_len() > 0 {
            match self.poll_send(context) {
                Poll::Ready(Err(_)) => return Poll::Ready(Woken::Gone),
                Poll::Ready(Ok(())) if self.session.closing.is_some() => return Poll::Ready(Woken::Gone),
                Poll::Ready(Ok(())) if !self.input.is_empty() && self.may_run() => {
                    return Poll::Ready(Woken::Sent);
                }
                _ => {}
            }
        }
        if self.wait.as_mut().is_some_and(|wait| wait.as_mut().poll(context).is_ready()) {
            return Poll::Ready(Woken::Resumed);
        }
        if let Some(errand) = &mut self.errand {
            if let Poll::Ready(settled) = errand.run.as_mut().poll(context) {
                self.errand = None;
                return Poll::Ready(Woken::Settled(settled));
            }
            if self.is_half_closed {
                return Poll::Pending;
            }
            let input = self.poll_input(context);
            // Who closes one half waits for replies; but nobody waits for data to come on behalf of a client that may be gone.
            if matches!(input, Poll::Ready(Woken::Gone))
                && self.errand.as_ref().is_some_and(|errand| !errand.may_wait)
            {
                self.is_half_closed = true;
                return Poll::Pending;
            }
            return input;
        }
        self.poll_input(context)
    }

    fn poll_input(&mut self, context: &mut Context) -> Poll<Woken> {
        if self.session.closing.is_some() {
            return Poll::Pending;
        }
        if self.input.is_empty() && self.may_run() {
            return buffers::poll_read_shared(&mut self.stream, context).map(|read| match read {
                Ok(0) | Err(_) => Woken::Gone,
                Ok(len) => {
                    self.note_read(len);
                    Woken::Shared(len)
                }
            });
        }
        loop {
            // A large word gets room for much of it at once, but never much more than has come already.
            let missing = self.parser.wanted_len().saturating_sub(self.input.len());
            let ahead = missing.min(self.input.len()).clamp(READ_LEN, READ_AHEAD_MAX);
            if self.input.capacity() - self.input.len() < READ_LEN / 2 {
                self.input.reserve(ahead);
            }
            let mut reading = std::pin::pin!(self.stream.read_buf(&mut self.input));
            let len = match reading.as_mut().poll(context) {
                Poll::Pending => {
                    if self.input.len() != self.session.buffers.input_len {
                        self.note_buffers(); // else the turn before has noted it
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Woken::Gone),
                Poll::Ready(Ok(len)) => len,
            };
            self.note_read(len);
            if self.is_input_over_limit() {
                return Poll::Ready(Woken::Gone);
            }
            if self.may_run() {
                return Poll::Ready(Woken::Own);
            }
        }
    }

    /// Whether the other end has closed, as far as it can be seen now. What comes from it is kept.
    pub(super) fn is_peer_gone(&mut self, context: &mut Context) -> bool {
        matches!(self.poll_input(context), Poll::Ready(Woken::Gone))
    }

    fn note_read(&self, len: usize) {
        self.service.statistics.add(Counter::Reads, 1);
        self.service.statistics.add(Counter::NetInput, len as u64);
    }

    fn is_input_over_limit(&self) -> bool {
        let limit = self.service.settings().client_query_buffer_limit.min(u32::MAX as usize);
        let is_over = self.input.len() > limit;
        if is_over {
            tracing::warn!(
                id = self.session.id,
                bytes = self.input.len(),
                "closing a client: query buffer limit"
            );
            self.service.statistics.add(Counter::QueryBufferDisconnections, 1);
        }
        is_over
    }

    /// Turn after turn, until there is nothing to run. The first `shared` bytes of the shared buffer come first. False if
    /// the connection is to end.
    async fn turns(&mut self, shared: usize) -> bool {
        let mut left = match shared {
            0 if !self.may_run() => Left::Nothing,
            0 => self.run_commands(None),
            len => buffers::with_shared(len, |bytes| self.run_commands(Some(bytes))),
        };
        loop {
            if self.session.journal_position > 0 && !self.flush().await {
                return false;
            }
            if !self.session.holds.is_empty() {
                match self.confirm().await {
                    Release::AtOnce => {}
                    Release::AfterAWait => left = Left::More,
                    Release::Never => return false,
                }
            }
            if !self.send_at_once().await {
                return false;
            }
            self.note_buffers();
            if self.session.client.is_killed() {
                return false;
            }
            if left == Left::Nothing || !self.may_run() {
                return true;
            }
            tokio::task::yield_now().await;
            left = self.run_commands(None);
        }
    }

    /// Runs what is complete in `shared`, or in the connection's own buffer, up to the bounds of a turn.
    fn run_commands(&mut self, shared: Option<&[u8]>) -> Left {
        if self.output.capacity() == 0 {
            self.output = buffers::take();
        }
        let own = std::mem::take(&mut self.input);
        let bytes = shared.unwrap_or(&own);
        let (used, left) = self.run_bytes(bytes);
        match shared {
            Some(bytes) if used < bytes.len() => self.input = BytesMut::from(&bytes[used..]),
            Some(_) => {}
            None => {
                self.input = own;
                self.input.advance(used);
                if self.input.is_empty() {
                    self.input = BytesMut::new();
                }
            }
        }
        left
    }

    /// Runs the complete commands at the start of `bytes`: how many bytes they had.
    fn run_bytes(&mut self, bytes: &[u8]) -> (usize, Left) {
        let service = Arc::clone(&self.service);
        let settings = service.settings();
        let turn = Turn { service: &service, settings: &settings, now_ms: clock::unix_ms() };
        self.session.clock = service.clock.raw();
        let (mut used, mut left) = (0, Left::Nothing);
        let output_max = self.output.len() + TURN_OUTPUT_MAX;
        for command in 0.. {
            if let Some(closing) = self.session.closing {
                if self.session.handover.is_none() {
                    used = bytes.len(); // else it is for whoever takes the socket over
                }
                if closing == Closing::Now {
                    self.output.truncate(self.sent);
                }
                break;
            }
            let is_outdated = std::mem::take(&mut self.session.has_new_settings);
            if command >= TURN_COMMANDS_MAX || self.output.len() > output_max || is_outdated {
                left = Left::More;
                break;
            }
            let limits = Limits {
                bulk_len_max: settings.proto_max_bulk_len,
                authenticated: self.session.is_authenticated || settings.requirepass.0.is_empty(),
            };
            match self.parser.step(&bytes[used..], limits) {
                Ok(Step::NeedMore) => break,
                Ok(Step::Empty(len)) => used += len,
                Ok(Step::Command(len)) => {
                    self.session.buffers = Buffers {
                        input_len: bytes.len() - used,
                        output_len: self.unsent_len(),
                        ..Buffers::default()
                    };
                    if len > LARGE_COMMAND_LEN && self.is_evicted_for_input(&settings) {
                        self.session.closing = Some(Closing::Now);
                        continue;
                    }
                    let version = self.session.version;
                    match dispatch(turn, &mut self.session, self.parser.args(&bytes[used..])) {
                        Verdict::Done(reply) => {
                            used += len;
                            self.answer_among_messages(&reply, version);
                            self.close_if_over_limit(&settings);
                        }
                        Verdict::Waiting { ticket, timeout_ms } => {
                            used += len;
                            self.session.holds.take_held(); // there is no reply yet
                            self.wait_for_key(ticket, timeout_ms);
                            break;
                        }
                        Verdict::Copies(wanted) => {
                            used += len;
                            self.wait_for_copies(wanted);
                            break;
                        }
                        Verdict::Postponed { until_ms } => {
                            self.wait_for_pause(until_ms);
                            break;
                        }
                        Verdict::Away(away) => {
                            used += len;
                            if !self.collect(*away) {
                                break;
                            }
                        }
                        Verdict::Split(split) => {
                            used += len;
                            self.collect_split(*split);
                            break;
                        }
                        Verdict::Later => break,
                    }
                }
                Err(error) => {
                    service.statistics.error("ERR");
                    encode::error_line(&error.text(), &mut self.output);
                    self.session.close_after_reply();
                }
            }
        }
        self.send_collected();
        self.session.publish();
        self.session.client.note_turn(turn.now_ms);
        self.parser.shrink();
        (used, left)
    }

    #[inline]
    pub(super) fn answer(&mut self, reply: &Reply) {
        let start = self.output.len();
        self.encode(reply);
        if let Some(held) = self.session.holds.take_held()
            && start < self.output.len()
        {
            self.held.push(HeldReply { range: start..self.output.len(), held });
        }
    }

    /// Answers where the reply belongs among the messages that have come, which were to be in `version` before the command ran.
    #[inline]
    fn answer_among_messages(&mut self, reply: &Reply, version: Version) {
        if self.session.client.has_mail() { self.sort_in(reply, version) } else { self.answer(reply) }
    }

    #[cold]
    fn sort_in(&mut self, reply: &Reply, version: Version) {
        let mut letters = self.session.client.take_mail();
        let is_reply_before =
            |letter: &Letter| matches!(letter, Letter::Mark | Letter::Message { is_own: true, .. });
        let behind = letters.split_off(letters.iter().position(is_reply_before).unwrap_or(letters.len()));
        self.read_letters(letters, version);
        self.answer(reply);
        self.read_letters(behind, self.session.version);
    }

    #[inline]
    fn encode(&mut self, reply: &Reply) {
        if self.is_told() || reply.is_push() {
            encode::encode(reply, self.session.version, &mut self.output);
        }
    }

    /// Whether the client wants the reply that comes now.
    #[inline]
    pub(super) fn is_told(&mut self) -> bool {
        if self.session.replies == Replies::On {
            return true;
        }
        self.session.replies = match self.session.replies {
            Replies::Skip => Replies::On,
            Replies::SkipNext => Replies::Skip,
            other => other,
        };
        false
    }

    /// Lets the other connections of this thread run, then makes sure that what all of them changed is in the journal.
    pub(super) async fn flush(&mut self) -> bool {
        if buffers::connections() > 1 {
            tokio::task::yield_now().await;
        }
        let position = std::mem::take(&mut self.session.journal_position);
        self.await_relief().await;
        loop {
            match self.service.store.flush(position) {
                Ok(Flushed::Acknowledge) => return true,
                Ok(Flushed::AwaitSync) => return self.is_synced(position).await,
                Ok(Flushed::Late) => {
                    let mut durable = self.service.durable.clone();
                    let _ = tokio::time::timeout(LATE_GAP, durable.changed()).await;
                }
                Err(failure) => {
                    // Whether the changes are on disk is unknown, and so must be the answer: none.
                    tracing::error!(
                        ?failure,
                        id = self.session.id,
                        "the journal failed, closing a client unanswered"
                    );
                    return false;
                }
            }
        }
    }

    /// Waits while there is far more to checkpoint than there should be, but no longer than a moment: a disk that does not
    /// take checkpoints slows writers down, it does not stop them. Others of this thread go on meanwhile.
    async fn await_relief(&mut self) {
        for _ in 0..RELIEF_LOOKS {
            if !self.service.store.is_overloaded() {
                return;
            }
            tokio::time::sleep(RELIEF_GAP).await;
        }
    }

    /// Waits until the journal is synced up to `position`. False if it never will be.
    async fn is_synced(&mut self, position: u64) -> bool {
        let mut durable = self.service.durable.clone();
        loop {
            durable.borrow_and_update();
            if self.service.store.durable_position() >= position {
                return true;
            }
            if matches!(self.service.store.refusal(), Some(Refusal::Failed(_))) {
                return false;
            }
            let _ = tokio::time::timeout(SYNC_CHECK_GAP, durable.changed()).await;
        }
    }

    /// Sends what the socket takes now. False if the connection is to end.
    async fn send_at_once(&mut self) -> bool {
        if self.unsent_len() == 0 {
            self.recycle_output();
            return self.session.closing.is_none();
        }
        let sent = poll_fn(|context| Poll::Ready(self.poll_send(context))).await;
        let is_all = match sent {
            Poll::Ready(Err(_)) => return false,
            Poll::Ready(Ok(())) => true,
            Poll::Pending => false,
        };
        match self.session.closing {
            Some(Closing::Now) => false,
            Some(Closing::AfterReply) => !is_all,
            None => true,
        }
    }

    /// The hard limit of this kind of client, in bytes; 0 is none. Strangers have one of their own.
    fn output_limit(&self, settings: &Settings) -> u64 {
        if !self.session.is_authenticated && !settings.requirepass.0.is_empty() {
            return UNAUTHENTICATED_OUTPUT_MAX;
        }
        let is_subscriber = !self.session.subscriptions.is_empty();
        settings.client_output_buffer_limit[if is_subscriber { 2 } else { 0 }].hard
    }

    /// Closes the connection, without another byte, if more replies wait than it may have.
    #[inline]
    pub(super) fn close_if_over_limit(&mut self, settings: &Settings) {
        let limited_len = limited_output_len(self.unsent_len());
        if limited_len == 0 {
            return;
        }
        let limit = self.output_limit(settings);
        if limit > 0 && limited_len >= limit {
            let (id, bytes) = (self.session.id, self.unsent_len());
            tracing::warn!(id, bytes, "closing a client: output buffer limit");
            self.service.statistics.add(Counter::OutputBufferDisconnections, 1);
            self.session.closing = Some(Closing::Now);
        }
    }

    /// Whether a large command that is complete, and so will not wait in the buffer, is the one too much for `maxmemory-clients`.
    #[cold]
    fn is_evicted_for_input(&self, settings: &Settings) -> bool {
        self.session.publish_buffers();
        self.service.evict_clients(settings);
        self.session.client.is_killed()
    }

    /// Lets others see what is in the buffers, and keeps all clients together within `maxmemory-clients`.
    fn note_buffers(&mut self) {
        self.session.buffers = Buffers {
            input_len: self.input.len(),
            words_len: self.parser.read_len().min(self.input.len()),
            announced_len: self.parser.wanted_len().saturating_sub(self.input.len()),
            output_len: self.unsent_len(),
        };
        self.session.publish_buffers();
        self.service.evict_clients(&self.service.settings());
    }

    fn poll_send(&mut self, context: &mut Context) -> Poll<io::Result<()>> {
        while self.sent < self.output.len() {
            match Pin::new(&mut self.stream).poll_write(context, &self.output[self.sent..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(len)) => {
                    self.sent += len;
                    self.service.statistics.add(Counter::Writes, 1);
                    self.service.statistics.add(Counter::NetOutput, len as u64);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        self.recycle_output();
        Poll::Ready(Ok(()))
    }

    fn recycle_output(&mut self) {
        self.sent = 0;
        buffers::give_back(std::mem::take(&mut self.output));
    }

    /// Takes in what others left for this connection. False if it is to end.
    pub(super) fn read_mail(&mut self) -> bool {
        let letters = self.session.client.take_mail();
        if self.session.client.is_killed() {
            return false;
        }
        self.read_letters(letters, self.session.version);
        let service = Arc::clone(&self.service);
        self.close_if_over_limit(&service.settings());
        self.session.closing != Some(Closing::Now)
    }

    /// Does what the letters say. Messages are for a client that speaks this `version`.
    fn read_letters(&mut self, letters: Vec<Letter>, version: Version) {
        for letter in letters {
            match letter {
                Letter::Bytes(bytes) => self.send_out(&bytes),
                Letter::Message { bytes, .. } => {
                    let start = self.output.len();
                    self.send_out(&bytes);
                    if version == Version::Resp2 {
                        self.output[start] = b'*'; // a list, of the same items
                    }
                }
                Letter::Served { reply, position, holds } => {
                    self.ticket = None;
                    self.end_wait();
                    self.session.note_write(position);
                    self.session.holds.merge(holds);
                    self.reply_late(&reply);
                }
                Letter::Unblock { with_error } if self.errand.is_some() => {
                    self.end_errand(End::Unblock { with_error });
                }
                Letter::Unblock { with_error } => {
                    let error =
                        Reply::Error(ErrorReply::fixed("UNBLOCKED client unblocked via CLIENT UNBLOCK"));
                    self.time_is_up(with_error.then_some(error));
                }
                Letter::RoleChanged if self.session.client.is_waiting() && self.errand.is_none() => {
                    self.role_changed();
                }
                Letter::RoleChanged | Letter::Mark | Letter::Nudge => {}
            }
        }
    }

    /// Puts bytes that are encoded already behind the replies.
    fn send_out(&mut self, bytes: &[u8]) {
        if self.output.capacity() == 0 {
            self.output = buffers::take();
        }
        self.output.extend_from_slice(bytes);
    }

    /// Holds commands until the pause changes or the wall clock `until_ms`.
    pub(super) fn wait_for_pause(&mut self, until_ms: i64) {
        let mut changes = self.service.pause.changes();
        let time = Duration::from_millis((until_ms - clock::unix_ms()).max(1) as u64);
        self.begin_wait(Box::pin(async move {
            let _ = tokio::time::timeout(time, changes.changed()).await;
        }));
    }

    /// Holds commands until the ticket is served, its time is up, or another client ends the wait.
    pub(super) fn wait_for_key(&mut self, ticket: Arc<Ticket>, timeout_ms: Option<u64>) {
        self.ticket = Some(ticket);
        self.session.client.set_waiting(true);
        self.begin_wait(match timeout_ms {
            Some(ms) => Box::pin(tokio::time::sleep(Duration::from_millis(ms))),
            None => Box::pin(std::future::pending()),
        });
    }

    /// Holds commands until there are enough copies, the time is up, or another client ends the wait.
    pub(super) fn wait_for_copies(&mut self, wanted: CopiesWanted) {
        self.copies = Some(wanted);
        self.session.client.set_waiting(true);
        let service = Arc::clone(&self.service);
        self.begin_wait(Box::pin(async move {
            let time = wanted.timeout_ms.map_or(Duration::MAX, Duration::from_millis);
            let _ = tokio::time::timeout(time, wanted.met(&service)).await;
        }));
    }

    fn begin_wait(&mut self, wait: Wait) {
        self.wait = Some(wait);
        self.session.is_blocked = true;
        self.session.touch();
        self.service.clients.note_blocked();
    }

    /// Ends a wait that nobody served, or one for copies, with `reply` or what the command gives in that case.
    pub(super) fn time_is_up(&mut self, reply: Option<Reply>) {
        if let Some(Reply::Error(error)) = &reply {
            self.service.statistics.error(error.code());
        }
        if let Some(wanted) = self.copies.take() {
            self.end_wait();
            let count = || wanted.reply(wanted.count(&self.service));
            return self.reply_late(&reply.unwrap_or_else(count));
        }
        let Some(ticket) = self.ticket.take() else { return self.end_wait() };
        if !ticket.claim() {
            // It is being served at this moment, or at least tried.
            self.ticket = Some(ticket);
            self.wait = Some(Box::pin(tokio::time::sleep(CLAIM_AGAIN_GAP)));
            return;
        }
        self.service.waiting.remove(&ticket);
        self.end_wait();
        self.reply_late(reply.as_ref().unwrap_or(&ticket.on_timeout));
    }

    /// Ends a wait for what this node is the primary of no more. Where commands are forwarded it goes on at the new primary, and whoever
    /// waits keeps his place.
    fn role_changed(&mut self) {
        if self.service.forwarding.get().is_none() || self.ticket.is_none() {
            if self.service.replication.is_replica() {
                self.time_is_up(Some(Reply::Error(ROLE_CHANGED)));
                self.session.close_after_reply();
            }
            return;
        }
        let Some(ticket) = self.ticket.clone().filter(|ticket| self.has_lost(ticket)) else { return };
        if !ticket.claim() {
            self.session.client.send(Letter::RoleChanged); // it is being served at this moment, or at least tried
            return;
        }
        self.ticket = None;
        self.service.waiting.remove(&ticket);
        self.end_wait();
        let service = Arc::clone(&self.service);
        let settings = service.settings();
        let turn = Turn { service: &service, settings: &settings, now_ms: clock::unix_ms() };
        if let Some(away) = away_from_here(turn, &mut self.session, ticket.words.args(), ticket.waited_ms()) {
            self.collect(away);
            self.send_collected();
        }
    }

    /// Whether this node is no longer the primary of what a ticket waits for.
    fn has_lost(&self, ticket: &Ticket) -> bool {
        let assignment = self.service.replication.assignment();
        ticket.keys.iter().any(|(database, name)| {
            let partition = self.service.store.partition_of(Key::new(*database, name).slot);
            !assignment.parts[usize::from(partition.0)].is_primary()
        })
    }

    fn reply_late(&mut self, reply: &Reply) {
        if self.output.capacity() == 0 {
            self.output = buffers::take();
        }
        self.answer(reply);
    }
}

impl<S> Connection<S> {
    pub(super) fn end_wait(&mut self) {
        if self.wait.take().is_some() {
            self.session.is_blocked = false;
            self.session.client.set_waiting(false);
            self.session.touch();
            self.session.publish();
            self.service.clients.note_unblocked();
        }
    }
}

/// Whatever ends it, a command that panics too: nothing of a client stays behind.
impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            ticket.claim();
            self.service.waiting.remove(&ticket);
        }
        self.end_wait();
        self.end_errand(End::Gone);
        self.session.watched.clear(&self.service.store, clock::unix_ms());
        forget_watches(&self.service, &mut self.session);
        self.service.monitors.remove(self.session.id);
        self.service.pubsub.end_all(self.session.id, &mut self.session.subscriptions);
        self.service.clients.remove(&self.session.client);
    }
}
