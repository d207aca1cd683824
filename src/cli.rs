//! The command line, in redis-server's form: `larder [FILE] [-] [--directive value …]…`.
//!
//! `--port 6380` is the configuration line `port 6380`. The word after `--name` is always its value, even if it begins with
//! `--`; what follows belongs to the same directive until the next `--`. Only `--save` may stand without a value (before another
//! `--name` or at the end), which means none: start scripts that build their arguments from a list do that.

use crate::config::file::split_words;
use crate::config::load::Sources;
use crate::tools::{export, import, lost};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// Run the server.
    Serve(Sources),
    /// Print this and end well.
    Print(String),
    /// Look at what failovers lost, or bring it back.
    Lost(lost::Request),
    /// Read what Redis wrote into the data folder.
    Import(import::Request, Sources),
    /// Write the data folder to an rdb file.
    Export(export::Request, Sources),
    /// Check the data folder, or repair it.
    Inspect(PathBuf, Inspection),
    /// Print this as an error and end with this exit code.
    Refuse(String, u8),
}

/// What to do with a data folder that no server uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inspection {
    /// Say what is damaged.
    Check,
    /// Keep what is whole.
    Repair,
}

/// Words that name other work than serving, when they stand first.
const TOOLS: [&str; 8] = ["import", "export", "backup", "restore", "check", "repair", "doctor", "lost"];

/// Names under which a server is started.
const SERVERS: [&str; 3] = ["larder", "redis-server", "valkey-server"];

const NO_SENTINEL: &str = "\
larder: there is no Sentinel to start. Every node of a cluster answers SENTINEL on its own port (names: sentinel-master-name), and \
replaces a dead primary by itself: take the sentinel services out, and name the nodes' ports where clients ask for sentinels.";

const HELP: &str = "\
Larder keeps your data and speaks the Redis protocol.

usage: larder [FILE] [-] [--DIRECTIVE VALUE...]...
       larder check FOLDER     read all of a data folder that no server uses, and say what is damaged
       larder repair FOLDER    keep what is whole of it; what is replaced is moved to FOLDER/lost
       larder import FILE      read dump.rdb or appendonlydir of Redis or Valkey into the data folder: see larder import --help
       larder export rdb FILE  write the data folder to an rdb file
       larder lost list|show|replay ...    look at what failovers lost, and bring it back: see larder lost --help

  FILE         a configuration in redis.conf syntax
  -            read (more of) the configuration from standard input
  --DIRECTIVE  any line of a configuration: --port 7000, --save \"\", --maxmemory 2gb
  -v, --version
  -h, --help

The environment may hold directives too: LARDER_PORT=7000, LARDER_REQUIREPASS=...
What comes later counts: LARDER_DEFAULTS (lines, separated by semicolons), FILE, standard input, environment, command line.

examples:
  larder
  larder /etc/larder.conf --loglevel verbose
  echo 'maxmemory 1gb' | larder - --port 7000
";

/// Reads the arguments, the program's name first, and the environment.
pub fn read(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Invocation {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let program = if arguments.is_empty() { OsString::new() } else { arguments.remove(0) };
    let is_sentinel = |name: &OsStr| name == "redis-sentinel" || name == "valkey-sentinel";
    let names = [Path::new(&program).file_name(), arguments.first().map(OsString::as_os_str)];
    if names.into_iter().flatten().any(is_sentinel) || arguments.iter().any(|word| word == "--sentinel") {
        return Invocation::Refuse(NO_SENTINEL.to_owned(), 1);
    }
    // Images of Redis are started as `redis-server --flags`; so are compose files that only changed the image.
    if arguments.first().is_some_and(|first| SERVERS.iter().any(|name| first == name)) {
        arguments.remove(0);
    }
    if let Some(tool) =
        arguments.first().and_then(|first| first.to_str()).filter(|first| TOOLS.contains(first))
    {
        let inspection = match tool {
            "check" => Inspection::Check,
            "repair" => Inspection::Repair,
            "lost" => return lost_request(arguments),
            "import" => return with_usage("import", import::USAGE, import_request, arguments, environment),
            "export" => return with_usage("export", export::USAGE, export_request, arguments, environment),
            _ => return Invocation::Refuse(format!("larder {tool}: not yet available"), 2),
        };
        return match &arguments[1..] {
            [folder] => Invocation::Inspect(PathBuf::from(folder), inspection),
            _ => Invocation::Refuse(format!("usage: larder {tool} FOLDER"), 2),
        };
    }
    match arguments.first().and_then(|first| first.to_str()) {
        Some("-v" | "--version") if arguments.len() == 1 => {
            return Invocation::Print(format!("Larder server v={}\n", env!("CARGO_PKG_VERSION")));
        }
        Some("-h" | "--help") if arguments.len() == 1 => return Invocation::Print(HELP.to_owned()),
        _ => {}
    }
    match sources(arguments) {
        Ok(mut sources) => {
            sources.environment = texts_of(environment);
            Invocation::Serve(sources)
        }
        Err(reason) => Invocation::Refuse(format!("larder: {reason}\nTry larder --help."), 1),
    }
}

fn texts_of(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<(String, String)> {
    let texts =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    environment.into_iter().filter_map(texts).collect()
}

/// Reads the words behind a tool's name by `read`; its usage is shown if it is asked for, or if they make no sense.
fn with_usage(
    tool: &str,
    usage: &str,
    read: fn(Vec<OsString>, Vec<(String, String)>) -> Result<Invocation, String>,
    arguments: Vec<OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Invocation {
    let words: Vec<OsString> = arguments.into_iter().skip(1).collect();
    if words.first().is_some_and(|word| word == "--help" || word == "-h") {
        return Invocation::Print(usage.to_owned());
    }
    read(words, texts_of(environment))
        .unwrap_or_else(|reason| Invocation::Refuse(format!("larder {tool}: {reason}\n{usage}"), 2))
}

/// The file that comes first, and the words behind it.
fn file_and_rest(words: Vec<OsString>) -> Result<(PathBuf, impl Iterator<Item = OsString> + use<>), String> {
    let mut words = words.into_iter();
    let file = words.next().filter(|word| !word.as_encoded_bytes().starts_with(b"--"));
    Ok((PathBuf::from(file.ok_or("it lacks the file")?), words))
}

fn import_request(words: Vec<OsString>, environment: Vec<(String, String)>) -> Result<Invocation, String> {
    let (file, words) = file_and_rest(words)?;
    let mut request = import::Request { file, ..Default::default() };
    let mut rest = Vec::new();
    for word in words {
        match word.to_str() {
            Some("--merge") => request.merge = true,
            Some("--skip-unknown") => request.skip_unknown = true,
            _ => rest.push(word),
        }
    }
    Ok(Invocation::Import(request, Sources { environment, ..sources(rest)? }))
}

fn export_request(
    mut words: Vec<OsString>,
    environment: Vec<(String, String)>,
) -> Result<Invocation, String> {
    if words.first().is_none_or(|word| word != "rdb") {
        return Err("it lacks the format, which is rdb".into());
    }
    let (file, mut words) = file_and_rest(words.split_off(1))?;
    let mut request = export::Request { file, version: 10 };
    let mut rest = Vec::new();
    while let Some(word) = words.next() {
        if word == "--rdb-version" {
            let version = words.next().and_then(|word| word.to_str()?.parse().ok());
            request.version = version.ok_or("--rdb-version needs a number")?;
        } else {
            rest.push(word);
        }
    }
    Ok(Invocation::Export(request, Sources { environment, ..sources(rest)? }))
}

fn lost_request(arguments: Vec<OsString>) -> Invocation {
    match lost::Request::parse(arguments.into_iter().skip(1)) {
        Ok(request) => Invocation::Lost(request),
        Err(reason) => Invocation::Refuse(format!("larder lost: {reason}\n{}", lost::USAGE), 2),
    }
}

fn sources(arguments: Vec<OsString>) -> Result<Sources, String> {
    let mut sources = Sources::default();
    let last = arguments.len().saturating_sub(1);
    let mut waits_for_value = false; // the last directive has only its name yet
    for (index, argument) in arguments.iter().enumerate() {
        let bytes = argument.as_encoded_bytes();
        if index == 0 && bytes.first().is_some_and(|byte| *byte != b'-') {
            sources.file = Some(PathBuf::from(argument));
        } else if bytes == b"-" && (index == last || sources.arguments.is_empty()) && !waits_for_value {
            sources.reads_stdin = true;
        } else if let (Some(name), false) = (bytes.strip_prefix(b"--"), waits_for_value) {
            let words = split_words(name).ok_or("a quote is not closed")?;
            let next_is_name =
                arguments.get(index + 1).is_none_or(|next| next.as_encoded_bytes().starts_with(b"--"));
            let stands_alone = words.len() == 1 && words[0].eq_ignore_ascii_case(b"save") && next_is_name;
            waits_for_value = words.len() == 1 && !stands_alone;
            if !words.is_empty() {
                sources.arguments.push(words);
            }
            if let (true, Some(directive)) = (stands_alone, sources.arguments.last_mut()) {
                directive.push(Vec::new());
            }
        } else {
            let Some(directive) = sources.arguments.last_mut() else {
                return Err(format!("'{}' is no directive", argument.to_string_lossy()));
            };
            directive.push(bytes.to_vec());
            waits_for_value = false;
        }
    }
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invoked(arguments: &[&str]) -> impl Iterator<Item = OsString> {
        std::iter::once("larder").chain(arguments.iter().copied()).map(OsString::from)
    }

    fn lines(arguments: &[&str]) -> Vec<String> {
        let Invocation::Serve(sources) = read(invoked(arguments), []) else { panic!("it serves") };
        let mut lines: Vec<String> =
            sources.file.iter().map(|file| format!("file {}", file.display())).collect();
        lines.extend(sources.reads_stdin.then(|| "stdin".to_owned()));
        for words in sources.arguments {
            let words: Vec<String> =
                words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
            lines.push(words.join("|"));
        }
        lines
    }

    #[test]
    fn flags_become_configuration_lines() {
        for (arguments, expected) in [
            (&[][..], &[][..]),
            (&["--port", "7000"], &["port|7000"]),
            (&["x.conf", "--port", "7000", "--save", ""], &["file x.conf", "port|7000", "save|"]),
            (&["--save", "60", "1", "300", "10"], &["save|60|1|300|10"]),
            (&["--requirepass", "--secret", "--port", "1"], &["requirepass|--secret", "port|1"]),
            (&["--save", "--port", "1"], &["save|", "port|1"]),
            (&["--port", "1", "--save"], &["port|1", "save|"]),
            (&["--port 1", "--timeout", "2"], &["port|1", "timeout|2"]),
            (&["-"], &["stdin"]),
            (&["x.conf", "-"], &["file x.conf", "stdin"]),
            (&["--port", "1", "-"], &["stdin", "port|1"]),
            (&["--list-max-listpack-size", "-2"], &["list-max-listpack-size|-2"]),
            (&["redis-server", "--port", "1"], &["port|1"]),
            (&["redis-server", "x.conf"], &["file x.conf"]),
            (&["valkey-server", "--port", "1"], &["port|1"]),
        ] {
            assert_eq!(lines(arguments), expected, "{arguments:?}");
        }
    }

    #[test]
    fn other_invocations() {
        let of = |arguments: &[&str]| read(invoked(arguments), []);
        assert!(matches!(of(&["--help"]), Invocation::Print(text) if text.contains("usage")));
        assert!(matches!(of(&["-v"]), Invocation::Print(text) if text.starts_with("Larder server v=")));
        assert!(matches!(of(&["import"]), Invocation::Refuse(_, 2)));
        assert!(matches!(of(&["export", "dump.rdb"]), Invocation::Refuse(_, 2)));
        assert!(matches!(of(&["backup", "dump.rdb"]), Invocation::Refuse(_, 2)));
        let Invocation::Import(request, sources) = of(&["import", "dump.rdb", "--merge", "--dir", "x"])
        else {
            panic!("it imports")
        };
        assert!(request.merge && !request.skip_unknown && request.file.as_os_str() == "dump.rdb");
        assert_eq!(sources.arguments, [[b"dir".to_vec(), b"x".to_vec()]]);
        let exported = of(&["export", "rdb", "dump.rdb", "--rdb-version", "9"]);
        assert!(matches!(exported, Invocation::Export(request, _) if request.version == 9));
        assert!(
            matches!(of(&["import", "--help"]), Invocation::Print(text) if text.contains("appendonlydir"))
        );
        assert!(matches!(of(&["-p", "1"]), Invocation::Refuse(_, 1)));
        let sentinels: [&[&str]; 3] =
            [&["redis-sentinel", "x.conf"], &["x.conf", "--sentinel"], &["valkey-sentinel"]];
        sentinels
            .iter()
            .for_each(|words| assert!(matches!(of(words), Invocation::Refuse(_, 1)), "{words:?}"));
        assert!(matches!(of(&["--bind", "import"]), Invocation::Serve(_)));
    }

    #[test]
    fn the_environment_goes_along() {
        let environment = [(OsString::from("LARDER_PORT"), OsString::from("1"))];
        let Invocation::Serve(sources) = read(invoked(&[]), environment) else { panic!("it serves") };
        assert_eq!(sources.environment, [("LARDER_PORT".to_owned(), "1".to_owned())]);
    }
}
