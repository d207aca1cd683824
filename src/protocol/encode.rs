//! Writes replies as bytes. The only place that knows what RESP2 and RESP3 make of one and the same [`Reply`].
//!
//! Everything goes straight into the connection's output buffer: no intermediate text, no allocation but the buffer's growth.
//! What RESP2 has no form for becomes what Redis makes of it: maps, sets and pushes are lists, doubles, texts and big numbers
//! are byte strings, truth is 1 or 0, attributes are left out.

use super::error::ErrorReply;
use super::reply::Reply;
use crate::base::number;

/// The version of the protocol a connection has asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// What every connection starts with.
    #[default]
    Resp2,
    /// After `HELLO 3`.
    Resp3,
}

impl Version {
    /// 2 or 3.
    pub const fn number(self) -> i64 {
        match self {
            Version::Resp2 => 2,
            Version::Resp3 => 3,
        }
    }
}

/// Appends `reply` to `out`.
#[inline]
pub fn encode(reply: &Reply, version: Version, out: &mut Vec<u8>) {
    match reply {
        Reply::Ok => out.extend_from_slice(b"+OK\r\n"),
        Reply::Int(value) => integer(b':', *value, out),
        Reply::Slice(bytes) => bulk(bytes, out),
        Reply::Bulk(bytes) => bulk(bytes, out),
        Reply::Null => out.extend_from_slice(null(version)),
        _ => encode_other(reply, version, out),
    }
}

fn encode_other(reply: &Reply, version: Version, out: &mut Vec<u8>) {
    let is_3 = version == Version::Resp3;
    match reply {
        Reply::Ok | Reply::Int(_) | Reply::Slice(_) | Reply::Bulk(_) | Reply::Null => {
            encode(reply, version, out);
        }
        Reply::Simple(words) => line(b'+', words.as_bytes(), out),
        Reply::Status(words) => line(b'+', words.as_bytes(), out),
        Reply::Error(ErrorReply(words)) => line(b'-', words, out),
        Reply::Text(words) => bulk(words.as_bytes(), out),
        Reply::NullArray => out.extend_from_slice(if is_3 { b"_\r\n" } else { b"*-1\r\n" }),
        Reply::Array(items) => aggregate(b'*', items, version, out),
        Reply::Map(pairs) if is_3 => aggregate_pairs(b'%', pairs, version, out),
        Reply::Map(pairs) => aggregate(b'*', pairs, version, out),
        Reply::Pairs(pairs) if is_3 => {
            array_head(pairs.len() / 2, out);
            pairs.chunks(2).for_each(|pair| aggregate(b'*', pair, version, out));
        }
        Reply::Pairs(pairs) => aggregate(b'*', pairs, version, out),
        Reply::Set(items) => aggregate(if is_3 { b'~' } else { b'*' }, items, version, out),
        Reply::Push(items) => aggregate(if is_3 { b'>' } else { b'*' }, items, version, out),
        Reply::Double(value) => double(*value, version, out),
        Reply::Decimal(text) if is_3 => line(b',', text.as_bytes(), out),
        Reply::Decimal(text) => bulk(text.as_bytes(), out),
        Reply::Bool(value) if is_3 => out.extend_from_slice(if *value { b"#t\r\n" } else { b"#f\r\n" }),
        Reply::Bool(value) => integer(b':', i64::from(*value), out),
        Reply::Verbatim(format, text) if is_3 => verbatim(format, text, out),
        Reply::Verbatim(_, text) => bulk(text.as_bytes(), out),
        Reply::BigNumber(digits) if is_3 => line(b'(', digits.as_bytes(), out),
        Reply::BigNumber(digits) => bulk(digits.as_bytes(), out),
        Reply::Attributed(pairs, reply) => {
            if is_3 {
                aggregate_pairs(b'|', pairs, version, out);
            }
            encode(reply, version, out);
        }
        Reply::In(version, reply) => encode(reply, *version, out),
        Reply::Many(replies) => replies.iter().for_each(|reply| encode(reply, version, out)),
    }
}

/// Appends an error line whose words may be any bytes; line ends among them become spaces.
pub fn error_line(words: &[u8], out: &mut Vec<u8>) {
    line(b'-', words, out);
}

/// Appends a byte string.
#[inline]
pub fn bulk(bytes: &[u8], out: &mut Vec<u8>) {
    // Room for the whole at once: one check instead of five, and a large value makes the buffer grow but once.
    out.reserve(bytes.len() + 16);
    integer(b'$', bytes.len() as i64, out);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends the head of a list of `len` items, which are to follow.
#[inline]
pub fn array_head(len: usize, out: &mut Vec<u8>) {
    integer(b'*', len as i64, out);
}

/// Appends the head of out-of-band data of `len` items, which are to follow, as RESP3 writes it.
pub fn push_head(len: usize, out: &mut Vec<u8>) {
    integer(b'>', len as i64, out);
}

#[inline]
fn null(version: Version) -> &'static [u8] {
    match version {
        Version::Resp2 => b"$-1\r\n",
        Version::Resp3 => b"_\r\n",
    }
}

#[inline]
fn integer(mark: u8, value: i64, out: &mut Vec<u8>) {
    if (0..=9).contains(&value) {
        out.extend_from_slice(&[mark, b'0' + value as u8, b'\r', b'\n']);
        return;
    }
    out.push(mark);
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// A line can not hold line ends: they become spaces, or they would be read as the next reply.
fn line(mark: u8, words: &[u8], out: &mut Vec<u8>) {
    out.push(mark);
    let start = out.len();
    out.extend_from_slice(words);
    if memchr::memchr2(b'\r', b'\n', words).is_some() {
        for byte in out[start..].iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n')) {
            *byte = b' ';
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn aggregate(mark: u8, items: &[Reply], version: Version, out: &mut Vec<u8>) {
    integer(mark, items.len() as i64, out);
    for item in items {
        encode(item, version, out);
    }
}

fn aggregate_pairs(mark: u8, pairs: &[Reply], version: Version, out: &mut Vec<u8>) {
    debug_assert!(pairs.len().is_multiple_of(2), "keys and values in turn");
    integer(mark, (pairs.len() / 2) as i64, out);
    for item in pairs {
        encode(item, version, out);
    }
}

fn double(value: f64, version: Version, out: &mut Vec<u8>) {
    let text = number::format_f64(value);
    match version {
        Version::Resp2 => bulk(text.as_bytes(), out),
        Version::Resp3 => line(b',', text.as_bytes(), out),
    }
}

fn verbatim(format: &str, text: &str, out: &mut Vec<u8>) {
    debug_assert_eq!(format.len(), 3, "a format has three letters");
    integer(b'=', (text.len() + 4) as i64, out);
    out.extend_from_slice(format.as_bytes());
    out.push(b':');
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::blob::Slice;
    use proptest::prelude::*;
    use redis_protocol::{resp2, resp3};

    fn bytes(reply: &Reply, version: Version) -> Vec<u8> {
        let mut out = Vec::new();
        encode(reply, version, &mut out);
        out
    }

    #[test]
    fn each_reply_has_its_form_in_both_protocols() {
        let pair = || vec![Reply::Text("k"), Reply::Int(-10)];
        for (reply, in_2, in_3) in [
            (Reply::Ok, "+OK\r\n", "+OK\r\n"),
            (Reply::Simple("QUEUED"), "+QUEUED\r\n", "+QUEUED\r\n"),
            (Reply::Status("a\r\nb".into()), "+a  b\r\n", "+a  b\r\n"),
            (Reply::Error(crate::protocol::error::SYNTAX), "-ERR syntax error\r\n", "-ERR syntax error\r\n"),
            (Reply::Int(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
            (Reply::Bulk(vec![b'x'; 10]), "$10\r\nxxxxxxxxxx\r\n", "$10\r\nxxxxxxxxxx\r\n"),
            (Reply::Slice(Slice::copy_from(b"")), "$0\r\n\r\n", "$0\r\n\r\n"),
            (Reply::Null, "$-1\r\n", "_\r\n"),
            (Reply::NullArray, "*-1\r\n", "_\r\n"),
            (Reply::Array(vec![]), "*0\r\n", "*0\r\n"),
            (Reply::Map(pair()), "*2\r\n$1\r\nk\r\n:-10\r\n", "%1\r\n$1\r\nk\r\n:-10\r\n"),
            (Reply::Pairs(pair()), "*2\r\n$1\r\nk\r\n:-10\r\n", "*1\r\n*2\r\n$1\r\nk\r\n:-10\r\n"),
            (Reply::Set(pair()), "*2\r\n$1\r\nk\r\n:-10\r\n", "~2\r\n$1\r\nk\r\n:-10\r\n"),
            (Reply::Push(pair()), "*2\r\n$1\r\nk\r\n:-10\r\n", ">2\r\n$1\r\nk\r\n:-10\r\n"),
            (Reply::Double(3.0), "$1\r\n3\r\n", ",3\r\n"),
            (Reply::Decimal("1.5".to_owned()), "$3\r\n1.5\r\n", ",1.5\r\n"),
            (Reply::Double(f64::INFINITY), "$3\r\ninf\r\n", ",inf\r\n"),
            (Reply::Double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n"),
            (Reply::Double(f64::NAN), "$3\r\nnan\r\n", ",nan\r\n"),
            (Reply::Bool(true), ":1\r\n", "#t\r\n"),
            (Reply::Bool(false), ":0\r\n", "#f\r\n"),
            (Reply::Verbatim("txt", "hi".into()), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
            (Reply::BigNumber("123".into()), "$3\r\n123\r\n", "(123\r\n"),
            (Reply::Attributed(pair(), Box::new(Reply::Null)), "$-1\r\n", "|1\r\n$1\r\nk\r\n:-10\r\n_\r\n"),
            (Reply::Many(vec![Reply::Ok, Reply::Int(1)]), "+OK\r\n:1\r\n", "+OK\r\n:1\r\n"),
            (Reply::Many(vec![]), "", ""),
            (Reply::Null.in_version(Version::Resp2, Version::Resp3), "$-1\r\n", "$-1\r\n"),
        ] {
            assert_eq!(String::from_utf8_lossy(&bytes(&reply, Version::Resp2)), in_2);
            assert_eq!(String::from_utf8_lossy(&bytes(&reply, Version::Resp3)), in_3);
        }
    }

    #[test]
    fn an_error_of_any_bytes_stays_one_line() {
        let mut out = Vec::new();
        error_line(b"ERR \xff\n", &mut out);
        assert_eq!(out, b"-ERR \xff \r\n");
    }

    fn reply() -> impl Strategy<Value = Reply> {
        let leaf = prop_oneof![
            Just(Reply::Ok),
            Just(Reply::Null),
            any::<i64>().prop_map(Reply::Int),
            proptest::collection::vec(any::<u8>(), 0..20).prop_map(Reply::Bulk),
            "[a-z \r\n]{0,9}".prop_map(Reply::Status),
            any::<bool>().prop_map(Reply::Bool),
            (-1e6..1e6f64).prop_map(Reply::Double),
            "[a-z]{0,9}".prop_map(|text| Reply::Verbatim("txt", text)),
            "[1-9][0-9]{0,30}".prop_map(Reply::BigNumber),
        ];
        leaf.prop_recursive(3, 24, 5, |inner| {
            let list = || proptest::collection::vec(inner.clone(), 0..5);
            prop_oneof![
                list().prop_map(Reply::Array),
                list().prop_map(|items| Reply::Map(
                    items
                        .into_iter()
                        .enumerate()
                        .flat_map(|(i, item)| [Reply::Int(i as i64), item])
                        .collect()
                )),
            ]
        })
    }

    /// What the oracle's frame must be.
    fn agrees_in_2(reply: &Reply, frame: &resp2::types::OwnedFrame) -> bool {
        use resp2::types::OwnedFrame as F;
        match (reply, frame) {
            (Reply::Ok, F::SimpleString(line)) => line == b"OK",
            (Reply::Null, F::Null) => true,
            (Reply::Int(value), F::Integer(found)) => value == found,
            (Reply::Bool(value), F::Integer(found)) => i64::from(*value) == *found,
            (Reply::Bulk(value), F::BulkString(found)) => value == found,
            (Reply::Status(value), F::SimpleString(found)) => {
                value.replace(['\r', '\n'], " ").as_bytes() == found
            }
            (Reply::Double(value), F::BulkString(found)) => {
                std::str::from_utf8(found).ok().and_then(|text| text.parse().ok()) == Some(*value)
            }
            (Reply::Verbatim(_, text) | Reply::BigNumber(text), F::BulkString(found)) => {
                text.as_bytes() == found
            }
            (Reply::Array(items) | Reply::Map(items), F::Array(found)) => {
                items.len() == found.len()
                    && items.iter().zip(found).all(|(item, found)| agrees_in_2(item, found))
            }
            _ => false,
        }
    }

    fn agrees_in_3(reply: &Reply, frame: &resp3::types::OwnedFrame) -> bool {
        use resp3::types::OwnedFrame as F;
        match (reply, frame) {
            (Reply::Ok, F::SimpleString { data, .. }) => data == b"OK",
            (Reply::Null, F::Null) => true,
            (Reply::Int(value), F::Number { data, .. }) => value == data,
            (Reply::Bool(value), F::Boolean { data, .. }) => value == data,
            (Reply::Bulk(value), F::BlobString { data, .. }) => value == data,
            (Reply::Status(value), F::SimpleString { data, .. }) => {
                value.replace(['\r', '\n'], " ").as_bytes() == data
            }
            (Reply::Double(value), F::Double { data, .. }) => value == data,
            (Reply::Verbatim(_, text), F::VerbatimString { data, .. }) => text.as_bytes() == data,
            (Reply::BigNumber(digits), F::BigNumber { data, .. }) => digits.as_bytes() == data,
            (Reply::Array(items), F::Array { data, .. }) => {
                items.len() == data.len()
                    && items.iter().zip(data).all(|(item, found)| agrees_in_3(item, found))
            }
            (Reply::Map(items), F::Map { data, .. }) => {
                items.len() / 2 == data.len()
                    && items.chunks(2).all(|pair| {
                        data.iter()
                            .any(|(key, value)| agrees_in_3(&pair[0], key) && agrees_in_3(&pair[1], value))
                    })
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn the_oracle_reads_what_is_written(reply in reply()) {
            let written = bytes(&reply, Version::Resp2);
            let (frame, len) = resp2::decode::decode(&written).expect("valid").expect("whole");
            prop_assert_eq!(len, written.len());
            prop_assert!(agrees_in_2(&reply, &frame), "{:?}", frame);
            let written = bytes(&reply, Version::Resp3);
            let (frame, len) = resp3::decode::complete::decode(&written).expect("valid").expect("whole");
            prop_assert_eq!(len, written.len());
            prop_assert!(agrees_in_3(&reply, &frame), "{:?}", frame);
        }
    }
}
