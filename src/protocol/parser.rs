//! Finds one request after another in a connection's read buffer, without copying and without an allocation a command.
//!
//! The parser is fed the buffer from the first byte of the request under way. It remembers how far it got, so that what
//! arrived in an earlier read is not looked at again (but for the up to ten digits of a length line that is cut), and it
//! leaves the words as ranges of that buffer. Inline requests have their quotes and escapes resolved into a buffer of the
//! parser's own.
//!
//! The grammar, the limits and the errors are those of redis-server 7.0, seen from outside: a line ends at the first CR
//! and the byte after it, whatever that is; the two bytes after a bulk are not looked at; a NUL byte hides the line's end
//! (so such a line only ever ends in a "too big" error); lengths have one spelling (no `+`, no leading zeros).
//! Nothing here recurses, and nothing is reserved for bytes that have not come.

use super::args::{Args, Range};
use crate::base::number::parse_i64;

/// Longest inline request, and longest length line, in bytes.
pub const LINE_LEN_MAX: usize = 64 * 1024;
/// Most words of a request before authentication.
const UNAUTHENTICATED_WORDS_MAX: i64 = 10;
/// Longest word of a request before authentication, in bytes.
const UNAUTHENTICATED_BULK_LEN_MAX: i64 = 16 * 1024;
/// Most words of a request: Redis's limit up to 6.2. 7.0 takes 2^31-1, which bounds nothing.
const WORDS_MAX: i64 = 1024 * 1024;
/// Ranges and inline bytes kept when the parser is shrunk.
const KEPT_CAPACITY: usize = 1024;

/// What a connection allows at the moment.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest word: `proto-max-bulk-len`, in bytes.
    pub bulk_len_max: usize,
    /// Whether the connection may send more than a stranger.
    pub authenticated: bool,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The request is not complete; the buffer must grow at its end and stay as it is otherwise.
    NeedMore,
    /// A request without words in this many bytes: to be skipped in silence.
    Empty(usize),
    /// A request in this many bytes; [`Parser::args`] has its words until the next step.
    Command(usize),
}

/// Why a connection can not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// An inline request beyond [`LINE_LEN_MAX`].
    TooBigInline,
    /// An inline request whose quotes do not match.
    UnbalancedQuotes,
    /// A number of words that never ends.
    TooBigMultibulkLine,
    /// A number of words that is none, or too large.
    InvalidMultibulkLength,
    /// More words than a stranger may send.
    UnauthenticatedMultibulkLength,
    /// A length of a word that never ends.
    TooBigBulkLine,
    /// Something else where a word must begin.
    ExpectedDollar(u8),
    /// A length of a word that is none, or too large.
    InvalidBulkLength,
    /// A longer word than a stranger may send.
    UnauthenticatedBulkLength,
    /// A request beyond 4 GiB, which ranges could not express. Ours.
    TooBigRequest,
}

impl ProtocolError {
    /// The words of the error reply, without `-` and line end. Bytes, as the offending one may be any.
    pub fn text(self) -> Vec<u8> {
        let reason: &[u8] = match self {
            ProtocolError::TooBigInline => b"too big inline request",
            ProtocolError::UnbalancedQuotes => b"unbalanced quotes in request",
            ProtocolError::TooBigMultibulkLine => b"too big mbulk count string",
            ProtocolError::InvalidMultibulkLength => b"invalid multibulk length",
            ProtocolError::UnauthenticatedMultibulkLength => b"unauthenticated multibulk length",
            ProtocolError::TooBigBulkLine => b"too big bulk count string",
            ProtocolError::ExpectedDollar(got) => {
                let shown = if matches!(got, b'\r' | b'\n') { b' ' } else { got };
                return [b"ERR Protocol error: expected '$', got '", &[shown][..], b"'"].concat();
            }
            ProtocolError::InvalidBulkLength => b"invalid bulk length",
            ProtocolError::UnauthenticatedBulkLength => b"unauthenticated bulk length",
            ProtocolError::TooBigRequest => b"too big request",
        };
        [b"ERR Protocol error: ", reason].concat()
    }
}

/// The state of a request that may still be incomplete.
#[derive(Debug, Default)]
pub struct Parser {
    /// Words found so far.
    ranges: Vec<Range>,
    /// Resolved words of an inline request.
    inline: Vec<u8>,
    /// Whether `ranges` are of `inline`.
    is_inline: bool,
    /// Offset of the first byte that is not understood yet.
    position: usize,
    /// Offset of the first byte that was not looked at yet, if that is further.
    searched: usize,
    /// Words still to come.
    words_left: usize,
    /// Length of the word under way, once it is known.
    bulk_len: Option<usize>,
}

impl Parser {
    /// Goes on with the request that begins at the start of `buffer`.
    ///
    /// # Errors
    /// What can not be understood; the connection is to be told and closed.
    #[inline]
    pub fn step(&mut self, buffer: &[u8], limits: Limits) -> Result<Step, ProtocolError> {
        if self.words_left == 0 {
            let Some(&first) = buffer.first() else { return Ok(Step::NeedMore) };
            if self.position == 0 && self.searched == 0 {
                self.ranges.clear();
                self.is_inline = false;
            }
            if first != b'*' {
                return self.inline(buffer);
            }
            match self.multibulk_length(buffer, limits)? {
                None => return Ok(Step::NeedMore),
                Some(0) => return Ok(Step::Empty(self.finish())),
                Some(words) => self.words_left = words,
            }
        }
        while self.words_left > 0 {
            let len = match self.bulk_len {
                Some(len) => len,
                None => match self.bulk_length(buffer, limits)? {
                    Some(len) => len,
                    None => return Ok(Step::NeedMore),
                },
            };
            let end = self.position + len;
            if buffer.len() < end + 2 {
                self.bulk_len = Some(len);
                return Ok(Step::NeedMore);
            }
            self.ranges.push((self.position as u32, end as u32));
            self.position = end + 2;
            self.bulk_len = None;
            self.words_left -= 1;
        }
        Ok(Step::Command(self.finish()))
    }

    /// The words of the command just found in `buffer`, which begins where that of [`Parser::step`] began.
    #[inline]
    pub fn args<'a>(&'a self, buffer: &'a [u8]) -> Args<'a> {
        Args::new(if self.is_inline { &self.inline } else { buffer }, &self.ranges)
    }

    /// How long the buffer must become before the word under way is complete; 0 if that is not known.
    pub fn wanted_len(&self) -> usize {
        self.bulk_len.map_or(0, |len| self.position + len + 2)
    }

    /// Bytes of the request under way that were read as words already, with what stands before them.
    pub fn read_len(&self) -> usize {
        self.position
    }

    /// Whether a request has begun that is not complete.
    pub fn is_midway(&self) -> bool {
        self.words_left > 0 || self.searched > 0
    }

    /// Gives back memory that a large request needed. Not to be called midway.
    pub fn shrink(&mut self) {
        if self.is_midway() {
            return;
        }
        self.ranges.clear();
        self.ranges.shrink_to(KEPT_CAPACITY);
        self.inline.clear();
        self.inline.shrink_to(KEPT_CAPACITY);
    }

    /// Ends a request: how many bytes it had.
    #[inline]
    fn finish(&mut self) -> usize {
        self.searched = 0;
        std::mem::take(&mut self.position)
    }

    #[inline]
    fn multibulk_length(&mut self, buffer: &[u8], limits: Limits) -> Result<Option<usize>, ProtocolError> {
        let (words, next) = match short_length(buffer) {
            Some(found) => found,
            None => match self.line(buffer, ProtocolError::TooBigMultibulkLine)? {
                Some(end) => {
                    (parse_i64(&buffer[1..end]).ok_or(ProtocolError::InvalidMultibulkLength)?, end + 2)
                }
                None => return Ok(None),
            },
        };
        if words > WORDS_MAX {
            return Err(ProtocolError::InvalidMultibulkLength);
        }
        if words > UNAUTHENTICATED_WORDS_MAX && !limits.authenticated {
            return Err(ProtocolError::UnauthenticatedMultibulkLength);
        }
        (self.position, self.searched) = (next, 0);
        Ok(Some(words.max(0) as usize))
    }

    #[inline]
    fn bulk_length(&mut self, buffer: &[u8], limits: Limits) -> Result<Option<usize>, ProtocolError> {
        let start = self.position;
        let line = &buffer[start..];
        let (len, next) = match short_length(line) {
            Some((len, next)) if line[0] == b'$' => (len, start + next),
            _ => match self.line(buffer, ProtocolError::TooBigBulkLine)? {
                Some(_) if line[0] != b'$' => return Err(ProtocolError::ExpectedDollar(line[0])),
                Some(end) => {
                    let digits = &buffer[start + 1..end];
                    (parse_i64(digits).ok_or(ProtocolError::InvalidBulkLength)?, end + 2)
                }
                None => return Ok(None),
            },
        };
        if len < 0 || len as usize > limits.bulk_len_max {
            return Err(ProtocolError::InvalidBulkLength);
        }
        if len > UNAUTHENTICATED_BULK_LEN_MAX && !limits.authenticated {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        if next as u64 + len as u64 + 2 > u64::from(u32::MAX) {
            return Err(ProtocolError::TooBigRequest);
        }
        (self.position, self.searched) = (next, 0);
        Ok(Some(len as usize))
    }

    /// Offset of the CR that ends the line at `position`, once the byte after it is there too.
    #[cold]
    fn line(&mut self, buffer: &[u8], too_big: ProtocolError) -> Result<Option<usize>, ProtocolError> {
        self.line_end(buffer, b'\r', too_big).map(|found| found.filter(|&end| end + 1 < buffer.len()))
    }

    /// Offset of the first `mark` from `position` on; a NUL byte before it hides it.
    fn line_end(
        &mut self,
        buffer: &[u8],
        mark: u8,
        too_big: ProtocolError,
    ) -> Result<Option<usize>, ProtocolError> {
        let from = self.searched.max(self.position);
        let hit = memchr::memchr2(mark, 0, &buffer[from..]).map(|offset| from + offset);
        self.searched = hit.unwrap_or(buffer.len());
        let found = hit.filter(|&at| buffer[at] == mark);
        if found.unwrap_or(buffer.len()) - self.position > LINE_LEN_MAX {
            return Err(too_big);
        }
        Ok(found)
    }

    #[cold]
    fn inline(&mut self, buffer: &[u8]) -> Result<Step, ProtocolError> {
        let Some(newline) = self.line_end(buffer, b'\n', ProtocolError::TooBigInline)? else {
            return Ok(Step::NeedMore);
        };
        let line = buffer[..newline].strip_suffix(b"\r").unwrap_or(&buffer[..newline]);
        self.is_inline = true;
        self.inline.clear();
        split_words(line, &mut self.inline, &mut self.ranges).ok_or(ProtocolError::UnbalancedQuotes)?;
        self.position = newline + 1;
        let consumed = self.finish();
        Ok(if self.ranges.is_empty() { Step::Empty(consumed) } else { Step::Command(consumed) })
    }
}

/// The usual length line, one mark, one to nine digits and CR LF: its number, and the offset after it.
#[inline]
fn short_length(line: &[u8]) -> Option<(i64, usize)> {
    let mut value: u32 = 0;
    let mut at = 1;
    while at <= 9 {
        let digit = line.get(at)?.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        value = value * 10 + u32::from(digit);
        at += 1;
    }
    let has_one_spelling = at == 2 || (at > 2 && line[1] != b'0');
    let is_ended = line.get(at) == Some(&b'\r') && at + 1 < line.len();
    (has_one_spelling && is_ended).then_some((i64::from(value), at + 2))
}

/// Splits a line into words as a shell would, appending their bytes to `bytes`; `None` if the quotes do not match.
/// Double quotes know `\n \r \t \b \a \xHH` and take any other escaped byte as it is; single quotes know `\'` only.
pub fn split_words(line: &[u8], bytes: &mut Vec<u8>, words: &mut Vec<Range>) -> Option<()> {
    let mut at = 0;
    loop {
        while line.get(at).copied().is_some_and(is_space) {
            at += 1;
        }
        if at == line.len() {
            return Some(());
        }
        let start = bytes.len();
        while let Some(&byte) = line.get(at) {
            at = match byte {
                b' ' | b'\t' | b'\r' | b'\n' | 0 => break,
                b'"' => double_quoted(line, at + 1, bytes)?,
                b'\'' => single_quoted(line, at + 1, bytes)?,
                _ => {
                    bytes.push(byte);
                    at + 1
                }
            };
        }
        words.push((start as u32, bytes.len() as u32));
        if line.get(at) == Some(&0) {
            return Some(());
        }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Reads up to and with the closing quote, which must end the word: the offset after it.
fn double_quoted(line: &[u8], mut at: usize, bytes: &mut Vec<u8>) -> Option<usize> {
    loop {
        let (byte, len) = match (*line.get(at)?, line.get(at + 1)) {
            (b'"', next) => return next.is_none_or(|&byte| is_space(byte)).then_some(at + 1),
            (b'\\', Some(b'x')) => match hex_pair(line.get(at + 2..at + 4)) {
                Some(byte) => (byte, 4),
                None => (b'x', 2),
            },
            (b'\\', Some(&escaped)) => (unescaped(escaped), 2),
            (byte, _) => (byte, 1),
        };
        bytes.push(byte);
        at += len;
    }
}

fn single_quoted(line: &[u8], mut at: usize, bytes: &mut Vec<u8>) -> Option<usize> {
    loop {
        let (byte, len) = match (*line.get(at)?, line.get(at + 1)) {
            (b'\'', next) => return next.is_none_or(|&byte| is_space(byte)).then_some(at + 1),
            (b'\\', Some(b'\'')) => (b'\'', 2),
            (byte, _) => (byte, 1),
        };
        bytes.push(byte);
        at += len;
    }
}

fn unescaped(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex_pair(digits: Option<&[u8]>) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let digits = digits?;
    Some((digit(digits[0])? * 16 + digit(digits[1])?) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { bulk_len_max: 512 << 20, authenticated: true };
    const STRANGER: Limits = Limits { bulk_len_max: 512 << 20, authenticated: false };

    type Commands = Vec<Vec<Vec<u8>>>;

    /// Feeds `stream` in pieces that end at `cuts`, as a connection does.
    fn feed(stream: &[u8], cuts: &[usize], limits: Limits) -> (Commands, Option<ProtocolError>) {
        let (mut parser, mut commands, mut start) = (Parser::default(), Vec::new(), 0);
        for end in cuts.iter().map(|&cut| cut.min(stream.len())).chain([stream.len()]) {
            loop {
                let buffer = &stream[start..end.max(start)];
                match parser.step(buffer, limits) {
                    Ok(Step::NeedMore) => break,
                    Ok(Step::Empty(len)) => start += len,
                    Ok(Step::Command(len)) => {
                        commands.push(parser.args(buffer).from(0).map(<[u8]>::to_vec).collect());
                        start += len;
                    }
                    Err(error) => return (commands, Some(error)),
                }
            }
        }
        (commands, None)
    }

    fn commands(stream: &[u8]) -> Commands {
        let (commands, error) = feed(stream, &[], LIMITS);
        assert_eq!(error, None, "{}", String::from_utf8_lossy(stream));
        commands
    }

    fn error(stream: &[u8], limits: Limits) -> String {
        let (_, error) = feed(stream, &[], limits);
        String::from_utf8(error.expect("an error").text()).expect("text")
    }

    #[test]
    fn pipelined_commands_come_out_one_by_one() {
        let found = commands(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*0\r\n*-1\r\n\r\n\nPING\r\n*1\r\n$0\r\n\r\n");
        assert_eq!(found, [vec![b"GET".to_vec(), b"k".to_vec()], vec![b"PING".to_vec()], vec![b"".to_vec()]]);
    }

    #[test]
    fn bytes_that_redis_does_not_look_at_may_be_any() {
        assert_eq!(commands(b"*1\r\n$4\r\nPINGxx*1\rx$4\rxPING\r\n").len(), 2);
    }

    #[test]
    fn errors_are_those_of_redis() {
        for (stream, text) in [
            (&b"*x\r\n"[..], "invalid multibulk length"),
            (b"*\r\n", "invalid multibulk length"),
            (b"*01\r\n", "invalid multibulk length"),
            (b"*1048577\r\n", "invalid multibulk length"),
            (b"*1\r\n$-1\r\n", "invalid bulk length"),
            (b"*1\r\n$536870913\r\n", "invalid bulk length"),
            (b"*1\r\n:1\r\n", "expected '$', got ':'"),
            (b"*1\r\n\r\n", "expected '$', got ' '"),
            (b"ECHO \"abc\r\n", "unbalanced quotes in request"),
            (b"ECHO \"abc\"d\r\n", "unbalanced quotes in request"),
            (&[b'A'; LINE_LEN_MAX + 1], "too big inline request"),
            (&[b'*'; LINE_LEN_MAX + 1], "too big mbulk count string"),
            (&[b"*1\r\n$".to_vec(), vec![b'1'; LINE_LEN_MAX]].concat(), "too big bulk count string"),
        ] {
            assert_eq!(error(stream, LIMITS), format!("ERR Protocol error: {text}"));
        }
        assert_eq!(ProtocolError::ExpectedDollar(0xff).text().last_chunk(), Some(b"'\xff'"));
    }

    #[test]
    fn strangers_may_send_little() {
        assert_eq!(error(b"*11\r\n", STRANGER), "ERR Protocol error: unauthenticated multibulk length");
        assert_eq!(error(b"*1\r\n$16385\r\n", STRANGER), "ERR Protocol error: unauthenticated bulk length");
        assert_eq!(feed(b"*10\r\n$16384\r\n", &[], STRANGER), (vec![], None));
    }

    #[test]
    fn inline_words_are_quoted_as_in_a_shell() {
        for (line, words) in [
            (&br#"SET "a\x41\n\q" 'b\'\n'"#[..], vec![&b"SET"[..], b"aA\nq", b"b'\\n"]),
            (br#" ab"c d"  "" "#, vec![b"abc d", b""]),
            (b"a\x0bb\tc", vec![b"a\x0bb", b"c"]),
            (br#""\xZZ" "\x4""#, vec![b"xZZ", b"x4"]),
        ] {
            assert_eq!(commands(&[line, b"\r\n"].concat()), [words]);
        }
    }

    #[test]
    fn a_nul_hides_the_end_of_its_line() {
        assert_eq!(feed(b"PING\x00\r\nPING\r\n", &[], LIMITS), (vec![], None));
        let stream = [b"*\x00", &[b'\n'; LINE_LEN_MAX][..]].concat();
        assert_eq!(error(&stream, LIMITS), "ERR Protocol error: too big mbulk count string");
    }

    #[test]
    fn a_length_may_be_cut_after_any_digit() {
        for stream in [&b"*123456789"[..], b"*1\r\n$123456789", b"*1\r\n$536870912"] {
            for len in 0..=stream.len() {
                assert_eq!(feed(&stream[..len], &[], LIMITS), (vec![], None));
            }
        }
    }

    #[test]
    fn the_length_to_wait_for_is_known_early() {
        let mut parser = Parser::default();
        assert_eq!(parser.step(b"*2\r\n$3\r\nSET\r\n$100\r\nab", LIMITS), Ok(Step::NeedMore));
        assert_eq!(parser.wanted_len(), 19 + 100 + 2);
        assert!(parser.is_midway());
    }

    fn word() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..12),
            Just(vec![b'v'; 1234]),
            Just(b"\r\n$*".to_vec())
        ]
    }

    /// What a stream is made of: whole requests, inline requests, empty ones.
    fn piece() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            6 => proptest::collection::vec(word(), 1..6).prop_map(|words| request(&words)),
            1 => Just(b"PING 'a b' \"\\x00\"\r\n".to_vec()),
            1 => Just(b"\r\n*0\r\n*-3\r\n".to_vec()),
        ]
    }

    fn request(words: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_commands(
            pieces in proptest::collection::vec(piece(), 1..8),
            mut cuts in proptest::collection::vec(0usize..4000, 0..20),
        ) {
            let stream = pieces.concat();
            cuts.sort_unstable();
            let whole = feed(&stream, &[], LIMITS);
            prop_assert_eq!(&whole.1, &None);
            prop_assert_eq!(&feed(&stream, &cuts, LIMITS), &whole);
            let every: Vec<usize> = (0..stream.len()).collect();
            prop_assert_eq!(feed(&stream, &every, LIMITS), whole);
        }

        #[test]
        fn any_bytes_end_the_same_however_they_come(stream in proptest::collection::vec(
            prop_oneof![Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b'"'), any::<u8>()], 0..60)) {
            let every: Vec<usize> = (0..stream.len()).collect();
            prop_assert_eq!(feed(&stream, &every, LIMITS), feed(&stream, &[], LIMITS));
        }

        #[test]
        fn flat_arrays_are_read_as_the_oracle_reads_them(
            requests in proptest::collection::vec(proptest::collection::vec(word(), 1..6), 1..6),
        ) {
            use redis_protocol::resp2::{decode::decode, types::OwnedFrame};
            let stream: Vec<u8> = requests.iter().flat_map(|words| request(words)).collect();
            let (mut expected, mut at) = (Vec::new(), 0);
            while let Some((OwnedFrame::Array(words), len)) = decode(&stream[at..]).expect("valid") {
                expected.push(words.into_iter().map(|word| match word {
                    OwnedFrame::BulkString(bytes) => bytes,
                    other => panic!("{other:?}"),
                }).collect::<Vec<_>>());
                at += len;
            }
            prop_assert_eq!(commands(&stream), expected);
        }
    }
}
