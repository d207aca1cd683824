//! Bugs that are planted on purpose, to show that each invariant would see them.

use larder::base::ids::{PartitionId, Point};
use larder::store::journal::{SectionHead, encode_section, put_number, visit_sections};
use larder::store::{ApplyError, PartitionSet, Store};

/// What a node, or whoever gives the parts, does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plant {
    /// Nothing.
    #[default]
    None,
    /// A replica removes keys by itself now and then, as if it expired them.
    ExpiresByItself,
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
    /// A start leaves out the last record of the journal.
    ForgetsAtStart,
}

impl Plant {
    /// Applies a record, as this one does it.
    pub fn apply(self, store: &Store, payload: &[u8]) -> Result<u64, ApplyError> {
        let position = store.apply(payload)?;
        let spoil = |at: u64, how: fn(&Store, PartitionId)| {
            let _ = visit_sections(payload, |head, _| {
                if head.lsn.0.is_multiple_of(at) {
                    how(store, head.partition);
                }
            });
        };
        match self {
            Plant::LosesRows => spoil(100, empty),
            Plant::ExpiresByItself => spoil(50, expire),
            _ => {}
        }
        Ok(position)
    }
}

/// Removes a key in a transaction of its own.
fn expire(store: &Store, id: PartitionId) {
    let mut transaction = store.transaction(&PartitionSet::One(id), 0);
    transaction.flush_database(0);
    transaction.commit();
}

/// Takes all rows of a partition, but lets it say that it is where it was.
fn empty(store: &Store, id: PartitionId) {
    let point = store.point(id);
    store.put_image(id, point, &image_of_nothing(id, point)).expect("is one");
}

fn image_of_nothing(id: PartitionId, point: Point) -> Vec<u8> {
    let head = SectionHead { partition: id, epoch: point.epoch, lsn: point.lsn, previous: 0, time_ms: 0 };
    let mut image = Vec::new();
    put_number(&mut image, 1);
    encode_section(&mut image, &head, [].iter());
    image
}
