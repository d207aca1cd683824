//! Messages between nodes: what is published on one is told to all others, and what others tell is published here.
//!
//! Best effort, as between nodes of a Redis Cluster: a publisher never waits, and what a node cannot be told is dropped and counted
//! (INFO `larder_pubsub_dropped`). For each node there is an [`Outbox`] of bounded size and a task that empties it, one request at a
//! time, with as many messages as wait; so they keep their order, and a busy publisher costs few requests. What came from another
//! node is never told on.

use crate::base::ids::NodeId;
use crate::cluster::bus::{Kind, Serve};
use crate::cluster::map::ClusterMap;
use crate::cluster::node::Node;
use crate::observability::statistics::Counter;
use crate::session::pubsub::message::{MESSAGES_MAX, Message, decode, request};
use crate::session::pubsub::{Channels, PassOn};
use crate::session::service::Service;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// Messages that may wait for a node, and their bytes; one alone may wait however long it is.
const WAITING_MAX: usize = 16_384;
const WAITING_BYTES_MAX: usize = 32 << 20;
/// Bytes of a request, from which on no further message is added.
const REQUEST_BYTES: usize = 256 << 10;
/// How long a node may take to take a request.
const PATIENCE: Duration = Duration::from_secs(2);

/// What waits for one node.
struct Outbox {
    node: NodeId,
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Bytes>,
    bytes: usize,
    /// The node is no member any more.
    is_closed: bool,
}

impl Outbox {
    fn new(node: NodeId) -> Outbox {
        Outbox { node, waiting: Mutex::default(), news: Notify::new() }
    }

    /// Puts a message in. False if there is no room.
    fn put(&self, message: Bytes) -> bool {
        let mut waiting = self.waiting.lock();
        let fits = waiting.messages.is_empty()
            || (waiting.messages.len() < WAITING_MAX && waiting.bytes + message.len() <= WAITING_BYTES_MAX);
        if fits && !waiting.is_closed {
            waiting.bytes += message.len();
            waiting.messages.push_back(message);
            self.news.notify_one();
        }
        fits || waiting.is_closed
    }

    fn close(&self) {
        *self.waiting.lock() = Waiting { is_closed: true, ..Waiting::default() };
        self.news.notify_one();
    }

    /// What goes out in the next request; none once it is closed.
    async fn next(&self) -> Option<Vec<Bytes>> {
        loop {
            {
                let mut waiting = self.waiting.lock();
                if waiting.is_closed {
                    return None;
                }
                let (mut batch, mut bytes) = (Vec::new(), 0);
                while bytes < REQUEST_BYTES && batch.len() < MESSAGES_MAX {
                    let Some(message) = waiting.messages.pop_front() else { break };
                    bytes += message.len();
                    batch.push(message);
                }
                waiting.bytes -= bytes;
                if !batch.is_empty() {
                    return Some(batch);
                }
            }
            self.news.notified().await;
        }
    }
}

/// See the module.
pub struct Publishing {
    this: Weak<Publishing>,
    service: Arc<Service>,
    node: Weak<Node>,
    /// One for each other member.
    outboxes: ArcSwap<Vec<Arc<Outbox>>>,
    /// Of each node that tells: its process, and the number of its last request.
    heard: Mutex<HashMap<NodeId, (u64, u64)>>,
}

impl Publishing {
    /// For this node of the cluster, without others.
    pub fn new(service: &Arc<Service>, node: &Arc<Node>) -> Arc<Publishing> {
        Arc::new_cyclic(|this| Publishing {
            this: Weak::clone(this),
            service: Arc::clone(service),
            node: Arc::downgrade(node),
            outboxes: ArcSwap::default(),
            heard: Mutex::default(),
        })
    }

    /// Tells whoever is a member, map by map, until the node ends.
    pub async fn run(self: Arc<Self>) {
        let Some(mut maps) = self.node.upgrade().map(|node| node.maps()) else { return };
        loop {
            let map = Arc::clone(&maps.borrow_and_update());
            self.follow(&map);
            if maps.changed().await.is_err() {
                return;
            }
        }
    }

    /// Opens an outbox for each new member, and closes those of who is none any more.
    fn follow(self: &Arc<Self>, map: &ClusterMap) {
        let Some(me) = self.node.upgrade().map(|node| node.me()) else { return };
        let present = self.outboxes.load();
        let (mut kept, gone): (Vec<_>, Vec<_>) =
            present.iter().cloned().partition(|outbox| map.nodes.contains_key(&outbox.node));
        gone.iter().for_each(|outbox| outbox.close());
        for node in map.nodes.keys().filter(|node| **node != me) {
            if !kept.iter().any(|outbox| outbox.node == *node) {
                let outbox = Arc::new(Outbox::new(*node));
                kept.push(Arc::clone(&outbox));
                tokio::spawn(Arc::clone(self).tell(outbox));
            }
        }
        self.outboxes.store(Arc::new(kept));
        self.heard.lock().retain(|node, _| map.nodes.contains_key(node));
    }

    /// Empties an outbox, until it is closed.
    async fn tell(self: Arc<Self>, outbox: Arc<Outbox>) {
        let process = self.service.forwarding.process();
        let mut number = 0;
        while let Some(batch) = outbox.next().await {
            number += 1;
            let body = request(process, number, batch.iter().map(AsRef::as_ref));
            let counter = match self.call(outbox.node, body).await {
                Ok(()) => Counter::PubsubPassedOn,
                Err(why) => {
                    tracing::debug!(node = %outbox.node, "{} messages are lost: {why}", batch.len());
                    Counter::PubsubDropped
                }
            };
            self.service.statistics.add(counter, batch.len() as u64);
        }
    }

    /// Gives messages of another node to the clients of this one. False if they make no sense.
    fn hear(&self, from: NodeId, body: &[u8]) -> bool {
        let request = match decode(body) {
            Ok(request) => request,
            Err(malformed) => {
                tracing::warn!(%from, "messages of another node are {}", malformed.0);
                return false;
            }
        };
        // Held while they are given out: a request that overtakes another one, which took too long, waits here or makes it late.
        let mut heard = self.heard.lock();
        let last = heard.entry(from).or_insert((request.process, 0));
        if last.0 == request.process && request.number <= last.1 {
            return true;
        }
        *last = (request.process, request.number);
        for Message { channels, channel, payload } in request.messages {
            self.service.publish_here(channels, channel, payload, 0);
        }
        true
    }

    async fn call(&self, to: NodeId, body: Vec<u8>) -> Result<(), String> {
        let node = self.node.upgrade().ok_or("this node stops")?;
        let address = node.address_of(to).ok_or("no address is known")?;
        let answer = node.bus().call(to, &address, Kind::Publish, body, PATIENCE).await;
        answer.map(|_| ()).map_err(|error| error.to_string())
    }
}

impl PassOn for Publishing {
    fn pass_on(&self, channels: Channels, channel: &[u8], payload: &[u8]) {
        let outboxes = self.outboxes.load();
        if outboxes.is_empty() {
            return;
        }
        let message = Message { channels, channel, payload }.encode().map(Bytes::from);
        let is_put = |outbox: &&Arc<Outbox>| message.as_ref().is_some_and(|it| outbox.put(it.clone()));
        let dropped = outboxes.iter().filter(|outbox| !is_put(outbox)).count();
        if dropped > 0 {
            self.service.statistics.add(Counter::PubsubDropped, dropped as u64);
        }
    }
}

#[async_trait]
impl Serve for Publishing {
    async fn serve(&self, from: NodeId, body: Vec<u8>) -> Option<Vec<u8>> {
        if !self.node.upgrade()?.map().nodes.contains_key(&from) {
            return Some(Vec::new()); // it is no member, or was none a moment ago: nothing is remembered of strangers
        }
        let this = self.this.upgrade()?;
        // Thousands may listen to each of a thousand messages; leases hang on the threads here.
        let is_heard = tokio::task::spawn_blocking(move || this.hear(from, &body)).await;
        is_heard.ok().filter(|makes_sense| *makes_sense).map(|_| Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(len: usize) -> Bytes {
        vec![0; len].into()
    }

    #[tokio::test]
    async fn what_waits_is_bounded_and_goes_out_in_order_many_at_a_time() {
        let outbox = Outbox::new(NodeId([1; 20]));
        assert!(outbox.put(message(WAITING_BYTES_MAX + 1)), "one alone");
        assert!(!outbox.put(message(1)));
        assert_eq!(outbox.next().await.map(|batch| batch.len()), Some(1));
        (0..WAITING_MAX).for_each(|number| assert!(outbox.put(message(number % 7))));
        assert!(!outbox.put(message(0)), "too many");
        let batch = outbox.next().await.expect("it is open");
        assert_eq!(batch.len(), MESSAGES_MAX);
        assert!(batch.iter().enumerate().all(|(number, message)| message.len() == number % 7));
        let mut count = batch.len();
        while count < WAITING_MAX {
            count += outbox.next().await.expect("it is open").len();
        }
        assert_eq!(outbox.waiting.lock().bytes, 0);
        assert!(outbox.put(message(REQUEST_BYTES)) && outbox.put(message(5)));
        assert_eq!(outbox.next().await.map(|batch| batch.len()), Some(1), "a long one goes alone");
        outbox.close();
        assert!(outbox.put(message(1)), "nothing is lost that nobody is to get");
        assert_eq!(outbox.next().await, None);
    }
}
