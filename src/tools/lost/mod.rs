//! `larder lost`: looks at what failovers lost, and brings it back key by key.

mod peer;
mod replay;
mod show;

use lexopt::{Arg, Parser, ValueExt};
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// How it is called.
pub const USAGE: &str = "\
usage: larder lost list FOLDER           list what failovers lost of the data in FOLDER
       larder lost show FILE [KEY...]    show the operations in a file, and what the keys held at the end
       larder lost replay FILE [KEY...] --to HOST:PORT [--only-missing | --replace]
                                         give a server what the keys held at the end

  --to HOST:PORT         the server, which may be any that speaks the Redis protocol
  --user NAME            and the user to be there
  --password-file FILE   the first line of FILE is the password; without it LARDER_PASSWORD is, if it is set
  --only-missing         leave alone what the server has
  --replace              replace what the server has; remove keys that were removed
  --database N           only keys of this database
  --base64               KEYs are in base64, for names that are no text

Without --only-missing or --replace nothing is done if the server holds something else at one of the keys.
";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// To say how it is called.
    Help,
    /// To list the files of a data folder.
    List(PathBuf),
    /// To show a file.
    Show(PathBuf, Selection),
    /// To give what is in a file to a server.
    Replay(PathBuf, Selection, Target),
}

/// Which keys are meant.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// These; all if there are none.
    pub names: Vec<Vec<u8>>,
    /// Those of this database.
    pub database: Option<u16>,
}

impl Selection {
    /// Whether all are meant.
    pub fn is_all(&self) -> bool {
        self.names.is_empty() && self.database.is_none()
    }

    /// Whether this one is.
    pub fn has(&self, database: Option<u16>, name: &[u8]) -> bool {
        let in_database = self.database.is_none() || self.database == database;
        in_database && (self.names.is_empty() || self.names.iter().any(|wanted| wanted == name))
    }
}

/// What to do where the server holds something else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Conflict {
    /// Nothing at all.
    #[default]
    Refuse,
    /// Leave it.
    Skip,
    /// Replace or remove it.
    Replace,
}

/// Where to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// `HOST:PORT`.
    pub address: String,
    /// The user to be.
    pub user: Option<String>,
    /// Where the password is.
    pub password_file: Option<PathBuf>,
    /// Where the server holds something else.
    pub conflict: Conflict,
}

impl Request {
    /// Reads the words behind `larder lost`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request, String> {
        let mut parser = Parser::from_args(arguments);
        let (mut words, mut target, mut database, mut is_base64) =
            (Vec::new(), Target::default(), None, false);
        let mut options = 0;
        while let Some(argument) = parser.next().map_err(told)? {
            options += usize::from(matches!(
                argument,
                Arg::Long("to" | "user" | "password-file" | "only-missing" | "replace")
            ));
            match argument {
                Arg::Value(word) => words.push(word),
                Arg::Short('h') | Arg::Long("help") => return Ok(Request::Help),
                Arg::Long("to") => {
                    target.address = parser.value().and_then(ValueExt::string).map_err(told)?;
                }
                Arg::Long("user") => {
                    target.user = Some(parser.value().and_then(ValueExt::string).map_err(told)?);
                }
                Arg::Long("password-file") => {
                    target.password_file = Some(parser.value().map_err(told)?.into());
                }
                Arg::Long("only-missing") if target.conflict == Conflict::Refuse => {
                    target.conflict = Conflict::Skip;
                }
                Arg::Long("replace") if target.conflict == Conflict::Refuse => {
                    target.conflict = Conflict::Replace;
                }
                Arg::Long("only-missing" | "replace") => {
                    return Err("--only-missing and --replace exclude each other".into());
                }
                Arg::Long("database") => {
                    database = Some(parser.value().and_then(|value| value.parse()).map_err(told)?);
                }
                Arg::Long("base64") => is_base64 = true,
                other => return Err(told(other.unexpected())),
            }
        }
        let mut words = words.into_iter();
        let (Some(verb), Some(path)) = (words.next(), words.next().map(PathBuf::from)) else {
            return Err("it lacks what to do, or with what".into());
        };
        let names = words.map(|word| name_of(word, is_base64)).collect::<Result<Vec<_>, _>>()?;
        let selection = Selection { names, database };
        match verb.to_str() {
            Some("list") if selection.is_all() && options == 0 => Ok(Request::List(path)),
            Some("show") if options == 0 => Ok(Request::Show(path, selection)),
            Some("replay") if target.address.is_empty() => Err("replay needs --to HOST:PORT".into()),
            Some("replay") => Ok(Request::Replay(path, selection, target)),
            Some("list" | "show") => Err(format!("'{}' takes not all of that", verb.display())),
            _ => Err(format!("'{}' is not what it can do", verb.display())),
        }
    }

    /// Does it, and tells on `out` what was done. True if all was done.
    ///
    /// # Errors
    /// Why it was not, or not to its end.
    pub fn run(&self, out: &mut dyn Write) -> io::Result<bool> {
        match self {
            Request::Help => out.write_all(USAGE.as_bytes()).map(|()| true),
            Request::List(folder) => show::list(folder, out),
            Request::Show(file, selection) => show::show(file, selection, out).map(|()| true),
            Request::Replay(file, selection, target) => replay::replay(file, selection, target, out),
        }
    }
}

fn told(error: lexopt::Error) -> String {
    error.to_string()
}

fn name_of(word: OsString, is_base64: bool) -> Result<Vec<u8>, String> {
    use base64::Engine;
    if !is_base64 {
        return Ok(word.into_vec());
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(word.as_encoded_bytes());
    decoded.map_err(|error| format!("'{}' is no base64: {error}", word.display()))
}

/// A key as people read it: text that does no harm to a terminal, else bytes in hexadecimal behind a backslash.
fn shown(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(text) => format!("\"{}\"", text.escape_debug()),
        Err(_) => format!("\"{}\"", name.escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Request, String> {
        Request::parse(words.iter().map(OsString::from))
    }

    #[test]
    fn words_say_what_is_asked_for() {
        assert_eq!(parse(&["list", "/data"]), Ok(Request::List("/data".into())));
        assert_eq!(parse(&["--help"]), Ok(Request::Help));
        assert_eq!(parse(&["show", "f"]), Ok(Request::Show("f".into(), Selection::default())));
        let selection = Selection { names: vec![b"--k".to_vec(), b"b".to_vec()], database: Some(3) };
        assert_eq!(
            parse(&["show", "--database", "3", "f", "--", "--k", "b"]),
            Ok(Request::Show("f".into(), selection))
        );
        let target = Target {
            address: "h:1".into(),
            user: Some("u".into()),
            password_file: Some("p".into()),
            conflict: Conflict::Skip,
        };
        let selection = Selection { names: vec![b"\xff".to_vec()], database: None };
        assert_eq!(
            parse(&[
                "replay",
                "f",
                "/w==",
                "--base64",
                "--to=h:1",
                "--user",
                "u",
                "--password-file",
                "p",
                "--only-missing"
            ]),
            Ok(Request::Replay("f".into(), selection, target))
        );
        for wrong in [
            &[][..],
            &["list"],
            &["list", "a", "b"],
            &["show", "f", "--replace"],
            &["replay", "f"],
            &["replay", "f", "--to", "h:1", "--replace", "--only-missing"],
            &["replay", "f", "--to"],
            &["replay", "f", "--to", "h:1", "--database", "x"],
            &["replay", "f", "?", "--base64", "--to", "h:1"],
            &["forget", "f"],
        ] {
            parse(wrong).expect_err("it makes no sense");
        }
    }

    #[test]
    fn names_do_no_harm_to_a_terminal() {
        assert_eq!(shown(b"a\x1b[2J\n"), r#""a\u{1b}[2J\n""#);
        assert_eq!(shown(b"\xff\n"), r#""\xff\n""#);
    }
}
