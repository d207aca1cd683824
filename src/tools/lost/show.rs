//! Shows files of lost transactions to people.

use super::{Selection, shown};
use crate::base::clock::iso_8601;
use crate::base::number;
use crate::interop::dump;
use crate::interop::rdb_value::Value;
use crate::replication::lost::line::{Line, Word};
use crate::replication::lost::read::{Reader, State};
use crate::replication::lost::{self, Summary};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

/// Bytes of a value that are shown.
const VALUE_SHOWN_MAX: usize = 200;
/// Fields of a hash that are shown.
const FIELDS_SHOWN_MAX: usize = 20;

/// Lists the files of a data folder. False if one of them is not whole.
pub fn list(folder: &Path, out: &mut dyn Write) -> io::Result<bool> {
    if !folder.is_dir() {
        return Err(io::Error::other(format!("{} is no folder", folder.display())));
    }
    let files = lost::list(&folder.join("lost"))?;
    if files.is_empty() {
        writeln!(out, "nothing lost")?;
    }
    let mut all_whole = true;
    for file in files {
        let path = file.display();
        let (text, is_whole) = match Summary::read(&file) {
            Ok(summary) => describe(&summary),
            Err(error) => (format!("cannot be read: {error}"), false),
        };
        all_whole &= is_whole;
        writeln!(out, "{path}\n    {text}")?;
    }
    Ok(all_whole)
}

fn describe(summary: &Summary) -> (String, bool) {
    let header = &summary.header;
    let mut text = format!(
        "partition {:04}, epoch {}, {} transactions, from {} to {}",
        header.partition, header.epoch, header.transactions, header.from, header.to
    );
    match &summary.end {
        Some(end) => {
            let _ = write!(text, ", {} keys", end.keys);
            if let Some(missing) = &end.missing {
                let _ = write!(text, "; NOT COMPLETE: {missing}");
            }
        }
        None => text.push_str("; DAMAGED: its last line is missing"),
    }
    if header.common_lsn.is_none() {
        text.push_str("; how much of it the new primary has is not known");
    }
    (text, summary.end.is_some())
}

/// Shows the lines of a file about these keys.
pub fn show(file: &Path, selection: &Selection, out: &mut dyn Write) -> io::Result<()> {
    let mut reader = Reader::open(file)?;
    let header = reader.header();
    let common = header
        .common_lsn
        .map_or_else(|| "an unknown transaction".to_owned(), |lsn| format!("transaction {lsn}"));
    writeln!(
        out,
        "partition {:04} of node {}: {} transactions behind {common}, up to {} in epoch {}",
        header.partition, header.node, header.transactions, header.last_lsn, header.epoch
    )?;
    let mut found = false;
    let mut in_states = false;
    while let Some(line) = reader.next_line()? {
        let name = line.name().map_err(|error| reader.failed(&format!("the key is no base64: {error}")))?;
        // What happened to a whole database concerns each of its keys; a name that is not known may be any.
        let is_wanted = name.as_ref().is_none_or(|name| selection.has(line.database, name));
        if !is_wanted {
            continue;
        }
        found |= name.is_some();
        if line.operation == Word::Final {
            if !std::mem::replace(&mut in_states, true) {
                writeln!(out, "at the end:")?;
            }
            let state = State::of(&line).map_err(|reason| reader.failed(&reason))?;
            writeln!(out, "  db {} {} {}", state.database, shown(&state.name), held(&state))?;
        } else {
            writeln!(out, "{}", operation(&line, name.as_deref()))?;
        }
    }
    if !found && !selection.is_all() {
        return Err(io::Error::other("the file has nothing about these keys"));
    }
    match reader.end().and_then(|end| end.missing.as_ref()) {
        Some(missing) => writeln!(out, "not complete: {missing}"),
        None => Ok(()),
    }
}

fn operation(line: &Line, name: Option<&[u8]>) -> String {
    let mut text = format!("{} {}", line.time.as_deref().unwrap_or("-"), line.lsn.unwrap_or(0));
    if let Some(database) = line.database {
        let _ = write!(text, " db {database}");
    }
    let _ = write!(text, " {}", line.operation.text());
    if let Some(other) = line.other_database {
        let _ = write!(text, " with db {other}");
    }
    let is_of_a_database = matches!(line.operation, Word::EmptyDatabase | Word::SwapDatabases);
    match name {
        Some(name) => text += &format!(" {}", shown(name)),
        None if !is_of_a_database => text.push_str(" (a key that is not known)"),
        None => {}
    }
    text += &pair(" field ", line.field.as_ref(), line.field_base64.as_ref());
    if let Some(offset) = line.offset {
        let _ = write!(text, " at byte {offset}");
    }
    text += &pair(" = ", line.value.as_ref(), line.value_base64.as_ref());
    if let Some(bytes) = line.value_bytes {
        let _ = write!(text, " ({bytes} bytes in all)");
    }
    for field in &line.fields {
        text += &pair(" field ", field.field.as_ref(), field.field_base64.as_ref());
        text += &pair(" = ", field.value.as_ref(), field.value_base64.as_ref());
    }
    if let Some(count) = line.field_count {
        let _ = write!(text, " … ({count} fields in all)");
    }
    if let Some(at) = line.expire_at_ms {
        let _ = write!(text, ", expires {}", iso_8601(at));
    }
    text
}

fn pair(lead: &str, text: Option<&String>, base64: Option<&String>) -> String {
    match (text, base64) {
        (Some(text), _) => format!("{lead}{}", shown(text.as_bytes())),
        (None, Some(base64)) => format!("{lead}base64 {base64}"),
        (None, None) => String::new(),
    }
}

fn shown_fields<'a>(count: usize, pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> String {
    let few = pairs.take(FIELDS_SHOWN_MAX);
    let few = few.map(|(field, value)| format!("{} = {}", beginning(field), beginning(value)));
    let text = few.collect::<Vec<_>>().join(", ");
    let more = if count > FIELDS_SHOWN_MAX { ", …" } else { "" };
    format!("hash of {count} fields: {text}{more}")
}

/// What a key held, in short.
fn held(state: &State) -> String {
    let Some(held) = &state.held else { return "is not there".to_owned() };
    let text = match dump::open(&held.dump) {
        Ok(Value::String(bytes)) => format!("= {}", beginning(&bytes)),
        Ok(Value::Hash(pairs)) => {
            shown_fields(pairs.len(), pairs.iter().map(|(field, value)| (&field[..], &value[..])))
        }
        Ok(Value::TimedHash(fields)) => {
            shown_fields(fields.len(), fields.iter().map(|(field, value, _)| (&field[..], &value[..])))
        }
        Ok(Value::SortedSet(members)) => {
            let few = members.iter().take(FIELDS_SHOWN_MAX);
            let few =
                few.map(|(score, member)| format!("{} = {}", beginning(member), number::format_f64(*score)));
            let text = few.collect::<Vec<_>>().join(", ");
            let more = if members.len() > FIELDS_SHOWN_MAX { ", …" } else { "" };
            format!("sorted set of {} members: {text}{more}", members.len())
        }
        Ok(Value::Set(members)) => {
            let few: Vec<_> = members.iter().take(FIELDS_SHOWN_MAX).map(|member| beginning(member)).collect();
            let more = if members.len() > FIELDS_SHOWN_MAX { ", …" } else { "" };
            format!("set of {} members: {}{more}", members.len(), few.join(", "))
        }
        Ok(Value::List(elements)) => {
            let few: Vec<_> = elements.iter().take(FIELDS_SHOWN_MAX).map(beginning).collect();
            let more = if elements.len() > FIELDS_SHOWN_MAX { ", …" } else { "" };
            format!("list of {} elements: {}{more}", elements.len(), few.join(", "))
        }
        Err(_) => "of a type that is not known".to_owned(),
    };
    match held.expire_at_ms {
        Some(at) => format!("{text}, expires {}", iso_8601(at)),
        None => text,
    }
}

fn beginning(bytes: &[u8]) -> String {
    if bytes.len() <= VALUE_SHOWN_MAX {
        return shown(bytes);
    }
    let text = match std::str::from_utf8(&bytes[..VALUE_SHOWN_MAX]) {
        Err(error) if error.error_len().is_none() => shown(&bytes[..error.valid_up_to()]),
        _ => shown(&bytes[..VALUE_SHOWN_MAX]),
    };
    format!("{text}… ({} bytes)", bytes.len())
}
