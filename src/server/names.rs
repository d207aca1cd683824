//! The words of refusals: everything about a command's name that is not on the usual path.

use crate::protocol::args::Args;
use crate::protocol::error::{ErrorReply, shown};

/// How much of a client's words an error repeats, in bytes.
const SHOWN_LEN_MAX: usize = 128;

/// `replica-reads` leaves reads to the primary.
pub const READS_OF_PRIMARY: ErrorReply =
    ErrorReply::fixed("MASTERDOWN This replica answers no reads: replica-reads is set to 'primary'.");
/// What is here may be older than `replica-reads` allows.
pub const TOO_OLD: ErrorReply =
    ErrorReply::fixed("MASTERDOWN This replica may lack changes that are older than replica-reads allows.");

/// No command has this name; the first words are repeated, so that a client that talks another protocol is recognised.
#[cold]
pub fn unknown_command(args: Args) -> ErrorReply {
    let mut words = Vec::new();
    for word in args.from(1) {
        if words.len() >= SHOWN_LEN_MAX {
            break;
        }
        let room = SHOWN_LEN_MAX - words.len();
        words.extend_from_slice(&[b"'", shown(word, room), b"' "].concat());
    }
    let name = shown(args.at(0), SHOWN_LEN_MAX);
    ErrorReply::new(
        [b"ERR unknown command '".as_slice(), name, b"', with args beginning with: ", &words].concat(),
    )
}

/// A web page made a browser send an HTTP request here: its lines would be commands, and its body ones of the page's choice.
#[cold]
pub fn is_http(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
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
        let text = unknown_command(Args::new(&bytes, &ranges)).0;
        let expected = format!(
            "ERR unknown command '{}', with args beginning with: 'a' '{}' ",
            "x".repeat(128),
            "b".repeat(124)
        );
        assert_eq!(text.escape_ascii().to_string(), expected.escape_default().to_string());
    }
}
