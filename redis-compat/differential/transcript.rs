//! What is sent: steps over several connections, in the form in which `tests/server/differential.txt` has them.

use std::fmt::Write as _;

/// Connections of an episode. The second speaks RESP3, the others RESP2.
pub const CONNECTIONS: usize = 3;

/// The protocol a connection begins with.
pub fn protocol(connection: usize) -> &'static str {
    if connection == 1 { "3" } else { "2" }
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Which connection it goes over.
    pub connection: usize,
    /// The command's words.
    pub words: Vec<Vec<u8>>,
    /// Then wait until what has a deadline some milliseconds from now has expired on both servers.
    pub pause: bool,
}

/// One word as the list of commands writes it.
fn written(word: &[u8]) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'\'');
    if !word.is_empty() && word.iter().all(is_plain) {
        return String::from_utf8_lossy(word).into_owned();
    }
    format!("\"{}\"", word.escape_ascii())
}

/// The request as a line; long words are cut if `is_short`.
pub fn line(words: &[Vec<u8>], is_short: bool) -> String {
    let shown = words.iter().map(|word| {
        if is_short && word.len() > 80 {
            format!("{}…({} bytes)", written(&word[..40]), word.len())
        } else {
            written(word)
        }
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// All steps, one a line; `@2` stands before those of the second connection.
pub fn lines(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        if step.connection > 0 {
            let _ = write!(text, "@{} ", step.connection + 1);
        }
        let _ = writeln!(text, "{}", line(&step.words, false));
        if step.pause {
            let _ = writeln!(text, "(wait until it has expired)");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support;

    #[test]
    fn a_line_is_read_back_as_the_words_it_was_made_of() {
        let all: Vec<u8> = (0..=255).collect();
        let words =
            vec![b"set".to_vec(), Vec::new(), all, b"a b".to_vec(), b"\"'\\".to_vec(), b"#x".to_vec()];
        assert_eq!(support::words(&line(&words, false)), words);
    }
}
