//! CLIENT: what a connection says of itself, and what it does to others.

use super::{Command, Outcome, Request, container, help, session};
use crate::base::concern::WriteConcern;
use crate::base::{clock, number};
use crate::protocol::args::{Args, Cursor};
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::Group;
use crate::protocol::spec::flag::{ADMIN, LOADING, NOSCRIPT, STALE};
use crate::protocol::spec::syntax::{block, integer, one_of, string, token};
use crate::protocol::spec::{Argument, Flags};
use crate::session::client::{Client, Kind, Letter, Profile};
use crate::session::pause::Scope;
use crate::session::session::{DEFAULT_USER, Replies, Session};

const ANYTIME: Flags = NOSCRIPT.and(LOADING).and(STALE);
const ADMINISTRATION: Flags = ANYTIME.and(ADMIN);
const ON_OFF: &[Argument] = &[token("on", "ON"), token("off", "OFF")];
const KINDS: &[Argument] = &[
    token("normal", "NORMAL"),
    token("master", "MASTER"),
    token("replica", "REPLICA"),
    token("pubsub", "PUBSUB"),
];
const KILL_FILTERS: &[Argument] = &[
    integer("client-id").token("ID").optional().since("2.8.12"),
    one_of(
        "normal_master_slave_pubsub",
        &[
            token("normal", "NORMAL"),
            token("master", "MASTER").since("3.2.0"),
            token("slave", "SLAVE"),
            token("replica", "REPLICA").since("5.0.0"),
            token("pubsub", "PUBSUB"),
        ],
    )
    .token("TYPE")
    .optional()
    .since("2.8.12"),
    string("username").token("USER").optional(),
    string("ip:port").token("ADDR").optional(),
    string("ip:port").token("LADDR").optional().since("6.2.0"),
    one_of("skipme", &[token("yes", "YES"), token("no", "NO")]).token("SKIPME").optional(),
];

const fn part(
    command: Command,
    arity: i32,
    flags: Flags,
    since: &'static str,
    summary: &'static str,
) -> Command {
    command
        .arity(arity)
        .flags(flags)
        .group(Group::Connection)
        .since(since)
        .complexity("O(1)")
        .summary(summary)
}

const UNKNOWN_CONCERN: &str = "ERR write concern must be LOCAL, ONE, MAJORITY, ALL or DEFAULT";
const ALL_CLIENTS: &str = "O(N) for N connections.";

/// The container with its parts.
pub const CLIENT: Command = container(
    "client",
    &[
        part(
            session("caching", caching),
            3,
            ANYTIME,
            "6.0.0",
            "Says whether the next command's keys are tracked.",
        )
        .arguments(&[one_of("mode", &[token("yes", "YES"), token("no", "NO")])]),
        part(session("getname", getname), 2, ANYTIME, "2.6.9", "Returns the connection's name."),
        part(session("getredir", getredir), 2, ANYTIME, "6.0.0", "Returns where tracking messages are sent."),
        part(
            session("help", client_help),
            2,
            LOADING.and(STALE),
            "5.0.0",
            "Lists the parts of this command.",
        ),
        part(session("id", id), 2, ANYTIME, "5.0.0", "Returns the connection's number."),
        part(session("info", info), 2, ANYTIME, "6.2.0", "Describes this connection.")
            .tips(&["nondeterministic_output"]),
        part(session("kill", kill), -3, ADMINISTRATION, "2.4.0", "Closes connections.")
            .complexity(ALL_CLIENTS)
            .history(&[
                ("2.8.12", "Filters by `ID`, `TYPE`, `ADDR` and `SKIPME`."),
                ("3.2.0", "The type `master`."),
                ("5.0.0", "The type `replica`, formerly `slave`."),
                ("6.2.0", "The filter `LADDR`."),
            ])
            .arguments(&[one_of(
                "filter",
                &[
                    string("ip:port").deprecated_since("2.8.12"),
                    one_of("new-format", KILL_FILTERS).multiple(),
                ],
            )]),
        part(session("list", list), -2, ADMINISTRATION, "2.4.0", "Describes connections, one a line.")
            .complexity(ALL_CLIENTS)
            .tips(&["nondeterministic_output"])
            .history(&[
                ("2.8.12", "The field `id`."),
                ("5.0.0", "The filter `TYPE`."),
                ("6.0.0", "The field `user`."),
                ("6.2.0", "The fields `argv-mem`, `tot-mem`, `laddr`, `redir`, and the filter `ID`."),
                ("7.0.0", "The fields `resp`, `multi-mem`, `rbs`, `rbp`."),
                ("7.0.3", "The field `ssub`."),
                ("7.2.0", "The fields `lib-name` and `lib-ver`."),
            ])
            .arguments(&[
                one_of("normal_master_replica_pubsub", KINDS).token("TYPE").optional().since("5.0.0"),
                block("id", &[integer("client-id").multiple()]).token("ID").optional().since("6.2.0"),
            ]),
        part(
            session("no-evict", no_evict),
            3,
            ADMINISTRATION,
            "7.0.0",
            "Spares this connection from client eviction.",
        )
        .arguments(&[one_of("enabled", ON_OFF)]),
        part(
            session("no-touch", no_touch),
            3,
            ANYTIME,
            "7.2.0",
            "Lets commands leave the keys' access times alone.",
        )
        .arguments(&[one_of("enabled", ON_OFF)]),
        part(session("pause", pause), -3, ADMINISTRATION, "2.9.50", "Lets all clients wait for some time.")
            .history(&[("6.2.0", "The mode `WRITE`.")])
            .arguments(&[
                integer("timeout"),
                one_of("mode", &[token("write", "WRITE"), token("all", "ALL")]).optional().since("6.2.0"),
            ]),
        part(
            session("reply", reply),
            3,
            ANYTIME,
            "3.2.0",
            "Switches the replies of this connection on and off.",
        )
        .arguments(&[one_of(
            "on_off_skip",
            &[token("on", "ON"), token("off", "OFF"), token("skip", "SKIP")],
        )]),
        part(
            session("setinfo", setinfo),
            4,
            ANYTIME,
            "7.2.0",
            "Notes name or version of the client library.",
        )
        .arguments(&[one_of(
            "attr",
            &[string("libname").token("LIB-NAME"), string("libver").token("LIB-VER")],
        )]),
        part(session("setname", setname), 3, ANYTIME, "2.6.9", "Names the connection.")
            .arguments(&[string("connection-name")]),
        part(session("tracking", tracking), -3, ANYTIME, "6.0.0", "Switches client-side caching support.")
            .complexity("O(1)")
            .arguments(&[
                one_of("status", ON_OFF),
                integer("client-id").token("REDIRECT").optional(),
                string("prefix").token("PREFIX").optional().multiple_token(),
                token("bcast", "BCAST").optional(),
                token("optin", "OPTIN").optional(),
                token("optout", "OPTOUT").optional(),
                token("noloop", "NOLOOP").optional(),
            ]),
        part(
            session("trackinginfo", trackinginfo),
            2,
            ANYTIME,
            "6.2.0",
            "Describes this connection's tracking.",
        ),
        part(session("unblock", unblock), -3, ADMINISTRATION, "5.0.0", "Ends another connection's wait.")
            .complexity("O(log N) for N connections.")
            .arguments(&[
                integer("client-id"),
                one_of("timeout_error", &[token("timeout", "TIMEOUT"), token("error", "ERROR")]).optional(),
            ]),
        part(
            session("write-concern", write_concern),
            -2,
            ANYTIME,
            "7.2.0",
            "Says on how many nodes this connection's writes are stored before their replies.",
        )
        .arguments(&[one_of(
            "concern",
            &[
                token("local", "LOCAL"),
                token("one", "ONE"),
                token("majority", "MAJORITY"),
                token("all", "ALL"),
                token("default", "DEFAULT"),
            ],
        )
        .optional()]),
        part(session("unpause", unpause), 2, ADMINISTRATION, "6.2.0", "Ends CLIENT PAUSE.")
            .complexity(ALL_CLIENTS),
    ],
)
.arity(-2)
.group(Group::Connection)
.since("2.4.0")
.complexity("Depends on subcommand.")
.summary("A container for commands on connections.");

fn client_help(_: &Request, _: &mut Session) -> Outcome {
    Ok(help(
        "CLIENT",
        &[
            "CACHING (YES|NO)",
            "    Track the keys of the next command, or not.",
            "GETREDIR",
            "    Where tracking messages of this connection are sent.",
            "GETNAME",
            "    The name of this connection.",
            "ID",
            "    The number of this connection.",
            "INFO",
            "    A description of this connection.",
            "KILL <ip:port>",
            "    Close the connection from this address.",
            "KILL <option> <value> [<option> <value> [...]]",
            "    Close all connections that match ID, ADDR, LADDR, TYPE, USER; SKIPME NO includes this one.",
            "LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB)] [ID <id> [...]]",
            "    Descriptions of connections.",
            "NO-EVICT (ON|OFF)",
            "    Spare this connection when clients are evicted.",
            "NO-TOUCH (ON|OFF)",
            "    Leave the access times of keys alone.",
            "PAUSE <milliseconds> [WRITE|ALL]",
            "    Let commands of all clients wait.",
            "UNPAUSE",
            "    End the pause.",
            "REPLY (ON|OFF|SKIP)",
            "    Whether commands of this connection are answered.",
            "SETINFO (LIB-NAME|LIB-VER) <value>",
            "    Name or version of the client library.",
            "SETNAME <name>",
            "    Name this connection.",
            "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]] [OPTIN] [OPTOUT] [NOLOOP]",
            "    Support of client-side caching.",
            "TRACKINGINFO",
            "    The state of tracking.",
            "UNBLOCK <id> [TIMEOUT|ERROR]",
            "    End the wait of another connection.",
            "WRITE-CONCERN [LOCAL|ONE|MAJORITY|ALL|DEFAULT]",
            "    On how many nodes writes of this connection are stored before their replies. Without a word: which it is.",
        ],
    ))
}

fn write_concern(request: &Request, session: &mut Session) -> Outcome {
    if request.args.len() > 3 {
        return Err(error::wrong_arity("client|write-concern").into());
    }
    let Some(word) = request.args.get(2) else {
        return Ok(Reply::Text(session.concern(request.settings, session.database).name()));
    };
    session.write_concern = match WriteConcern::named(word) {
        None if word.eq_ignore_ascii_case(b"DEFAULT") => None,
        None => return Err(ErrorReply::fixed(UNKNOWN_CONCERN).into()),
        chosen => chosen,
    };
    Ok(Reply::Ok)
}

fn id(_: &Request, session: &mut Session) -> Outcome {
    Ok(Reply::Int(session.id as i64))
}

fn getname(_: &Request, session: &mut Session) -> Outcome {
    Ok(if session.name.is_empty() { Reply::Null } else { Reply::bulk(&session.name) })
}

fn setname(request: &Request, session: &mut Session) -> Outcome {
    check_name(request.args.at(2))?;
    session.name = request.args.at(2).to_vec();
    session.touch();
    Ok(Reply::Ok)
}

fn is_printable(word: &[u8]) -> bool {
    word.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

/// Names stand in the lines of CLIENT LIST: no spaces, nothing that is not printed.
pub fn check_name(name: &[u8]) -> Result<(), ErrorReply> {
    if is_printable(name) {
        return Ok(());
    }
    Err(ErrorReply::fixed("ERR Client names cannot contain spaces, newlines or special characters."))
}

fn setinfo(request: &Request, session: &mut Session) -> Outcome {
    let (option, value) = (request.args.at(2), request.args.at(3));
    let field = if option.eq_ignore_ascii_case(b"LIB-NAME") {
        &mut session.library.0
    } else if option.eq_ignore_ascii_case(b"LIB-VER") {
        &mut session.library.1
    } else {
        return Err(ErrorReply::quoting("ERR Unrecognized option '", option, "'").into());
    };
    if !is_printable(value) {
        let option = String::from_utf8_lossy(option);
        let text = format!("ERR {option} cannot contain spaces, newlines or special characters.");
        return Err(ErrorReply::new(text).into());
    }
    *field = String::from_utf8_lossy(value).into_owned();
    session.touch();
    Ok(Reply::Ok)
}

fn info(_: &Request, session: &mut Session) -> Outcome {
    let mut line = session.client.describe(clock::unix_ms());
    line.push(b'\n');
    Ok(text(line))
}

fn text(bytes: Vec<u8>) -> Reply {
    Reply::Verbatim("txt", String::from_utf8_lossy(&bytes).into_owned())
}

fn list(request: &Request, _: &mut Session) -> Outcome {
    let args = request.args;
    let is = |at: usize, word: &str| args.get(at).is_some_and(|w| w.eq_ignore_ascii_case(word.as_bytes()));
    let clients = &request.service.clients;
    let chosen = if args.len() == 2 {
        clients.list()
    } else if args.len() == 4 && is(2, "TYPE") {
        let kind = kind_named(args.at(3))?;
        clients.list().into_iter().filter(|client| client.profile().kind() == kind).collect()
    } else if args.len() > 3 && is(2, "ID") {
        let read = |word| number::parse_i64(word).ok_or(ErrorReply::fixed("ERR Invalid client ID"));
        let ids = args.from(3).map(read).collect::<Result<Vec<i64>, ErrorReply>>()?;
        ids.into_iter().filter_map(|id| clients.get(id as u64)).collect()
    } else {
        return Err(error::SYNTAX.into());
    };
    let mut lines = Vec::new();
    let now_ms = clock::unix_ms();
    for client in chosen {
        lines.extend(client.describe(now_ms));
        lines.push(b'\n');
    }
    Ok(text(lines))
}

fn kind_named(word: &[u8]) -> Result<Kind, ErrorReply> {
    match word.to_ascii_lowercase().as_slice() {
        b"normal" => Ok(Kind::Normal),
        b"master" => Ok(Kind::Master),
        b"replica" | b"slave" => Ok(Kind::Replica),
        b"pubsub" => Ok(Kind::Pubsub),
        _ => Err(ErrorReply::quoting("ERR Unknown client type '", word, "'")),
    }
}

/// Which connections CLIENT KILL means.
struct KillFilter<'a> {
    id: Option<u64>,
    kind: Option<Kind>,
    user: Option<&'a [u8]>,
    address: Option<&'a [u8]>,
    local_address: Option<&'a [u8]>,
    skips_caller: bool,
}

impl<'a> KillFilter<'a> {
    fn read(mut cursor: Cursor<'a>) -> Result<KillFilter<'a>, ErrorReply> {
        let mut filter = KillFilter {
            id: None,
            kind: None,
            user: None,
            address: None,
            local_address: None,
            skips_caller: true,
        };
        while !cursor.is_done() {
            if cursor.left() < 2 {
                return Err(error::SYNTAX);
            }
            if cursor.eat("ID") {
                let id = number::parse_i64(cursor.word()?).filter(|&id| id > 0);
                filter.id =
                    Some(id.ok_or(ErrorReply::fixed("ERR client-id should be greater than 0"))? as u64);
            } else if cursor.eat("TYPE") {
                filter.kind = Some(kind_named(cursor.word()?)?);
            } else if cursor.eat("USER") {
                filter.user = Some(user_named(cursor.word()?)?);
            } else if cursor.eat("ADDR") {
                filter.address = Some(cursor.word()?);
            } else if cursor.eat("LADDR") {
                filter.local_address = Some(cursor.word()?);
            } else if cursor.eat("SKIPME") {
                filter.skips_caller = yes_or_no(cursor.word()?)?;
            } else {
                return Err(error::SYNTAX);
            }
        }
        Ok(filter)
    }

    fn matches(&self, client: &Client, profile: &Profile, caller: u64) -> bool {
        let is_address =
            |wanted: Option<&[u8]>, text: &str| wanted.is_none_or(|wanted| wanted == text.as_bytes());
        is_address(self.address, &client.peer.address)
            && is_address(self.local_address, &client.peer.local_address)
            && self.id.is_none_or(|id| id == client.id)
            && self.kind.is_none_or(|kind| kind == profile.kind())
            && self.user.is_none_or(|user| user == profile.user.as_bytes())
            && !(self.skips_caller && client.id == caller)
    }
}

fn yes_or_no(word: &[u8]) -> Result<bool, ErrorReply> {
    match word.to_ascii_lowercase().as_slice() {
        b"yes" => Ok(true),
        b"no" => Ok(false),
        _ => Err(error::SYNTAX),
    }
}

fn user_named(name: &[u8]) -> Result<&[u8], ErrorReply> {
    if name == DEFAULT_USER.as_bytes() {
        return Ok(name);
    }
    Err(ErrorReply::quoting("ERR No such user '", name, "'"))
}

fn kill(request: &Request, session: &mut Session) -> Outcome {
    let is_old_form = request.args.len() == 3;
    let filter = if is_old_form {
        KillFilter {
            address: Some(request.args.at(2)),
            skips_caller: false,
            ..KillFilter::read(request.args.cursor(3))?
        }
    } else {
        KillFilter::read(request.args.cursor(2))?
    };
    let mut killed = 0;
    for client in request.service.clients.list() {
        if !filter.matches(&client, &client.profile(), session.id) {
            continue;
        }
        killed += 1;
        if client.id == session.id {
            session.close_after_reply();
        } else {
            request.service.clients.close(&client);
        }
    }
    match (is_old_form, killed) {
        (true, 0) => Err(ErrorReply::fixed("ERR No such client").into()),
        (true, _) => Ok(Reply::Ok),
        (false, count) => Ok(Reply::Int(count)),
    }
}

fn pause(request: &Request, _: &mut Session) -> Outcome {
    let args = request.args;
    if args.len() > 4 {
        return Err(error::unknown_or_wrong_arity("CLIENT", args.at(1)).into());
    }
    let scope = match args.get(3).map(<[u8]>::to_ascii_lowercase).as_deref() {
        None | Some(b"all") => Scope::All,
        Some(b"write") => Scope::Writes,
        Some(_) => return Err(ErrorReply::fixed("ERR CLIENT PAUSE mode must be WRITE or ALL").into()),
    };
    let time = number::parse_i64(args.at(2));
    let time = time.ok_or(ErrorReply::fixed("ERR timeout is not an integer or out of range"))?;
    if time < 0 {
        return Err(ErrorReply::fixed("ERR timeout is negative").into());
    }
    let now_ms = clock::unix_ms();
    let end_ms = now_ms.checked_add(time).ok_or(ErrorReply::fixed("ERR timeout is out of range"))?;
    request.service.pause.begin(scope, end_ms, now_ms);
    Ok(Reply::Ok)
}

fn unpause(request: &Request, _: &mut Session) -> Outcome {
    request.service.pause.end();
    Ok(Reply::Ok)
}

fn reply(request: &Request, session: &mut Session) -> Outcome {
    match request.args.at(2).to_ascii_lowercase().as_slice() {
        b"on" => {
            session.replies = Replies::On;
            Ok(Reply::Ok)
        }
        b"off" => {
            session.replies = Replies::Off;
            Ok(Reply::Many(Vec::new()))
        }
        b"skip" => {
            if session.replies != Replies::Off {
                session.replies = Replies::SkipNext;
            }
            Ok(Reply::Many(Vec::new()))
        }
        _ => Err(error::SYNTAX.into()),
    }
}

fn on_or_off(args: Args) -> Result<bool, ErrorReply> {
    match args.at(2).to_ascii_lowercase().as_slice() {
        b"on" => Ok(true),
        b"off" => Ok(false),
        _ => Err(error::SYNTAX),
    }
}

fn no_evict(request: &Request, session: &mut Session) -> Outcome {
    session.is_no_evict = on_or_off(request.args)?;
    session.touch();
    Ok(Reply::Ok)
}

fn no_touch(request: &Request, session: &mut Session) -> Outcome {
    session.is_no_touch = on_or_off(request.args)?;
    session.touch();
    Ok(Reply::Ok)
}

fn unblock(request: &Request, _: &mut Session) -> Outcome {
    let args = request.args;
    if args.len() > 4 {
        return Err(error::unknown_or_wrong_arity("CLIENT", args.at(1)).into());
    }
    let with_error = match args.get(3).map(<[u8]>::to_ascii_lowercase).as_deref() {
        None | Some(b"timeout") => false,
        Some(b"error") => true,
        Some(_) => {
            return Err(ErrorReply::fixed("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR").into());
        }
    };
    let id = args.int(2)?;
    let found = request.service.clients.get(id as u64).filter(|client| client.is_waiting());
    if let Some(client) = &found {
        client.send(Letter::Unblock { with_error });
    }
    Ok(Reply::from(found.is_some()))
}

/// Client-side caching is not there yet: switching it on is refused, as a client that relied on it would keep stale data.
/// The options of TRACKING, which are checked before its switch.
fn check_tracking_options(request: &Request) -> Result<(), ErrorReply> {
    let mut cursor = request.args.cursor(3);
    let mut redirection = 0;
    while !cursor.is_done() {
        if cursor.left() > 1 && cursor.eat("REDIRECT") {
            if redirection != 0 {
                return Err(ErrorReply::fixed("ERR A client can only redirect to a single other client"));
            }
            redirection = cursor.int()?;
            if request.service.clients.get(redirection as u64).is_none() {
                let gone = "ERR The client ID you want redirect to does not exist";
                return Err(ErrorReply::fixed(gone));
            }
        } else if cursor.left() > 1 && cursor.eat("PREFIX") {
            cursor.word()?;
        } else if !["BCAST", "OPTIN", "OPTOUT", "NOLOOP"].iter().any(|option| cursor.eat(option)) {
            return Err(error::SYNTAX);
        }
    }
    Ok(())
}

fn tracking(request: &Request, _: &mut Session) -> Outcome {
    check_tracking_options(request)?;
    if !on_or_off(request.args)? {
        return Ok(Reply::Ok);
    }
    Err(ErrorReply::fixed("ERR client-side caching is not supported by this server").into())
}

fn caching(_: &Request, _: &mut Session) -> Outcome {
    Err(ErrorReply::fixed(
        "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
    )
    .into())
}

fn getredir(_: &Request, _: &mut Session) -> Outcome {
    Ok(Reply::Int(-1))
}

fn trackinginfo(_: &Request, _: &mut Session) -> Outcome {
    Ok(Reply::Map(vec![
        Reply::Text("flags"),
        Reply::Set(vec![Reply::Text("off")]),
        Reply::Text("redirect"),
        Reply::Int(-1),
        Reply::Text("prefixes"),
        Reply::Array(Vec::new()),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::client::Peer;
    use std::sync::Arc;

    #[test]
    fn filters_of_kill_are_taken_together() {
        let words: Vec<&[u8]> = vec![b"client", b"kill", b"ID", b"7", b"ADDR", b"a:1"];
        let (bytes, mut ranges) = (words.concat(), Vec::new());
        for word in &words {
            let start = ranges.last().map_or(0, |&(_, end)| end);
            ranges.push((start, start + word.len() as u32));
        }
        let filter = KillFilter::read(Args::new(&bytes, &ranges).cursor(2)).expect("well formed");
        let client = |id, address: &str| {
            Client::new(id, Peer { address: address.into(), ..Peer::default() }, 0, Arc::default())
        };
        let matches = |client: &Client| filter.matches(client, &client.profile(), 1);
        assert!(matches(&client(7, "a:1")));
        assert!(!matches(&client(8, "a:1")) && !matches(&client(7, "a:2")));
    }

    #[test]
    fn names_have_no_spaces() {
        assert!(check_name(b"worker-1").is_ok() && check_name(b"").is_ok());
        assert!(check_name(b"a b").is_err() && check_name(b"\xff").is_err());
    }
}
