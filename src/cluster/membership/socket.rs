//! The socket under the gossip: opens and seals what comes and goes, or without a secret listens to who is near.
//!
//! The gossip's library keeps its encoding to itself: nobody but its own UDP socket can make datagrams of messages or messages of
//! datagrams. So two of these, on loopback, are the encoder and the decoder here. The decoder swallows what it cannot read; behind
//! each datagram therefore goes one that it can, known to this side, so that nothing has to be waited for by the clock. Other processes of this
//! machine may write to the decoder, and are told by their address.

use super::sealed::{Seal, Unsealed};
use crate::base::clock::unix_ms;
use crate::cluster::trust::Trust;
use async_trait::async_trait;
use chitchat::transport::{RecvOutcome, SendOutcome, Socket, Transport, UdpSocket as Codec};
use chitchat::{ChitchatEnvelope, ChitchatMessage, ProtocolVersion};
use std::io::{Error, Result};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

/// The longest datagram there is.
const DATAGRAM_MAX: usize = 65_507;
/// Messages that wait for the gossip. What comes while so many wait is lost, as datagrams are.
const WAITING_MAX: usize = 256;
/// What goes over loopback is there at once; if not, both ends are made anew.
const LOOPBACK_TIME_MAX: Duration = Duration::from_secs(1);
/// How often a reason to drop datagrams is logged.
const LOG_GAP: Duration = Duration::from_secs(10);

/// Opens the gossip's socket: the one that is bound already.
pub struct Sealed {
    /// Bound to the bus port.
    pub socket: Arc<UdpSocket>,
    /// Whom this node listens to.
    pub trust: Trust,
    /// Datagrams of a hundred that get lost on the way out.
    #[cfg(test)]
    pub loss: Arc<std::sync::atomic::AtomicU32>,
}

#[async_trait]
impl Transport for Sealed {
    async fn open(&self, _: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let (to, received) = mpsc::channel(WAITING_MAX);
        let inbound = Inbound {
            socket: Arc::clone(&self.socket),
            seal: Seal::new(&self.trust),
            trust: self.trust.clone(),
            decoder: Decoder::open().await?,
            logged: None,
        };
        Ok(Box::new(SealedSocket {
            socket: Arc::clone(&self.socket),
            seal: Seal::new(&self.trust),
            encoder: Encoder::open().await?,
            received,
            _receiving: AbortOnDropHandle::new(tokio::spawn(inbound.run(to))),
            #[cfg(test)]
            loss: Arc::clone(&self.loss),
        }))
    }
}

struct SealedSocket {
    socket: Arc<UdpSocket>,
    seal: Option<Seal>,
    encoder: Encoder,
    received: mpsc::Receiver<RecvOutcome>,
    _receiving: AbortOnDropHandle<()>,
    #[cfg(test)]
    loss: Arc<std::sync::atomic::AtomicU32>,
}

#[async_trait]
impl Socket for SealedSocket {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }

    async fn send(&mut self, to: SocketAddr, envelope: ChitchatEnvelope) -> anyhow::Result<SendOutcome> {
        let plain = self.encoder.encode(envelope).await?;
        let datagram = match &self.seal {
            Some(seal) => seal.seal(&plain, unix_ms()),
            None => plain,
        };
        #[cfg(test)]
        if rand::random_range(0..100) < self.loss.load(std::sync::atomic::Ordering::Relaxed) {
            return Ok(SendOutcome { num_bytes_sent: datagram.len() });
        }
        // A node that cannot be reached is nothing special to a gossip.
        match self.socket.send_to(&datagram, self.target(to)).await {
            Ok(num_bytes_sent) => Ok(SendOutcome { num_bytes_sent }),
            Err(error) => {
                tracing::debug!("{} bytes of gossip could not be sent to {to}: {error}", datagram.len());
                Ok(SendOutcome { num_bytes_sent: 0 })
            }
        }
    }

    async fn recv(&mut self) -> anyhow::Result<RecvOutcome> {
        self.received.recv().await.ok_or_else(|| Error::other("the socket of the gossip is gone").into())
    }
}

impl SealedSocket {
    /// A socket of IPv6 takes IPv4's addresses in its own form only.
    fn target(&self, to: SocketAddr) -> SocketAddr {
        match (self.socket.local_addr(), to.ip()) {
            (Ok(SocketAddr::V6(_)), IpAddr::V4(v4)) => SocketAddr::new(v4.to_ipv6_mapped().into(), to.port()),
            _ => to,
        }
    }
}

/// Takes datagrams in, on a task of its own: the gossip may stop to wait for one at any point.
struct Inbound {
    socket: Arc<UdpSocket>,
    seal: Option<Seal>,
    trust: Trust,
    decoder: Decoder,
    logged: Option<Instant>,
}

impl Inbound {
    async fn run(mut self, to: mpsc::Sender<RecvOutcome>) {
        let mut buffer = vec![0; DATAGRAM_MAX];
        while !to.is_closed() {
            // Errors are about single datagrams, such as one that nobody took.
            let Ok((length, from)) = self.socket.recv_from(&mut buffer).await else {
                tokio::task::yield_now().await;
                continue;
            };
            let from = SocketAddr::new(from.ip().to_canonical(), from.port());
            let Some(plain) = self.accepted(&buffer[..length], from) else { continue };
            match self.decoder.decode(&plain).await {
                Ok(Some(envelope)) => {
                    let _ =
                        to.try_send(RecvOutcome { from_addr: from, envelope, num_bytes_received: length });
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!("a datagram of the gossip could not be read: {error}");
                    match Decoder::open().await {
                        Ok(decoder) => self.decoder = decoder,
                        Err(error) => return tracing::error!("the gossip cannot read any more: {error}"),
                    }
                }
            }
        }
    }

    /// The gossip's own datagram, if whoever sent it is to be listened to.
    fn accepted(&mut self, bytes: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
        let why = match &self.seal {
            None if self.trust.admits(from.ip()) => return Some(bytes.to_vec()),
            None => "it is not near, and there is no cluster-secret".to_owned(),
            Some(seal) => match seal.open(bytes, unix_ms()) {
                Ok(plain) => return Some(plain),
                Err(Unsealed::Stranger) => "it does not know the cluster-secret".to_owned(),
                Err(Unsealed::Untimely(age)) => {
                    format!("its clock differs by {} s, or its datagram is sent again", age / 1000)
                }
            },
        };
        if self.logged.is_none_or(|at| at.elapsed() > LOG_GAP) {
            self.logged = Some(Instant::now());
            tracing::warn!("the gossip does not listen to {from}: {why}");
        }
        None
    }
}

async fn loopback() -> Result<UdpSocket> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await
}

async fn codec() -> Result<(Codec, SocketAddr)> {
    let codec = Codec::open((Ipv4Addr::LOCALHOST, 0).into()).await.map_err(Error::other)?;
    let address = codec.local_addr().map_err(Error::other)?;
    Ok((codec, address))
}

fn lost() -> Error {
    Error::other("a datagram got lost on loopback")
}

/// Makes datagrams of messages.
pub struct Encoder {
    from: Codec,
    address: SocketAddr,
    to: UdpSocket,
    buffer: Vec<u8>,
}

impl Encoder {
    /// A new one.
    pub async fn open() -> Result<Encoder> {
        let (from, address) = codec().await?;
        Ok(Encoder { from, address, to: loopback().await?, buffer: vec![0; DATAGRAM_MAX] })
    }

    /// The datagram.
    pub async fn encode(&mut self, envelope: ChitchatEnvelope) -> Result<Vec<u8>> {
        self.from.send(self.to.local_addr()?, envelope).await.map_err(Error::other)?;
        loop {
            let receiving = timeout(LOOPBACK_TIME_MAX, self.to.recv_from(&mut self.buffer)).await;
            let (length, from) = receiving.map_err(|_| lost())??;
            if from == self.address {
                return Ok(self.buffer[..length].to_vec());
            }
        }
    }
}

/// Makes messages of datagrams.
pub struct Decoder {
    from: UdpSocket,
    address: SocketAddr,
    to: Codec,
    /// The address of `to`.
    target: SocketAddr,
    /// A datagram that can be read, and says what nobody needs to hear: that this is the wrong cluster.
    mark: Vec<u8>,
}

impl Decoder {
    /// A new one.
    pub async fn open() -> Result<Decoder> {
        let from = loopback().await?;
        let (to, target) = codec().await?;
        let message = ChitchatEnvelope { version: ProtocolVersion::V0, message: ChitchatMessage::BadCluster };
        let mark = Encoder::open().await?.encode(message).await?;
        Ok(Decoder { address: from.local_addr()?, from, to, target, mark })
    }

    /// The message, if there is one in it that anybody needs to hear.
    pub async fn decode(&mut self, datagram: &[u8]) -> Result<Option<ChitchatEnvelope>> {
        self.from.send_to(datagram, self.target).await?;
        self.from.send_to(&self.mark, self.target).await?;
        let mut message = None;
        loop {
            let receiving = timeout(LOOPBACK_TIME_MAX, self.to.recv()).await;
            let outcome = receiving.map_err(|_| lost())?.map_err(Error::other)?;
            if outcome.from_addr != self.address {
                continue;
            }
            if outcome.envelope.message == ChitchatMessage::BadCluster {
                return Ok(message);
            }
            message = Some(outcome.envelope);
        }
    }
}
