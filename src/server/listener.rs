//! Listening sockets: what `bind`, `port`, `tcp-backlog` and `unixsocket` say, opened once for each client thread.
//!
//! Each thread listens on a socket of its own (SO_REUSEPORT) and the kernel spreads the connections: no thread hands
//! sockets to another. Since the option would also let a second server share the port in silence, the address is first
//! taken without it, once.

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

/// Where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Address and port.
    pub socket: SocketAddr,
    /// Whether the server starts without it if the machine does not have it (`-::1`).
    pub is_optional: bool,
}

/// The addresses that the words of `bind` mean: `*` is every IPv4 address, `::*` every IPv6 address, a leading `-` makes
/// one optional. An empty word means no address.
///
/// # Errors
/// A name that does not resolve.
pub fn addresses(bind: &[String], port: u16) -> io::Result<Vec<Address>> {
    let mut found = Vec::new();
    for word in bind.iter().filter(|word| !word.is_empty()) {
        let (name, is_optional) = word.strip_prefix('-').map_or((word.as_str(), false), |name| (name, true));
        let mut push = |socket| found.push(Address { socket, is_optional });
        match name {
            "*" => push((Ipv4Addr::UNSPECIFIED, port).into()),
            "::*" => push((Ipv6Addr::UNSPECIFIED, port).into()),
            _ => match (name, port).to_socket_addrs() {
                Ok(sockets) => sockets.for_each(push),
                Err(_) if is_optional => {}
                Err(error) => return Err(error),
            },
        }
    }
    Ok(found)
}

/// Opens `threads` listeners for each of `addresses`. Optional addresses that the machine does not have are left out, as is a
/// whole address family that it does not know.
///
/// # Errors
/// An address that is taken or not there.
pub fn open_tcp(
    addresses: &[Address],
    backlog: i32,
    threads: usize,
) -> io::Result<Vec<(SocketAddr, Vec<TcpListener>)>> {
    let mut opened = Vec::new();
    for address in addresses {
        match listen(address.socket, backlog, false) {
            Ok(probe) => drop(probe),
            Err(error) if may_be_left_out(&error, address.is_optional) => continue,
            Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", address.socket))),
        }
        let sockets: Vec<TcpListener> =
            (0..threads).map(|_| listen(address.socket, backlog, true)).collect::<io::Result<_>>()?;
        opened.push((address.socket, sockets));
    }
    Ok(opened)
}

fn listen(address: SocketAddr, backlog: i32, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

fn may_be_left_out(error: &io::Error, is_optional: bool) -> bool {
    let is_unknown_family = matches!(
        error.raw_os_error().map(rustix::io::Errno::from_raw_os_error),
        Some(
            rustix::io::Errno::AFNOSUPPORT
                | rustix::io::Errno::PFNOSUPPORT
                | rustix::io::Errno::PROTONOSUPPORT
                | rustix::io::Errno::NOPROTOOPT
        )
    );
    is_unknown_family || (is_optional && error.kind() == io::ErrorKind::AddrNotAvailable)
}

/// Opens the local socket at `path` with the permissions `mode` (0: those of the umask). What an earlier server left there
/// is removed.
///
/// # Errors
/// A path that can not be made.
pub fn open_unix(path: &Path, mode: u32, backlog: i32) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    if mode != 0 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// Prepares an accepted socket: small replies leave at once, and a peer that is gone is noticed after `keepalive_s`
/// seconds of silence (0: never). Failures are of no consequence: the peer may be gone already.
pub fn prepare(socket: &tokio::net::TcpStream, keepalive_s: u64) {
    let _ = socket.set_nodelay(true);
    if keepalive_s > 0 {
        let probe_gap = Duration::from_secs((keepalive_s / 3).max(1));
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(keepalive_s))
            .with_interval(probe_gap)
            .with_retries(3);
        let _ = SockRef::from(socket).set_tcp_keepalive(&keepalive);
    }
}

/// Number of client threads if the settings leave it open: one core is left to the journal, checkpoints and the kernel.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).saturating_sub(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_words_are_those_of_redis() {
        let found = addresses(&["127.0.0.1", "-::1", "*", "-::*"].map(str::to_owned), 7).expect("addresses");
        let texts: Vec<String> =
            found.iter().map(|a| format!("{}{}", if a.is_optional { "-" } else { "" }, a.socket)).collect();
        assert_eq!(texts, ["127.0.0.1:7", "-[::1]:7", "0.0.0.0:7", "-[::]:7"]);
        assert_eq!(addresses(&[String::new()], 7).expect("none"), []);
    }

    #[test]
    fn threads_share_a_port_but_servers_do_not() {
        let any = Address { socket: ([127, 0, 0, 1], 0).into(), is_optional: false };
        let opened = open_tcp(&[any], 16, 1).expect("a free port");
        let port = opened[0].1[0].local_addr().expect("its address");
        drop(opened);
        let address = Address { socket: port, is_optional: false };
        let opened = open_tcp(&[address], 16, 2).expect("closed above");
        assert_eq!((opened.len(), opened[0].1.len()), (1, 2));
        assert!(open_tcp(&[address], 16, 1).is_err(), "the port is taken");
    }

    #[test]
    fn an_optional_address_may_be_missing() {
        let missing: SocketAddr = ([203, 0, 113, 1], 0).into();
        assert!(
            open_tcp(&[Address { socket: missing, is_optional: true }], 16, 1).expect("left out").is_empty()
        );
        assert!(open_tcp(&[Address { socket: missing, is_optional: false }], 16, 1).is_err());
    }

    #[test]
    fn a_local_socket_replaces_the_one_left_behind() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("socket");
        drop(open_unix(&path, 0o700, 16).expect("first"));
        open_unix(&path, 0o700, 16).expect("second");
        assert_eq!(std::fs::metadata(&path).expect("made").permissions().mode() & 0o777, 0o700);
    }
}
