//! What a parameter may hold, how its words are read, and how a value is shown. A value *is* the text CONFIG GET shows: reading
//! that text again gives the same value. Error texts are Redis's.

use crate::base::concern::WriteConcern;
use crate::base::number;

/// The kind of a parameter's value.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `yes` or `no`
    Bool,
    /// An integer from `min` to `max`.
    Int {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// An integer that is drawn into its range instead of refused.
    Clamped {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// File permissions, in octal.
    Octal,
    /// Bytes; units are understood, plain bytes are shown.
    Memory {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// Bytes, or a part of `maxmemory` as `10%`.
    MemoryOrPercent,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Several of these words.
    Words(&'static [&'static str]),
    /// Any bytes.
    Text,
    /// The name of a file, without a folder; the text says what it is in the error.
    FileName(&'static str),
    /// A host name.
    Host,
    /// A folder; shown as an absolute path.
    Folder,
    /// Several words of any kind, at most this many.
    List(usize),
    /// Snapshot points: pairs of seconds and changes.
    SavePoints,
    /// Output buffer limits: class, hard limit, soft limit, soft seconds; several classes in a row.
    BufferLimits,
    /// Letters of keyspace event classes.
    EventClasses,
    /// Percentiles from 0 to 100.
    Percentiles,
    /// Three values from -2000 to 2000.
    OomScores,
    /// `host port`, or `no one`.
    Primary,
    /// Pairs of database and write concern, or nothing.
    DatabaseConcerns,
    /// `auto`, `primary`, `any`, or `max-lag=` and milliseconds.
    ReplicaReads,
    /// `no`; `yes` is refused with this text.
    Unsupported(&'static str),
}

/// Classes of clients with output buffer limits, as CONFIG GET shows them.
pub const BUFFER_CLASSES: [&str; 3] = ["normal", "slave", "pubsub"];

impl Kind {
    /// Whether a value is made of several words.
    pub fn takes_many(self) -> bool {
        matches!(
            self,
            Kind::Words(_)
                | Kind::List(_)
                | Kind::SavePoints
                | Kind::BufferLimits
                | Kind::Percentiles
                | Kind::OomScores
                | Kind::Primary
                | Kind::DatabaseConcerns
        )
    }

    /// Reads a value. `current` is the present one: output buffer limits keep what is not named, and lines of a file with
    /// snapshot points add up.
    pub fn read(self, words: &[&[u8]], current: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Kind::SavePoints => return save_points(words, current),
            Kind::BufferLimits => return buffer_limits(words, current),
            Kind::Percentiles => return percentiles(words),
            Kind::OomScores => return oom_scores(words),
            Kind::Words(known) => return several_words(words, known),
            Kind::List(max) => return list(words, max),
            Kind::Primary => return primary(words),
            Kind::DatabaseConcerns => return database_concerns(words),
            _ => {}
        }
        let &[word] = words else { return Err("wrong number of arguments".to_owned()) };
        match self {
            Kind::Bool => yes_or_no(word),
            Kind::Int { min, max } => integer(word, min, max),
            Kind::Clamped { min, max } => integer(word, 0, i64::from(i32::MAX)).map(|text| {
                let value = number::parse_i64(&text).unwrap_or(min);
                value.clamp(min, max).to_string().into_bytes()
            }),
            Kind::Octal => octal(word),
            Kind::Memory { min, max } => memory(word, min, max),
            Kind::MemoryOrPercent => memory_or_percent(word),
            Kind::Word(known) => one_word(word, known),
            Kind::FileName(what) => file_name(word, what),
            Kind::Host => host(word),
            Kind::Folder => folder(word),
            Kind::EventClasses => event_classes(word),
            Kind::ReplicaReads => replica_reads(word),
            Kind::Unsupported(reason) => match yes_or_no(word)?.as_slice() {
                b"yes" => Err(reason.to_owned()),
                no => Ok(no.to_vec()),
            },
            _ => Ok(word.to_vec()),
        }
    }
}

fn yes_or_no(word: &[u8]) -> Result<Vec<u8>, String> {
    if word.eq_ignore_ascii_case(b"yes") || word.eq_ignore_ascii_case(b"no") {
        return Ok(word.to_ascii_lowercase());
    }
    Err("argument must be 'yes' or 'no'".to_owned())
}

fn integer(word: &[u8], min: i64, max: i64) -> Result<Vec<u8>, String> {
    let value = number::parse_i64(word).ok_or("argument couldn't be parsed into an integer")?;
    if (min..=max).contains(&value) {
        return Ok(word.to_vec());
    }
    Err(format!("argument must be between {min} and {max} inclusive"))
}

fn octal(word: &[u8]) -> Result<Vec<u8>, String> {
    let value = std::str::from_utf8(word).ok().and_then(|text| i64::from_str_radix(text, 8).ok());
    match value.ok_or("argument couldn't be parsed as an octal number")? {
        value @ 0..=0o777 => Ok(format!("{value:o}").into_bytes()),
        _ => Err("argument must be between 0 and 777 inclusive".to_owned()),
    }
}

fn memory(word: &[u8], min: u64, max: u64) -> Result<Vec<u8>, String> {
    let value = number::parse_memory(word).ok_or("argument must be a memory value")?;
    if (min..=max).contains(&value) {
        return Ok(value.to_string().into_bytes());
    }
    Err(format!("argument must be between {min} and {max} inclusive"))
}

fn memory_or_percent(word: &[u8]) -> Result<Vec<u8>, String> {
    const REFUSED: &str = "argument must be a memory or percent value";
    let Some(digits) = word.strip_suffix(b"%") else {
        return number::parse_memory(word)
            .map(|bytes| bytes.to_string().into_bytes())
            .ok_or(REFUSED.to_owned());
    };
    match number::parse_i64(digits).filter(|percent| *percent >= 0).ok_or(REFUSED)? {
        0 => Ok(b"0".to_vec()),
        1..=100 => Ok(word.to_vec()),
        _ => Err("percentage argument must be less or equal to 100".to_owned()),
    }
}

fn one_word(word: &[u8], known: &[&str]) -> Result<Vec<u8>, String> {
    let found = known.iter().find(|known| word.eq_ignore_ascii_case(known.as_bytes()));
    found.map(|word| word.as_bytes().to_vec()).ok_or_else(|| one_of(known))
}

fn one_of(known: &[&str]) -> String {
    format!("argument(s) must be one of the following: {}", known.join(", "))
}

/// Words that are flags; the first known one means none of them.
fn several_words(words: &[&[u8]], known: &[&str]) -> Result<Vec<u8>, String> {
    let mut chosen = vec![false; known.len()];
    for word in words {
        let found = known.iter().position(|known| word.eq_ignore_ascii_case(known.as_bytes()));
        chosen[found.ok_or_else(|| one_of(known))?] = true;
    }
    if words.is_empty() {
        return Err(one_of(known));
    }
    let is_chosen = |name: &str| known.iter().zip(&chosen).any(|(known, chosen)| *known == name && *chosen);
    if is_chosen("save") && is_chosen("nosave") {
        return Err("shutdown options SAVE and NOSAVE can't be used simultaneously".to_owned());
    }
    let shown: Vec<&str> =
        known.iter().zip(&chosen).skip(1).filter(|(_, chosen)| **chosen).map(|(known, _)| *known).collect();
    Ok(if shown.is_empty() { known[0].as_bytes().to_vec() } else { shown.join(" ").into_bytes() })
}

/// A word with spaces in it counts as several, because that is how it is shown.
fn list(words: &[&[u8]], max: usize) -> Result<Vec<u8>, String> {
    let words = words.iter().flat_map(|word| word.split(|byte| *byte == b' '));
    let words: Vec<&[u8]> = words.filter(|word| !word.is_empty()).collect();
    if words.len() > max {
        return Err("Too many bind addresses specified.".to_owned());
    }
    Ok(words.join(&b' '))
}

fn file_name(word: &[u8], what: &str) -> Result<Vec<u8>, String> {
    if word.contains(&b'/') {
        let (name, kind) = what.split_once(' ').unwrap_or((what, "filename"));
        return Err(format!("{name} can't be a path, just a {kind}"));
    }
    Ok(word.to_vec())
}

fn host(word: &[u8]) -> Result<Vec<u8>, String> {
    if word.len() >= 256 {
        return Err("Hostnames must be less than 256 characters".to_owned());
    }
    if word.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')) {
        return Ok(word.to_vec());
    }
    Err("Hostnames may only contain alphanumeric characters, hyphens or dots".to_owned())
}

fn folder(word: &[u8]) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(word).map_err(|_| "No such file or directory")?;
    let path = std::path::absolute(text).map_err(|error| error.to_string())?;
    path.into_os_string()
        .into_string()
        .map(String::into_bytes)
        .map_err(|_| "No such file or directory".to_owned())
}

fn save_points(words: &[&[u8]], current: &[u8]) -> Result<Vec<u8>, String> {
    const REFUSED: &str = "Invalid save parameters";
    if let [[]] = words {
        return Ok(Vec::new());
    }
    if words.len() % 2 == 1 {
        return Err(REFUSED.to_owned());
    }
    for pair in words.chunks_exact(2) {
        let (seconds, changes) = (number::parse_i64(pair[0]), number::parse_i64(pair[1]));
        if seconds.is_none_or(|seconds| seconds < 1) || changes.is_none_or(|changes| changes < 0) {
            return Err(REFUSED.to_owned());
        }
    }
    let mut points = current.to_vec();
    for word in words {
        if !points.is_empty() {
            points.push(b' ');
        }
        points.extend_from_slice(word);
    }
    Ok(points)
}

fn buffer_limits(words: &[&[u8]], current: &[u8]) -> Result<Vec<u8>, String> {
    if words.is_empty() || !words.len().is_multiple_of(4) {
        return Err("Wrong number of arguments in buffer limit configuration.".to_owned());
    }
    let mut limits = read_buffer_limits(current);
    for group in words.chunks_exact(4) {
        let class = group[0].to_ascii_lowercase();
        let class = if class == b"replica" { b"slave".to_vec() } else { class };
        let index = BUFFER_CLASSES
            .iter()
            .position(|known| known.as_bytes() == class)
            .ok_or("Invalid client class specified in buffer limit configuration.")?;
        let (hard, soft) = (number::parse_memory(group[1]), number::parse_memory(group[2]));
        let seconds = number::parse_i64(group[3]).and_then(|seconds| u64::try_from(seconds).ok());
        let (Some(hard), Some(soft), Some(seconds)) = (hard, soft, seconds) else {
            return Err(
                "Error in hard, soft or soft_seconds setting in buffer limit configuration.".to_owned()
            );
        };
        limits[index] = [hard, soft, seconds];
    }
    let shown: Vec<String> = BUFFER_CLASSES
        .iter()
        .zip(limits)
        .map(|(class, [hard, soft, seconds])| format!("{class} {hard} {soft} {seconds}"))
        .collect();
    Ok(shown.join(" ").into_bytes())
}

/// Hard limit, soft limit and soft seconds of each class, from a value as it is shown.
pub fn read_buffer_limits(shown: &[u8]) -> [[u64; 3]; 3] {
    let mut limits = [[0; 3]; 3];
    let words: Vec<&[u8]> = shown.split(|byte| *byte == b' ').collect();
    for (class, group) in limits.iter_mut().zip(words.chunks_exact(4)) {
        for (limit, word) in class.iter_mut().zip(&group[1..]) {
            *limit = number::parse_memory(word).unwrap_or(0);
        }
    }
    limits
}

fn percentiles(words: &[&[u8]]) -> Result<Vec<u8>, String> {
    let mut shown = Vec::new();
    if let [[]] = words {
        return Ok(Vec::new());
    }
    for word in words {
        let value = number::parse_f64(word).ok_or("Invalid latency-tracking-info-percentiles parameters")?;
        if !(0.0..=100.0).contains(&value) {
            return Err(
                "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]".to_owned()
            );
        }
        shown.push(value.to_string());
    }
    Ok(shown.join(" ").into_bytes())
}

fn oom_scores(words: &[&[u8]]) -> Result<Vec<u8>, String> {
    if words.len() != 3 {
        return Err("wrong number of arguments".to_owned());
    }
    let is_valid =
        |word: &&[u8]| number::parse_i64(word).is_some_and(|value| (-2000..=2000).contains(&value));
    if !words.iter().all(is_valid) {
        return Err("Invalid oom-score-adj-values, elements must be between -2000 and 2000.".to_owned());
    }
    Ok(words.join(&b' '))
}

fn primary(words: &[&[u8]]) -> Result<Vec<u8>, String> {
    let &[host, port] = words else { return Err("wrong number of arguments".to_owned()) };
    if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
        return Ok(Vec::new());
    }
    if host.is_empty() || host.contains(&b' ') {
        return Err("Invalid master host".to_owned());
    }
    if number::parse_i64(port).is_none_or(|port| !(0..=65_535).contains(&port)) {
        return Err("Invalid master port".to_owned());
    }
    Ok(words.join(&b' '))
}

fn database_concerns(words: &[&[u8]]) -> Result<Vec<u8>, String> {
    const REFUSED: &str = "argument must be pairs of a database and local, one, majority or all";
    if let [[]] | [] = words {
        return Ok(Vec::new());
    }
    let mut shown: Vec<(u16, &str)> = Vec::with_capacity(words.len() / 2);
    for pair in words.chunks(2) {
        let &[database, concern] = pair else { return Err(REFUSED.to_owned()) };
        let database =
            number::parse_i64(database).and_then(|number| u16::try_from(number).ok()).ok_or(REFUSED)?;
        let concern = WriteConcern::named(concern).ok_or(REFUSED)?;
        if shown.iter().any(|(known, _)| *known == database) {
            return Err(format!("database {database} stands twice"));
        }
        shown.push((database, concern.name()));
    }
    let shown: Vec<String> =
        shown.iter().map(|(database, concern)| format!("{database} {concern}")).collect();
    Ok(shown.join(" ").into_bytes())
}

/// Databases with a write concern of their own, from a value as it is shown.
pub fn read_database_concerns(shown: &[u8]) -> Vec<(u16, WriteConcern)> {
    let words: Vec<&[u8]> = shown.split(|byte| *byte == b' ').collect();
    let pairs = words.chunks_exact(2).filter_map(|pair| {
        let database = number::parse_i64(pair[0]).and_then(|number| u16::try_from(number).ok())?;
        Some((database, WriteConcern::named(pair[1])?))
    });
    pairs.collect()
}

/// What stands before the milliseconds of `replica-reads`.
pub const MAX_LAG: &[u8] = b"max-lag=";

fn replica_reads(word: &[u8]) -> Result<Vec<u8>, String> {
    let word = word.to_ascii_lowercase();
    let milliseconds = word.strip_prefix(MAX_LAG).and_then(number::parse_i64);
    if matches!(word.as_slice(), b"auto" | b"primary" | b"any") || milliseconds.is_some_and(|limit| limit > 0)
    {
        return Ok(word);
    }
    Err("argument must be 'auto', 'primary', 'any' or 'max-lag=<milliseconds>'".to_owned())
}

/// Letter and bit of each class of keyspace events, in the order they are shown; `K` and the later ones are not part of `A`.
pub const EVENT_LETTERS: [(u8, u32); 14] = [
    (b'g', 1),
    (b'$', 1 << 1),
    (b'l', 1 << 2),
    (b's', 1 << 3),
    (b'h', 1 << 4),
    (b'z', 1 << 5),
    (b'x', 1 << 6),
    (b'e', 1 << 7),
    (b't', 1 << 8),
    (b'd', 1 << 9),
    (b'n', 1 << 10),
    (b'K', 1 << 11),
    (b'E', 1 << 12),
    (b'm', 1 << 13),
];

/// The bits that `A` stands for.
const ALL_EVENTS: u32 = (1 << 10) - 1;

/// The bits of letters; `None` if one is unknown.
pub fn event_bits(letters: &[u8]) -> Option<u32> {
    letters.iter().try_fold(0, |bits, letter| {
        if *letter == b'A' {
            return Some(bits | ALL_EVENTS);
        }
        EVENT_LETTERS.iter().find(|(known, _)| known == letter).map(|(_, bit)| bits | bit)
    })
}

fn event_classes(word: &[u8]) -> Result<Vec<u8>, String> {
    let bits = event_bits(word).ok_or("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")?;
    let all = bits & ALL_EVENTS == ALL_EVENTS;
    let shown_apart = if all { bits & !ALL_EVENTS } else { bits };
    let mut shown = if all { vec![b'A'] } else { Vec::new() };
    shown.extend(EVENT_LETTERS.iter().filter(|(_, bit)| shown_apart & bit != 0).map(|(letter, _)| letter));
    Ok(shown)
}
