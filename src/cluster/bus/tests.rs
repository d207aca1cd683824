//! Nodes that ask one another over loopback.

use super::channel::{self, Receiver, Sender};
use super::listen::{Answers, listen};
use super::tcp::TcpBus;
use super::wire::{Frame, HEAD_LEN, Head, Hello, Lane, Tag, opening};
use super::*;
use crate::cluster::trust::Trust;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// No test waits longer for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

fn node(number: u8) -> NodeId {
    NodeId([number; 20])
}

fn identity(number: u8, cluster: Option<NodeId>) -> Identity {
    Identity { node: node(number), cluster: watch::Sender::new(cluster).subscribe() }
}

fn secret(text: &str) -> Trust {
    Trust::sealed([text.as_bytes()])
}

fn bus(number: u8, trust: Trust) -> TcpBus {
    TcpBus::new(Handle::current(), identity(number, None), trust)
}

fn address(port: u16) -> Address {
    Address { host: "127.0.0.1".to_owned(), port: 0, bus_port: port }
}

/// Answers each request with what the first byte of it asks for.
struct Echo {
    /// Requests that begin with `w` wait for this.
    open: Notify,
    /// Tells that one has come.
    came: Notify,
}

#[async_trait]
impl Serve for Echo {
    async fn serve(&self, from: NodeId, request: Vec<u8>) -> Option<Vec<u8>> {
        match request.first() {
            Some(b'w') => {
                self.came.notify_one();
                self.open.notified().await;
            }
            Some(b'n') => return None,
            Some(b'p') => panic!("as the test wants it"),
            Some(b'i') => return Some(from.0.to_vec()),
            Some(b'l') => return Some(vec![0; Lane::Urgent.body_max() + 1]),
            _ => {}
        }
        Some(request)
    }
}

/// A node that answers; it stops when this is dropped.
struct Running {
    port: u16,
    echo: Arc<Echo>,
    stop: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn run(number: u8, cluster: Option<NodeId>, trust: Trust) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let echo = Arc::new(Echo { open: Notify::new(), came: Notify::new() });
    let answers: Answers =
        [Kind::Control, Kind::Forward].map(|kind| (kind, Arc::clone(&echo) as Arc<dyn Serve>)).into();
    let stop = CancellationToken::new();
    tokio::spawn(listen(vec![listener], identity(number, cluster), trust, answers, stop.clone()));
    Running { port, echo, stop }
}

async fn call(
    bus: &TcpBus,
    port: u16,
    kind: Kind,
    request: impl Into<Vec<u8>>,
    patience: Duration,
) -> Result<Vec<u8>, CallError> {
    bus.call(node(2), &address(port), kind, request.into(), patience).await
}

async fn ask(bus: &TcpBus, to: u8, port: u16, request: &[u8]) -> Result<Vec<u8>, CallError> {
    let address = address(port);
    let call = bus.call(node(to), &address, Kind::Control, request.to_vec(), PATIENCE);
    timeout(2 * PATIENCE, call).await.expect("a call ends with its patience")
}

fn is_not_sent<T>(result: &Result<T, CallError>) -> bool {
    matches!(result, Err(CallError::NotSent(_)))
}

fn is_unknown<T>(result: &Result<T, CallError>) -> bool {
    matches!(result, Err(CallError::Unknown(_)))
}

#[tokio::test]
async fn requests_are_answered_sealed_and_plain_short_and_long() {
    for trust in [Trust::nearby(), secret("s")] {
        let other = run(2, None, trust.clone()).await;
        let bus = bus(1, trust);
        assert_eq!(ask(&bus, 2, other.port, b"hello").await, Ok(b"hello".to_vec()));
        assert_eq!(ask(&bus, 2, other.port, b"").await, Ok(Vec::new()));
        assert_eq!(ask(&bus, 2, other.port, b"i").await, Ok(vec![1; 20]), "who asks is known");
        let long: Vec<u8> = (0..20_000_000_u32).map(|at| (at % 251) as u8).collect();
        let answer = call(&bus, other.port, Kind::Forward, long.clone(), PATIENCE).await;
        assert!(answer == Ok(long));
    }
}

#[tokio::test]
async fn answers_come_in_any_order_and_many_at_once() {
    let other = run(2, None, secret("s")).await;
    let bus = Arc::new(bus(1, secret("s")));
    let slow = tokio::spawn({
        let (bus, port) = (Arc::clone(&bus), other.port);
        async move { ask(&bus, 2, port, b"wait").await }
    });
    other.echo.came.notified().await;
    let calls = (0..500_u32).map(|number| {
        let (bus, port) = (Arc::clone(&bus), other.port);
        tokio::spawn(async move { ask(&bus, 2, port, &[&b"x"[..], &number.to_be_bytes()].concat()).await })
    });
    for (number, call) in (0..500_u32).zip(calls.collect::<Vec<_>>()) {
        assert_eq!(call.await.expect("no panic"), Ok([&b"x"[..], &number.to_be_bytes()].concat()));
    }
    assert!(!slow.is_finished());
    other.echo.open.notify_one();
    assert_eq!(slow.await.expect("no panic"), Ok(b"wait".to_vec()));
}

#[tokio::test]
async fn a_slow_answer_is_unknown_and_harms_no_other() {
    let other = run(2, None, secret("s")).await;
    let bus = bus(1, secret("s"));
    let mut broken = bus.broken();
    assert!(ask(&bus, 2, other.port, b"x").await.is_ok());
    let slow = call(&bus, other.port, Kind::Control, b"wait", Duration::from_millis(50)).await;
    assert!(is_unknown(&slow));
    other.echo.open.notify_one();
    assert_eq!(ask(&bus, 2, other.port, b"y").await, Ok(b"y".to_vec()), "the late answer is dropped");
    assert!(broken.try_recv().is_err());
}

#[tokio::test]
async fn who_has_another_secret_or_none_is_not_answered() {
    for (own, theirs) in [("a", "b"), ("", "b"), ("a", "")] {
        let other = run(2, None, secret(theirs)).await;
        let bus = bus(1, secret(own));
        assert!(is_not_sent(&ask(&bus, 2, other.port, b"x").await), "{own:?} {theirs:?}");
    }
}

#[tokio::test]
async fn a_secret_is_changed_without_a_stop() {
    let other = run(2, None, Trust::sealed([&b"old"[..], b"new"])).await;
    for first in ["old", "new"] {
        assert!(ask(&bus(1, secret(first)), 2, other.port, b"x").await.is_ok(), "{first}");
    }
    assert!(is_not_sent(&ask(&bus(1, secret("other")), 2, other.port, b"x").await));
}

#[tokio::test]
async fn a_stranger_gets_no_byte() {
    let other = run(2, None, secret("s")).await;
    let forged = [&opening(true)[..], &[0, 48], &[7; 48]].concat();
    for bytes in [&b"PING\r\n"[..], b"*1\r\n$4\r\nPING\r\n....", &opening(false), &forged, &opening(true)] {
        let mut stream = TcpStream::connect(("127.0.0.1", other.port)).await.expect("it listens");
        stream.write_all(bytes).await.expect("taken");
        let mut answer = Vec::new();
        // Whether it ends in order or by a reset does not matter.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it ends");
        assert!(answer.is_empty());
    }
}

#[tokio::test]
async fn another_node_at_the_address_and_another_cluster_are_not_asked() {
    let other = run(2, Some(node(9)), secret("s")).await;
    let asking = bus(1, secret("s"));
    let mut broken = asking.broken();
    assert!(is_not_sent(&ask(&asking, 3, other.port, b"x").await));
    let sign = timeout(PATIENCE, broken.recv()).await.expect("it is told");
    assert_eq!(sign, Ok(Broken { node: node(3), sign: Sign::Elsewhere }));
    let foreign = TcpBus::new(Handle::current(), identity(1, Some(node(8))), secret("s"));
    assert!(is_not_sent(&ask(&foreign, 2, other.port, b"x").await));
    let same = TcpBus::new(Handle::current(), identity(1, Some(node(9))), secret("s"));
    assert!(ask(&same, 2, other.port, b"x").await.is_ok());
    assert!(ask(&asking, 2, other.port, b"x").await.is_ok(), "who is in no cluster may join");
}

#[tokio::test]
async fn nobody_there_is_told_at_once_and_a_node_that_comes_is_found() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    drop(listener);
    let bus = bus(1, secret("s"));
    let mut broken = bus.broken();
    assert!(is_not_sent(&ask(&bus, 2, port, b"x").await));
    let sign = timeout(PATIENCE, broken.recv()).await.expect("it is told");
    assert_eq!(sign, Ok(Broken { node: node(2), sign: Sign::Refused }));
    // Elsewhere: another address is tried at once.
    let other = run(2, None, secret("s")).await;
    assert!(ask(&bus, 2, other.port, b"x").await.is_ok());
}

#[tokio::test]
async fn what_breaks_in_the_middle_is_unknown_and_told() {
    let other = run(2, None, secret("s")).await;
    let bus = Arc::new(bus(1, secret("s")));
    let mut broken = bus.broken();
    for (request, is_end) in [(&b"panic"[..], false), (b"long", false), (b"none", true)] {
        // On a slow machine the connection may end while the panic is being written out; the next attempt is not at once.
        let mut answer = ask(&bus, 2, other.port, request).await;
        while is_not_sent(&answer) {
            tokio::task::yield_now().await;
            answer = ask(&bus, 2, other.port, request).await;
        }
        assert!(is_unknown(&answer), "{answer:?}");
        if is_end {
            let sign = timeout(PATIENCE, broken.recv()).await.expect("it is told");
            assert_eq!(sign, Ok(Broken { node: node(2), sign: Sign::Closed }));
        }
    }
    while ask(&bus, 2, other.port, b"x").await.is_err() {
        tokio::task::yield_now().await; // the next attempt is not at once
    }
    let refused = call(&bus, other.port, Kind::Consensus, [1], PATIENCE).await;
    assert!(is_not_sent(&refused), "nobody answers that there");
}

/// Says who it is on a connection, without a secret, and hands it over.
async fn greeted(
    stream: TcpStream,
    number: u8,
    connects: bool,
) -> (Receiver<OwnedReadHalf>, Sender<OwnedWriteHalf>) {
    let (read, write) = stream.into_split();
    let trust = Trust::nearby();
    let opened = if connects {
        channel::connect(read, write, &trust).await
    } else {
        channel::accept(read, write, &trust).await
    };
    let (receiver, mut sender) = opened.expect("a channel");
    let hello = Hello { node: node(number), cluster: None, lane: Lane::Urgent };
    sender.put(&Frame { tag: Tag::Hello, id: 0, body: hello.to_bytes() }).await.expect("sent");
    sender.flush().await.expect("sent");
    (receiver, sender)
}

#[tokio::test]
async fn a_node_that_falls_silent_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let silent = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("it comes");
        let kept = greeted(stream, 2, false).await;
        std::future::pending::<()>().await;
        drop(kept);
    });
    let bus = bus(1, Trust::nearby());
    let mut broken = bus.broken();
    assert!(is_unknown(&ask(&bus, 2, port, b"x").await));
    let sign = timeout(PATIENCE, broken.recv()).await.expect("it is told");
    assert_eq!(sign, Ok(Broken { node: node(2), sign: Sign::Silent }));
    silent.abort();
}

#[tokio::test]
async fn half_a_frame_ends_the_connection() {
    let other = run(2, None, Trust::nearby()).await;
    let stream = TcpStream::connect(("127.0.0.1", other.port)).await.expect("it listens");
    let (mut receiver, sender) = greeted(stream, 1, true).await;
    let hello = receiver.head(Lane::Urgent).await.expect("its greeting");
    receiver.body(hello).await.expect("its greeting");
    let mut raw = sender.into_inner();
    let head = Head { tag: Tag::Request(Kind::Control), id: 1, length: 1 << 20 }.to_bytes();
    raw.write_all(&head[..HEAD_LEN]).await.expect("taken");
    let ended = async {
        while let Ok(head) = receiver.head(Lane::Urgent).await {
            assert_eq!(head.tag, Tag::Alive);
        }
    };
    timeout(PATIENCE, ended).await.expect("it is given up");
    drop(raw);
}

#[tokio::test]
async fn who_says_nothing_at_all_is_let_go() {
    let other = run(2, None, secret("s")).await;
    let mut stream = TcpStream::connect(("127.0.0.1", other.port)).await.expect("it listens");
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it ends");
    assert!(answer.is_empty());
}

#[tokio::test]
async fn what_is_in_work_when_a_node_stops_is_answered() {
    let other = run(2, None, secret("s")).await;
    let bus = Arc::new(bus(1, secret("s")));
    let call = tokio::spawn({
        let (bus, port) = (Arc::clone(&bus), other.port);
        async move { ask(&bus, 2, port, b"wait").await }
    });
    other.echo.came.notified().await;
    other.stop.cancel();
    other.echo.open.notify_one();
    assert_eq!(call.await.expect("no panic"), Ok(b"wait".to_vec()));
}

#[tokio::test]
async fn who_goes_takes_back_what_was_not_begun() {
    // Nobody accepts, so nothing is sent; the caller goes, and so does its request.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let bus = bus(1, secret("s"));
    let late = call(&bus, port, Kind::Control, b"x", Duration::from_millis(20)).await;
    assert!(is_not_sent(&late));
    let long = vec![0; Lane::Urgent.body_max() + 1];
    drop(listener);
    assert!(is_not_sent(&call(&bus, port, Kind::Control, long, PATIENCE).await));
}
