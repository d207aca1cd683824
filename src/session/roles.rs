//! Roles: which parts this node plays as the settings and REPLICAOF say, put into force where it matters.

use super::service::Service;
use crate::config::Settings;
use crate::replication::assignment::Assignment;

/// The parts that the settings give to a node with this many partitions.
pub fn assignment_of(settings: &Settings, partitions: u16) -> Assignment {
    let copies = settings.replicas.saturating_add(1);
    match &settings.replicaof {
        Some((host, port)) => Assignment::replica(partitions, copies, host, *port),
        None => Assignment::primary(partitions, copies),
    }
}

impl Service {
    /// Follows `server` from now on, or nobody, and notes it among the parameters for CONFIG REWRITE.
    pub fn follow(&self, server: Option<(&str, u16)>) {
        let shown = server.map_or_else(String::new, |(host, port)| format!("{host} {port}"));
        self.parameters.put("replicaof", shown.into_bytes());
        self.assign(assignment_of(&self.settings(), self.store.partition_count()));
    }

    /// Gives this node these parts.
    pub fn assign(&self, assignment: Assignment) {
        self.replication.assign(assignment);
    }
}
