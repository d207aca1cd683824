//! The cluster's threads: everything that this node says to others but for replication, and what it decides with them, on a runtime
//! that clients cannot keep busy.

use super::control_file::ControlShelf;
use super::events::publish_events;
use super::host::ClusterHost;
use super::listener;
use super::publishing::Publishing;
use super::serving::Serving;
use crate::base::clock;
use crate::base::ids::NodeId;
use crate::cluster::bus::listen::{Answers as BusAnswers, listen};
use crate::cluster::bus::tcp::TcpBus;
use crate::cluster::bus::{Bus, Identity, Kind, Serve, Sign};
use crate::cluster::consensus::ControlPlane;
use crate::cluster::consensus::raft::{Options, Raft, Timing};
use crate::cluster::lease::Lease;
use crate::cluster::map::Shape;
use crate::cluster::membership::Membership;
use crate::cluster::membership::gossip::{Gossip, Settings as GossipSettings};
use crate::cluster::node::{Answers, Host, Node, Parts, Settings as Times};
use crate::cluster::trust::Trust;
use crate::config::Settings;
use crate::session::pubsub::PassOn;
use crate::session::service::Service;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Threads of the cluster, whatever the number of cores.
const THREADS: usize = 2;
/// Connections that wait to be accepted from other nodes.
const BACKLOG: i32 = 128;
/// How long a stop takes at most to give away what this node is primary of.
const HANDOVER_TIME_MAX: Duration = Duration::from_secs(3);
/// How long this node still answers others after that: that it is not the primary any more, until all have learned who is.
const FAREWELL: Duration = Duration::from_millis(100);
/// How long answers in work may take then.
const ANSWERS_TIME_MAX: Duration = Duration::from_secs(1);

/// See the module.
pub struct ClusterThreads {
    runtime: Runtime,
    node: Arc<Node>,
    raft: Arc<Raft>,
    listening: JoinHandle<()>,
    stop: CancellationToken,
}

/// Why there is no cluster, in words.
fn failed(what: &str, error: impl std::fmt::Debug) -> io::Error {
    io::Error::other(format!("cannot {what}: {error:?}"))
}

impl ClusterThreads {
    /// Begins to take part in the cluster, if the settings name one. To be called before clients are served.
    ///
    /// # Errors
    /// A port that is taken, or a control folder that cannot be read.
    pub fn start(service: &Arc<Service>, folder: &Path) -> io::Result<Option<ClusterThreads>> {
        let settings = service.parameters.snapshot();
        if !settings.cluster.is_on() {
            return Ok(None);
        }
        if settings.replicaof.is_some() {
            return Err(io::Error::other("replicaof directive not allowed in cluster mode"));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("cluster")
            .enable_all()
            .build()?;
        let (node, raft, listening, stop) = runtime.block_on(start(service, &settings, folder, &runtime))?;
        Ok(Some(ClusterThreads { runtime, node, raft, listening, stop }))
    }

    /// Gives everything away that this node is primary of, if another node can take it.
    pub fn hand_over(&self) {
        let handed_over = self.runtime.block_on(async {
            self.raft.decline(); // its end as a leader would cost another election
            let was_primary = self.node.map().primary_of(self.node.me()).next().is_some();
            let all = tokio::time::timeout(HANDOVER_TIME_MAX, self.node.hand_over_all()).await;
            if was_primary {
                tokio::time::sleep(FAREWELL).await;
            }
            all.unwrap_or(false)
        });
        if !handed_over {
            tracing::warn!("this node ends as a primary: others take its place when its lease is over");
        }
    }

    /// Ends all of it.
    pub fn stop(self) {
        self.stop.cancel();
        self.runtime.block_on(async {
            _ = tokio::time::timeout(ANSWERS_TIME_MAX, self.listening).await;
            self.raft.stop().await;
        });
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

async fn start(
    service: &Arc<Service>,
    settings: &Settings,
    folder: &Path,
    runtime: &Runtime,
) -> io::Result<(Arc<Node>, Arc<Raft>, JoinHandle<()>, CancellationToken)> {
    let me: NodeId = service.store.node().parse().map_err(|()| io::Error::other("this node has no name"))?;
    let incarnation: u64 = rand::random();
    let (stop, times) = (CancellationToken::new(), times(settings));
    let trust = Trust::sealed([&*settings.cluster.secret.0]);
    let (named, cluster) = watch::channel(None);
    let identity = Identity { node: me, cluster };
    let bus = Arc::new(TcpBus::new(runtime.handle().clone(), identity.clone(), trust.clone()));
    let host = ClusterHost::new(service, me, incarnation);
    let port = settings.cluster.listening_port(settings.port);
    let own = host.profile();
    let announce = (!own.address.host.is_empty()).then(|| (own.address.host.clone(), own.address.bus_port));
    let listen_on =
        listener::addresses(&settings.bind, port)?.into_iter().map(|address| address.socket).next();
    let none = || io::Error::other("there is no address to listen on for other nodes: see `bind`");
    let seeds = settings.cluster.seeds.clone();
    let gossip =
        GossipSettings { listen: listen_on.ok_or_else(none)?, announce, seeds, trust: trust.clone() };
    let membership = Arc::new(Gossip::start(gossip, own)?);

    // Consensus asks the node where others are, and the node asks consensus: one of both must come first.
    let known: Arc<OnceLock<Weak<Node>>> = Arc::default();
    let find = {
        let known = Arc::clone(&known);
        Arc::new(move |node| known.get()?.upgrade()?.address_of(node))
    };
    let options = Options {
        node: me,
        timing: Timing::default(),
        rest_after_start: times.lease + times.lease / 10,
        seed: None,
    };
    let shelf =
        ControlShelf::open(&folder.join("control")).map_err(|error| failed("open control/", error))?;
    let raft = Raft::start(options, Arc::new(shelf), Arc::clone(&bus) as Arc<dyn Bus>, find).await;
    let raft = Arc::new(raft.map_err(|error| failed("start the control plane", error))?);

    let lease = Arc::new(Lease::unbounded());
    lease.bound();
    let node = Node::new(Parts {
        me,
        incarnation,
        settings: times,
        control: Arc::clone(&raft) as Arc<dyn ControlPlane>,
        bus: Arc::clone(&bus) as Arc<dyn Bus>,
        membership: Arc::clone(&membership) as Arc<dyn Membership>,
        host: Arc::clone(&host) as Arc<dyn Host>,
        lease: Arc::clone(&lease),
        clock: Arc::new(clock::since_boot),
    });
    assert!(known.set(Arc::downgrade(&node)).is_ok(), "there is one node");
    host.belong_to(&node);
    service.replication.fence(Box::new(move || lease.holds(clock::since_boot())));
    service.forwarding.begin(host);
    assert!(service.cluster.set(Arc::clone(&node)).is_ok(), "a server is in one cluster");

    let sockets = listener::open_tcp(&listener::addresses(&settings.bind, port)?, BACKLOG, 1)?;
    let sockets = sockets.into_iter().flat_map(|(_, sockets)| sockets);
    let listeners = sockets.map(TcpListener::from_std).collect::<io::Result<Vec<_>>>()?;
    let publishing = Publishing::new(service, &node);
    service.pubsub.pass_on_by(Arc::clone(&publishing) as Arc<dyn PassOn>);
    let answers: BusAnswers = [
        (Kind::Consensus, Arc::clone(&raft) as Arc<dyn Serve>),
        (Kind::Control, Arc::new(Answers(Arc::clone(&node))) as Arc<dyn Serve>),
        (Kind::Forward, Arc::new(Serving(Arc::clone(service))) as Arc<dyn Serve>),
        (Kind::Publish, Arc::clone(&publishing) as Arc<dyn Serve>),
    ]
    .into();
    let listening = tokio::spawn(listen(listeners, identity, trust, answers, stop.clone()));
    tokio::spawn(note_signs(Arc::clone(&bus), Arc::clone(&node)));
    tokio::spawn(name_cluster(Arc::clone(&node), named));
    tokio::spawn(publishing.run());
    tokio::spawn(publish_events(Arc::clone(service)));
    tokio::spawn(Arc::clone(&node).run());
    tracing::info!("Node {me} listens to other nodes on port {port}");
    Ok((node, raft, listening, stop))
}

/// What the settings say of times and wishes.
fn times(settings: &Settings) -> Times {
    Times {
        copies: settings.replicas.saturating_add(1),
        shape: if settings.cluster.is_spread { Shape::Spread } else { Shape::Together },
        ..Times::default()
    }
}

/// A connection that broke, or that nobody accepts, is a sign that a node may be dead.
async fn note_signs(bus: Arc<TcpBus>, node: Arc<Node>) {
    let mut signs = bus.broken();
    loop {
        match signs.recv().await {
            Ok(broken) if matches!(broken.sign, Sign::Refused | Sign::Closed | Sign::Silent) => {
                node.note_broken(broken.node);
            }
            Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
            Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// Tells the bus which cluster this node is in, once it is.
async fn name_cluster(node: Arc<Node>, named: watch::Sender<Option<NodeId>>) {
    let mut maps = node.maps();
    loop {
        named.send_replace(maps.borrow_and_update().cluster);
        if maps.changed().await.is_err() {
            return;
        }
    }
}
