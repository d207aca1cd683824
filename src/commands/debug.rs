//! DEBUG: what test suites need to look inside and to bring about what is rare. What would harm the process is refused.

use super::{Command, Failure, Outcome, Request, help, session};
use crate::base::{glob, number};
use crate::protocol::encode::Version;
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::Group;
use crate::protocol::spec::flag::{ADMIN, LOADING, NOSCRIPT, PROTECTED, STALE};
use crate::session::session::Session;
use crate::store::{Key, PartitionSet, View};
use crate::types::{digest, keyspace, string};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[session("debug", debug)
    .arity(-2)
    .flags(ADMIN.and(NOSCRIPT).and(LOADING).and(STALE).and(PROTECTED))
    .group(Group::Server)
    .since("1.0.0")
    .complexity("Depends on the subcommand")
    .summary("Commands for tests of the server.")];

const HELP: &[&str] = &[
    "CHANGE-REPL-ID",
    "    Do nothing: there are no replicas.",
    "DIGEST",
    "    Show a digest of all data; equal data has an equal digest.",
    "DIGEST-VALUE <key> [<key> ...]",
    "    Show digests of single values.",
    "ERROR <string>",
    "    Answer with this error.",
    "HTSTATS <dbid>",
    "    Show how many keys a database has.",
    "LOADAOF, RELOAD [NOSAVE|NOFLUSH|MERGE]",
    "    Write a checkpoint.",
    "LOG <message>",
    "    Write a line into the log.",
    "OBJECT <key>",
    "    Show how a value is stored.",
    "PAUSE-CRON <0|1>",
    "    Let what happens by time rest: expiry, and the end after a signal.",
    "QUICKLIST-PACKED-THRESHOLD <bytes>, REPLYBUFFER <option> <value>",
    "SET-DISABLE-DENY-SCRIPTS <0|1>, DICT-RESIZING <0|1>",
    "    Do nothing.",
    "POPULATE <count> [<prefix>] [<size>]",
    "    Make <count> strings called <prefix>:<number>.",
    "PROTOCOL <type>",
    "    Answer with a value of this type of the protocol.",
    "SET-ACTIVE-EXPIRE <0|1>",
    "    Remove keys when their time has come, or only hide them.",
    "SLEEP <seconds>",
    "    Hold up this client's thread.",
    "STRINGMATCH-LEN <len> <pattern>",
    "    Match <len> letters against <pattern>.",
];

fn debug(request: &Request, session: &mut Session) -> Outcome {
    let args = &request.args;
    let subcommand = args.at(1).to_ascii_lowercase();
    match (subcommand.as_slice(), args.len()) {
        (b"help", 2) => Ok(help("DEBUG", HELP)),
        (b"sleep", 3) => sleep(args.at(2)),
        (b"set-active-expire", 3) => {
            let is_on = leading_number(args.at(2)) != 0.0;
            request.service.active_expire.store(is_on, Ordering::Relaxed);
            Ok(Reply::Ok)
        }
        (b"digest", 2) => show_digest(request),
        (b"digest-value", 3..) => digests_of_values(request),
        (b"object", 3 | 4) => object(request),
        (b"populate", 3..=5) => populate(request, session),
        (b"protocol", 3) => protocol_value(args.at(2), session.version),
        (b"reload", _) => reload(request),
        (b"loadaof", 2) => checkpoint(request),
        (b"error", 3) => Err(ErrorReply::new(args.at(2)).into()),
        (b"log", 3) => {
            tracing::warn!("DEBUG LOG: {}", String::from_utf8_lossy(args.at(2)));
            Ok(Reply::Ok)
        }
        (b"stringmatch-len", 4) => {
            let text = vec![b'a'; args.int(2)?.clamp(0, 1 << 24) as usize];
            Ok(Reply::Int(i64::from(glob::matches(args.at(3), &text, false))))
        }
        (b"quicklist-packed-threshold", 3) => packed_threshold(args.at(2)),
        (b"htstats", 3..=4) => table_figures(request),
        (b"htstats-key", 3..=4) => Err(NOT_A_TABLE.into()),
        (b"listpack" | b"ziplist", 3) => Err(ErrorReply::fixed("ERR Not a listpack encoded object.").into()),
        (b"change-repl-id", 2) | (b"replybuffer", 4) => Ok(Reply::Ok),
        (b"pause-cron", 3) => {
            let rests = leading_number(args.at(2)) != 0.0;
            request.service.housekeeping_rests.store(rests, Ordering::Relaxed);
            Ok(Reply::Ok)
        }
        (b"set-disable-deny-scripts" | b"dict-resizing", 3) => Ok(Reply::Ok),
        (b"panic" | b"segfault" | b"assert" | b"restart" | b"crash-and-recover" | b"oom" | b"leak", _) => {
            Err(ErrorReply::fixed("ERR Larder refuses to harm itself: end the process by a signal instead")
                .into())
        }
        _ => Err(error::unknown_or_wrong_arity("DEBUG", args.at(1)).into()),
    }
}

const NOT_A_TABLE: ErrorReply =
    ErrorReply::fixed("ERR The value stored at the specified key is not represented using an hash table");

/// The number that a text begins with, as C reads it: zero if there is none.
fn leading_number(text: &[u8]) -> f64 {
    let len = text.iter().take_while(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-')).count();
    number::parse_f64(&text[..len]).unwrap_or(0.0)
}

/// Holds up the thread on purpose, and with it the other connections it serves: that is what suites use it for.
fn sleep(seconds: &[u8]) -> Outcome {
    std::thread::sleep(Duration::try_from_secs_f64(leading_number(seconds)).unwrap_or_default());
    Ok(Reply::Ok)
}

fn everything<'a>(request: &Request<'a>) -> View<'a> {
    request.service.store.view(&PartitionSet::All, request.now)
}

fn show_digest(request: &Request) -> Outcome {
    let databases = u16::try_from(request.settings.databases).unwrap_or(u16::MAX);
    Ok(Reply::Status(digest::of_data(&mut everything(request), databases)?.to_string()))
}

fn digests_of_values(request: &Request) -> Outcome {
    let mut view = everything(request);
    let digests = request.args.from(2).map(|name| digest::of_value(&mut view, &request.key_named(name)));
    let shown = digests.map(|digest| Ok(Reply::Status(digest?.to_string())));
    Ok(Reply::Array(shown.collect::<Result<_, Failure>>()?))
}

fn object(request: &Request) -> Outcome {
    let key = request.key(2);
    let mut view = everything(request);
    let entry = view.peek(&key)?.ok_or(error::NO_SUCH_KEY)?;
    let idle = view.idle_s(&key);
    let bytes = entry.payload().len() as u64 + entry.items().map_or(0, |items| items.bytes);
    let encoding = keyspace::encoding_name(&entry);
    Ok(Reply::Status(format!(
        "Value at:0x0 refcount:1 encoding:{encoding} serializedlength:{bytes} lru:{} lru_seconds_idle:{idle}",
        (request.now / 1000) & 0xFF_FFFF
    )))
}

/// Makes the strings that are missing, each in a transaction of its own so that others get on in between.
fn populate(request: &Request, session: &mut Session) -> Outcome {
    let args = &request.args;
    let positive = |index: usize| {
        number::parse_i64(args.at(index)).filter(|number| *number >= 0).ok_or(error::OUT_OF_RANGE_POSITIVE)
    };
    let count = positive(2)?;
    let prefix = args.get(3).unwrap_or(b"key");
    let size = if args.len() == 5 { positive(4)? as usize } else { 0 };
    for index in 0..count {
        let name = [prefix, b":", index.to_string().as_bytes()].concat();
        let key = Key::new(request.database, &name);
        let mut value = format!("value:{index}").into_bytes();
        if size > 0 {
            value.resize(size, 0);
        }
        let partition = PartitionSet::One(request.service.store.partition_of(key.slot));
        let mut transaction = request.service.store.transaction(&partition, request.now);
        if transaction.peek(&key)?.is_none() {
            string::store(&mut transaction, &key, &value, None)?;
            transaction.admit(true)?;
            session.note_write(transaction.commit());
        }
    }
    Ok(Reply::Ok)
}

#[expect(clippy::approx_constant, reason = "clients' tests expect this very number")]
fn protocol_value(name: &[u8], version: Version) -> Outcome {
    let numbers = || (0..3).map(Reply::Int).collect();
    let value = match name.to_ascii_lowercase().as_slice() {
        b"string" => Reply::Text("Hello World"),
        b"integer" => Reply::Int(12_345),
        b"double" => Reply::Double(3.141),
        b"null" => Reply::Null,
        b"array" => Reply::Array(numbers()),
        b"set" => Reply::Set(numbers()),
        b"map" => Reply::Map((0..3).flat_map(|index| [Reply::Int(index), Reply::Bool(index == 1)]).collect()),
        b"attrib" => {
            let popularity = Reply::Array(vec![Reply::Text("key:123"), Reply::Int(90)]);
            let attributes = vec![Reply::Text("key-popularity"), popularity];
            let answer = Reply::Text("Some real reply following the attribute");
            Reply::Attributed(attributes, Box::new(answer))
        }
        b"push" if version == Version::Resp2 => {
            return Err(ErrorReply::fixed("ERR RESP2 is not supported by this command").into());
        }
        // A push is no reply: one has to follow, or the client would wait for it.
        b"push" => Reply::Many(vec![
            Reply::Push(vec![Reply::Text("server-cpu-usage"), Reply::Int(42)]),
            Reply::Text("Some real reply following the push reply"),
        ]),
        b"verbatim" => Reply::Verbatim("txt", "This is a verbatim\nstring".to_owned()),
        b"true" => Reply::Bool(true),
        b"false" => Reply::Bool(false),
        b"bignum" => Reply::BigNumber("1234567999999999999999999999999999999".to_owned()),
        _ => return Err(ErrorReply::fixed("ERR Wrong protocol type name. Please use one of the following: string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false").into()),
    };
    Ok(value)
}

fn reload(request: &Request) -> Outcome {
    const OPTIONS: [&[u8]; 3] = [b"MERGE", b"NOFLUSH", b"NOSAVE"];
    let mut words = request.args.from(2);
    if words.all(|word| OPTIONS.iter().any(|option| word.eq_ignore_ascii_case(option))) {
        return checkpoint(request);
    }
    let refused = "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.";
    Err(ErrorReply::fixed(refused).into())
}

/// There is nothing to load: what is read comes from the trees anyway. A checkpoint at least makes all of it pass through.
fn checkpoint(request: &Request) -> Outcome {
    match request.service.store.checkpoint_now() {
        Ok(()) => Ok(Reply::Ok),
        Err(error) => Err(ErrorReply::new(format!("ERR the checkpoint failed: {error}")).into()),
    }
}

fn packed_threshold(word: &[u8]) -> Outcome {
    // 0 is the default again; Redis keeps away from 4 GB by a megabyte.
    let is_fine = number::parse_memory(word).is_some_and(|bytes| bytes <= (1 << 32) - (1 << 20));
    if is_fine {
        return Ok(Reply::Ok);
    }
    let refused = "ERR argument must be a memory value bigger than 1 and smaller than 4gb";
    Err(ErrorReply::fixed(refused).into())
}

fn table_figures(request: &Request) -> Outcome {
    let database = request.args.int(2)?;
    if !(0..i64::from(request.settings.databases)).contains(&database) {
        return Err(ErrorReply::fixed("ERR Out of range database").into());
    }
    let counters = request.service.store.counters(database as u16);
    let (keys, expires) = (counters.keys, counters.expires);
    Ok(Reply::Verbatim(
        "txt",
        format!(
            "[Dictionary HT]\n number of elements: {keys}\n[Expires HT]\n number of elements: {expires}\n"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_c_reads_them() {
        for (text, number) in [("0.5", 0.5), ("1x", 1.0), ("abc", 0.0), ("", 0.0), ("-1", -1.0)] {
            assert!((leading_number(text.as_bytes()) - number).abs() < f64::EPSILON, "{text}");
        }
    }
}
