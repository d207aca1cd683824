//! A reply as a value. Handlers build it without knowing the protocol version; only [`super::encode`] tells RESP2 from RESP3.

use super::encode::Version;
use super::error::ErrorReply;
use crate::base::blob::Slice;

/// What a command answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// `+OK`
    Ok,
    /// A status line of known words, without `+`.
    Simple(&'static str),
    /// A status line of words of the moment.
    Status(String),
    /// An error line.
    Error(ErrorReply),
    /// A 64-bit integer.
    Int(i64),
    /// A byte string.
    Bulk(Vec<u8>),
    /// A byte string that shares a stored row's memory.
    Slice(Slice),
    /// A byte string of known words.
    Text(&'static str),
    /// The absent value: `$-1` in RESP2, `_` in RESP3.
    Null,
    /// The absent list: `*-1` in RESP2, `_` in RESP3.
    NullArray,
    /// A list.
    Array(Vec<Reply>),
    /// Pairs, keys and values in turn: a flat list in RESP2, a map in RESP3. The length is even.
    Map(Vec<Reply>),
    /// Pairs in turn, as HRANDFIELD and ZRANGE answer them: a flat list in RESP2, a list of lists of two in RESP3.
    Pairs(Vec<Reply>),
    /// A set: a list in RESP2.
    Set(Vec<Reply>),
    /// A double: its text as a byte string in RESP2.
    Double(f64),
    /// A double with more digits than one has, as text: a byte string in RESP2.
    Decimal(String),
    /// True or false: 1 or 0 in RESP2.
    Bool(bool),
    /// A text with its format (`txt`, `mkd`): a byte string in RESP2.
    Verbatim(&'static str, String),
    /// An integer of any size, as text: a byte string in RESP2.
    BigNumber(String),
    /// Out-of-band data: a list in RESP2.
    Push(Vec<Reply>),
    /// A reply preceded by attributes (pairs): the reply alone in RESP2.
    Attributed(Vec<Reply>, Box<Reply>),
    /// A reply in another version of the protocol than the one in force now: HELLO in a transaction changes it for what follows.
    In(Version, Box<Reply>),
    /// Several replies in a row (`CLIENT REPLY`, `SUBSCRIBE`); empty means that nothing is sent.
    Many(Vec<Reply>),
}

impl Reply {
    /// A byte string copied from `bytes`.
    pub fn bulk(bytes: impl AsRef<[u8]>) -> Reply {
        Reply::Bulk(bytes.as_ref().to_vec())
    }

    /// The byte string in `slice`, or null.
    pub fn optional(slice: Option<Slice>) -> Reply {
        slice.map_or(Reply::Null, Reply::Slice)
    }

    /// The same in the version in which it was asked for, where that is not the one in `force`.
    #[must_use]
    pub fn in_version(self, asked: Version, force: Version) -> Reply {
        if asked == force { self } else { Reply::In(asked, Box::new(self)) }
    }

    /// Whether this is out-of-band data and nothing else, which is sent even where replies are not wanted (CLIENT REPLY).
    pub fn is_push(&self) -> bool {
        match self {
            Reply::Push(_) => true,
            Reply::Many(replies) => replies.iter().all(Reply::is_push),
            _ => false,
        }
    }

    /// Whether this is an error.
    pub fn is_error(&self) -> bool {
        matches!(self, Reply::Error(_))
    }
}

impl From<bool> for Reply {
    /// Redis's usual truth: the integer 1 or 0 in both protocols.
    fn from(value: bool) -> Reply {
        Reply::Int(i64::from(value))
    }
}

impl From<i64> for Reply {
    fn from(value: i64) -> Reply {
        Reply::Int(value)
    }
}

impl From<ErrorReply> for Reply {
    fn from(error: ErrorReply) -> Reply {
        Reply::Error(error)
    }
}
