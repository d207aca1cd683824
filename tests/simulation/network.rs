//! Streams between nodes: those of the simulated network, with a count of what is on its way, and with readers that may be slow.

use crate::witness::Witness;
use async_trait::async_trait;
use larder::replication::links::{Dial, LinkStream};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use turmoil::net::TcpStream;

/// The port for links.
pub const PORT: u16 = 6379;

/// Bytes that primaries have written and followers have not read, by the addresses of the two ends.
#[derive(Default)]
pub struct Traffic(Mutex<BTreeMap<(SocketAddr, SocketAddr), u64>>);

/// One end of a link.
pub struct Wire {
    stream: TcpStream,
    /// Follower and primary.
    ends: (SocketAddr, SocketAddr),
    is_primary: bool,
    traffic: Arc<Traffic>,
    witness: Arc<Witness>,
    /// How long this end waits before each read, in milliseconds.
    pause_ms: Arc<AtomicU64>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    /// The primary's end of a stream that was accepted.
    pub fn accepted(stream: TcpStream, traffic: &Arc<Traffic>, witness: &Arc<Witness>) -> io::Result<Wire> {
        let ends = (stream.peer_addr()?, stream.local_addr()?);
        Ok(Wire::new(stream, ends, true, traffic, witness, &Arc::default()))
    }

    fn new(
        stream: TcpStream,
        ends: (SocketAddr, SocketAddr),
        is_primary: bool,
        traffic: &Arc<Traffic>,
        witness: &Arc<Witness>,
        pause_ms: &Arc<AtomicU64>,
    ) -> Wire {
        if is_primary {
            traffic.0.lock().insert(ends, 0);
        }
        Wire {
            stream,
            ends,
            is_primary,
            traffic: Arc::clone(traffic),
            witness: Arc::clone(witness),
            pause_ms: Arc::clone(pause_ms),
            pause: None,
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        buffer: &mut ReadBuf,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let pause_ms = this.pause_ms.load(Ordering::Relaxed);
        if pause_ms > 0 && !this.is_primary {
            let begin = || Box::pin(tokio::time::sleep(Duration::from_millis(pause_ms)));
            ready!(this.pause.get_or_insert_with(begin).as_mut().poll(context));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        this.pause = None;
        if !this.is_primary {
            let read = (buffer.filled().len() - before) as u64;
            this.traffic.0.lock().entry(this.ends).and_modify(|in_flight| *in_flight -= read);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        if self.is_primary {
            let in_flight = {
                let mut traffic = self.traffic.0.lock();
                let in_flight = traffic.entry(self.ends).or_default();
                *in_flight += written as u64;
                *in_flight
            };
            self.witness.measure(in_flight);
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.is_primary {
            self.traffic.0.lock().remove(&self.ends);
        }
    }
}

/// Connects over the simulated network.
pub struct Dialer {
    /// Shared by all ends.
    pub traffic: Arc<Traffic>,
    /// Is told what is on its way.
    pub witness: Arc<Witness>,
    /// See [`Wire`].
    pub pause_ms: Arc<AtomicU64>,
}

#[async_trait]
impl Dial for Dialer {
    async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn LinkStream>> {
        let stream = TcpStream::connect((host, port)).await?;
        let ends = (stream.local_addr()?, stream.peer_addr()?);
        Ok(Box::new(Wire::new(stream, ends, false, &self.traffic, &self.witness, &self.pause_ms)))
    }
}
