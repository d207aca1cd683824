//! Connections without a server around them: a client's end, the service, and what others do to it.

use super::connection::Connection;
use crate::config::Parameters;
use crate::session::client::Peer;
use crate::session::handover::LinkStream;
use crate::session::service::Service;
use crate::store::Store;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

/// Whatever a test waits for comes within this time, or never.
const SOON: Duration = Duration::from_secs(20);

fn service() -> Arc<Service> {
    let store = Arc::new(Store::in_memory(1, 16));
    Arc::new(Service::new(Parameters::default(), store, crate::commands::table::full_names()))
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
