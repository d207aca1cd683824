//! `Service`: what all sessions share.

use super::clients::Clients;
use super::forwarding::Forwards;
use super::handover::TakeLink;
use super::imported::Imported;
use super::monitor::Monitors;
use super::pause::Pause;
use super::pubsub::Pubsub;
use super::roles::assignment_of;
use super::saving::Saving;
use super::stop::Stop;
use super::waiting::Waiting;
use crate::config::{Parameters, Settings};
use crate::observability::latency::LatencyMonitor;
use crate::observability::process::Identity;
use crate::observability::slowlog::SlowLog;
use crate::observability::statistics::{Counter, Statistics};
use crate::replication::Replication;
use crate::store::Store;
use arc_swap::Guard;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;

/// Where clients are accepted, as far as a change of `bind` or `port` must know it.
pub trait Listens: Send + Sync {
    /// Listens on the addresses of `settings` and no others. False if that is not possible; then nothing has changed.
    fn listen_on(&self, settings: &Settings) -> bool;
}

/// What all sessions share.
pub struct Service {
    /// Configuration.
    pub parameters: Parameters,
    /// The data.
    pub store: Arc<Store>,
    /// Who follows whom, and how far.
    pub replication: Arc<Replication>,
    /// Who is connected.
    pub clients: Clients,
    /// CLIENT PAUSE.
    pub pause: Pause,
    /// Who waits for keys.
    pub waiting: Waiting,
    /// The journal position up to which a power loss loses nothing, as of the last sync.
    pub durable: watch::Receiver<u64>,
    /// Who listens to which channels.
    pub pubsub: Pubsub,
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
    /// Whether nothing happens by time (DEBUG PAUSE-CRON).
    pub housekeeping_rests: AtomicBool,
    /// Which process this is.
    pub identity: Identity,
    /// The checkpoint that a client asked for.
    pub saving: Arc<Saving>,
    /// Who takes over sockets that become replication links, if anybody does.
    pub links: OnceLock<TakeLink>,
    /// The cluster that this server is in, if it is in one.
    pub cluster: OnceLock<Arc<crate::cluster::node::Node>>,
    /// Connections that hold replies until they are confirmed.
    pub confirming: AtomicUsize,
    /// The way of commands to other nodes.
    pub forwarding: Forwards,
    /// Held while parts change.
    pub(super) assigning: Mutex<()>,
    listens: OnceLock<Box<dyn Listens>>,
    imported: OnceLock<Imported>,
}

impl Service {
    /// A service without clients. `commands` are the full names of all commands, by number.
    pub fn new(parameters: Parameters, store: Arc<Store>, commands: Vec<String>) -> Service {
        let (sender, durable) = watch::channel(0);
        store.after_sync(Box::new(move |position| {
            sender.send_replace(position);
        }));
        let assignment = assignment_of(&parameters.settings(), store.partition_count());
        let service = Service {
            replication: Arc::new(Replication::new(assignment)),
            parameters,
            store,
            waiting: Waiting::default(),
            durable,
            clients: Clients::default(),
            pause: Pause::default(),
            pubsub: Pubsub::default(),
            monitors: Monitors::default(),
            stop: Stop::default(),
            statistics: Statistics::new(commands),
            slowlog: SlowLog::default(),
            latency: LatencyMonitor::default(),
            clock: quanta::Clock::new(),
            active_expire: AtomicBool::new(true),
            housekeeping_rests: AtomicBool::new(false),
            identity: Identity::of_this_process(),
            saving: Arc::default(),
            links: OnceLock::new(),
            cluster: OnceLock::new(),
            confirming: AtomicUsize::new(0),
            forwarding: Forwards::default(),
            assigning: Mutex::new(()),
            listens: OnceLock::new(),
            imported: OnceLock::new(),
        };
        service.set_parts(&service.replication.assignment(), false);
        service
    }

    /// Names who changes where clients are accepted. The first one stays.
    pub fn listen_by(&self, listens: Box<dyn Listens>) {
        let _ = self.listens.set(listens);
    }

    /// Says what was imported into the data folder. The first word counts.
    pub fn note_import(&self, imported: Imported) {
        let _ = self.imported.set(imported);
    }

    /// What was last imported into the data folder, if anything was.
    pub fn imported(&self) -> Option<&Imported> {
        self.imported.get()
    }

    /// Who changes where clients are accepted.
    pub fn listens(&self) -> Option<&dyn Listens> {
        self.listens.get().map(AsRef::as_ref)
    }

    /// Closes clients while all together take more than `maxmemory-clients`.
    #[inline]
    pub fn evict_clients(&self, settings: &Settings) {
        let limit = settings.maxmemory_clients;
        if limit > 0 && self.clients.memory() > limit {
            self.statistics.add(Counter::EvictedClients, self.clients.evict(limit));
        }
    }

    /// The settings in force.
    #[inline]
    pub fn settings(&self) -> Guard<Arc<Settings>> {
        self.parameters.settings()
    }
}
