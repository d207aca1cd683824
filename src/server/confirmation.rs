//! Holds the replies of a turn until what they tell of is on as many nodes as was asked for.
//!
//! All replies wait, as they leave in order, but only those that tell of something unconfirmed become errors when it takes too long
//! or can never be. Meanwhile no command of the connection runs; that its peer went away or that it is to be closed is noticed.

use super::connection::Connection;
use super::stream::Stream;
use crate::protocol::encode;
use crate::protocol::error::ErrorReply;
use crate::protocol::reply::Reply;
use crate::session::holds::{Held, Holds, Standing};
use crate::session::session::Closing;
use std::future::{Future, poll_fn};
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

/// The reply to a write that is stored here and not confirmed.
const WRITE_UNCONFIRMED: ErrorReply = ErrorReply::fixed(
    "UNCONFIRMED The change is stored here, but not on as many nodes as its write concern asks for: its outcome is uncertain.",
);
/// The reply to a command that has seen such a change.
const READ_UNCONFIRMED: ErrorReply = ErrorReply::fixed(
    "UNCONFIRMED The data was changed, and the change is not yet on as many nodes as its write concern asks for.",
);

/// The reply in the place of one that is held for this and not confirmed.
pub(super) fn unconfirmed(held: Held) -> ErrorReply {
    match held {
        Held::Write => WRITE_UNCONFIRMED,
        Held::Read => READ_UNCONFIRMED,
    }
}

/// A reply in the output that tells of something unconfirmed.
pub struct HeldReply {
    /// Where it is.
    pub range: Range<usize>,
    /// What it tells of.
    pub held: Held,
}

/// How a wait ended.
enum Ended {
    /// Something has changed: it may be confirmed.
    Changed,
    /// It takes too long.
    Late,
    /// The connection is to end.
    Gone,
}

/// A connection that holds replies, counted.
struct Confirming<'a>(&'a AtomicUsize);

impl Confirming<'_> {
    fn new(count: &AtomicUsize) -> Confirming<'_> {
        count.fetch_add(1, Ordering::AcqRel);
        Confirming(count)
    }
}

impl Drop for Confirming<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What became of the replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// They may leave at once.
    AtOnce,
    /// They may leave; while they were held, requests may have come.
    AfterAWait,
    /// The connection is to end.
    Never,
}

impl<S: Stream> Connection<S> {
    /// Waits until everything that the replies of this turn tell of is on enough nodes, or makes them errors.
    pub(super) async fn confirm(&mut self) -> Release {
        let holds = std::mem::take(&mut self.session.holds);
        let held = std::mem::take(&mut self.held);
        if self.session.closing == Some(Closing::Now) {
            return Release::Never; // the replies are gone already
        }
        if holds.standing(&self.service.replication) == Standing::Confirmed {
            return Release::AtOnce;
        }
        self.is_confirming = true;
        let service = Arc::clone(&self.service);
        let _counted = Confirming::new(&service.confirming);
        let is_confirmed = self.await_confirmation(&holds).await;
        self.is_confirming = false;
        match is_confirmed {
            None => return Release::Never,
            Some(true) => {}
            Some(false) => self.refuse(&held),
        }
        Release::AfterAWait
    }

    /// Whether it was confirmed in time; `None` if the connection is to end.
    pub(super) async fn await_confirmation(&mut self, holds: &Holds) -> Option<bool> {
        let service = Arc::clone(&self.service);
        let mut changes = service.replication.changes();
        let limit_ms = service.settings().write_concern_timeout;
        let mut limit = (limit_ms > 0).then(|| Box::pin(tokio::time::sleep(Duration::from_millis(limit_ms))));
        loop {
            changes.borrow_and_update();
            match holds.standing(&service.replication) {
                Standing::Confirmed => return Some(true),
                Standing::Lost => return Some(false),
                Standing::Pending => {}
            }
            let mut changed = pin!(changes.changed());
            let ended = poll_fn(|context| {
                if self.session.client.is_killed() || self.is_peer_gone(context) {
                    return Poll::Ready(Ended::Gone);
                }
                if changed.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Ended::Changed);
                }
                let is_late = limit.as_mut().is_some_and(|limit| limit.as_mut().poll(context).is_ready());
                if is_late { Poll::Ready(Ended::Late) } else { Poll::Pending }
            });
            match ended.await {
                Ended::Changed => {}
                Ended::Late => return Some(false),
                Ended::Gone => return None,
            }
        }
    }

    /// Puts errors in the place of these replies, one for one.
    fn refuse(&mut self, held: &[HeldReply]) {
        let mut output = Vec::with_capacity(self.output.len());
        let mut copied = 0;
        for reply in held {
            output.extend_from_slice(&self.output[copied..reply.range.start]);
            let error = unconfirmed(reply.held);
            self.service.statistics.error(error.code());
            encode::encode(&Reply::Error(error), self.session.version, &mut output);
            copied = reply.range.end;
        }
        output.extend_from_slice(&self.output[copied..]);
        self.output = output;
    }
}
