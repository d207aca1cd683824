//! The order of row keys, and the form in which a tree holds keys that are too long for it.
//!
//! LMDB takes keys of up to 511 bytes, Redis keys have up to 512 MB. A row key longer than [`LONGEST_PLAIN`] stands in
//! the tree as its first [`KEPT`] bytes, then SHA-256 of the whole; the whole key stands at the head of the value. The hash is
//! cryptographic, so nobody can make two keys meet. Order is the order of the tree's form, everywhere.

use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::cmp::Ordering;

/// Longest row key that stands in a tree as it is.
pub const LONGEST_PLAIN: usize = 490;
/// Bytes of a longer key that are kept in front of its hash.
pub const KEPT: usize = 463;
/// Length of every shortened key: no plain key is as long.
pub const SHORTENED: usize = KEPT + 32;

const _: () = assert!(SHORTENED <= 511 && LONGEST_PLAIN < SHORTENED);

/// The form of `key` in a tree.
#[inline]
pub fn tree_key(key: &[u8]) -> Cow<'_, [u8]> {
    if key.len() <= LONGEST_PLAIN {
        return Cow::Borrowed(key);
    }
    let mut short = Vec::with_capacity(SHORTENED);
    short.extend_from_slice(&key[..KEPT]);
    short.extend_from_slice(&Sha256::digest(key));
    Cow::Owned(short)
}

/// Compares two row keys as the tree does.
#[inline]
pub fn compare_keys(a: &[u8], b: &[u8]) -> Ordering {
    if a.len() <= LONGEST_PLAIN && b.len() <= LONGEST_PLAIN {
        return a.cmp(b);
    }
    tree_key(a).cmp(&tree_key(b))
}
