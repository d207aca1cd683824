//! Writes a tail line by line.

use super::line::{End, Header, Line, Word};
use super::tail::{Budget, Learned, Owner, Places, Tail};
use super::{EXTENSION, Lost, UNFINISHED};
use crate::base::clock::iso_8601;
use crate::base::ids::Uid;
use crate::interop::dump;
use crate::store::journal::{Section, SectionHead};
use crate::store::record::Operation;
use crate::store::{Entry, Interrupt, Key, Kind, PartitionSet, row};
use crate::types::{hash, set, string, zset};
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::write::EncoderWriter;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// A file with the checksum of what was written to it.
struct Checked {
    file: BufWriter<File>,
    crc32c: u32,
}

impl Write for Checked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.file.write(bytes)?;
        self.crc32c = crc32c::crc32c_append(self.crc32c, &bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Checked {
    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut *self, line)?;
        self.write_all(b"\n")
    }
}

/// Writes the tail to `path`, which appears when all is on disk.
pub fn write(
    tail: &Tail,
    learned: Learned,
    header: &Header,
    budget: &mut Budget,
    path: &Path,
) -> io::Result<Lost> {
    let folder = path.parent().expect("it is in a folder");
    remove_unfinished(folder, header.partition)?;
    let unfinished = path.with_extension(UNFINISHED);
    let outcome = Writer::create(&unfinished, tail, learned, budget).and_then(|writer| writer.run(header));
    let named = outcome.and_then(|lost| {
        fs::rename(&unfinished, path)?;
        File::open(folder)?.sync_all()?;
        Ok(Lost { file: Some(path.to_path_buf()), ..lost })
    });
    if named.is_err() {
        let _ = fs::remove_file(&unfinished); // it would take room on a disk that may be full
    }
    named
}

/// Removes what interrupted attempts left of this partition.
fn remove_unfinished(folder: &Path, partition: u16) -> io::Result<()> {
    let partition = format!("-partition-{partition:04}-");
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_left = path.extension().is_some_and(|extension| extension == UNFINISHED)
            && path.to_string_lossy().contains(&partition);
        if is_left {
            fs::remove_file(&path)?;
        }
    }
    debug_assert_ne!(UNFINISHED, EXTENSION);
    Ok(())
}

struct Writer<'a> {
    out: Checked,
    tail: &'a Tail<'a>,
    learned: Learned,
    budget: &'a mut Budget,
    /// Physical ids of the databases at the end, by number.
    ids: Vec<u32>,
    places: Places,
    /// Keys that were touched: physical id of the database, and name.
    touched: BTreeSet<(u32, Box<[u8]>)>,
    is_over_budget: bool,
    keys: u64,
    undumped: u64,
}

impl<'a> Writer<'a> {
    fn create(
        path: &Path,
        tail: &'a Tail,
        learned: Learned,
        budget: &'a mut Budget,
    ) -> io::Result<Writer<'a>> {
        let ids = tail.store.database_ids(tail.wanted.partition);
        Ok(Writer {
            out: Checked { file: BufWriter::new(File::create(path)?), crc32c: 0 },
            tail,
            places: Places::at_start(&learned, &ids),
            is_over_budget: learned.is_over_budget,
            learned,
            budget,
            ids,
            touched: BTreeSet::new(),
            keys: 0,
            undumped: 0,
        })
    }

    fn run(mut self, header: &Header) -> io::Result<Lost> {
        self.out.line(header)?;
        let tail = self.tail;
        tail.visit(&mut |section| self.section(section))?;
        self.states()?;
        let missing = self.missing();
        let crc32c = format!("{:08x}", self.out.crc32c);
        self.out.line(&End { operation: Word::End, keys: self.keys, missing: missing.clone(), crc32c })?;
        self.out.file.into_inner()?.sync_all()?;
        let (transactions, keys) = (header.transactions, self.keys);
        Ok(Lost { file: None, transactions, keys, missing, is_new: true })
    }

    /// What the file lacks, in words.
    fn missing(&self) -> Option<String> {
        let Learned { first, has_gap, unknown, has_databases, .. } = &self.learned;
        let begins_late = self
            .tail
            .wanted
            .common
            .is_some_and(|common| first.is_some_and(|first| first.lsn.0 != common.0 + 1));
        let reasons = [
            (*has_gap || begins_late, "the journal does not have all of the transactions any more"),
            (self.is_over_budget, "the names of some keys: there are too many to hold in memory"),
            // Parts of values in a database that was emptied later are nobody's.
            (!unknown.is_empty() && !has_databases, "the names of keys that parts of values belong to"),
            (self.undumped > 0, "the state of keys of a type that cannot be written yet"),
        ];
        let reasons: Vec<&str> =
            reasons.into_iter().filter(|(is_so, _)| *is_so).map(|(_, reason)| reason).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    fn section(&mut self, section: Section) -> io::Result<()> {
        let mut dropped = Vec::new();
        let mut operations = section.operations.iter().peekable();
        while let Some(operation) = operations.next() {
            let line = line_of(&section.head);
            match operation {
                Operation::Key(row) => {
                    for uid in dropped.drain(..) {
                        self.dropped(&section.head, uid)?;
                    }
                    self.key_row(line, row)?;
                }
                Operation::Item(row) => self.item_row(line, row)?,
                Operation::Drop { uid, .. } => dropped.push(*uid),
                Operation::Answer(_) => {} // it was no change
                Operation::Database { number, id, before } => {
                    let pair = operations.next_if(|next| is_other_half(next, *id, *before));
                    self.database(line, (*number, *id, *before), pair)?;
                }
            }
        }
        dropped.into_iter().try_for_each(|uid| self.dropped(&section.head, uid))
    }

    fn touch(&mut self, database: u32, name: &[u8]) {
        let touched = (database, Box::from(name));
        if !self.is_over_budget && !self.touched.contains(&touched) {
            self.is_over_budget = !self.budget.take(name.len());
            self.touched.insert(touched);
        }
    }

    fn key_row(&mut self, line: Line, key_row: &crate::base::blob::Blob) -> io::Result<()> {
        let (database, name) = (row::position_of(key_row.key()).0, row::name_of(key_row));
        self.touch(database, name);
        let line = Line { database: self.places.number(database), ..line.about(name) };
        let Some(entry) = Entry::decode(key_row.clone()) else {
            return self.out.line(&Line { operation: Word::Delete, ..line });
        };
        if let Some(owner) = entry.items().and_then(|items| self.learned.owners.get_mut(&items.uid)) {
            *owner = Owner { database, name: name.into(), kind: entry.kind() };
        }
        let line = Line { expire_at_ms: entry.expire_at(), ..line.of_kind(Some(entry.kind())) };
        self.out.line(&match entry.kind() {
            _ if entry.items().is_some() => line,
            Kind::Hash => line.with_fields(hash::Fields::of(&entry).map(|field| (field.name, field.value))),
            Kind::Set => with_members(line, &entry),
            _ => line.with_value(entry.payload()),
        })
    }

    fn item_row(&mut self, line: Line, item: &crate::base::blob::Blob) -> io::Result<()> {
        let (uid, suffix) = item.key().split_at(Uid::LEN);
        let uid = Uid::from_bytes(uid).expect("the record was decoded");
        let (line, kind) = self.owned(line, uid);
        let is_gone = row::is_deletion(item);
        let operation = if is_gone { Word::ItemDelete } else { Word::ItemSet };
        let line = Line { operation, ..line };
        let (line, value) = match kind {
            Some(Kind::Set) => {
                // A part of a set has no name of its own: it is shown by who is in it.
                return self.out.line(&line.with_members(set::packed::members(item.value())));
            }
            Some(Kind::Hash) => {
                // The other rows are the order of deadlines, which says nothing new.
                let field = hash::field_of_row(suffix, item.value());
                (
                    line.with_field(field.map_or(suffix, |field| field.name)),
                    field.map_or(&[][..], |field| field.value),
                )
            }
            Some(Kind::SortedSet) => {
                // The other rows are its order, which says nothing new.
                let scored = zset::scored_of_row(suffix, item.value());
                (line.with_field(scored.map_or(suffix, |(_, member)| member)), item.value())
            }
            Some(Kind::String) => {
                let offset = string::offset_of_chunk(suffix).map(|offset| offset as u64);
                (Line { offset, ..line }, item.value())
            }
            _ => (line.with_field(suffix), item.value()),
        };
        self.out.line(&if is_gone { line } else { line.with_value(value) })
    }

    fn dropped(&mut self, head: &SectionHead, uid: Uid) -> io::Result<()> {
        let (line, _) = self.owned(line_of(head), uid);
        self.out.line(&Line { operation: Word::Drop, ..line })
    }

    /// A line about the key that a collection belongs to, if that is known.
    fn owned(&mut self, line: Line, uid: Uid) -> (Line, Option<Kind>) {
        let Some(owner) = self.learned.owners.get(&uid) else { return (line, None) };
        let (database, kind) = (owner.database, owner.kind);
        let name = owner.name.clone();
        self.touch(database, &name);
        let line = Line { database: self.places.number(database), ..line.about(&name).of_kind(Some(kind)) };
        (line, Some(kind))
    }

    fn database(
        &mut self,
        line: Line,
        (number, id, before): (u16, u32, u32),
        pair: Option<&Operation>,
    ) -> io::Result<()> {
        let line = Line { database: Some(number), ..line };
        if let Some(Operation::Database { number: other, .. }) = pair {
            self.places.swap((number, id), (*other, before));
            return self.out.line(&Line {
                operation: Word::SwapDatabases,
                other_database: Some(*other),
                ..line
            });
        }
        self.places.empty(number, id, before);
        self.out.line(&Line { operation: Word::EmptyDatabase, ..line })
    }

    /// Writes what each key that was touched holds now.
    fn states(&mut self) -> io::Result<()> {
        let touched = std::mem::take(&mut self.touched);
        for (id, name) in &touched {
            let Some(number) = self.places.number(*id) else { continue };
            // Of a database that was emptied, what now has its number says what there is.
            let Some(&id_now) = self.ids.get(usize::from(number)) else { continue };
            if id_now != *id && touched.contains(&(id_now, name.clone())) {
                continue;
            }
            let line = Line {
                partition: self.tail.wanted.partition.0,
                operation: Word::Final,
                database: Some(number),
                ..Line::default()
            };
            let line = line.about(name);
            match self.state(&Key::new(number, name))? {
                Some((entry, dump)) => self.state_line(line, &entry, dump)?,
                None => self.out.line(&Line { deleted: true, ..line })?,
            }
            self.keys += 1;
        }
        Ok(())
    }

    /// What a key holds now, whether its time is up or not.
    fn state(&self, key: &Key) -> io::Result<Option<(Entry, Option<Vec<u8>>)>> {
        let store = self.tail.store;
        let set = PartitionSet::One(self.tail.wanted.partition);
        loop {
            let mut view = store.view(&set, i64::MIN);
            let found = view.peek(key).and_then(|entry| {
                let Some(entry) = entry else { return Ok(None) };
                let dump = dump::of(&mut view, key, &entry)?;
                Ok(Some((entry, dump)))
            });
            drop(view);
            match found {
                Ok(found) => return Ok(found),
                Err(Interrupt::Fetch(request)) => store.fetch(&request).map_err(failed)?,
                Err(other) => return Err(failed(other)),
            }
        }
    }

    fn state_line(&mut self, line: Line, entry: &Entry, dump: Option<Vec<u8>>) -> io::Result<()> {
        let line = Line { expire_at_ms: entry.expire_at(), ..line.of_kind(Some(entry.kind())) };
        let Some(dump) = dump else {
            self.undumped += 1;
            return self.out.line(&line);
        };
        // As the line with the payload in it, but without a copy of that in base64: it may be long.
        let text = serde_json::to_string(&line)?;
        let open = text.strip_suffix('}').expect("an object ends with it");
        write!(self.out, "{open},\"dump\":\"")?;
        let mut encoder = EncoderWriter::new(&mut self.out, &BASE64);
        encoder.write_all(&dump)?;
        encoder.finish()?;
        drop(encoder);
        self.out.write_all(b"\"}\n")
    }
}

/// The line with the members of a small set.
fn with_members(line: Line, entry: &Entry) -> Line {
    let Some(integers) = set::integers(entry) else {
        return line.with_members(set::packed::members(entry.payload()));
    };
    let texts: Vec<String> = integers.iter().map(|value| value.to_string()).collect();
    line.with_members(texts.iter().map(String::as_bytes))
}

fn line_of(head: &SectionHead) -> Line {
    Line {
        partition: head.partition.0,
        epoch: Some(head.epoch.0),
        lsn: Some(head.lsn.0),
        time: Some(iso_8601(head.time_ms)),
        ..Line::default()
    }
}

/// Whether the operation behind one that gave a database the id `id` instead of `before` gives the database that had `id` the
/// other's.
fn is_other_half(next: &Operation, id: u32, before: u32) -> bool {
    matches!(next, Operation::Database { id: other, before: other_before, .. } if *other == before && *other_before == id)
}

fn failed(interrupt: Interrupt) -> io::Error {
    io::Error::other(match interrupt {
        Interrupt::Storage(reason) => reason,
        other => format!("{other:?}"),
    })
}
