//! The end of a link that gives: sends a follower what it lacks, in journal order, and takes in how far it is.
//!
//! Two halves run side by side: one reads what the follower says, the other sends. Invariants:
//! - data is sent only while the follower has taken in all but a window of it: a slow follower costs this node no memory, and it
//!   is not cut off for being slow; the journal keeps what it has not got yet;
//! - a partition's records are sent in order, each once, and each continues the one before: if a snapshot takes the place of this
//!   node's own history, those who follow from it must ask anew;
//! - a snapshot takes the place of what the journal has no more;
//! - a follower counts for a partition from when it has all that acknowledged positions stand for.

use super::catch_up::{places, plan};
use super::progress::LinkId;
use super::storage::{Outgoing, ReadError, Records};
use super::wire::{
    Batch, Chain, Frame, FrameReader, Hello, Message, Packed, Plan, VERSION, put_chunk, put_message,
    put_part, put_records, send,
};
use super::{LinkError, Node};
use crate::base::ids::{Epoch, Lsn, PartitionId, Point};
use crate::store::journal::{Place, put_number, visit_sections};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

/// A batch that was sent and is not acknowledged.
struct Sent {
    number: u64,
    position: u64,
    /// Partitions that are in step once it is acknowledged.
    joins: Vec<PartitionId>,
}

/// How far a partition was sent.
struct Stream {
    /// The last transaction sent.
    lsn: Lsn,
    /// Its chain.
    chain: u32,
    /// What stands before this position the follower has, or it is of another history.
    from: u64,
    /// What stands behind this position was committed since the follower asked.
    asked_at: u64,
}

/// What is known of a follower, and what it is to get.
#[derive(Default)]
struct Feed {
    /// What it asked to follow and was not answered yet.
    asked: Vec<(PartitionId, Point, Epoch)>,
    /// Chains it asked for.
    questions: VecDeque<(PartitionId, Lsn)>,
    /// Partitions that stream.
    streams: BTreeMap<PartitionId, Stream>,
    /// Up to here the journal was read.
    read_to: u64,
    /// Partitions that stream but are not in step: until which position they are not.
    joining: BTreeMap<PartitionId, u64>,
    /// The highest position of a batch that was sent.
    highest: u64,
    batches: u64,
    unacknowledged: VecDeque<Sent>,
    unsynced: VecDeque<(u64, u64)>,
    sent_bytes: u64,
    consumed_bytes: u64,
    /// The snapshot it wants, and from where on; taken out when it is being made.
    wanted: Option<(PartitionId, Option<(u64, u64)>, Lsn)>,
    /// The next piece of the snapshot that is sent, which is named beside it.
    packed: Option<(u64, io::Result<Packed>)>,
    /// The snapshot that was made.
    made: Option<(PartitionId, Option<(u64, u64)>, Result<Arc<dyn Outgoing>, String>)>,
}

/// Serves a follower until the link ends. `host` is where it comes from.
pub async fn serve(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin,
    node: &Node,
    host: &str,
) -> Result<(), LinkError> {
    let (from, mut to) = tokio::io::split(stream);
    let mut reader = FrameReader::new(from);
    let hello = tokio::time::timeout(node.timing.timeout, greet(&mut reader, &mut to, node));
    let hello = hello.await.map_err(|_| LinkError::Silent)??;
    let link = node.replication.new_link();
    let _end = End { node, link };
    let host = if hello.address.0.is_empty() { host } else { &hello.address.0 };
    node.replication.with_progress(|progress| {
        let follower = progress.follower(link);
        follower.node.clone_from(&hello.node);
        follower.address = (host.to_owned(), hello.address.1);
        follower.heard_ms = node.replication.now_ms();
    });
    // From now on the journal tells what is written; nothing is held back yet.
    node.storage.pin(link, Some(u64::MAX));
    let feed = Arc::new(Mutex::new(Feed::default()));
    let news = Arc::new(Notify::new());
    let mut sender = Sender {
        node,
        link,
        feed: &feed,
        news: &news,
        to,
        cursor: None,
        snapshot: None,
        histories: BTreeMap::new(),
    };
    tokio::select! {
        biased;
        ended = receive(&mut reader, node, link, &feed, &news) => ended,
        ended = sender.run() => ended,
    }
}

/// Exchanges names and versions.
async fn greet(
    reader: &mut FrameReader<impl AsyncRead + Unpin>,
    to: &mut (impl AsyncWrite + Unpin),
    node: &Node,
) -> Result<Hello, LinkError> {
    let Message::Hello(hello) = reader.message().await? else {
        return Err(LinkError::Protocol("no greeting".into()));
    };
    let refusal = if hello.version != VERSION {
        Some(format!("version {VERSION} of the link is spoken here, not {}", hello.version))
    } else if hello.partitions != node.storage.partition_count() {
        let (ours, theirs) = (node.storage.partition_count(), hello.partitions);
        Some(format!("there are {ours} partitions here, not {theirs}"))
    } else if hello.node == node.storage.node() {
        Some("a server cannot follow itself, nor a copy of its own data folder".to_owned())
    } else {
        None
    };
    if let Some(refusal) = refusal {
        send(to, &Message::Refused(refusal.clone())).await?;
        return Err(LinkError::Refused(refusal));
    }
    send(to, &Message::Hello(node.hello())).await?;
    Ok(hello)
}

/// Whatever ends a link: nothing of it stays.
struct End<'a> {
    node: &'a Node,
    link: LinkId,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.node.storage.pin(self.link, None);
        self.node.replication.with_progress(|progress| progress.remove(self.link));
    }
}

/// The half that takes in what the follower says.
async fn receive(
    reader: &mut FrameReader<impl AsyncRead + Unpin>,
    node: &Node,
    link: LinkId,
    feed: &Arc<Mutex<Feed>>,
    news: &Arc<Notify>,
) -> Result<(), LinkError> {
    loop {
        let read = tokio::time::timeout(node.timing.timeout, reader.next()).await;
        let (frame, _) = read.map_err(|_| LinkError::Silent)??;
        let Frame::Message(message) = frame else {
            return Err(LinkError::Protocol("a follower sent data".into()));
        };
        let heard_ms = node.replication.now_ms();
        match message {
            Message::Ack { journaled, synced, consumed } => {
                let update = feed.lock().acknowledge(journaled, synced, consumed)?;
                node.replication.with_progress(|progress| {
                    let follower = progress.follower(link);
                    follower.heard_ms = heard_ms;
                    follower.journaled = follower.journaled.max(update.journaled);
                    follower.synced = follower.synced.max(update.synced);
                    follower.in_step.extend(update.joined);
                });
            }
            Message::Follow(partitions) => {
                let count = node.storage.partition_count();
                if partitions.iter().any(|(id, ..)| id.0 >= count) {
                    return Err(LinkError::Protocol("a partition that does not exist".into()));
                }
                let mut feed = feed.lock();
                partitions.iter().for_each(|(id, ..)| feed.forget(*id));
                feed.asked.extend(&partitions);
                drop(feed);
                node.replication.with_progress(|progress| {
                    let follower = progress.follower(link);
                    partitions.iter().for_each(|(id, ..)| _ = follower.in_step.remove(id));
                    // A bug for the simulation to see: it counts though it waits for a snapshot.
                    fail::fail_point!("link-counts-too-early", |_| {
                        follower.in_step.extend(partitions.iter().map(|(id, ..)| id));
                    });
                });
            }
            Message::AskChain(id, lsn) if id.0 < node.storage.partition_count() => {
                let mut feed = feed.lock();
                feed.questions.push_back((id, lsn));
                if feed.questions.len() > usize::from(node.storage.partition_count()) {
                    return Err(LinkError::Protocol("too many questions at a time".into()));
                }
            }
            Message::WantSnapshot(id, resume, at_least) if id.0 < node.storage.partition_count() => {
                feed.lock().wanted = Some((id, resume, at_least));
            }
            _ => return Err(LinkError::Protocol("a message that followers do not send".into())),
        }
        news.notify_one();
    }
}

/// What an acknowledgement changes.
struct Update {
    journaled: u64,
    synced: u64,
    joined: Vec<PartitionId>,
}

impl Feed {
    fn acknowledge(&mut self, journaled: u64, synced: u64, consumed: u64) -> Result<Update, LinkError> {
        if journaled > self.batches || synced > journaled || consumed > self.sent_bytes {
            return Err(LinkError::Protocol("an acknowledgement of what was not sent".into()));
        }
        self.consumed_bytes = self.consumed_bytes.max(consumed);
        let mut update = Update { journaled: 0, synced: 0, joined: Vec::new() };
        while let Some(sent) = self.unacknowledged.pop_front_if(|sent| sent.number <= journaled) {
            update.journaled = update.journaled.max(sent.position);
            update.joined.extend(sent.joins);
            self.unsynced.push_back((sent.number, sent.position));
        }
        while let Some((_, position)) = self.unsynced.pop_front_if(|(number, _)| *number <= synced) {
            update.synced = update.synced.max(position);
        }
        Ok(update)
    }

    /// The follower asks anew: what was sent of the partition does not count.
    fn forget(&mut self, id: PartitionId) {
        self.streams.remove(&id);
        self.joining.remove(&id);
        self.asked.retain(|(other, ..)| *other != id);
        self.unacknowledged.iter_mut().for_each(|sent| sent.joins.retain(|other| *other != id));
    }

    fn has_window(&self, window: u64) -> bool {
        self.sent_bytes - self.consumed_bytes < window
    }

    /// Notes a batch that is about to be sent.
    fn note_sent(&mut self, batch: &Batch) {
        self.highest = self.highest.max(batch.position);
        let joins = self.joining.iter().filter(|(_, until)| batch.position >= **until).map(|(id, _)| *id);
        let joins: Vec<PartitionId> = joins.collect();
        joins.iter().for_each(|id| _ = self.joining.remove(id));
        self.unacknowledged.push_back(Sent { number: batch.number, position: batch.position, joins });
    }
}

/// A snapshot that is being sent.
struct Sending {
    snapshot: Arc<dyn Outgoing>,
    offset: u64,
    /// The next piece is being packed.
    is_packing: bool,
}

/// The half that sends.
struct Sender<'a, W> {
    node: &'a Node,
    link: LinkId,
    feed: &'a Arc<Mutex<Feed>>,
    news: &'a Arc<Notify>,
    to: W,
    cursor: Option<Box<dyn Records>>,
    snapshot: Option<Sending>,
    /// Of which history of this node's each partition was planned: see [`Storage::replacements`].
    histories: BTreeMap<PartitionId, u64>,
}

impl<W: AsyncWrite + Unpin> Sender<'_, W> {
    async fn run(&mut self) -> Result<(), LinkError> {
        let mut written = self.node.storage.written();
        let mut next_beat = tokio::time::Instant::now();
        loop {
            let limit = *written.borrow_and_update();
            let mut out = Vec::new();
            if next_beat <= tokio::time::Instant::now() {
                // Also while records follow one another without a pause: by these ends the replica knows how old its data is.
                next_beat = tokio::time::Instant::now() + self.node.timing.heartbeat;
                put_message(&mut out, &Message::Heartbeat { position: limit });
            }
            self.answer(&mut out)?;
            self.put_batches(limit, &mut out)?;
            self.put_snapshot(&mut out)?;
            if !out.is_empty() {
                self.pin();
                self.to.write_all(&out).await?;
                continue;
            }
            tokio::select! {
                biased;
                changed = written.changed() => changed.map_err(|_| LinkError::Stopped)?,
                () = self.news.notified() => {}
                () = tokio::time::sleep_until(next_beat) => {}
            }
        }
    }

    /// Answers what the follower has asked.
    fn answer(&mut self, out: &mut Vec<u8>) -> Result<(), LinkError> {
        let (asked, questions) = {
            let mut feed = self.feed.lock();
            // Whoever has more than this node waits until it has that, too, from whom it follows itself, or never.
            let is_there = |(id, theirs, epoch): &mut (PartitionId, Point, Epoch)| {
                let own = self.node.storage.point(*id);
                let least = (*epoch, if theirs.epoch == *epoch { theirs.lsn } else { Lsn(0) });
                let has_all = *epoch == Epoch(0) || (own.epoch, own.lsn) >= least;
                has_all && self.node.replication.serves(*id)
            };
            let asked: Vec<_> = feed.asked.extract_if(.., is_there).collect();
            (asked, std::mem::take(&mut feed.questions))
        };
        let wanted: Vec<_> = asked.iter().map(|(id, point, _)| (*id, point.lsn)).collect();
        self.histories.extend(wanted.iter().map(|(id, _)| (*id, self.node.storage.replacements(*id))));
        let known = places(&*self.node.storage, &wanted)?;
        for (id, theirs, _) in asked {
            let plan = self.begin(id, theirs, known.get(&id).copied())?;
            self.check_history(id)?;
            put_message(out, &Message::Plan(id, plan));
        }
        for (id, lsn) in questions {
            let chain = match places(&*self.node.storage, &[(id, lsn)])?.get(&id) {
                Some(place) => Chain::Is(place.previous),
                None if lsn > self.node.storage.point(id).lsn => Chain::NotYet,
                None => Chain::NotKept,
            };
            self.check_history(id)?;
            put_message(out, &Message::Chain(id, lsn, chain));
        }
        Ok(())
    }

    /// What the follower was told of a partition is told of one history. If this node follows somebody itself and a snapshot took its
    /// place, the follower must ask anew: it may have written out too little of what it alone has (simulation, seeds 1000267 and
    /// 2002165).
    fn check_history(&self, id: PartitionId) -> Result<u64, LinkError> {
        let planned = self.histories.get(&id).copied();
        let planned = planned.ok_or_else(|| LinkError::Protocol("a question before the plan".into()))?;
        if self.node.storage.replacements(id) == planned {
            Ok(planned)
        } else {
            Err(LinkError::Storage(format!(
                "partition {id} has another history now: who follows it asks anew"
            )))
        }
    }

    /// Decides how the follower gets a partition, and begins to stream it if that is how.
    fn begin(&mut self, id: PartitionId, theirs: Point, place: Option<Place>) -> Result<Plan, LinkError> {
        let plan = plan(theirs, self.node.storage.point(id), place.map(|place| place.previous));
        if let (Plan::Stream, Some(Place { position, .. })) = (plan, place) {
            let cursor = self.cursor.as_ref().map_or(u64::MAX, |cursor| cursor.position());
            if position < cursor {
                self.cursor = Some(self.node.storage.records(position));
            }
            let mut feed = self.feed.lock();
            self.node.storage.write_out().map_err(LinkError::Storage)?;
            let asked_at = *self.node.storage.written().borrow();
            feed.streams
                .insert(id, Stream { lsn: theirs.lsn, chain: theirs.chain, from: position, asked_at });
            let highest = feed.highest;
            feed.joining.insert(id, highest.max(position));
        }
        Ok(plan)
    }

    /// Puts records of the partitions that stream into a batch, if the follower has room for it.
    fn put_batches(&mut self, limit: u64, out: &mut Vec<u8>) -> Result<(), LinkError> {
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        let mut feed = self.feed.lock();
        let sizes = self.node.sizes;
        let position = cursor.position();
        // Without records a batch makes sense only if it brings a partition in step.
        let is_news = position < limit || feed.joining.values().any(|until| *until <= position);
        if !feed.has_window(sizes.window) || !is_news {
            return Ok(());
        }
        let before = out.len();
        let mut packer = Packer::new(&mut feed, out, sizes.batch);
        cursor.read(limit, sizes.batch, &mut |position, payload| packer.add(position, payload))?;
        packer.finish(cursor.position())?;
        feed.read_to = feed.read_to.max(cursor.position());
        feed.sent_bytes += (out.len() - before) as u64;
        Ok(())
    }

    /// Begins or goes on to send the snapshot that is wanted.
    fn put_snapshot(&mut self, out: &mut Vec<u8>) -> Result<(), LinkError> {
        let (wanted, made, packed, has_window) = {
            let mut feed = self.feed.lock();
            let has_window = feed.has_window(self.node.sizes.window);
            (feed.wanted.take(), feed.made.take(), feed.packed.take(), has_window)
        };
        if let Some((id, resume, at_least)) = wanted {
            self.snapshot = None;
            self.make_snapshot(id, resume, at_least, self.check_history(id)?);
        }
        if let Some((id, resume, made)) = made {
            self.begin_snapshot(id, resume, made, out);
        }
        let Some(sending) = &mut self.snapshot else { return Ok(()) };
        let offer = sending.snapshot.offer();
        let packed = packed.filter(|(id, _)| *id == offer.id).map(|(_, packed)| packed).transpose()?;
        // Of the same snapshot another piece may come, if it is sent anew from another place.
        if let Some(packed) = packed.filter(|packed| packed.offset == sending.offset) {
            let before = out.len();
            put_chunk(out, &packed);
            self.feed.lock().sent_bytes += (out.len() - before) as u64;
            sending.offset += packed.len as u64;
            sending.is_packing = false;
        }
        if sending.offset >= offer.bytes {
            self.snapshot = None;
        } else if has_window && !sending.is_packing {
            sending.is_packing = true;
            let len = (offer.bytes - sending.offset).min(self.node.sizes.chunk as u64) as usize;
            let (snapshot, offset) = (Arc::clone(&sending.snapshot), sending.offset);
            let (feed, news) = (Arc::clone(self.feed), Arc::clone(self.news));
            tokio::spawn(async move {
                let packed = snapshot.packed(offset, len).await;
                feed.lock().packed = Some((offer.id, packed));
                news.notify_one();
            });
        }
        Ok(())
    }

    /// Has a snapshot made while this goes on.
    fn make_snapshot(&self, id: PartitionId, resume: Option<(u64, u64)>, at_least: Lsn, history: u64) {
        let (feed, news) = (Arc::clone(self.feed), Arc::clone(self.news));
        let (storage, snapshots) = (Arc::clone(&self.node.storage), Arc::clone(&self.node.snapshots));
        tokio::spawn(async move {
            let made = snapshots.take(&*storage, id, resume.map(|(id, _)| id), at_least, history).await;
            feed.lock().made = Some((id, resume, made));
            news.notify_one();
        });
    }

    fn begin_snapshot(
        &mut self,
        id: PartitionId,
        resume: Option<(u64, u64)>,
        made: Result<Arc<dyn Outgoing>, String>,
        out: &mut Vec<u8>,
    ) {
        match made {
            Ok(snapshot) => {
                let offer = snapshot.offer();
                let known = resume.filter(|(id, offset)| *id == offer.id && *offset <= offer.bytes);
                let offset = known.map_or(0, |(_, offset)| offset);
                put_message(out, &Message::Snapshot(offer, offset));
                self.snapshot = Some(Sending { snapshot, offset, is_packing: false });
            }
            Err(reason) => put_message(out, &Message::NoSnapshot(id, reason)),
        }
    }

    /// Keeps the journal from being dropped where it is still read.
    fn pin(&self) {
        let cursor = self.cursor.as_ref().map_or(u64::MAX, |cursor| cursor.position());
        let snapshot = self.snapshot.as_ref().map_or(u64::MAX, |sending| sending.snapshot.position());
        let position = cursor.min(snapshot);
        self.node.storage.pin(self.link, Some(position));
    }
}

/// Puts records into frames: small ones together, long ones in parts.
struct Packer<'a> {
    feed: &'a mut Feed,
    out: &'a mut Vec<u8>,
    batch: Batch,
    batch_bytes: usize,
    failure: Option<LinkError>,
}

impl<'a> Packer<'a> {
    fn new(feed: &'a mut Feed, out: &'a mut Vec<u8>, batch_bytes: usize) -> Packer<'a> {
        Packer { feed, out, batch: Batch::default(), batch_bytes, failure: None }
    }

    /// Adds what the follower wants of the record at `position`.
    fn add(&mut self, position: u64, payload: &[u8]) {
        let (mut wanted, mut count) = (Vec::new(), 0);
        let mut all = 0;
        let form = visit_sections(payload, |head, section| {
            all += 1;
            let Some(stream) = self.feed.streams.get_mut(&head.partition) else { return };
            let is_known = head.lsn <= stream.lsn && position < stream.asked_at.max(self.feed.read_to);
            if is_known || position < stream.from {
                return;
            }
            if (head.lsn.0, head.previous) != (stream.lsn.0 + 1, stream.chain) {
                // A snapshot took the place of what was here: what the follower has is another history.
                let gap = format!("partition {}: {} follows {}", head.partition, head.lsn, stream.lsn);
                self.failure.get_or_insert(LinkError::Storage(gap));
            }
            (stream.lsn, stream.chain) = (head.lsn, crc32c::crc32c(section));
            wanted.push(section);
            count += 1;
        });
        if form.is_none() {
            let damaged = format!("the record at position {position} has an unknown form");
            self.failure.get_or_insert(LinkError::Storage(damaged));
        }
        if count == 0 {
            return;
        }
        if count == all {
            self.put(position, payload);
        } else {
            let mut payload = Vec::new();
            put_number(&mut payload, count);
            wanted.iter().for_each(|section| payload.extend_from_slice(section));
            self.put(position, &payload);
        }
    }

    fn put(&mut self, position: u64, payload: &[u8]) {
        if self.batch.len() + payload.len() <= self.batch_bytes + 1024 {
            return self.batch.push(payload);
        }
        self.flush(position);
        if payload.len() <= self.batch_bytes {
            return self.batch.push(payload);
        }
        payload.chunks(self.batch_bytes).for_each(|bytes| put_part(self.out, bytes));
        // What follows stands behind the record, which is only now complete.
        self.flush(position + payload.len() as u64 + 8);
    }

    /// Ends the batch, which brings the follower up to `position`.
    fn flush(&mut self, position: u64) {
        self.feed.batches += 1;
        let mut batch = std::mem::take(&mut self.batch);
        (batch.number, batch.position) = (self.feed.batches, position);
        self.feed.note_sent(&batch);
        put_records(self.out, &batch);
    }

    fn finish(mut self, position: u64) -> Result<(), LinkError> {
        self.flush(position);
        self.failure.map_or(Ok(()), Err)
    }
}

impl From<ReadError> for LinkError {
    fn from(error: ReadError) -> LinkError {
        match error {
            ReadError::Gone => LinkError::Storage("the journal no longer has what the follower needs".into()),
            ReadError::Failed(reason) => LinkError::Storage(reason),
        }
    }
}
