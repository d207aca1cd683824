//! What the connections of a client thread share: a buffer to read into, a few for replies, and their number.
//!
//! An idle connection so owns no buffer at all, and the one that is in use is warm in the core's cache. A turn takes what it
//! needs and gives it back in the same poll, so no two tasks ever hold the shared one.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// Most bytes read at once into the shared buffer.
const READ_LEN_MAX: usize = 64 * 1024;
/// Reply buffers kept for reuse, and the largest worth keeping.
const KEPT_COUNT: usize = 64;
const KEPT_CAPACITY: usize = 64 * 1024;
/// Capacity of a new reply buffer.
const FRESH_CAPACITY: usize = 4 * 1024;

thread_local! {
    static CONNECTIONS: Cell<usize> = const { Cell::new(0) };
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_LEN_MAX].into());
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Counts a connection of this thread as long as it lives.
pub struct Counted(());

impl Counted {
    /// One more.
    pub fn new() -> Counted {
        CONNECTIONS.set(CONNECTIONS.get() + 1);
        Counted(())
    }
}

impl Default for Counted {
    fn default() -> Counted {
        Counted::new()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        CONNECTIONS.set(CONNECTIONS.get().saturating_sub(1));
    }
}

/// How many connections this thread has.
pub fn connections() -> usize {
    CONNECTIONS.get()
}

/// Reads into this thread's shared buffer. Ready with the number of bytes, 0 at the end of the stream.
pub fn poll_read_shared<S: AsyncRead + Unpin>(
    stream: &mut S,
    context: &mut Context,
) -> Poll<io::Result<usize>> {
    SHARED.with_borrow_mut(|shared| {
        let mut room = ReadBuf::new(shared);
        ready!(Pin::new(stream).poll_read(context, &mut room))?;
        Poll::Ready(Ok(room.filled().len()))
    })
}

/// Looks at the first `len` bytes of the shared buffer. Nothing may be awaited between the read and this.
pub fn with_shared<R>(len: usize, look: impl FnOnce(&[u8]) -> R) -> R {
    SHARED.with_borrow(|shared| look(&shared[..len]))
}

/// An empty buffer for replies.
pub fn take() -> Vec<u8> {
    KEPT.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(FRESH_CAPACITY))
}

/// Gives a buffer back.
pub fn give_back(mut buffer: Vec<u8>) {
    if buffer.capacity() == 0 || buffer.capacity() > KEPT_CAPACITY {
        return;
    }
    buffer.clear();
    KEPT.with_borrow_mut(|kept| {
        if kept.len() < KEPT_COUNT {
            kept.push(buffer);
        }
    });
}
