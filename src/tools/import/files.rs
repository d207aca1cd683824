//! Which files hold what is to be imported, and how they are read: each may begin with an rdb file and go on with a log.

use crate::interop::append_only::{LogReader, Next};
use crate::interop::manifest::{self, Manifest};
use crate::interop::rdb_file::{FileReader, Item};
use crate::protocol::args::Args;
use crate::tools::folder::Progress;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Files that are read one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What they are called together: the only one, or their manifest.
    pub name: PathBuf,
    /// The files, in order.
    pub files: Vec<PathBuf>,
}

impl Source {
    /// What a path means: a file, a manifest, or a folder with a manifest.
    ///
    /// # Errors
    /// In words, if it means nothing.
    pub fn of(path: &Path) -> Result<Source, String> {
        if path.is_dir() {
            return Source::of_manifest(&only_manifest(path)?);
        }
        if path.extension().is_some_and(|extension| extension == "manifest") {
            return Source::of_manifest(path);
        }
        Ok(Source { name: path.to_owned(), files: vec![path.to_owned()] })
    }

    fn of_manifest(path: &Path) -> Result<Source, String> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let mut text = Vec::new();
        let file = File::open(path).map_err(|error| failed(&error))?;
        let read = file.take(manifest::BYTES_MAX as u64 + 1).read_to_end(&mut text);
        read.map_err(|error| failed(&error))?;
        if text.len() > manifest::BYTES_MAX {
            return Err(failed(&"this is no manifest of a log"));
        }
        let manifest = Manifest::read(&text).map_err(|error| failed(&error))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let files: Vec<_> = manifest.files().map(|name| folder.join(OsStr::from_bytes(name))).collect();
        if files.is_empty() {
            return Err(failed(&"it names no files"));
        }
        Ok(Source { name: path.to_owned(), files })
    }

    /// When the last of the files was written; none if one is not there.
    pub fn written_at(&self) -> Option<SystemTime> {
        let times = self.files.iter().map(|path| path.metadata().and_then(|found| found.modified()).ok());
        times.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// Lengths of the files in bytes.
    ///
    /// # Errors
    /// In words, if one is not there.
    pub fn lens(&self) -> Result<Vec<u64>, String> {
        let len = |path: &PathBuf| {
            let found = path.metadata().map_err(|error| format!("{}: {error}", path.display()))?;
            if found.is_file() { Ok(found.len()) } else { Err(format!("{}: it is no file", path.display())) }
        };
        self.files.iter().map(len).collect()
    }
}

fn only_manifest(folder: &Path) -> Result<PathBuf, String> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut manifests: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|found| found == "manifest")).collect();
    match (manifests.pop(), manifests.is_empty()) {
        (Some(manifest), true) => Ok(manifest),
        (None, _) => Err(format!(
            "{} holds no manifest (*.manifest), which says which files make up the data",
            folder.display()
        )),
        (Some(_), false) => {
            Err(format!("{} holds several manifests: name the one that is meant", folder.display()))
        }
    }
}

/// Who is shown what stands in files.
pub trait Visitor {
    /// An item of an rdb file.
    fn item(&mut self, item: Item, head: Head) -> Result<(), String>;
    /// A command of a log that begins at this byte.
    fn command(&mut self, at: u64, words: Args) -> Result<(), String>;
}

/// What is known of an rdb file.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// The version of its format.
    pub version: u32,
}

/// Shows `len` bytes of a file to `visitor`. Returns where it is cut, if it is.
///
/// # Errors
/// What is wrong with it, or what `visitor` says, in words.
pub fn read(
    path: &Path,
    len: u64,
    progress: &mut Progress,
    visitor: &mut dyn Visitor,
) -> Result<Option<u64>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let mut file = File::open(path).map_err(|error| failed(&error))?;
    let mut log = if begins_as_log(&mut file, path).map_err(|error| failed(&error))? {
        LogReader::new(file, Vec::new(), 0, len)
    } else {
        let mut reader = FileReader::new(file, len).map_err(|error| failed(&error))?;
        let head = Head { version: reader.version() };
        while let Some(item) = reader.next_item().map_err(|error| failed(&error))? {
            progress.at(reader.offset());
            visitor.item(item, head).map_err(|error| failed(&error))?;
        }
        let (file, unread, begin, beyond) = reader.into_rest();
        LogReader::new(file, unread, begin, beyond)
    };
    let cut = loop {
        match log.next_command().map_err(|error| failed(&error))? {
            Next::Command(at) => {
                progress.at(log.offset());
                visitor.command(at, log.words()).map_err(|error| failed(&format!("{error} at byte {at}")))?;
            }
            Next::End => break None,
            Next::Cut(at) => break Some(at),
        }
    };
    if let Some(at) = cut
        && let Some(head) = log.next_head().map_err(|error| failed(&error))?
    {
        return Err(failed(&format!(
            "the command at byte {at} is damaged: it has no end, and another one begins at byte {head}"
        )));
    }
    progress.file_done(len);
    Ok(cut)
}

/// Whether a file is a log from its first byte on. An empty one is, if its name says so.
fn begins_as_log(file: &mut File, path: &Path) -> std::io::Result<bool> {
    let mut first = [0];
    let len = file.read(&mut first)?;
    file.rewind()?;
    if len == 0 {
        return Ok(path.extension().is_some_and(|extension| extension == "aof"));
    }
    Ok(matches!(first[0], b'*' | b'#'))
}
