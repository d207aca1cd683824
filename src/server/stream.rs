//! The sockets that connections run over.

use std::io;
use std::os::fd::AsFd;
use tokio::io::{AsyncRead, AsyncWrite};

/// A client's socket.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {
    /// The same socket for somebody else, who goes on with it after the connection has ended.
    ///
    /// # Errors
    /// No descriptor is left, or it is no TCP socket.
    fn another_handle(&self) -> io::Result<std::net::TcpStream>;
}

impl Stream for tokio::net::TcpStream {
    fn another_handle(&self) -> io::Result<std::net::TcpStream> {
        self.as_fd().try_clone_to_owned().map(Into::into)
    }
}

impl Stream for tokio::net::UnixStream {
    fn another_handle(&self) -> io::Result<std::net::TcpStream> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
impl Stream for tokio::io::DuplexStream {
    fn another_handle(&self) -> io::Result<std::net::TcpStream> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
