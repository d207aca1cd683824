//! HELP of commands with subcommands.

use crate::protocol::reply::Reply;

/// The reply to `CONTAINER HELP`: a head line, `lines` (a subcommand, then what it does, indented), and HELP itself.
pub fn help(container: &str, lines: &[&'static str]) -> Reply {
    let head = format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    let mut replies = vec![Reply::Status(head)];
    replies.extend(lines.iter().map(|line| Reply::Simple(line)));
    replies.extend([Reply::Simple("HELP"), Reply::Simple("    Show this text.")]);
    Reply::Array(replies)
}
