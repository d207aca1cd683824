//! Appends, writes and syncs.

use super::super::durations::{CountedDurations, Durations};
use super::cursor::{self, Cursor, CursorError, Place};
use super::record::put_mark;
use super::segment::{self, HEADER_BYTES};
use super::{JournalError, Recovered};
use crate::base::crash_point;
use crate::base::ids::{Lsn, PartitionId};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// When the journal is synced to disk: `appendfsync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SyncMode {
    /// Before the reply.
    Always = 0,
    /// Every second.
    EverySecond = 1,
    /// When the kernel likes.
    Never = 2,
}

/// Space is reserved in steps of this many bytes.
const RESERVE_STEP: u64 = 8 << 20;
/// And ahead of the records by this many at least.
const RESERVE_AHEAD: u64 = 4 << 20;
/// The same where the disk has no room for that.
const SMALL_STEP: u64 = 256 << 10;
const SMALL_AHEAD: u64 = 2 << 20;
/// What makes data grow leaves this many of them to what does not: removing must work on a full disk.
const KEPT_FOR_REMOVALS: u64 = 1 << 20;
/// The longest record. Its length has four bytes.
pub const RECORD_MAX: u64 = u32::MAX as u64;
/// Under `everysec`, writers wait while the oldest write that is not synced is older than this.
const MAX_UNSYNCED: Duration = Duration::from_secs(2);
/// The part of a segment (one in so many) that is read in no time.
const NOT_WORTH_ROLLING: u64 = 64;
/// A buffer that has grown larger is given back after it was written.
const KEPT_BUFFER: usize = 4 << 20;

/// The segment that is written.
struct Current {
    file: Arc<File>,
    /// Position of its first record.
    start: u64,
    /// Position behind its last record.
    end: u64,
    /// Offset up to which disk space is reserved.
    reserved: u64,
    /// Segments before it that are not synced yet.
    unsynced: Vec<Arc<File>>,
    /// When the first write after the last sync began was made.
    unsynced_since: Option<Instant>,
    /// The same of what a sync under way covers.
    syncing_since: Option<Instant>,
    /// Kept to be used again.
    spare: Vec<u8>,
}

/// The node's journal.
pub struct Journal {
    folder: PathBuf,
    /// A segment is followed by the next one when it is longer than this.
    segment_bytes: u64,
    /// Records not yet written.
    buffer: Mutex<Vec<u8>>,
    current: Mutex<Current>,
    appended: AtomicU64,
    written: AtomicU64,
    synced: AtomicU64,
    /// Position up to which disk space is reserved; 0 once a sync has failed.
    reserved_to: AtomicU64,
    /// The same without marks that were written behind it, which are lost without harm and so are not synced for their own sake.
    on_disk: AtomicU64,
    /// What the last mark says is on disk.
    marked: AtomicU64,
    mode: AtomicU8,
    /// Disk space could not be reserved: transactions that make data grow are refused.
    full: AtomicBool,
    /// Why the last write failed; it is tried again, and until it succeeds nothing is accepted.
    unwritten: Mutex<Option<JournalError>>,
    stuck: AtomicBool,
    /// Why nothing can be written any more, once a sync has failed.
    failure: Mutex<Option<JournalError>>,
    failed: AtomicBool,
    wake: (Mutex<()>, Condvar),
    /// One sync at a time.
    syncing: Mutex<()>,
    after_sync: Mutex<Option<Box<dyn Fn(u64) + Send>>>,
    first_segment: AtomicU64,
    /// Held while segments are removed.
    dropping: Mutex<()>,
    /// Bytes before the end that are kept for replicas which come back.
    kept_bytes: AtomicU64,
    /// Positions that somebody reads from, by number.
    pins: Mutex<BTreeMap<u64, u64>>,
    /// Told the position up to which all is written, while it listens.
    after_write: OnceLock<Box<dyn Fn(u64) + Send + Sync>>,
    has_listeners: AtomicBool,
    sync_durations: Durations,
}

impl Journal {
    /// Opens the journal in `folder` behind what was recovered from it.
    pub fn open(
        folder: &Path,
        recovered: &Recovered,
        mode: SyncMode,
        segment_bytes: u64,
    ) -> Result<Journal, JournalError> {
        let end = recovered.end;
        let (file, start) = match recovered.last_segment {
            Some(start) => {
                let path = segment::path(folder, start);
                let file = File::options().read(true).write(true).open(&path);
                (file.map_err(|error| segment::failed("open", &path, &error))?, start)
            }
            None => (segment::create(folder, end)?, end),
        };
        let segments = segment::list(folder)?;
        let first = segments.first().copied().unwrap_or(start);
        // A process that was killed may have left several of them to the kernel.
        let mut unsynced = Vec::new();
        for path in
            segments.iter().filter(|other| **other != start).map(|other| segment::path(folder, *other))
        {
            let file = File::open(&path).map_err(|error| segment::failed("open", &path, &error))?;
            unsynced.push(Arc::new(file));
        }
        let journal = Journal {
            folder: folder.to_path_buf(),
            segment_bytes,
            buffer: Mutex::default(),
            current: Mutex::new(Current {
                file: Arc::new(file),
                start,
                end,
                reserved: 0,
                unsynced,
                unsynced_since: None,
                syncing_since: None,
                spare: Vec::new(),
            }),
            appended: end.into(),
            written: end.into(),
            synced: end.into(),
            reserved_to: 0.into(),
            on_disk: recovered.marked.into(),
            marked: recovered.marked.into(),
            mode: AtomicU8::new(mode as u8),
            full: AtomicBool::new(false),
            unwritten: Mutex::new(None),
            stuck: AtomicBool::new(false),
            failure: Mutex::new(None),
            failed: AtomicBool::new(false),
            wake: Default::default(),
            syncing: Mutex::new(()),
            after_sync: Mutex::new(None),
            first_segment: first.into(),
            dropping: Mutex::default(),
            kept_bytes: 0.into(),
            pins: Mutex::default(),
            after_write: OnceLock::new(),
            has_listeners: AtomicBool::new(false),
            sync_durations: Durations::default(),
        };
        journal.sync_now()?;
        journal.reserve_ahead();
        Ok(journal)
    }

    /// Appends a record whose payload `fill` writes. Returns the position behind it.
    #[inline]
    pub fn append(&self, fill: impl FnOnce(&mut Vec<u8>)) -> u64 {
        let mut bytes = self.buffer.lock();
        let len = append_record(&mut bytes, fill);
        let position = self.appended.load(Ordering::Relaxed) + len;
        self.appended.store(position, Ordering::Release);
        position
    }

    /// Appends a mark that says what is synced.
    fn append_mark(&self, buffer: &mut Vec<u8>) {
        let (position, on_disk) = (self.appended(), self.on_disk.load(Ordering::Acquire));
        let len = append_record(buffer, |out| put_mark(out, position, on_disk));
        self.appended.store(position + len, Ordering::Release);
        self.marked.store(on_disk, Ordering::Release);
    }

    /// Writes what is appended, at least up to `position`.
    #[inline]
    pub fn write(&self, position: u64) -> Result<(), JournalError> {
        if self.written.load(Ordering::Acquire) >= position {
            return Ok(());
        }
        self.write_buffer(position)
    }

    fn write_buffer(&self, position: u64) -> Result<(), JournalError> {
        let mut current = self.current.lock();
        if self.written.load(Ordering::Acquire) >= position {
            return Ok(()); // another turn wrote ours with its own
        }
        self.check()?;
        let spare = std::mem::take(&mut current.spare);
        let mut bytes = {
            let mut buffer = self.buffer.lock();
            if self.marked.load(Ordering::Acquire) < self.on_disk.load(Ordering::Acquire) {
                self.append_mark(&mut buffer);
            }
            std::mem::replace(&mut *buffer, spare)
        };
        if let Err(error) = self.write_bytes(&mut current, &bytes) {
            // Nothing is lost: what came in meanwhile goes behind what could not be written.
            let mut buffer = self.buffer.lock();
            bytes.extend_from_slice(&buffer);
            *buffer = bytes;
            drop(buffer);
            self.note_stuck(&error);
            return Err(error);
        }
        self.note_unstuck();
        let written = current.end;
        self.written.store(written, Ordering::Release);
        bytes.clear();
        if bytes.capacity() <= KEPT_BUFFER {
            current.spare = bytes;
        }
        let mode = self.mode();
        drop(current);
        if self.has_listeners.load(Ordering::Relaxed)
            && let Some(tell) = self.after_write.get()
        {
            tell(written);
        }
        if mode == SyncMode::Always {
            drop(self.wake.0.lock()); // the thread is before its check or in its wait, never in between
            self.wake.1.notify_one();
        }
        Ok(())
    }

    /// Nothing is accepted until what is there could be written.
    fn note_stuck(&self, error: &JournalError) {
        *self.unwritten.lock() = Some(error.clone());
        if !self.stuck.swap(true, Ordering::AcqRel) {
            tracing::error!("{error}; it is tried again, until then writes are refused");
        }
    }

    #[inline]
    fn note_unstuck(&self) {
        if self.stuck.load(Ordering::Acquire) {
            self.stuck.store(false, Ordering::Release);
            *self.unwritten.lock() = None;
            tracing::info!("the journal can be written again");
        }
    }

    /// Whether a writer under `everysec` should wait because what a power loss could take is older than [`MAX_UNSYNCED`]: a disk
    /// that cannot keep up slows writers down instead of widening the promise.
    #[inline]
    pub fn is_late(&self, position: u64) -> bool {
        if self.mode() != SyncMode::EverySecond || self.written.load(Ordering::Acquire) >= position {
            return false;
        }
        let current = self.current.lock();
        let since = current.syncing_since.or(current.unsynced_since);
        since.is_some_and(|since| since.elapsed() > MAX_UNSYNCED) && !self.failed.load(Ordering::Acquire)
    }

    fn write_bytes(&self, current: &mut Current, bytes: &[u8]) -> Result<(), JournalError> {
        if current.end - current.start >= self.segment_bytes {
            self.roll(current)?;
        }
        let offset = HEADER_BYTES + current.end - current.start;
        crash_point::pass("journal-before-write");
        let written = current.file.write_all_at(bytes, offset);
        crash_point::pass("journal-after-write");
        written
            .map_err(|error| segment::failed("write", &segment::path(&self.folder, current.start), &error))?;
        current.end += bytes.len() as u64;
        current.unsynced_since.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Goes on in a new segment.
    fn roll(&self, current: &mut Current) -> Result<(), JournalError> {
        crash_point::pass("segment-before-make");
        let file = segment::create(&self.folder, current.end)?;
        crash_point::pass("segment-after-make");
        let old = std::mem::replace(&mut current.file, Arc::new(file));
        // What was reserved behind its last record is given back.
        if let Err(error) = old.set_len(HEADER_BYTES + current.end - current.start) {
            tracing::warn!("space reserved behind a segment stays reserved: {error}");
        }
        // Held open, a segment that is removed would keep its space.
        if self.on_disk.load(Ordering::Acquire) < current.end {
            current.unsynced.push(old);
        }
        current.start = current.end;
        current.reserved = 0;
        if self.reserve(current, RESERVE_AHEAD, RESERVE_STEP, true).is_err() {
            // The next look ahead notes it. What was reserved behind the old segment must serve here: there are transactions
            // that were accepted because of it.
            self.reserved_to.store(0, Ordering::Release);
            let _ = self.reserve(current, KEPT_FOR_REMOVALS, SMALL_STEP, false);
        }
        Ok(())
    }

    /// Goes on in a new segment if there are many records written and either none of them is needed (all are before `needed`),
    /// so that the next start need not read them, or the disk is full, so that they can be dropped as soon as they are not.
    pub fn roll_if_done(&self, needed: u64) -> Result<(), JournalError> {
        let mut current = self.current.lock();
        let is_wanted = needed >= current.end || self.is_full();
        if !is_wanted || current.end - current.start < self.segment_bytes / NOT_WORTH_ROLLING {
            return Ok(());
        }
        self.roll(&mut current)
    }

    fn check(&self) -> Result<(), JournalError> {
        if !self.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(self.failure.lock().clone().unwrap_or_else(|| JournalError("the journal has failed".into())))
    }

    /// Syncs everything written to disk.
    pub fn sync_now(&self) -> Result<(), JournalError> {
        let _one = self.syncing.lock();
        self.check()?;
        let (files, end) = {
            let mut current = self.current.lock();
            let mut files = std::mem::take(&mut current.unsynced);
            files.push(Arc::clone(&current.file));
            current.syncing_since = current.unsynced_since.take();
            (files, current.end)
        };
        crash_point::pass("journal-before-sync");
        let begun = Instant::now();
        for file in files {
            if let Err(error) = file.sync_data() {
                let error = segment::failed("sync the journal in", &self.folder, &error);
                *self.failure.lock() = Some(error.clone());
                self.failed.store(true, Ordering::Release);
                self.reserved_to.store(0, Ordering::Release);
                tracing::error!("{error}; writes are refused until the server is restarted");
                return Err(error);
            }
        }
        self.sync_durations.note(begun.elapsed());
        crash_point::pass("journal-after-sync");
        self.on_disk.fetch_max(end, Ordering::AcqRel);
        self.synced.fetch_max(end, Ordering::AcqRel);
        self.current.lock().syncing_since = None;
        if let Some(tell) = &*self.after_sync.lock() {
            tell(end);
        }
        crash_point::pass("journal-before-mark");
        self.mark_synced(end);
        Ok(())
    }

    /// Writes a mark behind what was synced, unless records follow it, which take one with them. It may be lost.
    fn mark_synced(&self, end: u64) {
        let mut current = self.current.lock();
        let mut buffer = self.buffer.lock();
        if !buffer.is_empty() || current.end != end || self.marked.load(Ordering::Acquire) == end {
            return;
        }
        self.append_mark(&mut buffer);
        let bytes = std::mem::take(&mut *buffer);
        drop(buffer);
        if self.write_bytes(&mut current, &bytes).is_err() {
            // No transaction waits for it; the next write takes it along, in front of what came in meanwhile.
            let mut buffer = self.buffer.lock();
            let after = std::mem::replace(&mut *buffer, bytes);
            buffer.extend_from_slice(&after);
            return;
        }
        current.unsynced_since = None;
        // Nothing that matters stands behind `end`, so there is nothing to sync.
        self.written.store(current.end, Ordering::Release);
        self.synced.fetch_max(current.end, Ordering::AcqRel);
    }

    /// Syncs if `position` is not durable yet. Returns where the last record before it ends that a power loss leaves: a mark may
    /// stand behind, which it may take, and then records stand where the mark was.
    pub fn sync_to(&self, position: u64) -> Result<u64, JournalError> {
        if self.synced.load(Ordering::Acquire) < position {
            self.write(position)?;
            self.sync_now()?;
        }
        Ok(self.on_disk.load(Ordering::Acquire).min(position))
    }

    /// Whether a record of about `bytes` bytes may be appended: space is reserved for it and, if it makes data grow, for
    /// removals after it. If not, [`Journal::make_room`] may help.
    #[inline]
    pub fn admits(&self, bytes: u64, grows: bool) -> bool {
        let kept = if grows { KEPT_FOR_REMOVALS } else { 0 };
        self.appended.load(Ordering::Relaxed) + bytes + kept <= self.reserved_to.load(Ordering::Relaxed)
    }

    /// Reserves what [`Journal::admits`] asks for.
    pub fn make_room(&self, bytes: u64, grows: bool) -> Result<(), JournalError> {
        self.check()?;
        let kept = if grows { KEPT_FOR_REMOVALS } else { 0 };
        let current = &mut *self.current.lock();
        let reserved = self.reserve(current, bytes + kept, SMALL_STEP, grows);
        reserved.map_err(|error| segment::failed("reserve space for the journal in", &self.folder, &error))
    }

    /// Reserves `bytes` behind all that is appended, in steps of `step`.
    fn reserve(&self, current: &mut Current, bytes: u64, step: u64, grows: bool) -> std::io::Result<()> {
        let offset = HEADER_BYTES + current.end - current.start;
        let unwritten = self.appended().saturating_sub(current.end);
        let (from, to) = (current.reserved.max(offset), offset + unwritten + bytes);
        if from < to {
            let len = (to - from).next_multiple_of(step);
            if grows {
                segment::leave_room_for_trees(&current.file, len)?;
            }
            segment::reserve(&current.file, from, len)?;
            current.reserved = from + len;
        }
        if !self.failed.load(Ordering::Acquire) {
            self.reserved_to.store(current.start + current.reserved - HEADER_BYTES, Ordering::Release);
        }
        Ok(())
    }

    /// Reserves disk space ahead of the records; notes whether the disk is full.
    fn reserve_ahead(&self) {
        let mut current = self.current.lock();
        let reserved = self
            .reserve(&mut current, RESERVE_AHEAD, RESERVE_STEP, true)
            .or_else(|_| self.reserve(&mut current, SMALL_AHEAD, SMALL_STEP, true));
        drop(current);
        match reserved {
            Ok(()) => {
                if self.full.load(Ordering::Relaxed) && self.full.swap(false, Ordering::AcqRel) {
                    tracing::info!("there is room on the disk again: writes are accepted");
                }
            }
            Err(error) => {
                if !self.full.swap(true, Ordering::AcqRel) {
                    tracing::error!(
                        "no disk space for the journal ({error}): writes that grow the data are refused"
                    );
                }
            }
        }
    }

    /// Tries again to write what could not be written.
    fn write_stuck(&self) {
        if self.stuck.load(Ordering::Acquire) {
            // The error is kept for whoever wants to write; it was logged when it came up.
            let _ = self.write_buffer(self.appended());
        }
    }

    /// The journal's thread: syncs as the mode says and reserves space, until `stop`.
    pub fn run(&self, stop: &AtomicBool) {
        let mut last_sync = Instant::now();
        while !stop.load(Ordering::Acquire) {
            let always = self.mode() == SyncMode::Always;
            if !always || self.synced.load(Ordering::Acquire) == self.written.load(Ordering::Acquire) {
                let mut guard = self.wake.0.lock();
                if self.synced.load(Ordering::Acquire) == self.written.load(Ordering::Acquire) || !always {
                    self.wake.1.wait_for(&mut guard, Duration::from_millis(if always { 5 } else { 50 }));
                }
            }
            self.write_stuck();
            self.reserve_ahead();
            let due = match self.mode() {
                SyncMode::Always => true,
                SyncMode::EverySecond => last_sync.elapsed() >= Duration::from_secs(1),
                SyncMode::Never => false,
            };
            if due && self.failure().is_none() {
                // What nobody waits for (keys that expired) goes along. An error is kept for whoever wants to write.
                let _ = self.write(self.appended());
            }
            if due && self.synced.load(Ordering::Acquire) < self.written.load(Ordering::Acquire) {
                // A failure is remembered and logged where it happens; here is nobody to tell.
                let _ = self.sync_now();
                last_sync = Instant::now();
            }
        }
    }

    /// Ends [`Journal::run`]'s wait.
    pub fn wake(&self) {
        self.wake.1.notify_all();
    }

    /// Removes segments whose records are all before `position`, unless somebody reads them or they are kept for replicas. On a
    /// full disk nobody is waited for.
    pub fn drop_before(&self, position: u64) -> Result<(), JournalError> {
        let _alone = self.dropping.lock();
        let kept = self.appended().saturating_sub(self.kept_bytes.load(Ordering::Relaxed));
        let read = self.pins.lock().values().min().copied().unwrap_or(u64::MAX);
        let position = if self.is_full() { position } else { position.min(kept).min(read) };
        let positions = segment::list(&self.folder)?;
        let needless = positions.windows(2).filter(|pair| pair[1] <= position);
        if needless.clone().next().is_none() {
            return Ok(());
        }
        // A power loss may undo the removal: marks at the end of a segment must then be there, or what stands behind it seems to
        // come after a hole.
        self.sync_now()?;
        for pair in needless {
            let path = segment::path(&self.folder, pair[0]);
            crash_point::pass("segment-before-drop");
            std::fs::remove_file(&path).map_err(|error| segment::failed("remove", &path, &error))?;
            crash_point::pass("segment-after-drop");
            self.first_segment.store(pair[1], Ordering::Release);
        }
        Ok(())
    }

    /// Keeps so many bytes before the end, about, for replicas which come back.
    pub fn keep(&self, bytes: u64) {
        self.kept_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Reader number `reader` needs what is behind `position`; without one it needs nothing any more.
    pub fn pin(&self, reader: u64, position: Option<u64>) {
        let mut pins = self.pins.lock();
        match position {
            Some(position) => pins.insert(reader, position),
            None => pins.remove(&reader),
        };
        self.has_listeners.store(!pins.is_empty(), Ordering::Relaxed);
    }

    /// `tell` is called with the position up to which all is written, after each write, while there are readers. The first one
    /// stays.
    pub fn after_write(&self, tell: Box<dyn Fn(u64) + Send + Sync>) {
        let _ = self.after_write.set(tell);
    }

    /// Position up to which all is written.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Position of the first record that is kept.
    pub fn oldest(&self) -> u64 {
        self.first_segment.load(Ordering::Acquire)
    }

    /// A reader that stands at `position`.
    pub fn cursor(&self, position: u64) -> Cursor {
        Cursor::new(&self.folder, position)
    }

    /// Where the transaction behind each of `wanted` stands, if the journal has it. What stands before `floor(partition)` is of another history.
    pub fn locate(
        &self,
        wanted: &[(PartitionId, Lsn)],
        floor: impl Fn(PartitionId) -> u64,
    ) -> Result<Vec<Option<Place>>, CursorError> {
        let mut left: BTreeMap<PartitionId, Lsn> =
            wanted.iter().map(|(id, lsn)| (*id, Lsn(lsn.0 + 1))).collect();
        debug_assert_eq!(left.len(), wanted.len(), "each partition once");
        let mut found = BTreeMap::new();
        let mut end = self.written();
        for start in segment::list(&self.folder).map_err(CursorError::Failed)?.into_iter().rev() {
            if left.is_empty() {
                break;
            }
            match cursor::find(&self.folder, start, end, &floor, &mut left, &mut found) {
                Err(CursorError::Gone) => break, // dropped since it was listed, and all before it
                done => done?,
            }
            end = start;
        }
        Ok(wanted.iter().map(|(id, _)| found.get(id).copied()).collect())
    }

    /// `tell` is called with the durable position after each sync.
    pub fn after_sync(&self, tell: Box<dyn Fn(u64) + Send>) {
        *self.after_sync.lock() = Some(tell);
    }

    /// When the journal is synced.
    #[inline]
    pub fn mode(&self) -> SyncMode {
        match self.mode.load(Ordering::Relaxed) {
            0 => SyncMode::Always,
            1 => SyncMode::EverySecond,
            _ => SyncMode::Never,
        }
    }

    /// Changes when the journal is synced.
    pub fn set_mode(&self, mode: SyncMode) {
        self.mode.store(mode as u8, Ordering::Relaxed);
        self.wake();
    }

    /// Position behind the last record appended.
    pub fn appended(&self) -> u64 {
        self.appended.load(Ordering::Acquire)
    }

    /// Position up to which a power loss loses nothing.
    pub fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    /// How long syncs took.
    pub fn sync_durations(&self) -> CountedDurations {
        self.sync_durations.counted()
    }

    /// Bytes on disk that hold records.
    pub fn disk_bytes(&self) -> u64 {
        self.written.load(Ordering::Acquire) - self.first_segment.load(Ordering::Acquire)
    }

    /// Whether transactions that make data grow must be refused.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Why nothing can be written for the moment.
    #[inline]
    pub fn stuck(&self) -> Option<JournalError> {
        self.stuck.load(Ordering::Relaxed).then(|| self.unwritten.lock().clone()).flatten()
    }

    /// Why nothing can be written until a restart.
    #[inline]
    pub fn failure(&self) -> Option<JournalError> {
        self.failed.load(Ordering::Acquire).then(|| self.failure.lock().clone()).flatten()
    }
}

/// Appends a record whose payload `fill` writes. Returns its length.
#[inline]
fn append_record(bytes: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) -> u64 {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 8]);
    fill(bytes);
    let len = u32::try_from(bytes.len() - start - 8).expect("longer transactions were refused before this");
    bytes[start..start + 4].copy_from_slice(&len.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[start..start + 4]), &bytes[start + 8..]);
    bytes[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    u64::from(len) + 8
}

#[cfg(test)]
mod tests {
    use super::super::record::{MARK_BYTES, put_number};
    use super::*;
    use crate::base::ids::Epoch;
    use crate::store::journal::{SectionHead, encode_section, read_all, visit_sections};
    use crate::store::record::Operation;

    fn open(folder: &Path) -> Journal {
        Journal::open(folder, &Recovered::default(), SyncMode::Never, 64 << 20).expect("opens")
    }

    fn append(journal: &Journal, lsn: u64) -> u64 {
        let operation = Operation::Database { number: 1, id: lsn as u32, before: 0 };
        journal.append(|out| {
            put_number(out, 1);
            let head = SectionHead {
                partition: PartitionId(0),
                epoch: Epoch(1),
                lsn: Lsn(lsn),
                previous: 0,
                time_ms: 0,
            };
            encode_section(out, &head, std::iter::once(&operation));
        })
    }

    fn lsns(folder: &Path) -> Result<(Vec<u64>, Recovered), JournalError> {
        let mut found = Vec::new();
        let recovered = read_all(folder, 0, |record| {
            found.push(record.decode().expect("decodes")[0].head.lsn.0);
            Ok(())
        })?;
        Ok((found, recovered))
    }

    #[test]
    fn what_was_written_is_read_back_and_a_torn_tail_is_cut() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let journal = open(folder.path());
        let positions: Vec<u64> = (1..=3).map(|lsn| append(&journal, lsn)).collect();
        journal.write(positions[2]).expect("writes");
        drop(journal);
        let (found, recovered) = lsns(folder.path()).expect("reads");
        assert_eq!((found, recovered.end, recovered.cut), (vec![1, 2, 3], positions[2], 0));

        let file = segment::path(folder.path(), 0);
        let whole = std::fs::read(&file).expect("reads");
        for cut in 1..(positions[2] - positions[1]) as usize {
            std::fs::write(&file, &whole[..whole.len() - cut]).expect("writes");
            let (found, recovered) = lsns(folder.path()).expect("a torn tail is no damage");
            assert_eq!((found, recovered.end), (vec![1, 2], positions[1]));
        }
    }

    /// A folder with a journal of three records, synced or not, and the bytes of its segment.
    fn three_records(synced: bool) -> (tempfile::TempDir, PathBuf, Vec<u8>, Vec<u64>) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let journal = open(folder.path());
        let positions: Vec<u64> = (1..=3).map(|lsn| append(&journal, lsn)).collect();
        journal.write(positions[2]).expect("writes");
        if synced {
            journal.sync_now().expect("syncs");
        }
        let file = segment::path(folder.path(), 0);
        let whole = std::fs::read(&file).expect("reads");
        (folder, file, whole, positions)
    }

    #[test]
    fn damage_of_what_was_synced_stops_the_start() {
        let (folder, file, whole, positions) = three_records(true);
        for at in 0..(HEADER_BYTES + positions[2]) as usize {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            std::fs::write(&file, &bytes).expect("writes");
            let error = lsns(folder.path()).expect_err("damage is seen");
            assert!(error.0.contains("damaged"), "byte {at}: {error}");
            assert_eq!(std::fs::read(&file).expect("reads"), bytes, "nothing was changed");
        }
        std::fs::write(&file, &whole[..whole.len() - 1]).expect("writes");
        assert_eq!(lsns(folder.path()).expect("a mark may be lost").0, [1, 2, 3]);
    }

    #[test]
    fn a_hole_in_what_was_not_synced_is_cut_with_what_stands_behind_it() {
        let (folder, file, whole, positions) = three_records(false);
        let mut bytes = whole.clone();
        bytes[HEADER_BYTES as usize + positions[0] as usize + 3..][..5].fill(0);
        std::fs::write(&file, &bytes).expect("writes");
        let (found, recovered) = lsns(folder.path()).expect("no damage");
        assert_eq!((found, recovered.end), (vec![1], positions[0]));
        assert_eq!(recovered.cut, positions[2] - positions[0]);
        assert_eq!(lsns(folder.path()).expect("reads").1.cut, 0, "once");
    }

    #[test]
    fn a_mark_that_cannot_be_written_is_written_with_the_next_record() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let journal = open(folder.path());
        journal.write(append(&journal, 1)).expect("writes");
        let read_only = File::open(segment::path(folder.path(), 0)).expect("opens");
        let file = std::mem::replace(&mut journal.current.lock().file, Arc::new(read_only));
        journal.sync_now().expect("what matters is on disk");
        assert_eq!(journal.buffer.lock().len(), 8 + MARK_BYTES);
        let position = append(&journal, 2);
        journal.current.lock().file = file;
        journal.write(position).expect("writes");
        drop(journal);
        let (found, recovered) = lsns(folder.path()).expect("reads");
        assert_eq!((found, recovered.end, recovered.cut), (vec![1, 2], position, 0));
    }

    #[test]
    fn segments_behind_a_hole_go_unless_it_was_synced() {
        for synced in [false, true] {
            let (folder, file, whole, positions) = three_records(false);
            let next = segment::path(folder.path(), positions[2]);
            drop(segment::create(folder.path(), positions[2]).expect("creates"));
            let mark = |out: &mut Vec<u8>| put_mark(out, positions[2], if synced { positions[2] } else { 0 });
            let mut bytes = segment::header(positions[2]).to_vec();
            append_record(&mut bytes, mark);
            std::fs::write(&next, &bytes).expect("writes");
            let short = &whole[..whole.len() - 1];
            std::fs::write(&file, short).expect("writes");
            let read = lsns(folder.path());
            assert_eq!(next.exists(), synced);
            match read {
                Ok((found, recovered)) => {
                    assert!(!synced);
                    assert_eq!((found, recovered.end), (vec![1, 2], positions[1]));
                }
                Err(error) => assert!(synced && error.0.contains("damaged"), "{error}"),
            }
        }
    }

    #[test]
    fn a_cursor_reads_what_is_written_across_segments_and_knows_when_it_is_gone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let journal =
            Journal::open(folder.path(), &Recovered::default(), SyncMode::Never, 64).expect("opens");
        let mut cursor = journal.cursor(0);
        let read = |cursor: &mut Cursor, limit: u64| {
            let mut found = Vec::new();
            let take = &mut |_, payload: &[u8]| {
                visit_sections(payload, |head, _| found.push(head.lsn.0)).expect("a record");
            };
            while cursor.read(limit, 100, take).expect("reads") {}
            found
        };
        for lsn in 1..=30 {
            journal.write(append(&journal, lsn)).expect("writes");
            if lsn % 10 == 0 {
                journal.sync_now().expect("syncs"); // and a mark comes in between
            }
            assert_eq!(read(&mut cursor, journal.written()), [lsn]);
        }
        assert!(segment::list(folder.path()).expect("lists").len() > 5);
        assert_eq!(read(&mut journal.cursor(0), journal.written()), (1..=30).collect::<Vec<_>>());
        let id = PartitionId(0);
        let locate = |lsn, floor| journal.locate(&[(id, Lsn(lsn))], |_| floor).expect("looks")[0];
        assert_eq!(locate(0, 0), Some(Place { position: 0, previous: 0 }));
        assert_eq!((locate(30, 0), locate(31, 0)), (None, None));
        assert_eq!(journal.locate(&[(PartitionId(1), Lsn(4)), (id, Lsn(3))], |_| 0).expect("looks")[0], None);
        for lsn in 0..30 {
            let place = locate(lsn, 0).expect("it is there");
            assert_eq!(read(&mut journal.cursor(place.position), journal.written())[0], lsn + 1);
        }
        let floor = locate(29, 0).expect("it is there").position;
        assert_eq!((locate(17, floor), locate(29, floor).is_some()), (None, true));

        journal.pin(1, Some(floor));
        journal.drop_before(u64::MAX).expect("drops");
        assert!(matches!(journal.cursor(0).read(floor, 100, &mut |_, _| ()), Err(CursorError::Gone)));
        assert_eq!(journal.locate(&[(id, Lsn(0))], |_| 0).expect("looks"), [None]);
        assert!(read(&mut journal.cursor(floor), journal.written()).ends_with(&[30]));
    }

    #[test]
    fn a_segment_whose_making_was_interrupted_is_made_again() {
        for bytes in [&[][..], &[0; 20], &segment::header(0)[..7]] {
            let folder = tempfile::tempdir().expect("a temporary folder");
            std::fs::write(segment::path(folder.path(), 0), bytes).expect("writes");
            let (found, recovered) = lsns(folder.path()).expect("no damage");
            assert_eq!((found.len(), recovered.end, recovered.last_segment), (0, 0, None));
        }
    }

    #[test]
    fn the_journal_ends_before_a_segment_whose_making_was_interrupted() {
        for bytes in [&[][..], &[0; 20], &segment::header(0)[..7]] {
            let (folder, _, _, positions) = three_records(true);
            let end =
                std::fs::metadata(segment::path(folder.path(), 0)).expect("is there").len() - HEADER_BYTES;
            std::fs::write(segment::path(folder.path(), end), bytes).expect("writes");
            // All of it is in the trees: still this is where the next record goes.
            for from in [0, positions[2], end] {
                let recovered = read_all(folder.path(), from, |_| Ok(())).expect("no damage");
                assert_eq!((recovered.end, recovered.last_segment), (end, Some(0)));
                std::fs::write(segment::path(folder.path(), end), bytes).expect("writes");
            }
        }
    }
}
