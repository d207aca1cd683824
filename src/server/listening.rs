//! Where clients are accepted, and how that changes while the server runs (`CONFIG SET bind`, `CONFIG SET port`).
//!
//! Each client thread accepts on a socket of its own for each address. An address that stays is not touched. New addresses are
//! opened before old ones are closed, so that a port is always there; only when both are on the same port, where `*` and
//! `127.0.0.1` are in each other's way, the old ones go first and come back if the new ones can not be had. Connections stay.

use super::listener::{self, Address};
use super::runtime;
use crate::config::Settings;
use crate::session::service::{Listens, Service};
use parking_lot::Mutex;
use socket2::SockRef;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::{Arc, Weak};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What is needed to let a client thread accept.
pub struct Acceptor {
    /// Its runtime.
    pub runtime: Handle,
    /// Its tasks that accept.
    pub accepting: TaskTracker,
    /// Its connections.
    pub connections: TaskTracker,
}

/// An address that is listened on.
struct Open {
    address: SocketAddr,
    /// Further handles of the sockets that the tasks accept on: to end the listening at once, from any thread.
    sockets: Vec<TcpListener>,
    stop: CancellationToken,
}

impl Open {
    fn close(&self) {
        self.stop.cancel();
        for socket in &self.sockets {
            let _ = SockRef::from(socket).shutdown(Shutdown::Both); // fails only if it does not listen any more
        }
    }
}

/// The addresses that are listened on.
pub struct Listening {
    service: Weak<Service>,
    acceptors: Vec<Acceptor>,
    open: Mutex<Vec<Open>>,
}

impl Listening {
    /// Listens on the addresses of `settings`, for the threads that `acceptors` are of.
    ///
    /// # Errors
    /// An address that cannot be listened on.
    pub fn start(
        service: &Arc<Service>,
        settings: &Settings,
        acceptors: Vec<Acceptor>,
    ) -> io::Result<Listening> {
        let listening =
            Listening { service: Arc::downgrade(service), acceptors, open: Mutex::new(Vec::new()) };
        let open = listening.open(&wanted(settings)?, settings)?;
        *listening.open.lock() = open;
        Ok(listening)
    }

    /// What is listened on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.open.lock().iter().map(|open| open.address).collect()
    }

    fn open(&self, addresses: &[Address], settings: &Settings) -> io::Result<Vec<Open>> {
        let Some(service) = self.service.upgrade() else { return Ok(Vec::new()) };
        let backlog = i32::try_from(settings.tcp_backlog).unwrap_or(511);
        let mut all = Vec::new();
        for (address, sockets) in listener::open_tcp(addresses, backlog, self.acceptors.len())? {
            let stop = service.stop.token().child_token();
            let handles = sockets.iter().map(TcpListener::try_clone).collect::<io::Result<Vec<_>>>()?;
            for (socket, acceptor) in sockets.into_iter().zip(&self.acceptors) {
                let (service, connections) = (Arc::clone(&service), acceptor.connections.clone());
                let accept = runtime::accept_tcp(socket, service, connections, stop.clone());
                acceptor.accepting.spawn_on(accept, &acceptor.runtime);
            }
            all.push(Open { address, sockets: handles, stop });
        }
        Ok(all)
    }

    /// Listens on the addresses of `settings` and no others.
    fn change(&self, settings: &Settings) -> io::Result<()> {
        let wanted = wanted(settings)?;
        let mut open = self.open.lock();
        let is_wanted = |open: &Open| wanted.iter().any(|wanted| wanted.socket == open.address);
        let (mut kept, old): (Vec<Open>, Vec<Open>) = open.drain(..).partition(is_wanted);
        let is_new = |wanted: &&Address| kept.iter().all(|kept| kept.address != wanted.socket);
        let new: Vec<Address> = wanted.iter().filter(is_new).copied().collect();
        let in_the_way = old.iter().any(|old| new.iter().any(|new| new.socket.port() == old.address.port()));
        if in_the_way {
            old.iter().for_each(Open::close);
        }
        let result = self.open(&new, settings).map(|opened| {
            old.iter().for_each(Open::close);
            kept.extend(opened);
        });
        match result {
            Err(_) if in_the_way => {
                let again: Vec<Address> =
                    old.iter().map(|old| Address { socket: old.address, is_optional: false }).collect();
                match self.open(&again, settings) {
                    Ok(opened) => kept.extend(opened),
                    Err(error) => tracing::error!(%error, "an address that was listened on is lost"),
                }
            }
            Err(_) => kept.extend(old),
            Ok(()) => {}
        }
        *open = kept;
        result
    }
}

impl Listens for Listening {
    fn listen_on(&self, settings: &Settings) -> bool {
        self.change(settings).inspect_err(|error| tracing::warn!(%error, "cannot listen")).is_ok()
    }
}

fn wanted(settings: &Settings) -> io::Result<Vec<Address>> {
    match settings.port {
        0 => Ok(Vec::new()),
        port => listener::addresses(&settings.bind, port),
    }
}
