//! Leases: the time-bound right of a primary to answer.
//!
//! A node asks the control leader for a lease again and again. It counts from the moment it asked; the leader, which has made sure
//! after that moment that it leads, counts from the moment it answers. So the leader's count ends later, whatever the network did
//! in between, and a successor that waits for it starts when the lease is over for its holder.
//!
//! Both count on clocks that go on while the machine sleeps (CLOCK_BOOTTIME). They may differ in pace by as much as [`MARGIN`].
//!
//! A new leader knows nothing of the leases that another one gave: it waits for as long as the longest can last.

use crate::base::ids::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What the leader waits longer than a lease lasts, as a fraction of it: clocks do not differ by a twentieth.
const MARGIN: u32 = 20;

/// Processes that a leader remembers: nodes that start again and again do not fill its memory. The oldest one's lease is long over.
const HOLDERS_MAX: usize = 4096;

/// A node's own lease. Times are of a clock that only grows and counts suspend.
#[derive(Debug)]
pub struct Lease {
    /// Milliseconds; [`Lease::FOREVER`] for a node that is alone.
    until_ms: AtomicU64,
}

impl Lease {
    const FOREVER: u64 = u64::MAX;

    /// Of a node that shares its data with nobody who could take its place.
    pub fn unbounded() -> Lease {
        Lease { until_ms: AtomicU64::new(Self::FOREVER) }
    }

    /// Whether time matters at all.
    #[inline]
    pub fn is_bounded(&self) -> bool {
        self.until_ms.load(Ordering::Relaxed) != Self::FOREVER
    }

    /// From now on it must be asked for.
    pub fn bound(&self) {
        self.until_ms.store(0, Ordering::Release);
    }

    /// Whether this node may answer at `now`.
    #[inline]
    pub fn holds(&self, now: Duration) -> bool {
        let until_ms = self.until_ms.load(Ordering::Acquire);
        until_ms == Self::FOREVER || (now.as_millis() as u64) < until_ms
    }

    /// It was given for `length` from `asked_at` on. What was given before stays if it lasts longer.
    pub fn extend(&self, asked_at: Duration, length: Duration) {
        let until_ms = (asked_at + length).as_millis() as u64;
        let extended = |before| (before != Self::FOREVER).then(|| until_ms.max(before));
        _ = self.until_ms.fetch_update(Ordering::AcqRel, Ordering::Acquire, extended);
    }

    /// When it ends; none if it never does.
    pub fn until(&self) -> Option<Duration> {
        let until_ms = self.until_ms.load(Ordering::Acquire);
        (until_ms != Self::FOREVER).then(|| Duration::from_millis(until_ms))
    }
}

/// A process that may hold a lease: which node, and which incarnation of it.
pub type Holder = (NodeId, u64);

/// What a leader knows of the leases it has given in its term.
#[derive(Debug)]
pub struct Grants {
    length: Duration,
    /// When the leases of leaders before are over.
    others_until: Duration,
    /// When those it has given are over, as seen from here.
    until: BTreeMap<Holder, Duration>,
    /// When each asked last.
    asked: BTreeMap<Holder, Duration>,
    /// Those that get none: somebody is about to take their place.
    refused: BTreeSet<Holder>,
    /// Those that have said that they answer no more, whatever lease they have.
    released: BTreeSet<Holder>,
}

impl Grants {
    /// Of a leader whose term began at `now`, for leases of this length.
    pub fn new(now: Duration, length: Duration) -> Grants {
        let others_until = Grants::others_until(now, length);
        Grants {
            length,
            others_until,
            until: BTreeMap::new(),
            asked: BTreeMap::new(),
            refused: BTreeSet::new(),
            released: BTreeSet::new(),
        }
    }

    /// When no lease of a leader before can hold any more.
    fn others_until(now: Duration, length: Duration) -> Duration {
        fail::fail_point!("leader-forgets-old-leases", |_| now);
        now + length + length / MARGIN
    }

    /// A process asks. Returns whether it gets a lease; to be called when the leader is sure to lead, right before it answers.
    pub fn grant(&mut self, holder: Holder, now: Duration) -> bool {
        if !self.asked.contains_key(&holder) && self.asked.len() >= HOLDERS_MAX {
            self.forget_oldest();
        }
        self.asked.insert(holder, now);
        if self.refused.contains(&holder) {
            return false;
        }
        self.until.insert(holder, now + self.length + self.length / MARGIN);
        true
    }

    fn forget_oldest(&mut self) {
        let oldest = self.asked.iter().min_by_key(|(_, asked)| **asked).map(|(holder, _)| *holder);
        if let Some(oldest) = oldest {
            self.asked.remove(&oldest);
            self.refused.remove(&oldest);
            self.released.remove(&oldest);
            self.until.remove(&oldest);
        }
    }

    /// It gets no lease until [`Grants::accept`].
    pub fn refuse(&mut self, holder: Holder) {
        self.refused.insert(holder);
    }

    /// It has said that it answers no more: nobody needs to wait for its lease.
    pub fn release(&mut self, holder: Holder, now: Duration) {
        self.asked.insert(holder, now);
        self.refused.insert(holder);
        self.released.insert(holder);
    }

    /// Whether it has said so.
    pub fn has_released(&self, holder: Holder) -> bool {
        self.released.contains(&holder)
    }

    /// It may have leases again, if it asks.
    pub fn accept(&mut self, holder: Holder) {
        self.refused.remove(&holder);
        self.released.remove(&holder);
    }

    /// Those that get no lease.
    pub fn refused(&self) -> impl Iterator<Item = Holder> + '_ {
        self.refused.iter().copied()
    }

    /// Which process of a node asked last, and has not been silent for longer than `within`.
    pub fn present(&self, node: NodeId, now: Duration, within: Duration) -> Option<u64> {
        let of_node = self.asked.range((node, 0)..=(node, u64::MAX));
        let last = of_node.max_by_key(|(_, asked)| **asked);
        last.filter(|(_, asked)| now.saturating_sub(**asked) <= within)
            .map(|((_, incarnation), _)| *incarnation)
    }

    /// Whether no lease of this process can hold any more, and none will.
    pub fn is_over(&self, holder: Holder, now: Duration) -> bool {
        let until = self.until.get(&holder).copied().unwrap_or_default().max(self.others_until);
        self.refused.contains(&holder) && (now >= until || self.released.contains(&holder))
    }

    /// For how long it has not asked, as far as this leader can know.
    pub fn silent_for(&self, holder: Holder, now: Duration) -> Duration {
        let begun = self.others_until.saturating_sub(self.length + self.length / MARGIN);
        now.saturating_sub(self.asked.get(&holder).copied().unwrap_or(begun))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_millis(600);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_lease_lasts_from_when_it_was_asked_for() {
        let lease = Lease::unbounded();
        assert!(lease.holds(ms(u64::MAX / 2)) && !lease.is_bounded());
        lease.extend(ms(1), LENGTH);
        assert!(!lease.is_bounded(), "who is alone stays so");
        lease.bound();
        assert!(!lease.holds(ms(0)));
        lease.extend(ms(1000), LENGTH);
        lease.extend(ms(900), LENGTH);
        assert!(lease.holds(ms(1599)) && !lease.holds(ms(1600)));
    }

    #[test]
    fn a_successor_waits_for_the_lease_and_for_those_of_leaders_before() {
        let (one, other) = ((NodeId([1; 20]), 7), (NodeId([1; 20]), 8));
        let mut grants = Grants::new(ms(10_000), LENGTH);
        grants.refuse(one);
        assert!(!grants.is_over(one, ms(10_629)) && grants.is_over(one, ms(10_630)));
        assert!(!grants.is_over(other, ms(20_000)), "it may be given one at any time");
        assert!(!grants.grant(one, ms(11_000)));
        grants.accept(one);
        assert!(grants.grant(one, ms(12_000)));
        grants.refuse(one);
        assert!(!grants.is_over(one, ms(12_629)) && grants.is_over(one, ms(12_630)));
        assert_eq!(grants.silent_for(one, ms(12_100)), ms(100));
        assert_eq!(grants.silent_for(other, ms(12_100)), ms(2100));
    }

    /// Whatever the two clocks read and the network does, the holder's count ends first.
    #[test]
    fn the_holder_always_ends_before_the_leader() {
        for (asked_at, answered_at) in [(0, 0), (0, 500), (0, 5000), (123, 124)] {
            let (lease, mut grants) = (Lease::unbounded(), Grants::new(ms(0), LENGTH));
            lease.bound();
            assert!(grants.grant((NodeId([1; 20]), 7), ms(answered_at)));
            lease.extend(ms(asked_at), LENGTH);
            grants.refuse((NodeId([1; 20]), 7));
            for now in 0..10_000 {
                assert!(!(lease.holds(ms(now)) && grants.is_over((NodeId([1; 20]), 7), ms(now))));
            }
        }
    }
}
