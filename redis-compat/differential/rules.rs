//! The one table of what cannot be sent, or cannot be compared byte for byte, each with its reason.
//!
//! Whatever has no row here is generated from the command table, sent to both servers, and its replies must be equal. What
//! redis-server does not know, because it came later or is Larder's own, is not sent; nor is what Larder does not have yet,
//! which `docs/compatibility.md` lists.
//! Where a declaration has the tip `nondeterministic_output_order` the order of elements is not compared, with
//! `nondeterministic_output` only the kinds of values are; a row can say more exactly what may differ. Error replies are
//! always compared to the letter.

use larder::commands::table::{self, Entry};
use larder::protocol::spec::Argument;
use std::collections::HashSet;
use std::sync::LazyLock;

/// What is special about a command.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// Never sent.
    NotSent,
    /// Not sent if one of its words is one of these, in upper or lower case.
    NotWith(&'static [&'static str]),
    /// Sent only if every `step`th word from `from` on is one of these (step 0: that one word).
    OnlyWith {
        /// Index of the first word looked at.
        from: usize,
        /// From one word to the next; 0 if there is but one.
        step: usize,
        /// In lower case.
        words: &'static [&'static str],
    },
    /// Sent only with so many words.
    OfWords(usize),
    /// Sent a twentieth as often as others: it empties what the other commands need.
    Rarely,
    /// Not sent inside MULTI.
    NotQueued,
    /// May end the connection: nothing is sent behind it before its reply was read.
    Last,
    /// Replies are equal.
    Exact,
    /// Replies are of the same kind: error, number, text, or a list of the same kinds.
    Kind,
    /// Replies are both errors or both none.
    Success,
    /// Elements are the same in any order.
    AnyOrder,
    /// Pairs of elements are the same in any order.
    PairsInAnyOrder,
    /// Numbers differ by this at most.
    Within(i64),
    /// As many elements, of the same kinds.
    Count,
    /// A step of a walk: equal in any order if both are whole, of the same kind otherwise.
    Walk,
    /// A payload of DUMP: the same bytes, in any order where the type has none.
    Payload,
    /// A map or a list of pairs, equal but for these names.
    Except(&'static [&'static str]),
    /// Parameters with their values, equal but for these and for those that redis-server does not know.
    Parameters(&'static [&'static str]),
    /// Lines or words `name:value` or `name=value`: no name of redis-server is missing; these (`x*`: all that begin with
    /// x; `-x`: but for x) are the same on both sides, with equal values.
    Fields(&'static [&'static str]),
}

/// Of commands that are answered by a message for each name.
const MESSAGES: &str =
    "a message for each name and no reply; tests/server/pubsub.rs compares them with redis-server's";
const NO_FOURTH_WORD: Rule = Rule::OnlyWith { from: 3, step: 1, words: &[] };
const WAITS: &str = "a reply that does not come cannot be awaited; waiting is tested over sockets";

/// Command (`container|subcommand`; `container` for it and all below), rule, reason.
pub const RULES: &[(&str, Rule, &str)] = &[
    // --- not sent
    ("bgrewriteaof", Rule::NotSent, "redis-server forks, and refuses a second one for as long as that takes"),
    ("bgsave", Rule::NotSent, "redis-server forks, and refuses a second one for as long as that takes"),
    (
        "save",
        Rule::NotSent,
        "redis-server writes a file, Larder a checkpoint: what they answer depends on the disk",
    ),
    ("shutdown", Rule::NotSent, "ends the server"),
    ("failover", Rule::NotSent, "there is nobody to hand over to, and redis-server begins to wait for one"),
    ("replicaof", Rule::NotSent, "redis-server begins to look for a master and refuses writes"),
    ("slaveof", Rule::NotSent, "redis-server begins to look for a master and refuses writes"),
    ("blpop", Rule::NotSent, WAITS),
    ("brpop", Rule::NotSent, WAITS),
    ("blmove", Rule::NotSent, WAITS),
    ("brpoplpush", Rule::NotSent, WAITS),
    ("blmpop", Rule::NotSent, WAITS),
    ("bzpopmin", Rule::NotSent, WAITS),
    ("bzpopmax", Rule::NotSent, WAITS),
    ("bzmpop", Rule::NotSent, WAITS),
    (
        "sync",
        Rule::NotSent,
        "redis-server makes a stream of the connection; Larder does not serve that format",
    ),
    (
        "psync",
        Rule::NotSent,
        "redis-server makes a stream of the connection; Larder does not serve that format",
    ),
    (
        "replconf",
        Rule::NotWith(&["ack", "getack", "larder-link"]),
        "a reply that does not come cannot be awaited, and links are Larder's own",
    ),
    (
        "monitor",
        Rule::NotSent,
        "makes a stream of the connection; what it shows is in the tests over sockets",
    ),
    ("subscribe", Rule::NotSent, MESSAGES),
    ("psubscribe", Rule::NotSent, MESSAGES),
    ("ssubscribe", Rule::NotSent, MESSAGES),
    ("unsubscribe", Rule::NotSent, MESSAGES),
    ("punsubscribe", Rule::NotSent, MESSAGES),
    ("sunsubscribe", Rule::NotSent, MESSAGES),
    ("module|load", Rule::NotSent, "redis-server would load files"),
    ("module|loadex", Rule::NotSent, "redis-server would load files"),
    ("config|rewrite", Rule::NotSent, "redis-server has no file here and Larder's folder has one"),
    ("config|resetstat", Rule::Rarely, "the counters of INFO are compared"),
    ("client|kill", Rule::NotSent, "other connections end at a moment nobody knows"),
    ("client|reply", Rule::NotWith(&["off", "skip"]), "a reply that does not come cannot be awaited"),
    (
        "client|tracking",
        Rule::NotWith(&["on", "redirect"]),
        "absent, and the error says so; connections have other numbers",
    ),
    ("client|pause", Rule::Rarely, "holds up everybody for some milliseconds"),
    (
        "config|set",
        Rule::OnlyWith { from: 2, step: 2, words: SETTINGS },
        "other parameters change what the tester itself stands on: memory, time limits, passwords, ports",
    ),
    (
        "debug",
        Rule::OnlyWith { from: 1, step: 0, words: &["change-repl-id", "nope", ""] },
        "most subcommands harm the server, show its insides, or are not documented",
    ),
    // --- sent rarely
    ("flushall", Rule::Rarely, "empties everything"),
    ("flushdb", Rule::Rarely, "empties the database"),
    ("quit", Rule::Last, "ends the connection"),
    ("quit", Rule::Rarely, "ends the connection"),
    ("reset", Rule::Rarely, "ends transactions"),
    ("hello", Rule::Rarely, "changes the protocol of the connection"),
    // --- whose words are each server's own
    ("command", Rule::Success, "compared whole by tests/server/table.rs; commands are still missing"),
    ("command|count", Rule::Kind, "commands are still missing"),
    ("command|docs", Rule::Success, "compared whole by tests/server/table.rs; texts are our own words"),
    ("command|info", Rule::Success, "compared whole by tests/server/table.rs; flags and categories are sets"),
    ("command|list", Rule::Success, "commands are still missing"),
    ("acl|cat", Rule::Success, "commands are still missing"),
    ("lolwut", Rule::Success, "a picture, and the version"),
    (
        "hello",
        Rule::Except(&["version", "id"]),
        "7.2.4 is what Larder says it is; connections have other numbers",
    ),
    ("role", Rule::Kind, "offsets of replication"),
    ("function|stats", Rule::Except(&["engines"]), "there are no scripts yet"),
    // --- time, memory, chance
    ("time", Rule::Kind, "the clock"),
    ("lastsave", Rule::Kind, "the clock"),
    ("ttl", Rule::Within(10), "the clock"),
    ("pttl", Rule::Within(10_000), "the clock"),
    ("expiretime", Rule::Within(10), "the clock, where the deadline was relative"),
    ("pexpiretime", Rule::Within(10_000), "the clock, where the deadline was relative"),
    (
        "object|idletime",
        Rule::Kind,
        "the clock; after RESTORE with IDLETIME Larder's reaches back to its start only",
    ),
    ("object|freq", Rule::Kind, "counted by chance"),
    ("object|encoding", Rule::Exact, "nondeterministic in name only"),
    ("object|refcount", Rule::Kind, "which small numbers are shared: there is nothing to share in Larder"),
    (
        "dump",
        Rule::Payload,
        "compression, the order of fields of large hashes and the nodes of lists are each server's own; values are restored",
    ),
    ("randomkey", Rule::Kind, "chance; that the key exists is seen when the data is compared"),
    ("hrandfield", Rule::Count, "chance; that they are fields is in tests/server/semantics.rs"),
    ("scan", Rule::Walk, "cursors are each server's own; whole walks are compared with the data"),
    ("zrandmember", Rule::Count, "chance; that they are members is in the unit tests"),
    ("zscan", Rule::Walk, "cursors are each server's own"),
    ("zrank", NO_FOURTH_WORD, "WITHSCORE of 7.2 is refused by 7.0"),
    ("zrevrank", NO_FOURTH_WORD, "WITHSCORE of 7.2 is refused by 7.0"),
    ("hscan", Rule::Walk, "cursors are each server's own"),
    ("hgetall", Rule::PairsInAnyOrder, "the order of fields of large hashes is each server's own"),
    ("command|getkeys", Rule::NotWith(&["zrank", "zrevrank"]), "WITHSCORE of 7.2 is another word"),
    ("command|getkeysandflags", Rule::NotWith(&["zrank", "zrevrank"]), "WITHSCORE of 7.2 is another word"),
    ("pfselftest", Rule::Rarely, "redis-server works on it for half a second"),
    (
        "sort",
        Rule::NotSent,
        "redis-server changes the encoding of a sorted set that it sorts; random sorts are compared in tests/server/sort.rs",
    ),
    ("sort_ro", Rule::NotSent, "as SORT"),
    (
        "spop",
        Rule::OnlyWith { from: 2, step: 0, words: &["0", "1000", "9223372036854775807", "-1", "x", ""] },
        "chance: only what takes all members or none leaves the same data",
    ),
    ("spop", Rule::OfWords(3), "chance: without a count it takes one member"),
    ("spop", Rule::AnyOrder, "the order of a large set is each server's own"),
    ("srandmember", Rule::Count, "chance; that each member is as likely is in src/types/set/tests.rs"),
    ("sscan", Rule::Walk, "cursors are each server's own"),
    ("acl|genpass", Rule::Success, "chance"),
    ("acl|list", Rule::Success, "the same password has one hash, but the words differ by version"),
    ("memory", Rule::Kind, "each server's own memory"),
    ("memory|stats", Rule::Success, "each server's own memory"),
    ("latency|histogram", Rule::Success, "the clock"),
    ("latency|graph", Rule::Success, "the clock"),
    ("client|id", Rule::Kind, "connections have other numbers"),
    ("client|list", Rule::Success, "the tester's own connections"),
    (
        "client|info",
        Rule::Fields(&["name", "flags", "db", "sub", "psub", "multi", "cmd", "user", "redir", "resp"]),
        "numbers, addresses, ages and buffers of the connection",
    ),
    (
        "info",
        Rule::Fields(FIGURES),
        "memory, time, versions, processors; hits, since SCAN with TYPE makes as many as it looked at keys",
    ),
    ("info", Rule::NotQueued, "what concerns the server runs behind the transaction's data, not in between"),
    (
        "config",
        Rule::NotQueued,
        "what concerns the server runs behind the transaction's data, not in between",
    ),
    ("config|get", Rule::Parameters(PLACES), "where the server runs, and what means nothing here"),
    ("cluster", Rule::Exact, "refused by both, and so the same"),
];

/// Parameters whose change both servers must answer alike, and one that is unknown.
pub const SETTINGS: &[&str] = &[
    "hash-max-listpack-entries",
    "hash-max-listpack-value",
    "hash-max-ziplist-entries",
    "hash-max-ziplist-value",
    "set-max-intset-entries",
    "zset-max-listpack-entries",
    "list-max-listpack-size",
    "stream-node-max-entries",
    "lfu-log-factor",
    "lfu-decay-time",
    "maxmemory-samples",
    "maxmemory-policy",
    "lazyfree-lazy-user-del",
    "lazyfree-lazy-expire",
    "notify-keyspace-events",
    "busy-reply-threshold",
    "tracking-table-max-keys",
    "nope",
];

/// What INFO must show the same values of.
const FIGURES: &[&str] = &[
    "redis_mode",
    "role",
    "connected_slaves",
    "cluster_enabled",
    "loading",
    "maxclients",
    "keyspace_misses",
    "evicted_keys",
    "total_error_replies",
    "unexpected_error_replies",
    "maxmemory_policy",
    "blocked_clients",
    "errorstat_*",
    "cmdstat_*",
    // What the tester itself asks outside of the episode, as often as it takes.
    "-cmdstat_keys",
    "-cmdstat_dbsize",
    "-cmdstat_select",
    "-cmdstat_scan",
    "-cmdstat_randomkey",
    "-cmdstat_ping",
    "db*",
];

/// Parameters that say where a server runs, those that the tester sets, and one whose default is another on purpose.
const PLACES: &[&str] =
    &["dir", "port", "save", "appendonly", "appendfsync", "maxmemory", "repl-backlog-size"];

/// The rules of each command by its number, its own before those of its container.
static BY_NUMBER: LazyLock<Vec<Vec<Rule>>> = LazyLock::new(|| {
    let of = |name: &str| -> Vec<Rule> {
        RULES.iter().filter(|(command, ..)| *command == name).map(|(_, rule, _)| *rule).collect()
    };
    let names = table::full_names();
    names
        .iter()
        .map(|name| match name.split_once('|') {
            Some((container, _)) => [of(name), of(container)].concat(),
            None => of(name),
        })
        .collect()
});

/// The rules of a command, those of its container last.
pub fn rules_of(entry: &Entry) -> impl Iterator<Item = Rule> + '_ {
    BY_NUMBER[entry.number].iter().copied()
}

/// The command, or subcommand, that these words call.
pub fn entry_of(words: &[Vec<u8>]) -> Option<&'static Entry> {
    let entry = table::entry(words.first()?)?;
    Some(words.get(1).and_then(|word| entry.subcommand(word)).unwrap_or(entry))
}

/// How the replies of this command are compared.
pub fn comparison(entry: Option<&Entry>) -> Rule {
    let Some(entry) = entry else { return Rule::Exact };
    let tip = |tip: &str| entry.command.spec.tips.contains(&tip);
    if entry.command.spec.name == "help" {
        return Rule::Success; // our own words
    }
    let by_row = rules_of(entry).find(|rule| {
        !matches!(
            rule,
            Rule::NotSent
                | Rule::NotWith(_)
                | Rule::OnlyWith { .. }
                | Rule::OfWords(_)
                | Rule::Rarely
                | Rule::Last
                | Rule::NotQueued
        )
    });
    by_row.unwrap_or_else(|| {
        if tip("nondeterministic_output") {
            Rule::Kind
        } else if tip("nondeterministic_output_order") {
            Rule::AnyOrder
        } else {
            Rule::Exact
        }
    })
}

/// Words that commands know, in capitals.
static TOKENS: LazyLock<HashSet<Vec<u8>>> = LazyLock::new(|| {
    fn collect(arguments: &[Argument], tokens: &mut HashSet<Vec<u8>>) {
        for argument in arguments {
            tokens.insert(argument.token.to_ascii_uppercase().into_bytes());
            collect(argument.children, tokens);
        }
    }
    let mut tokens = HashSet::new();
    for name in table::full_names() {
        let entry = table::entry_of_full_name(name.as_bytes()).expect("it is listed");
        tokens.insert(entry.command.spec.name.to_ascii_uppercase().into_bytes());
        collect(entry.command.spec.arguments, &mut tokens);
    }
    tokens
});

/// redis-server reads some words as C strings, and so takes `STORE` and a zero byte for `STORE`: nothing to imitate.
fn is_cut_by_c(word: &[u8]) -> bool {
    let Some(end) = word.iter().position(|&byte| byte == 0) else { return false };
    let start = &word[..end];
    start.iter().all(u8::is_ascii_digit) || TOKENS.contains(&start.to_ascii_uppercase())
}

/// Whether this request may be sent.
pub fn may_be_sent(words: &[Vec<u8>], is_queued: bool) -> bool {
    if words.iter().any(|word| is_cut_by_c(word)) {
        return false;
    }
    if is_missing(words) {
        return false;
    }
    let Some(entry) = entry_of(words) else { return true };
    if !KNOWN.contains(&*entry.full_name) {
        return false;
    }
    let is_one_of =
        |word: &[u8], list: &[&str]| list.iter().any(|one| word.eq_ignore_ascii_case(one.as_bytes()));
    rules_of(entry).all(|rule| match rule {
        Rule::NotSent => false,
        Rule::NotQueued => !is_queued,
        Rule::OfWords(count) => words.len() == count,
        Rule::NotWith(list) => !words.iter().any(|word| is_one_of(word, list)),
        Rule::OnlyWith { from, step, words: list } => {
            let looked_at = words.iter().skip(from).step_by(step.max(1));
            looked_at.take(if step == 0 { 1 } else { usize::MAX }).all(|word| is_one_of(word, list))
        }
        _ => true,
    })
}

/// Whether nothing may be sent behind it before it is answered.
pub fn is_last(words: &[Vec<u8>]) -> bool {
    entry_of(words).is_some_and(|entry| rules_of(entry).any(|rule| matches!(rule, Rule::Last)))
}

/// The words of which one must follow for the command to be sent at all.
pub fn words_to_follow(entry: &Entry, len: usize) -> Option<&'static [&'static str]> {
    rules_of(entry).find_map(|rule| match rule {
        Rule::OnlyWith { from, words, .. } if from == len => Some(words),
        _ => None,
    })
}

/// Whether the tester sends this command seldom.
pub fn is_rare(entry: &Entry) -> bool {
    rules_of(entry).any(|rule| matches!(rule, Rule::Rarely))
}

/// Whether these words call a command, or name one behind COMMAND GETKEYS and its kin, that redis-server has and Larder
/// does not.
fn is_missing(words: &[Vec<u8>]) -> bool {
    let is_known_there_alone = |words: &[Vec<u8>]| {
        let text = |at: usize| words.get(at).map(|word| String::from_utf8_lossy(word).to_ascii_lowercase());
        let Some(first) = text(0) else { return false };
        let full = text(1).map(|second| format!("{first}|{second}"));
        [Some(first), full]
            .into_iter()
            .flatten()
            .any(|name| KNOWN.contains(name.as_str()) && table::entry_of_full_name(name.as_bytes()).is_none())
    };
    let is_container = words[0].eq_ignore_ascii_case(b"command");
    is_known_there_alone(words) || (is_container && words.get(2..).is_some_and(is_known_there_alone))
}

/// Names of redis-server's commands, `container|subcommand` included.
static KNOWN: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    let lines = include_str!("../../tests/redis-7.0-commands.txt").lines();
    lines.filter_map(|line| line.split_once(':')).flat_map(|(_, names)| names.split_whitespace()).collect()
});

/// Whether it is never sent.
pub fn is_never_sent(entry: &Entry) -> bool {
    !KNOWN.contains(&*entry.full_name) || rules_of(entry).any(|rule| matches!(rule, Rule::NotSent))
}
