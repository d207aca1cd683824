//! Values at the limit of 512 MB, and collections of very many elements.

use crate::support::{Client, Launch, Server, Value};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Redis's limit of a value; the short version sets a smaller one.
fn limit() -> usize {
    if std::env::var_os("LARDER_LONG").is_some() { 512 << 20 } else { 32 << 20 }
}

const TOO_LONG: &str = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)";

fn memory_mb(server: &Server, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process_id())).expect("it runs");
    let line =
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect("the kernel tells");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = work();
    eprintln!("{what}: {:?}", begun.elapsed());
    done
}

#[test]
fn long_strings_of_the_limit_work_and_longer_ones_are_refused() {
    let limit = limit();
    let server =
        Server::launch(Launch::with(&["--appendfsync", "no", "--proto-max-bulk-len", &limit.to_string()]));
    let mut client = server.connect();
    let mut value = vec![b'x'; limit];
    value[limit - 1] = b'e';
    timed("SET of the largest value", || {
        assert_eq!(client.ask(&[b"SET".as_slice(), b"large", &value]).to_string(), "OK");
    });
    eprintln!("memory: {} MB now, {} MB at most", memory_mb(&server, "RssAnon"), memory_mb(&server, "VmHWM"));
    let len = format!(":{limit}");
    client.check(&[
        ("STRLEN large", &len),
        ("GETRANGE large -4 -1", "\"xxxe\""),
        ("APPEND large x", TOO_LONG),
        (&format!("SETRANGE large {limit} x"), TOO_LONG),
        (&format!("SETRANGE large {} E", limit - 1), &len),
        (&format!("SETRANGE other {limit} x"), TOO_LONG),
        (&format!("SETBIT other {} 1", limit * 8), "-ERR bit offset is not an integer or out of range"),
        ("GETRANGE large -2 -1", "\"xE\""),
        ("EXISTS other", ":0"),
        ("RENAME large moved", "OK"),
        ("STRLEN moved", &len),
    ]);
    value[limit - 1] = b'E';
    timed("GET of the largest value", || {
        let reply = client.ask(&["GET", "moved"]);
        assert!(matches!(reply, Value::Bulk(bytes) if bytes == value), "it comes back as it is");
    });
    let dump = timed("DUMP of the largest value", || client.ask(&["DUMP", "moved"]));
    assert!(matches!(dump, Value::Bulk(bytes) if bytes.len() > 10), "it is dumped");
    // One byte more is refused before it is sent.
    let mut other = server.connect();
    other
        .send(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", limit + 1).as_bytes())
        .expect("the server reads");
    let (answer, is_closed) = other.read_rest(Duration::from_secs(5));
    assert_eq!(
        (answer.as_slice(), is_closed),
        (b"-ERR Protocol error: invalid bulk length\r\n".as_slice(), true)
    );
    client.check(&[("DBSIZE", ":1"), ("DEL moved", ":1"), ("SET small 1", "OK")]);
    eprintln!("memory: {} MB at most", memory_mb(&server, "VmHWM"));
}

/// A few bytes may ask for more than a record of the journal can hold: that ended a thread of the server.
#[test]
fn long_a_transaction_of_many_copies_is_kept_whole_or_refused() {
    let is_long = std::env::var_os("LARDER_LONG").is_some();
    let server = Server::launch(Launch::with(&["--appendfsync", "no"]));
    let mut client = server.connect();
    let len = limit();
    assert_eq!(client.ask(&[b"SET".as_slice(), b"large", &vec![b'x'; len]]).to_string(), "OK");
    client.check(&[("MULTI", "OK")]);
    for copy in 0..9 {
        client.expect(&["COPY", "large", &format!("copy:{copy}")], "QUEUED");
    }
    let answer = timed(&format!("MULTI of 9 COPYs of {} MB", len >> 20), || client.line("EXEC"));
    if is_long {
        assert_eq!(answer, "-ERR the changes of this transaction are larger than 4 GB in all");
        client.check(&[("DBSIZE", ":1"), ("EXISTS copy:0", ":0")]);
    } else {
        assert_eq!(answer, "[:1 :1 :1 :1 :1 :1 :1 :1 :1]");
        client.expect(&["STRLEN", "copy:8"], &format!(":{len}"));
    }
    client.check(&[("SET small 1", "OK")]);
    eprintln!("memory: {} MB at most", memory_mb(&server, "VmHWM"));
}

/// The longest that a PING and a SET of another connection take while `body` runs.
fn others_wait<T>(server: &Server, body: impl FnOnce() -> T) -> (T, Duration) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let (mut client, mut longest) = (server.connect(), Duration::ZERO);
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                client.check(&[("PING", "PONG"), ("SET other value", "OK")]);
                longest = longest.max(begun.elapsed());
                std::thread::sleep(Duration::from_millis(2));
            }
            longest
        });
        let done = body();
        stop.store(true, Ordering::Relaxed);
        (done, other.join().expect("the other is served"))
    })
}

fn fields() -> usize {
    if std::env::var_os("LARDER_LONG").is_some() { 1_000_000 } else { 100_000 }
}

fn step(server: &Server, client: &mut Client, line: &str) -> Value {
    let words = crate::support::words(line);
    let begun = Instant::now();
    let (reply, others) = others_wait(server, || client.ask(&words));
    eprintln!(
        "{line}: {:?}, others waited {others:?} at most, {} MB",
        begun.elapsed(),
        memory_mb(server, "RssAnon")
    );
    assert!(others < Duration::from_secs(60), "{line}: others waited {others:?}");
    reply
}

#[test]
fn long_a_hash_of_very_many_fields_is_handled() {
    let count = fields();
    let server = Server::launch(Launch::with(&["--appendfsync", "everysec"]));
    let mut client = server.connect();
    timed(&format!("HSET of {count} fields, 1,000 at a time"), || {
        for from in (0..count).step_by(1000) {
            let words = ["HSET".to_string(), "hash".to_string()].into_iter();
            let pairs =
                (from..from + 1000).flat_map(|number| [format!("field:{number}"), format!("value:{number}")]);
            assert_eq!(client.ask(&words.chain(pairs).collect::<Vec<_>>()).integer(), 1000);
        }
    });
    assert_eq!(client.line("HLEN hash"), format!(":{count}"));
    assert_eq!(step(&server, &mut client, "HGETALL hash").items().len(), 2 * count);
    assert_eq!(step(&server, &mut client, "HKEYS hash").items().len(), count);
    let (mut cursor, mut seen) = ("0".to_string(), 0);
    let ((), others) = others_wait(&server, || {
        loop {
            let reply = client.ask(&["HSCAN", "hash", &cursor, "COUNT", "1000"]);
            seen += reply.items()[1].items().len() / 2;
            cursor = reply.items()[0].text();
            if cursor == "0" {
                break;
            }
        }
    });
    assert_eq!(seen, count, "others waited {others:?}");
    eprintln!("HSCAN of all: others waited {others:?} at most");
    assert_eq!(step(&server, &mut client, "EXPIRE hash 100000").integer(), 1);
    assert_eq!(step(&server, &mut client, "COPY hash copy").integer(), 1);
    let dump = match step(&server, &mut client, "DUMP hash") {
        Value::Bulk(bytes) => bytes,
        other => panic!("{other:.100}"),
    };
    eprintln!("the dump has {} bytes", dump.len());
    let (reply, others) =
        others_wait(&server, || client.ask(&[b"RESTORE".as_slice(), b"restored", b"0", &dump]));
    assert_eq!(reply.to_string(), "OK");
    eprintln!("RESTORE: others waited {others:?} at most");
    step(&server, &mut client, "SAVE");
    for key in ["hash", "copy", "restored"] {
        assert_eq!(client.line(&format!("HLEN {key}")), format!(":{count}"));
        assert_eq!(
            client.line(&format!("HGET {key} field:{}", count - 1)),
            format!("\"value:{}\"", count - 1)
        );
    }
    let begun = Instant::now();
    assert_eq!(step(&server, &mut client, "DEL hash").integer(), 1);
    assert_eq!(step(&server, &mut client, "UNLINK copy restored").integer(), 2);
    assert!(begun.elapsed() < Duration::from_secs(5), "what is removed goes in the background");
    client.check(&[("EXISTS hash copy restored", ":0")]);
}
