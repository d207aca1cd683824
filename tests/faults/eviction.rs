//! Far more keys than `maxmemory` allows, under each policy.

use crate::support::types::{self, Sizes, Word};
use crate::support::{Chance, Client, Launch, Server, Value, request};
use std::time::{Duration, Instant};

const BATCH: u64 = 500;
/// Every hundredth of the first keys is used again and again.
const HOT: u64 = 100;

/// How many keys are written, and how many bytes of data are allowed.
fn sizes() -> (u64, u64) {
    if std::env::var_os("LARDER_LONG").is_some() { (10_000_000, 256 << 20) } else { (30_000, 2 << 20) }
}

fn field(client: &mut Client, name: &str) -> u64 {
    let info = client.ask(&["INFO", "everything"]).text();
    let found = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok());
    found.unwrap_or_else(|| panic!("INFO has no {name}"))
}

/// Sends commands in one go; the first refusal, if any.
fn pipeline(client: &mut Client, commands: &[Vec<Vec<u8>>]) -> Option<String> {
    client
        .send(&commands.iter().flat_map(|words| request(words)).collect::<Vec<_>>())
        .expect("the server reads");
    let replies: Vec<Value> = commands.iter().map(|_| client.read().expect("it answers")).collect();
    replies.iter().find(|reply| matches!(reply, Value::Error(_))).map(ToString::to_string)
}

/// Keys of all types in turn.
fn key(number: u64) -> String {
    format!("{}:{number}", types::TYPES[number as usize % types::TYPES.len()].name)
}

/// The command that makes a key.
fn made(number: u64) -> Vec<Word> {
    let key = key(number).into_bytes();
    types::of(&key).make(&key, &mut Chance::from(number), Sizes { items: 1000, value: 100 })
}

/// Makes a key, and gives it a deadline if it is to have one.
fn make(number: u64, has_deadline: bool) -> Vec<Vec<Word>> {
    let deadline =
        [b"EXPIRE".to_vec(), key(number).into_bytes(), (100_000 + number).to_string().into_bytes()];
    std::iter::once(made(number)).chain(has_deadline.then(|| deadline.to_vec())).collect()
}

/// Reads all of a key.
fn read(number: u64) -> Vec<Word> {
    let key = key(number).into_bytes();
    types::of(&key).read(&key)
}

/// Whether a key is there. Fails if it holds anything but what was written.
fn is_left(client: &mut Client, number: u64) -> bool {
    let (words, command) = (client.ask(&read(number)).words(), made(number));
    let found = (!words.is_empty()).then(|| types::of(&command[1]).content(words));
    assert!(found.is_none() || found == types::after(None, &command), "{} holds {found:?}", key(number));
    found.is_some()
}

fn set(number: u64) -> Vec<Word> {
    vec![b"SET".to_vec(), format!("key:{number}").into_bytes(), vec![b'x'; 100]]
}

/// Writes all keys while a hot set is read. Returns the first refusal, how many were written before, and the most data.
fn fill(client: &mut Client, is_volatile: bool) -> (Option<String>, u64, u64) {
    let (keys, limit) = sizes();
    let mut most = 0;
    for first in (0..keys).step_by(BATCH as usize) {
        let commands: Vec<_> = (first..first + BATCH).flat_map(|number| make(number, is_volatile)).collect();
        if let Some(refusal) = pipeline(client, &commands) {
            return (Some(refusal), first, most);
        }
        if first >= HOT && first % (BATCH * 2) == 0 {
            let hot: Vec<_> = (0..HOT).map(read).collect();
            pipeline(client, &hot);
        }
        if first % (BATCH * 20) == 0 {
            most = most.max(field(client, "used_memory"));
            assert!(most < limit + limit / 8 + (1 << 20), "{most} bytes of data where {limit} are allowed");
        }
    }
    (None, keys, most)
}

#[test]
fn long_each_policy_keeps_the_data_within_maxmemory_and_its_order() {
    let (keys, limit) = sizes();
    for policy in [
        "noeviction",
        "allkeys-lru",
        "allkeys-lfu",
        "allkeys-random",
        "volatile-lru",
        "volatile-lfu",
        "volatile-random",
        "volatile-ttl",
    ] {
        let maxmemory = limit.to_string();
        let flags = ["--maxmemory", &maxmemory, "--maxmemory-policy", policy, "--appendfsync", "everysec"];
        let mut server = Server::launch(Launch::with(&flags));
        let mut client = server.connect();
        let is_volatile = policy.starts_with("volatile");
        client.pipeline(
            (0..100).map(|number| {
                vec![b"SET".to_vec(), format!("for ever:{number}").into_bytes(), b"x".to_vec()]
            }),
        );
        let begun = Instant::now();
        let (refusal, written, most) = fill(&mut client, is_volatile);
        let elapsed = begun.elapsed();
        let (evicted, left) = (field(&mut client, "evicted_keys"), client.ask(&["DBSIZE"]).integer() as u64);
        let hot = (0..HOT).filter(|&number| is_left(&mut client, number)).count();
        eprintln!(
            "{policy}: {written} of {keys} keys in {elapsed:.1?} ({:.0}/s), {evicted} evicted, {left} left, hot {hot}/{HOT}, data {} KB of {} KB at most, memory {} MB",
            written as f64 / elapsed.as_secs_f64(),
            most >> 10,
            limit >> 10,
            field(&mut client, "used_memory") >> 20
        );
        if policy == "noeviction" {
            assert_eq!(refusal.as_deref(), Some("-OOM command not allowed when used memory > 'maxmemory'."));
            assert_eq!(evicted, 0);
            client.check(&[("GET nothing", "nil"), ("DEL text:0", ":1")]);
            continue;
        }
        assert_eq!(refusal, None, "{policy}");
        assert_eq!(evicted + left, keys + 100, "{policy}: every key is there or was evicted");
        let forever = (0..100)
            .filter(|number| client.ask(&["EXISTS", &format!("for ever:{number}")]).integer() == 1)
            .count();
        let read = (0..keys).step_by(7).filter(|&number| is_left(&mut client, number)).count();
        assert!(read > 0, "{policy}: nothing is left");
        if is_volatile {
            assert_eq!(forever, 100, "{policy} takes keys with a deadline only");
        }
        // LRU notes ages in seconds, as Redis does: with few keys, which are all replaced in a second or two, it is chance.
        let share_of_all = left as f64 / keys as f64;
        let is_long = std::env::var_os("LARDER_LONG").is_some();
        if policy.ends_with("lfu") || (is_long && policy.ends_with("lru")) {
            assert!(
                hot as f64 >= HOT as f64 * (share_of_all * 1.2).min(0.9),
                "{policy}: {hot} of {HOT} keys in use are left"
            );
        }
        if policy == "volatile-ttl" {
            // Keys are sampled, as in Redis: of those next to expire nearly all go, of those last to expire nearly all stay.
            let last = (keys - HOT..keys).filter(|&number| is_left(&mut client, number)).count();
            assert!(
                hot <= 10 && last >= 90,
                "{policy}: {hot} of the first and {last} of the last {HOT} are left"
            );
        }
        if policy == "allkeys-lru" {
            server.kill();
            server.start_again();
            assert_eq!(server.connect().ask(&["DBSIZE"]).integer() as u64, left, "what was evicted stays so");
        }
    }
}

#[test]
fn large_values_in_place_of_many_small_ones_stay_within_maxmemory() {
    let limit = 4_u64 << 20;
    let flags = ["--maxmemory", &limit.to_string(), "--maxmemory-policy", "allkeys-lru"];
    let server = Server::launch(Launch::with(&flags));
    let mut client = server.connect();
    for first in (0..20_000).step_by(BATCH as usize) {
        assert_eq!(pipeline(&mut client, &(first..first + BATCH).map(set).collect::<Vec<_>>()), None);
    }
    let value = vec![b'x'; 500_000];
    for number in 0..20 {
        let reply = client.ask(&[b"SET".as_slice(), format!("large:{number}").as_bytes(), &value]);
        assert_eq!(reply.to_string(), "OK");
        let data = field(&mut client, "used_memory");
        assert!(data < limit + (4 << 20), "{data} bytes of data where {limit} are allowed");
    }
}

#[test]
fn keys_that_were_used_last_outlive_others() {
    let server = Server::launch(Launch::with(&["--maxmemory", "4mb", "--maxmemory-policy", "allkeys-lru"]));
    let mut client = server.connect();
    let mut write = |keys: std::ops::Range<u64>| {
        for from in keys.step_by(BATCH as usize) {
            let commands: Vec<_> = (from..from + BATCH).map(set).collect();
            assert_eq!(pipeline(&mut client, &commands), None);
        }
    };
    write(0..18_000);
    // Ages are noted in seconds.
    std::thread::sleep(Duration::from_millis(2100));
    let mut reader = server.connect();
    for number in 0..HOT {
        assert_ne!(reader.line(&format!("GET key:{number}")), "nil");
    }
    write(18_000..34_000);
    assert!(field(&mut reader, "evicted_keys") > 1_000);
    let hot =
        (0..HOT).filter(|number| reader.ask(&["EXISTS", &format!("key:{number}")]).integer() == 1).count();
    assert!(hot as u64 >= HOT * 9 / 10, "{hot} of {HOT} keys that were used last are left");
}

#[test]
fn a_lower_limit_is_reached_by_itself() {
    let server = Server::launch(Launch::with(&["--maxmemory-policy", "allkeys-random"]));
    let mut client = server.connect();
    let mut chance = Chance::seeded("a lower limit");
    let first = chance.below(1000);
    for from in (first..first + 12_000).step_by(BATCH as usize) {
        assert_eq!(pipeline(&mut client, &(from..from + BATCH).map(set).collect::<Vec<_>>()), None);
    }
    client.check(&[("CONFIG SET maxmemory 2mb", "OK")]);
    crate::support::wait_until("the data is within the new limit", Duration::from_secs(30), || {
        field(&mut client, "used_memory") <= 2 << 20
    });
}
