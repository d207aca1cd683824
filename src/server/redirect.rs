//! What holds for keys by their slots, as in Redis Cluster, where primaries are spread: the keys of what runs as one share a slot, and
//! a client that has asked where slots are is sent there instead of having its commands forwarded. So its table of slots stays right.
//!
//! Deliberately not here: ASK. Slots do not move key by key: a partition's primary changes from one moment to the next.

use super::dispatch::{Call, Turn};
use super::split::can_split;
use crate::base::crc16;
use crate::base::ids::Slot;
use crate::commands::Command;
use crate::commands::keys_of::keys_of;
use crate::commands::transactions;
use crate::protocol::args::Args;
use crate::protocol::error::ErrorReply;
use crate::session::forwarding::{Forwarding, Route};
use crate::session::session::Session;

/// What is needed is at several places, and the command is to see all of it at once.
pub const CROSS_SLOT: ErrorReply = ErrorReply::fixed("CROSSSLOT Keys in request don't hash to the same slot");

/// The slots of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    /// There are no keys, or what they are cannot be told.
    None,
    /// All keys hash to this one.
    One(Slot),
    /// They hash to different ones.
    Several,
}

impl Slots {
    fn and(self, other: Slots) -> Slots {
        match (self, other) {
            (one, Slots::None) | (Slots::None, one) => one,
            (one, other) if one == other => one,
            _ => Slots::Several,
        }
    }

    /// Of a command with these words. What is wrong with the words is for its handler to say.
    fn of_words(command: &Command, args: &Args) -> Slots {
        let Ok(keys) = keys_of(command, args) else { return Slots::None };
        keys.map(|(at, _)| Slots::One(crc16::slot(args.at(at)))).fold(Slots::None, Slots::and)
    }
}

/// The slots of what a command needs, EXEC those of all it runs; `None` if they do not matter: slots are no concern of clients where one
/// node is primary of everything, and what another node sends was looked at there.
pub fn slots(turn: Turn, session: &Session, call: &Call) -> Slots {
    if !turn.settings.cluster.is_spread || session.is_forwarded {
        return Slots::None;
    }
    match session.multi.as_ref().filter(|_| call.is_exec()) {
        Some(multi) => transactions::commands_on_data(&multi.queue)
            .map(|(command, args)| Slots::of_words(command, &args))
            .fold(Slots::None, Slots::and),
        None => Slots::of_words(call.entry.command, &call.args),
    }
}

/// Whether keys of several slots are too many.
pub fn is_cross_slot(session: &Session, call: &Call, slots: Slots) -> bool {
    slots == Slots::Several && (session.multi.is_some() || !can_split(call))
}

/// Where a client is sent that knows slots and has come to the wrong node for this one. Not to a node that is not heard: there its
/// command would fail, while here it waits for whoever comes next.
pub fn moved(session: &Session, slots: Slots, route: Route, way: &dyn Forwarding) -> Option<ErrorReply> {
    let (Slots::One(slot), Route::There(node)) = (slots, route) else { return None };
    if !session.knows_slots {
        return None;
    }
    let (host, port) = way.address(node)?;
    Some(ErrorReply::new(format!("MOVED {} {host}:{port}", slot.0)))
}
