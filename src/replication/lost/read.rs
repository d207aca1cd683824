//! Reads a file of lost transactions line by line. Somebody may have cut or changed it: everything is checked.

use super::line::{End, Header, Line, Word};
use super::{HEADER_MAX, parse_header};
use crate::interop::dump::{self, Refused};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// Bytes of a line at most: the longest value in base64, and more.
const LINE_MAX: u64 = 2 << 30;

/// What a key held at the end of a tail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The number of its database.
    pub database: u16,
    /// Its name.
    pub name: Vec<u8>,
    /// What it held; none if it was not there.
    pub held: Option<Held>,
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// As DUMP gives it; its checksum was checked.
    pub dump: Vec<u8>,
    /// Its deadline.
    pub expire_at_ms: Option<i64>,
}

impl State {
    /// What a line of the kind [`Word::Final`] says.
    ///
    /// # Errors
    /// In words.
    pub fn of(line: &Line) -> Result<State, String> {
        let name = line.name().map_err(|error| format!("the key is no base64: {error}"))?;
        let (Some(database), Some(name)) = (line.database, name) else {
            return Err("a state names no key and database".into());
        };
        let held = match &line.dump {
            None if line.deleted => None,
            Some(_) if line.deleted => return Err("a key is there and not there".into()),
            None => return Err("a state says not what the key holds".into()),
            Some(dump) => Some(Held { dump: payload(dump)?, expire_at_ms: line.expire_at_ms }),
        };
        Ok(State { database, name, held })
    }
}

fn payload(base64: &str) -> Result<Vec<u8>, String> {
    let payload = BASE64.decode(base64).map_err(|error| format!("the value is no base64: {error}"))?;
    match dump::open(&payload) {
        Ok(_) => Ok(payload),
        Err(Refused::Footer) => Err("the value does not fit its checksum".into()),
        Err(Refused::Value) => Err("the value is of a type that is not known, or malformed".into()),
    }
}

/// A file that is read.
pub struct Reader<R> {
    input: R,
    header: Header,
    crc32c: u32,
    line: u64,
    end: Option<End>,
    buffer: Vec<u8>,
}

impl Reader<BufReader<File>> {
    /// Opens a file and reads its first line.
    pub fn open(path: &Path) -> io::Result<Self> {
        Reader::new(BufReader::new(File::open(path)?))
    }
}

impl<R: BufRead> Reader<R> {
    /// Reads the first line.
    pub fn new(mut input: R) -> io::Result<Reader<R>> {
        let mut first = Vec::new();
        (&mut input).take(HEADER_MAX).read_until(b'\n', &mut first)?;
        let header = parse_header(&first)?;
        Ok(Reader { input, header, crc32c: crc32c::crc32c(&first), line: 1, end: None, buffer: Vec::new() })
    }

    /// What the file is.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What its last line says, once that was read.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The next line; none behind the last, if the file is whole.
    ///
    /// # Errors
    /// The disk's, or what is wrong with the line or the file.
    pub fn next_line(&mut self) -> io::Result<Option<Line>> {
        if self.end.is_some() {
            return Ok(None);
        }
        self.buffer.clear();
        self.line += 1;
        (&mut self.input).take(LINE_MAX).read_until(b'\n', &mut self.buffer)?;
        if self.buffer.last() != Some(&b'\n') {
            return Err(self.failed("the file is cut: its last line is missing"));
        }
        let line: Line = match serde_json::from_slice(&self.buffer) {
            Ok(line) => line,
            Err(error) => return Err(self.failed(&format!("no line of such a file: {error}"))),
        };
        if line.operation == Word::End {
            return self.finish().map(|()| None);
        }
        self.crc32c = crc32c::crc32c_append(self.crc32c, &self.buffer);
        Ok(Some(line))
    }

    fn finish(&mut self) -> io::Result<()> {
        let end: End = match serde_json::from_slice(&self.buffer) {
            Ok(end) => end,
            Err(error) => return Err(self.failed(&format!("no last line of such a file: {error}"))),
        };
        if end.crc32c != format!("{:08x}", self.crc32c) {
            return Err(self.failed("the file was changed or damaged: it does not fit its checksum"));
        }
        if !self.input.fill_buf()?.is_empty() {
            return Err(self.failed("more follows behind the last line"));
        }
        self.end = Some(end);
        Ok(())
    }

    /// Reads on to the next state of a key; none behind the last.
    ///
    /// # Errors
    /// As of [`Reader::next_line`], or the state is damaged.
    pub fn next_state(&mut self) -> io::Result<Option<State>> {
        while let Some(line) = self.next_line()? {
            if line.operation == Word::Final {
                return State::of(&line).map(Some).map_err(|reason| self.failed(&reason));
            }
        }
        Ok(None)
    }

    /// An error about the line that was read last.
    pub fn failed(&self, reason: &str) -> io::Error {
        io::Error::other(format!("line {}: {reason}", self.line))
    }
}
