//! Long work that leaves the processor to whoever answers clients.

use rustix::process::{getpriority_process, setpriority_process};
use rustix::time::{ClockId, clock_gettime};
use std::cell::Cell;
use std::time::Duration;

/// By how much the priority is lower: a tenth of the processor time where others want all of it, everything where nobody does.
const NICENESS: i32 = 10;
/// The highest number the kernel knows.
const LEAST_URGENT: i32 = 19;
/// How long such work rests, in times of what it worked: its share of a processor that nobody else wants is a third.
const REST: u32 = 2;
/// What is longer was no small step.
const REST_MAX: Duration = Duration::from_millis(2);

thread_local! {
    /// Processor time of this thread up to its last rest.
    static WORKED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Runs `work` on a thread of its own with a lower priority, and waits for its end. Not for what holds a lock that commands wait for: they
/// would wait for the processor too.
pub fn run<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let gently = || {
        // Of this thread alone. Where it is refused the work is as urgent as any.
        let lowered = getpriority_process(None)
            .and_then(|priority| setpriority_process(None, (priority + NICENESS).min(LEAST_URGENT)));
        if let Err(error) = lowered {
            tracing::debug!("the priority of a thread stays as it is: {error}");
        }
        work()
    };
    std::thread::scope(|scope| match scope.spawn(gently).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// To be called by work of this kind after each of its small steps: it rests for twice as long as it worked. Whoever wants the
/// processor gets it at once meanwhile; from work that only yields, a kernel may take it milliseconds later, whatever its priority.
pub fn step_aside() {
    // Of the processor, not of the clock: work that had to wait has given way already.
    let worked = clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or(Duration::ZERO);
    let step = worked.saturating_sub(WORKED.replace(worked));
    std::thread::sleep((step * REST).min(REST_MAX));
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    #[test]
    fn the_work_is_less_urgent_and_the_caller_as_before() {
        let before = getpriority_process(None).expect("it has one");
        let within = super::run(|| getpriority_process(None)).expect("it has one");
        assert_eq!(within, (before + super::NICENESS).min(super::LEAST_URGENT));
        assert_eq!(getpriority_process(None).expect("it has one"), before);
    }
}
