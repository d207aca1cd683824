//! What is in the files of an import: looked at as a whole before anything is imported.

use super::files::{Head, Source, Visitor, read};
use super::replay::{self, Meaning};
use crate::interop::rdb_file::Item;
use crate::protocol::args::Args;
use crate::tools::folder::Progress;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Names of unknown commands that are kept apart.
const NAMES_MAX: usize = 50;
/// Bytes of such a name that are shown.
const NAME_MAX: usize = 40;

/// What is in the files.
#[derive(Default)]
pub struct Found {
    /// Keys of rdb files by type.
    pub keys: BTreeMap<&'static str, u64>,
    /// Those whose deadline is over.
    pub overdue: u64,
    /// Those of types that are not here.
    pub unknown: BTreeMap<&'static str, u64>,
    /// Those that are not here.
    pub unknown_commands: BTreeMap<String, u64>,
    /// Libraries of functions, and commands about them.
    pub functions: u64,
    /// Modules' own data.
    pub module_data: u64,
    /// How many databases there must be.
    pub databases: u64,
    /// Whether there is a log.
    pub has_log: bool,
    /// Version of the rdb format, and who wrote it.
    pub version: Option<u32>,
    /// Who wrote it.
    pub writer: String,
    /// Up to where each of the files is to be read.
    pub lens: Vec<u64>,
    /// What the last file has at its end that is not to be read.
    pub cut: Option<Cut>,
}

/// A log that ends inside a command or a transaction.
pub struct Cut {
    /// The file.
    pub file: PathBuf,
    /// What it is, in words.
    pub what: &'static str,
    /// Where it begins.
    pub at: u64,
    /// Bytes from there to the end.
    pub bytes: u64,
}

impl Found {
    /// Keys of rdb files that can be kept.
    pub fn key_count(&self) -> u64 {
        self.keys.values().sum()
    }

    /// Keys and commands that cannot.
    pub fn unknown_count(&self) -> u64 {
        self.unknown.values().sum::<u64>() + self.unknown_commands.values().sum::<u64>()
    }

    /// What there is no type for, in words.
    pub fn unknown_in_words(&self) -> String {
        let commands = self.unknown_commands.iter();
        let commands = commands.map(|(name, count)| counted(&format!("{name} command"), *count));
        let keys = self.unknown.iter().map(|(kind, count)| counted(kind, *count));
        keys.chain(commands).collect::<Vec<_>>().join(", ")
    }
}

/// So many of something.
pub fn counted(kind: &str, count: u64) -> String {
    let plural = match kind {
        _ if count == 1 => "",
        _ if kind.ends_with('h') => "es",
        _ => "s",
    };
    format!("{count} {kind}{plural}")
}

/// Reads all files of a source to see that all of it can be read. A log may be cut at the end of the last file, if `cut_is_allowed`.
///
/// # Errors
/// What is wrong, with file and place.
pub fn look(source: &Source, now: i64, cut_is_allowed: bool) -> Result<Found, String> {
    let lens = source.lens()?;
    let mut progress = Progress::over(lens.iter().sum(), "checking ");
    let mut look = Look { found: Found::default(), now, open_since: None };
    for (index, (path, &len)) in source.files.iter().zip(&lens).enumerate() {
        look.open_since = None;
        let end = read(path, len, &mut progress, &mut look)?;
        let cut = match (look.open_since, end) {
            (Some(at), _) => Some((at, "a transaction without its EXEC")),
            (None, Some(at)) => Some((at, "a command that is not whole")),
            (None, None) => None,
        };
        look.found.lens.push(cut.map_or(len, |(at, _)| at));
        let Some((at, what)) = cut else { continue };
        let failed =
            |why: &str| Err(format!("{}: it ends with {what}, from byte {at} on{why}", path.display()));
        if index + 1 < source.files.len() {
            return failed(", and there are files that come after it");
        }
        if !cut_is_allowed {
            return failed(", and aof-load-truncated is no");
        }
        look.found.cut = Some(Cut { file: path.clone(), what, at, bytes: len - at });
    }
    Ok(look.found)
}

struct Look {
    found: Found,
    now: i64,
    /// Where the transaction began that is open.
    open_since: Option<u64>,
}

impl Visitor for Look {
    fn item(&mut self, item: Item, head: Head) -> Result<(), String> {
        let found = &mut self.found;
        found.version = Some(head.version);
        match item {
            Item::Aux(name, text) if name.ends_with(b"-ver") => {
                found.writer = String::from_utf8_lossy(&text).into_owned();
            }
            Item::Aux(..) | Item::Sizes(_) => {}
            Item::Functions => found.functions += 1,
            Item::ModuleData => found.module_data += 1,
            Item::Key(key) => {
                found.databases = found.databases.max(key.database.saturating_add(1));
                match &key.value {
                    Err(kind) => *found.unknown.entry(kind).or_default() += 1,
                    Ok(_) if key.expire_at.is_some_and(|at| at < self.now) => found.overdue += 1,
                    Ok(value) => *found.keys.entry(value.type_name()).or_default() += 1,
                }
            }
        }
        Ok(())
    }

    fn command(&mut self, at: u64, words: Args) -> Result<(), String> {
        self.found.has_log = true;
        match replay::meaning(words)? {
            Meaning::Begin => {
                self.open_since.get_or_insert(at);
            }
            Meaning::End => self.open_since = None,
            Meaning::Change(_) | Meaning::Select(_) => {
                self.found.databases = self.found.databases.max(replay::databases(words));
            }
            Meaning::Library => self.found.functions += 1,
            Meaning::Nothing => {}
            Meaning::Unknown => self.unknown(words.at(0)),
        }
        Ok(())
    }
}

impl Look {
    fn unknown(&mut self, name: &[u8]) {
        let name = name[..name.len().min(NAME_MAX)].escape_ascii().to_string().to_ascii_uppercase();
        let counts = &mut self.found.unknown_commands;
        let is_kept_apart = counts.contains_key(&name) || counts.len() < NAMES_MAX;
        *counts.entry(if is_kept_apart { name } else { "other".to_owned() }).or_default() += 1;
    }
}
