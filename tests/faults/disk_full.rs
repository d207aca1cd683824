//! A disk without room: what grows is refused with an error that says so, the rest goes on, nothing acknowledged is lost,
//! and as soon as there is room everything works again without anybody's help.

use crate::history::{Load, Writer, assert_refusals, totals, under_load, verify};
use crate::places::Place;
use crate::shim::{ENOSPC, FOR_EVER, Faults, Rule};
use crate::support::{Chance, Client, Launch, Server, wait_until};
use std::time::Duration;

const FULL: &str = "-MISCONF No space left on the disk";
const SOON: Duration = Duration::from_secs(30);
const CHECKPOINTS: [&str; 6] =
    ["--checkpoint-age", "1", "--checkpoint-journal-size", "4mb", "--checkpoint-overlay-size", "4mb"];

/// Writes until growth is refused.
fn fill_by_writing(client: &mut Client) -> u64 {
    let value = vec![b'x'; 10_000];
    for number in 0..100_000_u64 {
        let reply =
            client.ask(&[b"SET".as_slice(), format!("filler:{number}").as_bytes(), &value]).to_string();
        if reply != "OK" {
            assert!(reply.starts_with(FULL), "{reply}");
            return number;
        }
    }
    panic!("the disk never filled up");
}

fn info(client: &mut Client, field: &str) -> String {
    let info = client.ask(&["INFO", "everything"]).text();
    let found = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    found.unwrap_or_else(|| panic!("INFO has no {field}")).trim().to_owned()
}

/// Fails unless the command is refused for want of room, once all of the disk is taken.
fn is_refused(client: &mut Client, place: &Place, line: &str) {
    wait_until("growth is refused", SOON, || {
        place.fill(); // a checkpoint may have given room back
        client.line(line).starts_with(FULL)
    });
}

/// What a full disk does not stop.
fn goes_on(client: &mut Client, place: &Place, from: u64) {
    is_refused(client, place, &format!("SET new {}", "v".repeat(1000)));
    is_refused(client, place, "APPEND filler:1 more");
    is_refused(client, place, "HSET hash field value");
    assert_eq!(info(client, "aof_last_write_status"), "err");
    client.check(&[("GET filler:7", &format!("\"{}\"", "x".repeat(10_000)))]);
    for (line, answer) in [
        ("EXPIRE filler:@ 100000", ":1"),
        ("PERSIST filler:@", ":1"),
        ("DEL filler:@", ":1"),
        ("EXISTS filler:@", ":0"),
        ("MULTI", "OK"),
        ("UNLINK filler:#", "QUEUED"),
        ("EXEC", "[:1]"),
        ("EXISTS filler:#", ":0"),
    ] {
        let line = line.replace('@', &from.to_string()).replace('#', &(from + 1).to_string());
        assert_eq!(client.line(&line), answer, "{line}");
    }
}

fn writes_work_again(client: &mut Client) {
    wait_until("growth is accepted again", SOON, || client.line("SET room again") == "OK");
    client.check(&[("GET room", "\"again\"")]);
    assert_eq!(info(client, "aof_last_write_status"), "ok");
}

#[test]
fn a_full_file_system_refuses_growth_and_recovers_by_itself() {
    for place in [Place::tmpfs("96m", 1000), Place::ext4("96M")] {
        let mut server = Server::launch(Launch::with(&CHECKPOINTS).data(&place.data()));
        let mut client = server.connect();
        let written = fill_by_writing(&mut client);
        assert!(written > 500, "{written} values of 10 KB in 96 MB");
        goes_on(&mut client, &place, 10);
        server.kill();
        server.start_again();
        let mut client = server.connect();
        client.check(&[("EXISTS filler:7 filler:10 filler:11", ":1")]);
        goes_on(&mut client, &place, 20);

        place.clear();
        // FLUSHALL on its own makes room, though files of trees do not shrink.
        client.check(&[("FLUSHALL", "OK"), ("DBSIZE", ":0")]);
        writes_work_again(&mut client);
        let again = fill_by_writing(&mut client);
        assert!(again > 300, "{again} values of 10 KB fit after FLUSHALL, {written} did before");
        server.kill();
        server.start_again();
        let mut client = server.connect();
        assert_eq!(client.line("DBSIZE"), format!(":{}", again + 1));
        for number in 0..again {
            client.expect(&["STRLEN", &format!("filler:{number}")], ":10000");
        }
    }
}

#[test]
fn deleting_makes_room_for_new_data() {
    let place = Place::ext4("96M");
    let server = Server::launch(Launch::with(&CHECKPOINTS).data(&place.data()));
    let mut client = server.connect();
    for round in 0..3 {
        let written = fill_by_writing(&mut client);
        for number in 0..written {
            client.ask(&["UNLINK", &format!("filler:{number}")]);
        }
        wait_until("growth is accepted again", SOON, || client.line("SET room again") == "OK");
        eprintln!("round {round}: {written} values of 10 KB before the disk was full");
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_disk_fills_under_load() {
    let mut chance = Chance::seeded("disk full under load");
    for appendfsync in ["always", "everysec", "no"] {
        for place in [Place::tmpfs("64m", 1000), Place::ext4("64M")] {
            let flags = [["--appendfsync", appendfsync].as_slice(), &CHECKPOINTS].concat();
            let mut server = Server::launch(Launch::with(&flags).data(&place.data()));
            let mut writers = Writer::some(4, Load::Large, &mut chance);
            under_load(&mut writers, &mut server, |server| {
                let mut client = server.connect();
                wait_until("some is written", SOON, || client.ask(&["DBSIZE"]).integer() > 200);
                place.fill();
                is_refused(&mut client, &place, "SET a b");
                assert!(client.ask(&["DBSIZE"]).integer() > 0);
                place.clear();
                writes_work_again(&mut client);
                place.fill();
                is_refused(&mut client, &place, "SET a b");
            });
            let (acknowledged, refused, unknown) = totals(&writers);
            eprintln!(
                "{appendfsync}: {acknowledged} acknowledged, {refused} refused, {unknown} without a reply"
            );
            assert!(acknowledged > 200 && refused > 0);
            // With not a byte left removals may be refused too, for as long as the journal has no room for them.
            assert_refusals(
                &writers,
                &["MISCONF No space left on the disk", "MISCONF Errors writing to the journal"],
            );
            verify(&mut writers, &server);
            server.kill();
            server.start_again(); // on the full disk
            verify(&mut writers, &server);
            place.clear();
            assert!(server.terminate().success());
            server.start_again();
            verify(&mut writers, &server);
            writes_work_again(&mut server.connect());
        }
    }
}

#[test]
fn without_room_for_another_file_nothing_is_lost() {
    let place = Place::tmpfs("400m", 500);
    let mut server = Server::launch(Launch::with(&["--checkpoint-age", "3600"]).data(&place.data()));
    let mut client = server.connect();
    client.check(&[("SET before 1", "OK")]);
    place.allow_files(files_below(&place.data()));
    // More than a segment of the journal holds, so that it needs a new file.
    let value = vec![b'x'; 1 << 20];
    let mut acknowledged = Vec::new();
    for number in 0..80 {
        let Ok(reply) = client.try_ask(&[b"SET".as_slice(), format!("key:{number}").as_bytes(), &value])
        else {
            client = server.connect(); // the outcome is unknown
            continue;
        };
        match reply.to_string().as_str() {
            "OK" => acknowledged.push(number),
            text => assert!(text.starts_with("-MISCONF Errors writing to the journal"), "{text}"),
        }
    }
    assert!((60..80).contains(&acknowledged.len()), "{} acknowledged", acknowledged.len());
    client.check(&[("GET before", "\"1\"")]);
    assert!(client.line("SET more 1").contains("No space left on device"), "the reason is told");
    place.allow_files(500);
    writes_work_again(&mut client);
    server.kill();
    server.start_again();
    let mut client = server.connect();
    for number in acknowledged {
        client.expect(&["STRLEN", &format!("key:{number}")], &format!(":{}", 1 << 20));
    }
}

fn files_below(folder: &std::path::Path) -> u32 {
    let entries =
        std::fs::read_dir(folder).expect("it is there").map(|entry| entry.expect("it can be listed").path());
    1 + entries.map(|path| if path.is_dir() { files_below(&path) } else { 1 }).sum::<u32>()
}

#[test]
fn a_checkpoint_without_room_is_tried_again() {
    let faults = Faults::none();
    let mut server = Server::launch(faults.launch(&CHECKPOINTS));
    let mut chance = Chance::seeded("checkpoints without room");
    let mut writers = Writer::some(3, Load::Small, &mut chance);
    under_load(&mut writers, &mut server, |server| {
        let mut client = server.connect();
        faults.set(&[Rule::fails("page", ENOSPC, FOR_EVER, "data.mdb")]);
        wait_until("a checkpoint fails", SOON, || info(&mut client, "rdb_last_bgsave_status") == "err");
        assert!(!info(&mut client, "larder_last_checkpoint_error").is_empty());
        // The journal has room: writes go on.
        client.check(&[("SET while 1", "OK")]);
        assert!(client.line("SAVE").starts_with("-ERR the checkpoint failed"));
        faults.set(&[]);
        wait_until("checkpoints work again", SOON, || info(&mut client, "rdb_last_bgsave_status") == "ok");
    });
    let (_, refused, unknown) = totals(&writers);
    assert_eq!((refused, unknown), (0, 0), "checkpoints do not concern writers");
    server.kill();
    server.start_again();
    verify(&mut writers, &server);
}

#[test]
fn a_start_without_room_says_so_and_leaves_nothing_in_the_way() {
    for size in [0, 4, 8, 20, 40, 64, 100, 150, 200, 300, 400, 500, 600, 800] {
        let place = Place::tmpfs("16m", 1000);
        std::fs::write(place.data().join("of-others"), vec![1; (16 << 20) - (size << 10)]).expect("it fits");
        match Server::try_launch(Launch::with(&[]).data(&place.data())) {
            Ok(server) => {
                let mut client = server.connect();
                assert!(client.line("SET a b").starts_with(FULL), "with {size} KB");
                client.check(&[("GET a", "nil"), ("DEL a", ":0"), ("DBSIZE", ":0")]);
            }
            Err(log) => {
                let said = log.to_lowercase();
                assert!(
                    said.contains("no space left") && said.contains("exit status: 1"),
                    "with {size} KB: {log}"
                );
            }
        }
        place.resize("64m");
        place.clear();
        let server = Server::launch(Launch::with(&[]).data(&place.data()));
        server.connect().check(&[("SET a b", "OK"), ("GET a", "\"b\""), ("SAVE", "OK")]);
    }
}

#[test]
fn a_value_larger_than_what_is_left_is_refused_and_smaller_ones_are_not() {
    let place = Place::tmpfs("64m", 1000);
    let mut server = Server::launch(Launch::with(&[]).data(&place.data()));
    let mut client = server.connect();
    let large = vec![b'x'; 70 << 20];
    for _ in 0..3 {
        let reply = client.ask(&[b"SET".as_slice(), b"large", &large]).to_string();
        assert!(reply.starts_with(FULL), "{reply}");
        client.check(&[("SET small 1", "OK"), ("EXISTS large", ":0"), ("DEL small", ":1")]);
    }
    // Made large by a small request.
    assert!(
        client.line("SETRANGE long 70000000 x").starts_with(FULL)
            || client.line("STRLEN long") == ":70000001"
    );
    client.check(&[("MULTI", "OK"), ("DEL large", "QUEUED")]);
    assert_eq!(client.ask(&[b"SET".as_slice(), b"large", &large]).to_string(), "QUEUED");
    assert!(client.line("EXEC").starts_with(FULL));
    client.check(&[("SET small 2", "OK")]);
    server.kill();
    server.start_again();
    server.connect().check(&[("GET small", "\"2\""), ("EXISTS large", ":0")]);
}
