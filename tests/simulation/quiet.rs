//! When nobody writes and nothing fails any more, all copies are soon equal, byte for byte: history, rows, counters.

use crate::node::Process;
use larder::base::ids::PartitionId;
use larder::replication::storage::Storage;

/// Whether all nodes have arrived at the same point of each partition.
pub fn is_quiet(processes: &[Process]) -> bool {
    let Some((first, others)) = processes.split_first() else { return false };
    (0..first.data.partition_count())
        .map(PartitionId)
        .all(|id| others.iter().all(|other| other.data.point(id) == first.data.point(id)))
}

/// What differs between the nodes, if anything does.
pub fn check(processes: &[Process]) -> Result<(), String> {
    let (first, others) = processes.split_first().expect("there are nodes");
    for id in (0..first.data.partition_count()).map(PartitionId) {
        let expected = first.data.image(id);
        let digest = first.data.store.digest(id).expect("all is in memory");
        for other in others {
            let (node, found) = (other.data.node, other.data.image(id));
            if found.0 != expected.0 {
                return Err(format!(
                    "node {node} is at {:?} in partition {id}, node {} at {:?}",
                    found.0, first.data.node, expected.0
                ));
            }
            if found.1 != expected.1 || other.data.store.digest(id).expect("all is in memory") != digest {
                return Err(format!(
                    "nodes {node} and {} have other rows in partition {id} at {:?}",
                    first.data.node, expected.0
                ));
            }
        }
    }
    for other in others {
        for database in 0..crate::data::DATABASES {
            let (ours, theirs) = (first.data.store.counters(database), other.data.store.counters(database));
            if ours != theirs {
                return Err(format!(
                    "database {database}: node {} counts {ours:?}, node {} {theirs:?}",
                    first.data.node, other.data.node
                ));
            }
        }
    }
    Ok(())
}
