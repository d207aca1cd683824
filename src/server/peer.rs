//! Links to and from other servers: how a connection to another server's client port becomes one, and the threads they run on.
//!
//! A replica connects to the port that its primary has for clients, authenticates like one, and asks for the link with
//! `REPLCONF LARDER-LINK`. So one port, one password and one set of firewall rules serve both, as with Redis; and a real Redis
//! says at this point that it does not know the option.

use crate::replication::links::{Dial, LinkStream, keep_links};
use crate::replication::local::StoreStorage;
use crate::replication::wire::VERSION;
use crate::replication::{Node, Sizes, Timing, primary};
use crate::session::handover;
use crate::session::service::Service;
use async_trait::async_trait;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// Threads for links, whatever the number of cores: applying is one task a link.
const THREADS: usize = 2;
/// How often it is looked whether the journal must be kept for replicas.
const LOOK_GAP: Duration = Duration::from_secs(1);
/// How long a start waits for replicas that it had, before it drops the journal that is kept for them.
const RETURN_TIME: Duration = Duration::from_secs(600);
/// Bytes of the journal that a start may find without any replica: two segments.
const KEPT_WITHOUT_REPLICAS: u64 = 128 << 20;
/// The longest answer of another server before the link begins.
const ANSWER_MAX: u64 = 1024;
/// How often a stop looks whether the replicas have everything.
const STOP_LOOK_GAP: Duration = Duration::from_millis(5);

/// The runtime of links.
pub struct Links {
    runtime: Runtime,
    node: Arc<Node>,
}

impl Links {
    /// Begins to serve and keep links, on threads of their own.
    pub fn start(service: &Arc<Service>, folder: &Path) -> io::Result<Links> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("links")
            .enable_all()
            .build()?;
        let settings = service.settings();
        let replication = Arc::clone(&service.replication);
        let storage = StoreStorage::new(Arc::clone(&service.store), service.durable.clone(), folder);
        replication.lost().count(&folder.join("lost"));
        let announced = settings.replica_announce_port;
        let node = Arc::new(Node {
            storage: Arc::new(storage),
            replication,
            snapshots: Arc::default(),
            address: (
                settings.replica_announce_ip.clone(),
                if announced == 0 { settings.port } else { announced },
            ),
            timing: Timing {
                timeout: Duration::from_secs(u64::from(settings.repl_timeout.max(1))),
                ..Timing::default()
            },
            sizes: Sizes::default(),
        });
        let (handle, serving) = (runtime.handle().clone(), Arc::clone(&node));
        let taken = service.links.set(Box::new(move |link| {
            handle.spawn(serve(Arc::clone(&serving), link));
        }));
        assert!(taken.is_ok(), "links are started once");
        let (keeping, dial) = (Arc::clone(&node), TcpDial { service: Arc::clone(service) });
        runtime.spawn(async move { keep_links(&keeping, &dial).await });
        runtime.spawn(keep_journal(Arc::clone(service)));
        Ok(Links { runtime, node })
    }

    /// Ends all links, once replicas in step have everything or `patience` is over.
    pub fn stop(self, patience: Duration) {
        let wanted = self.node.storage.written();
        let waiting = async {
            let lacks = || {
                let position = *wanted.borrow();
                let followers = self.node.replication.followers();
                followers
                    .iter()
                    .any(|(_, follower)| !follower.in_step.is_empty() && follower.journaled < position)
            };
            while lacks() {
                tokio::time::sleep(STOP_LOOK_GAP).await;
            }
        };
        let waited = self.runtime.block_on(async { tokio::time::timeout(patience, waiting).await });
        if waited.is_err() {
            tracing::warn!("a replica does not have the last changes yet");
        }
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

/// Serves a follower over what was a client's socket.
async fn serve(node: Arc<Node>, link: handover::LinkStream) {
    let handover::LinkStream { socket, received, address: (host, _), .. } = link;
    let stream = match TcpStream::from_std(socket) {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(%error, "a replication link could not begin"),
    };
    let (read, write) = tokio::io::split(stream);
    let stream = tokio::io::join(io::Cursor::new(received).chain(read), write);
    tracing::info!("Replica {host} asks for synchronization");
    if let Err(error) = primary::serve(stream, &node, &host).await {
        tracing::info!("the link to replica {host} has ended: {error}");
    }
}

/// Keeps as much of the journal as replicas may need that come back, if there are or were any.
async fn keep_journal(service: Arc<Service>) {
    let begun = tokio::time::Instant::now();
    let mut has_replicas = false;
    // More than a start leaves to itself: somebody kept it.
    let had_replicas = service.store.status().journal_bytes > KEPT_WITHOUT_REPLICAS;
    let stop = service.stop.token();
    let mut changes = service.replication.changes();
    loop {
        changes.borrow_and_update();
        has_replicas |=
            !service.replication.followers().is_empty() || service.replication.followed().is_some();
        let keeps = has_replicas || (had_replicas && begun.elapsed() < RETURN_TIME);
        service.store.keep_journal(if keeps { service.settings().repl_backlog_size } else { 0 });
        tokio::select! {
            () = stop.cancelled() => return,
            // A replica may come and go between two looks; once there was one, time is enough.
            _ = changes.changed(), if !has_replicas => {}
            () = tokio::time::sleep(LOOK_GAP) => {}
        }
    }
}

/// Connects to the client port of other servers.
struct TcpDial {
    service: Arc<Service>,
}

#[async_trait]
impl Dial for TcpDial {
    async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn LinkStream>> {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        let settings = self.service.parameters.snapshot();
        // The nodes of a cluster have one password.
        let own = if settings.cluster.is_on() { &settings.requirepass.0 } else { &settings.masterauth.0 };
        let password = if settings.masterauth.0.is_empty() { own } else { &settings.masterauth.0 };
        if !password.is_empty() {
            let mut words: Vec<&[u8]> = vec![b"AUTH", password];
            if !settings.masteruser.is_empty() {
                words.insert(1, settings.masteruser.as_bytes());
            }
            ask(&mut stream, &words).await?;
        }
        let announced = (settings.replica_announce_ip.as_bytes(), settings.replica_announce_port);
        let port = if announced.1 == 0 { settings.port } else { announced.1 };
        ask(&mut stream, &[b"REPLCONF", b"listening-port", port.to_string().as_bytes()]).await?;
        if !announced.0.is_empty() {
            ask(&mut stream, &[b"REPLCONF", b"ip-address", announced.0]).await?;
        }
        ask(&mut stream, &[b"REPLCONF", b"LARDER-LINK", VERSION.to_string().as_bytes()]).await?;
        Ok(Box::new(stream))
    }
}

/// Sends a command and reads the one line that answers it. An error is an error here.
async fn ask(stream: &mut BufReader<TcpStream>, words: &[&[u8]]) -> io::Result<()> {
    let mut request = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        request.extend_from_slice(word);
        request.extend_from_slice(b"\r\n");
    }
    stream.write_all(&request).await?;
    let mut answer = String::new();
    stream.take(ANSWER_MAX).read_line(&mut answer).await?;
    if answer.starts_with('+') {
        return Ok(());
    }
    let reason = if answer.is_empty() { "it closed the connection" } else { answer.trim_end() };
    Err(io::Error::other(format!("the server does not accept this one as a replica: {reason}")))
}
