//! The world: voters on a simulated network, and what goes wrong with them. All of it follows from a seed.

use crate::consensus::disk::Disk;
use crate::consensus::leaders::Leaders;
use crate::consensus::maps::Maps;
use crate::consensus::network::{host, number};
use crate::consensus::node::{self, Machine, Shared};
use crate::consensus::scenario::{Plant, Scenario};
use crate::consensus::seats::Seats;
use crate::consensus::witness::{Event, Invariant, Seen, Witness};
use crate::seeds::Outcome;
use larder::cluster::consensus::ControlPlane;
use larder::cluster::consensus::raft::{Raft, Timing};
use larder::cluster::map::ClusterMap;
use parking_lot::Mutex;
use rand::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use turmoil::Sim;

/// Everybody must have decided and seen something so soon after the last fault.
const QUIET_MS_MAX: u64 = 20_000;
/// Decisions that there must be when all is calm.
const LAST_DECISIONS: u64 = 3;

/// Runs a seed.
pub fn run(seed: u64, plant: Plant) -> Outcome {
    let mut world = World::new(Scenario::of(seed, plant));
    world.live();
    let witness = &world.shared.witness;
    Outcome {
        trace: witness.trace(),
        violation: witness.violation(),
        counts: witness.counts(),
        virtual_ms: world.now_ms,
        spans_ms: if world.scenario.timing.heartbeat == Timing::default().heartbeat {
            world.gaps_ms
        } else {
            vec![]
        },
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
    /// A node's disk has room again.
    MakeRoom(usize),
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

/// What was told of a node last.
#[derive(Default)]
struct Told {
    version: u64,
    term: u64,
    /// How often it led.
    times: u64,
}

struct World {
    scenario: Scenario,
    sim: Sim<'static>,
    random: StdRng,
    machines: Vec<Arc<Machine>>,
    shared: Arc<Shared>,
    told: Vec<Told>,
    agenda: BTreeMap<(u64, u64), Action>,
    numbers: u64,
    cuts: BTreeSet<(usize, usize)>,
    has_faults: bool,
    now_ms: u64,
    /// When a leader died, while nothing else is wrong.
    death_ms: Option<u64>,
    gaps_ms: Vec<u64>,
}

impl World {
    fn new(scenario: Scenario) -> World {
        let shared = Arc::new(Shared {
            witness: Witness::new(invariants()),
            has_clients: AtomicBool::new(true),
            has_changes: AtomicBool::new(true),
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
        let machine = |number| {
            Arc::new(Machine {
                number,
                scenario: scenario.clone(),
                disk: Arc::new(Disk::default()),
                process: Mutex::default(),
                starts: AtomicU64::new(0),
                shared: Arc::clone(&shared),
            })
        };
        let machines: Vec<Arc<Machine>> = (0..scenario.nodes).map(machine).collect();
        for machine in &machines {
            let machine = Arc::clone(machine);
            sim.host(host(machine.number), move || node::run(Arc::clone(&machine)));
        }
        World {
            sim,
            random: StdRng::seed_from_u64(scenario.seed.wrapping_add(1)),
            told: machines.iter().map(|_| Told::default()).collect(),
            machines,
            shared,
            agenda: BTreeMap::new(),
            numbers: 0,
            cuts: BTreeSet::new(),
            has_faults: true,
            now_ms: 0,
            death_ms: None,
            gaps_ms: Vec::new(),
            scenario,
        }
    }

    /// From the first start to the last check.
    fn live(&mut self) {
        self.sim.set_fail_rate(self.scenario.loss);
        self.plan(1500, Action::Fault);
        self.pass(self.scenario.faults_ms);
        self.calm();
        self.settle();
        if self.random.random_bool(0.5) {
            self.send_one_away();
        }
    }

    /// When all is well a voter is cut off from all others for some time, and comes back.
    fn send_one_away(&mut self) {
        let Some(leader) = self.leader().filter(|_| self.shared.witness.violation().is_none()) else {
            return;
        };
        let (voters, _) = self.process(leader).map(|raft| raft.voters()).unwrap_or_default();
        let others: Vec<usize> =
            voters.iter().map(|voter| number(*voter)).filter(|voter| *voter != leader).collect();
        let Some(node) = others.choose(&mut self.random).copied().filter(|_| others.len() >= 2) else {
            return;
        };
        self.shared.has_clients.store(true, Ordering::Relaxed);
        self.pass(1000);
        if self.leader() != Some(leader) {
            return; // a disk or a machine was too slow for it
        }
        let ms = self.random.random_range(100..4000);
        let cut = *[Cut::Refused, Cut::Held].choose(&mut self.random).expect("there are two");
        (0..self.scenario.nodes)
            .filter(|other| *other != node)
            .for_each(|other| self.cut(node, other, cut, ms));
        let term = self.told[leader].term;
        self.shared.witness.tell(Event::Away { node, leader, term });
        self.pass(ms + 2000);
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
        if let Err(error) = self.sim.step() {
            self.shared.witness.fail("run", &format!("a node ended: {error}"));
        }
        self.now_ms += 1;
        self.shared.witness.set_now(self.now_ms);
        self.look();
        if let Some(panic) = crate::take_panic() {
            self.shared.witness.fail("run", &format!("a panic: {panic}"));
        }
    }

    fn process(&self, node: usize) -> Option<Arc<Raft>> {
        self.machines[node].process.lock().clone()
    }

    /// Tells what has changed at the nodes.
    fn look(&mut self) {
        for node in 0..self.scenario.nodes {
            let Some(raft) = self.process(node) else { continue };
            let (map, leading) = (raft.map().borrow().clone(), *raft.leading().borrow());
            if map.version != self.told[node].version {
                self.told[node].version = map.version;
                self.shared.witness.tell(Event::Sees { node, map: Seen(map) });
            }
            if leading.is_me && leading.term != self.told[node].term {
                self.told[node].term = leading.term;
                self.told[node].times += 1;
                let counts = self.scenario.plant == Plant::CountsForItself;
                let term = if counts { self.told[node].times } else { leading.term };
                self.shared.witness.tell(Event::Leads { node, term });
            }
        }
        if let Some(death_ms) = self.death_ms
            && self.shared.witness.last_decision_us() > death_ms * 1000
        {
            self.gaps_ms.push(self.shared.witness.last_decision_us() / 1000 - death_ms);
            self.death_ms = None;
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
            Action::MakeRoom(node) => self.machines[node].disk.is_full.store(false, Ordering::Relaxed),
        }
    }

    fn fault(&mut self, what: String) {
        self.death_ms = None;
        self.shared.witness.tell(Event::Fault(what));
    }

    fn leader(&self) -> Option<usize> {
        (0..self.scenario.nodes)
            .find(|node| self.process(*node).is_some_and(|raft| raft.leading().borrow().is_me))
    }

    fn begin_fault(&mut self) {
        let nodes = self.scenario.nodes;
        // Half of all faults hit a leader, where they do most.
        let chosen = self.random.random_range(0..nodes);
        let node = self.leader().filter(|_| self.random.random_bool(0.5)).unwrap_or(chosen);
        let other = (node + self.random.random_range(1..nodes)) % nodes;
        let long = self.random.random_range(10..2500);
        match self.random.random_range(0..12) {
            0 => self.cut(node, other, Cut::Refused, long),
            1 => self.cut(node, other, Cut::Held, long),
            2..4 => self.cut(node, other, Cut::OneWay, long),
            4..6 => {
                let cut = *[Cut::Refused, Cut::Held].choose(&mut self.random).expect("there are two");
                (0..nodes).filter(|other| *other != node).for_each(|other| self.cut(node, other, cut, long));
            }
            6..10 => self.crash(node, long),
            10 => {
                // A crash and a start at once: what was promised a moment ago counts.
                self.crash(node, 1);
            }
            _ => {
                self.fault(format!("full disk: node {node}, {long} ms"));
                self.machines[node].disk.is_full.store(true, Ordering::Relaxed);
                self.plan(long, Action::MakeRoom(node));
            }
        }
    }

    fn cut(&mut self, a: usize, b: usize, cut: Cut, ms: u64) {
        if !self.cuts.insert((a.min(b), a.max(b))) {
            return; // kinds of cuts do not mix
        }
        self.fault(format!("{cut:?} link: nodes {a} and {b}, {ms} ms"));
        match cut {
            Cut::Refused => self.sim.partition(host(a), host(b)),
            Cut::OneWay => self.sim.partition_oneway(host(a), host(b)),
            Cut::Held => self.sim.hold(host(a), host(b)),
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
    }

    fn crash(&mut self, node: usize, ms: u64) {
        let Some(raft) = self.machines[node].process.lock().take() else { return };
        let all_run = (0..self.scenario.nodes).all(|other| other == node || self.process(other).is_some());
        let is_leaders = raft.leading().borrow().is_me && all_run && self.cuts.is_empty();
        self.sim.crash(host(node));
        self.told[node] = Told::default();
        self.shared.witness.tell(Event::Crashed { node });
        self.death_ms = (is_leaders && ms > 1).then_some(self.now_ms);
        self.plan(ms, Action::Start(node));
    }

    fn start(&mut self, node: usize) {
        if self.process(node).is_none() {
            self.sim.bounce(host(node));
        }
    }

    /// No more faults; those that last end.
    fn calm(&mut self) {
        self.has_faults = false;
        self.death_ms = None;
        self.shared.has_changes.store(false, Ordering::Relaxed);
        self.sim.set_fail_rate(0.0);
        let lasting: Vec<Action> = std::mem::take(&mut self.agenda).into_values().collect();
        for action in lasting.into_iter().filter(|action| !matches!(action, Action::Fault)) {
            self.act(action);
        }
        for (a, b) in (0..self.scenario.nodes).flat_map(|b| (0..b).map(move |a| (a, b))) {
            // What chance broke stays broken until somebody sends.
            self.sim.repair(host(a), host(b));
        }
        if self.scenario.plant == Plant::StaysDeaf {
            (1..self.scenario.nodes).for_each(|other| self.sim.partition(host(0), host(other)));
        }
    }

    /// Waits until something new was decided, and everybody who votes or learns has seen all of it.
    fn settle(&mut self) {
        let begun = self.now_ms;
        let mut decisions = 0;
        let mut last = self.shared.witness.last_decision_us();
        while self.shared.witness.violation().is_none() {
            if decisions >= LAST_DECISIONS {
                self.shared.has_clients.store(false, Ordering::Relaxed);
                if self.is_settled() {
                    return;
                }
            }
            self.step();
            let now = self.shared.witness.last_decision_us();
            decisions += u64::from(now != last);
            last = now;
            if self.now_ms > begun + QUIET_MS_MAX {
                let state = self.describe();
                let what = format!("{decisions} decisions {QUIET_MS_MAX} ms after the faults\n{state}");
                return self.shared.witness.fail("quiet", &what.replace('\n', "; "));
            }
        }
    }

    fn is_settled(&self) -> bool {
        let Some(leader) = self.leader().and_then(|leader| self.process(leader)) else { return false };
        let (voters, learners) = leader.voters();
        let map = leader.map().borrow().clone();
        let has = |node: usize| {
            self.process(node).is_some_and(|raft| Arc::<ClusterMap>::clone(&raft.map().borrow()) == map)
        };
        voters.iter().chain(&learners).all(|id| has(number(*id)))
    }

    fn describe(&self) -> String {
        let of = |node: usize| match self.process(node) {
            Some(raft) => {
                let (leading, map) = (*raft.leading().borrow(), raft.map().borrow().clone());
                format!("node {node}: version {}, {leading:?}, {:?}", map.version, raft.voters())
            }
            None => format!("node {node} is down"),
        };
        (0..self.scenario.nodes).map(of).collect::<Vec<_>>().join("\n")
    }
}

fn invariants() -> Vec<(&'static str, Box<dyn Invariant>)> {
    vec![
        ("leaders", Box::new(Leaders::default())),
        ("maps", Box::new(Maps::default())),
        ("seats", Box::new(Seats::default())),
    ]
}
