//! The controller: what the node that leads does besides. It gives leases, replaces primaries whose lease is over, lets nodes in,
//! and moves copies and primaries to where they belong. Everything it knows is in the map or is asked again, so another leader
//! goes on where this one ended.

use super::consensus::{ControlError, Leading, voters_of};
use super::lease::{Grants, Holder};
use super::map::{ClusterMap, Command, Member, Outcome, Place, Promotion, Reason};
use super::membership::Profile;
use super::messages::{Ask, Reply};
use super::node::{Node, PATIENCE, done};
use super::placement::{self, Picture, Step};
use super::promotion::{Answer, choose};
use crate::base::ids::{Lsn, NodeId, PartitionId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long the copies of a partition may take to say where they stand.
const ANSWER_TIME: Duration = Duration::from_millis(250);
/// How often it is looked whether something is to be moved.
const PLACEMENT_GAP: Duration = Duration::from_millis(250);

impl Node {
    /// Controls the cluster whenever this node leads.
    pub(super) async fn lead(self: &Arc<Self>) {
        let mut leading = self.parts.control.leading();
        loop {
            let now = *leading.borrow_and_update();
            if now.is_me {
                tracing::info!("this node leads the cluster, term {}", now.term);
                let clock = (self.parts.clock)();
                *self.grants.lock() = Some((now.term, Grants::new(clock, self.parts.settings.lease)));
                let still = |leading: &Leading| leading.is_me && leading.term == now.term;
                let mut changes = leading.clone();
                tokio::select! {
                    biased;
                    _ = changes.wait_for(|leading| !still(leading)) => {}
                    () = self.rule(now.term) => {}
                }
                *self.grants.lock() = None;
                tracing::info!("this node does not lead the cluster any more, term {}", now.term);
            } else if leading.changed().await.is_err() {
                return;
            }
        }
    }

    async fn rule(self: &Arc<Self>, term: u64) {
        let mut last_placement = Duration::ZERO;
        loop {
            self.replace_primaries(term).await;
            let now = (self.parts.clock)();
            if now.saturating_sub(last_placement) >= PLACEMENT_GAP {
                last_placement = now;
                self.let_in().await;
                self.let_go().await;
                self.set_voters().await;
                self.place().await;
            }
            tokio::select! {
                biased;
                () = tokio::time::sleep(self.parts.settings.tick) => {}
                () = self.news.notified() => {}
            }
        }
    }

    /// Has something decided, and tells everybody at once: the log alone would tell them with its next heartbeat.
    async fn decide(self: &Arc<Self>, command: Command) -> Result<Outcome, ControlError> {
        let outcome = self.parts.control.propose(command).await?;
        if let Outcome::Refused(reason) = &outcome {
            tracing::warn!("the cluster's map refuses a change: {reason}");
        }
        let map = self.parts.control.map().borrow().clone();
        if map.version > self.map.borrow().version {
            self.learn_map(&map);
            self.tell_everybody(&map);
        }
        Ok(outcome)
    }

    fn tell_everybody(self: &Arc<Self>, map: &Arc<ClusterMap>) {
        for node in map.nodes.keys().copied().filter(|node| *node != self.parts.me) {
            let (this, map) = (Arc::clone(self), Arc::clone(map));
            tokio::spawn(async move {
                _ = this.ask(node, &Ask::Map(ClusterMap::clone(&map)), PATIENCE).await;
            });
        }
    }

    /// A node asks for its lease.
    pub(super) async fn grant(&self, node: NodeId, incarnation: u64, version: u64, gave_up: bool) -> Reply {
        let leading = *self.parts.control.leading().borrow();
        if !leading.is_me {
            return Reply::NotLeader(leading.leader.filter(|leader| *leader != self.parts.me));
        }
        // Whether it leads is asked after the question came: see `lease`.
        match self.parts.control.confirm().await {
            Ok(term) if term == leading.term => {}
            Ok(_) | Err(_) => return Reply::NotLeader(None),
        }
        let now = (self.parts.clock)();
        let mut grants = self.grants.lock();
        let Some((_, grants)) = grants.as_mut().filter(|(term, _)| *term == leading.term) else {
            return Reply::NotLeader(None);
        };
        self.versions.lock().insert(node, version);
        // With the newest map in force, the asker has given up whatever was decided to be given up before now.
        self.learn_map(&self.parts.control.map().borrow().clone());
        let map = self.map();
        if !map.nodes.contains_key(&node) {
            return Reply::Refused("it is not in this cluster".into());
        }
        if gave_up {
            // Not what was said on an older map and came late: since then this very process may have been promoted again.
            if version == map.version {
                grants.release((node, incarnation), now);
                self.news.notify_one();
            }
        } else if !grants.grant((node, incarnation), now) {
            return Reply::Refused("another node is about to take its place".into());
        }
        let newer = (map.version > version).then(|| ClusterMap::clone(&map));
        Reply::Granted { version: map.version, map: newer }
    }

    /// Chooses new primaries for partitions whose primary has no lease and gets none.
    async fn replace_primaries(self: &Arc<Self>, term: u64) {
        let map = self.map();
        let now = (self.parts.clock)();
        let holders: BTreeSet<Holder> =
            map.partitions.iter().filter_map(|place| Some((place.primary?, place.incarnation))).collect();
        let over: BTreeSet<Holder> = {
            let mut grants = self.grants.lock();
            let Some((_, grants)) = grants.as_mut().filter(|(of, _)| *of == term) else { return };
            for holder in &holders {
                if self.is_overdue(*holder, grants, now) {
                    grants.refuse(*holder);
                }
            }
            // Who is no primary any more may have leases again; and so may who was heard again in time.
            let fine = |holder: &Holder| !holders.contains(holder) || !self.is_overdue(*holder, grants, now);
            let fine: Vec<Holder> = grants.refused().filter(fine).collect();
            fine.into_iter().for_each(|holder| grants.accept(holder));
            holders.iter().copied().filter(|holder| grants.is_over(*holder, now)).collect()
        };
        let is_open = |place: &Place| match place.primary {
            Some(primary) => over.contains(&(primary, place.incarnation)),
            None => true,
        };
        let open: Vec<PartitionId> =
            map.places().filter(|(_, place)| is_open(place)).map(|(id, _)| id).collect();
        if !open.is_empty() {
            self.elect(&map, &open).await;
        }
    }

    fn is_overdue(&self, (node, incarnation): Holder, grants: &Grants, now: Duration) -> bool {
        let settings = &self.parts.settings;
        let silent = grants.silent_for((node, incarnation), now);
        if grants.has_released((node, incarnation)) || silent > settings.suspect_after {
            return true;
        }
        // Another process of the same node asks: this one is not there any more.
        if grants.present(node, now, settings.suspect_after).is_some_and(|other| other != incarnation) {
            return true;
        }
        let hint = self.hints.lock().get(&node).copied();
        let is_hinted = hint.is_some_and(|at| now.saturating_sub(at) < settings.suspect_after)
            || self.view().dead.contains_key(&node);
        is_hinted && silent > settings.hint_after
    }

    /// Asks the members where they stand, and promotes the most advanced.
    async fn elect(self: &Arc<Self>, map: &ClusterMap, open: &[PartitionId]) {
        let places = || open.iter().filter_map(|id| Some((*id, map.place(*id)?)));
        let is_new = places().all(|(_, place)| place.primary.is_none());
        let asked: BTreeSet<NodeId> = if is_new {
            map.nodes.iter().filter(|(_, member)| !member.is_witness).map(|(node, _)| *node).collect()
        } else {
            places().flat_map(|(_, place)| place.members()).collect()
        };
        let answers = self.ask_positions(&asked).await;
        let promotions = if is_new {
            if answers.len() < asked.len() {
                return; // where the data is must be known before anybody is asked to follow
            }
            first(map, &answers, self.parts.me)
        } else {
            choose(places(), map.copies, &answers, Some(self.parts.me))
        };
        if promotions.is_empty() {
            return;
        }
        let reason = if is_new { Reason::Founding } else { Reason::LeaseEnded };
        let (count, to) = (promotions.len(), promotions[0].to);
        let promoted: Vec<Holder> = promotions.iter().map(|one| (one.to, one.incarnation)).collect();
        let command = Command::Promote { promotions, reason, at_ms: self.parts.host.unix_ms() };
        match self.decide(command).await {
            Ok(_) => {
                tracing::warn!("node {to} is primary of {count} partitions now ({})", reason.name());
                self.accept(&promoted);
            }
            Err(error) => tracing::warn!("no new primary of {count} partitions: {error:?}"),
        }
    }

    /// Who was promoted may have leases, whatever it has said of its time as a primary before.
    fn accept(&self, promoted: &[Holder]) {
        if let Some((_, grants)) = &mut *self.grants.lock() {
            promoted.iter().for_each(|holder| grants.accept(*holder));
        }
    }

    async fn ask_positions(self: &Arc<Self>, nodes: &BTreeSet<NodeId>) -> BTreeMap<NodeId, Answer> {
        let mut asking = tokio::task::JoinSet::new();
        for node in nodes.iter().copied() {
            let this = Arc::clone(self);
            asking.spawn(async move { (node, this.ask(node, &Ask::Positions, ANSWER_TIME).await) });
        }
        let mut answers = BTreeMap::new();
        while let Some(Ok((node, answer))) = asking.join_next().await {
            if let Ok(Reply::Positions(answer)) = answer {
                answers.insert(node, answer);
            }
        }
        answers
    }

    /// A primary has given up partitions in favour of a replica that has everything.
    pub(super) async fn decide_handover(self: &Arc<Self>, from: NodeId, promotions: Vec<Promotion>) -> Reply {
        let leading = *self.parts.control.leading().borrow();
        if !leading.is_me {
            return Reply::NotLeader(leading.leader);
        }
        let map = self.parts.control.map().borrow().clone();
        let is_right = |one: &Promotion| {
            map.place(one.partition).is_some_and(|place| {
                place.primary == Some(from) && place.epoch == one.if_epoch && place.replicas.contains(&one.to)
            })
        };
        if !promotions.iter().all(is_right) {
            return Reply::Refused("something else was decided meanwhile".into());
        }
        let (reason, at_ms) = (Reason::Handover, self.parts.host.unix_ms());
        self.answer_of(Command::Promote { promotions, reason, at_ms }).await
    }

    pub(super) async fn answer_of(self: &Arc<Self>, command: Command) -> Reply {
        let leading = *self.parts.control.leading().borrow();
        if !leading.is_me {
            return Reply::NotLeader(leading.leader);
        }
        match self.decide(command).await {
            Ok(Outcome::Done(_)) => Reply::Done,
            Ok(Outcome::Refused(reason)) => Reply::Refused(reason),
            Err(ControlError::NotLeader(leader)) => Reply::NotLeader(leader),
            Err(ControlError::Failed(reason)) => Reply::Refused(reason),
            Err(ControlError::Unknown(reason)) => Reply::Unknown(reason),
        }
    }

    /// See [`Ask::Forget`]. Who is there would be let in again at once: it stays in the map, as one that leaves, until it is gone.
    pub(super) async fn forget(self: &Arc<Self>, node: NodeId) -> Reply {
        let map = self.map();
        let is_there = map.has_copies(node) || self.view().live.contains_key(&node);
        self.answer_of(if is_there { Command::SetLeaving(node, true) } else { Command::Dismiss(node) }).await
    }

    /// Forgets nodes that were to leave, have nothing any more, and are gone.
    async fn let_go(self: &Arc<Self>) {
        let map = self.map();
        for node in self.lost(&map) {
            let is_leaving = map.nodes.get(&node).is_some_and(|member| member.is_leaving);
            if is_leaving && !map.has_copies(node) && self.decide(Command::Dismiss(node)).await.is_ok() {
                tracing::info!("node {node} has left the cluster");
            }
        }
    }

    /// Admits nodes that gossip tells of, and notes where they are reached now.
    async fn let_in(self: &Arc<Self>) {
        let (map, view) = (self.map(), self.view());
        let now = (self.parts.clock)();
        let mut seen = self.seen.lock().clone();
        view.live.keys().chain(map.nodes.keys()).for_each(|node| {
            if view.live.contains_key(node) || !seen.contains_key(node) {
                seen.insert(*node, now);
            }
        });
        seen.retain(|node, _| view.live.contains_key(node) || map.nodes.contains_key(node));
        *self.seen.lock() = seen;
        for (node, profile) in &view.live {
            let is_ours = profile.cluster.is_none_or(|cluster| Some(cluster) == map.cluster);
            let fits = profile.is_witness || usize::from(profile.partitions) == map.partitions.len();
            // A node that lost its data comes back under another name, at the address that gossip still remembers of the old one.
            let is_gone = map.nodes.get(node).is_some_and(|member| member.address.port == 0)
                && view.live.iter().any(|(other, it)| other != node && it.address == profile.address);
            if !is_ours || !fits || is_gone || profile.address.port == 0 {
                continue;
            }
            let is_leaving = map.nodes.get(node).is_some_and(|member| member.is_leaving);
            let member = member_of(profile, is_leaving);
            if map.nodes.get(node) != Some(&member) {
                tracing::info!("node {node} is at {}:{}", member.address.host, member.address.port);
                if self.decide(Command::Admit(*node, member)).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Makes as many nodes voters as can be, an odd number up to five; everybody else learns.
    async fn set_voters(self: &Arc<Self>) {
        let map = self.map();
        let (voters, learners) = self.parts.control.voters();
        let (voters, learners): (BTreeSet<NodeId>, BTreeSet<NodeId>) =
            (voters.into_iter().collect(), learners.into_iter().collect());
        let lost = self.lost(&map);
        let stays = |node: &&NodeId| {
            map.nodes.get(node).is_some_and(|member| !member.is_leaving) && !lost.contains(node)
        };
        let able: Vec<NodeId> = voters
            .iter()
            .filter(stays)
            .chain(map.nodes.keys().filter(stays).filter(|node| !voters.contains(node)))
            .copied()
            .collect();
        // A voter that is not there stays one until another can take its place.
        let count = voters_of(able.len());
        let wanted: BTreeSet<NodeId> =
            if count < voters.len() && voters.iter().all(|node| map.nodes.contains_key(node)) {
                voters.clone()
            } else {
                able.iter().take(count).copied().collect()
            };
        let others: BTreeSet<NodeId> =
            map.nodes.keys().filter(|node| !wanted.contains(node)).copied().collect();
        if wanted.is_empty() || (wanted == voters && others == learners) {
            return;
        }
        let addressed = |nodes: &BTreeSet<NodeId>| {
            nodes.iter().map(|node| (*node, self.address_of(*node).unwrap_or_default())).collect()
        };
        if let Err(error) = self.parts.control.set_voters(addressed(&wanted), addressed(&others)).await {
            tracing::debug!("the voters could not be changed yet: {error:?}");
        }
    }

    /// Nodes that others may take the place of.
    fn lost(&self, map: &ClusterMap) -> BTreeSet<NodeId> {
        let (now, seen, view) = ((self.parts.clock)(), self.seen.lock().clone(), self.view());
        let lost_after = self.parts.settings.lost_after;
        let is_lost = |node: &&NodeId| {
            let silent = seen.get(node).is_none_or(|at| now.saturating_sub(*at) > lost_after);
            // Another node is where it was: it will not come back.
            let is_replaced = map.nodes.get(node).is_some_and(|member| member.address.port == 0);
            is_replaced || (!view.live.contains_key(node) && silent)
        };
        map.nodes.keys().filter(is_lost).copied().collect()
    }

    /// Moves something, if anything is to be moved.
    async fn place(self: &Arc<Self>) {
        if self.is_moving.load(Ordering::Acquire) {
            return;
        }
        let map = self.map();
        let primaries: BTreeSet<NodeId> = map.partitions.iter().filter_map(|place| place.primary).collect();
        let in_force = self.versions.lock().clone();
        // A primary that counts acknowledgements by members of before must not be two steps behind.
        if !primaries.iter().all(|node| in_force.get(node) == Some(&map.version)) {
            return;
        }
        let answers = self.ask_positions(&primaries).await;
        let Some(step) = placement::next(&map, &self.picture(&map, &answers)) else { return };
        match step {
            Step::Decide(command) => {
                let command = match self.later_epochs(&map, &command).await {
                    Some(epochs) => epochs,
                    None => command,
                };
                _ = self.decide(command).await;
            }
            Step::HandOver { from, to, partitions } => {
                self.is_moving.store(true, Ordering::Release);
                let this = Arc::clone(self);
                tokio::spawn(async move {
                    let ask = Ask::HandOver { partitions, to };
                    if let Err(reason) = done(this.ask(from, &ask, PATIENCE * 4).await) {
                        tracing::info!("node {from} does not hand over to node {to} yet: {reason}");
                        this.calm.lock().disturb((this.parts.clock)());
                    }
                    this.is_moving.store(false, Ordering::Release);
                });
            }
        }
    }

    fn picture(&self, map: &ClusterMap, answers: &BTreeMap<NodeId, Answer>) -> Picture {
        let (view, lost) = (self.view(), self.lost(map));
        let can_serve = |node: &&NodeId| view.live.get(node).is_some_and(|profile| profile.can_serve);
        let here = || map.nodes.keys().filter(|node| view.live.contains_key(node));
        let mut in_step = BTreeSet::new();
        for (primary, answer) in answers {
            for (node, partitions) in &answer.in_step {
                let own =
                    |id: &&PartitionId| map.place(**id).is_some_and(|place| place.primary == Some(*primary));
                in_step.extend(partitions.iter().filter(own).map(|id| (*node, *id)));
            }
        }
        let fit: BTreeSet<NodeId> = here().filter(can_serve).copied().collect();
        let now = (self.parts.clock)();
        let is_calm = {
            let (mut calm, mut fit_before) = (self.calm.lock(), self.fit.lock());
            if !fit_before.is_subset(&fit) {
                calm.disturb(now);
            }
            fit_before.clone_from(&fit);
            calm.is_calm(now)
        };
        Picture {
            is_calm,
            fit,
            unable: here().filter(|node| !can_serve(node)).copied().collect(),
            lost,
            in_step,
        }
    }

    /// A learner may have a history of its own, of a later epoch than this cluster's: it would never give that up for an older one.
    /// Then the primary goes on with an epoch that is later still.
    async fn later_epochs(self: &Arc<Self>, map: &ClusterMap, command: &Command) -> Option<Command> {
        let Command::Arrange(arrangements) = command else { return None };
        let newcomers = |id: PartitionId, learners: &[NodeId]| -> Vec<NodeId> {
            let known =
                |node: &NodeId| map.place(id).is_some_and(|place| place.copies().any(|copy| copy == *node));
            learners.iter().copied().filter(|node| !known(node)).collect()
        };
        let all = arrangements.iter().flat_map(|one| newcomers(one.partition, &one.learners)).collect();
        let answers = self.ask_positions(&all).await;
        let mut promotions = Vec::new();
        for one in arrangements {
            let (place, id) = (map.place(one.partition)?, usize::from(one.partition.0));
            let histories =
                newcomers(one.partition, &one.learners).into_iter().filter_map(|node| answers.get(&node));
            let latest =
                histories.filter_map(|answer| answer.positions.get(id)).map(|(epoch, _)| *epoch).max();
            if let (Some(epoch), Some(to)) = (latest.filter(|epoch| *epoch >= place.epoch), place.primary) {
                promotions.push(Promotion {
                    partition: one.partition,
                    if_epoch: place.epoch,
                    to,
                    incarnation: place.incarnation,
                    position: (epoch, Lsn(0)),
                });
            }
        }
        let (reason, at_ms) = (Reason::Newcomer, self.parts.host.unix_ms());
        (!promotions.is_empty()).then_some(Command::Promote { promotions, reason, at_ms })
    }
}

/// What the map says of a node with this profile.
pub(super) fn member_of(profile: &Profile, is_leaving: bool) -> Member {
    Member {
        address: profile.address.clone(),
        zone: profile.zone.clone(),
        is_witness: profile.is_witness,
        is_leaving,
    }
}

/// The first primary of everything: whoever has the most, and rather not who leads: if both end at once, an election comes before
/// the promotion. What others have is another history, and is kept there.
fn first(map: &ClusterMap, answers: &BTreeMap<NodeId, Answer>, leader: NodeId) -> Vec<Promotion> {
    let rank = |node: NodeId, answer: &Answer| {
        (answer.can_serve, answer.weight(), node != leader, std::cmp::Reverse(node))
    };
    let best = answers.iter().max_by_key(|(node, answer)| rank(**node, answer));
    let Some((to, best)) = best else { return Vec::new() };
    let promotion = |(id, place): (PartitionId, &Place)| {
        let position = |answer: &Answer| answer.positions.get(usize::from(id.0)).copied().unwrap_or_default();
        let epoch = answers.values().map(|answer| position(answer).0).max().unwrap_or_default();
        Promotion {
            partition: id,
            if_epoch: place.epoch,
            to: *to,
            incarnation: best.incarnation,
            position: (epoch, position(best).1),
        }
    };
    map.places().map(promotion).collect()
}
