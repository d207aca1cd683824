//! The start: values from `LARDER_DEFAULTS`, which stand in place of built-in defaults, then from the file, then standard input, then `LARDER_*` variables, then the command line; the last one counts.

use super::file::{self, Directive, Origin, SyntaxError};
use super::kind::Kind;
use super::table::{self, PARAMETERS};
use super::{Parameters, State, default_value, words_of};
use std::fmt;
use std::path::{Path, PathBuf};

/// Where the configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A redis.conf.
    pub file: Option<PathBuf>,
    /// Whether standard input carries one too.
    pub reads_stdin: bool,
    /// Names and values of environment variables, all there are.
    pub environment: Vec<(String, String)>,
    /// Directives of the command line.
    pub arguments: Vec<Vec<Vec<u8>>>,
}

/// What was loaded.
pub struct Loaded {
    /// The parameters.
    pub parameters: Parameters,
    /// Lines for the log, once there is one.
    pub notices: Vec<String>,
}

/// Why the server cannot start with this configuration.
#[derive(Debug)]
pub struct LoadError(SyntaxError);

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "*** FATAL CONFIG FILE ERROR (Larder {}) ***", env!("CARGO_PKG_VERSION"))?;
        writeln!(f, "{}", self.0.origin)?;
        if !self.0.directive.is_empty() {
            writeln!(f, ">>> '{}'", self.0.directive)?;
        }
        write!(f, "{}", self.0.reason)
    }
}

impl std::error::Error for LoadError {}

/// Prefix of environment variables.
const PREFIX: &str = "LARDER_";
/// The variable with what comes before everything else.
const DEFAULTS: &str = "LARDER_DEFAULTS";

impl Parameters {
    /// Reads all sources.
    pub fn load(sources: &Sources) -> Result<Loaded, LoadError> {
        let mut directives = defaults(&sources.environment).map_err(LoadError)?;
        if let Some(path) = &sources.file {
            directives.extend(file::read_file(path).map_err(LoadError)?);
        }
        if sources.reads_stdin {
            directives.extend(file::read_stream(std::io::stdin().lock()).map_err(LoadError)?);
        }
        directives
            .extend(sources.environment.iter().filter_map(|(name, value)| from_environment(name, value)));
        for words in &sources.arguments {
            if matches!(&words[..], [name, _] if name.eq_ignore_ascii_case(b"include")) {
                let path = PathBuf::from(String::from_utf8_lossy(&words[1]).into_owned());
                directives.extend(file::read_file(&path).map_err(LoadError)?);
            } else {
                directives.push(Directive { words: words.clone(), origin: Origin::Argument });
            }
        }
        Parameters::of(&directives, sources.file.as_deref())
    }

    /// Parameters with these directives, the last of each counting, that CONFIG REWRITE writes to `file`.
    pub fn of(directives: &[Directive], file: Option<&Path>) -> Result<Loaded, LoadError> {
        let file = file.map(absolute);
        Loading::default().all(directives).map(|loading| loading.finish(file)).map_err(LoadError)
    }

    /// Parameters with these directives (`port 0`), for tests and tools.
    pub fn with(lines: &[&str]) -> Result<Parameters, LoadError> {
        let arguments = lines.iter().filter_map(|line| file::split_words(line.as_bytes())).collect();
        let loaded = Parameters::load(&Sources { arguments, ..Sources::default() })?;
        Ok(loaded.parameters)
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// What an image has in place of built-in defaults: configuration lines, separated by semicolons.
fn defaults(environment: &[(String, String)]) -> Result<Vec<Directive>, SyntaxError> {
    let mut directives = Vec::new();
    for (name, lines) in environment.iter().filter(|(name, _)| name == DEFAULTS) {
        let origin = || Origin::Environment(name.clone());
        for line in lines.split(';').filter(|line| !line.trim().is_empty()) {
            let words = file::split_words(line.as_bytes()).ok_or_else(|| SyntaxError {
                origin: origin(),
                directive: line.to_owned(),
                reason: "Unbalanced quotes in configuration line".into(),
            })?;
            directives.push(Directive { words, origin: origin() });
        }
    }
    Ok(directives)
}

/// The directive in an environment variable; `None` if it is not ours.
fn from_environment(name: &str, value: &str) -> Option<Directive> {
    let rest = name.strip_prefix(PREFIX).filter(|_| name != DEFAULTS)?;
    if is_service_link(rest, value) {
        return None;
    }
    let folded = rest.to_ascii_lowercase().replace('_', "-");
    let found = PARAMETERS.iter().flat_map(table::names).find(|known| known.replace('_', "-") == folded);
    let name_word = found.map_or(folded, str::to_owned).into_bytes();
    Some(Directive {
        words: vec![name_word, value.as_bytes().to_vec()],
        origin: Origin::Environment(name.to_owned()),
    })
}

/// Whether Kubernetes set this variable because a service is called `larder` or `larder-…`: `LARDER_SERVICE_HOST`,
/// `LARDER_MAIN_PORT_6379_TCP_ADDR`, `LARDER_PORT=tcp://…`. A start must not fail over these.
fn is_service_link(rest: &str, value: &str) -> bool {
    let rest = format!("_{rest}");
    let mut after_ports = rest.split("_PORT_").skip(1);
    rest.ends_with("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT")
        || after_ports.any(|after| after.starts_with(|first: char| first.is_ascii_digit()))
        || (rest.ends_with("_PORT") && value.contains("://"))
}

/// Values as far as they are read.
struct Loading {
    state: State,
    is_set: Vec<bool>,
    users: Vec<Vec<Vec<u8>>>,
    renamed_commands: Vec<(Vec<u8>, Vec<u8>)>,
    notices: Vec<String>,
}

impl Default for Loading {
    fn default() -> Loading {
        Loading {
            state: State::of_defaults(),
            is_set: vec![false; PARAMETERS.len()],
            users: Vec::new(),
            renamed_commands: Vec::new(),
            notices: Vec::new(),
        }
    }
}

impl Loading {
    fn all(mut self, directives: &[Directive]) -> Result<Loading, SyntaxError> {
        for directive in directives {
            self.directive(&directive.words).map_err(|reason| SyntaxError {
                origin: directive.origin.clone(),
                directive: show(directive),
                reason,
            })?;
        }
        Ok(self)
    }

    fn directive(&mut self, words: &[Vec<u8>]) -> Result<(), String> {
        let Some((name, values)) = words.split_first() else { return Ok(()) };
        if let Some((index, _)) = table::find(name) {
            return self.parameter(index, values);
        }
        match (name.to_ascii_lowercase().as_slice(), values) {
            (b"user", [_, ..]) => self.users.push(values.to_vec()),
            (b"rename-command", [old, new]) => self.renamed_commands.push((old.clone(), new.clone())),
            (b"loadmodule", [path, ..]) => {
                let path = String::from_utf8_lossy(path);
                self.notices.push(format!("loadmodule {path} has no effect: Larder has no modules"));
            }
            _ => return Err("Bad directive or wrong number of arguments".to_owned()),
        }
        Ok(())
    }

    fn parameter(&mut self, index: usize, values: &[Vec<u8>]) -> Result<(), String> {
        let row = &PARAMETERS[index];
        let words: Vec<&[u8]> = match values {
            [] if matches!(row.kind, Kind::SavePoints) => vec![&b""[..]], // as in Redis, `save` alone means none
            [] => return Err("wrong number of arguments".to_owned()),
            [one] => words_of(row.kind, one),
            many => many.iter().map(Vec::as_slice).collect(),
        };
        // Snapshot points of several lines add up, but not to the defaults.
        let starts_anew = matches!(row.kind, Kind::SavePoints) && !self.is_set[index];
        let current: &[u8] = if starts_anew { b"" } else { &self.state.values[index] };
        let value = match (row.read(&words, current), row.kind) {
            (Err(_), Kind::Unsupported(_)) => {
                self.notices.push(format!("{} is not supported and stays off", row.name));
                return Ok(());
            }
            (read, _) => read?,
        };
        self.state.values[index] = value;
        self.is_set[index] = true;
        Ok(())
    }

    fn finish(mut self, file: Option<PathBuf>) -> Loaded {
        let without_effect: Vec<String> = PARAMETERS
            .iter()
            .zip(self.is_set.iter().zip(&self.state.values))
            .filter(|(row, (is_set, value))| **is_set && **value != default_value(row))
            .filter_map(|(row, _)| Some(format!("{} ({})", row.name, row.without_effect()?)))
            .collect();
        if !without_effect.is_empty() {
            self.notices
                .push(format!("accepted, but without effect in Larder: {}", without_effect.join(", ")));
        }
        let parameters = Parameters::new(self.state, file, self.users, self.renamed_commands, self.is_set);
        Loaded { parameters, notices: self.notices }
    }
}

/// A directive as an error may show it: without the value if that may be a secret.
fn show(directive: &Directive) -> String {
    let mut words = directive.words.iter().map(|word| String::from_utf8_lossy(word));
    let Some(name) = words.next() else { return String::new() };
    let is_open = table::find(name.as_bytes()).is_some_and(|(index, _)| !PARAMETERS[index].sensitive);
    if !is_open {
        return name.chars().take(64).collect();
    }
    let values: Vec<String> = words.map(|word| format!("\"{word}\"")).collect();
    format!("{name} {}", values.join(" ")).trim_end().chars().take(200).collect()
}
