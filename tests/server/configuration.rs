//! Configuration by file, flags and CONFIG; what is wrong ends the start with status 1.

use crate::support::{Launch, Server, finish};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

#[test]
fn a_wrong_setting_ends_the_start_with_status_1() {
    let folder = tempfile::TempDir::new().expect("the system has room for a folder");
    let file = |text: &str| {
        let path = folder.path().join(text.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
        std::fs::write(&path, text).expect("the folder is ours");
        path.to_string_lossy().into_owned()
    };
    let dir = folder.path().join("data").to_string_lossy().into_owned();
    let cases = [
        (vec!["--no-such-thing".to_string(), "1".to_string()], "no-such-thing"),
        (vec!["--port".to_string(), "many".to_string()], "port"),
        (vec!["--maxmemory-policy".to_string(), "sometimes".to_string()], "maxmemory-policy"),
        (vec![file("port 0\nappendfsync perhaps\n")], "appendfsync"),
        (vec!["--port".to_string(), "0".to_string()], "no port, address or local socket"),
        (vec!["/no/such/file.conf".to_string()], "/no/such/file.conf"),
        // What would leave a server open that was closed.
        (vec![file("port 0\ntls-port 6380\n")], "TLS is not there yet"),
        (vec![file("port 0\ntls-replication yes\n")], "TLS is not there yet"),
        (vec![file("port 0\naclfile /etc/redis/users.acl\n")], "use requirepass"),
        (vec![file("port 0\nuser default on >secret ~* +@all\n")], "use requirepass"),
    ];
    for (arguments, named) in cases {
        let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        arguments.extend(["--dir", &dir]);
        let ended = Server::run_to_end(&arguments);
        let said = format!("{}{}", ended.output, ended.errors);
        assert_eq!(ended.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains(named), "{arguments:?} is named: {said}");
    }
}

#[test]
fn config_rewrite_keeps_the_file_and_its_comments() {
    let folder = tempfile::TempDir::new().expect("the system has room for a folder");
    let path = folder.path().join("larder.conf");
    std::fs::write(&path, "# kept\nmaxmemory 100mb\n\nhz 20\n").expect("the folder is ours");
    let mut server = Server::start_with_file(&path);
    let mut client = server.connect();
    client.check(&[
        ("CONFIG SET maxmemory 50mb maxmemory-policy allkeys-lru", "OK"),
        ("CONFIG SET maxmemory 1x", "-ERR CONFIG SET failed (possibly related to argument 'maxmemory') - argument must be a memory value"),
        ("CONFIG REWRITE", "OK"),
    ]);
    let text = std::fs::read_to_string(&path).expect("it is there");
    assert!(
        text.contains("# kept\n") && text.contains("maxmemory 50mb\n") && text.contains("hz 20\n"),
        "{text}"
    );
    assert!(text.contains("maxmemory-policy allkeys-lru"), "{text}");
    server.terminate();
    server.start_again();
    server.connect().check(&[
        ("CONFIG GET maxmemory", "[\"maxmemory\" \"52428800\"]"),
        ("CONFIG GET maxmemory-policy", "[\"maxmemory-policy\" \"allkeys-lru\"]"),
        ("CONFIG GET no-such-thing", "[]"),
    ]);
}

#[test]
fn without_a_file_there_is_nothing_to_rewrite() {
    let server = Server::start(&[]);
    server.connect().check(&[
        ("CONFIG REWRITE", "-ERR The server is running without a config file"),
        (
            "CONFIG SET databases 7",
            "-ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config",
        ),
        (
            "CONFIG SET no-such-thing 1",
            "-ERR Unknown option or number of arguments for CONFIG SET - 'no-such-thing'",
        ),
        ("CONFIG SET hz", "-ERR wrong number of arguments for 'config|set' command"),
    ]);
}

#[test]
fn every_parameter_of_redis_is_known() {
    let (server, reference) = (Server::start(&[]), Server::start_reference(&[]));
    let names = |server: &Server| -> std::collections::BTreeSet<String> {
        let all = server.connect().ask(&["CONFIG", "GET", "*"]);
        all.items().chunks(2).map(|pair| pair[0].text()).collect()
    };
    let (ours, theirs) = (names(&server), names(&reference));
    let missing: Vec<_> = theirs.difference(&ours).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn parameters_without_meaning_are_accepted_and_told() {
    let server = Server::start(&["--io-threads", "4", "--save", "900 1", "--rdbcompression", "no"]);
    server.connect().check(&[("CONFIG GET rdbcompression", "[\"rdbcompression\" \"no\"]")]);
    assert!(server.log().contains("rdbcompression"), "{}", server.log());
}

/// The configuration that the distribution ships. Only its own user and root may read it.
fn shipped_configuration() -> String {
    const PATH: &str = "/etc/redis/redis.conf";
    std::fs::read_to_string(PATH).unwrap_or_else(|_| {
        let read = finish(Command::new("sudo").args(["-n", "cat", PATH]), b"", Duration::from_secs(10));
        assert!(read.status.success(), "{PATH} comes with redis-server: {read:?}");
        read.output
    })
}

#[test]
fn the_configuration_that_the_distribution_ships_starts_a_server() {
    let folder = tempfile::TempDir::new().expect("the system has room for a folder");
    let (path, pid_file) = (folder.path().join("redis.conf"), folder.path().join("pid"));
    let text = shipped_configuration();
    std::fs::write(&path, &text).expect("the folder is ours");
    // Its folders are those of redis-server.
    let flags = [&path.to_string_lossy(), "--logfile", "", "--pidfile", &pid_file.to_string_lossy()];
    let mut server = Server::launch(Launch::with(&flags));
    let mut client = server.connect();
    client.check(&[("SET a 1", "OK"), ("GET a", "\"1\"")]);
    for line in text.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase())) {
        let name = line.split(' ').next().unwrap_or_default();
        assert!(client.line(&format!("CONFIG GET {name}")).contains(name), "{line}");
    }
    assert!(server.log().contains("appendonly (the journal is always on"), "{}", server.log());
    assert_eq!(std::fs::read_to_string(&pid_file).expect("written"), format!("{}\n", server.process_id()));
    assert!(server.terminate().success() && !pid_file.exists());
}

#[test]
fn systemd_is_told_when_the_server_is_ready_and_when_it_stops() {
    let folder = tempfile::TempDir::new().expect("the system has room for a folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("the folder is ours");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    let told = || {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).expect("it is told");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    let launch = Launch::with(&["--supervised", "systemd"]);
    let mut server = Server::launch(launch.variable("NOTIFY_SOCKET", &path.to_string_lossy()));
    assert!(told().starts_with("READY=1\n"));
    assert!(server.terminate().success());
    assert!(told().starts_with("STOPPING=1\n"));
}
