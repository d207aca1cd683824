//! A connection to another node, from the side that asks.
//!
//! Each request knows how far it came: it waits, or it was begun to be sent. What only waited was certainly not received; what was begun
//! may have been, whatever happened to the connection since. An answer that comes after its asker has gone is dropped by its id,
//! so one slow request disturbs no other; it counts as in flight until then, so that the other side is never asked for more
//! at a time than it takes.

use super::channel::{ALIVE_GAP, Receiver, Sender};
use super::wire::{Frame, Lane, Tag};
use super::{CallError, Kind};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// Nobody has seen it yet.
const WAITS: u8 = 0;
/// Some of it may be on its way.
const BEGUN: u8 = 1;
/// It will never be sent.
const DROPPED: u8 = 2;

/// How far a request came.
#[derive(Clone, Default)]
struct Progress(Arc<AtomicU8>);

impl Progress {
    fn goes(&self, to: u8) -> bool {
        self.0.compare_exchange(WAITS, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// What it means that there will be no answer. After this it is not sent any more.
    fn failed(&self, why: &str) -> CallError {
        if self.goes(DROPPED) || self.0.load(Ordering::Acquire) == DROPPED {
            CallError::NotSent(why.to_owned())
        } else {
            CallError::Unknown(why.to_owned())
        }
    }
}

/// A request that is to be sent.
struct Outgoing {
    frame: Frame,
    progress: Progress,
    _memory: OwnedSemaphorePermit,
}

type Answer = Result<Vec<u8>, CallError>;

/// A request without an answer yet.
struct Waiting {
    to: oneshot::Sender<Answer>,
    progress: Progress,
    _in_flight: OwnedSemaphorePermit,
}

/// Requests without an answer, by id; none once the connection has ended.
type Unanswered = Arc<Mutex<Option<HashMap<u64, Waiting>>>>;

/// How much memory bodies may take, of those that go and of those that come.
#[derive(Clone)]
pub struct Memory {
    going: Arc<Semaphore>,
    coming: Arc<Semaphore>,
}

impl Memory {
    /// As much as a lane may have.
    pub fn of(lane: Lane) -> Memory {
        let bytes = || Arc::new(Semaphore::new(lane.memory_max()));
        Memory { going: bytes(), coming: bytes() }
    }
}

/// Takes a share of what is bounded; what is bounded is never closed.
pub async fn share(of: &Arc<Semaphore>, parts: usize) -> OwnedSemaphorePermit {
    let parts = u32::try_from(parts).expect("bodies are bounded");
    Arc::clone(of).acquire_many_owned(parts).await.expect("nobody closes it")
}

/// See the module. The connection ends when this is dropped.
pub struct Link {
    lane: Lane,
    queue: mpsc::UnboundedSender<Outgoing>,
    unanswered: Unanswered,
    in_flight: Arc<Semaphore>,
    memory: Memory,
    next_id: AtomicU64,
    end: CancellationToken,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

impl Link {
    /// Begins to send and to receive on a channel whose greetings have been exchanged. `ended` is called once, with the reason,
    /// unless the link was dropped. Needs a runtime around it, which carries the connection.
    pub fn start<R, W>(
        (receiver, sender): (Receiver<R>, Sender<W>),
        lane: Lane,
        memory: Memory,
        ended: impl FnOnce(io::Error) + Send + 'static,
    ) -> Arc<Link>
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let (queue, waiting) = mpsc::unbounded_channel();
        let unanswered: Unanswered = Arc::new(Mutex::new(Some(HashMap::new())));
        let end = CancellationToken::new();
        let (answers, token, coming) = (Arc::clone(&unanswered), end.clone(), Arc::clone(&memory.coming));
        tokio::spawn(async move {
            let error = tokio::select! {
                error = send(sender, waiting) => error,
                error = receive(receiver, lane, &answers, &coming) => error,
                () = token.cancelled() => io::Error::other("the connection is not needed any more"),
            };
            let left = answers.lock().take().unwrap_or_default();
            for waiting in left.into_values() {
                let _ = waiting.to.send(Err(waiting.progress.failed(&error.to_string())));
            }
            if !token.is_cancelled() {
                ended(error);
            }
        });
        let in_flight = Arc::new(Semaphore::new(lane.in_flight_max()));
        Arc::new(Link { lane, queue, unanswered, in_flight, memory, next_id: AtomicU64::new(1), end })
    }

    /// Whether nothing can be asked any more.
    pub fn has_ended(&self) -> bool {
        self.unanswered.lock().is_none()
    }

    /// Asks, and waits for the answer until `deadline`.
    pub async fn call(&self, kind: Kind, request: Vec<u8>, deadline: Instant) -> Answer {
        if request.len() > self.lane.body_max() {
            return Err(CallError::NotSent(format!("{} bytes are too many for a request", request.len())));
        }
        let room =
            async { (share(&self.in_flight, 1).await, share(&self.memory.going, request.len()).await) };
        let room = timeout_at(deadline, room).await;
        let (in_flight, memory) =
            room.map_err(|_| CallError::NotSent("too much waits for this node".to_owned()))?;
        let (to, answer) = oneshot::channel();
        let progress = Progress::default();
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let ended = || CallError::NotSent("the connection has ended".to_owned());
        let waiting = Waiting { to, progress: progress.clone(), _in_flight: in_flight };
        self.unanswered.lock().as_mut().ok_or_else(ended)?.insert(id, waiting);
        let _asker = Asker { link: self, id, progress: progress.clone() };
        let frame = Frame { tag: Tag::Request(kind), id, body: request };
        // If the queue is gone, who ended it answers for what is unanswered.
        let _ = self.queue.send(Outgoing { frame, progress: progress.clone(), _memory: memory });
        match timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(progress.failed("the connection has ended")),
            Err(_) => Err(progress.failed("there was no answer in time")),
        }
    }
}

/// Who waits for an answer. If it goes, its request is not sent if it was not begun.
struct Asker<'a> {
    link: &'a Link,
    id: u64,
    progress: Progress,
}

impl Drop for Asker<'_> {
    fn drop(&mut self) {
        self.progress.goes(DROPPED);
        if self.progress.0.load(Ordering::Acquire) == DROPPED
            && let Some(unanswered) = self.link.unanswered.lock().as_mut()
        {
            unanswered.remove(&self.id);
        }
    }
}

/// Sends what is queued, and something now and then; until it cannot.
async fn send<W: AsyncWrite + Unpin>(
    mut sender: Sender<W>,
    mut queue: mpsc::UnboundedReceiver<Outgoing>,
) -> io::Error {
    let alive = Frame { tag: Tag::Alive, id: 0, body: Vec::new() };
    let mut sending = async || {
        loop {
            match tokio::time::timeout(ALIVE_GAP, queue.recv()).await {
                Ok(None) => return Err(io::Error::other("the connection is not needed any more")),
                Ok(Some(outgoing)) => put(&mut sender, outgoing).await?,
                Err(_) => sender.put(&alive).await?,
            }
            while let Ok(outgoing) = queue.try_recv() {
                put(&mut sender, outgoing).await?;
            }
            sender.flush().await?;
        }
    };
    let ended: io::Result<()> = sending().await;
    ended.expect_err("it goes on until it cannot")
}

async fn put<W: AsyncWrite + Unpin>(sender: &mut Sender<W>, outgoing: Outgoing) -> io::Result<()> {
    if outgoing.progress.goes(BEGUN) { sender.put(&outgoing.frame).await } else { Ok(()) }
}

/// Hands out answers, until there can be no more.
async fn receive<R: AsyncRead + Unpin>(
    mut receiver: Receiver<R>,
    lane: Lane,
    unanswered: &Unanswered,
    memory: &Arc<Semaphore>,
) -> io::Error {
    receiver.watch();
    let mut receiving = async || {
        loop {
            let head = receiver.head(lane).await?;
            let _memory = share(memory, head.length).await;
            let body = receiver.body(head).await?;
            let words = |body: Vec<u8>| String::from_utf8_lossy(&body).into_owned();
            let answer = match head.tag {
                Tag::Alive => continue,
                Tag::Answer => Ok(body),
                Tag::Refused => Err(CallError::NotSent(words(body))),
                Tag::Failed => Err(CallError::Unknown(words(body))),
                Tag::Hello | Tag::Request(_) => {
                    return Err(io::Error::other("it asked instead of answering"));
                }
            };
            let waiting = unanswered.lock().as_mut().and_then(|all| all.remove(&head.id));
            let waiting = waiting.ok_or_else(|| io::Error::other("it answered what nobody asked"))?;
            let _ = waiting.to.send(answer);
        }
    };
    let ended: io::Result<()> = receiving().await;
    ended.expect_err("it goes on until it cannot")
}

/// Time that is left of a patience.
pub fn deadline(patience: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(patience).unwrap_or(now + Duration::from_hours(24))
}
