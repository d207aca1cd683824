//! Identifiers as types, so that a slot is never taken for a partition nor an LSN for an epoch.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Number of hash slots, as in Redis Cluster.
pub const SLOTS: u16 = 16_384;

/// One of the 16,384 hash ranges a key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

/// A contiguous range of slots: the unit of storage, replication and promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartitionId(pub u16);

impl PartitionId {
    /// The partition that holds `slot` when there are `partitions` of them.
    #[inline]
    pub fn of(slot: Slot, partitions: u16) -> PartitionId {
        PartitionId((u32::from(slot.0) * u32::from(partitions) / u32::from(SLOTS)) as u16)
    }

    /// The first slot of this partition when there are `partitions` of them; of `partitions` itself it is [`SLOTS`].
    pub fn first_slot(self, partitions: u16) -> Slot {
        Slot((u32::from(self.0) * u32::from(SLOTS)).div_ceil(u32::from(partitions)) as u16)
    }
}

/// Log sequence number: +1 for each committed transaction of a partition. 0 is "nothing committed".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lsn(pub u64);

/// +1 for each promotion of a partition; (epoch, LSN) orders its history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// A point in a partition's history: the transaction that leads to it, and a checksum over that and all before it. Points with
/// equal LSN and chain have equal histories behind them, whoever wrote them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Point {
    /// The epoch the transaction was committed in.
    pub epoch: Epoch,
    /// The transaction.
    pub lsn: Lsn,
    /// CRC-32C over the transaction and the chain before it; 0 before the first one.
    pub chain: u32,
}

/// Names a collection's rows: the LSN of the transaction that made it and its index in that transaction. Unique,
/// growing, and the same on every replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid {
    /// The transaction that made the collection.
    pub lsn: u64,
    /// Which of the collections that this transaction made.
    pub index: u32,
}

impl Uid {
    /// Bytes of the encoded form.
    pub const LEN: usize = 12;

    /// Big-endian, so that byte order is creation order.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.lsn.to_be_bytes());
        bytes[8..].copy_from_slice(&self.index.to_be_bytes());
        bytes
    }

    /// Reads the first [`Uid::LEN`] bytes; `None` if there are fewer.
    pub fn from_bytes(bytes: &[u8]) -> Option<Uid> {
        let lsn = u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?);
        let index = u32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?);
        Some(Uid { lsn, index })
    }
}

/// Names a node: made with its data folder, and kept with it wherever it moves. As text 40 hexadecimal digits, as in Redis Cluster.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub [u8; 20]);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::str::FromStr for NodeId {
    type Err = ();

    /// Of 40 hexadecimal digits.
    fn from_str(text: &str) -> Result<NodeId, ()> {
        let mut bytes = [0; 20];
        if text.len() != 2 * bytes.len() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(());
        }
        for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| ())?;
        }
        Ok(NodeId(bytes))
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}", self.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_named_by_40_digits() {
        let text = "00ff102030405060708090a0b0c0d0e0f0a1b2c3";
        assert_eq!(text.parse::<NodeId>().map(|node| node.to_string()), Ok(text.to_owned()));
        for wrong in ["", &text[1..], &text.replace('f', "g"), &text.replace("00", "+0")] {
            assert_eq!(wrong.parse::<NodeId>(), Err(()), "{wrong}");
        }
    }

    #[test]
    fn first_slot_is_the_smallest_slot_of_its_partition() {
        for partitions in [1, 3, 16, 1000, SLOTS] {
            for id in 0..partitions {
                let first = PartitionId(id).first_slot(partitions);
                assert_eq!(PartitionId::of(first, partitions), PartitionId(id));
                assert!(first.0 == 0 || PartitionId::of(Slot(first.0 - 1), partitions).0 == id - 1);
            }
        }
    }
}
