//! `Blob`: an immutable, reference-counted byte string in one allocation, 8 bytes a pointer.
//!
//! Rows live in blobs: a row's key and value stand one after the other in the bytes, and the header says where the value
//! begins. A reader clones the pointer under the partition's lock and copies the bytes to the socket after it, so nothing
//! is copied while others wait. `Slice` is a part of a blob that keeps the whole alive: values under a few MB only, so the
//! waste has a bound (larger ones are chunks).

use triomphe::ThinArc;

/// What stands in front of a blob's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Table hash of the key part.
    pub hash: u64,
    /// Length of the key part; the rest is the value.
    pub key_len: u32,
    /// What the owner wants to remember (a row uses it to mark deletions).
    pub mark: u32,
}

/// An immutable, reference-counted byte string with a key part and a value part.
#[derive(Clone)]
pub struct Blob(ThinArc<Head, u8>);

impl Blob {
    /// A blob with these bytes.
    #[inline]
    pub fn new(head: Head, bytes: &[u8]) -> Blob {
        debug_assert!(head.key_len as usize <= bytes.len());
        Blob(ThinArc::from_header_and_slice(head, bytes))
    }

    /// The header.
    #[inline]
    pub fn head(&self) -> &Head {
        &self.0.header.header
    }

    /// Key and value, one after the other.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.0.slice
    }

    /// The key part.
    #[inline]
    pub fn key(&self) -> &[u8] {
        &self.0.slice[..self.head().key_len as usize]
    }

    /// The value part.
    #[inline]
    pub fn value(&self) -> &[u8] {
        &self.0.slice[self.head().key_len as usize..]
    }

    /// The part of the value from `start` to `end`, sharing the allocation.
    ///
    /// # Panics
    /// If the range is not within the value.
    #[inline]
    pub fn value_slice(&self, start: usize, end: usize) -> Slice {
        let offset = self.head().key_len as usize;
        assert!(start <= end && offset + end <= self.bytes().len(), "slice within the value");
        Slice { blob: self.clone(), start: (offset + start) as u32, end: (offset + end) as u32 }
    }
}

/// A part of a [`Blob`].
#[derive(Clone)]
pub struct Slice {
    blob: Blob,
    start: u32,
    end: u32,
}

impl Slice {
    /// A slice of its own allocation.
    pub fn copy_from(bytes: &[u8]) -> Slice {
        let blob = Blob::new(Head { hash: 0, key_len: 0, mark: 0 }, bytes);
        Slice { blob, start: 0, end: bytes.len() as u32 }
    }

    /// The part of this slice from `start` to `end`.
    ///
    /// # Panics
    /// If the range is not within the slice.
    pub fn slice(&self, start: usize, end: usize) -> Slice {
        assert!(start <= end && end <= self.len(), "slice within the slice");
        Slice { blob: self.blob.clone(), start: self.start + start as u32, end: self.start + end as u32 }
    }
}

impl std::ops::Deref for Slice {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        &self.blob.bytes()[self.start as usize..self.end as usize]
    }
}

impl std::fmt::Debug for Slice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self))
    }
}

impl PartialEq for Slice {
    fn eq(&self, other: &Slice) -> bool {
        **self == **other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_and_value_share_one_allocation() {
        let blob = Blob::new(Head { hash: 7, key_len: 3, mark: 0 }, b"keyvalue");
        assert_eq!((blob.key(), blob.value()), (&b"key"[..], &b"value"[..]));
        let slice = blob.value_slice(1, 4);
        drop(blob);
        assert_eq!(&*slice, b"alu");
        assert_eq!(&*slice.slice(1, 2), b"l");
    }
}
