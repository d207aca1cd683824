//! Reads the tail of a partition from this node's journal: once to learn what its rows belong to, once to write it out.
//!
//! Rows of large values carry a number instead of the key's name, rows of keys the physical id of their database. Whose they
//! are is told by other rows of the tail, and by what the partition holds at its end:
//! - a key's row names the collection that it leads to; what drops a collection stands in front of the row that replaces its key;
//! - an operation that gives a database another id says which one it had: so the first one behind a row tells where the row was.

use super::super::storage::LostTail;
use crate::base::ids::{Lsn, PartitionId, Slot, Uid};
use crate::store::journal::{CursorError, Section, SectionHead, decode_section_bytes, visit_sections};
use crate::store::record::Operation;
use crate::store::{Kind, PartitionSet, Store, row};
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::ops::ControlFlow;

/// Bytes of the journal read at a time.
const READ_BYTES: usize = 1 << 20;
/// Keys looked at in one go, with the partition locked.
const WALK_KEYS: usize = 1000;
/// Bytes that a name takes in memory besides its own.
const NAME_BYTES: usize = 96;

/// The journal is kept as long as this lives.
struct Pin<'a> {
    store: &'a Store,
    reader: u64,
}

impl<'a> Pin<'a> {
    fn new(store: &'a Store, partition: PartitionId) -> Pin<'a> {
        // Links count their readers from 1.
        let reader = u64::MAX - u64::from(partition.0);
        store.pin_journal(reader, Some(store.oldest_journal_position()));
        Pin { store, reader }
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        self.store.pin_journal(self.reader, None);
    }
}

/// The part of the journal that holds a tail.
pub struct Tail<'a> {
    /// The node's store.
    pub store: &'a Store,
    /// What is looked for.
    pub wanted: LostTail,
    limit: u64,
    _pin: Pin<'a>,
}

impl<'a> Tail<'a> {
    /// Writes the journal to its end, and keeps it.
    pub fn new(store: &'a Store, wanted: LostTail) -> io::Result<Tail<'a>> {
        store.sync().map_err(|interrupt| io::Error::other(format!("{interrupt:?}")))?;
        let pin = Pin::new(store, wanted.partition);
        Ok(Tail { store, wanted, limit: store.written_position(), _pin: pin })
    }

    /// Gives each transaction of the tail to `visit`, oldest first. Memory: the longest record, twice.
    pub fn visit(&self, visit: &mut dyn FnMut(Section) -> io::Result<()>) -> io::Result<()> {
        let LostTail { partition, common } = self.wanted;
        let floor = self.store.history_start(partition);
        let is_wanted =
            |head: &SectionHead| head.partition == partition && common.is_none_or(|lsn| head.lsn > lsn);
        let mut cursor = self.store.cursor(self.store.oldest_journal_position()).map_err(failed)?;
        let mut outcome = Ok(());
        loop {
            let read = cursor.read(self.limit, READ_BYTES, &mut |position, payload| {
                if position < floor || outcome.is_err() {
                    return;
                }
                let mut found = None;
                let form = visit_sections(payload, |head, bytes| {
                    if is_wanted(&head) {
                        found = Some(decode_section_bytes(bytes));
                    }
                });
                outcome = match (form, found) {
                    (Some(()), None) => Ok(()),
                    (Some(()), Some(Some(section))) => visit(section),
                    _ => Err(io::Error::other(format!("the journal has no whole record at {position}"))),
                };
            });
            if outcome.is_err() || !read.map_err(failed)? {
                return outcome;
            }
        }
    }
}

fn failed(error: CursorError) -> io::Error {
    io::Error::other(match error {
        CursorError::Gone => "the journal was removed while it was read".to_owned(),
        CursorError::Failed(reason) => reason.0,
    })
}

/// Whose the rows of a collection are.
pub struct Owner {
    /// Physical id of the key's database.
    pub database: u32,
    /// The key's name.
    pub name: Box<[u8]>,
    /// What it holds.
    pub kind: Kind,
}

impl Owner {
    fn of(key: &[u8], kind: Kind) -> Owner {
        Owner { database: row::position_of(key).0, name: key[row::KEY_PREFIX..].into(), kind }
    }
}

/// Memory for names, which is limited.
pub struct Budget(usize);

impl Budget {
    /// So many bytes.
    pub fn new(bytes: usize) -> Budget {
        Budget(bytes)
    }

    /// Takes what a name of this length needs, if that is left.
    pub fn take(&mut self, len: usize) -> bool {
        match self.0.checked_sub(len + NAME_BYTES) {
            Some(left) => self.0 = left,
            None => self.0 = 0,
        }
        self.0 > 0
    }
}

/// What reading a tail once tells about it.
#[derive(Default)]
pub struct Learned {
    /// How many transactions there are.
    pub transactions: u64,
    /// The first one.
    pub first: Option<SectionHead>,
    /// The last one.
    pub last: Option<SectionHead>,
    /// Whether one is missing between them.
    pub has_gap: bool,
    /// Whether a database was emptied or exchanged.
    pub has_databases: bool,
    /// Numbers of databases at the beginning by their physical ids, of those that are not where they were; and others.
    pub places: HashMap<u32, u16>,
    /// Whose collections are: the first that is known of each.
    pub owners: HashMap<Uid, Owner>,
    /// Collections that rows were written to whose owner is not known.
    pub unknown: BTreeSet<Uid>,
    /// Not all names could be kept in memory.
    pub is_over_budget: bool,
}

impl Learned {
    /// Reads the tail.
    pub fn of(tail: &Tail, budget: &mut Budget) -> io::Result<Learned> {
        let mut learned = Learned::default();
        tail.visit(&mut |section| {
            learned.take(&section, budget);
            Ok(())
        })?;
        learned.unknown.retain(|uid| !learned.owners.contains_key(uid));
        learned.walk(tail, budget)?;
        Ok(learned)
    }

    fn take(&mut self, section: &Section, budget: &mut Budget) {
        let head = section.head;
        self.transactions += 1;
        self.has_gap |= self.last.is_some_and(|last| Lsn(last.lsn.0 + 1) != head.lsn);
        self.first.get_or_insert(head);
        self.last = Some(head);
        let mut dropped = Vec::new();
        for operation in &section.operations {
            match operation {
                Operation::Database { number, before, .. } => {
                    self.has_databases = true;
                    self.places.entry(*before).or_insert(*number);
                }
                Operation::Drop { uid, kind } => dropped.push((*uid, *kind)),
                Operation::Answer(_) => {}
                Operation::Key(row) => {
                    for (uid, kind) in dropped.drain(..) {
                        self.own(uid, row.key(), kind, budget);
                    }
                    let meta = row::decode_value(row.value()).map(|(meta, _)| meta);
                    if let Some((items, kind)) = meta.and_then(|meta| Some((meta.items?, meta.kind))) {
                        self.own(items.uid, row.key(), kind, budget);
                    }
                }
                Operation::Item(row) => {
                    let uid = Uid::from_bytes(row.key()).expect("the record was decoded");
                    if !self.owners.contains_key(&uid) && !self.unknown.contains(&uid) {
                        self.is_over_budget |= !budget.take(0);
                        if !self.is_over_budget {
                            self.unknown.insert(uid);
                        }
                    }
                }
            }
        }
    }

    fn own(&mut self, uid: Uid, key: &[u8], kind: Kind, budget: &mut Budget) {
        if let Entry::Vacant(entry) = self.owners.entry(uid) {
            self.is_over_budget |= !budget.take(key.len());
            if !self.is_over_budget {
                entry.insert(Owner::of(key, kind));
            }
        }
    }

    /// Looks for the owners that the tail does not name among the partition's keys.
    fn walk(&mut self, tail: &Tail, budget: &mut Budget) -> io::Result<()> {
        let partition = tail.wanted.partition;
        let databases = tail.store.database_ids(partition);
        for (number, id) in databases.into_iter().enumerate() {
            let mut from = Some((Slot(0), 0));
            while let Some(start) = from.take().filter(|_| !self.unknown.is_empty()) {
                let (mut seen, mut last) = (0, start);
                let mut view = tail.store.view(&PartitionSet::One(partition), i64::MIN);
                let walked = view.visit_keys(number as u16, start, &mut |position, name, meta| {
                    if seen >= WALK_KEYS && position != last {
                        from = Some(position);
                        return ControlFlow::Break(());
                    }
                    (seen, last) = (seen + 1, position);
                    if let Some(items) = meta.items.filter(|items| self.unknown.remove(&items.uid)) {
                        self.is_over_budget |= !budget.take(name.len());
                        let owner = Owner { database: id, name: name.into(), kind: meta.kind };
                        self.owners.insert(items.uid, owner);
                    }
                    ControlFlow::Continue(())
                });
                walked.map_err(|interrupt| io::Error::other(format!("{interrupt:?}")))?;
            }
        }
        Ok(())
    }
}

/// Which number has the database with a physical id, while the tail is read.
pub struct Places {
    numbers: HashMap<u32, u16>,
}

impl Places {
    /// At the beginning of the tail; `ids` are those at its end, by number.
    pub fn at_start(learned: &Learned, ids: &[u32]) -> Places {
        let mut numbers: HashMap<u32, u16> =
            ids.iter().enumerate().map(|(number, id)| (*id, number as u16)).collect();
        numbers.extend(&learned.places);
        Places { numbers }
    }

    /// The number of the database with this id; of one that was emptied, the one it had then.
    pub fn number(&self, id: u32) -> Option<u16> {
        self.numbers.get(&id).copied()
    }

    /// Two databases were exchanged.
    pub fn swap(&mut self, (a, id_of_a): (u16, u32), (b, id_of_b): (u16, u32)) {
        self.numbers.extend([(id_of_a, a), (id_of_b, b)]);
    }

    /// The database has a new id.
    pub fn empty(&mut self, number: u16, id: u32, before: u32) {
        self.numbers.extend([(before, number), (id, number)]);
    }
}
