//! HELP of commands with subcommands.

use super::{Outcome, Request, table};
use crate::protocol::reply::Reply;
use crate::protocol::spec::{Argument, ArgumentKind};
use crate::session::session::Session;

/// The reply to `CONTAINER HELP`: a head line, `lines` (a subcommand, then what it does, indented), and HELP itself.
pub fn help(container: &str, lines: &[&'static str]) -> Reply {
    let head = format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    let mut replies = vec![Reply::Status(head)];
    replies.extend(lines.iter().map(|line| Reply::Simple(line)));
    replies.extend([Reply::Simple("HELP"), Reply::Simple("    Show this text.")]);
    Reply::Array(replies)
}

/// HELP of the container that this request names, taken from the table: each subcommand with its arguments and summary.
pub fn help_from_table(request: &Request, _: &mut Session) -> Outcome {
    let container = request.args.at(0);
    let mut lines = Vec::new();
    for entry in table::entry(container).into_iter().flat_map(|entry| &entry.subcommands) {
        let spec = &entry.command.spec;
        if spec.name != "help" {
            lines.push(Reply::Status(format!(
                "{}{}",
                spec.name.to_ascii_uppercase(),
                syntax_of(spec.arguments)
            )));
            lines.push(Reply::Status(format!("    {}", spec.summary)));
        }
    }
    let Reply::Array(mut replies) = help(&String::from_utf8_lossy(container).to_ascii_uppercase(), &[])
    else {
        return Ok(Reply::Array(lines));
    };
    replies.splice(1..1, lines);
    Ok(Reply::Array(replies))
}

/// ` <key> [COUNT <count>] [<field> ...]`
fn syntax_of(arguments: &[Argument]) -> String {
    arguments.iter().fold(String::new(), |mut line, argument| {
        let one = word_of(argument);
        let many = if argument.multiple { format!("{one} [{one} ...]") } else { one };
        line.push_str(&if argument.optional { format!(" [{many}]") } else { format!(" {many}") });
        line
    })
}

fn word_of(argument: &Argument) -> String {
    let inner = match argument.kind {
        ArgumentKind::PureToken => return argument.token.to_owned(),
        ArgumentKind::OneOf => argument.children.iter().map(word_of).collect::<Vec<_>>().join("|"),
        ArgumentKind::Block => syntax_of(argument.children).trim_start().to_owned(),
        _ => format!("<{}>", argument.name),
    };
    if argument.token.is_empty() { inner } else { format!("{} {inner}", argument.token) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::spec::syntax::{block, integer, one_of, string, token};

    #[test]
    fn syntax_reads_as_documentation_writes_it() {
        let tree = [
            string("key"),
            integer("count").token("COUNT").optional(),
            one_of("mode", const { &[token("a", "ASYNC"), token("s", "SYNC")] }).optional(),
            block("pair", const { &[string("field"), string("value")] }).multiple(),
        ];
        let line = " <key> [COUNT <count>] [ASYNC|SYNC] <field> <value> [<field> <value> ...]";
        assert_eq!(syntax_of(&tree), line);
    }
}
