//! The checker of histories is checked: by histories that people can read, and by small ones of chance that are also decided by trying every
//! order.

#[path = "support/linearizable/mod.rs"]
mod linearizable;

use linearizable::{Answer, Call, Checked, History, Operation, Outcome, Violation};
use rand::prelude::*;
use std::collections::BTreeSet;
use std::time::Instant;

/// A history of one key, a line for each operation: `from to OPERATION = answer`, with `?` for an unknown outcome and `-` for a failure.
fn history(text: &str) -> History {
    let mut history = History::default();
    for (client, line) in text.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate() {
        history.record("key", call(client as u32, line));
    }
    history
}

fn call(client: u32, line: &str) -> Call {
    let (left, right) = line.split_once(" =").expect("an answer");
    let words: Vec<&str> = left.split_whitespace().collect();
    let number = |word: &str| word.parse::<i64>().expect("a number");
    let operation = match (words[2], words.get(3)) {
        ("GET", None) => Operation::Get,
        ("SET", Some(value)) => Operation::Set(number(value)),
        ("DEL", None) => Operation::Delete,
        ("INCR", None) => Operation::Increment,
        ("ADD", Some(value)) => Operation::Add(number(value)),
        ("MEMBERS", None) => Operation::Members,
        other => panic!("{other:?}"),
    };
    let answer = match right.trim() {
        "OK" => Answer::Done,
        "nil" => Answer::Nothing,
        list if operation == Operation::Members => Answer::Members(
            list.split(',').filter(|word| !word.trim().is_empty()).map(|word| number(word.trim())).collect(),
        ),
        "?" | "-" => Answer::Done,
        text => Answer::Number(number(text)),
    };
    let outcome = match right.trim() {
        "?" => Outcome::Unknown,
        "-" => Outcome::Failed,
        _ => Outcome::Answered(answer, words[1].parse().expect("a moment")),
    };
    Call { client, called: words[0].parse().expect("a moment"), operation, outcome }
}

fn holds(text: &str) {
    history(text).check().unwrap_or_else(|violation| panic!("{violation}"));
}

fn fails(text: &str) -> Violation {
    let violation = history(text).check().expect_err(text);
    assert!(!violation.is_undecided, "{violation}");
    violation
}

#[test]
fn a_read_sees_the_last_write_or_one_that_overlaps() {
    holds("0 1 SET 1 = OK\n 2 3 GET = 1");
    holds("0 9 SET 1 = OK\n 2 3 GET = nil\n 4 5 GET = 1");
    holds("0 9 SET 1 = OK\n 0 9 SET 2 = OK\n 10 11 GET = 1");
    fails("0 1 SET 1 = OK\n 2 3 GET = nil");
    fails("0 9 SET 1 = OK\n 2 3 GET = 1\n 4 5 GET = nil");
    fails("0 1 SET 1 = OK\n 2 3 SET 2 = OK\n 4 5 GET = 1");
    fails("0 1 SET 1 = OK\n 2 3 GET = 7");
}

#[test]
fn two_readers_do_not_disagree_about_the_order_of_writes() {
    holds("0 9 SET 1 = OK\n 0 9 SET 2 = OK\n 1 2 GET = 1\n 3 4 GET = 2\n 10 11 GET = 2");
    fails("0 9 SET 1 = OK\n 0 9 SET 2 = OK\n 1 2 GET = 1\n 3 4 GET = 2\n 5 6 GET = 1");
    fails("0 9 SET 1 = OK\n 0 9 SET 2 = OK\n 1 2 GET = 1\n 3 4 GET = 2\n 10 11 GET = 1");
}

#[test]
fn what_nobody_knows_may_happen_late_or_never_and_not_twice() {
    holds("0 0 SET 1 = ?\n 5 6 GET = nil");
    holds("0 0 SET 1 = ?\n 5 6 GET = nil\n 70 80 GET = 1");
    holds("0 1 SET 1 = OK\n 2 2 SET 2 = ?\n 3 4 GET = 1\n 5 6 GET = 2");
    fails("0 1 SET 1 = OK\n 2 2 SET 2 = ?\n 3 4 GET = 2\n 5 6 GET = 1");
    fails("5 5 SET 1 = ?\n 0 1 GET = 1");
    fails("0 0 SET 1 = ?\n 1 2 GET = 1\n 3 4 SET 2 = OK\n 5 6 GET = 1");
    holds("0 0 INCR = ?\n 1 2 INCR = 1\n 3 4 INCR = 3");
    fails("0 0 INCR = ?\n 1 2 INCR = 1\n 3 4 INCR = 3\n 5 6 INCR = 5");
}

#[test]
fn what_failed_was_not_done() {
    holds("0 0 SET 1 = -\n 1 2 GET = nil");
    fails("0 0 SET 1 = -\n 1 2 GET = 1");
}

#[test]
fn a_counter_gives_each_number_once() {
    holds("0 9 INCR = 2\n 0 9 INCR = 1\n 10 11 GET = 2");
    fails("0 1 INCR = 1\n 2 3 INCR = 1");
    fails("0 1 INCR = 2\n 2 3 INCR = 1");
    fails("0 1 INCR = 1\n 2 3 INCR = 3");
    holds("0 1 INCR = 1\n 2 3 DEL = 1\n 4 5 INCR = 1");
    holds("0 1 INCR = 1\n 2 2 DEL = ?\n 2 2 INCR = ?\n 4 5 INCR = 2\n 6 7 GET = 2");
}

#[test]
fn a_deletion_says_whether_there_was_something() {
    holds("0 1 SET 1 = OK\n 2 3 DEL = 1\n 4 5 DEL = 0\n 6 7 GET = nil");
    fails("0 1 DEL = 1");
    fails("0 1 SET 1 = OK\n 2 3 DEL = 0");
    fails("0 1 SET 1 = OK\n 0 9 DEL = 1\n 0 9 DEL = 1");
}

#[test]
fn a_set_only_grows_and_its_reads_agree() {
    holds("0 1 ADD 1 = OK\n 2 3 MEMBERS = 1\n 4 5 ADD 2 = OK\n 6 7 MEMBERS = 1,2");
    holds("0 9 ADD 1 = OK\n 0 0 ADD 2 = ?\n 1 2 MEMBERS = 2\n 3 4 MEMBERS = 1,2");
    let lost = fails("0 1 ADD 1 = OK\n 2 3 MEMBERS = ");
    assert!(lost.story.contains("lacks 1"), "{lost}");
    fails("0 1 MEMBERS = 1");
    fails("5 6 ADD 1 = OK\n 0 1 MEMBERS = 1");
    fails("0 9 ADD 1 = OK\n 0 9 ADD 2 = OK\n 0 5 MEMBERS = 1\n 0 5 MEMBERS = 2");
    fails("0 9 ADD 1 = OK\n 1 2 MEMBERS = 1\n 3 4 MEMBERS = ");
    fails("0 9 MEMBERS = 2\n 1 2 ADD 1 = OK\n 3 4 ADD 2 = OK");
    fails("0 0 ADD 1 = -\n 1 2 MEMBERS = 1");
}

#[test]
fn the_story_is_short_and_shows_what_matters() {
    let mut text = String::new();
    for at in 0..200 {
        text += &format!(
            "{} {} SET {at} = OK\n{} {} GET = {at}\n",
            at * 10,
            at * 10 + 1,
            at * 10 + 2,
            at * 10 + 3
        );
    }
    text += "3000 3001 SET 500 = OK\n 3002 3009 SET 501 = OK\n 3003 3004 GET = 500\n 3005 3006 GET = 501\n 3007 3008 GET = 500";
    let violation = fails(&text);
    let calls = violation.story.lines().filter(|line| line.contains("client")).count();
    assert!(calls <= 5, "{violation}");
    assert!(
        violation.story.contains("[3.0, 3.0] SET 500 = OK") || violation.story.contains("held 500"),
        "{violation}"
    );
}

#[test]
fn keys_are_looked_at_one_by_one_and_the_culprit_is_named() {
    let mut history = history("0 1 SET 1 = OK\n 2 3 GET = 1");
    history.record("other", call(1, "0 1 SET 1 = OK"));
    assert_eq!(
        history.check().expect("both are right"),
        Checked { keys: 2, answered: 3, ..Checked::default() }
    );
    history.record("other", call(2, "2 3 GET = nil"));
    assert_eq!(history.check().expect_err("one is wrong").key, "other");
}

// --- against every order

/// What a key holds, for the slow check.
#[derive(Clone, Debug, Default, PartialEq)]
struct Holds(Option<i64>, BTreeSet<i64>);

fn apply(holds: &mut Holds, operation: &Operation) -> Answer {
    match operation {
        Operation::Get => holds.0.map_or(Answer::Nothing, Answer::Number),
        Operation::Set(value) => {
            holds.0 = Some(*value);
            Answer::Done
        }
        Operation::Delete => Answer::Number(i64::from(holds.0.take().is_some())),
        Operation::Increment => {
            holds.0 = Some(holds.0.unwrap_or(0) + 1);
            Answer::Number(holds.0.unwrap_or(0))
        }
        Operation::Add(value) => {
            holds.1.insert(*value);
            Answer::Done
        }
        Operation::Members => Answer::Members(holds.1.clone()),
    }
}

/// Tries every order.
fn some_order(calls: &[Call], left: &mut Vec<usize>, holds: &Holds) -> bool {
    let returned = |index: usize| match calls[index].outcome {
        Outcome::Answered(_, at) => at,
        _ => u64::MAX,
    };
    if left.iter().all(|index| calls[*index].outcome == Outcome::Unknown) {
        return true;
    }
    for at in 0..left.len() {
        let index = left[at];
        if left.iter().any(|other| returned(*other) < calls[index].called) {
            continue;
        }
        let mut after = holds.clone();
        let answer = apply(&mut after, &calls[index].operation);
        if matches!(&calls[index].outcome, Outcome::Answered(seen, _) if *seen != answer) {
            continue;
        }
        left.remove(at);
        let found = some_order(calls, left, &after);
        left.insert(at, index);
        if found {
            return true;
        }
    }
    false
}

/// What clients see of a key whose operations take effect somewhere between call and return; sometimes one answer is another's.
fn some_history(random: &mut StdRng, kind: u32, count: u64) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut moments = Vec::new();
    for client in 0..count {
        let called = random.random_range(0..count * 4);
        let returned = called + random.random_range(0..16);
        let operation = match (kind, random.random_range(0..10)) {
            (0, 0..5) | (1 | 2, 0..3) | (3, 0..2) => Operation::Get,
            (0, _) | (3, 2..5) => Operation::Set(client as i64 + 10),
            (1, _) | (3, 5..8) => Operation::Increment,
            (2, 3..7) => Operation::Set(client as i64),
            (2 | 3, _) => Operation::Delete,
            (4, 0..4) => Operation::Members,
            _ => Operation::Add(client as i64),
        };
        calls.push(Call { client: client as u32, called, operation, outcome: Outcome::Unknown });
        moments.push((random.random_range(called..=returned), returned, client as usize));
    }
    moments.sort_unstable();
    let mut holds = Holds::default();
    let mut before = None;
    for (_, returned, index) in moments {
        let is_unknown = random.random_bool(0.15);
        if is_unknown && random.random_bool(0.5) {
            continue;
        }
        let mut answer = apply(&mut holds, &calls[index].operation);
        let is_read = matches!(calls[index].operation, Operation::Get | Operation::Members);
        if is_read && random.random_bool(0.1) {
            answer = before.clone().unwrap_or(answer);
        }
        if is_read {
            before = Some(answer.clone());
        }
        if answer != Answer::Done && random.random_bool(0.03) {
            answer = match answer {
                Answer::Number(number) => Answer::Number(number + 1),
                other => other,
            };
        }
        if !is_unknown {
            calls[index].outcome = Outcome::Answered(answer, returned);
        }
    }
    calls
}

#[test]
fn small_histories_are_decided_as_by_trying_every_order() {
    let first = std::env::var("LARDER_SEED").map_or(1, |seed| seed.parse::<u64>().expect("a number"));
    let (mut right, mut wrong) = (0, 0);
    for seed in first..first + 20_000 {
        let mut random = StdRng::seed_from_u64(seed);
        let (kind, count) = (random.random_range(0..5), random.random_range(2..9));
        let calls = some_history(&mut random, kind, count);
        let expected = some_order(&calls, &mut (0..calls.len()).collect(), &Holds::default());
        let mut history = History::default();
        calls.iter().for_each(|call| history.record("key", call.clone()));
        let found = history.check();
        let shown: Vec<String> = calls.iter().map(ToString::to_string).collect();
        assert_eq!(found.is_ok(), expected, "seed {seed}: {found:?}\n{}", shown.join("\n"));
        *(if expected { &mut right } else { &mut wrong }) += 1;
    }
    assert!(right > 5000 && wrong > 1000, "{right} right and {wrong} wrong: both are to be seen");
}

#[test]
fn a_hundred_thousand_operations_are_decided() {
    let mut random = StdRng::seed_from_u64(7);
    let mut history = History::default();
    let mut operations = 0;
    // Many keys of every kind, and one of each that is long.
    for key in 0..1000 {
        let count = if key < 5 { 4000 } else { 80 };
        let kind = key % 5;
        let calls = right_history(&mut random, kind, count);
        operations += calls.len();
        calls.into_iter().for_each(|call| history.record(&format!("key:{key}"), call));
    }
    let begun = Instant::now();
    let checked = history.check().unwrap_or_else(|violation| panic!("{violation}"));
    eprintln!("{checked}, {:.2} s", begun.elapsed().as_secs_f64());
    assert!(operations >= 99_000);
}

/// A history that is linearizable, of eight clients one behind the other, with failures that nobody knows the end of.
fn right_history(random: &mut StdRng, kind: u32, count: u64) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut free = [0_u64; 8];
    let mut moments = Vec::new();
    for number in 0..count {
        let client = random.random_range(0..free.len());
        let called = free[client] + random.random_range(1..20);
        let returned = called + random.random_range(1..40);
        free[client] = returned;
        let operation = match (kind, random.random_range(0..10)) {
            (0..4, 0..4) => Operation::Get,
            (0, _) | (2, 4..8) => Operation::Set(number as i64 + 10),
            (1 | 3, _) => Operation::Increment,
            (2, _) => Operation::Delete,
            (_, 0) => Operation::Members,
            _ => Operation::Add(number as i64),
        };
        calls.push(Call { client: client as u32, called, operation, outcome: Outcome::Unknown });
        moments.push((random.random_range(called..=returned), returned, number as usize));
    }
    moments.sort_unstable();
    let mut holds = Holds::default();
    for (_, returned, index) in moments {
        match random.random_range(0..100) {
            0 => {}
            1 => _ = apply(&mut holds, &calls[index].operation),
            _ => {
                let answer = apply(&mut holds, &calls[index].operation);
                calls[index].outcome = Outcome::Answered(answer, returned);
            }
        }
    }
    calls
}
