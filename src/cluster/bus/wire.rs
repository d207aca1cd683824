//! What goes over a connection of the bus.
//!
//! ```text
//! opening   "larder" · version (1) · 0 plain or 1 sealed           once, from who connects, in the clear
//! sealed    length of what follows (2, BE) · Noise message         only with a secret: everything but the opening
//! frame     length of the body (4, LE) · kind (1) · id (8, LE) · body
//! ```
//!
//! The first frame of either side is its [`Hello`]. Then who connected sends requests, and the other side answers with the
//! request's id, in any order. Between times both say that they are alive.

use super::Kind;
use crate::base::ids::NodeId;
use serde::{Deserialize, Serialize};

/// What this program speaks.
pub const VERSION: u8 = 1;
/// Bytes of the opening.
pub const OPENING_LEN: usize = 8;
/// Bytes in front of a frame's body.
pub const HEAD_LEN: usize = 13;
/// Body of a frame of the bus itself at most: a greeting, a refusal in words.
const WORDS_MAX: usize = 1024;

/// The first bytes of a connection.
pub fn opening(is_sealed: bool) -> [u8; OPENING_LEN] {
    let mut bytes = *b"larder\0\0";
    bytes[6] = VERSION;
    bytes[7] = u8::from(is_sealed);
    bytes
}

/// Two connections lead from a node to another: what is urgent never waits behind what is long, on the wire or in a full queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Lane {
    /// Consensus and control: leases hang on them.
    Urgent,
    /// Commands and messages of clients.
    Bulk,
}

impl Lane {
    /// Where requests of a kind go.
    pub fn of(kind: Kind) -> Lane {
        match kind {
            Kind::Consensus | Kind::Control => Lane::Urgent,
            Kind::Forward | Kind::Publish => Lane::Bulk,
        }
    }

    /// Bytes of a body at most. A forwarded command may have the longest string that Redis takes (512 MB), and so may its reply;
    /// the map of a cluster has some ten thousand bytes, and a part of its log not many more.
    pub const fn body_max(self) -> usize {
        match self {
            Lane::Urgent => 4 << 20,
            Lane::Bulk => (512 << 20) + (1 << 20),
        }
    }

    /// Requests of one connection that are not answered yet, at most. Blocking commands may be forwarded by the thousand.
    pub const fn in_flight_max(self) -> usize {
        match self {
            Lane::Urgent => 256,
            Lane::Bulk => 8192,
        }
    }

    /// Bytes of bodies that a node keeps for one direction of a lane at most, over all connections: as many as are under way at a
    /// good pace, and the longest one in any case.
    pub const fn memory_max(self) -> usize {
        match self {
            Lane::Urgent => 64 << 20,
            Lane::Bulk => 1 << 30,
        }
    }
}

const _: () = assert!(Lane::Urgent.body_max() <= Lane::Urgent.memory_max());
const _: () = assert!(Lane::Bulk.body_max() <= Lane::Bulk.memory_max());
const _: () = assert!(Lane::Bulk.memory_max() < u32::MAX as usize);

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// Who speaks. First, and only first.
    Hello,
    /// A request of this kind.
    Request(Kind),
    /// The answer to the request of this id.
    Answer,
    /// The request of this id was not looked at: why, in words. With id 0: there will be no connection.
    Refused,
    /// The request of this id was carried out, or was not: why there is no answer, in words.
    Failed,
    /// Nothing, so that silence is a sign.
    Alive,
}

impl Tag {
    fn code(self) -> u8 {
        match self {
            Tag::Hello => 0,
            Tag::Request(kind) => kind as u8,
            Tag::Answer => 4,
            Tag::Refused => 5,
            Tag::Failed => 6,
            Tag::Alive => 7,
        }
    }

    fn of(code: u8) -> Option<Tag> {
        Some(match code {
            0 => Tag::Hello,
            1 => Tag::Request(Kind::Consensus),
            2 => Tag::Request(Kind::Control),
            3 => Tag::Request(Kind::Forward),
            8 => Tag::Request(Kind::Publish),
            4 => Tag::Answer,
            5 => Tag::Refused,
            6 => Tag::Failed,
            7 => Tag::Alive,
            _ => return None,
        })
    }

    /// Bytes of a body at most.
    fn body_max(self, lane: Lane) -> usize {
        match self {
            Tag::Hello | Tag::Refused | Tag::Failed => WORDS_MAX,
            Tag::Request(_) | Tag::Answer => lane.body_max(),
            Tag::Alive => 0,
        }
    }
}

/// What stands in front of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What it is.
    pub tag: Tag,
    /// Which request it is or belongs to; 0 for none.
    pub id: u64,
    /// Bytes of the body.
    pub length: usize,
}

/// Bytes that are no frame: why, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoFrame(pub &'static str);

impl Head {
    /// The head at the beginning of `bytes`; none if they are too few.
    pub fn read(bytes: &[u8], lane: Lane) -> Result<Option<Head>, NoFrame> {
        let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
        let Some((code, rest)) = rest.split_first() else { return Ok(None) };
        let Some((id, _)) = rest.split_first_chunk::<8>() else { return Ok(None) };
        let tag = Tag::of(*code).ok_or(NoFrame("a frame of a kind that is not known"))?;
        if let Tag::Request(kind) = tag
            && Lane::of(kind) != lane
        {
            return Err(NoFrame("a request of another lane"));
        }
        let length = u32::from_le_bytes(*length) as usize;
        if length > tag.body_max(lane) {
            return Err(NoFrame("a frame that is too long"));
        }
        Ok(Some(Head { tag, id: u64::from_le_bytes(*id), length }))
    }

    /// Its bytes.
    pub fn to_bytes(self) -> [u8; HEAD_LEN] {
        let mut bytes = [0; HEAD_LEN];
        let length = u32::try_from(self.length).expect("bodies are bounded");
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes[4] = self.tag.code();
        bytes[5..].copy_from_slice(&self.id.to_le_bytes());
        bytes
    }
}

/// A frame that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub tag: Tag,
    /// Which request it is or belongs to; 0 for none.
    pub id: u64,
    /// What it says.
    pub body: Vec<u8>,
}

impl Frame {
    /// One with words in it, cut where they are too many.
    pub fn words(tag: Tag, id: u64, words: &str) -> Frame {
        let mut end = words.len().min(WORDS_MAX);
        while !words.is_char_boundary(end) {
            end -= 1;
        }
        Frame { tag, id, body: words.as_bytes()[..end].to_vec() }
    }

    /// What stands in front of its body.
    pub fn head(&self) -> Head {
        Head { tag: self.tag, id: self.id, length: self.body.len() }
    }
}

/// What either side says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Who speaks.
    pub node: NodeId,
    /// The cluster that it is in, if it knows one.
    pub cluster: Option<NodeId>,
    /// What will be asked on this connection.
    pub lane: Lane,
}

impl Hello {
    /// Its bytes.
    pub fn to_bytes(self) -> Vec<u8> {
        postcard::to_allocvec(&self).expect("a greeting can be written")
    }

    /// From the bytes of a body.
    pub fn read(body: &[u8]) -> Result<Hello, NoFrame> {
        postcard::from_bytes(body).map_err(|_| NoFrame("a greeting that makes no sense"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_come_back() {
        for tag in (0..9).filter_map(Tag::of) {
            let lane = if let Tag::Request(kind) = tag { Lane::of(kind) } else { Lane::Urgent };
            let head = Head { tag, id: 7 << 40, length: 0 };
            assert_eq!(Head::read(&head.to_bytes(), lane), Ok(Some(head)));
            assert_eq!(Head::read(&head.to_bytes()[..HEAD_LEN - 1], lane), Ok(None));
        }
    }

    #[test]
    fn what_is_too_long_or_unknown_is_refused_before_it_comes() {
        let head = |tag, length| Head { tag, id: 1, length }.to_bytes();
        let is_refused = |bytes: [u8; HEAD_LEN], lane| Head::read(&bytes, lane).is_err();
        assert!(is_refused(head(Tag::Request(Kind::Control), Lane::Urgent.body_max() + 1), Lane::Urgent));
        assert!(!is_refused(head(Tag::Answer, Lane::Bulk.body_max()), Lane::Bulk));
        assert!(is_refused(head(Tag::Answer, Lane::Bulk.body_max()), Lane::Urgent));
        assert!(is_refused(head(Tag::Request(Kind::Forward), 1), Lane::Urgent));
        assert!(is_refused(head(Tag::Alive, 1), Lane::Urgent));
        let mut unknown = head(Tag::Alive, 0);
        unknown[4] = 200;
        assert!(is_refused(unknown, Lane::Urgent));
    }

    #[test]
    fn greetings_come_back_and_words_are_cut_at_a_character() {
        let hello = Hello { node: NodeId([3; 20]), cluster: Some(NodeId([4; 20])), lane: Lane::Bulk };
        assert_eq!(Hello::read(&hello.to_bytes()), Ok(hello));
        assert!(Hello::read(b"x").is_err());
        let words = Frame::words(Tag::Refused, 1, &"ä".repeat(WORDS_MAX));
        assert_eq!(words.body.len(), WORDS_MAX);
        assert!(
            std::str::from_utf8(&Frame::words(Tag::Refused, 1, &format!("a{}", "ä".repeat(999))).body)
                .is_ok()
        );
    }
}
