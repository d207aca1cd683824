//! A connection that stops to be a client's and becomes a replication link: what is asked for, and what is given away.

use std::net::TcpStream;

/// What the client has asked for: once everything is sent, its socket goes over to replication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// The version of the link that it speaks.
    pub version: u32,
}

/// Where a replica says that it can be reached, if that is not where its connection comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// A name or an address; empty is the connection's.
    pub host: String,
    /// The port for clients; 0 was not told.
    pub port: u16,
}

/// A socket that was a client's connection. Nothing of the client is left; everything it was to be told is sent.
#[derive(Debug)]
pub struct LinkStream {
    /// The socket, non-blocking.
    pub socket: TcpStream,
    /// What came behind the request, unread.
    pub received: Vec<u8>,
    /// The version of the link that the other end speaks.
    pub version: u32,
    /// Where the other end can be reached by clients: host and port (0 was not told).
    pub address: (String, u16),
}

/// Takes over sockets for replication.
pub type TakeLink = Box<dyn Fn(LinkStream) + Send + Sync>;
