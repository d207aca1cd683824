//! A primary that comes back has changes that nobody else has.

use crate::pair::{await_equal, await_link, await_that, info, replica_of, server};
use crate::support::Server;
use std::path::Path;

#[test]
fn what_only_the_old_primary_has_is_written_out_before_it_follows() {
    let old = server(&[]);
    let new = replica_of(&old, &[]);
    await_link(&new);
    old.connect().check(&[("SET common x", "OK"), ("SET counter 1", "OK")]);
    await_equal(&old, &new);
    new.connect().check(&[("REPLICAOF NO ONE", "OK"), ("INCR counter", ":2"), ("SET new x", "OK")]);
    old.connect().check(&[("SET counter 77", "OK"), ("SET lost x", "OK"), ("HSET lost:hash f v", ":1")]);
    let port = new.port.to_string();
    old.connect().expect(&["REPLICAOF", "127.0.0.1", &port], "OK");
    await_link(&old);
    await_equal(&new, &old);
    let mut client = old.connect();
    client.check(&[
        ("GET lost", "nil"),
        ("GET counter", "\"2\""),
        ("GET new", "\"x\""),
        ("GET common", "\"x\""),
    ]);
    let lost = old.folder().join("data/lost");
    await_that("it is written out", || std::fs::read_dir(&lost).is_ok_and(|files| files.count() > 0));
    let mut all = String::new();
    for file in std::fs::read_dir(&lost).expect("it is there").flatten() {
        if file.path().extension().is_some_and(|extension| extension == "jsonl") {
            all += &std::fs::read_to_string(file.path()).expect("readable");
        }
    }
    for word in ["\"lost\"", "\"lost:hash\"", "\"counter\"", "77"] {
        assert!(all.contains(word), "{word} is not in {all}");
    }
    assert!(!all.contains("\"common\""), "what both have is not lost: {all}");
    assert!(old.log().contains("larder lost replay"), "{}", old.log());
    let counted = |name| info(&mut old.connect(), name).expect("a number").parse::<u64>().expect("a number");
    assert!(counted("lost_files") > 0);
    assert_eq!(counted("lost_transactions"), 3);
    bring_back(&lost, &new);
    new.connect().check(&[("GET lost", "\"x\""), ("HGET lost:hash f", "\"v\""), ("GET counter", "\"2\"")]);
    await_equal(&new, &old);
}

/// Gives the server what it lacks of what was lost.
fn bring_back(lost: &Path, server: &Server) {
    let address = format!("127.0.0.1:{}", server.port);
    for file in std::fs::read_dir(lost).expect("it is there").flatten() {
        let path = file.path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            let path = path.to_str().expect("a path of ours is text");
            let done = Server::run_to_end(&["lost", "replay", path, "--to", &address, "--only-missing"]);
            assert!(done.errors.is_empty(), "{}", done.errors);
        }
    }
}

#[test]
fn a_promoted_replica_is_followed_by_the_others() {
    let first = server(&[]);
    let (second, third) = (replica_of(&first, &[]), replica_of(&first, &[]));
    await_link(&second);
    await_link(&third);
    first.connect().check(&[("SET before x", "OK")]);
    await_equal(&first, &second);
    await_equal(&first, &third);
    second.connect().check(&[("REPLICAOF NO ONE", "OK"), ("SET after x", "OK")]);
    let port = second.port.to_string();
    third.connect().expect(&["REPLICAOF", "127.0.0.1", &port], "OK");
    await_link(&third);
    await_equal(&second, &third);
    assert!(!third.log().contains("receiving a snapshot"), "it only needs the journal: {}", third.log());
}
