//! `Imported`: what was last imported into the data folder, kept there as a small file, so that INFO tells of it after any start.
//!
//! Lines of a name and a value, of which those are read that are known. It is for people: nothing depends on it.

use std::fmt::Write as _;
use std::path::Path;

/// The file.
const NAME: &str = "import.finished";
/// Bytes of it that are read.
const BYTES_MAX: usize = 64 * 1024;

/// What was last imported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// The file, or the manifest of several.
    pub file: String,
    /// When that was done, milliseconds since 1970.
    pub at_ms: i64,
    /// Keys that were loaded.
    pub keys: u64,
    /// Keys that had expired.
    pub expired: u64,
    /// Keys and commands that were left out, as there is no type for them.
    pub left_out: u64,
    /// Bytes at the end of the log that were no whole command or transaction.
    pub cut_bytes: u64,
}

impl Imported {
    /// As the data folder has it.
    pub fn read(folder: &Path) -> Option<Imported> {
        let text = std::fs::read_to_string(folder.join(NAME)).ok()?;
        let mut imported = Imported::default();
        for line in text.get(..text.len().min(BYTES_MAX))?.lines() {
            let (name, value) = line.split_once(' ')?;
            let number = || value.parse().unwrap_or_default();
            match name {
                "file" => value.clone_into(&mut imported.file),
                "at_ms" => imported.at_ms = value.parse().unwrap_or_default(),
                "keys" => imported.keys = number(),
                "expired" => imported.expired = number(),
                "left_out" => imported.left_out = number(),
                "cut_bytes" => imported.cut_bytes = number(),
                _ => {}
            }
        }
        Some(imported)
    }

    /// Notes it in the data folder.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, folder: &Path) -> std::io::Result<()> {
        let mut text = String::new();
        let file = self.file.replace(['\r', '\n'], " ");
        let _ =
            writeln!(text, "file {file}\nat_ms {}\nkeys {}\nexpired {}", self.at_ms, self.keys, self.expired);
        let _ = writeln!(text, "left_out {}\ncut_bytes {}", self.left_out, self.cut_bytes);
        std::fs::write(folder.join(NAME), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(Imported::read(folder.path()), None);
        let imported = Imported {
            file: "/data/appendonlydir/a b.manifest".into(),
            at_ms: 1_700_000_000_000,
            keys: 12,
            expired: 3,
            left_out: 4,
            cut_bytes: 5,
        };
        imported.write(folder.path()).expect("writes");
        assert_eq!(Imported::read(folder.path()), Some(imported));
    }
}
