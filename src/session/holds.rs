//! `Holds`: what must be stored on enough nodes before a session's replies leave.
//!
//! A change with a write concern above `local` marks its partitions. Whatever a command then does with such a partition may show
//! that change, so its reply is held as well: whoever has read something will never find that it was not so. A hold is noted while
//! the partition is locked.
//!
//! Where another node may take this one's place (a cluster), every reply about data is held for the moment in which it is certain
//! that none has: see [`Replication::may_answer`].

use crate::base::concern::WriteConcern;
use crate::base::ids::PartitionId;
use crate::replication::Replication;
use crate::store::View;
use std::collections::BTreeMap;

/// What a command's reply is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// It tells of changes of its own.
    Write,
    /// It shows changes that are not confirmed.
    Read,
}

/// How it stands with everything that is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is on enough nodes.
    Confirmed,
    /// It is not, for the moment.
    Pending,
    /// It may never be: this node plays another part since.
    Lost,
}

/// What must be stored on enough nodes before replies leave.
#[derive(Clone, Debug, Default)]
pub struct Holds {
    positions: BTreeMap<(PartitionId, WriteConcern), u64>,
    /// The first [`Replication::term`] in which something was noted.
    term: u64,
    /// What the command that runs is held for.
    held: Option<Held>,
    /// Held is also until this node may answer.
    is_fenced: bool,
}

impl Holds {
    /// Whether nothing is held for.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty() && !self.is_fenced
    }

    /// Notes what is unconfirmed in the partitions that `view` has locked.
    #[inline]
    pub fn note_view(&mut self, view: &View, replication: &Replication) {
        if replication.is_fenced() && !replication.is_replica() {
            self.begin_term(replication);
            self.is_fenced = true;
            self.note_held(Held::Read);
        }
        for (partition, guarded) in view.guarded() {
            self.note_guarded(partition, guarded, replication);
        }
    }

    #[cold]
    fn note_guarded(&mut self, partition: PartitionId, guarded: [u64; 3], replication: &Replication) {
        for (concern, position) in WriteConcern::HELD.into_iter().zip(guarded) {
            if position > replication.acknowledged(partition, concern) {
                self.note(partition, concern, position, Held::Read, replication);
            }
        }
    }

    /// Notes a change of a partition that is still locked.
    pub fn note_write(
        &mut self,
        partition: PartitionId,
        concern: WriteConcern,
        position: u64,
        replication: &Replication,
    ) {
        self.note(partition, concern, position, Held::Write, replication);
    }

    fn note(
        &mut self,
        partition: PartitionId,
        concern: WriteConcern,
        position: u64,
        held: Held,
        replication: &Replication,
    ) {
        self.begin_term(replication);
        let noted = self.positions.entry((partition, concern)).or_default();
        *noted = position.max(*noted);
        self.note_held(held);
    }

    fn begin_term(&mut self, replication: &Replication) {
        if self.is_empty() {
            self.term = replication.term();
        }
    }

    fn note_held(&mut self, held: Held) {
        if self.held != Some(Held::Write) {
            self.held = Some(held);
        }
    }

    /// Adds what was noted elsewhere.
    #[inline]
    pub fn merge(&mut self, other: Holds) {
        if !other.is_empty() {
            self.merge_some(other);
        }
    }

    #[cold]
    fn merge_some(&mut self, other: Holds) {
        self.term = if self.is_empty() { other.term } else { self.term.min(other.term) };
        self.is_fenced |= other.is_fenced;
        for (of, position) in other.positions {
            let noted = self.positions.entry(of).or_default();
            *noted = position.max(*noted);
        }
        if let Some(held) = other.held {
            self.note_held(held);
        }
    }

    /// What the command that has just run is held for; the next one starts anew.
    #[inline]
    pub fn take_held(&mut self) -> Option<Held> {
        self.held.take()
    }

    /// How it stands.
    pub fn standing(&self, replication: &Replication) -> Standing {
        let is_confirmed = |(&(partition, concern), &position): (&(PartitionId, WriteConcern), &u64)| {
            replication.acknowledged(partition, concern) >= position
        };
        // Looked at in this order: a part that is given up while we look is then seen to have ended.
        let is_confirmed =
            self.positions.iter().all(is_confirmed) && (!self.is_fenced || replication.may_answer());
        match replication.term() == self.term {
            _ if self.is_empty() => Standing::Confirmed,
            false => Standing::Lost,
            true if is_confirmed => Standing::Confirmed,
            true => Standing::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Epoch;
    use crate::replication::assignment::Assignment;
    use crate::replication::progress::Follower;
    use crate::store::{PartitionSet, Store};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    const P: PartitionId = PartitionId(0);

    fn follow(replication: &Replication, journaled: u64) {
        replication.with_progress(|progress| {
            *progress.follower(1) =
                Follower { node: "a".to_owned(), in_step: [P].into(), journaled, ..Follower::default() };
        });
    }

    #[test]
    fn what_is_held_for_is_confirmed_by_replicas() {
        let replication = Replication::new(Assignment::primary(1, 2));
        let mut holds = Holds::default();
        assert_eq!(holds.standing(&replication), Standing::Confirmed);
        holds.note_write(P, WriteConcern::One, 10, &replication);
        holds.note_write(P, WriteConcern::One, 5, &replication);
        assert_eq!((holds.take_held(), holds.take_held()), (Some(Held::Write), None));
        follow(&replication, 9);
        assert_eq!(holds.standing(&replication), Standing::Pending);
        follow(&replication, 10);
        assert_eq!(holds.standing(&replication), Standing::Confirmed);
    }

    #[test]
    fn what_a_primary_has_found_waits_until_it_may_answer() {
        let replication = Replication::new(Assignment::primary(1, 2));
        let may_answer = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&may_answer);
        replication.fence(Box::new(move || asked.load(Ordering::Relaxed)));
        let store = Store::in_memory(1, 1);
        let mut holds = Holds::default();
        holds.note_view(&store.view(&PartitionSet::All, 0), &replication);
        assert_eq!((holds.take_held(), holds.standing(&replication)), (Some(Held::Read), Standing::Pending));
        may_answer.store(true, Ordering::Relaxed);
        assert_eq!(holds.standing(&replication), Standing::Confirmed);
        replication.assign(Assignment::elsewhere(1, 2));
        assert_eq!(holds.standing(&replication), Standing::Lost, "whatever it may");
    }

    #[test]
    fn what_a_new_primary_has_inherited_is_held_until_others_have_it() {
        let replication = Replication::new(Assignment::primary(1, 3));
        let store = Store::in_memory(1, 1);
        let seen = || {
            let mut holds = Holds::default();
            holds.note_view(&store.view(&PartitionSet::All, 0), &replication);
            holds.standing(&replication)
        };
        assert_eq!(seen(), Standing::Confirmed);
        store.set_primary(P, false);
        let position = store.begin_epoch(P, Epoch(5), WriteConcern::Majority, 0).expect("is newer");
        store.set_primary(P, true);
        assert_eq!(seen(), Standing::Pending, "a record may be on this node alone");
        follow(&replication, position - 1);
        assert_eq!(seen(), Standing::Pending);
        follow(&replication, position);
        assert_eq!(seen(), Standing::Confirmed);
    }

    #[test]
    fn what_is_held_for_is_lost_with_the_part() {
        let replication = Replication::new(Assignment::primary(1, 2));
        let (mut holds, mut older) = (Holds::default(), Holds::default());
        older.note_write(P, WriteConcern::One, 10, &replication);
        replication.assign(Assignment::replica(1, 2, "a", 1));
        replication.assign(Assignment::primary(1, 2));
        holds.note_write(P, WriteConcern::One, 20, &replication);
        follow(&replication, 30);
        assert_eq!(holds.standing(&replication), Standing::Confirmed);
        holds.merge(older);
        assert_eq!(holds.standing(&replication), Standing::Lost);
    }
}
