//! A digest of data for tests: equal data gives an equal digest, whatever the order of unordered collections and however they
//! are encoded.
//!
//! The construction is that of Redis's DEBUG DIGEST (ordered parts are mixed one after the other, unordered ones are combined
//! with exclusive or), over SHA-256 cut to twenty bytes instead of SHA-1: digests are compared with each other, never with
//! Redis's. Types without a reader here are digested by their rows: for them the encoding shows.

use super::{hash, list, set, string, zset};
use crate::base::number;
use crate::store::{Entry, Interrupt, Key, Kind, View};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::ops::ControlFlow;

/// Twenty bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest([u8; 20]);

impl Digest {
    /// Adds a part whose place among the others does not matter.
    fn add(&mut self, part: &[u8]) {
        for (byte, other) in self.0.iter_mut().zip(Sha256::digest(part)) {
            *byte ^= other;
        }
    }

    /// Adds a part whose place matters.
    fn mix(&mut self, part: &[u8]) {
        self.add(part);
        let all = Sha256::digest(self.0);
        self.0.copy_from_slice(&all[..20]);
    }

    /// A part made of parts in order.
    fn of_parts(parts: &[&[u8]]) -> Digest {
        let mut digest = Digest::default();
        parts.iter().for_each(|part| digest.mix(part));
        digest
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The digest of what `key` holds; all zeros if it does not exist.
pub fn of_value(view: &mut View, key: &Key) -> Result<Digest, Interrupt> {
    let mut digest = Digest::default();
    if let Some(entry) = view.peek(key)? {
        add_value(view, key, &entry, &mut digest)?;
    }
    Ok(digest)
}

fn add_value(view: &mut View, key: &Key, entry: &Entry, digest: &mut Digest) -> Result<(), Interrupt> {
    digest.mix(entry.kind().name().as_bytes());
    match entry.kind() {
        Kind::String => digest.mix(&string::read_whole(view, key, entry)?),
        // Those that are over as well: they go when the primary says so.
        Kind::Hash => hash::scan(view, key, entry, 0, usize::MAX, &mut |field| {
            let deadline = field.expire_at.map(|at| at.to_be_bytes());
            let parts = [field.name, field.value, deadline.as_ref().map_or(&[][..], |at| at)];
            digest.add(&Digest::of_parts(&parts[..2 + usize::from(deadline.is_some())]).0);
        })
        .map(drop)?,
        Kind::SortedSet => zset::visit(view, key, entry, &mut |(score, member)| {
            digest.add(&Digest::of_parts(&[member, number::format_f64(score).as_bytes()]).0);
        })?,
        Kind::Set => set::visit(view, key, entry, &mut |member| {
            digest.add(&Digest::of_parts(&[member]).0);
        })?,
        Kind::List => {
            let len = list::len(entry)?;
            list::visit(view, key, entry, 0..len, &mut |element| digest.mix(&element))?;
        }
        Kind::Stream => add_rows(view, key, entry, digest)?,
    }
    if entry.expire_at().is_some() {
        digest.add(b"expires");
    }
    Ok(())
}

fn add_rows(view: &mut View, key: &Key, entry: &Entry, digest: &mut Digest) -> Result<(), Interrupt> {
    digest.mix(entry.payload());
    let Some(items) = entry.items() else { return Ok(()) };
    view.visit_items(key, items.uid, &[], &mut |suffix, value| {
        digest.add(&Digest::of_parts(&[suffix, value]).0);
        ControlFlow::Continue(())
    })
}

/// The digest of the databases below `databases`, in the locked partitions; all zeros if they are empty.
pub fn of_data(view: &mut View, databases: u16) -> Result<Digest, Interrupt> {
    let mut sum = Digest::default();
    for database in 0..databases {
        let mut names = Vec::new();
        view.visit_keys(database, (crate::base::ids::Slot(0), 0), &mut |_, name, _| {
            names.push(name.to_vec());
            ControlFlow::Continue(())
        })?;
        if !names.is_empty() {
            sum.mix(&u32::from(database).to_be_bytes());
        }
        for name in names {
            let key = Key::new(database, &name);
            let Some(entry) = view.peek(&key)? else { continue };
            let mut digest = Digest::of_parts(&[&name]);
            add_value(view, &key, &entry, &mut digest)?;
            sum.add(&digest.0);
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{PartitionSet, Store};

    fn digest_after(names: &[(&str, &str)]) -> Digest {
        let store = Store::in_memory(4, 2);
        let mut transaction = store.transaction(&PartitionSet::All, 1000);
        for (name, value) in names {
            string::store(&mut transaction, &Key::new(1, name.as_bytes()), value.as_bytes(), None)
                .expect("in memory");
        }
        transaction.commit();
        of_data(&mut store.view(&PartitionSet::All, 1000), 2).expect("in memory")
    }

    #[test]
    fn equal_data_has_an_equal_digest() {
        let both = digest_after(&[("a", "1"), ("b", "2")]);
        assert_eq!(both, digest_after(&[("b", "2"), ("a", "0"), ("a", "1")]));
        assert_ne!(both, digest_after(&[("a", "2"), ("b", "1")]));
        assert_eq!(digest_after(&[]), Digest::default());
    }

    #[test]
    fn a_missing_value_is_all_zeros() {
        let store = Store::in_memory(1, 1);
        let digest =
            of_value(&mut store.view(&PartitionSet::All, 0), &Key::new(0, b"nothing")).expect("in memory");
        assert_eq!(digest.to_string(), "0".repeat(40));
    }
}
