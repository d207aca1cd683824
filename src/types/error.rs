//! Why an operation on a value was refused.

use crate::store::Interrupt;

/// Why an operation on a value was refused, or must be run again.
#[derive(Debug)]
pub enum Error {
    /// The key holds another type.
    WrongType,
    /// The stored value or field is no 64-bit integer.
    NotAnInteger,
    /// The stored value or field is no number.
    NotAFloat,
    /// The sum would leave the 64-bit range.
    Overflow,
    /// The sum would be no number.
    NanOrInfinity,
    /// The string would grow beyond the limit.
    TooLong,
    /// A row must be fetched first.
    Interrupt(Interrupt),
}

impl From<Interrupt> for Error {
    fn from(interrupt: Interrupt) -> Error {
        Error::Interrupt(interrupt)
    }
}
