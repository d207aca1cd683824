//! Sorted sets against a plain map.

use super::*;
use crate::store::{PartitionSet, Store};
use rand::prelude::*;
use std::collections::{BTreeMap, HashMap, HashSet};

const LIMITS: Limits = Limits { entries: 8, value: 16 };

fn key() -> Key<'static> {
    Key::new(0, b"key")
}

type Model = BTreeMap<Vec<u8>, f64>;

fn in_order(model: &Model) -> Vec<(f64, Vec<u8>)> {
    let mut all: Vec<_> = model.iter().map(|(member, score)| (*score, member.clone())).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
    all
}

fn shown(view: &mut View, entry: &Entry, ranks: Range<u64>, backward: bool) -> Vec<(f64, Vec<u8>)> {
    let mut found = Vec::new();
    visit_ranks(view, &key(), entry, ranks, backward, &mut |(score, member)| {
        found.push((score, member.to_vec()));
        ControlFlow::Continue(())
    })
    .expect("in memory");
    found
}

fn check_against(view: &mut View, model: &Model) {
    let Some(entry) = find(view, &key()).expect("a sorted set") else {
        assert!(model.is_empty());
        return;
    };
    assert_eq!(len(&entry), model.len() as u64);
    let mut all = in_order(model);
    assert_eq!(shown(view, &entry, 0..u64::MAX, false), all);
    for (number, (score, member)) in all.iter().enumerate().step_by(7) {
        assert_eq!(super::score(view, &key(), &entry, member).expect("in memory"), Some(*score));
        assert_eq!(rank(view, &key(), &entry, member).expect("in memory"), Some((number as u64, *score)));
    }
    assert_eq!(rank(view, &key(), &entry, b"absent").expect("in memory"), None);
    all.reverse();
    assert_eq!(shown(view, &entry, 0..all.len() as u64, true), all);
    check_rows(view, &entry, model);
}

/// The members' rows say what the leaves say, and all bytes are counted.
fn check_rows(view: &mut View, entry: &Entry, model: &Model) {
    let Some(items) = entry.items() else { return };
    let (mut bytes, mut members) = (0, Model::new());
    view.visit_items(&key(), items.uid, &[], &mut |suffix, row| {
        bytes += (12 + suffix.len() + row.len()) as u64;
        members.extend(scored_of_row(suffix, row).map(|(score, member)| (member.to_vec(), score)));
        ControlFlow::Continue(())
    })
    .expect("in memory");
    assert_eq!(items.bytes, bytes);
    assert_eq!(&members, model);
}

fn check_ranges(view: &mut View, model: &Model, random: &mut StdRng) {
    let Some(entry) = find(view, &key()).expect("a sorted set") else { return };
    let all = in_order(model);
    let (min, max) = (f64::from(random.random_range(-6..6)), f64::from(random.random_range(-6..6)));
    let range = ScoreRange { min, max, min_exclusive: random.random(), max_exclusive: random.random() };
    let is_in = |score: f64| {
        (if range.min_exclusive { score > min } else { score >= min })
            && (if range.max_exclusive { score < max } else { score <= max })
    };
    let expected: Vec<_> = all.iter().filter(|(score, _)| is_in(*score)).cloned().collect();
    let ranks = ranks_of_scores(view, &key(), &entry, range).expect("in memory");
    assert_eq!(shown(view, &entry, ranks, false), expected);
    let start = random.random_range(0..=all.len());
    let end = random.random_range(start..=all.len());
    assert_eq!(shown(view, &entry, start as u64..end as u64, false), all[start..end]);
}

fn change(transaction: &mut Transaction, model: &mut Model, random: &mut StdRng, range: u32, shrinks: bool) {
    let member = |random: &mut StdRng| {
        let prefix =
            if random.random() { "" } else { "a common beginning, longer than what separators keep: " };
        format!("{prefix}{}", random.random_range(0..range)).into_bytes()
    };
    let entry = find(transaction, &key()).expect("a sorted set");
    if random.random_ratio(if shrinks { 7 } else { 3 }, 10) {
        if random.random_ratio(1, 4) {
            let end = if random.random() { End::Min } else { End::Max };
            let count = random.random_range(0..4);
            let popped = pop(transaction, &key(), end, count, LIMITS).expect("a sorted set");
            let mut all = in_order(model);
            if end == End::Max {
                all.reverse();
            }
            all.truncate(count as usize);
            assert!(popped.iter().map(|(member, score)| (*score, member.clone())).eq(all.iter().cloned()));
            model.retain(|member, _| !all.iter().any(|(_, gone)| gone == member));
        } else if random.random_ratio(1, 8) && entry.is_some() {
            let all = in_order(model);
            let start = random.random_range(0..all.len());
            let end = random.random_range(start..=all.len().min(start + 40));
            let entry = entry.expect("there is one");
            let ranks = start as u64..end as u64;
            let removed = remove_ranks(transaction, &key(), &entry, ranks, LIMITS).expect("in memory");
            assert_eq!(removed, (end - start) as u64);
            model.retain(|member, _| !all[start..end].iter().any(|(_, gone)| gone == member));
        } else {
            let mut edit = Edit::open(key(), entry.as_ref(), LIMITS).expect("in memory");
            for _ in 0..5 {
                let member = member(random);
                let removed = edit.remove(transaction, &member).expect("in memory");
                assert_eq!(removed, model.remove(&member).is_some());
            }
            edit.save(transaction).expect("in memory");
        }
        return;
    }
    let members: Vec<_> = (0..random.random_range(1..6)).map(|_| member(random)).collect();
    let mut edit = Edit::open(key(), entry.as_ref(), LIMITS).expect("in memory");
    for member in &members {
        let score = f64::from(random.random_range(-5..5));
        let old = edit.score(transaction, member).expect("in memory");
        assert_eq!(old, model.insert(member.clone(), score));
        edit.set(transaction, (score, member), old).expect("in memory");
    }
    assert_eq!(edit.len(), model.len() as u64);
    edit.save(transaction).expect("in memory");
}

#[test]
fn small_and_big_sorted_sets_are_ordered_maps() {
    let mut random = StdRng::seed_from_u64(12);
    let store = Store::in_memory(4, 16);
    let mut model = Model::new();
    let mut largest = 0;
    for round in 0..2400 {
        let range = if round / 100 % 4 == 0 { 6 } else { 600 };
        let mut transaction = store.transaction(&PartitionSet::All, 0);
        change(&mut transaction, &mut model, &mut random, range, round / 200 % 2 == 1);
        largest = largest.max(model.len());
        if round % 5 == 0 {
            check_against(&mut transaction, &model);
        }
        check_ranges(&mut transaction, &model, &mut random);
        transaction.commit();
        if round % 50 == 0 {
            check_against(&mut store.view(&PartitionSet::All, 0), &model);
        }
    }
    assert!(largest > 150, "{largest}");
}

fn store_numbered(store: &Store, count: usize) -> Model {
    let members: Vec<_> = (0..count).map(|i| (format!("member{i}").into_bytes(), i as f64 / 2.0)).collect();
    let mut scored: Vec<Scored> = members.iter().map(|(member, score)| (*score, &member[..])).collect();
    let mut transaction = store.transaction(&PartitionSet::All, 0);
    store_all(&mut transaction, &key(), &mut scored, Some(9), LIMITS).expect("in memory");
    transaction.commit();
    members.into_iter().collect()
}

#[test]
fn what_is_stored_at_once_is_a_sorted_set() {
    let store = Store::in_memory(4, 16);
    for count in [1, 8, 9, 24, 25, 1000] {
        let model = store_numbered(&store, count);
        let mut view = store.view(&PartitionSet::All, 0);
        check_against(&mut view, &model);
        let entry = find(&mut view, &key()).expect("a sorted set").expect("exists");
        assert_eq!(entry.expire_at(), Some(9));
        assert_eq!(encoding_name(&entry), if count <= 8 { "listpack" } else { "skiplist" });
    }
    store_numbered(&store, 0);
    assert!(find(&mut store.view(&PartitionSet::All, 0), &key()).expect("nothing").is_none());
}

#[test]
fn words_of_one_score_are_a_range_by_bytes() {
    let store = Store::in_memory(4, 16);
    for words in [&["a", "b", "bb", "c"][..], &["a", "b", "bb", "c", "d", "e", "f", "g", "h", "hh", "i"]] {
        let mut scored: Vec<Scored> = words.iter().map(|word| (1.5, word.as_bytes())).collect();
        let mut transaction = store.transaction(&PartitionSet::All, 0);
        store_all(&mut transaction, &key(), &mut scored, None, LIMITS).expect("in memory");
        let entry = find(&mut transaction, &key()).expect("a sorted set").expect("exists");
        let ends = [
            LexBound::Lowest,
            LexBound::Highest,
            LexBound::Inclusive(b"b"),
            LexBound::Exclusive(b"b"),
            LexBound::Inclusive(b"ba"),
            LexBound::Exclusive(b""),
            LexBound::Inclusive(b"zz"),
        ];
        for min in ends {
            for max in ends {
                let range = LexRange { min, max };
                let ranks = ranks_of_lex(&mut transaction, &key(), &entry, range, false).expect("in memory");
                let backward = ranks_of_lex(&mut transaction, &key(), &entry, range, true);
                assert!(backward.is_ok_and(|backward| backward == ranks || ranks.is_empty()), "{range:?}");
                let found: Vec<_> = shown(&mut transaction, &entry, ranks, false);
                let expected = words.iter().map(|word| word.as_bytes());
                let expected: Vec<_> = expected
                    .filter(|word| min.lets_begin(word) && max.lets_end(word))
                    .map(|word| (1.5, word.to_vec()))
                    .collect();
                assert_eq!(found, expected, "{range:?}");
            }
        }
    }
}

#[test]
fn a_scan_visits_each_member_once() {
    let store = Store::in_memory(4, 16);
    for count in [3, 500] {
        store_numbered(&store, count);
        let mut view = store.view(&PartitionSet::All, 0);
        let entry = find(&mut view, &key()).expect("a sorted set").expect("exists");
        let (mut cursor, mut found) = (0, Vec::new());
        loop {
            let visit = &mut |(_, member): Scored| found.push(member.to_vec());
            cursor = scan(&mut view, &key(), &entry, cursor, 10, visit).expect("in memory");
            if cursor == 0 {
                break;
            }
        }
        let all: HashSet<_> = found.iter().collect();
        assert_eq!((all.len(), found.len()), (count, count));
    }
}

#[test]
fn members_at_random_are_members_and_each_is_as_likely() {
    let store = Store::in_memory(4, 16);
    for (size, count) in [(5, 3), (5, 9), (500, 20), (500, 400), (500, 600)] {
        store_numbered(&store, size);
        let mut view = store.view(&PartitionSet::All, 0);
        let entry = find(&mut view, &key()).expect("a sorted set").expect("exists");
        let mut found = HashSet::new();
        random_distinct(&mut view, &key(), &entry, count, &mut |(_, member)| {
            assert!(found.insert(member.to_vec()));
        })
        .expect("in memory");
        assert_eq!(found.len(), count.min(size));
    }
    store_numbered(&store, 40);
    let mut view = store.view(&PartitionSet::All, 0);
    let entry = find(&mut view, &key()).expect("a sorted set").expect("exists");
    let mut drawn: HashMap<Vec<u8>, u32> = HashMap::new();
    random_repeated(&mut view, &key(), &entry, 8000, &mut |(_, member)| {
        *drawn.entry(member.to_vec()).or_default() += 1;
    })
    .expect("in memory");
    assert!(drawn.len() == 40 && drawn.values().all(|times| (100..320).contains(times)));
}

#[test]
fn sets_are_put_together_member_by_member() {
    let store = Store::in_memory(4, 16);
    let mut transaction = store.transaction(&PartitionSet::All, 0);
    let (a, b) = (Key::new(0, b"a"), Key::new(0, b"b"));
    let mut first = [(1.0, &b"x"[..]), (2.0, b"y")];
    let mut second = [(10.0, &b"y"[..]), (f64::INFINITY, b"z")];
    for (key, members) in [(&a, &mut first), (&b, &mut second)] {
        store_all(&mut transaction, key, members, None, LIMITS).expect("in memory");
    }
    let sources = |view: &mut View, weights: [f64; 2]| -> Vec<Source> {
        let mut sources: Vec<_> =
            [a, b].iter().map(|key| Source::open(view, *key).expect("sorted sets")).collect();
        sources.iter_mut().zip(weights).for_each(|(source, weight)| source.weigh(weight));
        sources
    };
    let text = |members: Vec<(f64, Vec<u8>)>| {
        members
            .iter()
            .map(|(score, member)| format!("{}={score}", String::from_utf8_lossy(member)))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let view = &mut transaction;
    let all = sources(view, [1.0, 0.0]);
    assert_eq!(text(union(view, all, Aggregate::Sum).expect("in memory")), "z=0 x=1 y=2");
    let all = sources(view, [3.0, 1.0]);
    assert_eq!(text(union(view, all, Aggregate::Max).expect("in memory")), "x=3 y=10 z=inf");
    let all = sources(view, [3.0, 1.0]);
    assert_eq!(text(intersection(view, all, Aggregate::Min).expect("in memory")), "y=6");
    let all = sources(view, [1.0, 1.0]);
    assert_eq!(text(difference(view, &all).expect("in memory")), "x=1");
    assert_eq!(intersection_count(view, all, 0).expect("in memory"), 1);
}

#[test]
fn damaged_sets_end_in_an_error_or_an_end() {
    let mut random = StdRng::seed_from_u64(13);
    let store = Store::in_memory(4, 16);
    store_numbered(&store, 300);
    let mut rows = Vec::new();
    let mut view = store.view(&PartitionSet::All, 0);
    let items =
        find(&mut view, &key()).expect("a sorted set").and_then(|entry| entry.items()).expect("is big");
    view.visit_items(&key(), items.uid, &[], &mut |suffix, row| {
        rows.push((suffix.to_vec(), row.to_vec()));
        ControlFlow::Continue(())
    })
    .expect("in memory");
    drop(view);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..1500 {
        let mut transaction = store.transaction(&PartitionSet::All, 0);
        for _ in 0..random.random_range(1..20) {
            let (suffix, row) = rows.choose(&mut random).expect("there are rows");
            let mut row = row.clone();
            match random.random_range(0..3) {
                0 => row.truncate(random.random_range(0..row.len())),
                1 => row.clone_from(&rows.choose(&mut random).expect("there are rows").1),
                _ => {
                    let at = random.random_range(0..row.len());
                    row[at] = random.random();
                }
            }
            transaction.put_item(&key(), items.uid, suffix, &[&row]).expect("in memory");
        }
        match use_set(&mut transaction, &mut random) {
            Ok(()) => good += 1,
            Err(_) => bad += 1,
        }
    }
    assert!(good > 10 && bad > 10, "{good} {bad}");
}

/// Does what can be done with a sorted set; errors are fine.
fn use_set(transaction: &mut Transaction, random: &mut StdRng) -> Result<(), Error> {
    let Some(entry) = find(transaction, &key())? else { return Ok(()) };
    let member = format!("member{}", random.random_range(0..300)).into_bytes();
    rank(transaction, &key(), &entry, &member)?;
    visit(transaction, &key(), &entry, &mut |_| ())?;
    let range = LexRange { min: LexBound::Inclusive(&member), max: LexBound::Highest };
    ranks_of_lex(transaction, &key(), &entry, range, false)?;
    let mut edit = Edit::open(key(), Some(&entry), LIMITS)?;
    let old = edit.score(transaction, &member)?;
    edit.set(transaction, (random.random_range(0.0..150.0), &member), old)?;
    edit.remove(transaction, b"member7")?;
    edit.remove_ranks(transaction, 3..40, &mut |_| ())?;
    edit.save(transaction)?;
    pop(transaction, &key(), End::Max, 500, LIMITS)?;
    Ok(())
}
