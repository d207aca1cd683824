//! Finds commands by name, and numbers them.

use super::{Command, GROUPS};
use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

/// A command or a subcommand as the table holds it.
pub struct Entry {
    /// Declaration and handler.
    pub command: &'static Command,
    /// Its place among all commands and subcommands: statistics are kept by it.
    pub number: usize,
    /// The name with its container's: `config|get`.
    pub full_name: String,
    /// Its subcommands.
    pub subcommands: Vec<Entry>,
}

impl Entry {
    /// The subcommand with this name, in upper or lower case.
    pub fn subcommand(&self, name: &[u8]) -> Option<&Entry> {
        self.subcommands.iter().find(|entry| name.eq_ignore_ascii_case(entry.command.spec.name.as_bytes()))
    }
}

struct Table {
    entries: Vec<Entry>,
    /// Index in `entries`. The names are ours and the administrator's, so a hash without a seed will do.
    by_name: HashMap<Box<[u8]>, usize, foldhash::fast::FixedState>,
}

/// Longest name that is looked up.
const NAME_MAX: usize = 64;

/// Lower-case names clients use, by the table's own names, where `rename-command` has changed them; empty is "not at all".
static RENAMED: OnceLock<HashMap<Vec<u8>, Vec<u8>>> = OnceLock::new();

/// Renames commands, as `rename-command` asks. To be called once, before any command is looked up.
///
/// # Errors
/// In words, if there is no such command, or a new name is taken or too long.
pub fn rename(renames: &[(Vec<u8>, Vec<u8>)]) -> Result<(), String> {
    let shown = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    let mut renamed = HashMap::new();
    for (old, new) in renames {
        let (old, new) = (old.to_ascii_lowercase(), new.to_ascii_lowercase());
        if !all().any(|command| command.spec.name.as_bytes() == old) {
            return Err(format!("No such command in rename-command: {}", shown(&old)));
        }
        let is_taken =
            all().any(|command| command.spec.name.as_bytes() == new) || renamed.values().any(|n| *n == new);
        if new.len() > NAME_MAX || (!new.is_empty() && is_taken) {
            return Err(format!("Target command name already exists or is too long: {}", shown(&new)));
        }
        renamed.insert(old, new);
    }
    RENAMED.set(renamed).map_err(|_| "commands are renamed once".to_owned())
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut number = 0;
    let entries: Vec<Entry> = all().map(|command| entry_of(command, "", &mut number)).collect();
    let renamed = |name: &[u8]| RENAMED.get().and_then(|renamed| renamed.get(name)).cloned();
    let name_of = |entry: &Entry| {
        let name = entry.command.spec.name.as_bytes();
        renamed(name).unwrap_or_else(|| name.to_vec()).into_boxed_slice()
    };
    let names = entries.iter().enumerate().map(|(index, entry)| (name_of(entry), index));
    let by_name = names.filter(|(name, _)| !name.is_empty()).collect();
    Table { entries, by_name }
});

fn entry_of(command: &'static Command, container: &str, next: &mut usize) -> Entry {
    let number = *next;
    *next += 1;
    let full_name = format!("{container}{}", command.spec.name);
    let prefix = format!("{full_name}|");
    let subcommands = command.subcommands.iter().map(|command| entry_of(command, &prefix, next)).collect();
    Entry { command, number, full_name, subcommands }
}

/// The entry of the command with this name, in upper or lower case.
#[inline]
pub fn entry(name: &[u8]) -> Option<&'static Entry> {
    let mut lower = [0; NAME_MAX];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    TABLE.by_name.get(&*lower).map(|&index| &TABLE.entries[index])
}

/// The command with this name, in upper or lower case.
pub fn find(name: &[u8]) -> Option<&'static Command> {
    entry(name).map(|entry| entry.command)
}

/// The entry of a command or, after a `|`, of its subcommand, in upper or lower case.
pub fn entry_of_full_name(name: &[u8]) -> Option<&'static Entry> {
    let mut parts = name.splitn(2, |&byte| byte == b'|');
    let container = entry(parts.next()?)?;
    parts.next().map_or(Some(container), |subcommand| container.subcommand(subcommand))
}

/// The entries of all commands, without subcommands.
pub fn entries() -> &'static [Entry] {
    &TABLE.entries
}

/// Full names of all commands and subcommands, by number.
pub fn full_names() -> Vec<String> {
    fn collect(entries: &[Entry], names: &mut Vec<String>) {
        for entry in entries {
            debug_assert_eq!(entry.number, names.len());
            names.push(entry.full_name.clone());
            collect(&entry.subcommands, names);
        }
    }
    let mut names = Vec::new();
    collect(entries(), &mut names);
    names
}

/// All commands, without subcommands.
pub fn all() -> impl Iterator<Item = &'static Command> {
    GROUPS.iter().flat_map(|group| group.iter())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_agree() {
        for (number, name) in full_names().iter().enumerate() {
            let entry = entry_of_full_name(name.to_ascii_uppercase().as_bytes()).expect("listed");
            assert_eq!((entry.number, &entry.full_name), (number, name));
        }
        assert!(entry(&[b'x'; 100]).is_none() && entry_of_full_name(b"nothing|at all").is_none());
    }
}
