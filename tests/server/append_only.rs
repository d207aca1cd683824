//! Logs of Redis (`appendonlydir/`, `appendonly.aof`): imported by `larder import` and at the first start in their folder, compared with the
//! server that wrote them.

use crate::rdb::{all_of, fill, larder, save};
use crate::support::{Client, Server, now_ms, request, wait_until};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is changed behind the base of a log, by commands of every type.
pub(crate) fn change(client: &mut Client) {
    for line in [
        "SELECT 0",
        "APPEND text !",
        "SETRANGE text 1 a",
        "INCRBY number 5",
        "INCRBYFLOAT float 1.5",
        "SETBIT bits 7 1",
        "BITFIELD bits SET u8 0 200 INCRBY i5 10 3",
        "GETDEL negative",
        "SET leaving kept KEEPTTL",
        "GETEX text PXAT 4102444800123",
        "SETEX soon 1000000 x",
        "MSET a{1} 1 b{1} 2 c{1} 3",
        "COPY a{1} d{1}",
        "RENAME b{1} e{1}",
        "MOVE c{1} 3",
        "PERSIST soon",
        "HSET smallhash c 3",
        "HINCRBYFLOAT smallhash a 0.5",
        "LMOVE smalllist other LEFT RIGHT",
        "LINSERT smalllist BEFORE b new",
        "SMOVE words integers one",
        "SUNIONSTORE both words integers",
        "ZINCRBY scores 2 a",
        "ZUNIONSTORE sum 2 scores words",
        "GEOADD places 15.087269 37.502669 Catania",
        "PFADD sketch d e f",
        "PFMERGE merged sketch",
        "SORT integers BY nosort STORE sorted",
        "MULTI",
        "SET inside 1",
        "SELECT 3",
        "RPUSH inside a b",
        "EXEC",
        "HDEL bighash member7",
        "BLPOP biglist 0",
        "LTRIM biglist 0 99",
        "SREM bigset member3",
        "BZPOPMIN bigscores 0",
        "ZREMRANGEBYRANK bigscores 0 9",
        "SELECT 5",
        "SET flushed 1",
        "FLUSHDB",
        "SELECT 3",
        "SET elsewhere again",
        "SELECT 0",
        "SWAPDB 3 7",
        "SWAPDB 7 3",
        "EVAL \"redis.call('set', KEYS[1], ARGV[1]); return redis.call('incr', KEYS[1])\" 1 scripted 41",
    ] {
        let answer = client.line(line);
        assert!(!answer.starts_with('-') && answer != "_", "{line}: {answer}");
    }
    client.check(&[("SELECT 3", "OK")]);
    for _ in 0..50 {
        client.ask(&["SPOP", "bigset"]);
    }
    client.check(&[("SELECT 0", "OK")]);
    // A deadline that is over by the time of the import, of a key that got another one: it is not to go at its first.
    let soon = (now_ms() + 300).to_string();
    client.expect(&["SET", "renewed", "1", "PXAT", &soon], "OK");
    client.check(&[("PEXPIREAT renewed 4102444800000", ":1"), ("INCR renewed", ":2")]);
    client.expect(&["RPUSH", "over", "1"], ":1");
    client.expect(&["PEXPIREAT", "over", &soon], ":1");
    wait_until("a key expires", Duration::from_secs(10), || client.line("EXISTS over") == ":0");
}

/// A server that logs into `folder`.
pub(crate) fn logging(folder: &Path, flags: &[&str]) -> Server {
    let folder = folder.to_str().expect("text");
    Server::start_reference(&[&["--appendonly", "yes", "--dir", folder], flags].concat())
}

pub(crate) fn rewrite(client: &mut Client) {
    client.ask(&["BGREWRITEAOF"]);
    wait_until("the log is rewritten", Duration::from_secs(30), || {
        let info = client.ask(&["INFO", "persistence"]).text();
        info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")
    });
}

/// Copies a folder, so that what is read is nobody's any more.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("makes a folder");
    for entry in std::fs::read_dir(from).expect("lists") {
        let entry = entry.expect("lists");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copies");
    }
}

/// All files below a folder that are not ours, with what is in them.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for name in ["appendonlydir", "appendonly.aof", "dump.rdb"] {
        let path = folder.join(name);
        let files = if path.is_dir() {
            std::fs::read_dir(&path).expect("lists").map(|entry| entry.expect("lists").path()).collect()
        } else if path.exists() {
            vec![path]
        } else {
            Vec::new()
        };
        found.extend(files.into_iter().map(|file| (file.clone(), std::fs::read(&file).expect("reads"))));
    }
    found.sort();
    found
}

fn log_of(commands: &[&str]) -> Vec<u8> {
    commands.iter().flat_map(|line| request(&crate::support::words(line))).collect()
}

pub(crate) fn start(folder: &Path) -> Server {
    Server::start(&["--dir", folder.to_str().expect("text")])
}

fn refused_start(folder: &Path, flags: &[&str]) -> String {
    let arguments = [&["--port", "1", "--dir", folder.to_str().expect("text")], flags].concat();
    let refused = Server::run_to_end(&arguments);
    assert!(!refused.status.success(), "{refused:?}");
    refused.errors
}

#[test]
fn a_log_with_a_base_and_what_came_after_it_is_imported_with_equal_content() {
    for preamble in ["yes", "no"] {
        let old = tempfile::tempdir().expect("a temporary folder");
        let flags = ["--aof-use-rdb-preamble", preamble, "--aof-timestamp-enabled", "yes"];
        let reference = logging(old.path(), &flags);
        let mut client = reference.connect();
        fill(&mut client);
        rewrite(&mut client);
        change(&mut client);
        let volume = tempfile::tempdir().expect("a temporary folder");
        copy(&old.path().join("appendonlydir"), &volume.path().join("appendonlydir"));
        // A key whose deadline is over, and no command that says so: the server was stopped before it.
        let increment = volume.path().join("appendonlydir/appendonly.aof.2.incr.aof");
        let mut log = std::fs::read(&increment).expect("reads");
        log.extend(log_of(&["SELECT 0", "SET over 1 PXAT 1700000000000"]));
        std::fs::write(&increment, log).expect("writes");
        let before = contents(volume.path());
        assert_eq!(before.len(), 3);
        let expected = all_of(&mut client);

        // By the command, from the folder and from the manifest.
        for name in ["appendonlydir", "appendonlydir/appendonly.aof.manifest"] {
            let place = tempfile::tempdir().expect("a temporary folder");
            let data = place.path().join("data");
            let done = larder(&["import", volume.path().join(name).to_str().expect("text")], &data);
            assert!(done.status.success() && done.output.contains("commands in 2 files"), "{done:?}");
            assert_eq!(all_of(&mut start(&data).connect()), expected);
        }
        // At the first start, and what came since is there at the second.
        {
            let server = start(volume.path());
            let mut client = server.connect();
            assert_eq!(all_of(&mut client), expected, "{}", server.log());
            let info = client.ask(&["INFO", "persistence"]).text();
            let keys = format!("rdb_last_load_keys_loaded:{}\r\n", expected.len());
            assert!(info.contains(&keys) && info.contains("larder_import_file:/"), "{info}");
            assert!(info.contains("rdb_last_load_keys_expired:1\r\n"), "{info}");
            client.check(&[("SET text changed", "OK")]);
        }
        let server = start(volume.path());
        let mut client = server.connect();
        client.check(&[("GET text", "\"changed\"")]);
        let info = client.ask(&["INFO", "persistence"]).text();
        assert!(info.contains("appendonly.aof.manifest\r\nlarder_import_time:"), "{info}");
        assert_eq!(contents(volume.path()), before);
    }
}

#[test]
fn a_log_in_one_file_is_imported_with_its_beginning_in_the_other_format_or_without() {
    // What servers before 7.0 write is the same, without a manifest.
    for preamble in ["yes", "no"] {
        let old = tempfile::tempdir().expect("a temporary folder");
        let reference = logging(old.path(), &["--aof-use-rdb-preamble", preamble]);
        let mut client = reference.connect();
        fill(&mut client);
        rewrite(&mut client);
        change(&mut client);
        let expected = all_of(&mut client);
        let logs = old.path().join("appendonlydir");
        let extension = if preamble == "yes" { "rdb" } else { "aof" };
        let parts = [format!("appendonly.aof.2.base.{extension}"), "appendonly.aof.2.incr.aof".to_owned()];
        let parts = parts.map(|name| std::fs::read(logs.join(name)).expect("reads"));
        let volume = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(volume.path().join("appendonly.aof"), parts.concat()).expect("writes");
        let server = start(volume.path());
        assert_eq!(all_of(&mut server.connect()), expected, "{}", server.log());
    }
}

#[test]
fn a_log_that_is_cut_is_read_up_to_there_if_that_is_allowed() {
    let whole = log_of(&["SELECT 0", "SET a 1", "MULTI", "SET b 2", "SET c 3", "EXEC"]);
    let of_multi = log_of(&["SELECT 0", "SET a 1"]).len();
    let ends = [
        (whole.len(), 3, None),
        (whole.len() - 3, 1, Some((of_multi, "a transaction without its EXEC"))),
        (whole.len() - 14, 1, Some((of_multi, "a transaction without its EXEC"))),
        (of_multi - 1, 0, Some((of_multi - log_of(&["SET a 1"]).len(), "a command that is not whole"))),
    ];
    for (end, keys, cut) in ends {
        let volume = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(volume.path().join("appendonly.aof"), &whole[..end]).expect("writes");
        let before = contents(volume.path());
        if let Some((at, what)) = cut {
            let refused = refused_start(volume.path(), &["--aof-load-truncated", "no"]);
            let told = format!(
                "appendonly.aof: it ends with {what}, from byte {at} on, and aof-load-truncated is no"
            );
            assert!(refused.contains(&told), "{refused}");
            assert!(!volume.path().join("node.toml").exists());
        }
        let server = start(volume.path());
        server.connect().expect(&["DBSIZE"], &format!(":{keys}"));
        let log = server.log();
        let told = cut
            .map(|(at, what)| format!("ends with {what}: the {} bytes from byte {at} on were not", end - at));
        assert!(told.is_none_or(|told| log.contains(" # ") && log.contains(&told)), "{log}");
        let info = server.connect().ask(&["INFO", "persistence"]).text();
        let bytes = cut.map_or(0, |(at, _)| end - at);
        assert!(info.contains(&format!("larder_import_cut_bytes:{bytes}\r\n")), "{info}");
        assert_eq!(contents(volume.path()), before);
    }
}

#[test]
fn damage_is_refused_with_its_place_and_nothing_is_imported() {
    let whole = log_of(&["SELECT 0", "SET a 1", "SET b 2", "SET c 3"]);
    let second = log_of(&["SELECT 0", "SET a 1"]).len();
    let changed = |at: usize, bytes: &[u8]| {
        let mut log = whole.clone();
        log.splice(at..=at, bytes.iter().copied());
        log
    };
    for (log, told) in [
        (changed(second, b"+"), format!("no command begins here at byte {second}")),
        (changed(second + 1, b"x"), format!("invalid multibulk length at byte {second}")),
        // A length that leads beyond the end: no cut, as there are commands behind it.
        (changed(second + 5, b"99"), format!("the command at byte {second} is damaged")),
        (changed(second + 12, b"."), format!("the command is damaged at byte {second}")),
        ([&whole[..], &[0; 30]].concat(), format!("no command begins here at byte {}", whole.len())),
        (log_of(&["SET a 1", "SET b"]), format!("set with 2 words at byte {}", log_of(&["SET a 1"]).len())),
        (
            log_of(&["SET a 1", "RPUSH a 2"]),
            format!(
                "RPUSH was refused: WRONGTYPE Operation against a key holding the wrong kind of value at byte {}",
                log_of(&["SET a 1"]).len()
            ),
        ),
    ] {
        let volume = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(volume.path().join("appendonly.aof"), &log).expect("writes");
        let refused = refused_start(volume.path(), &[]);
        assert!(refused.contains(&told) && refused.contains("Nothing was imported"), "{told}: {refused}");
        let names: Vec<_> = std::fs::read_dir(volume.path()).expect("lists").collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }
}

#[test]
fn files_of_a_manifest_must_all_be_there_and_only_the_last_may_be_cut() {
    let volume = tempfile::tempdir().expect("a temporary folder");
    let logs = volume.path().join("appendonlydir");
    std::fs::create_dir(&logs).expect("makes a folder");
    let write = |name: &str, bytes: &[u8]| std::fs::write(logs.join(name), bytes).expect("writes");
    write("appendonly.aof.1.incr.aof", &log_of(&["SELECT 0", "SET a 1"]));
    assert!(refused_start(volume.path(), &[]).contains("holds no manifest"));
    write("appendonly.aof.manifest", b"");
    assert!(refused_start(volume.path(), &[]).contains("names no files"));
    write("appendonly.aof.manifest", b"file ../x seq 1 type i\n");
    assert!(refused_start(volume.path(), &[]).contains("in line 1"));
    let manifest =
        "file appendonly.aof.1.incr.aof seq 1 type i\nfile appendonly.aof.2.incr.aof seq 2 type i\n";
    write("appendonly.aof.manifest", manifest.as_bytes());
    assert!(refused_start(volume.path(), &[]).contains("appendonly.aof.2.incr.aof: No such file"));
    write("appendonly.aof.2.incr.aof", &log_of(&["SET b 2"])); // each file begins in database 0
    let first = log_of(&["SELECT 3", "SET a 1", "SET c 1"]);
    write("appendonly.aof.1.incr.aof", &first[..first.len() - 1]);
    assert!(refused_start(volume.path(), &[]).contains("and there are files that come after it"));
    write("appendonly.aof.1.incr.aof", &first);
    let server = start(volume.path());
    server.connect().check(&[("GET b", "\"2\""), ("DBSIZE", ":1"), ("SELECT 3", "OK"), ("DBSIZE", ":2")]);
}

#[test]
fn commands_that_are_not_here_are_counted_and_left_out_only_on_request() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let volume = place.path().join("volume");
    std::fs::create_dir(&volume).expect("makes a folder");
    let log = log_of(&[
        "SET a 1",
        "XADD stream 1-1 field value",
        "XADD stream 2-1 field value",
        "JSON.SET doc $ 1",
        "RENAME stream other",
        "FUNCTION LOAD x",
        "CONFIG SET maxmemory 1",
        "SHUTDOWN",
        "SET b 2",
    ]);
    let file = volume.join("appendonly.aof");
    std::fs::write(&file, &log).expect("writes");
    let refused = refused_start(&volume, &[]);
    assert!(
        refused.contains("holds 1 JSON.SET command, 2 XADD commands, which Larder does not have"),
        "{refused}"
    );
    assert!(refused.contains("larder import") && refused.contains("--skip-unknown"), "{refused}");
    let data = place.path().join("data");
    let done = larder(&["import", file.to_str().expect("text"), "--skip-unknown"], &data);
    assert!(
        done.status.success() && done.output.contains("left out: 1 JSON.SET command, 2 XADD commands"),
        "{done:?}"
    );
    assert!(
        done.output.contains("1 commands were refused") && done.errors.contains("RENAME was refused"),
        "{done:?}"
    );
    let server = start(&data);
    let mut client = server.connect();
    client.check(&[("DBSIZE", ":2"), ("GET a", "\"1\""), ("GET b", "\"2\"")]);
    assert!(client.ask(&["INFO", "persistence"]).text().contains("larder_import_left_out:4\r\n"));
}

#[test]
fn of_a_log_and_an_rdb_file_the_newest_counts_unless_appendonly_says_which() {
    let dump = {
        let reference = Server::start_reference(&[]);
        let mut client = reference.connect();
        client.check(&[("SET from dump", "OK")]);
        std::fs::read(save(&mut client)).expect("reads")
    };
    let hour = Duration::from_hours(1);
    let now = std::time::SystemTime::now();
    for (written_at, flags, from) in [
        (now + hour, &[][..], "log"),
        (now - hour, &[], "dump"),
        (now - hour, &["--appendonly", "yes"], "log"),
        (now + hour, &["--appendonly", "no"], "dump"),
    ] {
        let volume = tempfile::tempdir().expect("a temporary folder");
        let log = volume.path().join("appendonly.aof");
        std::fs::write(&log, log_of(&["SET from log"])).expect("writes");
        let file = std::fs::File::options().write(true).open(&log).expect("opens");
        file.set_modified(written_at).expect("sets its time");
        std::fs::write(volume.path().join("dump.rdb"), &dump).expect("writes");
        let flags = [&["--dir", volume.path().to_str().expect("text")], flags].concat();
        let server = Server::start(&flags);
        server.connect().expect(&["GET", "from"], &format!("\"{from}\""));
        let other =
            if from == "log" { "dump.rdb was not imported" } else { "appendonly.aof was not imported" };
        assert!(server.log().contains(other), "{}", server.log());
    }
    // Alone, either of them counts, whatever is said: it is all there is.
    for (name, bytes, flag) in
        [("dump.rdb", dump, "yes"), ("appendonly.aof", log_of(&["SET from log"]), "no")]
    {
        let volume = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(volume.path().join(name), bytes).expect("writes");
        let server = Server::start(&["--dir", volume.path().to_str().expect("text"), "--appendonly", flag]);
        server.connect().expect(&["EXISTS", "from"], ":1");
    }
}

#[test]
fn an_import_that_was_killed_leaves_nothing_and_begins_again() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let (file, data) = (place.path().join("appendonly.aof"), place.path().join("data"));
    std::fs::write(&file, log_of(&["INCR a"]).repeat(50_000)).expect("writes");
    let mut command = std::process::Command::new(Server::program());
    let mut killed = command.arg("import").arg(&file).arg("--dir").arg(&data).spawn().expect("starts");
    wait_until("it imports", Duration::from_secs(30), || data.join("journal").exists());
    killed.kill().expect("it is ours");
    killed.wait().expect("it is ours");
    assert!(data.join("import.unfinished").exists());
    let done = larder(&["import", file.to_str().expect("text")], &data);
    assert!(done.status.success(), "{done:?}");
    start(&data).connect().expect(&["GET", "a"], "\"50000\"");

    // The same at a start: what was half made goes.
    let volume = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(volume.path().join("appendonly.aof"), log_of(&["INCR a", "INCR a"])).expect("writes");
    std::fs::write(volume.path().join("import.unfinished"), "").expect("writes");
    std::fs::create_dir(volume.path().join("journal")).expect("makes a folder");
    std::fs::write(volume.path().join("node.toml"), "half").expect("writes");
    let server = start(volume.path());
    server.connect().expect(&["GET", "a"], "\"2\"");
    assert!(!volume.path().join("import.unfinished").exists());
}
