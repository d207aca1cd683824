//! `Saving`: whether a checkpoint that a client asked for is running, and whether another one is to follow it.

use parking_lot::Mutex;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    Running,
    RunningAndAgain,
}

/// The checkpoint that SAVE, BGSAVE or BGREWRITEAOF asked for.
#[derive(Default)]
pub struct Saving(Mutex<State>);

impl Saving {
    /// Begins one, unless one is running.
    pub fn begin(&self) -> bool {
        let mut state = self.0.lock();
        let is_idle = *state == State::Idle;
        if is_idle {
            *state = State::Running;
        }
        is_idle
    }

    /// Another one is to follow the one that is running.
    pub fn again(&self) {
        let mut state = self.0.lock();
        if *state == State::Running {
            *state = State::RunningAndAgain;
        }
    }

    /// The one that was running has ended. False if another one is to follow, which then counts as running.
    pub fn end(&self) -> bool {
        let mut state = self.0.lock();
        let is_over = *state != State::RunningAndAgain;
        *state = if is_over { State::Idle } else { State::Running };
        is_over
    }

    /// Forgets about the one that was to run.
    pub fn give_up(&self) {
        *self.0.lock() = State::Idle;
    }

    /// Whether one is running.
    pub fn is_running(&self) -> bool {
        *self.0.lock() != State::Idle
    }

    /// Whether another one is to follow.
    pub fn is_scheduled(&self) -> bool {
        *self.0.lock() == State::RunningAndAgain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_one_behind_it() {
        let saving = Saving::default();
        assert!(saving.begin() && !saving.begin());
        saving.again();
        assert!(saving.is_scheduled() && !saving.end());
        assert!(saving.is_running() && saving.end() && !saving.is_running());
    }
}
