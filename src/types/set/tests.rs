//! Sets against a plain model.

use super::*;
use crate::store::{PartitionSet, Store, Transaction};
use rand::prelude::*;
use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

const LIMITS: Limits = Limits { integers: 12, entries: 8, value: 16 };

type Model = BTreeSet<Vec<u8>>;

fn key() -> Key<'static> {
    Key::new(0, b"key")
}

fn texts(members: &[Vec<u8>]) -> impl Named<'_> {
    members.iter().map(Vec::as_slice)
}

fn entry(view: &mut View) -> Entry {
    find(view, &key()).expect("a set").expect("exists")
}

fn check_against(view: &mut View, model: &Model) {
    let Some(entry) = find(view, &key()).expect("a set") else {
        assert!(model.is_empty());
        return;
    };
    assert_eq!(len(&entry), model.len() as u64);
    let mut found = Vec::new();
    visit(view, &key(), &entry, &mut |member| found.push(member.to_vec())).expect("in memory");
    if encoding_name(&entry) == "intset" {
        assert!(found.is_sorted_by_key(|text| number::parse_i64(text).expect("an integer")));
    }
    found.sort();
    assert!(found.iter().eq(model));
    for member in model {
        assert!(has(view, &key(), &entry, member).expect("in memory"));
    }
    assert!(!has(view, &key(), &entry, b"absent").expect("in memory"));
    let Some(big) = Big::of(&entry) else { return };
    let mut bytes = 0;
    view.visit_items(&key(), big.items.uid, &[], &mut |suffix, row| {
        bytes += (12 + suffix.len() + row.len()) as u64;
        assert!(!row.is_empty());
        let start = u32::from_be_bytes(suffix.try_into().expect("a position"));
        for member in packed::members(row) {
            assert_eq!(big.cut.start_of(big.cut.index_of(big.position(member))), start);
        }
        ControlFlow::Continue(())
    })
    .expect("in memory");
    assert_eq!(entry.items().expect("big").bytes, bytes);
}

#[test]
fn sets_of_every_form_are_sets() {
    let mut random = StdRng::seed_from_u64(12);
    let store = Store::in_memory(4, 16);
    let mut model = Model::new();
    for round in 0..4000 {
        let (range, letter) = [(6, ""), (30, ""), (6, "m"), (300, "m")][round / 250 % 4];
        let mut member = || format!("{letter}{}", random.random_range(0..range)).into_bytes();
        let mut some: Vec<Vec<u8>> = (0..=round % 4).map(|_| member()).collect();
        if round % 97 == 0 {
            some.extend((0..90).map(|_| member()));
        }
        let mut transaction = store.transaction(&PartitionSet::All, 0);
        if round % 8 < 5 - round / 125 % 2 * 2 {
            let added = add(&mut transaction, &key(), texts(&some), LIMITS).expect("a set");
            let new = some.iter().filter(|member| model.insert((*member).clone())).count();
            assert_eq!(added, new);
        } else if round % 8 < 7 {
            let removed = remove(&mut transaction, &key(), texts(&some)).expect("a set");
            assert_eq!(removed, some.iter().filter(|member| model.remove(*member)).count());
        } else {
            let count = [0, 1, 2, 50, 200][round / 8 % 5];
            let popped = if count == 1 {
                pop(&mut transaction, &key()).expect("a set").into_iter().collect()
            } else {
                pop_some(&mut transaction, &key(), count, LIMITS).expect("a set")
            };
            assert_eq!(popped.len(), model.len().min(count as usize));
            assert!(popped.iter().all(|member| model.remove(&member.to_vec())));
        }
        check_against(&mut transaction, &model);
        transaction.commit();
        check_against(&mut store.view(&PartitionSet::All, 0), &model);
    }
}

fn numbered(range: std::ops::Range<usize>) -> Vec<Vec<u8>> {
    range.map(|i| format!("member:{i}").into_bytes()).collect()
}

fn change(store: &Store, work: impl FnOnce(&mut Transaction)) {
    let mut transaction = store.transaction(&PartitionSet::All, 0);
    work(&mut transaction);
    transaction.commit();
}

fn store_numbered(store: &Store, count: usize) {
    change(store, |transaction| {
        let members = numbered(0..count);
        let members: Vec<&[u8]> = texts(&members).collect();
        store_all(transaction, &key(), &members, Some(9), NewForm::within(LIMITS)).expect("in memory");
    });
}

#[test]
fn buckets_grow_and_shrink_with_the_set() {
    let store = Store::in_memory(4, 16);
    let all = numbered(0..3000);
    let buckets =
        |store: &Store| Big::of(&entry(&mut store.view(&PartitionSet::All, 0))).expect("big").cut.buckets;
    for member in &all {
        change(&store, |transaction| {
            assert_eq!(add(transaction, &key(), std::iter::once(&member[..]), LIMITS).expect("a set"), 1);
        });
    }
    assert!((300..=376).contains(&buckets(&store)));
    check_against(&mut store.view(&PartitionSet::All, 0), &all.iter().cloned().collect());
    for member in &all[100..] {
        change(&store, |transaction| {
            assert_eq!(remove(transaction, &key(), std::iter::once(&member[..])).expect("a set"), 1);
        });
    }
    assert!((12..=26).contains(&buckets(&store)));
    check_against(&mut store.view(&PartitionSet::All, 0), &all[..100].iter().cloned().collect());
}

#[test]
fn large_members_do_not_share_a_bucket_for_long() {
    let store = Store::in_memory(4, 16);
    let mut model = Model::new();
    for i in 0..40_u8 {
        let member = vec![i; 50_000];
        change(&store, |transaction| {
            add(transaction, &key(), std::iter::once(&member[..]), LIMITS).expect("a set");
        });
        model.insert(member);
    }
    let mut view = store.view(&PartitionSet::All, 0);
    check_against(&mut view, &model);
    let big = Big::of(&entry(&mut view)).expect("big");
    assert!((20..=41).contains(&big.cut.buckets), "{}", big.cut.buckets);
}

#[test]
fn encodings_are_those_of_redis() {
    let store = Store::in_memory(4, 16);
    change(&store, |transaction| {
        let mut after = |members: std::ops::Range<i64>, more: &[&str]| {
            let members: Vec<Vec<u8>> = members.map(|i| i.to_string().into_bytes()).collect();
            add(transaction, &key(), texts(&members), LIMITS).expect("a set");
            for member in more {
                add(transaction, &key(), std::iter::once(member.as_bytes()), LIMITS).expect("a set");
            }
            let name = encoding_name(&find(transaction, &key()).expect("a set").expect("exists"));
            transaction.remove(&key()).expect("in memory");
            name
        };
        assert_eq!(after(0..12, &[]), "intset");
        assert_eq!(after(0..13, &[]), "hashtable");
        assert_eq!(after(0..12, &["-1"]), "hashtable");
        assert_eq!(after(0..2, &["01"]), "hashtable");
        assert_eq!(after(0..2, &["9223372036854775807"]), "intset");
        assert_eq!(after(0..2, &["9223372036854775808"]), "hashtable");
    });
}

#[test]
fn a_scan_visits_what_is_there_all_the_time_once_while_the_set_grows_and_shrinks() {
    let store = Store::in_memory(4, 16);
    for (grows, count) in [(false, 5), (false, 2000), (true, 500), (true, 2000)] {
        store_numbered(&store, count);
        let (mut cursor, mut found, mut calls) = (0, HashMap::<Vec<u8>, u32>::new(), 0);
        loop {
            change(&store, |transaction| {
                let entry = entry(transaction);
                let visit = &mut |member: &[u8]| *found.entry(member.to_vec()).or_default() += 1;
                cursor = scan(transaction, &key(), &entry, cursor, 10, visit).expect("in memory");
                calls += 1;
                // What is above 10,000 comes and goes.
                let more = numbered(10_000 + calls * 30..10_000 + calls * 30 + 30);
                if grows && calls < 60 {
                    add(transaction, &key(), texts(&more), LIMITS).expect("a set");
                } else if grows {
                    let gone = numbered(10_000..12_000);
                    remove(transaction, &key(), texts(&gone)).expect("a set");
                }
            });
            if cursor == 0 {
                break;
            }
        }
        assert!(calls >= count / 40 && calls < count, "{calls}");
        for member in numbered(0..count) {
            assert_eq!(found.get(&member), Some(&1));
        }
    }
}

#[test]
fn members_by_chance_are_as_many_as_asked_for_and_different() {
    let store = Store::in_memory(4, 16);
    for (size, count) in [(5, 3), (5, 9), (900, 20), (900, 400), (900, 1000)] {
        store_numbered(&store, size);
        let mut view = store.view(&PartitionSet::All, 0);
        let entry = entry(&mut view);
        let mut found = Model::new();
        random_distinct(&mut view, &key(), &entry, count, &mut |member| {
            assert!(found.insert(member.to_vec()));
        })
        .expect("in memory");
        assert_eq!(found.len(), count.min(size));
        let mut drawn = 0;
        random_repeated(&mut view, &key(), &entry, count, &mut |_| drawn += 1).expect("in memory");
        assert_eq!(drawn, count);
    }
}

/// Each member of a set whose buckets differ in width is drawn as often as the next, within what chance allows: the sum of
/// squares is compared with its mean and six deviations.
#[test]
fn each_member_is_as_likely_as_the_next() {
    let store = Store::in_memory(4, 16);
    for size in [5, 40, 100, 700] {
        store_numbered(&store, 300.min(size));
        change(&store, |transaction| {
            add(transaction, &key(), texts(&numbered(0..size)), LIMITS).expect("a set");
        });
        let mut view = store.view(&PartitionSet::All, 0);
        let entry = entry(&mut view);
        let (draws, mut times) = (size * 100, HashMap::<Vec<u8>, f64>::new());
        random_repeated(&mut view, &key(), &entry, draws, &mut |member| {
            *times.entry(member.to_vec()).or_default() += 1.0;
        })
        .expect("in memory");
        let expected = draws as f64 / size as f64;
        let squares: f64 = times.values().map(|times| (times - expected).powi(2) / expected).sum();
        let missed = (size - times.len()) as f64 * expected;
        let freedom = (size - 1) as f64;
        assert!((squares + missed - freedom).abs() < 6.0 * (2.0 * freedom).sqrt() + 6.0, "{size}: {squares}");
    }
}

#[test]
fn a_copy_in_another_partition_is_the_same_set() {
    let store = Store::in_memory(16, 2);
    store_numbered(&store, 500);
    change(&store, |transaction| {
        let (entry, to) = (entry(transaction), Key::new(1, b"another"));
        crate::types::keyspace::copy(transaction, &key(), &entry, &to).expect("in memory");
        let copied = find(transaction, &to).expect("a set").expect("exists");
        assert_eq!((len(&copied), copied.expire_at()), (500, Some(9)));
        for member in numbered(0..500) {
            assert!(has(transaction, &to, &copied, &member).expect("in memory"));
        }
    });
}

#[test]
fn what_comes_out_of_sets_is_what_comes_out_of_models() {
    let mut random = StdRng::seed_from_u64(5);
    let store = Store::in_memory(4, 16);
    let names = [b"a", b"b", b"c"];
    for round in 0..120 {
        let mut transaction = store.transaction(&PartitionSet::All, 0);
        let mut models = Vec::new();
        for name in &names {
            let size = [0, 3, 10, 60, 300][random.random_range(0..5)];
            let letter = if random.random_range(0..3) == 0 { "" } else { "m" };
            let range = [8, 400][round % 2];
            let model: Model = (0..size)
                .map(|_| format!("{letter}{}", random.random_range(0..range)).into_bytes())
                .collect();
            let members: Vec<&[u8]> = model.iter().map(Vec::as_slice).collect();
            store_all(&mut transaction, &Key::new(0, *name), &members, None, NewForm::within(LIMITS))
                .expect("in memory");
            models.push(model);
        }
        let view = &mut *transaction;
        let sets = algebra::find_all(view, names.iter().map(|name| Key::new(0, *name))).expect("sets");
        let sorted = |members: Vec<Member>| {
            let count = members.len();
            let model: Model = members.iter().map(Member::to_vec).collect();
            assert_eq!(model.len(), count, "each once");
            model
        };
        let mut common = Vec::new();
        algebra::intersect(view, &sets, &mut |member| {
            common.push(member);
            true
        })
        .expect("in memory");
        assert_eq!(sorted(common), &(&models[0] & &models[1]) & &models[2]);
        let united = algebra::unite(view, &sets).expect("in memory");
        assert_eq!(sorted(united), &(&models[0] | &models[1]) | &models[2]);
        let left = algebra::subtract(view, &sets, LIMITS).expect("in memory");
        assert_eq!(sorted(left.members), &(&models[0] - &models[1]) - &models[2]);
    }
}

/// A set whose key row says this, with these rows.
fn put_raw(transaction: &mut Transaction, encoding: u8, payload: &[u8], rows: &[(&[u8], &[u8])]) {
    let uid = transaction.new_uid(&key());
    let bytes =
        rows.iter().map(|(suffix, row)| transaction.put_new_item(&key(), uid, suffix, &[row]) as u64).sum();
    let items = (encoding == BIG).then_some(crate::store::Items { uid, bytes });
    let meta = NewValue { kind: Kind::Set, encoding, expire_at: None, due_at: None, items };
    transaction.put(&key(), meta, &[payload]).expect("in memory");
}

#[test]
fn heads_that_no_set_can_have_are_told_or_do_no_harm() {
    let store = Store::in_memory(4, 16);
    let head = |count: u64, buckets: u32, widest: u32| {
        [&[7; 8][..], &count.to_be_bytes(), &buckets.to_be_bytes(), &widest.to_be_bytes()].concat()
    };
    let rows: &[(&[u8], &[u8])] =
        &[(&[0; 4], &[1, b'a', 1, b'b', 200]), (b"xy", b"z"), (&[128, 0, 0, 0], &[])];
    for payload in [&b"short"[..], &head(1, 0, 1), &head(1, 4, 1), &head(u64::MAX, 2, 1)] {
        change(&store, |transaction| {
            put_raw(transaction, BIG, payload, rows);
            let entry = entry(transaction);
            assert_eq!(len(&entry), 0);
            assert!(matches!(has(transaction, &key(), &entry, b"a"), Err(Interrupt::Storage(_))));
            assert!(matches!(pop(transaction, &key()), Err(Error::Interrupt(Interrupt::Storage(_)))));
        });
    }
    for (count, buckets, widest) in [(1, 1, 0), (20, 2, u32::MAX), (20, 30, 1), (3, 7, 0)] {
        change(&store, |transaction| {
            put_raw(transaction, BIG, &head(count, buckets, widest), rows);
            let entry = entry(transaction);
            let mut seen = 0;
            random_distinct(transaction, &key(), &entry, 2, &mut |_| seen += 1).expect("in memory");
            random_repeated(transaction, &key(), &entry, 2, &mut |_| seen += 1).expect("in memory");
            scan(transaction, &key(), &entry, 77, 3, &mut |_| seen += 1).expect("in memory");
            assert!(seen <= 8);
            add(transaction, &key(), texts(&numbered(0..3)), LIMITS).expect("a set");
            remove(transaction, &key(), texts(&numbered(0..3))).expect("a set");
            pop_some(transaction, &key(), 2, LIMITS).expect("a set");
        });
    }
    for encoding in [INTEGERS, SMALL] {
        for payload in [&[][..], &[255; 20], &[8, 1, 2], &[2, 1]] {
            change(&store, |transaction| {
                put_raw(transaction, encoding, payload, &[]);
                pop(transaction, &key()).expect("a set");
                add(transaction, &key(), texts(&numbered(0..3)), LIMITS).expect("a set");
            });
        }
    }
}
