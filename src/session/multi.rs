//! `Multi`: the commands queued between MULTI and EXEC.

use crate::protocol::args::{Args, Range};
use crate::protocol::spec::Flags;

/// A command waiting for EXEC: its words, copied out of the read buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    bytes: Box<[u8]>,
    ranges: Box<[Range]>,
}

impl Queued {
    /// Copies the words of a command.
    pub fn copy_from(args: Args) -> Queued {
        let mut bytes = Vec::with_capacity(args.from(0).map(<[u8]>::len).sum());
        let mut ranges = Vec::with_capacity(args.len());
        for word in args.from(0) {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(word);
            ranges.push((start, bytes.len() as u32));
        }
        Queued { bytes: bytes.into(), ranges: ranges.into() }
    }

    /// Of words that stand in `bytes` one after the other, with these lengths; they are no more than `bytes`, and that is less than 4 GB.
    pub fn of_words(bytes: &[u8], lens: &[u32]) -> Queued {
        let mut end = 0;
        let ranges = lens.iter().map(|len| {
            let start = end;
            end += len;
            (start, end)
        });
        let ranges: Box<[Range]> = ranges.collect();
        assert!(end as usize <= bytes.len(), "words are within their bytes");
        Queued { bytes: bytes.into(), ranges }
    }

    /// The words.
    pub fn args(&self) -> Args<'_> {
        Args::new(&self.bytes, &self.ranges)
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        self.bytes.len() + std::mem::size_of_val(&*self.ranges)
    }
}

/// A transaction that is being put together.
#[derive(Clone, Debug, Default)]
pub struct Multi {
    /// The commands, in order.
    pub queue: Vec<Queued>,
    /// Bytes they hold.
    pub bytes: usize,
    /// Flags of all of them together.
    pub flags: Flags,
    /// Flags that all of them have.
    pub common_flags: Option<Flags>,
    /// Whether one was refused, so that EXEC must fail.
    pub is_aborted: bool,
}

impl Multi {
    /// Adds a command with these flags.
    pub fn push(&mut self, args: Args, flags: Flags) {
        let queued = Queued::copy_from(args);
        self.bytes += queued.size();
        self.flags = self.flags.and(flags);
        self.common_flags = Some(self.common_flags.map_or(flags, |common| common.without(Flags(!flags.0))));
        self.queue.push(queued);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_copied() {
        let buffer = b"xSETyk".to_vec();
        let queued = Queued::copy_from(Args::new(&buffer, &[(1, 4), (5, 6), (6, 6)]));
        drop(buffer);
        assert_eq!(queued.args().from(0).collect::<Vec<_>>(), [&b"SET"[..], b"k", b""]);
    }
}
