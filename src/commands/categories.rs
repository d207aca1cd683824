//! ACL categories, derived from a command's group and flags by Redis's rules, never kept by hand. The few commands whose
//! categories follow from neither declare the others ([`crate::protocol::spec::Spec::extra_categories`]).

use super::{Command, Handler};
use crate::protocol::spec::{Flags, Group, flag};

/// A set of categories: bit i is `NAMES[i]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Categories(pub u32);

/// All categories with their `@`, in the order in which Redis lists them.
pub const NAMES: [&str; 21] = [
    "@keyspace",
    "@read",
    "@write",
    "@set",
    "@sortedset",
    "@list",
    "@hash",
    "@string",
    "@bitmap",
    "@hyperloglog",
    "@geo",
    "@stream",
    "@pubsub",
    "@admin",
    "@fast",
    "@slow",
    "@blocking",
    "@dangerous",
    "@connection",
    "@transaction",
    "@scripting",
];

/// What flags imply.
const BY_FLAG: &[(Flags, &str)] = &[
    (flag::WRITE, "write"),
    (flag::ADMIN, "admin"),
    (flag::ADMIN, "dangerous"),
    (flag::PUBSUB, "pubsub"),
    (flag::FAST, "fast"),
    (flag::BLOCKING, "blocking"),
];

impl Categories {
    /// The category with this name, without its `@`, in upper or lower case.
    pub fn named(name: &[u8]) -> Option<Categories> {
        let index = NAMES.iter().position(|known| name.eq_ignore_ascii_case(&known.as_bytes()[1..]))?;
        Some(Categories(1 << index))
    }

    /// Whether both sets have one in common.
    pub fn meets(self, other: Categories) -> bool {
        self.0 & other.0 != 0
    }

    /// Their names with `@`.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.into_iter().enumerate().filter(move |(index, _)| self.0 >> index & 1 == 1).map(|(_, name)| name)
    }

    /// Those of a command or subcommand.
    pub fn of(command: &Command) -> Categories {
        let spec = &command.spec;
        let mut found = Categories::default();
        if !matches!(command.handler, Handler::Container) {
            found.add(of_group(spec.group, spec.extra_categories));
        }
        if spec.flags.has(flag::READONLY) && spec.group != Group::Scripting {
            found.add("read");
        }
        for (_, name) in BY_FLAG.iter().filter(|(flag, _)| spec.flags.has(*flag)) {
            found.add(name);
        }
        if !spec.flags.has(flag::FAST) {
            found.add("slow");
        }
        for name in spec.extra_categories {
            found.add(name);
        }
        found
    }

    fn add(&mut self, name: &str) {
        if !name.is_empty() {
            let found = Categories::named(name.as_bytes());
            self.0 |= found.expect("categories are declared by their names").0;
        }
    }
}

/// The category of a documentation group, or nothing.
fn of_group(group: Group, extra: &[&str]) -> &'static str {
    match group {
        // SORT belongs to the types it sorts and WAIT to the connection, though both are documented with the keys.
        Group::Generic if extra.iter().any(|name| *name != "dangerous") => "",
        Group::Generic => "keyspace",
        Group::SortedSet => "sortedset",
        Group::Transactions => "transaction",
        Group::Server | Group::Cluster | Group::Pubsub => "",
        Group::String
        | Group::List
        | Group::Set
        | Group::Hash
        | Group::Connection
        | Group::Scripting
        | Group::Hyperloglog
        | Group::Geo
        | Group::Stream
        | Group::Bitmap => group.name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::table;

    fn names(command: &str) -> Vec<&'static str> {
        let entry = table::entry_of_full_name(command.as_bytes()).expect("is declared");
        Categories::of(entry.command).names().collect()
    }

    #[test]
    fn categories_follow_from_group_and_flags() {
        assert_eq!(names("del"), ["@keyspace", "@write", "@slow"]);
        assert_eq!(names("keys"), ["@keyspace", "@read", "@slow", "@dangerous"]);
        assert_eq!(names("swapdb"), ["@keyspace", "@write", "@fast", "@dangerous"]);
        assert_eq!(names("command|docs"), ["@slow", "@connection"]);
    }

    #[test]
    fn every_declared_category_exists() {
        for entry in table::entries() {
            let with_subcommands = std::iter::once(entry).chain(&entry.subcommands);
            with_subcommands.for_each(|entry| assert_ne!(Categories::of(entry.command), Categories(0)));
        }
    }
}
