//! The append-only file: the commands that have changed the data of a Redis or Valkey server, in their order.
//!
//! ```text
//! *3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n     a command, as clients send them, each word with its length
//! #TS:1700000000\r\n                              when the next ones were written (aof-timestamp-enabled)
//! ```
//!
//! Commands are found by the parser of requests ([`crate::protocol::parser`]); this file keeps to what servers write: no commands on one line,
//! and a line end behind each word. A file that ends inside a command is cut: that is for the caller to judge. Everything else is damage, told with
//! its place. Memory is bounded by the largest command, which is no larger than the file.

use super::rdb_file::FileError;
use crate::protocol::args::Args;
use crate::protocol::parser::{Limits, Parser, Step};
use memchr::memmem;
use std::io::Read;

/// Bytes that are read at once.
const BUFFER: usize = 1 << 20;
/// Bytes of a line that is no command.
const NOTE_MAX: usize = 1024;
/// What bounds a word is the file.
const LIMITS: Limits = Limits { bulk_len_max: u32::MAX as usize, authenticated: true };
/// Bytes in which the head of a command is recognized.
const HEAD_MAX: usize = 32;

/// What comes next in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A command that begins at this byte of the file; [`LogReader::words`] has its words.
    Command(u64),
    /// Nothing: the file ends behind a whole command.
    End,
    /// The file ends inside what begins at this byte.
    Cut(u64),
}

/// Reads a file of a known length.
pub struct LogReader<R> {
    source: R,
    /// Bytes that are read at once.
    step: usize,
    buffer: Vec<u8>,
    /// Where in the buffer the command begins that was found last, or is looked for.
    at: usize,
    /// Bytes of the command that was found last.
    found: usize,
    /// Where in the file the buffer begins.
    begin: u64,
    /// Bytes of the file behind the buffer.
    beyond: u64,
    parser: Parser,
}

impl<R: Read> LogReader<R> {
    /// Reads on where `buffer` ends, which begins at byte `begin` of the file; `beyond` bytes follow it.
    pub fn new(source: R, buffer: Vec<u8>, begin: u64, beyond: u64) -> LogReader<R> {
        let parser = Parser::default();
        LogReader { source, step: BUFFER, buffer, at: 0, found: 0, begin, beyond, parser }
    }

    /// The same for a whole file of `len` bytes, reading so many at once.
    pub fn in_steps(source: R, len: u64, step: usize) -> LogReader<R> {
        LogReader { step: step.max(1), ..LogReader::new(source, Vec::new(), 0, len) }
    }

    /// How much of the file is read.
    pub fn offset(&self) -> u64 {
        self.begin + (self.at + self.found) as u64
    }

    /// The words of the command that was found last.
    pub fn words(&self) -> Args<'_> {
        self.parser.args(&self.buffer[self.at..])
    }

    /// Goes to the next command.
    ///
    /// # Errors
    /// What stands there is none.
    pub fn next_command(&mut self) -> Result<Next, FileError> {
        self.at += std::mem::take(&mut self.found);
        self.parser.shrink();
        loop {
            let unread = &self.buffer[self.at..];
            match unread.first() {
                None if self.beyond == 0 => return Ok(Next::End),
                None => {
                    self.fill(self.step)?;
                    continue;
                }
                Some(b'#') => {
                    match unread.iter().take(NOTE_MAX).position(|&byte| byte == b'\n') {
                        Some(end) => self.at += end + 1,
                        None if unread.len() >= NOTE_MAX => return Err(self.error("a line that has no end")),
                        None if self.beyond == 0 => return Ok(Next::Cut(self.offset())),
                        None => self.fill(self.step.max(NOTE_MAX))?,
                    }
                    continue;
                }
                Some(b'*') => {}
                Some(_) => return Err(self.error("no command begins here")),
            }
            match self.parser.step(unread, LIMITS) {
                Ok(Step::Command(len)) => {
                    if !is_as_servers_write(&unread[..len], self.parser.args(unread)) {
                        return Err(self.error("the command is damaged"));
                    }
                    self.found = len;
                    return Ok(Next::Command(self.begin + self.at as u64));
                }
                Ok(Step::NeedMore) => {
                    let (here, wanted) = (unread.len(), self.parser.wanted_len());
                    if self.beyond == 0 || wanted as u64 > here as u64 + self.beyond {
                        return Ok(Next::Cut(self.offset()));
                    }
                    // Twice as much each time, so that long commands of many words are not moved over and over.
                    self.fill(wanted.max(here * 2).max(here + self.step))?;
                }
                Ok(Step::Empty(_)) => return Err(self.error("a command without words")),
                Err(error) => {
                    let text = error.text();
                    let reason = text.strip_prefix(b"ERR Protocol error: ").unwrap_or(&text);
                    return Err(self.error(&String::from_utf8_lossy(reason)));
                }
            }
        }
    }

    /// Where behind the command that the file is cut in another one seems to begin. A write that was cut has nothing behind it:
    /// there it is rather a length that is damaged. Nothing else can be read afterwards.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn next_head(&mut self) -> Result<Option<u64>, FileError> {
        self.at += 1;
        let finder = memmem::Finder::new(b"\r\n*");
        loop {
            let unread = &self.buffer[self.at.min(self.buffer.len())..];
            for place in finder.find_iter(unread) {
                if is_head(&unread[place + 2..]) {
                    return Ok(Some(self.begin + (self.at + place + 2) as u64));
                }
            }
            if self.beyond == 0 {
                return Ok(None);
            }
            self.at += unread.len().saturating_sub(HEAD_MAX);
            self.fill(HEAD_MAX + self.step)?;
        }
    }

    fn error(&self, reason: &str) -> FileError {
        FileError { offset: self.begin + self.at as u64, reason: reason.to_owned() }
    }

    /// Has `wanted` unread bytes in the buffer, or all that there are.
    fn fill(&mut self, wanted: usize) -> Result<(), FileError> {
        self.buffer.drain(..self.at);
        self.begin += self.at as u64;
        self.at = 0;
        let missing = (wanted.saturating_sub(self.buffer.len()) as u64).min(self.beyond);
        let read = (&mut self.source).take(missing).read_to_end(&mut self.buffer);
        let read = read.map_err(|error| self.error(&format!("it cannot be read: {error}")))?;
        self.beyond -= read as u64;
        if (read as u64) < missing {
            self.beyond = 0; // it became shorter
        }
        if self.buffer.capacity() > 2 * BUFFER && self.buffer.len() <= BUFFER {
            self.buffer.shrink_to(BUFFER);
        }
        Ok(())
    }
}

/// Whether each line and each word of a command ends as it should: the parser of requests does not look at that.
fn is_as_servers_write(bytes: &[u8], words: Args) -> bool {
    let digits = |number: usize| number.checked_ilog10().unwrap_or(0) as usize + 1;
    let mut end = 1 + digits(words.len()) + 2;
    let mut is_ended = bytes.get(end - 2..end) == Some(b"\r\n");
    for word in words.from(0) {
        end += 1 + digits(word.len()) + 2;
        is_ended &= bytes.get(end - 2..end) == Some(b"\r\n");
        end += word.len() + 2;
        is_ended &= bytes.get(end - 2..end) == Some(b"\r\n");
    }
    is_ended && end == bytes.len()
}

/// Whether bytes begin with the head of a command: `*3\r\n$3\r\n`.
fn is_head(bytes: &[u8]) -> bool {
    let number = |bytes: &[u8], mark: u8| {
        let digits = bytes.iter().skip(1).take(10).take_while(|byte| byte.is_ascii_digit()).count();
        let is_line = bytes.first() == Some(&mark)
            && digits > 0
            && bytes.get(1 + digits..3 + digits) == Some(b"\r\n".as_slice());
        is_line.then_some(3 + digits)
    };
    number(bytes, b'*').is_some_and(|len| number(&bytes[len..], b'$').is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: &[u8] =
        b"*1\r\n$4\r\nPING\r\n#TS:1700000000\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*1\r\n$0\r\n\r\n";

    /// The words of each command, and how it ends.
    fn read(bytes: &[u8], step: usize) -> (Vec<String>, Result<Next, FileError>) {
        let mut log = LogReader::in_steps(bytes, bytes.len() as u64, step);
        let mut commands = Vec::new();
        loop {
            match log.next_command() {
                Ok(Next::Command(_)) => {
                    let words: Vec<_> =
                        log.words().from(0).map(|word| word.escape_ascii().to_string()).collect();
                    commands.push(words.join(" "));
                }
                end => return (commands, end),
            }
        }
    }

    #[test]
    fn commands_are_read_in_pieces_of_any_size() {
        for step in [1, 2, 7, 30, 1 << 20] {
            let (commands, end) = read(THREE, step);
            assert_eq!(
                (&commands[..], end),
                (&["PING".into(), "SELECT 0".into(), String::new()][..], Ok(Next::End))
            );
        }
    }

    #[test]
    fn a_cut_is_told_with_the_place_where_the_last_command_begins() {
        for cut in 0..THREE.len() {
            let (commands, end) = read(&THREE[..cut], 5);
            let place = [0, 14, 30, 53].into_iter().rfind(|place| *place <= cut).expect("zero is");
            let expected = if place == cut { Next::End } else { Next::Cut(place as u64) };
            assert_eq!(end, Ok(expected), "cut at {cut}");
            assert_eq!(commands.len(), usize::from(place >= 14) + usize::from(place >= 53));
        }
    }

    #[test]
    fn damage_is_told_with_its_place() {
        for (bytes, reason) in [
            (&b"PING\r\n"[..], "no command begins here at byte 0"),
            (b"*1\r\n$4\r\nPING\r\n\0\0\0", "no command begins here at byte 14"),
            (b"*1\r\n$4\r\nPINGxx*1\r\n", "the command is damaged at byte 0"),
            (b"*0\r\n", "a command without words at byte 0"),
            (b"*1\r\n+4\r\nPING\r\n", "expected '$', got '+' at byte 0"),
        ] {
            let (_, end) = read(bytes, 4);
            assert_eq!(end.expect_err("is damaged").to_string(), reason);
        }
        let (_, end) = read(&[b'#'; 5000], 64);
        assert!(end.is_err());
    }

    #[test]
    fn a_damaged_length_is_told_from_a_cut() {
        let mut bytes = THREE.to_vec();
        bytes[5] = b'9'; // PING has 9,… bytes
        bytes.splice(6..6, *b"9999");
        for step in [1, 8, 1 << 20] {
            let mut log = LogReader::in_steps(&bytes[..], bytes.len() as u64, step);
            assert_eq!(log.next_command(), Ok(Next::Cut(0)));
            assert_eq!(log.next_head(), Ok(Some(34)));
        }
        let mut log = LogReader::in_steps(&THREE[..50], 50, 8);
        while let Ok(Next::Command(_)) = log.next_command() {}
        assert_eq!(log.next_head(), Ok(None));
    }
}
