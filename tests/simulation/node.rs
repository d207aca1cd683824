//! A simulated node: the real ends of links over the simulated network and data, and clients that write where this node is the
//! primary.

use crate::client;
use crate::data::{Data, DataSettings, Switches};
use crate::disk::Disk;
use crate::network::{Dialer, PORT, Traffic, Wire};
use crate::witness::{Event, Witness};
use larder::base::ids::{Epoch, PartitionId};
use larder::replication::assignment::Assignment;
use larder::replication::links::keep_links;
use larder::replication::snapshots::Snapshots;
use larder::replication::storage::Storage;
use larder::replication::{Node, Replication, Sizes, Timing, primary};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use turmoil::net::TcpListener;

/// How nodes are set up.
#[derive(Clone, Copy, Debug)]
pub struct NodeSettings {
    /// Of the data.
    pub data: DataSettings,
    /// Times of links.
    pub timing: Timing,
    /// Sizes of what is sent.
    pub sizes: Sizes,
    /// How long snapshots are kept, and shared.
    pub snapshots: (Duration, Duration),
    /// How often the journal is synced.
    pub sync_gap: Duration,
    /// What clients do.
    pub clients: client::ClientSettings,
}

/// Who may answer clients for which partition: what leases will say.
#[derive(Default)]
pub struct Leases(Mutex<BTreeMap<PartitionId, (usize, Epoch)>>);

impl Leases {
    /// This node may, from this epoch on.
    pub fn give(&self, partition: PartitionId, node: usize, epoch: Epoch) {
        self.0.lock().insert(partition, (node, epoch));
    }

    /// Nobody may.
    pub fn end(&self, partition: PartitionId) {
        self.0.lock().remove(&partition);
    }

    /// Who may.
    pub fn of(&self, partition: PartitionId) -> Option<(usize, Epoch)> {
        self.0.lock().get(&partition).copied()
    }
}

/// A process that runs.
#[derive(Clone)]
pub struct Process {
    /// Its data.
    pub data: Arc<Data>,
    /// Its replication.
    pub replication: Arc<Replication>,
}

/// What there is of a node besides its process.
pub struct Machine {
    /// Which node.
    pub number: usize,
    /// How it is set up.
    pub settings: NodeSettings,
    /// What survives the process.
    pub disk: Arc<Mutex<Disk>>,
    /// What the world does to its data.
    pub switches: Arc<Switches>,
    /// How long its links wait before each read, in milliseconds.
    pub pause_ms: Arc<AtomicU64>,
    /// The parts it was told last.
    pub assignment: Mutex<Assignment>,
    /// The process, while there is one.
    pub process: Mutex<Option<Process>>,
    /// How many processes there were.
    pub starts: AtomicU64,
    /// Seeds its random choices.
    pub seed: u64,
    /// Shared by all nodes.
    pub shared: Arc<Shared>,
}

/// What all nodes share.
pub struct Shared {
    /// Is told everything.
    pub witness: Arc<Witness>,
    /// What is on its way.
    pub traffic: Arc<Traffic>,
    /// Who may answer.
    pub leases: Leases,
    /// Whether clients write.
    pub has_clients: AtomicBool,
}

/// The name of a node on the network.
pub fn host(number: usize) -> String {
    format!("node-{number}")
}

/// A process, from its start to its crash.
pub async fn run(machine: Arc<Machine>) -> turmoil::Result {
    let Machine { number, settings, shared, .. } = &*machine;
    let seed = machine.seed ^ machine.starts.fetch_add(1, Ordering::Relaxed);
    let data = Data::start(*number, settings.data, &machine.disk, &shared.witness, &machine.switches, seed);
    let replication = Arc::new(Replication::new(machine.assignment.lock().clone()));
    let process = Process { data: Arc::clone(&data), replication: Arc::clone(&replication) };
    *machine.process.lock() = Some(process.clone());
    let (kept, shared_for) = settings.snapshots;
    let node = Arc::new(Node {
        storage: Arc::clone(&data) as Arc<dyn Storage>,
        replication,
        snapshots: Arc::new(Snapshots::new(kept, shared_for)),
        address: (host(*number), PORT),
        timing: settings.timing,
        sizes: settings.sizes,
    });
    tokio::spawn(keep(Arc::clone(&node), Arc::clone(&machine)));
    tokio::spawn(work_on_disk(data, settings.sync_gap));
    for client in 0..settings.clients.count {
        tokio::spawn(client::write(Arc::clone(&machine), process.clone(), seed ^ (client << 32)));
    }
    accept(node, &machine).await
}

async fn accept(node: Arc<Node>, machine: &Machine) -> turmoil::Result {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    loop {
        let (stream, from) = listener.accept().await?;
        let Shared { traffic, witness, .. } = &*machine.shared;
        let Ok(stream) = Wire::accepted(stream, traffic, witness) else { continue };
        let (node, number, witness) = (Arc::clone(&node), machine.number, Arc::clone(witness));
        tokio::spawn(async move {
            let ended = primary::serve(stream, &node, &from.ip().to_string()).await;
            if let Err(error) = ended {
                witness.tell(Event::Fault(format!("served link ended: node {number}: {error}")));
            }
        });
    }
}

async fn keep(node: Arc<Node>, machine: Arc<Machine>) {
    let dialer = Dialer {
        traffic: Arc::clone(&machine.shared.traffic),
        witness: Arc::clone(&machine.shared.witness),
        pause_ms: Arc::clone(&machine.pause_ms),
    };
    keep_links(&node, &dialer).await;
}

/// Syncs the journal, and drops what is old.
async fn work_on_disk(data: Arc<Data>, gap: Duration) {
    loop {
        tokio::time::sleep(gap).await;
        data.sync();
        data.drop_old();
    }
}
