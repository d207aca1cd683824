//! The witness: is told everything that happens, asks each invariant about it, and keeps a trace that is the same for the same
//! seed.

use crate::seeds::Violation;
use larder::cluster::map::ClusterMap;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// Events that are shown when a seed fails, unless `LARDER_EVENTS` says how many.
const SHOWN: usize = 120;

/// What happens. Nodes are known by number.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "some of it is there to be shown")]
pub enum Event {
    /// A process began.
    Started { node: usize },
    /// A process ended.
    Crashed { node: usize },
    /// A node leads.
    Leads { node: usize, term: u64 },
    /// A quorum has said that a node leads in this term; it was asked at `asked_us`.
    Confirmed { node: usize, term: u64, asked_us: u64 },
    /// A client was told that its command, which was for the time after `epoch`, was decided.
    Decided { node: usize, epoch: u64, command: i64, asked_us: u64 },
    /// A node has a map.
    Sees { node: usize, map: Seen },
    /// A voter was cut off from all others, while nothing else was wrong and this one led.
    Away { node: usize, leader: usize, term: u64 },
    /// Who votes was changed.
    Voters { node: usize, voters: Vec<usize> },
    /// A fault begins or ends.
    Fault(String),
}

/// A map, shown by its version.
#[derive(Clone)]
pub struct Seen(pub Arc<ClusterMap>);

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let last = self.0.failovers.back().map(|last| (last.epoch.0, last.at_ms));
        write!(f, "version {}, {last:?}", self.0.version)
    }
}

impl Event {
    /// What is counted.
    fn kind(&self) -> &str {
        match self {
            Event::Started { .. } => "starts",
            Event::Crashed { .. } => "kills",
            Event::Leads { .. } => "leaders",
            Event::Confirmed { .. } => "confirmations",
            Event::Decided { .. } => "decisions",
            Event::Sees { .. } => "maps seen",
            Event::Away { .. } => "voters away alone",
            Event::Voters { .. } => "changes of voters",
            Event::Fault(what) => what.split(':').next().unwrap_or_default(),
        }
    }
}

/// What must always hold.
pub trait Invariant: Send {
    /// Looks at what has happened now.
    fn observe(&mut self, now_us: u64, event: &Event) -> Result<(), String>;
}

/// See the module.
pub struct Witness(Mutex<Inner>);

struct Inner {
    invariants: Vec<(&'static str, Box<dyn Invariant>)>,
    now_us: u64,
    commands: i64,
    hash: Xxh3,
    recent: VecDeque<String>,
    shown: usize,
    counts: BTreeMap<String, u64>,
    violation: Option<Violation>,
    last_decision_us: u64,
}

impl Witness {
    /// One that looks at these.
    pub fn new(invariants: Vec<(&'static str, Box<dyn Invariant>)>) -> Witness {
        Witness(Mutex::new(Inner {
            invariants,
            now_us: 0,
            commands: 0,
            hash: Xxh3::new(),
            recent: VecDeque::new(),
            shown: crate::number("LARDER_EVENTS", SHOWN as u64) as usize,
            counts: BTreeMap::new(),
            violation: None,
            last_decision_us: 0,
        }))
    }

    /// Something happens. Inside a node the time is that of its next step.
    pub fn tell(&self, event: Event) {
        let inner = &mut *self.0.lock();
        let now_us = turmoil::sim_elapsed().map_or(inner.now_us, |now| now.as_micros() as u64);
        inner.now_us = inner.now_us.max(now_us);
        let line = format!("{:>9.3} ms  {event:?}", now_us as f64 / 1000.0);
        inner.hash.update(line.as_bytes());
        if inner.recent.len() == inner.shown {
            inner.recent.pop_front();
        }
        inner.recent.push_back(line);
        *inner.counts.entry(event.kind().to_owned()).or_default() += 1;
        if let Event::Decided { .. } = event {
            inner.last_decision_us = now_us;
        }
        let broken = inner
            .invariants
            .iter_mut()
            .find_map(|(name, invariant)| Some((*name, invariant.observe(now_us, &event).err()?)));
        if let Some((invariant, what)) = broken {
            inner.fail(invariant, &what);
        }
    }

    /// Something is wrong.
    pub fn fail(&self, invariant: &'static str, what: &str) {
        self.0.lock().fail(invariant, what);
    }

    /// The time now, for who is not inside a node.
    pub fn set_now(&self, now_ms: u64) {
        let inner = &mut *self.0.lock();
        inner.now_us = inner.now_us.max(now_ms * 1000);
    }

    /// A number for a command, given once.
    pub fn command(&self) -> i64 {
        let inner = &mut *self.0.lock();
        inner.commands += 1;
        inner.commands
    }

    /// When a client was last told that something was decided.
    pub fn last_decision_us(&self) -> u64 {
        self.0.lock().last_decision_us
    }

    /// What was broken first, if anything was.
    pub fn violation(&self) -> Option<Violation> {
        self.0.lock().violation.clone()
    }

    /// A number that stands for all that has happened.
    pub fn trace(&self) -> u64 {
        self.0.lock().hash.digest()
    }

    /// How often each kind of thing has happened.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.0.lock().counts.clone()
    }
}

impl Inner {
    fn fail(&mut self, invariant: &'static str, what: &str) {
        if self.violation.is_none() {
            let recent: Vec<String> = self.recent.iter().cloned().collect();
            let story = format!("{}\n{invariant}: {what}", recent.join("\n"));
            self.violation = Some(Violation { invariant, story });
        }
    }
}
