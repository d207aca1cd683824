//! Writes replies.
