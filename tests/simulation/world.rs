//! The world: nodes on a simulated network, what goes wrong with them, and who gives them their parts. All of it follows from a
//! seed.

use crate::control::Control;
use crate::disk::Disk;
use crate::lost::Lost;
use crate::majority::Majority;
use crate::memory::Memory;
use crate::never_back::NeverBack;
use crate::node::{self, Leases, Machine, NodeSettings, Process, Shared, host};
use crate::plant::Plant;
use crate::prefix::Prefix;
use crate::quiet;
use crate::scenario::Scenario;
use crate::seeds::Outcome;
use crate::witness::{Event, Invariant, Witness};
use larder::base::concern::WriteConcern;
use larder::base::ids::PartitionId;
use larder::replication::storage::Storage;
use parking_lot::Mutex;
use rand::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use turmoil::Sim;

/// All copies must be equal so soon after the last fault.
const QUIET_MS_MAX: u64 = 40_000;
/// How long clients write once more when all is quiet.
const LAST_WRITES_MS: u64 = 300;

/// Runs a seed. Looked at is one invariant, or all.
pub fn run(seed: u64, plant: Plant, only: Option<&'static str>) -> Outcome {
    let scenario = Scenario::of(seed, plant);
    let mut world = World::new(scenario, only);
    world.live();
    let witness = &world.shared.witness;
    Outcome {
        trace: witness.trace(),
        violation: witness.violation(),
        counts: witness.counts(),
        virtual_ms: world.now_ms,
        spans_ms: vec![],
    }
}

/// What is to happen at some time.
#[derive(Clone, Copy, Debug)]
enum Action {
    /// A fault begins.
    Fault,
    /// Parts are given anew where that is needed.
    Control,
    /// A node learns its parts.
    Deliver(usize),
    /// A node's process begins.
    Start(usize),
    /// Nodes hear each other again.
    Rejoin(usize, usize, Cut),
    /// A node's links read as fast as they can again.
    Hurry(usize),
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

struct World {
    scenario: Scenario,
    sim: Sim<'static>,
    random: StdRng,
    machines: Vec<Arc<Machine>>,
    shared: Arc<Shared>,
    control: Control,
    agenda: BTreeMap<(u64, u64), Action>,
    numbers: u64,
    cuts: BTreeSet<(usize, usize)>,
    has_faults: bool,
    now_ms: u64,
}

impl World {
    fn new(scenario: Scenario, only: Option<&'static str>) -> World {
        let partitions = scenario.node.data.partitions;
        let disks: Vec<_> =
            (0..scenario.nodes).map(|_| Arc::new(Mutex::new(Disk::new(partitions)))).collect();
        let shared = Arc::new(Shared {
            witness: Arc::new(Witness::new(disks.clone(), partitions, only, invariants(&scenario))),
            traffic: Arc::default(),
            leases: Leases::default(),
            has_clients: AtomicBool::new(true),
        });
        let mut sim = turmoil::Builder::new()
            .rng_seed(scenario.seed)
            .epoch(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000))
            .tick_duration(Duration::from_millis(1))
            .simulation_duration(Duration::from_hours(1))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(scenario.latency_ms))
            .tcp_capacity(scenario.tcp_capacity)
            .enable_random_order()
            .build();
        let control = Control::new(&scenario);
        let machines: Vec<Arc<Machine>> = (0..)
            .zip(disks)
            .map(|(number, disk)| {
                Arc::new(Machine {
                    number,
                    settings: settings_of(&scenario),
                    disk,
                    switches: Arc::default(),
                    pause_ms: Arc::default(),
                    assignment: Mutex::new(control.assignment(number, None)),
                    process: Mutex::default(),
                    starts: AtomicU64::new(0),
                    seed: scenario.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (number as u64) << 24,
                    shared: Arc::clone(&shared),
                })
            })
            .collect();
        for machine in &machines {
            let machine = Arc::clone(machine);
            sim.host(host(machine.number), move || node::run(Arc::clone(&machine)));
        }
        let random = StdRng::seed_from_u64(scenario.seed.wrapping_add(1));
        let (agenda, cuts) = (BTreeMap::new(), BTreeSet::new());
        World {
            scenario,
            sim,
            random,
            machines,
            shared,
            control,
            agenda,
            numbers: 0,
            cuts,
            has_faults: true,
            now_ms: 0,
        }
    }

    /// From the first start to the last check.
    fn live(&mut self) {
        self.sim.set_fail_rate(self.scenario.loss);
        self.plan(1, Action::Control);
        self.plan(200, Action::Fault);
        self.pass(self.scenario.faults_ms);
        self.calm();
        self.settle("the faults");
        self.shared.has_clients.store(true, Ordering::Relaxed);
        self.pass(LAST_WRITES_MS);
        self.shared.has_clients.store(false, Ordering::Relaxed);
        self.settle("the last writes");
        if self.shared.witness.violation().is_none() {
            self.shared.witness.finish();
            if let Err(what) = quiet::check(&self.processes()) {
                self.shared.witness.fail("quiet", what);
            }
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
        if let Err(error) = self.sim.step() {
            self.shared.witness.fail("run", format!("a node ended: {error}"));
        }
        self.now_ms += 1;
        self.shared.witness.set_now(self.now_ms);
        if let Some(panic) = crate::take_panic() {
            self.shared.witness.fail("run", format!("a panic: {panic}"));
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
            Action::Control => {
                let running = self.processes();
                for (node, in_ms) in
                    self.control.decide(self.now_ms, &running, &self.machines, &self.shared, &mut self.random)
                {
                    self.plan(in_ms, Action::Deliver(node));
                }
                self.plan(20, Action::Control);
            }
            Action::Deliver(node) => self.control.deliver(&self.machines[node]),
            Action::Start(node) => self.start(node),
            Action::Rejoin(a, b, cut) => self.rejoin(a, b, cut),
            Action::Hurry(node) => self.machines[node].pause_ms.store(0, Ordering::Relaxed),
            Action::MakeRoom(node) => self.machines[node].switches.is_full.store(false, Ordering::Relaxed),
        }
    }

    fn fault(&self, what: String) {
        self.shared.witness.tell(Event::Fault(what));
    }

    fn begin_fault(&mut self) {
        let node = self.random.random_range(0..self.scenario.nodes);
        let other = (node + self.random.random_range(1..self.scenario.nodes)) % self.scenario.nodes;
        let long = self.random.random_range(10..2500);
        match self.random.random_range(0..16) {
            0..2 => self.cut(node, other, Cut::Refused, long),
            2..4 => self.cut(node, other, Cut::Held, long),
            4..6 => self.cut(node, other, Cut::OneWay, long),
            6 => {
                let cut = *[Cut::Refused, Cut::Held].choose(&mut self.random).expect("there are two");
                (0..self.scenario.nodes)
                    .filter(|other| *other != node)
                    .for_each(|other| self.cut(node, other, cut, long));
            }
            7..10 => self.crash(node, false, long),
            10..12 => self.crash(node, self.scenario.has_power_losses, long),
            12 => {
                let pause = self.random.random_range(1..60);
                self.fault(format!("slow reader: node {node}, {pause} ms"));
                self.machines[node].pause_ms.store(pause, Ordering::Relaxed);
                self.plan(long, Action::Hurry(node));
            }
            13 => {
                self.fault(format!("full disk: node {node}"));
                self.machines[node].switches.is_full.store(true, Ordering::Relaxed);
                self.plan(long, Action::MakeRoom(node));
            }
            _ => {
                self.fault("handover".to_owned());
                self.control.hand_over(self.now_ms, &self.shared, &mut self.random);
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

    fn crash(&mut self, node: usize, power: bool, ms: u64) {
        let machine = Arc::clone(&self.machines[node]);
        if machine.process.lock().take().is_none() {
            return;
        }
        self.control.end_leases(node, &self.shared);
        if power && !self.cuts.iter().any(|(a, b)| *a == node || *b == node) {
            // Nobody says good-bye.
            (0..self.scenario.nodes)
                .filter(|other| *other != node)
                .for_each(|other| self.cut(node, other, Cut::Refused, ms));
        }
        self.sim.crash(host(node));
        let lost_bytes = machine.disk.lock().lose(power, &mut self.random);
        self.shared.witness.tell(Event::Crashed { node, power, lost_bytes });
        self.plan(ms, Action::Start(node));
    }

    fn start(&mut self, node: usize) {
        if self.machines[node].process.lock().is_none() {
            self.sim.bounce(host(node));
            let in_ms = self.random.random_range(0..300);
            self.plan(in_ms, Action::Deliver(node));
        }
    }

    /// No more faults; those that last end.
    fn calm(&mut self) {
        self.has_faults = false;
        self.control.end_chains();
        (0..self.scenario.nodes).for_each(|node| self.plan(100, Action::Deliver(node)));
        self.shared.has_clients.store(false, Ordering::Relaxed);
        self.sim.set_fail_rate(0.0);
        // Small windows and long ways would take minutes for what was written in seconds.
        self.sim.set_max_message_latency(Duration::from_millis(2));
        let lasting: Vec<Action> = std::mem::take(&mut self.agenda).into_values().collect();
        for action in lasting {
            match action {
                Action::Control | Action::Deliver(_) => self.plan(1, action),
                Action::Fault => {}
                _ => self.act(action),
            }
        }
        for (a, b) in (0..self.scenario.nodes).flat_map(|b| (0..b).map(move |a| (a, b))) {
            // What chance broke stays broken until somebody sends.
            self.sim.repair(host(a), host(b));
        }
    }

    fn processes(&self) -> Vec<Process> {
        self.machines.iter().filter_map(|machine| machine.process.lock().clone()).collect()
    }

    /// Waits until all copies are equal and everybody counts.
    fn settle(&mut self, after: &str) {
        let begun = self.now_ms;
        while !self.is_settled() && self.shared.witness.violation().is_none() {
            self.step();
            if self.now_ms > begun + QUIET_MS_MAX {
                let state = self.describe();
                let what = format!("copies differ {QUIET_MS_MAX} ms after {after}\n{state}");
                return self.shared.witness.fail("quiet", what);
            }
        }
    }

    fn is_settled(&self) -> bool {
        let processes = self.processes();
        processes.len() == self.scenario.nodes
            && self.control.is_settled()
            && quiet::is_quiet(&processes)
            && processes.iter().all(|process| self.is_followed(process))
    }

    /// Whether all other nodes have all of the partitions that this one is the primary of.
    fn is_followed(&self, process: &Process) -> bool {
        let written = *process.data.written().borrow();
        let mine = (0..self.scenario.node.data.partitions)
            .map(PartitionId)
            .filter(|id| self.shared.leases.of(*id).is_some_and(|(node, _)| node == process.data.node));
        mine.into_iter().all(|id| process.replication.acknowledged(id, WriteConcern::All) >= written)
    }

    fn describe(&self) -> String {
        let of = |process: &Process| {
            let points: Vec<_> = (0..self.scenario.node.data.partitions)
                .map(|id| process.data.point(PartitionId(id)))
                .collect();
            format!(
                "node {}: written {}\n  points {points:?}\n  upstream {:?}\n  followers {:?}",
                process.data.node,
                *process.data.written().borrow(),
                process.replication.upstream(),
                process.replication.followers()
            )
        };
        self.processes().iter().map(of).collect::<Vec<_>>().join("\n")
    }
}

fn settings_of(scenario: &Scenario) -> NodeSettings {
    let mut settings = scenario.node;
    if scenario.plant == Plant::IgnoresTheWindow {
        settings.sizes.window = u64::MAX;
    }
    settings
}

fn invariants(scenario: &Scenario) -> Vec<(&'static str, Box<dyn Invariant>)> {
    let sizes = scenario.node.sizes;
    let memory = Memory::new(sizes.window, sizes.batch.max(sizes.chunk), scenario.record_bytes());
    vec![
        ("prefix", Box::new(Prefix)),
        ("never_back", Box::new(NeverBack::default())),
        ("majority", Box::new(Majority::new(scenario.is_safe))),
        ("lost", Box::new(Lost::default())),
        ("memory", Box::new(memory)),
    ]
}
