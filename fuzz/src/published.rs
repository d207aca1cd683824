//! Messages that one node tells another: any bytes are a request or an error, memory is bounded by what came, and what is taken is
//! written again as the same bytes.

use super::memory;
use larder::session::pubsub::message::{MESSAGES_MAX, Message, decode, request};

/// See the module's page.
pub fn check(data: &[u8]) {
    let limit = MESSAGES_MAX * 2 * size_of::<Message>();
    let Some(found) = memory::within(limit, || decode(data).ok()) else { return };
    assert!(found.messages.len() <= MESSAGES_MAX);
    let encoded: Vec<Vec<u8>> =
        found.messages.iter().map(|message| message.encode().expect("no longer than what came")).collect();
    assert_eq!(request(found.process, found.number, encoded.iter().map(Vec::as_slice)), data);
}
