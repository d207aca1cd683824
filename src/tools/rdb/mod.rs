//! `larder import` and `larder export rdb`: between a data folder that no server uses and an rdb file.

mod adopt;
mod export;
mod import;

pub use adopt::adopt;
pub use export::export;
pub use import::import;

use crate::interop::place::Limits;
use crate::store::{Background, Options, Store};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::path::PathBuf;
use std::sync::Arc;

/// How they are called.
pub const USAGE: &str = "\
usage: larder import FILE [--merge] [--skip-unknown] [CONFIGURATION] [--DIRECTIVE VALUE...]
       larder export rdb FILE [--rdb-version N] [CONFIGURATION] [--DIRECTIVE VALUE...]

  import          read FILE, an rdb file of Redis or Valkey, into the data folder, which no server may use meanwhile
  --merge         also if the data folder holds keys; those of the file replace those of the same name
  --skip-unknown  leave out values of types that Larder does not have
  export rdb      write all keys of the data folder, which no server may use meanwhile, to the new file FILE
  --rdb-version N the version of the format: 9 for Redis 5 and 6, 10 (the default) for 7.0, 12 for 7.4 and later

The data folder is that of --dir or the configuration, as for the server: ./data by default.
";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// To say how it is called.
    Help,
    /// To read a file into the data folder.
    Import(ImportRequest),
    /// To write a file.
    Export(ExportRequest),
}

/// How to read a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ImportRequest {
    /// The file.
    pub file: PathBuf,
    /// Into a folder with keys, too.
    pub merge: bool,
    /// Without what there is no type for.
    pub skip_unknown: bool,
}

/// How to write a file.
#[derive(Debug, PartialEq, Eq)]
pub struct ExportRequest {
    /// The file.
    pub file: PathBuf,
    /// The version of the format.
    pub version: u32,
}

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
}

impl Folder {
    fn open(&self, databases: u16) -> Result<(Arc<Store>, Background), String> {
        let store = Store::open(&self.path, self.partitions, databases, self.options.clone());
        let store = Arc::new(store.map_err(|error| error.to_string())?);
        let background = Background::start(&store).map_err(|error| error.to_string())?;
        Ok((store, background))
    }
}

/// A bar for whoever looks: none if nobody does.
fn bar(len: u64, what: &str) -> ProgressBar {
    let template = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    let bar =
        ProgressBar::with_draw_target(Some(len), ProgressDrawTarget::stderr_with_hz(4)).with_style(style);
    bar.set_message(what.to_owned());
    bar
}
