//! What several sections of INFO need, gathered once.

use super::Request;
use crate::config::Settings;
use crate::observability::process::Memory;
use crate::session::service::Service;
use crate::store::StoreStatus;

/// What several sections need.
pub struct Facts<'a> {
    /// What all sessions share.
    pub service: &'a Service,
    /// The settings in force.
    pub settings: &'a Settings,
    /// What the store is doing.
    pub store: StoreStatus,
    /// Memory of the process.
    pub memory: Memory,
    /// The most that `used_memory` was.
    pub peak_memory: u64,
}

impl<'a> Facts<'a> {
    /// As of now.
    pub fn of(request: &Request<'a>) -> Facts<'a> {
        let memory = Memory::now();
        Facts {
            service: request.service,
            settings: request.settings,
            store: request.service.store.status(),
            memory,
            peak_memory: request.service.statistics.note_memory(request.service.store.used_bytes()),
        }
    }
}
