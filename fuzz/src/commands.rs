//! Commands: whatever words come, each command has one reply of bounded size in its only form, and nothing panics. Runs against a
//! node in memory, with its table, its gates, MULTI and both protocols.
//!
//! Input: a stream of requests, usually inline ones, so that a corpus can be read.

use super::frame::{self, Frame};
use super::node::Node;
use larder::base::number;
use larder::protocol::args::Args;
use larder::protocol::parser::{Limits, Parser, Step};

/// Commands run of one input.
const COMMANDS_MAX: usize = 48;
/// No reply is longer: no command here gives more than the data it may look at (1 MB a string), or than it was asked for.
const REPLY_MAX: usize = 16 << 20;

/// Whether the word at `at` is this one, in upper or lower case.
fn is(args: &Args, at: usize, word: &str) -> bool {
    args.get(at).is_some_and(|found| found.eq_ignore_ascii_case(word.as_bytes()))
}

/// Whether a command was asked for so much that it may take its time: sleeping, a million keys, a million draws.
fn is_heavy(args: &Args) -> bool {
    let is_large = |at: usize| {
        let number = args.get(at).and_then(number::parse_f64);
        number.is_some_and(|number| number.abs() > 1000.0)
    };
    let last_may_be_large = (2..args.len()).any(is_large);
    (is(args, 0, "DEBUG") && (is(args, 1, "SLEEP") || last_may_be_large))
        || (is(args, 0, "HRANDFIELD") && last_may_be_large)
}

/// Whether EXEC would have a reply too few, or too many, because of this command; redis-server does the same.
fn breaks_exec(args: &Args, is_queued: bool) -> bool {
    let breaks = switches_replies(args) || (is(args, 0, "DEBUG") && is(args, 1, "PROTOCOL"));
    is_queued && (breaks || is_answered_by_messages(args))
}

/// SUBSCRIBE and the like are answered by a message for each name.
fn is_answered_by_messages(args: &Args) -> bool {
    let names = ["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"];
    names.iter().any(|name| is(args, 0, name))
}

/// CLIENT REPLY OFF and SKIP are not answered.
fn switches_replies(args: &Args) -> bool {
    is(args, 0, "CLIENT") && is(args, 1, "REPLY")
}

/// Asserts that `bytes` are one reply, with pushes before it at most; none if the client is to be let go, or wants none.
fn is_one_reply(bytes: &[u8], is_closing: bool, args: &Args) {
    let words: Vec<_> = args.from(0).map(String::from_utf8_lossy).collect();
    assert!(bytes.len() <= REPLY_MAX, "{} bytes of reply to {words:?}", bytes.len());
    let (mut rest, mut replies, mut messages) = (bytes, 0, 0);
    while !rest.is_empty() {
        let (frame, len) =
            frame::decode(rest).unwrap_or_else(|| panic!("{} to {words:?}", String::from_utf8_lossy(bytes)));
        let is_message = matches!(frame, Frame::Aggregate(b'>', _));
        replies += usize::from(!is_message);
        messages += usize::from(is_message);
        rest = &rest[len..];
    }
    if is_answered_by_messages(args) && replies + messages > 0 {
        return; // without names, as many as there are to leave
    }
    let may_be_silent = is_closing || switches_replies(args);
    assert!(replies == 1 || (replies == 0 && may_be_silent), "{replies} replies to {words:?}");
}

/// See the module's page.
pub fn check(data: &[u8]) {
    let mut node = Node::new();
    let (mut parser, mut rest) = (Parser::default(), data);
    let limits = Limits { bulk_len_max: 1 << 20, authenticated: true };
    for _ in 0..COMMANDS_MAX {
        let len = match parser.step(rest, limits) {
            Ok(Step::Empty(len)) => len,
            Ok(Step::Command(len)) => {
                let args = parser.args(rest);
                if !is_heavy(&args) && !breaks_exec(&args, node.session.multi.is_some()) {
                    let reply = node.run(args);
                    let is_closing = node.session.closing.is_some();
                    is_one_reply(&reply, is_closing, &args);
                    if is_closing {
                        node.reconnect();
                    }
                }
                len
            }
            Ok(Step::NeedMore) | Err(_) => return,
        };
        rest = &rest[len..];
    }
}
