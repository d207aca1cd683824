//! Members at random: each is as likely as the next, because one is found by its rank.

use super::big::Big;
use super::entries::Scored;
use super::{len, small_entries, visit};
use crate::store::{Entry, Interrupt, Key, View};

/// Calls `take` with `count` members, any of them any number of times.
pub fn random_repeated(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    count: usize,
    take: &mut dyn FnMut(Scored),
) -> Result<(), Interrupt> {
    if let Some(mut big) = Big::open(entry)? {
        let len = big.tree.len().max(1);
        for _ in 0..count {
            big.at_rank(view, key, rand::random_range(0..len), take)?;
        }
        return Ok(());
    }
    let members: Vec<Scored> = small_entries(entry.payload()).collect();
    if !members.is_empty() {
        (0..count).for_each(|_| take(members[rand::random_range(0..members.len())]));
    }
    Ok(())
}

/// Calls `take` with `count` different members, or with all if they are fewer.
pub fn random_distinct(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    count: usize,
    take: &mut dyn FnMut(Scored),
) -> Result<(), Interrupt> {
    let len = len(entry);
    if count as u64 >= len {
        return visit(view, key, entry, take);
    }
    if let Some(mut big) = Big::open(entry)?
        && (count as u64) < len / 16
    {
        for rank in rand::seq::index::sample(&mut rand::rng(), len as usize, count) {
            big.at_rank(view, key, rank as u64, take)?;
        }
        return Ok(());
    }
    // Each member is taken with the chance that is left for it: one pass, each choice equally likely.
    let (mut wanted, mut left) = (count as u64, len);
    visit(view, key, entry, &mut |scored| {
        if rand::random_range(0..left.max(1)) < wanted {
            take(scored);
            wanted -= 1;
        }
        left = left.saturating_sub(1);
    })
}
