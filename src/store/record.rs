//! The operations of a committed transaction, as the journal and the replication stream carry them: effects on rows,
//! never commands.

use super::answers::Answered;
use super::row::Kind;
use crate::base::blob::Blob;
use crate::base::ids::Uid;
use std::sync::Arc;

/// One change of a partition.
#[derive(Clone)]
pub enum Operation {
    /// The row of a key is now this one (or gone, if it is a deletion).
    Key(Blob),
    /// A row of a collection is now this one (or gone).
    Item(Blob),
    /// The rows of this collection are nobody's any more.
    Drop {
        /// Their common prefix.
        uid: Uid,
        /// What they were.
        kind: Kind,
    },
    /// Database number `number` is now the one with this physical id: a new id empties it, two of these swap.
    Database {
        /// What clients select.
        number: u16,
        /// What key rows are prefixed with.
        id: u32,
        /// The id it had before. Nothing needs it to apply the operation; who reads a history without its beginning learns from
        /// it which database earlier rows were in.
        before: u32,
    },
    /// The transaction has carried out this request of another node. It changes no row: whoever has the record knows what became of
    /// the request.
    Answer(Arc<Answered>),
}

/// Bytes of an operation besides those of its row, at most.
const FRAME_BYTES: u64 = 24;

impl Operation {
    /// How many bytes it has in the journal at most.
    #[inline]
    pub fn record_bytes(&self) -> u64 {
        match self {
            Operation::Key(row) | Operation::Item(row) => row.bytes().len() as u64 + FRAME_BYTES,
            Operation::Answer(answered) => answered.answer.len() as u64 + FRAME_BYTES,
            Operation::Drop { .. } | Operation::Database { .. } => FRAME_BYTES,
        }
    }

    /// Number and id, if this gives a database number another meaning.
    pub fn database(&self) -> Option<(u16, u32)> {
        match self {
            Operation::Database { number, id, .. } => Some((*number, *id)),
            _ => None,
        }
    }
}
