//! The composition root: builds the layers, starts them, stops them in order.

use crate::commands::table;
use crate::config::Parameters;
use crate::server::runtime::ClientThreads;
use crate::session::service::Service;
use crate::store::Store;
use std::io;
use std::sync::Arc;

/// A running server.
pub struct Node {
    service: Arc<Service>,
    clients: ClientThreads,
}

impl Node {
    /// Builds and starts everything.
    ///
    /// # Errors
    /// An address that cannot be listened on.
    pub fn start(parameters: Parameters) -> io::Result<Node> {
        let settings = parameters.snapshot();
        let databases = u16::try_from(settings.databases).unwrap_or(u16::MAX);
        let store = Store::in_memory(settings.partitions, databases);
        let service = Arc::new(Service::new(parameters, store, table::full_names()));
        let clients = ClientThreads::start(&service)?;
        for address in clients.addresses() {
            tracing::info!(%address, "ready to accept connections");
        }
        Ok(Node { service, clients })
    }

    /// What all sessions share.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Waits until a stop was ordered and every layer has ended.
    pub fn join(self) {
        self.clients.join();
    }
}
