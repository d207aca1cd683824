//! Configuration files: any text is directives or an error that tells no secret; what was read is what CONFIG REWRITE writes,
//! read again; and what it has written it leaves alone.
//!
//! Input: the text. Files that would be included are not: they are somebody's.

use larder::config::Parameters;
use larder::config::file::{Directive, read_stream};
use larder::config::load::LoadError;
use larder::config::table::{self, PARAMETERS};

/// Name and value of everything.
type Values = Vec<(&'static str, Vec<u8>)>;

/// What CONFIG GET shows of everything, hidden parameters included.
pub fn values(parameters: &Parameters) -> Values {
    let hidden = PARAMETERS.iter().filter(|row| row.hidden).map(|row| row.name.as_bytes());
    let names: Vec<&[u8]> = std::iter::once(&b"*"[..]).chain(hidden).collect();
    parameters.get(&names)
}

/// Whether `text` would read other files.
pub fn includes(text: &[u8]) -> bool {
    text.to_ascii_lowercase().windows(7).any(|word| word == b"include")
}

const MARKER: &str = "t0p-s3cr3t";

/// The outcome with secrets that would be recognized, if they were told.
fn tells_no_secret(directives: &[Directive]) {
    let is_secret = |name: &[u8]| table::is_sensitive(name) || name == b"user";
    if !directives.iter().any(|directive| is_secret(&directive.words[0])) {
        return;
    }
    let mut marked = directives.to_vec();
    for directive in marked.iter_mut().filter(|directive| is_secret(&directive.words[0])) {
        directive.words[1..].fill(MARKER.into());
    }
    let told = match Parameters::of(&marked, None) {
        Ok(loaded) => loaded.notices.join("\n"),
        Err(error) => error.to_string(),
    };
    let is_in_the_open = directives
        .iter()
        .flat_map(|directive| &directive.words)
        .any(|word| String::from_utf8_lossy(word).contains(MARKER));
    assert!(is_in_the_open || !told.contains(MARKER), "{told}");
}

fn read(text: &[u8]) -> Option<Result<Parameters, LoadError>> {
    let directives = match read_stream(text) {
        Ok(directives) => directives,
        Err(error) => {
            assert!(!error.reason.is_empty() && error.directive.chars().count() <= 64);
            return None;
        }
    };
    for directive in &directives {
        assert!(!directive.words.is_empty() && !directive.words[0].iter().any(u8::is_ascii_uppercase));
    }
    tells_no_secret(&directives);
    Some(Parameters::of(&directives, None).map(|loaded| loaded.parameters))
}

/// See the module's page.
pub fn check(text: &[u8]) {
    if includes(text) {
        return;
    }
    let parameters = match read(text) {
        Some(Ok(parameters)) => parameters,
        Some(Err(error)) => return assert!(!error.to_string().is_empty()),
        None => return,
    };
    let rewritten = parameters.rewritten(text);
    let again = match read(&rewritten) {
        Some(Ok(again)) => again,
        Some(Err(error)) => panic!("{error}\n{}", String::from_utf8_lossy(&rewritten)),
        None => panic!("no syntax\n{}", String::from_utf8_lossy(&rewritten)),
    };
    for (before, after) in values(&parameters).iter().zip(values(&again)) {
        assert_eq!(before, &after, "\n{}", String::from_utf8_lossy(&rewritten));
    }
    assert_eq!(parameters.users(), again.users());
    assert_eq!(parameters.renamed_commands(), again.renamed_commands());
    assert_eq!(String::from_utf8_lossy(&again.rewritten(&rewritten)), String::from_utf8_lossy(&rewritten));
}
