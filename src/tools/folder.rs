//! The data folder, where no server uses it; and how those who wait for work on it are told how far it is.

use crate::config::Parameters;
use crate::interop::place::Limits;
use crate::session::apply::{store_options, value_limits};
use crate::store::{Background, Options, Store};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of clean rows that are kept in memory: elements that follow one another come to the same rows.
const ROW_CACHE_BYTES_MAX: u64 = 64 << 20;

/// The data folder, and how it is opened.
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// Partitions of a new one.
    pub partitions: u16,
    /// Databases at least.
    pub databases: u16,
    /// How its store works.
    pub options: Options,
    /// How large small values may be.
    pub limits: Limits,
    /// The parameters that say all this.
    pub parameters: Parameters,
}

impl Folder {
    /// The folder that a server with these parameters uses.
    pub fn of(parameters: &Parameters) -> Folder {
        let settings = parameters.settings();
        Folder {
            path: settings.dir.clone(),
            partitions: settings.partitions,
            databases: u16::try_from(settings.databases).unwrap_or(u16::MAX),
            options: store_options(&settings),
            limits: value_limits(&settings),
            parameters: parameters.clone(),
        }
    }

    /// Opens it, with so many databases at least. What is written or read once need not stay in memory.
    pub(super) fn open(&self, databases: u16) -> Result<(Arc<Store>, Background), String> {
        let row_cache_bytes = self.options.row_cache_bytes.min(ROW_CACHE_BYTES_MAX);
        let options = Options { row_cache_bytes, ..self.options.clone() };
        let store = Store::open(&self.path, self.partitions, databases, options);
        let store = Arc::new(store.map_err(|error| error.to_string())?);
        let background = Background::start(&store).map_err(|error| error.to_string())?;
        Ok((store, background))
    }
}

/// A bar for whoever looks: none if nobody does.
pub(super) fn bar(len: u64, what: &str) -> ProgressBar {
    let template = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    let bar =
        ProgressBar::with_draw_target(Some(len), ProgressDrawTarget::stderr_with_hz(4)).with_style(style);
    bar.set_message(what.to_owned());
    bar
}

/// How often the log is told how far it is.
const LOG_GAP: Duration = Duration::from_secs(10);
/// Steps between two looks at the clock.
const CLOCK_STEPS: u32 = 1024;

/// How far work on files is: on a bar, and in the log.
pub(super) struct Progress {
    bar: ProgressBar,
    what: &'static str,
    len: u64,
    /// Bytes of files that are done.
    before: u64,
    steps: u32,
    logged: Instant,
}

impl Progress {
    /// Over so many bytes in all.
    pub fn over(len: u64, what: &'static str) -> Progress {
        Progress { bar: bar(len, what), what, len, before: 0, steps: 0, logged: Instant::now() }
    }

    /// So much of the present file is done.
    pub fn at(&mut self, offset: u64) {
        let done = self.before + offset;
        self.bar.set_position(done);
        self.steps = (self.steps + 1) % CLOCK_STEPS;
        if self.steps == 0 && self.logged.elapsed() >= LOG_GAP {
            self.logged = Instant::now();
            let percent = done.saturating_mul(100) / self.len.max(1);
            tracing::info!("{}: {percent} % of {} MB", self.what.trim_end(), self.len >> 20);
        }
    }

    /// The present file of so many bytes is done.
    pub fn file_done(&mut self, len: u64) {
        self.before += len;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
