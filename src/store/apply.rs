//! What a replica does with its primary's records, and what a primary says of its own.

use super::journal::{self, CursorError, JournalError, Place, Section, SectionHead};
use super::partition::Partition;
use super::{Interrupt, PartitionSet, Refusal, Store, journal::Cursor};
use crate::base::concern::WriteConcern;
use crate::base::ids::{Epoch, Lsn, PartitionId, Point};
use parking_lot::MutexGuard;
use std::sync::atomic::Ordering;

/// Rows fetched one by one without the locks, before a record waits for the disk under them.
const FETCHES_MAX: u32 = 8;
/// Bytes of a record without operations, at most.
const RECORD_BYTES: u64 = 64;

/// Why a record was not applied. Nothing was changed.
#[derive(Debug)]
pub enum ApplyError {
    /// It does not continue the history of this partition, which stands at this point.
    OtherHistory(PartitionId, Point),
    /// Its bytes are no record, or of a partition that does not exist.
    Malformed,
    /// The disk has no room for it, or does not take it for the moment.
    Refused(Refusal),
    /// The storage has failed, in words.
    Storage(String),
}

impl Store {
    /// Where a partition's history stands.
    pub fn point(&self, id: PartitionId) -> Point {
        self.partitions[usize::from(id.0)].lock().point()
    }

    /// Applies a record of the primary's journal and appends it to this node's. What is known of it already is left out. Returns
    /// the position up to which the journal must be flushed before anybody is told; 0 if all was known.
    pub fn apply(&self, payload: &[u8]) -> Result<u64, ApplyError> {
        let sections = journal::decode_payload(payload).ok_or(ApplyError::Malformed)?;
        let ids = sections.iter().map(|section| section.head.partition);
        if ids.clone().any(|id| id.0 >= self.partition_count()) {
            return Err(ApplyError::Malformed);
        }
        let set = PartitionSet::of(ids.collect());
        let mut attempts = 0;
        loop {
            let interrupt = match self.try_apply(&set, &sections, payload, attempts >= FETCHES_MAX)? {
                Ok(position) => return Ok(position),
                Err(interrupt) => interrupt,
            };
            match interrupt {
                Interrupt::Fetch(request) => self.fetch(&request).map_err(storage)?,
                Interrupt::Room(room) => self.make_room(room).map_err(ApplyError::Refused)?,
                other => return Err(storage(other)),
            }
            attempts += 1;
        }
    }

    fn try_apply(
        &self,
        set: &PartitionSet,
        sections: &[Section],
        payload: &[u8],
        waits_for_disk: bool,
    ) -> Result<Result<u64, Interrupt>, ApplyError> {
        let mut guards = self.lock(set);
        let fetches = self.fetches();
        guards.iter_mut().for_each(|guard| guard.fetches = fetches && !waits_for_disk);
        let outcome = self.apply_locked(&mut guards, sections, payload);
        guards.iter_mut().for_each(|guard| guard.fetches = fetches);
        outcome
    }

    fn apply_locked(
        &self,
        guards: &mut [MutexGuard<'_, Partition>],
        sections: &[Section],
        payload: &[u8],
    ) -> Result<Result<u64, Interrupt>, ApplyError> {
        let mut new = Vec::with_capacity(sections.len());
        for section in sections {
            let guard = guard_of(guards, section.head.partition);
            let (have, head) = (guard.point(), section.head);
            if head.lsn <= have.lsn {
                continue;
            }
            if head.lsn.0 != have.lsn.0 + 1 || head.previous != have.chain || head.epoch < have.epoch {
                return Err(ApplyError::OtherHistory(guard.id, have));
            }
            if guard.is_being_replaced {
                let reason = format!("a snapshot takes the place of partition {}", guard.id);
                return Err(ApplyError::Refused(Refusal::Stuck(reason)));
            }
            new.push(section);
        }
        if new.is_empty() {
            return Ok(Ok(0));
        }
        if let Err(interrupt) = self.admit_record(guards, &new, payload.len()) {
            return Ok(Err(interrupt));
        }
        let since = (self.journal_end(), self.clock_s.load(Ordering::Relaxed));
        let is_whole = new.len() == sections.len();
        let position = self.append(|out| {
            if is_whole {
                out.extend_from_slice(payload);
            } else {
                journal::put_sections(out, new.iter().copied());
            }
        });
        for section in new {
            let guard = guard_of(guards, section.head.partition);
            let applied = guard.apply_section(section, since, self.access_clock().fresh());
            applied.expect("what it replaces was read before");
            self.note_bytes(guard);
        }
        Ok(Ok(position))
    }

    /// Whether all that must be read for these sections is in memory or can be read at once, and the disk has room for them.
    fn admit_record(
        &self,
        guards: &mut [MutexGuard<'_, Partition>],
        sections: &[&Section],
        bytes: usize,
    ) -> Result<(), Interrupt> {
        for section in sections {
            let guard = guard_of(guards, section.head.partition);
            section.operations.iter().try_for_each(|operation| guard.prior_of(operation).map(|_| ()))?;
        }
        // Whether it makes the data grow was decided by the primary; what it removes comes in the same stream.
        self.admit(bytes as u64 + 16, true).or_else(|_| self.admit(bytes as u64 + 16, false))
    }

    /// Begins an epoch of a partition for which this node becomes the primary: with a record that changes nothing, so that the
    /// history itself says where it begins, a crash forgets it no sooner than what follows it, and no record of an older epoch is
    /// applied any more. Returns the position up to which the journal must be flushed before anything is acknowledged. All that is
    /// there by then must be on as many nodes as `inherited` asks for before anybody is told of it.
    ///
    /// # Errors
    /// The partition has seen this epoch or a newer one; or the disk has no room.
    pub fn begin_epoch(
        &self,
        id: PartitionId,
        epoch: Epoch,
        inherited: WriteConcern,
        time_ms: i64,
    ) -> Result<u64, ApplyError> {
        loop {
            match self.admit(RECORD_BYTES, false) {
                Ok(()) => {}
                Err(Interrupt::Room(room)) => self.make_room(room).map_err(ApplyError::Refused)?,
                Err(other) => return Err(storage(other)),
            }
            let mut guard = self.lock_settled(id);
            if self.admit(RECORD_BYTES, false).is_ok() {
                return self.begin_locked(&mut guard, epoch, inherited, time_ms);
            }
        }
    }

    fn begin_locked(
        &self,
        guard: &mut Partition,
        epoch: Epoch,
        inherited: WriteConcern,
        time_ms: i64,
    ) -> Result<u64, ApplyError> {
        let before = guard.point();
        if epoch <= before.epoch {
            return Err(ApplyError::OtherHistory(guard.id, before));
        }
        let head = SectionHead {
            partition: guard.id,
            epoch,
            lsn: Lsn(before.lsn.0 + 1),
            previous: before.chain,
            time_ms,
        };
        let start = self.journal_end();
        let position = self.append(|out| {
            journal::put_number(out, 1);
            guard.chain = journal::encode_section(out, &head, [].iter());
        });
        guard.dirty_since.get_or_insert((start, self.clock_s.load(Ordering::Relaxed)));
        (guard.lsn, guard.epoch) = (head.lsn, epoch);
        // Whether what was not confirmed yet ever will be was for another primary's history to say.
        if !guard.is_primary {
            guard.guarded = [0; 3];
        }
        if let Some(index) = inherited.held_index() {
            guard.guarded[index] = position;
        }
        Ok(position)
    }

    /// Position up to which all is written to the journal, so that replicas may have it.
    pub fn written_position(&self) -> u64 {
        self.journal.as_ref().map_or(0, journal::Journal::written)
    }

    /// Writes to the journal all that is committed, so that the end of the process loses none of it.
    pub fn write_out(&self) -> Result<(), Interrupt> {
        let Some(journal) = &self.journal else { return Ok(()) };
        journal.write(journal.appended()).map_err(|error| Interrupt::Storage(error.0))
    }

    /// Where the journal ends: all that is committed is before it.
    pub fn end_position(&self) -> u64 {
        self.journal_end()
    }

    /// Where the journal begins.
    pub fn oldest_journal_position(&self) -> u64 {
        self.journal.as_ref().map_or(0, journal::Journal::oldest)
    }

    /// What the journal has of the partition before this position is of another history: a snapshot replaced it.
    pub fn history_start(&self, id: PartitionId) -> u64 {
        self.partitions[usize::from(id.0)].lock().history_start
    }

    /// How often since the start a snapshot took the place of the partition's history: while it is the same, so is the history, but
    /// for what was added.
    pub fn replacements(&self, id: PartitionId) -> u64 {
        self.partitions[usize::from(id.0)].lock().replacements
    }

    /// The physical ids of the databases, by number: what the keys of a partition's rows begin with.
    pub fn database_ids(&self, id: PartitionId) -> Vec<u32> {
        self.partitions[usize::from(id.0)].lock().databases.iter().map(|database| database.id).collect()
    }

    /// Where the transaction behind each of these stands in the journal, each of another partition.
    pub fn locate(&self, wanted: &[(PartitionId, Lsn)]) -> Result<Vec<Option<Place>>, CursorError> {
        let Some(journal) = &self.journal else { return Ok(vec![None; wanted.len()]) };
        journal.locate(wanted, |id| self.partitions[usize::from(id.0)].lock().history_start)
    }

    /// A reader of the journal that stands at `position`.
    pub fn cursor(&self, position: u64) -> Result<Cursor, CursorError> {
        let none = || CursorError::Failed(JournalError("this store has no journal".into()));
        self.journal.as_ref().map(|journal| journal.cursor(position)).ok_or_else(none)
    }

    /// See [`journal::Journal::pin`].
    pub fn pin_journal(&self, reader: u64, position: Option<u64>) {
        if let Some(journal) = &self.journal {
            journal.pin(reader, position);
        }
    }

    /// See [`journal::Journal::keep`].
    pub fn keep_journal(&self, bytes: u64) {
        if let Some(journal) = &self.journal {
            journal.keep(bytes);
        }
    }

    /// See [`journal::Journal::after_write`].
    pub fn after_journal_write(&self, tell: Box<dyn Fn(u64) + Send + Sync>) {
        if let Some(journal) = &self.journal {
            journal.after_write(tell);
        }
    }
}

fn storage(interrupt: Interrupt) -> ApplyError {
    ApplyError::Storage(match interrupt {
        Interrupt::Storage(reason) => reason,
        other => format!("{other:?}"),
    })
}

fn guard_of<'a>(guards: &'a mut [MutexGuard<'_, Partition>], id: PartitionId) -> &'a mut Partition {
    let index = guards.binary_search_by_key(&id, |guard| guard.id);
    &mut guards[index.expect("every partition of a record was locked")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Key, Kind, NewValue, Options};
    use std::path::Path;

    const NOW: i64 = 1_700_000_000_000;

    fn open(folder: &Path) -> Store {
        Store::open(folder, 4, 16, Options::default()).expect("opens")
    }

    fn set(store: &Store, names: &[&[u8]], value: &[u8]) {
        let keys: Vec<Key> = names.iter().map(|name| Key::new(0, name)).collect();
        let set = PartitionSet::of(keys.iter().map(|key| store.partition_of(key.slot)).collect());
        let mut transaction = store.transaction(&set, NOW);
        for key in &keys {
            let meta =
                NewValue { kind: Kind::String, encoding: 0, expire_at: None, due_at: None, items: None };
            transaction.put(key, meta, &[value]).expect("in memory");
        }
        store.flush(transaction.commit()).expect("writes");
    }

    fn get(store: &Store, name: &[u8]) -> Option<Vec<u8>> {
        let key = Key::new(0, name);
        let mut view = store.view(&PartitionSet::One(store.partition_of(key.slot)), NOW);
        view.get(&key).expect("reads").map(|entry| entry.payload().to_vec())
    }

    fn records(store: &Store, from: u64) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let mut cursor = store.cursor(from).expect("it has a journal");
        while cursor
            .read(store.written_position(), 1 << 16, &mut |_, payload| found.push(payload.to_vec()))
            .expect("reads")
        {}
        found
    }

    fn points(store: &Store) -> Vec<Point> {
        (0..store.partition_count()).map(|id| store.point(PartitionId(id))).collect()
    }

    #[test]
    fn a_copy_that_applies_every_record_has_the_same_history_also_after_a_restart() {
        let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
        let (primary, replica) = (open(folders[0].path()), open(folders[1].path()));
        for number in 0..50_u8 {
            set(&primary, &[&[b'a', number % 20], &[b'b', number % 7]], &[number; 100]);
        }
        let all = records(&primary, 0);
        for payload in &all {
            replica.flush(replica.apply(payload).expect("continues")).expect("writes");
        }
        assert_eq!(points(&replica), points(&primary));
        assert!(all.iter().all(|payload| replica.apply(payload).expect("is known") == 0));
        drop(replica);
        let replica = open(folders[1].path());
        assert_eq!(points(&replica), points(&primary));
        assert_eq!(
            (get(&replica, b"a\x05"), replica.data_bytes()),
            (get(&primary, b"a\x05"), primary.data_bytes())
        );
        replica.checkpoint_now().expect("writes");
        drop(replica);
        assert_eq!(points(&open(folders[1].path())), points(&primary));
    }

    #[test]
    fn a_replica_with_fewer_databases_loses_none() {
        let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
        let primary = open(folders[0].path());
        let key = Key::new(12, b"key");
        let mut transaction = primary.transaction(&PartitionSet::All, NOW);
        let meta = NewValue { kind: Kind::String, encoding: 0, expire_at: None, due_at: None, items: None };
        transaction.put(&key, meta, &[b"x"]).expect("in memory");
        transaction.flush_database(14);
        primary.flush(transaction.commit()).expect("writes");
        let replica = Store::open(folders[1].path(), 4, 2, Options::default()).expect("opens");
        for payload in records(&primary, 0) {
            replica.flush(replica.apply(&payload).expect("continues")).expect("writes");
        }
        assert_eq!(replica.counters(12), primary.counters(12));
        drop(replica);
        let replica = Store::open(folders[1].path(), 4, 2, Options::default()).expect("opens");
        assert_eq!((points(&replica), replica.counters(12).keys), (points(&primary), 1));
    }

    #[test]
    fn an_epoch_that_began_is_part_of_the_history_and_fences_the_one_before() {
        let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
        let (old, new) = (open(folders[0].path()), open(folders[1].path()));
        set(&old, &[b"key"], b"1");
        let id = old.partition_of(Key::new(0, b"key").slot);
        records(&old, 0).iter().for_each(|payload| _ = new.apply(payload).expect("continues"));
        new.flush(new.begin_epoch(id, Epoch(2), WriteConcern::Local, NOW).expect("is newer"))
            .expect("writes");
        assert!(matches!(
            new.begin_epoch(id, Epoch(2), WriteConcern::Local, NOW),
            Err(ApplyError::OtherHistory(..))
        ));
        let began = new.point(id);
        assert_eq!((began.epoch, began.lsn), (Epoch(2), Lsn(2)));
        set(&old, &[b"key"], b"late");
        let late = records(&old, 0).pop().expect("it was written");
        assert!(matches!(new.apply(&late), Ok(0) | Err(ApplyError::OtherHistory(..))));
        assert_eq!((new.point(id), get(&new, b"key")), (began, Some(b"1".to_vec())));
        set(&new, &[b"key"], b"2");
        let point = new.point(id);
        assert_eq!(point.epoch, Epoch(2));
        drop(new);
        assert_eq!(open(folders[1].path()).point(id), point);
    }

    #[test]
    fn another_history_is_refused_and_leaves_nothing_behind() {
        let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
        let (primary, replica) = (open(folders[0].path()), open(folders[1].path()));
        set(&primary, &[b"key"], b"1");
        set(&primary, &[b"key"], b"2");
        let all = records(&primary, 0);
        let before = points(&replica);
        assert!(matches!(replica.apply(&all[1]), Err(ApplyError::OtherHistory(..))), "a gap");
        assert_eq!(points(&replica), before);
        set(&replica, &[b"key"], b"x");
        assert!(
            matches!(replica.apply(&all[1]), Err(ApplyError::OtherHistory(..))),
            "the same LSN of another history"
        );
        assert!(matches!(replica.apply(&all[1][..7]), Err(ApplyError::Malformed)));
        assert_eq!(get(&replica, b"key"), Some(b"x".to_vec()));
    }
}
