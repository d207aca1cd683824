//! What a command declares about itself: the one place from which dispatch, arity errors, routing, ACL categories,
//! COMMAND, COMMAND DOCS and the compatibility page derive. A declaration is a `const` beside its handler, built by the
//! `const fn`s here; what is forgotten fails to compile or fails the table's check.

/// A command without its handler.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Lower-case name; of a subcommand the part after the container's name (`get` of `config|get`).
    pub name: &'static str,
    /// Number of words, name (and container) included; negative means "at least".
    pub arity: i32,
    /// Behaviour flags.
    pub flags: Flags,
    /// Which words are keys.
    pub keys: &'static [KeySpec],
    /// What documentation groups it by; also its ACL category.
    pub group: Group,
    /// One line in our own words.
    pub summary: &'static str,
    /// The Redis version that brought it.
    pub since: &'static str,
    /// Cost in words.
    pub complexity: &'static str,
    /// The syntax tree.
    pub arguments: &'static [Argument],
    /// Changes by version, oldest first.
    pub history: &'static [(&'static str, &'static str)],
    /// Hints for clients and proxies, such as `nondeterministic_output`.
    pub tips: &'static [&'static str],
    /// Version and replacement, if it is not to be used any more.
    pub deprecated: Option<(&'static str, &'static str)>,
    /// ACL categories beyond those that follow from group and flags.
    pub extra_categories: &'static [&'static str],
}

/// A set of [`flag`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u32);

impl Flags {
    /// Whether all of `other` are set.
    #[inline]
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets.
    pub const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// This set without `other`.
    pub const fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }
}

/// Command flags, named as COMMAND names them. `WRITE` and `READONLY` are set by the handler's type, never by hand.
pub mod flag {
    use super::Flags;

    macro_rules! flags {
        ($($(#[$doc:meta])* $name:ident = $bit:literal, $word:literal;)*) => {
            $($(#[$doc])* pub const $name: Flags = Flags(1 << $bit);)*
            /// Flag and the word COMMAND shows for it; an empty word is for flags that are ours alone.
            pub const NAMES: &[(Flags, &str)] = &[$(($name, $word)),*];
        };
    }

    flags! {
        /// Changes data.
        WRITE = 0, "write";
        /// Reads data.
        READONLY = 1, "readonly";
        /// May make data grow: refused when memory or disk is full.
        DENYOOM = 2, "denyoom";
        /// For administrators.
        ADMIN = 3, "admin";
        /// Belongs to publish/subscribe.
        PUBSUB = 4, "pubsub";
        /// Not from scripts.
        NOSCRIPT = 5, "noscript";
        /// May wait for data.
        BLOCKING = 6, "blocking";
        /// Allowed while data is loading.
        LOADING = 7, "loading";
        /// Allowed on a replica whose data is stale.
        STALE = 8, "stale";
        /// Not shown to MONITOR.
        SKIP_MONITOR = 9, "skip_monitor";
        /// Not shown in SLOWLOG.
        SKIP_SLOWLOG = 10, "skip_slowlog";
        /// Imports keys of a slot that moves.
        ASKING = 11, "asking";
        /// Constant or logarithmic time.
        FAST = 12, "fast";
        /// Allowed before AUTH.
        NO_AUTH = 13, "no_auth";
        /// May be replicated although it changes no key: CLIENT PAUSE WRITE holds it too. Redis does not show it.
        MAY_REPLICATE = 14, "";
        /// Not inside MULTI.
        NO_MULTI = 15, "no_multi";
        /// Allowed while a script runs too long.
        ALLOW_BUSY = 16, "allow_busy";
        /// Keys depend on the words in a way key specs cannot say.
        MOVABLEKEYS = 17, "movablekeys";
        /// No keys by design, yet keys must be declared (EVAL).
        NO_MANDATORY_KEYS = 18, "no_mandatory_keys";
        /// Touches keys its words do not name: needs every partition. Ours.
        ALL_PARTITIONS = 19, "";
        /// No asynchronous loading.
        NO_ASYNC_LOADING = 20, "no_async_loading";
        /// Protected: needs `enable-*-command`.
        PROTECTED = 21, "";
    }
}

/// Documentation group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// `generic`: commands on keys of any type.
    Generic,
    /// `string`
    String,
    /// `list`
    List,
    /// `set`
    Set,
    /// `sorted-set`
    SortedSet,
    /// `hash`
    Hash,
    /// `pubsub`
    Pubsub,
    /// `transactions`
    Transactions,
    /// `connection`
    Connection,
    /// `server`
    Server,
    /// `scripting`
    Scripting,
    /// `hyperloglog`
    Hyperloglog,
    /// `cluster`
    Cluster,
    /// `geo`
    Geo,
    /// `stream`
    Stream,
    /// `bitmap`
    Bitmap,
}

impl Group {
    /// The word COMMAND DOCS shows.
    pub const fn name(self) -> &'static str {
        match self {
            Group::Generic => "generic",
            Group::String => "string",
            Group::List => "list",
            Group::Set => "set",
            Group::SortedSet => "sorted-set",
            Group::Hash => "hash",
            Group::Pubsub => "pubsub",
            Group::Transactions => "transactions",
            Group::Connection => "connection",
            Group::Server => "server",
            Group::Scripting => "scripting",
            Group::Hyperloglog => "hyperloglog",
            Group::Cluster => "cluster",
            Group::Geo => "geo",
            Group::Stream => "stream",
            Group::Bitmap => "bitmap",
        }
    }
}

/// Where keys stand among the words, and what is done to them.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    /// How the first key is found.
    pub begin: Begin,
    /// How the others follow.
    pub find: Find,
    /// What is done to them.
    pub access: KeyAccess,
    /// A remark shown by COMMAND, or an empty text.
    pub notes: &'static str,
}

/// How the first key is found.
#[derive(Clone, Copy, Debug)]
pub enum Begin {
    /// At this word; 1 is the one after the name.
    Index(i32),
    /// After this word, searched from a position (negative: from the end, backwards).
    Keyword(&'static str, i32),
    /// Not to be said.
    Unknown,
}

/// How the other keys follow from the first.
#[derive(Clone, Copy, Debug)]
pub enum Find {
    /// To `last` (relative to the first; -1: the last word, -2: the one before), every `step`th; `limit` 2 means
    /// half of the words, and so on; 0 and 1: no limit.
    Range {
        /// The last key, relative to the first.
        last: i32,
        /// From one key to the next.
        step: i32,
        /// Share of the remaining words that are keys.
        limit: i32,
    },
    /// A word (relative to the first) says how many there are; the first key stands at `first`, also relative.
    Count {
        /// The word that counts them.
        number: i32,
        /// The first of them.
        first: i32,
        /// From one key to the next.
        step: i32,
    },
    /// Not to be said.
    Unknown,
}

/// What is done to a key, in the words of COMMAND's key specifications. A set of [`access`] bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyAccess(pub u16);

impl KeyAccess {
    /// Both sets.
    pub const fn and(self, other: KeyAccess) -> KeyAccess {
        KeyAccess(self.0 | other.0)
    }

    /// Whether all of `other` are set.
    pub const fn has(self, other: KeyAccess) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Key access bits. Exactly one of the first four, then what is done to the user's data in it.
pub mod access {
    use super::KeyAccess;

    /// Read only.
    pub const RO: KeyAccess = KeyAccess(1);
    /// Read and written.
    pub const RW: KeyAccess = KeyAccess(2);
    /// Overwritten: the old value does not matter.
    pub const OW: KeyAccess = KeyAccess(4);
    /// Removed.
    pub const RM: KeyAccess = KeyAccess(8);
    /// The user's data is returned, copied or used.
    pub const ACCESS: KeyAccess = KeyAccess(16);
    /// The user's data is changed, depending on what it was.
    pub const UPDATE: KeyAccess = KeyAccess(32);
    /// Data is added, none is lost.
    pub const INSERT: KeyAccess = KeyAccess(64);
    /// Data is removed, none is read.
    pub const DELETE: KeyAccess = KeyAccess(128);
    /// The word is not a key though it looks like one (a channel).
    pub const NOT_KEY: KeyAccess = KeyAccess(256);
    /// The keys may be more or fewer than the spec can say.
    pub const INCOMPLETE: KeyAccess = KeyAccess(512);
    /// The access depends on the words (`SET … GET`).
    pub const VARIABLE_FLAGS: KeyAccess = KeyAccess(1024);

    /// Bit and the word COMMAND shows.
    pub const NAMES: &[(KeyAccess, &str)] = &[
        (RO, "RO"),
        (RW, "RW"),
        (OW, "OW"),
        (RM, "RM"),
        (ACCESS, "access"),
        (UPDATE, "update"),
        (INSERT, "insert"),
        (DELETE, "delete"),
        (NOT_KEY, "not_key"),
        (INCOMPLETE, "incomplete"),
        (VARIABLE_FLAGS, "variable_flags"),
    ];
}

impl KeySpec {
    /// Keys from word `first` to `last` (relative to `first`; -1: the last word), every `step`th.
    pub const fn range(first: i32, last: i32, step: i32, access: KeyAccess) -> KeySpec {
        KeySpec { begin: Begin::Index(first), find: Find::Range { last, step, limit: 0 }, access, notes: "" }
    }

    /// One key, at word `index`.
    pub const fn one(index: i32, access: KeyAccess) -> KeySpec {
        KeySpec::range(index, 0, 1, access)
    }

    /// Keys behind their number, which is word `index`.
    pub const fn counted(index: i32, access: KeyAccess) -> KeySpec {
        let find = Find::Count { number: 0, first: 1, step: 1 };
        KeySpec { begin: Begin::Index(index), find, access, notes: "" }
    }

    /// The same with a remark.
    pub const fn notes(mut self, notes: &'static str) -> KeySpec {
        self.notes = notes;
        self
    }
}

/// A node of the syntax tree.
#[derive(Clone, Copy, Debug)]
pub struct Argument {
    /// Its name in the documentation.
    pub name: &'static str,
    /// What it is.
    pub kind: ArgumentKind,
    /// The literal word that stands before it (or is it, for a pure token); empty if none.
    pub token: &'static str,
    /// May be left out.
    pub optional: bool,
    /// May be repeated.
    pub multiple: bool,
    /// The token is repeated too.
    pub multiple_token: bool,
    /// Which key specification it is, if it is a key.
    pub key_spec: Option<u8>,
    /// Children of a block or a choice.
    pub children: &'static [Argument],
    /// The version that brought it; empty if it came with the command.
    pub since: &'static str,
    /// The version from which it is not to be used; empty if it may be.
    pub deprecated_since: &'static str,
    /// The text shown instead of the name, empty if the same.
    pub display: &'static str,
}

/// What an argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgumentKind {
    /// Any bytes.
    String,
    /// A 64-bit integer.
    Integer,
    /// A double.
    Double,
    /// A key.
    Key,
    /// A glob pattern.
    Pattern,
    /// Seconds or milliseconds since 1970.
    UnixTime,
    /// A literal word.
    PureToken,
    /// One of the children.
    OneOf,
    /// All children in order.
    Block,
}

impl ArgumentKind {
    /// The word COMMAND DOCS shows.
    pub const fn name(self) -> &'static str {
        match self {
            ArgumentKind::String => "string",
            ArgumentKind::Integer => "integer",
            ArgumentKind::Double => "double",
            ArgumentKind::Key => "key",
            ArgumentKind::Pattern => "pattern",
            ArgumentKind::UnixTime => "unix-time",
            ArgumentKind::PureToken => "pure-token",
            ArgumentKind::OneOf => "oneof",
            ArgumentKind::Block => "block",
        }
    }
}

/// Builders of syntax trees: `string("value")`, `integer("seconds").token("EX")`, `one_of("condition", &[…]).optional()`.
pub mod syntax {
    use super::{Argument, ArgumentKind};

    const fn argument(name: &'static str, kind: ArgumentKind, children: &'static [Argument]) -> Argument {
        Argument {
            name,
            kind,
            token: "",
            optional: false,
            multiple: false,
            multiple_token: false,
            key_spec: None,
            children,
            since: "",
            deprecated_since: "",
            display: "",
        }
    }

    /// Any bytes.
    pub const fn string(name: &'static str) -> Argument {
        argument(name, ArgumentKind::String, &[])
    }
    /// A 64-bit integer.
    pub const fn integer(name: &'static str) -> Argument {
        argument(name, ArgumentKind::Integer, &[])
    }
    /// A double.
    pub const fn double(name: &'static str) -> Argument {
        argument(name, ArgumentKind::Double, &[])
    }
    /// A key, found by the key specification with this index.
    pub const fn key(name: &'static str, key_spec: u8) -> Argument {
        let mut made = argument(name, ArgumentKind::Key, &[]);
        made.key_spec = Some(key_spec);
        made
    }
    /// A glob pattern.
    pub const fn pattern(name: &'static str) -> Argument {
        argument(name, ArgumentKind::Pattern, &[])
    }
    /// Seconds or milliseconds since 1970.
    pub const fn unix_time(name: &'static str) -> Argument {
        argument(name, ArgumentKind::UnixTime, &[])
    }
    /// A literal word.
    pub const fn token(name: &'static str, token: &'static str) -> Argument {
        let mut made = argument(name, ArgumentKind::PureToken, &[]);
        made.token = token;
        made
    }
    /// One of `children`.
    pub const fn one_of(name: &'static str, children: &'static [Argument]) -> Argument {
        argument(name, ArgumentKind::OneOf, children)
    }
    /// All of `children`, in order.
    pub const fn block(name: &'static str, children: &'static [Argument]) -> Argument {
        argument(name, ArgumentKind::Block, children)
    }

    impl Argument {
        /// Preceded by the literal word `token`.
        pub const fn token(mut self, token: &'static str) -> Argument {
            self.token = token;
            self
        }
        /// May be left out.
        pub const fn optional(mut self) -> Argument {
            self.optional = true;
            self
        }
        /// May be repeated.
        pub const fn multiple(mut self) -> Argument {
            self.multiple = true;
            self
        }
        /// May be repeated, its token each time.
        pub const fn multiple_token(mut self) -> Argument {
            self.multiple = true;
            self.multiple_token = true;
            self
        }
        /// Came with this version.
        pub const fn since(mut self, version: &'static str) -> Argument {
            self.since = version;
            self
        }
        /// Not to be used from this version on.
        pub const fn deprecated_since(mut self, version: &'static str) -> Argument {
            self.deprecated_since = version;
            self
        }
    }
}
