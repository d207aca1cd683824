//! A slow disk slows down who waits for it, and nobody else.

use crate::shim::{Faults, Rule};
use crate::support::Server;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long GETs take while `body` runs, sorted.
fn reading_meanwhile(server: &Server, body: impl FnOnce()) -> Vec<Duration> {
    server.connect().check(&[("SET read 1", "OK")]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // On some connections, so that there are some on each thread of the server.
        let readers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let (mut client, mut times) = (server.connect(), Vec::new());
                    while !stop.load(Ordering::Relaxed) {
                        let begun = Instant::now();
                        client.check(&[("GET read", "\"1\"")]);
                        times.push(begun.elapsed());
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    times
                })
            })
            .collect();
        body();
        stop.store(true, Ordering::Relaxed);
        let mut times: Vec<_> =
            readers.into_iter().flat_map(|reader| reader.join().expect("it reads")).collect();
        times.sort_unstable();
        times
    })
}

/// `writers` connections write `count` times each. Returns how long each write took, sorted.
fn write(server: &Server, writers: usize, count: usize) -> Vec<Duration> {
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..writers)
            .map(|writer| {
                scope.spawn(move || {
                    let (mut client, mut times) = (server.connect(), Vec::new());
                    for number in 0..count {
                        let begun = Instant::now();
                        client.expect(&["SET", &format!("key:{writer}:{number}"), "value"], "OK");
                        times.push(begun.elapsed());
                    }
                    times
                })
            })
            .collect();
        let mut times: Vec<_> =
            writers.into_iter().flat_map(|writer| writer.join().expect("it writes")).collect();
        times.sort_unstable();
        times
    })
}

fn report(name: &str, times: &[Duration]) {
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    eprintln!(
        "{name}: {} took {:?} (median), {:?} (90 %), {:?} at most",
        times.len(),
        at(50),
        at(90),
        at(100)
    );
}

#[test]
fn with_appendfsync_always_writers_share_slow_syncs_and_readers_do_not_wait() {
    let faults = Faults::none();
    let server = Server::launch(faults.launch(&["--appendfsync", "always"]));
    faults.set(&[Rule::waits("sync", 300, "journal")]);
    let begun = Instant::now();
    let mut writes = Vec::new();
    let reads = reading_meanwhile(&server, || writes = write(&server, 20, 5));
    report("always, syncs of 300 ms: writes", &writes);
    report("always, syncs of 300 ms: reads meanwhile", &reads);
    assert!(writes[0] >= Duration::from_millis(290), "each waits for a sync");
    assert!(begun.elapsed() < Duration::from_millis(300 * 100 / 2), "100 writes share syncs");
    assert!(reads[reads.len() * 9 / 10] < Duration::from_millis(100), "reads wait for no sync");
}

#[test]
fn with_appendfsync_everysec_a_slow_sync_delays_nobody() {
    let faults = Faults::none();
    let server = Server::launch(faults.launch(&["--appendfsync", "everysec"]));
    faults.set(&[Rule::waits("sync", 300, "journal")]);
    let mut writes = Vec::new();
    let reads = reading_meanwhile(&server, || {
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            writes.extend(write(&server, 4, 20));
        }
    });
    writes.sort_unstable();
    report("everysec, syncs of 300 ms: writes", &writes);
    report("everysec, syncs of 300 ms: reads meanwhile", &reads);
    assert!(writes[writes.len() * 9 / 10] < Duration::from_millis(100), "nobody waits for a sync");
    assert!(reads[reads.len() * 9 / 10] < Duration::from_millis(100));
}

#[test]
fn with_appendfsync_everysec_writers_wait_when_two_seconds_could_be_lost() {
    let faults = Faults::none();
    let server = Server::launch(faults.launch(&["--appendfsync", "everysec"]));
    faults.set(&[Rule::waits("sync", 5_000, "journal")]);
    let mut writes = Vec::new();
    let begun = Instant::now();
    let reads = reading_meanwhile(&server, || {
        // Ends when every writer has been held up once.
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..6)
                .map(|writer| {
                    let server = &server;
                    scope.spawn(move || {
                        let (mut client, mut times) = (server.connect(), Vec::new());
                        while times.last().is_none_or(|time| *time < Duration::from_millis(500)) {
                            assert!(begun.elapsed() < Duration::from_secs(30), "writers were never held up");
                            let begun = Instant::now();
                            client.expect(&["SET", &format!("key:{writer}"), "value"], "OK");
                            times.push(begun.elapsed());
                        }
                        times
                    })
                })
                .collect();
            writes = writers.into_iter().flat_map(|writer| writer.join().expect("it writes")).collect();
        });
    });
    writes.sort_unstable();
    report("everysec, syncs of 5 s: writes", &writes);
    report("everysec, syncs of 5 s: reads meanwhile", &reads);
    assert!(*writes.last().expect("some") < Duration::from_secs(20));
    assert!(reads[reads.len() * 9 / 10] < Duration::from_millis(100), "readers are not held up");
}

#[test]
fn a_slow_checkpoint_delays_nobody() {
    let faults = Faults::none();
    let flags = ["--checkpoint-age", "1", "--checkpoint-journal-size", "100kb"];
    let server = Server::launch(faults.launch(&flags));
    faults.set(&[Rule::waits("sync", 1_000, "partitions")]);
    let mut writes = Vec::new();
    let reads = reading_meanwhile(&server, || {
        let end = Instant::now() + Duration::from_secs(4);
        while Instant::now() < end {
            writes.extend(write(&server, 4, 100));
        }
    });
    writes.sort_unstable();
    report("checkpoints of seconds: writes", &writes);
    report("checkpoints of seconds: reads meanwhile", &reads);
    assert!(writes[writes.len() * 9 / 10] < Duration::from_millis(100));
    assert!(reads[reads.len() * 9 / 10] < Duration::from_millis(100));
}
