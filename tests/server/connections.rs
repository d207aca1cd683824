//! Connections as a whole: what all of them together may take, what a slow reader may, where they are accepted, how a stop treats
//! them.

use crate::support::{Client, Server, wait_until};
use std::net::TcpListener;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

fn named(server: &Server, name: &str) -> Client {
    let mut client = server.connect();
    client.expect(&["CLIENT", "SETNAME", name], "OK");
    client
}

/// A field of a client's line in CLIENT LIST; `None` if there is no such client.
fn field(control: &mut Client, client: &str, field: &str) -> Option<usize> {
    let list = control.ask(&["CLIENT", "LIST"]).text();
    let line = list.lines().find(|line| line.contains(&format!(" name={client} ")))?;
    let value = line.split(' ').find_map(|word| word.strip_prefix(&format!("{field}=")));
    Some(value.expect("the field is there").parse().expect("it is a number"))
}

fn info(client: &mut Client, field: &str) -> u64 {
    let text = client.ask(&["INFO", "everything"]).text();
    let value = text.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("INFO has no number {field}"))
}

/// The start of a command that announces `len` bytes, and `sent` of them.
fn half_a_command(len: usize, sent: usize) -> Vec<u8> {
    [format!("*2\r\n${len}\r\n").as_bytes(), &vec![b'v'; sent]].concat()
}

#[test]
fn the_largest_clients_are_closed_when_all_take_too_much() {
    let server = Server::start(&[]);
    let mut control = server.connect();
    control.check(&[("CLIENT NO-EVICT ON", "OK")]);
    let mut clients: Vec<Client> = (0..6).map(|number| named(&server, &format!("c{number}"))).collect();
    let mb = |number: usize| (number + 1) << 20;
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&half_a_command(mb(number), mb(number) / 2)).expect("the server reads");
    }
    for number in 0..6 {
        wait_until("announced bytes count", SOON, || {
            field(&mut control, &format!("c{number}"), "tot-mem").is_some_and(|bytes| bytes >= mb(number))
        });
    }
    assert_eq!(info(&mut control, "evicted_clients"), 0);
    // 21 MB in all: 6 and 5 must go for 11 to be left.
    control.check(&[("CONFIG SET maxmemory-clients 11mb", "OK")]);
    let left: Vec<bool> =
        (0..6).map(|number| field(&mut control, &format!("c{number}"), "id").is_some()).collect();
    assert_eq!(left, [true, true, true, true, false, false]);
    assert_eq!(info(&mut control, "evicted_clients"), 2);
    assert!(clients[5].read_rest(SOON).1, "it was told by a closed connection");
    assert!(info(&mut control, "mem_clients_normal") < 11 << 20);
}

#[test]
fn what_a_client_makes_the_server_keep_counts() {
    let server = Server::start(&["--maxmemory-clients", "1mb"]);
    let mut control = server.connect();
    control.check(&[("CLIENT NO-EVICT ON", "OK")]);
    let value = "v".repeat(300_000);

    let mut client = named(&server, "queues");
    client.check(&[("MULTI", "OK"), ("GET a", "QUEUED")]);
    assert!((0..5).any(|_| client.try_ask(&["SET", "k", &value]).is_err()), "queued commands");
    assert_eq!(field(&mut control, "queues", "id"), None);

    let mut client = named(&server, "watches");
    assert!((0..20_000).any(|key| client.try_ask(&["WATCH", &key.to_string()]).is_err()), "watched keys");

    let mut client = named(&server, "sends");
    assert!(client.try_ask(&["SET", "k", &"v".repeat(1 << 20)]).is_err(), "a word of a megabyte");
    control.check(&[("EXISTS k", ":0")]);

    let mut client = named(&server, "spared");
    client.check(&[("CLIENT NO-EVICT ON", "OK")]);
    client.expect(&["SET", "k", &"v".repeat(1 << 20)], "OK");

    // Replies that are not read: commands run on until the limit is reached.
    let mut client = named(&server, "sleeps");
    wait_until("it is closed", SOON, || client.send(b"GET k\r\n").is_err());
    assert_eq!(field(&mut control, "sleeps", "id"), None);
    control.check(&[("CONFIG SET maxmemory 10mb maxmemory-clients 5%", "OK")]);
    let mut client = named(&server, "percent");
    client.send(&half_a_command(600_000, 1000)).expect("the server reads");
    wait_until("a part of maxmemory", SOON, || field(&mut control, "percent", "id").is_none());
}

#[test]
fn nothing_is_sent_to_who_exceeds_the_output_limit() {
    let server = Server::start(&["--client-output-buffer-limit", "normal", "100000", "0", "0"]);
    let mut control = server.connect();
    control.expect(&["SET", "large", &"v".repeat(20_000)], "OK");
    control.expect(&["HSET", "hash", "f", "v"], ":1");
    // One command or many in one packet, in a transaction or not: no byte arrives, and everything has run.
    let cases: [&[u8]; 4] = [
        &b"SET ran yes\r\nGET large\r\nGET large\r\nGET large\r\nGET large\r\nGET large\r\nGET large\r\n"[..],
        b"SET ran yes\r\nMGET large large large large large large\r\n",
        b"SET ran yes\r\nHRANDFIELD hash -999999999\r\n",
        b"MULTI\r\nSET ran yes\r\nMGET large large large\r\nMGET large large large\r\nEXEC\r\n",
    ];
    for commands in cases {
        control.ask(&["DEL", "ran"]);
        let mut client = server.connect();
        client.send(commands).expect("the server reads");
        let (bytes, is_closed) = client.read_rest(SOON);
        let sent = String::from_utf8_lossy(&bytes[..bytes.len().min(100)]).into_owned();
        assert!(is_closed && sent.is_empty(), "{sent}");
        control.check(&[("GET ran", "\"yes\"")]);
    }
    assert_eq!(info(&mut control, "larder_output_limit_disconnections"), 4);
}

#[test]
fn strangers_get_few_replies_ahead() {
    let server = Server::start(&["--requirepass", "secret"]);
    let mut stranger = Client::try_connect(server.port).expect("the server accepts connections");
    wait_until("it is closed", SOON, || stranger.send(&b"SET x 5\r\n".repeat(10_000)).is_err());
    let mut friend = server.connect();
    friend.send(&b"GET x\r\n".repeat(10_000)).expect("the server reads");
    assert!((0..10_000).all(|_| friend.read().is_ok()));
}

#[test]
fn port_and_addresses_change_while_running() {
    let server = Server::start(&["--bind", "127.0.0.1"]);
    let mut client = server.connect();
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let taken_port = taken.local_addr().expect("it has one").port();
    let refused = "-ERR CONFIG SET failed (possibly related to argument 'port') - Unable to listen on this port. Check \
                   server logs.";
    client.check(&[
        (&format!("CONFIG SET port {taken_port} timeout 7"), refused),
        ("CONFIG GET timeout", "[\"timeout\" \"0\"]"),
    ]);
    let refused = "-ERR CONFIG SET failed (possibly related to argument 'bind') - Failed to bind to specified addresses.";
    client
        .check(&[("CONFIG SET bind 203.0.113.1", refused), ("CONFIG GET bind", "[\"bind\" \"127.0.0.1\"]")]);
    server.connect().check(&[("PING", "PONG")]);

    // The same port on other addresses, none at all, and back. Connections stay.
    for (bind, is_reached) in [("0.0.0.0", true), ("", false), ("127.0.0.1 -::1", true)] {
        client.expect(&["CONFIG", "SET", "bind", bind], "OK");
        assert_eq!(Client::try_connect(server.port).is_ok(), is_reached, "bind '{bind}'");
    }
    drop(taken);
    client.check(&[(&format!("CONFIG SET port {taken_port}"), "OK"), ("PING", "PONG")]);
    assert!(Client::try_connect(server.port).is_err(), "the old port");
    let mut elsewhere = Client::try_connect(taken_port).expect("the new port");
    elsewhere.check(&[("PING", "PONG"), (&format!("CONFIG SET port {}", server.port), "OK")]);
    server.connect().check(&[("PING", "PONG")]);
}

#[test]
fn a_signal_can_be_taken_back_until_it_is_obeyed() {
    let mut server = Server::start(&["--enable-debug-command", "yes"]);
    let mut client = server.connect();
    client.check(&[("SHUTDOWN ABORT", "-ERR No shutdown in progress."), ("DEBUG PAUSE-CRON 1", "OK")]);
    server.signal(rustix::process::Signal::TERM);
    wait_until("the signal has come", SOON, || server.log().contains("Received SIGTERM"));
    client.check(&[("SHUTDOWN ABORT", "OK"), ("DEBUG PAUSE-CRON 0", "OK"), ("PING", "PONG")]);
    assert!(server.log().contains("Shutdown manually aborted"));
    assert!(server.terminate().success());
}

#[test]
fn fewer_descriptors_mean_fewer_clients() {
    let limited = |limit: &str| {
        let larder = Server::program();
        let folder = tempfile::tempdir().expect("the system has room for a folder");
        let script = format!(
            "ulimit -n {limit}; exec '{}' --port 0 --unixsocket {1}/socket --dir {1}/data",
            larder.display(),
            folder.path().display()
        );
        (script, folder)
    };
    let (script, _folder) = limited("60");
    let ended = crate::support::finish(std::process::Command::new("sh").args(["-c", &script]), b"", SOON);
    assert!(!ended.status.success() && ended.errors.contains("no room for clients"), "{}", ended.errors);
}

#[test]
fn maxclients_is_bounded_by_what_the_system_allows() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let refused = client.line("CONFIG SET maxclients 1000000000");
    assert!(
        refused.starts_with("-ERR CONFIG SET failed (possibly related to argument 'maxclients') - The operating system is not able to handle the specified number of clients, try with "),
        "{refused}"
    );
    client
        .check(&[("CONFIG SET maxclients 100", "OK"), ("CONFIG GET maxclients", "[\"maxclients\" \"100\"]")]);
}
