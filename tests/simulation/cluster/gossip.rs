//! Membership without messages: who can be heard, as the world sees it, a while later.

use larder::cluster::membership::{Membership, Profile, View};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

use crate::cluster::network::name;

/// A node that was not heard for so long is taken for dead, in milliseconds.
const SILENT_MS_MAX: u64 = 800;

/// What all nodes say of themselves, and who has heard whom.
#[derive(Default)]
pub struct Board {
    profiles: Mutex<BTreeMap<usize, Profile>>,
    /// By who hears and who is heard.
    heard_ms: Mutex<BTreeMap<(usize, usize), u64>>,
}

impl Board {
    /// A process has ended: what it has heard is forgotten, and what it said of itself stays with others.
    pub fn forget(&self, node: usize) {
        self.heard_ms.lock().retain(|(of, _), _| *of != node);
    }

    /// What a node sees at `now_ms`, when it hears those for whom `hears` says so.
    pub fn view(&self, of: usize, now_ms: u64, hears: impl Fn(usize) -> bool) -> View {
        let (profiles, mut heard) = (self.profiles.lock(), self.heard_ms.lock());
        let mut view = View::default();
        for (node, profile) in &*profiles {
            if hears(*node) {
                heard.insert((of, *node), now_ms);
            }
            match heard.get(&(of, *node)) {
                Some(at) if at + SILENT_MS_MAX >= now_ms => view.live.insert(name(*node), profile.clone()),
                Some(_) => view.dead.insert(name(*node), profile.clone()),
                None => None,
            };
        }
        view
    }
}

/// What a process sees.
pub struct Gossip {
    /// Which node.
    pub number: usize,
    /// Shared by all.
    pub board: Arc<Board>,
    /// What it sees.
    pub view: watch::Sender<Arc<View>>,
}

impl Membership for Gossip {
    fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    fn tell(&self, own: Profile) {
        self.board.profiles.lock().insert(self.number, own);
    }
}
