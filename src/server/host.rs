//! What the cluster needs of the node it runs on: where its data stands goes up, and the parts that the map gives it come down.
//! And what commands need of the cluster: where they go.

use super::parts::{self, GivenUp};
use crate::base::clock;
use crate::base::ids::{Epoch, Lsn, NodeId, PartitionId};
use crate::cluster::bus::{CallError, Kind};
use crate::cluster::lease::Holder;
use crate::cluster::map::{Address, ClusterMap, Place};
use crate::cluster::membership::Profile;
use crate::cluster::node::{Host, Node};
use crate::config::Settings;
use crate::replication::assignment::{Assignment, Part};
use crate::session::forwarding::{Forwarding, Route};
use crate::session::service::Service;
use crate::store::PartitionSet;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The longest that replies which are held may delay a handover once the other node has everything.
const HELD_TIME_MAX: Duration = Duration::from_millis(20);
/// How long a new primary waits for a majority of its members to follow it before it answers. They do within some milliseconds if
/// they are there; until then a write under `majority` would be refused for nothing.
const FOLLOWERS_TIME_MAX: Duration = Duration::from_millis(250);
/// The same where writes are to be on more than one node anyway.
const MAJORITY_TIME_MAX: Duration = Duration::from_millis(1500);

/// See the module.
pub struct ClusterHost {
    this: Weak<ClusterHost>,
    service: Arc<Service>,
    /// Which process of which node this is.
    holder: Holder,
    /// What this node says of itself but for what changes.
    profile: Profile,
    /// Partitions that this node is primary of by the map and does not answer for: they are about to be another node's.
    given_up: Mutex<GivenUp>,
    /// Where this node's journal was when those who count for acknowledgements changed last.
    counted_from: AtomicU64,
    /// Until when commands wait for this node to be followed.
    starts_until: Mutex<Option<Instant>>,
    /// Where commands go, as the map in force says.
    routes: ArcSwap<Routes>,
    /// Counts changes of who is primary, and of whether this node may answer.
    changes: watch::Sender<u64>,
    /// Knows where other nodes are.
    node: OnceLock<Weak<Node>>,
}

/// Where commands go.
#[derive(Default)]
struct Routes {
    /// By partition number.
    of: Vec<Route>,
    /// The one for all, if it is the same.
    all: Option<Route>,
    /// By partition number: whether this node has a copy of it that is being kept up.
    has_copy: Vec<bool>,
}

impl ClusterHost {
    /// Of this process of the node.
    pub fn new(service: &Arc<Service>, me: NodeId, incarnation: u64) -> Arc<ClusterHost> {
        let profile = profile_of(service.settings().as_ref(), me, service.store.partition_count());
        Arc::new_cyclic(|this| ClusterHost {
            this: Weak::clone(this),
            service: Arc::clone(service),
            holder: (me, incarnation),
            profile,
            given_up: Mutex::default(),
            counted_from: AtomicU64::new(0),
            starts_until: Mutex::new(None),
            routes: ArcSwap::default(),
            changes: watch::Sender::new(0),
            node: OnceLock::new(),
        })
    }

    /// Names the node of the cluster that it is the host of.
    pub fn belong_to(&self, node: &Arc<Node>) {
        assert!(self.node.set(Arc::downgrade(node)).is_ok(), "a host belongs to one node");
    }

    /// The node of the cluster, unless it has ended.
    fn node(&self) -> Option<Arc<Node>> {
        self.node.get()?.upgrade()
    }

    /// Tells commands where they go from now on.
    fn show_routes(&self, map: &ClusterMap) {
        let assignment = self.service.replication.assignment();
        let given_up = self.given_up.lock().clone();
        let is_starting = self.starts_until.lock().is_some();
        let route = |(id, place): (PartitionId, &Place)| match place.primary {
            Some(node) if node != self.holder.0 => Route::There(node),
            Some(_) if is_starting => Route::Nobody,
            // Nobody follows it before, so nothing that it took would last.
            Some(_) if self.service.store.point(id).epoch < place.epoch => Route::Nobody,
            Some(_) if parts::is_given_up(&given_up, id, place.epoch) => Route::Nobody,
            Some(_) if assignment.parts[usize::from(id.0)].is_primary() => Route::Here,
            _ => Route::Nobody,
        };
        let of: Vec<Route> = map.places().map(route).collect();
        let all = of.first().copied().filter(|first| of.iter().all(|route| route == first));
        let has_copy = assignment.parts.iter().map(|part| !matches!(part, Part::Elsewhere)).collect();
        self.routes.store(Arc::new(Routes { of, all, has_copy }));
        self.changes.send_modify(|count| *count += 1);
    }

    fn show_own_routes(&self) {
        if let Some(node) = self.node() {
            self.show_routes(&node.map());
        }
    }

    /// Lets commands in once this node is followed, or has waited for long enough.
    async fn await_followers(self: Arc<Self>) {
        let mut changes = self.service.replication.changes();
        loop {
            let until = *self.starts_until.lock();
            let Some(until) = until else { return };
            changes.borrow_and_update();
            if parts::is_followed(&self.service.replication) || Instant::now() >= until {
                break;
            }
            _ = tokio::time::timeout_at(until, changes.changed()).await;
        }
        *self.starts_until.lock() = None;
        self.show_own_routes();
        self.service.replication.wake();
    }

    /// Not longer than this node may answer.
    fn timely(&self, route: Route) -> Route {
        match route {
            Route::Here if !self.service.replication.may_answer() => Route::Nobody,
            route => route,
        }
    }

    fn assignment(&self, map: &ClusterMap) -> Assignment {
        let node = self.node();
        let reach = |other| node.as_ref()?.address_of(other).map(|address| (address.host, address.port));
        let given_up = self.given_up.lock().clone();
        parts::assignment(map, self.holder, &given_up, reach, |node| node.to_string())
    }

    /// Whether the follower has everything up to this position of the journal.
    fn has(&self, follower: NodeId, position: u64, partitions: &[PartitionId]) -> bool {
        parts::has(&self.service.replication, &follower.to_string(), position, partitions)
    }

    async fn await_everything(
        &self,
        to: NodeId,
        partitions: &[PartitionId],
        patience: Duration,
    ) -> Result<(), String> {
        let end = Instant::now() + patience;
        let mut changes = self.service.replication.changes();
        let store = &self.service.store;
        store.write_out().map_err(|error| format!("the journal cannot be written: {error:?}"))?;
        let position = store.written_position();
        while !self.has(to, position, partitions) {
            let changed = tokio::time::timeout_at(end, changes.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                return Err(format!("node {to} has not everything yet"));
            }
        }
        // Replies that wait for nothing more are on their way; in the next term they would be uncertain.
        let end = Instant::now() + HELD_TIME_MAX;
        while self.service.confirming.load(Ordering::Acquire) > 0 && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

/// What a node says of itself.
fn profile_of(settings: &Settings, me: NodeId, partitions: u16) -> Profile {
    let cluster = &settings.cluster;
    let or = |value: u16, other: u16| if value == 0 { other } else { value };
    let address = Address {
        host: cluster.announce_ip.clone(),
        port: or(cluster.announce_port, settings.port),
        bus_port: or(cluster.announce_bus_port, cluster.listening_port(settings.port)),
    };
    Profile {
        node: me,
        address,
        zone: cluster.zone.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        is_witness: cluster.is_witness,
        can_serve: true,
        cluster: None,
        expects: cluster.expects(),
        partitions,
        ..Profile::default()
    }
}

#[async_trait]
impl Host for ClusterHost {
    fn profile(&self) -> Profile {
        Profile { can_serve: self.service.store.refusal().is_none(), ..self.profile.clone() }
    }

    fn positions(&self) -> Vec<(Epoch, Lsn)> {
        let ids = (0..self.service.store.partition_count()).map(PartitionId);
        ids.map(|id| self.service.store.point(id)).map(|point| (point.epoch, point.lsn)).collect()
    }

    fn in_step(&self) -> Vec<(NodeId, Vec<PartitionId>)> {
        let counted_from = self.counted_from.load(Ordering::Acquire);
        parts::in_step(&self.service.replication, counted_from, |name| name.parse().ok())
    }

    async fn put_in_force(&self, map: &ClusterMap) {
        if map.partitions.len() != usize::from(self.service.store.partition_count()) {
            return; // it was not let in, or has no data to play a part with
        }
        let assignment = self.assignment(map);
        let before = self.service.replication.assignment();
        let counts_others = parts::counts_others(&before, &assignment);
        let becomes_primary = parts::becomes_primary(&before, &assignment);
        if becomes_primary {
            let has_concern = self.service.settings().has_concern();
            let patience = if has_concern { MAJORITY_TIME_MAX } else { FOLLOWERS_TIME_MAX };
            *self.starts_until.lock() = Some(Instant::now() + patience);
        }
        let service = Arc::clone(&self.service);
        // It waits for locks and for the disk.
        let done = tokio::task::spawn_blocking(move || {
            service.assign(assignment);
            service.store.write_out().map(|()| service.store.written_position())
        });
        match done.await {
            Ok(Ok(position)) if counts_others => self.counted_from.store(position, Ordering::Release),
            Ok(Ok(_)) => {}
            // Nobody is in step until it can be written.
            Ok(Err(_)) => self.counted_from.store(u64::MAX, Ordering::Release),
            Err(error) => tracing::error!("the parts of this node could not be changed: {error}"),
        }
        // Not before: until its part is another one, what was given up would be answered for once more.
        parts::forget_given_up(&mut self.given_up.lock(), map);
        self.show_routes(map);
        self.service.replication.wake();
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
        self.show_own_routes();
        // Whatever runs has ended when this returns; whatever comes waits, or is told that this is not the primary.
        partitions.iter().for_each(|id| self.service.store.set_primary(*id, false));
        match self.await_everything(to, partitions, patience).await {
            Ok(()) => {
                let point = |id: &PartitionId| self.service.store.point(*id);
                Ok(partitions.iter().map(point).map(|point| (point.epoch, point.lsn)).collect())
            }
            Err(reason) => {
                self.take_back(partitions);
                Err(reason)
            }
        }
    }

    fn take_back(&self, partitions: &[PartitionId]) {
        self.given_up.lock().retain(|id, _| !partitions.contains(id));
        if let Some(node) = self.node() {
            let assignment = self.assignment(&node.map());
            // It waits for locks and maybe for the disk.
            tokio::task::block_in_place(|| self.service.assign(assignment));
        }
        self.show_own_routes();
        self.service.replication.wake();
    }

    fn may_answer_again(&self) {
        self.changes.send_modify(|count| *count += 1);
        self.service.replication.wake();
    }

    fn unix_ms(&self) -> i64 {
        clock::unix_ms()
    }
}

#[async_trait]
impl Forwarding for ClusterHost {
    fn me(&self) -> NodeId {
        self.holder.0
    }

    fn partition_count(&self) -> u16 {
        self.service.store.partition_count()
    }

    fn primary(&self, partition: PartitionId) -> Route {
        let route = self.routes.load().of.get(usize::from(partition.0)).copied();
        self.timely(route.unwrap_or(Route::Nobody))
    }

    fn common(&self) -> Option<Route> {
        self.routes.load().all.map(|route| self.timely(route))
    }

    fn has_copy(&self, partitions: &PartitionSet) -> bool {
        let routes = self.routes.load();
        partitions.is_every(self.partition_count(), |id| {
            routes.has_copy.get(usize::from(id.0)).copied().unwrap_or(false)
        })
    }

    fn address(&self, node: NodeId) -> Option<(String, u16)> {
        let view = self.node()?.view();
        let address = &view.live.get(&node)?.address;
        (!address.host.is_empty() && address.port != 0).then(|| (address.host.clone(), address.port))
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    async fn forward(&self, to: NodeId, request: Vec<u8>, patience: Duration) -> Result<Vec<u8>, CallError> {
        let node = self.node().ok_or_else(|| CallError::NotSent("this node stops".into()))?;
        let address = node.address_of(to);
        let address =
            address.ok_or_else(|| CallError::NotSent(format!("no address of node {to} is known")))?;
        node.bus().call(to, &address, Kind::Forward, request, patience).await
    }
}
