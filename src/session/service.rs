//! `Service`: what all sessions share.

use super::clients::Clients;
use super::monitor::Monitors;
use super::pause::Pause;
use super::stop::Stop;
use crate::config::Parameters;
use crate::store::Store;

/// What all sessions share.
pub struct Service {
    /// Configuration.
    pub parameters: Parameters,
    /// The data.
    pub store: Store,
    /// Who is connected.
    pub clients: Clients,
    /// CLIENT PAUSE.
    pub pause: Pause,
    /// Who watches all commands.
    pub monitors: Monitors,
    /// The order to end the process.
    pub stop: Stop,
}

impl Service {
    /// A service without clients.
    pub fn new(parameters: Parameters, store: Store) -> Service {
        Service {
            parameters,
            store,
            clients: Clients::default(),
            pause: Pause::default(),
            monitors: Monitors::default(),
            stop: Stop::default(),
        }
    }
}
