//! Reads requests.
