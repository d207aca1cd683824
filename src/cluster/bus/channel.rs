//! A channel: frames in both directions over anything that carries bytes in order; with a secret, sealed.
//!
//! With a secret the two sides prove to one another that they know it, and agree on keys that nobody who learns the secret later can
//! find out: Noise `NNpsk0`, whose first message only an owner of the secret can make. Who does not know it gets no byte from this
//! side, only the end of the connection. (Who has recorded a first message and sends it again gets the second one, which tells
//! nothing, and can say nothing after it.) What each side then says of itself is inside the channel, so it is bound to it; that an
//! owner of the secret says who it really is, is taken on trust.
//!
//! Silence is a sign: each side sends something at least each [`ALIVE_GAP`], so who hears nothing for [`SILENCE_MAX`] ends the
//! connection, and so does who waits for [`STALL_MAX`] to get rid of what it has to say.

use super::wire::{Frame, HEAD_LEN, Head, Lane, NoFrame, OPENING_LEN, opening};
use crate::cluster::trust::{KEY_LEN, Trust};
use bytes::{Buf, BytesMut};
use snow::{Builder, HandshakeState, StatelessTransportState};
use std::io::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

/// How often a side that has nothing to say says so.
pub const ALIVE_GAP: Duration = Duration::from_millis(250);
/// How long the other side may say nothing.
pub const SILENCE_MAX: Duration = Duration::from_secs(1);
/// How long the other side may take nothing.
const STALL_MAX: Duration = Duration::from_secs(10);
/// A frame that has begun must come at a pace, after a while to begin with.
const FRAME_TIME: Duration = Duration::from_secs(5);
/// That pace, in bytes a second.
const FRAME_PACE: usize = 1 << 20;
/// Bytes that are taken in, or sealed and sent, together at most.
const PIECE: usize = 60_000;
/// What sealing adds to a piece.
const TAG_LEN: usize = 16;

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";
/// Of the key made from the secret.
const LABEL: &str = "larder bus 1";

const _: () = assert!(PIECE + TAG_LEN <= u16::MAX as usize);

/// Keys of a channel, for both directions.
type Keys = Arc<StatelessTransportState>;

fn wrong(why: &str) -> Error {
    Error::new(ErrorKind::InvalidData, why)
}

impl From<NoFrame> for Error {
    fn from(NoFrame(why): NoFrame) -> Error {
        wrong(why)
    }
}

/// Opens a channel from the side that connected.
pub async fn connect<R, W>(read: R, mut write: W, trust: &Trust) -> Result<(Receiver<R>, Sender<W>)>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let first = opening(trust.is_sealed());
    let mut receiver = Receiver::new(read);
    let mut keys = None;
    if let Some(key) = trust.keys(LABEL).first() {
        let mut handshake = handshake(key, true);
        let mut message = [0; 256];
        let length = handshake.write_message(&[], &mut message).map_err(|_| wrong("the handshake failed"))?;
        let head = u16::try_from(length).expect("a handshake is short").to_be_bytes();
        write.write_all(&[&first[..], &head, &message[..length]].concat()).await?;
        let answer = receiver.message().await.map_err(unless_closed)?;
        handshake.read_message(&answer, &mut message).map_err(|_| wrong("it knows another secret"))?;
        keys = Some(agreed(handshake)?);
    } else {
        write.write_all(&first).await?;
    }
    receiver.keys.clone_from(&keys);
    Ok((receiver, Sender::new(write, keys)))
}

/// Opens a channel on the side that was connected to. Sends nothing to who has not shown that it knows the secret.
pub async fn accept<R, W>(read: R, mut write: W, trust: &Trust) -> Result<(Receiver<R>, Sender<W>)>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut receiver = Receiver::new(read);
    while receiver.raw.len() < OPENING_LEN {
        receiver.read().await?;
    }
    if receiver.raw[..OPENING_LEN] != opening(trust.is_sealed()) {
        return Err(wrong(
            "it speaks another version, or it has a secret where this side has none, or none where it has",
        ));
    }
    receiver.raw.advance(OPENING_LEN);
    let mut keys = None;
    if trust.is_sealed() {
        let message = receiver.message().await?;
        let mut plain = [0; 256];
        let mut candidates = trust.keys(LABEL).into_iter().map(|key| handshake(&key, false));
        let handshake =
            candidates.find_map(|mut one| one.read_message(&message, &mut plain).is_ok().then_some(one));
        let mut handshake = handshake.ok_or_else(|| wrong("it does not know the secret"))?;
        let length = handshake.write_message(&[], &mut plain).map_err(|_| wrong("the handshake failed"))?;
        let head = u16::try_from(length).expect("a handshake is short").to_be_bytes();
        write.write_all(&[&head[..], &plain[..length]].concat()).await?;
        keys = Some(agreed(handshake)?);
    }
    receiver.keys.clone_from(&keys);
    Ok((receiver, Sender::new(write, keys)))
}

fn handshake(key: &[u8; KEY_LEN], connects: bool) -> HandshakeState {
    let builder = Builder::new(PATTERN.parse().expect("the pattern is one"));
    // What was sent in the clear is part of what both sides must agree on.
    let prologue = opening(true);
    let builder = builder.prologue(&prologue).and_then(|builder| builder.psk(0, key));
    let built = builder
        .and_then(|builder| if connects { builder.build_initiator() } else { builder.build_responder() });
    built.expect("the pattern needs a key and has it")
}

fn agreed(handshake: HandshakeState) -> Result<Keys> {
    handshake.into_stateless_transport_mode().map(Arc::new).map_err(|_| wrong("the handshake failed"))
}

/// A side that does not like the first message just leaves.
fn unless_closed(error: Error) -> Error {
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => {
            wrong("it ended the connection at once: it has another secret, or another version")
        }
        _ => error,
    }
}

/// The side of a channel that frames come out of.
pub struct Receiver<R> {
    from: R,
    keys: Option<Keys>,
    /// Messages opened so far.
    opened: u64,
    /// As it came.
    raw: BytesMut,
    /// Opened, if there is a secret; not used otherwise.
    plain: BytesMut,
    /// Whether the other side must say something now and then.
    is_watched: bool,
}

impl<R: AsyncRead + Unpin> Receiver<R> {
    fn new(from: R) -> Receiver<R> {
        let (raw, plain) = (BytesMut::new(), BytesMut::new());
        Receiver { from, keys: None, opened: 0, raw, plain, is_watched: false }
    }

    /// From now on silence is an error.
    pub fn watch(&mut self) {
        self.is_watched = true;
    }

    /// The next frame's head. While this waits, nobody else does: silence counts only here and in `body`.
    pub async fn head(&mut self, lane: Lane) -> Result<Head> {
        loop {
            if let Some(head) = Head::read(self.bytes(), lane)? {
                self.bytes().advance(HEAD_LEN);
                return Ok(head);
            }
            if self.bytes().is_empty() {
                self.more().await?;
            } else {
                timeout(FRAME_TIME, self.more()).await.map_err(|_| half())??;
            }
        }
    }

    /// The body that follows.
    pub async fn body(&mut self, head: Head) -> Result<Vec<u8>> {
        let begun = Instant::now();
        // Memory is taken as bytes come, and not because a length was named.
        let mut body = Vec::with_capacity(head.length.min(PIECE));
        loop {
            let bytes = self.bytes();
            let taken = bytes.len().min(head.length - body.len());
            body.extend_from_slice(&bytes[..taken]);
            bytes.advance(taken);
            if body.len() == head.length {
                return Ok(body);
            }
            let due = begun + FRAME_TIME + Duration::from_secs((body.len() / FRAME_PACE) as u64);
            timeout_at(due, self.more()).await.map_err(|_| half())??;
        }
    }

    /// Bytes of frames that are there.
    fn bytes(&mut self) -> &mut BytesMut {
        if self.keys.is_some() { &mut self.plain } else { &mut self.raw }
    }

    /// Waits for more bytes of frames.
    async fn more(&mut self) -> Result<()> {
        let Some(keys) = self.keys.clone() else { return self.read().await };
        let message = self.message().await?;
        let start = self.plain.len();
        self.plain.resize(start + message.len(), 0);
        let length = keys.read_message(self.opened, &message, &mut self.plain[start..]);
        let length = length.map_err(|_| wrong("bytes that the other side has not sealed"))?;
        self.plain.truncate(start + length);
        self.opened += 1;
        Ok(())
    }

    /// The next Noise message.
    async fn message(&mut self) -> Result<BytesMut> {
        loop {
            if let Some((length, rest)) = self.raw.split_first_chunk::<2>() {
                let length = usize::from(u16::from_be_bytes(*length));
                if rest.len() >= length {
                    self.raw.advance(2);
                    return Ok(self.raw.split_to(length));
                }
            }
            self.read().await?;
        }
    }

    /// Waits for bytes.
    async fn read(&mut self) -> Result<()> {
        self.raw.reserve(PIECE);
        let reading = self.from.read_buf(&mut self.raw);
        let length = if self.is_watched {
            let silent = || Error::new(ErrorKind::TimedOut, "it has said nothing for a second");
            timeout(SILENCE_MAX, reading).await.map_err(|_| silent())??
        } else {
            reading.await?
        };
        if length == 0 {
            return Err(Error::new(ErrorKind::UnexpectedEof, "it closed the connection"));
        }
        Ok(())
    }
}

fn half() -> Error {
    Error::new(ErrorKind::TimedOut, "a frame began and did not end in time")
}

/// The side of a channel that frames go into.
pub struct Sender<W> {
    to: W,
    keys: Option<Keys>,
    /// Messages sealed so far.
    sealed: u64,
    /// What is to be sent.
    plain: Vec<u8>,
    /// The same, sealed.
    message: Vec<u8>,
}

impl<W: AsyncWrite + Unpin> Sender<W> {
    fn new(to: W, keys: Option<Keys>) -> Sender<W> {
        Sender { to, keys, sealed: 0, plain: Vec::with_capacity(PIECE), message: Vec::new() }
    }

    /// Adds a frame to what is to be sent; sends when it is enough.
    pub async fn put(&mut self, frame: &Frame) -> Result<()> {
        let head = frame.head().to_bytes();
        for part in [&head[..], &frame.body[..]] {
            let mut rest = part;
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(PIECE - self.plain.len()));
                self.plain.extend_from_slice(now);
                rest = later;
                if self.plain.len() == PIECE {
                    self.flush().await?;
                }
            }
        }
        Ok(())
    }

    /// Sends all.
    pub async fn flush(&mut self) -> Result<()> {
        if self.plain.is_empty() {
            return Ok(());
        }
        let bytes = match &self.keys {
            None => &self.plain,
            Some(keys) => {
                self.message.resize(2 + self.plain.len() + TAG_LEN, 0);
                let length = keys.write_message(self.sealed, &self.plain, &mut self.message[2..]);
                let length = length.map_err(|_| wrong("the connection has sealed all it can"))?;
                self.sealed += 1;
                let head = u16::try_from(length).expect("a piece is short enough").to_be_bytes();
                self.message[..2].copy_from_slice(&head);
                &self.message
            }
        };
        let stalled = || Error::new(ErrorKind::TimedOut, "it takes nothing any more");
        timeout(STALL_MAX, self.to.write_all(bytes)).await.map_err(|_| stalled())??;
        self.plain.clear();
        Ok(())
    }

    /// What frames go into, for bytes that are none.
    #[cfg(test)]
    pub fn into_inner(self) -> W {
        self.to
    }

    /// Says that there is nothing more to come.
    pub async fn end(&mut self) {
        if self.flush().await.is_ok() {
            let _ = timeout(SILENCE_MAX, self.to.shutdown()).await;
        }
    }
}
