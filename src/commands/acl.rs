//! ACL, as far as it goes without users: the default user, who may do everything.

use super::categories::{self, Categories};
use super::table::Entry;
use super::{Command, Outcome, Request, container, help_from_table, session, table};
use crate::protocol::error::{self, ErrorReply};
use crate::protocol::reply::Reply;
use crate::protocol::spec::Group;
use crate::protocol::spec::flag::{ADMIN, LOADING, NOSCRIPT, STALE};
use crate::protocol::spec::syntax::{integer, string};
use crate::session::session::{DEFAULT_USER, Session};
use sha2::{Digest, Sha256};

/// Declarations of these commands.
pub const COMMANDS: &[Command] = &[container(
    "acl",
    &[
        session("cat", cat)
            .arity(-2)
            .flags(NOSCRIPT.and(LOADING).and(STALE))
            .group(Group::Server)
            .since("6.0.0")
            .complexity("O(N) where N is the number of commands")
            .summary("Lists the categories, or the commands of one.")
            .arguments(&[string("categoryname").optional()]),
        session("genpass", genpass)
            .arity(-2)
            .flags(NOSCRIPT.and(LOADING).and(STALE))
            .group(Group::Server)
            .since("6.0.0")
            .complexity("O(1)")
            .summary("Makes up a password.")
            .arguments(&[integer("bits").optional()]),
        session("getuser", getuser)
            .arity(3)
            .flags(ADMIN.and(NOSCRIPT).and(LOADING).and(STALE))
            .group(Group::Server)
            .since("6.0.0")
            .complexity("O(N) where N is the number of rules of the user")
            .summary("Shows what a user may do.")
            .arguments(&[string("username")])
            .history(&[
                ("6.2.0", "Shows channel patterns."),
                ("7.0.0", "Shows selectors; patterns are shown as rules."),
            ]),
        session("help", help_from_table)
            .arity(2)
            .flags(LOADING.and(STALE))
            .group(Group::Server)
            .since("6.0.0")
            .complexity("O(1)")
            .summary("Explains the subcommands."),
        session("list", list)
            .arity(2)
            .flags(ADMIN.and(NOSCRIPT).and(LOADING).and(STALE))
            .group(Group::Server)
            .since("6.0.0")
            .complexity("O(N) where N is the number of users")
            .summary("Lists the rules of all users."),
        session("load", without_file)
            .arity(2)
            .flags(ADMIN.and(NOSCRIPT).and(LOADING).and(STALE))
            .group(Group::Server)
            .since("6.0.0")
            .complexity("O(N) where N is the number of users")
            .summary("Reads the users from the ACL file again."),
        session("save", without_file)
            .arity(2)
            .flags(ADMIN.and(NOSCRIPT).and(LOADING).and(STALE))
            .group(Group::Server)
            .since("6.0.0")
            .complexity("O(N) where N is the number of users")
            .summary("Writes the users to the ACL file."),
        session("users", users)
            .arity(2)
            .flags(ADMIN.and(NOSCRIPT).and(LOADING).and(STALE))
            .group(Group::Server)
            .since("6.0.0")
            .complexity("O(N) where N is the number of users")
            .summary("Lists the names of all users."),
        session("whoami", whoami)
            .arity(2)
            .flags(NOSCRIPT.and(LOADING).and(STALE))
            .group(Group::Server)
            .since("6.0.0")
            .complexity("O(1)")
            .summary("Names the user of this connection."),
    ],
)
.arity(-2)
.group(Group::Server)
.since("6.0.0")
.complexity("Depends on the subcommand")
.summary("Commands on users and what they may do.")];

const GENPASS_BITS_DEFAULT: i64 = 256;
const GENPASS_BITS_MAX: i64 = 4096;

fn whoami(_: &Request, session: &mut Session) -> Outcome {
    Ok(Reply::bulk(&*session.user))
}

fn users(_: &Request, _: &mut Session) -> Outcome {
    Ok(Reply::Array(vec![Reply::Text(DEFAULT_USER)]))
}

/// The digest of the default user's password, in hexadecimal digits, if it has one.
fn password_digest(request: &Request) -> Option<String> {
    let password = &request.settings.requirepass.0;
    (!password.is_empty())
        .then(|| Sha256::digest(password).iter().map(|byte| format!("{byte:02x}")).collect())
}

fn list(request: &Request, _: &mut Session) -> Outcome {
    let password =
        password_digest(request).map_or_else(|| "nopass".to_owned(), |digest| format!("#{digest}"));
    Ok(Reply::Array(vec![Reply::bulk(format!("user {DEFAULT_USER} on {password} ~* &* +@all"))]))
}

/// ACL LOAD and ACL SAVE: there is no `aclfile` that could be set.
fn without_file(_: &Request, _: &mut Session) -> Outcome {
    Err(ErrorReply::fixed(
        "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the \
         ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) \
         in order to store users in the Redis configuration.",
    )
    .into())
}

fn getuser(request: &Request, _: &mut Session) -> Outcome {
    if request.args.at(2) != DEFAULT_USER.as_bytes() {
        return Ok(Reply::Null);
    }
    let digest = password_digest(request);
    let mut flags = vec![Reply::Text("on")];
    flags.extend(digest.is_none().then_some(Reply::Text("nopass")));
    Ok(Reply::Map(vec![
        Reply::Text("flags"),
        Reply::Set(flags),
        Reply::Text("passwords"),
        Reply::Array(digest.into_iter().map(Reply::bulk).collect()),
        Reply::Text("commands"),
        Reply::Text("+@all"),
        Reply::Text("keys"),
        Reply::Text("~*"),
        Reply::Text("channels"),
        Reply::Text("&*"),
        Reply::Text("selectors"),
        Reply::Array(Vec::new()),
    ]))
}

fn cat(request: &Request, _: &mut Session) -> Outcome {
    let Some(name) = request.args.get(2) else {
        return Ok(Reply::Array(categories::NAMES.iter().map(|name| Reply::Text(&name[1..])).collect()));
    };
    if request.args.len() > 3 {
        return Err(error::unknown_or_wrong_arity("ACL", request.args.at(1)).into());
    }
    let Some(category) = Categories::named(name) else {
        return Err(ErrorReply::quoting("ERR Unknown category '", error::shown(name, 128), "'").into());
    };
    let mut names = Vec::new();
    table::entries().iter().for_each(|entry| add_names(entry, category, &mut names));
    Ok(Reply::Array(names))
}

fn add_names(entry: &Entry, category: Categories, names: &mut Vec<Reply>) {
    if Categories::of(entry.command).meets(category) {
        names.push(Reply::bulk(&entry.full_name));
    }
    entry.subcommands.iter().for_each(|entry| add_names(entry, category, names));
}

fn genpass(request: &Request, _: &mut Session) -> Outcome {
    if request.args.len() > 3 {
        return Err(error::unknown_or_wrong_arity("ACL", request.args.at(1)).into());
    }
    let bits = if request.args.len() == 3 { request.args.int(2)? } else { GENPASS_BITS_DEFAULT };
    if !(1..=GENPASS_BITS_MAX).contains(&bits) {
        return Err(ErrorReply::fixed(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096",
        )
        .into());
    }
    let digits = (bits as usize).div_ceil(4);
    let random = std::iter::repeat_with(rand::random::<u8>).take(digits);
    Ok(Reply::bulk(
        random.map(|byte| char::from(b"0123456789abcdef"[usize::from(byte & 15)])).collect::<String>(),
    ))
}
