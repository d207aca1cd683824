//! Watched keys: whoever watches one learns that it changed by a flag.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set when a watched key has changed.
pub type WatchFlag = Arc<AtomicBool>;

/// The watched keys of a partition.
#[derive(Default)]
pub struct Watches {
    keys: HashMap<(u16, Box<[u8]>), Vec<WatchFlag>>,
}

impl Watches {
    /// `flag` is set when `name` changes.
    pub fn add(&mut self, database: u16, name: &[u8], flag: &WatchFlag) {
        self.keys.entry((database, name.into())).or_default().push(Arc::clone(flag));
    }

    /// `flag` is not interested any more.
    pub fn remove(&mut self, database: u16, name: &[u8], flag: &WatchFlag) {
        let key = (database, name.into());
        if let Some(flags) = self.keys.get_mut(&key) {
            flags.retain(|other| !Arc::ptr_eq(other, flag));
            if flags.is_empty() {
                self.keys.remove(&key);
            }
        }
    }

    /// Whether nobody watches anything.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// `name` has changed.
    #[inline]
    pub fn changed(&self, database: u16, name: &[u8]) {
        if !self.keys.is_empty() {
            self.tell(database, name);
        }
    }

    #[cold]
    fn tell(&self, database: u16, name: &[u8]) {
        for flag in self.keys.get(&(database, name.into())).into_iter().flatten() {
            flag.store(true, Ordering::Relaxed);
        }
    }

    /// Any of them may have changed.
    pub fn all_changed(&self) {
        self.keys.values().flatten().for_each(|flag| flag.store(true, Ordering::Relaxed));
    }

    /// The watched names of a database.
    pub fn names(&self, database: u16) -> Vec<Box<[u8]>> {
        self.keys.keys().filter(|(number, _)| *number == database).map(|(_, name)| name.clone()).collect()
    }
}
