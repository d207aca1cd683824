//! Ordered walks over the newest versions: the tree, hidden by dirty rows in memory, hidden by staged operations.

use super::Interrupt;
use super::order::compare_keys;
use super::partition::Partition;
use super::record::Operation;
use super::row::{self, KEY_PREFIX};
use super::table::{DirtyWalk, RowTable};
use super::transaction::ScanPosition;
use super::tree::{Tree, TreeName};
use crate::base::blob::Blob;
use crate::base::ids::Uid;
use std::cmp::Ordering;
use std::ops::ControlFlow;

/// What a walk calls for each row: whole key and value.
type Visit<'v> = &'v mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// Visits the items of `uid` from `from` on; `visit` gets suffix and value.
pub fn items(
    partition: &mut Partition,
    uid: Uid,
    from: &[u8],
    visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
) -> Result<(), Interrupt> {
    let prefix = uid.to_bytes();
    let staged = staged_rows(partition, |operation| match operation {
        Operation::Item(row) if row.key().starts_with(&prefix) => Some(row),
        _ => None,
    });
    partition.items.sort_dirty();
    let start = [&prefix[..], from].concat();
    let memory = Memory::new(&partition.items, &staged, &start);
    merge(&partition.tree, TreeName::Items, memory, &start, &prefix, &mut |key, value| {
        visit(&key[Uid::LEN..], value)
    })
}

/// Visits the key rows of a database from `from` on; `visit` gets whole key and value.
pub fn keys(
    partition: &mut Partition,
    database: u16,
    from: ScanPosition,
    visit: Visit,
) -> Result<(), Interrupt> {
    let (index, id) = partition.resolve(database);
    let staged = staged_rows(partition, |operation| match operation {
        Operation::Key(row) if row.key()[..4] == id.to_be_bytes() => Some(row),
        _ => None,
    });
    let start = row::key_prefix(id, from.0, from.1);
    let nothing = RowTable::new(KEY_PREFIX);
    let table = match index {
        Some(index) => {
            partition.databases[index].rows.sort_dirty();
            &partition.databases[index].rows
        }
        None => &nothing,
    };
    let memory = Memory::new(table, &staged, &start);
    merge(&partition.tree, TreeName::Keys, memory, &start, &id.to_be_bytes(), visit)
}

/// The last staged version of each row that `pick` takes, in order.
fn staged_rows(partition: &Partition, pick: impl Fn(&Operation) -> Option<&Blob>) -> Vec<Blob> {
    let mut rows: Vec<Blob> =
        partition.staged.iter().rev().filter_map(|s| pick(&s.operation)).cloned().collect();
    rows.sort_by(|a, b| compare_keys(a.key(), b.key())); // stable: of equal keys the latest comes first
    rows.dedup_by(|later, first| later.key() == first.key());
    rows
}

/// What is newer than the tree, in order.
struct Memory<'a> {
    table: &'a RowTable,
    dirty: DirtyWalk<'a>,
    staged: &'a [Blob],
}

impl<'a> Memory<'a> {
    fn new(table: &'a RowTable, staged: &'a [Blob], from: &[u8]) -> Memory<'a> {
        let begin = staged.partition_point(|row| compare_keys(row.key(), from).is_lt());
        Memory { table, dirty: table.dirty_from(from), staged: &staged[begin..] }
    }

    fn peek(&self) -> Option<&'a Blob> {
        match (self.staged.first(), self.dirty.peek()) {
            (Some(a), Some(b)) => Some(if compare_keys(a.key(), b.key()).is_gt() { b } else { a }),
            (one, other) => one.or(other),
        }
    }

    /// Takes the row that `peek` gave and returns its newest version; `None` if it is gone.
    fn take(&mut self, peeked: &'a Blob) -> Option<&'a Blob> {
        let staged = self.staged.first().filter(|row| row.key() == peeked.key());
        if staged.is_some() {
            self.staged = &self.staged[1..];
        }
        self.dirty.skip(peeked.key());
        let newest = staged.or_else(|| self.table.newest(peeked.key(), peeked.head().hash))?;
        (!row::is_deletion(newest)).then_some(newest)
    }

    /// Visits what stands before `limit` (everything, without one).
    fn drain_to(&mut self, limit: Option<&[u8]>, prefix: &[u8], visit: Visit) -> ControlFlow<()> {
        while let Some(row) = self.peek() {
            if limit.is_some_and(|limit| compare_keys(row.key(), limit) != Ordering::Less) {
                break;
            }
            if !row.key().starts_with(prefix) {
                break;
            }
            if let Some(newest) = self.take(row) {
                visit(newest.key(), newest.value())?;
            }
        }
        ControlFlow::Continue(())
    }
}

fn merge(
    tree: &Tree,
    name: TreeName,
    mut memory: Memory,
    from: &[u8],
    prefix: &[u8],
    visit: Visit,
) -> Result<(), Interrupt> {
    let mut stopped = false;
    if !tree.is_empty() {
        tree.walk(name, from, &mut |key, value| {
            let flow = step(&mut memory, key, value, prefix, visit);
            stopped = matches!(flow, Step::Stop);
            if matches!(flow, Step::Next) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
    }
    if !stopped {
        let _ = memory.drain_to(None, prefix, visit);
    }
    Ok(())
}

/// How a merge goes on after a row of the tree.
enum Step {
    Next,
    /// The tree has no more rows of this prefix.
    TreeDone,
    /// The visitor has enough.
    Stop,
}

fn step(memory: &mut Memory, key: &[u8], value: &[u8], prefix: &[u8], visit: Visit) -> Step {
    if !key.starts_with(prefix) {
        return Step::TreeDone;
    }
    if memory.drain_to(Some(key), prefix, visit).is_break() {
        return Step::Stop;
    }
    let flow = match memory.peek().filter(|row| row.key() == key) {
        Some(row) => memory.take(row).map_or(ControlFlow::Continue(()), |row| visit(row.key(), row.value())),
        None => visit(key, value),
    };
    if flow.is_break() { Step::Stop } else { Step::Next }
}
