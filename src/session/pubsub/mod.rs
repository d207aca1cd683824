//! `Pubsub`: who listens to which channels, and how a message gets to them.
//!
//! A message is encoded once and left in the mailbox of everybody who listens, which wakes their connections; nothing is polled and
//! nothing is kept for who comes later. What a session listens to stands in its [`Subscriptions`], and under each name those who
//! listen stand here.
//!
//! Invariants:
//! - Messages to a channel reach all who listen in one order, that in which they were published: the part of the table in which the
//!   channel stands is locked until the message lies in the last mailbox.
//! - Nobody gets a message for what it has left before: leaving takes the same lock, and the reply to it comes behind whatever was
//!   in the mailbox ([`Client::mark_reply`]).
//! - Who does not read is closed at the hard limit of `client-output-buffer-limit pubsub`, before the message that is too much is
//!   kept. With no limit set there is none, as in Redis.
//! - No lock of a partition is taken, and none may be waited for under the locks here.
//! - Where nobody listens, PUBLISH costs two loads.
//!
//! [`message`] is what nodes of a cluster tell each other of messages.

pub mod message;
mod subscriptions;

pub use subscriptions::Subscriptions;

use super::client::Client;
use super::service::Service;
use crate::base::glob;
use crate::observability::statistics::Counter;
use crate::protocol::encode;
use bytes::Bytes;
use foldhash::fast::RandomState;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// What a client listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listening {
    /// A channel (SUBSCRIBE).
    Channel,
    /// All channels whose names fit (PSUBSCRIBE).
    Pattern,
    /// A channel of the other kind (SSUBSCRIBE).
    Shard,
}

/// The two kinds of channels, which know nothing of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// Those of PUBLISH, which patterns fit too.
    Global,
    /// Those of SPUBLISH: in Redis they belong to the slot of their name. Here every node passes their messages on like all others.
    Sharded,
}

impl Listening {
    /// The place of its words and counts in lists of three.
    const fn index(self) -> usize {
        self as usize
    }

    /// What the reply to beginning it is called.
    pub const fn begun(self) -> &'static str {
        ["subscribe", "psubscribe", "ssubscribe"][self.index()]
    }

    /// What the reply to ending it is called.
    pub const fn ended(self) -> &'static str {
        ["unsubscribe", "punsubscribe", "sunsubscribe"][self.index()]
    }
}

/// Passes messages on to other nodes.
pub trait PassOn: Send + Sync {
    /// Takes a message that was published here for all other nodes. Never waits: what there is no room for is dropped, and counted.
    fn pass_on(&self, channels: Channels, channel: &[u8], payload: &[u8]);
}

/// Clients by number.
type Listeners = BTreeMap<u64, Arc<Client>>;

/// Parts of a table: publishers to different channels rarely meet.
const PARTS: usize = 32;

/// Channels with those who listen to them. There is none that nobody listens to.
struct Table {
    parts: [Mutex<HashMap<Bytes, Listeners, RandomState>>; PARTS],
    hash: RandomState,
    len: AtomicUsize,
}

impl Default for Table {
    fn default() -> Table {
        Table {
            parts: std::array::from_fn(|_| Mutex::default()),
            hash: RandomState::default(),
            len: AtomicUsize::new(0),
        }
    }
}

impl Table {
    fn part(&self, channel: &[u8]) -> &Mutex<HashMap<Bytes, Listeners, RandomState>> {
        &self.parts[self.hash.hash_one(channel) as usize % PARTS]
    }

    fn add(&self, channel: &Bytes, client: &Arc<Client>) {
        let mut part = self.part(channel).lock();
        let before = part.len();
        part.entry(channel.clone()).or_default().insert(client.id, Arc::clone(client));
        self.len.fetch_add(part.len() - before, Ordering::AcqRel);
    }

    fn remove(&self, channel: &[u8], client: u64) {
        let mut part = self.part(channel).lock();
        if remove(&mut part, channel, client) {
            self.len.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    fn listeners(&self, channel: &[u8]) -> usize {
        self.part(channel).lock().get(channel).map_or(0, BTreeMap::len)
    }

    fn names(&self, fits: impl Fn(&[u8]) -> bool) -> Vec<Bytes> {
        let mut found = Vec::new();
        for part in &self.parts {
            found.extend(part.lock().keys().filter(|name| fits(name)).cloned());
        }
        found
    }
}

/// Takes a client out from under a name. True if the name has gone with it.
fn remove(table: &mut HashMap<Bytes, Listeners, RandomState>, name: &[u8], client: u64) -> bool {
    let Some(listeners) = table.get_mut(name) else { return false };
    listeners.remove(&client);
    listeners.is_empty() && table.remove(name).is_some()
}

/// All who listen.
#[derive(Default)]
pub struct Pubsub {
    channels: Table,
    shards: Table,
    patterns: RwLock<HashMap<Bytes, Listeners, RandomState>>,
    pattern_count: AtomicUsize,
    others: OnceLock<Arc<dyn PassOn>>,
}

impl Pubsub {
    fn table(&self, channels: Channels) -> &Table {
        match channels {
            Channels::Global => &self.channels,
            Channels::Sharded => &self.shards,
        }
    }

    /// From now on what is published here is passed on by this. The first one stays.
    pub fn pass_on_by(&self, others: Arc<dyn PassOn>) {
        let _ = self.others.set(others);
    }

    /// Lets a client listen. Nothing happens if it does already.
    pub fn begin(
        &self,
        listening: Listening,
        name: &[u8],
        client: &Arc<Client>,
        subscriptions: &mut Subscriptions,
    ) {
        let Some(name) = subscriptions.add(listening, name) else { return };
        match listening {
            Listening::Channel => self.channels.add(&name, client),
            Listening::Shard => self.shards.add(&name, client),
            Listening::Pattern => {
                let mut patterns = self.patterns.write();
                patterns.entry(name).or_default().insert(client.id, Arc::clone(client));
                self.pattern_count.store(patterns.len(), Ordering::Release);
            }
        }
    }

    /// Lets a client listen no more. Nothing happens if it does not.
    pub fn end(&self, listening: Listening, name: &[u8], client: u64, subscriptions: &mut Subscriptions) {
        if !subscriptions.remove(listening, name) {
            return;
        }
        match listening {
            Listening::Channel => self.channels.remove(name, client),
            Listening::Shard => self.shards.remove(name, client),
            Listening::Pattern => {
                let mut patterns = self.patterns.write();
                remove(&mut patterns, name, client);
                self.pattern_count.store(patterns.len(), Ordering::Release);
            }
        }
    }

    /// Lets a client listen to nothing any more.
    pub fn end_all(&self, client: u64, subscriptions: &mut Subscriptions) {
        for listening in [Listening::Channel, Listening::Pattern, Listening::Shard] {
            for name in subscriptions.names(listening) {
                self.end(listening, &name, client, subscriptions);
            }
        }
    }

    /// How many channels somebody listens to.
    pub fn channel_count(&self, channels: Channels) -> usize {
        self.table(channels).len()
    }

    /// How many different patterns somebody has.
    pub fn pattern_count(&self) -> usize {
        self.pattern_count.load(Ordering::Acquire)
    }

    /// How many clients listen to a channel by its name.
    pub fn listeners(&self, channels: Channels, channel: &[u8]) -> usize {
        self.table(channels).listeners(channel)
    }

    /// The channels that somebody listens to and whose names fit.
    pub fn names(&self, channels: Channels, fits: impl Fn(&[u8]) -> bool) -> Vec<Bytes> {
        self.table(channels).names(fits)
    }

    /// Calls `leave` with each client that listens, and the message as it is to get it: by name first, then by patterns. Returns how
    /// often.
    fn each(
        &self,
        channels: Channels,
        channel: &[u8],
        payload: &[u8],
        mut leave: impl FnMut(&Arc<Client>, &Bytes),
    ) -> usize {
        let table = self.table(channels);
        let has_patterns = channels == Channels::Global && self.pattern_count() > 0;
        if table.len() == 0 && !has_patterns {
            return 0;
        }
        // Held to the end, for the patterns' sake too: see the module.
        let part = table.part(channel).lock();
        let mut count = 0;
        let mut leave_all = |listeners: &Listeners, bytes: &Bytes| {
            listeners.values().for_each(|client| leave(client, bytes));
            count += listeners.len();
        };
        if let Some(listeners) = part.get(channel) {
            let kind = if channels == Channels::Global { "message" } else { "smessage" };
            leave_all(listeners, &push(&[kind.as_bytes(), channel, payload]));
        }
        if has_patterns {
            for (pattern, listeners) in &*self.patterns.read() {
                if glob::matches(pattern, channel, false) {
                    leave_all(listeners, &push(&[b"pmessage", pattern, channel, payload]));
                }
            }
        }
        count
    }
}

/// A message as RESP3 writes it. For RESP2 its first byte is another one.
fn push(words: &[&[u8]]) -> Bytes {
    let len: usize = words.iter().map(|word| word.len() + 16).sum();
    let mut bytes = Vec::with_capacity(len + 8);
    encode::push_head(words.len(), &mut bytes);
    words.iter().for_each(|word| encode::bulk(word, &mut bytes));
    bytes.into()
}

impl Service {
    /// Publishes a message on this node and all others. Returns how many times it was given to clients here. `publisher` is the
    /// number of the client that does; 0 is nobody.
    pub fn publish(&self, channels: Channels, channel: &[u8], payload: &[u8], publisher: u64) -> usize {
        if let Some(others) = self.pubsub.others.get() {
            others.pass_on(channels, channel, payload);
        }
        self.publish_here(channels, channel, payload, publisher)
    }

    /// Publishes a message on this node alone: one that came from another node, or an event that each node tells by itself.
    pub fn publish_here(&self, channels: Channels, channel: &[u8], payload: &[u8], publisher: u64) -> usize {
        let mut limit = None;
        self.pubsub.each(channels, channel, payload, |client, bytes| {
            let limit = *limit.get_or_insert_with(|| self.settings().client_output_buffer_limit[2].hard);
            if !client.leave_message(bytes.clone(), client.id == publisher, limit) && !client.is_killed() {
                tracing::warn!(id = client.id, "closing a client: output buffer limit");
                self.statistics.add(Counter::OutputBufferDisconnections, 1);
                self.clients.close(client);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::client::{Letter, Peer};

    fn client(id: u64) -> Arc<Client> {
        Arc::new(Client::new(id, Peer::default(), 0, Arc::default()))
    }

    fn publish(pubsub: &Pubsub, channels: Channels, channel: &str, payload: &str) -> usize {
        pubsub.each(channels, channel.as_bytes(), payload.as_bytes(), |client, bytes| {
            assert!(client.leave_message(bytes.clone(), false, 0));
        })
    }

    fn messages(client: &Client) -> Vec<String> {
        let text = |letter| match letter {
            Letter::Message { bytes, .. } => String::from_utf8_lossy(&bytes).replace("\r\n", " "),
            other => panic!("{other:?}"),
        };
        client.take_mail().into_iter().map(text).collect()
    }

    #[test]
    fn a_message_reaches_names_then_patterns_and_only_its_kind_of_channel() {
        let pubsub = Pubsub::default();
        let (one, two) = (client(1), client(2));
        let (mut of_one, mut of_two) = (Subscriptions::default(), Subscriptions::default());
        pubsub.begin(Listening::Channel, b"news", &one, &mut of_one);
        pubsub.begin(Listening::Channel, b"news", &one, &mut of_one);
        pubsub.begin(Listening::Pattern, b"n*", &one, &mut of_one);
        pubsub.begin(Listening::Shard, b"news", &two, &mut of_two);
        assert_eq!((of_one.counts(), of_two.counts()), ((1, 1, 0), (0, 0, 1)));
        assert_eq!(publish(&pubsub, Channels::Global, "news", "hi"), 2);
        assert_eq!(publish(&pubsub, Channels::Global, "other", "hi"), 0);
        assert_eq!(publish(&pubsub, Channels::Sharded, "news", "yo"), 1);
        assert_eq!(messages(&one), [">3 $7 message $4 news $2 hi ", ">4 $8 pmessage $2 n* $4 news $2 hi "]);
        assert_eq!(messages(&two), [">3 $8 smessage $4 news $2 yo "]);
    }

    #[test]
    fn nothing_stays_behind_of_who_leaves() {
        let pubsub = Pubsub::default();
        let (one, mut of_one) = (client(1), Subscriptions::default());
        for name in [&b"a"[..], b"b", b""] {
            for listening in [Listening::Channel, Listening::Pattern, Listening::Shard] {
                pubsub.begin(listening, name, &one, &mut of_one);
            }
        }
        assert_eq!((pubsub.channel_count(Channels::Global), pubsub.pattern_count()), (3, 3));
        pubsub.end(Listening::Channel, b"a", 1, &mut of_one);
        pubsub.end(Listening::Channel, b"a", 1, &mut of_one);
        assert_eq!((pubsub.listeners(Channels::Global, b"a"), of_one.counts()), (0, (2, 3, 3)));
        pubsub.end_all(1, &mut of_one);
        assert!(of_one.is_empty() && of_one.bytes() == 0);
        assert_eq!(pubsub.channel_count(Channels::Global) + pubsub.channel_count(Channels::Sharded), 0);
        assert_eq!((pubsub.pattern_count(), publish(&pubsub, Channels::Global, "b", "")), (0, 0));
    }

    #[test]
    fn publishers_to_one_channel_are_seen_in_one_order() {
        let pubsub = Arc::new(Pubsub::default());
        let clients: Vec<_> = (1..=4).map(client).collect();
        for client in &clients {
            let mut subscriptions = Subscriptions::default();
            let listening = if client.id % 2 == 0 { Listening::Channel } else { Listening::Pattern };
            pubsub.begin(listening, b"c", client, &mut subscriptions);
        }
        std::thread::scope(|scope| {
            for publisher in 0..4 {
                let pubsub = Arc::clone(&pubsub);
                scope.spawn(move || {
                    (0..200).for_each(|number| {
                        publish(&pubsub, Channels::Global, "c", &format!("{publisher}:{number}"));
                    });
                });
            }
        });
        let payload = |text: &String| text.split(' ').rev().nth(1).map(str::to_owned);
        let orders: Vec<Vec<_>> =
            clients.iter().map(|client| messages(client).iter().map(payload).collect()).collect();
        assert_eq!(orders[0].len(), 800);
        assert!(orders.iter().all(|order| *order == orders[0]));
    }
}
