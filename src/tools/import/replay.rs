//! Runs the commands of a log: the very commands that clients send, from the same table, on a store that nobody else uses.
//!
//! What servers write to a log are effects: times are points in time, what was popped is named. Three things are different from a client's commands:
//!
//! - **Nothing expires meanwhile.** The clock of these commands stands at zero. A key whose deadline is over may have got another one later in the log,
//!   and if it did expire, the log says so by a DEL. What has expired in the end goes at the end.
//! - **MULTI and EXEC only say where a log may be cut.** Nobody looks on, so that commands run one by one and a transaction need not fit in memory.
//! - **The gates in front of commands are not there**: no password, no limit of memory, no replicas to wait for.

use crate::base::ids::PartitionId;
use crate::commands::execute::{Answer, execute};
use crate::commands::table::{self, Entry};
use crate::commands::{Handler, Request};
use crate::config::{Parameters, Settings};
use crate::protocol::args::Args;
use crate::protocol::error::ErrorReply;
use crate::protocol::reply::Reply;
use crate::session::client::Peer;
use crate::session::service::Service;
use crate::session::session::Session;
use crate::store::Store;
use std::sync::Arc;

/// What a command of a log is.
pub enum Meaning {
    /// It changes data.
    Change(&'static Entry),
    /// It selects the database of those that follow.
    Select(&'static Entry),
    /// A transaction begins.
    Begin,
    /// A transaction ends.
    End,
    /// It is about functions or scripts, which are left out.
    Library,
    /// It changes no data.
    Nothing,
    /// There is no such command.
    Unknown,
}

/// What a command is.
///
/// # Errors
/// If it has not as many words as it must have.
pub fn meaning(words: Args) -> Result<Meaning, String> {
    let Some(base) = table::entry(words.at(0)).or_else(|| renamed(words.at(0))) else {
        return Ok(Meaning::Unknown);
    };
    let entry = words.get(1).and_then(|word| base.subcommand(word)).unwrap_or(base);
    let (arity, count) = (entry.command.spec.arity, words.len());
    let fits = if arity >= 0 { count == arity as usize } else { count >= arity.unsigned_abs() as usize };
    if !fits {
        return Err(format!("{} with {count} words", entry.full_name));
    }
    Ok(match (base.command.spec.name, entry.command.handler) {
        ("multi", _) => Meaning::Begin,
        ("exec", _) => Meaning::End,
        ("select", _) => Meaning::Select(entry),
        ("function" | "script", _) => Meaning::Library,
        (_, Handler::Write(_)) => Meaning::Change(entry),
        (_, Handler::Container) => Meaning::Unknown,
        _ => Meaning::Nothing,
    })
}

/// The command with this name in the table, where clients are to use another one.
#[cold]
fn renamed(name: &[u8]) -> Option<&'static Entry> {
    table::entries().iter().find(|entry| name.eq_ignore_ascii_case(entry.command.spec.name.as_bytes()))
}

/// How many databases there must be for a command.
pub fn databases(words: Args) -> u64 {
    let number = |word: Option<&[u8]>| {
        word.and_then(|word| std::str::from_utf8(word).ok()?.parse::<u64>().ok())
            .map_or(0, |number| number + 1)
    };
    match &words.at(0).to_ascii_lowercase()[..] {
        b"select" => number(words.get(1)),
        b"move" => number(words.get(2)),
        b"swapdb" => number(words.get(1)).max(number(words.get(2))),
        b"copy" => {
            let at = (3..words.len()).find(|&at| words.at(at).eq_ignore_ascii_case(b"db"));
            at.map_or(0, |at| number(words.get(at + 1)))
        }
        _ => 0,
    }
}

/// Whether the deadline that a command gives counts from now. Servers write none that do; other programs' logs may have them.
fn is_from_now(words: Args) -> bool {
    let has = |from: usize, names: [&str; 2]| {
        let words = words.from(from).take_while(|word| !word.eq_ignore_ascii_case(b"fields"));
        words.into_iter().any(|word| names.iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes())))
    };
    match &words.at(0).to_ascii_lowercase()[..] {
        b"expire" | b"pexpire" | b"setex" | b"psetex" | b"hexpire" | b"hpexpire" => true,
        b"set" => has(3, ["EX", "PX"]),
        b"getex" | b"hgetex" | b"hsetex" => has(2, ["EX", "PX"]),
        b"restore" => words.get(2).is_some_and(|word| word != b"0") && !has(4, ["ABSTTL", "ABSTTL"]),
        _ => false,
    }
}

/// A server without clients that runs the commands of a log.
pub struct Replay {
    service: Service,
    settings: Settings,
    session: Session,
    now: i64,
}

impl Replay {
    /// On this store.
    pub fn on(store: &Arc<Store>, parameters: &Parameters, databases: u16, now: i64) -> Replay {
        let service = Service::new(parameters.clone(), Arc::clone(store), table::full_names());
        // Whatever part the settings give to the server later.
        (0..store.partition_count()).for_each(|id| store.set_primary(PartitionId(id), true));
        let settings = Settings { databases: u32::from(databases), ..Settings::clone(&service.settings()) };
        let client = service.clients.register(Peer::default(), now, 1).expect("it is the first one");
        let session = Session::new(client, true);
        Replay { service, settings, session, now }
    }

    /// A file of the log begins: database 0 is selected.
    pub fn begin_file(&mut self) {
        self.session.database = 0;
    }

    /// Runs a command. Returns up to where the journal is to be written for it, or what it was refused with.
    ///
    /// # Errors
    /// If the data cannot be written.
    pub fn run(&mut self, entry: &'static Entry, args: Args) -> Result<Result<u64, ErrorReply>, String> {
        let request = Request {
            args,
            database: self.session.database,
            now: if is_from_now(args) { self.now } else { 0 },
            settings: &self.settings,
            service: &self.service,
            ready: None,
        };
        match execute(entry, &request, &mut self.session) {
            Answer::Reply(Reply::Error(error)) if error.code() == "MISCONF" || is_of_storage(&error) => {
                Err(String::from_utf8_lossy(&error.0).into_owned())
            }
            Answer::Reply(Reply::Error(error)) => Ok(Err(error)),
            Answer::Waiting { ticket, .. } => {
                self.service.waiting.remove(&ticket); // it found nothing, and nobody is to be served later
                Ok(Ok(0))
            }
            Answer::Moved => Err("the data is another node's".to_owned()),
            Answer::Reply(_) | Answer::Copies(_) => Ok(Ok(self.session.journal_position)),
        }
    }
}

fn is_of_storage(error: &ErrorReply) -> bool {
    error.0.starts_with(b"ERR storage:")
}
