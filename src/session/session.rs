//! `Session`: the state of one client that only its own connection touches.
//!
//! What others may see is copied to its [`Client`] by [`Session::publish`]: before a command on the connection or the server
//! runs, and at the end of a turn in which something changed.

use super::client::{Buffers, Client, Profile};
use super::forwarding::Route;
use super::forwarding::message::RequestId;
use super::handover::{Announced, Handover};
use super::holds::Holds;
use super::multi::Multi;
use super::pubsub::Subscriptions;
use super::watch::Watched;
use crate::base::concern::WriteConcern;
use crate::base::ids::NodeId;
use crate::config::Settings;
use crate::protocol::encode::Version;
use crate::store::PartitionSet;
use std::sync::Arc;

/// The user that every connection starts as.
pub const DEFAULT_USER: &str = "default";

/// Whether replies are sent (CLIENT REPLY).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replies {
    /// All are.
    #[default]
    On,
    /// None is.
    Off,
    /// That to the command that comes next is not.
    SkipNext,
    /// That to the command that runs is not.
    Skip,
}

/// How a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// Once everything is sent.
    AfterReply,
    /// At once.
    Now,
}

/// The state of one client.
pub struct Session {
    /// Its number, unique in this process.
    pub id: u64,
    /// What others see of it.
    pub client: Arc<Client>,
    /// What its connection's buffers hold, the command that runs included, the reply to it not.
    pub buffers: Buffers,
    /// The database selected.
    pub database: u16,
    /// The version of the protocol.
    pub version: Version,
    /// Name given by CLIENT SETNAME.
    pub name: Vec<u8>,
    /// The user it acts as.
    pub user: Arc<str>,
    /// Whether it may do more than authenticate.
    pub is_authenticated: bool,
    /// Name and version of the client library.
    pub library: (String, String),
    /// Commands queued since MULTI.
    pub multi: Option<Box<Multi>>,
    /// Requests of the transaction that runs now, and their bytes.
    pub executing: Option<(usize, usize)>,
    /// Keys watched.
    pub watched: Watched,
    /// Whether replies are sent.
    pub replies: Replies,
    /// Whether the connection is to end.
    pub closing: Option<Closing>,
    /// Whether replication takes the socket over at that end.
    pub handover: Option<Handover>,
    /// Where it says that it can be reached, if it is a replica.
    pub announced: Announced,
    /// Whether this client has changed settings in this turn, and so the next command needs another snapshot of them.
    pub has_new_settings: bool,
    /// What it listens to.
    pub subscriptions: Subscriptions,
    /// Whether it is fed by MONITOR.
    pub is_monitor: bool,
    /// Exempt from eviction of clients.
    pub is_no_evict: bool,
    /// Its reads leave the keys' access times alone.
    pub is_no_touch: bool,
    /// It waits in a blocking command or for the end of a pause.
    pub is_blocked: bool,
    /// The last command: `get`, `config|get`.
    pub command: &'static str,
    /// Where the journal stood after its last write: to be flushed before a reply leaves.
    pub journal_position: u64,
    /// Where the journal stood after the last write of all: what WAIT waits for.
    pub last_write: u64,
    /// Where the last write was made of all that another node has carried out, if none was made here since: that node, and where its
    /// journal stood.
    pub written_elsewhere: Option<(NodeId, u64)>,
    /// The write concern that the connection has chosen.
    pub write_concern: Option<WriteConcern>,
    /// What must be on enough nodes before the replies of this turn leave.
    pub holds: Holds,
    /// While commands are collected that go there in one go: where. What does not go there must wait.
    pub collecting: Option<Route>,
    /// It stands for a client that is connected to another node.
    pub is_forwarded: bool,
    /// The request that the command that runs carries out for another node, and whether that is to be remembered even if it changes
    /// nothing: as long as others run behind it.
    pub answering: Option<(RequestId, bool)>,
    /// The partitions that a command on all keys is limited to.
    pub only: Option<PartitionSet>,
    /// It takes reads from copies (READONLY), where `replica-reads` leaves it the choice.
    pub reads_copies: bool,
    /// It has asked where slots are (CLUSTER SLOTS and its kin), so it is served as by a node of Redis Cluster.
    pub knows_slots: bool,
    /// For how long the command that runs has waited for data at other nodes already, in milliseconds.
    pub waited_ms: u64,
    /// What the clock said when the last command ended, or the turn began.
    pub clock: u64,
    is_changed: bool,
}

impl Session {
    /// The session of a new client. It is authenticated if no password is set.
    pub fn new(client: Arc<Client>, is_authenticated: bool) -> Session {
        Session {
            id: client.id,
            client,
            buffers: Buffers::default(),
            database: 0,
            version: Version::Resp2,
            name: Vec::new(),
            user: DEFAULT_USER.into(),
            is_authenticated,
            library: (String::new(), String::new()),
            multi: None,
            executing: None,
            watched: Watched::default(),
            replies: Replies::On,
            closing: None,
            handover: None,
            announced: Announced::default(),
            has_new_settings: false,
            subscriptions: Subscriptions::default(),
            is_monitor: false,
            is_no_evict: false,
            is_no_touch: false,
            is_blocked: false,
            command: "",
            journal_position: 0,
            last_write: 0,
            written_elsewhere: None,
            write_concern: None,
            holds: Holds::default(),
            collecting: None,
            is_forwarded: false,
            answering: None,
            only: None,
            reads_copies: false,
            knows_slots: false,
            waited_ms: 0,
            clock: 0,
            is_changed: true,
        }
    }

    /// Notes which command runs.
    #[inline]
    pub fn note_command(&mut self, name: &'static str) {
        if !std::ptr::eq(self.command, name) {
            self.command = name;
            self.is_changed = true;
        }
    }

    /// Something changed that others may see.
    pub fn touch(&mut self) {
        self.is_changed = true;
    }

    /// Lets others see the present state.
    #[inline]
    pub fn publish(&mut self) {
        if self.is_changed {
            self.is_changed = false;
            self.client.set_profile(self.profile());
        }
    }

    /// Lets others see how much is in the buffers, and what the session holds besides.
    #[inline]
    pub fn publish_buffers(&self) {
        let queued = self.multi.as_ref().map_or(0, |multi| multi.bytes);
        let held = queued + self.watched.bytes() + self.subscriptions.bytes();
        self.client.note_buffers(self.buffers, held);
    }

    /// What others may see.
    pub fn profile(&self) -> Profile {
        let (channels, patterns, shard_channels) = self.subscriptions.counts();
        Profile {
            name: self.name.clone(),
            user: Arc::clone(&self.user),
            library_name: self.library.0.clone(),
            library_version: self.library.1.clone(),
            database: self.database,
            version: self.version,
            command: self.command,
            queued: self.executing.or(self.multi.as_ref().map(|multi| (multi.queue.len(), multi.bytes))),
            is_dirty: self.watched.is_dirty(),
            channels,
            patterns,
            shard_channels,
            is_monitor: self.is_monitor,
            is_no_evict: self.is_no_evict,
            is_no_touch: self.is_no_touch,
            is_blocked: self.is_blocked,
        }
    }

    /// Whether only commands of publish/subscribe make sense: subscribed, in the protocol without push messages.
    #[inline]
    pub fn is_subscriber_only(&self) -> bool {
        self.version == Version::Resp2 && !self.subscriptions.is_empty()
    }

    /// Ends the connection once everything is sent.
    pub fn close_after_reply(&mut self) {
        self.closing.get_or_insert(Closing::AfterReply);
    }

    /// A transaction was committed up to this journal position (0: nothing was changed).
    #[inline]
    pub fn note_write(&mut self, position: u64) {
        self.journal_position = self.journal_position.max(position);
        self.last_write = self.last_write.max(position);
    }

    /// On how many nodes a write in `database` is to be stored before it is acknowledged.
    #[inline]
    pub fn concern(&self, settings: &Settings, database: u16) -> WriteConcern {
        self.write_concern.unwrap_or_else(|| settings.write_concern_of(database))
    }
}
