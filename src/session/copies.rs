//! What WAIT and WAITAOF wait for: that enough nodes have everything that a connection wrote.

use super::service::Service;
use crate::protocol::reply::Reply;

/// A wait for copies of everything up to a position of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopiesWanted {
    /// Where the journal stood after the connection's last write.
    pub position: u64,
    /// Whether it is to be on this node's disk, too; none if only replicas' journals count (WAIT).
    pub local_disk: Option<bool>,
    /// How many replicas.
    pub replicas: u64,
    /// For how long, in milliseconds; none is for ever.
    pub timeout_ms: Option<u64>,
}

/// How many have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copies {
    is_on_local_disk: bool,
    replicas: usize,
}

impl CopiesWanted {
    /// How many have it now.
    pub fn count(&self, service: &Service) -> Copies {
        Copies {
            is_on_local_disk: service.store.durable_position() >= self.position,
            replicas: service.replication.have(self.position, self.local_disk.is_some()),
        }
    }

    /// Whether these are enough.
    pub fn is_met_by(&self, copies: Copies) -> bool {
        copies.replicas as u64 >= self.replicas && (copies.is_on_local_disk || self.local_disk != Some(true))
    }

    /// The reply that tells of these.
    pub fn reply(&self, copies: Copies) -> Reply {
        let replicas = Reply::Int(copies.replicas as i64);
        match self.local_disk {
            None => replicas,
            Some(_) => Reply::Array(vec![Reply::Int(i64::from(copies.is_on_local_disk)), replicas]),
        }
    }

    /// Ends when there are enough.
    pub async fn met(self, service: &Service) {
        let (mut changes, mut durable) = (service.replication.changes(), service.durable.clone());
        loop {
            changes.borrow_and_update();
            durable.borrow_and_update();
            if self.is_met_by(self.count(service)) {
                return;
            }
            // One that fails will never tell anything again (a store without a journal syncs nothing).
            tokio::select! {
                Ok(()) = changes.changed() => {}
                Ok(()) = durable.changed() => {}
                else => std::future::pending().await,
            }
        }
    }
}
