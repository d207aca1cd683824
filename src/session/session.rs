//! `Session`: the state of one client.

/// The state of one client.
pub struct Session {
    /// Its number, unique in this process.
    pub id: u64,
    /// The database selected.
    pub database: u16,
}
