//! `Assignment`: which part this node plays for each partition. Given from outside, as a plain value: by `replicaof` and
//! REPLICAOF, or by whoever decides for several nodes.

use crate::base::concern::WriteConcern;
use crate::base::ids::Epoch;
use std::collections::BTreeSet;

/// The part a node plays for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// It answers and takes changes.
    Primary {
        /// In this epoch, which begins when it becomes primary. None is given by an operator: then it is the next one.
        epoch: Option<Epoch>,
    },
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
    /// It does neither: what it has of the partition stays as it is.
    Elsewhere,
}

impl Part {
    /// Whether it answers and takes changes.
    pub fn is_primary(&self) -> bool {
        matches!(self, Part::Primary { .. })
    }

    /// What the history that a node has, which is about to be primary in `next` and whose own history has reached the epoch `own`,
    /// must be on before anybody is told of it. `self` is what it was before, `concern` what writes are acknowledged with.
    ///
    /// The end of that history may be on this node alone, as what it had committed as a primary before it was started again: if
    /// another one without it took over, a reader would have seen what never was. What this node has from another primary,
    /// that one has, too.
    pub fn concern_of_inherited(
        &self,
        next: Option<Epoch>,
        own: Epoch,
        copies: u16,
        concern: WriteConcern,
    ) -> WriteConcern {
        let concern = concern.min(WriteConcern::Majority); // what a majority has is not lost
        let others = match self {
            // What of it is not confirmed yet is known.
            Part::Primary { .. } => return WriteConcern::Local,
            // Where an operator decides nobody else takes over by himself.
            _ if next.is_none() => return WriteConcern::Local,
            Part::Replica { epoch, .. } => u16::from(*epoch == Some(own)),
            Part::Elsewhere => 0,
        };
        if concern.replicas(copies) > others { concern } else { WriteConcern::Local }
    }
}

/// Who counts for acknowledgements of a partition: identities of nodes, as their data folders have them. Everybody who follows, if
/// none is given.
pub type Counted = Option<BTreeSet<String>>;

/// The part this node plays for each partition, by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// By partition number.
    pub parts: Vec<Part>,
    /// In how many copies the data is to be kept, the primary's included.
    pub copies: u16,
    /// By partition number; of those that are not named everybody counts.
    pub counted: Vec<Counted>,
}

impl Assignment {
    /// Primary of every partition.
    pub fn primary(partitions: u16, copies: u16) -> Assignment {
        Assignment::all(partitions, copies, Part::Primary { epoch: None })
    }

    /// Replica of one server for every partition.
    pub fn replica(partitions: u16, copies: u16, host: &str, port: u16) -> Assignment {
        Assignment::all(partitions, copies, Part::Replica { host: host.to_owned(), port, epoch: None })
    }

    /// Nothing yet, until somebody decides.
    pub fn elsewhere(partitions: u16, copies: u16) -> Assignment {
        Assignment::all(partitions, copies, Part::Elsewhere)
    }

    fn all(partitions: u16, copies: u16, part: Part) -> Assignment {
        Assignment { parts: vec![part; usize::from(partitions)], copies, counted: Vec::new() }
    }

    /// Whether this node is primary of something.
    pub fn has_primary(&self) -> bool {
        self.parts.iter().any(Part::is_primary)
    }

    /// The server that is followed for the first partition that is, if there is one.
    pub fn followed(&self) -> Option<(&str, u16)> {
        self.parts.iter().find_map(|part| match part {
            Part::Replica { host, port, .. } => Some((&**host, *port)),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_this_node_may_have_is_shown_to_nobody() {
        use WriteConcern::{All, Local, Majority, One};
        let replica = |epoch| Part::Replica { host: "a".to_owned(), port: 1, epoch: Some(Epoch(epoch)) };
        let of = |before: &Part, copies, concern| {
            before.concern_of_inherited(Some(Epoch(5)), Epoch(4), copies, concern)
        };
        for copies in 2..6 {
            assert_eq!(
                [Local, One, Majority, All].map(|concern| of(&Part::Elsewhere, copies, concern)),
                [Local, One, Majority, Majority]
            );
            assert_eq!(
                of(&replica(3), copies, Majority),
                Majority,
                "whether its primary has all of it is not known"
            );
            assert_eq!(of(&Part::Primary { epoch: Some(Epoch(4)) }, copies, Majority), Local);
        }
        // With its primary it is on two nodes.
        assert_eq!(
            [2, 3, 4, 5].map(|copies| of(&replica(4), copies, Majority)),
            [Local, Local, Majority, Majority]
        );
        assert_eq!(of(&replica(4), 5, One), Local);
        assert_eq!(of(&Part::Elsewhere, 1, Majority), Local, "there is no other copy");
        assert_eq!(Part::Elsewhere.concern_of_inherited(None, Epoch(4), 3, Majority), Local);
    }
}
