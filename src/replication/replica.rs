//! The end of a link that takes: applies what the primary sends, in order, and says how far it is.
//!
//! Two halves run side by side: one reads and applies, the other acknowledges. Invariants:
//! - a batch is acknowledged once all its records are in this node's journal, so that the end of the process loses none;
//! - a record is applied only if it continues this node's history: a partition whose history turns out to be another one stops
//!   and gets a snapshot, after what nobody else has was written out;
//! - the halves share numbers only: memory does not grow with what the primary sends.

use super::catch_up::{OwnHistory, Search, is_up_to_date, own_histories};
use super::storage::{Incoming, LostTail};
use super::wire::{Batch, Frame, FrameReader, Message, Offer, Plan, VERSION, put_message, send};
use super::{LinkError, LinkState, Node};
use crate::base::ids::{Epoch, Lsn, PartitionId, Point};
use crate::store::ApplyError;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, watch};

/// The longest record there can be.
const RECORD_MAX: usize = u32::MAX as usize;
/// Batches that may wait for this node's sync before the oldest are taken together.
const UNSYNCED_MAX: usize = 4096;

/// How a partition is followed.
enum Following {
    /// The primary was asked how.
    Asked,
    /// By records as they come.
    Streaming,
    /// The last common transaction is being looked for.
    Searching(Search),
    /// A snapshot is needed; what was there before is to be kept aside if so.
    Waiting {
        /// Whether what is there now is kept.
        keeps_old: bool,
        /// What is here of the primary's history up to this transaction is not to be missing for a moment: others may count on it.
        at_least: Lsn,
    },
    /// A snapshot arrives.
    Receiving {
        /// Where it goes.
        incoming: Box<dyn Incoming>,
        /// What it is.
        offer: Offer,
        /// Whether what is there now is kept.
        keeps_old: bool,
    },
}

/// What the half that acknowledges must know.
#[derive(Default)]
struct Outbox {
    messages: Vec<Message>,
    journaled: u64,
    /// Numbers of batches and the positions of this node's journal that hold them.
    unsynced: VecDeque<(u64, u64)>,
    synced: u64,
    consumed: u64,
    is_changed: bool,
}

/// Partitions that are followed at one primary, and the epoch that its history of each must have reached.
pub type Followed = Vec<(PartitionId, Option<Epoch>)>;

/// Follows a primary over `stream` for these partitions until the link ends: nobody of an older epoch than is given with each. More
/// of them may be added meanwhile.
pub async fn follow(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin,
    node: &Node,
    mut followed: watch::Receiver<Followed>,
) -> Result<(), LinkError> {
    let (from, mut to) = tokio::io::split(stream);
    let mut reader = FrameReader::new(from);
    tokio::time::timeout(node.timing.timeout, greet(&mut reader, &mut to, node))
        .await
        .map_err(|_| LinkError::Silent)??;
    let outbox = Mutex::new(Outbox::default());
    let news = Notify::new();
    let mut follower = Follower {
        node,
        outbox: &outbox,
        news: &news,
        epochs: BTreeMap::new(),
        partitions: BTreeMap::new(),
        histories: BTreeMap::new(),
        part: Vec::new(),
        awaits_snapshot: false,
    };
    let partitions = followed.borrow_and_update().clone();
    follower.add(&partitions);
    tokio::select! {
        biased;
        ended = follower.run(&mut reader, followed) => ended,
        ended = acknowledge(to, node, &outbox, &news) => ended,
    }
}

async fn greet(
    reader: &mut FrameReader<impl AsyncRead + Unpin>,
    to: &mut (impl AsyncWrite + Unpin),
    node: &Node,
) -> Result<(), LinkError> {
    send(to, &Message::Hello(node.hello())).await?;
    match reader.message().await? {
        Message::Hello(hello) if hello.version != VERSION => {
            Err(LinkError::Refused(format!("the primary speaks version {} of the link", hello.version)))
        }
        Message::Hello(hello) if hello.partitions != node.storage.partition_count() => {
            Err(LinkError::Refused(format!("the primary has {} partitions", hello.partitions)))
        }
        Message::Hello(hello) => {
            node.replication.with_upstream(|upstream| upstream.node = hello.node);
            Ok(())
        }
        Message::Refused(reason) => Err(LinkError::Refused(reason)),
        _ => Err(LinkError::Protocol("no greeting".into())),
    }
}

/// The half that says how far this node is.
async fn acknowledge(
    mut to: impl AsyncWrite + Unpin,
    node: &Node,
    outbox: &Mutex<Outbox>,
    news: &Notify,
) -> Result<(), LinkError> {
    let mut synced = node.storage.synced();
    let mut beat = tokio::time::interval(node.timing.heartbeat);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let mut out = Vec::new();
        {
            let durable = *synced.borrow_and_update();
            let mut outbox = outbox.lock();
            while let Some((number, _)) = outbox.unsynced.pop_front_if(|(_, position)| *position <= durable) {
                outbox.synced = number;
                outbox.is_changed = true;
            }
            std::mem::take(&mut outbox.messages).iter().for_each(|message| put_message(&mut out, message));
            if std::mem::take(&mut outbox.is_changed) {
                let Outbox { journaled, synced, consumed, .. } = *outbox;
                put_message(&mut out, &Message::Ack { journaled, synced, consumed });
            }
        }
        if !out.is_empty() {
            to.write_all(&out).await?;
            continue;
        }
        tokio::select! {
            biased;
            () = news.notified() => {}
            changed = synced.changed() => changed.map_err(|_| LinkError::Stopped)?,
            _ = beat.tick() => outbox.lock().is_changed = true,
        }
    }
}

/// The half that takes in.
struct Follower<'a> {
    node: &'a Node,
    outbox: &'a Mutex<Outbox>,
    news: &'a Notify,
    partitions: BTreeMap<PartitionId, Following>,
    /// Of each partition the epoch that the primary's history must have reached. None of them: whoever was named is followed.
    epochs: BTreeMap<PartitionId, Option<Epoch>>,
    /// Of partitions whose plan has not come yet: what this node's journal has of them.
    histories: BTreeMap<PartitionId, OwnHistory>,
    /// The beginning of a long record.
    part: Vec<u8>,
    /// A snapshot was asked for and is not in its place yet: one at a time is what the disks can do.
    awaits_snapshot: bool,
}

impl Follower<'_> {
    async fn run(
        &mut self,
        reader: &mut FrameReader<impl AsyncRead + Unpin>,
        mut followed: watch::Receiver<Followed>,
    ) -> Result<(), LinkError> {
        loop {
            let read = tokio::select! {
                biased;
                Ok(()) = followed.changed() => {
                    let partitions = followed.borrow_and_update().clone();
                    self.add(&partitions);
                    continue;
                }
                read = tokio::time::timeout(self.node.timing.timeout, reader.next()) => read,
            };
            let (frame, len) = read.map_err(|_| LinkError::Silent)??;
            let heard_ms = self.node.replication.now_ms();
            self.node.replication.with_upstream(|upstream| upstream.heard_ms = heard_ms);
            let is_data = !matches!(frame, Frame::Message(_));
            match frame {
                Frame::Message(message) => self.take_message(message).await?,
                Frame::Part(bytes) if self.part.len() + bytes.len() <= RECORD_MAX => {
                    self.part.extend_from_slice(&bytes);
                }
                Frame::Part(_) => return Err(LinkError::Protocol("a record that is too long".into())),
                Frame::Records(batch) => self.take_batch(&batch).await?,
                Frame::Chunk { offset, bytes } => self.take_chunk(offset, bytes).await?,
            }
            if is_data {
                let mut outbox = self.outbox.lock();
                outbox.consumed += len as u64;
                outbox.is_changed = true;
            }
            self.news.notify_one();
        }
    }

    fn say(&self, message: Message) {
        self.outbox.lock().messages.push(message);
        self.news.notify_one();
    }

    /// Follows those of these partitions that are not followed yet.
    fn add(&mut self, followed: &[(PartitionId, Option<Epoch>)]) {
        let new = followed.iter().filter(|(id, _)| !self.epochs.contains_key(id)).copied();
        let new: Followed = new.collect();
        self.epochs.extend(new.iter().copied());
        self.ask(&new.iter().map(|(id, _)| *id).collect::<Vec<_>>());
    }

    /// Asks to follow these partitions from where this node stands.
    fn ask(&mut self, partitions: &[PartitionId]) {
        let points = partitions.iter().map(|id| {
            let (point, epoch) = (self.node.storage.point(*id), self.epochs.get(id).copied().flatten());
            // What is here of a newer epoch than was told is not given up for an older one either.
            (*id, point, epoch.map_or(Epoch(0), |epoch| epoch.max(point.epoch)))
        });
        let points = points.collect();
        partitions.iter().for_each(|id| _ = self.partitions.insert(*id, Following::Asked));
        self.say(Message::Follow(points));
        self.note_state();
    }

    /// Lets others see how the link stands.
    fn note_state(&self) {
        let all = || self.partitions.values();
        let state = if all().all(|following| matches!(following, Following::Streaming)) {
            LinkState::Up
        } else if all().all(|following| matches!(following, Following::Asked)) {
            LinkState::Connecting
        } else {
            LinkState::Syncing
        };
        let bytes = all().filter_map(|following| match following {
            Following::Receiving { incoming, offer, .. } => Some((incoming.offset(), offer.bytes)),
            _ => None,
        });
        let bytes = bytes.fold((0, 0), |sum, (have, all)| (sum.0 + have, sum.1 + all));
        self.node.replication.with_upstream(|upstream| {
            upstream.state = state;
            upstream.snapshot_bytes = bytes;
        });
    }

    async fn take_message(&mut self, message: Message) -> Result<(), LinkError> {
        match message {
            Message::Heartbeat { position } => {
                let now_ms = self.node.replication.now_ms();
                self.node.replication.with_upstream(|upstream| upstream.primary_is_at(position, now_ms));
            }
            Message::Plan(id, plan) => self.take_plan(id, plan).await?,
            Message::Chain(id, lsn, chain) => {
                if let Some(Following::Searching(search)) = self.partitions.get_mut(&id) {
                    search.answer(lsn, chain);
                    self.search_on(id).await?;
                }
            }
            Message::Snapshot(offer, offset) => self.begin_snapshot(offer, offset).await?,
            Message::NoSnapshot(id, reason) => {
                return Err(LinkError::Refused(format!("no snapshot of partition {id}: {reason}")));
            }
            Message::Refused(reason) => return Err(LinkError::Refused(reason)),
            _ => return Err(LinkError::Protocol("a message that primaries do not send".into())),
        }
        Ok(())
    }

    async fn take_plan(&mut self, id: PartitionId, plan: Plan) -> Result<(), LinkError> {
        if !matches!(self.partitions.get(&id), Some(Following::Asked)) {
            return Err(LinkError::Protocol("a plan that was not asked for".into()));
        }
        let read_before = self.histories.remove(&id);
        match plan {
            Plan::Stream => _ = self.partitions.insert(id, Following::Streaming),
            Plan::Behind => self.want_snapshot(id, false, self.node.storage.point(id).lsn),
            Plan::Unknown => self.leave_history(id, None).await?,
            Plan::OtherHistory => {
                tracing::warn!("partition {id}: this node's history is not the primary's");
                let own = self.own_history(id, read_before)?;
                self.partitions.insert(id, Following::Searching(Search::new(own)));
                self.search_on(id).await?;
            }
        }
        self.note_state();
        Ok(())
    }

    /// What this node's journal has of a partition. It is read for all at once whose plan is still to come: where one history
    /// is another one, the others mostly are, too.
    fn own_history(
        &mut self,
        id: PartitionId,
        read_before: Option<OwnHistory>,
    ) -> Result<OwnHistory, LinkError> {
        let storage = &*self.node.storage;
        if let Some(own) = read_before.filter(|own| is_up_to_date(own, storage.point(id))) {
            return Ok(own);
        }
        let is_asked = |following: &Following| matches!(following, Following::Asked);
        let asked = self.partitions.iter().filter(|(_, following)| is_asked(following));
        let asked: Vec<PartitionId> = asked.map(|(id, _)| *id).collect();
        self.histories = own_histories(storage, &asked)?;
        Ok(self.histories.remove(&id).expect("its plan has just come, so it was asked for"))
    }

    async fn search_on(&mut self, id: PartitionId) -> Result<(), LinkError> {
        let Some(Following::Searching(search)) = self.partitions.get(&id) else { return Ok(()) };
        if let Some(lsn) = search.next() {
            self.say(Message::AskChain(id, lsn));
            return Ok(());
        }
        let common = search.outcome();
        self.leave_history(id, common).await
    }

    /// Writes out what this node has behind the last common transaction, and asks for a snapshot in its place.
    async fn leave_history(&mut self, id: PartitionId, common: Option<Lsn>) -> Result<(), LinkError> {
        let tail = LostTail { partition: id, common };
        let lost = self.node.storage.report_lost(tail).await.map_err(LinkError::Storage)?;
        self.node.replication.lost().note(&lost);
        self.want_snapshot(id, common.is_none() || lost.missing.is_some(), common.unwrap_or_default());
        Ok(())
    }

    fn want_snapshot(&mut self, id: PartitionId, keeps_old: bool, at_least: Lsn) {
        self.partitions.insert(id, Following::Waiting { keeps_old, at_least });
        self.ask_for_snapshot();
    }

    /// Asks for the next snapshot, unless one is on its way.
    fn ask_for_snapshot(&mut self) {
        if self.awaits_snapshot {
            return;
        }
        let waiting = self.partitions.iter().find_map(|(id, following)| match following {
            Following::Waiting { at_least, .. } => Some((*id, *at_least)),
            _ => None,
        });
        let Some((id, at_least)) = waiting else { return };
        self.awaits_snapshot = true;
        let unfinished = self.node.storage.unfinished_snapshot(id);
        self.say(Message::WantSnapshot(id, unfinished, at_least));
    }

    async fn begin_snapshot(&mut self, offer: Offer, offset: u64) -> Result<(), LinkError> {
        let keeps_old = match self.partitions.get(&offer.partition) {
            Some(Following::Waiting { keeps_old, at_least }) if offer.point.lsn >= *at_least => *keeps_old,
            _ => return Err(LinkError::Protocol("a snapshot that was not asked for".into())),
        };
        let incoming = self.node.storage.receive_snapshot(offer).await.map_err(LinkError::Storage)?;
        if incoming.offset() != offset {
            return Err(LinkError::Storage(format!(
                "the snapshot goes on at byte {offset}, but {} are here: it begins anew",
                incoming.offset()
            )));
        }
        tracing::info!(
            "partition {}: receiving a snapshot of {} bytes, from byte {offset} on",
            offer.partition,
            offer.bytes
        );
        let id = offer.partition;
        self.partitions.insert(id, Following::Receiving { incoming, offer, keeps_old });
        self.note_state();
        if offset == offer.bytes { self.install(id).await } else { Ok(()) }
    }

    async fn take_chunk(&mut self, offset: u64, bytes: Vec<u8>) -> Result<(), LinkError> {
        let receiving = self.partitions.iter_mut().find_map(|(id, following)| match following {
            Following::Receiving { incoming, offer, .. } => Some((*id, incoming, *offer)),
            _ => None,
        });
        let Some((id, incoming, offer)) = receiving else {
            return Err(LinkError::Protocol("a chunk of no snapshot".into()));
        };
        incoming.write(offset, bytes).await?;
        let is_whole = incoming.offset() >= offer.bytes;
        self.note_state();
        if is_whole { self.install(id).await } else { Ok(()) }
    }

    async fn install(&mut self, id: PartitionId) -> Result<(), LinkError> {
        let Some(Following::Receiving { incoming, offer, keeps_old }) = self.partitions.remove(&id) else {
            return Ok(());
        };
        let point = incoming.install(keeps_old).await.map_err(LinkError::Storage)?;
        tracing::info!("partition {id}: has a snapshot up to transaction {}", point.lsn);
        debug_assert_eq!(point, offer.point);
        self.awaits_snapshot = false;
        self.ask(&[id]);
        self.ask_for_snapshot();
        Ok(())
    }

    async fn take_batch(&mut self, batch: &Batch) -> Result<(), LinkError> {
        let long = std::mem::take(&mut self.part);
        let mut position = 0;
        let first = Some(&long[..]).filter(|long| !long.is_empty());
        for payload in first.into_iter().chain(batch.records()) {
            position = self.apply(payload).await?.max(position);
        }
        let storage = &self.node.storage;
        storage.flush(position).await.map_err(LinkError::Storage)?;
        if position == 0 {
            // Nothing is new, but what was applied over a link that broke may not be written yet.
            storage.write_out().map_err(LinkError::Storage)?;
            position = *storage.written().borrow();
        }
        let mut outbox = self.outbox.lock();
        if batch.number != outbox.journaled + 1 {
            return Err(LinkError::Protocol("a batch is missing".into()));
        }
        outbox.journaled = batch.number;
        if outbox.unsynced.len() >= UNSYNCED_MAX {
            outbox.unsynced.pop_back(); // the one that comes stands for it
        }
        outbox.unsynced.push_back((batch.number, position));
        drop(outbox);
        self.node.replication.with_upstream(|upstream| {
            upstream.position = upstream.position.max(batch.position);
            upstream.primary_position = upstream.primary_position.max(batch.position);
        });
        Ok(())
    }

    /// Applies a record; waits while the disk has no room for it.
    async fn apply(&self, payload: &[u8]) -> Result<u64, LinkError> {
        let mut is_told = false;
        loop {
            match self.node.storage.apply(payload) {
                Ok(position) => return Ok(position),
                Err(ApplyError::Refused(refusal)) => {
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::error!("replication waits: the disk takes no more records ({refusal:?})");
                    }
                    tokio::time::sleep(self.node.timing.retry).await;
                }
                Err(ApplyError::OtherHistory(id, Point { lsn, .. })) => {
                    // The link begins anew, and finds out what to do about it.
                    return Err(LinkError::Storage(format!(
                        "a record of partition {id} does not continue this node's history, which ends at {lsn}"
                    )));
                }
                Err(ApplyError::Malformed) => {
                    return Err(LinkError::Protocol("a record that is none".into()));
                }
                Err(ApplyError::Storage(reason)) => return Err(LinkError::Storage(reason)),
            }
        }
    }
}
