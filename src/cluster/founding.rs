//! The founding: how nodes that know of no cluster become one.
//!
//! Each node says for how many it waits (`bootstrap-expect`). Once so many are there that are in no cluster, the one with the lowest
//! id asks the others to found none without it, and begins the log with all of them as voters. It takes a majority of them to
//! elect a leader; so if two begin at the same time, one of both gets nowhere. A node that waits for none joins what there is.

use super::consensus::{Leading, voters_of};
use super::controller::member_of;
use super::map::{Address, Command};
use super::messages::{Ask, Reply};
use super::node::{Node, PATIENCE};
use crate::base::ids::NodeId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked whether everybody is there.
const LOOK_GAP: Duration = Duration::from_millis(50);

impl Node {
    /// Founds a cluster if that is this node's part, and ends once there is one.
    pub(super) async fn found(self: &Arc<Self>) {
        while self.map().cluster.is_none() {
            let leading = *self.parts.control.leading().borrow();
            if leading.is_me {
                self.name_cluster(leading).await;
            } else if leading.term == 0 && self.parts.control.voters().0.is_empty() {
                self.begin_log().await;
            }
            tokio::time::sleep(LOOK_GAP).await;
        }
    }

    /// The nodes to found a cluster with, if all are there.
    fn founders(&self) -> Option<BTreeMap<NodeId, Address>> {
        let own = self.parts.host.profile();
        let expected = usize::from(own.expects);
        let view = self.view();
        if expected == 0 || view.live.values().any(|profile| profile.cluster.is_some()) || self.has_promised()
        {
            return None;
        }
        let fits = |profile: &super::membership::Profile| {
            profile.expects == own.expects && (profile.partitions == own.partitions || profile.is_witness)
        };
        let mut founders: BTreeMap<NodeId, Address> = view
            .live
            .values()
            .filter(|profile| fits(profile) && profile.node != self.parts.me && profile.address.port != 0)
            .map(|profile| (profile.node, profile.address.clone()))
            .collect();
        founders.insert(self.parts.me, own.address);
        let is_first = founders.keys().next() == Some(&self.parts.me);
        (founders.len() >= expected && is_first).then_some(founders)
    }

    async fn begin_log(self: &Arc<Self>) {
        let Some(founders) = self.founders() else { return };
        let count = voters_of(founders.len());
        let voters: BTreeMap<NodeId, Address> = founders.into_iter().take(count).collect();
        for node in voters.keys().copied().filter(|node| *node != self.parts.me) {
            match self.ask(node, &Ask::Promise, PATIENCE).await {
                Ok(Reply::Done) => {}
                answer => {
                    return tracing::debug!("node {node} founds no cluster with this one yet: {answer:?}");
                }
            }
        }
        tracing::info!("founding a cluster with {} voters", voters.len());
        if let Err(error) = self.parts.control.found(voters).await {
            tracing::warn!("the cluster could not be founded: {error:?}");
        }
    }

    /// The first command of the log.
    async fn name_cluster(self: &Arc<Self>, leading: Leading) {
        let own = self.parts.host.profile();
        let view = self.view();
        let (voters, _) = self.parts.control.voters();
        let there = |node: &NodeId| if *node == self.parts.me { Some(&own) } else { view.live.get(node) };
        let members: Vec<_> =
            voters.iter().filter_map(|node| Some((*node, member_of(there(node)?, false)))).collect();
        if members.len() < voters.len() {
            return; // somebody has gone; it comes back, or is let in later
        }
        let command = Command::Found {
            cluster: NodeId(rand::random()),
            partitions: own.partitions,
            copies: self.parts.settings.copies,
            shape: self.parts.settings.shape,
            members,
        };
        match self.parts.control.propose(command).await {
            Ok(_) => tracing::info!("the cluster is founded, term {}", leading.term),
            Err(error) => tracing::warn!("the cluster could not be named yet: {error:?}"),
        }
    }
}
