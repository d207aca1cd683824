//! The rdb file: what Redis and Valkey write as `dump.rdb`.
//!
//! ```text
//! "REDIS" and a version in four digits, or "VALKEY" and three
//! then, until the end, a mark (1) and what belongs to it:
//!   0xFA name, text      what the writer says of itself     0xFE number         the database of the keys that follow
//!   0xFB count, count    how many keys and deadlines        0xFC ms (8, LE)     deadline of the next key; 0xFD: seconds (4, LE)
//!   0xF8 seconds, 0xF9 counter (1)   when the next key was used, or how often
//!   0xF4 slot, count, count          sizes of a slot        0xF5 text           a library of functions
//!   0xF7 a module's own data         0xFF                   the end; then a CRC-64 of all before it (8, LE; 0: none)
//!   any other: the type of a value; its key and the value follow
//! ```
//!
//! A file is read with a buffer of bounded size, but for a single value that is larger: that is held as a whole. What is malformed is
//! told with its place in the file.

use super::rdb_value::{self, Value};
use super::reader::{Malformed, Reader, write_length, write_string};
use crc::{CRC_64_REDIS, Crc, Digest, Table};
use std::io::{Read, Write};

static CRC: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_REDIS);

/// Bytes that are read at once.
const BUFFER: usize = 1 << 20;
/// Bytes of magic word and version.
const MAGIC: usize = 9;
/// The newest version of Redis's that is read.
pub const VERSION_MAX: u32 = 13;
/// The versions of Valkey's own.
const VALKEY_VERSIONS: std::ops::RangeInclusive<u32> = 80..=89;
/// The first version with a checksum at the end.
const CHECKSUM_SINCE: u32 = 5;

const AUX: u8 = 0xFA;
const DATABASE: u8 = 0xFE;
const SIZES: u8 = 0xFB;
const EXPIRES_MS: u8 = 0xFC;
const EXPIRES_S: u8 = 0xFD;
const IDLE: u8 = 0xF8;
const FREQUENCY: u8 = 0xF9;
const SLOT_SIZES: u8 = 0xF4;
const FUNCTIONS: u8 = 0xF5;
const MODULE_DATA: u8 = 0xF7;
const END: u8 = 0xFF;

/// Type bytes of values that Larder has no type for, and what they are.
const MODULE_VALUE: u8 = 7;
const STREAMS: [u8; 3] = [15, 19, 21];

/// Why a file is refused.
#[derive(Debug, PartialEq, Eq)]
pub struct FileError {
    /// Where in the file.
    pub offset: u64,
    /// Why, in words.
    pub reason: String,
}

impl std::fmt::Display for FileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}", self.reason, self.offset)
    }
}

impl std::error::Error for FileError {}

/// What stands in a file.
#[derive(Debug, PartialEq)]
pub enum Item {
    /// What the writer says of itself.
    Aux(Vec<u8>, Vec<u8>),
    /// A library of functions.
    Functions,
    /// Data of a module that belongs to no key.
    ModuleData,
    /// How many keys the database that follows has.
    Sizes(u64),
    /// A key.
    Key(Box<Key>),
}

/// A key and what belongs to it.
#[derive(Debug, PartialEq)]
pub struct Key {
    /// Number of its database.
    pub database: u64,
    /// Its name.
    pub name: Vec<u8>,
    /// Milliseconds since 1970.
    pub expire_at: Option<i64>,
    /// Seconds since it was used.
    pub idle_s: Option<u64>,
    /// How often it was used, as Redis counts.
    pub frequency: Option<u8>,
    /// The type byte.
    pub kind: u8,
    /// What it holds; if there is no type for that here, what it is.
    pub value: Result<Value, &'static str>,
}

/// Reads a file of a known length from its beginning.
pub struct FileReader<R> {
    source: R,
    /// Bytes that are read at once.
    step: usize,
    buffer: Vec<u8>,
    /// What of the buffer is read.
    at: usize,
    /// Where in the file the buffer begins.
    begin: u64,
    /// Bytes of the file behind the buffer.
    beyond: u64,
    version: u32,
    is_valkey: bool,
    database: u64,
    digest: Digest<'static, u64, Table<16>>,
    is_done: bool,
}

impl<R: Read> FileReader<R> {
    /// Reads the head of a file of `len` bytes.
    pub fn new(source: R, len: u64) -> Result<FileReader<R>, FileError> {
        FileReader::in_steps(source, len, BUFFER)
    }

    /// The same, reading so many bytes at once.
    pub fn in_steps(source: R, len: u64, step: usize) -> Result<FileReader<R>, FileError> {
        let mut file = FileReader {
            source,
            step: step.max(MAGIC),
            buffer: Vec::new(),
            at: 0,
            begin: 0,
            beyond: len,
            version: 0,
            is_valkey: false,
            database: 0,
            digest: CRC.digest(),
            is_done: false,
        };
        file.fill(file.step)?;
        let magic = file.buffer.get(..MAGIC).ok_or_else(|| file.error(0, "this is no rdb file"))?;
        let (is_valkey, digits) = match (magic.strip_prefix(b"REDIS"), magic.strip_prefix(b"VALKEY")) {
            (Some(digits), _) => (false, digits),
            (_, Some(digits)) => (true, digits),
            _ => return Err(file.error(0, "this is no rdb file")),
        };
        let version = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
        let version: u32 = version.ok_or_else(|| file.error(5, "the version is no number"))?;
        let is_known = if is_valkey {
            VALKEY_VERSIONS.contains(&version)
        } else {
            (1..=VERSION_MAX).contains(&version) || VALKEY_VERSIONS.contains(&version)
        };
        if !is_known {
            return Err(file.error(5, &format!("version {version} of the rdb format is not known")));
        }
        (file.version, file.is_valkey) = (version, is_valkey);
        file.consume(MAGIC);
        Ok(file)
    }

    /// The version of the format.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// How much of the file is read.
    pub fn offset(&self) -> u64 {
        self.begin + self.at as u64
    }

    /// What follows behind the last item, once there is none left: a log, in a file that is the beginning of one. The source, what was
    /// read of it already, where in the file that begins, and how many bytes follow it.
    pub fn into_rest(mut self) -> (R, Vec<u8>, u64, u64) {
        self.buffer.drain(..self.at);
        (self.source, self.buffer, self.begin + self.at as u64, self.beyond)
    }

    fn error(&self, at: usize, reason: &str) -> FileError {
        FileError { offset: self.begin + at as u64, reason: reason.to_owned() }
    }

    fn consume(&mut self, len: usize) {
        self.digest.update(&self.buffer[self.at..self.at + len]);
        self.at += len;
    }

    /// Has `wanted` unread bytes in the buffer, or all that there are.
    fn fill(&mut self, wanted: usize) -> Result<(), FileError> {
        self.buffer.drain(..self.at);
        self.begin += self.at as u64;
        self.at = 0;
        let missing = (wanted.saturating_sub(self.buffer.len()) as u64).min(self.beyond);
        let read = (&mut self.source).take(missing).read_to_end(&mut self.buffer);
        let read =
            read.map_err(|error| self.error(self.buffer.len(), &format!("cannot be read: {error}")))?;
        self.beyond -= read as u64;
        if (read as u64) < missing {
            self.beyond = 0; // it became shorter
        }
        Ok(())
    }

    /// The next thing in the file; `None` behind the last one, once the checksum was found right.
    pub fn next_item(&mut self) -> Result<Option<Item>, FileError> {
        while !self.is_done {
            let unread = &self.buffer[self.at..];
            let mut reader = Reader::part(unread, self.beyond);
            match step(&mut reader, self.is_valkey, self.database) {
                Ok(step) => {
                    let len = unread.len() - reader.rest().len();
                    self.consume(len);
                    match step {
                        Step::Item(item) => return Ok(Some(item)),
                        Step::Database(number) => self.database = number,
                        Step::Nothing => {}
                        Step::End => self.finish()?,
                    }
                }
                Err(_) if reader.wants_more() => {
                    let wanted = (unread.len() * 2).max(self.step);
                    self.fill(wanted)?;
                }
                Err(why) => {
                    let at = self.at + unread.len() - reader.rest().len();
                    let reason = match why {
                        Stop::Malformed if reader.rest().is_empty() && self.beyond == 0 => {
                            "the file ends too early".to_owned()
                        }
                        Stop::Malformed => "the file is damaged".to_owned(),
                        Stop::Unknown(mark) => format!("{mark} is no type of value that is known"),
                    };
                    return Err(self.error(at, &reason));
                }
            }
        }
        Ok(None)
    }

    /// Compares the checksum.
    fn finish(&mut self) -> Result<(), FileError> {
        self.is_done = true;
        if self.version < CHECKSUM_SINCE {
            return Ok(());
        }
        self.fill(8)?;
        let sum = self.buffer.first_chunk::<8>().map(|sum| u64::from_le_bytes(*sum));
        let found = self.digest.clone().finalize();
        match sum {
            None => Err(self.error(self.buffer.len(), "the file ends too early")),
            Some(sum) if sum != 0 && sum != found => Err(self.error(0, "the checksum is wrong")),
            Some(_) => {
                self.at += 8;
                Ok(())
            }
        }
    }
}

enum Step {
    Item(Item),
    Database(u64),
    Nothing,
    End,
}

enum Stop {
    Malformed,
    Unknown(u8),
}

impl From<Malformed> for Stop {
    fn from(_: Malformed) -> Stop {
        Stop::Malformed
    }
}

/// Reads a mark and what belongs to it, with the key that deadlines and uses stand in front of.
fn step(reader: &mut Reader, is_valkey: bool, database: u64) -> Result<Step, Stop> {
    let (mut expire_at, mut idle_s, mut frequency) = (None, None, None);
    loop {
        match reader.byte()? {
            EXPIRES_MS => expire_at = Some(i64::from_le_bytes(reader.array()?)),
            EXPIRES_S => expire_at = Some(i64::from(i32::from_le_bytes(reader.array()?)) * 1000),
            IDLE => idle_s = Some(reader.length()?),
            FREQUENCY => frequency = Some(reader.byte()?),
            AUX => {
                let name = reader.string()?.into_owned();
                return Ok(Step::Item(Item::Aux(name, reader.string()?.into_owned())));
            }
            DATABASE => return Ok(Step::Database(reader.length()?)),
            SIZES => {
                let keys = reader.length()?;
                let _deadlines = reader.length()?;
                return Ok(Step::Item(Item::Sizes(keys)));
            }
            SLOT_SIZES => {
                for _ in 0..3 {
                    reader.length()?;
                }
                return Ok(Step::Nothing);
            }
            FUNCTIONS => {
                let _text = reader.string()?;
                return Ok(Step::Item(Item::Functions));
            }
            MODULE_DATA => {
                let _module = reader.length()?;
                let (_when, _value) = (reader.length()?, reader.length()?);
                skip_module(reader)?;
                return Ok(Step::Item(Item::ModuleData));
            }
            END => return Ok(Step::End),
            kind => {
                let name = reader.string()?.into_owned();
                let value = match kind {
                    MODULE_VALUE => {
                        let _module = reader.length()?;
                        skip_module(reader)?;
                        Err("module")
                    }
                    kind if STREAMS.contains(&kind) => {
                        skip_stream(kind, reader)?;
                        Err("stream")
                    }
                    rdb_value::HASH_TIMED_OF_VALKEY if is_valkey => Ok(rdb_value::read_valkey_hash(reader)?),
                    kind => Ok(rdb_value::read(kind, reader)?.ok_or(Stop::Unknown(kind))?),
                };
                let key = Key { database, name, expire_at, idle_s, frequency, kind, value };
                return Ok(Step::Item(Item::Key(Box::new(key))));
            }
        }
    }
}

/// A module's value: marks with what belongs to them, until a zero.
fn skip_module(reader: &mut Reader) -> Result<(), Malformed> {
    loop {
        match reader.length()? {
            0 => return Ok(()),
            1 | 2 => drop(reader.length()?),
            3 => drop(reader.array::<4>()?),
            4 => drop(reader.array::<8>()?),
            5 => drop(reader.string()?),
            _ => return Err(Malformed),
        }
    }
}

/// A stream: listpacks by their first id, figures, groups with what their consumers have not acknowledged.
fn skip_stream(kind: u8, reader: &mut Reader) -> Result<(), Malformed> {
    let (has_figures, has_active_times) = (kind >= STREAMS[1], kind >= STREAMS[2]);
    let many = |reader: &mut Reader| {
        let count = reader.length()?;
        reader.check_claim(count, 2).map(|()| count)
    };
    for _ in 0..many(reader)? {
        let (_id, _listpack) = (reader.string()?, reader.string()?);
    }
    // Its length and last id; since 7.0 the first id, the greatest removed one and how many were added.
    for _ in 0..if has_figures { 8 } else { 3 } {
        reader.length()?;
    }
    for _ in 0..many(reader)? {
        let _name = reader.string()?;
        for _ in 0..if has_figures { 3 } else { 2 } {
            reader.length()?;
        }
        for _ in 0..many(reader)? {
            let (_id, _delivered_at) = (reader.array::<16>()?, reader.array::<8>()?);
            reader.length()?;
        }
        for _ in 0..many(reader)? {
            let _consumer = reader.string()?;
            let _seen_at = reader.array::<8>()?;
            if has_active_times {
                let _active_at = reader.array::<8>()?;
            }
            for _ in 0..many(reader)? {
                let _id = reader.array::<16>()?;
            }
        }
    }
    Ok(())
}

/// Writes a file.
pub struct FileWriter<W> {
    out: W,
    digest: Digest<'static, u64, Table<16>>,
    database: Option<u64>,
    scratch: Vec<u8>,
}

impl<W: Write> FileWriter<W> {
    /// Writes the head of a file of this version.
    pub fn new(out: W, version: u32) -> std::io::Result<FileWriter<W>> {
        let mut file = FileWriter { out, digest: CRC.digest(), database: None, scratch: Vec::new() };
        file.scratch.extend_from_slice(format!("REDIS{version:04}").as_bytes());
        file.flush()?;
        file.aux("redis-ver", "7.0.0")?; // what the values in it are of
        file.aux("redis-bits", "64")?;
        Ok(file)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.digest.update(&self.scratch);
        self.out.write_all(&self.scratch)?;
        self.scratch.clear();
        Ok(())
    }

    fn aux(&mut self, name: &str, text: &str) -> std::io::Result<()> {
        self.scratch.push(AUX);
        write_string(name.as_bytes(), &mut self.scratch);
        write_string(text.as_bytes(), &mut self.scratch);
        self.flush()
    }

    /// Writes a key, whose value stands in `value` with its type byte in front.
    pub fn key(
        &mut self,
        database: u64,
        name: &[u8],
        expire_at: Option<i64>,
        value: &[u8],
    ) -> std::io::Result<()> {
        if self.database != Some(database) {
            self.scratch.push(DATABASE);
            write_length(database, &mut self.scratch);
            self.database = Some(database);
        }
        if let Some(at) = expire_at {
            self.scratch.push(EXPIRES_MS);
            self.scratch.extend_from_slice(&at.to_le_bytes());
        }
        let (kind, rest) = value.split_first().expect("a value has a type byte");
        self.scratch.push(*kind);
        write_string(name, &mut self.scratch);
        self.scratch.extend_from_slice(rest);
        self.flush()
    }

    /// Ends the file with its checksum.
    pub fn finish(mut self) -> std::io::Result<W> {
        self.scratch.push(END);
        self.flush()?;
        let sum = self.digest.clone().finalize();
        self.out.write_all(&sum.to_le_bytes())?;
        self.out.flush()?;
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    /// Gives few bytes at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let len = self.0.len().min(out.len()).min(7);
            out[..len].copy_from_slice(&self.0[..len]);
            self.0 = &self.0[len..];
            Ok(len)
        }
    }

    fn keys(bytes: &[u8]) -> Result<Vec<Key>, FileError> {
        let mut reader = FileReader::in_steps(Slow(bytes), bytes.len() as u64, 64)?;
        let mut keys = Vec::new();
        while let Some(item) = reader.next_item()? {
            if let Item::Key(key) = item {
                keys.push(*key);
            }
        }
        Ok(keys)
    }

    fn written(count: u32, longest: usize) -> Vec<u8> {
        let mut file = FileWriter::new(Vec::new(), 10).expect("in memory");
        for number in 0..count {
            let mut value = Vec::new();
            let text = vec![number as u8; number as usize * longest / count as usize];
            rdb_value::write_string_value(&text, &mut value);
            let expire_at = (number % 3 == 0).then_some(1_000 + i64::from(number));
            let name = number.to_string();
            file.key(u64::from(number % 2), name.as_bytes(), expire_at, &value).expect("in memory");
        }
        file.finish().expect("in memory")
    }

    #[test]
    fn what_is_written_is_read_in_pieces_of_any_size() {
        let keys = keys(&written(40, 3_000)).expect("is whole");
        assert_eq!(keys.len(), 40);
        for (number, key) in keys.iter().enumerate() {
            assert_eq!((key.database, &key.name[..]), (number as u64 % 2, number.to_string().as_bytes()));
            assert_eq!(key.expire_at, (number % 3 == 0).then_some(1_000 + number as i64));
            let text = vec![number as u8; number * 3_000 / 40];
            assert_eq!(key.value, Ok(Value::String(text)));
        }
    }

    #[test]
    fn damage_is_told_with_its_place_and_never_panics() {
        let whole = written(20, 400);
        for cut in 0..whole.len() {
            let error = keys(&whole[..cut]).expect_err("it is cut");
            assert!(error.offset <= cut as u64, "{error}");
        }
        let mut random = StdRng::seed_from_u64(1);
        for _ in 0..3_000 {
            let mut bytes = whole.clone();
            let at = random.random_range(0..bytes.len());
            bytes[at] ^= 1 << random.random_range(0..8);
            // The sum may be turned into the one that says that there is none, but not by one bit.
            assert!(keys(&bytes).is_err(), "byte {at}");
        }
        let mut without_sum = whole.clone();
        let end = whole.len() - 8;
        without_sum[end..].fill(0);
        assert_eq!(keys(&without_sum).expect("no checksum was written").len(), 20);
    }

    #[test]
    fn versions_that_are_not_known_are_refused_by_their_number() {
        let refused = |head: &[u8]| FileReader::new(head, head.len() as u64).err().map(|error| error.reason);
        assert_eq!(refused(b"REDIS0011\xff"), None);
        assert_eq!(refused(b"VALKEY080\xff"), None);
        assert_eq!(refused(b"REDIS0001\xff"), None);
        assert!(refused(b"REDIS0014\xff").expect("is refused").contains("version 14"));
        assert!(refused(b"RUDIS0011\xff").expect("is refused").contains("no rdb file"));
        assert!(refused(b"REDIS00").expect("is refused").contains("no rdb file"));
    }

    #[test]
    fn streams_and_modules_are_passed_over() {
        let mut bytes = b"REDIS0011".to_vec();
        let id = [0_u8; 16];
        for kind in STREAMS {
            bytes.extend_from_slice(&[kind, 1, b's', 1, 16]);
            bytes.extend_from_slice(&id);
            bytes.extend_from_slice(&[3, b'l', b'p', b'k']);
            bytes.extend_from_slice(if kind == 15 { &[1, 2, 3][..] } else { &[1, 2, 3, 4, 5, 6, 7, 8] });
            bytes.extend_from_slice(&[1, 1, b'g', 1, 2]); // one group
            bytes.extend_from_slice(if kind == 15 { &[][..] } else { &[9] });
            bytes.push(1);
            bytes.extend_from_slice(&id);
            bytes.extend_from_slice(&[0; 8]);
            bytes.push(1);
            bytes.extend_from_slice(&[1, 1, b'c']); // one consumer
            bytes.extend_from_slice(&[0; 8]);
            bytes.extend_from_slice(if kind == 21 { &[0; 8][..] } else { &[] });
            bytes.push(1);
            bytes.extend_from_slice(&id);
        }
        bytes.extend_from_slice(&[MODULE_VALUE, 1, b'm', 9, 1, 5, 3, 0, 0, 0, 0, 5, 2, b'h', b'i', 0]);
        bytes.extend_from_slice(&[0, 1, b'k', 1, b'v', END]);
        bytes.extend_from_slice(&[0; 8]);
        let keys = keys(&bytes).expect("is whole");
        let kinds: Vec<_> = keys.iter().map(|key| key.value.as_ref().err().copied()).collect();
        assert_eq!(kinds, [Some("stream"), Some("stream"), Some("stream"), Some("module"), None]);
    }
}
