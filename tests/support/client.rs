//! A client small enough to trust: sends words, reads one reply, keeps its exact bytes.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const REPLY_WITHIN: Duration = Duration::from_secs(60);

/// One connection.
pub struct Client {
    stream: BufReader<TcpStream>,
    /// The bytes of the reply read last.
    pub bytes: Vec<u8>,
}

/// A reply of RESP2 or RESP3. `to_string` shows it in a form that tells every two replies apart:
/// `OK`, `-ERR why`, `:1`, `"text"`, `nil`, `[:1 :2]`, `{"a" :1}`, `~[…]` for a set, `,1.5`, `#t`, `>[…]` for a push.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    /// `$-1`, `*-1` or `_`, as its first byte says.
    Null(u8),
    Array(Vec<Value>),
    Map(Vec<Value>),
    Set(Vec<Value>),
    Push(Vec<Value>),
    Double(String),
    Bool(bool),
    BigNumber(String),
    Verbatim(Vec<u8>),
}

impl Client {
    /// Connects to a local port.
    pub fn try_connect(port: u16) -> io::Result<Client> {
        Client::over(TcpStream::connect(("127.0.0.1", port))?, REPLY_WITHIN)
    }

    /// On this connection; a reply that takes longer than `patience` is an error.
    pub fn over(stream: TcpStream, patience: Duration) -> io::Result<Client> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        Ok(Client { stream: BufReader::new(stream), bytes: Vec::new() })
    }

    /// The same connection for another thread: one writes, one reads.
    pub fn second(&self) -> Client {
        let stream = self.stream.get_ref().try_clone().expect("a socket can be shared");
        Client { stream: BufReader::new(stream), bytes: Vec::new() }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends one command and reads its reply.
    pub fn try_ask<W: AsRef<[u8]>>(&mut self, words: &[W]) -> io::Result<Value> {
        self.send(&request(words))?;
        self.read()
    }

    /// The same, for connections that must not fail.
    pub fn ask<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Value {
        self.try_ask(words).expect("the server answers")
    }

    /// A command as one line (quotes as in redis-cli) and its reply as text.
    pub fn line(&mut self, line: &str) -> String {
        self.ask(&words(line)).to_string()
    }

    /// Fails unless the command is answered so.
    pub fn expect<W: AsRef<[u8]>>(&mut self, words: &[W], answer: &str) {
        let found = self.ask(words).to_string();
        let shown: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word.as_ref())).collect();
        assert_eq!(found, answer, "answer to {shown:.200?}");
    }

    /// Fails unless each line is answered as beside it.
    pub fn check(&mut self, script: &[(&str, &str)]) {
        for (line, answer) in script {
            assert_eq!(self.line(line), *answer, "answer to {line}");
        }
    }

    /// Sends commands in batches and reads every reply; fails at the first error reply.
    pub fn pipeline(&mut self, commands: impl IntoIterator<Item = Vec<Vec<u8>>>) {
        let mut commands = commands.into_iter().peekable();
        while commands.peek().is_some() {
            let batch: Vec<_> = commands.by_ref().take(200).collect();
            self.send(&batch.iter().flat_map(|words| request(words)).collect::<Vec<u8>>())
                .expect("the server reads");
            for words in batch {
                let reply = self.read().expect("the server answers");
                assert!(
                    !matches!(reply, Value::Error(_)),
                    "{:.100?}: {reply}",
                    String::from_utf8_lossy(&words[0])
                );
            }
        }
    }

    /// Reads one reply.
    pub fn read(&mut self) -> io::Result<Value> {
        self.bytes.clear();
        self.value()
    }

    /// Reads until the server closes the connection, or says nothing for `quiet`. Returns the bytes and whether it closed.
    pub fn read_rest(&mut self, quiet: Duration) -> (Vec<u8>, bool) {
        let mut rest = self.stream.buffer().to_vec();
        let stream = self.stream.get_mut();
        stream.set_read_timeout(Some(quiet)).expect("a time limit can be set");
        let mut part = [0; 4096];
        let closed = loop {
            match stream.read(&mut part) {
                Ok(0) => break true,
                Ok(length) => rest.extend_from_slice(&part[..length]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break true,
                Err(_) => break false,
            }
        };
        stream.set_read_timeout(Some(REPLY_WITHIN)).expect("a time limit can be set");
        (rest, closed)
    }

    fn line_of_reply(&mut self) -> io::Result<(u8, String)> {
        let from = self.bytes.len();
        self.stream.read_until(b'\n', &mut self.bytes)?;
        let line = &self.bytes[from..];
        let Some(text) = line.strip_suffix(b"\r\n").filter(|text| !text.is_empty()) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        // A letter for each byte, so that texts are the same only if their bytes are.
        Ok((text[0], text[1..].iter().map(|&byte| char::from(byte)).collect()))
    }

    fn value(&mut self) -> io::Result<Value> {
        let (kind, text) = self.line_of_reply()?;
        let number = || text.parse::<i64>().map_err(|_| invalid(&text));
        Ok(match kind {
            b'+' => Value::Simple(text),
            b'-' => Value::Error(text),
            b':' => Value::Integer(number()?),
            b',' => Value::Double(text),
            b'#' => Value::Bool(text == "t"),
            b'(' => Value::BigNumber(text),
            b'_' => Value::Null(b'_'),
            b'$' | b'*' if text == "-1" => Value::Null(kind),
            b'$' => Value::Bulk(self.blob(number()?)?),
            b'=' => Value::Verbatim(self.blob(number()?)?),
            b'*' => Value::Array(self.values(number()?)?),
            b'~' => Value::Set(self.values(number()?)?),
            b'>' => Value::Push(self.values(number()?)?),
            b'%' => Value::Map(self.values(number()? * 2)?),
            _ => return Err(invalid(&text)),
        })
    }

    fn values(&mut self, count: i64) -> io::Result<Vec<Value>> {
        (0..count).map(|_| self.value()).collect()
    }

    fn blob(&mut self, length: i64) -> io::Result<Vec<u8>> {
        let from = self.bytes.len();
        let length = usize::try_from(length).map_err(|_| invalid("length"))?;
        self.bytes.resize(from + length + 2, 0);
        self.stream.read_exact(&mut self.bytes[from..])?;
        Ok(self.bytes[from..from + length].to_vec())
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("no reply looks like this: {text:?}"))
}

/// The request's bytes.
pub fn request<W: AsRef<[u8]>>(words: &[W]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.as_ref().len()).as_bytes());
        bytes.extend_from_slice(word.as_ref());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Splits a line at blanks; `"…"` keeps blanks and knows `\n`, `\r`, `\t`, `\"`, `\\` and `\xHH`.
pub fn words(line: &str) -> Vec<Vec<u8>> {
    let (mut found, mut word, mut quoted, mut started) = (Vec::new(), Vec::new(), false, false);
    let mut bytes = line.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => (quoted, started) = (!quoted, true),
            b'\\' if quoted => word.push(match bytes.next() {
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'x') => {
                    let digits = [bytes.next().unwrap_or(b'0'), bytes.next().unwrap_or(b'0')];
                    let text = std::str::from_utf8(&digits).expect("two hexadecimal digits");
                    u8::from_str_radix(text, 16).expect("two hexadecimal digits")
                }
                other => other.unwrap_or(b'\\'),
            }),
            b' ' if !quoted => {
                if started {
                    found.push(std::mem::take(&mut word));
                }
                started = false;
            }
            _ => {
                word.push(byte);
                started = true;
            }
        }
    }
    if started {
        found.push(word);
    }
    found
}

impl Value {
    /// The elements of an array, map, set or push.
    pub fn items(&self) -> &[Value] {
        match self {
            Value::Array(items) | Value::Map(items) | Value::Set(items) | Value::Push(items) => items,
            other => panic!("{other} has no elements"),
        }
    }

    /// The text of a bulk, verbatim or simple string.
    pub fn text(&self) -> String {
        match self {
            Value::Bulk(bytes) | Value::Verbatim(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Value::Simple(text) => text.clone(),
            other => panic!("{other} is no text"),
        }
    }

    /// All byte strings in it, in order.
    pub fn words(&self) -> Vec<Vec<u8>> {
        match self {
            Value::Bulk(bytes) => vec![bytes.clone()],
            Value::Array(items) | Value::Map(items) | Value::Set(items) => {
                items.iter().flat_map(Value::words).collect()
            }
            Value::Null(_) => Vec::new(),
            other => panic!("{other} is no value"),
        }
    }

    /// The number of an integer reply.
    pub fn integer(&self) -> i64 {
        match self {
            Value::Integer(number) => *number,
            other => panic!("{other} is no integer"),
        }
    }

    /// The same with elements sorted, for replies whose order means nothing. Pairs of a map stay together.
    pub fn sorted(mut self) -> Value {
        match &mut self {
            Value::Array(items) | Value::Set(items) => items.sort_by_key(ToString::to_string),
            Value::Map(items) => {
                let mut pairs: Vec<_> = items.chunks(2).map(<[Value]>::to_vec).collect();
                pairs.sort_by_key(|pair| pair[0].to_string());
                *items = pairs.concat();
            }
            _ => {}
        }
        self
    }
}

impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let list = |out: &mut fmt::Formatter, open: &str, items: &[Value], close: &str| {
            let items: Vec<_> = items.iter().map(ToString::to_string).collect();
            write!(out, "{open}{}{close}", items.join(" "))
        };
        match self {
            Value::Simple(text) => write!(out, "{text}"),
            Value::Error(text) => write!(out, "-{text}"),
            Value::Integer(number) => write!(out, ":{number}"),
            Value::Bulk(bytes) => write!(out, "\"{}\"", bytes.escape_ascii()),
            Value::Verbatim(bytes) => write!(out, "={}", bytes.escape_ascii()),
            Value::Null(b'*') => write!(out, "nil list"),
            Value::Null(_) => write!(out, "nil"),
            Value::Double(text) => write!(out, ",{text}"),
            Value::Bool(truth) => write!(out, "#{}", if *truth { 't' } else { 'f' }),
            Value::BigNumber(text) => write!(out, "({text}"),
            Value::Array(items) => list(out, "[", items, "]"),
            Value::Map(items) => list(out, "{", items, "}"),
            Value::Set(items) => list(out, "~[", items, "]"),
            Value::Push(items) => list(out, ">[", items, "]"),
        }
    }
}
