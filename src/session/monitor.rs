//! `Monitors`: clients that are fed every command that runs (MONITOR).

use super::client::{Client, Letter};
use crate::protocol::args::Args;
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Clients that watch all commands.
#[derive(Default)]
pub struct Monitors {
    clients: Mutex<Vec<Arc<Client>>>,
    count: AtomicUsize,
}

impl Monitors {
    /// Whether there is none: the one load that a command pays.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Adds a client.
    pub fn add(&self, client: &Arc<Client>) {
        let mut clients = self.clients.lock();
        if !clients.iter().any(|other| other.id == client.id) {
            clients.push(Arc::clone(client));
        }
        self.count.store(clients.len(), Ordering::Relaxed);
    }

    /// Removes a client.
    pub fn remove(&self, id: u64) {
        let mut clients = self.clients.lock();
        clients.retain(|client| client.id != id);
        self.count.store(clients.len(), Ordering::Relaxed);
    }

    /// Tells all of them of a command that `address` runs at wall clock `now_us`.
    #[cold]
    pub fn feed(&self, now_us: i64, database: u16, address: &str, args: Args) {
        let line = Bytes::from(line(now_us, database, address, args));
        for client in self.clients.lock().iter() {
            client.send(Letter::Bytes(line.clone()));
        }
    }
}

fn line(now_us: i64, database: u16, address: &str, args: Args) -> Vec<u8> {
    let mut line =
        format!("+{}.{:06} [{database} {address}]", now_us / 1_000_000, now_us % 1_000_000).into_bytes();
    for word in args.from(0) {
        line.extend_from_slice(b" \"");
        word.iter().for_each(|&byte| escape(byte, &mut line));
        line.push(b'"');
    }
    line.extend_from_slice(b"\r\n");
    line
}

fn escape(byte: u8, line: &mut Vec<u8>) {
    match byte {
        b'\\' | b'"' => line.extend_from_slice(&[b'\\', byte]),
        b'\n' => line.extend_from_slice(b"\\n"),
        b'\r' => line.extend_from_slice(b"\\r"),
        b'\t' => line.extend_from_slice(b"\\t"),
        0x07 => line.extend_from_slice(b"\\a"),
        0x08 => line.extend_from_slice(b"\\b"),
        0x20..=0x7e => line.push(byte),
        _ => line.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_every_byte() {
        let words = b"seta\"\n\xff";
        let shown = line(1_700_000_000_000_042, 3, "1.2.3.4:5", Args::new(words, &[(0, 3), (3, 7)]));
        assert_eq!(
            String::from_utf8(shown).expect("text"),
            "+1700000000.000042 [3 1.2.3.4:5] \"set\" \"a\\\"\\n\\xff\"\r\n"
        );
    }
}
