//! Many clients, and clients that do not do their part.

use crate::support::{Client, Launch, Server, request, wait_until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(30);
const IDLE: usize = 10_000;
const BUSY: usize = 1_000;

/// As many descriptors for this process and the servers it starts as it may have.
fn raise_descriptor_limit(wanted: u64) {
    let now = getrlimit(Resource::Nofile);
    if now.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let raised = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
    assert!(
        raised.is_ok() && now.maximum.is_none_or(|maximum| maximum >= wanted),
        "this test needs {wanted} file descriptors (ulimit -n)"
    );
}

/// A connection from one of several addresses of this machine, so that there are ports enough.
fn connect_from(number: usize, port: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("there are descriptors");
    let from = Ipv4Addr::new(127, 0, 0, 2 + (number % 10) as u8);
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("every 127.x address is ours");
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).expect("the server accepts");
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).expect("a socket option");
    stream
}

/// Memory of a server's own, without the pages of mapped files.
fn memory(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process_id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("the kernel tells");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

fn ping(stream: &mut TcpStream) {
    stream.write_all(b"PING\r\n").expect("the server reads");
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).expect("the server answers");
    assert_eq!(&answer, b"+PONG\r\n");
}

#[test]
fn ten_thousand_idle_and_a_thousand_busy_connections_are_served() {
    raise_descriptor_limit((IDLE + BUSY + 500) as u64);
    let server = Server::launch(Launch::with(&["--maxclients", "11500"]));
    let before = memory(&server);
    let begun = Instant::now();
    let mut idle: Vec<TcpStream> = (0..IDLE).map(|number| connect_from(number, server.port)).collect();
    idle.iter_mut().for_each(ping);
    let connected = begun.elapsed();
    let each = (memory(&server) - before) / IDLE as u64;
    eprintln!("{IDLE} connections made and served once in {connected:?}, {each} bytes of memory each");
    assert!(each < 20_000, "{each} bytes an idle connection");

    let mut busy: Vec<TcpStream> = (0..BUSY).map(|number| connect_from(number, server.port)).collect();
    let (begun, mut rounds, mut slowest) = (Instant::now(), 0_u64, Duration::ZERO);
    while begun.elapsed() < Duration::from_secs(3) {
        let round = Instant::now();
        for (number, stream) in busy.iter_mut().enumerate() {
            let words = [b"INCR".to_vec(), format!("counter:{}", number % 100).into_bytes()];
            stream.write_all(&request(&words)).expect("the server reads");
        }
        for stream in &mut busy {
            let mut byte = [0];
            while byte[0] != b'\n' {
                stream.read_exact(&mut byte).expect("the server answers");
            }
        }
        (rounds, slowest) = (rounds + 1, slowest.max(round.elapsed()));
    }
    eprintln!(
        "{BUSY} busy beside them: {} commands a second, a round of all took {slowest:?} at most",
        rounds * BUSY as u64 / 3
    );
    assert!(slowest < Duration::from_secs(10));
    let mut client = server.connect();
    for counter in 0..100 {
        client
            .expect(&["GET", &format!("counter:{counter}")], &format!("\"{}\"", rounds * BUSY as u64 / 100));
    }
    idle.iter_mut().for_each(ping);
    drop((idle, busy));
    wait_until("all are gone", SOON, || {
        let info = client.ask(&["INFO", "clients"]).text();
        info.contains("connected_clients:1\r\n")
    });
}

#[test]
fn storms_of_connections_and_half_requests_leave_others_alone() {
    raise_descriptor_limit(4_000);
    let server = Server::start(&[]);
    let mut client = server.connect();
    let before = memory(&server);
    // Half a request each, and then silence: small ones, large ones, inline ones.
    let halves: [&[u8]; 5] = [
        b"*2\r\n$3\r\nGET\r\n$100\r\nabc",
        b"*1000000\r\n$3\r\nSET\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\n",
        b"GET half",
        b"*1",
    ];
    let mut silent: Vec<TcpStream> = (0..1000).map(|number| connect_from(number, server.port)).collect();
    for (number, stream) in silent.iter_mut().enumerate() {
        stream.write_all(halves[number % halves.len()]).expect("the server reads");
    }
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for number in 0..250 {
                    let mut stream = connect_from(number, server.port);
                    if number % 3 > 0 {
                        ping(&mut stream);
                    }
                }
            });
        }
        let begun = Instant::now();
        for _ in 0..100 {
            client.check(&[("PING", "PONG")]);
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "others take {:?} for 100 PINGs", begun.elapsed());
    });
    let grown = memory(&server).saturating_sub(before);
    eprintln!("1,000 halves of requests and 2,000 connections: {} KB more", grown >> 10);
    assert!(grown < 100 << 20, "{grown} bytes for halves of requests of some bytes each");
    for stream in silent.iter_mut().step_by(5) {
        stream.write_all(&[b"x".repeat(97), b"\r\n".to_vec()].concat()).expect("the server reads");
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).expect("the other half comes late, not too late");
        assert_eq!(&answer, b"$-1\r\n");
    }
}

#[test]
fn what_a_request_announces_takes_no_memory_before_it_comes() {
    let server = Server::start(&["--client-query-buffer-limit", "4mb"]);
    let mut client = server.connect();
    let before = memory(&server);
    let mut senders: Vec<TcpStream> = (0..50).map(|number| connect_from(number, server.port)).collect();
    for stream in &mut senders {
        stream.write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\n").expect("the server reads");
        stream.write_all(&vec![b'x'; 1 << 20]).expect("the server reads");
    }
    client.check(&[("PING", "PONG")]);
    let grown = memory(&server).saturating_sub(before);
    eprintln!("50 MB of a value each of 512 MB: {} MB more", grown >> 20);
    assert!(grown < 400 << 20, "{grown} bytes");
    // Beyond the limit they are closed.
    for stream in &mut senders {
        let _ = stream.write_all(&vec![b'x'; 8 << 20]);
    }
    wait_until("who exceeds the query buffer limit is closed", SOON, || {
        let info = client.ask(&["INFO", "everything"]).text();
        info.contains("client_query_buffer_limit_disconnections:50")
            || info.contains("connected_clients:1\r\n")
    });
}

/// Sends `count` times the same command without reading any reply, as far as the server takes it.
fn ask_without_reading(port: u16, number: usize, words: &[&[u8]], count: usize) -> TcpStream {
    let mut stream = connect_from(number, port);
    stream.set_write_timeout(Some(Duration::from_secs(1))).expect("a socket option");
    let _ = stream.write_all(&request(words).repeat(count));
    stream
}

#[test]
fn slow_readers_of_large_replies_take_bounded_memory() {
    for (flags, is_closed) in [
        (["--client-output-buffer-limit", "normal 0 0 0"], false),
        (["--client-output-buffer-limit", "normal 4mb 0 0"], true),
    ] {
        let server = Server::start(&flags);
        let mut client = server.connect();
        let value = vec![b'x'; 1 << 20];
        client.ask(&[b"SET".as_slice(), b"large", &value]);
        let before = memory(&server);
        // 100 MB of replies asked for by each of 100 clients.
        let readers: Vec<TcpStream> = (0..100)
            .map(|number| ask_without_reading(server.port, number, &[b"GET", b"large"], 100))
            .collect();
        let begun = Instant::now();
        for _ in 0..200 {
            client.check(&[("PING", "PONG"), ("STRLEN large", ":1048576")]);
        }
        let grown = memory(&server).saturating_sub(before);
        eprintln!(
            "{flags:?}: 10 GB of replies asked for and not read: {} MB more, 400 commands of another in {:?}",
            grown >> 20,
            begun.elapsed()
        );
        assert!(grown < 1 << 30, "{grown} bytes for replies nobody reads");
        if is_closed {
            wait_until("who exceeds the output buffer limit is closed", SOON, || {
                client.ask(&["INFO", "clients"]).text().contains("connected_clients:1\r\n")
            });
        } else {
            // Who reads in the end gets everything.
            let mut stream = readers.into_iter().next().expect("there are some");
            stream.set_read_timeout(Some(SOON)).expect("a socket option");
            let mut rest = vec![0; (1 << 20) + 12];
            for _ in 0..50 {
                stream.read_exact(&mut rest).expect("the replies come");
                assert!(rest.starts_with(b"$1048576\r\nxxx"));
            }
        }
    }
}

#[test]
fn a_client_that_sends_everything_before_it_reads_is_not_stuck() {
    let server = Server::start(&[]);
    let mut client: Client = server.connect();
    client.ask(&[b"SET".as_slice(), b"key", &vec![b'x'; 10_000]]);
    let mut writer = server.connect();
    let mut reader = writer.second();
    std::thread::scope(|scope| {
        scope.spawn(move || writer.send(&request(&["GET", "key"]).repeat(5_000)).expect("the server reads"));
        for _ in 0..5_000 {
            assert_eq!(reader.read().expect("it answers").text().len(), 10_000);
        }
    });
}
