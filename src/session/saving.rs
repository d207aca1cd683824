//! `Saving`: whether a checkpoint that a client asked for is running, and whether another one is to follow it.

use parking_lot::Mutex;

/// What a client asked for. Either is a checkpoint, but clients wait for what they asked for and are refused a second one of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// BGSAVE.
    Save,
    /// BGREWRITEAOF.
    Rewrite,
}

/// What became of a wish for a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is to be started now.
    Now,
    /// It follows the one that is running, which may miss writes made since it began.
    Scheduled,
    /// One of this kind is running.
    Refused(Kind),
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    running: Option<Kind>,
    /// None while nothing is running.
    next: Option<Kind>,
}

/// The checkpoint that BGSAVE or BGREWRITEAOF asked for.
#[derive(Default)]
pub struct Saving(Mutex<State>);

impl Saving {
    /// Begins one, or lets it follow one of the other kind if it `waits`.
    pub fn begin(&self, kind: Kind, waits: bool) -> Begun {
        let mut state = self.0.lock();
        match state.running {
            None => {
                state.running = Some(kind);
                Begun::Now
            }
            Some(running) if running != kind && waits => {
                state.next = Some(kind);
                Begun::Scheduled
            }
            Some(running) => Begun::Refused(running),
        }
    }

    /// The one that was running has ended. False if another one is to follow, which then counts as running.
    pub fn end(&self) -> bool {
        let mut state = self.0.lock();
        state.running = state.next.take();
        state.running.is_none()
    }

    /// Forgets about the one that was to run, and what was to follow.
    pub fn give_up(&self) {
        *self.0.lock() = State::default();
    }

    /// Which one is running.
    pub fn running(&self) -> Option<Kind> {
        self.0.lock().running
    }

    /// Which one is to follow.
    pub fn scheduled(&self) -> Option<Kind> {
        self.0.lock().next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_kind_at_a_time_and_the_other_behind_it() {
        let saving = Saving::default();
        assert_eq!(saving.begin(Kind::Rewrite, true), Begun::Now);
        assert_eq!(saving.begin(Kind::Rewrite, true), Begun::Refused(Kind::Rewrite));
        assert_eq!(saving.begin(Kind::Save, false), Begun::Refused(Kind::Rewrite));
        assert_eq!(saving.begin(Kind::Save, true), Begun::Scheduled);
        assert_eq!((saving.running(), saving.scheduled()), (Some(Kind::Rewrite), Some(Kind::Save)));
        assert!(!saving.end());
        assert_eq!((saving.running(), saving.scheduled()), (Some(Kind::Save), None));
        assert!(saving.end() && saving.running().is_none());
    }
}
