//! A simulated voter: the real consensus over a simulated network and disk, and a client that has commands decided where this
//! node leads.

use crate::consensus::disk::{Disk, OpenDisk};
use crate::consensus::network::{TcpBus, accept, node};
use crate::consensus::scenario::{Plant, Scenario};
use crate::consensus::witness::{Event, Seen, Witness};
use larder::base::ids::{Epoch, Lsn, PartitionId};
use larder::cluster::consensus::raft::{Options, Raft};
use larder::cluster::consensus::{ControlError, ControlPlane};
use larder::cluster::map::{Address, ClusterMap, Command, Member, Outcome, Promotion, Reason, Shape};
use parking_lot::Mutex;
use rand::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What there is of a node besides its process.
pub struct Machine {
    /// Which node.
    pub number: usize,
    /// What the seed stands for.
    pub scenario: Scenario,
    /// What survives the process.
    pub disk: Arc<Disk>,
    /// The process, while there is one.
    pub process: Mutex<Option<Arc<Raft>>>,
    /// How many processes there were.
    pub starts: AtomicU64,
    /// Shared by all nodes.
    pub shared: Arc<Shared>,
}

/// What all nodes share.
pub struct Shared {
    /// Is told everything.
    pub witness: Witness,
    /// Whether clients have commands.
    pub has_clients: AtomicBool,
    /// Whether who votes may change.
    pub has_changes: AtomicBool,
}

/// The addresses of these nodes. The network goes by their names.
pub fn addresses(numbers: impl IntoIterator<Item = usize>) -> BTreeMap<larder::base::ids::NodeId, Address> {
    numbers.into_iter().map(|number| (node(number), Address::default())).collect()
}

/// A process, from its start to its crash.
pub async fn run(machine: Arc<Machine>) -> turmoil::Result {
    let Machine { number, scenario, shared, .. } = &*machine;
    let start = machine.starts.fetch_add(1, Ordering::Relaxed);
    let seed = scenario.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (*number as u64) << 24 ^ start;
    let options = Options {
        node: node(*number),
        timing: scenario.timing,
        rest_after_start: scenario.rest,
        seed: Some(seed),
    };
    shared.witness.tell(Event::Started { node: *number });
    let bus = Arc::new(TcpBus::new(*number, scenario.plant));
    let raft = loop {
        let bus = Arc::clone(&bus);
        let disk = OpenDisk::new(&machine.disk, seed, scenario.disk_ms, scenario.plant);
        match Raft::start_with(options, scenario.lengths, Arc::new(disk), bus, Arc::new(|_| None)).await {
            Ok(raft) => break Arc::new(raft),
            // Its disk is full.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    *machine.process.lock() = Some(Arc::clone(&raft));
    if *number == 0 && start == 0 {
        let _ = raft.found(addresses(0..scenario.voters)).await; // later ones do, if the disk is full
    }
    tokio::spawn(decide(Arc::clone(&machine), Arc::clone(&raft), seed));
    tokio::spawn(confirm(Arc::clone(&machine), Arc::clone(&raft), !seed));
    accept(raft).await?;
    Ok(())
}

fn now_us() -> u64 {
    turmoil::sim_elapsed().expect("inside a node").as_micros() as u64
}

fn founding(nodes: usize) -> Command {
    let members = (0..nodes).map(|number| (node(number), Member::default())).collect();
    Command::Found { cluster: node(0), partitions: 1, copies: 2, shape: Shape::Together, members }
}

/// A command that has its place: the partition's next epoch, unless another is first.
fn promotion(map: &ClusterMap, command: i64, random: &mut StdRng) -> Command {
    let promotion = Promotion {
        partition: PartitionId(0),
        if_epoch: map.epoch(),
        to: node(random.random_range(0..map.nodes.len())),
        position: (Epoch(0), Lsn(0)),
        incarnation: 0,
    };
    Command::Promote { promotions: vec![promotion], reason: Reason::LeaseEnded, at_ms: command }
}

/// Has commands decided, when this node leads.
async fn decide(machine: Arc<Machine>, raft: Arc<Raft>, seed: u64) {
    let Machine { number, scenario, shared, .. } = &*machine;
    let mut random = StdRng::seed_from_u64(seed);
    loop {
        tokio::time::sleep(Duration::from_millis(random.random_range(1..=scenario.client_ms))).await;
        let leading = *raft.leading().borrow();
        if !shared.has_clients.load(Ordering::Relaxed) || !leading.is_me {
            continue;
        }
        let map = raft.map().borrow().clone();
        if map.cluster.is_none() {
            let _ = raft.propose(founding(scenario.nodes)).await; // it is tried again
            continue;
        }
        if scenario.has_changes && random.random_bool(0.02) {
            change_voters(&machine, &raft, &mut random).await;
            continue;
        }
        let (asked_us, command) = (now_us(), shared.witness.command());
        let proposed = raft.propose(promotion(&map, command, &mut random)).await;
        shared.witness.tell(Event::Sees { node: *number, map: Seen(raft.map().borrow().clone()) });
        match proposed {
            Ok(Outcome::Done(_)) => {
                let epoch = map.epoch().0;
                shared.witness.tell(Event::Decided { node: *number, epoch, command, asked_us });
            }
            Ok(Outcome::Refused(why)) => shared.witness.fail("run", &format!("refused: {why}")),
            Err(ControlError::Failed(_) | ControlError::NotLeader(_) | ControlError::Unknown(_)) => {}
        }
    }
}

async fn change_voters(machine: &Machine, raft: &Raft, random: &mut StdRng) {
    let Machine { number, scenario, shared, .. } = machine;
    if !shared.has_changes.load(Ordering::Relaxed) {
        return;
    }
    let count = *[1, 3, 3, 5].choose(random).expect("there are some");
    let mut nodes: Vec<usize> = (0..scenario.nodes).collect();
    nodes.shuffle(random);
    let (voters, others) = nodes.split_at(count.min(scenario.nodes));
    let learners = addresses(others.iter().copied().filter(|_| random.random_bool(0.8)));
    let changed = raft.set_voters(addresses(voters.iter().copied()), learners).await;
    if changed.is_ok() {
        shared.witness.tell(Event::Voters { node: *number, voters: voters.to_vec() });
    }
}

/// Asks again and again whether this node leads, when it thinks so.
async fn confirm(machine: Arc<Machine>, raft: Arc<Raft>, seed: u64) {
    let Machine { number, scenario, shared, .. } = &*machine;
    let mut random = StdRng::seed_from_u64(seed);
    loop {
        tokio::time::sleep(Duration::from_millis(random.random_range(1..=50))).await;
        let leading = *raft.leading().borrow();
        if !leading.is_me {
            continue;
        }
        let asked_us = now_us();
        let confirmed = match scenario.plant {
            Plant::ConfirmsAlone => Ok(leading.term),
            _ => raft.confirm().await,
        };
        if let Ok(term) = confirmed {
            shared.witness.tell(Event::Confirmed { node: *number, term, asked_us });
        }
    }
}
