//! Configuration. (Under construction.)

/// Typed settings.
pub struct Settings {}
/// Shared handle.
pub struct Parameters {}
