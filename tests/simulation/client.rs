//! Clients: write to the partitions that their node may answer for, and wait until the write is as safe as its concern asks.

use crate::chance::Chance;
use crate::commands;
use crate::data::DATABASES;
use crate::history::place;
use crate::node::{Machine, Process};
use crate::types::{self, Sizes, Word};
use crate::witness::Event;
use larder::base::concern::WriteConcern;
use larder::base::ids::{Epoch, PartitionId, Point};
use larder::replication::storage::Storage;
use larder::store::{Key, PartitionSet, Transaction};
use rand::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Keys there are of each type.
const KEYS: u32 = 12;
/// Different fields or members of a collection: enough for the large forms.
const ITEMS: u64 = 30;
/// How long a client waits for an acknowledgement.
const PATIENCE: Duration = Duration::from_secs(4);
/// How often it looks.
const LOOK_GAP: Duration = Duration::from_millis(1);

/// What clients do.
#[derive(Clone, Copy, Debug)]
pub struct ClientSettings {
    /// How many each node has.
    pub count: u64,
    /// The longest pause between two writes, in milliseconds.
    pub pause_ms: u64,
    /// The longest value.
    pub value_bytes: usize,
    /// Write concerns, each as likely as it is often here.
    pub concerns: [WriteConcern; 4],
}

/// A write that was committed.
struct Write {
    position: u64,
    /// Of each partition that it changed: where it stands, and the epoch in which the node may answer.
    parts: Vec<(PartitionId, Point, Epoch)>,
}

/// Writes for ever.
pub async fn write(machine: Arc<Machine>, process: Process, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let settings = machine.settings.clients;
    loop {
        tokio::time::sleep(Duration::from_millis(random.random_range(1..=settings.pause_ms))).await;
        if !machine.shared.has_clients.load(Ordering::Relaxed) {
            continue;
        }
        let Some(write) = commit(&machine, &process, &mut random) else { continue };
        if random.random_bool(0.3) {
            // Others read, wait and ask while it is committed and not yet written.
            tokio::time::sleep(Duration::from_millis(random.random_range(0..4))).await;
        }
        process.data.write_up_to(write.position).expect("a position that was given");
        let concern = *settings.concerns.choose(&mut random).expect("there are four");
        if wait(&machine, &process, &write, concern).await {
            for (partition, point, _) in write.parts {
                machine.shared.witness.tell(Event::Acknowledged {
                    node: machine.number,
                    partition,
                    point,
                    concern,
                });
            }
        }
    }
}

/// Whether this node may still answer for what was written.
fn may_answer(machine: &Machine, write: &Write) -> bool {
    write.parts.iter().all(|(id, _, epoch)| machine.shared.leases.of(*id) == Some((machine.number, *epoch)))
}

/// Waits until the write is acknowledged. False if that cannot be said: its outcome is unknown.
async fn wait(machine: &Machine, process: &Process, write: &Write, concern: WriteConcern) -> bool {
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < PATIENCE {
        if !may_answer(machine, write) {
            return false;
        }
        let is_safe = |(id, ..): &(PartitionId, Point, Epoch)| {
            process.replication.acknowledged(*id, concern) >= write.position
        };
        if write.parts.iter().all(is_safe) {
            return true;
        }
        tokio::time::sleep(LOOK_GAP).await;
    }
    false
}

/// Commits a transaction over partitions that this node may answer for; none if there are none, or nothing changed.
fn commit(machine: &Machine, process: &Process, random: &mut StdRng) -> Option<Write> {
    let count = process.data.partition_count();
    let leases: BTreeMap<PartitionId, Epoch> = (0..count)
        .map(PartitionId)
        .filter_map(|id| {
            machine
                .shared
                .leases
                .of(id)
                .filter(|(node, _)| *node == machine.number)
                .map(|(_, epoch)| (id, epoch))
        })
        .collect();
    let store = &process.data.store;
    let names: Vec<String> = (0..random.random_range(1..4)).map(|_| name(random)).collect();
    let keys = names.iter().map(|name| Key::new(random.random_range(0..DATABASES), name.as_bytes()));
    let keys: Vec<Key> = keys.filter(|key| leases.contains_key(&store.partition_of(key.slot))).collect();
    if keys.is_empty() {
        return None;
    }
    let set = PartitionSet::of(keys.iter().map(|key| store.partition_of(key.slot)).collect());
    let before: BTreeMap<PartitionId, Point> = leases.keys().map(|id| (*id, store.point(*id))).collect();
    let now = machine.shared.witness.wall_clock_ms();
    let mut transaction = store.transaction(&set, now);
    keys.iter()
        .for_each(|key| change(&mut transaction, key, now, machine.settings.clients.value_bytes, random));
    match random.random_range(0..200) {
        0 => _ = transaction.flush_database(random.random_range(0..DATABASES)),
        1 => transaction.swap_databases(0, 1),
        _ => {}
    }
    let position = transaction.commit();
    let mut parts = Vec::new();
    for (id, epoch) in leases {
        let (point, before) = (store.point(id), before[&id]);
        if place(point) != place(before) {
            let node = machine.number;
            machine.shared.witness.tell(Event::Committed {
                node,
                partition: id,
                point,
                previous: before.chain,
            });
            parts.push((id, point, epoch));
        }
    }
    (!parts.is_empty()).then_some(Write { position, parts })
}

fn name(random: &mut StdRng) -> String {
    let of = types::TYPES.choose(random).expect("there are types");
    format!("{}-{}", of.name, random.random_range(0..KEYS))
}

/// Changes a key: a command of its type, now and then a deadline, or nothing any more.
fn change(transaction: &mut Transaction, key: &Key, now: i64, value_bytes: usize, random: &mut StdRng) {
    let mut write = |words: &[Word]| commands::write(transaction, key.database, words);
    match random.random_range(0..10) {
        0 => write(&[b"DEL".to_vec(), key.name.to_vec()]),
        1 => {
            let deadline = now + random.random_range(1..10_000);
            write(&[b"PEXPIREAT".to_vec(), key.name.to_vec(), deadline.to_string().into_bytes()]);
        }
        _ => {
            let sizes = Sizes { items: ITEMS, value: value_bytes };
            write(&types::of(key.name).change(key.name, &mut Chance::from(random.random()), sizes));
        }
    }
}
