//! Fields at random.

use super::big;
use super::fields::{Fields, List};
use super::{len, visit};
use crate::store::{Entry, Interrupt, Items, Key, View};
use rand::seq::IndexedRandom;
use std::collections::HashMap;
use std::ops::ControlFlow;

/// Calls `take` with `count` fields at random, any of them any number of times.
///
/// In a big hash a random position is sought and the field that follows is taken: one behind a wide gap comes a little more
/// often, as in any store that is ordered by hash. With few fields the gaps differ much, with many draws it shows: there all
/// fields are looked at, and each is as likely as the next.
pub fn random_repeated(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    count: usize,
    take: &mut dyn FnMut(&[u8], &[u8]),
) -> Result<(), Interrupt> {
    let Some(items) = entry.items() else {
        let now = view.now();
        let list: List = Fields::of(entry).filter(|field| !field.is_over(now)).collect();
        draw(&list, count, &mut |field| take(field.name, field.value));
        return Ok(());
    };
    if !is_sought(entry, count) {
        let mut pairs: Vec<(Box<[u8]>, Box<[u8]>)> = Vec::new();
        visit(view, key, entry, &mut |field| pairs.push((field.name.into(), field.value.into())))?;
        draw(&pairs, count, &mut |(field, value)| take(field, value));
        return Ok(());
    }
    for _ in 0..count {
        one_at_random(view, key, items, take)?;
    }
    Ok(())
}

/// Calls `take` with `count` of `all` at random, if there are any.
fn draw<T>(all: &[T], count: usize, take: &mut dyn FnMut(&T)) {
    for _ in 0..count {
        all.choose(&mut rand::rng()).into_iter().for_each(&mut *take);
    }
}

/// Whether `count` fields are better found by seeking each than by looking at all. Where some may be over, how many there are to
/// choose from is known only by looking.
fn is_sought(entry: &Entry, count: usize) -> bool {
    let len = len(entry);
    entry.due_at().is_none() && len > 128 && (count as u64) < len / 3
}

fn one_at_random(
    view: &mut View,
    key: &Key,
    items: Items,
    take: &mut dyn FnMut(&[u8], &[u8]),
) -> Result<(), Interrupt> {
    let mut found = false;
    for from in [&rand::random::<[u8; 4]>()[..], &[]] {
        if found {
            break;
        }
        big::visit(view, key, items, from, &mut |_, field| {
            take(field.name, field.value);
            found = true;
            ControlFlow::Break(())
        })?;
    }
    Ok(())
}

/// Calls `take` with `count` different fields at random, or with all if they are fewer.
pub fn random_distinct(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    count: usize,
    take: &mut dyn FnMut(&[u8], &[u8]),
) -> Result<(), Interrupt> {
    let mut len = len(entry);
    if entry.due_at().is_some() {
        len = 0;
        visit(view, key, entry, &mut |_| len += 1)?;
    }
    if count as u64 >= len {
        return visit(view, key, entry, &mut |field| take(field.name, field.value));
    }
    if let Some(items) = entry.items().filter(|_| is_sought(entry, count))
        && let Some(found) = sought(view, key, items, count)?
    {
        found.iter().for_each(|(field, value)| take(field, value));
        return Ok(());
    }
    // Each field is taken with the chance that is left for it: one pass, each choice equally likely.
    let (mut wanted, mut left) = (count as u64, len);
    visit(view, key, entry, &mut |field| {
        if rand::random_range(0..left.max(1)) < wanted {
            take(field.name, field.value);
            wanted -= 1;
        }
        left = left.saturating_sub(1);
    })
}

/// Seeking finds nothing new so often only if the fields are not spread evenly.
const MISSES_MAX: usize = 64;

/// Different fields by seeking random positions; `None` if one place is hit again and again. Whoever chooses the names can put
/// all fields close to each other.
fn sought(
    view: &mut View,
    key: &Key,
    items: Items,
    count: usize,
) -> Result<Option<HashMap<Vec<u8>, Vec<u8>>>, Interrupt> {
    let (mut found, mut misses) = (HashMap::new(), 0);
    while found.len() < count {
        let before = found.len();
        one_at_random(view, key, items, &mut |field, value| {
            found.entry(field.to_vec()).or_insert_with(|| value.to_vec());
        })?;
        misses = if found.len() > before { 0 } else { misses + 1 };
        if misses > MISSES_MAX {
            return Ok(None);
        }
    }
    Ok(Some(found))
}
