//! Intersections, unions and differences of sets.

use super::walk::{Member, Walk};
use super::{Limits, find, has, len};
use crate::store::{Entry, Interrupt, Key, View};
use crate::types::error::Error;
use hashbrown::HashTable;

/// A key that is looked for among sets, and what it holds, if it exists.
type Found<'k> = (Key<'k>, Option<Entry>);

/// The sets at these keys.
///
/// # Errors
/// Another type, at the first key that has one; the keys behind it are not looked up.
pub fn find_all<'k>(view: &mut View, keys: impl Iterator<Item = Key<'k>>) -> Result<Vec<Found<'k>>, Error> {
    keys.map(|key| Ok((key, find(view, &key)?))).collect()
}

/// Gives `take` the members that are in all of these sets, and ends when it says so.
pub fn intersect(
    view: &mut View,
    sets: &[Found],
    take: &mut dyn FnMut(Member) -> bool,
) -> Result<(), Interrupt> {
    let present: Option<Vec<_>> = sets.iter().map(|(key, entry)| Some((key, entry.as_ref()?))).collect();
    let Some(mut present) = present else { return Ok(()) };
    present.sort_by_key(|(_, entry)| len(entry));
    let Some(((key, smallest), others)) = present.split_first() else { return Ok(()) };
    let mut walk = Walk::new(key, smallest)?;
    let mut buffer = itoa::Buffer::new();
    while let Some(run) = walk.next(view)? {
        for member in run {
            if in_all(view, others, member.text(&mut buffer))? && !take(member) {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn in_all(view: &mut View, sets: &[(&Key, &Entry)], member: &[u8]) -> Result<bool, Interrupt> {
    for (key, entry) in sets {
        if !has(view, key, entry, member)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Members, each once, in the order they came.
#[derive(Default)]
pub struct Distinct {
    members: Vec<Member>,
    by_text: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
}

impl Distinct {
    /// The members.
    pub fn into_members(self) -> Vec<Member> {
        self.members
    }

    fn hash(&self, text: &[u8]) -> u64 {
        std::hash::BuildHasher::hash_one(&self.hasher, text)
    }

    /// Whether a member with these bytes is there.
    pub fn has(&self, text: &[u8]) -> bool {
        let is_it = |&at: &u32| self.members[at as usize].text(&mut itoa::Buffer::new()) == text;
        self.by_text.find(self.hash(text), is_it).is_some()
    }

    fn add(&mut self, member: Member) {
        let mut buffer = itoa::Buffer::new();
        let text = member.text(&mut buffer);
        if !self.has(text) {
            let hash = self.hash(text);
            let (hasher, members) = (&self.hasher, &self.members);
            self.by_text.insert_unique(hash, members.len() as u32, |&at| {
                let mut buffer = itoa::Buffer::new();
                std::hash::BuildHasher::hash_one(hasher, members[at as usize].text(&mut buffer))
            });
            self.members.push(member);
        }
    }

    fn add_all(&mut self, view: &mut View, sets: &[Found]) -> Result<(), Interrupt> {
        for (key, entry) in sets {
            let Some(entry) = entry else { continue };
            let mut walk = Walk::new(key, entry)?;
            while let Some(run) = walk.next(view)? {
                run.for_each(|member| self.add(member));
            }
        }
        Ok(())
    }
}

/// The members that are in any of these sets.
pub fn unite(view: &mut View, sets: &[Found]) -> Result<Vec<Member>, Interrupt> {
    let mut all = Distinct::default();
    all.add_all(view, sets)?;
    Ok(all.into_members())
}

/// What is left of a set.
#[derive(Default)]
pub struct Difference {
    /// Its members.
    pub members: Vec<Member>,
    /// Redis takes members out of a copy that does not hold them as integers, and so holds none of those that are left so.
    pub as_texts: bool,
}

/// The members of the first set that are in none of the others.
pub fn subtract(view: &mut View, sets: &[Found], limits: Limits) -> Result<Difference, Interrupt> {
    let mut difference = Difference::default();
    let Some(((key, Some(first)), others)) = sets.split_first() else { return Ok(difference) };
    if others.iter().any(|(other, _)| other.name == key.name) {
        return Ok(difference);
    }
    let sizes = || sets.iter().filter_map(|(_, entry)| entry.as_ref()).map(len);
    let looks = len(first).saturating_mul(sizes().count() as u64) / 2;
    if looks <= sizes().sum::<u64>() {
        let others: Vec<_> = others.iter().filter_map(|(key, entry)| Some((key, entry.as_ref()?))).collect();
        each_text(view, key, first, &mut |view, member, text| {
            if !in_any(view, &others, text)? {
                difference.members.push(member.clone());
            }
            Ok(())
        })?;
        return Ok(difference);
    }
    let mut taken = Distinct::default();
    taken.add_all(view, others)?;
    let (mut all, mut are_integers) = (0, true);
    each_text(view, key, first, &mut |_, member, text| {
        all += 1;
        are_integers &= crate::base::number::parse_i64(text).is_some();
        if !taken.has(text) {
            difference.members.push(member.clone());
        }
        Ok(())
    })?;
    difference.as_texts = !are_integers || all > limits.integers;
    Ok(difference)
}

fn in_any(view: &mut View, sets: &[(&Key, &Entry)], member: &[u8]) -> Result<bool, Interrupt> {
    for (key, entry) in sets {
        if has(view, key, entry, member)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn each_text(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    visit: &mut dyn FnMut(&mut View, &Member, &[u8]) -> Result<(), Interrupt>,
) -> Result<(), Interrupt> {
    let mut buffer = itoa::Buffer::new();
    let mut walk = Walk::new(key, entry)?;
    while let Some(run) = walk.next(view)? {
        for member in run {
            visit(view, &member, member.text(&mut buffer))?;
        }
    }
    Ok(())
}
