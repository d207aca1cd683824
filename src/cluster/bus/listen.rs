//! The side of the bus that answers: accepts connections, serves their requests side by side.
//!
//! Everything a stranger can make this node spend is bounded: connections, those that have not said yet who they are, the time they
//! take for that, frames that begin and do not end, memory of requests, requests at a time. A connection that has as many
//! requests in work as it may is not read until one is done, which is the sender's business: it counts too.

use super::channel::{self, ALIVE_GAP, Receiver, Sender};
use super::link::share;
use super::wire::{Frame, Hello, Lane, Tag};
use super::{Identity, Kind, Serve};
use crate::base::ids::NodeId;
use crate::cluster::trust::Trust;
use std::collections::BTreeMap;
use std::io::{Error, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections at most: two from each node of the largest cluster, and as many that are about to be noticed as dead.
const CONNECTIONS_MAX: usize = 1024;
/// Connections that have not said who they are.
const STRANGERS_MAX: usize = 64;
/// How long they have for that.
const STRANGER_TIME_MAX: Duration = Duration::from_secs(2);
/// How long requests in work may take when the node stops.
const STOP_TIME_MAX: Duration = Duration::from_millis(500);
/// After `accept` failed, for want of descriptors for instance.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who answers what.
pub type Answers = BTreeMap<Kind, Arc<dyn Serve>>;

/// See the module.
pub struct Server {
    identity: Identity,
    trust: Trust,
    answers: Answers,
    connections: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    urgent: Arc<Semaphore>,
    bulk: Arc<Semaphore>,
    tasks: TaskTracker,
}

/// Accepts connections until told to stop; then lets what is in work come to an end, for a short while.
pub async fn listen(
    listeners: Vec<TcpListener>,
    identity: Identity,
    trust: Trust,
    answers: Answers,
    stop: CancellationToken,
) {
    let memory = |lane: Lane| Arc::new(Semaphore::new(lane.memory_max()));
    let server = Arc::new(Server {
        identity,
        trust,
        answers,
        connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        strangers: Arc::new(Semaphore::new(STRANGERS_MAX)),
        urgent: memory(Lane::Urgent),
        bulk: memory(Lane::Bulk),
        tasks: TaskTracker::new(),
    });
    if !server.trust.is_sealed() {
        tracing::warn!(
            "There is no cluster-secret: other nodes are listened to from this machine and private networks only, and what is said there can be heard and forged"
        );
    }
    for listener in listeners {
        server.tasks.spawn(accept(Arc::clone(&server), listener, stop.clone()));
    }
    server.tasks.close();
    server.tasks.wait().await;
}

async fn accept(server: Arc<Server>, listener: TcpListener, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, from)) => server.admit(stream, from, &stop),
            Err(error) => {
                tracing::warn!("a connection of the bus could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Server {
    /// Serves a connection, if there is room for it.
    fn admit(self: &Arc<Server>, stream: TcpStream, from: SocketAddr, stop: &CancellationToken) {
        if !self.trust.admits(from.ip()) {
            return tracing::warn!(
                "the bus does not listen to {from}, which is not near, without a cluster-secret"
            );
        }
        let Ok(room) = Arc::clone(&self.connections).try_acquire_owned() else {
            return tracing::warn!("the bus has no room for a connection from {from}");
        };
        let Ok(stranger) = Arc::clone(&self.strangers).try_acquire_owned() else { return };
        let (server, stop) = (Arc::clone(self), stop.clone());
        self.tasks.spawn(async move {
            let _room = room;
            if let Err(error) = server.serve(stream, from, stranger, &stop).await {
                tracing::debug!("the bus connection from {from} has ended: {error}");
            }
        });
    }

    async fn serve(
        &self,
        stream: TcpStream,
        from: SocketAddr,
        stranger: OwnedSemaphorePermit,
        stop: &CancellationToken,
    ) -> Result<()> {
        let greeting = timeout(STRANGER_TIME_MAX, self.greet(stream));
        let greeting = tokio::select! {
            greeting = greeting => greeting,
            () = stop.cancelled() => return Ok(()),
        };
        let late = || Error::other("it has not said who it is");
        let (receiver, sender, hello) = greeting.map_err(|_| late()).flatten().inspect_err(|error| {
            tracing::warn!("the bus does not listen to {from}: {error}");
        })?;
        drop(stranger);
        let (queue, outgoing) = mpsc::unbounded_channel();
        let writing = tokio::spawn(write(sender, outgoing));
        let in_work = Arc::new(Semaphore::new(hello.lane.in_flight_max()));
        let received = tokio::select! {
            received = self.receive(receiver, hello, &queue, &in_work) => received,
            // What cannot be answered need not be asked.
            () = queue.closed() => Err(Error::other("nothing can be sent to it")),
            () = stop.cancelled() => {
                let _ = timeout(STOP_TIME_MAX, share(&in_work, hello.lane.in_flight_max())).await;
                Ok(())
            }
        };
        let _ = queue.send(Item { frame: None, _shares: None });
        if received.is_err() {
            writing.abort();
        }
        let _ = writing.await;
        received
    }

    /// Learns who the other side is, and says who this one is.
    async fn greet(
        &self,
        stream: TcpStream,
    ) -> Result<(Receiver<OwnedReadHalf>, Sender<OwnedWriteHalf>, Hello)> {
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        let (mut receiver, mut sender) = channel::accept(read, write, &self.trust).await?;
        // The lane is not known yet; a greeting is short in each.
        let head = receiver.head(Lane::Urgent).await?;
        if head.tag != Tag::Hello {
            return Err(Error::other("it does not say who it is"));
        }
        let hello = Hello::read(&receiver.body(head).await?)?;
        let accepted = self.identity.accepts(hello);
        let answer = match &accepted {
            Ok(()) => Frame { tag: Tag::Hello, id: 0, body: self.identity.hello(hello.lane).to_bytes() },
            Err(why) => Frame::words(Tag::Refused, 0, why),
        };
        sender.put(&answer).await?;
        sender.flush().await?;
        accepted.map_err(Error::other)?;
        Ok((receiver, sender, hello))
    }

    /// Takes requests and has them served, until the connection ends.
    async fn receive(
        &self,
        mut receiver: Receiver<OwnedReadHalf>,
        hello: Hello,
        queue: &mpsc::UnboundedSender<Item>,
        in_work: &Arc<Semaphore>,
    ) -> Result<()> {
        receiver.watch();
        let memory = match hello.lane {
            Lane::Urgent => &self.urgent,
            Lane::Bulk => &self.bulk,
        };
        let no_sense = CancellationToken::new();
        loop {
            let head = tokio::select! {
                head = receiver.head(hello.lane) => head?,
                () = no_sense.cancelled() => return Err(Error::other("it asked what makes no sense")),
            };
            let kind = match head.tag {
                Tag::Alive => continue,
                Tag::Request(kind) => kind,
                _ => return Err(Error::other("it does not ask")),
            };
            let shares =
                Shares { _in_work: share(in_work, 1).await, _memory: share(memory, head.length).await };
            let request = receiver.body(head).await?;
            let answering = Answering { id: head.id, queue: queue.clone(), shares: Some(shares) };
            let Some(serve) = self.answers.get(&kind).cloned() else {
                answering.answer(Frame::words(Tag::Refused, head.id, "this node does not answer that"));
                continue;
            };
            let no_sense = no_sense.clone();
            tokio::spawn(serve_one(serve, hello, request, answering, no_sense));
        }
    }
}

async fn serve_one(
    serve: Arc<dyn Serve>,
    hello: Hello,
    request: Vec<u8>,
    answering: Answering,
    no_sense: CancellationToken,
) {
    let id = answering.id;
    match serve.serve(hello.node, request).await {
        Some(body) if body.len() > hello.lane.body_max() => {
            let words = format!("the answer has {} bytes, which are too many", body.len());
            answering.answer(Frame::words(Tag::Failed, id, &words));
        }
        Some(body) => answering.answer(Frame { tag: Tag::Answer, id, body }),
        None => {
            log_no_sense(hello.node);
            no_sense.cancel();
        }
    }
}

fn log_no_sense(node: NodeId) {
    tracing::warn!(%node, "a request made no sense: the connection ends");
}

/// What a request takes of what is bounded, until its answer is sent.
struct Shares {
    _in_work: OwnedSemaphorePermit,
    _memory: OwnedSemaphorePermit,
}

/// Something to send; no frame is the end.
struct Item {
    frame: Option<Frame>,
    _shares: Option<Shares>,
}

/// A request in work. It is answered in any case, even if its task panics.
struct Answering {
    id: u64,
    queue: mpsc::UnboundedSender<Item>,
    shares: Option<Shares>,
}

impl Answering {
    fn answer(mut self, frame: Frame) {
        self.send(frame);
    }

    fn send(&mut self, frame: Frame) {
        // Without a connection there is nobody to answer.
        let _ = self.queue.send(Item { frame: Some(frame), _shares: self.shares.take() });
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if self.shares.is_some() {
            self.send(Frame::words(Tag::Failed, self.id, "the other node has failed in the middle of it"));
        }
    }
}

/// Sends answers, and something now and then; until it cannot, or the end.
async fn write(mut sender: Sender<OwnedWriteHalf>, mut queue: mpsc::UnboundedReceiver<Item>) -> Result<()> {
    let alive = Frame { tag: Tag::Alive, id: 0, body: Vec::new() };
    loop {
        let mut next = match timeout(ALIVE_GAP, queue.recv()).await {
            Ok(None) => return Ok(()),
            Ok(item) => item,
            Err(_) => {
                sender.put(&alive).await?;
                sender.flush().await?;
                continue;
            }
        };
        while let Some(item) = next {
            let Some(frame) = &item.frame else {
                sender.end().await;
                return Ok(());
            };
            sender.put(frame).await?;
            next = queue.try_recv().ok();
        }
        sender.flush().await?;
    }
}
