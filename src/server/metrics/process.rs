//! What the system says of this process, under the names that such metrics have everywhere.

use super::{Metric, counters, gauge, gauges, of_bool};
use crate::observability::process::{self, CpuTime, Descriptors, Memory};

pub const METRICS: &[Metric] = &[
    gauges(
        "larder_build_info",
        &["version", "node"],
        "Which version runs, and the node's identity.",
        |facts, samples| {
            samples.add(&[env!("CARGO_PKG_VERSION"), facts.service.store.node()], 1.0);
        },
    ),
    gauge("larder_ready", "Whether clients are served: 1 when /readyz answers 200.", |facts| {
        of_bool(facts.is_ready)
    }),
    gauge("process_start_time_seconds", "When the process started, since 1970.", |facts| {
        facts.service.identity.started_s as f64
    }),
    counters("process_cpu_seconds_total", &[], "Processor time of all threads.", |_, samples| {
        let time = CpuTime::of_process();
        samples.add(&[], time.user + time.system);
    }),
    gauge("process_resident_memory_bytes", "Memory in use, pages of the trees' files included.", |_| {
        Memory::now().resident as f64
    }),
    gauge(
        "larder_own_memory_bytes",
        "Memory of the process alone: without pages of files, which the kernel takes back when it needs them.",
        |_| Memory::now().own() as f64,
    ),
    gauge(
        "larder_memory_limit_bytes",
        "Memory that the process may use: the machine's, or its container's.",
        |_| process::memory_limit() as f64,
    ),
    gauge("process_open_fds", "Open file descriptors.", |_| Descriptors::now().open as f64),
    gauges("process_max_fds", &[], "How many file descriptors may be open.", |_, samples| {
        if let Some(limit) = Descriptors::now().limit {
            samples.add(&[], limit as f64);
        }
    }),
    gauge("process_threads", "Threads of the process.", |_| process::threads() as f64),
];
