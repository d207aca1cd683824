//! The bus over turmoil's TCP: connections are kept between requests, one request at a time on each; one that was not answered in
//! time is dropped with its connection.
//!
//! ```text
//! request   number of the node that asks (1) · length (4, LE) · bytes
//! answer    length (4, LE) · bytes
//! ```

use crate::consensus::scenario::Plant;
use async_trait::async_trait;
use larder::base::ids::NodeId;
use larder::cluster::bus::{Bus, CallError, Kind, Serve};
use larder::cluster::consensus::wire::{self, Answer, Request};
use larder::cluster::map::Address;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use turmoil::net::{TcpListener, TcpStream};

/// The port for other nodes.
pub const PORT: u16 = 16379;

/// The name of a node in the cluster.
pub fn node(number: usize) -> NodeId {
    NodeId([number as u8 + 1; 20])
}

/// The number of a node.
pub fn number(node: NodeId) -> usize {
    usize::from(node.0[0]) - 1
}

/// The name of a node on the network.
pub fn host(number: usize) -> String {
    format!("voter-{number}")
}

/// See the module.
pub struct TcpBus {
    number: usize,
    plant: Plant,
    idle: Mutex<BTreeMap<NodeId, Vec<TcpStream>>>,
}

impl TcpBus {
    /// Of this node.
    pub fn new(number: usize, plant: Plant) -> TcpBus {
        TcpBus { number, plant, idle: Mutex::default() }
    }

    /// The answer that is planted, in place of the node's.
    fn planted(&self, request: &[u8]) -> Option<Vec<u8>> {
        let is_poll = || matches!(wire::request(node(self.number), request), Some(Request::Poll { .. }));
        (self.plant == Plant::StandsUnasked && is_poll()).then(|| wire::to_bytes(&Answer::Poll(true)))
    }

    async fn ask(&self, to: NodeId, request: &[u8]) -> io::Result<Vec<u8>> {
        let idle = self.idle.lock().get_mut(&to).and_then(Vec::pop);
        let mut stream = match idle {
            Some(stream) => stream,
            None => TcpStream::connect((host(number(to)), PORT)).await?,
        };
        let head = [&[self.number as u8][..], &(request.len() as u32).to_le_bytes()].concat();
        stream.write_all(&[&head, request].concat()).await?;
        let answer = read(&mut stream).await?;
        self.idle.lock().entry(to).or_default().push(stream);
        Ok(answer)
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
        _: Kind,
        request: Vec<u8>,
        patience: Duration,
    ) -> Result<Vec<u8>, CallError> {
        if let Some(planted) = self.planted(&request) {
            return Ok(planted);
        }
        let unknown = |reason: String| CallError::Unknown(reason);
        match timeout(patience, self.ask(to, &request)).await {
            Ok(answered) => answered.map_err(|error| unknown(error.to_string())),
            Err(_) => Err(unknown("no answer in time".into())),
        }
    }
}

/// Answers other nodes' requests, for ever.
pub async fn accept(serve: Arc<dyn Serve>) -> io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        let serve = Arc::clone(&serve);
        tokio::spawn(async move {
            while let Ok(from) = stream.read_u8().await {
                let Ok(request) = read(&mut stream).await else { return };
                let Some(answer) = serve.serve(node(usize::from(from)), request).await else { return };
                let framed = [&(answer.len() as u32).to_le_bytes()[..], &answer].concat();
                if stream.write_all(&framed).await.is_err() {
                    return;
                }
            }
        });
    }
}
