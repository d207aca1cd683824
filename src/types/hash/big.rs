//! Big hashes: a row for each field, and one more for each deadline.

use super::fields::{Field, is_over};
use super::{HASHTABLE, NewDeadline, Pair};
use crate::store::{Entry, Interrupt, Items, Key, Kind, NewValue, Transaction, View, hash32, items_after};
use smallvec::SmallVec;
use std::ops::ControlFlow;

/// Flag of a field's row: a deadline follows.
const HAS_DEADLINE: u8 = 1;
/// In front of the rows that keep deadlines in order. No field's position is this.
const ORDER: [u8; 4] = [0xFF; 4];
/// Bytes in front of a field's name in such a row.
const ORDER_PREFIX: usize = ORDER.len() + 8;

type Suffix = SmallVec<[u8; 64]>;

/// The key row of a big hash, decoded.
#[derive(Clone, Copy)]
pub struct Big {
    pub items: Items,
    /// Fields, those that are over and not yet removed as well.
    pub count: u64,
    pub expire_at: Option<i64>,
    /// The first deadline of a field.
    pub due_at: Option<i64>,
}

impl Big {
    /// Of a hash that is not small.
    pub fn of(entry: &Entry) -> Option<Big> {
        let count = entry.payload().try_into().map_or(0, u64::from_be_bytes);
        Some(Big { items: entry.items()?, count, expire_at: entry.expire_at(), due_at: entry.due_at() })
    }

    /// Puts the key row.
    pub fn put(self, transaction: &mut Transaction, key: &Key) -> Result<(), Interrupt> {
        let Big { items, count, expire_at, due_at } = self;
        let meta = NewValue { kind: Kind::Hash, encoding: HASHTABLE, expire_at, due_at, items: Some(items) };
        transaction.put(key, meta, &[&count.to_be_bytes()])
    }
}

/// Where a field stands in the order of its hash.
fn position(name: &[u8]) -> [u8; 4] {
    hash32(name).min(u32::MAX - 1).to_be_bytes()
}

fn suffix(name: &[u8]) -> Suffix {
    let mut suffix = Suffix::new();
    suffix.extend_from_slice(&position(name));
    suffix.extend_from_slice(name);
    suffix
}

fn order_suffix(at: i64, name: &[u8]) -> Suffix {
    let mut suffix = Suffix::new();
    suffix.extend_from_slice(&ORDER);
    suffix.extend_from_slice(&(at as u64).to_be_bytes());
    suffix.extend_from_slice(name);
    suffix
}

/// Where the value begins in a field's row, and the deadline before it.
fn head(row: &[u8]) -> (usize, Option<i64>) {
    if row.first().is_none_or(|flags| flags & HAS_DEADLINE == 0) {
        return (row.len().min(1), None);
    }
    match row.get(1..9) {
        Some(at) => (9, at.try_into().ok().map(|at| u64::from_be_bytes(at) as i64)),
        None => (row.len(), None),
    }
}

/// The field in the row with this suffix; none if it is a row that keeps deadlines in order, behind all fields.
pub fn field_of_row<'a>(suffix: &'a [u8], row: &'a [u8]) -> Option<Field<'a>> {
    if suffix.starts_with(&ORDER) {
        return None;
    }
    let (value_at, expire_at) = head(row);
    Some(Field { name: suffix.get(4..).unwrap_or_default(), value: &row[value_at..], expire_at })
}

/// Visits the fields from the hash position `from` on, in the order of positions, with theirs; until `visit` breaks.
pub fn visit(
    view: &mut View,
    key: &Key,
    items: Items,
    from: &[u8],
    visit: &mut dyn FnMut([u8; 4], Field) -> ControlFlow<()>,
) -> Result<(), Interrupt> {
    view.visit_items(key, items.uid, from, &mut |suffix, row| {
        let Some(field) = field_of_row(suffix, row) else { return ControlFlow::Break(()) };
        match suffix.first_chunk() {
            Some(position) => visit(*position, field),
            None => ControlFlow::Continue(()), // no row that was ever written
        }
    })
}

/// Where the value of a field stands in its row, the row, and its deadline.
pub fn find(
    view: &mut View,
    key: &Key,
    items: Items,
    name: &[u8],
) -> Result<Option<(crate::base::blob::Slice, Option<i64>)>, Interrupt> {
    let Some(row) = view.item(key, items.uid, &suffix(name))? else { return Ok(None) };
    let (value_at, expire_at) = head(&row);
    Ok(Some((row.slice(value_at, row.len()), expire_at)))
}

/// What changes a big hash: its key row is put once, at the end.
pub struct Edit<'t, 's> {
    transaction: &'t mut Transaction<'s>,
    key: &'t Key<'t>,
    big: Big,
    now: i64,
    more: i64,
    grown: i64,
    /// A field's deadline came or went.
    is_reordered: bool,
}

impl<'t, 's> Edit<'t, 's> {
    pub fn of(transaction: &'t mut Transaction<'s>, key: &'t Key<'t>, big: Big) -> Edit<'t, 's> {
        let now = transaction.now();
        Edit { transaction, key, big, now, more: 0, grown: 0, is_reordered: false }
    }

    /// The deadline of a field, if it has one. Not looked for where no field has: whether the field is there is then seen when its row
    /// is put or removed.
    fn deadline_of(&mut self, name: &[u8]) -> Result<Option<i64>, Interrupt> {
        if self.big.due_at.is_none() && !self.is_reordered {
            return Ok(None);
        }
        Ok(find(self.transaction, self.key, self.big.items, name)?.and_then(|(_, expire_at)| expire_at))
    }

    fn reorder(&mut self, name: &[u8], old: Option<i64>, new: Option<i64>) -> Result<(), Interrupt> {
        if old == new {
            return Ok(());
        }
        self.is_reordered = true;
        let uid = self.big.items.uid;
        if let Some(at) = old {
            self.grown += self.transaction.remove_item(self.key, uid, &order_suffix(at, name))?.grown;
        }
        if let Some(at) = new {
            self.grown += self.transaction.put_item(self.key, uid, &order_suffix(at, name), &[&[0]])?.grown;
        }
        Ok(())
    }

    /// Sets a field. Returns whether it is new for those who look.
    pub fn set(&mut self, (name, value): Pair, deadline: NewDeadline) -> Result<bool, Interrupt> {
        let old = self.deadline_of(name)?;
        let was_over = is_over(old, self.now);
        let new = match deadline {
            NewDeadline::None => None,
            NewDeadline::Kept => old.filter(|_| !was_over),
            NewDeadline::At(at) => Some(at),
        };
        self.reorder(name, old, new)?;
        let change =
            put_field(self.transaction, self.key, self.big.items, Field { name, value, expire_at: new })?;
        self.more += i64::from(!change.existed);
        self.grown += change.grown;
        Ok(!change.existed || was_over)
    }

    /// Removes a field. Returns whether anybody could see it.
    pub fn remove(&mut self, name: &[u8]) -> Result<bool, Interrupt> {
        let old = self.deadline_of(name)?;
        self.reorder(name, old, None)?;
        let change = self.transaction.remove_item(self.key, self.big.items.uid, &suffix(name))?;
        self.more -= i64::from(change.existed);
        self.grown += change.grown;
        Ok(change.existed && !is_over(old, self.now))
    }

    /// Gives a field that can be seen the deadline that `choose` makes of the one it has; none leaves it. Returns what `choose` was
    /// told, none without such a field.
    pub fn set_deadline(
        &mut self,
        name: &[u8],
        choose: impl FnOnce(Option<i64>) -> Option<Option<i64>>,
    ) -> Result<Option<Option<i64>>, Interrupt> {
        let found = find(self.transaction, self.key, self.big.items, name)?;
        let Some((value, old)) = found.filter(|(_, old)| !is_over(*old, self.now)) else { return Ok(None) };
        if let Some(new) = choose(old) {
            self.reorder(name, old, new)?;
            let field = Field { name, value: &value, expire_at: new };
            self.grown += put_field(self.transaction, self.key, self.big.items, field)?.grown;
        }
        Ok(Some(old))
    }

    /// Removes fields whose time is up, up to so many, first come first. Returns how many.
    pub fn clear(&mut self, budget: usize) -> Result<usize, Interrupt> {
        let (mut names, now): (Vec<Box<[u8]>>, _) = (Vec::new(), self.now);
        self.transaction.visit_items(self.key, self.big.items.uid, &ORDER, &mut |suffix, _| {
            if names.len() == budget || order_of(suffix).is_none_or(|at| at >= now) {
                return ControlFlow::Break(());
            }
            names.push(suffix[ORDER_PREFIX..].into());
            ControlFlow::Continue(())
        })?;
        for name in &names {
            self.remove(name)?;
        }
        Ok(names.len())
    }

    /// Whether any row changed.
    pub fn is_changed(&self) -> bool {
        self.more != 0 || self.grown != 0 || self.is_reordered
    }

    /// Puts the key row if it changed, or removes it with the last field; else only tells the watchers.
    pub fn finish(self) -> Result<(), Interrupt> {
        if !self.is_changed() {
            self.transaction.touch(self.key);
            return Ok(());
        }
        let Edit { transaction, key, big, more, grown, is_reordered, .. } = self;
        let count = big.count.saturating_add_signed(more);
        if count == 0 {
            return transaction.remove(key);
        }
        let due_at = if is_reordered { soonest(transaction, key, big.items)? } else { big.due_at };
        Big { items: items_after(big.items, grown), count, due_at, ..big }.put(transaction, key)
    }
}

/// The deadline in the suffix of a row that keeps them in order.
fn order_of(suffix: &[u8]) -> Option<i64> {
    let at = suffix.strip_prefix(&ORDER)?.first_chunk::<8>()?;
    Some(u64::from_be_bytes(*at) as i64)
}

/// The first deadline of a field.
fn soonest(view: &mut View, key: &Key, items: Items) -> Result<Option<i64>, Interrupt> {
    let mut found = None;
    view.visit_items(key, items.uid, &ORDER, &mut |suffix, _| {
        found = order_of(suffix);
        ControlFlow::Break(())
    })?;
    Ok(found)
}

fn put_field(
    transaction: &mut Transaction,
    key: &Key,
    items: Items,
    field: Field,
) -> Result<crate::store::ItemChange, Interrupt> {
    let suffix = suffix(field.name);
    match field.expire_at {
        None => transaction.put_item(key, items.uid, &suffix, &[&[0], field.value]),
        Some(at) => {
            let deadline = (at as u64).to_be_bytes();
            transaction.put_item(key, items.uid, &suffix, &[&[HAS_DEADLINE], &deadline, field.value])
        }
    }
}

/// Makes `key` a big hash of these fields, each of them once.
pub fn make(
    transaction: &mut Transaction,
    key: &Key,
    fields: &[Field],
    expire_at: Option<i64>,
) -> Result<(), Interrupt> {
    let uid = transaction.new_uid(key);
    let mut bytes = 0;
    for field in fields {
        let suffix = suffix(field.name);
        bytes += match field.expire_at {
            None => transaction.put_new_item(key, uid, &suffix, &[&[0], field.value]),
            Some(at) => {
                let deadline = (at as u64).to_be_bytes();
                transaction.put_new_item(key, uid, &order_suffix(at, field.name), &[&[0]])
                    + transaction.put_new_item(key, uid, &suffix, &[&[HAS_DEADLINE], &deadline, field.value])
            }
        };
    }
    let due_at = fields.iter().filter_map(|field| field.expire_at).min();
    let items = Items { uid, bytes: bytes as u64 };
    Big { items, count: fields.len() as u64, expire_at, due_at }.put(transaction, key)
}
