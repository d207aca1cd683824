//! `Client`: what other threads see of a session, and how they reach it.
//!
//! A session belongs to its connection's task alone. Everybody else has the client: a profile for CLIENT LIST, a few figures
//! that change with every turn, and a mailbox. Whatever is put into the mailbox wakes the connection; nothing is polled.

use crate::protocol::encode::Version;
use crate::protocol::reply::Reply;
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicUsize, Ordering};
use std::task::Waker;

/// Both ends of a connection.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// `IP:port` of the client, or the path of the local socket and `:0`.
    pub address: String,
    /// The same of our end.
    pub local_address: String,
    /// Number of the file descriptor.
    pub descriptor: i32,
    /// Whether it came through the local socket.
    pub is_local_socket: bool,
    /// Whether it comes from this machine.
    pub is_loopback: bool,
}

/// What CLIENT LIST shows of a session besides figures.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// Name given by CLIENT SETNAME.
    pub name: Vec<u8>,
    /// The user it has authenticated as.
    pub user: Arc<str>,
    /// Name of the client library (CLIENT SETINFO).
    pub library_name: String,
    /// Version of the client library (CLIENT SETINFO).
    pub library_version: String,
    /// The database selected.
    pub database: u16,
    /// The version of the protocol.
    pub version: Version,
    /// The last command: `get`, `config|get`.
    pub command: &'static str,
    /// Commands queued since MULTI, and their bytes.
    pub queued: Option<(usize, usize)>,
    /// Whether a watched key has changed.
    pub is_dirty: bool,
    /// Channels subscribed to.
    pub channels: usize,
    /// Patterns subscribed to.
    pub patterns: usize,
    /// Sharded channels subscribed to.
    pub shard_channels: usize,
    /// Whether it is fed by MONITOR.
    pub is_monitor: bool,
    /// Whether it is exempt from eviction of clients.
    pub is_no_evict: bool,
    /// Whether its reads leave the keys' access times alone.
    pub is_no_touch: bool,
    /// Whether it waits in a blocking command or for the end of a pause.
    pub is_blocked: bool,
}

/// The kinds of client that CLIENT LIST TYPE and client-output-buffer-limit tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Asks and is answered.
    Normal,
    /// Is subscribed to something.
    Pubsub,
    /// Follows us.
    Replica,
    /// Is followed by us.
    Master,
}

/// Something for a connection from outside of it.
#[derive(Clone, Debug)]
pub enum Letter {
    /// Bytes to be sent, encoded already: a message, a line of MONITOR.
    Bytes(Bytes),
    /// End the wait of a blocking command: with an error, or as if its time were up.
    Unblock {
        /// With an error.
        with_error: bool,
    },
    /// The command that waited has run.
    Served {
        /// Its reply.
        reply: Reply,
        /// Where the journal stood after it: to be flushed before the reply leaves.
        position: u64,
    },
    /// Look up: there is an order to close.
    Nudge,
}

#[derive(Default)]
struct Mailbox {
    letters: Vec<Letter>,
    bytes: usize,
    waker: Option<Waker>,
}

/// What other threads see of a session.
pub struct Client {
    /// Its number, unique in this process, growing.
    pub id: u64,
    /// Both ends of its connection.
    pub peer: Peer,
    /// When it connected, in wall clock milliseconds.
    pub connected_ms: i64,
    profile: Mutex<Profile>,
    version: AtomicU8,
    last_seen_ms: AtomicI64,
    input_len: AtomicUsize,
    output_len: AtomicUsize,
    mailbox: Mutex<Mailbox>,
    has_mail: AtomicBool,
    is_killed: AtomicBool,
    is_waiting: AtomicBool,
}

impl Client {
    /// A client that connected at wall clock `now_ms`.
    pub fn new(id: u64, peer: Peer, now_ms: i64) -> Client {
        Client {
            id,
            peer,
            connected_ms: now_ms,
            profile: Mutex::default(),
            version: AtomicU8::new(2),
            last_seen_ms: AtomicI64::new(now_ms),
            input_len: AtomicUsize::new(0),
            output_len: AtomicUsize::new(0),
            mailbox: Mutex::default(),
            has_mail: AtomicBool::new(false),
            is_killed: AtomicBool::new(false),
            is_waiting: AtomicBool::new(false),
        }
    }

    /// A copy of the profile as of the last turn.
    pub fn profile(&self) -> Profile {
        self.profile.lock().clone()
    }

    /// Replaces the profile.
    pub fn set_profile(&self, profile: Profile) {
        self.version.store(profile.version.number() as u8, Ordering::Relaxed);
        *self.profile.lock() = profile;
    }

    /// The version of the protocol in which to write to it.
    pub fn version(&self) -> Version {
        if self.version.load(Ordering::Relaxed) == 3 { Version::Resp3 } else { Version::Resp2 }
    }

    /// Notes the figures at the end of a turn: wall clock, bytes of unread requests and of unsent replies.
    #[inline]
    pub fn note_turn(&self, now_ms: i64, input_len: usize, output_len: usize) {
        self.last_seen_ms.store(now_ms, Ordering::Relaxed);
        self.input_len.store(input_len, Ordering::Relaxed);
        self.output_len.store(output_len, Ordering::Relaxed);
    }

    /// Notes how much input and output there is while a command runs that might show it.
    pub fn note_buffers(&self, input_len: usize, output_len: usize) {
        self.output_len.store(output_len, Ordering::Relaxed);
        self.input_len.store(input_len, Ordering::Relaxed);
    }

    /// Wall clock of its last turn, in milliseconds.
    pub fn last_seen_ms(&self) -> i64 {
        self.last_seen_ms.load(Ordering::Relaxed)
    }

    /// Bytes of requests not yet run.
    pub fn input_len(&self) -> usize {
        self.input_len.load(Ordering::Relaxed)
    }

    /// Bytes of replies not yet sent, letters included.
    pub fn output_len(&self) -> usize {
        self.output_len.load(Ordering::Relaxed) + self.mailbox.lock().bytes
    }

    /// Leaves a letter and wakes the connection. Returns the bytes now waiting in the mailbox.
    pub fn send(&self, letter: Letter) -> usize {
        let mut mailbox = self.mailbox.lock();
        if let Letter::Bytes(bytes) = &letter {
            mailbox.bytes += bytes.len();
        }
        mailbox.letters.push(letter);
        self.has_mail.store(true, Ordering::Release);
        if let Some(waker) = &mailbox.waker {
            waker.wake_by_ref();
        }
        mailbox.bytes
    }

    /// Takes all letters.
    pub fn take_mail(&self) -> Vec<Letter> {
        let mut mailbox = self.mailbox.lock();
        self.has_mail.store(false, Ordering::Release);
        mailbox.bytes = 0;
        std::mem::take(&mut mailbox.letters)
    }

    /// Whether there are letters, or an order to close.
    #[inline]
    pub fn has_mail(&self) -> bool {
        self.has_mail.load(Ordering::Acquire)
    }

    /// Whom to wake when a letter comes.
    pub fn set_waker(&self, waker: &Waker) {
        self.mailbox.lock().waker = Some(waker.clone());
    }

    /// Orders the connection to close at once.
    pub fn kill(&self) {
        self.is_killed.store(true, Ordering::Release);
        self.send(Letter::Nudge);
    }

    /// Whether it waits in a blocking command, so that CLIENT UNBLOCK means something.
    pub fn is_waiting(&self) -> bool {
        self.is_waiting.load(Ordering::Acquire)
    }

    /// It begins or ends to wait in a blocking command.
    pub fn set_waiting(&self, is_waiting: bool) {
        self.is_waiting.store(is_waiting, Ordering::Release);
    }

    /// Whether the connection was ordered to close.
    pub fn is_killed(&self) -> bool {
        self.is_killed.load(Ordering::Acquire)
    }
}

impl Profile {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        if self.channels + self.patterns + self.shard_channels > 0 { Kind::Pubsub } else { Kind::Normal }
    }
}

impl Client {
    /// Its line of CLIENT LIST at wall clock `now_ms`, without a line end.
    pub fn describe(&self, now_ms: i64) -> Vec<u8> {
        let profile = self.profile();
        let seconds_since = |ms: i64| (now_ms - ms).max(0) / 1000;
        let (queued, queued_len) = profile.queued.map_or((-1, 0), |(count, bytes)| (count as i64, bytes));
        let (input_len, output_len) = (self.input_len(), self.output_len());
        let head = format!(
            "id={} addr={} laddr={} fd={} name=",
            self.id, self.peer.address, self.peer.local_address, self.peer.descriptor
        );
        let tail = format!(
            " age={} idle={} flags={} db={} sub={} psub={} ssub={} multi={queued} qbuf={input_len} qbuf-free=0 \
             argv-mem=0 multi-mem={queued_len} rbs={output_len} rbp={output_len} obl={output_len} oll=0 omem=0 \
             tot-mem={} events=r cmd={} user={} redir=-1 resp={} lib-name={} lib-ver={}",
            seconds_since(self.connected_ms),
            seconds_since(self.last_seen_ms()),
            self.flag_letters(&profile),
            profile.database,
            profile.channels,
            profile.patterns,
            profile.shard_channels,
            input_len + output_len + queued_len + std::mem::size_of::<Client>(),
            if profile.command.is_empty() { "NULL" } else { profile.command },
            profile.user,
            profile.version.number(),
            profile.library_name,
            profile.library_version,
        );
        [head.as_bytes(), &profile.name, tail.as_bytes()].concat()
    }

    fn flag_letters(&self, profile: &Profile) -> String {
        let letters = [
            (profile.is_monitor, 'O'),
            (profile.kind() == Kind::Pubsub, 'P'),
            (profile.queued.is_some(), 'x'),
            (profile.is_blocked, 'b'),
            (profile.is_dirty, 'd'),
            (self.is_killed(), 'A'),
            (self.peer.is_local_socket, 'U'),
            (profile.is_no_evict, 'e'),
            (profile.is_no_touch, 'T'),
        ];
        let set: String = letters.iter().filter(|(is_set, _)| *is_set).map(|(_, letter)| letter).collect();
        if set.is_empty() { "N".to_owned() } else { set }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_client_list_has_redis_fields_in_order() {
        let peer = Peer { address: "1.2.3.4:5".into(), local_address: "1.2.3.4:6".into(), ..Peer::default() };
        let client = Client::new(7, peer, 1000);
        client.set_profile(Profile {
            name: b"n".to_vec(),
            user: "default".into(),
            command: "client|list",
            ..Profile::default()
        });
        let line = String::from_utf8(client.describe(4000)).expect("text");
        assert!(
            line.starts_with(
                "id=7 addr=1.2.3.4:5 laddr=1.2.3.4:6 fd=0 name=n age=3 idle=3 flags=N db=0 sub=0"
            )
        );
        assert!(line.ends_with("cmd=client|list user=default redir=-1 resp=2 lib-name= lib-ver="));
    }

    #[test]
    fn letters_are_taken_once() {
        let client = Client::new(1, Peer::default(), 0);
        assert_eq!(client.send(Letter::Bytes(Bytes::from_static(b"ab"))), 2);
        assert!(client.has_mail());
        assert_eq!(client.take_mail().len(), 1);
        assert!(!client.has_mail() && client.take_mail().is_empty());
    }
}
