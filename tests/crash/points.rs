//! The process dies at every point that [`larder::base::crash_point`] names, at one of the times it passes it.

use crate::support::{Chance, Client, Launch, Server};
use crate::times;
use crate::writers::{Writer, verify_all};
use larder::base::crash_point;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const WRITERS: u64 = 3;
const MODES: [&str; 3] = ["always", "everysec", "no"];
/// How long a point may take to be reached under load.
const REACHED_WITHIN: Duration = Duration::from_mins(1);

/// Kills of all tests here.
pub const KILLS: usize = crash_point::ALL.len() * MODES.len();

#[test]
fn nothing_is_lost_wherever_the_process_dies_with_appendfsync_always() {
    die_everywhere("always");
}

#[test]
fn nothing_is_lost_wherever_the_process_dies_with_appendfsync_everysec() {
    die_everywhere("everysec");
}

#[test]
fn nothing_is_lost_wherever_the_process_dies_with_appendfsync_no() {
    die_everywhere("no");
}

/// How a point is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By the first start of all.
    FirstStart,
    /// By any start.
    Start,
    /// By a start that finds a torn record.
    TornStart,
    /// Under load, and passed so many times before at most.
    Load(u64),
    /// By CONFIG REWRITE.
    Rewrite,
    /// By an ordered stop.
    Stop,
}

fn way(point: &str) -> Way {
    match point.split_once('-').expect("names have two words at least") {
        ("manifest" | "partitions", _) | ("journal", "after-make") => Way::FirstStart,
        ("recovery", "before-cut" | "after-cut") => Way::TornStart,
        ("recovery", _) => Way::Start,
        ("config", _) => Way::Rewrite,
        ("stop", _) => Way::Stop,
        ("segment", _) => Way::Load(1),
        ("checkpoint" | "garbage", _) => Way::Load(12),
        ("journal", "before-sync" | "after-sync" | "before-mark") => Way::Load(3),
        _ => Way::Load(200),
    }
}

fn setting(point: &str, passed: u64) -> String {
    format!("{point}={passed}*off->return")
}

/// A process that died at a point was ended by `abort`.
fn assert_died(status: ExitStatus, point: &str) {
    const SIGABRT: i32 = 6;
    assert_eq!(status.signal(), Some(SIGABRT), "{point}: {status}");
}

fn die_everywhere(mode: &'static str) {
    let mut chance = Chance::seeded(mode);
    let mut scene = Scene::new(mode, &mut chance);
    for round in 0..times() {
        for point in crash_point::ALL {
            let way = way(point);
            let begun = Instant::now();
            let passed = match way {
                Way::FirstStart => die_in_first_start(mode, point),
                Way::Start | Way::TornStart => scene.die_in_start(point, way == Way::TornStart),
                Way::Load(most) => scene.die_under_load(point, chance.below(most + 1)),
                Way::Rewrite => scene.die_in_rewrite(point),
                Way::Stop => scene.die_in_stop(point),
            };
            eprintln!("{mode}, round {round}: {point} after {passed} passes, {:?}", begun.elapsed());
        }
    }
    assert!(scene.server.terminate().success(), "an ordered stop ends well");
    scene.server.start_again();
    verify_all(&scene.server, &mut scene.writers);
}

/// Holds writers up for a moment, if the server is still there.
fn pause_writes(port: u16) {
    let paused =
        Client::try_connect(port).and_then(|mut client| client.try_ask(&["CLIENT", "PAUSE", "100", "WRITE"]));
    if let Ok(answer) = paused {
        assert_eq!(answer.to_string(), "OK");
    }
}

/// A store that is never finished is made by the next start.
fn die_in_first_start(mode: &str, point: &str) -> u64 {
    let folder = tempfile::tempdir().expect("the system has room for a folder");
    let launch = Launch::with(&["--appendfsync", mode]).data(folder.path());
    let died = Server::try_launch(launch.clone().variable("FAILPOINTS", &setting(point, 0)));
    let why = died.err().unwrap_or_else(|| panic!("{point} was not reached"));
    assert!(why.contains("SIGABRT"), "{point}: {why}");
    let server = Server::launch(launch);
    server.connect().check(&[("DBSIZE", ":0"), ("SET key value", "OK"), ("GET key", "\"value\"")]);
    0
}

/// A server, and writers that know what is in it.
struct Scene {
    server: Server,
    writers: Vec<Writer>,
    data: PathBuf,
    /// Removed with the test.
    _folder: tempfile::TempDir,
}

impl Scene {
    fn new(mode: &str, chance: &mut Chance) -> Scene {
        let folder = tempfile::tempdir().expect("the system has room for a folder");
        let data = folder.path().join("data");
        let file = folder.path().join("larder.conf");
        std::fs::write(&file, format!("appendfsync {mode}\n")).expect("the folder is ours");
        let file = file.to_string_lossy().into_owned();
        // So that all is done all the time.
        let flags =
            [&file, "--checkpoint-journal-size", "1mb", "--checkpoint-age", "1", "--runtime-threads", "2"];
        let server = Server::launch(Launch::with(&flags).data(&data));
        Scene { server, writers: Writer::several(WRITERS, chance), data, _folder: folder }
    }

    /// The next start, and what it must find.
    fn start_and_verify(&mut self) {
        self.server.start_again();
        verify_all(&self.server, &mut self.writers);
    }

    /// Lets the writers write until `end` has ended the server.
    fn write_until(&mut self, end: impl FnOnce(&mut Server)) {
        let port = self.server.port;
        std::thread::scope(|scope| {
            for writer in &mut self.writers {
                scope.spawn(move || writer.run(port));
            }
            end(&mut self.server);
        });
    }

    fn die_in_start(&mut self, point: &str, torn: bool) -> u64 {
        self.write_until(|server| {
            std::thread::sleep(Duration::from_millis(30));
            server.kill();
        });
        if torn {
            self.tear_journal();
        }
        let passed = if point == "recovery-before-record" { 20 } else { 0 };
        let status = self.server.start_to_end(("FAILPOINTS", &setting(point, passed)));
        assert_died(status, point);
        self.start_and_verify();
        passed
    }

    /// Adds the beginning of a record to the journal.
    fn tear_journal(&self) {
        let entries = std::fs::read_dir(self.data.join("journal")).expect("a journal");
        let last = entries.map(|entry| entry.expect("a segment").path()).max().expect("a segment");
        let mut file = OpenOptions::new().append(true).open(last).expect("the file is ours");
        file.write_all(&[200, 0, 0, 0, 1, 2, 3, 4, 1, 0]).expect("the file is ours");
    }

    fn die_under_load(&mut self, point: &str, passed: u64) -> u64 {
        assert!(self.server.terminate().success(), "an ordered stop ends well");
        let is_ready = self.server.start_again_with(("FAILPOINTS", &setting(point, passed)));
        let port = self.server.port;
        self.write_until(|server| {
            let begun = Instant::now();
            while is_ready && server.is_running() {
                if begun.elapsed() > REACHED_WITHIN {
                    server.kill();
                    panic!("{point} was not reached {passed} times under load");
                }
                std::thread::sleep(Duration::from_millis(2));
                // A segment that is not full ends when everything is in the trees, which is not so while there are writes.
                if point.starts_with("segment") && begun.elapsed().as_millis() % 2_500 > 500 {
                    pause_writes(port);
                }
            }
        });
        assert_died(self.server.wait_end(), point);
        self.start_and_verify();
        passed
    }

    fn die_in_rewrite(&mut self, point: &str) -> u64 {
        assert!(self.server.terminate().success(), "an ordered stop ends well");
        assert!(
            self.server.start_again_with(("FAILPOINTS", &setting(point, 0))),
            "{point} is not for a start"
        );
        let is_over = AtomicBool::new(false);
        self.write_until(|server| {
            std::thread::sleep(Duration::from_millis(30));
            let answer = Client::try_connect(server.port)
                .and_then(|mut client| client.try_ask(&["CONFIG", "REWRITE"]));
            assert!(answer.is_err(), "{point} was not reached: {answer:?}");
            assert_died(server.wait_end(), point);
            is_over.store(true, Ordering::Release);
        });
        assert!(is_over.into_inner());
        self.start_and_verify(); // with the file as it was, or as it was to be
        0
    }

    fn die_in_stop(&mut self, point: &str) -> u64 {
        assert!(self.server.terminate().success(), "an ordered stop ends well");
        assert!(
            self.server.start_again_with(("FAILPOINTS", &setting(point, 0))),
            "{point} is not for a start"
        );
        self.write_until(|server| {
            std::thread::sleep(Duration::from_millis(30));
            assert_died(server.terminate(), point);
        });
        self.start_and_verify();
        0
    }
}
