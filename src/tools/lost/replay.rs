//! Gives a server what keys held at the end of a tail.
//!
//! 1. The whole file is read and checked: nothing is sent of a file that is damaged.
//! 2. Unless it was said what to do where the server holds something else, all keys are looked at: if it does anywhere, nothing is
//!    changed.
//! 3. Key by key: what the server has already is left alone, so that a replay that was interrupted can be made again. The first
//!    refusal of the server ends it.
//!
//! A key whose time is up by now counts as one that was removed.

use super::peer::{Failure, Peer, Reply};
use super::{Conflict, Selection, Target, shown};
use crate::base::clock::unix_ms;
use crate::replication::lost::line::Word;
use crate::replication::lost::read::{Held, Reader, State};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

/// Keys that are named when the server holds something else.
const NAMED_MAX: u64 = 20;

/// What became of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    Restored,
    Replaced,
    Removed,
    /// The server had it so.
    Same,
    /// The server has something else, which stays.
    Skipped,
}

impl Done {
    fn text(self) -> &'static str {
        match self {
            Done::Restored => "restored",
            Done::Replaced => "replaced",
            Done::Removed => "removed",
            Done::Same => "is so already",
            Done::Skipped => "skipped: the server has something else",
        }
    }
}

/// Gives the server of `target` the keys of `selection` as `file` has them. True if none was skipped.
pub fn replay(file: &Path, selection: &Selection, target: &Target, out: &mut dyn Write) -> io::Result<bool> {
    let warnings = check(file, selection)?;
    for warning in &warnings {
        writeln!(out, "note: {warning}")?;
    }
    let mut server = Server::connect(target)?;
    if target.conflict == Conflict::Refuse {
        refuse_conflicts(file, selection, &mut server, out)?;
    }
    let (mut done, mut skipped) = (0_u64, 0_u64);
    each_state(file, selection, &mut |state| {
        let outcome = server.put(state, target.conflict).map_err(|error| {
            let key = shown(&state.name);
            io::Error::other(format!(
                "db {} {key}: {error}. {done} keys before it are done; what is done may be done again",
                state.database
            ))
        })?;
        writeln!(out, "db {} {} {}", state.database, shown(&state.name), outcome.text())?;
        done += 1;
        skipped += u64::from(outcome == Done::Skipped);
        Ok(())
    })?;
    writeln!(out, "{} of {done} keys are as in the file", done - skipped)?;
    if selection.is_all() && skipped == 0 && warnings.is_empty() {
        writeln!(out, "{} may be removed", file.display())?;
    }
    Ok(skipped == 0)
}

/// Reads the whole file. Returns what the states of its keys do not say.
fn check(file: &Path, selection: &Selection) -> io::Result<Vec<String>> {
    let mut reader = Reader::open(file)?;
    let mut found: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut warnings = BTreeSet::new();
    while let Some(line) = reader.next_line()? {
        match line.operation {
            Word::Final => {
                let state = State::of(&line).map_err(|reason| reader.failed(&reason))?;
                if !selection.names.is_empty() && selection.has(Some(state.database), &state.name) {
                    found.insert(state.name);
                }
            }
            Word::EmptyDatabase => {
                let number = line.database.unwrap_or(0);
                warnings.insert(format!(
                    "database {number} was emptied; keys that no line names are not removed"
                ));
            }
            Word::SwapDatabases => {
                let (a, b) = (line.database.unwrap_or(0), line.other_database.unwrap_or(0));
                warnings.insert(format!(
                    "databases {a} and {b} were exchanged; keys go where they were at the end, the others stay"
                ));
            }
            _ => {}
        }
    }
    if let Some(name) = selection.names.iter().find(|name| !found.contains(*name)) {
        return Err(io::Error::other(format!("the file has no state of {}", shown(name))));
    }
    let missing = reader.end().and_then(|end| end.missing.as_ref());
    warnings.extend(missing.map(|missing| format!("the file is not complete: {missing}")));
    Ok(warnings.into_iter().collect())
}

fn each_state(
    file: &Path,
    selection: &Selection,
    visit: &mut dyn FnMut(&State) -> io::Result<()>,
) -> io::Result<()> {
    let mut reader = Reader::open(file)?;
    while let Some(state) = reader.next_state()? {
        if selection.has(Some(state.database), &state.name) {
            visit(&state)?;
        }
    }
    Ok(())
}

fn refuse_conflicts(
    file: &Path,
    selection: &Selection,
    server: &mut Server,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut conflicts = 0;
    each_state(file, selection, &mut |state| {
        if server.look(state)? == Found::Other {
            conflicts += 1;
            if conflicts <= NAMED_MAX {
                writeln!(out, "db {} {}: the server has something else", state.database, shown(&state.name))?;
            }
        }
        Ok(())
    })?;
    if conflicts == 0 {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "nothing was done: the server holds something else at {conflicts} keys. --only-missing leaves them alone, --replace \
         replaces them"
    )))
}

/// What the server holds at a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Same,
    Other,
}

struct Server {
    peer: Peer,
    database: u16,
}

impl Server {
    fn connect(target: &Target) -> io::Result<Server> {
        let mut peer = Peer::connect(&target.address)?;
        let password = password(target)?;
        if let Some(password) = password {
            let user = target.user.as_deref().unwrap_or("default");
            // Servers before Redis 6 know no users.
            let words: &[&[u8]] = if target.user.is_some() {
                &[b"AUTH", user.as_bytes(), password.as_bytes()]
            } else {
                &[b"AUTH", password.as_bytes()]
            };
            peer.ask(words)?;
        }
        peer.ask(&[b"SELECT", b"0"])?;
        Ok(Server { peer, database: 0 })
    }

    fn select(&mut self, database: u16) -> Result<(), Failure> {
        if database != self.database {
            self.peer.ask(&[b"SELECT", database.to_string().as_bytes()])?;
            self.database = database;
        }
        Ok(())
    }

    fn look(&mut self, state: &State) -> Result<Found, Failure> {
        self.select(state.database)?;
        let Reply::Bytes(dump) = self.peer.ask(&[b"DUMP", &state.name])? else { return Ok(Found::Nothing) };
        let is_same = match wanted(state) {
            Some(held) => held.dump == dump && self.deadline(&state.name)? == held.expire_at_ms,
            None => false,
        };
        Ok(if is_same { Found::Same } else { Found::Other })
    }

    fn deadline(&mut self, name: &[u8]) -> Result<Option<i64>, Failure> {
        match self.peer.ask(&[b"PEXPIRETIME", name])? {
            Reply::Integer(at) if at >= 0 => Ok(Some(at)),
            _ => Ok(None),
        }
    }

    /// Makes the key what the file says.
    fn put(&mut self, state: &State, conflict: Conflict) -> io::Result<Done> {
        let found = self.look(state)?;
        match (wanted(state), found) {
            (Some(_), Found::Same) | (None, Found::Nothing) => Ok(Done::Same),
            (_, Found::Other | Found::Same) if conflict == Conflict::Skip => Ok(Done::Skipped),
            (_, Found::Other | Found::Same) if conflict == Conflict::Refuse => {
                Err(io::Error::other("the server has got something else there meanwhile"))
            }
            (None, _) => {
                self.peer.ask(&[b"DEL", &state.name])?;
                Ok(Done::Removed)
            }
            (Some(held), found) => self.restore(&state.name, held, found, conflict),
        }
    }

    fn restore(&mut self, name: &[u8], held: &Held, found: Found, conflict: Conflict) -> io::Result<Done> {
        let deadline = held.expire_at_ms.unwrap_or(0).to_string();
        let mut words: Vec<&[u8]> = vec![b"RESTORE", name, deadline.as_bytes(), &held.dump, b"ABSTTL"];
        if conflict == Conflict::Replace {
            words.push(b"REPLACE");
        }
        match self.peer.ask(&words) {
            Ok(_) => Ok(if found == Found::Nothing { Done::Restored } else { Done::Replaced }),
            Err(Failure::Refused(words)) if words.starts_with("BUSYKEY") && conflict == Conflict::Skip => {
                Ok(Done::Skipped)
            }
            Err(failure) => Err(failure.into()),
        }
    }
}

/// What the key should hold; nothing if its time is up.
fn wanted(state: &State) -> Option<&Held> {
    state.held.as_ref().filter(|held| held.expire_at_ms.is_none_or(|at| at > unix_ms()))
}

fn password(target: &Target) -> io::Result<Option<String>> {
    let Some(file) = &target.password_file else { return Ok(std::env::var("LARDER_PASSWORD").ok()) };
    let failed =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot read {}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(failed)?;
    Ok(Some(text.lines().next().unwrap_or_default().to_owned()))
}
