//! The control plane's shelf on disk: `control/` in the data folder. `cluster` says what a shelf is and `store` how a file is kept;
//! here they meet.

use crate::cluster::consensus::shelf::{Change, Shelf, ShelfError};
use crate::store::{ControlChange, ControlFile, TreeError};
use async_trait::async_trait;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;

/// See the module.
#[derive(Clone)]
pub struct ControlShelf {
    file: Arc<ControlFile>,
}

impl ControlShelf {
    /// Opens or creates it in this folder, which nobody else may have open.
    pub fn open(folder: &Path) -> Result<ControlShelf, ShelfError> {
        Ok(ControlShelf { file: Arc::new(ControlFile::open(folder)?) })
    }
}

impl From<TreeError> for ShelfError {
    fn from(error: TreeError) -> ShelfError {
        ShelfError(error.0)
    }
}

fn change(change: Change) -> ControlChange {
    match change {
        Change::Put(key, value) => ControlChange::Put(key, value),
        Change::Delete(key) => ControlChange::Delete(key),
        Change::DeleteRange(range) => ControlChange::DeleteRange(range),
    }
}

#[async_trait]
impl Shelf for ControlShelf {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ShelfError> {
        Ok(self.file.get(key)?)
    }

    fn scan(
        &self,
        range: Range<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ShelfError> {
        Ok(self.file.scan(range, visit)?)
    }

    fn last(&self, range: Range<&[u8]>) -> Result<Option<(Vec<u8>, Vec<u8>)>, ShelfError> {
        Ok(self.file.last(range)?)
    }

    /// On a thread of its own: it waits for the disk, and heartbeats must not wait with it.
    async fn write(&self, batch: Vec<Change>) -> Result<(), ShelfError> {
        let (file, batch) = (Arc::clone(&self.file), batch.into_iter().map(change).collect::<Vec<_>>());
        let written = tokio::task::spawn_blocking(move || file.write(&batch)).await;
        Ok(written.map_err(|error| ShelfError(error.to_string()))??)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NodeId;
    use crate::cluster::bus::{Bus, CallError, Kind, Serve};
    use crate::cluster::consensus::raft::{Options, Raft, Timing};
    use crate::cluster::consensus::{ControlError, ControlPlane};
    use crate::cluster::map::{Address, Command, Outcome, Shape};
    use parking_lot::Mutex;
    use std::collections::BTreeMap;
    use std::sync::Weak;
    use std::time::{Duration, Instant};
    use tokio::time::{sleep, timeout};

    /// Requests between nodes of one process.
    #[derive(Default)]
    struct Hall(Mutex<BTreeMap<NodeId, Weak<Raft>>>);

    struct Door(NodeId, Arc<Hall>);

    #[async_trait]
    impl Bus for Door {
        async fn call(
            &self,
            to: NodeId,
            _: &Address,
            _: Kind,
            request: Vec<u8>,
            patience: Duration,
        ) -> Result<Vec<u8>, CallError> {
            let there = self.1.0.lock().get(&to).and_then(Weak::upgrade);
            let there = there.ok_or_else(|| CallError::NotSent("nobody is there".into()))?;
            let answer = timeout(patience, there.serve(self.0, request)).await.ok().flatten();
            answer.ok_or_else(|| CallError::Unknown("no answer".into()))
        }
    }

    async fn start(folder: &Path, number: u8, hall: &Arc<Hall>) -> Arc<Raft> {
        let node = NodeId([number; 20]);
        let shelf = ControlShelf::open(&folder.join(number.to_string())).expect("it opens");
        let options =
            Options { node, timing: Timing::default(), rest_after_start: Duration::ZERO, seed: None };
        let bus = Arc::new(Door(node, Arc::clone(hall)));
        let raft = Raft::start(options, Arc::new(shelf), bus, Arc::new(|_| None)).await.expect("it is whole");
        let raft = Arc::new(raft);
        hall.0.lock().insert(node, Arc::downgrade(&raft));
        raft
    }

    /// Until somebody leads and has this decided: who, and the version of the map then.
    async fn decided(rafts: &BTreeMap<u8, Arc<Raft>>, command: &Command) -> (u8, u64) {
        loop {
            for (number, raft) in rafts {
                match raft.propose(command.clone()).await {
                    Ok(Outcome::Done(version)) => return (*number, version),
                    Ok(Outcome::Refused(why)) => panic!("{why}"),
                    Err(ControlError::NotLeader(_) | ControlError::Unknown(_)) => {}
                    Err(ControlError::Failed(why)) => panic!("{why}"),
                }
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// `LARDER_ROUNDS` is how many leaders die, and then it says how long it took.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_decided_survives_leaders_and_restarts_on_disk() {
        let rounds = std::env::var("LARDER_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
        let folder = tempfile::tempdir().expect("a folder");
        let hall = Arc::new(Hall::default());
        let mut rafts = BTreeMap::new();
        for number in 1..=3 {
            rafts.insert(number, start(folder.path(), number, &hall).await);
        }
        let voters = (1..=3).map(|number| (NodeId([number; 20]), Address::default())).collect();
        rafts[&1].found(voters).await.expect("its log is empty");
        let found = Command::Found {
            cluster: NodeId([9; 20]),
            partitions: 1,
            copies: 1,
            shape: Shape::Together,
            members: vec![],
        };
        let (mut leader, mut version) = decided(&rafts, &found).await;
        let mut took_ms = Vec::new();
        for round in 0..rounds {
            rafts.remove(&leader).expect("it runs").stop().await;
            let begun = Instant::now();
            let (next, now) = decided(&rafts, &Command::SetCopies(round % 7 + 2)).await;
            took_ms.push(begun.elapsed().as_millis());
            assert!(now == version + 1 || round > 6 && now >= version, "{now} after {version}");
            rafts.insert(leader, start(folder.path(), leader, &hall).await);
            let mut map = rafts[&leader].map();
            map.wait_for(|map| map.version >= now).await.expect("it learns what it missed");
            (leader, version) = (next, now);
        }
        took_ms.sort_unstable();
        let at = |share: usize| took_ms[(took_ms.len() * share / 100).min(took_ms.len() - 1)];
        eprintln!(
            "{rounds} leaders: next decision after {} ms (p50), {} (p90), {} (p99), {} at most",
            at(50),
            at(90),
            at(99),
            at(100)
        );
        for raft in rafts.into_values() {
            raft.stop().await;
        }
    }
}
