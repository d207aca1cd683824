//! `larder lost`: what a failover lost is listed, shown, and given to a server.

use crate::support::{Finished, Server, finish};
use larder::base::ids::{Lsn, PartitionId};
use larder::replication::lost::write_tail;
use larder::replication::storage::LostTail;
use larder::store::{Options, Store};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const FAR: &str = "99999999999999";

/// Runs `larder lost` with these words.
fn lost(words: &[&str], password: Option<&str>) -> Finished {
    let mut command = Command::new(Server::program());
    command.arg("lost").args(words).env_remove("LARDER_PASSWORD");
    command.envs(password.map(|password| ("LARDER_PASSWORD", password)));
    finish(&mut command, b"", Duration::from_mins(1))
}

/// Writes out all that the server in this data folder, which has ended, has of its partitions.
fn write_tails(data: &Path) -> Vec<PathBuf> {
    let store = Store::open(data, 16, 16, Options::default()).expect("opens");
    let written = (0..store.partition_count()).filter_map(|id| {
        let tail = LostTail { partition: PartitionId(id), common: Some(Lsn(0)) };
        let lost = write_tail(&store, &data.join("lost"), tail, 1_000).expect("writes");
        assert_eq!(lost.missing, None);
        lost.file
    });
    written.collect()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ours is text")
}

/// What a server holds, as DUMP has it, without what is given away by the order of keys.
fn all_of(server: &Server) -> Vec<String> {
    let mut client = server.connect();
    let mut found = Vec::new();
    for database in 0..4 {
        client.expect(&["SELECT", &database.to_string()], "OK");
        for name in client.ask(&["KEYS", "*"]).items() {
            let crate::support::Value::Bulk(name) = name else { panic!("{name} is no name") };
            let (dump, at) = (client.ask(&[&b"DUMP"[..], name]), client.ask(&[&b"PEXPIRETIME"[..], name]));
            found.push(format!("{database} {} {dump} {at}", name.escape_ascii()));
        }
    }
    found.sort();
    found
}

/// A server with all kinds of values, which has ended, and its files.
fn server_with_tails() -> (Server, Vec<String>, Vec<PathBuf>) {
    let mut server = Server::start(&[]);
    let mut client = server.connect();
    client.check(&[
        ("SET text hello", "OK"),
        ("SET \"\\x00\\xff\\n\" \"\\xfe\"", "OK"),
        (&format!("SET deadline x PXAT {FAR}"), "OK"),
        ("SET passing x PX 1", "OK"),
        ("HSET small a 1 b 2", ":2"),
        ("SET removed 1", "OK"),
        ("DEL removed", ":1"),
        ("SELECT 3", "OK"),
        ("SET text elsewhere", "OK"),
        ("MULTI", "OK"),
        ("SET both:1 x", "QUEUED"),
        ("SET both:2 y", "QUEUED"),
        ("EXEC", "[OK OK]"),
    ]);
    client.pipeline((0..1500).map(|n| {
        ["HSET", "large", &format!("field:{n}"), "v"].map(|word| word.as_bytes().to_vec()).to_vec()
    }));
    client.ask(&["SETRANGE", "long", "1000000", "end"]);
    let all = all_of(&server);
    server.kill(); // an ordered stop leaves nothing in the journal
    let files = write_tails(&server.folder().join("data"));
    (server, all, files)
}

fn replay_all(files: &[PathBuf], server: &Server, options: &[&str]) -> Vec<Finished> {
    let address = format!("127.0.0.1:{}", server.port);
    let run = |file: &PathBuf| lost(&[&["replay", text(file), "--to", &address], options].concat(), None);
    files.iter().map(run).collect()
}

#[test]
fn what_was_lost_is_listed_shown_and_given_back() {
    let (old, all, files) = server_with_tails();
    let data = old.folder().join("data");
    let listed = lost(&["list", text(&data)], None);
    assert!(listed.status.success(), "{}", listed.errors);
    assert_eq!(listed.output.matches(" transactions, from 20").count(), files.len(), "{}", listed.output);
    let shown: String = files.iter().map(|file| lost(&["show", text(file)], None).output).collect();
    for part in [
        "db 0 set \"text\" = \"hello\"",
        "db 0 \"text\" = \"hello\"",
        r#"db 0 set "\x00\xff\n" = base64 /g=="#,
        r#"db 0 "\x00\xff\n" = "\xfe""#,
        "db 0 delete \"removed\"",
        "db 0 \"removed\" is not there",
        "db 0 \"small\" hash of 2 fields: \"a\" = \"1\", \"b\" = \"2\"",
        "db 3 \"large\" hash of 1500 fields: ",
        "expires 5138-11-16T09:46:39.999Z",
        "(1000003 bytes)",
    ] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }

    let server = Server::start(&[]);
    for finished in replay_all(&files, &server, &[]) {
        assert!(finished.status.success(), "{}{}", finished.output, finished.errors);
        assert!(finished.output.ends_with("may be removed\n"), "{}", finished.output);
    }
    assert_eq!(all_of(&server), all);
    for finished in replay_all(&files, &server, &[]) {
        assert!(finished.status.success() && !finished.output.contains("restored"), "{}", finished.output);
    }

    server.connect().check(&[
        ("SET text other", "OK"),
        ("SET removed 1", "OK"),
        ("DEL small deadline", ":2"),
        ("SELECT 3", "OK"),
        ("DEL large", ":1"),
    ]);
    let before = all_of(&server);
    let refused = replay_all(&files, &server, &[]);
    assert_eq!(refused.iter().filter(|finished| finished.errors.contains("nothing was done")).count(), 2);
    // The files without a conflict were played: they alone.
    let changed: Vec<String> = all_of(&server).into_iter().filter(|key| !before.contains(key)).collect();
    assert!(changed.iter().all(|key| all.contains(key)), "{changed:?}");
    server.connect().check(&[("GET text", "\"other\""), ("GET removed", "\"1\"")]);

    let skipped = replay_all(&files, &server, &["--only-missing"]);
    assert_eq!(skipped.iter().filter(|finished| !finished.status.success()).count(), 2);
    assert_eq!(skipped.iter().map(|finished| finished.output.matches("skipped").count()).sum::<usize>(), 2);
    server.connect().check(&[("GET text", "\"other\""), ("GET removed", "\"1\""), ("HLEN small", ":2")]);

    for finished in replay_all(&files, &server, &["--replace"]) {
        assert!(finished.status.success(), "{}{}", finished.output, finished.errors);
    }
    assert_eq!(all_of(&server), all);
}

#[test]
fn any_server_of_the_protocol_takes_it() {
    let (_old, _, files) = server_with_tails();
    let server = Server::start_reference(&[]);
    for finished in replay_all(&files, &server, &["--only-missing"]) {
        assert!(finished.status.success(), "{}{}", finished.output, finished.errors);
    }
    server.connect().check(&[
        ("GET text", "\"hello\""),
        ("GET \"\\x00\\xff\\n\"", "\"\\xfe\""),
        ("PEXPIRETIME deadline", ":99999999999999"),
        ("HGET small b", "\"2\""),
        ("DBSIZE", ":4"),
        ("SELECT 3", "OK"),
        ("HLEN large", ":1500"),
        ("STRLEN long", ":1000003"),
        ("DBSIZE", ":5"),
    ]);
}

#[test]
fn keys_may_be_chosen_and_the_server_may_want_a_password() {
    let (_old, _, files) = server_with_tails();
    let server = Server::start(&["--requirepass", "secret"]);
    let address = format!("127.0.0.1:{}", server.port);
    let is_there = |file: &&PathBuf| {
        fs::read_to_string(file).expect("is text").contains("\"database\":3,\"key\":\"text\"")
    };
    let file = text(files.iter().find(is_there).expect("it is in one"));
    let refused = lost(&["replay", file, "text", "--to", &address], None);
    assert!(!refused.status.success() && refused.errors.contains("NOAUTH"), "{}", refused.errors);
    let wrong = lost(&["replay", file, "text", "--to", &address], Some("guess"));
    assert!(!wrong.status.success() && wrong.errors.contains("WRONGPASS"), "{}", wrong.errors);
    let done = lost(&["replay", file, "text", "--database", "3", "--to", &address], Some("secret"));
    assert!(done.status.success(), "{}", done.errors);
    assert_eq!(done.output, "db 3 \"text\" restored\n1 of 1 keys are as in the file\n");
    let passwords = tempfile::tempdir().expect("a folder");
    let password = passwords.path().join("password");
    fs::write(&password, "secret\n").expect("writes");
    let words = [
        "replay",
        file,
        "dGV4dA==",
        "--base64",
        "--to",
        &address,
        "--user",
        "default",
        "--password-file",
        text(&password),
    ];
    let done = lost(&words, None);
    assert!(
        done.status.success() && done.output.contains("db 0 \"text\" restored\ndb 3 \"text\" is so already"),
        "{}",
        done.output
    );
    server.connect().check(&[
        ("GET text", "\"hello\""),
        ("DBSIZE", ":1"),
        ("SELECT 3", "OK"),
        ("DBSIZE", ":1"),
    ]);
    let unknown = lost(&["replay", file, "nobody", "--to", &address], Some("secret"));
    assert!(unknown.errors.contains("has no state of \"nobody\""), "{}", unknown.errors);
    let nowhere = lost(&["replay", file, "--to", "127.0.0.1:1"], None);
    assert!(
        !nowhere.status.success() && nowhere.errors.contains("cannot connect to 127.0.0.1:1"),
        "{}",
        nowhere.errors
    );
    assert_eq!(lost(&["replay", file], None).status.code(), Some(2));
    assert!(lost(&["--help"], None).output.contains("usage: larder lost list FOLDER"));
}

#[test]
fn nothing_of_a_damaged_file_is_sent() {
    let (old, _, files) = server_with_tails();
    let server = Server::start(&[]);
    let address = format!("127.0.0.1:{}", server.port);
    let whole = fs::read(&files[0]).expect("reads");
    let path = old.folder().join("data/lost/5-partition-0000-epoch-1.jsonl");
    let last_line =
        whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').expect("there are lines") + 1;
    let damaged = |from: &str, to: &str| {
        String::from_utf8(whole.clone()).expect("is text").replacen(from, to, 1).into_bytes()
    };
    for (bytes, reason) in [
        (whole[..last_line].to_vec(), "the file is cut: its last line is missing"),
        (whole[..last_line - 5].to_vec(), "the file is cut: its last line is missing"),
        (damaged("\"dump\":\"AA", "\"dump\":\"AB"), "does not fit its checksum"),
        (damaged("\"dump\":\"", "\"dump\":\"?"), "the value is no base64"),
        (damaged("\"operation\":\"set\"", "\"operation\":\"sat\""), "no line of such a file"),
        (damaged("\"lsn\":1", "\"lsn\":2"), "the file was changed or damaged"),
        (damaged("\"larder_lost\":1", "\"larder_lost\":2"), "version 2 of the format is not known"),
        (b"\x00\x01garbage".to_vec(), "its first line is not that of a file of lost transactions"),
        (Vec::new(), "its first line is not that of a file of lost transactions"),
        ([whole.clone(), b"more\n".to_vec()].concat(), "more follows behind the last line"),
    ] {
        fs::write(&path, &bytes).expect("writes");
        for words in [&["show", text(&path)][..], &["replay", text(&path), "--to", &address, "--replace"]] {
            let finished = lost(words, None);
            assert_eq!(finished.status.code(), Some(1), "{words:?}: {reason}");
            assert!(finished.errors.contains(reason), "{words:?}: {reason}: {}", finished.errors);
        }
    }
    server.connect().check(&[("DBSIZE", ":0")]);
    fs::write(&path, &whole[..last_line]).expect("writes");
    let listed = lost(&["list", text(&old.folder().join("data"))], None);
    assert!(listed.status.code() == Some(1) && listed.output.contains("DAMAGED"), "{}", listed.output);
    let nothing = tempfile::tempdir().expect("a folder");
    assert_eq!(lost(&["list", text(nothing.path())], None).output, "nothing lost\n");
}

#[test]
fn files_that_are_there_are_counted() {
    let (mut old, _, files) = server_with_tails();
    old.start_again();
    let info = old.connect().ask(&["INFO", "replication"]).text();
    assert!(info.contains(&format!("lost_files:{}\r\n", files.len())), "{info}");
    let count = info
        .split("lost_transactions:")
        .nth(1)
        .and_then(|rest| rest.split("\r\n").next())
        .expect("it is there");
    assert!(count.parse::<u64>().is_ok_and(|count| count > 1500), "{info}");
}
