//! `Service`: what all sessions share.

use crate::config::Parameters;
use crate::store::Store;

/// What all sessions share.
pub struct Service {
    /// Configuration.
    pub parameters: Parameters,
    /// The data.
    pub store: Store,
}
