//! The allocator under test: counts what a thread has allocated, so that a target can say how much its input may cost.

#![expect(
    unsafe_code,
    reason = "an allocator's interface is unsafe; this one only counts and hands on to the system's"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Notes that this thread has `change` bytes more.
fn note(change: isize) {
    // A thread that ends has no more cells; what it frees then is nobody's concern.
    let _ = NOW.try_with(|now| {
        now.set(now.get() + change);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now.get())));
    });
}

// SAFETY: each method hands its arguments on to the system's allocator as they are.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        note(-(layout.size() as isize));
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: as promised by the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size as isize - layout.size() as isize);
        // SAFETY: as promised by the caller.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// Runs `work` and asserts that it never holds more than `limit` bytes beyond what the thread held before.
///
/// # Panics
/// If it does.
pub fn within<T>(limit: usize, work: impl FnOnce() -> T) -> T {
    let before = NOW.get();
    PEAK.set(before);
    let made = work();
    let used = PEAK.get() - before;
    assert!(used <= limit as isize, "{used} bytes were allocated, {limit} are allowed");
    made
}
