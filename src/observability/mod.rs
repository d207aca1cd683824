//! What the process tells about itself: counters, slow commands, latency events, memory, logs.
//!
//! Reading order: `statistics` (what is counted), `histogram` (how latencies are), `rates`, `slowlog`, `latency`, `process`
//! (what the system says of us), `metrics` (what an exporter shows), `logging`. Commands and databases come in as strings and
//! numbers: nothing here knows the protocol or the store.

pub mod histogram;
pub mod latency;
pub mod logging;
pub mod metrics;
pub mod process;
pub mod rates;
pub mod slowlog;
pub mod statistics;
