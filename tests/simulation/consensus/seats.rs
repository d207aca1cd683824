//! Who was cut off from all others unseats nobody, neither meanwhile nor when it is back: as long as nothing else goes wrong the same
//! node leads, in the same term.

use crate::consensus::witness::{Event, Invariant};

/// See the module.
#[derive(Default)]
pub struct Seats {
    /// Who is or was cut off, and who leads in which term, until something else happens.
    seat: Option<(usize, usize, u64)>,
}

impl Invariant for Seats {
    fn observe(&mut self, _: u64, event: &Event) -> Result<(), String> {
        match event {
            Event::Away { node, leader, term } => self.seat = Some((*node, *leader, *term)),
            Event::Fault(_) | Event::Crashed { .. } | Event::Started { .. } => self.seat = None,
            Event::Leads { node, term } => {
                if let Some((away, leader, seat)) = self.seat.filter(|(_, _, seat)| term > seat) {
                    return Err(format!(
                        "node {node} leads in term {term}, though nothing but node {away} was gone from leader {leader} of term {seat}"
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
