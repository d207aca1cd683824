//! Members by chance, each as likely as any other.

use super::buckets::Big;
use super::packed::Places;
use super::walk::{Member, Walk, members};
use super::{
    Form, Limits, NewForm, find, is_rebuilt, len, payload, put_small, put_without, remove_from, store_all,
};
use crate::store::{Entry, Interrupt, Key, Transaction, View};
use crate::types::error::Error;
use rand::random_range;
use rand::seq::IndexedRandom;
use std::borrow::Cow;
use std::collections::HashMap;

/// Calls `take` with `count` members, any of them any number of times.
pub fn random_repeated(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    count: usize,
    take: &mut dyn FnMut(Member),
) -> Result<(), Interrupt> {
    let Form::Big(big) = Form::of(entry)? else {
        let all = members(view, key, entry)?;
        (0..count).filter_map(|_| all.choose(&mut rand::rng())).for_each(|member| take(member.clone()));
        return Ok(());
    };
    for _ in 0..count {
        let Some(drawn) = big.draw(view, key)? else { break };
        take(Member::Text(drawn.member()));
    }
    Ok(())
}

/// Calls `take` with `count` different members, or with all if they are fewer.
pub fn random_distinct(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    count: usize,
    take: &mut dyn FnMut(Member),
) -> Result<(), Interrupt> {
    let len = len(entry);
    if (count as u64) < len / 3
        && let Some(found) = drawn_one_by_one(view, key, entry, count)?
    {
        found.into_values().for_each(take);
        return Ok(());
    }
    // Each member is taken with the chance that is left for it: one pass, each choice equally likely.
    let (mut wanted, mut left) = (count as u64, len);
    let mut walk = Walk::new(key, entry)?;
    while let Some(run) = walk.next(view)? {
        for member in run {
            if random_range(0..left.max(1)) < wanted {
                take(member);
                wanted -= 1;
            }
            left = left.saturating_sub(1);
        }
    }
    Ok(())
}

/// Draws that give nothing new in a row before a set is looked through as a whole: with a third of the members drawn, that many
/// do not happen.
const MISSES_MAX: usize = 200;

/// Different members of a big set, drawn one by one.
fn drawn_one_by_one(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    count: usize,
) -> Result<Option<HashMap<Vec<u8>, Member>>, Interrupt> {
    let Form::Big(big) = Form::of(entry)? else { return Ok(None) };
    let (mut found, mut misses) = (HashMap::new(), 0);
    while found.len() < count {
        let Some(drawn) = big.draw(view, key)? else { return Ok(None) };
        let (before, member) = (found.len(), drawn.member());
        found.entry(member.to_vec()).or_insert(Member::Text(member));
        misses = if found.len() > before { 0 } else { misses + 1 };
        if misses > MISSES_MAX {
            return Ok(None);
        }
    }
    Ok(Some(found))
}

/// Removes a member by chance, and the key with the last one.
pub fn pop(transaction: &mut Transaction, key: &Key) -> Result<Option<Member>, Error> {
    let Some(entry) = find(transaction, key)? else { return Ok(None) };
    match Form::of(&entry)? {
        Form::Integers(old) => {
            let at = random_range(0..old.len().max(1));
            let Some(value) = old.get(at) else { return Ok(None) };
            put_without(transaction, key, old, at, entry.expire_at())?;
            Ok(Some(Member::Integer(value)))
        }
        Form::Small(old) => {
            let places = Places::of(old);
            let at = random_range(0..places.clone().count().max(1));
            let Some(place) = places.clone().nth(at) else { return Ok(None) };
            let row = [&old[..place.from], &old[place.bytes.end..]];
            put_small(transaction, key, &row, entry.expire_at())?;
            Ok(Some(Member::Text(payload(&entry).slice(place.bytes.start, place.bytes.end))))
        }
        Form::Big(mut big) => {
            let Some(drawn) = big.draw(transaction, key)? else { return Ok(None) };
            big.remove_drawn(transaction, key, &drawn)?;
            big.put(transaction, key)?;
            Ok(Some(Member::Text(drawn.member())))
        }
    }
}

/// Where fewer than one member stays for so many that go, Redis makes a new set of those that stay, which may be one of integers
/// where the old one was not.
const NEW_SET_FROM: u64 = 5;

/// Removes `count` different members by chance, or all if they are fewer; the key goes with the last one.
pub fn pop_some(
    transaction: &mut Transaction,
    key: &Key,
    count: u64,
    limits: Limits,
) -> Result<Vec<Member>, Error> {
    let Some(entry) = find(transaction, key)?.filter(|_| count > 0) else { return Ok(Vec::new()) };
    let all = len(&entry);
    let mut popped = Vec::new();
    if count >= all {
        let popped = members(transaction, key, &entry)?;
        transaction.remove(key)?;
        return Ok(popped);
    }
    let makes_new_set = (all - count).saturating_mul(NEW_SET_FROM) <= count;
    let big = Big::of(&entry);
    if makes_new_set || (big.is_some() && is_rebuilt(count as usize, all)) {
        let stays = split(transaction, key, &entry, count, &mut popped)?;
        let stays: Vec<Cow<[u8]>> = stays.iter().map(Member::as_text).collect();
        let texts: Vec<&[u8]> = stays.iter().map(|text| &**text).collect();
        match big {
            Some(big) if !makes_new_set => {
                Big::build(transaction, key, &texts, entry.expire_at(), Some(big.seed))?;
            }
            _ => {
                let form = NewForm { seed: big.map(|big| big.seed), ..NewForm::within(limits) };
                store_all(transaction, key, &texts, entry.expire_at(), form)?;
            }
        }
        return Ok(popped);
    }
    random_distinct(transaction, key, &entry, count as usize, &mut |member| popped.push(member))?;
    let texts: Vec<Cow<[u8]>> = popped.iter().map(Member::as_text).collect();
    let gone = texts.iter().map(|text| &**text);
    remove_from(transaction, key, &entry, gone)?;
    Ok(popped)
}

/// Puts `count` members by chance into `popped`, and returns the others.
fn split(
    view: &mut View,
    key: &Key,
    entry: &Entry,
    count: u64,
    popped: &mut Vec<Member>,
) -> Result<Vec<Member>, Interrupt> {
    let (mut stays, mut wanted, mut left) = (Vec::new(), count, len(entry));
    let mut walk = Walk::new(key, entry)?;
    while let Some(run) = walk.next(view)? {
        for member in run {
            if random_range(0..left.max(1)) < wanted {
                popped.push(member);
                wanted -= 1;
            } else {
                stays.push(member);
            }
            left = left.saturating_sub(1);
        }
    }
    Ok(stays)
}
