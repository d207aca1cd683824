//! Roles: which parts this node plays as the settings and REPLICAOF say, put into force where it matters.

use super::client::Letter;
use super::service::Service;
use crate::base::clock::unix_ms;
use crate::base::ids::{Epoch, PartitionId};
use crate::config::Settings;
use crate::replication::assignment::{Assignment, Part};

/// The parts that the settings give to a node with this many partitions.
pub fn assignment_of(settings: &Settings, partitions: u16) -> Assignment {
    let copies = settings.replicas.saturating_add(1);
    if settings.cluster.is_on() {
        return Assignment::elsewhere(partitions, copies); // until the cluster's map says otherwise
    }
    match &settings.replicaof {
        Some((host, port)) => Assignment::replica(partitions, copies, host, *port),
        None => Assignment::primary(partitions, copies),
    }
}

impl Service {
    /// Follows `server` from now on, or nobody, and notes it among the parameters for CONFIG REWRITE.
    pub fn follow(&self, server: Option<(&str, u16)>) {
        let shown = server.map_or_else(String::new, |(host, port)| format!("{host} {port}"));
        let _one_after_the_other = self.assigning.lock();
        self.parameters.put("replicaof", shown.into_bytes());
        self.assign_locked(assignment_of(&self.settings(), self.store.partition_count()));
    }

    /// Keeps the data in as many copies as the settings say.
    pub fn keep_copies(&self) {
        if self.cluster.get().is_some() {
            return; // the map says how many: a primary that counted otherwise than the leader would lose what it acknowledged
        }
        let _one_after_the_other = self.assigning.lock();
        let present = self.replication.assignment();
        let copies = assignment_of(&self.settings(), self.store.partition_count()).copies;
        if present.copies != copies {
            self.replication.assign(Assignment { copies, ..present });
        }
    }

    /// Gives this node these parts. What is given up is so before anybody learns of it: a command that changes such a partition
    /// has ended in the term before, or is refused.
    pub fn assign(&self, assignment: Assignment) {
        let _one_after_the_other = self.assigning.lock();
        self.assign_locked(assignment);
    }

    fn assign_locked(&self, assignment: Assignment) {
        let was_replica = self.replication.is_replica();
        let before = self.replication.assignment();
        self.set_parts(&assignment, false);
        self.replication.assign(assignment.clone());
        self.begin_epochs(&before, &assignment);
        self.set_parts(&assignment, true);
        let gives_up = before
            .parts
            .iter()
            .zip(&assignment.parts)
            .any(|(had, has)| had.is_primary() && !has.is_primary());
        if gives_up || (!was_replica && self.replication.is_replica()) {
            self.clients.list().iter().for_each(|client| {
                client.send(Letter::RoleChanged);
            });
        }
    }

    /// Begins a new epoch of each partition that this node becomes primary of, or goes on to be in a later one: from then on
    /// nothing of the old primary's fits.
    fn begin_epochs(&self, before: &Assignment, assignment: &Assignment) {
        let mut position = 0;
        let concern = self.settings().strongest_concern();
        for (id, (before, part)) in before.parts.iter().zip(&assignment.parts).enumerate() {
            let Part::Primary { epoch } = part else { continue };
            let id = PartitionId(id as u16);
            let own = self.store.point(id).epoch;
            let inherited = before.concern_of_inherited(*epoch, own, assignment.copies, concern);
            let epoch = match epoch {
                Some(epoch) if *epoch > own => *epoch,
                None if !before.is_primary() => Epoch(own.0 + 1),
                Some(_) | None => continue,
            };
            match self.store.begin_epoch(id, epoch, inherited, unix_ms()) {
                Ok(begun) => position = begun.max(position),
                // It is an order, and the chains of records tell histories apart without it.
                Err(error) => tracing::error!("partition {id}: epoch {} could not begin: {error:?}", epoch.0),
            }
        }
        if let Err(error) = self.store.flush(position) {
            tracing::error!("the new epochs could not be written yet: {error:?}");
        }
    }

    /// Tells the store of all partitions that this node is primary of, or of all others.
    pub(super) fn set_parts(&self, assignment: &Assignment, is_primary: bool) {
        for (id, part) in assignment.parts.iter().enumerate() {
            if part.is_primary() == is_primary {
                self.store.set_primary(PartitionId(id as u16), is_primary);
            }
        }
    }
}
