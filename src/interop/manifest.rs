//! The manifest of a log that is kept in several files: which they are, in which order (`appendonlydir/*.manifest`, since Redis 7.0).
//!
//! ```text
//! # a comment
//! file appendonly.aof.1.base.rdb seq 1 type b        the data when the log began; at most one
//! file appendonly.aof.1.incr.aof seq 1 type i        what came after it, in the order of the numbers
//! file appendonly.aof.0.incr.aof seq 0 type h        history: not needed any more
//! ```
//!
//! Words are quoted as in a request that is typed. Newer servers may put further pairs of words behind these.

use crate::base::number::parse_i64;
use crate::protocol::parser::split_words;

/// Bytes of a line.
const LINE_MAX: usize = 1024;
/// Bytes of a manifest that is read at all.
pub const BYTES_MAX: usize = 1 << 20;

/// The files of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The data when the log began: an rdb file, or a log.
    pub base: Option<Vec<u8>>,
    /// What came after it, in order.
    pub increments: Vec<Vec<u8>>,
}

/// What is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// The line, from one on.
    pub line: usize,
    /// Why, in words.
    pub reason: &'static str,
}

impl std::fmt::Display for ManifestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in line {}", self.reason, self.line)
    }
}

impl std::error::Error for ManifestError {}

impl Manifest {
    /// Reads the text of a manifest.
    ///
    /// # Errors
    /// The first line that makes no sense.
    pub fn read(text: &[u8]) -> Result<Manifest, ManifestError> {
        let mut manifest = Manifest::default();
        let mut last_number = 0;
        let lines = text.split_inclusive(|&byte| byte == b'\n');
        for (index, line) in lines.enumerate() {
            let failed = |reason| ManifestError { line: index + 1, reason };
            if line.len() > LINE_MAX {
                return Err(failed("too many bytes"));
            }
            let line = line.strip_suffix(b"\n").ok_or(failed("no line end"))?;
            if line.first() == Some(&b'#') {
                continue;
            }
            let File { name, number, kind } = file(line).map_err(failed)?;
            match kind {
                b'b' if manifest.base.is_some() => return Err(failed("a second base file")),
                b'b' => manifest.base = Some(name),
                b'i' if number <= last_number => return Err(failed("a number that does not grow")),
                b'i' => {
                    last_number = number;
                    manifest.increments.push(name);
                }
                _ => {}
            }
        }
        Ok(manifest)
    }

    /// All files that make up the data, in the order in which they are read.
    pub fn files(&self) -> impl Iterator<Item = &[u8]> {
        self.base.iter().chain(&self.increments).map(Vec::as_slice)
    }
}

struct File {
    name: Vec<u8>,
    number: i64,
    kind: u8,
}

fn file(line: &[u8]) -> Result<File, &'static str> {
    let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
    split_words(line, &mut bytes, &mut ranges).ok_or("a quote that is not closed")?;
    let words: Vec<&[u8]> = ranges.iter().map(|&(start, end)| &bytes[start as usize..end as usize]).collect();
    let (mut name, mut number, mut kind) = (None, None, None);
    for pair in words.chunks(2) {
        let [key, value] = *pair else { return Err("a word without its value") };
        match &key.to_ascii_lowercase()[..] {
            b"file" => name = Some(value),
            b"seq" => number = parse_i64(value),
            b"type" => kind = value.first().filter(|_| value.len() == 1).copied(),
            _ => {}
        }
    }
    let (Some(name), Some(number), Some(kind @ (b'b' | b'h' | b'i'))) = (name, number, kind) else {
        return Err("no file with its number and its type");
    };
    if name.is_empty() || matches!(name, b"." | b"..") || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Err("a path where the name of a file should be");
    }
    Ok(File { name: name.to_vec(), number, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        let manifest = Manifest::read(text.as_bytes()).map_err(|error| error.to_string())?;
        Ok(manifest.files().map(|name| String::from_utf8_lossy(name).into_owned()).collect())
    }

    #[test]
    fn files_come_in_the_order_in_which_they_are_read() {
        let text = "# a log\nfile a.2.incr.aof seq 2 type i\nfile a.1.incr.aof seq 1 type h\nfile a.2.base.rdb seq 2 type b\n\
                    file \"a\\x20b.aof\" seq 7 type i startoffset 12 endoffset 40\n";
        assert_eq!(read(text).expect("is one"), ["a.2.base.rdb", "a.2.incr.aof", "a b.aof"]);
        assert_eq!(read("").expect("is one"), Vec::<String>::new());
    }

    #[test]
    fn what_makes_no_sense_is_told_with_its_line() {
        for (text, error) in [
            ("file a seq 1 type i\nfile b seq 1 type i\n", "a number that does not grow in line 2"),
            ("file a seq 1 type b\nfile b seq 2 type b\n", "a second base file in line 2"),
            ("file a seq 1 type i", "no line end in line 1"),
            ("file a seq 1 type\n", "a word without its value in line 1"),
            ("\n", "no file with its number and its type in line 1"),
            ("file a seq x type i\n", "no file with its number and its type in line 1"),
            ("file a seq 1 type x\n", "no file with its number and its type in line 1"),
            ("file ../a seq 1 type i\n", "a path where the name of a file should be in line 1"),
            ("file \"a seq 1 type i\n", "a quote that is not closed in line 1"),
        ] {
            assert_eq!(read(text), Err(error.to_owned()));
        }
        assert!(read(&format!("#{}\n", "x".repeat(LINE_MAX))).is_err());
    }
}
