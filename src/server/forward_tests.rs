//! Several nodes in one process: commands that reach one and are run by another, and everything that may come in between.

use super::connection_tests::Connected;
use super::serving::Serving;
use crate::base::ids::{NodeId, PartitionId};
use crate::cluster::bus::{CallError, Serve};
use crate::config::Parameters;
use crate::replication::assignment::Assignment;
use crate::session::forwarding::message::{
    Again, Caller, Concern, Moment, Outcome, Request, RequestId, Task, Unit,
};
use crate::session::forwarding::{Forwarding, Route};
use crate::session::multi::Queued;
use crate::session::service::Service;
use crate::store::{PartitionSet, Store};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// Partitions of each node.
pub(super) const PARTITIONS: u16 = 4;

/// What happens to requests on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is known not to have arrived.
    NotSent,
    /// It is lost, which nobody knows.
    RequestLost,
    /// It is carried out and the answer is lost.
    AnswerLost,
    /// The primary dies before it has carried it out.
    DiesBefore,
    /// The primary dies when it has carried it out.
    DiesAfter,
}

#[derive(Default)]
struct World {
    nodes: Vec<Arc<Service>>,
    /// By partition: whoever all nodes hold for the primary.
    primaries: Vec<Option<usize>>,
    /// Nodes that hold another one for the primary of everything.
    mistaken: HashMap<usize, usize>,
    /// What happens to the requests that come next.
    fates: Vec<Fate>,
    /// Records of each node that the others do not have.
    records: Vec<Arc<Mutex<Vec<Vec<u8>>>>>,
    /// Requests that were sent.
    sent: usize,
}

/// Nodes that reach each other.
pub(super) struct Mesh {
    world: Mutex<World>,
    changes: watch::Sender<u64>,
}

/// What a node has of the mesh.
struct Link {
    mesh: Weak<Mesh>,
    me: usize,
}

pub(super) fn node(number: usize) -> NodeId {
    NodeId([number as u8 + 1; 20])
}

impl Mesh {
    /// So many nodes with these settings, the first of which is primary of everything.
    pub(super) fn new(count: usize, directives: &[&str]) -> Arc<Mesh> {
        let mesh = Arc::new(Mesh { world: Mutex::default(), changes: watch::Sender::new(0) });
        for me in 0..count {
            let records: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
            let kept = Arc::clone(&records);
            let recorder = move |record: &[u8]| {
                let mut kept = kept.lock();
                kept.push(record.to_vec());
                kept.len() as u64
            };
            let store = Arc::new(Store::recorded(PARTITIONS, 16, Box::new(recorder)));
            let parameters = Parameters::with(directives).expect("valid");
            let service = Arc::new(Service::new(parameters, store, crate::commands::table::full_names()));
            service.forwarding.begin(Arc::new(Link { mesh: Arc::downgrade(&mesh), me }));
            let mut world = mesh.world.lock();
            world.nodes.push(service);
            world.records.push(records);
        }
        mesh.world.lock().primaries = vec![None; usize::from(PARTITIONS)];
        mesh.promote(Some(0));
        // Nodes remember since before the first request is sent, by more than their clocks may differ over what a test takes.
        std::thread::sleep(Duration::from_millis(10));
        mesh
    }

    pub(super) fn service(&self, number: usize) -> Arc<Service> {
        Arc::clone(&self.world.lock().nodes[number])
    }

    /// A client of this node.
    pub(super) fn client(&self, number: usize) -> Connected {
        Connected::to(&self.service(number))
    }

    /// Makes this node primary of everything, with all that the one before had if that was replicated; nobody is until then.
    pub(super) fn promote(&self, number: Option<usize>) {
        for (other, service) in self.world.lock().nodes.clone().iter().enumerate() {
            if Some(other) != number {
                service.assign(Assignment::replica(PARTITIONS, 2, "primary", 1));
            }
        }
        if let Some(number) = number {
            self.service(number).assign(Assignment::primary(PARTITIONS, 2));
        }
        self.world.lock().primaries.fill(number);
        self.tell();
    }

    /// Makes these nodes primaries of the partitions, by number.
    pub(super) fn spread(&self, primaries: &[usize]) {
        for (number, service) in self.world.lock().nodes.clone().iter().enumerate() {
            for (id, primary) in primaries.iter().enumerate() {
                service.store.set_primary(PartitionId(id as u16), *primary == number);
            }
        }
        self.world.lock().primaries = primaries.iter().copied().map(Some).collect();
        self.tell();
    }

    /// One node believes that this one is the primary.
    pub(super) fn mislead(&self, number: usize, primary: Option<usize>) {
        let mut world = self.world.lock();
        match primary {
            Some(primary) => _ = world.mistaken.insert(number, primary),
            None => _ = world.mistaken.remove(&number),
        }
        drop(world);
        self.tell();
    }

    /// These happen to the next requests.
    pub(super) fn lose(&self, fates: &[Fate]) {
        self.world.lock().fates = fates.iter().rev().copied().collect();
    }

    /// How many requests were sent.
    pub(super) fn sent(&self) -> usize {
        self.world.lock().sent
    }

    /// Gives the others everything that this node has changed.
    pub(super) fn replicate(&self, from: usize) {
        let (nodes, records) = {
            let world = self.world.lock();
            (world.nodes.clone(), std::mem::take(&mut *world.records[from].lock()))
        };
        for (number, service) in nodes.iter().enumerate().filter(|(number, _)| *number != from) {
            for record in &records {
                service.store.apply(record).unwrap_or_else(|error| panic!("node {number}: {error:?}"));
            }
            self.world.lock().records[number].lock().clear();
        }
    }

    fn tell(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

#[async_trait]
impl Forwarding for Link {
    fn me(&self) -> NodeId {
        node(self.me)
    }

    fn partition_count(&self) -> u16 {
        PARTITIONS
    }

    fn primary(&self, partition: PartitionId) -> Route {
        let Some(mesh) = self.mesh.upgrade() else { return Route::Nobody };
        let world = mesh.world.lock();
        let known = world.primaries[usize::from(partition.0)];
        match known.map(|known| world.mistaken.get(&self.me).copied().unwrap_or(known)) {
            None => Route::Nobody,
            Some(primary) if primary == self.me => Route::Here,
            Some(primary) => Route::There(node(primary)),
        }
    }

    fn has_copy(&self, _: &PartitionSet) -> bool {
        true
    }

    fn address(&self, node: NodeId) -> Option<(String, u16)> {
        Some((format!("host{}", node.0[0]), 6379))
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.mesh.upgrade().expect("the test goes on").changes.subscribe()
    }

    async fn forward(&self, to: NodeId, request: Vec<u8>, _: Duration) -> Result<Vec<u8>, CallError> {
        let mesh = self.mesh.upgrade().expect("the test goes on");
        let (fate, service) = {
            let mut world = mesh.world.lock();
            world.sent += 1;
            (world.fates.pop(), Arc::clone(&world.nodes[usize::from(to.0[0]) - 1]))
        };
        match fate {
            Some(Fate::NotSent) => return Err(CallError::NotSent("no connection".to_owned())),
            Some(Fate::RequestLost) => return Err(CallError::Unknown("it broke".to_owned())),
            Some(Fate::DiesBefore) => {
                mesh.promote(None);
                return Err(CallError::Unknown("it broke".to_owned()));
            }
            _ => {}
        }
        let answer = Serving(service).serve(node(self.me), request).await;
        match fate {
            Some(Fate::AnswerLost) => Err(CallError::Unknown("it broke".to_owned())),
            Some(Fate::DiesAfter) => {
                mesh.promote(None);
                Err(CallError::Unknown("it broke".to_owned()))
            }
            _ => answer.ok_or_else(|| CallError::Unknown("it was closed".to_owned())),
        }
    }
}

const UNKNOWN: &str =
    "-UNKNOWN The connection to the primary broke: whether the command was carried out is not known.|";
const NO_PRIMARY: &str = "-CLUSTERDOWN There was no primary for this data within failover-wait|";

#[tokio::test(start_paused = true)]
async fn a_command_runs_where_its_data_is() {
    let mesh = Mesh::new(2, &[]);
    let (mut near, mut far) = (mesh.client(0), mesh.client(1));
    far.send("SET key 1|GET key|INCR key|GET nothing|HGETALL key|nonsense|SELECT 3|SET key 9|DBSIZE|PING|")
        .await;
    far.expect("+OK|$1|1|:2|$-1|").await;
    far.expect("-WRONGTYPE Operation against a key holding the wrong kind of value|").await;
    far.expect("-ERR unknown command 'nonsense', with args beginning with: |+OK|+OK|:1|+PONG|").await;
    near.send("GET key|SELECT 3|GET key|").await;
    near.expect("$1|2|+OK|$1|9|").await;
    far.send("HELLO 3|HSET hash f 1|HGETALL hash|").await;
    let mut line = far.line().await;
    while line != "*0" {
        line = far.line().await;
    }
    far.expect(":1|%1|$1|f|$1|1|").await;
}

#[tokio::test(start_paused = true)]
async fn consecutive_commands_are_one_request() {
    let mesh = Mesh::new(2, &[]);
    let mut client = mesh.client(1);
    client.send("SET a 1|SET b 2|MGET a b|PING|GET a|GET b|").await;
    client.expect("+OK|+OK|*2|$1|1|$1|2|+PONG|$1|1|$1|2|").await;
    assert_eq!(mesh.sent(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_sent_everything_gets_its_replies() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mesh = Mesh::new(2, &[]);
    let mut client = mesh.client(1);
    client.send("SET a 1|GET a|").await;
    client.0.shutdown().await.expect("open");
    let mut told = String::new();
    client.0.read_to_string(&mut told).await.expect("text");
    assert_eq!(told, "+OK\r\n$1\r\n1\r\n");
}

#[tokio::test(start_paused = true)]
async fn silenced_replies_stay_silent() {
    let mesh = Mesh::new(2, &[]);
    let mut client = mesh.client(1);
    client.send("CLIENT REPLY SKIP|SET a 1|GET a|CLIENT REPLY OFF|SET a 2|CLIENT REPLY ON|GET a|").await;
    client.expect("$1|1|+OK|$1|2|").await;
}

#[tokio::test(start_paused = true)]
async fn commands_wait_for_a_primary_and_go_to_it() {
    let mesh = Mesh::new(3, &[]);
    let (mut old, mut survivor) = (mesh.client(0), mesh.client(1));
    old.send("SET key 1|").await;
    old.expect("+OK|").await;
    mesh.replicate(0);
    mesh.promote(None);
    survivor.send("INCR key|GET key|PING|").await;
    old.send("INCR key|").await;
    survivor.expect_nothing().await;
    old.expect_nothing().await;
    assert_eq!(mesh.service(1).forwarding.parked.commands(), 2);
    mesh.promote(Some(2));
    let first = survivor.line().await;
    assert!(first == ":2" || first == ":3");
    survivor.line().await;
    survivor.line().await;
    survivor.expect("+PONG|").await;
    old.line().await;
    survivor.send("GET key|").await;
    survivor.expect("$1|3|").await;
    assert_eq!(mesh.service(1).forwarding.parked.commands(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_node_that_becomes_primary_itself_runs_what_waits_at_it() {
    let mesh = Mesh::new(2, &[]);
    mesh.promote(None);
    let mut client = mesh.client(1);
    client.send("SET key 1|GET key|").await;
    client.expect_nothing().await;
    mesh.promote(Some(1));
    client.expect("+OK|$1|1|").await;
    assert_eq!(mesh.sent(), 0);
}

#[tokio::test(start_paused = true)]
async fn without_a_primary_commands_fail_in_the_end_and_the_connection_goes_on() {
    let mesh = Mesh::new(2, &["failover-wait 1000"]);
    mesh.promote(None);
    let mut client = mesh.client(1);
    client.send("SET key 1|GET key|PING|").await;
    client.expect(&format!("{NO_PRIMARY}{NO_PRIMARY}+PONG|")).await;
    mesh.promote(Some(0));
    client.send("GET key|").await;
    client.expect("$-1|").await;
}

#[tokio::test(start_paused = true)]
async fn too_much_does_not_wait() {
    let mesh = Mesh::new(2, &[]);
    mesh.promote(None);
    assert!(mesh.service(1).forwarding.parked.enter(65_536, 0));
    let mut client = mesh.client(1);
    client.send("SET key 1|").await;
    client
        .expect("-TRYAGAIN There is no primary for this data, and too many commands wait for one already|")
        .await;
}

#[tokio::test(start_paused = true)]
async fn who_is_not_the_primary_runs_nothing_and_nothing_goes_in_circles() {
    let mesh = Mesh::new(3, &["failover-wait 1000"]);
    mesh.mislead(1, Some(2));
    let mut client = mesh.client(1);
    client.send("SET key 1|").await;
    client.expect(NO_PRIMARY).await;
    client.send("SET key 2|GET key|").await;
    client.expect_nothing().await;
    mesh.mislead(1, None);
    client.expect("+OK|$1|2|").await;
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_is_sent_again() {
    let mesh = Mesh::new(2, &[]);
    let mut client = mesh.client(1);
    mesh.lose(&[Fate::NotSent, Fate::NotSent]);
    client.send("INCR key|").await;
    client.expect(":1|").await;
    assert_eq!(mesh.sent(), 3);
}

#[tokio::test(start_paused = true)]
async fn big_values_go_both_ways() {
    let mesh = Mesh::new(2, &[]);
    let mut client = mesh.client(1);
    let value = "x".repeat(3 << 20);
    let big = value.clone();
    let (head, tail) = (format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", big.len()), "\r\nSTRLEN k|GET k|");
    client.send(&format!("{head}{big}{tail}")).await;
    client.expect(&format!("+OK|:{0}|${0}|{value}|", value.len())).await;
}

#[tokio::test(start_paused = true)]
async fn a_transaction_runs_elsewhere_as_one() {
    let mesh = Mesh::new(2, &[]);
    let (mut near, mut far) = (mesh.client(0), mesh.client(1));
    far.send(
        "MULTI|SET a 1|INCR a|HGET a f|CLIENT SETNAME me|SELECT 1|SET b 2|PING|GET b|EXEC|CLIENT GETNAME|",
    )
    .await;
    far.expect("+OK|+QUEUED|+QUEUED|+QUEUED|+QUEUED|+QUEUED|+QUEUED|+QUEUED|+QUEUED|").await;
    far.expect("*8|+OK|:2|-WRONGTYPE Operation against a key holding the wrong kind of value|").await;
    far.expect("+OK|+OK|+OK|+PONG|$1|2|$2|me|").await;
    far.send("GET b|MULTI|EXEC|MULTI|SET a|EXEC|MULTI|SET c 1|DISCARD|EXISTS c|").await;
    far.expect("$1|2|+OK|*0|+OK|-ERR wrong number of arguments for 'set' command|").await;
    far.expect("-EXECABORT Transaction discarded because of previous errors.|+OK|+QUEUED|+OK|:0|").await;
    near.send("GET a|SELECT 1|GET b|").await;
    near.expect("$1|2|+OK|$1|2|").await;
    assert_eq!(mesh.sent(), 3);
    far.send("MULTI|HSET hash f 1|HELLO 3|HGETALL hash|HELLO 2|HGETALL hash|EXEC|").await;
    far.expect("+OK|+QUEUED|+QUEUED|+QUEUED|+QUEUED|+QUEUED|*5|:1|%7|").await;
}

#[tokio::test(start_paused = true)]
async fn a_transaction_waits_for_a_primary_and_is_sent_again_as_one() {
    let mesh = Mesh::new(2, &[]);
    let mut client = mesh.client(1);
    mesh.promote(None);
    client.send("MULTI|INCR a|INCR b|EXEC|").await;
    client.expect("+OK|+QUEUED|+QUEUED|").await;
    client.expect_nothing().await;
    mesh.promote(Some(0));
    client.expect("*2|:1|:1|").await;
    mesh.lose(&[Fate::RequestLost]);
    client.send("MULTI|INCR a|GET b|EXEC|MULTI|GET a|EXEC|").await;
    client.expect("+OK|+QUEUED|+QUEUED|*2|:2|$1|1|+OK|+QUEUED|*1|$1|2|").await;
}

#[tokio::test(start_paused = true)]
async fn reads_of_a_copy_are_answered_here_if_that_is_wanted() {
    let mesh = Mesh::new(2, &[]);
    let mut client = mesh.client(1);
    client.send("SET key 1|GET key|READONLY|GET key|MULTI|GET key|EXEC|READWRITE|GET key|").await;
    client.expect("+OK|$1|1|+OK|$-1|+OK|+QUEUED|*1|$-1|+OK|$1|1|").await;
    client.send("CONFIG SET replica-reads any|GET key|SET key 2|GET key|").await;
    client.expect("+OK|$-1|+OK|$-1|").await;
    mesh.replicate(0);
    client.send("GET key|CONFIG SET replica-reads primary|READONLY|SET key 3|GET key|").await;
    client.expect("$1|2|+OK|+OK|+OK|$1|3|").await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_holds_forwarded_commands_at_both_ends() {
    let mesh = Mesh::new(2, &[]);
    for paused in [0, 1] {
        let (mut operator, mut client) = (mesh.client(paused), mesh.client(1));
        operator.send("CLIENT PAUSE 100000 WRITE|").await;
        operator.expect("+OK|").await;
        client.send("GET key|SET key 1|").await;
        client.expect("$-1|").await;
        client.expect_nothing().await;
        operator.send("CLIENT UNPAUSE|").await;
        operator.expect("+OK|").await;
        client.expect("+OK|").await;
        client.send("DEL key|").await;
        client.expect(":1|").await;
    }
}

#[tokio::test(start_paused = true)]
async fn replies_are_held_for_replicas_at_the_primary() {
    let mesh = Mesh::new(2, &["write-concern-timeout 100"]);
    let mut client = mesh.client(1);
    client.send("CLIENT WRITE-CONCERN one|SET key 1|CLIENT WRITE-CONCERN local|SET other 1|").await;
    client.expect("+OK|-NOREPLICAS Not enough good replicas to write.|+OK|+OK|").await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_ends_takes_what_it_waits_for_along() {
    let mesh = Mesh::new(2, &[]);
    mesh.promote(None);
    let mut client = mesh.client(1);
    client.send("SET key 1|").await;
    client.expect_nothing().await;
    let service = mesh.service(1);
    assert_eq!(service.forwarding.parked.commands(), 1);
    service.clients.list()[0].kill();
    let mut other = mesh.client(1);
    while service.forwarding.parked.commands() > 0 {
        tokio::task::yield_now().await;
    }
    mesh.promote(Some(0));
    other.send("EXISTS key|").await;
    other.expect(":0|").await;
}

#[tokio::test(start_paused = true)]
async fn keys_are_watched_where_they_are_changed() {
    let mesh = Mesh::new(2, &[]);
    let (mut near, mut far) = (mesh.client(0), mesh.client(1));
    far.send("SET a 1|WATCH a b|").await;
    far.expect("+OK|+OK|").await;
    far.send("MULTI|SET a 2|EXEC|WATCH a|WATCH b|MULTI|SET a 3|").await;
    far.expect("+OK|+QUEUED|*1|+OK|+OK|+OK|+OK|+QUEUED|").await;
    near.send("SET b 1|").await;
    near.expect("+OK|").await;
    far.send("EXEC|GET a|WATCH a|UNWATCH|MULTI|SET a 4|EXEC|").await;
    far.expect("*-1|$1|2|+OK|+OK|+OK|+QUEUED|*1|+OK|").await;
    far.send("WATCH a|MULTI|DISCARD|WATCH a|RESET|WATCH a|MULTI|SET|EXEC|WATCH a|").await;
    far.expect("+OK|+OK|+OK|+OK|+RESET|+OK|+OK|-ERR wrong number of arguments for 'set' command|").await;
    far.expect("-EXECABORT Transaction discarded because of previous errors.|+OK|").await;
    assert_eq!(mesh.service(0).forwarding.watches.len(), 1);
    drop(far);
    while !mesh.service(0).forwarding.watches.is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_does_not_outlive_its_primary() {
    let mesh = Mesh::new(3, &[]);
    let (mut near, mut far) = (mesh.client(0), mesh.client(2));
    near.send("WATCH a|").await;
    near.expect("+OK|").await;
    far.send("WATCH a|").await;
    far.expect("+OK|").await;
    mesh.promote(Some(1));
    for client in [&mut near, &mut far] {
        client.send("MULTI|SET a 1|EXEC|WATCH a|MULTI|SET b 1|EXEC|").await;
        client.expect("+OK|+QUEUED|*-1|+OK|+OK|+QUEUED|*1|+OK|").await;
    }
    near.send("WATCH a|").await;
    near.expect("+OK|").await;
    mesh.replicate(1);
    mesh.promote(Some(0));
    near.send("WATCH b|MULTI|GET b|EXEC|").await;
    near.expect("+OK|+OK|+QUEUED|*-1|").await;
    far.send("WATCH a|").await;
    far.expect("+OK|").await;
    mesh.promote(Some(1));
    mesh.promote(Some(0));
    far.send("MULTI|GET b|EXEC|").await;
    far.expect("+OK|+QUEUED|*-1|").await;
}

/// A follower of a primary that has everything up to this position.
fn follow(service: &Service, journaled: u64) {
    service.replication.with_progress(|progress| {
        *progress.follower(1) = crate::replication::progress::Follower {
            node: "a".to_owned(),
            in_step: (0..PARTITIONS).map(PartitionId).collect(),
            journaled,
            synced: journaled,
            ..Default::default()
        };
    });
}

#[tokio::test(start_paused = true)]
async fn wait_asks_the_node_that_has_made_the_change() {
    let mesh = Mesh::new(2, &[]);
    let (mut near, mut far) = (mesh.client(0), mesh.client(1));
    far.send("WAIT 0 0|WAIT x 0|WAIT 1 100|SET a 1|WAIT 1 100|WAIT 1 0|").await;
    far.expect(":0|-ERR value is not an integer or out of range|:0|+OK|:0|").await;
    far.expect_nothing().await;
    follow(&mesh.service(0), 0);
    far.expect_nothing().await;
    follow(&mesh.service(0), 1 << 40);
    far.expect(":1|").await;
    far.send("MULTI|WAIT 1 0|EXEC|WAIT 2 0|PING|").await;
    far.line().await;
    far.line().await;
    far.line().await;
    far.line().await;
    far.expect_nothing().await;
    let id = mesh.service(1).clients.list()[0].id;
    let mut operator = mesh.client(1);
    operator.send(&format!("CLIENT UNBLOCK {id} ERROR|")).await;
    operator.expect(":1|").await;
    far.expect("-UNBLOCKED client unblocked via CLIENT UNBLOCK|+PONG|").await;
    near.send("SET b 1|").await;
    near.expect("+OK|").await;
    far.send("SET c 1|").await;
    far.expect("+OK|").await;
    mesh.replicate(0);
    mesh.promote(Some(1));
    far.send("WAIT 1 0|SET c 2|WAIT 0 0|").await;
    far.expect(":0|+OK|:0|").await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_its_client() {
    let mesh = Mesh::new(2, &[]);
    let mut far = mesh.client(1);
    far.send("WAIT 1 0|").await;
    far.expect_nothing().await;
    assert_eq!(mesh.service(0).forwarding.waiting.lock().len(), 1);
    drop(far);
    while !mesh.service(0).forwarding.waiting.lock().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_wait_is_asked_for_again_and_ends_in_time() {
    let mesh = Mesh::new(2, &[]);
    let mut far = mesh.client(1);
    let begun = tokio::time::Instant::now();
    far.send("WAIT 1 100000|").await;
    tokio::time::sleep(Duration::from_secs(95)).await;
    far.expect_nothing().await;
    far.expect(":0|").await;
    assert!(mesh.sent() == 4 && begun.elapsed() < Duration::from_secs(101));
}

#[tokio::test(start_paused = true)]
async fn whatever_is_lost_on_the_way_a_change_is_carried_out_once() {
    for fate in [Fate::RequestLost, Fate::AnswerLost] {
        let mesh = Mesh::new(2, &[]);
        let mut client = mesh.client(1);
        mesh.lose(&[fate, fate, Fate::NotSent, fate, fate]);
        client.send("INCR key|").await;
        client.expect(":1|").await;
        mesh.lose(&[fate]);
        client.send("GET key|INCR key|SETNX key 5|HSET key f 1|INCR key|GET key|").await;
        client.line().await;
        client.line().await; // a read that is sent again may see what came behind it
        client.expect(":2|:0|").await;
        client.expect("-WRONGTYPE Operation against a key holding the wrong kind of value|").await;
        client.expect(":3|$1|3|").await;
        mesh.lose(&[fate]);
        client.send("MULTI|INCR key|PING|GET key|EXEC|INCR key|").await;
        client.expect("+OK|+QUEUED|+QUEUED|+QUEUED|*3|:4|+PONG|$1|4|:5|").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_of_a_survivor_sees_a_pause_when_the_primary_dies() {
    for (fate, is_replicated) in [(Fate::DiesBefore, true), (Fate::DiesAfter, true), (Fate::DiesAfter, false)]
    {
        for next in [1, 2] {
            let mesh = Mesh::new(3, &[]);
            let (mut client, mut other) = (mesh.client(1), mesh.client(2));
            client.send("SET key 10|").await;
            client.expect("+OK|").await;
            mesh.replicate(0);
            mesh.lose(&[fate]);
            client.send("INCR key|APPEND key x|SETNX key 1|MULTI|STRLEN key|APPEND key y|EXEC|").await;
            client.expect_nothing().await;
            if is_replicated {
                mesh.replicate(0);
            }
            mesh.promote(Some(next));
            client.expect(":11|:3|:0|+OK|+QUEUED|+QUEUED|*2|:3|:4|").await;
            other.send("GET key|").await;
            other.expect("$4|11xy|").await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_lost_is_remembered_if_others_came_behind_it() {
    let mesh = Mesh::new(2, &[]);
    let mut client = mesh.client(1);
    client.send("SET key x|").await;
    client.expect("+OK|").await;
    mesh.lose(&[Fate::AnswerLost]);
    client.send("INCR key|SET key 1|INCR key|INCR other|").await;
    client.expect("-ERR value is not an integer or out of range|+OK|:2|:1|").await;
}

#[tokio::test(start_paused = true)]
async fn without_a_primary_an_unknown_change_stays_unknown() {
    let mesh = Mesh::new(2, &["failover-wait 500"]);
    let mut client = mesh.client(1);
    mesh.lose(&[Fate::DiesAfter]);
    client.send("INCR key|GET key|").await;
    client.expect(&format!("{UNKNOWN}{NO_PRIMARY}")).await;
}

#[tokio::test(start_paused = true)]
async fn a_long_reply_is_carried_out_once_and_not_remembered() {
    let mesh = Mesh::new(2, &[]);
    let mut client = mesh.client(1);
    client.send(&format!("SET key {}|", "x".repeat(2000))).await;
    client.expect("+OK|").await;
    mesh.lose(&[Fate::AnswerLost]);
    client.send("GETDEL key|EXISTS key|").await;
    client
        .expect("-UNKNOWN The command was carried out, but the connection to the primary broke before its reply came.|:0|")
        .await;
}

fn unit(id: u128, words: &[u8], again: Again) -> Request {
    let lens: Vec<u32> = words.split(|byte| *byte == b' ').map(|word| word.len() as u32).collect();
    let bytes: Vec<u8> = words.iter().copied().filter(|byte| *byte != b' ').collect();
    let unit = Unit {
        id: RequestId(id),
        task: Task::Command,
        database: 0,
        concern: Concern::default(),
        waited_ms: 0,
        again,
        commands: vec![Queued::of_words(&bytes, &lens)],
        only: Vec::new(),
    };
    Request { deadline_ms: 1000, caller: Caller::default(), units: vec![unit] }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_known_is_carried_out_only_if_that_is_certain() {
    let mesh = Mesh::new(2, &[]);
    let service = mesh.service(0);
    let run = async |id, words: &[u8], again| {
        let mut answers = super::serving::run(&service, unit(id, words, again)).await;
        answers.pop().expect("one for each unit")
    };
    let Outcome::NotKnown(moment) = run(1, b"INCR key", Again::Ask).await.outcome else {
        panic!("not known")
    };
    let too_old = Again::Since { moment, age_us: moment.at_us };
    assert_eq!(run(1, b"INCR key", too_old).await.outcome, Outcome::Uncertain);
    let other = Again::Since { moment: Moment { process: moment.process ^ 1, ..moment }, age_us: 0 };
    assert!(matches!(run(1, b"INCR key", other).await.outcome, Outcome::NotKnown(_)));
    let now = Again::Since { moment, age_us: 0 };
    assert_eq!(run(1, b"INCR key", now).await.reply, b":1\r\n");
    for again in [Again::No, Again::Ask, now, too_old, other] {
        assert_eq!(run(1, b"INCR key", again).await.reply, b":1\r\n", "{again:?}");
    }
    assert_eq!(run(2, b"SETNX key 5", now).await.reply, b":0\r\n");
    assert_eq!(run(3, b"DEL key", Again::No).await.reply, b":1\r\n");
    // The first one was late: it is not carried out behind the second.
    assert_eq!(run(2, b"SETNX key 5", Again::No).await.reply, b":0\r\n");
    assert_eq!(run(4, b"EXISTS key", Again::No).await.reply, b":0\r\n");
    mesh.promote(Some(1));
    assert_eq!(run(1, b"INCR key", Again::Ask).await.outcome, Outcome::NotHere);
    mesh.promote(Some(0));
    assert_eq!(run(1, b"INCR key", Again::Ask).await.reply, b":1\r\n");
}

#[tokio::test(start_paused = true)]
async fn commands_on_data_of_several_nodes_are_taken_apart() {
    let mesh = Mesh::new(3, &[]);
    mesh.spread(&[0, 1, 1, 0]);
    for (number, version) in [(0, 2), (1, 2), (2, 2), (2, 3)] {
        let mut client = mesh.client(number);
        client.send(&format!("HELLO {version}|CLIENT SETNAME n|ECHO greeted|")).await;
        while client.line().await != "greeted" {}
        client
            .send("FLUSHALL|MSET a 1 b 2 c 3 d 4 e 5 f 6|MGET f x a b c f|EXISTS a b c x a|TOUCH a d|DBSIZE|")
            .await;
        let null = if version == 3 { "_" } else { "$-1" };
        client.expect(&format!("+OK|+OK|*6|$1|6|{null}|$1|1|$1|2|$1|3|$1|6|:4|:2|:6|")).await;
        client.send("DEL a x b|UNLINK c d|DBSIZE|SET a 9|MSET a 1 b|MSETNX a 1 b 2 c 3|").await;
        client.expect(":2|:2|:2|+OK|-ERR wrong number of arguments for 'mset' command|").await;
        client.expect("-CROSSSLOT Keys in request don't hash to the same slot|").await;
        client.send("MULTI|MGET a b c d|EXEC|MULTI|GET a|GET b|GET c|EXEC|").await;
        client.expect("+OK|-CROSSSLOT Keys in request don't hash to the same slot|").await;
        client
            .expect(
                "-EXECABORT Transaction discarded because of previous errors.|+OK|+QUEUED|+QUEUED|+QUEUED|",
            )
            .await;
        client.expect("-CROSSSLOT Keys in request don't hash to the same slot|").await;
        client.send("RANDOMKEY|FLUSHDB|DBSIZE|RANDOMKEY|SCAN x|").await;
        assert_eq!(client.line().await, "$1");
        client.line().await;
        client.expect(&format!("+OK|:0|{null}|-ERR invalid cursor|")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_scan_goes_over_all_nodes_and_finds_each_key_once() {
    let mesh = Mesh::new(3, &[]);
    mesh.spread(&[0, 1, 2, 1]);
    let mut client = mesh.client(2);
    let mut wanted: Vec<String> = (0..100).map(|number| format!("key{number}")).collect();
    for key in &wanted {
        client.send(&format!("SET {key} 1|")).await;
        client.expect("+OK|").await;
    }
    client.send("KEYS *|").await;
    client.expect("*100|").await;
    for _ in 0..200 {
        client.line().await;
    }
    let (mut found, mut cursor) = (Vec::new(), "0".to_owned());
    loop {
        client.send(&format!("SCAN {cursor} COUNT 7|")).await;
        client.expect("*2|").await;
        client.line().await;
        cursor = client.line().await;
        let count: usize = client.line().await[1..].parse().expect("a number");
        for _ in 0..count {
            client.line().await;
            found.push(client.line().await);
        }
        if cursor == "0" {
            break;
        }
    }
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
}

const CROSS_SLOT: &str = "-CROSSSLOT Keys in request don't hash to the same slot|";

/// Three nodes whose primaries are spread: a, b, e and f are at the first, c and d at the second, nothing at the third.
fn spread() -> Arc<Mesh> {
    let mesh = Mesh::new(3, &["cluster-enabled yes"]);
    mesh.spread(&[0, 1, 1, 0]);
    mesh
}

#[tokio::test(start_paused = true)]
async fn who_has_asked_for_slots_is_sent_where_they_are() {
    let mesh = spread();
    let mut client = mesh.client(0);
    client.send("SET c 1|CLUSTER SLOTS|SET c 2|GET a|GET c|WATCH c|ASKING|").await;
    let (moved, nowhere) = ("-MOVED 7365 host2:6379|", "-CLUSTERDOWN This node is in no cluster yet|");
    client.expect(&format!("+OK|{nowhere}{moved}$-1|{moved}{moved}{nowhere}")).await;
    client.send("MULTI|SET c 3|EXEC|MULTI|SET a 1|GET a|EXEC|").await;
    client.expect(&format!("+OK|{moved}-EXECABORT Transaction discarded because of previous errors.|")).await;
    client.expect("+OK|+QUEUED|+QUEUED|*2|+OK|$1|1|").await;
    // What can be taken apart needs no other node's address; a copy is read where it is; nobody answers: it is waited for.
    client.send("MGET a c|READONLY|GET c|SET c 4|READWRITE|GET c|").await;
    client.expect(&format!("*2|$1|1|$1|1|+OK|$-1|{moved}+OK|{moved}")).await;
    client.send("RESET|SET c 5|GET c|").await;
    client.expect("+RESET|+OK|$1|5|").await;
    mesh.promote(None);
    client.send("CLUSTER NODES|SET c 6|").await;
    client.expect(nowhere).await;
    mesh.promote(Some(1));
    client.expect("+OK|").await;
}

#[tokio::test(start_paused = true)]
async fn a_transaction_whose_slot_has_moved_since_is_sent_on_by_its_client() {
    let mesh = spread();
    let mut client = mesh.client(0);
    client.send("CLUSTER SHARDS|MULTI|SET a 1|").await;
    client.expect("-CLUSTERDOWN This node is in no cluster yet|+OK|+QUEUED|").await;
    mesh.spread(&[0, 1, 1, 1]);
    client.send("EXEC|MULTI|PING|EXEC|").await;
    client.expect("-MOVED 15495 host2:6379|+OK|+QUEUED|*1|+PONG|").await;
}

#[tokio::test(start_paused = true)]
async fn what_runs_as_one_has_keys_of_one_slot_wherever_its_primary_is() {
    let mesh = spread();
    for number in [0, 1, 2] {
        let mut client = mesh.client(number);
        client.send("MSETNX a 1 b 2|MSETNX {a}1 1 {a}2 2|MGET a b|DEL {a}1 {a}2 b|WATCH a b|").await;
        client.expect(&format!("{CROSS_SLOT}:1|*2|$-1|$-1|:2|{CROSS_SLOT}")).await;
        client.send("MULTI|SET a 1|SET b 2|EXEC|MULTI|MGET a b|EXEC|DBSIZE|").await;
        client.expect(&format!("+OK|+QUEUED|+QUEUED|{CROSS_SLOT}+OK|{CROSS_SLOT}")).await;
        client.expect("-EXECABORT Transaction discarded because of previous errors.|:0|").await;
        client
            .send("SORT nothing|SORT nothing STORE {nothing}2|SORT nothing STORE a|SORT nothing GET a*|")
            .await;
        client.expect(&format!("*0|:0|{CROSS_SLOT}")).await;
        client.line().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_several_primaries_is_taken_apart() {
    let mesh = spread();
    let mut client = mesh.client(2);
    client.send("MSET a 1 c 2|").await;
    client.expect("+OK|").await;
    mesh.promote(None);
    client.send("MGET a c|DBSIZE|SCAN 0 COUNT 1|DEL a c|FLUSHALL|").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    mesh.spread(&[0, 1, 1, 0]);
    client.expect("*2|$1|1|$1|2|:2|*2|").await;
    while client.line().await != ":2" {}
    client.expect("+OK|").await;
}

#[tokio::test(start_paused = true)]
async fn who_knows_slots_asks_each_node_for_its_own_keys() {
    let mesh = spread();
    let (mut plain, mut one, mut other) = (mesh.client(2), mesh.client(0), mesh.client(1));
    plain.send("MSET a 1 b 2 c 3 d 4 e 5 f 6|DBSIZE|").await;
    plain.expect("+OK|:6|").await;
    for client in [&mut one, &mut other] {
        client.send("CLUSTER NODES|").await;
        client.expect("-CLUSTERDOWN This node is in no cluster yet|").await;
    }
    one.send("DBSIZE|SCAN 0 COUNT 100 MATCH b|SCAN 0 COUNT 100 MATCH c|").await;
    one.expect(":4|*2|$1|0|*1|$1|b|*2|$1|0|*0|").await;
    // The cursors of others, before and behind its own partitions.
    other.send("DBSIZE|SCAN 0 COUNT 100 MATCH c|SCAN 70000000000000 COUNT 100|KEYS [abcef]|FLUSHALL|").await;
    other.expect(":2|*2|$1|0|*1|$1|c|*2|$1|0|*0|*1|$1|c|+OK|").await;
    plain.send("DBSIZE|").await;
    plain.expect(":4|").await;
}
