//! Whoever started the process is told that it is ready, and which it is: `supervised`, `pidfile`.
//!
//! As in Redis, a server that cannot tell goes on.

use crate::config::Settings;
use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;

/// Where systemd listens for what its services tell, by its protocol (sd_notify).
const SOCKET: &str = "NOTIFY_SOCKET";

/// Told that the server is ready; told otherwise when this is dropped.
pub struct Told {
    pid_file: Option<PathBuf>,
    is_notified: bool,
}

impl Told {
    /// Tells that clients are served.
    pub fn ready(settings: &Settings) -> Told {
        let pid_file = Some(&settings.pidfile).filter(|path| !path.as_os_str().is_empty()).cloned();
        if let Some(path) = &pid_file
            && let Err(error) = std::fs::write(path, format!("{}\n", std::process::id()))
        {
            tracing::warn!("Failed to write PID file {}: {error}", path.display());
        }
        let is_notified = settings.notifies_systemd && env::var_os(SOCKET).is_some();
        if is_notified {
            notify("READY=1\nSTATUS=Ready to accept connections\n");
        }
        Told { pid_file, is_notified }
    }

    /// Tells that no client is served any more.
    pub fn stopping(&self) {
        if self.is_notified {
            notify("STOPPING=1\nSTATUS=Stopping\n");
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(path) = &self.pid_file {
            let _ = std::fs::remove_file(path); // nobody needs it any more
        }
    }
}

fn notify(state: &str) {
    if let Err(error) = try_notify(state) {
        tracing::warn!("systemd could not be told: {error}");
    }
}

fn try_notify(state: &str) -> io::Result<()> {
    let path = env::var_os(SOCKET).unwrap_or_default();
    // A name that begins so has no file.
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?; // a supervisor that does not listen must not hold up a start
    socket.send_to_addr(state.as_bytes(), &address).map(|_| ())
}
