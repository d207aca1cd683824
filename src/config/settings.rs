//! The settings as the rest of the house reads them: plain fields for every parameter that means something here.
//! A snapshot is built anew after each change; readers hold it as long as they like and never see half of a change.

use super::kind::{self, read_buffer_limits, read_database_concerns};
use super::table::POLICIES;
use crate::base::concern::WriteConcern;
use crate::base::number;
use std::path::PathBuf;

/// Every effective parameter. Sizes are bytes; times say their unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    // --- network
    /// Port for clients; 0 is none.
    pub port: u16,
    /// Addresses to listen on: `*` any IPv4, `::*` any IPv6; one that begins with `-` may be missing.
    pub bind: Vec<String>,
    /// Refuse clients from elsewhere while there is neither a password nor a bind address.
    pub protected_mode: bool,
    /// Connections that may wait to be accepted.
    pub tcp_backlog: u32,
    /// Seconds between keepalive probes; 0 is off.
    pub tcp_keepalive: u32,
    /// Seconds after which an idle client is closed; 0 is never.
    pub timeout: u32,
    /// Path of the unix socket; empty is none.
    pub unixsocket: PathBuf,
    /// Permissions of the unix socket; 0 leaves them as they are.
    pub unixsocketperm: u32,
    /// Most clients at a time.
    pub maxclients: usize,
    /// Largest amount of unread input of a client.
    pub client_query_buffer_limit: usize,
    /// Output buffer limits by class: normal, replica, pubsub.
    pub client_output_buffer_limit: [BufferLimit; 3],
    /// Largest single value.
    pub proto_max_bulk_len: usize,
    /// Runtime threads for clients; 0 is one a core.
    pub runtime_threads: usize,

    // --- process
    /// Where the process id is written; empty is nowhere.
    pub pidfile: PathBuf,
    /// Whether systemd is told when the server is ready.
    pub notifies_systemd: bool,
    /// What is worth a log line.
    pub loglevel: LogLevel,
    /// Log file; empty is the standard output.
    pub logfile: PathBuf,
    /// Whether a line of the log is a JSON object.
    pub logs_json: bool,
    /// Port for what operators look at; 0 is none.
    pub http_port: u16,
    /// Addresses of that port, in the words of `bind`.
    pub http_bind: Vec<String>,
    /// Seconds that a stop may wait.
    pub shutdown_timeout: u32,
    /// Numbered databases.
    pub databases: u32,
    /// Background rounds a second.
    pub hz: u32,

    // --- security
    /// The default user's password; empty is none.
    pub requirepass: Secret,
    /// File of users; empty is none.
    pub aclfile: PathBuf,
    /// Whether new users may use every channel.
    pub acl_pubsub_all_channels: bool,
    /// Entries that ACL LOG keeps.
    pub acllog_max_len: usize,
    /// Who may use DEBUG.
    pub enable_debug_command: Allowed,
    /// Who may set protected parameters.
    pub enable_protected_configs: Allowed,
    /// Who may use MODULE.
    pub enable_module_command: Allowed,

    // --- memory
    /// Bytes of data after which keys are evicted or writes refused; 0 is no limit.
    pub maxmemory: u64,
    /// What is evicted.
    pub maxmemory_policy: EvictionPolicy,
    /// Keys looked at for each eviction.
    pub maxmemory_samples: usize,
    /// Replicas without which nothing is written.
    pub min_replicas_to_write: u32,
    /// Seconds after which a replica does not count; 0 means that none is asked for.
    pub min_replicas_max_lag: u32,
    /// Bytes that all clients' buffers may take together; 0 is no limit. A percentage is already applied to `maxmemory`.
    pub maxmemory_clients: u64,

    // --- durability
    /// The data folder, absolute.
    pub dir: PathBuf,
    /// Whether a log of Redis that is imported may be cut at its end.
    pub aof_load_truncated: bool,
    /// When the journal is synced.
    pub appendfsync: Fsync,
    /// Name of an RDB file to import from the data folder.
    pub dbfilename: String,
    /// Name of an AOF to import from the data folder.
    pub appendfilename: String,
    /// Name of an AOF folder to import from the data folder.
    pub appenddirname: String,
    /// Partitions of new data.
    pub partitions: u16,
    /// Bytes of clean rows kept in memory; 0 is a quarter of the machine's memory, or an eighth of what a container may use.
    pub row_cache_size: u64,
    /// Journal bytes after which a checkpoint starts.
    pub checkpoint_journal_size: u64,
    /// Overlay bytes after which a checkpoint starts.
    pub checkpoint_overlay_size: u64,
    /// Seconds after which a checkpoint starts.
    pub checkpoint_age: u32,

    // --- collections: up to which size they are small
    /// Fields of a small hash.
    pub hash_max_listpack_entries: usize,
    /// Longest field or value of a small hash.
    pub hash_max_listpack_value: usize,
    /// Size of a small list: positive is a number of elements, -1 to -5 are 4, 8, 16, 32, 64 KB.
    pub list_max_listpack_size: i32,
    /// Members of a set of integers.
    pub set_max_intset_entries: usize,
    /// Members of a small set.
    pub set_max_listpack_entries: usize,
    /// Longest member of a small set.
    pub set_max_listpack_value: usize,
    /// Members of a small sorted set.
    pub zset_max_listpack_entries: usize,
    /// Longest member of a small sorted set.
    pub zset_max_listpack_value: usize,
    /// Largest sparse HyperLogLog.
    pub hll_sparse_max_bytes: usize,
    /// Bytes of a stream's node; 0 is no limit.
    pub stream_node_max_bytes: usize,
    /// Entries of a stream's node; 0 is no limit.
    pub stream_node_max_entries: usize,

    // --- observing
    /// Microseconds from which a command is slow; -1 is never.
    pub slowlog_log_slower_than: i64,
    /// Slow commands kept.
    pub slowlog_max_len: usize,
    /// Milliseconds from which an event is recorded; 0 is never.
    pub latency_monitor_threshold: u64,
    /// Whether each command's latency is counted.
    pub latency_tracking: bool,
    /// Percentiles that INFO shows.
    pub latency_tracking_info_percentiles: Vec<f64>,
    /// Classes of keyspace events that are published: the bits of [`event`].
    pub notify_keyspace_events: u32,
    /// Keys that client tracking remembers; 0 is no limit.
    pub tracking_table_max_keys: usize,

    /// How this server is part of a cluster, if it is.
    pub cluster: ClusterSettings,

    // --- replication
    /// Host and port of the server to follow.
    pub replicaof: Option<(String, u16)>,
    /// The user that a replica authenticates as; empty is the default one.
    pub masteruser: String,
    /// The password that a replica authenticates with; empty is none.
    pub masterauth: Secret,
    /// Whether a replica answers while its link is down.
    pub replica_serve_stale_data: bool,
    /// What Sentinel orders replicas by.
    pub replica_priority: u32,
    /// Whether Sentinel is to tell of this replica.
    pub replica_announced: bool,
    /// The host that a replica tells; empty is that of its connection.
    pub replica_announce_ip: String,
    /// The port that a replica tells; 0 is `port`.
    pub replica_announce_port: u16,
    /// Bytes of journal kept for replicas that come back.
    pub repl_backlog_size: u64,
    /// Seconds of silence after which a link is given up.
    pub repl_timeout: u32,
    /// How many replicas the data is to have.
    pub replicas: u16,
    /// On how many nodes a write is stored before it is acknowledged.
    pub write_concern: WriteConcern,
    /// The same for databases that differ.
    pub write_concern_databases: Vec<(u16, WriteConcern)>,
    /// Milliseconds that a reply is held for replicas; 0 is no limit.
    pub write_concern_timeout: u64,
    /// Which reads a replica answers.
    pub replica_reads: ReplicaReads,
    /// Milliseconds that commands wait for a primary while there is none.
    pub failover_wait: u64,

    // --- scripts
    /// Milliseconds after which a script is called busy; 0 is never.
    pub busy_reply_threshold: u64,
}

/// Bits of `notify-keyspace-events`.
pub mod event {
    /// `g`: commands on keys of any type.
    pub const GENERIC: u32 = 1;
    /// `$`
    pub const STRING: u32 = 1 << 1;
    /// `l`
    pub const LIST: u32 = 1 << 2;
    /// `s`
    pub const SET: u32 = 1 << 3;
    /// `h`
    pub const HASH: u32 = 1 << 4;
    /// `z`
    pub const ZSET: u32 = 1 << 5;
    /// `x`
    pub const EXPIRED: u32 = 1 << 6;
    /// `e`
    pub const EVICTED: u32 = 1 << 7;
    /// `t`
    pub const STREAM: u32 = 1 << 8;
    /// `d`
    pub const MODULE: u32 = 1 << 9;
    /// `n`: a new key; not part of `A`.
    pub const NEW: u32 = 1 << 10;
    /// `K`: publish on `__keyspace@…`.
    pub const KEYSPACE: u32 = 1 << 11;
    /// `E`: publish on `__keyevent@…`.
    pub const KEYEVENT: u32 = 1 << 12;
    /// `m`: a key that is missing was read; not part of `A`.
    pub const MISSED: u32 = 1 << 13;
}

/// What a client may have waiting to be sent; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BufferLimit {
    /// More than this closes it at once.
    pub hard: u64,
    /// More than this for [`BufferLimit::soft_seconds`] closes it.
    pub soft: u64,
    /// Seconds.
    pub soft_seconds: u64,
}

/// A text that is never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "(none)" } else { "(secret)" })
    }
}

/// How a server is part of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterSettings {
    /// Primaries are spread over the nodes, and clients that ask are told where.
    pub is_spread: bool,
    /// The port for other nodes; 0 is `port` and [`ClusterSettings::BUS_PORT_GAP`].
    pub bus_port: u16,
    /// The host that others are told; empty is where its messages come from.
    pub announce_ip: String,
    /// The port for clients that others are told; 0 is `port`.
    pub announce_port: u16,
    /// The port for other nodes that others are told; 0 is that which it listens on.
    pub announce_bus_port: u16,
    /// Hosts and ports of nodes to begin with.
    pub seeds: Vec<String>,
    /// What all nodes know and nobody else.
    pub secret: Secret,
    /// How many nodes found the cluster; 0 is to join one.
    pub bootstrap_expect: u16,
    /// Copies of a partition are put into different zones.
    pub zone: String,
    /// It votes and keeps no data.
    pub is_witness: bool,
    /// Names under which SENTINEL shows the primary.
    pub master_names: Vec<String>,
}

impl ClusterSettings {
    /// From the port for clients to the one for other nodes.
    pub const BUS_PORT_GAP: u16 = 10_000;

    /// Whether this server is part of a cluster, or is to be.
    pub fn is_on(&self) -> bool {
        self.is_spread || self.bootstrap_expect > 0 || !self.seeds.is_empty()
    }

    /// The port for other nodes, where clients have this one.
    pub fn listening_port(&self, port: u16) -> u16 {
        if self.bus_port == 0 { port.saturating_add(Self::BUS_PORT_GAP) } else { self.bus_port }
    }

    /// How many nodes found the cluster; one that has no seeds founds its own.
    pub fn expects(&self) -> u16 {
        if self.seeds.is_empty() { self.bootstrap_expect.max(1) } else { self.bootstrap_expect }
    }
}

/// Which reads a replica answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaReads {
    /// Those of a cluster's clients go to the primary, so that they read what they wrote; a replica without a cluster answers all.
    Auto,
    /// None: they are the primary's.
    Primary,
    /// All, however old its data is.
    Any,
    /// Those that miss no change older than this many milliseconds.
    MaxLag(u64),
}

/// What is worth a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// Much.
    Verbose,
    /// What an operator wants to know.
    Notice,
    /// What an operator must know.
    Warning,
}

impl LogLevel {
    /// The word of `loglevel`.
    pub fn name(self) -> &'static str {
        match self {
            LogLevel::Debug => "debug",
            LogLevel::Verbose => "verbose",
            LogLevel::Notice => "notice",
            LogLevel::Warning => "warning",
        }
    }
}

/// When the journal is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Before each reply to a write.
    Always,
    /// Once a second.
    EverySecond,
    /// When the system likes.
    No,
}

/// Who may use what is dangerous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Nobody.
    No,
    /// Everybody.
    Yes,
    /// Clients of this machine.
    Local,
}

impl Allowed {
    /// Whether a client may, who is of this machine or not.
    pub fn permits(self, is_local: bool) -> bool {
        self == Allowed::Yes || (self == Allowed::Local && is_local)
    }
}

/// What is evicted when `maxmemory` is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvictionPolicy {
    /// Keys with a deadline, least recently used first.
    VolatileLru,
    /// Keys with a deadline, least often used first.
    VolatileLfu,
    /// Keys with a deadline, any.
    VolatileRandom,
    /// Keys with a deadline, nearest first.
    VolatileTtl,
    /// Least recently used first.
    AllKeysLru,
    /// Least often used first.
    AllKeysLfu,
    /// Any.
    AllKeysRandom,
    /// Nothing: writes are refused.
    NoEviction,
}

impl EvictionPolicy {
    const ALL: [EvictionPolicy; 8] = [
        EvictionPolicy::VolatileLru,
        EvictionPolicy::VolatileLfu,
        EvictionPolicy::VolatileRandom,
        EvictionPolicy::VolatileTtl,
        EvictionPolicy::AllKeysLru,
        EvictionPolicy::AllKeysLfu,
        EvictionPolicy::AllKeysRandom,
        EvictionPolicy::NoEviction,
    ];

    /// The word of `maxmemory-policy`.
    pub fn name(self) -> &'static str {
        POLICIES[self as usize]
    }

    /// Whether keys are ranked by how often they are used.
    pub fn is_lfu(self) -> bool {
        matches!(self, EvictionPolicy::VolatileLfu | EvictionPolicy::AllKeysLfu)
    }

    /// Whether keys are ranked by when or how often they were used.
    pub fn notes_accesses(self) -> bool {
        self.is_lfu() || matches!(self, EvictionPolicy::VolatileLru | EvictionPolicy::AllKeysLru)
    }

    /// Whether only keys with a deadline are evicted.
    pub fn is_volatile(self) -> bool {
        matches!(
            self,
            EvictionPolicy::VolatileLru
                | EvictionPolicy::VolatileLfu
                | EvictionPolicy::VolatileRandom
                | EvictionPolicy::VolatileTtl
        )
    }
}

impl Settings {
    /// Whether some write may have to wait for replicas although its connection has not asked for it.
    #[inline]
    pub fn has_concern(&self) -> bool {
        self.write_concern != WriteConcern::Local || !self.write_concern_databases.is_empty()
    }

    /// The strongest write concern of a connection that chose none itself.
    pub fn strongest_concern(&self) -> WriteConcern {
        let databases = self.write_concern_databases.iter().map(|(_, concern)| *concern);
        databases.fold(self.write_concern, Ord::max)
    }

    /// The write concern of a connection that has `database` selected and chose none itself.
    #[inline]
    pub fn write_concern_of(&self, database: u16) -> WriteConcern {
        let own = self.write_concern_databases.iter().find(|(number, _)| *number == database);
        own.map_or(self.write_concern, |(_, concern)| *concern)
    }

    /// Reads every field; `shown` gives the text that CONFIG GET shows for a parameter.
    pub fn from_shown<'a>(shown: impl Fn(&'static str) -> &'a [u8]) -> Settings {
        let read = Reader { shown };
        Settings {
            port: read.number("port"),
            bind: read.words("bind"),
            protected_mode: read.flag("protected-mode"),
            tcp_backlog: read.number("tcp-backlog"),
            tcp_keepalive: read.number("tcp-keepalive"),
            timeout: read.number("timeout"),
            unixsocket: read.path("unixsocket"),
            unixsocketperm: u32::from_str_radix(&read.text("unixsocketperm"), 8).unwrap_or(0),
            maxclients: read.number("maxclients"),
            client_query_buffer_limit: read.number("client-query-buffer-limit"),
            client_output_buffer_limit: read_buffer_limits((read.shown)("client-output-buffer-limit"))
                .map(|[hard, soft, soft_seconds]| BufferLimit { hard, soft, soft_seconds }),
            proto_max_bulk_len: read.number("proto-max-bulk-len"),
            runtime_threads: read.number("runtime-threads"),
            pidfile: read.path("pidfile"),
            notifies_systemd: matches!((read.shown)("supervised"), b"systemd" | b"auto"),
            loglevel: match (read.shown)("loglevel") {
                b"debug" => LogLevel::Debug,
                b"verbose" => LogLevel::Verbose,
                b"warning" => LogLevel::Warning,
                _ => LogLevel::Notice,
            },
            logfile: read.path("logfile"),
            logs_json: (read.shown)("log-format") == b"json",
            http_port: read.number("http-port"),
            http_bind: read.words("http-bind"),
            shutdown_timeout: read.number("shutdown-timeout"),
            databases: read.number("databases"),
            hz: read.number("hz"),
            requirepass: Secret((read.shown)("requirepass").to_vec()),
            aclfile: read.path("aclfile"),
            acl_pubsub_all_channels: (read.shown)("acl-pubsub-default") == b"allchannels",
            acllog_max_len: read.number("acllog-max-len"),
            enable_debug_command: read.allowed("enable-debug-command"),
            enable_protected_configs: read.allowed("enable-protected-configs"),
            enable_module_command: read.allowed("enable-module-command"),
            maxmemory: read.number("maxmemory"),
            maxmemory_policy: read.policy("maxmemory-policy"),
            min_replicas_to_write: read.number("min-replicas-to-write"),
            min_replicas_max_lag: read.number("min-replicas-max-lag"),
            maxmemory_samples: read.number("maxmemory-samples"),
            maxmemory_clients: read.part_of("maxmemory-clients", read.number("maxmemory")),
            dir: read.path("dir"),
            aof_load_truncated: read.flag("aof-load-truncated"),
            appendfsync: match (read.shown)("appendfsync") {
                b"always" => Fsync::Always,
                b"no" => Fsync::No,
                _ => Fsync::EverySecond,
            },
            dbfilename: read.text("dbfilename"),
            appendfilename: read.text("appendfilename"),
            appenddirname: read.text("appenddirname"),
            partitions: read.number("partitions"),
            row_cache_size: read.number("row-cache-size"),
            checkpoint_journal_size: read.number("checkpoint-journal-size"),
            checkpoint_overlay_size: read.number("checkpoint-overlay-size"),
            checkpoint_age: read.number("checkpoint-age"),
            hash_max_listpack_entries: read.number("hash-max-listpack-entries"),
            hash_max_listpack_value: read.number("hash-max-listpack-value"),
            list_max_listpack_size: read.number("list-max-listpack-size"),
            set_max_intset_entries: read.number("set-max-intset-entries"),
            set_max_listpack_entries: read.number("set-max-listpack-entries"),
            set_max_listpack_value: read.number("set-max-listpack-value"),
            zset_max_listpack_entries: read.number("zset-max-listpack-entries"),
            zset_max_listpack_value: read.number("zset-max-listpack-value"),
            hll_sparse_max_bytes: read.number("hll-sparse-max-bytes"),
            stream_node_max_bytes: read.number("stream-node-max-bytes"),
            stream_node_max_entries: read.number("stream-node-max-entries"),
            slowlog_log_slower_than: read.number("slowlog-log-slower-than"),
            slowlog_max_len: read.number("slowlog-max-len"),
            latency_monitor_threshold: read.number("latency-monitor-threshold"),
            latency_tracking: read.flag("latency-tracking"),
            latency_tracking_info_percentiles: read.percentiles("latency-tracking-info-percentiles"),
            notify_keyspace_events: kind::event_bits((read.shown)("notify-keyspace-events")).unwrap_or(0),
            tracking_table_max_keys: read.number("tracking-table-max-keys"),
            cluster: ClusterSettings {
                is_spread: read.flag("cluster-enabled"),
                bus_port: read.number("cluster-port"),
                announce_ip: read.text("cluster-announce-ip"),
                announce_port: read.number("cluster-announce-port"),
                announce_bus_port: read.number("cluster-announce-bus-port"),
                seeds: read.words("cluster-seeds"),
                secret: Secret((read.shown)("cluster-secret").to_vec()),
                bootstrap_expect: read.number("bootstrap-expect"),
                zone: read.text("zone"),
                is_witness: read.flag("witness"),
                master_names: read.words("sentinel-master-name"),
            },
            replicaof: read.server("replicaof"),
            masteruser: read.text("masteruser"),
            masterauth: Secret((read.shown)("masterauth").to_vec()),
            replica_serve_stale_data: read.flag("replica-serve-stale-data"),
            replica_priority: read.number("replica-priority"),
            replica_announced: read.flag("replica-announced"),
            replica_announce_ip: read.text("replica-announce-ip"),
            replica_announce_port: read.number("replica-announce-port"),
            repl_backlog_size: read.number("repl-backlog-size"),
            repl_timeout: read.number("repl-timeout"),
            replicas: read.number("replicas"),
            write_concern: WriteConcern::named((read.shown)("write-concern")).unwrap_or_default(),
            write_concern_databases: read_database_concerns((read.shown)("write-concern-databases")),
            write_concern_timeout: read.number("write-concern-timeout"),
            replica_reads: read.replica_reads("replica-reads"),
            failover_wait: read.number("failover-wait"),
            busy_reply_threshold: read.number("busy-reply-threshold"),
        }
    }
}

/// Turns shown texts into fields. They passed their kind's check, so every fallback here is for completeness only.
struct Reader<F> {
    shown: F,
}

impl<'a, F: Fn(&'static str) -> &'a [u8]> Reader<F> {
    fn text(&self, name: &'static str) -> String {
        String::from_utf8_lossy((self.shown)(name)).into_owned()
    }

    /// The number, or the largest that the field holds.
    fn number<T: std::str::FromStr + TryFrom<i128> + Bounded>(&self, name: &'static str) -> T {
        let value: i128 = self.text(name).parse().unwrap_or(0);
        T::try_from(value).unwrap_or(T::LARGEST)
    }

    fn flag(&self, name: &'static str) -> bool {
        (self.shown)(name) == b"yes"
    }

    fn words(&self, name: &'static str) -> Vec<String> {
        self.text(name).split_ascii_whitespace().map(str::to_owned).collect()
    }

    fn path(&self, name: &'static str) -> PathBuf {
        PathBuf::from(self.text(name))
    }

    fn allowed(&self, name: &'static str) -> Allowed {
        match (self.shown)(name) {
            b"yes" => Allowed::Yes,
            b"local" => Allowed::Local,
            _ => Allowed::No,
        }
    }

    fn policy(&self, name: &'static str) -> EvictionPolicy {
        let word = (self.shown)(name);
        let found = EvictionPolicy::ALL.into_iter().find(|policy| policy.name().as_bytes() == word);
        found.unwrap_or(EvictionPolicy::NoEviction)
    }

    fn server(&self, name: &'static str) -> Option<(String, u16)> {
        let words = self.words(name);
        let [host, port] = words.as_slice() else { return None };
        Some((host.clone(), port.parse().ok()?))
    }

    fn replica_reads(&self, name: &'static str) -> ReplicaReads {
        match (self.shown)(name) {
            b"auto" => ReplicaReads::Auto,
            b"primary" => ReplicaReads::Primary,
            word => match word.strip_prefix(kind::MAX_LAG).and_then(number::parse_i64) {
                Some(limit) => ReplicaReads::MaxLag(limit.unsigned_abs()),
                None => ReplicaReads::Any,
            },
        }
    }

    fn part_of(&self, name: &'static str, whole: u64) -> u64 {
        let text = (self.shown)(name);
        let Some(percent) = text.strip_suffix(b"%") else { return self.number(name) };
        let percent = number::parse_i64(percent).unwrap_or(0);
        (u128::from(whole) * u128::from(percent.unsigned_abs()) / 100) as u64
    }

    fn percentiles(&self, name: &'static str) -> Vec<f64> {
        self.words(name).iter().filter_map(|word| number::parse_f64(word.as_bytes())).collect()
    }
}

/// The largest number of a type.
trait Bounded {
    const LARGEST: Self;
}

macro_rules! bounded {
    ($($number:ty)*) => { $(impl Bounded for $number { const LARGEST: $number = <$number>::MAX; })* };
}
bounded!(u16 u32 u64 usize i32 i64);
