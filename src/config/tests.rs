//! Tests of the whole: loading, CONFIG GET and CONFIG SET.

use super::load::Sources;
use super::settings::{Allowed, EvictionPolicy, Fsync, ReplicaReads};
use super::table::{Effect, PARAMETERS};
use super::*;
use crate::base::concern::WriteConcern;
use std::cell::RefCell;
use std::collections::BTreeSet;

fn get(parameters: &Parameters, pattern: &str) -> Vec<(String, String)> {
    let found = parameters.get(&[pattern.as_bytes()]);
    found
        .into_iter()
        .map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(&value).into_owned()))
        .collect()
}

fn value(parameters: &Parameters, name: &str) -> String {
    get(parameters, name).pop().map(|(_, value)| value).unwrap_or_default()
}

fn set(parameters: &Parameters, pairs: &[(&str, &str)]) -> Result<Vec<&'static str>, String> {
    let pairs: Vec<(&[u8], &[u8])> =
        pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    parameters.set(&pairs, false, |_, _| Ok(()))
}

#[test]
fn the_settings_read_exactly_the_effective_rows() {
    let state = State::of_defaults();
    let read = RefCell::new(BTreeSet::new());
    Settings::from_shown(|name| {
        read.borrow_mut().insert(name);
        let index = PARAMETERS.iter().position(|row| row.name == name).expect("a row");
        &state.values[index]
    });
    for row in PARAMETERS {
        let is_read = read.borrow_mut().remove(row.name);
        match row.effect {
            Effect::AsInRedis | Effect::Differs(_) | Effect::Ours(_) => assert!(is_read, "{}", row.name),
            Effect::Nothing(_) => assert!(!is_read, "{}", row.name),
            Effect::NotYet(_) | Effect::Refused(_) => {} // a field may wait for whoever builds what is missing
        }
    }
    assert!(read.into_inner().is_empty());
}

#[test]
fn defaults_are_redis_defaults() {
    let settings = Parameters::default().snapshot();
    assert_eq!((settings.port, settings.maxclients, settings.databases), (6379, 10_000, 16));
    assert_eq!(settings.bind, ["*", "-::*"]);
    assert_eq!(settings.appendfsync, Fsync::EverySecond);
    assert_eq!(settings.maxmemory_policy, EvictionPolicy::NoEviction);
    assert_eq!(settings.client_output_buffer_limit[1].hard, 256 << 20);
    assert_eq!(settings.latency_tracking_info_percentiles, [50.0, 99.0, 99.9]);
    assert_eq!(settings.list_max_listpack_size, -2);
    assert_eq!(settings.enable_debug_command, Allowed::No);
    assert!(settings.dir.is_absolute() && settings.dir.ends_with("data"));
}

#[test]
fn get_takes_patterns_and_aliases() {
    let parameters = Parameters::default();
    let names =
        |pattern: &str| get(&parameters, pattern).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names("hash-max-*-entries"), ["hash-max-listpack-entries", "hash-max-ziplist-entries"]);
    assert_eq!(names("SLAVE-PRIORITY"), ["slave-priority"]);
    assert_eq!(names("[t]imeou?"), ["timeout"]);
    assert_eq!(names("nosuch"), [""; 0]);
    assert!(names("watchdog*").is_empty() && names("watchdog-period").len() == 1, "hidden from patterns");
    assert_eq!(parameters.get(&[b"timeout", b"time*"]).len(), 1);
    assert_eq!(
        value(&parameters, "client-output-buffer-limit"),
        "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60"
    );
}

#[test]
fn set_changes_all_or_nothing() {
    let parameters = Parameters::default();
    let error = set(&parameters, &[("timeout", "7"), ("tcp-keepalive", "x")]);
    assert_eq!(
        error.expect_err("no integer"),
        "ERR CONFIG SET failed (possibly related to argument 'tcp-keepalive') - argument couldn't be parsed into an integer"
    );
    assert_eq!(parameters.settings().timeout, 0);
    let changed = set(&parameters, &[("TIMEOUT", "7"), ("slave-priority", "5"), ("tcp-keepalive", "300")]);
    assert_eq!(changed.expect("valid"), ["timeout", "replica-priority"]);
    assert_eq!((parameters.settings().timeout, value(&parameters, "replica-priority").as_str()), (7, "5"));
}

#[test]
fn set_refuses_in_the_words_of_redis() {
    // Each pair was answered so by redis-server 7.0.15.
    let parameters = Parameters::default();
    let refused = "ERR CONFIG SET failed (possibly related to argument";
    for (pairs, expected) in [
        (
            vec![("nosuch", "1")],
            "ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'".to_owned(),
        ),
        (vec![("timeout", "1"), ("timeout", "2")], format!("{refused} 'timeout') - duplicate parameter")),
        (
            vec![("daemonize", "yes"), ("nosuch", "1")],
            format!("{refused} 'daemonize') - can't set immutable config"),
        ),
        (vec![("dir", "/tmp")], format!("{refused} 'dir') - can't set protected config")),
        (vec![("dbfilename", "x")], format!("{refused} 'dbfilename') - can't set protected config")),
        (
            vec![("protected-mode", "1")],
            format!("{refused} 'protected-mode') - argument must be 'yes' or 'no'"),
        ),
        (vec![("maxmemory", "1t")], format!("{refused} 'maxmemory') - argument must be a memory value")),
        (
            vec![("proto-max-bulk-len", "1")],
            format!(
                "{refused} 'proto-max-bulk-len') - argument must be between 1048576 and 9223372036854775807 inclusive"
            ),
        ),
        (
            vec![("appendfsync", "x")],
            format!(
                "{refused} 'appendfsync') - argument(s) must be one of the following: everysec, always, no"
            ),
        ),
        (vec![("save", "10 1 20")], format!("{refused} 'save') - Invalid save parameters")),
        (vec![("save", " 10 1")], format!("{refused} 'save') - Invalid save parameters")),
        (
            vec![("notify-keyspace-events", "q")],
            format!(
                "{refused} 'notify-keyspace-events') - Invalid event class character. Use 'Ag$lshzxeKEtmdn'."
            ),
        ),
        (
            vec![("client-output-buffer-limit", "normal 1 2")],
            format!(
                "{refused} 'client-output-buffer-limit') - Wrong number of arguments in buffer limit configuration."
            ),
        ),
        (
            vec![("client-output-buffer-limit", "master 1 2 3")],
            format!(
                "{refused} 'client-output-buffer-limit') - Invalid client class specified in buffer limit configuration."
            ),
        ),
        (
            vec![("maxmemory-clients", "101%")],
            format!("{refused} 'maxmemory-clients') - percentage argument must be less or equal to 100"),
        ),
        (
            vec![("shutdown-on-sigterm", "save nosave")],
            format!(
                "{refused} 'shutdown-on-sigterm') - shutdown options SAVE and NOSAVE can't be used simultaneously"
            ),
        ),
        (
            vec![("latency-tracking-info-percentiles", "1 2 -1")],
            format!(
                "{refused} 'latency-tracking-info-percentiles') - latency-tracking-info-percentiles parameters should sit \
                 between [0.0,100.0]"
            ),
        ),
    ] {
        assert_eq!(set(&parameters, &pairs).expect_err("refused"), expected);
    }
}

#[test]
fn values_are_shown_as_redis_shows_them() {
    let parameters = Parameters::default();
    for (name, given, shown) in [
        ("maxmemory", "100MB", "104857600"),
        ("appendfsync", "ALWAYS", "always"),
        ("hz", "0", "1"),
        ("hz", "1000", "500"),
        ("save", "", ""),
        ("save", "60 1 30 2", "60 1 30 2"),
        ("notify-keyspace-events", "KEA", "AKE"),
        ("notify-keyspace-events", "tdxK", "xtdK"),
        ("notify-keyspace-events", "", ""),
        ("shutdown-on-sigterm", "now SAVE", "save now"),
        ("shutdown-on-sigterm", "save default", "save"),
        ("latency-tracking-info-percentiles", "50 99.9 100.0 1e1", "50 99.9 100 10"),
        ("latency-tracking-info-percentiles", "", ""),
        (
            "client-output-buffer-limit",
            "REPLICA 1kb 2 3",
            "normal 0 0 0 slave 1024 2 3 pubsub 33554432 8388608 60",
        ),
        ("maxmemory-clients", "10%", "10%"),
        ("oom-score-adj-values", "1 2 -3", "1 2 -3"),
    ] {
        set(&parameters, &[(name, given)]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(value(&parameters, name), shown, "{name} {given}");
    }
    assert_eq!(parameters.settings().maxmemory_clients, 10_485_760, "a tenth of maxmemory");
}

#[test]
fn a_list_is_read_as_it_is_shown() {
    let shown = |words: &[&[u8]]| {
        let arguments = vec![[&[&b"bind"[..]], words].concat().into_iter().map(<[u8]>::to_vec).collect()];
        let loaded = Parameters::load(&Sources { arguments, ..Sources::default() });
        loaded.map(|loaded| value(&loaded.parameters, "bind")).map_err(|error| error.to_string())
    };
    assert_eq!(shown(&[b"a  b", b"c"]), Ok("a b c".to_owned()));
    assert_eq!(shown(&[b""]), Ok(String::new()));
    assert!(shown(&[b"1 2 3 4 5 6 7 8 9", b"1 2 3 4 5 6 7 8 9"]).is_err());
}

#[test]
fn what_cannot_be_put_into_force_is_not_set() {
    let parameters = Parameters::default();
    let error = parameters.set(&[(b"timeout", b"5"), (b"port", b"7000")], true, |settings, changed| {
        assert_eq!((settings.port, changed), (7000, &["timeout", "port"][..]));
        Err(("port", "no".to_owned()))
    });
    let refused = "ERR CONFIG SET failed (possibly related to argument 'port') - no";
    assert_eq!(error, Err(refused.to_owned()));
    assert_eq!((value(&parameters, "timeout"), value(&parameters, "port")), ("0".into(), "6379".into()));
}

#[test]
fn protected_parameters_need_permission() {
    let parameters = Parameters::with(&["enable-protected-configs local"]).expect("valid");
    let set = |name: &[u8], is_local| parameters.set(&[(b"dbfilename", name)], is_local, |_, _| Ok(()));
    assert!(set(b"x.rdb", false).is_err());
    assert_eq!(set(b"x.rdb", true), Ok(vec!["dbfilename"]));
    let error = set(b"a/b", true).expect_err("a path");
    assert!(error.ends_with("dbfilename can't be a path, just a filename"), "{error}");
}

#[test]
fn later_sources_win() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("redis.conf");
    std::fs::write(
        &path,
        "port 1\ntimeout 1\nmaxclients 1\nsave 1 1\nsave 2 2\nappendonly no\nuser alice on\n",
    )
    .expect("written");
    let words = |line: &str| file::split_words(line.as_bytes()).expect("words");
    let loaded = Parameters::load(&Sources {
        file: Some(path),
        reads_stdin: false,
        environment: [
            ("LARDER_TIMEOUT", "2"),
            ("LARDER_MAXCLIENTS", "2"),
            ("LARDER_REQUIREPASS", "a b # c"),
            ("LARDER_PORT", "tcp://10.0.0.1:6379"),
            ("LARDER_SERVICE_HOST", "10.0.0.1"),
            ("LARDER_SERVICE_PORT_CLIENTS", "6379"),
            ("LARDER_MAIN_SERVICE_PORT", "6379"),
            ("LARDER_MAIN_PORT", "tcp://10.0.0.1:6379"),
            ("LARDER_MAIN_PORT_6379_TCP_ADDR", "10.0.0.1"),
            ("PATH", "/bin"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec(),
        arguments: vec![words("maxclients 3"), words("bind 127.0.0.1 ::1")],
    })
    .expect("valid");
    let settings = loaded.parameters.snapshot();
    assert_eq!((settings.port, settings.timeout, settings.maxclients), (1, 2, 3));
    assert_eq!(settings.requirepass.0, b"a b # c");
    assert_eq!(settings.bind, ["127.0.0.1", "::1"]);
    assert_eq!(value(&loaded.parameters, "save"), "1 1 2 2");
    assert_eq!(loaded.parameters.users(), [vec![b"alice".to_vec(), b"on".to_vec()]]);
    let told = "accepted, but without effect in Larder: appendonly (the journal is always on; only the first import looks at it), \
                save (checkpoints are written all the time; nothing depends on intervals)";
    assert_eq!(loaded.notices, [told]);
}

#[test]
fn a_start_with_a_bad_directive_says_where_and_hides_secrets() {
    for (line, expected) in [
        ("nosuch 1", ">>> 'nosuch'\nBad directive or wrong number of arguments"),
        ("port abc", ">>> 'port \"abc\"'\nargument couldn't be parsed into an integer"),
        ("port 1 2", ">>> 'port \"1\" \"2\"'\nwrong number of arguments"),
        ("requirepass a b", ">>> 'requirepass'\nwrong number of arguments"),
        ("timeout", ">>> 'timeout'\nwrong number of arguments"),
    ] {
        let error = Parameters::with(&[line]).err().expect("refused").to_string();
        assert!(error.starts_with("*** FATAL CONFIG FILE ERROR (Larder "), "{error}");
        assert!(error.ends_with(expected), "{error}");
    }
}

#[test]
fn a_server_without_a_file_cannot_rewrite_it() {
    let error = Parameters::default().rewrite().expect_err("no file");
    assert_eq!(error, "ERR The server is running without a config file");
}

#[test]
fn what_cannot_be_switched_on_is_refused_later_and_ignored_at_the_start() {
    let parameters = Parameters::with(&["activedefrag yes"]).expect("valid");
    assert_eq!(value(&parameters, "activedefrag"), "no");
    assert!(set(&parameters, &[("activedefrag", "yes")]).is_err());
    assert_eq!(set(&parameters, &[("activedefrag", "no")]), Ok(vec![]));
}

#[test]
fn a_secret_is_not_printed() {
    let parameters = Parameters::with(&["requirepass hush"]).expect("valid");
    assert!(!format!("{:?}", parameters.snapshot()).contains("hush"));
}

#[test]
fn an_unknown_variable_of_ours_is_an_error() {
    let environment = vec![("LARDER_MAXMEMROY".to_owned(), "1gb".to_owned())];
    let error =
        Parameters::load(&Sources { environment, ..Sources::default() }).err().expect("refused").to_string();
    assert!(error.contains("environment variable LARDER_MAXMEMROY\n>>> 'maxmemroy'"), "{error}");
}

proptest::proptest! {
    #[test]
    fn no_words_make_a_kind_panic(words in proptest::collection::vec("[0-9a-z%. /-]{0,12}|\\PC{0,6}", 0..9)) {
        let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
        for row in PARAMETERS {
            let _ = row.kind.read(&words, row.default.as_bytes());
        }
    }
}

#[test]
fn redis_parameters_have_their_names_and_defaults() {
    // CONFIG GET * of redis-server 7.0.15 without configuration, sorted; the port and folder of the recording taken out.
    const RECORDED: &str = include_str!("redis-7.0-parameters.txt");
    // Every write is journaled; data has its own folder; a journal is larger than a stream of commands.
    const WANTED: [&str; 3] = ["appendonly", "dir", "repl-backlog-size"];
    const NEWER: [&str; 4] = [
        "cluster-announce-human-nodename",
        "locale-collate",
        "set-max-listpack-entries",
        "set-max-listpack-value",
    ];
    const OURS: [&str; 21] = [
        "bootstrap-expect",
        "cluster-secret",
        "cluster-seeds",
        "witness",
        "zone",
        "checkpoint-age",
        "checkpoint-journal-size",
        "checkpoint-overlay-size",
        "failover-wait",
        "http-bind",
        "http-port",
        "log-format",
        "partitions",
        "replica-reads",
        "replicas",
        "row-cache-size",
        "runtime-threads",
        "sentinel-master-name",
        "write-concern",
        "write-concern-databases",
        "write-concern-timeout",
    ];
    let shown = get(&Parameters::default(), "*");
    let mut others: Vec<&str> = shown.iter().map(|(name, _)| name.as_str()).collect();
    for line in RECORDED.lines() {
        let (name, default) = line.split_once('\t').expect("name and value");
        let found = shown.iter().find(|(known, _)| known == name);
        let (_, value) = found.unwrap_or_else(|| panic!("{name} is missing"));
        assert!(WANTED.contains(&name) || value == default, "{name}: {value} instead of {default}");
        others.retain(|other| *other != name);
    }
    others.sort_unstable();
    let mut expected: Vec<&str> = NEWER.into_iter().chain(OURS).collect();
    expected.sort_unstable();
    assert_eq!(others, expected);
}

#[test]
fn concerns_and_reads_of_replicas_are_read_as_they_are_shown() {
    let parameters = Parameters::default();
    set(&parameters, &[("write-concern-databases", "1 MAJORITY 2 all"), ("replica-reads", "Max-Lag=250")])
        .expect("valid");
    let settings = parameters.snapshot();
    assert_eq!(settings.write_concern_databases, [(1, WriteConcern::Majority), (2, WriteConcern::All)]);
    assert_eq!(
        (settings.write_concern_of(0), settings.write_concern_of(2)),
        (WriteConcern::Local, WriteConcern::All)
    );
    assert_eq!(settings.replica_reads, ReplicaReads::MaxLag(250));
    assert_eq!(value(&parameters, "write-concern-databases"), "1 majority 2 all");
    for (name, wrong) in [
        ("write-concern-databases", "1"),
        ("write-concern-databases", "1 two"),
        ("write-concern-databases", "70000 one"),
        ("write-concern-databases", "1 one 1 all"),
        ("replica-reads", "max-lag=0"),
        ("replica-reads", "nearest"),
        ("write-concern", "two"),
    ] {
        set(&parameters, &[(name, wrong)]).expect_err(wrong);
    }
    set(&parameters, &[("write-concern-databases", "")]).expect("none");
    assert!(parameters.snapshot().write_concern_databases.is_empty());
}

#[test]
fn who_is_followed_is_written_into_the_file() {
    let parameters = Parameters::with(&["replicaof example.org 6380"]).expect("valid");
    assert_eq!(parameters.settings().replicaof, Some(("example.org".to_owned(), 6380)));
    assert_eq!(
        parameters.rewritten(b"timeout 1"),
        b"timeout 0\n# Generated by CONFIG REWRITE\nreplicaof example.org 6380\n"
    );
    parameters.put("replicaof", Vec::new());
    assert_eq!(parameters.settings().replicaof, None);
    assert_eq!(parameters.rewritten(b"replicaof example.org 6380\nport 6379"), b"port 6379\n");
}

#[test]
fn an_image_has_defaults_of_its_own() {
    let loaded = |lines: &str, arguments: &[&[u8]]| {
        let environment = vec![("LARDER_DEFAULTS".to_owned(), lines.to_owned())];
        let arguments = vec![arguments.iter().map(|word| word.to_vec()).collect()];
        let arguments = if arguments == [Vec::<Vec<u8>>::new()] { Vec::new() } else { arguments };
        Parameters::load(&Sources { environment, arguments, ..Sources::default() })
    };
    let settings = |lines: &str, arguments: &[&[u8]]| {
        loaded(lines, arguments).map(|loaded| loaded.parameters.snapshot()).expect("they are directives")
    };
    assert_eq!(settings("port 7000; timeout 5;", &[]).port, 7000);
    assert_eq!(settings("port 7000", &[b"port", b"7001"]).port, 7001, "what comes later counts");
    assert!(loaded("no-such-directive 1", &[]).is_err());
    assert!(loaded("port \"1", &[]).is_err());
}
