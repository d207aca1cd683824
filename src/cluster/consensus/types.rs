//! The library's types as this house has them, and its runtime: tokio's, with random numbers that a test can choose.

use crate::base::ids::NodeId;
use crate::cluster::map::{Address, Command, Outcome};
use chacha20poly1305::aead::rand_core::{Error, RngCore};
use openraft::{AsyncRuntime, OptionalSend, TokioRuntime};
use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

openraft::declare_raft_types!(
    /// What is decided, by whom, and what comes of it.
    pub Types:
        D = Command,
        R = Outcome,
        NodeId = NodeId,
        Node = Address,
        SnapshotData = Vec<u8>,
        AsyncRuntime = Runtime,
);

/// Where an entry stands in the log, and which leader put it there.
pub type LogId = openraft::LogId<NodeId>;
/// A leader: its term and its node. In one term there may be two leaders, one after the other: see [`super::machine`].
pub type LeaderId = openraft::LeaderId<NodeId>;
/// Whom a node has voted for last, and whether a quorum did.
pub type Vote = openraft::Vote<NodeId>;
/// An entry of the log.
pub type Entry = openraft::Entry<Types>;
/// Who votes and who learns.
pub type Membership = openraft::Membership<NodeId, Address>;
/// The same, with the entry that made it so.
pub type StoredMembership = openraft::StoredMembership<NodeId, Address>;
/// What a snapshot is of.
pub type SnapshotMeta = openraft::SnapshotMeta<NodeId, Address>;
/// What the disk did to us.
pub type StorageError = openraft::StorageError<NodeId>;

thread_local! {
    /// What [`with_seed`] has said.
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Does something during which the library's random numbers begin with this seed. It draws its election timeout once, when it
/// starts, and nothing else.
pub fn with_seed<T>(seed: Option<u64>, work: impl FnOnce() -> T) -> T {
    SEED.set(seed);
    let done = work();
    SEED.set(None);
    done
}

/// See the module.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Runtime;

impl AsyncRuntime for Runtime {
    type JoinError = tokio::task::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = tokio::task::JoinHandle<T>;
    type Sleep = tokio::time::Sleep;
    type Instant = tokio::time::Instant;
    type TimeoutError = tokio::time::error::Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = tokio::time::Timeout<T>;
    type ThreadLocalRng = Numbers;
    type OneshotSender<T: OptionalSend> = <TokioRuntime as AsyncRuntime>::OneshotSender<T>;
    type OneshotReceiver<T: OptionalSend> = tokio::sync::oneshot::Receiver<T>;
    type OneshotReceiverError = tokio::sync::oneshot::error::RecvError;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        tokio::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        tokio::time::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        tokio::time::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        tokio::time::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        tokio::time::timeout_at(deadline, future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        error.is_panic()
    }

    fn thread_rng() -> Numbers {
        Numbers { state: SEED.get().unwrap_or_else(rand::random) }
    }

    fn oneshot<T: OptionalSend>() -> (Self::OneshotSender<T>, Self::OneshotReceiver<T>) {
        TokioRuntime::oneshot()
    }
}

/// Numbers that follow from a seed: SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
pub struct Numbers {
    state: u64,
}

// The trait of the release that openraft wants, by way of a crate that gives it out.
impl RngCore for Numbers {
    fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}
