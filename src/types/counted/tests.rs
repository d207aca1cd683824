//! Trees against plain vectors, and trees of damaged rows.

use super::node::{CHILDREN_MAX, HEIGHT_MAX};
use super::*;
use crate::store::{Kind, NewValue, PartitionSet, Store};
use rand::prelude::*;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

fn key() -> Key<'static> {
    Key::new(0, b"key")
}

/// The tree whose head stands at the key, or a new one.
fn open(transaction: &mut Transaction) -> Counted {
    let entry = transaction.get(&key()).expect("in memory");
    let found = entry.and_then(|entry| Some(Counted::open(entry.items()?, entry.payload())?.0));
    found.unwrap_or_else(|| Counted::new(transaction, &key()))
}

fn close(transaction: &mut Transaction, tree: &mut Counted) {
    tree.flush(transaction, &key()).expect("in memory");
    let mut head = SmallVec::new();
    tree.encode_head(&mut head);
    let meta =
        NewValue { kind: Kind::List, encoding: 1, expire_at: None, due_at: None, items: Some(tree.items()) };
    transaction.put(&key(), meta, &[&head]).expect("in memory");
}

fn rows(view: &mut View, tree: &Counted) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    view.visit_items(&key(), tree.items().uid, &[], &mut |suffix, row| {
        rows.push((suffix.to_vec(), row.to_vec()));
        ControlFlow::Continue(())
    })
    .expect("in memory");
    rows
}

/// The leaves from the first to the last and back; the bytes of all rows; that there is no row too many.
fn check(view: &mut View, tree: &mut Counted, model: &[Vec<u8>]) {
    assert_eq!(tree.len(), model.iter().map(|leaf| leaf.len() as u64).sum::<u64>());
    assert_eq!(tree.is_empty(), model.is_empty());
    let rows = rows(view, tree);
    let bytes: usize = rows.iter().map(|(suffix, row)| 12 + suffix.len() + row.len()).sum();
    assert_eq!(tree.items().bytes, bytes as u64);
    assert_eq!(rows.iter().filter(|(suffix, _)| suffix[0] == LEAF).count(), model.len());
    let nodes = rows.iter().filter(|(suffix, _)| suffix[0] == STRUCTURE).count();
    let counts = rows.iter().filter(|(suffix, _)| suffix[0] == COUNTS).count();
    assert_eq!(counts, nodes.saturating_sub(1), "the root's stand in the head");
    for forward in [true, false] {
        let path = if forward { tree.first(view, &key()) } else { tree.last(view, &key()) };
        let mut path = path.expect("in memory");
        let mut found = Vec::new();
        while let Some(at) = &mut path {
            let bytes = tree.leaf(view, &key(), at.leaf).expect("in memory").to_vec();
            assert_eq!(at.count, bytes.len() as u64);
            found.push((at.before, bytes));
            let more = if forward { tree.next(view, &key(), at) } else { tree.previous(view, &key(), at) };
            if !more.expect("in memory") {
                path = None;
            }
        }
        if !forward {
            found.reverse();
        }
        let mut before = 0;
        let expected: Vec<_> = model
            .iter()
            .map(|leaf| {
                let here = before;
                before += leaf.len() as u64;
                (here, leaf.clone())
            })
            .collect();
        assert_eq!(found, expected);
    }
}

/// The leaf with the element at this index, and the element's place.
fn place_of(model: &[Vec<u8>], index: u64) -> Option<(usize, usize)> {
    let mut left = index as usize;
    for (number, leaf) in model.iter().enumerate() {
        if left < leaf.len() {
            return Some((number, left));
        }
        left -= leaf.len();
    }
    None
}

fn some_bytes(random: &mut StdRng) -> Vec<u8> {
    (0..random.random_range(1..5)).map(|_| random.random()).collect()
}

/// One change at random, of the tree and of the model.
fn change(
    transaction: &mut Transaction,
    tree: &mut Counted,
    model: &mut Vec<Vec<u8>>,
    random: &mut StdRng,
    shrinks: bool,
) {
    let bytes = some_bytes(random);
    let count = bytes.len() as u64;
    let index = random.random_range(0..=tree.len());
    let found = tree.find(transaction, &key(), index).expect("in memory");
    let place = place_of(model, index);
    assert_eq!(found.as_ref().map(|(_, within)| *within), place.map(|(_, within)| within));
    let action = random.random_range(0..10);
    match (found, place) {
        (Some((path, _)), Some((number, _))) if action < if shrinks { 6 } else { 3 } => {
            tree.remove(transaction, &key(), &path).expect("in memory");
            tree.drop_leaf(path.leaf);
            model.remove(number);
        }
        (Some((mut path, _)), Some((number, _))) if action == 6 => {
            tree.put_leaf(path.leaf, &bytes);
            tree.set_count(&mut path, count).expect("in memory");
            model[number] = bytes;
        }
        (Some((path, _)), Some((number, _))) if action < 9 => {
            let id = tree.new_leaf(&bytes).expect("an id");
            if action == 7 {
                tree.insert_before(&path, id, count).expect("in memory");
                model.insert(number, bytes);
            } else {
                tree.insert_after(&path, id, count, &Separator::default()).expect("in memory");
                model.insert(number + 1, bytes);
            }
        }
        _ if index % 2 == 0 => {
            let id = tree.new_leaf(&bytes).expect("an id");
            tree.push_first(transaction, &key(), id, count).expect("in memory");
            model.insert(0, bytes);
        }
        _ => {
            let id = tree.new_leaf(&bytes).expect("an id");
            tree.push_last(transaction, &key(), id, count).expect("in memory");
            model.push(bytes);
        }
    }
}

#[test]
fn a_tree_is_a_vector_of_leaves() {
    let mut random = StdRng::seed_from_u64(5);
    let store = Store::in_memory(4, 16);
    let mut model = Vec::new();
    let mut highest = 0;
    for round in 0..1200 {
        let mut transaction = store.transaction(&PartitionSet::All, 0);
        let mut tree = open(&mut transaction);
        for _ in 0..random.random_range(1..6) {
            change(&mut transaction, &mut tree, &mut model, &mut random, round / 300 % 2 == 1);
        }
        highest = highest.max(tree.head.height);
        close(&mut transaction, &mut tree);
        if round % 10 == 0 || model.len() < 20 {
            check(&mut transaction, &mut tree, &model);
        }
        transaction.commit();
    }
    assert!(highest >= 3, "{highest}");
}

#[test]
fn ends_grow_into_full_nodes_and_shrink_to_nothing() {
    let store = Store::in_memory(4, 16);
    for first in [true, false] {
        let mut transaction = store.transaction(&PartitionSet::All, 0);
        let mut tree = Counted::new(&mut transaction, &key());
        for _ in 0..1000 {
            let id = tree.new_leaf(b"xy").expect("an id");
            let push = if first { Counted::push_first } else { Counted::push_last };
            push(&mut tree, &mut transaction, &key(), id, 2).expect("in memory");
        }
        assert_eq!((tree.len(), tree.head.height), (2000, 4));
        close(&mut transaction, &mut tree);
        let nodes = rows(&mut transaction, &tree).iter().filter(|(suffix, _)| suffix[0] == STRUCTURE).count();
        assert!(nodes < 1000 / (CHILDREN_MAX - 2));
        let mut tree = open(&mut transaction);
        while let Some(path) = tree.first(&mut transaction, &key()).expect("in memory") {
            tree.remove(&mut transaction, &key(), &path).expect("in memory");
            tree.drop_leaf(path.leaf);
        }
        close(&mut transaction, &mut tree);
        check(&mut transaction, &mut tree, &[]);
        assert_eq!(tree.items().bytes, 0);
    }
}

/// An ordered tree of words, as a sorted set would use it: leaves are words of up to 255 bytes with their lengths.
struct Words {
    tree: Counted,
}

fn words_of(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut words) = (bytes, Vec::new());
    while let Some((&len, tail)) = rest.split_first() {
        let (word, tail) = tail.split_at(len as usize);
        words.push(word.to_vec());
        rest = tail;
    }
    words
}

fn bytes_of(words: &[Vec<u8>]) -> Vec<u8> {
    words.iter().flat_map(|word| std::iter::once(word.len() as u8).chain(word.iter().copied())).collect()
}

impl Words {
    /// The leaf that `word` belongs into, its words, and the place in it.
    fn seek(&mut self, view: &mut View, word: &[u8]) -> Option<(Path, Vec<Vec<u8>>, Result<usize, usize>)> {
        let begins_behind = |leaf: &[u8]| words_of(leaf).first().is_some_and(|first| &first[..] > word);
        let path = self.tree.seek(view, &key(), word, &begins_behind).expect("in memory")?;
        let words = words_of(&self.tree.leaf(view, &key(), path.leaf).expect("in memory"));
        let place = words.binary_search_by(|other| other[..].cmp(word));
        Some((path, words, place))
    }

    fn insert(&mut self, view: &mut View, word: &[u8]) {
        let Some((mut path, mut words, place)) = self.seek(view, word) else {
            let id = self.tree.new_leaf(&bytes_of(&[word.to_vec()])).expect("an id");
            self.tree.push_last(view, &key(), id, 1).expect("in memory");
            return;
        };
        let Err(place) = place else { return };
        words.insert(place, word.to_vec());
        if words.len() > 6 {
            let right = words.split_off(3);
            let separator = Separator::between(&words[2], &right[0]);
            let id = self.tree.new_leaf(&bytes_of(&right)).expect("an id");
            self.tree.put_leaf(path.leaf, &bytes_of(&words));
            self.tree.set_count(&mut path, 3).expect("in memory");
            self.tree.insert_after(&path, id, right.len() as u64, &separator).expect("in memory");
        } else {
            self.tree.put_leaf(path.leaf, &bytes_of(&words));
            self.tree.set_count(&mut path, words.len() as u64).expect("in memory");
        }
    }

    fn remove(&mut self, view: &mut View, word: &[u8]) -> bool {
        let Some((mut path, mut words, Ok(place))) = self.seek(view, word) else { return false };
        words.remove(place);
        self.tree.put_leaf(path.leaf, &bytes_of(&words));
        self.tree.set_count(&mut path, words.len() as u64).expect("in memory");
        if words.is_empty() {
            self.tree.remove(view, &key(), &path).expect("in memory");
            self.tree.drop_leaf(path.leaf);
        } else if words.len() < 3
            && let Some((mut first, second)) = self.tree.pair(&path).expect("in memory")
            && first.count + second.count <= 6
        {
            let mut words = words_of(&self.tree.leaf(view, &key(), first.leaf).expect("in memory"));
            words.extend(words_of(&self.tree.leaf(view, &key(), second.leaf).expect("in memory")));
            assert!(words.is_sorted());
            self.tree.put_leaf(first.leaf, &bytes_of(&words));
            self.tree.set_count(&mut first, words.len() as u64).expect("in memory");
            self.tree.remove(view, &key(), &second).expect("in memory");
            self.tree.drop_leaf(second.leaf);
        }
        true
    }
}

/// Words that differ early, late, and behind all that a separator keeps.
fn some_word(random: &mut StdRng) -> Vec<u8> {
    let prefix = [&b""[..], b"user:0000", &[b'p'; 60], &[b'p'; 61]][random.random_range(0..4)];
    let len = random.random_range(0..4);
    prefix.iter().copied().chain((0..len).map(|_| random.random_range(b'a'..b'm'))).collect()
}

#[test]
fn an_ordered_tree_is_a_sorted_set() {
    let mut random = StdRng::seed_from_u64(6);
    let store = Store::in_memory(4, 16);
    let (mut model, mut largest) = (BTreeSet::new(), 0);
    for round in 0..1500 {
        let mut transaction = store.transaction(&PartitionSet::All, 0);
        let mut words = Words { tree: open(&mut transaction) };
        for _ in 0..random.random_range(1..8) {
            let word = some_word(&mut random);
            if random.random_bool(if round / 400 % 2 == 0 { 0.8 } else { 0.3 }) {
                words.insert(&mut transaction, &word);
                model.insert(word);
            } else {
                let nearest = model.range(word..).next().cloned();
                if let Some(word) = nearest {
                    assert!(words.remove(&mut transaction, &word));
                    model.remove(&word);
                }
            }
        }
        largest = largest.max(model.len());
        let word = some_word(&mut random);
        let found = words.seek(&mut transaction, &word);
        let rank = model.range(..word.clone()).count() as u64;
        let found_rank =
            found.map_or(0, |(path, _, place)| path.before + place.unwrap_or_else(|place| place) as u64);
        assert_eq!(found_rank, rank);
        close(&mut transaction, &mut words.tree);
        if round % 20 == 0 {
            let all: Vec<_> = model.iter().cloned().collect();
            let mut path = words.tree.first(&mut transaction, &key()).expect("in memory");
            let mut found = Vec::new();
            while let Some(at) = &mut path {
                found.extend(words_of(
                    &words.tree.leaf(&mut transaction, &key(), at.leaf).expect("in memory"),
                ));
                if !words.tree.next(&mut transaction, &key(), at).expect("in memory") {
                    path = None;
                }
            }
            assert_eq!(found, all);
            assert_eq!(words.tree.len(), all.len() as u64);
        }
        transaction.commit();
    }
    assert!(largest > 300, "{largest}");
}

/// Does everything that can be done with a tree; errors are fine.
fn use_tree(transaction: &mut Transaction, random: &mut StdRng) -> Result<(), Interrupt> {
    let Some(entry) = transaction.get(&key())? else { return Ok(()) };
    let items = entry.items().expect("it had items");
    let Some((mut tree, _)) = Counted::open(items, entry.payload()) else { return Ok(()) };
    let index = random.random_range(0..tree.len().max(1));
    let behind = |_: &[u8]| index % 2 == 0;
    tree.seek(transaction, &key(), &[b'p'; 60], &behind)?;
    if let Some((mut path, _)) = tree.find(transaction, &key(), index)? {
        tree.leaf(transaction, &key(), path.leaf)?;
        tree.set_count(&mut path, 3)?;
        if random.random() {
            let id = tree.new_leaf(b"xyz")?;
            tree.insert_after(&path, id, 3, &Separator::default())?;
        } else {
            tree.pair(&path)?;
            tree.remove(transaction, &key(), &path)?;
        }
    }
    let mut path = tree.first(transaction, &key())?;
    while let Some(at) = &mut path {
        if !tree.next(transaction, &key(), at)? {
            break;
        }
    }
    while let Some(path) = tree.last(transaction, &key())? {
        tree.remove(transaction, &key(), &path)?;
    }
    tree.flush(transaction, &key())
}

#[test]
fn damaged_rows_end_in_an_error_or_an_end() {
    let mut random = StdRng::seed_from_u64(7);
    let store = Store::in_memory(4, 16);
    let mut transaction = store.transaction(&PartitionSet::All, 0);
    let mut tree = open(&mut transaction);
    let mut model = Vec::new();
    for _ in 0..400 {
        change(&mut transaction, &mut tree, &mut model, &mut random, false);
    }
    close(&mut transaction, &mut tree);
    let (rows, uid) = (rows(&mut transaction, &tree), tree.items().uid);
    transaction.commit();
    let (mut errors, mut ends) = (0, 0);
    for _ in 0..2000 {
        let mut transaction = store.transaction(&PartitionSet::All, 0);
        for _ in 0..random.random_range(1..4) {
            let (suffix, row) = rows.choose(&mut random).expect("there are rows");
            let (_, other) = rows.choose(&mut random).expect("there are rows");
            let mut row = row.clone();
            match random.random_range(0..4) {
                0 => row.truncate(random.random_range(0..=row.len())),
                1 => row.clone_from(other),
                2 => {
                    let at = random.random_range(0..row.len());
                    row[at] = random.random();
                }
                _ => {
                    // A node that is its own child, or another's.
                    if row.len() > 7 {
                        row[1..7].copy_from_slice(&suffix[1..7]);
                    }
                }
            }
            transaction.put_item(&key(), uid, suffix, &[&row]).expect("in memory");
        }
        if random.random_ratio(1, 5) {
            let entry = transaction.get(&key()).expect("in memory").expect("exists");
            let mut head = entry.payload().to_vec();
            let at = random.random_range(0..head.len());
            head[at] = random.random();
            transaction.put(&key(), entry.meta(), &[&head]).expect("in memory");
        }
        match use_tree(&mut transaction, &mut random) {
            Ok(()) => ends += 1,
            Err(_) => errors += 1,
        }
    }
    assert!(errors > 100 && ends > 100, "{errors} {ends}");
}

#[test]
fn a_tree_is_no_higher_than_it_can_say() {
    assert!(
        Head::decode(&[HEIGHT_MAX as u8 + 1, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 1]).is_none()
    );
    assert!(Head::decode(&[HEIGHT_MAX as u8, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 1]).is_some());
}
