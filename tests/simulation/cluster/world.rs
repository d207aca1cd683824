//! The world: nodes of a cluster on a simulated network, and what goes wrong with them. All of it follows from a seed.

use crate::cluster::epochs::Epochs;
use crate::cluster::gossip::Board;
use crate::cluster::network::number;
use crate::cluster::node::{self, Machine, Order, Process, Shared};
use crate::cluster::one_primary::OnePrimary;
use crate::cluster::scenario::{Plant, Scenario};
use crate::disk::Disk;
use crate::lost::Lost;
use crate::majority::Majority;
use crate::never_back::NeverBack;
use crate::node::host;
use crate::prefix::Prefix;
use crate::quiet;
use crate::seeds::Outcome;
use crate::witness::{Event, Invariant, Witness};
use larder::base::concern::WriteConcern;
use larder::base::ids::PartitionId;
use larder::cluster::map::{ClusterMap, Reason};
use larder::replication::storage::Storage;
use parking_lot::Mutex;
use rand::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use turmoil::Sim;

/// Everything must be well again so soon after the last fault.
const QUIET_MS_MAX: u64 = 20_000;
/// How long clients go on when all is quiet.
const LAST_COMMANDS_MS: u64 = 300;
/// How long it is then looked whether all stays as it is.
const REST_MS: u64 = 2_000;
/// How often it is said that nobody is to leave any more.
const KEEP_GAP_MS: u64 = 200;
/// How often nodes hear of each other.
const GOSSIP_GAP_MS: u64 = 50;

/// Runs a seed. Looked at is one invariant, or all.
pub fn run(seed: u64, plant: Plant, only: Option<&'static str>) -> Outcome {
    let mut world = World::new(Scenario::of(seed, plant), only);
    world.live();
    let witness = &world.shared.witness;
    Outcome {
        trace: witness.trace(),
        violation: witness.violation(),
        counts: witness.counts(),
        virtual_ms: world.now_ms,
        spans_ms: vec![world.quiet_ms],
    }
}

/// What is to happen at some time.
#[derive(Clone, Copy, Debug)]
enum Action {
    /// A fault begins.
    Fault,
    /// A node's process begins.
    Start(usize),
    /// Nodes hear each other again.
    Rejoin(usize, usize, Cut),
    /// A node's process goes on.
    GoOn(usize),
    /// A node's links read as fast as they can again.
    Hurry(usize),
    /// A node's disk has room again.
    MakeRoom(usize),
    /// A node that was to be forgotten is to stay.
    Keep(usize),
}

/// How two nodes do not hear each other.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// Messages are lost, connections are refused.
    Refused,
    /// Messages from the first to the second are lost.
    OneWay,
    /// Messages wait, and come later.
    Held,
}

struct World {
    scenario: Scenario,
    sim: Sim<'static>,
    random: StdRng,
    machines: Vec<Arc<Machine>>,
    shared: Arc<Shared>,
    /// Which nodes answer for what, and in which epoch.
    answering: BTreeMap<(usize, PartitionId), u64>,
    agenda: BTreeMap<(u64, u64), Action>,
    numbers: u64,
    /// Who does not hear whom: from and to.
    deaf: BTreeSet<(usize, usize)>,
    cuts: BTreeSet<(usize, usize)>,
    has_faults: bool,
    now_ms: u64,
    quiet_ms: u64,
}

impl World {
    fn new(scenario: Scenario, only: Option<&'static str>) -> World {
        let partitions = scenario.data.partitions;
        let disks: Vec<_> =
            (0..scenario.nodes).map(|_| Arc::new(Mutex::new(Disk::new(partitions)))).collect();
        let shared = Arc::new(Shared {
            witness: Arc::new(Witness::new(disks.clone(), partitions, only, invariants())),
            traffic: Arc::default(),
            board: Arc::<Board>::default(),
            calls: Mutex::default(),
            has_clients: AtomicBool::new(true),
            answered: AtomicU64::new(0),
        });
        let mut sim = turmoil::Builder::new()
            .rng_seed(scenario.seed)
            .epoch(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000))
            .tick_duration(Duration::from_millis(1))
            .simulation_duration(Duration::from_hours(1))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(scenario.latency_ms))
            .tcp_capacity(1024)
            .enable_random_order()
            .build();
        let machine = |(number, disk)| {
            Arc::new(Machine {
                number,
                scenario: scenario.clone(),
                disk,
                shelf: Arc::default(),
                switches: Arc::default(),
                pause_ms: Arc::default(),
                is_paused: AtomicBool::new(false),
                process: Mutex::default(),
                starts: AtomicU64::new(0),
                shared: Arc::clone(&shared),
            })
        };
        let machines: Vec<Arc<Machine>> = (0..).zip(disks).map(machine).collect();
        for machine in &machines {
            let machine = Arc::clone(machine);
            sim.host(host(machine.number), move || node::run(Arc::clone(&machine)));
        }
        World {
            sim,
            random: StdRng::seed_from_u64(scenario.seed.wrapping_add(1)),
            machines,
            shared,
            answering: BTreeMap::new(),
            agenda: BTreeMap::new(),
            numbers: 0,
            deaf: BTreeSet::new(),
            cuts: BTreeSet::new(),
            has_faults: true,
            now_ms: 0,
            quiet_ms: 0,
            scenario,
        }
    }

    /// From the first start to the last check.
    fn live(&mut self) {
        self.sim.set_fail_rate(self.scenario.loss);
        let first = self.random.random_range(1..3000);
        self.plan(first, Action::Fault);
        self.pass(self.scenario.faults_ms);
        self.calm();
        let begun = self.now_ms;
        self.settle("the faults");
        self.quiet_ms = self.now_ms - begun;
        let answered = self.shared.answered.load(Ordering::Relaxed);
        self.shared.has_clients.store(true, Ordering::Relaxed);
        self.pass(LAST_COMMANDS_MS);
        self.shared.has_clients.store(false, Ordering::Relaxed);
        self.settle("the last commands");
        self.rest();
        if self.shared.witness.violation().is_none() {
            self.check(answered);
        }
    }

    /// Where nothing goes wrong primaries stay, but for moves that spread them: each goes once at most, and nobody's lease ends.
    fn rest(&mut self) {
        if self.shared.witness.violation().is_some() {
            return;
        }
        let map = |world: &World| world.processes()[0].host.map();
        let before = map(self);
        self.pass(REST_MS);
        self.settle("a quiet time");
        let after = map(self);
        let moves = |id: usize| after.partitions[id].epoch.0 - before.partitions[id].epoch.0;
        let is_restless = (0..before.partitions.len()).any(|id| moves(id) > 1)
            || after.failovers.iter().any(|failover| {
                failover.reason == Reason::LeaseEnded && !before.failovers.contains(failover)
            });
        if is_restless && self.shared.witness.violation().is_none() {
            let what = format!("primaries do not come to rest: {before:?}, then {after:?}");
            self.shared.witness.fail("quiet", what);
        }
    }

    fn check(&self, answered_before: u64) {
        let witness = &self.shared.witness;
        witness.finish();
        if let Err(what) = quiet::check(&self.copies()) {
            witness.fail("quiet", what);
        }
        if self.shared.answered.load(Ordering::Relaxed) == answered_before {
            witness.fail("quiet", "no command was answered in the end".to_owned());
        }
        // What the primary alone has may be lost with it, and then nobody can tell an order.
        if self.scenario.concern == WriteConcern::Majority
            && let Err(violation) = self.shared.calls.lock().history().check()
        {
            witness.fail("linearizable", violation.to_string());
        }
    }

    fn plan(&mut self, in_ms: u64, action: Action) {
        self.numbers += 1;
        self.agenda.insert((self.now_ms + in_ms, self.numbers), action);
    }

    /// So much virtual time passes.
    fn pass(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while self.now_ms < end && self.shared.witness.violation().is_none() {
            self.step();
        }
    }

    fn step(&mut self) {
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= self.now_ms) {
            let action = entry.remove();
            self.act(action);
        }
        if self.now_ms.is_multiple_of(GOSSIP_GAP_MS) {
            self.gossip();
        }
        if let Err(error) = self.sim.step() {
            self.shared.witness.fail("run", format!("a node ended: {error}"));
        }
        self.now_ms += 1;
        self.shared.witness.set_now(self.now_ms);
        self.look();
        if let Some(panic) = crate::take_panic() {
            self.shared.witness.fail("run", format!("a panic: {panic}"));
        }
    }

    fn process(&self, node: usize) -> Option<Process> {
        self.machines[node].process.lock().clone()
    }

    fn processes(&self) -> Vec<Process> {
        (0..self.scenario.nodes).filter_map(|node| self.process(node)).collect()
    }

    /// What of the processes is there in a world of replication alone.
    fn copies(&self) -> Vec<crate::node::Process> {
        let copy = |Process { data, replication, .. }| crate::node::Process { data, replication };
        self.processes().into_iter().map(copy).collect()
    }

    fn ids(&self) -> impl Iterator<Item = PartitionId> + use<> {
        (0..self.scenario.data.partitions).map(PartitionId)
    }

    /// The epoch in which a node answers for a partition now, if it does.
    fn answers(&self, node: usize, process: &Process, id: PartitionId) -> Option<u64> {
        let clock = self.scenario.clocks[node].at(self.sim.elapsed());
        let may_answer = process.node.lease().holds(clock) || self.scenario.plant == Plant::IgnoresTheLease;
        process.host.is_here(id).filter(|_| may_answer).map(|epoch| epoch.0)
    }

    /// Tells who answers from now on, and who does not.
    fn look(&mut self) {
        let mut answering = BTreeMap::new();
        for node in 0..self.scenario.nodes {
            let Some(process) = self.process(node) else { continue };
            for id in self.ids() {
                if let Some(epoch) = self.answers(node, &process, id) {
                    answering.insert((node, id), epoch);
                }
            }
        }
        let witness = &self.shared.witness;
        for (node, partition) in self.answering.keys().filter(|key| !answering.contains_key(key)) {
            witness.tell(Event::Silent { node: *node, partition: *partition });
        }
        for ((node, partition), epoch) in &answering {
            if self.answering.get(&(*node, *partition)) != Some(epoch) {
                witness.tell(Event::Answers { node: *node, partition: *partition, epoch: *epoch });
            }
        }
        self.answering = answering;
    }

    /// Nodes that run and are not cut off hear of each other.
    fn gossip(&self) {
        for process in self.processes() {
            let of = process.data.node;
            let hears = |node: usize| self.process(node).is_some() && !self.deaf.contains(&(node, of));
            let view = self.shared.board.view(of, self.now_ms, hears);
            process.view.send_if_modified(|known| {
                let is_news = **known != view;
                if is_news {
                    *known = Arc::new(view);
                }
                is_news
            });
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Fault => {
                if self.has_faults {
                    self.begin_fault();
                    let gap = self.random.random_range(1..=self.scenario.fault_gap_ms);
                    self.plan(gap, Action::Fault);
                }
            }
            Action::Start(node) => self.start(node),
            Action::Rejoin(a, b, cut) => self.rejoin(a, b, cut),
            Action::GoOn(node) => self.machines[node].is_paused.store(false, Ordering::Relaxed),
            Action::Hurry(node) => self.machines[node].pause_ms.store(0, Ordering::Relaxed),
            Action::Keep(node) => self.keep(node),
            Action::MakeRoom(node) => self.machines[node].switches.is_full.store(false, Ordering::Relaxed),
        }
    }

    fn fault(&self, what: String) {
        self.shared.witness.tell(Event::Fault(what));
    }

    /// Somebody who answers, or who leads, or anybody: faults do most where something is done.
    fn victim(&mut self) -> usize {
        let anybody = self.random.random_range(0..self.scenario.nodes);
        match self.random.random_range(0..3) {
            0 => self.answering.keys().next().map_or(anybody, |(node, _)| *node),
            1 => self.leader().unwrap_or(anybody),
            _ => anybody,
        }
    }

    fn leader(&self) -> Option<usize> {
        let mut processes = self.processes().into_iter();
        processes.find(|process| process.control.leading().borrow().is_me).map(|process| process.data.node)
    }

    fn begin_fault(&mut self) {
        let nodes = self.scenario.nodes;
        let node = self.victim();
        let other = (node + self.random.random_range(1..nodes)) % nodes;
        let long = self.random.random_range(10..2500);
        let others: Vec<usize> = (0..nodes).filter(|other| *other != node).collect();
        match self.random.random_range(0..21) {
            0 => self.cut(node, other, Cut::Refused, long),
            1 => self.cut(node, other, Cut::Held, long),
            2 => self.cut(node, other, Cut::OneWay, long),
            3 => self.cut(other, node, Cut::OneWay, long),
            4..6 => others.into_iter().for_each(|other| self.cut(node, other, Cut::Refused, long)),
            6 => others.into_iter().for_each(|other| self.cut(node, other, Cut::OneWay, long)),
            7..10 => {
                // To others it is as if the process did not run; its clock goes on.
                self.fault(format!("pause: node {node}, {long} ms"));
                self.machines[node].is_paused.store(true, Ordering::Relaxed);
                self.plan(long, Action::GoOn(node));
                others.into_iter().for_each(|other| self.cut(node, other, Cut::Held, long));
            }
            10..13 => self.crash(node, false, long),
            13 => self.crash(node, false, 1),
            14 => self.crash(node, self.scenario.has_power_losses, long),
            15 => {
                let pause = self.random.random_range(1..60);
                self.fault(format!("slow reader: node {node}, {pause} ms"));
                self.machines[node].pause_ms.store(pause, Ordering::Relaxed);
                self.plan(long, Action::Hurry(node));
            }
            16 => {
                self.fault(format!("full disk: node {node}"));
                self.machines[node].switches.is_full.store(true, Ordering::Relaxed);
                self.plan(long, Action::MakeRoom(node));
            }
            17 => self.order(node, Order::HandOverAll),
            18 => {
                self.order(other, Order::Forget(node));
                self.plan(long, Action::Keep(node));
            }
            _ => {
                let partition = self.random.random_range(0..self.scenario.data.partitions);
                let primary = self.answering.keys().find(|(_, id)| id.0 == partition);
                let node = primary.map_or(node, |(node, _)| *node);
                let other = (node + self.random.random_range(1..nodes)) % nodes;
                self.order(node, Order::HandOver(partition, other));
            }
        }
    }

    fn order(&self, node: usize, order: Order) {
        self.fault(format!("handover: node {node}, {order:?}"));
        if let Some(process) = self.process(node) {
            let _ = process.orders.send(order); // it may be about to end
        }
    }

    /// Whoever leads gets to hear it from somebody.
    fn keep(&self, node: usize) {
        for process in self.processes() {
            let _ = process.orders.send(Order::Keep(node)); // it may be about to end
        }
    }

    fn cut(&mut self, a: usize, b: usize, cut: Cut, ms: u64) {
        if !self.cuts.insert((a.min(b), a.max(b))) {
            return; // kinds of cuts do not mix
        }
        self.fault(format!("{cut:?} link: nodes {a} and {b}, {ms} ms"));
        self.deaf.insert((a, b));
        match cut {
            Cut::Refused => self.sim.partition(host(a), host(b)),
            Cut::OneWay => self.sim.partition_oneway(host(a), host(b)),
            Cut::Held => self.sim.hold(host(a), host(b)),
        }
        if !matches!(cut, Cut::OneWay) {
            self.deaf.insert((b, a));
        }
        self.plan(ms, Action::Rejoin(a, b, cut));
    }

    fn rejoin(&mut self, a: usize, b: usize, cut: Cut) {
        match cut {
            Cut::Refused => self.sim.repair(host(a), host(b)),
            Cut::OneWay => self.sim.repair_oneway(host(a), host(b)),
            Cut::Held => self.sim.release(host(a), host(b)),
        }
        self.cuts.remove(&(a.min(b), a.max(b)));
        self.deaf.retain(|pair| *pair != (a, b) && *pair != (b, a));
    }

    fn crash(&mut self, node: usize, power: bool, ms: u64) {
        let machine = Arc::clone(&self.machines[node]);
        if machine.process.lock().take().is_none() {
            return;
        }
        if power && !self.cuts.iter().any(|(a, b)| *a == node || *b == node) {
            // Nobody says good-bye.
            (0..self.scenario.nodes)
                .filter(|other| *other != node)
                .for_each(|other| self.cut(node, other, Cut::Refused, ms));
        }
        self.sim.crash(host(node));
        self.shared.board.forget(node);
        self.answering.retain(|(of, _), _| *of != node);
        let lost_bytes = machine.disk.lock().lose(power, &mut self.random);
        self.shared.witness.tell(Event::Crashed { node, power, lost_bytes });
        self.plan(ms, Action::Start(node));
    }

    fn start(&mut self, node: usize) {
        if self.machines[node].process.lock().is_none() {
            self.sim.bounce(host(node));
        }
    }

    /// No more faults; those that last end.
    fn calm(&mut self) {
        self.has_faults = false;
        self.shared.has_clients.store(false, Ordering::Relaxed);
        self.sim.set_fail_rate(0.0);
        self.sim.set_max_message_latency(Duration::from_millis(2));
        let lasting: Vec<Action> = std::mem::take(&mut self.agenda).into_values().collect();
        for action in lasting.into_iter().filter(|action| !matches!(action, Action::Fault)) {
            self.act(action);
        }
        for (a, b) in (0..self.scenario.nodes).flat_map(|b| (0..b).map(move |a| (a, b))) {
            // What chance broke stays broken until somebody sends.
            self.sim.repair(host(a), host(b));
        }
        if self.scenario.plant == Plant::StaysCut {
            (1..self.scenario.nodes).for_each(|other| self.sim.partition(host(0), host(other)));
        }
    }

    /// Waits until everybody has the same map, everything is answered for by one node, and all copies are equal.
    fn settle(&mut self, after: &str) {
        let begun = self.now_ms;
        while self.shared.witness.violation().is_none() {
            let Some(what) = self.unsettled() else { return };
            if self.now_ms.is_multiple_of(KEEP_GAP_MS) {
                self.leaving().into_iter().for_each(|node| self.keep(node));
            }
            self.step();
            if self.now_ms > begun + QUIET_MS_MAX {
                let what = format!("{what}, {QUIET_MS_MAX} ms after {after}\n{}", self.describe());
                return self.shared.witness.fail("quiet", what.replace('\n', "; "));
            }
        }
    }

    /// Who is to be forgotten, as somebody knows.
    fn leaving(&self) -> BTreeSet<usize> {
        let maps = self.processes().into_iter().map(|process| process.host.map());
        let leaving = |map: ClusterMap| {
            let leaving = map.nodes.iter().filter(|(_, member)| member.is_leaving);
            leaving.map(|(node, _)| number(*node)).collect::<Vec<_>>()
        };
        maps.flat_map(leaving).collect()
    }

    /// What is not well yet.
    fn unsettled(&self) -> Option<String> {
        let processes = self.processes();
        if processes.len() < self.scenario.nodes {
            return Some("somebody does not run".to_owned());
        }
        let map = processes[0].host.map();
        if processes.iter().any(|process| process.host.map() != map) {
            return Some("maps differ".to_owned());
        }
        for (id, place) in (0..).map(PartitionId).zip(&map.partitions) {
            if self.answering.keys().filter(|(_, of)| *of == id).count() != 1 {
                return Some(format!("nobody answers for partition {id}"));
            }
            if place.replicas.len() + 1 != self.scenario.nodes {
                return Some(format!("not everybody is a replica of partition {id}"));
            }
            let primary = number(place.primary.expect("somebody answers"));
            let written = *processes[primary].data.written().borrow();
            if processes[primary].replication.acknowledged(id, WriteConcern::All) < written {
                return Some(format!("not everybody has all of partition {id}"));
            }
        }
        if map.partitions.is_empty() {
            return Some("there is no cluster".to_owned());
        }
        if !self.leaving().is_empty() {
            return Some("somebody is to be forgotten".to_owned());
        }
        (!quiet::is_quiet(&self.copies())).then(|| "copies differ".to_owned())
    }

    fn describe(&self) -> String {
        let of = |process: &Process| {
            let points: Vec<_> = self.ids().map(|id| process.data.point(id)).collect();
            let map = process.host.map();
            format!(
                "node {}: version {}, {:?}, voters {:?}\n places {:?}\n points {points:?}\n upstream {:?}\n followers {:?}",
                process.data.node,
                map.version,
                *process.control.leading().borrow(),
                process.control.voters(),
                map.partitions,
                process.replication.upstream(),
                process.replication.followers()
            )
        };
        self.processes().iter().map(of).collect::<Vec<_>>().join("\n")
    }
}

fn invariants() -> Vec<(&'static str, Box<dyn Invariant>)> {
    vec![
        ("one_primary", Box::new(OnePrimary::default())),
        ("epochs", Box::new(Epochs::default())),
        ("prefix", Box::new(Prefix)),
        ("never_back", Box::new(NeverBack::default())),
        ("majority", Box::new(Majority::new(true))),
        ("lost", Box::new(Lost::default())),
    ]
}
