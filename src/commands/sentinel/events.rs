//! What Sentinels publish: `+switch-master` when there is another primary, `+sdown` and `-sdown` when a node that has data is not
//! heard any more, or again. Every node tells its own clients what it sees itself, as a Sentinel does.
//!
//! Between the death of a primary and the choice of the next one the node that is asked stands for it. That is no switch, and none
//! is told: it would be taken back at once.

use super::super::cluster::shown::Shown;
use crate::base::clock;
use crate::base::ids::NodeId;
use crate::cluster::map::Address;
use crate::session::service::Service;
use std::collections::BTreeSet;

/// A channel, and what is published there.
pub type Event = (&'static str, String);

/// What was told last.
#[derive(Default)]
pub struct Events {
    primary: Option<(NodeId, Address)>,
    down: BTreeSet<NodeId>,
}

/// `host port`
fn place(address: &Address) -> String {
    format!("{} {}", address.host, address.port)
}

impl Events {
    /// What has happened since the last time, in the order in which it is to be told.
    pub fn news(&mut self, service: &Service) -> Vec<Event> {
        let names = &service.settings().cluster.master_names;
        Shown::of(service, clock::unix_ms()).map_or_else(Vec::new, |shown| self.news_of(&shown, names))
    }

    /// The same of what is shown, under each of these names.
    fn news_of(&mut self, shown: &Shown, names: &[String]) -> Vec<Event> {
        let mut events = Vec::new();
        let Some(primary) = super::decided_primary(shown) else { return events };
        let address = shown.address(primary);
        if address.port == 0 || address.host.is_empty() {
            return events; // where it is will be heard
        }
        self.note_down(shown, (primary, &address), names, &mut events);
        if let Some((node, old)) = &self.primary
            && (*node != primary || (shown.is_live(primary) && place(old) != place(&address)))
        {
            let (old, new) = (place(old), place(&address));
            events.extend(names.iter().map(|name| ("+switch-master", format!("{name} {old} {new}"))));
        }
        self.primary = Some((primary, address));
        events
    }

    fn note_down(
        &mut self,
        shown: &Shown,
        (primary, upstream): (NodeId, &Address),
        names: &[String],
        events: &mut Vec<Event>,
    ) {
        // Who was never heard is not down, and who is down stays so until it is heard, whatever becomes of its copies.
        let has_data =
            |node: &NodeId| shown.map.partitions.iter().any(|it| it.copies().any(|it| it == *node));
        let is_down = |node: &NodeId| {
            let is_told = self.down.contains(node);
            !shown.is_live(*node) && (is_told || (shown.view.dead.contains_key(node) && has_data(node)))
        };
        let down: BTreeSet<NodeId> = shown.nodes().into_iter().filter(is_down).collect();
        let mut tell = |channel: &'static str, node: NodeId| {
            let own = shown.address(node);
            for name in names {
                let words = if node == primary {
                    format!("master {name} {}", place(&own))
                } else {
                    let (host, port, of) = (&own.host, own.port, place(upstream));
                    format!("slave {host}:{port} {host} {port} @ {name} {of}")
                };
                events.push((channel, words));
            }
        };
        down.difference(&self.down).for_each(|node| tell("+sdown", *node));
        self.down
            .difference(&down)
            .filter(|node| shown.is_live(**node))
            .for_each(|node| tell("-sdown", *node));
        self.down = down;
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::cluster::shown::tests::{node, shown};
    use super::*;
    use std::sync::Arc;

    fn told(events: &mut Events, shown: &Shown) -> Vec<String> {
        let names = ["mymaster".to_owned()];
        let events = events.news_of(shown, &names);
        events.into_iter().map(|(channel, words)| format!("{channel} {words}")).collect()
    }

    #[test]
    fn a_switch_is_told_once_with_both_addresses() {
        let mut events = Events::default();
        let first = shown(&[(3, &[1, 2])]);
        assert_eq!(told(&mut events, &first), ["+sdown master mymaster 10.0.0.3 6379"]);
        assert!(told(&mut events, &first).is_empty(), "nothing new, though another node stands for it");
        assert!(told(&mut events, &shown(&[(0, &[1, 2])])).is_empty(), "nobody is primary");
        let second = shown(&[(2, &[1, 3])]);
        assert_eq!(told(&mut events, &second), ["+switch-master mymaster 10.0.0.3 6379 10.0.0.2 6379"]);
        assert!(told(&mut events, &second).is_empty());
    }

    #[test]
    fn who_is_heard_again_is_told_of() {
        let mut events = Events::default();
        let mut cluster = shown(&[(1, &[2, 3])]);
        let silent = "slave 10.0.0.3:6379 10.0.0.3 6379 @ mymaster 10.0.0.1 6379";
        assert_eq!(told(&mut events, &cluster), [format!("+sdown {silent}")]);
        let mut view = (*cluster.view).clone();
        let profile = view.dead.remove(&node(3)).expect("it is dead");
        cluster.view = Arc::new(view.clone());
        assert!(
            told(&mut events, &cluster).is_empty(),
            "gossip has forgotten it, and it is down all the same"
        );
        view.live.insert(node(3), profile);
        cluster.view = Arc::new(view);
        assert_eq!(told(&mut events, &cluster), [format!("-sdown {silent}")]);
    }
}
