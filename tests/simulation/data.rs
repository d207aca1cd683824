//! A node's data without files: a real store in memory, whose records go into the journal of a [`Disk`].
//!
//! Journal, checkpoints, snapshots and restarts are those of the real store as far as others can see: what is appended is lost
//! with the process until it is written, what is written is lost with the power until it is synced; a start puts the trees in
//! place and applies what the journal has behind them.

use crate::disk::{Arrival, Disk, Entry, Tree};
use crate::history::place;
use crate::plant::Plant;
use crate::witness::{Event, Witness};
use async_trait::async_trait;
use larder::base::ids::{Lsn, PartitionId, Point};
use larder::replication::lost::Lost;
use larder::replication::storage::{Incoming, LostTail, Outgoing, ReadError, Records, Storage};
use larder::replication::wire::{Offer, Packed};
use larder::store::journal::{Place, put_number, visit_sections};
use larder::store::{ApplyError, Refusal, Store};
use parking_lot::Mutex;
use rand::prelude::*;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// Databases of each store.
pub const DATABASES: u16 = 3;

/// How a node's data behaves.
#[derive(Clone, Copy, Debug)]
pub struct DataSettings {
    /// Number of partitions.
    pub partitions: u16,
    /// Every write is synced at once.
    pub syncs_at_once: bool,
    /// Bytes of the journal that are kept for replicas.
    pub kept_bytes: u64,
    /// How long snapshots and reports take at most, in milliseconds.
    pub work_ms: u64,
    /// What this node does wrong on purpose.
    pub plant: Plant,
}

/// What the world does to a node's data while it runs.
#[derive(Default)]
pub struct Switches {
    /// The disk has no room for most records from others.
    pub is_full: AtomicBool,
}

/// See the module.
pub struct Data {
    /// Which node.
    pub node: usize,
    /// Its rows.
    pub store: Store,
    settings: DataSettings,
    disk: Arc<Mutex<Disk>>,
    witness: Arc<Witness>,
    switches: Arc<Switches>,
    written: Watchers,
    synced: Watchers,
    pins: Mutex<BTreeMap<u64, u64>>,
    random: Mutex<StdRng>,
    this: Weak<Data>,
}

/// Those who wait for a position. Each has a channel of its own, because tokio wakes those of one channel in an order that is not
/// repeatable.
#[derive(Default)]
struct Watchers {
    position: AtomicU64,
    channels: Mutex<Vec<watch::Sender<u64>>>,
}

impl Watchers {
    fn watch(&self) -> watch::Receiver<u64> {
        let sender = watch::Sender::new(self.position.load(Ordering::Relaxed));
        let receiver = sender.subscribe();
        self.channels.lock().push(sender);
        receiver
    }

    fn tell(&self, position: u64) {
        if self.position.swap(position, Ordering::Relaxed) != position {
            let mut channels = self.channels.lock();
            channels.retain(|channel| channel.receiver_count() > 0);
            channels.iter().for_each(|channel| _ = channel.send_replace(position));
        }
    }
}

impl Data {
    /// Starts with what the disk has.
    pub fn start(
        node: usize,
        settings: DataSettings,
        disk: &Arc<Mutex<Disk>>,
        witness: &Arc<Witness>,
        switches: &Arc<Switches>,
        seed: u64,
    ) -> Arc<Data> {
        let is_recording = Arc::new(AtomicBool::new(false));
        let recorder = {
            let (disk, is_recording) = (Arc::clone(disk), Arc::clone(&is_recording));
            Box::new(
                move |payload: &[u8]| {
                    if is_recording.load(Ordering::Relaxed) { disk.lock().append(payload) } else { 0 }
                },
            )
        };
        let store = Store::recorded(settings.partitions, DATABASES, recorder);
        if settings.plant == Plant::ForgetsAtStart {
            let last = disk.lock().journal.back().map_or(0, |last| last.position);
            disk.lock().cut(last, true);
        }
        recover(&store, &disk.lock());
        is_recording.store(true, Ordering::Relaxed);
        let data = Arc::new_cyclic(|this| Data {
            node,
            store,
            settings,
            disk: Arc::clone(disk),
            witness: Arc::clone(witness),
            switches: Arc::clone(switches),
            written: Watchers::default(),
            synced: Watchers::default(),
            pins: Mutex::default(),
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            this: Weak::clone(this),
        });
        data.tell_positions();
        let points = data.points();
        witness.tell(Event::Started { node, points });
        data
    }

    fn points(&self) -> Vec<Point> {
        (0..self.settings.partitions).map(|id| self.store.point(PartitionId(id))).collect()
    }

    fn tell_positions(&self) {
        let (written, synced) = {
            let disk = self.disk.lock();
            (disk.written, disk.synced)
        };
        self.written.tell(written);
        self.synced.tell(synced);
    }

    /// Writes the journal up to `position`.
    pub fn write_up_to(&self, position: u64) -> Result<(), String> {
        if self.settings.plant == Plant::AcknowledgesBeforeJournaling {
            return Ok(());
        }
        let mut disk = self.disk.lock();
        assert!(position <= disk.appended, "nobody knows positions that are not there");
        if position > disk.written {
            disk.written = disk.appended;
            if self.settings.syncs_at_once {
                disk.synced = disk.written;
            }
        }
        drop(disk);
        self.tell_positions();
        Ok(())
    }

    /// Syncs the journal.
    pub fn sync(&self) {
        self.disk.lock().sync();
        self.tell_positions();
    }

    /// Writes and syncs all of the journal.
    fn sync_all(&self) {
        let mut disk = self.disk.lock();
        (disk.written, disk.synced) = (disk.appended, disk.appended);
        drop(disk);
        self.tell_positions();
    }

    /// Checkpoints all partitions and drops what nobody needs of the journal, if it has grown long.
    pub fn drop_old(&self) {
        let kept = self.settings.kept_bytes;
        let bytes = {
            let disk = self.disk.lock();
            disk.appended - disk.oldest
        };
        if bytes < 2 * kept {
            return;
        }
        self.sync_all();
        let images: Vec<(Point, Vec<u8>)> =
            (0..self.settings.partitions).map(|id| self.image(PartitionId(id))).collect();
        let mut disk = self.disk.lock();
        let end = disk.appended;
        for (tree, (point, image)) in disk.trees.iter_mut().zip(images) {
            *tree = Tree { point, image, position: end, history_start: tree.history_start };
        }
        let pinned = self.pins.lock().values().copied().min().unwrap_or(u64::MAX);
        let before = disk.oldest;
        disk.drop_before(end.saturating_sub(kept).min(pinned));
        let oldest = disk.oldest;
        drop(disk);
        if oldest != before {
            self.witness.tell(Event::Dropped { node: self.node, oldest });
        }
    }

    /// Rows and point of a partition.
    pub fn image(&self, id: PartitionId) -> (Point, Vec<u8>) {
        self.store.image(id).expect("all is in memory")
    }

    /// Some time passes, as when a disk works.
    async fn work(&self) {
        let ms = self.random.lock().random_range(0..=self.settings.work_ms);
        if ms > 0 {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }
}

/// Puts the trees in place, and applies what the journal has behind them.
fn recover(store: &Store, disk: &Disk) {
    for (id, tree) in (0..).map(PartitionId).zip(&disk.trees) {
        if !tree.image.is_empty() {
            store.put_image(id, tree.point, &tree.image).expect("a checkpoint is whole");
        }
    }
    for entry in &disk.journal {
        let Some(payload) = &entry.payload else { continue };
        let (mut count, mut sections) = (0, Vec::new());
        visit_sections(payload, |head, section| {
            let is_behind = entry.position >= disk.trees[usize::from(head.partition.0)].position;
            if is_behind && head.lsn > store.point(head.partition).lsn {
                count += 1;
                sections.extend_from_slice(section);
            }
        })
        .expect("the journal has records only");
        if count > 0 {
            let mut payload = Vec::new();
            put_number(&mut payload, count);
            payload.extend_from_slice(&sections);
            store.apply(&payload).expect("the journal continues the trees");
        }
    }
}

#[async_trait]
impl Storage for Data {
    fn node(&self) -> String {
        format!("node-{}", self.node)
    }

    fn partition_count(&self) -> u16 {
        self.settings.partitions
    }

    fn point(&self, partition: PartitionId) -> Point {
        self.store.point(partition)
    }

    fn written(&self) -> watch::Receiver<u64> {
        self.written.watch()
    }

    fn synced(&self) -> watch::Receiver<u64> {
        self.synced.watch()
    }

    fn write_out(&self) -> Result<(), String> {
        let end = self.disk.lock().appended;
        self.write_up_to(end)
    }

    fn oldest(&self) -> u64 {
        self.disk.lock().oldest
    }

    fn locate(&self, wanted: &[(PartitionId, Lsn)]) -> Result<Vec<Option<Place>>, ReadError> {
        let disk = self.disk.lock();
        Ok(wanted.iter().map(|(partition, lsn)| disk.locate(*partition, *lsn)).collect())
    }

    fn records(&self, position: u64) -> Box<dyn Records> {
        Box::new(Reader { disk: Arc::clone(&self.disk), position })
    }

    fn pin(&self, reader: u64, position: Option<u64>) {
        let mut pins = self.pins.lock();
        match position {
            Some(position) => pins.insert(reader, position),
            None => pins.remove(&reader),
        };
    }

    fn apply(&self, payload: &[u8]) -> Result<u64, ApplyError> {
        if self.switches.is_full.load(Ordering::Relaxed) && self.random.lock().random_bool(0.7) {
            return Err(ApplyError::Refused(Refusal::DiskFull));
        }
        let mut partitions = Vec::new();
        visit_sections(payload, |head, _| partitions.push(head.partition)).ok_or(ApplyError::Malformed)?;
        let before: Vec<Point> = partitions.iter().map(|id| self.store.point(*id)).collect();
        let position = self.settings.plant.apply(&self.store, payload)?;
        for (partition, before) in partitions.into_iter().zip(before) {
            let after = self.store.point(partition);
            if after != before {
                self.witness.tell(Event::Applied { node: self.node, partition, before, after });
            }
        }
        Ok(position)
    }

    async fn flush(&self, position: u64) -> Result<(), String> {
        self.write_up_to(position)
    }

    fn replacements(&self, partition: PartitionId) -> u64 {
        self.store.replacements(partition)
    }

    async fn take_snapshot(&self, partition: PartitionId) -> Result<Arc<dyn Outgoing>, String> {
        self.work().await;
        self.sync_all();
        let (point, bytes) = self.image(partition);
        let offer = Offer {
            id: self.witness.number(),
            partition,
            point,
            bytes: bytes.len() as u64,
            checksum: crc32c::crc32c(&bytes),
        };
        let taken = Taken { offer, position: self.disk.lock().appended, bytes };
        self.work().await;
        Ok(Arc::new(taken))
    }

    async fn receive_snapshot(&self, offer: Offer) -> Result<Box<dyn Incoming>, String> {
        self.work().await;
        let mut disk = self.disk.lock();
        if disk.arrivals.get(&offer.partition).is_none_or(|arrival| arrival.offer != offer) {
            disk.arrivals.insert(offer.partition, Arrival { offer, bytes: Vec::new(), synced: 0 });
        }
        let offset = disk.arrivals[&offer.partition].bytes.len() as u64;
        drop(disk);
        let Offer { partition, point, .. } = offer;
        self.witness.tell(Event::Receiving { node: self.node, partition, point, offset });
        let data = self.this.upgrade().expect("it is asked for by itself");
        Ok(Box::new(Arriving { data, offer }))
    }

    fn unfinished_snapshot(&self, partition: PartitionId) -> Option<(u64, u64)> {
        let disk = self.disk.lock();
        disk.arrivals.get(&partition).map(|arrival| (arrival.offer.id, arrival.bytes.len() as u64))
    }

    async fn report_lost(&self, tail: LostTail) -> Result<Lost, String> {
        self.work().await;
        let LostTail { partition, common } = tail;
        let until = self.store.point(partition);
        let from = common.map_or(0, |common| common.0) + 1;
        let missing = common.is_none() || !self.disk.lock().has_all(partition, from, until.lsn.0);
        let missing = missing.then(|| "the journal does not reach back so far".to_owned());
        let reported = common.filter(|_| missing.is_none());
        if self.settings.plant != Plant::ForgetsToReport {
            self.witness.tell(Event::Reported { node: self.node, partition, common: reported, until });
        }
        Ok(Lost {
            file: Some("lost".into()),
            transactions: until.lsn.0 + 1 - from,
            keys: 1,
            missing,
            is_new: true,
        })
    }
}

/// Reads the journal.
struct Reader {
    disk: Arc<Mutex<Disk>>,
    position: u64,
}

impl Records for Reader {
    fn position(&self) -> u64 {
        self.position
    }

    fn read(
        &mut self,
        limit: u64,
        budget: usize,
        visit: &mut dyn FnMut(u64, &[u8]),
    ) -> Result<bool, ReadError> {
        if self.position >= limit {
            return Ok(false);
        }
        let entries: Vec<Entry> = {
            let disk = self.disk.lock();
            if self.position < disk.oldest {
                return Err(ReadError::Gone);
            }
            let mut bytes = 0;
            let behind = disk.journal.partition_point(|entry| entry.position < self.position);
            let entries = disk.journal.iter().skip(behind).take_while(|entry| entry.end <= limit);
            let fit = entries.take_while(|entry| {
                let is_first = bytes == 0;
                bytes += (entry.end - entry.position) as usize;
                is_first || bytes <= budget
            });
            fit.cloned().collect()
        };
        let Some(last) = entries.last() else {
            return Err(ReadError::Failed(format!("no whole record at position {}", self.position)));
        };
        if entries[0].position != self.position {
            return Err(ReadError::Failed(format!("no record begins at position {}", self.position)));
        }
        self.position = last.end;
        for entry in &entries {
            entry.payload.iter().for_each(|payload| visit(entry.position, payload));
        }
        Ok(true)
    }
}

/// A snapshot that was taken.
struct Taken {
    offer: Offer,
    position: u64,
    bytes: Vec<u8>,
}

#[async_trait]
impl Outgoing for Taken {
    fn offer(&self) -> Offer {
        self.offer
    }

    fn position(&self) -> u64 {
        self.position
    }

    async fn packed(self: Arc<Self>, offset: u64, len: usize) -> io::Result<Packed> {
        let from = (offset as usize).min(self.bytes.len());
        Packed::new(offset, &self.bytes[from..(from + len).min(self.bytes.len())])
    }
}

/// A snapshot on its way in.
struct Arriving {
    data: Arc<Data>,
    offer: Offer,
}

#[async_trait]
impl Incoming for Arriving {
    fn offset(&self) -> u64 {
        let disk = self.data.disk.lock();
        disk.arrivals.get(&self.offer.partition).map_or(0, |arrival| arrival.bytes.len() as u64)
    }

    async fn write(&mut self, offset: u64, bytes: Vec<u8>) -> io::Result<()> {
        if self.data.random.lock().random_bool(0.1) {
            self.data.work().await;
        }
        let syncs = self.data.random.lock().random_bool(0.3);
        let mut disk = self.data.disk.lock();
        let arrival = disk.arrivals.get_mut(&self.offer.partition).ok_or(io::ErrorKind::NotFound)?;
        if offset != arrival.bytes.len() as u64 {
            return Err(io::Error::other(format!("byte {offset} follows {}", arrival.bytes.len())));
        }
        arrival.bytes.extend_from_slice(&bytes);
        if syncs {
            arrival.synced = arrival.bytes.len();
        }
        Ok(())
    }

    async fn install(self: Box<Self>, keeps_old: bool) -> Result<Point, String> {
        let (data, partition, after) = (&self.data, self.offer.partition, self.offer.point);
        data.work().await;
        let arrival = data.disk.lock().arrivals.remove(&partition).ok_or("it is not there")?;
        let image = arrival.bytes;
        if image.len() as u64 != self.offer.bytes || crc32c::crc32c(&image) != self.offer.checksum {
            return Err("the snapshot is damaged: it begins anew".into());
        }
        let before = data.store.point(partition);
        data.store.put_image(partition, after, &image).map_err(|error| format!("{error:?}"))?;
        data.sync_all();
        let mut disk = data.disk.lock();
        let end = disk.appended;
        disk.trees[usize::from(partition.0)] =
            Tree { point: after, image, position: end, history_start: end };
        drop(disk);
        assert_eq!(place(data.store.point(partition)), place(after));
        data.witness.tell(Event::Installed { node: data.node, partition, before, after, kept: keeps_old });
        Ok(after)
    }
}
