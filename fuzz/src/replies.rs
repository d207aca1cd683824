//! Replies: each has one form in each protocol, a strict decoder reads from it what was to be said, and the decoder that
//! clients use takes it.
//!
//! Input: a tree of replies, node by node.

use super::frame::{self, Frame};
use super::input::Input;
use larder::base::blob::Slice;
use larder::base::number;
use larder::protocol::encode::{Version, encode};
use larder::protocol::error::ErrorReply;
use larder::protocol::reply::Reply;

const DEPTH_MAX: usize = 5;

fn text(input: &mut Input) -> String {
    String::from_utf8_lossy(input.string()).into_owned()
}

fn reply(input: &mut Input, depth: usize) -> Reply {
    let kinds = if depth == 0 { 14 } else { 20 };
    match input.below(kinds) {
        0 => Reply::Null,
        1 => Reply::Ok,
        2 => Reply::Simple(["QUEUED", "", "a b"][input.below(3)]),
        3 => Reply::Status(text(input)),
        4 => Reply::Error(ErrorReply::new(text(input))),
        5 => Reply::Int(input.number() as i64),
        6 => Reply::Int(i64::from(input.byte())),
        7 => Reply::bulk(input.string()),
        8 => Reply::Slice(Slice::copy_from(input.string())),
        9 => Reply::NullArray,
        10 => Reply::Double(f64::from_bits(input.number())),
        11 => Reply::Bool(input.flag()),
        12 => Reply::Verbatim(["txt", "mkd"][input.below(2)], text(input)),
        13 => Reply::BigNumber(format!("-{}", input.number())),
        14 => Reply::Array(list(input, depth)),
        15 => Reply::Set(list(input, depth)),
        16 => Reply::Push(list(input, depth)),
        17 => Reply::Map(pairs(input, depth)),
        18 => Reply::Pairs(pairs(input, depth)),
        _ if input.flag() => reply(input, depth - 1).in_version(Version::Resp2, Version::Resp3),
        _ => Reply::Attributed(pairs(input, depth), Box::new(reply(input, depth - 1))),
    }
}

fn list(input: &mut Input, depth: usize) -> Vec<Reply> {
    (0..input.below(8)).map(|_| reply(input, depth - 1)).collect()
}

fn pairs(input: &mut Input, depth: usize) -> Vec<Reply> {
    (0..input.below(4)).flat_map(|_| [reply(input, depth - 1), reply(input, depth - 1)]).collect()
}

fn one_line(words: &[u8]) -> Vec<u8> {
    words.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }).collect()
}

/// What `reply` is to say in the protocol of `version`; several frames where it has several parts.
fn expected(reply: &Reply, version: Version, out: &mut Vec<Frame>) {
    let is_3 = version == Version::Resp3;
    let bulk = |bytes: &[u8]| Frame::Bulk(b'$', bytes.to_vec());
    let all = |replies: &[Reply]| {
        let mut frames = Vec::new();
        replies.iter().for_each(|reply| expected(reply, version, &mut frames));
        frames
    };
    let aggregate = |mark, replies: &[Reply]| Frame::Aggregate(if is_3 { mark } else { b'*' }, all(replies));
    let frame = match reply {
        Reply::Ok => Frame::Line(b'+', b"OK".to_vec()),
        Reply::Simple(words) => Frame::Line(b'+', one_line(words.as_bytes())),
        Reply::Status(words) => Frame::Line(b'+', one_line(words.as_bytes())),
        Reply::Error(ErrorReply(words)) => Frame::Line(b'-', one_line(words)),
        Reply::Int(value) => Frame::Integer(*value),
        Reply::Bulk(bytes) => bulk(bytes),
        Reply::Slice(bytes) => bulk(bytes),
        Reply::Text(words) => bulk(words.as_bytes()),
        Reply::Null => Frame::Null(if is_3 { b'_' } else { b'$' }),
        Reply::NullArray => Frame::Null(if is_3 { b'_' } else { b'*' }),
        Reply::Array(items) => aggregate(b'*', items),
        Reply::Set(items) => aggregate(b'~', items),
        Reply::Push(items) => aggregate(b'>', items),
        Reply::Map(items) => aggregate(b'%', items),
        Reply::Pairs(items) if is_3 => {
            Frame::Aggregate(b'*', items.chunks(2).map(|pair| aggregate(b'*', pair)).collect())
        }
        Reply::Pairs(items) => aggregate(b'*', items),
        Reply::Double(value) if is_3 => Frame::Double(number::format_f64(*value).into_bytes()),
        Reply::Double(value) => bulk(number::format_f64(*value).as_bytes()),
        Reply::Decimal(text) if is_3 => Frame::Double(text.clone().into_bytes()),
        Reply::Decimal(text) => bulk(text.as_bytes()),
        Reply::Bool(value) if is_3 => Frame::Bool(*value),
        Reply::Bool(value) => Frame::Integer(i64::from(*value)),
        Reply::Verbatim(kind, words) if is_3 => Frame::Bulk(b'=', format!("{kind}:{words}").into_bytes()),
        Reply::Verbatim(_, words) => bulk(words.as_bytes()),
        Reply::BigNumber(digits) if is_3 => Frame::Line(b'(', digits.clone().into_bytes()),
        Reply::BigNumber(digits) => bulk(digits.as_bytes()),
        Reply::Attributed(attributes, reply) => {
            if !is_3 {
                return expected(reply, version, out);
            }
            let mut frames = all(attributes);
            expected(reply, version, &mut frames);
            Frame::Aggregate(b'|', frames)
        }
        Reply::Many(replies) => return out.extend(all(replies)),
        Reply::In(version, reply) => return expected(reply, *version, out),
    };
    out.push(frame);
}

/// Whether it has parts that the clients' decoder cannot take inside of others, or takes for something else.
fn is_plain(reply: &Reply) -> bool {
    match reply {
        Reply::Attributed(..) | Reply::Push(_) | Reply::Set(_) | Reply::Map(_) | Reply::Many(_) => false,
        Reply::In(..) => false,
        Reply::Double(value) => !value.is_nan(),
        Reply::Array(items) | Reply::Pairs(items) => items.iter().all(is_plain),
        _ => true,
    }
}

fn clients_take_it(bytes: &[u8], version: Version) {
    let len = match version {
        Version::Resp2 => redis_protocol::resp2::decode::decode(bytes).expect("valid").map(|(_, len)| len),
        Version::Resp3 => {
            redis_protocol::resp3::decode::complete::decode(bytes).expect("valid").map(|(_, len)| len)
        }
    };
    assert_eq!(len, Some(bytes.len()));
}

/// See the module's page.
pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let reply = reply(&mut input, DEPTH_MAX);
    for version in [Version::Resp2, Version::Resp3] {
        let mut bytes = Vec::new();
        encode(&reply, version, &mut bytes);
        let mut frames = Vec::new();
        expected(&reply, version, &mut frames);
        let mut rest = &bytes[..];
        for expected in frames {
            let (frame, len) = frame::decode(rest).expect("a frame");
            assert_eq!(frame, expected);
            rest = &rest[len..];
        }
        assert!(rest.is_empty());
        if is_plain(&reply) {
            clients_take_it(&bytes, version);
        }
    }
}
