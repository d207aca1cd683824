//! `Stop`: the order to end the process, from a signal or from SHUTDOWN.
//!
//! The layers above wait for it and stop in order; nobody exits by themselves. A signal only asks: the housekeeper makes an order
//! of it at its next tick, and until then SHUTDOWN ABORT takes it back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_util::sync::CancellationToken;

/// The order to end the process.
#[derive(Clone, Default)]
pub struct Stop {
    token: CancellationToken,
    asked: Arc<AtomicBool>,
    without_save: Arc<AtomicBool>,
}

impl Stop {
    /// Asks for the end. Who asks twice insists: that is an order.
    pub fn ask(&self) {
        if self.asked.swap(true, Ordering::AcqRel) {
            self.order(false);
        }
    }

    /// Takes back what was asked, if it is not ordered yet. False if there was nothing to take back.
    pub fn abort(&self) -> bool {
        !self.is_ordered() && self.asked.swap(false, Ordering::AcqRel)
    }

    /// Orders what was asked.
    pub fn obey(&self) {
        if self.asked.swap(false, Ordering::AcqRel) {
            self.order(false);
        }
    }

    /// Orders the end. `without_save` asks to leave out the last checkpoint; what was acknowledged is in the journal anyway.
    pub fn order(&self, without_save: bool) {
        self.without_save.store(without_save, Ordering::Release);
        self.token.cancel();
    }

    /// Whether it was ordered.
    pub fn is_ordered(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Whether the last checkpoint is to be left out.
    pub fn is_without_save(&self) -> bool {
        self.without_save.load(Ordering::Acquire)
    }

    /// A token that is cancelled with the order.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_can_be_taken_back_until_it_is_ordered() {
        let stop = Stop::default();
        assert!(!stop.abort());
        stop.ask();
        assert!(stop.abort() && !stop.abort());
        stop.obey();
        assert!(!stop.is_ordered());
        stop.ask();
        stop.obey();
        assert!(stop.is_ordered() && !stop.abort());
        let insisted = Stop::default();
        insisted.ask();
        insisted.ask();
        assert!(insisted.is_ordered());
    }
}
