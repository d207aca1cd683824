//! Lists against a plain model: random operations on small and large ones, with exact counts and bytes.

use super::*;
use crate::store::{PartitionSet, Store};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::VecDeque;

const LIMITS: Limits = Limits { elements: 16, bytes: 200 };

type Model = VecDeque<Vec<u8>>;

fn key() -> Key<'static> {
    Key::new(0, b"list")
}

fn random_element(random: &mut StdRng) -> Vec<u8> {
    let len = match random.random_range(0..100) {
        0 => random.random_range(0..4000),
        1..10 => random.random_range(0..200),
        _ => random.random_range(0..12),
    };
    let letter = random.random_range(b'a'..=b'e');
    vec![letter; len]
}

fn content(transaction: &mut Transaction) -> Model {
    let Some(entry) = find(transaction, &key()).expect("a list") else { return Model::new() };
    let mut found = Model::new();
    let len = len(&entry).expect("whole");
    visit(transaction, &key(), &entry, 0..len, &mut |element| found.push_back(element.to_vec()))
        .expect("whole");
    found
}

/// The rows that a list has are as many bytes as its key row says.
fn check_bytes(transaction: &mut Transaction) {
    let Some(entry) = find(transaction, &key()).expect("a list") else { return };
    let Some(items) = entry.items() else { return };
    let mut bytes = 0;
    transaction
        .visit_items(&key(), items.uid, &[], &mut |suffix, value| {
            bytes += (12 + suffix.len() + value.len()) as u64;
            ControlFlow::Continue(())
        })
        .expect("in memory");
    assert_eq!(items.bytes, bytes);
}

fn change(random: &mut StdRng, transaction: &mut Transaction, model: &mut Model, grows: bool) {
    let entry = find(transaction, &key()).expect("a list");
    let side = if random.random() { Side::Left } else { Side::Right };
    let pushes = if grows { 6 } else { 2 };
    match (random.random_range(0..pushes + 8), entry) {
        (n, entry) if n < pushes || entry.is_none() => {
            let count = if random.random_range(0..20) == 0 { 200 } else { random.random_range(1..5) };
            let new: Vec<Vec<u8>> = (0..count).map(|_| random_element(random)).collect();
            let elements = new.iter().map(Vec::as_slice);
            let len = push(transaction, &key(), entry.as_ref(), side, elements, LIMITS).expect("in memory");
            for element in new {
                if side == Side::Left { model.push_front(element) } else { model.push_back(element) }
            }
            assert_eq!(len, model.len() as u64);
        }
        (n, Some(entry)) => change_existing(random, transaction, model, &entry, (n - pushes, side)),
        (_, None) => unreachable!("a push was chosen"),
    }
}

fn change_existing(
    random: &mut StdRng,
    transaction: &mut Transaction,
    model: &mut Model,
    entry: &Entry,
    (what, side): (i32, Side),
) {
    let len = model.len();
    match what {
        0 | 1 => {
            let count = if random.random_range(0..8) == 0 { 70 } else { 1 };
            let taken = pop(transaction, &key(), entry, side, count).expect("in memory");
            let wanted: Vec<Vec<u8>> = (0..count)
                .map_while(|_| if side == Side::Left { model.pop_front() } else { model.pop_back() })
                .collect();
            assert_eq!(taken.iter().map(|element| element.to_vec()).collect::<Vec<_>>(), wanted);
        }
        2 => {
            let (index, element) = (random.random_range(0..len + 2), random_element(random));
            let is_there =
                set(transaction, &key(), entry, index as i64, &element, LIMITS).expect("in memory");
            assert_eq!(is_there, index < len);
            if is_there {
                model[index] = element;
            }
        }
        3 | 4 => {
            let (pivot, element, is_after) =
                (random_element(random), random_element(random), random.random());
            let at = model.iter().position(|other| *other == pivot);
            let new_len =
                insert(transaction, &key(), entry, (is_after, &pivot), &element, LIMITS).expect("whole");
            assert_eq!(new_len, at.map(|_| len as u64 + 1));
            if let Some(at) = at {
                model.insert(at + usize::from(is_after), element);
            }
        }
        5 | 6 => {
            let (element, max) = (random_element(random), random.random_range(1..5));
            let removed = remove(transaction, &key(), entry, (side, max), &element).expect("in memory");
            let mut left = max;
            let is_kept = |other: &Vec<u8>| {
                let goes = *other == element && left > 0;
                left -= u64::from(goes);
                !goes
            };
            if side == Side::Left {
                model.retain(is_kept);
            } else {
                let kept: Vec<Vec<u8>> = std::mem::take(model).into_iter().rev().filter(is_kept).collect();
                *model = kept.into_iter().rev().collect();
            }
            assert_eq!(removed, (len - model.len()) as u64);
        }
        _ => {
            let start = random.random_range(0..len.min(40) + 1) as i64;
            let stop = (len - random.random_range(0..len.min(40))) as i64;
            let kept = span(len as u64, start, stop);
            trim(transaction, &key(), entry, kept.clone()).expect("in memory");
            *model = model.drain(kept.start as usize..kept.end as usize).collect();
        }
    }
}

fn check_reads(random: &mut StdRng, transaction: &mut Transaction, model: &Model) {
    assert_eq!(content(transaction), *model);
    check_bytes(transaction);
    let Some(entry) = find(transaction, &key()).expect("a list") else { return };
    let count = model.len() as i64;
    for _ in 0..4 {
        let index = random.random_range(-count - 2..count + 2);
        let element = get(transaction, &key(), &entry, index).expect("in memory");
        let wanted = place(count as u64, index).map(|place| &model[place as usize]);
        assert_eq!(element.as_deref(), wanted.map(Vec::as_slice));
    }
    let (from, max) = (random.random_range(0..count), random.random_range(1..80));
    for side in [Side::Left, Side::Right] {
        let mut found = Vec::new();
        walk(transaction, &key(), &entry, side, &mut |place, element| {
            found.push((place, element.to_vec()));
            if found.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .expect("in memory");
        let places = (0..).zip(model.iter().cloned());
        let wanted: Vec<_> = if side == Side::Left {
            places.take(max).collect()
        } else {
            places.collect::<Vec<_>>().into_iter().rev().take(max).collect()
        };
        assert_eq!(found, wanted);
    }
    let part = span(count as u64, from, from + 50);
    let mut found = Vec::new();
    visit(transaction, &key(), &entry, part.clone(), &mut |element| found.push(element.to_vec()))
        .expect("whole");
    assert!(found.iter().eq(model.range(part.start as usize..part.end as usize)));
}

#[test]
fn random_changes_agree_with_a_model() {
    for seed in 0..6 {
        let mut random = StdRng::seed_from_u64(seed);
        let store = Store::in_memory(1, 1);
        let mut model = Model::new();
        for round in 0..1500 {
            let mut transaction = store.transaction(&PartitionSet::All, 0);
            change(&mut random, &mut transaction, &mut model, round % 500 < 250);
            if round % 10 == 0 {
                check_reads(&mut random, &mut transaction, &model);
            }
            transaction.commit();
        }
    }
}

#[test]
fn a_queue_of_many_is_filled_and_emptied_in_order() {
    for (in_at, out_at) in [(Side::Left, Side::Right), (Side::Right, Side::Left), (Side::Right, Side::Right)]
    {
        let store = Store::in_memory(1, 1);
        let mut transaction = store.transaction(&PartitionSet::All, 0);
        for number in 0..5000_u32 {
            let entry = find(&mut transaction, &key()).expect("a list");
            let element = number.to_be_bytes();
            push(&mut transaction, &key(), entry.as_ref(), in_at, std::iter::once(&element[..]), LIMITS)
                .expect("in memory");
        }
        for number in 0..5000_u32 {
            let entry = find(&mut transaction, &key()).expect("a list").expect("not empty");
            let taken = pop(&mut transaction, &key(), &entry, out_at, 1).expect("in memory");
            let wanted = if in_at == out_at { 4999 - number } else { number };
            assert_eq!(&*taken[0], &wanted.to_be_bytes());
        }
        assert!(find(&mut transaction, &key()).expect("a list").is_none());
    }
}

#[test]
fn places_are_those_of_redis() {
    for (start, stop, range) in [
        (0, -1, 0..5),
        (1, 1, 1..2),
        (-2, -1, 3..5),
        (-100, 100, 0..5),
        (3, 1, 0..0),
        (5, 9, 0..0),
        (0, -6, 0..0),
        (0, -5, 0..1),
        (i64::MIN, i64::MAX, 0..5),
        (0, i64::MIN, 0..0),
    ] {
        assert_eq!(span(5, start, stop), range, "{start} {stop}");
    }
    assert_eq!([place(5, -5), place(5, -6), place(5, 5), place(5, i64::MIN)], [Some(0), None, None, None]);
}

#[test]
fn damaged_rows_give_errors() {
    let store = Store::in_memory(1, 1);
    let mut transaction = store.transaction(&PartitionSet::All, 0);
    let elements = vec![&b"element"[..]; 400];
    store_all(&mut transaction, &key(), elements.into_iter(), None, LIMITS).expect("in memory");
    let entry = find(&mut transaction, &key()).expect("a list").expect("exists");
    let payload = entry.payload().to_vec();
    for at in 0..payload.len() {
        for value in [0, 1, 255, payload[at] ^ 1] {
            let mut damaged = payload.clone();
            damaged[at] = value;
            transaction.put(&key(), entry.meta(), &[&damaged]).expect("in memory");
            let entry = find(&mut transaction, &key()).expect("a list").expect("exists");
            let start = transaction.savepoint();
            let _ = walk(&mut transaction, &key(), &entry, Side::Left, &mut |_, _| ControlFlow::Continue(()));
            let _ = get(&mut transaction, &key(), &entry, -40);
            let _ = remove(&mut transaction, &key(), &entry, (Side::Right, 1), b"nothing");
            let _ = pop(&mut transaction, &key(), &entry, Side::Left, 300);
            transaction.rollback_to(&start);
            let _ = trim(&mut transaction, &key(), &entry, 1..2);
            transaction.rollback_to(&start);
            let _ =
                push(&mut transaction, &key(), Some(&entry), Side::Left, std::iter::once(&b"x"[..]), LIMITS);
            transaction.rollback_to(&start);
        }
    }
}
