//! `Raft`: the control plane by consensus, with openraft over a shelf and the bus.
//!
//! Invariants:
//! - nothing is confirmed to anybody before it is on the shelf;
//! - a node that starts with a log neither elects nor stands for election until [`Options::rest_after_start`] is over. It has
//!   forgotten whose heartbeats it answered: its vote could elect a second leader while the first, with this very node's answer,
//!   still counts on nobody else being elected. Who alone votes has nobody to betray and does not rest;
//! - nobody stands for election as long as others hear a leader: see [`super::poll`];
//! - a disk that fails stops the consensus here, not the process; it is tried again, as after a restart.
//!
//! Terms given out here are numbers of leaderships, not the library's terms: see [`super::machine`].

use super::log::{Log, encode};
use super::machine::{Leadership, Machine};
use super::network::{Find, Network};
use super::shelf::Shelf;
use super::types::{Types, with_seed};
use super::wire::{self, Answer, Request};
use super::{ControlError, ControlPlane, Leading, VOTERS_MAX};
use crate::base::ids::NodeId;
use crate::cluster::bus::{Bus, Serve};
use crate::cluster::map::{Address, ClusterMap, Command, Outcome};
use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use openraft::error::{CheckIsLeaderError, RaftError};
use openraft::metrics::RaftServerMetrics;
use openraft::{Config, ServerState, Snapshot, SnapshotPolicy};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// The library's handle.
pub(super) type Core = openraft::Raft<Types>;

/// Bytes of a command at most.
const COMMAND_BYTES_MAX: usize = 4 << 20;
/// How long a snapshot may take to its receiver.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait before a disk that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long to wait before a quorum that did not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// How quick the consensus is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From heartbeat to heartbeat. An entry must be on a follower's disk and confirmed within it, or is sent again.
    pub heartbeat: Duration,
    /// A follower that has not heard from its leader for `election.1` and then a random time between the two stands for election.
    pub election: (Duration, Duration),
    /// How long a command, a confirmation or a change of voters may take.
    pub patience: Duration,
}

impl Default for Timing {
    /// With these the next decision comes 0.6 s after the death of a leader (p50; see docs/control-plane.md). A follower waits for
    /// 450 ms at least: whoever is silent for that long has a disk or a machine that stands still, and is better replaced.
    fn default() -> Timing {
        let ms = Duration::from_millis;
        Timing { heartbeat: ms(50), election: (ms(150), ms(300)), patience: Duration::from_secs(3) }
    }
}

/// How long the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    /// Entries after which a snapshot is taken.
    pub per_snapshot: u64,
    /// Entries that stay in the log although a snapshot has them, for those who are a little behind.
    pub kept: u64,
}

impl Default for Lengths {
    fn default() -> Lengths {
        Lengths { per_snapshot: 1000, kept: 300 }
    }
}

/// What a consensus is started with.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// This node.
    pub node: NodeId,
    /// See there.
    pub timing: Timing,
    /// Longer than any lease, and than any leader counts on not being replaced.
    pub rest_after_start: Duration,
    /// What random numbers begin with, if they are to be the same again.
    pub seed: Option<u64>,
}

/// See the module.
pub struct Raft {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub options: Options,
    lengths: Lengths,
    shelf: Arc<dyn Shelf>,
    bus: Arc<dyn Bus>,
    find: Find,
    /// The library's instance that runs; none while the disk fails.
    core: ArcSwapOption<Running>,
    map: Arc<watch::Sender<Arc<ClusterMap>>>,
    leading: watch::Sender<Leading>,
    /// Held during a change of voters.
    pub changing_voters: Mutex<()>,
    /// This node falls silent so that another leads: it asks the others for nothing, or they would take it for alive.
    pub is_abdicating: AtomicBool,
    /// This node is about to stop: it stands for election no more.
    is_leaving: AtomicBool,
    stop: CancellationToken,
}

/// An instance of the library, from start to stop or failure.
pub(super) struct Running {
    pub core: Core,
    leadership: watch::Receiver<Leadership>,
    /// Until when it neither elects nor stands.
    pub rests_until: Option<Instant>,
    /// A majority of the voters hears no leader.
    pub is_free: AtomicBool,
}

impl Raft {
    /// Starts with what is on the shelf. Runs on the runtime it is called on, until [`Raft::stop`] or until it is dropped.
    ///
    /// # Errors
    /// If the shelf cannot be read, or what is on it makes no sense.
    pub async fn start(
        options: Options,
        shelf: Arc<dyn Shelf>,
        bus: Arc<dyn Bus>,
        find: Find,
    ) -> Result<Raft, ControlError> {
        Raft::start_with(options, Lengths::default(), shelf, bus, find).await
    }

    /// The same, with a log of other lengths.
    ///
    /// # Errors
    /// If the shelf cannot be read, or what is on it makes no sense.
    pub async fn start_with(
        options: Options,
        lengths: Lengths,
        shelf: Arc<dyn Shelf>,
        bus: Arc<dyn Bus>,
        find: Find,
    ) -> Result<Raft, ControlError> {
        let inner = Arc::new(Inner {
            options,
            lengths,
            shelf,
            bus,
            find,
            core: ArcSwapOption::empty(),
            map: Arc::new(watch::Sender::default()),
            leading: watch::Sender::default(),
            changing_voters: Mutex::default(),
            is_abdicating: AtomicBool::new(false),
            is_leaving: AtomicBool::new(false),
            stop: CancellationToken::new(),
        });
        let running = inner.run().await.map_err(ControlError::Failed)?;
        inner.core.store(Some(Arc::clone(&running)));
        tokio::spawn(Arc::clone(&inner).supervise(running));
        Ok(Raft { inner })
    }

    /// Stands for election no more, as this node is about to stop; it votes on, and leads on if it leads.
    pub fn decline(&self) {
        self.inner.is_leaving.store(true, Ordering::Release);
        if let Ok(running) = self.inner.running() {
            self.inner.stand(&running);
        }
    }

    /// Stops, and returns when nothing is written any more.
    pub async fn stop(&self) {
        self.inner.stop.cancel();
        if let Some(running) = self.inner.core.swap(None) {
            let _ = running.core.shutdown().await; // says only whether its task panicked
        }
    }
}

impl Drop for Raft {
    fn drop(&mut self) {
        self.inner.stop.cancel();
    }
}

impl Inner {
    /// The library's instance, or why there is none.
    pub fn running(&self) -> Result<Arc<Running>, ControlError> {
        let stopped = || ControlError::Failed("the consensus is stopped, or its disk fails".into());
        self.core.load_full().ok_or_else(stopped)
    }

    /// The instance, if this node leads.
    pub fn leader(&self) -> Result<Arc<Running>, ControlError> {
        let leading = *self.leading.borrow();
        if self.is_abdicating.load(Ordering::Acquire) {
            return Err(ControlError::NotLeader(None));
        }
        if leading.is_me { self.running() } else { Err(ControlError::NotLeader(leading.leader)) }
    }

    /// Tells the library whether this node may stand for election.
    pub fn stand(&self, running: &Running) {
        let is_set = |flag: &AtomicBool| flag.load(Ordering::Acquire);
        let declines = is_set(&self.is_leaving) || is_set(&self.is_abdicating);
        running.core.runtime_config().elect(is_set(&running.is_free) && !declines);
    }

    /// The way to others.
    pub fn network(&self) -> Network {
        let (bus, find) = (Arc::clone(&self.bus), Arc::clone(&self.find));
        Network { bus, find, pause: self.options.timing.heartbeat }
    }

    fn config(&self) -> Result<Arc<Config>, String> {
        let Timing { heartbeat, election, .. } = self.options.timing;
        let ms = |duration: Duration| duration.as_millis() as u64;
        let config = Config {
            cluster_name: "larder".into(),
            heartbeat_interval: ms(heartbeat),
            election_timeout_min: ms(election.0),
            election_timeout_max: ms(election.1),
            install_snapshot_timeout: ms(SNAPSHOT_PATIENCE),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.lengths.per_snapshot),
            max_in_snapshot_log_to_keep: self.lengths.kept,
            replication_lag_threshold: self.lengths.per_snapshot,
            enable_elect: false,
            ..Config::default()
        };
        config.validate().map(Arc::new).map_err(|error| error.to_string())
    }

    /// Starts an instance of the library over the shelf.
    async fn run(&self) -> Result<Arc<Running>, String> {
        let node = self.options.node;
        let machine = Machine::open(Arc::clone(&self.shelf), Arc::clone(&self.map))
            .map_err(|error| format!("the control plane's snapshot: {error}"))?;
        let log = Log::open(node, Arc::clone(&self.shelf), machine.stored()).await;
        let log = log.map_err(|error| format!("the control plane's log: {error}"))?;
        let is_new = log.is_new().map_err(|error| error.to_string())?;
        let leadership = machine.leadership();
        let mut starting = Box::pin(Core::new(node, self.config()?, self.network(), log, machine));
        // The seed is for whoever draws numbers on this thread while the instance is made.
        let started =
            std::future::poll_fn(|context| with_seed(self.options.seed, || starting.as_mut().poll(context)));
        let core = started.await.map_err(|error| error.to_string())?;
        let voters =
            core.with_raft_state(|state| state.membership_state.effective().voter_ids().collect::<Vec<_>>());
        let voters = voters.await.map_err(|error| error.to_string())?;
        let is_alone = voters == [node];
        let rest = self.options.rest_after_start;
        let rests_until = (!is_new && !is_alone && !rest.is_zero()).then(|| Instant::now() + rest);
        Ok(Arc::new(Running { core, leadership, rests_until, is_free: AtomicBool::new(false) }))
    }

    /// Follows the instance, and replaces it when it has failed.
    async fn supervise(self: Arc<Self>, mut running: Arc<Running>) {
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                () = self.follow(&running) => {}
                () = self.poll(&running) => {}
            }
            let state = running.core.metrics().borrow().running_state.clone();
            let why = state.err().map(|error| error.to_string()).unwrap_or_default();
            tracing::error!("the control plane has stopped: {why}; it is started again");
            self.tell(Leading::default());
            self.core.store(None);
            let _ = running.core.shutdown().await;
            running = loop {
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return,
                    () = sleep(RETRY) => {}
                }
                match self.run().await {
                    Ok(running) => break running,
                    Err(error) => tracing::warn!("the control plane cannot start: {error}"),
                }
            };
            self.core.store(Some(Arc::clone(&running)));
            tracing::info!("the control plane runs again");
        }
        let _ = running.core.shutdown().await;
    }

    /// Tells who leads, until the instance fails.
    async fn follow(&self, running: &Running) {
        let mut server = running.core.server_metrics();
        let mut all = running.core.metrics();
        let mut leadership = running.leadership.clone();
        let mut is_silent = false;
        loop {
            let is_running = all.borrow_and_update().running_state.is_ok();
            let leading = leading(&server.borrow_and_update(), *leadership.borrow_and_update(), is_running);
            self.tell(leading);
            if !is_running {
                return;
            }
            if is_out_of_place(&server.borrow()) {
                running.core.runtime_config().heartbeat(false);
                is_silent = true;
            } else if is_silent {
                running.core.runtime_config().heartbeat(true);
                is_silent = false;
            }
            tokio::select! {
                biased;
                changed = server.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                _ = leadership.changed() => {}
                // Says when the instance fails; it changes with every heartbeat.
                failed = all.wait_for(|metrics| metrics.running_state.is_err()) => {
                    if failed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn tell(&self, leading: Leading) {
        let before = self.leading.send_replace(leading);
        if before.leader == leading.leader && before.is_me == leading.is_me {
            return;
        }
        match leading.leader {
            _ if leading.is_me => tracing::info!("this node leads the control plane, {}", leading.term),
            Some(leader) => tracing::info!("{leader} leads the control plane"),
            None => tracing::info!("nobody leads the control plane, as far as this node knows"),
        }
    }

    async fn confirm(&self) -> Result<u64, ControlError> {
        let deadline = Instant::now() + self.options.timing.patience;
        loop {
            let running = self.leader()?;
            let asked = timeout_at(deadline, running.core.ensure_linearizable()).await;
            let late = || ControlError::Unknown("no quorum answered in time".into());
            match asked.map_err(|_| late())? {
                Ok(place) => {
                    let leadership = *running.leadership.borrow();
                    let confirmed = place.map(|place| place.leader_id);
                    return if confirmed.is_some() && confirmed == leadership.leader {
                        Ok(leadership.number)
                    } else {
                        Err(ControlError::NotLeader(None))
                    };
                }
                Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(to))) => {
                    return Err(ControlError::NotLeader(to.leader_id));
                }
                Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => {
                    timeout_at(deadline, sleep(ASK_AGAIN)).await.map_err(|_| late())?;
                }
                Err(RaftError::Fatal(error)) => return Err(ControlError::Failed(error.to_string())),
            }
        }
    }

    /// The answer to another voter.
    async fn answer(&self, request: Request) -> Answer {
        let Some(running) = self.core.load_full() else { return Answer::Unable };
        let rests = running.rests_until.is_some_and(|until| Instant::now() < until);
        let answer = match request {
            Request::Vote(_) | Request::Poll { .. } if rests => None,
            Request::Poll { last } => self.polled(&running, last).await.map(Answer::Poll),
            Request::Vote(request) => running.core.vote(request).await.ok().map(Answer::Vote),
            Request::Append(request) => running.core.append_entries(request).await.ok().map(Answer::Append),
            Request::Snapshot { vote, bytes } => match wire::snapshot(&bytes) {
                Some(snapshot) => {
                    let snapshot = Snapshot { meta: snapshot.meta(), snapshot: Box::new(bytes) };
                    running.core.install_full_snapshot(vote, snapshot).await.ok().map(Answer::Snapshot)
                }
                None => None,
            },
        };
        answer.unwrap_or(Answer::Unable)
    }
}

/// Sleeps until then; for ever, if there is no such moment.
pub(super) async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Whether this node leads and is no voter. The library would let it lead for ever; without its heartbeats the voters elect one of
/// theirs.
pub(super) fn is_out_of_place(server: &RaftServerMetrics<NodeId, Address>) -> bool {
    let mut voters = server.membership_config.voter_ids();
    server.state == ServerState::Leader && voters.all(|voter| voter != server.id)
}

/// Who leads, by what the library says and what was applied.
fn leading(server: &RaftServerMetrics<NodeId, Address>, applied: Leadership, is_running: bool) -> Leading {
    // The number is known as soon as the leader's first entry is applied here, and with it all before it.
    let is_applied = applied.leader == Some(server.vote.leader_id);
    let leader = server.current_leader.filter(|_| is_running);
    // A leader may have been voted out and not know it yet.
    let is_voter = server.membership_config.voter_ids().any(|voter| voter == server.id);
    Leading {
        term: if is_applied && leader.is_some() { applied.number } else { 0 },
        leader,
        is_me: is_applied && is_voter && leader == Some(server.id) && server.state == ServerState::Leader,
    }
}

#[async_trait]
impl ControlPlane for Raft {
    fn map(&self) -> watch::Receiver<Arc<ClusterMap>> {
        self.inner.map.subscribe()
    }

    fn leading(&self) -> watch::Receiver<Leading> {
        self.inner.leading.subscribe()
    }

    async fn propose(&self, command: Command) -> Result<Outcome, ControlError> {
        if encode(&command).len() > COMMAND_BYTES_MAX {
            return Err(ControlError::Failed("the command is too long".into()));
        }
        let running = self.inner.leader()?;
        let decided = timeout(self.inner.options.timing.patience, running.core.client_write(command)).await;
        match decided {
            Ok(Ok(response)) => Ok(response.data),
            // Also when another leads by now: the entry may have gone to somebody who still has it.
            Ok(Err(error)) => Err(ControlError::Unknown(error.to_string())),
            Err(_) => Err(ControlError::Unknown("no quorum has taken it in time".into())),
        }
    }

    async fn confirm(&self) -> Result<u64, ControlError> {
        self.inner.confirm().await
    }

    async fn found(&self, voters: BTreeMap<NodeId, Address>) -> Result<(), ControlError> {
        if voters.is_empty() || voters.len() > VOTERS_MAX {
            return Err(ControlError::Failed(format!("there are 1 to {VOTERS_MAX} voters")));
        }
        let running = self.inner.running()?;
        match timeout(self.inner.options.timing.patience, running.core.initialize(voters)).await {
            Ok(founded) => founded.map_err(|error| ControlError::Failed(error.to_string())),
            Err(_) => Err(ControlError::Unknown("the disk did not answer in time".into())),
        }
    }

    async fn set_voters(
        &self,
        voters: BTreeMap<NodeId, Address>,
        learners: BTreeMap<NodeId, Address>,
    ) -> Result<(), ControlError> {
        self.inner.set_voters(voters, learners).await
    }

    fn voters(&self) -> (Vec<NodeId>, Vec<NodeId>) {
        let Ok(running) = self.inner.running() else { return Default::default() };
        let metrics = running.core.server_metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        (membership.voter_ids().collect(), membership.learner_ids().collect())
    }
}

#[async_trait]
impl Serve for Raft {
    async fn serve(&self, from: NodeId, request: Vec<u8>) -> Option<Vec<u8>> {
        if wire::is_of_later_version(&request) {
            return Some(wire::to_bytes(&Answer::Unable));
        }
        let request = wire::request(from, &request)?;
        Some(wire::to_bytes(&self.inner.answer(request).await))
    }
}
