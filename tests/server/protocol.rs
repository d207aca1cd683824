//! Bytes on the wire: well-formed, torn, wrong and hostile. Where the reference server has an answer, it is the measure.

use crate::support::{Client, Server};
use std::time::Duration;

const QUIET: Duration = Duration::from_millis(300);

#[test]
fn a_request_may_come_in_pieces_and_many_at_once() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for byte in b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\nGET key\r\n*1\r\n$4\r\nPING\r\n" {
        client.send(&[*byte]).expect("it is read");
    }
    let replies: Vec<String> = (0..3).map(|_| client.read().expect("an answer").to_string()).collect();
    assert_eq!(replies, ["OK", "\"value\"", "PONG"]);

    let many: Vec<u8> =
        (0..10_000).flat_map(|n| format!("SET k{n} {n}\r\nGET k{n}\r\n").into_bytes()).collect();
    std::thread::scope(|scope| {
        let mut reader = server.connect();
        let mut writer = reader.second();
        scope.spawn(move || writer.send(&many).expect("it is read"));
        for n in 0..10_000 {
            assert_eq!(reader.read().expect("an answer").to_string(), "OK");
            assert_eq!(reader.read().expect("an answer").to_string(), format!("\"{n}\""));
        }
    });
}

#[test]
fn a_client_that_does_not_read_is_waited_for() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.expect(&["SET", "large", &"x".repeat(1_000_000)], "OK");
    client.send(&b"GET large\r\n".repeat(50)).expect("it is read");
    std::thread::sleep(Duration::from_millis(200));
    server.connect().check(&[("PING", "PONG")]);
    for _ in 0..50 {
        assert_eq!(client.read().expect("an answer").text().len(), 1_000_000);
    }
}

/// What a new connection gets for these bytes, and whether it is closed.
fn answer(server: &Server, bytes: &[u8]) -> (String, bool) {
    let mut client = Client::try_connect(server.port).expect("it accepts");
    // The server may close before it has read everything.
    let _ = client.send(bytes);
    let (reply, closed) = client.read_rest(QUIET);
    (String::from_utf8_lossy(&reply).into_owned(), closed)
}

/// Bytes as a client gone wrong may send them, each on a connection of its own.
fn odd_requests() -> Vec<Vec<u8>> {
    let mut requests: Vec<Vec<u8>> = [
        "\r\n\r\nPING\r\n",
        "PING\n",
        "  PING  \r\n",
        "SET a \"b c\"\r\nGET a\r\n",
        "SET a 'it\\'s'\r\nGET a\r\n",
        "SET a \"\\x00\\n\"\r\nGET a\r\n",
        "SET a \"open\r\n",
        "SET a \"b\"c\r\n",
        "*0\r\nPING\r\n",
        "*-1\r\nPING\r\n",
        "*-10\r\nPING\r\n",
        "*x\r\nPING\r\n",
        "*99999999999999999999\r\n",
        "*+1\r\n$4\r\nPING\r\n",
        "*01\r\n$4\r\nPING\r\n",
        "*1\r\nPING\r\n",
        "*1\r\n*1\r\n$4\r\nPING\r\n",
        "*1\r\n:1\r\n",
        "*1\r\n$-1\r\n",
        "*1\r\n$x\r\n",
        "*1\r\n$536870913\r\n",
        "*1\r\n$0\r\n\r\nPING\r\n",
        "*1\r\n$4\r\nPINGxxPING\r\n",
        "*2\r\n$4\r\nECHO\r\n$0\r\n\r\n",
        "*1\r\n$4\r\nNOPE\r\n",
        "NOPE a b c\r\n",
        "NOPE 'a\\nb'\r\n",
        "GET\r\nGET a b\r\nPING a b\r\n",
        "CLIENT\r\nCLIENT NOPE\r\nCLIENT KILL\r\nCONFIG GET\r\nOBJECT ENCODING\r\n",
        "HELLO 4\r\nHELLO x\r\nHELLO 3 AUTH\r\nHELLO 2 NOPE\r\n",
        "QUIT\r\nPING\r\n",
        "EXEC\r\nDISCARD\r\nMULTI\r\nMULTI\r\nWATCH a\r\nNOPE\r\nEXEC\r\n",
        "MULTI\r\nGET\r\nDISCARD\r\nPING\r\n",
        "RESET\r\nPING\r\n",
        "SELECT 16\r\nSELECT x\r\nSELECT -1\r\nSELECT 15\r\n",
        "AUTH x\r\nAUTH x y\r\nAUTH default x\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    requests.push(b"*1\r\n".repeat(8_000));
    requests.push([b"PING ".as_slice(), &[b'x'; 70_000]].concat());
    requests.push([b"*1".as_slice(), &[b'0'; 70_000]].concat());
    requests.push([b"*1\r\n$".as_slice(), &[b'1'; 70_000]].concat());
    requests.push([b'\xff'; 1000].to_vec());
    requests
}

#[test]
fn odd_requests_are_answered_as_redis_answers_them() {
    let (server, reference) = (Server::start(&[]), Server::start_reference(&[]));
    let mut wrong = Vec::new();
    for request in odd_requests() {
        let (ours, theirs) = (answer(&server, &request), answer(&reference, &request));
        if ours != theirs {
            let shown = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
            wrong.push(format!("{shown:?}\n  ours:   {ours:?}\n  theirs: {theirs:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    server.connect().check(&[("PING", "PONG")]);
}

#[test]
fn before_authentication_little_is_read() {
    let flags = ["--requirepass", "secret"];
    let (server, reference) = (Server::start(&flags), Server::start_reference(&flags));
    let requests: [&[u8]; 7] = [
        b"PING\r\nGET a\r\nNOPE\r\nGET\r\nSELECT 1\r\n",
        b"AUTH wrong\r\nAUTH default wrong\r\nAUTH nobody secret\r\nAUTH secret\r\nPING\r\n",
        b"HELLO\r\nHELLO 3\r\nHELLO 2 AUTH default secret\r\nPING\r\n",
        b"*11\r\n",
        b"*10\r\n$16385\r\n",
        b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n*11\r\n",
        b"QUIT\r\n",
    ];
    for request in requests {
        let hide_ids = |(text, closed): (String, bool)| {
            let lines: Vec<&str> = text.split("\r\n").collect();
            // HELLO tells the version and the connection's number, which are each server's own.
            let at = lines.iter().position(|line| *line == "version").unwrap_or(lines.len());
            (lines[..at].join("\n"), closed)
        };
        let (ours, theirs) = (hide_ids(answer(&server, request)), hide_ids(answer(&reference, request)));
        assert_eq!(ours, theirs, "{}", String::from_utf8_lossy(request));
    }
}

#[test]
fn limits_of_requests_are_settings() {
    let flags = ["--proto-max-bulk-len", "1mb", "--client-query-buffer-limit", "2mb"];
    let (server, reference) = (Server::start(&flags), Server::start_reference(&flags));
    let large = |length: usize| {
        [
            format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n${length}\r\n").into_bytes(),
            vec![b'x'; length],
            b"\r\n".to_vec(),
        ]
        .concat()
    };
    for length in [1_048_576, 1_048_577] {
        let request = large(length);
        assert_eq!(answer(&server, &request), answer(&reference, &request), "{length}");
    }
    let wide = [b"*1000000\r\n".to_vec(), b"$1000000\r\n".to_vec(), vec![b'x'; 3_000_000]].concat();
    assert!(answer(&server, &wide).1, "more than the query buffer may hold ends the connection");
    server.connect().check(&[("PING", "PONG")]);
}

#[test]
fn clients_beyond_the_limit_are_refused() {
    let server = Server::start(&["--maxclients", "10"]);
    let mut clients: Vec<Client> = (0..10).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.check(&[("PING", "PONG")]);
    }
    let (reply, closed) = answer(&server, b"");
    assert_eq!((reply.as_str(), closed), ("-ERR max number of clients reached\r\n", true));
    clients.pop();
    crate::support::wait_until("a place is free", Duration::from_secs(10), || {
        Client::try_connect(server.port)
            .and_then(|mut client| client.try_ask(&["PING"]))
            .is_ok_and(|pong| pong.to_string() == "PONG")
    });
}

#[test]
fn hello_switches_the_protocol_and_back() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.expect(&["HSET", "h", "a", "1"], ":1");
    assert!(
        client.line("HELLO").starts_with("[\"server\" \"redis\" \"version\" \"7.2.4\" \"proto\" :2 \"id\" :")
    );
    assert!(client.line("HELLO 3 SETNAME me").starts_with("{\"server\" \"redis\""));
    client.check(&[
        ("CLIENT GETNAME", "\"me\""),
        ("HGETALL h", "{\"a\" \"1\"}"),
        ("GET nothing", "nil"),
        ("INCRBYFLOAT f 1.5", "\"1.5\""),
    ]);
    client.ask(&["HELLO", "2"]);
    client.check(&[("HGETALL h", "[\"a\" \"1\"]")]);
}

#[test]
fn a_thousand_connections_are_served() {
    let server = Server::start(&[]);
    let mut clients: Vec<Client> = (0..1000).map(|_| server.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.expect(&["SET", &format!("key:{number}"), "x"], "OK");
    }
    for client in &mut clients {
        client.check(&[("PING", "PONG")]);
    }
    clients[0].check(&[("DBSIZE", ":1000")]);
}
