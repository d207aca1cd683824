//! The command line, the environment and CONFIG SET: any words are settings or an error; every value that is shown can be given
//! again and stays what it is; a change that is refused changes nothing.
//!
//! Input: words, a line each. `LARDER_NAME=value` is a variable, `SET` begins pairs for CONFIG SET, everything else is an argument.

use super::configuration::{includes, values};
use larder::cli::{self, Invocation};
use larder::config::Parameters;
use larder::config::table::PARAMETERS;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

fn os(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

/// The parameters that the words give, if they give any.
fn loaded(arguments: &[&[u8]], variables: &[(&[u8], &[u8])]) -> Option<Parameters> {
    let arguments = std::iter::once(&b"larder"[..]).chain(arguments.iter().copied()).map(os);
    let variables = variables.iter().map(|(name, value)| (os(name), os(value)));
    let mut sources = match cli::read(arguments, variables) {
        Invocation::Serve(sources) => sources,
        Invocation::Print(text) | Invocation::Refuse(text, _) => {
            assert!(!text.is_empty());
            return None;
        }
        Invocation::Import(_, sources) | Invocation::Export(_, sources) => sources,
        Invocation::Inspect(..) | Invocation::Lost(..) => return None,
    };
    assert!(sources.arguments.iter().all(|words| !words.is_empty()));
    // Files are somebody's.
    sources.file = None;
    sources.reads_stdin = false;
    match Parameters::load(&sources) {
        Ok(loaded) => Some(loaded.parameters),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

/// What is shown reads as itself, as one word each.
fn shown_values_stay(parameters: &Parameters) {
    let shown = values(parameters);
    let mut words: Vec<Vec<u8>> = Vec::new();
    for (name, value) in &shown {
        // An empty list of words has no other form than its absence.
        if name.starts_with("replicaof") || name.starts_with("slaveof") {
            continue;
        }
        words.push(format!("--{name}").into_bytes());
        words.push(value.clone());
    }
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let again = loaded(&words, &[]).expect("what is shown can be read");
    for (before, after) in shown.iter().zip(values(&again)) {
        if !before.0.starts_with("replicaof") && !before.0.starts_with("slaveof") {
            assert_eq!(before, &after);
        }
    }
}

/// CONFIG SET.
fn change(parameters: &Parameters, words: &[&[u8]]) {
    let pairs: Vec<(&[u8], &[u8])> =
        words.as_chunks::<2>().0.iter().map(|[name, value]| (*name, *value)).collect();
    let before = values(parameters);
    match parameters.set(&pairs, false, |_, _| Ok(())) {
        Ok(changed) => {
            let is_changed = |name: &str| {
                let alias = PARAMETERS.iter().any(|row| changed.contains(&row.name) && row.alias == name);
                alias || changed.contains(&name)
            };
            for ((name, before), (_, after)) in before.iter().zip(values(parameters)) {
                assert_eq!(is_changed(name), *before != after, "{name}");
            }
            shown_values_stay(parameters);
        }
        Err(error) => {
            assert!(error.starts_with("ERR "));
            assert_eq!(before, values(parameters));
        }
    }
}

/// See the module's page.
pub fn check(data: &[u8]) {
    if includes(data) {
        return;
    }
    let (mut arguments, mut variables, mut changes) = (Vec::new(), Vec::new(), Vec::new());
    let mut is_change = false;
    for word in data.split(|byte| *byte == b'\n') {
        let assignment = word.iter().position(|byte| *byte == b'=').filter(|_| word.starts_with(b"LARDER_"));
        match assignment {
            _ if is_change => changes.push(word),
            Some(at) => variables.push((&word[..at], &word[at + 1..])),
            None if word == b"SET" => is_change = true,
            None => arguments.push(word),
        }
    }
    if let Some(parameters) = loaded(&arguments, &variables) {
        shown_values_stay(&parameters);
        change(&parameters, &changes);
    }
}
