//! `Client`: what other threads see of a session, and how they reach it.
//!
//! A session belongs to its connection's task alone. Everybody else has the client: a profile for CLIENT LIST, a few figures
//! that change with every turn, and a mailbox. Whatever is put into the mailbox wakes the connection; nothing is polled.

use super::holds::Holds;
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

/// What a connection's buffers hold, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Buffers {
    /// Received and not yet done.
    pub input_len: usize,
    /// Of these, those of words of the request under way that are complete, and what stands before them.
    pub words_len: usize,
    /// Announced by the word under way and still to come. They count as if they were here: the client has said that it will
    /// take that much, and what it is measured by must not hang on how fast the network brings it.
    pub announced_len: usize,
    /// To be sent.
    pub output_len: usize,
}

/// What a client takes without anything in its buffers: session, connection, its place in the registry.
const CONNECTION_LEN: usize = 2048;

/// Buffers grow in steps; so do figures that are compared with a limit.
fn rounded(len: usize) -> usize {
    len.next_multiple_of(1024)
}

/// Reply bytes that Redis keeps in a client's fixed buffer. Limits of the output do not count these: only who has more waiting
/// is looked at.
const FIXED_OUTPUT_LEN: usize = 16 * 1024;

/// Of this many bytes to be sent, those that `client-output-buffer-limit` counts.
#[inline]
pub fn limited_output_len(output_len: usize) -> u64 {
    if output_len > FIXED_OUTPUT_LEN { output_len as u64 } else { 0 }
}

/// Something for a connection from outside of it.
#[derive(Clone, Debug)]
pub enum Letter {
    /// Bytes to be sent, encoded already: a line of MONITOR.
    Bytes(Bytes),
    /// A message of publish/subscribe, as RESP3 writes it.
    Message {
        /// The whole of it.
        bytes: Bytes,
        /// Whether this client has published it itself, with the command that runs.
        is_own: bool,
    },
    /// What comes before belongs before the reply to the command that runs, what comes behind behind it.
    Mark,
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
        /// What must be on enough nodes before the reply leaves.
        holds: Holds,
    },
    /// This node is the primary of less than before: whoever waits here in a blocking command may wait in vain.
    RoleChanged,
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
    words_len: AtomicUsize,
    announced_len: AtomicUsize,
    output_len: AtomicUsize,
    memory: AtomicUsize,
    all_memory: Arc<AtomicUsize>,
    mailbox: Mutex<Mailbox>,
    has_mail: AtomicBool,
    is_killed: AtomicBool,
    is_waiting: AtomicBool,
}

impl Client {
    /// A client that connected at wall clock `now_ms`. What it takes is added to `all_memory`, too.
    pub fn new(id: u64, peer: Peer, now_ms: i64, all_memory: Arc<AtomicUsize>) -> Client {
        Client {
            id,
            peer,
            connected_ms: now_ms,
            profile: Mutex::default(),
            version: AtomicU8::new(2),
            last_seen_ms: AtomicI64::new(now_ms),
            input_len: AtomicUsize::new(0),
            words_len: AtomicUsize::new(0),
            announced_len: AtomicUsize::new(0),
            output_len: AtomicUsize::new(0),
            memory: AtomicUsize::new(0),
            all_memory,
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

    /// Notes that it had a turn, at this wall clock.
    #[inline]
    pub fn note_turn(&self, now_ms: i64) {
        self.last_seen_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Notes how much input and output there is, and what the session holds besides.
    #[inline]
    pub fn note_buffers(&self, buffers: Buffers, held: usize) {
        self.input_len.store(buffers.input_len - buffers.words_len, Ordering::Relaxed);
        self.words_len.store(buffers.words_len, Ordering::Relaxed);
        self.output_len.store(buffers.output_len, Ordering::Relaxed);
        self.announced_len.store(buffers.announced_len, Ordering::Relaxed);
        let input_len = buffers.input_len + buffers.announced_len;
        let used = CONNECTION_LEN + rounded(input_len) + rounded(buffers.output_len) + rounded(held);
        if used != self.memory() {
            self.note_memory(used);
        }
    }

    /// Notes the bytes it takes in all.
    pub fn note_memory(&self, bytes: usize) {
        let before = self.memory.swap(bytes, Ordering::Relaxed);
        // Wrapping, as a difference may be negative: the sum of all differences is right.
        self.all_memory.fetch_add(bytes.wrapping_sub(before), Ordering::Relaxed);
    }

    /// The bytes it takes in all, as of its last turn.
    pub fn memory(&self) -> usize {
        self.memory.load(Ordering::Relaxed)
    }

    /// Wall clock of its last turn, in milliseconds.
    pub fn last_seen_ms(&self) -> i64 {
        self.last_seen_ms.load(Ordering::Relaxed)
    }

    /// Bytes of requests not yet read as words.
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
        self.put(&mut mailbox, letter);
        mailbox.bytes
    }

    fn put(&self, mailbox: &mut Mailbox, letter: Letter) {
        if let Letter::Bytes(bytes) | Letter::Message { bytes, .. } = &letter {
            mailbox.bytes += bytes.len();
        }
        mailbox.letters.push(letter);
        self.has_mail.store(true, Ordering::Release);
        if let Some(waker) = &mailbox.waker {
            waker.wake_by_ref();
        }
    }

    /// Leaves a message and wakes the connection, unless the connection is to close or more than `limit` bytes (0: any number)
    /// would wait then. False if it was not left.
    pub fn leave_message(&self, bytes: Bytes, is_own: bool, limit: u64) -> bool {
        let mut mailbox = self.mailbox.lock();
        let output_len = self.output_len.load(Ordering::Relaxed) + mailbox.bytes + bytes.len();
        if self.is_killed() || (limit > 0 && limited_output_len(output_len) >= limit) {
            return false;
        }
        self.put(&mut mailbox, Letter::Message { bytes, is_own });
        true
    }

    /// Notes in the mailbox where the reply to the command that runs belongs.
    pub fn mark_reply(&self) {
        self.put(&mut self.mailbox.lock(), Letter::Mark);
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
        let words_len = self.words_len.load(Ordering::Relaxed);
        let announced_len = self.announced_len.load(Ordering::Relaxed);
        let listed_len = limited_output_len(output_len);
        let fixed_len = output_len as u64 - listed_len;
        let head = format!(
            "id={} addr={} laddr={} fd={} name=",
            self.id, self.peer.address, self.peer.local_address, self.peer.descriptor
        );
        let tail = format!(
            " age={} idle={} flags={} db={} sub={} psub={} ssub={} multi={queued} qbuf={input_len} qbuf-free={announced_len} \
             argv-mem={words_len} multi-mem={queued_len} rbs={output_len} rbp={output_len} obl={fixed_len} oll={} \
             omem={listed_len} tot-mem={} events=r cmd={} user={} redir=-1 resp={} lib-name={} lib-ver={}",
            seconds_since(self.connected_ms),
            seconds_since(self.last_seen_ms()),
            self.flag_letters(&profile),
            profile.database,
            profile.channels,
            profile.patterns,
            profile.shard_channels,
            listed_len.div_ceil(FIXED_OUTPUT_LEN as u64),
            self.memory(),
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
        let client = Client::new(7, peer, 1000, Arc::default());
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
        let client = Client::new(1, Peer::default(), 0, Arc::default());
        assert_eq!(client.send(Letter::Bytes(Bytes::from_static(b"ab"))), 2);
        assert!(client.has_mail());
        assert_eq!(client.take_mail().len(), 1);
        assert!(!client.has_mail() && client.take_mail().is_empty());
    }
}
