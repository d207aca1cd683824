//! Membership by gossip: chitchat over sealed datagrams, on a thread of its own, so that no load of clients delays it.
//!
//! Each node tells some others, five times a second, whom it has heard of and how lately. A node is taken for dead when nobody
//! has heard of it for twelve times as long as is usual, which is about a second, and never under [`HEARD_MAX`]: the more nodes there are, the more
//! often one hears of each, and a pause of a busy machine is not to count as a death.
//!
//! Identity is the node's id; an incarnation of it begins with each start, and whenever its own address turns out to be another one.
//! Of several incarnations of a node the view shows one. Seeds are names, resolved again and again, each on its own, so that a name
//! that nobody answers for delays nothing; all addresses of a name are seeds.
//!
//! Nothing is decided by this. Who knows the secret, or without one everybody near, can say that any node is anywhere.

use super::profile::{from_keys, to_keys};
use super::seeds::Seeds;
use super::socket::Sealed;
use super::{Membership, Profile, View};
use crate::base::clock::unix_ms;
use crate::base::ids::NodeId;
use crate::cluster::trust::Trust;
use chitchat::{
    Chitchat, ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, Heartbeat, ProtocolVersion,
    spawn_chitchat,
};
use std::collections::{BTreeMap, HashMap};
use std::io::{Error, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

/// How often a node tells others.
const GOSSIP_GAP: Duration = Duration::from_millis(200);
/// So many times the usual silence is a death.
const PHI: f64 = 12.0;
/// Silences that "usual" is the mean of.
const SILENCES: usize = 200;
/// A node that was heard of so lately is not dead.
const HEARD_MAX: Duration = Duration::from_millis(800);
/// A longer silence says nothing about what is usual.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// A node that has been dead for so long is forgotten.
const REMEMBERED: Duration = Duration::from_mins(15);
/// How often the view is made anew, besides when something was heard.
const LOOK_GAP: Duration = Duration::from_millis(100);
/// After the gossip has ended by itself.
const RESTART_GAP: Duration = Duration::from_millis(100);
/// Nodes in a view at most, which is more than a cluster has.
const VIEW_MAX: usize = 512;
/// Names to be added that wait.
const MEETINGS_MAX: usize = 16;
/// Gossips of other programs are not listened to.
const CLUSTER: &str = "larder";

/// How a node gossips.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where datagrams come in: the bus port.
    pub listen: SocketAddr,
    /// Where others reach this node's bus port, host and port, if that is not what it looks like from here.
    pub announce: Option<(String, u16)>,
    /// Names and bus ports of other nodes, `HOST:PORT`, to begin with.
    pub seeds: Vec<String>,
    /// Whom this node listens to.
    pub trust: Trust,
}

/// See the module. Ends when it is dropped.
pub struct Gossip {
    own: watch::Sender<Profile>,
    view: watch::Receiver<Arc<View>>,
    meetings: mpsc::Sender<String>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
    address: SocketAddr,
    #[cfg(test)]
    pub(super) loss: Arc<std::sync::atomic::AtomicU32>,
}

impl Gossip {
    /// Begins to listen and to tell.
    pub fn start(settings: Settings, own: Profile) -> Result<Gossip> {
        if !settings.trust.is_sealed() {
            tracing::warn!(
                "There is no cluster-secret: gossip is not sealed, and only nodes of this machine and of private networks are listened to"
            );
        }
        let socket = std::net::UdpSocket::bind(settings.listen)?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut first = View::default();
        first.live.insert(own.node, own.clone());
        let (shown, view) = watch::channel(Arc::new(first));
        let (own, told) = watch::channel(own);
        let (meetings, met) = mpsc::channel(MEETINGS_MAX);
        let stop = CancellationToken::new();
        #[cfg(test)]
        let loss = Arc::<std::sync::atomic::AtomicU32>::default();
        let transport = {
            let _inside = runtime.enter();
            Sealed {
                socket: Arc::new(UdpSocket::from_std(socket)?),
                trust: settings.trust.clone(),
                #[cfg(test)]
                loss: Arc::clone(&loss),
            }
        };
        let seeds = Seeds::new(settings, address, met);
        let keeper = Keeper { transport, seeds, told, shown, incarnations: HashMap::new() };
        let token = stop.clone();
        let thread = std::thread::Builder::new().name("gossip".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = keeper.run() => {}
                    () = token.cancelled() => {}
                }
            });
            // A name may still be resolved, which nobody waits for.
            runtime.shutdown_background();
        })?;
        let thread = Some(thread);
        Ok(Gossip {
            own,
            view,
            meetings,
            stop,
            thread,
            address,
            #[cfg(test)]
            loss,
        })
    }

    /// Where datagrams come in.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Gossip {
    fn drop(&mut self) {
        self.stop.cancel();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the gossip ended by a panic");
        }
    }
}

impl Membership for Gossip {
    fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    fn tell(&self, own: Profile) {
        self.own.send_if_modified(|told| {
            let is_new = *told != own;
            *told = own;
            is_new
        });
    }

    fn meet(&self, seed: String) -> bool {
        self.meetings.try_send(seed).is_ok()
    }
}

/// What is known of an incarnation besides what it says.
struct Heard {
    heartbeat: Heartbeat,
    /// When its heartbeat rose last; never, if it has not since it is known.
    at: Option<Instant>,
    was_live: bool,
}

/// Keeps the gossip going, and shows what it says.
struct Keeper {
    transport: Sealed,
    seeds: Seeds,
    told: watch::Receiver<Profile>,
    shown: watch::Sender<Arc<View>>,
    incarnations: HashMap<ChitchatId, Heard>,
}

impl Keeper {
    /// Goes on until it is dropped.
    async fn run(mut self) {
        let mut generation = 0;
        loop {
            // Never twice the same, even if the clock stands or goes back.
            generation = u64::try_from(unix_ms()).unwrap_or(0).max(generation + 1);
            let node = self.told.borrow().node;
            let own = ChitchatId::new(node.to_string(), generation, self.seeds.own_address().await);
            if let Err(error) = self.incarnation(own).await {
                tracing::error!("the gossip has ended and begins again: {error}");
            }
            sleep(RESTART_GAP).await;
        }
    }

    /// Gossips as this incarnation, until it is found to have another address.
    async fn incarnation(&mut self, own: ChitchatId) -> Result<()> {
        let address = own.gossip_advertise_addr;
        tracing::debug!("gossip as {own:?}");
        self.told.mark_unchanged();
        let keys =
            to_keys(&self.told.borrow()).into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let handle = spawn_chitchat(settings(own), keys, &self.transport).await.map_err(Error::other)?;
        let mut changes = handle.with_chitchat(|chitchat| chitchat.live_nodes_watcher()).await;
        let mut ended = std::pin::pin!(handle.termination_watcher());
        let mut look = interval(LOOK_GAP);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                ended = &mut ended => return ended.map_err(Error::other),
                _ = look.tick() => {}
                _ = changes.changed() => {}
                _ = self.told.changed() => self.tell(&handle).await,
                seeds = self.seeds.due() => {
                    if seeds.own != address {
                        tracing::info!("this node is at {} now, and not at {address}", seeds.own);
                        return handle.shutdown().await.map_err(Error::other);
                    }
                    for seed in seeds.silent {
                        handle.gossip(seed).map_err(Error::other)?;
                    }
                }
            }
            changes.mark_unchanged();
            let chitchat = handle.chitchat();
            let chitchat = chitchat.lock().await;
            let view = self.view(&chitchat);
            self.seeds.heard(chitchat.live_nodes().map(|id| id.gossip_advertise_addr));
            drop(chitchat);
            self.shown.send_if_modified(|shown| {
                let is_new = **shown != view;
                *shown = Arc::new(view);
                is_new
            });
        }
    }

    /// Says what has changed of this node.
    async fn tell(&mut self, handle: &ChitchatHandle) {
        let keys = to_keys(&self.told.borrow_and_update());
        let set = |chitchat: &mut Chitchat| {
            // A value that is the same already is not sent again.
            keys.iter().for_each(|(key, value)| chitchat.self_node_state().set(key, value));
        };
        handle.with_chitchat(set).await;
    }

    /// What is known.
    fn view(&mut self, chitchat: &Chitchat) -> View {
        let states = chitchat.node_states();
        self.incarnations.retain(|id, _| states.contains_key(id));
        let live: std::collections::HashSet<&ChitchatId> = chitchat.live_nodes().collect();
        let mut best: BTreeMap<NodeId, (Claim, Profile)> = BTreeMap::new();
        for (id, state) in states {
            let Ok(node) = id.node_id.parse::<NodeId>() else { continue };
            let heard = self.incarnations.entry(id.clone());
            let heartbeat = state.heartbeat();
            let heard = heard.or_insert(Heard { heartbeat, at: None, was_live: false });
            if heard.heartbeat < heartbeat {
                (heard.heartbeat, heard.at) = (heartbeat, Some(Instant::now()));
            }
            // Only who was live is kept so: the first sign of life may be hearsay of long ago.
            let was_heard = heard.was_live && heard.at.is_some_and(|at| at.elapsed() < HEARD_MAX);
            let is_live = live.contains(id) || was_heard;
            heard.was_live |= is_live;
            let Some(mut profile) = from_keys(node, |key| state.get(key)) else { continue };
            if profile.address.host.is_empty() {
                profile.address.host = id.gossip_advertise_addr.ip().to_string();
            }
            let is_coming = !heard.was_live;
            let claim = Claim { is_live, is_coming, generation: id.generation_id };
            if best.len() >= VIEW_MAX && !best.contains_key(&node) {
                continue;
            }
            match best.get_mut(&node) {
                Some(held) => held.0.join(claim, &mut held.1, profile),
                None => drop(best.insert(node, (claim, profile))),
            }
        }
        let mut view = View::default();
        let own = chitchat.self_chitchat_id().node_id.parse::<NodeId>().ok();
        for (node, (claim, profile)) in best {
            let group = if claim.is_live || own == Some(node) { &mut view.live } else { &mut view.dead };
            group.insert(node, profile);
        }
        view
    }
}

/// What speaks for showing an incarnation.
#[derive(Clone, Copy)]
struct Claim {
    is_live: bool,
    /// It was never live so far.
    is_coming: bool,
    generation: u64,
}

impl Claim {
    /// Of two incarnations of a node the newer one is shown; but one that was seen to end does not hide one that lives, as
    /// after a clock that went back. The node lives if one of them does.
    fn join(&mut self, other: Claim, shown: &mut Profile, profile: Profile) {
        let counts = |claim: &Claim| claim.is_live || claim.is_coming;
        if (counts(&other), other.generation) > (counts(self), self.generation) {
            *shown = profile;
            (self.generation, self.is_coming) = (other.generation, other.is_coming);
        }
        self.is_live |= other.is_live;
    }
}

fn settings(own: ChitchatId) -> ChitchatConfig {
    ChitchatConfig {
        listen_addr: own.gossip_advertise_addr,
        chitchat_id: own,
        cluster_id: CLUSTER.to_owned(),
        gossip_interval: GOSSIP_GAP,
        seed_nodes: Vec::new(),
        failure_detector_config: FailureDetectorConfig {
            phi_threshold: PHI,
            sampling_window_size: SILENCES,
            max_interval: SILENCE_MAX,
            initial_interval: GOSSIP_GAP,
            dead_node_grace_period: REMEMBERED,
        },
        marked_for_deletion_grace_period: REMEMBERED,
        catchup_callback: None,
        extra_liveness_predicate: None,
        protocol_version: ProtocolVersion::V1,
    }
}
