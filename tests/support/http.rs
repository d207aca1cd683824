//! One request over HTTP, and its answer.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const ANSWER_WITHIN: Duration = Duration::from_mins(1);

/// Status and body of what the server says to these bytes before it closes the connection; status 0 if it says nothing.
pub fn exchange(port: u16, request: &[u8]) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    // It may have closed before it has read all that it does not want.
    let _ = stream.write_all(request);
    Ok(answer(&mut stream))
}

/// The rest of what a server says on this connection, until it closes it.
pub fn answer(stream: &mut TcpStream) -> (u16, String) {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => panic!("it does not close: {error}"),
        _ => {}
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, body.to_owned())
}

/// Status and body of a page.
pub fn get(port: u16, path: &str) -> (u16, String) {
    try_get(port, path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The same, of a server that may not be there.
pub fn try_get(port: u16, path: &str) -> io::Result<(u16, String)> {
    exchange(port, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
}
