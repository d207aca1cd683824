//! `Assignment`: which part this node plays for each partition. Given from outside, as a plain value: by `replicaof` and
//! REPLICAOF, or by whoever decides for several nodes.

use crate::base::ids::Epoch;

/// The part a node plays for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// It answers and takes changes.
    Primary,
    /// It follows the server at this address.
    Replica {
        /// A name or an address.
        host: String,
        /// The port for clients.
        port: u16,
        /// Nobody is followed whose history has not reached this epoch, or the one that this node's own has reached: it would lack
        /// what is here. None is given by an operator who names the server alone: then that server's data is what counts.
        epoch: Option<Epoch>,
    },
}

/// The part this node plays for each partition, by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// By partition number.
    pub parts: Vec<Part>,
    /// In how many copies the data is to be kept, the primary's included.
    pub copies: u16,
}

impl Assignment {
    /// Primary of every partition.
    pub fn primary(partitions: u16, copies: u16) -> Assignment {
        Assignment { parts: vec![Part::Primary; usize::from(partitions)], copies }
    }

    /// Replica of one server for every partition.
    pub fn replica(partitions: u16, copies: u16, host: &str, port: u16) -> Assignment {
        let part = Part::Replica { host: host.to_owned(), port, epoch: None };
        Assignment { parts: vec![part; usize::from(partitions)], copies }
    }

    /// The server that every partition follows, if there is one.
    pub fn followed(&self) -> Option<(&str, u16)> {
        match self.parts.first() {
            Some(Part::Replica { host, port, .. }) => Some((host, *port)),
            _ => None,
        }
    }
}
