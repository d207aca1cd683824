//! redis-rs while primaries are killed: blocking and asynchronous connections to one server, and Redis Cluster's. See `libraries.rs`.
//!
//! Not its client of Sentinels: that one takes for a Sentinel only who answers ROLE as one, and here who answers SENTINEL has data, too.

use crate::fleet::Fleet;
use crate::lab::Connector;
use crate::libraries::{
    Clients, Event, Events, Library, Outcome, Spec, now_us, with_one_primary, with_primaries_spread,
};
use redis::cluster::ClusterClient;
use redis::{AsyncConnectionConfig, Client, ConnectionLike, RedisError, RedisResult, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// An application's pause between two writes, and the one after an error.
const GAP: Duration = Duration::from_millis(5);
const AGAIN: Duration = Duration::from_millis(20);
/// The library's asynchronous connections give up after half a second by default, before another primary can be there.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module.
struct RedisRs;

struct Threads {
    ending: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients for Threads {
    fn end(self: Box<Self>) {
        self.ending.store(true, Ordering::Release);
        self.threads.into_iter().for_each(|thread| thread.join().expect("a client does not panic"));
    }
}

impl Library for RedisRs {
    fn name(&self) -> &'static str {
        "redis-rs"
    }

    fn start(&self, fleet: &Fleet, clients: &[Spec], events: Events) -> Box<dyn Clients> {
        let ending = Arc::new(AtomicBool::new(false));
        let threads = clients.iter().cloned().map(|spec| {
            let (connector, events, ending) = (fleet.lab.connector(), events.clone(), Arc::clone(&ending));
            std::thread::spawn(move || work(&connector, &spec, &events, &ending))
        });
        let threads = threads.collect();
        Box::new(Threads { ending, threads })
    }
}

/// Any of the library's connections.
type Connection = Box<dyn ConnectionLike>;

/// Writes a key after the other and reads it again, until it is told to end.
fn work(connector: &Connector, spec: &Spec, events: &Events, ending: &AtomicBool) {
    connector.enter().expect("the clients' host is there");
    let mut connection: Option<Connection> = None;
    for number in 1_u64.. {
        if ending.load(Ordering::Acquire) {
            return;
        }
        let (key, called_us) = (format!("{}:{number}", spec.name), now_us());
        let tell = |outcome| {
            events.add(Event { client: spec.name.clone(), called_us, returned_us: now_us(), outcome });
        };
        let outcome = connected(&mut connection, spec).and_then(|connection| write(connection, &key, number));
        match outcome {
            Ok(()) => tell(Outcome::Ok(key.clone())),
            Err(error) => {
                tell(Outcome::Error(error.to_string()));
                give_up(&mut connection, spec, &error);
                std::thread::sleep(AGAIN);
                continue;
            }
        }
        match connection
            .as_mut()
            .map(|connection| redis::cmd("GET").arg(&key).query::<Option<u64>>(&mut **connection))
        {
            Some(Ok(found)) if found == Some(number) => {}
            Some(Ok(_)) => tell(Outcome::Wrong(key)),
            Some(Err(error)) => {
                tell(Outcome::Error(error.to_string()));
                give_up(&mut connection, spec, &error);
            }
            None => {}
        }
        std::thread::sleep(GAP);
    }
}

fn write(connection: &mut Connection, key: &str, number: u64) -> RedisResult<()> {
    redis::cmd("SET").arg(key).arg(number).query(&mut **connection)
}

/// As applications do: a connection that is broken is made anew. Clients of a cluster do that themselves.
fn give_up(connection: &mut Option<Connection>, spec: &Spec, error: &RedisError) {
    let is_broken = error.is_unrecoverable_error() || connection.as_ref().is_some_and(|it| !it.is_open());
    if is_broken && !spec.kind.starts_with("cluster") {
        *connection = None;
    }
}

fn connected<'a>(connection: &'a mut Option<Connection>, spec: &Spec) -> RedisResult<&'a mut Connection> {
    let nodes: Vec<String> = spec.nodes.iter().map(|node| format!("redis://{node}")).collect();
    let made: Connection = match (connection.take(), spec.kind) {
        (Some(connection), _) => connection,
        (None, "cluster") => Box::new(ClusterClient::new(nodes)?.get_connection()?),
        (None, "cluster-async") => Box::new(Blocking::cluster(nodes)?),
        (None, "plain-async") => Box::new(Blocking::plain(&nodes[0], Some(PATIENCE))?),
        (None, "hasty-async") => Box::new(Blocking::plain(&nodes[0], None)?),
        (None, _) => Box::new(Client::open(nodes[0].as_str())?.get_connection()?),
    };
    Ok(connection.insert(made))
}

/// An asynchronous connection, with a runtime of its own.
struct Blocking<C> {
    runtime: tokio::runtime::Runtime,
    connection: C,
}

fn runtime() -> tokio::runtime::Runtime {
    // On this thread only, which is on the clients' host.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system has room for a runtime")
}

impl Blocking<redis::aio::MultiplexedConnection> {
    fn plain(node: &str, patience: Option<Duration>) -> RedisResult<Self> {
        let (runtime, client) = (runtime(), Client::open(node)?);
        let mut config = AsyncConnectionConfig::new();
        if patience.is_some() {
            config = config.set_response_timeout(patience);
        }
        let connection = runtime.block_on(client.get_multiplexed_async_connection_with_config(&config))?;
        Ok(Blocking { runtime, connection })
    }
}

impl Blocking<redis::cluster_async::ClusterConnection> {
    fn cluster(nodes: Vec<String>) -> RedisResult<Self> {
        let (runtime, client) = (runtime(), ClusterClient::new(nodes)?);
        let connection = runtime.block_on(client.get_async_connection())?;
        Ok(Blocking { runtime, connection })
    }
}

impl<C: redis::aio::ConnectionLike> ConnectionLike for Blocking<C> {
    fn req_packed_command(&mut self, command: &[u8]) -> RedisResult<Value> {
        let _ = command;
        unreachable!("the library hands over commands, not their bytes")
    }

    fn req_packed_commands(&mut self, _: &[u8], _: usize, _: usize) -> RedisResult<Vec<Value>> {
        unreachable!("no pipelines are used")
    }

    fn req_command(&mut self, command: &redis::Cmd) -> RedisResult<Value> {
        self.runtime.block_on(self.connection.req_packed_command(command))
    }

    fn get_db(&self) -> i64 {
        0
    }

    fn check_connection(&mut self) -> bool {
        true
    }

    fn is_open(&self) -> bool {
        true
    }
}

#[test]
fn redis_rs_goes_on_when_a_primary_is_killed() {
    with_one_primary(&RedisRs, &["plain-async", "hasty-async"]);
}

#[test]
fn redis_rs_goes_on_when_one_of_several_primaries_is_killed() {
    with_primaries_spread(&RedisRs, &["plain-async", "cluster", "cluster-async"]);
}
