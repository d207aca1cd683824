//! `Partition`: the state of one range of slots, behind its lock.
//!
//! Invariants:
//! - everything changes through [`Partition::apply`]: local commit, recovery and replicas alike;
//! - counters of keys, bytes and deadlines are exact for the newest version;
//! - staged operations belong to the transaction that holds the lock; there are none when it is released.

use super::answers::Answers;
use super::deadlines::Deadlines;
use super::journal::Section;
use super::record::Operation;
use super::recovery::FIRST_NEW_DATABASE_ID;
use super::row::{self, Entry, Kind};
use super::staged::{Staged, StagedList};
use super::table::{Cell, Generation, RowTable};
use super::tree::{Tree, TreeName};
use super::{FetchRequest, Interrupt, watch::Watches};
use crate::base::blob::Blob;
use crate::base::clock;
use crate::base::crc16;
use crate::base::ids::{Epoch, Lsn, PartitionId, Point, Uid};

/// A logical database within one partition.
pub struct Database {
    /// What its key rows are prefixed with.
    pub id: u32,
    /// Its key rows in memory.
    pub rows: RowTable,
    /// Keys, expired ones that are not yet removed included.
    pub counters: Counters,
}

/// Exact counts over the newest versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Keys.
    pub keys: u64,
    /// Keys with a deadline.
    pub expires: u64,
    /// Bytes of key rows and items.
    pub bytes: u64,
}

impl Database {
    /// An empty database.
    pub fn new(id: u32) -> Database {
        Database { id, rows: RowTable::new(row::KEY_PREFIX), counters: Counters::default() }
    }
}

/// What a key row replaces.
#[derive(Clone, Copy, Debug)]
pub struct Prior {
    /// Bytes of the row and its items.
    pub bytes: u64,
    /// Its deadline.
    pub expire_at: Option<i64>,
    /// The first of its deadline and those of its parts.
    pub next_deadline: Option<i64>,
}

impl Prior {
    /// Of a key row; `None` for a deletion.
    pub fn of(row: &Blob) -> Option<Prior> {
        let (meta, _) = row::decode_value(row.value())?;
        let bytes = row::stored_bytes(row, &meta);
        Some(Prior { bytes, expire_at: meta.expire_at, next_deadline: meta.next_deadline() })
    }
}

/// The state of one range of slots.
pub struct Partition {
    /// Which one.
    pub id: PartitionId,
    /// Whether this node takes changes of it, and not those of another node.
    pub is_primary: bool,
    /// Up to which positions of this node's journal its changes must be on enough nodes before anybody is told of them, by
    /// [`WriteConcern::held_index`](crate::base::concern::WriteConcern::held_index).
    pub guarded: [u64; 3],
    /// Of its current history.
    pub epoch: Epoch,
    /// Of its last committed transaction.
    pub lsn: Lsn,
    /// The chain of its last committed transaction.
    pub chain: u32,
    /// What this node's journal has of the partition before this position is in the tree, or of another history.
    pub journal_start: u64,
    /// What this node's journal has of the partition before this position is of another history: a snapshot replaced it.
    pub history_start: u64,
    /// How often since the start another history took the place of its own.
    pub replacements: u64,
    /// The last one that a checkpoint took which was made to save changes, and not to be rid of what was flushed.
    pub saved_lsn: Lsn,
    /// Databases by number.
    pub databases: Vec<Database>,
    /// Stored bytes of all databases.
    pub bytes: u64,
    /// The physical id the next emptied database gets.
    pub next_database_id: u32,
    /// Rows of collections in memory.
    pub items: RowTable,
    /// Deadlines of keys.
    pub deadlines: Deadlines,
    /// Who wants to know of changes.
    pub watches: Watches,
    /// Requests of other nodes that were carried out.
    pub answers: Answers,
    /// Operations of the transaction that holds the lock.
    pub staged: StagedList,
    /// What database numbers mean to this transaction, if it emptied or swapped some: index of the committed database, if
    /// there is one, and physical id.
    pub staged_databases: Vec<(Option<usize>, u32)>,
    /// Collections that this transaction made so far.
    pub uids_made: u32,
    /// What is applied now changes how a value is stored, and not the value: nobody who watches it is told.
    pub is_quiet: bool,
    /// Reusable space to build rows in.
    pub scratch: Vec<u8>,
    /// The generation that commits write into.
    pub generation: Generation,
    /// The one a checkpoint is collecting.
    pub frozen: Option<Generation>,
    /// The newest generation that is in the tree.
    pub clean: Generation,
    /// Collections that are nobody's, to be removed from the tree; dirty until the checkpoint has written them.
    pub dropped: Vec<(Uid, Kind)>,
    /// Databases that were emptied: their rows in memory, to be dropped in the background.
    pub emptied: Vec<Database>,
    /// Bytes committed since the last freeze, overwritten versions included.
    pub dirty_bytes: usize,
    /// The oldest transaction that the tree lacks: a journal position not behind it, and when it was committed, in seconds
    /// of the store's clock.
    pub dirty_since: Option<(u64, u32)>,
    /// Rows that are not in memory are fetched without the lock.
    pub fetches: bool,
    /// A snapshot is about to take its place: until it has, nothing is applied.
    pub is_being_replaced: bool,
    /// What the last checkpoint wrote.
    pub tree: Tree,
}

impl Partition {
    /// Where its history stands.
    pub fn point(&self) -> Point {
        Point { epoch: self.epoch, lsn: self.lsn, chain: self.chain }
    }

    /// Takes the place of what it was: `new` was opened from another tree. Who watches a key learns that it changed. Returns what
    /// it was.
    pub fn become_like(&mut self, new: Partition) -> Partition {
        assert!(
            self.staged.is_empty() && self.frozen.is_none(),
            "neither a transaction nor a checkpoint is under way"
        );
        let generation = self.generation;
        let mut old = std::mem::replace(self, new);
        // Every field is named, so that a new one cannot be forgotten: what is not of the rows stays as it was.
        let Partition {
            watches,
            is_primary,
            guarded,
            fetches,
            replacements,
            id: _,
            epoch: _,
            lsn: _,
            chain: _,
            journal_start: _,
            history_start: _,
            saved_lsn: _,
            databases: _,
            bytes: _,
            next_database_id: _,
            items: _,
            deadlines: _,
            // What it has carried out before, nobody has told this node: the new one remembers from now on.
            answers: _,
            staged: _,
            staged_databases: _,
            uids_made: _,
            is_quiet: _,
            scratch: _,
            generation: _,
            frozen: _,
            clean: _,
            dropped: _,
            emptied: _,
            dirty_bytes: _,
            dirty_since: _,
            is_being_replaced: _,
            tree: _,
        } = &mut old;
        std::mem::swap(&mut self.watches, watches);
        (self.is_primary, self.guarded, self.fetches) = (*is_primary, *guarded, *fetches);
        self.replacements = *replacements + 1;
        // Whoever reads the old tree without the lock sees by `clean` that what was found is not to be kept.
        (self.clean, self.generation) = (generation, generation + 1);
        self.watches.all_changed();
        old
    }

    /// What a database number means to the transaction that holds the lock: index of the committed database, if there is
    /// one, and physical id.
    #[inline]
    pub fn resolve(&self, database: u16) -> (Option<usize>, u32) {
        match self.staged_databases.get(database as usize) {
            Some(staged) => *staged,
            None => (Some(database as usize), self.databases[database as usize].id),
        }
    }

    /// Stages that `number` means the database with this physical id.
    pub fn stage_database(&mut self, number: u16, id: u32) {
        let operation = Operation::Database { number, id, before: self.resolve(number).1 };
        self.staged.push(Staged { operation, hash: 0, prior: None });
        self.note_staged_database(number, id);
    }

    fn note_staged_database(&mut self, number: u16, id: u32) {
        if self.staged_databases.is_empty() {
            self.staged_databases = self.databases.iter().enumerate().map(|(i, d)| (Some(i), d.id)).collect();
        }
        let index = self.databases.iter().position(|database| database.id == id);
        self.staged_databases[number as usize] = (index, id);
    }

    /// Takes back what was staged beyond the first `len` operations.
    pub fn unstage(&mut self, len: usize) {
        self.staged.truncate(len);
        if !self.staged_databases.is_empty() {
            self.staged_databases.clear();
            let staged: Vec<(u16, u32)> = self.staged.iter().filter_map(|s| s.operation.database()).collect();
            for (number, id) in staged {
                self.note_staged_database(number, id);
            }
        }
    }

    /// The newest committed version of a key row, deletions as `None`. Looks in memory, then in the tree.
    #[inline]
    pub fn key_row(
        &mut self,
        database: usize,
        hash: u64,
        name: &[u8],
        prefix: impl FnOnce(u32) -> [u8; row::KEY_PREFIX],
        touch: impl FnOnce(&mut u32),
    ) -> Result<Option<Blob>, Interrupt> {
        let slot = &mut self.databases[database];
        if let Some(cell) = slot.rows.find(hash, name) {
            if row::is_deletion(&cell.row) {
                return Ok(None);
            }
            touch(&mut cell.access);
            return Ok(Some(cell.row.clone()));
        }
        // With all keys in memory, one that is not there is nowhere. New keys are so written without a look into the tree,
        // which cost as much as all the rest of an INCR.
        debug_assert!(slot.rows.live() as u64 <= slot.counters.keys, "a live row in memory is a key");
        if slot.rows.live() as u64 == slot.counters.keys || self.tree.is_empty() {
            return Ok(None);
        }
        self.key_row_from_tree(database, hash, name, prefix, touch)
    }

    #[cold]
    fn key_row_from_tree(
        &mut self,
        database: usize,
        hash: u64,
        name: &[u8],
        prefix: impl FnOnce(u32) -> [u8; row::KEY_PREFIX],
        touch: impl FnOnce(&mut u32),
    ) -> Result<Option<Blob>, Interrupt> {
        let prefix = prefix(self.databases[database].id);
        let row_key: smallvec::SmallVec<[u8; 128]> = prefix.iter().chain(name).copied().collect();
        if self.fetches {
            return Err(self.fetch(TreeName::Keys, &row_key, hash));
        }
        let found = self.tree.get(TreeName::Keys, &row_key, hash)?;
        if let Some(row) = &found {
            let mut access = 0;
            touch(&mut access);
            self.databases[database].rows.put_clean(row.clone(), access);
        }
        Ok(found)
    }

    /// The newest committed version of an item row, deletions as `None`.
    #[inline]
    pub fn item_row(&mut self, hash: u64, row_key: &[u8]) -> Result<Option<Blob>, Interrupt> {
        if let Some(cell) = self.items.find(hash, row_key) {
            return Ok((!row::is_deletion(&cell.row)).then(|| cell.row.clone()));
        }
        if self.tree.is_empty() {
            return Ok(None);
        }
        if self.fetches {
            return Err(self.fetch(TreeName::Items, row_key, hash));
        }
        let found = self.tree.get(TreeName::Items, row_key, hash)?;
        if let Some(row) = &found {
            self.items.put_clean(row.clone(), 0);
        }
        Ok(found)
    }

    #[cold]
    fn fetch(&self, tree: TreeName, row_key: &[u8], hash: u64) -> Interrupt {
        Interrupt::Fetch(Box::new(FetchRequest { partition: self.id, tree, row_key: row_key.into(), hash }))
    }

    /// Keeps what was fetched, unless something newer is there; that a row does not exist is kept as well.
    pub fn keep_fetched(&mut self, request: &FetchRequest, found: Option<Blob>, access: u32) {
        let row =
            found.unwrap_or_else(|| row::deletion(&mut self.scratch, request.hash, &[&request.row_key]));
        match request.tree {
            TreeName::Keys => {
                let (id, _, _) = row::position_of(row.key());
                if let Some(database) = self.databases.iter_mut().find(|database| database.id == id) {
                    database.rows.put_clean(row, access);
                }
            }
            _ => self.items.put_clean(row, access),
        }
    }

    /// How the key of this row was used up to now, if it is in memory.
    pub fn use_of(&mut self, row: &Blob) -> Option<u32> {
        let (id, _, _) = row::position_of(row.key());
        let database = self.databases.iter_mut().find(|database| database.id == id)?;
        let cell = database.rows.find(row.head().hash, row::name_of(row))?;
        (!row::is_deletion(&cell.row)).then_some(cell.access)
    }

    /// Applies this partition's part of a journaled transaction, which must continue its history: recovery and replicas alike.
    /// What its rows replace is looked up as it goes. `since` is what [`Partition::dirty_since`] becomes if nothing was dirty.
    pub fn apply_section(
        &mut self,
        section: &Section,
        since: (u64, u32),
        access: u32,
    ) -> Result<(), Interrupt> {
        let head = section.head;
        (self.lsn, self.epoch, self.chain) = (head.lsn, head.epoch, section.chain);
        self.dirty_since.get_or_insert(since);
        for operation in &section.operations {
            let prior = self.prior_of(operation)?;
            self.apply(operation.clone(), prior, access);
        }
        Ok(())
    }

    /// What the row of an operation replaces, as things stand.
    pub fn prior_of(&mut self, operation: &Operation) -> Result<Option<Prior>, Interrupt> {
        let Operation::Key(made) = operation else { return Ok(None) };
        let (id, slot, position) = row::position_of(made.key());
        let Some(index) = self.databases.iter().position(|database| database.id == id) else {
            return Ok(None);
        };
        let prefix = |id| row::key_prefix(id, slot, position);
        let row = self.key_row(index, made.head().hash, row::name_of(made), prefix, |_| ())?;
        Ok(row.as_ref().and_then(Prior::of))
    }

    /// Applies one operation of a committed transaction. `prior` is what a key row replaces.
    #[inline]
    pub fn apply(&mut self, operation: Operation, prior: Option<Prior>, access: u32) {
        match operation {
            Operation::Key(row) => self.apply_key(row, prior, access),
            Operation::Item(row) => {
                self.dirty_bytes += row.bytes().len() + 40;
                self.items.put(row, self.generation, self.frozen, access);
            }
            Operation::Drop { uid, kind } => self.dropped.push((uid, kind)),
            Operation::Database { number, id, .. } => self.apply_database(number, id),
            Operation::Answer(answered) => self.answers.insert(answered),
        }
    }

    #[inline]
    fn apply_key(&mut self, row: Blob, prior: Option<Prior>, access: u32) {
        let (id, _, _) = row::position_of(row.key());
        self.make_databases(id);
        let Some(number) = self.databases.iter().position(|database| database.id == id) else { return };
        let slot = &mut self.databases[number];
        let new = Prior::of(&row);
        slot.counters.replace(prior, new);
        self.bytes = self.bytes + new.map_or(0, |new| new.bytes) - prior.map_or(0, |prior| prior.bytes);
        let [old_deadline, new_deadline] = [prior, new].map(|row| row.and_then(|row| row.next_deadline));
        if old_deadline != new_deadline {
            self.deadlines.replace(row.key(), old_deadline, new_deadline);
        }
        if !self.watches.is_empty() && !self.is_quiet {
            // That an expired key is cleared away changes nothing for those who watch it; whoever saw it before looks anew.
            let expired = prior.and_then(|prior| prior.expire_at);
            let is_clearance = new.is_none() && expired.is_some_and(|at| at < clock::unix_ms());
            if !is_clearance {
                self.watches.changed(number as u16, row::name_of(&row));
            }
        }
        self.dirty_bytes += row.bytes().len() + 40;
        slot.rows.put(row, self.generation, self.frozen, access);
    }

    /// Makes sure that database `number` is there: whoever made the record may have been configured with more of them.
    #[inline]
    fn make_databases(&mut self, number: u32) {
        // Emptied databases have ids beyond all numbers; until then id and number are the same.
        let missing = self.databases.len() as u32..=number;
        if number < FIRST_NEW_DATABASE_ID && !missing.is_empty() {
            self.databases.extend(missing.map(Database::new));
        }
    }

    fn apply_database(&mut self, number: u16, id: u32) {
        self.next_database_id = self.next_database_id.max(id + 1);
        self.make_databases(u32::from(number));
        self.tell_watchers(number);
        let number = number as usize;
        if let Some(other) = self.databases.iter().position(|database| database.id == id) {
            // The first of the two operations of an exchange does all of it: those who watch the other number's keys learn it now.
            self.tell_watchers(other as u16);
            self.databases.swap(number, other);
            self.tell_watchers(number as u16);
        } else {
            let old = std::mem::replace(&mut self.databases[number], Database::new(id));
            self.bytes -= old.counters.bytes;
            self.emptied.push(old);
        }
        self.dirty_bytes += 40;
    }

    /// Tells those who watch a key that exists in this database that it changed: all of its keys did. One whose time is up
    /// was not there for anybody, so it did not change.
    fn tell_watchers(&mut self, number: u16) {
        let now = clock::unix_ms();
        for name in self.watches.names(number) {
            let prefix = |id| row::key_prefix(id, crc16::slot(&name), row::hash32(&name));
            let found = self.key_row(number as usize, row::table_hash(&name), &name, prefix, |_| ());
            let is_there = match found {
                Ok(Some(row)) => Prior::of(&row).and_then(|prior| prior.expire_at).is_none_or(|at| at >= now),
                Ok(None) => false,
                Err(_) => true, // on disk only: who watches it runs again, which is always right
            };
            if is_there {
                self.watches.changed(number, &name);
            }
        }
    }

    /// Decodes a key row that passed the tree's or the journal's checks.
    #[inline]
    pub fn entry(row: Blob) -> Result<Entry, Interrupt> {
        Entry::decode(row).ok_or_else(|| Interrupt::Storage("a stored key has an unknown format".into()))
    }

    /// Rows in memory.
    pub fn memory_rows(&self) -> usize {
        self.databases.iter().map(|database| database.rows.len()).sum::<usize>() + self.items.len()
    }

    /// Bytes of rows in memory and their tables.
    pub fn memory_bytes(&self) -> usize {
        self.databases.iter().map(|database| database.rows.memory()).sum::<usize>() + self.items.memory()
    }

    /// Buckets of all tables.
    pub fn buckets(&self) -> usize {
        self.databases.iter().map(|database| database.rows.buckets()).sum::<usize>() + self.items.buckets()
    }

    /// Frees clean rows of which `should_go` says so; looks at `looks` buckets of each table. Returns bytes freed.
    pub fn sweep(&mut self, looks: usize, should_go: impl Fn(&Cell) -> bool) -> usize {
        let clean = self.clean;
        let tables = self.databases.iter_mut().map(|database| &mut database.rows).chain([&mut self.items]);
        tables.map(|table| table.sweep(clean, looks, &should_go)).sum()
    }
}

impl Counters {
    #[inline]
    fn replace(&mut self, old: Option<Prior>, new: Option<Prior>) {
        let count = |what: Option<Prior>| u64::from(what.is_some());
        let expires = |what: Option<Prior>| u64::from(what.is_some_and(|it| it.expire_at.is_some()));
        let bytes = |what: Option<Prior>| what.map_or(0, |it| it.bytes);
        self.keys = self.keys + count(new) - count(old);
        self.expires = self.expires + expires(new) - expires(old);
        self.bytes = self.bytes + bytes(new) - bytes(old);
    }
}
