//! Big sets: members in buckets, by linear hashing in hash order.
//!
//! A member's position is a 32-bit hash, seeded by chance for each set, so that nobody can choose members that meet. With
//! `n = 2^L + p` buckets the first `2p` have `2^(31-L)` positions each and all others `2^(32-L)`: each insertion above the load
//! splits the bucket `p` of the larger ones, and a removal below half of it joins the last two that were split. So any change
//! touches one bucket or three, whatever the size, and no row is ever looked for in order.
//!
//! ```text
//! key row's payload: seed (8) · members (8) · buckets (4) · members of the widest bucket there ever was (4)
//! item suffix:       first position of the bucket (4, big-endian)
//! item value:        members, as in `packed`; a bucket without members has no row
//! ```
//!
//! Invariants:
//! - a member stands in the bucket of its position, once; the number of members and `Items::bytes` are exact;
//! - no bucket has more members than the widest one;
//! - there are at most two buckets and one more for each member.

use super::packed::{self, Place, Places, length};
use crate::base::blob::Slice;
use crate::store::{Entry, Interrupt, Items, Key, Kind, NewValue, Transaction, View, items_after};
use std::ops::ControlFlow;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Members of a bucket in the mean, above which one is split.
const LOAD: u64 = 8;
/// Bytes of a bucket in the mean, above which one is split as well while buckets have more than one member.
const LOAD_BYTES: u64 = 1024;
/// More are not made: positions have 32 bits.
const BUCKETS_MAX: u32 = 1 << 30;

/// How positions are cut into buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// How many buckets there are, at least 1.
    pub buckets: u32,
}

impl Cut {
    fn level(self) -> u32 {
        self.buckets.ilog2()
    }

    /// How many buckets of this level were split.
    fn splits(self) -> u32 {
        self.buckets - (1 << self.level())
    }

    /// The bucket of a position, counted in the order of positions.
    pub fn index_of(self, position: u32) -> u32 {
        let whole = (u64::from(position) >> (32 - self.level())) as u32;
        let splits = self.splits();
        if whole < splits { position >> (31 - self.level()) } else { whole + splits }
    }

    /// The first position of a bucket.
    pub fn start_of(self, index: u32) -> u32 {
        let splits = self.splits();
        if index < 2 * splits {
            index << (31 - self.level())
        } else {
            (u64::from(index - splits) << (32 - self.level())) as u32
        }
    }

    /// The bucket that is split next: its first position, and that of its upper half.
    fn next_split(self) -> (u32, u32) {
        let start = self.start_of(2 * self.splits());
        (start, start + (1 << (31 - self.level())))
    }

    /// With one bucket fewer.
    fn joined(self) -> Cut {
        Cut { buckets: self.buckets - 1 }
    }

    /// With one bucket more.
    fn split(self) -> Cut {
        Cut { buckets: self.buckets + 1 }
    }
}

/// The key row of a big set, decoded.
#[derive(Clone, Copy, Debug)]
pub struct Big {
    /// Its rows.
    pub items: Items,
    /// How many members there are.
    pub count: u64,
    /// Its buckets.
    pub cut: Cut,
    /// What positions depend on besides the member.
    pub seed: u64,
    widest: u32,
    expire_at: Option<i64>,
}

/// A member that was drawn: its bucket, the row that has it, and where.
pub struct Drawn {
    start: u32,
    row: Slice,
    place: Place,
}

impl Drawn {
    /// The member.
    pub fn member(&self) -> Slice {
        self.row.slice(self.place.bytes.start, self.place.bytes.end)
    }
}

/// Draws that hit no member before the set is looked through as a whole: more than ever happens in one whose head is right.
const MISSES_MAX: u32 = 2000;

impl Big {
    /// Of a key row; `None` if no set can have it.
    pub fn of(entry: &Entry) -> Option<Big> {
        let items = entry.items()?;
        let payload: &[u8; 24] = entry.payload().try_into().ok()?;
        let (seed, rest) = payload.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let (buckets, rest) = rest.split_first_chunk()?;
        let (count, buckets) = (u64::from_be_bytes(*count), u32::from_be_bytes(*buckets));
        let is_possible = (1..=BUCKETS_MAX).contains(&buckets)
            && count <= items.bytes
            && u64::from(buckets) <= count.saturating_mul(2).saturating_add(1);
        is_possible.then_some(Big {
            items,
            count,
            cut: Cut { buckets },
            seed: u64::from_be_bytes(*seed),
            widest: u32::from_be_bytes(*rest.first_chunk()?),
            expire_at: entry.expire_at(),
        })
    }

    /// Puts the key row, or removes it if there are no members any more.
    pub fn put(&self, transaction: &mut Transaction, key: &Key) -> Result<(), Interrupt> {
        if self.count == 0 {
            return transaction.remove(key);
        }
        let meta = NewValue {
            kind: Kind::Set,
            encoding: super::BIG,
            expire_at: self.expire_at,
            due_at: None,
            items: Some(self.items),
        };
        let payload = [
            &self.seed.to_be_bytes()[..],
            &self.count.to_be_bytes(),
            &self.cut.buckets.to_be_bytes(),
            &self.widest.to_be_bytes(),
        ];
        transaction.put(key, meta, &payload)
    }

    /// Where a member stands in the order of the set.
    #[inline]
    pub fn position(&self, member: &[u8]) -> u32 {
        (xxh3_64_with_seed(member, self.seed) >> 32) as u32
    }

    #[inline]
    fn start(&self, member: &[u8]) -> u32 {
        self.cut.start_of(self.cut.index_of(self.position(member)))
    }

    /// The row of the bucket that begins at `start`.
    #[inline]
    pub fn row(&self, view: &mut View, key: &Key, start: u32) -> Result<Option<Slice>, Interrupt> {
        view.item(key, self.items.uid, &start.to_be_bytes())
    }

    /// Whether `member` is there.
    pub fn has(&self, view: &mut View, key: &Key, member: &[u8]) -> Result<bool, Interrupt> {
        let row = self.row(view, key, self.start(member))?;
        Ok(row.is_some_and(|row| packed::find(&row, member).is_some()))
    }

    /// Adds `member`; false if it was there. The key row is the caller's to put.
    pub fn add(
        &mut self,
        transaction: &mut Transaction,
        key: &Key,
        member: &[u8],
    ) -> Result<bool, Interrupt> {
        let start = self.start(member);
        let row = self.row(transaction, key, start)?;
        let old = row.as_deref().unwrap_or_default();
        let mut members = 0;
        for place in Places::of(old) {
            if old[place.bytes] == *member {
                return Ok(false);
            }
            members += 1;
        }
        self.put_bucket(transaction, key, start, members + 1, &[old, &length(member.len()), member])?;
        self.count += 1;
        if self.is_full() {
            self.split(transaction, key)?;
        }
        Ok(true)
    }

    /// Removes `member`; false if it was not there. The key row is the caller's to put.
    pub fn remove(
        &mut self,
        transaction: &mut Transaction,
        key: &Key,
        member: &[u8],
    ) -> Result<bool, Interrupt> {
        let start = self.start(member);
        let Some(row) = self.row(transaction, key, start)? else { return Ok(false) };
        let Some(place) = packed::find(&row, member) else { return Ok(false) };
        self.remove_drawn(transaction, key, &Drawn { start, row, place })?;
        Ok(true)
    }

    /// Removes a member that was drawn from the set as it is. The key row is the caller's to put.
    pub fn remove_drawn(
        &mut self,
        transaction: &mut Transaction,
        key: &Key,
        drawn: &Drawn,
    ) -> Result<(), Interrupt> {
        let (before, after) = (&drawn.row[..drawn.place.from], &drawn.row[drawn.place.bytes.end..]);
        self.put_bucket(transaction, key, drawn.start, 0, &[before, after])?;
        self.count = self.count.saturating_sub(1);
        if self.count > 0 && self.is_sparse() {
            self.join(transaction, key)?;
        }
        Ok(())
    }

    /// Puts the row of a bucket that has so many members, or removes it if it has no bytes.
    fn put_bucket(
        &mut self,
        transaction: &mut Transaction,
        key: &Key,
        start: u32,
        members: u32,
        row: &[&[u8]],
    ) -> Result<(), Interrupt> {
        let suffix = start.to_be_bytes();
        let change = if row.iter().all(|part| part.is_empty()) {
            transaction.remove_item(key, self.items.uid, &suffix)?
        } else {
            transaction.put_item(key, self.items.uid, &suffix, row)?
        };
        self.items = items_after(self.items, change.grown);
        self.widest = self.widest.max(members);
        Ok(())
    }

    fn is_full(&self) -> bool {
        let buckets = u64::from(self.cut.buckets);
        self.cut.buckets < BUCKETS_MAX
            && (self.count > LOAD * buckets
                || (self.items.bytes > LOAD_BYTES * buckets && self.count > buckets))
    }

    fn is_sparse(&self) -> bool {
        let buckets = u64::from(self.cut.buckets);
        buckets > 1
            && self.count < LOAD * buckets / 2
            && (self.items.bytes < LOAD_BYTES * buckets / 2 || self.count.saturating_mul(2) < buckets)
    }

    fn split(&mut self, transaction: &mut Transaction, key: &Key) -> Result<(), Interrupt> {
        let (lower, upper) = self.cut.next_split();
        self.cut = self.cut.split();
        let Some(row) = self.row(transaction, key, lower)? else { return Ok(()) };
        let (mut stays, mut goes) = (Vec::with_capacity(row.len()), Vec::with_capacity(row.len()));
        for place in Places::of(&row) {
            let part = if self.position(&row[place.bytes.clone()]) < upper { &mut stays } else { &mut goes };
            part.extend_from_slice(&row[place.from..place.bytes.end]);
        }
        if goes.is_empty() {
            return Ok(());
        }
        self.put_bucket(transaction, key, lower, 0, &[&stays])?;
        self.put_bucket(transaction, key, upper, 0, &[&goes])
    }

    fn join(&mut self, transaction: &mut Transaction, key: &Key) -> Result<(), Interrupt> {
        self.cut = self.cut.joined();
        let (lower, upper) = self.cut.next_split();
        let Some(came) = self.row(transaction, key, upper)? else { return Ok(()) };
        let stays = self.row(transaction, key, lower)?;
        let stays = stays.as_deref().unwrap_or_default();
        let members = Places::of(stays).count() + Places::of(&came).count();
        self.put_bucket(transaction, key, lower, members as u32, &[stays, &came])?;
        self.put_bucket(transaction, key, upper, 0, &[])
    }

    /// Makes `key` a big set of these members, each there once and at least one of them. With the `seed` of the set they were in, their
    /// positions stay what they were.
    pub fn build(
        transaction: &mut Transaction,
        key: &Key,
        members: &[&[u8]],
        expire_at: Option<i64>,
        seed: Option<u64>,
    ) -> Result<(), Interrupt> {
        let (count, bytes) =
            (members.len() as u64, members.iter().map(|member| member.len() as u64).sum::<u64>());
        let items = Items { uid: transaction.new_uid(key), bytes: 0 };
        let buckets = count.div_ceil(LOAD).max((bytes / LOAD_BYTES).min(count));
        let cut = Cut { buckets: buckets.clamp(1, u64::from(BUCKETS_MAX)) as u32 };
        let seed = seed.unwrap_or_else(|| transaction.secret_of(items.uid));
        let mut big = Big { items, count, cut, seed, widest: 0, expire_at };
        let mut placed: Vec<(u32, &[u8])> =
            members.iter().map(|member| (cut.index_of(big.position(member)), *member)).collect();
        placed.sort_by_key(|(index, _)| *index);
        let mut row = Vec::new();
        for bucket in placed.chunk_by(|(a, _), (b, _)| a == b) {
            row.clear();
            bucket.iter().for_each(|(_, member)| packed::push(&mut row, member));
            let suffix = cut.start_of(bucket[0].0).to_be_bytes();
            big.items.bytes += transaction.put_new_item(key, items.uid, &suffix, &[&row]) as u64;
            big.widest = big.widest.max(bucket.len() as u32);
        }
        big.put(transaction, key)
    }

    /// A member by chance, each as likely as any other. The set is as it was when its head was read.
    ///
    /// A bucket is drawn, each as likely as the next, and a place in it as if it were the widest one: if nothing stands there,
    /// again. That this must not depend on which rows are in memory is why it waits for those on disk.
    pub fn draw(&self, view: &mut View, key: &Key) -> Result<Option<Drawn>, Interrupt> {
        view.wait_for_disk();
        for _ in 0..MISSES_MAX {
            let start = self.cut.start_of(rand::random_range(0..self.cut.buckets));
            let place = rand::random_range(0..self.widest.max(1));
            let Some(row) = self.row(view, key, start)? else { continue };
            if let Some(place) = Places::of(&row).nth(place as usize) {
                return Ok(Some(Drawn { start, row, place }));
            }
        }
        self.draw_among_all(view, key)
    }

    fn draw_among_all(&self, view: &mut View, key: &Key) -> Result<Option<Drawn>, Interrupt> {
        let (mut drawn, mut seen) = (None, 0);
        view.visit_items(key, self.items.uid, &[], &mut |suffix, row| {
            let Ok(start) = suffix.try_into().map(u32::from_be_bytes) else {
                return ControlFlow::Continue(());
            };
            let mut shared = None;
            for place in Places::of(row) {
                seen += 1;
                if rand::random_range(0..seen) == 0_u64 {
                    let row = shared.get_or_insert_with(|| Slice::copy_from(row)).clone();
                    drawn = Some(Drawn { start, row, place });
                }
            }
            ControlFlow::Continue(())
        })?;
        Ok(drawn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_cover_all_positions_once_at_every_number_of_them() {
        for buckets in (1..70).chain([255, 256, 257, BUCKETS_MAX - 1, BUCKETS_MAX]) {
            let cut = Cut { buckets };
            assert_eq!(cut.start_of(0), 0);
            assert_eq!(cut.index_of(u32::MAX), buckets - 1);
            for index in (0..buckets.min(100)).chain(buckets.saturating_sub(100)..buckets) {
                let start = cut.start_of(index);
                assert_eq!(cut.index_of(start), index);
                assert!(index == 0 || cut.index_of(start - 1) == index - 1);
            }
        }
    }

    #[test]
    fn a_split_makes_two_buckets_of_one_and_a_join_one_of_them() {
        let mut cut = Cut { buckets: 1 };
        for _ in 0..300 {
            let ((lower, upper), after) = (cut.next_split(), cut.split());
            assert_eq!(after.start_of(after.index_of(lower) + 1), upper);
            assert_eq!(cut.index_of(lower), cut.index_of(upper));
            assert_eq!((after.joined(), after.joined().next_split()), (cut, (lower, upper)));
            cut = after;
        }
    }
}
