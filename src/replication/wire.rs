//! What goes over a link: frames, and the messages in them.
//!
//! ```text
//! frame     length of what follows the checksum (4, LE) · CRC-32C of that (4, LE) · kind (1) · body
//! records   number of the batch (8, LE) · position (8, LE) · then records: length (4, LE) · payload, as the journal has it
//! part      the next bytes of a record that is too long for a frame; the batch that ends with it follows
//! chunk     offset in the snapshot (8, LE) · length once unpacked (4, LE) · frames of zstd
//! others    a message, as postcard writes it
//! ```
//!
//! The first frame of either side is its [`Hello`], which says the version; a side that does not know the other's says so and
//! ends the link. Frames of any kind are bounded, so a peer cannot make this node reserve more than a frame. The stream below
//! may be anything that carries bytes in order: a socket, TLS, the simulation.

use crate::base::gentle;
use crate::base::ids::{Epoch, Lsn, PartitionId, Point};
use bytes::{Buf, BytesMut};
use serde::{Deserialize, Serialize};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The version this program speaks.
pub const VERSION: u32 = 2;
/// A frame's length at most.
pub const FRAME_MAX: usize = 1 << 20;
/// Records are put together into a frame until it is as long as this, or less; longer records go in parts.
pub const BATCH_BYTES: usize = 256 << 10;
/// Bytes in front of a frame's kind.
const HEAD: usize = 8;

const MESSAGE: u8 = 1;
const RECORDS: u8 = 2;
const PART: u8 = 3;
const CHUNK: u8 = 4;

/// What either side says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Of the wire.
    pub version: u32,
    /// Identity of the node, as its data folder has it.
    pub node: String,
    /// Number of partitions, the same on all nodes.
    pub partitions: u16,
    /// Where clients reach it; an empty host is the one the link comes from.
    pub address: (String, u16),
}

/// What a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Names it: never used twice.
    pub id: u64,
    /// Which partition.
    pub partition: PartitionId,
    /// Where its history stands in it.
    pub point: Point,
    /// Its length.
    pub bytes: u64,
    /// CRC-32C of it.
    pub checksum: u32,
}

/// How a follower gets what it lacks of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Plan {
    /// The records behind its point follow.
    Stream,
    /// The journal does not reach back so far: it is to ask for a snapshot. What it has is the beginning of this history.
    Behind,
    /// The same, but whether what it has is the beginning of this history cannot be told.
    Unknown,
    /// What it has is another history.
    OtherHistory,
}

/// Messages but for those that carry data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Comes first.
    Hello(Hello),
    /// The link cannot be: why, in words.
    Refused(String),
    /// From a follower: it wants these partitions from these points on, once the other side's history is of this epoch or a newer
    /// one, and if it is the epoch of the point, at least as long: before that it lacks what the follower has. Epoch 0: at once.
    Follow(Vec<(PartitionId, Point, Epoch)>),
    /// To a follower: how it gets there.
    Plan(PartitionId, Plan),
    /// From a follower: which chain a transaction of this partition has.
    AskChain(PartitionId, Lsn),
    /// To a follower: the chain, as far as it is known.
    Chain(PartitionId, Lsn, Chain),
    /// From a follower: a snapshot of this partition, from an offset of that one on if it is still there.
    /// It stands at this transaction or behind it.
    WantSnapshot(PartitionId, Option<(u64, u64)>, Lsn),
    /// To a follower: chunks of this snapshot follow, from this offset on.
    Snapshot(Offer, u64),
    /// To a follower: there can be no snapshot for the moment: why, in words.
    NoSnapshot(PartitionId, String),
    /// From a follower: batches up to the first number are in its journal, up to the second on its disk; so many bytes of data
    /// frames were taken in since the link began.
    Ack {
        /// Number of a batch.
        journaled: u64,
        /// Number of a batch.
        synced: u64,
        /// Bytes.
        consumed: u64,
    },
    /// To a follower: where the primary's journal ends.
    Heartbeat {
        /// Up to which all is written.
        position: u64,
    },
}

/// What a frame holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A message.
    Message(Message),
    /// Records of the journal.
    Records(Batch),
    /// The next bytes of a long record.
    Part(Vec<u8>),
    /// A piece of a snapshot, unpacked.
    Chunk {
        /// Where it belongs.
        offset: u64,
        /// What it is.
        bytes: Vec<u8>,
    },
}

/// Records that go together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Counts batches of a link, from 1.
    pub number: u64,
    /// With these the follower has all up to this position of the primary's journal, of the partitions that stream.
    pub position: u64,
    /// The records' payloads, each with its length.
    records: Vec<u8>,
}

impl Batch {
    /// An empty one.
    pub fn new(number: u64) -> Batch {
        Batch { number, ..Batch::default() }
    }

    /// Adds a record.
    pub fn push(&mut self, payload: &[u8]) {
        self.records.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        self.records.extend_from_slice(payload);
    }

    /// Bytes of its records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it has no records.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The records' payloads. What comes behind a length that is not true is not there.
    pub fn records(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.records[..];
        std::iter::from_fn(move || {
            let (len, tail) = rest.split_first_chunk::<4>()?;
            let (record, tail) = tail.split_at_checked(u32::from_le_bytes(*len) as usize)?;
            rest = tail;
            Some(record)
        })
    }

    fn is_whole(&self) -> bool {
        self.records().map(|record| record.len() + 4).sum::<usize>() == self.records.len()
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a malformed frame: {what}"))
}

/// Reads a frame's kind and body.
pub fn decode(bytes: &[u8]) -> io::Result<Frame> {
    let (kind, body) = bytes.split_first().ok_or_else(|| malformed("no kind"))?;
    match *kind {
        MESSAGE => {
            let message = postcard::from_bytes(body).map_err(|_| malformed("an unknown message"))?;
            Ok(Frame::Message(message))
        }
        RECORDS => {
            let (number, position) = (take_u64(body, 0)?, take_u64(body, 8)?);
            let batch = Batch { number, position, records: body[16..].to_vec() };
            if batch.is_whole() { Ok(Frame::Records(batch)) } else { Err(malformed("a record that is cut")) }
        }
        PART => Ok(Frame::Part(body.to_vec())),
        CHUNK => {
            let offset = take_u64(body, 0)?;
            let len = body.get(8..12).ok_or_else(|| malformed("a short chunk"))?;
            let len = u32::from_le_bytes(len.try_into().expect("four bytes")) as usize;
            if len > FRAME_MAX {
                return Err(malformed("a chunk that is too long"));
            }
            let bytes = zstd::bulk::decompress(&body[12..], len).map_err(|_| malformed("a chunk"))?;
            if bytes.len() == len { Ok(Frame::Chunk { offset, bytes }) } else { Err(malformed("a chunk")) }
        }
        _ => Err(malformed("an unknown kind")),
    }
}

fn take_u64(bytes: &[u8], at: usize) -> io::Result<u64> {
    let bytes = bytes.get(at..at + 8).ok_or_else(|| malformed("it is short"))?;
    Ok(u64::from_le_bytes(bytes.try_into().expect("eight bytes")))
}

/// Appends a frame.
fn put_frame(out: &mut Vec<u8>, kind: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    out.push(kind);
    fill(out);
    let len = out.len() - start - HEAD;
    assert!(len <= FRAME_MAX, "frames are made within their bound");
    let crc = crc32c::crc32c(&out[start + HEAD..]);
    out[start..start + 4].copy_from_slice(&(len as u32).to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// Appends a message.
pub fn put_message(out: &mut Vec<u8>, message: &Message) {
    let body = postcard::to_allocvec(message).expect("messages have no forms that cannot be written");
    put_frame(out, MESSAGE, |out| out.extend_from_slice(&body));
}

/// Appends a batch of records.
pub fn put_records(out: &mut Vec<u8>, batch: &Batch) {
    put_frame(out, RECORDS, |out| {
        out.extend_from_slice(&batch.number.to_le_bytes());
        out.extend_from_slice(&batch.position.to_le_bytes());
        out.extend_from_slice(&batch.records);
    });
}

/// Appends the next bytes of a long record.
pub fn put_part(out: &mut Vec<u8>, bytes: &[u8]) {
    put_frame(out, PART, |out| out.extend_from_slice(bytes));
}

/// What a journal says of a transaction's chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Chain {
    /// It is this one.
    Is(u32),
    /// The history does not go up to it.
    NotYet,
    /// The journal does not reach back to it.
    NotKept,
}

/// How hard zstd tries: the quickest of its usual levels.
const PACKED_LEVEL: i32 = 1;
/// Bytes packed before the work steps aside. Each is a frame of zstd's, one behind the other.
const PACKED_AT_ONCE: usize = 64 << 10;

/// A piece of a snapshot, packed.
#[derive(Debug)]
pub struct Packed {
    /// Where it begins in the snapshot.
    pub offset: u64,
    /// Its length once unpacked.
    pub len: usize,
    bytes: Vec<u8>,
}

impl Packed {
    /// Packs what stands in a snapshot from `offset` on, in small steps.
    pub fn new(offset: u64, bytes: &[u8]) -> io::Result<Packed> {
        let mut compressor = zstd::bulk::Compressor::new(PACKED_LEVEL)?;
        let mut packed = Vec::new();
        for step in bytes.chunks(PACKED_AT_ONCE) {
            packed.extend(compressor.compress(step)?);
            gentle::step_aside();
        }
        Ok(Packed { offset, len: bytes.len(), bytes: packed })
    }
}

/// Appends a piece of a snapshot.
pub fn put_chunk(out: &mut Vec<u8>, packed: &Packed) {
    put_frame(out, CHUNK, |out| {
        out.extend_from_slice(&packed.offset.to_le_bytes());
        out.extend_from_slice(&(packed.len as u32).to_le_bytes());
        out.extend_from_slice(&packed.bytes);
    });
}

/// Reads frames. What was read of a frame stays, so that a read can be given up at any time and begun again.
pub struct FrameReader<R> {
    from: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads frames from `from`.
    pub fn new(from: R) -> FrameReader<R> {
        FrameReader { from, buffer: BytesMut::new() }
    }

    /// The next frame, and how many bytes it took. An error of the kind `UnexpectedEof` is the end of the link.
    pub async fn next(&mut self) -> io::Result<(Frame, usize)> {
        loop {
            if let Some(len) = self.frame_len()? {
                let frame = decode(&self.buffer[HEAD..len]);
                self.buffer.advance(len);
                return Ok((frame?, len));
            }
            self.buffer.reserve(64 << 10);
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The length of the frame that is there as a whole.
    fn frame_len(&self) -> io::Result<Option<usize>> {
        let Some(head) = self.buffer.first_chunk::<HEAD>() else { return Ok(None) };
        let [a, b, c, d, crc @ ..] = *head;
        let len = u32::from_le_bytes([a, b, c, d]) as usize;
        if len > FRAME_MAX {
            return Err(malformed("it is too long"));
        }
        let Some(rest) = self.buffer.get(HEAD..HEAD + len) else { return Ok(None) };
        if crc32c::crc32c(rest) != u32::from_le_bytes(crc) {
            return Err(malformed("its checksum is wrong"));
        }
        Ok(Some(HEAD + len))
    }

    /// The next frame, which must be a message.
    pub async fn message(&mut self) -> io::Result<Message> {
        match self.next().await? {
            (Frame::Message(message), _) => Ok(message),
            _ => Err(malformed("data where a message should be")),
        }
    }
}

/// Sends a message.
pub async fn send(to: &mut (impl AsyncWrite + Unpin), message: &Message) -> io::Result<()> {
    let mut out = Vec::new();
    put_message(&mut out, message);
    to.write_all(&out).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages() -> Vec<Message> {
        let point = Point { lsn: Lsn(u64::MAX), chain: 7, ..Point::default() };
        let hello = Hello { version: 1, node: "n".into(), partitions: 16, address: (String::new(), 6379) };
        vec![
            Message::Hello(hello),
            Message::Refused("no".into()),
            Message::Follow(vec![(PartitionId(3), point, Epoch(2))]),
            Message::Plan(PartitionId(3), Plan::OtherHistory),
            Message::Chain(PartitionId(1), Lsn(2), Chain::NotKept),
            Message::WantSnapshot(PartitionId(1), Some((2, 3)), Lsn(4)),
            Message::Ack { journaled: 1, synced: 2, consumed: 3 },
            Message::Heartbeat { position: 1 },
        ]
    }

    #[tokio::test]
    async fn frames_survive_the_way_in_pieces_of_any_length() {
        let mut out = Vec::new();
        let mut expected = Vec::new();
        for message in messages() {
            put_message(&mut out, &message);
            expected.push(Frame::Message(message));
        }
        let mut batch = Batch::new(4);
        batch.position = 99;
        batch.push(b"first");
        batch.push(b"");
        batch.push(&[7; 1000]);
        put_records(&mut out, &batch);
        expected.push(Frame::Records(batch));
        put_part(&mut out, &[1; 500]);
        expected.push(Frame::Part(vec![1; 500]));
        let bytes: Vec<u8> = (0..5 * PACKED_AT_ONCE / 2).map(|number| (number / 100) as u8).collect();
        put_chunk(&mut out, &Packed::new(8, &bytes).expect("packs"));
        expected.push(Frame::Chunk { offset: 8, bytes });
        for len in [1, 7, 8, 9, 100, out.len()] {
            let (mut to, from) = tokio::io::duplex(len);
            let bytes = out.clone();
            let sending = tokio::spawn(async move { to.write_all(&bytes).await });
            let mut reader = FrameReader::new(from);
            for frame in &expected {
                assert_eq!(&reader.next().await.expect("whole").0, frame);
            }
            let end = reader.next().await.expect_err("that was all");
            assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
            sending.await.expect("ends").expect("sends");
        }
    }

    #[tokio::test]
    async fn a_flipped_byte_or_a_length_beyond_the_bound_ends_the_link() {
        let mut out = Vec::new();
        put_message(&mut out, &messages()[2]);
        for at in 0..out.len() {
            let mut bytes = out.clone();
            bytes[at] ^= 0x10;
            assert!(FrameReader::new(&bytes[..]).next().await.is_err(), "byte {at}");
        }
        let long = [&(FRAME_MAX as u32 + 1).to_le_bytes()[..], &[0; 100]].concat();
        let error = FrameReader::new(&long[..]).next().await.expect_err("too long");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic() {
        for kind in 0..6 {
            for len in 0..40 {
                let _ = decode(&[&[kind][..], &vec![0xFF; len]].concat());
                let _ = decode(&[&[kind][..], &vec![0; len]].concat());
            }
        }
    }
}
