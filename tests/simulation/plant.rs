//! Bugs that are planted on purpose, to show that each invariant would see them.

use larder::base::ids::{PartitionId, Point};
use larder::store::journal::visit_sections;
use larder::store::{ApplyError, Store};

/// What a node, or whoever gives the parts, does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plant {
    /// Nothing.
    #[default]
    None,
    /// A replica applies what does not continue its history.
    SkipsTheChainCheck,
    /// A replica says that it has journaled what it has not.
    AcknowledgesBeforeJournaling,
    /// A replica takes a snapshot without writing out what it alone has.
    ForgetsToReport,
    /// A replica loses a row now and then.
    LosesRows,
    /// A primary sends whatever it has, however much is on its way.
    IgnoresTheWindow,
    /// Any replica is promoted, not the most advanced one.
    PromotesAnybody,
    /// A primary gives an old snapshot to whoever asks.
    GivesOldSnapshots,
}

impl Plant {
    /// Applies a record, as this one does it.
    pub fn apply(self, store: &Store, payload: &[u8]) -> Result<u64, ApplyError> {
        let outcome = store.apply(payload);
        match (self, outcome) {
            (Plant::SkipsTheChainCheck, Err(ApplyError::OtherHistory(..))) => {
                pretend_it_continues(store, payload);
                store.apply(payload)
            }
            (Plant::LosesRows, Ok(position)) => {
                lose_rows(store, payload);
                Ok(position)
            }
            (_, outcome) => outcome,
        }
    }
}

/// Makes each partition's history stand where the record begins.
fn pretend_it_continues(store: &Store, payload: &[u8]) {
    let _ = visit_sections(payload, |head, _| {
        let Ok((point, image)) = store.image(head.partition) else { return };
        if point.lsn.0 + 1 == head.lsn.0 {
            let point = Point { epoch: head.epoch, chain: head.previous, ..point };
            store.put_image(head.partition, point, &image).expect("it was made here");
        }
    });
}

/// Empties a partition every hundredth record, but lets it say that it is where it was.
fn lose_rows(store: &Store, payload: &[u8]) {
    let _ = visit_sections(payload, |head, _| {
        if head.lsn.0 % 100 == 0 {
            empty(store, head.partition);
        }
    });
}

fn empty(store: &Store, id: PartitionId) {
    let point = store.point(id);
    let nothing = Store::in_memory(store.partition_count(), crate::data::DATABASES);
    let at_start = Point { chain: 0, ..point };
    nothing.put_image(id, at_start, &image_of_nothing(id, point)).expect("is one");
    let (_, image) = nothing.image(id).expect("all is in memory");
    store.put_image(id, point, &image).expect("is one");
}

fn image_of_nothing(id: PartitionId, point: Point) -> Vec<u8> {
    use larder::store::journal::{SectionHead, encode_section, put_number};
    let head = SectionHead { partition: id, epoch: point.epoch, lsn: point.lsn, previous: 0, time_ms: 0 };
    let mut image = Vec::new();
    put_number(&mut image, 1);
    encode_section(&mut image, &head, [].iter());
    image
}
