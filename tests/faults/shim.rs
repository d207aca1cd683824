//! Faults of a server's calls on its files, switched on and off while it runs: a library that is loaded into it.
//!
//! It stands between the C library and what calls it: Rust's standard library and LMDB. Space reserved by fallocate and reads of
//! mapped pages are out of its reach.

use crate::support::Launch;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

pub const EIO: i32 = 5;
pub const EINTR: i32 = 4;
pub const ENOSPC: i32 = 28;
pub const EROFS: i32 = 30;
/// Half of the bytes are written.
pub const SHORT: i32 = -1;
/// How often a rule holds.
pub const FOR_EVER: i64 = -1;

/// One kind of call that goes wrong.
#[derive(Clone, Copy)]
pub struct Rule {
    /// `write`, `page` (a write of a page or more), `sync`, `open`, `rename` or `remove`.
    pub call: &'static str,
    /// The error, or [`SHORT`], or 0 for none.
    pub error: i32,
    /// For how many calls, or [`FOR_EVER`].
    pub times: i64,
    /// How long each waits.
    pub wait_ms: u64,
    /// A part of the file's path: `journal`, `data.mdb`, `-` for any.
    pub part: &'static str,
}

impl Rule {
    /// A call that fails.
    pub fn fails(call: &'static str, error: i32, times: i64, part: &'static str) -> Rule {
        Rule { call, error, times, wait_ms: 0, part }
    }

    /// A call that waits, then succeeds.
    pub fn waits(call: &'static str, wait_ms: u64, part: &'static str) -> Rule {
        Rule { call, error: 0, times: FOR_EVER, wait_ms, part }
    }
}

/// The faults of one server.
pub struct Faults {
    folder: TempDir,
    generation: AtomicU64,
}

impl Faults {
    /// None yet.
    pub fn none() -> Faults {
        let faults = Faults {
            folder: TempDir::new().expect("the system has room for a folder"),
            generation: AtomicU64::new(0),
        };
        faults.set(&[]);
        faults
    }

    /// A launch whose server has them, with its data in a folder of ours.
    pub fn launch(&self, flags: &[&str]) -> Launch {
        self.on(Launch::with(flags), &self.data())
    }

    /// A launch whose server has them, with its data in `data`.
    pub fn on(&self, launch: Launch, data: &Path) -> Launch {
        launch
            .data(data)
            .variable("LD_PRELOAD", &library().to_string_lossy())
            .variable("FAULTS_PATH", &data.to_string_lossy())
            .variable("FAULTS_RULES", &self.rules().to_string_lossy())
    }

    /// Where the data is, unless it is elsewhere.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn rules(&self) -> PathBuf {
        self.folder.path().join("rules")
    }

    /// From now on these, instead of those before.
    pub fn set(&self, rules: &[Rule]) {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed);
        let lines: String = rules
            .iter()
            .map(|rule| {
                let Rule { call, error, times, wait_ms, part } = rule;
                format!("{generation} {call} {error} {times} {wait_ms} {part}\n")
            })
            .collect();
        let next = self.folder.path().join("next");
        std::fs::write(&next, lines)
            .and_then(|()| std::fs::rename(&next, self.rules()))
            .expect("the folder is ours");
    }
}

/// The library, compiled once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/shim.c");
        let library =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{}.so", std::process::id()));
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]).arg(&library);
        let done = compiler.arg(&source).arg("-ldl").output().unwrap_or_else(|error| panic!("cc: {error}"));
        assert!(done.status.success(), "cc: {}", String::from_utf8_lossy(&done.stderr));
        library
    })
}
