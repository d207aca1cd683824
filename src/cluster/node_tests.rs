//! Nodes of a cluster in one process: the real control plane, leases, promotions and handovers, over a bus and a membership that
//! tests can cut, in a time that they can stop.

use super::bus::{Bus, CallError, Kind, Serve};
use super::consensus::ControlPlane;
use super::consensus::raft::{Options, Raft, Timing};
use super::consensus::shelf::MemoryShelf;
use super::lease::Lease;
use super::map::{Address, ClusterMap, Shape};
use super::membership::{Membership, Profile, View};
use super::node::{Answers, Host, Node, Parts, Settings};
use crate::base::ids::{Epoch, Lsn, NodeId, PartitionId};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::Instant;

const PARTITIONS: u16 = 2;
const WITHIN: Duration = Duration::from_secs(30);

fn id(number: u8) -> NodeId {
    NodeId([number; 20])
}

/// What all nodes share.
#[derive(Default)]
struct Net {
    serving: Mutex<BTreeMap<NodeId, BTreeMap<Kind, Arc<dyn Serve>>>>,
    profiles: Mutex<BTreeMap<NodeId, Profile>>,
    views: Mutex<Vec<(NodeId, watch::Sender<Arc<View>>)>>,
    cut: Mutex<BTreeSet<NodeId>>,
    /// Where each node's partitions stand: as if replicas got everything at once.
    data: Mutex<BTreeMap<NodeId, Vec<(Epoch, Lsn)>>>,
}

impl Net {
    fn reaches(&self, one: NodeId, other: NodeId) -> bool {
        let cut = self.cut.lock();
        one == other || !(cut.contains(&one) || cut.contains(&other))
    }

    fn cut(&self, node: NodeId) {
        self.cut.lock().insert(node);
        self.gossip();
    }

    fn heal(&self, node: NodeId) {
        self.cut.lock().remove(&node);
        self.gossip();
    }

    fn gossip(&self) {
        let (profiles, serving) = (self.profiles.lock().clone(), self.serving.lock());
        let lives = |node: &NodeId| serving.contains_key(node);
        for (of, view) in &*self.views.lock() {
            let (live, dead) =
                profiles.clone().into_iter().partition(|(node, _)| lives(node) && self.reaches(*of, *node));
            view.send_replace(Arc::new(View { live, dead }));
        }
    }
}

struct Caller(NodeId, Arc<Net>);

#[async_trait]
impl Bus for Caller {
    async fn call(
        &self,
        node: NodeId,
        _: &Address,
        kind: Kind,
        request: Vec<u8>,
        patience: Duration,
    ) -> Result<Vec<u8>, CallError> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let serving = self.1.serving.lock().get(&node).and_then(|all| all.get(&kind)).map(Arc::clone);
        let Some(serving) = serving.filter(|_| self.1.reaches(self.0, node)) else {
            return Err(CallError::NotSent("nobody there".into()));
        };
        let answer = tokio::time::timeout(patience, serving.serve(self.0, request)).await;
        let unknown = || CallError::Unknown("no answer".into());
        let answer = answer.ok().flatten().ok_or_else(unknown)?;
        if self.1.reaches(self.0, node) { Ok(answer) } else { Err(unknown()) }
    }
}

struct Gossip(NodeId, watch::Receiver<Arc<View>>, Arc<Net>);

impl Membership for Gossip {
    fn view(&self) -> watch::Receiver<Arc<View>> {
        self.1.clone()
    }

    fn tell(&self, own: Profile) {
        self.2.profiles.lock().insert(self.0, own);
        self.2.gossip();
    }
}

/// A node's data: a position for each partition.
struct Data {
    me: NodeId,
    incarnation: u64,
    net: Arc<Net>,
    expects: u16,
    map: Mutex<ClusterMap>,
    given_up: Mutex<BTreeSet<PartitionId>>,
}

impl Data {
    fn is_primary(&self, id: PartitionId) -> bool {
        let map = self.map.lock();
        map.place(id).is_some_and(|place| place.is_of((self.me, self.incarnation)))
            && !self.given_up.lock().contains(&id)
    }
}

#[async_trait]
impl Host for Data {
    fn profile(&self) -> Profile {
        let address = Address { host: "h".into(), port: u16::from(self.me.0[0]), bus_port: 1 };
        Profile {
            node: self.me,
            address,
            can_serve: true,
            expects: self.expects,
            partitions: PARTITIONS,
            ..Profile::default()
        }
    }

    fn positions(&self) -> Vec<(Epoch, Lsn)> {
        let data = self.net.data.lock();
        data.get(&self.me).cloned().unwrap_or_else(|| vec![Default::default(); PARTITIONS.into()])
    }

    fn in_step(&self) -> Vec<(NodeId, Vec<PartitionId>)> {
        let map = self.map.lock();
        let mut found = BTreeMap::<NodeId, Vec<PartitionId>>::new();
        for (id, place) in map.places() {
            let followers =
                place.copies().filter(|node| *node != self.me && self.net.reaches(self.me, *node));
            followers.for_each(|node| found.entry(node).or_default().push(id));
        }
        found.into_iter().collect()
    }

    async fn put_in_force(&self, map: &ClusterMap) {
        *self.map.lock() = map.clone();
        for (id, place) in map.places() {
            if place.is_of((self.me, self.incarnation)) {
                let mut data = self.net.data.lock();
                let own = data.entry(self.me).or_insert_with(|| vec![Default::default(); PARTITIONS.into()]);
                let position = &mut own[usize::from(id.0)];
                if place.epoch > position.0 {
                    *position = (place.epoch, Lsn(position.1.0 + 1));
                }
            } else {
                self.given_up.lock().remove(&id);
            }
        }
    }

    async fn give_up(
        &self,
        partitions: &[(PartitionId, Epoch)],
        to: NodeId,
        _: Duration,
    ) -> Result<Vec<(Epoch, Lsn)>, String> {
        self.given_up.lock().extend(partitions.iter().map(|(id, _)| *id));
        let own = self.positions();
        self.net.data.lock().insert(to, own.clone());
        Ok(partitions.iter().map(|(id, _)| own[usize::from(id.0)]).collect())
    }

    fn take_back(&self, partitions: &[PartitionId]) {
        self.given_up.lock().retain(|id| !partitions.contains(id));
    }

    fn may_answer_again(&self) {}

    fn unix_ms(&self) -> i64 {
        0
    }
}

/// A process of a node: a runtime of its own, so that it can be killed.
struct Process {
    node: Arc<Node>,
    data: Arc<Data>,
    tasks: tokio::task::JoinHandle<()>,
    raft: Arc<Raft>,
}

struct World {
    net: Arc<Net>,
    shelves: BTreeMap<NodeId, Arc<MemoryShelf>>,
    running: BTreeMap<NodeId, Process>,
    starts: u64,
    expects: u16,
    copies: u16,
    shape: Shape,
    begun: Instant,
}

impl World {
    async fn of(nodes: u8, copies: u16) -> World {
        World::of_shape(nodes, copies, Shape::Together).await
    }

    async fn of_shape(nodes: u8, copies: u16, shape: Shape) -> World {
        let begun = Instant::now();
        let (net, shelves, running) = (Arc::default(), BTreeMap::new(), BTreeMap::new());
        let expects = nodes.into();
        let mut world = World { net, shelves, running, starts: 0, expects, copies, shape, begun };
        for number in 1..=nodes {
            world.start(id(number)).await;
        }
        world
    }

    async fn start(&mut self, me: NodeId) {
        self.starts += 1;
        let (net, incarnation) = (Arc::clone(&self.net), self.starts);
        let shelf = Arc::clone(self.shelves.entry(me).or_default());
        let bus = Arc::new(Caller(me, Arc::clone(&net)));
        let (sender, view) = watch::channel(Arc::default());
        let membership = Arc::new(Gossip(me, view, Arc::clone(&net)));
        {
            let mut views = net.views.lock();
            views.retain(|(of, _)| *of != me);
            views.push((me, sender));
        }
        let (copies, shape) = (self.copies, self.shape);
        let settings = Settings { copies, shape, lost_after: Duration::from_secs(5), ..Settings::default() };
        let options = Options {
            node: me,
            timing: Timing::default(),
            rest_after_start: settings.lease + settings.lease / 20,
            seed: Some(incarnation),
        };
        let find = Arc::new(|_| Some(Address { host: "h".into(), port: 1, bus_port: 1 }));
        let raft = Raft::start(options, shelf, Arc::clone(&bus) as Arc<dyn Bus>, find).await.expect("starts");
        let raft = Arc::new(raft);
        let data = Arc::new(Data {
            me,
            incarnation,
            net: Arc::clone(&net),
            expects: self.expects,
            map: Mutex::default(),
            given_up: Mutex::default(),
        });
        let lease = Arc::new(Lease::unbounded());
        lease.bound();
        let begun = self.begun;
        let node = Node::new(Parts {
            me,
            incarnation,
            settings,
            control: Arc::clone(&raft) as Arc<dyn ControlPlane>,
            bus,
            membership,
            host: Arc::clone(&data) as Arc<dyn Host>,
            lease,
            clock: Arc::new(move || begun.elapsed()),
        });
        let serving: BTreeMap<Kind, Arc<dyn Serve>> = [
            (Kind::Consensus, Arc::clone(&raft) as Arc<dyn Serve>),
            (Kind::Control, Arc::new(Answers(Arc::clone(&node))) as Arc<dyn Serve>),
        ]
        .into();
        net.serving.lock().insert(me, serving);
        let tasks = tokio::spawn(Arc::clone(&node).run());
        net.gossip();
        self.running.insert(me, Process { node, data, tasks, raft });
    }

    /// Ends a process at once.
    async fn kill(&mut self, node: NodeId) {
        self.net.serving.lock().remove(&node);
        let process = self.running.remove(&node).expect("it runs");
        process.tasks.abort();
        process.raft.stop().await;
        self.net.gossip();
    }

    fn answers(&self, node: NodeId, partition: PartitionId) -> bool {
        let process = &self.running[&node];
        process.data.is_primary(partition) && process.node.lease().holds(self.begun.elapsed())
    }

    /// Who answers for a partition. Never two.
    fn primary(&self, partition: PartitionId) -> Option<NodeId> {
        let who: Vec<NodeId> =
            self.running.keys().copied().filter(|node| self.answers(*node, partition)).collect();
        assert!(who.len() <= 1, "{who:?} answer at a time for {partition}");
        who.first().copied()
    }

    /// Time goes on until that is so; at each step it is looked at who answers.
    async fn until(&self, what: &str, mut is_so: impl FnMut(&World) -> bool) {
        let end = Instant::now() + WITHIN;
        loop {
            (0..PARTITIONS).for_each(|id| _ = self.primary(PartitionId(id)));
            self.replicate();
            if is_so(self) {
                return;
            }
            let maps: Vec<_> = self.running.values().map(|process| process.node.map()).collect();
            assert!(Instant::now() < end, "not in time: {what}: {maps:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Everybody who follows and is reached has what the primary has.
    fn replicate(&self) {
        for partition in (0..PARTITIONS).map(PartitionId) {
            let Some(primary) = self.primary(partition) else { continue };
            let place = self.running[&primary].node.map().place(partition).cloned().unwrap_or_default();
            let at = usize::from(partition.0);
            let mut data = self.net.data.lock();
            let own = data.get(&primary).map_or_else(Default::default, |positions| positions[at]);
            for node in place
                .copies()
                .filter(|node| self.running.contains_key(node) && self.net.reaches(primary, *node))
            {
                data.entry(node).or_insert_with(|| vec![Default::default(); PARTITIONS.into()])[at] = own;
            }
        }
    }

    /// One node is primary of everything, and everybody knows and has a copy.
    async fn settled(&self) -> NodeId {
        let wanted = usize::from(self.copies).min(self.running.len());
        self.until("the cluster is settled", |world| {
            let first = world.primary(PartitionId(0));
            let all = (0..PARTITIONS).all(|id| world.primary(PartitionId(id)) == first);
            let members = |process: &Process| {
                let map = process.node.map();
                map.partitions.iter().all(|place| {
                    place.members().filter(|node| world.running.contains_key(node)).count() >= wanted
                }) && map.cluster.is_some()
            };
            first.is_some() && all && world.running.values().all(members)
        })
        .await;
        self.primary(PartitionId(0)).expect("there is one")
    }
}

/// A test in a time that stands still while nothing is to be done.
fn run(test: impl Future<Output = ()>) {
    let runtime: Runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(test);
}

#[test]
fn three_nodes_found_a_cluster_and_replace_a_dead_primary() {
    run(async {
        let mut world = World::of(3, 3).await;
        let first = world.settled().await;
        let epoch = world.running[&first].node.map().epoch();
        world.kill(first).await;
        let second = world.settled().await;
        assert_ne!(first, second);
        let map = world.running[&second].node.map();
        assert!(map.epoch() > epoch);
        assert_eq!(map.failovers.back().expect("one").from, Some(first));
        // It comes back as a replica.
        world.start(first).await;
        assert_eq!(world.settled().await, second);
    });
}

#[test]
fn one_node_is_a_cluster() {
    run(async {
        let mut world = World::of(1, 2).await;
        let only = world.settled().await;
        // Another process of it is promoted anew.
        let epoch = world.running[&only].node.map().epoch();
        world.kill(only).await;
        world.start(only).await;
        world.until("it is primary again", |world| world.primary(PartitionId(1)) == Some(only)).await;
        assert!(world.running[&only].node.map().epoch() > epoch);
    });
}

#[test]
fn a_primary_that_is_cut_off_stops_before_another_starts() {
    run(async {
        let world = World::of(3, 3).await;
        let first = world.settled().await;
        world.net.cut(first);
        world
            .until("another is primary", |world| {
                world.primary(PartitionId(0)).is_some_and(|node| node != first)
            })
            .await;
        world.net.heal(first);
        let second = world.settled().await;
        assert_ne!(first, second);
    });
}

#[test]
fn a_primary_hands_over_without_a_gap_in_leases() {
    run(async {
        let world = World::of(3, 3).await;
        let first = world.settled().await;
        assert!(world.running[&first].node.hand_over_all().await);
        world
            .until("another is primary", |world| {
                world.primary(PartitionId(0)).is_some_and(|node| node != first)
            })
            .await;
        let second = world.settled().await;
        assert_ne!(first, second);
        let last = world.running[&second].node.map().failovers.back().cloned().expect("one");
        assert_eq!((last.reason.name(), last.from, last.to), ("handover", Some(first), second));
    });
}

#[test]
fn primaries_that_are_spread_stay_where_they_are() {
    run(async {
        let world = World::of_shape(3, 3, Shape::Spread).await;
        let is_spread = |world: &World| {
            let [one, other] = [0, 1].map(|id| world.primary(PartitionId(id)));
            one.is_some() && other.is_some() && one != other
        };
        world.until("each of two nodes is primary of one partition", is_spread).await;
        let map = world.running[&id(1)].node.map();
        let end = Instant::now() + WITHIN / 2;
        world.until("a quiet time has gone by", |_| Instant::now() > end).await;
        assert_eq!(*world.running[&id(1)].node.map(), *map);
    });
}

#[test]
fn without_a_majority_nobody_answers() {
    run(async {
        let mut world = World::of(3, 3).await;
        let first = world.settled().await;
        let others: Vec<NodeId> = world.running.keys().copied().filter(|node| *node != first).collect();
        for node in &others {
            world.kill(*node).await;
        }
        world.until("the primary has stopped", |world| world.primary(PartitionId(0)).is_none()).await;
        let end = Instant::now() + Duration::from_secs(5);
        world
            .until("some time has gone by", |world| {
                assert_eq!(world.primary(PartitionId(0)), None);
                Instant::now() > end
            })
            .await;
        world.start(others[0]).await;
        world.until("somebody answers", |world| world.primary(PartitionId(0)).is_some()).await;
    });
}

#[test]
fn another_node_takes_the_place_of_a_lost_copy() {
    run(async {
        let mut world = World::of(3, 2).await;
        world.settled().await;
        world.expects = 0;
        world.start(id(9)).await;
        world
            .until("it is let in", |world| world.running[&id(9)].node.map().nodes.contains_key(&id(9)))
            .await;
        let primary = world.settled().await;
        let replica = world.running[&primary].node.map().partitions[0].replicas[0];
        world.kill(replica).await;
        world
            .until("another has its copies", |world| {
                let map = world.running[&primary].node.map();
                map.partitions
                    .iter()
                    .all(|place| place.replicas.len() == 1 && !place.replicas.contains(&replica))
            })
            .await;
    });
}

#[test]
fn who_is_forgotten_gives_everything_away_first_and_goes_once_it_is_gone() {
    run(async {
        let mut world = World::of(3, 2).await;
        let primary = world.settled().await;
        let other = world.running.keys().copied().find(|node| *node != primary).expect("there are three");
        let ordering = Arc::clone(&world.running[&other].node);
        ordering.have_forgotten(primary).await.expect("others can have its data");
        world.until("it has nothing any more", |_| !ordering.map().has_copies(primary)).await;
        let map = ordering.map();
        assert!(map.nodes.contains_key(&primary), "it is there, and would be let in again");
        assert!(map.partitions.iter().all(|place| place.replicas.len() == 1), "{map:?}");
        world.kill(primary).await;
        world.until("it is forgotten", |_| !ordering.map().nodes.contains_key(&primary)).await;
        world.until("others answer", |world| world.primary(PartitionId(0)).is_some()).await;
    });
}

#[test]
fn who_is_kept_after_all_gets_its_copies_back_and_the_last_home_stays() {
    run(async {
        let world = World::of(2, 2).await;
        let primary = world.settled().await;
        let other = world.running.keys().copied().find(|node| *node != primary).expect("there are two");
        let ordering = Arc::clone(&world.running[&primary].node);
        ordering.have_forgotten(other).await.expect("the primary has everything");
        world.until("it has nothing any more", |_| !ordering.map().has_copies(other)).await;
        assert!(ordering.have_forgotten(primary).await.is_err(), "nobody else could have the data");
        ordering.have_kept(other).await.expect("it may stay");
        let is_back = || ordering.map().partitions.iter().all(|place| place.replicas == [other]);
        world.until("it has its copies back", |_| is_back()).await;
    });
}

#[test]
fn the_number_of_copies_is_changed_while_it_runs() {
    run(async {
        let world = World::of(3, 3).await;
        let primary = world.settled().await;
        let node = Arc::clone(&world.running[&primary].node);
        for copies in [2, 1, 3] {
            node.set_copies(copies).await.expect("there are three nodes");
            let is_so =
                || node.map().partitions.iter().all(|place| place.replicas.len() + 1 == usize::from(copies));
            world.until("there are so many", |_| is_so()).await;
        }
    });
}
