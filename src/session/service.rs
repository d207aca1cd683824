//! `Service`: what all sessions share.

use super::clients::Clients;
use super::monitor::Monitors;
use super::pause::Pause;
use super::saving::Saving;
use super::stop::Stop;
use super::waiting::Waiting;
use crate::config::{Parameters, Settings};
use crate::observability::latency::LatencyMonitor;
use crate::observability::process::Identity;
use crate::observability::slowlog::SlowLog;
use crate::observability::statistics::Statistics;
use crate::store::Store;
use arc_swap::Guard;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::watch;

/// What all sessions share.
pub struct Service {
    /// Configuration.
    pub parameters: Parameters,
    /// The data.
    pub store: Arc<Store>,
    /// Who is connected.
    pub clients: Clients,
    /// CLIENT PAUSE.
    pub pause: Pause,
    /// Who waits for keys.
    pub waiting: Waiting,
    /// The journal position up to which a power loss loses nothing, as of the last sync.
    pub durable: watch::Receiver<u64>,
    /// Who watches all commands.
    pub monitors: Monitors,
    /// The order to end the process.
    pub stop: Stop,
    /// What INFO counts.
    pub statistics: Statistics,
    /// The last commands that took long.
    pub slowlog: SlowLog,
    /// What took longer than `latency-monitor-threshold`.
    pub latency: LatencyMonitor,
    /// Times commands.
    pub clock: quanta::Clock,
    /// Whether keys are removed when their time has come (DEBUG SET-ACTIVE-EXPIRE).
    pub active_expire: AtomicBool,
    /// Which process this is.
    pub identity: Identity,
    /// The checkpoint that a client asked for.
    pub saving: Arc<Saving>,
}

impl Service {
    /// A service without clients. `commands` are the full names of all commands, by number.
    pub fn new(parameters: Parameters, store: Arc<Store>, commands: Vec<String>) -> Service {
        let (sender, durable) = watch::channel(0);
        store.after_sync(Box::new(move |position| {
            sender.send_replace(position);
        }));
        Service {
            parameters,
            store,
            waiting: Waiting::default(),
            durable,
            clients: Clients::default(),
            pause: Pause::default(),
            monitors: Monitors::default(),
            stop: Stop::default(),
            statistics: Statistics::new(commands),
            slowlog: SlowLog::default(),
            latency: LatencyMonitor::default(),
            clock: quanta::Clock::new(),
            active_expire: AtomicBool::new(true),
            identity: Identity::of_this_process(),
            saving: Arc::default(),
        }
    }

    /// The settings in force.
    #[inline]
    pub fn settings(&self) -> Guard<Arc<Settings>> {
        self.parameters.settings()
    }
}
