//! The client threads: each has a runtime of its own, listens by itself, and keeps its connections for their whole life.
//!
//! Stopping is in order: no new connections, then every connection ends after the turn it is in, then the threads end.

use super::connection::Connection;
use super::listening::{Acceptor, Listening};
use super::stream::Stream;
use super::{listener, sweep};
use crate::base::clock;
use crate::config::Settings;
use crate::observability::statistics::Counter;
use crate::session::client::Peer;
use crate::session::service::Service;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long accepting rests after an error, such as no file descriptor being left.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(100);
/// How long a client that is not wanted may take to be told.
const TURN_AWAY_MAX: Duration = Duration::from_millis(10);
/// How long connections have to end their turn when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(5);

const TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";
const DENIED: &[u8] = b"-DENIED Redis is running in protected mode because protected mode is enabled and no password is \
set for the default user. In this mode connections are only accepted from the loopback interface. If you want to connect \
from external computers to Redis you may adopt one of the following solutions: 1) Just disable protected mode sending the \
command 'CONFIG SET protected-mode no' from the loopback interface by connecting to Redis from the same host the server is \
running, however MAKE SURE Redis is not publicly accessible from internet if you do so. Use CONFIG REWRITE to make this \
change permanent. 2) Alternatively you can just disable the protected mode by editing the Redis configuration file, and \
setting the protected mode option to 'no', and then restarting the server. 3) If you started the server manually just for \
testing, restart it with the '--protected-mode no' option. 4) Setup a an authentication password for the default user. \
NOTE: You only need to do one of the above things in order for the server to start accepting connections from the \
outside.\r\n";

/// The running client threads.
pub struct ClientThreads {
    threads: Vec<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
}

/// The tasks of one thread, and its runtime.
struct Tasks {
    runtime: Runtime,
    accepting: TaskTracker,
    connections: TaskTracker,
}

impl Tasks {
    fn new() -> io::Result<Tasks> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Tasks { runtime, accepting: TaskTracker::new(), connections: TaskTracker::new() })
    }

    fn acceptor(&self) -> Acceptor {
        Acceptor {
            runtime: self.runtime.handle().clone(),
            accepting: self.accepting.clone(),
            connections: self.connections.clone(),
        }
    }
}

impl ClientThreads {
    /// Opens the sockets that the settings name and starts to serve.
    ///
    /// # Errors
    /// An address that cannot be listened on.
    pub fn start(service: &Arc<Service>) -> io::Result<ClientThreads> {
        let settings = service.settings();
        let backlog = i32::try_from(settings.tcp_backlog).unwrap_or(511);
        let mut unix = if settings.unixsocket.as_os_str().is_empty() {
            None
        } else {
            Some(listener::open_unix(&settings.unixsocket, settings.unixsocketperm, backlog)?)
        };
        let all: Vec<Tasks> =
            (0..thread_count(&settings)).map(|_| Tasks::new()).collect::<io::Result<_>>()?;
        let listening = Listening::start(service, &settings, all.iter().map(Tasks::acceptor).collect())?;
        let addresses = listening.addresses();
        // Before anybody is served who could change where that is.
        service.listen_by(Box::new(listening));
        if addresses.is_empty() && unix.is_none() {
            return Err(io::Error::other("no port, address or local socket is configured"));
        }
        let mut threads = Vec::with_capacity(all.len());
        for (index, tasks) in all.into_iter().enumerate() {
            let (service, unix) = (Arc::clone(service), unix.take());
            let thread = std::thread::Builder::new().name(format!("clients-{index}"));
            threads.push(thread.spawn(move || serve(index, &service, tasks, unix))?);
        }
        Ok(ClientThreads { threads, addresses })
    }

    /// What is listened on.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Waits until every thread has ended, which the service's stop order makes them do.
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a client thread has panicked");
            }
        }
    }
}

/// Number of client threads under these settings.
pub fn thread_count(settings: &Settings) -> usize {
    match settings.runtime_threads {
        0 => listener::default_threads(),
        count => count,
    }
}

fn serve(index: usize, service: &Arc<Service>, tasks: Tasks, unix: Option<std::os::unix::net::UnixListener>) {
    let Tasks { runtime, accepting, connections } = tasks;
    runtime.block_on(async {
        if let Some(socket) = unix {
            accepting.spawn(accept_unix(socket, Arc::clone(service), connections.clone()));
        }
        if index == 0 {
            accepting.spawn(sweep::sweep(Arc::clone(service)));
        }
        service.stop.token().cancelled().await;
        accepting.close();
        accepting.wait().await;
        service.clients.list().iter().for_each(|client| client.kill());
        connections.close();
        let _ = tokio::time::timeout(STOP_GRACE, connections.wait()).await;
    });
}

/// Accepts until `stop`.
pub async fn accept_tcp(
    socket: std::net::TcpListener,
    service: Arc<Service>,
    connections: TaskTracker,
    stop: CancellationToken,
) {
    let listener = match tokio::net::TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "a listening socket was refused by the runtime"),
    };
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, address)) => {
                listener::prepare(&stream, u64::from(service.settings().tcp_keepalive));
                let peer = tcp_peer(&stream, address);
                welcome(stream, peer, &service, &connections).await;
            }
            Err(_) if stop.is_cancelled() => return,
            Err(error) => accept_failed(&error).await,
        }
    }
}

async fn accept_unix(
    socket: std::os::unix::net::UnixListener,
    service: Arc<Service>,
    connections: TaskTracker,
) {
    let listener = match tokio::net::UnixListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "a local socket was refused by the runtime"),
    };
    let stop = service.stop.token();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, _)) => {
                let address = format!("{}:0", service.settings().unixsocket.display());
                let peer = Peer {
                    address: address.clone(),
                    local_address: address,
                    descriptor: stream.as_raw_fd(),
                    is_local_socket: true,
                    is_loopback: true,
                };
                welcome(stream, peer, &service, &connections).await;
            }
            Err(error) => accept_failed(&error).await,
        }
    }
}

async fn accept_failed(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(ACCEPT_ERROR_PAUSE).await;
}

fn tcp_peer(stream: &tokio::net::TcpStream, address: SocketAddr) -> Peer {
    let is_loopback = match address.ip() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.to_canonical().is_loopback(),
    };
    Peer {
        address: address.to_string(),
        local_address: stream.local_addr().map_or_else(|_| String::new(), |local| local.to_string()),
        descriptor: stream.as_raw_fd(),
        is_local_socket: false,
        is_loopback,
    }
}

/// Begins a connection, or says why not. That is said before the next is accepted, because those to be turned away hold
/// descriptors that nobody has counted.
async fn welcome<S>(stream: S, peer: Peer, service: &Arc<Service>, connections: &TaskTracker)
where
    S: Stream + 'static,
{
    let settings = service.parameters.snapshot();
    let is_open_to_all = settings.protected_mode && settings.requirepass.0.is_empty();
    if is_open_to_all && !peer.is_loopback {
        return turn_away(stream, DENIED).await;
    }
    if let Some(client) = service.clients.register(peer, clock::unix_ms(), settings.maxclients) {
        service.statistics.add(Counter::Connections, 1);
        connections.spawn(Connection::new(stream, Arc::clone(service), client).run());
    } else {
        service.statistics.add(Counter::ConnectionsRejected, 1);
        turn_away(stream, TOO_MANY).await;
    }
}

async fn turn_away<S: AsyncWrite + Unpin>(mut stream: S, words: &'static [u8]) {
    // A new socket takes so few bytes at once; should it not, nobody waits for it.
    let _ = tokio::time::timeout(TURN_AWAY_MAX, stream.write_all(words)).await;
    let _ = tokio::time::timeout(TURN_AWAY_MAX, stream.shutdown()).await;
}
