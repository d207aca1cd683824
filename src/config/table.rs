//! Every parameter, one row each: those of Redis 7.0 and 7.2 under their names, then ours.
//!
//! Adding one is a row here and, if it means something, a field in [`super::settings`]. A row that is not `effective()` is
//! accepted and stored, so that an existing redis.conf and `CONFIG SET` work, and the start's log says that it means nothing here.

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
    /// Means something here.
    pub effective: bool,
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
        effective: false,
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
    const fn effective(mut self) -> Parameter {
        self.effective = true;
        self
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
    row("bind-source-addr", Text, ""),
    row("port", PORT, "6379").effective(),
    row("protected-mode", Bool, "yes").effective(),
    row("tcp-backlog", COUNT, "511").immutable().effective(),
    row("tcp-keepalive", COUNT, "300").effective(),
    row("timeout", COUNT, "0").effective(),
    row("unixsocket", Text, "").immutable().effective(),
    row("unixsocketperm", Octal, "0").immutable().effective(),
    row("maxclients", Int { min: 1, max: UINT }, "10000").effective(),
    row("client-query-buffer-limit", BUFFER, "1gb").effective(),
    row("client-output-buffer-limit", BufferLimits, "normal 0 0 0 slave 256mb 64mb 60 pubsub 32mb 8mb 60")
        .effective(),
    row("proto-max-bulk-len", BUFFER, "512mb").effective(),
    row("socket-mark-id", Int { min: 0, max: UINT }, "0").immutable(),
    row("io-threads", Int { min: 1, max: 128 }, "1").immutable(),
    row("io-threads-do-reads", Bool, "no").immutable(),
    // --- process
    row("daemonize", Bool, "no").immutable(),
    row("supervised", Word(&["upstart", "systemd", "auto", "no"]), "no").immutable(),
    row("pidfile", Text, "").immutable().effective(),
    row("loglevel", Word(&["debug", "verbose", "notice", "warning"]), "notice").effective(),
    row("logfile", Text, "").immutable().effective(),
    row("syslog-enabled", Bool, "no").immutable(),
    row("syslog-ident", Text, "redis").immutable(),
    row("syslog-facility", Word(&FACILITIES), "local0").immutable(),
    row("always-show-logo", Bool, "no").immutable(),
    row("set-proc-title", Bool, "yes").immutable(),
    row("proc-title-template", Text, "{title} {listen-addr} {server-mode}"),
    row("crash-log-enabled", Bool, "yes"),
    row("crash-memcheck-enabled", Bool, "yes"),
    row("use-exit-on-panic", Bool, "no").hidden(),
    row("watchdog-period", COUNT, "0").hidden(),
    row("shutdown-timeout", COUNT, "10").effective(),
    row("shutdown-on-sigint", SHUTDOWN, "default"),
    row("shutdown-on-sigterm", SHUTDOWN, "default"),
    row("databases", Int { min: 1, max: 65_535 }, "16").immutable().effective(),
    row("hz", Clamped { min: 1, max: 500 }, "10").effective(),
    row("dynamic-hz", Bool, "yes"),
    row("disable-thp", Bool, "yes").immutable(),
    row("oom-score-adj", Word(&["no", "yes", "relative", "absolute"]), "no"),
    row("oom-score-adj-values", OomScores, "0 200 800"),
    row("server_cpulist", Text, "").immutable(),
    row("bio_cpulist", Text, "").immutable(),
    row("aof_rewrite_cpulist", Text, "").immutable(),
    row("bgsave_cpulist", Text, "").immutable(),
    row("ignore-warnings", Text, ""),
    row("locale-collate", Text, ""),
    row("jemalloc-bg-thread", Bool, "yes"),
    row("activedefrag", Unsupported(NO_DEFRAG), "no"),
    row("active-defrag-cycle-max", Int { min: 1, max: 99 }, "25"),
    row("active-defrag-cycle-min", Int { min: 1, max: 99 }, "1"),
    row("active-defrag-ignore-bytes", SOME_BYTES, "100mb"),
    row("active-defrag-max-scan-fields", Int { min: 1, max: LONG }, "1000"),
    row("active-defrag-threshold-lower", Int { min: 0, max: 1000 }, "10"),
    row("active-defrag-threshold-upper", Int { min: 0, max: 1000 }, "100"),
    row("activerehashing", Bool, "yes"),
    // --- security
    row("requirepass", Text, "").sensitive().effective(),
    row("aclfile", Text, "").immutable().effective(),
    row("acl-pubsub-default", Word(&["allchannels", "resetchannels"]), "resetchannels").effective(),
    row("acllog-max-len", LONG_COUNT, "128").effective(),
    row("enable-debug-command", LOCAL, "no").immutable().effective(),
    row("enable-protected-configs", LOCAL, "no").immutable().effective(),
    row("enable-module-command", LOCAL, "no").immutable().effective(),
    // --- memory and eviction
    row("maxmemory", UNSIGNED_BYTES, "0").effective(),
    row("maxmemory-policy", Word(&POLICIES), "noeviction").effective(),
    row("maxmemory-samples", Int { min: 1, max: INT }, "5").effective(),
    row("maxmemory-eviction-tenacity", Int { min: 0, max: 100 }, "10").effective(),
    row("maxmemory-clients", MemoryOrPercent, "0").effective(),
    row("lfu-log-factor", COUNT, "10").effective(),
    row("lfu-decay-time", COUNT, "1").effective(),
    row("active-expire-effort", Int { min: 1, max: 10 }, "1").effective(),
    row("lazyfree-lazy-eviction", Bool, "no"),
    row("lazyfree-lazy-expire", Bool, "no"),
    row("lazyfree-lazy-server-del", Bool, "no"),
    row("lazyfree-lazy-user-del", Bool, "no"),
    row("lazyfree-lazy-user-flush", Bool, "no"),
    // --- durability
    row("dir", Folder, "./data").protected().immutable().effective(),
    row("appendonly", Bool, "yes"),
    row("appendfsync", Word(&["everysec", "always", "no"]), "everysec").effective(),
    row("appendfilename", FileName("appendfilename"), "appendonly.aof").immutable().effective(),
    row("appenddirname", FileName("appenddirname dirname"), "appendonlydir").immutable().effective(),
    row("dbfilename", FileName("dbfilename"), "dump.rdb").protected().effective(),
    row("save", SavePoints, "3600 1 300 100 60 10000"),
    row("stop-writes-on-bgsave-error", Bool, "yes"),
    row("rdbcompression", Bool, "yes"),
    row("rdbchecksum", Bool, "yes").immutable(),
    row("rdb-del-sync-files", Bool, "no"),
    row("rdb-save-incremental-fsync", Bool, "yes"),
    row("rdb-key-save-delay", Int { min: -INT - 1, max: INT }, "0").hidden(),
    row("key-load-delay", Int { min: -INT - 1, max: INT }, "0").hidden(),
    row("loading-process-events-interval-bytes", Int { min: 1024, max: INT }, "2097152").hidden(),
    row("sanitize-dump-payload", Word(&["no", "yes", "clients"]), "no"),
    row("no-appendfsync-on-rewrite", Bool, "no"),
    row("auto-aof-rewrite-percentage", COUNT, "100"),
    row("auto-aof-rewrite-min-size", BYTES, "64mb"),
    row("aof-load-truncated", Bool, "yes").effective(),
    row("aof-use-rdb-preamble", Bool, "yes"),
    row("aof-timestamp-enabled", Bool, "no"),
    row("aof-rewrite-incremental-fsync", Bool, "yes"),
    row("aof-disable-auto-gc", Bool, "no"),
    // --- collections: up to which size they are small
    row("hash-max-listpack-entries", LONG_COUNT, "512").alias("hash-max-ziplist-entries").effective(),
    row("hash-max-listpack-value", BYTES, "64").alias("hash-max-ziplist-value").effective(),
    row("list-max-listpack-size", Int { min: -INT - 1, max: INT }, "-2")
        .alias("list-max-ziplist-size")
        .effective(),
    row("list-compress-depth", COUNT, "0"),
    row("set-max-intset-entries", LONG_COUNT, "512").effective(),
    row("set-max-listpack-entries", LONG_COUNT, "128").effective(),
    row("set-max-listpack-value", BYTES, "64").effective(),
    row("zset-max-listpack-entries", LONG_COUNT, "128").alias("zset-max-ziplist-entries").effective(),
    row("zset-max-listpack-value", BYTES, "64").alias("zset-max-ziplist-value").effective(),
    row("hll-sparse-max-bytes", BYTES, "3000").effective(),
    row("stream-node-max-bytes", BYTES, "4kb").effective(),
    row("stream-node-max-entries", LONG_COUNT, "100").effective(),
    // --- observing
    row("slowlog-log-slower-than", Int { min: -1, max: LONG }, "10000").effective(),
    row("slowlog-max-len", LONG_COUNT, "128").effective(),
    row("latency-monitor-threshold", LONG_COUNT, "0").effective(),
    row("latency-tracking", Bool, "yes").effective(),
    row("latency-tracking-info-percentiles", Percentiles, "50 99 99.9").effective(),
    row("notify-keyspace-events", EventClasses, "").effective(),
    row("tracking-table-max-keys", LONG_COUNT, "1000000").effective(),
    // --- scripts
    row("busy-reply-threshold", LONG_COUNT, "5000").alias("lua-time-limit").effective(),
    row("lua-enable-deprecated-api", Bool, "no").immutable().hidden(),
    // --- replication
    row("replicaof", Primary, "").alias("slaveof").immutable().effective(),
    row("masteruser", Text, "").effective(),
    row("masterauth", Text, "").sensitive().effective(),
    row("replica-serve-stale-data", Bool, "yes").alias("slave-serve-stale-data").effective(),
    row("replica-read-only", Bool, "yes").alias("slave-read-only"),
    row("replica-ignore-maxmemory", Bool, "yes").alias("slave-ignore-maxmemory"),
    row("replica-ignore-disk-write-errors", Bool, "no"),
    row("replica-lazy-flush", Bool, "no").alias("slave-lazy-flush"),
    row("replica-priority", COUNT, "100").alias("slave-priority").effective(),
    row("replica-announced", Bool, "yes").effective(),
    row("replica-announce-ip", Text, "").alias("slave-announce-ip").effective(),
    row("replica-announce-port", PORT, "0").alias("slave-announce-port").effective(),
    row("min-replicas-to-write", COUNT, "0").alias("min-slaves-to-write").effective(),
    row("min-replicas-max-lag", COUNT, "10").alias("min-slaves-max-lag").effective(),
    // On disk and for replicas that come back: a minute of a busy primary is some hundred megabytes.
    row("repl-backlog-size", SOME_BYTES, "1gb").effective(),
    row("repl-backlog-ttl", LONG_COUNT, "3600"),
    row("repl-disable-tcp-nodelay", Bool, "no"),
    row("repl-diskless-load", Word(&["disabled", "on-empty-db", "swapdb"]), "disabled"),
    row("repl-diskless-sync", Bool, "yes"),
    row("repl-diskless-sync-delay", COUNT, "5"),
    row("repl-diskless-sync-max-replicas", COUNT, "0"),
    row("repl-ping-replica-period", Int { min: 1, max: INT }, "10")
        .alias("repl-ping-slave-period")
        .effective(),
    row("repl-timeout", Int { min: 1, max: INT }, "60").effective(),
    row("propagation-error-behavior", Word(&["ignore", "panic", "panic-on-replicas"]), "ignore"),
    // --- cluster
    row("cluster-enabled", Bool, "no").immutable().effective(),
    row("cluster-config-file", Text, "nodes.conf").immutable(),
    row("cluster-node-timeout", LONG_COUNT, "15000"),
    row("cluster-port", PORT, "0").immutable().effective(),
    row("cluster-announce-ip", Text, "").effective(),
    row("cluster-announce-hostname", Host, ""),
    row("cluster-announce-human-nodename", Host, ""),
    row("cluster-announce-port", PORT, "0").effective(),
    row("cluster-announce-bus-port", PORT, "0").effective(),
    row("cluster-announce-tls-port", PORT, "0"),
    row("cluster-preferred-endpoint-type", Word(&["ip", "hostname", "unknown-endpoint"]), "ip"),
    row("cluster-migration-barrier", COUNT, "1"),
    row("cluster-allow-replica-migration", Bool, "yes"),
    row("cluster-require-full-coverage", Bool, "yes"),
    row("cluster-allow-reads-when-down", Bool, "no"),
    row("cluster-allow-pubsubshard-when-down", Bool, "yes"),
    row("cluster-replica-no-failover", Bool, "no").alias("cluster-slave-no-failover"),
    row("cluster-replica-validity-factor", COUNT, "10").alias("cluster-slave-validity-factor"),
    row("cluster-link-sendbuf-limit", UNSIGNED_BYTES, "0"),
    // --- TLS
    row("tls-port", PORT, "0").immutable(),
    row("tls-cert-file", Text, ""),
    row("tls-key-file", Text, ""),
    row("tls-key-file-pass", Text, "").sensitive(),
    row("tls-client-cert-file", Text, ""),
    row("tls-client-key-file", Text, ""),
    row("tls-client-key-file-pass", Text, "").sensitive(),
    row("tls-dh-params-file", Text, ""),
    row("tls-ca-cert-file", Text, ""),
    row("tls-ca-cert-dir", Text, ""),
    row("tls-auth-clients", Word(&["no", "yes", "optional"]), "yes"),
    row("tls-replication", Bool, "no"),
    row("tls-cluster", Bool, "no"),
    row("tls-protocols", Text, ""),
    row("tls-ciphers", Text, ""),
    row("tls-ciphersuites", Text, ""),
    row("tls-prefer-server-ciphers", Bool, "no"),
    row("tls-session-caching", Bool, "yes"),
    row("tls-session-cache-size", COUNT, "20480"),
    row("tls-session-cache-timeout", COUNT, "300"),
    // --- ours
    row("partitions", Int { min: 1, max: 16_384 }, "16").immutable().effective(),
    row("row-cache-size", BYTES, "0").immutable().effective(),
    row("checkpoint-journal-size", SOME_BYTES, "512mb").effective(),
    row("checkpoint-overlay-size", SOME_BYTES, "256mb").effective(),
    row("checkpoint-age", Int { min: 1, max: INT }, "60").effective(),
    row("runtime-threads", Int { min: 0, max: 1024 }, "0").immutable().effective(),
    row("cluster-seeds", List(64), "").immutable().effective(),
    row("cluster-secret", Text, "").immutable().sensitive().effective(),
    row("bootstrap-expect", Int { min: 0, max: 100 }, "0").immutable().effective(),
    row("zone", Text, "").immutable().effective(),
    row("witness", Bool, "no").immutable().effective(),
    row("sentinel-master-name", List(64), "mymaster").effective(),
    row("replicas", Int { min: 0, max: 100 }, "1").effective(),
    row("write-concern", Word(&WriteConcern::NAMES), "local").effective(),
    row("write-concern-databases", DatabaseConcerns, "").effective(),
    row("write-concern-timeout", LONG_COUNT, "5000").effective(),
    row("replica-reads", ReplicaReads, "auto").effective(),
    row("failover-wait", LONG_COUNT, "5000").effective(),
    row("http-port", PORT, "0").immutable().effective(),
    row("http-bind", List(16), "127.0.0.1 -::1").immutable().effective(),
    row("log-format", Word(&["text", "json"]), "text").immutable().effective(),
];

const FACILITIES: [&str; 9] =
    ["user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"];

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
