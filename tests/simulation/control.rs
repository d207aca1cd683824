//! Who gives nodes their parts: what the control plane of a cluster does, as far as replication can tell.
//!
//! For each partition: the old primary's lease ends before anybody else is chosen; the new one is the most advanced of so many nodes
//! that one of them has what any majority has (or anybody at all, where that is what is to be tested); each node learns of it at
//! a time of its own.

use crate::history::place;
use crate::network::PORT;
use crate::node::{Machine, Process, Shared, host};
use crate::plant::Plant;
use crate::scenario::Scenario;
use crate::witness::Event;
use larder::base::concern::WriteConcern;
use larder::base::ids::{Epoch, PartitionId};
use larder::replication::assignment::{Assignment, Part};
use larder::replication::storage::Storage;
use rand::prelude::*;
use std::sync::Arc;

/// Who is the primary of a partition.
struct Role {
    primary: Option<usize>,
    epoch: Epoch,
    /// It has begun its epoch.
    is_begun: bool,
    /// When to choose one, if there is none.
    choose_at_ms: u64,
}

/// See the module.
pub struct Control {
    roles: Vec<Role>,
    nodes: usize,
    is_safe: bool,
    is_spread: bool,
    has_chains: bool,
    plant: Plant,
}

impl Control {
    /// Before anything began.
    pub fn new(scenario: &Scenario) -> Control {
        let role = |_| Role { primary: None, epoch: Epoch(1), is_begun: false, choose_at_ms: 0 };
        Control {
            roles: (0..scenario.node.data.partitions).map(role).collect(),
            nodes: scenario.nodes,
            is_safe: scenario.is_safe,
            is_spread: scenario.is_spread,
            has_chains: scenario.has_chains,
            plant: scenario.plant,
        }
    }

    /// The parts of a node; what is not decided stays as it was.
    pub fn assignment(&self, node: usize, before: Option<&Assignment>) -> Assignment {
        let part = |(id, role): (usize, &Role)| match role.primary {
            Some(primary) if primary == node => Part::Primary { epoch: Some(role.epoch) },
            Some(primary) => {
                // In a chain each follows the one before it.
                let followed = if self.has_chains && node > 0 { node - 1 } else { primary };
                Part::Replica { host: host(followed), port: PORT, epoch: Some(role.epoch) }
            }
            None => before.map_or(Part::Primary { epoch: None }, |before| before.parts[id].clone()),
        };
        let parts = self.roles.iter().enumerate().map(part).collect();
        Assignment { parts, copies: self.nodes as u16, counted: Vec::new() }
    }

    /// Whether every partition has a primary that has begun.
    pub fn is_settled(&self) -> bool {
        self.roles.iter().all(|role| role.is_begun)
    }

    /// Everybody follows the primary from now on, once they have learned it.
    pub fn end_chains(&mut self) {
        self.has_chains = false;
    }

    fn ids(&self) -> impl Iterator<Item = PartitionId> + use<> {
        (0..self.roles.len() as u16).map(PartitionId)
    }

    /// A node's process has ended.
    pub fn end_leases(&mut self, node: usize, shared: &Shared) {
        for id in self.ids() {
            if shared.leases.of(id).is_some_and(|(holder, _)| holder == node) {
                shared.leases.end(id);
            }
        }
    }

    /// Other nodes are to become primaries.
    pub fn hand_over(&mut self, now_ms: u64, shared: &Shared, random: &mut StdRng) {
        let only = self.is_spread.then(|| random.random_range(0..self.roles.len()));
        let choose_at_ms = now_ms + random.random_range(0..200);
        for id in self.ids().filter(|id| only.is_none_or(|only| only == usize::from(id.0))) {
            shared.leases.end(id);
            let role = &mut self.roles[usize::from(id.0)];
            (role.primary, role.is_begun, role.choose_at_ms) = (None, false, choose_at_ms);
        }
    }

    /// Decides what is to be decided. Returns who is to learn it, and in how many milliseconds.
    pub fn decide(
        &mut self,
        now_ms: u64,
        running: &[Process],
        machines: &[Arc<Machine>],
        shared: &Shared,
        random: &mut StdRng,
    ) -> Vec<(usize, u64)> {
        let runs = |node: usize| running.iter().any(|process| process.data.node == node);
        let favourite = random.random_range(0..self.nodes);
        let mut is_changed = false;
        for id in self.ids() {
            let role = &mut self.roles[usize::from(id.0)];
            let has_none = role
                .primary
                .is_none_or(|node| !runs(node) || (role.is_begun && shared.leases.of(id).is_none()));
            if !has_none {
                continue;
            }
            if role.primary.take().is_some() {
                shared.leases.end(id);
                (role.is_begun, role.choose_at_ms) = (false, now_ms + random.random_range(20..400));
            }
            if now_ms >= role.choose_at_ms
                && let Some(chosen) = self.choose(id, running, machines, favourite, random)
            {
                let role = &mut self.roles[usize::from(id.0)];
                (role.primary, role.epoch) = (Some(chosen), Epoch(role.epoch.0 + 1));
                is_changed = true;
            }
        }
        let nodes = if is_changed { self.nodes } else { 0 };
        (0..nodes).map(|node| (node, random.random_range(0..300))).collect()
    }

    fn choose(
        &self,
        id: PartitionId,
        running: &[Process],
        machines: &[Arc<Machine>],
        favourite: usize,
        random: &mut StdRng,
    ) -> Option<usize> {
        let nodes: Vec<usize> = running.iter().map(|process| process.data.node).collect();
        // Any so many nodes have one among them that has what a majority has acknowledged.
        let needed = if self.is_safe { self.nodes - self.nodes / 2 } else { 1 };
        if nodes.len() < needed {
            return None;
        }
        if !self.is_safe || self.plant == Plant::PromotesAnybody {
            let likes = !self.is_spread && nodes.contains(&favourite);
            return if likes { Some(favourite) } else { nodes.choose(random).copied() };
        }
        let point = |node: &usize| machines[*node].disk.lock().written_point(id);
        let best = nodes.iter().map(point).map(|point| (point.epoch, point.lsn)).max()?;
        let mut best = nodes.into_iter().filter(|node| {
            let point = point(node);
            (point.epoch, point.lsn) == best
        });
        if self.is_spread { best.choose(random) } else { best.next() }
    }

    /// A node learns its parts, and begins the epochs of those that it is the primary of now.
    pub fn deliver(&mut self, machine: &Machine) {
        let Some(process) = machine.process.lock().clone() else { return };
        let assignment = self.assignment(machine.number, Some(&machine.assignment.lock()));
        *machine.assignment.lock() = assignment.clone();
        process.replication.assign(assignment);
        for id in self.ids() {
            let role = &mut self.roles[usize::from(id.0)];
            if role.primary != Some(machine.number) || role.is_begun {
                continue;
            }
            let (shared, node, data) = (&machine.shared, machine.number, &process.data);
            let before = data.point(id);
            let now_ms = shared.witness.wall_clock_ms();
            let position = data.store.begin_epoch(id, role.epoch, WriteConcern::Local, now_ms);
            let position = position.expect("epochs only grow");
            let point = data.point(id);
            assert_ne!(place(point), place(before));
            shared.witness.tell(Event::Committed { node, partition: id, point, previous: before.chain });
            data.write_up_to(position).expect("a position that was given");
            shared.witness.tell(Event::Promoted { node, partition: id, point });
            shared.leases.give(id, node, role.epoch);
            role.is_begun = true;
        }
    }
}
