//! A server that follows somebody itself: it may be behind whoever follows it, or get another history while it serves.

use crate::data::{Data, DataSettings};
use crate::disk::Disk;
use crate::plant::Plant;
use crate::witness::Witness;
use larder::base::concern::WriteConcern;
use larder::base::ids::{Epoch, Lsn, PartitionId, Point};
use larder::replication::assignment::Assignment;
use larder::replication::snapshots::Snapshots;
use larder::replication::wire::{Chain, FrameReader, Hello, Message, Plan, VERSION, send};
use larder::replication::{LinkError, Node, Replication, Sizes, Timing, primary};
use larder::store::Store;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use tokio::io::{DuplexStream, ReadHalf, WriteHalf};
use tokio::task::JoinHandle;

const PARTITION: PartitionId = PartitionId(0);

fn data() -> Arc<Data> {
    let disk = Arc::new(Mutex::new(Disk::new(1)));
    let witness = Arc::new(Witness::new(vec![Arc::clone(&disk)], 1, None, Vec::new()));
    let settings = DataSettings {
        partitions: 1,
        syncs_at_once: true,
        kept_bytes: u64::MAX / 4,
        work_ms: 0,
        plant: Plant::None,
    };
    Data::start(0, settings, &disk, &witness, &Arc::default(), 1)
}

/// Each epoch that begins is a transaction.
fn begin_epochs(store: &Store, epochs: std::ops::Range<u64>) {
    epochs.for_each(|epoch| {
        _ = store.begin_epoch(PARTITION, Epoch(epoch), WriteConcern::Local, 0).expect("begins")
    });
}

/// Another history takes the place of what is there, longer than it.
fn replace(data: &Data) {
    let other = Store::recorded(1, crate::data::DATABASES, Box::new(|_| 0));
    begin_epochs(&other, 100..120);
    let (point, image) = other.image(PARTITION).expect("all is in memory");
    data.store.put_image(PARTITION, point, &image).expect("is one");
}

/// A follower, as far as it was told that its history is another one; and the end that serves it.
struct Follower {
    from: FrameReader<ReadHalf<DuplexStream>>,
    to: WriteHalf<DuplexStream>,
    served: JoinHandle<Result<(), LinkError>>,
}

impl Follower {
    /// One that was told that its history is another one.
    async fn of(data: &Arc<Data>) -> Follower {
        let mut follower = Follower::begin(data).await;
        follower.ask(Epoch(3)).await;
        assert_eq!(follower.hear().await.expect("a plan"), Message::Plan(PARTITION, Plan::OtherHistory));
        follower
    }

    async fn begin(data: &Arc<Data>) -> Follower {
        let node = Node {
            storage: Arc::clone(data) as Arc<_>,
            replication: Arc::new(Replication::new(Assignment::primary(1, 1))),
            snapshots: Arc::default(),
            address: (String::new(), 0),
            timing: Timing::default(),
            sizes: Sizes::default(),
        };
        let (here, there) = tokio::io::duplex(1 << 16);
        let served = tokio::spawn(async move { primary::serve(there, &node, "follower").await });
        let (from, to) = tokio::io::split(here);
        let mut follower = Follower { from: FrameReader::new(from), to, served };
        let address = (String::new(), 0);
        let hello = Hello { version: VERSION, node: "follower".into(), partitions: 1, address };
        follower.say(Message::Hello(hello)).await;
        assert!(matches!(follower.hear().await, Ok(Message::Hello(_))));
        follower
    }

    async fn ask(&mut self, epoch: Epoch) {
        let point = Point { epoch: Epoch(3), lsn: Lsn(3), chain: 7 };
        self.say(Message::Follow(vec![(PARTITION, point, epoch)])).await;
    }

    async fn say(&mut self, message: Message) {
        send(&mut self.to, &message).await.expect("the link is there");
    }

    async fn hear(&mut self) -> io::Result<Message> {
        loop {
            match self.from.message().await? {
                Message::Heartbeat { .. } => {}
                message => return Ok(message),
            }
        }
    }

    async fn expect_the_end(mut self) {
        assert!(
            self.hear().await.is_err(),
            "nothing is said of the new history to who was told of the old one"
        );
        let ended = self.served.await.expect("it does not panic").expect_err("it is no good end").to_string();
        assert!(ended.contains("another history"), "{ended}");
    }
}

#[tokio::test]
async fn it_answers_as_long_as_its_history_is_the_same() {
    let data = data();
    begin_epochs(&data.store, 2..7);
    let mut follower = Follower::of(&data).await;
    follower.say(Message::AskChain(PARTITION, Lsn(2))).await;
    assert!(matches!(follower.hear().await, Ok(Message::Chain(PARTITION, Lsn(2), Chain::Is(_)))));
    begin_epochs(&data.store, 7..9);
    follower.say(Message::WantSnapshot(PARTITION, None, Lsn(2))).await;
    let Ok(Message::Snapshot(offer, 0)) = follower.hear().await else { panic!("no snapshot") };
    assert_eq!(offer.point, data.store.point(PARTITION));
}

#[tokio::test]
async fn who_knows_of_a_newer_epoch_waits_until_it_is_there() {
    let data = data();
    begin_epochs(&data.store, 2..7);
    let mut follower = Follower::of(&data).await;
    follower.ask(Epoch(7)).await;
    follower.say(Message::AskChain(PARTITION, Lsn(2))).await;
    assert!(matches!(follower.hear().await, Ok(Message::Chain(..))), "of what was asked before");
    begin_epochs(&data.store, 7..8);
    assert_eq!(follower.hear().await.expect("a plan"), Message::Plan(PARTITION, Plan::OtherHistory));
}

#[tokio::test]
async fn who_has_more_of_an_epoch_waits_until_it_is_there() {
    let data = data();
    begin_epochs(&data.store, 2..4); // two transactions, the last of epoch 3
    let mut follower = Follower::begin(&data).await;
    follower.ask(Epoch(3)).await;
    follower.say(Message::AskChain(PARTITION, Lsn(1))).await;
    assert!(follower.hear().await.is_err(), "nothing was planned: it stands at transaction 3 of epoch 3");
}

#[tokio::test]
async fn no_chain_of_another_history_is_told() {
    let data = data();
    begin_epochs(&data.store, 2..7);
    let mut follower = Follower::of(&data).await;
    replace(&data);
    follower.say(Message::AskChain(PARTITION, Lsn(2))).await;
    follower.expect_the_end().await;
}

#[tokio::test]
async fn no_snapshot_of_another_history_is_given() {
    let data = data();
    begin_epochs(&data.store, 2..7);
    let mut follower = Follower::of(&data).await;
    replace(&data);
    follower.say(Message::WantSnapshot(PARTITION, None, Lsn(2))).await;
    follower.expect_the_end().await;
}

#[tokio::test]
async fn a_snapshot_that_was_kept_is_not_given_for_another_history() {
    let (data, snapshots) = (data(), Snapshots::default());
    begin_epochs(&data.store, 2..7);
    let first = snapshots.take(&*data, PARTITION, None, Lsn(2), 0).await.expect("is taken").offer();
    let shared = snapshots.take(&*data, PARTITION, None, Lsn(2), 0).await.expect("is there").offer();
    assert_eq!(first, shared);
    replace(&data);
    let other = snapshots.take(&*data, PARTITION, Some(first.id), Lsn(2), 1).await.expect("is taken").offer();
    assert_eq!(other.point, data.store.point(PARTITION));
    assert!(snapshots.take(&*data, PARTITION, None, Lsn(2), 0).await.is_err(), "the old history is gone");
}
