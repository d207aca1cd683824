//! Runs commands on a transaction, without a server: what their handlers need besides the data. Collections are large from eight elements on.

use super::types::Word;
use larder::commands::{Handler, Request, table};
use larder::config::Parameters;
use larder::protocol::args::{Args, Range};
use larder::protocol::reply::Reply;
use larder::session::service::Service;
use larder::store::{Store, Transaction, View};
use std::sync::{Arc, LazyLock};

const SETTINGS: [&str; 5] = [
    "hash-max-listpack-entries 8",
    "set-max-intset-entries 8",
    "set-max-listpack-entries 8",
    "zset-max-listpack-entries 8",
    "list-max-listpack-size 8",
];

/// Of a server that has no data of its own.
static SERVICE: LazyLock<Service> = LazyLock::new(|| {
    let parameters = Parameters::with(&SETTINGS).expect("valid settings");
    Service::new(parameters, Arc::new(Store::in_memory(1, 1)), table::full_names())
});

fn run<T>(words: &[Word], database: u16, now: i64, handle: impl FnOnce(&Request, Handler) -> T) -> T {
    let buffer = words.concat();
    let mut end = 0;
    let ranges: Vec<Range> = words
        .iter()
        .map(|word| {
            let start = end;
            end += word.len() as u32;
            (start, end)
        })
        .collect();
    let settings = SERVICE.parameters.snapshot();
    let args = Args::new(&buffer, &ranges);
    let request = Request { args, database, now, settings: &settings, service: &SERVICE, ready: None };
    let entry = table::entry(&words[0]).expect("a command that is there");
    handle(&request, entry.command.handler)
}

/// Runs a command that changes data.
pub fn write(transaction: &mut Transaction, database: u16, words: &[Word]) {
    let now = transaction.now();
    let outcome = run(words, database, now, |request, handler| match handler {
        Handler::Write(handler) => handler(request, transaction),
        _ => panic!("it changes nothing"),
    });
    let name = String::from_utf8_lossy(&words[0]);
    let reply = outcome.unwrap_or_else(|failure| panic!("{name}: {failure:?}"));
    assert!(!reply.is_error(), "{name}: {reply:?}");
}

/// Runs a command that reads data: the words of its reply.
///
/// # Errors
/// Why there was none.
pub fn read(view: &mut View, database: u16, words: &[Word]) -> Result<Vec<Word>, String> {
    let now = view.now();
    let outcome = run(words, database, now, |request, handler| match handler {
        Handler::Read(handler) => handler(request, view),
        _ => panic!("it does more than read"),
    });
    let mut found = Vec::new();
    flatten(outcome.map_err(|failure| format!("{failure:?}"))?, &mut found)?;
    Ok(found)
}

fn flatten(reply: Reply, found: &mut Vec<Word>) -> Result<(), String> {
    match reply {
        Reply::Bulk(word) => found.push(word),
        Reply::Slice(word) => found.push(word.to_vec()),
        Reply::Int(number) => found.push(number.to_string().into_bytes()),
        Reply::Double(number) => found.push(number.to_string().into_bytes()),
        Reply::Array(replies) | Reply::Map(replies) | Reply::Pairs(replies) | Reply::Set(replies) => {
            return replies.into_iter().try_for_each(|reply| flatten(reply, found));
        }
        Reply::Null => {}
        other => return Err(format!("answered with {other:?}")),
    }
    Ok(())
}
