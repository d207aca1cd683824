//! A connection to the server that gets keys back: one command after the other, each waits for its reply.
//!
//! The decoder is no match for a server that means harm (lists nested deeply end the process): this one was named by who
//! started us.

use bytes::BytesMut;
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::encode::extend_encode;
use redis_protocol::resp2::types::BytesFrame;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// A value of hundreds of megabytes takes its time.
const REPLY_WITHIN: Duration = Duration::from_mins(2);
/// Bytes of a reply at most: the longest value as DUMP gives it, and more.
const REPLY_MAX: usize = 1 << 30;
const READ_BYTES: usize = 64 << 10;

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Text, or a value.
    Bytes(Vec<u8>),
    /// A number.
    Integer(i64),
    /// Nothing.
    Null,
}

/// Why there is no reply.
#[derive(Debug)]
pub enum Failure {
    /// The server refused the command, in its words.
    Refused(String),
    /// The connection failed.
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> io::Error {
        match failure {
            Failure::Refused(words) => io::Error::other(format!("the server says: {words}")),
            Failure::Io(error) => error,
        }
    }
}

/// A server.
pub struct Peer {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Peer {
    /// Connects to `HOST:PORT`.
    pub fn connect(address: &str) -> io::Result<Peer> {
        let failed =
            |error: io::Error| io::Error::new(error.kind(), format!("cannot connect to {address}: {error}"));
        let mut last = io::Error::other("no such host");
        for resolved in address.to_socket_addrs().map_err(failed)? {
            match TcpStream::connect_timeout(&resolved, CONNECT_WITHIN) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(REPLY_WITHIN))?;
                    stream.set_write_timeout(Some(REPLY_WITHIN))?;
                    return Ok(Peer { stream, buffer: BytesMut::new() });
                }
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }

    /// Sends a command and reads its reply.
    pub fn ask(&mut self, words: &[&[u8]]) -> Result<Reply, Failure> {
        let words = words.iter().map(|word| BytesFrame::BulkString(word.to_vec().into())).collect();
        let mut request = BytesMut::new();
        extend_encode(&mut request, &BytesFrame::Array(words), false).map_err(malformed)?;
        self.stream.write_all(&request)?;
        drop(request);
        match self.read()? {
            BytesFrame::SimpleString(bytes) | BytesFrame::BulkString(bytes) => {
                Ok(Reply::Bytes(bytes.to_vec()))
            }
            BytesFrame::Integer(number) => Ok(Reply::Integer(number)),
            BytesFrame::Null => Ok(Reply::Null),
            BytesFrame::Error(words) => Err(Failure::Refused(words.to_string())),
            BytesFrame::Array(_) => Err(malformed("a list where none belongs").into()),
        }
    }

    fn read(&mut self) -> io::Result<BytesFrame> {
        loop {
            if let Some((frame, _, _)) = decode_bytes_mut(&mut self.buffer).map_err(malformed)? {
                return Ok(frame);
            }
            let len = self.buffer.len();
            if len > REPLY_MAX {
                return Err(malformed("its reply is too long"));
            }
            self.buffer.resize(len + READ_BYTES, 0);
            let read = self.stream.read(&mut self.buffer[len..]);
            self.buffer.truncate(len + *read.as_ref().unwrap_or(&0));
            if read? == 0 {
                return Err(io::Error::other("the server closed the connection"));
            }
        }
    }
}

fn malformed(what: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("the server does not speak the Redis protocol: {what}"))
}
