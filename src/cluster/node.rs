//! A node of the cluster: what it does for itself, whoever leads. It asks for its lease, puts the map in force, tells others of
//! itself, answers their requests, and hands over what it is primary of. If it leads, it is a [`controller`](super::controller)
//! besides.
//!
//! Invariants:
//! - a lease counts only once the map it was given with is in force here: what the map takes away is given up before;
//! - maps are put in force one after the other, each newer than the one before;
//! - what is handed over is given up first, and taken back only if it certainly stays here.

use super::bus::{Bus, CallError, Kind, Serve};
use super::calm::Calm;
use super::consensus::ControlPlane;
use super::lease::{Grants, Holder, Lease};
use super::map::{Address, ClusterMap, Command, Failover, Promotion, Reason, Shape};
use super::membership::{Membership, Profile, View};
use super::messages::{Ask, Reply, decode, encode};
use super::promotion::Answer;
use crate::base::ids::{Epoch, Lsn, NodeId, PartitionId};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// How long gossip takes at most to know that a node is gone, whose connections broke.
const GOSSIP_TIME: Duration = Duration::from_millis(1500);
/// How long to wait before an epoch that could not begin is tried again.
const BEGIN_AGAIN: Duration = Duration::from_millis(100);
/// How long a request of the control plane may take.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);
/// How long a handover that an operator has ordered may take.
const TAKEOVER_TIME_MAX: Duration = Duration::from_secs(5);
/// Until what was refused before a stop is tried again.
const HANDOVER_RETRY_GAP: Duration = Duration::from_millis(50);

/// Times and wishes of a node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a lease lasts.
    pub lease: Duration,
    /// How often it is asked for.
    pub renew_gap: Duration,
    /// A primary that has not asked for so long is replaced.
    pub suspect_after: Duration,
    /// The same for one that gossip or a broken connection say is gone.
    pub hint_after: Duration,
    /// A node that was not there for so long loses its copies to others, if there are others.
    pub lost_after: Duration,
    /// How often the leader looks.
    pub tick: Duration,
    /// Copies of each partition, the primary's included, if this node founds the cluster.
    pub copies: u16,
    /// How primaries are spread, if this node founds the cluster.
    pub shape: Shape,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            lease: Duration::from_millis(600),
            renew_gap: Duration::from_millis(100),
            suspect_after: Duration::from_secs(1),
            hint_after: Duration::from_millis(200),
            lost_after: Duration::from_mins(1),
            tick: Duration::from_millis(20),
            copies: 2,
            shape: Shape::Together,
        }
    }
}

/// What the cluster needs of the node it runs on. Values only: nothing here knows of data or clients.
#[async_trait]
pub trait Host: Send + Sync + 'static {
    /// What others are to know of it; its cluster is filled in.
    fn profile(&self) -> Profile;

    /// Where each partition stands.
    fn positions(&self) -> Vec<(Epoch, Lsn)>;

    /// Who follows it, and has all of which partitions.
    fn in_step(&self) -> Vec<(NodeId, Vec<PartitionId>)>;

    /// Puts the map in force. When it returns, this node does not answer any more for what it is not primary of, and has begun the
    /// epochs of what it has become primary of.
    async fn put_in_force(&self, map: &ClusterMap);

    /// Stops to take commands for these partitions, of which this is the primary in these epochs, and waits until that node has everything.
    /// If it fails, or takes longer than `patience`, they are taken again. Returns where they stand.
    async fn give_up(
        &self,
        partitions: &[(PartitionId, Epoch)],
        to: NodeId,
        patience: Duration,
    ) -> Result<Vec<(Epoch, Lsn)>, String>;

    /// Takes commands again for what was given up: it stays here.
    fn take_back(&self, partitions: &[PartitionId]);

    /// This node may answer again after a time in which it could not be sure.
    fn may_answer_again(&self);

    /// Wall clock, milliseconds since 1970.
    fn unix_ms(&self) -> i64;
}

/// What a node of the cluster is made of.
pub struct Parts {
    /// Who it is.
    pub me: NodeId,
    /// A random number that names this process of it.
    pub incarnation: u64,
    /// Times and wishes.
    pub settings: Settings,
    /// Who decides.
    pub control: Arc<dyn ControlPlane>,
    /// The way to other nodes.
    pub bus: Arc<dyn Bus>,
    /// Who is there.
    pub membership: Arc<dyn Membership>,
    /// What it runs on.
    pub host: Arc<dyn Host>,
    /// Its right to answer.
    pub lease: Arc<Lease>,
    /// A clock that only grows and counts suspend.
    pub clock: Arc<dyn Fn() -> Duration + Send + Sync>,
}

/// See the module.
pub struct Node {
    pub(super) parts: Parts,
    /// The newest map that is known here, and decided.
    pub(super) map: watch::Sender<Arc<ClusterMap>>,
    /// The version that is in force here.
    in_force: watch::Sender<u64>,
    /// Whether a leader has said to this process which map there is. What it has by itself may be outdated: by that it would follow
    /// who is primary no more (simulation of the cluster, seed 230).
    is_confirmed: watch::Sender<bool>,
    /// Leases that this node gives while it leads, and its term.
    pub(super) grants: Mutex<Option<(u64, Grants)>>,
    /// Nodes that a broken connection says are gone, and when it did.
    pub(super) hints: Mutex<BTreeMap<NodeId, Duration>>,
    /// Wakes the controller.
    pub(super) news: Notify,
    /// Versions of the map that nodes have in force, as they said last.
    pub(super) versions: Mutex<BTreeMap<NodeId, u64>>,
    /// What was given up, in which epoch, when nobody knows whether it was handed over. As long as there is some, no lease counts: the
    /// leader has been told that this process answers no more, and may not wait for it.
    given_up: Mutex<BTreeMap<PartitionId, Epoch>>,
    /// To whom this node has promised not to found a cluster, and until when.
    promised: Mutex<Option<(NodeId, Duration)>>,
    handing_over: tokio::sync::Mutex<()>,
    /// A move that the controller has asked for is under way.
    pub(super) is_moving: AtomicBool,
    /// Whether anything went wrong lately.
    pub(super) calm: Mutex<Calm>,
    /// Who could take changes when the controller of this node looked last.
    pub(super) fit: Mutex<BTreeSet<NodeId>>,
    /// When each node was there last, as the controller of this node saw it.
    pub(super) seen: Mutex<BTreeMap<NodeId, Duration>>,
}

impl Node {
    /// Not running yet.
    pub fn new(parts: Parts) -> Arc<Node> {
        let map = parts.control.map().borrow().clone();
        Arc::new(Node {
            parts,
            map: watch::Sender::new(map),
            in_force: watch::Sender::new(0),
            is_confirmed: watch::Sender::new(false),
            grants: Mutex::new(None),
            hints: Mutex::default(),
            news: Notify::new(),
            versions: Mutex::default(),
            given_up: Mutex::default(),
            promised: Mutex::new(None),
            handing_over: tokio::sync::Mutex::new(()),
            is_moving: AtomicBool::new(false),
            calm: Mutex::default(),
            fit: Mutex::default(),
            seen: Mutex::default(),
        })
    }

    /// Who this node is.
    pub fn me(&self) -> NodeId {
        self.parts.me
    }

    /// Its right to answer.
    pub fn lease(&self) -> &Lease {
        &self.parts.lease
    }

    /// The newest map that is known here.
    pub fn map(&self) -> Arc<ClusterMap> {
        self.map.borrow().clone()
    }

    /// Tells when it changes.
    pub fn maps(&self) -> watch::Receiver<Arc<ClusterMap>> {
        self.map.subscribe()
    }

    /// Who is there, as this node sees it.
    pub fn view(&self) -> Arc<View> {
        self.parts.membership.view().borrow().clone()
    }

    /// Tells when that changes.
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.parts.membership.view()
    }

    /// Who decides.
    pub fn control(&self) -> &Arc<dyn ControlPlane> {
        &self.parts.control
    }

    /// The way to other nodes.
    pub fn bus(&self) -> &Arc<dyn Bus> {
        &self.parts.bus
    }

    /// Which process of which node this is.
    fn holder(&self) -> Holder {
        (self.parts.me, self.parts.incarnation)
    }

    /// Whether this process is primary of the partition, as the newest map says.
    pub fn is_primary_of(&self, id: PartitionId) -> bool {
        self.map.borrow().place(id).is_some_and(|place| place.is_of(self.holder()))
    }

    /// Where a node is reached: as gossip says, or else as the map does.
    pub fn address_of(&self, node: NodeId) -> Option<Address> {
        let view = self.parts.membership.view();
        let view = view.borrow();
        let heard = view.live.get(&node).or_else(|| view.dead.get(&node)).map(|profile| &profile.address);
        let known = heard.filter(|address| address.port != 0).cloned();
        known.or_else(|| {
            let map = self.map.borrow();
            map.nodes.get(&node).map(|member| member.address.clone()).filter(|address| address.port != 0)
        })
    }

    /// Looks for nodes at `HOST:BUSPORT` too. False if that is not possible.
    pub fn meet(&self, seed: String) -> bool {
        self.parts.membership.meet(seed)
    }

    /// An operator's order: that a node gives away what it has, and is forgotten once it is gone.
    pub async fn have_forgotten(self: &Arc<Self>, node: NodeId) -> Result<(), String> {
        done(self.ask_leader(&Ask::Forget(node)).await)
    }

    /// An operator's order: that a node which was to be forgotten stays.
    pub async fn have_kept(self: &Arc<Self>, node: NodeId) -> Result<(), String> {
        done(self.ask_leader(&Ask::Keep(node)).await)
    }

    /// An operator's order: how many copies there are to be of everything, the primary's included.
    pub async fn set_copies(self: &Arc<Self>, copies: u16) -> Result<(), String> {
        done(self.ask_leader(&Ask::SetCopies(copies)).await)
    }

    /// An operator's order: that this node gives all it is primary of to that one, if any, or else to whoever has everything.
    pub async fn give_all(self: &Arc<Self>, to: Option<NodeId>) -> Result<(), String> {
        let Some(to) = to else {
            self.try_hand_over_all().await;
            let is_left = self.map().primary_of(self.parts.me).any(|id| self.is_primary_of(id));
            return if is_left { Err("nobody has everything".into()) } else { Ok(()) };
        };
        let own: Vec<PartitionId> = self.map().primary_of(self.parts.me).collect();
        self.hand_over(&own, to).await
    }

    /// An operator's order: that this node becomes primary of all that it follows and has.
    pub async fn take_over(self: &Arc<Self>) -> Result<(), String> {
        let map = self.map();
        let mut by_primary: BTreeMap<NodeId, Vec<PartitionId>> = BTreeMap::new();
        for (id, place) in map.places() {
            if let Some(primary) = place.primary.filter(|_| place.replicas.contains(&self.parts.me)) {
                by_primary.entry(primary).or_default().push(id);
            }
        }
        for (primary, partitions) in by_primary {
            let ask = Ask::HandOver { partitions, to: self.parts.me };
            done(self.ask(primary, &ask, TAKEOVER_TIME_MAX).await)?;
        }
        Ok(())
    }

    /// A connection to this node has broken, or was refused.
    pub fn note_broken(&self, node: NodeId) {
        let now = (self.parts.clock)();
        self.hints.lock().insert(node, now);
        self.news.notify_one();
    }

    /// Whether a connection to this node has broken, or was refused, so shortly ago that gossip may not know yet what it means.
    pub fn is_suspect(&self, node: NodeId) -> bool {
        let now = (self.parts.clock)();
        self.hints.lock().get(&node).is_some_and(|at| now.saturating_sub(*at) < GOSSIP_TIME)
    }

    /// Lives, for ever.
    pub async fn run(self: Arc<Node>) {
        tokio::join!(self.learn(), self.put_in_force(), self.renew(), self.tell(), self.lead(), self.found());
    }

    /// A map that was decided.
    pub(super) fn learn_map(&self, map: &ClusterMap) {
        self.map.send_if_modified(|known| {
            let is_ours = known.cluster.is_none() || known.cluster == map.cluster;
            let is_newer = map.version > known.version && is_ours;
            if is_newer {
                if known.cluster.is_some() && last_trouble(known) != last_trouble(map) {
                    self.calm.lock().disturb((self.parts.clock)());
                }
                *known = Arc::new(map.clone());
            }
            is_newer
        });
    }

    async fn learn(&self) {
        let mut decided = self.parts.control.map();
        loop {
            let map = decided.borrow_and_update().clone();
            self.learn_map(&map);
            if decided.changed().await.is_err() {
                return;
            }
        }
    }

    async fn put_in_force(&self) {
        if self.is_confirmed.subscribe().wait_for(|is_confirmed| *is_confirmed).await.is_err() {
            return;
        }
        let mut maps = self.map.subscribe();
        loop {
            let map = maps.borrow_and_update().clone();
            if map.cluster.is_some() {
                self.parts.host.put_in_force(&map).await;
                self.in_force.send_replace(map.version);
                self.forget_given_up(&map);
            }
            // A disk without room may not have taken the epoch that this node is to begin: it is tried until it does, or others are
            // chosen.
            let again = async {
                match self.has_begun(&map) {
                    true => std::future::pending().await,
                    false => tokio::time::sleep(BEGIN_AGAIN).await,
                }
            };
            tokio::select! {
                biased;
                changed = maps.changed() => if changed.is_err() { return },
                () = again => {}
            }
        }
    }

    /// Whether the epochs of everything that this process is primary of have begun.
    fn has_begun(&self, map: &ClusterMap) -> bool {
        let positions = self.parts.host.positions();
        map.places().all(|(id, place)| {
            !place.is_of(self.holder())
                || positions.get(usize::from(id.0)).is_some_and(|(epoch, _)| *epoch >= place.epoch)
        })
    }

    /// Whether something was given up is known once another promotion was decided. It may be of this very process.
    fn forget_given_up(&self, map: &ClusterMap) {
        let is_open = |id: PartitionId, epoch: Epoch| {
            map.place(id).is_some_and(|place| (place.primary, place.epoch) == (Some(self.parts.me), epoch))
        };
        let decided: Vec<PartitionId> = {
            let given_up = self.given_up.lock();
            given_up.iter().filter(|(id, epoch)| !is_open(**id, **epoch)).map(|(id, _)| *id).collect()
        };
        if !decided.is_empty() {
            self.parts.host.take_back(&decided);
            self.given_up.lock().retain(|id, _| !decided.contains(id));
        }
    }

    /// What others are to know of this node.
    async fn tell(&self) {
        let mut last = None;
        loop {
            let profile = Profile { cluster: self.map.borrow().cluster, ..self.parts.host.profile() };
            if last.as_ref() != Some(&profile) {
                self.parts.membership.tell(profile.clone());
                last = Some(profile);
            }
            tokio::time::sleep(self.parts.settings.renew_gap).await;
        }
    }

    /// Asks for the lease, again and again.
    async fn renew(self: &Arc<Self>) {
        let mut gap = tokio::time::interval(self.parts.settings.renew_gap);
        gap.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            gap.tick().await;
            // A question that hangs must not hold up the next one: the leader may be another by then.
            _ = tokio::time::timeout(self.parts.settings.renew_gap * 2, self.renew_once()).await;
        }
    }

    async fn renew_once(self: &Arc<Self>) {
        if self.map.borrow().cluster.is_none() {
            return;
        }
        let asked_at = (self.parts.clock)();
        // The version first: what it says of what was given up is then not older.
        let version = *self.in_force.borrow();
        let gave_up = !self.given_up.lock().is_empty();
        let ask = Ask::Renew { incarnation: self.parts.incarnation, version, gave_up };
        let Ok(Reply::Granted { version, map }) = self.ask_leader(&ask).await else { return };
        map.iter().for_each(|map| self.learn_map(map));
        self.is_confirmed.send_replace(true);
        let mut in_force = self.in_force.subscribe();
        if in_force.wait_for(|now| *now >= version).await.is_ok() && !gave_up {
            let lease = &self.parts.lease;
            let had_ended = !lease.holds((self.parts.clock)());
            lease.extend(self.counts_from(asked_at), self.parts.settings.lease);
            if !self.given_up.lock().is_empty() {
                lease.bound(); // it was given up meanwhile
            }
            if had_ended && lease.holds((self.parts.clock)()) {
                self.parts.host.may_answer_again();
            }
        }
    }

    /// When a lease begins that was asked for then.
    fn counts_from(&self, asked_at: Duration) -> Duration {
        fail::fail_point!("lease-counts-from-the-answer", |_| (self.parts.clock)());
        asked_at
    }

    /// Asks whoever leads.
    pub(super) async fn ask_leader(self: &Arc<Self>, ask: &Ask) -> Result<Reply, CallError> {
        let leader = self.parts.control.leading().borrow().leader;
        let leader = leader.ok_or_else(|| CallError::NotSent("no leader is known".into()))?;
        self.ask(leader, ask, PATIENCE).await
    }

    /// Asks a node, which may be this one.
    pub(super) async fn ask(
        self: &Arc<Self>,
        node: NodeId,
        ask: &Ask,
        patience: Duration,
    ) -> Result<Reply, CallError> {
        if node == self.parts.me {
            return Ok(self.answer(self.parts.me, ask.clone()).await);
        }
        let unknown = || CallError::NotSent(format!("no address of node {node} is known"));
        let address = self.address_of(node).ok_or_else(unknown)?;
        let answer = self.parts.bus.call(node, &address, Kind::Control, encode(ask), patience).await?;
        decode(&answer).ok_or_else(|| CallError::Unknown("an answer that makes no sense".into()))
    }

    /// In a box, as a node may ask itself.
    fn answer(self: &Arc<Self>, from: NodeId, ask: Ask) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        Box::pin(Arc::clone(self).answer_it(from, ask))
    }

    async fn answer_it(self: Arc<Self>, from: NodeId, ask: Ask) -> Reply {
        match ask {
            Ask::Renew { incarnation, version, gave_up } => {
                self.grant(from, incarnation, version, gave_up).await
            }
            Ask::Positions => Reply::Positions(self.own_answer()),
            Ask::Map(map) => {
                self.learn_map(&map);
                Reply::Done
            }
            Ask::HandOver { partitions, to } => {
                // A task of its own: who asked may be gone before it has ended, and what was given up must be taken back if it stays
                // (simulation of the cluster, seed 100605).
                let this = Arc::clone(&self);
                let done = tokio::spawn(async move { this.hand_over(&partitions, to).await });
                match done.await {
                    Ok(Ok(())) => Reply::Done,
                    Ok(Err(reason)) => Reply::Refused(reason),
                    Err(_) => Reply::Refused("this node stops".into()),
                }
            }
            Ask::Promote(promotions) => self.decide_handover(from, promotions).await,
            Ask::Promise => self.promise(from),
            Ask::Forget(node) => self.forget(node).await,
            Ask::Keep(node) => self.answer_of(Command::SetLeaving(node, false)).await,
            Ask::SetCopies(copies) => self.answer_of(Command::SetCopies(copies)).await,
        }
    }

    pub(super) fn own_answer(&self) -> Answer {
        let host = &self.parts.host;
        Answer {
            incarnation: self.parts.incarnation,
            can_serve: host.profile().can_serve,
            positions: host.positions(),
            in_step: host.in_step(),
        }
    }

    /// Gives these partitions to that node, in a moment in which it has everything. This node must be their primary.
    pub async fn hand_over(self: &Arc<Self>, partitions: &[PartitionId], to: NodeId) -> Result<(), String> {
        let _one_at_a_time = self.handing_over.lock().await;
        let map = self.map();
        if to == self.parts.me || partitions.iter().any(|id| !self.is_primary_of(*id)) {
            return Err("this node is not the primary of all that, or is to keep it".into());
        }
        let is_member = |id: &PartitionId| map.place(*id).is_some_and(|place| place.replicas.contains(&to));
        if !partitions.iter().all(is_member) {
            return Err(format!("node {to} is no replica of all that"));
        }
        // First: which process of it is there, so that nothing is asked while commands wait.
        let incarnation = match self.ask(to, &Ask::Positions, PATIENCE).await {
            Ok(Reply::Positions(answer)) if answer.can_serve => answer.incarnation,
            Ok(_) => return Err(format!("node {to} can take no changes")),
            Err(error) => return Err(format!("node {to}: {error}")),
        };
        let epochs = partitions.iter().filter_map(|id| Some((*id, map.place(*id)?.epoch)));
        let epochs: Vec<(PartitionId, Epoch)> = epochs.collect();
        let positions = self.parts.host.give_up(&epochs, to, self.parts.settings.lease).await?;
        let promotion = |((partition, if_epoch), position): (&(PartitionId, Epoch), (Epoch, Lsn))| {
            Promotion { partition: *partition, if_epoch: *if_epoch, to, incarnation, position }
        };
        let promotions = epochs.iter().zip(positions).map(promotion).collect();
        let reason = match self.ask_leader(&Ask::Promote(promotions)).await {
            Ok(Reply::Done) => {
                self.await_successor(partitions).await;
                self.settle_given_up(partitions, &map);
                return Ok(());
            }
            Ok(Reply::Refused(reason)) => reason,
            Ok(Reply::NotLeader(_)) => "the leader has changed".into(),
            Err(CallError::NotSent(reason)) => reason,
            Ok(_) | Err(CallError::Unknown(_)) => {
                // It may be decided, or may be yet. Others choose; this node among them.
                self.given_up.lock().extend(epochs);
                self.parts.lease.bound();
                let map = self.map();
                if *self.in_force.borrow() == map.version {
                    self.forget_given_up(&map); // or else when the newest one is in force
                }
                return Err("whether it was decided is not known".into());
            }
        };
        self.parts.host.take_back(partitions);
        Err(reason)
    }

    /// Something else may have been decided a moment before, and then the handover changed nothing: this very process may be primary
    /// again, in a later epoch (simulation of the cluster, seed 100605).
    fn settle_given_up(&self, partitions: &[PartitionId], before: &ClusterMap) {
        let epoch = |map: &ClusterMap, id: PartitionId| map.place(id).map(|place| place.epoch);
        let now = self.map();
        let stays = partitions.iter().copied().filter(|id| self.is_primary_of(*id));
        let (again, open): (Vec<_>, Vec<_>) = stays.partition(|id| epoch(&now, *id) != epoch(before, *id));
        if !again.is_empty() {
            self.parts.host.take_back(&again);
        }
        let epochs = open.into_iter().filter_map(|id| Some((id, epoch(before, id)?)));
        self.given_up.lock().extend(epochs); // the next map tells
    }

    /// What was decided is told to this node, too.
    async fn await_successor(&self, partitions: &[PartitionId]) {
        let is_another = |map: &Arc<ClusterMap>| {
            partitions
                .iter()
                .all(|id| map.place(*id).is_none_or(|place| place.primary != Some(self.parts.me)))
        };
        let mut maps = self.map.subscribe();
        _ = tokio::time::timeout(PATIENCE, maps.wait_for(is_another)).await;
    }

    /// Gives everything away that this node is primary of, for a stop. Returns whether nothing is left. What is refused is tried again as
    /// long as somebody is there who could take it: a leader may just be chosen, a replica may just have come back. The caller says for how
    /// long.
    pub async fn hand_over_all(self: &Arc<Self>) -> bool {
        loop {
            self.try_hand_over_all().await;
            let (map, view) = (self.map(), self.view());
            let left: Vec<PartitionId> =
                map.primary_of(self.parts.me).filter(|id| self.is_primary_of(*id)).collect();
            if left.is_empty() {
                return true;
            }
            let has_live_replica = |id: &PartitionId| {
                map.place(*id)
                    .is_some_and(|place| place.replicas.iter().any(|node| view.live.contains_key(node)))
            };
            if !self.given_up.lock().is_empty() || !left.iter().any(has_live_replica) {
                return false;
            }
            tokio::time::sleep(HANDOVER_RETRY_GAP).await;
        }
    }

    async fn try_hand_over_all(self: &Arc<Self>) {
        let map = self.map();
        let mut by_replica: BTreeMap<NodeId, Vec<PartitionId>> = BTreeMap::new();
        let in_step: BTreeMap<NodeId, Vec<PartitionId>> = self.parts.host.in_step().into_iter().collect();
        for id in map.primary_of(self.parts.me).filter(|id| self.is_primary_of(*id)) {
            let replicas = map.place(id).map(|place| &place.replicas[..]).unwrap_or_default();
            let able = replicas.iter().filter(|node| in_step.get(node).is_some_and(|all| all.contains(&id)));
            // One for everything, where one has everything.
            if let Some(to) = able.max_by_key(|node| (in_step[node].len(), **node)) {
                by_replica.entry(*to).or_default().push(id);
            }
        }
        for (to, partitions) in by_replica {
            match self.hand_over(&partitions, to).await {
                Ok(()) => tracing::info!("{} partitions were handed over to node {to}", partitions.len()),
                Err(reason) => {
                    tracing::warn!("{} partitions could not be handed over: {reason}", partitions.len())
                }
            }
        }
    }

    /// Whether this node founds no cluster because another one is about to.
    pub(super) fn has_promised(&self) -> bool {
        let now = (self.parts.clock)();
        self.promised.lock().is_some_and(|(_, until)| now < until)
    }

    fn promise(&self, to: NodeId) -> Reply {
        let now = (self.parts.clock)();
        let mut promised = self.promised.lock();
        match *promised {
            Some((other, until)) if other != to && now < until => {
                Reply::Refused(format!("node {other} is about to found a cluster"))
            }
            _ if self.map.borrow().cluster.is_some() => Reply::Refused("it is in a cluster".into()),
            _ => {
                *promised = Some((to, now + PATIENCE * 10));
                Reply::Done
            }
        }
    }
}

/// The last time that somebody had to take the place of a primary which had not given it.
fn last_trouble(map: &ClusterMap) -> Option<&Failover> {
    map.failovers.iter().rev().find(|failover| failover.reason == Reason::LeaseEnded)
}

/// Whether an order was carried out.
pub(super) fn done(reply: Result<Reply, CallError>) -> Result<(), String> {
    match reply {
        Ok(Reply::Done) => Ok(()),
        Ok(Reply::Refused(why) | Reply::Unknown(why)) => Err(why),
        Ok(Reply::NotLeader(_)) => Err("the leader has changed".into()),
        Ok(_) => Err("an answer that makes no sense".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Answers what other nodes ask of a node.
pub struct Answers(pub Arc<Node>);

#[async_trait]
impl Serve for Answers {
    async fn serve(&self, from: NodeId, request: Vec<u8>) -> Option<Vec<u8>> {
        let ask = decode(&request)?;
        Some(encode(&self.0.answer(from, ask).await))
    }
}
