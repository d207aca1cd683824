//! Views and transactions: how the layers above read and change partitions.
//!
//! A [`View`] holds the locks of its partitions and reads their newest committed versions. A [`Transaction`] is a view that
//! also stages operations; it reads its own writes. `commit` appends one journal record for all its partitions and applies
//! every operation; a transaction dropped before that leaves nothing behind.

use super::answers::Answered;
use super::journal::RECORD_MAX;
use super::partition::{Partition, Prior};
use super::record::Operation;
use super::row::{self, Entry, Items, NewValue};
use super::staged::{Staged, StagedList};
use super::watch::WatchFlag;
use super::{Interrupt, Store};
use crate::base::blob::{Blob, Slice};
use crate::base::concern::WriteConcern;
use crate::base::crc16;
use crate::base::ids::{PartitionId, Slot, Uid};
use parking_lot::MutexGuard;
use smallvec::SmallVec;
use std::ops::{ControlFlow, Deref, DerefMut};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A key as commands name it.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// The database selected.
    pub database: u16,
    /// Its name.
    pub name: &'a [u8],
    /// Its slot.
    pub slot: Slot,
}

impl<'a> Key<'a> {
    /// The key `name` of `database`.
    #[inline]
    pub fn new(database: u16, name: &'a [u8]) -> Key<'a> {
        Key { database, name, slot: crc16::slot(name) }
    }
}

/// Which partitions a command needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionSet {
    /// This one.
    One(PartitionId),
    /// These, in number order, each once.
    Some(SmallVec<[PartitionId; 8]>),
    /// Every one.
    All,
}

impl PartitionSet {
    /// The smallest set with the partitions of both.
    pub fn union(self, other: PartitionSet) -> PartitionSet {
        let (mut a, b) = match (self, other) {
            (PartitionSet::All, _) | (_, PartitionSet::All) => return PartitionSet::All,
            (a, b) => (a.into_list(), b.into_list()),
        };
        a.extend(b);
        PartitionSet::of(a)
    }

    /// The set of these partitions, in any order.
    pub fn of(mut ids: SmallVec<[PartitionId; 8]>) -> PartitionSet {
        ids.sort_unstable();
        ids.dedup();
        match ids.as_slice() {
            [only] => PartitionSet::One(*only),
            _ => PartitionSet::Some(ids),
        }
    }

    /// Whether `check` holds for each of them, of so many `partitions` in all.
    pub fn is_every(&self, partitions: u16, mut check: impl FnMut(PartitionId) -> bool) -> bool {
        match self {
            PartitionSet::One(id) => check(*id),
            PartitionSet::Some(ids) => ids.iter().copied().all(check),
            PartitionSet::All => (0..partitions).map(PartitionId).all(check),
        }
    }

    fn into_list(self) -> SmallVec<[PartitionId; 8]> {
        match self {
            PartitionSet::One(id) => smallvec::smallvec![id],
            PartitionSet::Some(ids) => ids,
            PartitionSet::All => SmallVec::new(),
        }
    }
}

/// The locks of a view's partitions, in number order.
type Guards<'s> = SmallVec<[MutexGuard<'s, Partition>; 1]>;

/// Where the clock that uses are noted by begins with the process. Not at 0: RESTORE may say of a key that it was unused for
/// longer than that.
pub const CLOCK_START_S: u32 = 1 << 30;

/// What a reader notes in a cell: the time of this access in the eviction policy's terms.
#[derive(Clone, Copy, Debug)]
pub struct AccessClock {
    /// Seconds since the process started plus [`CLOCK_START_S`], or minutes for LFU.
    pub now: u32,
    /// Count uses (LFU) instead of noting the time (LRU).
    pub lfu: bool,
}

/// Read access to some partitions at one moment.
pub struct View<'s> {
    store: &'s Store,
    guards: Guards<'s>,
    now: i64,
    access: AccessClock,
    /// Whether lookups are counted: those of commands that read are, those that precede a change are not.
    counts: bool,
    hits: u32,
    misses: u32,
    /// Reads the disk under the locks instead of giving an interrupt.
    waits_for_disk: bool,
}

impl Drop for View<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.waits_for_disk {
            self.set_fetches(self.store.fetches());
        }
    }
}

/// Where SCAN stands: slot and position within it.
pub type ScanPosition = (Slot, u32);

impl<'s> View<'s> {
    pub(super) fn new(
        store: &'s Store,
        guards: SmallVec<[MutexGuard<'s, Partition>; 1]>,
        now: i64,
    ) -> View<'s> {
        let access = store.access_clock();
        View { store, guards, now, access, counts: false, hits: 0, misses: 0, waits_for_disk: false }
    }

    /// The locked partitions with changes that must be on enough nodes before anybody is told of them, by
    /// [`WriteConcern::held_index`] the positions of the last ones.
    #[inline]
    pub fn guarded(&self) -> impl Iterator<Item = (PartitionId, [u64; 3])> {
        let guards = self.guards.iter().filter(|guard| guard.guarded != [0; 3] && guard.is_primary);
        guards.map(|guard| (guard.id, guard.guarded))
    }

    /// Runs `read` so that its lookups count as hits and misses.
    #[inline]
    pub fn as_reader<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        self.counts = true;
        let outcome = read(self);
        self.counts = false;
        outcome
    }

    /// From here on rows are read from disk under the locks. For commands that need so many rows from there that running again
    /// for each would take longer than to wait once.
    pub fn wait_for_disk(&mut self) {
        self.waits_for_disk = true;
        self.set_fetches(false);
    }

    fn set_fetches(&mut self, fetches: bool) {
        self.guards.iter_mut().for_each(|guard| guard.fetches = fetches);
    }

    /// Wall clock of this transaction, milliseconds since 1970.
    #[inline]
    pub fn now(&self) -> i64 {
        self.now
    }

    #[inline]
    fn partition(&mut self, slot: Slot) -> &mut Partition {
        let id = PartitionId::of(slot, self.store.partition_count());
        if self.guards.len() == 1 {
            assert_eq!(self.guards[0].id, id, "commands declare every key they touch");
            return &mut self.guards[0];
        }
        let index = self.guards.binary_search_by_key(&id, |guard| guard.id);
        &mut self.guards[index.expect("commands declare every key they touch")]
    }

    /// The partition of a view of one.
    pub(super) fn only_partition(&mut self) -> &mut Partition {
        debug_assert_eq!(self.guards.len(), 1);
        &mut self.guards[0]
    }

    /// What `key` holds; nothing if it has expired. Counts as a use of the key.
    #[inline]
    pub fn get(&mut self, key: &Key) -> Result<Option<Entry>, Interrupt> {
        let access = self.access;
        self.lookup(key, move |cell| access.touch(cell))
    }

    /// The same without counting as a use (TTL, OBJECT, SCAN).
    pub fn peek(&mut self, key: &Key) -> Result<Option<Entry>, Interrupt> {
        self.lookup(key, |_| ())
    }

    #[inline]
    fn lookup(&mut self, key: &Key, touch: impl FnOnce(&mut u32)) -> Result<Option<Entry>, Interrupt> {
        let now = self.now;
        let row = self.newest_key_row(key, row::table_hash(key.name), touch)?;
        let entry = row.map(Partition::entry).transpose()?;
        let entry = entry.filter(|entry| entry.expire_at().is_none_or(|at| at >= now));
        self.hits += u32::from(self.counts && entry.is_some());
        self.misses += u32::from(self.counts && entry.is_none());
        Ok(entry)
    }

    /// The same without being seen at all: neither a use nor a hit or miss.
    pub fn glimpse(&mut self, key: &Key) -> Result<Option<Entry>, Interrupt> {
        let counts = std::mem::take(&mut self.counts);
        let entry = self.peek(key);
        self.counts = counts;
        entry
    }

    /// How many keys readers found and how many they did not, since the last call.
    #[inline]
    pub fn take_lookups(&mut self) -> (u32, u32) {
        (std::mem::take(&mut self.hits), std::mem::take(&mut self.misses))
    }

    /// The newest version, staged ones first; expired ones too.
    #[inline]
    fn newest_key_row(
        &mut self,
        key: &Key,
        hash: u64,
        touch: impl FnOnce(&mut u32),
    ) -> Result<Option<Blob>, Interrupt> {
        let partition = self.partition(key.slot);
        let (index, id) = partition.resolve(key.database);
        if !partition.staged.is_empty()
            && let Some(row) = staged_key(&partition.staged, key, id, hash)
        {
            return Ok((!row::is_deletion(row)).then(|| row.clone()));
        }
        let Some(index) = index else { return Ok(None) };
        let (slot, name) = (key.slot, key.name);
        let prefix = |id| row::key_prefix(id, slot, row::hash32(name));
        partition.key_row(index, hash, name, prefix, touch)
    }

    /// The value of the item row `suffix` of the collection `uid`, which belongs to `key`.
    pub fn item(&mut self, key: &Key, uid: Uid, suffix: &[u8]) -> Result<Option<Slice>, Interrupt> {
        let row = self.newest_item_row(key.slot, &item_key(uid, suffix))?;
        Ok(row.map(|row| row.value_slice(0, row.value().len())))
    }

    fn newest_item_row(&mut self, slot: Slot, row_key: &[u8]) -> Result<Option<Blob>, Interrupt> {
        let hash = row::table_hash(row_key);
        let partition = self.partition(slot);
        if !partition.staged.is_empty()
            && let Some(row) = staged_item(&partition.staged, row_key, hash)
        {
            return Ok((!row::is_deletion(row)).then(|| row.clone()));
        }
        partition.item_row(hash, row_key)
    }

    /// Visits the items of `uid` in order of their suffixes, from `from` on.
    pub fn visit_items(
        &mut self,
        key: &Key,
        uid: Uid,
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Interrupt> {
        let partition = self.partition(key.slot);
        super::walk::items(partition, uid, from, visit)
    }

    /// Visits the keys of a database in order of (slot, position) from `from` on, in the locked partitions; expired ones
    /// are left out. Uncommitted changes of this transaction are seen.
    pub fn visit_keys(
        &mut self,
        database: u16,
        from: ScanPosition,
        visit: &mut dyn FnMut(ScanPosition, &[u8], &NewValue) -> ControlFlow<()>,
    ) -> Result<(), Interrupt> {
        let now = self.now;
        let mut stopped = false;
        for partition in &mut self.guards {
            super::walk::keys(partition, database, from, &mut |key, value| {
                let Some((meta, _)) = row::decode_value(value) else { return ControlFlow::Continue(()) };
                if meta.expire_at.is_some_and(|at| at < now) {
                    return ControlFlow::Continue(());
                }
                let (_, slot, position) = row::position_of(key);
                let flow = visit((slot, position), &key[row::KEY_PREFIX..], &meta);
                stopped = flow.is_break();
                flow
            })?;
            if stopped {
                break;
            }
        }
        Ok(())
    }

    /// Whether both keys belong to one partition.
    pub fn in_one_partition(&self, a: &Key, b: &Key) -> bool {
        self.store.partition_of(a.slot) == self.store.partition_of(b.slot)
    }

    /// Whether this node takes changes of `key`.
    pub fn is_primary_of(&mut self, key: &Key) -> bool {
        self.partition(key.slot).is_primary
    }

    /// Whether the partition of `name` is among those locked.
    pub fn holds(&self, name: &[u8]) -> bool {
        let id = self.store.partition_of(crc16::slot(name));
        self.guards.binary_search_by_key(&id, |guard| guard.id).is_ok()
    }

    /// Number of databases.
    pub fn database_count(&self) -> u16 {
        self.guards[0].databases.len() as u16
    }

    /// Keys of a database in the locked partitions, expired ones that are not yet removed included.
    pub fn count(&self, database: u16) -> u64 {
        self.guards.iter().map(|guard| count_keys(guard, database)).sum()
    }

    /// Seconds since `key` was last used, or its LFU counter, as the eviction policy has it; `None` if it does not exist
    /// or is not in memory (then it is older than all that are).
    pub fn access_of(&mut self, key: &Key) -> Option<u32> {
        let partition = self.partition(key.slot);
        let cell =
            partition.databases[key.database as usize].rows.find(row::table_hash(key.name), key.name)?;
        Some(cell.access)
    }

    /// Seconds since `key` was last used. What is not in memory was not used since the process began.
    pub fn idle_s(&mut self, key: &Key) -> u32 {
        let last_use = self.access_of(key).unwrap_or(CLOCK_START_S);
        self.access.now.saturating_sub(last_use)
    }

    /// Sets what [`View::access_of`] gives, if the key is in memory.
    pub fn set_access(&mut self, key: &Key, access: u32) {
        let partition = self.partition(key.slot);
        if let Some(cell) =
            partition.databases[key.database as usize].rows.find(row::table_hash(key.name), key.name)
        {
            cell.access = access;
        }
    }

    /// The clock that accesses are noted by.
    pub fn access_clock(&self) -> AccessClock {
        self.access
    }

    /// What was answered to a request of another node that the locked partitions have carried out, if that is remembered.
    pub fn answer(&self, request: u128) -> Option<Arc<Answered>> {
        self.guards.iter().find_map(|guard| guard.answers.get(request).cloned())
    }

    /// From when on all such requests are remembered, in microseconds since the machine started.
    pub fn answers_since_us(&self) -> u64 {
        self.guards.iter().map(|guard| guard.answers.complete_since_us()).max().unwrap_or(0)
    }

    /// `flag` is set as soon as `key` changes.
    pub fn watch(&mut self, key: &Key, flag: &WatchFlag) {
        self.partition(key.slot).watches.add(key.database, key.name, flag);
    }

    /// Ends [`View::watch`].
    pub fn unwatch(&mut self, key: &Key, flag: &WatchFlag) {
        self.partition(key.slot).watches.remove(key.database, key.name, flag);
    }
}

impl AccessClock {
    /// Notes a use.
    #[inline]
    pub fn touch(self, access: &mut u32) {
        *access = if self.lfu { super::eviction::lfu_touch(*access, self.now) } else { self.now };
    }

    /// That of a key unused for so many seconds, as far as the clock reaches back; none if uses are counted.
    pub fn idle_for(self, seconds: u64) -> Option<u32> {
        (!self.lfu).then(|| self.now.saturating_sub(u32::try_from(seconds).unwrap_or(u32::MAX)))
    }

    /// That of a key with this use counter; none if uses are not counted.
    pub fn used_often(self, counter: u8) -> Option<u32> {
        self.lfu.then_some(((self.now & 0xFF_FFFF) << 8) | u32::from(counter))
    }

    /// What a new key starts with.
    pub fn fresh(self) -> u32 {
        if self.lfu { super::eviction::lfu_fresh(self.now) } else { self.now }
    }
}

/// The key of an item row.
#[inline]
fn item_key(uid: Uid, suffix: &[u8]) -> SmallVec<[u8; 96]> {
    let mut key = SmallVec::new();
    key.extend_from_slice(&uid.to_bytes());
    key.extend_from_slice(suffix);
    key
}

/// Keys of a database, with what is staged.
fn count_keys(partition: &Partition, database: u16) -> u64 {
    let (index, id) = partition.resolve(database);
    let staged = partition.staged.iter().map(|staged| match &staged.operation {
        Operation::Key(row) if row.key()[..4] == id.to_be_bytes() => {
            i64::from(!row::is_deletion(row)) - i64::from(staged.prior.is_some())
        }
        _ => 0,
    });
    let committed = index.map_or(0, |index| partition.databases[index].counters.keys);
    committed.saturating_add_signed(staged.sum())
}

fn staged_key<'a>(staged: &'a StagedList, key: &Key, id: u32, hash: u64) -> Option<&'a Blob> {
    staged.newest(hash, |operation| match operation {
        Operation::Key(row) if row.key()[..4] == id.to_be_bytes() && row::name_of(row) == key.name => {
            Some(row)
        }
        _ => None,
    })
}

fn staged_item<'a>(staged: &'a StagedList, row_key: &[u8], hash: u64) -> Option<&'a Blob> {
    staged.newest(hash, |operation| match operation {
        Operation::Item(row) if row.key() == row_key => Some(row),
        _ => None,
    })
}

/// A view that can also change its partitions, all at once at [`Transaction::commit`].
pub struct Transaction<'s> {
    view: View<'s>,
    /// What keys (by table hash) begin with instead of a use now.
    accesses: Vec<(u64, u32)>,
    /// Keys (by table hash) whose values stay what they are.
    quiet: Vec<u64>,
    expired: u32,
}

/// What a change of an item row did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemChange {
    /// Whether there was a row before.
    pub existed: bool,
    /// By how many bytes the collection's items grew.
    pub grown: i64,
}

/// A point that a transaction can return to.
pub struct Savepoint(SmallVec<[usize; 1]>);

impl<'s> Deref for Transaction<'s> {
    type Target = View<'s>;
    #[inline]
    fn deref(&self) -> &View<'s> {
        &self.view
    }
}

impl DerefMut for Transaction<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.view
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        for guard in &mut self.view.guards {
            guard.unstage(0);
            guard.uids_made = 0;
        }
    }
}

impl<'s> Transaction<'s> {
    pub(super) fn new(view: View<'s>) -> Transaction<'s> {
        debug_assert!(view.guards.iter().all(|guard| guard.staged.is_empty()));
        Transaction { view, accesses: Vec::new(), quiet: Vec::new(), expired: 0 }
    }

    /// Puts `payload` (its parts one after the other) at `key`. If the key held other items before, they are dropped.
    #[inline]
    pub fn put(&mut self, key: &Key, meta: NewValue, payload: &[&[u8]]) -> Result<(), Interrupt> {
        let hash = row::table_hash(key.name);
        let before = self.view.newest_key_row(key, hash, |_| ())?;
        self.drop_items(key.slot, before.as_ref(), meta.items.map(|items| items.uid));
        let partition = self.view.partition(key.slot);
        let (_, id) = partition.resolve(key.database);
        let prefix = row::key_prefix(id, key.slot, row::hash32(key.name));
        let made = row::build(&mut partition.scratch, hash, &[&prefix, key.name], |out| {
            row::encode_head(&meta, out);
            for part in payload {
                out.extend_from_slice(part);
            }
        });
        stage_key(partition, hash, made, before.as_ref());
        Ok(())
    }

    /// Puts the same value at `key` with another head (deadline, items). The key must exist.
    pub fn put_meta(&mut self, key: &Key, entry: &Entry, meta: NewValue) -> Result<(), Interrupt> {
        self.put(key, meta, &[entry.payload()])
    }

    /// Removes `key` and all it holds, in constant time, also if it has expired. Whether it was there is the caller's to know.
    pub fn remove(&mut self, key: &Key) -> Result<(), Interrupt> {
        let hash = row::table_hash(key.name);
        let Some(before) = self.view.newest_key_row(key, hash, |_| ())? else { return Ok(()) };
        let deadline = row::decode_value(before.value()).and_then(|(meta, _)| meta.expire_at);
        self.expired += u32::from(deadline.is_some_and(|at| at < self.view.now));
        self.drop_items(key.slot, Some(&before), None);
        let partition = self.view.partition(key.slot);
        let made = row::deletion(&mut partition.scratch, hash, &[before.key()]);
        stage_key(partition, hash, made, Some(&before));
        Ok(())
    }

    /// How many of the keys that were removed had expired.
    pub fn expired(&self) -> u32 {
        self.expired
    }

    /// Moves the value at `key` with its items to `to`, which is in the same partition, in constant time. What `to` held
    /// is dropped.
    pub fn rename_within_partition(&mut self, key: &Key, to: &Key) -> Result<(), Interrupt> {
        let hash = row::table_hash(key.name);
        let Some(before) = self.view.newest_key_row(key, hash, |_| ())? else { return Ok(()) };
        let entry = Partition::entry(before.clone())?;
        let partition = self.view.partition(key.slot);
        let made = row::deletion(&mut partition.scratch, hash, &[before.key()]);
        stage_key(partition, hash, made, Some(&before));
        self.put(to, entry.meta(), &[entry.payload()])
    }

    fn drop_items(&mut self, slot: Slot, before: Option<&Blob>, keep: Option<Uid>) {
        let Some((meta, _)) = before.and_then(|row| row::decode_value(row.value())) else { return };
        if let Some(items) = meta.items.filter(|items| Some(items.uid) != keep) {
            let operation = Operation::Drop { uid: items.uid, kind: meta.kind };
            self.view.partition(slot).staged.push(Staged { operation, hash: 0, prior: None });
        }
    }

    /// A name for the items of a new collection at `key`.
    pub fn new_uid(&mut self, key: &Key) -> Uid {
        let partition = self.view.partition(key.slot);
        partition.uids_made += 1;
        Uid { lsn: partition.lsn.0 + 1, index: partition.uids_made }
    }

    /// A number for a new collection that nobody outside can guess, though its uid may be guessed.
    pub fn secret_of(&self, uid: Uid) -> u64 {
        xxh3_64_with_seed(&uid.to_bytes(), self.view.store.secret)
    }

    /// Puts `value` (its parts one after the other) at the item row `suffix` of the collection `uid`.
    pub fn put_item(
        &mut self,
        key: &Key,
        uid: Uid,
        suffix: &[u8],
        value: &[&[u8]],
    ) -> Result<ItemChange, Interrupt> {
        let row_key = item_key(uid, suffix);
        let hash = row::table_hash(&row_key);
        let before = self.view.newest_item_row(key.slot, &row_key)?;
        let partition = self.view.partition(key.slot);
        let made = row::build(&mut partition.scratch, hash, &[&row_key], |out| {
            for part in value {
                out.extend_from_slice(part);
            }
        });
        let change = ItemChange {
            existed: before.is_some(),
            grown: bytes_of(Some(&made)) - bytes_of(before.as_ref()),
        };
        partition.staged.push(Staged { operation: Operation::Item(made), hash, prior: None });
        Ok(change)
    }

    /// Puts an item row without looking for one that is there: of a collection made in this transaction, or where the caller has looked
    /// himself. Returns the bytes of the row.
    pub fn put_new_item(&mut self, key: &Key, uid: Uid, suffix: &[u8], value: &[&[u8]]) -> i64 {
        let row_key = item_key(uid, suffix);
        let hash = row::table_hash(&row_key);
        let partition = self.view.partition(key.slot);
        let made = row::build(&mut partition.scratch, hash, &[&row_key], |out| {
            for part in value {
                out.extend_from_slice(part);
            }
        });
        let grown = bytes_of(Some(&made));
        partition.staged.push(Staged { operation: Operation::Item(made), hash, prior: None });
        grown
    }

    /// Removes the item row `suffix` of the collection `uid`.
    pub fn remove_item(&mut self, key: &Key, uid: Uid, suffix: &[u8]) -> Result<ItemChange, Interrupt> {
        let row_key = item_key(uid, suffix);
        let hash = row::table_hash(&row_key);
        let before = self.view.newest_item_row(key.slot, &row_key)?;
        if before.is_some() {
            let partition = self.view.partition(key.slot);
            let made = row::deletion(&mut partition.scratch, hash, &[&row_key]);
            partition.staged.push(Staged { operation: Operation::Item(made), hash, prior: None });
        }
        Ok(ItemChange { existed: before.is_some(), grown: -bytes_of(before.as_ref()) })
    }

    /// What was put at `key` begins with this access, in terms of the [`AccessClock`], and not with a use now.
    pub fn begin_access(&mut self, key: &Key, access: u32) {
        self.accesses.push((row::table_hash(key.name), access));
    }

    /// Tells watchers that `key` changed though its key row did not.
    pub fn touch(&mut self, key: &Key) {
        self.view.partition(key.slot).watches.changed(key.database, key.name);
    }

    /// Empties a database in the locked partitions, in constant time. Returns how many keys it had.
    pub fn flush_database(&mut self, database: u16) -> u64 {
        let count = self.view.count(database);
        for partition in &mut self.view.guards {
            let staged = partition.staged.iter().filter_map(|staged| staged.operation.database());
            let id = staged.map(|(_, id)| id + 1).fold(partition.next_database_id, u32::max);
            partition.stage_database(database, id);
        }
        count
    }

    /// Exchanges two databases in the locked partitions, in constant time.
    pub fn swap_databases(&mut self, a: u16, b: u16) {
        for partition in &mut self.view.guards {
            let ids = [partition.resolve(a).1, partition.resolve(b).1];
            partition.stage_database(a, ids[1]);
            partition.stage_database(b, ids[0]);
        }
    }

    /// Where the transaction stands, to return to if a part of it fails.
    pub fn savepoint(&self) -> Savepoint {
        Savepoint(self.view.guards.iter().map(|guard| guard.staged.len()).collect())
    }

    /// Takes back what was staged since `point`.
    pub fn rollback_to(&mut self, point: &Savepoint) {
        for (guard, &len) in self.view.guards.iter_mut().zip(&point.0) {
            guard.unstage(len);
        }
    }

    /// What is staged carries out this request of another node: it is remembered wherever the record gets. If nothing was staged, only
    /// if that is to be known `always`.
    pub fn carries_out(&mut self, answered: Answered, always: bool) {
        let guards = &mut self.view.guards;
        let changed = guards.iter().position(|guard| !guard.staged.is_empty());
        let index = changed.or((always && !guards.is_empty()).then_some(0));
        if let Some(guard) = index.map(|index| &mut guards[index]) {
            let operation = Operation::Answer(Arc::new(answered));
            guard.staged.push(Staged { operation, hash: 0, prior: None });
        }
    }

    /// Whether anything was staged.
    pub fn has_changes(&self) -> bool {
        self.view.guards.iter().any(|guard| !guard.staged.is_empty())
    }

    /// An interrupt if what is staged is too long for a record.
    #[inline]
    pub fn check_size(&self) -> Result<(), Interrupt> {
        let bytes: u64 = self.view.guards.iter().map(|guard| guard.staged.bytes()).sum();
        if bytes < RECORD_MAX { Ok(()) } else { Err(Interrupt::TooLarge) }
    }

    /// An interrupt unless what is staged may be committed: this node is primary of what it changes, its record is not too long
    /// and the disk has room for it. What `grows` the data leaves some room to what does not.
    #[inline]
    pub fn admit(&self, grows: bool) -> Result<(), Interrupt> {
        let bytes: u64 = self.view.guards.iter().map(|guard| guard.staged.bytes()).sum();
        if bytes == 0 {
            return Ok(());
        }
        if self.view.guards.iter().any(|guard| !guard.is_primary && !guard.staged.is_empty()) {
            return Err(Interrupt::NotPrimary);
        }
        self.view.store.admit(bytes, grows)
    }

    /// What this transaction changes of the key is how its value is stored, and not the value: nobody who watches it is told.
    pub fn keep_quiet(&mut self, key: &Key) {
        self.quiet.push(row::table_hash(key.name));
    }

    /// Commits: one journal record, then every operation applied. Returns the journal position behind the record, which
    /// must be flushed before the outcome is told to anybody; 0 if nothing was changed.
    #[inline]
    pub fn commit(mut self) -> u64 {
        self.commit_guarded(WriteConcern::Local, |_, _| ())
    }

    /// The same for changes that are to be on as many nodes as `concern` asks for before anybody is told of them. `changed` gets
    /// each changed partition and the position. The locks are held on: what follows in the transaction is another one, right behind.
    #[inline]
    pub fn commit_guarded(
        &mut self,
        concern: WriteConcern,
        mut changed: impl FnMut(PartitionId, u64),
    ) -> u64 {
        let store = self.view.store;
        let clock = self.view.access;
        let access = clock.fresh();
        if !self.has_changes() {
            return 0;
        }
        let position = store.journal_append(&mut self.view.guards, self.view.now);
        for partition in &mut self.view.guards {
            partition.uids_made = 0;
            if let Some(index) = concern.held_index()
                && !partition.staged.is_empty()
            {
                partition.guarded[index] = position;
                changed(partition.id, position);
            }
            let mut staged = std::mem::take(&mut partition.staged);
            for Staged { operation, prior, hash } in staged.drain() {
                let set = self.accesses.iter().rfind(|(of, _)| *of == hash);
                let access = match (set, &operation) {
                    (Some((_, access)), _) => *access,
                    // Uses that were counted before a write still count after it.
                    (None, Operation::Key(row)) if clock.lfu && prior.is_some() => {
                        partition.use_of(row).map_or(access, |mut counted| {
                            clock.touch(&mut counted);
                            counted
                        })
                    }
                    _ => access,
                };
                partition.is_quiet = self.quiet.contains(&hash);
                partition.apply(operation, prior, access);
            }
            partition.is_quiet = false;
            partition.staged_databases.clear();
            partition.staged = staged;
            store.note_bytes(partition);
        }
        self.accesses.clear();
        self.quiet.clear();
        self.expired = 0;
        position
    }

    /// Visits what has come into being since `start`: keys that were put, and databases (without a name) that have other keys now.
    pub fn visit_new(&self, start: Option<&Savepoint>, visit: &mut dyn FnMut(u16, Option<&[u8]>)) {
        for (index, guard) in self.view.guards.iter().enumerate() {
            let from = start.and_then(|start| start.0.get(index)).copied().unwrap_or(0);
            for staged in guard.staged.get(from..).unwrap_or_default() {
                match &staged.operation {
                    Operation::Key(row) if !row::is_deletion(row) => {
                        let (id, _, _) = row::position_of(row.key());
                        let numbers = 0..guard.databases.len() as u16;
                        let number = numbers.into_iter().find(|number| guard.resolve(*number).1 == id);
                        number.into_iter().for_each(|number| visit(number, Some(row::name_of(row))));
                    }
                    Operation::Database { number, .. } => visit(*number, None),
                    _ => {}
                }
            }
        }
    }

    /// Whether this node is primary of all locked partitions.
    pub fn is_primary(&self) -> bool {
        self.view.guards.iter().all(|guard| guard.is_primary)
    }
}

#[inline]
fn stage_key(partition: &mut Partition, hash: u64, made: Blob, before: Option<&Blob>) {
    let prior = before.and_then(Prior::of);
    partition.staged.push(Staged { operation: Operation::Key(made), hash, prior });
}

fn bytes_of(row: Option<&Blob>) -> i64 {
    row.map_or(0, |row| row.bytes().len() as i64)
}

/// What a collection's items are after a change.
pub fn items_after(items: Items, grown: i64) -> Items {
    Items { bytes: items.bytes.saturating_add_signed(grown), ..items }
}
