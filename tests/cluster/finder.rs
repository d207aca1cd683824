//! Whom a client asks: always the same node, the one that SENTINEL names, or the one that CLUSTER SLOTS and MOVED name for a key.
//!
//! What was sent and not answered is never sent again; what was answered MOVED is, as it was not done.

use crate::fleet::Fleet;
use crate::lab::Connector;
use crate::support::{Client, Value};
use larder::base::crc16;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// How long somebody may take who is only asked where to go.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// A client that is sent on so often in a row gives up.
const REDIRECTIONS_MAX: usize = 5;
/// Errors that make a client of Sentinels look for the primary anew.
const NOT_PRIMARY: &[&str] = &["READONLY", "MASTERDOWN", "CLUSTERDOWN"];

/// How a client finds whom it asks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    /// This node, whatever happens.
    Node(usize),
    /// The primary, by SENTINEL.
    Sentinel,
    /// The primary of the key, by CLUSTER SLOTS.
    Cluster,
}

impl Way {
    /// What errors of such clients begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Way::Node(_) => "",
            Way::Sentinel => "Sentinel client: ",
            Way::Cluster => "Cluster client: ",
        }
    }
}

/// See the module.
pub struct Finder {
    way: Way,
    connector: Connector,
    nodes: BTreeMap<usize, SocketAddr>,
    patience: Duration,
    connections: BTreeMap<usize, Client>,
    /// The primary, for a client of Sentinels.
    primary: Option<usize>,
    /// First slot, last slot, primary.
    slots: Vec<(u16, u16, usize)>,
    /// Whom to ask next where to go.
    turn: usize,
}

impl Finder {
    /// A client of this cluster, not connected to anybody yet.
    pub fn new(fleet: &Fleet, way: Way, patience: Duration) -> Finder {
        let nodes = fleet.everybody().into_iter().map(|node| (node, fleet.socket_address(node))).collect();
        Finder {
            way,
            connector: fleet.lab.connector(),
            nodes,
            patience,
            connections: BTreeMap::new(),
            primary: None,
            slots: Vec::new(),
            turn: 0,
        }
    }

    /// Sends a command about a key to whom it is for: whom it was sent to, and what came back.
    ///
    /// # Errors
    /// If nobody was found, or not reached; then nothing was sent.
    pub fn ask(&mut self, key: &str, words: &[&str]) -> io::Result<(usize, io::Result<Value>)> {
        let mut node = self.find(key)?;
        for _ in 0..REDIRECTIONS_MAX {
            let Some(connection) = self.connections.get_mut(&node) else { break };
            let reply = connection.try_ask(words);
            let Ok(Value::Error(text)) = &reply else {
                if reply.is_err() {
                    self.forget(node);
                }
                return Ok((node, reply));
            };
            let mut parts = text.split(' ');
            match (parts.next(), parts.nth(1)) {
                (Some("MOVED"), Some(address)) => {
                    self.slots.clear(); // It is out of date; everything is looked up again next time.
                    node = self.number(address)?;
                    self.connect(node)?;
                }
                (Some(word), _) if NOT_PRIMARY.contains(&word) => {
                    (self.primary, self.slots) = (None, Vec::new());
                    return Ok((node, reply));
                }
                _ => return Ok((node, reply)),
            }
        }
        Err(io::Error::other("it is sent on for ever"))
    }

    fn forget(&mut self, node: usize) {
        self.connections.remove(&node);
        (self.primary, self.slots) = (None, Vec::new());
    }

    /// Whom to ask about a key, connected.
    fn find(&mut self, key: &str) -> io::Result<usize> {
        let node = match self.way {
            Way::Node(node) => node,
            Way::Sentinel => match self.primary {
                Some(primary) => primary,
                None => self.ask_sentinel()?,
            },
            Way::Cluster => {
                if self.slots.is_empty() {
                    let node = self.next();
                    self.connections.remove(&node); // A new one asks for the slots.
                    self.connect(node)?;
                }
                let slot = crc16::slot(key.as_bytes()).0;
                let range = self.slots.iter().find(|(first, last, _)| (*first..=*last).contains(&slot));
                let primary = range.map(|(.., primary)| *primary);
                primary.unwrap_or_else(|| self.next())
            }
        };
        self.connect(node)?;
        if self.way == Way::Sentinel {
            self.primary = Some(node);
        }
        Ok(node)
    }

    fn next(&mut self) -> usize {
        self.turn += 1;
        *self.nodes.keys().nth(self.turn % self.nodes.len()).expect("it is below their number")
    }

    fn ask_sentinel(&mut self) -> io::Result<usize> {
        let node = self.next();
        let mut sentinel = Client::over(self.connector.connect(self.nodes[&node])?, ANSWER_WITHIN)?;
        let reply = sentinel.try_ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"])?;
        let Value::Array(parts) = &reply else { return Err(io::Error::other(reply.to_string())) };
        self.number(&format!("{}:{}", parts[0].text(), parts[1].text()))
    }

    fn number(&self, address: &str) -> io::Result<usize> {
        let found = self.nodes.iter().find(|(_, known)| known.to_string() == address);
        found.map(|(node, _)| *node).ok_or_else(|| io::Error::other(format!("there is no {address}")))
    }

    /// Connects to a node unless there is a connection already.
    fn connect(&mut self, node: usize) -> io::Result<()> {
        if self.connections.contains_key(&node) {
            return Ok(());
        }
        let connected = self.connected(node);
        if connected.is_err() {
            self.forget(node);
        }
        self.connections.insert(node, connected?);
        Ok(())
    }

    fn connected(&mut self, node: usize) -> io::Result<Client> {
        let stream = self.connector.connect(self.nodes[&node])?;
        let socket = stream.try_clone()?;
        let mut client = Client::over(stream, ANSWER_WITHIN)?;
        if self.way == Way::Cluster {
            // From now on this connection is answered MOVED.
            let slots = client.try_ask(&["CLUSTER", "SLOTS"])?;
            self.slots = self.ranges(&slots)?;
        }
        socket.set_read_timeout(Some(self.patience))?;
        Ok(client)
    }

    fn ranges(&self, slots: &Value) -> io::Result<Vec<(u16, u16, usize)>> {
        let Value::Array(ranges) = slots else { return Err(io::Error::other(slots.to_string())) };
        let range = |range: &Value| {
            let parts = range.items();
            let primary = parts[2].items();
            let address = format!("{}:{}", primary[0].text(), primary[1].integer());
            Ok((parts[0].integer() as u16, parts[1].integer() as u16, self.number(&address)?))
        };
        ranges.iter().map(range).collect()
    }
}
