//! Clients people use, unmodified: redis-cli, redis-benchmark, redis-py, redis-rs.

use crate::support::{Finished, Server, finish};
use redis::{AsyncCommands, Commands};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

const WITHIN: Duration = Duration::from_secs(120);

fn redis_cli(server: &Server, arguments: &[&str], input: &str) -> Finished {
    let port = server.port.to_string();
    let finished =
        finish(Command::new("redis-cli").args(["-p", &port]).args(arguments), input.as_bytes(), WITHIN);
    assert!(finished.status.success(), "redis-cli {arguments:?}: {}{}", finished.output, finished.errors);
    finished
}

#[test]
fn redis_cli_answers_as_people_know_it() {
    let server = Server::start(&[]);
    let script = "SET greeting hello\nGET greeting\nHSET user name Ada born 1815\nHGETALL user\nINCR greeting\nGET nothing\n\
                  MULTI\nINCR n\nINCR n\nEXEC\n";
    let finished = redis_cli(&server, &["--no-raw"], script);
    let expect = "OK\n\"hello\"\n(integer) 2\n1) \"name\"\n2) \"Ada\"\n3) \"born\"\n4) \"1815\"\n\
                  (error) ERR value is not an integer or out of range\n(nil)\n\
                  OK\nQUEUED\nQUEUED\n1) (integer) 1\n2) (integer) 2\n";
    let compact =
        |text: &str| text.lines().filter(|line| !line.is_empty()).map(str::to_string).collect::<Vec<_>>();
    assert_eq!(compact(&finished.output), compact(expect));
}

#[test]
fn redis_cli_speaks_resp3() {
    let server = Server::start(&[]);
    redis_cli(&server, &["HSET", "user", "name", "Ada"], "");
    let finished = redis_cli(&server, &["-3", "--no-raw", "HGETALL", "user"], "");
    assert_eq!(finished.output, "1# \"name\" => \"Ada\"\n");
    redis_cli(&server, &["-n", "3", "SET", "elsewhere", "1"], "");
    assert_eq!(redis_cli(&server, &["-n", "3", "DBSIZE"], "").output, "1\n");
    assert_eq!(redis_cli(&server, &["EXISTS", "elsewhere"], "").output, "0\n");
}

#[test]
fn redis_cli_authenticates() {
    let server = Server::start(&["--requirepass", "open sesame"]);
    assert_eq!(redis_cli(&server, &["PING"], "").output.trim(), "NOAUTH Authentication required.");
    assert_eq!(redis_cli(&server, &["--no-auth-warning", "-a", "open sesame", "PING"], "").output, "PONG\n");
}

#[test]
fn redis_cli_shows_statistics() {
    let server = Server::start(&[]);
    server.connect().expect(&["SET", "key", "value"], "OK");
    let port = server.port.to_string();
    let mut child = Command::new("redis-cli")
        .args(["-p", &port, "--stat", "-i", "0.05"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("redis-cli is installed by tests/run");
    let lines: Vec<String> = BufReader::new(child.stdout.take().expect("it is piped"))
        .lines()
        .take(4)
        .map(|line| line.expect("a pipe can be read"))
        .collect();
    child.kill().expect("it is ours");
    child.wait().expect("it is ours");
    assert!(lines[0].contains("data") && lines[1].contains("clients"), "{lines:?}");
    for line in &lines[2..] {
        let first = line.split_whitespace().next();
        assert_eq!(first, Some("1"), "one key: {lines:?}");
    }
}

#[test]
fn redis_cli_finds_big_keys_and_scans() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.pipeline(
        (0..500).map(|key| [b"SET".to_vec(), format!("small:{key}").into_bytes(), b"x".to_vec()].to_vec()),
    );
    client.expect(&["SET", "large", &"x".repeat(1000)], "OK");
    client.expect(&["HSET", "hash", "a", "1", "b", "2"], ":2");
    let biggest = redis_cli(&server, &["--bigkeys"], "").output;
    assert!(biggest.contains("Biggest string found '\"large\"' has 1000 bytes"), "{biggest}");
    assert!(biggest.contains("Biggest   hash found '\"hash\"' has 2 fields"), "{biggest}");
    let memory = redis_cli(&server, &["--memkeys"], "").output;
    assert!(memory.contains("Biggest string found '\"large\"'"), "{memory}");
    let scanned = redis_cli(&server, &["--scan", "--pattern", "small:*"], "").output;
    assert_eq!(scanned.lines().collect::<std::collections::BTreeSet<_>>().len(), 500);
}

#[test]
fn redis_cli_measures_latency() {
    let server = Server::start(&[]);
    let output = redis_cli(&server, &["--latency", "-i", "0.3"], "").output;
    let numbers: Vec<f64> = output.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert!(numbers.len() >= 4 && numbers[3] > 1.0, "least, most, mean, samples: {output}");
}

#[test]
fn redis_cli_completes_from_command_docs() {
    let server = Server::start(&[]);
    let help = redis_cli(&server, &["HELP", "SET"], "").output;
    assert!(help.contains("summary:") && help.contains("KEEPTTL"), "{help}");
    let ours = redis_cli(&server, &["--json", "-3", "COMMAND", "DOCS", "set"], "").output;
    let summary =
        ours.split("\"summary\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a summary");
    assert!(help.contains(summary), "redis-cli shows the server's own words: {help}");
}

#[test]
fn redis_benchmark_runs_its_own_tests() {
    let server = Server::start(&[]);
    let port = server.port.to_string();
    for pipeline in ["1", "16"] {
        let finished = finish(
            Command::new("redis-benchmark")
                .args(["-p", &port, "-n", "4000", "-r", "1000", "-c", "20", "-P", pipeline])
                .args(["-t", "ping,set,get,incr,hset,mset", "--csv"]),
            b"",
            WITHIN,
        );
        assert!(finished.status.success(), "{}{}", finished.output, finished.errors);
        assert!(
            !finished.output.contains("rror") && !finished.errors.contains("rror"),
            "{}{}",
            finished.output,
            finished.errors
        );
        assert!(!finished.errors.contains("WARNING"), "{}", finished.errors);
        let tests: Vec<&str> =
            finished.output.lines().skip(1).filter_map(|line| line.split('"').nth(1)).collect();
        assert_eq!(tests, ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "HSET", "MSET (10 keys)"]);
    }
    assert!(server.connect().ask(&["DBSIZE"]).integer() > 1000);
}

#[test]
fn redis_benchmark_runs_commands_of_ones_own_in_resp3() {
    let server = Server::start(&[]);
    let port = server.port.to_string();
    let command = ["-3", "-q", "-n", "2000", "-r", "100", "HSET", "hash:__rand_int__", "field", "value"];
    let finished = finish(Command::new("redis-benchmark").args(["-p", &port]).args(command), b"", WITHIN);
    assert!(
        finished.status.success() && finished.output.contains("requests per second"),
        "{}",
        finished.output
    );
    server.connect().check(&[("DBSIZE", ":100"), ("HGET hash:000000000042 field", "\"value\"")]);
}

#[test]
fn redis_py_works_in_both_protocols() {
    let server = Server::start(&[]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/redis_py.py");
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/target/python/bin/python");
    let finished = finish(Command::new(python).args([script, &server.port.to_string()]), b"", WITHIN);
    assert!(finished.status.success(), "{}{}", finished.output, finished.errors);
    assert!(
        finished.output.contains("RESP2: ok") && finished.output.contains("RESP3: ok"),
        "{}",
        finished.output
    );
}

#[test]
fn redis_rs_works_blocking() {
    let server = Server::start(&[]);
    for protocol in ["", "?protocol=resp3"] {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/5{protocol}", server.port))
            .expect("an address");
        let mut connection = client.get_connection().expect("it connects");
        let _: () = connection.set("key", "value").expect("SET");
        assert_eq!(connection.get::<_, String>("key").expect("GET"), "value");
        assert_eq!(connection.incr::<_, _, i64>("counter", 5).expect("INCRBY") % 5, 0);
        let _: () = connection.hset_multiple("hash", &[("a", 1), ("b", 2)]).expect("HSET");
        let hash: std::collections::BTreeMap<String, i64> = connection.hgetall("hash").expect("HGETALL");
        assert_eq!(hash.into_iter().collect::<Vec<_>>(), [("a".to_string(), 1), ("b".to_string(), 2)]);
        let (one, two): (i64, String) = redis::pipe()
            .atomic()
            .set("n", 1)
            .ignore()
            .incr("n", 1)
            .get("key")
            .query(&mut connection)
            .expect("MULTI and EXEC");
        assert_eq!((one, two.as_str()), (2, "value"));
        let moved: (i64,) = redis::transaction(&mut connection, &["n"], |connection, pipe| {
            let n: i64 = connection.get("n")?;
            pipe.set("n", n + 40).ignore().get("n").query(connection)
        })
        .expect("WATCH");
        assert_eq!(moved, (42,));
        let mut keys: Vec<String> =
            connection.scan_match("*").expect("SCAN").collect::<Result<_, _>>().expect("keys are text");
        keys.sort();
        assert_eq!(keys, ["counter", "hash", "key", "n"]);
        let error = connection.incr::<_, _, i64>("key", 1).expect_err("it is no number");
        assert!(error.to_string().contains("not an integer"), "{error}");
    }
}

#[test]
fn redis_rs_works_asynchronously() {
    let server = Server::start(&[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for protocol in ["", "?protocol=resp3"] {
            let client = redis::Client::open(format!("redis://127.0.0.1:{}{protocol}", server.port))
                .expect("an address");
            let connection = client.get_multiplexed_async_connection().await.expect("it connects");
            let tasks: Vec<_> = (0..50)
                .map(|task: i64| {
                    let mut connection = connection.clone();
                    tokio::spawn(async move {
                        let key = format!("key:{task}");
                        let _: () = connection.set_ex(&key, task, 100).await.expect("SETEX");
                        let ttl: i64 = connection.ttl(&key).await.expect("TTL");
                        assert!((90..=100).contains(&ttl), "{ttl}");
                        connection.get::<_, i64>(&key).await.expect("GET")
                    })
                })
                .collect();
            for (expect, task) in tasks.into_iter().enumerate() {
                assert_eq!(task.await.expect("no panic"), expect as i64);
            }
        }
    });
}
