//! Tails written from real stores.

use super::line::{Line, Shown, Word};
use super::read::{Reader, State};
use super::*;
use crate::base::ids::{Lsn, PartitionId, Slot};
use crate::interop::dump;
use crate::interop::rdb_value::Value;
use crate::store::{Key, Options, PartitionSet, Transaction};
use crate::types::hash::{Limits, NewDeadline};
use crate::types::{hash, keyspace, string};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::LazyLock;

/// When all is committed: 2026-11-21T02:13:16.123Z.
const NOW: i64 = 1_795_227_196_123;
const TIME: &str = "2026-11-21T02:13:16.123Z";
const SMALL: Limits = Limits { entries: 128, value: 64 };
const BIG: Limits = Limits { entries: 0, value: 64 };
const ANY: usize = usize::MAX;

fn open(folder: &Path, partitions: u16) -> Store {
    Store::open(folder, partitions, 4, Options::default()).expect("opens")
}

/// Commits one transaction over all partitions.
fn commit(store: &Store, work: impl Fn(&mut Transaction)) {
    let mut transaction = store.transaction(&PartitionSet::All, NOW);
    transaction.wait_for_disk();
    work(&mut transaction);
    store.flush(transaction.commit()).expect("writes");
}

fn set(transaction: &mut Transaction, key: &Key, value: &[u8]) {
    string::store(transaction, key, value, None).expect("in memory");
}

fn set_fields(transaction: &mut Transaction, key: &Key, pairs: &[hash::Pair], limits: Limits) {
    hash::set(transaction, key, pairs.iter().copied(), NewDeadline::None, limits).expect("is a hash");
}

fn tail_of(partition: u16, common: u64) -> LostTail {
    LostTail { partition: PartitionId(partition), common: Some(Lsn(common)) }
}

/// The first line, those between, and the last one of a file.
fn lines(path: &Path) -> (Header, Vec<Line>, End) {
    let text = fs::read_to_string(path).expect("is UTF-8");
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.len() - 1;
    let end: End = serde_json::from_str(lines[last]).expect("an end");
    let body = text.len() - lines[last].len() - 1;
    assert_eq!(end.crc32c, format!("{:08x}", crc32c::crc32c(&text.as_bytes()[..body])));
    let between = lines[1..last].iter().map(|line| serde_json::from_str(line).expect("a line")).collect();
    (serde_json::from_str(lines[0]).expect("a header"), between, end)
}

/// A line in short, as JSON without what all lines of a transaction share.
fn brief(line: &Line) -> String {
    let mut json = serde_json::to_value(line).expect("is JSON");
    let object = json.as_object_mut().expect("an object");
    for name in ["partition", "epoch", "time", "dump"] {
        object.remove(name);
    }
    json.to_string().replace('"', "")
}

fn value_of(line: &Line) -> Value {
    let payload = BASE64.decode(line.dump.as_ref().expect("it is there")).expect("is base64");
    dump::open(&payload).expect("is whole")
}

#[test]
fn each_operation_is_a_line_and_each_key_has_its_state_at_the_end() {
    let data = tempfile::tempdir().expect("a folder");
    let store = open(data.path(), 1);
    let (big, long) = (Key::new(0, b"big"), Key::new(0, b"long"));
    commit(&store, |transaction| {
        set(transaction, &Key::new(0, b"old"), b"1");
        set(transaction, &long, &vec![b'x'; 20_000]);
        set_fields(transaction, &big, &[(b"a", b"1"), (b"b", b"2")], BIG);
        set_fields(transaction, &Key::new(1, b"gone"), &[(b"a", b"1")], BIG);
    });
    let common = store.point(PartitionId(0)).lsn.0;
    // Neither writes the row of its key, so that nothing in the tail says whose these parts are.
    commit(&store, |transaction| set_fields(transaction, &big, &[(b"a", b"3")], BIG));
    commit(&store, |transaction| {
        _ = string::set_range(transaction, &long, 4090, b"yy", ANY).expect("a string");
    });
    commit(&store, |transaction| {
        string::store(transaction, &Key::new(2, b"text"), "h\u{e9}".as_bytes(), Some(NOW + 5))
            .expect("in memory");
        set(transaction, &Key::new(0, b"\xff"), b"\x00\xfe");
        set_fields(transaction, &Key::new(0, b"small"), &[(b"f", b"v"), (b"\xff", b"\xfe")], SMALL);
        keyspace::remove(transaction, &Key::new(0, b"old")).expect("in memory");
    });
    commit(&store, |transaction| {
        _ = hash::delete(transaction, &big, [&b"b"[..]].into_iter()).expect("a hash");
    });
    commit(&store, |transaction| {
        _ = keyspace::remove(transaction, &Key::new(1, b"gone")).expect("in memory");
    });
    let folder = data.path().join("lost");
    let lost = write_tail(&store, &folder, tail_of(0, common), 77).expect("writes");
    let path = folder.join("77-partition-0000-epoch-1.jsonl");
    assert_eq!(
        lost,
        Lost { file: Some(path.clone()), transactions: 5, keys: 7, missing: None, is_new: true }
    );
    let (header, lines, end) = lines(&path);
    assert_eq!((header.common_lsn, header.first_lsn, header.last_lsn), (Some(1), 2, 6));
    assert_eq!((header.from.as_str(), header.to.as_str(), header.transactions), (TIME, TIME, 5));
    assert_eq!((end.keys, end.missing), (7, None));
    assert_eq!((lines[0].epoch, lines[0].time.as_deref()), (Some(1), Some(TIME)));
    let shown: Vec<String> = lines.iter().map(brief).collect();
    let long_chunk = format!(
        "{{database:0,key:long,lsn:3,offset:4080,operation:item-set,type:string,value:{}yy{},value_bytes:4080}}",
        "x".repeat(10),
        "x".repeat(1012)
    );
    assert_eq!(
        shown,
        [
            "{database:0,field:a,key:big,lsn:2,operation:item-set,type:hash,value:3}",
            &long_chunk,
            "{database:2,expire_at_ms:1795227196128,key:text,lsn:4,operation:set,type:string,value:h\u{e9}}",
            "{database:0,key_base64:/w==,lsn:4,operation:set,type:string,value_base64:AP4=}",
            "{database:0,fields:[{field:f,value:v},{field_base64:/w==,value_base64:/g==}],key:small,lsn:4,operation:set,type:hash}",
            "{database:0,key:old,lsn:4,operation:delete}",
            "{database:0,field:b,key:big,lsn:5,operation:item-delete,type:hash}",
            "{database:0,key:big,lsn:5,operation:set,type:hash}",
            "{database:1,key:gone,lsn:6,operation:drop,type:hash}",
            "{database:1,key:gone,lsn:6,operation:delete}",
            "{database:0,key:big,operation:final,type:hash}",
            "{database:0,key:long,operation:final,type:string}",
            "{database:0,deleted:true,key:old,operation:final}",
            "{database:0,key:small,operation:final,type:hash}",
            "{database:0,key_base64:/w==,operation:final,type:string}",
            "{database:1,deleted:true,key:gone,operation:final}",
            "{database:2,expire_at_ms:1795227196128,key:text,operation:final,type:string}",
        ]
    );
    let pair = |field: &[u8], value: &[u8]| (field.to_vec(), value.to_vec());
    assert_eq!(value_of(&lines[10]), Value::Hash(vec![pair(b"a", b"3")]));
    let mut whole = vec![b'x'; 20_000];
    whole[4090..4092].fill(b'y');
    assert_eq!(value_of(&lines[11]), Value::String(whole));
    assert_eq!(value_of(&lines[14]), Value::String(b"\x00\xfe".to_vec()));
}

#[test]
fn rows_are_in_the_database_that_had_their_id_then() {
    let data = tempfile::tempdir().expect("a folder");
    let store = open(data.path(), 1);
    // So that ids and numbers are not the same before the tail begins.
    commit(&store, |transaction| _ = transaction.flush_database(0));
    commit(&store, |transaction| transaction.swap_databases(1, 2));
    let common = store.point(PartitionId(0)).lsn.0;
    let put = |database: u16, name: &[u8]| {
        commit(&store, |transaction| set(transaction, &Key::new(database, name), name));
    };
    put(0, b"a");
    put(1, b"b");
    put(2, b"c");
    commit(&store, |transaction| transaction.swap_databases(0, 2));
    put(0, b"d");
    put(2, b"e");
    commit(&store, |transaction| {
        transaction.flush_database(2);
        transaction.flush_database(1);
        set(transaction, &Key::new(2, b"e"), b"again");
    });
    put(1, b"f");
    commit(&store, |transaction| _ = transaction.flush_database(1));
    let lost = write_tail(&store, data.path(), tail_of(0, common), 1).expect("writes");
    let (_, lines, _) = lines(&lost.file.expect("a file"));
    let shown: Vec<String> = lines
        .iter()
        .map(|line| {
            let key = line.key.clone().or(line.other_database.map(|other| other.to_string()));
            let deleted = if line.deleted { " deleted" } else { "" };
            format!(
                "{} {} {}{deleted}",
                line.operation.text(),
                line.database.expect("known"),
                key.unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "set 0 a",
            "set 1 b",
            "set 2 c",
            "swap-databases 0 2",
            "set 0 d",
            "set 2 e",
            "empty-database 2 ",
            "empty-database 1 ",
            "set 2 e",
            "set 1 f",
            "empty-database 1 ",
            "final 0 c",
            "final 0 d",
            "final 1 b deleted",
            "final 2 a deleted",
            "final 2 e",
            "final 1 f deleted",
        ]
    );
}

#[test]
fn a_transaction_over_two_partitions_is_in_the_files_of_both() {
    let data = tempfile::tempdir().expect("a folder");
    let store = open(data.path(), 2);
    let names: Vec<String> = (0..40).map(|number| format!("key:{number}")).collect();
    commit(&store, |transaction| {
        names.iter().for_each(|name| set(transaction, &Key::new(0, name.as_bytes()), b"1"));
    });
    let mut found: Vec<String> = Vec::new();
    for partition in 0..2 {
        let lost = write_tail(&store, data.path(), tail_of(partition, 0), 5).expect("writes");
        assert_eq!((lost.transactions, lost.missing), (1, None));
        let (_, lines, _) = lines(&lost.file.expect("a file"));
        let here: Vec<String> = lines
            .into_iter()
            .filter(|line| line.operation == Word::Set)
            .filter_map(|line| line.key)
            .collect();
        let slot_of = |name: &String| store.partition_of(Key::new(0, name.as_bytes()).slot).0;
        assert!(here.iter().all(|name| slot_of(name) == partition) && !here.is_empty());
        found.extend(here);
    }
    found.sort();
    let mut names = names;
    names.sort();
    assert_eq!(found, names);
    assert_eq!(list(data.path()).expect("reads").len(), 2);
}

#[test]
fn a_huge_value_is_cut_in_the_list_and_whole_at_the_end() {
    let data = tempfile::tempdir().expect("a folder");
    let store = open(data.path(), 1);
    let value: Vec<u8> = (0..20_000_000_u32).map(|number| (number / 7) as u8).collect();
    commit(&store, |transaction| set(transaction, &Key::new(0, b"huge"), &value));
    let text = "\u{e9}".repeat(4000);
    commit(&store, |transaction| set(transaction, &Key::new(0, b"x"), format!("x{text}").as_bytes()));
    let lost = write_tail(&store, data.path(), tail_of(0, 0), 5).expect("writes");
    let (_, lines, _) = lines(&lost.file.expect("a file"));
    let of = |line: &&Line, key: &str, word: Word| line.operation == word && line.key.as_deref() == Some(key);
    let end = lines.iter().find(|line| of(line, "huge", Word::Final)).expect("a state");
    assert_eq!(value_of(end), Value::String(value));
    let cut = lines.iter().find(|line| of(line, "x", Word::Set)).expect("a line");
    assert_eq!((cut.value_bytes, cut.value.as_ref().map(String::len)), (Some(8001), Some(1023)));
    assert!(
        lines
            .iter()
            .filter(|line| line.operation == Word::ItemSet)
            .all(|line| line.value_bytes == Some(4080) || line.offset > Some(0))
    );
}

#[test]
fn nothing_lost_is_no_file_and_the_same_tail_is_written_once() {
    let data = tempfile::tempdir().expect("a folder");
    let store = open(data.path(), 1);
    let folder = data.path().join("lost");
    let put = |value: &[u8]| commit(&store, |transaction| set(transaction, &Key::new(0, b"key"), value));
    put(b"1");
    assert_eq!(write_tail(&store, &folder, tail_of(0, 1), 5).expect("reads"), Lost::default());
    assert!(!folder.exists());
    put(b"2");
    let counted = Counted::default();
    let first = write_tail(&store, &folder, tail_of(0, 1), 5).expect("writes");
    counted.note(&first);
    let again = write_tail(&store, &folder, tail_of(0, 1), 6).expect("reads");
    assert_eq!(again, Lost { is_new: false, ..first });
    put(b"3");
    fs::write(folder.join("4-partition-0000-epoch-1.unfinished"), "half").expect("writes");
    fs::write(folder.join("4-partition-0001-epoch-1.unfinished"), "of another").expect("writes");
    let other = write_tail(&store, &folder, tail_of(0, 1), 5).expect("writes");
    assert_eq!(other.file, Some(folder.join("6-partition-0000-epoch-1.jsonl")), "5 is taken");
    assert_eq!((counted.files(), counted.transactions()), (1, 1));
    counted.note(&other);
    assert_eq!((counted.files(), counted.transactions()), (2, 3));
    let names: Vec<_> =
        fs::read_dir(&folder).expect("reads").map(|entry| entry.expect("reads").file_name()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn a_folder_that_cannot_be_written_leaves_nothing() {
    let data = tempfile::tempdir().expect("a folder");
    let store = open(data.path(), 1);
    commit(&store, |transaction| set(transaction, &Key::new(0, b"key"), b"1"));
    let folder = data.path().join("lost");
    fs::write(&folder, "in the way").expect("writes");
    write_tail(&store, &folder, tail_of(0, 0), 5).expect_err("it is no folder");
    fs::remove_file(&folder).expect("removes");
    assert!(write_tail(&store, &folder, tail_of(0, 0), 5).expect("writes").file.is_some());
}

#[test]
fn what_the_journal_has_no_more_is_told() {
    let data = tempfile::tempdir().expect("a folder");
    let options = Options { journal_segment_bytes: 4096, ..Options::default() };
    let store = Store::open(data.path(), 1, 4, options).expect("opens");
    for number in 0..100_u8 {
        commit(&store, |transaction| set(transaction, &Key::new(0, &[b'a' + number % 20]), &[b'x'; 500]));
    }
    store.checkpoint_now().expect("writes");
    commit(&store, |transaction| set(transaction, &Key::new(0, b"last"), b"1"));
    let lost = write_tail(&store, data.path(), tail_of(0, 3), 5).expect("writes");
    assert_eq!(lost.missing.as_deref(), Some("the journal does not have all of the transactions any more"));
    let (header, lines, end) = lines(&lost.file.expect("a file"));
    assert!(header.first_lsn > 4 && header.last_lsn == 101);
    assert_eq!(
        (end.missing, lines.last().and_then(|line| line.key.clone())),
        (lost.missing, Some("last".to_owned()))
    );
    let unknown = LostTail { partition: PartitionId(0), common: None };
    let lost = write_tail(&store, data.path(), unknown, 5).expect("writes");
    assert_eq!(lost.missing, None, "nobody knows what should be there");
}

#[test]
fn names_that_memory_has_no_room_for_are_told() {
    let data = tempfile::tempdir().expect("a folder");
    let store = open(data.path(), 1);
    for number in 0..10_u8 {
        commit(&store, |transaction| set(transaction, &Key::new(0, &[number; 30]), b"1"));
    }
    let tail = Tail::new(&store, tail_of(0, 0)).expect("reads");
    let mut budget = Budget::new(600);
    let learned = Learned::of(&tail, &mut budget).expect("reads");
    let path = data.path().join("1-partition-0000-epoch-1.jsonl");
    let header = Header { transactions: 10, ..Header::default() };
    let lost = write::write(&tail, learned, &header, &mut budget, &path).expect("writes");
    assert_eq!(lost.missing.as_deref(), Some("the names of some keys: there are too many to hold in memory"));
    assert_eq!(lost.keys, 5);
    assert_eq!(lines(&path).1.iter().filter(|line| line.operation == Word::Set).count(), 10);
}

/// Carries a snapshot of the only partition from one store to another, and installs it there.
fn replace(from: &Store, to: &Store) {
    let snapshot = from.take_snapshot(PartitionId(0)).expect("is taken");
    let mut incoming = to.receive_snapshot(snapshot.offer()).expect("is received");
    while incoming.offset() < snapshot.offer().bytes {
        let bytes = snapshot.read(incoming.offset(), 1 << 20).expect("reads");
        incoming.write(incoming.offset(), &bytes).expect("writes");
    }
    to.set_primary(PartitionId(0), false);
    to.install_snapshot(incoming, None).expect("installs");
    to.set_primary(PartitionId(0), true);
}

#[test]
fn what_a_snapshot_replaced_is_not_lost_a_second_time() {
    let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
    let (ours, theirs) = (open(folders[0].path(), 1), open(folders[1].path(), 1));
    let put =
        |store: &Store, name: &[u8]| commit(store, |transaction| set(transaction, &Key::new(0, name), b"x"));
    (0..9).for_each(|number| put(&ours, format!("first:{number}").as_bytes()));
    (0..3).for_each(|number| put(&theirs, format!("theirs:{number}").as_bytes()));
    replace(&theirs, &ours);
    assert_eq!(write_tail(&ours, folders[0].path(), tail_of(0, 3), 5).expect("reads"), Lost::default());
    put(&ours, b"second:1");
    for common in [Some(Lsn(3)), None] {
        let tail = LostTail { partition: PartitionId(0), common };
        let lost = write_tail(&ours, folders[0].path(), tail, 5).expect("writes");
        assert_eq!((lost.transactions, lost.keys, lost.missing), (1, 1, None));
        let (_, lines, _) = lines(&lost.file.expect("a file"));
        assert!(lines.iter().all(|line| line.key.as_deref() == Some("second:1")), "{lines:?}");
    }
}

/// What a store holds: by database and key, DUMP payload and deadline.
type KeyStates = BTreeMap<(u16, Vec<u8>), (Vec<u8>, Option<i64>)>;

fn state_of(store: &Store) -> KeyStates {
    let mut state = KeyStates::new();
    for database in 0..4 {
        let mut view = store.view(&PartitionSet::All, i64::MIN);
        view.wait_for_disk();
        let mut names: Vec<Vec<u8>> = Vec::new();
        view.visit_keys(database, (Slot(0), 0), &mut |_, name, _| {
            names.push(name.to_vec());
            ControlFlow::Continue(())
        })
        .expect("reads");
        for name in names {
            let key = Key::new(database, &name);
            let entry = view.peek(&key).expect("reads").expect("it was walked over");
            let payload = dump::of(&mut view, &key, &entry).expect("reads").expect("of a type there is");
            state.insert((database, name.clone()), (payload, entry.expire_at()));
        }
    }
    state
}

fn random_change(transaction: &mut Transaction, random: &mut StdRng, swaps: bool) {
    let name = [b'k', random.random_range(0..12)];
    let other = [b'k', random.random_range(0..12)];
    let (key, other) =
        (Key::new(random.random_range(0..4), &name), Key::new(random.random_range(0..4), &other));
    let number = random.random::<u8>();
    let entry = transaction.peek(&key).expect("reads");
    match random.random_range(0..if swaps { 12 } else { 10 }) {
        0 | 1 => {
            string::store(transaction, &key, &[number; 9], Some(NOW + i64::from(number))).expect("writes");
        }
        2 => set(transaction, &key, &vec![number; 20_000]),
        3 => _ = string::set_range(transaction, &key, usize::from(number) * 100, b"new", ANY),
        4 | 5 => {
            let limits = if number.is_multiple_of(2) { SMALL } else { BIG };
            let field = [number % 5];
            _ = hash::set(
                transaction,
                &key,
                [(&field[..], &[number][..])].into_iter(),
                NewDeadline::None,
                limits,
            );
        }
        6 => _ = hash::delete(transaction, &key, [&[number % 5][..]].into_iter()),
        7 => _ = keyspace::remove(transaction, &key).expect("writes"),
        8 => {
            if let Some(entry) = entry.filter(|_| (key.database, key.name) != (other.database, other.name)) {
                keyspace::rename(transaction, &key, &entry, &other).expect("writes");
            }
        }
        9 => {
            if let Some(entry) = entry {
                keyspace::set_deadline(transaction, &key, &entry, Some(i64::from(number))).expect("writes");
            }
        }
        10 => _ = transaction.flush_database(key.database),
        _ => transaction.swap_databases(key.database, other.database),
    }
}

/// Random changes before and in the tail: the states in the files, put over what there was, are what there is.
#[test]
fn states_are_what_the_tail_led_to() {
    for seed in 0..60 {
        let data = tempfile::tempdir().expect("a folder");
        let mut random = StdRng::seed_from_u64(seed);
        let options =
            Options { fetch_beyond_bytes: if seed % 2 == 0 { 0 } else { u64::MAX }, ..Options::default() };
        let mut store = Store::open(data.path(), 2, 4, options.clone()).expect("opens");
        let swaps_in_tail = seed % 3 == 0;
        let change = |store: &Store, random: &mut StdRng, swaps: bool| {
            let mut transaction = store.transaction(&PartitionSet::All, 0);
            transaction.wait_for_disk();
            (0..random.random_range(1..4)).for_each(|_| random_change(&mut transaction, random, swaps));
            store.flush(transaction.commit()).expect("writes");
        };
        (0..30).for_each(|_| change(&store, &mut random, true));
        let mut expected = state_of(&store);
        let common: Vec<u64> = (0..2).map(|id| store.point(PartitionId(id)).lsn.0).collect();
        for _ in 0..30 {
            change(&store, &mut random, swaps_in_tail);
            if random.random_range(0..10) == 0 {
                store.checkpoint_now().expect("writes");
            }
        }
        if seed % 4 < 2 {
            drop(store);
            store = Store::open(data.path(), 2, 4, options).expect("opens");
        }
        let is = state_of(&store);
        for partition in 0..2 {
            let lost = write_tail(&store, data.path(), tail_of(partition, common[usize::from(partition)]), 5);
            let lost = lost.expect("writes");
            assert_eq!(lost.missing, None, "seed {seed}");
            let Some(file) = lost.file else { continue };
            let (_, lines, _) = lines(&file);
            for line in &lines {
                let is_about_a_key = !matches!(line.operation, Word::EmptyDatabase | Word::SwapDatabases);
                if is_about_a_key && !swaps_in_tail {
                    assert!(
                        line.database.is_some() && line.name().is_ok_and(|name| name.is_some()),
                        "seed {seed}: {line:?}"
                    );
                }
            }
            for line in lines.iter().filter(|line| line.operation == Word::Final) {
                let at =
                    (line.database.expect("known"), line.name().expect("is base64").expect("there is one"));
                let state = line
                    .dump
                    .as_ref()
                    .map(|dump| (BASE64.decode(dump).expect("is base64"), line.expire_at_ms));
                assert_eq!(state.as_ref(), is.get(&at), "seed {seed}: {at:?}");
                assert_eq!(state.is_none(), line.deleted);
                match state {
                    Some(state) => _ = expected.insert(at, state),
                    None => _ = expected.remove(&at),
                }
            }
        }
        if !swaps_in_tail {
            assert_eq!(expected, is, "seed {seed}");
        }
    }
}

#[test]
fn what_is_no_text_is_shown_in_base64() {
    let line = Line::default().about(b"\xff\x00");
    assert_eq!((line.key.as_deref(), line.key_base64.as_deref()), (None, Some("/wA=")));
    assert_eq!(line.name(), Ok(Some(b"\xff\x00".to_vec())));
    assert_eq!(Shown::whole(b"a"), Shown::beginning(b"a"));
}

/// A small file that is whole.
fn whole_file() -> Vec<u8> {
    let data = tempfile::tempdir().expect("a folder");
    let store = open(data.path(), 1);
    commit(&store, |transaction| {
        set(transaction, &Key::new(0, b"key"), b"value");
        set(transaction, &Key::new(1, b"\xff"), b"\xfe");
        set_fields(transaction, &Key::new(0, b"big"), &[(b"a", b"1"), (b"b", b"2")], BIG);
    });
    commit(&store, |transaction| {
        _ = keyspace::remove(transaction, &Key::new(1, b"\xff")).expect("in memory");
    });
    let lost = write_tail(&store, data.path(), tail_of(0, 0), 5).expect("writes");
    fs::read(lost.file.expect("a file")).expect("reads")
}

/// All states of a file with these bytes.
fn states(bytes: &[u8]) -> io::Result<Vec<State>> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), bytes)?;
    let _ = Summary::read(file.path());
    let mut reader = Reader::open(file.path())?;
    let mut states = Vec::new();
    while let Some(state) = reader.next_state()? {
        states.push(state);
    }
    Ok(states)
}

static WHOLE: LazyLock<Vec<u8>> = LazyLock::new(whole_file);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_changed_file_is_refused_or_says_the_same(
        at in any::<prop::sample::Index>(),
        len in 0..20_usize,
        put in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let at = at.index(WHOLE.len());
        let mut bytes = WHOLE.clone();
        bytes.splice(at..(at + len).min(WHOLE.len()), put);
        if let Ok(read) = states(&bytes) {
            prop_assert_eq!(read, states(&WHOLE).expect("is whole"));
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), behind_header: bool) {
        let header = WHOLE.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
        let bytes = if behind_header { [&WHOLE[..header], &bytes].concat() } else { bytes };
        prop_assert!(states(&bytes).is_err());
    }
}

#[test]
fn a_state_that_makes_no_sense_is_refused() {
    let line = |json: &str| serde_json::from_str::<Line>(json).expect("a line");
    for (json, reason) in [
        (r#"{"operation":"final","key":"a","deleted":true}"#, "names no key and database"),
        (r#"{"operation":"final","database":1,"deleted":true}"#, "names no key and database"),
        (r#"{"operation":"final","database":1,"key":"a"}"#, "says not what the key holds"),
        (r#"{"operation":"final","database":1,"key":"a","dump":"","deleted":true}"#, "there and not there"),
        (r#"{"operation":"final","database":1,"key_base64":"?","deleted":true}"#, "the key is no base64"),
        (r#"{"operation":"final","database":1,"key":"a","dump":"?"}"#, "the value is no base64"),
        (
            r#"{"operation":"final","database":1,"key":"a","dump":"AAVoZWxsbwoAY3LfdmU0IAs="}"#,
            "does not fit its checksum",
        ),
    ] {
        let refused = State::of(&line(json)).expect_err(reason);
        assert!(refused.contains(reason), "{refused}");
    }
    let state =
        State::of(&line(r#"{"operation":"final","database":1,"key":"a","dump":"AAVoZWxsbwoAY3LfdmU0IAo="}"#));
    assert_eq!(state.map(|state| state.name), Ok(b"a".to_vec()));
}
