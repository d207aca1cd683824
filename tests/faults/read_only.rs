//! Disks that take no writes, take half of them, or interrupt them.

use crate::history::{Load, Writer, assert_refusals, totals, under_load, verify};
use crate::places::Place;
use crate::shim::{EINTR, EROFS, FOR_EVER, Faults, Rule, SHORT};
use crate::support::{Chance, Launch, Server, wait_until};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_file_system_that_turns_read_only_under_load_loses_nothing() {
    let place = Place::ext4("200M");
    let mut server = Server::launch(Launch::with(&["--appendfsync", "always"]).data(&place.data()));
    let mut chance = Chance::seeded("read-only");
    let mut writers = Writer::some(4, Load::Small, &mut chance);
    under_load(&mut writers, &mut server, |server| {
        let mut client = server.connect();
        client.check(&[("SET key 1", "OK")]);
        wait_until("some is written", SOON, || client.ask(&["DBSIZE"]).integer() > 300);
        place.abort(); // what the kernel does after an error of the disk
        wait_until("writes are refused", SOON, || {
            client.try_ask(&["SET", "a", "b"]).is_ok_and(|reply| reply.to_string().starts_with("-MISCONF"))
                || {
                    client = server.connect();
                    false
                }
        });
        client.check(&[("GET key", "\"1\"")]);
    });
    assert_refusals(&writers, &["MISCONF Errors writing to the journal"]);
    server.kill();
    let refused = Server::try_launch(Launch::with(&[]).data(&place.data()));
    let log =
        refused.err().expect("nothing can be served from a data folder that can not be locked for writing");
    assert!(log.contains("Read-only file system"), "{log}");
    place.mount_again();
    server.start_again();
    verify(&mut writers, &server);
    server.connect().check(&[("SET key 2", "OK")]);
}

#[test]
fn when_it_is_writable_again_writes_go_on_by_themselves() {
    let faults = Faults::none();
    let mut server = Server::launch(faults.launch(&["--appendfsync", "everysec"]));
    let mut chance = Chance::seeded("read-only and back");
    let mut writers = Writer::some(4, Load::Small, &mut chance);
    under_load(&mut writers, &mut server, |server| {
        let mut client = server.connect();
        wait_until("some is written", SOON, || client.ask(&["DBSIZE"]).integer() > 300);
        for _ in 0..3 {
            faults.set(&[Rule::fails("write", EROFS, FOR_EVER, "journal")]);
            let mut text = String::new();
            wait_until("writes are refused", SOON, || {
                if let Ok(reply) = client.try_ask(&["SET", "a", "b"]) {
                    text = reply.to_string();
                    text != "OK"
                } else {
                    client = server.connect();
                    false
                }
            });
            assert!(text.starts_with("-MISCONF Errors writing to the journal"), "{text}");
            assert!(text.contains("Read-only file system"), "{text}");
            assert!(client.line("DEL a").starts_with("-MISCONF"), "not even a removal could be kept");
            assert!(client.ask(&["DBSIZE"]).integer() > 300);
            let info = client.ask(&["INFO", "persistence"]).text();
            assert!(info.contains("aof_last_write_status:err"), "{info}");
            faults.set(&[]);
            wait_until("writes are accepted", SOON, || client.line("SET a b") == "OK");
            let info = client.ask(&["INFO", "persistence"]).text();
            assert!(info.contains("aof_last_write_status:ok"), "{info}");
        }
    });
    assert_refusals(&writers, &["MISCONF Errors writing to the journal"]);
    server.kill();
    server.start_again();
    verify(&mut writers, &server);
}

#[test]
fn short_and_interrupted_writes_are_finished() {
    let faults = Faults::none();
    let mut server =
        Server::launch(faults.launch(&["--checkpoint-age", "1", "--checkpoint-journal-size", "1mb"]));
    let mut chance = Chance::seeded("short writes");
    let mut writers = Writer::some(3, Load::Large, &mut chance);
    under_load(&mut writers, &mut server, |server| {
        let mut client = server.connect();
        for (call, error) in [("write", SHORT), ("write", EINTR), ("sync", EINTR)] {
            faults.set(&[Rule::fails(call, error, 200, "journal")]);
            let written = client.line("GET written");
            wait_until("writes go on", SOON, || {
                client.line("INCR written");
                client.ask(&["GET", "written"]).text().parse::<u32>().is_ok_and(|count| count % 200 == 0)
            });
            assert_ne!(written, client.line("GET written"));
        }
    });
    let (acknowledged, refused, unknown) = totals(&writers);
    assert!(acknowledged > 300 && refused == 0 && unknown == 0, "{acknowledged}, {refused}, {unknown}");
    server.kill();
    server.start_again();
    verify(&mut writers, &server);
}
