//! Hosts on a network of their own: namespaces joined by a bridge in one more namespace, in which packets are dropped as asked. Nothing of it
//! touches the machine's own network.
//!
//! Hosts are numbered from 1; the clients are on host [`CLIENTS`]. What is cut loses its IP packets without a word, as with a
//! cable that nobody sees pulled; connections stay as they are, and go on after the heal.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The host that clients are on.
pub const CLIENTS: usize = 200;

const CONNECT_WITHIN: Duration = Duration::from_millis(500);

/// Tests take turns: each wants the processors for itself.
static TURN: Mutex<()> = Mutex::new(());
static LABS: AtomicU32 = AtomicU32::new(0);

/// A network, gone when it is dropped.
pub struct Lab {
    prefix: String,
    hosts: Vec<usize>,
    _turn: MutexGuard<'static, ()>,
}

/// Runs a command that must succeed.
fn run(words: &[&str]) {
    let output =
        Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output().unwrap_or_else(|error| {
            panic!(
                "{words:?}: {error}; these tests need iproute2 and nftables, which `bash tests/run` installs"
            )
        });
    assert!(
        output.status.success(),
        "{words:?} failed, and these tests need it: root, and a kernel with network namespaces, bridges and nftables\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Lab {
    /// A network of so many hosts, and the clients'.
    pub fn new(hosts: usize) -> Lab {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let prefix = format!("larder{}x{}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let hosts = (1..=hosts).chain([CLIENTS]).collect();
        let lab = Lab { prefix, hosts, _turn: turn };
        let hub = lab.hub();
        run(&["ip", "netns", "add", &hub]);
        run(&["ip", "-n", &hub, "link", "set", "lo", "up"]);
        run(&[
            "ip",
            "-n",
            &hub,
            "link",
            "add",
            "br0",
            "type",
            "bridge",
            "stp_state",
            "0",
            "forward_delay",
            "0",
        ]);
        run(&["ip", "-n", &hub, "link", "set", "br0", "up"]);
        for host in &lab.hosts {
            let (name, port) = (lab.namespace(*host), format!("p{host}"));
            run(&["ip", "netns", "add", &name]);
            run(&["ip", "-n", &name, "link", "set", "lo", "up"]);
            run(&[
                "ip", "-n", &hub, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns",
                &name,
            ]);
            run(&["ip", "-n", &hub, "link", "set", &port, "master", "br0", "up"]);
            run(&["ip", "-n", &name, "link", "set", "eth0", "up"]);
            lab.move_to(*host, *host);
        }
        lab.filter(
            "add table bridge lab; add chain bridge lab forward { type filter hook forward priority 0; }",
        );
        lab
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.prefix)
    }

    fn namespace(&self, host: usize) -> String {
        format!("{}-{host}", self.prefix)
    }

    /// Where the namespace of a host is found.
    pub fn namespace_path(&self, host: usize) -> String {
        format!("/run/netns/{}", self.namespace(host))
    }

    /// Gives a host this address in place of the one it had: 10.77.0.`last`.
    pub fn move_to(&self, host: usize, last: usize) {
        let name = self.namespace(host);
        run(&["ip", "-n", &name, "addr", "flush", "dev", "eth0"]);
        run(&["ip", "-n", &name, "addr", "add", &format!("{}/24", address(last)), "dev", "eth0"]);
    }

    fn filter(&self, rules: &str) {
        run(&["nsenter", &format!("--net=/run/netns/{}", self.hub()), "nft", rules]);
    }

    /// From now on nothing that `from` sends reaches `to`.
    pub fn cut_one_way(&self, from: usize, to: usize) {
        self.filter(&format!(
            "add rule bridge lab forward iifname \"p{from}\" oifname \"p{to}\" ether type ip drop"
        ));
    }

    /// From now on neither reaches the other.
    pub fn cut(&self, one: usize, other: usize) {
        self.cut_one_way(one, other);
        self.cut_one_way(other, one);
    }

    /// Everybody reaches everybody.
    pub fn heal(&self) {
        self.filter("flush chain bridge lab forward");
    }

    /// What makes connections from the clients' host.
    pub fn connector(&self) -> Connector {
        Connector { namespace: self.namespace_path(CLIENTS) }
    }
}

/// Makes connections from the clients' host.
pub struct Connector {
    namespace: String,
}

impl Connector {
    /// Moves this thread to the clients' host, for good.
    pub fn enter(&self) -> std::io::Result<()> {
        enter(&File::open(&self.namespace)?)
    }

    /// Connects to this address.
    pub fn connect(&self, to: SocketAddr) -> std::io::Result<TcpStream> {
        let namespace = File::open(&self.namespace)?;
        // A thread of its own enters the namespace; the socket stays there, whoever uses it.
        std::thread::scope(|scope| {
            let connect = scope.spawn(|| {
                enter(&namespace)?;
                TcpStream::connect_timeout(&to, CONNECT_WITHIN)
            });
            connect.join().expect("it does not panic")
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in self.hosts.iter().map(|host| self.namespace(*host)).chain([self.hub()]) {
            // One that was never made is none to remove.
            let _ = Command::new("ip").args(["netns", "del", &name]).stderr(Stdio::null()).status();
        }
    }
}

/// 10.77.0.`last`.
pub fn address(last: usize) -> String {
    format!("10.77.0.{last}")
}

/// Moves this thread into a network namespace.
#[allow(unsafe_code, reason = "the standard library has no namespaces")]
fn enter(namespace: &File) -> std::io::Result<()> {
    // SAFETY: the descriptor is open, and the call reads nothing else of ours.
    let result = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[test]
fn what_is_cut_hears_nothing_until_it_is_healed() {
    use std::io::{Read, Write};
    let lab = Lab::new(2);
    let namespace = File::open(lab.namespace_path(1)).expect("it was made");
    let listener = std::thread::spawn(move || {
        enter(&namespace)?;
        std::net::TcpListener::bind("0.0.0.0:6379")
    });
    let listener = listener.join().expect("it does not panic").expect("the port is free there");
    let to: SocketAddr = format!("{}:6379", address(1)).parse().expect("it is an address");
    let mut stream = lab.connector().connect(to).expect("nothing is cut");
    let (mut other, _) = listener.accept().expect("somebody connected");
    lab.cut_one_way(1, CLIENTS);
    stream.write_all(b"a").expect("it goes into the socket");
    let mut byte = [0];
    other.read_exact(&mut byte).expect("this direction is whole");
    other.write_all(b"b").expect("it goes into the socket");
    stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a time limit can be set");
    assert!(stream.read_exact(&mut byte).is_err(), "this direction is cut");
    assert!(lab.connector().connect(to).is_err(), "a connection takes both");
    lab.heal();
    stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a time limit can be set");
    stream.read_exact(&mut byte).expect("what was sent arrives after the heal");
    lab.connector().connect(to).expect("nothing is cut");
    lab.move_to(1, 11);
    let to: SocketAddr = format!("{}:6379", address(11)).parse().expect("it is an address");
    lab.connector().connect(to).expect("it has moved");
}
