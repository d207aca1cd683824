//! A simulated node: the real cluster and the real ends of links, over the simulated network and data, and clients that use what
//! this node answers for.

use crate::cluster::client::{self, Calls};
use crate::cluster::gossip::{Board, Gossip};
use crate::cluster::host::SimHost;
use crate::cluster::network::{Services, TcpBus, accept, name};
use crate::cluster::planted::Unconfirmed;
use crate::cluster::scenario::{Plant, Scenario};
use crate::cluster::shelf::SlowShelf;
use crate::data::{Data, Switches};
use crate::disk::Disk;
use crate::network::{Dialer, PORT, Traffic, Wire};
use crate::node::host;
use crate::witness::{Event, Witness};
use larder::cluster::bus::{Bus, Kind, Serve};
use larder::cluster::consensus::ControlPlane;
use larder::cluster::consensus::raft::{Options, Raft, Timing};
use larder::cluster::consensus::shelf::MemoryShelf;
use larder::cluster::lease::Lease;
use larder::cluster::map::Address;
use larder::cluster::membership::View;
use larder::cluster::node::{Answers, Host, Node, Parts, Settings};
use larder::replication::assignment::Assignment;
use larder::replication::links::keep_links;
use larder::replication::snapshots::Snapshots;
use larder::replication::storage::Storage;
use larder::replication::{Replication, primary};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use turmoil::net::TcpListener;

/// What an operator asks of a node.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// Give everything away, as before a stop.
    HandOverAll,
    /// Give one partition away, to this node.
    HandOver(u16, usize),
    /// Have this node give away what it has, and be forgotten.
    Forget(usize),
    /// Have this one stay after all.
    Keep(usize),
}

/// A process that runs.
#[derive(Clone)]
pub struct Process {
    /// Its part in the cluster.
    pub node: Arc<Node>,
    /// Its host.
    pub host: Arc<SimHost>,
    /// Its control plane.
    pub control: Arc<dyn ControlPlane>,
    /// Its data.
    pub data: Arc<Data>,
    /// Its replication.
    pub replication: Arc<Replication>,
    /// What it sees of others.
    pub view: watch::Sender<Arc<View>>,
    /// What is asked of it.
    pub orders: mpsc::UnboundedSender<Order>,
}

/// What there is of a node besides its process.
pub struct Machine {
    /// Which node.
    pub number: usize,
    /// What the seed stands for.
    pub scenario: Scenario,
    /// What survives the process.
    pub disk: Arc<Mutex<Disk>>,
    /// What of the control plane does.
    pub shelf: Arc<MemoryShelf>,
    /// What the world does to its data.
    pub switches: Arc<Switches>,
    /// How long its links wait before each read, in milliseconds.
    pub pause_ms: Arc<AtomicU64>,
    /// It does not run for a while, as far as others can tell.
    pub is_paused: AtomicBool,
    /// The process, while there is one.
    pub process: Mutex<Option<Process>>,
    /// How many processes there were.
    pub starts: AtomicU64,
    /// Shared by all nodes.
    pub shared: Arc<Shared>,
}

/// What all nodes share.
pub struct Shared {
    /// Is told everything.
    pub witness: Arc<Witness>,
    /// What is on its way.
    pub traffic: Arc<Traffic>,
    /// What nodes say of themselves.
    pub board: Arc<Board>,
    /// What clients saw.
    pub calls: Mutex<Calls>,
    /// Whether clients have commands.
    pub has_clients: AtomicBool,
    /// Commands that were answered.
    pub answered: AtomicU64,
}

/// A process, from its start to its crash.
pub async fn run(machine: Arc<Machine>) -> turmoil::Result {
    let Machine { number, scenario, shared, .. } = &*machine;
    let start = machine.starts.fetch_add(1, Ordering::Relaxed);
    let seed = scenario.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (*number as u64) << 24 ^ start;
    let incarnation = seed;
    let data = Data::start(*number, scenario.data, &machine.disk, &shared.witness, &machine.switches, seed);
    let replication =
        Arc::new(Replication::new(Assignment::elsewhere(scenario.data.partitions, scenario.nodes as u16)));
    let host = SimHost::new(&machine, incarnation, &data, &replication, seed);
    let (broken, mut signs) = mpsc::unbounded_channel();
    let bus = Arc::new(TcpBus::new(*number, broken));
    let raft = start_control(&machine, &bus, seed).await?;
    let control: Arc<dyn ControlPlane> = match scenario.plant {
        Plant::GrantsUnconfirmed => Arc::new(Unconfirmed(Arc::clone(&raft))),
        _ => Arc::clone(&raft) as Arc<dyn ControlPlane>,
    };
    let view = watch::Sender::new(Arc::default());
    let (lease, clock) = (Arc::new(Lease::unbounded()), scenario.clocks[*number]);
    lease.bound();
    let node = Node::new(Parts {
        me: name(*number),
        incarnation,
        settings: settings(scenario),
        control: Arc::clone(&control),
        bus,
        membership: Arc::new(Gossip {
            number: *number,
            board: Arc::clone(&shared.board),
            view: view.clone(),
        }),
        host: Arc::clone(&host) as Arc<dyn Host>,
        lease: Arc::clone(&lease),
        clock: Arc::new(move || clock.now()),
    });
    let is_ignored = scenario.plant == Plant::IgnoresTheLease;
    replication.fence(Box::new(move || is_ignored || lease.holds(clock.now())));
    let (orders, asked) = mpsc::unbounded_channel();
    let process = Process { node: Arc::clone(&node), host, control, data, replication, view, orders };
    *machine.process.lock() = Some(process.clone());
    let services: Services = [
        (Kind::Consensus, Arc::clone(&raft) as Arc<dyn Serve>),
        (Kind::Control, Arc::new(Answers(Arc::clone(&node))) as Arc<dyn Serve>),
    ]
    .into();
    let signed = Arc::clone(&node);
    tokio::spawn(async move {
        while let Some(broken) = signs.recv().await {
            signed.note_broken(broken);
        }
    });
    tokio::spawn(obey(Arc::clone(&node), asked));
    tokio::spawn(Arc::clone(&node).run());
    tokio::spawn(replicate(Arc::clone(&machine), process.clone()));
    for client in 0..scenario.clients {
        tokio::spawn(client::live(Arc::clone(&machine), process.clone(), seed ^ (client + 1) << 32));
    }
    accept(Arc::new(services)).await?;
    Ok(())
}

/// Times of the cluster; a node that is away is replaced within the run.
pub fn settings(scenario: &Scenario) -> Settings {
    Settings {
        copies: scenario.nodes as u16,
        shape: scenario.shape,
        lost_after: Duration::from_secs(3),
        ..Settings::default()
    }
}

async fn start_control(machine: &Machine, bus: &Arc<TcpBus>, seed: u64) -> turmoil::Result<Arc<Raft>> {
    let Machine { number, scenario, .. } = machine;
    let lease = settings(scenario).lease;
    let options = Options {
        node: name(*number),
        timing: Timing::default(),
        rest_after_start: lease + lease / 10,
        seed: Some(seed),
    };
    let shelf = Arc::new(SlowShelf::new(&machine.shelf, scenario.shelf_ms, seed));
    let find = Arc::new(|_| Some(Address::default())); // names are enough
    let raft = Raft::start(options, shelf, Arc::clone(bus) as Arc<dyn Bus>, find).await;
    Ok(Arc::new(raft.map_err(|error| format!("{error:?}"))?))
}

/// Carries out what an operator asks.
async fn obey(node: Arc<Node>, mut asked: mpsc::UnboundedReceiver<Order>) {
    while let Some(order) = asked.recv().await {
        match order {
            Order::HandOverAll => _ = node.hand_over_all().await,
            Order::HandOver(partition, to) => {
                let partition = larder::base::ids::PartitionId(partition);
                let _ = node.hand_over(&[partition], name(to)).await; // it need not be possible
            }
            // Nor need these be; who wants them asks again.
            Order::Forget(other) => _ = node.have_forgotten(name(other)).await,
            Order::Keep(other) => _ = node.have_kept(name(other)).await,
        }
    }
}

/// Both ends of links, and work on the disk.
async fn replicate(machine: Arc<Machine>, process: Process) {
    let Machine { number, scenario, shared, .. } = &*machine;
    let (kept, shared_for) = scenario.snapshots;
    let node = Arc::new(larder::replication::Node {
        storage: Arc::clone(&process.data) as Arc<dyn Storage>,
        replication: Arc::clone(&process.replication),
        snapshots: Arc::new(Snapshots::new(kept, shared_for)),
        address: (host(*number), PORT),
        timing: scenario.timing,
        sizes: scenario.sizes,
    });
    let dialer = Dialer {
        traffic: Arc::clone(&shared.traffic),
        witness: Arc::clone(&shared.witness),
        pause_ms: Arc::clone(&machine.pause_ms),
    };
    let dialing = Arc::clone(&node);
    tokio::spawn(async move { keep_links(&dialing, &dialer).await });
    let (data, gap) = (Arc::clone(&process.data), scenario.sync_gap);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(gap).await;
            data.sync();
            data.drop_old();
        }
    });
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await.expect("the port is free");
    while let Ok((stream, from)) = listener.accept().await {
        let Ok(stream) = Wire::accepted(stream, &shared.traffic, &shared.witness) else { continue };
        let (node, number, witness) = (Arc::clone(&node), *number, Arc::clone(&shared.witness));
        tokio::spawn(async move {
            if let Err(error) = primary::serve(stream, &node, &from.ip().to_string()).await {
                witness.tell(Event::Fault(format!("served link ended: node {number}: {error}")));
            }
        });
    }
}
