//! `Stop`: the order to end the process, from a signal or from SHUTDOWN.
//!
//! The layers above wait for it and stop in order; nobody exits by themselves.

use std::sync::atomic::{AtomicBool, Ordering};
use tokio_util::sync::CancellationToken;

/// The order to end the process.
#[derive(Clone, Default)]
pub struct Stop {
    token: CancellationToken,
    without_save: std::sync::Arc<AtomicBool>,
}

impl Stop {
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
