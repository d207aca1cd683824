//! redis.conf syntax: one directive a line, words split at spaces, `"…"` with escapes, `'…'`, `#` comments, `include`.
//!
//! Bytes from outside: every limit is here, nothing panics. What a directive means is not known here.

use crate::base::glob;
use std::fmt::{self, Write as _};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Largest file that is read.
const MAX_FILE: u64 = 16 << 20;
/// Longest line.
const MAX_LINE: usize = 1 << 20;
/// How deep `include` may go.
const MAX_DEPTH: usize = 16;
/// How many files may be read in all, so that files that include each other end.
const MAX_FILES: usize = 256;

/// A directive with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// Its words; the first is the name, in lower case. Never empty.
    pub words: Vec<Vec<u8>>,
    /// Where it stands.
    pub origin: Origin,
}

/// Where a directive stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a file, at this line.
    File(PathBuf, usize),
    /// In the configuration that came over standard input, at this line.
    Stdin(usize),
    /// On the command line.
    Argument,
    /// In this environment variable.
    Environment(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path, line) => {
                write!(f, "Reading the configuration file {}, at line {line}", path.display())
            }
            Origin::Stdin(line) => write!(f, "Reading the configuration from standard input, at line {line}"),
            Origin::Argument => write!(f, "Reading the command line"),
            Origin::Environment(name) => write!(f, "Reading the environment variable {name}"),
        }
    }
}

/// Why a text is no configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Where.
    pub origin: Origin,
    /// The directive as far as it may be shown; empty if not known.
    pub directive: String,
    /// What is wrong.
    pub reason: String,
}

/// Reads a file and what it includes.
pub fn read_file(path: &Path) -> Result<Vec<Directive>, SyntaxError> {
    let mut reading = Reading { directives: Vec::new(), files: 0 };
    reading.file(path, 0, &Origin::Argument)?;
    Ok(reading.directives)
}

/// Reads a configuration from a stream, standard input for one, and what it includes.
pub fn read_stream(stream: impl Read) -> Result<Vec<Directive>, SyntaxError> {
    let mut reading = Reading { directives: Vec::new(), files: 0 };
    let text = bounded(stream).map_err(|reason| SyntaxError {
        origin: Origin::Stdin(0),
        directive: String::new(),
        reason,
    })?;
    reading.text(&text, 0, &Origin::Stdin)?;
    Ok(reading.directives)
}

struct Reading {
    directives: Vec<Directive>,
    files: usize,
}

impl Reading {
    fn file(&mut self, path: &Path, depth: usize, from: &Origin) -> Result<(), SyntaxError> {
        let failed = |reason: String| SyntaxError { origin: from.clone(), directive: String::new(), reason };
        self.files += 1;
        if depth > MAX_DEPTH || self.files > MAX_FILES {
            return Err(failed(format!("too many included files, the last being {}", path.display())));
        }
        let shown = path.display();
        let file = std::fs::File::open(path)
            .map_err(|error| failed(format!("can't open config file '{shown}': {error}")))?;
        let text =
            bounded(file).map_err(|error| failed(format!("can't read config file '{shown}': {error}")))?;
        self.text(&text, depth, &|line| Origin::File(path.to_owned(), line))
    }

    fn text(
        &mut self,
        text: &[u8],
        depth: usize,
        origin: &dyn Fn(usize) -> Origin,
    ) -> Result<(), SyntaxError> {
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line[0] == b'#' {
                continue;
            }
            let origin = origin(index + 1);
            let failed = |reason: &str| SyntaxError {
                origin: origin.clone(),
                directive: first_word(line),
                reason: reason.to_owned(),
            };
            if line.len() > MAX_LINE {
                return Err(failed("the line is too long"));
            }
            let mut words =
                split_words(line).ok_or_else(|| failed("Unbalanced quotes in configuration line"))?;
            let Some(name) = words.first_mut() else { continue };
            name.make_ascii_lowercase();
            match &words[..] {
                [name, pattern] if name == b"include" => self.include(pattern, depth + 1, &origin)?,
                _ => self.directives.push(Directive { words, origin }),
            }
        }
        Ok(())
    }

    /// Includes a file, or all that match in its folder, in the order of their names. A pattern may match none.
    fn include(&mut self, pattern: &[u8], depth: usize, from: &Origin) -> Result<(), SyntaxError> {
        let text = String::from_utf8_lossy(pattern).into_owned();
        let path = Path::new(&text);
        let Some(name) = path.file_name().filter(|_| text.contains(['*', '?', '['])) else {
            return self.file(path, depth, from);
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
        let mut found: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.file_name()))
            .filter(|entry| glob::matches(name.as_encoded_bytes(), entry.as_encoded_bytes(), false))
            .map(|entry| folder.join(entry))
            .collect();
        found.sort();
        found.iter().try_for_each(|path| self.file(path, depth, from))
    }
}

fn bounded(stream: impl Read) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    stream.take(MAX_FILE + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_FILE {
        return Err(format!("it is larger than {MAX_FILE} bytes"));
    }
    Ok(text)
}

/// The first word as far as it is plain text: what follows it may be a password.
fn first_word(line: &[u8]) -> String {
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len()).min(64);
    String::from_utf8_lossy(&line[..end]).into_owned()
}

/// Splits a line into words. `None` if a quote is not closed, or something follows a closing quote without a space.
pub fn split_words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Some(words);
        }
        let (word, after) = take_word(rest)?;
        words.push(word);
        rest = after;
    }
}

fn take_word(line: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    let mut rest = line;
    while let [byte, after @ ..] = rest {
        rest = match byte {
            b'"' | b'\'' => {
                let after = take_quoted(after, *byte, &mut word)?;
                if after.first().is_some_and(|next| !next.is_ascii_whitespace()) {
                    return None;
                }
                return Some((word, after));
            }
            byte if byte.is_ascii_whitespace() => break,
            byte => {
                word.push(*byte);
                after
            }
        };
    }
    Some((word, rest))
}

/// Reads up to the closing quote and returns what follows it.
fn take_quoted<'a>(text: &'a [u8], quote: u8, word: &mut Vec<u8>) -> Option<&'a [u8]> {
    let mut rest = text;
    loop {
        rest = match rest {
            [] => return None,
            [byte, after @ ..] if *byte == quote => return Some(after),
            [b'\\', b'\'', after @ ..] if quote == b'\'' => {
                word.push(b'\'');
                after
            }
            [b'\\', b'x', high, low, after @ ..] if quote == b'"' && hex(*high, *low).is_some() => {
                word.extend(hex(*high, *low));
                after
            }
            [b'\\', escaped, after @ ..] if quote == b'"' => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                after
            }
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
        };
    }
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    Some((digit(high)? * 16 + digit(low)?) as u8)
}

/// A word in quotes, so that [`split_words`] reads it back.
pub fn quote(word: &[u8]) -> String {
    let mut quoted = String::from("\"");
    for byte in word {
        match byte {
            b'\\' | b'"' => quoted.extend(['\\', char::from(*byte)]),
            b'\n' => quoted.push_str("\\n"),
            b'\r' => quoted.push_str("\\r"),
            b'\t' => quoted.push_str("\\t"),
            b' '..=b'~' => quoted.push(char::from(*byte)),
            byte => {
                let _ = write!(quoted, "\\x{byte:02x}"); // a String takes everything
            }
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(line: &str) -> Option<Vec<String>> {
        let words = split_words(line.as_bytes())?;
        Some(words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect())
    }

    #[test]
    fn words_and_quotes() {
        for (line, expected) in [
            ("", vec![]),
            ("port 6379", vec!["port", "6379"]),
            ("  save  \"\" ", vec!["save", ""]),
            (r#"requirepass "a b\"\x41\n""#, vec!["requirepass", "a b\"A\n"]),
            (r"x 'it\'s \n'", vec!["x", r"it's \n"]),
            (r#"a"b c""#, vec!["ab c"]),
            (r#"x "\xzz""#, vec!["x", "xzz"]),
        ] {
            assert_eq!(words(line), Some(expected.into_iter().map(str::to_owned).collect()), "{line}");
        }
        for line in ["\"", "'a", "\"a\"b", "'a'b", "x \"a\\"] {
            assert_eq!(words(line), None, "{line}");
        }
    }

    #[test]
    fn comments_and_empty_lines_are_skipped_and_lines_counted() {
        let read = read_stream(&b"# one\n\n  PORT 1\r\n# two\nsave \"\"\n"[..]).expect("valid");
        assert_eq!(read.len(), 2);
        assert_eq!((&read[0].words[0][..], &read[0].origin), (&b"port"[..], &Origin::Stdin(3)));
        assert_eq!(read[1].origin, Origin::Stdin(5));
    }

    #[test]
    fn an_error_names_the_line_and_hides_the_value() {
        let error = read_stream(&b"port 1\nrequirepass \"secret\n"[..]).expect_err("a quote is open");
        assert_eq!((error.origin, error.directive.as_str()), (Origin::Stdin(2), "requirepass"));
    }

    #[test]
    fn files_include_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| std::fs::write(path(name), text).expect("written");
        write("a.conf", &format!("port 1\ninclude {}\nport 4\n", path("part-*.conf").display()));
        write("part-2.conf", "port 3\n");
        write("part-1.conf", "port 2\n");
        let ports: Vec<Vec<u8>> = read_file(&path("a.conf"))
            .expect("valid")
            .into_iter()
            .map(|directive| directive.words[1].clone())
            .collect();
        assert_eq!(ports, [b"1", b"2", b"3", b"4"]);
        write("loop.conf", &format!("include {0}\ninclude {0}\n", path("loop.conf").display()));
        assert!(read_file(&path("loop.conf")).is_err());
        assert!(read_file(&path("missing.conf")).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = split_words(&bytes);
            let bytes: Vec<u8> = bytes.into_iter().filter(|byte| *byte != b'i').collect(); // no file is opened
            let _ = read_stream(&bytes[..]);
        }

        #[test]
        fn a_quoted_word_is_read_back(word in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(split_words(quote(&word).as_bytes()), Some(vec![word]));
        }
    }
}
