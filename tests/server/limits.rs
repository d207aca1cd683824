//! Size and time: what must not depend on how large a value is, what memory allows, what expires when.

use crate::support::{Server, Value, wait_until};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

#[test]
fn removing_a_large_hash_takes_no_time() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let fill = |client: &mut crate::support::Client, key: &str| {
        client.pipeline((0..300).map(|batch| {
            let fields = (0..1000).flat_map(|n| [format!("field:{}", batch * 1000 + n), "v".to_string()]);
            ["HSET".to_string(), key.to_string()].into_iter().chain(fields).map(String::into_bytes).collect()
        }));
    };
    for removal in [["DEL", "large"].as_slice(), &["UNLINK", "large"], &["SET", "large", "x"], &["FLUSHDB"]] {
        fill(&mut client, "large");
        client.check(&[("HLEN large", ":300000")]);
        let begin = Instant::now();
        client.ask(removal);
        let took = begin.elapsed();
        assert!(took < Duration::from_millis(100), "{removal:?} of 300,000 fields took {took:?}");
        client.ask(&["DEL", "large"]);
        client.check(&[("HLEN large", ":0"), ("EXISTS large", ":0")]);
    }
}

#[test]
fn a_bit_in_a_long_string_costs_what_a_bit_costs() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.check(&[("SETRANGE long 99999999 x", ":100000000"), ("SETRANGE short 99 x", ":100")]);
    let mut time = |key: &str, bits: usize| {
        let begin = Instant::now();
        for n in 0..500 {
            client.ask(&["SETBIT", key, &(n * 7919 * 131 % bits).to_string(), "1"]);
        }
        begin.elapsed()
    };
    let (short, long) = (time("short", 800), time("long", 800_000_000));
    assert!(
        long < short * 10 + Duration::from_millis(200),
        "500 bits: {long:?} in 100 MB, {short:?} in 100 B"
    );
    client.check(&[
        ("GETBIT long 0", ":1"),
        ("STRLEN long", ":100000000"),
        ("GETRANGE long 99999998 -1", "\"\\x00x\""),
    ]);
}

#[test]
fn a_scan_misses_nothing_while_others_write() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.pipeline((0..10_000).map(|n| words(&["SET", &format!("stays:{n}"), "x"])));
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (server, done) = (&server, &done);
        scope.spawn(move || {
            let mut writer = server.connect();
            let mut n = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                n += 1;
                writer.ask(&["SET", &format!("comes:{n}"), "x"]);
                writer.ask(&["DEL", &format!("comes:{}", n / 2)]);
                writer.ask(&["SET", &format!("stays:{}", n % 10_000), "changed"]);
            }
        });
        for round in 0..3 {
            let mut seen = BTreeSet::new();
            let mut cursor = "0".to_string();
            loop {
                let reply = client.ask(&["SCAN", &cursor, "MATCH", "stays:*", "COUNT", "50"]);
                seen.extend(reply.items()[1].items().iter().map(Value::text));
                cursor = reply.items()[0].text();
                if round == 1 && seen.len() % 10 == 0 {
                    client.ask(&["BGSAVE"]);
                }
                if cursor == "0" {
                    break;
                }
            }
            assert_eq!(seen.len(), 10_000, "round {round}");
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_hash_scan_is_complete() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for fields in [10, 5000] {
        client.pipeline(
            (0..fields).map(|n| words(&["HSET", &format!("hash:{fields}"), &format!("f{n}"), "v"])),
        );
        let mut seen = BTreeSet::new();
        let mut cursor = "0".to_string();
        loop {
            let reply = client.ask(&["HSCAN", &format!("hash:{fields}"), &cursor, "COUNT", "100"]);
            seen.extend(reply.items()[1].items().chunks(2).map(|pair| pair[0].text()));
            cursor = reply.items()[0].text();
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(seen.len(), fields);
    }
}

#[test]
fn every_policy_keeps_data_within_maxmemory() {
    for policy in [
        "allkeys-lru",
        "allkeys-lfu",
        "allkeys-random",
        "volatile-lru",
        "volatile-lfu",
        "volatile-random",
        "volatile-ttl",
    ] {
        let server = Server::start(&["--maxmemory", "4mb", "--maxmemory-policy", policy]);
        let mut client = server.connect();
        client.check(&[("SET kept forever", "OK")]);
        let value = "x".repeat(1000);
        for n in 0..20_000 {
            let key = format!("key:{n}");
            let deadline = (100_000 + n).to_string();
            let reply = client.ask(&["SET", &key, &value, "EX", &deadline]);
            assert_eq!(reply.to_string(), "OK", "{policy}, key {n}");
        }
        let keys = client.ask(&["DBSIZE"]).integer();
        assert!((500..4_300).contains(&keys), "{policy}: {keys} keys of 1,000 B in 4 MB");
        let info = client.ask(&["INFO", "stats"]).text();
        let evicted = info.lines().find_map(|line| line.strip_prefix("evicted_keys:")).map(str::to_string);
        let evicted: i64 = evicted.and_then(|text| text.trim().parse().ok()).expect("INFO counts evictions");
        assert!(evicted >= 20_001 - keys - 1, "{policy}: {evicted} evicted, {keys} left");
        if policy.starts_with("volatile") {
            client.check(&[("GET kept", "\"forever\"")]);
        }
        if policy == "volatile-ttl" {
            client.check(&[("EXISTS key:0", ":0"), ("EXISTS key:19999", ":1")]);
        }
    }
}

#[test]
fn without_eviction_growth_is_refused_and_the_rest_works() {
    let server = Server::start(&["--maxmemory", "2mb"]);
    let mut client = server.connect();
    let value = "x".repeat(1000);
    let refused = (0..10_000).find_map(|n| {
        let reply = client.ask(&["SET", &format!("key:{n}"), &value]).to_string();
        (reply != "OK").then_some(reply)
    });
    assert_eq!(refused.as_deref(), Some("-OOM command not allowed when used memory > 'maxmemory'."));
    client.check(&[
        ("GET nothing", "nil"),
        ("MULTI", "OK"),
        ("SET a b", "-OOM command not allowed when used memory > 'maxmemory'."),
    ]);
    assert!(client.line("EXEC").starts_with("-EXECABORT"));
    client.check(&[("DEL key:0", ":1"), ("FLUSHALL", "OK")]);
    wait_until("there is room again", Duration::from_secs(10), || client.line("SET a b") == "OK");
}

#[test]
fn a_policy_can_be_changed_while_running() {
    let server = Server::start(&["--maxmemory", "2mb"]);
    let mut client = server.connect();
    let value = "x".repeat(1000);
    while client.ask(&["SET", &format!("key:{}", client_number()), &value]).to_string() == "OK" {}
    client.check(&[("CONFIG SET maxmemory-policy allkeys-lru", "OK")]);
    for _ in 0..3000 {
        client.expect(&["SET", &format!("key:{}", client_number()), &value], "OK");
    }
    client.check(&[("CONFIG SET maxmemory 0", "OK")]);
}

fn client_number() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

#[test]
fn keys_expire_on_time_and_by_themselves() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.pipeline((0..2000).map(|n| words(&["SET", &format!("key:{n}"), "x", "PX", "300"])));
    client.check(&[("SET stays x PX 100000", "OK"), ("SET precise x PX 200", "OK")]);
    let begin = Instant::now();
    while client.line("GET precise") != "nil" {
        assert!(begin.elapsed() < Duration::from_secs(5), "it does not expire");
    }
    assert!(begin.elapsed() > Duration::from_millis(150), "it went too early");
    wait_until("all are removed though nobody asks for them", Duration::from_secs(20), || {
        client.line("DBSIZE") == ":1"
    });
    let info = client.ask(&["INFO", "stats"]).text();
    assert!(info.contains("expired_keys:2001"), "{info}");
}

#[test]
fn many_databases_have_many_keys() {
    let server = Server::start(&["--databases", "64"]);
    let mut client = server.connect();
    for database in 0..64 {
        client.ask(&["SELECT", &database.to_string()]);
        client.expect(&["SET", "n", &database.to_string()], "OK");
    }
    client.check(&[("MOVE n 0", ":0"), ("GET n", "\"63\""), ("SELECT 64", "-ERR DB index is out of range")]);
}

#[test]
fn long_names_and_fields_are_names_like_others() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let long = |last: &str| format!("{}{last}", "n".repeat(5000));
    for last in ["a", "b"] {
        client.expect(&["SET", &long(last), last], "OK");
        client.expect(&["HSET", "hash", &long(last), last], ":1");
    }
    client.expect(&["SAVE"], "OK");
    for last in ["a", "b"] {
        client.expect(&["GET", &long(last)], &format!("\"{last}\""));
        client.expect(&["HGET", "hash", &long(last)], &format!("\"{last}\""));
    }
    client.check(&[("DBSIZE", ":3"), ("HLEN hash", ":2")]);
    assert_eq!(client.ask(&["KEYS", "n*"]).items().len(), 2);
    client.expect(&["DEL", &long("a")], ":1");
    client.expect(&["EXISTS", &long("b")], ":1");
}
