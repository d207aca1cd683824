//! What random words are made of: edge values by the kind of an argument, narrowed by its name where a name tells more.

use crate::support::Chance;
use larder::commands::table;
use larder::protocol::spec::Group;
use larder::protocol::spec::flag::WRITE;
use std::sync::LazyLock;

/// A random choice.
pub fn pick<'a, T>(chance: &mut Chance, of: &'a [T]) -> &'a T {
    &of[chance.below(of.len() as u64) as usize]
}

/// True once in `n` times.
pub fn one_in(chance: &mut Chance, n: u64) -> bool {
    chance.below(n) == 0
}

const INTEGERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "-2",
    "3",
    "7",
    "8",
    "10",
    "100",
    "127",
    "128",
    "-128",
    "255",
    "256",
    "4096",
    "9999",
    "10000",
    "32767",
    "32768",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "-2147483648",
    "-2147483649",
    "4294967295",
    "4294967296",
    "9007199254740992",
    "9007199254740993",
    "9223372036854775806",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775807",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999",
];

/// What looks like a number to some readers and not to others.
const ODD_NUMBERS: &[&str] = &[
    "", " ", "+1", " 1", "1 ", "01", "-0", "0x10", "1e3", "1.0", "1.5", "one", "--1", "-", "+", "\t1",
    "1_000", "٣",
];

const DOUBLES: &[&str] = &[
    "0",
    "1",
    "-1",
    "0.1",
    "0.2",
    "-0.5",
    "1.5",
    "3.0e3",
    "5e-1",
    "1e17",
    "1e-17",
    "1e400",
    "-1e400",
    "1e308",
    "1.7976931348623157e308",
    "4.9e-324",
    "1e-400",
    "1e4932",
    "1e5000",
    "inf",
    "-inf",
    "+inf",
    "Infinity",
    "nan",
    "-nan",
    "NaN",
    "0x1p3",
    "123456789.123456789123456789",
    "0.30000000000000004",
    "9007199254740993",
    "18446744073709551616",
    "3.14159265358979323846264338327950288",
    ".5",
    "5.",
    "1e",
    "1e+2",
    "1,5",
    "-0.0",
    "1_0",
];

const TEXTS: &[&str] =
    &["", "a", "b", "foo", "bar", "ohmytext", "mynewtext", "abc\0def", "\r\n", "a b", "\"", "ä"];

const PATTERNS: &[&str] = &[
    "*", "", "?", "s*", "h*", "*1", "[sh]*", "[^s]*", "[a-h]?1", "[z-a]*", "[", "[a", "[]", "\\*", "\\",
    "a\\", "*[*", "**", "h?1->f1", "w_*", "w_*->f1", "#", "nosort", "*->*", "{t}*", "s[", "k[]", "[^]",
    "[a-]",
];

const TIMES: &[&str] = &[
    "1",
    "0",
    "-1",
    "1000000000",
    "1700000000",
    "4102444800",
    "4102444801",
    "99999999999",
    "1700000000000",
    "4102444800000",
    "4102444800001",
    "99999999999999",
    "9223372036854775",
    "9223372036854776",
    "9223372036854775807",
    "-9223372036854775808",
];

/// Words for arguments with these names, whatever their kind.
const BY_NAME: &[(&str, &[&str])] = &[
    ("cursor", &["0", "0", "0", "1", "7", "-1", "18446744073709551615", "18446744073709551616", "x"]),
    ("count", &["0", "1", "2", "3", "5", "10", "100", "1000", "-1", "-2", "-5", "-10", "-100"]),
    (
        "encoding",
        &[
            "u8", "i8", "u1", "i1", "u2", "i5", "u16", "i32", "u63", "i64", "u64", "i65", "u0", "i", "x8",
            "u8x", "U8",
        ],
    ),
    ("operation", &["AND", "OR", "XOR", "NOT", "and", "not", "nope"]),
    ("type", &["string", "hash", "list", "set", "zset", "stream", "nope", "STRING"]),
    ("db", DATABASES),
    ("index", DATABASES),
    ("index1", DATABASES),
    ("index2", DATABASES),
    ("destination-db", DATABASES),
    ("protover", &["2", "3", "2", "3", "1", "4", "x"]),
    ("numreplicas", &["0", "-1", "1", "x"]),
    ("username", &["default", "nobody", ""]),
    ("version", &["0", "5", "6", "x"]),
    ("slot", &["0", "1", "16383", "16384", "-1", "x"]),
    ("event", &["command", "fork", "nope"]),
    ("subcommand", &["GETREG", "DECODE", "ENCODING", "TODENSE", "encoding", "nope"]),
    ("client-id", &["0", "-1", "999999", "x", "9223372036854775807"]),
    ("bit", &["0", "1", "2", "-1", "x"]),
    ("len", &["0", "1", "2", "4", "-1"]),
    ("frequency", &["0", "1", "255", "256", "-1"]),
    (
        "section",
        &[
            "commandstats",
            "errorstats",
            "server",
            "clients",
            "memory",
            "persistence",
            "stats",
            "replication",
            "cpu",
            "modules",
            "errorstats",
            "cluster",
            "keyspace",
            "default",
            "nope",
            "SERVER",
        ],
    ),
    ("category", &["string", "hash", "read", "write", "fast", "nope"]),
    ("categoryname", &["string", "hash", "read", "write", "fast", "nope"]),
    ("numkeys", &["1", "1", "1", "2", "2", "3", "0", "-1", "x"]),
    ("min", &["-inf", "0", "1", "(1", "-", "[a", "(b", "5", "(f1", "x"]),
    ("max", &["+inf", "inf", "10", "(3", "+", "[z", "(f5", "2", "x"]),
    ("id", &["*", "1-1", "1-2", "2-*", "0", "0-0", "5", "$", ">", "-", "+", "18446744073709551615-1", "x"]),
    ("group", &["g", "g2"]),
    ("consumer", &["c", "c2"]),
    ("channel", &["ch1", "ch2"]),
    ("sha1", &["da39a3ee5e6b4b0d3255bfef95601890afd80709", "nope"]),
];

const DATABASES: &[&str] = &["0", "0", "1", "2", "15", "16", "-1", "x"];

/// Names of redis-server's parameters; the file has a line each that begins with one.
pub static PARAMETERS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let lines = include_str!("../../src/config/redis-7.0-parameters.txt").lines();
    lines.filter_map(|line| line.split_whitespace().next()).collect()
});

/// A word for an argument with this name, if the name says what fits.
pub fn named(chance: &mut Chance, name: &str) -> Option<Vec<u8>> {
    match name {
        "command" | "command-name" => {
            let entries = table::entries();
            let entry = pick(chance, entries);
            let below = entry.subcommands.len() as u64;
            let entry = if below > 0 && one_in(chance, 2) { pick(chance, &entry.subcommands) } else { entry };
            Some(entry.full_name.clone().into_bytes())
        }
        "parameter" => {
            let all = if one_in(chance, 2) { super::rules::SETTINGS } else { &PARAMETERS };
            Some(pick(chance, all).as_bytes().to_vec())
        }
        // Bits and bytes: small ones mostly; `#` counts in units of BITFIELD's type.
        "offset" => Some(match chance.below(12) {
            0 => integer(chance),
            1 => format!("#{}", chance.below(100)).into_bytes(),
            2 => chance.below(100_000).to_string().into_bytes(),
            3 => format!("{}", 4079 * 8 - 8 + chance.below(16)).into_bytes(),
            _ => chance.below(64).to_string().into_bytes(),
        }),
        // Positions from either end.
        "start" | "end" if !one_in(chance, 4) => {
            Some((chance.below(40) as i64 - 20).to_string().into_bytes())
        }
        _ => {
            let (_, words) = BY_NAME.iter().find(|(of, _)| *of == name)?;
            if one_in(chance, 8) { None } else { Some(pick(chance, words).as_bytes().to_vec()) }
        }
    }
}

/// An integer, or what may be taken for one.
pub fn integer(chance: &mut Chance) -> Vec<u8> {
    match chance.below(20) {
        0 => pick(chance, ODD_NUMBERS).as_bytes().to_vec(),
        1..=7 => pick(chance, INTEGERS).as_bytes().to_vec(),
        8 => (chance.next() as i64).to_string().into_bytes(),
        9 => ((1_i128 << chance.below(66)) - 1 + i128::from(chance.below(3))).to_string().into_bytes(),
        10 => (-(1_i128 << chance.below(66)) - 1 + i128::from(chance.below(3))).to_string().into_bytes(),
        _ => (chance.below(25) as i64 - 5).to_string().into_bytes(),
    }
}

/// A floating-point number, or what may be taken for one.
pub fn double(chance: &mut Chance) -> Vec<u8> {
    match chance.below(8) {
        0 => integer(chance),
        1 => format!("{}.{}", chance.next() as i32, chance.next() % 100_000).into_bytes(),
        2 => f64::from_bits(chance.next()).to_string().into_bytes(),
        3 => format!("{}e{}", chance.below(100), chance.below(40) as i64 - 20).into_bytes(),
        _ => pick(chance, DOUBLES).as_bytes().to_vec(),
    }
}

/// A pattern.
pub fn pattern(chance: &mut Chance) -> Vec<u8> {
    pick(chance, PATTERNS).as_bytes().to_vec()
}

/// A Unix time in seconds or milliseconds, none of them near the present.
pub fn unix_time(chance: &mut Chance) -> Vec<u8> {
    if one_in(chance, 10) { integer(chance) } else { pick(chance, TIMES).as_bytes().to_vec() }
}

/// A value of a parameter, right for some and wrong for others.
pub fn setting(chance: &mut Chance) -> Vec<u8> {
    const VALUES: &[&str] = &[
        "0",
        "1",
        "2",
        "8",
        "16",
        "64",
        "512",
        "-1",
        "64mb",
        "yes",
        "no",
        "KEA",
        "Kgx$",
        "",
        "nope",
        "noeviction",
        "allkeys-lru",
        "allkeys-lfu",
        "volatile-ttl",
    ];
    if one_in(chance, 8) { integer(chance) } else { pick(chance, VALUES).as_bytes().to_vec() }
}

/// Any bytes: what encodings and limits turn on.
pub fn text(chance: &mut Chance) -> Vec<u8> {
    match chance.below(200) {
        0..=54 => integer(chance),
        55..=64 => double(chance),
        65..=94 => pick(chance, TEXTS).as_bytes().to_vec(),
        // 44: the longest embstr; 64: the longest listpack value; 4080 and so on: where chunks begin.
        95..=124 => {
            let length = pick(chance, &[19_usize, 20, 21, 43, 44, 45, 63, 64, 65, 128, 255, 256]);
            vec![b'x'; *length]
        }
        125..=139 => {
            let length = chance.below(24);
            (0..length).map(|_| chance.next() as u8).collect()
        }
        140..=142 => {
            let length = pick(chance, &[4063_usize, 4079, 4080, 4081, 8192, 16_383, 16_384, 20_000]);
            vec![b'0' + chance.below(10) as u8; *length]
        }
        143 => vec![chance.next() as u8; 65_536],
        _ => {
            let length = chance.below(12) as usize;
            chance.letters(length)
        }
    }
}

/// A field of a collection: few, so that they meet, and now and then many.
pub fn field(chance: &mut Chance) -> Vec<u8> {
    match chance.below(20) {
        0 => text(chance),
        1..=3 => chance.below(300).to_string().into_bytes(),
        _ => format!("f{}", chance.below(6)).into_bytes(),
    }
}

/// The groups whose commands make data of a type, by the two letters their keys begin with.
static PREFIXES: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let makes_data = |entry: &&table::Entry| {
        let spec = &entry.command.spec;
        spec.flags.has(WRITE) && !matches!(spec.group, Group::Generic | Group::Server | Group::Scripting)
    };
    let mut prefixes: Vec<_> =
        table::entries().iter().filter(makes_data).map(|entry| prefix(entry.command.spec.group)).collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    prefixes
});

fn prefix(group: Group) -> &'static str {
    &group.name()[..2]
}

/// A key: those of one type meet each other mostly, and others now and then; commands of no type take any.
pub fn key(chance: &mut Chance, group: Group) -> Vec<u8> {
    const SPECIAL: &[&str] = &["", "{t}a", "{t}b", "{}x", "a b", "s\0", "s[1", "h1"];
    let own = PREFIXES.iter().find(|known| **known == prefix(group));
    match (chance.below(40), own) {
        (0, _) => pick(chance, SPECIAL).as_bytes().to_vec(),
        (1, _) => vec![b'k'; *pick(chance, &[400_usize, 511, 512, 600])],
        (2, _) if one_in(chance, 8) => text(chance),
        (6.., Some(own)) => format!("{own}{}", chance.below(3)).into_bytes(),
        _ => format!("{}{}", pick(chance, &PREFIXES), chance.below(3)).into_bytes(),
    }
}
