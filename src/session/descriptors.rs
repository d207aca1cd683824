//! File descriptors: as many as `maxclients` needs, or as many clients as there are descriptors for.

use crate::config::Settings;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For segments, sockets that listen, logs, the runtime.
const OURS: u64 = 32;
/// For each partition's tree: LMDB has three, its checksums two, and one is for a moment.
const TREE: u64 = 6;
/// Connections to the HTTP port at a time.
pub const HTTP_CONNECTIONS: usize = 32;

/// Raises the process's limit to what as many clients need as the settings allow.
///
/// # Errors
/// How many clients are possible, if these are not.
pub fn allow_clients(settings: &Settings) -> Result<(), u64> {
    let http = if settings.http_port == 0 { 0 } else { HTTP_CONNECTIONS as u64 };
    let ours = OURS + TREE * u64::from(settings.partitions) + http;
    let wanted = settings.maxclients as u64 + ours;
    let now = getrlimit(Resource::Nofile);
    if now.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let possible = now.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(possible), maximum: now.maximum });
    let allowed = if raised.is_ok() { possible } else { now.current.unwrap_or(0) };
    if allowed >= wanted { Ok(()) } else { Err(allowed.saturating_sub(ours)) }
}
