//! COMMAND: the command table told to clients. Every answer derives from the declarations.

use super::categories::Categories;
use super::table::{self, Entry};
use super::{Command, Outcome, Request, help, keys_of, session};
use crate::base::glob;
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::access::{INCOMPLETE, NAMES as ACCESS_NAMES, NOT_KEY};
use crate::protocol::spec::flag::{self, LOADING, STALE};
use crate::protocol::spec::syntax::{one_of, pattern, string};
use crate::protocol::spec::{Argument, Begin, Find, Group, KeyAccess, KeySpec, Spec};
use crate::session::session::Session;

const NAMES: &[Argument] = &[string("command-name").optional().multiple()];
const NO_ORDER: &[&str] = &["nondeterministic_output_order"];

const fn about_commands(command: Command) -> Command {
    command.flags(LOADING.and(STALE)).group(Group::Server).categories(&["connection"])
}

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[about_commands(session("command", all))
    .arity(-1)
    .since("2.8.13")
    .complexity("O(N) for N commands.")
    .summary("Describes all commands for clients.")
    .tips(NO_ORDER)
    .subcommands(&[
        about_commands(session("count", count))
            .arity(2)
            .since("2.8.13")
            .complexity("O(1)")
            .summary("Counts the commands."),
        about_commands(session("docs", docs))
            .arity(-2)
            .since("7.0.0")
            .complexity("O(N) for N commands described.")
            .summary("Describes commands for people: what they do, since when, their syntax.")
            .tips(NO_ORDER)
            .arguments(NAMES),
        about_commands(session("getkeys", getkeys))
            .arity(-4)
            .since("2.8.13")
            .complexity("O(N) for N words.")
            .summary("Picks the keys out of a whole command."),
        about_commands(session("getkeysandflags", getkeysandflags))
            .arity(-4)
            .since("7.0.0")
            .complexity("O(N) for N words.")
            .summary("Picks the keys out of a whole command and says what is done to them."),
        about_commands(session("help", show_help))
            .arity(2)
            .since("5.0.0")
            .complexity("O(1)")
            .summary("Lists the subcommands."),
        about_commands(session("info", info))
            .arity(-2)
            .since("2.8.13")
            .complexity("O(N) for N commands described.")
            .summary("Describes commands for clients.")
            .history(&[("7.0.0", "Without a name it describes all commands.")])
            .tips(NO_ORDER)
            .arguments(NAMES),
        about_commands(session("list", list))
            .arity(-2)
            .since("7.0.0")
            .complexity("O(N) for N commands.")
            .summary("Lists the names of commands.")
            .tips(NO_ORDER)
            .arguments(&[one_of(
                "filterby",
                &[
                    string("module-name").token("MODULE"),
                    string("category").token("ACLCAT"),
                    pattern("pattern").token("PATTERN"),
                ],
            )
            .token("FILTERBY")
            .optional()]),
    ])];

fn all(_: &Request, _: &mut Session) -> Outcome {
    Ok(Reply::Array(table::entries().iter().map(info_of).collect()))
}

fn count(_: &Request, _: &mut Session) -> Outcome {
    Ok(Reply::Int(table::entries().len() as i64))
}

fn info(request: &Request, session: &mut Session) -> Outcome {
    if request.args.len() == 2 {
        return all(request, session);
    }
    let names = request.args.from(2).map(table::entry_of_full_name);
    Ok(Reply::Array(names.map(|entry| entry.map_or(Reply::Null, info_of)).collect()))
}

fn docs(request: &Request, _: &mut Session) -> Outcome {
    if request.args.len() == 2 {
        return Ok(docs_of(table::entries().iter()));
    }
    Ok(docs_of(request.args.from(2).filter_map(table::entry_of_full_name)))
}

fn show_help(_: &Request, _: &mut Session) -> Outcome {
    Ok(help(
        "COMMAND",
        &[
            "(no subcommand)",
            "    Describe all commands for clients.",
            "COUNT",
            "    Return the number of commands.",
            "LIST [FILTERBY MODULE|ACLCAT|PATTERN <value>]",
            "    Return the names of commands.",
            "INFO [<command-name> ...]",
            "    Describe these commands, or all, for clients.",
            "DOCS [<command-name> ...]",
            "    Describe these commands, or all, for people.",
            "GETKEYS <full-command>",
            "    Return the keys of a whole command.",
            "GETKEYSANDFLAGS <full-command>",
            "    Return the keys of a whole command and what is done to them.",
        ],
    ))
}

fn list(request: &Request, _: &mut Session) -> Outcome {
    let mut cursor = request.args.cursor(2);
    let mut names = Vec::new();
    if cursor.is_done() {
        each_with_subcommands(&mut |entry| names.push(Reply::Text(&entry.full_name)));
        return Ok(Reply::Array(names));
    }
    if cursor.left() != 3 || !cursor.eat("FILTERBY") {
        return Err(error::SYNTAX.into());
    }
    if cursor.eat("ACLCAT") {
        let category = Categories::named(cursor.word()?).unwrap_or_default();
        each_with_subcommands(&mut |entry| {
            if Categories::of(entry.command).meets(category) {
                names.push(Reply::Text(&entry.full_name));
            }
        });
    } else if cursor.eat("PATTERN") {
        let pattern = cursor.word()?;
        each_with_subcommands(&mut |entry| {
            if glob::matches(pattern, entry.full_name.as_bytes(), true) {
                names.push(Reply::Text(&entry.full_name));
            }
        });
    } else if !cursor.eat("MODULE") {
        return Err(error::SYNTAX.into());
    }
    Ok(Reply::Array(names))
}

fn each_with_subcommands(visit: &mut dyn FnMut(&'static Entry)) {
    for entry in table::entries() {
        visit(entry);
        entry.subcommands.iter().for_each(&mut *visit);
    }
}

fn getkeys(request: &Request, _: &mut Session) -> Outcome {
    keys_with(request, |name, _| Reply::bulk(name))
}

fn getkeysandflags(request: &Request, _: &mut Session) -> Outcome {
    keys_with(request, |name, access| Reply::Array(vec![Reply::bulk(name), access_words(access)]))
}

fn keys_with(request: &Request, show: impl Fn(&[u8], KeyAccess) -> Reply) -> Outcome {
    const NO_COMMAND: ErrorReply = ErrorReply::fixed("ERR Invalid command specified");
    const NO_KEYS: ErrorReply = ErrorReply::fixed("ERR The command has no key arguments");
    const WRONG_COUNT: ErrorReply =
        ErrorReply::fixed("ERR Invalid number of arguments specified for command");
    const INVALID: ErrorReply = ErrorReply::fixed("ERR Invalid arguments specified for command");
    let args = request.args.tail(2);
    let mut entry = table::entry(args.at(0)).ok_or(NO_COMMAND)?;
    if !entry.subcommands.is_empty()
        && let Some(name) = args.get(1)
    {
        entry = entry.subcommand(name).ok_or(NO_COMMAND)?;
    }
    let spec = &entry.command.spec;
    if spec.keys.iter().all(|key| key.access.has(NOT_KEY)) {
        return Err(NO_KEYS.into());
    }
    let arity = args.len() as i32;
    if spec.arity > 0 && arity != spec.arity || arity < -spec.arity {
        return Err(WRONG_COUNT.into());
    }
    let keys = keys_of::keys_of(entry.command, &args).map_err(|_| INVALID)?;
    let keys: Vec<Reply> = keys.map(|(at, access)| show(args.at(at), access)).collect();
    if keys.is_empty() && !spec.flags.has(flag::NO_MANDATORY_KEYS) {
        return Err(INVALID.into());
    }
    Ok(Reply::Array(keys))
}

// --- COMMAND INFO

/// What COMMAND INFO says of a command: name, arity, flags, first and last key and step, categories, tips, key
/// specifications, subcommands.
fn info_of(entry: &'static Entry) -> Reply {
    let spec = &entry.command.spec;
    let range = KeyRange::of(spec.keys);
    let flags = flag::NAMES.iter().filter(|(flag, name)| !name.is_empty() && spec.flags.has(*flag));
    let mut flags: Vec<Reply> = flags.map(|(_, name)| Reply::Simple(name)).collect();
    if range.is_movable && !spec.flags.has(flag::MOVABLEKEYS) {
        flags.push(Reply::Simple("movablekeys"));
    }
    let subcommands = match entry.subcommands.as_slice() {
        [] => Reply::Set(Vec::new()),
        subcommands => Reply::Array(subcommands.iter().map(info_of).collect()),
    };
    Reply::Array(vec![
        Reply::Text(&entry.full_name),
        Reply::Int(i64::from(spec.arity)),
        Reply::Set(flags),
        Reply::Int(i64::from(range.first)),
        Reply::Int(i64::from(range.last)),
        Reply::Int(i64::from(range.step)),
        Reply::Set(Categories::of(entry.command).names().map(Reply::Simple).collect()),
        Reply::Set(spec.tips.iter().map(|tip| Reply::Text(tip)).collect()),
        Reply::Set(spec.keys.iter().map(key_spec).collect()),
        subcommands,
    ])
}

/// The keys as clients before key specifications knew them: one range.
struct KeyRange {
    first: i32,
    last: i32,
    step: i32,
    /// There are more keys than the range says.
    is_movable: bool,
}

impl KeyRange {
    /// Joins the specifications that are plain ranges one behind the other; all others make the keys movable.
    fn of(specs: &[KeySpec]) -> KeyRange {
        let mut range = KeyRange { first: 0, last: 0, step: 0, is_movable: false };
        for spec in specs {
            range.is_movable |= spec.access.has(INCOMPLETE);
            let (Begin::Index(first), Find::Range { last, step, .. }) = (spec.begin, spec.find) else {
                range.is_movable = true;
                continue;
            };
            let last = if last >= 0 { last + first } else { last };
            if specs.len() == 1 {
                return KeyRange { first, last, step, ..range };
            }
            if step != 1 || (range.last != 0 && range.last != first - 1) {
                range.is_movable = true;
                continue;
            }
            if range.first == 0 {
                range.first = first;
            }
            (range.last, range.step) = (last, 1);
        }
        range
    }
}

fn access_words(access: KeyAccess) -> Reply {
    let words = ACCESS_NAMES.iter().filter(|(bit, _)| access.has(*bit));
    Reply::Set(words.map(|(_, name)| Reply::Simple(name)).collect())
}

fn key_spec(spec: &KeySpec) -> Reply {
    let int = |value: i32| Reply::Int(i64::from(value));
    let (begin, begin_fields) = match spec.begin {
        Begin::Index(at) => ("index", vec![Reply::Text("index"), int(at)]),
        Begin::Keyword(keyword, from) => (
            "keyword",
            vec![Reply::Text("keyword"), Reply::Text(keyword), Reply::Text("startfrom"), int(from)],
        ),
        Begin::Unknown => ("unknown", Vec::new()),
    };
    let (find, find_fields) = match spec.find {
        Find::Range { last, step, limit } => (
            "range",
            vec![
                Reply::Text("lastkey"),
                int(last),
                Reply::Text("keystep"),
                int(step),
                Reply::Text("limit"),
                int(limit),
            ],
        ),
        Find::Count { number, first, step } => (
            "keynum",
            vec![
                Reply::Text("keynumidx"),
                int(number),
                Reply::Text("firstkey"),
                int(first),
                Reply::Text("keystep"),
                int(step),
            ],
        ),
        Find::Unknown => ("unknown", Vec::new()),
    };
    let typed = |kind, fields| {
        Reply::Map(vec![Reply::Text("type"), Reply::Text(kind), Reply::Text("spec"), Reply::Map(fields)])
    };
    let mut fields = Vec::new();
    if !spec.notes.is_empty() {
        fields.extend([Reply::Text("notes"), Reply::Text(spec.notes)]);
    }
    fields.extend([Reply::Text("flags"), access_words(spec.access)]);
    fields.extend([Reply::Text("begin_search"), typed(begin, begin_fields)]);
    fields.extend([Reply::Text("find_keys"), typed(find, find_fields)]);
    Reply::Map(fields)
}

// --- COMMAND DOCS

fn docs_of(entries: impl Iterator<Item = &'static Entry>) -> Reply {
    Reply::Map(entries.flat_map(|entry| [Reply::Text(&entry.full_name), doc(entry)]).collect())
}

fn doc(entry: &'static Entry) -> Reply {
    let spec = &entry.command.spec;
    let mut fields = Vec::new();
    let mut text = |name, value: &'static str| {
        if !value.is_empty() {
            fields.extend([Reply::Text(name), Reply::Text(value)]);
        }
    };
    text("summary", spec.summary);
    text("since", spec.since);
    text("group", spec.group.name());
    text("complexity", spec.complexity);
    if let Some(flag) = doc_flag(spec) {
        fields.extend([Reply::Text("doc_flags"), Reply::Set(vec![Reply::Simple(flag)])]);
    }
    if let Some((since, instead)) = spec.deprecated {
        fields.extend([Reply::Text("deprecated_since"), Reply::Text(since)]);
        fields.extend([Reply::Text("replaced_by"), Reply::Text(instead)]);
    }
    if !spec.history.is_empty() {
        let history = spec
            .history
            .iter()
            .map(|(version, change)| Reply::Array(vec![Reply::Text(version), Reply::Text(change)]));
        fields.extend([Reply::Text("history"), Reply::Set(history.collect())]);
    }
    if !spec.arguments.is_empty() {
        fields.extend([Reply::Text("arguments"), syntax_of(spec.arguments)]);
    }
    if !entry.subcommands.is_empty() {
        fields.extend([Reply::Text("subcommands"), docs_of(entry.subcommands.iter())]);
    }
    Reply::Map(fields)
}

fn doc_flag(spec: &Spec) -> Option<&'static str> {
    /// Commands that servers and modules send, not people.
    const INTERNAL: &[&str] = &["debug", "pfdebug", "pfselftest", "replconf", "restore-asking"];
    match spec.deprecated {
        Some(_) => Some("deprecated"),
        None => INTERNAL.contains(&spec.name).then_some("syscmd"),
    }
}

fn syntax_of(arguments: &'static [Argument]) -> Reply {
    Reply::Array(arguments.iter().map(argument).collect())
}

fn argument(argument: &'static Argument) -> Reply {
    let mut fields = vec![
        Reply::Text("name"),
        Reply::Text(argument.name),
        Reply::Text("type"),
        Reply::Text(argument.kind.name()),
    ];
    if let Some(index) = argument.key_spec {
        fields.extend([Reply::Text("key_spec_index"), Reply::Int(i64::from(index))]);
    }
    let texts = [
        ("token", argument.token),
        ("since", argument.since),
        ("deprecated_since", argument.deprecated_since),
    ];
    for (name, value) in texts.into_iter().filter(|(_, value)| !value.is_empty()) {
        fields.extend([Reply::Text(name), Reply::Text(value)]);
    }
    let flags = [
        (argument.optional, "optional"),
        (argument.multiple, "multiple"),
        (argument.multiple_token, "multiple_token"),
    ];
    let flags: Vec<Reply> =
        flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| Reply::Simple(name)).collect();
    if !flags.is_empty() {
        fields.extend([Reply::Text("flags"), Reply::Set(flags)]);
    }
    if !argument.children.is_empty() {
        fields.extend([Reply::Text("arguments"), syntax_of(argument.children)]);
    }
    Reply::Map(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::spec::access::VARIABLE_FLAGS;

    const fn spec(first: i32, last: i32, step: i32) -> KeySpec {
        KeySpec::range(first, last, step, VARIABLE_FLAGS)
    }

    #[test]
    fn ranges_one_behind_the_other_are_joined() {
        let range = |specs: &[KeySpec]| {
            let range = KeyRange::of(specs);
            (range.first, range.last, range.step, range.is_movable)
        };
        assert_eq!(range(&[]), (0, 0, 0, false));
        assert_eq!(range(&[spec(1, -1, 2)]), (1, -1, 2, false));
        assert_eq!(range(&[spec(1, 0, 1), spec(2, 0, 1)]), (1, 2, 1, false));
        assert_eq!(range(&[spec(2, 0, 1), spec(3, -1, 1)]), (2, -1, 1, false));
        assert_eq!(range(&[spec(1, 0, 1), spec(3, 0, 1)]), (1, 1, 1, true));
    }
}
