//! Errors as the client reads them: Redis's prefix and Redis's words, to the letter.

use std::borrow::Cow;

/// The text of an error reply, prefix (`ERR`, `WRONGTYPE`, …) included, without `-` and line end. Words of clients in it may be
/// any bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorReply(pub Cow<'static, [u8]>);

/// How much of a client's word an error repeats, in bytes.
const SHOWN_LEN_MAX: usize = 128;

impl ErrorReply {
    /// An error whose words are known when compiling.
    pub const fn fixed(text: &'static str) -> ErrorReply {
        ErrorReply(Cow::Borrowed(text.as_bytes()))
    }

    /// An error with words of the moment. Line ends in it become spaces, as in Redis.
    pub fn new(text: impl Into<Vec<u8>>) -> ErrorReply {
        let mut text: Vec<u8> = text.into();
        text.iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n')).for_each(|byte| *byte = b' ');
        ErrorReply(Cow::Owned(text))
    }

    /// An error that repeats a client's word. Line ends at its end are left out, as in Redis.
    pub fn quoting(before: &str, word: &[u8], after: &str) -> ErrorReply {
        let mut text = [before.as_bytes(), shown(word, usize::MAX), after.as_bytes()].concat();
        while matches!(text.last(), Some(b'\r' | b'\n')) {
            text.pop();
        }
        ErrorReply::new(text)
    }

    /// The prefix: what stands before the first space.
    pub fn code(&self) -> &str {
        let code = self.0.split(|&byte| byte == b' ').next().unwrap_or_default();
        std::str::from_utf8(code).unwrap_or_default()
    }
}

/// The part of a client's word that an error repeats: Redis takes it for a C string, which ends at the first zero byte.
pub fn shown(word: &[u8], len_max: usize) -> &[u8] {
    let word = &word[..word.len().min(len_max)];
    word.iter().position(|&byte| byte == 0).map_or(word, |end| &word[..end])
}

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: ErrorReply = ErrorReply::fixed($text);)*
    };
}

errors! {
    /// The key holds another type.
    WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value";
    /// Options do not fit together.
    SYNTAX = "ERR syntax error";
    /// An argument or a stored value is no 64-bit integer.
    NOT_AN_INTEGER = "ERR value is not an integer or out of range";
    /// An argument or a stored value is no number.
    NOT_A_FLOAT = "ERR value is not a valid float";
    /// The command needs the key to exist.
    NO_SUCH_KEY = "ERR no such key";
    /// An index beyond what there is.
    INDEX_OUT_OF_RANGE = "ERR index out of range";
    /// A number beyond what the command takes.
    OUT_OF_RANGE = "ERR value is out of range";
    /// A negative number where only positive ones make sense.
    OUT_OF_RANGE_POSITIVE = "ERR value is out of range, must be positive";
    /// An integer where Redis reads a C `int`.
    OUT_OF_INT = "ERR value is out of range, value must between -2147483648 and 2147483647";
    /// A string would grow beyond `proto-max-bulk-len`.
    STRING_TOO_LONG = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    /// A database number beyond `databases`.
    DB_OUT_OF_RANGE = "ERR DB index is out of range";
    /// `INCR` and its kin would leave the 64-bit range.
    OVERFLOW = "ERR increment or decrement would overflow";
    /// `INCRBYFLOAT` would make something that is no number.
    NAN_OR_INFINITY = "ERR increment would produce NaN or Infinity";
    /// A cursor that is no unsigned number.
    INVALID_CURSOR = "ERR invalid cursor";
    /// A command needs authentication first.
    NO_AUTH = "NOAUTH Authentication required.";
    /// `min-replicas-to-write` is not met.
    NO_REPLICAS = "NOREPLICAS Not enough good replicas to write.";
    /// This node follows another one, which takes the changes.
    READ_ONLY = "READONLY You can't write against a read only replica.";
    /// What is here may be old, and `replica-serve-stale-data` is off.
    MASTER_DOWN = "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.";
    /// The password or the user is wrong.
    WRONG_PASS = "WRONGPASS invalid username-password pair or user is disabled.";
    /// `maxmemory` is reached and nothing may be evicted.
    OUT_OF_MEMORY = "OOM command not allowed when used memory > 'maxmemory'.";
    /// `EXEC` after an error while queueing.
    EXEC_ABORT = "EXECABORT Transaction discarded because of previous errors.";
    /// The target name of a `COPY`, `RESTORE`, … is taken.
    BUSY_KEY = "BUSYKEY Target key name already exists.";
}

/// The reply to a wrong number of arguments; `name` is the full command name as declared (`config|get`).
pub fn wrong_arity(name: &str) -> ErrorReply {
    ErrorReply::new(format!("ERR wrong number of arguments for '{}' command", name.to_ascii_lowercase()))
}

/// The reply to an unknown subcommand of `container`.
pub fn unknown_subcommand(container: &str, subcommand: &[u8]) -> ErrorReply {
    let after = format!("'. Try {} HELP.", container.to_ascii_uppercase());
    ErrorReply::quoting("ERR unknown subcommand '", shown(subcommand, SHOWN_LEN_MAX), &after)
}

/// The reply to a subcommand of `container` that checks the number of its words by itself.
pub fn unknown_or_wrong_arity(container: &str, subcommand: &[u8]) -> ErrorReply {
    let after = format!("'. Try {} HELP.", container.to_ascii_uppercase());
    let subcommand = shown(subcommand, SHOWN_LEN_MAX);
    ErrorReply::quoting("ERR unknown subcommand or wrong number of arguments for '", subcommand, &after)
}

/// The reply to an expire time that does not fit; `name` is the command's lower-case name.
pub fn invalid_expire(name: &str) -> ErrorReply {
    ErrorReply::new(format!("ERR invalid expire time in '{}' command", name.to_ascii_lowercase()))
}
