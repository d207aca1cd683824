//! Tests of hashes.

use super::*;
use crate::store::{Items, NewValue, PartitionSet, Store};
use rand::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashSet};

const LIMITS: Limits = Limits { entries: 8, value: 16 };

fn key() -> Key<'static> {
    Key::new(0, b"key")
}

/// Name → value and deadline.
type Model = BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>;

/// What is seen at a time.
fn seen(model: &Model, now: i64) -> Model {
    let seen = model.iter().filter(|(_, (_, at))| at.is_none_or(|at| at >= now));
    seen.map(|(name, field)| (name.clone(), field.clone())).collect()
}

fn check_against(view: &mut View, model: &Model) {
    let now = view.now();
    let Some(entry) = find(view, &key()).expect("a hash") else {
        assert!(seen(model, now).is_empty());
        return;
    };
    let mut found = Model::new();
    visit(view, &key(), &entry, &mut |field| {
        assert!(found.insert(field.name.to_vec(), (field.value.to_vec(), field.expire_at)).is_none());
    })
    .expect("in memory");
    assert_eq!(found, seen(model, now));
    for (field, (value, at)) in &found {
        let got = get_timed(view, &key(), &entry, field).expect("in memory").expect("is seen");
        assert_eq!((&got.0[..], got.1), (&value[..], *at));
    }
    for (field, _) in model.iter().filter(|(name, _)| !found.contains_key(*name)) {
        assert!(get(view, &key(), &entry, field).expect("in memory").is_none());
    }
    assert!(get(view, &key(), &entry, b"absent").expect("in memory").is_none());
    let (mut count, mut soonest) = (0, None::<i64>);
    scan(view, &key(), &entry, 0, usize::MAX, &mut |field| {
        count += 1;
        soonest = soonest.into_iter().chain(field.expire_at).min();
    })
    .expect("in memory");
    assert_eq!((len(&entry), entry.due_at()), (count, soonest));
    let Some(items) = entry.items() else { return };
    let (mut bytes, mut fields, mut ordered) = (0, BTreeSet::new(), BTreeSet::new());
    view.visit_items(&key(), items.uid, &[], &mut |suffix, row| {
        bytes += (12 + suffix.len() + row.len()) as u64;
        match field_of_row(suffix, row) {
            Some(field) => drop(field.expire_at.map(|at| fields.insert((at, field.name.to_vec())))),
            None => {
                let at = i64::from_be_bytes(suffix[4..12].try_into().expect("eight bytes"));
                ordered.insert((at, suffix[12..].to_vec()));
            }
        }
        ControlFlow::Continue(())
    })
    .expect("in memory");
    assert_eq!((items.bytes, ordered), (bytes, fields));
}

/// Some of what can be done to a hash, on a hash and on the model. Returns how many fields were cleared.
fn step(random: &mut StdRng, transaction: &mut Transaction, model: &mut Model, round: usize, timed: bool) {
    let now = transaction.now();
    let range = if round / 200 % 2 == 0 { 6 } else { 40 };
    let name = |random: &mut StdRng| format!("f{}", random.random_range(0..range)).into_bytes();
    let at = |random: &mut StdRng| now + random.random_range(0..200);
    let kinds = if timed { 8 } else { 5 };
    match random.random_range(0..kinds) {
        0..3 => {
            let deadline = match random.random_range(0..if timed { 4 } else { 2 }) {
                0 => NewDeadline::None,
                1 => NewDeadline::Kept,
                _ => NewDeadline::At(at(random)),
            };
            let pairs = [(name(random), name(random)), (name(random), name(random))];
            let before = seen(model, now).len();
            let all = pairs.iter().map(|(field, value)| (&field[..], &value[..]));
            let fresh = set(transaction, &key(), all, deadline, LIMITS).expect("a hash");
            for (field, value) in pairs {
                let old = seen(model, now).get(&field).and_then(|(_, at)| *at);
                let new = match deadline {
                    NewDeadline::None => None,
                    NewDeadline::Kept => old,
                    NewDeadline::At(at) => Some(at),
                };
                model.insert(field, (value, new));
            }
            assert_eq!(fresh, seen(model, now).len() - before);
        }
        3..5 => {
            let fields = [name(random), name(random), name(random), name(random)];
            let removed = delete(transaction, &key(), fields.iter().map(|field| &field[..]));
            let before = seen(model, now).len();
            fields.iter().for_each(|field| drop(model.remove(field)));
            assert_eq!(removed.expect("a hash"), before - seen(model, now).len());
        }
        5..7 => {
            let fields = [name(random), name(random), name(random)];
            let new = (random.random_range(0..3) > 0).then(|| at(random));
            let later = |old: Option<i64>| (old < new).then_some(new);
            let all = fields.iter().map(|field| &field[..]);
            let found = set_deadlines(transaction, &key(), all, later).expect("a hash");
            for (field, found) in fields.iter().zip(found) {
                let old = seen(model, now).get(field).map(|(_, at)| *at);
                assert_eq!(found, old);
                if let Some(old) = old.filter(|old| later(*old).is_some()) {
                    let field = model.get_mut(field).expect("is seen");
                    assert_eq!(field.1, old);
                    field.1 = new;
                }
            }
        }
        _ => {
            let over = model.len() - seen(model, now).len();
            let budget = random.random_range(1..10);
            let cleared = clear_over(transaction, &key(), budget).expect("in memory");
            assert!(cleared <= over.min(budget), "others may have gone with a write");
        }
    }
}

#[test]
fn small_and_big_hashes_are_maps() {
    for timed in [false, true] {
        let mut random = StdRng::seed_from_u64(11);
        let store = Store::in_memory(4, 16);
        let (mut model, mut now) = (Model::new(), 1000);
        let mut encodings = BTreeSet::new();
        for round in 0..4000 {
            let mut transaction = store.transaction(&PartitionSet::All, now);
            step(&mut random, &mut transaction, &mut model, round, timed);
            check_against(&mut transaction, &model);
            transaction.commit();
            now += i64::from(random.random_range(0..10_u32));
            let mut view = store.view(&PartitionSet::All, now);
            check_against(&mut view, &model);
            encodings.extend(find(&mut view, &key()).expect("a hash").map(|entry| encoding_name(&entry)));
        }
        assert_eq!(encodings.len(), if timed { 3 } else { 2 }, "{encodings:?}");
    }
}

#[test]
fn fields_whose_time_is_up_are_cleared_first_come_first_and_the_key_goes_with_the_last() {
    for limits in [LIMITS, Limits { entries: 100, value: 16 }] {
        let store = Store::in_memory(4, 16);
        let mut transaction = store.transaction(&PartitionSet::All, 0);
        for number in 0..20_u8 {
            let pair = (&[number][..], &b"value"[..]);
            let deadline = NewDeadline::At(100 - i64::from(number));
            set(&mut transaction, &key(), std::iter::once(pair), deadline, limits).expect("a hash");
        }
        transaction.commit();
        let id = store.partition_of(key().slot);
        assert_eq!(
            store.expire(id, 81, 100, clear_over).expect("expires").parts,
            0,
            "at its time it is seen"
        );
        let expired = store.expire(id, 84, 2, clear_over).expect("expires");
        assert!(expired.more && expired.parts == 2, "{expired:?}");
        let mut parts = expired.parts;
        while store.view(&PartitionSet::All, 0).count(0) > 0 {
            let expired = store.expire(id, 1000, 7, clear_over).expect("expires");
            assert!(expired.parts > 0, "{expired:?}");
            parts += expired.parts;
        }
        // A small hash is cleared as a whole, and says no more than it was asked for.
        assert!(parts == 20 || limits.entries == 100, "{parts}");
        assert_eq!(store.expire(id, 2000, 100, clear_over).expect("expires"), Default::default());
    }
}

fn numbered(count: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    (0..count).map(|i| (format!("field{i}").into_bytes(), i.to_string().into_bytes())).collect()
}

fn store_numbered(store: &Store, count: usize) {
    let mut transaction = store.transaction(&PartitionSet::All, 0);
    let pairs = numbered(count);
    let pairs = pairs.iter().map(|(field, value)| Field::plain((field, value)));
    store_all(&mut transaction, &key(), pairs, Some(9), LIMITS).expect("in memory");
    transaction.commit();
}

#[test]
fn a_scan_visits_each_field_once() {
    let store = Store::in_memory(4, 16);
    for count in [3, 500] {
        store_numbered(&store, count);
        let mut view = store.view(&PartitionSet::All, 0);
        let entry = find(&mut view, &key()).expect("a hash").expect("exists");
        assert_eq!(entry.expire_at(), Some(9));
        let (mut cursor, mut found, mut calls) = (0, Vec::new(), 0);
        loop {
            let visit = &mut |field: Field| found.push(field.name.to_vec());
            cursor = scan(&mut view, &key(), &entry, cursor, 10, visit).expect("in memory");
            calls += 1;
            if cursor == 0 {
                break;
            }
        }
        assert!(calls >= count / 20 && calls <= count / 10 + 1);
        assert_eq!(found.len(), count);
        found.sort();
        found.dedup();
        assert_eq!(found.len(), count);
    }
}

#[test]
fn fields_at_random_are_fields() {
    let store = Store::in_memory(4, 16);
    for (size, count) in [(5, 3), (5, 9), (500, 20), (500, 400), (500, 600)] {
        store_numbered(&store, size);
        let mut view = store.view(&PartitionSet::All, 0);
        let entry = find(&mut view, &key()).expect("a hash").expect("exists");
        let mut found = Vec::new();
        random_distinct(&mut view, &key(), &entry, count, &mut |field, _| found.push(field.to_vec()))
            .expect("in memory");
        assert_eq!(found.len(), count.min(size));
        found.sort();
        found.dedup();
        assert_eq!(found.len(), count.min(size));
        let mut drawn = 0;
        random_repeated(&mut view, &key(), &entry, count, &mut |_, _| drawn += 1).expect("in memory");
        assert_eq!(drawn, count);
    }
}

/// A big hash with these rows and this number of fields in its head, however many there are.
fn store_rows(store: &Store, count: u64, rows: &[(Vec<u8>, &[u8])]) {
    let mut transaction = store.transaction(&PartitionSet::All, 0);
    let uid = transaction.new_uid(&key());
    let put =
        |(suffix, value): &(Vec<u8>, &[u8])| transaction.put_new_item(&key(), uid, suffix, &[value]) as u64;
    let bytes = rows.iter().map(put).sum();
    let big = Big { items: Items { uid, bytes }, count, expire_at: None, due_at: None };
    big.put(&mut transaction, &key()).expect("in memory");
    transaction.commit();
}

#[test]
fn fields_at_one_position_are_drawn_soon() {
    let store = Store::in_memory(4, 16);
    let rows: Vec<(Vec<u8>, &[u8])> =
        (0..300_u32).map(|i| ([&[0; 4], &i.to_be_bytes()[..]].concat(), &b"\0v"[..])).collect();
    store_rows(&store, 300, &rows);
    let mut view = store.view(&PartitionSet::All, 0);
    let entry = find(&mut view, &key()).expect("a hash").expect("exists");
    let mut found = HashSet::new();
    random_distinct(&mut view, &key(), &entry, 50, &mut |field, _| {
        assert!(found.insert(field.to_vec()));
    })
    .expect("in memory");
    assert_eq!(found.len(), 50);
}

#[test]
fn a_number_of_fields_that_is_wrong_ends_no_draw() {
    let store = Store::in_memory(4, 16);
    store_rows(&store, 1 << 40, &[(vec![0, 0, 0, 1, b'f'], b"\0v"), (b"ab".to_vec(), b"")]);
    let mut view = store.view(&PartitionSet::All, 0);
    let entry = find(&mut view, &key()).expect("a hash").expect("exists");
    let mut found = 0;
    random_distinct(&mut view, &key(), &entry, 3, &mut |_, _| found += 1).expect("in memory");
    assert!(found <= 2);
}

#[test]
fn nothing_is_drawn_from_a_hash_without_fields() {
    let store = Store::in_memory(4, 16);
    let mut transaction = store.transaction(&PartitionSet::All, 0);
    let head = NewValue { kind: Kind::Hash, encoding: LISTPACK, expire_at: None, due_at: None, items: None };
    transaction.put(&key(), head, &[&[3, 1]]).expect("in memory");
    let entry = find(&mut transaction, &key()).expect("a hash").expect("exists");
    for draw in [random_repeated, random_distinct] {
        draw(&mut transaction, &key(), &entry, 2, &mut |_, _| panic!("nothing")).expect("in memory");
    }
}

#[test]
fn damaged_payloads_end_early() {
    for payload in [&[][..], &[255; 20], &[1, 5, b'a'], &[2, 1, b'a', 1, b'b', 200]] {
        assert!(Fields::new(payload, false).count() <= 1);
        assert!(Fields::new(payload, true).count() <= 1);
    }
}
