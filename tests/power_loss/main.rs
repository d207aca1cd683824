//! Power losses: the store on a simulated disk that forgets what was not synced.
//!
//! A run begins with an empty disk and goes on in generations. In each, the store is opened, a workload changes it, and
//! everything that reaches the disk is recorded ([`disk`], [`calls`]). Then the power is lost at some points of the record, in the
//! start as well as later; what the disk may then hold is built ([`image`]), the store is opened on it and read back. It must hold
//! exactly what the first so many committed transactions make ([`history`]), and not fewer of them than were promised. One of these
//! disks is where the next generation begins.
//!
//! `LARDER_LOSSES` is how many power losses there are in all (default 150), `LARDER_SEED` the seed of the first run,
//! else always the same: a change must not be refused for what it did not do.
//! The disk of a failed run is kept; its folder, seed and event are in the message.
//!
//! How we know that a wrong store would be noticed: the same runs on disks that lie must fail, see [`disk::Lie`].

#[path = "../support/chance.rs"]
mod chance;
#[path = "../support/commands.rs"]
mod commands;
#[path = "../support/types.rs"]
mod types;

mod calls;
mod disk;
mod history;
mod image;
mod snapshots;
mod tree;
mod workload;

use disk::{Disk, Event, Lie, State};
use history::{Change, Committed, History, count_to, data_after};
use image::{Image, Loss};
use larder::base::ids::PartitionId;
use larder::store::{Background, Flushed, Store, SyncMode};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Power losses over all tests, unless told otherwise.
const LOSSES: usize = 150;
/// Power losses in one generation.
const LOSSES_OF_GENERATION: usize = 8;
/// Generations of one run.
const GENERATIONS: usize = 4;
/// What one thread does in a generation.
const STEPS: usize = 160;
/// Under `everysec` writers wait while the oldest write that is not synced is older than this.
const MAX_UNSYNCED: Duration = Duration::from_secs(2);
/// Threads of a generation with several, and transactions of each.
const WRITERS: usize = 3;
const TRANSACTIONS: usize = 60;

#[test]
fn with_appendfsync_always_nothing_acknowledged_is_lost() {
    lose_power(Setting { sync: SyncMode::Always, threads: false, lie: None });
}

#[test]
fn with_appendfsync_everysec_nothing_synced_is_lost_and_the_rest_is_a_prefix() {
    lose_power(Setting { sync: SyncMode::EverySecond, threads: false, lie: None });
}

#[test]
fn with_appendfsync_no_nothing_synced_is_lost_and_the_rest_is_a_prefix() {
    lose_power(Setting { sync: SyncMode::Never, threads: false, lie: None });
}

#[test]
fn with_appendfsync_always_and_several_threads() {
    lose_power(Setting { sync: SyncMode::Always, threads: true, lie: None });
}

#[test]
fn with_appendfsync_everysec_and_several_threads() {
    lose_power(Setting { sync: SyncMode::EverySecond, threads: true, lie: None });
}

#[test]
fn with_appendfsync_no_and_several_threads() {
    lose_power(Setting { sync: SyncMode::Never, threads: true, lie: None });
}

/// Of what is written all the time, as much is lost at most as was written in two seconds: then writers wait for the sync.
#[test]
fn with_appendfsync_everysec_no_more_than_two_seconds_are_lost() {
    let setting = Setting { sync: SyncMode::EverySecond, threads: true, lie: None };
    let (losses, promised) = lose_seconds(setting).unwrap_or_else(|failure| panic!("{failure}"));
    eprintln!("{losses} losses, {promised} transactions had to be there because of their age");
    assert!(promised > 0, "the run was too short");
    let lie = Setting { lie: Some(Lie::JournalNotSynced), ..setting };
    let failure = lose_seconds(lie).expect_err("without syncs more is lost");
    // Too little is there, or what the trees have shows that the journal lacks something.
    assert!(failure.contains("it should be") || failure.contains("does not open"), "{failure}");
}

/// Loses power while one thread writes for some seconds. Returns how often, and how many transactions age alone promised.
fn lose_seconds(setting: Setting) -> Result<(usize, usize), String> {
    let mut random = StdRng::seed_from_u64(number("LARDER_SEED").unwrap_or(1));
    let folder = Folder::new();
    let disk = Disk::watch(&folder.path, setting.lie);
    let store = Arc::new(workload::open(&folder.path, setting.sync)?);
    disk.note(Event::Opened);
    let background = Background::start(&store).map_err(|error| error.to_string())?;
    let (mut history, start) = (Vec::new(), Instant::now());
    while start.elapsed() < MAX_UNSYNCED * 2 {
        let change = Change::Set((0, b"text".to_vec()), history.len().to_string().into_bytes(), None);
        let committed = workload::commit(&store, vec![change], 0).expect("something changes");
        let (position, begun) = (committed.position, Instant::now());
        history.push(committed);
        // Late: what could be lost is too old already, and is synced first.
        while store.flush(position).map_err(|error| format!("{error:?}"))? == Flushed::Late {
            std::thread::sleep(Duration::from_millis(1));
        }
        disk.note(Event::Written { position, begun, done: Instant::now() });
        std::thread::sleep(Duration::from_millis(2)); // so that the record stays short; nothing waits for this
    }
    drop(background);
    drop(store);
    let state = disk.finish();
    let (losses, mut promised) = (20, 0);
    for _ in 0..losses {
        let events = random.random_range(state.events.len() / 2..=state.events.len());
        let image = image::after(&state, events, Loss::Nothing, random.random());
        let folder = Folder::new();
        image.lay_out(&folder.path);
        let bounds = Bounds::after(&state, events, 0, &history);
        promised += bounds.at_least;
        survive(setting, &folder.path, &history, bounds, &mut random)?;
    }
    Ok((losses, promised))
}

/// The tests above, each with its share of the losses.
const TESTS: usize = 6;

/// Power losses within which a lie must be found out.
const LOSSES_OF_LIE: usize = 300;
/// Which lie the process is to try; a damaged tree may end it, so each has a process of its own.
const LIE: &str = "LARDER_POWER_LOSS_LIE";

#[test]
fn a_store_that_does_not_sync_is_found_out() {
    if let Ok(name) = std::env::var(LIE) {
        return try_lie(&name);
    }
    for lie in Lie::ALL {
        let this = std::env::current_exe().expect("this program has a path");
        let mut command = std::process::Command::new(this);
        command.args(["--exact", "a_store_that_does_not_sync_is_found_out", "--nocapture"]);
        let output = command.env(LIE, format!("{lie:?}")).output().expect("this program runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let damaged_memory = output.status.signal().is_some();
        assert!(text.contains("found out: ") || damaged_memory, "{lie:?} was not noticed:\n{text}");
        eprintln!(
            "{lie:?}: {}",
            text.lines().find(|line| line.contains("found out: ")).unwrap_or("ended by a signal")
        );
    }
}

/// Says how the lie was found out.
fn try_lie(name: &str) {
    let lie = Lie::ALL.into_iter().find(|lie| format!("{lie:?}") == name).expect("a lie");
    let mut figures = Figures::default();
    for seed in 1.. {
        let sync = if seed % 2 == 0 { SyncMode::Always } else { SyncMode::Never };
        let setting = Setting { sync, threads: false, lie: Some(lie) };
        // What a lie does to a store may well break its invariants.
        let run = std::panic::AssertUnwindSafe(|| {
            run(setting, seed, LOSSES_OF_GENERATION * GENERATIONS, &mut figures)
        });
        let result = std::panic::catch_unwind(run).unwrap_or_else(|_| Err("a panic, see above".into()));
        if let Err(failure) = result {
            eprintln!(
                "found out: after {} losses: {}",
                figures.losses,
                failure.lines().next().unwrap_or_default()
            );
            return;
        }
        assert!(figures.losses < LOSSES_OF_LIE, "nothing was noticed");
    }
}

/// What a run is about.
#[derive(Clone, Copy, Debug)]
struct Setting {
    sync: SyncMode,
    /// Several threads and the store's own ones; else one thread does everything, and a seed repeats it.
    threads: bool,
    lie: Option<Lie>,
}

/// Counts for the eye: that the runs do what they are there for.
#[derive(Debug, Default)]
struct Figures {
    losses: usize,
    in_start: usize,
    transactions: usize,
    /// Transactions that were there though nobody had promised it.
    unpromised: usize,
    cut_tails: usize,
    segments_made: usize,
    segments_dropped: usize,
    kills: usize,
    longest_start: Duration,
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn lose_power(setting: Setting) {
    let losses = number("LARDER_LOSSES").map_or(LOSSES, |losses| losses as usize).div_ceil(TESTS);
    let first = number("LARDER_SEED").unwrap_or(chance::FIRST_SEED);
    let mut figures = Figures::default();
    for seed in first.. {
        if figures.losses >= losses {
            break;
        }
        if let Err(failure) = run(setting, seed, losses - figures.losses, &mut figures) {
            panic!("{setting:?}, LARDER_SEED={seed}: {failure}");
        }
    }
    eprintln!("{setting:?}, seeds from {first}: {figures:?}");
    assert!(figures.transactions > figures.losses, "without work there is nothing to lose");
}

/// A disk to start from, and what it must be found to hold.
struct Scene {
    image: Image,
    history: History,
}

fn run(setting: Setting, seed: u64, losses: usize, figures: &mut Figures) -> Result<(), String> {
    // Each setting has histories of its own.
    let mut random = StdRng::seed_from_u64(seed << 3 | setting.sync as u64 | u64::from(setting.threads) << 2);
    let mut scene = Scene { image: Image::Folder(BTreeMap::new()), history: Vec::new() };
    let enough = figures.losses + losses;
    for generation in 0..GENERATIONS {
        let folder = Folder::new();
        let (state, history) = live(setting, &scene, &mut random, &folder.path, figures)
            .map_err(|failure| folder.keep(&format!("generation {generation}: {failure}")))?;
        drop(folder);
        let before = scene.history.len();
        for _ in 0..LOSSES_OF_GENERATION.min(enough.saturating_sub(figures.losses)) {
            let (events, loss) = (when(&state, &mut random), Loss::random(&mut random));
            let image = image::after(&state, events, loss, random.random());
            let folder = Folder::new();
            image.lay_out(&folder.path);
            let begun = Instant::now();
            let bounds = Bounds::after(&state, events, before, &history);
            let survived =
                survive(setting, &folder.path, &history, bounds, &mut random).map_err(|failure| {
                    let last = events.checked_sub(1).map(|last| &state.events[last]);
                    folder.record(&state.events[..events]);
                    folder.keep(&format!(
                        "generation {generation}, {loss:?} after event {events} {last:?}: {failure}"
                    ))
                })?;
            figures.losses += 1;
            figures.in_start += usize::from(bounds.in_start);
            figures.cut_tails += usize::from(survived.cut);
            figures.unpromised += survived.count - bounds.at_least;
            figures.longest_start = figures.longest_start.max(begun.elapsed());
            scene = Scene { image, history: history[..survived.count].to_vec() };
        }
        if figures.losses >= enough {
            break;
        }
    }
    Ok(())
}

/// A point of the record: any, often one of the start, often one beside a sync or a change of names.
fn when(state: &State, random: &mut StdRng) -> usize {
    let all = state.events.len();
    let started = state.events.iter().position(|event| matches!(event, Event::Opened)).unwrap_or(all);
    match random.random_range(0..10) {
        0 | 1 => random.random_range(0..=started),
        2..5 => {
            let is_turn = |event: &Event| !matches!(event, Event::Write { .. } | Event::Promise { .. });
            let turns: Vec<usize> = (0..all).filter(|index| is_turn(&state.events[*index])).collect();
            turns[random.random_range(0..turns.len())] + random.random_range(0..2)
        }
        _ => random.random_range(0..=all),
    }
}

/// How many transactions may be found.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    at_least: usize,
    at_most: usize,
    /// The power is lost before the store is open.
    in_start: bool,
}

impl Bounds {
    /// After the first `events` of a record that began with `before` transactions.
    fn after(state: &State, events: usize, before: usize, history: &History) -> Bounds {
        let happened = &state.events[..events];
        if !happened.iter().any(|event| matches!(event, Event::Opened)) {
            // The disk holds so many; a start adds nothing and takes nothing away.
            return Bounds { at_least: before, at_most: before, in_start: true };
        }
        let promised = happened.iter().filter_map(|event| match event {
            Event::Promise { position } | Event::Acknowledged { position } => Some(*position),
            _ => None,
        });
        let by_age = written_long_before(happened);
        let at_least = promised.max().max(by_age).map_or(0, |position| count_to(history, position));
        Bounds { at_least: at_least.max(before), at_most: history.len(), in_start: false }
    }
}

/// Behind the last transaction that is older than the last one by more than may be unsynced.
fn written_long_before(events: &[Event]) -> Option<u64> {
    let last = events.iter().rev().find_map(|event| match event {
        Event::Written { begun, .. } => Some(*begun),
        _ => None,
    })?;
    let old = events.iter().filter_map(|event| match event {
        Event::Written { position, done, .. } if *done + MAX_UNSYNCED < last => Some(*position),
        _ => None,
    });
    old.max()
}

/// What was found after a loss.
struct Survived {
    count: usize,
    cut: bool,
}

/// Opens what a power loss left, checks it, goes on with it, and checks that again.
fn survive(
    setting: Setting,
    folder: &Path,
    history: &History,
    bounds: Bounds,
    random: &mut StdRng,
) -> Result<Survived, String> {
    let store = workload::open(folder, setting.sync).map_err(|error| format!("does not open: {error}"))?;
    let count = check_start(&store, history, bounds)?;
    let cut = store.status().recovered_cut_bytes > 0;
    let mut history = history[..count].to_vec();
    for _ in 0..random.random_range(0..20) {
        history.extend(workload::commit(&store, vec![Change::random(random, "", 0)], 0));
    }
    store.sync().map_err(|error| format!("does not sync: {error:?}"))?;
    check(&store, &history).map_err(|error| format!("after going on: {error}"))?;
    if random.random_bool(0.3) {
        drop(store);
        let store =
            workload::open(folder, setting.sync).map_err(|error| format!("opens once only: {error}"))?;
        check(&store, &history).map_err(|error| format!("after opening again: {error}"))?;
        tree::check(store, folder)?;
    }
    Ok(Survived { count, cut })
}

/// How many transactions the store found at its start, if it holds exactly what those make of the data.
fn check_start(store: &Store, history: &History, bounds: Bounds) -> Result<usize, String> {
    let position = store.status().recovered_position;
    let count = count_to(history, position);
    if count < bounds.at_least || count > bounds.at_most {
        return Err(format!(
            "{count} transactions are there (journal to {position}), it should be {bounds:?}"
        ));
    }
    check(store, &history[..count]).map(|()| count)
}

/// Fails unless the store holds exactly what these transactions make of the data.
fn check(store: &Store, history: &[Committed]) -> Result<(), String> {
    let (expected, found) = (data_after(history), workload::read_back(store)?);
    if expected == found {
        return Ok(());
    }
    let differing =
        expected.keys().chain(found.keys()).find(|place| expected.get(*place) != found.get(*place));
    let place = differing.expect("they differ");
    let concerns = |change: &&Change| change.places().is_empty() || change.places().contains(place);
    let of = |committed: &Committed| committed.changes.iter().filter(concerns).cloned().collect::<Vec<_>>();
    let last: Vec<_> = history.iter().map(|it| (it.now, of(it))).filter(|it| !it.1.is_empty()).collect();
    Err(format!(
        "after {} transactions {:.40?} of database {} should be {:?} and is {:?}; {:#?}",
        history.len(),
        workload::name(place),
        place.0,
        expected.get(place),
        found.get(place),
        &last[last.len().saturating_sub(5)..]
    ))
}

// ------------------------------------------------------------------------------------------------------------- a generation

/// Opens the store on the scene's disk and works with it. Returns the record of the disk and all that was committed.
fn live(
    setting: Setting,
    scene: &Scene,
    random: &mut StdRng,
    folder: &Path,
    figures: &mut Figures,
) -> Result<(State, History), String> {
    scene.image.lay_out(folder);
    let disk = Disk::watch(folder, setting.lie);
    let mut life =
        Life { setting, disk: Arc::clone(&disk), history: scene.history.clone(), flushed: 0, now: 1000 };
    let lived = if setting.threads { life.in_threads(random) } else { life.in_one_thread(random, figures) };
    let state = disk.finish();
    lived?;
    let of_journal = |name: &std::ffi::OsString| name.to_string_lossy().ends_with(".log");
    let count = |is: &dyn Fn(&Event) -> bool| state.events.iter().filter(|event| is(event)).count();
    figures.segments_made += count(&|event| matches!(event, Event::Link { name, .. } if of_journal(name)));
    figures.segments_dropped +=
        count(&|event| matches!(event, Event::Unlink { name, .. } if of_journal(name)));
    figures.transactions += life.history.len() - scene.history.len();
    Ok((state, life.history))
}

/// A store at work.
struct Life {
    setting: Setting,
    disk: Arc<Disk>,
    history: History,
    /// Journal position up to which a kill loses nothing.
    flushed: u64,
    /// The clock of deadlines.
    now: i64,
}

impl Life {
    fn open(&mut self) -> Result<Store, String> {
        let store = workload::open(self.disk.root(), self.setting.sync)?;
        let disk = Arc::clone(&self.disk);
        store.after_sync(Box::new(move |position| disk.note(Event::Promise { position })));
        self.disk.note(Event::Promise { position: store.durable_position() });
        self.disk.note(Event::Opened);
        Ok(store)
    }

    fn in_one_thread(&mut self, random: &mut StdRng, figures: &mut Figures) -> Result<(), String> {
        let mut store = self.open()?;
        check(&store, &self.history)?;
        let mut last_sync = Instant::now();
        for _ in 0..random.random_range(1..STEPS) {
            self.step(&store, random);
            // Nobody else syncs here, but for checkpoints; under `everysec` writes wait for a sync that is late.
            let often = match self.setting.sync {
                SyncMode::Always => 0.4,
                SyncMode::EverySecond => 0.05,
                SyncMode::Never => 0.0,
            };
            let is_late =
                self.setting.sync == SyncMode::EverySecond && last_sync.elapsed() > Duration::from_secs(1);
            if random.random_bool(often) || is_late {
                self.sync(&store);
                last_sync = Instant::now();
            }
            if random.random_bool(0.01) {
                drop(store);
                self.disk.note(Event::Killed);
                figures.kills += 1;
                store = self.open()?;
                let at_least = count_to(&self.history, self.flushed);
                let count = check_start(
                    &store,
                    &self.history,
                    Bounds { at_least, at_most: self.history.len(), in_start: false },
                );
                self.history.truncate(count.map_err(|error| format!("after a kill: {error}"))?);
            }
        }
        Ok(())
    }

    fn step(&mut self, store: &Store, random: &mut StdRng) {
        let partition = random.random_range(0..history::PARTITIONS);
        let database = |random: &mut StdRng| random.random_range(0..history::DATABASES);
        self.now += random.random_range(0..5);
        match random.random_range(0..100) {
            0..70 => {
                let count = if random.random_bool(0.2) { random.random_range(2..5) } else { 1 };
                let changes = (0..count).map(|_| Change::random(random, "", self.now)).collect();
                self.history.extend(workload::commit(store, changes, self.now));
            }
            70 => {
                let flush = Change::Flush(database(random));
                self.history.extend(workload::commit(store, vec![flush], self.now));
            }
            71..74 => {
                let swap = Change::Swap(database(random), database(random));
                self.history.extend(workload::commit(store, vec![swap], self.now));
            }
            74..80 => self.history.extend(workload::expire(store, partition, self.now)),
            80..88 => drop(store.checkpoint(PartitionId(partition)).expect("checkpoints")),
            88..91 => store.checkpoint_now().expect("checkpoints"),
            91 => store.check_trees(&AtomicBool::new(false)).expect("no tree is damaged"),
            92..96 => drop(store.collect_garbage(PartitionId(partition), 20).expect("collects")),
            _ => {}
        }
        if random.random_bool(0.6) {
            self.end_turn(store);
        }
    }

    /// Writes the journal; the transactions are then safe from a kill, and acknowledged unless they wait for the sync.
    fn end_turn(&mut self, store: &Store) {
        let Some(position) = self.history.last().map(|committed| committed.position) else { return };
        assert_ne!(store.flush(position).expect("flushes"), Flushed::Late, "this disk is quick");
        self.flushed = position;
        if self.setting.lie == Some(Lie::AcknowledgedEarly) {
            self.disk.note(Event::Acknowledged { position });
        }
    }

    fn sync(&mut self, store: &Store) {
        store.sync().expect("syncs");
        self.flushed = store.durable_position();
        self.disk.note(Event::Acknowledged { position: self.flushed });
    }

    /// Several writers, and the store's own threads.
    fn in_threads(&mut self, random: &mut StdRng) -> Result<(), String> {
        let store = self.open()?;
        check(&store, &self.history)?;
        let durable = Arc::new((Mutex::new(()), Condvar::new()));
        let (tell, disk) = (Arc::clone(&durable), Arc::clone(&self.disk));
        store.after_sync(Box::new(move |position| {
            disk.note(Event::Promise { position });
            drop(tell.0.lock());
            tell.1.notify_all();
        }));
        let store = Arc::new(store);
        let background = Background::start(&store).map_err(|error| error.to_string())?;
        let seeds: Vec<u64> = (0..WRITERS).map(|_| random.random()).collect();
        let committed = std::thread::scope(|scope| {
            let writers: Vec<_> =
                seeds.iter().map(|seed| scope.spawn(|| self.write(&store, &durable, *seed))).collect();
            writers.into_iter().flat_map(|writer| writer.join().expect("writes")).collect::<Vec<_>>()
        });
        drop(background);
        self.history.extend(committed);
        self.history.sort_by_key(|committed| committed.position);
        Ok(())
    }

    fn write(&self, store: &Store, durable: &(Mutex<()>, Condvar), seed: u64) -> Vec<Committed> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut committed = Vec::new();
        for _ in 0..random.random_range(1..TRANSACTIONS) {
            let count = if random.random_bool(0.2) { 3 } else { 1 };
            let mut changes: Vec<Change> =
                (0..count).map(|_| Change::random(&mut random, "", self.now)).collect();
            if random.random_bool(0.02) {
                changes.push(Change::Flush(random.random_range(0..history::DATABASES)));
            }
            let Some(done) = workload::commit(store, changes, self.now) else { continue };
            let position = done.position;
            committed.push(done);
            if store.flush(position).expect("flushes") == Flushed::AwaitSync {
                let mut guard = durable.0.lock().expect("nobody panics with it");
                while store.durable_position() < position {
                    guard = durable.1.wait(guard).expect("nobody panics with it");
                }
                self.disk.note(Event::Acknowledged { position });
            } else if self.setting.sync == SyncMode::Always {
                self.disk.note(Event::Acknowledged { position });
            }
        }
        committed
    }
}

// ------------------------------------------------------------------------------------------------------------------- folders

/// A folder in memory if there is a file system for that, removed with its test unless something is found.
struct Folder {
    path: PathBuf,
    inner: tempfile::TempDir,
}

impl Folder {
    fn new() -> Folder {
        let memory = Path::new("/dev/shm");
        let inner = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let inner = inner.expect("a temporary folder");
        Folder { path: inner.path().to_path_buf(), inner }
    }

    /// Writes down what happened to the disk.
    fn record(&self, events: &[Event]) {
        let lines: String = events.iter().map(|event| format!("{event:?}\n")).collect();
        std::fs::write(self.path.join("events.txt"), lines).expect("room for a text");
    }

    /// Keeps the folder; adds to `failure` where it is.
    fn keep(&self, failure: &str) -> String {
        if std::env::var(LIE).is_ok() {
            return failure.into(); // as it should be
        }
        let mut kept = std::env::temp_dir().join("larder-power-loss");
        std::fs::create_dir_all(&kept).expect("a folder can be made");
        kept.push(self.inner.path().file_name().expect("it has a name"));
        let copied = std::process::Command::new("cp").arg("-r").arg(&self.path).arg(&kept).status();
        format!("{failure}\n  kept in {} ({copied:?})", kept.display())
    }
}
