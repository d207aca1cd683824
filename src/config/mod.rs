//! Configuration: one [`table`] of parameters, the redis.conf [`file`] syntax, and the [`Settings`] that the house reads.
//!
//! [`Parameters`] is the shared handle. Invariants:
//! - a value is the text that CONFIG GET shows, and its kind has accepted it;
//! - a change of several parameters happens as a whole or not at all, and readers see one [`Settings`] snapshot or the next;
//! - no value of a sensitive parameter is in an error or a log line.
//!
//! Applying a change is the reader's business: most read the snapshot when they need it; for the others [`Parameters::set`]
//! returns the names that changed.

pub mod file;
pub mod kind;
pub mod load;
mod rewrite;
pub mod settings;
pub mod table;

pub use settings::Settings;

use crate::base::glob;
use arc_swap::{ArcSwap, Guard};
use kind::Kind;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use table::{PARAMETERS, Parameter};

/// The server's parameters: a handle that is cheap to clone, each clone the same parameters.
#[derive(Clone)]
pub struct Parameters(Arc<Shared>);

struct Shared {
    settings: ArcSwap<Settings>,
    state: Mutex<State>,
    /// The file that was read at the start, if there was one.
    file: Option<PathBuf>,
    /// Words of each `user` directive, the name first.
    users: Vec<Vec<Vec<u8>>>,
    /// Old and new name of each `rename-command` directive; an empty new name disables the command.
    renamed_commands: Vec<(Vec<u8>, Vec<u8>)>,
    /// For each row of the table, whether the start was given a value.
    is_given: Vec<bool>,
}

/// A value for each row of the table.
#[derive(Clone)]
struct State {
    values: Vec<Vec<u8>>,
}

impl State {
    fn of_defaults() -> State {
        State { values: PARAMETERS.iter().map(default_value).collect() }
    }

    fn settings(&self) -> Settings {
        Settings::from_shown(|name| {
            let index = PARAMETERS.iter().position(|row| row.name == name);
            &self.values[index.expect("every field of the settings has a row in the table")]
        })
    }
}

/// A row's default as it is shown.
fn default_value(row: &Parameter) -> Vec<u8> {
    if row.default.is_empty() && row.kind.takes_many() {
        return Vec::new();
    }
    let words = words_of(row.kind, row.default.as_bytes());
    row.kind.read(&words, b"").expect("a default is a value of its kind")
}

/// A value that came as one text, as the words its kind reads.
fn words_of(kind: Kind, text: &[u8]) -> Vec<&[u8]> {
    if kind.takes_many() { text.split(|byte| *byte == b' ').collect() } else { vec![text] }
}

impl Default for Parameters {
    fn default() -> Parameters {
        Parameters::new(State::of_defaults(), None, Vec::new(), Vec::new(), Vec::new())
    }
}

impl Parameters {
    fn new(
        state: State,
        file: Option<PathBuf>,
        users: Vec<Vec<Vec<u8>>>,
        renamed_commands: Vec<(Vec<u8>, Vec<u8>)>,
        is_given: Vec<bool>,
    ) -> Parameters {
        let settings = ArcSwap::from_pointee(state.settings());
        Parameters(Arc::new(Shared {
            settings,
            state: Mutex::new(state),
            file,
            users,
            renamed_commands,
            is_given,
        }))
    }

    /// The present settings. Hold the guard shortly; `load_full` on [`Parameters::snapshot`] is for keeping them.
    #[inline]
    pub fn settings(&self) -> Guard<Arc<Settings>> {
        self.0.settings.load()
    }

    /// The present settings, to keep as long as needed.
    pub fn snapshot(&self) -> Arc<Settings> {
        self.0.settings.load_full()
    }

    /// The file that was read at the start, if there was one.
    pub fn file(&self) -> Option<&std::path::Path> {
        self.0.file.as_deref()
    }

    /// The value of the parameter with this name, as CONFIG GET shows it, if the start was given one: none, if it is just the default.
    pub fn given(&self, name: &str) -> Option<Vec<u8>> {
        let (index, _) = table::find(name.as_bytes())?;
        let is_given = self.0.is_given.get(index).is_some_and(|is_given| *is_given);
        is_given.then(|| self.0.state.lock().values[index].clone())
    }

    /// Words of each `user` directive, the name first.
    pub fn users(&self) -> &[Vec<Vec<u8>>] {
        &self.0.users
    }

    /// Old and new name of each `rename-command` directive; an empty new name disables the command.
    pub fn renamed_commands(&self) -> &[(Vec<u8>, Vec<u8>)] {
        &self.0.renamed_commands
    }

    /// Name and value of every parameter that one of `patterns` matches, as CONFIG GET shows them: each name once, in the
    /// table's order; an alias is a name of its own.
    pub fn get(&self, patterns: &[&[u8]]) -> Vec<(&'static str, Vec<u8>)> {
        let state = self.0.state.lock();
        let mut found = Vec::new();
        for (row, value) in PARAMETERS.iter().zip(&state.values) {
            for name in table::names(row) {
                if patterns.iter().any(|pattern| is_meant(row, name, pattern)) {
                    found.push((name, value.clone()));
                }
            }
        }
        found
    }

    /// CONFIG SET: all `pairs` of name and value, or none. `is_local` says whether the client is of this machine. `prepare` gets the
    /// settings that are about to come into force and the names of what is another in them; it may refuse.
    /// Returns the (proper) names of those whose value is another now.
    ///
    /// # Errors
    /// Redis's error text, prefix included; nothing was changed.
    pub fn set(
        &self,
        pairs: &[(&[u8], &[u8])],
        is_local: bool,
        prepare: impl FnOnce(&Settings, &[&'static str]) -> Result<(), (&'static str, String)>,
    ) -> Result<Vec<&'static str>, String> {
        let mut state = self.0.state.lock();
        let allows_protected = self.settings().enable_protected_configs.permits(is_local);
        let rows = check_names(pairs, allows_protected, &state.values)?;
        let mut changed_state = state.clone();
        let mut changed = Vec::new();
        for (&(index, shown_name), (_, text)) in rows.iter().zip(pairs) {
            let row = &PARAMETERS[index];
            let current: &[u8] =
                if matches!(row.kind, Kind::SavePoints) { b"" } else { &changed_state.values[index] };
            let value = row
                .read(&words_of(row.kind, text), current)
                .map_err(|reason| refused(shown_name, &reason))?;
            if value != changed_state.values[index] {
                changed_state.values[index] = value;
                changed.push(row.name);
            }
        }
        if !changed.is_empty() {
            let settings = changed_state.settings();
            prepare(&settings, &changed).map_err(|(name, reason)| refused(name, &reason))?;
            self.0.settings.store(Arc::new(settings));
            *state = changed_state;
        }
        Ok(changed)
    }

    /// Notes what another command than CONFIG has changed, immutable or not. `shown` is a value as CONFIG GET shows it.
    pub fn put(&self, name: &str, shown: Vec<u8>) {
        let mut state = self.0.state.lock();
        let (index, _) = table::find(name.as_bytes()).expect("a row of the table");
        state.values[index] = shown;
        self.0.settings.store(Arc::new(state.settings()));
    }

    /// The text of a configuration with the present values in place of those in `old`; its comments and its order stay.
    pub fn rewritten(&self, old: &[u8]) -> Vec<u8> {
        rewrite::text(old, &self.0.state.lock().values)
    }

    /// CONFIG REWRITE: writes the present values into the file that was read at the start, keeping its comments and order.
    ///
    /// # Errors
    /// Redis's error text, prefix included; the file is as it was.
    pub fn rewrite(&self) -> Result<(), String> {
        let Some(path) = &self.0.file else {
            return Err("ERR The server is running without a config file".to_owned());
        };
        let state = self.0.state.lock();
        rewrite::file(path, &state.values).map_err(|error| {
            // Rust adds " (os error N)" to the system's words, Redis does not.
            let text = error.to_string();
            format!("ERR Rewriting config file: {}", text.split(" (os error").next().unwrap_or_default())
        })
    }
}

/// Whether CONFIG GET with this pattern shows this name.
fn is_meant(row: &Parameter, name: &str, pattern: &[u8]) -> bool {
    if pattern.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[')) {
        return !row.hidden && glob::matches(pattern, name.as_bytes(), true);
    }
    pattern.eq_ignore_ascii_case(name.as_bytes())
}

/// Immutable parameters that may be set to what they are: Redis does not know them. Tools that write back all that they have read
/// do so with these too.
const RESTATABLE: &[&str] = &[
    "bootstrap-expect",
    "cluster-secret",
    "cluster-seeds",
    "http-bind",
    "http-port",
    "log-format",
    "partitions",
    "row-cache-size",
    "runtime-threads",
    "witness",
    "zone",
];

/// Index and shown name of each parameter, if all of them may be set.
fn check_names(
    pairs: &[(&[u8], &[u8])],
    allows_protected: bool,
    values: &[Vec<u8>],
) -> Result<Vec<(usize, &'static str)>, String> {
    let mut rows: Vec<(usize, &str)> = Vec::with_capacity(pairs.len());
    for (name, text) in pairs {
        let Some((index, shown_name)) = table::find(name) else {
            let name = String::from_utf8_lossy(name);
            return Err(format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'"));
        };
        let row = &PARAMETERS[index];
        if row.protected && !allows_protected {
            return Err(refused(shown_name, "can't set protected config"));
        }
        let is_as_before = RESTATABLE.contains(&row.name) && values[index] == *text;
        if row.immutable && !is_as_before {
            return Err(refused(shown_name, "can't set immutable config"));
        }
        if rows.iter().any(|(_, known)| *known == shown_name) {
            return Err(refused(shown_name, "duplicate parameter"));
        }
        rows.push((index, shown_name));
    }
    Ok(rows)
}

fn refused(name: &str, reason: &str) -> String {
    format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}")
}

#[cfg(test)]
mod tests;
