//! The words of refusals: everything about a command's name that is not on the usual path.

use crate::protocol::args::Args;
use crate::protocol::error::ErrorReply;

/// How much of a client's words an error repeats, in bytes.
const SHOWN_LEN_MAX: usize = 128;

fn cut(word: &[u8], len_max: usize) -> String {
    String::from_utf8_lossy(&word[..word.len().min(len_max)]).into_owned()
}

/// No command has this name; the first words are repeated, so that a client that talks another protocol is recognised.
#[cold]
pub fn unknown_command(args: Args) -> ErrorReply {
    let mut shown = String::new();
    for word in args.from(1) {
        if shown.len() >= SHOWN_LEN_MAX {
            break;
        }
        shown += &format!("'{}' ", cut(word, SHOWN_LEN_MAX - shown.len()));
    }
    let name = cut(args.at(0), SHOWN_LEN_MAX);
    ErrorReply::new(format!("ERR unknown command '{name}', with args beginning with: {shown}"))
}

/// A web page made a browser send an HTTP request here: its lines would be commands, and its body ones of the page's choice.
#[cold]
pub fn is_http(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

/// The command is there, but not this part of it.
#[cold]
pub fn unknown_subcommand(container: &[u8], word: &[u8]) -> ErrorReply {
    let (container, word) = (cut(container, SHOWN_LEN_MAX).to_uppercase(), cut(word, SHOWN_LEN_MAX));
    ErrorReply::new(format!("ERR unknown subcommand '{word}'. Try {container} HELP."))
}

/// DEBUG or MODULE is switched off.
#[cold]
pub fn protected(name: &str) -> ErrorReply {
    ErrorReply::new(format!(
        "ERR {} command not allowed. If the enable-{name}-command option is set to \"local\", you can run it from a \
         local connection, otherwise you need to set this option in the configuration file, and then restart the server.",
        name.to_uppercase()
    ))
}

/// Not for a subscriber in RESP2.
#[cold]
pub fn subscriber_only(name: &str) -> ErrorReply {
    ErrorReply::new(format!(
        "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this \
         context"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> (Vec<u8>, Vec<(u32, u32)>) {
        let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
        crate::protocol::parser::split_words(line.as_bytes(), &mut bytes, &mut ranges).expect("quotes match");
        (bytes, ranges)
    }

    #[test]
    fn an_unknown_command_is_repeated_up_to_a_limit() {
        let (bytes, ranges) = words(&format!("{} a {} c", "x".repeat(200), "b".repeat(200)));
        let text = unknown_command(Args::new(&bytes, &ranges)).0.into_owned();
        let expected = format!(
            "ERR unknown command '{}', with args beginning with: 'a' '{}' ",
            "x".repeat(128),
            "b".repeat(124)
        );
        assert_eq!(text, expected);
    }
}
