//! What nodes say to each other about forwarded commands: any bytes are a message or an error, memory is bounded by what came, and what
//! is taken is written again as the same message.

use super::memory;
use larder::session::forwarding::message::{Message, decode_answers, encode_answers};

/// See the module's page.
pub fn check(data: &[u8]) {
    // A list is given room for what it says to have, up to a megabyte, before that is found to be missing; four stand in one another.
    let limit = (8 << 20) + 256 * data.len();
    if let Some(message) = memory::within(limit, || Message::decode(data).ok()) {
        assert_eq!(Message::decode(&message.encode()).as_ref(), Ok(&message));
    }
    if let Some(answers) = memory::within(limit, || decode_answers(data).ok()) {
        assert_eq!(decode_answers(&encode_answers(&answers)).as_ref(), Ok(&answers));
    }
}
