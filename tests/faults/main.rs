//! The real server under faults of its disk, its memory, its descriptors and its clients.
//!
//! Means: small file systems (tmpfs, ext4 on a loop device), a library loaded into the server that makes calls on its files
//! fail or wait, limits of the shell, memory groups. Mounts take root; without it these tests fail and say so.
//! Writers keep a history of what was acknowledged, refused, or left without a reply; after the fault and after a restart
//! every key must be in a state that this history allows. What is promised, with figures: `docs/faults.md`.
//!
//! `LARDER_LONG=1 cargo test --release --test faults -- --nocapture long` runs those that take an hour less than a day.

#[path = "../support/mod.rs"]
mod support;

mod history;
mod places;
mod shim;

mod crowds;
mod disk_full;
mod eviction;
mod failing_sync;
mod large_values;
mod read_only;
mod resources;
mod slow_disk;
mod snapshots;
