//! Requests: however the bytes come, the commands, the errors and the place where they stand are the same; limits hold; what a
//! decoder of flat arrays reads, and what the words say when they are written again, agrees.
//!
//! Input: options (bit 0 authenticated, bits 1-2 the longest word) · seed of the cuts · the stream.

use super::memory;
use larder::config::file::quote;
use larder::protocol::parser::{Limits, Parser, ProtocolError, Step};

/// Commands as lists of words.
type Commands = Vec<Vec<Vec<u8>>>;

/// What became of a stream.
#[derive(Debug, PartialEq)]
struct Fed {
    commands: Commands,
    /// Bytes of complete requests.
    used: usize,
    error: Option<ProtocolError>,
    is_midway: bool,
}

/// Feeds `stream` in pieces that end at `cuts`, which grow, as a connection does.
fn feed(stream: &[u8], cuts: impl Iterator<Item = usize>, limits: Limits) -> Fed {
    let mut parser = Parser::default();
    let mut fed = Fed { commands: Vec::new(), used: 0, error: None, is_midway: false };
    for end in cuts.map(|cut| cut.min(stream.len())).chain([stream.len()]) {
        loop {
            let buffer = &stream[fed.used..end.max(fed.used)];
            match parser.step(buffer, limits) {
                Ok(Step::NeedMore) => {
                    assert!(parser.wanted_len() == 0 || parser.wanted_len() > buffer.len());
                    break;
                }
                Ok(Step::Empty(len)) => fed.used += forward(len, buffer),
                Ok(Step::Command(len)) => {
                    let words: Vec<&[u8]> = parser.args(buffer).from(0).collect();
                    hold_limits(&words, buffer[0] == b'*', limits);
                    if buffer[0] == b'*' {
                        agrees_with_the_oracle(&words, &buffer[..len]);
                    } else {
                        survives_quoting(&words, limits);
                    }
                    fed.commands.push(words.into_iter().map(<[u8]>::to_vec).collect());
                    fed.used += forward(len, buffer);
                }
                Err(error) => {
                    fed.error = Some(error);
                    return fed;
                }
            }
        }
    }
    fed.is_midway = parser.is_midway();
    parser.shrink();
    fed
}

fn forward(len: usize, buffer: &[u8]) -> usize {
    assert!(len > 0 && len <= buffer.len(), "a request has bytes, and no more than have come");
    len
}

fn hold_limits(words: &[&[u8]], is_array: bool, limits: Limits) {
    assert!(!words.is_empty());
    if is_array {
        assert!(words.iter().all(|word| word.len() <= limits.bulk_len_max));
        assert!(limits.authenticated || words.len() <= 10);
        assert!(limits.authenticated || words.iter().all(|word| word.len() <= 16 * 1024));
    } else {
        assert!(words.iter().map(|word| word.len()).sum::<usize>() <= 64 * 1024);
    }
}

/// The words, written in the only form that everybody takes, are read as they are; and what they were read from is read
/// likewise, if the decoder takes it at all.
fn agrees_with_the_oracle(words: &[&[u8]], request: &[u8]) {
    use redis_protocol::resp2::{decode::decode, types::OwnedFrame};
    let mut plain = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        plain.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        plain.extend_from_slice(word);
        plain.extend_from_slice(b"\r\n");
    }
    let read = |bytes: &[u8]| match decode(bytes) {
        Ok(Some((OwnedFrame::Array(items), len))) => Some((items, len)),
        _ => None,
    };
    let expected: Vec<OwnedFrame> = words.iter().map(|word| OwnedFrame::BulkString(word.to_vec())).collect();
    assert_eq!(read(&plain), Some((expected.clone(), plain.len())));
    if let Some((items, len)) = read(request) {
        assert_eq!((items, len), (expected, request.len()));
    }
}

/// Words of an inline request in quotes are the same words.
fn survives_quoting(words: &[&[u8]], limits: Limits) {
    let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
    let line = quoted.join(" ") + "\r\n";
    let mut parser = Parser::default();
    match parser.step(line.as_bytes(), limits) {
        Ok(step) => {
            assert_eq!(step, Step::Command(line.len()));
            assert!(parser.args(line.as_bytes()).from(0).eq(words.iter().copied()));
        }
        // Escapes take up to four bytes for one.
        Err(error) => assert!(error == ProtocolError::TooBigInline && line.len() > 64 * 1024),
    }
}

/// See the module's page.
pub fn check(data: &[u8]) {
    let [options, seed, stream @ ..] = data else { return };
    let bulk_len_max = [512 << 20, 1 << 20, 16, 0][usize::from(options >> 1 & 3)];
    let limits = Limits { bulk_len_max, authenticated: options & 1 == 1 };
    let whole = memory::within(64 * 1024 + 512 * stream.len(), || feed(stream, std::iter::empty(), limits));
    let step = usize::from(*seed) + 1;
    let cuts = (1..).map(|number| number * step).take_while(|cut| *cut < stream.len());
    assert_eq!(feed(stream, cuts, limits), whole);
    if stream.len() <= 1024 {
        assert_eq!(feed(stream, 0..stream.len(), limits), whole);
    }
}
