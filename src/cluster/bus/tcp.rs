//! The bus over TCP: a connection to each node for each lane, made when it is first needed and kept.
//!
//! A name is resolved anew for each attempt, and each of its addresses tried until the node that is meant answers. After an attempt
//! that failed there is none for a short while, which grows with each failure: callers learn at once what the last one found.

use super::link::{Link, Memory, deadline};
use super::wire::{Frame, Hello, Lane, Tag};
use super::{Broken, Bus, CallError, Identity, Kind, Sign, channel};
use crate::base::ids::NodeId;
use crate::cluster::map::Address;
use crate::cluster::trust::Trust;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, timeout, timeout_at};

/// An attempt may take this long for each address, from the first packet to the other side's greeting.
const OPEN_TIME_MAX: Duration = Duration::from_secs(1);
/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 16;
/// How long a name may take to be resolved.
const RESOLVE_TIME_MAX: Duration = Duration::from_secs(2);
/// No attempt for so long after the first that failed.
const GAP_MIN: Duration = Duration::from_millis(20);
/// No attempt for so long after the last of many that failed: a node that comes back is found soon.
const GAP_MAX: Duration = Duration::from_millis(500);
/// A connection that held for so long did not fail.
const HELD_LONG: Duration = Duration::from_secs(5);
/// Signs that wait for who reads them.
const SIGNS_MAX: usize = 64;
/// Peers that are remembered; those without a connection are forgotten before there are more.
const PEERS_MAX: usize = 1024;

/// See the module.
pub struct TcpBus {
    shared: Arc<Shared>,
    peers: Mutex<HashMap<(NodeId, Lane), Arc<Peer>>>,
}

/// What all connections need.
struct Shared {
    runtime: Handle,
    identity: Identity,
    trust: Trust,
    urgent: Memory,
    bulk: Memory,
    broken: broadcast::Sender<Broken>,
}

/// A lane to another node.
struct Peer {
    node: NodeId,
    lane: Lane,
    state: watch::Sender<State>,
}

#[derive(Clone)]
struct State {
    /// Where it leads.
    address: Address,
    phase: Phase,
    /// How long there is no attempt after the next failure.
    gap: Duration,
}

#[derive(Clone)]
enum Phase {
    Idle,
    Connecting,
    Up { link: Arc<Link>, since: Instant },
    Down { why: Arc<str>, until: Instant },
}

/// Why there is no connection.
struct Failure {
    sign: Sign,
    why: String,
}

impl TcpBus {
    /// Connections live on this runtime, whoever calls from wherever.
    pub fn new(runtime: Handle, identity: Identity, trust: Trust) -> TcpBus {
        let (broken, _) = broadcast::channel(SIGNS_MAX);
        let (urgent, bulk) = (Memory::of(Lane::Urgent), Memory::of(Lane::Bulk));
        let shared = Shared { runtime, identity, trust, urgent, bulk, broken };
        TcpBus { shared: Arc::new(shared), peers: Mutex::default() }
    }

    /// Signs that a node may be dead: a connection to it broke, or could not be made. Each attempt that fails gives one.
    pub fn broken(&self) -> broadcast::Receiver<Broken> {
        self.shared.broken.subscribe()
    }

    fn peer(&self, node: NodeId, lane: Lane, address: &Address) -> Arc<Peer> {
        let mut peers = self.peers.lock();
        if peers.len() >= PEERS_MAX {
            peers.retain(|_, peer| matches!(peer.state.borrow().phase, Phase::Up { .. } | Phase::Connecting));
        }
        let new = || {
            let state = State { address: address.clone(), phase: Phase::Idle, gap: GAP_MIN };
            Arc::new(Peer { node, lane, state: watch::Sender::new(state) })
        };
        Arc::clone(peers.entry((node, lane)).or_insert_with(new))
    }
}

#[async_trait]
impl Bus for TcpBus {
    async fn call(
        &self,
        node: NodeId,
        address: &Address,
        kind: Kind,
        request: Vec<u8>,
        patience: Duration,
    ) -> Result<Vec<u8>, CallError> {
        let deadline = deadline(patience);
        let peer = self.peer(node, Lane::of(kind), address);
        let link = timeout_at(deadline, peer.link(&self.shared, address)).await;
        let link = link.map_err(|_| CallError::NotSent("there was no connection in time".to_owned()))?;
        link.map_err(|why| CallError::NotSent(why.to_string()))?.call(kind, request, deadline).await
    }
}

impl Peer {
    /// The connection to this address, or why there is none.
    async fn link(self: &Arc<Peer>, shared: &Arc<Shared>, address: &Address) -> Result<Arc<Link>, Arc<str>> {
        let mut watch = self.state.subscribe();
        loop {
            self.connect_if_needed(shared, address);
            let state = watch.wait_for(|state| !matches!(state.phase, Phase::Connecting)).await;
            let state = state.expect("the peer outlives its watchers");
            match &state.phase {
                _ if state.address != *address => {}
                Phase::Up { link, .. } if !link.has_ended() => return Ok(Arc::clone(link)),
                Phase::Down { why, .. } => return Err(Arc::clone(why)),
                _ => {}
            }
        }
    }

    /// Begins an attempt, unless there is one, or a connection, or it is too soon.
    fn connect_if_needed(self: &Arc<Peer>, shared: &Arc<Shared>, address: &Address) {
        let begins = self.state.send_if_modified(|state| {
            let is_settled = match &state.phase {
                Phase::Connecting => true,
                _ if state.address != *address => {
                    state.gap = GAP_MIN;
                    false
                }
                Phase::Up { link, .. } => !link.has_ended(),
                Phase::Down { until, .. } => Instant::now() < *until,
                Phase::Idle => false,
            };
            if !is_settled {
                state.address = address.clone();
                state.phase = Phase::Connecting;
            }
            !is_settled
        });
        if begins {
            let (peer, shared, address) = (Arc::clone(self), Arc::clone(shared), address.clone());
            shared.runtime.clone().spawn(async move { peer.connect(&shared, &address).await });
        }
    }

    /// One attempt.
    async fn connect(self: Arc<Peer>, shared: &Arc<Shared>, address: &Address) {
        let opened = self.open(shared, address).await.and_then(|(link, since)| {
            // What ended before it was there to be seen has not told anybody.
            if link.has_ended() {
                Err(Failure { sign: Sign::Closed, why: "it closed the connection".to_owned() })
            } else {
                Ok(Phase::Up { link, since })
            }
        });
        match opened {
            Ok(up) => self.state.send_modify(|state| state.phase = up),
            Err(Failure { sign, why }) => {
                tracing::debug!(node = %self.node, "no connection to {}:{}: {why}", address.host, address.bus_port);
                self.failed(shared, sign, &why);
            }
        }
    }

    fn failed(&self, shared: &Shared, sign: Sign, why: &str) {
        self.state.send_modify(|state| {
            state.phase = Phase::Down { why: why.into(), until: Instant::now() + state.gap };
            state.gap = (state.gap * 2).min(GAP_MAX);
        });
        // Nobody may listen.
        let _ = shared.broken.send(Broken { node: self.node, sign });
    }

    /// A connection whose greetings have been exchanged.
    async fn open(
        self: &Arc<Peer>,
        shared: &Arc<Shared>,
        address: &Address,
    ) -> Result<(Arc<Link>, Instant), Failure> {
        let mut failure =
            Failure { sign: Sign::Unreachable, why: format!("{} has no address", address.host) };
        for target in resolve(address).await?.into_iter().take(ADDRESSES_MAX) {
            let opening = timeout(OPEN_TIME_MAX, self.greet(shared, target)).await;
            let late = || Failure { sign: Sign::Unreachable, why: format!("{target} does not answer") };
            match opening.unwrap_or_else(|_| Err(late())) {
                Ok(opened) => return Ok(opened),
                // Of several addresses the one that says most: that the node is not there.
                Err(another) if failure.sign == Sign::Elsewhere && another.sign != Sign::Elsewhere => {}
                Err(another) => failure = another,
            }
        }
        Err(failure)
    }

    async fn greet(
        self: &Arc<Peer>,
        shared: &Arc<Shared>,
        target: SocketAddr,
    ) -> Result<(Arc<Link>, Instant), Failure> {
        let because = |error: Error| {
            let sign = match error.kind() {
                ErrorKind::ConnectionRefused => Sign::Refused,
                ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe => Sign::Closed,
                _ => Sign::Unreachable,
            };
            Failure { sign, why: format!("{target}: {error}") }
        };
        let stream = TcpStream::connect(target).await.map_err(because)?;
        stream.set_nodelay(true).map_err(because)?;
        let (read, write) = stream.into_split();
        let (mut receiver, mut sender) =
            channel::connect(read, write, &shared.trust).await.map_err(because)?;
        let own = shared.identity.hello(self.lane);
        sender.put(&Frame { tag: Tag::Hello, id: 0, body: own.to_bytes() }).await.map_err(because)?;
        sender.flush().await.map_err(because)?;
        let head = receiver.head(self.lane).await.map_err(because)?;
        let body = receiver.body(head).await.map_err(because)?;
        if head.tag == Tag::Refused {
            return Err(because(Error::other(String::from_utf8_lossy(&body).into_owned())));
        }
        let hello = Hello::read(&body).map_err(|why| because(why.into()))?;
        if hello.node != self.node {
            let why = format!("{target} is another node: {}", hello.node);
            return Err(Failure { sign: Sign::Elsewhere, why });
        }
        shared.identity.accepts(hello).map_err(|why| because(Error::other(why)))?;
        let memory = match self.lane {
            Lane::Urgent => &shared.urgent,
            Lane::Bulk => &shared.bulk,
        };
        let (peer, common, since) = (Arc::downgrade(self), Arc::clone(shared), Instant::now());
        let ended = move |error: Error| {
            if let Some(peer) = peer.upgrade() {
                peer.ended(&common, since, &error);
            }
        };
        Ok((Link::start((receiver, sender), self.lane, memory.clone(), ended), since))
    }

    /// The connection made at `since` has ended by itself.
    fn ended(&self, shared: &Shared, since: Instant, error: &Error) {
        tracing::debug!(node = %self.node, "the connection has ended: {error}");
        let sign = if error.kind() == ErrorKind::TimedOut { Sign::Silent } else { Sign::Closed };
        let mut is_ours = false;
        self.state.send_if_modified(|state| {
            is_ours = matches!(&state.phase, Phase::Up { since: up, .. } if *up == since);
            if is_ours && since.elapsed() > HELD_LONG {
                state.gap = GAP_MIN;
            }
            false
        });
        if is_ours {
            self.failed(shared, sign, &error.to_string());
        }
    }
}

async fn resolve(address: &Address) -> Result<Vec<SocketAddr>, Failure> {
    let failure = |why: String| Failure { sign: Sign::Unreachable, why: format!("{}: {why}", address.host) };
    let looking = tokio::net::lookup_host((address.host.as_str(), address.bus_port));
    let found = timeout(RESOLVE_TIME_MAX, looking)
        .await
        .map_err(|_| failure("the name is not resolved in time".to_owned()))?;
    found.map(Iterator::collect).map_err(|error| failure(error.to_string()))
}
