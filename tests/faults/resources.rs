//! Less memory, fewer descriptors, less address space than a server would like.

use crate::places::root_runs;
use crate::support::{Client, Launch, Server, wait_until};
use std::path::PathBuf;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

/// A memory group (control groups, version 1), gone with the test.
struct Group(PathBuf);

impl Group {
    fn with_limit(limit: &str) -> Group {
        let path = PathBuf::from(format!("/sys/fs/cgroup/memory/faults-{}", std::process::id()));
        root_runs("mkdir", &["-p", &path.to_string_lossy()]);
        std::fs::write(path.join("memory.limit_in_bytes"), limit)
            .expect("memory groups of version 1 are there");
        Group(path)
    }

    fn number(&self, file: &str) -> u64 {
        let text = std::fs::read_to_string(self.0.join(file)).expect("the group is there");
        text.trim().parse().expect("a number")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return; // its last process has ended
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn more_data_than_a_container_has_memory_is_no_reason_to_be_killed() {
    let group = Group::with_limit("192M");
    let enter = format!("echo $$ > {}/cgroup.procs", group.0.display());
    let mut server = Server::launch(Launch::with(&[]).prelude(&enter));
    let mut client = server.connect();
    let value = vec![b'x'; 20_000];
    for number in 0..16_000 {
        let reply = client.ask(&[b"SET".as_slice(), format!("key:{number}").as_bytes(), &value]);
        assert_eq!(reply.to_string(), "OK");
    }
    for number in (0..16_000).step_by(7) {
        client.expect(&["STRLEN", &format!("key:{number}")], ":20000");
    }
    assert!(server.is_running(), "killed: {}", server.log());
    let most = group.number("memory.max_usage_in_bytes");
    eprintln!(
        "320 MB of values in a group of 192 MB: {} MB at most, {} times at the limit",
        most >> 20,
        group.number("memory.failcnt")
    );
    server.kill();
    server.start_again();
    let mut client = server.connect();
    assert_eq!(client.line("DBSIZE"), ":16000");
    client.expect(&["STRLEN", "key:15999"], ":20000");
}

#[test]
fn with_few_descriptors_clients_are_turned_away_and_the_store_goes_on() {
    let flags = ["--checkpoint-age", "1", "--checkpoint-journal-size", "1mb"];
    let mut server = Server::launch(Launch::with(&flags).prelude("ulimit -n 200"));
    let mut client = server.connect();
    let most: usize =
        client.ask(&["CONFIG", "GET", "maxclients"]).items()[1].text().parse().expect("a number");
    assert!((10..200).contains(&most), "maxclients is {most} with 200 descriptors");
    // More than there are descriptors: some are told, the rest wait in the queue of the kernel.
    let mut others: Vec<Client> = (0..400).filter_map(|_| Client::try_connect(server.port).ok()).collect();
    let value = vec![b'x'; 1 << 20];
    for number in 0..80 {
        let reply = client.ask(&[b"SET".as_slice(), format!("key:{}", number % 10).as_bytes(), &value]);
        assert_eq!(reply.to_string(), "OK", "a segment of the journal more needs a descriptor");
    }
    client.check(&[("SAVE", "OK"), ("GET nothing", "nil")]);
    let busy = cpu_seconds(&server);
    std::thread::sleep(Duration::from_secs(1));
    let spent = cpu_seconds(&server) - busy;
    assert!(spent < 0.7, "{spent} s of processor in a second in which nothing was asked");
    let mut served = 0;
    for other in &mut others {
        if other.send(b"PING\r\n").is_ok() {
            let (answer, _) = other.read_rest(Duration::from_millis(if served > 0 { 5 } else { 500 }));
            served += usize::from(answer.starts_with(b"+PONG"));
        }
    }
    assert!(served > 0 && served < most, "{served} served, maxclients {most}");
    drop(others);
    wait_until("there is room for others again", SOON, || {
        Client::try_connect(server.port)
            .is_ok_and(|mut other| other.try_ask(&["PING"]).is_ok_and(|reply| reply.to_string() == "PONG"))
    });
    server.kill();
    server.start_again();
    server.connect().check(&[("STRLEN key:0", ":1048576"), ("DBSIZE", ":10")]);
}

/// Processor time a server has used.
pub fn cpu_seconds(server: &Server) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.process_id())).expect("it runs");
    let (_, fields) = stat.rsplit_once(')').expect("the name stands in parentheses");
    let ticks: f64 = fields
        .split_ascii_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<f64>().expect("a number"))
        .sum();
    ticks / 100.0
}

#[test]
fn with_little_address_space_it_starts_and_says_what_that_means() {
    for kilobytes in [1_500_000, 4_000_000, 12_000_000] {
        let mut server = Server::launch(Launch::with(&[]).prelude(&format!("ulimit -v {kilobytes}")));
        let mut client = server.connect();
        client.check(&[("SET key value", "OK"), ("SAVE", "OK")]);
        assert!(server.log().contains("address space is limited"), "{}", server.log());
        server.kill();
        server.start_again();
        server.connect().check(&[("GET key", "\"value\"")]);
    }
}

#[test]
fn a_file_size_limit_is_an_error_and_not_the_end() {
    // 12 MB: the journal's segment cannot grow as long as it would.
    let server = Server::launch(Launch::with(&[]).prelude("ulimit -f 12288"));
    let mut client = server.connect();
    let value = vec![b'x'; 100_000];
    let mut last = String::new();
    for number in 0..300 {
        let Ok(reply) = client.try_ask(&[b"SET".as_slice(), format!("key:{number}").as_bytes(), &value])
        else {
            client = server.connect();
            continue;
        };
        last = reply.to_string();
        if last != "OK" {
            break;
        }
    }
    assert!(last.starts_with("-MISCONF"), "{last}");
    client.check(&[("STRLEN key:1", ":100000"), ("PING", "PONG")]);
}
