//! No two nodes lead in one term, terms grow, and a leader is not confirmed when it was asked for after a later one began.

use crate::consensus::witness::{Event, Invariant};
use std::collections::BTreeMap;

/// See the module.
#[derive(Default)]
pub struct Leaders {
    /// By term: who led, and since when it was known.
    leaders: BTreeMap<u64, (usize, u64)>,
    /// When each confirmation ended, and the highest term until then.
    confirmed: Vec<(u64, u64)>,
}

impl Invariant for Leaders {
    fn observe(&mut self, now_us: u64, event: &Event) -> Result<(), String> {
        match event {
            Event::Leads { node, term: 0 } => Err(format!("node {node} leads in no term")),
            Event::Leads { node, term } => {
                let (leader, _) = *self.leaders.entry(*term).or_insert((*node, now_us));
                let two = || format!("node {leader} and node {node} lead in term {term}");
                if leader == *node { Ok(()) } else { Err(two()) }
            }
            Event::Confirmed { node, term, asked_us } => {
                let before = self.confirmed.partition_point(|(ended_us, _)| ended_us < asked_us);
                let confirmed = before.checked_sub(1).map_or(0, |at| self.confirmed[at].1);
                let begun = self.leaders.iter().rfind(|(_, (_, since_us))| since_us < asked_us);
                let later = confirmed.max(begun.map_or(0, |(term, _)| *term));
                let so_far = self.confirmed.last().map_or(0, |(_, term)| *term);
                self.confirmed.push((now_us, so_far.max(*term)));
                if later > *term {
                    return Err(format!(
                        "node {node} was confirmed in term {term}, when term {later} had begun"
                    ));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
