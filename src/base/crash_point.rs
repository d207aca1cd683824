//! Points at which tests make the process die, as a kill or a broken machine does between two steps: nothing is cleaned up.
//!
//! In a build for tests the crate `fail` looks up each point when it is passed; `FAILPOINTS='journal-before-write=3*off->return'`
//! lets it pass three times and dies at the fourth. In every other build a point is nothing at all.
//! The tests in `tests/crash/` go through [`ALL`] and [`SNAPSHOTS`] and fail if one of them is never passed.

/// Every point a server passes by itself or when told to, in the order in which a process may meet them.
pub const ALL: [&str; 31] = [
    // A first start.
    "manifest-before-write",
    "manifest-after-write",
    "partitions-before-rename",
    "partitions-after-rename",
    "journal-after-make",
    // Each start.
    "recovery-trees-open",
    "recovery-before-record",
    "recovery-before-cut",
    "recovery-after-cut",
    "recovery-done",
    // Writing.
    "journal-before-write",
    "journal-after-write",
    "journal-before-sync",
    "journal-after-sync",
    "journal-before-mark",
    "segment-before-make",
    "segment-after-make",
    "segment-before-drop",
    "segment-after-drop",
    // Checkpoints.
    "checkpoint-frozen",
    "checkpoint-collected",
    "checkpoint-before-commit",
    "checkpoint-after-commit",
    "checkpoint-recorded",
    "checkpoint-done",
    "garbage-before-commit",
    "garbage-after-commit",
    // The rest.
    "config-before-rename",
    "config-after-rename",
    "stop-before-sync",
    "stop-before-checkpoint",
];

/// The points on a snapshot's way from one store into another. Between passing them no command need be answered.
pub const SNAPSHOTS: [&str; 14] = [
    // Where it is taken.
    "snapshot-checkpointed",
    "snapshot-before-meta",
    "snapshot-copied",
    // Where it is received.
    "incoming-begun",
    "incoming-synced",
    "incoming-noted",
    "incoming-complete",
    // Where it becomes the tree.
    "install-moved",
    "install-opened",
    "install-state-written",
    "install-before-exchange",
    "install-not-synced",
    "install-exchanged",
    "install-done",
];

/// Reads from the environment at which point the process is to die. Does nothing in a build that is not for tests.
pub fn arm() {
    if fail::has_failpoints() {
        // For as long as the process lives.
        std::mem::forget(fail::FailScenario::setup());
    }
}

/// Here the process may die.
#[inline]
pub fn pass(point: &'static str) {
    if fail::has_failpoints() {
        debug_assert!(ALL.contains(&point) || SNAPSHOTS.contains(&point), "{point} is not in the list");
    }
    fail::fail_point!(point, |_| std::process::abort());
}
