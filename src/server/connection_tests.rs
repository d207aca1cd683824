//! Connections without a server around them: a client's end, the service, and what others do to it.

use super::connection::Connection;
use crate::base::ids::PartitionId;
use crate::config::Parameters;
use crate::replication::assignment::Assignment;
use crate::replication::progress::Follower;
use crate::session::client::Peer;
use crate::session::handover::LinkStream;
use crate::session::service::Service;
use crate::store::Store;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

/// Whatever a test waits for comes within this time, or never.
pub(super) const SOON: Duration = Duration::from_secs(20);

fn service() -> Arc<Service> {
    service_with(&[])
}

/// Of one partition. A store without a journal commits everything at position 1.
fn service_with(directives: &[&str]) -> Arc<Service> {
    let store = Arc::new(Store::in_memory(1, 16));
    let parameters = Parameters::with(directives).expect("valid");
    Arc::new(Service::new(parameters, store, crate::commands::table::full_names()))
}

/// A follower that is in step and has everything up to `journaled`.
fn follow(service: &Service, journaled: u64) {
    service.replication.with_progress(|progress| {
        *progress.follower(1) = Follower {
            node: "a".to_owned(),
            address: ("10.0.0.1".to_owned(), 6379),
            in_step: [PartitionId(0)].into(),
            journaled,
            synced: journaled,
            heard_ms: service.replication.now_ms(),
        };
    });
}

/// A client of a service.
pub(super) struct Connected(pub(super) DuplexStream);

impl Connected {
    pub(super) fn to(service: &Arc<Service>) -> Connected {
        let client = service.clients.register(Peer::default(), 0, 100).expect("a free place");
        let (stream, peer) = tokio::io::duplex(1 << 16);
        tokio::spawn(Connection::new(stream, Arc::clone(service), client).run());
        Connected(peer)
    }

    pub(super) async fn send(&mut self, lines: &str) {
        self.0.write_all(lines.replace('|', "\r\n").as_bytes()).await.expect("it reads");
    }

    /// These lines come next.
    pub(super) async fn expect(&mut self, lines: &str) {
        let expected = lines.replace('|', "\r\n");
        let mut found = vec![0; expected.len()];
        let read = tokio::time::timeout(SOON, self.0.read_exact(&mut found));
        read.await.expect("soon").expect("so many bytes");
        assert_eq!(String::from_utf8_lossy(&found), expected);
    }

    /// The line that comes next, without its end.
    pub(super) async fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let byte = tokio::time::timeout(SOON, self.0.read_u8()).await.expect("soon").expect("a byte");
            line.push(byte);
        }
        String::from_utf8_lossy(&line[..line.len() - 2]).into_owned()
    }

    /// Nothing has come, though all other tasks have done what they can: time stands still in these tests.
    pub(super) async fn expect_nothing(&mut self) {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let mut byte = [0];
        let mut read = std::pin::pin!(self.0.read(&mut byte));
        let polled =
            std::future::poll_fn(|context| std::task::Poll::Ready(is_nothing_there(read.as_mut(), context)));
        assert!(polled.await, "an answer came: {byte:?}");
    }
}

#[tokio::test]
async fn a_dropped_connection_is_forgotten() {
    let service = service();
    let client = service.clients.register(Peer::default(), 0, 1).expect("a free place");
    let (stream, _peer) = tokio::io::duplex(64);
    let run = Connection::new(stream, Arc::clone(&service), client).run();
    assert_eq!(service.clients.count(), 1);
    drop(run);
    assert_eq!(service.clients.count(), 0);
}

#[tokio::test]
async fn a_connection_becomes_a_link_and_loses_no_byte() {
    let service = service();
    let (give, mut links) = mpsc::unbounded_channel::<LinkStream>();
    assert!(service.links.set(Box::new(move |link| give.send(link).expect("the test waits"))).is_ok());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let mut replica = tokio::net::TcpStream::connect(address).await.expect("it listens");
    let (stream, _) = listener.accept().await.expect("it connects");
    let client = service.clients.register(Peer::default(), 0, 1).expect("a free place");
    let run = tokio::spawn(Connection::new(stream, Arc::clone(&service), client).run());

    replica
        .write_all(b"PING\r\nREPLCONF listening-port 7 larder-link 3\r\nPING\r\n")
        .await
        .expect("it reads");
    let link = tokio::time::timeout(SOON, links.recv()).await.expect("soon").expect("a link");
    run.await.expect("no panic");
    assert_eq!(service.clients.count(), 0, "it is no client any more");
    assert_eq!((link.version, link.address), (3, ("127.0.0.1".to_owned(), 7)));
    assert_eq!(link.received, b"PING\r\n");

    let mut socket = tokio::net::TcpStream::from_std(link.socket).expect("non-blocking");
    socket.write_all(b"from the link").await.expect("open");
    drop(socket);
    let mut told = String::new();
    tokio::time::timeout(SOON, replica.read_to_string(&mut told)).await.expect("soon").expect("text");
    assert_eq!(told, "+PONG\r\n+OK\r\nfrom the link");
}

#[tokio::test]
async fn without_replication_no_connection_becomes_a_link() {
    let service = service();
    let client = service.clients.register(Peer::default(), 0, 1).expect("a free place");
    let (stream, mut peer) = tokio::io::duplex(1024);
    let run = tokio::spawn(Connection::new(stream, Arc::clone(&service), client).run());
    peer.write_all(b"REPLCONF larder-link 1\r\nREPLCONF capa eof what 1\r\nREPLCONF ack 1\r\nQUIT\r\n")
        .await
        .expect("it reads");
    let mut told = String::new();
    tokio::time::timeout(SOON, peer.read_to_string(&mut told)).await.expect("soon").expect("text");
    assert_eq!(
        told,
        "-ERR replication links are not served here\r\n-ERR Unrecognized REPLCONF option: what\r\n+OK\r\n"
    );
    run.await.expect("no panic");
}

/// Whether there is nothing to read.
fn is_nothing_there<F: Future>(read: std::pin::Pin<&mut F>, context: &mut std::task::Context) -> bool {
    read.poll(context).is_pending()
}

#[tokio::test(start_paused = true)]
async fn a_reply_is_held_until_a_replica_has_the_change() {
    let service = service_with(&["write-concern one"]);
    follow(&service, 0);
    let (mut writer, mut reader) = (Connected::to(&service), Connected::to(&service));
    writer.send("PING|SET key 1|GET other|").await;
    writer.expect_nothing().await;
    reader.send("GET key|").await;
    reader.expect_nothing().await;
    follow(&service, 1);
    writer.expect("+PONG|+OK|$-1|").await;
    reader.expect("$1|1|").await;
    reader.send("GET key|").await;
    reader.expect("$1|1|").await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_confirmed_in_time_is_answered_as_uncertain_and_the_connection_goes_on() {
    let service = service_with(&["write-concern majority", "write-concern-timeout 100"]);
    follow(&service, 0);
    let mut client = Connected::to(&service);
    client.send("PING|SET key 1|GET key|CLIENT REPLY SKIP|SET key 2|ECHO x|").await;
    client.expect("+PONG|").await;
    assert!(client.line().await.starts_with("-UNCONFIRMED The change is stored here"));
    assert!(client.line().await.starts_with("-UNCONFIRMED The data was changed"));
    client.expect("$1|x|").await;
    client.send("MULTI|SET key 3|EXEC|").await;
    client.expect("+OK|+QUEUED|").await;
    assert!(client.line().await.starts_with("-UNCONFIRMED The change is stored here"));
    client.send("CLIENT WRITE-CONCERN local|SET key 4|").await;
    client.expect("+OK|").await;
    assert!(
        client.line().await.starts_with("-UNCONFIRMED The data was changed"),
        "it shows what came before"
    );
    assert_eq!(
        service.statistics.errors().iter().find(|(code, _)| code == "UNCONFIRMED").expect("counted").1,
        4
    );
}

#[tokio::test(start_paused = true)]
async fn requests_that_come_while_replies_are_held_are_answered_afterwards() {
    let service = service_with(&["write-concern one", "write-concern-timeout 0"]);
    follow(&service, 0);
    let mut client = Connected::to(&service);
    client.send("SET key 1|").await;
    client.expect_nothing().await;
    client.send("GET key|PI").await;
    client.expect_nothing().await;
    follow(&service, 1);
    client.expect("+OK|$1|1|").await;
    client.send("NG|").await;
    client.expect("+PONG|").await;
}

#[tokio::test(start_paused = true)]
async fn a_held_connection_ends_with_its_peer_or_by_order() {
    let service = service_with(&["write-concern one", "write-concern-timeout 0"]);
    follow(&service, 0);
    let (mut left, mut killed) = (Connected::to(&service), Connected::to(&service));
    left.send("SET key 1|").await;
    killed.send("SET key 1|").await;
    killed.expect_nothing().await;
    assert_eq!(service.clients.count(), 2);
    drop(left);
    service.clients.list().iter().max_by_key(|client| client.id).expect("two").kill();
    let mut rest = String::new();
    tokio::time::timeout(SOON, killed.0.read_to_string(&mut rest)).await.expect("soon").expect("text");
    assert_eq!((rest.as_str(), service.clients.count()), ("", 0));
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_becomes_a_replica_confirms_nothing_any_more() {
    let service = service_with(&["write-concern one", "write-concern-timeout 0"]);
    follow(&service, 0);
    let mut client = Connected::to(&service);
    client.send("SET key 1|").await;
    client.expect_nothing().await;
    service.assign(Assignment::replica(1, 2, "other", 1));
    follow(&service, 1);
    assert!(client.line().await.starts_with("-UNCONFIRMED The change is stored here"));
    client.send("SET key 2|GET key|MULTI|SET key 3|EXEC|").await;
    client.expect("-READONLY You can't write against a read only replica.|$1|1|+OK|").await;
    client.expect("-READONLY You can't write against a read only replica.|").await;
    client.expect("-EXECABORT Transaction discarded because of previous errors.|").await;
    service.assign(Assignment::primary(1, 2));
    client.send("GET key|").await;
    client.expect("$1|1|").await;
}

#[tokio::test(start_paused = true)]
async fn a_write_that_too_few_replicas_can_have_is_refused_before_it_runs() {
    let service = service_with(&["write-concern-databases 1 all"]);
    let mut client = Connected::to(&service);
    client.send("SET key 1|SELECT 1|SET key 1|GET key|MULTI|SET key 1|EXEC|").await;
    client.expect("+OK|+OK|-NOREPLICAS Not enough good replicas to write.|$-1|+OK|").await;
    client.expect("-NOREPLICAS Not enough good replicas to write.|").await;
    client.expect("-EXECABORT Transaction discarded because of previous errors.|").await;
    client.send("SELECT 0|MULTI|SELECT 1|SET key 1|EXEC|SELECT 1|GET key|").await;
    client.expect("+OK|+OK|+QUEUED|+QUEUED|").await;
    client
        .expect("-EXECABORT Transaction discarded because of: NOREPLICAS Not enough good replicas to write.|+OK|$-1|")
        .await;
    client
        .send(
            "CLIENT WRITE-CONCERN|CLIENT WRITE-CONCERN local|SET key 1|RESET|SELECT 1|CLIENT WRITE-CONCERN|",
        )
        .await;
    client.expect("$3|all|+OK|+OK|+RESET|+OK|$3|all|").await;
    client.send("CLIENT WRITE-CONCERN two|CLIENT WRITE-CONCERN Majority|CLIENT WRITE-CONCERN|").await;
    client.expect("-ERR write concern must be LOCAL, ONE, MAJORITY, ALL or DEFAULT|+OK|$8|majority|").await;
}

#[tokio::test(start_paused = true)]
async fn wait_ends_with_enough_replicas_in_time_or_by_order() {
    let service = service();
    let (mut waiting, mut other) = (Connected::to(&service), Connected::to(&service));
    waiting.send("WAIT 0 0|WAIT 1 100|SET key 1|WAIT 0 0|WAITAOF 0 0 0|WAIT 1 0|").await;
    waiting.expect(":0|:0|+OK|:0|*2|:1|:0|").await;
    waiting.expect_nothing().await;
    other.send("CLIENT UNBLOCK 1|").await;
    other.expect(":1|").await;
    waiting.expect(":0|").await;
    waiting.send("WAIT 1 0|PING|").await;
    waiting.expect_nothing().await;
    other.send("CLIENT UNBLOCK 1 ERROR|").await;
    other.expect(":1|").await;
    waiting.expect("-UNBLOCKED client unblocked via CLIENT UNBLOCK|+PONG|").await;
    waiting.send("WAIT 1 0|PING|").await;
    waiting.expect_nothing().await;
    follow(&service, 0);
    waiting.expect_nothing().await;
    follow(&service, 1);
    waiting.expect(":1|+PONG|").await;
    waiting.send("WAITAOF 1 1 0|WAIT 2 50|MULTI|WAIT 2 0|EXEC|").await;
    waiting.expect("*2|:1|:1|:1|+OK|+QUEUED|*1|:1|").await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_because_the_server_became_a_replica_is_told_and_closed() {
    let service = service();
    let mut client = Connected::to(&service);
    client.send("WAIT 1 0|PING|").await;
    client.expect_nothing().await;
    service.follow(Some(("other", 1)));
    let mut told = String::new();
    tokio::time::timeout(SOON, client.0.read_to_string(&mut told)).await.expect("soon").expect("text");
    assert_eq!(
        told,
        "-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n"
    );
    let mut client = Connected::to(&service);
    client.send("WAIT 1 0|").await;
    assert!(client.line().await.starts_with("-ERR WAIT cannot be used with replica instances."));
}

#[tokio::test(start_paused = true)]
async fn replicas_that_are_too_few_or_silent_stop_writes() {
    let service = service_with(&["min-replicas-to-write 1", "min-replicas-max-lag 3"]);
    let mut client = Connected::to(&service);
    client.send("SET key 1|").await;
    client.expect("-NOREPLICAS Not enough good replicas to write.|").await;
    follow(&service, 0);
    client.send("SET key 1|").await;
    client.expect("+OK|").await;
    tokio::time::advance(Duration::from_millis(3001)).await;
    client.send("SET key 1|GET key|").await;
    client.expect("-NOREPLICAS Not enough good replicas to write.|$1|1|").await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_answers_what_its_settings_let_it() {
    use crate::replication::LinkState;
    let service = service_with(&["replicaof other 1", "replica-serve-stale-data no"]);
    let mut client = Connected::to(&service);
    let down = "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.|";
    client.send("GET key|PING|SET key 1|SELECT 0|WAIT x y|").await;
    client
        .expect(&format!("{down}{down}-READONLY You can't write against a read only replica.|+OK|{down}"))
        .await;
    let hear = |position| {
        let now_ms = service.replication.now_ms();
        service.replication.with_upstream(|upstream| {
            (upstream.state, upstream.position) = (LinkState::Up, position);
            upstream.primary_is_at(10, now_ms);
        });
    };
    hear(10);
    client.send("CONFIG SET replica-reads max-lag=100|GET key|").await;
    client.expect("+OK|$-1|").await;
    tokio::time::advance(Duration::from_millis(101)).await;
    client.send("GET key|PING|").await;
    client
        .expect("-MASTERDOWN This replica may lack changes that are older than replica-reads allows.|+PONG|")
        .await;
    hear(5);
    client.send("GET key|").await;
    client
        .expect("-MASTERDOWN This replica may lack changes that are older than replica-reads allows.|")
        .await;
    hear(10);
    client.send("GET key|CONFIG SET replica-reads primary|GET key|").await;
    client
        .expect("$-1|+OK|-MASTERDOWN This replica answers no reads: replica-reads is set to 'primary'.|")
        .await;
}
