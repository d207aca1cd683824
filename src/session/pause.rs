//! `Pause`: CLIENT PAUSE, for every connection at once.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::sync::watch;

/// Which commands have to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those that may change data or reach replicas.
    Writes,
    /// All.
    All,
}

const OFF: u8 = 0;
const WRITES: u8 = 1;
const ALL: u8 = 2;

/// The pause in force, if any.
pub struct Pause {
    scope: AtomicU8,
    end_ms: Mutex<i64>,
    changed: watch::Sender<()>,
}

impl Default for Pause {
    fn default() -> Pause {
        Pause { scope: AtomicU8::new(OFF), end_ms: Mutex::new(0), changed: watch::Sender::new(()) }
    }
}

impl Pause {
    /// Begins a pause up to the wall clock `end_ms`. One that is in force is never made shorter nor narrower.
    pub fn begin(&self, scope: Scope, end_ms: i64, now_ms: i64) {
        let mut end = self.end_ms.lock();
        let word = if scope == Scope::All { ALL } else { WRITES };
        let is_running = *end > now_ms && self.scope.load(Ordering::Acquire) != OFF;
        let (word, end_ms) = if is_running {
            (word.max(self.scope.load(Ordering::Acquire)), end_ms.max(*end))
        } else {
            (word, end_ms)
        };
        *end = end_ms;
        self.scope.store(word, Ordering::Release);
        drop(end);
        self.changed.send_replace(());
    }

    /// Ends it.
    pub fn end(&self) {
        self.scope.store(OFF, Ordering::Release);
        self.changed.send_replace(());
    }

    /// Whether a pause is set, over or not: the one load that a command pays.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.scope.load(Ordering::Acquire) != OFF
    }

    /// The pause in force at wall clock `now_ms`, and its end. Forgets one that is over.
    pub fn in_force(&self, now_ms: i64) -> Option<(Scope, i64)> {
        let end = self.end_ms.lock();
        let scope = match self.scope.load(Ordering::Acquire) {
            OFF => return None,
            WRITES => Scope::Writes,
            _ => Scope::All,
        };
        if *end <= now_ms {
            self.scope.store(OFF, Ordering::Release);
            return None;
        }
        Some((scope, *end))
    }

    /// Is told of every beginning and end.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_ends_by_itself_and_is_never_shortened() {
        let pause = Pause::default();
        assert_eq!(pause.in_force(0), None);
        pause.begin(Scope::All, 100, 0);
        pause.begin(Scope::Writes, 50, 0);
        assert_eq!(pause.in_force(99), Some((Scope::All, 100)));
        assert_eq!(pause.in_force(100), None);
        assert!(!pause.is_set());
    }
}
