//! Power losses while a replica receives and installs snapshots: each partition is then what it was or what the snapshot makes of
//! it, whole, and not behind what was durable.
//!
//! The primary works on an ordinary folder; its rows at every point of its history are known by their digest. The replica works on
//! the simulated disk: it follows the primary, or goes its own way, receives snapshots with interruptions, installs them, and
//! follows again. Everything it does to a partition is a step from one point to the next.

use crate::disk::{Disk, Event, Lie, State};
use crate::history::{self, Change};
use crate::image::{self, Image, Loss};
use crate::{Folder, number, workload};
use larder::base::ids::{PartitionId, Point};
use larder::store::{Snapshot, SnapshotOffer, Store, SyncMode};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Power losses, unless told otherwise, and of one run.
const LOSSES: usize = 40;
const LOSSES_OF_RUN: usize = 10;
/// Power losses within which a lie must be found out.
const LOSSES_OF_LIE: usize = 400;
const CHUNK: usize = 9000;

#[test]
fn a_power_loss_leaves_the_old_tree_or_the_new_one() {
    let losses = number("LARDER_LOSSES").map_or(LOSSES, |losses| losses as usize);
    let first = number("LARDER_SEED").unwrap_or(crate::chance::FIRST_SEED);
    let mut figures = Figures::default();
    for seed in first.. {
        if figures.losses >= losses {
            break;
        }
        if let Err(failure) = run(seed, None, &mut figures) {
            panic!("LARDER_SEED={seed}: {failure}");
        }
    }
    eprintln!("seeds from {first}: {figures:?}");
    assert!(figures.before > 0 && figures.after > 0, "losses come before and after an exchange");
}

#[test]
fn an_exchange_of_names_that_is_not_synced_is_found_out() {
    let mut figures = Figures::default();
    for seed in 1.. {
        let run = std::panic::AssertUnwindSafe(|| run(seed, Some(Lie::ExchangeNotSynced), &mut figures));
        match std::panic::catch_unwind(run) {
            Ok(Ok(())) => assert!(figures.losses < LOSSES_OF_LIE, "nothing was noticed"),
            Ok(Err(failure)) => return eprintln!("after {} losses: {failure}", figures.losses),
            Err(_) => return,
        }
    }
}

/// Counts for the eye.
#[derive(Debug, Default)]
struct Figures {
    losses: usize,
    installed: usize,
    /// Losses in an install that left the old tree, and the new one.
    before: usize,
    after: usize,
    /// Transfers that went on after a loss, and bytes they did not have to carry again.
    resumed: usize,
    resumed_bytes: u64,
    again: usize,
}

/// The digest of a partition's rows at the points of its history.
type Known = HashMap<(PartitionId, u64, u32), u64>;

fn learn(known: &mut Known, store: &Store) {
    for id in ids() {
        let point = store.point(id);
        known.insert((id, point.lsn.0, point.chain), store.digest(id).expect("reads"));
    }
}

fn ids() -> impl Iterator<Item = PartitionId> {
    (0..history::PARTITIONS).map(PartitionId)
}

/// What brought a partition to a point.
#[derive(Clone, Copy, Debug)]
enum Cause {
    /// It was there at the beginning.
    Start,
    /// A record, which ends at this position of the journal.
    Record(u64),
    /// A snapshot, which was installed before this event; none if that did not end.
    Snapshot(Option<usize>),
}

#[derive(Clone, Copy, Debug)]
struct Step {
    /// Not before this event.
    begun: usize,
    point: Point,
    cause: Cause,
}

/// A replica at work.
struct Replica {
    disk: Arc<Disk>,
    store: Option<Store>,
    steps: BTreeMap<PartitionId, Vec<Step>>,
    known: Known,
    /// Snapshots by number: what was offered, and the bytes.
    offers: HashMap<u64, (SnapshotOffer, Vec<u8>)>,
}

impl Replica {
    fn open(&mut self) -> Result<(), String> {
        let store = workload::open(self.disk.root(), SyncMode::Never)?;
        let disk = Arc::clone(&self.disk);
        store.after_sync(Box::new(move |position| disk.note(Event::Promise { position })));
        self.disk.note(Event::Promise { position: store.durable_position() });
        self.disk.note(Event::Opened);
        self.store = Some(store);
        Ok(())
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("it is open")
    }

    fn events(&self) -> usize {
        self.disk.lock().events.len()
    }

    /// Notes where all partitions stand that were moved by what ended at `position`.
    fn note_records(&mut self, begun: usize, position: u64) {
        for id in ids() {
            let point = self.store().point(id);
            let steps = self.steps.get_mut(&id).expect("all are there");
            if steps.last().is_none_or(|last| last.point != point) {
                steps.push(Step { begun, point, cause: Cause::Record(position) });
            }
        }
    }

    fn follow(&mut self, payloads: &[Vec<u8>], random: &mut StdRng) {
        for payload in payloads {
            let begun = self.events();
            match self.store().apply(payload) {
                Ok(0) => {}
                Ok(position) => {
                    self.note_records(begun, position);
                    if random.random_bool(0.5) {
                        self.store().flush(position).expect("flushes");
                    }
                }
                // What is of a history that a snapshot has not reached yet.
                Err(_) => return,
            }
            self.sometimes(random);
        }
    }

    /// Goes its own way.
    fn diverge(&mut self, random: &mut StdRng) {
        for _ in 0..random.random_range(1..60) {
            let begun = self.events();
            if let Some(done) = workload::commit(self.store(), vec![Change::random(random, "", 0)], 0) {
                self.note_records(begun, done.position);
                let mut known = std::mem::take(&mut self.known);
                learn(&mut known, self.store());
                self.known = known;
            }
            self.sometimes(random);
        }
    }

    fn sometimes(&self, random: &mut StdRng) {
        let id = PartitionId(random.random_range(0..history::PARTITIONS));
        match random.random_range(0..40) {
            0..3 => drop(self.store().checkpoint(id).expect("checkpoints")),
            3 => drop(self.store().collect_garbage(id, 20).expect("collects")),
            4..8 => self.store().sync().expect("syncs"),
            _ => {}
        }
    }

    /// Receives a snapshot, with interruptions, and installs it.
    fn receive(&mut self, snapshot: &Snapshot, random: &mut StdRng) -> Result<(), String> {
        let offer = snapshot.offer();
        self.offers
            .entry(offer.id)
            .or_insert_with(|| (offer, snapshot.read(0, offer.bytes as usize).expect("reads")));
        let mut incoming = self.store().receive_snapshot(offer).map_err(|error| error.to_string())?;
        while incoming.offset() < offer.bytes {
            let part = snapshot.read(incoming.offset(), CHUNK).map_err(|error| error.to_string())?;
            incoming.write(incoming.offset(), &part).map_err(|error| error.to_string())?;
            if random.random_bool(0.05) {
                let offset = incoming.offset();
                drop(incoming);
                if random.random_bool(0.3) {
                    self.store = None;
                    self.disk.note(Event::Killed);
                    self.open()?;
                }
                incoming = self.store().receive_snapshot(offer).map_err(|error| error.to_string())?;
                assert_eq!(incoming.offset(), offset, "an ordered end keeps all that came");
            }
        }
        let (id, begun, point) = (offer.partition, self.events(), offer.point);
        let steps = self.steps.get_mut(&id).expect("all are there");
        steps.push(Step { begun, point, cause: Cause::Snapshot(None) });
        let kept = self.disk.root().join(format!("lost/{:x}", offer.id));
        let kept = random.random_bool(0.5).then_some(&*kept);
        self.store().set_primary(id, false);
        let installed = self.store().install_snapshot(incoming, kept).map_err(|error| error.to_string())?;
        self.store().set_primary(id, true);
        assert_eq!(installed, offer.point);
        let done = self.events();
        let steps = self.steps.get_mut(&id).expect("all are there");
        steps.last_mut().expect("it was added").cause = Cause::Snapshot(Some(done));
        Ok(())
    }
}

/// The records of a journal from `position` on.
fn records(store: &Store, position: u64) -> Vec<Vec<u8>> {
    let (mut found, mut cursor) = (Vec::new(), store.cursor(position).expect("it has a journal"));
    while cursor
        .read(store.written_position(), 1 << 16, &mut |_, payload| found.push(payload.to_vec()))
        .expect("reads")
    {}
    found
}

fn run(seed: u64, lie: Option<Lie>, figures: &mut Figures) -> Result<(), String> {
    let mut random = StdRng::seed_from_u64(seed);
    let folders = [Folder::new(), Folder::new()];
    let primary = workload::open(&folders[0].path, SyncMode::Never)?;
    primary.pin_journal(1, Some(0)); // all of it is wanted
    let mut known = Known::new();
    let disk = Disk::watch(&folders[1].path, lie);
    learn(&mut known, &primary);
    let steps = ids().map(|id| (id, vec![Step { begun: 0, point: primary.point(id), cause: Cause::Start }]));
    let mut replica = Replica {
        disk: Arc::clone(&disk),
        store: None,
        steps: steps.collect(),
        known,
        offers: HashMap::new(),
    };
    let lived = replica.open().and_then(|()| live(&primary, &mut replica, &mut random, figures));
    replica.store = None;
    let state = disk.finish();
    lived?;
    for _ in 0..LOSSES_OF_RUN {
        let (events, loss) = (when(&state, &replica.steps, &mut random), Loss::random(&mut random));
        // A killed process leaves what the kernel has.
        let loss = if random.random_bool(0.2) { Loss::Kill } else { loss };
        let image = image::after(&state, events, loss, random.random());
        let folder = Folder::new();
        image.lay_out(&folder.path);
        let survived = lose_again(&image, &replica, &state, events, &mut random, figures)
            .and_then(|()| survive(&folder.path, &replica, &state, events, &mut random, figures));
        survived.map_err(|failure| {
            if lie.is_some() {
                return failure; // as it should be
            }
            folder.record(&state.events[..events]);
            folder.keep(&format!("{loss:?} after event {events} of {}: {failure}", state.events.len()))
        })?;
        figures.losses += 1;
    }
    Ok(())
}

fn live(
    primary: &Store,
    replica: &mut Replica,
    random: &mut StdRng,
    figures: &mut Figures,
) -> Result<(), String> {
    let work = |replica: &mut Replica, random: &mut StdRng, most: usize| {
        for _ in 0..random.random_range(1..most) {
            let change = match random.random_range(0..20) {
                0 => Change::Flush(random.random_range(0..history::DATABASES)),
                1 => Change::Swap(0, random.random_range(0..history::DATABASES)),
                _ => Change::random(random, "", 0),
            };
            if let Some(done) = workload::commit(primary, vec![change], 0) {
                primary.flush(done.position).expect("flushes");
                learn(&mut replica.known, primary);
            }
        }
    };
    work(replica, random, 60);
    if random.random_bool(0.5) {
        replica.follow(&records(primary, 0), random);
    } else {
        replica.diverge(random);
    }
    for _ in 0..random.random_range(1..4) {
        work(replica, random, 30);
        if random.random_bool(0.5) {
            // Its history may get longer than the one that takes its place.
            replica.diverge(random);
        }
        let mut from = u64::MAX;
        for id in ids() {
            let snapshot = primary.take_snapshot(id).map_err(|error| error.to_string())?;
            work(replica, random, 5);
            replica.receive(&snapshot, random)?;
            figures.installed += 1;
            from = from.min(snapshot.position);
        }
        // All are of one history now.
        replica.follow(&records(primary, from), random);
        for id in ids() {
            assert_eq!(replica.store().point(id), primary.point(id), "the tail follows the snapshots");
        }
    }
    Ok(())
}

/// A point of the record, often one of an install.
fn when(state: &State, steps: &BTreeMap<PartitionId, Vec<Step>>, random: &mut StdRng) -> usize {
    let installs: Vec<(usize, usize)> = steps
        .values()
        .flatten()
        .filter_map(|step| match step.cause {
            Cause::Snapshot(Some(done)) => Some((step.begun, done)),
            _ => None,
        })
        .collect();
    if installs.is_empty() || random.random_bool(0.3) {
        return random.random_range(0..=state.events.len());
    }
    let (begun, done) = installs[random.random_range(0..installs.len())];
    random.random_range(begun..=(done + 5).min(state.events.len()))
}

/// Loses the power a second time, in the start after the first.
fn lose_again(
    image: &Image,
    replica: &Replica,
    state: &State,
    events: usize,
    random: &mut StdRng,
    figures: &mut Figures,
) -> Result<(), String> {
    if random.random_bool(0.6) {
        return Ok(());
    }
    let folders = [Folder::new(), Folder::new()];
    image.lay_out(&folders[0].path);
    let disk = Disk::watch(&folders[0].path, None);
    let opened = workload::open(&folders[0].path, SyncMode::Never).map(drop);
    let start = disk.finish();
    opened.map_err(|error| format!("does not open: {error}"))?;
    let second = random.random_range(0..=start.events.len());
    image::after(&start, second, Loss::random(random), random.random()).lay_out(&folders[1].path);
    figures.again += 1;
    survive(&folders[1].path, replica, state, events, random, figures).map_err(|failure| {
        folders[1].keep(&format!("and again in the start, after event {second}: {failure}"))
    })
}

/// Opens what is left and checks it; goes on with what was being received.
fn survive(
    folder: &Path,
    replica: &Replica,
    state: &State,
    events: usize,
    random: &mut StdRng,
    figures: &mut Figures,
) -> Result<(), String> {
    let store = workload::open(folder, SyncMode::Never).map_err(|error| format!("does not open: {error}"))?;
    for id in ids() {
        let before = check_partition(&store, id, replica, state, events)?;
        match before {
            Some(true) => figures.before += 1,
            Some(false) => figures.after += 1,
            None => {}
        }
    }
    let left = std::fs::read_dir(folder.join("partitions")).map_err(|error| error.to_string())?.count();
    if left != usize::from(history::PARTITIONS) {
        return Err(format!("{left} folders are left"));
    }
    let digests = |store: &Store| -> Vec<(Point, u64)> {
        ids().map(|id| (store.point(id), store.digest(id).expect("reads"))).collect()
    };
    for id in ids() {
        let Some((offer, offset)) = store.interrupted_snapshot(id) else { continue };
        let (known, bytes) = replica.offers.get(&offer.id).ok_or("a snapshot nobody has sent")?;
        let mut incoming = store.receive_snapshot(*known).map_err(|error| error.to_string())?;
        if incoming.offset() != offset {
            return Err(format!("goes on at {} instead of {offset}", incoming.offset()));
        }
        incoming.write(offset, &bytes[offset as usize..]).map_err(|error| error.to_string())?;
        store.set_primary(id, false);
        let point = store.install_snapshot(incoming, None).map_err(|error| format!("resumed: {error}"))?;
        if replica.known[&(id, point.lsn.0, point.chain)] != store.digest(id).expect("reads") {
            return Err(format!("partition {id} is not what the resumed snapshot holds"));
        }
        figures.resumed += usize::from(offset > 0);
        figures.resumed_bytes += offset;
    }
    for _ in 0..random.random_range(0..10) {
        // What is journaled from here on counts, whatever the journal had lost.
        ids().for_each(|id| store.set_primary(id, true));
        workload::commit(&store, vec![Change::random(random, "", 0)], 0);
    }
    store.sync().map_err(|error| format!("does not sync: {error:?}"))?;
    let before = digests(&store);
    if random.random_bool(0.5) {
        store.check_trees(&AtomicBool::new(false)).map_err(|error| error.to_string())?;
        store.checkpoint_now().map_err(|error| error.to_string())?;
    }
    drop(store);
    let store =
        workload::open(folder, SyncMode::Never).map_err(|error| format!("opens once only: {error}"))?;
    if digests(&store) != before {
        return Err("after opening again something else is there".into());
    }
    Ok(())
}

/// Fails unless the partition is where it may be. If the power was lost in the install of a snapshot: whether the old tree is
/// there.
fn check_partition(
    store: &Store,
    id: PartitionId,
    replica: &Replica,
    state: &State,
    events: usize,
) -> Result<Option<bool>, String> {
    let point = store.point(id);
    let digest = store.digest(id).map_err(|error| format!("{error:?}"))?;
    let at = (id, point.lsn.0, point.chain);
    match replica.known.get(&at) {
        Some(known) if *known == digest => {}
        Some(_) => return Err(format!("partition {id} does not hold what it should at {point:?}")),
        None => return Err(format!("partition {id} is at {point:?}, where nobody was")),
    }
    let promised = state.events[..events].iter().filter_map(|event| match event {
        Event::Promise { position } => Some(*position),
        _ => None,
    });
    let promised = promised.max().unwrap_or(0);
    let steps = &replica.steps[&id];
    let is_sure = |step: &Step| match step.cause {
        Cause::Start => true,
        Cause::Record(position) => step.begun < events && position <= promised,
        Cause::Snapshot(done) => done.is_some_and(|done| done <= events),
    };
    let first = steps.iter().rposition(is_sure).expect("the start is sure");
    let last = steps.iter().rposition(|step| step.begun <= events).expect("the start has begun");
    let found = steps[first..=last].iter().rposition(|step| step.point == point);
    let Some(found) = found else {
        return Err(format!(
            "partition {id} is at {point:?}; it should be one of {:?}",
            &steps[first..=last]
        ));
    };
    let is_install =
        |step: &Step| matches!(step.cause, Cause::Snapshot(done) if done.is_none_or(|done| done > events));
    Ok(is_install(&steps[last]).then_some(first + found < last))
}
