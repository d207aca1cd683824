//! A sync that fails: the kernel may have dropped what it could not write and says so only once, so nothing that was to be
//! made durable by it may be acknowledged, and no later success of a sync means anything (the lesson of PostgreSQL's "fsyncgate").

use crate::history::{Load, Writer, assert_refusals, totals, under_load, verify};
use crate::places::Place;
use crate::shim::{EIO, ENOSPC, FOR_EVER, Faults, Rule};
use crate::support::{Chance, Client, Launch, Server, wait_until};
use std::time::Duration;

const FAILED: &str =
    "-MISCONF Errors writing to the journal, changes are refused until the server is started again";
const SOON: Duration = Duration::from_secs(30);

/// Everything that can be asked of a server whose journal has failed.
fn reads_go_on_and_writes_do_not(client: &mut Client) {
    for line in ["SET key 2", "DEL key", "EXPIRE key 1", "FLUSHALL", "HSET hash a b", "INCR number"] {
        assert!(client.line(line).starts_with(FAILED), "{line}: {}", client.line(line));
    }
    client.check(&[("MULTI", "OK"), ("GET key", "QUEUED")]);
    assert!(client.line("SET key 2").starts_with(FAILED));
    assert!(client.line("EXEC").starts_with("-EXECABORT"));
    let persistence = client.ask(&["INFO", "persistence"]).text();
    assert!(persistence.contains("aof_last_write_status:err"), "{persistence}");
    assert_eq!(client.line("PING"), "PONG");
    client.line("GET key");
}

#[test]
fn with_appendfsync_always_no_reply_follows_a_failed_sync() {
    for error in [EIO, ENOSPC] {
        let faults = Faults::none();
        let mut server = Server::launch(faults.launch(&["--appendfsync", "always"]));
        server.connect().check(&[("SET key 1", "OK")]);
        faults.set(&[Rule::fails("sync", error, 1, "journal")]);
        // One fails; those that would succeed after it mean nothing.
        let mut waiting: Vec<Client> = (0..20).map(|_| server.connect()).collect();
        for (number, client) in waiting.iter_mut().enumerate() {
            client.send(format!("SET lost:{number} 1\r\n").as_bytes()).expect("the server reads");
        }
        for client in &mut waiting {
            let answer = client.read().map(|value| value.to_string());
            let is_honest = answer.as_ref().map_or(true, |text| text.starts_with(FAILED));
            assert!(is_honest, "acknowledged after a failed sync: {answer:?}");
        }
        let mut client = server.connect();
        reads_go_on_and_writes_do_not(&mut client);
        client.check(&[("GET key", "\"1\"")]);
        faults.set(&[]);
        assert!(
            client.line("SAVE").starts_with("-ERR"),
            "what the journal may have lost must not reach the trees"
        );
        reads_go_on_and_writes_do_not(&mut client);
        server.kill();
        server.start_again();
        server.connect().check(&[("GET key", "\"1\""), ("SET key 2", "OK"), ("SAVE", "OK")]);
    }
}

#[test]
fn with_appendfsync_everysec_writes_end_within_the_second_and_for_good() {
    let faults = Faults::none();
    let mut server = Server::launch(faults.launch(&["--appendfsync", "everysec"]));
    let mut client = server.connect();
    client.check(&[("SET key 1", "OK")]);
    faults.set(&[Rule::fails("sync", EIO, FOR_EVER, "journal")]);
    let mut acknowledged = 0;
    wait_until("writes are refused", SOON, || {
        let is_refused = client.line(&format!("SET number:{acknowledged} 1")) != "OK";
        acknowledged += i32::from(!is_refused);
        is_refused
    });
    faults.set(&[]);
    for _ in 0..100 {
        assert!(client.line("SET key 2").starts_with(FAILED));
    }
    reads_go_on_and_writes_do_not(&mut client);
    assert!(!server.terminate().success(), "an end without the last sync is no success");
    server.start_again();
    let mut client = server.connect();
    assert_eq!(client.line("DBSIZE"), format!(":{}", acknowledged + 1), "the machine did not lose its power");
}

#[test]
fn with_appendfsync_no_a_save_notices() {
    let faults = Faults::none();
    let mut server = Server::launch(faults.launch(&["--appendfsync", "no"]));
    let mut client = server.connect();
    client.check(&[("SET key 1", "OK")]);
    faults.set(&[Rule::fails("sync", EIO, 1, "journal")]);
    assert!(client.line("SAVE").starts_with("-ERR"));
    reads_go_on_and_writes_do_not(&mut client);
    faults.set(&[]);
    server.kill();
    server.start_again();
    server.connect().check(&[("GET key", "\"1\""), ("SAVE", "OK")]);
}

#[test]
fn nothing_acknowledged_is_lost_when_a_sync_fails_under_load() {
    let mut chance = Chance::seeded("failing sync");
    for appendfsync in ["always", "everysec"] {
        let faults = Faults::none();
        let mut server = Server::launch(faults.launch(&["--appendfsync", appendfsync]));
        let mut writers = Writer::some(4, Load::Small, &mut chance);
        under_load(&mut writers, &mut server, |server| {
            let mut client = server.connect();
            wait_until("some is written", SOON, || client.ask(&["DBSIZE"]).integer() > 300);
            faults.set(&[Rule::fails("sync", EIO, 1, "journal")]);
            wait_until("writes are refused", SOON, || {
                if let Ok(reply) = client.try_ask(&["SET", "a", "b"]) {
                    reply.to_string().starts_with(FAILED)
                } else {
                    client = server.connect(); // it waited for the sync that failed
                    false
                }
            });
        });
        let (acknowledged, refused, unknown) = totals(&writers);
        eprintln!("{appendfsync}: {acknowledged} acknowledged, {refused} refused, {unknown} without a reply");
        assert_refusals(&writers, &[&FAILED[1..]]);
        faults.set(&[]);
        server.kill();
        server.start_again();
        verify(&mut writers, &server);
    }
}

#[test]
fn a_checkpoint_whose_sync_fails_is_done_again_from_the_start() {
    let faults = Faults::none();
    let flags = ["--checkpoint-age", "1", "--checkpoint-journal-size", "1mb"];
    let mut server = Server::launch(faults.launch(&flags));
    let mut chance = Chance::seeded("failing sync of trees");
    let mut writers = Writer::some(3, Load::Small, &mut chance);
    under_load(&mut writers, &mut server, |server| {
        let mut client = server.connect();
        let status = |client: &mut Client| {
            let info = client.ask(&["INFO", "persistence"]).text();
            info.contains("aof_last_bgrewrite_status:ok")
        };
        for rule in [
            Rule::fails("sync", EIO, 3, "partitions"),
            Rule::fails("sync", EIO, FOR_EVER, "data.mdb"),
            Rule::fails("sync", EIO, FOR_EVER, "checksums"),
            Rule::fails("page", EIO, 20, "data.mdb"),
        ] {
            faults.set(&[rule]);
            wait_until("a checkpoint fails", SOON, || !status(&mut client));
            client.check(&[("SET while 1", "OK")]);
            faults.set(&[]);
            wait_until("checkpoints work again", SOON, || status(&mut client));
        }
    });
    let (_, refused, unknown) = totals(&writers);
    assert_eq!((refused, unknown), (0, 0), "the journal is sound, and it has everything");
    server.kill();
    server.start_again();
    verify(&mut writers, &server);
}

/// The same without anything pretended: ext4 takes what the disk below has no room for, and its sync fails. What was synced just
/// before is not checked: a program of a few lines that appends and syncs shows that such a disk has then lost some of it already.
#[test]
fn what_a_real_disk_fails_to_sync_is_not_acknowledged() {
    let place = Place::ext4_on_less("200M", "48m");
    let launch = Launch::with(&["--appendfsync", "always"]).data(&place.data());
    let mut server = Server::launch(launch);
    let mut chance = Chance::seeded("a disk that is smaller than it says");
    let mut writers = Writer::some(8, Load::Large, &mut chance);
    let (early, late) = writers.split_at_mut(4);
    let mut client = server.connect();
    under_load(early, &mut server, |_| {
        wait_until("some is written", SOON, || client.ask(&["DBSIZE"]).integer() > 300);
    });
    under_load(late, &mut server, |server| {
        wait_until("writes are refused", SOON, || {
            if let Ok(reply) = client.try_ask(&["SET", "a", "b"]) {
                reply.to_string().starts_with("-MISCONF")
            } else {
                client = server.connect();
                false
            }
        });
        for _ in 0..50 {
            assert!(client.line("SET a b").starts_with("-MISCONF"));
        }
    });
    // How many of the writers have come back to be refused is a matter of how soon this client was.
    let (acknowledged, refused, unknown) = totals(late);
    eprintln!("{acknowledged} acknowledged, {refused} refused, {unknown} without a reply");
    assert!(acknowledged > 100);
    verify(early, &server); // reads go on
    server.kill();
    place.grow_below("400m");
    place.mount_again();
    server.start_again();
    verify(early, &server);
    server.connect().check(&[("SET key 2", "OK")]);
}
