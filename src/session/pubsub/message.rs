//! Messages as nodes of a cluster tell each other of them.
//!
//! ```text
//! request  version (1) · process (8, LE) · number (8, LE) · messages, up to its end
//! message  channels (1): 0 global, 1 sharded · length of the channel (4, LE) · length of the payload (4, LE) · channel · payload
//! ```
//!
//! The answer is empty. A process numbers its requests to a node from 1 on: one that comes behind a later one is not heard, so that
//! messages of one publisher never change places.

use super::Channels;

/// What this program speaks.
const VERSION: u8 = 1;
/// Bytes in front of the messages.
const HEAD_LEN: usize = 17;
/// Messages of a request at most.
pub const MESSAGES_MAX: usize = 1024;
/// Bytes of a channel with its payload at most: what a request of the bus can carry.
pub const MESSAGE_LEN_MAX: usize = 512 << 20;

/// A message that was published at another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its kind of channel.
    pub channels: Channels,
    /// The channel.
    pub channel: &'a [u8],
    /// What was published.
    pub payload: &'a [u8],
}

/// What one node tells another in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Names the process that tells.
    pub process: u64,
    /// Its requests to the other node, counted.
    pub number: u64,
    /// In the order in which they were published.
    pub messages: Vec<Message<'a>>,
}

/// Why bytes are no request, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl Message<'_> {
    /// Its bytes; none if it is too long to be told.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let len = self.channel.len() + self.payload.len();
        if len > MESSAGE_LEN_MAX {
            return None;
        }
        let mut bytes = Vec::with_capacity(len + 9);
        bytes.push(u8::from(self.channels == Channels::Sharded));
        bytes.extend_from_slice(&(self.channel.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(self.payload.len() as u32).to_le_bytes());
        bytes.extend_from_slice(self.channel);
        bytes.extend_from_slice(self.payload);
        Some(bytes)
    }
}

/// The bytes of a request; `messages` are encoded already.
pub fn request<'a>(process: u64, number: u64, messages: impl Iterator<Item = &'a [u8]> + Clone) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_LEN + messages.clone().map(<[u8]>::len).sum::<usize>());
    bytes.push(VERSION);
    bytes.extend_from_slice(&process.to_le_bytes());
    bytes.extend_from_slice(&number.to_le_bytes());
    messages.for_each(|message| bytes.extend_from_slice(message));
    bytes
}

/// Reads what [`request`] makes.
pub fn decode(bytes: &[u8]) -> Result<Request<'_>, Malformed> {
    let (head, mut rest) = bytes.split_first_chunk::<HEAD_LEN>().ok_or(Malformed("too few bytes"))?;
    let [version, process @ .., _, _, _, _, _, _, _, _] = *head;
    if version != VERSION {
        return Err(Malformed("another version"));
    }
    let number: [u8; 8] = head[9..].try_into().expect("the head has eight bytes left");
    let mut messages = Vec::new();
    while !rest.is_empty() {
        if messages.len() == MESSAGES_MAX {
            return Err(Malformed("too many messages"));
        }
        let (message, behind) = message(rest)?;
        messages.push(message);
        rest = behind;
    }
    Ok(Request { process: u64::from_le_bytes(process), number: u64::from_le_bytes(number), messages })
}

fn message(bytes: &[u8]) -> Result<(Message<'_>, &[u8]), Malformed> {
    let cut = Malformed("a message that is cut off");
    let (&channels, rest) = bytes.split_first().ok_or(cut)?;
    let channels = match channels {
        0 => Channels::Global,
        1 => Channels::Sharded,
        _ => return Err(Malformed("channels of a kind that is not known")),
    };
    let (channel_len, rest) = rest.split_first_chunk::<4>().ok_or(cut)?;
    let (payload_len, rest) = rest.split_first_chunk::<4>().ok_or(cut)?;
    let (channel, rest) = rest.split_at_checked(u32::from_le_bytes(*channel_len) as usize).ok_or(cut)?;
    let (payload, rest) = rest.split_at_checked(u32::from_le_bytes(*payload_len) as usize).ok_or(cut)?;
    Ok((Message { channels, channel, payload }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages() -> [Message<'static>; 3] {
        [
            Message { channels: Channels::Global, channel: b"news", payload: b"hello" },
            Message { channels: Channels::Sharded, channel: b"", payload: b"" },
            Message { channels: Channels::Global, channel: b"c", payload: &[0xff; 300] },
        ]
    }

    fn bytes() -> Vec<u8> {
        let encoded = messages().map(|message| message.encode().expect("it is short"));
        request(7 << 40, 3, encoded.iter().map(Vec::as_slice))
    }

    #[test]
    fn a_request_survives_the_round_trip_and_no_cut_or_flip_panics() {
        let bytes = bytes();
        let expect = Request { process: 7 << 40, number: 3, messages: messages().to_vec() };
        assert_eq!(decode(&bytes), Ok(expect));
        for cut in 0..bytes.len() {
            let is_between = decode(&bytes[..cut]).is_ok_and(|request| request.messages.len() < 3);
            assert!(is_between || decode(&bytes[..cut]).is_err(), "{cut}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                let _ = decode(&damaged);
            }
        }
    }

    #[test]
    fn messages_of_a_request_are_bounded() {
        let empty = messages()[1].encode().expect("it is short");
        let of = |count| request(1, 1, std::iter::repeat_n(empty.as_slice(), count));
        assert!(decode(&of(MESSAGES_MAX)).is_ok());
        assert_eq!(decode(&of(MESSAGES_MAX + 1)), Err(Malformed("too many messages")));
    }

    /// These bytes are what this version writes: nodes of two versions meet while a cluster is upgraded.
    #[test]
    fn stored_requests_are_read() {
        let stored = include_bytes!("../../../fuzz/corpus/published/request").as_slice();
        assert_eq!(stored, bytes());
        assert!(decode(include_bytes!("../../../fuzz/corpus/published/cut")).is_err());
    }
}
