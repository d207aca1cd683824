//! Where to begin: names of other nodes, resolved again and again, and what they say about the own address.

use super::gossip::Settings;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// How often seeds that are not heard are told, while nobody is heard.
const ALONE_GAP: Duration = Duration::from_millis(250);
/// And when somebody is.
const TELL_GAP: Duration = Duration::from_secs(1);
/// How often a name is resolved while nobody is heard.
const ALONE_RESOLVE_GAP: Duration = Duration::from_secs(1);
/// And when somebody is.
const RESOLVE_GAP: Duration = Duration::from_secs(10);
/// How long a name may take to be resolved.
const RESOLVE_TIME_MAX: Duration = Duration::from_secs(8);
/// The first incarnation waits so long for a name, so that it knows its own address from the beginning.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Names at most.
const NAMES_MAX: usize = 64;
/// Addresses of a name at most.
const ADDRESSES_MAX: usize = 64;

/// Somebody who is not on any network, to ask the routing table about: no packet is sent to it (RFC 5737, RFC 3849).
const ANYBODY: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// What is to be done now.
pub struct Due {
    /// Where others reach this node.
    pub own: SocketAddr,
    /// Seeds that are not heard.
    pub silent: Vec<SocketAddr>,
}

/// A name and what was found for it.
struct Name {
    addresses: Vec<SocketAddr>,
    is_asked: bool,
    next: Instant,
}

/// See the module.
pub struct Seeds {
    listen: SocketAddr,
    announce: Option<String>,
    port: u16,
    names: BTreeMap<String, Name>,
    asked: JoinSet<(String, Vec<SocketAddr>)>,
    met: mpsc::Receiver<String>,
    heard: BTreeSet<SocketAddr>,
    next: Instant,
}

impl Seeds {
    /// From the settings, the address that is bound, and where more names come from.
    pub fn new(settings: Settings, listen: SocketAddr, met: mpsc::Receiver<String>) -> Seeds {
        // Port 0 is never meant: it is the one that is bound.
        let named = |host: &str, port: u16| {
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
        };
        let announced =
            settings.announce.map(|(host, port)| (host, if port == 0 { listen.port() } else { port }));
        let port = announced.as_ref().map_or(listen.port(), |(_, port)| *port);
        let announce = announced.filter(|(host, _)| !host.is_empty()).map(|(host, port)| named(&host, port));
        let mut seeds = Seeds {
            listen,
            port,
            names: BTreeMap::new(),
            asked: JoinSet::new(),
            met,
            heard: BTreeSet::new(),
            next: Instant::now(),
            announce: announce.clone(),
        };
        settings.seeds.into_iter().chain(announce).for_each(|seed| seeds.add(seed));
        seeds
    }

    fn add(&mut self, seed: String) {
        if self.names.len() >= NAMES_MAX {
            return tracing::warn!("{seed} is one seed too many");
        }
        let new = Name { addresses: Vec::new(), is_asked: false, next: Instant::now() };
        self.names.entry(seed).or_insert(new);
    }

    /// Who is heard.
    pub fn heard(&mut self, live: impl Iterator<Item = SocketAddr>) {
        self.heard = live.collect();
    }

    /// Besides this node itself.
    fn is_anybody_heard(&self) -> bool {
        self.heard.len() > 1
    }

    /// Waits until something is to be done. Nothing is lost if nobody waits to the end.
    pub async fn due(&mut self) -> Due {
        loop {
            self.ask();
            tokio::select! {
                Some(answer) = self.asked.join_next() => self.answered(answer.ok()),
                Some(seed) = self.met.recv() => self.add(seed),
                () = sleep_until(self.next) => break,
            }
        }
        self.next = Instant::now() + if self.is_anybody_heard() { TELL_GAP } else { ALONE_GAP };
        let own = self.address();
        let seeds = self.names.iter().filter(|(name, _)| Some(*name) != self.announce.as_ref());
        let addresses: BTreeSet<SocketAddr> = seeds.flat_map(|(_, name)| &name.addresses).copied().collect();
        let is_silent = |address: &SocketAddr| *address != own && !self.heard.contains(address);
        Due { own, silent: addresses.into_iter().filter(is_silent).collect() }
    }

    /// Where others reach this node, as far as can be told after a short while.
    pub async fn own_address(&mut self) -> SocketAddr {
        let until = Instant::now() + FIRST_WAIT;
        let is_known = |seeds: &Seeds| {
            seeds.names.is_empty() || seeds.names.values().any(|name| !name.addresses.is_empty())
        };
        while !is_known(self) && Instant::now() < until {
            self.ask();
            tokio::select! {
                Some(answer) = self.asked.join_next() => self.answered(answer.ok()),
                () = sleep_until(until) => {}
            }
        }
        self.address()
    }

    /// Has names resolved whose time has come, each on its own.
    fn ask(&mut self) {
        let now = Instant::now();
        for (seed, name) in &mut self.names {
            if name.is_asked || name.next > now {
                continue;
            }
            name.is_asked = true;
            let seed = seed.clone();
            self.asked.spawn(async move {
                let found = timeout(RESOLVE_TIME_MAX, tokio::net::lookup_host(&seed)).await;
                let addresses =
                    found.ok().and_then(Result::ok).map(|found| found.take(ADDRESSES_MAX).collect());
                (seed, addresses.unwrap_or_default())
            });
        }
    }

    fn answered(&mut self, answer: Option<(String, Vec<SocketAddr>)>) {
        let gap = if self.is_anybody_heard() { RESOLVE_GAP } else { ALONE_RESOLVE_GAP };
        let Some((seed, addresses)) = answer else { return };
        let Some(name) = self.names.get_mut(&seed) else { return };
        (name.is_asked, name.next) = (false, Instant::now() + gap);
        // What nobody answers for now is still where it was.
        if !addresses.is_empty() {
            name.addresses = addresses;
            self.next = Instant::now();
        }
    }

    /// Where others reach this node: as announced, or where it listens, or as the way to a seed begins.
    fn address(&self) -> SocketAddr {
        let announced =
            self.announce.as_ref().and_then(|announce| self.names.get(announce)?.addresses.first());
        if let Some(announced) = announced {
            return *announced;
        }
        if !self.listen.ip().is_unspecified() {
            return SocketAddr::new(self.listen.ip(), self.port);
        }
        let is_usable = |target: &&SocketAddr| self.listen.is_ipv6() || target.is_ipv4();
        let own = |targets: &mut dyn Iterator<Item = &SocketAddr>| {
            // Another machine cannot come back by a loopback, which a seed on this one looks like.
            let found = targets.filter(is_usable).filter_map(|target| outgoing(*target));
            found.min_by_key(IpAddr::is_loopback)
        };
        let anybody = ANYBODY.map(|address| SocketAddr::new(address, self.port));
        let seeds = own(&mut self.names.values().flat_map(|name| &name.addresses));
        let address = seeds.or_else(|| own(&mut anybody.iter()));
        SocketAddr::new(address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), self.port)
    }
}

/// The own address on the way to `target`. Nothing is sent.
fn outgoing(target: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr =
        if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(target).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}
