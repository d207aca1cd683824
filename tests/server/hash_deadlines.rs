//! Deadlines of fields of hashes. redis-server 7.0 has none: what is expected here is what the documentation of 7.4 and 8.0 says.

use crate::support::{Client, Server, Value, wait_until};
use std::time::Duration;

/// Limits under which a hash of a few fields is big.
const BIG: &[&str] = &["--hash-max-listpack-entries", "1"];
const SMALL: &[&str] = &[];
/// In some decades, in seconds and milliseconds.
const FAR_S: &str = "4102444800";
const FAR_MS: &str = "4102444800000";

fn each_form(check: impl Fn(&mut Client)) {
    for flags in [SMALL, BIG] {
        let server = Server::start(flags);
        check(&mut server.connect());
    }
}

#[test]
fn deadlines_are_set_told_and_taken_away() {
    each_form(|client| {
        client.check(&[
            ("HSET h a 1 b 2 c 3", ":3"),
            ("HTTL h FIELDS 4 a b c d", "[:-1 :-1 :-1 :-2]"),
            (&format!("HEXPIREAT h {FAR_S} FIELDS 2 a d"), "[:1 :-2]"),
            (&format!("HPEXPIREAT h {FAR_MS} FIELDS 1 b"), "[:1]"),
            ("HEXPIRETIME h FIELDS 3 a b c", "[:4102444800 :4102444800 :-1]"),
            ("HPEXPIRETIME h FIELDS 3 a b c", "[:4102444800000 :4102444800000 :-1]"),
            ("HPERSIST h FIELDS 3 a c d", "[:1 :-1 :-2]"),
            ("HPEXPIRETIME h FIELDS 2 a b", "[:-1 :4102444800000]"),
            ("HEXPIRE h 1000 FIELDS 1 a", "[:1]"),
            ("HTTL h FIELDS 1 a", "[:1000]"),
            ("HPEXPIRE h 1500 FIELDS 1 a", "[:1]"),
            ("HTTL h FIELDS 1 a", "[:2]"),
            ("HLEN h", ":3"),
        ]);
    });
}

#[test]
fn conditions_are_kept() {
    each_form(|client| {
        client.check(&[
            ("HSET h f v", ":1"),
            ("HEXPIRE h 100 XX FIELDS 1 f", "[:0]"),
            ("HEXPIRE h 100 GT FIELDS 1 f", "[:0]"),
            ("HEXPIRE h 100 LT FIELDS 1 f", "[:1]"),
            ("HEXPIRE h 200 NX FIELDS 1 f", "[:0]"),
            ("HEXPIRE h 200 LT FIELDS 1 f", "[:0]"),
            ("HEXPIRE h 200 GT FIELDS 1 f", "[:1]"),
            ("HEXPIRE h 50 XX FIELDS 1 f", "[:1]"),
            ("HEXPIRE h 0 GT FIELDS 1 f", "[:0]"),
            ("HTTL h FIELDS 1 f", "[:50]"),
        ]);
    });
}

#[test]
fn a_deadline_that_is_reached_removes_the_field_and_the_last_one_the_key() {
    each_form(|client| {
        client.check(&[
            ("HSET h a 1 b 2 c 3 d 4", ":4"),
            ("HEXPIRE h 0 FIELDS 3 a a x", "[:2 :-2 :-2]"),
            ("HPEXPIREAT h 1 FIELDS 1 b", "[:2]"),
            ("HLEN h", ":2"),
            ("HGETEX h PXAT 1 FIELDS 2 c c", "[\"3\" nil]"),
            ("HSETEX h EXAT 1 FIELDS 1 d 5", ":1"),
            ("EXISTS h", ":0"),
            ("HSETEX h EX 0 FIELDS 1 d 5", ":1"),
            ("EXISTS h", ":0"),
        ]);
    });
}

#[test]
fn what_is_over_is_seen_by_nobody_before_it_is_removed() {
    for flags in [SMALL, BIG] {
        let flags = [flags, &["--enable-debug-command", "yes"]].concat();
        let server = Server::start(&flags);
        let mut client = server.connect();
        client.check(&[
            ("DEBUG SET-ACTIVE-EXPIRE 0", "OK"),
            ("HSET h stays 1 goes 2", ":2"),
            ("HSET other goes 1", ":1"),
            ("HPEXPIRE h 1 FIELDS 1 goes", "[:1]"),
            ("HPEXPIRE other 1 FIELDS 1 goes", "[:1]"),
        ]);
        wait_until("the field is over", Duration::from_secs(5), || {
            client.line("HTTL h FIELDS 1 goes") == "[:-2]" && client.line("HGET other goes") == "nil"
        });
        client.check(&[
            ("HGET h goes", "nil"),
            ("HMGET h goes stays", "[nil \"1\"]"),
            ("HEXISTS h goes", ":0"),
            ("HSTRLEN h goes", ":0"),
            ("HKEYS h", "[\"stays\"]"),
            ("HVALS h", "[\"1\"]"),
            ("HGETALL h", "[\"stays\" \"1\"]"),
            ("HSCAN h 0", "[\"0\" [\"stays\" \"1\"]]"),
            ("HRANDFIELD h 5", "[\"stays\"]"),
            ("HRANDFIELD h -2", "[\"stays\" \"stays\"]"),
            ("HRANDFIELD other", "nil"),
            ("HGETALL other", "[]"),
            ("DUMP other", "nil"),
            ("HDEL h goes", ":0"),
            ("HPERSIST h FIELDS 1 goes", "[:-2]"),
            ("HEXPIRE h 100 FIELDS 1 goes", "[:-2]"),
            ("HGETEX h PERSIST FIELDS 1 goes", "[nil]"),
            ("HGETDEL h FIELDS 1 goes", "[nil]"),
            ("HSETEX h FXX FIELDS 1 goes 3", ":0"),
            ("HINCRBY h goes 4", ":4"),
            ("HTTL h FIELDS 1 goes", "[:-1]"),
            ("HLEN h", ":2"),
            ("HSETNX other goes 7", ":1"),
            ("HTTL other FIELDS 1 goes", "[:-1]"),
        ]);
    }
}

#[test]
fn what_sets_a_field_decides_about_its_deadline() {
    each_form(|client| {
        client.check(&[
            ("HSETEX h EX 100 FIELDS 3 a 1 b 2 c 3", ":1"),
            ("HINCRBY h a 1", ":2"),
            ("HINCRBYFLOAT h b 0.5", "\"2.5\""),
            ("HTTL h FIELDS 2 a b", "[:100 :100]"),
            ("HSETEX h KEEPTTL FIELDS 1 a 9", ":1"),
            ("HTTL h FIELDS 1 a", "[:100]"),
            ("HSETEX h FIELDS 1 a 9", ":1"),
            ("HSET h b 5", ":0"),
            ("HTTL h FIELDS 3 a b c", "[:-1 :-1 :100]"),
            ("HSETEX h FNX FIELDS 2 c 1 d 1", ":0"),
            ("HSETEX h FXX FIELDS 2 c 1 d 1", ":0"),
            ("HSETEX h FNX PX 90000 FIELDS 1 d 1", ":1"),
            ("HTTL h FIELDS 1 d", "[:90]"),
            ("HGETEX h FIELDS 2 c x", "[\"3\" nil]"),
            ("HGETEX h EX 50 FIELDS 2 c a", "[\"3\" \"9\"]"),
            ("HTTL h FIELDS 2 c a", "[:50 :50]"),
            ("HGETEX h PERSIST FIELDS 1 c", "[\"3\"]"),
            ("HTTL h FIELDS 1 c", "[:-1]"),
            ("HGETDEL h FIELDS 3 a a d", "[\"9\" nil \"1\"]"),
            ("HKEYS h", "[\"b\" \"c\"]"),
            ("HGETDEL h FIELDS 2 b c", "[\"5\" \"3\"]"),
            ("EXISTS h", ":0"),
        ]);
    });
}

#[test]
fn the_expiry_removes_fields_and_keys_and_counts_them() {
    each_form(|client| {
        client.check(&[
            ("HSETEX h PX 20 FIELDS 2 a 1 b 2", ":1"),
            ("HSETEX h PX 30 FIELDS 1 c 3", ":1"),
            ("HSETEX kept PX 20 FIELDS 1 a 1", ":1"),
            ("HSET kept z 1", ":1"),
        ]);
        wait_until("all fields are removed", Duration::from_secs(10), || {
            client.line("EXISTS h") == ":0" && client.line("HLEN kept") == ":1"
        });
        wait_until("they are counted", Duration::from_secs(5), || {
            client.line("INFO stats").contains("expired_subkeys:4")
        });
        client.check(&[("HGETALL kept", "[\"z\" \"1\"]"), ("DBSIZE", ":1")]);
    });
}

#[test]
fn deadlines_are_kept_by_copies_dumps_and_restarts() {
    for flags in [SMALL, BIG] {
        let mut server = Server::start(flags);
        let mut client = server.connect();
        client.check(&[
            (&format!("HSETEX h PXAT {FAR_MS} FIELDS 2 a 1 b 2"), ":1"),
            ("HSET h c 3", ":1"),
            ("COPY h copy", ":1"),
            ("RENAME h {elsewhere}", "OK"),
        ]);
        let Value::Bulk(dump) = client.ask(&["DUMP", "copy"]) else { panic!("a payload") };
        assert_eq!(client.ask(&[&b"RESTORE"[..], b"restored", b"0", &dump]).to_string(), "OK");
        let told = "[:4102444800000 :4102444800000 :-1]";
        let check = |client: &mut Client| {
            for name in ["copy", "{elsewhere}", "restored"] {
                assert_eq!(client.line(&format!("HPEXPIRETIME {name} FIELDS 3 a b c")), told, "{name}");
            }
        };
        check(&mut client);
        let digests = client.line("DEBUG DIGEST-VALUE copy restored");
        server.kill();
        server.start_again();
        let mut client = server.connect();
        check(&mut client);
        assert_eq!(client.line("DEBUG DIGEST-VALUE copy restored"), digests);
        let encoding = if flags.is_empty() { "\"listpackex\"" } else { "\"hashtable\"" };
        client.check(&[("OBJECT ENCODING copy", encoding), ("OBJECT ENCODING restored", encoding)]);
    }
}

#[test]
fn wrong_words_get_the_errors_of_redis() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let missing = "-ERR Mandatory argument FIELDS is missing or not at the right position";
    let mismatch = "-ERR The `numfields` parameter must match the number of arguments";
    let not_positive = "-ERR Number of fields must be a positive integer";
    let wrong_kind = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    let arity = "-ERR wrong number of arguments for 'hsetex' command";
    let one_of = "-ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified";
    client.check(&[
        ("SET s v", "OK"),
        ("HSET h f v", ":1"),
        ("HEXPIRE s abc FIELDS 1 f", wrong_kind),
        ("HEXPIRE h abc FIELDS 1 f", "-ERR value is not an integer or out of range"),
        ("HEXPIRE h -1 FIELDS 1 f", "-ERR invalid expire time, must be >= 0"),
        ("HEXPIRE h 9223372036854775807 FIELDS 1 f", "-ERR invalid expire time in 'hexpire' command"),
        ("HPEXPIREAT h 70368744177664 FIELDS 1 f", "-ERR invalid expire time in 'hpexpireat' command"),
        ("HPEXPIREAT h 70368744177663 FIELDS 1 f", "[:1]"),
        ("HEXPIRE h 10 FOO FIELDS 1 f", missing),
        ("HEXPIRE h 10 FIELDS 0 f", "-ERR Parameter `numFields` should be greater than 0"),
        ("HEXPIRE h 10 FIELDS 2 f", mismatch),
        ("HEXPIRE h 10 FIELDS 1", "-ERR wrong number of arguments for 'hexpire' command"),
        ("HEXPIRE none 10 FIELDS 2 a b", "[:-2 :-2]"),
        ("HTTL s FIELDS 1 f", wrong_kind),
        ("HTTL h FELDER 1 f", missing),
        ("HTTL h FIELDS x f", not_positive),
        ("HPERSIST h FIELDS 2 f", mismatch),
        ("HPERSIST none FIELDS 1 f", "[:-2]"),
        ("HGETDEL h FIELDS 0 f", not_positive),
        ("HGETDEL none FIELDS 1 f", "[nil]"),
        ("HGETEX h EX FIELDS 1 f", "-ERR value is not an integer or out of range"),
        ("HGETEX h KEEPTTL FIELDS 1 f", missing),
        ("HGETEX none FIELDS 1 f", "[nil]"),
        ("HSETEX h BOGUS FIELDS 1 f v", "-ERR unknown argument: BOGUS"),
        ("HSETEX h FNX FXX FIELDS 1 f v", "-ERR Only one of FXX or FNX arguments can be specified"),
        ("HSETEX h EX 10 KEEPTTL FIELDS 1 f v", one_of),
        ("HSETEX h EX -1 FIELDS 1 f v", "-ERR invalid expire time, must be >= 0"),
        ("HSETEX h FIELDS x f v", "-ERR invalid number of fields"),
        ("HSETEX h FIELDS 2 f v", arity),
        ("HSETEX h FNX KEEPTTL FNX EX", "-ERR Only one of FXX or FNX arguments can be specified"),
        ("HSETEX h FNX KEEPTTL f v", "-ERR unknown argument: f"),
    ]);
}
