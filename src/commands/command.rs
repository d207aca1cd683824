//! What a command is: its declaration, its handler, and what a handler gets and gives.

use crate::base::number;
use crate::protocol::args::Args;
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::{Argument, Flags, Group, KeySpec, Spec, flag};
use crate::session::copies::CopiesWanted;
use crate::session::multi::Queued;
use crate::session::service::Service;
use crate::session::session::Session;
use crate::store::{Interrupt, Key, Kind, Transaction, View};
use crate::types;
use std::ops::Range;

/// What a handler gets besides the data or the session.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The words, the command's name first.
    pub args: Args<'a>,
    /// The database selected.
    pub database: u16,
    /// Wall clock of this turn, milliseconds since 1970.
    pub now: i64,
    /// The settings in force when the turn began.
    pub settings: &'a crate::config::Settings,
    /// What all sessions share.
    pub service: &'a Service,
    /// The key that has changed, if the command was waiting for one: it takes what it waited for from there.
    pub ready: Option<&'a [u8]>,
}

impl<'a> Request<'a> {
    /// The key at word `index`.
    #[inline]
    pub fn key(&self, index: usize) -> Key<'a> {
        Key::new(self.database, self.args.at(index))
    }

    /// Whether a key is one to look at: all are, but for a command that was waiting and is served from one of them.
    pub fn is_for(&self, name: &[u8]) -> bool {
        self.ready.is_none_or(|ready| ready == name)
    }

    /// Refuses to make a reply of at least `len_min` bytes if the client would be closed over it anyway.
    pub fn reply_fits(&self, len_min: u64) -> Result<(), Failure> {
        let [normal, ..] = self.settings.client_output_buffer_limit;
        if normal.hard == 0 || len_min <= normal.hard { Ok(()) } else { Err(Failure::ReplyTooLong) }
    }

    /// A key of the selected database.
    #[inline]
    pub fn key_named(&self, name: &'a [u8]) -> Key<'a> {
        Key::new(self.database, name)
    }
}

/// Why a handler gave no reply.
#[derive(Debug)]
pub enum Failure {
    /// The client made a mistake, or may not.
    Error(ErrorReply),
    /// The command must stop; it may have to run again.
    Interrupt(Interrupt),
    /// The command must wait for a key to change, and then run again.
    Wait(Box<Wait>),
    /// The command must wait for copies of what the connection wrote.
    Copies(CopiesWanted),
    /// The reply would be more than the client may have waiting (`client-output-buffer-limit`): it is closed before the reply is made.
    ReplyTooLong,
}

/// What a blocking command waits for. Inside MULTI and scripts nothing waits.
#[derive(Debug)]
pub struct Wait {
    /// The type of value it waits for.
    pub kind: Kind,
    /// Indices of the words that are the keys.
    pub keys: Vec<usize>,
    /// Index of the word that names the key which is changed as well when the wait is over (BLMOVE).
    pub target: Option<usize>,
    /// For how long, in milliseconds; none is for ever.
    pub timeout_ms: Option<u64>,
    /// The reply when that is over.
    pub on_timeout: Reply,
    /// The reply where nothing waits.
    pub at_once: Reply,
    /// The words to run then, if they are not the same (`XREAD … $`); `keys` are indices of these.
    pub words: Option<Queued>,
}

impl Wait {
    /// A wait for any of the keys among these words, for a command that has no more to say when it is over.
    pub fn for_any(kind: Kind, keys: Range<usize>, timeout_ms: Option<u64>) -> Wait {
        Wait {
            kind,
            keys: keys.collect(),
            target: None,
            timeout_ms,
            on_timeout: Reply::NullArray,
            at_once: Reply::NullArray,
            words: None,
        }
    }

    /// How long a word, which is in seconds, says that a command may wait at most, in milliseconds; none is for ever.
    pub fn timeout_ms(word: &[u8]) -> Result<Option<u64>, ErrorReply> {
        const NOT_A_FLOAT: ErrorReply = ErrorReply::fixed("ERR timeout is not a float or out of range");
        let seconds = number::parse_f64(word).filter(|seconds| !seconds.is_nan()).ok_or(NOT_A_FLOAT)?;
        let ms = (seconds * 1000.0).ceil();
        // What is beyond the range of an integer is negative in Redis 7.0, and so it is refused.
        if ms < 0.0 || ms >= i64::MAX as f64 {
            return Err(ErrorReply::fixed("ERR timeout is negative"));
        }
        Ok(Some(ms as u64).filter(|ms| *ms > 0))
    }
}

impl From<Wait> for Failure {
    fn from(wait: Wait) -> Failure {
        Failure::Wait(Box::new(wait))
    }
}

/// What a handler gives.
pub type Outcome = Result<Reply, Failure>;

impl From<ErrorReply> for Failure {
    fn from(error: ErrorReply) -> Failure {
        Failure::Error(error)
    }
}

impl From<Interrupt> for Failure {
    fn from(interrupt: Interrupt) -> Failure {
        Failure::Interrupt(interrupt)
    }
}

impl From<types::error::Error> for Failure {
    fn from(refused: types::error::Error) -> Failure {
        use types::error::Error;
        Failure::Error(match refused {
            Error::WrongType => error::WRONG_TYPE,
            Error::NotAnInteger => error::NOT_AN_INTEGER,
            Error::NotAFloat => error::NOT_A_FLOAT,
            Error::Overflow => error::OVERFLOW,
            Error::NanOrInfinity => error::NAN_OR_INFINITY,
            Error::TooLong => error::STRING_TOO_LONG,
            Error::Interrupt(interrupt) => return Failure::Interrupt(interrupt),
        })
    }
}

/// What runs a command.
#[derive(Clone, Copy)]
pub enum Handler {
    /// Reads data.
    Read(fn(&Request, &mut View) -> Outcome),
    /// Changes data.
    Write(fn(&Request, &mut Transaction) -> Outcome),
    /// Concerns the connection or the server, not data.
    Session(fn(&Request, &mut Session) -> Outcome),
    /// Has subcommands only.
    Container,
}

/// A command: declaration, handler, subcommands.
#[derive(Clone, Copy)]
pub struct Command {
    /// The declaration.
    pub spec: Spec,
    /// What runs it.
    pub handler: Handler,
    /// Its subcommands; their arity counts the container's name.
    pub subcommands: &'static [Command],
}

const fn command(name: &'static str, handler: Handler, flags: Flags) -> Command {
    let spec = Spec {
        name,
        arity: 0,
        flags,
        keys: &[],
        group: Group::Generic,
        summary: "",
        since: "1.0.0",
        complexity: "",
        arguments: &[],
        history: &[],
        tips: &[],
        deprecated: None,
        extra_categories: &[],
    };
    Command { spec, handler, subcommands: &[] }
}

/// A command that reads data.
pub const fn read(name: &'static str, handler: fn(&Request, &mut View) -> Outcome) -> Command {
    command(name, Handler::Read(handler), flag::READONLY)
}

/// A command that changes data.
pub const fn write(name: &'static str, handler: fn(&Request, &mut Transaction) -> Outcome) -> Command {
    command(name, Handler::Write(handler), flag::WRITE)
}

/// A command that reads data, and where it may be changed notes in it what it found out.
pub const fn read_and_note(
    name: &'static str,
    handler: fn(&Request, &mut Transaction) -> Outcome,
) -> Command {
    command(name, Handler::Write(handler), flag::READONLY.and(flag::MAY_REPLICATE))
}

/// A command on the connection or the server.
pub const fn session(name: &'static str, handler: fn(&Request, &mut Session) -> Outcome) -> Command {
    command(name, Handler::Session(handler), Flags(0))
}

/// A command that only has subcommands.
pub const fn container(name: &'static str, subcommands: &'static [Command]) -> Command {
    let mut made = command(name, Handler::Container, Flags(0));
    made.subcommands = subcommands;
    made
}

impl Command {
    /// Number of words, name (and container) included; negative means "at least".
    pub const fn arity(mut self, arity: i32) -> Command {
        self.spec.arity = arity;
        self
    }
    /// Flags beyond `WRITE` and `READONLY`, which the handler's type sets.
    pub const fn flags(mut self, flags: Flags) -> Command {
        self.spec.flags = self.spec.flags.and(flags);
        self
    }
    /// Neither `write` nor `readonly` in COMMAND although the handler reads data (DBSIZE and the like keep theirs).
    pub const fn without(mut self, flags: Flags) -> Command {
        self.spec.flags = self.spec.flags.without(flags);
        self
    }
    /// Which words are keys.
    pub const fn keys(mut self, keys: &'static [KeySpec]) -> Command {
        self.spec.keys = keys;
        self
    }
    /// Documentation group.
    pub const fn group(mut self, group: Group) -> Command {
        self.spec.group = group;
        self
    }
    /// One line in our own words.
    pub const fn summary(mut self, summary: &'static str) -> Command {
        self.spec.summary = summary;
        self
    }
    /// The Redis version that brought it.
    pub const fn since(mut self, since: &'static str) -> Command {
        self.spec.since = since;
        self
    }
    /// Cost in words.
    pub const fn complexity(mut self, complexity: &'static str) -> Command {
        self.spec.complexity = complexity;
        self
    }
    /// The syntax tree.
    pub const fn arguments(mut self, arguments: &'static [Argument]) -> Command {
        self.spec.arguments = arguments;
        self
    }
    /// Changes by version, oldest first.
    pub const fn history(mut self, history: &'static [(&'static str, &'static str)]) -> Command {
        self.spec.history = history;
        self
    }
    /// Hints for clients and proxies.
    pub const fn tips(mut self, tips: &'static [&'static str]) -> Command {
        self.spec.tips = tips;
        self
    }
    /// Not to be used since this version; what to use instead.
    pub const fn deprecated(mut self, since: &'static str, instead: &'static str) -> Command {
        self.spec.deprecated = Some((since, instead));
        self
    }
    /// ACL categories beyond those that follow from group and flags.
    pub const fn categories(mut self, categories: &'static [&'static str]) -> Command {
        self.spec.extra_categories = categories;
        self
    }
    /// Subcommands of a command that can also be called alone (COMMAND).
    pub const fn subcommands(mut self, subcommands: &'static [Command]) -> Command {
        self.subcommands = subcommands;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_redis_reads_them() {
        let ms = |word: &str| Wait::timeout_ms(word.as_bytes()).map_err(|refused| refused.0.into_owned());
        assert_eq!(ms("0"), Ok(None));
        assert_eq!(ms("1"), Ok(Some(1000)));
        assert_eq!(ms("0.0001"), Ok(Some(1)));
        for word in ["-1", "inf", "1e300", "9223372036854776"] {
            assert_eq!(ms(word), Err(b"ERR timeout is negative".to_vec()), "{word}");
        }
        for word in ["", "x", "nan"] {
            assert_eq!(ms(word), Err(b"ERR timeout is not a float or out of range".to_vec()), "{word}");
        }
    }
}
