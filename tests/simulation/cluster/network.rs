//! The bus over turmoil's TCP: connections are kept between requests, one request at a time on each; one that was not answered in
//! time is dropped with its connection.
//!
//! ```text
//! request   number of the node that asks (1) · kind (1) · length (4, LE) · bytes
//! answer    length (4, LE) · bytes
//! ```

use crate::node::host;
use async_trait::async_trait;
use larder::base::ids::NodeId;
use larder::cluster::bus::{Bus, CallError, Kind, Serve};
use larder::cluster::map::Address;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use turmoil::net::{TcpListener, TcpStream};

/// The port for other nodes.
pub const PORT: u16 = 16379;
/// Idle connections that are kept to a node.
const IDLE_MAX: usize = 8;
/// How long a node is left alone that was not reached.
const PAUSE: Duration = Duration::from_millis(20);

/// The name of a node in the cluster.
pub fn name(number: usize) -> NodeId {
    NodeId([number as u8 + 1; 20])
}

/// The number of a node.
pub fn number(node: NodeId) -> usize {
    usize::from(node.0[0]) - 1
}

/// Who answers which kind.
pub type Services = BTreeMap<Kind, Arc<dyn Serve>>;

/// See the module.
pub struct TcpBus {
    number: usize,
    idle: Mutex<BTreeMap<NodeId, Vec<TcpStream>>>,
    /// Nodes that were not reached, and until when they are left alone.
    down: Mutex<BTreeMap<NodeId, Instant>>,
    /// Is told of nodes whose connections broke.
    broken: mpsc::UnboundedSender<NodeId>,
}

impl TcpBus {
    /// Of this node.
    pub fn new(number: usize, broken: mpsc::UnboundedSender<NodeId>) -> TcpBus {
        TcpBus { number, idle: Mutex::default(), down: Mutex::default(), broken }
    }

    async fn connect(&self, to: NodeId) -> io::Result<TcpStream> {
        let idle = self.idle.lock().get_mut(&to).and_then(Vec::pop);
        match idle {
            Some(stream) => Ok(stream),
            None => TcpStream::connect((host(number(to)), PORT)).await,
        }
    }

    async fn ask(&self, stream: &mut TcpStream, kind: Kind, request: &[u8]) -> io::Result<Vec<u8>> {
        let head = [&[self.number as u8, kind as u8][..], &(request.len() as u32).to_le_bytes()].concat();
        stream.write_all(&[&head, request].concat()).await?;
        read(stream).await
    }

    fn note(&self, node: NodeId, error: &io::Error) {
        if matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof
        ) {
            let _ = self.broken.send(node); // nobody listens any more when the process ends
        }
    }
}

async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; stream.read_u32_le().await? as usize];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

#[async_trait]
impl Bus for TcpBus {
    async fn call(
        &self,
        to: NodeId,
        _: &Address,
        kind: Kind,
        request: Vec<u8>,
        patience: Duration,
    ) -> Result<Vec<u8>, CallError> {
        let end = Instant::now() + patience;
        if self.down.lock().get(&to).is_some_and(|until| Instant::now() < *until) {
            return Err(CallError::NotSent("it was not reached a moment ago".into()));
        }
        let mut stream = match timeout(patience, self.connect(to)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                self.down.lock().insert(to, Instant::now() + PAUSE);
                self.note(to, &error);
                return Err(CallError::NotSent(error.to_string()));
            }
            Err(_) => return Err(CallError::NotSent("no connection in time".into())),
        };
        match timeout_at(end, self.ask(&mut stream, kind, &request)).await {
            Ok(Ok(answer)) => {
                let mut idle = self.idle.lock();
                let idle = idle.entry(to).or_default();
                if idle.len() < IDLE_MAX {
                    idle.push(stream);
                }
                Ok(answer)
            }
            Ok(Err(error)) => {
                self.note(to, &error);
                self.idle.lock().remove(&to);
                Err(CallError::Unknown(error.to_string()))
            }
            Err(_) => Err(CallError::Unknown("no answer in time".into())),
        }
    }
}

fn kind_of(byte: u8) -> Option<Kind> {
    [Kind::Consensus, Kind::Control, Kind::Forward, Kind::Publish]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
}

/// Answers other nodes' requests, for ever.
pub async fn accept(services: Arc<Services>) -> io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(answer(stream, Arc::clone(&services)));
    }
}

async fn answer(mut stream: TcpStream, services: Arc<Services>) -> Option<()> {
    loop {
        let from = stream.read_u8().await.ok()?;
        let kind = kind_of(stream.read_u8().await.ok()?)?;
        let request = read(&mut stream).await.ok()?;
        let service = services.get(&kind)?;
        let answer = service.serve(name(usize::from(from)), request).await?;
        let framed = [&(answer.len() as u32).to_le_bytes()[..], &answer].concat();
        stream.write_all(&framed).await.ok()?;
    }
}
