//! How a connection behaves over a socket: order, bounds, transactions, waits. Each test has a server of its own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server that ends with the test.
struct Server {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start(arguments: &[&str]) -> Server {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|socket| socket.local_addr())
            .expect("a free port")
            .port();
        let folder = tempfile::tempdir().expect("a folder");
        let process = Command::new(env!("CARGO_BIN_EXE_larder"))
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
            .arg(folder.path())
            .args(arguments)
            .stdout(Stdio::null())
            .spawn()
            .expect("the server starts");
        let server = Server { process, port, _folder: folder };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the server does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    fn connect(&self) -> Client {
        let socket = TcpStream::connect(("127.0.0.1", self.port)).expect("the server listens");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
        Client(socket)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Client(TcpStream);

impl Client {
    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the server reads");
    }

    /// Exactly these bytes come next.
    fn expect(&mut self, bytes: &str) {
        let mut found = vec![0; bytes.len()];
        self.0.read_exact(&mut found).expect("a reply");
        assert_eq!(String::from_utf8_lossy(&found), bytes);
    }

    fn ask(&mut self, request: &str, reply: &str) {
        self.send(request.as_bytes());
        self.expect(reply);
    }

    /// Everything up to the end of the connection.
    fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.0.read_to_end(&mut bytes);
        bytes
    }

    /// Nothing comes for a while.
    fn expect_silence(&mut self) {
        self.0.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket");
        let mut byte = [0];
        let read = self.0.read(&mut byte);
        assert!(read.is_err(), "unexpected {read:?}");
        self.0.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    }
}

#[test]
fn replies_keep_the_order_of_commands_however_the_bytes_come() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let requests =
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\nGET k\r\n\r\n*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n";
    for byte in requests {
        client.send(&[*byte]);
    }
    client.expect("+OK\r\n$5\r\nvalue\r\n$2\r\nhi\r\n");
    client.ask("*1\r\n:x\r\n", "-ERR Protocol error: expected '$', got ':'\r\n");
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_client_may_send_everything_before_it_reads_anything() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let value = "x".repeat(1000);
    client.ask(&format!("SET k {value}\r\n"), "+OK\r\n");
    let requests = b"GET k\r\n".repeat(20_000); // 20 MB of replies, far more than sockets hold
    client.send(&requests);
    for _ in 0..20_000 {
        client.expect(&format!("$1000\r\n{value}\r\n"));
    }
}

#[test]
fn who_exceeds_the_output_limit_is_closed() {
    let server = Server::start(&["--client-output-buffer-limit", "normal", "3mb", "0", "0"]);
    let mut client = server.connect();
    let value = "x".repeat(1 << 20);
    client.send(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n{value}\r\n", value.len()).as_bytes());
    client.expect("+OK\r\n");
    client.send(&b"GET k\r\n".repeat(100));
    std::thread::sleep(Duration::from_millis(500));
    assert!(client.rest().len() < 50 << 20);
    server.connect().ask("PING\r\n", "+PONG\r\n");
}

#[test]
fn strangers_are_counted_and_told() {
    let server = Server::start(&["--maxclients", "2", "--requirepass", "secret"]);
    // The connection that waited for the start may still count for a moment.
    std::thread::sleep(Duration::from_millis(300));
    let (mut first, mut second) = (server.connect(), server.connect());
    second.ask("PING\r\n", "-NOAUTH Authentication required.\r\n");
    first.ask("PING\r\n", "-NOAUTH Authentication required.\r\n");
    first.ask("AUTH secret\r\n", "+OK\r\n");
    assert_eq!(server.connect().rest(), b"-ERR max number of clients reached\r\n");
}

#[test]
fn a_failing_command_of_a_transaction_leaves_the_others() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.ask(
        "MULTI\r\nSET a 1\r\nSET b x\r\nINCR b\r\nINCR a\r\n",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n",
    );
    client.ask("EXEC\r\n", "*4\r\n+OK\r\n+OK\r\n-ERR value is not an integer or out of range\r\n:2\r\n");
    client.ask(
        "MULTI\r\nnonsense\r\nEXEC\r\n",
        "+OK\r\n-ERR unknown command 'nonsense', with args beginning with: \r\n",
    );
    client.expect("-EXECABORT Transaction discarded because of previous errors.\r\n");
}

#[test]
fn a_watched_key_that_changes_or_expires_stops_exec() {
    let server = Server::start(&[]);
    let (mut client, mut other) = (server.connect(), server.connect());
    client.ask("SET k 1\r\nWATCH k\r\n", "+OK\r\n+OK\r\n");
    other.ask("SET k 2\r\n", "+OK\r\n");
    client.ask("MULTI\r\nGET k\r\nEXEC\r\n", "+OK\r\n+QUEUED\r\n*-1\r\n");
    client.ask("MULTI\r\nGET k\r\nEXEC\r\n", "+OK\r\n+QUEUED\r\n*1\r\n$1\r\n2\r\n");
    client.ask("SET k 1 PX 20\r\nWATCH k\r\n", "+OK\r\n+OK\r\n");
    std::thread::sleep(Duration::from_millis(60));
    client.ask("MULTI\r\nPING\r\nEXEC\r\n", "+OK\r\n+QUEUED\r\n*-1\r\n");
}

#[test]
fn a_pause_holds_writes_until_it_ends() {
    let server = Server::start(&[]);
    let (mut client, mut other) = (server.connect(), server.connect());
    client.ask("CLIENT PAUSE 60000 WRITE\r\nGET k\r\n", "+OK\r\n$-1\r\n");
    other.send(b"GET k\r\nSET k 1\r\nGET k\r\n");
    other.expect("$-1\r\n");
    other.expect_silence();
    client.ask("CLIENT UNPAUSE\r\n", "+OK\r\n");
    other.expect("+OK\r\n$1\r\n1\r\n");
}

#[test]
fn replies_can_be_switched_off() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.ask("CLIENT REPLY SKIP\r\nPING\r\nECHO a\r\n", "$1\r\na\r\n");
    client.ask("CLIENT REPLY OFF\r\nPING\r\nCLIENT REPLY ON\r\n", "+OK\r\n");
    client.ask("HELLO 3\r\n", "%7\r\n");
}

#[test]
fn a_killed_client_is_closed() {
    let server = Server::start(&[]);
    let (mut client, mut other) = (server.connect(), server.connect());
    other.ask("CLIENT SETNAME other\r\n", "+OK\r\n");
    let address = other.0.local_addr().expect("an address");
    client.ask(&format!("CLIENT KILL ADDR {address}\r\n"), ":1\r\n");
    assert_eq!(other.rest(), b"");
}

#[test]
fn a_stopped_server_has_kept_what_it_acknowledged() {
    let mut server = Server::start(&["--appendfsync", "always"]);
    let mut client = server.connect();
    client.send(&b"INCR n\r\n".repeat(5000));
    client.expect(":1\r\n");
    let _ = server.process.kill();
    let _ = server.process.wait();
    let acknowledged = 1 + client.rest().split(|&byte| byte == b'\n').count() - 1;
    server.process = Command::new(env!("CARGO_BIN_EXE_larder"))
        .args(["--port", &server.port.to_string(), "--bind", "127.0.0.1", "--dir"])
        .arg(server._folder.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts again");
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", server.port)).is_err() {
        assert!(Instant::now() < deadline, "the server does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut client = server.connect();
    client.send(b"GET n\r\nQUIT\r\n");
    let text = String::from_utf8(client.rest()).expect("text");
    let kept: usize = text.lines().nth(1).and_then(|line| line.parse().ok()).expect("a number");
    assert!(kept >= acknowledged, "{kept} kept of {acknowledged} acknowledged");
}
