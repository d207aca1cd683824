//! Client libraries, as they come, while primaries are killed: what an application sees, how long it waits, and that nothing acknowledged is
//! gone. Clients connected to a node that stays see no error; those of Sentinels and of Redis Cluster may see what their library cannot
//! hide, and go on by themselves.
//!
//! A library's clients are a program of its language (`tests/clients/failover.*`), or a thread (`redis_rs.rs`); both tell of each
//! write in the form that those describe.

use crate::fleet::{Fleet, WITHIN};
use crate::rounds;
use crate::support::{Chance, wait_until};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const ROUNDS: u64 = 3;
/// Longer than a library that has lost its connection takes to end.
const END_WITHIN: Duration = Duration::from_secs(40);

/// What became of a write of a client, or of its read.
#[derive(Clone, Debug)]
pub struct Event {
    /// The client's name.
    pub client: String,
    /// When it was called, in microseconds of the monotonic clock.
    pub called_us: u64,
    /// When it returned.
    pub returned_us: u64,
    /// What came of it.
    pub outcome: Outcome,
}

/// See [`Event`].
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The key was written, acknowledged, and read with the value that was written.
    Ok(String),
    /// The same, but read with another value, or none.
    Wrong(String),
    /// The application got an error.
    Error(String),
}

/// What clients tell, as it comes.
#[derive(Clone, Default)]
pub struct Events(Arc<Mutex<Vec<Event>>>);

impl Events {
    /// Adds one.
    pub fn add(&self, event: Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }

    /// What is there.
    pub fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until each of these clients has written with success, called after this moment.
    fn await_writes(&self, clients: &[Spec], since_us: u64) {
        let has_written = |client: &Spec| {
            let is_it = |event: &&Event| event.client == client.name && event.called_us > since_us;
            self.all().iter().filter(is_it).any(|event| matches!(event.outcome, Outcome::Ok(_)))
        };
        wait_until("every client writes", WITHIN, || clients.iter().all(has_written));
    }
}

/// A client that is to work.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Its name, which its keys begin with.
    pub name: String,
    /// `plain`, `sentinel`, `cluster`, or what else the library has: those that begin with `plain` must see no error.
    pub kind: &'static str,
    /// Addresses it is told of.
    pub nodes: Vec<String>,
}

/// Clients that work, until they are told to end.
pub trait Clients {
    /// Ends them, and waits for that.
    fn end(self: Box<Self>);
}

/// A library.
pub trait Library {
    /// Its name.
    fn name(&self) -> &'static str;
    /// Begins these clients on the clients' host; they tell what they see.
    fn start(&self, fleet: &Fleet, clients: &[Spec], events: Events) -> Box<dyn Clients>;
}

/// Now, in microseconds of the clock that all processes share.
pub fn now_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

/// A library whose clients are a program.
struct Script {
    name: &'static str,
    interpreter: &'static str,
    script: &'static str,
}

const REDIS_PY: Script = Script {
    name: "redis-py",
    interpreter: concat!(env!("CARGO_MANIFEST_DIR"), "/target/python/bin/python"),
    script: concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/failover.py"),
};
const IOREDIS: Script = Script {
    name: "ioredis",
    interpreter: "node",
    script: concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/failover.js"),
};
/// Where `tests/run` puts packages for node.
const NODE_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/node/node_modules");

struct Process {
    child: Child,
    /// The program ends when this does.
    input: Option<ChildStdin>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Library for Script {
    fn name(&self) -> &'static str {
        self.name
    }

    fn start(&self, fleet: &Fleet, clients: &[Spec], events: Events) -> Box<dyn Clients> {
        let arguments = clients
            .iter()
            .map(|client| format!("{}={}@{}", client.name, client.kind, client.nodes.join(",")));
        let mut child = Command::new("nsenter")
            .arg(format!("--net={}", fleet.lab.namespace_path(crate::lab::CLIENTS)))
            .args([self.interpreter, self.script])
            .args(arguments)
            .env("NODE_PATH", NODE_PATH)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("nsenter is part of util-linux");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let reader = std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| events.add(event(&line)));
        });
        Box::new(Process { input: child.stdin.take(), child, reader: Some(reader) })
    }
}

impl Clients for Process {
    fn end(mut self: Box<Self>) {
        self.input = None;
        let child = &mut self.child;
        wait_until("the clients end", END_WITHIN, || child.try_wait().is_ok_and(|status| status.is_some()));
        self.reader.take().map(std::thread::JoinHandle::join);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended, or the test fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line of a program.
fn event(line: &str) -> Event {
    let mut words = line.splitn(5, ' ');
    let mut word = || words.next().unwrap_or_else(|| panic!("a line of five words: {line:?}")).to_owned();
    let (client, called, returned, kind, rest) = (word(), word(), word(), word(), word());
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("a moment: {line:?}"));
    let outcome = match kind.as_str() {
        "ok" => Outcome::Ok(rest),
        "wrong" => Outcome::Wrong(rest),
        _ => Outcome::Error(rest),
    };
    Event { client, called_us: number(&called), returned_us: number(&returned), outcome }
}

/// What was seen of a kind of client over all rounds.
#[derive(Default)]
struct Figures {
    pauses_ms: Vec<u64>,
    errors: BTreeMap<String, u64>,
    acknowledged: usize,
}

/// Kills a primary under the library's clients, so many times; plain ones at the nodes that stay, and one that knows all nodes of each of
/// these kinds.
fn kill_primaries(fleet: &mut Fleet, library: &dyn Library, kinds: &[&'static str], mut chance: Chance) {
    let mut figures: BTreeMap<&str, Figures> = BTreeMap::new();
    for round in 1..=rounds(ROUNDS) {
        let victim = if fleet.is_spread() {
            fleet.await_spread();
            1 + chance.below(3) as usize
        } else {
            fleet.await_whole()
        };
        let clients = specs(fleet, victim, kinds, round);
        let events = Events::default();
        let running = library.start(fleet, &clients, events.clone());
        events.await_writes(&clients, 0);
        std::thread::sleep(Duration::from_millis(300 + chance.below(400)));
        let killed_us = now_us();
        fleet.kill(victim);
        events.await_writes(&clients, killed_us);
        // Some have not come to what the killed one answered for.
        std::thread::sleep(Duration::from_millis(1500));
        events.await_writes(&clients, now_us());
        running.end();
        fleet.start_node(victim);
        check(fleet, &clients, &events.all(), killed_us, &mut figures);
    }
    for (kind, Figures { mut pauses_ms, errors, acknowledged }) in figures {
        pauses_ms.sort_unstable();
        eprintln!(
            "{} {kind}: {acknowledged} acknowledged, none missing; milliseconds without one: {pauses_ms:?}; errors: {errors:?}",
            library.name()
        );
    }
}

/// Whether clients of this kind know one server only.
fn has_one_server(kind: &str) -> bool {
    kind.starts_with("plain") || kind.starts_with("hasty")
}

/// A plain client at each node that stays, and one of each kind that is told of all nodes, the one that is killed first.
fn specs(fleet: &Fleet, victim: usize, kinds: &[&'static str], round: u64) -> Vec<Spec> {
    let others = fleet.others(&[victim]);
    let address = |node: &usize| fleet.socket_address(*node).to_string();
    let name = |what: &str| format!("{what}-{round}-{}", now_us());
    let plain = others.iter().map(|node| Spec {
        name: name(&format!("plain{node}")),
        kind: "plain",
        nodes: vec![address(node)],
    });
    let nodes: Vec<String> = [victim].iter().chain(&others).map(address).collect();
    let more = kinds.iter().map(|kind| {
        // A client of one server is a client of one that stays.
        let nodes = if has_one_server(kind) { nodes[1..].to_vec() } else { nodes.clone() };
        Spec { name: name(kind), kind, nodes }
    });
    plain.chain(more).collect()
}

fn check(
    fleet: &Fleet,
    clients: &[Spec],
    events: &[Event],
    killed_us: u64,
    figures: &mut BTreeMap<&str, Figures>,
) {
    for client in clients {
        let own: Vec<&Event> = events.iter().filter(|event| event.client == client.name).collect();
        let figures = figures.entry(client.kind).or_default();
        let mut acknowledged_us = vec![killed_us];
        let mut keys = Vec::new();
        for event in own {
            match &event.outcome {
                Outcome::Ok(key) => keys.push(key.as_str()),
                Outcome::Wrong(key) => panic!("{key} was acknowledged and read otherwise: {event:?}"),
                Outcome::Error(text) => {
                    assert!(
                        !client.kind.starts_with("plain"),
                        "a client of a node that stayed saw an error: {event:?}"
                    );
                    *figures.errors.entry(text.chars().take(80).collect()).or_default() += 1;
                    continue;
                }
            }
            acknowledged_us.push(event.returned_us);
        }
        acknowledged_us.retain(|at| *at >= killed_us);
        acknowledged_us.sort_unstable();
        let pause_us = acknowledged_us.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        figures.pauses_ms.push(pause_us / 1000);
        figures.acknowledged += keys.len();
        check_there(fleet, client, &keys);
    }
}

/// Fails unless each key has the value that its client gave it: the number its name ends with.
fn check_there(fleet: &Fleet, client: &Spec, keys: &[&str]) {
    let address = &client.nodes[client.nodes.len() - 1];
    let through =
        fleet.everybody().into_iter().find(|node| fleet.socket_address(*node).to_string() == *address);
    let mut connection = fleet.connect(through.expect("it is a node's"), WITHIN).expect("it runs");
    for key in keys {
        let value = connection.try_ask(&["GET", key]).expect("the cluster answers");
        let wanted = format!("\"{}\"", key.rsplit(':').next().unwrap_or_default());
        assert_eq!(value.to_string(), wanted, "{key} was acknowledged");
    }
}

/// Plain clients and those of Sentinels, on a cluster whose primaries are all on one node.
pub fn with_one_primary(library: &dyn Library, kinds: &[&'static str]) {
    let chance = Chance::seeded(library.name());
    let mut fleet = Fleet::start(3, &["--write-concern", "majority"]);
    kill_primaries(&mut fleet, library, kinds, chance);
}

/// Plain clients and those of Redis Cluster, on a cluster whose primaries are spread over the nodes.
pub fn with_primaries_spread(library: &dyn Library, kinds: &[&'static str]) {
    let chance = Chance::seeded(library.name());
    let mut fleet = Fleet::start(3, &["--write-concern", "majority", "--cluster-enabled", "yes"]);
    kill_primaries(&mut fleet, library, kinds, chance);
}

#[test]
fn redis_py_goes_on_when_a_primary_is_killed() {
    with_one_primary(&REDIS_PY, &["sentinel"]);
}

#[test]
fn redis_py_goes_on_when_one_of_several_primaries_is_killed() {
    with_primaries_spread(&REDIS_PY, &["cluster"]);
}

#[test]
fn ioredis_goes_on_when_a_primary_is_killed() {
    with_one_primary(&IOREDIS, &["sentinel", "detector"]);
}

#[test]
fn ioredis_goes_on_when_one_of_several_primaries_is_killed() {
    with_primaries_spread(&IOREDIS, &["cluster"]);
}
