//! Every parameter, one row each: those of Redis 7.0 and 7.2 under their names, then ours.
//!
//! Adding one is a row here and, if it means something, a field in [`super::settings`]. A row that means nothing is accepted and
//! stored, so that an existing redis.conf and `CONFIG SET` work; the row says why, and so do the start's log and
//! `docs/operating/parameters.md`. Refused is only what somebody relies on for protection and would not get.

use super::kind::Kind::{
    self, Bool, BufferLimits, Clamped, DatabaseConcerns, EventClasses, FileName, Folder, Host, Int, List,
    Memory, MemoryOrPercent, Octal, OomScores, Percentiles, Primary, ReplicaReads, SavePoints, Text,
    Unsupported, Word, Words,
};
use crate::base::concern::WriteConcern;

/// A parameter's declaration.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Its older name, or an empty text. CONFIG GET shows both.
    pub alias: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// The value without configuration, in any form its kind reads.
    pub default: &'static str,
    /// Set at start only.
    pub immutable: bool,
    /// CONFIG SET needs `enable-protected-configs`.
    pub protected: bool,
    /// Never in a log.
    pub sensitive: bool,
    /// CONFIG GET shows it by its exact name only.
    pub hidden: bool,
    /// What it does here.
    pub effect: Effect,
}

/// What a parameter does. Texts are for operators, in a table of theirs or behind the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What it does in Redis.
    AsInRedis,
    /// The same with a difference.
    Differs(&'static str),
    /// What Redis does not know.
    Ours(&'static str),
    /// Nothing, and nothing is missing: why.
    Nothing(&'static str),
    /// Nothing yet: what is missing.
    NotYet(&'static str),
    /// Another value than the default is an error, with this hint.
    Refused(&'static str),
}

const fn row(name: &'static str, kind: Kind, default: &'static str) -> Parameter {
    Parameter {
        name,
        alias: "",
        kind,
        default,
        immutable: false,
        protected: false,
        sensitive: false,
        hidden: false,
        effect: Effect::Nothing(""),
    }
}

impl Parameter {
    const fn alias(mut self, alias: &'static str) -> Parameter {
        self.alias = alias;
        self
    }
    const fn immutable(mut self) -> Parameter {
        self.immutable = true;
        self
    }
    const fn protected(mut self) -> Parameter {
        self.protected = true;
        self
    }
    const fn sensitive(mut self) -> Parameter {
        self.sensitive = true;
        self
    }
    const fn hidden(mut self) -> Parameter {
        self.hidden = true;
        self
    }
    const fn with(mut self, effect: Effect) -> Parameter {
        self.effect = effect;
        self
    }
    const fn effective(self) -> Parameter {
        self.with(Effect::AsInRedis)
    }
    const fn differs(self, how: &'static str) -> Parameter {
        self.with(Effect::Differs(how))
    }
    const fn ours(self, meaning: &'static str) -> Parameter {
        self.with(Effect::Ours(meaning))
    }
    const fn nothing(self, because: &'static str) -> Parameter {
        self.with(Effect::Nothing(because))
    }
    const fn not_yet(self, because: &'static str) -> Parameter {
        self.with(Effect::NotYet(because))
    }
    const fn refused(self, hint: &'static str) -> Parameter {
        self.with(Effect::Refused(hint))
    }

    /// Why another value than the default has no effect, if it has none.
    pub fn without_effect(&self) -> Option<&'static str> {
        match self.effect {
            Effect::Nothing(because) | Effect::NotYet(because) => Some(because),
            _ => None,
        }
    }

    /// Reads a value. `current` is the present one.
    pub fn read(&self, words: &[&[u8]], current: &[u8]) -> Result<Vec<u8>, String> {
        let value = self.kind.read(words, current)?;
        match self.effect {
            Effect::Refused(hint) if value != super::default_value(self) => Err(hint.to_owned()),
            _ => Ok(value),
        }
    }
}

const INT: i64 = i32::MAX as i64;
const UINT: i64 = u32::MAX as i64;
const LONG: i64 = i64::MAX;
const COUNT: Kind = Int { min: 0, max: INT };
const LONG_COUNT: Kind = Int { min: 0, max: LONG };
const PORT: Kind = Int { min: 0, max: 65_535 };
const BYTES: Kind = Memory { min: 0, max: LONG as u64 };
const UNSIGNED_BYTES: Kind = Memory { min: 0, max: u64::MAX };
const SOME_BYTES: Kind = Memory { min: 1, max: LONG as u64 };
const BUFFER: Kind = Memory { min: 1 << 20, max: LONG as u64 };
const LOCAL: Kind = Word(&["no", "yes", "local"]);
const SHUTDOWN: Kind = Words(&["default", "save", "nosave", "now", "force"]);

const NO_DEFRAG: &str = "Active defragmentation cannot be enabled: it requires a Redis server compiled with a modified Jemalloc like \
                         the one shipped by default with the Redis source distribution";

/// The names of `maxmemory-policy`, in the order of [`super::settings::EvictionPolicy`].
pub const POLICIES: [&str; 8] = [
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "noeviction",
];

/// All of them.
pub const PARAMETERS: &[Parameter] = &[
    // --- network
    row("bind", List(16), "* -::*").effective(),
    row("bind-source-addr", Text, "")
        .not_yet("links to a primary leave from the address that the system chooses"),
    row("port", PORT, "6379").effective(),
    row("protected-mode", Bool, "yes").effective(),
    row("tcp-backlog", COUNT, "511").immutable().effective(),
    row("tcp-keepalive", COUNT, "300").effective(),
    row("timeout", COUNT, "0").effective(),
    row("unixsocket", Text, "").immutable().effective(),
    row("unixsocketperm", Octal, "0").immutable().effective(),
    row("maxclients", Int { min: 1, max: UINT }, "10000")
        .differs("Is lowered at the start to what the limit of open files allows."),
    row("client-query-buffer-limit", BUFFER, "1gb").effective(),
    row("client-output-buffer-limit", BufferLimits, "normal 0 0 0 slave 256mb 64mb 60 pubsub 32mb 8mb 60")
        .effective(),
    row("proto-max-bulk-len", BUFFER, "512mb").effective(),
    row("socket-mark-id", Int { min: 0, max: UINT }, "0").immutable().not_yet("sockets are not marked"),
    row("io-threads", Int { min: 1, max: 128 }, "1").immutable().nothing("there are runtime-threads"),
    row("io-threads-do-reads", Bool, "no").immutable().nothing("every client thread reads by itself"),
    // --- process
    row("daemonize", Bool, "no")
        .immutable()
        .nothing("the process stays in the foreground, as supervisors and containers want it"),
    row("supervised", Word(&["upstart", "systemd", "auto", "no"]), "no")
        .immutable()
        .differs("systemd is told when the server is ready and when it stops; upstart is not."),
    row("pidfile", Text, "").immutable().effective(),
    row("loglevel", Word(&["debug", "verbose", "notice", "warning"]), "notice").effective(),
    row("logfile", Text, "").immutable().effective(),
    row("syslog-enabled", Bool, "no")
        .immutable()
        .nothing("the log goes to standard output or a file; the supervisor carries it on"),
    row("syslog-ident", Text, "redis").immutable().nothing("see syslog-enabled"),
    row("syslog-facility", Word(&FACILITIES), "local0").immutable().nothing("see syslog-enabled"),
    row("always-show-logo", Bool, "no").immutable().nothing("there is none"),
    row("set-proc-title", Bool, "yes").immutable().nothing("the title is the command line"),
    row("proc-title-template", Text, "{title} {listen-addr} {server-mode}").nothing("see set-proc-title"),
    row("crash-log-enabled", Bool, "yes").nothing("a panic is always logged with where it was"),
    row("crash-memcheck-enabled", Bool, "yes").nothing("pages are checked by their checksums instead"),
    row("use-exit-on-panic", Bool, "no").hidden().nothing("for tests of Redis"),
    row("watchdog-period", COUNT, "0").hidden().nothing("for developers of Redis"),
    row("shutdown-timeout", COUNT, "10").effective(),
    row("shutdown-on-sigint", SHUTDOWN, "default")
        .nothing("a stop always syncs the journal, which has everything"),
    row("shutdown-on-sigterm", SHUTDOWN, "default")
        .nothing("a stop always syncs the journal, which has everything"),
    row("databases", Int { min: 1, max: 65_535 }, "16").immutable().effective(),
    row("hz", Clamped { min: 1, max: 500 }, "10")
        .differs("Is shown by INFO; what happens by time happens every 20 ms."),
    row("dynamic-hz", Bool, "yes").nothing("what happens by time happens every 20 ms"),
    row("disable-thp", Bool, "yes").immutable().nothing("nothing forks, so large pages do no harm"),
    row("oom-score-adj", Word(&["no", "yes", "relative", "absolute"]), "no")
        .nothing("that is the supervisor's or the container's business"),
    row("oom-score-adj-values", OomScores, "0 200 800").nothing("see oom-score-adj"),
    row("server_cpulist", Text, "")
        .immutable()
        .nothing("that is the supervisor's or the container's business"),
    row("bio_cpulist", Text, "").immutable().nothing("see server_cpulist"),
    row("aof_rewrite_cpulist", Text, "").immutable().nothing("see server_cpulist"),
    row("bgsave_cpulist", Text, "").immutable().nothing("see server_cpulist"),
    row("ignore-warnings", Text, "").nothing("there are none of this kind"),
    row("locale-collate", Text, "").nothing("texts are compared as bytes"),
    row("jemalloc-bg-thread", Bool, "yes").nothing("the allocator is mimalloc"),
    row("activedefrag", Unsupported(NO_DEFRAG), "no").nothing(
        "the allocator is mimalloc, and rows are small and written anew; yes is refused by \
             CONFIG SET",
    ),
    row("active-defrag-cycle-max", Int { min: 1, max: 99 }, "25").nothing("see activedefrag"),
    row("active-defrag-cycle-min", Int { min: 1, max: 99 }, "1").nothing("see activedefrag"),
    row("active-defrag-ignore-bytes", SOME_BYTES, "100mb").nothing("see activedefrag"),
    row("active-defrag-max-scan-fields", Int { min: 1, max: LONG }, "1000").nothing("see activedefrag"),
    row("active-defrag-threshold-lower", Int { min: 0, max: 1000 }, "10").nothing("see activedefrag"),
    row("active-defrag-threshold-upper", Int { min: 0, max: 1000 }, "100").nothing("see activedefrag"),
    row("activerehashing", Bool, "yes").nothing("tables grow a little with each write"),
    // --- security
    row("requirepass", Text, "").sensitive().effective(),
    row("aclfile", Text, "")
        .immutable()
        .refused("users are not there yet: use requirepass, and leave this out"),
    row("acl-pubsub-default", Word(&["allchannels", "resetchannels"]), "resetchannels")
        .not_yet("there are no users but the default one"),
    row("acllog-max-len", LONG_COUNT, "128").not_yet("there are no users but the default one"),
    row("enable-debug-command", LOCAL, "no").immutable().effective(),
    row("enable-protected-configs", LOCAL, "no").immutable().effective(),
    row("enable-module-command", LOCAL, "no").immutable().effective(),
    // --- memory and eviction
    row("maxmemory", UNSIGNED_BYTES, "0")
        .differs("Limits the data, in memory or on disk, not the memory of the process."),
    row("maxmemory-policy", Word(&POLICIES), "noeviction").effective(),
    row("maxmemory-samples", Int { min: 1, max: INT }, "5").effective(),
    row("maxmemory-eviction-tenacity", Int { min: 0, max: 100 }, "10")
        .nothing("a write evicts as much as it adds"),
    row("maxmemory-clients", MemoryOrPercent, "0").effective(),
    row("lfu-log-factor", COUNT, "10").nothing("the counter grows as with 10"),
    row("lfu-decay-time", COUNT, "1").nothing("the counter falls by one a minute"),
    row("active-expire-effort", Int { min: 1, max: 10 }, "1")
        .nothing("keys leave within 20 ms of their deadline, whatever it takes"),
    row("lazyfree-lazy-eviction", Bool, "no").nothing("large values are always removed in the background"),
    row("lazyfree-lazy-expire", Bool, "no").nothing("large values are always removed in the background"),
    row("lazyfree-lazy-server-del", Bool, "no").nothing("large values are always removed in the background"),
    row("lazyfree-lazy-user-del", Bool, "no").nothing("large values are always removed in the background"),
    row("lazyfree-lazy-user-flush", Bool, "no").nothing("databases are always emptied in the background"),
    // --- durability
    row("dir", Folder, "./data").protected().immutable().differs(
        "Is made if it is not there, and ./data by default; cannot be changed while the \
             server runs.",
    ),
    row("appendonly", Bool, "yes").nothing("the journal is always on; only the first import looks at it"),
    row("appendfsync", Word(&["everysec", "always", "no"]), "everysec").effective(),
    row("appendfilename", FileName("appendfilename"), "appendonly.aof")
        .immutable()
        .differs("The log that the first start in a folder imports."),
    row("appenddirname", FileName("appenddirname dirname"), "appendonlydir")
        .immutable()
        .differs("The folder of the log that the first start in a folder imports."),
    row("dbfilename", FileName("dbfilename"), "dump.rdb")
        .protected()
        .differs("The dump that the first start in a folder imports."),
    row("save", SavePoints, "3600 1 300 100 60 10000")
        .nothing("checkpoints are written all the time; nothing depends on intervals"),
    row("stop-writes-on-bgsave-error", Bool, "yes")
        .nothing("writes are refused when they could not be kept, and only then"),
    row("rdbcompression", Bool, "yes").nothing("values are stored as they are"),
    row("rdbchecksum", Bool, "yes").immutable().nothing("checksums are always on"),
    row("rdb-del-sync-files", Bool, "no").nothing("no such files are made"),
    row("rdb-save-incremental-fsync", Bool, "yes")
        .nothing("checkpoints are written in batches that are synced"),
    row("rdb-key-save-delay", Int { min: -INT - 1, max: INT }, "0").hidden().nothing("for tests of Redis"),
    row("key-load-delay", Int { min: -INT - 1, max: INT }, "0").hidden().nothing("for tests of Redis"),
    row("loading-process-events-interval-bytes", Int { min: 1024, max: INT }, "2097152")
        .hidden()
        .nothing("nothing is loaded at a start"),
    row("sanitize-dump-payload", Word(&["no", "yes", "clients"]), "no")
        .nothing("payloads are always checked in full"),
    row("no-appendfsync-on-rewrite", Bool, "no").nothing("checkpoints do not hold up syncs"),
    row("auto-aof-rewrite-percentage", COUNT, "100")
        .nothing("the journal is cut by checkpoints: see checkpoint-journal-size"),
    row("auto-aof-rewrite-min-size", BYTES, "64mb").nothing("see checkpoint-journal-size"),
    row("aof-load-truncated", Bool, "yes")
        .differs("Whether a log of Redis that is imported may be cut at its end."),
    row("aof-use-rdb-preamble", Bool, "yes").nothing("the journal is no log of commands"),
    row("aof-timestamp-enabled", Bool, "no").nothing("every record of the journal has its time"),
    row("aof-rewrite-incremental-fsync", Bool, "yes").nothing("nothing is rewritten"),
    row("aof-disable-auto-gc", Bool, "no").nothing("for tests of Redis"),
    // --- collections: up to which size they are small
    row("hash-max-listpack-entries", LONG_COUNT, "512").alias("hash-max-ziplist-entries").effective(),
    row("hash-max-listpack-value", BYTES, "64").alias("hash-max-ziplist-value").effective(),
    row("list-max-listpack-size", Int { min: -INT - 1, max: INT }, "-2")
        .alias("list-max-ziplist-size")
        .effective(),
    row("list-compress-depth", COUNT, "0").nothing("lists are not compressed"),
    row("set-max-intset-entries", LONG_COUNT, "512").effective(),
    row("set-max-listpack-entries", LONG_COUNT, "128").effective(),
    row("set-max-listpack-value", BYTES, "64").effective(),
    row("zset-max-listpack-entries", LONG_COUNT, "128").alias("zset-max-ziplist-entries").effective(),
    row("zset-max-listpack-value", BYTES, "64").alias("zset-max-ziplist-value").effective(),
    row("hll-sparse-max-bytes", BYTES, "3000").effective(),
    row("stream-node-max-bytes", BYTES, "4kb").not_yet("there are no streams"),
    row("stream-node-max-entries", LONG_COUNT, "100").not_yet("there are no streams"),
    // --- observing
    row("slowlog-log-slower-than", Int { min: -1, max: LONG }, "10000").effective(),
    row("slowlog-max-len", LONG_COUNT, "128").effective(),
    row("latency-monitor-threshold", LONG_COUNT, "0").effective(),
    row("latency-tracking", Bool, "yes")
        .differs("Without it there are no histograms of commands in the metrics either."),
    row("latency-tracking-info-percentiles", Percentiles, "50 99 99.9").effective(),
    row("notify-keyspace-events", EventClasses, "").not_yet("no keyspace events are published"),
    row("tracking-table-max-keys", LONG_COUNT, "1000000").not_yet("there is no client-side caching"),
    // --- scripts
    row("busy-reply-threshold", LONG_COUNT, "5000").alias("lua-time-limit").not_yet("there are no scripts"),
    row("lua-enable-deprecated-api", Bool, "no").immutable().hidden().nothing("for old scripts of Redis"),
    // --- replication
    row("replicaof", Primary, "").alias("slaveof").immutable().effective(),
    row("masteruser", Text, "").effective(),
    row("masterauth", Text, "").sensitive().effective(),
    row("replica-serve-stale-data", Bool, "yes").alias("slave-serve-stale-data").effective(),
    row("replica-read-only", Bool, "yes")
        .alias("slave-read-only")
        .nothing("a replica that took writes of its own would be no copy any more"),
    row("replica-ignore-maxmemory", Bool, "yes")
        .alias("slave-ignore-maxmemory")
        .nothing("a replica has what its primary has, and never evicts by itself"),
    row("replica-ignore-disk-write-errors", Bool, "no")
        .nothing("a replica does not confirm what it could not write"),
    row("replica-lazy-flush", Bool, "no")
        .alias("slave-lazy-flush")
        .nothing("a snapshot replaces the data at its end, in one step"),
    row("replica-priority", COUNT, "100").alias("slave-priority").effective(),
    row("replica-announced", Bool, "yes").effective(),
    row("replica-announce-ip", Text, "").alias("slave-announce-ip").effective(),
    row("replica-announce-port", PORT, "0").alias("slave-announce-port").effective(),
    row("min-replicas-to-write", COUNT, "0").alias("min-slaves-to-write").effective(),
    row("min-replicas-max-lag", COUNT, "10").alias("min-slaves-max-lag").effective(),
    // On disk and for replicas that come back: a minute of a busy primary is some hundred megabytes.
    row("repl-backlog-size", SOME_BYTES, "1gb")
        .differs("Bytes of journal kept on disk for replicas that come back."),
    row("repl-backlog-ttl", LONG_COUNT, "3600").nothing("the backlog is journal on disk; its size bounds it"),
    row("repl-disable-tcp-nodelay", Bool, "no").nothing("changes leave at once"),
    row("repl-diskless-load", Word(&["disabled", "on-empty-db", "swapdb"]), "disabled")
        .nothing("a snapshot replaces the data when it is whole"),
    row("repl-diskless-sync", Bool, "yes").nothing("snapshots are copies of the trees' pages"),
    row("repl-diskless-sync-delay", COUNT, "5").nothing("see repl-diskless-sync"),
    row("repl-diskless-sync-max-replicas", COUNT, "0").nothing("see repl-diskless-sync"),
    row("repl-ping-replica-period", Int { min: 1, max: INT }, "10")
        .alias("repl-ping-slave-period")
        .nothing("links say four times a second that they are there"),
    row("repl-timeout", Int { min: 1, max: INT }, "60")
        .differs("In a cluster, membership and leases decide before that."),
    row("propagation-error-behavior", Word(&["ignore", "panic", "panic-on-replicas"]), "ignore")
        .nothing("rows are replicated, and no commands that could fail"),
    // --- cluster
    row("cluster-enabled", Bool, "no")
        .immutable()
        .differs("Primaries are spread over the nodes; see cluster-seeds and bootstrap-expect."),
    row("cluster-config-file", Text, "nodes.conf").immutable().nothing("the control folder holds it"),
    row("cluster-node-timeout", LONG_COUNT, "15000")
        .nothing("leases last 0.6 s, and a node is suspected after a second"),
    row("cluster-port", PORT, "0")
        .immutable()
        .differs("The port for other nodes; 0 is the port for clients and 10000."),
    row("cluster-announce-ip", Text, "").effective(),
    row("cluster-announce-hostname", Host, "").not_yet("nodes are announced by address"),
    row("cluster-announce-human-nodename", Host, "").nothing("nodes are told by their identity"),
    row("cluster-announce-port", PORT, "0").effective(),
    row("cluster-announce-bus-port", PORT, "0").effective(),
    row("cluster-announce-tls-port", PORT, "0").not_yet("TLS is not there yet"),
    row("cluster-preferred-endpoint-type", Word(&["ip", "hostname", "unknown-endpoint"]), "ip")
        .nothing("addresses are given as they are announced"),
    row("cluster-migration-barrier", COUNT, "1")
        .nothing("see replicas: copies are made where they are lacking"),
    row("cluster-allow-replica-migration", Bool, "yes")
        .nothing("see replicas: copies are made where they are lacking"),
    row("cluster-require-full-coverage", Bool, "yes").nothing("partitions that have a primary are served"),
    row("cluster-allow-reads-when-down", Bool, "no").nothing("see replica-reads"),
    row("cluster-allow-pubsubshard-when-down", Bool, "yes").nothing("messages go to those that are reached"),
    row("cluster-replica-no-failover", Bool, "no")
        .alias("cluster-slave-no-failover")
        .nothing("who lacks nothing may be promoted; see witness"),
    row("cluster-replica-validity-factor", COUNT, "10")
        .alias("cluster-slave-validity-factor")
        .nothing("who lacks nothing that was acknowledged is promoted, however old its link"),
    row("cluster-link-sendbuf-limit", UNSIGNED_BYTES, "0").nothing("what waits for other nodes is bounded"),
    // --- TLS
    row("tls-port", PORT, "0")
        .immutable()
        .refused("TLS is not there yet: use a tunnel or a private network, and leave this out"),
    row("tls-cert-file", Text, "").not_yet("TLS is not there yet"),
    row("tls-key-file", Text, "").not_yet("TLS is not there yet"),
    row("tls-key-file-pass", Text, "").sensitive().not_yet("TLS is not there yet"),
    row("tls-client-cert-file", Text, "").not_yet("TLS is not there yet"),
    row("tls-client-key-file", Text, "").not_yet("TLS is not there yet"),
    row("tls-client-key-file-pass", Text, "").sensitive().not_yet("TLS is not there yet"),
    row("tls-dh-params-file", Text, "").not_yet("TLS is not there yet"),
    row("tls-ca-cert-file", Text, "").not_yet("TLS is not there yet"),
    row("tls-ca-cert-dir", Text, "").not_yet("TLS is not there yet"),
    row("tls-auth-clients", Word(&["no", "yes", "optional"]), "yes").not_yet("TLS is not there yet"),
    row("tls-replication", Bool, "no")
        .refused("TLS is not there yet: use a tunnel or a private network, and leave this out"),
    row("tls-cluster", Bool, "no")
        .refused("TLS is not there yet: use a tunnel or a private network, and leave this out"),
    row("tls-protocols", Text, "").not_yet("TLS is not there yet"),
    row("tls-ciphers", Text, "").not_yet("TLS is not there yet"),
    row("tls-ciphersuites", Text, "").not_yet("TLS is not there yet"),
    row("tls-prefer-server-ciphers", Bool, "no").not_yet("TLS is not there yet"),
    row("tls-session-caching", Bool, "yes").not_yet("TLS is not there yet"),
    row("tls-session-cache-size", COUNT, "20480").not_yet("TLS is not there yet"),
    row("tls-session-cache-timeout", COUNT, "300").not_yet("TLS is not there yet"),
    // --- ours
    row("partitions", Int { min: 1, max: 16_384 }, "16")
        .immutable()
        .ours("How many parts the slots are divided into. What the data was made with counts."),
    row("row-cache-size", BYTES, "0").immutable().ours(
        "Bytes of rows kept in memory; 0 is a quarter of the machine's memory, or an eighth \
             of what a container may use.",
    ),
    row("checkpoint-journal-size", SOME_BYTES, "512mb")
        .ours("A checkpoint is due when the journal has grown by this."),
    row("checkpoint-overlay-size", SOME_BYTES, "256mb")
        .ours("A checkpoint is due when rows that are newer than the trees take this much memory."),
    row("checkpoint-age", Int { min: 1, max: INT }, "60")
        .ours("A checkpoint is due when the oldest of these rows is this many seconds old."),
    row("runtime-threads", Int { min: 0, max: 1024 }, "0")
        .immutable()
        .ours("Threads that serve clients; 0 is one less than there are cores."),
    row("cluster-seeds", List(64), "").immutable().ours(
        "Nodes of the cluster to begin with, each as host:busport. Names a cluster to be part \
             of.",
    ),
    row("cluster-secret", Text, "").immutable().sensitive().ours(
        "What the nodes of a cluster prove to each other that they know; their connections \
             are encrypted with it.",
    ),
    row("bootstrap-expect", Int { min: 0, max: 100 }, "0")
        .immutable()
        .ours("How many nodes found a cluster together."),
    row("zone", Text, "").immutable().ours("Where this node is; copies are spread over zones."),
    row("witness", Bool, "no").immutable().ours("This node votes and holds no data."),
    row("sentinel-master-name", List(64), "mymaster")
        .ours("Names under which SENTINEL shows the primary of a cluster."),
    row("replicas", Int { min: 0, max: 100 }, "1")
        .ours("How many replicas the data is to have, beside the primary."),
    row("write-concern", Word(&WriteConcern::NAMES), "local")
        .ours("On how many nodes a write is stored before its reply leaves."),
    row("write-concern-databases", DatabaseConcerns, "")
        .ours("Databases for which that differs, in pairs: 1 majority 2 all."),
    row("write-concern-timeout", LONG_COUNT, "5000")
        .ours("Milliseconds that a reply is held for replicas; 0 is no limit."),
    row("replica-reads", ReplicaReads, "auto").ours(
        "Which reads a replica answers: any, none (primary), those not older than \
             max-lag=milliseconds; auto is any, but in a cluster reads go to the primary.",
    ),
    row("failover-wait", LONG_COUNT, "5000")
        .ours("Milliseconds that commands wait for a primary while there is none."),
    row("http-port", PORT, "0").immutable().ours("Port for metrics and health; 0 is none."),
    row("http-bind", List(16), "127.0.0.1 -::1")
        .immutable()
        .ours("Addresses of that port, in the words of bind."),
    row("log-format", Word(&["text", "json"]), "text")
        .immutable()
        .ours("Lines of the log as redis-server's, or a JSON object each."),
];

const FACILITIES: [&str; 9] =
    ["user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"];

/// Every row says what it does, and why not if it does nothing.
const _: () = {
    let mut index = 0;
    while index < PARAMETERS.len() {
        match PARAMETERS[index].effect {
            Effect::AsInRedis => {}
            Effect::Differs(text)
            | Effect::Ours(text)
            | Effect::Nothing(text)
            | Effect::NotYet(text)
            | Effect::Refused(text) => assert!(!text.is_empty()),
        }
        index += 1;
    }
};

/// Index and shown name of the parameter called `name`, in any case, by its name or its alias.
pub fn find(name: &[u8]) -> Option<(usize, &'static str)> {
    PARAMETERS.iter().enumerate().find_map(|(index, row)| {
        names(row).find(|known| name.eq_ignore_ascii_case(known.as_bytes())).map(|known| (index, known))
    })
}

/// Whether the value of the parameter called `name` must not be in a log (SLOWLOG, MONITOR).
pub fn is_sensitive(name: &[u8]) -> bool {
    find(name).is_some_and(|(index, _)| PARAMETERS[index].sensitive)
}

/// The name, then the alias if there is one.
pub fn names(row: &'static Parameter) -> impl Iterator<Item = &'static str> {
    [row.name, row.alias].into_iter().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_found() {
        let mut seen = HashSet::new();
        for (index, row) in PARAMETERS.iter().enumerate() {
            for name in names(row) {
                assert!(seen.insert(name), "{name} stands twice");
                assert_eq!(find(name.to_ascii_uppercase().as_bytes()), Some((index, name)));
            }
        }
        assert_eq!(find(b"nosuch"), None);
    }

    #[test]
    fn every_default_is_a_value_and_shown_values_read_as_themselves() {
        for row in PARAMETERS {
            let words: Vec<&[u8]> = if row.kind.takes_many() && !row.default.is_empty() {
                row.default.split(' ').map(str::as_bytes).collect()
            } else {
                vec![row.default.as_bytes()]
            };
            if matches!(row.kind, Primary) {
                continue;
            }
            let value = row.kind.read(&words, b"").unwrap_or_else(|error| panic!("{}: {error}", row.name));
            let words: Vec<&[u8]> = if row.kind.takes_many() {
                value.split(|byte| *byte == b' ').collect()
            } else {
                vec![&value]
            };
            assert_eq!(row.kind.read(&words, b"").as_ref(), Ok(&value), "{}", row.name);
        }
    }
}
