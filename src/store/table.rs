//! `RowTable`: the rows of one tree that are in memory, found by hash and, where they are newer than the tree, walked in order.
//!
//! One table is overlay and cache at once, so that a lookup is one probe. Each cell carries the generation that wrote it:
//! cells newer than the last checkpoint are *dirty* (the overlay) and never leave memory; the others are *clean* copies of
//! what the tree holds (the cache) and may be swept at any time. A checkpoint freezes by counting the generation up: no
//! row moves. While it collects the frozen rows, a write to one of them first puts the frozen version aside.
//!
//! Invariants:
//! - a cell's row is the newest committed version of its key;
//! - every dirty cell's key stands in a run of the generation that made it dirty (so ordered walks find it);
//! - at most two generations are dirty: the active one, and the frozen one while a checkpoint runs.

use super::order::compare_keys;
use super::row;
use crate::base::blob::Blob;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry as TableEntry;
use std::sync::Arc;

/// Counts checkpoints; cells remember the one that was being filled when they were written.
pub type Generation = u32;

/// A row in memory.
pub struct Cell {
    /// The newest version.
    pub row: Blob,
    /// Its table hash, so that growing the table touches no row.
    hash: u64,
    /// When it was written; 0 is "read from the tree".
    generation: Generation,
    /// When it was last used, in the terms of the eviction policy.
    pub access: u32,
}

/// Sorted runs of rows that became dirty in one generation, and the newest ones unsorted.
#[derive(Clone, Default)]
pub struct Dirty {
    runs: Vec<Vec<Blob>>,
    tail: Vec<Blob>,
}

/// A run is this many times as long as the next one, or longer: walks meet a logarithmic number of runs, and a row is merged
/// a logarithmic number of times, even where every write is followed by a walk.
const RUN_RATIO: usize = 4;

impl Dirty {
    fn sort(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        let mut run = std::mem::take(&mut self.tail);
        run.sort_unstable_by(|a, b| compare_keys(a.key(), b.key()));
        while let Some(mut longer) = self.runs.pop_if(|longer| longer.len() < RUN_RATIO * run.len()) {
            longer.append(&mut run);
            longer.sort_by(|a, b| compare_keys(a.key(), b.key())); // finds the two runs and merges them
            longer.dedup_by(|a, b| a.key() == b.key()); // once written, once more after a checkpoint had failed
            run = longer;
        }
        self.runs.push(run);
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.runs.iter().map(Vec::len).sum::<usize>() + self.tail.len()
    }

    /// The rows `from..to` in the order of runs and tail, without walking over those before.
    fn range(&self, from: usize, to: usize) -> impl Iterator<Item = &Blob> {
        let mut before = 0;
        self.runs.iter().chain(std::iter::once(&self.tail)).flat_map(move |run| {
            let start = from.saturating_sub(before).min(run.len());
            let end = to.saturating_sub(before).min(run.len());
            before += run.len();
            &run[start..end.max(start)]
        })
    }
}

/// The rows of one tree that are in memory.
pub struct RowTable {
    cells: HashTable<Cell>,
    /// How many bytes of a row's key are not part of what it is found by (the prefix of key rows).
    skip: usize,
    active: Dirty,
    /// Shared with the checkpoint that collects it, which must not see it sorted anew meanwhile.
    frozen: Arc<Dirty>,
    /// Frozen versions of rows that were written again before the checkpoint had collected them.
    aside: Vec<Blob>,
    bytes: usize,
    /// Cells that are no deletions.
    live: usize,
    sweep_at: usize,
}

impl RowTable {
    /// An empty table whose rows are found by their key without its first `skip` bytes.
    pub fn new(skip: usize) -> RowTable {
        RowTable {
            cells: HashTable::new(),
            skip,
            active: Dirty::default(),
            frozen: Arc::default(),
            aside: Vec::new(),
            bytes: 0,
            live: 0,
            sweep_at: 0,
        }
    }

    /// Rows in memory.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Rows in memory that are no deletions. If the newest versions have as many, none of them is in the tree alone.
    pub fn live(&self) -> usize {
        self.live
    }

    /// Buckets of the table.
    pub fn buckets(&self) -> usize {
        self.cells.num_buckets()
    }

    /// Bytes of the rows in memory and of the table itself.
    pub fn memory(&self) -> usize {
        self.bytes + self.cells.num_buckets() * (size_of::<Cell>() + 1)
    }

    /// The row found by `name`, whose table hash is `hash`; deletions are found too.
    #[inline]
    pub fn find(&mut self, hash: u64, name: &[u8]) -> Option<&mut Cell> {
        let skip = self.skip;
        self.cells.find_mut(hash, |cell| cell.hash == hash && &cell.row.key()[skip..] == name)
    }

    /// Puts a committed row in; `generation` is the active one, `frozen` the one being collected, if any. Returns whether
    /// the row had not been dirty in this generation.
    #[inline]
    pub fn put(
        &mut self,
        row: Blob,
        generation: Generation,
        frozen: Option<Generation>,
        access: u32,
    ) -> bool {
        let skip = self.skip;
        let hash = row.head().hash;
        self.bytes += weight(&row);
        self.live += usize::from(!row::is_deletion(&row));
        let equal = |cell: &Cell| cell.hash == hash && cell.row.key()[skip..] == row.key()[skip..];
        match self.cells.entry(hash, equal, |cell| cell.hash) {
            TableEntry::Occupied(mut entry) => {
                let cell = entry.get_mut();
                self.bytes -= weight(&cell.row);
                self.live -= usize::from(!row::is_deletion(&cell.row));
                let newly_dirty = cell.generation != generation;
                if newly_dirty {
                    if Some(cell.generation) == frozen {
                        self.aside.push(cell.row.clone());
                    }
                    self.active.tail.push(row.clone());
                }
                *cell = Cell { row, hash, generation, access };
                newly_dirty
            }
            TableEntry::Vacant(entry) => {
                self.active.tail.push(row.clone());
                entry.insert(Cell { row, hash, generation, access });
                true
            }
        }
    }

    /// Puts in what the tree holds (or a deletion for "nothing"), unless something newer is there.
    pub fn put_clean(&mut self, row: Blob, access: u32) {
        let skip = self.skip;
        let hash = row.head().hash;
        let equal = |cell: &Cell| cell.hash == hash && cell.row.key()[skip..] == row.key()[skip..];
        if let TableEntry::Vacant(entry) = self.cells.entry(hash, equal, |cell| cell.hash) {
            self.bytes += weight(&row);
            self.live += usize::from(!row::is_deletion(&row));
            entry.insert(Cell { row, hash, generation: 0, access });
        }
    }

    /// Freezes the active generation and returns its rows, to be collected. The caller counts the generation up.
    pub fn freeze(&mut self) -> Arc<Dirty> {
        debug_assert!(self.frozen.runs.is_empty() && self.frozen.tail.is_empty() && self.aside.is_empty());
        self.frozen = Arc::new(std::mem::take(&mut self.active));
        Arc::clone(&self.frozen)
    }

    /// Collects the frozen versions of `rows` number `from..to` (as [`RowTable::freeze`] gave them) into `out`. Rows written again since are missed here and
    /// come with [`RowTable::take_aside`].
    pub fn collect_frozen(
        &self,
        rows: &Dirty,
        from: usize,
        to: usize,
        frozen: Generation,
        out: &mut Vec<Blob>,
    ) {
        for row in rows.range(from, to) {
            let hash = row.head().hash;
            let key = &row.key()[self.skip..];
            let cell = self.cells.find(hash, |cell| cell.hash == hash && &cell.row.key()[self.skip..] == key);
            if let Some(cell) = cell.filter(|cell| cell.generation == frozen) {
                out.push(cell.row.clone());
            }
        }
    }

    /// Takes the frozen versions of rows that were written again since the freeze; to be called until it gives nothing.
    pub fn take_aside(&mut self) -> Vec<Blob> {
        std::mem::take(&mut self.aside)
    }

    /// The checkpoint is in the tree: its rows are clean now.
    /// What it returns is to be dropped without the lock: it may be large.
    pub fn forget_frozen(&mut self) -> Arc<Dirty> {
        self.aside = Vec::new();
        std::mem::take(&mut self.frozen)
    }

    /// The tree knows that the keys of the deletions among `rows` are gone. A cache that is not full would remember them for
    /// ever, and whoever lets keys expire or be evicted has more of them than keys.
    pub fn forget_deletions(&mut self, rows: &[Blob], clean: Generation) {
        let skip = self.skip;
        for row in rows.iter().filter(|row| row::is_deletion(row)) {
            let hash = row.head().hash;
            let equal = |cell: &Cell| cell.hash == hash && cell.row.key()[skip..] == row.key()[skip..];
            if let Ok(entry) = self.cells.find_entry(hash, equal)
                && entry.get().generation <= clean
                && row::is_deletion(&entry.get().row)
            {
                let (cell, _) = entry.remove();
                self.bytes -= weight(&cell.row);
            }
        }
    }

    /// The checkpoint failed: `rows`, the frozen ones, in order and each once, count as written in the active generation.
    /// [`RowTable::restamp`] for each of them completes this. What it returns is to be dropped without the lock.
    pub fn thaw(&mut self, rows: Vec<Blob>) -> Arc<Dirty> {
        debug_assert!(rows.is_sorted_by(|a, b| compare_keys(a.key(), b.key()).is_lt()));
        self.active.runs.push(rows);
        self.forget_frozen()
    }

    /// The second half of [`RowTable::thaw`]: what `frozen` wrote counts as written in `active`.
    pub fn restamp(&mut self, rows: &[Blob], frozen: Generation, active: Generation) {
        for row in rows {
            let (hash, skip) = (row.head().hash, self.skip);
            let key = &row.key()[skip..];
            let found = self.cells.find_mut(hash, |cell| cell.hash == hash && &cell.row.key()[skip..] == key);
            if let Some(cell) = found.filter(|cell| cell.generation == frozen) {
                cell.generation = active;
            }
        }
    }

    /// Removes clean cells (written before or in generation `clean`) of which `should_go` says so, going round the
    /// table bucket by bucket. Looks at no more than `looks` buckets. Returns the bytes freed.
    pub fn sweep(&mut self, clean: Generation, looks: usize, should_go: impl Fn(&Cell) -> bool) -> usize {
        let buckets = self.cells.num_buckets();
        let before = self.bytes;
        for _ in 0..looks.min(buckets) {
            self.sweep_at = (self.sweep_at + 1) % buckets;
            if let Ok(entry) = self.cells.get_bucket_entry(self.sweep_at)
                && entry.get().generation <= clean
                && should_go(entry.get())
            {
                let (cell, _) = entry.remove();
                self.bytes -= weight(&cell.row);
                self.live -= usize::from(!row::is_deletion(&cell.row));
            }
        }
        before - self.bytes
    }

    /// A cell near a random bucket, for sampling.
    pub fn sample(&self, random: u64) -> Option<&Cell> {
        let buckets = self.cells.num_buckets();
        if self.cells.is_empty() {
            return None;
        }
        let start = (random % buckets as u64) as usize;
        (0..buckets).map(|i| (start + i) % buckets).find_map(|i| self.cells.get_bucket(i))
    }

    /// All cells, in no order.
    pub fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter()
    }

    /// Rows written after generation `clean`, in no order.
    pub fn newer_than(&self, clean: Generation) -> impl Iterator<Item = &Blob> {
        self.cells.iter().filter(move |cell| cell.generation > clean).map(|cell| &cell.row)
    }

    /// Prepares [`RowTable::dirty_from`].
    pub fn sort_dirty(&mut self) {
        self.active.sort();
        if !self.frozen.tail.is_empty() {
            Arc::make_mut(&mut self.frozen).sort();
        }
    }

    /// The keys of dirty rows from `from` on, in order, each once. [`RowTable::sort_dirty`] comes first.
    pub fn dirty_from<'a>(&'a self, from: &[u8]) -> DirtyWalk<'a> {
        debug_assert!(self.active.tail.is_empty() && self.frozen.tail.is_empty());
        let runs = self.active.runs.iter().chain(&self.frozen.runs);
        let heads = runs
            .map(|run| &run[run.partition_point(|row| compare_keys(row.key(), from).is_lt())..])
            .filter(|run| !run.is_empty())
            .collect();
        DirtyWalk { heads }
    }

    /// The newest version of the row with this whole key, if it is in memory.
    pub fn newest(&self, row_key: &[u8], hash: u64) -> Option<&Blob> {
        let name = &row_key[self.skip..];
        let found = self.cells.find(hash, |cell| cell.hash == hash && &cell.row.key()[self.skip..] == name);
        found.map(|cell| &cell.row)
    }
}

/// Walks several sorted runs as one.
pub struct DirtyWalk<'a> {
    heads: Vec<&'a [Blob]>,
}

impl<'a> DirtyWalk<'a> {
    /// The smallest key not yet taken.
    pub fn peek(&self) -> Option<&'a Blob> {
        let firsts = self.heads.iter().map(|run| &run[0]);
        firsts.min_by(|a, b| compare_keys(a.key(), b.key()))
    }

    /// Takes the smallest key out of every run that has it.
    pub fn skip(&mut self, key: &[u8]) {
        for run in &mut self.heads {
            while run.first().is_some_and(|row| row.key() == key) {
                *run = &run[1..];
            }
        }
        self.heads.retain(|run| !run.is_empty());
    }
}

/// What a row costs in memory: its bytes, its head and count, and the allocator's rounding.
#[inline]
fn weight(row: &Blob) -> usize {
    row.bytes().len() + 40
}

const _: () = assert!(row::KEY_PREFIX == 10);
const _: () = assert!(size_of::<Cell>() == 24);

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(numbers: impl Iterator<Item = u64>) -> Vec<Blob> {
        let mut scratch = Vec::new();
        numbers.map(|number| row::deletion(&mut scratch, number, &[&number.to_be_bytes()])).collect()
    }

    #[test]
    fn a_walk_after_every_write_keeps_few_runs_in_order() {
        const ROWS: u64 = 5_000;
        let mut dirty = Dirty::default();
        for number in 0..ROWS {
            dirty.tail.extend(rows(std::iter::once(number.wrapping_mul(0x9E37_79B9_7F4A_7C15))));
            dirty.sort();
            let is_longer = |runs: &[Vec<Blob>]| runs[0].len() >= RUN_RATIO * runs[1].len();
            assert!(dirty.runs.windows(2).all(is_longer), "after {number} rows");
        }
        assert!(dirty.runs.len() <= 7, "{} runs", dirty.runs.len());
        assert_eq!(dirty.len() as u64, ROWS);
        let is_sorted = |run: &Vec<Blob>| run.is_sorted_by(|a, b| compare_keys(a.key(), b.key()).is_lt());
        assert!(dirty.runs.iter().all(is_sorted));
    }

    #[test]
    fn a_row_in_two_runs_is_one_when_they_are_merged() {
        let mut dirty = Dirty { runs: vec![rows((0..100).map(|number| number * 2))], tail: rows(0..100) };
        dirty.sort();
        assert_eq!((dirty.runs.len(), dirty.len()), (1, 150));
    }
}
