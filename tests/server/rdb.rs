//! `larder import` and `larder export rdb`: between an rdb file and a data folder, compared with what redis-server reads and writes.

use crate::support::{Client, Finished, Server, Value, finish};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub(crate) fn larder(words: &[&str], folder: &Path) -> Finished {
    let mut command = Command::new(Server::program());
    command.args(words).arg("--dir").arg(folder);
    finish(&mut command, b"", Duration::from_mins(1))
}

/// Every type in every form that redis-server 7.0 writes, some with deadlines, in several databases.
pub(crate) fn fill(client: &mut Client) {
    let long = "x".repeat(3_000);
    client.check(&[
        ("SET text hello", "OK"),
        ("SET number 12345", "OK"),
        ("SET negative -7", "OK"),
        ("SET leaving bye PXAT 4102444800000", "OK"),
        ("HSET smallhash a 1 b two", ":2"),
        ("RPUSH smalllist a 1 b -2", ":4"),
        ("SADD integers 1 -70000 5000000000", ":3"),
        ("SADD words one two 3", ":3"),
        ("ZADD scores 1.5 a -inf b +inf c 3 d", ":4"),
        ("PFADD sketch a b c", ":1"),
        ("GEOADD places 13.361389 38.115556 Palermo", ":1"),
        ("SELECT 3", "OK"),
        ("SET elsewhere 1", "OK"),
        ("EXPIREAT elsewhere 4102444800", ":1"),
    ]);
    client.expect(&["SET", "long", &long], "OK");
    client.expect(&["SETBIT", "bits", "100000", "1"], ":0");
    let many: Vec<String> = (0..700).map(|number| format!("member{number}")).collect();
    for member in &many {
        client.expect(&["HSET", "bighash", member, "value"], ":1");
        client.expect(&["SADD", "bigset", member], ":1");
        client.expect(&["ZADD", "bigscores", &member[6..], member], ":1");
        client.ask(&["RPUSH", "biglist", member]);
    }
    client.ask(&["RPUSH", "biglist", &"y".repeat(20_000)]);
}

/// What a server holds, without what is given away by the order of keys and members.
pub(crate) fn all_of(client: &mut Client) -> Vec<String> {
    let mut found = Vec::new();
    for database in ["0", "3"] {
        client.expect(&["SELECT", database], "OK");
        for name in client.ask(&["KEYS", "*"]).items() {
            let name = name.text();
            let kind = client.ask(&["TYPE", &name]).text();
            let content = match &*kind {
                "string" => client.ask(&["GET", &name]),
                "list" => client.ask(&["LRANGE", &name, "0", "-1"]),
                "set" => client.ask(&["SMEMBERS", &name]).sorted(),
                "zset" => client.ask(&["ZRANGE", &name, "0", "-1", "WITHSCORES"]),
                "hash" => {
                    let pairs: Vec<_> = client.ask(&["HGETALL", &name]).items().to_vec();
                    let mut pairs: Vec<_> =
                        pairs.chunks(2).map(|pair| format!("{}={}", pair[0], pair[1])).collect();
                    pairs.sort();
                    Value::Simple(format!("{} {}", pairs.join(" "), deadlines_of_fields(client, &name)))
                }
                other => panic!("{name} is a {other}"),
            };
            let at = client.ask(&["PEXPIRETIME", &name]);
            found.push(format!("{database} {name} {kind} {content} {at}"));
        }
    }
    client.expect(&["SELECT", "0"], "OK");
    found.sort();
    found
}

/// The fields of a hash that have a deadline; none, if the server knows of no such thing.
fn deadlines_of_fields(client: &mut Client, name: &str) -> String {
    let fields: Vec<String> = client.ask(&["HKEYS", name]).items().iter().map(Value::text).collect();
    let count = fields.len().to_string();
    let mut words = vec!["HPEXPIRETIME", name, "FIELDS", &count];
    words.extend(fields.iter().map(String::as_str));
    let Value::Array(deadlines) = client.ask(&words) else { return String::new() };
    let deadlines = fields.iter().zip(&deadlines).filter(|(_, at)| at.integer() > 0);
    let mut deadlines: Vec<_> = deadlines.map(|(field, at)| format!("{field}@{at}")).collect();
    deadlines.sort();
    deadlines.join(" ")
}

/// Has a server write its file; where that is.
pub(crate) fn save(client: &mut Client) -> PathBuf {
    client.expect(&["SAVE"], "OK");
    let folder = client.ask(&["CONFIG", "GET", "dir"]).items()[1].text();
    Path::new(&folder).join("dump.rdb")
}

#[test]
fn what_redis_server_wrote_is_imported_and_what_is_exported_it_reads() {
    let reference = Server::start_reference(&["--save", ""]);
    let mut client = reference.connect();
    fill(&mut client);
    let expected = all_of(&mut client);
    let dump = save(&mut client);
    let place = tempfile::tempdir().expect("a temporary folder");
    let data = place.path().join("data");

    let done = larder(&["import", dump.to_str().expect("text")], &data);
    assert!(done.status.success(), "{done:?}");
    assert!(done.output.contains("18 keys imported"), "{done:?}");
    let again = larder(&["import", dump.to_str().expect("text")], &data);
    assert!(!again.status.success() && again.errors.contains("--merge"), "{again:?}");
    let merged = larder(&["import", dump.to_str().expect("text"), "--merge"], &data);
    assert!(merged.status.success(), "{merged:?}");

    for version in ["9", "10", "12"] {
        let file = place.path().join(format!("out{version}.rdb"));
        let done = larder(&["export", "rdb", file.to_str().expect("text"), "--rdb-version", version], &data);
        assert!(done.status.success() && done.output.contains("18 keys"), "{done:?}");
        let twice = larder(&["export", "rdb", file.to_str().expect("text")], &data);
        assert!(!twice.status.success() && twice.errors.contains("is there already"), "{twice:?}");
        if version == "12" {
            continue; // 7.0 reads no file that says so
        }
        let folder = place.path().join(version);
        std::fs::create_dir(&folder).expect("makes a folder");
        std::fs::copy(&file, folder.join("dump.rdb")).expect("copies");
        let flags = ["--save", "", "--dir", folder.to_str().expect("text")];
        let reader = Server::start_reference(&flags);
        assert_eq!(all_of(&mut reader.connect()), expected, "version {version}");
    }

    let server = Server::start(&["--dir", data.to_str().expect("text")]);
    assert_eq!(all_of(&mut server.connect()), expected);
    let in_use = larder(&["import", dump.to_str().expect("text"), "--merge"], &data);
    assert!(!in_use.status.success() && in_use.errors.contains("in use"), "{in_use:?}");
}

#[test]
fn a_file_that_is_damaged_or_has_what_there_is_no_type_for_leaves_nothing_behind() {
    let reference = Server::start_reference(&["--save", ""]);
    let mut client = reference.connect();
    client.check(&[("SET a 1", "OK"), ("XADD stream 1-1 field value", "\"1-1\""), ("SET b 2", "OK")]);
    let dump = save(&mut client);
    let place = tempfile::tempdir().expect("a temporary folder");
    let (data, file) = (place.path().join("data"), place.path().join("file"));
    let whole = std::fs::read(&dump).expect("reads");

    let refused = larder(&["import", dump.to_str().expect("text")], &data);
    assert!(!refused.status.success() && refused.errors.contains("1 stream"), "{refused:?}");
    std::fs::write(&file, &whole[..whole.len() - 12]).expect("writes");
    let refused = larder(&["import", file.to_str().expect("text"), "--skip-unknown"], &data);
    assert!(!refused.status.success() && refused.errors.contains("ends too early at byte"), "{refused:?}");
    let mut damaged = whole.clone();
    let at = whole.len() / 2;
    damaged[at] ^= 8;
    std::fs::write(&file, &damaged).expect("writes");
    let refused = larder(&["import", file.to_str().expect("text"), "--skip-unknown"], &data);
    assert!(!refused.status.success() && refused.errors.contains("Nothing was imported"), "{refused:?}");
    assert!(!data.exists(), "a data folder was made");

    let done = larder(&["import", dump.to_str().expect("text"), "--skip-unknown"], &data);
    assert!(done.status.success() && done.output.contains("left out: 1 stream"), "{done:?}");
    let server = Server::start(&["--dir", data.to_str().expect("text")]);
    let mut client = server.connect();
    client.check(&[("DBSIZE", ":2"), ("GET a", "\"1\""), ("GET b", "\"2\"")]);
}

#[test]
fn the_first_start_over_an_old_volume_imports_its_file_as_a_whole_and_leaves_it() {
    let reference = Server::start_reference(&["--save", ""]);
    let mut client = reference.connect();
    fill(&mut client);
    let expected = all_of(&mut client);
    let dump = save(&mut client);
    let place = tempfile::tempdir().expect("a temporary folder");
    let whole = std::fs::read(&dump).expect("reads");
    std::fs::write(place.path().join("dump.rdb"), &whole).expect("writes");
    let folder = place.path().to_str().expect("text");
    // What an import that was interrupted may leave.
    std::fs::write(place.path().join("import.unfinished"), "").expect("writes");
    std::fs::write(place.path().join("node.toml"), "half").expect("writes");
    {
        let server = Server::start(&["--dir", folder]);
        assert_eq!(all_of(&mut server.connect()), expected);
        assert!(server.log().contains("18 keys imported"), "{}", server.log());
        server.connect().check(&[("SET text changed", "OK"), ("DEL number", ":1")]);
    }
    assert_eq!(std::fs::read(place.path().join("dump.rdb")).expect("reads"), whole);
    assert!(!place.path().join("import.unfinished").exists());
    // The next start has data of its own.
    let server = Server::start(&["--dir", folder]);
    server.connect().check(&[("GET text", "\"changed\""), ("EXISTS number", ":0")]);
}

#[test]
fn a_first_start_over_what_cannot_be_imported_is_refused_and_changes_nothing() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let folder = place.path().to_str().expect("text");
    std::fs::write(place.path().join("dump.rdb"), b"REDIS0011 and then nonsense").expect("writes");
    let refused = Server::run_to_end(&["--port", "1", "--dir", folder]);
    assert!(!refused.status.success() && refused.errors.contains("Nothing was imported"), "{refused:?}");
    // Data that has lost its manifest is damaged; nothing is put in its place.
    let other = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(other.path().join("dump.rdb"), b"REDIS0011\xff\0\0\0\0\0\0\0\0").expect("writes");
    std::fs::create_dir(other.path().join("journal")).expect("makes a folder");
    std::fs::write(other.path().join("journal/00000000000000000000.log"), "x").expect("writes");
    let refused = Server::run_to_end(&["--port", "1", "--dir", other.path().to_str().expect("text")]);
    assert!(!refused.status.success() && refused.errors.contains("node.toml"), "{refused:?}");
    assert!(other.path().join("journal/00000000000000000000.log").exists());
    let mut names: Vec<_> = std::fs::read_dir(place.path())
        .expect("lists")
        .map(|entry| entry.expect("lists").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    assert_eq!(names, ["dump.rdb"]);
}
