//! What a node of the cluster runs on: as the server's own host does it, over simulated data. Which parts it plays is the server's own code.

use crate::cluster::network::{name, number};
use crate::cluster::node::Machine;
use crate::data::Data;
use crate::history::place;
use crate::network::PORT;
use crate::node::host;
use crate::witness::Event;
use async_trait::async_trait;
use larder::base::ids::{Epoch, Lsn, NodeId, PartitionId};
use larder::cluster::map::{Address, ClusterMap};
use larder::cluster::membership::Profile;
use larder::cluster::node::Host;
use larder::replication::Replication;
use larder::replication::assignment::{Assignment, Part};
use larder::replication::storage::Storage;
use larder::server::parts;
use parking_lot::Mutex;
use rand::prelude::*;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// How long a new primary waits for a majority of its members to follow it.
const FOLLOWERS_TIME_MAX: Duration = Duration::from_millis(250);
/// How often it is looked whether something has come.
const LOOK_GAP: Duration = Duration::from_millis(1);

/// See the module.
pub struct SimHost {
    this: Weak<SimHost>,
    machine: Arc<Machine>,
    incarnation: u64,
    data: Arc<Data>,
    replication: Arc<Replication>,
    given_up: Mutex<parts::GivenUp>,
    starts_until: Mutex<Option<Instant>>,
    /// The map in force.
    map: Mutex<ClusterMap>,
    /// Followers that have not come so far may lack what others had acknowledged who counted before.
    counted_from: Mutex<u64>,
    random: Mutex<StdRng>,
}

impl SimHost {
    /// Of this process of the node.
    pub fn new(
        machine: &Arc<Machine>,
        incarnation: u64,
        data: &Arc<Data>,
        replication: &Arc<Replication>,
        seed: u64,
    ) -> Arc<SimHost> {
        Arc::new_cyclic(|this| SimHost {
            this: Weak::clone(this),
            machine: Arc::clone(machine),
            incarnation,
            data: Arc::clone(data),
            replication: Arc::clone(replication),
            given_up: Mutex::default(),
            starts_until: Mutex::new(None),
            map: Mutex::default(),
            counted_from: Mutex::default(),
            random: Mutex::new(StdRng::seed_from_u64(seed)),
        })
    }

    fn me(&self) -> NodeId {
        name(self.machine.number)
    }

    fn ids(&self) -> impl Iterator<Item = PartitionId> + use<> {
        (0..self.data.partition_count()).map(PartitionId)
    }

    /// Whether commands for a partition are taken here, but for the lease. The epoch, if so.
    pub fn is_here(&self, id: PartitionId) -> Option<Epoch> {
        let map = self.map.lock();
        let place = map.place(id)?;
        let is_here = place.primary == Some(self.me())
            && self.starts_until.lock().is_none()
            && self.replication.assignment().parts[usize::from(id.0)].is_primary()
            && !parts::is_given_up(&self.given_up.lock(), id, place.epoch);
        is_here.then_some(place.epoch)
    }

    /// The map in force.
    pub fn map(&self) -> ClusterMap {
        self.map.lock().clone()
    }

    fn holder(&self) -> (NodeId, u64) {
        (self.me(), self.incarnation)
    }

    fn assignment(&self, map: &ClusterMap) -> Assignment {
        let named = |node| host(number(node));
        let reach = |node| Some((named(node), PORT));
        let given_up = self.given_up.lock().clone();
        parts::assignment(map, self.holder(), &given_up, reach, named)
    }

    fn begin_epochs(&self, was: &Assignment, assignment: &Assignment) {
        let (node, witness) = (self.machine.number, &self.machine.shared.witness);
        let concern = self.machine.scenario.concern;
        for (id, (was, part)) in (0..).map(PartitionId).zip(was.parts.iter().zip(&assignment.parts)) {
            let Part::Primary { epoch: Some(epoch) } = part else { continue };
            let before = self.data.point(id);
            if *epoch <= before.epoch {
                continue;
            }
            let inherited = was.concern_of_inherited(Some(*epoch), before.epoch, assignment.copies, concern);
            let position = self.data.store.begin_epoch(id, *epoch, inherited, witness.wall_clock_ms());
            let position = position.expect("there is room");
            let point = self.data.point(id);
            assert_ne!(place(point), place(before));
            witness.tell(Event::Committed { node, partition: id, point, previous: before.chain });
            self.data.write_up_to(position).expect("a position that was given");
            witness.tell(Event::Promoted { node, partition: id, point });
        }
    }

    async fn await_followers(self: Arc<Self>) {
        loop {
            let until = *self.starts_until.lock();
            let Some(until) = until else { return };
            if parts::is_followed(&self.replication) || Instant::now() >= until {
                break;
            }
            tokio::time::sleep(LOOK_GAP).await;
        }
        *self.starts_until.lock() = None;
    }

    fn has(&self, follower: NodeId, position: u64, partitions: &[PartitionId]) -> bool {
        parts::has(&self.replication, &host(number(follower)), position, partitions)
    }

    async fn work(&self) {
        let ms = self.random.lock().random_range(0..=self.machine.scenario.force_ms);
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    fn tell_in_force(&self, map: &ClusterMap) {
        // But for the name, which is drawn anew in each run.
        let bytes = postcard::to_allocvec(&ClusterMap { cluster: None, ..map.clone() }).expect("it is plain");
        self.machine.shared.witness.tell(Event::InForce {
            node: self.machine.number,
            version: map.version,
            digest: xxhash_rust::xxh3::xxh3_64(&bytes),
            epochs: map.partitions.iter().map(|place| place.epoch.0).collect(),
        });
    }
}

#[async_trait]
impl Host for SimHost {
    fn profile(&self) -> Profile {
        let address = Address { host: host(self.machine.number), port: PORT, bus_port: 1 };
        Profile {
            node: self.me(),
            address,
            can_serve: true,
            expects: self.machine.scenario.nodes as u16,
            partitions: self.data.partition_count(),
            ..Profile::default()
        }
    }

    fn positions(&self) -> Vec<(Epoch, Lsn)> {
        self.ids().map(|id| self.data.point(id)).map(|point| (point.epoch, point.lsn)).collect()
    }

    fn in_step(&self) -> Vec<(NodeId, Vec<PartitionId>)> {
        let named = |name: &str| (0..self.machine.scenario.nodes).find(|node| host(*node) == name);
        let node = |text: &str| Some(name(named(text).expect("nodes have such names")));
        parts::in_step(&self.replication, *self.counted_from.lock(), node)
    }

    async fn put_in_force(&self, map: &ClusterMap) {
        let assignment = self.assignment(map);
        let before = self.replication.assignment();
        let counts_others = parts::counts_others(&before, &assignment);
        let becomes_primary = parts::becomes_primary(&before, &assignment);
        if becomes_primary {
            *self.starts_until.lock() = Some(Instant::now() + FOLLOWERS_TIME_MAX);
        }
        // It waits for locks and for the disk.
        self.work().await;
        self.replication.assign(assignment.clone());
        self.begin_epochs(&before, &assignment);
        if counts_others {
            self.data.write_out().expect("it can be written");
            *self.counted_from.lock() = *self.data.written().borrow();
        }
        parts::forget_given_up(&mut self.given_up.lock(), map);
        *self.map.lock() = map.clone();
        self.tell_in_force(map);
        if becomes_primary && let Some(host) = self.this.upgrade() {
            tokio::spawn(host.await_followers());
        }
    }

    async fn give_up(
        &self,
        given_up: &[(PartitionId, Epoch)],
        to: NodeId,
        patience: Duration,
    ) -> Result<Vec<(Epoch, Lsn)>, String> {
        let partitions = &given_up.iter().map(|(id, _)| *id).collect::<Vec<_>>()[..];
        if !self.has(to, 0, partitions) {
            return Err(format!("node {to} is not in step"));
        }
        self.given_up.lock().extend(given_up.iter().copied());
        let end = Instant::now() + patience;
        self.data.write_out()?;
        let position = *self.data.written().borrow();
        while !self.has(to, position, partitions) {
            if Instant::now() >= end {
                self.take_back(partitions);
                return Err(format!("node {to} has not everything yet"));
            }
            tokio::time::sleep(LOOK_GAP).await;
        }
        let point = |id: &PartitionId| self.data.point(*id);
        Ok(partitions.iter().map(point).map(|point| (point.epoch, point.lsn)).collect())
    }

    fn take_back(&self, partitions: &[PartitionId]) {
        self.given_up.lock().retain(|id, _| !partitions.contains(id));
        let (before, assignment) = (self.replication.assignment(), self.assignment(&self.map()));
        self.replication.assign(assignment.clone());
        self.begin_epochs(&before, &assignment);
    }

    fn may_answer_again(&self) {
        self.replication.wake();
    }

    fn unix_ms(&self) -> i64 {
        self.machine.shared.witness.wall_clock_ms()
    }
}
